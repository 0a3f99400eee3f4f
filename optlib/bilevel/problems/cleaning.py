"""Data hyper-cleaning: a weight for every training sample, tuned on a clean validation set."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, random
from optlib.backend.special import expit
from optlib.bilevel.problem import Point, Problem
from optlib.bilevel.problems.linear_models import SOFTMAX, MultinomialProblem, _Part, bend, norm_squared


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

    def _parts(self, train: _Part, valid: _Part) -> None:
        self.train, self.valid, self.xp = train, valid, train.A.xp
        self._norm: float | None = None

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

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        return self.at(x, y).inner()

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F, which does not depend on x."""
        xp, part = self.xp, self.valid
        local = SOFTMAX.at(part.A._matvec(y), part.t, xp)
        value = xp.sum(part.weights * local.value())
        return value, xp.zeros_like(x), part.A._rmatvec(part.by_sample(local.first))

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point; the predictions ``A y`` are shared by all."""
        xp, part = self.xp, self.train
        local, s = SOFTMAX.at(part.A._matvec(y), part.t, xp), expit(x, xp=xp)
        weights, slope = part.weights * s, part.weights * s * (1.0 - s)
        weighted = weights[:, None] * local.scale

        def inner() -> tuple[Array, Array, Array]:
            losses = part.weights * local.value()
            grad_y = part.A._rmatvec(weights[:, None] * local.first) + 2.0 * self.ridge * y
            return xp.sum(s * losses) + self.ridge * xp.sum(y * y), s * (1.0 - s) * losses, grad_y

        return Point(
            hvp=lambda v: part.A._rmatvec(bend(local, weighted, part.A._matvec(v), xp)) + 2.0 * self.ridge * v,
            cross_vjp=lambda v: slope * xp.sum(local.first * part.A._matvec(v), axis=1),
            cross_jvp=lambda u: part.A._rmatvec((slope * u)[:, None] * local.first),
            inner=inner,
        )

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
        if self._norm is None:
            self._norm = norm_squared(self.train.A, self.train.weights)
        return 0.5 * float(expit(self.xp.max(x), xp=self.xp)) * self._norm + 2.0 * self.ridge

    def lipschitz_outer(self, x: Array) -> float:
        """Bound by half of ``|V|^2 / m``."""
        return 0.5 * norm_squared(self.valid.A, self.valid.weights)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "CleaningProblem":
        made = object.__new__(CleaningProblem)
        made.ridge = self.ridge
        made._parts(*(_Part(p.A._map_arrays(move), move(p.t), move(p.weights)) for p in (self.train, self.valid)))
        return made
