"""Transport plans of n x m entries that are given when asked for, and never stored."""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array
from optlib.linop import LinearOperator
from optlib.transport import passes
from optlib.transport.cost import Cost, PointCloud


class Plan(LinearOperator, ABC):
    """A transport plan: an n x m matrix known by its products and its rows.

    It is a `optlib.linop.LinearOperator`: ``plan @ v``, ``plan.T @ u`` (vectors or columns of a matrix) and the algebra
    of operators work, in memory O(n + m). ``plan[i]`` and ``plan[i0:i1]`` give dense rows, ``plan[i0:i1, j0:j1]``
    dense blocks.

    Attributes
    ----------
    shape : (int, int)
    dtype, device : object
    a, b : array, shapes (n,) and (m,)
        The wanted marginals.
    """

    a: Array
    b: Array

    @abstractmethod
    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded) as an array of shape (i1 - i0, m)."""

    def __getitem__(self, key: Any) -> Array:
        rows, cols = key if isinstance(key, tuple) and len(key) == 2 else (key, slice(None))
        if isinstance(rows, slice):
            i0, i1, step = rows.indices(self.shape[0])
            if step != 1:
                raise check.error("rows", f"step {step}", "a contiguous range of rows", "index the array of a range")
            return self.rows(i0, max(i0, i1))[:, cols]
        try:
            i = operator.index(rows)
        except TypeError:
            expected = "an integer or a range of rows"
            raise check.error("rows", type(rows).__name__, expected, "plan.toarray()[...]", TypeError) from None
        if not -self.shape[0] <= i < self.shape[0]:
            raise IndexError(f"row {i} of a plan with {self.shape[0]} rows")
        return self.rows(i % self.shape[0], i % self.shape[0] + 1)[0, cols]

    def toarray(self) -> Array:
        """Return all entries as an (n, m) array."""
        return self.rows(0, self.shape[0])

    to_dense = toarray

    def sum(self, axis: int | None = None) -> Array:
        """Return the total mass (None), the column marginal (0) or the row marginal (1)."""
        axis = None if axis is None else check.scalar("axis", axis, low=-2, high=1, integer=True) % 2
        side = self.T if axis == 0 else self
        marginal = side @ self.xp.ones(side.shape[1], dtype=self.dtype, device=self.device)
        return self.xp.sum(marginal) if axis is None else marginal

    def barycentric(self, y: Any) -> Array:
        """Map each source to the mean of the targets that it is sent to, weighted by the plan.

        Parameters
        ----------
        y : array, shape (m, d) or (m,)
            Positions, colours, labels (one-hot) or other features of the targets. ``plan.T.barycentric(x)`` maps the
            targets to the sources.

        Returns
        -------
        array, shape (n, d) or (n,)
            In one pass over the plan.
        """
        xp = self.xp
        y = check.array("y", y, xp=xp, dtype=self.dtype, device=self.device, graph=True)
        if y.ndim not in (1, 2) or y.shape[0] != self.shape[1]:
            raise check.error("y", f"shape {tuple(y.shape)}", f"shape ({self.shape[1]}, d) or ({self.shape[1]},)")
        columns = y if y.ndim == 2 else y[:, None]
        ones = xp.ones((self.shape[1], 1), dtype=self.dtype, device=self.device)
        product = self._conditional(xp.concat([columns, ones], axis=1))
        mapped = product[:, :-1] / product[:, -1:]
        return mapped if y.ndim == 2 else mapped[:, 0]

    @abstractmethod
    def _conditional(self, v: Array) -> Array:
        """``P v`` with rows scaled at will, none of them zero."""

    def rounded(self) -> "Plan":
        """Return a plan close to this one whose marginals are ``a`` and ``b`` exactly (see `round_plan`)."""
        from optlib.transport.rounding import round_plan

        return round_plan(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[0]} x {self.shape[1]}, {self.dtype})"


class EntropicPlan(Plan):
    """The plan ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)``.

    Parameters
    ----------
    cost : Cost
    a, b : array, shapes (n,) and (m,)
        Weights; a zero weight gives a zero row or column.
    f, g : array, shapes (n,) and (m,)
        Potentials.
    reg : float

    Notes
    -----
    A product costs one exponential per entry. An entry carries the relative error ``u |C| / reg``, with ``u`` the
    rounding unit of the dtype.
    """

    def __init__(self, cost: Cost, a: Array, b: Array, f: Array, g: Array, reg: float) -> None:
        super().__init__(cost.shape, a)
        self.cost, self.a, self.b, self.f, self.g, self.reg = cost, a, b, f, g, reg

    @property
    def T(self) -> "EntropicPlan":
        """The transposed plan: from targets to sources."""
        return EntropicPlan(self.cost.T, self.b, self.a, self.g, self.f, self.reg)

    def at(self, x: Any) -> "EntropicPlan":
        """Return the plan for other sources: where would mass at ``x`` go.

        The potential of the targets defines, for every point, a law on the targets; at the old sources it is the
        normalised row of this plan. ``plan.at(x).barycentric(y)`` is the entropic map, ``plan.T.at(y)`` goes backwards.

        Parameters
        ----------
        x : array or nested sequence, shape (k, d)
            Points of the space of the sources.

        Returns
        -------
        EntropicPlan
            From ``k`` sources of equal weight and total mass 1.

        Raises
        ------
        TypeError
            If the cost is not that of a point cloud.

        References
        ----------
        A.-A. Pooladian, J. Niles-Weed, Entropic estimation of optimal transport maps, 2021 (arXiv 2109.12004).
        """
        if not isinstance(self.cost, PointCloud):
            raise check.error("plan", f"a plan for {self.cost}", "a plan for a PointCloud", kind=TypeError)
        return _PlanAt(self.cost.at(x), self.b, self.g, self.reg)

    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded) as an array of shape (i1 - i0, m)."""
        return passes.plan_rows(self.cost, self.f, self.g, self.a, self.b, self.reg, i0, i1)

    def _matvec(self, v: Array) -> Array:
        v = check.array("v", v, xp=self.xp, dtype=self.dtype, device=self.device, finite=False, graph=True)
        return passes.apply(self.cost, self.f, self.g, self.a, self.b, self.reg, v)

    def _rmatvec(self, u: Array) -> Array:
        return self.T._matvec(u)

    def _conditional(self, v: Array) -> Array:
        return passes.apply(self.cost, self.f, self.g, self.xp.ones_like(self.a), self.b, self.reg, v)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "EntropicPlan":
        arrays = (move(x) for x in (self.a, self.b, self.f, self.g))
        return EntropicPlan(self.cost._map_arrays(move), *arrays, self.reg)


class DensePlan(Plan):
    """A plan that stores all its entries.

    Parameters
    ----------
    array : array, shape (n, m)
    a, b : array, shapes (n,) and (m,)
        The wanted marginals.
    """

    def __init__(self, array: Array, a: Array, b: Array) -> None:
        xp, device, dtype = check.common(array=array, a=a, b=b)
        options = {"xp": xp, "dtype": dtype, "device": device, "finite": False, "graph": True}
        self.array = check.array("array", array, ndim=2, **options)
        self.a, self.b = (
            check.array(name, w, shape=(n,), **options)
            for name, w, n in zip("ab", (a, b), self.array.shape, strict=True)
        )
        super().__init__(tuple(self.array.shape), self.array)

    @property
    def T(self) -> "DensePlan":
        """The transposed plan: from targets to sources."""
        return DensePlan(self.array.T, self.b, self.a)

    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded) as an array of shape (i1 - i0, m)."""
        return self.array[i0:i1, :]

    def _matvec(self, v: Array) -> Array:
        return self.array @ check.array(
            "v", v, xp=self.xp, dtype=self.dtype, device=self.device, finite=False, graph=True
        )

    def _rmatvec(self, u: Array) -> Array:
        return self.T._matvec(u)

    def _conditional(self, v: Array) -> Array:
        empty = self.xp.sum(self.array, axis=1) == 0  # rows without mass go to all targets
        return self.xp.where(empty[:, None], (self.b @ v)[None, :], self.array @ v)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "DensePlan":
        return DensePlan(*(move(u) for u in (self.array, self.a, self.b)))


class _PlanAt(EntropicPlan):
    """The plan for new sources: their potential, which means of targets do not need, is computed when asked for."""

    def __init__(self, cost: Cost, b: Array, g: Array, reg: float) -> None:
        k = cost.shape[0]
        a = cost.xp.full(k, 1.0 / k, dtype=b.dtype, device=cost.device)
        Plan.__init__(self, cost.shape, a)
        self.cost, self.a, self.b, self.g, self.reg = cost, a, b, g, reg
        self._shift = passes.c_transform(cost, g + reg * passes.log_weights(b, xp=cost.xp))

    @cached_property
    def f(self) -> Array:
        """The potential of the new sources."""
        mass = self._conditional(self.xp.ones_like(self.b)[:, None])[:, 0]
        return self._shift - self.reg * self.xp.log(mass)

    def _conditional(self, v: Array) -> Array:
        return passes.apply(self.cost, self._shift, self.g, self.xp.ones_like(self.a), self.b, self.reg, v)
