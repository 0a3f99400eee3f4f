"""Gauss-Newton steps of models with more parameters than outputs, in the space of the outputs."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports
from optlib.backend.special import expit, logsumexp, softmax
from optlib.inner.newton import ROUNDING
from optlib.steps import armijo

BAD, GOOD = 0.25, 0.75  # actual over predicted decrease: more damping below, less above
MORE, LESS, RANGE = 1.5, 0.5, (1e-12, 1e6)


class _Loss(NamedTuple):
    """Of outputs z and targets t: value, residual r = grad, root S' of the Hessian ``Q = S S'`` on the outputs of each
    sample (rows of a Jacobian), and w with ``r = S w``.
    """  # noqa: D205

    value: Callable[[Array, Array, Any], Array]
    residual: Callable[[Array, Array, Any], Array]
    rooted: Callable[[Array, Array, Array, Any], Array]
    weighted: Callable[[Array, Array, Any], Array]


def _exp(u: Array, xp: Any) -> Array:
    """Exponential that stops short of overflow, which is where its inverse underflows."""
    return xp.exp(xp.minimum(u, 0.9 * math.log(float(xp.finfo(u.dtype).max)) * xp.ones_like(u)))


def _logistic_rooted(z: Array, t: Array, J: Array, xp: Any) -> Array:
    return (xp.exp(-0.5 * xp.abs(z)) / (1.0 + xp.exp(-xp.abs(z))))[:, None] * J


def _softmax_rooted(z: Array, t: Array, J: Array, xp: Any) -> Array:
    p, half = softmax(z, xp=xp), xp.exp(0.5 * (z - logsumexp(z, axis=-1, keepdims=True, xp=xp)))
    J = xp.reshape(J, (*z.shape, -1))  # S' = diag(sqrt p) - sqrt(p) p'
    return half[..., None] * (J - xp.sum(p[..., None] * J, axis=1, keepdims=True))


def _softmax_weighted(z: Array, t: Array, xp: Any) -> Array:
    half = 0.5 * (z - logsumexp(z, axis=-1, keepdims=True, xp=xp))
    return xp.exp(half) - t * _exp(-half, xp)


_LOSSES = {
    "squared": _Loss(
        lambda z, t, xp: 0.5 * (z - t) ** 2,
        lambda z, t, xp: z - t,
        lambda z, t, J, xp: J,
        lambda z, t, xp: z - t,
    ),
    "logistic": _Loss(
        lambda z, t, xp: xp.maximum(-t * z, xp.zeros_like(z)) + xp.log1p(xp.exp(-xp.abs(z))),
        lambda z, t, xp: -t * expit(-t * z, xp=xp),
        _logistic_rooted,
        lambda z, t, xp: -t * _exp(-0.5 * t * z, xp),
    ),
    "softmax": _Loss(
        lambda z, t, xp: logsumexp(z, axis=-1, xp=xp) - xp.sum(z * t, axis=-1),
        lambda z, t, xp: softmax(z, xp=xp) - t,
        _softmax_rooted,
        _softmax_weighted,
    ),
}


class GaussNewtonState(NamedTuple):
    """State of `gauss_newton`: point, value, gradient, damping, and counts."""

    x: Array
    value: float
    grad: Array | None
    damping: float
    nit: int
    values: int
    jacobians: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def gauss_newton(
    model: Callable[[Array], Array],
    jacobian: Callable[[Array], Array],
    targets: Any,
    x0: Any,
    *,
    loss: str = "squared",
    damping: float = 1.0,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 200,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Minimise the mean loss of a model by damped Gauss-Newton steps, solved exactly in the smaller of two spaces.

    Parameters
    ----------
    model : callable
        ``model(x)``, the outputs: shape (n,), or (n, c) for ``"softmax"``.
    jacobian : callable
        ``jacobian(x)``, their derivatives by the flattened x: shape (n, d), or (n c, d).
    targets : array, shape (n,) or (n, c)
        Numbers; labels -1 and 1 for ``"logistic"``; rows that sum to 1 (one-hot) for ``"softmax"``.
    x0 : array
        Starting point, of any shape.
    loss : {"squared", "logistic", "softmax"}
        ``1/2 (z - t)^2``, ``log(1 + exp(-t z))``, or the cross entropy of ``softmax(z)``.
    damping : float
        The first lambda.
    init : Result or GaussNewtonState, optional
        A result to continue.
    tol : float or None
        Stop when the norm of the gradient is at most this; None runs ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`; the history has ``damping``.

    Returns
    -------
    Result
        ``grad`` is the gradient at ``x``. ``certificate`` of kind ``"stationarity"``: the norm of the gradient.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    With the Jacobian J, the loss Hessian Q and residual r of the outputs, ``g = J' r / n`` and ``H = J' Q J / n``,

        ``-(H + lambda I)^-1 g = -J' (Q J J' + n lambda I)^-1 r``

    (Duncan-Guttman), which is a system of the size of the outputs. It is made symmetric by a root ``Q = S S'`` of each
    sample and ``r = S w``: the step is ``-K' (K K' + n lambda I)^-1 w`` with ``K = S' J``. With fewer parameters than
    outputs it is ``-(K' K + n lambda I)^-1 J' r``. As lambda falls to 0, a step of an over-parametrised model is the
    one of least norm that solves the linearised problem.

    The step is shortened until the value falls. Lambda grows by a half where the value fell by less than a quarter of
    what was predicted, and halves where by more than three quarters.

    Stopping: see ``tol``; as stalled when no step lowers the value.

    Cost of a step: a Jacobian, ``m^2 d + m^3 / 3`` for m outputs (or the two exchanged), and a model a trial. Memory:
    two Jacobians.

    References
    ----------
    M. Korbit, A. Adeoye, A. Bemporad, M. Zanon, Exact Gauss-Newton optimization for training deep neural networks,
    arXiv 2405.14402.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import gauss_newton
    >>> A = np.random.default_rng(0).normal(size=(5, 50))
    >>> res = gauss_newton(lambda x: A @ x, lambda x: A, np.ones(5), np.zeros(50))
    >>> res.success, bool(np.allclose(A @ res.x, 1.0, atol=1e-4))
    (True, True)
    """
    check.option("loss", loss, tuple(_LOSSES))
    check.function("model", model)
    check.function("jacobian", jacobian)
    parts = _LOSSES[loss]
    xp, device, dtype = check.common(targets=targets, x0=x0)
    x0 = check.array("x0", x0, xp=xp, dtype=dtype, device=device)
    t = check.array("targets", targets, xp=xp, ndim=2 if loss == "softmax" else 1, dtype=dtype, device=device)
    n, m, size = t.shape[0], int(xp.reshape(t, (-1,)).shape[0]), int(xp.reshape(x0, (-1,)).shape[0])
    if n == 0:
        raise check.error("targets", "none", "at least one")
    if loss == "logistic" and not bool(xp.all(xp.abs(t) == 1.0)):
        raise check.error("targets", "other numbers", "labels -1 and 1")
    damping = check.scalar("damping", damping, low=RANGE[0], high=RANGE[1])
    state = prepare_resume(init, GaussNewtonState, "pass a start as `x0`")
    if state is None:
        state = GaussNewtonState(x0, 0.0, None, damping, 0, 0, 0)

    def outputs(x: Array) -> Array:
        return check.array("model", model(x), xp=xp, shape=tuple(t.shape), dtype=dtype, device=device, finite=False)

    def value(z: Array) -> Array:
        return xp.sum(parts.value(z, t, xp)) / n

    def linearised(x: Array) -> tuple[Array, Array, Array]:
        """Outputs, Jacobian and gradient."""
        z = outputs(x)
        J = check.array("jacobian", jacobian(x), xp=xp, shape=(m, size), dtype=dtype, device=device, finite=False)
        return z, J, J.T @ xp.reshape(parts.residual(z, t, xp), (-1,)) / n

    def direction(z: Array, J: Array, g: Array, shift: float) -> tuple[Array, Array]:
        """The step, and ``K`` times it."""
        K = xp.reshape(parts.rooted(z, t, J, xp), (m, size))
        if m <= size:
            eye = xp.eye(m, dtype=dtype, device=device)
            w = xp.reshape(parts.weighted(z, t, xp), (-1,))
            h = -K.T @ linalg.cho_solve(linalg.cholesky(K @ K.T + n * shift * eye, xp=xp, check=False), w, xp=xp)
        else:
            eye = xp.eye(size, dtype=dtype, device=device)
            h = -n * linalg.cho_solve(linalg.cholesky(K.T @ K + n * shift * eye, xp=xp, check=False), g, xp=xp)
        return h, K @ h

    def steps(s: GaussNewtonState) -> Steps:
        z, J, g = linearised(s.x)
        if s.grad is None:
            s = s._replace(value=float(value(z)), grad=xp.reshape(g, x0.shape), values=1, jacobians=1)
        status = None
        while True:
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda s=s: linalg.norm(s.grad, xp=xp), status=status,
                metrics={"fun": lambda s=s: s.value, "damping": lambda s=s: s.damping},
                counts={"values": s.values, "jacobians": s.jacobians},
            )  # fmt: skip
            h, Kh = direction(z, J, g, s.damping)
            p, slope, s = xp.reshape(h, x0.shape), float(xp.sum(g * h)), s._replace(nit=s.nit + 1)
            slack = ROUNDING * float(xp.finfo(dtype).eps) * abs(s.value)
            found = armijo(lambda a, s=s, p=p: value(outputs(s.x + a * p)), s.value, slope, slack=slack)
            s = s._replace(values=s.values + found.evaluations)
            predicted = -slope - 0.5 * float(xp.sum(Kh * Kh)) / n
            if not found.success:
                status = Status.CONVERGED if slope == 0.0 else Status.STALLED
                continue
            ratio = (s.value - float(found.value)) / predicted if predicted > 0.0 else 1.0
            factor = MORE if ratio < BAD else LESS if ratio > GOOD else 1.0
            damping = min(max(factor * s.damping, RANGE[0]), RANGE[1])
            x = s.x + found.step * p
            z, J, g = linearised(x)
            s = s._replace(
                x=x, value=float(found.value), grad=xp.reshape(g, x0.shape), damping=damping, jacobians=s.jacobians + 1
            )

    def finish(last: Step) -> dict[str, Any]:
        s = last.state
        certificate = Certificate(kind="stationarity", value=float(linalg.norm(s.grad, xp=xp)), tol=tol)
        return {"certificate": certificate, "fun": s.value, "grad": s.grad}

    return run(
        steps, state=state, like=x0, xp=xp, method="gauss_newton", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=lambda: (x0, probe(model(x0)), t, loss, damping),
    )  # fmt: skip
