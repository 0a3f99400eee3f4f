"""Numba variant of the pass over regenerated measuring matrices.

Some rows of a matrix are generated into a buffer and used while they are there: inner products with the columns of
``G`` and weighted sums into the columns of the left side. The matrix is never whole, and neither is ``F G'``. Where
they fit into the cache, both are, and so is the weighted sum: two products a number instead of two a column.
"""

import numpy as np
from numba import njit

from optlib.backend._philox_numba import fill_normal, fill_words, split_key, unpack_signs
from optlib.backend._rows_numba import INNER, JIT, add, add_rows, dot, dot_rows
from optlib.backend.threads import read_only, run_chunks
from optlib.sensing._dense_numba import SERIAL_SIZE

WHOLE_SIZE = 2**16  # entries of a matrix that is generated whole


@njit(**INNER)
def rows_at_once(n2):
    """Rows of a matrix that are generated together: a multiple of four, about 4096 numbers."""
    return max(4, 4096 // n2 // 4 * 4)


@njit(**INNER)
def _fill(k0, k1, start, count, signs, words, buffer):
    """Numbers at the positions start, ..., start + count - 1: a part of the buffer."""
    if not signs:
        fill_normal(k0, k1, start, buffer[:count])
        return buffer[:count]
    skip = np.int64(start % np.uint64(32))
    used = words[: (skip + count + 31) // 32]
    fill_words(k0, k1, start // np.uint64(32), used)
    unpack_signs(used, buffer)
    return buffer[skip : skip + count]


@njit(**INNER)
def _matrix(k0, k1, start, signs, F, Gt, words, buffer, right, left):
    """One measuring matrix A: ``right = G' A'``, ``left = F' A``, both by columns of the factors."""
    n1, n2 = right.shape[1], left.shape[1]
    left[:] = 0
    rows = rows_at_once(n2)
    for first in range(0, n1, rows):
        count = min(rows, n1 - first)
        x = _fill(k0, k1, start + np.uint64(first * n2), count * n2, signs, words, buffer)
        fours = count // 4 * 4
        for c in range(0, fours, 4):
            i, x0, x1 = first + c, x[c * n2 : (c + 1) * n2], x[(c + 1) * n2 : (c + 2) * n2]
            x2, x3 = x[(c + 2) * n2 : (c + 3) * n2], x[(c + 3) * n2 : (c + 4) * n2]
            for a in range(Gt.shape[0]):
                s0, s1, s2, s3 = dot_rows(x0, x1, x2, x3, Gt[a])
                right[a, i], right[a, i + 1], right[a, i + 2], right[a, i + 3] = s0, s1, s2, s3
            for a in range(F.shape[1]):
                add_rows(left[a], x0, x1, x2, x3, F[i, a], F[i + 1, a], F[i + 2, a], F[i + 3, a])
        for c in range(fours, count):
            row = x[c * n2 : (c + 1) * n2]
            for a in range(Gt.shape[0]):
                right[a, first + c] = dot(row, Gt[a])
            for a in range(F.shape[1]):
                add(left[a], row, F[first + c, a])


@njit(**JIT)
def _chunk(i0, i1, c, k0, k1, first, signs, scale, F, Ft, Gt, z, task, n2, w, all_rights, all_lefts):
    rights, lefts = all_rights[c], all_lefts[c]
    n1, zero = F.shape[0], F.dtype.type(0)
    width = (rows_at_once(n2) * n2 + 62) // 32 + 1
    words, buffer = np.empty(width, np.uint32), np.empty(32 * width, F.dtype)
    right, left = np.empty((Gt.shape[0], n1), F.dtype), np.empty((F.shape[1], n2), F.dtype)
    rights[:] = 0
    lefts[:] = 0
    for i in range(i0, i1):
        start = np.uint64(first + i) * np.uint64(n1 * n2)
        _matrix(k0, k1, start, signs, F if task else F[:, :0], Gt, words, buffer, right, left)
        if task == 1:
            w[i] = z[i]
        else:
            total = zero
            for a in range(Gt.shape[0]):
                total += dot(Ft[a], right[a])
            w[i] = scale * total - z[i] if task == 2 else scale * total
        if task:
            for a in range(right.shape[0]):
                add(rights[a], right[a], scale * w[i])
            for a in range(left.shape[0]):
                add(lefts[a], left[a], scale * w[i])


@njit(**JIT)
def _whole_chunk(i0, i1, c, k0, k1, first, signs, scale, X, z, task, w, images):
    image, size = images[c], images.shape[1]
    words, buffer = np.empty(size // 32 + 2, np.uint32), np.empty(size + 64, X.dtype)
    image[:] = 0
    for i in range(i0, i1):
        start = np.uint64(first + i) * np.uint64(size)
        x = _fill(k0, k1, start, size, signs, words, buffer)
        if task == 1:
            w[i] = z[i]
        else:
            total = scale * dot(x, X)
            w[i] = total - z[i] if task == 2 else total
        if task:
            add(image, x, scale * w[i])


def regenerated_pass(key, first, distribution, scale, F, G, z, task):
    """Numba variant of `optlib.sensing.regenerated.regenerated_pass`."""
    m, (n1, k), (n2, l) = z.size, F.shape, G.shape
    chunks = 1 if m * n1 * n2 <= SERIAL_SIZE else min(8, m)
    given = *split_key(key), first, distribution == "rademacher", F.dtype.type(scale)
    w = np.empty(m, F.dtype)
    if n1 * n2 <= WHOLE_SIZE and k + l > 4:
        X = (F @ G.T if task != 1 else np.empty((n1, n2), F.dtype)).ravel()
        images = np.empty((chunks, n1 * n2), F.dtype)
        run_chunks(_whole_chunk, m, chunks, *given, read_only(X), read_only(z), task, w, images)
        image = np.sum(images, axis=0).reshape(n1, n2)
        return w, image @ G, image.T @ F
    rights, lefts = np.empty((chunks, l, n1), F.dtype), np.empty((chunks, k, n2), F.dtype)
    run_chunks(
        _chunk, m, chunks, *given, read_only(F), read_only(F.T), read_only(G.T), read_only(z), task, n2, w,
        rights, lefts,
    )  # fmt: skip
    return w, np.ascontiguousarray(np.sum(rights, axis=0).T), np.ascontiguousarray(np.sum(lefts, axis=0).T)
