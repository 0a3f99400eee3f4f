"""Numba variant of the pass of quadratically regularised transport, which can also keep the entries of the plan.

A row is read once: the differences ``g - C_i`` go into a buffer that stays in the cache, and a Newton step for the
potential is made on the way. What can be in the plan from then on is listed, and the rest runs on the list.
"""

import numpy as np
from numba import njit

from optlib.transport._passes_numba import chunks_of, run_rows, scaled, with_norms
from optlib.transport._tiles_numba import INNER, JIT, costs


@njit(**INNER)
def _gaps(c, g, f, s):
    """Fill ``s`` with ``g - c``, and return the sum and the number of the positive entries of ``s + f``."""
    total, count = 0.0, 0.0
    for j in range(s.size):
        gap = g[j] - c[j]
        t = gap + f
        positive = 1.0 if t > 0.0 else 0.0
        s[j] = gap
        count += positive
        total += positive * t
    return total, count


@njit(**INNER)
def _excess(s, f):
    total, count = 0.0, 0.0
    for j in range(s.size):
        t = s[j] + f
        positive = 1.0 if t > 0.0 else 0.0
        count += positive
        total += positive * t
    return total, count


@njit(**INNER)
def _mark(s, limit, marks):
    for j in range(s.size):
        marks[j] = s[j] > limit


@njit(**INNER)
def _compress(s, marks, words, places, values):
    """List the marked entries; ``words`` are eight marks at a time, most of them zero."""
    k = 0
    for w in range((s.size + 7) // 8):
        if words[w] != 0:
            for j in range(8 * w, min(8 * w + 8, s.size)):
                if marks[j]:
                    places[k] = j
                    values[k] = s[j]
                    k += 1
    return k


@njit(**INNER)
def _root(u, f, wanted):
    """The root of ``sum_k (u_k + f)_+ = wanted`` from above: the active sets of Newton's method are nested."""
    before = -1.0
    for _ in range(u.size + 2):
        total, count = _excess(u, f)
        if count == before:
            break
        f -= (total - wanted) / max(count, 1.0)
        before = count
    return f


@njit(**JIT)
def _sweep_chunks(
    k0, k1, chunks, small, scratch, cost, x, y, offset, g, f, wanted, margin, new, squares, begin, end, kept, index,
    slack, partial,
):  # fmt: skip
    """Chunks of rows, each with its row of ``index`` and ``slack`` for what is kept; these are empty to keep nothing.

    After a Newton step the potential is not below the root; after a few, few entries matter.
    """
    n, m, room = wanted.size, g.size, slack.shape[1]
    s, marks, words = scratch[0, :m], scratch[1].view(np.uint8), scratch[1].view(np.uint64)
    values, places = scratch[2, :m], scratch[3].view(np.int64)
    for chunk in range(k0, k1):
        out, at = partial[chunk], 0
        for j in range(m):
            out[j] = 0.0
        words[(m - 1) // 8] = 0
        for i in range(chunk * n // chunks, (chunk + 1) * n // chunks):
            total, count = 0.0, 0.0
            if cost is not None:
                total, count = _gaps(cost[i], g, f[i], s)
            if x is not None:
                costs(None, x, y, offset[i], i, 0, values)
                total, count = _gaps(values, g, f[i], s)
            potential = f[i] - (total - wanted[i]) / max(count, 1.0)
            if count == 0.0:  # nothing is active at the start
                potential = wanted[i] - np.max(s)
            for _ in range(3):
                total, fewer = _excess(s, potential)
                if fewer in (count, 0.0):
                    break
                potential -= (total - wanted[i]) / fewer
                count = fewer
            _mark(s, -potential - margin, marks)
            k = _compress(s, marks, words, places, values)
            potential = _root(values[:k], potential, wanted[i])
            new[i], squares[i], begin[i] = potential, 0.0, at
            fits = at + k <= room
            for r in range(k):
                t = values[r] + potential
                if t > 0.0:
                    out[places[r]] += t
                    squares[i] += t * t
                if fits and t > -margin:
                    index[chunk, at] = places[r]
                    slack[chunk, at] = t
                    at += 1
            end[i] = at
            if room > 0 and not fits:
                at = room + 1  # no room for this row and the next ones
        kept[chunk] = at


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
    rows, most = -(-n // chunks), m * -(-n // chunks)
    while True:
        width = min(room * rows + m, most) if room else 0
        index, slack = np.empty((chunks, width), np.int32), np.empty((chunks, width))
        run_rows(
            _sweep_chunks, n, m, block, xs, with_norms(ys, yo), xo, g, f, wanted, margin, new, squares, begin, end,
            kept, index, slack, partial,
        )  # fmt: skip
        if not room or kept.max() <= width:
            break
        room *= 4
    starts = np.repeat(np.arange(chunks) * width, np.diff(np.arange(chunks + 1) * n // chunks))
    return new, partial.sum(axis=0), squares, (begin + starts, end + starts, index.ravel(), slack.ravel())


def sweep(cost, x, y, scale, f, g, wanted):
    new, c, squares, _ = _sweep_part((cost, x, y, scale), f, g, wanted, 0.0, 0)
    return tuple(u.astype(g.dtype, copy=False) for u in (new, c, squares))


def keeping_sweep(parts, f, g, wanted, margin, room):
    """The pass that also returns, row by row, where ``f_i + g_j - C_ij > -margin``: begins, ends, columns, slacks.

    ``room`` is a guess of their mean number in a row.
    """
    found, first = [], 0
    for i0, i1, part in parts:
        new, c, squares, (begin, end, index, slack) = _sweep_part(part, f[i0:i1], g, wanted[i0:i1], margin, room)
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
