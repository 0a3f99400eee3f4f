"""Alternating least squares for matrix completion, with a QR factorisation between the half-steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from optlib._core import Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.sensing._factored import finish_factored, spectral_start
from optlib.sensing._problem import Problem, check_rank, prepare, starting_point
from optlib.sensing.entries import EntrySampling, sampled_product, solve_rows, weighted_rows
from optlib.sensing.result import SensingResult


class ALSState(NamedTuple):
    """State of `alternating_minimization`.

    Attributes
    ----------
    F, G : array
        The factors; the columns of F are orthonormal after the first iteration.
    nit : int
        Iterations.
    """

    F: Array
    G: Array
    nit: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def alternating_minimization(
    A: EntrySampling,
    y: Any,
    *,
    rank: int,
    ridge: float = 0.0,
    inner: int | None = None,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 500,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Complete a matrix by alternating least squares.

    Minimises ``|A(F G') - y|^2 + ridge (|F|^2 + |G|^2)`` over one factor at a time.

    Parameters
    ----------
    A : EntrySampling
        The observed places.
    y : array, shape (m,)
        The observed entries.
    rank : int
        Number of columns of the factors.
    ridge : float
        Strength of the penalty, which makes rows with few entries well-posed.
    inner : int, optional
        Conjugate-gradient iterations from the present factor in the place of exact solves; None solves exactly.
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
    Stopping: relative residual at most ``tol``. An exact half-step never raises the objective.

    Cost of an iteration: O(m k^2 + (n1 + n2) k^3); with ``inner`` conjugate-gradient iterations O(inner m k), nearly
    linear in the data, as in the analysis of the second paper, whose sketched solver is another way to that cost.

    Between the half-steps the factor is orthonormalised and the triangle passed to the other one: the systems then have
    the condition of the sampling, not of the matrix, and warm starts stay valid. Without it, few inner iterations fail
    on ill-conditioned matrices. With a ridge the factors are balanced by the singular value decomposition instead of
    orthonormalised, as the penalty is not invariant.

    Rows without entries are zero. Prefer `recover` at low sampling rates.

    References
    ----------
    P. Jain, P. Netrapalli, S. Sanghavi, Low-rank matrix completion using alternating minimization, STOC 2013. Y. Gu,
    Z. Song, J. Yin, L. Zhang, Low rank matrix completion via robust alternating minimization in nearly linear time,
    ICLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import alternating_minimization, random_entries
    >>> A = random_entries((30, 20), 300, rng=0)
    >>> alternating_minimization(A, A.forward(np.ones((30, 20))), rank=1).success
    True
    """
    if not isinstance(A, EntrySampling):
        raise check.error("A", type(A).__name__, "an EntrySampling: the method is for completion", kind=TypeError)
    problem = prepare(A, y, tol=tol)
    rank = check_rank(rank, problem.A)
    ridge = check.scalar("ridge", ridge, low=0.0)
    if inner is not None:
        inner = check.scalar("inner", inner, low=1, integer=True)
    given, state = prepare_init(init, ALSState)
    if state is None:
        F, G = spectral_start(problem, rank) if given is None else starting_point(problem, given, rank)
        state = ALSState(F, G, 0)
    return run(
        partial(_steps, problem=problem, ridge=ridge, inner=inner),
        state=state,
        like=problem.y,
        xp=problem.xp,
        method="alternating_minimization",
        finish=lambda step: finish_factored(problem, step.state.F, step.state.G),
        tol=problem.target,
        problem=(problem.A, problem.y, rank, ridge, inner),
        result_class=SensingResult,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


def _steps(state: ALSState, *, problem: Problem, ridge: float, inner: int | None) -> Steps:
    A, xp = problem.A, problem.xp
    F, G, nit = state
    sides = [Side(A, problem.y, side) for side in (0, 1)]
    while True:
        yield Step(
            (F, G), nit, ALSState(F, G, nit),
            stop=lambda: problem.relative(problem.residual(F, G)), counts={"passes": 4 * nit},
        )  # fmt: skip
        F, G = _balanced(F, G, ridge, xp)
        G = _half(F, G, sides[1], ridge, inner, xp)
        G, F = _balanced(G, F, ridge, xp)
        F = _half(G, F, sides[0], ridge, inner, xp)
        F, G = _balanced(F, G, ridge, xp)
        nit += 1


def _balanced(F: Array, G: Array, ridge: float, xp: Any) -> tuple[Array, Array]:
    """Orthonormal F, the triangle in G; or balanced factors, the best split for the penalty."""
    Q, R = linalg.qr(F, xp=xp)
    if not ridge:
        return Q, G @ R.T
    Q2, R2 = linalg.qr(G, xp=xp)
    u, s, vh = linalg.svd(R @ R2.T, xp=xp, check=False)
    return (Q @ u) * s**0.5, (Q2 @ vh.T) * s**0.5


class Side:
    """The entries by rows (side 0) or by columns (side 1), and the observations in this order.

    Parameters
    ----------
    A : EntrySampling
    y : array, shape (m,)
    side : {0, 1}
    """

    def __init__(self, A: EntrySampling, y: Array, side: int) -> None:
        self.xp, self.n = A.xp, A.matrix_shape[side]
        order, self.starts, self.source = A.grouped(side)
        self.y, self.to = A.xp.take(y, order, axis=0), A.xp.take((A.rows, A.cols)[side], order, axis=0)

    def solve(self, fixed: Array, ridge: Any, y: Array | None = None) -> Array:
        """Least squares of every row (or column) on the rows of the other factor, with a ridge."""
        ridge = ridge + self.xp.zeros((self.n, fixed.shape[1]), dtype=fixed.dtype, device=fixed.device)
        return solve_rows(fixed, self.starts, self.source, self.y if y is None else y, ridge, xp=self.xp)


def _half(fixed: Array, x: Array, side: Side, ridge: float, inner: int | None, xp: Any) -> Array:
    """Solve for the rows of the other factor, exactly or by conjugate gradients in all rows at once."""
    if inner is None:
        solved = side.solve(fixed, ridge)
        return xp.where(xp.isfinite(solved), solved, x)

    def normal(p: Array) -> Array:
        values = sampled_product(p, fixed, side.to, side.source, xp=xp)
        return weighted_rows(values, fixed, side.to, side.source, side.n, xp=xp) + ridge * p

    r = weighted_rows(side.y, fixed, side.to, side.source, side.n, xp=xp) - normal(x)
    p, rr = r, xp.sum(r * r, axis=1, keepdims=True)
    for _ in range(inner):
        q = normal(p)
        curvature = xp.sum(p * q, axis=1, keepdims=True)
        alpha = xp.where(curvature > 0, rr / xp.where(curvature > 0, curvature, 1.0 + 0.0 * rr), 0.0 * rr)
        x, r = x + alpha * p, r - alpha * q
        new = xp.sum(r * r, axis=1, keepdims=True)
        p, rr = r + xp.where(rr > 0, new / xp.where(rr > 0, rr, 1.0 + 0.0 * rr), 0.0 * rr) * p, new
    return x
