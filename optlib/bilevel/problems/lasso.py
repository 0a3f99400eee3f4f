"""Lasso and elastic net with logarithmic penalties, tuned on validation samples or on folds."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, asarray_like, linalg, random, scatter, to_numpy
from optlib.bilevel.problem import Point, Problem
from optlib.bilevel.problems.samples import norm_squared
from optlib.inner.coordinate_descent import RIDGE, ROUNDING, Fit, advance, begin
from optlib.inner.design import DenseColumns, Design, SparseColumns, definite_solve, make_samples
from optlib.linop import as_linear_operator

WIDTH = 12.0  # of the box, in logarithms, below the penalty from which on all coefficients are zero
ROUNDS = 200  # of an inner solve


class Fold(NamedTuple):
    """Training samples, and validation samples with the shares of their squared errors in the loss."""

    design: Design
    V: DenseColumns | SparseColumns
    c: Array
    shares: Array


class Piece(NamedTuple):
    """What `piecewise` asks of a problem with one penalty alpha: the loss and its derivatives in alpha, and the fits.

    Attributes
    ----------
    value, slope, curvature : float
        ``Phi``, and its first and second derivatives in alpha on the piece where signs and support do not change.
    y, g : array
        Solutions, and correlations of the features with their residuals, to begin the next call from.
    gap : float
        Largest duality gap of the fits, relative to the objective at 0.
    products : int
        Products with all of A.
    """

    value: float
    slope: float
    curvature: float
    y: Array
    g: Array
    gap: float
    products: int


class SparseModelProblem(Problem, ABC):
    r"""What `LassoProblem` and `ElasticNetProblem` share: the folds, the losses, and the active set.

    The solution is piecewise smooth in the penalties: on its support S with signs s,
    ``(A_S' A_S / n + l2) y_S = A_S' b / n - l1 s``. All derivatives are those of this piece.
    """

    smooth = False

    def __init__(
        self, A: Any, t: Any, V: Any, c: Any, *, penalty: str = "scalar", intercept: bool = False,
        train_weights: Any = None, valid_weights: Any = None,
    ) -> None:  # fmt: skip
        fold = one_fold(A, t, V, c, intercept=intercept, train_weights=train_weights, valid_weights=valid_weights)
        self._assemble([fold], penalty, True)

    def _assemble(self, folds: list[Fold], penalty: str, single: bool) -> None:
        self.folds, self.single = folds, single
        self.penalty = check.option("penalty", penalty, ("scalar", "feature"))
        self.xp, self.features = folds[0].design.xp, folds[0].design.shape[1]
        self._like = folds[0].design.means
        tops = [float(self.xp.max(self.xp.abs(f.design.columns.correlate(f.design.b)))) / f.design.shape[0]
                for f in folds if self.features]  # fmt: skip
        self.largest = max(tops, default=0.0) or 1.0

    @classmethod
    def _from(cls, folds: list[Fold], penalty: str, single: bool) -> Self:
        made = object.__new__(cls)
        made._assemble(folds, penalty, single)
        return made

    @classmethod
    def cross(
        cls, A: Any, t: Any, *, folds: Any = 5, penalty: str = "scalar", intercept: bool = False,
        sample_weight: Any = None, rng: Any = None,
    ) -> Self:  # fmt: skip
        """Cross-validation: every fold is predicted by a fit to the others; y has a row for each.

        Parameters
        ----------
        A, t : array
            Samples, dense or sparse, and targets.
        folds : int or sequence of pairs
            Number of folds, or pairs of indices (training, validation).
        penalty, intercept : optional
            As for the class.
        sample_weight : array, shape (n,), optional
            Weights of the samples, in fits and errors.
        rng : seed or Generator, optional
            Of the folds; None takes consecutive samples.

        Returns
        -------
        LassoProblem or ElasticNetProblem
        """
        parts = cross_folds(A, t, folds, intercept=intercept, sample_weight=sample_weight, rng=rng)
        return cls._from(parts, penalty, False)

    @classmethod
    def random(
        cls, n: int = 12, p: int = 6, *, folds: int | None = None, rng: Any = 0, like: Array | None = None,
        **options: Any,
    ) -> Self:  # fmt: skip
        """A small problem with normal data and a sparse solution."""
        rng = random.as_generator(rng)
        A, V = rng.normal(size=(2, n, p))
        truth = np.zeros(p)
        size = min(max(1, p // 3), 5)
        truth[:size] = rng.choice([-1.0, 1.0], size)
        t, c = (u @ truth + 0.5 * rng.normal(size=n) for u in (A, V))
        A, t, V, c = (u if like is None else asarray_like(u, like) for u in (A, t, V, c))
        return cls(A, t, V, c, **options) if folds is None else cls.cross(A, t, folds=folds, **options)

    # -- penalties --

    @abstractmethod
    def penalties(self, x: Array) -> tuple[Array, Array]:
        """The penalties ``l1, l2`` of the features, shape (p,)."""

    @abstractmethod
    def _gather(self, z1: Array, z2: Array) -> Array:
        """The adjoint of the derivative of ``x -> l1, l2``, without the factors ``l1`` and ``l2``."""

    @abstractmethod
    def _start(self) -> Array: ...

    def tied(self) -> Self:
        """The same problem with common penalties."""
        return self._from(self.folds, "scalar", self.single)

    def untie(self, x: Array) -> Array:
        """Penalties of `tied` as those of this problem: a start for them."""
        start = self._start()
        if self.penalty == "feature" and x.shape[0] == 2:
            x = x[:, None]
        return x + self.xp.zeros_like(start)

    def start(self) -> tuple[Array, Array]:
        """A tenth of the penalty from which on all coefficients are zero, and ``y = 0``."""
        shape = (self.features,) if self.single else (len(self.folds), self.features)
        return self._start(), self.xp.zeros(shape, dtype=self._like.dtype, device=self._like.device)

    @property
    def n_valid(self) -> int:
        """Number of validation samples."""
        return sum(f.c.shape[0] for f in self.folds)

    # -- oracles --

    def _each(self, y: Array) -> list[Array]:
        return [y] if self.single else [y[k, :] for k in range(len(self.folds))]

    def _join(self, parts: list[Array]) -> Array:
        return parts[0] if self.single else self.xp.stack(parts)

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value, gradient in x and smallest subgradient in y of f, summed over the folds."""
        xp, (l1, l2) = self.xp, self.penalties(x)
        value, absolute, square, grads = 0.0, 0.0, 0.0, []
        for fold, w in zip(self.folds, self._each(y), strict=True):
            r, n = fold.design.residual(w), fold.design.shape[0]
            value = value + 0.5 * xp.sum(r * r) / n
            absolute, square = absolute + l1 * xp.abs(w), square + 0.5 * l2 * w * w
            grads.append(subgradient(fold.design.columns.correlate(r) / n - l2 * w, w, l1, xp))
        return value + xp.sum(absolute) + xp.sum(square), self._gather(absolute, square), self._join(grads)

    def errors(self, fold: Fold, support: Array, w: Array) -> Array:
        """Errors of the predictions of a fold, with the coefficients w on the support."""
        return predict(fold, support, w, self.xp) - (fold.c - fold.design.offset)

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of the mean squared error on the validation samples."""
        xp, value, grads = self.xp, 0.0, []
        for fold, w in zip(self.folds, self._each(y), strict=True):
            support = xp.nonzero(w)[0]
            e = self.errors(fold, support, xp.take(w, support))
            weighted = fold.shares * e
            value = value + xp.sum(weighted * e)
            grads.append(2.0 * (fold.V.correlate(weighted) - xp.sum(weighted) * fold.design.means))
        return value, xp.zeros_like(x), self._join(grads)

    def at(self, x: Array, y: Array) -> Point:
        """Products on the support of y: zero elsewhere."""
        xp, (l1, l2) = self.xp, self.penalties(x)
        parts = [self._active(fold, w, l2) for fold, w in zip(self.folds, self._each(y), strict=True)]

        def hvp(v: Array) -> Array:
            found = []
            for (support, columns, ridge, n), u in zip(parts, self._each(v), strict=True):
                own = xp.take(u, support)
                own = columns.correlate(columns.combine(own)) / n + ridge * own
                found.append(scatter.add_at(xp.zeros_like(u), support, own, xp=xp))
            return self._join(found)

        slopes = [(l1 * xp.sign(w), l2 * w) for w in self._each(y)]

        def cross_vjp(v: Array) -> Array:
            pairs = list(zip(slopes, self._each(v), strict=True))
            return self._gather(sum(s[0] * u for s, u in pairs), sum(s[1] * u for s, u in pairs))

        def cross_jvp(u: Array) -> Array:
            u1, u2 = self._spread(u)
            return self._join([s[0] * u1 + s[1] * u2 for s in slopes])

        return Point(hvp, cross_vjp, cross_jvp, active=y != 0.0)

    @abstractmethod
    def _spread(self, u: Array) -> tuple[Array, Array]:
        """Directions in x as directions in the logarithms of ``l1`` and ``l2`` of the features."""

    def _active(self, fold: Fold, w: Array, l2: Array) -> tuple[Array, Any, Array, int]:
        support = self.xp.nonzero(w)[0]
        return support, fold.design.columns.take(support), self.xp.take(l2, support), fold.design.shape[0]

    def solve_inner(self, x: Array, y: Array, tol: float) -> tuple[Array, dict[str, int]]:
        """Coordinate descent until the smallest subgradient has the norm ``tol``."""
        xp, (l1, l2) = self.xp, self.penalties(x)
        goal, found, products = tol / math.sqrt(len(self.folds)), [], 0
        for fold, w in zip(self.folds, self._each(y), strict=True):
            n = fold.design.shape[0]
            fit, before = begin(fold.design, w, n * l1, n * l2), math.inf
            unit = float(xp.sum(fold.design.b * fold.design.b))
            for _ in range(ROUNDS):
                left = float(linalg.norm(subgradient(fit.g / n, fit.y, l1, xp), xp=xp))
                if left <= goal or (left > 0.5 * before and fit.gap <= ROUNDING * unit):
                    break
                fit, before = advance(fold.design, fit, n * l1, n * l2, 0.0), left
            found.append(fit.y)
            products += fit.passes
        return self._join(found), {"gradients": products}

    def solve_adjoint(self, x: Array, y: Array, rhs: Array) -> Array:
        """Solve ``H q = rhs`` on the support of y by a factor; the shortest q where H is singular there."""
        xp, (_, l2), found = self.xp, self.penalties(x), []
        for fold, w, u in zip(self.folds, self._each(y), self._each(rhs), strict=True):
            support, columns, ridge, n = self._active(fold, w, l2)
            own = xp.take(u, support)
            H = columns.gram() / n + ridge * xp.eye(own.shape[0], dtype=own.dtype, device=own.device)
            q = definite_solve(H, own, xp=xp)
            size = float(linalg.norm(own, xp=xp))
            if not float(linalg.norm(H @ q - own, xp=xp)) <= 1e-8 * size:
                q = linalg.lstsq(H, own, xp=xp)
            found.append(scatter.add_at(xp.zeros_like(u), support, q, xp=xp))
        return self._join(found)

    def lipschitz(self, x: Array) -> float:
        """Bound of the curvature of the smooth part."""
        tops = []
        for fold in self.folds:
            columns, n = fold.design.columns, fold.design.shape[0]
            op = as_linear_operator((columns.correlate, columns.combine), shape=(self.features, n), like=fold.design.b)
            tops.append(norm_squared(op, self.xp.ones_like(fold.design.means)) / n)
        return max(tops) + float(self.xp.max(self.penalties(x)[1]))

    def intercepts(self, y: Array) -> Array:
        """The constant of each fold."""
        return asarray_like([f.design.intercept(w) for f, w in zip(self.folds, self._each(y), strict=True)], self._like)

    def _map_arrays(self, move: Callable[[Array], Array]) -> Self:
        folds = [Fold(f.design._map_arrays(move), f.V._map_arrays(move), move(f.c), move(f.shares)) for f in self.folds]
        return self._from(folds, self.penalty, self.single)


def predict(fold: Fold, support: Array, w: Array, xp: Any) -> Array:
    """Predictions for the validation samples, without the offset."""
    return fold.V.take(support).combine(w) - xp.sum(xp.take(fold.design.means, support) * w)


def subgradient(g: Array, w: Array, l1: Array, xp: Any) -> Array:
    """The smallest subgradient, from the negative gradient of the smooth part."""
    off = -xp.sign(g) * xp.maximum(xp.abs(g) - l1, xp.zeros_like(g))
    return xp.where(w == 0.0, off, l1 * xp.sign(w) - g)


def one_fold(A: Any, t: Any, V: Any, c: Any, *, intercept: bool, train_weights: Any, valid_weights: Any) -> Fold:
    """Training samples with others for validation, checked."""
    design = make_samples(A, t, train_weights, ("A", "t", "train_weights")).design(intercept=intercept)
    held = make_samples(V, c, valid_weights, ("V", "c", "valid_weights"))
    check.common(A=design.b, V=held.b)
    if held.rows.shape[0] != design.shape[1]:
        raise check.error("V", f"{held.rows.shape[0]} features", f"{design.shape[1]}, as A has")
    even = design.xp.full(held.b.shape, 1.0 / held.b.shape[0], dtype=held.b.dtype, device=held.b.device)
    V = held._replace(shares=None).design()
    return Fold(design, V.columns, held.b, even if held.shares is None else held.shares)


def cross_folds(A: Any, t: Any, splits: Any, *, intercept: bool, sample_weight: Any, rng: Any) -> list[Fold]:
    """Folds of the same samples: a number of them, or pairs of indices (training, validation)."""
    samples = make_samples(A, t, sample_weight, ("A", "t", "sample_weight"))
    xp, n = array_namespace(samples.b), samples.b.shape[0]
    if isinstance(splits, (int, np.integer)) and not isinstance(splits, bool):
        count = check.scalar("folds", splits, low=2, high=n, integer=True)
        order = np.arange(n) if rng is None else random.as_generator(rng).permutation(n)
        parts = np.array_split(order, count)
        splits = [(np.sort(np.setdiff1d(order, part)), np.sort(part)) for part in parts]
    shares = xp.full(samples.b.shape, 1.0 / n, dtype=samples.b.dtype, device=samples.b.device)
    shares, folds = shares if samples.shares is None else samples.shares, []
    for pair in check.sequence("folds", splits, "a number of folds, or pairs of indices (training, validation)"):
        sides = [np.asarray(to_numpy(side)) for side in check.sequence("folds", pair, "pairs of indices")]
        if len(sides) != 2 or not all(side.size for side in sides):
            raise check.error("folds", f"sides of {[side.size for side in sides]} samples", "some for both")
        if not all(side.dtype.kind in "iu" and side.ndim == 1 and side.min() >= 0 and side.max() < n for side in sides):
            raise check.error("folds", "other entries", f"integers from 0 to {n - 1}, in one axis")
        train, valid = (xp.asarray(side, device=samples.b.device) for side in sides)
        held = samples._replace(shares=None).design(valid)
        folds.append(Fold(samples.design(train, intercept=intercept), held.columns, held.b, xp.take(shares, valid)))
    total = sum(float(xp.sum(f.shares)) for f in folds)
    if not total > 0.0:
        raise check.error("sample_weight", "weights of sum 0 on the validation samples", "a positive sum")
    return [f._replace(shares=f.shares / total) for f in folds]


class LassoProblem(SparseModelProblem):
    r"""Lasso: ``|A y - t|^2 / 2n + sum_j exp(x_j) |y_j|``, tuned on the mean of ``(V y - c)^2``.

    Parameters
    ----------
    A : array or SciPy sparse matrix, shape (n, p)
        Training samples.
    t : array, shape (n,)
        Their targets.
    V : array or SciPy sparse matrix, shape (m, p)
        Validation samples.
    c : array, shape (m,)
        Their targets.
    penalty : {"scalar", "feature"}
        One penalty for all features, or one each.
    intercept : bool
        Whether there is a constant without penalty. It is not a part of y: see ``intercepts(y)``.
    train_weights, valid_weights : array, optional
        Weights >= 0 of the samples.

    See Also
    --------
    LassoProblem.cross : The same on K folds.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import LassoProblem, hypergradient
    >>> problem = LassoProblem.random(30, 60, rng=0)
    >>> found = hypergradient(problem, problem.start()[0])
    >>> found.mode, found.gradient.shape
    ('active_set', (1,))
    """

    def bounds(self) -> tuple[float, float]:
        """Up to the penalty that makes all coefficients zero, from twelve e-foldings below."""
        top = math.log(self.largest)
        return top - WIDTH, top

    def penalties(self, x: Array) -> tuple[Array, Array]:
        """``exp(x)`` and 0."""
        zero = self.xp.zeros_like(self._like)
        return zero + self.xp.exp(x), zero

    def _spread(self, u: Array) -> tuple[Array, Array]:
        return u + self.xp.zeros_like(self._like), self.xp.zeros_like(self._like)

    def _gather(self, z1: Array, z2: Array) -> Array:
        return self.xp.reshape(self.xp.sum(z1), (1,)) if self.penalty == "scalar" else z1

    def _start(self) -> Array:
        size = 1 if self.penalty == "scalar" else self.features
        return self.xp.full((size,), math.log(0.1 * self.largest), dtype=self._like.dtype, device=self._like.device)

    def piece(self, alpha: float, y: Array, g: Array, tol: float, derivatives: bool = True) -> Piece:
        """The loss and its derivatives at one penalty alpha, exact on a linear piece.

        On the support ``dy / d alpha = -n (A_S' A_S)^-1 sign(y_S)``; the errors change by ``t = V_S dy / d alpha``, so
        that ``Phi' = 2 <e, t>`` and ``Phi'' = 2 <t, t>``, weighted by the shares.

        Parameters
        ----------
        alpha : float
            Penalty.
        y, g : array, shape (k, p) or (p,)
            Solutions and correlations at another penalty; g may be zeros for ``y = 0`` and is then made.
        tol : float
            Relative duality gap of the fits.
        derivatives : bool
            Whether they are wanted; zeros otherwise.

        Returns
        -------
        Piece
        """
        xp, zero = self.xp, self.xp.zeros_like(self._like)
        value, slope, curvature, worst, products, ys, gs = 0.0, 0.0, 0.0, 0.0, 0, [], []
        for fold, w, h in zip(self.folds, self._each(y), self._each(g), strict=True):
            design, n = fold.design, fold.design.shape[0]
            l1 = zero + n * alpha
            fit = solve_path(design, w, h, l1, zero, tol)
            support = xp.nonzero(fit.y)[0]
            own = xp.take(fit.y, support)
            if derivatives and support.shape[0]:
                columns, signs = design.columns.take(support), xp.sign(own)
                G = columns.gram()
                G = G + RIDGE * xp.mean(columns.squares) * xp.eye(G.shape[0], dtype=G.dtype, device=G.device)
                sides = xp.stack([columns.correlate(fit.r) - n * alpha * signs, -n * signs], axis=1)
                steps = definite_solve(G, sides, xp=xp)
                if bool(xp.all((own + steps[:, 0]) * signs > 0.0)):  # the minimiser of this piece
                    own = own + steps[:, 0]
                    fit = fit._replace(y=scatter.add_at(fit.y, support, steps[:, 0], xp=xp))
                t = predict(fold, support, steps[:, 1], xp)
            e = self.errors(fold, support, own)
            value += float(xp.sum(fold.shares * e * e))
            if derivatives and support.shape[0]:
                slope += 2.0 * float(xp.sum(fold.shares * e * t))
                curvature += 2.0 * float(xp.sum(fold.shares * t * t))
            scale = 0.5 * float(xp.sum(design.b * design.b))
            worst = max(worst, fit.gap / scale if scale else 0.0)
            products += fit.passes
            ys.append(fit.y)
            gs.append(fit.g)
        return Piece(value, slope, curvature, self._join(ys), self._join(gs), worst, products)


def solve_path(design: Design, y: Array, g: Array, l1: Array, l2: Array, tol: float) -> Fit:
    """Fit from the solution for another penalty, whose correlations g choose the first working set."""
    xp = design.xp
    target = tol * 0.5 * float(xp.sum(design.b * design.b))
    fit = Fit(y, design.residual(y), g, 0.0, 0, 0) if bool(xp.any(g != 0.0)) else begin(design, y, l1, l2)
    while fit.passes == 0 or (fit.gap > target and fit.passes < ROUNDS):
        fit = advance(design, fit, l1, l2, target)
    return fit


class ElasticNetProblem(SparseModelProblem):
    r"""Elastic net: ``|A y - t|^2 / 2n + sum_j (exp(x_0j) |y_j| + exp(x_1j) y_j^2 / 2)``, tuned as `LassoProblem`.

    Parameters
    ----------
    A, t, V, c : array
        Training and validation samples, see `LassoProblem`.
    penalty : {"scalar", "feature"}
        Two penalties, x of shape (2,), or two for every feature, x of shape (2, p).
    intercept, train_weights, valid_weights : optional
        See `LassoProblem`.

    Examples
    --------
    >>> from optlib.bilevel import ElasticNetProblem, hypergradient
    >>> problem = ElasticNetProblem.random(30, 10, rng=0)
    >>> hypergradient(problem, problem.start()[0]).gradient.shape
    (2,)
    """

    @property
    def _variance(self) -> float:
        """Mean of the squared entries of the design: the unit of the second penalty."""
        design = self.folds[0].design
        found = float(self.xp.mean(design.columns.squares)) / design.shape[0] if self.features else 1.0
        return found or 1.0

    def bounds(self) -> tuple[Array, Array]:
        """For the first penalty as in the lasso; for the second from e^-12 to e^4 times the mean square of A."""
        first, second, zero = math.log(self.largest), math.log(self._variance), self.xp.zeros_like(self._start())
        low, high = (first - WIDTH, second - WIDTH), (first, second + 4.0)
        return self._pair(*low) + zero, self._pair(*high) + zero

    def _pair(self, first: float, second: float) -> Array:
        pair = asarray_like([first, second], self._like)
        return pair if self.penalty == "scalar" else pair[:, None]

    def _start(self) -> Array:
        pair = self._pair(math.log(0.1 * self.largest), math.log(0.01 * self._variance))
        return pair if self.penalty == "scalar" else pair + self.xp.zeros_like(self._like)

    def penalties(self, x: Array) -> tuple[Array, Array]:
        """``exp(x_0)`` and ``exp(x_1)``."""
        zero = self.xp.zeros_like(self._like)
        return zero + self.xp.exp(x[0, ...]), zero + self.xp.exp(x[1, ...])

    def _spread(self, u: Array) -> tuple[Array, Array]:
        zero = self.xp.zeros_like(self._like)
        return u[0, ...] + zero, u[1, ...] + zero

    def _gather(self, z1: Array, z2: Array) -> Array:
        xp = self.xp
        return xp.stack([xp.sum(z1), xp.sum(z2)]) if self.penalty == "scalar" else xp.stack([z1, z2])
