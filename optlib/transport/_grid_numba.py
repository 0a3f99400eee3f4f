"""Numba variant of the soft maximum along one axis of a grid: many lines side by side, so that short ones vectorise."""

import numpy as np
from numba import njit

from optlib.backend._math_numba import exp_, log_
from optlib.transport._tiles_numba import INNER, JIT

TILE = 512  # lines at a time


@njit(**INNER)
def _raise(u, c, top):
    for k in range(top.size):
        t = u[k] - c
        top[k] = t if t > top[k] else top[k]


@njit(**INNER)
def _add(u, c, top, s):
    for k in range(s.size):
        s[k] += exp_((u[k] - c) - top[k])


@njit(**INNER)
def _finish(top, s, out):
    for k in range(s.size):
        out[k] = top[k] + log_(s[k])


@njit(**JIT)
def _axis(u, cost, out):
    n, size = u.shape
    top, s = np.empty(min(TILE, size), u.dtype), np.empty(min(TILE, size), u.dtype)
    for k0 in range(0, size, TILE):
        k1 = min(k0 + TILE, size)
        high, total = top[: k1 - k0], s[: k1 - k0]
        for j in range(cost.shape[1]):
            high.fill(-np.inf)
            total.fill(0)
            for i in range(n):
                _raise(u[i, k0:k1], cost[i, j], high)
            for i in range(n):
                _add(u[i, k0:k1], cost[i, j], high, total)
            _finish(high, total, out[j, k0:k1])


def soft_axis(u, cost):
    """See `optlib.transport._grid.soft_axis`."""
    out = np.empty((cost.shape[1], u.shape[1]), u.dtype)
    _axis(np.ascontiguousarray(u), np.ascontiguousarray(cost, dtype=u.dtype), out)
    return out
