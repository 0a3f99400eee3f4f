"""The linear systems of `sinkhorn_newton`: ``S = diag(columns) - P' diag(rows)^-1 P``, a Laplacian on the columns."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib.backend import Array, is_numpy, linalg

TINY = 1e-300  # on the diagonal, for columns whose entries underflow
DIAGONAL_STEPS, FACTOR_STEPS = 100, 500  # most conjugate gradient steps with the diagonal, with a factor


def solve_sparse(
    entries: tuple[np.ndarray, ...], rows: np.ndarray, columns: np.ndarray, c: np.ndarray, rhs: np.ndarray,
    accuracy: float,
) -> np.ndarray:  # fmt: skip
    """Solve ``S y = rhs`` for a plan with column sums ``c`` that is given by its large entries, row by row.

    Conjugate gradients with the diagonal; if they are slow, on from there with an approximate Cholesky factor.
    """
    from optlib.transport import _laplacian_numba as graph

    y = np.zeros_like(c)
    inv_rows = np.divide(1.0, rows, out=np.zeros_like(rows), where=rows > 1e-290)
    columns = columns * (1.0 + 1e-14)
    diagonal = np.maximum(graph.schur_diagonal(*entries, inv_rows, columns), 1e-12 * c + TINY)
    system, scratch = (
        (*entries, inv_rows, columns, diagonal),
        (np.empty((4, y.size)), np.empty((2, rows.size + y.size))),
    )
    if not graph.conjugate_gradients(*system, *graph.NO_FACTOR, rhs, y, accuracy, DIAGONAL_STEPS, *scratch):
        tail, head, weight, row_sums, column_sums = graph.bipartite_edges(*entries, y.size)
        ground = np.concatenate([np.maximum(rows - row_sums, 0.0), np.maximum(columns - column_sums, 1e-15 * c)])
        factor = graph.approximate_cholesky(ground.size, tail, head, weight, ground, 12345)
        graph.conjugate_gradients(*system, *factor, rhs, y, accuracy, FACTOR_STEPS, *scratch)
    return y


def solve_dense(
    plan: Array, rows: Array, columns: Array, c: Array, r: Array, rhs: Array, accuracy: float, *, xp: Any
) -> Array:
    """Solve ``S y = rhs`` for a stored plan with marginals ``r`` and ``c``.

    By conjugate gradients on NumPy; elsewhere, and if they are slow, by a Cholesky factor.
    """
    tiny = 1e18 * float(xp.finfo(rows.dtype).smallest_normal)  # rows that weigh less count nothing
    roots = xp.sqrt(xp.where(rows > tiny, rows, xp.ones_like(rows)))
    p = plan / roots[:, None]
    if is_numpy(xp):
        diagonal = np.maximum(columns - np.sum(p * p, axis=0), 1e-12 * c + TINY)
        y, solved = _conjugate_gradients(lambda v: columns * v - (p @ v) @ p, diagonal, rhs, accuracy)
        if solved:
            return y
    # the diagonal as the sum of all couplings, to the other columns and to the ground: nothing cancels
    eye = xp.eye(rhs.shape[0], dtype=rhs.dtype, device=rhs.device)
    s = (eye - 1.0) * (p.T @ p)
    ground = xp.maximum(columns - p.T @ (r / roots), 500.0 * float(xp.finfo(rhs.dtype).eps) * c)
    scale = 1.0 / xp.sqrt(ground - xp.sum(s, axis=1))
    factor = linalg.cholesky(eye + s * scale[:, None] * scale[None, :], xp=xp, check=False)
    return scale * linalg.cho_solve(factor, (scale * rhs)[:, None], xp=xp)[:, 0]


def _conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray], diagonal: np.ndarray, rhs: np.ndarray, accuracy: float
) -> tuple[np.ndarray, bool]:
    """Solve a positive definite system, preconditioned by its diagonal; also whether the accuracy was reached."""
    y, r = np.zeros_like(rhs), rhs.copy()
    z = r / diagonal
    p, rz = z, float(r @ z)
    limit = accuracy * accuracy * rz
    for _ in range(DIAGONAL_STEPS):
        if rz <= limit:
            return y, True
        sp = apply(p)
        curvature = float(p @ sp)
        if not curvature > 0.0:
            return y, False
        step = rz / curvature
        y, r = y + step * p, r - step * sp
        z = r / diagonal
        p, rz = z + (float(r @ z) / rz) * p, float(r @ z)
    return y, rz <= limit
