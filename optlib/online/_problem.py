"""What all problems of the saddle-point methods are: a set of parts with mirror maps, and measures of a point."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib.backend import Array, Portable, array_namespace, device_of, linalg
from optlib.geometry import Domain, Euclidean, MirrorMap
from optlib.online.domains import vector_mirror
from optlib.online.learner import moved


class Projected(Euclidean):
    """Half the squared norm on a domain: steps are projected."""

    def __init__(self, onto: Domain) -> None:
        self.onto = onto

    def _domain(self, n: int) -> Domain:
        return self.onto

    def _range(self, n: int) -> float:
        return 0.5 * self.onto.diameter**2

    def _diameter(self, n: int) -> float:
        return self.onto.diameter

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return self.onto.project(theta, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return self.onto._violation(x, xp)

    def _map_arrays(self, move: Callable[[Any], Any]) -> MirrorMap:
        return Projected(self.onto._map_arrays(move))


def as_map(name: str, geometry: Any, n: int) -> MirrorMap:
    if geometry is None:
        return Euclidean()
    if isinstance(geometry, Domain):
        if geometry.shape != (n,):
            raise check.error(name, f"a set of points of shape {geometry.shape}", f"one of shape {(n,)}")
        return Projected(geometry)
    return vector_mirror(geometry, n)


class Problem(Portable):
    r"""Find ``z`` in ``Z`` with ``<F(z), u - z> >= 0`` for all ``u`` in ``Z``.

    The base of the problem classes: ``Z`` is a product of sets, each with a mirror map, and a point is the
    concatenation of its parts.

    Parameters
    ----------
    maps : sequence of MirrorMap
        One for each part.
    sizes : sequence of int
        Lengths of the parts.
    like : array
        Gives library, device and dtype.
    """

    comonotonicity = 0.0

    def __init__(self, maps: list[MirrorMap], sizes: list[int], like: Array) -> None:
        self.n, self._xp = sum(sizes), array_namespace(like)
        self._like = self._xp.empty(0, dtype=like.dtype, device=device_of(like))
        ends = np.cumsum([0, *sizes]).tolist()
        self._parts = [slice(i, j) for i, j in itertools.pairwise(ends)]
        self._maps = [moved(m, self._like) for m in maps]
        self._domains = [m.domain(n) for m, n in zip(self._maps, sizes, strict=True)]
        self._bounded = all(d is not None and d.diameter < math.inf for d in self._domains)
        self._free = all(type(m) is Euclidean for m in self._maps)

    # --- what a problem defines ---

    def operator(self, z: Array) -> Array:
        """Return ``F(z)``.

        Parameters
        ----------
        z : array, shape (n,)
            The parts of a point, one after the other.

        Returns
        -------
        array, shape (n,)
            The value.

        Raises
        ------
        TypeError
            If the problem is given by proximal steps instead.
        """
        raise self._proximal()

    @property
    def lipschitz(self) -> float:
        """Lipschitz constant of ``F``, from the norm of the mirror map to its dual, in units of its convexity."""
        raise self._proximal()

    def _proximal(self) -> Exception:
        expected, fix = "a problem with an operator F", "use chambolle_pock, or alpd for a SmoothSaddle"
        return check.error("problem", f"a {type(self).__name__}, given by proximal steps", expected, fix, TypeError)

    def fun(self, z: Array) -> float | None:
        """Return the value of the problem, None if it has none."""
        return None

    def _start_scale(self, z: Array) -> float:
        """Unit of the certificate of a run from ``z``."""
        g = self.operator(z)
        if not self._bounded:
            return float(self._residual(z, g)) or 1.0
        width = math.sqrt(sum(d.diameter**2 for d in self._domains))
        return float(linalg.norm(g, xp=self._xp)) * width or 1.0

    # --- points ---

    def split(self, z: Array) -> Any:
        """Return a point as the solvers return it: its parts as a tuple, or itself if it has one."""
        return z if len(self._parts) == 1 else tuple(z[p] for p in self._parts)

    def start(self, point: Any) -> Array:
        """Check a starting point; by default it is the centre of the set."""
        xp = self._xp
        if point is None:
            zeros = xp.zeros(self.n, dtype=self._like.dtype, device=device_of(self._like))
            return self._each(zeros, lambda m, v: m.center(v, xp=xp))
        parts = point if isinstance(point, tuple) and len(self._parts) > 1 else (point,)
        if len(parts) != len(self._parts):
            raise check.error("init", f"{len(parts)} part", f"a tuple of {len(self._parts)} arrays")
        arrays = []
        for value, part in zip(parts, self._parts, strict=True):
            check.common(problem=self._like, init=value)
            arrays.append(
                check.array(
                    "init", value, xp=xp, shape=(part.stop - part.start,), dtype=self._like.dtype,
                    device=device_of(self._like),
                )
            )  # fmt: skip
        z = arrays[0] if len(arrays) == 1 else xp.concat(arrays)
        if not self.violation(z) <= 1e-3:
            raise check.error("init", f"a point outside of the set, by {self.violation(z):.2g}", "a point of the set")
        return z

    def _each(self, z: Array, function: Callable[[MirrorMap, Array], Array]) -> Array:
        if len(self._maps) == 1:
            return function(self._maps[0], z)
        return self._xp.concat([function(m, z[p]) for m, p in zip(self._maps, self._parts, strict=True)])

    def grad(self, z: Array) -> Array:
        """Return the dual point of a point."""
        return self._each(z, lambda m, v: m.grad(v, xp=self._xp))

    def grad_conj(self, theta: Array) -> Array:
        """Return the point of a dual point."""
        return theta if self._free else self._each(theta, lambda m, v: m.grad_conj(v, xp=self._xp))

    def restore(self, theta: Array) -> Array:
        """Return a dual point of the same point that stays within range."""
        return theta if self._free else self._each(theta, lambda m, v: m._dual(v, self._xp))

    # --- how good a point is ---

    @property
    def kind(self) -> str:
        """Kind of the certificate: a gap on bounded sets, a residual elsewhere."""
        return "duality_gap" if self._bounded else "residual"

    def measure(self, z: Array) -> Array:
        """Return the gap ``max <F(z), z - u>`` over the set, or the norm of the residual if it is not bounded."""
        g = self.operator(z)
        if not self._bounded:
            return self._residual(z, g)
        xp = self._xp
        total = xp.sum(g * z)
        for domain, part in zip(self._domains, self._parts, strict=True):
            total = total - xp.sum(g[part] * domain.linear_minimizer(g[part], xp=xp))
        return total

    def _residual(self, z: Array, g: Array) -> Array:
        if self._free:
            return linalg.norm(g, xp=self._xp)
        unit = 1.0 / self.lipschitz
        moved_ = self.grad_conj(self.grad(z) - unit * g)
        return linalg.norm(z - moved_, xp=self._xp) / unit

    def violation(self, z: Array) -> float:
        """Return how far a point is outside of the set, relative to its size."""
        if self._free:
            return 0.0
        pairs = zip(self._maps, self._parts, strict=True)
        return max(0.0, *(float(m._violation(z[p], self._xp)) for m, p in pairs))

    def identity(self) -> Any:
        """Return what tells this problem from others: its value at a fixed point, and its sets."""
        z = self._xp.cos(self._xp.arange(self.n, dtype=self._like.dtype, device=device_of(self._like)))
        return type(self).__name__, probe(self.operator(z)), self._maps


def euclidean(problem: Problem, method: str, fix: str = "use mirror_prox") -> None:
    """Refuse problems whose geometry is not Euclidean."""
    if not all(isinstance(m, Euclidean) for m in problem._maps):
        got = ", ".join(type(m).__name__ for m in problem._maps)
        raise check.error("problem", f"the mirror maps {got}", f"Euclidean ones for {method}", fix)


def require(problem: Any, *kinds: type) -> Any:
    """Check that an argument is a problem, of one of the classes if some are given."""
    kinds = kinds or (Problem,)
    if not isinstance(problem, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise check.error("problem", type(problem).__name__, f"a {expected}", "see optlib.online.problems", TypeError)
    return problem
