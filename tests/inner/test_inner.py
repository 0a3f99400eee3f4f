"""Inner solvers against closed forms and each other."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from optlib import Status
from optlib.inner import accelerated_gradient, fista, gradient_descent, lbfgs, newton


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
    quasi = lbfgs(fun, start, tol=1e-9 * condition)
    for found in (direct, products, both, first, quasi):
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


@given(st.integers(0, 1000), st.sampled_from([1.0, 10.0, 1e3]))
def test_acceleration_with_constants(seed, condition):
    """The rate of the theorem, one gradient an iteration, and an honest end with wrong constants."""
    H, b, fun = quadratic(seed, condition)
    want, start = np.linalg.solve(H, b), np.zeros(6)
    best, values = fun(want)[0], []
    found = accelerated_gradient(
        fun, start, lipschitz=condition, mu=1.0, tol=1e-9, check_every=1,
        callback=lambda intermediate_result: values.append(fun(intermediate_result.state.x)[0] - best),
    )  # fmt: skip
    assert found.success and found.counts["gradients"] == found.nit + 1
    rate = 0.5 * (condition + 1.0) * np.sum(want**2) * np.exp(-np.arange(len(values)) / condition**0.5)
    assert np.all(values <= rate + 1e-12 * abs(best))


def test_wrong_constants_are_no_success():
    _, _, fun = quadratic(0, 100.0)
    found = accelerated_gradient(fun, np.ones(6), lipschitz=20.0, mu=1.0, tol=1e-9)
    assert not found.success and found.status in (Status.STALLED, Status.NONFINITE)


@given(st.integers(0, 1000), st.sampled_from([2.0, 30.0]))
def test_gradient_descent_rates(seed, condition):
    """The rates of the theorems with steps 1 / L and 2 / (L + mu); steps that are found are no slower."""
    H, b, fun = quadratic(seed, condition)
    want, start, k = np.linalg.solve(H, b), np.zeros(6), 60
    best, distance = fun(want)[0], np.linalg.norm(want)
    found = gradient_descent(fun, start, step=1.0 / condition, tol=None, maxiter=k)
    assert found.fun - best <= condition * distance**2 / (2 * k) + 1e-12
    assert found.counts["gradients"] == k + 1
    found = gradient_descent(fun, start, step=2.0 / (condition + 1.0), tol=None, maxiter=k)
    assert np.linalg.norm(found.x - want) <= ((condition - 1) / (condition + 1)) ** k * distance + 1e-10
    assert gradient_descent(fun, start, tol=1e-8, maxiter=2000).success


def lasso(seed):
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(60, 30)), rng.normal(size=60)
    return A, b, lambda y: (0.5 * np.sum((A @ y - b) ** 2), A.T @ (A @ y - b)), 0.3 * np.max(np.abs(A.T @ b))


def shrink(weight):
    return lambda v, t: np.sign(v) * np.maximum(np.abs(v) - weight * t, 0.0)


@given(st.integers(0, 1000))
def test_fista_lasso(seed):
    """Optimality conditions of the lasso, the reported value, and the rate ``2 L R^2 / (k + 1)^2``."""
    A, b, fun, reg = lasso(seed)
    found = fista(fun, shrink(reg), np.zeros(30), penalty=lambda x: reg * np.sum(np.abs(x)), tol=1e-8)
    assert found.success
    slack, on = reg - np.abs(A.T @ (A @ found.x - b)), found.x != 0
    assert np.all(slack >= -1e-8) and np.all(np.abs(slack[on]) <= 1e-8) and 0 < on.sum() < 30
    assert abs(found.fun - fun(found.x)[0] - reg * np.sum(np.abs(found.x))) <= 1e-12 * found.fun
    L = np.linalg.norm(A, 2) ** 2
    for k in (5, 20, 60):
        res = fista(
            fun, shrink(reg), np.zeros(30), penalty=lambda x: reg * np.sum(np.abs(x)), tol=None, maxiter=k, step=1 / L
        )
        # the estimated constant is at most twice the true one
        assert res.fun - found.fun <= 4.0 * L * np.sum(found.x**2) / (k + 1) ** 2 + 1e-10


def test_fista_projection_and_rest():
    """Least squares over a box against SciPy; from the solution nothing moves."""
    A, b, fun, _ = lasso(1)
    want = scipy.optimize.lsq_linear(A, b, (-0.05, 0.1), tol=1e-14).x
    clip = lambda v, t: np.clip(v, -0.05, 0.1)
    found = fista(fun, clip, np.ones(30), tol=1e-9)
    assert found.success and np.max(np.abs(found.x - want)) < 1e-8
    assert fista(fun, clip, found.x, tol=1e-6).nit == 0


def rosenbrock(x):
    value = np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
    return value, scipy.optimize.rosen_der(x)


@pytest.mark.parametrize("size", [2, 10, 50])
def test_lbfgs_against_scipy(size):
    """Rosenbrock's function: the minimum, with at most 1.3 times the gradients of SciPy's program."""
    start = np.tile([-1.2, 1.0], size // 2)
    found = lbfgs(rosenbrock, start, tol=1e-6)
    peer = scipy.optimize.minimize(
        rosenbrock, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-6 / size**0.5, "ftol": 0, "maxcor": 10}
    )
    assert found.success and np.max(np.abs(found.x - 1.0)) < 1e-6
    assert found.counts["gradients"] <= 1.3 * peer.nfev


def test_lbfgs_ends_at_rounding():
    """A tolerance below rounding ends as stalled, near the solution; a stationary start stays."""
    H, b, fun = quadratic(0, 100.0)
    found = lbfgs(fun, np.ones(6), tol=1e-300)
    assert found.status in (Status.STALLED, Status.CONVERGED)
    assert np.linalg.norm(found.x - np.linalg.solve(H, b)) < 1e-10
    assert lbfgs(lambda x: (np.sum(x * x), 2 * x), np.zeros(2)).nit == 0
    assert lbfgs(lambda x: (np.nan, x), np.ones(2)).status is Status.NONFINITE


SMOOTH = {"lbfgs": lbfgs, "gradient_descent": gradient_descent, "accelerated_gradient": accelerated_gradient}


@pytest.mark.parametrize("solver", SMOOTH.values(), ids=list(SMOOTH))
def test_gradients_in_a_buffer(solver):
    """A function that always fills the same array is as good as any other; one that changes x is told."""
    d, buffer = np.array([1.0, 3.0, 10.0]), np.empty(3)
    found = solver(lambda x: (0.5 * x @ (d * x) - x.sum(), np.subtract(d * x, 1.0, out=buffer)), np.ones(3))
    assert found.success and np.allclose(found.x, 1.0 / d, atol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        solver(lambda x: (x @ x, np.multiply(x, 2.0, out=x)), np.ones(3))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("solver", SMOOTH.values(), ids=list(SMOOTH))
@pytest.mark.parametrize("bad", ["nan", "inf", "nan gradient", "unbounded", "concave", "wrong sign", "nan later"])
def test_functions_that_break_off(solver, bad):
    """No success, no warning, and a last point that is finite."""
    functions = {
        "nan": lambda x: (np.nan, x),
        "inf": lambda x: (np.inf, x),
        "nan gradient": lambda x: (1.0, np.nan * x),
        "unbounded": lambda x: (-np.sum(x), -np.ones(3)),
        "concave": lambda x: (-x @ x, -2.0 * x),
        "wrong sign": lambda x: (x @ x, -2.0 * x),
        "nan later": lambda x: (x @ x if abs(x[0]) > 0.5 else np.nan, 2.0 * x),
    }
    found = solver(functions[bad], np.ones(3), maxiter=300)
    assert not found.success and found.status is not Status.CONVERGED, found
    assert np.isfinite(found.x).all()
