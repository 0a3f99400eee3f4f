"""Numba kernels of the projections: passes over a row without branches, which LLVM turns into vector instructions."""

import numpy as np
from numba import njit

from optlib.backend._math_numba import _from_bits, _to_bits

# A function without a word on fastmath inherits that of the caller that compiles it first: say False.
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}
_SUMS = {**_OPTIONS, "fastmath": {"reassoc", "contract", "nsz"}}
_BLOCK = 2048  # entries summed in their own precision before the sum is folded in float64


def simplex(y, mass):
    """Variant of `optlib.geometry._thresholds.simplex`."""
    return _apply(_simplex_row, _simplex_rows, y, mass)


def l1_ball(y, radius):
    """Variant of `optlib.geometry._thresholds.l1_ball`."""
    return _apply(_l1_ball_row, _l1_ball_rows, y, radius)


def clipped_sum(p, q, low, high, total):
    """Variant of `optlib.geometry._thresholds.clipped_sum`."""
    out = np.empty(p.shape)
    n = p.shape[-1]
    rows = [np.ascontiguousarray(v, np.float64).reshape(-1, n) for v in (p, q, low, high)]
    _clipped_sum_rows(*rows, _amounts(total), out.reshape(-1, n))
    return out.astype(p.dtype, copy=False)


def _apply(function, function_of_rows, y, amount):
    y = np.ascontiguousarray(y)
    if y.ndim == 1:
        out = np.empty(y.size, y.dtype)
        function(y, float(amount), out)
    else:
        out = np.empty(y.shape, y.dtype)
        n = y.shape[-1]
        function_of_rows(y.reshape(-1, n), _amounts(amount), out.reshape(-1, n))
    return out


def _amounts(amount):
    """One number for all rows or one per row, as a float64 vector."""
    return np.array(amount, np.float64).reshape(-1)


# --- simplex and l1 ball: Newton's method for the threshold ---


@njit(**_OPTIONS)
def _largest(y):
    """Maximum as float64, by integers that order like the floats: their maximum vectorises whether or not NaN occurs.

    A NaN counts as larger or as smaller than all numbers, by its sign.
    """
    shift = 8 * y.itemsize - 1
    flip = (1 << shift) - 1
    key = -1 << shift
    for i in range(y.size):
        bits = _to_bits(y[i])
        key = max(key, bits ^ ((bits >> shift) & flip))
    bits = key ^ ((key >> shift) & flip)
    return np.float64(_from_bits(np.int32(bits))) if y.itemsize == 4 else _from_bits(bits)


@njit(**_OPTIONS, forceinline=True)
def _above(y, top, tau, rest):
    """Distance of an entry above the threshold; its caller may not reorder these subtractions."""
    return ((y - top) - tau) - rest


@njit(**_SUMS)
def _block_excess(y, top, tau, rest):
    zero = y.dtype.type(0)
    total, count = zero, 0
    for i in range(y.size):
        d = _above(y[i], top, tau, rest)
        total += zero if d <= zero else d
        count += 1 if d > zero else 0
    return total, count


@njit(**_OPTIONS)
def _excess(y, top, tau):
    """Sum and number of the positive entries of ``y - top - tau``; ``tau`` in two parts, it may be finer than ``y``."""
    head = y.dtype.type(tau)
    rest = y.dtype.type(tau - head)
    top = y.dtype.type(top)
    total, count = 0.0, 0
    for lo in range(0, y.size, _BLOCK):
        part, positive = _block_excess(y[lo : lo + _BLOCK], top, head, rest)
        total += part
        count += positive
    return total, count


@njit(**_OPTIONS)
def _threshold(y, mass):
    """Largest entry and threshold relative to it: the root of ``sum max(y - top - tau, 0) = mass``.

    The left side is convex and decreasing: Newton's method rises to the root from ``tau = -mass``. Every step halves
    the excess or the number of active entries (their relative reductions sum to at least 1), so no input needs more
    than about ``log2(n / eps)`` passes; two to fourteen are usual. When the number stays the same the root is exact.
    """
    top = _largest(y)
    tau = -mass
    before = -1
    while True:
        total, count = _excess(y, top, tau)
        tau += (total - mass) / max(count, 1)
        if count == before or not total - mass > 1e-16 * mass:
            return top, tau
        before = count


@njit(**_OPTIONS)
def _subtract(y, top, tau, out):
    head = y.dtype.type(tau)
    rest = y.dtype.type(tau - head)
    top = y.dtype.type(top)
    zero = y.dtype.type(0)
    for i in range(y.size):
        d = _above(y[i], top, head, rest)
        out[i] = zero if d <= zero else d


@njit(**_OPTIONS)
def _simplex_row(y, mass, out):
    top, tau = _threshold(y, mass)
    _subtract(y, top, tau, out)


@njit(**_OPTIONS)
def _simplex_rows(y, mass, out):
    for r in range(y.shape[0]):
        _simplex_row(y[r], mass[r % mass.size], out[r])


@njit(**_OPTIONS)
def _moduli(y, out):
    for i in range(y.size):
        out[i] = abs(y[i])


@njit(**_OPTIONS)
def _restore_signs(y, out):
    zero = y.dtype.type(0)
    for i in range(y.size):
        out[i] = zero - out[i] if y[i] < zero else out[i]


@njit(**_OPTIONS)
def _l1_ball_row(y, radius, out):
    _moduli(y, out)
    total, _ = _excess(out, 0.0, 0.0)
    if total <= radius:
        out[:] = y
    else:
        top, tau = _threshold(out, radius)
        _subtract(out, top, tau, out)
        _restore_signs(y, out)


@njit(**_OPTIONS)
def _l1_ball_rows(y, radius, out):
    for r in range(y.shape[0]):
        _l1_ball_row(y[r], radius[r % radius.size], out[r])


# --- clipped sum: Newton's method on the entries whose side is not settled ---


@njit(**_SUMS)
def _free_sums(p, q, low, high, start, stop, left, right):
    """Sum of the settled entries, sums of ``p`` and ``q`` over the free ones, and their number."""
    settled, constant, slope, count = 0.0, 0.0, 0.0, 0
    for i in range(p.size):
        full = stop[i] <= left
        idle = start[i] >= right
        free = not (full or idle)
        settled += high[i] if full else (low[i] if idle else 0.0)
        constant += p[i] if free else 0.0
        slope += q[i] if free else 0.0
        count += 1 if free else 0
    return settled, constant, slope, count


@njit(**_SUMS)
def _clip(p, q, low, high, t, out):
    """Write ``clip(p + t q, low, high)`` and return its sum."""
    total = 0.0
    for i in range(p.size):
        value = p[i] + t * q[i]
        value = low[i] if value < low[i] else value
        value = high[i] if value > high[i] else value
        out[i] = value
        total += value
    return total


@njit(**_OPTIONS)
def _level(p, q, low, high, total, start, stop, out):
    """Water level by variable fixing: solve for the free entries as if unclipped, settle those proved to be clipped.

    If the clipped sum at the solution falls short, the level is higher, so the entries at ``high`` stay there; if it
    exceeds the total, the entries at ``low`` do. Every pass but the last settles an entry.

    K. C. Kiwiel, "Variable fixing algorithms for the continuous quadratic knapsack problem", JOTA 136 (2008).
    """
    for i in range(p.size):
        start[i] = (low[i] - p[i]) / q[i] if q[i] > 0.0 else np.inf
        stop[i] = (high[i] - p[i]) / q[i] if q[i] > 0.0 else np.inf
    left, right = -np.inf, np.inf
    level = 0.0
    before = p.size + 1
    while True:
        settled, constant, slope, count = _free_sums(p, q, low, high, start, stop, left, right)
        if count == before or slope == 0.0:
            return level
        level = (total - settled - constant) / slope
        if not abs(level) < np.inf:
            return np.nan
        level = left if level < left else level
        level = right if level > right else level
        value = _clip(p, q, low, high, level, out)
        if value < total:
            left = level
        elif value > total:
            right = level
        else:
            return level
        before = count


@njit(**_OPTIONS)
def _clipped_sum_rows(p, q, low, high, total, out):
    n = p.shape[1]
    base, bottom, cap, start, stop, trial = np.empty((6, n))
    for r in range(p.shape[0]):
        _clip(p[r], q[r], low[r], high[r], 0.0, trial)
        for i in range(n):
            base[i] = p[r, i]
            bottom[i] = low[r, i] if q[r, i] > 0.0 else trial[i]
            cap[i] = high[r, i] if q[r, i] > 0.0 else trial[i]
        amount = total[r % total.size]
        error = np.inf
        for _ in range(24):  # one usually does; each is relative to the last and gains 16 digits where p is huge
            level = _level(base, q[r], bottom, cap, amount, start, stop, trial)
            for i in range(n):
                base[i] += level * q[r, i]
            again = abs(_clip(base, q[r], bottom, cap, 0.0, trial) - amount)
            if not again >= error:
                out[r] = trial
            if not again < error or again <= 1e-15 * amount:
                break
            error = again
