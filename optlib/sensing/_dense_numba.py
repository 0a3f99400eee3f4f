"""Numba variant of the sensing gradient: one pass over the measuring matrices.

The rows are cut into chunks that depend on the shape alone, and their partial sums are added in order: any number of
threads gives the same bits.
"""

import numpy as np
from numba import njit

from optlib.backend._rows_numba import JIT, add, add_rows, dot, dot_rows
from optlib.backend.threads import read_only, run_chunks

CACHED_SIZE = 20_000  # entries for which two matrix-vector products are faster than calling the compiled pass
SERIAL_SIZE = 250_000  # entries below which a parallel region costs more than it saves


@njit(**JIT)
def _chunk(i0, i1, c, A, x, y, residual, images):
    """Rows i0 to i1, four at a time while they are in the cache."""
    image = images[c]
    image[:] = 0
    last = i0 + (i1 - i0) // 4 * 4
    for i in range(i0, last, 4):
        a0, a1, a2, a3 = A[i], A[i + 1], A[i + 2], A[i + 3]
        s0, s1, s2, s3 = dot_rows(a0, a1, a2, a3, x)
        r0, r1, r2, r3 = s0 - y[i], s1 - y[i + 1], s2 - y[i + 2], s3 - y[i + 3]
        residual[i], residual[i + 1], residual[i + 2], residual[i + 3] = r0, r1, r2, r3
        add_rows(image, a0, a1, a2, a3, r0, r1, r2, r3)
    for i in range(last, i1):
        residual[i] = dot(A[i], x) - y[i]
        add(image, A[i], residual[i])


def residual_and_image(A, x, y):
    """Numba variant of `optlib.sensing.operators.residual_and_image`."""
    m, n = A.shape
    if m * n <= CACHED_SIZE:
        residual = A @ x - y
        return residual, residual @ A
    A, x, y = read_only(A), np.array(x), np.array(y)  # small beside A: copies cost less than views that are read-only
    chunks = 1 if m * n <= SERIAL_SIZE else max(1, min(8, m // 32))
    residual, images = np.empty(m, A.dtype), np.empty((chunks, n), A.dtype)
    run_chunks(_chunk, m, chunks, A, x, y, residual, images)
    return residual, images[0] if chunks == 1 else np.sum(images, axis=0)
