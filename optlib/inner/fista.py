"""FISTA: accelerated proximal gradients with an adaptive step and restarts."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports
from optlib.inner._first_order import curvature, following, search
from optlib.inner._oracles import mapping, smooth


class FistaState(NamedTuple):
    """State of `fista`: point with f and a subgradient norm there; extrapolated point with f and its gradient."""

    x: Array
    smooth: Array
    gap: Array
    z: Array
    value: Array
    grad: Array
    momentum: float
    lipschitz: float
    nit: int
    gradients: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def fista(
    fun: Callable[[Array], tuple[Array, Array]],
    prox: Callable[[Array, float], Array],
    x0: Any,
    *,
    penalty: Callable[[Array], Array] | None = None,
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
    r"""Minimise ``f(x) + h(x)`` with f smooth and convex, and h convex with a simple proximal map.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> value, grad`` of f: a 0-d array and an array of the shape of x.
    prox : callable
        ``prox(v, t)``, the minimiser of ``t h(u) + |u - v|^2 / 2``: soft thresholding, a projection, ...; many are in
        `optlib.geometry`.
    x0 : array
        Starting point, of any shape.
    penalty : callable, optional
        ``h(x)``, a 0-d array, for the value that is reported. The method does without.
    init : Result or FistaState, optional
        A result to continue.
    step : float, optional
        First trial of the step ``1 / L``; by default from the change of the gradient over a short step.
    tol : float or None
        Stop when the norm of a subgradient of ``f + h`` is at most this; None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``x`` comes out of `prox`: it is feasible and as sparse as h makes it. ``certificate`` of kind
        ``"stationarity"``: the norm of a subgradient at ``x``.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    ``x+ = prox(z - grad(z) / L, 1 / L)``, ``z+ = x+ + beta (x+ - x)``. The momentum starts afresh where
    ``<z - x+, x+ - x> > 0``. L falls by a tenth after each step and doubles until the upper model of f holds at x+.

    Stopping: ``|grad f(x+) - grad f(z) + L (z - x+)| <= tol``, the norm of a subgradient of ``f + h`` at x+. At x0 it
    is ``L |x0 - prox(x0 - grad / L)|``.

    Cost of an iteration: about two values with gradients, one proximal map and one number to the host a trial.

    Where not to use it: without h use `accelerated_gradient`; for the lasso on NumPy coordinate descent is faster.

    References
    ----------
    A. Beck, M. Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse problems, SIAM J. Imaging
    Sci. 2009. B. O'Donoghue, E. Candes, Adaptive restart for accelerated gradient schemes, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import fista
    >>> b = np.array([3.0, -0.5, 1.0])
    >>> shrink = lambda v, t: np.sign(v) * np.maximum(np.abs(v) - t, 0.0)
    >>> fista(lambda x: (0.5 * np.sum((x - b) ** 2), x - b), shrink, np.zeros(3)).x.round(6)
    array([ 2., -0.,  0.])
    """
    fun, prox = smooth(fun), mapping("prox", prox)
    check.function("penalty", penalty, optional=True)
    xp, device, dtype = check.common(x0=x0)
    x0 = check.array("x0", x0, xp=xp, dtype=dtype, device=device)
    if step is not None:
        step = check.scalar("step", step, low=0.0, low_open=True)
    state = prepare_resume(init, FistaState, "pass a start as `x0`")
    if state is None:
        value, grad = fun(x0)
        first = 1.0 / step if step else curvature(fun, x0, grad, xp=xp)
        gap = first * linalg.norm(x0 - prox(x0 - grad / first, 1.0 / first), xp=xp)
        state = FistaState(x0, value, gap, x0, value, grad, 1.0, first, 0, 1 if step else 2)

    def objective(s: FistaState) -> Array:
        return s.smooth if penalty is None else s.smooth + penalty(s.x)

    def steps(s: FistaState) -> Steps:
        status = None
        while True:
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda s=s: s.gap, metrics={"fun": lambda s=s: objective(s)},
                status=status, counts={"gradients": s.gradients},
            )  # fmt: skip
            found = search(fun, s, lambda estimate, s=s: prox(s.z - s.grad / estimate, 1.0 / estimate), xp=xp)
            if found is None:
                status = Status.STALLED
                continue
            x, value, grad, estimate, trials = found
            gap = linalg.norm(grad - s.grad + estimate * (s.z - x), xp=xp)
            change = x - s.x
            momentum, ahead = following(s.momentum, float(xp.sum((s.z - x) * change)) > 0.0)
            z, smooth = x, value
            if ahead > 0.0:
                z = x + ahead * change
                value, grad = fun(z)
            s = FistaState(
                x, smooth, gap, z, value, grad, momentum, estimate, s.nit + 1, s.gradients + trials + (ahead > 0.0)
            )

    def finish(last: Step) -> dict[str, Any]:
        certificate = Certificate(kind="stationarity", value=float(last.state.gap), tol=tol)
        return {"certificate": certificate, "fun": float(objective(last.state))}

    return run(
        steps, state=state, like=x0, xp=xp, method="fista", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=lambda: (x0, probe(*fun(x0), prox(x0, 1.0)), step),
    )  # fmt: skip
