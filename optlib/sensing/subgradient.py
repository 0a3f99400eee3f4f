"""The subgradient method for absolute errors: gross errors in some measurements do no harm."""

import math
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.sensing._factored import FactorState, run_factored, to_point
from optlib.sensing._lowrank import top_singular
from optlib.sensing._problem import Problem, check_rank, prepare
from optlib.sensing._robust import conclude_robust, median
from optlib.sensing.result import LowRankMatrix, SensingResult
from optlib.sensing.scaled_gd import CUT, preconditioned
from optlib.sensing.spectral import truncated_point

RULES = ("median", "geometric", "polyak")


@supports(backends=("numpy", "cupy", "torch", "strict"))
def subgradient(
    A: Any,
    y: Any,
    *,
    rank: int,
    psd: bool = False,
    scaled: bool = False,
    rule: str = "median",
    hold: int = 20,
    decay: float = 0.98,
    minimum: float = 0.0,
    alpha: float | None = None,
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

    Minimises ``|A(F G') - y|_1``.

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
    scaled : bool
        Whether the subgradients are preconditioned by the Gram matrices of the factors, as in `scaled_gd`: a rate that
        does not depend on the condition. Needs the rank of the answer.
    rule : {"median", "geometric", "polyak"}
        Step sizes. ``"median"``: proportional to the median of the absolute residuals. ``"geometric"``: ``step`` until
        the median has not fallen for ``hold`` iterations, then times ``decay`` in every iteration, for subgradients of
        norm 1. ``"polyak"``: the objective less its ``minimum``, over the squared norm of the subgradient.
    hold : int
        For ``"geometric"``; counted once the start has grown to a hundredth of the measurements. With 0 the steps decay
        from the start: they then have to last for that growth, ``1 - decay <= step sigma_r / (2 |M| log(1 / alpha))``.
    decay : float
        For ``"geometric"``.
    minimum : float
        For ``"polyak"``: the sum of the absolute errors of the measurements.
    alpha : float, optional
        Size of the start in units of the square root of the norm of the matrix. With more columns than the answer has
        rank it bounds the error that is reached. By default 1e-3; with ``scaled`` or the rule ``"polyak"``, the
        spectral start of the smaller half of the measurements.
    step : float
        Step size in the units of the rule; for ``"polyak"`` a factor, 1 in theory.
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
        ``x`` are the factors as the method left them; ``outliers`` tells which measurements the certificate left out.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `recover`.

    Notes
    -----
    Stopping: median of the absolute residuals at most ``tol`` times the root mean square of the measurements. The
    certificate is the residual of the measurements within three medians, relative to them, at most ``100 tol``.

    Cost: one forward and one adjoint pass an iteration, and a sort of the residuals; for ``"geometric"`` the adjoint is
    formed as a dense matrix, whose norm the step is divided by.

    Gaussian operators satisfy ``A*(sign A(D)) ~ D / |D|`` (sign-RIP), so that the median residual is the distance that
    is left. The small start is the leading part of ``A*(sign y)``.

    When not to use it: to get answers; `recover` with ``loss="l1"`` needs fewer measurements and iterations.

    References
    ----------
    J. Ma, S. Fattahi, Global convergence of sub-gradient method for robust matrix recovery: small initialization, noisy
    measurements, and over-parameterization, JMLR 2023. T. Tong, C. Ma, Y. Chi, Low-rank matrix recovery with scaled
    subgradient methods: fast and robust convergence without the condition number, IEEE Trans. Signal Process. 2021. The
    median rule and the hold are this library's.

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
    check.option("scaled", scaled, (True, False))
    check.option("rule", rule, RULES)
    hold = check.scalar("hold", hold, low=0, integer=True)
    decay = check.scalar("decay", decay, low=0.0, high=1.0, low_open=True, high_open=True)
    minimum = check.scalar("minimum", minimum, low=0.0)
    if alpha is not None or not (scaled or rule == "polyak"):
        alpha = 1e-3 if alpha is None else alpha
        alpha = check.scalar("alpha", alpha, low=0.0, low_open=True, fix="the factors 0 are a stationary point")
    step = check.scalar("step", step, low=0.0, low_open=True)
    m, c, cut = problem.A.shape[0], problem.A.isotropy, CUT[problem.bits]
    norm = 1.4826 * float(median(problem.y, xp=xp)) * math.sqrt(m / c) or 1.0  # of the matrix, if A is Gaussian
    unit = norm if scaled else 1.0  # a scaled step changes the matrix by itself, a plain one by a multiple of it
    grown = 0.01 * float(median(problem.y, xp=xp))
    rms = problem.size / math.sqrt(m) or 1.0

    def directions(F: Array, G: Array, left: Array, right: Array) -> tuple[Array, Array]:
        if not scaled:
            return left, right
        return preconditioned(left, G, 0.0, cut, xp=xp), preconditioned(right, F, 0.0, cut, xp=xp)

    def update(state: FactorState, residual: Array, grad_F: Array, grad_G: Array) -> FactorState:
        signs, (F, G, *_, memory) = xp.sign(residual), state
        if rule == "geometric":
            Q = problem.A._adjoint(signs)
            Q = 0.5 * (Q + Q.T) if psd else Q
            left, right = Q @ G, Q.T @ F
            memory = held(memory, median(residual, xp=xp), median(residual + problem.y, xp=xp) > grown)
            eta = (step * unit) * decay ** memory[2] / linalg.norm(Q, xp=xp)
        else:
            left, right = problem.A._adjoint_matmul(signs, G), problem.A._adjoint_rmatmul(signs, F)
            if psd:
                left = 0.5 * (left + right)
                right = left
        down_F, down_G = directions(F, G, left, right)
        if rule == "median":
            # E A*(sign A(D)) = sqrt(2 / pi) sqrt(c m) D / |D|, and the median residual is about 0.67 sqrt(c / m) |D|.
            eta = (step * unit / (c * norm)) * median(residual, xp=xp)
        elif rule == "polyak":
            square = xp.sum(left * down_F) + xp.sum(right * down_G)
            gap = xp.sum(xp.abs(residual)) - minimum
            safe = xp.where(square > 0, square, xp.ones_like(square))
            eta = step * xp.where(gap > 0, gap, xp.zeros_like(gap)) / safe
        F = F - eta * down_F
        return state._replace(F=F, G=F if psd else G - eta * down_G, memory=memory)

    def held(memory: Array | None, middle: Array, ready: Array) -> Array:
        """Smallest median so far, iterations since it fell, iterations of decay."""
        zero = xp.zeros_like(middle)
        if memory is None:
            return xp.stack([middle, zero, zero])
        fell = middle < memory[0]
        waited = xp.where(fell | ~ready, zero, memory[1] + 1.0)
        decaying = (memory[2] > 0) | (waited >= hold)
        return xp.stack([xp.where(fell, middle, memory[0]), waited, memory[2] + xp.astype(decaying, middle.dtype)])

    def start() -> tuple[Array, Array]:
        if alpha is None:
            return truncated_point(problem, rank).factors
        U, s, V = top_singular(problem.A, xp.sign(problem.y), rank, psd=psd)
        s = xp.where(s > 0, s, xp.zeros_like(s))
        root = alpha * (norm * s / xp.where(s[0] > 0, s[0], xp.ones_like(s[0]))) ** 0.5
        return U * root, V * root

    return run_factored(
        "subgradient", problem, rank, init, start, update, passes=3,
        identity=(alpha, step, scaled, rule, hold, decay, minimum),
        stop=lambda residual: median(residual, xp=xp) / rms, finish=_finish,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


def _finish(problem: Problem, F: Array, G: Array) -> dict[str, Any]:
    fields = conclude_robust(problem, to_point(problem, F, G), problem.residual(F, G))
    return {**fields, "factors": (F, G), "matrix": LowRankMatrix(F, G)}
