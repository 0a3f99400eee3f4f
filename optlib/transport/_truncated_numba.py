"""Kernels of which only the entries that count are stored: those of the plan above a share of its row or column sum."""

import numpy as np
from numba import njit

from optlib.backend._math_numba import log_
from optlib.transport._laplacian_numba import row_dot
from optlib.transport._newton_numba import keeping_sweep
from optlib.transport._passes_numba import _row_weight
from optlib.transport._tiles_numba import INNER, JIT

LEAST = 1e-290  # sum of a row whose entries keep their precision


def truncated_kernel(cost, x, y, scale, f, g, a, b, eps, inv_rho, kept, room, near):
    """The kernel as rows of (begin, end, index, value), its row potentials, and the marginals of the whole plan.

    None if it does not fit the room, if rows all but underflow, or if a Sinkhorn sweep would move a column potential by
    more than ``near`` times ``eps``: where columns are far too light, all of their entries seem to be small.
    """
    f, c, r, entries = keeping_sweep(cost, x, y, scale, f, g, a, b, b, eps, inv_rho, np.inf, kept, room)
    if entries is None or r.min() < LEAST or not np.all((c > b * np.exp(-near)) & (c < b * np.exp(near))):
        return None
    _divide(*entries, r, b)
    return entries, f * (1.0 + eps * inv_rho), c, r


@njit(**JIT)
def _divide(begin, end, index, value, r, b):
    """Make a plan the kernel whose products with ``b`` are 1."""
    for i in range(r.size):
        for q in range(begin[i], end[i]):
            value[q] = (value[q] / r[i]) / b[index[q]]


@njit(**INNER)
def _add(p, k, weight, out):
    for q in range(p.size):
        out[k[q]] += weight * p[q]


@njit(**INNER)
def truncated_rows(kernel, v, f, alpha, a, eps, lam, omega, new, r, out):
    """`stored_chunks` of a truncated kernel."""
    begin, end, index, value = kernel
    for j in range(out.size):
        out[j] = 0.0
    for i in range(a.size):
        p, k = value[begin[i] : end[i]], index[begin[i] : end[i]]
        s = row_dot(p, k, v)
        if lam is None:
            new[i], weight, r[i] = s, a[i] / s, a[i]
        else:
            new[i], weight = _row_weight(s, 0.0, f[i], alpha[i], a[i], eps, lam, omega, np.inf)
            r[i] = weight * s
        _add(p, k, weight, out)
    if lam is None:
        for i in range(a.size):
            new[i] = alpha[i] - eps * log_(new[i])
