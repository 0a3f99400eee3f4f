"""Numba variants of the network simplex: the spanning tree in preorder, pricing, pivots, and lane minima of dense rows.

Nodes are rows 0..n-1, columns n..n+m-1 and an artificial root n+m. Outside of a call the tree is the array of parents
alone; for the pivots of one call it is kept in preorder as well:

``thread``, ``back``
    The next and the previous node in preorder; the root closes the circle.
``last``
    The last node of the subtree of a node, so that ``w, thread[w], ..., last[w]`` are exactly its nodes.
``size``
    The number of nodes of the subtree.

A pivot lets an arc enter, which closes a cycle, and an arc of the cycle leave. The leaving arc joins a node ``q`` to
its parent: the subtree of ``q`` is cut off, re-rooted at the end of the entering arc that it contains (the nodes
between the two, the *stem*, turn around) and hung below the other end. Only pieces of the preorder move, sizes change
up to the *apex* of the cycle (its node closest to the root) and no further, and all potentials of the subtree shift by
one constant: equally well those of all other nodes by the opposite one, so that the smaller of the two sides moves.

Indices of nodes are uint32: signed ones cost a wrap-around test at every hop.
"""

import numpy as np
from numba import njit

JIT = {"cache": True, "nogil": True, "error_model": "numpy"}
INNER = JIT | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # called from compiled code only
U = np.uint32
SQEUCLIDEAN, EUCLIDEAN, LP = 0, 1, 2
LANES, WIDE = 16, 64  # narrower rows of lanes do not fill the registers


# -- the tree --


@njit(**JIT)
def _preorder(parent, thread, back, last, size):
    root = parent.size - 1
    child, sibling = np.full(parent.size, U(root), U), np.full(parent.size, U(root), U)  # the root stands for nobody
    for w in range(root - 1, -1, -1):
        p = parent[w]
        sibling[w] = child[p]
        child[p] = U(w)
    size[:] = 1
    w = previous = U(root)
    while True:
        if child[w] != root:
            w = child[w]
        else:
            while w != root:
                last[w] = previous
                size[parent[w]] += size[w]
                if sibling[w] != root:
                    break
                w = parent[w]
            if w == root:
                break
            w = sibling[w]
        thread[previous] = w
        back[w] = previous
        previous = w
    last[root] = previous
    thread[previous] = U(root)
    back[root] = previous


@njit(**INNER)
def _move(top, p, q, apex, delta, parent, thread, back, last, size, flow):
    """Cut the subtree of q, re-root it at ``top``, hang it below p by an arc with flow ``delta``."""
    root = parent.size - 1
    total, before, end, up = size[q], back[q], last[q], parent[q]
    w = up
    while w != apex:
        size[w] -= total
        w = parent[w]
    w = p
    while w != apex:
        size[w] += total
        w = parent[w]
    # unlink; ancestors that ended with the subtree now end before it
    after = thread[end]
    thread[before] = after
    back[after] = before
    w = up
    while last[w] == end:
        last[w] = before
        if w == root:
            break
        w = parent[w]
    # re-root: the preorder of `top`, then of every next node of the stem what is left of its own
    tail = last[top]
    gap_before, gap_after, gap_end = back[top], thread[tail], tail
    child, stem, child_size, child_flow = top, parent[top], size[top], flow[top]
    parent[top], flow[top], size[top] = p, delta, total
    while child != q:
        stem_before, stem_end, up, old_size, old_flow = back[stem], last[stem], parent[stem], size[stem], flow[stem]
        if stem_end == gap_end:
            rest, stem_after = gap_before, gap_after
        else:
            rest, stem_after = stem_end, thread[stem_end]
            thread[gap_before] = gap_after
            back[gap_after] = gap_before
        thread[tail] = stem
        back[stem] = tail
        tail = rest
        parent[stem], flow[stem], size[stem] = child, child_flow, total - child_size
        child_size, child_flow = old_size, old_flow
        gap_before, gap_after, gap_end = stem_before, stem_after, stem_end
        child, stem = stem, up
    w = q
    while w != top:
        last[w] = tail
        w = parent[w]
    last[top] = tail
    # link behind p
    after = thread[p]
    thread[p] = top
    back[top] = p
    thread[tail] = after
    back[after] = tail
    w = p
    while last[w] == p:
        last[w] = tail
        if w == root:
            break
        w = parent[w]


@njit(**INNER)
def _price(first, stop, shift, rows, cols, costs, pi, best):
    """Arc of smallest reduced cost below ``best`` among those listed from ``first`` to ``stop``, or -1."""
    enter = -1
    for t in range(first, stop):
        reduced = costs[t] - pi[rows[t]] + pi[U(cols[t] + shift)]
        if reduced < best:
            best = reduced
            enter = t
    return enter, best


@njit(**INNER)
def _shift(q, delta, pi, thread, last, size):
    """Add to the potentials below q, or subtract from all others: whichever are fewer."""
    if 2 * size[q] <= pi.size:
        w, end = q, thread[last[q]]
    else:
        w, end, delta = thread[last[q]], q, -delta
    while w != end:
        pi[w] += delta
        w = thread[w]


@njit(**JIT)
def _pivots(n, parent, thread, back, last, size, flow, pi, rows, cols, costs, at, tol, limit):
    arcs = rows.size
    block = max(10, int(0.7 * np.sqrt(arcs)))
    done = scanned = 0
    while scanned < arcs and done < limit:
        stop = min(at + block, arcs)
        enter, reduced = _price(at, stop, U(n), rows, cols, costs, pi, -tol)
        scanned += stop - at
        at = stop if stop < arcs else 0
        if enter < 0:
            continue
        scanned = 0
        done += 1
        i, j = rows[enter], U(cols[enter] + U(n))
        x, y = i, j
        while x != y:
            if size[x] < size[y]:
                x = parent[x]
            else:
                y = parent[y]
        apex = x
        # the last blocking arc from the apex along the entering direction: the tree stays strongly feasible
        delta, q, below_row = np.inf, apex, True
        w = i
        while w != apex:
            if w < n and flow[w] < delta:
                delta, q = flow[w], w
            w = parent[w]
        w = j
        while w != apex:
            if w >= n and flow[w] <= delta:
                delta, q, below_row = flow[w], w, False
            w = parent[w]
        if delta > 0.0:
            w = i
            while w != apex:
                flow[w] += -delta if w < n else delta
                w = parent[w]
            w = j
            while w != apex:
                flow[w] += -delta if w >= n else delta
                w = parent[w]
        _shift(q, reduced if below_row else -reduced, pi, thread, last, size)
        if below_row:
            _move(i, j, q, apex, delta, parent, thread, back, last, size, flow)
        else:
            _move(j, i, q, apex, delta, parent, thread, back, last, size, flow)
    return at, done


@njit(**JIT)
def _settle(n, parent, thread, back, costs, top, supply, pi, flow):
    root = parent.size - 1
    w = thread[root]
    while w != root:
        p = parent[w]
        pi[w] = top[w] if p == root else pi[p] + (costs[w] if w < n else -costs[w])
        flow[w] = supply[w]
        w = thread[w]
    w = back[root]
    while w != root:
        flow[parent[w]] -= flow[w]
        w = back[w]
    pi[root] = flow[root] = 0.0


@njit(**INNER)
def _give(s, t, left, parent, flow):
    """Send what row s and column t both have left; the one that is exhausted hangs below the other."""
    if left[s] < left[t]:
        parent[s], flow[s] = t, left[s]
        left[t] -= left[s]
        left[s] = 0.0
    else:
        parent[t], flow[t] = s, left[t]
        left[s] -= left[t]
        left[t] = 0.0


@njit(**JIT)
def _grow(n, rows, cols, row_order, col_order, left, parent, flow):
    root = parent.size - 1
    for k in range(rows.size):
        s, t = rows[k], U(cols[k] + U(n))
        if left[t] > 0.0 and parent[s] == root:
            _give(s, t, left, parent, flow)
    r = k = 0
    while r < row_order.size and k < col_order.size:
        s, t = row_order[r], U(col_order[k] + U(n))
        if left[t] <= 0.0:
            k += 1
        elif parent[s] != root:
            r += 1
        else:
            _give(s, t, left, parent, flow)


# -- dense rows --


@njit(**INNER)
def _least_by_lane(row, v, best, arg):
    """Smallest ``row_j - v_j`` of each class j mod 64, then of each class j mod 16."""
    for l in range(WIDE):
        best[l] = np.inf
        arg[l] = 0
    whole = row.size // WIDE
    c, w = row[: whole * WIDE].reshape((whole, WIDE)), v[: whole * WIDE].reshape((whole, WIDE))
    for k in range(whole):
        ck, wk, at = c[k], w[k], U(k)
        for l in range(WIDE):
            d = ck[l] - wk[l]
            less = d < best[l]
            best[l] = d if less else best[l]
            arg[l] = at if less else arg[l]
    for l in range(row.size - whole * WIDE):
        d = row[whole * WIDE + l] - v[whole * WIDE + l]
        if d < best[l]:
            best[l] = d
            arg[l] = U(whole)
    for l in range(WIDE):
        arg[l] = U(arg[l] * U(WIDE) + U(l))
    half = WIDE // 2
    while half >= LANES:
        for l in range(half):
            x, y = best[l], best[l + half]
            less = y < x or (y == x and arg[l + half] < arg[l])
            best[l] = y if less else x
            arg[l] = arg[l + half] if less else arg[l]
        half //= 2


@njit(**JIT)
def _row_lanes(c, v, least, best, arg):
    wide, where = np.empty(WIDE, v.dtype), np.empty(WIDE, U)
    for i in range(c.shape[0]):
        _least_by_lane(c[i], v, wide, where)
        least[i] = wide[0]
        for l in range(LANES):
            least[i] = min(least[i], wide[l])
            best[i, l] = wide[l]
            arg[i, l] = where[l] if wide[l] < np.inf else U(0)


@njit(**JIT)
def _column_lanes(c, u, first, best, arg):
    for i in range(c.shape[0]):
        row, ui, at = c[i], u[i], U(first + i)
        lane, where = best[(first + i) % LANES], arg[(first + i) % LANES]
        for j in range(row.size):
            d = row[j] - ui
            less = d < lane[j]
            lane[j] = d if less else lane[j]
            where[j] = at if less else where[j]


@njit(**JIT)
def _cloud_rows(x, y, kind, scale, p, out):
    for i in range(out.shape[0]):
        row = out[i]
        row[:] = 0
        for k in range(x.shape[1]):
            xi, yk = x[i, k], y[k]
            if kind != LP:
                for j in range(row.size):
                    row[j] += (xi - yk[j]) * (xi - yk[j])
            elif p == 1.0:
                for j in range(row.size):
                    row[j] += abs(xi - yk[j])
            else:
                for j in range(row.size):
                    row[j] += abs(xi - yk[j]) ** p
        if kind == EUCLIDEAN:
            for j in range(row.size):
                row[j] = np.sqrt(row[j])
        elif scale != 1.0:
            for j in range(row.size):
                row[j] *= scale


# -- wrappers --


def preorder(parent):
    """Build ``thread, back, last, size`` from the parents."""
    thread, back, last = (np.empty(parent.size, U) for _ in range(3))
    size = np.empty(parent.size, np.int64)
    _preorder(parent, thread, back, last, size)
    return thread, back, last, size


def pivots(n, parent, flow, pi, rows, cols, costs, at, tol, limit):
    parent, flow, pi = parent.copy(), flow.copy(), pi.copy()
    at, done = _pivots(n, parent, *preorder(parent), flow, pi, rows, cols, costs, at, tol, limit)
    return parent, flow, pi, at, done


def settle(n, parent, costs, top, supply):
    pi, flow = np.empty_like(top), np.empty_like(top)
    thread, back, _, _ = preorder(parent)
    _settle(n, parent, thread, back, costs, top, supply, pi, flow)
    return pi, flow


def grow(n, rows, cols, row_order, col_order, left, parent, flow):
    left, parent, flow = left.copy(), parent.copy(), flow.copy()
    _grow(n, rows, cols, row_order, col_order, left, parent, flow)
    return left, parent, flow


def row_lanes(c, v):
    n = c.shape[0]
    least, best, arg = np.empty(n, v.dtype), np.empty((n, LANES), v.dtype), np.empty((n, LANES), U)
    _row_lanes(c, v, least, best, arg)
    return least, best, arg


def column_lanes(c, u, first):
    best, arg = np.full((LANES, c.shape[1]), np.inf, u.dtype), np.zeros((LANES, c.shape[1]), U)
    _column_lanes(c, u, first, best, arg)
    return best, arg


def cloud_rows(x, y, kind, scale, p):
    out = np.empty((x.shape[0], y.shape[1]), x.dtype)
    form = {"sqeuclidean": SQEUCLIDEAN, "euclidean": EUCLIDEAN, "lp": LP}[kind]
    _cloud_rows(x, y, form, x.dtype.type(scale), x.dtype.type(p or 2), out)
    return out
