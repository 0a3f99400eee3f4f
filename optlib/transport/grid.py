"""Costs on regular grids, which separate into the axes: passes in O(N (n_1 + n_2 + ...)) instead of O(N^2)."""

import math
from collections.abc import Callable, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.transport._axes import largest, log_sum
from optlib.transport.cost import Cost, PointCloud
from optlib.transport.passes import Survey, log_weights


class GridCost(Cost):
    """The cost ``sum_k |x_k - y_k|^p`` between the points of a grid: histograms, images, volumes.

    Parameters
    ----------
    axes : sequence of d arrays, shapes (n_1,) to (n_d,)
        Coordinates along the axes. The points are numbered as `reshape` does: the last axis runs fastest, so that an
        image of shape (n_1, n_2) has the weights ``image.reshape(-1)``.
    p : float
        Exponent > 0: 2 for squared Euclidean distances.

    Raises
    ------
    TypeError, ValueError
        For axes that are empty, not one-dimensional or not finite.

    Notes
    -----
    Sums over the kernel ``exp(-C / reg)`` are taken axis by axis, in the logarithmic domain: nothing underflows at any
    ``reg``. A pass over N = n_1 n_2 points takes N (n_1 + n_2) exponentials.

    Examples
    --------
    >>> from optlib.transport import GridCost
    >>> cost = GridCost([[0.0, 1.0], [0.0, 2.0, 4.0]])
    >>> cost
    GridCost(2 x 3 points, p=2, float64)
    >>> cost.rows(0, 1)
    array([[ 0.,  4., 16.,  1.,  5., 17.]])
    """

    kind = "grid"

    def __init__(self, axes: Sequence[Any], p: float = 2.0) -> None:
        if not isinstance(axes, (list, tuple)) or not axes:
            got = "no axis" if isinstance(axes, (list, tuple)) else type(axes).__name__
            raise check.error("axes", got, "a list of coordinates, one array per axis", kind=TypeError)
        xp, device, dtype = check.common(**{f"axes[{k}]": x for k, x in enumerate(axes)})
        self.axes = [
            check.array(f"axes[{k}]", x, xp=xp, ndim=1, dtype=dtype, device=device) for k, x in enumerate(axes)
        ]
        for k, x in enumerate(self.axes):
            if x.shape[0] == 0:
                raise check.error(f"axes[{k}]", "shape (0,)", "at least one point")
        self.p = check.scalar("p", p, low=0.0, low_open=True)
        self.grid = tuple(x.shape[0] for x in self.axes)
        n = math.prod(self.grid)
        self.shape, self.dtype, self.xp, self.device = (n, n), self.axes[0].dtype, xp, device
        gaps = (xp.abs(x[:, None] - x[None, :]) for x in self.axes)
        self.costs = [gap if self.p == 1 else gap**self.p for gap in gaps]

    @property
    def T(self) -> "GridCost":
        """The transposed cost: itself."""
        return self

    @property
    def points(self) -> Array:
        """The points (N, d) of the grid."""
        return self.xp.stack([self.xp.reshape(u, (-1,)) for u in self.xp.meshgrid(*self.axes, indexing="ij")], axis=1)

    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded) as an array of shape (i1 - i0, N)."""
        xp, total = self.xp, 0.0
        for k, (index, c) in enumerate(zip(np.unravel_index(np.arange(i0, i1), self.grid), self.costs, strict=True)):
            place = [1] * len(self.grid)
            place[k] = self.grid[k]
            part = xp.take(c, xp.asarray(index, dtype=xp.int64, device=self.device), axis=0)
            total = total + xp.reshape(part, (i1 - i0, *place))
        return xp.reshape(total, (i1 - i0, self.shape[1]))

    def take(self, rows: Any = None, cols: Any = None) -> PointCloud:
        """The cost between some points and some others (sequences of integers; None: all)."""
        return PointCloud(self.points, self.points, "lp", p=self.p).take(rows, cols)

    def within(self) -> tuple["GridCost", "GridCost"]:
        """The cost among the sources, and among the targets."""
        return self, self

    def astype(self, dtype: Any) -> "GridCost":
        """The same cost in another precision."""
        return self._map_arrays(lambda u: self.xp.astype(u, dtype, copy=False))

    def _find_bounds(self) -> tuple[float, float]:
        return 0.0, sum(float(self.xp.max(c)) for c in self.costs)

    def _map_arrays(self, fn: Callable[[Array], Array]) -> "GridCost":
        return GridCost([fn(x) for x in self.axes], self.p)

    def __repr__(self) -> str:
        return f"GridCost({' x '.join(map(str, self.grid))} points, p={self.p:g}, {self.dtype})"

    # -- what `optlib.transport.passes` asks of a cost that separates --

    def relaxed_sweep(
        self, f: Array, g: Array, a: Array, b: Array, eps: float, inv_rho: float, omega: Any
    ) -> tuple[Array, Array, Array]:
        """See `optlib.transport.passes.relaxed_sweep`."""
        xp, lam = self.xp, 1.0 / (1.0 + eps * inv_rho)
        z = g / eps + log_weights(b, xp=xp)
        lse = self.logsumexp(z, eps)
        r = a * xp.exp((1.0 - omega) * (f / eps) + (1.0 - omega * lam) * lse)
        c = xp.exp(z + self.logsumexp(log_weights(r, xp=xp) - lse, eps))
        return (1.0 - omega) * f - (omega * lam * eps) * lse, c, r

    def products(self, f: Array, h: Array, v: Array, eps: float, moments: bool) -> Array:
        """Sums over j of ``e_ij v_jk`` and, if asked for, of ``e_ij z_ij v_jk``; e = exp(z), z = (f + h - C) / eps."""
        xp, z, shift = self.xp, h / eps, f / eps

        def signed(u: Array, moment: int | None = None) -> Array:
            """The product with a vector of any signs: its positive minus its negative part."""
            total = xp.exp(shift + self.logsumexp(z + log_weights(xp.maximum(u, xp.zeros_like(u)), xp=xp), eps, moment))
            if bool(xp.any(u < 0)):
                minus = log_weights(xp.maximum(-u, xp.zeros_like(u)), xp=xp)
                total = total - xp.exp(shift + self.logsumexp(z + minus, eps, moment))
            return total

        columns = [signed(v[:, k]) for k in range(v.shape[1])]
        if moments:
            for k in range(v.shape[1]):
                costs = reduce(add, (signed(v[:, k], moment) for moment in range(len(self.grid))))
                finite = xp.where(z > -1e100 if xp.finfo(z.dtype).bits == 64 else z > -1e25, z, xp.zeros_like(z))
                columns.append(shift * columns[k] + signed(finite * v[:, k]) - costs / eps)
        return xp.stack(columns, axis=1)

    def survey(self, f: Array, h_plan: Array, x: Array, q: Array, h: Array, eps: float) -> Array:
        """The columns of a `optlib.transport.passes.Survey` for ``x >= 0``."""
        xp, shift, z = self.xp, f / eps, h_plan / eps
        removed = z + log_weights(x, xp=xp)
        sums = [xp.exp(shift + self.logsumexp(u, eps)) for u in (z, removed)]
        for u in (z, removed):
            parts = (xp.exp(shift + self.logsumexp(u, eps, moment)) for moment in range(len(self.grid)))
            sums.append(reduce(add, parts))
        return Survey(*sums, self.product(q), self.smallest(h))

    def product(self, v: Array) -> Array:
        """The cost times a vector."""
        xp, d = self.xp, len(self.grid)
        v, total = xp.reshape(v, self.grid), 0.0
        for k, c in enumerate(self.costs):
            marginal = xp.sum(v, axis=tuple(j for j in range(d) if j != k)) if d > 1 else v
            place = [1] * d
            place[k] = self.grid[k]
            total = total + xp.reshape(xp.astype(c, v.dtype, copy=False) @ marginal, tuple(place))
        return xp.reshape(xp.broadcast_to(total, self.grid), (-1,))

    def smallest(self, g: Array) -> Array:
        """``min_j C_ij - g_j``."""
        return -self._by_axes(largest, g, [-c for c in self.costs])

    def logsumexp(self, z: Array, eps: float, moment: int | None = None) -> Array:
        """``log sum_j exp(z_j - C_ij / eps)``, each term times the part of ``C_ij`` of the axis ``moment``."""
        kernels = []
        for k, c in enumerate(self.costs):
            c = self.xp.astype(c, z.dtype, copy=False)
            kernels.append(-c / eps + log_weights(c, xp=self.xp) if k == moment else -c / eps)
        return self._by_axes(log_sum, z, kernels)

    def _by_axes(self, function: Callable[..., Array], z: Array, kernels: list[Array]) -> Array:
        """Apply a product along every axis; the last one comes to the front each time."""
        xp = self.xp
        for kernel in reversed(kernels):
            lines = xp.matrix_transpose(xp.reshape(z, (-1, kernel.shape[0])))
            z = xp.reshape(function(xp.astype(kernel, z.dtype, copy=False), lines, xp=xp), (-1,))
        return z
