"""Projections onto convex sets: the nearest point, for every row of an array at once.

Vectors lie along the last axis and matrices in the last two; all axes before are a batch. Each function takes lists or
arrays of any library, returns an array of the same library, device and floating dtype, and never changes its input.
An amount (``mass``, ``radius``, ``trace``) is a number, or an array with one amount per row.

NaN in a row gives a row of NaN (bounds of a box act entry by entry), on every backend and without an error: a check
would make a device wait in every iteration. An entry of -inf is legal on a simplex and gets 0; other infinite entries
are treated as NaN where the distance to the set loses its meaning.

With ``xp=``, the namespace of ``x``, a call trusts its arguments: nothing is looked up, checked or converted (amounts
are Python floats or arrays of the leading shape). That is the form for inner loops.
"""

from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, linalg
from optlib.geometry import _input, _thresholds

__all__ = [
    "project_box",
    "project_capped_simplex",
    "project_ellipsoid",
    "project_l1_ball",
    "project_l2_ball",
    "project_simplex",
    "project_weighted_l1_ball",
    "project_weighted_simplex",
]


def project_simplex(x: Any, mass: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the simplex ``{z >= 0, sum z = mass}``.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    mass : float or array, shape (...)
        Sum of the projection, nonnegative; an array scales the simplex row by row.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``max(x - tau, 0)`` with the threshold ``tau`` that gives the mass.

    Notes
    -----
    Cost: 2 to 14 passes of 0.1 ns an entry in the Numba kernel (Newton's method for the threshold, exact when it
    stops), a sort elsewhere. Entries are taken relative to the largest one, so huge entries and tiny masses are safe.

    References
    ----------
    C. Michelot, "A finite algorithm for finding the projection of a point onto the canonical simplex of R^n",
    J. Optim. Theory Appl. 50 (1986).

    Examples
    --------
    >>> from optlib.geometry import project_simplex
    >>> project_simplex([1.0, 0.8, -1.0])
    array([0.6, 0.4, 0. ])
    """
    if xp is None:
        xp, x = _input.points(x, mass=mass)
        mass = _input.amount("mass", mass, x, xp=xp)
    return _thresholds.simplex(x, mass, xp=xp)


def project_capped_simplex(x: Any, mass: Any = 1.0, cap: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the capped simplex ``{0 <= z <= cap, sum z = mass}``.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    mass : float or array, shape (...)
        Sum of the projection, at most the sum of the caps.
    cap : float or array, shape broadcasting to that of ``x``
        Upper bounds, nonnegative.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``clip(x - tau, 0, cap)`` with the threshold ``tau`` that gives the mass.

    Notes
    -----
    Cost: variable fixing, some passes over a row, in the Numba kernel; elsewhere a sort and a search over it.

    References
    ----------
    K. C. Kiwiel, "Variable fixing algorithms for the continuous quadratic knapsack problem", J. Optim. Theory Appl.
    136 (2008).

    Examples
    --------
    >>> from optlib.geometry import project_capped_simplex
    >>> project_capped_simplex([3.0, 1.0, 0.5], mass=2.0)
    array([1.  , 0.75, 0.25])
    """
    if xp is None:
        xp, x = _input.points(x, mass=mass, cap=cap)
        mass = _input.amount("mass", mass, x, xp=xp)
        cap = _input.broadcast("cap", cap, x, tuple(x.shape), nonnegative=True, xp=xp)
        if not bool(xp.all(mass <= xp.sum(cap, axis=-1) * (1.0 + _input.slack(x, xp)))):
            raise check.error("mass", "more than the caps sum to", "at most sum(cap)", "raise the caps")
    zero = xp.zeros_like(x)
    return _thresholds.clipped_sum(x, zero + 1.0, zero, zero + cap, mass, xp=xp)


def project_weighted_simplex(x: Any, weights: Any, mass: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the weighted simplex ``{z >= 0, sum weights z = mass}``.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    weights : array, shape broadcasting to that of ``x``
        Positive.
    mass : float or array, shape (...)
        Weighted sum of the projection, nonnegative.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``max(x - tau weights, 0)`` with the threshold ``tau`` that gives the mass.

    Notes
    -----
    Cost: as `project_capped_simplex`.

    Examples
    --------
    >>> from optlib.geometry import project_weighted_simplex
    >>> project_weighted_simplex([1.0, 1.0], weights=[1.0, 3.0])
    array([0.7, 0.1])
    """
    if xp is None:
        xp, x = _input.points(x, weights=weights, mass=mass)
        weights = _input.broadcast("weights", weights, x, tuple(x.shape), positive=True, xp=xp)
        mass = _input.amount("mass", mass, x, xp=xp)
    return _thresholds.weighted_simplex(x, weights, mass, xp=xp)


def project_l1_ball(x: Any, radius: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the l1 ball ``{sum |z| <= radius}``.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    radius : float or array, shape (...)
        Nonnegative.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``x`` inside the ball, otherwise ``sign(x)`` times the projection of ``|x|`` onto the simplex.

    Notes
    -----
    Cost: as `project_simplex`.

    Examples
    --------
    >>> from optlib.geometry import project_l1_ball
    >>> project_l1_ball([2.0, -1.5, 0.1])
    array([ 0.75, -0.25,  0.  ])
    """
    if xp is None:
        xp, x = _input.points(x, radius=radius)
        radius = _input.amount("radius", radius, x, xp=xp)
    return _thresholds.l1_ball(x, radius, xp=xp)


def project_weighted_l1_ball(x: Any, weights: Any, radius: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the weighted l1 ball ``{sum weights |z| <= radius}``.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    weights : array, shape broadcasting to that of ``x``
        Positive.
    radius : float or array, shape (...)
        Nonnegative.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``x`` inside the ball, otherwise ``sign(x)`` times the projection of ``|x|`` onto the weighted simplex.

    Notes
    -----
    Cost: as `project_capped_simplex`.

    Examples
    --------
    >>> from optlib.geometry import project_weighted_l1_ball
    >>> project_weighted_l1_ball([-1.0, 1.0], weights=[1.0, 3.0])
    array([-0.7,  0.1])
    """
    if xp is None:
        xp, x = _input.points(x, weights=weights, radius=radius)
        weights = _input.broadcast("weights", weights, x, tuple(x.shape), positive=True, xp=xp)
        radius = _input.amount("radius", radius, x, xp=xp)
    size = xp.abs(x)
    inside = xp.sum(weights * size, axis=-1, keepdims=True) <= _thresholds.column(radius)
    outside = _thresholds.weighted_simplex(size, weights, radius, xp=xp)
    return xp.where(inside, x, xp.where(x < 0.0, 0.0 - outside, outside))


def project_l2_ball(x: Any, radius: Any = 1.0, *, metric: Any = None, xp: Any = None) -> Array:
    """Project onto the Euclidean ball ``{|z| <= radius}``, in the Euclidean norm or in the norm of a metric.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    radius : float or array, shape (...)
        Nonnegative; positive with a metric.
    metric : array, shape (..., n, n), or a pair, optional
        Symmetric positive definite matrix ``A``: the result then minimises ``(z - x)' A (z - x)``. A matrix that is
        used again may be given as the pair of its eigenvalues and eigenvectors, ``xp.linalg.eigh(A)``.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments, and the metric is a pair.

    Returns
    -------
    array, shape (..., n)
        The projection: ``x`` itself inside the ball.

    Notes
    -----
    Cost: O(n); with a metric an eigendecomposition and 25 Newton steps of O(n) for the secular equation.

    Examples
    --------
    >>> from optlib.geometry import project_l2_ball
    >>> project_l2_ball([3.0, 4.0])
    array([0.6, 0.8])
    """
    if xp is None:
        xp, x = _input.points(x, radius=radius)
        radius = _input.amount("radius", radius, x, positive=metric is not None, xp=xp)
        if metric is not None:
            metric = _input.spectrum("metric", metric, x, xp, definite=True)
    if metric is not None:
        values, vectors = metric
        values = values / xp.max(values, axis=-1, keepdims=True)
        return _secular(x, vectors, xp.ones_like(values), xp.min(values, axis=-1, keepdims=True) / values, radius, xp)
    radius = _thresholds.column(radius)
    scale = xp.maximum(xp.max(xp.abs(x), axis=-1, keepdims=True), radius)
    scale = xp.where(scale == 0.0, xp.ones_like(scale), scale)
    unit = x / scale
    size = xp.sqrt(xp.sum(unit * unit, axis=-1, keepdims=True))
    return xp.where(size <= radius / scale, x, unit * (radius / xp.where(size > 0.0, size, xp.ones_like(size))))


def project_ellipsoid(x: Any, a: Any, radius: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the ellipsoid ``{z' a z <= radius^2}``.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    a : array, shape (..., n, n), or a pair
        Symmetric positive semidefinite; a zero eigenvalue leaves its direction free. A matrix that is used again may be
        given as the pair of its eigenvalues and eigenvectors, ``xp.linalg.eigh(a)``.
    radius : float or array, shape (...)
        Positive.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments, and ``a`` is a pair.

    Returns
    -------
    array, shape (..., n)
        The nearest point in the Euclidean norm: ``x`` itself inside.

    Notes
    -----
    Cost: an eigendecomposition and 25 Newton steps of O(n) for the secular equation.

    Examples
    --------
    >>> from optlib.geometry import project_ellipsoid
    >>> project_ellipsoid([0.0, 3.0], [[1.0, 0.0], [0.0, 4.0]])
    array([0. , 0.5])
    """
    if xp is None:
        xp, x = _input.points(x, radius=radius)
        radius = _input.amount("radius", radius, x, positive=True, xp=xp)
        a = _input.spectrum("a", a, x, xp, definite=False)
    values, vectors = a
    values = xp.maximum(values, 0.0)
    top = xp.max(values, axis=-1, keepdims=True)
    return _secular(x, vectors, xp.sqrt(values), values / xp.where(top > 0.0, top, xp.ones_like(top)), radius, xp)


def _secular(x: Array, vectors: Array, weights: Array, bend: Array, radius: Any, xp: Any) -> Array:
    """Shrink the coefficients of ``x`` until their weighted norm is the radius."""
    c = (x[..., None, :] @ vectors)[..., 0, :]
    b = weights * c / _thresholds.column(radius)
    inside = linalg.norm(b, axis=-1, keepdims=True, xp=xp) <= 1.0
    c = c * _thresholds.secular(b, xp.broadcast_to(bend, b.shape), xp=xp)
    return xp.where(inside, x, (vectors @ c[..., None])[..., 0])


def project_box(x: Any, lower: Any = 0.0, upper: Any = 1.0, *, xp: Any = None) -> Array:
    """Project onto the box ``{lower <= z <= upper}``: the proximal operator of bounds.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    lower, upper : float or array, shape broadcasting to that of ``x``
        Bounds, which may be infinite: ``lower=0, upper=inf`` is the nonnegative orthant.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``min(max(x, lower), upper)``.

    Examples
    --------
    >>> from optlib.geometry import project_box
    >>> project_box([-1.0, 0.5, 3.0], upper=[1.0, 1.0, 2.0])
    array([0. , 0.5, 2. ])
    """
    if xp is None:
        xp, x = _input.points(x, lower=lower, upper=upper)
        lower = _input.broadcast("lower", lower, x, tuple(x.shape), finite=False, xp=xp)
        upper = _input.broadcast("upper", upper, x, tuple(x.shape), finite=False, xp=xp)
        if not bool(xp.all(lower <= upper)):
            raise check.error("lower, upper", "an empty interval or NaN", "lower <= upper everywhere")
    return xp.minimum(xp.maximum(x, lower), upper)
