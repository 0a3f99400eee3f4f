"""Matrix maps: definitions by matrix functions, identities, rectangular matrices, backends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm, logm

from optlib import geometry as geo
from optlib.backend import device_of, to_numpy
from optlib.testing import check_gradient

SYMMETRIC = {
    "VonNeumann": lambda: geo.VonNeumann(2.0),
    "LogDet": lambda: geo.LogDet(2.0),
    "Tsallis": lambda: geo.Spectral(geo.Tsallis()),
    "Euclidean simplex": lambda: geo.Spectral(geo.EuclideanSimplex()),
    "PNorm": lambda: geo.Spectral(geo.PNorm(1.4)),
    "BitEntropy": lambda: geo.Spectral(geo.BitEntropy()),
    "Hypentropy": lambda: geo.Spectral(geo.Hypentropy(0.4)),
    "CappedEntropy": lambda: geo.Spectral(geo.CappedEntropy(cap=0.5)),
}
RECTANGULAR = {
    "nuclear ball": lambda: geo.Spectral(geo.EuclideanL1Ball(1.5), symmetric=False),
    "PNorm": lambda: geo.Spectral(geo.PNorm(1.3, radius=1.0), symmetric=False),
    "Hypentropy": lambda: geo.Spectral(geo.Hypentropy(0.3, radius=1.2), symmetric=False),
}
ALL = [
    *((make, (4, 4), key) for key, make in SYMMETRIC.items()),
    *((make, (5, 3), key) for key, make in RECTANGULAR.items()),
]


def draw(rng, shape, scale=1.0):
    x = scale * rng.normal(size=(3, *shape))
    return 0.5 * (x + np.swapaxes(x, -1, -2)) if shape[0] == shape[1] else x


def inner(xp, a, b):
    return xp.sum(a * b, axis=(-2, -1))


@pytest.mark.parametrize(("make", "shape", "name"), ALL, ids=[f"{key} {shape}" for _, shape, key in ALL])
def test_identities(backend, make, shape, name):
    xp, m, rng = backend.xp, make(), np.random.default_rng(5)
    tol = 3e3 * backend.eps
    theta, g, other = (backend.asarray(draw(rng, shape)) for _ in range(3))
    x, u = m.grad_conj(theta), m.grad_conj(other)
    assert x.dtype == backend.dtype
    assert device_of(x) == device_of(theta)
    assert bool(xp.all(m.in_domain(x, tol)))
    close = lambda a, b: np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=tol, atol=tol)
    close(m.conj(theta), inner(xp, theta, x) - m.value(x))
    assert np.all(to_numpy(m.conj(theta) - inner(xp, theta, u) + m.value(u)) >= -tol)
    assert np.all(to_numpy(inner(xp, m.grad(x) - theta, u - x)) >= -10 * tol)
    z = m.step(x, g, 0.5)
    close(z, m.grad_conj(m.grad(x) - 0.5 * g))
    close(m.grad_conj(m.step_dual(m.grad(x), g, 0.5)), z)
    close(m.step(x, g, backend.asarray(np.array([0.5, 0.0, 1.0])))[0, ...], z[0, ...])
    close(m.bregman(u, x) - m.bregman(u, z) - m.bregman(z, x), inner(xp, m.grad(z) - m.grad(x), u - z))
    close(m.project(x), x)
    n = min(shape)
    assert np.all(to_numpy(m.bregman(u, x) - 0.5 * m.sigma(n) * xp.square(m.norm(u - x))) >= -tol)
    assert np.all(to_numpy(m.bregman(u, m.center(theta))) <= m.range(n) * (1 + 1e-5) + tol)
    assert np.all(np.abs(to_numpy(inner(xp, x, g))) <= to_numpy(m.norm(x) * m.dual_norm(g)) * (1 + tol))


@pytest.mark.parametrize(("make", "shape", "name"), ALL, ids=[f"{key} {shape}" for _, shape, key in ALL])
def test_gradient(make, shape, name):
    m, rng = make(), np.random.default_rng(2)
    x = m.grad_conj(draw(rng, shape)[0])
    check_gradient(lambda y: float(m.value(y)), m.grad, x, rtol=1e-4)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5))
def test_von_neumann_and_log_det_by_definition(seed, n):
    rng = np.random.default_rng(seed)
    theta, other = draw(rng, (n, n))[0], draw(rng, (n, n))[1]
    m = geo.VonNeumann(2.0)
    x, y = m.grad_conj(theta), m.grad_conj(other)
    np.testing.assert_allclose(x, 2.0 * expm(theta) / np.trace(expm(theta)), atol=1e-12)
    assert float(m.value(x)) == pytest.approx(np.trace(x @ logm(x)), abs=1e-9)
    assert float(m.bregman(x, y)) == pytest.approx(np.trace(x @ (logm(x) - logm(y))), abs=1e-9)
    m = geo.LogDet(2.0)
    x, y = m.grad_conj(theta), m.grad_conj(other)
    quotient = x @ np.linalg.inv(y)
    assert float(m.value(x)) == pytest.approx(-np.linalg.slogdet(x)[1], abs=1e-9)
    assert float(m.bregman(x, y)) == pytest.approx(np.trace(quotient) - np.linalg.slogdet(quotient)[1] - n, abs=1e-8)


@pytest.mark.parametrize("make", SYMMETRIC.values(), ids=SYMMETRIC)
def test_diagonal_matrices_are_vectors(make):
    m, rng = make(), np.random.default_rng(1)
    theta, g = rng.normal(size=(2, 4))
    x = m.map.grad_conj(theta)
    np.testing.assert_allclose(m.grad_conj(np.diag(theta)), np.diag(x), atol=1e-13)
    np.testing.assert_allclose(m.step(np.diag(x), np.diag(g), 0.3), np.diag(m.map.step(x, g, 0.3)), atol=1e-12)
    u = m.map.grad_conj(g)
    assert float(m.bregman(np.diag(u), np.diag(x))) == pytest.approx(float(m.map.bregman(u, x)), rel=1e-9, abs=1e-13)


def test_singular_matrices():
    """Rank-deficient points: finite values, divergences 0 or inf as they must, steps without NaN."""
    v = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    pure = np.outer(v[:, 0], v[:, 0])
    mixed = 0.5 * np.outer(v[:, 0], v[:, 0]) + 0.5 * np.outer(v[:, 1], v[:, 1])
    m = geo.VonNeumann()
    assert float(m.value(pure)) == pytest.approx(0.0, abs=1e-13)
    assert float(m.bregman(pure, mixed)) == pytest.approx(math.log(2.0), rel=1e-12)
    assert float(m.bregman(mixed, pure)) == math.inf
    assert float(m.bregman(pure, pure)) == pytest.approx(0.0, abs=1e-13)
    assert float(m.bregman(pure, m.center(pure))) == pytest.approx(math.log(4.0), rel=1e-12)
    assert m.in_domain(m.step(pure, np.diag([1.0, 2.0, 3.0, 4.0]), 1.0), 1e-10)
    assert float(geo.LogDet().bregman(mixed, m.center(pure))) == math.inf
    np.testing.assert_allclose(m.project(3.0 * pure), pure, atol=1e-14)


def test_matrix_hedge_keeps_small_eigenvalues_in_the_dual():
    m, g = geo.VonNeumann(), np.array([[1.0, 0.3], [0.3, 0.0]])
    theta = m.grad(m.center(g))
    for sign in (1.0, -1.0):
        for _ in range(50):
            theta = m.step_dual(theta, sign * g, 10.0)
    np.testing.assert_allclose(m.grad_conj(theta), 0.5 * np.eye(2), atol=1e-9)


def test_zero_and_huge_matrices(backend):
    big = 1e100 if backend.is_double else 1e18
    for make, shape, _ in ALL:
        m = make()
        zero = backend.asarray(np.zeros(shape))
        x = m.center(zero)
        if m.range(min(shape)) < math.inf:
            g = backend.asarray(big * draw(np.random.default_rng(0), shape)[0])
            assert bool(m.in_domain(m.step(x, g, 1.0), 1e-4))
        assert not np.any(np.isnan(to_numpy(m.grad_conj(zero))))
        assert float(m.bregman(x, x)) == pytest.approx(0.0, abs=1e-5)


def test_nuclear_ball_is_the_projection():
    x = np.random.default_rng(0).normal(size=(2, 4, 6))
    m = geo.Spectral(geo.EuclideanL1Ball(2.0), symmetric=False)
    np.testing.assert_allclose(m.project(x), geo.project_nuclear_ball(x, 2.0), atol=1e-13)
    s = geo.Spectral(geo.EuclideanSimplex(2.0))
    y = x[..., :4] + np.swapaxes(x[..., :4], -1, -2)
    np.testing.assert_allclose(s.project(y), geo.project_spectrahedron(y, 2.0), atol=1e-13)
