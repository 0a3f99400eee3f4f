r"""Transport with at most k entries in every column (or row) of the plan.

With the rows of the plan in the place of the columns (the other case is its transpose), the conjugate of
``Omega(t) = reg |t|^2 / 2`` over ``t >= 0`` with at most k entries, and the sum ``a_i`` in the semi-dual, is attained
at the k largest entries of ``s = g - C_i``: there ``t = (s + f_i)_+ / reg``, with ``f_i`` such that the sum is right.
Both dual objectives are ``<a, f> + <b, g> - reg |T|^2 / 2`` with this plan T:

- *semi-dual*: maximised over ``g``, its derivative is ``b - T' 1``; rows are exact;
- *dual*: maximised over ``f`` and ``g``; the derivative in ``f`` is ``a - T 1``.

They are concave, with kinks where the k-th and (k+1)-th entries tie; and the primal problem is not convex, so that
there may be no plan of the dual value. Both show in the plan that the dual solution gives: its other marginal is off.
What is done about that is the *recovery*.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Status, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, device_of, kernel, supports, to_numpy
from optlib.backend.namespace import asarray_on
from optlib.transport import passes
from optlib.transport._problem import Problem, check_reg, prepare
from optlib.transport._support import Support, tolerance
from optlib.transport.acceleration import lbfgs
from optlib.transport.certificates import host_numbers, largest_size
from optlib.transport.cost import Cost, row_blocks
from optlib.transport.emd import emd
from optlib.transport.quadratic import quadratic
from optlib.transport.result import TransportResult
from optlib.transport.rounding import round_plan
from optlib.transport.sparse_plan import SparsePlan

MEMORY = 10  # pairs of steps and changes of the gradient
ARMIJO, CUT, TRIALS = 1e-4, 0.25, 30
TIES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0)  # distances in units of range(C) at which entries count as tied with the k-th
REPAIRS = 10
# price of pairs outside of the support, in the same units, and tolerance, by the precision
FORBIDDEN = {64: (1e3, 1e-10), 32: (10.0, 1e-4)}


class SparsityState(NamedTuple):
    """State of `sparsity_constrained`, on the points that have mass, with sparse rows.

    Attributes
    ----------
    nit, passes : int
        Iterations, and passes over the cost.
    x : array
        The dual variables: ``g``, or ``f`` and ``g``.
    steps, changes : array, shape (10, d)
        The last steps, and the decreases of the gradient that went with them, newest first.
    pairs : int
        Number of those.
    """

    nit: int
    passes: int
    x: Array
    steps: Array
    changes: Array
    pairs: int


class Point(NamedTuple):
    """Dual variables, the plan that they give, the dual objective and its gradient."""

    x: Array
    f: Array
    g: Array
    masses: Array
    places: Array
    value: float
    gradient: Array
    error: float


class _Sparse:
    """The problem on the points with mass, sparse rows, and its dual objective."""

    def __init__(self, problem: Problem, k: int, reg: float, semi: bool, turned: bool) -> None:
        self.original, self.turned = problem, turned
        self.support = Support(problem.T if turned else problem, single=False)
        inner = self.support.problem
        n, m = inner.cost.shape
        if k * n < m:
            fix = "allow more entries, or use transport.quadratic"
            raise check.error("k", k, f"at least {-(-m // n)}: {n} times k entries must reach {m} points", fix)
        self.xp, self.cost, self.a, self.b, self.range = inner.xp, inner.cost, inner.a, inner.b, inner.range
        self.mass, self.k, self.reg, self.semi = inner.mass[0], min(k, m), reg, semi

    def begin(self, start: Any) -> SparsityState:
        """From given potentials; else from the solution without the constraint, or for k = 1 without regularisation."""
        if start is not None:
            pair = isinstance(start, (tuple, list)) and len(start) == 2
            f, g = self.support.restrict(start[::-1] if self.turned and pair else start)
        elif self.k == 1 and self.semi:
            f, g = emd(self.cost, self.a, self.b).potentials
        else:
            f, g = quadratic(self.cost, self.a, self.b, reg=self.reg).potentials
        x = g if self.semi else self.xp.concat([f, g])
        memory = self.xp.zeros((MEMORY, x.shape[0]), dtype=x.dtype, device=device_of(x))
        return SparsityState(0, 0, x, memory, memory, 0)

    def evaluate(self, x: Array) -> Point:
        """One pass."""
        xp, n, reg = self.xp, self.cost.shape[0], self.reg
        f, g = (xp.zeros_like(self.a), x) if self.semi else (x[:n], x[n:])
        f, c, squares, masses, places = top_sweep(self.cost, f, g, reg * self.a, self.k, self.semi)
        masses, gradient = masses / reg, self.b - c / reg
        if not self.semi:
            gradient = xp.concat([self.a - xp.sum(masses, axis=1), gradient])
        value = xp.sum(self.a * f) + xp.sum(self.b * g) - xp.sum(squares) / (2.0 * reg)
        value, error = to_numpy(xp.stack([value, xp.sum(xp.abs(gradient))])).tolist()
        return Point(x, f, g, masses, places, value, gradient, error / self.mass)

    def restore(self, point: Point) -> tuple[Array, Array]:
        """Potentials of the problem as posed; zero for points without mass."""
        f, g = (self.xp.astype(u, self.original.dtype) for u in self.support.extend(point.f, point.g))
        return (g, f) if self.turned else (f, g)

    def restored(self, plan: SparsePlan) -> SparsePlan:
        """A plan of the problem as posed."""
        rows, cols = (u if at is None else at[u] for u, at in zip(plan._host, self.support.index, strict=True))
        problem = self.original.T if self.turned else self.original
        values = self.xp.astype(plan.entries[2], problem.dtype)
        full = SparsePlan(rows, cols, values, problem.a, problem.b)
        return full.T if self.turned else full

    def noise(self, point: Point) -> float:
        """Rounding error of the dual objective."""
        xp = self.xp
        size = xp.sum(self.a * xp.abs(point.f)) + xp.sum(self.b * xp.abs(point.g))
        return 4.0 * float(xp.finfo(point.x.dtype).eps) * float(size)

    def subgradient(self, point: Point) -> SparsePlan:
        """The plan that the dual variables give."""
        masses, places = to_numpy(point.masses), to_numpy(point.places)
        i, r = np.nonzero(masses > 0)
        j = places[i, r]
        order = np.lexsort((j, i))
        flat = asarray_on((i * self.k + r)[order], xp=self.xp, dtype=self.xp.int64, device=device_of(point.masses))
        values = self.xp.take(self.xp.reshape(point.masses, (-1,)), flat, axis=0)
        return SparsePlan(i[order], j[order], values, self.a, self.b)

    def polished(self, point: Point) -> SparsePlan:
        """The best plan on the entries that are among the k largest, or tied with the k-th as far as necessary.

        Then rows with more than k entries are confined to their k largest, as long as there are plans.
        """
        plan = self.subgradient(point)
        if point.error == 0.0:
            return plan
        xp, cost = self.xp, self.cost.toarray()
        s = point.g[None, :] - cost
        kth = xp.sort(s, axis=1)[:, self.cost.shape[1] - self.k][:, None]
        for ties in TIES:
            support = (s >= kth - ties * self.range) & (s + point.f[:, None] >= -ties * self.range)
            plan, complete = self.best(cost, support)
            if complete:
                break
        for _ in range(REPAIRS if complete else 0):
            order, rank, counts = self.ranked(plan)
            many = counts > self.k
            if not many.any():
                break
            i, j = (u[order][rank < self.k] for u in plan._host)
            largest = np.zeros(self.cost.shape, bool)
            largest[i, j] = True
            confined = asarray_on(largest | ~many[:, None], xp=xp, dtype=xp.bool, device=device_of(cost))
            support = support & confined
            fewer, complete = self.best(cost, support)
            if not complete:
                break
            plan = fewer
        return plan

    def best(self, cost: Array, support: Array) -> tuple[SparsePlan, bool]:
        """The best plan on some entries, and whether it could keep to them."""
        xp = self.xp
        factor, accuracy = FORBIDDEN[xp.finfo(cost.dtype).bits]
        price = self.cost.bounds()[1] + factor * (self.range or 1.0)
        found = quadratic(xp.where(support, cost, price), self.a, self.b, reg=self.reg, tol=accuracy)
        i, j = found.plan._host
        kept = np.flatnonzero(to_numpy(support)[i, j])
        index = asarray_on(kept, xp=xp, dtype=xp.int64, device=device_of(cost))
        plan = SparsePlan(i[kept], j[kept], xp.take(found.plan.entries[2], index, axis=0), self.a, self.b)
        return plan, kept.size == i.size and found.success

    def ranked(self, plan: SparsePlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An order of the entries by rows and falling masses, their ranks in their rows, and the sizes of the rows."""
        rows, masses = plan._host[0], to_numpy(plan.entries[2])
        counts = np.bincount(rows, minlength=plan.shape[0])
        return np.lexsort((-masses, rows)), np.arange(rows.size) - np.repeat(np.cumsum(counts) - counts, counts), counts

    def excess(self, plan: SparsePlan) -> tuple[float, np.ndarray]:
        """Mass beyond the k largest entries of the rows, and the numbers of their entries."""
        order, rank, counts = self.ranked(plan)
        return float(np.sum(to_numpy(plan.entries[2])[order][rank >= self.k])), counts


def _steps(state: SparsityState, problem: _Sparse) -> Steps:
    """Quasi-Newton steps of limited memory, each accepted only if the dual objective rises."""
    xp, s = problem.xp, state
    point, status = problem.evaluate(s.x), None
    if problem.k == 1 and problem.semi and s.nit == 0:
        status = Status.CONVERGED  # the exact solver has found the maximum
    s = s._replace(passes=s.passes + 1)
    metric = xp.ones_like(s.x)
    while True:
        yield Step(
            x=problem.restore(point),
            nit=s.nit,
            state=s,
            stop=lambda point=point: point.error,
            metrics={"dual": lambda point=point: point.value},
            status=status,
            counts={"passes": s.passes},
        )
        s = s._replace(nit=s.nit + 1)
        direction, pairs = problem.reg * point.gradient, s.pairs
        if pairs:
            quasi = lbfgs(point.gradient, s.steps, s.changes, pairs, metric, xp)
            slope = float(xp.sum(point.gradient * quasi))
            direction, pairs = (quasi, pairs) if slope > 0.0 else (direction, 0)
        slope, noise = float(xp.sum(point.gradient * direction)), problem.noise(point)
        t, trial = 1.0, None
        for _ in range(TRIALS):
            trial = problem.evaluate(point.x + t * direction)
            s = s._replace(passes=s.passes + 1)
            if trial.value - point.value >= ARMIJO * t * slope - noise:
                break
            t, trial = CUT * t, None
        if trial is None:
            status = None if pairs else Status.STALLED
            s = s._replace(pairs=0)
            continue
        step, change = trial.x - point.x, point.gradient - trial.gradient
        inner, sizes = to_numpy(
            xp.stack([xp.sum(step * change), xp.sum(step * step) * xp.sum(change * change)])
        ).tolist()
        if inner > 1e-10 * math.sqrt(sizes):
            s = s._replace(
                steps=xp.concat([step[None, :], s.steps[:-1, :]], axis=0),
                changes=xp.concat([change[None, :], s.changes[:-1, :]], axis=0),
                pairs=min(pairs + 1, MEMORY),
            )
        else:
            s = s._replace(pairs=max(pairs - 1, 0))
        s, point = s._replace(x=trial.x), trial


@supports(backends=("numpy", "cupy", "torch", "strict"))
def sparsity_constrained(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    k: int,
    reg: float,
    per: str = "column",
    formulation: str = "semi-dual",
    recover: str = "polish",
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 1000,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> TransportResult:
    r"""Solve quadratically regularised transport with at most k entries in every column, or row, of the plan.

    Find the plan ``P >= 0`` with few entries that minimises ``<C, P> + reg / 2 sum P^2`` among those with row sums
    ``a`` and column sums ``b``.

    Parameters
    ----------
    cost : array, nested sequence or Cost, shape (n, m)
        Cost matrix, or a cost such as ``PointCloud(x, y)``. Minus the affinities of tokens and experts for routing.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the same total mass; None means uniform.
    k : int
        Largest number of entries.
    reg : float
        Strength > 0 of the regularisation; see `optlib.transport.quadratic`.
    per : {"column", "row"}
        Where entries are counted: the sources that a target gets mass from, or the targets that a source sends to.
    formulation : {"semi-dual", "dual"}
        The dual problem that is solved; the semi-dual keeps the marginal on the sparse side exact.
    recover : {"polish", "subgradient", "round"}
        The plan that is returned. ``"subgradient"``: that of the dual solution, at most k entries, but the other
        marginal is off where entries tie. ``"polish"``: the best plan on those entries and, as far as necessary, on
        entries tied with them: exact marginals, and usually a few columns with more than k entries. ``"round"``: the
        first one completed by a dense matrix of rank one (see `round_plan`).
    init : array, (array, array), TransportResult or state, optional
        Column potentials, or the ``potentials`` of another problem, to start from; or a result of the same problem to
        continue. By default the solution for k without limit, and for k = 1 in the semi-dual that of
        `optlib.transport.emd`, which is the answer then.
    tol : float, "auto" or None
        Stop when the l1 error of the marginals of the dual solution's plan, relative to the mass, is at most this; then
        it is optimal. ``"auto"`` is 1e-6, and 1e-4 for float32; None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    TransportResult
        ``nnz`` has the numbers of entries of the columns (rows), ``excess`` the mass beyond the k largest of each.

    Raises
    ------
    TypeError, ValueError
        For invalid input (see `optlib.transport.solve`), and if k is so small that some points cannot be reached.

    See Also
    --------
    optlib.transport.quadratic : Without a limit: sparse too, and fast.

    Notes
    -----
    *When not to use it.* If a sparse plan will do and the number of entries need not be prescribed, a small ``reg`` in
    `optlib.transport.quadratic` gives one that is provably optimal.

    *Certificate.* The dual value is a lower bound for all plans with k entries. ``certificate.value`` is the objective
    of the returned plan minus that; ``certificate.residual`` counts the error of its marginals, and the mass beyond the
    k largest entries of each column, relative to the mass. The problem is not convex, and in general there is no plan
    of the dual value: then there is no success, and the two numbers say how far the plan is from one. Whether an exact
    plan exists at all is a hard problem; only ``k n >= m`` is checked, with the numbers of points that have mass.

    *Method.* L-BFGS with a backtracking line search.

    *Stopping.* By ``tol``, see there. Where entries tie, the dual objective has kinks, and the run ends when no ascent
    is found (``STALLED``).

    *Cost.* A pass over the cost that selects k entries a row, some passes an iteration. ``"polish"`` stores the cost
    and solves up to fifteen quadratic problems.

    References
    ----------
    T. Liu, J. Puigcerver, M. Blondel, Sparsity-constrained optimal transport, ICLR 2023. A. Kyrillidis, S. Becker,
    V. Cevher, C. Koch, Sparse projections onto the simplex, ICML 2013.

    Examples
    --------
    >>> from optlib.transport import sparsity_constrained
    >>> res = sparsity_constrained([[0, 1, 4], [1, 0, 1], [4, 1, 0]], k=2, reg=0.1)
    >>> res.success, res.nnz.tolist()
    (True, [1, 1, 1])
    """
    problem = prepare(cost, a, b)
    reg = check_reg(reg, problem, entropy=False)
    k = check.scalar("k", k, low=1, integer=True, fix="the largest number of entries of a column")
    check.option("per", per, ("column", "row"))
    check.option("formulation", formulation, ("semi-dual", "dual"))
    check.option("recover", recover, ("polish", "subgradient", "round"))
    tol, tight = tolerance(tol, problem)
    solver = _Sparse(problem, k, reg, formulation == "semi-dual", per == "column")
    start, state = prepare_init(init, SparsityState)
    if state is None:
        state = solver.begin(start)
    return run(
        partial(_steps, problem=solver),
        state=state,
        like=solver.a,
        xp=problem.xp,
        method="sparsity_constrained",
        finish=lambda step: _finish(solver, solver.evaluate(step.state.x), recover, tol),
        tol=tight,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(problem.cost, problem.a, problem.b, k, reg, per, formulation),
        patience=200,
        result_class=TransportResult,
        message=f"{formulation}, {recover}" + (", k = 1 by the exact solver" if k == 1 and solver.semi else ""),
    )


def _finish(solver: _Sparse, point: Point, recover: str, tol: float | None) -> dict[str, Any]:
    """The recovered plan and its certificate."""
    xp, a, b, cost = solver.xp, solver.a, solver.b, solver.cost
    sparse = solver.polished(point) if recover == "polish" else solver.subgradient(point)
    excess, counts = solver.excess(sparse)
    rounded = round_plan(sparse)
    plan: Any = solver.restored(sparse)
    target: Any = sparse
    if recover == "round":
        plan, target = round_plan(plan), rounded
        added = float(xp.sum(rounded.p) * xp.sum(rounded.q))
        excess, counts = excess + added, np.full_like(counts, cost.shape[1]) if added else counts
    sums = []
    for i0, i1 in row_blocks(cost):
        costs, block = cost.rows(i0, i1), target.rows(i0, i1)
        sums.append(xp.stack([xp.sum(costs * block), xp.sum(block * block), xp.sum(costs * rounded.rows(i0, i1))]))
    lowest = passes.c_transform(cost, point.g)
    lower = xp.sum(a * lowest) + xp.sum(b * passes.c_transform(cost.T, lowest))
    error = xp.sum(xp.abs(target.sum(1) - a)) + xp.sum(xp.abs(target.sum(0) - b))
    size = largest_size(point.f, a, xp) + largest_size(point.g, b, xp)
    linear, squares, upper, lower, error, size = host_numbers([*passes._sum(sums), lower, error, size], xp)
    rounding = 8.0 * float(xp.finfo(a.dtype).eps) * (solver.mass * (size + max(map(abs, cost.bounds()))))
    value = linear + 0.5 * solver.reg * squares
    gap = abs(value - point.value) + rounding
    wide = solver.original.dtype == a.dtype
    error += 0.0 if wide else float(xp.finfo(solver.original.dtype).eps) * solver.mass
    largest = min(float(xp.max(a)), float(xp.max(b)))
    certificate = Certificate(
        "duality_gap", gap, solver.mass * (solver.range + solver.reg * largest), tol=tol,
        residual=(error + excess) / solver.mass,
    )  # fmt: skip
    potentials = solver.restore(point)
    return {
        "certificate": certificate, "x": potentials, "potentials": potentials, "plan": plan, "fun": value,
        "value": value, "value_linear": linear, "dual_value": point.value, "gap": gap, "marginal_error": error,
        "lp_bounds": (lower - rounding, upper + rounding), "nnz": counts, "excess": excess,
    }  # fmt: skip


# -- the pass --


def top_sweep(
    cost: Cost, f: Array, g: Array, wanted: Array, k: int, exact: bool
) -> tuple[Array, Array, Array, Array, Array]:
    """The k largest entries of every row of ``f + g - C``, and their sums.

    Parameters
    ----------
    cost : Cost, shape (n, m)
    f, wanted : array, shape (n,)
    g : array, shape (m,)
    k : int
        At most m.
    exact : bool
        Whether ``f`` is replaced by what makes the sums of the positive parts ``wanted``.

    Returns
    -------
    f : array, shape (n,)
    c : array, shape (m,)
        Column sums of the positive parts of those entries.
    squares : array, shape (n,)
        Row sums of their squares.
    masses : array, shape (n, k)
        The positive parts in descending order.
    places : array of integers, shape (n, k)
        Their columns.
    """
    xp = cost.xp
    parts = [_top(*part, f[i0:i1], g, wanted[i0:i1], k, exact, xp=xp) for i0, i1, part in passes.entries(cost)]
    new, c, squares, masses, places = zip(*parts, strict=True)
    whole = (passes._concat(list(u), xp) for u in (squares, masses, places))
    return passes._concat(list(new), xp), passes._sum(list(c)), *whole


@kernel(numba="optlib.transport._sparsity_numba:top_sweep", match="sum")
def _top(
    cost: Array | None, x: Array | None, y: Array | None, scale: float, f: Array, g: Array, wanted: Array, k: int,
    exact: bool, *, xp: Any,
) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
    found = []
    for rows, block in passes._blocks(cost, x, y, scale, g, xp):
        s = g[None, :] - block
        order = xp.argsort(s, axis=1, descending=True, stable=True)
        places = order[:, :k]
        top = xp.take_along_axis(s, places, axis=1)
        new = f[rows]
        if exact:
            u, w = top - top[:, :1], wanted[rows][:, None]
            sums, count = xp.cumulative_sum(u, axis=1), xp.arange(1, k + 1, dtype=s.dtype, device=device_of(s))[None, :]
            last = xp.sum(xp.astype(u * count > sums - w, xp.int64), axis=1, keepdims=True) - 1
            last = xp.maximum(last, xp.zeros_like(last))
            tail = xp.take_along_axis(sums, last, axis=1)
            new = ((w - tail) / xp.astype(last + 1, s.dtype) - top[:, :1])[:, 0]
        t = top + new[:, None]
        t = xp.where(t > 0, t, xp.zeros_like(t))
        padded = xp.concat([t, xp.zeros((t.shape[0], s.shape[1] - k), dtype=s.dtype, device=device_of(s))], axis=1)
        c = xp.sum(xp.take_along_axis(padded, xp.argsort(order, axis=1), axis=1), axis=0)
        found.append((new, c, xp.sum(t * t, axis=1), t, places))
    new, c, squares, masses, places = zip(*found, strict=True)
    whole = (passes._concat(list(u), xp) for u in (squares, masses, places))
    return passes._concat(list(new), xp), passes._sum(list(c)), *whole
