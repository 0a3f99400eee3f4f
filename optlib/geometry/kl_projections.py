"""Projections onto convex sets in the Kullback-Leibler divergence.

Conventions as in `optlib.geometry.projections`.
"""

from typing import Any

from optlib._core import validation as check
from optlib.backend import Array
from optlib.geometry import _input, _thresholds

__all__ = ["project_kl_cap", "project_kl_floor"]


def project_kl_floor(x: Any, floor: Any, mass: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the simplex with a floor ``{z >= floor, sum z = mass}`` in the Kullback-Leibler divergence.

    Parameters
    ----------
    x : array, shape (..., n)
        Nonnegative points, of any sum, not zero.
    floor : float or array, shape broadcasting to that of ``x``
        Lower bounds, nonnegative, of sum at most the mass.
    mass : float or array, shape (...)
        Sum of the projection.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``max(t x, floor)`` with the scale ``t`` that gives the mass: the minimiser of ``sum z log(z / x)``.

    Notes
    -----
    Cost: as `project_capped_simplex`. Online learners use it to keep every expert's weight away from 0.

    Examples
    --------
    >>> from optlib.geometry import project_kl_floor
    >>> project_kl_floor([0.02, 0.49, 0.49], 0.1)
    array([0.1 , 0.45, 0.45])
    """
    if xp is None:
        xp, x, floor, mass = _kl_input(x, "floor", floor, mass)
        if not bool(xp.all(xp.sum(floor, axis=-1) <= mass * (1.0 + _input.slack(x, xp)))):
            raise check.error("floor", "floors of sum above the mass", "sum(floor) <= mass", "lower the floor")
    zero = xp.zeros_like(x)
    return _thresholds.clipped_sum(zero, _relative(x, xp), zero + floor, zero + xp.inf, mass, xp=xp)


def project_kl_cap(x: Any, cap: Any, mass: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the capped simplex ``{0 <= z <= cap, sum z = mass}`` in the Kullback-Leibler divergence.

    Parameters
    ----------
    x : array, shape (..., n)
        Nonnegative points, of any sum. Entries of 0 stay 0.
    cap : float or array, shape broadcasting to that of ``x``
        Upper bounds; where ``x`` is positive their sum must be at least the mass.
    mass : float or array, shape (...)
        Sum of the projection.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``min(t x, cap)`` with the scale ``t`` that gives the mass: the minimiser of ``sum z log(z / x)``.

    Notes
    -----
    Cost: as `project_capped_simplex`.

    Examples
    --------
    >>> from optlib.geometry import project_kl_cap
    >>> project_kl_cap([0.8, 0.1, 0.1], 0.5)
    array([0.5 , 0.25, 0.25])
    """
    if xp is None:
        xp, x, cap, mass = _kl_input(x, "cap", cap, mass)
        room = xp.sum(xp.where(x == 0.0, xp.zeros_like(x), cap), axis=-1)
        if not bool(xp.all(mass <= room * (1.0 + _input.slack(x, xp)))):
            raise check.error("cap", "caps of sum below the mass where x > 0", "sum(cap) >= mass", "raise the cap")
    zero = xp.zeros_like(x)
    return _thresholds.clipped_sum(zero, _relative(x, xp), zero, zero + cap, mass, xp=xp)


def _kl_input(x: Any, name: str, bound: Any, mass: Any) -> tuple[Any, Array, Array, Any]:
    xp, x = _input.points(x, mass=mass, **{name: bound})
    if bool(xp.any(x < 0.0)) or bool(xp.any(xp.max(x, axis=-1) == 0.0)):
        raise check.error("x", "a negative entry or a row of zeros", "nonnegative rows with a positive entry")
    bound = _input.broadcast(name, bound, x, tuple(x.shape), nonnegative=True, xp=xp)
    return xp, x, bound, _input.amount("mass", mass, x, positive=True, xp=xp)


def _relative(x: Array, xp: Any) -> Array:
    top = xp.max(x, axis=-1, keepdims=True)
    return x / xp.where(top > 0.0, top, xp.ones_like(top))
