"""Barycenters: against plain Bregman projections, exact programs and closed forms; laws and certificates."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp, xlogy

from optlib import testing
from optlib._core import Status
from optlib.transport import GridCost, PointCloud, barycenter, divergence, emd, sinkhorn, wasserstein_1d
from tests.transport.strategies import weights


def bumps(seed, n=40, k=3):
    rng = np.random.default_rng(seed)
    x = np.linspace(0.0, 1.0, n)
    a = np.exp(-((x - rng.uniform(0.2, 0.8, (k, 1))) ** 2) / (2 * rng.uniform(0.05, 0.1, (k, 1)) ** 2)) + 1e-6
    return x, a / a.sum(axis=1, keepdims=True), rng.dirichlet(np.ones(k))


def projections(cost, a, w, eps, iterations=20_000):
    """Plain iterative Bregman projections in the logarithmic domain."""
    g = np.zeros_like(a)
    with np.errstate(divide="ignore"):
        log_a = np.log(a)
    for _ in range(iterations):
        f = -logsumexp(g[:, None, :] - cost[None] / eps, axis=2) + log_a
        c = logsumexp(f[:, :, None] - cost[None] / eps, axis=1)
        log_b = w @ c
        g = log_b - c
    return np.exp(log_b)


@pytest.mark.parametrize("reg", [0.1, 0.01])
def test_it_is_the_limit_of_the_projections(reg, engine):
    x, a, w = bumps(0, 20)
    cost = (x[:, None] - x[None, :]) ** 2
    got = barycenter(cost, a, w, reg=reg, tol=1e-10)
    assert got.success
    np.testing.assert_allclose(got.x, projections(cost, a, w, reg, 3000), atol=1e-8)
    for other in (PointCloud(x, x), GridCost([x]), [cost] * 3):
        np.testing.assert_allclose(barycenter(other, a, w, reg=reg, tol=1e-10).x, got.x, atol=1e-8)
    again = barycenter(cost, a, w, reg=reg, tol=1e-10, init=np.stack([g for _, g in got.potentials]))
    assert again.nit <= 5
    for plan, own in zip(got.plans, a, strict=True):
        np.testing.assert_allclose(plan.sum(1), own, atol=1e-8)
        np.testing.assert_allclose(plan.sum(0), got.x, atol=1e-8)


@given(st.data(), st.integers(0, 2**32 - 1), st.integers(1, 4), st.sampled_from([1e-3, 1e-2, 0.1, 1.0]))
def test_certificate_and_laws(data, seed, k, reg):
    """The value is what the barycenter achieves, nothing achieves less than value minus gap; order does not count."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 8, 2)
    cost = PointCloud(rng.random((n, 2)), rng.random((m, 2)))
    a, w = np.stack([data.draw(weights(n)) for _ in range(k)]), rng.dirichlet(np.ones(k))
    got = barycenter(cost, a, w, reg=reg, maxiter=3000)
    assert got.success == (got.status is Status.CONVERGED)
    assert got.success or reg == 1e-3, got  # weights of 1e-12 and little entropy: all but falls apart
    assert math.isclose(got.x.sum(), 1.0, rel_tol=1e-12)

    def bounds(b):  # the entropy with the uniform reference: that of the product of the marginals, and KL(b | u)
        own = reg * np.sum(xlogy(b, b * m))
        found = [sinkhorn(cost, u, b, reg=reg) for u in a]
        return (own + w @ [u.dual_value for u in found], own + w @ [u.value for u in found])

    slack = 1e-12 * got.certificate.scale
    assert bounds(got.x)[0] <= got.value + slack
    for b in (np.full(m, 1 / m), rng.dirichlet(np.ones(m)), 0.9 * got.x + 0.1 / m):
        assert got.value - got.gap <= bounds(b)[1] + slack
    low, high = got.lp_bounds
    exact = barycenter(cost, a, w, reg=0.0)
    assert exact.success
    assert low - 1e-9 <= exact.value <= high + 1e-9
    order = rng.permutation(k)
    if got.success and reg > 1e-3:
        np.testing.assert_allclose(barycenter(cost, a[order], w[order], reg=reg).x, got.x, atol=1e-4)


@given(st.data(), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_exact(data, seed, k):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 7, 2)
    cost = PointCloud(rng.random((n, 2)), rng.random((m, 2)))
    a, w = 3.0 * np.stack([data.draw(weights(n)) for _ in range(k)]), rng.dirichlet(np.ones(k))
    got = barycenter(cost, a, w, reg=0)
    assert got.success
    assert math.isclose(got.x.sum(), 3.0, rel_tol=1e-12)
    for b in (np.full(m, 3.0 / m), 3.0 * rng.dirichlet(np.ones(m))):
        assert got.value <= sum(v * emd(cost, u, b).value for v, u in zip(w, a, strict=True)) + 1e-9
    one = barycenter(cost, a, np.eye(k)[0], reg=0)
    assert math.isclose(one.value, float(3.0 / 3.0 * np.sum(a[0] * cost.toarray().min(axis=1))), rel_tol=1e-7)


def test_exact_on_the_line():
    """Barycenters on the line average the quantile functions: here two shifted copies meet half-way."""
    x = np.linspace(0.0, 1.0, 41)
    a = np.zeros((2, 41))
    a[0, 2:9], a[1, 22:29] = 1 / 7, 1 / 7
    got = barycenter(PointCloud(x, x), a, reg=0)
    assert got.success
    assert math.isclose(got.value, 0.25**2, rel_tol=1e-9)
    assert float(wasserstein_1d(x, x, got.x, np.roll(a[0], 10), p=2)) <= 1e-9


@pytest.mark.parametrize("reg", [1e-2, 1e-3, 1e-4])
def test_small_regularisation_and_empty_bins(reg):
    x, a, w = bumps(1, 120)
    a[0, :40] = a[1, 80:] = 0.0
    a = a / a.sum(axis=1, keepdims=True)
    got = barycenter(PointCloud(x, x), a, w, reg=reg)
    assert got.success
    assert np.all(np.isfinite(got.x))
    assert got.nit < 500
    means, spread = a @ x, float(got.x @ (x - got.x @ x) ** 2)
    assert math.isclose(got.x @ x, w @ means, abs_tol=1e-3)
    assert spread < 0.03


@pytest.mark.parametrize("reg", [0.02, 2e-3, 2e-4])
def test_debiased_gives_back_equal_measures(reg):
    x, a, w = bumps(2, 60)
    same = np.stack([a[0]] * 3)
    got = barycenter(GridCost([x]), same, w, reg=reg, debiased=True)
    assert got.success
    np.testing.assert_allclose(got.x, a[0], atol=5e-5)
    blurred = barycenter(GridCost([x]), same, w, reg=reg)
    assert np.abs(blurred.x - a[0]).sum() > 10 * np.abs(got.x - a[0]).sum()


@pytest.mark.parametrize("shape", [(60,), (9, 8)])
def test_debiased_is_best(shape):
    rng = np.random.default_rng(3)
    n = math.prod(shape)
    cost = GridCost([np.linspace(0, 1, k) for k in shape])
    centres = rng.uniform(0.3, 0.7, (3, 1, len(shape)))
    a = np.exp(-((cost.points - centres) ** 2).sum(axis=2) / 0.03)
    a = a / a.sum(axis=1, keepdims=True)
    w = np.asarray([0.5, 0.3, 0.2])
    got = barycenter(cost, a, w, reg=0.02, debiased=True)
    assert got.success

    def objective(b):
        b = b / b.sum()
        return sum(v * divergence(cost, u, b, reg=0.02, tol=1e-8).value for v, u in zip(w, a, strict=True))

    assert math.isclose(got.value, objective(got.x), rel_tol=1e-5)
    biased = barycenter(cost, a, w, reg=0.02).x
    for b in (biased, np.full(n, 1 / n), got.x * (1 + 0.1 * rng.random(n)), a[0]):
        assert got.value - got.gap <= objective(b)


def test_other_forms_keep_the_contract(backend):
    x, a, w = bumps(4, 15)
    x, a, w = (backend.asarray(u) for u in (x, a, w))
    testing.check_solver_contract(barycenter, GridCost([x]), a, w, like=a, reg=0.01, debiased=True)
    testing.check_solver_contract(barycenter, PointCloud(x, x), a, w, like=a, reg=1e-3)
    for options in ({"reg": 0.01}, {"reg": 0.01, "debiased": True}, {"reg": 0.0}):
        got = barycenter(GridCost([x]), a, w, maxiter=3, **options)
        assert all(
            u.dtype == backend.dtype
            for plan, pair in zip(got.plans, got.potentials, strict=True)
            for u in (plan.a, *pair)
        )


def test_same_on_every_backend(backend):
    x, a, w = bumps(5, 25)
    for options in ({"reg": 0.01}, {"reg": 0.01, "debiased": True}, {"reg": 0.0}):
        want = barycenter(PointCloud(x, x), a, w, **options)
        ours = (backend.asarray(u) for u in (x, a, w))
        x_, a_, w_ = ours
        got = barycenter(PointCloud(x_, x_), a_, w_, **options)
        assert got.success
        assert math.isclose(got.value, want.value, rel_tol=1e-5 if backend.is_double else 1e-2, abs_tol=1e-6)
        atol = 1e-6 if backend.is_double else 1e-2
        if options["reg"]:
            testing.assert_close(got.x, backend.asarray(want.x), atol=atol)
        assert got.x.dtype == backend.dtype


def test_images_of_different_points():
    rng = np.random.default_rng(0)
    targets = rng.random((12, 2))
    clouds = [rng.random((k, 2)) for k in (5, 8)]
    masses = [rng.dirichlet(np.ones(len(c))) for c in clouds]
    got = barycenter([PointCloud(c, targets) for c in clouds], masses, reg=0.02)
    assert got.success
    assert [plan.shape for plan in got.plans] == [(5, 12), (8, 12)]


@pytest.mark.peers
def test_pot_finds_the_same():
    import ot

    x, a, w = bumps(6, 50)
    cost = (x[:, None] - x[None, :]) ** 2
    w = np.full(3, 1 / 3)  # with others the start of POT breaks the constraint on its potentials, which then stays so
    want = ot.barycenter(a.T, cost, 0.01, weights=w, stopThr=1e-12)
    np.testing.assert_allclose(barycenter(cost, a, w, reg=0.01, tol=1e-9).x, want / want.sum(), atol=1e-7)
    want = ot.bregman.barycenter_debiased(a.T, cost, 0.01, weights=w, stopThr=1e-8, warn=False)
    np.testing.assert_allclose(barycenter(cost, a, w, reg=0.01, debiased=True).x, want / want.sum(), atol=1e-4)
