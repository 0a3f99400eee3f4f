"""Infinite costs are pairs that must not be used."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from optlib.backend import to_numpy
from optlib.transport import solve
from tests.transport.test_sinkhorn import plan_of


def feasible(n, m, seed, density=0.4):
    """Random masses of a plan on a random support."""
    rng = np.random.default_rng(seed)
    allowed = rng.random((n, m)) < density
    allowed[np.arange(n), rng.integers(m, size=n)] = True
    allowed[rng.integers(n, size=m), np.arange(m)] = True
    plan = np.where(allowed, rng.random((n, m)) + 0.05, 0.0)
    plan /= plan.sum()
    return np.where(allowed, rng.random((n, m)), math.inf), plan.sum(axis=1), plan.sum(axis=0)


def linear_program(cost, a, b):
    n, m = cost.shape
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    allowed = np.isfinite(cost).ravel()
    solved = linprog(
        np.where(allowed, cost.ravel(), 0.0), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a, b]),
        bounds=[(0, None if ok else 0) for ok in allowed], method="highs",
    )  # fmt: skip
    return solved.fun if solved.status == 0 else None


@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 0.1, 0.01, 1e-4]))
def test_no_mass_on_forbidden_pairs(n, m, seed, reg):
    cost, a, b = feasible(n, m, seed)
    got = solve(cost, a, b, reg=reg)
    assert got.success, got
    plan, forbidden = plan_of(got), np.isinf(cost)
    assert plan[forbidden].sum() <= 1e-12
    assert np.abs(plan.sum(axis=1) - a).sum() + np.abs(plan.sum(axis=0) - b).sum() <= 1e-6
    low, high = got.lp_bounds
    exact = linear_program(cost, a, b)
    assert low - 1e-7 <= exact <= high + 1e-7


def test_the_entropic_plan_is_that_of_the_allowed_pairs():
    cost, a, b = feasible(8, 6, 0)
    kernel = np.where(np.isfinite(cost), np.exp(-np.where(np.isfinite(cost), cost, 0.0) / 0.1), 0.0)
    v = np.ones(6)
    for _ in range(20_000):
        u = a / (kernel @ v)
        v = b / (kernel.T @ u)
    got = plan_of(solve(cost, a, b, reg=0.1, tol=1e-10))
    assert np.max(np.abs(got - u[:, None] * kernel * v)) < 1e-9


@pytest.mark.parametrize("reg", [0.0, 0.1])
def test_a_support_without_a_plan_is_refused(reg):
    cost = np.asarray([[0.0, math.inf], [1.0, 0.5]])
    with pytest.raises(ValueError, match=r"`cost`.*a mass of 0\.2 without a way.*unbalanced"):
        solve(cost, [0.7, 0.3], [0.5, 0.5], reg=reg)
    with pytest.raises(ValueError, match=r"`cost`.*infinite entries only"):
        solve(np.full((2, 2), math.inf), reg=reg)


def test_supports_without_room():
    """The only plan uses fewer pairs than are allowed: potentials would be infinite, but the plan is found."""
    cost = np.asarray([[0.0, 0.0], [math.inf, 0.0]])
    got = solve(cost, [0.5, 0.5], [0.5, 0.5], reg=0.1)
    assert np.isfinite(plan_of(got)).all()
    assert np.allclose(plan_of(got), [[0.5, 0.0], [0.0, 0.5]], atol=1e-5)


def test_unbalanced_mass_without_a_way_is_dropped():
    cost = np.asarray([[0.0, math.inf], [1.0, 0.5]])
    got = solve(cost, [0.7, 0.3], [0.5, 0.5], reg=0.05, unbalanced=1.0)
    assert got.success, got
    assert plan_of(got)[0, 1] <= 1e-15
    assert 0.5 < plan_of(got).sum() < 1.0


def test_other_libraries(backend):
    cost, a, b = feasible(5, 4, 1)
    got = solve(*(backend.asarray(u) for u in (cost, a, b)), reg=0.05)
    assert got.success, got
    want = plan_of(solve(cost, a, b, reg=0.05))
    assert np.max(np.abs(to_numpy(got.plan.toarray()) - want)) < (1e-6 if backend.is_double else 1e-5)
