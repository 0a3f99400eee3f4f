"""Numba variant of what is asked of all entries of a cost."""

# mypy: ignore-errors
# The types here are those of Numba, not of Python.

import numpy as np
from numba import njit

from optlib.backend._math_numba import _to_bits
from optlib.backend.threads import read_only


def extrema(x):
    """Variant of `optlib.transport.cost.extrema`: both in one pass over the memory, in any order of it."""
    x = x.T if x.flags.f_contiguous else x
    places = np.array(_extrema(read_only(x).reshape(-1)))
    return (places ^ ((places >> 63) & 0x7FFFFFFFFFFFFFFF)).view(np.float64).astype(x.dtype)


@njit(cache=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
def _extrema(x):
    """Over the bits as integers in the same order, with NaN beyond infinity: extrema of floats do not vectorise."""
    low, high = np.int64(0x7FFFFFFFFFFFFFFF), np.int64(-0x7FFFFFFFFFFFFFFF)
    for j in range(x.size):
        bits = _to_bits(np.float64(x[j]))
        place = bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)
        low = place if place < low else low
        high = place if place > high else high
    return low, high
