"""Newton steps regularised by the gradient norm, with exact or approximate Hessians."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports
from optlib.inner._oracles import matrix, smooth

TRIALS = 60  # of a step
LEAST = 1e-9  # radius


class RegularizedNewtonState(NamedTuple):
    """State of `regularized_newton`: point, value, gradient and its dual norm, radius, last factor, and counts."""

    x: Array
    value: float
    grad: Array | None
    size: float
    radius: float
    factor: Array | None
    nit: int
    gradients: int
    hessians: int
    factors: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def regularized_newton(
    fun: Callable[[Array], tuple[Array, Array]],
    x0: Any,
    *,
    hessian: Callable[[Array], Array] | None = None,
    metric: Any = None,
    radius: float | None = None,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 1000,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Minimise a smooth function by steps ``-(H + lambda B)^-1 grad`` with ``lambda = |grad|_* / radius``.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> value, grad``: a 0-d array and an array of the shape of x.
    x0 : array
        Starting point, of any shape.
    hessian : callable, optional
        ``hessian(x)``, a positive semidefinite matrix for the flattened x: the Hessian or what approximates it, such as
        a Gauss-Newton or Fisher matrix. By default 0: gradient steps.
    metric : array, shape (d, d), optional
        The positive definite matrix B of the norms ``|h|^2 = h' B h`` and ``|g|_*^2 = g' B^-1 g``; by default the
        identity. For a model of ``A x`` take ``A' A``: then the iterates do not depend on the coordinates.
    radius : float, optional
        First radius, a length in the metric; by default ``max(|x0|, 1)``.
    init : Result or RegularizedNewtonState, optional
        A result to continue.
    tol : float or None
        Stop when the dual norm of the gradient is at most this; None runs ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``grad`` is the gradient at ``x``; ``factor`` the Cholesky factor of the last ``H + lambda B``, a preconditioner
        for systems with the Hessian. ``certificate`` of kind ``"stationarity"``: the dual norm of the gradient.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    A step is accepted when ``f(x) - f(x+) >= |grad(x+)|_*^2 / (8 lambda)``; the radius then doubles, otherwise it
    halves. Every step passes whose radius is one in which the linear model of the gradient errs by at most the
    gradient itself; how large that is decides the rate, and nothing of it has to be known: linear for
    logistic, softmax and exponential losses, superlinear near a solution with the exact Hessian. Where rounding hides
    the decrease, ``<grad(x+), x - x+> >= |grad(x+)|_*^2 / (4 lambda)`` replaces it.

    An approximation should not exceed the Hessian: the radius makes up for what is missing, not for what is too much.

    Stopping: see ``tol``; as stalled when no radius gives a step, at the rounding level.

    Cost of a step: one Hessian, and two Cholesky factors (d^3 / 3) and gradients on average. Memory: d^2.

    Where not to use it: for more than some thousand variables, where `newton` with products is cheaper.

    References
    ----------
    A. Semenov, M. Jaggi, N. Doikov, Gradient-normalized smoothness for optimization with approximate Hessians,
    ICLR 2026, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import regularized_newton
    >>> res = regularized_newton(
    ...     lambda x: (np.sum(np.cosh(x)), np.sinh(x)), np.ones(3), hessian=lambda x: np.diag(np.cosh(x))
    ... )
    >>> res.success, res.nit < 10
    (True, True)
    """
    fun = smooth(fun)
    xp, device, dtype = check.common(x0=x0, metric=metric)
    x0 = check.array("x0", x0, xp=xp, dtype=dtype, device=device)
    shape = tuple(x0.shape)
    flat = xp.reshape(x0, (-1,))
    hessian = matrix("hessian", hessian, flat.shape[0])
    B, root = xp.eye(flat.shape[0], dtype=dtype, device=device), None
    if metric is not None:
        B = check.array("metric", metric, xp=xp, shape=(flat.shape[0],) * 2, dtype=dtype, device=device)
        root = linalg.cholesky(B, xp=xp, check=False)
        if not bool(xp.all(xp.isfinite(root))):
            raise check.error("metric", "a matrix without a Cholesky factor", "a symmetric positive definite matrix")
    if radius is not None:
        radius = check.scalar("radius", radius, low=0.0, low_open=True)
    rounding = 10.0 * float(xp.finfo(dtype).eps)
    state = prepare_resume(init, RegularizedNewtonState, "pass a start as `x0`")
    if state is None:
        length = float(linalg.norm(flat if root is None else root.T @ flat, xp=xp))
        state = RegularizedNewtonState(x0, 0.0, None, 0.0, radius or max(length, 1.0), None, 0, 0, 0, 0)

    def dual(g: Array) -> float:
        """Dual norm of a gradient."""
        g = xp.reshape(g, (-1,))
        return float(linalg.norm(g if root is None else linalg.solve_triangular(root, g, lower=True, xp=xp), xp=xp))

    def advance(s: RegularizedNewtonState) -> RegularizedNewtonState | None:
        """An accepted step, or None if there is none."""
        g = xp.reshape(s.grad, (-1,))
        H = None if hessian is None else hessian(s.x)
        s = s._replace(hessians=s.hessians + (H is not None))
        for trial in range(TRIALS):
            shift = s.size / s.radius
            L = linalg.cholesky(shift * B if H is None else H + shift * B, xp=xp, check=False)
            h = -linalg.cho_solve(L, g, xp=xp)
            s = s._replace(factors=s.factors + 1)
            if bool(xp.all(xp.isfinite(h))):
                x = s.x + xp.reshape(h, shape)
                value, grad = fun(x)
                size, fall, s = dual(grad), s.value - float(value), s._replace(gradients=s.gradients + 1)
                slack, asked = rounding * abs(s.value), size**2 / (8.0 * shift)
                ahead = -float(xp.sum(xp.reshape(grad, (-1,)) * h))
                hidden = abs(fall) <= 100.0 * slack and size < s.size and ahead >= size**2 / (4.0 * shift)
                if fall >= asked or hidden:
                    longer = max(2.0 * s.radius, LEAST)
                    return s._replace(
                        x=x, value=float(value), grad=grad, size=size, radius=longer, factor=L, nit=s.nit + 1
                    )
            s = s._replace(radius=0.5 * s.radius)
            if trial > 10 and s.radius * rounding == 0.0:
                break
        return None

    def steps(s: RegularizedNewtonState) -> Steps:
        if s.grad is None:
            value, grad = fun(s.x)
            s = s._replace(value=float(value), grad=grad, size=dual(grad), gradients=1)
        status = None
        while True:
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=s.size: v, metrics={"fun": lambda v=s.value: v}, status=status,
                counts={"gradients": s.gradients, "hessians": s.hessians, "factors": s.factors},
            )  # fmt: skip
            found = advance(s)
            if found is None:
                status = Status.CONVERGED if s.size == 0.0 else Status.STALLED
                s = s._replace(nit=s.nit + 1)
            else:
                s = found

    def finish(last: Step) -> dict[str, Any]:
        s = last.state
        certificate = Certificate(kind="stationarity", value=s.size, tol=tol)
        return {"certificate": certificate, "fun": s.value, "grad": s.grad, "factor": s.factor}

    return run(
        steps, state=state, like=x0, xp=xp, method="regularized_newton", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=lambda: (x0, probe(*fun(x0)), B, hessian is None, radius),
    )  # fmt: skip
