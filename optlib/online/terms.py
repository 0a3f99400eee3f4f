"""Convex functions with a proximal operator and a conjugate, and the problems that they make with a matrix."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import Any

from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib.backend import Array, asarray_like, device_of, linalg, to_numpy
from optlib.geometry import Domain, Euclidean, prox_l1
from optlib.linop import as_linear_operator
from optlib.online._problem import Problem


class Term(ABC):
    """A closed convex function of vectors.

    ``convexity`` is its modulus of strong convexity. A term defines ``value(x, xp)``, ``excess(x, xp)``, the relative
    violation of its domain by ``x`` (0 if it is finite everywhere; ``value`` then is that of a point of the domain
    nearby), the same for its conjugate, and ``prox(x, t, xp) = argmin f(z) + |z - x|^2 / (2 t)``.
    """

    convexity = 0.0

    @abstractmethod
    def value(self, x: Array, xp: Any) -> Array:
        """Return ``f(x)``, a violation of its domain left out."""

    @abstractmethod
    def conj(self, y: Array, xp: Any) -> Array:
        """Return ``max <x, y> - f(x)``, a violation of its domain left out."""

    @abstractmethod
    def prox(self, x: Array, t: float, xp: Any) -> Array:
        """Return ``argmin f(z) + |z - x|^2 / (2 t)``."""

    def excess(self, x: Array, xp: Any) -> Array:
        """Return the relative violation of the domain of ``f``."""
        return xp.sum(x[:0])

    def conj_excess(self, y: Array, xp: Any) -> Array:
        """Return the relative violation of the domain of the conjugate."""
        return xp.sum(y[:0])

    def prox_conj(self, y: Array, s: float, xp: Any) -> Array:
        """Return the proximal operator of the conjugate, by Moreau's identity."""
        return y - s * self.prox(y / s, 1.0 / s, xp)

    def _like(self, like: Array) -> "Term":
        """Return the term with its arrays in the library, device and dtype of ``like``."""
        moved = copy(self)
        for name, value in vars(self).items():
            if hasattr(value, "shape") and not isinstance(value, Domain):
                setattr(moved, name, asarray_like(to_numpy(value), like))
        return moved


class Indicator(Term):
    """0 on a bounded domain, infinite elsewhere: a constraint.

    Parameters
    ----------
    domain : Domain
        The set, bounded.
    """

    def __init__(self, domain: Domain) -> None:
        if not isinstance(domain, Domain) or len(domain.shape) != 1 or math.isinf(domain.diameter):
            got = repr(domain) if isinstance(domain, Domain) else type(domain).__name__
            raise check.error("domain", got, "a bounded domain of vectors", "for example Ball(n)", TypeError)
        self.domain = domain

    def value(self, x: Array, xp: Any) -> Array:
        """Return 0."""
        return xp.sum(x[:0])

    def conj(self, y: Array, xp: Any) -> Array:
        """Return the support function."""
        return xp.sum(y * self.domain.linear_minimizer(-y, xp=xp))

    def prox(self, x: Array, t: float, xp: Any) -> Array:
        """Return the projection."""
        return self.domain.project(x, xp=xp)

    def excess(self, x: Array, xp: Any) -> Array:
        """Return how far the point is outside, relative to the size of the set."""
        violation = self.domain._violation(x, xp)
        return xp.where(violation > 0.0, violation, xp.zeros_like(violation))

    def _like(self, like: Array) -> "Indicator":
        return Indicator(self.domain._map_arrays(lambda v: asarray_like(to_numpy(v), like)))


class L1Norm(Term):
    """``reg sum |x|``.

    Parameters
    ----------
    reg : float
        Strength, > 0.
    """

    def __init__(self, reg: float = 1.0) -> None:
        self.reg = check.scalar("reg", reg, low=0.0, low_open=True)

    def value(self, x: Array, xp: Any) -> Array:
        """Return ``reg sum |x|``."""
        return self.reg * xp.sum(xp.abs(x))

    def conj(self, y: Array, xp: Any) -> Array:
        """Return 0."""
        return xp.sum(y[:0])

    def prox(self, x: Array, t: float, xp: Any) -> Array:
        """Return the soft threshold."""
        return prox_l1(x, t * self.reg, xp=xp)

    def conj_excess(self, y: Array, xp: Any) -> Array:
        """Return by how much the largest entry exceeds ``reg``."""
        top = xp.max(xp.abs(y)) / self.reg - 1.0
        return xp.where(top > 0.0, top, xp.zeros_like(top))


class SquaredDistance(Term):
    """``weight / 2 |x - target|^2``.

    Parameters
    ----------
    target : array, shape (n,)
        Where it vanishes.
    weight : float
        Strength, > 0.
    """

    def __init__(self, target: Any, weight: float = 1.0) -> None:
        xp, device, dtype = check.common(target=target)
        self.target = check.array("target", target, xp=xp, ndim=1, dtype=dtype, device=device)
        self.weight = check.scalar("weight", weight, low=0.0, low_open=True)

    @property
    def convexity(self) -> float:  # type: ignore[override]
        """The weight."""
        return self.weight

    def value(self, x: Array, xp: Any) -> Array:
        """Return ``weight / 2 |x - target|^2``."""
        return 0.5 * self.weight * xp.sum(xp.square(x - self.target))

    def conj(self, y: Array, xp: Any) -> Array:
        """Return ``|y|^2 / (2 weight) + <target, y>``."""
        return xp.sum(y * (y * (0.5 / self.weight) + self.target))

    def prox(self, x: Array, t: float, xp: Any) -> Array:
        """Return the mean of ``x`` and the target."""
        part = t * self.weight
        return (x + part * self.target) / (1.0 + part)


def check_lengths(**terms: tuple[Term, int]) -> None:
    """Check that terms are functions of as many coordinates as the matrix says."""
    for name, (term, size) in terms.items():
        own = getattr(term, "target", None)
        length = own.shape[0] if own is not None else term.domain.shape[0] if hasattr(term, "domain") else size
        if length != size:
            raise check.error(name, f"a function of {length} coordinates", f"one of {size}")


def operator_norm(K: Any, norm: float | None) -> float:
    """Check the spectral norm of a matrix, or compute it from the dense matrix."""
    if 0 in K.shape:
        raise check.error("K", f"shape {K.shape}", "at least one row and one column")
    if norm is None:
        dense = K.to_dense()
        if not bool(K.xp.all(K.xp.isfinite(dense))):
            raise check.error("K", "an entry that is NaN or infinite", "finite numbers")
        norm = float(K.xp.max(linalg.svd(dense, xp=K.xp)[1])) or 1.0
    return check.scalar("norm", norm, low=0.0, low_open=True)


class CompositeProblem(Problem):
    r"""``min_x f(x) + h(K x)``, solved as ``min_x max_y f(x) + <K x, y> - h*(y)``.

    Parameters
    ----------
    K : array, sparse matrix or operator, shape (m, n)
        The matrix.
    f, h : Term
        Functions on n and on m coordinates: `L1Norm`, `SquaredDistance`, `Indicator`, or your own.
    norm : float, optional
        Bound on the spectral norm of ``K``; by default it is computed, from the dense matrix.

    Notes
    -----
    The duality gap is ``f(x) + h(K x) + f*(-K'y) + h*(y)``, where ``y`` is first shortened to the domain of
    ``f*(-K' .)``; it is relative to the value at the start. Where ``K x`` leaves the domain of ``h``, the violation is
    the residual of the certificate.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import CompositeProblem, L1Norm, SquaredDistance, chambolle_pock
    >>> lasso = CompositeProblem([[1.0, 0.5], [0.0, 1.0]], f=L1Norm(0.1), h=SquaredDistance([1.0, 0.0]))
    >>> chambolle_pock(lasso, tol=1e-8).x[0].round(4)
    array([0.9, 0. ])
    """

    def __init__(self, K: Any, f: Term, h: Term, *, norm: float | None = None) -> None:
        K = as_linear_operator(K)
        for name, term in (("f", f), ("h", h)):
            if not isinstance(term, Term):
                raise check.error(name, type(term).__name__, "a Term", "for example L1Norm(0.1)", TypeError)
        self.norm = operator_norm(K, norm)
        m, n = K.shape
        super().__init__([Euclidean(), Euclidean()], [n, m], K.xp.empty(0, dtype=K.dtype, device=K.device))
        self.K, self.f, self.h = K, f._like(self._like), h._like(self._like)
        check_lengths(f=(self.f, n), h=(self.h, m))

    kind = "duality_gap"

    def start(self, point: Any) -> Array:
        """Check a starting point; by default 0, brought into the domains."""
        xp = self._xp
        z = super().start(point)
        if point is not None:
            return z
        x, y = self.split(z)
        return xp.concat([self.f.prox(x, 1.0, xp), self.h.prox_conj(y, 1.0, xp)])

    def forward(self, x: Array) -> Array:
        """Return ``K x``."""
        return self.K._matvec(x)

    def backward(self, y: Array) -> Array:
        """Return ``K'y``."""
        return self.K._rmatvec(y)

    def prox_x(self, x: Array, t: float) -> Array:
        """Return the proximal step of ``f``."""
        return self.f.prox(x, t, self._xp)

    def prox_y(self, y: Array, s: float) -> Array:
        """Return the proximal step of the conjugate of ``h``."""
        return self.h.prox_conj(y, s, self._xp)

    def dual(self, y: Array) -> tuple[Array, Array]:
        """Return ``y`` shortened to where the dual value is finite, and that value."""
        xp = self._xp
        image = self.backward(y)
        shorten = 1.0 / (1.0 + self.f.conj_excess(-image, xp))
        y, image = shorten * y, shorten * image
        return y, -self.f.conj(-image, xp) - self.h.conj(y, xp)

    def fun(self, z: Array) -> float:
        """Return the primal value ``f(x) + h(K x)``."""
        return float(self._primal(self.split(z)[0]))

    def _primal(self, x: Array) -> Array:
        return self.f.value(x, self._xp) + self.h.value(self.forward(x), self._xp)

    def measure(self, z: Array) -> Array:
        """Return the duality gap."""
        x, y = self.split(z)
        gap = self._primal(x) - self.dual(y)[1]
        return self._xp.abs(gap) + self._unit * self._excess(x)  # a point outside may have a negative gap

    def _excess(self, x: Array) -> Array:
        return self.f.excess(x, self._xp) + self.h.excess(self.forward(x), self._xp)

    def violation(self, z: Array) -> float:
        """Return the violation of the domains of ``f`` and ``h``."""
        return float(self._excess(self.split(z)[0]))

    @cached_property
    def _unit(self) -> float:
        x, y = self.split(self.start(None))
        return max(abs(float(self._primal(x))), abs(float(self.dual(y)[1]))) or 1.0

    def _start_scale(self, z: Array) -> float:
        return self._unit

    def identity(self) -> Any:
        """Return what tells this problem from others."""
        z = self._xp.cos(self._xp.arange(self.n, dtype=self._like.dtype, device=device_of(self._like)))
        x, y = self.split(z)
        known = probe(self.forward(x), self.prox_x(x, 0.5), self.prox_y(y, 0.5))
        return "CompositeProblem", known, type(self.f).__name__

    def _map_arrays(self, move: Callable[[Array], Array]) -> "CompositeProblem":
        return CompositeProblem(self.K._map_arrays(move), self.f, self.h, norm=self.norm)
