"""Hyperparameters tuned by gradients, beside fits on a grid (scikit-learn) and trials (optuna)."""

import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks import bilevel_estimators, bilevel_lasso
from benchmarks.harness import Contest, Entry, clock, contest, timed
from optlib import bilevel
from optlib.inner import newton

GRID = np.linspace(-12.0, 12.0, 40)  # log penalties
TRIALS = 100
Data = tuple[Any, np.ndarray, Any, np.ndarray]


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of the family."""
    for name, target in (("breast cancer", 5.0), ("digits", 4.0), ("sparse 20000 x 5000", 5.0)):
        yield one_penalty(name, target)
    for name in ("breast cancer", "digits") if quick else SAMPLES:
        yield any_start(name)
    yield many_penalties()
    yield from bilevel_estimators.contests(quick)
    yield denoiser(96 if quick else 256)
    yield from bilevel_lasso.contests(quick)


# -- data: training and validation samples, half each --


def _halves(X: Any, t: np.ndarray) -> Data:
    order = np.random.default_rng(0).permutation(len(t))
    X, t, half = X[order], t[order], len(t) // 2
    return X[:half], t[:half], X[half:], t[half:]


def breast_cancer() -> Data:
    """569 samples, 30 features, two classes."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.preprocessing import scale

    X, t = load_breast_cancer(return_X_y=True)
    return _halves(scale(X), 2.0 * t - 1.0)


def digits() -> Data:
    """1797 images of 64 pixels and a constant, ten classes."""
    from sklearn.datasets import load_digits

    X, t = load_digits(return_X_y=True)
    return _halves(np.column_stack([X / 16.0, np.ones(len(X))]), t)


def sparse(n: int, d: int) -> Data:
    """Normal entries, 0.5 % of them, labels of a model with a tenth of the features."""
    rng = np.random.default_rng(0)
    X = sp.random_array((2 * n, d), density=0.005, rng=rng, format="csr", data_sampler=rng.standard_normal)
    w = 2.0 * rng.normal(size=d) * (rng.random(d) < 0.1)
    return _halves(X, np.where(X @ w + 0.5 * rng.logistic(size=2 * n) > 0.0, 1.0, -1.0))


SAMPLES: dict[str, Callable[[], Data]] = {
    "breast cancer": breast_cancer,
    "digits": digits,
    "sparse 20000 x 5000": partial(sparse, 20_000, 5_000),
}


def problem(data: Data, penalty: str = "scalar") -> bilevel.Problem:
    """The problem of some data."""
    made = bilevel.LogisticProblem if set(np.unique(data[1])) == {-1.0, 1.0} else bilevel.MultinomialProblem
    return made(*data, penalty=penalty)


# -- contests --


def grid(data: Data, warm: bool) -> Callable[[], float]:
    """The smallest validation loss of scikit-learn's fits on the grid."""
    from sklearn.linear_model import LogisticRegression

    A, t, _, _ = data
    judge, classes = problem(data), len(np.unique(t))
    samples = len(t) if classes > 2 else 1  # the multinomial loss is a mean

    def run() -> float:
        best, model = np.inf, None
        for x in GRID[::-1]:
            C = np.exp(-x) / samples
            if model is None or not warm:
                model = LogisticRegression(fit_intercept=False, max_iter=1000, warm_start=warm)
            model.set_params(C=C).fit(A, t)
            y = np.ascontiguousarray(model.coef_.T) if classes > 2 else model.coef_[0]
            best = min(best, float(judge.outer(np.zeros(1), y)[0]))
        return best

    def quiet() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()

    return quiet


@contest
def one_penalty(name: str, target: float) -> Contest:
    """One penalty, against 40 fits."""
    data = SAMPLES[name]()
    ours, peer = problem(data), grid(data, warm=False)

    def verify() -> dict[str, float]:
        found, best = bilevel.tune(ours).check().fun, peer()
        assert found <= best, (found, best)
        return {"validation loss of optlib": found, "of scikit-learn": best}

    entrants = {"optlib": timed(lambda: bilevel.tune(ours)), "scikit-learn, 40 fits": timed(peer)}
    return Contest(f"one penalty, {name}", entrants, target, verify)


@contest
def any_start(name: str) -> Contest:
    """The mean time from five starts in the box, against cold fits and fits from the last solution."""
    data = SAMPLES[name]()
    ours, starts = problem(data), np.linspace(-12.0, 12.0, 5)

    def each() -> list[float]:
        return [bilevel.tune(ours, [start]).check().fun for start in starts]

    def verify() -> dict[str, float]:
        found, best = max(each()), grid(data, warm=False)()
        assert found <= best * (1.0 + 1e-4), (found, best)
        return {"largest validation loss of optlib": found, "of scikit-learn": best}

    def mean() -> float:
        start = clock()
        each()
        return (clock() - start) / len(starts)

    peers = {"scikit-learn, 40 fits": timed(grid(data, False)), "scikit-learn, warm": timed(grid(data, True))}
    return Contest(f"one penalty from any start, {name}", {"optlib": mean} | peers, None, verify)


@contest
def many_penalties() -> Contest:
    """650 penalties: the time to the loss of the best of 100 trials, and the loss in the end."""
    ours = problem(digits(), "entry")
    x0, y0 = ours.start()
    size = float(np.linalg.norm(ours.inner(x0, y0)[2]))

    def fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return newton(
            lambda y: ours.inner(x, y)[::2], y, hvp=lambda y: ours.at(x, y).hvp,
            diagonal=lambda y: ours.at(x, y).diagonal(), tol=1e-3 * size, record=False,
        ).x  # fmt: skip

    def trials() -> float:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        y = y0

        def objective(trial: Any) -> float:
            nonlocal y
            x = np.reshape([trial.suggest_float(str(k), -12.0, 12.0) for k in range(x0.size)], x0.shape)
            y = fit(x, y)
            return float(ours.outer(x, y)[0])

        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        study.optimize(objective, n_trials=TRIALS)
        return study.best_value

    best = cache(trials)

    def descend(goal: float | None = None) -> float:
        def stop(found: Any) -> None:
            if goal is not None and found.history["fun"][-1] < goal:
                raise StopIteration

        with warnings.catch_warnings():  # more hyperparameters than samples: this is about time
            warnings.simplefilter("ignore")
            return bilevel.tune(ours, callback=stop).fun

    def verify() -> dict[str, float]:
        reached = descend(best())
        assert reached < best(), (reached, best())
        return {"loss of 100 trials": best(), "of optlib then": reached, "in the end": descend()}

    entrants = {"optlib": timed(lambda: descend(best())), "optuna, 100 trials": timed(trials)}
    return Contest("650 penalties, digits", entrants, 20.0, verify)


@contest
def denoiser(size: int) -> Contest:
    """The weight of the total variation for a photograph in grey with noise; no peer."""
    from optlib.datasets import load_photographs

    picture = np.mean(load_photographs()["china"], axis=2)[:size, :size][None]
    noisy = picture + 0.1 * np.random.default_rng(0).normal(size=picture.shape)
    ours = bilevel.TotalVariationProblem(noisy, picture, smoothing=0.01)

    def verify() -> dict[str, float]:
        found = bilevel.tune(ours).check()
        before, after = (float(np.sqrt(np.mean((y - picture) ** 2))) for y in (noisy, found.y))
        assert after < 0.7 * before, (before, after)
        return {"error of the noisy image": before, "of the denoised one": after}

    entrants = {"optlib": timed(lambda: bilevel.tune(ours))}
    return Contest(f"total variation of {size} x {size}", entrants, None, verify, unit=1.0, label="s")
