"""Products with compressed rows in Numba."""

# mypy: ignore-errors
# The types here are those of Numba, not of Python.

import numpy as np
from numba import njit

from optlib.backend.threads import read_only


def normal_product(data, indices, indptr, weights, x):
    """Variant of `optlib.linop.compressed.normal_product`: each row is read twice while it is in the cache."""
    out = np.zeros_like(x, order="C")
    _normal(*(read_only(np.ascontiguousarray(u)) for u in (data, indices, indptr, weights, x)), out)
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _normal(data, indices, indptr, weights, x, out):
    for i in range(weights.size):
        lo, hi = np.uint64(indptr[i]), np.uint64(indptr[i + 1])  # places without a sign need no test
        z = x.dtype.type(0.0)
        for q in range(lo, hi):
            z += data[q] * x[np.uint64(indices[q])]
        z *= weights[i]
        for q in range(lo, hi):
            out[np.uint64(indices[q])] += z * data[q]
