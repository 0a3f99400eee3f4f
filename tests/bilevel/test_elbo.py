"""The data-emphasized bound: against its formula, a quadrature of the evidence, and ridge regression."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from optlib.bilevel import RidgeProblem, elbo, tune
from optlib.testing import assert_close


def bound(A, t, mean, variance, prior, noise, kappa):
    """J by its definition: the expected loss by the mean of its square, and the divergence of two normal laws."""
    n = len(t)
    square = np.sum((t - A @ mean) ** 2) + np.sum(variance * np.sum(A * A, axis=0))
    fit = 0.5 * math.log(2 * math.pi * noise) + square / (2 * noise * n)
    laws = 0.5 * (variance / prior + mean**2 / prior - 1 - np.log(variance / prior))
    return fit + np.sum(laws) / (kappa * n)


@given(st.integers(0, 1000), st.sampled_from([None, [0, 0, 1, 1, 1], [2, 7, 2, 7, 2]]), st.sampled_from([None, 1.0]))
def test_stationary_and_monotone(seed, blocks, emphasis):
    """J falls from cycle to cycle; no minimiser started at the answer finds a lower value nearby."""
    problem = RidgeProblem.random(8, 5, rng=seed)
    found = elbo(problem, blocks=blocks, emphasis=emphasis, check_every=1, maxiter=3000)
    assert np.all(np.diff(found.history["fun"]) <= 1e-10) or found.at_bounds
    A, t = problem.regression()
    group = np.arange(5) if blocks is None else np.unique(blocks, return_inverse=True)[1]
    kappa = 5 / 8 if emphasis is None else emphasis
    assert found.fun == pytest.approx(
        bound(A, t, found.y, found.variance[group], found.prior[group], found.noise, kappa), rel=1e-9
    )
    assert_close(found.x, np.log(found.noise / (kappa * found.prior[group])), rtol=1e-9)
    ridge = np.linalg.solve(A.T @ A + np.diag(np.exp(found.x)), A.T @ t)
    assert_close(found.y, ridge, rtol=1e-7, atol=1e-10)
    if found.success and not found.at_bounds:
        k = len(found.prior)

        def value(z):
            return bound(
                A, t, found.y + z[:5], (found.variance * np.exp(z[5 : 5 + k]))[group],
                (found.prior * np.exp(z[5 + k : -1]))[group], found.noise * math.exp(z[-1]), kappa,
            )  # fmt: skip

        near = minimize(value, np.zeros(6 + 2 * k), bounds=[(-0.05, 0.05)] * (6 + 2 * k))
        assert near.fun >= found.fun - 1e-5


@given(st.integers(0, 1000))
def test_one_weight_is_exact(seed):
    """With one weight and kappa = 1 the bound is the evidence, here by quadrature, and the answer maximises it."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(15, 1))
    t = 2.0 * A[:, 0] + 0.5 * rng.normal(size=15)
    found = elbo(RidgeProblem(A, t, A, t, penalty="scalar"), emphasis=1.0, tol=1e-9).check()

    def evidence(prior, noise):
        y = np.linspace(-8.0, 12.0, 4001)
        r = t[:, None] - A * y
        log = -0.5 * np.sum(r * r, axis=0) / noise - 7.5 * math.log(2 * math.pi * noise)
        log = log - 0.5 * y * y / prior - 0.5 * math.log(2 * math.pi * prior)
        return log.max() + math.log(np.sum(np.exp(log - log.max())) * (y[1] - y[0]))

    best = evidence(float(found.prior[0]), found.noise)
    assert found.fun * 15 == pytest.approx(-best, abs=1e-6)
    for change in (0.9, 1.1):
        assert evidence(change * float(found.prior[0]), found.noise) <= best
        assert evidence(float(found.prior[0]), change * found.noise) <= best


def test_order_of_features_does_not_matter():
    problem = RidgeProblem.random(12, 5, rng=3)
    A, t = problem.regression()
    order, blocks = np.array([3, 0, 4, 1, 2]), np.array([0, 0, 1, 1, 1])
    other = RidgeProblem(A[:, order], t, A[:, order], t)
    first, second = (elbo(p, blocks=b, tol=1e-9) for p, b in ((problem, blocks), (other, blocks[order])))
    assert_close(second.x, first.x[order], rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_one_block_two_ways(shape):
    """One block by singular values, and as a group of features by a factor."""
    one, many = (RidgeProblem.random(*shape, rng=1, penalty=p) for p in ("scalar", "feature"))
    found, other = elbo(one), elbo(many, blocks=np.zeros(shape[1], dtype=int))
    assert_close(other.x, np.repeat(found.x, shape[1]), rtol=1e-6)
    assert_close(other.y, found.y, rtol=1e-6, atol=1e-9)


def test_box_weights_and_front_door():
    problem = RidgeProblem.random(10, 4, rng=2, penalty="scalar")
    low = tune(problem, method="elbo", bounds=(1.0, 5.0))
    assert low.method == "elbo" and 1.0 - 1e-9 <= low.x[0] <= 5.0 + 1e-9
    A, t = problem.regression()
    twice = RidgeProblem(np.vstack([A, A]), np.append(t, t), A, t, penalty="scalar")
    weighted = RidgeProblem(A, t, A, t, penalty="scalar", train_weights=np.full(10, 2.0))
    assert_close(twice.regression()[0].T @ twice.regression()[0], 2.0 * A.T @ A, rtol=1e-12)
    assert_close(weighted.regression()[0].T @ weighted.regression()[1], 2.0 * A.T @ t, rtol=1e-12)
