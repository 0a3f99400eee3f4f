"""The nearest metric, and the relaxation of correlation clustering: problems with all triangle inequalities."""

from functools import partial
from typing import Any

import numpy as np

from optlib._core import Result
from optlib._core import validation as check
from optlib.backend import Array, device_of, kernel, supports
from optlib.online.project_and_forget import Constraints, ProjectState, project_onto


@kernel(numba="optlib.online._projections_numba:shortest_paths", match="exact")
def shortest_paths(x: Array, *, xp: Any) -> tuple[Array, Array]:
    """Lengths of the shortest paths between all pairs, and the next stop of each (Floyd and Warshall).

    Parameters
    ----------
    x : array, shape (n, n)
        Lengths >= 0 of the edges, 0 on the diagonal.
    xp : module
        Namespace.

    Returns
    -------
    distance : array, shape (n, n)
        Lengths of the paths.
    following : int64 array, shape (n, n)
        The node after u on the path from u to v.
    """
    n = x.shape[0]
    following = xp.broadcast_to(xp.arange(n, dtype=xp.int64, device=device_of(x))[None, :], (n, n))
    for k in range(n):
        longer = x[:, k][:, None] + x[k, :][None, :]
        shorter = longer < x
        following = xp.where(shorter, following[:, k][:, None], following)
        x = xp.where(shorter, longer, x)
    return x, following


@kernel(numba="optlib.online._projections_numba:cycles", match="exact")
def cycles(edges: Array, following: Array, *, xp: Any) -> tuple[Array, Array, Array]:
    """Inequalities ``x_uv <= sum of the path from u to v``, on the coordinates ``min n + max`` of the edges.

    Parameters
    ----------
    edges : int64 array, shape (k, 2)
        Pairs u, v.
    following : int64 array, shape (n, n)
        The node after u on the path from u to v.
    xp : module
        Namespace.

    Returns
    -------
    data, indices, indptr : array
        Compressed rows.
    """
    n = following.shape[0]
    data, indices, indptr = [], [], [0]
    for u, v in zip(edges[:, 0].tolist(), edges[:, 1].tolist(), strict=True):
        data.append(1.0)
        indices.append(min(u, v) * n + max(u, v))
        while u != v:
            w = int(following[u, v])
            data.append(-1.0)
            indices.append(min(u, w) * n + max(u, w))
            u = w
        indptr.append(len(data))
    return xp.asarray(data, dtype=xp.float64), xp.asarray(indices, dtype=xp.int64), xp.asarray(indptr, dtype=xp.int64)


class MetricOracle:
    """The oracle of the triangle inequalities of ``n`` points, of ``x >= 0`` and perhaps of ``x <= upper``.

    A point is the matrix in one row; only the entries above the diagonal count. For every pair whose distance is longer
    than a path it returns the inequality of the shortest path.

    Parameters
    ----------
    n : int
        Number of points.
    upper : float, optional
        Bound on the distances.
    """

    def __init__(self, n: int, upper: float | None = None) -> None:
        self.n = n = check.scalar("n", n, low=1, integer=True)
        self.upper = upper = None if upper is None else check.scalar("upper", upper)
        self.identity = (n, upper)
        self._above = np.triu(np.ones((n, n), bool), 1)

    def __call__(self, x: np.ndarray) -> Constraints:
        """Return the constraints that ``x`` violates."""
        xp, n = check.common()[0], self.n
        matrix = np.where(self._above, x.reshape(n, n), 0.0)
        lengths = np.maximum(matrix + matrix.T, 0.0)
        distance, following = shortest_paths(lengths, xp=xp)
        edges = np.argwhere((lengths > distance) & self._above)
        data, indices, indptr = cycles(edges, following, xp=xp)
        below = np.flatnonzero(self._above & (matrix < 0.0))
        above = below[:0] if self.upper is None else np.flatnonzero(self._above & (matrix > self.upper))
        bounds = np.concatenate([np.zeros(len(edges) + below.size), np.full(above.size, self.upper or 0.0)])
        return Constraints(
            np.concatenate([data, np.full(below.size, -1.0), np.ones(above.size)]),
            np.concatenate([indices, below, above]),
            np.concatenate([indptr, indptr[-1] + 1 + np.arange(below.size + above.size)]),
            bounds,
        )


def _symmetric(name: str, value: Any) -> tuple[np.ndarray, Any]:
    """Check a symmetric matrix; also return its dtype."""
    xp, _, dtype = check.common(**{name: value})
    if xp is not check.common()[0]:
        raise check.error(name, f"an array of {xp.__name__}", "a NumPy array", "use optlib.to_device", TypeError)
    a = check.array(name, value, xp=xp, ndim=2, dtype=xp.float64)
    if a.shape[0] != a.shape[1] or not a.size:
        raise check.error(name, f"shape {a.shape}", "a square matrix")
    if not np.all(np.abs(a - a.T) <= 1e-6 * np.max(np.abs(a))):
        raise check.error(name, "a matrix that is not symmetric", "a symmetric one", "use (a + a.T) / 2")
    return 0.5 * (a + a.T), dtype


@supports(backends=("numpy",), sequential=True)
def metric_nearness(
    distances: Array,
    *,
    weights: Any = None,
    sweeps: int = 20,
    init: Any = None,
    tol: float | None = 1e-8,
    maxiter: int = 1000,
    check_every: int = 1,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Find the metric nearest to a table of dissimilarities in (weighted) least squares.

    Parameters
    ----------
    distances : array, shape (n, n)
        Symmetric; negative entries are allowed, the diagonal does not matter.
    weights : array, shape (n, n), optional
        Symmetric, > 0 above the diagonal; by default 1.
    sweeps : int
        Passes over the remembered inequalities per iteration.
    init : Result or ProjectState, optional
        A result to continue.
    tol : float or None
        Tolerance of the largest violation of a path inequality, relative to the largest dissimilarity, and of the
        duality gap; None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x``, the metric, shape (n, n); ``fun``, half the weighted squared distance (each pair counts once); the
        certificate is its duality gap.

    Notes
    -----
    `project_and_forget` with all-pairs shortest paths as oracle: of the n^3 triangle inequalities only the few that
    are active are ever stored.

    Stopping: as in `project_and_forget`.

    Cost: ``2 n^3`` operations for the shortest paths per iteration.

    When not to use it: for Euclidean distances use multidimensional scaling.

    References
    ----------
    .. [1] R. Sonthalia, A. C. Gilbert, JMLR 23 (2022), Algorithm 4. J. Brickell, I. Dhillon, S. Sra, J. Tropp, "The
       metric nearness problem", SIMAX 30 (2008).

    Examples
    --------
    >>> from optlib.online import metric_nearness
    >>> metric_nearness([[0.0, 1.0, 4.0], [1.0, 0.0, 1.5], [4.0, 1.5, 0.0]]).x
    array([[0. , 1.5, 3.5],
           [1.5, 0. , 2. ],
           [3.5, 2. , 0. ]])
    """
    target, dtype = _symmetric("distances", distances)
    n = target.shape[0]
    w = np.ones((n, n)) if weights is None else _symmetric("weights", weights)[0]
    above = np.triu(np.ones((n, n), bool), 1)
    if not np.all(w[above] > 0.0):
        raise check.error("weights", "an entry that is not positive", "numbers > 0 above the diagonal")
    return project_onto(
        np.where(above, target, 0.0).reshape(-1), np.where(above, w, 1.0).reshape(-1), MetricOracle(n),
        "metric_nearness", partial(_as_matrix, n=n, dtype=dtype), sweeps=sweeps, init=init, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


@supports(backends=("numpy",), sequential=True)
def correlation_clustering(
    weights: Array,
    *,
    reg: float = 0.02,
    sweeps: int = 20,
    init: Any = None,
    tol: float | None = 2e-2,
    maxiter: int = 1000,
    check_every: int = 1,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Cluster by similarities and dissimilarities: the linear programming relaxation, and a rounding of it.

    Minimises over partitions the weights of similar pairs that are apart plus those of dissimilar pairs together. The
    relaxation has :math:`x_{uv} \in [0, 1]` with all triangle inequalities in the place of "apart".

    Parameters
    ----------
    weights : array, shape (n, n)
        Symmetric: > 0 for similar pairs, < 0 for dissimilar ones.
    reg : float
        Strength of the quadratic term ``reg / 2 sum |w| x^2`` that makes the relaxation a projection. It shifts the
        value by at most ``reg / 2 sum |w|``.
    sweeps : int
        Passes over the remembered inequalities per iteration.
    init : Result or ProjectState, optional
        A result to continue.
    tol : float or None
        Tolerance of the gap of the linear program relative to ``sum |w|``, and of the violation of its inequalities;
        about ``reg`` is possible. None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x``, the relaxed distances, shape (n, n); ``labels``, the clusters, and ``cost``, what they cost; ``fun``, the
        value of the linear program; ``lower_bound``, a proven lower bound of it and thus of every clustering. The
        certificate is the gap between the last two.

    Notes
    -----
    `project_and_forget`. The lower bound is the dual value of the linear program at the multipliers. Rounding: each
    node in turn opens a cluster of the free nodes closer than 1/2, from every node as the first; the cheapest is taken.

    Stopping: gap and violation within ``tol``.

    Cost: ``2 n^3`` operations for the shortest paths per iteration; n^3 at the end for the rounding.

    When not to use it: for n above a few thousand, where no relaxation with all triangles is feasible.

    References
    ----------
    .. [1] N. Bansal, A. Blum, S. Chawla, "Correlation clustering", 2004. N. Veldt, D. Gleich, A. Wirth, J. Saunderson,
       "Metric-constrained optimization for graph clustering algorithms", SIMODS 1 (2019).
    .. [2] R. Sonthalia, A. C. Gilbert, JMLR 23 (2022), section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import correlation_clustering
    >>> together = np.kron(np.eye(2), np.ones((3, 3))) * 2.0 - 1.0
    >>> res = correlation_clustering(together)
    >>> res.labels, res.cost
    (array([0, 0, 0, 1, 1, 1]), 0.0)
    """
    signed, dtype = _symmetric("weights", weights)
    reg = check.scalar("reg", reg, low=0.0, low_open=True)
    n = signed.shape[0]
    above = np.triu(np.ones((n, n), bool), 1)
    cost = np.where(above, signed, 0.0).reshape(-1)
    w = np.abs(cost)
    unit = float(np.sum(w)) or 1.0
    w = np.where(w > 0.0, w, np.max(w) or 1.0)  # where nothing is wanted, x stays near 0
    apart = float(np.sum(np.maximum(-cost, 0.0)))

    def values(state: ProjectState) -> tuple[float, float]:
        """Return the value of the linear program and its lower bound by the multipliers of the paths."""
        slope = cost.copy()
        lengths = np.diff(state.indptr)
        paths = np.repeat(lengths > 1, lengths)
        np.add.at(slope, state.indices[paths], reg * (np.repeat(state.z, lengths) * state.data)[paths])
        return float(np.sum(cost * state.x)) + apart, float(np.sum(np.minimum(slope, 0.0))) + apart

    def quality(state: ProjectState, found: Constraints) -> tuple[float, ...]:
        value, bound = values(state)
        return abs(value - bound), unit, float(np.max(found.violations(state.x), initial=0.0))

    def extras(state: ProjectState) -> dict[str, Any]:
        value, bound = values(state)
        labels, price = _round(_as_matrix(state.x, n, np.float64), signed)
        return {"fun": value, "lower_bound": bound, "labels": labels, "cost": price}

    return project_onto(
        -cost / (reg * w), w, MetricOracle(n, 1.0), "correlation_clustering", partial(_as_matrix, n=n, dtype=dtype),
        quality=quality, kind="lp_gap", extras=extras, sweeps=sweeps, init=init, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


def _round(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the cheapest of the clusterings that begin with each node, and its cost."""
    n, best, price = x.shape[0], np.zeros(x.shape[0], np.int64), np.inf
    for first in range(n):
        labels = np.full(n, -1)
        for u in [first, *range(n)]:
            if labels[u] < 0:
                labels[(labels < 0) & (x[u] < 0.5)] = u
        together = labels[:, None] == labels[None, :]
        cost = 0.5 * float(np.sum(np.where(together, np.maximum(-weights, 0.0), np.maximum(weights, 0.0))))
        cost -= 0.5 * float(np.sum(np.maximum(-np.diagonal(weights), 0.0)))
        if cost < price - 1e-12:
            best, price = labels, cost
    return np.unique(best, return_inverse=True)[1], price


def _as_matrix(x: np.ndarray, n: int, dtype: Any) -> np.ndarray:
    upper = np.triu(x.reshape(n, n), 1)
    return (upper + upper.T).astype(dtype)
