"""Numba variants of the passes: four rows at a time, the exponential inlined, columns added up while rows are in cache.

The rows are cut into chunks that depend on the shape alone, and the partial column sums are added in the order of the
chunks: any number of threads gives the same bits. What they do with parts of a row is in `_tiles_numba`.
"""

import numpy as np
from numba import njit

from optlib.backend import get_threads
from optlib.backend._math_numba import exp_, log_
from optlib.backend._rows_numba import add_rows, dot, dot_rows
from optlib.backend.threads import read_only, run_chunks
from optlib.transport._tiles_numba import (
    INLINE,
    INNER,
    JIT,
    TILE,
    costs,
    exp_dense,
    exp_row_again,
    exp_rows,
    exponents,
    largest,
    smallest_gap,
)

THREADED_SIZE = 2_000_000  # entries below which threads cost more than they save, and a pass is one chunk
# Numbers between scratch and any other array: where two lie within a few hundred bytes, compiled loops take them for
# overlapping and add up in another order, so that a result would depend on where the arrays happen to lie.
APART = 128
PLACES = np.uint64(0x0001020304050607)  # times 256^k its highest byte is k


# -- the fused sweep --


@njit(**INLINE)
def _row_weight(s, shift, f, offset, a, eps, lam, omega, bound):
    """New potential of a row with the sum ``s`` at ``shift``, and the weight of its exponentials in the plan."""
    exact = lam * (eps * (shift - log_(s)) + offset)
    new = exact if omega == 1.0 else f + omega * (exact - f)
    new = min(max(new, -bound), bound)
    weight = a / s if new == exact and lam == 1.0 else a * exp_((new - offset) / eps - shift)
    return new, weight


@njit(**INNER)
def _mark(e, b, row_limit, column_limit, marks):
    for j in range(e.size):
        marks[j] = (e[j] > row_limit) | (e[j] > column_limit * b[j])


@njit(**INNER)
def _keep_row(e, s, weight, i, chunk, keep):
    """Append the large entries of a row to the list of its chunk; the count is -1 once there is no room for all.

    ``words`` are the bytes ``marks``, eight at a time: most are zero.
    """
    wanted, threshold, room, begin, end, index, value, count, marks, words = keep
    k, last = count[chunk], room[chunk + 1] - 8
    begin[i] = k
    if k >= 0:
        _mark(e, wanted, threshold * s, threshold / weight, marks[chunk])
        for w in range(words.shape[1]):
            rest = words[chunk, w]
            if rest != 0 and k > last:
                k = -1
                break
            while rest != 0:
                lowest = rest & (~rest + np.uint64(1))  # 256 to the power of the place of the byte
                j = 8 * w + np.int64((lowest * PLACES) >> np.uint64(56))
                index[k], value[k] = j, e[j] * weight
                k += 1
                rest ^= lowest
    end[i], count[chunk] = k, k


@njit(**INLINE)
def sweep_chunks(k0, k1, chunks, small, e, keep, cost, x, y, gt, f, offset, a, eps, lam, omega, bound, new, r, partial):
    """Chunks k0 to k1: new potentials, row sums of the plan, and a row of ``partial`` column sums per chunk.

    ``small`` (3, 4) and ``e`` (4, m or more) are scratch: to allocate in compiled code takes a third of a second to
    compile. ``keep`` is None, or what `_keep_row` unpacks.
    """
    n, m, inv, number = a.size, gt.size, 1.0 / eps, gt.dtype.type
    low, high = (1e-200, 1e200) if gt.itemsize == 8 else (1e-20, 1e20)
    sums, shifts, weights = small[0], small[1], small[2]
    for chunk in range(k0, k1):
        i1, out = (chunk + 1) * n // chunks, partial[chunk, :m]
        for j in range(m):
            out[j] = 0.0
        for i in range(chunk * n // chunks, i1, 4):
            last = min(4, i1 - i)
            for k in range(4):
                sums[k] = weights[k] = 0.0  # rows beyond the last count nothing
                row = i + min(k, last - 1)
                shifts[k] = (f[row] - offset[row]) * inv
            exp_rows(cost, x, y, i, last, gt, shifts, inv, e, sums)
            for k in range(last):
                if not (sums[k] > low and sums[k] < high):  # a bad shift: take the largest exponent
                    shifts[k], sums[k] = exp_row_again(cost, x, y, i + k, gt, inv, e[k, :m])
                new[i + k], weights[k] = _row_weight(
                    sums[k], shifts[k], f[i + k], offset[i + k], a[i + k], eps, lam, omega, bound
                )
                r[i + k] = weights[k] * sums[k]
                if keep is not None:
                    _keep_row(e[k, :m], sums[k], weights[k], i + k, chunk, keep)
            w0, w1, w2, w3 = number(weights[0]), number(weights[1]), number(weights[2]), number(weights[3])
            add_rows(out, e[0], e[min(1, last - 1)], e[min(2, last - 1)], e[last - 1], w0, w1, w2, w3)


@njit(**INLINE)
def stored_chunks(k0, k1, chunks, small, e, kernel, v, f, alpha, a, eps, lam, omega, new, r, partial):
    """The same from a stored kernel and scalings ``v``; ``alpha`` are the row potentials in the kernel.

    ``lam`` is None if it and ``omega`` are 1: then the logarithms are taken all at once.
    """
    n, weights = a.size, e[0]
    for chunk in range(k0, k1):
        i0, i1, out = chunk * n // chunks, (chunk + 1) * n // chunks, partial[chunk]
        for j in range(v.size):
            out[j] = 0.0
        for i in range(i0, i1, 4):
            left = i1 - i
            second = i + (left > 1)  # where there are less than four rows, the last is there again
            third = second + (left > 2)
            fourth = third + (left > 3)
            e0, e1, e2, e3 = kernel[i], kernel[second], kernel[third], kernel[fourth]
            new[i], new[second], new[third], new[fourth] = dot_rows(e0, e1, e2, e3, v)
            for k in range(4):
                weights[k] = 0.0
            for row in range(i, fourth + 1):
                s = new[row]
                if lam is None:
                    weights[row - i], r[row] = a[row] / s, a[row]
                else:
                    new[row], weight = _row_weight(s, 0.0, f[row], alpha[row], a[row], eps, lam, omega, np.inf)
                    weights[row - i], r[row] = weight, weight * s
            add_rows(out, e0, e1, e2, e3, weights[0], weights[1], weights[2], weights[3])
        if lam is None:
            of_rows, offsets = new[i0:i1], alpha[i0:i1]
            for i in range(of_rows.size):
                of_rows[i] = offsets[i] - eps * log_(of_rows[i])


# -- products with the plan --


@njit(**INNER)
def _exp_and_product(z, shift, e):
    shift = e.dtype.type(shift)
    for j in range(e.size):
        t = z[j] + shift
        e[j] = exp_(t)
        z[j] = e[j] * t


@njit(**JIT)
def _apply_chunks(k0, k1, chunks, small, scratch, cost, x, y, gt, shift, v, inv, moments, out):
    """Rows of ``e v`` and, if asked for, of ``(e z) v``; ``v`` by columns."""
    m, columns = gt.size, v.shape[0]
    z, e = scratch[0], scratch[1]
    for i in range(k0 * shift.size // chunks, k1 * shift.size // chunks):
        out[i] = 0.0
        for j0 in range(0, m, TILE):
            j1 = min(m, j0 + TILE)
            zt, et = z[: j1 - j0], e[: j1 - j0]
            exponents(cost, x, y, i, gt, inv, j0, zt)
            _exp_and_product(zt, shift[i], et)
            for c in range(columns):
                out[i, c] += dot(et, v[c, j0:j1])
                if moments:
                    out[i, columns + c] += dot(zt, v[c, j0:j1])


# -- hard minima, stored kernel --


@njit(**JIT)
def _min_rows(k0, k1, chunks, small, scratch, cost, x, y, offset, g, out):
    for i in range(k0 * out.size // chunks, k1 * out.size // chunks):
        least = np.inf
        for j0 in range(0, g.size, TILE):
            c = scratch[0, : min(TILE, g.size - j0)]
            costs(cost, x, y, offset[i], i, j0, c)
            least = min(least, smallest_gap(c, g[j0:]))
        out[i] = least


@njit(**INNER)
def _lower(out, c, g):
    for j in range(out.size):
        out[j] = min(out[j], c[j] - g)


@njit(**JIT)
def _min_columns(cost, g, out):
    out[:] = np.inf
    for i in range(g.size):
        _lower(out, cost[i], g[i])


@njit(**INNER)
def _exp_and_weigh(z, shift, b):
    """Exponentials in place, and their product with ``b``."""
    s, shift = z.dtype.type(0), z.dtype.type(shift)
    for j in range(z.size):
        t = exp_(z[j] + shift)
        z[j] = t
        s += t * b[j]
    return s


@njit(**INLINE)
def _exp_costs_and_weigh(c, gt, shift, inv, b, e):
    number = e.dtype.type
    s, shift, inv = number(0), number(shift), number(inv)
    for j in range(e.size):
        t = exp_((gt[j] + shift) - c[j] * inv)
        e[j] = t
        s += t * b[j]
    return s


@njit(**INLINE)
def _scale_and_add(row, factor, sums, weight):
    """Scale a row in place, and add a multiple of it to the sums."""
    factor = row.dtype.type(factor)
    for j in range(row.size):
        e = factor * row[j]
        row[j] = e
        sums[j] += weight * e


@njit(**INLINE)
def _largest_exponent(c, gt, inv):
    top = -np.inf
    for j in range(c.size):
        t = gt[j] - c[j] * inv
        top = t if t > top else top
    return top


@njit(**JIT)
def _absorb_chunks(k0, k1, chunks, small, e, cost, x, y, gt, f, offset, a, b, eps, lam, out, r, partial):
    """Rows of the kernel, scaled so that their products with ``b`` are 1; ``f`` becomes their potential."""
    inv, m, n, low = 1.0 / eps, gt.size, f.size, 1e-200 if gt.itemsize == 8 else 1e-25
    for chunk in range(k0, k1):
        sums = partial[chunk]
        for j in range(m):
            sums[j] = 0.0
        for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
            row, shift, weight = out[i, :m], (f[i] - offset[i]) * inv, a[i]
            for attempt in range(2):  # at a bad shift again with the largest exponent
                if cost is not None:
                    shift = shift if attempt == 0 else -_largest_exponent(cost[i], gt, inv)
                    s = _exp_costs_and_weigh(cost[i], gt, shift, inv, b, row)
                if x is not None:
                    exponents(None, x, y, i, gt, inv, 0, row)
                    shift = shift if attempt == 0 else -largest(row)
                    s = _exp_and_weigh(row, shift, b)
                if s > low and s < 1.0 / low:
                    break
            f[i] = offset[i] + eps * (shift - log_(s))
            if lam is not None:
                weight *= exp_((lam - 1.0) * f[i] * inv)
            r[i] = weight
            _scale_and_add(row, 1.0 / s, sums, weight)


@njit(**INLINE)
def _sums(e, c, x, q):
    s0 = s1 = s2 = s3 = s4 = e.dtype.type(0)
    for j in range(e.size):
        s0 += e[j]
        s1 += e[j] * x[j]
        s2 += e[j] * c[j]
        s3 += (e[j] * c[j]) * x[j]
        s4 += c[j] * q[j]
    return s0, s1, s2, s3, s4


@njit(**INLINE)
def _plan_tile(kernel, i, j0, v, shift, inv, c, e):
    """Exponentials (or stored kernel times scalings) of a tile whose costs are ``c``."""
    if kernel is not None:
        row, scaling = kernel[i, j0:], v[j0:]
        for j in range(e.size):
            e[j] = row[j] * scaling[j]
    else:
        exp_dense(c, v[j0:], shift, inv, e)


@njit(**JIT)
def _survey_chunks(k0, k1, chunks, small, scratch, kernel, cost, x, y, offset, v, factor, inv, removed, q, h, out):
    """Rows of a survey; ``factor`` are scalings of the rows with a stored kernel, their shifts without."""
    m = v.size
    for i in range(k0 * out.shape[0] // chunks, k1 * out.shape[0] // chunks):
        least, scaling = np.inf, out.dtype.type(factor[i])
        for k in range(5):
            out[i, k] = 0.0
        for j0 in range(0, m, TILE):
            j1 = min(m, j0 + TILE)
            e, c = scratch[0, : j1 - j0], scratch[1, : j1 - j0]
            costs(cost, x, y, offset[i], i, j0, c)
            _plan_tile(kernel, i, j0, v, scaling, inv, c, e)
            sums = _sums(e, c, removed[j0:j1], q[j0:j1])
            for k in range(5):
                out[i, k] += sums[k]
            least = min(least, smallest_gap(c, h[j0:]))
        if kernel is not None:
            for k in range(4):
                out[i, k] *= scaling
        out[i, 5] = least


@njit(**JIT)
def _gibbs_rows(cost, ft, gt, inv, out):
    for i in range(ft.size):
        exp_dense(cost[i], gt, ft[i], out.dtype.type(inv), out[i])


# -- wrappers: layouts, scales, buffers --


def chunks_of(n: int, m: int) -> int:
    """Number of chunks of rows: one for small work, else of at least 64 rows."""
    return 1 if n * m < THREADED_SIZE else min(64, -(-n // 64))


def run_rows(function, n, m, *args):
    """Call ``function(k0, k1, chunks, small, scratch, *args)`` for n rows, on threads if the work is large enough.

    ``small`` (3, 4) and ``scratch`` (4, m or more) belong to the thread; the latter is `aligned` and has the dtype of
    the last argument.
    """
    chunks = chunks_of(n, m)

    def work(k0, k1, _):
        function(k0, k1, chunks, np.empty((3, 4)), aligned(4, m, args[-1].dtype), *args)

    run_chunks(work, chunks, min(get_threads(), chunks))


def log_weights(b):
    """Logarithm of weights; hugely negative, but finite, for those that are zero."""
    positive = b > 0
    return np.where(
        positive, np.log(np.where(positive, b, 1)), b.dtype.type(-1e200 if b.dtype == np.float64 else -1e30)
    )


def scaled(cost, x, y, scale, eps, like):
    """The form that the compiled code reads: points scaled by ``2 / eps`` and by columns, and the rest as offsets.

    Yields rows, their cost, points and offset, and the points and offset of the columns: all rows at once, or blocks of
    copies if the rows of a matrix are not contiguous. Matrices always come read-only, which is a type of its own.
    """
    dtype = like.dtype
    if cost is None:
        n, d = x.shape
        x, y = x.astype(dtype, copy=False), y.astype(dtype, copy=False)
        xs, ys = np.zeros((n, 3), dtype), aligned(3, y.shape[0], dtype)
        xs[:, :d], ys[:d, : y.shape[0]], ys[d:] = x * dtype.type(2.0 * scale / eps), y.T, 0.0
        yield slice(0, n), None, xs, ys, scale * np.sum(x * x, axis=1), scale * np.sum(y * y, axis=1)
        return
    n, m = cost.shape
    step = n if cost.flags.c_contiguous else max(16, 2**20 // (cost.itemsize * m))
    zeros = np.zeros(max(n, m), dtype)
    for i in range(0, n, step):
        rows = slice(i, min(i + step, n))
        yield rows, read_only(cost[rows]), None, None, zeros[rows], zeros[:m]


def sweep(cost, x, y, scale, f, g, a, b, eps, inv_rho, omega, bound=np.inf):
    return any_sweep(cost, x, y, scale, f, g, a, b, eps, inv_rho, omega, bound, None)


def any_sweep(cost, x, y, scale, f, g, a, b, eps, inv_rho, omega, bound, keep):
    """A sweep; ``keep`` is handed to `sweep_chunks`, and takes the rows of a matrix as stored."""
    n, m, dtype = f.size, g.size, g.dtype
    new, r, c = np.empty(n, dtype), np.empty(n, dtype), np.zeros(m)
    f, a, log_b, lam = np.array(f), np.array(a), log_weights(b), 1.0 / (1.0 + eps * inv_rho)
    for s, block, xs, ys, xo, yo in scaled(cost, x, y, scale, eps, g):
        gt = (g - yo) / dtype.type(eps) + log_b
        partial = aligned(chunks_of(xo.size, m), m, dtype)
        run_rows(
            sweep_chunks, xo.size, m, keep, block, xs, ys, gt, f[s], xo, a[s], eps, lam, omega, bound, new[s], r[s],
            partial,
        )  # fmt: skip
        c += partial[:, :m].sum(axis=0, dtype=np.float64)
    c[b == 0.0] = 0.0  # what is clipped from below is a little more than nothing
    return new, c.astype(dtype, copy=False), r


def apply(cost, x, y, scale, f, h, v, eps, moments):
    dtype = h.dtype
    out = np.empty((f.size, (2 if moments else 1) * v.shape[1]), dtype)
    v = np.array(v.T, order="C")
    for s, block, xs, ys, xo, yo in scaled(cost, x, y, scale, eps, h):
        gt, shift = (h - yo) / dtype.type(eps), (f[s] - xo) / dtype.type(eps)
        run_rows(_apply_chunks, shift.size, gt.size, block, xs, ys, gt, shift, v, 1.0 / eps, moments, out[s])
    return out


def smallest(cost, x, y, scale, g):
    if cost is not None and cost.flags.f_contiguous and not cost.flags.c_contiguous:
        out = np.empty(cost.shape[0], g.dtype)
        _min_columns(read_only(cost.T), np.array(g), out)
        return out
    out = np.empty((cost if x is None else x).shape[0], g.dtype)
    for s, block, xs, ys, xo, yo in scaled(cost, x, y, scale, 1.0, g):
        run_rows(_min_rows, xo.size, g.size, block, xs, with_norms(ys, yo), xo, np.array(g), out[s])
    return out


def absorb(cost, x, y, scale, f, g, a, b, eps, inv_rho):
    dtype = g.dtype
    f, r, a, b, m, c = np.array(f), np.empty_like(f), np.array(a), np.array(b), g.size, np.zeros(g.size)
    matrix, lam = aligned(f.size, m, dtype), 1.0 / (1.0 + eps * inv_rho) if inv_rho else None
    for s, block, xs, ys, xo, yo in scaled(cost, x, y, scale, eps, g):
        gt, partial = (g - yo) / dtype.type(eps), np.empty((chunks_of(xo.size, m), m), dtype)
        run_rows(_absorb_chunks, xo.size, m, block, xs, ys, gt, f[s], xo, a[s], b, eps, lam, matrix[s], r[s], partial)
        c += partial.sum(axis=0, dtype=np.float64)
    return matrix[:, :m], f, (b * c).astype(dtype, copy=False), r


def survey(stored, alpha, beta, cost, x, y, scale, f, h_plan, removed, q, h, eps):
    dtype, number = f.dtype, f.dtype.type
    n, m = f.size, h_plan.size
    out = np.empty((n, 6), dtype)
    v, factor, inv = h_plan / number(eps), f / number(eps), number(1.0 / eps)
    if stored is not None:
        v, factor = np.exp((h_plan - beta) / number(eps)), np.exp((f - alpha) / number(eps))
    removed, q, h = np.array(removed), np.array(q), np.array(h)
    for s, block, xs, ys, xo, yo in scaled(cost, x, y, scale, 1.0, f):
        ys = with_norms(ys, yo)
        kernel = None if stored is None else padded_rows(stored[s])
        run_rows(_survey_chunks, xo.size, m, kernel, block, xs, ys, xo, v, factor[s], inv, removed, q, h, out[s])
    return out


def with_norms(y, offset):
    """Points by columns and, as one coordinate more, what their squared norms add to the costs."""
    if y is None:
        return None
    rows = aligned(4, offset.size, y.dtype)
    rows[:3], rows[3, : offset.size] = y, offset
    return rows


def padded_rows(stored):
    """The rows of a stored kernel with their padding: contiguous."""
    return np.lib.stride_tricks.as_strided(stored, (stored.shape[0], stored.strides[0] // stored.itemsize))


def gibbs(cost, f, g, eps):
    eps = g.dtype.type(eps)
    out, gt, ft = np.empty(cost.shape, g.dtype), g / eps, f / eps
    for s, block, *_ in scaled(cost, None, None, 1.0, 1.0, g):
        _gibbs_rows(block, ft[s], gt, 1 / eps, out[s])
    return out


def aligned(n, m, dtype):
    """An empty matrix whose rows start at multiples of 64 bytes: two thirds of the time in products from cache.

    What this adds to the rows is zero, and no other array is near.
    """
    width = 64 // dtype.itemsize
    padded = -(-m // width) * width
    memory = np.empty(n * padded + width + 2 * APART, dtype)
    start = APART + (-memory[APART:].ctypes.data % 64) // dtype.itemsize
    matrix = memory[start : start + n * padded].reshape(n, padded)
    matrix[:, m:] = 0.0
    return matrix
