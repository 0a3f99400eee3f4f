"""Gradient descent on factors, and the modified step that makes it forget its start."""

from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.sensing._factored import FactorState, largest_singular, random_start, run_factored
from optlib.sensing._problem import Problem, check_rank, prepare
from optlib.sensing.result import SensingResult

TRIGGER = 0.05  # relative residual at which the modified step is taken: earlier, sigma_r is underestimated


@supports(backends=("numpy", "cupy", "torch", "strict"))
def gradient_descent(
    A: Any,
    y: Any,
    *,
    rank: int,
    psd: bool = False,
    alpha: float = 0.1,
    modified: bool = False,
    step: float = 0.25,
    noise: float = 0.0,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 5000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Recover a matrix by gradient descent on its factors from a small random start.

    Minimises ``|A(F G') - y|^2 / 2``, or ``|A(X X') - y|^2 / 4``.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    y : array, shape (m,)
        The measurements.
    rank : int
        Number of columns of the factors.
    psd : bool
        Whether the matrix is positive semidefinite: one factor.
    alpha : float
        Size of the random start in units of the square root of the largest singular value; F has ``alpha``, G a third.
    modified : bool
        Whether to rescale the factors once, when the relative residual first is at most 0.05: F gets equal singular
        values ``sqrt(sigma_r)``, with r the place of the largest gap, and the product stays. Needs ``psd=False``.
    step : float
        Step size in units of one over the largest singular value.
    noise : float
        Norm of the noise in ``y``, if known: a residual of that size ends the run.
    init : (array, array), SensingResult or state, optional
        Factors to start from, or a result to continue.
    tol : float, "auto" or None
        Relative residual to stop at; ``"auto"`` is 1e-12, and 1e-5 for float32. None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`.
    rng : seed or Generator, optional
        Of the random start.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    SensingResult
        ``x`` are the factors as the method left them.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `recover`.

    Notes
    -----
    Stopping: relative residual at most ``tol``; a residual above 1000 times ``y`` counts as breakdown.

    Cost: one forward and one adjoint pass an iteration, and O((n1 + n2) k^2) once for the modified step.

    With k equal to the rank of the answer the error falls linearly, at a rate that depends on the condition. With k
    larger, the symmetric form slows down to ``|X X' - M| = Theta(1 / t)``, and the other converges linearly at a rate
    proportional to ``alpha^2``: the imbalance ``F'F - G'G`` of the start is what pushes the spare columns to zero. The
    modified step makes that rate independent of ``alpha``. For answers rather than for theory use `recover`.

    References
    ----------
    N. Xiong, L. Ding, S. S. Du, How over-parameterization slows down gradient descent in matrix sensing, ICLR 2024. The
    trigger by the residual and the choice of r by the gap are this library's.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, gradient_descent
    >>> A = GaussianSensing((20, 15), 200, rng=0)
    >>> gradient_descent(A, A.forward(np.ones((20, 15))), rank=1, rng=0).success
    True
    """
    problem = prepare(A, y, psd=psd, tol=tol, noise=noise)
    rank = check_rank(rank, problem.A)
    alpha = check.scalar("alpha", alpha, low=0.0, low_open=True, fix="the factors 0 are a stationary point")
    step = check.scalar("step", step, low=0.0, low_open=True)
    check.option("modified", modified, (True, False))
    check.option("modified", modified, (True, False))
    if modified and psd:
        raise check.error("modified", True, "False with psd=True", "use psd=False: two factors")
    top = largest_singular(problem)
    eta = step / top

    def update(state: FactorState, residual: Array, grad_F: Array, grad_G: Array) -> FactorState:
        if modified and state.phase == 0 and float(problem.relative(residual)) <= TRIGGER:
            return FactorState(*rescaled(problem, state.F, state.G), 1, state.nit)
        F = state.F - eta * grad_F
        return FactorState(F, F if psd else state.G - eta * grad_G, state.phase, state.nit)

    def start() -> tuple[Array, Array]:
        return random_start(problem, rank, alpha * top**0.5, 1.0 / 3.0, rng)

    return run_factored(
        "gradient_descent", problem, rank, init, start, update, identity=(alpha, modified, step),
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


def rescaled(problem: Problem, F: Array, G: Array) -> tuple[Array, Array]:
    """Give F the singular values ``beta = sqrt(sigma_r)`` and keep the product: ``F B beta / s``, ``G B s / beta``."""
    xp = problem.xp
    _, R = linalg.qr(F, xp=xp)
    _, s, Bt = linalg.svd(R, xp=xp)
    s = xp.maximum(s, 1e-12 * s[0] if problem.bits == 64 else 1e-6 * s[0])
    _, R2 = linalg.qr(G, xp=xp)
    sigma = linalg.svd(R @ R2.T, xp=xp)[1]
    if sigma.shape[0] > 1:
        gap = sigma[:-1] / xp.maximum(sigma[1:], 1e-12 * sigma[0])
        r = int(xp.argmax(gap))
    else:
        r = 0
    beta = sigma[r] ** 0.5
    return (F @ Bt.T) * (beta / s), (G @ Bt.T) * (s / beta)
