"""Entropies: of the simplex, of the orthant, of the box, and the hyperbolic entropy of signed vectors."""

import math
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, kernel, special
from optlib.geometry import _thresholds, divergences
from optlib.geometry.domains import Box, Domain, L1Ball, Simplex
from optlib.geometry.mirror.base import MirrorMap, safe_exp, safe_log


@kernel(numba="optlib.geometry._mirror_numba:softmax", match="sum")
def softmax(theta: Array, mass: float, *, xp: Any) -> Array:
    """Exponential weights ``mass * exp(theta) / sum(exp(theta))``.

    Parameters
    ----------
    theta : array, shape (..., n)
        Log-weights up to a constant.
    mass : float
        Sum of the weights.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        Nonnegative, of sum ``mass``.
    """
    weights = xp.exp(theta - xp.max(theta, axis=-1, keepdims=True))
    return weights * (mass / xp.sum(weights, axis=-1, keepdims=True))


@kernel(numba="optlib.geometry._mirror_numba:log_softmax", match="sum")
def log_softmax(theta: Array, *, xp: Any) -> Array:
    """Logarithms of exponential weights, ``theta - log(sum(exp(theta)))``.

    Parameters
    ----------
    theta : array, shape (..., n)
        Log-weights up to a constant.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        Log-weights whose exponentials sum to 1.
    """
    shifted = theta - xp.max(theta, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


@kernel(numba="optlib.geometry._mirror_numba:entropy_step", match="sum")
def entropy_step(x: Array, g: Array, eta: Any, mass: float, *, xp: Any) -> Array:
    """Multiplicative weights: ``x * exp(-eta g)``, scaled to the sum ``mass``.

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
        Nonnegative, of sum ``mass``.
    """
    return softmax.generic(safe_log(x, xp) - eta * g, mass, xp=xp)


class Entropy(MirrorMap):
    """Negative entropy ``psi = sum x log x`` on the simplex ``{x >= 0, sum x = mass}``.

    Its step multiplies weights: Hedge, exponentiated gradient, EXP3, Sinkhorn.

    Parameters
    ----------
    mass : float
        Sum of the entries.

    Notes
    -----
    ``grad_conj`` is a softmax, so cumulative losses ``L`` give the weights of Hedge as ``grad_conj(-eta * L)`` with no
    underflow, and `step_dual` keeps log-weights (plus a constant) with a changing rate. `step` works on the weights
    themselves: those that underflow to 0 stay 0. Cost O(n).

    Examples
    --------
    >>> from optlib.geometry import Entropy
    >>> hedge = Entropy()
    >>> hedge.step([0.5, 0.5], [0.0, 1.0], 0.7).round(3)
    array([0.668, 0.332])
    """

    order = 1.0
    _interval = (0.0, math.inf)

    def __init__(self, mass: float = 1.0) -> None:
        self.mass = check.scalar("mass", mass, low=0.0, low_open=True)

    def _sigma(self, n: int) -> float:
        return 1.0 / self.mass

    def _domain(self, n: int) -> Domain | None:
        return Simplex(n, self.mass)

    def _range(self, n: int) -> float:
        return self.mass * math.log(n)

    def _value(self, x: Array, xp: Any) -> Array:
        return xp.sum(xp.where(x < 0, xp.inf, special.xlogy(x, xp.abs(x), xp=xp)), axis=-1)

    def _grad(self, x: Array, xp: Any) -> Array:
        return 1.0 + safe_log(x, xp)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return softmax(theta, self.mass, xp=xp)

    def _conj(self, theta: Array, xp: Any) -> Array:
        return self.mass * (special.logsumexp(theta, xp=xp) - math.log(self.mass))

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.kl(x, y, xp=xp)

    def _project(self, y: Array, xp: Any) -> Array:
        unit = y / xp.max(y, axis=-1, keepdims=True)
        return unit * (self.mass / xp.sum(unit, axis=-1, keepdims=True))

    def _step(self, x: Array, g: Array, eta: Any, xp: Any) -> Array:
        return entropy_step(x, g, eta, self.mass, xp=xp)

    def _dual(self, theta: Array, xp: Any) -> Array:
        return (1.0 + math.log(self.mass)) + log_softmax(theta, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return simplex_violation(x, self.mass, xp)

    def _pairs(self, x: Array, y: Array, xp: Any) -> Array:
        return special.kl_div(x, y, xp=xp)


class CappedEntropy(Entropy):
    """Negative entropy on a simplex with bounds, ``{floor <= x <= cap, sum x = mass}``.

    Floors keep every weight alive (tracking, exploration); caps at ``mass / k`` describe the choice of ``k`` of ``n``.

    Parameters
    ----------
    mass : float
        Sum of the entries.
    floor, cap : float
        Bounds on each entry; ``n * floor <= mass <= n * cap``.

    Notes
    -----
    ``grad_conj`` is the projection of the softmax in the Kullback-Leibler divergence, ``clip(t exp(theta), floor,
    cap)`` with the ``t`` that gives the sum. Exponentials are taken relative to the ``k``-th largest entry,
    ``k = ceil(mass / cap)``, as larger ones are at the cap. Cost O(n log n).

    Examples
    --------
    >>> from optlib.geometry import CappedEntropy
    >>> CappedEntropy(floor=0.1).grad_conj([0.0, -1.0, -9.0]).round(3)
    array([0.658, 0.242, 0.1  ])
    """

    def __init__(self, mass: float = 1.0, *, floor: float = 0.0, cap: float = math.inf) -> None:
        super().__init__(mass)
        self.floor = check.scalar("floor", floor, low=0.0, high=self.mass)
        self.cap = check.scalar("cap", cap, low=self.floor, low_open=True, finite=False)

    def _range(self, n: int) -> float:
        return sum(_xlogx(v) for v in self._vertex(n)) - n * _xlogx(self.mass / n)

    def _domain(self, n: int) -> Domain | None:
        return None

    def _diameter(self, n: int) -> float:
        if self.floor == 0.0:
            return math.inf
        v = self._vertex(n)  # and its farthest permutation
        return math.sqrt(2.0 * sum(x * math.log(x / y) for x, y in zip(v, reversed(v), strict=True)))

    def _vertex(self, n: int) -> list[float]:
        """Entries of every vertex of the domain, descending: at the cap, one between, at the floor."""
        self._check_size(n)
        cap = min(self.cap, self.mass)
        spare = self.mass - n * self.floor
        full = min(int(spare / (cap - self.floor)), n - 1) if cap > self.floor else 0
        return [cap] * full + [self.floor + spare - full * (cap - self.floor)] + [self.floor] * (n - full - 1)

    def _check_size(self, n: int) -> None:
        if not n * self.floor <= self.mass <= n * self.cap:
            expected = f"n * floor <= mass <= n * cap for n = {n}, floor = {self.floor}, cap = {self.cap}"
            raise check.error("mass", self.mass, expected, "lower the floor or raise the cap")

    def _level(self, theta: Array, xp: Any) -> tuple[Array, Array]:
        """Return the primal point ``clip(t exp(z), floor, cap)`` and ``z``, which is ``theta`` up to a constant."""
        n = theta.shape[-1]
        self._check_size(n)
        room = (self.mass - n * self.floor) / (self.cap - self.floor)  # in caps
        k = min(max(math.ceil(room), 1), n)
        if k == 1:
            z = theta - xp.max(theta, axis=-1, keepdims=True)
        else:
            z = theta - xp.sort(theta, axis=-1)[..., n - k : n - k + 1]
            surely_capped = 1.0 + math.log(n * self.cap / (self.cap - self.floor) / max(room - k + 1, 1e-16))
            z = xp.minimum(z, xp.full_like(z, surely_capped))
        zero = xp.zeros_like(z)
        weights = xp.where(z < -0.9 * math.log(float(xp.finfo(z.dtype).max)), zero, xp.exp(z))
        return _thresholds.clipped_sum(zero, weights, zero + self.floor, zero + self.cap, self.mass, xp=xp), z

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return self._level(theta, xp)[0]

    def _dual(self, theta: Array, xp: Any) -> Array:
        x, z = self._level(theta, xp)
        raised = x > self.floor
        log_t = xp.max(xp.where(raised, safe_log(x, xp) - z, -xp.inf), axis=-1, keepdims=True)
        low, high = (xp.full_like(z, math.log(bound) if bound > 0 else -math.inf) for bound in (self.floor, self.cap))
        return 1.0 + xp.minimum(xp.maximum(z + log_t, low), high)

    _conj = MirrorMap._conj
    _project = MirrorMap._project
    _step = MirrorMap._step

    def _violation(self, x: Array, xp: Any) -> Array:
        bounds = xp.maximum(self.floor - xp.min(x, axis=-1), xp.max(x, axis=-1) - self.cap) / self.mass
        return xp.maximum(bounds, super()._violation(x, xp))


def simplex_violation(x: Array, mass: float, xp: Any) -> Array:
    """Violation of ``x >= 0, sum x = mass``, relative to the mass."""
    return xp.maximum(xp.max(-x, axis=-1), xp.abs(xp.sum(x, axis=-1) - mass)) / mass


class UnnormalizedEntropy(MirrorMap):
    """Entropy ``psi = sum x log x - x`` of nonnegative vectors.

    Parameters
    ----------
    mass : float
        Bound on the sum of the entries.
    upper : float
        Bound on each entry. Only one of the two bounds may be finite.

    Notes
    -----
    ``grad_conj`` is ``min(exp(theta), upper)``, scaled down to the sum ``mass`` if it is larger. Cost O(n).

    Examples
    --------
    >>> from optlib.geometry import UnnormalizedEntropy
    >>> UnnormalizedEntropy(upper=1.0).grad_conj([-1.0, 2.0]).round(3)
    array([0.368, 1.   ])
    """

    order = 1.0
    _interval = (0.0, math.inf)

    def __init__(self, *, mass: float = math.inf, upper: float = math.inf) -> None:
        self.mass = check.scalar("mass", mass, low=0.0, low_open=True, finite=False)
        self.upper = check.scalar("upper", upper, low=0.0, low_open=True, finite=False)
        if min(self.mass, self.upper) < math.inf and max(self.mass, self.upper) < math.inf:
            raise check.error("upper", self.upper, "at most one of `mass` and `upper`", "bound the sum or the entries")

    def _sigma(self, n: int) -> float:
        return 1.0 / min(self.mass, n * self.upper)

    def _domain(self, n: int) -> Domain | None:
        return Box(0.0, self.upper, n) if self.mass == math.inf > self.upper else None

    def _range(self, n: int) -> float:
        if min(self.mass, self.upper) == math.inf:
            return math.inf
        largest, count = (self.mass, 1) if self.mass < math.inf else (self.upper, n)
        least = min(1.0, self.mass / n, self.upper)
        return count * max(0.0, _xlogx(largest) - largest) - n * (_xlogx(least) - least)

    def _value(self, x: Array, xp: Any) -> Array:
        return xp.sum(xp.where(x < 0, xp.inf, special.xlogy(x, xp.abs(x), xp=xp) - x), axis=-1)

    def _grad(self, x: Array, xp: Any) -> Array:
        return safe_log(x, xp)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return safe_exp(self._dual(theta, xp), xp)

    def _dual(self, theta: Array, xp: Any) -> Array:
        if self.mass < math.inf:
            exceeds = special.logsumexp(theta, keepdims=True, xp=xp) > math.log(self.mass)
            return xp.where(exceeds, math.log(self.mass) + log_softmax(theta, xp=xp), theta)
        return theta if self.upper == math.inf else xp.minimum(theta, xp.full_like(theta, math.log(self.upper)))

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.kl(x, y, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        worst = xp.max(-x, axis=-1)
        if self.upper < math.inf:
            return xp.maximum(worst, xp.max(x, axis=-1) - self.upper) / self.upper
        if self.mass < math.inf:
            return xp.maximum(worst, xp.sum(x, axis=-1) - self.mass) / self.mass
        return worst

    def _pairs(self, x: Array, y: Array, xp: Any) -> Array:
        return special.kl_div(x, y, xp=xp)


def _xlogx(x: float) -> float:
    return x * math.log(x) if x > 0 else 0.0


class BitEntropy(MirrorMap):
    """Entropy ``psi = sum x log x + (1 - x) log(1 - x)`` of the unit box ``[0, 1]^n``.

    Notes
    -----
    ``grad_conj`` is the logistic function. Entries within eps of 1 lose their dual: keep dual points with `step_dual`.
    Cost O(n).

    Examples
    --------
    >>> from optlib.geometry import BitEntropy
    >>> BitEntropy().step([0.5, 0.5], [-1.0, 3.0], 1.0).round(3)
    array([0.731, 0.047])
    """

    _interval = (0.0, 1.0)

    def _sigma(self, n: int) -> float:
        return 4.0

    def _domain(self, n: int) -> Domain | None:
        return Box(0.0, 1.0, n)

    def _range(self, n: int) -> float:
        return n * math.log(2.0)

    def _value(self, x: Array, xp: Any) -> Array:
        both = special.xlogy(x, xp.abs(x), xp=xp) + special.xlogy(1.0 - x, xp.abs(1.0 - x), xp=xp)
        return xp.sum(xp.where((x < 0) | (x > 1), xp.inf, both), axis=-1)

    def _grad(self, x: Array, xp: Any) -> Array:
        return safe_log(x, xp) - safe_log(1.0 - x, xp)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return special.expit(theta, xp=xp)

    def _conj(self, theta: Array, xp: Any) -> Array:
        return xp.sum(xp.maximum(theta, xp.zeros_like(theta)) + xp.log1p(xp.exp(-xp.abs(theta))), axis=-1)

    def _dual(self, theta: Array, xp: Any) -> Array:
        return theta

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.bernoulli_kl(x, y, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return xp.max(xp.maximum(-x, x - 1.0), axis=-1)

    def _pairs(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.bernoulli_terms(x, y, xp=xp)


class Hypentropy(MirrorMap):
    """Hyperbolic entropy ``psi = sum x asinh(x / beta) - sqrt(x^2 + beta^2) + beta`` of signed vectors.

    Parameters
    ----------
    beta : float
        Positive. Small values act like the entropies of the positive and the negative parts, large ones like
        ``|x|^2 / (2 beta)``.
    radius : float
        Bound on ``|x|_1``.

    Notes
    -----
    ``grad_conj`` is ``beta sinh(theta)``; where its l1 norm exceeds the radius, the moduli of ``theta`` are lowered by
    one number, which solves a quadratic equation in its exponential once the entries that stay positive are known (by
    sorting, as in the projection on the simplex). Cost O(n log n) with a finite radius, else O(n).

    References
    ----------
    U. Ghai, E. Hazan, Y. Singer, "Exponentiated Gradient Meets Gradient Descent", ALT 2020.

    Examples
    --------
    >>> from optlib.geometry import Hypentropy
    >>> Hypentropy(0.1, radius=1.0).grad_conj([4.0, -4.5]).round(3)
    array([ 0.375, -0.625])
    """

    order = 1.0
    _symmetry = "signs"

    def __init__(self, beta: float = 1.0, *, radius: float = math.inf) -> None:
        self.beta = check.scalar("beta", beta, low=0.0, low_open=True)
        self.radius = check.scalar("radius", radius, low=0.0, low_open=True, finite=False)

    def _sigma(self, n: int) -> float:
        return 1.0 / (self.radius + self.beta * n)

    def _domain(self, n: int) -> Domain | None:
        return L1Ball(n, self.radius) if self.radius < math.inf else None

    def _range(self, n: int) -> float:
        r, beta = self.radius, self.beta
        return r * math.asinh(r / beta) - r * r / (math.hypot(r, beta) + beta) if r < math.inf else r

    def _diameter(self, n: int) -> float:
        return math.sqrt(4.0 * self.radius * math.asinh(self.radius / self.beta))  # between opposite vertices

    def _value(self, x: Array, xp: Any) -> Array:
        root = xp.hypot(x, xp.full_like(x, self.beta))
        return xp.sum(x * xp.asinh(x / self.beta) - x * (x / (root + self.beta)), axis=-1)

    def _grad(self, x: Array, xp: Any) -> Array:
        return xp.asinh(x / self.beta)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        theta = self._dual(theta, xp)
        top = math.log(float(xp.finfo(theta.dtype).max))
        huge = xp.abs(theta) > top
        moderate = self.beta * xp.sinh(xp.where(huge, xp.zeros_like(theta), theta))
        return xp.where(huge, xp.where(theta > 0, xp.full_like(theta, xp.inf), -xp.inf), moderate)

    def _dual(self, theta: Array, xp: Any) -> Array:
        if self.radius == math.inf:
            return theta
        # Find m with sum sinh(m - delta_i) = radius / beta over the entries with delta_i < m, where delta_i is the
        # distance of a modulus from the largest one; m is below the value for that one alone.
        ratio = self.radius / self.beta
        largest = xp.max(xp.abs(theta), axis=-1, keepdims=True)
        delta = xp.minimum(largest - xp.abs(theta), xp.full_like(theta, math.asinh(ratio)))
        ordered = xp.sort(delta, axis=-1)
        falling = xp.cumulative_sum(xp.exp(-ordered), axis=-1)
        rising = xp.cumulative_sum(xp.exp(ordered), axis=-1)
        margin = xp.asinh(ratio / (xp.sqrt(falling) * xp.sqrt(rising))) + 0.5 * xp.log(rising / falling)
        m = xp.min(xp.where(margin > ordered, margin, xp.inf), axis=-1, keepdims=True)
        lowered = xp.sign(theta) * xp.maximum(m - delta, xp.zeros_like(theta))
        return xp.where(m < largest, lowered, theta)

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.hypentropy(x, y, self.beta, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        total = xp.sum(xp.abs(x), axis=-1)
        return xp.where(xp.isnan(total), xp.nan, xp.maximum(total / self.radius - 1.0, xp.zeros_like(total)))

    def _pairs(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.hypentropy_terms(x, y, self.beta, xp=xp)
