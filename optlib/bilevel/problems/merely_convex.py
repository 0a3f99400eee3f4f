"""A problem whose inner objective is convex, but has many minimisers."""

from collections.abc import Callable

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, random
from optlib.bilevel.problem import Point, Problem


class CounterexampleProblem(Problem):
    r"""``f = sum 1/2 u^2 - <x, u>`` and ``F = sum 1/2 (x - v)^2 + 1/2 (u - target)^2`` with ``y = (u, v)``.

    Every v minimises f. Among the minimisers the outer problem may choose (the optimistic one): its solution is
    ``x = u = v = target``. A method that takes the minimiser for unique keeps the v at which it began, 0, and ends at
    ``x = target / 2``.

    Parameters
    ----------
    target : array, shape (n,)
        The solution; 1 in the paper. The inner variables have the shape (2, n).

    References
    ----------
    R. Liu, P. Mu, X. Yuan, S. Zeng, J. Zhang, A generic first-order algorithmic framework for bi-level programming
    beyond lower-level singleton, ICML 2020, section 3 (the counter-example).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import CounterexampleProblem, hypergradient
    >>> problem = CounterexampleProblem(np.ones(3))
    >>> hypergradient(problem, 0.5 * np.ones(3), mode="reverse").gradient.round(9)  # a false stationary point
    array([0., 0., 0.])
    """

    def __init__(self, target: Array) -> None:
        self.xp, device, dtype = check.common(target=target)
        self.target = check.array("target", target, xp=self.xp, ndim=1, dtype=dtype, device=device)

    @classmethod
    def random(cls, n: int = 4, *, rng: object = 0, like: Array | None = None) -> "CounterexampleProblem":
        """Normal targets."""
        host = random.as_generator(rng).normal(size=n).astype(np.float64)
        return cls(host if like is None else asarray_like(host, like))

    def start(self) -> tuple[Array, Array]:
        """Zeros."""
        zeros = self.xp.zeros_like(self.target)
        return zeros, self.xp.stack([zeros, zeros])

    def bounds(self) -> tuple[float, float]:
        """Box of the paper."""
        return -100.0, 100.0

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        u = y[0, :]
        return self.xp.sum(0.5 * u * u - x * u), -u, self.xp.stack([u - x, self.xp.zeros_like(u)])

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        far, off = x - y[1, :], y[0, :] - self.target
        return 0.5 * self.xp.sum(far * far + off * off), far, self.xp.stack([off, -far])

    def at(self, x: Array, y: Array) -> Point:
        """Products, the same at all points; H is singular."""
        xp = self.xp
        return Point(
            hvp=lambda v: xp.stack([v[0, :], xp.zeros_like(v[0, :])]),
            cross_vjp=lambda v: -v[0, :],
            cross_jvp=lambda u: xp.stack([-u, xp.zeros_like(u)]),
        )

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with ``grad_yy F``, the identity."""
        return v

    def cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with ``grad_xy F``."""
        return -v[1, :]

    def mu(self, x: Array) -> float:
        """No curvature along v."""
        return 0.0

    def lipschitz(self, x: Array) -> float:
        """Curvature along u."""
        return 1.0

    def lipschitz_outer(self, x: Array) -> float:
        """Curvature of ``F(x, .)``."""
        return 1.0

    def solution(self) -> Array:
        """The optimistic solution."""
        return self.target

    def _map_arrays(self, move: Callable[[Array], Array]) -> "CounterexampleProblem":
        return CounterexampleProblem(move(self.target))
