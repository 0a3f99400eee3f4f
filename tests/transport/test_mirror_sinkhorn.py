"""Mirror Sinkhorn: against exact solvers, its regret bound, and the laws of its two forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.backend import array_namespace
from optlib.testing import assert_close
from optlib.transport import PointCloud, emd, mirror_sinkhorn, quadratic
from tests.transport.strategies import linear_program, problems, spread


def entropy(w):
    w = w[w > 0] / w.sum()
    return -(w * np.log(w)).sum()


@given(problems(), st.sampled_from(["last", "uniform", "linear", "suffix"]))
def test_bounds_of_a_linear_objective(problem, average):
    cost, a, b = problem
    got = mirror_sinkhorn(cost, a, b, average=average, tol=None, maxiter=60)
    p, exact, size = got.plan.toarray(), linear_program(cost, a, b), 1e-7 * a.sum() * np.abs(cost).max()
    assert p.min() >= 0.0
    assert np.abs(p.sum(1) - a).sum() + np.abs(p.sum(0) - b).sum() <= 1e-12 * a.sum()
    assert got.value == pytest.approx((p * cost).sum(), abs=size)
    assert got.lp_bounds[0] - size <= exact <= got.lp_bounds[1] + size
    assert got.certificate.kind == "lp_gap"


def test_the_linear_form_is_the_general_one():
    rng = np.random.default_rng(0)
    x, y, a = rng.random((9, 2)), rng.random((7, 2)), rng.dirichlet(np.ones(9))
    cloud, b = PointCloud(x, y), np.full(7, 1 / 7)
    steps = [0.5, 3.0, 1.0, 2.0]
    for n in (2, 3, 4):
        free = mirror_sinkhorn(cloud, a, b, step=lambda k: steps[k], tol=None, maxiter=n)
        dense = mirror_sinkhorn(
            lambda plan, t, rng: cloud.toarray(), a, b, average="last", step=lambda k: steps[k], tol=None, maxiter=n
        )
        iterate = np.exp(dense.state.log_plan)
        sigma = sum(steps[:n])
        u, v = free.state.u, free.state.v
        assert_close(a[:, None] * b * np.exp(u[:, None] + v - sigma * cloud.toarray()), iterate, rtol=1e-9)
        assert np.allclose(iterate.sum(0), b) if n % 2 else np.allclose(iterate.sum(1), a)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.sampled_from([5, 50]))
def test_regret_bound(seed, n, rounds):
    """With a constant step the regret of the iterates is below KL / eta + eta B^2 T / 2."""
    rng = np.random.default_rng(seed)
    a, b, losses = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n + 1)), rng.random((rounds, n, n + 1))
    eta = math.sqrt(2 * min(entropy(a), entropy(b)) / rounds) + 1e-3
    got = mirror_sinkhorn(
        lambda plan, t, rng: losses[t - 1], a, b, oracle="online", step=eta, tol=None, maxiter=rounds, check_every=50
    )
    bound = min(entropy(a), entropy(b)) / eta + eta * rounds / 2
    assert got.regret <= bound
    best = emd(losses.sum(0), a, b).value
    assert got.certificate.value == pytest.approx(max(got.regret, 0.0) / rounds)
    assert got.regret + best == pytest.approx(float(got.state.earned))


def test_a_quadratic_objective_has_the_known_solution():
    rng = np.random.default_rng(1)
    cost, a, b = rng.random((10, 8)), rng.dirichlet(np.full(10, 5.0)), rng.dirichlet(np.full(8, 5.0))
    want = quadratic(cost, a, b, reg=5.0).check()
    got = mirror_sinkhorn(lambda plan, t, rng: cost + 5.0 * plan, a, b, average="linear", tol=1e-3, maxiter=20_000)
    assert got.success, got
    p = got.plan.toarray()
    value = (cost * p).sum() + 2.5 * (p**2).sum()
    assert want.dual_value <= value <= want.value + got.certificate.value
    assert got.certificate.kind == "duality_gap"


def test_stochastic_gradients():
    rng = np.random.default_rng(2)
    cost, a = rng.random((12, 12)), np.full(12, 1 / 12)
    exact, gaps = emd(cost).value, []
    for n in (100, 1600):
        got = mirror_sinkhorn(
            lambda plan, t, rng: cost + 0.5 * rng.normal(size=cost.shape), a, a, oracle="stochastic", tol=None,
            maxiter=n, rng=0,
        )  # fmt: skip
        gaps.append((got.plan.toarray() * cost).sum() - exact)
        assert not got.certificate.proof
    assert 0.0 <= gaps[1] < gaps[0] / 2


def test_constants_in_gradients_and_the_scale_do_not_matter():
    rng = np.random.default_rng(3)
    cost, a, b = rng.random((6, 5)), rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5))
    base = mirror_sinkhorn(lambda plan, t, rng: cost, a, b, tol=None, maxiter=20).plan.toarray()
    for grad in (100.0 * cost, cost + 3.0, 1e-100 * cost):
        got = mirror_sinkhorn(lambda plan, t, rng, grad=grad: grad, a, b, tol=None, maxiter=20)
        assert_close(got.plan.toarray(), base, rtol=1e-9, atol=1e-13)


def test_forbidden_pairs_and_zero_weights():
    a, b = np.array([0.5, 0.0, 0.5]), np.array([0.25, 0.75, 0.0])
    start = np.ones((3, 3))
    start[0, 0] = 0.0
    got = mirror_sinkhorn(lambda plan, t, rng: plan, a, b, init=start, tol=None, maxiter=400, average="last")
    iterate = np.exp(got.state.log_plan)
    assert iterate[0, 0] == 0.0
    assert np.allclose(got.plan.toarray()[1], 0.0)
    assert np.allclose(got.plan.toarray()[:, 2], 0.0)
    assert np.allclose(got.plan.toarray().sum(1), a)


def test_a_constant_gradient_changes_nothing():
    a = np.array([0.3, 0.7])
    got = mirror_sinkhorn(lambda plan, t, rng: np.ones((2, 2)), a, a, tol=1e-6).check()
    assert_close(got.plan.toarray(), np.outer(a, a), rtol=1e-12)
    assert mirror_sinkhorn(np.full((3, 1), 2.0)).check().value == pytest.approx(2.0)
    assert mirror_sinkhorn(np.full((1, 3), 2.0)).check().value == pytest.approx(2.0)


@pytest.mark.parametrize("factor", [1e-150, 1e150])
def test_extreme_costs(factor):
    cost = np.random.default_rng(0).random((8, 7))
    base = mirror_sinkhorn(cost, tol=1e-2).check()
    got = mirror_sinkhorn(factor * cost, tol=1e-2).check()
    assert_close(got.plan.toarray(), base.plan.toarray(), rtol=0, atol=1e-6)


def test_every_backend_runs_the_same(backend, engine):
    rng = np.random.default_rng(4)
    x, y, a = rng.random((6, 2)), rng.random((5, 2)), rng.dirichlet(np.ones(6))
    b = np.full(5, 0.2)
    host = PointCloud(x, y).toarray()
    cost = backend.asarray(host)
    for objective, mine in ((PointCloud(backend.asarray(x), backend.asarray(y)), PointCloud(x, y)),
                            (lambda plan, t, rng: cost + plan, lambda plan, t, rng: host + plan)):  # fmt: skip
        got = mirror_sinkhorn(objective, backend.asarray(a), backend.asarray(b), tol=None, maxiter=30)
        want = mirror_sinkhorn(mine, a, b, tol=None, maxiter=30)
        plan = got.plan.toarray()
        assert array_namespace(plan) is backend.xp
        assert plan.dtype == backend.dtype
        assert_close(plan, backend.asarray(want.plan.toarray()), rtol=0, atol=1e-9 if backend.is_double else 1e-4)


def test_printed_form():
    a = np.full(4, 0.25)
    text = str(mirror_sinkhorn(lambda plan, t, rng: plan, a, a))
    assert "duality gap" in text
    assert "DensePlan(4 x 4, float64)" in text
    assert "optimum in" in str(mirror_sinkhorn(np.eye(4)))
    assert spread(np.eye(4)) == 1.0
