"""The dynamic program of switching comparators in Numba."""

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}


def switching_rounds(block, table):
    """Variant of `optlib.online.comparators.switching_rounds`."""
    table = table.copy()
    _switching(np.ascontiguousarray(block), table)
    return table


@njit(**_OPTIONS)
def _switching(block, table):
    for t in range(block.shape[0]):
        for b in range(block.shape[1]):
            for m in range(table.shape[1] - 1, -1, -1):
                row = table[b, m]
                if m > 0:
                    best = np.min(table[b, m - 1])
                    for j in range(row.size):
                        row[j] = best if best < row[j] else row[j]
                for j in range(row.size):
                    row[j] += block[t, b, j]
