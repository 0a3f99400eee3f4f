"""Hypergradients: closed forms, agreement of the modes, error bounds, honest failures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.bilevel import LogisticProblem, Problem, QuadraticProblem, RidgeProblem, finite_differences, hypergradient
from optlib.testing import assert_close
from tests.bilevel.problems import MAKERS

EXACT = ("cg", "minres", "direct", "neumann", "fixed_point", "reverse", "forward")


def closed_form(problem, x):
    """Phi and its gradient of a quadratic problem."""
    p, y = problem.parts, problem.response(x)
    J = -np.linalg.solve(problem.H, problem.B.T)
    value, grad_x, grad_y = problem.outer(x, y)
    assert p["B"] is problem.B
    return value, grad_x + J.T @ grad_y


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 10.0, 100.0]))
def test_quadratic_closed_form(seed, condition):
    problem = QuadraticProblem.random(6, 3, condition=condition, rng=seed)
    x = np.random.default_rng(seed).normal(size=3)
    value, gradient = closed_form(problem, x)
    scale = np.linalg.norm(gradient) + 1.0
    for mode in ("direct", "cg", "minres", "fixed_point"):
        found = hypergradient(problem, x, mode=mode, tol=1e-11, maxiter=5000)
        assert found.converged and abs(found.value - value) <= 1e-8 * (1.0 + abs(value))
        assert np.linalg.norm(found.gradient - gradient) <= 1e-8 * scale
        assert np.linalg.norm(found.gradient - gradient) <= found.error_bound + 1e-10 * scale
    assert np.linalg.norm(hypergradient(problem, problem.solution(), tol=1e-12).gradient) < 1e-8 * scale


def test_ridge_closed_form():
    """The gradient is ``-e^x <y, q>`` with the normal equations solved by hand."""
    problem, x = RidgeProblem.random(penalty="scalar"), np.array([0.7])
    A, V = problem.train.A.to_dense(), problem.valid.A.to_dense()
    H = A.T @ A + np.exp(0.7) * np.eye(5)
    y = np.linalg.solve(H, A.T @ problem.train.t)
    q = np.linalg.solve(H, V.T @ (V @ y - problem.valid.t))
    found = hypergradient(problem, x)
    assert_close(found.gradient, np.array([-np.exp(0.7) * y @ q]), rtol=1e-10)
    assert abs(found.value - 0.5 * np.sum((V @ y - problem.valid.t) ** 2)) < 1e-10


@pytest.mark.parametrize("name", MAKERS)
@given(seed=st.integers(0, 2**32 - 1))
def test_modes_agree_with_differences(name, seed):
    problem = MAKERS[name](seed)
    rng = np.random.default_rng(seed)
    x0, _ = problem.start()
    x, u = (0.5 * rng.normal(size=x0.shape) for _ in range(2))
    found = hypergradient(problem, x, tol=1e-12)
    h = 1e-5
    ahead, behind = (hypergradient(problem, x + s * u, tol=1e-12).value for s in (h, -h))
    scale = np.linalg.norm(found.gradient) * np.linalg.norm(u) + 1e-3 * abs(found.value)
    assert abs((ahead - behind) / (2 * h) - np.sum(found.gradient * u)) <= 1e-5 * scale
    for mode in ("cg", "minres"):
        other = hypergradient(problem, x, mode=mode, tol=1e-11)
        assert np.linalg.norm(other.gradient - found.gradient) <= 1e-6 * (np.linalg.norm(found.gradient) + 1e-6)


def test_iterations_in_the_limit():
    """Unrolled and Neumann modes tend to the implicit one; penalties and differences come near."""
    problem = QuadraticProblem.random(6, 3, rng=1)
    x = np.ones(3)
    want = hypergradient(problem, x, tol=1e-12).gradient
    for mode in EXACT:
        found = hypergradient(problem, x, mode=mode, tol=1e-12, steps=600, maxiter=5000)
        assert np.linalg.norm(found.gradient - want) <= 1e-9 * np.linalg.norm(want), mode
    for other in (
        hypergradient(problem, x, mode="penalty", tol=1e-10),
        hypergradient(finite_differences(problem), x, mode="cg", tol=1e-6),
    ):
        assert np.linalg.norm(other.gradient - want) <= 1e-4 * np.linalg.norm(want)
    forward, reverse = (hypergradient(problem, x, mode=m, steps=7).gradient for m in ("forward", "reverse"))
    assert_close(forward, reverse, rtol=1e-12)


def test_truncation_bias():
    """At a converged y the error of K steps is at most |C| |grad F| (1 - mu / L)^K / mu, and K steps descend."""
    problem = QuadraticProblem.random(6, 3, rng=2)
    x = np.ones(3)
    y, mu, L = problem.response(x), problem.mu(x), problem.lipschitz(x)
    want = hypergradient(problem, x, tol=1e-12).gradient
    reach = np.linalg.norm(problem.B, 2) * np.linalg.norm(problem.outer(x, y)[2]) / mu
    errors = []
    for K in (1, 5, 20, 60):
        found = hypergradient(problem, x, y=y, mode="reverse", steps=60, truncate=K).gradient
        series = hypergradient(problem, x, y=y, mode="neumann", steps=K).gradient
        assert_close(found, series, rtol=1e-6, atol=1e-6)
        errors.append(np.linalg.norm(found - want))
        assert errors[-1] <= reach * (1 - mu / L) ** K + 1e-9
    assert errors[-1] < 0.05 * errors[0]


@pytest.mark.parametrize("name", ["logistic", "ridge", "multinomial"])
def test_error_bound_and_correction(name):
    """The bound holds at every tolerance; the corrected value is the better one; errors fall with the tolerance."""
    problem = MAKERS[name](3)
    x = problem.start()[0] + 0.3
    exact = hypergradient(problem, x, tol=1e-13)
    errors = []
    for tol in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6):
        found = hypergradient(problem, x, mode="cg", tol=tol)
        errors.append(np.linalg.norm(found.gradient - exact.gradient))
        assert errors[-1] <= found.error_bound + 1e-12
        plain = float(problem.outer(x, found.y)[0])
        assert abs(found.value - exact.value) <= max(abs(plain - exact.value), 1e-12)
    assert errors[-1] <= 1e-5 * (1.0 + np.linalg.norm(exact.gradient))


def test_backends(backend, engine):
    for name in ("logistic", "multinomial entry", "cleaning"):
        host, here = MAKERS[name](), MAKERS[name](like=backend.asarray([0.0]))
        x = host.start()[0] + 0.2
        tol = 1e-10 if backend.is_double else 1e-4
        for mode in ("auto", "cg", "reverse"):
            want = hypergradient(host, x, mode=mode, tol=tol).gradient
            found = hypergradient(here, backend.asarray(x), mode=mode, tol=tol).gradient
            assert_close(
                found,
                backend.asarray(want),
                rtol=1e-6 if backend.is_double else 2e-2,
                atol=1e-8 if backend.is_double else 1e-3,
            )


def test_warm_start_and_inputs():
    problem = LogisticProblem.random()
    x = np.zeros(5)
    cold = hypergradient(problem, x, mode="cg")
    y, q = cold.y.copy(), cold.q.copy()
    warm = hypergradient(problem, x, y=cold.y, q=cold.q, mode="cg")
    assert warm.counts["products"] < cold.counts["products"]
    assert np.array_equal(y, cold.y) and np.array_equal(q, cold.q) and not x.any()
    assert_close(warm.gradient, cold.gradient, rtol=1e-6)


def test_irrelevant_hyperparameter():
    """A penalty of a feature that is zero everywhere has the derivative zero."""
    rng = np.random.default_rng(0)
    A, V = rng.normal(size=(2, 10, 4))
    A[:, 2] = V[:, 2] = 0.0
    assert hypergradient(RidgeProblem(A, A[:, 0], V, V[:, 0]), np.zeros(4)).gradient[2] == 0.0


class FirstOrder(Problem):
    """Gradients only."""

    def __init__(self):
        self.given = QuadraticProblem.random(4, 2, rng=0)
        self.start, self.inner, self.outer = self.given.start, self.given.inner, self.given.outer

    hvp = cross_vjp = cross_jvp = None


def test_missing_oracles():
    problem, x = FirstOrder(), np.ones(2)
    with pytest.raises(TypeError, match=r"`problem`.*`hvp`.*penalty"):
        hypergradient(problem, x, mode="cg")
    found = hypergradient(problem, x, tol=1e-9)
    assert found.mode == "penalty" and found.converged
    want = closed_form(problem.given, x)[1]
    assert np.linalg.norm(found.gradient - want) <= 1e-4 * np.linalg.norm(want)


def test_unstable_step():
    problem = QuadraticProblem.random(5, 2, rng=0)
    with pytest.raises(ValueError, match=r"`step`|`problem`"):
        hypergradient(problem, np.ones(2), mode="reverse", step=1.0, steps=60)


def test_nan_of_an_oracle():
    problem = QuadraticProblem.random(5, 2, rng=0)
    outer = problem.outer
    problem.outer = lambda x, y: (np.nan, *outer(x, y)[1:])
    with pytest.raises(ValueError, match=r"`problem`.*NaN.*outer"):
        hypergradient(problem, np.ones(2))
