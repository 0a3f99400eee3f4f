"""Samples of a linear model as coordinate descent wants them: weighted, centred, and by features.

With weights w of mean 1, their means m (zeros without an intercept) and ``s = sqrt(w)``, a design stands for
``A~ = s (A - 1 m')`` and ``b~ = s (b - b0)``: least squares in these are those of the weighted samples with the best
intercept. A dense design stores ``A~'``; a sparse one stores ``(s A)'`` and never the centred matrix.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, kernel, scatter
from optlib.backend.sparse import as_csr, csr_from_parts, is_sparse


@kernel(numba="optlib.inner._coordinates_numba:sweep_dense", match="iterate")
def sweep_dense(
    rows: Array, squares: Array, r: Array, y: Array, l1: Array, l2: Array, count: int, limit: float, *, xp: Any
) -> tuple[Array, Array, int]:
    """Do cyclic sweeps of coordinate descent for ``|r|^2 / 2 + sum_j (l1_j |y_j| + l2_j y_j^2 / 2)``.

    Parameters
    ----------
    rows : array, shape (k, n)
        Features.
    squares : array, shape (k,)
        Their squared norms.
    r : array, shape (n,)
        Residual ``b - A y``.
    y, l1, l2 : array, shape (k,)
        Coefficients and penalties.
    count : int
        Largest number of sweeps.
    limit : float
        End after a sweep in which no coefficient changed the fit by more than this.
    xp : module
        Namespace.

    Returns
    -------
    r : array, shape (n,)
        Residual.
    y : array, shape (k,)
        Coefficients.
    done : int
        Number of sweeps.
    """
    return _sweeps([rows[j, :] for j in range(rows.shape[0])], squares, r, y, l1, l2, count, limit, xp)


@kernel(numba="optlib.inner._coordinates_numba:sweep_sparse", match="iterate")
def sweep_sparse(
    data: Array, indices: Array, indptr: Array, means: Array, roots: Array, squares: Array, r: Array, y: Array,
    l1: Array, l2: Array, count: int, limit: float, *, xp: Any,
) -> tuple[Array, Array, int]:  # fmt: skip
    """Do the sweeps of `sweep_dense` with features in compressed form, centred implicitly.

    Parameters
    ----------
    data, indices, indptr : array
        The features ``s A`` one after the other: entries, samples, and where each begins.
    means : array, shape (k,)
        Weighted means m.
    roots : array, shape (n,)
        Roots s of the weights.
    squares, r, y, l1, l2, count, limit, xp : optional
        See `sweep_dense`. The residual is orthogonal to the roots where there are means.

    Returns
    -------
    r : array, shape (n,)
    y : array, shape (k,)
    done : int
    """
    columns = []
    for j in range(means.shape[0]):
        part = slice(int(indptr[j]), int(indptr[j + 1]))
        columns.append(scatter.segment_sum(data[part], indices[part], r.shape[0], xp=xp) - means[j] * roots)
    return _sweeps(columns, squares, r, y, l1, l2, count, limit, xp)


def _sweeps(
    columns: list[Array], squares: Array, r: Array, y: Array, l1: Array, l2: Array, count: int, limit: float, xp: Any
) -> tuple[Array, Array, int]:
    """The definition of both kernels."""
    values, done = [y[k] for k in range(len(columns))], 0
    while done < count:
        done, moved = done + 1, xp.zeros_like(xp.sum(r))
        for k, column in enumerate(columns):
            curvature = squares[k] + l2[k]
            z = squares[k] * values[k] + xp.sum(column * r)
            shrunk = xp.sign(z) * xp.maximum(xp.abs(z) - l1[k], xp.zeros_like(z))
            new = xp.where(curvature > 0.0, shrunk / xp.where(curvature > 0.0, curvature, xp.ones_like(z)), values[k])
            r = r - (new - values[k]) * column
            moved = xp.maximum(moved, xp.abs(new - values[k]) * xp.sqrt(curvature))
            values[k] = new
        if float(moved) <= limit:
            break
    return r, xp.stack(values) if values else y, done


@kernel(numba="optlib.inner._coordinates_numba:top", match="exact")
def top(scores: Array, count: int, *, xp: Any) -> Array:
    """Return where the ``count`` largest scores are, in ascending order.

    Parameters
    ----------
    scores : array, shape (p,)
        Numbers.
    count : int
        At most p.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (count,)
        Places.
    """
    return xp.sort(xp.argsort(scores, descending=True)[:count])


class DenseColumns:
    """Features of a dense design: columns of ``A~``, stored as rows."""

    def __init__(self, rows: Array, squares: Array | None = None) -> None:
        self.xp, self.rows = array_namespace(rows), rows
        self.squares = self.xp.vecdot(rows, rows) if squares is None else squares

    def take(self, index: Array) -> "DenseColumns":
        """Some of the features."""
        return DenseColumns(self.xp.take(self.rows, index, axis=0), self.xp.take(self.squares, index))

    def gram(self) -> Array:
        """Inner products of the features."""
        return self.rows @ self.xp.matrix_transpose(self.rows)

    def correlate(self, r: Array) -> Array:
        """Inner products with a vector of the samples."""
        return self.rows @ r

    def combine(self, v: Array) -> Array:
        """Sum of the features with coefficients."""
        return v @ self.rows

    def sweep(self, r: Array, y: Array, l1: Array, l2: Array, count: int, limit: float) -> tuple[Array, Array, int]:
        """Sweeps of coordinate descent over all features."""
        return sweep_dense(self.rows, self.squares, r, y, l1, l2, count, limit, xp=self.xp)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "DenseColumns":
        return DenseColumns(move(self.rows), move(self.squares))


class SparseColumns:
    """Features of a sparse design, centred implicitly: ``s A`` in compressed form, means m and roots s."""

    def __init__(self, rows: Any, means: Array, roots: Array, squares: Array | None = None) -> None:
        self.rows, self.means, self.roots = rows, means, roots
        if squares is None:
            own = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
            squares = np.maximum(own - roots.shape[0] * means**2, 0.0).astype(means.dtype)
        self.squares = squares

    def take(self, index: Array) -> "SparseColumns":
        """Some of the features."""
        return SparseColumns(self.rows[index], self.means[index], self.roots, self.squares[index])

    def gram(self) -> Array:
        """Inner products of the features."""
        return (self.rows @ self.rows.T).toarray() - self.roots.shape[0] * np.outer(self.means, self.means)

    def correlate(self, r: Array) -> Array:
        """Inner products with a vector of the samples that is orthogonal to the roots, as residuals are."""
        return self.rows @ r

    def combine(self, v: Array) -> Array:
        """Sum of the features with coefficients."""
        return self.rows.T @ v - (self.means @ v) * self.roots

    def sweep(self, r: Array, y: Array, l1: Array, l2: Array, count: int, limit: float) -> tuple[Array, Array, int]:
        """Sweeps of coordinate descent over all features."""
        return sweep_sparse(
            self.rows.data, self.rows.indices, self.rows.indptr, self.means, self.roots, self.squares, r, y, l1, l2,
            count, limit, xp=array_namespace(r),
        )  # fmt: skip

    def _map_arrays(self, move: Callable[[Array], Array]) -> "SparseColumns":
        parts = (move(u) for u in (self.rows.data, self.rows.indices, self.rows.indptr))
        return SparseColumns(
            csr_from_parts(*parts, shape=self.rows.shape), *map(move, (self.means, self.roots, self.squares))
        )


class Design:
    """Samples of a linear model with their targets.

    Attributes
    ----------
    columns : DenseColumns or SparseColumns
        The features ``A~``.
    b : array, shape (n,)
        Weighted and centred target ``b~``.
    means : array, shape (p,)
        Weighted means of the features; zeros without an intercept.
    offset : float
        Weighted mean of the target, or 0.
    """

    def __init__(self, columns: Any, b: Array, means: Array, offset: float) -> None:
        self.columns, self.b, self.means, self.offset = columns, b, means, offset
        self.xp, self.shape = array_namespace(b), (b.shape[0], means.shape[0])

    def residual(self, y: Array) -> Array:
        """``b~ - A~ y``, from the features whose coefficients are not zero."""
        support = self.xp.nonzero(y)[0]
        if support.shape[0] == 0:
            return self.b
        return self.b - self.columns.take(support).combine(self.xp.take(y, support))

    def intercept(self, y: Array) -> float:
        """The best intercept for coefficients y."""
        return self.offset - float(self.xp.sum(self.means * y))

    def _map_arrays(self, move: Callable[[Array], Array]) -> "Design":
        return Design(self.columns._map_arrays(move), move(self.b), move(self.means), self.offset)


def make_design(A: Any, b: Any, *, intercept: bool = False, sample_weight: Any = None, names: str = "Ab") -> Design:
    """Check samples and put them into the form of coordinate descent.

    Parameters
    ----------
    A : array or SciPy sparse matrix, shape (n, p)
        Samples.
    b : array, shape (n,)
        Targets.
    intercept : bool
        Whether to centre.
    sample_weight : array, shape (n,), optional
        Weights >= 0 of the samples; their scale does not matter.
    names : (str, str)
        What the messages call A and b.

    Returns
    -------
    Design
        A dense NumPy array in Fortran order is used as it is where nothing is to be centred.

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """
    sparse = is_sparse(A)
    if sparse and not sp.issparse(A):
        raise check.error(names[0], type(A).__module__, "a dense array, or a sparse matrix of SciPy", kind=TypeError)
    try:
        A = as_csr(A, dtype=A.dtype if A.dtype in (np.float32, np.float64) else np.float64) if sparse else A
    except TypeError as failure:
        raise check.error(names[0], f"entries of dtype {A.dtype}", "real numbers", kind=TypeError) from failure
    given = A.data if sparse else A
    xp, device, dtype = check.common(**{names[0]: given, names[1]: b, "sample_weight": sample_weight})
    if sparse:
        check.array(names[0], A.data, xp=xp)
        A = A.astype(dtype)
    else:
        A = check.array(names[0], A, xp=xp, ndim=2, dtype=dtype, device=device, finite=False)
    n, p = A.shape
    if n == 0:
        raise check.error(names[0], f"shape {tuple(A.shape)}", "at least one sample")
    b = check.array(names[1], b, xp=xp, shape=(n,), dtype=dtype, device=device)
    roots, weights = xp.ones(n, dtype=dtype, device=device), None
    if sample_weight is not None:
        weights = check.array("sample_weight", sample_weight, xp=xp, shape=(n,), dtype=dtype, device=device,
                              nonnegative=True)  # fmt: skip
        total = float(xp.sum(weights))
        if not total > 0.0:
            raise check.error("sample_weight", "weights of sum 0", "a positive sum")
        weights = weights * (n / total)
        roots = xp.sqrt(weights)
    means, offset = xp.zeros(p, dtype=dtype, device=device), 0.0
    if intercept:
        shares = roots * roots / n
        means, offset = (A.T @ shares if sparse else xp.matrix_transpose(A) @ shares), float(xp.sum(shares * b))
        b = b - offset
    if weights is not None:
        b = roots * b
    if sparse:
        rows = A.T.tocsr() if weights is None else A.multiply(roots[:, None]).T.tocsr()
        return Design(SparseColumns(rows, means, roots), b, means, offset)
    rows = xp.matrix_transpose(A)
    if intercept:
        rows = rows - means[:, None]
    if weights is not None:
        rows = rows * roots
    columns = DenseColumns(np.ascontiguousarray(rows) if isinstance(rows, np.ndarray) else rows)
    check.array(names[0], columns.squares, xp=xp)  # finite squares of finite entries
    return Design(columns, b, means, offset)
