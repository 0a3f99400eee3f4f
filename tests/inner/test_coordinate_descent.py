"""Lasso and elastic net: optimality conditions, closed forms, peers; dense, sparse, weighted, centred."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from optlib.inner import coordinate_descent
from optlib.testing import assert_close


def sample(seed, n=20, p=30, density=1.0, correlation=0.5):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, p)) + correlation * rng.normal(size=(n, 1))
    A *= rng.random((n, p)) < density
    return A, A[:, :3] @ [2.0, -1.0, 1.0] + 0.5 * rng.normal(size=n) + 1.0


def largest(A, b):
    return np.max(np.abs(A.T @ b)) / len(b)


def violation(A, b, x, l1, l2, constant=0.0, weights=None):
    """How far a point is from the optimality conditions, in units of the penalties."""
    weights = np.ones(len(b)) if weights is None else weights / np.mean(weights)
    g = A.T @ (weights * (b - A @ x - constant)) / len(b) - l2 * x
    return np.max(np.where(x == 0.0, np.maximum(np.abs(g) - l1, 0.0), np.abs(g - l1 * np.sign(x))) / l1)


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.9, 0.3, 0.03]), st.sampled_from([0.0, 0.1]), st.booleans(),
    st.booleans(), st.sampled_from([1.0, 0.3]),
)  # fmt: skip
def test_optimality(seed, fraction, l2, each, intercept, density):
    """The conditions hold, the gap bounds the distance from the minimum, dense and sparse agree."""
    A, b = sample(seed, density=density)
    weights = np.random.default_rng(seed).uniform(0.0, 2.0, 20) if each else None
    l1 = fraction * (largest(A, b) + 1e-3) * (np.linspace(0.5, 2.0, 30) if each else 1.0)
    options = {"l2": l2, "intercept": intercept, "sample_weight": weights}
    found = coordinate_descent(A, b, l1, tol=1e-12, **options)
    assert found.success and found.certificate.proof
    assert violation(A, b, found.x, l1, l2, found.intercept, weights) <= 1e-4
    sparse = coordinate_descent(sp.csc_array(A), b, l1, tol=1e-12, **options)
    assert sparse.success and abs(sparse.fun - found.fun) <= 1e-11 * (found.fun + 1.0)
    loose = coordinate_descent(A, b, l1, tol=1e-2, **options)
    assert -1e-12 <= loose.fun - found.fun <= loose.certificate.value + 1e-12
    if not intercept:
        assert found.intercept == 0.0


def test_closed_form(backend, engine):
    """Orthonormal features: soft thresholds; the elastic net shrinks them."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 5)))[0]
    b = Q @ np.array([3.0, -2.0, 0.5, 1.5, -0.1]) + 0.0
    z = Q.T @ b / 8
    found = coordinate_descent(
        backend.asarray(Q), backend.asarray(b), 0.1, l2=0.2, tol=1e-10 if backend.is_double else 1e-5
    )
    want = np.sign(z) * np.maximum(np.abs(z) - 0.1, 0.0) / (1.0 / 8 + 0.2)
    assert found.success
    assert_close(found.x, backend.asarray(want), rtol=1e-6 if backend.is_double else 1e-3, atol=1e-6)


@pytest.mark.peers
@pytest.mark.parametrize("form", [np.asfortranarray, np.ascontiguousarray, sp.csc_matrix, sp.csr_array])
def test_scikit_learn(form):
    from sklearn.linear_model import ElasticNet

    A, b = sample(3, 60, 200)
    penalty = 0.1 * largest(A, b - b.mean())
    weights = np.random.default_rng(1).uniform(0.1, 2.0, 60)
    peer = ElasticNet(alpha=penalty, l1_ratio=0.7, tol=1e-12, max_iter=100_000).fit(form(A), b, sample_weight=weights)
    found = coordinate_descent(
        form(A), b, 0.7 * penalty, l2=0.3 * penalty, intercept=True, sample_weight=weights, tol=1e-13
    )
    assert found.success and abs(found.intercept - peer.intercept_) < 1e-6
    assert_close(found.x, peer.coef_, rtol=1e-5, atol=1e-7)


def test_more_features_than_a_working_set():
    """Several rounds; a warm start takes fewer; the answer does not depend on it."""
    A, b = sample(0, 100, 1000)
    penalty = 0.05 * largest(A, b)
    cold = coordinate_descent(A, b, penalty, tol=1e-12)
    near = coordinate_descent(A, b, 1.2 * penalty, tol=1e-3)
    warm = coordinate_descent(A, b, penalty, init=near.x, tol=1e-12)
    assert cold.success and warm.success and warm.nit < cold.nit
    assert_close(warm.x, cold.x, rtol=1e-6, atol=1e-8)
    assert np.sum(cold.x != 0.0) <= 100
    assert cold.history["stop"][-1] <= 1e-12


def test_degenerate():
    """Penalties that kill everything, features that are zero, constant or twice there, targets that are zero."""
    A, b = sample(5, 15, 6)
    A[:, 1], A[:, 2], A[:, 4] = 0.0, 3.0, A[:, 3]
    none = coordinate_descent(A, b, 1.001 * largest(A, b))
    assert none.success and none.nit == 0 and not none.x.any()
    for intercept in (False, True):
        for form in (np.asarray, sp.csc_array):
            found = coordinate_descent(form(A), b, 0.01 * largest(A, b), intercept=intercept, tol=1e-10)
            assert found.success and found.x[1] == 0.0 and (found.x[2] == 0.0 or not intercept)
    for target in (np.zeros(15), np.ones(15)):
        assert coordinate_descent(A, target, 1.0, intercept=True).success
    assert coordinate_descent(np.ones((3, 0)), np.ones(3), 1.0).success
    assert coordinate_descent(np.ones((1, 1)), [2.0], 1.0, tol=1e-12).x[0] == 1.0


def test_weights_repeat_samples():
    A, b = sample(7, 12, 20)
    counts = np.arange(12) % 3
    twice = coordinate_descent(np.repeat(A, counts, axis=0), np.repeat(b, counts), 0.1, intercept=True, tol=1e-13)
    weighted = coordinate_descent(A, b, 0.1, intercept=True, sample_weight=counts, tol=1e-13)
    assert_close(weighted.x, twice.x, rtol=1e-7, atol=1e-9)
    assert abs(weighted.intercept - twice.intercept) < 1e-8 and abs(weighted.fun - twice.fun) < 1e-12


def test_precision_out_of_reach():
    A, b = sample(1)
    found = coordinate_descent(A, b, 0.1, tol=1e-30)
    assert not found.success or found.certificate.value <= 1e-30
    assert found.nit < 100 and violation(A, b, found.x, 0.1, 0.0) < 1e-9
