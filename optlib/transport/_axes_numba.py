"""Numba variants of the products along one axis of a grid."""

import numpy as np
from numba import njit

from optlib.backend._math_numba import exp_, log_
from optlib.transport._passes_numba import run_rows
from optlib.transport._tiles_numba import INNER, JIT, exp_dense, smallest_gap

TILE = 512  # lines at a time
FEW = 8  # lines below which each is a vector; else they stand side by side, so that short ones vectorise as well


@njit(**INNER)
def _raise(z, c, top):
    for k in range(top.size):
        t = z[k] - c
        top[k] = t if t > top[k] else top[k]


@njit(**INNER)
def _add(z, c, top, s):
    for k in range(s.size):
        s[k] += exp_((z[k] - c) - top[k])


@njit(**INNER)
def _finish(top, s):
    for k in range(s.size):
        top[k] += log_(s[k])


@njit(**JIT)
def _side_by_side(k0, k1, chunks, small, scratch, cost, z, sums, out):
    """Of ``z_jk - cost_ij`` over j: the largest, or the logarithm of the sum of exponentials."""
    lines = out.shape[1]
    first, last, total = k0 * lines // chunks, k1 * lines // chunks, np.empty(TILE, out.dtype)
    for begin in range(first, last, TILE):
        end = min(begin + TILE, last)
        s = total[: end - begin]
        for i in range(cost.shape[0]):
            top = out[i, begin:end]
            top.fill(-np.inf)
            for j in range(cost.shape[1]):
                _raise(z[j, begin:end], cost[i, j], top)
            if sums:
                s.fill(0)
                for j in range(cost.shape[1]):
                    _add(z[j, begin:end], cost[i, j], top, s)
                _finish(top, s)


@njit(**JIT)
def _one_by_one(k0, k1, chunks, small, scratch, cost, z, sums, out):
    """The same for transposed lines."""
    number = out.dtype.type
    for k in range(k0 * out.shape[0] // chunks, k1 * out.shape[0] // chunks):
        for i in range(out.shape[1]):
            least = smallest_gap(cost[i], z[k])
            out[k, i] = -least
            if sums:
                out[k, i] += log_(exp_dense(cost[i], z[k], number(least), number(1), scratch[0, : z.shape[1]]))


def _run(matrix, z, sums):
    (m, n), lines = matrix.shape, z.shape[1]
    cost = np.array(-matrix, dtype=z.dtype, order="C")
    if lines < FEW:
        out = np.empty((lines, m), z.dtype)
        run_rows(_one_by_one, lines, n, cost, np.array(z.T, order="C"), sums, out)
        return np.ascontiguousarray(out.T)
    out = np.empty((m, lines), z.dtype)
    run_rows(_side_by_side, lines, n, cost, np.array(z, order="C"), sums, out)
    return out


def log_sum(matrix, z):
    return _run(matrix, z, True)


def largest(matrix, z):
    return _run(matrix, z, False)
