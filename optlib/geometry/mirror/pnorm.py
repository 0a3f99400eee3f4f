"""Squares of p-norms."""

import math
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array
from optlib.geometry import divergences
from optlib.geometry.mirror.base import MirrorMap, lp_norm


class PNorm(MirrorMap):
    """Half the squared p-norm, ``psi = |x|_p^2 / 2`` with ``1 < p <= 2``, on ``|x|_p <= radius``.

    Between the geometry of l1 (``p`` near 1) and of l2; its dual points have the q-norm, ``1/p + 1/q = 1``.

    Parameters
    ----------
    p : float
        Exponent. For sparse comparators in dimension n > 2 the usual choice is ``q = 2 log(n)``.
    radius : float
        Bound on ``|x|_p``.

    Notes
    -----
    ``grad_conj`` is the gradient of ``|theta|_q^2 / 2``, shortened to the radius. Entries are divided by the largest
    one before powers are taken. Cost O(n).

    References
    ----------
    C. Gentile, "The Robustness of the p-Norm Algorithms", Machine Learning 53 (2003).

    Examples
    --------
    >>> from optlib.geometry import PNorm
    >>> PNorm(1.5).grad([3.0, -4.0]).round(3)
    array([ 4.093, -4.726])
    """

    _symmetry = "signs"

    def __init__(self, p: float, *, radius: float = math.inf) -> None:
        self.p = check.scalar("p", p, low=1.0, low_open=True, high=2.0, fix="p near 1 acts like the entropy")
        self.radius = check.scalar("radius", radius, low=0.0, low_open=True, finite=False)
        self.order = self.p

    def _sigma(self, n: int) -> float:
        return self.p - 1.0

    def _range(self, n: int) -> float:
        return 0.5 * self.radius**2

    def _diameter(self, n: int) -> float:
        return 2.0 * self.radius

    def _value(self, x: Array, xp: Any) -> Array:
        return 0.5 * xp.square(lp_norm(x, self.p, xp))

    def _grad(self, x: Array, xp: Any) -> Array:
        return _half_square_grad(x, self.p, xp)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return _half_square_grad(self._dual(theta, xp), self.p / (self.p - 1.0), xp)

    def _dual(self, theta: Array, xp: Any) -> Array:
        if self.radius == math.inf:
            return theta
        size = self._dual_norm(theta, xp)[..., None]  # the p-norm of the primal point
        return theta * (self.radius / xp.maximum(size, xp.full_like(size, self.radius)))

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.p_norm(x, y, self.p, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return lp_norm(x, self.p, xp) / self.radius - 1.0


def _half_square_grad(x: Array, p: float, xp: Any) -> Array:
    """Gradient of ``|x|_p^2 / 2``."""
    size = xp.max(xp.abs(x), axis=-1, keepdims=True)
    unit = xp.abs(x) / xp.where(size > 0, size, xp.ones_like(size))
    length = xp.maximum(xp.sum(unit**p, axis=-1, keepdims=True), xp.ones_like(size)) ** (1.0 / p)
    return xp.sign(x) * size * unit ** (p - 1.0) * length ** (2.0 - p)
