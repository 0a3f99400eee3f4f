"""Entropic transport to given histograms on a grid, for separable costs: the conjugate of the loss, axis by axis.

The loss is ``W(p, q) = min <C, P> - eps H(P)`` over plans with row sums ``p`` and column sums ``q``, in the entropy
convention ``H(P) = -sum P log P``. For a potential ``g`` of the rows, let ``L_j = log sum_i exp((g_i - C_ij) / eps)``
and ``P_ij = q_j exp((g_i - C_ij) / eps - L_j)``. Then

    H*(g; q) = max_p <g, p> - W(p, q) = eps <q, L - log q>   has the gradient   p~ = P 1.

A cost that is a sum over the axes makes ``L`` a succession of one-dimensional soft maxima, exact in the log domain.
"""

from typing import Any, NamedTuple

from optlib.backend import Array
from optlib.backend.special import xlogy
from optlib.transport._axes import log_sum
from optlib.transport.passes import log_weights


class Histograms(NamedTuple):
    """Histograms ``q`` on a grid, their logarithms, and the costs of the axes divided by ``eps``."""

    q: Array  # (n, pixels)
    log_q: Array
    shape: tuple[int, ...]
    costs: tuple[Array, ...]
    eps: float


def soft_max(u: Array, data: Histograms, xp: Any, *, back: bool = False) -> Array:
    """``log sum_i exp(u_i - C_ij / eps)`` for each row of ``u``; the sum is over j for ``back``."""
    for axis, cost in enumerate(data.costs):
        lines = xp.moveaxis(xp.reshape(u, (u.shape[0], *data.shape)), axis + 1, 0)
        out = log_sum(-cost if back else -cost.T, xp.reshape(lines, (lines.shape[0], -1)), xp=xp)
        u = xp.reshape(xp.moveaxis(xp.reshape(out, lines.shape), 0, axis + 1), (u.shape[0], -1))
    return u


class Conjugate(NamedTuple):
    """``H*`` of each histogram, its gradient, and ``log q - L``: the logarithm of the column scaling."""

    value: Array  # (n,)
    p: Array  # (n, pixels)
    columns: Array


def conjugate(g: Array, data: Histograms, xp: Any) -> Conjugate:
    """Evaluate ``H*(g; q)``: two passes."""
    soft = soft_max(g / data.eps, data, xp)
    columns = data.log_q - soft
    value = -data.eps * xp.sum(xp.where(data.q > 0, data.q * columns, xp.zeros_like(soft)), axis=1)
    return Conjugate(value, xp.exp(g / data.eps + soft_max(columns, data, xp, back=True)), columns)


def gap(g: Array, p: Array, found: Conjugate, data: Histograms, xp: Any) -> Array:
    """Bound on ``W(p, q) - <g, p> + H*(g; q)`` of each histogram, by the plan rounded to the marginals.

    The rounded plan is ``R = Q + E`` with ``Q = diag(y) P``, ``y = min(1, p / p~)``, and ``E = r c' / h`` of the
    deficits; the bound is that of `optlib.transport.certificates`, where the marginals change places.
    """
    eps, zero = data.eps, xp.zeros_like(p)
    kept = xp.minimum(p, found.p)
    r = p - kept
    share = xp.where(found.p > kept, (found.p - kept) / xp.where(found.p > 0, found.p, xp.ones_like(p)), zero)
    lost = g / data.eps + log_weights(share, xp=xp)
    c = xp.exp(found.columns + soft_max(lost, data, xp))
    c = xp.where(data.q > 0, c, zero)
    h = xp.maximum(xp.sum(r, axis=1), xp.sum(c, axis=1))
    some = xp.where(h > 0, h, xp.ones_like(h))
    corner = xp.zeros_like(h)
    for axis, cost in enumerate(data.costs):
        rows, cols = (_marginal(u, axis, data.shape, xp) for u in (r, c))
        corner = corner + eps * xp.sum((rows @ cost) * cols, axis=1) / some
    y = xp.where(kept < found.p, kept / xp.where(found.p > 0, found.p, xp.ones_like(p)), xp.ones_like(p))
    columns = xp.where(c > 0, found.columns, zero)
    stretch = xp.sum(r * g, axis=1) + eps * xp.sum(c * columns, axis=1)
    bracket = (
        xp.sum(xlogy(kept, y, xp=xp), axis=1)
        - xlogy(1.0 - h, 1.0 - h, xp=xp)
        + xp.sum(xlogy(c, c, xp=xp), axis=1)
        + xp.sum(xlogy(r, r, xp=xp), axis=1)
        - 2.0 * xlogy(h, h, xp=xp)
    )
    bound = corner - stretch + eps * bracket
    return xp.where(bound > 0, bound, xp.zeros_like(bound))


def _marginal(u: Array, axis: int, shape: tuple[int, ...], xp: Any) -> Array:
    grid = xp.reshape(u, (u.shape[0], *shape))
    others = tuple(k + 1 for k in range(len(shape)) if k != axis)
    return xp.sum(grid, axis=others) if others else grid
