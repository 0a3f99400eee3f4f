"""Portfolios against SciPy, and the best in hindsight."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from optlib import online
from optlib.online import PortfolioLosses, best_portfolio, play
from optlib.testing import assert_close


def market(seed, rounds, n, spread):
    rng = np.random.default_rng(seed)
    return np.exp(spread * rng.standard_normal((rounds, n)))


@given(
    seed=st.integers(0, 2**32), rounds=st.integers(1, 60), n=st.integers(1, 8), spread=st.sampled_from([0.01, 0.3, 2.0])
)
def test_the_best_portfolio_is_optimal(seed, rounds, n, spread):
    relatives = market(seed, rounds, n, spread)
    x, value = best_portfolio(relatives)
    assert np.all(x >= 0.0)
    assert_close(np.sum(x), 1.0, rtol=1e-12)
    assert_close(value, -np.sum(np.log(relatives @ x)), rtol=1e-9, atol=1e-12)
    assert (
        np.max(np.mean(relatives / (relatives @ x)[:, None], axis=0)) <= 1.0 + 3e-8
    )  # the duality gap: a line search on values sees no more


def test_the_best_portfolio_by_scipy():
    relatives = market(0, 40, 5, 0.3)
    found = minimize(
        lambda u: -np.sum(np.log(relatives @ u)),
        np.full(5, 0.2),
        jac=lambda u: -relatives.T @ (1.0 / (relatives @ u)),
        bounds=[(0.0, 1.0)] * 5,
        constraints={"type": "eq", "fun": lambda u: np.sum(u) - 1.0},
        options={"ftol": 1e-12},
    )
    x, value = best_portfolio(relatives)
    assert_close(value, found.fun, rtol=1e-8)
    assert_close(x, found.x, atol=1e-4, rtol=1e-3)


def test_the_best_portfolio_on_backends(backend):
    relatives = market(1, 30, 4, 0.3)
    x, value = best_portfolio(backend.asarray(relatives))
    expected, best = best_portfolio(relatives)
    assert_close(x, backend.asarray(expected), atol=1e-2 if not backend.is_double else 1e-6, rtol=1e-2)
    assert_close(value, best, rtol=100 * backend.rtol, atol=100 * backend.rtol)


def newton(products, moment, n):
    """Portfolio of the quadratic model by SciPy."""
    return minimize(
        lambda u: 0.5 * u @ products @ u - 0.25 * moment @ u,
        np.full(n, 1.0 / n),
        jac=lambda u: products @ u - 0.25 * moment,
        bounds=[(0.0, 1.0)] * n,
        constraints={"type": "eq", "fun": lambda u: np.sum(u) - 1.0},
        options={"ftol": 1e-14},
    ).x


def test_newton_portfolios_minimise_their_model():
    relatives, n = market(2, 25, 4, 0.3), 4
    learner = online.PortfolioONS(n, delta=0.125, beta=1.0)
    products, moment = np.eye(n), np.zeros(n)
    for row in relatives:
        x = learner.decide()
        assert_close(x, newton(products, moment, n), atol=1e-5)
        ratio = row / (row @ x)
        products, moment = products + np.outer(ratio, ratio), moment + ratio
        learner.update(-row)  # any multiple of the gradient will do


def test_exponentiated_gradient_is_multiplicative():
    relatives = market(3, 25, 4, 0.3)
    learner, x = online.ExponentiatedGradient(4), np.full(4, 0.25)
    for row in relatives:
        x = x * np.exp(0.05 * row / (row @ x))
        x /= x.sum()
        learner.update(-row / (row @ learner.decide()))
    assert_close(learner.decide(), x, rtol=1e-12)


def test_wealth_of_the_uniform_portfolio():
    relatives = market(4, 50, 3, 0.1)
    result = play(online.UniformPortfolio(3), PortfolioLosses(relatives))
    assert_close(np.exp(-result.cumulative_loss), np.prod(relatives.mean(axis=1)), rtol=1e-12)
    assert_close(result.comparator, best_portfolio(relatives)[0], rtol=1e-12)


def test_newton_portfolios_learn_who_is_best():
    relatives = market(5, 1000, 3, 0.005) * [1.002, 1.0, 0.998]
    learners = (online.UniformPortfolio(3), online.PortfolioONS(3), online.PortfolioONS(3, delta=0.125, beta=1.0))
    uniform, learned, published = (play(v, PortfolioLosses(relatives), check_every=1000) for v in learners)
    assert learned.regret <= learned.regret_bound < 0.4 * uniform.regret
    assert published.regret > uniform.regret  # it bets on the losers


def test_prices_must_not_fall_to_zero():
    learner = online.PortfolioONS(3)
    with pytest.raises(ValueError, match="round `1`"):
        learner.update([-1.0, 0.0, -1.0])
