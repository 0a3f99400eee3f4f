"""MAID: every bound it states is one, it descends, and what it reaches does not depend on the first accuracy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import Status
from optlib.bilevel import LeastSquaresProblem, RidgeProblem, hoag, hypergradient, maid, scalar
from tests.bilevel.problems import MAKERS


def followed(problem, *args, exact, **options):
    """The result, and at every step the true value, true error of the gradient and what was claimed of both."""
    rows = []

    def look(intermediate_result):
        s = intermediate_result.state
        value, gradient = exact(s.x)
        rows.append((value, np.linalg.norm(s.gradient - gradient), s.error, s.value, s.slope, s.distance))

    found = maid(problem, *args, callback=look, **options)
    return found, np.array(rows)


def closed_form(problem):
    J = -np.linalg.solve(problem.H, problem.A.T @ problem.B)

    def exact(x):
        value, _, grad_y = problem.outer(x, problem.response(x))
        return value, J.T @ grad_y

    return exact


@given(st.integers(0, 1000), st.sampled_from([1e-1, 1e-3, 1e-5]), st.booleans())
def test_bounds_and_descent(seed, eps, certified):
    """On least squares: error below its bound, value in its interval, exact values that fall, whatever the accuracy."""
    problem = LeastSquaresProblem.random(30, 4, 3, rng=seed)
    exact = closed_form(problem)
    found, rows = followed(problem, exact=exact, eps=eps, delta=eps, certified=certified, maxiter=25)
    if certified:
        assert np.all(rows[:, 1] <= rows[:, 2] * (1 + 1e-9) + 1e-12)
        width = (rows[:, 4] + 0.5 * np.linalg.norm(problem.V, 2) ** 2 * rows[:, 5]) * rows[:, 5]
        assert np.all(np.abs(rows[:, 0] - rows[:, 3]) <= width + 1e-12)
        low, high = found.interval
        assert low <= rows[-1, 0] + 1e-12 and rows[-1, 0] <= high + 1e-12
    assert np.all(np.diff(rows[:, 0]) < 0.0)
    if found.success:
        assert np.linalg.norm(exact(found.x)[1]) <= 1e-3 * abs(found.fun) * (1 + 1e-6)


@pytest.mark.parametrize("name", ["logistic", "multinomial", "ridge"])
def test_penalties(name):
    """Certified and estimated bounds on penalties, whose constants change with the point."""
    problem = MAKERS[name](4)

    def exact(x):
        h = hypergradient(problem, x, tol=1e-12)
        return h.value, h.gradient

    for certified in (True, False):
        found, rows = followed(problem, exact=exact, certified=certified, maxiter=12, tol=None, bounds=(-3.0, 6.0))
        assert np.all(rows[:, 1] <= rows[:, 2] * (1 + 1e-6) + 1e-10)
        assert np.all(np.diff(rows[:, 0]) < 0.0)
        assert certified == found.certificate.proof


def test_the_first_accuracy_does_not_matter():
    """Over four decades: the same value to the tolerance, the same last step, work within a tenth."""
    problem = LeastSquaresProblem.random(200, 5, 5, rng=0)
    found = [maid(problem, eps=e, delta=e, step=0.01, tol=None, maxiter=100) for e in (1e-1, 1e-3, 1e-5)]
    work = [res.counts["gradients"] for res in found]
    assert max(work) <= 1.1 * min(work)
    assert np.ptp([res.fun for res in found]) <= 0.02 * found[0].fun


def test_solution():
    problem = LeastSquaresProblem.random(40, 4, 1, rng=3)
    x = problem.solution()
    assert np.linalg.norm(closed_form(problem)(x)[1]) < 1e-9
    best, found = closed_form(problem)(x)[0], maid(problem, tol=1e-3, maxiter=300)
    assert found.success and best <= found.interval[1] and found.fun <= 1.001 * best
    assert np.linalg.norm(problem.response(x) - hypergradient(problem, x, tol=1e-12).y) < 1e-9


def test_box():
    """One penalty whose best value lies outside the box: the edge is a certified answer there."""
    problem = RidgeProblem.random(40, 5, rng=1, penalty="scalar")
    best = float(scalar(problem).x[0])
    found = maid(problem, [best + 2.0], bounds=(best + 1.0, best + 4.0), maxiter=100, tol=1e-5)
    assert found.success and found.at_bounds == 1 and found.x[0] == best + 1.0


@pytest.mark.parametrize("inner", ["accelerated_gradient", "newton"])
def test_accuracy_floor(inner):
    """A tolerance below rounding ends at the floor, and says so; the bound stays a bound."""
    problem = LeastSquaresProblem.random(40, 3, 1, rng=2)
    found = maid(problem, tol=1e-16, maxiter=500, inner=inner)
    assert found.status is Status.STALLED and not found.success and "floor" in found.certificate.note
    assert np.linalg.norm(closed_form(problem)(found.x)[1]) <= found.certificate.value * (1 + 1e-6) + 1e-10
    assert found.nit < 500


@pytest.mark.parametrize("solver", [hoag, maid])
def test_inner_solvers_agree(solver):
    """Whatever solves the inner problem: the same hyperparameters, from the same schedule of accuracies."""
    problem = MAKERS["logistic"](2)
    found = [
        solver(problem, inner=inner, tol=None, maxiter=5, bounds=(-2.0, 4.0))
        for inner in ("auto", "newton", "lbfgs", "accelerated_gradient")
    ]
    for res in found[1:]:
        assert abs(res.fun - found[0].fun) <= 1e-2 * abs(found[0].fun)
        assert res.counts["gradients"] > 0
