"""Tiles: stretches of rows of a cost and of its exponentials, for the compiled passes to call.

Entries come as exponents ``z = gt_j + shift_i - C_ij / eps``, either from a stored matrix ``cost`` (then ``x`` and
``y`` are None) or from points of at most three dimensions (then ``cost`` is None): squared distances are
``-<x_i, y_j>``, with ``x`` scaled by ``2 / eps``, ``y`` by columns, and ``|x|^2`` and ``|y|^2`` inside ``shift`` and
``gt``. Numba compiles the case that is used.
"""

import numpy as np
from numba import njit

from optlib.backend._math_numba import _from_bits, _to_bits, exp2_, exp_
from optlib.backend._rows_numba import INLINE, JIT

TILE = 4096  # entries of a row at a time
LOG2_E = 1.4426950408889634

INNER = JIT | {"no_cpython_wrapper": True}  # called from compiled code only


@njit(**INNER, forceinline=True)
def exp_dense(c, gt, shift, inv, e):
    s = e.dtype.type(0)
    for j in range(e.size):
        t = exp_((gt[j] + shift) - c[j] * inv)
        e[j] = t
        s += t
    return s


@njit(**INNER, forceinline=True)
def _clip(t, low, high):
    t = low if t < low else t
    return high if t > high else t


@njit(**INNER)
def _exponents_in_plane(a, b, c, d, s0, s1, s2, s3, y0, y1, gt, low, high, e0, e1, e2, e3):
    a0, a1, b0, b1, c0, c1, d0, d1 = a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]
    scale = gt.dtype.type(LOG2_E)
    for j in range(e0.size):
        u, v, g = y0[j], y1[j], gt[j]
        e0[j] = _clip(scale * ((g + s0) + (a0 * u + a1 * v)), low, high)
        e1[j] = _clip(scale * ((g + s1) + (b0 * u + b1 * v)), low, high)
        e2[j] = _clip(scale * ((g + s2) + (c0 * u + c1 * v)), low, high)
        e3[j] = _clip(scale * ((g + s3) + (d0 * u + d1 * v)), low, high)


@njit(**INNER)
def _exponents_in_space(a, b, c, d, s0, s1, s2, s3, y0, y1, y2, gt, low, high, e0, e1, e2, e3):
    a0, a1, a2, b0, b1, b2 = a[0], a[1], a[2], b[0], b[1], b[2]
    c0, c1, c2, d0, d1, d2 = c[0], c[1], c[2], d[0], d[1], d[2]
    scale = gt.dtype.type(LOG2_E)
    for j in range(e0.size):
        t, u, v, g = y0[j], y1[j], y2[j], gt[j]
        e0[j] = _clip(scale * ((g + s0) + (a0 * t + (a1 * u + a2 * v))), low, high)
        e1[j] = _clip(scale * ((g + s1) + (b0 * t + (b1 * u + b2 * v))), low, high)
        e2[j] = _clip(scale * ((g + s2) + (c0 * t + (c1 * u + c2 * v))), low, high)
        e3[j] = _clip(scale * ((g + s3) + (d0 * t + (d1 * u + d2 * v))), low, high)


@njit(**INNER)
def _exponents_of_costs(c0, c1, c2, c3, s0, s1, s2, s3, gt, inv, low, high, e0, e1, e2, e3):
    scale = gt.dtype.type(LOG2_E)
    for j in range(e0.size):
        g = gt[j]
        e0[j] = _clip(scale * ((g + s0) - c0[j] * inv), low, high)
        e1[j] = _clip(scale * ((g + s1) - c1[j] * inv), low, high)
        e2[j] = _clip(scale * ((g + s2) - c2[j] * inv), low, high)
        e3[j] = _clip(scale * ((g + s3) - c3[j] * inv), low, high)


@njit(**INNER)
def _exp2_in_place(e0, e1):
    s0 = s1 = e0.dtype.type(0)
    for j in range(e0.size):
        t0, t1 = exp2_(e0[j]), exp2_(e1[j])
        e0[j], e1[j] = t0, t1
        s0 += t0
        s1 += t1
    return s0, s1


@njit(**INLINE)
def exp_rows(cost, x, y, i, last, gt, shifts, inv, e, sums):
    """Fill four rows of ``e`` with the exponentials of rows i to i + last, and take their sums.

    Where that is less than four rows, the last is there again. A loop that evaluates powers of two and nothing else
    overlaps more of them than one that computes their exponents as well; and that one, for four rows at a time, reads
    the points once and has time to scale and clip: what is below 1e-270 (float32: 1e-33) counts as that much, which is
    nothing beside a sum that `sweep_chunks` accepts. Only whole exponents are scaled to base two: they are those of the
    other passes, whose terms may be large and cancel.
    """
    m, number = gt.size, gt.dtype.type
    bottom, top = (-900.0, 1024.0) if gt.itemsize == 8 else (-110.0, 128.0)
    low, high = number(bottom), number(top)
    s0, s1, s2, s3 = number(shifts[0]), number(shifts[1]), number(shifts[2]), number(shifts[3])
    e0, e1, e2, e3 = e[0, :m], e[1, :m], e[2, :m], e[3, :m]
    i1, i2, i3 = i + min(1, last - 1), i + min(2, last - 1), i + last - 1
    if cost is not None:  # Numba drops a branch that asks this of an argument that is None
        c0, c1, c2, c3 = cost[i], cost[i1], cost[i2], cost[i3]
        _exponents_of_costs(c0, c1, c2, c3, s0, s1, s2, s3, gt, number(inv), low, high, e0, e1, e2, e3)
    if x is not None:
        a, b, c, d = x[i], x[i1], x[i2], x[i3]
        if a[2] == 0.0 and b[2] == 0.0 and c[2] == 0.0 and d[2] == 0.0:
            _exponents_in_plane(a, b, c, d, s0, s1, s2, s3, y[0], y[1], gt, low, high, e0, e1, e2, e3)
        else:
            _exponents_in_space(a, b, c, d, s0, s1, s2, s3, y[0], y[1], y[2], gt, low, high, e0, e1, e2, e3)
    sums[0], sums[1] = _exp2_in_place(e0, e1)
    sums[2], sums[3] = _exp2_in_place(e2, e3)


@njit(**INNER)
def _exponents_dense(c, gt, inv, z):
    for j in range(z.size):
        z[j] = gt[j] - c[j] * inv


@njit(**INNER)
def _exponents_products(x0, x1, x2, y0, y1, y2, gt, z):
    for j in range(z.size):
        z[j] = gt[j] + (x0 * y0[j] + (x1 * y1[j] + x2 * y2[j]))


@njit(**INLINE)
def exponents(cost, x, y, i, gt, inv, j0, z):
    """Fill a tile of ``z`` with the exponents of row i from column j0 on, without a shift."""
    if cost is not None:
        _exponents_dense(cost[i, j0:], gt[j0:], z.dtype.type(inv), z)
    if x is not None:
        _exponents_products(x[i, 0], x[i, 1], x[i, 2], y[0, j0:], y[1, j0:], y[2, j0:], gt[j0:], z)


@njit(**INNER)
def smallest_gap(c, h):
    """Smallest entry of ``c - h``, over the bits as integers in the same order: minima of floats do not vectorise."""
    least = _to_bits(np.inf)
    for j in range(c.size):
        bits = _to_bits(np.float64(c[j]) - np.float64(h[j]))
        bits ^= (bits >> 63) & 0x7FFFFFFFFFFFFFFF
        least = bits if bits < least else least
    return _from_bits(least ^ ((least >> 63) & 0x7FFFFFFFFFFFFFFF))


@njit(**INNER)
def largest(z):
    top = -np.inf
    for j in range(z.size):
        top = z[j] if z[j] > top else top
    return top


@njit(**INNER)
def _exp_in_place(z, shift):
    s, shift = z.dtype.type(0), z.dtype.type(shift)
    for j in range(z.size):
        t = exp_(z[j] + shift)
        z[j] = t
        s += t
    return s


@njit(**INLINE)
def exp_row_again(cost, x, y, i, gt, inv, e):
    """All exponentials of a row, shifted by the largest exponent: minus that, and their sum."""
    exponents(cost, x, y, i, gt, inv, 0, e)
    shift = -largest(e)
    return shift, _exp_in_place(e, shift)


@njit(**INNER)
def costs(source, x, y, offset, i, j0, c):
    """Entries of row i of the cost from column j0 on."""
    if source is not None:
        row = source[i, j0:]
        for j in range(c.size):
            c[j] = row[j]
    if x is not None:
        x0, x1, x2, y0, y1, y2, near = x[i, 0], x[i, 1], x[i, 2], y[0, j0:], y[1, j0:], y[2, j0:], y[3, j0:]
        for j in range(c.size):
            c[j] = (near[j] + offset) - (x0 * y0[j] + (x1 * y1[j] + x2 * y2[j]))
