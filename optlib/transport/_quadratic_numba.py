"""Numba variant of the pass of quadratically regularised transport, which can also keep the entries of the plan.

A row is read once into a buffer that stays in the cache; the scans for its potential run on the buffer.
"""

import numpy as np
from numba import njit

from optlib.transport._passes_numba import (
    INNER,
    JIT,
    _costs,
    chunks_of,
    run_rows,
    scaled,
    smallest_gap,
    with_norms,
)

ROOM = 24  # entries a row that are kept at first; doubled when there are more


@njit(**INNER)
def _subtract_from(g, s):
    for j in range(s.size):
        s[j] = g[j] - s[j]


@njit(**INNER)
def _excess(s, f):
    """Sum and number of the positive entries of ``s + f``."""
    total, count = 0.0, 0.0
    for j in range(s.size):
        t = s[j] + f
        positive = 1.0 if t > 0.0 else 0.0
        count += positive
        total += positive * t
    return total, count


@njit(**INNER)
def _row_potential(s, f, wanted):
    """The root of ``sum_j (s_j + f)_+ = wanted``, by Newton's method: from above the active sets are nested."""
    total, count = _excess(s, f)
    for _ in range(s.size + 2):
        if count == 0.0:
            break
        f -= (total - wanted) / count
        total, before = 0.0, count
        total, count = _excess(s, f)
        if count == before:
            break
    return f, count


@njit(**INNER)
def _add_positive(s, f, out):
    squares = 0.0
    for j in range(s.size):
        t = s[j] + f
        t = t if t > 0.0 else 0.0
        out[j] += t
        squares += t * t
    return squares


@njit(**INNER)
def _mark(s, limit, marks):
    for j in range(s.size):
        marks[j] = s[j] > limit


@njit(**INNER)
def _keep(s, f, margin, marks, words, index, slack, k):
    """Append the entries of ``s + f`` above ``-margin``; -1 if there is no room. ``words`` are eight marks each."""
    _mark(s, -f - margin, marks)
    for w in range((s.size + 7) // 8):
        if words[w] != 0:
            if k + 8 > slack.size:
                return -1
            for j in range(8 * w, min(8 * w + 8, s.size)):
                index[k] = j
                slack[k] = s[j] + f
                k += marks[j]
    return k


@njit(**JIT)
def _sweep_chunks(
    k0, k1, chunks, small, scratch, cost, x, y, offset, g, f, wanted, margin, new, squares, begin, end, kept, index,
    slack, partial,
):  # fmt: skip
    """Chunks of rows; those of ``index`` and ``slack`` are rows of these arrays, which are empty to keep nothing."""
    n = wanted.size
    s, marks, words = scratch[0], scratch[1].view(np.uint8), scratch[1].view(np.uint64)
    for chunk in range(k0, k1):
        out, k = partial[chunk], 0
        for j in range(g.size):
            out[j] = 0.0
        for w in range((g.size + 7) // 8):
            words[w] = 0
        for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
            _costs(cost, x, y, offset[i], i, 0, s)
            _subtract_from(g, s)
            potential, count = _row_potential(s, f[i], wanted[i])
            if count == 0.0:  # no entry was active at the start
                _costs(cost, x, y, offset[i], i, 0, s)
                potential = smallest_gap(s, g) + wanted[i]
                _subtract_from(g, s)
                potential, _ = _row_potential(s, potential, wanted[i])
            new[i] = potential
            squares[i] = _add_positive(s, potential, out)
            begin[i] = max(k, 0)
            if k >= 0 and slack.size:
                k = _keep(s, potential, margin, marks, words, index[chunk], slack[chunk], k)
            end[i] = max(k, 0)
        kept[chunk] = k


def _sweep_part(part, f, g, wanted, margin, room):
    """The pass over rows in the form of `passes.Entries`, in float64."""
    n, m = f.size, g.size
    chunks = chunks_of(n, m)
    f, g, wanted = (np.array(u, np.float64) for u in (f, g, wanted))
    new, squares, partial, kept = np.empty(n), np.empty(n), np.empty((chunks, m)), np.empty(chunks, np.int64)
    begin, end = np.empty(n, np.int64), np.empty(n, np.int64)
    pieces = list(scaled(*part, 1.0, g))
    if len(pieces) > 1:
        pieces = list(scaled(np.ascontiguousarray(part[0]), *part[1:], 1.0, g))
    ((_, block, xs, ys, xo, yo),) = pieces
    rows = -(-n // chunks)
    while True:
        shape = (chunks, room * rows + 8 if room else 0)
        index, slack = np.empty(shape, np.int32), np.empty(shape)
        run_rows(
            _sweep_chunks, n, m, block, xs, with_norms(ys, yo), xo, g, f, wanted, margin, new, squares, begin, end,
            kept, index, slack, partial,
        )  # fmt: skip
        if kept.min() >= 0:
            break
        room = min(2 * room, m + 8)
    starts = np.repeat(np.arange(chunks) * shape[1], np.diff(np.arange(chunks + 1) * n // chunks))
    return new, partial.sum(axis=0), squares, (begin + starts, end + starts, index.ravel(), slack.ravel())


def sweep(cost, x, y, scale, f, g, wanted):
    new, c, squares, _ = _sweep_part((cost, x, y, scale), f, g, wanted, 0.0, 0)
    return tuple(u.astype(g.dtype, copy=False) for u in (new, c, squares))


def keeping_sweep(parts, f, g, wanted, margin):
    """The pass that also returns, row by row, where ``f_i + g_j - C_ij > -margin``: begins, ends, columns, slacks."""
    found, first = [], 0
    for i0, i1, part in parts:
        new, c, squares, (begin, end, index, slack) = _sweep_part(part, f[i0:i1], g, wanted[i0:i1], margin, ROOM)
        found.append((new, c, squares, begin + first, end + first, index, slack))
        first += index.size
    new, c, squares, *entries = (u[0] if len(u) == 1 else u for u in zip(*found, strict=True))
    if len(found) > 1:
        c = sum(c)
        new, squares, *entries = (np.concatenate(u) for u in (new, squares, *entries))
    return new, c, squares, tuple(entries)


@njit(**JIT)
def _weigh(begin, end, index, slack, margin, soft, least, value, rows, columns):
    for i in range(begin.size):
        total = 0.0
        for k in range(begin[i], end[i]):
            w = 1.0 if slack[k] > 0.0 else soft * (1.0 + slack[k] / margin) + least
            value[k] = w
            total += w
            columns[index[k]] += w
        rows[i] = total


def weigh(begin, end, index, slack, margin, soft, least, m):
    """Weights of kept entries in the system, and their row and column sums."""
    value, rows, columns = np.empty(slack.size), np.empty(begin.size), np.zeros(m)
    _weigh(begin, end, index, slack, margin, soft, least, value, rows, columns)
    return value, rows, columns
