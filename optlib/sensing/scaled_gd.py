"""Scaled gradient descent: the gradients of the factors preconditioned by each other's Gram matrices."""

from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.backend.random import as_generator
from optlib.sensing._factored import (
    FactorState,
    largest_singular,
    random_start,
    run_factored,
    spectral_start,
    symmetric,
)
from optlib.sensing._problem import check_rank, prepare
from optlib.sensing.result import SensingResult

CUT = {64: 1e-12, 32: 1e-6}  # eigenvalues of a Gram matrix below this part of the largest count as zero


@supports(backends=("numpy", "cupy", "torch", "strict"))
def scaled_gd(
    A: Any,
    y: Any,
    *,
    rank: int,
    psd: bool = False,
    damping: float = 0.0,
    alternating: bool = False,
    alpha: float | None = None,
    step: float | None = None,
    noise: float = 0.0,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 2000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Recover a matrix by scaled gradient descent, whose rate does not depend on the condition.

    ``F <- F - eta A*(res) G (G'G + lambda I)^+`` and likewise for G, both at once or one after the other.

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
    damping : float
        ``lambda`` in units of the largest singular value: 0 for ScaledGD, positive (about the smallest singular value)
        for ScaledGD(lambda), which may have more columns than the answer has rank.
    alternating : bool
        Whether G is updated with the new F. Converges from a random start with any number of columns, as the
        approximated Gauss-Newton method, for which `step` 0.5 is safe and 1 often fastest.
    alpha : float, optional
        Size of a random start in units of the square root of the largest singular value; None is the spectral start.
    step : float, optional
        Step size; by default 0.5, for completion and with ``psd`` 0.25.
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

    Cost: one forward and one adjoint pass an iteration, twice that if alternating, and O((n1 + n2) k^2 + k^3). Gram
    matrices are inverted on the part above 1e-12 of their largest eigenvalue.

    Where not to use it: without damping and not alternating, more columns than the rank of the answer make the Gram
    matrices singular. With damping it needs far more measurements than `prec_gd` if the condition is large. In
    completion, steps of 0.5 diverge at low sampling rates.

    References
    ----------
    T. Tong, C. Ma, Y. Chi, Accelerating ill-conditioned low-rank matrix estimation via scaled gradient descent, JMLR
    2021, algorithm 1. X. Xu, Y. Shen, Y. Chi, C. Ma, The power of preconditioning in overparameterized low-rank matrix
    sensing, ICML 2023. X. Jia, F. Feng, D. Meng, D. Sun, Globally Q-linear Gauss-Newton method for overparameterized
    non-convex matrix sensing, NeurIPS 2024 (the alternating form).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, scaled_gd
    >>> A = GaussianSensing((20, 15), 300, rng=0)
    >>> M = np.diag([1.0, 0.01] + 13 * [0.0])[[*range(15), *range(5)]] @ np.eye(15)
    >>> scaled_gd(A, A.forward(M), rank=2).success
    True
    """
    problem = prepare(A, y, psd=psd, tol=tol, noise=noise)
    xp, rank = problem.xp, check_rank(rank, problem.A)
    damping = check.scalar("damping", damping, low=0.0)
    check.option("alternating", alternating, (True, False))
    rng = as_generator(rng)
    check.option("alternating", alternating, (True, False))
    if alternating and psd:
        raise check.error("alternating", True, "False with psd=True", "use psd=False: two factors")
    if alpha is not None:
        alpha = check.scalar("alpha", alpha, low=0.0, low_open=True, fix="the factors 0 are a stationary point")
    eta = 0.25 if psd or problem.A.isotropy < 0.999 else 0.5
    eta = eta if step is None else check.scalar("step", step, low=0.0, low_open=True)
    top = largest_singular(problem) if damping or alpha else 1.0
    shift, cut = damping * top, CUT[problem.bits]

    def update(state: FactorState, residual: Array, grad_F: Array, grad_G: Array) -> FactorState:
        F = state.F - eta * preconditioned(grad_F, state.G, shift, cut, xp=xp)
        if psd:
            return state._replace(F=F, G=F)
        if alternating:
            _, left, right = problem.A._gradient(F, state.G, problem.y)
            grad_G = symmetric(problem, left, right)[1]
        old = F if alternating else state.F
        return state._replace(F=F, G=state.G - eta * preconditioned(grad_G, old, shift, cut, xp=xp))

    def start() -> tuple[Array, Array]:
        return (
            spectral_start(problem, rank) if alpha is None else random_start(problem, rank, alpha * top**0.5, 1.0, rng)
        )

    return run_factored(
        "scaled_gd", problem, rank, init, start, update, passes=4 if alternating else 2,
        identity=(damping, alternating, alpha, eta),
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


def preconditioned(grad: Array, other: Array, shift: Any, cut: float, *, xp: Any) -> Array:
    """``grad (other'other + shift I)^+``, from the eigenvalues above the part ``cut`` of the largest."""
    w, v = linalg.eigh(other.T @ other, xp=xp, check=False)
    total = w + shift
    kept = total > cut * total[-1]
    inverse = xp.where(kept, 1.0 / xp.where(kept, total, xp.ones_like(w)), xp.zeros_like(w))
    return ((grad @ v) * inverse) @ v.T
