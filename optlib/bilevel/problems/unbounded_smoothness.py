"""A problem whose hyper-objective has no Lipschitz continuous gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, random
from optlib.bilevel.problem import Point, Problem


class CoshProblem(Problem):
    r"""``f = 1/2 (y - A x)' diag(h) (y - A x)`` and ``F = sum_k (cosh y_k - 1)``, both seen through noise.

    ``Phi(x) = sum_k (cosh (A x)_k - 1)``: its curvature grows with its gradient, so that no constant step is safe far
    away from the solution ``x = 0``. As sums, f and F have the terms ``f + h'(y - A x) e_i`` and ``F + y'e_j`` with
    noise of the mean 0.

    Parameters
    ----------
    A : array, shape (d, p)
        Response ``y = A x``.
    h : array, shape (d,)
        Curvatures > 0 of the inner problem.
    inner_noise, outer_noise : arrays, shapes (n, d) and (m, d), optional
        The ``e_i`` and ``e_j``, whose columns sum to 0.

    References
    ----------
    J. Hao, X. Gong, M. Liu, Bilevel optimization under unbounded smoothness, ICLR 2024 (the class of functions).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import CoshProblem, hypergradient
    >>> problem = CoshProblem(np.eye(2), np.array([1.0, 2.0]))
    >>> bool(np.allclose(hypergradient(problem, np.array([1.0, 8.0])).gradient, np.sinh([1.0, 8.0])))
    True
    """

    def __init__(self, A: Any, h: Any, *, inner_noise: Any = None, outer_noise: Any = None) -> None:
        self.xp, device, dtype = check.common(A=A, h=h, inner_noise=inner_noise, outer_noise=outer_noise)
        self.A = check.array("A", A, xp=self.xp, ndim=2, dtype=dtype, device=device)
        d = self.A.shape[0]
        self.h = check.array("h", h, xp=self.xp, shape=(d,), nonnegative=True, dtype=dtype, device=device)
        self._curvature = float(self.xp.min(self.h)), float(self.xp.max(self.h))
        if not self._curvature[0] > 0.0:
            raise check.error("h", "an entry 0", "numbers > 0")
        noises = []
        for name, noise in (("inner_noise", inner_noise), ("outer_noise", outer_noise)):
            if noise is not None:
                noise = check.array(name, noise, xp=self.xp, shape=(None, d), dtype=dtype, device=device)
                size = 1e-4 * float(self.xp.sum(self.xp.abs(noise)))
                if float(self.xp.max(self.xp.abs(self.xp.sum(noise, axis=0)))) > size:
                    raise check.error(name, "columns with another sum", "columns that sum to 0", "subtract their means")
            noises.append(noise)
        self.inner_noise, self.outer_noise = noises
        self.n_inner, self.n_outer = (None if noise is None else noise.shape[0] for noise in noises)

    @classmethod
    def random(
        cls, d: int = 5, *, n: int = 200, noise: float = 0.1, rng: Any = 0, like: Array | None = None
    ) -> "CoshProblem":
        """A rotation with curvatures 1 to 3, and normal noise in n terms of each level."""
        rng = random.as_generator(rng)
        parts = [np.linalg.qr(rng.normal(size=(d, d)))[0], np.linspace(1.0, 3.0, d)]
        for _ in range(2):
            e = noise * rng.normal(size=(n, d))
            parts.append(e - e.mean(axis=0))
        A, h, e, w = (u if like is None else asarray_like(u, like) for u in parts)
        return cls(A, h, inner_noise=e, outer_noise=w)

    def start(self) -> tuple[Array, Array]:
        """All hyperparameters 1, and ``y = 0``."""
        A, xp = self.A, self.xp
        return xp.ones((A.shape[1],), dtype=A.dtype, device=A.device), xp.zeros_like(self.h)

    def _mean(self, noise: Array | None, idx: Array | None) -> Array:
        if noise is None or idx is None:
            return self.xp.zeros_like(self.h)
        return self.xp.mean(self.xp.take(noise, idx, axis=0), axis=0)

    def inner(self, x: Array, y: Array, idx: Array | None = None) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        far, e = y - self.A @ x, self._mean(self.inner_noise, idx)
        grad_y = self.h * (far + e)
        return self.xp.sum(self.h * far * (0.5 * far + e)), -self.A.T @ grad_y, grad_y

    def outer(self, x: Array, y: Array, idx: Array | None = None) -> tuple[Array, Array, Array]:
        """Value and gradients of F, which does not depend on x."""
        xp, e = self.xp, self._mean(self.outer_noise, idx)
        half = xp.sinh(0.5 * y)
        return xp.sum(2.0 * half * half + e * y), xp.zeros_like(x), xp.sinh(y) + e

    def at(self, x: Array, y: Array, idx: Array | None = None) -> Point:
        """Products, the same at all points and for all samples."""
        return Point(
            hvp=lambda v: self.h * v,
            cross_vjp=lambda v: -self.A.T @ (self.h * v),
            cross_jvp=lambda u: -self.h * (self.A @ u),
        )

    def mu(self, x: Array) -> float:
        """Least curvature."""
        return self._curvature[0]

    def lipschitz(self, x: Array) -> float:
        """Largest curvature."""
        return self._curvature[1]

    def majorant(self, x: Array, batch: int | None = None) -> Array:
        """The curvatures, which are those of each sample."""
        return self.h

    def hessian(self, x: Array, y: Array) -> Array:
        """The diagonal matrix of curvatures."""
        return self.h[:, None] * self.xp.eye(self.h.shape[0], dtype=self.h.dtype, device=self.h.device)

    def value(self, x: Array) -> Array:
        """The hyper-objective in closed form."""
        half = self.xp.sinh(0.5 * (self.A @ x))
        return self.xp.sum(2.0 * half * half)

    def solution(self) -> Array:
        """The minimiser 0."""
        return self.xp.zeros_like(self.A[0, :])

    def _map_arrays(self, move: Callable[[Array], Array]) -> "CoshProblem":
        noises = (None if u is None else move(u) for u in (self.inner_noise, self.outer_noise))
        inner, outer = noises
        return CoshProblem(move(self.A), move(self.h), inner_noise=inner, outer_noise=outer)
