"""Over-relaxation against direct solves and the spectral radius of its iteration matrix."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from optlib import Status, to_device
from optlib.backend import to_numpy
from optlib.linop import SSOR, as_linear_operator, cg, sor
from optlib.testing import assert_close


def laplacian(m):
    """Five-point differences on an m x m grid."""
    line = sp.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    return (sp.kron(line, sp.eye_array(m)) + sp.kron(sp.eye_array(m), line)).tocsr()


def definite(n, seed):
    a = np.random.default_rng(seed).standard_normal((n, n))
    return a @ a.T + 0.5 * np.eye(n)


def iteration_matrix(a, omega):
    lower = np.diag(np.diag(a)) / omega + np.tril(a, -1)
    return np.eye(len(a)) - np.linalg.solve(lower, a)


@given(n=st.integers(1, 10), seed=st.integers(0, 99), omega=st.floats(0.3, 1.7))
def test_against_direct_solve(backend, n, seed, omega):
    a, b = definite(n, seed), np.random.default_rng(seed).standard_normal(n)
    tol = 1e-9 if backend.is_double else 1e-4
    res = sor(backend.asarray(a), backend.asarray(b), omega=omega, tol=tol, maxiter=3000)
    assert res.success or res.status is Status.MAXITER
    if res.success:
        exact = np.linalg.solve(a, b)
        assert_close(
            to_numpy(res.x), exact, rtol=0, atol=2 * tol * np.linalg.norm(b) * np.linalg.norm(np.linalg.inv(a), 2)
        )


@pytest.mark.parametrize("omega", [0.7, 1.0, 1.5])
def test_iterates_are_those_of_the_iteration_matrix(backend, engine, omega):
    a, b = definite(6, 0), np.arange(1.0, 7.0)
    exact = np.linalg.solve(a, b)
    error = np.linalg.matrix_power(iteration_matrix(a, omega), 4) @ (0 - exact)
    res = sor(backend.asarray(a), backend.asarray(b), omega=omega, tol=None, maxiter=4)
    assert_close(to_numpy(res.x), exact + error, rtol=1e-9 if backend.is_double else 1e-3)


@pytest.mark.parametrize("omega", [1.0, 1.3, 1.6, 1.8])
def test_rate_is_the_spectral_radius(omega):
    a = laplacian(6)
    radius = np.abs(np.linalg.eigvals(iteration_matrix(a.toarray(), omega))).max()
    jacobi = np.abs(np.linalg.eigvalsh(np.eye(36) - a.toarray() / 4)).max()
    best = 1 + (jacobi / (1 + np.sqrt(1 - jacobi**2))) ** 2
    assert omega < best or radius == pytest.approx(omega - 1)  # Young's theorem
    k = int(np.log(1e-5) / np.log(radius))  # residuals from 1e-5 down to 1e-10
    short, long = (sor(a, np.ones(36), omega=omega, tol=None, maxiter=i).certificate.value for i in (k, 2 * k))
    assert (long / short) ** (1 / k) == pytest.approx(radius, rel=0.05)


def test_ends_at_the_iteration_that_reaches_the_tolerance():
    a, b = laplacian(5), np.arange(25.0)
    res = sor(a, b, omega=1.4, tol=1e-8)
    before = sor(a, b, omega=1.4, tol=None, maxiter=res.nit - 1)
    assert before.certificate.value > 1e-8 >= res.certificate.value
    assert res.nit == sor(a, b, omega=1.4, tol=1e-8, check_every=1).nit
    assert res.status is Status.CONVERGED
    assert sor(a, b, omega=1.4, tol=1e-8, init=res).nit == res.nit
    for factor in (1e-200, 1e200):
        assert sor(a, factor * b, omega=1.4, tol=1e-8).nit == res.nit
    assert sor(a, np.zeros(25)).nit == 0


@pytest.mark.parametrize("form", [sp.csr_array, sp.csc_array, np.asarray, np.ndarray.tolist, np.float32])
def test_every_kind_of_matrix(form):
    a = laplacian(4).toarray()
    res = sor(form(a), np.ones(16), omega=1.3, tol=1e-10).check()
    assert res.x.dtype == np.float64
    assert_close(res.x, np.linalg.solve(a, np.ones(16)), rtol=1e-8)


def test_dense_rows_equal_sparse_rows(engine):
    a = laplacian(4)
    assert_close(
        sor(a, np.ones(16), tol=None, maxiter=9).x, sor(a.toarray(), np.ones(16), tol=None, maxiter=9).x, rtol=1e-12
    )


@pytest.mark.parametrize("omega", [0.5, 1.0, 1.8])
def test_ssor_is_the_inverse_of_its_definition(backend, engine, omega):
    a = definite(7, 1)
    d, lower = np.diag(np.diag(a)), np.tril(a, -1)
    matrix = (d + omega * lower) @ np.linalg.inv(d) @ (d + omega * lower.T) / (omega * (2 - omega))
    operator = SSOR(backend.asarray(a), omega)
    assert_close(to_numpy(operator.to_dense()), np.linalg.inv(matrix), rtol=0, atol=1e3 * backend.eps)
    assert operator.positive_semidefinite
    v = backend.asarray(np.arange(7.0))
    assert_close(operator.rmatvec(v), operator.matvec(v))


def test_preconditioned_gradients_need_few_iterations():
    a, b = laplacian(30), np.random.default_rng(0).standard_normal(900)
    plain = cg(a, b, tol=1e-8, check_every=1)
    fast = cg(a, b, tol=1e-8, check_every=1, preconditioner=SSOR(a, 1.7)).check()
    assert fast.nit < 0.5 * plain.nit
    assert_close(fast.x, plain.x, rtol=0, atol=1e-5)


def test_divergence_is_not_success():
    a = np.array([[1.0, 3.0], [3.0, 1.0]])  # indefinite
    res = sor(a, np.ones(2), tol=1e-8, maxiter=5000)
    assert not res.success
    assert res.status is Status.NONFINITE


def test_moves_with_its_arrays():
    assert isinstance(to_device(SSOR(laplacian(2), 1.1), "numpy"), SSOR)
    assert as_linear_operator(SSOR(np.eye(2), 1.1)).shape == (2, 2)
