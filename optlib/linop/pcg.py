"""Conjugate gradients as a part of other methods: Newton steps, adjoints."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib.backend import Array, is_numpy, linalg

CHECK = 10  # iterations between two transfers to the host, on devices


class Solved(NamedTuple):
    """What `pcg` returns: the solution, the number of products, whether the residual is below the tolerance.

    ``flat`` is a direction without positive curvature, if one ended the run.
    """

    x: Array
    products: int
    success: bool
    flat: Array | None = None


def pcg(
    product: Callable[[Array], Array],
    b: Array,
    x: Array | None = None,
    *,
    precondition: Callable[[Array], Array] | None = None,
    tol: float,
    maxiter: int,
    xp: Any,
) -> Solved:
    """Solve ``A x = b`` by the bare iteration of `cg`.

    Parameters
    ----------
    product : callable
        ``v -> A v`` for arrays of shape (n,).
    b : array, shape (n,)
    x : array, shape (n,), optional
        Warm start.
    precondition : callable, optional
        Product with an approximate inverse of A.
    tol : float
        Relative tolerance on the residual of the recursion, which is not compared with the true one.
    maxiter : int
    xp : module

    Returns
    -------
    Solved

    Notes
    -----
    A direction without positive curvature ends the run at the last point; where it is the first one, the point is the
    preconditioned ``b``, for a step of descent. Cost of an iteration: one product, one with the preconditioner.
    """
    unit = linalg.norm(b, xp=xp)
    products, every = 0, 1 if is_numpy(xp) else CHECK
    if not float(unit) > 0.0:
        return Solved(xp.zeros_like(b), 0, float(unit) == 0.0)
    r = b / unit
    if x is None:
        y = xp.zeros_like(b)
    else:
        y, products = x / unit, 1
        r = r - product(y)
    first = last = p = z = r if precondition is None else precondition(r)
    rz, rr, sound, moving, flat = r @ z, r @ r, True, True, None

    def ratio(a: Array, b: Array) -> Array:
        """Quotient of two numbers; on devices 0 where the run should have ended, until the host looks."""
        return a / b if every == 1 else xp.where(moving, a, 0.0 * a) / xp.where(moving, b, xp.ones_like(b))

    for k in range(maxiter + 1):
        if k % every == 0 or k == maxiter:
            size = float(rr) ** 0.5
            if not size > tol:
                return Solved(unit * y, products, size <= tol)
            if not bool(sound):
                flat = last
                break
        if k == maxiter:
            break
        q = product(p)
        products += 1
        curvature = p @ q
        above = rr > tol * tol
        sound = sound & (~above | ((curvature > 0) & (rz > 0)))
        moving = sound & above
        if every == 1 and not sound:
            flat = p
            break
        alpha = ratio(rz, curvature)
        y, r = y + alpha * p, r - alpha * q
        z = r if precondition is None else precondition(r)
        old, rz, rr = rz, r @ z, r @ r
        last, p = p, z + ratio(rz, old) * p
    if x is None:
        y = xp.where(xp.any(y != 0), y, first)
    return Solved(unit * y, products, False, flat)
