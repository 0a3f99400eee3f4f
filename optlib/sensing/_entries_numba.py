"""Numba variants of the kernels of matrix completion.

Places may come in any order. They are cut into chunks that depend on the sizes alone; each chunk adds into matrices of
its own, which are summed in order: any number of threads gives the same bits.
"""

import numpy as np
from numba import njit, prange

from optlib.sensing._dense_numba import INNER, JIT, SERIAL_SIZE, chunk_ends, read_only, run_chunks

# Plain loops over the few columns: calls of vector functions would cost more than they do.


@njit(**INNER)
def _product_chunk(F, G, rows, cols, l0, l1, out):
    for l in range(l0, l1):
        i, j, s = rows[l], cols[l], F.dtype.type(0)
        for a in range(F.shape[1]):
            s += F[i, a] * G[j, a]
        out[l] = s


@njit(**INNER)
def _weighted_chunk(z, G, to, source, l0, l1, out):
    out[:] = 0
    for l in range(l0, l1):
        i, j, w = to[l], source[l], z[l]
        for a in range(G.shape[1]):
            out[i, a] += w * G[j, a]


@njit(**INNER)
def _gradient_chunk(F, G, rows, cols, y, l0, l1, residual, grad_F, grad_G):
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


@njit(**INNER)
def _gram_chunk(G, to, source, l0, l1, out):
    out[:] = 0
    for l in range(l0, l1):
        i, j = to[l], source[l]
        for a in range(G.shape[1]):
            w = G[j, a]
            for b in range(a + 1):
                out[i, a, b] += w * G[j, b]


@njit(**JIT)
def _product_serial(F, G, rows, cols, ends, out):
    for c in range(ends.size - 1):
        _product_chunk(F, G, rows, cols, ends[c], ends[c + 1], out)


@njit(**JIT, parallel=True)
def _product_parallel(F, G, rows, cols, ends, out):
    for c in prange(ends.size - 1):
        _product_chunk(F, G, rows, cols, ends[c], ends[c + 1], out)


@njit(**JIT)
def _weighted_serial(z, G, to, source, ends, out):
    for c in range(ends.size - 1):
        _weighted_chunk(z, G, to, source, ends[c], ends[c + 1], out[c])


@njit(**JIT, parallel=True)
def _weighted_parallel(z, G, to, source, ends, out):
    for c in prange(ends.size - 1):
        _weighted_chunk(z, G, to, source, ends[c], ends[c + 1], out[c])


@njit(**JIT)
def _gradient_serial(F, G, rows, cols, y, ends, residual, grad_F, grad_G):
    for c in range(ends.size - 1):
        _gradient_chunk(F, G, rows, cols, y, ends[c], ends[c + 1], residual, grad_F[c], grad_G[c])


@njit(**JIT, parallel=True)
def _gradient_parallel(F, G, rows, cols, y, ends, residual, grad_F, grad_G):
    for c in prange(ends.size - 1):
        _gradient_chunk(F, G, rows, cols, y, ends[c], ends[c + 1], residual, grad_F[c], grad_G[c])


@njit(**JIT)
def _gram_serial(G, to, source, ends, out):
    for c in range(ends.size - 1):
        _gram_chunk(G, to, source, ends[c], ends[c + 1], out[c])


@njit(**JIT, parallel=True)
def _gram_parallel(G, to, source, ends, out):
    for c in prange(ends.size - 1):
        _gram_chunk(G, to, source, ends[c], ends[c + 1], out[c])


def _run(serial, parallel, m, work, size, args, outputs):
    """Run over chunks: ``size`` numbers are filled and summed a chunk, which must stay below its share of the work."""
    chunks = 1 if work <= SERIAL_SIZE else int(max(1, min(8, work // (8 * max(size, 1)))))
    arrays = [np.empty((chunks, *shape), dtype) for shape, dtype in outputs]
    run_chunks(serial, parallel, chunks, (*args[0], chunk_ends(m, chunks), *args[1], *arrays))
    return [a[0] if chunks == 1 else np.sum(a, axis=0) for a in arrays]


def _given(*arrays):
    return tuple(read_only(a) for a in arrays)


def sampled_product(F, G, rows, cols):
    """Numba variant of `optlib.sensing.entries.sampled_product`."""
    out = np.empty(rows.size, F.dtype)
    _run(_product_serial, _product_parallel, rows.size, rows.size * F.shape[1], 1,
         (_given(F, G, rows, cols), (out,)), [])  # fmt: skip
    return out


def weighted_rows(z, G, to, source, n):
    """Numba variant of `optlib.sensing.entries.weighted_rows`."""
    k = G.shape[1]
    given = _given(z, G, to, source)
    return _run(_weighted_serial, _weighted_parallel, z.size, z.size * k, n * k, (given, ()), [((n, k), G.dtype)])[0]


def completion_gradient(F, G, rows, cols, y):
    """Numba variant of `optlib.sensing.entries.completion_gradient`."""
    residual, k = np.empty(y.size, F.dtype), F.shape[1]
    outputs = [(F.shape, F.dtype), (G.shape, G.dtype)]
    grad_F, grad_G = _run(
        _gradient_serial, _gradient_parallel, y.size, y.size * k, (F.shape[0] + G.shape[0]) * k,
        (_given(F, G, rows, cols, y), (residual,)), outputs,
    )  # fmt: skip
    return residual, grad_F, grad_G


def row_grams(G, to, source, n):
    """Numba variant of `optlib.sensing.entries.row_grams`."""
    k = G.shape[1]
    given, outputs = _given(G, to, source), [((n, k, k), G.dtype)]
    (lower,) = _run(_gram_serial, _gram_parallel, to.size, to.size * k * k, n * k * k, (given, ()), outputs)
    return lower + np.tril(lower, -1).transpose(0, 2, 1)
