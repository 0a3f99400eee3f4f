"""Wasserstein dictionaries against dense Sinkhorn, planted decompositions and the promises of the method."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.backend import array_namespace
from optlib.testing import assert_close, check_gradient
from optlib.transport import WassersteinCPDictionary, _grid, emd, sinkhorn
from tests.transport.map_cases import mixtures

XP = array_namespace()


def histograms(X, reg, costs=None):
    return WassersteinCPDictionary(2, reg=reg, costs=costs)._histograms(X)[0]


def dense(data):
    """The cost of the grid as a matrix."""
    cost = np.zeros((1, 1))
    for axis in data.costs:
        n, m = cost.shape[0], axis.shape[0]
        cost = (cost[:, None, :, None] + axis[None, :, None, :]).reshape(n * m, n * m)
    return cost * data.eps


def entropic(p, q, cost, eps):
    """``min <C, P> - eps H(P)`` and the derivative in p, by Sinkhorn in the Kullback-Leibler convention."""
    result = sinkhorn(cost, p, q, reg=eps, tol=1e-12)
    value = result.dual_value + eps * sum(np.sum(u[u > 0] * np.log(u[u > 0])) for u in (p, q))
    return value, result.potentials[0] + eps * np.log(p)


@st.composite
def losses(draw):
    """Samples, some entries zero, and mixtures."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(7,), (1,), (3, 4), (2, 1, 3)]))
    X = (
        rng.random((3, *shape)) * (rng.random((3, *shape)) < 0.8)
        + 1e-3 * (np.arange(3) == 0)[(..., *[None] * len(shape))]
    )
    X[:, *(0,) * len(shape)] += 0.1
    costs = [rng.random((k, k)) for k in shape] if draw(st.booleans()) else None
    data = histograms(X, draw(st.sampled_from([0.02, 0.1, 1.0])), costs)
    return data, rng.dirichlet(np.ones(data.q.shape[1]), 3), rng


@given(losses())
def test_conjugate_and_gap_bound(problem):
    data, p, rng = problem
    exact, g = (
        np.array(v)
        for v in zip(*(entropic(u, q, dense(data), data.eps) for u, q in zip(p, data.q, strict=True)), strict=True)
    )
    found = _grid.conjugate(g, data, XP)
    np.testing.assert_allclose(np.sum(g * p, axis=1) - found.value, exact, atol=1e-9)  # no gap at the solution
    np.testing.assert_allclose(found.p, p, atol=1e-8)
    assert np.all(_grid.gap(g, p, found, data, XP) < 1e-6)
    g = g + 0.1 * rng.normal(size=g.shape)
    found = _grid.conjugate(g, data, XP)
    gap = exact - (np.sum(g * p, axis=1) - found.value)
    assert np.all(gap >= -1e-9)
    assert np.all(_grid.gap(g, p, found, data, XP) >= gap - 1e-9)


def test_gradient_of_the_conjugate():
    data = histograms(mixtures(3, (3, 4)), 0.05)
    g = 0.1 * np.random.default_rng(0).normal(size=data.q.shape)
    check_gradient(lambda v: np.sum(_grid.conjugate(v, data, XP).value), lambda v: _grid.conjugate(v, data, XP).p, g)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(6,), (3, 4)]), st.sampled_from([0.02, 0.3]))
def test_objective_falls_and_constraints_hold(seed, shape, reg):
    X = np.random.default_rng(seed).random((5, *shape))
    fitted = WassersteinCPDictionary(2, reg=reg, prox=0.1).fit(X, rng=seed, tol=None, maxiter=4)
    fun, gap = (fitted.result_.history.array(name) for name in ("fun", "gap"))
    assert np.all(fun[1:] - gap[1:] <= fun[:-1] + 1e-12)  # lower bounds after, upper bounds before
    assert fun[-1] < fun[0]
    for part in (fitted.codes_, *fitted.factors_):
        assert np.min(part) >= 0.0
        np.testing.assert_allclose(np.sum(part, axis=1), 1.0, rtol=1e-12)


def test_bounds_of_the_answer_are_true():
    """The mean loss lies between the two values, and no other codes are better than the certificate says."""
    X = mixtures(5, (3, 4))
    fitted = WassersteinCPDictionary(2, reg=0.05).fit(X, rng=0)
    result, data = fitted.result_, histograms(X, 0.05)
    assert result.success

    def loss(codes):
        found = fitted.inverse_transform(codes).reshape(5, -1)
        return np.mean([entropic(p, q, dense(data), 0.05)[0] for p, q in zip(found, data.q, strict=True)])

    assert result.dual_value - 1e-9 <= loss(fitted.codes_) <= result.fun + 1e-9
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = 0.7 * fitted.codes_ + 0.3 * rng.dirichlet([1.0, 1.0], 5)
        assert loss(other) >= loss(fitted.codes_) - result.certificate.value


def test_planted_atoms_are_found():
    """Two product distributions far apart, mixed: the factors come back."""
    t = np.linspace(0.0, 1.0, 8)
    bumps = np.exp(-0.5 * ((t - np.array([[0.15], [0.85]])) / 0.1) ** 2)
    bumps /= bumps.sum(axis=1, keepdims=True)
    codes = np.random.default_rng(0).dirichlet([1.0, 1.0], 12)
    X = np.einsum("nr,ri,rj->nij", codes, bumps, bumps[::-1])
    fitted = WassersteinCPDictionary(2, reg=0.005, prox=0.02).fit(X, rng=0)
    assert fitted.result_.success
    order = np.argsort(fitted.factors_[0] @ t)
    for found, wanted in zip(fitted.factors_, (bumps, bumps[::-1]), strict=True):
        assert 0.5 * np.max(np.sum(np.abs(found[order] - wanted), axis=1)) < 0.1
    np.testing.assert_allclose(fitted.codes_[:, order], codes, atol=0.05)
    np.testing.assert_allclose(
        fitted.inverse_transform(fitted.codes_), np.tensordot(fitted.codes_, fitted.components_, 1)
    )
    # codes of other mixtures of the same atoms
    new = np.array([[0.2, 0.8], [1.0, 0.0]])
    np.testing.assert_allclose(
        fitted.transform(np.einsum("nr,ri,rj->nij", new, bumps, bumps[::-1]))[:, order], new, atol=0.07
    )


def test_one_axis_is_dictionary_learning_of_moving_bumps():
    """Reconstructions are nearer to the samples than their mean is."""
    rng, t = np.random.default_rng(0), np.linspace(0.0, 1.0, 20)
    X = np.exp(-0.5 * ((t - rng.choice([0.2, 0.8], (15, 1)) - 0.03 * rng.normal(size=(15, 1))) / 0.05) ** 2)
    fitted = WassersteinCPDictionary(2, reg=0.005, prox=0.02).fit(X, rng=0, tol=5e-3)
    cost, q = (t[:, None] - t) ** 2, X / X.sum(axis=1, keepdims=True)
    found = fitted.inverse_transform(fitted.codes_)
    errors = [
        np.mean([emd(cost, p / p.sum(), u).value for p, u in zip(v, q, strict=True)])
        for v in (found, np.tile(q.mean(0), (15, 1)))
    ]
    assert errors[0] < 0.1 * errors[1]


def test_same_on_every_backend(backend):
    X = mixtures(4, (3, 4))
    options = {"rng": 0, "tol": None, "maxiter": 2}
    here = WassersteinCPDictionary(2, reg=0.3).fit(backend.asarray(X), **options)
    host = WassersteinCPDictionary(2, reg=0.3).fit(X, **options)
    atol = 1e-6 if backend.is_double else 1e-2
    assert_close(here.codes_, backend.asarray(host.codes_), atol=atol)
    for found, wanted in zip(here.factors_, host.factors_, strict=True):
        assert_close(found, backend.asarray(wanted), atol=atol)
    assert_close(here.components_, backend.asarray(host.components_), atol=atol)


def test_order_and_mass_of_the_samples_do_not_matter():
    X = mixtures(4, (3, 4))
    plain = WassersteinCPDictionary(2, reg=0.3).fit(X, rng=0, maxiter=3, tol=None)
    scaled = WassersteinCPDictionary(2, reg=0.3).fit(
        X * np.array([1.0, 1e-200, 1e200, 7.0])[:, None, None], rng=0, maxiter=3, tol=None
    )
    np.testing.assert_allclose(scaled.codes_, plain.codes_, atol=1e-8)


def test_starts_from_the_factors_of_another_dictionary():
    X = mixtures(6, (3, 4))
    first = WassersteinCPDictionary(2, reg=0.1).fit(X, rng=0)
    again = WassersteinCPDictionary(2, reg=0.1).fit(mixtures(4, (3, 4), seed=1), init=first, maxiter=0)
    assert_close(again.components_, first.components_, rtol=1e-12)
    with pytest.raises(ValueError, match=r"`init`.*codes \(6, 2\)"):
        WassersteinCPDictionary(2, reg=0.1).fit(X[:3], init=first.result_)


def test_transform_that_cannot_be_proven_raises():
    fitted = WassersteinCPDictionary(2, reg=0.1).fit(mixtures(6, (3, 4)), rng=0)
    with pytest.raises(RuntimeError, match="raise maxiter"):
        fitted.transform(mixtures(3, (3, 4), seed=1), tol=1e-12, maxiter=1)
