"""Self-tuning: the exact response of ridge regression as the oracle, first-order problems, and nets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optlib
from optlib.bilevel import (
    LogisticProblem,
    QuadraticProblem,
    RidgeProblem,
    ShallowNetProblem,
    check_problem,
    hypergradient,
    ridge_best_response,
    scalar,
    self_tuning,
    tune,
)  # fmt: skip
from optlib.testing import assert_close


def ridge(seed=3, n=60, d=20):
    rng = np.random.default_rng(seed)
    A, V = rng.normal(size=(2, n, d))
    w = 0.3 * rng.normal(size=d)
    return RidgeProblem(A, A @ w + rng.normal(size=n), V, V @ w + rng.normal(size=n), penalty="scalar")


@given(seed=st.integers(0, 1000), shape=st.sampled_from([(12, 5), (5, 12), (6, 6)]), x=st.floats(-6.0, 6.0))
def test_gates(seed, shape, x):
    """The gated network is the ridge solution, for every penalty; its slope is that of the implicit function."""
    problem = RidgeProblem.random(*shape, rng=seed, penalty="scalar")
    A, t = problem.regression()
    at, response = np.array([x]), ridge_best_response(problem)
    H = A.T @ A + np.exp(x) * np.eye(shape[1])
    y = np.linalg.solve(H, A.T @ t)
    assert_close(response(at), y, rtol=1e-8, atol=1e-10)
    assert_close(response.derivative(at), -np.exp(x) * np.linalg.solve(H, y), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("scale", [0.05, 0.1])
def test_small_perturbations_find_the_optimum(scale):
    problem = ridge()
    exact = scalar(problem, tol=1e-8)
    found = self_tuning(problem, scale=scale, rng=0).check()
    assert abs(found.x[0] - exact.x[0]) <= 0.05 and found.fun <= 1.001 * exact.fun
    slope = ridge_best_response(problem).derivative(found.x)
    assert np.linalg.norm(found.slope[0] / scale - slope) <= 0.1 * np.linalg.norm(slope)
    assert abs(found.fun - hypergradient(problem, found.x).value) <= 1e-6 * found.fun


def test_bias_grows_with_the_scale():
    problem = ridge()
    best = scalar(problem, tol=1e-8).fun
    excess = [self_tuning(problem, scale=s, rng=0, maxiter=300).fun - best for s in (0.05, 0.5, 1.5)]
    assert excess[0] < excess[1] < excess[2]


def test_the_exact_response_is_at_rest():
    """Training leaves the exact response where it is, up to the curvature of the true one."""
    problem, x = ridge(), np.array([0.7])
    response = ridge_best_response(problem)
    trained = []
    for scale in (0.1, 0.01):
        begun = self_tuning(problem, x, scale=scale, maxiter=0, rng=0).state
        state = begun._replace(y=response(x), slope=scale * response.derivative(x)[None, :])
        trained.append(self_tuning(problem, x, scale=scale, maxiter=1, tol=None, init=state).state.trained)
    assert trained[0] < 1e-3 and trained[1] < 0.02 * trained[0]


def test_slopes_of_many_hyperparameters():
    """The learned slopes are the derivatives of the solution, ``-H^-1 C'``, within a tenth."""
    problem = LogisticProblem.random(80, 4, rng=1)
    found = self_tuning(problem, scale=0.05, step=1e-9, maxiter=600, tol=None, rng=0)
    x = found.x
    H = problem.hessian(x, found.y)
    J = np.stack([-np.linalg.solve(H, problem.cross_jvp(x, found.y, e)) for e in np.eye(4)])
    assert np.linalg.norm(found.slope / 0.05 - J) <= 0.1 * np.linalg.norm(J)
    assert_close(found.hypergradient, hypergradient(problem, x).gradient, rtol=0.1, atol=0.01)


def test_gradients_are_enough():
    """No second-order oracle is asked for."""
    given = QuadraticProblem.random(4, 2, rng=0)

    class FirstOrder:
        start, inner, outer, lipschitz = given.start, given.inner, given.outer, given.lipschitz

    found = self_tuning(FirstOrder(), maxiter=4000, rng=0)
    assert_close(found.x, given.solution(), rtol=0, atol=0.05)


def test_tuned_scales_and_bounds():
    problem = ridge()
    found = tune(problem, method="self_tuning", entropy=1e-2, rng=0, maxiter=300, bounds=(2.0, 4.0))
    assert found.x[0] == 2.0 and found.at_bounds == 1
    assert 1e-3 <= found.scale[0] <= 3.0 and found.scale[0] != 0.1
    wide = self_tuning(problem, entropy=1e3, rng=0, maxiter=250, tol=None)
    assert wide.scale[0] > found.scale[0]  # a large weight widens them


def test_shallow_net(backend):
    """Gradients of the net, on any library, and a validation loss below that of the start's penalties."""
    assert max(check_problem(ShallowNetProblem.random(rng=1)).values()) < 1e-6
    host, here = ShallowNetProblem.random(), ShallowNetProblem.random(like=backend.asarray([0.0]))
    x, y = host.start()
    tol = 1e-10 if backend.is_double else 1e-4
    for found, want in zip(here.inner(*here.start()), host.inner(x, y), strict=True):
        assert_close(optlib.to_numpy(found).astype(float), np.asarray(want), rtol=tol, atol=tol)


def test_steps_of_an_iteration():
    """What the documentation says that an iteration costs."""
    counts = [
        self_tuning(ridge(), samples=4, train_steps=3, valid_steps=2, warmup=0, maxiter=k, tol=None, rng=0).counts
        for k in (1, 2)
    ]
    assert counts[1]["gradients"] - counts[0]["gradients"] == 3 * 4
    assert counts[1]["outer"] - counts[0]["outer"] == 2


def test_a_net_is_tuned():
    problem = ShallowNetProblem.random(rng=2)
    options = {"train_step": 0.2, "rng": 0, "tol": None}
    fixed = self_tuning(problem, maxiter=1, **options)  # trained at the start of x
    found = self_tuning(problem, maxiter=400, **options)
    assert found.fun < 0.9 * fixed.fun and np.all(found.x != fixed.x)
    assert not found.success  # without a tolerance nothing is certified
