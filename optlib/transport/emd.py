"""Exact transport: the network simplex method, with a proof of optimality over every arc."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from optlib._core import Certificate, Status, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, is_numpy, supports, to_numpy
from optlib.backend.namespace import asarray_on
from optlib.transport import _simplex as simplex
from optlib.transport._host_cost import CLOUD_DIMENSIONS, host_cost
from optlib.transport._problem import Problem, prepare
from optlib.transport._simplex import State
from optlib.transport.cost import Cost, PointCloud
from optlib.transport.result import TransportResult
from optlib.transport.sparse_plan import SparsePlan

LARGEST = 1e300  # size of a cost: potentials are sums of them
EPS = float(np.finfo(np.float64).eps)
ROUNDING = 8 * EPS  # errors of the primal minus the dual objective of unit mass, in units of the potentials


@supports(sequential=True, gradients=("cost", "a", "b"))
def emd(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 100_000_000,
    check_every: int = 10_000,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> TransportResult:
    r"""Solve a transport problem exactly.

    Find the plan ``P >= 0`` that minimises ``<C, P>`` among those with row sums ``a`` and column sums ``b`` (the earth
    mover's distance, the Wasserstein distance, Kantorovich's linear program).

    Parameters
    ----------
    cost : array, nested sequence or Cost, shape (n, m)
        Cost matrix, or a cost such as ``PointCloud(x, y)``, which is never stored. A pair that must not be used gets a
        large finite cost.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the same total mass; None means uniform.
    init : (array, array), TransportResult or state, optional
        Potentials, for instance of a similar problem, to start from; a result of another problem of the same shape
        stands for its potentials. A result of the same problem is continued.
    tol : float, "auto" or None
        ``"auto"`` and None run to the optimum. A number ends the run early, when the gap between the costs of the plan
        and of the dual solution, relative to the mass times the largest cost, is at most this.
    maxiter : int
        Largest number of pivots.
    check_every : int
        Pivots between two checks.
    callback : callable, optional
        Called with an intermediate result at every check.
    record : bool or "iterates"
        Whether to keep the history, and the potentials at the checks.
    max_time : float, optional
        Limit in seconds, looked at when checks are made.
    disp : {0, 1, 2}
        Silent, one line, a table.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    TransportResult
        ``plan`` is a `SparsePlan` of at most n + m - 1 entries; ``potentials`` satisfy ``f_i + g_j <= C_ij`` for all
        pairs, with equality where mass moves; ``value`` and ``value_linear`` are the cost of the plan, and
        ``lp_bounds`` encloses the optimum. ``counts`` has the pivots and the passes over the cost.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    See Also
    --------
    optlib.transport.wasserstein_1d : The same on the line, for many problems at once.
    optlib.transport.emd_entropic : The optimum to high accuracy by operations on whole arrays, for GPUs.
    optlib.transport.sinkhorn : Approximate solutions, also on GPUs.

    Notes
    -----
    *Method.* A network simplex method whose pivots see a short list of arcs. Good potentials, from a quarter of the
    problem that is solved first, choose the arcs; when the list is optimal, one pass over the cost adds violators or
    proves that there are none. On the line, with a convex cost, it starts from the monotone coupling, which is optimal.
    The answer is a vertex: integer weights give an integer plan.

    *Stopping.* The optimum is found after finitely many pivots: reduced costs above -1e-13 times the spread of the
    potentials count as nonnegative. Then the certificate has to hold with 1e-12 (float32: 2e-6), relative to the mass
    times the largest cost for the gap, and to the mass for the error of the marginals. It is computed anew from the
    final tree: the flows from the leaves up, the potentials from the root down, then ``f_i = min_j (C_ij - g_j)`` over
    every pair; and it is the difference of the primal and the dual objective plus a bound on their rounding errors.

    *Cost.* About ten passes over the cost, and 10 to 30 pivots per point, each in time of the order of the square root
    of the number of points or less. Memory O(n + m) beside the cost. Costs and weights may have any scale; sources and
    targets without mass are left out and get potentials in the end.

    *Backends.* The exact simplex runs on the CPU in float64, whatever the library of the arrays; plan and potentials
    are moved back. On a GPU `optlib.transport.emd_entropic` stays there, with a gap of 1e-8 instead of a vertex.

    References
    ----------
    W. H. Cunningham, A network simplex method, Math. Program. 11, 1976. R. K. Ahuja, T. L. Magnanti, J. B. Orlin,
    Network flows, 1993, chapter 11. N. Bonneel, M. van de Panne, S. Paris, W. Heidrich, Displacement interpolation
    using Lagrangian mass transport, SIGGRAPH Asia 2011.

    Examples
    --------
    >>> from optlib.transport import emd
    >>> res = emd([[0, 1, 4], [1, 0, 1]], [2, 2], [2, 1, 1])
    >>> res.value
    1.0
    >>> res.plan.toarray()
    array([[2., 0., 0.],
           [0., 1., 1.]])
    >>> print(res.certificate.kind, res.success)
    lp_gap True
    """
    problem = prepare(cost, a, b)
    if tol in ("auto", None):  # the method ends the run
        tol, proven = None, 1e-12 if problem.xp.finfo(problem.dtype).bits == 64 else 2e-6
    else:
        proven = check.scalar("tol", tol, low=0.0)
    solver = _Simplex(problem)
    state, where = solver.first(init)
    place = "" if is_numpy(problem.xp) else " on the CPU in float64"
    return run(
        solver.steps,
        state=state,
        like=np.empty(0),
        xp=problem.xp,
        method="emd",
        finish=partial(solver.finish, tol=proven),
        tol=tol,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(problem.cost, problem.a, problem.b),
        result_class=TransportResult,
        message=f"network simplex{place}" + (f", {where}" if where else ""),
    )


class _Simplex:
    """The method, as a generator of steps, on the sources and targets with mass.

    It works on ``unit * w`` for the weights w, where the unit is a power of two so that nothing is rounded. The points
    of clouds are numbered along a space-filling curve, so that successive ones are neighbours. ``orders`` are the
    orders of all sources and targets; ``rows`` and ``cols`` are the numbers, in these orders, of those with mass.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.orders, self.staircase = _curve(problem.cost)
        self.full = host_cost(problem.cost.take(*self.orders) if self.orders else problem.cost)
        a, b = (np.asarray(to_numpy(w), dtype=np.float64) for w in (problem.a, problem.b))
        self.mass = _sum(a)
        if self.full.size > LARGEST:
            expected = f"costs of size at most {LARGEST:g}: potentials are sums of them"
            raise check.error("cost", f"an entry of size {self.full.size:g}", expected, "rescale it")
        if not math.isfinite(self.mass * self.full.size):
            expected = "a mass whose product with the largest cost is finite"
            raise check.error("a", f"total mass {self.mass:g}", expected, "rescale the weights or the cost")
        b = b * (self.mass / _sum(b))
        self.a, self.b = (a[self.orders[0]], b[self.orders[1]]) if self.orders else (a, b)
        self.unit = 2.0 ** min(-math.frexp(self.mass)[1], 1000)
        self.rows, self.cols = np.flatnonzero(self.a > 0), np.flatnonzero(self.b > 0)
        everything = (self.rows.size, self.cols.size) == self.full.shape
        self.cost = self.full if everything else self.full.take(self.rows, self.cols)
        self.supply = np.concatenate([self.a[self.rows] * self.unit, self.b[self.cols] * self.unit, [0.0]])

    def first(self, init: Any) -> tuple[State, str]:
        """The state to start from, and a word on it."""
        n = self.rows.size
        fresh = simplex.new_state(self.supply[:n], self.supply[n:-1])
        if isinstance(init, TransportResult):
            init = init.state if self.continues(init.state) else init.potentials
        start, state = prepare_init(init, State)
        if state is not None:
            if not self.continues(state):
                got, fix = "the state of another problem", "pass the result, or its potentials"
                raise check.error("init", got, "a state of this problem", fix)
            return state, "continued"
        if start is None:
            return fresh, "from the monotone coupling" if self.staircase else ""
        g = start[1] if isinstance(start, tuple) and len(start) == 2 else start
        xp, (_, m) = self.problem.xp, self.full.shape
        fix = "pass potentials (f, g), or g alone"
        g = check.array(
            "init", g, xp=xp, shape=(m,), dtype=self.problem.dtype, device=self.problem.cost.device, fix=fix
        )
        g = np.asarray(to_numpy(g), dtype=np.float64)
        return fresh._replace(dual=(g[self.orders[1]] if self.orders else g)[self.cols]), "from given potentials"

    def continues(self, state: Any) -> bool:
        """Whether a state is one of this problem."""
        return isinstance(state, State) and simplex.fits(self.cost, state, self.supply)

    def steps(self, state: State) -> Steps:
        """Blocks of pivots, until pricing finds no arc that could enter."""
        if state.parent is None:
            line = self.staircase and state.dual is None
            state = simplex.start(self.cost, state, staircase=line, alike=self.orders is not None)
        status = None
        while True:
            yet = state
            budget = yield Step(
                x=self.potentials(state),
                nit=state.nit,
                state=state,
                stop=lambda yet=yet: self.relative_gap(yet),
                metrics={"value": lambda yet=yet: simplex.primal_value(self.rows.size, yet) / self.unit},
                status=status,
                counts={"pivots": state.nit, "passes": state.passes},
            )
            state, optimal = simplex.advance(self.cost, state, budget)
            status = Status.CONVERGED if optimal else None

    def relative_gap(self, state: State) -> float:
        """Gap between the flow and the best dual solution so far, rounding errors included."""
        gap = max(simplex.primal_value(self.rows.size, state) - state.bound, 0.0) / (self.mass * self.unit)
        return (gap + ROUNDING * _largest(state.pi[:-1])) / self.cost.size if self.cost.size else 0.0

    def potentials(self, state: State) -> tuple[Array, Array]:
        """The potentials of the tree, as the user sees them; 0 where there is no mass."""
        n = self.rows.size
        f, g = (np.zeros(k) for k in self.full.shape)
        f[self.rows], g[self.cols] = state.pi[:n], -state.pi[n:-1]
        return self.back(f, 0), self.back(g, 1)

    def back(self, host: np.ndarray, side: int | None = None) -> Array:
        """An array of the library, dtype and device of the problem, in the order of its sources (0) or targets (1)."""
        if self.orders and side is not None:
            ordered, host = host, np.empty_like(host)
            host[self.orders[side]] = ordered
        problem = self.problem
        return asarray_on(host, xp=problem.xp, dtype=problem.dtype, device=problem.cost.device)

    def finish(self, step: Step, tol: float) -> dict[str, Any]:
        """The answer and its certificate, from the tree and the data alone."""
        state, n = step.state, self.rows.size
        costs = simplex.tree_costs(self.cost, state.parent)
        pi, flow = simplex.settle(n, state.parent, costs, state.pi, self.supply, xp=np)
        i, j, w = simplex.tree_arcs(n, state.parent)
        noise = EPS * flow.size * np.minimum(self.supply[i], self.supply[n + j])
        i, j, w = (u[flow[w] > noise] for u in (i, j, w))
        value = _sum(costs[w] * flow[w]) / self.unit

        duals = [state.dual] if step.status is Status.CONVERGED else [state.dual, -pi[n:-1]]
        dual, f, g, columns, rows = max((self.dual(v) for v in duals), key=lambda found: found[0])
        i, j, masses = self.rows[i], self.cols[j], flow[w] / self.unit
        plan, error, missing = self.plan(i, j, masses, columns, rows)
        rounding = (ROUNDING * self.mass + missing) * (_largest(f) + _largest(g))
        gap = max(value - dual, 0.0) + rounding
        certificate = Certificate("lp_gap", gap, self.mass * self.cost.size, tol=tol, residual=error / self.mass)
        potentials = self.back(f, 0), self.back(g, 1)
        return {
            "certificate": certificate, "x": potentials, "potentials": potentials, "plan": plan, "fun": value,
            "value": value, "value_linear": value, "dual_value": dual, "gap": gap,
            "lp_bounds": (dual - rounding, value + rounding), "marginal_error": error,
        }  # fmt: skip

    def dual(self, v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Feasible potentials of all sources and targets from those of the targets with mass.

        Returns the dual objective, f and g with <f, a> = <g, b>, for every source the target, and for every target
        without mass the source (else 0) of smallest reduced cost.
        """
        n, m = self.full.shape
        g = np.full(m, np.min(v) - 4.0 * max(self.cost.size, 1.0))  # so low that no minimum is attained there
        g[self.cols] = v
        f, best, arg = simplex.lanes_by_row(self.full, g)
        columns = arg[np.arange(n), np.argmin(best, axis=1)]
        rows = np.zeros(m, np.int64)
        if self.cols.size < m:
            best, arg = simplex.lanes_by_column(self.full, f)
            empty = self.b == 0
            g, rows = np.where(empty, np.min(best, axis=0), g), arg[np.argmin(best, axis=0), np.arange(m)]
        of_f, of_g = _sum(f * (self.a * self.unit)), _sum(g * (self.b * self.unit))
        shift = 0.5 * (of_g - of_f) / (self.mass * self.unit)
        return (of_f + of_g) / self.unit, f + shift, g - shift, columns, rows

    def plan(
        self, i: np.ndarray, j: np.ndarray, flow: np.ndarray, columns: np.ndarray, rows: np.ndarray
    ) -> tuple[SparsePlan, float, float]:
        """The plan, and the error of its marginals in the precision that it has and in that of the computation."""
        sources, targets = self.orders or (np.arange(k) for k in self.full.shape)
        order = np.lexsort((targets[j], sources[i]))
        i, j, flow = i[order], j[order], flow[order]
        values, errors = self.back(flow), []
        for masses in (np.asarray(to_numpy(values), dtype=np.float64), flow):
            sums = np.bincount(i, masses, self.a.size), np.bincount(j, masses, self.b.size)
            errors.append(sum(_sum(np.abs(s - w)) for s, w in zip(sums, (self.a, self.b), strict=True)))
        lonely = np.flatnonzero(sums[0] == 0), np.flatnonzero(sums[1] == 0)
        closest = (
            (sources[lonely[0]], targets[columns[lonely[0]]]),
            (sources[rows[lonely[1]]], targets[lonely[1]]),
        )
        return SparsePlan(sources[i], targets[j], values, self.problem.a, self.problem.b, closest=closest), *errors


def _sum(x: np.ndarray) -> float:
    """The sum, rounded once."""
    return math.fsum(x.tolist())


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x)))


def _curve(cost: Cost) -> tuple[tuple[np.ndarray, np.ndarray] | None, bool]:
    """Orders of the points of a cloud along a curve, and whether the staircase coupling is optimal in these orders."""
    if not isinstance(cost, PointCloud) or cost.x.shape[1] > CLOUD_DIMENSIONS:
        return None, False
    convex = cost.x.shape[1] == 1 and cost.kind != "function" and (cost.p or 1.0) >= 1.0
    return (simplex.z_order(to_numpy(cost.x)), simplex.z_order(to_numpy(cost.y))), convex
