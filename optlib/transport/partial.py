r"""Partial transport: only a given mass is moved, from where and to where it is cheapest.

*Exact.* A dummy source gives what the targets do not get, and a dummy target takes what the sources keep, both at the
cost ``low = min C``. From dummy to dummy nothing may go: that costs more than any pair. (Any price above ``low`` would
do: in units above ``low`` no cost is negative, so that moving more mass never pays.)

*Entropic.* With multipliers ``f, g <= 0`` of the inequalities and ``price`` of the mass the plan is
``P_ij = a_i b_j exp((f_i + g_j + price - C_ij) / reg)``, and the dual objective
``<f, a> + <g, b> + price mass - reg (sum P - sum(a) sum(b))`` is maximised over one block after the other, which is
the method of Benamou et al. (Dykstra's projections) in the log domain.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial as bind
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Step, Steps, prepare_resume, run
from optlib._core import validation as check
from optlib.backend import Array, device_of, supports
from optlib.backend.namespace import asarray_on
from optlib.backend.special import kl_div
from optlib.transport import passes
from optlib.transport._problem import MASS_RTOL, Problem, check_reg, prepare
from optlib.transport._support import by_rows
from optlib.transport.certificates import host_numbers, largest_size, positive_part
from optlib.transport.cost import Cost, DenseCost, row_blocks
from optlib.transport.emd import emd
from optlib.transport.plan import EntropicPlan
from optlib.transport.result import TransportResult
from optlib.transport.sparse_plan import SparsePlan, closest_pairs

PRICE_STEPS = 5  # exact changes of the price after each half-step: they cost O(n)


class PartialState(NamedTuple):
    """State of the entropic form of `partial`.

    Attributes
    ----------
    reg, mass : float
        The problem.
    nit, passes : int
        Iterations, and passes over the cost.
    f, g : array, shapes (n,) and (m,)
        Multipliers <= 0.
    price : array, shape ()
        Multiplier of the mass.
    change : array, shape ()
        Largest change of a multiplier in the last iteration, in units of ``reg``.
    """

    reg: float
    mass: float
    nit: int
    passes: int
    f: Array
    g: Array
    price: Array
    change: Array


@supports(backends=("numpy", "cupy", "torch", "strict"), gradients=("cost", "a", "b"))
def partial(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    mass: float,
    reg: float = 0.0,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int | None = None,
    check_every: int | None = None,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> TransportResult:
    r"""Move a given part of the mass at least cost.

    Find the plan ``P >= 0`` of total mass ``mass`` that minimises ``<C, P> + reg KL(P | a b')`` among those with row
    sums at most ``a`` and column sums at most ``b``.

    Parameters
    ----------
    cost : array, nested sequence or Cost, shape (n, m)
        Cost matrix, or a cost such as ``PointCloud(x, y)``.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0, which need not have the same mass; None means uniform, with the mass of the other (1 if both are
        None).
    mass : float
        What to move: more than 0, and at most the smaller of the masses of ``a`` and ``b``.
    reg : float
        Strength of the entropic regularisation, in units of the cost; 0 solves the linear program.
    init : TransportResult or state, optional
        A result of the same problem to continue.
    tol : float, "auto" or None
        With ``reg=0``, see `optlib.transport.emd`. Else stop when the largest change of a multiplier in an iteration is
        at most ``tol * reg``; ``"auto"`` is 1e-6, and 1e-4 for float32; None runs ``maxiter`` iterations.
    maxiter, check_every : int, optional
        Largest number of iterations (100 000; pivots with ``reg=0``), and iterations between two checks (5).
    callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    TransportResult
        ``potentials`` are the multipliers ``f, g <= 0`` of ``a`` and ``b``: a source or target that keeps some of its
        mass has the multiplier 0. ``price`` is the derivative of the value in ``mass``; ``f_i + g_j + price <= C_ij``
        if ``reg=0``. ``plan`` is a `SparsePlan` if ``reg=0``, else an `EntropicPlan`.

    Raises
    ------
    TypeError, ValueError
        For invalid input (see `optlib.transport.solve`), and for a ``mass`` that is not in the range above.

    See Also
    --------
    optlib.transport.solve : With ``unbalanced=``, the mass follows from a price on what is missed.

    Notes
    -----
    *When not to use it.* If the mass to move is not known, penalties (``unbalanced``) choose it.

    *Exact.* One call of `optlib.transport.emd` on a problem with one source and one target more; its notes apply.

    *Entropic.* Each iteration maximises the dual objective over ``f``, over ``g``, and after each of them a few times
    over the price. Convergence is linear, and slow for small ``reg``.

    *Stopping.* By ``tol``, see there; the exact form stops at the optimum. In the entropic form ``success`` asks for a
    duality gap of at most ``tol`` times ``mass`` times the range of the cost plus ``reg``: that of the plan scaled to
    fit into ``a`` and ``b`` and completed to the mass.

    *Cost.* Exact: as `optlib.transport.emd`. Entropic: two passes over the cost an iteration, with an exponential per
    entry; memory O(n + m) beside the cost and its transpose.

    References
    ----------
    L. Caffarelli, R. McCann, Free boundaries in optimal transport and Monge-Ampere obstacle problems, Ann. of Math.
    171, 2010 (section 2: the dummy point). J.-D. Benamou et al., Iterative Bregman projections for regularized
    transportation problems, SIAM J. Sci. Comput. 37, 2015 (section 5).

    Examples
    --------
    >>> from optlib.transport import partial
    >>> res = partial([[0, 3], [2, 9]], [1, 1], [1, 1], mass=1.5)
    >>> res.plan.toarray()
    array([[0.5, 0.5],
           [0.5, 0. ]])
    >>> res.value
    2.5
    """
    problem = prepare(cost, a, b, unbalanced=1.0)
    reg = check.scalar("reg", reg, low=0.0, fix="0 is exact; else e.g. 0.01 times the largest cost")
    mass = _check_mass(mass, problem)
    common = {
        "init": init, "tol": tol, "callback": callback, "record": record, "max_time": max_time, "disp": disp,
        "checkpoint": checkpoint,
    }  # fmt: skip
    if check_every is not None:
        check.scalar("check_every", check_every, low=1, integer=True)
    limits = {"maxiter": maxiter, "check_every": check_every}
    common |= {name: value for name, value in limits.items() if value is not None}
    return _entropic(problem, mass, check_reg(reg, problem), **common) if reg else _exact(problem, mass, **common)


def _check_mass(mass: Any, problem: Problem) -> float:
    most = min(problem.mass)
    mass = check.scalar("mass", mass, low=0.0, low_open=True, fix="the mass to move, in the units of a and b")
    if mass > most * (1.0 + MASS_RTOL[str(problem.dtype).rpartition(".")[2]]):
        fix = "move less, or give a and b more mass"
        raise check.error("mass", f"{mass:.10g}", f"at most the smaller mass of a and b, {most:.10g}", fix)
    return min(mass, most)


# -- exact --


class _WithDummies(Cost):
    """A cost, some of whose sources and targets are dummies.

    Parameters
    ----------
    base : Cost
        With arbitrary sources and targets in the places of the dummies.
    dummies : (array, array)
        Whether a source, a target, is one.
    low, corner : float
        The costs between dummies and others, and between dummies.
    """

    kind = "dummies"

    def __init__(self, base: Cost, dummies: tuple[np.ndarray, np.ndarray], low: float, corner: float) -> None:
        self.base, self.dummies, self.low, self.corner = base, dummies, low, corner
        self.shape, self.dtype, self.device, self.xp = base.shape, base.dtype, base.device, base.xp
        self._bounds = low, corner

    @property
    def T(self) -> "_WithDummies":
        return _WithDummies(self.base.T, self.dummies[::-1], self.low, self.corner)

    def rows(self, i0: int, i1: int) -> Array:
        xp, block = self.xp, self.base.rows(i0, i1)
        masks = self.dummies[0][i0:i1, None], self.dummies[1][None]
        rows, cols = (asarray_on(u, xp=xp, dtype=xp.bool, device=self.device) for u in masks)
        low, corner = (xp.asarray(v, dtype=self.dtype, device=self.device) for v in (self.low, self.corner))
        return xp.where(rows & cols, corner, xp.where(rows | cols, low, block))

    def take(self, rows: Any = None, cols: Any = None) -> "_WithDummies":
        dummies = tuple(d if k is None else d[k] for d, k in zip(self.dummies, (rows, cols), strict=True))
        return _WithDummies(self.base.take(rows, cols), dummies, self.low, self.corner)

    def astype(self, dtype: Any) -> "_WithDummies":
        return _WithDummies(self.base.astype(dtype), self.dummies, self.low, self.corner)


def _exact(problem: Problem, mass: float, **options: Any) -> TransportResult:
    xp, cost, (n, m) = problem.xp, problem.cost, problem.cost.shape
    low, high = cost.bounds()
    places = (np.append(np.arange(k), k - 1) for k in (n, m))
    extended: Cost = _WithDummies(
        cost.take(*places), (np.arange(n + 1) == n, np.arange(m + 1) == m), low, high + (high - low or abs(high) or 1.0)
    )
    if isinstance(cost, DenseCost):
        extended = DenseCost(extended.toarray())
    kept = [xp.full((1,), w - mass, dtype=problem.dtype, device=cost.device) for w in problem.mass]
    result = emd(extended, xp.concat([problem.a, kept[1]]), xp.concat([problem.b, kept[0]]), **options)

    f, g = result.potentials
    f_0, g_0 = float(f[n]), float(g[m])
    f, g, price = f[:n] + (g_0 - low), g[:m] + (f_0 - low), 2.0 * low - f_0 - g_0
    (i, j), masses = result.plan._host, result.plan.entries[2]
    real = np.flatnonzero((i < n) & (j < m))
    i, j, masses = (
        i[real],
        j[real],
        xp.take(masses, asarray_on(real, xp=xp, dtype=xp.int64, device=cost.device), axis=0),
    )
    plan = SparsePlan(i, j, masses, problem.a, problem.b, closest=closest_pairs(cost, f, g, i, j))
    r, c = plan.sum(1), plan.sum(0)
    plan.a, plan.b = r, c
    error = _violation(r, c, problem, mass, xp)
    idle = low * (problem.mass[0] + problem.mass[1] - 2.0 * mass)  # what the dummies cost
    result.update(
        x=(f, g), potentials=(f, g), price=price, plan=plan, method="partial", marginal_error=error,
        certificate=replace(result.certificate, residual=error / mass),
        **{name: result[name] - idle for name in ("fun", "value", "value_linear", "dual_value")},
        lp_bounds=tuple(bound - idle for bound in result.lp_bounds),
    )  # fmt: skip
    result.update(success=result.certificate.holds, message=f"network simplex with a dummy point; {result.message}")
    return result


def _violation(r: Array, c: Array, problem: Problem, mass: float, xp: Any) -> float:
    """How far marginals are from admissible ones."""
    over = xp.sum(positive_part(r - problem.a, xp)) + xp.sum(positive_part(c - problem.b, xp))
    return float(over + xp.abs(xp.sum(r) - mass))


# -- entropic --


def _entropic(
    problem: Problem, mass: float, reg: float, *, init: Any, tol: float | str | None, maxiter: int = 100_000,
    check_every: int = 5, **options: Any,
) -> TransportResult:  # fmt: skip
    xp = problem.xp
    if tol == "auto":
        tol = 1e-6 if xp.finfo(problem.dtype).bits == 64 else 1e-4
    tight = None if tol is None else check.scalar("tol", tol, low=0.0)
    wide = problem.double()
    state = prepare_resume(init, PartialState)
    if state is not None and (state.reg != reg or state.mass != mass):
        raise check.error("init", "the result of another problem", "a result of this problem to continue")
    if state is None:
        f, g = xp.zeros_like(wide.a), xp.zeros_like(wide.b)
        one = xp.ones((), dtype=wide.dtype, device=device_of(f))
        # the price at which the plan without costs has the mass
        price = one * (wide.cost.bounds()[0] + reg * math.log(mass / (wide.mass[0] * wide.mass[1])))
        state = PartialState(reg, mass, 0, 0, f, g, price, one)
    return run(
        bind(_steps, problem=wide, original=problem),
        state=state,
        like=wide.a,
        xp=xp,
        method="partial",
        finish=lambda step: _finish(problem, wide, step.state, tight),
        tol=tight,
        maxiter=maxiter,
        check_every=check_every,
        problem=(problem.cost, problem.a, problem.b, mass, reg),
        patience=max(20, math.ceil(2000 / check_every)),
        result_class=TransportResult,
        message="entropic, block by block",
        **options,
    )


def _steps(state: PartialState, problem: Problem, original: Problem) -> Steps:
    """The half-step of the rows, then that of the columns, each with changes of the price."""
    xp, eps = problem.xp, state.reg
    rows, columns = by_rows(problem.cost), by_rows(problem.cost.T)
    log_mass = math.log(state.mass)

    def half(cost: Cost, g: Array, price: Array, a: Array, b: Array, hint: Array) -> tuple[Array, Array]:
        """The best multipliers ``f <= 0`` for ``g``, and prices for them."""
        exact, _ = passes.sweep(cost, g, a, b, eps, f=hint)
        f = exact - price
        for _ in range(PRICE_STEPS):
            f = xp.where(exact < price, exact - price, xp.zeros_like(exact))
            sums = a * xp.exp((f + price - exact) / eps)
            price = price + eps * (log_mass - xp.log(xp.sum(sums)))
        return f, price

    s = state
    while True:
        yield Step(
            x=tuple(xp.astype(u, original.dtype) for u in (s.f, s.g)),
            nit=s.nit,
            state=s,
            stop=lambda s=s: s.change,
            counts={"passes": s.passes},
        )
        f, price = half(rows, s.g, s.price, problem.a, problem.b, s.f + s.price)
        g, price = half(columns, f, price, problem.b, problem.a, s.g + price)
        moves = (xp.abs(f - s.f), xp.abs(g - s.g), xp.abs(price - s.price)[None])
        change = xp.max(xp.concat(moves)) / eps
        s = s._replace(nit=s.nit + 1, passes=s.passes + 2, f=f, g=g, price=price, change=change)


def _finish(problem: Problem, wide: Problem, state: PartialState, tol: float | None) -> dict[str, Any]:
    """The plan, and the gap between the objective of an admissible plan near it and the dual objective."""
    xp, cost, a, b, eps = wide.xp, wide.cost, wide.a, wide.b, state.reg
    f, g, price = state.f, state.g, state.price
    u = f + price
    ones = xp.ones_like(b)[:, None]
    sums, costs = passes.moments(cost, u, g, a, b, eps, ones)
    r, c = sums[:, 0], passes.apply(cost.T, g, u, b, a, eps, xp.ones_like(a))
    # scale rows and columns that are too heavy, then everything if there is too much, and complete what is missing
    x = xp.where(r > a, a / xp.where(r > a, r, xp.ones_like(r)), xp.ones_like(r))
    c_x = passes.apply(cost.T, g, u, b, a, eps, x)
    y = xp.where(c_x > b, b / xp.where(c_x > b, c_x, xp.ones_like(b)), xp.ones_like(b))
    r_y = x * passes.apply(cost, u, g, a, b, eps, y)
    total = xp.sum(r_y)
    x = xp.where(total > state.mass, x * (state.mass / total), x)
    r_y, c_y = (
        xp.where(total > state.mass, r_y * (state.mass / total), r_y),
        y * passes.apply(cost.T, g, u, b, a, eps, x),
    )
    p, q = positive_part(a - r_y, xp), positive_part(b - c_y, xp)
    room = xp.sum(p) * xp.sum(q)
    missing = positive_part(state.mass - xp.sum(r_y), xp)
    p = p * (missing / xp.where(room > 0, room, xp.ones_like(room)))
    linear, entropy = xp.zeros_like(price), xp.zeros_like(price)
    for i0, i1 in row_blocks(cost):
        block = passes.plan_rows(cost, u, g, a, b, eps, i0, i1)
        admissible = x[i0:i1, None] * block * y[None, :] + p[i0:i1, None] * q[None, :]
        linear = linear + xp.sum(admissible * cost.rows(i0, i1))
        entropy = entropy + xp.sum(kl_div(admissible, a[i0:i1, None] * b[None, :], xp=xp))
    lowest = passes.c_transform(cost, g)
    lower = xp.sum(xp.where(lowest < price, lowest - price, xp.zeros_like(f)) * a) + xp.sum(g * b) + price * state.mass
    linear, entropy, value_linear, total, inner, lower, size, price_ = host_numbers(
        [linear, entropy, xp.sum(costs), xp.sum(r), xp.sum(f * a) + xp.sum(g * b), lower,
         largest_size(f, a, xp) + largest_size(g, b, xp), price], xp
    )  # fmt: skip
    product = wide.mass[0] * wide.mass[1]
    dual = inner + price_ * state.mass - eps * (total - product)
    value = linear + eps * entropy
    unit = wide.range + eps
    rounding = (
        8.0
        * float(xp.finfo(wide.dtype).eps)
        * (max(wide.mass) * (size + abs(price_) + max(map(abs, cost.bounds()))) + eps * (product + state.mass))
    )
    gap = max(value - dual, 0.0) + rounding
    multipliers = tuple(xp.astype(v, problem.dtype) for v in (f, g))
    plan = EntropicPlan(problem.cost, problem.a, problem.b, xp.astype(u, problem.dtype), multipliers[1], eps)
    error = _violation(r, c, wide, state.mass, xp)
    moved = 0.0
    if problem.dtype != wide.dtype:  # what rounding the potentials does to the plan
        change = xp.abs(xp.expm1((xp.astype(plan.f, wide.dtype) - u) / eps))
        other = xp.abs(xp.expm1((xp.astype(plan.g, wide.dtype) - g) / eps))
        moved = float(xp.sum(r * change) + xp.sum(c * other))
    error += moved
    return {
        "certificate": Certificate("duality_gap", gap, state.mass * unit, tol=tol, residual=error / state.mass),
        "x": multipliers, "potentials": multipliers, "price": price_, "plan": plan, "fun": dual + gap,
        "value": dual + gap, "value_linear": value_linear, "dual_value": dual, "gap": gap,
        "lp_bounds": (lower - rounding, linear + rounding), "marginal_error": error,
    }  # fmt: skip
