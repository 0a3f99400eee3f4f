"""Proximal operators: ``prox(x) = argmin_z |z - x|^2 / 2 + reg h(z)``, for every row of an array at once.

Vectors lie along the last axis and matrices in the last two; all axes before are a batch. Arguments are treated as in
`optlib.geometry.projections`: any library, no input changed, NaN in a row (or, for the operators that act entry by
entry, in an entry) gives NaN there, and with ``xp=`` nothing is looked up or checked. The operator of an indicator
function is a projection: `optlib.geometry.project_box` for bounds, and so on.
"""

from numbers import Integral
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, device_of, kernel, linalg, scatter, to_numpy
from optlib.geometry import _input, _thresholds

__all__ = ["prox_elastic_net", "prox_group_l2", "prox_l1", "prox_nuclear", "prox_tv1d"]


def prox_l1(x: Any, reg: Any = 1.0, *, xp: Any = None) -> Array:
    """Soft threshold: the proximal operator of ``sum reg |z|``.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    reg : float or array, shape broadcasting to that of ``x``
        Nonnegative thresholds; an array gives every entry its own.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``sign(x) max(|x| - reg, 0)``.

    Examples
    --------
    >>> from optlib.geometry import prox_l1
    >>> prox_l1([3.0, -0.5, -2.0])
    array([ 2.,  0., -1.])
    """
    if xp is None:
        xp, x = _input.points(x, reg=reg)
        reg = _entrywise(reg, x, xp)
    return x - xp.minimum(xp.maximum(x, -reg), reg)


def _entrywise(reg: Any, x: Array, xp: Any) -> Array:
    return _input.broadcast("reg", reg, x, tuple(x.shape), nonnegative=True, xp=xp)


def prox_elastic_net(x: Any, reg: Any = 1.0, l2: float = 1.0, *, xp: Any = None) -> Array:
    """Proximal operator of the elastic net ``sum reg |z| + l2 |z|^2 / 2``.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    reg : float or array, shape broadcasting to that of ``x``
        Nonnegative weight of the l1 norm.
    l2 : float
        Nonnegative weight of the squared norm.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        The soft threshold divided by ``1 + l2``.

    Examples
    --------
    >>> from optlib.geometry import prox_elastic_net
    >>> prox_elastic_net([3.0, -0.5, -2.0])
    array([ 1. ,  0. , -0.5])
    """
    if xp is None:
        xp, x = _input.points(x, reg=reg)
        reg = _entrywise(reg, x, xp)
        l2 = check.scalar("l2", l2, low=0.0)
    return prox_l1(x, reg, xp=xp) / (1.0 + l2)


def prox_group_l2(x: Any, reg: Any = 1.0, groups: Any = 1, *, xp: Any = None) -> Array:
    """Proximal operator of the group lasso ``sum_g reg_g |z_g|``: each group is shortened by its weight, or becomes 0.

    Parameters
    ----------
    x : array, shape (..., n)
        Points.
    reg : float or array, shape (..., G)
        Nonnegative; an array has one weight per group.
    groups : int or integer array, shape (n,)
        The size of equal consecutive groups, or the group of each entry, numbered from 0. With ``xp=`` the array form
        is the pair of the array and G.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        ``x_g max(1 - reg_g / |x_g|, 0)`` in each group.

    Examples
    --------
    >>> from optlib.geometry import prox_group_l2
    >>> prox_group_l2([3.0, 4.0, 0.3, 0.4], groups=2)
    array([2.4, 3.2, 0. , 0. ])
    >>> prox_group_l2([3.0, 0.3, 0.4, 4.0], groups=[0, 1, 1, 0])
    array([2.4, 0. , 0. , 3.2])
    """
    if xp is None:
        xp, x = _input.points(x, reg=reg)
        groups, count = _groups(groups, x, xp)
        reg = _input.broadcast("reg", reg, x, (*x.shape[:-1], count), nonnegative=True, xp=xp)
    if isinstance(groups, int):
        blocks = xp.reshape(x, (*x.shape[:-1], x.shape[-1] // groups, groups))
        return xp.reshape(blocks * _shrink(linalg.norm(blocks, axis=-1, xp=xp), reg, xp)[..., None], x.shape)
    index, count = groups
    scale = xp.max(xp.abs(x), axis=-1, keepdims=True)
    unit = xp.moveaxis(x / xp.where(scale > 0.0, scale, xp.ones_like(scale)), -1, 0)
    norms = xp.moveaxis(xp.sqrt(scatter.segment_sum(unit * unit, index, count, xp=xp)), 0, -1) * scale
    return x * xp.take(_shrink(norms, reg, xp), index, axis=-1)


def _groups(groups: Any, x: Array, xp: Any) -> tuple[Any, int]:
    """Checked groups, in the form of a trusted call, and their number."""
    n = x.shape[-1]
    if isinstance(groups, Integral):
        size = check.scalar("groups", groups, low=1, integer=True)
        if n % size:
            raise check.error("groups", size, f"a divisor of the row length {n}", "give the group of each entry")
        return size, n // size
    try:
        host = to_numpy(groups)
    except ValueError as failure:
        raise check.error("groups", "a ragged sequence", f"a group size or {n} integers >= 0") from failure
    if host.shape != (n,) or host.dtype.kind not in "iu" or host.min() < 0:
        got = f"shape {host.shape}, dtype {host.dtype}" + (" with negative entries" if host.shape == (n,) else "")
        raise check.error("groups", got, f"a group size or {n} integers >= 0")
    count = int(host.max()) + 1
    return (xp.asarray(host.astype(np.int64), device=device_of(x)), count), count


def _shrink(norms: Array, reg: Any, xp: Any) -> Array:
    """Factors that shorten vectors of the given lengths by ``reg``; NaN stays."""
    return xp.where(norms <= reg, xp.zeros_like(norms), 1.0 - reg / xp.where(norms == 0.0, xp.ones_like(norms), norms))


def prox_nuclear(x: Any, reg: Any = 1.0, *, xp: Any = None) -> Array:
    """Singular value threshold: the proximal operator of ``reg`` times the nuclear norm.

    Parameters
    ----------
    x : array, shape (..., m, n)
        Matrices.
    reg : float or array, shape (...)
        Nonnegative.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., m, n)
        The soft threshold applied to the singular values.

    Notes
    -----
    Cost: a thin singular value decomposition.

    References
    ----------
    J.-F. Cai, E. J. Candès and Z. Shen, "A singular value thresholding algorithm for matrix completion", SIAM J. Optim.
    20 (2010).

    Examples
    --------
    >>> from optlib.geometry import prox_nuclear
    >>> prox_nuclear([[3.0, 0.0], [0.0, 0.5]])
    array([[2., 0.],
           [0., 0.]])
    """
    if xp is None:
        xp, x = _input.points(x, 2, reg=reg)
        reg = _input.amount("reg", reg, x, 2, xp=xp)
    u, values, vh = linalg.svd(x, xp=xp, check=False)
    return (u * xp.maximum(values - _thresholds.column(reg), 0.0)[..., None, :]) @ vh


def prox_tv1d(x: Any, reg: Any = 1.0, *, xp: Any = None) -> Array:
    """Total variation denoising: the proximal operator of ``reg sum |z_{i+1} - z_i|``, exact.

    Parameters
    ----------
    x : array, shape (..., n)
        Signals.
    reg : float or array, shape (...)
        Nonnegative.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n)
        Piecewise constant signals.

    Notes
    -----
    Cost: O(n) in the Numba kernel (taut string). Elsewhere O(n log n) a round of a divide and conquer that works on all
    rows at once; the number of rounds grows with the logarithm of the number of pieces, and each asks the device once
    whether it was the last.

    References
    ----------
    P. L. Davies and A. Kovac, "Local extremes, runs, strings and multiresolution", Ann. Statist. 29 (2001).

    Examples
    --------
    >>> from optlib.geometry import prox_tv1d
    >>> prox_tv1d([0.0, 1.0, 0.5, 6.0, 5.0, 5.5], 0.75)
    array([0.75, 0.75, 0.75, 5.25, 5.25, 5.25])
    """
    if xp is None:
        xp, x = _input.points(x, reg=reg)
        reg = _input.amount("reg", reg, x, xp=xp)
    return tv1d(x, reg, xp=xp)


@kernel(numba="optlib.geometry._prox_numba:tv1d", match="sum")
def tv1d(y: Array, reg: Any, *, xp: Any) -> Array:
    """Total variation by divide and conquer; all pieces of all rows at once.

    A piece of a row whose ends are known to lie above or below their neighbours is a problem of its own, pulled down or
    up by ``reg`` at these ends. Let ``level`` be the mean of the pulled data on a piece. The entries of the solution
    above the level are a minimiser of ``sum_{i in S} (level - y_i) + reg cuts(S)``: if that set is empty or everything
    the solution is constant, otherwise the piece falls apart at its borders. The set is found by dynamic programming,
    whose steps are of two kinds of functions closed under composition, ``m -> clip(m + u, -reg, reg)`` forwards and
    "set or copy" backwards: log2(n) doublings take them through whole rows.

    References
    ----------
    V. Kolmogorov, T. Pock and M. Rolinek, "Total variation on a tree", SIAM J. Imaging Sci. 9 (2016).
    """
    shape = y.shape
    if 0 in shape:
        return y
    y = xp.reshape(y, (-1, shape[-1]))
    y = xp.where(xp.all(xp.isfinite(y), axis=1, keepdims=True), y, xp.nan)
    reg = reg if isinstance(reg, float) else xp.reshape(reg, (-1, 1))
    zero = xp.zeros_like(y[:, :1])
    falls = xp.zeros_like(y[:, 1:])  # sign of x_i - x_{i+1} between pieces, 0 inside them
    while True:
        data = y + reg * (xp.concat([zero, falls], axis=1) - xp.concat([falls, zero], axis=1))
        begins = xp.concat([zero + 1.0, falls], axis=1) != 0.0
        ends = xp.concat([falls, zero + 1.0], axis=1) != 0.0
        level = _piecewise_mean(data, begins, xp)
        above = xp.astype(_above(level - data, reg, begins, ends, xp), y.dtype)
        new = (above[:, :-1] - above[:, 1:]) * (1.0 - xp.abs(falls))
        if not bool(xp.any(new != 0.0)):
            return xp.reshape(level, shape)
        falls = falls + new


def _piecewise_mean(data: Array, begins: Array, xp: Any) -> Array:
    """Means over the pieces, at every entry."""
    piece = xp.cumulative_sum(xp.astype(xp.reshape(begins, (-1,)), xp.int64)) - 1
    flat = xp.reshape(data, (-1,))
    total = scatter.segment_sum(flat, piece, flat.shape[0], xp=xp)
    count = scatter.segment_sum(xp.ones_like(flat), piece, flat.shape[0], xp=xp)
    return xp.reshape(xp.take(total / xp.maximum(count, 1.0), piece), data.shape)


def _above(u: Array, reg: Any, begins: Array, ends: Array, xp: Any) -> Array:
    """Minimiser of ``sum_{i in S} u_i + reg cuts(S)`` on every piece."""
    low, high = xp.zeros_like(u) - reg, xp.zeros_like(u) + reg
    start = xp.minimum(xp.maximum(u, low), high)
    shift, low, high = xp.where(begins, 0.0, u), xp.where(begins, start, low), xp.where(begins, start, high)
    for step in _powers(u.shape[1]):  # m -> clip(m + shift, low, high), composed with that of `step` entries before
        before = [_moved(f, step, fill, xp) for f, fill in ((shift, 0.0), (low, -xp.inf), (high, xp.inf))]
        start, stop = (xp.minimum(xp.maximum(f + shift, low), high) for f in before[1:])
        shift, low, high = shift + before[0], start, stop
    cost = u + xp.where(begins, 0.0, _moved(low, 1, 0.0, xp))  # of an entry being in S, against out, with those before
    value = cost < xp.where(ends, 0.0, xp.zeros_like(u) - reg)
    known = ends | value | (cost > reg)
    for step in _powers(u.shape[1]):  # copy the value of `step` entries behind where it is not known
        value = xp.where(known, value, _moved(value, -step, False, xp))
        known = known | _moved(known, -step, True, xp)
    return value


def _powers(n: int) -> list[int]:
    return [1 << k for k in range((n - 1).bit_length())]


def _moved(f: Array, step: int, fill: Any, xp: Any) -> Array:
    """Rows moved to the right by ``step`` (to the left if negative), filled up with a value."""
    pad = xp.full((f.shape[0], abs(step)), fill, dtype=f.dtype, device=f.device)
    return xp.concat([pad, f[:, :-step]] if step > 0 else [f[:, -step:], pad], axis=1)
