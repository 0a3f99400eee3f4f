"""Linear operators: matrices known by their products, with an algebra that never forms them."""

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, Portable, array_namespace, as_floating, backend_name, device_of, is_numpy


class LinearOperator(Portable, ABC):
    """A real matrix known by its products with vectors.

    Subclasses implement ``_matvec`` and ``_rmatvec``; both get an array of shape ``(n,)`` or ``(n, k)`` (k vectors as
    columns) of the operator's library, and return the products in the same layout. ``A @ x``, ``A.T``, ``A + B``,
    ``A - B``, ``-A``, ``c * A``, ``A / c`` and ``A @ B`` make new operators without computing anything (for a 0-d array
    ``c`` of any library write ``A * c``).

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    like : array
        Its library, device and dtype are those of the operator; it is not kept.
    symmetric : bool
        Promise that the matrix equals its transpose.
    positive_semidefinite : bool
        Promise that it is symmetric and ``x'Ax >= 0`` for all ``x``. Both promises follow the algebra: sums,
        transposes, positive multiples and ``A.T @ A`` keep what they can.

    Attributes
    ----------
    shape : tuple of int
    xp : module
        The array namespace.
    dtype, device : object
    symmetric, positive_semidefinite : bool

    Notes
    -----
    Only real operators exist, so the transpose ``A.T`` is the adjoint.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import Identity, as_linear_operator
    >>> A = as_linear_operator(np.array([[2.0, 1.0], [0.0, 3.0]]))
    >>> normal = A.T @ A + 0.5 * Identity(2)
    >>> normal @ np.array([1.0, 1.0])
    array([ 6.5, 12.5])
    >>> normal.positive_semidefinite
    True
    """

    __array_ufunc__ = None  # NumPy arrays and scalars leave the binary operators to this class
    __array_priority__ = 1000.0

    def __init__(
        self, shape: tuple[int, int], like: Array, *, symmetric: bool = False, positive_semidefinite: bool = False
    ) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.xp = array_namespace(like)
        self.dtype = like.dtype
        self.device = device_of(like)
        self.symmetric = symmetric or positive_semidefinite
        self.positive_semidefinite = positive_semidefinite
        if self.symmetric and self.shape[0] != self.shape[1]:
            raise check.error("shape", f"{self.shape} for a symmetric operator", "a square shape")

    @abstractmethod
    def _matvec(self, x: Array) -> Array: ...

    @abstractmethod
    def _rmatvec(self, y: Array) -> Array: ...

    def _normal(self, weights: Array, x: Array) -> Array:
        """``A' (weights * (A x))`` for one vector."""
        return self._rmatvec(weights * self._matvec(x))

    def _map_arrays(self, move: Callable[[Array], Array]) -> "LinearOperator":
        """Rebuild the operator with its arrays moved or cast; keeps the promises."""
        got = f"a {type(self).__name__.removeprefix('_')} operator, known by functions only"
        fix = "make it anew from moved arrays; in an own class, define `_map_arrays(move)`"
        raise check.error("obj", got, "an operator of arrays, for `to_device` and `astype`", fix, TypeError)

    # --- products

    def matvec(self, x: Any) -> Array:
        """Multiply a vector, or several as columns.

        Parameters
        ----------
        x : array, shape (n,) or (n, k)

        Returns
        -------
        array, shape (m,) or (m, k)

        Raises
        ------
        ValueError
            If the shape does not fit.
        """
        return self._matvec(self._checked(x, self.shape[1]))

    def rmatvec(self, y: Any) -> Array:
        """Multiply with the transpose.

        Parameters
        ----------
        y : array, shape (m,) or (m, k)

        Returns
        -------
        array, shape (n,) or (n, k)

        Raises
        ------
        ValueError
            If the shape does not fit.
        TypeError
            If the operator was made of a function without its transpose.
        """
        return self._rmatvec(self._checked(y, self.shape[0]))

    def _checked(self, x: Any, n: int) -> Array:
        if not hasattr(x, "shape") or (is_numpy(self.xp) and getattr(x.dtype, "kind", "f") not in "fiub"):
            x = check.array("x", x, xp=self.xp, dtype=self.dtype, device=self.device, finite=False, graph=True)
        if x.ndim not in (1, 2) or x.shape[0] != n:
            raise check.error("x", f"shape {tuple(x.shape)}", f"shape ({n},) or ({n}, k)")
        return x

    def to_dense(self) -> Array:
        """Return the matrix as an array, at the cost of ``n`` products where nothing is known of it."""
        return self._matvec(self.xp.eye(self.shape[1], dtype=self.dtype, device=self.device))

    def to_scipy(self) -> Any:
        """Return a `scipy.sparse.linalg.LinearOperator` with the same products.

        Raises
        ------
        TypeError
            If the operator is not on NumPy.
        """
        if not is_numpy(self.xp):
            raise check.error("self", f"an operator on {backend_name(self.xp)}", "one on NumPy", kind=TypeError)
        from scipy.sparse.linalg import LinearOperator as SciPyOperator

        return SciPyOperator(
            self.shape,
            self._matvec,
            rmatvec=self._rmatvec,
            matmat=self._matvec,
            rmatmat=self._rmatvec,
            dtype=self.dtype,
        )

    def take(self, index: Array, axis: int = 0) -> "LinearOperator":
        """Return the operator of some of the rows, or of the columns.

        Parameters
        ----------
        index : array of int, shape (k,)
            On the device of the operator.
        axis : {0, 1}
            Rows or columns.

        Returns
        -------
        LinearOperator

        Raises
        ------
        TypeError
            If the operator does not hold its rows.
        """
        raise check.error("A", f"a {type(self).__name__.removeprefix('_')} operator", "a matrix", kind=TypeError)

    def _held(self) -> Array | None:
        """The matrix as an array, not to be changed; None where it is not held as one."""
        return None

    def _numbers(self) -> Array:
        """The numbers that the operator holds, for checks; none where it is made of functions or of others."""
        return _empty(self)

    def _squared(self) -> "LinearOperator | None":
        """The matrix of the squared entries; None where they are not at hand."""
        return None

    def astype(self, dtype: Any) -> "LinearOperator":
        """Return the operator with its arrays cast (itself, if there is nothing to do)."""
        return self if dtype == self.dtype else self._map_arrays(lambda x: self.xp.astype(x, dtype))

    def _tagged(self, like: "LinearOperator") -> "LinearOperator":
        self.symmetric, self.positive_semidefinite = like.symmetric, like.positive_semidefinite
        return self

    # --- algebra

    @property
    def T(self) -> "LinearOperator":
        """The transpose: the same object, if the operator is symmetric."""
        return self if self.symmetric else _Transpose(self)

    def __matmul__(self, other: Any) -> Any:
        return _Product(self, other) if isinstance(other, LinearOperator) else self.matvec(other)

    def __rmatmul__(self, other: Any) -> Array:
        product = self.rmatvec(other.T if getattr(other, "ndim", 1) == 2 else other)
        return product.T if product.ndim == 2 else product

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not is_numpy(self.xp):
            raise check.error("self", f"an operator on {backend_name(self.xp)}", "one on NumPy", kind=TypeError)
        return np.array(self.to_dense(), dtype=dtype, copy=copy)

    def __add__(self, other: Any) -> Any:
        return _Sum(self, other) if isinstance(other, LinearOperator) else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return _Sum(self, -other) if isinstance(other, LinearOperator) else NotImplemented

    def __mul__(self, c: Any) -> Any:
        if isinstance(c, numbers.Real):
            c = float(c)
        elif getattr(c, "shape", None) not in ((), None):
            raise check.error(
                "c", f"an array of shape {tuple(c.shape)} to multiply entry by entry", "a number",
                "use A.to_dense() * c", TypeError,
            )  # fmt: skip
        elif not hasattr(c, "shape"):
            return NotImplemented
        return _Scaled(self, c)

    __rmul__ = __mul__

    def __truediv__(self, c: Any) -> Any:
        return self * (1.0 / c)

    def __neg__(self) -> "LinearOperator":
        return _Scaled(self, -1.0)

    def __repr__(self) -> str:
        tag = "positive semidefinite" if self.positive_semidefinite else "symmetric" if self.symmetric else "general"
        name = type(self).__name__.removeprefix("_")
        return f"<{self.shape[0]}x{self.shape[1]} {name}, {tag}, {backend_name(self.xp)} {self.dtype}>"


def _joined(a: LinearOperator, b: LinearOperator) -> tuple[LinearOperator, LinearOperator]:
    """Check that two operators live together and give them one dtype."""
    if a.xp is not b.xp or a.device != b.device:
        got = f"{backend_name(a.xp)} on {a.device} and {backend_name(b.xp)} on {b.device}"
        raise check.error("operators", got, "one library and device", "move one with optlib.to_device", TypeError)
    dtype = a.xp.result_type(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def _empty(a: LinearOperator) -> Array:
    return a.xp.empty(0, dtype=a.dtype, device=a.device)


class _Transpose(LinearOperator):
    def __init__(self, a: LinearOperator) -> None:
        super().__init__(a.shape[::-1], _empty(a))
        self._a = a

    @property
    def T(self) -> LinearOperator:
        return self._a

    def _matvec(self, x: Array) -> Array:
        return self._a._rmatvec(x)

    def _rmatvec(self, y: Array) -> Array:
        return self._a._matvec(y)

    def to_dense(self) -> Array:
        return self._a.to_dense().T

    def take(self, index: Array, axis: int = 0) -> LinearOperator:
        return _Transpose(self._a.take(index, 1 - axis))

    def _map_arrays(self, move: Callable[[Array], Array]) -> LinearOperator:
        return _Transpose(self._a._map_arrays(move))

    def _squared(self) -> LinearOperator | None:
        squared = self._a._squared()
        return None if squared is None else squared.T


class _Sum(LinearOperator):
    def __init__(self, a: LinearOperator, b: LinearOperator) -> None:
        if a.shape != b.shape:
            raise check.error("operators", f"shapes {a.shape} and {b.shape} to add", "equal shapes")
        self._a, self._b = a, b = _joined(a, b)
        definite = a.positive_semidefinite and b.positive_semidefinite
        super().__init__(a.shape, _empty(a), symmetric=a.symmetric and b.symmetric, positive_semidefinite=definite)

    def _matvec(self, x: Array) -> Array:
        return self._a._matvec(x) + self._b._matvec(x)

    def _rmatvec(self, y: Array) -> Array:
        return self._a._rmatvec(y) + self._b._rmatvec(y)

    def _map_arrays(self, move: Callable[[Array], Array]) -> LinearOperator:
        return _Sum(self._a._map_arrays(move), self._b._map_arrays(move))._tagged(self)


class _Product(LinearOperator):
    def __init__(self, a: LinearOperator, b: LinearOperator) -> None:
        if a.shape[1] != b.shape[0]:
            raise check.error("operators", f"shapes {a.shape} and {b.shape} to multiply", "matching inner dimensions")
        gram = a.T is b or b.T is a
        self._a, self._b = a, b = _joined(a, b)
        super().__init__((a.shape[0], b.shape[1]), _empty(a), positive_semidefinite=gram)

    def _matvec(self, x: Array) -> Array:
        return self._a._matvec(self._b._matvec(x))

    def _rmatvec(self, y: Array) -> Array:
        return self._b._rmatvec(self._a._rmatvec(y))

    def _map_arrays(self, move: Callable[[Array], Array]) -> LinearOperator:
        return _Product(self._a._map_arrays(move), self._b._map_arrays(move))._tagged(self)


class _Scaled(LinearOperator):
    def __init__(self, a: LinearOperator, c: Any) -> None:
        keeps = a.positive_semidefinite and isinstance(c, float) and c >= 0
        super().__init__(a.shape, _empty(a), symmetric=a.symmetric, positive_semidefinite=keeps)
        self._a = a
        self._c = c if isinstance(c, float) else as_floating(c, xp=a.xp, dtype=a.dtype)

    def _matvec(self, x: Array) -> Array:
        return self._c * self._a._matvec(x)

    def _rmatvec(self, y: Array) -> Array:
        return self._c * self._a._rmatvec(y)

    def _map_arrays(self, move: Callable[[Array], Array]) -> LinearOperator:
        c = self._c if isinstance(self._c, float) else move(self._c)
        return _Scaled(self._a._map_arrays(move), c)._tagged(self)


class Identity(LinearOperator):
    """The identity.

    Parameters
    ----------
    n : int
        Rows and columns.
    like : array, optional
        Library, device and dtype; NumPy float64 by default.

    Examples
    --------
    >>> from optlib.linop import Identity
    >>> (2 * Identity(3)).to_dense()
    array([[2., 0., 0.],
           [0., 2., 0.],
           [0., 0., 2.]])
    """

    def __init__(self, n: int, *, like: Array | None = None) -> None:
        n = check.scalar("n", n, low=0, integer=True)
        super().__init__((n, n), check.template("like", like), positive_semidefinite=True)

    def _matvec(self, x: Array) -> Array:
        return 1.0 * x

    def _rmatvec(self, y: Array) -> Array:
        return 1.0 * y

    def _map_arrays(self, move: Callable[[Array], Array]) -> LinearOperator:
        return Identity(self.shape[0], like=move(_empty(self)))


class Diagonal(LinearOperator):
    """A diagonal matrix.

    Parameters
    ----------
    d : array, shape (n,)
        The diagonal.
    positive_semidefinite : bool
        Promise that no entry is negative.

    Examples
    --------
    >>> from optlib.linop import Diagonal
    >>> Diagonal([1.0, 2.0]) @ [3.0, 4.0]
    array([3., 8.])
    """

    def __init__(self, d: Array, *, positive_semidefinite: bool = False) -> None:
        xp, device, dtype = check.common(d=d)
        d = check.array("d", d, xp=xp, ndim=1, dtype=dtype, device=device, finite=False)
        super().__init__((d.shape[0],) * 2, d, symmetric=True, positive_semidefinite=positive_semidefinite)
        self.d = d

    def _matvec(self, x: Array) -> Array:
        return self.d * x if x.ndim == 1 else self.d[:, None] * x

    def _rmatvec(self, y: Array) -> Array:
        return self._matvec(y)

    def _map_arrays(self, move: Callable[[Array], Array]) -> LinearOperator:
        return Diagonal(move(self.d))._tagged(self)


class VStack(LinearOperator):
    """Operators on top of each other: ``[A; B; ...]``.

    Parameters
    ----------
    *operators : LinearOperator
        With equal numbers of columns.

    Examples
    --------
    >>> from optlib.linop import Diagonal, Identity, VStack
    >>> VStack(Identity(2), Diagonal([3.0, 4.0])) @ [1.0, 1.0]
    array([1., 1., 3., 4.])
    """

    def __init__(self, *operators: LinearOperator) -> None:
        if not operators or any(a.shape[1] != operators[0].shape[1] for a in operators):
            raise check.error("operators", [a.shape for a in operators], "at least one, equal numbers of columns")
        joined = list(operators)
        for _ in range(2):  # the second pass brings the first operators to the common dtype of all
            for i in range(1, len(joined)):
                joined[i - 1], joined[i] = _joined(joined[i - 1], joined[i])
        self._parts = joined
        self._ends = [0]
        for a in joined:
            self._ends.append(self._ends[-1] + a.shape[0])
        super().__init__((self._ends[-1], joined[0].shape[1]), _empty(joined[0]))

    def _matvec(self, x: Array) -> Array:
        return self.xp.concat([a._matvec(x) for a in self._parts], axis=0)

    def _rmatvec(self, y: Array) -> Array:
        parts = zip(self._parts, self._ends, self._ends[1:], strict=False)
        first, *rest = (a._rmatvec(y[i:j, ...]) for a, i, j in parts)
        return sum(rest, first)

    def to_dense(self) -> Array:
        """Return the matrix as an array, from those of the parts."""
        return self.xp.concat([a.to_dense() for a in self._parts], axis=0)

    def take(self, index: Array, axis: int = 0) -> LinearOperator:
        """Return the operator of some of the columns."""
        return VStack(*(a.take(index, 1) for a in self._parts)) if axis == 1 else super().take(index, axis)

    def _map_arrays(self, move: Callable[[Array], Array]) -> LinearOperator:
        return VStack(*(a._map_arrays(move) for a in self._parts))

    def _squared(self) -> LinearOperator | None:
        parts = [squared for a in self._parts if (squared := a._squared()) is not None]
        return VStack(*parts) if len(parts) == len(self._parts) else None
