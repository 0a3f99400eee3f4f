"""Fields of experts: a learned sum of smoothed absolute responses of filters; weights, smoothing and filters tuned."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, kernel, linalg, to_numpy
from optlib.backend.namespace import asarray_on
from optlib.bilevel.problem import Constants, Point, Problem
from optlib.bilevel.problems.denoising import FINE, SMOOTHING, THIRD, WEIGHTS, DenoisingProblem, blocks

TAPS = (-2.0, 2.0)  # box of the entries of filters


@kernel(numba="optlib.bilevel.problems._denoising_numba:correlate", match="sum")
def correlate(y: Array, filters: Array, *, xp: Any) -> Array:
    """Responses (images, filters, h - a + 1, w - b + 1) of filters (filters, a, b) in images (images, h, w)."""
    _, a, b = filters.shape
    h, w = y.shape[1] - a + 1, y.shape[2] - b + 1
    out = xp.zeros((y.shape[0], filters.shape[0], h, w), dtype=y.dtype, device=y.device)
    for i in range(a):
        for j in range(b):
            out = out + filters[:, i, j][None, :, None, None] * y[:, None, i : i + h, j : j + w]
    return out


@kernel(numba="optlib.bilevel.problems._denoising_numba:correlate_adjoint", match="sum")
def correlate_adjoint(u: Array, filters: Array, *, xp: Any) -> Array:
    """The adjoint of `correlate` in the images: (images, h, w)."""
    _, a, b = filters.shape
    images, count, h, w = u.shape
    sides = xp.zeros((images, count, h, b - 1), dtype=u.dtype, device=u.device)
    u = xp.concat([sides, u, sides], axis=3)
    ends = xp.zeros((images, count, a - 1, u.shape[3]), dtype=u.dtype, device=u.device)
    u = xp.concat([ends, u, ends], axis=2)
    h, w = h + a - 1, w + b - 1
    out = xp.zeros((images, h, w), dtype=u.dtype, device=u.device)
    for i in range(a):
        for j in range(b):
            shifted = u[:, :, a - 1 - i : a - 1 - i + h, b - 1 - j : b - 1 - j + w]
            out = out + xp.sum(filters[:, i, j][None, :, None, None] * shifted, axis=1)
    return out


@kernel(numba="optlib.bilevel.problems._denoising_numba:correlate_taps", match="sum")
def correlate_taps(y: Array, u: Array, *, xp: Any) -> Array:
    """The adjoint of `correlate` in the filters: (filters, a, b) from images and responses."""
    h, w = u.shape[2:]
    a, b = y.shape[1] - h + 1, y.shape[2] - w + 1
    return xp.stack(
        [
            xp.stack([xp.sum(y[:, None, i : i + h, j : j + w] * u, axis=(0, 2, 3)) for j in range(b)], axis=1)
            for i in range(a)
        ],
        axis=1,
    )


@kernel(numba="optlib.bilevel.problems._denoising_numba:expert_first", match="sum")
def expert_first(u: Array, weights: Array, nu: Array, *, xp: Any) -> tuple[Array, Array, Array]:
    """By filter ``sum psi(u)`` and ``sum nu^2 / psi(u)``, and ``weight u / psi(u)`` for responses u."""
    square = (nu * nu)[:, None, None]
    psi = xp.sqrt(u * u + square)
    total, bend = (xp.sum(s, axis=(0, 2, 3)) for s in (psi, square / psi))
    return total, bend, weights[:, None, None] * u / psi


@kernel(numba="optlib.bilevel.problems._denoising_numba:expert_second", match="sum")
def expert_second(u: Array, weights: Array, nu: Array, *, xp: Any) -> Array:
    """``weight nu^2 / psi(u)^3`` for responses u (images, filters, h, w)."""
    square = (nu * nu)[:, None, None]
    return weights[:, None, None] * square / (u * u + square) ** 1.5


class _Experts(NamedTuple):
    """What x means: weights (filters,), smoothing (filters,) and filters (filters, a, b)."""

    weights: Array
    nu: Array
    filters: Array


class FieldsOfExpertsProblem(DenoisingProblem):
    r"""A field of experts: ``f = 1/2 |y - z|^2 + sum_i e^b_i sum sqrt((k_i * y)^2 + nu_i^2)``, tuned on clean images.

    ``F = 1 / (2 N) |y - t|^2`` for N images; ``k * y`` is the correlation with a small filter, wherever the filter fits
    into the image. x holds the log weights b, then the logarithms of nu, then the filters row by row.

    Parameters
    ----------
    noisy : array, shape (images, height, width)
        Noisy images z. Colours are images of their own.
    clean : array, of the same shape
        Clean ones t.
    filters : int or array, shape (filters, a, b)
        First filters; an integer s stands for the ``s^2 - 1`` cosines of s x s pixels that have mean 0.
    smoothing : float, optional
        The level nu > 0, the same for all filters. None: each filter has its own, which is tuned.
    learn_filters : bool
        Whether the filters are tuned too.

    Attributes
    ----------
    noise : float
        Root mean square of ``noisy - clean``: start and box of x are in units of it.

    Notes
    -----
    f is convex, because the experts are. A factor of a filter can go into its weight and its smoothing: there are
    directions in which the loss does not change.

    The curvature is at most ``1 + sum_i e^b_i |k_i|_1^2 / nu_i``. It is at least 1, exactly if all filters have mean 0.

    Cost: ``inner`` takes three correlations with all filters (two if they are not tuned), a product two.

    References
    ----------
    S. Roth, M. J. Black, Fields of experts, Int. J. Comput. Vis. 2009. Y. Chen et al., Insights into analysis operator
    learning, IEEE Trans. Image Process. 2014. M. S. Salehi et al., SIAM J. Math. Data Sci. 2025.

    Examples
    --------
    >>> from optlib.bilevel import FieldsOfExpertsProblem, quasi_newton
    >>> problem = FieldsOfExpertsProblem.random(2, (12, 12), filters=2, smoothing=0.01)
    >>> res = quasi_newton(problem, maxiter=10)
    >>> problem.psnr(res.y) > problem.psnr(problem.noisy) + 3.0
    True
    """

    def __init__(
        self, noisy: Any, clean: Any, filters: Any = 3, *, smoothing: float | None = None, learn_filters: bool = True
    ) -> None:
        super().__init__(noisy, clean, (3,))
        xp, like = self.xp, self.noisy
        if isinstance(filters, (int, np.integer)):
            side = check.scalar("filters", filters, low=2, integer=True)
            filters = asarray_on(cosines(side), xp=xp, dtype=like.dtype, device=like.device)
        self.filters = check.array("filters", filters, xp=xp, ndim=3, dtype=like.dtype, device=like.device)
        if 0 in self.filters.shape or any(a > n for a, n in zip(self.filters.shape[1:], like.shape[1:], strict=True)):
            raise check.error(
                "filters", f"shape {tuple(self.filters.shape)}", f"filters that fit into images {like.shape[1:]}"
            )
        self.smoothing = None if smoothing is None else check.scalar("smoothing", smoothing, low=0.0, low_open=True)
        self.learn_filters = bool(check.option("learn_filters", learn_filters, (True, False)))

    @classmethod
    def random(
        cls, images: int = 2, shape: tuple[int, int] = (6, 7), filters: Any = 2, *, noise: float = 0.1, rng: Any = 0,
        like: Array | None = None, **options: Any,
    ) -> "FieldsOfExpertsProblem":  # fmt: skip
        """Piecewise constant images with levels in [0, 1], and normal noise."""
        clean, noisy = blocks(images, shape, noise, rng)
        return cls(*(u if like is None else asarray_like(u, like) for u in (noisy, clean)), filters, **options)

    # -- hyperparameters --

    def _join(self, weights: Array, nu: Array, filters: Array) -> Array:
        """One vector of the parts that are tuned."""
        parts = [weights]
        if self.smoothing is None:
            parts.append(nu)
        if self.learn_filters:
            parts.append(self.xp.reshape(filters, (-1,)))
        return self.xp.concat(parts)

    def _split(self, x: Array) -> tuple[Array, Array | None, Array | None]:
        """The parts of a vector; None for what is not tuned."""
        n = self.filters.shape[0]
        nu = x[n : 2 * n] if self.smoothing is None else None
        if not self.learn_filters:
            return x[:n], nu, None
        return x[:n], nu, self.xp.reshape(x[-math.prod(self.filters.shape) :], self.filters.shape)

    def experts(self, x: Array) -> "_Experts":
        """Weights (filters,), smoothing (filters,) and filters (filters, a, b) that x stands for."""
        xp, (b, log_nu, filters) = self.xp, self._split(x)
        nu = xp.full_like(b, self.smoothing) if log_nu is None else xp.exp(log_nu)
        return _Experts(xp.exp(b), nu, self.filters if filters is None else filters)

    def _levels(self, weight: float, nu: float) -> tuple[Array, Array]:
        """The same logarithms for all filters."""
        ones = self.xp.ones_like(self.filters[:, 0, 0])
        return weight * ones, nu * ones

    def start(self) -> tuple[Array, Array]:
        """Weights at the level of the noise over the number of filters, smoothing at a twentieth; constant images."""
        unit = math.log(self.noise)
        return self._join(*self._levels(unit - math.log(self.filters.shape[0]), unit + FINE), self.filters), self.middle

    def bounds(self) -> tuple[Array, Array]:
        """Box of the logarithms, around that of the noise, and of the filters."""
        unit = math.log(self.noise)
        low, high = (
            self._join(*self._levels(unit + WEIGHTS[k], unit + SMOOTHING[k]), self.xp.full_like(self.filters, TAPS[k]))
            for k in (0, 1)
        )
        return low, high

    def tied(self) -> Problem:
        """The problem with one hyperparameter: a common change of all log weights of the start, see `untie`."""
        nu = self.smoothing or self.noise * math.exp(FINE)
        return _Shift(FieldsOfExpertsProblem(self.noisy, self.clean, self.filters, smoothing=nu, learn_filters=False))

    def untie(self, shift: Array) -> Array:
        """The start with all log weights changed by ``shift`` (1,)."""
        start, _ = self.start()
        n = self.filters.shape[0]
        return self.xp.concat([start[:n] + shift, start[n:]])

    # -- oracles --

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        return self.at(x, y).inner()

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point; the responses of the filters are taken once."""
        xp, (weights, nu, filters) = self.xp, self.experts(x)
        u = correlate(y, filters, xp=xp)

        @cache
        def first() -> tuple[Array, Array, Array]:
            return expert_first(u, weights, nu, xp=xp)

        @cache
        def second() -> Array:
            return expert_second(u, weights, nu, xp=xp)

        def backward(w: Array) -> Array:
            return correlate_adjoint(w, filters, xp=xp)

        def hvp(v: Array) -> Array:
            return v + backward(second() * correlate(v, filters, xp=xp))

        def inner() -> tuple[Array, Array, Array]:
            value, change = self._data(y)
            total, bend, slope = first()
            taps = correlate_taps(y, slope, xp=xp) if self.learn_filters else filters
            return (
                value + xp.sum(weights * total), self._join(weights * total, weights * bend, taps),
                change + backward(slope),
            )  # fmt: skip

        def cross_vjp(v: Array) -> Array:
            slope, response = first()[2], correlate(v, filters, xp=xp)
            bent = second() * response
            by_weight, by_nu = (xp.sum(s, axis=(0, 2, 3)) for s in (response * slope, -u * bent))
            taps = filters
            if self.learn_filters:
                taps = correlate_taps(v, slope, xp=xp) + correlate_taps(y, bent, xp=xp)
            return self._join(by_weight, by_nu, taps)

        def cross_jvp(change: Array) -> Array:
            db, dnu, taps = self._split(change)
            slope = first()[2]
            response = db[:, None, None] * slope
            if dnu is not None:
                response = response - dnu[:, None, None] * u * second()
            if taps is None:
                return backward(response)
            response = response + second() * correlate(y, taps, xp=xp)
            return backward(response) + correlate_adjoint(slope, taps, xp=xp)

        def diagonal() -> Array:
            return 1.0 + correlate_adjoint(second(), filters * filters, xp=xp)

        return Point(hvp=hvp, cross_vjp=cross_vjp, cross_jvp=cross_jvp, inner=inner, diagonal=diagonal)

    def lipschitz(self, x: Array) -> float:
        """Bound of the curvature by the absolute sums of the filters."""
        weights, nu, sizes = self._sizes(x)
        return 1.0 + float(np.sum(weights * sizes**2 / nu))

    def constants(self, x: Array, y: Array) -> Constants:
        """Constants of the error bound, with ``|y*| <= |z|`` for the entries of the filters."""
        weights, nu, sizes = self._sizes(x)
        hessian = THIRD * weights * sizes**3 / nu**2  # by filter
        slope = weights * sizes**2 / nu
        changes, pixels = [slope], float(linalg.norm(self.noisy, xp=self.xp))
        norm = max(pixels, float(linalg.norm(y, xp=self.xp)))
        count = math.prod(self.noisy.shape) ** 0.5
        crosses = [weights * sizes * count]
        if self.smoothing is None:
            crosses.append(crosses[0] * 2.0 / 27.0**0.5)
            changes.append(slope)
        if self.learn_filters:
            taps = math.prod(self.filters.shape[1:]) ** 0.5
            changes.append(taps * (2.0 * weights * sizes / nu + THIRD * weights * sizes**2 * norm / nu**2))
            crosses.append(taps * weights * (count + sizes * norm / nu))
        cross, change = (math.sqrt(sum(float(np.sum(part**2)) for part in parts)) for parts in (crosses, changes))
        return Constants(cross, float(np.sum(hessian)), change, 1.0 / self.images)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "FieldsOfExpertsProblem":
        moved = (move(u) for u in (self.noisy, self.clean, self.filters))
        return FieldsOfExpertsProblem(*moved, smoothing=self.smoothing, learn_filters=self.learn_filters)

    def _sizes(self, x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, smoothing and absolute sums of the filters, on the host."""
        weights, nu, filters = (to_numpy(part).astype(float) for part in self.experts(x))
        return weights, nu, np.sum(np.abs(filters), axis=(1, 2))


class _Shift(Problem):
    """A field of experts of which only the weights vary, all by one factor."""

    def __init__(self, whole: FieldsOfExpertsProblem) -> None:
        self.whole, self.xp = whole, whole.xp

    def _sum(self, u: Array) -> Array:
        return self.xp.reshape(self.xp.sum(u), (1,))

    def start(self) -> tuple[Array, Array]:
        """No change."""
        return self.xp.zeros_like(self.whole.start()[0][:1]), self.whole.middle

    def bounds(self) -> tuple[float, float]:
        """The box of the weights."""
        more = math.log(self.whole.filters.shape[0])
        return WEIGHTS[0] + more, WEIGHTS[1] + more

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        return self.at(x, y).inner()

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        return self.whole.outer(x, y)

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point."""
        point = self.whole.at(self.whole.untie(x), y)
        ones = self.xp.ones_like(self.whole.start()[0])

        def inner() -> tuple[Array, Array, Array]:
            value, grad_x, grad_y = point.inner()
            return value, self._sum(grad_x), grad_y

        return point._replace(
            cross_vjp=lambda v: self._sum(point.cross_vjp(v)),
            cross_jvp=lambda u: point.cross_jvp(u * ones),
            inner=inner,
        )


def cosines(side: int) -> np.ndarray:
    """The ``side^2 - 1`` products of cosines on side x side pixels that have mean 0, of norm 1, smooth ones first."""
    waves = np.cos(np.pi * np.outer(np.arange(side), np.arange(side) + 0.5) / side)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    pairs = sorted(((i, j) for i in range(side) for j in range(side)), key=lambda pair: (sum(pair), pair))
    return np.stack([np.outer(waves[i], waves[j]) for i, j in pairs[1:]])
