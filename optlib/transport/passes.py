"""Passes over a cost: everything that the entropic solvers and certificates do with n x m entries, one sweep each.

All follow the Kullback-Leibler convention ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)``, with weights that may be
zero and potentials in units of the cost. Nothing of size n x m is stored: dense costs are read where they are, point
clouds are evaluated block by block (in registers by the Numba kernels). The result has the dtype of the vectors, which
may be wider than that of the cost. To work on columns, pass ``cost.T`` and swap the vectors.

The kernels at the end take the entries of a cost as four arguments: ``cost`` (k, m) or None, and if None points ``x``
(k, d), ``y`` (m, d) and ``scale`` for ``C_ij = scale |x_i - y_j|^2``.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from optlib.backend import Array, device_of, kernel
from optlib.transport.cost import Cost, block_rows, pairwise, row_blocks

_NUMBA = "optlib.transport._passes_numba"


class Entries(NamedTuple):
    """Rows of a cost in the form that the kernels take."""

    cost: Array | None
    x: Array | None = None
    y: Array | None = None
    scale: float = 1.0


def sweep(
    cost: Cost, g: Array, a: Array, b: Array, eps: float, *, f: Array | None = None, rho: float = math.inf,
    bound: float = math.inf,
) -> tuple[Array, Array]:  # fmt: skip
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
    bound : float
        Largest ``|f_i|``: the strength of a penalty by the total variation.

    Returns
    -------
    f : array, shape (n,)
        ``-lam eps log sum_j b_j exp((g_j - C_ij) / eps)`` with ``lam = rho / (rho + eps)``: exact rows for ``g``.
    c : array, shape (m,)
        Column sums of the plan of ``(f, g)``.
    """
    f, c, _ = relaxed_sweep(cost, cost.xp.zeros_like(a) if f is None else f, g, a, b, eps, 1.0 / rho, 1.0, bound)
    return f, c


def relaxed_sweep(
    cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, inv_rho: float, omega: Any, bound: float = math.inf
) -> tuple[Array, Array, Array]:
    """`sweep` that moves the row potentials ``omega`` times as far, and also returns the row sums of the plan."""
    if cost.kind == "grid":
        return cost.relaxed_sweep(f, g, a, b, eps, inv_rho, omega)
    xp = cost.xp
    parts = [
        _sweep(*part, f[i0:i1], g, a[i0:i1], b, eps, inv_rho, omega, bound, xp=xp) for i0, i1, part in entries(cost)
    ]  # fmt: skip
    return _concat([p[0] for p in parts], xp), _sum([p[1] for p in parts]), _concat([p[2] for p in parts], xp)


def soft_transform(cost: Cost, g: Array, b: Array, eps: float) -> Array:
    """``-eps log sum_j b_j exp((g_j - C_ij) / eps)``, shape (n,), in two passes, the second with an exponential."""
    xp = cost.xp
    h = g + eps * log_weights(b, xp=xp)
    f = c_transform(cost, h)
    return f - eps * xp.log(_products(cost, f, h, xp.ones_like(h)[:, None], eps, moments=False)[:, 0])


def apply(cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, v: Array) -> Array:
    """Product of the plan with a vector (m,) or with the columns of a matrix (m, k)."""
    columns = v if v.ndim == 2 else v[:, None]
    h = g + eps * log_weights(b, xp=cost.xp)
    product = a[:, None] * _products(cost, f, h, columns, eps, moments=False)
    return product if v.ndim == 2 else product[:, 0]


def moments(cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, v: Array) -> tuple[Array, Array]:
    """``P v`` and ``(P * C) v`` for a matrix ``v`` of shape (m, k), with one exponential per entry."""
    xp, k = cost.xp, v.shape[1]
    h = g + eps * log_weights(b, xp=xp)
    # C = f + h - eps z with z the exponent, so that the sums of e z give those of e C
    finite = xp.where(b > 0, h, xp.zeros_like(h))
    both = _products(cost, f, h, xp.concat([v, finite[:, None] * v], axis=1), eps, moments=True)
    product, shifted, exponents = both[:, :k], both[:, k : 2 * k], both[:, 2 * k : 3 * k]
    a = a[:, None]
    return a * product, a * (f[:, None] * product + shifted - eps * exponents)


class Survey(NamedTuple):
    """Sums over j of a plan P and a cost C, each of shape (n,)."""

    mass: Array  # P
    removed: Array  # P x
    cost: Array  # P C
    removed_cost: Array  # P C x
    product: Array  # C q
    lowest: Array  # the minimum of C - h instead of a sum


def survey(
    cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, x: Array, q: Array, h: Array, *, stored: Any = None
) -> Survey:
    """All that a certificate needs of the rows, in one pass.

    Parameters
    ----------
    cost : Cost, shape (n, m)
    f, g, a, b : array
        The plan P.
    eps : float
    x, q, h : array, shape (m,)
        See `Survey`.
    stored : (array, array, array), optional
        Kernel ``exp((alpha_i + beta_j - C_ij) / eps)`` with its ``alpha`` and ``beta``, which saves the exponentials.
    """
    xp = cost.xp
    h_plan = g + eps * log_weights(b, xp=xp)
    if cost.kind == "grid":
        sums = cost.survey(f, h_plan, x, q, h, eps)
        return Survey(*(a * u for u in sums[:4]), *sums[4:])
    kernel, alpha, beta = stored or (None, f, h_plan)
    parts = []
    for i0, i1, part in entries(cost):
        block = kernel if kernel is None else kernel[i0:i1, :]
        parts.append(_survey(block, alpha[i0:i1], beta, *part, f[i0:i1], h_plan, x, q, h, eps, xp=xp))
    sums = _concat(parts, xp)
    return Survey(*(a * sums[:, k] for k in range(4)), sums[:, 4], sums[:, 5])


def plan_rows(cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, i0: int, i1: int) -> Array:
    """Rows ``i0`` to ``i1`` (excluded) of the plan."""
    xp = cost.xp
    return a[i0:i1, None] * _gibbs(cost.rows(i0, i1), f[i0:i1], g + eps * log_weights(b, xp=xp), eps, xp=xp)


def absorb(
    cost: Cost, f: Array, g: Array, a: Array, b: Array, eps: float, inv_rho: float
) -> tuple[Array, Array, Array, Array]:
    """Store a kernel: ``sweep`` that keeps the exponentials; ``f`` is a hint.

    Returns
    -------
    kernel : array, shape (n, m)
        ``K_ij = exp((alpha_i + g_j - C_ij) / eps)`` with ``K b = 1``. The Numba variant aligns its rows and pads them
        with zeros to a multiple of 64 bytes.
    alpha : array, shape (n,)
        The row potentials in the kernel: those of constrained rows.
    c, r : array, shapes (m,) and (n,)
        Column and row sums of the plan of ``(lam alpha, g)``.
    """
    xp = cost.xp
    parts = [_absorb(*part, f[i0:i1], g, a[i0:i1], b, eps, inv_rho, xp=xp) for i0, i1, part in entries(cost)]
    kernel, alpha, r = (_concat([p[k] for p in parts], xp) for k in (0, 1, 3))
    return kernel, alpha, _sum([p[2] for p in parts]), r


def cost_apply(cost: Cost, v: Array) -> Array:
    """Product of the cost with a vector (m,) or with the columns of a matrix (m, k)."""
    xp = cost.xp
    if cost.kind == "grid":
        return cost.product(v) if v.ndim == 1 else xp.stack([cost.product(v[:, k]) for k in range(v.shape[1])], axis=1)
    if cost.kind == "sqeuclidean":
        w = v if v.ndim == 2 else v[:, None]
        x, y = xp.astype(cost.x, v.dtype, copy=False), xp.astype(cost.y, v.dtype, copy=False)
        near = xp.sum(x * x, axis=1)[:, None] * xp.sum(w, axis=0)[None, :]
        far = xp.sum(xp.sum(y * y, axis=1)[:, None] * w, axis=0)[None, :]
        product = cost.scale * (near + far - 2.0 * (x @ (y.T @ w)))
        return product if v.ndim == 2 else product[:, 0]
    return _concat([xp.astype(cost.rows(*ij), v.dtype, copy=False) @ v for ij in row_blocks(cost)], xp)


def c_transform(cost: Cost, g: Array) -> Array:
    """``min_j C_ij - g_j``, shape (n,), without exponentials."""
    if cost.kind == "grid":
        return cost.smallest(g)
    return _concat([_min(*part, g, xp=cost.xp) for _, _, part in entries(cost)], cost.xp)


# -- how the entries of a cost reach the kernels --


def entries(cost: Cost) -> Iterator[tuple[int, int, Entries]]:
    """The cost as one piece where a kernel knows its formula, else as blocks of rows that are computed on the way."""
    if one_piece(cost):
        # a matrix as it is stored: the kernels convert its entries to the dtype of the vectors
        piece = Entries(cost._array) if cost.kind == "dense" else Entries(None, cost.x, cost.y, cost.scale)
        yield 0, cost.shape[0], piece
    else:
        for i0, i1 in row_blocks(cost):
            yield i0, i1, Entries(cost.rows(i0, i1))


def one_piece(cost: Cost) -> bool:
    """Whether the kernels know how to get at all entries: matrices, and squared distances in few dimensions."""
    return cost.kind == "dense" or (cost.kind == "sqeuclidean" and cost.x.shape[1] <= 3)


def log_weights(b: Array, *, xp: Any) -> Array:
    """Logarithm of weights; hugely negative, but finite, for those that are zero."""
    bottom = xp.asarray(-1e200 if xp.finfo(b.dtype).bits == 64 else -1e30, dtype=b.dtype, device=device_of(b))
    return xp.where(b > 0, xp.log(xp.where(b > 0, b, xp.ones_like(b))), bottom)


def _products(cost: Cost, f: Array, h: Array, v: Array, eps: float, *, moments: bool) -> Array:
    """Sums over j of ``e_ij v_jk`` and, behind them, of ``e_ij z_ij v_jk``; e = exp(z), z = (f + h - C) / eps."""
    if cost.kind == "grid":
        return cost.products(f, h, v, eps, moments)
    xp = cost.xp
    return _concat([_apply(*part, f[i0:i1], h, v, eps, moments, xp=xp) for i0, i1, part in entries(cost)], xp)


def _concat(parts: list[Array], xp: Any) -> Array:
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)


def _sum(parts: list[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _blocks(
    cost: Array | None, x: Array | None, y: Array | None, scale: float, like: Array, xp: Any
) -> Iterator[tuple[slice, Array]]:
    """Blocks of rows of bounded size in the dtype of ``like``."""
    n, m = cost.shape if cost is not None else (x.shape[0], y.shape[0])
    step = block_rows(m, device_of(like))
    for i0 in range(0, n, step):
        rows = slice(i0, min(i0 + step, n))
        if cost is not None:
            yield rows, xp.astype(cost[rows, :], like.dtype, copy=False)
        else:
            xs, ys = (xp.astype(u, like.dtype, copy=False) for u in (x[rows, :], y))
            yield rows, pairwise(xs, ys, "sqeuclidean", scale, xp=xp)


# -- kernels: the references are the definitions --


@kernel(numba=f"{_NUMBA}:sweep", match="sum")
def _sweep(
    cost: Array | None, x: Array | None, y: Array | None, scale: float, f: Array, g: Array, a: Array, b: Array,
    eps: float, inv_rho: float, omega: Any, bound: float = math.inf, *, xp: Any,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Row potentials moved ``omega`` times as far as is optimal, within a bound, and both marginals of their plan."""
    log_b, lam = log_weights(b, xp=xp), 1.0 / (1.0 + eps * inv_rho)
    potentials, columns, sums = [], [], []
    for rows, block in _blocks(cost, x, y, scale, g, xp):
        z = (g[None, :] - block) / eps + log_b[None, :]
        top = xp.max(z, axis=1)
        e = xp.exp(z - top[:, None])
        s = xp.sum(e, axis=1)
        lse = top + xp.log(s)
        new = (1.0 - omega) * f[rows] - (omega * lam * eps) * lse
        exponent = (1.0 - omega) * (f[rows] / eps) + (1.0 - omega * lam) * lse
        if bound < math.inf:
            bounded = xp.clip(new, -bound, bound)
            new, exponent = bounded, xp.where(bounded == new, exponent, bounded / eps + lse)
        r = a[rows] * xp.exp(exponent)
        potentials.append(new)
        columns.append((r / s) @ e)
        sums.append(r)
    return _concat(potentials, xp), _sum(columns), _concat(sums, xp)


@kernel(numba=f"{_NUMBA}:apply", match="sum")
def _apply(
    cost: Array | None, x: Array | None, y: Array | None, scale: float, f: Array, h: Array, v: Array, eps: float,
    moments: bool, *, xp: Any,
) -> Array:  # fmt: skip
    products = []
    for rows, block in _blocks(cost, x, y, scale, h, xp):
        z = (f[rows][:, None] + (h[None, :] - block)) / eps
        e = xp.exp(z)
        products.append(xp.concat([e @ v, (e * z) @ v], axis=1) if moments else e @ v)
    return _concat(products, xp)


@kernel(numba=f"{_NUMBA}:absorb", match="sum")
def _absorb(
    cost: Array | None, x: Array | None, y: Array | None, scale: float, f: Array, g: Array, a: Array, b: Array,
    eps: float, inv_rho: float, *, xp: Any,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    lam = 1.0 / (1.0 + eps * inv_rho)
    matrix, potentials, columns, sums = [], [], [], []
    for rows, block in _blocks(cost, x, y, scale, g, xp):
        z = (g[None, :] - block) / eps
        top = xp.max(z, axis=1)
        e = xp.exp(z - top[:, None])
        s = e @ b
        lse = top + xp.log(s)
        kernel, r = e / s[:, None], a[rows] * xp.exp((1.0 - lam) * lse)
        matrix.append(kernel)
        potentials.append(-eps * lse)
        columns.append(b * (r @ kernel))
        sums.append(r)
    return _concat(matrix, xp), _concat(potentials, xp), _sum(columns), _concat(sums, xp)


@kernel(numba=f"{_NUMBA}:survey", match="sum")
def _survey(
    stored: Array | None, alpha: Array, beta: Array, cost: Array | None, x: Array | None, y: Array | None, scale: float,
    f: Array, h_plan: Array, removed: Array, q: Array, h: Array, eps: float, *, xp: Any,
) -> Array:  # fmt: skip
    """The columns of a `Survey`, for the plan ``exp((f_i + h_plan_j - C_ij) / eps)``."""
    sums = []
    for rows, c in _blocks(cost, x, y, scale, f, xp):
        if stored is None:
            e = xp.exp((f[rows][:, None] + (h_plan[None, :] - c)) / eps)
        else:
            u, v = xp.exp((f[rows] - alpha[rows]) / eps), xp.exp((h_plan - beta) / eps)
            e = u[:, None] * xp.astype(stored[rows, :], f.dtype, copy=False) * v[None, :]
        ec = e * c
        least = xp.min(c - h[None, :], axis=1)
        sums.append(xp.stack([xp.sum(e, axis=1), e @ removed, xp.sum(ec, axis=1), ec @ removed, c @ q, least], axis=1))
    return _concat(sums, xp)


@kernel(numba=f"{_NUMBA}:smallest", match="sum")
def _min(cost: Array | None, x: Array | None, y: Array | None, scale: float, g: Array, *, xp: Any) -> Array:
    return _concat([xp.min(c - g[None, :], axis=1) for _, c in _blocks(cost, x, y, scale, g, xp)], xp)


@kernel(numba=f"{_NUMBA}:gibbs", match="sum")
def _gibbs(cost: Array, f: Array, g: Array, eps: float, *, xp: Any) -> Array:
    return xp.exp((f[:, None] + (g[None, :] - xp.astype(cost, g.dtype, copy=False))) / eps)
