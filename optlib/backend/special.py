"""Special functions that the array API standard lacks, portable and stable."""

from typing import Any

from optlib.backend.namespace import Array


def logsumexp(
    x: Array, *, axis: int | tuple[int, ...] = -1, keepdims: bool = False, b: Array | None = None, xp: Any
) -> Array:
    """``log(sum(b * exp(x)))`` without overflow; -inf for an empty or all -inf slice.

    Parameters
    ----------
    x : array
    axis : int or tuple of int
    keepdims : bool
    b : array, optional
        Nonnegative weights that broadcast against ``x``; entries with weight 0 count as -inf whatever ``x`` is.
    xp : module
    """
    if b is not None:
        x = xp.where(b > 0, x, xp.asarray(-xp.inf, dtype=x.dtype, device=x.device))
    top = xp.max(x, axis=axis, keepdims=True)
    shift = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    e = xp.exp(x - shift)
    total = xp.sum(e if b is None else b * e, axis=axis, keepdims=True)
    empty = total == 0
    minus_inf = xp.asarray(-xp.inf, dtype=x.dtype, device=x.device)
    out = xp.where(empty, minus_inf, xp.log(xp.where(empty, xp.ones_like(total), total)) + shift)
    return out if keepdims else xp.squeeze(out, axis=axis)


def softmax(x: Array, *, axis: int = -1, xp: Any) -> Array:
    """``exp(x) / sum(exp(x))`` without overflow."""
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def xlogy(x: Array, y: Array, *, xp: Any) -> Array:
    """``x log(y)`` with value 0 at ``x = 0`` (also for ``y = 0``)."""
    zero = x == 0
    return xp.where(zero, xp.zeros_like(x * y), x * xp.log(xp.where(zero, xp.ones_like(y), y)))


def kl_div(x: Array, y: Array, *, xp: Any) -> Array:
    """``x log(x/y) - x + y`` elementwise, nonnegative, without cancellation for ``x`` close to ``y``.

    It is ``y`` at ``x = 0`` and +inf where ``y = 0 < x`` or where an argument is negative.
    """
    both = (x > 0) & (y > 0)
    u = xp.where(both, x, xp.ones_like(x * y))
    v = xp.where(both, y, xp.ones_like(x * y))
    d = (u - v) / v  # x = y (1 + d)
    small = xp.abs(d) < 0.5
    s = xp.where(small, d, xp.zeros_like(d))
    # y * ((1 + d) log1p(d) - d), by its alternating series where even this cancels
    near = v * xp.where(
        xp.abs(s) < 1e-2,
        s * s * (0.5 + s * (-1.0 / 6 + s * (1.0 / 12 + s * (-1.0 / 20 + s * (1.0 / 30 - s / 42))))),
        (1.0 + s) * xp.log1p(s) - s,
    )
    # log x - log y: the quotient may overflow
    far = u * (xp.log(u) - xp.log(v)) - u + v
    value = xp.where(small, near, far)
    value = xp.where((x == 0) & (y >= 0), y + xp.zeros_like(value), value)
    bad = (x < 0) | (y < 0) | ((x > 0) & (y == 0))
    value = xp.where(bad, xp.asarray(xp.inf, dtype=value.dtype, device=value.device), value)
    return xp.where(xp.isnan(x) | xp.isnan(y), x + y, value)


def expit(x: Array, *, xp: Any) -> Array:
    """Logistic sigmoid ``1 / (1 + exp(-x))``, accurate in both tails."""
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, xp.ones_like(e), e) / (1.0 + e)


def logit(p: Array, *, xp: Any) -> Array:
    """Inverse of `expit`: ``log(p) - log1p(-p)``; -inf at 0, inf at 1."""
    return xp.log(p) - xp.log1p(-p)
