"""Projections onto affine sets, and onto intersections of sets by Dykstra's algorithm."""

from collections.abc import Callable, Sequence
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, linalg

__all__ = ["AffineProjection", "project_intersection"]

RANK = 1e3  # units of rounding of the largest singular value below which a row depends on the others


class AffineProjection:
    """The projection onto ``{w : G w = h}``, prepared once.

    Parameters
    ----------
    G : array, shape (m, n)
        Rows may depend on each other.
    h : array, shape (m,), optional
        Right-hand side, in the range of G; by default 0.

    Notes
    -----
    ``w - G' (G G')^+ (G w - h)``. Cost: a singular value decomposition of G once, then two products with a matrix of
    at most m rows.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.geometry import AffineProjection
    >>> AffineProjection(np.ones((1, 3)), [1.0])(np.zeros(3)).round(4)
    array([0.3333, 0.3333, 0.3333])
    """

    def __init__(self, G: Any, h: Any = None) -> None:
        xp, device, dtype = check.common(G=G, h=h)
        self.G = check.array("G", G, xp=xp, ndim=2, dtype=dtype, device=device)
        m = self.G.shape[0]
        if m == 0 or self.G.shape[1] == 0:
            raise check.error("G", f"shape {tuple(self.G.shape)}", "at least one row and one column")
        zero = xp.zeros((m,), dtype=dtype, device=device)
        self.h = zero if h is None else check.array("h", h, xp=xp, shape=(m,), dtype=dtype, device=device)
        u, sizes, rows = linalg.svd(self.G, xp=xp)
        keep = sizes > RANK * float(xp.finfo(dtype).eps) * xp.max(sizes)
        inverse = xp.where(keep, 1.0 / xp.where(keep, sizes, xp.ones_like(sizes)), xp.zeros_like(sizes))
        self._rows = xp.where(keep[:, None], rows, xp.zeros_like(rows))  # orthonormal, or zero
        self._shift = inverse * (u.T @ self.h)

    def __call__(self, w: Array) -> Array:
        """Return the nearest point of the set.

        Parameters
        ----------
        w : array, shape (n,)
            A point.

        Returns
        -------
        array, shape (n,)
            Its projection.
        """
        return w - self._rows.T @ (self._rows @ w - self._shift)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "AffineProjection":
        return AffineProjection(move(self.G), move(self.h))


def dykstra_cycle(
    x: Array, corrections: Sequence[Array], projections: Sequence[Callable[[Array], Array]]
) -> tuple[Array, list[Array]]:
    """One round of Dykstra's algorithm: ``y = P_i(x + p_i)``, ``p_i <- x + p_i - y``, ``x <- y`` for each set.

    Parameters
    ----------
    x : array
        The point.
    corrections : sequence of array
        The ``p_i``; zeros at first.
    projections : sequence of callable
        The ``P_i``.

    Returns
    -------
    x, corrections : array and list of array
    """
    fresh = []
    for project, p in zip(projections, corrections, strict=True):
        pulled = x + p
        x = project(pulled)
        fresh.append(pulled - x)
    return x, fresh


def project_intersection(
    x: Any, projections: Sequence[Callable[[Array], Array]], *, tol: float = 1e-10, maxiter: int = 1000
) -> Array:
    """Project onto the intersection of convex sets, given their projections.

    Parameters
    ----------
    x : array
        The point, of any shape.
    projections : sequence of callable
        Each returns the nearest point of one set. The sets must have a common point.
    tol : float
        Stop when a round moves the point and the corrections by at most ``tol`` times the size of the point plus that
        of its distance; or at ``maxiter`` rounds.
    maxiter : int
        Largest number of rounds.

    Returns
    -------
    array
        In the last of the sets; `optlib.online.dykstra` also certifies how near it is.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.geometry import AffineProjection, project_intersection
    >>> sum_to_one = AffineProjection(np.ones((1, 3)), [1.0])
    >>> x = np.array([1.0, 0.5, -2.0])
    >>> project_intersection(x, [sum_to_one, lambda v: np.maximum(v, 0.0)]).round(6)
    array([0.75, 0.25, 0.  ])
    """
    xp, device, dtype = check.common(x=x)
    x = check.array("x", x, xp=xp, dtype=dtype, device=device, finite=False)
    tol = check.scalar("tol", tol, low=0.0)
    maxiter = check.scalar("maxiter", maxiter, low=0, integer=True)
    if not (isinstance(projections, (list, tuple)) and projections and all(map(callable, projections))):
        raise check.error("projections", type(projections).__name__, "a list of functions", kind=TypeError)
    if len(projections) == 1:
        return projections[0](x)
    corrections = [xp.zeros_like(x) for _ in projections]
    limit = max(tol, 4.0 * float(xp.finfo(x.dtype).eps))
    for _ in range(maxiter):
        before, old = x, corrections
        x, corrections = dykstra_cycle(x, corrections, projections)
        moved = xp.max(xp.abs(x - before))
        for p, q in zip(corrections, old, strict=True):
            moved = xp.maximum(moved, xp.max(xp.abs(p - q)))
        if float(moved) <= limit * (1.0 + float(xp.max(xp.abs(x)))):
            break
    return x
