"""Rounding to the transport polytope: from a plan with almost the right marginals to one with exactly those."""

from collections.abc import Callable

from optlib._core import validation as check
from optlib.backend import Array
from optlib.transport.plan import Plan


class RoundedPlan(Plan):
    """The plan ``diag(x) P diag(y) + p q'``, kept in this form.

    Parameters
    ----------
    base : Plan
        ``P``.
    x, y : array, shapes (n,) and (m,)
        Scalings in [0, 1].
    p, q : array, shapes (n,) and (m,)
        Nonnegative; the correction of rank one.
    """

    def __init__(self, base: Plan, x: Array, y: Array, p: Array, q: Array) -> None:
        super().__init__(base.shape, x)
        self.base, self.x, self.y, self.p, self.q = base, x, y, p, q
        self.a, self.b = base.a, base.b

    @property
    def T(self) -> "RoundedPlan":
        """The transposed plan: from targets to sources."""
        return RoundedPlan(self.base.T, self.y, self.x, self.q, self.p)

    def rows(self, i0: int, i1: int) -> Array:
        """Rows ``i0`` to ``i1`` (excluded) as an array of shape (i1 - i0, m)."""
        scaled = self.x[i0:i1, None] * self.base.rows(i0, i1) * self.y[None, :]
        return scaled + self.p[i0:i1, None] * self.q[None, :]

    def _matvec(self, v: Array) -> Array:
        v = check.array("v", v, xp=self.xp, dtype=self.dtype, device=self.device, finite=False, graph=True)
        if v.ndim == 1:
            return self._matvec(v[:, None])[:, 0]
        return self.x[:, None] * (self.base @ (self.y[:, None] * v)) + self.p[:, None] * (self.q @ v)[None, :]

    def _rmatvec(self, u: Array) -> Array:
        return self.T._matvec(u)

    def _conditional(self, v: Array) -> Array:
        empty = (self.a == 0)[:, None]  # rows without mass go where the plan before rounding would send them
        return self.xp.where(empty, self.base._conditional(v), self._matvec(v))

    def _map_arrays(self, move: Callable[[Array], Array]) -> "RoundedPlan":
        return RoundedPlan(self.base._map_arrays(move), *(move(u) for u in (self.x, self.y, self.p, self.q)))


def round_plan(plan: Plan) -> RoundedPlan:
    """Round a plan to the polytope of its marginals.

    Rows, then columns, that are too heavy are scaled down, and what is missing is added as a matrix of rank one.

    Parameters
    ----------
    plan : Plan, shape (n, m)
        With marginals ``plan.a`` and ``plan.b`` of equal mass.

    Returns
    -------
    RoundedPlan
        ``R >= 0`` with row sums ``a`` and column sums ``b`` (to rounding), and
        ``sum |R - P| <= 2 (sum |P 1 - a| + sum |P' 1 - b|)``.

    Raises
    ------
    ValueError
        If the masses of the marginals differ.

    Notes
    -----
    Three passes over the plan, memory O(n + m).

    References
    ----------
    J. Altschuler, J. Weed, P. Rigollet, Near-linear time approximation algorithms for optimal transport via Sinkhorn
    iteration, NeurIPS 2017, Algorithm 2.
    """
    if not isinstance(plan, Plan):
        fix = "pass result.plan, or DensePlan(array, a, b)"
        raise check.error("plan", type(plan).__name__, "a transport plan", fix, TypeError)
    xp, a, b = plan.xp, plan.a, plan.b
    mass_a, mass_b = float(xp.sum(a)), float(xp.sum(b))
    if abs(mass_a - mass_b) > 1e3 * float(xp.finfo(a.dtype).eps) * max(mass_a, mass_b):
        raise check.error("plan", f"marginals of mass {mass_a:.6g} and {mass_b:.6g}", "marginals of equal mass")
    r = plan.sum(1)
    x = _shrink(a, r, xp)
    c = plan.T @ x
    y = _shrink(b, c, xp)
    p = _missing(a, x * r, xp) + x * (plan @ (1.0 - y))
    q = _missing(b, c, xp)
    total = xp.maximum(xp.sum(p), xp.sum(q))
    return RoundedPlan(plan, x, y, p / xp.where(total > 0, total, xp.ones_like(total)), q)


def _shrink(target: Array, marginal: Array, xp: object) -> Array:
    """``min(1, target / marginal)``, 1 where the marginal is zero."""
    heavy = marginal > target
    return xp.where(heavy, target / xp.where(heavy, marginal, xp.ones_like(marginal)), xp.ones_like(marginal))


def _missing(target: Array, marginal: Array, xp: object) -> Array:
    return xp.where(marginal < target, target - marginal, xp.zeros_like(target))
