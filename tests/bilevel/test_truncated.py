"""Truncated back-propagation: derivatives, limits, memory, and what Adam does with them."""

import tracemalloc

import numpy as np
import pytest

from optlib.bilevel import CleaningProblem, Problem, QuadraticProblem, hypergradient, truncated
from tests.bilevel.problems import MAKERS


@pytest.mark.parametrize("name", ["logistic", "multinomial", "cleaning", "least squares"])
def test_full_reverse_is_the_derivative(name):
    """Of F after T steps of a fixed length, by central differences; forwards, backwards and recomputed alike."""
    problem = MAKERS[name](3)
    rng = np.random.default_rng(0)
    x, y = problem.start()
    x, u = x + 0.3 * rng.normal(size=x.shape), rng.normal(size=x.shape)
    c = 0.5 / problem.lipschitz(x)

    def value(x):
        z = y
        for _ in range(15):
            z = z - c * problem.inner(x, z)[2]
        return problem.outer(x, z)[0]

    options = {"mode": "reverse", "steps": 15, "step": c}
    h = hypergradient(problem, x, **options).gradient
    slope = (value(x + 1e-5 * u) - value(x - 1e-5 * u)) / 2e-5
    assert abs(slope - np.sum(h * u)) <= 1e-7 * (abs(slope) + 1.0)
    again = hypergradient(problem, x, recompute=True, **options)
    assert np.array_equal(again.gradient, h)
    assert again.counts["gradients"] <= 2 * 15 + 1
    few = [hypergradient(problem, x, truncate=7, recompute=r, **options).gradient for r in (False, True)]
    assert np.array_equal(*few)


def test_bias_decays_by_the_slowest_factor():
    """With a diagonal H each further step takes off the factor 1 - c mu from the error at a converged y."""
    problem = QuadraticProblem.random(6, 3, rng=2)
    problem.H = np.diag(np.linspace(1.0, 10.0, 6))
    x, y = np.ones(3), None
    exact = hypergradient(problem, x, tol=1e-13)
    y, errors = exact.y, []
    for K in (60, 61):
        h = hypergradient(problem, x, y=y, mode="reverse", steps=70, truncate=K, step=0.1).gradient
        errors.append(np.linalg.norm(h - exact.gradient))
    assert abs(errors[1] / errors[0] - 0.9) < 0.01


class Wide(Problem):
    """An inner problem with so many variables that its iterates are what memory holds."""

    def __init__(self, size):
        self.size = size

    def start(self):
        return np.zeros(1), np.zeros(self.size)

    def inner(self, x, y):
        r = y - x[0]
        return 0.5 * r @ r, np.array([-np.sum(r)]), r

    def outer(self, x, y):
        return 0.5 * y @ y - np.sum(y), np.zeros(1), y - 1.0

    def hvp(self, x, y, v):
        return v

    def cross_vjp(self, x, y, v):
        return np.array([-np.sum(v)])


def test_memory():
    """K iterates are kept, not T; with recomputation 2 sqrt(K)."""
    size = 20_000
    problem = Wide(size)

    def peak(**options):
        tracemalloc.start()
        hypergradient(problem, np.ones(1), mode="reverse", steps=100, step=0.1, **options)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top / (8 * size)

    spare = 12  # arrays in use at one time
    assert peak() > 100
    assert peak(truncate=10) <= 10 + spare
    assert peak(recompute=True) <= 20 + spare


@pytest.mark.parametrize("optimizer", ["adam", "gradient"])
def test_converges_to_the_solution(optimizer):
    """On a well-conditioned quadratic all settings find the closed-form minimiser."""
    problem = QuadraticProblem.random(5, 2, condition=3.0, rng=1)
    want = problem.solution()
    step = 0.05 if optimizer == "gradient" else lambda k: 0.3 * 0.95**k
    for options in ({}, {"start": "warm", "steps": 20}, {"direction": "forward", "steps": 30}):
        found = truncated(problem, truncate=60, step=step, optimizer=optimizer, maxiter=200, tol=1e-5, **options)
        assert np.max(np.abs(found.x - want)) <= 1e-3 * (1.0 + np.max(np.abs(want)))
        assert found.success == found.certificate.holds


def test_adam_cleans_labels():
    """The weights of samples with wrong labels fall below those of the others."""
    rng = np.random.default_rng(0)
    means = 3.0 * rng.normal(size=(3, 5))
    t, c = rng.integers(0, 3, 120), rng.integers(0, 3, 60)
    A, V = (means[k] + rng.normal(size=(len(k), 5)) for k in (t, c))
    wrong = rng.random(120) < 0.3
    problem = CleaningProblem(A, np.where(wrong, (t + 1) % 3, t), V, c)
    found = truncated(problem, step=0.3, maxiter=40, tol=None)
    assert found.fun < found.history["fun"][0]
    assert np.mean(found.x[wrong] < 0.0) > 0.9 and np.mean(found.x[~wrong] > 0.0) > 0.9
    assert np.max(np.abs(found.x)) <= 8.0


def test_an_unsolved_inner_problem_is_no_success():
    problem = QuadraticProblem.random(6, 2, condition=1e4, rng=0)
    found = truncated(problem, problem.solution(), steps=3, truncate=3, optimizer="gradient", step=1e-9, tol=0.3)
    assert not found.success and found.certificate.residual > 0.3
