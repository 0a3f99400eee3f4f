"""Self-calibration, weighted decompositions and lifting, at the specification's sizes or smaller."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import sensing
from optlib.sensing.lifted import Lift
from optlib.testing import assert_close, check_gradient
from tests.sensing.test_deep import namespace

MODELS = ("repeated", "snapshots", "diverse")


def calibration(seed, model, p, m, n, noise=0.0):
    rng = np.random.default_rng(seed)
    d, A = rng.uniform(0.7, 1.3, m), rng.normal(size=(m, n) if model == "snapshots" else (p, m, n))
    x = rng.normal(size=n if model == "repeated" else (p, n))
    images = {"repeated": lambda: A @ x, "snapshots": lambda: x @ A.T, "diverse": lambda: np.einsum("pmn,pn->pm", A, x)}
    y = d * images[model]()
    e = rng.normal(size=y.shape)
    return A, y + noise * np.linalg.norm(y) / np.linalg.norm(e) * e, d, x


def off(found, truth):
    """Relative error up to one number."""
    c = np.sum(found * truth) / np.sum(found * found)
    return np.linalg.norm(c * found - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", ["least_squares", "spectral"])
def test_exact_without_noise(model, method):
    """Ling and Strohmer: one linear problem finds gains and signals as soon as the equations suffice."""
    A, y, d, x = calibration(0, model, 4, 32, 12)
    result = sensing.self_calibration(A, y, model=model, method=method)
    assert result.success
    assert max(off(result.gains, d), off(result.signals, x)) < 1e-12
    assert result.certificate.kind == "residual"


@pytest.mark.parametrize("method", ["least_squares", "spectral"])
def test_error_is_proportional_to_the_noise(method):
    levels, errors = (1e-4, 1e-3, 1e-2), []
    for level in levels:
        cases = [calibration(seed, "repeated", 8, 64, 32, level) for seed in range(3)]
        results = [sensing.self_calibration(A, y, method=method) for A, y, _, _ in cases]
        assert all(r.success and r.certificate.kind == "stationarity" for r in results)
        errors.append(np.median([off(r.gains, c[2]) for r, c in zip(results, cases, strict=True)]))
    assert 0.9 < np.polyfit(np.log(levels), np.log(errors), 1)[0] < 1.1
    assert max(e / level for e, level in zip(errors, levels, strict=True)) < 1.0


def dense(A, y, model):
    """The matrix of the homogeneous equations, built by loops."""
    p, m = y.shape
    n = A.shape[-1]
    H = np.zeros((p * m, m + (n if model == "repeated" else p * n)))
    for l in range(p):
        H[l * m : (l + 1) * m, :m] = np.diag(y[l])
        block = 0 if model == "repeated" else l
        H[l * m : (l + 1) * m, m + block * n : m + (block + 1) * n] = -(A if model == "snapshots" else A[l])
    return H


@pytest.mark.parametrize("model", MODELS)
def test_against_dense_algebra(model):
    A, y, _, _ = calibration(1, model, 3, 14, 4, 0.05)
    H = dense(A, y, model)
    scale = np.linalg.norm(H, axis=0)
    z = np.linalg.svd(H / scale)[2][-1] / scale
    assert off(1.0 / sensing.self_calibration(A, y, model=model, method="spectral").gains, z[:14]) < 1e-8
    w = np.where(np.arange(H.shape[1]) < 14, 1.0, 0.0)
    z = np.linalg.solve(H.T @ H + np.outer(w, w), w)
    assert off(1.0 / sensing.self_calibration(A, y, model=model).gains, z[:14]) < 1e-8


def test_counting_threshold():
    """Exact from p m = m + n - 1 on, and said to be not identifiable below."""
    for n, enough in ((15, True), (18, False)):
        A, y, d, _ = calibration(2, "repeated", 2, 16, n)
        result = sensing.self_calibration(A, y)
        assert (off(result.gains, d) < 1e-6) == enough
        assert ("not identifiable" in str(result.certificate)) == (not enough)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10.0))
def test_symmetries(seed, factor):
    """The units of the readings and the order of the sensors do not matter."""
    A, y, _, _ = calibration(seed, "repeated", 4, 12, 5, 1e-3)
    order = np.random.default_rng(seed).permutation(12)
    one, two = sensing.self_calibration(A, y), sensing.self_calibration(A[:, order], factor * y[:, order])
    np.testing.assert_allclose(one.gains[order], two.gains, rtol=1e-6)


def test_backends(backend):
    A, y, d, _ = calibration(3, "diverse", 4, 12, 4)
    result = sensing.self_calibration(backend.asarray(A), backend.asarray(y), model="diverse")
    assert result.success
    assert_close(result.gains / result.gains[0], backend.asarray(d / d[0]), rtol=1e-9 if backend.is_double else 1e-3)


# -- weighted decompositions --


def weighted(seed, n1=30, n2=20):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n1, n2)), rng.gamma(0.5, size=(n1, n2))


def truncated(W, k):
    u, s, vt = np.linalg.svd(W, full_matrices=False)
    return (u[:, :k] * s[:k]) @ vt[:k]


def test_weights_of_rows_and_columns_are_optimal():
    W, table = weighted(0)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    for weights, scaled in ((rows, np.sqrt(rows)[:, None]), ((rows, columns), np.sqrt(np.outer(rows, columns)))):
        result = sensing.weighted_svd(W, weights, rank=5)
        tail = np.sum(np.linalg.svd(scaled * W)[1][5:] ** 2)
        assert result.success
        assert result.nit == 0
        assert result.fun == pytest.approx(tail, rel=1e-10)
        assert np.sum((scaled * (W - result.matrix.toarray())) ** 2) == pytest.approx(tail, rel=1e-10)
        assert result.fun <= np.sum((scaled * (W - truncated(W, 5))) ** 2)


def test_fisher_weights_then_sweeps():
    """Hsu et al.: rows that matter differ; lower error than the plain decomposition, and sweeps lower it further."""
    for seed in range(3):
        W, table = weighted(seed, 60, 40)
        table = table * np.random.default_rng(seed).gamma(0.5, size=(60, 1))
        plain = np.sum(table * (W - truncated(W, 8)) ** 2)
        fisher = sensing.weighted_svd(W, table, rank=8, maxiter=0)
        assert fisher.fun < plain
        result = sensing.weighted_svd(W, table, rank=8)
        assert result.success
        assert result.fun < 0.9 * fisher.fun
        assert np.all(np.diff(result.history.array("fun")) <= 1e-10 * plain)


def test_stationary_point_against_scipy():
    from scipy.optimize import minimize

    W, table = weighted(1, 6, 5)
    result = sensing.weighted_svd(W, table, rank=2, tol=1e-9, maxiter=20_000)

    def fun(v):
        return np.sum(table * (W - v[:12].reshape(6, 2) @ v[12:].reshape(2, 5)) ** 2)

    peer = minimize(fun, np.concatenate([result.x[0].ravel(), result.x[1].T.ravel()]), tol=1e-12)
    assert peer.fun == pytest.approx(result.fun, rel=1e-8)


def test_equal_weights_are_the_plain_decomposition(backend):
    W, _ = weighted(2, 7, 6)
    result = sensing.weighted_svd(backend.asarray(W), backend.asarray(np.ones((7, 6))), rank=3)
    assert result.success
    rtol = 1e-6 if backend.is_double else 1e-3
    np.testing.assert_allclose(np.asarray(backend_numpy(result.matrix.toarray())), truncated(W, 3), atol=rtol)


def backend_numpy(x):
    from optlib.backend import to_numpy

    return to_numpy(x)


def test_rows_without_weight_are_finite():
    W, table = weighted(3)
    table[4], table[:, 2] = 0.0, 0.0
    result = sensing.weighted_svd(W, table, rank=4)
    assert result.success
    assert np.all(np.isfinite(result.matrix.toarray()))


# -- lifting --


def masked(eps):
    """Completion with some entries known less well: (1, 0, -1) times 0.775 is a spurious minimum."""
    weight = np.array([[1.0, 1.0, eps], [1.0, 1.0, 1.0], [eps, 1.0, 1.0]])
    A = sensing.DenseSensing(weight.ravel()[:, None, None] * np.eye(9).reshape(9, 3, 3))
    z = np.array([1.0, 0.0, 1.0])
    start = np.array([[1.0], [0.0], [-1.0]])
    return A, A.forward(np.outer(z, z)), (start, start), z


def test_lifting_turns_a_spurious_minimum_into_a_saddle():
    """Ma et al.: a strict minimum of the vector problem is a strict saddle of the lifted one, and is left."""
    A, y, start, z = masked(0.5)
    stuck = sensing.gradient_descent(A, y, rank=1, psd=True, init=start)
    assert not stuck.success
    result = sensing.lifted(A, y, init=start)
    assert result.curvatures[0] > 1.0
    assert result.curvatures[1] < -4.0
    assert result.success
    alignment = abs(result.x[0][:, 0] @ z) / np.linalg.norm(z) / np.linalg.norm(result.x[0])
    assert alignment > 1.0 - 1e-6


def test_a_level_that_is_too_low_is_said():
    A, y, start, _ = masked(0.3)
    result = sensing.lifted(A, y, init=start)
    assert result.curvatures[1] > 0.0
    assert not result.success


@pytest.mark.parametrize("level", [1, 3])
def test_lifted_derivatives_and_kronecker_form(level):
    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(4, 9)), rng.normal(size=4)
    lift = Lift(rows, y, level, namespace())
    w = rng.normal(size=3**level)
    v = rng.normal(size=3**level)
    check_gradient(lift.value, lift.gradient, w)
    check_gradient(lambda w: lift.gradient(w) @ v, lambda w: lift.hessian(w)(v), w, rtol=1e-5)
    x = rng.normal(size=3)
    power = x
    for _ in range(level - 1):
        power = np.kron(power, x)
    np.testing.assert_allclose(lift.lift(x), power)
    image = rows @ np.outer(x, x).ravel()
    kron = image
    for _ in range(level - 1):
        kron = np.kron(kron, image)
    np.testing.assert_allclose(lift._measure(power, power), kron)
    hessian = np.stack([lift.hessian(w)(e) for e in np.eye(3**level)])
    assert lift.lowest(w)[0] == pytest.approx(np.linalg.eigvalsh(0.5 * (hessian + hessian.T))[0], rel=1e-6)
