"""Cournot and monopoly brackets: closed forms of the duopoly and of affine equilibria, and their order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.bilevel import EquilibriumProblem, RidgeProblem, StackelbergProblem, hierarchy_free, tune
from optlib.testing import assert_close


def duopoly(T, a=10.0, b=1.0, c1=1.0, c2=2.0, r=0.3):
    """Profits of the two games, from their first-order conditions by hand."""
    share = 0.5 * (1.0 - (1.0 - 2.0 * r * b) ** T)  # how much of the follower's answer is foreseen
    x = (a - 2.0 * c1 + c2) / (2.0 * b * (1.5 - share))
    cournot = x * (a - b * (x + (a - c2 - b * x) / (2.0 * b)) - c1)
    x = (a - c1 - share * (a - c2)) / (2.0 * b * (1.0 - share))
    return cournot, x * (a - c1 - share * (a - c2) - b * x * (1.0 - share))


@pytest.mark.parametrize("T", [0, 1, 2, 4, 8])
def test_duopoly(T):
    found = hierarchy_free(StackelbergProblem(step=0.3), steps=T, tol=1e-10).check()
    cournot, monopoly = duopoly(T)
    assert found.upper == pytest.approx(-cournot, rel=1e-8)
    assert found.lower == pytest.approx(-monopoly, rel=1e-8)
    assert found.gap == found.upper - found.lower and "between" in str(found.certificate)


@given(st.integers(0, 1000), st.integers(0, 3))
def test_bracket_and_closed_form(seed, T):
    """Affine followers: the Cournot point solves two linear equations; the value lies between the bounds."""
    problem = EquilibriumProblem.random(4, 2, rng=seed)
    found = hierarchy_free(problem, steps=T, tol=1e-6, maxiter=500)
    Q, B, c, r = problem.Q, problem.B, problem.c, problem.step
    power = np.linalg.matrix_power(np.eye(4) - r * Q, T)
    J = -(np.eye(4) - power) @ np.linalg.solve(Q, B)  # of h^T in x
    # y = -Q^-1 (B x + c), as y = h(x, y), and rho x + J' (y - target) = 0, as h^T(x, y) = y
    S = np.linalg.solve(Q, B)
    x = np.linalg.solve(
        problem.rho * np.eye(2) - J.T @ S, J.T @ (problem.target + np.linalg.solve(Q, c))
    )  # fmt: skip
    best = float(problem.outer(problem.solution(), problem.response(problem.solution()))[0])
    if found.success:
        assert_close(found.x, x, rtol=0, atol=1e-3)
        assert_close(found.y, problem.response(x), rtol=0, atol=1e-3)
    assert found.upper >= best - 1e-4 and found.lower <= best + 1e-9


def test_bounds_tighten():
    """With bounded followers both sides close in."""
    problem = EquilibriumProblem.random(3, 2, rng=4, low=-1.0, high=1.0, skew=0.3)
    best = tune(problem, tol=1e-7).fun
    found = [hierarchy_free(problem, steps=T, tol=1e-6, maxiter=1000) for T in (0, 2, 6)]
    uppers, lowers = ([getattr(f, name) for f in found] for name in ("upper", "lower"))
    assert sorted(uppers, reverse=True) == pytest.approx(uppers) and uppers[-1] >= best - 1e-6
    assert sorted(lowers) == pytest.approx(lowers) and lowers[-1] <= best + 1e-6
    assert found[-1].gap < 0.7 * found[0].gap


def test_minimisation_as_inner_problem():
    """Also for a symmetric inner problem: ridge with one penalty, whose Cournot bound is a feasible value."""
    problem = RidgeProblem.random(30, 4, rng=2, penalty="scalar")
    best = tune(problem).fun
    found = hierarchy_free(problem, steps=4, bounds=(-3.0, 3.0), maxiter=200)
    assert found.upper >= best * (1 - 1e-6) and found.lower <= best
