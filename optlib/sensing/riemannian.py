"""Conjugate gradients on the matrices of fixed rank."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib.backend import Array, supports
from optlib.sensing._fixed_rank import FALL, FLAT, run_fixed_rank
from optlib.sensing._lowrank import Point, image, project, retract, tangent_gradient, tangent_image
from optlib.sensing._problem import Problem, prepare
from optlib.sensing.result import SensingResult


class RiemannianState(NamedTuple):
    """State of `riemannian`.

    Attributes
    ----------
    U, s, V : array
        The matrix ``U diag(s) V'``.
    residual : array
        ``A(X) - y``.
    direction_left, direction_right, grad_left, grad_right : array
        Last direction and gradient, carried to this point.
    square : float
        Squared norm of the last gradient (0: none).
    flat, nit, passes : int
        Steps in succession without progress, iterations, passes over the operator.
    """

    U: Array
    s: Array
    V: Array
    residual: Array
    direction_left: Array
    direction_right: Array
    grad_left: Array
    grad_right: Array
    square: float
    flat: int
    nit: int
    passes: int

    @property
    def point(self) -> Point:
        """The matrix."""
        return Point(self.U, self.s, self.V)


class Method:
    """One problem, and the step of the method."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.A, self.xp, self.psd = problem, problem.A, problem.xp, problem.psd

    def start(self, point: Point) -> RiemannianState:
        """State at a point."""
        zeros = self.xp.zeros_like(point.U), self.xp.zeros_like(point.V)
        return RiemannianState(*point, image(self.A, point) - self.problem.y, *zeros, *zeros, 0.0, 0, 0, 1)

    def value(self, residual: Array) -> float:
        """Squared residual."""
        return float(self.xp.sum(residual * residual))

    def _dot(self, u: tuple[Array, Array], v: tuple[Array, Array]) -> float:
        total = self.xp.sum(u[0] * v[0])
        return float(total if self.psd else total + self.xp.sum(u[1] * v[1]))

    def _carry(self, old: Point, new: Point, d: tuple[Array, Array]) -> tuple[Array, Array]:
        """Project a tangent vector at the old point to the tangent space at the new one."""
        left = d[0] @ (old.V.T @ new.V) + old.U @ (d[1].T @ new.V)
        if self.psd:
            E = left - 0.5 * (new.U @ (new.U.T @ left))
            return E, E
        return project(new, left, old.V @ (d[0].T @ new.U) + d[1] @ (old.U.T @ new.U), False)

    def step(self, state: RiemannianState) -> RiemannianState:
        """One iteration."""
        A, xp, point = self.A, self.xp, state.point
        f, passes = self.value(state.residual), state.passes + 2
        g = tangent_gradient(A, point, state.residual, self.psd)
        gg, d = self._dot(g, g), (-g[0], -g[1])
        if state.square > 0.0:
            old = (state.grad_left, state.grad_right)
            beta = max(0.0, (gg - self._dot(g, old)) / state.square)
            d = (d[0] + beta * state.direction_left, d[1] + beta * state.direction_right)
        slope = self._dot(g, d)
        if not slope < -1e-10 * math.sqrt(gg * self._dot(d, d)):
            d, slope = (-g[0], -g[1]), -gg
        w = tangent_image(A, point, d)
        square = float(xp.sum(w * w))
        t, passes = (-slope / square if square > 0.0 else 0.0), passes + 1
        for _ in range(12):
            trial = retract(point, (t * d[0], t * d[1]), point.rank, self.psd, xp)
            residual = image(A, trial) - self.problem.y
            passes += 1
            new = self.value(residual)
            if new <= f + 1e-4 * t * slope:
                flat = state.flat + 1 if f - new < FALL[self.problem.bits] * f else 0
                d, g = self._carry(point, trial, d), self._carry(point, trial, g)
                return RiemannianState(*trial, residual, *d, *g, gg, flat, state.nit + 1, passes)
            t *= 0.5
        return state._replace(flat=FLAT, nit=state.nit + 1, passes=passes)


@supports(backends=("numpy", "cupy", "torch", "strict"))
def riemannian(
    A: Any,
    y: Any,
    *,
    rank: int,
    psd: bool = False,
    noise: float = 0.0,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 1000,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Fit a matrix of given rank by Riemannian conjugate gradients.

    Minimises ``|A(X) - y|^2`` over the matrices of rank ``rank``, which are a manifold.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    y : array, shape (m,)
        The measurements.
    rank : int
        Rank of the answer.
    psd : bool
        Whether the matrix is positive semidefinite.
    noise : float
        Norm of the noise in ``y``, if known: the run stops at that residual.
    init : (array, array), SensingResult or state, optional
        Factors to start from, or a result to continue; by default the spectral start.
    tol : float, "auto" or None
        Relative residual to stop at; ``"auto"`` is 1e-12, and 1e-5 for float32. None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    SensingResult
        ``counts`` has the passes over the operator.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `recover`.

    Notes
    -----
    Stopping: relative residual at most ``tol`` or at the level of the noise; or three iterations in succession that
    lower the squared residual by less than 1e-13 of it (float32: 1e-6).

    Cost: four passes over the operator an iteration (gradient, step length, new residual), and O((n1 + n2) r^2 + r^3).
    The step length minimises along the tangent line exactly and is halved until the value falls. Cheaper a step than
    `levenberg_marquardt`, with more steps; its short steps help at low oversampling and equal singular values.

    References
    ----------
    B. Vandereycken, Low-rank matrix completion by Riemannian optimization, SIAM J. Optim. 2013, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, riemannian
    >>> A = GaussianSensing((20, 15), 200, rng=0)
    >>> riemannian(A, A.forward(np.ones((20, 15))), rank=1).success
    True
    """
    problem = prepare(A, y, psd=psd, tol=tol, noise=noise)
    return run_fixed_rank(
        "riemannian", problem, rank, init, Method(problem), RiemannianState, maxiter=maxiter, check_every=check_every,
        callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
