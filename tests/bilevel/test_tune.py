"""Tuning: against grids, closed forms and local optimality; any start; the box; warnings; resumption."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.bilevel import (
    LogisticProblem,
    MultinomialProblem,
    Point,
    Problem,
    QuadraticProblem,
    RidgeProblem,
    hoag,
    hypergradient,
    quasi_newton,
    scalar,
    tune,
)  # fmt: skip
from tests.bilevel.problems import MAKERS

CLASSES = (RidgeProblem, LogisticProblem, MultinomialProblem)


def sample(cls, seed=0, n=60, d=8, **options):
    return cls.random(n, d, rng=seed, penalty="scalar", **options)


@pytest.mark.parametrize("cls", CLASSES)
@given(seed=st.integers(0, 1000), start=st.sampled_from([-12.0, -5.0, 0.0, 7.0, 12.0]))
def test_scalar_beats_the_neighbourhood(cls, seed, start):
    """From any start: a point that no point nearby improves on by more than the tolerance, or an edge."""
    problem = sample(cls, seed)
    found = scalar(problem, [start])
    assert found.success, found
    for shift in (-0.5, -0.1, 0.1, 0.5):
        other = hypergradient(problem, np.clip(found.x + shift, -12.0, 12.0), tol=1e-9).value
        assert found.fun <= other * (1.0 + 2e-4)
    exact = hypergradient(problem, found.x, tol=1e-10)
    assert abs(exact.value - found.fun) <= 1e-4 * abs(exact.value)  # the tolerance; as a rule a tenth of it


@pytest.mark.parametrize("cls", CLASSES)
def test_scalar_reaches_the_grid(cls):
    """A unimodal case: within the tolerance of the best of 97 values, with a tenth of the solves."""
    problem = sample(cls, 1)
    grid = [hypergradient(problem, np.array([x]), tol=1e-8).value for x in np.linspace(-12, 12, 97)]
    found = scalar(problem)
    assert found.fun <= min(grid) * (1 + 1e-4) and found.nit <= 15
    low, high = found.bracket
    assert low <= found.x[0] <= high


def test_scalar_edge_of_the_box():
    problem = sample(RidgeProblem, 1)
    best = scalar(problem).x[0]
    found = scalar(problem, bounds=(best + 1.0, best + 4.0))
    assert found.success and found.at_bounds == 1 and found.x[0] == best + 1.0
    assert "edge of the box" in str(found)
    assert scalar(problem, bounds=(best - 4.0, best + 4.0)).at_bounds == 0


@given(st.integers(0, 1000))
def test_scalar_far_from_everything(seed):
    """Separable samples and a penalty of 2e-9: the inner solution is far, and its value must not be taken too early."""
    rng = np.random.default_rng(seed)
    A, V, w = rng.normal(size=(40, 5)), rng.normal(size=(40, 5)), rng.normal(size=5)
    problem = LogisticProblem(A, np.sign(A @ w), V, np.sign(V @ w + 0.5 * rng.normal(size=40)), penalty="scalar")
    found = scalar(problem, [-20.0], bounds=(-20.0, 12.0))
    exact = hypergradient(problem, found.x, tol=1e-11).value
    assert abs(exact - found.fun) <= 1e-4 * exact or not found.success
    assert exact <= (1.0 + 1e-6) * hypergradient(problem, np.array([-20.0]), tol=1e-11).value
    if found.nit < 20 and not found.at_bounds:
        nearby = [hypergradient(problem, found.x + s, tol=1e-9).value for s in (-0.3, 0.3)]
        assert exact <= min(nearby) * (1.0 + 2e-4)


@given(st.integers(0, 1000))
def test_quadratic_solution(seed):
    problem = QuadraticProblem.random(6, 4, rng=seed)
    found = quasi_newton(problem, np.ones(4), tol=1e-3)
    best = hypergradient(problem, problem.solution(), tol=1e-12).value
    assert found.success and found.fun - best <= 1e-4 * abs(best) + 1e-9


@pytest.mark.parametrize("name", ["ridge", "logistic", "multinomial entry", "cleaning"])
@given(seed=st.integers(0, 1000))
def test_quasi_newton_descends(name, seed):
    """Lower than the start, stationary when it says so, inside the box; values as accurate as claimed."""
    problem = MAKERS[name](seed)
    found = quasi_newton(problem, maxiter=60)
    start = hypergradient(problem, problem.start()[0], tol=1e-9).value
    exact = hypergradient(problem, found.x, tol=1e-9)
    low, high = problem.bounds()
    assert exact.value <= start + 1e-9 * abs(start)
    assert np.all((found.x >= low) & (found.x <= high))
    assert abs(exact.value - found.fun) <= 1e-3 * abs(start) + 1e-9
    values = found.history["fun"]
    assert values[-1] <= values[0]
    if found.success:
        inside = np.where(
            (found.x <= low) & (exact.gradient > 0) | (found.x >= high) & (exact.gradient < 0), 0, exact.gradient
        )
        assert np.max(np.abs(inside)) <= 3e-3 * abs(exact.value) + 1e-5


def test_tune_chooses_and_warns():
    one = tune(sample(RidgeProblem))
    assert one.method == "scalar" and "one hyperparameter" in one.message
    problem = RidgeProblem.random(100, 10, rng=3)
    many = tune(problem)
    assert many.method == "quasi_newton" and "common penalty" in many.message
    tied = scalar(problem.tied())
    assert many.fun <= tied.fun * (1 + 1e-6)
    with pytest.warns(UserWarning, match="validation samples"):
        tune(RidgeProblem.random(12, 5), maxiter=3)
    assert tune(problem, method=quasi_newton, maxiter=2).nit == 2


@pytest.mark.parametrize("many", [False, True])
def test_an_inner_problem_that_was_not_solved_is_no_success(many):
    problem = MAKERS["logistic" if many else "logistic intercept"](0)
    problem.solve_inner = lambda x, y, tol: (y, {})
    found = (quasi_newton if many else scalar)(problem, maxiter=20)
    assert not found.success and found.certificate.residual > 0.1


def test_bounds_of_the_common_penalty():
    """Numbers, arrays and lists; a box without a common penalty is started from its nearest point."""
    problem = RidgeProblem.random(60, 3, rng=1)
    for low, high in (
        ([-1.0, -2.0, -3.0], 5.0),
        (np.array([-3.0, 2.0, 2.0]), np.array([0.0, 4.0, 4.0])),
        (-np.inf, 2.0),
    ):
        found = tune(problem, bounds=(low, high))
        assert np.all((found.x >= low) & (found.x <= high))


def test_resumption_of_a_scan():
    """A search that began with a scan of the box continues as if it had not stopped."""
    problem = RidgeProblem.random(40, 6, rng=5, penalty="scalar")
    whole = scalar(problem, [12.0], maxiter=8, tol=None)
    part = scalar(problem, [12.0], maxiter=8, tol=None, init=scalar(problem, [12.0], maxiter=3, tol=None))
    assert whole.state.points.startswith(part.state.points[:-1].split("], [")[0])
    assert part.nit == 11


def test_checkpoint(tmp_path):
    problem, file = MAKERS["logistic"](2), tmp_path / "run.npz"
    want = quasi_newton(problem, maxiter=10, tol=None)
    quasi_newton(problem, maxiter=4, tol=None, checkpoint=file)
    found = quasi_newton(problem, maxiter=10, tol=None, checkpoint=file)
    assert found.nit == 10 and np.array_equal(found.x, want.x)


@pytest.mark.parametrize("schedule", ["exponential", "quadratic", "cubic", "exact"])
def test_hoag_schedules(schedule):
    """Every schedule ends within 1e-3 of the best of a grid, the inexact ones with a fraction of the gradients."""
    problem = LogisticProblem.random(200, 20, rng=0, penalty="scalar")
    grid = [hypergradient(problem, np.array([x]), tol=1e-8).value for x in np.linspace(-12, 12, 61)]
    found = hoag(problem, schedule=schedule, tol=1e-3, maxiter=200)
    assert found.success, found
    assert found.fun <= 1.001 * min(grid)


def test_hoag_takes_back_what_is_worse():
    """From a point where the first step overshoots, values rise by at most a fifth and the constant grows."""
    problem = sample(RidgeProblem, 3)
    found = hoag(problem, [-10.0], maxiter=60, tol=None)
    values = found.history["fun"]
    assert all(b <= 1.2 * a for a, b in pairwise(values))
    assert values[-1] < values[0]


def test_hoag_does_not_swing_for_ever():
    """With the published rule all schedules end between two points here, 30 % above the best."""
    rng = np.random.default_rng([int(np.random.default_rng(0).integers(2**63)), 8])
    problem = LogisticProblem.random(200, 50, rng=rng, penalty="scalar")
    best = scalar(problem).fun
    for schedule in ("exponential", "quadratic"):
        assert hoag(problem, schedule=schedule, inner="lbfgs", maxiter=30).fun <= 1.001 * best


class Interpolation(Problem):
    """Fewer samples than features: ``f = 1/2 |A y - t - B x|^2`` has an affine space of solutions."""

    def __init__(self, seed, samples=4, d=7, p=3, products_only=False):
        rng = np.random.default_rng(seed)
        self.A, self.B, self.t = rng.normal(size=(samples, d)), rng.normal(size=(samples, p)), rng.normal(size=samples)
        self.V, self.c = rng.normal(size=(6, d)), rng.normal(size=6)
        if not products_only:
            self.hessian = lambda x, y: self.A.T @ self.A

    def start(self):
        return np.ones(self.B.shape[1]), np.zeros(self.A.shape[1])

    def inner(self, x, y):
        r = self.A @ y - self.t - self.B @ x
        return 0.5 * r @ r, -self.B.T @ r, self.A.T @ r

    def outer(self, x, y):
        r = self.V @ y - self.c
        return 0.5 * r @ r + 0.05 * x @ x, 0.1 * x, self.V.T @ r

    def at(self, x, y):
        return Point(
            hvp=lambda v: self.A.T @ (self.A @ v), cross_vjp=lambda v: -self.B.T @ (self.A @ v),
            cross_jvp=lambda u: -self.A.T @ (self.B @ u),
        )  # fmt: skip


@pytest.mark.parametrize("products_only", [False, True])
@given(seed=st.integers(0, 1000))
def test_cold_starts_where_the_inner_solution_is_not_unique(products_only, seed):
    """A cold start gives the solution of least norm, a warm one warns; fitting again tells the two apart."""
    problem = Interpolation(seed, products_only=products_only)
    problem.bounds = lambda: (-3.0, 3.0)
    far = problem.start()[1] + np.linalg.svd(problem.A)[2][-1]
    cold = hoag(problem, start="cold", refit=True, maxiter=3, tol=None)
    least = np.linalg.pinv(problem.A) @ (problem.t + problem.B @ cold.x)
    assert np.linalg.norm(cold.refit_y - least) <= 1e-5 * (1.0 + np.linalg.norm(least))
    with pytest.warns(UserWarning, match="without curvature"):
        warm = hoag(
            problem,
            refit=True,
            maxiter=0,
            init=hoag(problem, start="cold", maxiter=0).state._replace(y=far, gradient=None),
        )
    assert abs(warm.y @ far) > 0.5 and abs(warm.refit_y @ far) < 1e-5 and warm.refit_fun != warm.fun
    assert "after training from the start" in str(warm)


@pytest.mark.parametrize("name", ["logistic intercept", "ridge intercept", "logistic"])
def test_starts_agree_where_it_is_unique(name):
    """And no warning: warnings are errors here."""
    problem = MAKERS[name](1)
    for solver in (scalar,) if name == "logistic intercept" else (quasi_newton, hoag):
        cold, warm = (solver(problem, start=s, maxiter=15, tol=None, refit=True) for s in ("cold", "warm"))
        for found in (cold, warm):
            assert abs(found.refit_fun - found.fun) <= 1e-2 * abs(found.fun)
            assert np.max(np.abs(found.refit_y - found.y)) <= 1e-2 * (1.0 + np.max(np.abs(found.y)))
