"""Costs of moving mass from n sources to m targets: dense arrays, and point clouds that never store n x m entries."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import array_api_compat as compat

from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib.backend import Array, Portable, array_namespace, as_floating, device_of, kernel, to_numpy

STORED_BYTES = 2**25  # entries of a cloud, or of its kernel, that are stored rather than evaluated again and again

POINT_COSTS = ("sqeuclidean", "euclidean", "lp", "cosine")


class Cost(Portable, ABC):
    """A cost of n x m entries, given block by block.

    Attributes
    ----------
    shape : (int, int)
    dtype : dtype
    device : object
    xp : module
        The array namespace.
    kind : str
        ``"dense"``, ``"sqeuclidean"``, ``"euclidean"``, ``"lp"``, ``"function"`` or ``"grid"``: the formula of the
        entries.
    """

    shape: tuple[int, int]
    dtype: Any
    device: Any
    xp: Any
    kind: str
    _bounds: tuple[float, float] | None = None

    @property
    @abstractmethod
    def T(self) -> "Cost":
        """The transposed cost: a view."""

    @abstractmethod
    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded) as an array of shape (i1 - i0, m)."""

    @abstractmethod
    def take(self, rows: Any = None, cols: Any = None) -> "Cost":
        """The cost between some sources and some targets (sequences of integers; None: all)."""

    @abstractmethod
    def astype(self, dtype: Any) -> "Cost":
        """The same cost in another precision."""

    def bounds(self) -> tuple[float, float]:
        """Numbers below and above all entries (computed once).

        Exact for dense costs and user functions. For named costs of point clouds a bound from the bounding boxes and
        balls of the clouds, in O((n + m) d): the upper one is usually within a factor 2 of the largest entry.
        """
        if self._bounds is None:
            low, high = self._find_bounds()
            if not (math.isfinite(low) and math.isfinite(high)):
                raise _not_finite(low, high)
            self._bounds = low, high
        return self._bounds

    def _find_bounds(self) -> tuple[float, float]:
        xp = self.xp
        blocks = (self.rows(i0, i1) for i0, i1 in row_blocks(self))
        ends = xp.stack([xp.stack([xp.min(c), xp.max(c)]) for c in blocks])
        return float(xp.min(ends)), float(xp.max(ends))

    def toarray(self) -> Array:
        """All entries as an (n, m) array."""
        return self.rows(0, self.shape[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[0]} x {self.shape[1]}, {self.dtype})"


class DenseCost(Cost):
    """A stored cost matrix.

    Parameters
    ----------
    array : array or nested sequence, shape (n, m)
        Finite numbers. A pair that must not be used gets a large finite cost.

    Examples
    --------
    >>> from optlib.transport import DenseCost
    >>> DenseCost([[0.0, 1.0], [1.0, 0.0], [4.0, 1.0]]).bounds()
    (0.0, 4.0)
    """

    kind = "dense"

    def __init__(self, array: Any) -> None:
        xp, device, dtype = check.common(cost=array)
        fix = "pass an (n, m) matrix, or PointCloud(x, y) for points"
        array = check.array("cost", array, xp=xp, ndim=2, finite=False, dtype=dtype, device=device, fix=fix)
        _not_empty("cost", array)
        self._set(array, array.dtype)
        self.bounds()

    def _set(self, array: Array, dtype: Any) -> "DenseCost":
        self._array, self.dtype = array, dtype
        self.shape = tuple(array.shape)
        self.xp, self.device = array_namespace(array), device_of(array)
        return self

    def _derive(self, array: Array, dtype: Any = None) -> "DenseCost":
        return DenseCost.__new__(DenseCost)._set(array, self.dtype if dtype is None else dtype)

    @property
    def array(self) -> Array:
        """The (n, m) array."""
        self._array = self.xp.astype(self._array, self.dtype, copy=False)
        return self._array

    @property
    def T(self) -> "DenseCost":
        """The transposed cost: a view."""
        view = self._derive(self._array.T)
        view._bounds = self._bounds
        return view

    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded): a view, or a converted copy after `astype`."""
        return self.xp.astype(self._array[i0:i1, :], self.dtype, copy=False)

    def take(self, rows: Any = None, cols: Any = None) -> "DenseCost":
        """The cost between some sources and some targets (sequences of integers; None: all)."""
        return self._derive(_take(_take(self._array, rows, 0), cols, 1))

    def astype(self, dtype: Any) -> "DenseCost":
        """The same cost in another precision; blocks are converted when they are asked for."""
        view = self._derive(self._array, dtype)
        view._bounds = self._bounds
        return view

    def _find_bounds(self) -> tuple[float, float]:
        low, high = to_numpy(extrema(self._array, xp=self.xp)).tolist()
        return low, high

    def _map_arrays(self, fn: Callable[[Array], Array]) -> "DenseCost":
        return DenseCost(fn(self.array))


class PointCloud(Cost):
    """The cost between two clouds of points, computed when needed and never stored.

    Parameters
    ----------
    x : array or nested sequence, shape (n, d) or (n,)
        Sources. One axis means points on the line.
    y : array or nested sequence, shape (m, d) or (m,)
        Targets.
    cost : {"sqeuclidean", "euclidean", "lp", "cosine"} or callable
        ``|x - y|^2``; ``|x - y|``; ``sum_k |x_k - y_k|^p``; ``1 - <x, y> / (|x| |y|)``; or a function
        ``cost(x_block, y_block)`` that returns the (k, l) costs between blocks of k sources and l targets.
    p : float, optional
        Exponent > 0, for ``cost="lp"``.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes, entries that are not finite, an unknown cost, or a zero vector under the cosine.

    Notes
    -----
    Memory O((n + m) d). Squared Euclidean distances and cosines are matrix products of the points (centred by their
    common mean, which protects float32); the other costs are formed from differences.

    Examples
    --------
    >>> from optlib.transport import PointCloud
    >>> cloud = PointCloud([[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 1.0], [3.0, 0.0]])
    >>> cloud
    PointCloud(2 x 3, 2-D, sqeuclidean, float64)
    >>> cloud.toarray()
    array([[1., 2., 9.],
           [2., 1., 4.]])
    """

    def __init__(
        self, x: Any, y: Any, cost: str | Callable[[Array, Array], Array] = "sqeuclidean", *, p: float | None = None
    ) -> None:
        xp, device, dtype = check.common(x=x, y=y)
        x = as_points("x", x, xp, dtype, device)
        y = as_points("y", y, xp, dtype, device, dimension=x.shape[1])
        if not callable(cost):
            check.option("cost", cost, POINT_COSTS)
        if (p is not None) != (cost == "lp"):
            raise check.error("p", p, 'an exponent with cost="lp", and none with another cost')
        if p is not None:
            p = check.scalar("p", p, low=0.0, low_open=True)
        self.scale, self.p, self.function = 1.0, p, cost if callable(cost) else None
        self.kind = "function" if callable(cost) else "sqeuclidean" if cost == "cosine" or p == 2 else cost
        self._centre = xp.zeros(x.shape[1], dtype=dtype, device=device)
        if cost == "cosine":  # half the squared distance of the unit vectors
            x, y, self.scale = _unit("x", x, xp), _unit("y", y, xp), 0.5
        elif self.kind == "sqeuclidean":
            self._centre = 0.5 * (xp.mean(x, axis=0) + xp.mean(y, axis=0))
            x, y = x - self._centre, y - self._centre
        self.name = cost if isinstance(cost, str) else getattr(cost, "__name__", type(cost).__name__)
        self._set(x, y)

    def _set(self, x: Array, y: Array) -> None:
        self.x, self.y = x, y
        self.shape, self.dtype = (x.shape[0], y.shape[0]), x.dtype
        self.xp, self.device = array_namespace(x, y), device_of(x)

    def _derive(self, x: Array, y: Array) -> "PointCloud":
        made = copy(self)
        made._bounds = None
        made._set(x, y)
        return made

    @property
    def T(self) -> "PointCloud":
        """The cost with the roles of the clouds swapped: a view."""
        view = self._derive(self.y, self.x)
        view._bounds = self._bounds
        if self.function is not None:
            view.function = _swapped(self.function)
        return view

    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded) as an array of shape (i1 - i0, m)."""
        x, y = self.x[i0:i1, :], self.y
        if self.kind == "function":
            return self._call(x, y)
        return pairwise(x, y, self.kind, self.scale, self.p, xp=self.xp)

    def _call(self, x: Array, y: Array) -> Array:
        c, shape = self.function(x, y), (x.shape[0], y.shape[0])
        got = f"{type(c).__name__} of shape {tuple(getattr(c, 'shape', ()))} for blocks of {shape[0]} and {shape[1]}"
        if not compat.is_array_api_obj(c) or tuple(c.shape) != shape:
            raise check.error("cost", got, f"a function that returns an array of shape {shape}")
        if array_namespace(c) is not self.xp or device_of(c) != self.device:
            raise check.error("cost", got, "a function that keeps the array library and the device", kind=TypeError)
        return as_floating(c, xp=self.xp, dtype=self.dtype)

    def at(self, x: Any) -> "PointCloud":
        """The cost from other sources to the same targets.

        Parameters
        ----------
        x : array or nested sequence, shape (k, d) or (k,)
        """
        x = as_points("x", x, self.xp, self.dtype, self.device, dimension=self.y.shape[1])
        return self._derive(_unit("x", x, self.xp) if self.name == "cosine" else x - self._centre, self.y)

    def within(self) -> tuple["PointCloud", "PointCloud"]:
        """The same cost among the sources, and among the targets."""
        return self._derive(self.x, self.x), self._derive(self.y, self.y)

    def take(self, rows: Any = None, cols: Any = None) -> "PointCloud":
        """The cost between some sources and some targets (sequences of integers; None: all)."""
        return self._derive(_take(self.x, rows, 0), _take(self.y, cols, 0))

    def astype(self, dtype: Any) -> "PointCloud":
        """The same cost in another precision."""
        return self._map_arrays(lambda u: self.xp.astype(u, dtype, copy=False))

    def _find_bounds(self) -> tuple[float, float]:
        if self.kind == "function":
            return super()._find_bounds()
        xp, x, y = self.xp, self.x, self.y
        power = self.p or 2.0
        _check_overflow(max(float(xp.max(xp.abs(u))) for u in (x, y)), power, x)
        x_low, x_high = xp.min(x, axis=0), xp.max(x, axis=0)
        y_low, y_high = xp.min(y, axis=0), xp.max(y, axis=0)
        apart = xp.maximum(x_low - y_high, y_low - x_high)
        near = xp.sum(xp.where(apart > 0, apart, xp.zeros_like(apart)) ** power)
        far = xp.sum(xp.maximum(x_high - y_low, y_high - x_low) ** power)
        centre = 0.5 * (xp.mean(x, axis=0) + xp.mean(y, axis=0))
        ball = [xp.max(xp.sum(xp.abs(u - centre) ** power, axis=1)) for u in (x, y)]
        low, high, r, s = (float(v) for v in (near, far, *ball))
        if power >= 1:
            high = min(high, (r ** (1 / power) + s ** (1 / power)) ** power)
        return (math.sqrt(low), math.sqrt(high)) if self.kind == "euclidean" else (self.scale * low, self.scale * high)

    def _map_arrays(self, fn: Callable[[Array], Array]) -> "PointCloud":
        made = self._derive(fn(self.x), fn(self.y))
        made._centre = fn(self._centre)
        return made

    def identity(self) -> Any:
        """Return what tells this cost from others."""
        return repr(self), self.scale, self.x, self.y, probe(*self.bounds()) if self.function is not None else None

    def __repr__(self) -> str:
        name = self.name + (f" with p={self.p:g}" if self.p else "")
        return f"PointCloud({self.shape[0]} x {self.shape[1]}, {self.x.shape[1]}-D, {name}, {self.dtype})"


def pairwise(x: Array, y: Array, kind: str, scale: float = 1.0, p: float | None = None, *, xp: Any) -> Array:
    """Costs between all points of two clouds, for the named kinds of `PointCloud`."""
    if kind == "sqeuclidean":
        c = xp.sum(x * x, axis=1)[:, None] + xp.sum(y * y, axis=1)[None, :] - 2.0 * (x @ y.T)
        return scale * xp.where(c > 0, c, xp.zeros_like(c))
    total = xp.zeros((x.shape[0], y.shape[0]), dtype=x.dtype, device=device_of(x))
    for k in range(x.shape[1]):
        gap = xp.abs(x[:, k][:, None] - y[:, k][None, :])
        total = total + (gap * gap if kind == "euclidean" else gap if p == 1 else gap**p)
    return xp.sqrt(total) if kind == "euclidean" else total


def row_blocks(cost: Cost) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose blocks portable code works on at a time."""
    n, m = cost.shape
    step = block_rows(m, cost.device)
    yield from ((i, min(i + step, n)) for i in range(0, n, step))


def block_rows(m: int, device: Any) -> int:
    """Rows of m numbers that make a block: what stays in a CPU's cache, much more on a GPU."""
    size = 2**28 if "cuda" in str(device).lower() else 2**21
    return max(1, size // (8 * m))


class _swapped:  # noqa: N801 - a function that can be pickled
    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, x: Array, y: Array) -> Array:
        return self.function(y, x).T


def as_points(name: str, x: Any, xp: Any, dtype: Any, device: Any, dimension: int | None = None) -> Array:
    """Check points, as rows; one axis means points on the line."""
    x = check.array(name, x, xp=xp, dtype=dtype, device=device)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2:
        raise check.error(name, f"shape {tuple(x.shape)}", "points as rows, shape (n, d)", "reshape to two dimensions")
    _not_empty(name, x)
    if dimension not in (None, x.shape[1]):
        raise check.error(name, f"points of dimension {x.shape[1]}", f"points of dimension {dimension}")
    return x


def _unit(name: str, x: Array, xp: Any) -> Array:
    largest = xp.max(xp.abs(x), axis=1, keepdims=True)
    if bool(xp.any(largest == 0)):
        raise check.error(name, "a zero vector", "vectors with a direction for the cosine", "drop it")
    x = x / largest
    return x / xp.sqrt(xp.sum(x * x, axis=1, keepdims=True))


def _not_empty(name: str, x: Array) -> None:
    if 0 in x.shape:
        raise check.error(name, f"shape {tuple(x.shape)}", "at least one source, target and dimension")


@kernel(numba="optlib.transport._cost_numba:extrema", match="exact")
def extrema(x: Array, *, xp: Any) -> Array:
    """The smallest and the largest entry; one of them is NaN if there is such an entry.

    Parameters
    ----------
    x : array, shape (n, m)

    Returns
    -------
    array, shape (2,)
    """
    return xp.stack([xp.min(x), xp.max(x)])


def _not_finite(low: float, high: float) -> Exception:
    if math.isnan(low) or math.isnan(high):
        return check.error("cost", "an entry that is NaN", "finite costs", "clean the data")
    fix = "clean the data"
    if high == math.inf:
        fix = (
            "call transport.solve, which leaves such pairs out, or give pairs that must not be used a large finite cost"
        )
    return check.error("cost", f"an entry {high if high == math.inf else low}", "finite costs", fix)


def _check_overflow(largest: float, power: float, x: Array) -> None:
    limit = float(array_namespace(x).finfo(x.dtype).max)
    if largest > 0 and math.log(4 * largest) * power + math.log(x.shape[1]) > math.log(limit):
        raise check.error("cost", f"points of size {largest:g}", "costs within the range of the dtype", "rescale them")


def _take(x: Array, index: Any, axis: int) -> Array:
    if index is None:
        return x
    xp = array_namespace(x)
    return xp.take(x, xp.asarray(index, dtype=xp.int64, device=device_of(x)), axis=axis)
