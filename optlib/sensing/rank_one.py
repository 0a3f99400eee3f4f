"""Rank-one measurements ``a_i' X b_i``."""

import math
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array
from optlib.sensing.operators import SensingOperator, _check_sizes


class RankOneSensing(SensingOperator):
    """Measuring matrices ``a_i b_i' / sqrt(m)``, or ``a_i a_i' / sqrt(m)``: two vectors a measurement are stored.

    Parameters
    ----------
    a : array or nested sequence, shape (m, n1)
        Left vectors as rows.
    b : array or nested sequence, shape (m, n2), optional
        Right vectors as rows; None means ``b = a``, the symmetric case of phase retrieval.

    Attributes
    ----------
    a, b : array
    symmetric_pairs : bool
        Whether ``b`` was left out.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes and entries that are not finite real numbers.

    Notes
    -----
    Cost O(m (n1 + n2) k) for factors with k columns, memory O(m (n1 + n2)).

    Isotropic on average for independent standard normal vectors, but heavy-tailed: about n r measurements do not make a
    restricted isometry, so prefer more of them, or ``loss="l1"``. In the symmetric case
    ``E[A*A(X)] = 2 X + tr(X) I``: the spectral start removes the trace.

    Examples
    --------
    >>> from optlib.sensing import RankOneSensing
    >>> RankOneSensing([[1.0, 0.0], [1.0, 1.0]]).forward([[1.0, 2.0], [2.0, 5.0]]) * 2**0.5
    array([ 1., 10.])
    """

    def __init__(self, a: Any, b: Any = None) -> None:
        xp, device, dtype = check.common(a=a, b=b)
        a = check.array("a", a, xp=xp, ndim=2, dtype=dtype, device=device)
        pairs = b is None
        b = a if pairs else check.array("b", b, xp=xp, shape=(a.shape[0], None), dtype=dtype, device=device)
        _check_sizes((a.shape[1], b.shape[1]), a.shape[0], empty="a")
        self._set(a, b, pairs, 1.0 / math.sqrt(a.shape[0]))

    def _set(self, a: Array, b: Array, pairs: bool, scale: float) -> "RankOneSensing":
        super().__init__((a.shape[1], b.shape[1]), a.shape[0], a)
        self.a, self.b, self.symmetric_pairs, self._scale = a, b, pairs, scale
        return self

    def _forward(self, X: Array) -> Array:
        return self._scale * self.xp.sum((self.a @ X) * self.b, axis=1)

    def _adjoint(self, z: Array) -> Array:
        return self.a.T @ ((self._scale * z)[:, None] * self.b)

    def _forward_factored(self, F: Array, G: Array) -> Array:
        return self._scale * self.xp.sum((self.a @ F) * (self.b @ G), axis=1)

    def _adjoint_matmul(self, z: Array, G: Array) -> Array:
        return self.a.T @ ((self._scale * z)[:, None] * (self.b @ G))

    def _adjoint_rmatmul(self, z: Array, F: Array) -> Array:
        return self.b.T @ ((self._scale * z)[:, None] * (self.a @ F))

    def _gradient(self, F: Array, G: Array, y: Array) -> tuple[Array, Array, Array]:
        left, right = self.a @ F, self.b @ G
        residual = self._scale * self.xp.sum(left * right, axis=1) - y
        weight = (self._scale * residual)[:, None]
        return residual, self.a.T @ (weight * right), self.b.T @ (weight * left)

    def _sides(self, U: Array, V: Array) -> tuple[Array, Array]:
        left, right = self._scale * (self.a @ U), self._scale * (self.b @ V)
        return self.a[:, :, None] * right[:, None, :], self.b[:, :, None] * left[:, None, :]

    def _isotropy(self) -> float:
        xp = self.xp
        squares = xp.sum(self.a * self.a, axis=1) * xp.sum(self.b * self.b, axis=1)
        return self._scale**2 * float(xp.sum(squares)) / self.shape[1]

    def _part(self, i0: int, i1: int) -> "RankOneSensing":
        made = RankOneSensing.__new__(RankOneSensing)
        a = self.a[i0:i1, :]
        return made._set(a, a if self.symmetric_pairs else self.b[i0:i1, :], self.symmetric_pairs, self._scale)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "RankOneSensing":
        a = move(self.a)
        b = a if self.symmetric_pairs else move(self.b)
        return RankOneSensing.__new__(RankOneSensing)._set(a, b, self.symmetric_pairs, self._scale)
