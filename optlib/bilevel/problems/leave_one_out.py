"""Ridge regression tuned on its exact leave-one-out error, from one singular value decomposition."""

import math
from functools import cached_property
from typing import Any, NamedTuple

from optlib._core import validation as check
from optlib.backend import Array, linalg
from optlib.bilevel.problem import Constants
from optlib.bilevel.problems.linear_models import RidgeProblem, _on, _regression

BELOW, START, ABOVE = 1e-12, 1e-2, 1e3  # box and start of the penalty, in units of the largest squared singular value


class _Decomposition(NamedTuple):
    """Parts of the weighted, centred design ``U diag(s) W'`` and of the targets; rows of samples."""

    U: Array
    s: Array
    Wt: Array
    c: Array  # U' b
    rest: Array  # what of b is not in the span of U
    free: Array  # 1 - the leverage of a fit without penalty
    mean: Array  # of the features
    target: Array  # mean of the targets


class LeaveOneOutRidgeProblem(RidgeProblem):
    r"""Ridge regression ``1/2 sum_i w_i (a_i'y - t_i)^2 + e^x/2 |y|^2``, tuned on its leave-one-out error (PRESS).

    ``F(x) = 1/2 sum_i w_i (t_i - a_i' y_(i)(x))^2 / sum_i w_i``, where the model ``y_(i)`` was fitted without sample i.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (n, d)
        The samples; stored densely.
    t : array, shape (n,)
        Their targets.
    intercept : bool
        Whether y has one more entry, a constant without penalty.
    weights : array, shape (n,), optional
        Weights >= 0 of the samples.

    Notes
    -----
    With ``A = U diag(s) W'`` (weighted, centred where there is an intercept), ``psi = e^x / (s^2 + e^x)``, and the
    leverage h of the fit without penalty, the residual of sample i without it is ``r_i / u_i`` with
    ``r = (I - U U') t + U (psi * U't)`` and ``u = 1 - h + U^2 psi``; all terms are positive, so nothing cancels for
    small penalties. F does not depend on y: the adjoint is zero, the gradient is that of a formula.

    Cost: the decomposition once, ``n d min(n, d)``; then ``n min(n, d)`` a value of x.

    Where not to use it: where samples come in groups, leave out whole groups; see `FoldsProblem`.

    References
    ----------
    G. H. Golub, M. Heath, G. Wahba, Generalized cross-validation as a method for choosing a good ridge parameter,
    Technometrics 1979. D. M. Allen, The relationship between variable selection and data augmentation and a method for
    prediction, Technometrics 1974.

    Examples
    --------
    >>> from optlib.bilevel import LeaveOneOutRidgeProblem, tune
    >>> res = tune(LeaveOneOutRidgeProblem.random(60, 5, rng=1))
    >>> res.success, res.y.shape
    (True, (5,))
    """

    n_inner = n_outer = None  # F is no sum over samples of a model

    def __init__(self, A: Any, t: Any, *, intercept: bool = False, weights: Any = None) -> None:
        super().__init__(
            A, t, A, t, penalty="scalar", intercept=intercept, train_weights=weights, valid_weights=weights
        )
        if not float(self.xp.sum(self.train.weights)) > 0.0:
            raise check.error("weights", "zeros", "a positive weight of some sample")

    @classmethod
    def random(
        cls, n: int = 12, d: int = 5, *, rng: Any = 0, like: Array | None = None, **options: Any
    ) -> "LeaveOneOutRidgeProblem":
        """A small problem with normal data."""
        A, t, _, _ = _regression(n, d, rng)
        return cls(*(_on(u, like) for u in (A, t)), **options)

    @cached_property
    def _decomposition(self) -> _Decomposition:
        xp, part = self.xp, self.train
        A, b, w = part.A.to_dense(), part.t, xp.sqrt(part.weights)
        total = xp.sum(part.weights)
        leverage = xp.zeros_like(b)
        mean, target = xp.zeros_like(A[0, :]), xp.zeros_like(total)
        if self.intercept:
            A = A[:, :-1]
            mean = xp.sum(part.weights[:, None] * A, axis=0) / total
            target = xp.sum(part.weights * b) / total
            A, b, leverage = A - mean, b - target, part.weights / total
        A, b = w[:, None] * A, w * b
        U, s, Wt = linalg.svd(A, xp=xp)
        eps = float(xp.finfo(A.dtype).eps) * max(A.shape)
        rank = int(xp.sum(xp.astype(s > eps * xp.max(s), xp.int32))) if s.shape[0] else 0
        U, s, Wt = U[:, :rank], s[:rank], Wt[:rank, :]
        c = U.T @ b
        used = int(xp.sum(xp.astype(part.weights > 0, xp.int32)))
        rest, free = b - U @ c, 1.0 - leverage - xp.sum(U * U, axis=1)
        if rank + self.intercept >= used:  # every sample of positive weight can be fitted: what is left is rounding
            rest, free = xp.zeros_like(b), xp.where(part.weights > 0, xp.zeros_like(b), xp.ones_like(b))
        free = xp.where(free > 0, free, xp.zeros_like(free))
        return _Decomposition(U, s, Wt, c, rest, free, mean, target)

    def start(self) -> tuple[Array, Array]:
        """A penalty of a hundredth of the largest squared singular value, and ``y = 0``."""
        x, y = super().start()
        low, _ = self.bounds()
        return x + (low - math.log(BELOW) + math.log(START)), y

    def bounds(self) -> tuple[float, float]:
        """Box of the log penalty, from the largest singular value."""
        s = self._decomposition.s
        size = 2.0 * math.log(float(s[0])) if s.shape[0] else 0.0
        return size + math.log(BELOW), size + math.log(ABOVE)

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F, which does not depend on y."""
        xp, d = self.xp, self._decomposition
        penalty = xp.exp(x[0])
        psi = penalty / (d.s * d.s + penalty)
        slope = psi * (1.0 - psi)  # of psi in x
        squares = d.U * d.U
        r, u = d.rest + d.U @ (psi * d.c), d.free + squares @ psi
        kept = u > 0.0
        u = xp.where(kept, u, xp.ones_like(u))
        e = xp.where(kept, r / u, xp.zeros_like(u))  # of the only sample there is
        change = (d.U @ (slope * d.c) - e * (squares @ slope)) / u
        total = xp.sum(self.train.weights)
        value = 0.5 * xp.sum(e * e) / total
        return value, xp.reshape(xp.sum(e * change) / total, (1,)), xp.zeros_like(y)

    def solve_inner(self, x: Array, y: Array, tol: float) -> tuple[Array, dict[str, int]]:
        """The model of all samples, in closed form."""
        xp, d = self.xp, self._decomposition
        y = d.Wt.T @ (d.s / (d.s * d.s + xp.exp(x[0])) * d.c)
        if self.intercept:
            y = xp.concat([y, xp.reshape(d.target - xp.sum(d.mean * y), (1,))])
        return y, {}

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Zero: F does not depend on y."""
        return self.xp.zeros_like(y)

    def constants(self, x: Array, y: Array) -> Constants:
        """Those of ridge regression; F does not change with y."""
        return super().constants(x, y)._replace(outer_y=0.0)
