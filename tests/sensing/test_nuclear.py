"""Nuclear-norm methods against SciPy on the factored problem; certificates against linear programming and duality."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize

from optlib import sensing
from optlib.backend import to_numpy
from optlib.sensing import _lowrank
from tests.sensing.problems import completion, error, gaussian, low_rank, on


def factored_minimum(A, y, penalty, k, psd=False):
    """``min |A(F G') - y|^2 / 2 + penalty (|F|^2 + |G|^2) / 2``, which is the convex minimum for k large enough."""
    n1, n2 = A.matrix_shape

    def fun(v):
        F = v[: n1 * k].reshape(n1, k)
        G = F if psd else v[n1 * k :].reshape(n2, k)
        r, left, right = A.gradient(F, G, y)
        value = 0.5 * np.sum(r**2) + 0.5 * penalty * (np.sum(F**2) + np.sum(G**2))
        if psd:
            return value, (left + right + 2 * penalty * F).ravel()
        return value, np.concatenate([(left + penalty * F).ravel(), (right + penalty * G).ravel()])

    start = np.random.default_rng(0).normal(size=n1 * k if psd else (n1 + n2) * k)
    return minimize(fun, start, jac=True, tol=1e-12, options={"maxiter": 5000}).fun


def top(problem, psd=False):
    Z = problem.A.adjoint(problem.y)
    return np.linalg.eigvalsh(0.5 * (Z + Z.T))[-1] if psd else np.linalg.norm(Z, 2)


@pytest.mark.parametrize("psd", [False, True])
@pytest.mark.parametrize("reg", [0.3, 0.03])
def test_fista_against_scipy(reg, psd):
    problem = gaussian(0, 10, 9, 2, over=2.0, psd=psd)
    result = sensing.fista(*problem[:2], reg=reg, psd=psd, tol=1e-9)
    peer = factored_minimum(*problem[:2], reg * top(problem, psd), 5, psd)
    assert result.success
    assert abs(result.fun - peer) <= 1e-8 * peer


@pytest.mark.parametrize("reg", [0.3, 0.03])
def test_soft_impute_against_scipy_and_fista(reg):
    problem = completion(0, 14, 2, m=120)
    result = sensing.soft_impute(*problem[:2], reg=reg)
    peer = factored_minimum(*problem[:2], reg * top(problem), 5)
    assert result.success
    assert abs(result.fun - peer) <= 1e-5 * peer
    faster = sensing.recover(*problem[:2], method="fista", reg=reg)
    assert faster.fun == pytest.approx(result.fun, rel=1e-5)
    assert faster.nit < result.nit


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.5))
def test_gap_bounds_the_distance_at_every_iteration(seed, reg):
    """Weak duality: no later objective is lower than an earlier one less its gap."""
    problem = gaussian(seed % 100, 6, 5, 1, over=2.0)
    go = {"reg": reg, "tol": 1e-10}
    best = sensing.fista(*problem[:2], **go)
    early = sensing.fista(*problem[:2], **(go | {"maxiter": 3}))
    assert best.fun >= early.fun - early.certificate.value - 1e-10
    if reg >= 1.0:
        assert early.rank == 0
        assert early.success


def test_all_entries_have_a_closed_form(backend):
    M = np.random.default_rng(0).normal(size=(7, 5))
    i, j = np.divmod(np.arange(35), 5)
    A = sensing.EntrySampling(i, j, (7, 5), like=backend.asarray([0.0]))
    U, s, Vt = np.linalg.svd(M, full_matrices=False)
    expected = (U * np.maximum(s - 0.4 * s[0], 0.0)) @ Vt
    for method in (sensing.fista, sensing.soft_impute):
        result = method(A, backend.asarray(M.ravel()), reg=0.4)
        assert result.success
        atol = 1e-3 if backend.is_double else 1e-2
        np.testing.assert_allclose(to_numpy(result.matrix.toarray()), expected, atol=atol)


def test_large_matrices_are_not_formed(monkeypatch):
    problem = completion(1, 60, 2, m=1500)
    dense = sensing.soft_impute(*problem[:2], reg=0.1)
    monkeypatch.setattr(_lowrank, "DENSE", 100)
    monkeypatch.setattr(sensing.EntrySampling, "_adjoint", None)
    for method in (sensing.soft_impute, sensing.fista):
        result = method(*problem[:2], reg=0.1)
        assert result.success
        assert not result.certificate.proof
        assert result.fun == pytest.approx(dense.fun, rel=1e-5)


def test_path_ends_at_the_same_minimum():
    problem = completion(2, 30, 2, m=500)
    one, path = (sensing.soft_impute(*problem[:2], reg=0.02, path=p) for p in (1, 6))
    assert path.success
    assert path.fun == pytest.approx(one.fun, rel=1e-4)


def test_bias_and_its_cure():
    problem = completion(3, 60, 2, m=1800)
    biased = sensing.fista(*problem[:2], reg=0.05)
    assert 1e-2 < error(biased, problem) < 0.5
    fit = sensing.levenberg_marquardt(*problem[:2], rank=biased.rank, init=biased.factors)
    assert error(fit, problem) < 1e-10


def test_svt_completes():
    problem = completion(4, 50, 2, m=1400)
    result = sensing.svt(*problem[:2])
    assert result.success
    assert error(result, problem) < 1e-4
    # Dual and primal of the paper's problem, from their definitions.
    dense = result.matrix.toarray()
    tau = 5.0 * 50 * np.sqrt(np.mean(problem.y**2))
    value = tau * np.sum(np.linalg.svd(dense)[1]) + 0.5 * np.sum(dense**2)
    z = result.state.z
    s = np.linalg.svd(problem.A.adjoint(z))[1]
    dual = z @ problem.y - 0.5 * np.sum(np.maximum(s - tau, 0.0) ** 2)
    assert result.fun == pytest.approx(value)
    assert abs(value - dual) == pytest.approx(result.certificate.value, abs=1e-8 * value)


# -- certificates --


@pytest.mark.parametrize("psd", [False, True])
def test_nuclear_certificate_where_it_exists(psd):
    """With ample measurements it holds, and convex optimisation finds the same matrix; with few it does not."""
    problem = gaussian(0, 12, 12, 1, over=4.0, psd=psd)
    result = sensing.recover(*problem[:2], rank=1, psd=psd)
    certificate = sensing.nuclear_certificate(problem.A, result)
    assert certificate.holds
    assert certificate.proof
    convex = sensing.fista(*problem[:2], reg=1e-4, psd=psd, tol=1e-12, maxiter=20_000)
    assert error(convex, problem) < 5e-3
    few = gaussian(0, 12, 12, 3, over=1.2, psd=psd)
    fits = sensing.recover(*few[:2], rank=3, psd=psd)
    lacking = sensing.nuclear_certificate(few.A, (few.left, few.right))
    assert not lacking.holds, fits
    smaller = sensing.fista(*few[:2], reg=1e-5, psd=psd, tol=1e-12, maxiter=5000)
    nuclear = np.sum(np.linalg.svd(few.left @ few.right.T)[1])
    found = np.sum(np.linalg.svd(smaller.matrix.toarray())[1])
    assert nuclear - lacking.value - 1e-6 <= found < nuclear  # weak duality


def test_nuclear_certificate_in_factored_form(backend, monkeypatch):
    problem = gaussian(1, 10, 8, 1, over=4.0)
    A, _ = on(backend, problem)
    factors = backend.asarray(problem.left), backend.asarray(problem.right)
    assert sensing.nuclear_certificate(A, factors).holds
    monkeypatch.setattr(_lowrank, "DENSE", 1)
    estimate = sensing.nuclear_certificate(A, factors)
    assert estimate.holds
    assert not estimate.proof


def corrupted(seed, share):
    problem, rng = gaussian(seed, 8, 7, 1, over=6.0), np.random.default_rng(seed)
    y, bad = problem.y.copy(), rng.random(problem.y.size) < share
    y[bad] += 10.0 * np.std(y) * rng.normal(size=bad.sum())
    return problem, y, bad


def test_l1_certificate_against_the_primal_linear_programme():
    """The linearised problem min |r + J d|_1 has no value below |r|_1 less the gap."""
    problem, y, bad = corrupted(0, 0.2)
    certificate = sensing.l1_certificate(problem.A, y, (problem.left, problem.right))
    assert certificate.holds
    assert f"{bad.sum()} of {y.size}" in certificate.note
    U, V = problem.left / np.linalg.norm(problem.left), problem.right
    D = [np.outer(e, V[:, 0]) for e in np.eye(8)] + [np.outer(U[:, 0], e) for e in np.eye(7)]
    J = np.stack([problem.A.forward(d) for d in D], axis=1)

    def least(r):
        m, d = J.shape
        cost = np.concatenate([np.zeros(d), np.ones(m)])
        upper = np.block([[J, -np.eye(m)], [-J, -np.eye(m)]])
        return linprog(cost, A_ub=upper, b_ub=np.concatenate([-r, r]), bounds=(None, None)).fun

    r = problem.A.forward_factored(problem.left, problem.right) - y
    assert least(r) == pytest.approx(np.sum(np.abs(r)))
    # Most of the measurements are of twice the matrix: no certificate, and the programme does better.
    y = np.where(np.arange(y.size) < 0.6 * y.size, 2.0, 1.0) * problem.y
    lacking = sensing.l1_certificate(problem.A, y, (problem.left, problem.right))
    r = problem.y - y
    assert not lacking.holds
    assert np.sum(np.abs(r)) - lacking.value - 1e-9 <= least(r) < np.sum(np.abs(r)) - 0.1


def test_sharp_minimum_is_a_minimum():
    problem, y, _ = corrupted(2, 0.25)
    result = sensing.recover(problem.A, y, rank=1, loss="l1")
    assert sensing.l1_certificate(problem.A, y, result).holds
    base, rng = np.sum(np.abs(problem.A.forward_factored(*result.factors) - y)), np.random.default_rng(0)
    for _ in range(50):
        left, right = (u + 1e-4 * rng.normal(size=u.shape) for u in result.factors)
        assert np.sum(np.abs(problem.A.forward_factored(left, right) - y)) > base


@pytest.mark.parametrize("psd", [False, True])
def test_identifiability_by_products_only(psd, monkeypatch):
    problem = gaussian(3, 14, 12, 2, over=2.0, kappa=100.0, psd=psd)
    point = (problem.left, problem.right)
    point = tuple(np.sqrt(np.linalg.norm(problem.left, axis=0)) * u for u in _unit(point)) if psd else point
    exact = sensing.identifiability(problem.A, point, psd=psd)
    monkeypatch.setattr(type(problem.A), "_sides", sensing.SensingOperator._sides)
    by_products = sensing.identifiability(problem.A, point, psd=psd)
    np.testing.assert_allclose(by_products, exact, rtol=0.03)
    assert by_products[0] >= exact[0] * (1 - 1e-9)


def _unit(point):
    return tuple(u / np.linalg.norm(u, axis=0) for u in point)


def test_underdetermined_is_not_identifiable(monkeypatch):
    problem = gaussian(4, 14, 12, 2, over=0.9)
    monkeypatch.setattr(type(problem.A), "_sides", sensing.SensingOperator._sides)
    smallest, largest = sensing.identifiability(problem.A, (problem.left, problem.right))
    assert smallest < 1e-6 * largest
    result = sensing.recover(*problem[:2], rank=2)
    assert "not identifiable" in str(result.certificate)
    assert result.identifiability == 0.0


def test_identifiability_of_completion():
    left, right = low_rank(np.random.default_rng(0), 12, 10, 2)
    A = sensing.random_entries((12, 10), 100, rng=0)
    smallest, largest = sensing.identifiability(A, (left, right))
    assert 0.0 < smallest < largest <= 1.0 + 1e-12
