"""Passes over a cost: everything that the entropic solvers and certificates do with n x m entries, one sweep each.

All follow the Kullback-Leibler convention ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)``, with weights that may be
zero and potentials in units of the cost. Nothing of size n x m is stored: dense costs are read where they are, point
clouds are evaluated block by block (in registers by the Numba kernels). The result has the dtype of the vectors, which
may be wider than that of the cost. To work on columns, pass ``cost.T`` and swap the vectors.
"""

import math
from collections.abc import Iterator
from typing import Any

from optlib.backend import Array, device_of, get_engine, is_numpy, kernel
from optlib.transport.cost import Cost, DenseCost, pairwise, row_blocks

_NUMBA = "optlib.transport._passes_numba"


def sweep(
    cost: Cost, g: Array, a: Array, b: Array, eps: float, *, f: Array | None = None, rho: float = math.inf
) -> tuple[Array, Array]:
    """Update the row potentials and return the column sums of the plan: one exponential per entry.

    Parameters
    ----------
    cost : Cost, shape (n, m)
    g : array, shape (m,)
    a, b : array, shapes (n,) and (m,)
    eps : float
    f : array, shape (n,), optional
        Row potentials close to the new ones: a hint that saves the Numba kernels the search of the row maxima.
    rho : float
        Strength of the penalty on the row marginal; infinity makes it a constraint.

    Returns
    -------
    f : array, shape (n,)
        ``-lam eps log sum_j b_j exp((g_j - C_ij) / eps)`` with ``lam = rho / (rho + eps)``: exact rows for ``g``.
    c : array, shape (m,)
        Column sums of the plan of ``(f, g)``.
    """
    f, c, _ = relaxed_sweep(cost, cost.xp.zeros_like(a) if f is None else f, g, a, b, eps, inv_rho=1.0 / rho)
    return f, c


def relaxed_sweep(
    cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, *, inv_rho: float = 0.0, omega: float = 1.0
) -> tuple[Array, Array, Array]:
    """`sweep` that moves the row potentials ``omega`` times as far, and also returns the row sums of the plan."""
    xp = cost.xp
    if _in_registers(cost):
        return _cloud_sweep(cost.x, cost.y, cost.scale, f, g, a, b, eps, inv_rho, omega, xp=xp)
    parts = [
        _dense_sweep(c, f[i0:i1], g, a[i0:i1], b, eps, inv_rho, omega, xp=xp) for i0, i1, c in _blocks(cost)
    ]  # fmt: skip
    return _concat([p[0] for p in parts], xp), _total([p[1] for p in parts]), _concat([p[2] for p in parts], xp)


def soft_transform(cost: Cost, g: Array, b: Array, eps: float) -> Array:
    """``-eps log sum_j b_j exp((g_j - C_ij) / eps)``, shape (n,), in two passes, the second with an exponential."""
    xp = cost.xp
    h = g + eps * _log(b, xp)
    f = c_transform(cost, h)
    return f - eps * xp.log(_apply(cost, f, h, xp.ones_like(h)[:, None], eps, moments=False)[:, 0])


def apply(cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, v: Array) -> Array:
    """Product of the plan with a vector (m,) or with the columns of a matrix (m, k)."""
    xp = cost.xp
    columns = v if v.ndim == 2 else v[:, None]
    product = a[:, None] * _apply(cost, f, g + eps * _log(b, xp), columns, eps, moments=False)
    return product if v.ndim == 2 else product[:, 0]


def moments(cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, v: Array) -> tuple[Array, Array]:
    """``P v`` and ``(P * C) v`` for a matrix ``v`` of shape (m, k), with one exponential per entry."""
    xp, k = cost.xp, v.shape[1]
    h = g + eps * _log(b, xp)
    # C = f + h - eps z with z the exponent, so that the sums of e z give those of e C
    finite = xp.where(b > 0, h, xp.zeros_like(h))
    both = _apply(cost, f, h, xp.concat([v, finite[:, None] * v], axis=1), eps, moments=True)
    product, shifted, exponents = both[:, :k], both[:, k : 2 * k], both[:, 2 * k : 3 * k]
    a = a[:, None]
    return a * product, a * (f[:, None] * product + shifted - eps * exponents)


def plan_rows(cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, i0: int, i1: int) -> Array:
    """Rows ``i0`` to ``i1`` (excluded) of the plan."""
    xp = cost.xp
    return a[i0:i1, None] * _gibbs(cost.rows(i0, i1), f[i0:i1], g + eps * _log(b, xp), eps, xp=xp)


def gibbs(cost: Cost, f: Array, g: Array, eps: float) -> Array:
    """The matrix ``exp((f_i + g_j - C_ij) / eps)``, stored."""
    xp = cost.xp
    return _concat([_gibbs(c, f[i0:i1], g, eps, xp=xp) for i0, i1, c in _blocks(cost)], xp)


def cost_apply(cost: Cost, v: Array) -> Array:
    """Product of the cost with a vector (m,) or with the columns of a matrix (m, k)."""
    xp = cost.xp
    if cost.kind == "sqeuclidean":
        w = v if v.ndim == 2 else v[:, None]
        x, y = xp.astype(cost.x, v.dtype, copy=False), xp.astype(cost.y, v.dtype, copy=False)
        near = xp.sum(x * x, axis=1)[:, None] * xp.sum(w, axis=0)[None, :]
        far = xp.sum(xp.sum(y * y, axis=1)[:, None] * w, axis=0)[None, :]
        product = cost.scale * (near + far - 2.0 * (x @ (y.T @ w)))
        return product if v.ndim == 2 else product[:, 0]
    return _concat([xp.astype(c, v.dtype, copy=False) @ v for _, _, c in _blocks(cost)], xp)


def c_transform(cost: Cost, g: Array) -> Array:
    """``min_j C_ij - g_j``, shape (n,), without exponentials."""
    xp = cost.xp
    if _in_registers(cost):
        return _cloud_min(cost.x, cost.y, cost.scale, g, xp=xp)
    return _concat([_dense_min(c, g, xp=xp) for _, _, c in _blocks(cost)], xp)


# -- how the entries of a cost are reached --


def _in_registers(cost: Cost) -> bool:
    """Whether the entries are squared distances in few dimensions, which the kernels evaluate in registers."""
    return cost.kind == "sqeuclidean" and cost.x.shape[1] <= 4


def _blocks(cost: Cost) -> Iterator[tuple[int, int, Array]]:
    """Blocks of rows, bounded in memory; dense costs in one piece where the kernels make no temporaries."""
    if cost.kind == "dense" and is_numpy(cost.xp) and get_engine() == "auto":
        yield 0, cost.shape[0], _stored(cost)
    else:
        for i0, i1 in row_blocks(cost):
            yield i0, i1, cost.rows(i0, i1)


def _stored(cost: DenseCost) -> Array:
    return cost._array  # in the precision in which it is stored: the kernels convert entry by entry


def _concat(parts: list[Array], xp: Any) -> Array:
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)


def _total(parts: list[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _log(b: Array, xp: Any) -> Array:
    """Logarithm of weights; hugely negative, but finite, for those that are zero."""
    bottom = xp.asarray(-1e200 if xp.finfo(b.dtype).bits == 64 else -1e30, dtype=b.dtype, device=device_of(b))
    return xp.where(b > 0, xp.log(xp.where(b > 0, b, xp.ones_like(b))), bottom)


def _apply(cost: Cost, f: Array, h: Array, v: Array, eps: float, *, moments: bool) -> Array:
    """Sums over j of ``e_ij v_jk`` and, behind them, of ``e_ij z_ij v_jk``; e = exp(z), z = (f + h - C) / eps."""
    xp = cost.xp
    if _in_registers(cost):
        return _cloud_apply(cost.x, cost.y, cost.scale, f, h, v, eps, moments, xp=xp)
    return _concat([_dense_apply(c, f[i0:i1], h, v, eps, moments, xp=xp) for i0, i1, c in _blocks(cost)], xp)


# -- kernels: the references are the definitions --


@kernel(numba=f"{_NUMBA}:dense_sweep", match="sum")
def _dense_sweep(
    cost: Array, f: Array, g: Array, a: Array, b: Array, eps: float, inv_rho: float, omega: float, *, xp: Any
) -> tuple[Array, Array, Array]:
    z = (g[None, :] - xp.astype(cost, g.dtype, copy=False)) / eps + _log(b, xp)[None, :]
    top = xp.max(z, axis=1)
    e = xp.exp(z - top[:, None])
    s = xp.sum(e, axis=1)
    lse = top + xp.log(s)
    lam = 1.0 / (1.0 + eps * inv_rho)
    exact = -lam * eps * lse
    new = exact if omega == 1.0 else f + omega * (exact - f)
    r = a * xp.exp((1.0 - lam) * lse if omega == 1.0 else new / eps + lse)
    return new, (r / s) @ e, r


@kernel(numba=f"{_NUMBA}:cloud_sweep", match="sum")
def _cloud_sweep(
    x: Array, y: Array, scale: float, f: Array, g: Array, a: Array, b: Array, eps: float, inv_rho: float,
    omega: float, *, xp: Any,
) -> tuple[Array, Array, Array]:  # fmt: skip
    parts = [
        _dense_sweep.generic(c, f[i0:i1], g, a[i0:i1], b, eps, inv_rho, omega, xp=xp)
        for i0, i1, c in _cloud_blocks(x, y, scale, g.dtype, xp)
    ]
    return _concat([p[0] for p in parts], xp), _total([p[1] for p in parts]), _concat([p[2] for p in parts], xp)


@kernel(numba=f"{_NUMBA}:dense_apply", match="sum")
def _dense_apply(cost: Array, f: Array, h: Array, v: Array, eps: float, moments: bool, *, xp: Any) -> Array:
    z = (f[:, None] + (h[None, :] - xp.astype(cost, h.dtype, copy=False))) / eps
    e = xp.exp(z)
    return xp.concat([e @ v, (e * z) @ v], axis=1) if moments else e @ v


@kernel(numba=f"{_NUMBA}:cloud_apply", match="sum")
def _cloud_apply(
    x: Array, y: Array, scale: float, f: Array, h: Array, v: Array, eps: float, moments: bool, *, xp: Any
) -> Array:
    blocks = _cloud_blocks(x, y, scale, h.dtype, xp)
    return _concat([_dense_apply.generic(c, f[i0:i1], h, v, eps, moments, xp=xp) for i0, i1, c in blocks], xp)


@kernel(numba=f"{_NUMBA}:dense_min", match="sum")
def _dense_min(cost: Array, g: Array, *, xp: Any) -> Array:
    return xp.min(xp.astype(cost, g.dtype, copy=False) - g[None, :], axis=1)


@kernel(numba=f"{_NUMBA}:cloud_min", match="sum")
def _cloud_min(x: Array, y: Array, scale: float, g: Array, *, xp: Any) -> Array:
    return _concat([_dense_min.generic(c, g, xp=xp) for _, _, c in _cloud_blocks(x, y, scale, g.dtype, xp)], xp)


@kernel(numba=f"{_NUMBA}:gibbs", match="sum")
def _gibbs(cost: Array, f: Array, g: Array, eps: float, *, xp: Any) -> Array:
    return xp.exp((f[:, None] + (g[None, :] - xp.astype(cost, g.dtype, copy=False))) / eps)


def _cloud_blocks(x: Array, y: Array, scale: float, dtype: Any, xp: Any) -> Iterator[tuple[int, int, Array]]:
    x, y = xp.astype(x, dtype, copy=False), xp.astype(y, dtype, copy=False)
    step = max(1, 2**25 // (8 * y.shape[0]))
    for i0 in range(0, x.shape[0], step):
        i1 = min(i0 + step, x.shape[0])
        yield i0, i1, pairwise(x[i0:i1, :], y, "sqeuclidean", scale, xp=xp)
