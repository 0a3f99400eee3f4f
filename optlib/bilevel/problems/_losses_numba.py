"""Numba variants of the passes over a batch: rows are read where they lie, once for gradient and product.

Many classes and features are left to matrix products, which are faster there than these loops.
"""

import math

import numpy as np
from numba import njit

from optlib.backend import array_namespace
from optlib.backend.threads import read_only
from optlib.bilevel.problems import losses

JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
LARGE = 50_000  # numbers in a batch of several classes from which matrix products win


@njit(**JIT)
def _derivatives(z, t, u, first, second, loss):
    """First derivatives of a sample's loss, and the product of the second ones with u; returns its value."""
    if loss == 0:
        first[0] = z[0] - t[0]
        second[0] = u[0]
        return z.dtype.type(0.5) * first[0] * first[0]
    if loss == 1:
        one, m = z.dtype.type(1), -t[0] * z[0]
        e = math.exp(-abs(m))
        s = one / (one + e) if m > 0 else e / (one + e)
        first[0] = -t[0] * s
        second[0] = s * (one - s) * u[0]
        return max(m, z.dtype.type(0)) + math.log1p(e)
    top = z[0]
    for c in range(1, z.size):
        top = max(top, z[c])
    total, value, mean = z.dtype.type(0), z.dtype.type(0), z.dtype.type(0)
    for c in range(z.size):
        value += z[c] * t[c]
        first[c] = math.exp(z[c] - top)
        total += first[c]
    for c in range(z.size):
        first[c] /= total
        mean += first[c] * u[c]
    for c in range(z.size):
        second[c] = first[c] * (u[c] - mean)
        first[c] -= t[c]
    return math.log(total) + top - value


@njit(**JIT)
def _pass(A, t, weights, index, y, q, loss, products, values, grad, product):
    """``y``, ``q``, ``grad`` and ``product`` have the shape (d, C) or (d + 1, C); ``values`` losses, or slopes."""
    d, C = A.shape[1], y.shape[1]
    z, u = np.empty(C, y.dtype), np.zeros(C, y.dtype)
    first, second = np.empty(C, y.dtype), np.empty(C, y.dtype)
    grad[:] = 0
    product[:] = 0
    zero = y.dtype.type(0)
    for k in range(index.size):
        i = index[k]
        row = A[i]
        if C == 1:
            yy, qq, s, r = y[:, 0], q[:, 0], zero, zero
            for j in range(d):
                s += row[j] * yy[j]
            if products:
                for j in range(d):
                    r += row[j] * qq[j]
            z[0], u[0] = s, r
        else:
            z[:] = 0
            u[:] = 0
            for j in range(d):
                a = row[j]
                if a != 0:
                    for c in range(C):
                        z[c] += a * y[j, c]
                    if products:
                        for c in range(C):
                            u[c] += a * q[j, c]
        if y.shape[0] > d:
            for c in range(C):
                z[c] += y[d, c]
                u[c] += q[d, c] if products else zero
        value = _derivatives(z, t[i], u, first, second, loss)
        if products:
            value = zero
            for c in range(C):
                value += first[c] * u[c]
        values[k] = value
        w = weights[i]
        for c in range(C):
            first[c] *= w
            second[c] *= w
        if C == 1:
            f, s, g, h = first[0], second[0], grad[:, 0], product[:, 0]
            for j in range(d):
                g[j] += f * row[j]
            if products:
                for j in range(d):
                    h[j] += s * row[j]
        else:
            for j in range(d):
                a = row[j]
                if a != 0:
                    for c in range(C):
                        grad[j, c] += a * first[c]
                    if products:
                        for c in range(C):
                            product[j, c] += a * second[c]
        if y.shape[0] > d:
            for c in range(C):
                grad[d, c] += first[c]
                if products:
                    product[d, c] += second[c]


def _columns(u):
    return read_only(u.reshape(u.shape[0], -1))


def _run(A, t, weights, index, y, q, loss, products):
    values, grad = np.empty(index.size, y.dtype), np.empty((y.shape[0], y.size // max(y.shape[0], 1)), y.dtype)
    product = np.empty_like(grad) if products else grad[:0]
    _pass(
        read_only(A), _columns(t), read_only(weights), read_only(index), _columns(y), _columns(q), loss, products,
        values, grad, product,
    )  # fmt: skip
    return values, grad.reshape(y.shape), product.reshape(y.shape) if products else product


def _many(index, y):
    return y.ndim > 1 and index.size * y.size > LARGE


def batch_gradient(A, t, weights, index, y, loss):
    """Numba variant of `optlib.bilevel.problems.losses.batch_gradient`."""
    if _many(index, y):
        return losses.batch_gradient.generic(A, t, weights, index, y, loss, xp=array_namespace(A))
    values, grad, _ = _run(A, t, weights, index, y, y, loss, False)
    return values, grad


def batch_directions(A, t, weights, index, y, q, loss):
    """Numba variant of `optlib.bilevel.problems.losses.batch_directions`."""
    if _many(index, y):
        return losses.batch_directions.generic(A, t, weights, index, y, q, loss, xp=array_namespace(A))
    slopes, grad, product = _run(A, t, weights, index, y, q, loss, True)
    return grad, product, slopes
