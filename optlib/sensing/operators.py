"""Sensing operators: what measures a matrix, known by its products with matrices, vectors and factors."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib.backend import Array, kernel, random, to_numpy
from optlib.linop import LinearOperator, as_linear_operator
from optlib.linop.base import _empty


class SensingOperator(LinearOperator, ABC):
    """A linear map of n1 x n2 matrices to m numbers, ``A(X)_i = <A_i, X>``.

    Also a `LinearOperator` on the entries of the matrix, row after row. Subclasses implement ``_forward`` and
    ``_adjoint``, and whatever they can do better in factored form: ``_forward_factored``, ``_adjoint_matmul``,
    ``_adjoint_rmatmul``, ``_gradient`` and ``_sides``.

    Parameters
    ----------
    matrix_shape : tuple of int
        Rows and columns (n1, n2) of the matrices.
    m : int
        Number of measurements.
    like : array
        Its library, device and dtype are those of the operator.

    Attributes
    ----------
    matrix_shape : tuple of int
        ``(n1, n2)``.
    shape : tuple of int
        ``(m, n1 n2)``.
    """

    def __init__(self, matrix_shape: tuple[int, int], m: int, like: Array) -> None:
        self.matrix_shape = (int(matrix_shape[0]), int(matrix_shape[1]))
        super().__init__((m, self.matrix_shape[0] * self.matrix_shape[1]), like)

    # --- what subclasses know

    @abstractmethod
    def _forward(self, X: Array) -> Array: ...

    @abstractmethod
    def _adjoint(self, z: Array) -> Array: ...

    def _forward_factored(self, F: Array, G: Array) -> Array:
        return self._forward(F @ G.T)

    def _adjoint_matmul(self, z: Array, G: Array) -> Array:
        return self._adjoint(z) @ G

    def _adjoint_rmatmul(self, z: Array, F: Array) -> Array:
        return self._adjoint(z).T @ F

    def _gradient(self, F: Array, G: Array, y: Array) -> tuple[Array, Array, Array]:
        residual = self._forward_factored(F, G) - y
        return residual, self._adjoint_matmul(residual, G), self._adjoint_rmatmul(residual, F)

    def _sides(self, U: Array, V: Array) -> tuple[Array, Array] | None:
        """Return all ``A_i V`` and ``A_i' U``, shapes (m, n1, r) and (m, n2, r); None if that is not cheap."""
        return None

    def _isotropy(self) -> float:
        """Estimate from the image of random matrices."""
        rng, total, trials = random.as_generator(0), 0.0, 8
        for _ in range(trials):
            image = self._forward(random.rademacher(rng, self.matrix_shape, like=_empty(self)))
            total += float(self.xp.sum(image * image))
        return total / trials / self.shape[1]

    def _part(self, i0: int, i1: int) -> "SensingOperator":
        """Return the operator of the measurements ``i0`` to ``i1`` (excluded)."""
        got, fix = f"a {type(self).__name__}, known as a whole only", "split the data and make an operator of each part"
        raise check.error("self", got, "an operator that knows its parts", fix, TypeError)

    def identity(self) -> Any:
        """Return what tells this operator from others: its image of a fixed matrix."""
        like, (n1, n2) = _empty(self), self.matrix_shape
        F, G = (self.xp.cos(self.xp.arange(1, n + 1, dtype=like.dtype, device=self.device)) for n in (n1, 2 * n2))
        return self.matrix_shape, probe(self._forward_factored(F[:, None], G[n2:, None]))

    # --- the public forms

    def forward(self, X: Any) -> Array:
        """Measure a matrix.

        Parameters
        ----------
        X : array, shape (n1, n2)

        Returns
        -------
        array, shape (m,)
        """
        return self._forward(self._fit("X", X, self.matrix_shape))

    def forward_factored(self, F: Any, G: Any) -> Array:
        """Measure ``F G'``.

        Parameters
        ----------
        F, G : array, shapes (n1, k) and (n2, k)

        Returns
        -------
        array, shape (m,)
        """
        return self._forward_factored(*self._factors(F, G))

    def adjoint(self, z: Any) -> Array:
        """Combine the measuring matrices, ``sum_i z_i A_i``.

        Parameters
        ----------
        z : array, shape (m,)

        Returns
        -------
        array, shape (n1, n2)
        """
        return self._adjoint(self._fit("z", z, (self.shape[0],)))

    def adjoint_matmul(self, z: Any, G: Any) -> Array:
        """Multiply the adjoint with a thin matrix, ``A*(z) G``.

        Parameters
        ----------
        z : array, shape (m,)
        G : array, shape (n2, k)

        Returns
        -------
        array, shape (n1, k)
        """
        z = self._fit("z", z, (self.shape[0],))
        return self._adjoint_matmul(z, self._fit("G", G, (self.matrix_shape[1], None)))

    def adjoint_rmatmul(self, z: Any, F: Any) -> Array:
        """Multiply the transposed adjoint with a thin matrix, ``A*(z)' F``.

        Parameters
        ----------
        z : array, shape (m,)
        F : array, shape (n1, k)

        Returns
        -------
        array, shape (n2, k)
        """
        z = self._fit("z", z, (self.shape[0],))
        return self._adjoint_rmatmul(z, self._fit("F", F, (self.matrix_shape[0], None)))

    def gradient(self, F: Any, G: Any, y: Any) -> tuple[Array, Array, Array]:
        """Residual and derivatives of ``|A(F G') - y|^2 / 2`` at two factors, in one pass where the operator can.

        Parameters
        ----------
        F, G : array, shapes (n1, k) and (n2, k)
        y : array, shape (m,)

        Returns
        -------
        residual : array, shape (m,)
            ``r = A(F G') - y``.
        grad_F : array, shape (n1, k)
            ``A*(r) G``.
        grad_G : array, shape (n2, k)
            ``A*(r)' F``.
        """
        return self._gradient(*self._factors(F, G), self._fit("y", y, (self.shape[0],)))

    @property
    def isotropy(self) -> float:
        """The number c with ``trace(A*A) = c n1 n2``: ``A*A`` is c times the identity on average.

        1 for the random operators of this package; the fraction of observed entries for `EntrySampling`.
        """
        if not hasattr(self, "_cached_isotropy"):
            self._cached_isotropy = self._isotropy()
        return self._cached_isotropy

    def norm(self, *, iterations: int = 30, rng: Any = 0) -> float:
        """Estimate the largest singular value by power iterations, from below.

        Parameters
        ----------
        iterations : int
        rng : seed or Generator

        Returns
        -------
        float
        """
        xp = self.xp
        X, value = random.normal(random.as_generator(rng), self.matrix_shape, like=_empty(self)), 0.0
        for _ in range(check.scalar("iterations", iterations, low=1, integer=True)):
            size = float(xp.sqrt(xp.sum(X * X)))
            if size == 0.0:
                return 0.0
            X = self._adjoint(self._forward(X / size))
            value = math.sqrt(float(xp.sqrt(xp.sum(X * X))))
        return value

    def split(self, blocks: int) -> list["SensingOperator"]:
        """Cut the measurements into consecutive blocks of about equal size.

        Parameters
        ----------
        blocks : int

        Returns
        -------
        list of SensingOperator
            Stacked they are this operator; each keeps its normalisation.

        Raises
        ------
        TypeError
            If the operator does not know its parts, such as `LinearSensing`.
        """
        m = self.shape[0]
        blocks = check.scalar("blocks", blocks, low=1, high=max(m, 1), integer=True)
        ends = [m * b // blocks for b in range(blocks + 1)]
        return [self._part(i, j) for i, j in itertools.pairwise(ends)]

    # --- as an operator on the entries

    def _matvec(self, x: Array) -> Array:
        if x.ndim == 2:
            return self.xp.stack([self._matvec(x[:, k]) for k in range(x.shape[1])], axis=1)
        return self._forward(self.xp.reshape(x, self.matrix_shape))

    def _rmatvec(self, y: Array) -> Array:
        if y.ndim == 2:
            return self.xp.stack([self._rmatvec(y[:, k]) for k in range(y.shape[1])], axis=1)
        return self.xp.reshape(self._adjoint(y), (-1,))

    def _fit(self, name: str, x: Any, shape: tuple[int | None, ...]) -> Array:
        return check.array(name, x, xp=self.xp, shape=shape, dtype=self.dtype, device=self.device, finite=False)

    def _factors(self, F: Any, G: Any) -> tuple[Array, Array]:
        F = self._fit("F", F, (self.matrix_shape[0], None))
        return F, self._fit("G", G, (self.matrix_shape[1], F.shape[1]))

    def __repr__(self) -> str:
        n1, n2 = self.matrix_shape
        return f"{type(self).__name__}({n1} x {n2}, {self.shape[0]} measurements, {self.dtype})"


class DenseSensing(SensingOperator):
    """Stored measuring matrices.

    Parameters
    ----------
    matrices : array or nested sequence, shape (m, n1, n2)
        The matrices ``A_i``.

    Raises
    ------
    ValueError, TypeError
        For wrong shapes and entries that are not finite real numbers.

    Notes
    -----
    Memory m n1 n2. On NumPy the residual and ``A*(residual)`` are computed in one pass over the matrices, which two
    matrix-vector products need two for; the factored forms multiply the factors out, which costs no more than one
    measuring matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import DenseSensing
    >>> A = DenseSensing([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 0.0]]])
    >>> A.forward([[1.0, 2.0], [3.0, 4.0]])
    array([5., 2.])
    >>> A.adjoint([1.0, 10.0])
    array([[ 1., 10.],
           [ 0.,  1.]])
    """

    def __init__(self, matrices: Any) -> None:
        xp, device, dtype = check.common(matrices=matrices)
        fix = "stack the measuring matrices along the first axis"
        a = check.array("matrices", matrices, xp=xp, ndim=3, dtype=dtype, device=device, fix=fix)
        _check_sizes(tuple(a.shape[1:]), a.shape[0], empty="matrices")
        self._set(a)

    def _set(self, a: Array) -> "DenseSensing":
        super().__init__(tuple(a.shape[1:]), a.shape[0], a)
        self.matrices = a
        return self

    @property
    def _rows(self) -> Array:
        return self.xp.reshape(self.matrices, self.shape)

    def _forward(self, X: Array) -> Array:
        return self._rows @ self.xp.reshape(X, (-1,))

    def _adjoint(self, z: Array) -> Array:
        return self.xp.reshape(z @ self._rows, self.matrix_shape)

    def _gradient(self, F: Array, G: Array, y: Array) -> tuple[Array, Array, Array]:
        xp = self.xp
        residual, image = residual_and_image(self._rows, xp.reshape(F @ G.T, (-1,)), y, xp=xp)
        Z = xp.reshape(image, self.matrix_shape)
        return residual, Z @ G, Z.T @ F

    def _sides(self, U: Array, V: Array) -> tuple[Array, Array]:
        xp, (m, (n1, n2)) = self.xp, (self.shape[0], self.matrix_shape)
        right = xp.reshape(xp.reshape(self.matrices, (m * n1, n2)) @ V, (m, n1, V.shape[1]))
        return right, xp.matrix_transpose(U.T @ self.matrices)

    def _isotropy(self) -> float:
        return float(self.xp.sum(self.matrices * self.matrices)) / self.shape[1]

    def _part(self, i0: int, i1: int) -> "DenseSensing":
        return DenseSensing.__new__(DenseSensing)._set(self.matrices[i0:i1, :, :])

    def _map_arrays(self, move: Callable[[Array], Array]) -> "DenseSensing":
        return DenseSensing.__new__(DenseSensing)._set(move(self.matrices))


class GaussianSensing(DenseSensing):
    """Stored Gaussian measuring matrices with entries N(0, 1/m), so that ``E[A*A]`` is the identity.

    Parameters
    ----------
    matrix_shape : tuple of int
        Rows and columns (n1, n2).
    m : int
        Number of measurements.
    rng : seed or Generator, optional
        Drawn on the host in float64, whatever ``like`` is.
    like : array, optional
        Library, device and dtype; NumPy float64 by default.

    See Also
    --------
    RegeneratedSensing : Nothing stored.

    Examples
    --------
    >>> from optlib.sensing import GaussianSensing
    >>> GaussianSensing((30, 20), 400, rng=0)
    GaussianSensing(30 x 20, 400 measurements, float64)
    """

    def __init__(self, matrix_shape: tuple[int, int], m: int, *, rng: Any = None, like: Array | None = None) -> None:
        n1, n2 = _check_sizes(matrix_shape, m)
        like = check.template("like", like)
        draw = random.as_generator(rng).standard_normal((m, n1, n2))
        self._set(random.asarray_like(draw / math.sqrt(m), like))


class LinearSensing(SensingOperator):
    """Any linear operator on the entries of a matrix, as a sensing operator.

    Parameters
    ----------
    operator : array, sparse matrix, operator or pair of functions, shape (m, n1 n2)
        What `optlib.linop.as_linear_operator` takes: it acts on the entries row after row.
    matrix_shape : tuple of int
        Rows and columns (n1, n2).
    m : int, optional
        Number of measurements; needed for functions only.
    like : array, optional
        For functions: library, device and dtype.

    Notes
    -----
    The factored forms multiply the factors out. Write a subclass of `SensingOperator` to avoid that.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import LinearSensing
    >>> rows = (lambda x: x.reshape(3, 2).sum(axis=1), lambda z: np.repeat(z, 2))
    >>> LinearSensing(rows, (3, 2), 3).forward(np.ones((3, 2)))
    array([2., 2., 2.])
    """

    def __init__(
        self, operator: Any, matrix_shape: tuple[int, int], m: int | None = None, *, like: Array | None = None
    ) -> None:
        n1, n2 = _check_sizes(matrix_shape, 1 if m is None else m)
        wrapped = as_linear_operator(operator, shape=None if m is None else (m, n1 * n2), like=like)
        if wrapped.shape[1] != n1 * n2:
            raise check.error("operator", f"shape {wrapped.shape}", f"{n1 * n2} columns for matrices {n1} x {n2}")
        _check_sizes(matrix_shape, wrapped.shape[0])
        super().__init__((n1, n2), wrapped.shape[0], _empty(wrapped))
        self._operator = wrapped

    def _forward(self, X: Array) -> Array:
        return self._operator._matvec(self.xp.reshape(X, (-1,)))

    def _adjoint(self, z: Array) -> Array:
        return self.xp.reshape(self._operator._rmatvec(z), self.matrix_shape)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "LinearSensing":
        return LinearSensing(self._operator._map_arrays(move), self.matrix_shape)


def as_sensing(A: Any) -> SensingOperator:
    """Return a sensing operator as it is, and wrap an (m, n1, n2) array of measuring matrices.

    Parameters
    ----------
    A : SensingOperator, array or nested sequence

    Returns
    -------
    SensingOperator

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    if isinstance(A, SensingOperator):
        return A
    if A is None or isinstance(A, (str, LinearOperator)) or callable(A):
        expected = "a sensing operator or an (m, n1, n2) array"
        fix = "wrap it: LinearSensing(A, (n1, n2))"
        raise check.error("A", type(A).__name__, expected, fix, TypeError)
    return DenseSensing(A)


@kernel(numba="optlib.sensing._dense_numba:residual_and_image", match="sum")
def residual_and_image(A: Array, x: Array, y: Array, *, xp: Any) -> tuple[Array, Array]:
    """Residual ``r = A x - y`` and ``A' r``.

    Parameters
    ----------
    A : array, shape (m, N)
    x : array, shape (N,)
    y : array, shape (m,)
    xp : module

    Returns
    -------
    residual : array, shape (m,)
    image : array, shape (N,)
    """
    residual = A @ x - y
    return residual, residual @ A


def _check_sizes(matrix_shape: Any, m: Any, *, empty: str = "m") -> tuple[int, int]:
    if not isinstance(matrix_shape, (tuple, list)) or len(matrix_shape) != 2:
        raise check.error("matrix_shape", matrix_shape, "two integers (n1, n2)", kind=TypeError)
    n1, n2 = (check.scalar("matrix_shape", n, low=1, integer=True) for n in matrix_shape)
    check.scalar(empty, m, low=1, integer=True, fix="at least one measurement is needed")
    return n1, n2


def _host_indices(name: str, index: Any, n: int) -> Any:
    """Indices as an int64 host array, checked."""
    try:
        host = to_numpy(index)
    except ValueError as failure:
        raise check.error(name, "a ragged sequence", "a vector of integers") from failure
    if host.ndim != 1 or (host.size and host.dtype.kind not in "iu"):
        got = f"shape {host.shape}, dtype {host.dtype}"
        raise check.error(name, got, "a vector of integers", kind=ValueError if host.dtype.kind in "iu" else TypeError)
    if host.size and (host.min() < 0 or host.max() >= n):
        raise check.error(name, f"an index {host.max() if host.max() >= n else host.min()}", f"indices in 0..{n - 1}")
    return host.astype("int64")
