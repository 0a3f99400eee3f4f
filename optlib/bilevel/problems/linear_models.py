"""Ridge, logistic and multinomial logistic regression with logarithmic penalties, tuned on validation samples."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, linalg, random, to_numpy
from optlib.backend.namespace import asarray_on
from optlib.bilevel.problem import Constants, Point, Problem
from optlib.bilevel.problems.classes import balanced, class_factors
from optlib.bilevel.problems.losses import (
    LOGISTIC,
    LOSSES,
    SOFTMAX,
    SQUARED,
    Local,
    Loss,
    batch_directions,
    batch_gradient,
    bend,
)
from optlib.bilevel.problems.samples import Part, levels, norm_squared, smoothness
from optlib.inner.newton import LEAST, Preconditioner, factored
from optlib.linop import LinearOperator

PENALTIES = ("scalar", "feature", "entry")
BOUNDS = (-12.0, 12.0)  # of logarithms of penalties
FACTOR = 1000  # largest number of unknowns for which a preconditioner is a factor of the whole matrix
DROPPED = 0.1  # of the mean curvature: samples with less are left out of it
BLOCKS = 10_000_000  # largest number of entries of the diagonal blocks of one


class LinearModelProblem(Problem):
    r"""A linear model with penalties ``1/2 sum_j exp(x_j) y_j^2``, tuned on the loss of validation samples.

    ``f(x, y) = sum_i w_i l(a_i' y, t_i) + 1/2 sum_j exp(x_j) y_j^2`` and ``F(y) = sum_i w_i l(v_i' y, c_i)``.
    Use `RidgeProblem`, `LogisticProblem` or `MultinomialProblem`.
    """

    loss: Loss

    def __init__(self, train: Part, valid: Part, penalty: str, intercept: bool, classes: int | None) -> None:
        self.train, self.valid, self.intercept, self.classes = train, valid, intercept, classes
        self.penalty = check.option("penalty", penalty, PENALTIES if classes else PENALTIES[:2])
        self.xp = train.A.xp
        d = train.A.shape[1]
        self.shape = (d,) if classes is None else (d, classes)  # of y
        ones = self.xp.ones(self.shape, dtype=train.A.dtype, device=train.A.device)
        self._mask = ones
        if intercept:
            last = self.xp.zeros((1, *self.shape[1:]), dtype=ones.dtype, device=train.A.device)
            self._mask = self.xp.concat([ones[:-1, ...], last], axis=0)
        self._stiffness = (1.0 - self._mask) * (0.5 / classes) if intercept and classes else 0.0
        self._known: dict[str, float] = {}
        self._squared: list[LinearOperator | None] = []

    # -- the penalty --

    def start(self) -> tuple[Array, Array]:
        """``x = 0`` (penalties 1) and ``y = 0``."""
        rows = self.shape[0] - self.intercept
        shape = {"scalar": (1,), "feature": (rows,), "entry": (rows, *self.shape[1:])}[self.penalty]
        zeros, like = self.xp.zeros, self.train.A
        return zeros(shape, dtype=like.dtype, device=like.device), zeros(
            self.shape, dtype=like.dtype, device=like.device
        )

    def bounds(self) -> tuple[float, float]:
        """Box of the log penalties."""
        return BOUNDS

    @property
    def n_inner(self) -> int:
        """Number of training samples."""
        return self.train.A.shape[0]

    @property
    def n_outer(self) -> int:
        """Number of validation samples."""
        return self.valid.A.shape[0]

    @property
    def n_valid(self) -> int:
        """Number of validation samples."""
        return self.valid.A.shape[0]

    @property
    def n_train(self) -> int:
        """Number of training samples."""
        return self.train.A.shape[0]

    def likelihood(self, y: Array) -> tuple[Array, Array, float]:
        """Mean loss of the training samples, its gradient, and its weight in f, the sum of the samples' weights."""
        if self.intercept:
            raise check.error("problem", "an intercept", "a problem without", "centre the columns")
        total = float(self.xp.sum(self.train.weights))
        value, grad = self._loss(self.train, y, None)
        return value / total, grad / total, total

    def tied(self) -> "LinearModelProblem":
        """The same problem with one common penalty."""
        made = object.__new__(type(self))
        LinearModelProblem.__init__(made, self.train, self.valid, "scalar", self.intercept, self.classes)
        return made

    def _spread(self, u: Array) -> Array:
        """From the shape of x to that of y; zero for the intercept."""
        xp = self.xp
        if self.penalty == "feature" and self.classes is not None:
            u = u[:, None]
        if self.intercept and self.penalty != "scalar":
            u = xp.concat([u, xp.zeros((1, *u.shape[1:]), dtype=u.dtype, device=self.train.A.device)], axis=0)
        return self._mask * u

    def _gather(self, z: Array) -> Array:
        """The adjoint of `_spread`."""
        z = self._mask * z
        if self.penalty == "scalar":
            return self.xp.reshape(self.xp.sum(z), (1,))
        z = z[:-1, ...] if self.intercept else z
        return self.xp.sum(z, axis=1) if self.penalty == "feature" and self.classes is not None else z

    def _gauge(self, y: Array) -> Array | float:
        """Gradient of ``(sum of the constants)^2 / 4C``: classes that move together are alike, this makes the sum 0."""
        if not (self.intercept and self.classes):
            return 0.0
        return self.xp.sum((1.0 - self._mask) * y) * self._stiffness

    # -- oracles --

    def inner(self, x: Array, y: Array, idx: Array | None = None) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        if idx is None or self.train.rows is None:
            return self.at(x, y, idx).inner()
        penalty = self._spread(self.xp.exp(x))
        value, grad_y = self._loss(self.train, y, idx)
        square, gauge = penalty * y * y, self._gauge(y)
        value = value + 0.5 * self.xp.sum(square + gauge * y)
        return value, 0.5 * self._gather(square), grad_y + penalty * y + gauge

    def outer(self, x: Array, y: Array, idx: Array | None = None) -> tuple[Array, Array, Array]:
        """Value and gradients of F, which does not depend on x."""
        value, grad_y = self._loss(self.valid, y, idx)
        return value, self.xp.zeros_like(x), grad_y

    def _loss(self, part: Part, y: Array, idx: Array | None) -> tuple[Array, Array]:
        """Weighted sum of the losses of samples, and its gradient."""
        xp = self.xp
        if idx is not None and part.rows is not None:
            losses, grad = batch_gradient(part.rows, part.t, part.weights, idx, y, LOSSES.index(self.loss), xp=xp)
            return part.factor(idx) * xp.sum(xp.take(part.weights, idx) * losses), part.factor(idx) * grad
        part = part.take(idx)
        local = self.loss.at(part.A._matvec(y), part.t, xp)
        return xp.sum(part.weights * local.value()), part.A._rmatvec(part.by_sample(local.first))

    def at(self, x: Array, y: Array, idx: Array | None = None) -> Point:
        """Products at a point: two products with A each for ``hvp``; the predictions ``A y`` are shared by all."""
        xp, part, penalty = self.xp, self.train.take(idx), self._spread(self.xp.exp(x))
        local = self.loss.at(part.A._matvec(y), part.t, xp)
        weighted, py = part.by_sample(local.scale), penalty * y

        def curve(v: Array) -> Array:
            if local.coupled:
                return part.A._rmatvec(bend(local, weighted, part.A._matvec(v), xp))
            return part.A._normal(weighted, v)

        def inner() -> tuple[Array, Array, Array]:
            square, gauge = py * y, self._gauge(y)
            value = xp.sum(part.weights * local.value()) + 0.5 * xp.sum(square + gauge * y)
            return value, 0.5 * self._gather(square), part.A._rmatvec(part.by_sample(local.first)) + py + gauge

        def diagonal() -> Array | None:
            own = weighted * (1.0 - local.scale) if local.coupled else weighted
            return None if self._squares() is None else self._squares()._rmatvec(own) + penalty + self._stiffness

        return Point(
            hvp=lambda v: curve(v) + penalty * v + self._gauge(v),
            cross_vjp=lambda v: self._gather(py * v),
            cross_jvp=lambda u: py * self._spread(u),
            inner=inner,
            diagonal=diagonal if idx is None else None,
        )

    def directions(self, x: Array, y: Array, q: Array, idx: Array | None = None) -> tuple[Array, Array, Array]:
        """Gradient in y and both products with q, in one pass over the samples."""
        part = self.train
        if idx is None or part.rows is None:
            local = self.at(x, y, idx)
            return local.inner()[2], local.hvp(q), local.cross_vjp(q)
        penalty, factor = self._spread(self.xp.exp(x)), part.factor(idx)
        grad, product, _ = batch_directions(
            part.rows, part.t, part.weights, idx, y, q, LOSSES.index(self.loss), xp=self.xp
        )
        grad, product = factor * grad + penalty * y + self._gauge(y), factor * product + penalty * q + self._gauge(q)
        return grad, product, self._gather(penalty * y * q)

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with ``grad_yy F``: two products with V."""
        part = self.valid
        curvature = self.loss.second(part.A._matvec(y), part.t, self.xp)
        return part.A._rmatvec(part.by_sample(curvature(part.A._matvec(v))))

    def cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Zero: F does not depend on x."""
        return self.xp.zeros_like(x)

    def hessian(self, x: Array, y: Array) -> Array:
        """The inner Hessian of the flattened y: a product ``A' D A`` for each class, and one of all classes."""
        local = self.loss.at(self.train.A._matvec(y), self.train.t, self.xp)
        return self._hessian(x, self.train.A.to_dense(), self.train.weights, local)

    def _hessian(self, x: Array, A: Array, weights: Array, local: Local) -> Array:
        """That of some samples, in the precision of A."""
        xp = self.xp
        penalty = xp.reshape(self._spread(xp.exp(x)) + xp.zeros_like(self._mask), (-1,))
        penalty = xp.astype(penalty, A.dtype)
        root = xp.sqrt(weights)[:, None] * A
        if not local.coupled:
            root = xp.sqrt(local.scale)[:, None] * root
            return root.T @ root + penalty[:, None] * xp.eye(
                penalty.shape[0], dtype=A.dtype, device=self.train.A.device
            )
        (n, d), C = A.shape, local.scale.shape[1]
        B = xp.reshape(root[:, :, None] * local.scale[:, None, :], (n, d * C))
        blocks = xp.reshape(root.T @ B, (d, d, C))  # of one class each
        eye = xp.eye(d, dtype=A.dtype, device=self.train.A.device)
        blocks = blocks + eye[:, :, None] * xp.reshape(penalty, (1, d, C))
        H = xp.reshape(-(B.T @ B), (d, C, d, C))
        for c in range(C):
            H[:, c, :, c] += blocks[:, :, c]
        H = xp.reshape(H, (d * C, d * C))
        if self.intercept:
            u = xp.astype(xp.reshape(self._stiffness, (-1,)), A.dtype)
            H = H + 2.0 * C * u[:, None] * u
        return H

    def _rough(self, x: Array, y: Array) -> Array:
        """The Hessian in single precision, without the samples that hardly curve."""
        xp, part = self.xp, self.train
        local = self.loss.at(part.A._matvec(y), part.t, xp)
        own = xp.sum(local.scale * (1.0 - local.scale), axis=1) if local.coupled else local.scale
        bend = part.weights * own
        index = xp.nonzero(bend > DROPPED * xp.mean(bend))[0]
        A, weights, scale = (
            xp.astype(xp.take(u, index, axis=0), xp.float32) for u in (part.A.to_dense(), part.weights, local.scale)
        )
        return self._hessian(x, A, weights, local._replace(scale=scale))

    def preconditioner(self, x: Array) -> Preconditioner | None:
        """A Cholesky factor of about H; for more unknowns of several classes the diagonal blocks, see `balanced`."""
        xp, size = self.xp, math.prod(self.shape)
        if size <= FACTOR:
            return factored(lambda y: self.hessian(x, y), size, lambda y: self._rough(x, y), xp=xp)
        if self.classes is None or self.train.rows is None or self.classes * self.shape[0] ** 2 > BLOCKS:
            return None
        penalty = self._spread(xp.exp(x)) + self._stiffness
        total = penalty + (self.classes - 1) * self._stiffness

        def make(y: Array) -> Array:
            local = self.loss.at(self.train.A._matvec(y), self.train.t, xp)
            weights = self.train.by_sample(local.scale * (1.0 - local.scale))
            return class_factors(self.train.A.to_dense(), weights, penalty, xp=xp)

        return Preconditioner(make, lambda factors: balanced(factors, total, xp=xp), max(self.shape[0] // 4, LEAST))

    def mu(self, x: Array) -> float | None:
        """Least penalty; unknown with an intercept, which has none."""
        return None if self.intercept else float(self.xp.exp(self.xp.min(x)))

    def lipschitz(self, x: Array) -> float:
        """Bound of the curvature: that of the loss times ``|A|^2``, and the largest penalty."""
        return self.curvature * self._norms("train", self.train.A, self.train.weights) + float(
            self.xp.exp(self.xp.max(x))
        )

    def majorant(self, x: Array, batch: int | None = None) -> Array:
        """Diagonal of a matrix above H, or above the Hessians of batches as their steps ask for."""
        name = f"batches of {batch}"
        if name not in self._known:
            norm = self._norms("train", self.train.A, self.train.weights)
            self._known[name] = self.curvature * smoothness(norm, self.train, batch)
        return self._known[name] + self._spread(self.xp.exp(x))

    def lipschitz_outer(self, x: Array) -> float:
        """Bound of the curvature of F."""
        return self.curvature * self._norms("valid", self.valid.A, self.valid.weights)

    def constants(self, x: Array, y: Array) -> Constants:
        """Constants of the error bound."""
        xp, top = self.xp, float(self.xp.exp(self.xp.max(x)))
        py = self._spread(xp.exp(x)) * y
        cross = float(linalg.norm(py, xp=xp) if self.penalty == "scalar" else xp.max(xp.abs(py)))
        if self.penalty == "feature" and self.classes is not None:
            cross = float(xp.max(linalg.norm(py, axis=-1, xp=xp)))
        ones = self.xp.ones_like(self.train.weights)
        longest = self._norms("rows", self.train.A, ones) ** 0.5  # no row is longer than the matrix
        change = self.third * self._norms("train", self.train.A, self.train.weights) * longest
        return Constants(cross, change, top, self.lipschitz_outer(x))

    def _norms(self, name: str, A: LinearOperator, weights: Array) -> float:
        if name not in self._known:
            self._known[name] = norm_squared(A, weights)
        return self._known[name]

    curvature, third = 1.0, 0.0  # largest second and third derivatives of the loss

    def _squares(self) -> LinearOperator | None:
        """The design with its entries squared."""
        if not self._squared:
            self._squared.append(self.train.A._squared())
        return self._squared[0]

    def _map_arrays(self, move: Callable[[Array], Array]) -> "LinearModelProblem":
        parts = [part.moved(move) for part in (self.train, self.valid)]
        made = object.__new__(type(self))
        LinearModelProblem.__init__(made, *parts, self.penalty, self.intercept, self.classes)
        return made


class RidgeProblem(LinearModelProblem):
    r"""Ridge regression: ``1/2 |A y - t|^2 + 1/2 sum_j exp(x_j) y_j^2``, tuned on ``1/2 |V y - c|^2``.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (n, d)
        Training samples.
    t : array, shape (n,)
        Their targets.
    V : array, sparse matrix or operator, shape (m, d)
        Validation samples.
    c : array, shape (m,)
        Their targets, alike.
    penalty : {"feature", "scalar"}
        One penalty a feature, or one for all.
    intercept : bool
        Whether y has one more entry, a constant without penalty.
    train_weights, valid_weights : array, optional
        Weights >= 0 of the samples.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import RidgeProblem, hypergradient
    >>> rng = np.random.default_rng(0)
    >>> A, V = rng.normal(size=(20, 4)), rng.normal(size=(20, 4))
    >>> problem = RidgeProblem(A, A @ np.ones(4), V, V @ np.ones(4), penalty="scalar")
    >>> hypergradient(problem, np.zeros(1)).gradient.shape
    (1,)
    """

    loss = SQUARED

    def __init__(
        self, A: Any, t: Any, V: Any, c: Any, *, penalty: str = "feature", intercept: bool = False,
        train_weights: Any = None, valid_weights: Any = None,
    ) -> None:  # fmt: skip
        def targets(name: str, goal: Any, op: LinearOperator, n: int) -> Array:
            return check.array(name, goal, xp=op.xp, shape=(n,), dtype=op.dtype, device=op.device)

        parts = levels(
            A, t, V, c, intercept=intercept, train_weights=train_weights, valid_weights=valid_weights, mean=False,
            targets=targets,
        )  # fmt: skip
        super().__init__(*parts, penalty, intercept, None)

    @classmethod
    def random(
        cls, n: int = 12, d: int = 5, *, rng: Any = 0, like: Array | None = None, **options: Any
    ) -> "RidgeProblem":
        """A small problem with normal data."""
        A, t, V, c = _regression(n, d, rng)
        return cls(*(_on(u, like) for u in (A, t, V, c)), **options)

    def regression(self) -> tuple[Array, Array]:
        """Dense design and targets of the training samples, times the roots of their weights."""
        if self.intercept:
            raise check.error("problem", "an intercept", "a problem without", "centre the columns and the targets")
        part = self.train
        root = self.xp.sqrt(part.weights)
        return root[:, None] * part.A.to_dense(), root * part.t


class LogisticProblem(LinearModelProblem):
    r"""Logistic regression: ``sum_i log(1 + exp(-t_i a_i'y)) + 1/2 sum_j exp(x_j) y_j^2``, tuned on the same loss.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (n, d)
        Training samples.
    t : array, shape (n,)
        Labels -1 and 1; both must occur in ``t``.
    V : array, sparse matrix or operator, shape (m, d)
        Validation samples.
    c : array, shape (m,)
        Their targets, alike.
    penalty, intercept, train_weights, valid_weights : optional
        See `RidgeProblem`.
    """

    loss, curvature, third = LOGISTIC, 0.25, 0.0963

    def __init__(
        self, A: Any, t: Any, V: Any, c: Any, *, penalty: str = "feature", intercept: bool = False,
        train_weights: Any = None, valid_weights: Any = None,
    ) -> None:  # fmt: skip
        def targets(name: str, goal: Any, op: LinearOperator, n: int) -> Array:
            labels = check.array(name, goal, xp=op.xp, shape=(n,), dtype=op.dtype, device=op.device)
            seen = set(np.unique(to_numpy(labels)).tolist())
            if not seen <= {-1.0, 1.0}:
                raise check.error(
                    name, f"labels {sorted(seen)[:5]}", "-1 and 1", "map them, e.g. 2 * t - 1 for 0 and 1"
                )
            if name == "t" and len(seen) < 2:
                raise check.error(name, f"labels {sorted(seen)} only", "samples of both classes")
            return labels

        parts = levels(
            A, t, V, c, intercept=intercept, train_weights=train_weights, valid_weights=valid_weights, mean=False,
            targets=targets,
        )  # fmt: skip
        super().__init__(*parts, penalty, intercept, None)

    @classmethod
    def random(
        cls, n: int = 12, d: int = 5, *, rng: Any = 0, like: Array | None = None, **options: Any
    ) -> "LogisticProblem":
        """A small problem with normal data."""
        A, t, V, c = _regression(n, d, rng)
        return cls(
            *(_on(u, like) for u in (A, np.sign(t - np.median(t)) + (t == np.median(t)), V, np.sign(c) + (c == 0))),
            **options,
        )


class MultinomialProblem(LinearModelProblem):
    r"""Multinomial logistic regression: mean cross entropy plus ``1/2 sum exp(X) Y^2``, tuned on the same loss.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (n, d)
        Training samples.
    t : array of int, shape (n,)
        Classes 0 .. C - 1; each must occur in ``t``.
    V : array, sparse matrix or operator, shape (m, d)
        Validation samples.
    c : array of int, shape (m,)
        Their targets, alike.
    penalty : {"feature", "scalar", "entry"}
        One penalty a feature, one for all, or one per feature and class.
    intercept, train_weights, valid_weights : optional
        See `RidgeProblem`.
    """

    loss, curvature, third = SOFTMAX, 0.5, 0.2722

    def __init__(
        self, A: Any, t: Any, V: Any, c: Any, *, penalty: str = "feature", intercept: bool = False,
        train_weights: Any = None, valid_weights: Any = None,
    ) -> None:  # fmt: skip
        seen = np.unique(to_numpy(check.array("t", t, xp=check.common(t=t)[0], ndim=1)))
        C = seen.size
        if C < 2 or not np.array_equal(seen, np.arange(C)):
            raise check.error("t", f"classes {seen[:5].tolist()}", "classes 0 .. C - 1 that all occur, at least two")

        def targets(name: str, goal: Any, op: LinearOperator, n: int) -> Array:
            labels = to_numpy(check.array(name, goal, xp=op.xp, shape=(n,), dtype=op.dtype, device=op.device))
            if not np.all(np.isin(labels, seen)):
                raise check.error(name, f"classes {np.setdiff1d(labels, seen)[:5].tolist()}", f"0 .. {C - 1}, as in t")
            hot = (labels[:, None] == np.arange(C)).astype(np.float64)
            return asarray_on(hot, xp=op.xp, dtype=op.dtype, device=op.device)

        parts = levels(
            A, t, V, c, intercept=intercept, train_weights=train_weights, valid_weights=valid_weights, mean=True,
            targets=targets,
        )  # fmt: skip
        super().__init__(*parts, penalty, intercept, C)

    @classmethod
    def random(
        cls, n: int = 15, d: int = 4, *, rng: Any = 0, like: Array | None = None, **options: Any
    ) -> "MultinomialProblem":
        """A small problem with three classes."""
        A, t, V, c = _regression(n, d, rng)
        classes = [
            np.where(np.arange(n) < 3, np.arange(n), np.searchsorted([-0.5, 0.5], u)).astype(float) for u in (t, c)
        ]
        return cls(*(_on(u, like) for u in (A, classes[0], V, classes[1])), **options)


def _regression(n: int, d: int, rng: Any) -> tuple[np.ndarray, ...]:
    rng = random.as_generator(rng)
    A, V, w = rng.normal(size=(n, d)), rng.normal(size=(n, d)), rng.normal(size=d)
    return A, A @ w + 0.3 * rng.normal(size=n), V, V @ w + 0.3 * rng.normal(size=n)


def _on(host: np.ndarray, like: Array | None) -> Array:
    return host if like is None else asarray_like(host, like)
