"""Linear algebra has one failure behaviour on every backend."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.backend import linalg, to_numpy
from optlib.testing import assert_close


def spd(n, seed):
    a = np.random.default_rng(seed).standard_normal((n, n))
    return a @ a.T + np.eye(n)


def indefinite(n):
    a = np.eye(n)
    a[n // 2, n // 2] = -1.0
    return a


@given(n=st.integers(1, 6), seed=st.integers(0, 99))
def test_factorisations_rebuild_the_matrix(backend, n, seed):
    xp, a = backend.xp, spd(n, seed)
    x = backend.asarray(a)
    tol = {"rtol": 0, "atol": 200 * backend.eps * np.linalg.norm(a)}
    factor = linalg.cholesky(x, xp=xp)
    assert_close(factor @ xp.matrix_transpose(factor), x, **tol)
    w, v = linalg.eigh(x, xp=xp)
    assert_close((v * w[None, :]) @ xp.matrix_transpose(v), x, **tol)
    b = backend.asarray(np.random.default_rng(seed + 1).standard_normal((n + 2, n)))
    u, s, vh = linalg.svd(b, xp=xp)
    assert_close((u * s[None, :]) @ vh, b, **tol)
    q, r = linalg.qr(b, xp=xp)
    assert_close(q @ r, b, **tol)
    assert float(xp.min(xp.linalg.diagonal(r))) >= 0
    rhs = backend.asarray(np.arange(1.0, n + 1))
    for solution in (
        linalg.solve(x, rhs, xp=xp),
        linalg.cho_solve(factor, rhs[:, None], xp=xp)[:, 0],
        linalg.lstsq(x, rhs, xp=xp),
    ):
        assert_close(x @ solution, rhs, rtol=0, atol=1e5 * backend.eps * n)
    assert_close(
        linalg.inv(x, xp=xp) @ x, xp.eye(n, dtype=x.dtype, device=backend.device), rtol=0, atol=1e5 * backend.eps
    )


@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("lower", [False, True])
def test_triangular(backend, lower, trans):
    a = spd(4, 0)  # the other triangle is full: it must not be read
    triangle = np.tril(a) if lower else np.triu(a)
    b = np.arange(4.0)
    x = linalg.solve_triangular(backend.asarray(a), backend.asarray(b), lower=lower, trans=trans, xp=backend.xp)
    assert_close(
        to_numpy(x),
        np.linalg.solve(triangle.T if trans else triangle, b),
        rtol=1e4 * backend.eps,
        atol=1e4 * backend.eps,
    )


def test_cholesky_of_indefinite(backend):
    xp = backend.xp
    bad = backend.asarray(indefinite(5))
    with pytest.raises(linalg.LinAlgError, match="positive definite"):
        linalg.cholesky(bad, xp=xp)
    assert np.all(np.isnan(to_numpy(linalg.cholesky(bad, xp=xp, check=False))))
    stack = linalg.cholesky(backend.asarray(np.stack([np.eye(5), indefinite(5), 4 * np.eye(5)])), xp=xp, check=False)
    host = to_numpy(stack)
    assert np.all(np.isnan(host[1]))
    assert np.array_equal(host[2], 2 * np.eye(5))


def test_singular_solve(backend):
    xp = backend.xp
    bad, b = backend.asarray(np.zeros((3, 3))), backend.asarray(np.ones(3))
    with pytest.raises(linalg.LinAlgError, match="singular"):
        linalg.solve(bad, b, xp=xp)
    assert np.all(np.isnan(to_numpy(linalg.solve(bad, b, xp=xp, check=False))))
    host = to_numpy(
        linalg.solve(backend.asarray(np.stack([np.eye(3), np.zeros((3, 3))])), b[:, None], xp=xp, check=False)
    )
    assert np.array_equal(host[0, :, 0], np.ones(3))
    assert np.all(np.isnan(host[1]))


def test_zero_tiny_huge_and_empty_matrices(backend):
    xp = backend.xp
    for scale in (0.0, 1e-30, 1e30):
        w, v = linalg.eigh(backend.asarray(scale * np.diag([1.0, 2.0])), xp=xp)
        assert_close(to_numpy(w), scale * np.array([1.0, 2.0]), rtol=10 * backend.eps)
        assert_close(to_numpy(xp.matrix_transpose(v) @ v), np.eye(2), atol=10 * backend.eps)
        u, s, _ = linalg.svd(backend.asarray(scale * np.ones((3, 2))), xp=xp)
        assert_close(
            to_numpy(s), scale * np.array([np.sqrt(6), 0.0]), rtol=1e2 * backend.eps, atol=scale * 1e2 * backend.eps
        )
        assert_close(to_numpy(xp.matrix_transpose(u) @ u), np.eye(2), atol=10 * backend.eps)
        assert_close(to_numpy(linalg.norm(backend.asarray(np.full(4, scale)), xp=xp)), 2 * scale, rtol=10 * backend.eps)
    empty = backend.asarray(np.zeros((0, 0)))
    assert linalg.cholesky(empty, xp=xp).shape == (0, 0)
    assert linalg.eigh(empty, xp=xp)[0].shape == (0,)
    assert linalg.svd(backend.asarray(np.zeros((3, 0))), xp=xp)[0].shape == (3, 0)
    assert float(linalg.norm(backend.asarray(np.zeros(0)), xp=xp)) == 0.0


def test_nonfinite_matrices(backend):
    xp = backend.xp
    bad = backend.asarray(np.array([[1.0, np.nan], [np.nan, 1.0]]))
    for function in (linalg.eigh, linalg.svd):
        with pytest.raises(linalg.LinAlgError, match="not finite"):
            function(bad, xp=xp)
        assert all(np.all(np.isnan(to_numpy(part))) for part in function(bad, xp=xp, check=False))


def test_least_squares_of_minimum_norm(backend):
    a = np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    x = linalg.lstsq(backend.asarray(a), backend.asarray([1.0, 3.0, 5.0]), xp=backend.xp)
    assert_close(to_numpy(x), np.array([1.0, 1.0]), rtol=100 * backend.eps)
