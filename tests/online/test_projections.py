"""Projections onto intersections against nonnegative least squares, linear programs and brute force."""

import itertools

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from optlib import geometry
from optlib.backend import to_numpy
from optlib.online import (
    Constraints,
    HalfSpaces,
    MetricOracle,
    correlation_clustering,
    dykstra,
    metric_nearness,
    project_and_forget,
)
from optlib.testing import assert_close


def triangles(n):
    """All triangle inequalities and nonnegativity on the pairs above the diagonal, as rows of ``A x <= 0``."""
    number = {pair: k for k, pair in enumerate(itertools.combinations(range(n), 2))}
    rows = []
    for (u, v), k in number.items():
        for w in set(range(n)) - {u, v}:
            row = np.zeros(len(number))
            row[k] = 1.0
            row[number[min(u, w), max(u, w)]] = row[number[min(w, v), max(w, v)]] = -1.0
            rows.append(row)
    return np.vstack([*rows, -np.eye(len(number))])


def nearest_metric(D, W):
    """The metric by the dual, a nonnegative least-squares problem."""
    n = len(D)
    above = np.triu_indices(n, 1)
    root = np.sqrt(W[above])
    A = triangles(n) / root
    z, _ = scipy.optimize.nnls(A.T, D[above] * root, maxiter=10_000)
    x = np.zeros((n, n))
    x[above] = (D[above] * root - A.T @ z) / root
    return x + x.T


def table(n, seed, sign=False):
    D = np.random.default_rng(seed).standard_normal((n, n))
    D = np.triu(D if sign else np.abs(D), 1)
    return D + D.T


@given(n=st.integers(2, 7), seed=st.integers(0, 999), sign=st.booleans(), weighted=st.booleans())
def test_nearest_metric(n, seed, sign, weighted):
    D = table(n, seed, sign)
    W = 0.2 + np.abs(table(n, seed + 1)) if weighted else np.ones((n, n))
    res = metric_nearness(D, weights=W if weighted else None, tol=1e-10)
    assert res.success
    assert_close(res.x, nearest_metric(D, W), rtol=0, atol=1e-4)
    assert_close(res.fun, 0.25 * np.sum(W * (res.x - D) ** 2), rtol=1e-9)
    best = 0.25 * np.sum(W * (nearest_metric(D, W) - D) ** 2)
    assert abs(res.fun - best) <= res.certificate.value + 1e-7


def test_only_what_is_active_is_remembered():
    res = metric_nearness(table(20, 0), tol=1e-9).check()
    assert res.constraints.bounds.size < 200  # of 3420
    slack = res.constraints.violations(np.triu(res.x, 1).reshape(-1))
    assert np.max(np.abs(slack)) < 1e-7
    target = np.triu(table(20, 0), 1).reshape(-1).copy()
    np.add.at(
        target,
        res.constraints.indices,
        -np.repeat(res.multipliers, np.diff(res.constraints.indptr)) * res.constraints.data,
    )
    assert_close(np.triu(res.x, 1).reshape(-1), target, rtol=0, atol=1e-12)  # stationarity, exactly


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_scale_does_not_matter(scale, engine):
    D = table(6, 3)
    assert_close(metric_nearness(scale * D).x, scale * metric_nearness(D).x, rtol=1e-9)


def test_a_metric_stays():
    points = np.random.default_rng(0).standard_normal((8, 3))
    D = np.linalg.norm(points[:, None] - points[None, :], axis=2)
    res = metric_nearness(D)
    assert res.nit == 0
    assert_close(res.x, D, rtol=1e-15)
    assert metric_nearness([[0.0]]).success
    assert metric_nearness(np.float32(D)).x.dtype == np.float32


def test_shortest_paths_of_the_oracle():
    from scipy.sparse.csgraph import floyd_warshall

    D = table(9, 1)
    found = MetricOracle(9)(np.triu(D, 1).reshape(-1))
    gaps = found.violations(np.triu(D, 1).reshape(-1))
    lengths = floyd_warshall(D)
    assert_close(np.sort(gaps), np.sort((D - lengths)[np.triu(lengths < D, 1)]), rtol=1e-9)


# --- half-spaces ---


def least_distance(A, b, x0):
    """Projection onto ``A x <= b`` by Lawson and Hanson's nonnegative least squares."""
    E, f = np.vstack([-A.T, (A @ x0 - b)[None, :]]), np.r_[np.zeros(A.shape[1]), 1.0]
    u, _ = scipy.optimize.nnls(E, f, maxiter=10_000)
    r = E @ u - f
    return x0 - r[:-1] / r[-1]


@given(n=st.integers(1, 5), k=st.integers(1, 12), seed=st.integers(0, 999))
def test_explicit_half_spaces(engine, n, k, seed):
    rng = np.random.default_rng(seed)
    A, x0 = rng.standard_normal((k, n)), 2.0 * rng.standard_normal(n)
    b = A @ rng.standard_normal(n) * 0.3 + rng.random(k)
    res = project_and_forget(x0, HalfSpaces(A, b), tol=1e-9, maxiter=3000)
    if res.success:
        assert_close(res.x, least_distance(A, b, x0), rtol=0, atol=1e-3)
    assert res.success or res.certificate.relative > 1e-9 or res.certificate.residual > 1e-9


def test_weights_and_user_oracles():
    """A polygon with very many sides: the disc, by its tangents."""

    def tangent(x):
        size = np.linalg.norm(x)
        if size <= 1.0:
            return Constraints(np.empty(0), np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0))
        return Constraints(x / size, np.arange(2), np.array([0, 2]), np.array([1.0]))

    res = project_and_forget([3.0, 4.0], tangent, tol=1e-6).check()
    assert_close(res.x, np.array([0.6, 0.8]), rtol=1e-5)
    heavy = project_and_forget([1.0, 1.0], HalfSpaces([[1.0, 1.0]], [1.0]), weights=[1.0, 3.0]).check()
    assert_close(heavy.x, np.array([0.25, 0.75]), rtol=1e-9)


def test_no_common_point_is_no_success():
    res = project_and_forget([0.0], HalfSpaces([[1.0], [-1.0]], [-1.0, -1.0]), maxiter=50)
    assert not res.success


# --- correlation clustering ---


def relaxation(W):
    """The linear program with all triangles."""
    n = len(W)
    cost = W[np.triu_indices(n, 1)]
    result = scipy.optimize.linprog(cost, A_ub=triangles(n), b_ub=np.zeros(len(triangles(n))), bounds=(0, 1))
    return result.fun + np.maximum(-cost, 0).sum()


def best_clustering(W):
    n = len(W)
    best = np.inf
    for labels in itertools.product(range(n), repeat=n):
        if all(labels[i] <= 1 + max(labels[:i], default=-1) for i in range(n)):
            same = np.equal.outer(labels, labels)
            best = min(best, 0.5 * np.sum(np.where(same, np.maximum(-W, 0), np.maximum(W, 0))))
    return best


@given(n=st.integers(2, 5), seed=st.integers(0, 999))
def test_clustering_bounds(n, seed):
    W = table(n, seed, sign=True)
    res = correlation_clustering(W).check()
    program, best = relaxation(W), best_clustering(W)
    total = np.sum(np.abs(np.triu(W, 1)))
    assert res.lower_bound <= program + 1e-9 * total
    assert program <= res.fun + 3e-2 * total
    assert res.lower_bound <= best + 1e-9 <= res.cost + 2e-9
    same = np.equal.outer(res.labels, res.labels)
    assert_close(res.cost, 0.5 * np.sum(np.where(same, np.maximum(-W, 0), np.maximum(W, 0))), rtol=1e-9, atol=1e-12)


def test_planted_clusters():
    rng = np.random.default_rng(0)
    planted = np.repeat([0, 1, 2], 6)
    W = np.where(np.equal.outer(planted, planted), 1.0, -1.0)
    flips = np.triu(rng.random((18, 18)) < 0.1, 1)
    W = np.where(flips | flips.T, -W, W)
    res = correlation_clustering(W).check()
    assert len(set(zip(planted.tolist(), res.labels.tolist(), strict=True))) == 3
    assert res.cost == flips.sum() == pytest.approx(res.lower_bound, abs=0.02 * 153)


# --- Dykstra ---


@given(seed=st.integers(0, 999), n=st.integers(1, 6))
def test_dykstra_on_a_simplex_with_a_cap(backend, seed, n):
    x0 = np.random.default_rng(seed).standard_normal(n)
    cap = 1.2 / n
    tol = 1e-7 if backend.is_double else 1e-4
    res = dykstra(backend.asarray(x0), [geometry.Simplex(n), geometry.Box(-np.inf, cap, n)], tol=tol)
    if res.success:
        assert_close(to_numpy(res.x), geometry.project_capped_simplex(x0, 1.0, cap), rtol=0, atol=10 * np.sqrt(tol))
    assert res.success or not backend.is_double


def test_dykstra_on_three_sets(engine):
    x0 = np.array([2.0, -1.0, 0.5])
    sets = [geometry.Ball(3, 1.0), geometry.Box(-0.2, 0.7, 3), geometry.Ball(3, 1.0, [0.5, 0.5, 0.0])]
    res = dykstra(x0, sets, tol=1e-9).check()
    best = scipy.optimize.minimize(
        lambda x: 0.5 * np.sum((x - x0) ** 2), np.zeros(3), jac=lambda x: x - x0, bounds=[(-0.2, 0.7)] * 3,
        constraints=[{"type": "ineq", "fun": lambda x: 1 - x @ x},
                     {"type": "ineq", "fun": lambda x: 1 - np.sum((x - [0.5, 0.5, 0.0]) ** 2)}],
        method="SLSQP", options={"ftol": 1e-12},
    )  # fmt: skip
    assert_close(res.x, best.x, rtol=0, atol=1e-5)
    assert res.fun == pytest.approx(best.fun, abs=1e-7)


def test_dykstra_inside_and_apart():
    assert dykstra([0.1, 0.0], [geometry.Ball(2), geometry.Ball(2, 2.0)]).nit == 0
    apart = dykstra([0.0, 0.0], [geometry.Ball(2, 1.0, [2.0, 0.0]), geometry.Ball(2, 0.5)], maxiter=100)
    assert not apart.success
