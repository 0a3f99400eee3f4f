"""Transport plans with few entries, as exact solvers find them."""

from collections.abc import Callable

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, scatter, to_numpy
from optlib.backend.namespace import asarray_on
from optlib.transport.cost import Cost, row_blocks
from optlib.transport.plan import Plan

Pairs = tuple[np.ndarray, np.ndarray]


class SparsePlan(Plan):
    """A plan that stores its entries: row, column and mass of each.

    Parameters
    ----------
    rows, cols : numpy array of integers, shape (k,)
        Where the entries are, sorted by rows; no pair twice.
    values : array, shape (k,)
        Their masses > 0; library, device and dtype of the plan are those of this array.
    a, b : array, shapes (n,) and (m,)
        The wanted marginals.
    closest : ((array, array), (array, array)), optional
        Rows without entries, and columns to send them to in `barycentric`; rows, and columns without entries.

    Examples
    --------
    >>> from optlib.transport import emd
    >>> plan = emd([[0, 1, 4], [1, 0, 1]], [2, 2], [2, 1, 1]).plan
    >>> rows, cols, values = plan.entries
    >>> for entry in zip(rows.tolist(), cols.tolist(), values.tolist()):
    ...     print(entry)
    (0, 0, 2.0)
    (1, 1, 1.0)
    (1, 2, 1.0)
    """

    def __init__(
        self,
        rows: np.ndarray,
        cols: np.ndarray,
        values: Array,
        a: Array,
        b: Array,
        *,
        closest: tuple[Pairs, Pairs] | None = None,
    ) -> None:
        super().__init__((a.shape[0], b.shape[0]), values)
        nothing = np.empty(0, np.int64)
        self.a, self.b = a, b
        self._host, self._closest = (rows, cols), closest or ((nothing, nothing), (nothing, nothing))
        self._rows, self._cols, self._values = self._index(rows), self._index(cols), values

    @property
    def entries(self) -> tuple[Array, Array, Array]:
        """Rows, columns and masses of the entries, sorted by rows."""
        return self._rows, self._cols, self._values

    @property
    def T(self) -> "SparsePlan":
        """The transposed plan: from targets to sources."""
        rows, cols = self._host
        order = np.argsort(cols, kind="stable")
        values = self.xp.take(self._values, self._index(order), axis=0)
        closest = self._closest[1][::-1], self._closest[0][::-1]
        return SparsePlan(cols[order], rows[order], values, self.b, self.a, closest=closest)

    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded) as an array of shape (i1 - i0, m)."""
        m = self.shape[1]
        first, last = (int(k) for k in np.searchsorted(self._host[0], [i0, i1]))
        index = (self._rows[first:last] - i0) * m + self._cols[first:last]
        flat = scatter.segment_sum(self._values[first:last], index, (i1 - i0) * m, xp=self.xp)
        return self.xp.reshape(flat, (i1 - i0, m))

    def _index(self, host: np.ndarray) -> Array:
        return asarray_on(host, xp=self.xp, dtype=self.xp.int64, device=self.device)

    def _matvec(self, v: Array) -> Array:
        return self._product(v, self._rows, self._cols, self.shape[0])

    def _rmatvec(self, u: Array) -> Array:
        return self._product(u, self._cols, self._rows, self.shape[1])

    def _product(self, v: Array, to: Array, of: Array, n: int) -> Array:
        v = check.array("v", v, xp=self.xp, dtype=self.dtype, device=self.device, finite=False, graph=True)
        values = self._values if v.ndim == 1 else self._values[:, None]
        return scatter.segment_sum(values * self.xp.take(v, of, axis=0), to, n, xp=self.xp)

    def _conditional(self, v: Array) -> Array:
        rows, cols = (self._index(u) for u in self._closest[0])
        return self._matvec(v) + scatter.segment_sum(self.xp.take(v, cols, axis=0), rows, self.shape[0], xp=self.xp)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "SparsePlan":
        return SparsePlan(*self._host, *(move(u) for u in (self._values, self.a, self.b)), closest=self._closest)

    def __repr__(self) -> str:
        return f"SparsePlan({self.shape[0]} x {self.shape[1]}, {self._host[0].size} entries, {self.dtype})"


def closest_pairs(cost: Cost, f: Array, g: Array, i: np.ndarray, j: np.ndarray) -> tuple[Pairs, Pairs]:
    """Where rows and columns without entries send their features: to the other side's point of least reduced cost.

    Parameters
    ----------
    cost : Cost, shape (n, m)
    f, g : array, shapes (n,) and (m,)
        Potentials; very low ones for points that must not be chosen.
    i, j : numpy array of integers, shape (k,)
        The entries of the plan.
    """
    found = []
    for side, u, used in ((cost, g, i), (cost.T, f, j)):
        lonely, nearest = np.flatnonzero(np.bincount(used, minlength=side.shape[0]) == 0), np.empty(0, np.int64)
        if lonely.size:
            part = side.take(lonely)
            gaps = (part.rows(*rows) - u[None, :] for rows in row_blocks(part))
            nearest = np.concatenate([to_numpy(cost.xp.argmin(gap, axis=1)) for gap in gaps])
        found.append((lonely, nearest))
    return found[0], found[1][::-1]
