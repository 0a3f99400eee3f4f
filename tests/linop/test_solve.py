"""Krylov solvers against direct solves, and their honesty when a problem is out of reach."""

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg
from hypothesis import given
from hypothesis import strategies as st

from optlib import Status
from optlib.backend import to_numpy
from optlib.linop import Diagonal, Identity, LinearOperator, as_linear_operator, cg, gmres, lsqr, minres
from optlib.linop.solve import CGState
from optlib.testing import assert_close

SOLVERS = {"cg": cg, "gmres": gmres, "minres": minres, "lsqr": lsqr}


def orthogonal(n, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]


def definite(n, condition=50.0, seed=0):
    q = orthogonal(n, seed)
    return (q * np.geomspace(1.0, condition, n)) @ q.T


def indefinite(n, condition=20.0, seed=0):
    q = orthogonal(n, seed)
    return (q * (np.geomspace(1.0, condition, n) * np.where(np.arange(n) % 3 == 1, -1, 1))) @ q.T


def turning(n, condition=50.0, seed=0):
    """A definite matrix plus a rotation of the same size."""
    skew = np.random.default_rng(seed).standard_normal((n, n))
    return definite(n, condition, seed) + (skew - skew.T)


def rectangular(m, n, seed=0):
    return np.random.default_rng(seed).standard_normal((m, n)) + 3.0 * np.eye(m, n)


def vector(n, seed=1):
    return np.random.default_rng(seed).standard_normal(n)


def matrix_for(name, n, seed=0):
    return {"cg": definite, "gmres": turning, "minres": indefinite, "lsqr": definite}[name](n, seed=seed)


@pytest.mark.parametrize("name", SOLVERS)
@given(n=st.integers(1, 12), k=st.integers(0, 3), seed=st.integers(0, 99))
def test_against_direct_solve(backend, name, n, k, seed):
    a = matrix_for(name, n, seed)
    b = vector((n, k) if k else n, seed)
    tol = 1e-10 if backend.is_double else 1e-5
    result = SOLVERS[name](backend.asarray(a), backend.asarray(b), tol=tol).check()
    assert_close(result.x, backend.asarray(np.linalg.solve(a, b)), rtol=0, atol=1e3 * tol * np.abs(b).max())
    residual = np.linalg.norm(b - a @ to_numpy(result.x), axis=0) / np.linalg.norm(b, axis=0)
    assert result.certificate.value == pytest.approx(np.max(residual), rel=0.5, abs=50 * backend.eps)


@given(m=st.integers(1, 12), n=st.integers(1, 12), seed=st.integers(0, 99), damp=st.sampled_from([0.0, 0.5]))
def test_least_squares(backend, m, n, seed, damp):
    a, b = rectangular(m, n, seed), vector(m, seed)
    tol = 1e-11 if backend.is_double else 1e-6
    result = lsqr(backend.asarray(a), backend.asarray(b), damp=damp, tol=tol)
    stacked, padded = np.vstack([a, damp * np.eye(n)]), np.concatenate([b, np.zeros(n)])
    best = np.linalg.lstsq(stacked, padded, rcond=None)[0]  # of minimum norm if m < n
    assert result.success or not backend.is_double
    values = np.linalg.svd(stacked, compute_uv=False)[: min(m, n)]
    size = (values[0] / values[-1]) ** 2 * (1 + np.abs(best).max()) * np.linalg.norm(b)
    assert_close(result.x, backend.asarray(best), rtol=0, atol=100 * tol * size)


def test_least_squares_from_a_warm_start_keeps_the_damping():
    a, b = rectangular(9, 4), vector(9)
    best = np.linalg.solve(a.T @ a + np.eye(4), a.T @ b)
    assert_close(lsqr(a, b, damp=1.0, tol=1e-12, init=10 * vector(4, 2)).x, best, rtol=1e-8)


@pytest.mark.parametrize("name", SOLVERS)
def test_every_kind_of_operator(name):
    a = matrix_for(name, 10)
    b, x = a @ vector(10), vector(10)
    for form in (
        a,
        a.tolist(),
        sp.csr_array(a),
        as_linear_operator(a).to_scipy(),
        as_linear_operator(a.T).T,
        a.astype(np.float32),
    ):
        result = SOLVERS[name](form, b, tol=1e-10)
        assert result.x.dtype == np.float64
        assert_close(
            result.x, x, rtol=0, atol=1e-4 if form is not a and getattr(form, "dtype", None) == np.float32 else 1e-6
        )
    if name != "lsqr":
        assert_close(SOLVERS[name](lambda v: a @ v, b, tol=1e-10).x, x, rtol=0, atol=1e-6)
        assert SOLVERS[name](lambda v: a @ v, b.astype(np.float32), tol=1e-4).check().x.dtype == np.float32


def test_integers_and_lists():
    assert_close(cg([[2, 0], [0, 4]], [2, 4]).x, np.ones(2), rtol=1e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_batch_equals_single(name):
    a, b = matrix_for(name, 15), vector((15, 4))
    together = SOLVERS[name](a, b, tol=None, maxiter=7).x
    for j in range(4):
        assert_close(together[:, j], SOLVERS[name](a, b[:, j], tol=None, maxiter=7).x, rtol=1e-10)


@pytest.mark.parametrize("name", SOLVERS)
def test_columns_of_all_kinds_at_once(name):
    """A zero column, a solved one, a hard one: each ends right."""
    a = matrix_for(name, 12)
    b = np.stack([np.zeros(12), a @ vector(12), vector(12, 5), 1e-250 * vector(12, 6), 1e250 * vector(12, 7)], axis=1)
    init = np.zeros_like(b)
    init[:, 0], init[:, 1] = 7.0, vector(12)
    result = SOLVERS[name](a, b, init=init, tol=1e-9).check()
    assert_close(result.x[:, 0], np.zeros(12))
    assert_close(
        result.x / np.abs(b).max(0).clip(1e-300),
        np.linalg.solve(a, b / np.abs(b).max(0).clip(1e-300)),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("scale", [2.0**-664, 2.0**-100, 2.0**100, 2.0**664])
def test_scale_of_the_right_side_does_not_matter(name, scale):
    a, b = matrix_for(name, 12), vector(12)
    one, other = SOLVERS[name](a, b), SOLVERS[name](a, scale * b)
    assert one.nit == other.nit
    np.testing.assert_array_equal(other.x, scale * one.x)


@pytest.mark.parametrize("name", SOLVERS)
def test_trivial_systems(name):
    solver = SOLVERS[name]
    assert solver(np.eye(3), np.zeros(3)).check().nit == 0
    assert_close(solver([[4.0]], [2.0]).check().x, np.array([0.5]))
    assert solver(np.empty((0, 0)), np.empty(0)).check().x.shape == (0,)
    done = solver(np.eye(3), np.ones(3), init=np.ones(3)).check()
    assert done.nit == 0
    assert not solver(np.eye(3), np.ones(3), maxiter=0).success


def test_zero_matrix():
    assert cg(np.zeros((3, 3)), np.ones(3)).status is Status.BREAKDOWN
    assert not minres(np.zeros((3, 3)), np.ones(3), maxiter=20).success
    least = lsqr(np.zeros((3, 2)), np.ones(3)).check()
    assert least.certificate.kind == "stationarity"
    assert_close(least.x, np.zeros(2))


@pytest.mark.parametrize("name", SOLVERS)
def test_singular_but_consistent(name):
    q = orthogonal(12, 3)
    a = (q * np.concatenate([np.zeros(3), np.geomspace(1, 30, 9)])) @ q.T
    b = a @ vector(12)
    result = SOLVERS[name](a, b, tol=1e-9).check()
    assert_close(result.x, np.linalg.pinv(a) @ b, rtol=0, atol=1e-6)  # nearest to the start, zero


@given(st.integers(0, 2**32), st.sampled_from([1, 10, 25]), st.sampled_from([1e-6, 1e-10, 1e-12]))
def test_low_rank_between_checks(seed, every, tol):
    """Iterations after the last that was needed do not run into the kernel."""
    rng = np.random.default_rng(seed)
    q = orthogonal(30, seed % 1000)[:, : rng.integers(1, 6)]
    d = np.geomspace(1.0, 10.0 ** -rng.uniform(0, 4), q.shape[1])
    b = (q * d) @ (q.T @ rng.normal(size=30))
    x = cg((q * d) @ q.T, b, tol=tol, check_every=every).check().x
    assert np.linalg.norm(x - q @ (q.T @ x)) <= 1e-3 * np.linalg.norm(x)


def test_singular_and_inconsistent_is_never_called_solved():
    a, b = np.diag([1.0, 2.0, 0.0]), np.ones(3)
    for solver in (cg, minres):
        result = solver(a, b, maxiter=200)
        assert not result.success
        assert result.certificate.value > 0.5
        assert np.all(np.isfinite(result.x))
    least = lsqr(a, b).check()
    assert least.certificate.kind == "stationarity"
    assert_close(least.x, np.array([1.0, 0.5, 0.0]), rtol=0, atol=1e-8)


def test_indefinite_matrix_breaks_cg(backend):
    a = indefinite(10)
    result = cg(backend.asarray(a), backend.asarray(vector(10)), maxiter=50)
    assert result.status is Status.BREAKDOWN
    assert not result.success
    assert np.all(np.isfinite(to_numpy(result.x)))
    minres(backend.asarray(a), backend.asarray(vector(10)), tol=backend.rtol).check()


def test_indefinite_preconditioner_is_found():
    a, m = definite(10), indefinite(10)
    for solver in (cg, minres):
        assert solver(a, vector(10), preconditioner=m).status is Status.BREAKDOWN


@pytest.mark.parametrize("name", SOLVERS)
def test_nonfinite_products(name, backend):
    a = matrix_for(name, 6)
    a[2, 3] = a[3, 2] = np.nan
    result = SOLVERS[name](backend.asarray(a), backend.asarray(vector(6)))
    assert result.status is Status.NONFINITE
    assert not result.success
    assert np.all(np.isfinite(to_numpy(result.x)))


@pytest.mark.parametrize("name", ["cg", "minres"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_ill_conditioned_is_honest(name, dtype):
    n = 60
    a = definite(n, 1e12).astype(dtype)
    b = vector(n).astype(dtype)
    for tol in (1e-3, 1e-13):
        result = SOLVERS[name](a, b, tol=tol, maxiter=3000)
        true = np.linalg.norm(b - a.astype(np.float64) @ result.x) / np.linalg.norm(b)
        assert result.success == (result.certificate.value <= tol)
        assert true <= 2 * result.certificate.value + 1e-12  # in single precision the residual itself is uncertain
        assert result.success == (result.status is Status.CONVERGED)


@pytest.mark.parametrize("name", SOLVERS)
def test_precision_floor_is_called_stalled(name):
    """In single precision the recursion goes on below what the point has reached."""
    a, b = definite(80, 300.0).astype(np.float32), vector(80).astype(np.float32)
    result = SOLVERS[name](a, b, tol=2e-7 if name != "lsqr" else 1e-8, maxiter=5000)
    assert result.status is Status.STALLED
    assert result.nit < 2500
    assert result.certificate.value < 1e-3


@pytest.mark.parametrize("name", SOLVERS)
def test_many_more_iterations_than_needed_do_no_harm(name):
    for n in (1, 2, 5):
        a, b = matrix_for(name, n), vector(n)
        for count in (20, 100, 301):
            x = SOLVERS[name](a, b, tol=None, maxiter=count).x
            assert_close(x, np.linalg.solve(a, b), rtol=1e-9)


@pytest.mark.parametrize("name", SOLVERS)
@given(n=st.integers(2, 12), first=st.integers(0, 40), second=st.integers(1, 40), seed=st.integers(0, 99))
def test_resume_law(name, n, first, second, seed):
    solver, a, b = SOLVERS[name], matrix_for(name, n, seed), vector(n, seed)
    whole = solver(a, b, tol=None, maxiter=first + second)
    part = solver(a, b, tol=None, maxiter=first)
    for init in (part, part.state):
        resumed = solver(a, b, tol=None, maxiter=second, init=init)
        assert resumed.nit == first + second
        np.testing.assert_array_equal(resumed.x, whole.x)


@pytest.mark.parametrize("name", SOLVERS)
def test_checkpoint(name, tmp_path):
    solver, a, b = SOLVERS[name], matrix_for(name, 20), vector((20, 2))
    path = tmp_path / "run.npz"
    solver(a, b, tol=None, maxiter=5, checkpoint=path)
    resumed = solver(a, b, tol=None, maxiter=11, checkpoint=path)
    np.testing.assert_array_equal(resumed.x, solver(a, b, tol=None, maxiter=11).x)
    for other in ((a + np.eye(20), b), (a, 2 * b)):
        with pytest.raises(ValueError, match="another problem"):
            solver(*other, tol=None, maxiter=11, checkpoint=path)


@pytest.mark.parametrize("name", SOLVERS)
def test_continue_to_a_smaller_tolerance(name):
    solver, a, b = SOLVERS[name], matrix_for(name, 40), vector(40)
    rough = solver(a, b, tol=1e-3)
    fine = solver(a, b, tol=1e-9, init=rough).check()
    straight = solver(a, b, tol=1e-9)
    assert rough.nit < fine.nit == straight.nit
    np.testing.assert_array_equal(fine.x, straight.x)


@pytest.mark.parametrize("name", SOLVERS)
def test_warm_start(name):
    solver, a, b = SOLVERS[name], matrix_for(name, 40), vector(40)
    cold = solver(a, b, tol=1e-8, check_every=1)
    near = b + 1e-6 * vector(40, 3)
    warm = solver(a, near, init=cold, tol=1e-8, check_every=1).check()  # another right side: only x is taken
    assert warm.nit < solver(a, near, tol=1e-8, check_every=1).nit
    again = solver(a, near, init=cold.x, tol=1e-8, check_every=1)
    np.testing.assert_array_equal(again.x, warm.x)


def test_a_result_of_another_matrix_as_start_is_harmless():
    """The stale residual claims convergence; the true one is asked, and the run starts afresh."""
    a, b = definite(30), vector(30)
    old = cg(a, b, tol=1e-10)
    other = a + np.eye(30)
    new = cg(other, b, tol=1e-10, init=old).check()
    assert_close(new.x, np.linalg.solve(other, b), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["cg", "minres"])
@pytest.mark.parametrize("form", ["array", "operator", "function"])
def test_preconditioner(name, form, backend):
    d = np.geomspace(1, 1e4, 30) * (1 if name == "cg" else np.where(np.arange(30) % 2, -1, 1))
    a = np.diag(d) + 0.1 * definite(30, 5.0)
    inverse = backend.asarray(1.0 / np.abs(d))
    m = {
        "array": backend.asarray(np.diag(1.0 / np.abs(d))),
        "operator": Diagonal(inverse),
        "function": lambda r: inverse * r,
    }[form]
    tol = 1e-9 if backend.is_double else 1e-5
    options = {"tol": tol, "check_every": 1}
    A, b = backend.asarray(a), backend.asarray(vector(30))
    result = SOLVERS[name](A, b, preconditioner=m, **options).check()
    assert_close(A @ result.x, b, rtol=0, atol=20 * tol)
    assert result.nit < 0.6 * SOLVERS[name](A, b, maxiter=200, **options).nit


def test_absolute_tolerance():
    a = definite(30)
    b = vector((30, 2)) * np.array([1.0, 1e-9])
    result = cg(a, b, tol=1e-8, atol=1e-5, check_every=1).check()
    assert result.nit < cg(a, b, tol=1e-8, check_every=1).nit
    norms = np.linalg.norm(b - a @ result.x, axis=0)
    assert np.all(norms <= np.maximum(1e-8 * np.linalg.norm(b, axis=0), 1e-5))
    only = cg(a, b[:, 0], tol=0.0, atol=1e-3, check_every=1).check()
    assert np.linalg.norm(b[:, 0] - a @ only.x) <= 1e-3
    assert only.certificate.tol == 1e-3


def test_finite_termination():
    """As many iterations as different eigenvalues."""
    q = orthogonal(30, 1)
    a = (q * np.repeat([1.0, 2.0, 5.0], 10)) @ q.T
    assert cg(a, vector(30), tol=1e-10, check_every=1).nit == 3
    assert minres(a - 1.5 * np.eye(30), vector(30), tol=1e-10, check_every=1).nit == 3


def test_rates():
    """The Chebyshev bounds: energy norm for CG, residual norm for MINRES."""
    condition = 100.0
    a, b = definite(60, condition), vector(60)
    exact = np.linalg.solve(a, b)
    rate = (np.sqrt(condition) - 1) / (np.sqrt(condition) + 1)
    for nit in (5, 20, 40):
        error = cg(a, b, tol=None, maxiter=nit).x - exact
        assert np.sqrt(error @ a @ error) <= 2 * rate**nit * np.sqrt(exact @ a @ exact)
        residual = b - a @ minres(a, b, tol=None, maxiter=nit).x
        assert np.linalg.norm(residual) <= 2 * rate**nit * np.linalg.norm(b)


def test_monotone():
    a, b = indefinite(40, 1e3), vector(40)
    steps = minres(a, b, tol=None, maxiter=60, check_every=1).history.array("stop")
    assert np.all(np.diff(steps) <= 1e-14)
    c = rectangular(50, 30)
    norms = [np.linalg.norm(vector(50) - c @ lsqr(c, vector(50), tol=None, maxiter=k).x) for k in range(0, 40, 5)]
    assert np.all(np.diff(norms) <= 1e-12)


class Counting(LinearOperator):
    """An operator that counts its products."""

    def __init__(self, a):
        super().__init__(a.shape, a)
        self.a, self.calls = a, 0

    def _matvec(self, x):
        self.calls += 1
        return self.a @ x

    def _rmatvec(self, y):
        self.calls += 1
        return self.a.T @ y


@pytest.mark.parametrize("name", SOLVERS)
def test_counts(name):
    operator = Counting(matrix_for(name, 40))
    result = SOLVERS[name](operator, vector(40), tol=1e-8)
    assert sum(result.counts.values()) == operator.calls
    assert result.counts["matvec"] <= result.nit + 3 + result.nit // 32


def test_history_and_state():
    result = cg(definite(40), vector(40), check_every=5, tol=1e-8)
    assert isinstance(result.state, CGState)
    assert result.history["nit"] == [*range(0, result.nit, 5), result.nit]  # ends at the iteration that met it
    assert result.nit == cg(definite(40), vector(40), check_every=1, tol=1e-8).nit
    assert "residual" in str(result)
    assert len(cg(definite(40), vector(40), record=False).history) == 0


def test_shifted_operator_expression():
    """What hypergradients do: an expression of operators, solved without a matrix."""
    a = rectangular(30, 12)
    A = as_linear_operator(a)
    hessian = A.T @ A + Diagonal(np.geomspace(0.1, 10, 12), positive_semidefinite=True) + 0.5 * Identity(12)
    assert hessian.positive_semidefinite
    dense = a.T @ a + np.diag(np.geomspace(0.1, 10, 12)) + 0.5 * np.eye(12)
    assert_close(cg(hessian, np.ones(12), tol=1e-10).check().x, np.linalg.solve(dense, np.ones(12)), rtol=1e-7)


def test_gmres_is_optimal():
    """Each residual is the least over the Krylov space, by least squares on its basis; and the peer agrees."""
    n, a, b = 25, turning(25), vector(25)
    basis, v = [], b
    for nit in range(1, 12):
        basis.append(v)
        v = a @ (v / np.linalg.norm(v))
        K = np.linalg.qr(np.stack(basis, axis=1))[0]
        least = np.linalg.norm(b - a @ (K @ np.linalg.lstsq(a @ K, b, rcond=None)[0]))
        assert np.linalg.norm(b - a @ gmres(a, b, tol=None, maxiter=nit).x) <= least * (1 + 1e-8)
    assert gmres(a, b, tol=1e-10, restart=n, check_every=1).nit <= n
    peer, _ = scipy.sparse.linalg.gmres(a, b, rtol=0.0, restart=7, maxiter=3)
    assert_close(gmres(a, b, tol=None, restart=7, maxiter=21).x, peer, rtol=1e-7)


def test_gmres_where_residuals_stand_still():
    """A cyclic shift keeps the residual for n - 1 iterations; a shorter basis never gets there, and says so."""
    a, b = np.roll(np.eye(12), 1, axis=0), np.eye(12)[0]
    whole = gmres(a, b, check_every=1, restart=12).check()
    assert whole.nit == 12
    short = gmres(a, b, restart=5, maxiter=300)
    assert not short.success and short.certificate.value == pytest.approx(1.0)


@given(n=st.integers(1, 12), seed=st.integers(0, 99), restart=st.integers(1, 5))
def test_gmres_with_a_positive_symmetric_part_converges_for_any_basis(n, seed, restart):
    a, b = turning(n, 10.0, seed), vector((n, 2), seed)
    found = gmres(a, b, tol=1e-9, restart=restart, maxiter=2000, check_every=1).check()
    assert_close(a @ found.x, b, rtol=0, atol=1e-8 * np.abs(b).max())
    assert np.all(np.diff(found.history.array("stop")) <= 1e-14)


def test_gmres_with_a_preconditioner():
    a = np.diag(np.geomspace(1, 1e4, 30)) + turning(30, 5.0)
    inverse = np.linalg.inv(np.triu(a))
    plain, fast = (gmres(a, vector(30), tol=1e-9, check_every=1, preconditioner=m) for m in (None, inverse))
    assert fast.check().nit < 0.6 * plain.nit
