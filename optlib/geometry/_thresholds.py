"""One-dimensional equations behind the projections: a threshold, a water level, a secular equation.

All work on the last axis and are batched over the axes before it; amounts (``mass``, ``total``) are numbers or arrays
of the leading shape. A NaN makes its row NaN.
"""

from typing import Any

from optlib.backend import Array, default_float, kernel, linalg


def column(amount: Any) -> Any:
    """Make an amount per row broadcast against the rows."""
    return amount if isinstance(amount, float) else amount[..., None]


@kernel(numba="optlib.geometry._projections_numba:simplex", match="sum")
def simplex(y: Array, mass: Any, *, xp: Any) -> Array:
    """Euclidean projection onto ``{x >= 0, sum x = mass}``: ``x = max(y - tau, 0)``.

    With ``u`` the entries in descending order, ``tau = max_k (u_1 + ... + u_k - mass) / k``. The entries are taken
    relative to the largest one, and three Newton steps remove the rounding of the long sums.
    """
    mass = column(mass)
    z = y - xp.max(y, axis=-1, keepdims=True)
    wide = default_float(xp, y.device)
    sums = xp.cumulative_sum(xp.sort(xp.maximum(z, -mass), axis=-1, descending=True), axis=-1, dtype=wide)
    k = xp.arange(1, y.shape[-1] + 1, dtype=wide, device=y.device)
    z = z - xp.astype(xp.max((sums - mass) / k, axis=-1, keepdims=True), y.dtype)
    for _ in range(3):
        excess = xp.sum(xp.where(z <= 0.0, xp.zeros_like(z), z), axis=-1, keepdims=True) - mass
        active = xp.sum(xp.astype(z > 0.0, y.dtype), axis=-1, keepdims=True)
        z = z - excess / xp.maximum(active, xp.ones_like(active))
    return xp.where(z <= 0.0, xp.zeros_like(z), z)


@kernel(numba="optlib.geometry._projections_numba:l1_ball", match="sum")
def l1_ball(y: Array, radius: Any, *, xp: Any) -> Array:
    """Euclidean projection onto ``{sum |x| <= radius}``: `simplex` of the moduli where they exceed the radius."""
    size = xp.abs(y)
    inside = xp.sum(size, axis=-1, keepdims=True) <= column(radius)
    x = simplex.generic(size, radius, xp=xp)
    return xp.where(inside, y, xp.where(y < 0.0, 0.0 - x, x))


@kernel(numba="optlib.geometry._projections_numba:clipped_sum", match="sum")
def clipped_sum(p: Array, q: Array, low: Array, high: Array, total: Any, *, xp: Any) -> Array:
    """``x = clip(p + t q, low, high)`` with the water level ``t`` at which ``sum x = total``; ``q >= 0``.

    The sum grows with ``t`` and is linear between consecutive breakpoints (where an entry leaves ``low`` or reaches
    ``high``), so a search among the sorted breakpoints finds the piece, and one division the level in it. It is done a
    second time relative to the first level, because a breakpoint like ``high - p`` is rounded where ``p`` is large;
    the better of the two stands.
    All four arrays have the same shape; ``high`` may be infinite, ``sum low <= total <= sum high``.
    """
    total = column(total)
    first = _level_piece(p, q, low, high, total, xp)
    second = _level_piece(first, q, low, high, total, xp)
    first, second = (xp.minimum(xp.maximum(x, low), high) for x in (first, second))
    error, again = (xp.abs(xp.sum(x, axis=-1, keepdims=True) - total) for x in (first, second))
    return xp.where(again < error, second, first)


def _level_piece(p: Array, q: Array, low: Array, high: Array, total: Any, xp: Any) -> Array:
    """Return ``p + t q`` for the level ``t``."""
    moves = q > 0.0
    slope = xp.where(moves, q, xp.ones_like(q))
    start = xp.where(moves, (low - p) / slope, xp.inf)
    stop = xp.where(moves, (high - p) / slope, xp.inf)
    breaks = xp.sort(xp.concat([start, stop], axis=-1), axis=-1)
    count = breaks.shape[-1]

    def at(k: Array) -> tuple[Array, Array, Array]:
        t = xp.take_along_axis(breaks, k, axis=-1)
        value = p + q * xp.where(xp.isinf(t), xp.zeros_like(t), t)
        return t, value, xp.sum(xp.minimum(xp.maximum(value, low), high), axis=-1, keepdims=True)

    k = xp.zeros((*p.shape[:-1], 1), dtype=xp.int64, device=p.device)
    for power in reversed(range(count.bit_length())):
        step = xp.minimum(k + (1 << power), xp.full_like(k, count - 1))
        t, _, value = at(step)
        k = xp.where((t < xp.inf) & (value <= total), step, k)
    t, base, value = at(k)
    rate = xp.sum(xp.where((start <= t) & (stop > t), q, xp.zeros_like(q)), axis=-1, keepdims=True)
    return base + q * ((total - value) / xp.where(rate > 0.0, rate, xp.ones_like(rate)))


def weighted_simplex(y: Array, weights: Array, mass: Any, *, xp: Any) -> Array:
    """Euclidean projection onto ``{x >= 0, sum weights x = mass}``: ``x = max(y - tau weights, 0)``.

    Entries are taken relative to the largest ratio ``y / weights``: the threshold lies within the mass of it.
    """
    ratio = y / weights
    top = xp.max(ratio, axis=-1, keepdims=True)
    z = xp.where(ratio == top, xp.zeros_like(y), xp.minimum(y - top * weights, 0.0))
    zero = xp.zeros_like(y)
    return clipped_sum(weights * z, zero + weights * weights, zero, zero + xp.inf, mass, xp=xp) / weights


def secular(b: Array, e: Array, *, xp: Any) -> Array:
    """Factors ``f = 1 / (1 + mu e)`` with the smallest ``mu >= 0`` such that ``|b f| <= 1``; ``e`` in [0, 1].

    The reciprocal of the norm is a concave function of ``mu`` (a power mean of linear ones), so Newton's method for it
    never oversteps the root from below. It starts where the largest single entry attains 1, takes a fixed number of
    steps (21 was the most needed by 2e5 random problems with ``e`` over 16 decades), and the rest is scaled away.

    References
    ----------
    J. J. Moré and D. C. Sorensen, "Computing a trust region step", SIAM J. Sci. Stat. Comput. 4 (1983).
    """
    bends = e > 0.0
    slope = xp.where(bends, e, xp.ones_like(e))
    mu = xp.max(xp.where(bends, xp.maximum(xp.abs(b) - 1.0, 0.0) / slope, xp.zeros_like(e)), axis=-1, keepdims=True)
    for _ in range(25):
        f = 1.0 / (1.0 + mu * e)
        size = linalg.norm(b * f, axis=-1, keepdims=True, xp=xp)
        unit = b * f / xp.where(size > 0.0, size, xp.ones_like(size))
        rate = xp.sum(unit * unit * e * f, axis=-1, keepdims=True)
        mu = mu + xp.maximum(size - 1.0, 0.0) / xp.where(rate > 0.0, rate, xp.ones_like(rate))
    f = 1.0 / (1.0 + mu * e)
    return f / xp.maximum(linalg.norm(b * f, axis=-1, keepdims=True, xp=xp), 1.0)
