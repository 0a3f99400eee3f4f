"""Numba kernel of the total variation: the taut string, in one pass over a row."""

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}


def tv1d(y, reg):
    """Variant of `optlib.geometry.prox.tv1d`."""
    out = np.empty(y.shape, y.dtype)
    n = y.shape[-1]
    _tv1d_rows(np.ascontiguousarray(y).reshape(-1, n), np.array(reg, np.float64).reshape(-1), out.reshape(-1, n))
    return out


@njit(**_OPTIONS)
def _tv1d_rows(y, reg, out):
    n = y.shape[1]
    walls, corners = np.empty(2 * n + 2), np.empty(2 * n + 2, np.int64)
    for r in range(y.shape[0]):
        _taut_string(y[r], reg[r % reg.size], walls, corners, out[r])


@njit(**_OPTIONS)
def _taut_string(y, reg, walls, corners, out):
    """Shortest path through the tube of radius ``reg`` around the sums of ``y``; its slopes are the solution.

    From an apex, a point of the path, two chains of corners bound what is still possible: one over the lower wall,
    of falling slopes, and one under the upper wall, of rising slopes. The walls take turns: each new point of a wall
    removes the corners of its chain that it makes obsolete. Where this reaches the apex and the other chain is in the
    way, the path bends there: the first corner of that chain is the new apex. Every corner enters and leaves a chain
    once. The pieces of the path are averaged from ``y`` itself, so the rounding of the long sums decides at most
    between bends that are equally good.

    P. L. Davies and A. Kovac, "Local extremes, runs, strings and multiresolution", Ann. Statist. 29 (2001).
    """
    n = y.size
    mean, total = 0.0, 0.0
    for i in range(n):
        mean += y[i] / n
    here, there = 0, n + 1  # where the data of the wall in turn, and those of the other one, begin
    walls[here] = walls[there] = 0.0
    for i in range(n):
        total += y[i] - mean
        walls[here + i + 1], walls[there + i + 1] = total - reg, total + reg
    walls[here + n] = walls[there + n] = total
    if not abs(total) < np.inf:
        out[:] = np.nan
        return
    corners[here] = corners[there] = 0
    apex, height, pull = 0, 0.0, 0.0  # where, how high, and on which wall (-reg or reg, 0 at the ends)
    first, last, other_first, other_last = 0, 0, 0, 0  # ends of the chains
    sign = 1.0
    for step in range(2, 2 * n + 2):
        k = step // 2
        new = walls[here + k]
        while last > first:  # drop the last corner if it lies behind the line from its predecessor to the new point
            i, j = corners[here + last - 1], corners[here + last]
            corner = walls[here + j]
            base = height if last - 1 == first else walls[here + i]
            if sign * ((corner - base) * (k - j) - (new - corner) * (j - i)) > 0.0:
                break
            last -= 1
        while last == first and other_last > other_first:
            j = corners[there + other_first + 1]
            corner = walls[there + j]
            if sign * ((new - height) * (j - apex) - (corner - height) * (k - apex)) <= 0.0:
                break
            _flat(y, apex, j, sign * reg - pull, out)
            apex, height, pull = j, corner, sign * reg
            other_first += 1
            first = last = 0
            corners[here] = apex
        corners[here + last + 1] = k
        first, last, other_first, other_last = other_first, other_last, first, last + 1
        here, there, sign = there, here, -sign
    _flat(y, apex, n, -pull, out)


@njit(**_OPTIONS)
def _flat(y, begin, end, pull, out):
    """Write the mean of ``y[begin:end]``, moved by the forces at its two ends, into the piece."""
    total = 0.0
    for i in range(begin, end):
        total += y[i]
    out[begin:end] = (total + pull) / (end - begin)
