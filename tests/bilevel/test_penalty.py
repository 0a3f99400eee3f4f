"""First-order tuning: bounds and orders of the penalty, closed forms, problems with gradients alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optlib.bilevel import (
    CounterexampleProblem,
    LassoProblem,
    LogisticProblem,
    Problem,
    QuadraticProblem,
    RidgeProblem,
    TotalVariationProblem,
    hypergradient,
    penalty,
    quasi_newton,
    tune,
)  # fmt: skip
from optlib.experiments import log_slope
from tests.bilevel.problems import MAKERS

SIGMAS = (1e-1, 3e-2, 1e-2, 3e-3)


def at(problem, x, sigma, richardson=False):
    return penalty(problem, x, sigma=sigma, richardson=richardson, inner_tol=1e-9, maxiter=0)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_orders_and_the_lower_bound(seed):
    """The errors are linear in sigma, quadratic when extrapolated, and the penalty never exceeds the objective."""
    problem = QuadraticProblem.random(5, 3, rng=seed)
    x = np.random.default_rng(seed).normal(size=3)
    exact = hypergradient(problem, x, tol=1e-12)
    scale = np.linalg.norm(exact.gradient) + abs(exact.value)
    for richardson, slope in ((False, 1.0), (True, 2.0)):
        found = [at(problem, x, 0.1 * s, richardson) for s in SIGMAS]
        errors = [np.linalg.norm(f.hypergradient - exact.gradient) for f in found]
        assert abs(log_slope(SIGMAS, errors) - slope) < 0.15
        if not richardson:
            assert all(f.penalised <= exact.value + 1e-9 * scale for f in found)
            assert found[0].penalised < found[-1].penalised
        assert all(abs(f.fun - exact.value) <= 1e-6 * scale for f in found)


class Plain(Problem):
    """Gradients only, of a problem that has more."""

    hvp = cross_vjp = cross_jvp = None

    def __init__(self, given):
        self.start, self.inner, self.outer, self.bounds = given.start, given.inner, given.outer, given.bounds


class Free(QuadraticProblem):
    """Outer values that do not depend on y."""

    def outer(self, x, y):
        return 0.5 * np.sum((x - 1.0) ** 2), x - 1.0, np.zeros_like(y)


@pytest.mark.parametrize("sigma", [1.0, 1e-2])
def test_exact_where_the_outer_objective_is_free_of_y(sigma):
    problem = Free.random(4, 2, rng=0)
    found = penalty(problem, np.zeros(2), sigma=sigma, richardson=False)
    assert found.success and np.allclose(found.x, 1.0, atol=1e-3)
    assert np.allclose(at(problem, np.zeros(2), sigma).hypergradient, -1.0, atol=1e-9)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("sigma", [1.0, 0.1, 1e-3])
def test_merely_convex_closed_form(sigma, plain):
    """The gradient is ``(x - target) / (1 + sigma)`` for every sigma; the solution is the optimistic one."""
    problem = CounterexampleProblem([1.0, -2.0, 0.5])
    x = np.array([3.0, 1.0, -4.0])
    given = Plain(problem) if plain else problem
    found = at(given, x, sigma)
    assert np.allclose(found.hypergradient, (x - problem.target) / (1.0 + sigma), rtol=1e-5)
    best = penalty(given, x, sigma=sigma)
    assert best.success and np.allclose(best.x, problem.solution(), atol=2e-3)
    assert best.fun < 1e-5  # of the minimisers of the inner problem, the one that the outer one chooses


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("seed", [0, 2])
def test_tunes_as_well_as_exact_gradients(seed, plain):
    """Stationary by exact hypergradients, and the value is that of the hyper-objective."""
    problem = LogisticProblem.random(30, 4, rng=seed)
    found = penalty(Plain(problem) if plain else problem, maxiter=60)
    exact = hypergradient(problem, found.x, tol=1e-10)
    low, high = problem.bounds()
    inside = np.where((found.x <= low) & (exact.gradient > 0) | (found.x >= high) & (exact.gradient < 0), 0, 1)
    assert found.success, found
    assert np.max(np.abs(inside * exact.gradient)) <= 1.5e-3 * abs(exact.value)
    assert abs(found.fun - exact.value) <= 1e-4 * exact.value
    assert found.fun < hypergradient(problem, problem.start()[0]).value


@pytest.mark.parametrize("seed", [0, 1])
def test_denoising_without_products(seed):
    problem = TotalVariationProblem.random(rng=seed, noise=0.3, smoothing=0.1)
    found = penalty(Plain(problem))
    assert found.success and np.isclose(found.fun, quasi_newton(problem).fun, rtol=1e-5)


def test_tune_takes_it_where_there_are_no_products():
    problem = RidgeProblem.random(60, 3, rng=2)
    found = tune(Plain(problem))
    assert found.method == "penalty" and found.success and "no products" in found.message
    assert found.fun <= quasi_newton(problem).fun * (1 + 1e-3)
    with pytest.raises(TypeError, match=r"`problem`.*`penalty`"):
        quasi_newton(Plain(problem))


def test_value_where_there_are_kinks():
    """L-BFGS does not solve the penalised inner problem: no success, but the value is that of the inner solution."""
    problem = LassoProblem.random(40, 20, rng=0)
    found = tune(problem, method="penalty", maxiter=5)
    exact = hypergradient(problem, found.x, tol=1e-10).value
    assert not found.success and np.isclose(found.fun, exact, rtol=1e-4)


def test_an_unsolved_inner_problem_is_no_success():
    problem = MAKERS["logistic"](0)
    problem.solve_inner = lambda x, y, tol: (y, {})
    found = penalty(problem, maxiter=20)
    assert not found.success and found.certificate.residual > 1.0
