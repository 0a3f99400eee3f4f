"""Group lasso: optimality conditions, the lasso as a special case, rules, dense and sparse samples."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from optlib.inner import block_coordinate_descent, coordinate_descent
from optlib.inner.block_coordinate_descent import block_minimiser
from optlib.testing import assert_close
from tests.inner.test_coordinate_descent import sample

LABELS = np.arange(30) * 7 % 11  # groups of two and three features, scattered


def violation(A, b, x, labels, l1, l2, constant):
    """How far a point is from the optimality conditions, in units of the penalties."""
    g, worst = A.T @ (b - A @ x - constant) / len(b) - l2 * x, 0.0
    for k in range(labels.max() + 1):
        own = labels == k
        norm = np.linalg.norm(x[own])
        away = np.linalg.norm(g[own] - l1 * x[own] / norm) if norm else max(np.linalg.norm(g[own]) - l1, 0.0)
        worst = max(worst, away / l1)
    return worst


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.8, 0.2, 0.02]), st.sampled_from([0.0, 0.1]), st.booleans(),
    st.sampled_from(["gs", "gsl", "gsq"]),
)  # fmt: skip
def test_optimality(seed, fraction, l2, intercept, rule):
    A, b = sample(seed, density=0.7)
    l1 = fraction * (np.max(np.abs(A.T @ (b - intercept * b.mean()))) / 20 + 1e-3)
    options = {"l2": l2, "intercept": intercept, "rule": rule}
    found = block_coordinate_descent(A, b, LABELS, l1, tol=1e-10, **options)
    if found.success:
        assert violation(A, b, found.x, LABELS, l1, l2, found.intercept) <= 1e-2
    sparse = block_coordinate_descent(sp.csc_array(A), b, LABELS, l1, tol=1e-10, **options)
    assert sparse.success == found.success or min(sparse.certificate.relative, found.certificate.relative) < 1e-7
    assert abs(sparse.fun - found.fun) <= sparse.certificate.value + found.certificate.value + 1e-12
    loose = block_coordinate_descent(A, b, LABELS, l1, tol=1e-2, **options)
    assert loose.success and loose.fun - found.fun + found.certificate.value >= -1e-12
    assert loose.fun - found.fun <= loose.certificate.value + 1e-12


@pytest.mark.parametrize("correlation", [0.5, 10.0])
def test_convergence_is_the_rule(correlation):
    """Nineteen in twenty random problems at least reach 1e-8, whatever the penalty, in few rounds."""
    found = []
    for seed in range(20):
        A, b = sample(seed, correlation=correlation)
        found.append(block_coordinate_descent(A, b, LABELS, 0.02 + 0.1 * (seed % 3), tol=1e-8, intercept=True))
    assert sum(f.success for f in found) >= 19 and max(f.nit for f in found) <= 20


def test_groups_of_one_feature_are_the_lasso():
    A, b = sample(0)
    single = block_coordinate_descent(A, b, 1, 0.2, tol=1e-12)
    assert_close(single.x, coordinate_descent(A, b, 0.2, tol=1e-12).x, rtol=1e-5, atol=1e-7)


def test_one_group():
    """All features in one group: the stationarity equation of a ridge whose strength is l1 / |x|."""
    A, b = sample(1, 40, 5)
    found = block_coordinate_descent(A, b, 5, 0.5, tol=1e-13)
    H = A.T @ A / 40 + 0.5 / np.linalg.norm(found.x) * np.eye(5)
    assert_close(found.x, np.linalg.solve(H, A.T @ b / 40), rtol=1e-6)


def test_backends(backend, engine):
    A, b = sample(2, 8, 6)
    want = block_coordinate_descent(A, b, 2, 0.3, tol=1e-10)
    found = block_coordinate_descent(
        backend.asarray(A), backend.asarray(b), 2, 0.3, tol=1e-10 if backend.is_double else 1e-5
    )
    assert found.success
    assert_close(found.x, backend.asarray(want.x), rtol=1e-4 if backend.is_double else 3e-2, atol=1e-4)


def test_working_sets_and_warm_starts():
    A, b = sample(3, 60, 400)
    l1 = 0.3 * np.max(np.abs(A.T @ b)) / 60
    cold = block_coordinate_descent(A, b, 4, l1, tol=1e-9, intercept=True)
    warm = block_coordinate_descent(A, b, 4, l1, tol=1e-9, intercept=True, init=cold.x)
    assert cold.success and warm.success and warm.nit <= cold.nit
    assert 0 < np.sum(cold.x != 0.0) < 200 and np.sum(cold.x != 0.0) % 4 == 0
    none = block_coordinate_descent(A, b, 4, 100.0)
    assert none.success and none.nit == 0 and not none.x.any()


@pytest.mark.parametrize("h", [[1.0, 1.0], [1.0, 1e-6], [1e4, 1.0], [0.0, 1.0]])
def test_block_minimiser(h):
    h, c = np.array(h), np.array([0.0 if h[0] == 0.0 else 3.0, -4.0])
    v = block_minimiser(c, h, np.asarray(0.5), np)
    assert np.max(np.abs(h * v - c + 0.5 * v / np.linalg.norm(v))) <= 1e-10
    assert not block_minimiser(c, h, np.asarray(5.1), np).any()
