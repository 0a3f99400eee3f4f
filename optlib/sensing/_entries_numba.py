"""Numba variants of the kernels of matrix completion.

Places may come in any order. They are cut into chunks that depend on the sizes alone; each chunk adds into matrices of
its own, which are summed in order: any number of threads gives the same bits.
"""

import numpy as np
from numba import njit

from optlib.backend._rows_numba import INNER, JIT, dot, dot_rows
from optlib.backend.threads import read_only, run_chunks
from optlib.sensing._dense_numba import SERIAL_SIZE

BLOCK = 256  # entries whose products are formed together

# Plain loops over the few columns: calls of vector functions would cost more than they do.


@njit(**JIT)
def _product_chunk(l0, l1, c, F, G, rows, cols, out):
    for l in range(l0, l1):
        i, j, s = rows[l], cols[l], F.dtype.type(0)
        for a in range(F.shape[1]):
            s += F[i, a] * G[j, a]
        out[l] = s


@njit(**JIT)
def _weighted_chunk(l0, l1, c, z, G, to, source, parts):
    out = parts[c]
    out[:] = 0
    for l in range(l0, l1):
        i, j, w = to[l], source[l], z[l]
        for a in range(G.shape[1]):
            out[i, a] += w * G[j, a]


@njit(**JIT)
def _gradient_chunk(l0, l1, c, F, G, rows, cols, y, residual, parts_F, parts_G):
    grad_F, grad_G = parts_F[c], parts_G[c]
    grad_F[:] = 0
    grad_G[:] = 0
    for l in range(l0, l1):
        i, j, s = rows[l], cols[l], F.dtype.type(0)
        for a in range(F.shape[1]):
            s += F[i, a] * G[j, a]
        s -= y[l]
        residual[l] = s
        for a in range(F.shape[1]):
            grad_F[i, a] += s * G[j, a]
        for a in range(F.shape[1]):
            grad_G[j, a] += s * F[i, a]


@njit(**JIT)
def _gram_chunk(l0, l1, c, G, to, source, parts):
    out = parts[c]
    out[:] = 0
    for l in range(l0, l1):
        i, j = to[l], source[l]
        for a in range(G.shape[1]):
            w = G[j, a]
            for b in range(a + 1):
                out[i, a, b] += w * G[j, b]


def _run(chunk, m, work, size, args, outputs):
    """Run over chunks: ``size`` numbers are filled and summed a chunk, which must stay below its share of the work."""
    chunks = 1 if work <= SERIAL_SIZE else int(max(1, min(8, work // (8 * max(size, 1)))))
    parts = [np.empty((chunks, *shape), dtype) for shape, dtype in outputs]
    run_chunks(chunk, m, chunks, *args, *parts)
    return [a[0] if chunks == 1 else np.sum(a, axis=0) for a in parts]


def _given(*arrays):
    return tuple(read_only(a) for a in arrays)


def sampled_product(F, G, rows, cols):
    """Numba variant of `optlib.sensing.entries.sampled_product`."""
    out = np.empty(rows.size, F.dtype)
    _run(_product_chunk, rows.size, rows.size * F.shape[1], 1, (*_given(F, G, rows, cols), out), [])
    return out


def weighted_rows(z, G, to, source, n):
    """Numba variant of `optlib.sensing.entries.weighted_rows`."""
    k = G.shape[1]
    given, outputs = _given(z, G, to, source), [((n, k), G.dtype)]
    return _run(_weighted_chunk, z.size, z.size * k, n * k, given, outputs)[0]


def completion_gradient(F, G, rows, cols, y):
    """Numba variant of `optlib.sensing.entries.completion_gradient`."""
    residual, k = np.empty(y.size, F.dtype), F.shape[1]
    given, outputs = _given(F, G, rows, cols, y), [(F.shape, F.dtype), (G.shape, G.dtype)]
    size = (F.shape[0] + G.shape[0]) * k
    grad_F, grad_G = _run(_gradient_chunk, y.size, y.size * k, size, (*given, residual), outputs)
    return residual, grad_F, grad_G


def row_grams(G, to, source, n):
    """Numba variant of `optlib.sensing.entries.row_grams`."""
    k = G.shape[1]
    given, outputs = _given(G, to, source), [((n, k, k), G.dtype)]
    (lower,) = _run(_gram_chunk, to.size, to.size * k * k, n * k * k, given, outputs)
    return lower + np.tril(lower, -1).transpose(0, 2, 1)


@njit(**JIT)
def _solve_chunk(i0, i1, c, G, starts, source, y, ridge, floor, blocks, grams, out):
    """Rows i0 to i1: squares and products of the columns of some entries, gathered as rows of a block."""
    block, H, k = blocks[c], grams[c], G.shape[1]
    for i in range(i0, i1):
        H[:] = 0
        x = out[i]
        x[:] = 0
        for first in range(starts[i], starts[i + 1], BLOCK):
            count = min(starts[i + 1] - first, BLOCK)
            for l in range(count):
                g = G[source[first + l]]
                for a in range(k):
                    block[a, l] = g[a]
            _add_products(block, count, y[first : first + count], H, x)
        _solve(H, x, ridge[i], floor)


@njit(**INNER)
def _add_products(block, count, y, H, x):
    for a in range(x.size):
        v = block[a, :count]
        x[a] += dot(v, y)
        for b in range(0, a + 1, 4):
            rest = a - b
            b0, b1 = block[b, :count], block[b + min(1, rest), :count]
            b2, b3 = block[b + min(2, rest), :count], block[b + min(3, rest), :count]
            s0, s1, s2, s3 = dot_rows(b0, b1, b2, b3, v)
            H[a, b] += s0
            if rest > 0:
                H[a, b + 1] += s1
            if rest > 1:
                H[a, b + 2] += s2
            if rest > 2:
                H[a, b + 3] += s3


@njit(**INNER)
def _solve(H, x, ridge, floor):
    """Solve with the symmetric H, whose lower triangle becomes that of Cholesky, and a shift of its diagonal."""
    k, trace = x.size, x.dtype.type(0)
    for a in range(k):
        trace += H[a, a]
    shift = floor * (trace if trace > 0 else x.dtype.type(1))
    for a in range(k):
        for b in range(a):
            for j in range(b):
                H[a, b] -= H[a, j] * H[b, j]
            H[a, b] /= H[b, b]
            x[a] -= H[a, b] * x[b]
            H[a, a] -= H[a, b] * H[a, b]
        H[a, a] = np.sqrt(H[a, a] + (ridge[a] + shift))  # NaN if not positive: without an answer
        x[a] /= H[a, a]
    for a in range(k - 1, -1, -1):
        x[a] /= H[a, a]
        for b in range(a):
            x[b] -= H[a, b] * x[a]


def solve_rows(G, starts, source, y, ridge):
    """Numba variant of `optlib.sensing.entries.solve_rows`."""
    k, n, number = G.shape[1], starts.size - 1, G.dtype.type
    chunks = 1 if y.size * k * k <= SERIAL_SIZE else min(64, n)
    out = np.empty((n, k), G.dtype)
    blocks, grams = np.empty((chunks, k, BLOCK), G.dtype), np.empty((chunks, k, k), G.dtype)
    floor = number(64 * np.finfo(G.dtype).eps)
    run_chunks(_solve_chunk, n, chunks, *_given(G, starts, source, y, ridge), floor, blocks, grams, out)
    return out
