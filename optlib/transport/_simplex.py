"""The network simplex method for transport, priced on short lists of arcs.

Nodes are rows 0..n-1, columns n..n+m-1 and an artificial root n+m. A basis is a spanning tree, given by the parent of
every node; ``flow[w]`` is the flow on the arc between node w and its parent, and 0 at the root. Potentials ``pi`` are
``f`` on rows and ``-g`` on columns: the reduced cost of the arc (i, j) is ``C_ij - pi[i] + pi[n + j]``, and a subtree
shifts by one constant. The root only holds together the components of a degenerate flow: its children are rows, and the
arcs to them carry nothing.

The tree is *strongly feasible*: an arc without flow leads from a row up to its parent. Together with the rule for the
leaving arc in `pivots` this excludes cycling (Cunningham 1976), although most pivots move no flow at all; and no flow
ever gets to the root, because each cycle through it goes down such an arc.

Pricing is by column generation: pivots look at a list of about 24 arcs per row, those of small reduced cost under a
good guess of the dual solution; when the list has no arc left of negative reduced cost, one pass over the cost adds
the violators of all rows or proves that there are none.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib.backend import kernel
from optlib.transport._host_cost import HostCost

_NUMBA = "optlib.transport._emd_numba"

LANES = 16  # rows and columns are searched in classes modulo this
PRICE = 1e-13  # reduced costs above minus this times the spread of the potentials count as nonnegative
SAMPLE_FROM = 250  # rows and columns from which a quarter of both is solved first, for its potentials
LANDMARKS = 4  # rows and columns are alike if their costs to this many columns and rows are
BETWEEN = 20  # pivots per node, at most, between two passes over the cost
PASSES = 1000  # at most; about 10 are needed
ALL_BELOW = 32  # arcs per row and column up to which all are listed
ROUNDS = 4  # of serving what is left over by listed arcs, when the first flow is built


class State(NamedTuple):
    """State of `optlib.transport.emd`, on the n sources and m targets that have mass.

    Attributes
    ----------
    parent : array or None, shape (n + m + 1,)
        The spanning tree; None before the first one.
    flow, pi : array, shape (n + m + 1,)
        Flow to the parents, and potentials.
    rows, cols, costs : array
        The listed arcs.
    at : int
        Where pricing goes on in the list.
    tol : float
        Reduced costs above minus this count as nonnegative.
    dual : array, shape (m,)
        Column potentials of the best dual solution so far, or those to start from.
    bound : float
        Dual objective of that solution.
    supply : array, shape (n + m + 1,)
        Weights of rows and columns, and 0.
    nit, priced, passes : int
        Pivots, pivots at the last pass over the cost, and passes.
    """

    parent: np.ndarray | None
    flow: np.ndarray | None
    pi: np.ndarray | None
    rows: np.ndarray | None
    cols: np.ndarray | None
    costs: np.ndarray | None
    at: int
    tol: float
    dual: np.ndarray | None
    bound: float
    supply: np.ndarray
    nit: int
    priced: int
    passes: int


# -- the method --


def start(cost: HostCost, state: State, *, staircase: bool = False, alike: bool = False) -> State:
    """Find a list of arcs and a first tree.

    Parameters
    ----------
    cost : HostCost
    state : State
        Its supply is read, and its dual solution if there is one.
    staircase : bool
        Whether the coupling that goes through rows and columns in their order is optimal.
    alike : bool
        Whether successive rows are alike, and successive columns.

    Returns
    -------
    State
    """
    n, m = cost.shape
    supply, v, passes = state.supply, state.dual, 1
    root, nothing = np.uint32(n + m), np.empty(0, np.uint32)
    forest = supply[:-1], np.full(n + m + 1, root), np.zeros(n + m + 1)
    pi = np.zeros(n + m + 1)
    if staircase:
        forest = grow(n, nothing, nothing, *(np.arange(k, dtype=np.uint32) for k in (n, m)), *forest, xp=np)
        pi, _ = settle(n, forest[1], tree_costs(cost, forest[1]), pi, supply, xp=np)
        v = -pi[n:-1]
    elif v is None:
        v, passes = np.min(lanes_by_column(cost, np.zeros(n))[0], axis=0), 2
    else:
        v = v - np.mean(v)
    u, best, arg = lanes_by_row(cost, v)
    if not staircase and state.dual is None and min(n, m) >= SAMPLE_FROM:
        w = dual_from_sample(cost, supply, alike)
        others = lanes_by_row(cost, w)
        passes += 1
        if dual_value(others[0], w, supply) > dual_value(u, v, supply):
            v, (u, best, arg) = w, others
    if n * m <= ALL_BELOW * (n + m):
        rows, cols = np.divmod(np.arange(n * m), m)
    else:
        column_best, column_arg = lanes_by_column(cost, u)
        i, lane = np.nonzero(np.isfinite(best))
        column_lane, j = np.nonzero(np.isfinite(column_best))
        rows = np.concatenate([i, column_arg[column_lane, j]])
        cols = np.concatenate([arg[i, lane], j])
        passes += 1
    rows, cols, costs = listed(cost, rows, cols)
    if not staircase:
        forest = first_tree(cost, u, v, rows, cols, costs, forest)
        pi[:n], pi[n:-1] = u, -v
    parent, flow = rows_on_top(n, *forest)
    costs_up = tree_costs(cost, parent)
    for _ in range(2):  # the second time without a constant
        pi, _ = settle(n, parent, costs_up, centred(pi), supply, xp=np)
    return State(
        parent, flow, pi, rows, cols, costs, 0, price_tolerance(pi), v, dual_value(u, v, supply), supply, 0, 0, passes
    )


def advance(cost: HostCost, state: State, budget: int) -> tuple[State, bool]:
    """Pivot at most ``budget`` times; tell whether the tree is optimal."""
    last = state.nit + budget
    while True:
        due = state.priced + BETWEEN * state.pi.size
        parent, flow, pi, at, more = pivots(
            cost.shape[0], *state[:6], state.at, state.tol, min(last, due) - state.nit, xp=np
        )
        state = state._replace(parent=parent, flow=flow, pi=pi, at=at, nit=state.nit + more)
        if state.nit == last:
            return state, False
        state, optimal = price(cost, state)
        if optimal:
            return state, True


def price(cost: HostCost, state: State) -> tuple[State, bool]:
    """Add to the list the arcs of negative reduced cost, the best one per row and lane; tell whether there are none.

    This is also where the potentials are freed from the rounding errors of pivots. Should those ever keep the method
    from coming to an end, the limit on the passes ends it, and the certificate says how good the answer is.
    """
    n = cost.shape[0]
    pi, _ = settle(n, state.parent, tree_costs(cost, state.parent), centred(state.pi), state.supply, xp=np)
    v, tol = -pi[n:-1], price_tolerance(pi)
    u, best, arg = lanes_by_row(cost, v)
    bound = dual_value(u, v, state.supply)
    before, state = state.priced, state._replace(pi=pi, tol=tol, priced=state.nit, passes=state.passes + 1)
    i = np.flatnonzero(u - pi[:n] < -tol)
    if bound > state.bound or i.size == 0:
        state = state._replace(dual=v, bound=bound)
    if i.size == 0 or state.passes >= PASSES:
        return state, True
    k, lane = np.nonzero(best[i] - pi[i, None] < -tol)
    i, j = i[k], arg[i[k], lane]
    old, new = (arc_keys(cost, *arcs) for arcs in ((state.rows, state.cols), (i, j)))
    at = np.searchsorted(old, new)
    fresh = (at == old.size) | (old[np.minimum(at, old.size - 1)] != new)
    if not np.any(fresh):  # all are listed; if no pivot was made they are violators by a rounding error only
        return state, state.nit == before
    i, j, at = i[fresh], j[fresh], at[fresh]
    rows, cols, costs = (
        np.insert(u, at, w) for u, w in zip(state[3:6], (i.astype(np.uint32), j, cost.pairs(i, j)), strict=True)
    )
    return state._replace(rows=rows, cols=cols, costs=costs), False


def dual_from_sample(cost: HostCost, supply: np.ndarray, alike: bool) -> np.ndarray:
    """Column potentials that extend those of a coarser problem, which is solved exactly.

    It has one of every four successive rows with the weights of all four, and so for columns.
    """
    (n, m), rng = cost.shape, np.random.default_rng(0)
    orders = (np.arange(n), np.arange(m)) if alike else neighbours(cost, rng)
    rows, cols = (order[4 * np.arange(order.size // 4) + rng.integers(0, 4, order.size // 4)] for order in orders)
    a, b = (
        np.add.reduceat(w[order], 4 * np.arange(order.size // 4))
        for w, order in zip((supply[:n], supply[n:-1]), orders, strict=True)
    )
    inner = cost.take(rows, cols)
    state, optimal = start(inner, new_state(a, b), alike=True), False
    while not optimal:
        state, optimal = advance(inner, state, 10**9)
    return np.min(lanes_by_column(cost.take(rows, None), state.pi[: rows.size])[0], axis=0)


def neighbours(cost: HostCost, rng: np.random.Generator) -> list[np.ndarray]:
    """Orders of rows and of columns in which successive ones have similar costs to a few landmarks."""
    orders = []
    for axis in (0, 1):
        marks = rng.choice(cost.shape[1 - axis], LANDMARKS, replace=False)
        part = cost.take(None, marks) if axis == 0 else cost.take(marks, None)
        features = np.concatenate([block for _, block in part.blocks()])
        orders.append(z_order(features if axis == 0 else features.T))
    return orders


def z_order(features: np.ndarray) -> np.ndarray:
    """Order of points (rows) along a curve that interleaves the bits of the ranks of their coordinates."""
    n, d = features.shape
    spread, bits = np.zeros(n, np.int64), (n - 1).bit_length()
    for bit in range(max(0, bits - 62 // d), bits):  # the bits of each rank, d places apart
        spread |= ((np.arange(n) >> bit) & 1) << ((bit - bits) * d + 62 // d * d)
    key = np.zeros(n, np.int64)
    for k, order in enumerate(np.argsort(features.T, axis=1, kind="stable")):
        key[order] += spread >> k  # that of each rank, to the point of that rank
    return np.argsort(key, kind="stable")


def first_tree(
    cost: HostCost, u: np.ndarray, v: np.ndarray, rows: np.ndarray, cols: np.ndarray, costs: np.ndarray, forest: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Send along arcs of small reduced cost what there is: listed ones, then those of what is left over."""
    n, nothing = cost.shape[0], np.empty(0, np.uint32)
    reduced, pairs = costs - u[rows] - v[cols], n * cost.shape[1]
    for _ in range(ROUNDS):
        order = np.argsort(reduced)
        forest = grow(n, rows[order], cols[order], nothing, nothing, *forest, xp=np)
        i, j = (np.flatnonzero(left > 0).astype(np.uint32) for left in np.split(forest[0], [n]))
        if i.size * j.size == 0:
            return forest
        if i.size * j.size > 0.8 * pairs:  # too slow
            break
        pairs = i.size * j.size
        _, best, arg = lanes_by_row(cost.take(i, j), v[j])
        k, lane = np.nonzero(np.isfinite(best))
        rows, cols, reduced = i[k], j[arg[k, lane]], best[k, lane] - u[i[k]]
    order = np.argsort(reduced)
    return grow(n, rows[order], cols[order], i, j, *forest, xp=np)


def rows_on_top(n: int, left: np.ndarray, parent: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Let no column be a child of the root, where it could draw mass from nowhere.

    There are some if rounding errors are left over; a row below them takes their place.
    """
    root = parent.size - 1
    for t in n + np.flatnonzero(parent[n:-1] == root):
        below = np.flatnonzero(parent[:n] == t)
        if below.size:
            s = below[np.argmax(flow[below])]
            parent[t], flow[t] = s, flow[s] or left[t]
            parent[s], flow[s] = root, 0.0
    for t in n + np.flatnonzero(parent[n:-1] == root):
        parent[t], flow[t] = np.flatnonzero(parent[:n] == root)[0], left[t]
    return parent, flow


def fits(cost: HostCost, state: State, supply: np.ndarray) -> bool:
    """Whether a state belongs to these weights and to a cost that agrees with its tree and its listed arcs."""
    if not np.array_equal(state.supply, supply):
        return False
    (i, j, _), pi = tree_arcs(cost.shape[0], state.parent), state.pi
    tree = np.abs(cost.pairs(i, j) - pi[i] + pi[cost.shape[0] + j])
    return bool(np.all(tree <= 100 * state.tol)) and np.array_equal(cost.pairs(state.rows, state.cols), state.costs)


def new_state(a: np.ndarray, b: np.ndarray) -> State:
    """The state before the first tree."""
    return State(*6 * [None], 0, 0.0, None, -math.inf, np.concatenate([a, b, [0.0]]), 0, 0, 0)


def centred(pi: np.ndarray) -> np.ndarray:
    """Potentials without a constant that would eat up their digits."""
    return pi - 0.5 * (np.max(pi[:-1]) + np.min(pi[:-1]))


def price_tolerance(pi: np.ndarray) -> float:
    """Tolerance of reduced costs: large costs that are not in use do not count, and constants do not either."""
    return PRICE * float(np.max(pi[:-1]) - np.min(pi[:-1]))


def tree_arcs(n: int, parent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the arcs of a tree that do not end in the root, and the lower nodes of these arcs."""
    w = np.flatnonzero(parent < parent.size - 1)
    p = parent[w].astype(np.int64)
    return np.where(w < n, w, p), np.where(w < n, p, w) - n, w


def tree_costs(cost: HostCost, parent: np.ndarray) -> np.ndarray:
    """Costs of the arcs to the parents (0 at the root)."""
    i, j, w = tree_arcs(cost.shape[0], parent)
    out = np.zeros(parent.size)
    out[w] = cost.pairs(i, j)
    return out


def primal_value(n: int, state: State) -> float:
    """Cost of the flow, from the potentials: arcs of the tree have the reduced cost zero."""
    rise = state.pi - state.pi[state.parent]
    rise[n:] *= -1.0
    return float(np.sum(np.where(state.parent < state.parent.size - 1, state.flow * rise, 0.0)))


def dual_value(u: np.ndarray, v: np.ndarray, supply: np.ndarray) -> float:
    """Dual objective of column potentials and their row minima."""
    return float(u @ supply[: u.size] + v @ supply[u.size : -1])


def listed(cost: HostCost, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort arcs by rows without repetition, and look up their costs."""
    keys = np.sort(arc_keys(cost, i, j))
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    i, j = np.divmod(keys, cost.shape[1])
    return i.astype(np.uint32), j.astype(np.uint32), cost.pairs(i, j)


def arc_keys(cost: HostCost, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Numbers of arcs in the matrix."""
    return i.astype(np.int64) * cost.shape[1] + j


def lanes_by_row(cost: HostCost, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`row_lanes` of all rows."""
    parts = [row_lanes(block, v, xp=np) for _, block in cost.blocks()]
    return parts[0] if len(parts) == 1 else tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def lanes_by_column(cost: HostCost, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`column_lanes` of all rows."""
    best, arg = None, None
    for first, block in cost.blocks():
        other, where = column_lanes(block, u[first : first + block.shape[0]], first, xp=np)
        if best is None:
            best, arg = other, where
        else:
            less = other < best
            best, arg = np.where(less, other, best), np.where(less, where, arg)
    return best, arg


# -- kernels: the references are the definitions --


@kernel(numba=f"{_NUMBA}:row_lanes", match="exact")
def row_lanes(c: np.ndarray, v: np.ndarray, *, xp: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the smallest ``c_ij - v_j`` of every row, overall and among the columns j = l mod 16.

    Returns the minima, shape (n,), and those of the classes with the first columns that have them, shape (n, 16):
    infinity and 0 where no column is in the class.
    """
    best, arg = _lanes(c - v, 0, xp)
    return xp.min(best, axis=1), best, arg


@kernel(numba=f"{_NUMBA}:column_lanes", match="exact")
def column_lanes(c: np.ndarray, u: np.ndarray, first: int, *, xp: Any) -> tuple[np.ndarray, np.ndarray]:
    """Find the smallest ``c_ij - u_i`` of every column among the rows i = l mod 16, and the first row that has it.

    Shape (16, m). The rows given are numbered from ``first`` on.
    """
    best, arg = _lanes((c - u[:, None]).T, first, xp)
    return best.T, arg.T


def _lanes(d: np.ndarray, first: int, xp: Any) -> tuple[np.ndarray, np.ndarray]:
    """Minima of every row in classes of columns, which are numbered from ``first`` on, and where they are."""
    (n, m), before = d.shape, first % LANES
    width = -(-(before + m) // LANES)
    padded = xp.full((n, width * LANES), xp.inf, dtype=d.dtype)
    padded[:, before : before + m] = d
    padded = xp.reshape(padded, (n, width, LANES))
    best, arg = xp.min(padded, axis=1), xp.argmin(padded, axis=1) * LANES + xp.arange(LANES) + (first - before)
    return best, xp.astype(xp.where(xp.isfinite(best), arg, 0), xp.uint32)


@kernel(numba=f"{_NUMBA}:grow", match="exact")
def grow(
    n: int, rows: np.ndarray, cols: np.ndarray, row_order: np.ndarray, col_order: np.ndarray,
    left: np.ndarray, parent: np.ndarray, flow: np.ndarray, *, xp: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Add arcs to a forest: those given, in their order, then a staircase through some rows and columns.

    An arc is used if it joins two components by their roots, a row that has not been exhausted (although nothing may be
    left of it) and a column of which something is left. It takes what both have; the node that is exhausted, the column
    if both are, hangs below the other one. So the flow is a forest, and arcs without flow lead up from rows.

    Returns what is left of every row and column, parents and flows.
    """
    left, parent, flow = (xp.asarray(u, copy=True) for u in (left, parent, flow))
    root = parent.size - 1

    def give(s: int, t: int) -> None:
        low, high = (s, t) if left[s] < left[t] else (t, s)
        parent[low], flow[low] = high, left[low]
        left[high] -= left[low]
        left[low] = 0.0

    for s, t in zip(rows.tolist(), (cols + n).tolist(), strict=True):
        if left[t] > 0 and parent[s] == root:
            give(s, t)
    r, k = 0, 0
    while r < row_order.size and k < col_order.size:
        s, t = int(row_order[r]), n + int(col_order[k])
        if left[t] <= 0:
            k += 1
        elif parent[s] != root:
            r += 1
        else:
            give(s, t)
    return left, parent, flow


@kernel(numba=f"{_NUMBA}:settle", match="sum")
def settle(
    n: int, parent: np.ndarray, costs: np.ndarray, top: np.ndarray, supply: np.ndarray, *, xp: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Potentials and flows that belong to a tree, free of what rounding errors pivots have accumulated.

    The children of the root keep the potentials ``top``, and the root gets 0; ``costs`` are those of the arcs to the
    parents. The flow to the parent is the supply of a node minus the flow from its children.
    """
    root = parent.size - 1
    children: list[list[int]] = [[] for _ in range(root + 1)]
    for w, p in enumerate(parent[:-1].tolist()):
        children[p].append(w)
    order = [root]
    for w in order:
        order.extend(children[w])
    pi, flow = xp.zeros_like(top), xp.asarray(supply, copy=True)
    for w in order[1:]:
        p = int(parent[w])
        pi[w] = top[w] if p == root else pi[p] + (costs[w] if w < n else -costs[w])
    for w in reversed(order[1:]):
        flow[parent[w]] -= flow[w]
    flow[root] = 0.0
    return pi, flow


@kernel(numba=f"{_NUMBA}:pivots", match="exact")
def pivots(
    n: int, parent: np.ndarray, flow: np.ndarray, pi: np.ndarray, rows: np.ndarray, cols: np.ndarray,
    costs: np.ndarray, at: int, tol: float, limit: int, *, xp: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int]:  # fmt: skip
    """Pivot until no listed arc has a reduced cost below ``-tol``, or ``limit`` times.

    The list is priced from arc ``at`` on, in blocks, cyclically; the best arc of a block enters. In the cycle that it
    closes, the flow goes along the arc and back through the tree; of the arcs on which it falls to zero the last one
    leaves, counted from the apex of the cycle in the direction of the flow.

    Returns the new tree, flows and potentials, where pricing stopped, and the number of pivots.
    """
    parent, flow, pi = (xp.asarray(u, copy=True) for u in (parent, flow, pi))
    arcs, root = rows.size, parent.size - 1
    block = max(10, int(0.7 * math.sqrt(arcs)))
    done = scanned = 0
    while scanned < arcs and done < limit:
        stop = min(at + block, arcs)
        i, j = rows[at:stop], cols[at:stop] + xp.uint32(n)
        reduced = costs[at:stop] - pi[i] + pi[j]
        enter = int(xp.argmin(reduced))
        best, i, j = reduced[enter], int(i[enter]), int(j[enter])
        scanned += stop - at
        at = stop if stop < arcs else 0
        if not best < -tol:
            continue
        scanned, done = 0, done + 1
        up, down = path(parent, i, root), path(parent, j, root)
        while up and down and up[-1] == down[-1]:
            up.pop()
            down.pop()
        delta, q, below_row = math.inf, root, True
        for w in up:
            if w < n and flow[w] < delta:
                delta, q = flow[w], w
        for w in down:
            if w >= n and flow[w] <= delta:
                delta, q, below_row = flow[w], w, False
        for w in up:
            flow[w] += -delta if w < n else delta
        for w in down:
            flow[w] += -delta if w >= n else delta
        below = xp.asarray([q in path(parent, w, root) for w in range(root + 1)])
        shift = best if below_row else -best
        if 2 * int(xp.sum(below)) <= pi.size:
            pi[below] += shift
        else:
            pi[~below] -= shift
        w, above, carried = (i, j, delta) if below_row else (j, i, delta)
        while True:  # the nodes from the entering arc up to q turn around
            parent[w], above, up_next = above, w, int(parent[w])
            flow[w], carried = carried, flow[w]
            if w == q:
                break
            w = up_next
    return parent, flow, pi, at, done


def path(parent: np.ndarray, w: int, root: int) -> list[int]:
    """Nodes from ``w`` up to the root, which is left out."""
    nodes = []
    while w != root:
        nodes.append(w)
        w = int(parent[w])
    return nodes
