"""Smoothed total variation of signals and images, its weight and smoothing tuned on clean ones."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, kernel, linalg
from optlib.bilevel.problem import Constants, Point, vdot
from optlib.bilevel.problems.denoising import FINE, SMOOTHING, THIRD, WEIGHTS, DenoisingProblem, blocks


def _slopes(y: Array) -> tuple[Array, Array]:
    """Differences along the rows and along the columns of images (images, h, w)."""
    return y[:, :, 1:] - y[:, :, :-1], y[:, 1:, :] - y[:, :-1, :]


def _spread(across: Array, down: Array, sign: float, xp: Any) -> Array:
    """Each difference added to the pixel that ends it, and with a sign to that which begins it; -1: the adjoint."""
    column = xp.zeros((*down.shape[:1], across.shape[1], 1), dtype=across.dtype, device=across.device)
    row = xp.zeros((*across.shape[:1], 1, down.shape[2]), dtype=across.dtype, device=across.device)
    return (
        xp.concat([column, across], axis=2) + sign * xp.concat([across, column], axis=2)
        + xp.concat([row, down], axis=1) + sign * xp.concat([down, row], axis=1)
    )  # fmt: skip


@kernel(numba="optlib.bilevel.problems._denoising_numba:tv_first", match="sum")
def tv_first(y: Array, nu: float, *, xp: Any) -> tuple[Array, Array, Array]:
    """``sum psi(Dy)``, ``sum nu^2 / psi(Dy)`` and ``D'(u / psi(u))`` at ``u = Dy`` for images (images, h, w)."""
    u = _slopes(y)
    psi = [xp.sqrt(s * s + nu * nu) for s in u]
    values = [sum(xp.sum(part) for part in parts) for parts in (psi, [nu * nu / s for s in psi])]
    return values[0], values[1], _spread(u[0] / psi[0], u[1] / psi[1], -1.0, xp)


@kernel(numba="optlib.bilevel.problems._denoising_numba:tv_weights", match="sum")
def tv_weights(y: Array, nu: float, alpha: float, *, xp: Any) -> tuple[Array, Array]:
    """``alpha nu^2 / psi(Dy)^3`` for the differences along the rows and along the columns."""
    across, down = (alpha * nu * nu / (s * s + nu * nu) ** 1.5 for s in _slopes(y))
    return across, down


@kernel(numba="optlib.bilevel.problems._denoising_numba:tv_product", match="sum")
def tv_product(v: Array, across: Array, down: Array, shift: float, *, xp: Any) -> Array:
    """``shift v + D'(w Dv)`` with the weights w of `tv_weights`."""
    s, t = _slopes(v)
    return shift * v + _spread(across * s, down * t, -1.0, xp)


class TotalVariationProblem(DenoisingProblem):
    r"""Smoothed total variation: ``f = 1/2 |y - z|^2 + e^x1 sum sqrt((D y)^2 + nu^2)``, tuned on clean images.

    ``F = 1 / (2 N) |y - t|^2`` for N images; D takes the differences of neighbours along each axis.

    Parameters
    ----------
    noisy : array, shape (images, length) or (images, height, width)
        Noisy signals or images z. Colours are images of their own.
    clean : array, of the same shape
        Clean ones t.
    smoothing : float, optional
        The level nu > 0 below which differences count quadratically. None: it is tuned too, ``nu = e^x2``.

    Attributes
    ----------
    noise : float
        Root mean square of ``noisy - clean``: start and box of x are in units of it.

    Notes
    -----
    The curvature is between 1 and ``1 + e^x1 |D|^2 / nu`` with ``|D|^2 <= 4`` for signals and 8 for images.

    Where not to use it: with a smoothing far below the noise Newton's method takes many steps; a twentieth of the noise
    is hardly distinguishable from none.

    References
    ----------
    M. S. Salehi et al., An adaptively inexact first-order method for bilevel optimization with application to
    hyperparameter learning, SIAM J. Math. Data Sci. 2025; its program has half the penalty.

    Examples
    --------
    >>> from optlib.bilevel import TotalVariationProblem, tune
    >>> problem = TotalVariationProblem.random(2, (12, 12), smoothing=0.01)
    >>> res = tune(problem)
    >>> res.success, problem.psnr(res.y) > problem.psnr(problem.noisy) + 3.0
    (True, True)
    """

    def __init__(self, noisy: Any, clean: Any, *, smoothing: float | None = None) -> None:
        super().__init__(noisy, clean, (2, 3))
        self.smoothing = None if smoothing is None else check.scalar("smoothing", smoothing, low=0.0, low_open=True)

    @classmethod
    def random(
        cls, images: int = 2, shape: tuple[int, ...] = (6, 7), *, noise: float = 0.1, rng: Any = 0,
        like: Array | None = None, **options: Any,
    ) -> "TotalVariationProblem":  # fmt: skip
        """Piecewise constant signals or images with levels in [0, 1], and normal noise."""
        clean, noisy = blocks(images, shape, noise, rng)
        return cls(*(u if like is None else asarray_like(u, like) for u in (noisy, clean)), **options)

    def start(self) -> tuple[Array, Array]:
        """Weight at the level of the noise, smoothing at a twentieth, and constant images."""
        x = [math.log(self.noise)] + ([] if self.smoothing else [math.log(self.noise) + FINE])
        return self.xp.asarray(x, dtype=self.noisy.dtype, device=self.noisy.device), self.middle

    def bounds(self) -> tuple[Array, Array]:
        """Box of the logarithms, around that of the noise."""
        ends = zip(*(WEIGHTS, SMOOTHING)[: 1 if self.smoothing else 2], strict=True)
        low, high = (
            math.log(self.noise) + self.xp.asarray(end, dtype=self.noisy.dtype, device=self.noisy.device)
            for end in ends
        )
        return low, high

    def levels(self, x: Array) -> tuple[float, float]:
        """The weight and the smoothing that x stands for."""
        return math.exp(float(x[0])), self.smoothing or math.exp(float(x[1]))

    def _pixels(self, y: Array) -> Array:
        """Signals as images with one row."""
        return y if y.ndim == 3 else y[:, None, :]

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        return self.at(x, y).inner()

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point: a five-point stencil for ``hvp``."""
        xp, (alpha, nu), shape = self.xp, self.levels(x), y.shape
        pixels = self._pixels(y)

        @cache
        def first() -> tuple[Array, Array, Array]:
            total, bend, slope = tv_first(pixels, nu, xp=xp)
            return alpha * total, alpha * bend, alpha * xp.reshape(slope, shape)

        @cache
        def weights() -> tuple[Array, Array]:
            return tv_weights(pixels, nu, alpha, xp=xp)

        def product(v: Array, shift: float) -> Array:
            return xp.reshape(tv_product(self._pixels(v), *weights(), shift, xp=xp), shape)

        def cross() -> list[Array]:
            """Derivatives of ``grad_y f`` by the hyperparameters."""
            return [first()[2]] if self.smoothing else [first()[2], -product(y, 0.0)]

        def inner() -> tuple[Array, Array, Array]:
            total, bend, slope = first()
            value, change = self._data(y)
            return value + total, xp.stack([total] if self.smoothing else [total, bend]), change + slope

        return Point(
            hvp=lambda v: product(v, 1.0),
            cross_vjp=lambda v: xp.stack([vdot(c, v, xp=xp) for c in cross()]),
            cross_jvp=lambda u: sum(u[k] * c for k, c in enumerate(cross())),
            inner=inner,
            diagonal=lambda: 1.0 + xp.reshape(_spread(*weights(), 1.0, xp), shape),
        )

    def lipschitz(self, x: Array) -> float:
        """Bound of the curvature."""
        alpha, nu = self.levels(x)
        return 1.0 + alpha * self._norm / nu

    @property
    def _norm(self) -> float:
        """Bound of ``|D|^2``."""
        return 4.0 * (self.noisy.ndim - 1)

    def constants(self, x: Array, y: Array) -> Constants:
        """Constants of the error bound; the norm of C is that of its entries."""
        xp, (alpha, nu) = self.xp, self.levels(x)
        eye = xp.eye(x.shape[0], dtype=x.dtype, device=x.device)
        jvp = self.at(x, y).cross_jvp
        cross = math.hypot(*(float(linalg.norm(jvp(eye[k, :]), xp=xp)) for k in range(x.shape[0])))
        change = alpha * self._norm / nu * x.shape[0] ** 0.5
        return Constants(cross, THIRD * alpha * self._norm**1.5 / nu**2, change, 1.0 / self.images)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "TotalVariationProblem":
        return TotalVariationProblem(move(self.noisy), move(self.clean), smoothing=self.smoothing)
