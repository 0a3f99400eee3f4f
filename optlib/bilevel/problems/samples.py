"""Samples of a linear model: checked, in batches, and how smooth sums over them are."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, is_numpy, linalg
from optlib.backend.namespace import asarray_on
from optlib.backend.threads import read_only
from optlib.linop import LinearOperator, VStack, as_linear_operator
from optlib.linop.base import _empty
from optlib.linop.wrap import wrapped

DENSE = 2000  # largest number of rows or columns whose products are formed for a norm


class Part(NamedTuple):
    """Samples of one level: design, targets, weights of the samples; the design as an array where it is one.

    That array lacks the constant column of an intercept.
    """

    A: LinearOperator
    t: Array
    weights: Array
    rows: Array | None = None

    def take(self, index: Array | None) -> "Part":
        """Samples whose weighted sums estimate those of all."""
        if index is None:
            return self
        xp, factor = self.A.xp, self.factor(index)
        return Part(self.A.take(index), xp.take(self.t, index, axis=0), factor * xp.take(self.weights, index))

    def factor(self, index: Array | None) -> float:
        """Samples for each one of a batch."""
        return 1.0 if index is None else self.A.shape[0] / index.shape[0]

    def moved(self, move: Callable[[Array], Array]) -> "Part":
        """All arrays moved."""
        rows = None if self.rows is None else move(self.rows)
        return Part(self.A._map_arrays(move), move(self.t), move(self.weights), rows)

    def by_sample(self, z: Array) -> Array:
        """Predictions, or what has their shape, times the weights."""
        return self.weights * z if z.ndim == 1 else self.weights[:, None] * z


def moderate(name: str, u: Array, xp: Any) -> None:
    """Refuse numbers that are not finite, or whose squares and cubes are none."""
    if 0 in u.shape:
        return
    size, limit = max(float(xp.max(u)), -float(xp.min(u))), float(xp.finfo(u.dtype).max) ** 0.3
    if not size < math.inf:
        raise check.error(name, "an entry that is NaN or infinite", "finite numbers", "drop or impute them")
    if size and not 1.0 / limit <= size <= limit:
        expected = f"sizes from {1.0 / limit:.0e} to {limit:.0e}"
        raise check.error(name, f"entries of size {size:.0e}", expected, "take other units")


def smoothness(norm: float, part: Part, batch: int | None) -> float:
    """Expected smoothness of a batch of samples, for ``norm``, the largest eigenvalue of ``A' W A``.

    ``n (b - 1) / (b (n - 1)) L + (n - b) / (b (n - 1)) L_max`` (R. Gower et al., SGD: general analysis and improved
    rates, ICML 2019, proposition 3.8).
    """
    n, xp = part.A.shape[0], part.A.xp
    if batch is None or batch >= n:
        return norm
    longest = norm  # no row is longer than the matrix
    if part.rows is not None:
        constant = part.A.shape[1] - part.rows.shape[1]
        longest = float(xp.max(part.weights * (xp.sum(part.rows**2, axis=1) + constant)))
    return (n * (batch - 1) * norm + (n - batch) * n * longest) / (batch * (n - 1))


def norm_squared(A: LinearOperator, weights: Array) -> float:
    """Largest eigenvalue of ``A' W A``; for large A estimated by the power method, with 5 % more."""
    xp = A.xp
    if min(A.shape) <= DENSE and max(A.shape) * min(A.shape) <= 4_000_000:
        dense = xp.sqrt(weights)[:, None] * A.to_dense()
        gram = dense @ dense.T if A.shape[0] < A.shape[1] else dense.T @ dense
        return max(float(linalg.eigh(gram, xp=xp)[0][-1]), 0.0) * (1.0 + 1e-6)
    v, size = asarray_on(np.random.default_rng(0).normal(size=A.shape[1]), xp=xp, dtype=A.dtype, device=A.device), 0.0
    for _ in range(20):
        v = A._rmatvec(weights * A._matvec(v / linalg.norm(v, xp=xp)))
        size = float(linalg.norm(v, xp=xp))
        if size == 0.0:
            return 0.0
    return 1.05 * size


def levels(
    A: Any, t: Any, V: Any, c: Any, *, intercept: bool, train_weights: Any, valid_weights: Any, mean: bool, targets: Any
) -> tuple[Part, Part]:
    """Checked samples of both levels."""
    check.option("intercept", intercept, (True, False))
    designs, found = (wrapped("A", A), wrapped("V", V)), []
    _, _, dtype = check.common(**{name: _empty(op) for name, op in zip("AV", designs, strict=True)})
    for op, goal, weights, names in (
        (designs[0].astype(dtype), t, train_weights, ("A", "t", "train_weights")),
        (designs[1].astype(dtype), c, valid_weights, ("V", "c", "valid_weights")),
    ):
        xp, n = op.xp, op.shape[0]
        if n == 0:
            raise check.error(names[0], f"shape {op.shape}", "at least one sample")
        if found and (op.shape[1] != found[0].A.shape[1] - intercept):
            raise check.error("V", f"{op.shape[1]} features", f"{found[0].A.shape[1] - intercept}, as A has")
        u = xp.ones((n,), dtype=op.dtype, device=op.device)
        if weights is not None:
            u = check.array(names[2], weights, xp=xp, shape=(n,), dtype=op.dtype, device=op.device, nonnegative=True)
        if mean:
            total = float(xp.sum(u))
            if not total > 0.0:
                raise check.error(names[2], "weights of sum 0", "a positive sum")
            u = u / total
        rows = op._held()
        moderate(names[0], op._numbers(), xp)
        if intercept:
            op = VStack(op.T, as_linear_operator(xp.ones((1, n), dtype=op.dtype, device=op.device))).T
        part = Part(op, targets(names[1], goal, op, n), u, rows)
        if xp.isdtype(part.t.dtype, "real floating"):
            moderate(names[1], part.t, xp)
        if is_numpy(xp) and rows is not None:  # once for all batches
            part = Part(op, read_only(part.t), read_only(u), read_only(rows))
        found.append(part)
    return found[0], found[1]
