"""Equilibria: the inner problem is a variational inequality instead of a minimisation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, linalg, random
from optlib.bilevel.problem import Point, Problem

SOLVES = 10_000  # steps of the inner solver
PARTS = ("Q", "B", "c", "target")


class EquilibriumProblem(Problem):
    r"""The answer ``y*`` of followers to x: ``<phi(x, y*), y - y*> >= 0`` for all y in a box, ``phi = Q y + B x + c``.

    The leader minimises ``F = 1/2 |y - target|^2 + rho / 2 |x|^2``.

    Parameters
    ----------
    Q : array, shape (d, d)
        Need not be symmetric; its symmetric part must be positive definite.
    B : array, shape (d, p)
        How x enters.
    c, target : arrays, shape (d,)
        Constant of phi, and what the leader wants.
    rho : float
        Weight of the leader's penalty, at least 0.
    low, high : float
        Box of each entry of y.
    step : float, optional
        The r below, less than ``2 mu / L^2`` with mu the least eigenvalue of the symmetric part and L the norm of Q;
        by default half of that.

    Notes
    -----
    With ``P`` the projection onto the box, ``inner`` gives the natural residual ``(y - P(y - r phi)) / r`` in the place
    of the gradient: it is phi itself off the edges of the box, and vanishes at the equilibrium. Its derivative ``H``
    has the row of Q for an entry inside the box, and that of ``I / r`` at an edge. Therefore all modes of
    `hypergradient` for problems without symmetry are right at active bounds too (off kinks), and ``y - r grad_y`` is
    the projected step of the followers, which contracts. An equilibrium has no objective: the value of ``inner`` is
    half of the squared residual. ``lipschitz`` is ``1 / r``.

    Examples
    --------
    >>> from optlib.bilevel import EquilibriumProblem, hypergradient
    >>> problem = EquilibriumProblem.random(4, 2, rng=0)
    >>> found = hypergradient(problem, problem.solution())
    >>> found.mode, bool(abs(found.gradient).max() < 1e-6)
    ('gmres', True)
    """

    symmetric = False

    def __init__(
        self, Q: Any, B: Any, c: Any, target: Any, rho: float = 1.0, *, low: float = -float("inf"),
        high: float = float("inf"), step: float | None = None,
    ) -> None:  # fmt: skip
        self.xp, device, dtype = check.common(Q=Q, B=B, c=c, target=target)
        B = check.array("B", B, xp=self.xp, ndim=2, dtype=dtype, device=device)
        d = B.shape[0]
        self.B = B
        self.Q = check.array("Q", Q, xp=self.xp, shape=(d, d), dtype=dtype, device=device)
        self.c, self.target = (
            check.array(name, u, xp=self.xp, shape=(d,), dtype=dtype, device=device)
            for name, u in (("c", c), ("target", target))
        )
        self.rho = check.scalar("rho", rho, low=0.0)
        self.low, self.high = (check.scalar(n, v, finite=False) for n, v in (("low", low), ("high", high)))
        if not self.low < self.high:
            raise check.error("low", self.low, f"a number below `high` = {self.high}")
        least = float(linalg.eigh(0.5 * (self.Q + self.Q.T), xp=self.xp)[0][0])
        if not least > 0.0:
            raise check.error(
                "Q", f"a symmetric part with the eigenvalue {least:.3g}", "a positive definite symmetric part",
                "without it the equilibrium may not exist or not be unique",
            )  # fmt: skip
        norm = float(linalg.svd(self.Q, xp=self.xp)[1][0])
        self._mu = least
        self.step = least / norm**2
        if step is not None:
            self.step = check.scalar("step", step, low=0.0, low_open=True, high=2.0 * least / norm**2)

    @classmethod
    def random(
        cls, d: int, p: int, *, skew: float = 1.0, rng: Any = 0, like: Array | None = None, **options: Any
    ) -> "EquilibriumProblem":
        """Random data; ``skew`` is the size of the antisymmetric part of Q."""
        rng = random.as_generator(rng)
        R, S = rng.normal(size=(2, d, d)) / d**0.5
        data = R @ R.T + np.eye(d) + skew * (S - S.T), rng.normal(size=(d, p)), rng.normal(size=d), rng.normal(size=d)
        return cls(*(u if like is None else asarray_like(u, like) for u in data), **options)

    def start(self) -> tuple[Array, Array]:
        """Zeros, the inner one moved into the box."""
        x = self.xp.zeros((self.B.shape[1],), dtype=self.B.dtype, device=self.c.device)
        return x, self.project_y(self.xp.zeros_like(self.c))

    def project_y(self, y: Array) -> Array:
        """Nearest point of the box of the followers."""
        xp = self.xp
        low, high = (xp.full_like(y, side) for side in (self.low, self.high))
        return xp.minimum(xp.maximum(y, low), high)

    def diameter(self) -> float:
        """Of the box of the followers."""
        return (self.high - self.low) * self.c.shape[0] ** 0.5

    def _residual(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """The map phi, its natural residual, and where the latter is phi itself."""
        phi = self.Q @ y + self.B @ x + self.c
        ahead = y - self.step * phi
        inside = (ahead > self.low) & (ahead < self.high)
        edge = (y - self.project_y(ahead)) / self.step
        return phi, self.xp.where(inside, phi, edge), inside

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Half of the squared residual with its derivative in x, and the residual."""
        _, r, inside = self._residual(x, y)
        return 0.5 * self.xp.sum(r * r), self.B.T @ self.xp.where(inside, r, self.xp.zeros_like(r)), r

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        e = y - self.target
        return 0.5 * (self.xp.sum(e * e) + self.rho * self.xp.sum(x * x)), self.rho * x, e

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point."""
        xp, inside = self.xp, self._residual(x, y)[2]

        def free(v: Array) -> Array:
            return xp.where(inside, v, xp.zeros_like(v))

        return Point(
            hvp=lambda v: xp.where(inside, self.Q @ v, v / self.step),
            cross_vjp=lambda v: self.B.T @ free(v),
            cross_jvp=lambda u: free(self.B @ u),
        )

    def hvp_t(self, x: Array, y: Array, v: Array) -> Array:
        """Product with the transpose of H."""
        xp, inside = self.xp, self._residual(x, y)[2]
        zero = xp.zeros_like(v)
        return self.Q.T @ xp.where(inside, v, zero) + xp.where(inside, zero, v / self.step)

    def solve_inner(self, x: Array, y: Array, tol: float) -> tuple[Array, dict[str, int]]:
        """Newton steps on the residual where they halve it, else a projected step, which contracts."""
        xp, counts = self.xp, {"gradients": 0, "products": 0}
        eye = xp.eye(y.shape[0], dtype=y.dtype, device=y.device) / self.step
        floor = 10.0 * float(xp.finfo(y.dtype).eps)
        phi, r, inside = self._residual(x, y)
        for _ in range(SOLVES):
            size = float(linalg.norm(r, xp=xp))
            counts["gradients"] += 1
            scale = float(linalg.norm(self.Q, xp=xp)) * (1.0 + float(linalg.norm(y, xp=xp)))
            if size <= max(tol, floor * scale):
                break
            H = xp.where(inside[:, None], self.Q, eye)
            trial = y - linalg.solve(H, r, xp=xp, check=False)
            ahead = self._residual(x, trial)
            if float(linalg.norm(ahead[1], xp=xp)) > 0.5 * size:
                trial = self.project_y(y - self.step * phi)
                ahead = self._residual(x, trial)
            y, (phi, r, inside) = trial, ahead
        return y, counts

    def lipschitz(self, x: Array) -> float:
        """The inverse of the step with which the followers' iteration contracts."""
        return 1.0 / self.step

    def mu(self, x: Array) -> float | None:
        """Least eigenvalue of the symmetric part of Q, where y is free."""
        free = self.low == -float("inf") and self.high == float("inf")
        return self._mu if free else None

    def response(self, x: Array) -> Array:
        """The equilibrium at x, to rounding."""
        return self.solve_inner(x, self.start()[1], 0.0)[0]

    def solution(self) -> Array:
        """The best x, where y is free: ``(J'J + rho I)^-1 J'(target - y(0))`` with ``J = -Q^-1 B``."""
        if self.mu(self.start()[0]) is None:
            raise check.error("problem", f"a box from {self.low} to {self.high}", "y without bounds")
        J = -linalg.solve(self.Q, self.B, xp=self.xp)
        y0 = -linalg.solve(self.Q, self.c, xp=self.xp)
        eye = self.xp.eye(J.shape[1], dtype=J.dtype, device=J.device)
        return linalg.solve(J.T @ J + self.rho * eye, J.T @ (self.target - y0), xp=self.xp)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "EquilibriumProblem":
        data = (move(getattr(self, name)) for name in PARTS)
        return EquilibriumProblem(*data, self.rho, low=self.low, high=self.high, step=self.step)


class StackelbergProblem(EquilibriumProblem):
    r"""A duopoly: the leader sells the quantity x and knows how the follower answers with ``y >= 0``.

    The price is ``a - b (x + y)``, and a unit costs the leader ``c1`` and the follower ``c2``: the follower's answer
    solves the variational inequality of ``phi = -(a - b x - 2 b y - c2)``; ``F = -x (a - b (x + y) - c1)``.

    Parameters
    ----------
    a, b : float
        Price at quantity 0, and its slope; both > 0.
    c1, c2 : float
        Unit costs, at least 0.
    step : float, optional
        See `EquilibriumProblem`.
    like : array, optional
        Sets library, dtype and device.

    References
    ----------
    H. von Stackelberg, Marktform und Gleichgewicht, 1934.

    Examples
    --------
    >>> from optlib.bilevel import StackelbergProblem
    >>> problem = StackelbergProblem()
    >>> x = problem.solution()
    >>> x, problem.response(x), -float(problem.outer(x, problem.response(x))[0])
    (array([5.]), array([1.5]), 12.5)
    """

    def __init__(
        self, a: float = 10.0, b: float = 1.0, c1: float = 1.0, c2: float = 2.0, *, step: float | None = None,
        like: Array | None = None,
    ) -> None:  # fmt: skip
        a, b = (check.scalar(name, value, low=0.0, low_open=True) for name, value in (("a", a), ("b", b)))
        c1, c2 = (check.scalar(name, value, low=0.0) for name, value in (("c1", c1), ("c2", c2)))
        self.market = a, b, c1, c2
        host = [[2.0 * b]], [[b]], [c2 - a], [0.0]
        like = check.template("like", like)
        data = (asarray_like(u, like) for u in host)
        super().__init__(*data, 0.0, low=0.0, step=step)

    @classmethod
    def random(cls, *, rng: Any = 0, like: Array | None = None, **options: Any) -> "StackelbergProblem":
        """A random market in which both sell."""
        a, b, c1, c2 = random.as_generator(rng).uniform((8.0, 0.5, 0.0, 0.0), (12.0, 2.0, 2.0, 2.0))
        return cls(a, b, c1, c2, like=like, **options)

    def bounds(self) -> tuple[float, float]:
        """Quantities at which the price is not negative."""
        return 0.0, self.market[0] / self.market[1]

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F, minus the leader's profit."""
        a, b, c1, _ = self.market
        margin = a - b * (x + y) - c1
        return -self.xp.sum(x * margin), b * x - margin, b * x

    def solution(self) -> Array:
        """The best quantity: against a follower who sells, or the best one that keeps him away."""
        a, b, c1, c2 = self.market
        away = max(0.0, (a - c2) / b)  # from which on the follower sells nothing
        candidates = min(max((a - 2.0 * c1 + c2) / (2.0 * b), 0.0), away), max((a - c1) / (2.0 * b), away)
        xs = [asarray_like([v], self.c) for v in candidates]
        return min(xs, key=lambda x: float(self.outer(x, self.response(x))[0]))

    def _map_arrays(self, move: Callable[[Array], Array]) -> "StackelbergProblem":
        return StackelbergProblem(*self.market, step=self.step, like=move(self.c))
