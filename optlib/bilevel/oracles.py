"""The oracles of a problem as the solvers call them: counted, with answers of the right shape, on a checked start."""

import math
from collections.abc import Sequence
from typing import Any

from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib.backend import Array, linalg
from optlib.bilevel.problem import Point, answer, answers, beginning, point, require, unconstrained


class Oracles:
    """A problem, its checked start and box, and counts of its calls.

    Parameters
    ----------
    problem : object
        With ``start``, and the oracles of the method.
    x0 : array or None
        Start that the user gave.
    bounds : pair or None
        Box that the user gave.
    needs : sequence of str
        The oracles of the method.
    method : str
        Its name, for the message.
    """

    def __init__(self, problem: Any, x0: Any, bounds: Any, needs: Sequence[str], method: str) -> None:
        require(problem, needs, method)
        if "constraints" not in needs:
            unconstrained(problem, method)
        self.problem = problem
        start, self.y0 = beginning(problem)
        self.xp, device, _ = check.common(x0=x0, start=start)
        given = start if x0 is None else x0
        x = check.array("x0", given, xp=self.xp, shape=tuple(start.shape), dtype=start.dtype, device=device)
        self.low, self.high = box(problem, bounds, x, self.xp)
        self.start = self.project(x)
        self.size = math.prod(x.shape)
        self.counts = {"gradients": 0, "products": 0, "outer": 0}

    def count(self, name: str) -> None:
        """Note a call."""
        self.counts[name] = self.counts.get(name, 0) + 1

    def seen(self) -> dict[str, int]:
        """The counts, as fields of a state."""
        return {name: self.counts[name] for name in ("gradients", "products", "outer")}

    def restore(self, state: Any) -> None:
        """Set the counts to those of a state."""
        self.counts |= {name: getattr(state, name) for name in self.seen()}

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        self.count("gradients")
        return answers("inner", self.problem.inner(x, y), x, y)

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        self.count("outer")
        return answers("outer", self.problem.outer(x, y), x, y)

    def at(self, x: Array, y: Array) -> Point:
        """Products of f at a point."""
        products = point(self.problem, x, y)

        def hvp(v: Array) -> Array:
            self.count("products")
            return answer("hvp", products.hvp(v), y)

        return products._replace(hvp=hvp, cross_vjp=lambda v: answer("cross_vjp", products.cross_vjp(v), x))

    def outer_at(self, x: Array, y: Array) -> Point:
        """Products of F at a point."""

        def hvp(v: Array) -> Array:
            self.count("products")
            return answer("hvp_outer", self.problem.hvp_outer(x, y, v), y)

        return Point(hvp, lambda v: answer("cross_outer", self.problem.cross_outer(x, y, v), x))

    def identity(self) -> Any:
        """What tells the problem from others: start, box, and what the oracles answer at and near the start."""
        x, y, problem, known = self.start, self.y0, self.problem, []
        if callable(getattr(problem, "inner", None)):
            first = problem.inner(x, y)
            near = y - first[2] / (1.0 + self.norm(first[2]))
            known = [*first, *problem.inner(x, near), *problem.outer(x, near)]
        if callable(getattr(problem, "constraints", None)):
            known.append(problem.constraints(x, y).value)
        return type(problem).__qualname__, x, y, self.low, self.high, probe(*known)

    def norm(self, u: Array) -> float:
        """Euclidean norm on the host."""
        return float(linalg.norm(u, xp=self.xp))

    def project(self, x: Array) -> Array:
        """Nearest point of the box."""
        return self.xp.minimum(self.xp.maximum(x, self.low), self.high)

    def outward(self, x: Array, gradient: Array) -> Array:
        """Where x is at the edge of the box and the descent direction leaves it."""
        return ((x <= self.low) & (gradient > 0)) | ((x >= self.high) & (gradient < 0))

    def projected(self, x: Array, gradient: Array) -> Array:
        """The gradient without the parts that are held at an edge of the box."""
        return self.xp.where(self.outward(x, gradient), self.xp.zeros_like(x), gradient)

    def at_bounds(self, x: Array, gradient: Array) -> int:
        """Number of hyperparameters that are held at an edge of the box."""
        return int(self.xp.sum(self.xp.astype(self.outward(x, gradient), self.xp.int32)))


def box(problem: Any, bounds: Any, x: Array, xp: Any) -> tuple[Array, Array]:
    """Bounds as arrays of the shape of x: those given, or those of the problem."""
    given = bounds
    if bounds is None:
        given = problem.bounds() if callable(getattr(problem, "bounds", None)) else (-float("inf"), float("inf"))
    if not (isinstance(given, (tuple, list)) and len(given) == 2):
        expected = "a pair (low, high) of numbers or arrays"
        raise check.error("bounds", given, expected, "pairs for each entry are low, high = zip(*pairs)", TypeError)
    sides = []
    for side in given:
        fix = "no bound is an infinite one"
        bound = check.array("bounds", side, xp=xp, dtype=x.dtype, device=x.device, finite=False, fix=fix)
        trailing = tuple(x.shape)[x.ndim - bound.ndim :]
        if bound.ndim > x.ndim or any(n not in (1, m) for n, m in zip(bound.shape, trailing, strict=True)):
            expected = f"a pair (low, high) of numbers or of arrays of shape {tuple(x.shape)}"
            raise check.error("bounds", f"a side of shape {tuple(bound.shape)}", expected)
        sides.append(bound + xp.zeros_like(x))
    low, high = sides
    if bool(xp.any(xp.isnan(low) | xp.isnan(high))) or not bool(xp.all(low < high)):
        raise check.error("bounds", "bounds that cross, or NaN", "low < high everywhere", "swap them")
    return low, high
