"""Numba variants of the passes along one axis of a grid."""

import numpy as np
from numba import njit

from optlib.backend._math_numba import log_
from optlib.transport._passes_numba import run_rows
from optlib.transport._tiles_numba import JIT, exp_dense, smallest_gap


@njit(**JIT)
def _rows(k0, k1, chunks, small, scratch, cost, z, sums, out):
    """Of ``z_rj - cost_ij`` over j: the largest, or the logarithm of the sum of exponentials."""
    number = out.dtype.type
    for r in range(k0 * out.shape[0] // chunks, k1 * out.shape[0] // chunks):
        for i in range(out.shape[1]):
            least = smallest_gap(cost[i], z[r])
            out[r, i] = -least
            if sums:
                out[r, i] += log_(exp_dense(cost[i], z[r], number(least), number(1), scratch[0, : z.shape[1]]))


def _run(matrix, rows, sums):
    out, cost = np.empty(rows.shape, rows.dtype), np.array(-matrix, order="C")
    run_rows(_rows, rows.shape[0], rows.shape[1], cost, np.array(rows, order="C"), sums, out)
    return out


def log_sum(matrix, rows):
    return _run(matrix, rows, True)


def largest(matrix, rows):
    return _run(matrix, rows, False)
