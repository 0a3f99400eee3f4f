"""Numba variant of the pass of sparsity-constrained transport: the k largest entries of every row, in one scan."""

import numpy as np
from numba import njit

from optlib.transport._passes_numba import chunks_of, run_rows, scaled, with_norms
from optlib.transport._tiles_numba import INNER, JIT, costs


@njit(**INNER)
def _largest(c, g, top, place):
    """The largest entries of ``g - c`` in descending order, ties in the order of the columns, and their columns."""
    k, filled = top.size, 0
    for j in range(c.size):
        s = g[j] - c[j]
        if filled == k and not s > top[k - 1]:
            continue
        at = min(filled, k - 1)
        while at > 0 and top[at - 1] < s:
            top[at], place[at] = top[at - 1], place[at - 1]
            at -= 1
        top[at], place[at] = s, j
        filled = min(filled + 1, k)


@njit(**JIT)
def _top_chunks(
    k0, k1, chunks, small, scratch, cost, x, y, offset, g, f, wanted, exact, new, squares, tops, places, partial
):
    n, c = wanted.size, scratch[0, : g.size]
    for chunk in range(k0, k1):
        out = partial[chunk]
        for j in range(g.size):
            out[j] = 0.0
        for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
            top, place = tops[i], places[i]
            costs(cost, x, y, offset[i], i, 0, c)
            _largest(c, g, top, place)
            potential = f[i]
            if exact:
                total = 0.0
                for r in range(top.size):
                    total += top[r] - top[0]
                    if r > 0 and not (top[r] - top[0]) * (r + 1) > total - wanted[i]:
                        break
                    potential = (wanted[i] - total) / (r + 1) - top[0]
            new[i], squares[i] = potential, 0.0
            for r in range(top.size):
                t = top[r] + potential
                t = t if t > 0.0 else 0.0
                top[r] = t
                out[place[r]] += t
                squares[i] += t * t


def top_sweep(cost, x, y, scale, f, g, wanted, k, exact):
    n, m, dtype = f.size, g.size, g.dtype
    chunks = chunks_of(n, m)
    f, g, wanted = (np.array(u, np.float64) for u in (f, g, wanted))
    pieces = list(scaled(cost, x, y, scale, 1.0, g))
    if len(pieces) > 1:
        pieces = list(scaled(np.ascontiguousarray(cost), x, y, scale, 1.0, g))
    ((_, block, xs, ys, xo, yo),) = pieces
    new, squares, partial = np.empty(n), np.empty(n), np.empty((chunks, m))
    tops, places = np.empty((n, k)), np.empty((n, k), np.int64)
    run_rows(
        _top_chunks, n, m, block, xs, with_norms(ys, yo), xo, g, f, wanted, exact, new, squares, tops, places, partial
    )
    return *(u.astype(dtype, copy=False) for u in (new, partial.sum(axis=0), squares, tops)), places
