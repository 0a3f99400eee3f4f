"""Products with compressed rows that read the matrix once."""

from typing import Any

from optlib.backend import Array, kernel, scatter


@kernel(numba="optlib.linop._compressed_numba:normal_product", match="sum")
def normal_product(data: Array, indices: Array, indptr: Array, weights: Array, x: Array, *, xp: Any) -> Array:
    """Return ``A' (weights * (A x))``.

    Parameters
    ----------
    data, indices, indptr : array
        Compressed rows of A: entries, columns, and where each row begins.
    weights : array, shape (m,)
    x : array, shape (n,)
    xp : module

    Returns
    -------
    array, shape (n,)
    """
    entries = xp.arange(data.shape[0], dtype=indptr.dtype, device=data.device)
    rows = xp.searchsorted(indptr, entries, side="right") - 1
    z = weights * scatter.segment_sum(data * xp.take(x, indices), rows, weights.shape[0], xp=xp)
    return scatter.segment_sum(data * xp.take(z, rows), indices, x.shape[0], xp=xp)
