"""Gaussian measures: against the formulas with matrix roots, Sinkhorn on grids, closed forms, laws, differences."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import testing
from optlib.transport import (
    PointCloud,
    bures_wasserstein,
    bures_wasserstein_barycenter,
    divergence,
    gaussian_transport,
    sinkhorn,
)

SEEDS = st.integers(0, 2**32 - 1)


def matrix(rng, d, rank=None):
    factor = rng.normal(size=(d, rank or d))
    return factor @ factor.T


def root(A):
    values, vectors = np.linalg.eigh(A)
    return vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T


def slow(A, B):
    return float(np.trace(A) + np.trace(B) - 2 * np.trace(root(root(A) @ B @ root(A))))


@given(SEEDS, st.integers(1, 6), st.booleans(), st.sampled_from([1e-8, 1.0, 1e8]))
def test_distance(seed, d, singular, size):
    rng = np.random.default_rng(seed)
    A, B, C = (size * matrix(rng, d, max(1, d - 1) if singular else None) for _ in range(3))
    got = float(bures_wasserstein(A, B))
    assert math.isclose(got, slow(A, B), rel_tol=1e-6, abs_tol=1e-6 * size)
    assert math.isclose(got, float(bures_wasserstein(B, A)), rel_tol=1e-9)
    assert abs(float(bures_wasserstein(A, A))) <= 1e-24 * size + 1e-20 * np.trace(A)
    assert math.sqrt(got) <= float(bures_wasserstein(A, C)) ** 0.5 + float(bures_wasserstein(C, B)) ** 0.5 + 1e-12
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    assert math.isclose(got, float(bures_wasserstein(q @ A @ q.T, q @ B @ q.T)), rel_tol=1e-7, abs_tol=1e-13 * size)
    p, r = rng.random(d), rng.random(d)
    commuting = float(bures_wasserstein(q @ np.diag(p) @ q.T, q @ np.diag(r) @ q.T))
    assert math.isclose(commuting, np.sum((np.sqrt(p) - np.sqrt(r)) ** 2), rel_tol=1e-7, abs_tol=1e-13)


@given(SEEDS, st.integers(1, 4), st.sampled_from([0.0, 1e-3, 1.0, 1e3]))
def test_map_solves_its_equation(seed, d, reg):
    rng = np.random.default_rng(seed)
    A, B = (matrix(rng, d) + 0.1 * np.eye(d) for _ in range(2))
    m, t, e = rng.normal(size=d), rng.normal(size=d), 0.5 * reg
    got = gaussian_transport(m, A, t, B, reg=reg)
    N = got.slope
    np.testing.assert_allclose(N @ A @ N + e * N, B, atol=1e-8 * np.trace(B))
    np.testing.assert_allclose(A @ N, got.cross, atol=1e-8 * np.trace(B))
    np.testing.assert_allclose(got.conditional, B - N @ A @ N, atol=1e-8 * np.trace(B))
    linear = np.sum((m - t) ** 2) + np.trace(A) + np.trace(B) - 2 * np.trace(got.cross)
    assert math.isclose(got.value_linear, linear, rel_tol=1e-8, abs_tol=1e-9)
    if reg:
        information = 0.5 * (np.linalg.slogdet(B)[1] - np.linalg.slogdet(got.conditional)[1])
        assert math.isclose(got.value, linear + reg * information, rel_tol=1e-7, abs_tol=1e-8)
    else:
        assert got.value == got.value_linear
    x = rng.normal(size=(3, d))
    np.testing.assert_allclose(got.map(x), t + (x - m) @ N)


@pytest.mark.parametrize("reg", [0.0, 0.5])
def test_gradients_by_differences(reg):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=3), matrix(rng, 3), rng.normal(size=3), matrix(rng, 3)]
    for k in range(4):

        def at(u, k=k):
            if k in (1, 3):
                u = 0.5 * (u + u.T)
            return gaussian_transport(*parts[:k], u, *parts[k + 1 :], reg=reg)

        testing.check_gradient(lambda u, at=at: float(at(u).value), lambda u, at=at, k=k: at(u).gradients[k], parts[k])


@pytest.mark.parametrize("reg", [0.05, 0.5])
def test_sinkhorn_on_a_grid_agrees(reg):
    x = np.linspace(-9.0, 9.0, 500)
    a, b = (np.exp(-((x - m) ** 2) / (2 * s)) for m, s in ((-0.5, 0.6), (1.0, 1.2)))
    a, b = a / a.sum(), b / b.sum()
    first, second = ((np.asarray([m]), np.asarray([[s]])) for m, s in ((-0.5, 0.6), (1.0, 1.2)))
    (m, A), (t, B) = first, second
    want = gaussian_transport(m, A, t, B, reg=reg)
    got = sinkhorn(PointCloud(x, x), a, b, reg=reg, tol=1e-9)
    assert math.isclose(got.value, float(want.value), rel_tol=1e-6)
    assert math.isclose(got.value_linear, float(want.value_linear), rel_tol=1e-6)
    inner = np.abs(x) < 2
    np.testing.assert_allclose(got.plan.barycentric(x)[inner], want.map(x[inner, None])[:, 0], atol=1e-5)
    debiased = divergence(PointCloud(x, x), a, b, reg=reg, tol=1e-9)
    own = [float(gaussian_transport(*u, *u, reg=reg).value) for u in (first, second)]
    assert math.isclose(debiased.value, float(want.value) - 0.5 * sum(own), rel_tol=1e-6)


@given(SEEDS, st.integers(1, 5), st.integers(1, 5), st.sampled_from([1e-6, 1.0, 1e6]))
def test_barycenter(seed, d, k, size):
    rng = np.random.default_rng(seed)
    covs = size * np.asarray([matrix(rng, d) + 1e-3 * np.eye(d) for _ in range(k)])
    w = rng.dirichlet(np.ones(k))
    got = bures_wasserstein_barycenter(covs, w)
    assert got.success
    S = got.x
    mean = sum(v * gaussian_transport(np.zeros(d), S, np.zeros(d), C).slope for v, C in zip(w, covs, strict=True))
    assert np.linalg.norm(mean - np.eye(d)) <= 1e-6
    for _ in range(5):  # nothing near is better
        other = S + 1e-2 * size * matrix(rng, d)
        assert got.fun <= float(np.sum(w * bures_wasserstein(other, covs))) + got.certificate.value
    order = rng.permutation(k)
    again = bures_wasserstein_barycenter(covs[order], w[order])
    np.testing.assert_allclose(again.x, S, atol=1e-6 * np.trace(S))
    same = bures_wasserstein_barycenter(np.stack([covs[0]] * k), w)
    np.testing.assert_allclose(same.x, covs[0], atol=1e-7 * np.trace(covs[0]))
    assert same.nit <= 2


def test_barycenter_reaches_the_floor_in_few_iterations():
    """The specification's experiment: six random matrices of size 5, residual below 1e-10 in at most 40 iterations."""
    rng = np.random.default_rng(0)
    covs = [matrix(rng, 5) for _ in range(6)]
    got = bures_wasserstein_barycenter(covs, tol=1e-10)
    assert got.success
    assert got.nit <= 40
    assert got.history["stop"][-1] <= 1e-10
    geodesic = bures_wasserstein_barycenter(covs[:2], [0.5, 0.5], tol=1e-12).x
    half = 0.5 * (np.eye(5) + gaussian_transport(np.zeros(5), covs[0], np.zeros(5), covs[1]).slope)
    np.testing.assert_allclose(geodesic, half @ covs[0] @ half, rtol=1e-6, atol=1e-8)
    start = bures_wasserstein_barycenter(covs, tol=1e-10, init=np.eye(5))
    np.testing.assert_allclose(start.x, got.x, atol=1e-8)


def test_same_on_every_backend(backend):
    rng = np.random.default_rng(1)
    A, B = np.asarray([matrix(rng, 3) for _ in range(4)]), matrix(rng, 3)
    m, t = rng.normal(size=(4, 3)), rng.normal(size=3)
    want = gaussian_transport(m, A, t, B, reg=0.3)
    got = gaussian_transport(*(backend.asarray(u) for u in (m, A, t, B)), reg=0.3)
    rtol = 100 * backend.rtol
    for name in ("value", "value_linear", "cross", "slope", "conditional"):
        testing.assert_close(getattr(got, name), backend.asarray(getattr(want, name)), rtol=rtol, atol=rtol)
    for ours, theirs in zip(got.gradients, want.gradients, strict=True):
        theirs = np.broadcast_to(theirs, ours.shape)
        testing.assert_close(ours, backend.asarray(np.array(theirs)), rtol=rtol, atol=rtol)
    distance = bures_wasserstein(backend.asarray(A), backend.asarray(B))
    testing.assert_close(distance, backend.asarray(np.asarray(bures_wasserstein(A, B))), rtol=rtol, atol=rtol)
    centre = bures_wasserstein_barycenter(backend.asarray(A))
    assert centre.success
    testing.assert_close(centre.x, backend.asarray(bures_wasserstein_barycenter(A).x), rtol=rtol, atol=100 * rtol)


@pytest.mark.peers
def test_pot_finds_the_same():
    import ot

    rng = np.random.default_rng(2)
    covs, w = np.asarray([matrix(rng, 4) for _ in range(3)]), np.asarray([0.2, 0.3, 0.5])
    want = ot.gaussian.bures_distance(covs[0], covs[1])
    assert math.isclose(float(bures_wasserstein(covs[0], covs[1])), float(want) ** 2, rel_tol=1e-9)
    centre = ot.gaussian.bures_barycenter_fixpoint(covs, weights=w, eps=1e-10)
    np.testing.assert_allclose(bures_wasserstein_barycenter(covs, w).x, centre, rtol=1e-6, atol=1e-7)
