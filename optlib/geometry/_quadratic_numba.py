"""Numba variants of the quadratic programs over a box and over a simplex: an active-set method."""

import math

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}
_EPS = np.finfo(np.float64).eps
_SUMS = {**_OPTIONS, "fastmath": {"reassoc", "contract", "nsz"}}


def quadratic_on_simplex(b, a, mass):
    """Variant of `optlib.geometry.mirror.quadratic.quadratic_on_simplex`."""
    lower = np.zeros(b.shape[-1])
    return _solve(b, a, lower, lower + np.inf, float(mass))


def quadratic_on_box(b, a, lower, upper):
    """Variant of `optlib.geometry.mirror.quadratic.quadratic_on_box`."""
    return _solve(b, a, lower, upper, math.nan)


def _solve(b, a, lower, upper, total):
    lead = b.shape[:-1] if a.ndim == 2 else np.broadcast_shapes(b.shape[:-1], a.shape[:-2])
    out = np.empty((*lead, b.shape[-1]))
    rows = [_stack(v, lead, 1) for v in (b, lower, upper)]
    _rows(rows[0], _stack(a, lead, 2), rows[1], rows[2], total, out.reshape(-1, b.shape[-1]))
    return out.astype(b.dtype, copy=False)


def diagonal_on_ball(b, w, radius):
    """Variant of `optlib.geometry.mirror.quadratic.diagonal_on_ball`."""
    lead = b.shape[:-1] if w.ndim == 1 else np.broadcast_shapes(b.shape[:-1], w.shape[:-1])
    out = np.empty((*lead, b.shape[-1]))
    _ball_rows(_stack(b, lead, 1), _stack(w, lead, 1), radius, out.reshape(-1, b.shape[-1]))
    return out.astype(b.dtype, copy=False)


def _stack(x, lead, axes):
    """One array for all problems, or one per problem, along a single leading axis; contiguous, float64."""
    if x.ndim > axes:
        x = np.broadcast_to(x, lead + x.shape[-axes:])
    x = np.ascontiguousarray(x, np.float64)
    return (x if x.flags.writeable else x.copy()).reshape(-1, *x.shape[x.ndim - axes :])


@njit(**_OPTIONS)
def _rows(b, a, lower, upper, total, out):
    for i in range(out.shape[0]):
        _active_set(
            b[i % b.shape[0]], a[i % a.shape[0]], lower[i % lower.shape[0]], upper[i % upper.shape[0]], total, out[i]
        )


@njit(**_SUMS)
def _dot(x, y):
    total = 0.0
    for j in range(x.size):
        total += x[j] * y[j]
    return total


@njit(**_SUMS)
def _dot_and_size(x, y):
    total, size = 0.0, 0.0
    for j in range(x.size):
        p = x[j] * y[j]
        total += p
        size += abs(p)
    return total, size


@njit(**_OPTIONS)
def _factor(a, free, first, count, factor):
    """Cholesky factor of the rows and columns ``free[:count]`` of ``a``, whose first rows are known."""
    for i in range(first, count):
        for j in range(i):
            known = _dot(factor[i, :j], factor[j, :j])
            factor[i, j] = (a[free[i], free[j]] - known) / factor[j, j]
        factor[i, i] = np.sqrt(a[free[i], free[i]] - _dot(factor[i, :i], factor[i, :i]))


@njit(**_OPTIONS)
def _substitute(factor, count, z):
    """Solve ``L L' z = z`` in place."""
    for i in range(count):
        z[i] = (z[i] - _dot(factor[i, :i], z[:i])) / factor[i, i]
    for i in range(count - 1, -1, -1):
        z[i] /= factor[i, i]
        for j in range(i):
            z[j] -= factor[i, j] * z[i]


@njit(**_OPTIONS)
def _start(b, a, lower, upper, total, x, side):
    """Set a vertex (with infinite bounds: a face) and the side of each entry: -1 lower, 1 upper, 0 free."""
    best, least = 0, np.inf
    for k in range(b.size):
        x[k], side[k] = 0.0, 0
        if lower[k] > -np.inf:
            x[k], side[k] = lower[k], -1
        if upper[k] < np.inf and (side[k] == 0 or b[k] - a[k, k] * lower[k] > a[k, k] * upper[k] - b[k]):
            x[k], side[k] = upper[k], 1
        value = 0.5 * total * a[k, k] - b[k]
        if value < least:
            best, least = k, value
    if not np.isnan(total):
        x[best], side[best] = total, 0


@njit(**_OPTIONS)
def _active_set(b, a, lower, upper, total, x):
    """Minimise over the free entries; hold the first that meets a bound; free the one that gains most; repeat.

    The objective falls with every change of the set that moves ``x``, so no set returns. An entry that comes back to
    its bound at once, by rounding, stays there until ``x`` has moved.
    """
    n = b.size
    side, stays = np.empty(n, np.int8), np.zeros(n, np.bool_)
    free, count, known = np.empty(n, np.int64), 0, 0
    factor, z, response, held = np.empty((n, n)), np.empty(n), np.empty(n), np.empty(n)
    summed = not np.isnan(total)
    if summed:  # as in the reference
        reach, top = 4.0 * total * np.max(np.abs(a)), np.max(b)
        b = np.maximum(b, top - reach) - (top if abs(top) > 1e8 * reach else 0.0)
    _start(b, a, lower, upper, total, x, side)
    if np.isnan(np.sum(b)):
        x[:] = np.nan
        return
    for k in range(n):
        if side[k] == 0:
            free[count] = k
            count += 1
    level = 0.0
    for _ in range(100 * n + 100):
        while count > 0:
            _factor(a, free, known, count, factor)
            known = count
            for k in range(n):
                held[k] = x[k] if side[k] != 0 else 0.0
            for i in range(count):
                z[i] = b[free[i]] - _dot(a[free[i]], held)
                response[i] = 1.0
            _substitute(factor, count, z)
            if summed:
                _substitute(factor, count, response)
                level = (total - np.sum(held) - np.sum(z[:count])) / np.sum(response[:count])
                for i in range(count):
                    z[i] += level * response[i]
            length, stop, bound = 1.0, -1, 0.0
            for i in range(count):
                k = free[i]
                if z[i] < lower[k] or z[i] > upper[k]:
                    end = lower[k] if z[i] < lower[k] else upper[k]
                    fraction = (x[k] - end) / (x[k] - z[i])
                    if fraction < length:
                        length, stop, bound = fraction, i, end
            for i in range(count):
                k = free[i]
                x[k] = z[i] if stop < 0 else x[k] + length * (z[i] - x[k])
            if stop < 0:
                break
            if length > 0.0:
                stays[:] = False
            k = free[stop]
            x[k], side[k], stays[k] = bound, -1 if bound == lower[k] else 1, length == 0.0
            count -= 1
            known = min(known, stop)
            for i in range(stop, count):
                free[i] = free[i + 1]
        enter, most = -1, 0.0
        for k in range(n):
            if side[k] != 0 and not stays[k]:
                ax, size = _dot_and_size(a[k], x)
                gain = -side[k] * (b[k] - ax + level)
                if gain > most and gain > 8.0 * n * _EPS * (abs(b[k]) + size + abs(level)):
                    enter, most = k, gain
        if enter < 0:
            return
        side[enter] = 0
        free[count] = enter
        count += 1


@njit(**_OPTIONS)
def _ball_rows(b, w, radius, out):
    for i in range(out.shape[0]):
        _on_ball(b[i % b.shape[0]], w[i % w.shape[0]], radius, out[i])


@njit(**_OPTIONS)
def _on_ball(b, w, radius, x):
    """``b / (w + mu)`` by Newton's method for the reciprocal of its norm, a concave function of ``mu``.

    It starts where the largest single entry attains the radius, so it rises to the root.
    """
    mu = 0.0
    for j in range(b.size):
        mu = max(mu, abs(b[j]) / radius - w[j])
    while True:
        squares, slope = 0.0, 0.0
        for j in range(b.size):
            x[j] = b[j] / radius / (w[j] + mu)
            squares += x[j] * x[j]
            slope += x[j] * x[j] / (w[j] + mu)
        size = np.sqrt(squares)
        step = (size - 1.0) * squares / slope
        if not step > 4.0 * _EPS * mu:
            break
        mu += step
    for j in range(b.size):
        x[j] *= radius / max(size, 1.0)
