"""K-fold cross-validation: the folds of a problem side by side, with common hyperparameters."""

from collections.abc import Callable, Sequence
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array
from optlib.bilevel.problem import Constants, Point, Problem, point, require

# what the composite has if all folds do
OPTIONAL = ("hessian", "hvp_outer", "cross_outer", "mu", "lipschitz", "constants", "tied", "n_valid")


class FoldsProblem(Problem):
    r"""Several problems with common hyperparameters: ``f(x, Y) = sum_k f_k(x, y_k)`` and ``F = mean_k F_k(x, y_k)``.

    Parameters
    ----------
    folds : sequence of problems
        With x and y of equal shapes, for example a `RidgeProblem` for each fold of cross-validation.

    Attributes
    ----------
    blocks : list of problems
        The folds.

    Notes
    -----
    ``Y[k]`` is the model of fold k. The inner problem is solved fold by fold, and so is the adjoint system: K times the
    cost of one fold.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import FoldsProblem, RidgeProblem, tune
    >>> rng = np.random.default_rng(0)
    >>> A = rng.normal(size=(60, 8))
    >>> t = A[:, 0] + rng.normal(size=60)
    >>> folds = np.arange(60) % 5
    >>> problem = FoldsProblem(
    ...     [
    ...         RidgeProblem(A[folds != k], t[folds != k], A[folds == k], t[folds == k], penalty="scalar")
    ...         for k in range(5)
    ...     ]
    ... )
    >>> res = tune(problem)
    >>> res.success, res.y.shape
    (True, (5, 8))
    """

    def __init__(self, folds: Sequence[Any]) -> None:
        self.blocks = check.sequence("folds", folds, "a list of problems")
        for block in self.blocks:
            require(block, ("start", "inner", "outer"), "FoldsProblem")
        if not self.blocks:
            raise check.error("folds", "no problems", "at least one")
        starts = [block.start() for block in self.blocks]
        shapes = [tuple(tuple(u.shape) for u in pair) for pair in starts]
        for k, found in enumerate(shapes):
            if found != shapes[0]:
                raise check.error("folds", f"fold {k} with x and y of shapes {found}", f"{shapes[0]}, as of fold 0")
        self.xp = check.common(**{f"fold_{k}": y for k, (_, y) in enumerate(starts)})[0]

    @classmethod
    def random(
        cls, n: int = 18, d: int = 4, *, of: Any, folds: int = 3, rng: int = 0, like: Array | None = None,
        **options: Any,
    ) -> "FoldsProblem":  # fmt: skip
        """Random problems of the class `of`, each with data of its own."""
        return cls([of.random(n, d, rng=(rng, k), like=like, **options) for k in range(folds)])

    def __getattr__(self, name: str) -> Any:
        if name in OPTIONAL and all(hasattr(block, name) for block in self.blocks):
            return getattr(self, f"_{name}")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def start(self) -> tuple[Array, Array]:
        """Those of the folds."""
        starts = [block.start() for block in self.blocks]
        return starts[0][0], self.xp.stack([y for _, y in starts])

    def bounds(self) -> tuple[Any, Any]:
        """Box of the first fold."""
        return self.blocks[0].bounds()

    # -- oracles --

    def _sum(self, found: list[tuple[Array, Array, Array]]) -> tuple[Array, Array, Array]:
        """Sums of values and gradients in x, and the gradients in y side by side."""
        values, grads_x, grads_y = zip(*found, strict=True)
        stack, xp = self.xp.stack, self.xp
        return xp.sum(stack(values)), xp.sum(stack(grads_x), axis=0), stack(grads_y)

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        return self._sum([block.inner(x, y[k, ...]) for k, block in enumerate(self.blocks)])

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        value, grad_x, grad_y = self._sum([block.outer(x, y[k, ...]) for k, block in enumerate(self.blocks)])
        K = len(self.blocks)
        return value / K, grad_x / K, grad_y / K

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point: H is block diagonal, ``C = [C_1 ... C_K]``."""
        stack, points = self.xp.stack, [point(block, x, y[k, ...]) for k, block in enumerate(self.blocks)]
        return Point(
            hvp=lambda v: stack([p.hvp(v[k, ...]) for k, p in enumerate(points)]),
            cross_vjp=lambda v: self.xp.sum(stack([p.cross_vjp(v[k, ...]) for k, p in enumerate(points)]), axis=0),
            cross_jvp=lambda u: stack([p.cross_jvp(u) for p in points]),
            inner=None if any(p.inner is None for p in points) else lambda: self._sum([p.inner() for p in points]),
            active=None if any(p.active is None for p in points) else stack([p.active for p in points]),
        )

    # -- what depends on the folds --

    @property
    def _n_valid(self) -> int:
        return sum(block.n_valid for block in self.blocks)

    def _tied(self) -> "FoldsProblem":
        return FoldsProblem([block.tied() for block in self.blocks])

    def _hessian(self, x: Array, y: Array) -> Array:
        """The whole block diagonal matrix; the solvers ask the folds for theirs."""
        parts = [block.hessian(x, y[k, ...]) for k, block in enumerate(self.blocks)]
        zero = self.xp.zeros_like(parts[0])
        rows = [self.xp.concat([H if j == k else zero for j in range(len(parts))], axis=1) for k, H in enumerate(parts)]
        return self.xp.concat(rows, axis=0)

    def _hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        found = [block.hvp_outer(x, y[k, ...], v[k, ...]) for k, block in enumerate(self.blocks)]
        return self.xp.stack(found) / len(found)

    def _cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        found = [block.cross_outer(x, y[k, ...], v[k, ...]) for k, block in enumerate(self.blocks)]
        return self.xp.sum(self.xp.stack(found), axis=0) / len(found)

    def _mu(self, x: Array) -> float | None:
        found = [block.mu(x) for block in self.blocks]
        return None if any(mu is None for mu in found) else min(found)

    def _lipschitz(self, x: Array) -> float:
        return max(block.lipschitz(x) for block in self.blocks)

    def _constants(self, x: Array, y: Array) -> Constants:
        found, K = [block.constants(x, y[k, ...]) for k, block in enumerate(self.blocks)], len(self.blocks)
        return Constants(
            cross=sum(c.cross**2 for c in found) ** 0.5,
            hessian=max(c.hessian for c in found),
            cross_change=max(c.cross_change for c in found),
            outer_y=max(c.outer_y for c in found) / K,
            outer_x=sum(c.outer_x**2 for c in found) ** 0.5 / K,
        )

    def _map_arrays(self, move: Callable[[Array], Array]) -> "FoldsProblem":
        return FoldsProblem([block._map_arrays(move) for block in self.blocks])
