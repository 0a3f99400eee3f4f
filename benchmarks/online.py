"""Online learners beside the loop over rounds in NumPy that everybody writes, and by themselves from Python."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Contest, per_unit
from optlib.geometry import Ball, Box
from optlib.online import EXP3, OGD, AdaGrad, Hedge, Learner, TsallisINF, play

TARGETS = {10: 50.0, 100: 25.0, 1000: 4.0}


def contests(quick: bool) -> Iterator[Contest]:
    """All contests of the family."""
    for d in TARGETS:
        for name in LEARNERS:
            yield stream(name, d)
    for name in LEARNERS:
        yield protocol(name)


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
