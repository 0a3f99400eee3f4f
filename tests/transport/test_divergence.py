"""Sinkhorn divergences: against a plain implementation and closed forms, laws, gradients by differences."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from optlib import testing
from optlib.transport import PointCloud, divergence
from tests.transport.strategies import weights

COSTS = [("sqeuclidean", {}), ("euclidean", {}), ("lp", {"p": 1}), ("lp", {"p": 1.5}), ("lp", {"p": 2})]


def clouds(seed, n=9, m=7, d=2):
    rng = np.random.default_rng(seed)
    return rng.random((n, d)), rng.random((m, d)) + 0.3, rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


def optimum(cost, a, b, eps, rho=math.inf, sweeps=4000):
    """Value of entropic transport by plain iterations in the logarithmic domain."""
    f, g, lam = np.zeros(len(a)), np.zeros(len(b)), 1.0 if math.isinf(rho) else rho / (rho + eps)
    for _ in range(sweeps):
        f = -lam * eps * logsumexp((g[None, :] - cost) / eps, b=b[None, :], axis=1)
        g = -lam * eps * logsumexp((f[:, None] - cost) / eps, b=a[:, None], axis=0)
    mass = float(a @ np.exp((f[:, None] + g[None, :] - cost) / eps) @ b)
    own = (f @ a, g @ b) if math.isinf(rho) else (-rho * a @ np.expm1(-f / rho), -rho * b @ np.expm1(-g / rho))
    return sum(own) - eps * (mass - a.sum() * b.sum())


def reference(cloud, a, b, eps, rho=math.inf):
    costs = cloud.toarray(), *(own.toarray() for own in cloud.within())
    cross, xx, yy = (optimum(c, *w, eps, rho) for c, w in zip(costs, ((a, b), (a, a), (b, b)), strict=True))
    return cross - 0.5 * (xx + yy) + 0.5 * eps * (a.sum() - b.sum()) ** 2


@pytest.mark.parametrize("unbalanced", [None, 0.3])
@pytest.mark.parametrize(("cost", "options"), COSTS)
def test_value_and_bounds(cost, options, unbalanced):
    x, y, a, b = clouds(0)
    if unbalanced:
        b = 1.7 * b
    cloud = PointCloud(x, y, cost, **options)
    want = reference(cloud, a, b, 0.1, unbalanced or math.inf)
    for tol in (1e-3, 1e-10):
        got = divergence(cloud, a, b, reg=0.1, unbalanced=unbalanced, tol=tol)
        assert got.success
        assert got.bounds[0] - 1e-12 <= want <= got.bounds[1] + 1e-12
        assert abs(got.value - want) <= max(1e-12, 10 * tol**1.5)
        dense = divergence(
            cloud.toarray(), a, b, reg=0.1, unbalanced=unbalanced, tol=tol, within=[c.toarray() for c in cloud.within()]
        )
        assert math.isclose(dense.value, got.value, rel_tol=1e-9, abs_tol=tol**1.5)
        assert dense.gradients.x is None
        np.testing.assert_allclose(dense.gradients.a, got.gradients.a, atol=tol)


@pytest.mark.parametrize("unbalanced", [None, 0.5])
@pytest.mark.parametrize(("cost", "options"), COSTS)
def test_gradients_by_differences(cost, options, unbalanced):
    x, y, a, b = clouds(1, 6, 5)

    def solved(x=x, y=y, a=a, b=b):
        if unbalanced is None:
            a, b = a / a.sum(), b / b.sum()
        return divergence(PointCloud(x, y, cost, **options), a, b, reg=0.2, unbalanced=unbalanced, tol=1e-11)

    def on_simplex(gradient, w):
        return gradient if unbalanced else gradient - gradient @ w

    testing.check_gradient(lambda u: solved(x=u).value, lambda u: solved(x=u).gradients.x, x)
    testing.check_gradient(lambda u: solved(y=u).value, lambda u: solved(y=u).gradients.y, y)
    testing.check_gradient(lambda u: solved(a=u).value, lambda u: on_simplex(solved(a=u).gradients.a, u), a)
    testing.check_gradient(lambda u: solved(b=u).value, lambda u: on_simplex(solved(b=u).gradients.b, u), b)


@given(
    st.data(), st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 7), st.sampled_from([0.05, 0.5, 5.0]),
    st.sampled_from([None, 1.0]),
)  # fmt: skip
def test_laws(data, seed, n, m, reg, unbalanced):
    x, y, _, _ = clouds(seed, n, m)
    a, b = data.draw(weights(n)), data.draw(weights(m))
    if unbalanced:
        b = 0.5 * b

    def solved(x, y, a, b):
        return divergence(PointCloud(x, y), a, b, reg=reg, unbalanced=unbalanced)

    got = solved(x, y, a, b)
    slack = 2e-6 * got.certificate.scale
    assert got.success
    assert got.bounds[1] >= 0.0
    assert abs(solved(x, x, a, a).value) <= slack
    assert abs(got.value - solved(y, x, b, a).value) <= slack
    rows = np.random.default_rng(seed).permutation(n)
    moved = solved(x[rows] + 3.0, y + 3.0, a[rows], b)
    assert abs(got.value - moved.value) <= slack
    split = solved(np.concatenate([x, x[:1]]), y, np.concatenate([0.5 * a[:1], a[1:], 0.5 * a[:1]]), b)
    assert abs(got.value - split.value) <= slack


def test_translation_and_limits():
    x, _, a, _ = clouds(3, 20)
    shift = np.asarray([0.4, -0.2])
    moved = divergence(PointCloud(x, x + shift), a, a, reg=0.05, tol=1e-9)
    assert math.isclose(moved.value, shift @ shift, rel_tol=1e-7)
    np.testing.assert_allclose(moved.gradients.x, -2.0 * a[:, None] * shift, atol=1e-8)
    x, y, a, b = clouds(4)
    cloud = PointCloud(x, y)
    cross, xx, yy = (c.toarray() for c in (cloud, *cloud.within()))
    energy = a @ cross @ b - 0.5 * (a @ xx @ a + b @ yy @ b)
    assert math.isclose(divergence(cloud, a, b, reg=1e4).value, energy, rel_tol=1e-3)
    far = divergence(cloud, a, b, reg=0.1, unbalanced=1e7, tol=1e-9)
    assert math.isclose(far.value, divergence(cloud, a, b, reg=0.1, tol=1e-9).value, rel_tol=1e-5)
    assert divergence(cloud, a, b, reg=0.1, unbalanced=math.inf).value == divergence(cloud, a, b, reg=0.1).value


@pytest.mark.parametrize("reg", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
def test_self_transport_takes_few_passes(reg):
    x, y, _, _ = clouds(5, 150, 100)
    got = divergence(PointCloud(x, y), reg=reg, tol=1e-8, maxiter=40, check_every=40)
    assert max(got.state.sources.nit, got.state.targets.nit) <= 30
    assert max(got.state.sources.error, got.state.targets.error) <= 1e-8


def test_same_on_every_backend(backend, engine):
    x, y, a, b = clouds(6)
    want = divergence(PointCloud(x, y), a, b, reg=0.1, tol=1e-9)
    x, y, a, b = (backend.asarray(u) for u in (x, y, a, b))
    got = divergence(PointCloud(x, y), a, b, reg=0.1, tol=1e-9 if backend.is_double else 1e-5)
    assert got.success
    assert math.isclose(got.value, want.value, rel_tol=1e-7 if backend.is_double else 1e-3)
    rtol, atol = (1e-6, 1e-8) if backend.is_double else (1e-3, 1e-4)
    for ours, theirs in zip((*got.gradients, *got.potentials), (*want.gradients, *want.potentials), strict=True):
        testing.assert_close(ours, backend.asarray(theirs), rtol=rtol, atol=atol)


def test_zero_weights_are_as_if_absent():
    x, y, a, b = clouds(7)
    a[2] = b[0] = 0.0
    a, b = a / a.sum(), b / b.sum()
    whole = divergence(PointCloud(x, y), a, b, reg=0.1, tol=1e-10)
    part = divergence(PointCloud(x[a > 0], y[b > 0]), a[a > 0], b[b > 0], reg=0.1, tol=1e-10)
    assert math.isclose(whole.value, part.value, rel_tol=1e-9)
    np.testing.assert_allclose(whole.gradients.a[a > 0], part.gradients.a, atol=1e-8)
    assert np.all(np.isfinite(whole.gradients.a))
    np.testing.assert_allclose(whole.gradients.x[2], 0.0)


def test_warm_start_and_flow():
    x, y, _, _ = clouds(8, 40, 30)
    first = divergence(PointCloud(x, y), reg=0.02)
    again = divergence(PointCloud(x, y), reg=0.02, init=first.potentials)
    assert again.nit <= 2 < first.nit
    values, potentials = [], None
    for _ in range(8):
        step = divergence(PointCloud(x, y), reg=0.02, init=potentials)
        x, potentials = x - 0.3 * len(x) * step.gradients.x, step.potentials
        values.append(step.value)
    assert np.all(np.diff(values) < 0)
    assert values[-1] < 0.05 * values[0]


def test_checkpoint_continues(tmp_path):
    x, y, a, b = clouds(9, 30, 30)
    options = {"reg": 1e-3, "tol": 1e-9, "check_every": 5}
    whole = divergence(PointCloud(x, y), a, b, **options)

    def halt(intermediate_result):
        if intermediate_result.nit >= 10:
            raise StopIteration

    divergence(PointCloud(x, y), a, b, callback=halt, checkpoint=tmp_path / "run", **options)
    rest = divergence(PointCloud(x, y), a, b, checkpoint=tmp_path / "run", **options)
    assert rest.nit == whole.nit > 10
    assert rest.value == whole.value
    assert divergence(PointCloud(x, y), a, b, init=whole, **options).nit == whole.nit


def test_a_kernel_that_is_not_positive_is_no_obstacle():
    rng = np.random.default_rng(0)
    c = rng.random((8, 8))
    c = c + c.T
    got = divergence(c, reg=0.05, within=(c, c), tol=1e-8)
    assert got.success
    want = optimum(c, np.full(8, 0.125), np.full(8, 0.125), 0.05)
    assert abs(got.value) <= 1e-7
    assert math.isclose(got.plans[1].cost.shape[0], 8)
    assert math.isclose(float(np.sum(got.potentials[2]) / 4), want, rel_tol=1e-6)


@pytest.mark.peers
def test_pot_finds_the_same():
    import ot

    x, y, a, b = clouds(10, 20, 15)
    got = divergence(PointCloud(x, y), a, b, reg=0.1, tol=1e-9)
    want = ot.bregman.empirical_sinkhorn_divergence(x, y, 0.1, a=a, b=b, stopThr=1e-12)
    assert math.isclose(got.value_linear, float(want), rel_tol=1e-6)
