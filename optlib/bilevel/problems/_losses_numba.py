"""Numba variants of the passes over a batch: rows are read where they lie, once for gradient and product.

Several classes are left to matrix products, which are as fast there.
"""

import math

import numpy as np
from numba import njit

from optlib.backend import array_namespace
from optlib.backend._rows_numba import JIT
from optlib.backend.threads import read_only
from optlib.bilevel.problems import losses


@njit(**JIT)
def _pass(A, t, weights, index, y, q, loss, products, values, grad, product):
    """Fill ``values`` with losses, or with slopes along q if there are ``products``."""
    d, zero, one, half = A.shape[1], y.dtype.type(0), y.dtype.type(1), y.dtype.type(0.5)
    grad[:] = 0
    product[:] = 0
    for k in range(index.size):
        i = index[k]
        row = A[i]
        z, u = zero, zero
        if products:
            for j in range(d):
                z += row[j] * y[j]
                u += row[j] * q[j]
        else:
            for j in range(d):
                z += row[j] * y[j]
        if y.size > d:
            z += y[d]
            u += q[d] if products else zero
        if loss == 0:
            first, second = z - t[i], one
            value = half * first * first
        else:
            m = -t[i] * z
            e = math.exp(-abs(m))
            s = one / (one + e) if m > 0 else e / (one + e)
            first, second = -t[i] * s, s * (one - s)
            value = max(m, zero) + math.log1p(e)
        values[k] = first * u if products else value
        f, h = weights[i] * first, weights[i] * second * u
        if products:
            for j in range(d):
                grad[j] += f * row[j]
                product[j] += h * row[j]
        else:
            for j in range(d):
                grad[j] += f * row[j]
        if y.size > d:
            grad[d] += f
            if products:
                product[d] += h


def _own(u):
    """Contiguous and writable, as all but what the problem keeps: one type for the compiler."""
    return u if u.flags.c_contiguous and u.flags.writeable else np.array(u, order="C")


def _run(A, t, weights, index, y, q, loss, products):
    y, q = _own(y), _own(q)
    values, grad = np.empty(index.size, y.dtype), np.empty_like(y)
    product = np.empty_like(y) if products else grad[:0]
    kept = (read_only(u) for u in (A, t, weights, index))
    _pass(*kept, y, q, loss, products, values, grad, product)
    return values, grad, product


def batch_gradient(A, t, weights, index, y, loss):
    """Numba variant of `optlib.bilevel.problems.losses.batch_gradient`."""
    if y.ndim > 1:
        return losses.batch_gradient.generic(A, t, weights, index, y, loss, xp=array_namespace(A))
    return _run(A, t, weights, index, y, y, loss, False)[:2]


def batch_directions(A, t, weights, index, y, q, loss):
    """Numba variant of `optlib.bilevel.problems.losses.batch_directions`."""
    if y.ndim > 1:
        return losses.batch_directions.generic(A, t, weights, index, y, q, loss, xp=array_namespace(A))
    slopes, grad, product = _run(A, t, weights, index, y, q, loss, True)
    return grad, product, slopes
