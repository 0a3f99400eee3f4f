"""Quadratically regularised transport: the conditions of optimality, laws, limits, and hard data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optlib
from optlib.backend import array_namespace, device_of, to_numpy
from optlib.datasets import TRANSPORT_KINDS, make_transport
from optlib.testing import assert_close
from optlib.transport import PointCloud, SparsePlan, emd, quadratic, solve
from tests.transport.strategies import linear_program, problems, spread

REGS = st.sampled_from([1e-4, 1e-2, 0.1, 1.0, 100.0])  # in units of range(C) max(n, m) / mass


def unit(cost, a):
    return spread(cost) * max(cost.shape) / a.sum()


def assert_optimal(got, cost, a, b, reg, tol):
    """The conditions of Karush, Kuhn and Tucker, which prove optimality."""
    p, (f, g), mass = got.plan.toarray(), got.potentials, a.sum()
    assert p.min() >= 0.0
    assert np.abs(p.sum(1) - a).sum() + np.abs(p.sum(0) - b).sum() <= tol * mass + 1e-13 * mass
    size = np.abs(cost).max() + np.abs(f).max() + np.abs(g).max()
    slack = f[:, None] + g - cost
    assert np.allclose(p * reg, np.maximum(slack, 0.0), rtol=0, atol=1e-13 * size + 1e-12 * reg * mass)
    value = (cost * p).sum() + 0.5 * reg * (p**2).sum()
    assert abs(value - got.value) <= 2 * got.gap + 2 * tol * (got.certificate.scale + size * mass)
    assert got.dual_value <= got.value


@given(problems(), REGS)
def test_answers_are_optimal_or_say_that_they_are_not(problem, rel):
    cost, a, b = problem
    reg = rel * unit(cost, a)
    got = quadratic(cost, a, b, reg=reg, tol=1e-9)
    assert got.success == got.certificate.holds
    assert got.certificate.residual <= 1e-5, got  # even where rounding keeps it from the tolerance
    assert_optimal(got, cost, a, b, reg, max(1e-9, got.certificate.residual))
    assert got.success or np.abs(cost).max() > 10 * spread(cost) or min(a[a > 0].min(), b[b > 0].min()) < 1e-9 * a.sum()
    exact = linear_program(cost, a, b)
    low, high = got.lp_bounds
    assert low - 1e-7 * a.sum() * spread(cost) <= exact <= high + 1e-7 * a.sum() * spread(cost)


@pytest.mark.parametrize("kind", TRANSPORT_KINDS)
@pytest.mark.parametrize("rel", [1.0, 1e-2, 1e-4])
def test_the_hard_set(kind, rel):
    cost, a, b = make_transport(kind, 60, rng=1)[:3]
    got = quadratic(cost, a, b, reg=rel * 60, tol=1e-10)
    assert_optimal(got, cost, a, b, rel * 60, max(1e-10, got.certificate.residual))
    assert got.success or (kind == "grid" and got.certificate.residual < 1e-6), got


def test_the_same_call_on_every_backend(backend, engine):
    rng = np.random.default_rng(0)
    x, y, a = rng.random((9, 2)), rng.random((7, 2)), rng.dirichlet(np.ones(9))
    want = quadratic(PointCloud(x, y), a, reg=0.5).check()
    for cost in (PointCloud(backend.asarray(x), backend.asarray(y)), backend.asarray(PointCloud(x, y).toarray())):
        got = quadratic(cost, backend.asarray(a), reg=0.5).check()
        plan = got.plan.toarray()
        assert isinstance(got.plan, SparsePlan)
        assert array_namespace(plan) is backend.xp
        assert device_of(plan) == device_of(backend.asarray(x))
        assert plan.dtype == backend.dtype == got.potentials[0].dtype
        assert_close(plan, backend.asarray(want.plan.toarray()), rtol=0, atol=1e-8 if backend.is_double else 1e-4)
        assert abs(got.value - want.value) <= got.gap + want.gap + 10 * backend.eps


def test_engines_and_costs_agree():
    rng = np.random.default_rng(1)
    x, y = rng.random((40, 5)), rng.random((30, 5))
    cloud = PointCloud(x, y, "euclidean")
    plans = [
        quadratic(cost, reg=0.3, tol=1e-11).check().plan.toarray()
        for cost in (cloud, cloud.toarray(), cloud.toarray().T.T)
    ]
    with optlib.config(engine="generic"):
        plans.append(quadratic(cloud, reg=0.3, tol=1e-11).check().plan.toarray())
    plans.append(quadratic(cloud.T, reg=0.3, tol=1e-11).check().plan.toarray().T)
    for plan in plans[1:]:
        assert_close(plan, plans[0], rtol=0, atol=1e-9)


@given(problems(zeros=False), st.sampled_from([0.01, 1.0]), st.integers(0, 2**32 - 1))
def test_symmetries(problem, rel, seed):
    cost, a, b = problem
    reg, mass = rel * unit(cost, a), a.sum()
    base = quadratic(cost, a, b, reg=reg, tol=1e-10)
    order = np.random.default_rng(seed).permutation(len(a))
    others = [
        (quadratic(cost.T, b, a, reg=reg, tol=1e-10), lambda p: p.T),
        (quadratic(cost[order], a[order], b, reg=reg, tol=1e-10), lambda p: p[np.argsort(order)]),
        (quadratic(4 * cost, a, b, reg=4 * reg, tol=1e-10), lambda p: p),
        (quadratic(cost + spread(cost) * np.cos(np.arange(len(b))), a, b, reg=reg, tol=1e-10), lambda p: p),
    ]
    for other, back in others:
        if base.success and other.success:  # strongly convex: the gap bounds the squared distance
            atol = 2 * np.sqrt(2 * (base.gap + other.gap) / reg) + 1e-9 * mass
            assert_close(back(other.plan.toarray()), base.plan.toarray(), rtol=0, atol=atol)


def test_limits():
    cost, a, b = make_transport("uniform", 20, 15, rng=0)[:3]
    exact = emd(cost, a, b)
    small = quadratic(cost, a, b, reg=1e-4, tol=1e-10).check()
    assert abs(small.value_linear - exact.value) < 1e-9
    assert_close(small.plan.toarray(), exact.plan.toarray(), rtol=0, atol=1e-8)
    large = quadratic(cost, a, b, reg=1e6, tol=1e-10).check()
    mean = a[:, None] / 15 + b / 20 - 1 / 300  # the plan of least norm, if it is positive
    assert mean.min() < 0 or np.allclose(large.plan.toarray(), mean, atol=1e-6)
    values = [quadratic(cost, a, b, reg=reg).check() for reg in (0.01, 0.1, 1.0, 10.0)]
    assert [v.value for v in values] == sorted(v.value for v in values)
    assert [v.value_linear for v in values] == sorted(v.value_linear for v in values)
    sizes = [v.plan.entries[0].size for v in values]
    assert sizes == sorted(sizes)


def test_degenerate_shapes():
    for cost in (np.ones((1, 5)), np.ones((5, 1)), np.ones((1, 1)), np.full((4, 6), 0.7)):
        got = quadratic(cost, reg=0.3, tol=1e-11).check()
        assert_close(got.plan.toarray(), np.full(cost.shape, 1 / cost.size), rtol=0, atol=1e-10)
    got = quadratic([[0, 1], [1, 0]], [1, 1], [1, 1], reg=0.1).check()
    assert_close(got.plan.toarray(), np.eye(2), rtol=0, atol=1e-10)


def test_zero_and_tiny_weights():
    rng = np.random.default_rng(3)
    cost, a, b = rng.random((12, 10)), rng.random(12), rng.random(10)
    a[[0, 5]], b[3] = 0.0, 0.0
    a, b = a / a.sum(), b / b.sum()
    got = quadratic(cost, a, b, reg=0.5).check()
    kept = quadratic(cost[np.ix_(a > 0, b > 0)], a[a > 0], b[b > 0], reg=0.5)
    assert_close(got.plan.toarray()[np.ix_(a > 0, b > 0)], kept.plan.toarray(), rtol=0, atol=1e-12)
    f, g = got.potentials
    assert (f[:, None] + g - cost)[a == 0].max() <= 1e-12
    assert np.isfinite(got.plan.barycentric(rng.random((10, 2)))).all()
    assert np.isfinite(got.plan.T.barycentric(rng.random((12, 2)))).all()
    a[1], b[1] = 1e-300, 1e-20
    tiny = quadratic(cost, a / a.sum(), b / b.sum(), reg=0.5)
    assert tiny.certificate.residual < 1e-8, tiny


def test_extreme_scales():
    cost, a, b = make_transport("cloud2d", 15, rng=0)[:3]
    base = quadratic(cost, a, b, reg=0.1).check().plan.toarray()
    for factor in (1e-150, 1e-10, 1e10, 1e150):
        assert_close(quadratic(factor * cost, a, b, reg=factor * 0.1).check().plan.toarray(), base, rtol=0, atol=1e-9)
        got = quadratic(cost, a * factor, b * factor, reg=0.1 / factor).check()
        assert_close(got.plan.toarray() / factor, base, rtol=0, atol=1e-9)


def test_starts_and_continues():
    cost, a, b = make_transport("cloud2d", 40, 30, rng=0)[:3]
    cold = quadratic(cost, a, b, reg=0.2).check()
    near = quadratic(cost * 1.01, a, b, reg=0.2, init=cold.potentials).check()
    assert near.nit < cold.nit
    assert quadratic(cost, a, b, reg=0.2, init=cold.potentials).check().nit <= 3
    assert quadratic(cost, a, b, reg=0.2, init=cold.potentials[1]).check().nit <= 3
    first = quadratic(cost, a, b, reg=0.2, maxiter=3)
    assert not first.success
    again = quadratic(cost, a, b, reg=0.2, init=first)
    assert np.array_equal(again.plan.toarray(), cold.plan.toarray())


def test_the_front_door():
    cost = np.random.default_rng(0).random((6, 5))
    got = solve(cost, reg=0.1, reg_type="quadratic")
    assert got.message.startswith("quadratic for the quadratic regulariser: ")
    assert np.array_equal(got.plan.toarray(), quadratic(cost, reg=0.1).plan.toarray())
    assert "SparsePlan" in str(got)
    assert solve(cost, reg=0.0, reg_type="quadratic").method == "emd"


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")
@pytest.mark.parametrize("reg", [0.1, 1.0, 10.0])
def test_pot_agrees(reg):
    ot = pytest.importorskip("ot")
    cost, a, b = make_transport("cloud2d", 20, 15, rng=0)[:3]
    got = quadratic(cost, a, b, reg=reg).check()
    plan = ot.smooth.smooth_ot_semi_dual(a, b, cost, reg, reg_type="l2", stopThr=1e-14, numItermax=5000)
    value = (plan * cost).sum() + reg / 2 * (plan**2).sum()
    assert abs(value - got.value) < 1e-5
    assert_close(to_numpy(got.plan.toarray()), plan, rtol=0, atol=1e-4)
