"""Convex sets as objects: what a learner or a projection-free method asks of its domain.

A domain knows its projection, its linear minimiser (for Frank-Wolfe and follow-the-leader methods), whether it contains
a point, and the lengths that step sizes are made of. Points lie in the last axes of an array (one for vectors, two for
matrices, with the Frobenius norm); the axes before are a batch. Domains are immutable; `optlib.to_device` moves those
that hold arrays.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, linalg
from optlib.geometry import _input, projections, spectral_projections

__all__ = ["Ball", "Box", "Domain", "L1Ball", "NuclearBall", "Simplex", "Spectrahedron"]


class Domain(ABC):
    """A closed convex set in the space of vectors or matrices of one shape.

    Notes
    -----
    A domain defines `shape`, `diameter`, `radius`, ``_project``, ``_violation``, ``_linear_minimizer`` and ``_center``;
    the public methods check and convert their argument, or trust it when they are given ``xp``.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""

    @property
    @abstractmethod
    def diameter(self) -> float:
        """Largest distance between two points; infinite for an unbounded set."""

    @property
    @abstractmethod
    def radius(self) -> float:
        """Largest distance of a point from the centre."""

    def project(self, x: Any, *, xp: Any = None) -> Array:
        """Return the nearest points of the set.

        Parameters
        ----------
        x : array, of shape (...) + shape
            Points.
        xp : module, optional
            Namespace of ``x``: the call then trusts its arguments.

        Returns
        -------
        array, of shape (...) + shape
            The projections.
        """
        return self._project(*self._enter(x, xp))

    def contains(self, x: Any, tol: float | None = None, *, xp: Any = None) -> Array:
        """Tell which points lie in the set, up to a violation relative to the size of the set.

        Parameters
        ----------
        x : array, of shape (...) + shape
            Points.
        tol : float, optional
            Tolerance; by default the square root of the machine precision of ``x``.
        xp : module, optional
            Namespace of ``x``: the call then trusts its arguments.

        Returns
        -------
        boolean array, shape (...)
            False for NaN.
        """
        x, xp = self._enter(x, xp)
        if tol is None:
            tol = math.sqrt(xp.finfo(x.dtype).eps)
        return self._violation(x, xp) <= check.scalar("tol", tol, low=0.0)

    def linear_minimizer(self, g: Any, *, xp: Any = None) -> Array:
        """Return extreme points that minimise ``<g, z>`` over the set.

        Parameters
        ----------
        g : array, of shape (...) + shape
            Linear functions. Where one does not decide, any minimiser is returned; NaN gives NaN.
        xp : module, optional
            Namespace of ``g``: the call then trusts its arguments.

        Returns
        -------
        array, of shape (...) + shape
            Minimisers; with infinite entries where the function is not bounded below.
        """
        g, xp = self._enter(g, xp)
        z = self._linear_minimizer(g, xp)
        bad = xp.any(xp.isnan(g), axis=tuple(range(-len(self.shape), 0)), keepdims=True)
        return xp.where(bad, xp.nan, z)

    def center(self, like: Any = None) -> Array:
        """Return the point from which the radius is measured.

        Parameters
        ----------
        like : array, optional
            Array that gives library, device and dtype; by default those of the arrays of the domain, or NumPy float64.

        Returns
        -------
        array, shape shape
            The centre.
        """
        if like is None:
            like = next((v for v in self._arrays().values()), np.empty(0))
        return self._center(like, array_namespace(like))

    def _enter(self, x: Any, xp: Any) -> tuple[Array, Any]:
        if xp is not None:
            return x, xp
        xp, x = _input.points(x, len(self.shape), **self._arrays())
        if tuple(x.shape[-len(self.shape) :]) != self.shape:
            want = "(..., " + ", ".join(map(str, self.shape)) + ")"
            raise check.error("x", f"shape {tuple(x.shape)}", f"shape {want}")
        return x, xp

    def _arrays(self) -> dict[str, Array]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: v for name, v in values.items() if hasattr(v, "shape")}

    def _map_arrays(self, fn: Callable[[Array], Array]) -> "Domain":
        moved = copy(self)
        for name, value in self._arrays().items():
            object.__setattr__(moved, name, fn(value))
        return moved

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @abstractmethod
    def _project(self, x: Array, xp: Any) -> Array: ...

    @abstractmethod
    def _violation(self, x: Array, xp: Any) -> Array: ...

    @abstractmethod
    def _linear_minimizer(self, g: Array, xp: Any) -> Array: ...

    def _center(self, like: Array, xp: Any) -> Array:
        return xp.zeros(self.shape, dtype=like.dtype, device=like.device)


def _length(name: str, value: Any) -> int:
    return check.scalar(name, value, low=1, integer=True)


def _size(name: str, value: Any) -> float:
    return check.scalar(name, value, low=0.0, low_open=True)


def _cast(a: Array, x: Array, xp: Any) -> Array:
    return a if a.dtype == x.dtype else xp.astype(a, x.dtype)


def _at(index: Array, values: Any, like: Array, xp: Any) -> Array:
    """Values at one entry of each row, 0 elsewhere."""
    return xp.where(xp.arange(like.shape[-1], device=like.device) == index[..., None], values, xp.zeros_like(like))


@dataclass(frozen=True, eq=False)
class Simplex(Domain):
    """The simplex ``{z >= 0, sum z = mass}``.

    Parameters
    ----------
    n : int
        Number of entries.
    mass : float
        Positive.

    Examples
    --------
    >>> from optlib.geometry import Simplex
    >>> simplex = Simplex(3)
    >>> simplex.linear_minimizer([2.0, -1.0, 0.0])
    array([0., 1., 0.])
    >>> round(simplex.diameter, 4), round(simplex.radius, 4)
    (1.4142, 0.8165)
    """

    n: int
    mass: float = 1.0

    def __post_init__(self) -> None:
        self._set(n=_length("n", self.n), mass=_size("mass", self.mass))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.n,)

    @property
    def diameter(self) -> float:
        """Distance of two vertices."""
        return self.mass * math.sqrt(2.0) if self.n > 1 else 0.0

    @property
    def radius(self) -> float:
        """Distance of a vertex from the centre, the uniform point."""
        return self.mass * math.sqrt(1.0 - 1.0 / self.n)

    def _project(self, x: Array, xp: Any) -> Array:
        return projections.project_simplex(x, self.mass, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return xp.maximum(-xp.min(x, axis=-1), xp.abs(xp.sum(x, axis=-1) - self.mass)) / self.mass

    def _linear_minimizer(self, g: Array, xp: Any) -> Array:
        return _at(xp.argmin(g, axis=-1), self.mass, g, xp)

    def _center(self, like: Array, xp: Any) -> Array:
        return xp.full(self.shape, self.mass / self.n, dtype=like.dtype, device=like.device)


class _Centred(Domain):
    """A norm ball: its radius is the half of its Euclidean diameter."""

    @property
    def diameter(self) -> float:
        """Twice the radius."""
        return 2.0 * self.radius


@dataclass(frozen=True, eq=False)
class Ball(_Centred):
    """The Euclidean ball ``{|z - middle| <= radius}``.

    Parameters
    ----------
    n : int
        Number of entries.
    radius : float
        Positive.
    middle : array, shape (n,), optional
        By default the origin.

    Examples
    --------
    >>> from optlib.geometry import Ball
    >>> ball = Ball(2, radius=2.0)
    >>> ball.project([3.0, 4.0])
    array([1.2, 1.6])
    >>> ball.contains([[1.0, 1.0], [2.0, 1.0]])
    array([ True, False])
    """

    n: int
    radius: float = 1.0
    middle: Any = None

    def __post_init__(self) -> None:
        n, middle = _length("n", self.n), self.middle
        if middle is not None:
            middle = check.array("middle", middle, xp=check.common(middle=middle)[0], shape=(n,))
        self._set(n=n, radius=_size("radius", self.radius), middle=middle)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.n,)

    def _project(self, x: Array, xp: Any) -> Array:
        if self.middle is None:
            return projections.project_l2_ball(x, self.radius, xp=xp)
        middle = _cast(self.middle, x, xp)
        return middle + projections.project_l2_ball(x - middle, self.radius, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        if self.middle is not None:
            x = x - _cast(self.middle, x, xp)
        return linalg.norm(x, axis=-1, xp=xp) / self.radius - 1.0

    def _linear_minimizer(self, g: Array, xp: Any) -> Array:
        size = linalg.norm(g, axis=-1, keepdims=True, xp=xp)
        z = g / xp.where(size > 0.0, size, xp.ones_like(size)) * -self.radius
        return z if self.middle is None else _cast(self.middle, g, xp) + z

    def _center(self, like: Array, xp: Any) -> Array:
        return super()._center(like, xp) if self.middle is None else _cast(self.middle, like, xp)


@dataclass(frozen=True, eq=False)
class L1Ball(_Centred):
    """The l1 ball ``{sum |z| <= radius}``.

    Parameters
    ----------
    n : int
        Number of entries.
    radius : float
        Positive.

    Examples
    --------
    >>> from optlib.geometry import L1Ball
    >>> L1Ball(3).linear_minimizer([1.0, -2.0, 0.0])
    array([0., 1., 0.])
    """

    n: int
    radius: float = 1.0

    def __post_init__(self) -> None:
        self._set(n=_length("n", self.n), radius=_size("radius", self.radius))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.n,)

    def _project(self, x: Array, xp: Any) -> Array:
        return projections.project_l1_ball(x, self.radius, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return xp.sum(xp.abs(x), axis=-1) / self.radius - 1.0

    def _linear_minimizer(self, g: Array, xp: Any) -> Array:
        vertex = xp.where(g > 0.0, -self.radius, xp.full_like(g, self.radius))
        return _at(xp.argmax(xp.abs(g), axis=-1), vertex, g, xp)


@dataclass(frozen=True, eq=False)
class Box(Domain):
    """The box ``{lower <= z <= upper}``.

    Parameters
    ----------
    lower, upper : float or array, shape (n,)
        Bounds, which may be infinite.
    n : int, optional
        Number of entries; needed if both bounds are numbers.

    Examples
    --------
    >>> from optlib.geometry import Box
    >>> box = Box(0.0, [1.0, 3.0])
    >>> box.linear_minimizer([1.0, -1.0]), box.center()
    (array([0., 3.]), array([0.5, 1.5]))
    """

    lower: Any
    upper: Any
    n: Any = None

    def __post_init__(self) -> None:
        xp, device, dtype = check.common(lower=self.lower, upper=self.upper)
        bounds: list[Any] = []
        n = None if self.n is None else _length("n", self.n)
        for name, value in (("lower", self.lower), ("upper", self.upper)):
            if isinstance(value, Real):
                bounds.append(check.scalar(name, value, finite=False))
                continue
            bounds.append(check.array(name, value, xp=xp, device=device, dtype=dtype, finite=False, shape=(n,)))
            n = _length("n", int(bounds[-1].shape[0]))
        if n is None:
            raise check.error("n", "nothing", "the number of entries, when both bounds are numbers")
        if not bool(xp.all(xp.asarray(bounds[0] <= bounds[1]))):
            raise check.error("lower, upper", "an empty interval or NaN", "lower <= upper everywhere")
        self._set(lower=bounds[0], upper=bounds[1], n=_length("n", n))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.n,)

    @property
    def diameter(self) -> float:
        """Distance of opposite corners."""
        center = self.center()
        lower, upper = self._bounds(center, array_namespace(center))
        return float(linalg.norm(upper - lower, xp=array_namespace(center)))

    @property
    def radius(self) -> float:
        """Distance of a corner from the centre."""
        return 0.5 * self.diameter

    def _bounds(self, x: Array, xp: Any) -> tuple[Array, Array]:
        full = (
            xp.full(self.shape, b, dtype=x.dtype, device=x.device) if isinstance(b, float) else _cast(b, x, xp)
            for b in (self.lower, self.upper)
        )
        return next(full), next(full)

    def _project(self, x: Array, xp: Any) -> Array:
        return projections.project_box(x, *self._bounds(x, xp), xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        lower, upper = self._bounds(x, xp)
        return xp.max(xp.maximum(lower - x, x - upper) / (1.0 + xp.abs(x)), axis=-1)

    def _linear_minimizer(self, g: Array, xp: Any) -> Array:
        lower, upper = self._bounds(g, xp)
        return xp.where(g > 0.0, lower, xp.where(g < 0.0, upper, self._center(g, xp)))

    def _center(self, like: Array, xp: Any) -> Array:
        """Middle of the bounds; where one is infinite the other, where both are 0."""
        lower, upper = self._bounds(like, xp)
        below, above = xp.isfinite(lower), xp.isfinite(upper)
        low, high = xp.where(below, lower, 0.0), xp.where(above, upper, 0.0)
        return xp.where(below & above, 0.5 * low + 0.5 * high, low + high)


@dataclass(frozen=True, eq=False)
class Spectrahedron(Domain):
    """The symmetric positive semidefinite matrices of one trace.

    Parameters
    ----------
    n : int
        Number of rows.
    trace : float
        Positive.

    Examples
    --------
    >>> from optlib.geometry import Spectrahedron
    >>> Spectrahedron(2).linear_minimizer([[1.0, 0.0], [0.0, -1.0]])
    array([[0., 0.],
           [0., 1.]])
    """

    n: int
    trace: float = 1.0

    def __post_init__(self) -> None:
        self._set(n=_length("n", self.n), trace=_size("trace", self.trace))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.n, self.n)

    @property
    def diameter(self) -> float:
        """Distance of two orthogonal matrices of rank one."""
        return self.trace * math.sqrt(2.0) if self.n > 1 else 0.0

    @property
    def radius(self) -> float:
        """Distance of a matrix of rank one from the centre, a multiple of the identity."""
        return self.trace * math.sqrt(1.0 - 1.0 / self.n)

    def _project(self, x: Array, xp: Any) -> Array:
        return spectral_projections.project_spectrahedron(x, self.trace, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        skew = xp.max(xp.abs(x - xp.matrix_transpose(x)), axis=(-2, -1))
        values, _ = linalg.eigh(0.5 * x + 0.5 * xp.matrix_transpose(x), xp=xp, check=False)
        trace = xp.abs(xp.sum(values, axis=-1) - self.trace)
        return xp.maximum(xp.maximum(-xp.min(values, axis=-1), trace), skew) / self.trace

    def _linear_minimizer(self, g: Array, xp: Any) -> Array:
        _, vectors = linalg.eigh(0.5 * g + 0.5 * xp.matrix_transpose(g), xp=xp, check=False)
        v = vectors[..., :, :1]
        return self.trace * (v @ xp.matrix_transpose(v))

    def _center(self, like: Array, xp: Any) -> Array:
        return xp.eye(self.n, dtype=like.dtype, device=like.device) * (self.trace / self.n)


@dataclass(frozen=True, eq=False)
class NuclearBall(_Centred):
    """The matrices whose singular values sum to at most a radius.

    Parameters
    ----------
    m, n : int
        Numbers of rows and columns.
    radius : float
        Positive.

    Examples
    --------
    >>> from optlib.geometry import NuclearBall
    >>> NuclearBall(2, 3).diameter
    2.0
    """

    m: int
    n: int
    radius: float = 1.0

    def __post_init__(self) -> None:
        self._set(m=_length("m", self.m), n=_length("n", self.n), radius=_size("radius", self.radius))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a point."""
        return (self.m, self.n)

    def _project(self, x: Array, xp: Any) -> Array:
        return spectral_projections.project_nuclear_ball(x, self.radius, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        _, values, _ = linalg.svd(x, xp=xp, check=False)
        return xp.sum(values, axis=-1) / self.radius - 1.0

    def _linear_minimizer(self, g: Array, xp: Any) -> Array:
        u, _, vh = linalg.svd(g, xp=xp, check=False)
        return -self.radius * (u[..., :, :1] @ vh[..., :1, :])
