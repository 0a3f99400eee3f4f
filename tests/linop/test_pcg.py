"""The bare conjugate gradients inside other methods."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from optlib.backend import array_namespace
from optlib.linop import VStack, as_linear_operator
from optlib.linop.pcg import pcg
from optlib.testing import assert_close

XP = array_namespace(np.ones(1))


def system(seed, n=12, condition=1e3, scale=1.0):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return Q * np.geomspace(1.0, condition, n) @ Q.T, scale * rng.normal(size=n)


@given(st.integers(0, 1000), st.sampled_from([1e-200, 1.0, 1e200]), st.booleans())
def test_solution(seed, scale, warm):
    """Residuals are what was asked for, at any scale of the right side, from any start."""
    H, b = system(seed, scale=scale)
    start = 1e-3 * b if warm else None
    found = pcg(lambda v: H @ v, b, start, tol=1e-8, maxiter=100, xp=XP)
    assert found.success and found.products <= 60 + warm
    assert np.max(np.abs(H @ found.x - b)) <= 1e-7 * np.max(np.abs(b)) * 12**0.5


def test_preconditioner_and_limits():
    H, b = system(0)
    inverse = np.linalg.inv(H)
    found = pcg(lambda v: H @ v, b, precondition=lambda v: inverse @ v, tol=1e-8, maxiter=100, xp=XP)
    assert found.success and found.products <= 2
    short = pcg(lambda v: H @ v, b, tol=1e-12, maxiter=3, xp=XP)
    assert not short.success and short.products == 3
    energy = lambda x: 0.5 * x @ H @ x - b @ x
    assert energy(short.x) < 0.0
    again = pcg(lambda v: H @ v, b, short.x, tol=1e-8, maxiter=100, xp=XP)
    assert again.success


def test_zero_and_indefinite():
    H, b = system(1)
    none = pcg(lambda v: H @ v, 0.0 * b, tol=1e-8, maxiter=5, xp=XP)
    assert none.success and not none.x.any() and none.products == 0
    downhill = pcg(lambda v: -v, b, tol=1e-8, maxiter=5, xp=XP)
    assert not downhill.success and np.allclose(downhill.x, b)  # where the first direction is concave: descent
    assert not pcg(lambda v: v, b * np.nan, tol=1e-8, maxiter=5, xp=XP).success


def test_backends(backend):
    """Devices test the residual every tenth time only; results agree to the tolerance."""
    H, b = system(2, condition=30.0)
    matrix, rhs = backend.asarray(H), backend.asarray(b)
    found = pcg(lambda v: matrix @ v, rhs, tol=1e-5, maxiter=50, xp=backend.xp)
    assert found.success
    assert_close(found.x, backend.asarray(np.linalg.solve(H, b)), rtol=1e-3, atol=1e-3)
    exact = pcg(lambda v: 2.0 * v, rhs, tol=1e-5, maxiter=50, xp=backend.xp)  # ends in one step, and stays there
    assert_close(exact.x, 0.5 * rhs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("made", [np.asarray, scipy.sparse.csr_array])
def test_squared_entries(made):
    A = np.random.default_rng(0).normal(size=(4, 3))
    op = as_linear_operator(made(A))
    assert np.allclose(op._squared().to_dense(), A**2)
    assert np.allclose(VStack(op, op).T._squared().to_dense(), np.vstack([A, A]).T ** 2)
    assert as_linear_operator(lambda x: x, shape=(3, 3), symmetric=True)._squared() is None


def test_low_rank_on_backends(backend):
    """What a device does after the answer was found, until it looks, does no harm."""
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 2)))[0]
    matrix, rhs = backend.asarray(q * [1.0, 2.0] @ q.T), backend.asarray(q @ [1.0, 1.0])
    found = pcg(lambda v: matrix @ v, rhs, tol=1e-5, maxiter=50, xp=backend.xp)
    assert found.success
    assert_close(found.x, backend.asarray(q @ [1.0, 0.5]), rtol=1e-3, atol=1e-4)
