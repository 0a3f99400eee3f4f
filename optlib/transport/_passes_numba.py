"""Numba variants of the passes: four rows at a time, the exponential inlined, columns accumulated while the rows are in cache.

Entries come from one of four formulas, chosen by the integer ``metric``, as exponents ``z = gt_j + shift_i - C_ij / eps``:
a stored matrix; ``-<x_i, y_j>`` (squared distances, whose ``|x|^2`` and ``|y|^2`` are part of ``shift`` and ``gt``);
``|x_i - y_j|``; ``sum_k |x_ik - y_jk|``. Points come scaled by ``1 / eps``, ``y`` by columns, dimensions padded by zeros.

The rows are cut into chunks that depend on the shape alone, and the partial column sums are added in the order of the
chunks: any number of threads gives the same bits.
"""

import numpy as np
from numba import get_num_threads, get_thread_id, njit, prange, set_num_threads

from optlib.backend import get_threads
from optlib.backend._math_numba import exp_

DENSE, PRODUCTS, DISTANCES, CITYBLOCK = range(4)
SERIAL_SIZE = 250_000  # entries below which a parallel region costs more than it saves

_SUM = {"reassoc", "contract", "nsz"}
JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": _SUM}
TILE = 512  # entries of a row at a time: tiles stay in L1 and the memory streams of four rows run side by side


# -- tiles of one row --


@njit(**JIT)
def _exponents_dense(c, gt, shift, inv, z):
    for j in range(z.size):
        z[j] = (gt[j] + shift) - c[j] * inv


@njit(**JIT)
def _exponents_products(x, y, j0, gt, shift, z):
    for j in range(z.size):
        z[j] = gt[j] + shift
    for k in range(0, x.size, 4):
        _add_products(x[k], x[k + 1], x[k + 2], x[k + 3], y[k, j0:], y[k + 1, j0:], y[k + 2, j0:], y[k + 3, j0:], z)


@njit(**JIT)
def _add_products(x0, x1, x2, x3, y0, y1, y2, y3, z):
    for j in range(z.size):
        z[j] += (x0 * y0[j] + x1 * y1[j]) + (x2 * y2[j] + x3 * y3[j])


@njit(**JIT)
def _exponents_differences(squares, x, y, j0, gt, shift, z):
    z[:] = 0.0
    for k in range(x.size):
        _add_differences(squares, x[k], y[k, j0:], z)
    if squares:
        for j in range(z.size):
            z[j] = gt[j] + shift - np.sqrt(z[j])
    else:
        for j in range(z.size):
            z[j] = gt[j] + shift - z[j]


@njit(**JIT)
def _add_differences(squares, xk, yk, z):
    if squares:
        for j in range(z.size):
            z[j] += (xk - yk[j]) * (xk - yk[j])
    else:
        for j in range(z.size):
            z[j] += abs(xk - yk[j])


@njit(**JIT)
def exponents(metric, cost, x, y, i, j0, gt, shift, inv, z):
    """Fill ``z`` with the exponents of row i from column j0 on."""
    g = gt[j0 : j0 + z.size]
    if metric == DENSE:
        _exponents_dense(cost[i, j0 : j0 + z.size], g, shift, inv, z)
    elif metric == PRODUCTS:
        _exponents_products(x[i], y, j0, g, shift, z)
    else:
        _exponents_differences(metric == DISTANCES, x[i], y, j0, g, shift, z)


@njit(**JIT)
def _exp_dense(c, gt, shift, inv, e):
    s = e[0] * 0
    for j in range(e.size):
        t = exp_((gt[j] + shift) - c[j] * inv)
        e[j] = t
        s += t
    return s


@njit(**JIT)
def _exp_products(x0, x1, x2, x3, y0, y1, y2, y3, gt, shift, e):
    s = e[0] * 0
    for j in range(e.size):
        t = exp_((gt[j] + shift) + ((x0 * y0[j] + x1 * y1[j]) + (x2 * y2[j] + x3 * y3[j])))
        e[j] = t
        s += t
    return s


@njit(**JIT)
def _exp_inplace(e):
    s = e[0] * 0
    for j in range(e.size):
        t = exp_(e[j])
        e[j] = t
        s += t
    return s


@njit(**JIT)
def exp_row(metric, cost, x, y, i, gt, shift, inv, e, j0):
    """Fill a tile of ``e`` with the exponentials of row i and return their sum."""
    if metric == DENSE:
        return _exp_dense(cost[i, j0 : j0 + e.size], gt[j0 : j0 + e.size], shift, inv, e)
    if metric == PRODUCTS and x.shape[1] == 4:
        g, u = gt[j0 : j0 + e.size], x[i]
        return _exp_products(u[0], u[1], u[2], u[3], y[0, j0:], y[1, j0:], y[2, j0:], y[3, j0:], g, shift, e)
    exponents(metric, cost, x, y, i, j0, gt, shift, inv, e)
    return _exp_inplace(e)


@njit(**JIT)
def largest(z):
    """Largest entry (none of them NaN)."""
    top = z[0]
    for j in range(z.size):
        top = z[j] if z[j] > top else top
    return top


@njit(**JIT)
def add_rows(out, e, w0, w1, w2, w3):
    """Add four weighted rows."""
    e0, e1, e2, e3 = e[0], e[1], e[2], e[3]
    for j in range(out.size):
        out[j] += (w0 * e0[j] + w1 * e1[j]) + (w2 * e2[j] + w3 * e3[j])


# -- the fused sweep --


@njit(**JIT)
def sweep_chunk(metric, cost, x, y, i0, i1, gt, f, offset, a, eps, inv_rho, omega, low, high, e, new, r, out):
    """Rows i0 to i1: new potentials, row sums of the plan, and partial column sums (added up in ``out``)."""
    m, inv, lam = gt.size, 1.0 / eps, 1.0 / (1.0 + eps * inv_rho)
    weights = np.zeros(4)
    out[:] = 0.0
    for i in range(i0, i1, 4):
        last = min(4, i1 - i)
        sums, shifts = np.zeros(4), np.zeros(4)
        for k in range(last):
            shifts[k] = (f[i + k] - offset[i + k]) * inv
        for j0 in range(0, m, TILE):
            j1 = min(m, j0 + TILE)
            for k in range(last):
                sums[k] += exp_row(metric, cost, x, y, i + k, gt, shifts[k], inv, e[k, j0:j1], j0)
        for k in range(4):
            if k >= last:  # rows beyond the end count nothing
                weights[k] = 0.0
                e[k] = 0.0
                continue
            if not (sums[k] > low and sums[k] < high):  # the old potential is a bad shift: take the largest exponent
                exponents(metric, cost, x, y, i + k, 0, gt, 0.0, inv, e[k])
                shifts[k] = -largest(e[k])
                sums[k] = exp_row(metric, cost, x, y, i + k, gt, shifts[k], inv, e[k], 0)
            exact = lam * (eps * (shifts[k] - np.log(sums[k])) + offset[i + k])
            if omega == 1.0 and inv_rho == 0.0:
                new[i + k] = exact
                weights[k] = a[i + k] / sums[k]
                r[i + k] = a[i + k]
            else:
                new[i + k] = exact if omega == 1.0 else f[i + k] + omega * (exact - f[i + k])
                weights[k] = a[i + k] * np.exp((new[i + k] - offset[i + k]) * inv - shifts[k])
                r[i + k] = weights[k] * sums[k]
        add_rows(out, e, weights[0], weights[1], weights[2], weights[3])


@njit(**JIT)
def sweep_serial(metric, cost, x, y, chunks, gt, f, offset, a, eps, inv_rho, omega, low, high, e, new, r, partial):
    """All rows, chunk by chunk."""
    n = a.size
    for k in range(chunks):
        i0, i1 = k * n // chunks, (k + 1) * n // chunks
        sweep_chunk(
            metric, cost, x, y, i0, i1, gt, f, offset, a, eps, inv_rho, omega, low, high, e[0], new, r, partial[k]
        )


@njit(parallel=True, **JIT)
def sweep_parallel(metric, cost, x, y, chunks, gt, f, offset, a, eps, inv_rho, omega, low, high, e, new, r, partial):
    """All rows, the chunks in parallel."""
    n = a.size
    for k in prange(chunks):
        i0, i1 = k * n // chunks, (k + 1) * n // chunks
        sweep_chunk(
            metric, cost, x, y, i0, i1, gt, f, offset, a, eps, inv_rho, omega, low, high,
            e[get_thread_id()], new, r, partial[k],
        )  # fmt: skip


# -- products with the plan --


@njit(**JIT)
def _weighted_sum(e, v):
    s = e[0] * 0
    for j in range(e.size):
        s += e[j] * v[j]
    return s


@njit(**JIT)
def _multiply(e, z):
    for j in range(e.size):
        z[j] *= e[j]


@njit(**JIT)
def _exp_into(z, e):
    for j in range(e.size):
        e[j] = exp_(z[j])


@njit(**JIT)
def apply_chunk(metric, cost, x, y, i0, i1, gt, shift, v, inv, moments, z, e, out):
    """Rows i0 to i1 of ``e v`` and, if asked for, of ``(e z) v``; ``v`` by columns."""
    m, columns = gt.size, v.shape[0]
    for i in range(i0, i1):
        out[i] = 0.0
        for j0 in range(0, m, TILE):
            j1 = min(m, j0 + TILE)
            zt, et = z[: j1 - j0], e[: j1 - j0]
            exponents(metric, cost, x, y, i, j0, gt, shift[i], inv, zt)
            _exp_into(zt, et)
            for k in range(columns):
                out[i, k] += _weighted_sum(et, v[k, j0:j1])
            if moments:
                _multiply(et, zt)
                for k in range(columns):
                    out[i, columns + k] += _weighted_sum(zt, v[k, j0:j1])


@njit(**JIT)
def _apply_serial(metric, cost, x, y, chunks, gt, shift, v, inv, moments, buffer, out):
    n = shift.size
    for k in range(chunks):
        i0, i1 = k * n // chunks, (k + 1) * n // chunks
        apply_chunk(metric, cost, x, y, i0, i1, gt, shift, v, inv, moments, buffer[0, 0], buffer[0, 1], out)


@njit(parallel=True, **JIT)
def _apply_parallel(metric, cost, x, y, chunks, gt, shift, v, inv, moments, buffer, out):
    n = shift.size
    for k in prange(chunks):
        i0, i1, t = k * n // chunks, (k + 1) * n // chunks, get_thread_id()
        apply_chunk(metric, cost, x, y, i0, i1, gt, shift, v, inv, moments, buffer[t, 0], buffer[t, 1], out)


# -- hard minimum, stored kernel --


@njit(**JIT)
def _min_rows(metric, cost, x, y, g, offset, buffer, out):
    for i in range(out.size):
        top = -np.inf
        for j0 in range(0, g.size, TILE):
            z = buffer[: min(TILE, g.size - j0)]
            exponents(metric, cost, x, y, i, j0, g, 0.0, 1.0, z)
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


def cloud_parts(x, y, kind, scale, eps, dtype):
    """Scaled points, those of y by columns, and the offsets of both sides: the form that the kernels read."""
    x, y = x.astype(dtype, copy=False), y.astype(dtype, copy=False)
    d = x.shape[1]
    if kind == "sqeuclidean":
        metric, width = PRODUCTS, -(-d // 4) * 4
        offsets = scale * np.sum(x * x, axis=1), scale * np.sum(y * y, axis=1)
        x = x * dtype.type(2.0 * scale / eps)
    else:
        metric, width = DISTANCES if kind == "euclidean" else CITYBLOCK, d
        offsets = np.zeros(x.shape[0], dtype), np.zeros(y.shape[0], dtype)
        x, y = x / dtype.type(eps), y / dtype.type(eps)
    xs, ys = np.zeros((x.shape[0], width), dtype), np.zeros((width, y.shape[0]), dtype)
    xs[:, :d], ys[:d] = x, y.T
    return metric, xs, ys, *offsets


def _empty(dtype):
    return np.zeros((0, 0), dtype)


def _sweep(metric, cost, x, y, offset, gt, f, a, eps, inv_rho, omega):
    n, m, dtype = a.size, gt.size, gt.dtype
    chunks = chunks_of(n, m)
    threads = threads_for(chunks)
    new, r, partial = np.empty(n, dtype), np.empty(n, dtype), np.empty((chunks, m), dtype)
    low, high = (1e-200, 1e200) if dtype == np.float64 else (1e-25, 1e25)
    run = sweep_parallel if threads > 1 else sweep_serial
    e = np.empty((threads, 4, m), dtype)
    run(metric, cost, x, y, chunks, gt, f, offset, a, eps, inv_rho, omega, low, high, e, new, r, partial)
    return new, partial.sum(axis=0), r


def dense_sweep(cost, f, g, a, b, eps, inv_rho, omega):
    gt = g / g.dtype.type(eps) + log_weights(b)
    offset = np.zeros_like(a)
    rows = _row_blocks(cost)
    parts = [
        _sweep(DENSE, c, _empty(g.dtype), _empty(g.dtype), offset[s], gt, _row(f[s]), _row(a[s]), eps, inv_rho, omega)
        for s, c in rows
    ]
    if len(parts) == 1:
        return parts[0]
    new, c, r = zip(*parts, strict=True)
    return np.concatenate(new), np.sum(c, axis=0), np.concatenate(r)


def cloud_sweep(x, y, kind, scale, f, g, a, b, eps, inv_rho, omega):
    metric, x, y, xo, yo = cloud_parts(x, y, kind, scale, eps, g.dtype)
    gt = (g - yo) / g.dtype.type(eps) + log_weights(b)
    return _sweep(metric, _empty(g.dtype), x, y, xo, gt, _row(f), _row(a), eps, inv_rho, omega)


def _apply(metric, cost, x, y, gt, shift, v, inv, moments):
    n, m, dtype = shift.size, gt.size, gt.dtype
    chunks = chunks_of(n, m)
    threads = threads_for(chunks)
    out = np.empty((n, (2 if moments else 1) * v.shape[1]), dtype)
    run = _apply_parallel if threads > 1 else _apply_serial
    buffer = np.empty((threads, 2, TILE), dtype)
    run(metric, cost, x, y, chunks, gt, shift, np.ascontiguousarray(v.T), inv, moments, buffer, out)
    return out


def dense_apply(cost, f, h, v, eps, moments):
    eps = h.dtype.type(eps)
    none = _empty(h.dtype)
    gt, ft = h / eps, f / eps
    parts = [_apply(DENSE, c, none, none, gt, ft[s], v, 1 / eps, moments) for s, c in _row_blocks(cost)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def cloud_apply(x, y, kind, scale, f, h, v, eps, moments):
    metric, x, y, xo, yo = cloud_parts(x, y, kind, scale, eps, h.dtype)
    eps = h.dtype.type(eps)
    return _apply(metric, _empty(h.dtype), x, y, (h - yo) / eps, (f - xo) / eps, v, 1 / eps, moments)


def dense_min(cost, g):
    none, out = _empty(g.dtype), np.empty(cost.shape[0], g.dtype)
    zeros, buffer = np.zeros_like(out), np.empty(TILE, g.dtype)
    for s, c in _row_blocks(cost):
        _min_rows(DENSE, c, none, none, _row(g), zeros[s], buffer, out[s])
    return out


def cloud_min(x, y, kind, scale, g):
    metric, x, y, xo, yo = cloud_parts(x, y, kind, scale, 1.0, g.dtype)
    out, buffer = np.empty(x.shape[0], g.dtype), np.empty(TILE, g.dtype)
    _min_rows(metric, _empty(g.dtype), x, y, g - yo, xo, buffer, out)
    return out


def gibbs(cost, f, g, eps):
    eps = g.dtype.type(eps)
    out, gt, ft = np.empty(cost.shape, g.dtype), g / eps, f / eps
    for s, c in _row_blocks(cost):
        _gibbs_rows(c, ft[s], gt, 1 / eps, out[s])
    return out


def _row(v):
    return np.ascontiguousarray(v)


def _row_blocks(cost):
    """The matrix if its rows are contiguous, else copies of blocks of rows."""
    if cost.flags.c_contiguous:
        return [(slice(0, cost.shape[0]), cost)]
    step = max(16, 2**20 // (cost.itemsize * cost.shape[1]))
    return [(slice(i, i + step), np.ascontiguousarray(cost[i : i + step])) for i in range(0, cost.shape[0], step)]
