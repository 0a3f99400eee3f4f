"""A cost as the network simplex reads it: blocks of rows in float64 on the host, and single entries."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from optlib.backend import kernel, to_device, to_numpy
from optlib.backend.threads import read_only
from optlib.transport.cost import STORED_BYTES, Cost, DenseCost, PointCloud, pairwise, row_blocks

CLOUD_BLOCK = 2**17  # entries of clouds that are formed at a time: they stay in the cache
CLOUD_DIMENSIONS = 8  # above, rows come from matrix products


class HostCost(ABC):
    """Entries of a cost.

    Attributes
    ----------
    shape : (int, int)
    size : float
        Upper bound on the size of the entries.
    """

    def __init__(self, shape: tuple[int, int], size: float) -> None:
        self.shape, self.size = shape, size

    @abstractmethod
    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First rows, and rows, of blocks that cover the matrix in order."""

    def pairs(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Entries of pairs of rows and columns."""
        out = np.empty(i.size)
        for first, block in self.blocks():
            here = np.flatnonzero((i >= first) & (i < first + block.shape[0]))
            out[here] = block[i[here] - first, j[here]]
        return out

    @abstractmethod
    def take(self, rows: np.ndarray | None, cols: np.ndarray | None) -> "HostCost":
        """The cost between some rows and some columns (None: all)."""


class _Matrix(HostCost):
    def __init__(self, array: np.ndarray, size: float) -> None:
        super().__init__(array.shape, size)
        self._array = array

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        yield 0, self._array

    def pairs(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        return self._array[i, j]

    def take(self, rows: np.ndarray | None, cols: np.ndarray | None) -> HostCost:
        part = self._array if rows is None else self._array[rows]
        part = read_only(part if cols is None else part[:, cols])
        return _Matrix(part, self.size)


class _Cloud(HostCost):
    def __init__(self, x: np.ndarray, y: np.ndarray, form: tuple[str, float, float | None], size: float) -> None:
        super().__init__((x.shape[0], y.shape[1]), size)
        self._x, self._y, self._form = x, y, form

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        step = max(16, CLOUD_BLOCK // self.shape[1])
        form = cloud_rows if self._x.shape[1] <= CLOUD_DIMENSIONS else _pairwise
        for i in range(0, self.shape[0], step):
            yield i, _plain(form(self._x[i : i + step], self._y, *self._form, xp=np))

    def pairs(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        step = max(1, CLOUD_BLOCK // self._x.shape[1])
        parts = [self._pairs(i[k : k + step], j[k : k + step]) for k in range(0, i.size, step)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _pairs(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        kind, scale, p = self._form
        gaps = np.abs(self._x[i] - self._y[:, j].T)
        total = np.sum(gaps if p == 1 else gaps ** (p or 2), axis=1)
        return np.sqrt(total) if kind == "euclidean" else scale * total

    def take(self, rows: np.ndarray | None, cols: np.ndarray | None) -> HostCost:
        x = self._x if rows is None else self._x[rows]
        y = self._y if cols is None else np.ascontiguousarray(self._y[:, cols])
        return _Cloud(x, y, self._form, self.size)


class _Blocks(HostCost):
    def __init__(self, cost: Cost, size: float) -> None:
        super().__init__(cost.shape, size)
        self._cost = cost

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        for i0, i1 in row_blocks(self._cost):
            yield i0, _plain(self._cost.rows(i0, i1))

    def take(self, rows: np.ndarray | None, cols: np.ndarray | None) -> HostCost:
        return _Blocks(self._cost.take(rows, cols), self.size)


def host_cost(cost: Cost) -> HostCost:
    """Bring a cost to the host.

    Matrices, and others of at most `STORED_BYTES`, are stored; other clouds are evaluated when their rows are read.

    Parameters
    ----------
    cost : Cost

    Returns
    -------
    HostCost
    """
    size = max(map(abs, cost.bounds()))
    small = 8 * cost.shape[0] * cost.shape[1] <= STORED_BYTES
    if isinstance(cost, PointCloud) and cost.kind != "function":
        cost = to_device(cost, "numpy").astype(np.float64)
        if not small:
            x, y = np.ascontiguousarray(cost.x), np.ascontiguousarray(cost.y.T)
            return _Cloud(x, y, (cost.kind, cost.scale, cost.p), size)
    if small or isinstance(cost, DenseCost):
        return _Matrix(_plain(cost.toarray()), size)
    return _Blocks(cost, size)


def _plain(array: Any) -> np.ndarray:
    """A read-only float64 matrix in C order."""
    return read_only(to_numpy(array).astype(np.float64, copy=False))


@kernel(numba="optlib.transport._emd_numba:cloud_rows", match="sum")
def cloud_rows(x: np.ndarray, y: np.ndarray, kind: str, scale: float, p: float | None, *, xp: Any) -> np.ndarray:
    """Costs between points: those of ``x`` are rows (k, d), those of ``y`` columns (d, m)."""
    return _pairwise(x, y, kind, scale, p, xp=xp)


def _pairwise(x: np.ndarray, y: np.ndarray, kind: str, scale: float, p: float | None, *, xp: Any) -> np.ndarray:
    return pairwise(x, y.T, kind, scale, p, xp=xp)
