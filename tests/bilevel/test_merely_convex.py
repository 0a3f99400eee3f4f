"""Inner problems with many minimisers: BDA and sl-BAMM against closed forms, differences, and each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.bilevel import CounterexampleProblem, QuadraticProblem, bamm, bda, hypergradient, tune
from tests.bilevel.problems import MAKERS


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 30))
def test_without_outer_descent_bda_is_unrolling(seed, steps):
    problem = MAKERS["logistic"](seed)
    x = np.random.default_rng(seed).normal(size=5)
    found = bda(problem, x, alpha=0.0, steps=steps, maxiter=0)
    want = hypergradient(problem, x, mode="reverse", steps=steps)
    assert abs(found.fun - want.value) <= 1e-12 * abs(want.value)
    assert np.allclose(found.hypergradient, want.gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["quadratic", "ridge", "logistic", "multinomial entry", "cleaning"])
@given(seed=st.integers(0, 2**32 - 1))
def test_gradient_of_the_recursion(name, seed):
    """Differences of ``F(x, y_K(x))``, for given steps."""
    problem, rng = MAKERS[name](seed), np.random.default_rng(seed)
    x, u = (0.5 * rng.normal(size=problem.start()[0].shape) for _ in range(2))
    options = {
        "steps": 12, "step": 1.0 / problem.lipschitz(x), "outer_step": 1.0 / problem.lipschitz_outer(x), "maxiter": 0,
        "bounds": (-50.0, 50.0),
    }  # fmt: skip
    found, h = bda(problem, x, **options), 1e-5
    ahead, behind = (bda(problem, x + s * u, **options).fun for s in (h, -h))
    scale = np.linalg.norm(found.hypergradient) * np.linalg.norm(u) + 1e-3 * abs(found.fun)
    assert abs((ahead - behind) / (2 * h) - np.sum(found.hypergradient * u)) <= 1e-6 * scale


@given(st.integers(0, 2**32 - 1))
def test_counterexample(seed):
    """The optimistic solution: nearer with more iterations; never where minimisers are taken for unique."""
    problem = CounterexampleProblem.random(rng=seed)
    size = np.abs(problem.solution()).max()
    errors = []
    for steps in (5, 20, 80):
        found = bda(problem, alpha=0.5, steps=steps)
        assert found.success and found.inner_norm < 0.1
        errors.append(np.abs(found.x - problem.solution()).max())
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.1 * size
    plain = bda(problem, alpha=0.0)
    assert np.allclose(plain.x, 0.5 * problem.target, atol=1e-3 * size)


@pytest.mark.parametrize("seed", range(3))
def test_strongly_convex(seed):
    """BDA tends to the implicit solution like 1 / K."""
    problem = QuadraticProblem.random(5, 3, condition=3.0, rng=seed)
    want = problem.solution()
    found = [bda(problem, steps=steps, tol=1e-4, maxiter=300) for steps in (20, 80)]
    assert found[1].success, found[1]
    errors = [np.linalg.norm(r.x - want) for r in found]
    assert errors[1] <= 0.5 * errors[0] and errors[1] <= 0.2 * (1.0 + np.linalg.norm(want))


@pytest.mark.parametrize("adjoint", ["schedule", "exact"])
@given(seed=st.integers(0, 2**32 - 1))
def test_bamm_without_averaging(adjoint, seed):
    """On strongly convex problems the fixed point is the solution of the bilevel problem."""
    problem = QuadraticProblem.random(4, 2, condition=3.0, rng=seed)
    found = bamm(problem, average=0.0, adjoint=adjoint, step=0.3, outer_step=0.03, maxiter=4000)
    want = problem.solution()
    if found.success:
        assert np.linalg.norm(found.x - want) <= 1e-2 * (1.0 + np.linalg.norm(want))
        assert np.linalg.norm(problem.inner(found.x, found.y)[2]) <= 1e-3 * (1.0 + np.linalg.norm(problem.l))
        q = np.linalg.solve(problem.H, problem.outer(found.x, found.y)[2])
        assert np.linalg.norm(found.state.v - q) <= 1e-3 * (1.0 + np.linalg.norm(q))
    else:  # the steps are for a certain curvature of Phi: where it is larger or smaller, that is said
        assert found.status in (1, 3), found


@pytest.mark.parametrize("schedule", ["s2", "s3"])
def test_bamm_counterexample(schedule):
    problem = CounterexampleProblem(np.ones(5))
    found = bamm(problem, schedule=schedule, step=0.5)
    assert found.success and np.abs(found.x - 1.0).max() < 1e-3 and np.abs(found.y - 1.0).max() < 1e-3
    assert found.mu == pytest.approx(0.9 * (found.nit + 1) ** -0.1)
    mixture = found.mu * problem.outer(found.x, found.y)[2] + (1 - found.mu) * problem.inner(found.x, found.y)[2]
    assert found.residuals[0] == pytest.approx(np.linalg.norm(mixture))


def test_an_average_is_not_the_inner_problem():
    """At an edge of the box the objectives pull apart: the answer is that of the mixture, and is no success."""
    problem = CounterexampleProblem(np.ones(2))
    found = bamm(problem, bounds=(-1.0, 0.5), step=0.5, tol=1e-3, maxiter=3000)
    u = found.y[0, :]
    assert np.allclose(found.mu * (u - 1.0) + (1.0 - found.mu) * (u - found.x), 0.0, atol=1e-2)
    assert not found.success and found.inner_norm > 0.1 and "inner gradient" in str(found)


def test_box_and_front_door():
    problem = CounterexampleProblem(np.ones(2))
    chosen = tune(problem, maxiter=10)
    assert chosen.method == "bamm" and "not strongly" in chosen.message
    for method in ("bda", "bamm"):
        found = tune(problem, method=method, bounds=(-1.0, 0.5))
        assert found.method == method and np.array_equal(found.x, [0.5, 0.5]) and found.at_bounds == 2
