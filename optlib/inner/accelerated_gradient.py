"""Accelerated gradient with an adaptive step and restarts: first-order oracles, no constants."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports

FALL = 0.9  # factor of the estimated Lipschitz constant after each step
TRIALS = 60  # doublings of it


class AcceleratedState(NamedTuple):
    """State of `accelerated_gradient`: point, extrapolated point with value and gradient, momentum, estimate."""

    x: Array
    z: Array
    value: Array
    grad: Array
    momentum: float
    lipschitz: float
    nit: int
    gradients: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def accelerated_gradient(
    fun: Callable[[Array], tuple[Array, Array]],
    x0: Any,
    *,
    init: Any = None,
    step: float | None = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    """Minimise a smooth convex function by Nesterov's method with restarts.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> value, grad``: a 0-d array and an array of the shape of x.
    x0 : array
        Starting point, of any shape.
    init : Result or AcceleratedState, optional
        A result to continue.
    step : float, optional
        First trial of the step ``1 / L``; by default from the change of the gradient over a short step.
    tol : float or None
        Stop when the norm of the gradient at the extrapolated point is at most this; None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``x`` is the point at which the gradient was measured; ``grad`` its gradient. ``certificate`` of kind
        ``"stationarity"``: the norm of the gradient.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    ``x+ = z - grad(z) / L``, ``z+ = x+ + beta (x+ - x)``. The momentum starts afresh where ``<grad(z), x+ - x> > 0``,
    which makes the method linear on strongly convex functions without knowing their constant. L falls by a tenth after
    each step and doubles until ``f(x+) <= f(z) - |grad(z)|^2 / 2L``, or, where this is below rounding, until
    ``<grad(x+) - grad(z), x+ - z> <= L |x+ - z|^2``.

    Stopping: ``|grad| <= tol``, at the extrapolated point.

    Cost of an iteration: about two function values with gradients, and one number to the host a trial.

    References
    ----------
    Y. Nesterov, A method of solving a convex programming problem with convergence rate O(1/k^2), 1983.
    B. O'Donoghue, E. Candes, Adaptive restart for accelerated gradient schemes, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import accelerated_gradient
    >>> d = np.array([1.0, 10.0, 100.0])
    >>> res = accelerated_gradient(lambda x: (0.5 * np.sum(d * x * x), d * x), np.ones(3))
    >>> res.success
    True
    """
    xp, device, dtype = check.common(x0=x0)
    x0 = check.array("x0", x0, xp=xp, dtype=dtype, device=device)
    if step is not None:
        step = check.scalar("step", step, low=0.0, low_open=True)
    _, state = prepare_init(init, AcceleratedState)
    if state is None:
        value, grad = fun(x0)
        estimate, calls = (1.0 / step, 1) if step else (_curvature(fun, x0, grad, xp), 2)
        state = AcceleratedState(x0, x0, value, grad, 1.0, estimate, 0, calls)

    def steps(s: AcceleratedState) -> Steps:
        status = None
        while True:
            yield Step(
                x=s.z, nit=s.nit, state=s, stop=lambda s=s: linalg.norm(s.grad, xp=xp),
                metrics={"fun": lambda s=s: s.value}, status=status, counts={"gradients": s.gradients},
            )  # fmt: skip
            lipschitz, trials = FALL * s.lipschitz, 0
            while True:
                x = s.z - s.grad / lipschitz
                value, grad = fun(x)
                trials += 1
                if _smooth(s, value, grad, lipschitz, xp) or trials > TRIALS:
                    break
                lipschitz *= 2.0
            if trials > TRIALS:
                status = Status.STALLED
                continue
            change = x - s.x
            restart = float(xp.sum(s.grad * change)) > 0.0
            momentum = 1.0 if restart else 0.5 * (1.0 + (1.0 + 4.0 * s.momentum**2) ** 0.5)
            beta = 0.0 if restart else (s.momentum - 1.0) / momentum
            z = x
            if beta > 0.0:
                z = x + beta * change
                value, grad = fun(z)
            s = AcceleratedState(x, z, value, grad, momentum, lipschitz, s.nit + 1, s.gradients + trials + (beta > 0.0))

    def finish(step: Step) -> dict[str, Any]:
        norm = float(linalg.norm(step.state.grad, xp=xp))
        certificate = Certificate(kind="stationarity", value=norm, tol=tol)
        return {"certificate": certificate, "fun": float(step.state.value), "grad": step.state.grad}

    return run(
        steps, state=state, like=x0, xp=xp, method="accelerated_gradient", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(x0, step),
    )  # fmt: skip


def _smooth(s: AcceleratedState, value: Array, grad: Array, lipschitz: float, xp: Any) -> bool:
    """Whether the upper model holds after the step from z; by gradients where rounding hides it in the values."""
    square = xp.sum(s.grad * s.grad)  # |x - z|^2 L^2
    model, change = -0.5 * square / lipschitz, value - s.value
    rounding = 10.0 * float(xp.finfo(s.x.dtype).eps) * xp.abs(s.value)
    bend = square - xp.sum(grad * s.grad)  # <grad(x) - grad(z), x - z> L
    hidden = -model < 100.0 * rounding
    return bool(xp.where(hidden, bend <= square, change <= model + rounding))


def _curvature(fun: Callable[[Array], tuple[Array, Array]], x: Array, grad: Array, xp: Any) -> float:
    """Curvature along the gradient, from a short step."""
    size = float(linalg.norm(grad, xp=xp))
    if size == 0.0:
        return 1.0
    h = float(xp.finfo(x.dtype).eps) ** 0.5 * max(1.0, float(linalg.norm(x, xp=xp))) / size
    return float(linalg.norm(fun(x + h * grad)[1] - grad, xp=xp)) / (h * size) or 1.0
