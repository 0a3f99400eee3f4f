"""The subgradient method for absolute errors: gross errors in some measurements do no harm."""

import math
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, supports
from optlib.sensing._factored import FactorState, run_factored
from optlib.sensing._lowrank import top_singular
from optlib.sensing._problem import check_rank, prepare
from optlib.sensing.result import SensingResult


@supports(backends=("numpy", "cupy", "torch", "strict"))
def subgradient(
    A: Any,
    y: Any,
    *,
    rank: int,
    psd: bool = False,
    alpha: float = 1e-3,
    step: float = 0.5,
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
    r"""Recover a matrix from measurements some of which are grossly wrong, by subgradient steps on its factors.

    Minimises ``|A(F G') - y|_1`` from a small start, with steps proportional to the median of the absolute residuals.

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
        Size of the start in units of the square root of the norm of the matrix. With more columns than the answer has
        rank it bounds the error that is reached.
    step : float
        Step size, as a multiple of the median residual over the norm of the matrix.
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
    Stopping: median of the absolute residuals at most ``tol`` times the root mean square of the measurements. The
    certificate is the residual of all measurements, which outliers keep large: no success then, although the median
    may be at the rounding level; `recover` with ``loss="l1"`` certifies such answers.

    Cost: one forward and one adjoint pass an iteration, and a sort of the residuals.

    Gaussian operators satisfy ``A*(sign A(D)) ~ D / |D|`` (sign-RIP), so that the median residual is the distance that
    is left. The start is the leading part of ``A*(sign y)``.

    References
    ----------
    J. Ma, S. Fattahi, Global convergence of sub-gradient method for robust matrix recovery: small initialization, noisy
    measurements, and over-parameterization, JMLR 2023. The median rule is this library's.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, subgradient
    >>> A = GaussianSensing((15, 15), 400, rng=0)
    >>> M, y = np.ones((15, 15)), A.forward(np.ones((15, 15)))
    >>> y[::5] += 100.0
    >>> res = subgradient(A, y, rank=1, psd=True, tol=1e-10)
    >>> bool(np.allclose(res.matrix.toarray(), M))
    True
    """
    problem = prepare(A, y, psd=psd, tol=tol)
    xp, rank = problem.xp, check_rank(rank, problem.A)
    alpha = check.scalar("alpha", alpha, low=0.0, low_open=True, fix="the factors 0 are a stationary point")
    step = check.scalar("step", step, low=0.0, low_open=True)
    m, c = problem.A.shape[0], problem.A.isotropy

    def median(values: Array) -> Array:
        return xp.sort(xp.abs(values))[(m - 1) // 2]

    norm = 1.4826 * float(median(problem.y)) * math.sqrt(m / c) or 1.0  # of the matrix, if A is Gaussian
    rms = problem.size / math.sqrt(m) or 1.0

    def update(state: FactorState, residual: Array, grad_F: Array, grad_G: Array) -> FactorState:
        signs = xp.sign(residual)
        # E A*(sign A(D)) = sqrt(2 / pi) sqrt(c m) D / |D|, and the median residual is about 0.67 sqrt(c / m) |D|.
        eta = step * median(residual) / (c * norm)
        left, right = problem.A._adjoint_matmul(signs, state.G), problem.A._adjoint_rmatmul(signs, state.F)
        if psd:
            F = state.F - (0.5 * eta) * (left + right)
            return state._replace(F=F, G=F)
        return state._replace(F=state.F - eta * left, G=state.G - eta * right)

    def start() -> tuple[Array, Array]:
        U, s, V = top_singular(problem.A, xp.sign(problem.y), rank, psd=psd)
        s = xp.where(s > 0, s, xp.zeros_like(s))
        root = alpha * (norm * s / s[0]) ** 0.5
        return U * root, V * root

    return run_factored(
        "subgradient", problem, rank, init, start, update, passes=3, identity=(alpha, step),
        stop=lambda residual: median(residual) / rms,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip
