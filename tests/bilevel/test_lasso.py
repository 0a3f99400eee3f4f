"""Lasso and elastic net: exact hypergradients on the pieces, agreement of the modes, the tuner against grids."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st

import optlib
from optlib.bilevel import (
    ElasticNetProblem,
    LassoProblem,
    Point,
    Problem,
    check_problem,
    hypergradient,
    nonsmooth,
    piecewise,
    tune,
)  # fmt: skip
from optlib.bilevel.nonsmooth import hull
from optlib.bilevel.problems.lasso import subgradient
from optlib.inner import coordinate_descent
from optlib.testing import assert_close

MAKERS = {
    "lasso": lambda rng=0, like=None, **o: LassoProblem.random(rng=rng, like=like, **o),
    "lasso folds": lambda rng=0, like=None, **o: LassoProblem.random(rng=rng, like=like, folds=3, intercept=True, **o),
    "lasso feature": lambda rng=0, like=None, **o: LassoProblem.random(rng=rng, like=like, penalty="feature", **o),
    "net": lambda rng=0, like=None, **o: ElasticNetProblem.random(rng=rng, like=like, intercept=True, **o),
    "net feature": lambda rng=0, like=None, **o: ElasticNetProblem.random(
        rng=rng, like=like, folds=2, penalty="feature", **o
    ),
}


def slack(problem, x, y):
    """Distance from a change of the support: smallest coefficient, smallest slack of a zero one, in relative units."""
    l1, l2 = problem.penalties(x)
    found = []
    for fold, w in zip(problem.folds, problem._each(y), strict=True):
        g = fold.design.columns.correlate(fold.design.residual(w)) / fold.design.shape[0] - l2 * w
        found += [np.min(np.abs(w[w != 0]), initial=1.0), np.min((1.0 - np.abs(g) / l1)[w == 0], initial=1.0)]
    return min(found)


@pytest.mark.parametrize("name", MAKERS)
@given(seed=st.integers(0, 2**32 - 1))
def test_oracles(name, seed):
    """At points without zeros the inner objective is smooth, and all oracles are those of smooth problems."""
    problem = MAKERS[name](seed)
    rng = np.random.default_rng(seed)
    x, y = problem.start()
    y = rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.1, 1.0, y.shape)
    assert max(check_problem(problem, x + 0.1 * rng.normal(size=x.shape), y, rtol=1e-4).values()) < 1e-4


@pytest.mark.parametrize("name", MAKERS)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-2.0, 1.0))
def test_gradient_where_the_support_stays(name, seed, shift):
    problem = MAKERS[name](seed)
    rng = np.random.default_rng(seed)
    x0, _ = problem.start()
    x, u = x0 + shift + 0.3 * rng.normal(size=x0.shape), rng.normal(size=x0.shape)
    found = hypergradient(problem, x, tol=1e-12)
    assert found.mode == "active_set" and found.converged
    assume(slack(problem, x, found.y) > 1e-3)
    h = 1e-5
    ahead, behind = (hypergradient(problem, x + s * u, tol=1e-13) for s in (h, -h))
    assume(np.array_equal(np.sign(ahead.y), np.sign(behind.y)))
    want = (ahead.value - behind.value) / (2.0 * h)
    scale = np.linalg.norm(found.gradient) * np.linalg.norm(u) + found.value
    assert abs(want - np.sum(found.gradient * u)) <= 1e-8 * scale
    for mode in ("cg", "minres"):
        other = hypergradient(problem, x, mode=mode, tol=1e-12)
        assert np.linalg.norm(other.gradient - found.gradient) <= 1e-8 * scale


def test_closed_form():
    """Orthonormal features: soft thresholds, and their derivatives."""
    rng = np.random.default_rng(0)
    A = np.linalg.qr(rng.normal(size=(20, 6)))[0] * np.sqrt(20.0)
    V, c = rng.normal(size=(9, 6)), rng.normal(size=9)
    t = A @ np.array([2.0, -1.0, 0.5, 0.05, 0.0, 1.5])
    z, alpha = A.T @ t / 20, 0.3
    w = np.sign(z) * np.maximum(np.abs(z) - alpha, 0.0)
    e = V @ w - c
    found = hypergradient(LassoProblem(A, t, V, c), np.array([np.log(alpha)]))
    assert_close(found.y, w, rtol=1e-8, atol=1e-12)
    assert abs(found.value - np.mean(e**2)) < 1e-10
    assert_close(found.gradient, np.array([2.0 * alpha / 9 * e @ V @ -np.sign(w)]), rtol=1e-8)
    each = hypergradient(LassoProblem(A, t, V, c, penalty="feature"), np.full(6, np.log(alpha)))
    assert_close(each.gradient, -2.0 * alpha / 9 * (V.T @ e) * np.sign(w), rtol=1e-8, atol=1e-12)


def test_modes_that_iterate():
    """Fixed point and Neumann series on the support, which is what differentiating proximal steps amounts to."""
    problem = LassoProblem.random(30, 10, rng=1)
    x = problem.start()[0]
    want = hypergradient(problem, x, tol=1e-12).gradient
    for mode in ("fixed_point", "neumann"):
        found = hypergradient(problem, x, mode=mode, tol=1e-10, steps=2000)
        assert_close(found.gradient, want, rtol=1e-7)


def test_nothing_is_selected():
    """From the largest penalty on, solution and gradient are zero, exactly."""
    problem = LassoProblem.random(20, 10, folds=4, rng=0)
    found = hypergradient(problem, np.array([np.log(problem.largest) + 1e-9]))
    assert not found.y.any() and found.gradient[0] == 0.0 and found.converged


def test_twin_features():
    """A singular system on the support: the value is finite and the gradient that of a least-norm adjoint."""
    A, t, V, c = twins()
    single = hypergradient(LassoProblem(A[:, 1:], t, V[:, 1:], c), np.array([-2.0]))
    both = LassoProblem(A, t, V, c)
    y = np.concatenate([[0.5 * single.y[0]], [0.5 * single.y[0]], single.y[1:]])
    q = both.solve_adjoint(np.array([-2.0]), y, both.outer(np.array([-2.0]), y)[2])
    assert np.all(np.isfinite(q)) and abs(q[0] - q[1]) < 1e-6
    assert abs(hypergradient(both, np.array([-2.0])).value - single.value) < 1e-8


def twins():
    rng = np.random.default_rng(2)
    A, V = rng.normal(size=(2, 15, 5))
    A[:, 0], V[:, 0] = A[:, 1], V[:, 1]
    return A, A[:, 1] + 0.1 * rng.normal(size=15), V, V[:, 1]


def test_dense_sparse_weights_and_intercepts():
    """Sparse samples give what dense ones give; integer weights what repeated samples give; folds what slices give."""
    rng = np.random.default_rng(0)
    A, t = rng.normal(size=(24, 9)) * (rng.random((24, 9)) < 0.5), rng.normal(size=24) + 3.0
    weights = 1.0 + np.arange(24) % 3
    options = {"folds": 3, "intercept": True, "sample_weight": weights}
    x = np.array([-2.5])
    dense = hypergradient(LassoProblem.cross(A, t, **options), x)
    sparse = hypergradient(LassoProblem.cross(sp.csr_array(A), t, **options), x)
    assert_close(sparse.y, dense.y, rtol=1e-8, atol=1e-10)
    assert abs(sparse.value - dense.value) < 1e-9 and abs(sparse.gradient[0] - dense.gradient[0]) < 1e-8
    value = 0.0
    for k in range(3):
        held = np.arange(8 * k, 8 * k + 8)
        rest = np.setdiff1d(np.arange(24), held)
        fit = coordinate_descent(
            np.repeat(A[rest], weights[rest].astype(int), axis=0), np.repeat(t[rest], weights[rest].astype(int)),
            np.exp(-2.5), intercept=True, tol=1e-12,
        )  # fmt: skip
        assert_close(fit.x, dense.y[k], rtol=1e-6, atol=1e-8)
        value += np.sum(weights[held] * (A[held] @ fit.x + fit.intercept - t[held]) ** 2)
    assert abs(value / weights.sum() - dense.value) < 1e-8


def test_backends(backend, engine):
    for make in MAKERS.values():
        host, here = make(3), make(3, like=backend.asarray([0.0]))
        x = host.start()[0] - 1.0
        tol = 1e-10 if backend.is_double else 1e-4
        want = hypergradient(host, x, tol=tol)
        found = hypergradient(here, backend.asarray(x), tol=tol)
        rtol, atol = (1e-6, 1e-9) if backend.is_double else (1e-2, 1e-3)
        assert_close(found.gradient, backend.asarray(want.gradient), rtol=rtol, atol=atol)


@given(st.integers(0, 1000), st.booleans())
def test_piecewise_beats_the_neighbourhood(seed, folds):
    problem = LassoProblem.random(30, 40, folds=5 if folds else None, rng=seed)
    found = piecewise(problem)
    assert found.success or "maxiter" in found.message
    exact = hypergradient(problem, found.x, tol=1e-10)
    assert abs(exact.value - found.fun) <= 1e-4 * exact.value
    low, high = problem.bounds()
    if found.success:  # other minima may be near, a little lower
        for shift, more in ((-0.05, 1e-2), (-0.002, 3e-4), (0.002, 3e-4), (0.05, 1e-2)):
            other = hypergradient(problem, np.clip(found.x + shift, low, high), tol=1e-9).value
            assert found.fun <= other * (1.0 + more)


def test_piecewise_reaches_the_grid():
    problem = LassoProblem.random(60, 100, folds=5, rng=0)
    low, high = problem.bounds()
    grid = [hypergradient(problem, np.array([x]), tol=1e-5).value for x in np.linspace(high - 5.0, high, 40)]
    found = tune(problem)
    assert found.method == "piecewise" and found.success and "kinks" in found.message
    assert found.fun <= min(grid) * (1.0 + 1e-4) and found.nit <= 20
    away = piecewise(problem, [low + 1.0])
    assert away.success and abs(away.fun - found.fun) <= 1e-3 * found.fun


def test_piecewise_at_edges():
    problem = LassoProblem.random(60, 100, folds=5, rng=0)
    best = piecewise(problem).x[0]
    for low, high, edge in ((best + 0.5, best + 1.0, best + 0.5), (best - 1.0, best - 0.5, best - 0.5)):
        found = piecewise(problem, bounds=(low, high))
        assert found.success and found.at_bounds == 1 and abs(found.x[0] - edge) < 1e-12
    rng = np.random.default_rng(0)
    noise = LassoProblem.cross(rng.normal(size=(40, 30)), rng.normal(size=40), intercept=True)
    none = piecewise(noise)
    assert none.success and none.fun <= hypergradient(noise, np.array([np.log(noise.largest)])).value * (1 + 1e-12)


def test_subgradient():
    """Zero exactly at the optimum, and never larger than other subgradients."""
    g, w = np.array([0.5, -2.0, 1.0, -1.0]), np.array([0.0, 0.0, 3.0, 1.0])
    assert np.array_equal(subgradient(g, w, np.ones(4), np), [0.0, 1.0, 0.0, 2.0])


@pytest.mark.parametrize("seed", [0, 4])
def test_nonsmooth_beats_a_grid(seed):
    """Two penalties: lower than the best of 10 x 10 values, with half of the evaluations."""
    problem = ElasticNetProblem.random(60, 40, folds=5, rng=seed)
    low, high = problem.bounds()
    grid = [
        hypergradient(problem, np.array([a, b]), tol=1e-3).value
        for a in np.linspace(high[0] - 4.0, high[0], 10) for b in np.linspace(low[1] + 4.0, high[1], 10)
    ]  # fmt: skip
    found = tune(problem)
    assert found.method == "nonsmooth" and found.success and "kinks" in found.message
    assert found.fun < min(grid) and found.counts["evaluations"] <= 50
    assert np.all((found.x >= low) & (found.x <= high))
    assert abs(hypergradient(problem, found.x, tol=1e-9).value - found.fun) <= 1e-4 * found.fun


@given(st.integers(0, 1000))
def test_nonsmooth_descends(seed):
    """A penalty for every feature: from the best common one, and lower; honest about what it found."""
    problem = LassoProblem.random(40, 8, rng=seed, penalty="feature")
    common = piecewise(problem.tied(), tol=1e-2)
    with pytest.warns(UserWarning, match="validation samples"):
        found = tune(problem)
    assert found.fun <= common.fun * (1.0 + 1e-6) and "common" in found.message
    assert found.success == (found.certificate.value <= 3e-3 * found.fun and found.certificate.residual <= 3e-3)


def test_nonsmooth_at_a_kink():
    """At a minimum at a kink the gradient is not small, a combination of nearby ones is."""

    class Kink(Problem):
        """``f = (y - x)^2 / 2`` and ``F = |y_0| + (y_1 - 1)^2 + 1``."""

        def start(self):
            return np.array([1.3, -0.7]), np.zeros(2)

        def inner(self, x, y):
            return 0.5 * np.sum((y - x) ** 2), x - y, y - x

        def outer(self, x, y):
            value = abs(y[0]) + (y[1] - 1.0) ** 2 + 1.0
            return np.asarray(value), np.zeros(2), np.array([np.sign(y[0]) or 1.0, 2.0 * (y[1] - 1.0)])

        def at(self, x, y):
            return Point(hvp=lambda v: v, cross_vjp=lambda v: -v, cross_jvp=lambda u: -u)

    found = nonsmooth(Kink())
    assert found.success and np.max(np.abs(found.x - [0.0, 1.0])) < 0.01
    assert abs(found.hypergradient[0]) == 1.0 and found.radius <= 1e-3


def test_hull():
    """The shortest vector: between opposite ones, at a vertex, and orthogonal to the face."""
    for rows, want in (
        ([[1.0, 0.0], [-3.0, 0.0]], [0.0, 0.0]),
        ([[1.0, 1.0], [3.0, 1.5]], [1.0, 1.0]),
        ([[1.0, 2.0], [1.0, -1.0], [4.0, 0.0]], [1.0, 0.0]),
        ([[0.0, 0.0], [1.0, 0.0]], [0.0, 0.0]),
    ):
        rows = np.array(rows)
        weights = hull(rows @ rows.T)
        assert np.all(weights >= 0.0) and np.allclose(weights @ rows, want, atol=1e-5)


def test_moves_between_libraries():
    """A problem moved to another library gives what it gave."""
    pytest.importorskip("torch")
    problem = LassoProblem.random(20, 10, folds=3, rng=0, intercept=True)
    x = problem.start()[0]
    moved = optlib.to_device(problem, "torch")
    found = hypergradient(moved, optlib.to_device(x, "torch"), tol=1e-10)
    assert_close(found.gradient.numpy(), hypergradient(problem, x, tol=1e-10).gradient, rtol=1e-8)


def test_methods_for_smooth_losses():
    """They run on losses with kinks, and say so where they do not reach a point they can certify."""
    problem = ElasticNetProblem.random(30, 10, rng=0)
    best = tune(problem)
    for method in ("quasi_newton", "hoag"):
        found = tune(problem, method=method, maxiter=20)
        assert found.fun >= best.fun * (1.0 - 0.05)
