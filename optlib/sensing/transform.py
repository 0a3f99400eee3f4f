"""Sub-sampled orthonormal transforms: fast measurements that store two sign vectors and the places."""

import math
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, random
from optlib.backend.namespace import asarray_on
from optlib.sensing.entries import completion_gradient, draw_places, sampled_product, weighted_rows
from optlib.sensing.operators import SensingOperator, _check_sizes


class SubsampledTransform(SensingOperator):
    """Some entries of ``T1 D1 X D2 T2'``: orthonormal transforms T of both sides after random signs D.

    Parameters
    ----------
    matrix_shape : tuple of int
        Rows and columns (n1, n2); powers of two for ``"hadamard"``.
    m : int
        Number of measurements, at most n1 n2.
    transform : {"dct", "hadamard", "fft"}
        Discrete cosine (type 2), Walsh-Hadamard, or Hartley transform, the real form of Fourier's.
    rng : seed or Generator, optional
        Signs and places.
    like : array, optional
        Library, device and dtype; NumPy float64 by default.

    Notes
    -----
    Cost of the factored forms: only the factors are transformed, O((n1 + n2) k log n), then m entries of their product
    are formed, O(m k). Memory O(n1 + n2 + m). Scaled by ``sqrt(n1 n2 / m)``: ``E[A*A]`` is the identity.

    Examples
    --------
    >>> from optlib.sensing import SubsampledTransform
    >>> A = SubsampledTransform((8, 8), 64, "hadamard", rng=0)  # all entries: an isometry
    >>> round(A.norm(), 6)
    1.0
    """

    def __init__(
        self,
        matrix_shape: tuple[int, int],
        m: int,
        transform: str = "dct",
        *,
        rng: Any = None,
        like: Array | None = None,
    ) -> None:
        n1, n2 = _check_sizes(matrix_shape, m)
        check.option("transform", transform, tuple(TRANSFORMS))
        if transform == "hadamard" and any(n & (n - 1) for n in (n1, n2)):
            fix = "pad the matrix with zeros, or use transform='dct'"
            raise check.error("matrix_shape", (n1, n2), "powers of two for the Hadamard transform", fix)
        rng, like = random.as_generator(rng), check.template("like", like)
        signs = [random.rademacher(rng, n, like=like) for n in (n1, n2)]
        super().__init__((n1, n2), m, like)
        places = [
            asarray_on(u, xp=self.xp, dtype=self.xp.int64, device=self.device) for u in draw_places((n1, n2), m, rng)
        ]
        self._set(transform, signs, places, math.sqrt(n1 * n2 / m))

    def _set(self, transform: str, signs: list[Array], places: list[Array], scale: float) -> "SubsampledTransform":
        self.transform, self.signs, self.scale = transform, signs, scale
        self.rows, self.cols = places
        return self

    def _analyse(self, F: Array, side: int) -> Array:
        return TRANSFORMS[self.transform][0](self.signs[side][:, None] * F, self.xp)

    def _synthesise(self, F: Array, side: int) -> Array:
        return self.signs[side][:, None] * TRANSFORMS[self.transform][1](F, self.xp)

    def _forward(self, X: Array) -> Array:
        n2 = self.matrix_shape[1]
        Y = self._analyse(self._analyse(X, 0).T, 1).T
        return self.scale * self.xp.take(self.xp.reshape(Y, (-1,)), self.rows * n2 + self.cols, axis=0)

    def _adjoint(self, z: Array) -> Array:
        eye = self.xp.eye(self.matrix_shape[1], dtype=self.dtype, device=self.device)
        return self._adjoint_matmul(z, eye)

    def _forward_factored(self, F: Array, G: Array) -> Array:
        left, right = self._analyse(F, 0), self._analyse(G, 1)
        return self.scale * sampled_product(left, right, self.rows, self.cols, xp=self.xp)

    def _adjoint_matmul(self, z: Array, G: Array) -> Array:
        sums = weighted_rows(
            self.scale * z, self._analyse(G, 1), self.rows, self.cols, self.matrix_shape[0], xp=self.xp
        )
        return self._synthesise(sums, 0)

    def _adjoint_rmatmul(self, z: Array, F: Array) -> Array:
        sums = weighted_rows(
            self.scale * z, self._analyse(F, 0), self.cols, self.rows, self.matrix_shape[1], xp=self.xp
        )
        return self._synthesise(sums, 1)

    def _gradient(self, F: Array, G: Array, y: Array) -> tuple[Array, Array, Array]:
        left, right, c = self._analyse(F, 0), self._analyse(G, 1), self.scale
        residual, grad_left, grad_right = completion_gradient(left, right, self.rows, self.cols, y / c, xp=self.xp)
        return c * residual, c * c * self._synthesise(grad_left, 0), c * c * self._synthesise(grad_right, 1)

    def _isotropy(self) -> float:
        return self.scale**2 * self.shape[0] / self.shape[1]

    def norm(self, *, iterations: int = 30, rng: Any = 0) -> float:
        """Return the largest singular value, which is known: entries of an isometry are scaled.

        Parameters
        ----------
        iterations, rng : object
            Not needed.

        Returns
        -------
        float
        """
        return self.scale

    def _derive(self, m: int, signs: list[Array], places: list[Array]) -> "SubsampledTransform":
        made = SubsampledTransform.__new__(SubsampledTransform)
        SensingOperator.__init__(made, self.matrix_shape, m, signs[0])
        return made._set(self.transform, signs, places, self.scale)

    def _part(self, i0: int, i1: int) -> "SubsampledTransform":
        return self._derive(i1 - i0, self.signs, [self.rows[i0:i1], self.cols[i0:i1]])

    def _map_arrays(self, move: Callable[[Array], Array]) -> "SubsampledTransform":
        signs, places = [move(u) for u in self.signs], [move(u) for u in (self.rows, self.cols)]
        if places[0].dtype == signs[0].dtype:  # a cast of the values leaves the places as they are
            places = [self.rows, self.cols]
        return self._derive(self.shape[0], signs, places)


def _hadamard(x: Array, xp: Any) -> Array:
    """Walsh-Hadamard transform of the columns, orthonormal and its own inverse."""
    n, k = x.shape
    half = 1
    while half < n:
        pairs = xp.reshape(x, (n // (2 * half), 2, half, k))
        a, b = pairs[:, 0, :, :], pairs[:, 1, :, :]
        x = xp.reshape(xp.stack([a + b, a - b], axis=1), (n, k))
        half *= 2
    return x * n**-0.5


def _hartley(x: Array, xp: Any) -> Array:
    """Hartley transform of the columns, orthonormal and its own inverse."""
    spectrum = xp.fft.fft(xp.astype(x, _complex(x, xp)), axis=0)
    return (xp.real(spectrum) - xp.imag(spectrum)) * x.shape[0] ** -0.5


def _dct(x: Array, xp: Any) -> Array:
    """Cosine transform (type 2) of the columns, orthonormal: one Fourier transform of the reordered column."""
    n = x.shape[0]
    v = xp.concat([x[0::2, :], xp.flip(x[1::2, :], axis=0)], axis=0)
    spectrum = xp.fft.fft(xp.astype(v, _complex(x, xp)), axis=0)
    c, s, weight = _angles(n, x, xp)
    return weight * (c * xp.real(spectrum) + s * xp.imag(spectrum))


def _idct(x: Array, xp: Any) -> Array:
    """Transpose and inverse of `_dct`: the same steps backwards."""
    n = x.shape[0]
    c, s, weight = _angles(n, x, xp)
    # The matrix of Fourier is symmetric: the transpose of the real part is the real part of the same transform.
    kind = _complex(x, xp)
    twisted = xp.astype(c * weight * x, kind) - 1j * xp.astype(s * weight * x, kind)
    v = xp.real(xp.fft.fft(twisted, axis=0))
    even, odd = v[: (n + 1) // 2, :], xp.flip(v[(n + 1) // 2 :, :], axis=0)
    if n % 2:
        odd = xp.concat([odd, xp.zeros_like(even[:1, :])], axis=0)
    return xp.reshape(xp.stack([even, odd], axis=1), (-1, x.shape[1]))[:n, :]


def _angles(n: int, like: Array, xp: Any) -> tuple[Array, Array, Array]:
    k = xp.arange(n, dtype=like.dtype, device=like.device)[:, None]
    angle = k * (math.pi / (2 * n))
    weight = xp.where(k == 0, xp.full_like(k, n**-0.5), xp.full_like(k, (2.0 / n) ** 0.5))
    return xp.cos(angle), xp.sin(angle), weight


def _complex(x: Array, xp: Any) -> Any:
    return xp.complex64 if x.dtype == xp.float32 else xp.complex128


TRANSFORMS: dict[str, tuple[Callable[[Array, Any], Array], Callable[[Array, Any], Array]]] = {
    "dct": (_dct, _idct),
    "hadamard": (_hadamard, _hadamard),
    "fft": (_hartley, _hartley),
}
