"""The light bridge against closed forms: Gaussian bridges, quadrature of the potential, exact Brownian bridges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from optlib.backend import to_numpy
from optlib.testing import assert_close, check_gradient
from optlib.transport import LightBridge, PointCloud, light_bridge, sinkhorn
from tests.transport.map_cases import clouds


def gaussian_slope(a, b, eps):
    """Slope of E[y | x] between Gaussians of variances a and b; eps times it is the variance of y given x."""
    return (np.sqrt(a * b + eps**2 / 4) - eps / 2) / a


@pytest.fixture(scope="module")
def bridge():
    """A bridge on the line with three components, far from Gaussian."""
    rng = np.random.default_rng(1)
    x, y = 2.0 + rng.normal(size=(400, 1)), rng.choice([-1.0, 0.5, 4.0], (500, 1)) + 0.3 * rng.normal(size=(500, 1))
    return LightBridge(3, reg=0.7).fit(x, y, rng=0)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 2.0, 20.0]), st.integers(1, 4), st.integers(1, 3))
def test_gradient(seed, reg, components, d):
    rng = np.random.default_rng(seed)
    problem = light_bridge._standardised(rng.normal(size=(9, d)), 3.0 * rng.normal(size=(7, d)) - 1.0, reg, 1e-3)
    theta = 0.5 * rng.normal(size=components * (2 * d + 1))
    check_gradient(
        lambda v: light_bridge._loss(v, problem, components)[0],
        lambda v: light_bridge._loss(v, problem, components)[1],
        theta,
        rtol=1e-4,  # third derivatives grow like a power of 1 / reg
    )


def test_one_component_is_the_gaussian_bridge(backend):
    """The likelihood of one Gaussian is maximised by the closed form for the variances of the samples."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)) * [1.0, 3.0] + 5.0, rng.normal(size=(50, 2)) * [0.5, 2.0] - 1.0
    fitted = LightBridge(1, reg=0.8, floor=1e-6).fit(backend.asarray(x), backend.asarray(y))
    assert fitted.result_.success
    slope = gaussian_slope(x.var(axis=0), y.var(axis=0), 0.8)
    rtol = 1e-5 if backend.is_double else 1e-2
    assert_close(fitted.S_[0, :], backend.asarray(slope), rtol=rtol)
    expected = y.mean(axis=0) + slope * (x - x.mean(axis=0))
    assert_close(fitted.transform(backend.asarray(x)), backend.asarray(expected), rtol=rtol, atol=rtol)


def test_same_on_every_backend(backend):
    x, y = clouds()
    here = LightBridge(3, reg=0.5).fit(backend.asarray(x), backend.asarray(y), rng=0, maxiter=5, tol=None)
    host = LightBridge(3, reg=0.5).fit(x, y, rng=0, maxiter=5, tol=None)
    rtol = 1e-6 if backend.is_double else 5e-2
    for call in (
        lambda b, u: b.transform(u),
        lambda b, u: b.drift(u, 0.4),
        lambda b, u: b.drift(u, 0.6),
        lambda b, u: b.log_potential(u),
        lambda b, u: b.sample_path(u, 3, rng=1),
        lambda b, u: b.sample_path(u, [0.0, 0.5, 1.0], method="euler", rng=1),
    ):
        found = call(here, backend.asarray(x[:4]))
        assert_close(found, backend.asarray(to_numpy(call(host, x[:4]))), rtol=rtol, atol=rtol)
    assert here.score(backend.asarray(x), backend.asarray(y)) == pytest.approx(host.score(x, y), rel=rtol)


@pytest.mark.parametrize("components", [1, 5])
def test_fit_reaches_the_tolerance_and_says_what_it_minimised(components):
    x, y = clouds(300, 250)
    fitted = LightBridge(components, reg=0.3).fit(x, y, rng=0)
    assert fitted.result_.success
    assert fitted.score(x, y) == pytest.approx(-fitted.result_.fun, abs=1e-9)
    # the objective falls, and more components fit better
    assert fitted.result_.fun <= LightBridge(1, reg=0.3).fit(x, y, rng=0).result_.fun + 1e-9


@given(st.integers(0, 2**32 - 1))
def test_translations_and_scales(seed):
    """A shift of either cloud, and one scale for all, change the answer as they must."""
    rng = np.random.default_rng(seed)
    (x, y), u, v, s = clouds(seed=seed % 1000), rng.normal(size=2) * 10, rng.normal(size=2) * 10, rng.uniform(0.1, 10)
    plain = LightBridge(2, reg=0.5).fit(x, y, rng=0, maxiter=8, tol=None)
    moved = LightBridge(2, reg=0.5 * s * s).fit(s * x + u, s * y + v, rng=0, maxiter=8, tol=None)
    assert_close(moved.transform(s * x + u), s * plain.transform(x) + v, rtol=1e-5, atol=1e-5 * s)


def test_other_scores_do_not_depend_on_the_frame():
    """Held-out scores compare the densities ``pi(y | x)`` and nothing else."""
    x, y = clouds(200, 200)
    u, v = clouds(100, 100, seed=1)
    bridges = [LightBridge(k, reg=0.4).fit(x, y, rng=0, maxiter=20) for k in (1, 4)]
    gains = []
    for shift in (0.0, 7.0):
        again = [LightBridge(k, reg=0.4).fit(x + shift, y - shift, rng=0, maxiter=20) for k in (1, 4)]
        gains.append(again[1].score(u + shift, v - shift) - again[0].score(u + shift, v - shift))
    assert gains[0] == pytest.approx(gains[1], rel=1e-4)
    # log pi(y | x) = <x, y> / reg + log v(y) - log c(x): the score is its mean over independent x and y, centred
    w = [_log_normalised(b, u, v) for b in bridges]
    assert w[1] - w[0] == pytest.approx(bridges[1].score(u, v) - bridges[0].score(u, v), rel=1e-6)


def _log_normalised(bridge, u, v):
    c = (
        logsumexp(bridge._logits(u - bridge.source_mean_), axis=1)
        + (u - bridge.source_mean_) @ bridge.target_mean_ / 0.4
    )
    return np.mean(bridge.log_potential(v)) - np.mean(c)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.49, 0.51, 0.9, 0.99])
def test_drift_is_the_gradient_of_the_potential(bridge, t):
    """``reg d/dz log phi_t(z)`` with ``phi_t(z) = E phi_1(z + sqrt(reg (1 - t)) W)`` by quadrature."""
    grid = np.linspace(-30.0, 30.0, 60_001)
    end = bridge.log_potential(grid[:, None]) + grid**2 / (2 * bridge.reg)

    def log_potential(z):
        return logsumexp(end - (grid - z) ** 2 / (2 * bridge.reg * (1 - t)))

    z, step = np.array([-1.0, 0.3, 2.0, 3.5]), 1e-5
    slope = [(log_potential(u + step) - log_potential(u - step)) / (2 * step) for u in z]
    np.testing.assert_allclose(bridge.drift(z[:, None], t)[:, 0], bridge.reg * np.array(slope), rtol=1e-5, atol=1e-6)


def test_drift_at_the_start_points_to_the_mean_end(bridge):
    x = np.linspace(-1, 5, 7)[:, None]
    np.testing.assert_allclose(bridge.drift(x, 0.0), bridge.transform(x) - x, rtol=1e-12, atol=1e-12)


def test_samples_have_the_moments_of_the_conditional(bridge):
    x = np.full((40_000, 1), 2.5)
    y = bridge.sample(x, rng=0)
    u = x[:1] - bridge.source_mean_
    w = bridge._weights(u)[0]
    means = bridge.target_mean_ + bridge.r_[:, 0] + bridge.S_[:, 0] * u[0]
    variance = w @ (means**2 + bridge.reg * bridge.S_[:, 0]) - (w @ means) ** 2
    assert w.sum() == pytest.approx(1.0)
    assert y.mean() == pytest.approx(bridge.transform(x[:1])[0, 0], abs=5 * np.sqrt(variance / len(y)))
    assert y.var() == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize("components", [1, 2, 5])
def test_plan_has_the_first_two_moments_of_the_targets(components):
    """Which are the conditions of stationarity in the centres and the variances."""
    x, y = clouds(200, 150)
    fitted = LightBridge(components, reg=0.6, floor=1e-9).fit(x, y, rng=0, tol=1e-6)
    assert fitted.result_.success
    u = x - x.mean(axis=0)
    w, means = fitted._weights(u), fitted.r_ + fitted.S_ * u[:, None, :] + y.mean(axis=0)
    np.testing.assert_allclose(np.mean(fitted.transform(x), axis=0), y.mean(axis=0), atol=1e-5)
    second = np.mean(np.einsum("nk,nkd->nd", w, means**2 + 0.6 * fitted.S_), axis=0)
    np.testing.assert_allclose(second, np.mean(y**2, axis=0), rtol=1e-4)


def test_paths_of_both_kinds_agree(bridge):
    x = np.full((4000, 1), 1.5)
    exact, euler = bridge.sample_path(x, 40, rng=0), bridge.sample_path(x, 40, method="euler", rng=1)
    assert exact.shape == euler.shape == (41, 4000, 1)
    np.testing.assert_array_equal(exact[0], x)
    assert_close(exact[-1], bridge.sample(x, rng=0), rtol=1e-9)
    for k in (10, 20, 40):
        spread = exact[k].std() / np.sqrt(4000)
        assert abs(exact[k].mean() - euler[k].mean()) < 6 * spread + 0.03
        assert euler[k].std() == pytest.approx(exact[k].std(), rel=0.1)


def test_conditional_means_are_those_of_sinkhorn():
    """The same plan: its cost is halved, hence twice the regularisation there."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1500, 1)), rng.choice([-2.0, 2.0], (1500, 1)) + 0.5 * rng.normal(size=(1500, 1))
    fitted = LightBridge(4, reg=0.5).fit(x, y, rng=0)
    plan = sinkhorn(PointCloud(x, y), reg=1.0).plan
    assert np.mean(np.abs(fitted.transform(x) - plan.barycentric(y))) < 0.06


@pytest.mark.parametrize("reg", [1e-3, 1e3])
def test_extreme_regularisation(reg):
    x, y = clouds(200, 150)
    fitted = LightBridge(4, reg=reg).fit(x, y, rng=0)
    assert np.all(np.isfinite(fitted.transform(x)))
    assert np.all(np.isfinite(fitted.drift(x, 0.999)))
    if reg == 1e3:  # independent: everything goes to the mean
        np.testing.assert_allclose(fitted.transform(x), np.broadcast_to(y.mean(axis=0), x.shape), atol=0.02)


def test_degenerate_targets():
    """Fewer distinct points than components, and a coordinate in which nothing varies."""
    x = np.random.default_rng(0).normal(size=(20, 2))
    y = np.tile([[0.0, 1.0], [2.0, 1.0]], (10, 1))
    fitted = LightBridge(5, reg=0.5).fit(x, y, rng=0)
    assert np.all(np.isfinite(fitted.transform(x)))
    np.testing.assert_allclose(fitted.transform(x)[:, 1], 1.0, atol=0.1)


def test_starts_from_a_bridge_of_other_samples():
    (x, y), (u, v) = clouds(200, 200), clouds(200, 200, seed=1)
    first = LightBridge(3, reg=0.5).fit(x, y, rng=0)
    again = LightBridge(3, reg=0.4).fit(u, v, init=first, maxiter=0)
    assert_close(again.r_, first.r_, rtol=1e-9)
    assert_close(again.S_, first.S_, rtol=1e-9)
    assert LightBridge(3, reg=0.4).fit(u, v, init=again).result_.success
