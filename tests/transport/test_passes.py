"""Passes against brute force in extended precision, on every backend and engine."""

import math

import numpy as np
import pytest

import optlib
from optlib.backend import to_numpy
from optlib.testing import assert_close
from optlib.transport import DenseCost, PointCloud, passes

KINDS = ("dense", "transposed", "cloud", "cloud7", "scaled", "euclidean", "lp", "function")
L = np.longdouble


def make(kind, backend, n=9, m=13, seed=0):
    """A cost on the backend and its entries in extended precision."""
    rng = np.random.default_rng(seed)
    if kind in ("dense", "transposed"):
        host = rng.random((n, m)).astype(np.float32).astype(float)
        cost = DenseCost(backend.asarray(host.T)).T if kind == "transposed" else DenseCost(backend.asarray(host))
        return cost, host.astype(L)
    d = 7 if kind == "cloud7" else 2
    x, y = (rng.random((k, d)).astype(np.float32).astype(float) for k in (n, m))
    gap = np.abs(x[:, None] - y[None]).astype(L)
    points = backend.asarray(x), backend.asarray(y)
    if kind == "scaled":
        unit = [u.astype(L) / np.sqrt(np.sum(u.astype(L) ** 2, axis=1))[:, None] for u in (x, y)]
        return PointCloud(*points, cost="cosine"), 1 - unit[0] @ unit[1].T
    if kind == "euclidean":
        return PointCloud(*points, cost="euclidean"), np.sqrt(np.sum(gap**2, axis=2))
    if kind == "lp":
        return PointCloud(*points, cost="lp", p=1.5), np.sum(gap ** L(1.5), axis=2)
    if kind == "function":
        return PointCloud(*points, cost=lambda u, v: u @ v.T), x.astype(L) @ y.T.astype(L)
    return PointCloud(*points), np.sum(gap**2, axis=2)


def weights(n, seed, zero=None):
    w = np.random.default_rng(seed).dirichlet(np.ones(n))
    if zero is not None:
        w[zero] = 0.0
    return (w / w.sum()).astype(np.float32).astype(float)


def log_sum(z):
    top = np.max(z, axis=1)
    return top + np.log(np.sum(np.exp(z - top[:, None]), axis=1))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.mark.parametrize("eps", [0.5, 0.01])
@pytest.mark.parametrize("rho", [math.inf, 0.3])
def test_sweep(backend, engine, kind, eps, rho):
    cost, entries = make(kind, backend)
    n, m = cost.shape
    a, b = weights(n, 1, zero=2), weights(m, 2, zero=4)
    g = np.random.default_rng(3).standard_normal(m).astype(np.float32).astype(float)
    lam = 1.0 if math.isinf(rho) else rho / (rho + eps)
    with np.errstate(divide="ignore"):
        f = -lam * eps * log_sum((g - entries) / eps + np.log(b.astype(L)))
    columns = np.sum(a[:, None] * b * np.exp((f[:, None] + g - entries) / eps), axis=0)
    tol = 1e-12 if backend.is_double else 3e-5
    for hint in (None, backend.asarray(f.astype(float)), backend.asarray(np.full(n, 1e3))):
        new, c = passes.sweep(cost, *map(backend.asarray, (g, a, b)), eps, f=hint, rho=rho)
        assert_close(new, backend.asarray(f.astype(float)), rtol=tol, atol=tol)
        assert_close(c, backend.asarray(columns.astype(float)), rtol=10 * tol, atol=tol)
        assert np.isfinite(to_numpy(new)).all()


@pytest.mark.parametrize("eps", [0.5, 0.01])
def test_transforms_and_products(backend, engine, kind, eps):
    cost, entries = make(kind, backend)
    n, m = cost.shape
    a, b = weights(n, 1, zero=2), weights(m, 2, zero=4)
    rng = np.random.default_rng(3)
    g, v = rng.standard_normal(m).astype(np.float32).astype(float), rng.random((m, 2)).astype(np.float32).astype(float)
    with np.errstate(divide="ignore"):
        f = -eps * log_sum((g - entries) / eps + np.log(b.astype(L)))
    plan = a[:, None] * b * np.exp((f[:, None] + g - entries) / eps)
    tol = 1e-12 if backend.is_double else 1e-4
    host, A, B, G, V = f.astype(float), *map(backend.asarray, (a, b, g, v))

    def same(got, want):
        assert_close(got, backend.asarray(np.asarray(want, dtype=float)), rtol=tol, atol=tol)

    same(passes.soft_transform(cost, G, B, eps), f)
    same(passes.c_transform(cost, G), np.min(entries - g, axis=1))
    same(passes.c_transform(cost.T, backend.asarray(host)), np.min(entries.T - host, axis=1))
    same(passes.cost_apply(cost, V), entries @ v)
    same(passes.cost_apply(cost, V[:, 0]), entries @ v[:, 0])
    F = backend.asarray(host)
    same(passes.apply(cost, F, G, A, B, eps, V), plan @ v)
    same(passes.apply(cost, F, G, A, B, eps, V[:, 0]), plan @ v[:, 0])
    same(passes.apply(cost.T, G, F, B, A, eps, A), plan.T @ a)
    got, costs = passes.moments(cost, F, G, A, B, eps, V)
    same(got, plan @ v)
    same(costs, (plan * entries) @ v)
    same(passes.plan_rows(cost, F, G, A, B, eps, 2, 5), plan[2:5])
    kernel, alpha, c, r = passes.absorb(cost, F + 1.0, G, A, B, eps, 0.0)
    same(alpha, f)
    same(c, plan.sum(axis=0))
    same(r, plan.sum(axis=1))
    with np.errstate(over="ignore"):
        same(kernel, np.exp((f[:, None] + g - entries) / eps))
    x, q, h = (backend.asarray(np.linspace(0, 1, m) ** k) for k in (1, 2, 3))
    shares, amounts, lowest = map(to_numpy, (x, q, h))
    sums = (plan.sum(1), plan @ shares, (plan * entries).sum(1), (plan * entries) @ shares)
    wanted = (*sums, entries @ amounts, np.min(entries - lowest, axis=1))
    for stored in (None, (kernel, alpha, G)):
        for got, want in zip(passes.survey(cost, F, G, A, B, eps, x, q, h, stored=stored), wanted, strict=True):
            same(got, want)


def test_float64_vectors_with_a_float32_cost():
    rng = np.random.default_rng(0)
    c, g, w = rng.random((40, 30)).astype(np.float32), rng.random(30), np.full(30, 1 / 30)
    narrow = DenseCost(c)
    f, sums = passes.sweep(narrow, g, np.full(40, 1 / 40), w, 1e-3)
    want = passes.sweep(DenseCost(c.astype(float)), g, np.full(40, 1 / 40), w, 1e-3)
    assert f.dtype == sums.dtype == np.float64
    assert np.array_equal(f, want[0])
    assert np.array_equal(sums, want[1])


@pytest.mark.parametrize("points", [False, True])
def test_threads_do_not_change_a_bit(points):
    rng = np.random.default_rng(0)
    x, y = rng.random((700, 2)), rng.random((650, 2))
    cost = PointCloud(x, y) if points else DenseCost(PointCloud(x, y).toarray())
    a, b, g = np.full(700, 1 / 700), np.full(650, 1 / 650), rng.random(650)
    found = []
    for threads in (1, 2):
        with optlib.config(threads=threads):
            f, c = passes.sweep(cost, g, a, b, 0.01)
            found.append((f, c, passes.apply(cost, f, g, a, b, 0.01, g)))
    assert all(np.array_equal(u, v) for u, v in zip(*found, strict=True))


def test_tiny_weights_and_extreme_exponents(engine):
    cost = DenseCost(np.array([[0.0, 1e6], [1e6, 0.0], [5e5, 5e5]]))
    a, b = np.array([0.5, 0.25, 0.25]), np.array([1e-300, 1.0])
    f, c = passes.sweep(cost, np.zeros(2), a, b, 1.0)
    assert np.isfinite(f).all()
    assert abs(c.sum() - 1.0) < 1e-12
    f, c = passes.sweep(cost, np.array([0.0, -1e8]), a, b, 1e-3)
    assert np.isfinite(f).all()
    assert abs(c.sum() - 1.0) < 1e-9
