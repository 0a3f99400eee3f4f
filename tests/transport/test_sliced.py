"""Sliced distances and barycenters of moving points: closed forms, laws, other formulas, backends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import testing
from optlib.transport import PointCloud, emd, free_support_barycenter, sliced, wasserstein_1d

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), st.sampled_from([1, 2, 3]), st.booleans())
def test_laws(seed, n, m, d, p, weighted):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    a, b = (rng.dirichlet(np.ones(k)) for k in (n, m)) if weighted else (None, None)
    got = sliced(x, y, a, b, p=p, directions=20, rng=seed)
    same = sliced(y, x, b, a, p=p, directions=20, rng=seed)
    assert math.isclose(got.value, same.value, rel_tol=1e-10, abs_tol=1e-15)
    assert sliced(x, x, a, a, p=p, rng=seed).value <= 1e-12
    assert math.isclose(sliced(3 * x, 3 * y, a, b, p=p, directions=20, rng=seed).distance, 3 * got.distance)
    moved = sliced(x + 1.0, y + 1.0, a, b, p=p, directions=20, rng=seed)
    assert math.isclose(moved.value, got.value, rel_tol=1e-9, abs_tol=1e-12)
    best = wasserstein_1d(x @ got.direction, y @ got.direction, a, b, p=p)
    assert math.isclose(best ** (1 / p), got.maximum, rel_tol=1e-9)
    assert got.value <= got.maximum**p * (1 + 1e-12)
    if p == 2:  # projections do not increase distances
        assert got.maximum**2 <= emd(PointCloud(x, y), a, b).value * (1 + 1e-9) + 1e-12


def test_error_bar_and_closed_forms():
    """A shift by v has the value |v|^2 / d; on the line all directions agree."""
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(50, 4)), np.asarray([1.0, -2.0, 0.5, 0.0])
    inside = 0
    for seed in range(40):
        got = sliced(x, x + v, directions=200, rng=seed)
        inside += abs(got.value - v @ v / 4) <= 2 * got.error
    assert 32 <= inside <= 40
    assert sliced(x, x + v, directions=800, rng=0).error < 0.6 * sliced(x, x + v, directions=200, rng=0).error
    line = sliced(x[:, 0], x[:, 1], p=1, rng=0)
    assert math.isclose(line.value, wasserstein_1d(x[:, 0], x[:, 1]), rel_tol=1e-12)
    assert line.error <= 1e-12


def test_blocks_change_nothing(monkeypatch):
    import sys

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    whole = sliced(x, y, rng=1)
    monkeypatch.setattr(sys.modules["optlib.transport.sliced"], "BLOCK", 150)
    assert math.isclose(sliced(x, y, rng=1).value, whole.value, rel_tol=1e-12)


@given(SEEDS, st.integers(1, 3), st.integers(1, 6))
def test_free_support(seed, k, m):
    rng = np.random.default_rng(seed)
    clouds = [rng.normal(size=(rng.integers(1, 9), 2)) for _ in range(k)]
    masses, w = [rng.dirichlet(np.ones(len(y))) for y in clouds], rng.dirichlet(np.ones(k))
    got = free_support_barycenter(clouds, masses, w, size=m, rng=seed)
    assert got.success
    assert np.all(np.diff(got.history["objective"]) <= 1e-12)
    assert got.x.shape == (m, 2)
    value = sum(v * emd(PointCloud(got.x, y), None, u).value for v, y, u in zip(w, clouds, masses, strict=True))
    assert math.isclose(value, got.fun, rel_tol=1e-9, abs_tol=1e-12)
    if m == 1:  # the mean of the means
        mean = sum(v * (u @ y) for v, y, u in zip(w, clouds, masses, strict=True))
        np.testing.assert_allclose(got.x[0], mean, atol=1e-9)


def test_free_support_of_copies():
    rng = np.random.default_rng(0)
    x, b = rng.normal(size=(15, 2)), rng.dirichlet(np.ones(15))
    shifts = np.asarray([[3.0, 0.0], [0.0, 3.0], [-3.0, 0.0]])
    got = free_support_barycenter([x + s for s in shifts], [b] * 3, [0.5, 0.25, 0.25], b=b, init=x)
    np.testing.assert_allclose(got.x, x + 0.75, atol=1e-9)
    soft = free_support_barycenter([x + s for s in shifts], reg=0.5, init=x, tol=1e-3)
    assert soft.success
    assert soft.x.std(axis=0).sum() < x.std(axis=0).sum()  # the entropy blurs plans, which draws the points together


def test_same_on_every_backend(backend):
    rng = np.random.default_rng(0)
    x, y, a = rng.normal(size=(12, 3)), rng.normal(size=(9, 3)), rng.dirichlet(np.ones(12))
    want = sliced(x, y, a, rng=3)
    got = sliced(backend.asarray(x), backend.asarray(y), backend.asarray(a), rng=3)
    assert math.isclose(got.value, want.value, rel_tol=100 * backend.rtol)
    testing.assert_close(got.direction, backend.asarray(want.direction), rtol=1e-5)
    clouds = [backend.asarray(x), backend.asarray(y)]
    moving = free_support_barycenter(clouds, size=4, rng=0)
    assert moving.success
    testing.assert_close(moving.x, backend.asarray(free_support_barycenter([x, y], size=4, rng=0).x), atol=1e-4)
    soft = {"reg": 3.0, "size": 4, "rng": 0, "maxiter": 2, "tol": None}
    want = backend.asarray(free_support_barycenter([x, y], **soft).x)
    testing.assert_close(free_support_barycenter(clouds, **soft).x, want, atol=1e-4)


@pytest.mark.peers
def test_pot_finds_the_same():
    import ot

    rng = np.random.default_rng(0)
    x, y, a = rng.normal(size=(30, 3)), rng.normal(size=(20, 3)), rng.dirichlet(np.ones(30))
    units = np.random.default_rng(5).standard_normal((100, 3))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    want = ot.sliced_wasserstein_distance(x, y, a, None, projections=units.T)
    assert math.isclose(sliced(x, y, a, rng=5).distance, float(want), rel_tol=1e-9)
    want = ot.lp.free_support_barycenter([x, y], [a, np.full(20, 0.05)], X_init=x[:8], stopThr=1e-12, numItermax=200)
    got = free_support_barycenter([x, y], [a, None], init=x[:8])
    np.testing.assert_allclose(got.x, want, atol=1e-6)
