"""A network with one hidden layer: an inner problem that is not convex, by gradients alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, random
from optlib.bilevel.problem import Problem

DATA = ("A", "t", "V", "c")


class ShallowNetProblem(Problem):
    r"""Regression ``z -> b'tanh(W z + a)`` with a penalty for each layer, tuned on validation samples.

    ``f = 1/2n sum_i (b'tanh(W z_i + a) - t_i)^2 + 1/2 exp(x_1) |W|^2 + 1/2 exp(x_2) |b|^2``, and F is the first term on
    the validation samples.

    Parameters
    ----------
    A : array, shape (n, d)
        Training samples.
    t : array, shape (n,)
        Their targets.
    V, c : arrays, shapes (m, d) and (m,)
        Validation samples and their targets.
    hidden : int
        Number h of hidden units.
    rng : seed or Generator
        Of the start of the weights.

    Notes
    -----
    The inner variable is one array of shape (h, d + 2): the columns of W, then a and b. There are only gradients: for
    methods like `self_tuning`, which need no more.

    Examples
    --------
    >>> from optlib.bilevel import ShallowNetProblem
    >>> problem = ShallowNetProblem.random(10, 2)
    >>> [u.shape for u in problem.start()]
    [(2,), (6, 4)]
    """

    def __init__(self, A: Any, t: Any, V: Any, c: Any, *, hidden: int = 6, rng: Any = 0) -> None:
        self.xp, device, dtype = check.common(A=A, t=t, V=V, c=c)
        options = {"xp": self.xp, "dtype": dtype, "device": device}
        self.A = check.array("A", A, ndim=2, **options)
        n, d = self.A.shape
        if n == 0:
            raise check.error("A", "no samples", "at least one")
        self.t = check.array("t", t, shape=(n,), **options)
        self.V = check.array("V", V, shape=(None, d), **options)
        self.c = check.array("c", c, shape=(self.V.shape[0],), **options)
        hidden = check.scalar("hidden", hidden, low=1, integer=True)
        first = random.as_generator(rng).normal(size=(hidden, d + 2)) / max(d, hidden) ** 0.5
        self.first = asarray_like(first, self.t)

    @classmethod
    def random(
        cls, n: int = 30, d: int = 2, *, rng: Any = 0, like: Array | None = None, **options: Any
    ) -> "ShallowNetProblem":
        """A wave across the plane, with noise."""
        rng = random.as_generator(rng)
        A, V = rng.normal(size=(2, n, d))
        t, c = (np.sin(2.0 * z[:, 0]) + 0.3 * rng.normal(size=n) for z in (A, V))
        return cls(*(u if like is None else asarray_like(u, like) for u in (A, t, V, c)), rng=rng, **options)

    def start(self) -> tuple[Array, Array]:
        """Penalties of about 0.02, and random weights."""
        return self.xp.full((2,), -4.0, dtype=self.t.dtype, device=self.t.device), self.first

    def bounds(self) -> tuple[float, float]:
        """Box of the log penalties."""
        return -12.0, 4.0

    @property
    def n_valid(self) -> int:
        """Number of validation samples."""
        return self.V.shape[0]

    def _loss(self, Z: Array, t: Array, y: Array) -> tuple[Array, Array]:
        """Mean squared error, and its gradient backwards through both layers."""
        xp, d, n = self.xp, Z.shape[1], Z.shape[0]
        W, a, b = y[:, :d], y[:, d], y[:, d + 1]
        out = xp.tanh(Z @ W.T + a)
        r = (out @ b - t) / n
        back = (r[:, None] * b) * (1.0 - out * out)
        grad = xp.concat([back.T @ Z, xp.sum(back, axis=0)[:, None], (out.T @ r)[:, None]], axis=1)
        return 0.5 * n * xp.sum(r * r), grad

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        xp, d = self.xp, self.A.shape[1]
        value, grad = self._loss(self.A, self.t, y)
        squares = xp.stack([xp.sum(y[:, :d] ** 2), xp.sum(y[:, d + 1] ** 2)])
        pull = 0.5 * xp.exp(x) * squares
        zero = xp.zeros_like(y[:, d])[:, None]
        decay = xp.concat([xp.exp(x[0]) * y[:, :d], zero, xp.exp(x[1]) * y[:, d + 1][:, None]], axis=1)
        return value + xp.sum(pull), pull, grad + decay

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        value, grad = self._loss(self.V, self.c, y)
        return value, self.xp.zeros_like(x), grad

    hvp = cross_vjp = cross_jvp = None  # gradients only

    def _map_arrays(self, move: Callable[[Array], Array]) -> "ShallowNetProblem":
        made = ShallowNetProblem(*(move(getattr(self, name)) for name in DATA), hidden=self.first.shape[0])
        made.first = move(self.first)
        return made
