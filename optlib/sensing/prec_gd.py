"""Preconditioned gradient descent with a damping that vanishes with the error."""

from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.sensing._factored import FactorState, run_factored, spectral_start
from optlib.sensing._problem import check_rank, prepare
from optlib.sensing.result import SensingResult
from optlib.sensing.scaled_gd import CUT, preconditioned


@supports(backends=("numpy", "cupy", "torch", "strict"))
def prec_gd(
    A: Any,
    y: Any,
    *,
    rank: int,
    psd: bool = False,
    factor: float = 1.0,
    step: float = 0.3,
    noise: float = 0.0,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 2000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Recover a matrix by preconditioned gradient descent: more columns than its rank do no harm.

    ``X <- X - eta A*(res) X (X'X + lambda_t I)^-1`` with ``lambda_t`` proportional to the norm of the residual.

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
    factor : float
        ``lambda_t`` is this times the norm of the residual.
    step : float
        Step size.
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

    Cost: one forward and one adjoint pass an iteration, and O((n1 + n2) k^2 + k^3). Starts from the spectral start.

    The rate depends neither on the condition nor on the spare columns, given a few times the measurements that
    `recover` needs.

    References
    ----------
    J. Zhang, S. Fattahi, R. Y. Zhang, Preconditioned gradient descent for over-parameterized nonconvex matrix
    factorization, NeurIPS 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, prec_gd
    >>> A = GaussianSensing((15, 15), 300, rng=0)
    >>> prec_gd(A, A.forward(np.ones((15, 15))), rank=3, psd=True, tol=1e-8).success
    True
    """
    problem = prepare(A, y, psd=psd, tol=tol, noise=noise)
    xp, rank = problem.xp, check_rank(rank, problem.A)
    factor = check.scalar("factor", factor, low=0.0, low_open=True)
    step = check.scalar("step", step, low=0.0, low_open=True)
    factor = factor * problem.A.isotropy**-0.5

    def update(state: FactorState, residual: Array, grad_F: Array, grad_G: Array) -> FactorState:
        shift = factor * linalg.norm(residual, xp=xp)
        F = state.F - step * preconditioned(grad_F, state.G, shift, CUT[problem.bits] ** 2, xp=xp)
        if psd:
            return state._replace(F=F, G=F)
        return state._replace(
            F=F, G=state.G - step * preconditioned(grad_G, state.F, shift, CUT[problem.bits] ** 2, xp=xp)
        )

    return run_factored(
        "prec_gd", problem, rank, init, lambda: spectral_start(problem, rank), update, identity=(factor, step),
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip
