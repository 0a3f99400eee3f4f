"""Entropic problems by whichever of `sinkhorn` and `sinkhorn_newton` is done first."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from optlib._core import Result, Step, run
from optlib._core.driver import Steps
from optlib.transport._problem import check_reg, prepare
from optlib.transport.result import TransportResult
from optlib.transport.sinkhorn import SinkhornMethod, SinkhornState, sinkhorn
from optlib.transport.sinkhorn_newton import STORED, NewtonMethod, NewtonState, sinkhorn_newton

BELOW = 3e-3  # regularisation, relative to the cost range, below which Newton steps begin at once
PROBE = 10  # iterations between two looks at the rate
AHEAD = 25  # predicted iterations that are worth while


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
    """Solve an entropic problem by Sinkhorn iterations, and by Newton steps if these promise to end sooner.

    See `optlib.transport.solve` for the rule and the arguments.
    """
    problem, reg = prepare(cost, a, b, unbalanced=unbalanced), check_reg(reg)
    options = {
        "callback": callback, "record": record, "max_time": max_time, "disp": disp, "checkpoint": checkpoint,
    }  # fmt: skip
    if isinstance(init, Result) and getattr(init.state, "reg", None) != reg:
        init = init.potentials
    state = init.state if isinstance(init, Result) else init
    n, m = problem.cost.shape
    if n * m > STORED:
        more = options | {"unbalanced": unbalanced, "init": init, "tol": tol, "maxiter": maxiter}
        return sinkhorn(problem.cost, problem.a, problem.b, reg=reg, check_every=check_every, **more)
    if isinstance(state, NewtonState) or reg < BELOW * problem.range:
        more = options | {"unbalanced": unbalanced, "init": init, "tol": tol, "maxiter": maxiter}
        return sinkhorn_newton(problem.cost, problem.a, problem.b, reg=reg, check_every=check_every or 1, **more)

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
        message = f"after {result.state.sinkhorn.nit} Sinkhorn iterations, {solver.newton.message}"
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
            return state
        return AutomaticState(self.sinkhorn.begin(init), self.newton.begin(), False, math.inf)

    def steps(self, state: AutomaticState) -> Steps:
        """Sinkhorn iterations as long as they promise to converge soon, then Newton steps from the head of the path."""
        before, inner = state.sinkhorn.nit, self.sinkhorn.steps(state.sinkhorn)
        if state.handed_over:
            inner = self.newton.steps(state.newton)
        step = next(inner)
        while True:
            if state.handed_over:
                state = state._replace(newton=step.state)
                passes = {"passes": step.counts["passes"] + state.sinkhorn.passes}
                budget = yield replace(step, nit=before + step.nit, state=state, counts=passes)
            else:
                state = state._replace(sinkhorn=step.state)
                budget = yield replace(step, state=state)
            if not state.handed_over:
                nit = state.sinkhorn.nit
                if nit % PROBE == 0 and step.status is None:
                    error = float(state.sinkhorn.info[0])
                    if nit and self.slow(state, error):
                        state = state._replace(handed_over=True, newton=self.newton.begin())
                        before, inner = nit, self.newton.steps(state.newton)
                        next(inner)
                    state = state._replace(mark=error)
                budget = min(budget, PROBE - nit % PROBE)
            step = inner.send(budget)

    def slow(self, state: AutomaticState, error: float) -> bool:
        """Whether the rate since the last look predicts more iterations than are worth while."""
        target = self.sinkhorn.target(state.sinkhorn)
        if target <= 0.0:
            return self.sinkhorn.tight is not None
        rate = math.log(state.mark / error) / PROBE if error > 0.0 else math.inf
        return not rate > 0.0 or math.log(error / target) > AHEAD * rate

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer with its certificate."""
        if step.state.handed_over:
            return self.newton.finish(replace(step, state=step.state.newton))
        return self.sinkhorn.finish(replace(step, state=step.state.sinkhorn))
