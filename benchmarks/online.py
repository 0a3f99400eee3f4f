"""Online learners beside the loop over rounds in NumPy that everybody writes, and beside river and scikit-learn."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks import online_saddle
from benchmarks.harness import Contest, Entry, contest, per_unit
from optlib.backend import array_namespace
from optlib.geometry import Ball, Box, Euclidean, project_simplex
from optlib.online import EXP3, OGD, AdaGrad, Feedback, Hedge, ImplicitFTRL, Learner, OnlineRidge, TsallisINF, play

TARGETS = {10: 50.0, 100: 25.0, 1000: 4.0}


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of the family."""
    for d in TARGETS:
        for name in LEARNERS:
            yield stream(name, d)
    for name in LEARNERS:
        yield protocol(name)
    for spread in (10.0, 1e-4):
        yield projection(1, 1000, spread, None, trusted=True)
        yield projection(1, 1000, spread, None)
        yield projection(1000, 1000, spread, 10.0)
        yield projection(1, 1_000_000, spread, 5.0)
    yield from online_saddle.contests(quick)
    yield examples()
    yield arms()


def hedge(losses: np.ndarray) -> float:
    """Hedge, a round at a time."""
    d = losses.shape[1]
    total, weights, log_d, loss = np.zeros(d), np.full(d, 1.0 / d), math.log(d), 0.0
    for t, row in enumerate(losses, 2):
        loss += weights @ row
        total += row
        z = -2.0 * math.sqrt(log_d / t) * total
        weights = np.exp(z - z.max())
        weights /= weights.sum()
    return loss


def ogd(losses: np.ndarray) -> float:
    """Online gradient descent on the unit ball, a round at a time."""
    x, squares, loss = np.zeros(losses.shape[1]), 0.0, 0.0
    for g in losses:
        loss += x @ g
        squares += g @ g
        x = x - math.sqrt(2.0 / squares) * g
        size = math.sqrt(x @ x)
        if size > 1.0:
            x /= size
    return loss


def adagrad(losses: np.ndarray) -> float:
    """Diagonal AdaGrad on the box [-1, 1], a round at a time."""
    x, squares, loss = np.zeros(losses.shape[1]), np.zeros(losses.shape[1]), 0.0
    for g in losses:
        loss += x @ g
        squares += g * g
        x = np.clip(x - math.sqrt(2.0) * g / np.sqrt(squares), -1.0, 1.0)
    return loss


def exp3(losses: np.ndarray) -> float:
    """EXP3, a round at a time."""
    d = losses.shape[1]
    rng, total, p, loss = np.random.default_rng(0), np.zeros(d), np.full(d, 1.0 / d), 0.0
    for t, row in enumerate(losses, 2):
        arm = min(int(np.searchsorted(np.cumsum(p), rng.random())), d - 1)
        loss += row[arm]
        total[arm] += row[arm] / p[arm]
        z = -math.sqrt(math.log(d) / (d * t)) * total
        p = np.exp(z - z.max())
        p /= p.sum()
    return loss


def tsallis(losses: np.ndarray) -> float:
    """Tsallis-INF with importance weights, a round at a time."""
    d = losses.shape[1]
    rng, total, p, loss = np.random.default_rng(0), np.zeros(d), np.full(d, 1.0 / d), 0.0
    for t, row in enumerate(losses, 2):
        arm = min(int(np.searchsorted(np.cumsum(p), rng.random())), d - 1)
        loss += row[arm]
        total[arm] += row[arm] / p[arm]
        eta, behind = 2.0 / math.sqrt(t), total - total.min()
        y = 2.0 / eta
        for _ in range(20):
            p = 4.0 / (eta * (behind + y)) ** 2
            step = (p.sum() - 1.0) / (eta * (p * np.sqrt(p)).sum())
            y += step
            if step <= 1e-14 * y:
                break
        p /= p.sum()
    return loss


LEARNERS: dict[str, tuple[Callable[[int], Learner], Callable[[np.ndarray], float]]] = {
    "hedge": (Hedge, hedge),
    "ogd": (lambda d: OGD(Ball(d)), ogd),
    "adagrad": (lambda d: AdaGrad(Box(-1.0, 1.0, d)), adagrad),
    "exp3": (lambda d: EXP3(d, rng=0), exp3),
    "tsallis": (lambda d: TsallisINF(d, estimator="importance-weighted", rng=0), tsallis),
}


@contest
def stream(name: str, d: int) -> Contest:
    """Time of one round in a stream of losses, with the regret tracked."""
    make, loop = LEARNERS[name]
    rounds = 2_000_000 // d
    losses = np.random.default_rng(0).random((rounds, d))

    def ours(k: int) -> Any:
        return play(make(d), losses, k, check_every=max(k, 1), record=False)

    def verify() -> dict[str, float]:
        k = 1000
        if make(d).kind == "arm":
            return {}
        difference = abs(ours(k).cumulative_loss - loop(losses[:k])) / k
        assert difference < 1e-9, difference
        return {"difference of the loss per round": difference}

    entrants = {
        "optlib": per_unit(ours, 1, rounds),
        "NumPy loop": per_unit(lambda k: loop(losses[:k]), 1, min(rounds, 1000)),
    }
    return Contest(f"{name} d={d}", entrants, TARGETS[d], verify, unit=1e9, label="ns")


@contest
def protocol(name: str) -> Contest:
    """Time of `decide` and `update` from Python at d = 10, beside five additions of NumPy vectors (less than 5 us)."""
    learner = LEARNERS[name][0](10)
    told: Any = 0.5 if learner.kind == "arm" else np.random.default_rng(0).random(10)
    x = np.ones(10)

    def ours(k: int) -> None:
        for _ in range(k):
            learner.decide()
            learner.update(told)

    def additions(k: int) -> None:
        for _ in range(5 * k):
            x + x

    return Contest(
        f"decide+update {name}", {"optlib": per_unit(ours, 1, 5000), "five additions": per_unit(additions, 1, 5000)},
        unit=1e6, label="us",
    )  # fmt: skip


def sorted_projection(v: np.ndarray) -> np.ndarray:
    """Projection of rows onto the simplex by sorting."""
    u = np.sort(v, axis=-1)[..., ::-1]
    levels = (np.cumsum(u, axis=-1) - 1.0) / np.arange(1, v.shape[-1] + 1)
    return np.maximum(v - np.max(levels, axis=-1, keepdims=True), 0.0)


@contest
def projection(rows: int, n: int, spread: float, target: float | None, trusted: bool = False) -> Contest:
    """Time to project a vector, or many rows at once, onto the simplex; trusted: as inner loops do, without checks."""
    v = np.random.default_rng(0).normal(1.0 / n, spread, (rows, n) if rows > 1 else n)
    xp = array_namespace() if trusted else None

    def repeated(project: Callable[[], Any]) -> Callable[[int], None]:
        def run(k: int) -> None:
            for _ in range(k):
                project()

        return run

    def verify() -> dict[str, float]:
        return {"difference": float(np.max(np.abs(project_simplex(v) - sorted_projection(v))))}

    calls = {"optlib": lambda: project_simplex(v, xp=xp), "NumPy sort": lambda: sorted_projection(v)}
    entrants = {name: per_unit(repeated(call), 1, max(5, 3_000_000 // v.size)) for name, call in calls.items()}
    what = (f"{rows} x {n}" if rows > 1 else f"n={n}") + ", trusted" * trusted
    return Contest(f"simplex {what}, spread {spread:g}", entrants, target, verify, unit=1e6, label="us")


@contest
def examples() -> Contest:
    """Time to predict and learn from one example of regression at d = 10, one by one from Python."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((5000, 10))
    targets = features @ rng.standard_normal(10) + 0.1 * rng.standard_normal(5000)

    def stream(learner: Learner) -> Callable[[int], float]:
        def run(k: int) -> float:
            learner.start()
            loss = 0.0
            for a, y in zip(features[:k], targets[:k], strict=True):
                loss += 0.5 * float(a @ learner.decide() - y) ** 2
                learner.update(Feedback(features=a, target=y))
            return loss

        return run

    runs = {
        "ImplicitFTRL": stream(ImplicitFTRL(Euclidean(), 10, rate=0.1)),
        "OnlineRidge": stream(OnlineRidge(10)),
        "scikit-learn SGD": _sgd(features, targets),
        "river": _river(features, targets),
    }
    known = {name: run for name, run in runs.items() if run is not None}

    def verify() -> dict[str, float]:
        return {f"loss of {name}": run(1000) / 1000 for name, run in known.items()}

    entrants = {name: per_unit(run, 1, 2000) for name, run in known.items()}
    return Contest("predict+learn, one example", entrants, verify=verify, unit=1e6, label="us")


def _sgd(features: np.ndarray, targets: np.ndarray) -> Callable[[int], float] | None:
    """Stochastic gradient descent of scikit-learn, if it is installed."""
    try:
        from sklearn.linear_model import SGDRegressor
    except ImportError:
        return None

    def run(k: int) -> float:
        model = SGDRegressor(learning_rate="constant", eta0=0.1, alpha=0.0, fit_intercept=False)
        model.partial_fit(features[:1], targets[:1])
        loss = 0.0
        for t in range(1, k):
            loss += 0.5 * float(model.predict(features[t : t + 1])[0] - targets[t]) ** 2
            model.partial_fit(features[t : t + 1], targets[t : t + 1])
        return loss

    return run


def _river(features: np.ndarray, targets: np.ndarray) -> Callable[[int], float] | None:
    """Stochastic gradient descent of river, if it is installed."""
    try:
        from river import linear_model, optim
    except ImportError:
        return None
    rows = [dict(enumerate(row)) for row in features.tolist()]

    def run(k: int) -> float:
        model = linear_model.LinearRegression(optim.SGD(0.05), intercept_lr=0.0)
        loss = 0.0
        for row, y in zip(rows[:k], targets[:k].tolist(), strict=True):
            loss += 0.5 * (model.predict_one(row) - y) ** 2
            model.learn_one(row, y)
        return loss

    return run


@contest
def arms() -> Contest:
    """Time of one pull and update of EXP3 with ten arms, from Python."""
    losses = np.random.default_rng(0).random(10).tolist()

    def ours(k: int) -> None:
        learner = EXP3(10, rng=0)
        for _ in range(k):
            learner.update(losses[learner.decide()])

    entrants = {"optlib": per_unit(ours, 1, 2000)}
    try:
        from river import bandit
    except ImportError:
        pass
    else:

        def peer(k: int) -> None:
            policy, names = bandit.Exp3(gamma=0.1, seed=0), list(range(10))
            for _ in range(k):
                arm = policy.pull(names)
                policy.update(arm, 1.0 - losses[arm])

        entrants["river"] = per_unit(peer, 1, 2000)
    return Contest("EXP3, one pull", entrants, unit=1e6, label="us")
