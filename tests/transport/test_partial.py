"""Partial transport: against linear programs, its dual, limits, and a peer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.special import kl_div

from optlib.backend import array_namespace, device_of
from optlib.testing import assert_close
from optlib.transport import PointCloud, emd, partial, sinkhorn
from tests.transport.strategies import problems, spread

SHARES = st.sampled_from([1e-3, 0.3, 0.9, 1.0])


def least_cost(cost, a, b, mass):
    """Optimal value of the linear program with inequalities, by HiGHS, in units of the cost range and of the mass."""
    n, m = cost.shape
    rows, cols = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    shift, size = cost.min(), spread(cost)
    solved = linprog(
        ((cost - shift) / size).ravel(), A_ub=np.vstack([rows, cols]), b_ub=np.concatenate([a, b]) / mass,
        A_eq=np.ones((1, n * m)), b_eq=[1.0], method="highs",
    )  # fmt: skip
    assert solved.status == 0, solved.message
    return mass * (solved.fun * size + shift)


def unequal(problem, factor):
    cost, a, b = problem
    return cost, a, factor * b


@given(problems(), SHARES, st.sampled_from([1.0, 0.5, 3.0]))
def test_it_solves_the_linear_program(problem, share, factor):
    cost, a, b = unequal(problem, factor)
    mass = share * min(a.sum(), b.sum())
    got = partial(cost, a, b, mass=mass).check()
    p, (f, g), size = got.plan.toarray(), got.potentials, spread(cost) + np.abs(cost).max()
    total = a.sum() + b.sum()
    assert p.min() >= 0
    assert abs(p.sum() - mass) <= 1e-13 * total
    assert (p.sum(1) - a).max() <= 1e-13 * total
    assert (p.sum(0) - b).max() <= 1e-13 * total
    assert f.max() <= 1e-12 * size
    assert g.max() <= 1e-12 * size
    with_mass = np.ix_(a > 0, b > 0)
    assert (f[:, None] + g + got.price - cost)[with_mass].max() <= 1e-12 * size
    assert abs(f @ a + g @ b + got.price * mass - got.value) <= 1e-12 * size * total
    assert abs(got.value - least_cost(cost, a, b, mass)) <= 1e-7 * mass * size + 1e-13 * total * size
    assert got.lp_bounds[0] <= got.value <= got.lp_bounds[1]


@given(problems(), SHARES, st.sampled_from([0.05, 1.0]))
def test_entropic_answers_satisfy_what_they_claim(problem, share, rel):
    cost, a, b = unequal(problem, 1.5)
    mass, reg = share * a.sum(), rel * spread(cost)
    got = partial(cost, a, b, mass=mass, reg=reg, tol=1e-7)
    p, (f, g) = got.plan.toarray(), got.potentials
    assert got.success == got.certificate.holds
    assert got.success, got
    assert max(f.max(), g.max()) <= 0.0
    with np.errstate(divide="ignore"):
        assert np.allclose(p, a[:, None] * b * np.exp((f[:, None] + g + got.price - cost) / reg), rtol=1e-6)
    over = np.maximum(p.sum(1) - a, 0).sum() + np.maximum(p.sum(0) - b, 0).sum() + abs(p.sum() - mass)
    assert over <= 1.01e-7 * mass + 1e-13 * a.sum() * np.abs(cost).max() / reg
    objective = (cost * p).sum() + reg * kl_div(p, np.outer(a, b)).sum()
    assert abs(objective - got.value) <= got.gap + 3 * got.certificate.scale * max(got.certificate.residual, 1e-12) * 10
    exact = least_cost(cost, a, b, mass)
    size = 1e-7 * a.sum() * (spread(cost) + np.abs(cost).max())
    assert got.lp_bounds[0] - size <= exact <= got.lp_bounds[1] + size


def test_the_same_call_on_every_backend(backend, engine):
    rng = np.random.default_rng(0)
    x, y, a, b = rng.random((7, 2)), rng.random((5, 2)), rng.dirichlet(np.ones(7)), 2 * rng.dirichlet(np.ones(5))
    weights = backend.asarray(a), backend.asarray(b)
    for reg in (0.0, 0.1):
        want = partial(PointCloud(x, y), a, b, mass=0.6, reg=reg).check()
        for cost in (PointCloud(backend.asarray(x), backend.asarray(y)), backend.asarray(PointCloud(x, y).toarray())):
            got = partial(cost, *weights, mass=0.6, reg=reg).check()
            plan = got.plan.toarray()
            assert array_namespace(plan) is backend.xp
            assert device_of(plan) == device_of(weights[0])
            assert plan.dtype == backend.dtype == got.potentials[1].dtype
            atol = (1e-12 if reg == 0.0 else 1e-6) if backend.is_double else 1e-3
            assert_close(plan, backend.asarray(want.plan.toarray()), rtol=0, atol=atol)


@pytest.mark.parametrize("reg", [0.0, 0.1])
def test_all_of_the_mass_is_balanced_transport(reg):
    rng = np.random.default_rng(1)
    cost, a, b = rng.random((6, 5)), rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5))
    got = partial(cost, a, b, mass=1.0, reg=reg, tol="auto" if reg == 0 else 1e-9).check()
    whole = emd(cost, a, b) if reg == 0 else sinkhorn(cost, a, b, reg=reg, tol=1e-10)
    assert_close(got.plan.toarray(), whole.plan.toarray(), rtol=0, atol=1e-8)
    assert abs(got.value - whole.value) < 1e-8


def test_the_price_is_the_derivative_in_the_mass():
    rng = np.random.default_rng(2)
    cost, a = rng.random((6, 5)), rng.dirichlet(np.ones(6))
    for reg in (0.0, 0.2):
        values = [partial(cost, a, mass=m, reg=reg, **({"tol": 1e-10} if reg else {})).value for m in (0.499, 0.501)]
        price = partial(cost, a, mass=0.5, reg=reg).price
        assert abs((values[1] - values[0]) / 0.002 - price) < 1e-4 * (1 if reg else 1e3)
    curve = [partial(cost, a, mass=m).value for m in np.linspace(0.1, 1.0, 10)]
    assert np.diff(curve, 2).min() > -1e-12  # convex


def test_the_farthest_points_stay():
    x, y = np.append(np.linspace(0, 1, 9), 50.0), np.append(np.linspace(0, 1, 9), -70.0)
    got = partial(PointCloud(x, y), mass=0.9).check()
    assert got.value == pytest.approx(0.0, abs=1e-12)
    assert got.plan.sum(1)[-1] == got.plan.sum(0)[-1] == 0.0
    assert np.isfinite(got.plan.barycentric(y)).all()


def test_hard_data():
    rng = np.random.default_rng(3)
    for n, m in ((1, 6), (6, 1), (1, 1)):
        cost = rng.random((n, m))
        assert partial(cost, mass=0.4).check().plan.toarray().sum() == pytest.approx(0.4)
        assert partial(cost, mass=0.4, reg=0.1).check().plan.toarray().sum() == pytest.approx(0.4)
    ties = np.zeros((5, 4))
    assert partial(ties, mass=0.5).check().value == 0.0
    assert partial(ties + 3.0, mass=0.5).check().value == pytest.approx(1.5)
    assert partial(ties, mass=0.5, reg=1.0).check().plan.toarray() == pytest.approx(np.full((5, 4), 0.025))
    cost, a = rng.random((8, 6)), rng.dirichlet(np.ones(8))
    a[0], a[1] = 1e-300, 0.0
    want = least_cost(cost, a, np.full(6, a.sum() / 6), 0.5)
    for factor in (1e-150, 1.0, 1e150):
        assert partial(factor * cost, a, mass=0.5).check().value == pytest.approx(factor * want, rel=1e-7)
    assert partial(cost, a, mass=0.5, reg=0.05).success
    assert partial(cost - 7.0, a, mass=0.5).check().value == pytest.approx(want - 3.5, rel=1e-7)


def test_continues():
    cost = np.random.default_rng(0).random((12, 10))
    whole, first = partial(cost, mass=0.5), partial(cost, mass=0.5, maxiter=5, check_every=1)
    assert np.array_equal(partial(cost, mass=0.5, init=first).plan.toarray(), whole.plan.toarray())


@pytest.mark.peers
def test_pot_agrees():
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    cost, a, b = rng.random((12, 9)), rng.dirichlet(np.ones(12)), 1.3 * rng.dirichlet(np.ones(9))
    for mass in (0.2, 0.7):
        assert partial(cost, a, b, mass=mass).value == pytest.approx(
            ot.partial.partial_wasserstein2(a, b, cost, m=mass), rel=1e-9
        )
    uniform = np.full(12, 1 / 12), np.full(9, 1 / 9)  # POT's entropy is not relative to the weights
    plan = ot.partial.entropic_partial_wasserstein(*uniform, cost, 0.1, m=0.5, numItermax=5000, stopThr=1e-14)
    got = partial(cost, mass=0.5, reg=0.1, tol=1e-10).check()
    assert_close(got.plan.toarray(), plan, rtol=0, atol=1e-7)
