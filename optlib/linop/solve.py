"""Krylov solvers on any array library: conjugate gradients, MINRES and LSQR.

Each method is a pair of functions, ``start(x)`` and ``advance(state)``, that read like the paper.
"""

from typing import Any, NamedTuple

from optlib._core import Result
from optlib._core import validation as check
from optlib.backend import Array, is_numpy, linalg, supports
from optlib.linop._krylov import NEGLIGIBLE, as_preconditioner, largest, linear_system, run_krylov, tolerance


class CGState(NamedTuple):
    """State of `cg`: solution, scaled residual and direction, their inner products, the scaled right side."""

    x: Array
    r: Array
    p: Array
    rz: Array
    rr: Array
    broken: Array
    rhs: Array
    unit: Array
    nit: int


@supports()
def cg(
    A: Any,
    b: Array,
    *,
    preconditioner: Any = None,
    init: Any = None,
    tol: float | None = 1e-6,
    atol: float = 0.0,
    maxiter: int = 1000,
    check_every: int = 10,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    """Solve ``A x = b`` for symmetric positive (semi)definite ``A`` by preconditioned conjugate gradients.

    Parameters
    ----------
    A : array, sparse matrix, operator or callable, shape (n, n)
        Anything that `as_linear_operator` takes; a function ``x -> A x`` gets its shape from ``b``.
    b : array, shape (n,) or (n, k)
        Right side, or several; each column has its own step lengths.
    preconditioner : array, operator or callable, optional
        Symmetric positive definite approximation of the inverse of ``A``.
    init : array, Result or CGState, optional
        Warm start. A result of the same system is resumed bitwise; from a result of a system with another right side
        only ``x`` is taken.
    tol : float or None
        Relative tolerance on the residual; None runs exactly ``maxiter`` iterations.
    atol : float
        Absolute tolerance: a column is done when ``|b - A x| <= max(tol |b|, atol)``.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` of the shape of ``b``; certificate of kind ``"residual"``: the largest recomputed relative residual.

    Notes
    -----
    Stopping: ``max_j |b_j - A x_j| / |b_j| <= tol``, first by the recursive residual, then confirmed by the true one.
    A direction of curvature ``p'Ap <= 0`` (``A`` or the preconditioner is not positive definite) ends the run with
    status 6 at the last good point; a residual that stays above ``tol`` after a start afresh, with status 5. For
    singular ``A`` and ``b`` in its range the solution nearest to the start is found. Iterations after it would run into
    the kernel: NumPy looks at the recursion after each, devices leave a column as it is at half of the tolerance.

    Cost: one product with ``A``, one with the preconditioner and about ten vector operations per iteration; 3 % more
    for the comparison with the true residual.

    References
    ----------
    M. R. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear systems, 1952. H. A. van der Vorst,
    Q. Ye, Residual replacement strategies for Krylov subspace iterative methods, 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import cg
    >>> res = cg(np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0]))
    >>> res.success, res.x.round(6)
    (True, array([0.090909, 0.636364]))
    """
    system = linear_system(A, b, init, CGState, square=True)
    xp, unit, matvec, dot = system.A.xp, system.unit, system.matvec, system.dot
    precondition = as_preconditioner(preconditioner, system)
    tol, weight = tolerance(tol, atol, unit, xp)
    never = xp.zeros_like(unit, dtype=xp.bool)
    floor = (NEGLIGIBLE * float(xp.finfo(system.rhs.dtype).eps)) ** 2
    look = tol is not None and is_numpy(xp)  # after each iteration: elsewhere that would cost a transfer
    half = -1.0 if tol is None or look else 0.5 * tol

    def start(x: Array | None, old: CGState | None = None) -> CGState:
        x, r = system.residual(x)
        z = r if precondition is None else precondition(r)
        rz = dot(r, z)
        rr = rz if precondition is None else dot(r, r)
        broken, nit = (old.broken, old.nit) if old is not None else (never, 0)
        return CGState(x, r, z, rz, rr, broken, system.rhs, unit, nit)

    def advance(s: CGState) -> CGState:
        q = matvec(s.p)
        curvature = dot(s.p, q)
        live = (s.rr > floor) & (estimate(s) > half)  # or else directions are made of rounding errors
        broken = s.broken | (live & ((curvature <= 0) | (s.rz <= 0)))
        halt = broken | ~live
        alpha = s.rz / xp.where(halt, xp.inf, curvature)
        x = s.x + (alpha * unit) * s.p
        r = s.r - alpha * q
        z = r if precondition is None else precondition(r)
        rz = dot(r, z)
        rr = rz if precondition is None else dot(r, r)
        p = z + (rz / xp.where(halt, xp.inf, s.rz)) * s.p
        return CGState(x, r, p, rz, rr, broken, s.rhs, unit, s.nit + 1)

    def estimate(s: CGState) -> Array:
        return weight * xp.sqrt(s.rr)

    return run_krylov(
        "cg", system, start, advance, estimate, lambda _: "residual",
        lambda: (atol, None if precondition is None else precondition(system.rhs)), tol=tol, look=look, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


class MINRESState(NamedTuple):
    """State of `minres`: solution, scaled residual, two Lanczos vectors and directions, the last two rotations."""

    x: Array
    r: Array
    v: Array
    v_old: Array
    z: Array
    w: Array
    w_old: Array
    gamma: Array
    gamma_old: Array
    eta: Array
    c: Array
    c_old: Array
    s: Array
    s_old: Array
    size: Array
    broken: Array
    rhs: Array
    unit: Array
    nit: int


@supports()
def minres(
    A: Any,
    b: Array,
    *,
    preconditioner: Any = None,
    init: Any = None,
    tol: float | None = 1e-6,
    atol: float = 0.0,
    maxiter: int = 1000,
    check_every: int = 10,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    """Solve ``A x = b`` for symmetric, possibly indefinite ``A`` by the minimal residual method.

    Parameters
    ----------
    A : array, sparse matrix, operator or callable, shape (n, n)
        Anything that `as_linear_operator` takes; a function ``x -> A x`` gets its shape from ``b``.
    b : array, shape (n,) or (n, k)
        Right side, or several.
    preconditioner : array, operator or callable, optional
        Symmetric positive definite approximation of the inverse of ``|A|``.
    init : array, Result or MINRESState, optional
        Warm start or resume, as in `cg`.
    tol : float or None
        Relative tolerance on the residual; None runs exactly ``maxiter`` iterations.
    atol : float
        Absolute tolerance: a column is done when ``|b - A x| <= max(tol |b|, atol)``.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` of the shape of ``b``; certificate of kind ``"residual"``: the largest recomputed relative residual.

    Notes
    -----
    Stopping: as in `cg`. Status 6 means that the preconditioner is not positive definite. For a singular system
    without a solution the residual cannot reach ``tol``: use `lsqr`.

    Cost: one product with ``A``, one with the preconditioner and about 17 vector operations per iteration.

    References
    ----------
    C. C. Paige, M. A. Saunders, Solution of sparse indefinite systems of linear equations, 1975. Form of H. C. Elman,
    D. J. Silvester, A. J. Wathen, Finite Elements and Fast Iterative Solvers, algorithm 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import minres
    >>> minres(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 2.0])).x.round(6)
    array([2., 1.])
    """
    system = linear_system(A, b, init, MINRESState, square=True)
    xp, unit, matvec, dot = system.A.xp, system.unit, system.matvec, system.dot
    precondition = as_preconditioner(preconditioner, system)
    tol, weight = tolerance(tol, atol, unit, xp)
    never = xp.zeros_like(unit, dtype=xp.bool)
    eps = float(xp.finfo(system.rhs.dtype).eps)

    def lanczos_norm(z: Array, v: Array, broken: Array) -> tuple[Array, Array]:
        if precondition is None:
            return linalg.norm(v, axis=0, xp=xp), broken  # safe for matrices of any scale
        square = dot(z, v)
        return xp.sqrt(xp.where(square > 0, square, 0.0 * square)), broken | (square < 0)

    def start(x: Array | None, old: MINRESState | None = None) -> MINRESState:
        x, r = system.residual(x)
        z = r if precondition is None else precondition(r)
        zero, one, null = xp.zeros_like(unit), xp.ones_like(unit), xp.zeros_like(x)
        size, broken, nit = (old.size, old.broken, old.nit) if old is not None else (zero, never, 0)
        gamma, broken = lanczos_norm(z, r, broken)
        return MINRESState(
            x, r, r, null, z, null, null, gamma, one, gamma, one, one, zero, zero, size, broken, system.rhs, unit, nit
        )

    def advance(t: MINRESState) -> MINRESState:
        inverse = 1.0 / xp.where(t.gamma > 0, t.gamma, xp.inf)
        z = inverse * t.z
        q = matvec(z)
        delta = dot(q, z)
        v = q - (delta * inverse) * t.v - (t.gamma / t.gamma_old) * t.v_old
        z_new = v if precondition is None else precondition(v)
        gamma, broken = lanczos_norm(z_new, v, t.broken)
        # the new column of the tridiagonal matrix, rotated twice, and the rotation that clears gamma
        a0 = t.c * delta - t.c_old * t.s * t.gamma
        a1 = xp.hypot(a0, gamma)
        a2 = t.s * delta + t.c_old * t.c * t.gamma
        a3 = t.s_old * t.gamma
        size = xp.maximum(t.size, xp.abs(delta) + gamma)
        regular = a1 > 4.0 * eps * size
        scale = 1.0 / xp.where(regular, a1, xp.inf)
        c, s = a0 * scale, xp.where(regular, gamma * scale, xp.ones_like(gamma))
        w = scale * (z - a3 * t.w_old - a2 * t.w)
        x = t.x + (c * t.eta * unit) * w
        eta = -s * t.eta
        r = (s * s) * t.r + (c * eta / xp.where(gamma > 0, gamma, xp.inf)) * v
        old = xp.where(t.gamma > 0, t.gamma, xp.ones_like(gamma))
        return MINRESState(
            x, r, v, t.v, z_new, w, t.w, gamma, old, eta, c, t.c, s, t.s, size, broken, t.rhs, unit, t.nit + 1
        )

    def estimate(t: MINRESState) -> Array:
        return weight * xp.sqrt(dot(t.r, t.r))

    return run_krylov(
        "minres", system, start, advance, estimate, lambda _: "residual",
        lambda: (atol, None if precondition is None else precondition(system.rhs)), tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


class LSQRState(NamedTuple):
    """State of `lsqr`: solution, bidiagonalisation vectors, direction, and the scalars of the QR factorisation."""

    x: Array
    u: Array
    v: Array
    w: Array
    alpha: Array
    rho: Array
    phi: Array
    c: Array
    size: Array
    broken: Array
    rhs: Array
    unit: Array
    nit: int


@supports()
def lsqr(
    A: Any,
    b: Array,
    *,
    damp: float = 0.0,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 1000,
    check_every: int = 10,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    """Minimise ``|A x - b|^2 + damp^2 |x|^2`` for any real ``A`` by LSQR.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (m, n)
        Anything that `as_linear_operator` takes, with its transpose.
    b : array, shape (m,) or (m, k)
        Right side, or several.
    damp : float
        Tikhonov damping.
    init : array, Result or LSQRState, optional
        Warm start or resume, as in `cg`. From zero, the solution of minimum norm is found.
    tol : float or None
        Tolerance of both rules below; None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` of shape ``(n,)`` or ``(n, k)``; certificate of kind ``"residual"`` if ``A x = b`` was solved, else
        ``"stationarity"``: the recomputed ``|A'r| / (|A| |r|)``, which is the relative change of ``A`` that makes
        ``x`` an exact minimiser.

    Notes
    -----
    Stopping: every column has ``|r| <= tol |b|`` or ``|A'r| <= tol |A| |r|``, where ``r = b - A x`` and ``|A|`` is
    replaced by the largest ``|A v|`` over the unit vectors ``v`` seen, a lower bound (with ``damp``, for ``A`` stacked
    on ``damp I``). First judged by the recursions, then confirmed with the true residual.

    Cost: one product with ``A`` and one with ``A'`` per iteration, and about six vector operations. A right
    preconditioner is a product: solve with ``A @ R`` and take ``R @ x``.

    References
    ----------
    C. C. Paige, M. A. Saunders, LSQR: an algorithm for sparse linear equations and sparse least squares, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import lsqr
    >>> A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> lsqr(A, np.array([1.0, 2.0, 4.0])).x.round(4)
    array([0.8333, 1.5   ])
    """
    damp = check.scalar("damp", damp, low=0.0)
    system = linear_system(A, b, init, LSQRState, square=False, damp=damp)
    xp, unit, matvec, rmatvec = system.A.xp, system.unit, system.matvec, system.rmatvec
    tol, _ = tolerance(tol, 0.0, unit, xp)
    never = xp.zeros_like(unit, dtype=xp.bool)
    tiny = float(xp.finfo(system.rhs.dtype).smallest_normal)

    def unit_vector(u: Array) -> tuple[Array, Array]:
        norm = linalg.norm(u, axis=0, xp=xp)  # safe for matrices of any scale
        return u / xp.where(norm > 0, norm, xp.ones_like(norm)), norm

    def start(x: Array | None, old: LSQRState | None = None) -> LSQRState:
        x, r = system.residual(x)
        u, beta = unit_vector(r)
        v, alpha = unit_vector(rmatvec(u))
        size, nit = (xp.maximum(alpha, old.size), old.nit) if old is not None else (alpha, 0)
        return LSQRState(x, u, v, v, alpha, alpha, beta, xp.ones_like(unit), size, never, system.rhs, unit, nit)

    def advance(s: LSQRState) -> LSQRState:
        u, beta = unit_vector(matvec(s.v) - s.alpha * s.u)
        size = xp.maximum(s.size, xp.hypot(s.alpha, beta))
        v, alpha = unit_vector(rmatvec(u) - beta * s.v)
        rho = xp.hypot(s.rho, beta)
        inverse = 1.0 / xp.where(rho > tiny, rho, xp.inf)
        c, sine = s.rho * inverse, beta * inverse
        x = s.x + (c * s.phi * inverse * unit) * s.w
        w = v - (sine * alpha * inverse) * s.w
        return LSQRState(x, u, v, w, alpha, -c * alpha, sine * s.phi, c, size, s.broken, s.rhs, unit, s.nit + 1)

    def normal(s: LSQRState) -> Array:
        return s.alpha * xp.abs(s.c) / xp.where(s.size > 0, s.size, xp.ones_like(s.size))

    def estimate(s: LSQRState) -> Array:
        return xp.minimum(s.phi, normal(s))

    def kind(s: LSQRState) -> str:
        value, residual = largest(estimate(s), s.phi, xp=xp)
        return "residual" if residual <= value else "stationarity"

    return run_krylov(
        "lsqr", system, start, advance, estimate, kind, lambda: damp, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
