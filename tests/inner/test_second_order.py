"""Regularised Newton and Gauss-Newton: identities, invariances, the tests of the theory, and the ends."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from optlib import Status
from optlib.inner import gauss_newton, newton, regularized_newton


def logistic(seed, n=40, d=6):
    rng = np.random.default_rng(seed)
    A, t = rng.normal(size=(n, d)), np.where(rng.random(n) < 0.5, -1.0, 1.0)

    def fun(x):
        z = t * (A @ x)
        return np.mean(np.logaddexp(0.0, -z)) + 0.005 * x @ x, -A.T @ (t * expit(-z)) / n + 0.01 * x

    def hessian(x):
        z = A @ x
        return (A.T * (expit(z) * expit(-z))) @ A / n + 0.01 * np.eye(d)

    return A, t, fun, hessian


@given(st.integers(0, 1000), st.booleans())
def test_regularized_newton_keeps_its_test(seed, metric):
    """Descent by the amount that the acceptance asks for, few trials, and the minimiser of Newton's method."""
    A, _, fun, hessian = logistic(seed)
    B = A.T @ A / len(A) if metric else None
    rows = []
    found = regularized_newton(
        fun, np.full(6, 3.0), hessian=hessian, metric=B, tol=1e-9,
        callback=lambda intermediate_result: rows.append(intermediate_result.state),
    )  # fmt: skip
    assert found.success
    for before, after in pairwise(rows):
        shift = before.size / (0.5 * after.radius)
        assert before.value - after.value >= after.size**2 / (8 * shift) - 1e-13 or after.size < before.size
        assert after.value <= before.value + 1e-14
    grown = np.log2(found.state.radius / rows[0].radius)
    assert found.counts["factors"] <= 2 * found.nit - grown + 1e-9  # one halving for each rejection
    best = newton(fun, np.zeros(6), hessian=hessian, tol=1e-11)
    assert np.linalg.norm(found.x - best.x) <= 1e-6
    L = found.factor
    assert np.linalg.norm(L @ L.T - hessian(found.x)) <= 1e-3


@given(st.integers(0, 1000))
def test_regularized_newton_invariances(seed):
    """Scaling the function changes nothing; with the metric A'A neither do linear changes of the variable."""
    A, t, _, _ = logistic(seed)
    rng = np.random.default_rng(seed)
    T = np.linalg.qr(rng.normal(size=(6, 6)))[0] @ np.diag(rng.uniform(0.5, 2.0, 6))

    def model(A):
        def fun(x):
            z = t * (A @ x)
            return np.mean(np.logaddexp(0.0, -z)), -A.T @ (t * expit(-z)) / len(t)

        return fun, lambda x: (A.T * (expit(A @ x) * expit(-A @ x))) @ A / len(t)

    options = {"tol": None, "maxiter": 4}
    f, H = model(A)
    plain = regularized_newton(f, np.ones(6), hessian=H, metric=A.T @ A, **options)
    scaled = regularized_newton(
        lambda x: tuple(100.0 * u for u in f(x)), np.ones(6), hessian=lambda x: 100.0 * H(x), metric=A.T @ A, **options
    )
    M = A @ np.linalg.inv(T)
    g, G = model(M)
    turned = regularized_newton(g, T @ np.ones(6), hessian=G, metric=M.T @ M, **options)
    scale = np.linalg.norm(A @ plain.x)
    assert np.linalg.norm(A @ (scaled.x - plain.x)) <= 1e-6 * scale
    assert np.linalg.norm(M @ turned.x - A @ plain.x) <= 1e-6 * scale


def test_regularized_newton_ends():
    """Superlinear at the end; gradient steps without a Hessian; stationary starts; unreachable tolerances; NaN."""
    _, _, fun, hessian = logistic(0)
    norms = regularized_newton(fun, np.ones(6), hessian=hessian, tol=1e-11).history["stop"]
    assert norms[-1] <= 1e-3 * norms[-2]
    slow = regularized_newton(fun, np.ones(6), tol=1e-6)
    assert slow.success and slow.counts["hessians"] == 0
    assert regularized_newton(lambda x: (x @ x, 2 * x), np.zeros(2)).nit == 0
    stalled = regularized_newton(fun, np.ones(6), hessian=hessian, tol=1e-300, maxiter=200)
    assert not stalled.success and stalled.certificate.value < 1e-12
    assert regularized_newton(lambda x: (np.nan, x), np.ones(2)).status is Status.NONFINITE
    convex = regularized_newton(lambda x: (0.5 * x @ x, x), np.ones(3), hessian=lambda x: np.eye(3), maxiter=9)
    assert convex.counts["factors"] == convex.nit  # on a quadratic the radius never shrinks


def dense_step(J, Q, r, n, shift):
    return -np.linalg.solve(J.T @ Q @ J / n + shift * np.eye(J.shape[1]), J.T @ r / n)


def outputs(loss, rng, n, c):
    """Random outputs, targets, residual and loss Hessian."""
    if loss == "softmax":
        z, t = rng.normal(size=(n, c)), np.eye(c)[rng.integers(0, c, n)]
        p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        Q = scipy.linalg.block_diag(*(np.diag(u) - np.outer(u, u) for u in p))
        return z, t, (p - t).ravel(), Q
    z, t = rng.normal(size=n), np.where(rng.random(n) < 0.5, -1.0, 1.0)
    if loss == "squared":
        return z, t, z - t, np.eye(n)
    return z, t, -t * expit(-t * z), np.diag(expit(z) * expit(-z))


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
@given(seed=st.integers(0, 1000), size=st.sampled_from([4, 50]), damping=st.sampled_from([1e-3, 1.0, 30.0]))
def test_gauss_newton_identity(loss, seed, size, damping):
    """The step in the space of the outputs is the damped Gauss-Newton step, in whichever space it is solved."""
    rng = np.random.default_rng(seed)
    n, c = 8, 3
    z0, t, r, Q = outputs(loss, rng, n, c)
    J = rng.normal(size=(z0.size, size))
    x0 = np.linalg.lstsq(J, z0.ravel(), rcond=None)[0]
    offset = z0 - (J @ x0).reshape(z0.shape)
    found = gauss_newton(
        lambda x: offset + (J @ x).reshape(z0.shape),
        lambda x: J,
        t,
        x0,
        loss=loss,
        damping=damping,
        maxiter=1,
        tol=None,
    )
    want = dense_step(J, Q, r, n, damping)
    step = found.x - x0
    t_ = step @ want / (want @ want)  # the line search may shorten it
    assert 0.0 < t_ <= 1.0 + 1e-9
    assert np.linalg.norm(step - t_ * want) <= 1e-8 * np.linalg.norm(want)
    if size > z0.size:  # in the row space
        assert np.linalg.norm(step - np.linalg.pinv(J) @ (J @ step)) <= 1e-8 * np.linalg.norm(step)


def test_gauss_newton_least_norm():
    """Without much damping: the interpolating point nearest to the start."""
    rng = np.random.default_rng(0)
    A, b, start = rng.normal(size=(5, 30)), rng.normal(size=5), rng.normal(size=30)
    found = gauss_newton(lambda x: A @ x, lambda x: A, b, start, damping=1e-12, tol=1e-9)
    assert found.success and found.nit <= 2
    assert np.linalg.norm(found.x - start - np.linalg.pinv(A) @ (b - A @ start)) < 1e-6


def test_gauss_newton_against_scipy():
    """A nonlinear fit, with fewer parameters than residuals, of matrix shape."""
    s = np.linspace(0.0, 2.0, 30)
    y = 2.0 * np.exp(-1.5 * s) + 0.01 * np.sin(40 * s)
    model = lambda x: x[0, 0] * np.exp(x[0, 1] * s)
    jacobian = lambda x: np.stack([np.exp(x[0, 1] * s), x[0, 0] * s * np.exp(x[0, 1] * s)], axis=1)
    found = gauss_newton(model, jacobian, y, np.array([[1.0, 0.0]]), tol=1e-10)
    peer = scipy.optimize.least_squares(lambda x: model(x[None]) - y, [1.0, 0.0], xtol=1e-14, gtol=1e-14).x
    assert found.success and found.x.shape == (1, 2) and np.max(np.abs(found.x.ravel() - peer)) < 1e-6


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_gauss_newton_separable(loss):
    """More parameters than samples: the loss goes to 0, however wrong the start is, and nothing overflows."""
    rng = np.random.default_rng(1)
    n, c, d = 20, 3, 60
    A = rng.normal(size=(n, d))
    if loss == "logistic":
        t, model, jacobian, size = np.where(rng.random(n) < 0.5, -1.0, 1.0), lambda x: A @ x, lambda x: A, d
    else:
        t, size = np.eye(c)[rng.integers(0, c, n)], d * c
        model = lambda x: A @ x.reshape(d, c)
        jacobian = lambda x: np.kron(A, np.eye(c))
    found = gauss_newton(model, jacobian, t, 30.0 * rng.normal(size=size), loss=loss, tol=1e-9)
    assert found.fun < 1e-6 and np.all(np.diff(found.history["fun"]) <= 1e-12)
