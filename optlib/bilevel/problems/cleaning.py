"""Data hyper-cleaning: a weight for every training sample, tuned on a clean validation set."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, random, scatter
from optlib.backend.special import expit
from optlib.bilevel.problem import Point, Problem
from optlib.bilevel.problems.linear_models import MultinomialProblem
from optlib.bilevel.problems.losses import LOSSES, SOFTMAX, batch_directions, batch_gradient, bend
from optlib.bilevel.problems.samples import Part, norm_squared, smoothness


class CleaningProblem(Problem):
    r"""``f = 1/n sum_i s(x_i) CE_i(Y) + c |Y|^2`` with the sigmoid s, tuned on the mean cross entropy of clean samples.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (n, d)
        Training samples, some with wrong labels.
    t : array of int, shape (n,)
        Classes 0 .. C - 1.
    V : array, sparse matrix or operator, shape (m, d)
        Validation samples.
    c : array of int, shape (m,)
        Their targets, alike.
    ridge : float
        The constant ``c`` > 0 of the penalty.

    Notes
    -----
    ``x_i`` large keeps sample i, ``x_i`` small leaves it out. Start at 0: the tied optimum is saturated.

    References
    ----------
    L. Franceschi et al., Forward and reverse gradient-based hyperparameter optimization, ICML 2017. A. Shaban et al.,
    Truncated back-propagation for bilevel optimization, AISTATS 2019.
    """

    def __init__(self, A: Any, t: Any, V: Any, c: Any, *, ridge: float = 1e-3) -> None:
        self.ridge = check.scalar("ridge", ridge, low=0.0, low_open=True)
        model = MultinomialProblem(A, t, V, c, penalty="scalar")
        self._parts(model.train, model.valid)

    def _parts(self, train: Part, valid: Part) -> None:
        self.train, self.valid, self.xp = train, valid, train.A.xp
        self._known: dict[int | None, float] = {}
        self.n_inner, self.n_outer = train.A.shape[0], valid.A.shape[0]

    @classmethod
    def random(
        cls, n: int = 15, d: int = 4, *, rng: Any = 0, like: Array | None = None, **options: Any
    ) -> "CleaningProblem":
        """A small problem with three classes, a third of the training labels drawn again."""
        rng = random.as_generator(rng)
        means = 2.0 * rng.normal(size=(3, d))
        t, c = np.arange(n) % 3, np.arange(n) % 3
        A, V = (means[u] + rng.normal(size=(n, d)) for u in (t, c))
        t = np.where(rng.random(n) < 1 / 3, rng.integers(0, 3, n), t)
        t[:3] = np.arange(3)
        data = (A, t.astype(float), V, c.astype(float))
        return cls(*(u if like is None else asarray_like(u, like) for u in data), **options)

    def start(self) -> tuple[Array, Array]:
        """All weights one half, and ``Y = 0``."""
        A, xp = self.train.A, self.xp
        shape = (A.shape[1], self.train.t.shape[1])
        return xp.zeros((A.shape[0],), dtype=A.dtype, device=A.device), xp.zeros(shape, dtype=A.dtype, device=A.device)

    def bounds(self) -> tuple[float, float]:
        """Box in which the sigmoid is not saturated."""
        return -8.0, 8.0

    def inner(self, x: Array, y: Array, idx: Array | None = None) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        part, xp = self.train, self.xp
        if idx is None or part.rows is None:
            return self.at(x, y, idx).inner()
        s, factor = expit(x, xp=xp), part.factor(idx)
        weights = factor * part.weights * s
        losses, grad = batch_gradient(part.rows, part.t, weights, idx, y, LOSSES.index(SOFTMAX), xp=xp)
        losses = xp.take(weights, idx) * losses
        grad_x = self._spread((1.0 - xp.take(s, idx)) * losses, idx)
        return xp.sum(losses) + self.ridge * xp.sum(y * y), grad_x, grad + 2.0 * self.ridge * y

    def outer(self, x: Array, y: Array, idx: Array | None = None) -> tuple[Array, Array, Array]:
        """Value and gradients of F, which does not depend on x."""
        part, xp = self.valid, self.xp
        if idx is not None and part.rows is not None:
            weights = part.factor(idx) * part.weights
            losses, grad = batch_gradient(part.rows, part.t, weights, idx, y, LOSSES.index(SOFTMAX), xp=xp)
            return xp.sum(xp.take(weights, idx) * losses), xp.zeros_like(x), grad
        part = part.take(idx)
        local = SOFTMAX.at(part.A._matvec(y), part.t, xp)
        return xp.sum(part.weights * local.value()), xp.zeros_like(x), part.A._rmatvec(part.by_sample(local.first))

    def at(self, x: Array, y: Array, idx: Array | None = None) -> Point:
        """Products at a point; the predictions ``A y`` are shared by all."""
        xp, part = self.xp, self.train.take(idx)
        local, s = SOFTMAX.at(part.A._matvec(y), part.t, xp), expit(x, xp=xp)
        s = s if idx is None else xp.take(s, idx)
        weights, slope = part.weights * s, part.weights * s * (1.0 - s)
        weighted = weights[:, None] * local.scale

        def inner() -> tuple[Array, Array, Array]:
            losses = part.weights * local.value()
            grad_y = part.A._rmatvec(weights[:, None] * local.first) + 2.0 * self.ridge * y
            grad_x = self._spread(s * (1.0 - s) * losses, idx)
            return xp.sum(s * losses) + self.ridge * xp.sum(y * y), grad_x, grad_y

        def cross_jvp(u: Array) -> Array:
            return part.A._rmatvec((slope * (u if idx is None else xp.take(u, idx)))[:, None] * local.first)

        return Point(
            hvp=lambda v: part.A._rmatvec(bend(local, weighted, part.A._matvec(v), xp)) + 2.0 * self.ridge * v,
            cross_vjp=lambda v: self._spread(slope * xp.sum(local.first * part.A._matvec(v), axis=1), idx),
            cross_jvp=cross_jvp,
            inner=inner,
        )

    def _spread(self, values: Array, idx: Array | None) -> Array:
        """Values of a batch at the places of its samples, zero elsewhere."""
        return values if idx is None else scatter.segment_sum(values, idx, self.train.A.shape[0], xp=self.xp)

    def directions(self, x: Array, y: Array, q: Array, idx: Array | None = None) -> tuple[Array, Array, Array]:
        """Gradient in y and both products with q, in one pass over the samples."""
        part, xp = self.train, self.xp
        if idx is None or part.rows is None:
            local = self.at(x, y, idx)
            return local.inner()[2], local.hvp(q), local.cross_vjp(q)
        s = expit(x, xp=xp)
        weights = part.factor(idx) * part.weights * s
        grad, product, slopes = batch_directions(part.rows, part.t, weights, idx, y, q, LOSSES.index(SOFTMAX), xp=xp)
        cross = self._spread(xp.take(weights * (1.0 - s), idx) * slopes, idx)
        return grad + 2.0 * self.ridge * y, product + 2.0 * self.ridge * q, cross

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with ``grad_yy F``."""
        part = self.valid
        second = SOFTMAX.second(part.A._matvec(y), part.t, self.xp)
        return part.A._rmatvec(part.weights[:, None] * second(part.A._matvec(v)))

    def cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Zero: F does not depend on x."""
        return self.xp.zeros_like(x)

    def mu(self, x: Array) -> float:
        """Curvature of the penalty."""
        return 2.0 * self.ridge

    def lipschitz(self, x: Array) -> float:
        """Bound by half of ``max s(x) |A|^2 / n``."""
        return 0.5 * float(expit(self.xp.max(x), xp=self.xp)) * self._smoothness(None) + 2.0 * self.ridge

    def majorant(self, x: Array, batch: int | None = None) -> Array:
        """Upper bound of H, or of the Hessians of batches as their steps ask for; a number, as an array."""
        return 0.5 * expit(self.xp.max(x), xp=self.xp) * self._smoothness(batch) + 2.0 * self.ridge

    def _smoothness(self, batch: int | None) -> float:
        if batch not in self._known:
            norm = norm_squared(self.train.A, self.train.weights) if batch is None else self._smoothness(None)
            self._known[batch] = smoothness(norm, self.train, batch)
        return self._known[batch]

    def lipschitz_outer(self, x: Array) -> float:
        """Bound by half of ``|V|^2 / m``."""
        return 0.5 * norm_squared(self.valid.A, self.valid.weights)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "CleaningProblem":
        made = object.__new__(CleaningProblem)
        made.ridge = self.ridge
        made._parts(*(part.moved(move) for part in (self.train, self.valid)))
        return made
