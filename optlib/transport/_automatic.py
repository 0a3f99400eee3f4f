"""Entropic problems by Sinkhorn iterations, with Newton steps at the end where these are slow."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from optlib._core import Result, Step, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.transport._newton import NewtonMethod, NewtonState
from optlib.transport._problem import check_reg, prepare
from optlib.transport.result import TransportResult
from optlib.transport.sinkhorn import SinkhornMethod, SinkhornState, sinkhorn
from optlib.transport.sinkhorn_newton import STORED, sinkhorn_newton

PROBE = 20  # iterations between two looks at the rate
AHEAD = {"truncated": 300, "scaling": 100, "log": 25}  # predicted iterations that are worth while, by what they cost


class AutomaticState(NamedTuple):
    """State of a run that begins with Sinkhorn iterations.

    Attributes
    ----------
    sinkhorn : SinkhornState
    newton : NewtonState
        Not yet begun while ``handed_over`` is False.
    handed_over : bool
    mark : float
        The error at the last look.
    """

    sinkhorn: SinkhornState
    newton: NewtonState
    handed_over: bool
    mark: float

    @property
    def reg(self) -> float:
        """The regularisation of the problem."""
        return self.sinkhorn.reg

    @property
    def nit(self) -> int:
        """Iterations of both methods."""
        return self.sinkhorn.nit + self.newton.nit


def automatic(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    unbalanced: Any = None,
    unbalanced_type: str = "kl",
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
    """Solve an entropic problem by Sinkhorn iterations, and from there by Newton steps if they are slow.

    See `optlib.transport.solve` for the rule and the arguments.
    """
    problem = prepare(cost, a, b, unbalanced=unbalanced, unbalanced_type=unbalanced_type)
    reg = check_reg(reg, problem)
    if check_every is not None:
        check.scalar("check_every", check_every, low=1, integer=True)
    options = {
        "callback": callback, "record": record, "max_time": max_time, "disp": disp, "checkpoint": checkpoint,
    }  # fmt: skip
    if isinstance(init, Result) and getattr(init.state, "reg", None) != reg:
        init = init.potentials
    state = init.state if isinstance(init, Result) else init
    n, m = problem.cost.shape
    more = options | {"unbalanced": problem.rho, "init": init, "tol": tol, "maxiter": maxiter}
    if problem.penalty == "tv" or isinstance(state, NewtonState):
        more |= {"unbalanced_type": unbalanced_type, "check_every": check_every or 1}
        return sinkhorn_newton(problem.cost, problem.a, problem.b, reg=reg, **more)
    if n * m > STORED:
        return sinkhorn(problem.cost, problem.a, problem.b, reg=reg, check_every=check_every, **more)

    solver = _Automatic(SinkhornMethod(problem, reg, tol))
    state = solver.begin(init, state)
    check_every = check_every or solver.sinkhorn.check_every
    result = run(
        solver.steps,
        state=state,
        like=solver.sinkhorn.a,
        xp=problem.xp,
        method="sinkhorn",
        finish=solver.finish,
        tol=solver.sinkhorn.tight,
        maxiter=maxiter,
        check_every=check_every,
        problem=("automatic", solver.sinkhorn.identity),
        patience=max(5, math.ceil(1000 / check_every)),
        result_class=TransportResult,
        **options,
    )
    message = solver.sinkhorn.message
    if result.state.handed_over:
        result.method = "sinkhorn_newton"
        newton = result.state.newton
        path = f" on a path from reg={solver.newton.first:.3g}" if newton.accepted or newton.eps > reg else ""
        message = f"after {result.state.sinkhorn.nit} Sinkhorn iterations, Newton steps{path}"
    result.message = f"{message}; {result.message}"
    return result


class _Automatic:
    """The two methods, one after the other."""

    def __init__(self, sinkhorn: SinkhornMethod) -> None:
        wide = sinkhorn.support.problem.dtype == sinkhorn.problem.double().dtype
        self.sinkhorn = sinkhorn
        self.newton = NewtonMethod(sinkhorn.problem, sinkhorn.reg, sinkhorn.asked, sinkhorn.support if wide else None)

    def begin(self, init: Any, state: Any) -> AutomaticState:
        if isinstance(state, AutomaticState):
            self.sinkhorn.begin(state.sinkhorn)  # it takes over the levels
            return state
        return AutomaticState(self.sinkhorn.begin(init), self.newton.begin(), False, math.inf)

    def steps(self, state: AutomaticState) -> Steps:
        """Sinkhorn iterations as long as they promise to converge soon, then Newton steps from where they are."""
        inner = self.newton.steps(state.newton) if state.handed_over else self.sinkhorn.steps(state.sinkhorn)
        step = next(inner)
        while True:
            if state.handed_over:
                state = state._replace(newton=step.state)
                passes = {"passes": step.counts["passes"] + state.sinkhorn.passes}
                budget = yield replace(step, nit=state.nit, state=state, counts=passes)
                step = inner.send(budget)
                continue
            state = state._replace(sinkhorn=step.state)
            budget = yield replace(step, state=state)
            state = self.judged(state) if step.status is None else state
            if not state.handed_over:
                step = inner.send(min(budget, PROBE - state.sinkhorn.level_nit % PROBE))
                if math.isfinite(float(step.state.info[0])):
                    continue
                state = state._replace(handed_over=True)  # weights beyond what the stored kernel bears
            inner = self.newton.steps(state.newton)
            next(inner)
            step = inner.send(budget)

    def judged(self, state: AutomaticState) -> AutomaticState:
        """The state with its mark, and handed over if the iterations are slow: every ``PROBE`` of the last level."""
        s = state.sinkhorn
        if s.level_nit % PROBE or s.level < len(self.sinkhorn.levels) - 1:
            return state
        error = float(s.info[0])
        if s.level_nit and self.slow(state, error):
            start = self.sinkhorn.support.extend(s.f, s.g)
            state = state._replace(handed_over=True, newton=self.newton.begin(start))
        return state._replace(mark=error)

    def slow(self, state: AutomaticState, error: float) -> bool:
        """Whether the rate since the last look predicts more iterations than are worth while."""
        target = self.sinkhorn.target(state.sinkhorn)
        if target <= 0.0:
            return self.sinkhorn.tight is not None
        rate = math.log(state.mark / error) / PROBE if error > 0.0 else math.inf
        ahead = AHEAD["truncated" if self.sinkhorn.truncated else self.sinkhorn.form]
        return not rate > 0.0 or math.log(error / target) > ahead * rate

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer with its certificate."""
        if step.state.handed_over:
            return self.newton.finish(replace(step, state=step.state.newton))
        return self.sinkhorn.finish(replace(step, state=step.state.sinkhorn))
