"""Solves with graph Laplacians whose weights span hundreds of orders of magnitude.

The matrix is the Laplacian of a graph plus a nonnegative diagonal, the *ground*. `approximate_cholesky` eliminates one
vertex after the other, the one of least degree first. Exact elimination of a vertex v with neighbour weights w_t,
ground z and pivot D = z + sum w would join all pairs of neighbours by edges w_s w_t / D; with the weights ascending,
each t is joined instead to one heavier s, drawn with probability w_s / S_t, S_t = sum_{s > t} w_s, by the weight
w_t S_t / D, which is right on average. Only sums and products of positive numbers occur, so couplings of 1e-30 keep
their relative accuracy, and a vertex of degree at most 2 is eliminated exactly: trees and paths cost nothing.

Edge q is kept as two half-edges, 2q in the list of its tail and 2q + 1 in that of its head; elimination only redirects
them, so nothing is allocated. The source is R. Kyng, S. Sachdeva, "Approximate Gaussian elimination for Laplacians"
(FOCS 2016), with the ordering and the merging of parallel edges of later practice.
"""

import numpy as np
from numba import njit

JIT = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "no_cfunc_wrapper": True}
INNER = JIT | {"no_cpython_wrapper": True}
SUM = INNER | {"fastmath": {"reassoc", "contract", "nsz"}}

NONE = -1


@njit(**INNER)
def _random(state):
    """Uniform number in [0, 1) of the generator xorshift64*."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return float((x * np.uint64(2685821657736338717)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit(**INNER)
def _enter_bucket(v, d, first, after, before):
    after[v] = first[d]
    before[v] = NONE
    if first[d] >= 0:
        before[first[d]] = v
    first[d] = v


@njit(**INNER)
def _change_degree(v, by, degree, first, after, before):
    """Move a vertex to the bucket of its new degree, and return that."""
    d = degree[v]
    if before[v] >= 0:
        after[before[v]] = after[v]
    else:
        first[d] = after[v]
    if after[v] >= 0:
        before[after[v]] = before[v]
    degree[v] = d + by
    _enter_bucket(v, d + by, first, after, before)
    return d + by


@njit(**INNER)
def _sort(m, w, a, b):
    """Sort three arrays by the first, ascending (shell sort: the lists are short)."""
    gap = 1
    while gap < m // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for k in range(gap, m):
            x, y, z = w[k], a[k], b[k]
            j = k
            while j >= gap and w[j - gap] > x:
                w[j], a[j], b[j] = w[j - gap], a[j - gap], b[j - gap]
                j -= gap
            w[j], a[j], b[j] = x, y, z
        gap //= 3


@njit(**INNER)
def _grown(x, used, capacity):
    y = np.empty(capacity, x.dtype)
    y[:used] = x[:used]
    return y


@njit(**JIT)
def approximate_cholesky(n, tail, head, weight, ground, seed):
    """Factor the Laplacian of n vertices plus diag(ground): order, and per step the multipliers w / D and pivots D."""
    edges = tail.size
    target, follow = np.empty(2 * edges, np.int32), np.empty(2 * edges, np.int32)
    w, z = weight.copy(), ground.copy()
    start, degree = np.full(n, NONE, np.int32), np.zeros(n, np.int32)
    for q in range(edges):
        u, v = tail[q], head[q]
        target[2 * q], follow[2 * q], start[u] = v, start[u], 2 * q
        target[2 * q + 1], follow[2 * q + 1], start[v] = u, start[v], 2 * q + 1
        degree[u] += 1
        degree[v] += 1
    first = np.full(2 * edges + 1, NONE, np.int32)  # buckets by degree, parallel edges counted one by one
    after, before = np.empty(n, np.int32), np.empty(n, np.int32)
    for v in range(n - 1, -1, -1):
        _enter_bucket(v, degree[v], first, after, before)
    rng = np.full(1, seed, np.uint64)
    capacity = 2 * edges + n + 16
    nbr, mult = np.empty(capacity, np.int32), np.empty(capacity)
    order, pivot, ptr = np.empty(n, np.int32), np.empty(n), np.zeros(n + 1, np.int64)
    place = np.full(n, NONE, np.int64)
    mn, me = np.empty(n, np.int32), np.empty(n, np.int32)  # merged neighbours, one half-edge of v to each
    mw, heavier = np.empty(n), np.empty(n)
    low = 0
    for step in range(n):
        while first[low] < 0:
            low += 1
        v = first[low]
        first[low] = after[v]
        if after[v] >= 0:
            before[after[v]] = NONE
        order[step] = v
        m = 0
        e = start[v]
        while e >= 0:
            u = target[e]
            if u >= 0:
                if place[u] < 0:
                    place[u] = m
                    mn[m], mw[m], me[m] = u, w[e >> 1], e
                    m += 1
                else:  # a parallel edge: merged, and its other half removed
                    mw[place[u]] += w[e >> 1]
                    target[e ^ 1] = NONE
                    low = min(low, _change_degree(u, -1, degree, first, after, before))
            e = follow[e]
        total = z[v]
        for t in range(m):
            place[mn[t]] = NONE
            total += mw[t]
        total = total if total > 0.0 else 1.0  # a vertex without any weight
        pivot[step] = total
        base = ptr[step]
        ptr[step + 1] = base + m
        if base + m > capacity:
            capacity = 2 * (base + m)
            nbr, mult = _grown(nbr, base, capacity), _grown(mult, base, capacity)
        _sort(m, mw, mn, me)
        rest, share = 0.0, z[v] / total
        for t in range(m - 1, -1, -1):
            nbr[base + t], mult[base + t] = mn[t], mw[t] / total
            rest += mw[t]
            heavier[t] = rest  # weight from t on
            z[mn[t]] += mw[t] * share
        for t in range(m):
            u, e = mn[t], me[t]
            new = mw[t] * (heavier[t + 1] / total) if t < m - 1 else 0.0
            if not new > 0.0:
                target[e ^ 1] = NONE
                low = min(low, _change_degree(u, -1, degree, first, after, before))
                continue
            goal = heavier[t + 1] * (1.0 - _random(rng))
            lo, hi = t + 1, m - 1  # the last s with heavier[s] >= goal
            while lo < hi:
                middle = (lo + hi + 1) >> 1
                if heavier[middle] >= goal:
                    lo = middle
                else:
                    hi = middle - 1
            s = mn[lo]
            w[e >> 1] = new
            target[e ^ 1] = s  # u's half-edge leads to s now
            target[e], follow[e], start[s] = u, start[s], e  # and v's half-edge becomes one of s
            _change_degree(s, 1, degree, first, after, before)
    return order, ptr, nbr, mult, pivot


@njit(**INNER)
def _solve_factored(order, ptr, nbr, mult, pivot, r, z):
    """Solve L D L' z = r; ``r`` is overwritten."""
    n = order.size
    for k in range(n):
        v = order[k]
        x = r[v]
        for q in range(ptr[k], ptr[k + 1]):
            r[nbr[q]] += mult[q] * x
        z[v] = x / pivot[k]
    for k in range(n - 1, -1, -1):
        v = order[k]
        s = z[v]
        for q in range(ptr[k], ptr[k + 1]):
            s += mult[q] * z[nbr[q]]
        z[v] = s


@njit(**SUM)
def _dot(x, y):
    s = 0.0
    for j in range(x.size):
        s += x[j] * y[j]
    return s


@njit(**SUM)
def row_dot(value, index, y):
    s = 0.0
    for q in range(value.size):
        s += value[q] * y[index[q]]
    return s


@njit(**INNER)
def _schur(begin, end, index, value, inv_rows, columns, y, out):
    """Out = (diag(columns) - P' diag(inv_rows) P) y."""
    for j in range(y.size):
        out[j] = columns[j] * y[j]
    for i in range(inv_rows.size):
        p, k = value[begin[i] : end[i]], index[begin[i] : end[i]]
        s = inv_rows[i] * row_dot(p, k, y)
        for q in range(p.size):
            out[k[q]] -= p[q] * s


@njit(**JIT)
def schur_diagonal(begin, end, index, value, inv_rows, columns):
    """Diagonal of diag(columns) - P' diag(inv_rows) P."""
    d = columns.copy()
    for i in range(inv_rows.size):
        for q in range(begin[i], end[i]):
            d[index[q]] -= value[q] * value[q] * inv_rows[i]
    return d


@njit(**INNER)
def _precondition(diagonal, order, ptr, nbr, mult, pivot, full, solved, r, z):
    if order.size == 0:
        for j in range(r.size):
            z[j] = r[j] / diagonal[j]
        return
    n = order.size - r.size  # rows first; the right-hand side is zero there
    for i in range(n):  # loops: assignments to slices take a second to compile
        full[i] = 0.0
    for j in range(r.size):
        full[n + j] = r[j]
    _solve_factored(order, ptr, nbr, mult, pivot, full, solved)
    for j in range(r.size):
        z[j] = solved[n + j]


@njit(**JIT)
def conjugate_gradients(
    begin,
    end,
    index,
    value,
    inv_rows,
    columns,
    diagonal,
    order,
    ptr,
    nbr,
    mult,
    pivot,
    rhs,
    y,
    goal,
    maxiter,
    work,
    wide,
):
    """Improve ``y``, in place, towards S y = rhs until r' M^-1 r <= goal^2 times its value at y = 0.

    M is the diagonal, or the factorisation if there is one. ``work`` (4, m) and ``wide`` (2, n + m) are scratch.
    Returns whether the goal was reached.
    """
    m, r, z, p, sp = rhs.size, work[0], work[1], work[2], work[3]
    full, solved = wide[0], wide[1]
    _precondition(diagonal, order, ptr, nbr, mult, pivot, full, solved, rhs, z)
    limit = goal * goal * _dot(rhs, z)
    _schur(begin, end, index, value, inv_rows, columns, y, sp)
    for j in range(m):
        r[j] = rhs[j] - sp[j]
    _precondition(diagonal, order, ptr, nbr, mult, pivot, full, solved, r, z)
    for j in range(m):
        p[j] = z[j]
    rz = _dot(r, z)
    for _ in range(maxiter):
        if not rz > limit:
            return rz <= limit
        _schur(begin, end, index, value, inv_rows, columns, p, sp)
        curvature = _dot(p, sp)
        if not curvature > 0.0:
            return False
        step = rz / curvature
        for j in range(m):
            y[j] += step * p[j]
            r[j] -= step * sp[j]
        _precondition(diagonal, order, ptr, nbr, mult, pivot, full, solved, r, z)
        new = _dot(r, z)
        ratio = new / rz
        for j in range(m):
            p[j] = z[j] + ratio * p[j]
        rz = new
    return rz <= limit


NO_FACTOR = (np.empty(0, np.int32), np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0), np.empty(0))


@njit(**JIT)
def bipartite_edges(begin, end, index, value, m):
    """Edges row -> column (columns numbered behind the rows) with their weights, and the row and column sums."""
    n = begin.size
    total = 0
    for i in range(n):
        total += end[i] - begin[i]
    tail, head, weight = np.empty(total, np.int32), np.empty(total, np.int32), np.empty(total)
    rows, columns = np.zeros(n), np.zeros(m)
    k = 0
    for i in range(n):
        for q in range(begin[i], end[i]):
            tail[k], head[k], weight[k] = i, n + index[q], value[q]
            rows[i] += value[q]
            columns[index[q]] += value[q]
            k += 1
    return tail, head, weight, rows, columns
