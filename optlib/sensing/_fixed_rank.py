"""What the methods on the matrices of fixed rank share: start, loop, and when no progress is left."""

from typing import Any

from optlib._core import Status, Step, Steps, prepare_init, run
from optlib.sensing._problem import Problem, check_rank, conclude
from optlib.sensing.result import SensingResult
from optlib.sensing.spectral import as_point, spectral_point

FALL = {64: 1e-13, 32: 1e-6}  # a step that lowers the squared residual by less makes no progress
FLAT = 3  # such steps end the run


def run_fixed_rank(
    name: str, problem: Problem, rank: int, init: Any, method: Any, state_class: type, **options: Any
) -> SensingResult:
    """Run a method from the spectral start.

    ``method.start(point)`` is the state at a matrix, ``method.step(state)`` the next one; states have ``point``,
    ``residual``, and the numbers ``flat`` of steps in succession without progress, ``nit`` and ``passes``.
    """
    rank = check_rank(rank, problem.A)
    start, state = prepare_init(init, state_class)
    if state is None:
        state = method.start(spectral_point(problem, rank) if start is None else as_point(problem, start, rank))

    def steps(state: Any) -> Steps:
        while True:
            ended = problem.tol is not None and state.flat >= FLAT
            yield Step(
                x=state.point.factors,
                nit=state.nit,
                state=state,
                stop=lambda: problem.relative(state.residual),
                status=Status.CONVERGED if ended else None,
                counts={"passes": state.passes},
            )
            state = method.step(state)

    return run(
        steps,
        state=state,
        like=problem.y,
        xp=problem.xp,
        method=name,
        finish=lambda step: conclude(problem, step.state.point),
        tol=problem.target,
        problem=(problem.A, problem.y, problem.psd, rank),
        result_class=SensingResult,
        **options,
    )
