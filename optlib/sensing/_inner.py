"""Damped least squares in a tangent space: dense normal equations, conjugate gradients, and those of completion.

Each class is the linear model of the residual at one point. ``solve(mu, forcing)`` returns the minimiser of
``|res + J d|^2 + mu |d|^2`` as a tangent vector, and the fall of ``|res + J d|^2`` that it predicts.
"""

from optlib.backend import Array, linalg
from optlib.sensing._lowrank import Coordinates, Point, project, tangent_gradient, tangent_image
from optlib.sensing.entries import EntrySampling, row_grams, sampled_product, weighted_rows
from optlib.sensing.operators import SensingOperator

Pair = tuple[Array, Array]


class Dense:
    """The Jacobian is formed and its normal equations are factored."""

    def __init__(
        self, A: SensingOperator, point: Point, residual: Array, weights: Array | None, psd: bool, sides: Pair
    ) -> None:
        self.xp = xp = A.xp
        self.coordinates = Coordinates(point, psd, xp)
        J = self.coordinates.jacobian(sides)
        if weights is not None:
            root = xp.sqrt(weights)
            J, residual = root[:, None] * J, root * residual
        self.g, self.H = residual @ J, J.T @ J
        self.eye = xp.eye(J.shape[1], dtype=J.dtype, device=J.device)
        self.passes = 1
        v = self.g
        for _ in range(8):  # power iterations
            v = self.H @ v
            size = linalg.norm(v, xp=xp)
            v = v / xp.where(size > 0, size, xp.ones_like(size))
        self.largest = float(xp.sum(v * (self.H @ v)))
        self.first_damping = 1e-3 * self.largest

    def used(self) -> int:
        """Passes over the operator of the last solve."""
        return 0

    def solve(self, mu: float, forcing: float) -> tuple[Pair, float]:
        """Solve exactly."""
        xp = self.xp
        factor = linalg.cholesky(self.H + mu * self.eye, xp=xp, check=False)
        d = linalg.cho_solve(factor, -self.g, xp=xp)
        predicted = -2.0 * xp.sum(self.g * d) - xp.sum(d * (self.H @ d))
        return self.coordinates.expand(d), float(predicted)


class ConjugateGradients:
    """Products with the Jacobian only: two passes an iteration, one where the operator fuses them."""

    def __init__(
        self, A: SensingOperator, point: Point, residual: Array, weights: Array | None, psd: bool, cap: int
    ) -> None:
        self.A, self.point, self.weights, self.psd, self.cap = A, point, weights, psd, cap
        self.xp, self.passes, self._used = A.xp, 2, 0
        z = residual if weights is None else weights * residual
        self.g = tangent_gradient(A, point, z, psd)
        self.largest = 2.0 * A.isotropy
        self.first_damping = 1e-3 * self.largest
        self._zero = A.xp.zeros_like(residual)

    def used(self) -> int:
        """Passes over the operator of the last solve."""
        return self._used

    def _normal(self, d: Pair) -> Pair:
        """``J'J d``."""
        A, xp, (U, _, V) = self.A, self.xp, self.point
        r = self.point.rank
        if self.weights is not None:
            return tangent_gradient(A, self.point, self.weights * tangent_image(A, self.point, d), self.psd)
        left, right = xp.concat([d[0], U], axis=1), xp.concat([V, d[1]], axis=1)
        _, rows, columns = A._gradient(left, right, self._zero)
        return project(self.point, rows[:, :r], columns[:, r:], self.psd)

    def _dot(self, u: Pair, v: Pair) -> float:
        total = self.xp.sum(u[0] * v[0])
        return float(total if self.psd else total + self.xp.sum(u[1] * v[1]))

    def solve(self, mu: float, forcing: float) -> tuple[Pair, float]:
        """Solve to the relative residual ``forcing``."""
        d: Pair = (0.0 * self.g[0], 0.0 * self.g[1])
        r: Pair = (-self.g[0], -self.g[1])
        p, rr = r, self._dot(r, r)
        goal, self._used = forcing**2 * rr, 0
        for _ in range(self.cap):
            q = self._normal(p)
            q = (q[0] + mu * p[0], q[1] + mu * p[1])
            self._used += 2
            curvature = self._dot(p, q)
            if not curvature > 0.0:
                break
            alpha = rr / curvature
            d = (d[0] + alpha * p[0], d[1] + alpha * p[1])
            r = (r[0] - alpha * q[0], r[1] - alpha * q[1])
            new = self._dot(r, r)
            if new <= goal:
                rr = new
                break
            p = (r[0] + (new / rr) * p[0], r[1] + (new / rr) * p[1])
            rr = new
        # (H + mu) d = -g - r, so that d'Hd = -g'd - r'd - mu d'd
        curved = -self._dot(self.g, d) - self._dot(r, d) - mu * self._dot(d, d)
        return d, -2.0 * self._dot(self.g, d) - curved


class Separated:
    """Completion: the rows' part is eliminated exactly, conjugate gradients for the columns' part.

    Given DV, the best DU is one r x r system a row; what remains is preconditioned by one such system a column.
    """

    def __init__(self, A: EntrySampling, point: Point, residual: Array, cap: int) -> None:
        self.A, self.xp, self.point, self.cap = A, A.xp, point, cap
        self.passes, self._used = 3, 0
        self.g = A._adjoint_matmul(residual, point.V), A._adjoint_rmatmul(residual, point.U)
        n1, n2 = A.matrix_shape
        self.row_blocks = row_grams(point.V, A.rows, A.cols, n1, xp=A.xp)
        self.column_blocks = row_grams(point.U, A.cols, A.rows, n2, xp=A.xp)
        self.largest = 2.0 * A.isotropy
        self.first_damping = 1e-2 * A.isotropy

    def used(self) -> int:
        """Passes over the entries of the last solve."""
        return self._used

    def _inverses(self, blocks: Array, mu: float) -> Array:
        shift = self.xp.eye(self.point.rank, dtype=blocks.dtype, device=blocks.device)
        return linalg.inv(blocks + max(mu, 1e-12 * self.largest) * shift, xp=self.xp, check=False)

    def _times(self, blocks: Array, x: Array) -> Array:
        return self.xp.sum(blocks * x[:, None, :], axis=2)

    def solve(self, mu: float, forcing: float) -> tuple[Pair, float]:
        """Solve to the relative residual ``forcing`` in the columns' part."""
        A, xp, (U, _, V) = self.A, self.xp, self.point
        n1, n2 = A.matrix_shape
        rows_inverse, columns_inverse = (self._inverses(b, mu) for b in (self.row_blocks, self.column_blocks))

        def to_rows(dv: Array) -> Array:
            return weighted_rows(sampled_product(U, dv, A.rows, A.cols, xp=xp), V, A.rows, A.cols, n1, xp=xp)

        def to_columns(du: Array) -> Array:
            return weighted_rows(sampled_product(du, V, A.rows, A.cols, xp=xp), U, A.cols, A.rows, n2, xp=xp)

        def schur(dv: Array) -> Array:
            own = self._times(self.column_blocks, dv) + mu * dv
            return own - to_columns(self._times(rows_inverse, to_rows(dv)))

        g_u, g_v = self.g
        r = -g_v + to_columns(self._times(rows_inverse, g_u))
        dv = xp.zeros_like(r)
        z = self._times(columns_inverse, r)
        p, rz = z, float(xp.sum(r * z))
        goal, self._used = forcing**2 * rz, 4
        for _ in range(self.cap):
            if not rz > goal:
                break
            q = schur(p)
            self._used += 4
            curvature = float(xp.sum(p * q))
            if not curvature > 0.0:
                break
            alpha = rz / curvature
            dv, r = dv + alpha * p, r - alpha * q
            z = self._times(columns_inverse, r)
            new = float(xp.sum(r * z))
            p, rz = z + (new / rz) * p, new
        du = -self._times(rows_inverse, g_u + to_rows(dv))
        change = tangent_image(A, self.point, (du, dv))
        slope = xp.sum(g_u * du) + xp.sum(g_v * dv)
        return (du, dv), float(-2.0 * slope - xp.sum(change * change))
