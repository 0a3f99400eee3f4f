"""The lasso beside scikit-learn and skglm: single fits at equal duality gaps, and cross-validated penalties."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.harness import Contest, Entry, contest, timed
from optlib.bilevel import LassoProblem, tune
from optlib.experiments.bilevel_lasso import ALPHAS, samples
from optlib.inner import coordinate_descent

GAP = 1e-6  # relative, of single fits


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of the lasso."""
    shapes = [(300, 1000), (500, 5000)] if quick else [(300, 1000), (300, 10_000), (1000, 3000), (1000, 10_000)]
    for n, p in shapes:
        for share in (0.3, 0.1, 0.03):
            yield fit(n, p, share, "AR(0.6)")
    for n, p in shapes:
        yield fit(n, p, 0.1, "sparse")
    yield cross_validation(300, 1000, "iid")
    yield cross_validation(300, 2000, "AR(0.6)")
    yield cross_validation(300, 1000, "sparse")
    yield cross_validation(500, 5000, "sparse")
    if not quick:
        yield cross_validation(1000, 10_000, "sparse")
        yield cross_validation(300, 2000, "dense")
        yield cross_validation(300, 5000, "AR(0.6)")
        yield cross_validation(300, 10_000, "iid")
        yield cross_validation(300, 10_000, "AR(0.6)")


def data(n: int, p: int, design: str) -> tuple[Any, np.ndarray]:
    """Samples of the experiment, or a sparse design with two in a hundred entries."""
    rng = np.random.default_rng(0)
    if design != "sparse":
        return samples(n, p, design, rng)
    A = sp.random_array((n, p), density=0.02, rng=rng, format="csc", data_sampler=rng.standard_normal)
    A.indices, A.indptr = A.indices.astype(np.int32), A.indptr.astype(np.int32)
    truth = np.zeros(p)
    truth[rng.permutation(p)[:20]] = rng.choice([-1.0, 1.0], 20)
    return A, A @ truth + 0.1 * rng.standard_normal(n)


def gap(A: Any, b: np.ndarray, x: np.ndarray, alpha: float) -> float:
    """Relative duality gap of a fit without intercept."""
    n, r = len(b), b - A @ x
    scale = min(1.0, n * alpha / np.max(np.abs(A.T @ r)))
    scale = max(min(scale, b @ r / (r @ r)), 0.0)
    primal = 0.5 * r @ r + n * alpha * np.abs(x).sum()
    return float((primal - scale * b @ r + 0.5 * scale**2 * r @ r) / (0.5 * b @ b))


def loosest(run: Callable[[float], np.ndarray], A: Any, b: np.ndarray, alpha: float) -> float:
    """The loosest tolerance of a peer with which its fit has the gap."""
    for tol in np.geomspace(1e-1, 1e-12, 34):
        if gap(A, b, run(tol), alpha) <= GAP:
            return float(tol)
    raise RuntimeError("the peer does not reach the gap")


@contest
def fit(n: int, p: int, share: float, design: str) -> Contest:
    """Time of a fit with the penalty ``share`` times the largest useful one, at a relative gap of 1e-6."""
    from skglm import Lasso as SkglmLasso
    from sklearn.linear_model import Lasso

    warnings.simplefilter("ignore")
    A, b = data(n, p, design)
    alpha = share * float(np.max(np.abs(A.T @ b))) / n

    def ours() -> np.ndarray:
        return coordinate_descent(A, b, alpha, tol=GAP, record=False).x

    def sklearn(tol: float) -> np.ndarray:
        return Lasso(alpha=alpha, fit_intercept=False, tol=tol, max_iter=100_000).fit(A, b).coef_

    def skglm(tol: float) -> np.ndarray:
        return SkglmLasso(alpha=alpha, fit_intercept=False, tol=tol, max_iter=1000, max_epochs=100_000).fit(A, b).coef_

    peers = {"scikit-learn": sklearn, "skglm": skglm}
    tolerances = {name: loosest(run, A, b, alpha) for name, run in peers.items()}
    entrants = {"optlib": timed(ours)}
    entrants |= {name: timed(lambda run=run, tol=tolerances[name]: run(tol)) for name, run in peers.items()}

    def verify() -> dict[str, float]:
        found = {"optlib": gap(A, b, ours(), alpha)}
        assert found["optlib"] <= 1.01 * GAP, found
        return found | {name: gap(A, b, run(tolerances[name]), alpha) for name, run in peers.items()}

    kind = "CSC" if design == "sparse" else "dense"
    return Contest(f"lasso {kind} {n} x {p}, {share:g} of alpha_max", entrants, 1.0 / 1.2, verify)


@contest
def cross_validation(n: int, p: int, design: str) -> Contest:
    """Time to tune the penalty on five folds, beside LassoCV with 100 penalties."""
    from sklearn.linear_model import LassoCV
    from sklearn.model_selection import KFold

    warnings.simplefilter("ignore")
    A, b = data(n, p, design)

    def ours() -> Any:
        found = tune(LassoProblem.cross(A, b, folds=5, intercept=True), record=False)
        alpha = float(np.exp(found.x[0]))
        return alpha, coordinate_descent(A, b, alpha, intercept=True, record=False)

    def peer() -> Any:
        return LassoCV(alphas=ALPHAS, cv=KFold(5)).fit(A, b)

    def verify() -> dict[str, float]:
        problem = LassoProblem.cross(A, b, folds=5, intercept=True)
        zero = problem.start()[1]
        mine, theirs = (problem.piece(float(a), zero, zero, 1e-8, False).value for a in (ours()[0], peer().alpha_))
        return {"cross-validated error / LassoCV's - 1": mine / theirs - 1.0}

    kind = "CSC" if design == "sparse" else design
    return Contest(f"LassoCV {n} x {p} {kind}, 5 folds", {"optlib": timed(ours), "LassoCV": timed(peer)}, 3.0, verify)
