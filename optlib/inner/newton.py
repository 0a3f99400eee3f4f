"""Newton's method with a line search, by Cholesky factors or by conjugate gradients."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib._core.driver import Steps
from optlib.backend import Array, device_of, linalg, supports
from optlib.inner._oracles import mapping, matrix, products, smooth
from optlib.linop.pcg import Solved, pcg
from optlib.steps import armijo

FORCING = 0.1  # relative residual of the first Newton systems; it falls with the gradient
PATIENCE = 30  # unknowns per product after which conjugate gradients get a fresh factor, at the price of about two
LEAST = 5  # products before that
DAMPING = 1e-3  # in units of the largest diagonal entry, when the Hessian has no Cholesky factor
ROUNDING = 1e3  # error of a value that a line search allows for, in units of the last place


class NewtonState(NamedTuple):
    """State of `newton`: the point, its value and gradient, the first gradient norm, a Cholesky factor, and counts."""

    x: Array
    value: Array | None
    grad: Array | None
    first: float
    factor: Array | None
    nit: int
    gradients: int
    products: int


class Preconditioner(NamedTuple):
    """What helps conjugate gradients on H: made at one point, it serves at others, too, until it helps too little.

    Attributes
    ----------
    make : callable
        ``make(x)`` returns an array, for example a Cholesky factor of H at x.
    apply : callable
        ``apply(array)`` returns the product ``v -> about H^-1 v`` of flat vectors, symmetric and positive definite.
    patience : int
        Products in one system after which a new array pays.
    """

    make: Callable[[Array], Array]
    apply: Callable[[Array], Callable[[Array], Array]]
    patience: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def newton(
    fun: Callable[[Array], tuple[Array, Array]],
    x0: Any,
    *,
    hvp: Callable[[Array], Callable[[Array], Array]] | None = None,
    hessian: Callable[[Array], Array] | None = None,
    diagonal: Callable[[Array], Array] | None = None,
    preconditioner: Preconditioner | None = None,
    factor: Array | None = None,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 100,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    """Minimise a smooth convex function by Newton steps and Armijo backtracking.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> value, grad``: a 0-d array and an array of the shape of x.
    x0 : array
        Starting point, of any shape.
    hvp : callable, optional
        ``hvp(x)`` returns the product ``v -> H v``: the steps are conjugate gradients to a relative residual of
        ``min(0.1, sqrt(|g| / |g0|))``.
    hessian : callable, optional
        ``hessian(x)`` returns the matrix for the flattened x: the steps are exact. One of the two is needed. With both,
        the steps are conjugate gradients preconditioned by a Cholesky factor of the matrix at an earlier point, which
        is made or renewed when they need more products than a thirtieth of the number of variables.
    diagonal : callable, optional
        ``diagonal(x)`` returns the diagonal of H, of the shape of x, or None: it preconditions the conjugate gradients
        as long as there is no factor.
    preconditioner : Preconditioner, optional
        With `hvp`: what takes the place of the Cholesky factor of `hessian`.
    factor : array, optional
        The first such factor, of shape (d, d), or what the preconditioner makes; for example that of a result for a
        similar function.
    init : Result or NewtonState, optional
        A result to continue.
    tol : float or None
        Stop when the norm of the gradient is at most this; None runs ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``grad`` is the gradient at ``x``; with `hessian` or `preconditioner` also ``factor``, the last one.
        ``certificate`` of kind ``"stationarity"``: the norm of the gradient.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    Stopping: ``|grad| <= tol``. A step without decrease ends the run as stalled: at the rounding level, or where the
    function is not convex.

    Cost of a step: a gradient, and either the Hessian with its factor, d^3 / 3, or a few to a few dozen products.
    Memory: d^2, or a few vectors.

    Where not to use it: where neither products nor the matrix are cheap; use L-BFGS there.

    References
    ----------
    R. S. Dembo, S. C. Eisenstat, T. Steihaug, Inexact Newton methods, SIAM J. Numer. Anal. 1982. J. Nocedal,
    S. J. Wright, Numerical optimization, 2006, algorithm 7.1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import newton
    >>> res = newton(lambda x: (np.sum(np.cosh(x)), np.sinh(x)), np.ones(3), hessian=lambda x: np.diag(np.cosh(x)))
    >>> res.success, bool(abs(res.x).max() < 1e-6)
    (True, True)
    """
    if hvp is None and hessian is None:
        raise check.error("hvp, hessian", "neither", "one of the two, or both", kind=TypeError)
    fun, hvp = smooth(fun), products("hvp", hvp)
    xp, device, dtype = check.common(x0=x0)
    x0 = check.array("x0", x0, xp=xp, dtype=dtype, device=device)
    size = math.prod(x0.shape)
    hessian, diagonal = matrix("hessian", hessian, size), mapping("diagonal", diagonal, optional=True)
    if factor is not None:
        shape = None if preconditioner is not None else (size, size)
        factor = check.array("factor", factor, xp=xp, shape=shape, dtype=dtype, device=device)
    if not isinstance(preconditioner, (Preconditioner, type(None))):
        raise check.error("preconditioner", type(preconditioner).__name__, "a `Preconditioner`", kind=TypeError)
    if preconditioner is None and hvp is not None and hessian is not None:
        preconditioner = factored(hessian, size, xp=xp)
    state = prepare_resume(init, NewtonState, "pass a start as `x0`")
    if state is None:
        state = begin(x0, factor)

    def finish(step: Step) -> dict[str, Any]:
        norm = float(linalg.norm(step.state.grad, xp=xp))
        certificate = Certificate(kind="stationarity", value=norm, tol=tol)
        return {
            "certificate": certificate, "fun": float(step.state.value), "grad": step.state.grad,
            "factor": step.state.factor,
        }  # fmt: skip

    return run(
        lambda s: newton_steps(s, fun, hvp, hessian, diagonal, preconditioner, xp=xp), state=state, like=x0, xp=xp,
        method="newton", finish=finish, tol=tol, maxiter=maxiter, check_every=check_every, callback=callback,
        record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=lambda: (x0, probe(*fun(x0)), hvp is None, hessian is None),
    )  # fmt: skip


def begin(x: Array, factor: Array | None = None) -> NewtonState:
    """The state before the first step."""
    return NewtonState(x, None, None, 0.0, factor, 0, 0, 0)


def newton_steps(
    s: NewtonState,
    fun: Callable[[Array], tuple[Array, Array]],
    hvp: Callable[[Array], Callable[[Array], Array]] | None,
    hessian: Callable[[Array], Array] | None,
    diagonal: Callable[[Array], Array | None] | None = None,
    preconditioner: Preconditioner | None = None,
    *,
    xp: Any,
) -> Steps:
    """The method of `newton`, without checks: for `settle`."""
    shape, size = s.x.shape, math.prod(s.x.shape)

    def direction(s: NewtonState, norm: float) -> tuple[Array, NewtonState]:
        """The Newton step, and the state with the factor and the products that it took."""
        rhs = xp.reshape(-s.grad, (-1,))
        if hvp is None:
            s = s._replace(factor=cholesky(hessian(s.x), xp=xp))
            return xp.reshape(linalg.cho_solve(s.factor, rhs, xp=xp), shape), s
        product = hvp(s.x)
        found, L = solve(
            lambda v: xp.reshape(product(xp.reshape(v, shape)), (-1,)), rhs, tol=min(FORCING, (norm / s.first) ** 0.5),
            maxiter=2 * size + 20, at=s.x, factor=s.factor, preconditioner=preconditioner, diagonal=diagonal, xp=xp,
        )  # fmt: skip
        s = s._replace(products=s.products + found.products, factor=L)
        return xp.reshape(found.x, shape), s

    if s.grad is None:
        value, grad = fun(s.x)
        s = s._replace(value=value, grad=grad, first=float(linalg.norm(grad, xp=xp)), gradients=1)
    status = None
    while True:
        norm = float(linalg.norm(s.grad, xp=xp))
        yield Step(
            x=s.x, nit=s.nit, state=s, stop=lambda norm=norm: norm, metrics={"fun": lambda s=s: s.value},
            status=status, counts={"gradients": s.gradients, "products": s.products},
        )  # fmt: skip
        p, s = direction(s, norm)
        slope = xp.sum(s.grad * p)
        seen: dict[float, tuple[Array, Array, Array]] = {}

        def along(t: float, s: NewtonState = s, p: Array = p, seen: dict[float, Any] = seen) -> Array:
            x = s.x + t * p
            seen[t] = (x, *fun(x))
            return seen[t][1]

        s = s._replace(nit=s.nit + 1)
        if not float(slope) < 0.0:
            status = Status.CONVERGED if norm == 0.0 else Status.BREAKDOWN
            continue
        slack = ROUNDING * float(xp.finfo(s.x.dtype).eps) * abs(float(s.value))
        found = armijo(along, s.value, slope, slack=slack)
        s = s._replace(gradients=s.gradients + found.evaluations)
        if not found.success:
            status = Status.STALLED
            continue
        x, value, grad = seen[found.step]
        s = s._replace(x=x, value=value, grad=grad)


def solve(
    product: Callable[[Array], Array],
    rhs: Array,
    start: Array | None = None,
    *,
    tol: float,
    maxiter: int,
    at: Array,
    factor: Array | None,
    preconditioner: Preconditioner | None,
    diagonal: Callable[[Array], Array | None] | None,
    xp: Any,
) -> tuple[Solved, Array | None]:
    """Conjugate gradients on ``H x = rhs`` with the preconditioner at hand, and a fresh one where that is too slow.

    Parameters
    ----------
    product : callable
        ``v -> H v`` for flat arrays.
    rhs, start : array, shape (n,)
    tol, maxiter : see `pcg`
    at : array
        The point of H.
    factor : array or None
        What the preconditioner made at some point. Without it, the diagonal serves.
    preconditioner : Preconditioner or None
    diagonal : callable or None
        ``diagonal(x)`` returns the diagonal of H, or None.
    xp : module

    Returns
    -------
    Solved, and the last factor.
    """
    precondition = None
    if factor is not None and preconditioner is not None:
        precondition = preconditioner.apply(factor)
    elif diagonal is not None and (d := diagonal(at)) is not None:
        precondition = _scaled(xp.reshape(d, (-1,)), xp)
    patience = maxiter if preconditioner is None else preconditioner.patience
    found = pcg(product, rhs, start, precondition=precondition, tol=tol, maxiter=patience, xp=xp)
    if found.success or preconditioner is None:
        return found, factor
    factor = preconditioner.make(at)
    last = pcg(product, rhs, found.x, precondition=preconditioner.apply(factor), tol=tol, maxiter=maxiter, xp=xp)
    return last._replace(products=found.products + last.products), factor


def factored(
    hessian: Callable[[Array], Array], size: int, rough: Callable[[Array], Array] | None = None, *, xp: Any
) -> Preconditioner:
    """The Cholesky factor of the matrix of order ``size`` in single precision, which halves its time.

    Where that fails, the factor in the precision of the matrix is rounded. ``rough(x)`` is a matrix like ``hessian(x)``
    in less time.
    """

    def make(x: Array) -> Array:
        H = (hessian if rough is None else rough)(x)
        L = linalg.cholesky(xp.astype(H, xp.float32), xp=xp, check=False)
        return L if bool(xp.all(xp.isfinite(L))) else xp.astype(cholesky(hessian(x), xp=xp), xp.float32)

    return Preconditioner(make, lambda L: lambda v: factor_solve(L, v, xp=xp), max(size // PATIENCE, LEAST))


def factor_solve(L: Array, v: Array, *, xp: Any) -> Array:
    """Solve ``L L' x = v`` in the precision of the factor."""
    return xp.astype(linalg.cho_solve(L, xp.astype(v, L.dtype), xp=xp), v.dtype)


def _scaled(d: Array, xp: Any) -> Callable[[Array], Array]:
    inverse = 1.0 / xp.where(d > 0, d, xp.ones_like(d))
    return lambda v: inverse * v


def cholesky(H: Array, *, xp: Any) -> Array:
    """Cholesky factor of a symmetric matrix, or of several, shifted until they are positive definite."""
    top = float(xp.max(xp.abs(xp.linalg.diagonal(H))))
    shift, eye = 0.0, xp.eye(H.shape[-1], dtype=H.dtype, device=device_of(H))
    while True:
        L = linalg.cholesky(H if shift == 0.0 else H + shift * eye, xp=xp, check=False)
        if bool(xp.all(xp.isfinite(L))) or shift > 1e6 * top:
            return L
        shift = DAMPING * (top or 1.0) if shift == 0.0 else 10.0 * shift
