"""Estimators that tune themselves beside grid searches of scikit-learn, on the same folds."""

import warnings
from collections.abc import Iterator

import numpy as np

from benchmarks.harness import Contest, Entry, contest, timed
from optlib.bilevel import KernelRidgeTuned, LogisticRegressionTuned, RidgeTuned

FOLDS = 5


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of the estimators."""
    warnings.simplefilter("ignore")
    for n, d in ((400, 50), (2000, 200)) if quick else ((400, 50), (2000, 200), (200, 2000), (20_000, 100)):
        yield ridge(n, d)
    yield logistic("breast cancer")
    if not quick:
        yield logistic("digits")
    yield kernel_ridge(300 if quick else 1000)


def regression(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal samples, a tenth of the features with coefficients, half of the variance noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    k = max(1, d // 10)
    return X, X[:, :k] @ rng.normal(size=k) + np.sqrt(k) * rng.normal(size=n)


@contest
def ridge(n: int, d: int) -> Contest:
    """One penalty by leave-one-out, against 100 penalties of RidgeCV."""
    from sklearn.linear_model import RidgeCV

    X, t = regression(n, d)
    peer = RidgeCV(alphas=np.logspace(-3, 6, 100))

    def verify() -> dict[str, float]:
        found, best = 2.0 * RidgeTuned().fit(X, t).result_.fun, -peer.fit(X, t).best_score_
        assert found <= best * (1.0 + 1e-4), (found, best)
        return {"leave-one-out error of optlib": found, "of RidgeCV": best}

    entrants = {"RidgeTuned": timed(lambda: RidgeTuned().fit(X, t)), "RidgeCV, 100": timed(lambda: peer.fit(X, t))}
    return Contest(f"RidgeTuned {n} x {d}", entrants, None, verify)


@contest
def logistic(name: str) -> Contest:
    """One penalty on five folds, against a grid of 40."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.preprocessing import scale

    X, t = (load_breast_cancer if name == "breast cancer" else load_digits)(return_X_y=True)
    X = scale(X) if name == "breast cancer" else X / 16.0
    peer = GridSearchCV(
        LogisticRegression(max_iter=1000), {"C": np.logspace(-4, 4, 40)}, cv=FOLDS, scoring="neg_log_loss"
    )
    ours = LogisticRegressionTuned(cv=FOLDS)

    def verify() -> dict[str, float]:
        """Beside fits that have converged: those of the default tolerance are other models."""
        found, loose = ours.fit(X, t).result_.fun, -peer.fit(X, t).best_score_
        exact = LogisticRegression(max_iter=10_000, tol=1e-7, C=peer.best_params_["C"])
        best = -cross_val_score(exact, X, t, cv=FOLDS, scoring="neg_log_loss").mean()
        assert found <= best * (1.0 + 1e-4), (found, best)
        return {"log loss of optlib": found, "of the grid": loose, "of its penalty, converged": best}

    entrants = {
        "LogisticRegressionTuned": timed(lambda: ours.fit(X, t)), "GridSearchCV, 40": timed(lambda: peer.fit(X, t)),
    }  # fmt: skip
    target = 5.0 if name == "breast cancer" else 4.0
    return Contest(f"LogisticRegressionTuned {name}, {FOLDS} folds", entrants, target, verify)


@contest
def kernel_ridge(n: int) -> Contest:
    """Penalty and width on five folds, against a grid of 10 x 10."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV

    rng = np.random.default_rng(0)
    X = rng.uniform(-2.0, 2.0, size=(n, 3))
    t = np.sin(2.0 * X[:, 0]) * X[:, 1] + X[:, 2] ** 2 + 0.2 * rng.normal(size=n)
    grid = {"alpha": np.logspace(-5, 2, 10), "gamma": np.logspace(-3, 2, 10)}
    peer = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=FOLDS, scoring="neg_mean_squared_error")
    ours = KernelRidgeTuned(cv=FOLDS)

    def verify() -> dict[str, float]:
        found, best = 2.0 * FOLDS / n * ours.fit(X, t).result_.fun, -peer.fit(X, t).best_score_
        assert found <= best * (1.0 + 1e-4), (found, best)
        return {"squared error of optlib": found, "of the grid": best}

    entrants = {"KernelRidgeTuned": timed(lambda: ours.fit(X, t)), "GridSearchCV, 100": timed(lambda: peer.fit(X, t))}
    return Contest(f"KernelRidgeTuned {n} x 3, {FOLDS} folds", entrants, None, verify)
