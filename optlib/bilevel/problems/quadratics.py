"""Quadratic problems whose hyper-objective is known in closed form."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, linalg, random
from optlib.bilevel.problem import Constants, Point, Problem


class QuadraticProblem(Problem):
    r"""Two quadratics: ``f = 1/2 y'H y + 1/2 x'G x + x'B y + l'y`` and ``F`` of the same form.

    Parameters
    ----------
    H : array, shape (d, d)
        Inner Hessian, symmetric positive definite.
    B : array, shape (p, d)
        Coupling of the inner problem.
    l : array, shape (d,)
        Linear term of the inner problem.
    outer_yy, outer_xx, outer_xy : arrays, shapes (d, d), (p, p), (p, d)
        Quadratic terms of F.
    outer_y, outer_x : arrays, shapes (d,) and (p,)
        Its linear terms.

    Examples
    --------
    >>> from optlib.bilevel import QuadraticProblem, hypergradient
    >>> problem = QuadraticProblem.random(4, 2, rng=0)
    >>> x = problem.solution()
    >>> bool(abs(hypergradient(problem, x, tol=1e-12).gradient).max() < 1e-9)
    True
    """

    def __init__(
        self, H: Any, B: Any, l: Any, outer_yy: Any, outer_xx: Any, outer_xy: Any, outer_y: Any, outer_x: Any,
    ) -> None:  # fmt: skip
        named = {
            "H": H, "B": B, "l": l, "outer_yy": outer_yy, "outer_xx": outer_xx, "outer_xy": outer_xy,
            "outer_y": outer_y, "outer_x": outer_x,
        }  # fmt: skip
        self.xp, device, dtype = check.common(**named)
        B = check.array("B", B, xp=self.xp, ndim=2, dtype=dtype, device=device)
        p, d = B.shape
        shapes = {
            "H": (d, d), "B": (p, d), "l": (d,), "outer_yy": (d, d), "outer_xx": (p, p), "outer_xy": (p, d),
            "outer_y": (d,), "outer_x": (p,),
        }  # fmt: skip
        self.parts = {
            name: check.array(name, value, xp=self.xp, shape=shapes[name], dtype=dtype, device=device)
            for name, value in named.items()
        }
        self.H, self.B, self.l = (self.parts[name] for name in ("H", "B", "l"))
        values, _ = linalg.eigh(self.H, xp=self.xp)
        self._curvature = float(values[0]), float(values[-1])
        if not self._curvature[0] > 0.0:
            raise check.error(
                "H", f"a matrix with the eigenvalue {self._curvature[0]:.3g}", "a positive definite matrix"
            )

    @classmethod
    def random(
        cls, d: int, p: int, *, condition: float = 10.0, rng: Any = 0, like: Array | None = None
    ) -> "QuadraticProblem":
        """Random matrices whose hyper-objective is strongly convex."""
        rng = random.as_generator(rng)

        def definite(k: int) -> np.ndarray:
            Q = np.linalg.qr(rng.normal(size=(k, k)))[0]
            return Q * np.geomspace(1.0, condition, k) @ Q.T

        H, B, yy, xy = definite(d), rng.normal(size=(p, d)), definite(d), rng.normal(size=(p, d))
        J = -np.linalg.solve(H, B.T)
        cross = xy @ J
        least = np.linalg.eigvalsh(cross + cross.T + J.T @ yy @ J)[0]
        xx = definite(p) + max(0.0, -least) * np.eye(p)
        parts = [H, B, rng.normal(size=d), yy, xx, xy, rng.normal(size=d), rng.normal(size=p)]
        return cls(*(u if like is None else asarray_like(u, like) for u in parts))

    def start(self) -> tuple[Array, Array]:
        """Zeros."""
        return self.xp.zeros_like(self.parts["outer_x"]), self.xp.zeros_like(self.l)

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        Hy, By = self.H @ y, self.B @ y
        return 0.5 * (y @ Hy) + x @ By + self.l @ y, By, Hy + self.B.T @ x + self.l

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        p = self.parts
        grad_y = p["outer_yy"] @ y + p["outer_xy"].T @ x + p["outer_y"]
        grad_x = p["outer_xx"] @ x + p["outer_xy"] @ y + p["outer_x"]
        value = 0.5 * (grad_y @ y + grad_x @ x + p["outer_y"] @ y + p["outer_x"] @ x)  # each cross term once
        return value, grad_x, grad_y

    def at(self, x: Array, y: Array) -> Point:
        """Products, the same at all points."""
        return Point(hvp=lambda v: self.H @ v, cross_vjp=lambda v: self.B @ v, cross_jvp=lambda u: self.B.T @ u)

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with the outer Hessian."""
        return self.parts["outer_yy"] @ v

    def cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with the outer coupling."""
        return self.parts["outer_xy"] @ v

    def hessian(self, x: Array, y: Array) -> Array:
        """The matrix H."""
        return self.H

    def mu(self, x: Array) -> float:
        """Least eigenvalue of H."""
        return self._curvature[0]

    def lipschitz(self, x: Array) -> float:
        """Largest eigenvalue of H."""
        return self._curvature[1]

    def lipschitz_outer(self, x: Array) -> float:
        """Norm of the outer Hessian."""
        return float(linalg.svd(self.parts["outer_yy"], xp=self.xp)[1][0])

    def constants(self, x: Array, y: Array) -> Constants:
        """Norms of the matrices."""
        norms = {name: float(linalg.svd(self.parts[name], xp=self.xp)[1][0]) for name in ("B", "outer_yy", "outer_xy")}
        return Constants(norms["B"], 0.0, 0.0, norms["outer_yy"], norms["outer_xy"])

    def response(self, x: Array) -> Array:
        """The inner solution ``-H^-1 (B'x + l)``."""
        return -linalg.solve(self.H, self.B.T @ x + self.l, xp=self.xp)

    def solution(self) -> Array:
        """The minimiser of Phi."""
        p = self.parts
        J = -linalg.solve(self.H, self.B.T, xp=self.xp)
        cross = p["outer_xy"] @ J
        matrix = p["outer_xx"] + cross + cross.T + J.T @ p["outer_yy"] @ J
        y0 = self.response(self.xp.zeros_like(p["outer_x"]))
        return -linalg.solve(
            matrix, p["outer_x"] + p["outer_xy"] @ y0 + J.T @ (p["outer_yy"] @ y0 + p["outer_y"]), xp=self.xp
        )

    def _map_arrays(self, move: Callable[[Array], Array]) -> "QuadraticProblem":
        return QuadraticProblem(**{name: move(u) for name, u in self.parts.items()})


class LeastSquaresProblem(Problem):
    r"""Two least-squares problems: ``f = 1/2 |A y + B x - b|^2`` and ``F = 1/2 |V y - c|^2``.

    Parameters
    ----------
    A : array, shape (n, d)
        Inner design, of full column rank.
    B : array, shape (n, p)
        How x enters.
    b : array, shape (n,)
        Inner targets.
    V : array, shape (m, d)
        Outer design.
    c : array, shape (m,)
        Outer targets.

    References
    ----------
    M. S. Salehi et al., An adaptively inexact first-order method for bilevel optimization, SIAM J. Math. Data Sci.
    2025: the quadratic experiment.

    Examples
    --------
    >>> from optlib.bilevel import LeastSquaresProblem, hypergradient
    >>> problem = LeastSquaresProblem.random(30, 4, 3, rng=0)
    >>> bool(abs(hypergradient(problem, problem.solution(), tol=1e-12).gradient).max() < 1e-9)
    True
    """

    def __init__(self, A: Any, B: Any, b: Any, V: Any, c: Any) -> None:
        self.xp, device, dtype = check.common(A=A, B=B, b=b, V=V, c=c)
        A, B, V = (
            check.array(name, u, xp=self.xp, ndim=2, dtype=dtype, device=device)
            for name, u in (("A", A), ("B", B), ("V", V))
        )
        shapes = {
            "A": A.shape,
            "B": (A.shape[0], B.shape[1]),
            "b": A.shape[:1],
            "V": (V.shape[0], A.shape[1]),
            "c": V.shape[:1],
        }
        self.parts = {
            name: check.array(name, u, xp=self.xp, shape=tuple(shapes[name]), dtype=dtype, device=device)
            for name, u in {"A": A, "B": B, "b": b, "V": V, "c": c}.items()
        }
        self.A, self.B, self.b, self.V, self.c = self.parts.values()
        self.H = self.A.T @ self.A
        values, _ = linalg.eigh(self.H, xp=self.xp)
        self._curvature = float(values[0]), float(values[-1])
        if not self._curvature[0] > 10.0 * float(self.xp.finfo(dtype).eps) * self._curvature[1]:
            raise check.error("A", "a matrix of deficient column rank", "full column rank")
        self._norms = tuple(float(linalg.svd(u, xp=self.xp)[1][0]) for u in (self.B.T @ self.A, self.V))

    @classmethod
    def random(
        cls, n: int = 1000, d: int = 10, p: int = 10, *, rng: Any = 0, like: Array | None = None
    ) -> "LeastSquaresProblem":
        """Matrices with entries uniform on [0, 1], solvable up to a noise of 0.01: the sizes of the paper."""
        rng = random.as_generator(rng)
        V, A, B = rng.random((n, d)), rng.random((n, d)), rng.random((n, p))
        c = V @ rng.random(d) + 0.01 * rng.normal(size=n)
        b = A @ rng.random(d) + B @ rng.random(p) + 0.01 * rng.normal(size=n)
        return cls(*(u if like is None else asarray_like(u, like) for u in (A, B, b, V, c)))

    def start(self) -> tuple[Array, Array]:
        """Ones, and ``y = 0``."""
        return self.xp.ones_like(self.B[0, :]), self.xp.zeros_like(self.A[0, :])

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        r = self.A @ y + self.B @ x - self.b
        return 0.5 * (r @ r), self.B.T @ r, self.A.T @ r

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F, which does not depend on x."""
        r = self.V @ y - self.c
        return 0.5 * (r @ r), self.xp.zeros_like(x), self.V.T @ r

    def at(self, x: Array, y: Array) -> Point:
        """Products, the same at all points."""
        return Point(
            hvp=lambda v: self.A.T @ (self.A @ v), cross_vjp=lambda v: self.B.T @ (self.A @ v),
            cross_jvp=lambda u: self.A.T @ (self.B @ u),
        )  # fmt: skip

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product ``V'V v``."""
        return self.V.T @ (self.V @ v)

    def cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Zero."""
        return self.xp.zeros_like(x)

    def lipschitz_outer(self, x: Array) -> float:
        """Largest eigenvalue of ``V'V``."""
        return self._norms[1] ** 2

    def hessian(self, x: Array, y: Array) -> Array:
        """The matrix ``A'A``."""
        return self.H

    def mu(self, x: Array) -> float:
        """Least eigenvalue of ``A'A``."""
        return self._curvature[0]

    def lipschitz(self, x: Array) -> float:
        """Largest eigenvalue of ``A'A``."""
        return self._curvature[1]

    def constants(self, x: Array, y: Array) -> Constants:
        """Norms of the matrices."""
        return Constants(self._norms[0], 0.0, 0.0, self._norms[1] ** 2)

    def response(self, x: Array) -> Array:
        """The inner solution."""
        return linalg.solve(self.H, self.A.T @ (self.b - self.B @ x), xp=self.xp)

    def solution(self) -> Array:
        """The minimiser of Phi, of least norm if there are several."""
        J = linalg.solve(self.H, self.A.T @ self.B, xp=self.xp)
        return linalg.lstsq(self.V @ J, self.V @ self.response(self.xp.zeros_like(self.B[0, :])) - self.c, xp=self.xp)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "LeastSquaresProblem":
        return LeastSquaresProblem(**{name: move(u) for name, u in self.parts.items()})
