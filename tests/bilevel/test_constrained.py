"""Inner problems with constraints: oracles, projections and LV-HBA against closed forms and SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from optlib.bilevel import AffineConstraintProblem, SumConstraintProblem, SVMProblem, check_problem, lv_hba, tune
from optlib.bilevel.lv_hba import LvHbaState
from optlib.geometry import project_intersection
from tests.bilevel.problems import OTHERS

NAMES = ("sum constraint", "affine constraint", "svm")


def feasible(problem, x, y, tol=1e-8):
    g = problem.constraints(x, y).value
    return np.all(np.abs(g) <= tol) if problem.equality else np.all(g <= tol)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32 - 1))
def test_joint_projection(name, seed):
    """Feasible, idempotent, and nearer than any other feasible point (by the obtuse angle)."""
    problem, rng = OTHERS[name](seed), np.random.default_rng(seed)
    points = [tuple(rng.normal(scale=3.0, size=u.shape) for u in problem.start()) for _ in range(2)]
    (x, y), (u, v) = points[0], problem.project_joint(*points[1])
    px, py = problem.project_joint(x, y)
    assert feasible(problem, px, py)
    again = problem.project_joint(px, py)
    assert np.allclose(px, again[0], atol=1e-9) and np.allclose(py, again[1], atol=1e-9)
    assert np.sum((x - px) * (u - px)) + np.sum((y - py) * (v - py)) <= 1e-7


@given(st.integers(0, 2**32 - 1))
def test_inner_solutions(seed):
    """`response` is the constrained minimiser; the closed form of the hyper-objective has the right derivative."""
    svm, rng = SVMProblem.random(8, 2, rng=seed), np.random.default_rng(seed)
    x = rng.normal(size=8)
    y = svm.response(x)
    found = minimize(
        lambda y: svm.inner(x, y)[0], np.r_[np.zeros(3), 2.0 * np.ones(8)], jac=lambda y: svm.inner(x, y)[2],
        method="SLSQP", options={"maxiter": 300, "ftol": 1e-12},
        constraints={"type": "ineq", "fun": lambda y: -svm.constraints(x, y).value},
    )  # fmt: skip
    assert feasible(svm, x, y) and svm.inner(x, y)[0] <= found.fun + 1e-6
    problem = AffineConstraintProblem.random(rng=seed)
    x, u = (problem.project_joint(*rng.normal(size=(2, 6)))[0] for _ in range(2))
    y, h = problem.response(x), 1e-6
    assert np.allclose(problem.A @ y, -problem.H @ x, atol=1e-7 * (1.0 + np.abs(y).max()))
    slope = (problem.reduced(x + h * u)[0] - problem.reduced(x - h * u)[0]) / (2 * h)
    gradient = problem.reduced(x)[1]
    assert abs(slope - gradient @ u) <= 1e-4 * (1.0 + np.linalg.norm(gradient) * np.linalg.norm(u)) * (1 + abs(y).max())


@pytest.mark.parametrize("repeat", range(3))
def test_gradient_of_the_value_function(repeat):
    """From an exact saddle point, a step goes along the derivative of ``F / c + f - v`` on the constraint."""
    rng = np.random.default_rng(repeat)
    problem, gamma, n = SumConstraintProblem(rng.normal(size=3)), 0.7, 3
    x, y = problem.project_joint(rng.normal(size=3), rng.normal(size=(2, 3)))
    z, row = rng.normal(size=1), np.full(2 * n, 1.0 / np.sqrt(3 * n))  # of the normalised constraint

    def saddle(x, y, z):
        """The stationarity system of the proximal Lagrangian: theta, lam, and its value."""
        D = np.diag(np.r_[np.ones(n), np.zeros(n)]) + np.eye(2 * n) / gamma
        K = np.block([[D, row[:, None]], [row[None, :], -np.eye(1) / gamma]])
        rhs = np.r_[y.ravel() / gamma + np.r_[x, -np.ones(n)], -z / gamma - np.sum(x) / np.sqrt(3 * n)]
        w = np.linalg.solve(K, rhs)
        theta, lam = w[:-1].reshape(2, n), w[-1:]
        g = (np.sum(x) + np.sum(theta)) / np.sqrt(3 * n)
        value = problem.inner(x, theta)[0] + lam[0] * g
        return theta, lam, value + (np.sum((theta - y) ** 2) - np.sum((lam - z) ** 2)) / (2.0 * gamma)

    def objective(w):
        x, y = w[:n], w[n:].reshape(2, n)
        return problem.outer(x, y)[0] + problem.inner(x, y)[0] - saddle(x, y, z)[2]

    theta, lam, _ = saddle(x, y, z)
    zero = np.zeros(())
    state = LvHbaState(x, y, z, theta, lam, zero, zero, 0, 0, 0, 0)
    alpha = 1e-3
    found = lv_hba(problem, x, init=state, gamma=gamma, alpha=alpha, tol=None, maxiter=1)
    step = (np.r_[x, y.ravel()] - np.r_[found.x, found.y.ravel()]) / alpha
    w, h = np.r_[x, y.ravel()], 1e-6
    gradient = np.array([(objective(w + h * e) - objective(w - h * e)) / (2 * h) for e in np.eye(3 * n)])
    assert np.allclose(step, gradient - gradient.mean(), atol=1e-6)
    assert np.allclose(found.state.lam, lam, atol=1e-10) and np.allclose(found.state.theta, theta, atol=1e-10)


def test_sum_constraint():
    """The published optimum and multiplier, from a far start, at feasible points only."""
    problem = SumConstraintProblem(np.ones(4))
    x, y = problem.solution()
    assert np.allclose(x, -0.3) and np.allclose(y, [[0.7] * 4, [-0.4] * 4])
    errors = []
    for n in (50, 500, 2000):
        found = lv_hba(problem, tol=None, maxiter=n)
        assert found.violation <= 1e-8 and feasible(problem, found.x, found.y)
        errors.append(np.linalg.norm(found.x - x) / np.linalg.norm(x))
    assert errors[2] <= 0.03 and errors[2] < errors[1] < errors[0]
    assert found.multipliers == pytest.approx(-1.0, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_any_target(seed):
    problem = SumConstraintProblem.random(3, rng=seed)
    found = lv_hba(problem, tol=0.03, maxiter=3000)
    x, _ = problem.solution()
    assert found.success and np.linalg.norm(found.x - x) <= 0.1 * (1.0 + np.linalg.norm(x)), found


def test_box_and_front_door():
    """The box of the user and the constraint of the problem hold together."""
    found = tune(SumConstraintProblem(np.ones(2)), bounds=(-0.2, 5.0), maxiter=500)
    assert found.method == "lv_hba" and "constraints" in found.message
    assert np.all(found.x >= -0.2 - 1e-9) and found.violation < 1e-8 and found.at_bounds == 2


def test_a_set_of_the_inner_variable():
    """`project_y` keeps the saddle point, `project_joint` the pair in the set of y; both by Dykstra's algorithm."""
    problem, n = SumConstraintProblem(np.ones(2)), 2
    free = problem.project_joint

    def joint(x, y):
        sets = [
            lambda w: np.concatenate([u.ravel() for u in free(w[:n], w[n:].reshape(2, n))]),
            lambda w: np.concatenate([w[:n], np.minimum(w[n:], 0.5)]),
        ]
        w = project_intersection(np.concatenate([x, y.ravel()]), sets)
        return w[:n], w[n:].reshape(2, n)

    problem.project_joint, problem.project_y = joint, lambda y: np.minimum(y, 0.5)
    found = lv_hba(problem, tol=None, maxiter=300)
    assert np.all(found.y <= 0.5 + 1e-9) and np.all(found.state.theta <= 0.5) and found.violation <= 1e-8
    assert np.max(found.y) >= 0.5 - 1e-6  # the set matters: u = 0.7 without it


def test_redundant_equalities():
    """A constraint that is there twice changes nothing but its multiplier."""
    rng = np.random.default_rng(0)
    A, H, B, c, d = rng.random((2, 4)), rng.random((2, 4)), rng.random((1, 4)), rng.random(4), rng.random(4)
    once, twice = (AffineConstraintProblem(A[k], H[k], B, c, d) for k in ([0, 1], [0, 1, 1]))
    found = [lv_hba(p, tol=None, maxiter=200) for p in (once, twice)]
    assert np.allclose(found[0].x, found[1].x, atol=1e-8)
    assert np.allclose(found[0].multipliers[1], found[1].multipliers[1:].sum(), atol=1e-8)


def test_costs_of_samples():
    """Per-sample costs lower the validation loss of the machine below that of equal costs."""
    problem = SVMProblem.random(30, 4, rng=2)
    x, y = problem.start()
    found = lv_hba(problem, gamma=10.0, penalty=0.1, tol=None, maxiter=400)
    value = problem.outer(found.x, problem.response(found.x))[0]
    assert value < 0.98 * problem.outer(x, y)[0] and found.violation <= 1e-8
    low, high = problem.bounds()
    assert np.all((found.x >= low) & (found.x <= high)) and np.all(found.multipliers >= 0.0)


def test_a_wrong_derivative_of_constraints_is_found():
    problem = OTHERS["svm"]()
    right = problem.constraints
    problem.constraints = lambda x, y: right(x, y)._replace(vjp_y=lambda lam: 1.01 * right(x, y).vjp_y(lam))
    with pytest.raises(AssertionError, match="constraints: vjp_y"):
        check_problem(problem)
