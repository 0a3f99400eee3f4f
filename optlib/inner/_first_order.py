"""What the first-order methods share: the search for the Lipschitz constant, momentum, and the loop without prox."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib._core.driver import Steps
from optlib.backend import Array, linalg
from optlib.inner._oracles import Smooth, smooth

FALL = 0.9  # factor of the estimated Lipschitz constant after each step
TRIALS = 60  # doublings of it


class FirstOrderState(NamedTuple):
    """State of gradient methods: point, extrapolated point with value and gradient, momentum, Lipschitz constant."""

    x: Array
    z: Array
    value: Array
    grad: Array
    momentum: float
    lipschitz: float
    nit: int
    gradients: int


def run_gradient(
    name: str, fun: Smooth, x0: Any, *, accelerated: bool, lipschitz: float | None = None, mu: float | None = None,
    step: float | None = None, init: Any, tol: float | None, check_every: int, **options: Any,
) -> Result:  # fmt: skip
    """Run gradient steps, with momentum or without; with `lipschitz` all are ``1 / lipschitz``, else they are found.

    ``mu`` makes the momentum constant.
    """
    fun = smooth(fun)
    xp, device, dtype = check.common(x0=x0)
    x0 = check.array("x0", x0, xp=xp, dtype=dtype, device=device)
    patience, beta = None, 0.0
    if mu is not None and lipschitz is not None:
        root = (mu / lipschitz) ** 0.5
        beta = (1.0 - root) / (1.0 + root)
        patience = 10 + math.ceil(4.0 / root / check_every)
    state = prepare_resume(init, FirstOrderState, "pass a start as `x0`")
    if state is None:
        value, grad = fun(x0)
        given = lipschitz or (1.0 / step if step else None)
        first = given or curvature(fun, x0, grad, xp=xp)
        state = FirstOrderState(x0, x0, value, grad, 1.0, first, 0, 1 if given else 2)

    def steps(s: FirstOrderState) -> Steps:
        status = None
        while True:
            yield Step(
                x=s.z, nit=s.nit, state=s, stop=lambda s=s: linalg.norm(s.grad, xp=xp),
                metrics={"fun": lambda s=s: s.value}, status=status, counts={"gradients": s.gradients},
            )  # fmt: skip
            if lipschitz is not None:
                x = s.z - s.grad / lipschitz
                z = x + beta * (x - s.x) if beta else x
                value, grad = fun(z)
                s = FirstOrderState(x, z, value, grad, 1.0, lipschitz, s.nit + 1, s.gradients + 1)
                continue
            found = search(fun, s, lambda estimate, s=s: s.z - s.grad / estimate, xp=xp)
            if found is None:
                status = Status.STALLED
                continue
            x, value, grad, estimate, trials = found
            change = x - s.x
            momentum, ahead = following(s.momentum, float(xp.sum(s.grad * change)) > 0.0) if accelerated else (1.0, 0.0)
            z = x
            if ahead > 0.0:
                z = x + ahead * change
                value, grad = fun(z)
            s = FirstOrderState(x, z, value, grad, momentum, estimate, s.nit + 1, s.gradients + trials + (ahead > 0.0))

    def finish(last: Step) -> dict[str, Any]:
        norm = float(linalg.norm(last.state.grad, xp=xp))
        certificate = Certificate(kind="stationarity", value=norm, tol=tol)
        return {"certificate": certificate, "fun": float(last.state.value), "grad": last.state.grad}

    return run(
        steps, state=state, like=x0, xp=xp, method=name, finish=finish, tol=tol, check_every=check_every,
        problem=lambda: (x0, probe(*fun(x0)), step, lipschitz, mu), patience=patience, **options,
    )  # fmt: skip


def search(
    fun: Smooth, s: Any, trial: Callable[[float], Array], *, xp: Any
) -> tuple[Array, Array, Array, float, int] | None:
    """Double the Lipschitz constant until the upper model at ``s.z`` holds at the point ``trial(constant)``.

    Returns the point, value and gradient there, the constant and the number of trials; None if there is none.
    """
    estimate = FALL * s.lipschitz
    for trials in range(1, TRIALS + 1):
        x = trial(estimate)
        value, grad = fun(x)
        if _below_model(s, x - s.z, value, grad, estimate, xp):
            return x, value, grad, estimate, trials
        estimate *= 2.0
    return None


def following(momentum: float, restart: bool) -> tuple[float, float]:
    """The next momentum, and how far ahead to extrapolate; afresh at a restart."""
    if restart:
        return 1.0, 0.0
    new = 0.5 * (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5)
    return new, (momentum - 1.0) / new


def curvature(fun: Smooth, x: Array, grad: Array, *, xp: Any) -> float:
    """Curvature along the gradient, from a short step."""
    size = float(linalg.norm(grad, xp=xp))
    if size == 0.0:
        return 1.0
    h = float(xp.finfo(x.dtype).eps) ** 0.5 * max(1.0, float(linalg.norm(x, xp=xp))) / size
    return float(linalg.norm(fun(x + h * grad)[1] - grad, xp=xp)) / (h * size) or 1.0


def _below_model(s: Any, d: Array, value: Array, grad: Array, lipschitz: float, xp: Any) -> bool:
    """Whether the upper model holds after the step d from z; by gradients where rounding hides it in the values."""
    square = 0.5 * lipschitz * xp.sum(d * d)
    model, change = xp.sum(s.grad * d) + square, value - s.value
    rounding = 10.0 * float(xp.finfo(s.x.dtype).eps) * xp.abs(s.value)
    bend = xp.sum((grad - s.grad) * d)
    hidden = square < 100.0 * rounding
    return bool(xp.where(hidden, bend <= 2.0 * square, change <= model + rounding))
