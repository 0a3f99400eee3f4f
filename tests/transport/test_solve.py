"""The front door, end to end."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import kl_div

import optlib
from optlib.backend import array_namespace, device_of, to_numpy
from optlib.datasets import make_transport
from optlib.testing import assert_close, check_gradient
from optlib.transport import PointCloud, TransportResult, sinkhorn, solve
from tests.transport.strategies import linear_program, problems, spread

REGS = st.sampled_from([1e-2, 0.1, 1.0, 100.0])


def example(n=8, m=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n, 2)), rng.random((m, 2)), rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


def test_the_same_call_on_every_backend(backend, engine):
    x, y, a, b = example()
    want = solve(PointCloud(x, y), a, b, reg=0.05, tol=1e-9)
    tol = 1e-9 if backend.is_double else 1e-4
    weights = backend.asarray(a), backend.asarray(b)
    for cost in (PointCloud(backend.asarray(x), backend.asarray(y)), backend.asarray(PointCloud(x, y).toarray())):
        result = solve(cost, *weights, reg=0.05, tol=tol)
        assert want.success
        assert result.success
        plan = result.plan.toarray()
        assert array_namespace(plan) is backend.xp
        assert device_of(plan) == device_of(backend.asarray(x))
        assert_close(plan, backend.asarray(want.plan.toarray()), atol=1e-8 if backend.is_double else 1e-4, rtol=0)
        assert abs(result.value - want.value) <= result.gap + want.gap + 10 * backend.eps
        assert result.lp_bounds[0] <= want.lp_bounds[1]
        assert all(isinstance(v, float) for v in (result.value, result.dual_value, result.gap, *result.lp_bounds))
        assert result.potentials[0].dtype == backend.dtype


def test_lists_and_integers():
    got = solve([[0, 1], [1, 0]], [1, 1], [1, 1], reg=0.05)
    assert got.success
    assert np.allclose(got.plan.toarray(), np.eye(2), atol=1e-6)
    torch = pytest.importorskip("torch")
    got = solve(torch.eye(2), [0.5, 0.5], reg=0.05)  # lists follow the arrays
    assert got.plan.toarray().dtype == torch.float32


@given(problems(), REGS)
def test_answers_satisfy_what_they_claim(problem, reg):
    cost, a, b = problem
    eps = reg * spread(cost)
    got = solve(cost, a, b, reg=eps, tol=1e-7, maxiter=20_000)
    assert isinstance(got, TransportResult)
    assert got.success, got
    p, mass = got.plan.toarray(), a.sum()
    assert (p >= 0).all()
    error = np.abs(p.sum(1) - a).sum() + np.abs(p.sum(0) - b).sum()
    assert error <= 1.01e-7 * mass + 1e-13 * mass * np.abs(cost).max() / eps
    assert (p[a == 0] == 0).all()
    assert (p[:, b == 0] == 0).all()
    assert all(np.isfinite(u).all() for u in got.potentials)
    f, g = got.potentials
    with np.errstate(divide="ignore"):
        assert np.allclose(p, a[:, None] * b * np.exp((f[:, None] + g - cost) / eps), rtol=1e-6)
    low, high = got.lp_bounds
    exact = linear_program(cost, a, b)
    assert low - 1e-7 * mass * spread(cost) <= exact <= high + 1e-7 * mass * spread(cost)
    entropies = [-(w[w > 0] / mass * np.log(w[w > 0] / mass)).sum() for w in (a, b)]
    bias = eps * mass * min(entropies)
    assert got.value_linear <= exact + bias + got.gap + 1e-6 * mass * np.abs(cost).max()
    objective = got.value_linear + eps * kl_div(p, np.outer(a, b)).sum()
    assert abs(objective - got.value) <= got.gap + 2 * got.certificate.scale * got.certificate.residual + 1e-12 * mass


@given(problems(zeros=False), st.sampled_from([0.05, 1.0]), st.integers(0, 2**32 - 1))
def test_symmetries(problem, reg, seed):
    cost, a, b = problem
    eps, mass = reg * spread(cost), a.sum()
    base = solve(cost, a, b, reg=eps, tol=1e-10, maxiter=20_000)
    p = base.plan.toarray()
    tol = {"rtol": 0, "atol": 1e-8 * mass}
    turned = solve(cost.T, b, a, reg=eps, tol=1e-10, maxiter=20_000)
    assert_close(turned.plan.toarray(), p.T, **tol)
    heavy = b > 1e-4 * mass  # the error of a potential is that of its marginal over the weight
    assert_close(turned.potentials[0][heavy], base.potentials[1][heavy], rtol=0, atol=1e-5 * spread(cost))
    order = np.random.default_rng(seed).permutation(len(a))
    assert_close(solve(cost[order], a[order], b, reg=eps, tol=1e-10, maxiter=20_000).plan.toarray(), p[order], **tol)
    scaled = solve(4 * cost, a, b, reg=4 * eps, tol=1e-10, maxiter=20_000)
    assert_close(scaled.plan.toarray(), p, **tol)
    rows, cols = np.cos(np.arange(len(a))) * spread(cost), np.sin(np.arange(len(b))) * spread(cost)
    moved = solve(cost + rows[:, None] + cols, a, b, reg=eps, tol=1e-10, maxiter=20_000)
    assert_close(moved.plan.toarray(), p, **tol)
    assert abs(moved.value - base.value - (rows * a).sum() - (cols * b).sum()) <= 1e-7 * mass * spread(cost)


def test_values_grow_with_reg():
    x, y, a, b = example()
    results = [solve(PointCloud(x, y), a, b, reg=reg, tol=1e-10) for reg in (0.01, 0.1, 1.0, 10.0)]
    for name in ("value", "dual_value", "value_linear"):
        values = [result[name] for result in results]
        assert values == sorted(values), name
    assert results[0].lp_bounds[1] - results[0].lp_bounds[0] < results[-1].lp_bounds[1] - results[-1].lp_bounds[0]


def test_duplicated_points_share_the_weight():
    x, y, a, b = example()
    whole = solve(PointCloud(x, y), a, b, reg=0.1, tol=1e-11)
    twice = solve(
        PointCloud(np.vstack([x, x[:1]]), y), np.append(a, a[0] / 2) - np.eye(9)[0] * a[0] / 2, b, reg=0.1, tol=1e-11
    )
    assert_close(twice.plan.toarray()[[0, 8]], np.tile(whole.plan.toarray()[0] / 2, (2, 1)), rtol=1e-6)
    assert abs(whole.dual_value - twice.dual_value) < 1e-9


def test_potentials_and_plan_are_derivatives():
    x, y, a, b = example(5, 4)
    cost = PointCloud(x, y).toarray()

    def value(c, a=a, b=b):
        return solve(c, a, b, reg=0.1, tol=1e-12).dual_value

    check_gradient(value, lambda c: solve(c, a, b, reg=0.1, tol=1e-12).plan.toarray(), cost, rtol=1e-5)
    # along a direction that keeps the mass
    f = solve(cost, a, b, reg=0.1, tol=1e-12).potentials[0]
    step = 1e-5 * (np.eye(5)[0] - np.eye(5)[1])
    slope = (value(cost, a=a + step) - value(cost, a=a - step)) / 2e-5
    assert abs(slope - (f[0] - f[1])) < 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_one_source_or_target(shape):
    cost = np.arange(shape[0] * shape[1], dtype=float).reshape(shape)
    got = solve(cost, reg=0.01)
    assert got.success
    assert_close(got.plan.toarray(), np.full(shape, 1.0 / max(shape)), rtol=1e-9)
    assert got.value_linear == pytest.approx(cost.mean())
    assert got.lp_bounds == pytest.approx((cost.mean(), cost.mean()))


def test_constant_cost():
    got = solve(np.full((3, 4), 7.0), reg=1e-3)
    assert got.success
    assert_close(got.plan.toarray(), np.full((3, 4), 1 / 12), rtol=1e-9)
    assert got.lp_bounds == pytest.approx((7.0, 7.0))
    assert solve(np.zeros((3, 4)), reg=1e-3).success


def test_weights_given_once_or_not_at_all():
    cost = np.random.default_rng(0).random((4, 3))
    assert_close(solve(cost, reg=0.1).plan.sum(1), np.full(4, 0.25), rtol=1e-5)
    got = solve(cost, [1.0, 2.0, 3.0, 4.0], reg=0.1)
    assert_close(got.plan.sum(1), np.asarray([1.0, 2.0, 3.0, 4.0]), rtol=1e-5)
    assert_close(got.plan.sum(0), np.full(3, 10 / 3), rtol=1e-5)
    # a difference that is rounding is mended
    got = solve(cost, np.full(4, 0.25), np.full(3, (1 + 1e-10) / 3), reg=0.1)
    assert got.success
    got = solve(cost.astype(np.float32), None, np.full(3, 0.33333, dtype=np.float32), reg=0.1, tol=1e-4)
    assert got.success
    assert got.plan.toarray().dtype == np.float32


def test_without_regularisation_the_answer_is_exact():
    got = solve([[0, 1, 4], [1, 0, 1]], [2, 2], [2, 1, 1])
    assert got.method == "emd"
    assert got.message.startswith("emd for reg=0: ")
    assert got.value == 1.0
    assert np.array_equal(got.plan.toarray(), [[2, 0, 0], [0, 1, 1]])
    assert solve([[0.0, 1.0]], method="emd").success


def test_method_is_a_name_or_a_function():
    cost = np.random.default_rng(0).random((4, 3))
    by_rule = solve(cost, reg=0.1)
    assert by_rule.method == "sinkhorn"
    assert by_rule.message.startswith("sinkhorn for the entropy with reg=0.1: ")
    for method in ("sinkhorn", sinkhorn):
        asked = solve(cost, reg=0.1, method=method)
        assert asked.message.startswith("sinkhorn as asked: ")
        assert np.array_equal(asked.plan.toarray(), by_rule.plan.toarray())


def test_unbalanced():
    cost = np.random.default_rng(0).random((5, 4))
    a, b = np.full(5, 0.2), np.full(4, 0.5)
    loose = solve(cost, a, b, reg=0.1, unbalanced=0.5)
    assert loose.success, loose
    assert loose.lp_bounds is None
    assert 1.0 < float(loose.plan.sum()) < 2.0
    f, g = loose.potentials
    assert_close(loose.plan.sum(1), a * np.exp(-f / 0.5), rtol=1e-4)
    assert_close(loose.plan.sum(0), b * np.exp(-g / 0.5), rtol=1e-4)
    half = solve(cost, a, b, reg=0.1, unbalanced=(math.inf, 0.5))
    assert half.success, half
    assert_close(half.plan.sum(1), a, rtol=1e-5)
    b = b / 2
    tight = solve(cost, a, b, reg=0.1, unbalanced=math.inf)
    assert_close(tight.plan.toarray(), solve(cost, a, b, reg=0.1).plan.toarray(), rtol=1e-12)


def test_printed_form():
    text = str(solve(PointCloud([0, 1, 2], [1, 2, 3]), reg=0.5))
    lines = text.splitlines()
    assert lines[0] == "TransportResult of sinkhorn"
    labels = [line.split(":")[0].strip() for line in lines[1:]]
    assert labels == ["status", "method", "plan", "value", "unregularised", "certificate", "effort"]
    assert "status: success: converged" in text
    assert "method: sinkhorn for the entropy with reg=0.5: " in text
    assert "EntropicPlan(3 x 3, float64), marginal error" in text
    assert max(map(len, lines)) < 120


def test_result_moves_to_another_library():
    pytest.importorskip("torch")
    got = solve(PointCloud([0, 1, 2], [1, 2, 3]), reg=0.1)
    moved = optlib.to_device(got.plan, "torch")
    assert_close(to_numpy(moved.toarray()), got.plan.toarray(), rtol=1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("reg", [1e-2, 1e-1, 1.0])
def test_pot_agrees(reg):
    ot = pytest.importorskip("ot")
    x, y, a, b = example(30, 20)
    cost = PointCloud(x, y).toarray()
    got = solve(cost, a, b, reg=reg, tol=1e-10)
    plan = ot.sinkhorn(a, b, cost, reg, method="sinkhorn_log", numItermax=100_000, stopThr=1e-12)
    assert_close(got.plan.toarray(), plan, rtol=0, atol=1e-9)
    exact = ot.emd2(a, b, cost)
    assert got.lp_bounds[0] <= exact <= got.lp_bounds[1]


def test_a_run_on_the_path_is_continued():
    problem = make_transport("cloud2d", 30, rng=0)
    options = {"reg": 1e-3 * float(np.ptp(problem.cost)), "tol": 1e-9}
    parts = solve(*problem[:3], maxiter=5, check_every=5, **options)
    for _ in range(2):
        parts = solve(*problem[:3], maxiter=5, check_every=5, init=parts, **options)
    whole = solve(*problem[:3], maxiter=15, check_every=15, **options)
    assert np.array_equal(parts.potentials[1], whole.potentials[1])
