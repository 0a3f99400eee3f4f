"""Sweeps over compressed rows in Numba."""

# mypy: ignore-errors
# The types here are those of Numba, not of Python.

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


def sor_sweeps(data, indices, indptr, b, x, omega, count, limit):
    """Variant of `optlib.linop.sor.sor_sweeps`."""
    kind = b.dtype.type
    y = np.array(x)
    done = _sweeps(*map(np.ascontiguousarray, (data, indices, indptr, b)), y, kind(omega), count, kind(limit))
    return y, done


def ssor_solve(data, indices, indptr, r, omega):
    """Variant of `optlib.linop.sor.ssor_solve`."""
    z = np.array(r, order="C")
    _symmetric(*map(np.ascontiguousarray, (data, indices, indptr)), z, r.dtype.type(omega))
    return z


@njit(**_OPTIONS)
def _sweeps(data, indices, indptr, b, x, omega, count, limit):
    for done in range(count):
        for i in range(b.size):
            rest, diagonal = b[i], data.dtype.type(0.0)
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                rest -= data[k] * x[j]
                if j == i:
                    diagonal = data[k]
            x[i] += omega * rest / diagonal
        if limit >= 0.0:
            square = data.dtype.type(0.0)
            for i in range(b.size):
                rest = b[i]
                for k in range(indptr[i], indptr[i + 1]):
                    rest -= data[k] * x[indices[k]]
                square += rest * rest
            if square <= limit:
                return done + 1
    return count


@njit(**_OPTIONS)
def _symmetric(data, indices, indptr, z, omega):
    kind = data.dtype.type
    n, width = z.shape
    scale = omega * (kind(2.0) - omega)
    for c in range(width):
        for i in range(n):
            rest, diagonal = z[i, c], kind(0.0)
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                if j < i:
                    rest -= omega * data[k] * z[j, c]
                elif j == i:
                    diagonal = data[k]
            z[i, c] = rest / diagonal
        for i in range(n - 1, -1, -1):
            rest, diagonal = kind(0.0), kind(0.0)
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                if j > i:
                    rest -= omega * data[k] * z[j, c]
                elif j == i:
                    diagonal = data[k]
            z[i, c] = z[i, c] * scale + rest / diagonal
