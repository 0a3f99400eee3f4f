"""Deep factorisation and over-parameterized regression: closed-form minima, dynamics, implicit acceleration."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power, sqrtm

from optlib import sensing
from optlib.sensing._end_to_end import layer_gradients, multiplied, split_evenly
from optlib.sensing.deep_factorization import BuresWasserstein
from optlib.testing import check_gradient
from tests.sensing.problems import error, gaussian


def covariance(seed, n=6):
    B = np.random.default_rng(seed).normal(size=(n, n))
    return B @ B.T / n + 0.1 * np.eye(n)


def namespace():
    from optlib.backend import array_namespace

    return array_namespace()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_end_to_end_is_the_formula_with_matrix_powers(seed, a, b, depth):
    rng = np.random.default_rng(seed)
    W, g = rng.normal(size=(a, b)), rng.normal(size=(a, b))

    def power(S, t):
        return np.eye(S.shape[0]) if t == 0 else np.real(fractional_matrix_power(S + 1e-14 * np.eye(S.shape[0]), t))

    expected = sum(
        power(W @ W.T, (depth - j) / depth) @ g @ power(W.T @ W, (j - 1) / depth) for j in range(1, depth + 1)
    )
    found = sensing.end_to_end(W, g, depth)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.linalg.norm(expected) + 1e-5)
    assert np.sum(found * g) >= 0.0  # never uphill


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_rule_is_the_limit_of_balanced_layers(depth):
    """Arora, Cohen, Hazan: the product of the factors moves by the end-to-end rule, to second order in the step."""
    M = np.random.default_rng(0).normal(size=(5, 4))
    gaps = []
    for step in (1e-3, 5e-4):
        n = round(0.05 / step)
        go = {"depth": depth, "alpha": 0.5, "rng": 0, "step": step, "tol": None, "maxiter": n}
        layers = sensing.deep_factorization(None, M, **go).matrix.toarray()
        product = sensing.deep_factorization(None, M, dynamics="product", **go).x[0]
        gaps.append(np.linalg.norm(layers - product))
    assert gaps[0] < 1e-4
    assert gaps[1] < 0.6 * gaps[0]  # first order in the step over a fixed time


def test_layers():
    rng = np.random.default_rng(0)
    W, xp = rng.normal(size=(5, 4)), namespace()
    layers = split_evenly(W, 4, 3, xp)
    np.testing.assert_allclose(multiplied(layers), W, atol=1e-12)
    for left, right in itertools.pairwise(layers):
        np.testing.assert_allclose(left.T @ left, right @ right.T, atol=1e-12)
    target = rng.normal(size=(5, 4))
    slopes = layer_gradients(layers, multiplied(layers) - target)
    for j in range(3):

        def fun(w, j=j):
            return 0.5 * np.sum((multiplied((*layers[:j], w, *layers[j + 1 :])) - target) ** 2)

        check_gradient(fun, lambda w, j=j: slopes[j], layers[j])


def test_bures_wasserstein_value_and_gradient():
    """Against the formula with matrix roots of the two covariances."""
    S, rng = covariance(1, 5), np.random.default_rng(0)
    loss, W = BuresWasserstein(S, 3, 0.0, None, namespace()), rng.normal(size=(5, 3))
    root = np.real(sqrtm(S))
    direct = np.trace(S) + np.trace(W @ W.T) - 2.0 * np.trace(np.real(sqrtm(root @ W @ W.T @ root)))
    assert float(loss.value(W)) == pytest.approx(direct, rel=1e-6)
    check_gradient(loss.value, loss.gradient, W)


@pytest.mark.parametrize(  # a single factor with the square loss is the matrix itself
    ("loss", "depth"), [("bures_wasserstein", 1), ("bures_wasserstein", 2), ("square", 2)]
)
def test_minimum_over_rank_k_is_the_tail_of_the_spectrum(depth, loss):
    """Brechet et al.: no spurious minimum; the least value is the sum of the discarded eigenvalues."""
    for seed in range(3):
        S = covariance(seed)
        w = np.linalg.eigvalsh(S)
        for k in (1, 3, 5):
            result = sensing.deep_factorization(None, S, rank=k, depth=depth, loss=loss, rng=seed, maxiter=40_000)
            tail = w[: 6 - k].sum() if loss != "square" else 0.5 * np.sum(w[: 6 - k] ** 2)
            assert abs(result.fun - tail) < 1e-8
            assert result.success


def test_loss_of_the_true_covariance_is_zero_and_smoothing_is_small():
    S = covariance(2)
    result = sensing.deep_factorization(None, S, loss="bures_wasserstein", rng=0, smoothing=1e-9, tol=1e-8)
    assert result.success
    np.testing.assert_allclose(result.matrix.toarray(), S, atol=1e-3)


def test_measured_matrix():
    problem = gaussian(0, 10, 8, 2, over=3.0, kappa=2.0)
    result = sensing.deep_factorization(*problem[:2], rank=2, depth=3, rng=0)
    assert result.success
    assert error(result, problem) < 1e-10
    again = sensing.recover(problem.A, problem.y, rank=2, method="deep_factorization", rng=0)
    assert error(again, problem) < 1e-10


def test_depth_prefers_low_rank():
    """Arora, Cohen, Hu, Luo: full width, few entries, small start: the deeper, the closer to the low-rank matrix."""
    problem = gaussian(3, 12, 12, 1, over=4.0)
    errors = []
    for depth in (1, 2, 3):
        go = {"depth": depth, "alpha": 1e-3, "rng": 0, "tol": 1e-6, "maxiter": 8000}
        errors.append(error(sensing.deep_factorization(*problem[:2], **go), problem))
    assert errors[0] > 0.2
    assert errors[1] < errors[0] / 5.0
    assert errors[2] < errors[1]


# -- regression --


def toy(**options):
    """Two responses of very different size and the fourth power, as in the paper's example."""
    return sensing.overparameterized_regression(np.eye(2), [100.0, 1.0], power=4.0, tol=None, **options)


def iterations(depth, step, limit=250_000, goal=5e-5):
    """Iterations to a mean loss below the goal; None if the run does not get there."""

    def reached(result):
        if result.history["fun"][-1] <= goal:
            raise StopIteration

    go = {"depth": depth, "step": step, "maxiter": limit, "check_every": 500, "init": [7e-4, 7e-4]}
    result = toy(callback=reached, **go)
    return result.nit if result.history["fun"][-1] <= goal else None


def test_more_factors_are_faster_for_the_fourth_power():
    """Best steps of tenths of a decade: 2.5 times faster with two factors, 6 times with three, as measured."""
    counts = []
    for depth, low, high in ((1, -3.6, -3.2), (2, -5.3, -4.9), (3, -5.6, -5.2)):
        steps = 10 ** np.arange(low, high, 0.1)
        with np.errstate(all="ignore"):
            found = [iterations(depth, step) for step in steps]
        counts.append(min(n for n in found if n is not None))
    assert counts[1] < counts[0] / 2
    assert counts[2] < counts[0] / 4


def test_one_factor_is_faster_for_squares():
    X, y = np.eye(2), [100.0, 1.0]
    go = {"power": 2.0, "rng": 0, "tol": 1e-8, "check_every": 1}
    assert sensing.overparameterized_regression(X, y, depth=1, step=2.0, **go).nit == 1
    assert sensing.overparameterized_regression(X, y, depth=2, **go).nit > 10


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3]), st.sampled_from([2.0, 3.0, 4.0]))
def test_fit_is_that_of_scipy(seed, depth, power):
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(8, 2)), rng.normal(size=8)
    result = sensing.overparameterized_regression(X, y, depth=depth, power=power, rng=seed, tol=1e-5)
    peer = minimize(lambda w: np.mean(np.abs(X @ w - y) ** power) / power, np.zeros(2), tol=1e-12)
    if result.success:
        np.testing.assert_allclose(result.x, peer.x, atol=2e-3)
    assert result.fun >= peer.fun - 1e-9


def test_fit_succeeds_and_layers_agree_with_the_rule():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 4)), rng.normal(size=30)
    for dynamics in ("product", "layers"):
        result = sensing.overparameterized_regression(X, y, depth=3, dynamics=dynamics, rng=0)
        assert result.success
        np.testing.assert_allclose(result.x, np.linalg.lstsq(X, y)[0], atol=1e-5)
    w, scales = result.layers
    np.testing.assert_allclose(np.prod(scales) * w, result.x, rtol=1e-12)


def test_zero_start_is_said():
    """Zero is stationary for the factors, but not for the convex problem: no success."""
    X, y = np.eye(2), [1.0, 2.0]
    result = sensing.overparameterized_regression(X, y, init=[0.0, 0.0], maxiter=50)
    assert not result.success
    assert result.certificate.relative == pytest.approx(1.0)
