"""Folds: the composite against its parts, whose systems are solved one by one."""

import copy

import numpy as np
import pytest

from optlib.bilevel import (
    FoldsProblem,
    LogisticProblem,
    MultinomialProblem,
    QuadraticProblem,
    RidgeProblem,
    hypergradient,
    tune,
)  # fmt: skip
from optlib.testing import assert_close


def folds(cls, n=60, d=6, K=4, **options):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, d))
    z = A @ rng.normal(size=d) + rng.normal(size=n)
    t = {RidgeProblem: z, LogisticProblem: np.sign(z), MultinomialProblem: np.searchsorted([-1, 1], z)}[cls]
    fold = np.arange(n) % K
    return [cls(A[fold != k], t[fold != k], A[fold == k], t[fold == k], **options) for k in range(K)]


@pytest.mark.parametrize("mode", ["direct", "cg", "minres"])
@pytest.mark.parametrize(
    ("cls", "d"), [(RidgeProblem, 6), (LogisticProblem, 6), (LogisticProblem, 130), (MultinomialProblem, 4)]
)
def test_mean_of_the_folds(cls, d, mode):
    """Value, gradient and solutions are those of the folds alone; the error bound holds."""
    parts = folds(cls, d=d)
    problem, x = FoldsProblem(parts), np.linspace(-1.0, 1.0, d)
    found = hypergradient(problem, x, mode=mode, tol=1e-10)
    alone = [hypergradient(part, x, mode="direct", tol=1e-12) for part in parts]
    assert found.converged and found.mode == mode
    assert found.value == pytest.approx(np.mean([one.value for one in alone]), rel=1e-9)
    want = np.mean([one.gradient for one in alone], axis=0)
    assert_close(found.gradient, want, rtol=1e-6, atol=1e-9)
    assert np.linalg.norm(found.gradient - want) <= found.error_bound + 1e-12
    for k, one in enumerate(alone):
        assert_close(found.y[k], one.y, rtol=1e-6, atol=1e-8)
    again = hypergradient(problem, x, y=found.y, q=found.q, mode=mode, tol=1e-8)
    assert again.counts["products"] <= found.counts["products"]


def test_the_choice_looks_at_one_fold():
    """A fold small enough for a factor is solved with one, however many folds there are."""
    problem = FoldsProblem(folds(LogisticProblem, n=80, d=60, K=4))
    found = hypergradient(problem, problem.start()[0])
    assert found.mode == "direct" and found.factor.shape == (4, 60, 60)


def test_tuning():
    """One penalty: the best of a grid; many: at least as good, from the common one; samples of all folds count."""
    tied = FoldsProblem(folds(LogisticProblem, penalty="scalar"))
    one = tune(tied)
    grid = [hypergradient(tied, np.array([x])).value for x in np.linspace(-6, 6, 49)]
    assert one.success and one.fun <= min(grid) * (1 + 1e-4)
    problem = FoldsProblem(folds(LogisticProblem))
    assert problem.n_valid == 60
    many = tune(problem)
    assert many.fun <= one.fun * (1 + 1e-3) and "common penalty" in many.message


@pytest.mark.parametrize(("d", "maxiter"), [(6, 100), (120, 5)])
def test_one_fold_is_the_problem(d, maxiter):
    """The tolerances of a search reach the folds: the same points, the same work."""
    part = folds(LogisticProblem, n=2600, d=d, K=2, intercept=True)[0]
    one, other = tune(part, maxiter=maxiter), tune(FoldsProblem([part]), maxiter=maxiter)
    assert_close(other.x, one.x, rtol=1e-10)
    assert other.nit == one.nit and other.counts["products"] == one.counts["products"]


def test_only_what_all_folds_have():
    problem = FoldsProblem([QuadraticProblem.random(4, 2, rng=k) for k in range(2)])
    assert hasattr(problem, "mu") and not hasattr(problem, "tied")
    with pytest.raises(AttributeError, match="FoldsProblem"):
        problem.anything  # noqa: B018
    assert copy.copy(problem).start()[1].shape == (2, 4)
