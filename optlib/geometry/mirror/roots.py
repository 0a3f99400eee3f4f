"""Maps of the simplex whose points come from the root of one scalar equation: Tsallis entropy and log-barrier."""

import math
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, kernel
from optlib.geometry import divergences
from optlib.geometry.domains import Domain, Simplex
from optlib.geometry.mirror.base import MirrorMap
from optlib.geometry.mirror.entropy import simplex_violation

# Newton steps of the references; ten are the most that were seen over sizes 1 to 3e5 and spreads 1e-8 to 1e8.
ITERATIONS = 12


@kernel(numba="optlib.geometry._mirror_numba:tsallis_simplex", match="iterate")
def tsallis_simplex(theta: Array, mass: float, *, xp: Any) -> Array:
    """Maximise ``<theta, w> + 2 sum sqrt(w)`` over the simplex.

    Parameters
    ----------
    theta : array, shape (..., n)
        Dual points.
    mass : float
        Sum of the weights.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        The weights ``w = 1 / (l + y)^2``, ``l = max(theta) - theta``.

    Notes
    -----
    ``y`` solves ``S(y) = sum w = mass``. ``S^(-1/2)``, a power mean of the ``l_i + y``, is concave and increasing in
    ``y``, so Newton's method on ``S^(-1/2) = mass^(-1/2)`` increases monotonically from ``y = mass^(-1/2)``, where
    the largest weight alone is ``mass``; on equal entries its first step is exact. Stopping: 12 steps here; a relative
    step below 4 eps in the Numba variant.
    """
    l = xp.max(theta, axis=-1, keepdims=True) - theta
    y = xp.full_like(l[..., :1], mass**-0.5)
    for _ in range(ITERATIONS):
        r = 1.0 / (l + y)
        w = r * r
        total = xp.sum(w, axis=-1, keepdims=True)
        y = y + total * (xp.sqrt(total / mass) - 1.0) / xp.sum(w * r, axis=-1, keepdims=True)
    w = xp.square(1.0 / (l + y))
    return w * (mass / xp.sum(w, axis=-1, keepdims=True))


@kernel(numba="optlib.geometry._mirror_numba:tsallis_step", match="iterate")
def tsallis_step(x: Array, g: Array, eta: Any, mass: float, *, xp: Any) -> Array:
    """Mirror step of the Tsallis entropy: `tsallis_simplex` at ``grad(x) - eta g``.

    Parameters
    ----------
    x : array, shape (..., n)
        Weights; zeros stay zero.
    g : array, shape (..., n)
        Losses.
    eta : float or array, shape (..., 1)
        Rate.
    mass : float
        Sum of the new weights.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        The new weights.
    """
    return tsallis_simplex.generic(-safe_reciprocal(xp.sqrt(x), xp) - eta * g, mass, xp=xp)


@kernel(numba="optlib.geometry._mirror_numba:log_barrier_simplex", match="iterate")
def log_barrier_simplex(theta: Array, mass: float, *, xp: Any) -> Array:
    """Maximise ``<theta, w> + sum log(w)`` over the simplex.

    Parameters
    ----------
    theta : array, shape (..., n)
        Dual points.
    mass : float
        Sum of the weights.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        The weights ``w = 1 / (l + y)``, ``l = max(theta) - theta``.

    Notes
    -----
    As `tsallis_simplex`, with Newton's method on ``1 / S``, a harmonic mean, from ``y = 1 / mass``.
    """
    l = xp.max(theta, axis=-1, keepdims=True) - theta
    y = xp.full_like(l[..., :1], 1.0 / mass)
    for _ in range(ITERATIONS):
        w = 1.0 / (l + y)
        total = xp.sum(w, axis=-1, keepdims=True)
        y = y + total * (total / mass - 1.0) / xp.sum(w * w, axis=-1, keepdims=True)
    w = 1.0 / (l + y)
    return w * (mass / xp.sum(w, axis=-1, keepdims=True))


@kernel(numba="optlib.geometry._mirror_numba:log_barrier_step", match="iterate")
def log_barrier_step(x: Array, g: Array, eta: Any, mass: float, *, xp: Any) -> Array:
    """Mirror step of the log-barrier: `log_barrier_simplex` at ``grad(x) - eta g``.

    Parameters
    ----------
    x : array, shape (..., n)
        Weights; zeros stay zero.
    g : array, shape (..., n)
        Losses.
    eta : float or array, shape (..., 1)
        Rate.
    mass : float
        Sum of the new weights.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        The new weights.
    """
    return log_barrier_simplex.generic(-safe_reciprocal(x, xp) - eta * g, mass, xp=xp)


class Tsallis(MirrorMap):
    """Tsallis-1/2 entropy ``psi = -2 sum sqrt(x)`` on the simplex ``{x >= 0, sum x = mass}``.

    Parameters
    ----------
    mass : float
        Sum of the entries.

    Notes
    -----
    Bandit papers scale it as ``-4 sum sqrt(x)``: their weights ``4 / (eta (L_i - y))^2`` are
    ``grad_conj(-eta / 2 * L)`` here. Cost O(n) times at most ten Newton steps (`tsallis_simplex`).

    References
    ----------
    J. Zimmert, Y. Seldin, "Tsallis-INF: An Optimal Algorithm for Stochastic and Adversarial Bandits",
    JMLR 22 (2021).

    Examples
    --------
    >>> from optlib.geometry import Tsallis
    >>> Tsallis().grad_conj([0.0, -1.0, -4.0]).round(3)
    array([0.747, 0.215, 0.038])
    """

    order = 1.0
    _interval = (0.0, math.inf)

    def __init__(self, mass: float = 1.0) -> None:
        self.mass = check.scalar("mass", mass, low=0.0, low_open=True)

    def _sigma(self, n: int) -> float:
        return 0.5 * self.mass**-1.5

    def _domain(self, n: int) -> Domain | None:
        return Simplex(n, self.mass)

    def _range(self, n: int) -> float:
        return 2.0 * math.sqrt(self.mass) * (math.sqrt(n) - 1.0)

    def _value(self, x: Array, xp: Any) -> Array:
        return xp.sum(xp.where(x < 0, xp.inf, -2.0 * xp.sqrt(xp.abs(x))), axis=-1)

    def _grad(self, x: Array, xp: Any) -> Array:
        return -safe_reciprocal(xp.sqrt(xp.where(x < 0, xp.nan, x)), xp)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return tsallis_simplex(theta, self.mass, xp=xp)

    def _step(self, x: Array, g: Array, eta: Any, xp: Any) -> Array:
        return tsallis_step(x, g, eta, self.mass, xp=xp)

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.tsallis(x, y, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return simplex_violation(x, self.mass, xp)

    def _pairs(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.tsallis_terms(x, y, xp=xp)


class LogBarrier(MirrorMap):
    """Log-barrier ``psi = -sum log(x)`` on the simplex ``{x > 0, sum x = mass}``.

    Parameters
    ----------
    mass : float
        Sum of the entries.

    Notes
    -----
    Follow-the-regularised-leader weights ``1 / (eta (L_i - y))`` of a cumulative loss are ``grad_conj(-eta * L)``. The
    range is infinite: compare with points at least ``gamma`` inside, where it is ``n log(1 / gamma)``. Cost O(n) times
    at most ten Newton steps (`log_barrier_simplex`).

    References
    ----------
    D. J. Foster, Z. Li, T. Lykouris, K. Sridharan, E. Tardos, "Learning in Games: Robustness of Fast
    Convergence", NeurIPS 2016.

    Examples
    --------
    >>> from optlib.geometry import LogBarrier
    >>> LogBarrier().grad_conj([0.0, -1.0, -4.0]).round(3)
    array([0.5  , 0.333, 0.167])
    """

    order = 1.0
    _interval = (0.0, math.inf)

    def __init__(self, mass: float = 1.0) -> None:
        self.mass = check.scalar("mass", mass, low=0.0, low_open=True)

    def _sigma(self, n: int) -> float:
        return self.mass**-2.0

    def _domain(self, n: int) -> Domain | None:
        return Simplex(n, self.mass)

    def _range(self, n: int) -> float:
        return math.inf if n > 1 else 0.0

    def _value(self, x: Array, xp: Any) -> Array:
        positive = x > 0
        barrier = xp.where(positive, -xp.log(xp.where(positive, x, xp.ones_like(x))), xp.inf)
        return xp.sum(xp.where(xp.isnan(x), xp.nan, barrier), axis=-1)

    def _grad(self, x: Array, xp: Any) -> Array:
        return -safe_reciprocal(xp.where(x < 0, xp.nan, x), xp)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return log_barrier_simplex(theta, self.mass, xp=xp)

    def _step(self, x: Array, g: Array, eta: Any, xp: Any) -> Array:
        return log_barrier_step(x, g, eta, self.mass, xp=xp)

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.itakura_saito(x, y, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return simplex_violation(x, self.mass, xp)

    def _pairs(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.itakura_saito_terms(x, y, xp=xp)


def safe_reciprocal(x: Array, xp: Any) -> Array:
    """``1 / x`` without warnings: inf at 0."""
    zero = x == 0
    return xp.where(zero, xp.inf, 1.0 / xp.where(zero, xp.ones_like(x), x))
