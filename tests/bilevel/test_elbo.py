"""The data-emphasized bound: against its formula, a quadrature of the evidence, and ridge regression."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from optlib.bilevel import LogisticProblem, MultinomialProblem, RidgeProblem, elbo, tune
from optlib.testing import assert_close


def bound(A, t, mean, variance, prior, noise, kappa):
    """J by its definition: the expected loss by the mean of its square, and the divergence of two normal laws."""
    n = len(t)
    square = np.sum((t - A @ mean) ** 2) + np.sum(variance * np.sum(A * A, axis=0))
    fit = 0.5 * math.log(2 * math.pi * noise) + square / (2 * noise * n)
    laws = 0.5 * (variance / prior + mean**2 / prior - 1 - np.log(variance / prior))
    return fit + np.sum(laws) / (kappa * n)


@given(st.integers(0, 1000), st.sampled_from([None, [0, 0, 1, 1, 1], [2, 7, 2, 7, 2]]), st.sampled_from([None, 2.0]))
def test_stationary_and_monotone(seed, blocks, emphasis):
    """J falls from cycle to cycle; no minimiser started at the answer finds a lower value nearby."""
    problem = RidgeProblem.random(8, 5, rng=seed)
    found = elbo(problem, blocks=blocks, emphasis=emphasis, check_every=1, maxiter=1000)
    assert np.all(np.diff(found.history["fun"]) <= 1e-10) or found.at_bounds
    A, t = problem.regression()
    group = np.arange(5) if blocks is None else np.unique(blocks, return_inverse=True)[1]
    kappa = emphasis or 1.0
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
    first, second = (elbo(p, blocks=b, tol=None, maxiter=300) for p, b in ((problem, blocks), (other, blocks[order])))
    assert_close(second.x, first.x[order], rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_one_block_two_ways(shape):
    """One block by singular values, and as a group of features by a factor."""
    one, many = (RidgeProblem.random(*shape, rng=1, penalty=p) for p in ("scalar", "feature"))
    options = {"tol": None, "maxiter": 100}
    found, other = elbo(one, **options), elbo(many, blocks=np.zeros(shape[1], dtype=int), **options)
    assert_close(other.x, np.repeat(found.x, shape[1]), rtol=1e-6)
    assert_close(other.y, found.y, rtol=1e-6, atol=1e-9)


def test_more_penalties_than_validation_samples():
    """They are not used: nothing to warn of."""
    problem = RidgeProblem.random(10, 5, rng=2)
    assert tune(problem, method="elbo", maxiter=5).method == "elbo"
    with pytest.warns(UserWarning, match="5 hyperparameters for 10 validation samples"):
        tune(problem, maxiter=1)


def test_box_weights_and_front_door():
    problem = RidgeProblem.random(10, 4, rng=2, penalty="scalar")
    low = tune(problem, method="elbo", bounds=(1.0, 5.0))
    assert low.method == "elbo" and 1.0 - 1e-9 <= low.x[0] <= 5.0 + 1e-9
    A, t = problem.regression()
    twice = RidgeProblem(np.vstack([A, A]), np.append(t, t), A, t, penalty="scalar")
    weighted = RidgeProblem(A, t, A, t, penalty="scalar", train_weights=np.full(10, 2.0))
    assert_close(twice.regression()[0].T @ twice.regression()[0], 2.0 * A.T @ A, rtol=1e-12)
    assert_close(weighted.regression()[0].T @ weighted.regression()[1], 2.0 * A.T @ t, rtol=1e-12)


class Gaussian(RidgeProblem):
    """Least squares with known noise, by its likelihood."""

    regression = None

    def likelihood(self, y):
        value, grad, weight = super().likelihood(y)
        return value / 0.25, grad / 0.25, 0.25 * weight


def test_draws_tend_to_the_closed_form():
    """With known noise the bound is that of the formula, up to the error of the mean over the draws."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(12, 4))
    t = A @ np.array([1.0, -2.0, 0.0, 0.5]) + 0.5 * rng.normal(size=12)
    kappa = 2.0
    found = elbo(Gaussian(A, t, A, t, penalty="scalar"), samples=400, tol=1e-7, emphasis=kappa).check()
    prior, variance = float(found.prior[0]), float(found.variance[0])
    exact = bound(A, t, found.y, np.full(4, variance), np.full(4, prior), 0.25, kappa) - 0.5 * math.log(0.5 * math.pi)
    assert found.fun == pytest.approx(exact, rel=0.05)
    assert_close(found.x, np.log(np.array([0.25 / (kappa * prior)])), rtol=1e-9)
    assert prior == pytest.approx((found.y @ found.y + 4 * variance) / 4, rel=1e-6)
    # the stationary point of the formula: sigma^2 and m given tau
    wanted = 4 / (kappa * np.sum(A * A) / 0.25 + 4 / prior)
    assert variance == pytest.approx(wanted, rel=0.2)
    ridge = np.linalg.solve(A.T @ A + 0.25 / (kappa * prior) * np.eye(4), A.T @ t)
    assert np.linalg.norm(found.y - ridge) <= 0.05 * np.linalg.norm(ridge)


@pytest.mark.parametrize("penalty", ["scalar", "feature"])
def test_classification(penalty):
    """Penalties of every form: stationary, with a validation loss near that of tuning on the validation samples."""
    problem = MultinomialProblem.random(90, 4, rng=1, penalty=penalty)
    found = elbo(problem, tol=1e-5)
    assert found.success and found.x.shape == problem.start()[0].shape and found.y.shape == problem.start()[1].shape
    best = tune(MultinomialProblem.random(90, 4, rng=1, penalty="scalar")).fun
    assert float(problem.outer(found.x, found.y)[0]) <= 1.05 * best


def test_blocks_of_entries():
    """Groups of entries by column: each class has a prior of its own."""
    problem = MultinomialProblem.random(90, 4, rng=1, penalty="entry")
    blocks = np.broadcast_to(np.arange(3), (4, 3))
    found = elbo(problem, blocks=blocks, tol=1e-5).check()
    assert found.prior.shape == (3,) and np.all(found.x == found.x[0])


def test_resumption_with_draws():
    problem = LogisticProblem.random(40, 3, rng=0)
    whole = elbo(problem, tol=None, maxiter=9)
    part = elbo(problem, tol=None, maxiter=4, init=elbo(problem, tol=None, maxiter=5))
    assert part.nit == 9 and np.array_equal(part.x, whole.x)


def test_draws_on_every_backend(backend):
    want = elbo(LogisticProblem.random(40, 3, rng=0), tol=None, maxiter=6)
    found = elbo(LogisticProblem.random(40, 3, rng=0, like=backend.asarray([0.0])), tol=None, maxiter=6)
    rtol = 1e-6 if backend.is_double else 1e-2
    assert_close(found.x, backend.asarray(want.x), rtol=rtol, atol=rtol)
    assert_close(found.y, backend.asarray(want.y), rtol=rtol, atol=rtol)
