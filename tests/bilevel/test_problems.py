"""Oracles of the problems: finite differences, symmetry, adjoints, backends, constants."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import optlib
from optlib.bilevel import LogisticProblem, MultinomialProblem, RidgeProblem, check_problem, finite_differences
from optlib.testing import assert_close
from tests.bilevel.problems import MAKERS, OTHERS

ALL = MAKERS | OTHERS
SECOND_ORDER = [name for name, make in ALL.items() if make().hvp is not None]


@pytest.mark.parametrize("name", ALL)
@given(seed=st.integers(0, 2**32 - 1))
def test_oracles(name, seed):
    assert max(check_problem(ALL[name](seed), rng=seed, rtol=1e-4).values()) < 1e-4


def test_a_wrong_oracle_is_found():
    problem = RidgeProblem.random()
    right = problem.at
    problem.at = lambda x, y, idx=None: right(x, y)._replace(cross_vjp=lambda v: 1.01 * right(x, y).cross_vjp(v))
    with pytest.raises(AssertionError, match="cross_vjp"):
        check_problem(problem)


@pytest.mark.parametrize("name", ALL)
def test_backends(name, backend):
    """All oracles agree with NumPy."""
    host, here = ALL[name](), ALL[name](like=backend.asarray([0.0]))
    rng = np.random.default_rng(1)
    x0, y0 = host.start()
    x, y, v, u = (rng.normal(size=s.shape) for s in (x0, y0, y0, x0))
    on = backend.asarray
    rtol = 1e-12 if backend.is_double else 1e-4
    for oracle in ("inner", "outer"):
        pairs = zip(getattr(here, oracle)(on(x), on(y)), getattr(host, oracle)(x, y), strict=True)
        for found, want in pairs:
            assert_close(optlib.to_numpy(found).astype(float), np.asarray(want), rtol=10 * rtol, atol=10 * rtol)
    if name not in SECOND_ORDER:
        g, there = here.constraints(on(x), on(y)), host.constraints(x, y)
        lam = rng.normal(size=there.value.shape)
        pairs = [(g.value, there.value), (g.vjp_x(on(lam)), there.vjp_x(lam)), (g.vjp_y(on(lam)), there.vjp_y(lam))]
        pairs += zip(here.project_joint(on(x), on(y)), host.project_joint(x, y), strict=True)
        for found, want in pairs:
            assert_close(optlib.to_numpy(found).astype(float), want, rtol=100 * rtol, atol=100 * rtol)
        return
    products = [("hvp", v), ("cross_vjp", v), ("cross_jvp", u), *([] if host.symmetric else [("hvp_t", v)])]
    for oracle, w in products:
        found = getattr(here, oracle)(on(x), on(y), on(w))
        assert_close(
            optlib.to_numpy(found).astype(float), getattr(host, oracle)(x, y, w), rtol=10 * rtol, atol=30 * rtol
        )


@pytest.mark.parametrize("name", [name for name in SECOND_ORDER if ALL[name]().symmetric])
def test_constants_bound(name):
    """Curvatures lie between mu and lipschitz; C and its change within the constants."""
    problem, rng = ALL[name](), np.random.default_rng(0)
    for _ in range(5):
        x, y, w = (rng.normal(size=s.shape) for s in (*problem.start(), problem.start()[1]))
        v = rng.normal(size=y.shape)
        curvature = np.sum(v * problem.hvp(x, y, v)) / np.sum(v * v)
        assert curvature <= problem.lipschitz(x) * (1 + 1e-12)
        mu = problem.mu(x)
        assert mu is None or mu * (1 - 1e-12) <= curvature
        if hasattr(problem, "constants"):
            c, d = problem.constants(x, y), np.linalg.norm(w)
            size = np.linalg.norm(v)
            assert np.linalg.norm(problem.cross_vjp(x, y, v)) <= c.cross * size * (1 + 1e-12)
            changes = {
                "hessian": problem.hvp(x, y + w, v) - problem.hvp(x, y, v),
                "cross_change": problem.cross_vjp(x, y + w, v) - problem.cross_vjp(x, y, v),
            }
            for field, change in changes.items():
                assert np.linalg.norm(change) <= getattr(c, field) * d * size * (1 + 1e-9) + 1e-12
            for field, k in (("outer_x", 1), ("outer_y", 2)):
                change = problem.outer(x, y + w)[k] - problem.outer(x, y)[k]
                assert np.linalg.norm(change) <= getattr(c, field) * d * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("cls", [RidgeProblem, LogisticProblem, MultinomialProblem])
def test_sparse_and_weighted_samples(cls):
    """Sparse designs give the same oracles; a weight of two is a sample twice, for sums; intercepts are a column."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(12, 4)) * (rng.random((12, 4)) < 0.5)
    t = np.where(np.arange(12) % 2, 1.0, -1.0)
    if cls is MultinomialProblem:
        t = np.arange(12.0) % 3
    dense, sparse = (cls(M, t, M, t, intercept=True) for M in (A, scipy.sparse.csr_array(A)))
    x, y = (rng.normal(size=s.shape) for s in dense.start())
    for found, want in zip(sparse.inner(x, y), dense.inner(x, y), strict=True):
        assert np.allclose(found, want, rtol=1e-12)
    assert np.allclose(sparse.hessian(x, y), dense.hessian(x, y), rtol=1e-12)
    column = cls(np.column_stack([A, np.ones(12)]), t, A[:, [0, 1, 2, 3, 3]], t)
    z = np.concatenate([x, np.full((1, *x.shape[1:]), -800.0)])
    y[-1] -= np.mean(y[-1]) if y.ndim == 2 else 0.0  # the constants of the classes sum to zero
    assert np.allclose(column.inner(z, y)[0], dense.inner(x, y)[0], rtol=1e-12)
    twice = cls(np.vstack([A, A[:1]]), np.append(t, t[0]), A, t)
    weighted = cls(A, t, A, t, train_weights=[2.0, *11 * [1.0]])
    y = y[:4]
    assert np.allclose(twice.inner(x, y)[2], weighted.inner(x, y)[2], rtol=1e-12)


def test_differences_replace_products():
    plain = MAKERS["logistic"]()
    problem = finite_differences(plain)
    assert max(check_problem(problem).values()) < 1e-5
    assert not hasattr(problem, "hessian") and problem.mu(np.zeros(5)) == plain.mu(np.zeros(5))


def test_designs_of_two_precisions_are_promoted():
    X, t = np.random.default_rng(0).normal(size=(8, 3)), np.arange(8.0)
    for A, V in ((X.astype(np.float32), X), (X, X.astype(np.float32))):
        assert RidgeProblem(A, t, V, t).start()[0].dtype == np.float64
    assert RidgeProblem(X.astype(np.float32), t, X.astype(np.float32), t).start()[0].dtype == np.float32
