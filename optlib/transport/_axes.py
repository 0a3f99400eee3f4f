"""Products along one axis of a grid in the logarithmic domain: what all passes over separable costs are made of."""

from collections.abc import Iterator
from typing import Any

from optlib.backend import Array, device_of, kernel
from optlib.backend.special import logsumexp
from optlib.transport.cost import block_rows


def _blocks(matrix: Array, z: Array) -> Iterator[Array]:
    """Blocks of ``matrix_ij + z_jk`` of bounded size: (m, n, lines)."""
    step = block_rows(matrix.shape[0] * matrix.shape[1], device_of(z))
    for k in range(0, z.shape[1], step):
        yield matrix[:, :, None] + z[None, :, k : min(k + step, z.shape[1])]


@kernel(numba="optlib.transport._axes_numba:log_sum", match="sum")
def log_sum(matrix: Array, z: Array, *, xp: Any) -> Array:
    """``log sum_j exp(matrix_ij + z_jk)`` for ``matrix`` (m, n) and ``z`` (n, lines), shape (m, lines)."""
    return xp.concat([logsumexp(block, axis=1, xp=xp) for block in _blocks(matrix, z)], axis=1)


@kernel(numba="optlib.transport._axes_numba:largest", match="exact")
def largest(matrix: Array, z: Array, *, xp: Any) -> Array:
    """``max_j matrix_ij + z_jk`` for ``matrix`` (m, n) and ``z`` (n, lines), shape (m, lines)."""
    return xp.concat([xp.max(block, axis=1) for block in _blocks(matrix, z)], axis=1)
