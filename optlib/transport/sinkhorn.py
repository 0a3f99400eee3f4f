"""Sinkhorn's algorithm for entropic transport, balanced or with penalised marginals, at any regularisation."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Status, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, Compiled, default_float, supports
from optlib.transport import acceleration as accelerated
from optlib.transport import passes
from optlib.transport._problem import Problem, check_reg, prepare
from optlib.transport._support import Support, has_kernels, tolerance
from optlib.transport.acceleration import Point
from optlib.transport.certificates import certify, gap_curvature
from optlib.transport.cost import STORED_BYTES
from optlib.transport.result import TransportResult

PATH_START, PATH_RATIO = 0.01, 0.1  # first regularisation of the path in units of the cost range, and least ratios
PATH_BELOW = 2e-3  # regularisation in the same units below which the path is taken
LEVEL_ITERATIONS, LEVEL_TOL = 20, 1e-2  # of each level but the last
TRIAL_ITERATIONS, TRIAL_TOL = 3, 0.1  # of the last level before the path is taken, and error that makes it needless
SAMPLE = 32  # rows of which one is looked at before the trial
SINGLE_RANGE, SINGLE_TOL = 100.0, 2e-5  # cost range in units of reg, and tolerance, that float32 potentials bear
# Share of a row or column sum, in units of the tolerance, below which a truncated kernel drops an entry; the least
# tolerance that this is taken of; the largest share of all entries that are kept.
KEPT, TIGHTEST, ROOM = 1e-8, 1e-10, 0.1
NEAR = 8.0  # largest residual at which a kernel is truncated
RANGE = {64: 300.0, 32: 40.0}  # range of the cost, in units of reg, that portable code stores as a kernel


keeping_sweep = Compiled("optlib.transport._newton_numba:keeping_sweep")
truncated_kernel = Compiled("optlib.transport._truncated_numba:truncated_kernel")
truncated_iterate = Compiled("optlib.transport._sinkhorn_numba:iterate")


class SinkhornState(NamedTuple):
    """State of `sinkhorn`, on the sources and targets that have mass.

    Attributes
    ----------
    reg : float
        The regularisation of the problem.
    nit, passes : int
        Iterations, and passes over the cost.
    levels, level, level_nit : int
        Levels of the regularisation path, the present one, and iterations in it.
    hint, beta : array or None
        Potentials from which the stored kernel was built.
    previous_f, previous_g : array or None
        Potentials at the end of the level before.
    f, r, g, c, steps, changes, info : array
        See `optlib.transport.acceleration.Point`; all but ``f`` and ``g`` are None before the first pass.
    """

    reg: float
    nit: int
    passes: int
    levels: int
    level: int
    level_nit: int
    hint: Array | None
    beta: Array | None
    previous_f: Array | None
    previous_g: Array | None
    f: Array
    r: Array | None
    g: Array
    c: Array | None
    steps: Array | None
    changes: Array | None
    info: Array | None

    @property
    def point(self) -> Point:
        """The fields of the point."""
        return Point(self.f, self.r, self.g, self.c, self.steps, self.changes, self.info)


@supports(backends=("numpy", "cupy", "torch", "strict"), gradients=("cost", "a", "b"))
def sinkhorn(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    unbalanced: Any = None,
    method: str = "auto",
    acceleration: str | None = "auto",
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 10_000,
    check_every: int | None = None,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> TransportResult:
    r"""Solve an entropic transport problem by accelerated Sinkhorn iterations.

    Find the plan ``P >= 0`` that minimises ``<C, P> + reg KL(P | a b')`` among those with row sums ``a`` and column
    sums ``b``, with ``KL(p | q) = sum p log(p / q) - p + q``.

    Parameters
    ----------
    cost : array, nested sequence or Cost, shape (n, m)
        Cost matrix, or a cost such as ``PointCloud(x, y)``.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the same total mass; None means uniform.
    reg : float
        Strength > 0 of the regularisation, in units of the cost.
    unbalanced : float or (float, float), optional
        Strength of penalties ``rho KL(P 1 | a)`` and ``rho KL(P' 1 | b)`` in the place of the constraints; infinity
        keeps a constraint.
    method : {"auto", "scaling", "log"}
        ``"scaling"`` stores the kernel ``exp((f_i + g_j - C_ij) / reg)`` and multiplies it by vectors; potentials that
        have moved far are absorbed into it. ``"log"`` evaluates exponentials in every pass and stores nothing.
        ``"auto"`` is the scaling form for dense costs, and for clouds whose kernel takes at most 32 MiB. Where the
        iterations are not compiled (other arrays than NumPy's, and Anderson) nothing is absorbed, and the scaling form
        serves up to a cost range of 300 reg (40 reg in float32).
    acceleration : {"auto", "lbfgs", "anderson", "overrelaxation", None}
        See `optlib.transport.acceleration`; ``"auto"`` is ``"lbfgs"``, None the plain algorithm.
    init : array (m,), (array, array), TransportResult or state, optional
        Column potentials ``g``, or the ``potentials`` of another problem, to start from; or a result of the same
        problem to continue.
    tol : float, "auto" or None
        Stop when the l1 error of the marginals, relative to the mass, is at most this; with penalties, when the
        largest change of a potential in a plain iteration is at most ``tol * reg``. ``"auto"`` is 1e-6, and 1e-4 for
        float32; None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations: passes over the cost, rejected trial steps included.
    check_every : int, optional
        Iterations between two checks; by default 50 where an iteration takes less than some milliseconds, 10 else.
    callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    TransportResult
        With the lazy ``plan``, the ``potentials``, the ``value`` and its ``gap``, and ``lp_bounds``. ``counts`` has the
        passes over the cost of the iterations; the values and bounds take three more when they are asked for.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    Notes
    -----
    Stopping: by ``tol``, see there. ``success`` asks for more: the duality gap of the plan within the tolerance.

    Cost: one iteration evaluates the row potentials that are optimal for the column potentials, and the column sums of
    their plan, in one pass over the cost: n m exponentials, or 2 n m multiplications in the scaling form. Memory
    O(n + m) beside the cost in the log form.

    Below ``reg`` = 0.002 times the cost range the regularisation is lowered over a path of levels, at most 20
    iterations each, whose starts extrapolate the potentials of the last two levels linearly: they become affine in
    ``reg`` as it vanishes. There, where at most a tenth of the entries of the plan weigh more than ``1e-8 tol`` of
    their row or column, the scaling form on NumPy stores the kernel of these only, until the potentials have moved by
    ten times ``reg``; the answer is checked with all entries. Costs without geometry need no path: if such a kernel
    exists at zero potentials, and three iterations with it bring the error to 0.1, it goes on from there.

    Sources and targets without mass are left out of the iterations; their potentials are soft transforms.

    References
    ----------
    M. Cuturi, Sinkhorn distances: lightspeed computation of optimal transport, NeurIPS 2013. B. Schmitzer, Stabilized
    sparse scaling algorithms for entropy regularized transport problems, SIAM J. Sci. Comput. 2019. G. Peyre,
    M. Cuturi, Computational optimal transport, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import PointCloud, sinkhorn
    >>> x = np.linspace(0, 1, 50)
    >>> res = sinkhorn(PointCloud(x, x + 0.5), reg=0.01)
    >>> res.success
    True
    >>> round(float(np.mean(res.plan.barycentric(x + 0.5) - x)), 6)
    0.5
    """
    problem = prepare(cost, a, b, unbalanced=unbalanced)
    reg = check_reg(reg, problem)
    if check_every is not None:
        check.scalar("check_every", check_every, low=1, integer=True)
    solver = SinkhornMethod(problem, reg, tol, method, acceleration)
    state = solver.begin(init)
    if check_every is None:
        check_every = solver.check_every
    result = run(
        solver.steps,
        state=state,
        like=solver.a,
        xp=problem.xp,
        method="sinkhorn",
        finish=solver.finish,
        tol=solver.tight,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=solver.identity,
        patience=max(5, math.ceil(1000 / check_every)),
        result_class=TransportResult,
    )
    result.message = f"{solver.message}; {result.message}"
    return result


class SinkhornMethod:
    """The method: where it begins, its steps, and what it makes of the last one.

    Parameters
    ----------
    problem : Problem
    reg : float
    tol : float, "auto" or None
    method, acceleration : str
        See `sinkhorn`.
    """

    level_iterations = LEVEL_ITERATIONS
    trial = False  # whether the first level is a trial of the last
    truncated = False  # whether the kernel in use is
    complete: Array | None = None  # column potentials whose marginals are nevertheless those of the whole plan,
    missing = 0.0  # but for this mass

    def __init__(
        self, problem: Problem, reg: float, tol: Any, method: str = "auto", acceleration: str | None = "auto"
    ) -> None:
        check.option("method", method, ("auto", "scaling", "log"))
        check.option("acceleration", acceleration, ("auto", "lbfgs", "anderson", "overrelaxation", None))
        self.problem, self.reg, self.xp = problem, reg, problem.xp
        self.method = {"auto": "lbfgs", None: "plain"}.get(acceleration, acceleration)
        self.asked, self.tight = tolerance(tol, problem)
        self.tol = -1.0 if self.tight is None else self.tight
        single = problem.range <= SINGLE_RANGE * reg and (self.asked is None or self.asked >= SINGLE_TOL)
        self.support = Support(problem, single=single)
        inner = self.support.problem
        compiled = has_kernels(problem.xp) and self.method != "anderson"
        self.form, self.why = _form(method, inner, reg, compiled)
        self.stored = self.form == "scaling"
        self.cost, self.a, self.b, self.range = inner.cost, inner.a, inner.b, inner.range
        self.inv_rho = (1.0 / problem.rho[0], 1.0 / problem.rho[1])
        self.curvature = gap_curvature(problem, reg)
        self.compiled = compiled and (self.stored or passes.one_piece(inner.cost))
        wide = inner.dtype == default_float(self.xp, inner.cost.device)
        self.sparse = self.compiled and wide and passes.one_piece(inner.cost)
        self.kept = KEPT * max(self.tol, TIGHTEST)
        self.check_every = 50 if compiled and self.cost.shape[0] * self.cost.shape[1] <= 4_000_000 else 10
        self.levels = [reg]
        self.kernel: tuple[Any, Array, Array] | None = None  # and the potentials in it

    def begin(self, init: Any) -> SinkhornState:
        """The state to start from: of an earlier run, at given potentials, or at the head of the path."""
        start, state = prepare_init(init, SinkhornState)
        if state is not None and (state.reg != self.reg or state.g.shape != self.b.shape):
            start, state = self.support.extend(state.f, state.g), None  # another problem: its potentials
        if start is None and (state is None or state.levels > 1):
            self.levels = levels_to(self.reg, self.range)
            self.trial = self.promising() if state is None else state.levels > len(self.levels)
            if self.trial:
                self.levels = [self.reg, *self.levels]
        if state is None:
            f, g = self.support.restrict(start)
            state = SinkhornState(self.reg, 0, 0, len(self.levels), 0, 0, *4 * [None], f, None, g, *4 * [None])
        return state

    def promising(self) -> bool:
        """Whether a sample of rows speaks for a trial: few entries count, and they do not crowd into a few columns."""
        if not (len(self.levels) > 1 and self.stored and self.sparse and self.problem.balanced):
            return False
        rows = np.arange(0, self.a.shape[0], SAMPLE)
        cost, (f, g) = self.cost.take(rows), self.support.restrict(None)
        room = int(ROOM * rows.size * self.b.shape[0])
        _, c, _, kept = keeping_sweep(
            *next(passes.entries(cost))[2], f[rows], g, self.a[rows], self.b, self.b, self.reg, 0.0, math.inf,
            self.kept, room,
        )  # fmt: skip
        return kept is not None and float(np.sum(np.maximum(c - self.b, 0.0))) <= 0.5 * float(np.sum(c))

    @property
    def message(self) -> str:
        """What was chosen, and why."""
        levels = len(self.levels) - self.trial
        path = f", reg lowered in {levels} levels" if levels > 1 else ""
        return f"{self.form} form ({self.why}), {self.method} iterations{path}"

    @property
    def identity(self) -> tuple[Any, ...]:
        """What a checkpoint belongs to."""
        return (
            self.problem.cost, self.problem.a, self.problem.b, self.problem.rho, self.reg, self.form, self.method,
            self.levels, self.asked,
        )  # fmt: skip

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer with its certificate."""
        # the sums of the last pass, unless it was at another level, in float32, or with rows that are not exact
        state, wide = step.state, default_float(self.xp, self.problem.cost.device)
        exact = state.level == len(self.levels) - 1 and self.problem.dtype == wide and self.method != "overrelaxation"
        if self.truncated:
            swept, stored = (state.f, state.c) if exact and state.g is self.complete else None, None
        else:
            swept, stored = ((state.f, state.c), self.kernel) if exact else (None, None)
        missing = self.missing if self.truncated else 0.0
        return certify(self.problem, self.reg, step.x[1], tol=self.asked, swept=swept, stored=stored, missing=missing)

    def steps(self, state: SinkhornState) -> Steps:
        """Levels of falling regularisation; in each, blocks of iterations."""
        self.shorten(state)
        if state.info is None:
            state = self.enter(state, state.f, state.g)
        elif self.stored and state.hint is not None:
            again, _, _ = self.absorb(state, state.hint, state.beta)
            if again.level != state.level:  # at another tolerance the trial has no kernel
                state = self.enter(again, *self.support.restrict(None))
        status = None
        while True:
            last = state.level == len(self.levels) - 1
            # on the path only the trivial bound is known of the error at the end
            stop = self.error(state) if last else partial(float, max(2.0, 2.0 * self.tol))
            budget = yield Step(
                x=self.answer(state),
                nit=state.nit,
                state=state,
                stop=stop,
                metrics={"reg": partial(float, self.levels[state.level]), "error": lambda state=state: state.info[0]},
                status=status,
                counts={"passes": state.passes},
            )
            limit = TRIAL_ITERATIONS if self.trying(state) else self.level_iterations
            todo = budget if last else min(budget, limit - state.level_nit)
            target = self.target(state) if last else LEVEL_TOL
            point, done = self.iterate(state, todo, target)
            state = state._replace(
                **point._asdict(), nit=state.nit + done, passes=state.passes + done, level_nit=state.level_nit + done
            )
            if not last and self.finished(state):
                state = self.descend(state)
            elif self.solved(state, target):
                state = self.completed(state, target) if self.truncated else state
            elif self.drifted(state):
                state, _, _ = self.absorb(state, state.f, state.g)
            status = Status.CONVERGED if last and self.solved(state, target) else None

    def answer(self, state: SinkhornState) -> Any:
        """The iterate, as the user sees it."""
        return self.support.extend(state.f, state.g)

    def error(self, state: SinkhornState) -> Callable[[], Any]:
        """Error of the marginals; with penalties the largest residual, or what it leaves of the gap if that is more."""
        error = state.info[0]
        if not self.curvature:
            return lambda: error
        return lambda: self.xp.maximum(error, (self.curvature * self.xp.sum(state.c)) * error**2)

    def target(self, state: SinkhornState) -> float:
        """The tolerance for the residual itself."""
        if not self.curvature or not self.compiled or self.tol <= 0.0:
            return self.tol
        mass = self.curvature * float(self.xp.sum(state.c))
        return min(self.tol, math.sqrt(self.tol / mass)) if mass > 0.0 else self.tol

    def enter(self, state: SinkhornState, f: Array, g: Array) -> SinkhornState:
        """Start a level from given potentials."""
        eps = self.levels[state.level]
        if self.stored:
            state, c, r = self.absorb(state, f, g)
            eps = self.levels[state.level]
            f = self.kernel[1] / (1.0 + eps * self.inv_rho[0])
        else:
            f, c, r = self.evaluate(eps)(f, g, 1.0)
            state = state._replace(passes=state.passes + 1)
        point = accelerated.start(f, c, r, g, self.given(eps), self.method, xp=self.xp)
        return state._replace(**point._asdict(), level_nit=0)

    def absorb(self, state: SinkhornState, f: Array, g: Array) -> tuple[SinkhornState, Array, Array]:
        """Store the kernel of the given potentials; also the marginals of their plan.

        A trial of the last level ends here if its kernel cannot be truncated.
        """
        eps = self.levels[state.level]
        self.kernel = None  # its memory serves the next one
        state = state._replace(hint=f, beta=g, passes=state.passes + 1)
        found = self.truncate(f, g, eps)
        self.truncated = found is not None
        if found is None and self.trying(state):
            return self.absorb(state._replace(level=1), f, g)
        if found is None:
            found = passes.absorb(self.cost, f, g, self.a, self.b, eps, self.inv_rho[0])
        kernel, alpha, c, r = found
        self.kernel = (kernel, alpha, g)
        return state, c, r

    def truncate(self, f: Array, g: Array, eps: float) -> tuple[Any, Array, Array, Array] | None:
        """`passes.absorb` that stores the entries that count; None if they are many, or the potentials far off."""
        if not (self.sparse and eps < PATH_BELOW * self.range):
            return None
        entries = next(passes.entries(self.cost))[2]
        room = int(ROOM * self.cost.shape[0] * self.cost.shape[1])
        return truncated_kernel(*entries, f, g, self.a, self.b, eps, self.inv_rho[0], self.kept, room, NEAR)

    def completed(self, state: SinkhornState, target: float) -> SinkhornState:
        """The state with the error of the whole plan; with a new kernel if what was dropped counts."""
        eps, self.complete, self.missing = self.levels[state.level], state.g, self.dropped(state)
        if self.missing < math.inf:
            error = state.info[0] + 2.0 * self.missing / self.problem.mass[0]
            known = state._replace(info=self.xp.concat([error[None], state.info[1:]]))
            if self.solved(known, target):
                return known
        f, c, r = self.evaluate_whole(eps)(state.f, state.g, 1.0)
        error = self.given(eps).error(r, state.g, c, self.xp)
        info = self.xp.concat([error[None], state.info[1:]])
        state, self.missing = state._replace(f=f, r=r, c=c, info=info, passes=state.passes + 1), 0.0
        return state if self.solved(state, target) else self.absorb(state, f, state.g)[0]

    def dropped(self, state: SinkhornState) -> float:
        """Bound on the mass of the entries that a truncated kernel lacks; infinite if it would not bound the error.

        When the kernel was stored they were at most ``kept min(a_i, b_j)``.
        """
        if any(self.inv_rho):
            return math.inf
        _, alpha, beta = self.kernel
        u, v = (self.xp.exp(d / self.levels[state.level]) for d in (state.f - alpha, state.g - beta))
        by_rows, by_columns = self.xp.sum(self.a * u) * self.xp.sum(v), self.xp.sum(u) * self.xp.sum(self.b * v)
        return self.kept * min(float(by_rows), float(by_columns))

    def solved(self, state: SinkhornState, target: float) -> bool:
        """Whether compiled iterations stopped because the error is small enough."""
        return self.compiled and float(state.info[0]) <= target

    def drifted(self, state: SinkhornState) -> bool:
        """Whether compiled iterations stopped because the kernel is too far from the potentials."""
        if not (self.compiled and self.stored):
            return False
        from optlib.transport._sinkhorn_numba import reach

        far = reach(self.kernel[0], state.g.dtype) * self.levels[state.level]
        return float(self.xp.max(self.xp.abs(state.g - state.beta))) > far

    def finished(self, state: SinkhornState) -> bool:
        """Whether a level of the path is done: a question to the state alone, so that a run depends on no check.

        Portable code always does all iterations of a level, because asking for the error would wait for the device.
        """
        if self.trying(state) and (state.level_nit == TRIAL_ITERATIONS or self.drifted(state)):
            return True
        return state.level_nit == self.level_iterations or self.solved(state, LEVEL_TOL)

    def trying(self, state: SinkhornState) -> bool:
        """Whether the state is in the trial of the last level."""
        return self.trial and state.level == 0

    def shorten(self, state: SinkhornState) -> None:
        """Leave the levels that a state still has before it: one, if it began elsewhere or needs no path."""
        self.levels, self.trial = self.levels[-state.levels :], self.trial and state.levels > 1

    def descend(self, state: SinkhornState) -> SinkhornState:
        """Go to the next level, from potentials that continue those of the last two levels linearly.

        From a trial this is either the last level, as it is, or the path from its head.
        """
        if self.trying(state):
            if self.solved(state, TRIAL_TOL):
                state = state._replace(levels=1, level_nit=0)
                self.shorten(state)
                return state
            return self.enter(state._replace(level=1), *self.support.restrict(None))
        f, g, level = state.f, state.g, state.level
        start_f, start_g = f, g
        if state.previous_f is not None:
            before, now, after = self.levels[level - 1 : level + 2]
            ahead = (after - now) / (now - before)
            start_f, start_g = f + ahead * (f - state.previous_f), g + ahead * (g - state.previous_g)
        state = state._replace(level=level + 1, previous_f=f, previous_g=g)
        return self.enter(state, start_f, start_g)

    def iterate(self, state: SinkhornState, todo: int, tol: float) -> tuple[Point, int]:
        """Iterations at one level; compiled code stops early at ``tol`` and when the potentials have drifted."""
        eps = self.levels[state.level]
        if not self.compiled:
            return accelerated.run(
                self.evaluate(eps), state.point, self.given(eps), self.method, todo, xp=self.xp
            ), todo
        if self.kernel is not None:
            form = (*self.kernel, None, None, None, 1.0)
        else:
            form = (None, self.a, self.b, *next(passes.entries(self.cost))[2])
        run = truncated_iterate if self.truncated else partial(accelerated.iterate, xp=self.xp)
        *point, done = run(*form, *self.given(eps), self.method, todo, tol, *state.point)
        return Point(*point), done

    def evaluate(self, eps: float) -> accelerated.Evaluate:
        """The pass ``(f, g, omega) -> f, c, r``."""
        if self.kernel is not None:
            return partial(accelerated.evaluate_stored, *self.kernel, self.a, self.b, eps, self.inv_rho[0], xp=self.xp)
        return self.evaluate_whole(eps)

    def evaluate_whole(self, eps: float) -> accelerated.Evaluate:
        """The pass over all entries of the cost."""
        return lambda f, g, omega: passes.relaxed_sweep(self.cost, f, g, self.a, self.b, eps, self.inv_rho[0], omega)

    def given(self, eps: float) -> accelerated.Problem:
        """The problem at one level."""
        return accelerated.Problem(self.a, self.b, eps, self.inv_rho)


# -- choices --


def _form(method: str, problem: Problem, reg: float, compiled: bool) -> tuple[str, str]:
    """The form of the iterations, and why."""
    limit, (n, m) = RANGE[problem.xp.finfo(problem.a.dtype).bits], problem.cost.shape
    wide = not compiled and problem.range > limit * reg
    if method == "scaling" and wide:
        got, expected = (
            f"'scaling' with a cost range of {problem.range / reg:.3g} reg",
            f"a range of at most {limit:g} reg",
        )
        raise check.error("method", got, expected, "use 'auto' or 'log'")
    if method != "auto":
        return method, "as asked"
    if problem.cost.kind == "grid":
        return "log", "axis by axis"
    if problem.cost.kind != "dense" and 8 * n * m > STORED_BYTES:
        return "log", "the kernel of the clouds would be large"
    return ("log", f"the cost range is above {limit:g} reg") if wide else ("scaling", "the kernel is stored")


def levels_to(reg: float, spread: float, start: float = PATH_START, ratio: float = PATH_RATIO) -> list[float]:
    """The regularisation path: levels at ratios of at least ``ratio``, the last one exactly ``reg``."""
    if reg >= PATH_BELOW * spread:
        return [reg]
    first = start * spread
    count = math.ceil(math.log(first / reg) / -math.log(ratio) - 1e-9)
    return [first * (reg / first) ** (k / count) for k in range(count)] + [reg]
