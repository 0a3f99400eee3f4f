"""Single loops on batches: against plain loops, each other, exact hypergradients and theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optlib.bilevel import (
    CleaningProblem,
    CoshProblem,
    LogisticProblem,
    QuadraticProblem,
    RidgeProblem,
    bo_rep,
    f2sa,
    hypergradient,
    penalty,
    saba,
    soba,
)  # fmt: skip
from optlib.bilevel.problem import directions
from tests.bilevel.test_penalty import Plain

SOLVERS = [soba, saba, f2sa, bo_rep]


def start(problem, x):
    """Inner solution and adjoint at which the methods begin."""
    found = hypergradient(problem, x, tol=0.1)
    return found.y, found.q


@pytest.mark.parametrize("solver", [soba, saba])
@pytest.mark.parametrize("problem", [QuadraticProblem.random(5, 3, rng=0), LogisticProblem.random(30, 4, rng=1)])
def test_full_batches_are_the_plain_iteration(solver, problem):
    x = problem.start()[0] + 0.5
    y, q = start(problem, x)
    for _ in range(20):
        g, hq, cq = directions(problem, x, y, q, None)
        _, outer_x, outer_y = problem.outer(x, y)
        x, y, q = x - 0.03 * (outer_x - cq), y - 0.02 * g, q - 0.02 * (hq - outer_y)
    found = solver(problem, problem.start()[0] + 0.5, batch=None, step=0.02, outer_step=0.03, maxiter=20, tol=None)
    assert np.allclose(found.x, x, rtol=1e-10) and np.allclose(found.y, y, rtol=1e-10, atol=1e-12)
    assert np.allclose(found.state.q, q, rtol=1e-10, atol=1e-12)


def test_default_steps_of_soba_decay_over_epochs():
    """Forty steps on batches of an eighth of the samples, against steps that are given."""
    problem = CleaningProblem.random(64, 4, rng=0)
    first = 0.5 / float(problem.majorant(problem.start()[0], 8))
    options = {"batch": 8, "outer_step": 1e-12, "tol": None, "maxiter": 40, "rng": 0}
    one, other = (soba(problem, step=step, **options) for step in (None, lambda k: first / (1.0 + k / 8) ** 0.5))
    np.testing.assert_allclose(one.y, other.y, rtol=1e-6)


def test_bo_rep_is_the_plain_iteration():
    problem = CoshProblem.random(4, rng=3)
    x, m = np.full(4, 2.0), np.zeros(4)
    y, q = start(problem, x)
    for k in range(15):
        if k % 3 == 0:
            for _ in range(2):
                y = y - 0.1 * problem.inner(x, y)[2]
        _, hq, cq = directions(problem, x, y, q, None)
        _, outer_x, outer_y = problem.outer(x, y)
        m = 0.7 * m + 0.3 * (outer_x - cq)
        x, q = x - 0.05 * m / np.linalg.norm(m), q - 0.1 * (hq - outer_y)
    found = bo_rep(
        problem, np.full(4, 2.0), batch=None, period=3, inner_steps=2, beta=0.7, step=0.1, outer_step=0.05,
        maxiter=15, tol=None,
    )  # fmt: skip
    assert np.allclose(found.x, x, rtol=1e-10) and np.allclose(found.y, y, rtol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_reproducible(solver):
    problem = LogisticProblem.random(60, 4, rng=1)
    one, same, other = (solver(problem, batch=7, maxiter=40, tol=None, rng=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.x, same.x) and not np.array_equal(one.x, other.x)
    assert one.counts == same.counts and f"batches of {7}" in one.message
    low, high = one.x - 0.01, one.x + 0.01
    boxed = solver(problem, np.clip(problem.start()[0], low, high), bounds=(low, high), batch=7, maxiter=40, rng=0)
    assert np.all((boxed.x >= low) & (boxed.x <= high))


def test_saba_is_linear_where_soba_is_not():
    """Constant steps on a strongly convex problem seen through noise: one ends at the noise, the other at rounding."""
    problem = CoshProblem.random(4, n=40, noise=0.3, rng=0)
    options = {"batch": 4, "step": 0.1, "outer_step": 0.01, "rng": 0, "tol": None, "maxiter": 2000}
    noisy, exact = (solver(problem, np.full(4, 0.5), check_every=200, **options) for solver in (soba, saba))
    assert np.max(np.abs(noisy.x)) > 1e-3
    assert np.max(np.abs(exact.x)) < 1e-6
    values = np.array(exact.history["fun"])
    assert np.all(values[1:] < 0.2 * values[:-1])


@pytest.mark.parametrize("solver", [soba, saba])
@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_what_the_certificate_says_is_true(solver, seed):
    """Measured on all samples: close to the exact hypergradient, within the bound of the error."""
    problem = LogisticProblem.random(200, 4, rng=seed)
    found = solver(problem, batch=20, maxiter=400, check_every=100, tol=5e-2, rng=seed)
    exact = hypergradient(problem, found.x, tol=1e-12)
    assert np.linalg.norm(exact.gradient - found.hypergradient) <= found.error_bound * (1 + 1e-9)
    if found.success:
        assert found.fun <= 1.001 * found.history["fun"][0]
        low, high = problem.bounds()
        held = (found.x <= low) & (exact.gradient > 0) | (found.x >= high) & (exact.gradient < 0)
        assert np.max(np.abs(np.where(held, 0.0, exact.gradient))) <= 0.1 * exact.value


def test_success_is_not_rare():
    problems = [RidgeProblem.random(200, 4, rng=seed) for seed in range(5)]
    assert sum(saba(p, batch=20, maxiter=2000, tol=5e-2, rng=0, record=False).success for p in problems) >= 4


@pytest.mark.parametrize("plain", [False, True])
def test_f2sa_with_a_fixed_weight_ends_where_the_penalty_does(plain):
    problem = QuadraticProblem.random(4, 2, condition=3.0, rng=1)
    given_ = Plain(problem) if plain else problem
    want = penalty(problem, sigma=0.2, richardson=False, inner_tol=1e-7, tol=1e-7)
    found = f2sa(
        given_, batch=None, weight=5.0, growth=0.0, step=0.2, outer_step=0.05, tol=None, maxiter=800, inner_steps=5
    )
    assert np.allclose(found.x, want.x, atol=1e-5)
    loss = hypergradient(problem, want.x, tol=1e-10).value
    assert np.isclose(want.fun, loss, rtol=1e-4)
    assert found.fun <= loss  # the value of the penalised problem is below it


def test_f2sa_approaches_the_solution():
    """The weight grows, so that a growing part of the bias is gone."""
    problem = QuadraticProblem.random(4, 2, condition=3.0, rng=1)
    far = [
        np.linalg.norm(
            f2sa(problem, step=0.2, outer_step=0.05, tol=None, maxiter=n).x - problem.solution()
        )
        for n in (50, 200, 800)
    ]  # fmt: skip
    assert far[0] > 1.5 * far[1] > 3.0 * far[2]


def test_steps_of_bo_rep_have_the_length_asked_for():
    problem = CoshProblem.random(3, rng=0)
    found = bo_rep(
        problem, np.full(3, 6.0), outer_step=0.1, maxiter=30, tol=None, check_every=1, rng=0, record="iterates"
    )
    lengths = np.linalg.norm(np.diff(found.iterates, axis=0), axis=1)
    assert np.allclose(lengths, 0.1, rtol=1e-12)


class Scaled(CoshProblem):
    """The outer objective times a constant."""

    def outer(self, x, y, idx=None):
        return tuple(1e3 * u for u in super().outer(x, y, idx))


def test_bo_rep_does_not_see_the_scale_of_the_outer_objective():
    plain = CoshProblem.random(3, rng=0)
    scaled = Scaled(plain.A, plain.h, inner_noise=plain.inner_noise, outer_noise=plain.outer_noise)
    one, other = (bo_rep(p, np.full(3, 4.0), maxiter=50, tol=None, rng=0) for p in (plain, scaled))
    assert np.allclose(one.x, other.x, rtol=1e-9)


def test_bo_rep_at_rest_and_in_a_ball():
    """No direction, no step; an update of y ends within the radius."""
    problem = CoshProblem(np.eye(2), np.ones(2))
    rest = bo_rep(problem, np.zeros(2), maxiter=5, tol=None)
    assert np.all(rest.x == 0.0) and rest.success is False and np.isfinite(rest.fun)
    assert bo_rep(problem, np.zeros(2), maxiter=5).success
    options = {"outer_step": 1.0, "tol": None, "maxiter": 1, "step": 0.5, "rng": 0}
    near, free = (bo_rep(problem, np.full(2, 3.0), radius=r, **options) for r in (0.05, None))
    began = hypergradient(problem, np.full(2, 3.0), tol=0.1).y
    assert np.linalg.norm(near.y - began) <= 0.05 + 1e-12 < np.linalg.norm(free.y - began) + 0.06


def test_problems_that_are_no_sums_use_everything():
    found = saba(QuadraticProblem.random(4, 2, rng=0), tol=1e-3, maxiter=3000)
    assert found.success and "all samples" in found.message


def test_cleaning_finds_wrong_labels():
    """Weights of samples, one component a batch: wrong labels end with lower weights than right ones."""
    problem = CleaningProblem.random(300, 5, rng=4, ridge=0.01)
    host = np.random.default_rng(4)
    host.normal(size=(3, 5))
    kept = np.argmax(problem.train.t, axis=1) == np.arange(300) % 3
    found = soba(problem, batch=50, maxiter=600, tol=None, rng=0)
    assert np.mean(found.x[kept]) > np.mean(found.x[~kept]) + 0.1


@pytest.mark.parametrize("solver", [*SOLVERS, penalty])
def test_checkpoint(solver, tmp_path):
    problem, file = LogisticProblem.random(60, 4, rng=0), tmp_path / "run.npz"
    options = {"tol": None} if solver is penalty else {"tol": None, "batch": 7, "rng": 0}
    want = solver(problem, maxiter=8, **options)
    solver(problem, maxiter=3, checkpoint=file, **options)
    found = solver(problem, maxiter=8, checkpoint=file, **options)
    assert found.nit == 8 and np.array_equal(found.x, want.x) and found.counts == want.counts


@pytest.mark.parametrize("solver", [*SOLVERS, penalty])
def test_nothing_to_do(solver):
    """No signal in the data: the start is stationary, and says so."""
    nothing = np.zeros(5)
    problem = RidgeProblem(np.zeros((5, 2)), nothing, np.zeros((5, 2)), nothing)
    found = solver(problem, maxiter=20, **({} if solver is penalty else {"batch": 1, "rng": 0}))
    assert found.success and np.all(found.x == 0.0) and found.fun == 0.0
