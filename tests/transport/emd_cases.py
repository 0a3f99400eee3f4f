"""Arguments of the kernels, a contract case and refused calls of the network simplex, and of transport on the line."""

from functools import partial

import numpy as np
from hypothesis import strategies as st

from optlib.datasets import make_transport
from optlib.transport import _simplex as simplex
from optlib.transport import emd as exact
from optlib.transport import emd_entropic as entropic
from optlib.transport import wasserstein_1d


@st.composite
def lanes(draw, by_column):
    """Entries with ties, and a number of the first row."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.sampled_from([1, 5, 16, 70])), draw(st.sampled_from([1, 15, 64, 150]))
    c, v = rng.integers(0, 4, (n, m)).astype(float), rng.integers(0, 3, n if by_column else m).astype(float)
    return (c, v, draw(st.sampled_from([0, 3, 32]))) if by_column else (c, v)


@st.composite
def forests(draw):
    """The arguments of `grow` for integer weights, and the whole matrix of integer costs: nothing is rounded."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    a, b = rng.multinomial(24, np.full(n, 1 / n)) + m, rng.multinomial(24, np.full(m, 1 / m)) + n
    if draw(st.booleans()):  # degenerate
        a, b = np.full(n, m), np.full(m, n)
    k = draw(st.integers(0, n * m))
    arcs = np.divmod(rng.permutation(n * m)[:k], m)
    arrays = *(u.astype(np.uint32) for u in (*arcs, rng.permutation(n), rng.permutation(m))), np.append(a, b) * 1.0
    return (n, *arrays, np.full(n + m + 1, n + m, np.uint32), np.zeros(n + m + 1)), rng.integers(0, 9, (n, m)) * 1.0


@st.composite
def trees(draw):
    """A tree, costs, and the arguments of `settle`."""
    args, cost = draw(forests())
    n, supply = args[0], np.append(args[5], 0.0)
    _, parent, flow = simplex.grow.generic(*args, xp=np)
    i, j, w = simplex.tree_arcs(n, parent)
    costs, top = np.zeros(supply.size), np.where(np.arange(supply.size) < n, 3.0, -2.0)
    costs[w] = cost[i, j]
    return (n, parent, costs, top, supply), flow, cost


@st.composite
def pivoting(draw):
    """A tree, all arcs in any order, where to go on, and a limit."""
    args, flow, cost = draw(trees())
    pi, _ = simplex.settle.generic(*args, xp=np)
    i, j = np.divmod(np.arange(cost.size), cost.shape[1])
    at = draw(st.integers(0, cost.size - 1))
    arcs = i.astype(np.uint32), j.astype(np.uint32), cost.ravel()
    return *args[:2], flow, pi, *arcs, at, 1e-6, draw(st.sampled_from([0, 1, 3, 10**6]))


@st.composite
def clouds(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d, kind = draw(st.integers(1, 5)), draw(st.sampled_from(["sqeuclidean", "euclidean", "lp"]))
    p = draw(st.sampled_from([1.0, 1.5, 3.0])) if kind == "lp" else None
    scale = draw(st.sampled_from([1.0, 0.5])) if kind == "sqeuclidean" else 1.0
    return rng.normal(size=(draw(st.integers(1, 6)), d)), rng.normal(size=(d, draw(st.integers(1, 70)))), kind, scale, p


KERNELS = {
    "transport._host_cost.cloud_rows": clouds(),
    "transport._simplex.row_lanes": lanes(by_column=False),
    "transport._simplex.column_lanes": lanes(by_column=True),
    "transport._simplex.grow": forests().map(lambda drawn: drawn[0]),
    "transport._simplex.settle": trees().map(lambda drawn: drawn[0]),
    "transport._simplex.pivots": pivoting(),
}


def emd(backend):
    """A problem that takes dozens of pivots, with a source that has no mass."""
    problem = make_transport("cloud2d", 16, 13, rng=0)
    a = problem.a.copy()
    a[0], a[1] = 0.0, a[0] + a[1]
    return tuple(backend.asarray(np.asarray(u)) for u in (problem.cost, a, problem.b)), {}


def emd_entropic(backend):
    """A small problem whose levels take few steps."""
    cost, a, b = [[0.0, 1.0, 4.0], [1.0, 0.0, 1.0]], [2.0, 2.0], [2.0, 1.0, 1.0]
    return tuple(backend.asarray(np.asarray(u)) for u in (cost, a, b)), {}


C, X, Y = np.asarray([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0]]), np.asarray([0.0, 1.0]), np.asarray([1.0, 2.0, 4.0])
other = exact(C.T)
BAD_INPUTS = [
    ("emd-nan", partial(exact, C * np.nan), ValueError, "`cost`.*NaN.*finite"),
    ("emd-inf", partial(exact, C + np.inf), ValueError, "`cost`.*inf.*large finite cost"),
    ("emd-huge", partial(exact, C * 1e305), ValueError, "`cost`.*2e.305.*at most 1e.300.*rescale"),
    ("emd-huge-mass", partial(exact, C * 1e200, X + 1e200), ValueError, "`a`.*mass 2e.200.*finite.*rescale"),
    ("emd-masses", partial(exact, C, [1.0, 1.0], [1.0, 1.0, 1.0]), ValueError, "`a, b`.*masses 2 and 3"),
    (
        "emd-init-shape",
        partial(exact, C, init=(Y, X)),
        ValueError,
        "`init`.*shape \\(2,\\).*shape \\(3,\\).*potentials",
    ),
    ("emd-init-other", partial(exact, C, init=other), ValueError, "`init`.*shape \\(2,\\).*shape \\(3,\\)"),
    ("emd-init-state", partial(exact, C, init=other.state), ValueError, "`init`.*state of another problem.*potentials"),
    ("emd-init-nan", partial(exact, C, init=(X, Y * np.nan)), ValueError, "`init`.*NaN.*finite"),
    ("emd-init-text", partial(exact, C, init="cold"), TypeError, "`init`.*real numbers"),
    ("emd-tol", partial(exact, C, tol=-1.0), ValueError, "`tol`.*-1.*>= 0"),
    ("emd-tol-text", partial(exact, C, tol="fine"), TypeError, "`tol`.*'fine'"),
    ("emd-maxiter", partial(exact, C, maxiter=-1), ValueError, "`maxiter`.*-1"),
    ("entropic-nan", partial(entropic, C * np.nan), ValueError, "`cost`.*NaN.*finite"),
    ("entropic-masses", partial(entropic, C, [1.0, 1.0], [1.0, 1.0, 1.0]), ValueError, "`a, b`.*masses 2 and 3"),
    ("entropic-init-text", partial(entropic, C, init="cold"), TypeError, "`init`.*str.*pair of potentials"),
    ("entropic-init-shape", partial(entropic, C, init=(Y, X)), ValueError, "`init`.*shape \\(3,\\).*shape \\(2,\\)"),
    ("entropic-init-other", partial(entropic, C, init=entropic(C.T)), ValueError, "`init`.*another problem"),
    ("entropic-tol", partial(entropic, C, tol=-1.0), ValueError, "`tol`.*-1.*>= 0"),
    ("line-matrix", partial(wasserstein_1d, X, Y, X, 2 * Y), ValueError, "`a, b`.*masses.*equal masses"),
    ("line-p", partial(wasserstein_1d, X, Y, p=0.5), ValueError, "`p`.*0.5.*>= 1.*emd"),
    ("line-nan", partial(wasserstein_1d, X, Y * np.nan), ValueError, "`y`.*NaN"),
    ("line-negative", partial(wasserstein_1d, X, Y, -X), ValueError, "`a`.*-1.*>= 0"),
    ("line-massless", partial(wasserstein_1d, X, Y, 0 * X), ValueError, "`a`.*zero.*positive"),
    ("line-weights", partial(wasserstein_1d, X, Y, Y), ValueError, "`a`.*shape \\(3,\\).*shape \\(..., 2\\)"),
    ("line-number", partial(wasserstein_1d, 1.0, Y), ValueError, "`x`.*shape \\(\\).*at least one point"),
    ("line-empty", partial(wasserstein_1d, X[:0], Y), ValueError, "`x`.*shape \\(0,\\).*at least one point"),
    ("line-lead", partial(wasserstein_1d, C, np.ones((3, 2))), ValueError, "`x, y, a, b`.*shapes.*broadcast"),
    ("line-complex", partial(wasserstein_1d, X + 0j, Y), TypeError, "`x`.*complex.*real"),
]
