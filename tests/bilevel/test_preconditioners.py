"""Preconditioners of the linear models: near the inverse, positive definite, and worth their making."""

import numpy as np
import pytest

from optlib.bilevel import MultinomialProblem, hypergradient
from optlib.bilevel.problems import linear_models
from optlib.inner import newton


def fitted(intercept, penalty, d=6, level=-4.0):
    """A problem, penalties and the solution there."""
    problem = MultinomialProblem.random(60, d, rng=3, penalty=penalty, intercept=intercept)
    x, y = problem.start()
    x = level + np.cos(np.arange(x.size)).reshape(x.shape)
    fit = newton(lambda y: problem.inner(x, y)[::2], y, hessian=lambda y: problem.hessian(x, y), tol=1e-10)
    return problem, x, fit.x


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("penalty", ["scalar", "feature", "entry"])
def test_blocks_are_balanced(monkeypatch, intercept, penalty):
    """Exact for equal shifts of all classes, positive definite, and close to H elsewhere."""
    monkeypatch.setattr(linear_models, "FACTOR", 0)
    problem, x, y = fitted(intercept, penalty)
    H, size = problem.hessian(x, y), y.size
    found = problem.preconditioner(x)
    apply = found.apply(found.make(y))
    P = np.stack([apply(e) for e in np.eye(size)], axis=1)
    np.testing.assert_allclose(P, P.T, atol=1e-10 * np.abs(P).max())
    shift = np.repeat(np.arange(1.0, problem.shape[0] + 1.0), 3)
    np.testing.assert_allclose(apply(H @ shift), shift, rtol=1e-8)
    values = np.linalg.eigvals(P @ H).real
    plain = np.linalg.eigvals(H / np.diag(H)[:, None]).real
    assert values.min() > 0.0
    assert values.max() / values.min() < 0.5 * plain.max() / plain.min()


@pytest.mark.parametrize("cls", [linear_models.LogisticProblem, MultinomialProblem])
@pytest.mark.parametrize("intercept", [False, True])
def test_rough_factor(cls, intercept):
    """The factor in single precision, without samples that hardly curve, leaves a small condition."""
    problem = cls.random(80, 5, rng=1, penalty="scalar", intercept=intercept)
    x, y = problem.start()
    x = x - 6.0
    fit = newton(lambda y: problem.inner(x, y)[::2], y, hessian=lambda y: problem.hessian(x, y), tol=1e-8).x
    found = problem.preconditioner(x)
    L = found.make(fit)
    assert L.dtype == np.float32
    apply = found.apply(L)
    P = np.stack([apply(e) for e in np.eye(fit.size)], axis=1)
    values = np.linalg.eigvals(P @ problem.hessian(x, fit)).real
    assert values.min() > 0.1 and values.max() < 10.0


def test_products_saved(monkeypatch):
    """Beyond a thousand unknowns the blocks take the place of the diagonal, with a fraction of the products."""
    rng = np.random.default_rng(0)
    mixing = np.linalg.qr(rng.normal(size=(120, 120)))[0] * np.geomspace(3.0, 0.03, 120)
    A, V = (u @ mixing.T for u in rng.normal(size=(2, 250, 120)))
    t, c = (np.argmax(u[:, :10] + 0.3 * rng.gumbel(size=(250, 10)), axis=1).astype(float) for u in (A, V))
    problem, x = MultinomialProblem(A, t, V, c, penalty="scalar"), np.array([-9.0])
    blocks = hypergradient(problem, x, tol=1e-6)
    monkeypatch.setattr(linear_models, "BLOCKS", 0)
    diagonal = hypergradient(problem, x, tol=1e-6)
    np.testing.assert_allclose(blocks.gradient, diagonal.gradient, rtol=1e-4)
    assert blocks.counts["products"] < 0.5 * diagonal.counts["products"]
