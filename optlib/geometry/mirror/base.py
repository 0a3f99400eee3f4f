"""The base class of the mirror maps: what a map must define, and what follows from it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import copy
from inspect import signature
from numbers import Real
from typing import Any

from array_api_compat import is_array_api_obj

from optlib._core import validation as check
from optlib.backend import Array, device_of, linalg
from optlib.geometry.domains import Domain


class MirrorMap(ABC):
    """A convex function ``psi`` on a convex set ``X``, and the geometry that it induces.

    ``psi`` is differentiable and strongly convex on ``X``; ``B(x; y) = psi(x) - psi(y) - <grad psi(y), x - y>`` is its
    Bregman divergence. A point is the last axis of an array (for matrix maps the last two); the axes before it are
    independent points and broadcast.

    Every method takes ``xp``, the namespace of its arrays. Without it lists and integers are accepted too; with it the
    arrays are taken as they are, which saves the look-up in a loop.

    Notes
    -----
    A map defines ``_value``, ``_grad``, ``_grad_conj`` (which includes the constraint ``x in X``), ``_violation``,
    ``_sigma``, ``_range``, ``_diameter`` and ``_domain``; the other members follow from these, and a map replaces them
    where a more stable or faster form exists. A state that must not underflow is kept as dual point: `step_dual`.

    References
    ----------
    A. Nemirovski, D. Yudin, "Problem Complexity and Method Efficiency in Optimization", Wiley, 1983.
    F. Orabona, "A Modern Introduction to Online Learning", arXiv:1912.13213, chapters 6 and 7.
    """

    order: float = 2.0  # psi is strongly convex with respect to the l_p norm of this order
    point_ndim: int = 1  # trailing axes of a point

    # What `Spectral` needs to know: the interval where psi of an entry is defined (finite ends have an infinite slope),
    # and what leaves psi and X unchanged: "permutations" of the entries, also changes of their "signs", or nothing.
    _interval: tuple[float, float] = (-math.inf, math.inf)
    _symmetry: str | None = "permutations"

    # --- members ---

    def value(self, x: Any, *, xp: Any = None) -> Array:
        """Return ``psi(x)``; +inf where its formula is not defined (whether ``x`` is in ``X`` is not tested).

        Parameters
        ----------
        x : array, shape (..., n)
            Points.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (...)
            Values.
        """
        if xp is None:
            xp, x = self._arrays(x=x)
        return self._value(x, xp)

    def grad(self, x: Any, *, xp: Any = None) -> Array:
        """Return ``grad psi(x)``, the dual point of ``x``; infinite on the boundary where the slope is.

        Parameters
        ----------
        x : array, shape (..., n)
            Points.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (..., n)
            Dual points.
        """
        if xp is None:
            xp, x = self._arrays(x=x)
        return self._grad(x, xp)

    def grad_conj(self, theta: Any, *, xp: Any = None) -> Array:
        """Return ``argmax <theta, x> - psi(x)`` over ``x in X``, the primal point of ``theta``.

        Parameters
        ----------
        theta : array, shape (..., n)
            Dual points.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (..., n)
            Points of ``X``.
        """
        if xp is None:
            xp, theta = self._arrays(theta=theta)
        return self._grad_conj(theta, xp)

    def conj(self, theta: Any, *, xp: Any = None) -> Array:
        """Return ``max <theta, x> - psi(x)`` over ``x in X``.

        Parameters
        ----------
        theta : array, shape (..., n)
            Dual points.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (...)
            Values of the conjugate.
        """
        if xp is None:
            xp, theta = self._arrays(theta=theta)
        return self._conj(theta, xp)

    def bregman(self, x: Any, y: Any, *, xp: Any = None) -> Array:
        """Return the Bregman divergence ``B(x; y)``: nonnegative, never NaN, +inf where it must be.

        Parameters
        ----------
        x, y : array, shape (..., n)
            Points.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (...)
            Divergences.
        """
        if xp is None:
            xp, x, y = self._arrays(x=x, y=y)
        return self._bregman(x, y, xp)

    def project(self, y: Any, *, xp: Any = None) -> Array:
        """Return the Bregman projection ``argmin B(x; y)`` over ``x in X``.

        Parameters
        ----------
        y : array, shape (..., n)
            Points where ``psi`` is differentiable, in ``X`` or not.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (..., n)
            Points of ``X``.
        """
        if xp is None:
            xp, y = self._arrays(y=y)
        return self._project(y, xp)

    def step(self, x: Any, g: Any, eta: Any, *, xp: Any = None) -> Array:
        """Return the mirror descent step ``argmin eta <g, z> + B(z; x)`` over ``z in X``.

        Parameters
        ----------
        x : array, shape (..., n)
            Points of ``X``.
        g : array, shape (..., n)
            Gradients.
        eta : float or array, shape (...)
            Step sizes.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (..., n)
            Points of ``X``.
        """
        if xp is None:
            xp, x, g = self._arrays(x=x, g=g)
        return self._step(x, g, eta if type(eta) is float else self._rate(eta, x, xp), xp)

    def step_dual(self, theta: Any, g: Any, eta: Any, *, xp: Any = None) -> Array:
        """Do the same step on dual points: nothing underflows, however small the entries of the point are.

        Parameters
        ----------
        theta : array, shape (..., n)
            Dual points of points of ``X``: ``grad(x)``, or what this method returned.
        g : array, shape (..., n)
            Gradients.
        eta : float or array, shape (...)
            Step sizes.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (..., n)
            A dual point ``grad(z)`` of ``z = step(x, g, eta)``; ``grad_conj`` of it is ``z``.
        """
        if xp is None:
            xp, theta, g = self._arrays(theta=theta, g=g)
        return self._dual(theta - (eta if type(eta) is float else self._rate(eta, g, xp)) * g, xp)

    def center(self, like: Any, *, xp: Any = None) -> Array:
        """Return the minimiser of ``psi`` over ``X``.

        Parameters
        ----------
        like : array, shape (..., n)
            Gives shape, dtype and device.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (..., n)
            The centre, once per point.
        """
        if xp is None:
            xp, like = self._arrays(like=like)
        return self._grad_conj(xp.zeros_like(like), xp)

    def sigma(self, n: int) -> float:
        """Return the modulus of strong convexity with respect to `norm`, in dimension ``n``.

        Parameters
        ----------
        n : int
            Number of coordinates of a point (of eigenvalues, for matrix maps).

        Returns
        -------
        float
            ``B(x; y) >= sigma |x - y|^2 / 2`` on ``X``; 0 if no such number exists.
        """
        return self._sigma(check.scalar("n", n, low=1, integer=True))

    def range(self, n: int) -> float:
        """Return ``max psi - min psi`` over ``X`` in dimension ``n``.

        Parameters
        ----------
        n : int
            Number of coordinates of a point (of eigenvalues, for matrix maps).

        Returns
        -------
        float
            The range, at least ``max B(x; center)``; inf if ``psi`` or ``X`` is unbounded.
        """
        return self._range(check.scalar("n", n, low=1, integer=True))

    def diameter(self, n: int) -> float:
        """Return ``D`` with ``B(x; y) <= D^2 / 2`` for all ``x, y`` in ``X``, in dimension ``n``.

        Parameters
        ----------
        n : int
            Number of coordinates of a point (of eigenvalues, for matrix maps).

        Returns
        -------
        float
            For half the squared Euclidean norm the diameter of ``X``; inf for entropies and barriers, whose slope is
            infinite on the boundary: mirror descent with a decreasing rate has no bound there, other than with a
            regulariser on cumulative gradients (``grad_conj`` of their sum).
        """
        return self._diameter(check.scalar("n", n, low=1, integer=True))

    def domain(self, n: int) -> Domain | None:
        """Return ``X`` as a domain, in dimension ``n``.

        Parameters
        ----------
        n : int
            Number of coordinates of a point (of rows, for matrix maps).

        Returns
        -------
        Domain or None
            None where there is no such domain: the whole space, and sets that have no class of their own.
        """
        return self._domain(check.scalar("n", n, low=1, integer=True))

    def norm(self, x: Any, *, xp: Any = None) -> Array:
        """Return the norm of `sigma`.

        Parameters
        ----------
        x : array, shape (..., n)
            Primal vectors.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (...)
            Norms.
        """
        if xp is None:
            xp, x = self._arrays(x=x)
        return self._norm(x, xp)

    def dual_norm(self, g: Any, *, xp: Any = None) -> Array:
        """Return the norm dual to `norm`, that of gradients.

        Parameters
        ----------
        g : array, shape (..., n)
            Dual vectors.
        xp : module, optional
            Namespace.

        Returns
        -------
        array, shape (...)
            Norms.
        """
        if xp is None:
            xp, g = self._arrays(g=g)
        return self._dual_norm(g, xp)

    def in_domain(self, x: Any, tol: float = 1e-6, *, xp: Any = None) -> Array:
        """Tell which points are in ``X``.

        Parameters
        ----------
        x : array, shape (..., n)
            Points.
        tol : float
            Largest violation of a constraint, relative to the size of ``X``.
        xp : module, optional
            Namespace.

        Returns
        -------
        array of bool, shape (...)
            Whether the constraints hold; False for NaN.
        """
        if xp is None:
            xp, x = self._arrays(x=x)
        return self._violation(x, xp) <= tol

    # --- what a map defines ---

    @abstractmethod
    def _value(self, x: Array, xp: Any) -> Array: ...

    @abstractmethod
    def _grad(self, x: Array, xp: Any) -> Array: ...

    @abstractmethod
    def _grad_conj(self, theta: Array, xp: Any) -> Array: ...

    @abstractmethod
    def _violation(self, x: Array, xp: Any) -> Array:
        """Largest relative violation of a constraint of ``X``."""

    @abstractmethod
    def _sigma(self, n: int) -> float: ...

    @abstractmethod
    def _range(self, n: int) -> float: ...

    def _diameter(self, n: int) -> float:
        return math.inf

    def _domain(self, n: int) -> Domain | None:
        return None

    # --- what follows ---

    def _conj(self, theta: Array, xp: Any) -> Array:
        x = self._grad_conj(theta, xp)
        axes = tuple(range(-self.point_ndim, 0))
        return xp.sum(xp.where(x == 0, x, theta * x), axis=axes) - self._value(x, xp)

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        axes = tuple(range(-self.point_ndim, 0))
        slope = xp.sum(self._grad(y, xp) * (x - y), axis=axes)
        value = self._value(x, xp) - self._value(y, xp) - slope
        return xp.maximum(value, xp.zeros_like(value))

    def _project(self, y: Array, xp: Any) -> Array:
        return self._grad_conj(self._grad(y, xp), xp)

    def _step(self, x: Array, g: Array, eta: Any, xp: Any) -> Array:
        return self._grad_conj(self._grad(x, xp) - eta * g, xp)

    def _dual(self, theta: Array, xp: Any) -> Array:
        """Dual point of ``grad_conj(theta)``."""
        return self._grad(self._grad_conj(theta, xp), xp)

    def _norm(self, x: Array, xp: Any) -> Array:
        return lp_norm(x, self.order, xp)

    def _dual_norm(self, g: Array, xp: Any) -> Array:
        return lp_norm(g, math.inf if self.order == 1.0 else self.order / (self.order - 1.0), xp)

    # --- arguments ---

    def _arrays(self, **named: Any) -> tuple[Any, ...]:
        """Return the namespace and the arguments as floating arrays: of one library and device, which are the map's."""
        own = {name.lstrip("_"): value for name, value in vars(self).items() if is_array_api_obj(value)}
        xp, device, dtype = check.common(**named, **own)
        if any(is_array_api_obj(value) for value in named.values()):
            dtype = check.common(**named)[2]
        options = {"xp": xp, "finite": False, "dtype": dtype, "device": device, "graph": True}
        arrays = [check.array(name, value, **options) for name, value in named.items()]
        shape = None
        for name, x in zip(named, arrays, strict=True):
            point = tuple(x.shape[x.ndim - self.point_ndim :]) if x.ndim >= self.point_ndim else ()
            if not point or 0 in point:
                expected = "a vector" if self.point_ndim == 1 else "a matrix"
                raise check.error(name, f"shape {tuple(x.shape)}", f"at least {expected} with at least one entry")
            shape = self._point_shape(point) if shape is None else shape
            if point != shape:
                raise check.error(name, f"shape {tuple(x.shape)}", f"last axes {shape}")
        return xp, *arrays

    def _point_shape(self, point: tuple[int, ...]) -> tuple[int, ...]:
        """Shape that points must have, given that of the first one."""
        return point

    def _rate(self, eta: Any, like: Array, xp: Any) -> Any:
        """Return a step size that multiplies gradients: a Python float, or an array with the axes of a point."""
        if isinstance(eta, Real):
            return check.scalar("eta", eta)
        if not is_array_api_obj(eta):
            eta = check.array("eta", eta, xp=xp, dtype=like.dtype, device=device_of(like), graph=True)
        if 0 in eta.shape:
            raise check.error("eta", f"shape {tuple(eta.shape)}", "a number, or one for each point")
        return eta[(..., *(None,) * self.point_ndim)]

    def _map_arrays(self, move: Callable[[Any], Any]) -> "MirrorMap":
        moved = copy(self)
        for name, value in vars(self).items():
            setattr(moved, name, move(value))
        return moved

    def __repr__(self) -> str:
        parts = [f"{name}={getattr(self, name)!r}" for name in signature(type(self)).parameters]
        return f"{type(self).__name__}({', '.join(parts)})"


def lp_norm(x: Array, p: float, xp: Any) -> Array:
    """Norm of order ``1 <= p <= inf`` over the last axis, without overflow of the powers."""
    if p == 1.0:
        return xp.sum(xp.abs(x), axis=-1)
    if p == 2.0:
        return linalg.norm(x, axis=-1, xp=xp)
    size = xp.max(xp.abs(x), axis=-1, keepdims=True)
    if p == math.inf:
        return size[..., 0]
    unit = xp.abs(x) / xp.where(size > 0, size, xp.ones_like(size))
    return size[..., 0] * xp.sum(unit**p, axis=-1) ** (1.0 / p)


def safe_log(x: Array, xp: Any) -> Array:
    """Logarithm without warnings: -inf at 0, NaN below."""
    positive = x > 0
    rest = xp.where(x == 0, xp.full_like(x, -xp.inf), xp.nan)
    return xp.where(positive, xp.log(xp.where(positive, x, xp.ones_like(x))), rest)


def safe_exp(x: Array, xp: Any) -> Array:
    """Exponential without warnings: inf where it overflows."""
    top = math.log(float(xp.finfo(x.dtype).max))
    return xp.where(x > top, xp.inf, xp.exp(xp.where(x > top, xp.zeros_like(x), x)))
