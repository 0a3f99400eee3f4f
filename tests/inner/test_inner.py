"""Inner solvers against closed forms and each other."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import Status
from optlib.inner import accelerated_gradient, newton


def quadratic(seed, condition):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    H, b = Q * np.geomspace(1.0, condition, 6) @ Q.T, rng.normal(size=6)
    return H, b, lambda x: (0.5 * x @ H @ x - b @ x, H @ x - b)


@given(st.integers(0, 1000), st.sampled_from([1.0, 10.0, 1e4]))
def test_quadratic(seed, condition):
    H, b, fun = quadratic(seed, condition)
    want, start = np.linalg.solve(H, b), 10.0 * np.ones(6)
    direct = newton(fun, start, hessian=lambda x: H, tol=1e-9 * condition)
    assert direct.success and direct.nit <= 3
    products = newton(fun, start, hvp=lambda x: lambda v: H @ v, tol=1e-9 * condition)
    matrices = {"hvp": lambda x: lambda v: H @ v, "hessian": lambda x: H, "diagonal": lambda x: np.diag(H)}
    both = newton(fun, start, factor=np.linalg.cholesky(H), tol=1e-9 * condition, **matrices)
    assert both.counts["products"] <= 2 * both.nit
    first = accelerated_gradient(fun, start, tol=1e-9 * condition)
    for found in (direct, products, both, first):
        assert found.success and np.linalg.norm(found.x - want) <= 1e-8 * condition
        assert np.array_equal(found.grad, fun(found.x)[1])


def test_preconditioners():
    """The diagonal takes a bad scaling away; what conjugate gradients cannot do in time gets a factor."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(1.0, 1e3, 60)
    Q = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    easy = scale[:, None] * (np.eye(60) + 0.01 * Q @ Q.T) * scale
    hard = Q * np.geomspace(1.0, 1e6, 60) @ Q.T
    counts = {}
    for name, H, options in (
        ("plain", easy, {}),
        ("diagonal", easy, {"diagonal": lambda x: np.diag(easy)}),
        ("factor", hard, {"hessian": lambda x: hard}),
    ):
        found = newton(
            lambda x, H=H: (0.5 * x @ H @ x - x.sum(), H @ x - 1.0), np.zeros(60), hvp=lambda x, H=H: lambda v: H @ v,
            tol=1e-8, **options,
        )  # fmt: skip
        assert found.success
        counts[name] = found.counts["products"]
    assert counts["diagonal"] <= 0.2 * counts["plain"] and counts["factor"] <= 20
    assert found.factor is not None


def test_shapes_and_convergence():
    """Quadratic convergence of exact steps near the solution, on a matrix variable."""
    X = np.arange(6.0).reshape(2, 3) / 6
    found = newton(
        lambda x: (np.sum(np.cosh(x - X)), np.sinh(x - X)), np.zeros((2, 3)),
        hessian=lambda x: np.diag(np.cosh(x - X).ravel()), tol=1e-12,
    )  # fmt: skip
    assert found.x.shape == (2, 3) and np.max(np.abs(found.x - X)) < 1e-12
    norms = found.history["stop"]
    assert all(b <= 2.0 * a**2 for a, b in pairwise(norms) if a < 0.1 and b > 1e-14)


def test_singular_and_indefinite_hessians():
    """A singular matrix is shifted; where the function is concave there is no descent to certify."""
    flat = newton(lambda x: (0.5 * x[0] ** 2, np.array([x[0], 0.0])), np.ones(2), hessian=lambda x: np.diag([1.0, 0.0]))
    assert flat.success and abs(flat.x[0]) < 1e-6 and abs(flat.x[1] - 1.0) < 1e-12
    saddle = newton(
        lambda x: (x[0] ** 2 - x[1] ** 2, np.array([2 * x[0], -2 * x[1]])), np.ones(2),
        hvp=lambda x: lambda v: np.array([2.0, -2.0]) * v, maxiter=20,
    )  # fmt: skip
    assert not saddle.success


def test_at_rest():
    """From a stationary point nothing moves."""
    for solve in (
        lambda **o: newton(lambda x: (np.sum(x * x), 2 * x), np.zeros(2), hessian=lambda x: 2 * np.eye(2), **o),
        lambda **o: accelerated_gradient(lambda x: (np.sum(x * x), 2 * x), np.zeros(2), **o),
    ):
        found = solve()
        assert found.success and found.nit == 0 and not found.x.any()
    assert newton(
        lambda x: (np.nan, x), np.ones(2), hessian=lambda x: np.eye(2)
    ).status is Status.NONFINITE  # fmt: skip


@pytest.mark.parametrize("condition", [1e2, 1e4])
def test_acceleration_pays(condition):
    _, _, fun = quadratic(0, condition)
    fast = accelerated_gradient(fun, np.zeros(6), tol=1e-8)
    assert fast.success and fast.nit <= 40.0 * condition**0.5
