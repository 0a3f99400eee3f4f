"""Half the squared Euclidean norm on the whole space, on balls, boxes and simplices: projected gradient steps."""

import math
from numbers import Real
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, kernel, linalg, to_numpy
from optlib.geometry import _thresholds, divergences
from optlib.geometry.domains import Ball, Box, Domain, L1Ball, Simplex
from optlib.geometry.mirror.base import MirrorMap
from optlib.geometry.mirror.entropy import simplex_violation


class Euclidean(MirrorMap):
    """Half the squared norm, ``psi = |x|^2 / 2``, on the whole space: plain gradient steps ``x - eta g``.

    `EuclideanBall`, `EuclideanBox`, `EuclideanSimplex` and `EuclideanL1Ball` project them.

    Examples
    --------
    >>> from optlib.geometry import Euclidean
    >>> Euclidean().step([1.0, 2.0], [1.0, 1.0], 0.5)
    array([0.5, 1.5])
    """

    _symmetry: str | None = "signs"

    def _sigma(self, n: int) -> float:
        return 1.0

    def _range(self, n: int) -> float:
        return math.inf

    def _value(self, x: Array, xp: Any) -> Array:
        return 0.5 * xp.sum(xp.square(x), axis=-1)

    def _grad(self, x: Array, xp: Any) -> Array:
        return x

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return theta

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.squared_euclidean(x, y, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return xp.sum(x - x, axis=-1)  # NaN unless all entries are finite


class EuclideanSimplex(Euclidean):
    """Half the squared norm on the simplex ``{x >= 0, sum x = mass}``.

    Parameters
    ----------
    mass : float
        Sum of the entries.

    Notes
    -----
    Cost: a projection, O(n) in the Numba kernel and O(n log n) by sorting elsewhere.

    Examples
    --------
    >>> from optlib.geometry import EuclideanSimplex
    >>> EuclideanSimplex().step([0.5, 0.5], [0.0, 1.0], 0.4).round(3)
    array([0.7, 0.3])
    """

    _symmetry = "permutations"

    def __init__(self, mass: float = 1.0) -> None:
        self.mass = check.scalar("mass", mass, low=0.0, low_open=True)

    def _domain(self, n: int) -> Domain | None:
        return Simplex(n, self.mass)

    def _range(self, n: int) -> float:
        return 0.5 * self.mass**2 * (1.0 - 1.0 / n)

    def _diameter(self, n: int) -> float:
        return math.sqrt(2.0) * self.mass if n > 1 else 0.0

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return _thresholds.simplex(theta, self.mass, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return simplex_violation(x, self.mass, xp)


class EuclideanL1Ball(Euclidean):
    """Half the squared norm on the l1 ball ``{sum |x| <= radius}``.

    Parameters
    ----------
    radius : float
        Bound on the l1 norm.

    Notes
    -----
    Cost: as `EuclideanSimplex`.

    Examples
    --------
    >>> from optlib.geometry import EuclideanL1Ball
    >>> EuclideanL1Ball(1.0).project([1.5, -1.0]).round(3)
    array([ 0.75, -0.25])
    """

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = check.scalar("radius", radius, low=0.0, low_open=True)

    def _domain(self, n: int) -> Domain | None:
        return L1Ball(n, self.radius)

    def _range(self, n: int) -> float:
        return 0.5 * self.radius**2

    def _diameter(self, n: int) -> float:
        return 2.0 * self.radius

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return _thresholds.l1_ball(theta, self.radius, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return xp.sum(xp.abs(x), axis=-1) / self.radius - 1.0


@kernel(numba="optlib.geometry._mirror_numba:shorten", match="sum")
def shorten(x: Array, radius: float, *, xp: Any) -> Array:
    """Shorten vectors to a given length, ``x * min(1, radius / |x|)``.

    Parameters
    ----------
    x : array, shape (..., n)
        Vectors.
    radius : float
        Largest length.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        The projections onto the centred ball.
    """
    size = linalg.norm(x, axis=-1, keepdims=True, xp=xp)
    inside = size <= radius
    return xp.where(inside, x, radius * (x / xp.where(inside, xp.ones_like(size), size)))


class EuclideanBall(Euclidean):
    """Half the squared distance ``psi = |x - middle|^2 / 2`` on the ball ``|x - middle| <= radius``.

    Parameters
    ----------
    radius : float
        Radius.
    middle : array, shape (..., n), optional
        Centre of the ball, by default 0.

    Notes
    -----
    Cost O(n).

    Examples
    --------
    >>> from optlib.geometry import EuclideanBall
    >>> EuclideanBall(2.0).project([3.0, 4.0]).round(3)
    array([1.2, 1.6])
    """

    def __init__(self, radius: float = 1.0, middle: Any = None) -> None:
        self.radius = check.scalar("radius", radius, low=0.0, low_open=True)
        self.middle = middle
        if middle is not None:
            xp, device, dtype = check.common(middle=middle)
            self.middle, self._symmetry = check.array("middle", middle, xp=xp, dtype=dtype, device=device), None
            if self.middle.ndim == 0 or 0 in self.middle.shape:
                raise check.error("middle", f"shape {tuple(self.middle.shape)}", "a point, or one for each point")

    def _point_shape(self, point: tuple[int, ...]) -> tuple[int, ...]:
        return point if self.middle is None else tuple(self.middle.shape[-1:])

    def _domain(self, n: int) -> Domain | None:
        return Ball(n, self.radius, self.middle) if self.middle is None or self.middle.ndim == 1 else None

    def _range(self, n: int) -> float:
        return 0.5 * self.radius**2

    def _diameter(self, n: int) -> float:
        return 2.0 * self.radius

    def _value(self, x: Array, xp: Any) -> Array:
        return super()._value(self._grad(x, xp), xp)

    def _grad(self, x: Array, xp: Any) -> Array:
        return x if self.middle is None else x - self.middle

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        x = shorten(theta, self.radius, xp=xp)
        return x if self.middle is None else self.middle + x

    def _violation(self, x: Array, xp: Any) -> Array:
        return linalg.norm(self._grad(x, xp), axis=-1, xp=xp) / self.radius - 1.0


class EuclideanBox(Euclidean):
    """Half the squared norm on the box ``lower <= x <= upper``.

    Parameters
    ----------
    lower, upper : float or array, shape (..., n)
        Bounds; infinite ones are allowed.

    Notes
    -----
    Cost O(n).

    Examples
    --------
    >>> from optlib.geometry import EuclideanBox
    >>> EuclideanBox(0.0, [1.0, 2.0]).project([-3.0, 5.0])
    array([0., 2.])
    """

    def __init__(self, lower: Any, upper: Any) -> None:
        self.lower, self.upper = box_bounds(lower, upper)
        self._symmetry = "permutations" if isinstance(self.lower, float) and isinstance(self.upper, float) else None

    def _point_shape(self, point: tuple[int, ...]) -> tuple[int, ...]:
        return box_shape(self.lower, self.upper, point)

    def _domain(self, n: int) -> Domain | None:
        return box_domain(self.lower, self.upper, n)

    def _range(self, n: int) -> float:
        lower, upper = host_bounds(self.lower, self.upper, n)
        most = np.maximum(lower**2, upper**2)
        least = np.where((lower <= 0) & (upper >= 0), 0.0, np.minimum(lower**2, upper**2))
        return 0.5 * float(np.max(np.sum(most - least, axis=-1)))

    def _diameter(self, n: int) -> float:
        lower, upper = host_bounds(self.lower, self.upper, n)
        return float(np.max(np.linalg.norm(upper - lower, axis=-1)))

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return xp.minimum(xp.maximum(theta, self.lower), self.upper)

    def _violation(self, x: Array, xp: Any) -> Array:
        return box_violation(x, self.lower, self.upper, xp)


def box_bounds(lower: Any, upper: Any) -> tuple[Any, Any]:
    """Check the bounds of a box: floats stay floats, everything else becomes an array."""
    xp, device, dtype = check.common(lower=lower, upper=upper)
    bounds = []
    for name, bound in (("lower", lower), ("upper", upper)):
        if isinstance(bound, Real):
            bounds.append(check.scalar(name, bound, finite=False))
        else:
            bounds.append(check.array(name, bound, xp=xp, finite=False, dtype=dtype, device=device))
    low, high = (np.asarray(to_numpy(bound)) for bound in bounds)
    try:
        shape = np.broadcast_shapes(low.shape, high.shape)
    except ValueError as failure:
        raise check.error("lower, upper", f"shapes {low.shape} and {high.shape}", "shapes that fit") from failure
    if 0 in shape:
        raise check.error("lower, upper", f"shapes {low.shape} and {high.shape}", "at least one entry")
    if not np.all(low <= high):
        raise check.error("lower", "an entry above that of `upper`, or NaN", "lower <= upper", "swap the bounds")
    if np.any(low == np.inf) or np.any(high == -np.inf):
        raise check.error("lower", "a box with an infinite point", "lower < inf and upper > -inf")
    return bounds[0], bounds[1]


def box_shape(lower: Any, upper: Any, point: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the points of a box: any, if the bounds are numbers."""
    sizes = {bound.shape[-1] for bound in (lower, upper) if getattr(bound, "ndim", 0)} - {1}
    return (sizes.pop(),) if sizes else point


def box_domain(lower: Any, upper: Any, n: int) -> Box | None:
    """Box in dimension ``n``; None if there is one for each point."""
    one = all(isinstance(bound, float) or bound.ndim == 1 for bound in (lower, upper))
    return Box(lower, upper, n) if one else None


def host_bounds(lower: Any, upper: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a box in dimension ``n`` on the host."""
    low, high = np.broadcast_arrays(to_numpy(lower), to_numpy(upper), np.empty(n))[:2]
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def box_violation(x: Array, lower: Any, upper: Any, xp: Any) -> Array:
    """Violation of the bounds, relative to the largest modulus of the point (at least 1)."""
    worst = xp.max(xp.maximum(lower - x, x - upper), axis=-1)
    return worst / xp.maximum(xp.max(xp.abs(x), axis=-1), 1.0)
