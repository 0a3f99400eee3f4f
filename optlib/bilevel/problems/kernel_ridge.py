"""Kernel ridge regression with a Gaussian kernel: penalty and width tuned on held-out samples, or on all folds."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, Portable, asarray_like, linalg, random, to_numpy
from optlib.bilevel.problem import Point, Problem
from optlib.bilevel.problems.samples import moderate

LEAST, MOST = 1.5e-8, 1e3  # box of the penalty, the former a sample: below it values are rounding
WIDTH = 6.0  # box of log gamma: this much to either side of its start
START = -2.0  # of the log penalty
BLOCK = 2**22  # entries of the blocks in which distances are computed


def squared_distances(A: Array, B: Array, *, xp: Any) -> Array:
    """Squared distances between the rows of two arrays, block by block of rows.

    Parameters
    ----------
    A : array, shape (n, d)
        Rows.
    B : array, shape (m, d)
        Rows.
    xp : module
        The array namespace.

    Returns
    -------
    array, shape (n, m)
    """
    centre = xp.mean(B, axis=0)  # what cancels is then small
    A, B = A - centre, B - centre
    squares, rows, blocks = xp.sum(B * B, axis=1), max(1, BLOCK // B.shape[0]), []
    for start in range(0, A.shape[0], rows):
        part = A[start : min(start + rows, A.shape[0]), :]
        D = xp.sum(part * part, axis=1)[:, None] + squares - 2.0 * (part @ B.T)
        blocks.append(xp.where(D > 0, D, xp.zeros_like(D)))
    return xp.concat(blocks, axis=0)


class _Kernel(Portable):
    """The kernel at one x: ``G = s K s + lambda I`` and its derivative in log gamma, for weights ``s^2``."""

    def __init__(self, x: Array, D: Array, s: Array, xp: Any) -> None:
        self.penalty, self.gamma = xp.exp(x[0]), xp.exp(x[1])
        self.D, self.s, self.xp = D, s, xp
        self.K = xp.exp(-self.gamma * D)

    def product(self, v: Array) -> Array:
        """``G v``, for vectors or columns."""
        s = self.s if v.ndim == 1 else self.s[:, None]
        return s * (self.K @ (s * v)) + self.penalty * v

    def change(self, v: Array) -> Array:
        """``dG / d log gamma v``."""
        s = self.s if v.ndim == 1 else self.s[:, None]
        return -self.gamma * s * ((self.D * self.K) @ (s * v))

    @property
    def matrix(self) -> Array:
        """The matrix G."""
        eye = self.xp.eye(self.s.shape[0], dtype=self.K.dtype, device=self.K.device)
        return self.s[:, None] * self.K * self.s + self.penalty * eye

    @cached_property
    def factor(self) -> Array:
        """Its Cholesky factor."""
        return linalg.cholesky(self.matrix, xp=self.xp, check=False)


class KernelRidgeProblem(Problem):
    r"""Ridge regression with the kernel ``exp(-gamma |a - b|^2)``: ``x = (log lambda, log gamma)``, held-out samples.

    ``y`` solves ``(s K s + lambda I) y = s t`` with the roots s of the weights: it minimises
    ``f = 1/2 y'(s K s + lambda I) y - (s t)'y``. The model is ``b -> sum_i k(b, a_i) s_i y_i``, and F half the weighted
    sum of squares of its errors on the validation samples.

    Parameters
    ----------
    A : array, shape (n, d)
        Training samples.
    t : array, shape (n,)
        Their targets.
    V : array, shape (m, d)
        Validation samples.
    c : array, shape (m,)
        Their targets.
    train_weights, valid_weights : array, optional
        Weights >= 0 of the samples; a training sample of weight 0 is left out.

    Notes
    -----
    F depends on gamma also directly, through the kernel between training and validation samples.

    Cost: a Cholesky factor, ``n^3 / 3``, a value of x. Memory: three arrays (n, n) and two of shape (m, n).

    Where not to use it: beyond some thousand samples; and to leave out whole folds, `KernelRidgeFoldsProblem` takes one
    factor for all of them.

    Examples
    --------
    >>> from optlib.bilevel import KernelRidgeProblem, tune
    >>> res = tune(KernelRidgeProblem.random(40, 2, rng=0))
    >>> bool(res.fun < 2.0)
    True
    """

    def __init__(
        self, A: Any, t: Any, V: Any, c: Any, *, train_weights: Any = None, valid_weights: Any = None
    ) -> None:  # fmt: skip
        named = {"A": A, "t": t, "V": V, "c": c}
        self.xp, device, dtype = check.common(**named)
        A = check.array("A", A, xp=self.xp, ndim=2, dtype=dtype, device=device)
        if A.shape[0] == 0:
            raise check.error("A", f"shape {tuple(A.shape)}", "at least one sample")
        V = check.array("V", V, xp=self.xp, ndim=2, dtype=dtype, device=device)
        if V.shape[0] == 0 or V.shape[1] != A.shape[1]:
            raise check.error("V", f"shape {tuple(V.shape)}", f"at least one sample of {A.shape[1]} features, as A has")
        self.A, self.V = A, V
        self.t, self.c, self.s, self.valid_weights = (
            self._column(name, given, n, like)
            for name, given, n, like in (
                ("t", t, A.shape[0], A), ("c", c, V.shape[0], A), ("train_weights", train_weights, A.shape[0], A),
                ("valid_weights", valid_weights, V.shape[0], A),
            )
        )  # fmt: skip
        self.s = self.xp.sqrt(self.s)
        self._memo: tuple[Any, _Kernel] | None = None

    def _column(self, name: str, given: Any, n: int, like: Array) -> Array:
        if given is None and "weights" in name:
            return self.xp.ones((n,), dtype=like.dtype, device=like.device)
        column = check.array(
            name, given, xp=self.xp, shape=(n,), dtype=like.dtype, device=like.device, nonnegative="weights" in name
        )
        if "weights" not in name:
            moderate(name, column, self.xp)
        return column

    @classmethod
    def random(cls, n: int = 12, d: int = 2, *, rng: Any = 0, like: Array | None = None) -> "KernelRidgeProblem":
        """A smooth function of normal points, with noise."""
        A, t, V, c = _smooth(n, d, rng, like)
        return cls(A, t, V, c)

    @cached_property
    def _distances(self) -> Array:
        return squared_distances(self.A, self.A, xp=self.xp)

    @cached_property
    def _cross_distances(self) -> Array:
        return squared_distances(self.V, self.A, xp=self.xp)

    def _kernel(self, x: Array) -> _Kernel:
        """The kernel at x; that of the last x is kept."""
        key = tuple(to_numpy(x).tolist())
        if self._memo is None or self._memo[0] != key:
            self._memo = key, _Kernel(x, self._distances, self.s, self.xp)
        return self._memo[1]

    @property
    def n_valid(self) -> int:
        """Number of validation samples."""
        return self.V.shape[0]

    def start(self) -> tuple[Array, Array]:
        """The penalty ``exp(-2)``, gamma 2 over the mean squared distance, and ``y = 0``."""
        xp = self.xp
        spread = 2.0 * float(xp.sum((self.A - xp.mean(self.A, axis=0)) ** 2)) / self.A.shape[0]
        return asarray_like(np.array([START, math.log(2.0 / spread) if spread > 0 else 0.0]), self.A), xp.zeros_like(
            self.t
        )

    def bounds(self) -> tuple[Array, Array]:
        """Box of both; with less penalty the values would be lost in rounding."""
        n, eps = self.A.shape[0], float(self.xp.finfo(self.A.dtype).eps)
        least = math.log(n * max(LEAST, 100.0 * eps))
        width = float(self.start()[0][1])
        low, high = (least, width - WIDTH), (math.log(MOST), width + WIDTH)
        return asarray_like(np.array(low), self.A), asarray_like(np.array(high), self.A)

    # -- oracles --

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        xp, k, b = self.xp, self._kernel(x), self.s * self.t
        Gy = k.product(y)
        grad_x = xp.stack([0.5 * k.penalty * xp.sum(y * y), 0.5 * xp.sum(y * k.change(y))])
        return 0.5 * xp.sum(y * Gy) - xp.sum(b * y), grad_x, Gy - b

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F; the one in gamma is the direct term."""
        xp, D, k = self.xp, self._cross_distances, self._kernel(x)
        K, a = xp.exp(-k.gamma * D), self.s * y
        r = K @ a - self.c
        weighted = self.valid_weights * r
        direct = -k.gamma * xp.sum(weighted * ((D * K) @ a))
        grad_x = xp.stack([xp.zeros_like(direct), direct])
        return 0.5 * xp.sum(weighted * r), grad_x, self.s * (K.T @ weighted)

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point."""
        xp, k = self.xp, self._kernel(x)
        first, second = k.penalty * y, k.change(y)
        return Point(
            hvp=k.product,
            cross_vjp=lambda v: xp.stack([xp.sum(first * v), xp.sum(second * v)]),
            cross_jvp=lambda u: u[0] * first + u[1] * second,
        )

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with ``grad_yy F``."""
        K = self.xp.exp(-self._kernel(x).gamma * self._cross_distances)
        return self.s * (K.T @ (self.valid_weights * (K @ (self.s * v))))

    def cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with ``grad_xy F``: zero for the penalty."""
        xp, D, gamma = self.xp, self._cross_distances, self._kernel(x).gamma
        K = xp.exp(-gamma * D)
        change = lambda u: -gamma * ((D * K) @ (self.s * u))  # noqa: E731
        r, Kv = K @ (self.s * y) - self.c, K @ (self.s * v)
        width = xp.sum(self.valid_weights * (r * change(v) + Kv * change(y)))
        return xp.stack([xp.zeros_like(width), width])

    def hessian(self, x: Array, y: Array) -> Array:
        """The matrix ``s K s + lambda I``."""
        return self._kernel(x).matrix

    def solve_inner(self, x: Array, y: Array, tol: float) -> tuple[Array, dict[str, int]]:
        """The solution, by the Cholesky factor."""
        return linalg.cho_solve(self._kernel(x).factor, self.s * self.t, xp=self.xp), {}

    def solve_adjoint(self, x: Array, y: Array, rhs: Array) -> Array:
        """The adjoint, by the same factor."""
        return linalg.cho_solve(self._kernel(x).factor, rhs, xp=self.xp)

    def mu(self, x: Array) -> float:
        """The penalty."""
        return float(self.xp.exp(x[0]))

    def lipschitz(self, x: Array) -> float:
        """The largest row sum."""
        k = self._kernel(x)
        return float(self.xp.max(self.s * (k.K @ self.s)) + k.penalty)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "KernelRidgeProblem":
        return KernelRidgeProblem(
            *(move(u) for u in (self.A, self.t, self.V, self.c)), train_weights=move(self.s**2),
            valid_weights=move(self.valid_weights),
        )  # fmt: skip


class KernelRidgeFoldsProblem(KernelRidgeProblem):
    r"""Kernel ridge regression tuned on the exact error of K folds, from one factor for all of them.

    ``F(x) = 1/K sum_k 1/2 sum_(i in S_k) w_i (t_i - m_k(a_i))^2``, where the model ``m_k`` was fitted without the
    samples of fold ``S_k``; ``y`` is the model of all samples, of which F is independent.

    Parameters
    ----------
    A : array, shape (n, d)
        Samples.
    t : array, shape (n,)
        Their targets.
    folds : sequence of arrays of int
        The places of the samples to leave out together; single ones for leave-one-out.
    weights : array, shape (n,), optional
        Weights >= 0 of the samples.

    Notes
    -----
    With ``P = (s K s + lambda I)^-1`` and ``y = P (s t)``, the weighted residuals of fold S are ``z = P_SS^-1 y_S``.
    With ``g = P_SS^-1 z`` a change ``dG`` of the matrix changes ``1/2 |z|^2`` by
    ``(P_:S g)' dG (P_:S z - y)``.

    Cost: an inverse, about ``3 n^3``, a value of x, whatever the number of folds; models fitted one by one would take
    ``K n^3 / 3``. Memory: five arrays (n, n).

    References
    ----------
    S. An, W. Liu, S. Venkatesh, Fast cross-validation algorithms for least squares support vector machine and kernel
    ridge regression, Pattern Recognition 2007 (the residuals; the derivative is this library's own).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import KernelRidgeFoldsProblem, tune
    >>> A = np.linspace(-3.0, 3.0, 40)[:, None]
    >>> res = tune(KernelRidgeFoldsProblem(A, np.sin(A[:, 0]), [np.arange(k, 40, 5) for k in range(5)]))
    >>> bool(res.fun < 1e-4)
    True
    """

    def __init__(self, A: Any, t: Any, folds: Sequence[Any], *, weights: Any = None) -> None:
        super().__init__(A, t, A, t, train_weights=weights)
        n = self.A.shape[0]
        what = "a list of arrays: the places of the samples of each fold"
        self.folds = [np.asarray(to_numpy(fold)) for fold in check.sequence("folds", folds, what)]
        if not self.folds:
            raise check.error("folds", "no folds", "at least one")
        for k, fold in enumerate(self.folds):
            right = fold.ndim == 1 and fold.size and np.issubdtype(fold.dtype, np.integer)
            if not right or fold.min() < 0 or fold.max() >= n or np.unique(fold).size != fold.size:
                raise check.error(
                    "folds", f"fold {k}: {fold.ravel().tolist()[:5]}", f"distinct places from 0 to {n - 1}"
                )
            if fold.size == n:
                raise check.error("folds", f"fold {k} with all {n} samples", "some samples to fit")

    @classmethod
    def random(
        cls, n: int = 12, d: int = 2, *, rng: Any = 0, like: Array | None = None, folds: int = 3
    ) -> "KernelRidgeFoldsProblem":
        """A smooth function of normal points, with noise, in folds."""
        A, t, _, _ = _smooth(n, d, rng, like)
        return cls(A, t, [np.arange(k, n, folds) for k in range(folds)])

    @property
    def n_valid(self) -> int:
        """Number of samples that are left out by some fold."""
        return sum(fold.size for fold in self.folds)

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        xp, k, K = self.xp, self._kernel(x), len(self.folds)
        eye = xp.eye(self.A.shape[0], dtype=y.dtype, device=self.A.device)
        P = linalg.cho_solve(k.factor, eye, xp=xp)
        u = P @ (self.s * self.t)
        left, right, value = [], [], xp.zeros_like(u[0])
        for fold in self.folds:
            S = xp.asarray(fold, device=self.A.device)
            columns = xp.take(P, S, axis=1)
            block = linalg.cholesky(xp.take(columns, S, axis=0), xp=xp, check=False)
            z = linalg.cho_solve(block, xp.take(u, S), xp=xp)
            value = value + 0.5 * xp.sum(z * z)
            left.append(columns @ linalg.cho_solve(block, z, xp=xp))
            right.append(columns @ z - u)
        left, right = xp.stack(left, axis=1), xp.stack(right, axis=1)
        grad_x = xp.stack([k.penalty * xp.sum(left * right), xp.sum(left * k.change(right))])
        return value / K, grad_x / K, xp.zeros_like(y)

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Zero: F does not depend on y."""
        return self.xp.zeros_like(y)

    def cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Zero, likewise."""
        return self.xp.zeros_like(x)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "KernelRidgeFoldsProblem":
        return KernelRidgeFoldsProblem(move(self.A), move(self.t), self.folds, weights=move(self.s**2))


def _smooth(n: int, d: int, rng: Any, like: Array | None) -> list[Array]:
    rng = random.as_generator(rng)
    A, V = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    t, c = (np.sin(2.0 * U[:, 0]) + 0.1 * rng.normal(size=n) for U in (A, V))
    return [u if like is None else asarray_like(u, like) for u in (A, t, V, c)]
