"""Wrap what users have (arrays, sparse matrices, SciPy operators, functions) as linear operators."""

import copy
import sys
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, is_numpy
from optlib.backend.sparse import as_csr, csr_from_parts, is_sparse, sparse_namespace
from optlib.linop.base import LinearOperator, _empty
from optlib.linop.compressed import normal_product

Product = Callable[[Array], Array]


def as_linear_operator(
    A: Any,
    *,
    shape: tuple[int, int] | None = None,
    dtype: Any = None,
    like: Array | None = None,
    symmetric: bool = False,
    positive_semidefinite: bool = False,
) -> LinearOperator:
    """Wrap a matrix or its products as a `LinearOperator`.

    Parameters
    ----------
    A : array, sparse matrix, operator, callable or pair of callables
        A dense array of any library; a SciPy or CuPy sparse matrix (never made dense); a SciPy ``LinearOperator``; a
        function ``x -> A x``; or the pair ``(x -> A x, y -> A' y)``. Functions get arrays of shape ``(n,)``.
    shape : tuple of int, optional
        Rows and columns; needed for functions only.
    dtype : dtype, optional
        By default that of ``A``; integers become floats.
    like : array, optional
        For functions: the library, device and dtype of the vectors (default: NumPy float64).
    symmetric, positive_semidefinite : bool
        Promises about the matrix, see `LinearOperator`. A symmetric function needs no transpose.

    Returns
    -------
    LinearOperator
        ``A`` itself, if it is one and no promise is added.

    Raises
    ------
    TypeError
        If ``A`` is none of these, or its entries are not real.
    ValueError
        If the shape is missing or wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import as_linear_operator
    >>> D = as_linear_operator((np.diff, lambda y: -np.diff(y, prepend=0, append=0)), shape=(3, 4))
    >>> D @ np.array([1.0, 2.0, 4.0, 8.0])
    array([1., 2., 4.])
    >>> D.T @ np.array([1.0, 0.0, 0.0])
    array([-1.,  1., -0., -0.])
    """
    promises = {"symmetric": symmetric, "positive_semidefinite": positive_semidefinite}
    return wrapped("A", A, shape, dtype, like, **promises)


def wrapped(
    name: str, A: Any, shape: Any = None, dtype: Any = None, like: Any = None, *, symmetric: bool = False,
    positive_semidefinite: bool = False,
) -> LinearOperator:  # fmt: skip
    """See `as_linear_operator`; with the name of the argument, for the messages."""
    promises = {
        "symmetric": check.option("symmetric", symmetric, (True, False)),
        "positive_semidefinite": check.option("positive_semidefinite", positive_semidefinite, (True, False)),
    }
    shape = None if shape is None else _checked_shape(shape)
    if isinstance(A, LinearOperator):
        operator = A if dtype is None else A.astype(dtype)
        if (symmetric and not A.symmetric) or (positive_semidefinite and not A.positive_semidefinite):
            operator = copy.copy(operator)
            LinearOperator.__init__(operator, A.shape, _empty(operator), **promises)
    elif is_sparse(A):
        operator = _Sparse(A, dtype, **promises)
    elif (functions := _functions(A)) is not None:
        forward, backward, own_shape, own_dtype = functions
        shape, like = _checked_shape(own_shape or shape), check.template("like", like, dtype or own_dtype)
        operator = _Function(forward, backward, shape, like, **promises)
        operator.name = name
    else:
        if A is None or isinstance(A, str):
            raise check.error(name, A, "an array, a sparse matrix, a linear operator or a function", kind=TypeError)
        xp, device, own = check.common(**{name: A})
        operator = _Dense(
            check.array(name, A, xp=xp, ndim=2, dtype=dtype or own, device=device, finite=False), **promises
        )
    if shape is not None and operator.shape != shape:
        raise check.error(name, f"shape {operator.shape}", f"shape {shape}")
    return operator


def _functions(A: Any) -> tuple[Product, Product | None, tuple[int, int] | None, Any] | None:
    """Return products, transposed products, shape and dtype of what consists of functions."""
    scipy = sys.modules.get("scipy.sparse.linalg")
    if scipy is not None and isinstance(A, scipy.LinearOperator):
        if A.dtype is not None and A.dtype.kind not in "fiub":
            raise check.error("A", f"entries of dtype {A.dtype}", "real numbers", kind=TypeError)
        return A.matvec, A.rmatvec, A.shape, A.dtype if A.dtype == "float32" else None
    if callable(A):
        return A, None, None, None
    if isinstance(A, (tuple, list)) and len(A) == 2 and all(callable(f) for f in A):
        return A[0], A[1], None, None
    return None


def _checked_shape(shape: Any) -> tuple[int, int]:
    if not (isinstance(shape, (tuple, list)) and len(shape) == 2):
        raise check.error("shape", shape, "a pair (rows, columns)", "give `shape` together with functions")
    rows, columns = (check.scalar("shape", n, low=0, integer=True) for n in shape)
    return rows, columns


class _Dense(LinearOperator):
    def __init__(self, a: Array, **promises: bool) -> None:
        super().__init__(a.shape, a, **promises)
        self._a = a

    def _matvec(self, x: Array) -> Array:
        return self._a @ x

    def _rmatvec(self, y: Array) -> Array:
        return self._a.T @ y

    def take(self, index: Array, axis: int = 0) -> LinearOperator:
        return _Dense(self.xp.take(self._a, index, axis=axis))

    def to_dense(self) -> Array:
        return self.xp.asarray(self._a, copy=True)

    def _held(self) -> Array:
        return self._a

    def _map_arrays(self, move: Product) -> LinearOperator:
        return _Dense(move(self._a))._tagged(self)

    def _numbers(self) -> Array:
        return self._a

    def _squared(self) -> LinearOperator:
        return _Dense(self._a * self._a)


class _Sparse(LinearOperator):
    """A compressed-row matrix of SciPy or CuPy; the transpose is a view of the same numbers."""

    def __init__(self, a: Any, dtype: Any, **promises: bool) -> None:
        xp = sparse_namespace(a)
        real = a.dtype in (xp.float32, xp.float64)
        try:
            self._csr = as_csr(a, dtype=dtype or (a.dtype if real else xp.float64))
        except TypeError as failure:
            raise check.error("A", f"entries of dtype {a.dtype}", "real numbers", kind=TypeError) from failure
        self._transposed = self._csr.T
        super().__init__(a.shape, self._csr.data[:0], **promises)

    def _matvec(self, x: Array) -> Array:
        return self._csr @ x

    def _rmatvec(self, y: Array) -> Array:
        return self._transposed @ y

    def _normal(self, weights: Array, x: Array) -> Array:
        if not is_numpy(self.xp):
            return super()._normal(weights, x)
        return normal_product(self._csr.data, self._csr.indices, self._csr.indptr, weights, x, xp=self.xp)

    def take(self, index: Array, axis: int = 0) -> LinearOperator:
        return _Sparse(self._csr[index] if axis == 0 else self._csr[:, index], self.dtype)

    def astype(self, dtype: Any) -> LinearOperator:
        return self if dtype == self.dtype else _Sparse(self._csr, dtype)._tagged(self)

    def _map_arrays(self, move: Product) -> LinearOperator:
        parts = (move(part) for part in (self._csr.data, self._csr.indices, self._csr.indptr))
        return _Sparse(csr_from_parts(*parts, shape=self.shape), None)._tagged(self)

    def _numbers(self) -> Array:
        return self._csr.data

    def _squared(self) -> LinearOperator:
        a = self._csr
        return _Sparse(csr_from_parts(a.data * a.data, a.indices, a.indptr, shape=self.shape), None)


class _Function(LinearOperator):
    """Products by functions of one vector; several columns are done one by one."""

    name = "A"  # of the argument, for the messages

    def __init__(
        self, forward: Product, backward: Product | None, shape: tuple[int, int], like: Array, **promises: bool
    ) -> None:
        super().__init__(shape, like, **promises)
        self._forward = forward
        self._backward = backward

    def _matvec(self, x: Array) -> Array:
        return self._apply(self._forward, x, self.shape[0], "matvec")

    def _rmatvec(self, y: Array) -> Array:
        if self.symmetric:
            return self._matvec(y)
        if self._backward is None:
            fix = "pass the pair (matvec, rmatvec), or symmetric=True"
            raise check.error(self.name, "a function without its transpose", "a function for A' y", fix, TypeError)
        return self._apply(self._backward, y, self.shape[1], "rmatvec")

    def _apply(self, function: Product, x: Array, n: int, name: str) -> Array:
        if x.ndim == 2:
            columns = [self._apply(function, x[:, j], n, name) for j in range(x.shape[1])]
            return (
                self.xp.stack(columns, axis=1) if columns else self.xp.zeros((n, 0), dtype=x.dtype, device=self.device)
            )
        y = function(x)
        if getattr(y, "shape", None) != (n,):
            got = f"shape {tuple(y.shape)}" if hasattr(y, "shape") else type(y).__name__
            raise check.error(f"{self.name} ({name})", f"a function returning {got}", f"an array of shape ({n},)")
        return y if y.dtype == x.dtype else self.xp.astype(y, x.dtype)

    def astype(self, dtype: Any) -> LinearOperator:
        like = self.xp.empty(0, dtype=dtype, device=self.device)
        made = _Function(self._forward, self._backward, self.shape, like)
        made.name = self.name
        return made._tagged(self)
