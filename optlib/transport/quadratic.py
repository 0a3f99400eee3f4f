r"""Quadratically regularised transport by a semismooth Newton method along a path of regularisations.

The plan is ``P = (f + g - C)_+ / reg``: sparse. With ``f(g)`` the row potentials that make the rows of ``P`` exact, the
semi-dual ``J(g) = <a, f> + <b, g> - reg |P|^2 / 2`` is concave and piecewise quadratic, with the gradient ``b - c``,
``c = P' 1``, and the generalised Hessian ``-S / reg``,

    S = diag(W' 1) - W' diag(W 1)^-1 W,    W_ij = 1 where P_ij > 0 and 0 elsewhere:

the Laplacian of a graph on the columns. Its components may be many, and then a Newton step knows nothing of how they
hang together. Three things help: entries that are almost in the support enter ``W`` with a small weight; a small
multiple of ``diag(max(b, c))`` is added to ``S``; and the problem is solved for a sequence of regularisations, each
from a linear extrapolation of the potentials of the last two, which is exact as long as the support stays.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, Compiled, device_of, kernel, scatter, supports, to_numpy
from optlib.backend.namespace import asarray_on
from optlib.transport import passes
from optlib.transport._newton_systems import solve_dense, solve_sparse
from optlib.transport._problem import Problem, check_reg, prepare
from optlib.transport._quadratic_answer import answer
from optlib.transport._support import Support, by_rows, has_kernels
from optlib.transport.certificates import only_with_mass
from optlib.transport.result import TransportResult

PATH_START, PATH_RATIO = 0.1, 0.35  # first regularisation of the path, in units of range(C) max(n, m) / mass, and ratio
LEVEL_TOL, LEVEL_STEPS = 3e-2, 40  # of each level but the last
SOFT, LEAST = 1e-2, 1e-9  # weights of entries that are almost in the support
SHIFT = (1e-10, 1e-3, 1e6)  # least, first and largest multiple of diag(max(b, c)) in the system
TRIALS = 12  # points that a line search may look at


keeping_sweep = Compiled("optlib.transport._quadratic_numba:keeping_sweep")
weigh = Compiled("optlib.transport._quadratic_numba:weigh")


class QuadraticState(NamedTuple):
    """State of `quadratic`, on the sources and targets that have mass, targets on the smaller side.

    Attributes
    ----------
    reg : float
        The regularisation of the problem.
    nit, passes : int
        Iterations, and passes over the cost.
    levels, level, level_nit : int
        Levels of the path, the present one, and iterations in it.
    shift, margin : float
        What is added to the system, and how far entries outside of the support count.
    hint, g : array
        The last row potentials, and the column potentials that come next.
    f_0, g_0, f_1, g_1 : array
        Potentials at the end of the last two levels.
    """

    reg: float
    nit: int
    passes: int
    levels: int
    level: int
    level_nit: int
    shift: float
    margin: float
    hint: Array
    g: Array
    f_0: Array
    g_0: Array
    f_1: Array
    g_1: Array


class Point(NamedTuple):
    """Column potentials, what a pass finds at them, and the entries of the plan if they were kept."""

    f: Array
    g: Array
    c: Array
    squares: float
    error: float
    entries: Any


class _Quadratic:
    """The problem on the points with mass, columns on the smaller side, and what is done with it."""

    def __init__(self, problem: Problem, reg: float) -> None:
        self.support = Support(problem, single=False)
        inner = self.support.problem
        self.swapped = inner.cost.shape[0] < inner.cost.shape[1]
        if self.swapped:
            inner = inner.T
        self.xp, self.cost, self.a, self.b = inner.xp, by_rows(inner.cost), inner.a, inner.b
        self.mass, self.size = inner.mass[0], inner.mass[0] / min(inner.cost.shape)
        self.last: Any = None  # what the last pass found
        self.compiled, self.room = has_kernels(self.xp), 64  # entries a row to make room for in the next pass
        self.reg, self.levels = reg, _levels(reg, inner.range * max(inner.cost.shape) / self.mass)

    def begin(self, start: Any) -> QuadraticState:
        """The first level, or the last one from given potentials."""
        f, g = self.support.restrict(start)
        if self.swapped:
            f, g = g, f
        level = 0 if start is None else len(self.levels) - 1
        margin = self.margin(level, math.sqrt(self.cost.shape[0]), 1.0)
        return QuadraticState(self.reg, 0, 0, len(self.levels), level, 0, SHIFT[1], margin, f, g, f, g, f, g)

    def margin(self, level: int, crowd: float, error: float) -> float:
        """Distance from the support at which entries still count: the size of an entry, smaller near the solution."""
        return self.levels[level] * self.size / max(crowd, 1.0) * min(1.0, error)

    def crowd(self, level: int, point: Point) -> float:
        """About how many entries a row of the plan has: those that would have the same sum of squares."""
        if not point.squares:  # of costs of 1e-300
            return float(self.cost.shape[1])
        return (self.levels[level] * self.mass / point.squares**0.5) ** 2 / self.cost.shape[0]

    def restore(self, f: Array, g: Array) -> tuple[Array, Array]:
        """Potentials of the problem as posed; zero for points without mass."""
        return self.support.extend(*((g, f) if self.swapped else (f, g)))

    def evaluate(self, state: QuadraticState) -> Point:
        """One pass: rows exact for ``g``."""
        if self.last is not None and self.last[1].g is state.g and self.last[0] == (state.level, state.margin):
            return self.last[1]
        xp, eps, g = self.xp, self.levels[state.level], state.g
        wanted, entries = eps * self.a, None
        if self.compiled:
            parts = passes.entries(self.cost)
            f, c, squares, entries = keeping_sweep(parts, state.hint, g, wanted, state.margin, self.room)
            self.room = 8 + 5 * int(np.sum(entries[1] - entries[0])) // (4 * entries[0].size)
        else:
            f, c, squares = sweep(self.cost, state.hint, g, wanted)
        c = c / eps
        square, error = to_numpy(xp.stack([xp.sum(squares), xp.sum(xp.abs(c - self.b))])).tolist()
        self.last = (state.level, state.margin), Point(f, g, c, square, error / self.mass, entries)
        return self.last[1]

    def potentials(self, problem: Problem, point: Point) -> tuple[Array, Array]:
        """Potentials of the problem as posed; for points without mass the largest that give them none."""
        xp, (f, g), wide = problem.xp, self.restore(point.f, point.g), problem.double()
        if problem.has_zeros[0]:
            lowest = passes.c_transform(wide.cost, only_with_mass(g, wide.b, wide.range, xp))
            f = xp.where(wide.a > 0, f, lowest)
        if problem.has_zeros[1]:
            g = xp.where(wide.b > 0, g, passes.c_transform(wide.cost.T, f))
        return f, g

    def entries(self, point: Point) -> tuple[np.ndarray, np.ndarray, Array]:
        """Rows and columns of the plan of the problem as posed, sorted by rows, and the slacks there."""
        xp = self.xp
        if point.entries is not None:
            begin, end, index, slack = point.entries
            i = np.repeat(np.arange(begin.size), end - begin)
            places = np.repeat(begin, end - begin) + (
                np.arange(i.size) - np.repeat(np.cumsum(end - begin) - (end - begin), end - begin)
            )
            j, slack = index[places], slack[places]
            positive = slack > 0.0
            i, j, slack = i[positive], j[positive], slack[positive]
        else:
            dense = point.f[:, None] + (point.g[None, :] - self.cost.toarray())
            i, j = np.nonzero(to_numpy(dense) > 0)
            flat = asarray_on(i * dense.shape[1] + j, xp=xp, dtype=xp.int64, device=device_of(dense))
            slack = xp.take(xp.reshape(dense, (-1,)), flat, axis=0)
        rows, cols = (j, i) if self.swapped else (i, j)
        rows, cols = (
            u if where is None else where[u] for u, where in zip((rows, cols), self.support.index, strict=True)
        )
        order = np.lexsort((cols, rows))
        return (
            rows[order],
            cols[order],
            xp.take(slack, xp.asarray(order, dtype=xp.int64, device=device_of(slack)), axis=0),
        )

    # -- one Newton step --

    def direction(self, point: Point, state: QuadraticState) -> Array:
        """The solution ``y`` of ``S y = b - c``; the step of ``g`` is ``reg y``."""
        xp, b = self.xp, self.b
        rhs = b - point.c
        ground = (state.shift * min(1.0, point.error) / self.size) * xp.maximum(b, point.c)  # bounds y whatever b is
        accuracy = min(0.1, max(point.error, 1e-6))
        if point.entries is not None:
            begin, end, index, slack = point.entries
            value, rows, columns = weigh(begin, end, index, slack, state.margin, SOFT, LEAST, rhs.size)
            columns = columns + ground
            y = solve_sparse((begin, end, index, value), rows, columns, columns, rhs, accuracy)
        else:
            weights = _weights(point.f[:, None] + (point.g[None, :] - self.cost.toarray()), state.margin, xp)
            rows, columns = xp.sum(weights, axis=1), xp.sum(weights, axis=0) + ground
            y = solve_dense(weights, rows, columns, columns, rows, rhs, accuracy, xp=xp)
        return y - xp.sum(b * y) / self.mass

    def gain(self, old: Point, new: Point, eps: float) -> tuple[float, float, float]:
        """Increase of the semi-dual, its rounding error, and the slope at the new point along the move."""
        xp, df, dg = self.xp, new.f - old.f, new.g - old.g
        linear = xp.sum(self.a * df) + xp.sum(self.b * dg)
        size = xp.sum(self.a * xp.abs(new.f)) + xp.sum(self.b * xp.abs(new.g))
        linear, size, slope = to_numpy(xp.stack([linear, size, xp.sum((self.b - new.c) * dg)])).tolist()
        rounding = 4.0 * float(xp.finfo(dg.dtype).eps) * size
        return linear - (new.squares - old.squares) / (2.0 * eps), rounding, slope

    def revive(self, state: QuadraticState, point: Point) -> Array | None:
        """Column potentials that are exact, for the given rows, in the columns that miss most of their mass."""
        xp = self.xp
        bad = np.flatnonzero(to_numpy(xp.abs(point.c - self.b) > 0.5 * self.b))
        if not bad.size:
            return None
        index = xp.asarray(bad, dtype=xp.int64, device=device_of(point.g))
        g, b = xp.take(point.g, index, axis=0), xp.take(self.b, index, axis=0)
        exact, _, _ = sweep(self.cost.take(None, bad).T, g, point.f, self.levels[state.level] * b)
        return scatter.add_at(point.g, index, exact - g, xp=xp)


def _steps(state: QuadraticState, problem: _Quadratic) -> Steps:
    s, point = state, problem.evaluate(state)
    s = s._replace(passes=s.passes + 1)

    def move(g: Array, margin: float, **changes: Any) -> None:
        """Evaluate new column potentials."""
        nonlocal s, point
        s = s._replace(**{"hint": point.f, "g": g, "margin": margin, "passes": s.passes + 1} | changes)
        point = problem.evaluate(s)

    def near() -> float:
        return problem.margin(s.level, problem.crowd(s.level, point), point.error)

    def descend() -> None:
        """Begin the next level at potentials that continue those of the last two linearly."""
        f, g, ahead, level = point.f, point.g, 0.0, s.level + 1
        if s.level:
            before, now, after = problem.levels[level - 2 : level + 1]
            ahead = (after - now) / (now - before)
        hint, start = f + ahead * (f - s.f_1), g + ahead * (g - s.g_1)
        fresh = {"level": level, "level_nit": 0, "shift": SHIFT[1], "f_0": s.f_1, "g_0": s.g_1, "f_1": f, "g_1": g}
        move(start, problem.margin(level, problem.crowd(s.level, point), 1.0), hint=hint, **fresh)

    def newton() -> None:
        """One Newton step, cut until the semi-dual has not passed its maximum along it by much."""
        nonlocal s, point
        before, old, eps = s, point, problem.levels[s.level]
        dg, margin = eps * problem.direction(old, s), near()
        first = float(problem.xp.sum((problem.b - old.c) * dg))
        t, found = 1.0, False
        for _ in range(TRIALS if first > 0.0 else 0):
            s, point = before._replace(passes=s.passes), old
            move(old.g + t * dg, margin)
            gain, rounding, slope = problem.gain(old, point, eps)
            found = slope >= 0.0 or (slope >= -0.9 * t * first and gain >= -rounding)
            if found:
                break
            t *= min(max(t * first / (t * first - slope), 0.05), 0.5)
        if not found:
            s, point = before._replace(passes=s.passes), old
        factor = 0.25 if found and t == 1.0 else 4.0 if found else 10.0
        s = s._replace(shift=min(max(factor * s.shift, SHIFT[0]), SHIFT[2]), level_nit=s.level_nit + 1)

    while True:
        last = s.level == len(problem.levels) - 1
        error = point.error if last else float(len(problem.levels) - s.level)
        yield Step(
            x=problem.restore(point.f, point.g),
            nit=s.nit,
            state=s,
            stop=lambda error=error: error,
            counts={"passes": s.passes},
        )
        s = s._replace(nit=s.nit + 1)
        if not last and (point.error <= LEVEL_TOL or s.level_nit >= LEVEL_STEPS):
            descend()
            continue
        newton()
        g = problem.revive(s, point)
        if g is not None:
            move(g, near())


@supports(backends=("numpy", "cupy", "torch", "strict"), gradients=("cost", "a", "b"))
def quadratic(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
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
    r"""Solve a transport problem with a quadratic regularisation, whose plan is sparse.

    Find the plan ``P >= 0`` that minimises ``<C, P> + reg / 2 sum P^2`` among those with row sums ``a`` and column sums
    ``b``.

    Parameters
    ----------
    cost : array, nested sequence or Cost, shape (n, m)
        Cost matrix, or a cost such as ``PointCloud(x, y)``.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the same total mass; None means uniform.
    reg : float
        Strength > 0 of the regularisation. Entries of a plan are of the size of mass / n, so the unit of ``reg`` is the
        cost times n / mass: 0.1 of that blurs visibly, 0.001 little; and below some positive value the plan is a
        solution of the unregularised problem.
    init : array (m,), (array, array), TransportResult or state, optional
        Column potentials ``g``, or the ``potentials`` of another problem, to start from; or a result of the same
        problem to continue.
    tol : float, "auto" or None
        Stop when the l1 error of the marginals, relative to the mass, is at most this. ``"auto"`` is 1e-8, and 1e-4 for
        float32; None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations: Newton steps, and changes of the regularisation.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    TransportResult
        ``plan`` is a `SparsePlan`; the ``potentials`` give it as ``(f + g - C)_+ / reg``. ``counts`` has the passes
        over the cost.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    See Also
    --------
    optlib.transport.sparsity_constrained : At most k entries a column.
    optlib.transport.sinkhorn : Entropic regularisation: dense plans, and faster to solve roughly.

    Notes
    -----
    *When not to use it.* For the unregularised optimum `optlib.transport.emd` is faster; on a GPU, and at low accuracy,
    `optlib.transport.sinkhorn` is.

    *Method.* Semismooth Newton steps on the semi-dual, along a path of falling regularisations; a line search that
    needs no values of the objective; columns that miss half of their mass or more are set exactly after the step. The
    linear systems are Laplacians of sparse graphs: conjugate gradients, and an approximate Cholesky factor where these
    are slow. Where the passes are not compiled (other arrays than NumPy's) the system is dense and factored.

    *Stopping.* By ``tol``, see there. ``success`` asks for more: a duality gap of at most ``tol`` times the mass times
    the range of the cost plus ``reg`` times the largest possible entry. The gap is that of a plan with exact marginals,
    the rounded one.

    *Cost.* Two or three scans of every row a pass, and one to three passes an iteration; 10 to 60 iterations usually.
    Memory O(n + m) and the entries of the plan, beside the cost; dense systems take O(n m).

    References
    ----------
    D. Lorenz, P. Manns, C. Meyer, Quadratically regularized optimal transport, Appl. Math. Optim. 83, 2021 (Algorithm
    2: a damped semismooth Newton method on the dual). M. Blondel, V. Seguy, A. Rolet, Smooth and sparse optimal
    transport, AISTATS 2018 (the semi-dual).

    Examples
    --------
    >>> from optlib.transport import quadratic
    >>> res = quadratic([[0, 1, 4], [1, 0, 1]], [0.5, 0.5], [0.5, 0.25, 0.25], reg=0.5)
    >>> res.success
    True
    >>> res.plan.toarray().round(3)
    array([[0.5 , 0.  , 0.  ],
           [0.  , 0.25, 0.25]])
    """
    problem = prepare(cost, a, b)
    reg = check_reg(reg, problem, entropy=False)
    if tol == "auto":
        tol = 1e-8 if problem.xp.finfo(problem.dtype).bits == 64 else 1e-4
    tight = None if tol is None else check.scalar("tol", tol, low=0.0)
    solver = _Quadratic(problem, reg)
    start, state = prepare_init(init, QuadraticState)
    if state is not None and (state.reg != reg or state.g.shape != solver.b.shape):
        start, state = solver.restore(state.hint, state.g), None  # the result of another problem: its potentials
    if state is None:
        state = solver.begin(start)
    elif state.levels == 1:
        solver.levels = [reg]
    return run(
        partial(_steps, problem=solver),
        state=state,
        like=solver.a,
        xp=problem.xp,
        method="quadratic",
        finish=lambda step: _finish(problem, solver, step.state, tight),
        tol=None if tight is None else 0.8 * tight,  # the rest is for rounding errors of the rows
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(problem.cost, problem.a, problem.b, reg),
        patience=300,
        result_class=TransportResult,
        message=f"semismooth Newton, {len(solver.levels)} level{'s' * (len(solver.levels) > 1)} of reg",
    )


def _weights(slack: Array, margin: float, xp: Any) -> Array:
    """1 in the support, less than `SOFT` at the distance of at most ``margin`` from it, 0 beyond."""
    near = SOFT * (1.0 + slack / margin) + LEAST
    zero, one = xp.zeros_like(slack), xp.ones_like(slack)
    return xp.where(slack > 0, one, xp.where(slack > -margin, near, zero))


# -- the pass --


def sweep(cost: Any, f: Array, g: Array, wanted: Array) -> tuple[Array, Array, Array]:
    """Row potentials with ``sum_j (f_i + g_j - C_ij)_+ = wanted_i``, near given ones, and sums of the positive parts.

    Parameters
    ----------
    cost : Cost, shape (n, m)
    f, wanted : array, shape (n,)
    g : array, shape (m,)

    Returns
    -------
    f : array, shape (n,)
    c : array, shape (m,)
        Column sums of the positive parts.
    squares : array, shape (n,)
        Row sums of their squares.
    """
    xp = cost.xp
    parts = [_sweep(*part, f[i0:i1], g, wanted[i0:i1], xp=xp) for i0, i1, part in passes.entries(cost)]
    new, c, squares = zip(*parts, strict=True)
    return passes._concat(list(new), xp), passes._sum(list(c)), passes._concat(list(squares), xp)


@kernel(numba="optlib.transport._quadratic_numba:sweep", match="sum")
def _sweep(
    cost: Array | None, x: Array | None, y: Array | None, scale: float, f: Array, g: Array, wanted: Array, *, xp: Any
) -> tuple[Array, Array, Array]:  # fmt: skip
    potentials, columns, squares = [], [], []
    for rows, block in passes._blocks(cost, x, y, scale, g, xp):
        s = g[None, :] - block
        top = xp.max(s, axis=1, keepdims=True)
        u = xp.sort(s - top, axis=1, descending=True)
        sums, w = xp.cumulative_sum(u, axis=1), wanted[rows][:, None]
        count = xp.arange(1, s.shape[1] + 1, dtype=s.dtype, device=device_of(s))[None, :]
        active = xp.sum(xp.astype(u * count > sums - w, xp.int64), axis=1, keepdims=True)
        active = xp.maximum(active, xp.ones_like(active))
        k = xp.astype(active, s.dtype)
        new = (w - xp.take_along_axis(sums, active - 1, axis=1)) / k - top
        t = s + new
        t = xp.where(t > 0, t, xp.zeros_like(t))
        potentials.append(new[:, 0])
        columns.append(xp.sum(t, axis=0))
        squares.append(xp.sum(t * t, axis=1))
    return passes._concat(potentials, xp), passes._sum(columns), passes._concat(squares, xp)


# -- choices and the answer --


def _levels(reg: float, unit: float) -> list[float]:
    """The regularisation path: ratios near ``PATH_RATIO``, the last level exactly ``reg``."""
    if reg >= PATH_START * unit:
        return [reg]
    count = math.ceil(math.log(PATH_START * unit / reg) / -math.log(PATH_RATIO))
    ratio = (reg / (PATH_START * unit)) ** (1 / count)
    return [PATH_START * unit * ratio**k for k in range(count)] + [reg]


def _finish(problem: Problem, solver: _Quadratic, state: QuadraticState, tol: float | None) -> dict[str, Any]:
    """The answer and its certificate: the objectives of the rounded plan and of the potentials."""
    point = solver.evaluate(state)
    f, g = solver.potentials(problem, point)
    i, j, slack = solver.entries(point)
    return answer(problem, f, g, i, j, slack, solver.reg, tol)
