"""Mirror maps against general solvers and definitions, and what is special to one map."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

import optlib
from optlib import geometry as geo
from optlib.backend import array_namespace
from optlib.geometry.mirror.quadratic import quadratic_on_ball, quadratic_on_box, quadratic_on_simplex
from optlib.geometry.mirror.roots import log_barrier_simplex, tsallis_simplex
from tests.geometry.mirror_maps import CASES, NAMES, scipy_bounds

XP = array_namespace()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 4), scale=st.sampled_from([0.1, 1.0, 3.0]))
def test_grad_conj_is_the_maximiser(name, seed, n, scale):
    """No point that SLSQP finds for the definition is better; gradient and value are those of the definition."""
    case, m = CASES[name], CASES[name].make(np.asarray, n)
    psi = case.psi(n)
    theta = scale * np.random.default_rng(seed).normal(size=n)
    x = m.grad_conj(theta)
    assert float(m.value(x)) == pytest.approx(psi(x), rel=1e-10, abs=1e-12)
    loss = lambda z: psi(z) - theta @ z
    start = m.center(theta) * 0.9 + 0.1 * x
    with np.errstate(all="ignore"):
        found = minimize(
            loss,
            start,
            jac=lambda z: m.grad(z) - theta,
            bounds=scipy_bounds(name, n),
            constraints=case.constraints(n),
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 200},
        )
    feasible = all(
        abs(c["fun"](found.x)) < 1e-8 if c["type"] == "eq" else c["fun"](found.x) > -1e-8 for c in case.constraints(n)
    )
    if feasible:
        assert loss(x) <= loss(found.x) + 1e-6 * (1 + abs(loss(x)))
    if found.success and feasible:
        np.testing.assert_allclose(x, found.x, atol=2e-3 * max(1.0, np.max(np.abs(x))))
    d = np.random.default_rng(seed + 1).normal(size=n)
    h = 1e-6 * (np.min(np.minimum(x, 1 - x) if case.unit else x) if case.positive else 1.0)
    slope = (psi(x + h * d) - psi(x - h * d)) / (2 * h)
    assert slope == pytest.approx(m.grad(x) @ d, rel=1e-4, abs=1e-2 * (1 + abs(psi(x))))


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 200_000])
@pytest.mark.parametrize("kind", ["equal", "two levels", "powers", "uniform", "decades"])
def test_newton_steps_suffice(n, kind):
    """Both roots are reached by the fixed number of steps: the slope of psi is theta up to one constant."""
    rng = np.random.default_rng(n)
    l = {
        "equal": np.zeros(n),
        "two levels": np.where(np.arange(n) > 0, 1e5, 0.0),
        "powers": np.arange(n) ** 1.5 * 1e-3,
        "uniform": 1e4 * rng.random(n),
        "decades": 10.0 ** rng.uniform(-8, 8, n),
    }[kind]
    for scale in (1e-3, 1.0, 1e3):
        for kernel, slope in ((tsallis_simplex, lambda w: w**-0.5), (log_barrier_simplex, lambda w: 1 / w)):
            for variant in (kernel.numba, lambda *a, k=kernel: k.generic(*a, xp=XP)):
                w = variant(-l, scale)
                assert np.sum(w) == pytest.approx(scale, rel=1e-12)
                y = slope(w) - (l - np.min(l))
                size = slope(w)
                assert np.all(np.abs(y - y[np.argmax(w)]) <= 1e-11 * size)


def test_bandit_scaling():
    """Weights of Tsallis-INF, 4 / (eta (L - z))^2, are grad_conj(-eta / 2 L)."""
    losses, eta = np.array([3.0, 5.0, 4.0]), 0.6
    w = geo.Tsallis().grad_conj(-0.5 * eta * losses)
    z = losses - 2 / (eta * np.sqrt(w))
    np.testing.assert_allclose(z, z[0], rtol=1e-12)
    w = geo.LogBarrier().grad_conj(-eta * losses)
    y = 1 / (eta * w) - losses
    np.testing.assert_allclose(y, y[0], rtol=1e-12)


@pytest.mark.parametrize(
    "m", [geo.Entropy(2.0), geo.CappedEntropy(cap=0.6), geo.Tsallis(), geo.LogBarrier(), geo.BitEntropy()], ids=repr
)
def test_dual_state_remembers_what_vanished(m):
    """10^4 steps one way and back: the dual state returns, though weights underflow on the way (log-domain)."""
    g = np.array([0.0, 1.0, 2.0])
    theta = m.grad(m.center(g))
    for sign in (1.0, -1.0):
        for _ in range(20):
            theta = m.step_dual(theta, sign * g, 100.0)
            assert np.all(np.isfinite(theta))
    if isinstance(m, geo.CappedEntropy):  # projections lose what the caps cut
        assert np.all(np.isfinite(m.grad_conj(theta)))
    else:
        np.testing.assert_allclose(m.grad_conj(theta), m.center(g), rtol=1e-9)


def test_hedge_with_changing_rate():
    """step_dual is log w <- log w - eta g - logsumexp, exactly normalised after each round."""
    rng = np.random.default_rng(0)
    m, exact = geo.Entropy(), np.zeros(4)
    theta = m.grad(m.center(exact))
    for t in range(1, 50):
        g, eta = rng.random(4), 1 / math.sqrt(t)
        theta, exact = m.step_dual(theta, g, eta), exact - eta * g
    w = np.exp(exact - exact.max())
    np.testing.assert_allclose(np.exp(theta - 1), w / w.sum(), rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 7), scale=st.sampled_from([0.1, 1.0, 5.0, 300.0, 1e5]))
def test_capped_entropy(engine, seed, n, scale):
    """First-order conditions of the clipped softmax, for spreads of any size."""
    rng = np.random.default_rng(seed)
    total = 10.0 ** rng.uniform(-1, 1)
    floor = rng.choice([0.0, rng.uniform(0, 1)]) * total / n
    cap = rng.choice([np.inf, rng.uniform(1.01, n + 0.5)]) * total / n
    m = geo.CappedEntropy(total, floor=floor, cap=max(cap, floor + 1e-9))
    theta = scale * rng.normal(size=n)
    x = m.grad_conj(theta)
    assert m.in_domain(x, 1e-12)
    assert np.all(x >= m.floor)
    level = np.log(np.maximum(x, 1e-290)) - theta
    free = (x > m.floor * (1 + 1e-9) + 1e-280) & (x < m.cap * (1 - 1e-9))
    tol = 1e-9 + 1e-13 * scale
    if np.any(free):
        c = level[np.argmax(np.where(free, x, 0))]
        assert np.all(np.abs(level - c)[free] <= tol)
        assert np.all(level[x >= m.cap * (1 - 1e-9)] <= c + tol)
        assert np.all(level[(x <= m.floor * (1 + 1e-9)) & (m.floor > 0)] >= c - tol)
    else:
        assert np.all(level[x > m.floor][:, None] <= level[x <= m.floor][None, :] + tol) or m.floor == 0
    again = m.grad_conj(m.step_dual(theta, np.zeros(n), 1.0))
    np.testing.assert_allclose(again, x, rtol=1e-9, atol=1e-12 * total)


def test_capped_entropy_is_the_projection_of_the_softmax():
    theta = np.array([[0.0, -1.0, -9.0, -2.0], [3.0, 0.0, 0.0, -1.0]])
    w = geo.Entropy().grad_conj(theta)
    np.testing.assert_allclose(geo.CappedEntropy(floor=0.1).grad_conj(theta), geo.project_kl_floor(w, 0.1), rtol=1e-12)
    np.testing.assert_allclose(geo.CappedEntropy(cap=0.4).grad_conj(theta), geo.project_kl_cap(w, 0.4), rtol=1e-12)


@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("n", [1, 6, 40])
def test_quadratic_programs(engine, n, condition):
    """First-order conditions to rounding, also with active bounds of multiplier zero and pinned entries."""
    rng = np.random.default_rng(n)
    for trial in range(6):
        v = np.linalg.qr(rng.normal(size=(n, n)))[0]
        w = 10.0 ** rng.uniform(-3, 3) * np.geomspace(1, condition, n)
        a = (v * w) @ v.T
        a = 0.5 * (a + a.T)
        b = a @ (rng.normal(size=n) * (0.3, 3.0)[trial % 2])
        lower, upper = np.zeros(n), np.full(n, np.inf)
        if trial % 3 == 0:
            x, level = quadratic_on_simplex(b, a, 2.0, xp=XP), None
            assert np.sum(x) == pytest.approx(2.0, rel=1e-12)
            if trial == 3:  # stationary at this point: all multipliers vanish
                b = a @ x
                np.testing.assert_allclose(quadratic_on_simplex(b, a, 2.0, xp=XP), x, atol=1e-14 * condition)
                continue
        else:
            lower = rng.choice([-np.inf, -1.0, 0.0], n)
            upper = np.where(np.isfinite(lower), lower, 0.0) + rng.choice([np.inf, 0.7, 0.0], n)
            x, level = quadratic_on_box(b, a, lower, upper, xp=XP), 0.0
        assert np.all((x >= lower) & (x <= upper))
        free = (x > lower) & (x < upper)
        slope = b - a @ x
        size = np.abs(b) + np.abs(a) @ np.abs(x)
        level = np.median(slope[free]) if level is None else level
        tol = 1e-13 * n * (size + abs(level)) * max(1.0, condition * 1e-6)
        assert np.all((np.abs(slope - level) <= tol)[free])
        assert np.all((slope - level <= tol)[(x <= lower) & (lower < upper)])
        assert np.all((slope - level >= -tol)[(x >= upper) & (lower < upper)])


def test_quadratic_on_ball_changes_metric_every_round():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(5, 3, 3))
    a = root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(3)
    b = 3 * rng.normal(size=(5, 3))
    x = quadratic_on_ball(b, a, 0.7, xp=XP)
    for i in range(5):
        np.testing.assert_allclose(geo.QuadraticBall(a[i], 0.7).grad_conj(b[i]), x[i], rtol=1e-10)


def test_radius_and_order_limits():
    """p = 2 is Euclidean, large beta is Euclidean, one coordinate is no choice."""
    g = np.array([0.3, -2.0, 1.0])
    np.testing.assert_allclose(geo.PNorm(2.0, radius=0.5).grad_conj(g), geo.EuclideanBall(0.5).grad_conj(g), rtol=1e-12)
    np.testing.assert_allclose(1e6 * geo.Hypentropy(1e6, radius=2.0).grad_conj(g / 1e6) / 1e6,
                               geo.EuclideanL1Ball(2.0).grad_conj(g), rtol=1e-6)  # fmt: skip
    for m in (geo.Entropy(3.0), geo.Tsallis(3.0), geo.LogBarrier(3.0), geo.EuclideanSimplex(3.0)):
        np.testing.assert_allclose(m.step([3.0], [1e9], 1.0), [3.0], rtol=1e-14)
        assert m.range(1) == pytest.approx(0.0, abs=1e-15)


def test_ranges_are_attained():
    """The range of a bounded map is the divergence-free gap between a vertex and the centre."""
    for n in (2, 5):
        vertex = np.eye(n)[0]
        zero = np.zeros(n)
        for m, x in [
            (geo.Entropy(2.0), 2.0 * vertex),
            (geo.Tsallis(2.0), 2.0 * vertex),
            (geo.EuclideanSimplex(2.0), 2.0 * vertex),
            (geo.EuclideanL1Ball(0.3), 0.3 * vertex),
            (geo.EuclideanBall(0.3), 0.3 * vertex),
            (geo.EuclideanBox(-1.0, 2.0), zero + 2.0),
            (geo.EuclideanBox(0.5, 2.0), zero + 2.0),
            (geo.BitEntropy(), vertex),
            (geo.UnnormalizedEntropy(mass=3.0), 3.0 * vertex),
            (geo.UnnormalizedEntropy(mass=0.3), zero),
            (geo.UnnormalizedEntropy(upper=4.0), zero + 4.0),
            (geo.Hypentropy(0.2, radius=0.7), 0.7 * vertex),
            (geo.PNorm(1.3, radius=0.7), 0.7 * vertex),
            (geo.CappedEntropy(1.0, floor=0.1 / n), (0.1 / n) + 0.9 * vertex),
            (geo.QuadraticSimplex(np.eye(n)), vertex),
            (geo.QuadraticBall(np.diag(np.arange(n, 0, -1.0)), 0.5), 0.5 * vertex),
        ]:
            gap = float(m.value(x)) - float(m.value(m.center(zero)))
            assert m.range(n) == pytest.approx(gap, rel=1e-12), m


def test_diameters_are_attained():
    one, two = np.eye(3)[:2]
    for m, x, y in [
        (geo.EuclideanSimplex(2.0), 2 * one, 2 * two),
        (geo.EuclideanBall(0.5, one), 1.5 * one, 0.5 * one),
        (geo.EuclideanL1Ball(0.5), 0.5 * one, -0.5 * one),
        (geo.EuclideanBox(-1.0, [1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), np.full(3, -1.0)),
        (geo.PNorm(1.3, radius=2.0), 2 * one, -2 * one),
        (geo.Hypentropy(0.1, radius=2.0), 2 * one, -2 * one),
        (geo.CappedEntropy(1.0, floor=0.1), 0.1 + 0.7 * one, 0.1 + 0.7 * two),
        (geo.CappedEntropy(1.0, floor=0.1, cap=0.5), np.array([0.5, 0.4, 0.1]), np.array([0.1, 0.4, 0.5])),
        (geo.QuadraticBall(np.diag([4.0, 1.0, 1.0]), 2.0), 2 * one, -2 * one),
        (geo.QuadraticSimplex(np.diag([4.0, 2.0, 1.0])), one, two),
        (geo.QuadraticBox(np.eye(3), 0.0, 1.0), np.zeros(3), np.ones(3)),
    ]:
        assert 0.5 * m.diameter(3) ** 2 == pytest.approx(float(m.bregman(x, y)), rel=1e-12), m
    for m in (geo.Euclidean(), geo.Entropy(), geo.CappedEntropy(cap=0.5), geo.BitEntropy(), geo.Tsallis()):
        assert m.diameter(3) == math.inf


@pytest.mark.parametrize("name", CASES)
def test_the_domain_is_the_set_of_the_map(name):
    m = CASES[name].make(np.asarray, 4)
    domain = m.domain(4)
    if domain is None:
        return
    rng = np.random.default_rng(0)
    assert domain.shape == (4,) * m.point_ndim
    assert np.all(domain.contains(m.grad_conj(rng.standard_normal((20, *domain.shape)))))
    assert np.all(m.in_domain(domain.linear_minimizer(rng.standard_normal((20, *domain.shape)))))
    assert np.all(m.in_domain(domain.project(5.0 * rng.standard_normal((20, *domain.shape)))))


def test_engine_is_respected():
    with optlib.config(engine="generic"):
        slow = geo.Tsallis().grad_conj([0.0, -1.0])
    np.testing.assert_allclose(geo.Tsallis().grad_conj([0.0, -1.0]), slow, rtol=1e-14)
