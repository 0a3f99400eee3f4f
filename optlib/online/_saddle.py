"""What the saddle-point methods share: the loop in blocks, the choice of the answer, the certificate."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optlib._core import Certificate, Result, Step, Steps, run
from optlib.backend import Array
from optlib.online._problem import Problem


def run_saddle(
    method: str,
    problem: Problem,
    state: Any,
    advance: Callable[[Any, int], Any],
    answers: Callable[[Any], Sequence[Array]],
    *,
    calls: Callable[[Any], dict[str, int]],
    options: Any,
    tol: float | None,
    extras: Callable[[Any], dict[str, Any]] = lambda state: {},
    patience: int | None = None,
    **keywords: Any,
) -> Result:
    """Run a method given by its functions.

    ``advance(state, count)`` does so many iterations, ``answers(state)`` are the points that the method offers: the one
    with the least measure of the problem is the answer. A state has ``scale``, the unit of that measure, and ``nit``.
    """
    xp, scale = problem._xp, state.scale

    def best(state: Any) -> tuple[Array, Array]:
        first, *others = answers(state)
        value = problem.measure(first)
        for z in others:
            other = problem.measure(z)
            better = other < value
            first, value = xp.where(better, z, first), xp.where(better, other, value)
        return first, value

    def steps(state: Any) -> Steps:
        while True:
            z, value = best(state)
            budget = yield Step(
                problem.split(z), state.nit, state, stop=lambda value=value: value / scale, counts=calls(state)
            )
            with np.errstate(over="ignore", invalid="ignore"):  # steps that are too long end as non-finite
                state = advance(state, budget)

    def finish(step: Step) -> dict[str, Any]:
        z, value = best(step.state)
        certificate = Certificate(
            problem.kind, max(float(value), 0.0), scale=scale, tol=tol, residual=_significant(problem, z)
        )
        return {"certificate": certificate, "fun": problem.fun(z), **extras(step.state)}

    return run(
        steps, state=state, like=problem._like, xp=xp, method=method, finish=finish, tol=tol, patience=patience,
        problem=lambda: (problem.identity(), options), **keywords,
    )  # fmt: skip


def _significant(problem: Problem, z: Array) -> float:
    """Violation of the constraints beyond rounding."""
    violation = problem.violation(z)
    return violation if violation > 8.0 * problem.n * float(problem._xp.finfo(z.dtype).eps) else 0.0


def mean(old: Array, new: Array, count: int) -> Array:
    """Running mean after ``count`` points."""
    return old + (new - old) / count


def repeated(iteration: Callable[[Any], Any]) -> Callable[[Any, int], Any]:
    """Return the function that does many iterations, from one."""

    def advance(state: Any, count: int) -> Any:
        for _ in range(count):
            state = iteration(state)
        return state

    return advance
