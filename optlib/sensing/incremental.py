"""Greedy low-rank learning: the rank grows by one, and the fit of each rank is a result."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from optlib._core import Status, Step, Steps, prepare_resume, run
from optlib._core import validation as check
from optlib.backend import Array, supports, to_numpy
from optlib.backend.random import asarray_like
from optlib.sensing._lowrank import append, top_singular, zero_point
from optlib.sensing._problem import check_rank, conclude, prepare
from optlib.sensing.levenberg_marquardt import LMState, Method
from optlib.sensing.result import SensingResult


class IncrementalState(NamedTuple):
    """State of `incremental`.

    Attributes
    ----------
    inner : LMState
        The fit of the present rank.
    values, losses : array
        Largest singular value of the gradient before, and squared residual after, each finished stage.
    """

    inner: LMState
    values: Array
    losses: Array


@supports(backends=("numpy", "cupy", "torch", "strict"))
def incremental(
    A: Any,
    y: Any,
    *,
    rank: int | None = None,
    psd: bool = False,
    level: float = 1e-6,
    noise: float = 0.0,
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
    r"""Fit matrices of rank 1, 2, 3, ... one after the other, each from the one before.

    A stage appends the singular pair of the gradient that lowers the squared error fastest and fits all pairs again.
    Small random starts of gradient descent go the same way, on their own.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    y : array, shape (m,)
        The measurements.
    rank : int, optional
        Largest rank; None is as many as the dimensions allow.
    psd : bool
        Whether the matrix is positive semidefinite.
    level : float
        Ends when the largest singular value of the gradient is below this part of the first: the rank is found. With
        noise, twice that of the adjoint of the noise is the value to compare with.
    noise : float
        Norm of the noise in ``y``, if known: a residual of that size ends the run.
    init : SensingResult or state, optional
        A result to continue.
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
    Stopping: relative residual at most ``tol``, the gradient below ``level``, or the last rank fitted.

    Cost: a few Levenberg-Marquardt steps a stage (see `levenberg_marquardt`) and one singular pair.

    The result also has ``path``, a list of (rank, largest singular value of the gradient before, squared residual
    after), from which a rank can be chosen on held-out measurements. Equal singular values of the answer have no
    stages.

    References
    ----------
    Z. Li, Y. Luo, K. Lyu, Towards resolving the implicit bias of gradient descent for matrix factorization: greedy
    low-rank learning, ICLR 2021. J. Jin, Z. Li, K. Lyu, S. S. Du, J. D. Lee, Understanding incremental learning of
    gradient descent: a fine-grained analysis of matrix sensing, ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, incremental
    >>> A = GaussianSensing((12, 12), 140, rng=0)
    >>> M = np.diag([1.0, 0.5] + 10 * [0.0])
    >>> res = incremental(A, A.forward(M))
    >>> res.rank, len(res.path)
    (2, 2)
    """
    problem = prepare(A, y, psd=psd, tol=tol, noise=noise)
    rank = min(problem.A.matrix_shape) if rank is None else check_rank(rank, problem.A)
    level = check.scalar("level", level, low=0.0)
    state = prepare_resume(init, IncrementalState)
    method = Method(problem)
    if state is None:
        empty = asarray_like([], problem.y)
        state = IncrementalState(method.start(zero_point(problem.A)), empty, empty)

    def finish(step: Step) -> dict[str, Any]:
        inner, values, losses = step.state
        last = [method.value(inner.residual)] * (values.shape[0] - losses.shape[0])  # of a stage that was not finished
        pairs = zip(to_numpy(values).tolist(), to_numpy(losses).tolist() + last, strict=True)
        path = [(k + 1, value, loss) for k, (value, loss) in enumerate(pairs)]
        return {**conclude(problem, inner.point), "path": path}

    return run(
        partial(_steps, method=method, rank=rank, level=level),
        state=state,
        like=problem.y,
        xp=problem.xp,
        method="incremental",
        finish=finish,
        tol=problem.target,
        problem=(problem.A, problem.y, psd, rank, level),
        result_class=SensingResult,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


def _steps(state: IncrementalState, *, method: Method, rank: int, level: float) -> Steps:
    A, xp, psd = method.A, method.xp, method.problem.psd
    inner, values, losses = state
    status = None
    while True:
        yield Step(
            inner.point.factors, inner.nit, IncrementalState(inner, values, losses),
            stop=lambda: method.problem.relative(inner.residual), status=status, counts={"passes": inner.passes},
        )  # fmt: skip
        if inner.point.rank == losses.shape[0] or inner.flat > 0:  # the stage is over
            if inner.point.rank > losses.shape[0]:
                losses = xp.concat([losses, asarray_like([method.value(inner.residual)], losses)])
            U, s, V = top_singular(A, -inner.residual, 1, psd=psd)
            top = float(s[0]) / A.isotropy
            first = float(values[0]) if values.shape[0] else top
            if inner.point.rank >= rank or top <= level * first or not top > 0.0:
                status = Status.CONVERGED
                continue
            change = A._forward_factored(U, V)
            amount = -xp.sum(change * inner.residual) / xp.sum(change * change)
            amount = xp.maximum(amount, 1e-3 * s[0] / A.isotropy)
            values = xp.concat([values, asarray_like([top], values)])
            inner = method.start(append(inner.point, U[:, 0], amount, V[:, 0], psd, xp), inner.nit, inner.passes + 4)
        inner = method.step(inner)
