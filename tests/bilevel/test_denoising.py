"""Denoisers: against the exact total variation, SciPy's correlation, grids, each other; scaling, batches, the box."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate

from optlib.backend import array_namespace
from optlib.bilevel import FieldsOfExpertsProblem, TotalVariationProblem, hypergradient, quasi_newton, scalar, tune
from optlib.bilevel.problems import fields_of_experts as experts
from optlib.geometry import prox_tv1d
from optlib.testing import assert_close
from tests.bilevel.problems import MAKERS

XP = array_namespace()
STEPS = np.array([[[-1.0, 1.0]]]), np.array([[[-1.0], [1.0]]])  # differences, as filters


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.3]))
def test_signals_are_near_the_exact_solution(seed, alpha):
    """The smoothed objective exceeds the other by at most alpha nu a difference, and f is strongly convex."""
    problem = TotalVariationProblem.random(2, (12,), rng=seed, smoothing=1e-4)
    found = hypergradient(problem, np.array([math.log(alpha)]), tol=1e-9)
    assert found.converged
    exact = prox_tv1d(problem.noisy, alpha)
    assert 0.5 * np.sum((found.y - exact) ** 2) <= alpha * 1e-4 * 2 * 11 * (1 + 1e-6) + 1e-12


@given(st.integers(0, 2**32 - 1))
def test_differences_are_experts(seed):
    """Total variation is a field of two experts with one weight."""
    given = TotalVariationProblem.random(2, (5, 6), rng=seed, smoothing=0.05)
    x, y = np.array([0.3]), given.noisy
    parts = [FieldsOfExpertsProblem(y, given.clean, f, smoothing=0.05, learn_filters=False) for f in STEPS]
    empty = 0.5 * np.sum((y - given.noisy) ** 2)
    values, _, slopes = zip(*(p.inner(x, y) for p in parts), strict=True)
    value, grad_x, grad_y = given.inner(x, y)
    assert_close(value, sum(values) - empty, rtol=1e-12)
    assert_close(grad_y, sum(slopes), rtol=1e-12, atol=1e-12)
    assert_close(grad_x, sum(p.inner(x, y)[1] for p in parts), rtol=1e-12)
    v = np.random.default_rng(seed).normal(size=y.shape)
    assert_close(given.hvp(x, y, v), sum(p.hvp(x, y, v) for p in parts) - v, rtol=1e-12, atol=1e-12)


def test_correlation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    y, filters = rng.normal(size=(2, 7, 9)), rng.normal(size=(3, 2, 4))
    want = [[correlate(image, f, mode="valid") for f in filters] for image in y]
    for found in (experts.correlate(y, filters, xp=XP), experts.correlate.generic(y, filters, xp=XP)):
        assert_close(found, np.array(want), rtol=1e-12, atol=1e-12)
    u = rng.normal(size=(2, 3, 6, 6))
    product = np.sum(u * want)
    assert abs(np.sum(y * experts.correlate_adjoint(u, filters, xp=XP)) - product) <= 1e-12 * abs(product)
    assert abs(np.sum(filters * experts.correlate_taps(y, u, xp=XP)) - product) <= 1e-12 * abs(product)


@pytest.mark.parametrize("shape", [(24,), (7, 8)])
@given(seed=st.integers(0, 2**32 - 1), start=st.sampled_from([-8.0, -4.0, 0.0, 4.0]))
def test_from_any_start(shape, seed, start):
    """Within the tolerance of the best of a grid, or at its edge and says so."""
    problem = TotalVariationProblem.random(1, shape, rng=seed, smoothing=0.03)
    low, high = (float(end[0]) for end in problem.bounds())
    grid = [hypergradient(problem, np.array([x]), tol=1e-5).value for x in np.linspace(low, high, 13)]
    found = scalar(problem, [math.log(problem.noise) + start])
    assert found.success and found.fun <= min(grid) * (1 + 1e-4)
    assert bool(found.at_bounds) == (min(abs(found.x[0] - low), abs(found.x[0] - high)) == 0.0)
    assert problem.psnr(found.y) >= problem.psnr(problem.noisy)


def test_error_bound():
    """The constants are those of the bound: it holds at every tolerance."""
    problem, x = TotalVariationProblem.random(2, (5, 6), noise=1.0), np.array([-1.0, -0.5])
    exact = hypergradient(problem, x, tol=1e-13)
    for tol in (1e-1, 1e-3, 1e-5):
        found = hypergradient(problem, x, tol=tol)
        assert np.linalg.norm(found.gradient - exact.gradient) <= found.error_bound + 1e-12


@pytest.mark.parametrize("cls", [TotalVariationProblem, FieldsOfExpertsProblem])
def test_units_and_batches(cls):
    """Images as bright as you like, shifted, repeated, in any order: the same answer in their units."""
    problem = cls.random(2, (7, 8), rng=3)
    z, t = problem.noisy, problem.clean
    x, _ = problem.start()
    more, logs = [], x.shape[0]
    if cls is FieldsOfExpertsProblem:
        more, logs = [problem.filters], 2 * problem.filters.shape[0]
    shift = np.where(np.arange(x.shape[0]) < logs, math.log(255.0), 0.0)
    plain = hypergradient(problem, x, tol=1e-10)
    bright = hypergradient(cls(255.0 * z - 7.0, 255.0 * t - 7.0, *more), x + shift, tol=1e-10)
    assert_close(bright.y, 255.0 * plain.y - 7.0, rtol=1e-6)
    assert_close(cls(255.0 * z, 255.0 * t, *more).start()[0], x + shift, rtol=1e-12)
    twice = hypergradient(cls(np.concatenate([z, z[::-1]]), np.concatenate([t, t[::-1]]), *more), x, tol=1e-10)
    assert abs(twice.value - plain.value) <= 1e-9 * plain.value
    assert_close(twice.gradient, plain.gradient, rtol=1e-5, atol=1e-7)


def test_experts_learn():
    """More freedom, lower loss; from the best common weight; better than total variation on textures."""
    rng = np.random.default_rng(0)
    grid = np.sin(np.arange(16) * 1.3)[:, None] * np.cos(np.arange(16) * 0.9)
    clean = np.stack([grid, grid.T])
    noisy = clean + 0.3 * rng.normal(size=clean.shape)
    variation = tune(TotalVariationProblem(noisy, clean))
    weights = FieldsOfExpertsProblem(noisy, clean, smoothing=0.1, learn_filters=False)
    tied, untied = scalar(weights.tied()), tune(weights)
    assert "common penalty" in untied.message
    assert_close(weights.untie(tied.x) - weights.start()[0], np.full(8, tied.x[0]), rtol=1e-12)
    with pytest.warns(UserWarning, match="hyperparameters"):
        learned = tune(FieldsOfExpertsProblem(noisy, clean), maxiter=15)
    assert learned.fun < untied.fun < tied.fun
    assert learned.fun < 0.5 * variation.fun


def test_start_at_the_clean_image():
    """Nothing to remove: the weight goes to the edge of its box, and the result says so."""
    clean = TotalVariationProblem.random(2, (6, 7)).clean
    found = tune(TotalVariationProblem(clean, clean, smoothing=0.05))
    assert found.at_bounds == 1 and "edge of the box" in str(found)
    assert TotalVariationProblem(np.zeros((1, 4)), np.zeros((1, 4))).noise == 1.0


def test_starts_from_cosines():
    found = experts.cosines(3)
    assert found.shape == (8, 3, 3)
    assert_close(np.einsum("kij,lij->kl", found, found), np.eye(8), rtol=1e-12, atol=1e-12)
    assert_close(found.sum(axis=(1, 2)), np.zeros(8), rtol=1, atol=1e-12)


def test_resumes():
    problem = FieldsOfExpertsProblem.random(1, (6, 6), rng=0)
    whole = quasi_newton(problem, maxiter=6, tol=None)
    part = quasi_newton(problem, maxiter=3, tol=None, init=quasi_newton(problem, maxiter=3, tol=None))
    assert np.array_equal(whole.x, part.x)


@pytest.mark.parametrize("name", ["total variation", "total variation signals", "experts"])
def test_diagonal(name):
    problem = MAKERS[name]()
    x, y = problem.start()[0], problem.noisy
    columns = np.eye(y.size).reshape(-1, *y.shape)
    wanted = np.array([np.sum(e * problem.hvp(x, y, e)) for e in columns]).reshape(y.shape)
    assert_close(problem.at(x, y).diagonal(), wanted, rtol=1e-12)
