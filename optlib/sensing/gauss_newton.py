"""Gauss-Newton on the factors with steps of least norm (GNMR)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from optlib._core import Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.linop import LinearOperator, lsqr
from optlib.linop.base import _empty
from optlib.sensing._factored import finish_factored, spectral_start
from optlib.sensing._problem import Problem, check_rank, prepare, starting_point
from optlib.sensing.operators import SensingOperator
from optlib.sensing.result import SensingResult


class GaussNewtonState(NamedTuple):
    """State of `gauss_newton`.

    Attributes
    ----------
    F, G : array
        Balanced factors.
    nit, passes : int
        Outer iterations, passes over the operator.
    """

    F: Array
    G: Array
    nit: int
    passes: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def gauss_newton(
    A: Any,
    y: Any,
    *,
    rank: int,
    inner: int = 2000,
    noise: float = 0.0,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 100,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Recover a matrix by Gauss-Newton steps of least norm on its factors.

    ``(dF, dG)`` is the minimiser of ``|A(F dG' + dF G') - (y - A(F G'))|`` of least norm; both are added.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    y : array, shape (m,)
        The measurements.
    rank : int
        Number of columns of the factors.
    inner : int
        Largest number of LSQR iterations in a step.
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
    Stopping: relative residual at most ``tol``.

    Cost: two passes an LSQR iteration, as many as it takes to reduce the least-squares residual to 1e-10 of itself
    (float32: 1e-4). The factors are balanced after each step. `levenberg_marquardt` is the same idea with damping, in
    coordinates that do not contain the singular values.

    Implements the updating variant. The setting variant of the paper may alternate between two splits of one product.

    References
    ----------
    P. Zilber, B. Nadler, GNMR: a provable one-line algorithm for low rank matrix recovery, SIAM J. Math. Data Sci.
    2022, with alpha = -1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, gauss_newton
    >>> A = GaussianSensing((20, 15), 200, rng=0)
    >>> gauss_newton(A, A.forward(np.ones((20, 15))), rank=1).success
    True
    """
    problem = prepare(A, y, tol=tol, noise=noise)
    rank, inner = check_rank(rank, problem.A), check.scalar("inner", inner, low=1, integer=True)
    given, state = prepare_init(init, GaussNewtonState)
    if state is None:
        F, G = spectral_start(problem, rank) if given is None else starting_point(problem, given, rank)
        state = GaussNewtonState(F, G, 0, 0)
    return run(
        partial(_steps, problem=problem, inner=inner),
        state=state,
        like=problem.y,
        xp=problem.xp,
        method="gauss_newton",
        finish=lambda step: finish_factored(problem, step.state.F, step.state.G),
        tol=problem.target,
        problem=(problem.A, problem.y, rank, inner),
        result_class=SensingResult,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


class _FactorJacobian(LinearOperator):
    """``(dF, dG) -> A(dF G' + F dG')`` on the entries of both."""

    def __init__(self, A: SensingOperator, F: Array, G: Array) -> None:
        super().__init__((A.shape[0], (F.shape[0] + G.shape[0]) * F.shape[1]), _empty(A))
        self._A, self._F, self._G = A, F, G

    def split(self, d: Array) -> tuple[Array, Array]:
        cut = self._F.shape[0] * self._F.shape[1]
        return self.xp.reshape(d[:cut], self._F.shape), self.xp.reshape(d[cut:], self._G.shape)

    def _matvec(self, x: Array) -> Array:
        dF, dG = self.split(x)
        return self._A._forward_factored(self.xp.concat([dF, self._F], axis=1), self.xp.concat([self._G, dG], axis=1))

    def _rmatvec(self, y: Array) -> Array:
        left, right = self._A._adjoint_matmul(y, self._G), self._A._adjoint_rmatmul(y, self._F)
        return self.xp.concat([self.xp.reshape(left, (-1,)), self.xp.reshape(right, (-1,))])


def _steps(state: GaussNewtonState, *, problem: Problem, inner: int) -> Steps:
    xp, (F, G, nit, passes) = problem.xp, state
    while True:
        residual = problem.residual(F, G)
        yield Step(
            (F, G), nit, GaussNewtonState(F, G, nit, passes),
            stop=lambda: problem.relative(residual), counts={"passes": passes},
        )  # fmt: skip
        J = _FactorJacobian(problem.A, F, G)
        solved = lsqr(J, -residual, tol=1e-10 if problem.bits == 64 else 1e-4, maxiter=inner, record=False)
        dF, dG = J.split(solved.x)
        F, G = _balanced(F + dF, G + dG, xp)
        nit, passes = nit + 1, passes + 2 * solved.nit + 1


def _balanced(F: Array, G: Array, xp: Any) -> tuple[Array, Array]:
    (Q1, R1), (Q2, R2) = linalg.qr(F, xp=xp), linalg.qr(G, xp=xp)
    u, s, vh = linalg.svd(R1 @ R2.T, xp=xp, check=False)
    return (Q1 @ u) * s**0.5, (Q2 @ vh.T) * s**0.5
