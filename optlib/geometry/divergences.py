"""Bregman divergences in forms that do not cancel, are never NaN, and are infinite exactly where they must be.

Each function takes points along the last axis (matrices: the last two), broadcasts the axes before it, and returns one
number per point: ``B(x; y) = psi(x) - psi(y) - <grad psi(y), x - y>``. Points outside the domain of ``psi``, and ``y``
on its boundary where the gradient is infinite, give +inf.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from optlib.backend import Array, array_namespace, as_floating, special

__all__ = ["bernoulli_kl", "hypentropy", "itakura_saito", "kl", "mahalanobis", "p_norm", "squared_euclidean", "tsallis"]


def _public(function: Callable[..., Array]) -> Callable[..., Array]:
    """Accept lists and integers, and find the namespace, when ``xp`` is not given."""

    @wraps(function)
    def wrapper(x: Any, y: Any, *args: Any, xp: Any = None) -> Array:
        if xp is None:
            xp = array_namespace(x, y)
            x, y = as_floating(x, xp=xp), as_floating(y, xp=xp)
        return function(x, y, *args, xp=xp)

    return wrapper


def _infinite(x: Array, y: Array, xp: Any) -> Array:
    """+inf, or NaN where an argument is."""
    return xp.where(xp.isnan(x) | xp.isnan(y), xp.full_like(x, xp.nan), xp.inf)


# --- terms of the separable divergences, elementwise (the matrix maps sum them over pairs of eigenvalues) ---


def _excess_log1p(d: Array, xp: Any) -> Array:
    """Return ``d - log(1 + d)`` to full relative accuracy, for ``d > -1``.

    With ``t = d / (2 + d)`` it is ``2 t^2 / (1 - t) - 2 (atanh(t) - t)``, whose last part is a short series.
    """
    small = xp.abs(d) < 0.1
    s = xp.where(small, d, xp.zeros_like(d))
    t = s / (2.0 + s)
    q = t * t
    tail = t * q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q / 13)))))
    return xp.where(small, 2.0 * (q / (1.0 - t) - tail), d - xp.log1p(d))


def _excess_power(y: Array, change: Array, a: float, xp: Any) -> Array:
    """Return ``|x|^a - |y|^a - a sign(y) |y|^(a-1) (x - y)`` for ``x = y + change``, by its binomial series near ``y``.

    For ``1 <= a <= 2``.
    """
    near = xp.abs(change) < 0.1 * xp.abs(y)
    d = xp.where(near, change, 0.0) / xp.where(near, y, 1.0)
    coefficients = [0.5 * a * (a - 1.0)]
    for k in range(3, 16):
        coefficients.append(coefficients[-1] * (a - k + 1.0) / k)
    series = xp.zeros_like(d)
    for c in reversed(coefficients):
        series = series * d + c
    size = xp.abs(y)
    far = xp.abs(y + change) ** a - size**a - a * xp.sign(y) * size ** (a - 1.0) * change
    return xp.where(near, size**a * d * d * series, far)


def itakura_saito_terms(x: Array, y: Array, *, xp: Any) -> Array:
    """Terms of `itakura_saito`."""
    x, y = xp.broadcast_arrays(x, y)
    inside = (x > 0) & (y > 0)
    u, v = xp.where(inside, x, xp.ones_like(x)), xp.where(inside, y, xp.ones_like(y))
    log_ratio = xp.log(u) - xp.log(v)
    safe = log_ratio < 80.0  # beyond, the quotient may overflow
    d = (u - v) / xp.where(safe, v, u)
    near = xp.abs(d) < 0.5
    far = xp.where(safe, d, xp.inf) - log_ratio
    value = xp.where(near, _excess_log1p(xp.where(near, d, xp.zeros_like(d)), xp), far)
    return xp.where(inside, value, _infinite(x, y, xp))


def tsallis_terms(x: Array, y: Array, *, xp: Any) -> Array:
    """Terms of `tsallis`."""
    x, y = xp.broadcast_arrays(x, y)
    inside = (x >= 0) & (y > 0)
    u, v = xp.where(inside, x, xp.ones_like(x)), xp.where(inside, y, xp.ones_like(y))
    root = xp.sqrt(v)
    gap = (u - v) / (xp.sqrt(u) + root)
    outside = xp.where((x == 0) & (y == 0), xp.zeros_like(x), _infinite(x, y, xp))
    return xp.where(inside, gap * (gap / root), outside)


def bernoulli_terms(x: Array, y: Array, *, xp: Any) -> Array:
    """Terms of `bernoulli_kl`: near ``y`` from ``x - y``, which ``(1 - x) - (1 - y)`` would round."""
    x, y = xp.broadcast_arrays(x, y)
    near = xp.abs(x - y) < 0.1 * xp.minimum(y, 1.0 - y)
    v, change = xp.where(near, y, 0.5), xp.where(near, x - y, 0.0)
    d, e = change / v, -change / (1.0 - v)
    value = v * (d * d - (1.0 + d) * _excess_log1p(d, xp)) + (1.0 - v) * (e * e - (1.0 + e) * _excess_log1p(e, xp))
    return xp.where(near, value, special.kl_div(x, y, xp=xp) + special.kl_div(1.0 - x, 1.0 - y, xp=xp))


def hypentropy_terms(x: Array, y: Array, beta: float, *, xp: Any) -> Array:
    """Terms of `hypentropy`.

    With ``a = asinh(x / beta)``, ``b = asinh(y / beta)``, ``d = a - b`` a term is
    ``beta (cosh(a) (cosh(d) - 1) - sinh(a) (sinh(d) - d))``, where ``sinh(d)`` is formed from ``x - y``.
    """
    x, y = xp.broadcast_arrays(x, y)
    b = xp.full_like(x, beta)
    root_x, root_y = xp.hypot(x, b), xp.hypot(y, b)
    slope = (x + y) / (root_x + root_y)  # of sqrt(x^2 + beta^2) between the points
    far = x * (xp.asinh(x / beta) - xp.asinh(y / beta)) - (x - y) * slope
    share = root_y / (root_x + root_y)
    weight = xp.abs(x) * share + xp.abs(y) * (1.0 - share)
    same = (xp.sign(x) * xp.sign(y) > 0) & (weight > 0)
    sinh_d = xp.where(same, (x - y) * xp.abs(slope) / xp.where(same, weight, 1.0), 1.0)
    near = xp.abs(sinh_d) < 0.1
    d = xp.asinh(xp.where(near, sinh_d, xp.zeros_like(x)))
    q = d * d
    cosh_excess = q * (1 / 2 + q * (1 / 24 + q * (1 / 720 + q * (1 / 40320 + q / 3628800))))
    sinh_excess = d * q * (1 / 6 + q * (1 / 120 + q * (1 / 5040 + q * (1 / 362880 + q / 39916800))))
    return xp.where(near, root_x * cosh_excess - x * sinh_excess, far)


# --- divergences ---


@_public
def squared_euclidean(x: Array, y: Array, *, xp: Any = None) -> Array:
    """Half the squared distance, ``|x - y|^2 / 2``: the divergence of ``psi = |x|^2 / 2``.

    Parameters
    ----------
    x, y : array, shape (..., n)
        Points.
    xp : module, optional
        Namespace, to save its look-up.

    Returns
    -------
    array, shape (...)
        The divergence.
    """
    return 0.5 * xp.sum(xp.square(x - y), axis=-1)


@_public
def mahalanobis(x: Array, y: Array, a: Array, *, xp: Any = None) -> Array:
    """Half the squared distance in the metric of ``a``: the divergence of ``psi = x' a x / 2``.

    Parameters
    ----------
    x, y : array, shape (..., n)
        Points.
    a : array, shape (..., n, n)
        Symmetric positive definite matrix.
    xp : module, optional
        Namespace, to save its look-up.

    Returns
    -------
    array, shape (...)
        The divergence.
    """
    d = x - y
    return 0.5 * xp.sum(d * (a @ d[..., None])[..., 0], axis=-1)


@_public
def kl(x: Array, y: Array, *, xp: Any = None) -> Array:
    """Generalised Kullback-Leibler divergence ``sum x log(x / y) - x + y``, of ``psi = sum x log x - x``.

    Parameters
    ----------
    x, y : array, shape (..., n)
        Nonnegative vectors, of any sums.
    xp : module, optional
        Namespace, to save its look-up.

    Returns
    -------
    array, shape (...)
        The divergence; +inf where ``y = 0 < x``.

    Examples
    --------
    >>> from optlib.geometry.divergences import kl
    >>> kl([1.0, 0.0], [0.5, 0.5]), kl([0.5, 0.5], [1.0, 0.0])
    (np.float64(0.6931471805599453), np.float64(inf))
    """
    return xp.sum(special.kl_div(x, y, xp=xp), axis=-1)


@_public
def bernoulli_kl(x: Array, y: Array, *, xp: Any = None) -> Array:
    """Sum of the relative entropies of coins, of ``psi = sum x log x + (1 - x) log(1 - x)``.

    Parameters
    ----------
    x, y : array, shape (..., n)
        Entries in [0, 1].
    xp : module, optional
        Namespace, to save its look-up.

    Returns
    -------
    array, shape (...)
        The divergence.
    """
    return xp.sum(bernoulli_terms(x, y, xp=xp), axis=-1)


@_public
def itakura_saito(x: Array, y: Array, *, xp: Any = None) -> Array:
    """Itakura-Saito divergence ``sum x / y - 1 - log(x / y)``, of the log-barrier ``psi = -sum log x``.

    Parameters
    ----------
    x, y : array, shape (..., n)
        Positive vectors.
    xp : module, optional
        Namespace, to save its look-up.

    Returns
    -------
    array, shape (...)
        The divergence; +inf if an entry of either is 0.
    """
    return xp.sum(itakura_saito_terms(x, y, xp=xp), axis=-1)


@_public
def tsallis(x: Array, y: Array, *, xp: Any = None) -> Array:
    """Divergence ``sum (sqrt x - sqrt y)^2 / sqrt y`` of the Tsallis-1/2 entropy ``psi = -2 sum sqrt x``.

    Parameters
    ----------
    x, y : array, shape (..., n)
        Nonnegative vectors.
    xp : module, optional
        Namespace, to save its look-up.

    Returns
    -------
    array, shape (...)
        The divergence; +inf where ``y = 0 < x``.
    """
    return xp.sum(tsallis_terms(x, y, xp=xp), axis=-1)


@_public
def hypentropy(x: Array, y: Array, beta: float, *, xp: Any = None) -> Array:
    """Divergence of the hyperbolic entropy ``psi = sum x asinh(x / beta) - sqrt(x^2 + beta^2) + beta``.

    Parameters
    ----------
    x, y : array, shape (..., n)
        Points.
    beta : float
        Positive; small values act like the entropy of the positive and negative parts, large ones like ``|x|^2``.
    xp : module, optional
        Namespace, to save its look-up.

    Returns
    -------
    array, shape (...)
        The divergence.
    """
    return xp.sum(hypentropy_terms(x, y, beta, xp=xp), axis=-1)


@_public
def p_norm(x: Array, y: Array, p: float, *, xp: Any = None) -> Array:
    """Divergence of ``psi = |x|_p^2 / 2``.

    Parameters
    ----------
    x, y : array, shape (..., n)
        Points.
    p : float
        In (1, 2].
    xp : module, optional
        Namespace, to save its look-up.

    Returns
    -------
    array, shape (...)
        The divergence.

    Notes
    -----
    With ``F = sum |x|^p`` it is the divergence of ``F^(2/p) / 2`` between the two values of ``F``, plus
    ``F(y)^(2/p - 1) / p`` times the divergence of ``F``: a sum of nonnegative terms.
    """
    scale = xp.maximum(xp.max(xp.abs(x), axis=-1, keepdims=True), xp.max(xp.abs(y), axis=-1, keepdims=True))
    power = 2.0 ** xp.floor(xp.log2(xp.where(scale > 0, scale, 1.0)))  # divides without rounding
    x, y = xp.broadcast_arrays(x / power, y / power)
    total = xp.sum(xp.abs(y) ** p, axis=-1)
    excess = xp.sum(_excess_power(y, x - y, p, xp), axis=-1)
    change = p * xp.sum(xp.sign(y) * xp.abs(y) ** (p - 1.0) * (x - y), axis=-1) + excess  # of the sum of powers
    value = 0.5 * _excess_power(total, change, 2.0 / p, xp) + total ** (2.0 / p - 1.0) * excess / p
    size = power[..., 0]
    return value * size * size
