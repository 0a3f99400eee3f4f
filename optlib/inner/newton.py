"""Newton's method with a line search, by Cholesky factors or by conjugate gradients."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, is_numpy, linalg, supports
from optlib.linop import cg
from optlib.steps import armijo

FORCING = 0.1  # relative residual of the first Newton systems; it falls with the gradient
RENEW = 12  # products of a step after which its preconditioner is too old
DAMPING = 1e-3  # in units of the largest diagonal entry, when the Hessian has no Cholesky factor


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


@supports(backends=("numpy", "cupy", "torch", "strict"))
def newton(
    fun: Callable[[Array], tuple[Array, Array]],
    x0: Any,
    *,
    hvp: Callable[[Array], Callable[[Array], Array]] | None = None,
    hessian: Callable[[Array], Array] | None = None,
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
        is renewed when they need more than 12 products.
    factor : array, shape (d, d), optional
        The first such factor, for example that of a result for a similar function.
    init : Result or NewtonState, optional
        A result to continue.
    tol : float or None
        Stop when the norm of the gradient is at most this; None runs ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``grad`` is the gradient at ``x``; with `hessian` also ``factor``, the last Cholesky factor.
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
    xp, device, dtype = check.common(x0=x0)
    x0 = check.array("x0", x0, xp=xp, dtype=dtype, device=device)
    _, state = prepare_init(init, NewtonState)
    if state is None:
        state = NewtonState(x0, None, None, 0.0, factor, 0, 0, 0)
    size = x0.size if isinstance(x0.size, int) else int(xp.reshape(x0, (-1,)).shape[0])

    def direction(s: NewtonState, norm: float) -> tuple[Array, NewtonState]:
        """The Newton step, and the state with the factor and the products that it took."""
        rhs = xp.reshape(-s.grad, (-1,))
        if hvp is None:
            s = s._replace(factor=cholesky(hessian(s.x), xp=xp))
            return xp.reshape(linalg.cho_solve(s.factor, rhs, xp=xp), s.x.shape), s
        options: dict[str, Any] = {"check_every": 1 if is_numpy(xp) else 10}  # too many harm where H is singular
        if hessian is not None:
            if s.factor is None:
                s = s._replace(factor=cholesky(hessian(s.x), xp=xp))
            options = {"preconditioner": lambda v, L=s.factor: linalg.cho_solve(L, v, xp=xp), "check_every": 1}
        product = hvp(s.x)
        found = cg(
            lambda v: xp.reshape(product(xp.reshape(v, s.x.shape)), (-1,)), rhs,
            tol=min(FORCING, (norm / s.first) ** 0.5), maxiter=2 * size + 20, record=False, **options,
        )  # fmt: skip
        old = hessian is not None and found.nit > RENEW
        s = s._replace(products=s.products + found.counts["matvec"], factor=None if old else s.factor)
        return xp.reshape(found.x, s.x.shape), s

    def steps(s: NewtonState) -> Steps:
        if s.grad is None:
            value, grad = fun(s.x)
            s = s._replace(value=value, grad=grad, first=float(linalg.norm(grad, xp=xp)), gradients=1)
        status = None
        while True:
            norm = linalg.norm(s.grad, xp=xp)
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda norm=norm: norm, metrics={"fun": lambda s=s: s.value},
                status=status, counts={"gradients": s.gradients, "products": s.products},
            )  # fmt: skip
            p, s = direction(s, float(norm))
            slope = xp.sum(s.grad * p)
            seen: dict[float, tuple[Array, Array]] = {}

            def along(t: float, s: NewtonState = s, p: Array = p, seen: dict[float, Any] = seen) -> Array:
                seen[t] = fun(s.x + t * p)
                return seen[t][0]

            s = s._replace(nit=s.nit + 1)
            if not float(slope) < 0.0:
                status = Status.CONVERGED if float(norm) == 0.0 else Status.BREAKDOWN
                continue
            found = armijo(along, s.value, slope)
            s = s._replace(gradients=s.gradients + found.evaluations)
            if not found.success:
                status = Status.STALLED
                continue
            value, grad = seen[found.step]
            s = s._replace(x=s.x + found.step * p, value=value, grad=grad)

    def finish(step: Step) -> dict[str, Any]:
        norm = float(linalg.norm(step.state.grad, xp=xp))
        certificate = Certificate(kind="stationarity", value=norm, tol=tol)
        return {
            "certificate": certificate, "fun": float(step.state.value), "grad": step.state.grad,
            "factor": step.state.factor,
        }  # fmt: skip

    return run(
        steps, state=state, like=x0, xp=xp, method="newton", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(x0, hvp is None, hessian is None),
    )  # fmt: skip


def cholesky(H: Array, *, xp: Any) -> Array:
    """Cholesky factor of a symmetric matrix, shifted until it is positive definite."""
    top = float(xp.max(xp.abs(xp.linalg.diagonal(H))))
    shift = 0.0
    while True:
        eye = xp.eye(H.shape[0], dtype=H.dtype, device=H.device)
        L = linalg.cholesky(H if shift == 0.0 else H + shift * eye, xp=xp, check=False)
        if bool(xp.all(xp.isfinite(L))) or shift > 1e6 * top:
            return L
        shift = DAMPING * (top or 1.0) if shift == 0.0 else 10.0 * shift
