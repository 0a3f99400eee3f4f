"""The fused sweep that also keeps the large entries of the plan, for the sparse Newton method."""

import numpy as np

from optlib.transport._passes_numba import any_sweep, chunks_of


def keeping_sweep(cost, x, y, scale, f, g, a, b, wanted, eps, inv_rho, bound, threshold, room):
    """`relaxed_sweep`, and the entries ``P_ij > threshold min(r_i, wanted_j)`` as rows of (begin, end, index, value).

    The cost is stored by rows, or given by points of at most three dimensions. ``room`` is the number of entries that
    may be kept; if they are more the list is None.
    """
    n, m = f.size, g.size
    chunks = chunks_of(n, m)
    bounds = np.arange(chunks + 1) * room // chunks
    begin, end = np.empty(n, np.int64), np.empty(n, np.int64)
    index, value, count = np.empty(room, np.int32), np.zeros(room), bounds[:-1].copy()  # the values may be scaled whole
    marks = np.zeros((chunks, -(-m // 8) * 8), np.uint8)
    keep = (wanted, threshold, bounds, begin, end, index, value, count, marks, marks.view(np.uint64))
    new, c, r = any_sweep(cost, x, y, scale, f, g, a, b, eps, inv_rho, 1.0, bound, keep)
    return new, c, r, None if count.min() < 0 else (begin, end, index, value)
