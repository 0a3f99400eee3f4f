"""A toy solver: halve the distance to a target. Used by the tests of the driver."""

from functools import partial
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Step, Steps, prepare_init, run
from optlib.backend import array_namespace


class ToyState(NamedTuple):
    x: Any
    nit: int


def _steps(state: ToyState, *, target: Any, factor: float, xp: Any) -> Steps:
    x, k = state
    while True:
        yield Step(
            x, k, ToyState(x, k), stop=lambda: xp.max(xp.abs(x - target)),
            metrics={"first": lambda: x[0], "k": lambda: k}, counts={"steps": k},
        )  # fmt: skip
        x, k = x - factor * (x - target), k + 1


def approach(
    target: Any, *, factor: float = 0.5, init: Any = None, tol: float | None = 1e-6, maxiter: int = 100, **options: Any
) -> Result:
    xp = array_namespace(target)
    start, state = prepare_init(init, ToyState)
    if state is None:
        state = ToyState(xp.zeros_like(target) if start is None else start, 0)

    def finish(step: Step) -> dict[str, Any]:
        error = float(xp.max(xp.abs(step.x - target)))
        return {"fun": error, "certificate": Certificate("residual", error, tol=tol)}

    return run(
        partial(_steps, target=target, factor=factor, xp=xp), state=state, like=target, xp=xp, method="toy",
        finish=finish, tol=tol, maxiter=maxiter, problem=(target, factor), **options,
    )  # fmt: skip
