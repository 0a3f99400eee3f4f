"""Numba variants of the passes: four rows at a time, the exponential inlined, columns added up while rows are in cache.

Entries come as exponents ``z = gt_j + shift_i - C_ij / eps``, either from a stored matrix ``cost`` (then ``x`` and
``y`` are None) or from points of at most four dimensions (then ``cost`` is None): squared distances are
``-<x_i, y_j>``, with ``x`` scaled by ``2 / eps``, ``y`` by columns, and ``|x|^2`` and ``|y|^2`` inside ``shift`` and
``gt``. Numba compiles the case that is used.

The rows are cut into chunks that depend on the shape alone, and the partial column sums are added in the order of the
chunks: any number of threads gives the same bits.
"""

import numpy as np
from numba import get_num_threads, get_thread_id, njit, prange, set_num_threads

from optlib.backend import get_threads
from optlib.backend._math_numba import exp_

SERIAL_SIZE = 250_000  # entries below which a parallel region costs more than it saves
TILE = 512  # entries of a row at a time: tiles stay in L1, and the memory streams of four rows run side by side

JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}}
INNER = JIT | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called from compiled code only


# -- tiles of one row --


@njit(**INNER)
def _exp_dense(c, gt, shift, inv, e):
    s = e[0] * 0
    for j in range(e.size):
        t = exp_((gt[j] + shift) - c[j] * inv)
        e[j] = t
        s += t
    return s


@njit(**INNER)
def _exp_products(x0, x1, x2, x3, y0, y1, y2, y3, gt, shift, e):
    s = e[0] * 0
    for j in range(e.size):
        t = exp_((gt[j] + shift) + ((x0 * y0[j] + x1 * y1[j]) + (x2 * y2[j] + x3 * y3[j])))
        e[j] = t
        s += t
    return s


@njit(**INNER)
def exp_row(cost, x, y, i, gt, shift, inv, j0, e):
    """Fill a tile of ``e`` with the exponentials of row i from column j0 on and return their sum."""
    s = e[0] * 0
    if cost is not None:  # Numba drops a branch that asks this of an argument that is None
        s = _exp_dense(cost[i, j0:], gt[j0:], shift, inv, e)
    if x is not None:
        s = _exp_products(
            x[i, 0], x[i, 1], x[i, 2], x[i, 3], y[0, j0:], y[1, j0:], y[2, j0:], y[3, j0:], gt[j0:], shift, e
        )
    return s


@njit(**INNER)
def _exponents_dense(c, gt, inv, z):
    for j in range(z.size):
        z[j] = gt[j] - c[j] * inv


@njit(**INNER)
def _exponents_products(x0, x1, x2, x3, y0, y1, y2, y3, gt, z):
    for j in range(z.size):
        z[j] = gt[j] + ((x0 * y0[j] + x1 * y1[j]) + (x2 * y2[j] + x3 * y3[j]))


@njit(**INNER)
def exponents(cost, x, y, i, gt, inv, j0, z):
    """Fill a tile of ``z`` with the exponents of row i from column j0 on, without a shift."""
    if cost is not None:
        _exponents_dense(cost[i, j0:], gt[j0:], inv, z)
    if x is not None:
        _exponents_products(x[i, 0], x[i, 1], x[i, 2], x[i, 3], y[0, j0:], y[1, j0:], y[2, j0:], y[3, j0:], gt[j0:], z)


@njit(**INNER)
def _exp_shifted(e, shift):
    s = e[0] * 0
    for j in range(e.size):
        t = exp_(e[j] + shift)
        e[j] = t
        s += t
    return s


@njit(**INNER)
def largest(z):
    """Largest entry (none of them NaN)."""
    top = z[0]
    for j in range(z.size):
        top = max(top, z[j])
    return top


@njit(**INNER)
def add_rows(out, e, w0, w1, w2, w3):
    """Add four weighted rows."""
    e0, e1, e2, e3 = e[0], e[1], e[2], e[3]
    for j in range(out.size):
        out[j] += (w0 * e0[j] + w1 * e1[j]) + (w2 * e2[j] + w3 * e3[j])


# -- the fused sweep --


@njit(**INNER)
def sweep_chunk(cost, x, y, i0, i1, gt, f, offset, a, eps, inv_rho, omega, low, high, e, new, r, out):
    """Rows i0 to i1: new potentials, row sums of the plan, and partial column sums (added up in ``out``)."""
    m, inv, lam = gt.size, 1.0 / eps, 1.0 / (1.0 + eps * inv_rho)
    out[:] = 0.0
    sums, shifts, weights = np.zeros(4), np.zeros(4), np.zeros(4)
    for i in range(i0, i1, 4):
        last = min(4, i1 - i)
        sums[:] = 0.0
        for k in range(last):
            shifts[k] = (f[i + k] - offset[i + k]) * inv
        for j0 in range(0, m, TILE):
            j1 = min(m, j0 + TILE)
            for k in range(last):
                sums[k] += exp_row(cost, x, y, i + k, gt, shifts[k], inv, j0, e[k, j0:j1])
        for k in range(last):
            if not (sums[k] > low and sums[k] < high):  # the old potential is a bad shift: take the largest exponent
                exponents(cost, x, y, i + k, gt, inv, 0, e[k])
                shifts[k] = -largest(e[k])
                sums[k] = _exp_shifted(e[k], shifts[k])
            exact = lam * (eps * (shifts[k] - np.log(sums[k])) + offset[i + k])
            if omega == 1.0 and inv_rho == 0.0:
                new[i + k] = exact
                weights[k] = a[i + k] / sums[k]
                r[i + k] = a[i + k]
            else:
                new[i + k] = exact if omega == 1.0 else f[i + k] + omega * (exact - f[i + k])
                weights[k] = a[i + k] * np.exp((new[i + k] - offset[i + k]) * inv - shifts[k])
                r[i + k] = weights[k] * sums[k]
        for k in range(last, 4):  # rows beyond the end count nothing
            weights[k] = 0.0
            e[k] = 0.0
        add_rows(out, e, weights[0], weights[1], weights[2], weights[3])


@njit(**JIT)
def sweep_serial(cost, x, y, chunks, gt, f, offset, a, eps, inv_rho, omega, low, high, e, new, r, partial):
    """All rows, chunk by chunk."""
    n = a.size
    for k in range(chunks):
        i0, i1 = k * n // chunks, (k + 1) * n // chunks
        sweep_chunk(cost, x, y, i0, i1, gt, f, offset, a, eps, inv_rho, omega, low, high, e[0], new, r, partial[k])


@njit(parallel=True, **JIT)
def sweep_parallel(cost, x, y, chunks, gt, f, offset, a, eps, inv_rho, omega, low, high, e, new, r, partial):
    """All rows, the chunks in parallel."""
    n = a.size
    for k in prange(chunks):
        i0, i1, t = k * n // chunks, (k + 1) * n // chunks, get_thread_id()
        sweep_chunk(cost, x, y, i0, i1, gt, f, offset, a, eps, inv_rho, omega, low, high, e[t], new, r, partial[k])


# -- products with the plan --


@njit(**INNER)
def _weighted_sum(e, v):
    s = e[0] * 0
    for j in range(e.size):
        s += e[j] * v[j]
    return s


@njit(**INNER)
def _exp_and_product(z, shift, e):
    for j in range(e.size):
        t = z[j] + shift
        e[j] = exp_(t)
        z[j] = e[j] * t


@njit(**INNER)
def apply_chunk(cost, x, y, i0, i1, gt, shift, v, inv, moments, z, e, out):
    """Rows i0 to i1 of ``e v`` and, if asked for, of ``(e z) v``; ``v`` by columns."""
    m, columns = gt.size, v.shape[0]
    for i in range(i0, i1):
        out[i] = 0.0
        for j0 in range(0, m, TILE):
            j1 = min(m, j0 + TILE)
            zt, et = z[: j1 - j0], e[: j1 - j0]
            exponents(cost, x, y, i, gt, inv, j0, zt)
            _exp_and_product(zt, shift[i], et)
            for k in range(columns):
                out[i, k] += _weighted_sum(et, v[k, j0:j1])
            if moments:
                for k in range(columns):
                    out[i, columns + k] += _weighted_sum(zt, v[k, j0:j1])


@njit(**JIT)
def _apply_serial(cost, x, y, chunks, gt, shift, v, inv, moments, buffer, out):
    n = shift.size
    for k in range(chunks):
        i0, i1 = k * n // chunks, (k + 1) * n // chunks
        apply_chunk(cost, x, y, i0, i1, gt, shift, v, inv, moments, buffer[0, 0], buffer[0, 1], out)


@njit(parallel=True, **JIT)
def _apply_parallel(cost, x, y, chunks, gt, shift, v, inv, moments, buffer, out):
    n = shift.size
    for k in prange(chunks):
        i0, i1, t = k * n // chunks, (k + 1) * n // chunks, get_thread_id()
        apply_chunk(cost, x, y, i0, i1, gt, shift, v, inv, moments, buffer[t, 0], buffer[t, 1], out)


# -- hard minimum, stored kernel --


@njit(**JIT)
def _min_rows(cost, x, y, g, offset, buffer, out):
    for i in range(out.size):
        top = -np.inf
        for j0 in range(0, g.size, TILE):
            z = buffer[: min(TILE, g.size - j0)]
            exponents(cost, x, y, i, g, 1.0, j0, z)
            top = max(top, largest(z))
        out[i] = offset[i] - top


@njit(**JIT)
def _gibbs_rows(cost, ft, gt, inv, out):
    for i in range(ft.size):
        _exp_dense(cost[i], gt, ft[i], inv, out[i])


# -- wrappers: layouts, scales, buffers --


def chunks_of(n: int, m: int) -> int:
    """Number of chunks of rows: one for small work, else of at least 64 rows."""
    return 1 if n * m <= SERIAL_SIZE else min(64, -(-n // 64))


def threads_for(chunks: int) -> int:
    """Threads to use now, and make Numba use them."""
    threads = min(get_threads(), chunks)
    if threads > 1 and get_num_threads() != threads:
        set_num_threads(threads)
    return threads


def log_weights(b):
    """Logarithm of weights; hugely negative, but finite, for those that are zero."""
    positive = b > 0
    return np.where(
        positive, np.log(np.where(positive, b, 1)), b.dtype.type(-1e200 if b.dtype == np.float64 else -1e30)
    )


def cloud_parts(x, y, scale, eps, dtype):
    """Scaled points, those of y by columns, and the offsets of both sides: the form that the kernels read."""
    x, y = x.astype(dtype, copy=False), y.astype(dtype, copy=False)
    d = x.shape[1]
    xs, ys = np.zeros((x.shape[0], 4), dtype), np.zeros((4, y.shape[0]), dtype)
    xs[:, :d], ys[:d] = x * dtype.type(2.0 * scale / eps), y.T
    return xs, ys, scale * np.sum(x * x, axis=1), scale * np.sum(y * y, axis=1)


def _sweep(cost, x, y, offset, gt, f, a, eps, inv_rho, omega):
    n, m, dtype = a.size, gt.size, gt.dtype
    chunks = chunks_of(n, m)
    threads = threads_for(chunks)
    new, r, partial = np.empty(n, dtype), np.empty(n, dtype), np.empty((chunks, m), dtype)
    low, high = (1e-200, 1e200) if dtype == np.float64 else (1e-25, 1e25)
    run = sweep_parallel if threads > 1 else sweep_serial
    e = np.empty((threads, 4, m), dtype)
    run(cost, x, y, chunks, gt, f, offset, a, eps, inv_rho, omega, low, high, e, new, r, partial)
    return new, partial.sum(axis=0), r


def dense_sweep(cost, f, g, a, b, eps, inv_rho, omega):
    gt = g / g.dtype.type(eps) + log_weights(b)
    offset = np.zeros_like(a)
    parts = [
        _sweep(c, None, None, offset[s], gt, _row(f[s]), _row(a[s]), eps, inv_rho, omega) for s, c in _blocks(cost)
    ]
    if len(parts) == 1:
        return parts[0]
    new, c, r = zip(*parts, strict=True)
    return np.concatenate(new), np.sum(c, axis=0), np.concatenate(r)


def cloud_sweep(x, y, scale, f, g, a, b, eps, inv_rho, omega):
    x, y, xo, yo = cloud_parts(x, y, scale, eps, g.dtype)
    gt = (g - yo) / g.dtype.type(eps) + log_weights(b)
    return _sweep(None, x, y, xo, gt, _row(f), _row(a), eps, inv_rho, omega)


def _apply(cost, x, y, gt, shift, v, inv, moments):
    n, m, dtype = shift.size, gt.size, gt.dtype
    chunks = chunks_of(n, m)
    threads = threads_for(chunks)
    out = np.empty((n, (2 if moments else 1) * v.shape[1]), dtype)
    run = _apply_parallel if threads > 1 else _apply_serial
    buffer = np.empty((threads, 2, TILE), dtype)
    run(cost, x, y, chunks, gt, shift, np.ascontiguousarray(v.T), inv, moments, buffer, out)
    return out


def dense_apply(cost, f, h, v, eps, moments):
    eps = h.dtype.type(eps)
    gt, ft = h / eps, f / eps
    parts = [_apply(c, None, None, gt, ft[s], v, 1 / eps, moments) for s, c in _blocks(cost)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def cloud_apply(x, y, scale, f, h, v, eps, moments):
    x, y, xo, yo = cloud_parts(x, y, scale, eps, h.dtype)
    eps = h.dtype.type(eps)
    return _apply(None, x, y, (h - yo) / eps, (f - xo) / eps, v, 1 / eps, moments)


def dense_min(cost, g):
    out, buffer = np.empty(cost.shape[0], g.dtype), np.empty(TILE, g.dtype)
    zeros = np.zeros_like(out)
    for s, c in _blocks(cost):
        _min_rows(c, None, None, _row(g), zeros[s], buffer, out[s])
    return out


def cloud_min(x, y, scale, g):
    x, y, xo, yo = cloud_parts(x, y, scale, 1.0, g.dtype)
    out, buffer = np.empty(x.shape[0], g.dtype), np.empty(TILE, g.dtype)
    _min_rows(None, x, y, g - yo, xo, buffer, out)
    return out


def gibbs(cost, f, g, eps):
    eps = g.dtype.type(eps)
    out, gt, ft = np.empty(cost.shape, g.dtype), g / eps, f / eps
    for s, c in _blocks(cost):
        _gibbs_rows(c, ft[s], gt, 1 / eps, out[s])
    return out


def _row(v):
    return np.ascontiguousarray(v)


def _blocks(cost):
    """The matrix if its rows are contiguous, else copies of blocks of rows."""
    if cost.flags.c_contiguous:
        return [(slice(0, cost.shape[0]), cost)]
    step = max(16, 2**20 // (cost.itemsize * cost.shape[1]))
    return [(slice(i, i + step), np.ascontiguousarray(cost[i : i + step])) for i in range(0, cost.shape[0], step)]
