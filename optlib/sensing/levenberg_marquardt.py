"""Levenberg-Marquardt on the matrices of fixed rank: the method behind `recover`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib.backend import Array, supports
from optlib.sensing._fixed_rank import FALL, FLAT, run_fixed_rank
from optlib.sensing._inner import ConjugateGradients, Dense, Separated
from optlib.sensing._lowrank import Point, degrees_of_freedom, image, retract
from optlib.sensing._problem import JACOBIAN_BYTES, Problem, prepare
from optlib.sensing.entries import EntrySampling
from optlib.sensing.result import SensingResult

DENSE_DOF = 1000  # degrees of freedom up to which the normal equations are formed


class LMState(NamedTuple):
    """State of `levenberg_marquardt`.

    Attributes
    ----------
    U, s, V : array
        The matrix ``U diag(s) V'``.
    residual : array
        ``A(X) - y``.
    mu, nu : float
        Damping (negative before the first step) and its next increase.
    before : float
        Squared residual before the last step.
    flat, nit, passes : int
        Steps in succession without progress, iterations, passes over the operator.
    """

    U: Array
    s: Array
    V: Array
    residual: Array
    mu: float
    nu: float
    before: float
    flat: int
    nit: int
    passes: int

    @property
    def point(self) -> Point:
        """The matrix."""
        return Point(self.U, self.s, self.V)


class Method:
    """One problem, and the step of the method; ``weights`` multiply the squared residuals."""

    def __init__(self, problem: Problem, weights: Array | None = None, *, cap: int = 60) -> None:
        self.problem, self.weights, self.cap = problem, weights, cap
        self.xp, self.A = problem.xp, problem.A

    def start(self, point: Point, nit: int = 0, passes: int = 0) -> LMState:
        """State at a point."""
        residual = image(self.A, point) - self.problem.y
        return LMState(*point, residual, -1.0, 2.0, math.inf, 0, nit, passes + 1)

    def value(self, residual: Array) -> float:
        """Weighted squared residual."""
        squares = residual * residual
        return float(self.xp.sum(squares if self.weights is None else self.weights * squares))

    def _linearised(self, point: Point, residual: Array) -> Any:
        """The least-squares problem in the tangent space."""
        A, psd = self.A, self.problem.psd
        dof = degrees_of_freedom(A.matrix_shape, point.rank, psd)
        if isinstance(A, EntrySampling) and not psd and self.weights is None:
            return Separated(A, point, residual, self.cap)
        if dof <= DENSE_DOF and A.shape[0] * dof * self.problem.bits // 8 <= JACOBIAN_BYTES:
            sides = A._sides(point.U, point.V)
            if sides is not None:
                return Dense(A, point, residual, self.weights, psd, sides)
        return ConjugateGradients(A, point, residual, self.weights, psd, self.cap)

    def step(self, state: LMState) -> LMState:
        """One accepted step, or ``flat`` at its limit if twelve trials fail."""
        point, f = state.point, self.value(state.residual)
        model = self._linearised(point, state.residual)
        passes = state.passes + model.passes
        largest = model.largest
        mu, nu = (model.first_damping if state.mu < 0 else state.mu), 2.0
        forcing = min(0.1, max(1e-4, math.sqrt(f / state.before))) if state.before > 0 else 0.1
        for _ in range(12):
            d, predicted = model.solve(mu, forcing)
            passes += model.used()
            if math.isfinite(predicted) and predicted > 0:
                trial = retract(point, d, point.rank, self.problem.psd, self.xp)
                residual = image(self.A, trial) - self.problem.y
                passes += 1
                new = self.value(residual)
                if new < f - 1e-4 * predicted:
                    rho = (f - new) / predicted
                    mu *= max(0.2, 1.0 - (2.0 * rho - 1.0) ** 3) * (0.2 if rho > 0.9 else 1.0)
                    if mu < 1e-14 * largest:
                        mu = 0.0
                    flat = state.flat + 1 if f - new < FALL[self.problem.bits] * f else 0
                    return LMState(*trial, residual, mu, 2.0, f, flat, state.nit + 1, passes)
            mu, nu = max(mu * nu, 1e-12 * largest), 2.0 * nu
        return state._replace(mu=mu, nu=nu, flat=FLAT, nit=state.nit + 1, passes=passes)


@supports(backends=("numpy", "cupy", "torch", "strict"))
def levenberg_marquardt(
    A: Any,
    y: Any,
    *,
    rank: int,
    psd: bool = False,
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
    r"""Fit a matrix of given rank by Levenberg-Marquardt steps in its tangent space.

    Minimises ``|A(X) - y|^2`` over the matrices of rank ``rank``.

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
        Relative residual to stop at; ``"auto"`` is 1e-12, and 1e-5 for float32. None runs ``maxiter`` steps.
    maxiter : int
        Largest number of steps.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    SensingResult
        ``counts`` has the passes over the operator (a forward or an adjoint).

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `recover`.

    Notes
    -----
    Stopping: relative residual at most ``tol`` or at the level of the noise; or three steps in succession that lower
    the squared residual by less than 1e-13 of it (float32: 1e-6): a minimum that is not zero, by noise or locally. That
    is no success here; `recover` tells the two apart.

    Cost: a step forms the Jacobian from one pass over the measuring matrices and factors its normal equations, O(m d^2
    + d^3) for d degrees of freedom, up to d = 1000; else it takes up to 60 conjugate-gradient iterations with two
    passes each. In the orthonormal coordinates of the tangent space the Jacobian does not contain the singular values
    of X: the convergence does not depend on the condition of the matrix.

    References
    ----------
    K. Levenberg 1944, D. Marquardt 1963; damping after H. B. Nielsen, Damping parameter in Marquardt's method, 1999.
    B. Vandereycken, Low-rank matrix completion by Riemannian optimization, SIAM J. Optim. 2013, for the geometry.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, levenberg_marquardt
    >>> A = GaussianSensing((20, 15), 200, rng=0)
    >>> M = np.outer(np.arange(20.0), np.ones(15))
    >>> levenberg_marquardt(A, A.forward(M), rank=1).success
    True
    """
    problem = prepare(A, y, psd=psd, tol=tol, noise=noise)
    return run_fixed_rank(
        "levenberg_marquardt", problem, rank, init, Method(problem), LMState, maxiter=maxiter, check_every=check_every,
        callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
