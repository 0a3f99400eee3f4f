"""Exact transport on the line, for many pairs of measures at once, by sorting."""

from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, default_float
from optlib.transport._problem import MASS_RTOL


def wasserstein_1d(x: Any, y: Any, a: Any = None, b: Any = None, p: float = 1.0) -> Array:
    r"""Find the optimal cost ``min <|x_i - y_j|^p, P>`` of transport on the line.

    It is the p-th power of the Wasserstein distance ``W_p``; ``p=1`` is the distance itself.

    Parameters
    ----------
    x : array or nested sequence, shape (..., n)
        Positions of the sources; leading axes run over problems.
    y : array or nested sequence, shape (..., m)
        Positions of the targets; the leading axes of all arguments are broadcast.
    a, b : array or nested sequence, shapes (..., n) and (..., m), optional
        Weights >= 0 of the same total mass, problem by problem; None means uniform.
    p : float
        Exponent >= 1.

    Returns
    -------
    array, shape (...)
        Of the library, dtype and device of the input.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    See Also
    --------
    optlib.transport.emd : With ``PointCloud(x, y, cost="lp", p=p)``, also the plan and the potentials.

    Notes
    -----
    Mass moves from the lowest to the lowest: the cost is :math:`\int_0^1 |F^{-1}(t) - G^{-1}(t)|^p dt`, with the
    quantile functions of the two measures. They are constant between the values of the two cumulative sums, which are
    merged by one more sort: O((n + m) log(n + m)) per problem. Cumulative sums are formed in the widest precision of
    the device.

    References
    ----------
    G. Peyre, M. Cuturi, Computational optimal transport, 2019, section 2.6.

    Examples
    --------
    >>> from optlib.transport import wasserstein_1d
    >>> float(wasserstein_1d([0.0, 1.0, 3.0], [5.0, 6.0, 8.0]))
    5.0
    >>> wasserstein_1d([[0.0, 1.0], [0.0, 4.0]], [1.0, 2.0], a=[0.5, 0.5], p=2)
    array([1. , 2.5])
    """
    xp, device, dtype = check.common(x=x, y=y, a=a, b=b)
    p = check.scalar("p", p, low=1.0, fix="below 1 the cost is not convex: use emd with a PointCloud")
    x, y = (_rows(name, u, xp, dtype, device) for name, u in (("x", x), ("y", y)))
    n, m = x.shape[-1], y.shape[-1]
    fix = "give one weight >= 0 per point"
    given = [_rows(name, u, xp, dtype, device, k, fix) for name, u, k in (("a", a, n), ("b", b, m))]
    try:
        lead = np.broadcast_shapes(*(u.shape[:-1] for u in (x, y, *given) if u is not None))
    except ValueError as failure:
        got = ", ".join(str(tuple(u.shape)) for u in (x, y, *given) if u is not None)
        raise check.error("x, y, a, b", f"shapes {got}", "leading axes that can be broadcast") from failure
    (x, A), (y, B) = (
        _sorted(xp.broadcast_to(u, (*lead, u.shape[-1])), w, lead, xp, device)
        for u, w in zip((x, y), given, strict=True)
    )
    if n == m and all(w is None for w in given):
        gap = xp.abs(x - y)
        return xp.mean(gap if p == 1 else gap**p, axis=-1)
    A, B = _same_mass(A, B, *given, xp)
    levels = xp.concat([A, B], axis=-1)
    order = xp.argsort(levels, axis=-1)
    levels = xp.take_along_axis(levels, order, axis=-1)
    width = levels - xp.concat([xp.zeros((*lead, 1), dtype=levels.dtype, device=device), levels[..., :-1]], axis=-1)
    first = xp.astype(order < n, xp.int64)
    i = xp.clip(xp.cumulative_sum(first, axis=-1) - first, max=n - 1)  # levels of the sources passed so far
    j = xp.clip(xp.cumulative_sum(1 - first, axis=-1) - (1 - first), max=m - 1)
    gap = xp.abs(xp.take_along_axis(x, i, axis=-1) - xp.take_along_axis(y, j, axis=-1))
    return xp.astype(xp.sum(width * (gap if p == 1 else gap**p), axis=-1), dtype)


def _rows(name: str, u: Any, xp: Any, dtype: Any, device: Any, n: int | None = None, fix: str = "") -> Array | None:
    """Checked points, or (with their number) weights."""
    if u is None:
        return None
    u = check.array(name, u, xp=xp, dtype=dtype, device=device, nonnegative=n is not None, fix=fix, graph=True)
    if u.ndim == 0 or u.shape[-1] == 0 or n not in (None, u.shape[-1]):
        expected = "shape (..., n) with at least one point" if n is None else f"shape (..., {n})"
        raise check.error(name, f"shape {tuple(u.shape)}", expected, fix)
    return u


def _sorted(x: Array, w: Array | None, lead: tuple[int, ...], xp: Any, device: Any) -> tuple[Array, Array]:
    """Points in their order, and the cumulative weights, which end at 1 if there are none."""
    wide, n = default_float(xp, device), x.shape[-1]
    if w is None:
        levels = xp.arange(1, n + 1, dtype=wide, device=device) / n
        return xp.sort(x, axis=-1), xp.broadcast_to(levels, (*lead, n))
    order = xp.argsort(x, axis=-1, stable=False)
    w = xp.take_along_axis(xp.broadcast_to(xp.astype(w, wide), (*lead, n)), order, axis=-1)
    return xp.take_along_axis(x, order, axis=-1), xp.cumulative_sum(w, axis=-1)


def _same_mass(A: Array, B: Array, a: Array | None, b: Array | None, xp: Any) -> tuple[Array, Array]:
    """Cumulative weights with the same end."""
    mass, other = A[..., -1:], B[..., -1:]
    if 0 in mass.shape:
        return A, B
    for name, w, total in (("a", a, mass), ("b", b, other)):
        if w is not None and not bool(xp.all((total > 0) & xp.isfinite(total))):
            fix = "give at least one positive weight"
            raise check.error(name, "a total mass that is zero or infinite", "a positive finite sum", fix)
    if a is None:
        return A * other, B
    if b is not None:
        off = float(xp.max(xp.abs(mass - other) / xp.maximum(mass, other)))
        if off > MASS_RTOL[str(a.dtype).rpartition(".")[2]]:
            fix = "normalise them (a / a.sum(), b / b.sum())"
            raise check.error("a, b", f"masses that differ by {off:.3g} of their size", "equal masses", fix)
    return A, B * (mass / other)
