"""What the sensing solvers return: factors, a lazy matrix, and the certificate."""

from typing import Any

from optlib._core import Result
from optlib._core import validation as check
from optlib.backend import Array, array_namespace, device_of


class LowRankMatrix:
    """The product ``left right'``, never formed unless asked for.

    Parameters
    ----------
    left, right : array, shapes (n1, r) and (n2, r)

    Attributes
    ----------
    left, right : array
    shape : (int, int)

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import LowRankMatrix
    >>> M = LowRankMatrix(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]))
    >>> M @ np.array([1.0, 1.0])
    array([ 7., 14.])
    >>> M.T.toarray()
    array([[3., 6.],
           [4., 8.]])
    """

    def __init__(self, left: Array, right: Array) -> None:
        xp, device, dtype = check.common(left=left, right=right)
        self.left, self.right = (
            check.array(name, u, xp=xp, ndim=2, dtype=dtype, device=device, finite=False)
            for name, u in (("left", left), ("right", right))
        )
        if self.left.shape[1] != self.right.shape[1]:
            raise check.error("right", f"shape {tuple(right.shape)}", f"{self.left.shape[1]} columns, as left has")
        self.shape = (self.left.shape[0], self.right.shape[0])

    def __matmul__(self, v: Array) -> Array:
        """Multiply a vector, or several as columns."""
        return self.left @ (self.right.T @ v)

    @property
    def T(self) -> "LowRankMatrix":
        """The transpose."""
        return LowRankMatrix(self.right, self.left)

    def __getitem__(self, rows: slice) -> Array:
        """Rows as a dense array."""
        if not isinstance(rows, slice):
            raise check.error("rows", type(rows).__name__, "a slice of rows", "use at(rows, cols)", TypeError)
        return self.left[rows, :] @ self.right.T

    def at(self, rows: Any, cols: Any) -> Array:
        """Entries at given places.

        Parameters
        ----------
        rows, cols : sequence of int, shape (k,)

        Returns
        -------
        array, shape (k,)
        """
        xp = array_namespace(self.left)
        index = [xp.asarray(u, dtype=xp.int64, device=device_of(self.left)) for u in (rows, cols)]
        return xp.sum(xp.take(self.left, index[0], axis=0) * xp.take(self.right, index[1], axis=0), axis=1)

    def toarray(self) -> Array:
        """All entries, an (n1, n2) array."""
        return self.left @ self.right.T

    def __repr__(self) -> str:
        return f"LowRankMatrix({self.shape[0]} x {self.shape[1]}, rank {self.left.shape[1]})"


class SensingResult(Result):
    """Result of a sensing solver.

    All fields of `optlib.Result`, and those below.

    Attributes
    ----------
    factors : (array, array)
        ``L`` (n1, r) and ``R`` (n2, r) with ``X = L R'``, also as ``x``; equal for positive semidefinite matrices.
    matrix : LowRankMatrix
        The answer, lazy: ``matrix @ v``, ``matrix.at(rows, cols)``, ``matrix.toarray()``.
    rank : int
        Number of columns of the factors.
    relative_residual : float
        ``|A(X) - y| / |y|``.
    identifiability : float or None
        Smallest over largest singular value of the derivative of the measurements on the matrices of this rank, at the
        answer. Positive: no other such matrix close by measures the same. None where it is too large to compute.
    """

    def summary(self) -> list[tuple[str, str]]:
        """Rows of the printed form: label and text."""
        rows = dict(super().summary())
        rows.pop("fun", None)
        status = rows.pop("status")
        c = self.identifiability
        known = "" if c is None else f", identifiability {c:.2g}"
        return [
            ("status", status),
            ("matrix", f"{self.matrix}, relative residual {self.relative_residual:.2e}{known}"),
            *rows.items(),
        ]
