"""Matrices of fixed rank: points, tangent vectors, retraction, Jacobian of a sensing operator.

A point is ``X = U diag(s) V'`` with orthonormal U and V; in the positive semidefinite case V is U. A tangent vector at
it is ``D = DU V' + U DV'``, given as the pair (DU, DV) with ``V'DV = 0``; in the semidefinite case ``D = E U' + U E'``,
given as (E, E) with ``U'E`` symmetric. In these coordinates the Jacobian of ``A`` does not contain ``s``: its condition
does not depend on that of X.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib.backend import Array, linalg, random
from optlib.backend.namespace import asarray_on
from optlib.linop.base import _empty
from optlib.sensing.operators import SensingOperator

DENSE = 250_000  # entries up to which a dense decomposition is cheaper than products with factors


class Point(NamedTuple):
    """``U diag(s) V'`` with orthonormal columns and ``s >= 0`` in descending order."""

    U: Array
    s: Array
    V: Array

    @property
    def rank(self) -> int:
        """Number of columns."""
        return self.s.shape[0]

    @property
    def factors(self) -> tuple[Array, Array]:
        """The balanced factors ``U sqrt(s)`` and ``V sqrt(s)``."""
        root = self.s**0.5
        return self.U * root, self.V * root


def is_small(A: SensingOperator) -> bool:
    """Whether the matrices are small enough for dense decompositions."""
    return A.matrix_shape[0] * A.matrix_shape[1] <= DENSE


def zero_point(A: SensingOperator) -> Point:
    """The matrix 0 of rank 0."""
    xp, (n1, n2) = A.xp, A.matrix_shape
    made = {"dtype": A.dtype, "device": A.device}
    return Point(xp.zeros((n1, 0), **made), xp.zeros((0,), **made), xp.zeros((n2, 0), **made))


def image(A: SensingOperator, point: Point) -> Array:
    """``A(X)``."""
    return A._forward_factored(point.U * point.s, point.V)


def tangent_image(A: SensingOperator, point: Point, d: tuple[Array, Array]) -> Array:
    """``A(D)`` of a tangent vector."""
    xp = A.xp
    return A._forward_factored(xp.concat([d[0], point.U], axis=1), xp.concat([point.V, d[1]], axis=1))


def project(point: Point, left: Array, right: Array, psd: bool) -> tuple[Array, Array]:
    """Derivative in the coordinates from ``left = Z V`` and ``right = Z'U``: the projection of Z."""
    if psd:
        E = left + right
        core = point.U.T @ E
        E = E - 0.5 * (point.U @ (core - core.T))
        return E, E
    return left, right - point.V @ (point.V.T @ right)


def tangent_gradient(A: SensingOperator, point: Point, z: Array, psd: bool) -> tuple[Array, Array]:
    """``J' z``."""
    return project(point, A._adjoint_matmul(z, point.V), A._adjoint_rmatmul(z, point.U), psd)


def truncate(Q1: Array, core: Array, Q2: Array, rank: int, psd: bool, xp: Any) -> Point:
    """Best approximation of rank ``rank`` of ``Q1 core Q2'`` with orthonormal Q."""
    if psd:
        w, v = linalg.eigh(0.5 * (core + core.T), xp=xp, check=False)
        w, v = xp.flip(w)[:rank], xp.flip(v, axis=1)[:, :rank]
        U = Q1 @ v
        return Point(U, xp.where(w > 0, w, xp.zeros_like(w)), U)
    u, s, vh = linalg.svd(core, xp=xp, check=False)
    return Point(Q1 @ u[:, :rank], s[:rank], Q2 @ vh[:rank, :].T)


def retract(point: Point, d: tuple[Array, Array], rank: int, psd: bool, xp: Any) -> Point:
    """Best approximation of rank ``rank`` of ``X + D``, by thin factorisations; also for d of more columns than X."""
    r = point.rank
    Q1, R1 = linalg.qr(xp.concat([point.U, d[0]], axis=1), xp=xp)
    Q2, R2 = (Q1, R1) if psd else linalg.qr(xp.concat([point.V, d[1]], axis=1), xp=xp)
    # X + D = [U, DU] [[S, I], [I, 0]] [V, DV]'
    core = (R1[:, :r] * point.s) @ R2[:, :r].T + R1[:, r:] @ R2[:, :r].T + R1[:, :r] @ R2[:, r:].T
    return truncate(Q1, core, Q2, rank, psd, xp)


def append(point: Point, u: Array, amount: Array, v: Array, psd: bool, xp: Any) -> Point:
    """``X + amount u v'``, of rank one more."""
    Q1, R1 = linalg.qr(xp.concat([point.U, u[:, None]], axis=1), xp=xp)
    Q2, R2 = (Q1, R1) if psd else linalg.qr(xp.concat([point.V, v[:, None]], axis=1), xp=xp)
    weights = xp.concat([point.s, xp.reshape(amount, (1,))])
    return truncate(Q1, (R1 * weights) @ R2.T, Q2, point.rank + 1, psd, xp)


def norm(point: Point, xp: Any) -> float:
    """Frobenius norm."""
    return float(linalg.norm(point.s, xp=xp))


# -- the Jacobian in orthonormal coordinates --


class Coordinates:
    """Orthonormal coordinates of the tangent space at a point: vectors of length ``dof``.

    Parameters
    ----------
    point : Point
    psd : bool
    xp : module
    """

    def __init__(self, point: Point, psd: bool, xp: Any) -> None:
        self.point, self.psd, self.xp = point, psd, xp
        n, r = point.V.shape
        self.perp = xp.linalg.qr(point.V, mode="complete")[0][:, r:]
        if psd:
            upper = np.triu_indices(r)
            self._upper = asarray_on(upper[0] * r + upper[1], xp=xp, dtype=xp.int64, device=point.U.device)
            self._weight = random.asarray_like(np.where(upper[0] == upper[1], 1.0, math.sqrt(2.0)), point.U)
            place = np.zeros((r, r), dtype=np.int64)
            place[upper] = np.arange(upper[0].size)
            place = np.maximum(place, place.T)
            self._place = asarray_on(place.reshape(-1), xp=xp, dtype=xp.int64, device=point.U.device)
            self.dof = upper[0].size + (n - r) * r
        else:
            self.dof = point.U.shape[0] * r + (n - r) * r

    def jacobian(self, sides: tuple[Array, Array]) -> Array:
        """Matrix (m, dof) from all ``A_i V`` and ``A_i' U``."""
        xp, (left, right) = self.xp, sides
        m = left.shape[0]
        if not self.psd:
            rotated = self.perp.T @ right
            return xp.concat([xp.reshape(left, (m, -1)), xp.reshape(rotated, (m, -1))], axis=1)
        both = left + right
        inner = xp.reshape(self.point.U.T @ both, (m, -1))
        inner = 0.5 * self._weight * xp.take(inner, self._upper, axis=1)
        return xp.concat([inner, xp.reshape(self.perp.T @ both, (m, -1)) * 0.5**0.5], axis=1)

    def expand(self, d: Array) -> tuple[Array, Array]:
        """The tangent vector of a coordinate vector."""
        xp, point = self.xp, self.point
        (n1, r), n2 = point.U.shape, point.V.shape[0]
        if not self.psd:
            DU = xp.reshape(d[: n1 * r], (n1, r))
            return DU, self.perp @ xp.reshape(d[n1 * r :], (n2 - r, r))
        count = self._upper.shape[0]
        C = xp.reshape(xp.take(d[:count] / self._weight, self._place, axis=0), (r, r))
        E = 0.5 * (point.U @ C) + self.perp @ (0.5**0.5 * xp.reshape(d[count:], (n1 - r, r)))
        return E, E


def degrees_of_freedom(shape: tuple[int, int], r: int, psd: bool) -> int:
    """Dimension of the set of matrices of rank r."""
    n1, n2 = shape
    return n1 * r - r * (r - 1) // 2 if psd else r * (n1 + n2 - r)


# -- singular pairs of A*(z) --


def top_singular(
    A: SensingOperator, z: Array, rank: int, *, psd: bool, iterations: int = 6, rng: Any = 0
) -> tuple[Array, Array, Array]:
    """Leading singular triples of ``A*(z)`` (psd: eigenpairs of its symmetric part) by block power iterations.

    Returns
    -------
    U, s, V : array, shapes (n1, rank), (rank,) and (n2, rank)
        In the semidefinite case the largest eigenvalues, which may be negative, and V = U.
    """
    xp, (n1, n2) = A.xp, A.matrix_shape
    if is_small(A):
        Z = A._adjoint(z)
        if psd:
            w, v = linalg.eigh(0.5 * (Z + Z.T), xp=xp)
            U = xp.flip(v, axis=1)[:, :rank]
            return U, xp.flip(w)[:rank], U
        u, s, vh = linalg.svd(Z, xp=xp)
        return u[:, :rank], s[:rank], vh[:rank, :].T
    block = min(rank + 8, n1, n2)
    Q = random.normal(random.as_generator(rng), (n2, block), like=_empty(A))
    Q, _ = linalg.qr(Q, xp=xp)
    for _ in range(iterations):
        if psd:
            Q, _ = linalg.qr(0.5 * (A._adjoint_matmul(z, Q) + A._adjoint_rmatmul(z, Q)), xp=xp)
        else:
            P, _ = linalg.qr(A._adjoint_matmul(z, Q), xp=xp)
            Q, _ = linalg.qr(A._adjoint_rmatmul(z, P), xp=xp)
    if psd:
        core = Q.T @ (0.5 * (A._adjoint_matmul(z, Q) + A._adjoint_rmatmul(z, Q)))
        w, v = linalg.eigh(0.5 * (core + core.T), xp=xp)
        U = Q @ xp.flip(v, axis=1)[:, :rank]
        return U, xp.flip(w)[:rank], U
    P, R = linalg.qr(A._adjoint_matmul(z, Q), xp=xp)
    u, s, vh = linalg.svd(R, xp=xp)
    return (P @ u)[:, :rank], s[:rank], (Q @ vh.T)[:, :rank]
