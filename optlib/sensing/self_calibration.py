"""Self-calibration: unknown gains of sensors and unknown signals from one linear least-squares problem."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Step, Steps, prepare_resume, run
from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.linop import LinearOperator, lsqr

TOL = {64: 1e-12, 32: 1e-5}
STATIONARY = {64: 1e-6, 32: 1e-3}
DENSE = 2000  # unknowns up to which the normal equations are factorised, to precondition the inner iterations
ROUNDS = 30  # of inner iterations: as many as there are unknowns, and few with a preconditioner
FEW = 16


class CalibrationState(NamedTuple):
    """State of `self_calibration`.

    Attributes
    ----------
    z : array, shape (m + q n,)
        Inverse gains and signals in scaled units, of norm 1.
    change : array, shape ()
        Norm of the last change of z.
    nit, inner : int
        Least-squares problems solved, and inner iterations.
    """

    z: Array
    change: Array
    nit: int
    inner: int


class _Calibration(LinearOperator):
    """The map of inverse gains s and signals x to ``s * y_l - A_l x_l``, with columns of norm 1, and one more row."""

    def __init__(self, A: Array, y: Array, model: str, xp: Any) -> None:
        self.A, self.y, self.model = A, y, model
        self.sensors, self.size = y.shape[1], A.shape[-1]
        self.signals = 1 if model == "repeated" else y.shape[0]
        columns = linalg.norm(A, axis=(0, 1) if model == "repeated" else -2, xp=xp)
        if model == "snapshots":
            columns = xp.ones_like(y[:, :1]) * columns
        norms = xp.concat([linalg.norm(y, axis=0, xp=xp), xp.reshape(columns, (-1,))])
        self.scale = 1.0 / xp.where(norms > 0, norms, xp.ones_like(norms))
        self.row = xp.zeros_like(self.scale)
        self.factor: Array | None = None
        super().__init__((y.shape[0] * y.shape[1] + 1, self.scale.shape[0]), y)

    def parts(self, z: Array) -> tuple[Array, Array]:
        """Inverse gains (m,) and signals (q, n) of scaled unknowns."""
        z = self.scale * z
        return z[: self.sensors], self.xp.reshape(z[self.sensors :], (self.signals, self.size))

    def apply(self, z: Array) -> Array:
        """All rows but the last."""
        s, X = self.parts(z)
        images = X @ self.A.T if self.model == "snapshots" else (self.A @ X[:, :, None])[:, :, 0]
        return self.xp.reshape(s * self.y - images, (-1,))

    def apply_transposed(self, r: Array) -> Array:
        """Transpose of `apply`."""
        xp = self.xp
        r = xp.reshape(r, self.y.shape)
        back = r @ self.A if self.model == "snapshots" else (r[:, None, :] @ self.A)[:, 0, :]
        if self.model == "repeated":
            back = xp.sum(back, axis=0)
        return self.scale * xp.concat([xp.sum(self.y * r, axis=0), -xp.reshape(back, (-1,))])

    def precondition(self, weights: Array) -> None:
        """Let the operator act on ``u = L' z`` with the factor L of its normal equations with the row ``weights``."""
        xp, A, m = self.xp, self.A, self.sensors
        each = self.y[:, :, None] * A  # -C by readings: sensors times unknowns of a signal
        if self.model == "repeated":
            cross, gram = xp.sum(each, axis=0), xp.sum(xp.matrix_transpose(A) @ A, axis=0)
        else:
            p, n = self.signals, self.size
            cross = xp.reshape(xp.permute_dims(each, (1, 0, 2)), (m, p * n))
            blocks = xp.broadcast_to(xp.matrix_transpose(A) @ A, (p, n, n))
            same = xp.eye(p, dtype=A.dtype, device=self.device)[:, None, :, None]
            gram = xp.reshape(same * blocks[:, :, None, :], (p * n, p * n))
        corner = xp.eye(m, dtype=A.dtype, device=self.device) * xp.sum(self.y * self.y, axis=0)
        normal = xp.concat([xp.concat([corner, -cross], axis=1), xp.concat([-cross.T, gram], axis=1)], axis=0)
        normal = self.scale[:, None] * normal * self.scale + weights[:, None] * weights
        shift = 10.0 * normal.shape[0] * float(xp.finfo(A.dtype).eps)
        eye = xp.eye(normal.shape[0], dtype=A.dtype, device=self.device)
        inverse = linalg.solve_triangular(linalg.cholesky(normal + shift * eye, xp=xp, check=False), eye, xp=xp)
        if bool(xp.all(xp.isfinite(inverse))):
            self.factor = inverse.T

    def unknowns(self, u: Array) -> Array:
        """Undo the preconditioning."""
        return u if self.factor is None else self.factor @ u

    def _matvec(self, x: Array) -> Array:
        z = self.unknowns(x)
        return self.xp.concat([self.apply(z), self.xp.sum(self.row * z, keepdims=True)])

    def _rmatvec(self, y: Array) -> Array:
        g = self.apply_transposed(y[:-1]) + self.row * y[-1]
        return g if self.factor is None else self.factor.T @ g


@supports(backends=("numpy", "cupy", "torch", "strict"))
def self_calibration(
    A: Any,
    y: Any,
    *,
    model: str = "repeated",
    method: str = "least_squares",
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 100,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Find the gains ``d`` of the sensors together with the signals, from ``y_l = diag(d) A_l x_l``.

    Parameters
    ----------
    A : array, shape (p, m, n), or (m, n) with ``model="snapshots"``
        The known matrices.
    y : array, shape (p, m)
        What the m sensors read, each of p times.
    model : {"repeated", "snapshots", "diverse"}
        Several matrices and one signal, ``y_l = diag(d) A_l x``; one matrix and several signals,
        ``y_l = diag(d) A x_l``; or both different, ``y_l = diag(d) A_l x_l``.
    method : {"least_squares", "spectral"}
        Fix the mean of the inverse gains and solve a least-squares problem; or the vector of smallest image.
    init : SensingResult or state, optional
        A result to continue.
    tol : float, "auto" or None
        Relative size of the last change, of no use to least squares, which ends after one iteration; also the relative
        residual that counts as exact. ``"auto"`` is 1e-12, and 1e-5 for float32. None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of least-squares problems.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    Result
        ``x`` is the pair of ``gains`` (m,) and ``signals`` (n,), or (p, n). Both are known up to one number: the
        inverse gains have the root mean square 1 and a positive sum. ``residual`` is the smallest relative residual of
        the linear equations.

    Raises
    ------
    TypeError, ValueError
        For invalid input, and sensors that read zero only.

    Notes
    -----
    With the inverse gains ``s = 1 / d`` the equations ``s * y_l = A_l x_l`` are linear and homogeneous: ``H z = 0``,
    with columns scaled to norm 1 here. Least squares minimises ``|H z|^2 + (w'z - c)^2``; its direction does not depend
    on c. The spectral method repeats that with the last z for w, which is inverse iteration for the smallest singular
    value of H.

    Stopping: the last change of z at most ``tol``. The certificate is the relative residual if that is at most ``tol``,
    else the stationarity of the least-squares problem or of the singular vector. Where equations are fewer than
    unknowns less one (``p m < m + n - 1``, or ``m + p n - 1``), its note says "not identifiable".

    Cost: LSQR, one product with all matrices and one with their transposes an inner iteration; up to 2000 unknowns N
    preconditioned by a factor of the normal equations, O(p m n^2 + N^3) once, which leaves a few iterations.

    When not to use it: gains near zero, whose inverses dominate; then a nonconvex method on the gains themselves.

    References
    ----------
    S. Ling, T. Strohmer, Self-calibration and bilinear inverse problems via linear least squares, SIAM J. Imaging Sci.
    2018, sections 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import self_calibration
    >>> rng = np.random.default_rng(0)
    >>> A, x, d = rng.normal(size=(3, 8, 4)), np.arange(1.0, 5.0), rng.uniform(0.5, 2.0, 8)
    >>> res = self_calibration(A, d * (A @ x))
    >>> res.success, (res.signals / res.signals[0]).round(6)
    (True, array([1., 2., 3., 4.]))
    """
    check.option("model", model, ("repeated", "snapshots", "diverse"))
    check.option("method", method, ("least_squares", "spectral"))
    xp, device, dtype = check.common(A=A, y=y)
    made = {"xp": xp, "dtype": dtype, "device": device}
    y = check.array("y", y, ndim=2, **made)
    p, m = y.shape
    fix = 'a matrix a row of y; one matrix for all: model="snapshots"'
    A = check.array("A", A, shape=(m, None) if model == "snapshots" else (p, m, None), fix=fix, **made)
    if 0 in A.shape or 0 in y.shape:
        raise check.error("A", f"shape {tuple(A.shape)} for y of shape {(p, m)}", "at least one of each")
    if not bool(xp.all(xp.max(xp.abs(y), axis=0) > 0)):
        raise check.error("y", "a sensor that reads zero only", "sensors with gains other than zero", "leave it out")
    bits = int(xp.finfo(dtype).bits)
    if isinstance(tol, str):
        check.option("tol", tol, ("auto",))
        tol = TOL[bits]
    H = _Calibration(A, y, model, xp)
    weights = xp.concat([H.scale[:m], xp.zeros_like(H.scale[m:])])
    weights = weights / linalg.norm(weights, xp=xp)
    if H.shape[1] <= DENSE:
        H.precondition(weights)
    few = H.shape[1] if H.factor is None else FEW
    last = xp.concat([xp.zeros_like(xp.reshape(y, (-1,))), xp.ones_like(y[0, :1])])
    state = prepare_resume(init, CalibrationState)
    if state is None:
        state = CalibrationState(weights, xp.sum(xp.ones_like(weights[:1])), 0, 0)
    exact = 4.0 * float(xp.finfo(dtype).eps)

    def steps(state: CalibrationState) -> Steps:
        z, change, nit, inner = state
        while True:
            ended = method == "least_squares" and nit > 0
            yield Step(
                answer(z), nit, CalibrationState(z, change, nit, inner), counts={"products": inner},
                stop=lambda change=change, ended=ended: 0.0 if ended else change,
            )  # fmt: skip
            H.row = z if method == "spectral" else weights
            solved, old = None, last
            for _ in range(ROUNDS):  # until the tolerance is met, or the iterations change nothing
                solved = lsqr(H, last, init=solved, tol=exact, maxiter=few, check_every=FEW, record=False)
                new = H.unknowns(solved.x)
                new = new / linalg.norm(new, xp=xp)
                if solved.success or (old is not last and float(linalg.norm(new - old, xp=xp)) <= 100.0 * exact):
                    break
                old = new
            change = linalg.norm(new - z, xp=xp)
            z, nit, inner = new, nit + 1, inner + solved.nit

    def answer(z: Array) -> tuple[Array, Array]:
        s, X = H.parts(z)
        size = linalg.norm(s, xp=xp) / math.sqrt(m)
        size = xp.where(xp.sum(s) < 0, -size, size)
        nonzero = s != 0
        gains = xp.where(nonzero, size / xp.where(nonzero, s, xp.ones_like(s)), xp.full_like(s, xp.inf))
        X = X / size
        return gains, X[0, :] if model == "repeated" else X

    def finish(step: Step) -> dict[str, Any]:
        z = step.state.z
        r = H.apply(z)
        g, size = H.apply_transposed(r), float(linalg.norm(r, xp=xp))
        unknowns = m + H.signals * A.shape[-1]
        note = f"{p * m} equations for {unknowns} unknowns up to one number"
        if p * m < unknowns - 1:
            note += ": not identifiable"
        if tol is None or size <= tol:
            certificate = Certificate("residual", size, tol=tol, note=note)
        else:
            direction = z if method == "spectral" else weights
            off = g - direction * xp.sum(direction * g)
            words = f"relative residual {size:.2e}; {note}"
            certificate = Certificate(
                "stationarity", float(linalg.norm(off, xp=xp)), scale=size, tol=STATIONARY[bits], note=words
            )
        gains, signals = answer(z)
        return {"certificate": certificate, "fun": size, "residual": size, "gains": gains, "signals": signals}

    return run(
        steps, state=state, like=y, xp=xp, method="self_calibration", finish=finish, tol=tol,
        problem=(A, y, model, method), maxiter=maxiter, check_every=check_every, callback=callback, record=record,
        max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
