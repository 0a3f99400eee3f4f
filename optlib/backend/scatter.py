"""Scatter-add: sums over equal indices, on every backend."""

from importlib import import_module
from typing import Any

import numpy as np

from optlib.backend.namespace import Array, backend_name


def segment_sum(values: Array, index: Array, n: int, *, xp: Any) -> Array:
    """Sum the entries of ``values`` that share an index.

    Parameters
    ----------
    values : array, shape (k,) or (k, ...)
    index : integer array, shape (k,)
        Entries in ``0..n-1`` (not checked: validate once on the host).
    n : int
        Length of the result.
    xp : module

    Returns
    -------
    array, shape (n,) or (n, ...)
        Deterministic except on CuPy, where the order of the additions is free.
    """
    zeros = xp.zeros((n, *values.shape[1:]), dtype=values.dtype, device=values.device)
    return add_at(zeros, index, values, xp=xp)


def add_at(x: Array, index: Array, values: Array, *, xp: Any) -> Array:
    """Return ``x`` with ``values`` added at ``index`` along the first axis, duplicates accumulated.

    Parameters
    ----------
    x : array, shape (n, ...)
    index : integer array, shape (k,)
    values : array, shape (k, ...)
    xp : module
    """
    name = backend_name(xp)
    if name == "numpy":
        if x.ndim == 1 and x.dtype == np.float64:
            return x + np.bincount(index, weights=values, minlength=x.shape[0])
        out = x.copy()
        np.add.at(out, index, values)
        return out
    if name == "cupy":
        out = x.copy()
        import_module("cupyx").scatter_add(out, index, values)
        return out
    if name == "torch":
        return x.index_add(0, index, values)
    if name == "jax":
        return x.at[index].add(values)
    return _add_at_generic(x, index, values, xp)


def _add_at_generic(x: Array, index: Array, values: Array, xp: Any) -> Array:
    """One-hot matrix products over blocks of rows: O(n k) work, for libraries with no scatter of their own."""
    if 0 in values.shape:
        return x
    n, flat = x.shape[0], xp.reshape(values, (values.shape[0], -1))
    block = max(1, (1 << 20) // max(1, values.shape[0]))
    parts = [xp.zeros((0, flat.shape[1]), dtype=x.dtype, device=x.device)]
    for start in range(0, n, block):
        rows = xp.arange(start, min(n, start + block), dtype=index.dtype, device=x.device)
        parts.append(xp.astype(rows[:, None] == index[None, :], x.dtype) @ flat)
    return x + xp.reshape(xp.concat(parts, axis=0), x.shape)
