"""Observed entries of a matrix: sampling, its adjoint, and the kernels of completion."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, device_of, kernel, linalg, random, scatter
from optlib.backend.namespace import asarray_on
from optlib.sensing.operators import SensingOperator, _check_sizes, _host_indices


class EntrySampling(SensingOperator):
    """The entries of a matrix at given places: matrix completion.

    Parameters
    ----------
    rows, cols : sequence of int, shape (m,)
        Places, each at most once. Those sorted by row are fastest.
    matrix_shape : tuple of int
        Rows and columns (n1, n2).
    like : array, optional
        Library, device and dtype; NumPy float64 by default.

    Attributes
    ----------
    rows, cols : array, shape (m,)

    Raises
    ------
    ValueError, TypeError
        For places outside of the matrix, or named twice, and for no place at all.

    Notes
    -----
    Cost O(m k) for factors with k columns; the n1 x n2 matrix is never built. The measurements are the entries
    themselves, so `isotropy` is the observed fraction m / (n1 n2) and not 1; the solvers divide by it. Sampling is no
    restricted isometry: recovery needs factors that are spread out (incoherent).

    Examples
    --------
    >>> from optlib.sensing import EntrySampling
    >>> A = EntrySampling([0, 0, 2], [0, 1, 1], (3, 2))
    >>> A.forward([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    array([1., 2., 6.])
    >>> A.adjoint_matmul([1.0, 1.0, 1.0], [[1.0], [10.0]])
    array([[11.],
           [ 0.],
           [10.]])
    """

    def __init__(self, rows: Any, cols: Any, matrix_shape: tuple[int, int], *, like: Array | None = None) -> None:
        n1, n2 = _check_sizes(matrix_shape, 1)
        i, j = _host_indices("rows", rows, n1), _host_indices("cols", cols, n2)
        if i.size == 0:
            raise check.error("rows", "no places", "at least one", "at least one measurement is needed")
        if i.size != j.size:
            raise check.error("cols", f"{j.size} indices", f"{i.size}, as many as rows")
        flat = i * n2 + j
        if not np.all(flat[1:] > flat[:-1]) and np.unique(flat).size < flat.size:
            raise check.error("rows, cols", "a place named twice", "every place once", "average repeated observations")
        like = check.template("like", like)
        super().__init__((n1, n2), i.size, like)
        self.rows, self.cols = (asarray_on(u, xp=self.xp, dtype=self.xp.int64, device=self.device) for u in (i, j))
        self._groups: dict[int, tuple[Array, Array, Array]] = {}

    def _forward(self, X: Array) -> Array:
        return self.xp.take(self.xp.reshape(X, (-1,)), self.rows * self.matrix_shape[1] + self.cols, axis=0)

    def _adjoint(self, z: Array) -> Array:
        flat = scatter.segment_sum(z, self.rows * self.matrix_shape[1] + self.cols, self.shape[1], xp=self.xp)
        return self.xp.reshape(flat, self.matrix_shape)

    def _forward_factored(self, F: Array, G: Array) -> Array:
        return sampled_product(F, G, self.rows, self.cols, xp=self.xp)

    def _adjoint_matmul(self, z: Array, G: Array) -> Array:
        return weighted_rows(z, G, self.rows, self.cols, self.matrix_shape[0], xp=self.xp)

    def _adjoint_rmatmul(self, z: Array, F: Array) -> Array:
        return weighted_rows(z, F, self.cols, self.rows, self.matrix_shape[1], xp=self.xp)

    def _gradient(self, F: Array, G: Array, y: Array) -> tuple[Array, Array, Array]:
        return completion_gradient(F, G, self.rows, self.cols, y, xp=self.xp)

    def _sides(self, U: Array, V: Array) -> tuple[Array, Array]:
        xp = self.xp
        parts = []
        for index, n, other in (
            (self.rows, 0, xp.take(V, self.cols, axis=0)),
            (self.cols, 1, xp.take(U, self.rows, axis=0)),
        ):
            every = xp.arange(self.matrix_shape[n], dtype=xp.int64, device=self.device)
            parts.append(xp.astype(every[None, :] == index[:, None], self.dtype)[:, :, None] * other[:, None, :])
        return parts[0], parts[1]

    def _isotropy(self) -> float:
        return self.shape[0] / self.shape[1]

    def norm(self, *, iterations: int = 30, rng: Any = 0) -> float:
        """Return the largest singular value, which is known: entries are copied.

        Parameters
        ----------
        iterations, rng : object
            Not needed.

        Returns
        -------
        float
        """
        return 1.0

    def degrees(self) -> tuple[Array, Array]:
        """Numbers of observed entries of the rows and of the columns.

        Returns
        -------
        rows, columns : array, shapes (n1,) and (n2,)
        """
        ones = self.xp.ones(self.shape[0], dtype=self.dtype, device=self.device)
        n1, n2 = self.matrix_shape
        return scatter.segment_sum(ones, self.rows, n1, xp=self.xp), scatter.segment_sum(
            ones, self.cols, n2, xp=self.xp
        )

    def grouped(self, side: int) -> tuple[Array, Array, Array]:
        """Entries in the order of the rows (side 0) or of the columns (side 1); found once and kept.

        Returns
        -------
        order : array, shape (m,)
            Entries, one row or column after the other.
        starts : array, shape (n1 + 1,) or (n2 + 1,)
            Where those of a row or column begin in that order.
        source : array, shape (m,)
            Index on the other side, in that order.
        """
        if side not in self._groups:
            xp, (to, source) = self.xp, (self.rows, self.cols)[:: 1 - 2 * side]
            order = xp.argsort(to)
            every = xp.arange(self.matrix_shape[side] + 1, dtype=xp.int64, device=self.device)
            starts = xp.searchsorted(xp.take(to, order, axis=0), every)
            self._groups[side] = order, starts, xp.take(source, order, axis=0)
        return self._groups[side]

    def _derive(self, rows: Array, cols: Array, like: Array) -> "EntrySampling":
        made = EntrySampling.__new__(EntrySampling)
        SensingOperator.__init__(made, self.matrix_shape, rows.shape[0], like)
        made.rows, made.cols, made._groups = rows, cols, {}
        made._cached_isotropy = self.isotropy
        return made

    def _part(self, i0: int, i1: int) -> "EntrySampling":
        like = self.xp.empty(0, dtype=self.dtype, device=self.device)
        return self._derive(self.rows[i0:i1], self.cols[i0:i1], like)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "EntrySampling":
        like = move(self.xp.empty(0, dtype=self.dtype, device=self.device))
        rows, cols = move(self.rows), move(self.cols)
        if rows.dtype == like.dtype:  # a cast of the values leaves the places as they are
            rows, cols = self.rows, self.cols
        return self._derive(rows, cols, like)


class Side:
    """Least squares for one factor: the observations by rows (side 0) or by columns (side 1).

    Parameters
    ----------
    A : EntrySampling
    y : array, shape (m,)
    side : {0, 1}
    """

    def __init__(self, A: EntrySampling, y: Array, side: int) -> None:
        self.xp, self.n = A.xp, A.matrix_shape[side]
        order, self.starts, self.source = A.grouped(side)
        self.y = A.xp.take(y, order, axis=0)

    def solve(self, fixed: Array, ridge: Any, y: Array | None = None) -> Array:
        """Rows of the factor, given those of the other one; with a penalty, and for other observations if given."""
        ridge = ridge + self.xp.zeros((self.n, fixed.shape[1]), dtype=fixed.dtype, device=fixed.device)
        return solve_rows(fixed, self.starts, self.source, self.y if y is None else y, ridge, xp=self.xp)


def random_entries(
    matrix_shape: tuple[int, int], m: int, *, rng: Any = None, like: Array | None = None
) -> EntrySampling:
    """Sample m places of a matrix uniformly, without replacement, sorted by row.

    Parameters
    ----------
    matrix_shape : tuple of int
    m : int
        At most n1 n2.
    rng : seed or Generator, optional
    like : array, optional
        Library, device and dtype; NumPy float64 by default.

    Returns
    -------
    EntrySampling
        Places sorted by row.

    Examples
    --------
    >>> from optlib.sensing import random_entries
    >>> random_entries((6, 5), 20, rng=0).isotropy
    0.6666666666666666
    """
    i, j = draw_places(matrix_shape, m, rng)
    return EntrySampling(i, j, matrix_shape, like=like)


def draw_places(matrix_shape: tuple[int, int], m: int, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Draw m different places, sorted, in memory O(m)."""
    n1, n2 = _check_sizes(matrix_shape, m)
    check.scalar("m", m, high=n1 * n2, integer=True)
    flat = np.sort(random.as_generator(rng).choice(n1 * n2, m, replace=False, shuffle=False))
    return flat // n2, flat % n2


@kernel(numba="optlib.sensing._entries_numba:sampled_product", match="sum")
def sampled_product(F: Array, G: Array, rows: Array, cols: Array, *, xp: Any) -> Array:
    """Entries of ``F G'`` at given places.

    Parameters
    ----------
    F, G : array, shapes (n1, k) and (n2, k)
    rows, cols : int64 array, shape (m,)
    xp : module

    Returns
    -------
    array, shape (m,)
    """
    return xp.sum(xp.take(F, rows, axis=0) * xp.take(G, cols, axis=0), axis=1)


@kernel(numba="optlib.sensing._entries_numba:weighted_rows", match="sum")
def weighted_rows(z: Array, G: Array, to: Array, source: Array, n: int, *, xp: Any) -> Array:
    """Sum weighted rows of a matrix: row ``to[l]`` of the result gets ``z[l] G[source[l]]``.

    Parameters
    ----------
    z : array, shape (m,)
    G : array, shape (n2, k)
    to, source : int64 array, shape (m,)
    n : int
        Rows of the result.
    xp : module

    Returns
    -------
    array, shape (n, k)
    """
    return scatter.segment_sum(z[:, None] * xp.take(G, source, axis=0), to, n, xp=xp)


@kernel(numba="optlib.sensing._entries_numba:completion_gradient", match="sum")
def completion_gradient(
    F: Array, G: Array, rows: Array, cols: Array, y: Array, *, xp: Any
) -> tuple[Array, Array, Array]:
    """Residual ``r`` of the entries of ``F G'``; sums of ``r_l G[cols_l]`` by row and of ``r_l F[rows_l]`` by column.

    Parameters
    ----------
    F, G : array, shapes (n1, k) and (n2, k)
    rows, cols : int64 array, shape (m,)
    y : array, shape (m,)
    xp : module

    Returns
    -------
    residual : array, shape (m,)
    grad_F, grad_G : array, shapes (n1, k) and (n2, k)
    """
    left, right = xp.take(F, rows, axis=0), xp.take(G, cols, axis=0)
    residual = xp.sum(left * right, axis=1) - y
    grad_F = scatter.segment_sum(residual[:, None] * right, rows, F.shape[0], xp=xp)
    return residual, grad_F, scatter.segment_sum(residual[:, None] * left, cols, G.shape[0], xp=xp)


@kernel(numba="optlib.sensing._entries_numba:row_grams", match="sum")
def row_grams(G: Array, to: Array, source: Array, n: int, *, xp: Any) -> Array:
    """Sum outer products: matrix ``to[l]`` of the result gets ``g g'`` with ``g = G[source[l]]``.

    Parameters
    ----------
    G : array, shape (n2, k)
    to, source : int64 array, shape (m,)
    n : int
        Matrices of the result.
    xp : module

    Returns
    -------
    array, shape (n, k, k)
    """
    g = xp.take(G, source, axis=0)
    if G.shape[1] == 0:
        return xp.zeros((n, 0, 0), dtype=G.dtype, device=device_of(G))
    return xp.stack([scatter.segment_sum(g * g[:, a : a + 1], to, n, xp=xp) for a in range(G.shape[1])], axis=1)


@kernel(numba="optlib.sensing._entries_numba:solve_rows", match="sum")
def solve_rows(G: Array, starts: Array, source: Array, y: Array, ridge: Array, *, xp: Any) -> Array:
    """Ridge regression of every row: the least ``sum_l (x . G[source[l]] - y[l])^2 + sum_a ridge[i, a] x[a]^2``.

    Parameters
    ----------
    G : array, shape (n2, k)
    starts : int64 array, shape (n + 1,)
        Row i has the entries from ``starts[i]`` to ``starts[i + 1]``.
    source : int64 array, shape (m,)
    y : array, shape (m,)
    ridge : array, shape (n, k)
        Raised by rounding errors of the squares, so that the system of a row with few entries can be solved.
    xp : module

    Returns
    -------
    array, shape (n, k)
        Rows without entries are zero; NaN where there is no answer in this precision.
    """
    n, k = starts.shape[0] - 1, G.shape[1]
    every = xp.arange(y.shape[0], dtype=xp.int64, device=device_of(y))
    to = xp.searchsorted(starts, every, side="right") - 1
    grams = row_grams(G, to, source, n, xp=xp)
    trace = xp.sum(xp.linalg.diagonal(grams), axis=1)
    floor = 64.0 * xp.finfo(G.dtype).eps * xp.where(trace > 0, trace, xp.ones_like(trace))
    eye = xp.eye(k, dtype=G.dtype, device=device_of(G))
    shift = (ridge + floor[:, None])[:, :, None] * eye
    rhs = weighted_rows(y, G, to, source, n, xp=xp)
    return linalg.solve(grams + shift, rhs[:, :, None], xp=xp, check=False)[:, :, 0]
