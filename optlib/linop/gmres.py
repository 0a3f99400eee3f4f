"""GMRES: linear systems without symmetry, on any array library."""

from typing import Any, NamedTuple

from optlib._core import Result
from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.linop._krylov import as_preconditioner, linear_system, run_krylov, tolerance

FALL = 0.9  # of the residual in one iteration, from which on it is the next direction


class GMRESState(NamedTuple):
    """State of `gmres`: solution, scaled residual, next direction, basis of directions and of their images."""

    x: Array
    r: Array
    z: Array
    directions: Array
    images: Array
    rr: Array
    broken: Array
    rhs: Array
    unit: Array
    nit: int


@supports()
def gmres(
    A: Any,
    b: Array,
    *,
    preconditioner: Any = None,
    restart: int = 30,
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
    """Solve ``A x = b`` for any square ``A`` by the generalised minimal residual method with restarts.

    Parameters
    ----------
    A : array, sparse matrix, operator or callable, shape (n, n)
        Anything that `as_linear_operator` takes; a function ``x -> A x`` gets its shape from ``b``.
    b : array, shape (n,) or (n, k)
        Right side, or several.
    preconditioner : array, operator or callable, optional
        Approximation of the inverse of ``A``; applied from the right, so that residuals are those of the system.
    restart : int
        Iterations after which the basis is dropped. From n on the method ends after n iterations in exact arithmetic.
    init : array, Result or GMRESState, optional
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
    The adaptive simpler form: the images of the directions are kept orthonormal, so that each iterate minimises the
    residual over the space spanned since the last restart and is at hand without a triangular system. The next
    direction is the residual if it fell by a tenth, else the last image: with either choice alone the basis may
    degenerate.

    Stopping: as in `cg`. The residual never rises. With a basis shorter than n it may stop falling, where ``A`` turns
    vectors by more than a right angle: the run then ends at ``maxiter`` without success; take a longer basis or a
    preconditioner. Status 6 means that ``A`` has mapped a residual to zero.

    Cost: one product with ``A``, one with the preconditioner, and about ``8 restart`` vector operations an iteration;
    ``2 restart`` vectors of memory.

    Where not to use it: on symmetric matrices, where `cg` and `minres` need no basis.

    References
    ----------
    Y. Saad, M. H. Schultz, GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems,
    1986. P. Jiranek, M. Rozloznik, Adaptive version of simpler GMRES, Numerical Algorithms, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import gmres
    >>> gmres(np.array([[0.0, 2.0], [-1.0, 1.0]]), np.array([2.0, 0.0])).x.round(6)
    array([1., 1.])
    """
    system = linear_system(A, b, init, GMRESState, square=True, symmetric=False)
    xp, unit, matvec, dot = system.A.xp, system.unit, system.matvec, system.dot
    precondition = as_preconditioner(preconditioner, system)
    restart = check.scalar("restart", restart, low=1, integer=True)
    m = min(restart, max(1, system.A.shape[1]))
    tol, weight = tolerance(tol, atol, unit, xp)
    never = xp.zeros_like(unit, dtype=xp.bool)
    eps = float(xp.finfo(system.rhs.dtype).eps)
    empty = xp.zeros((m, *system.rhs.shape), dtype=system.rhs.dtype, device=system.A.device)

    def direction(u: Array) -> Array:
        norm = linalg.norm(u, axis=0, xp=xp)
        return u / xp.where(norm > 0, norm, xp.ones_like(norm))

    def start(x: Array | None, old: GMRESState | None = None) -> GMRESState:
        x, r = system.residual(x)
        broken, nit = (old.broken, old.nit) if old is not None else (never, 0)
        return GMRESState(x, r, direction(r), empty, empty, dot(r, r), broken, system.rhs, unit, nit)

    def combine(coefficients: Array, basis: Array) -> Array:
        if basis.ndim == 2:
            return coefficients @ basis
        return xp.sum(coefficients[:, None, :] * basis, axis=0)

    def advance(s: GMRESState) -> GMRESState:
        z, directions, images = s.z, s.directions, s.images
        if s.nit % m == 0:
            z, directions, images = direction(s.r), empty, empty
        p = z if precondition is None else precondition(z)
        q = matvec(p)
        size = linalg.norm(q, axis=0, xp=xp)
        for _ in range(2):
            c = images @ q if q.ndim == 1 else xp.sum(images * q, axis=1)
            q, p = q - combine(c, images), p - combine(c, directions)
        norm = linalg.norm(q, axis=0, xp=xp)
        regular = norm > 100.0 * eps * size
        inverse = 1.0 / xp.where(regular, norm, xp.inf)
        w, p = inverse * q, inverse * p
        alpha = dot(w, s.r)
        x, r = s.x + (alpha * unit) * p, s.r - alpha * w
        rr = dot(r, r)
        broken = s.broken | ((s.rr > eps**2) & (size <= 0))
        z = direction(xp.where((rr <= FALL**2 * s.rr) | ~regular, r, w))
        keep = xp.astype(regular, q.dtype)  # a dependent direction ends the basis
        directions, images = (
            xp.concat([u[None, ...], keep * basis[:-1, ...]], axis=0) for u, basis in ((p, directions), (w, images))
        )
        return GMRESState(x, r, z, directions, images, rr, broken, s.rhs, unit, s.nit + 1)

    def estimate(s: GMRESState) -> Array:
        return weight * xp.sqrt(s.rr)

    return run_krylov(
        "gmres", system, start, advance, estimate, lambda _: "residual",
        lambda: (atol, m, None if precondition is None else precondition(system.rhs)), tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
