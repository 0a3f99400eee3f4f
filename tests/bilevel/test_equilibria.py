"""Equilibria: the variational inequality itself, hypergradients without symmetry and at active bounds, closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.bilevel import EquilibriumProblem, StackelbergProblem, hypergradient, tune
from optlib.testing import assert_close

MODES = ("gmres", "fixed_point", "neumann", "reverse", "forward")
BOXES = ((-np.inf, np.inf), (-0.3, 0.3), (0.0, np.inf))


@given(st.integers(0, 2**32 - 1), st.sampled_from(BOXES), st.sampled_from([0.0, 1.0, 3.0]))
def test_the_variational_inequality_holds(seed, box, skew):
    """``<phi, z - y*> >= 0`` at all corners of the box, or phi >= 0 where there is no upper bound."""
    problem = EquilibriumProblem.random(4, 2, rng=seed, low=box[0], high=box[1], skew=skew)
    x = np.random.default_rng(seed).normal(size=2)
    y = problem.response(x)
    phi = problem.Q @ y + problem.B @ x + problem.c
    assert np.all((y >= box[0] - 1e-12) & (y <= box[1] + 1e-12))
    gain = np.where(phi > 0, phi * (y - box[0]) if box[0] > -np.inf else np.abs(phi), 0.0)
    loss = np.where(phi < 0, phi * (y - box[1]) if box[1] < np.inf else np.abs(phi), 0.0)
    assert np.max(gain) <= 1e-10 and np.max(loss) <= 1e-10
    other = problem.project_y(y - 0.7 * phi)
    assert_close(other, y, rtol=0, atol=1e-10)


@given(st.integers(0, 2**32 - 1), st.sampled_from(BOXES))
def test_hypergradients(seed, box):
    """All modes agree with each other and, off kinks, with differences of Phi."""
    problem = EquilibriumProblem.random(5, 3, rng=seed, low=box[0], high=box[1], skew=0.5)
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(2, 3))
    found = hypergradient(problem, x, tol=1e-12)
    assert found.mode == "gmres" and found.converged
    for mode in MODES[1:]:
        other = hypergradient(problem, x, mode=mode, tol=1e-8, steps=300)
        assert_close(other.gradient, found.gradient, rtol=1e-3, atol=1e-3)
    h = 1e-5
    ends = [hypergradient(problem, x + s * u, tol=1e-12) for s in (h, -h)]
    inside = [problem._residual(x, end.y)[2] for end in ends]
    if np.all(inside[0] == inside[1]):
        slope = (ends[0].value - ends[1].value) / (2 * h)
        assert abs(slope - found.gradient @ u) <= 1e-6 * (1.0 + abs(slope))


@given(st.integers(0, 1000))
def test_solution(seed):
    problem = EquilibriumProblem.random(6, 3, rng=seed)
    found = tune(problem, tol=1e-6)
    assert_close(found.x, problem.solution(), rtol=0, atol=1e-5)
    assert found.success


@given(st.floats(3.0, 20.0), st.floats(0.2, 3.0), st.floats(0.0, 4.0), st.floats(0.0, 4.0))
def test_stackelberg(a, b, c1, c2):
    """Against a grid of quantities, also where the follower is kept away."""
    problem = StackelbergProblem(a, b, c1, c2)
    x = problem.solution()
    assert 0.0 <= x[0] <= a / b + 1e-12
    best = float(problem.outer(x, problem.response(x))[0])
    for z in np.linspace(0.0, a / b, 101):
        y = np.maximum((a - c2 - b * np.array([z])) / (2 * b), 0.0)
        assert_close(problem.response(np.array([z])), y, rtol=1e-9, atol=1e-9)
        assert best <= float(problem.outer(np.array([z]), y)[0]) + 1e-9


def test_numbers_of_the_duopoly():
    found = tune(StackelbergProblem(), tol=1e-8)
    assert_close(found.x, np.array([5.0]), rtol=1e-5)
    assert_close(found.y, np.array([1.5]), rtol=1e-5)
    assert found.fun == pytest.approx(-12.5) and found.success
