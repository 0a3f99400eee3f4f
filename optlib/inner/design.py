"""Samples of a linear model as coordinate descent wants them: weighted, centred, and by features.

With weights w of mean 1, their means m (zeros without an intercept) and ``s = sqrt(w)``, a design stands for
``A~ = s (A - 1 m')`` and ``b~ = s (b - b0)``: least squares in these are those of the weighted samples with the best
intercept. A dense design stores ``A~'``; a sparse one stores ``(s A)'`` and never the centred matrix.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from optlib._core import validation as check
from optlib.backend import Array, Portable, array_namespace, kernel, linalg, scatter
from optlib.backend.sparse import is_sparse

NAMES = ("A", "b", "sample_weight")
HOST = array_namespace()  # sparse matrices are those of SciPy


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


def dense_rows(data: Array, indices: Array, indptr: Array, n: int, xp: Any) -> Array:
    """Compressed rows as an array of shape (k, n)."""
    k = indptr.shape[0] - 1
    entries = xp.arange(data.shape[0], dtype=indptr.dtype, device=data.device)
    rows = xp.searchsorted(indptr, entries, side="right") - 1
    return xp.reshape(scatter.segment_sum(data, rows * n + indices, k * n, xp=xp), (k, n))


@kernel(numba="optlib.inner._coordinates_numba:sparse_correlate", match="sum")
def sparse_correlate(data: Array, indices: Array, indptr: Array, r: Array, *, xp: Any) -> Array:
    """Inner products of compressed rows with a vector.

    Parameters
    ----------
    data, indices, indptr : array
        The rows.
    r : array, shape (n,)
    xp : module

    Returns
    -------
    array, shape (k,)
    """
    return dense_rows(data, indices, indptr, r.shape[0], xp) @ r


@kernel(numba="optlib.inner._coordinates_numba:sparse_combine", match="sum")
def sparse_combine(data: Array, indices: Array, indptr: Array, v: Array, n: int, *, xp: Any) -> Array:
    """Sum of compressed rows with coefficients.

    Parameters
    ----------
    data, indices, indptr : array
        The rows.
    v : array, shape (k,)
        Coefficients.
    n : int
        Length of the rows.
    xp : module

    Returns
    -------
    array, shape (n,)
    """
    return v @ dense_rows(data, indices, indptr, n, xp)


@kernel(numba="optlib.inner._coordinates_numba:sparse_gram", match="sum")
def sparse_gram(data: Array, indices: Array, indptr: Array, n: int, *, xp: Any) -> Array:
    """Inner products of compressed rows.

    Parameters
    ----------
    data, indices, indptr : array
        The rows.
    n : int
        Their length.
    xp : module

    Returns
    -------
    array, shape (k, k)
    """
    rows = dense_rows(data, indices, indptr, n, xp)
    return rows @ xp.matrix_transpose(rows)


@kernel(numba="optlib.inner._coordinates_numba:centred", match="sum")
def centred(rows: Array, samples: Array, shares: Array, intercept: bool, *, xp: Any) -> tuple[Array, Array, Array]:
    """Pick samples of a design, weigh and centre them.

    Parameters
    ----------
    rows : array, shape (p, m)
        Features of all samples.
    samples : integer array, shape (n,)
        Which to take.
    shares : array, shape (n,)
        Their weights, of sum 1.
    intercept : bool
        Whether to subtract the means.
    xp : module
        Namespace.

    Returns
    -------
    rows : array, shape (p, n)
        ``sqrt(n shares) (A - 1 m')`` by features.
    means : array, shape (p,)
        Weighted means m, or zeros.
    squares : array, shape (p,)
        Squared norms of the features.
    """
    taken = xp.take(rows, samples, axis=1)
    means = taken @ shares if intercept else xp.zeros(rows.shape[0], dtype=rows.dtype, device=rows.device)
    taken = (taken - means[:, None]) * xp.sqrt(shares * samples.shape[0])
    return taken, means, xp.vecdot(taken, taken)


@kernel(numba="optlib.inner._coordinates_numba:definite_solve", match="iterate")
def definite_solve(matrix: Array, b: Array, *, xp: Any) -> Array:
    """Solve a symmetric positive definite system; NaN where there is no Cholesky factor.

    Parameters
    ----------
    matrix : array, shape (s, s)
    b : array, shape (s,) or (s, k)
    xp : module

    Returns
    -------
    array, of the shape of b
    """
    return linalg.cho_solve(linalg.cholesky(matrix, xp=xp, check=False), b, xp=xp)


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


class DenseColumns(Portable):
    """Features of a dense design: columns of ``A~``, stored as rows."""

    def __init__(self, rows: Array, squares: Array | None = None) -> None:
        self.xp, self.rows = array_namespace(rows), rows
        self.squares = self.xp.vecdot(rows, rows) if squares is None else squares
        self.entries = rows.shape[0] * rows.shape[1]

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

    def __init__(self, parts: tuple[Array, Array, Array], means: Array, roots: Array, squares: Array) -> None:
        self.parts, self.means, self.roots, self.squares = parts, means, roots, squares
        self.n, self.centred, self.entries = roots.shape[0], bool(np.any(means)), parts[0].shape[0]

    def take(self, index: Array) -> "SparseColumns":
        """Some of the features."""
        data, indices, indptr = self.parts
        begin, lengths = indptr[:-1][index], np.diff(indptr)[index]
        ends = np.concatenate([np.zeros(1, indptr.dtype), np.cumsum(lengths, dtype=indptr.dtype)])
        places = np.repeat(begin - ends[:-1], lengths) + np.arange(ends[-1], dtype=indptr.dtype)
        parts = data[places], indices[places], ends
        return SparseColumns(parts, self.means[index], self.roots, self.squares[index])

    def gram(self) -> Array:
        """Inner products of the features."""
        found = sparse_gram(*self.parts, self.n, xp=HOST)
        return found - self.n * np.outer(self.means, self.means) if self.centred else found

    def correlate(self, r: Array) -> Array:
        """Inner products with a vector of the samples that is orthogonal to the roots, as residuals are."""
        return sparse_correlate(*self.parts, r, xp=HOST)

    def combine(self, v: Array) -> Array:
        """Sum of the features with coefficients."""
        found = sparse_combine(*self.parts, v, self.n, xp=HOST)
        return found - (self.means @ v) * self.roots if self.centred else found

    def sweep(self, r: Array, y: Array, l1: Array, l2: Array, count: int, limit: float) -> tuple[Array, Array, int]:
        """Sweeps of coordinate descent over all features."""
        return sweep_sparse(*self.parts, self.means, self.roots, self.squares, r, y, l1, l2, count, limit, xp=HOST)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "SparseColumns":
        data, indices, indptr = map(move, self.parts)
        return SparseColumns((data, indices, indptr), *map(move, (self.means, self.roots, self.squares)))


class Design(Portable):
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


class Samples(NamedTuple):
    """Checked samples: features as rows of an array or of a compressed matrix, targets, weights of sum 1 or None."""

    rows: Any
    b: Array
    shares: Array | None
    names: tuple[str, ...]

    def design(self, index: Array | None = None, *, intercept: bool = False) -> Design:
        """Weigh and centre the samples, or those at some places."""
        check.option("intercept", intercept, (True, False))
        xp, rows, b, shares = array_namespace(self.b), self.rows, self.b, self.shares
        sparse = sp.issparse(rows)
        if index is not None:
            b, shares = xp.take(b, index), None if shares is None else xp.take(shares, index)
        n, weighted = b.shape[0], shares is not None
        if shares is not None:
            total = float(xp.sum(shares))
            if not total > 0.0:
                raise check.error(self.names[2], "weights of sum 0", "a positive sum")
            shares = shares / total
        else:
            shares = xp.full(b.shape, 1.0 / n, dtype=b.dtype, device=b.device)
        roots = xp.sqrt(n * shares)
        offset = float(xp.sum(shares * b)) if intercept else 0.0
        rounding = 8.0 * float(xp.finfo(b.dtype).eps)
        constant = bool(xp.all(xp.abs(b - offset) <= rounding * abs(offset)))  # what is left of it is rounding
        b = xp.zeros_like(b) if constant else roots * (b - offset)
        columns: DenseColumns | SparseColumns
        if sparse:
            rows = rows if index is None else rows[:, index]
            means = rows @ shares if intercept else np.zeros(rows.shape[0], rows.dtype)
            data = rows.data * roots[rows.indices] if weighted else rows.data
            parts = data, rows.indices, rows.indptr
            squares = sparse_correlate(data * data, rows.indices, rows.indptr, np.ones_like(roots), xp=xp)
            left = squares - n * means**2
            kept = ~(left <= rounding * squares)
            if not kept.all():  # constant features are none
                parts = data * np.repeat(kept, np.diff(rows.indptr)), rows.indices, rows.indptr
            columns = SparseColumns(parts, np.where(kept, means, 0.0), roots, np.where(kept, left, 0.0))
        elif index is None and not (intercept or weighted):
            means = xp.zeros(rows.shape[0], dtype=b.dtype, device=b.device)
            columns = DenseColumns(rows)
        else:
            index = xp.arange(n, device=b.device) if index is None else index
            rows, means, squares = centred(rows, index, shares, intercept, xp=xp)
            kept = ~(squares <= n * (rounding * means) ** 2)
            if not bool(xp.all(kept)):  # constant features are none
                rows = xp.where(kept[:, None], rows, xp.zeros_like(rows))
            columns = DenseColumns(rows, xp.where(kept, squares, xp.zeros_like(squares)))
        check.array(self.names[0], columns.squares, xp=xp)  # finite squares of finite entries
        return Design(columns, b, means, offset)


def make_samples(A: Any, b: Any, sample_weight: Any = None, names: tuple[str, str, str] = NAMES) -> Samples:
    """Check samples.

    Parameters
    ----------
    A : array or SciPy sparse matrix, shape (n, p)
        Samples. A dense NumPy array in Fortran order is not copied.
    b : array, shape (n,)
        Targets.
    sample_weight : array, shape (n,), optional
        Weights >= 0 of the samples; their scale does not matter.
    names : (str, str, str)
        What the messages call them.

    Returns
    -------
    Samples

    Raises
    ------
    TypeError, ValueError
        Naming the argument.
    """
    sparse = is_sparse(A)
    if sparse and not sp.issparse(A):
        raise check.error(names[0], type(A).__module__, "a dense array, or a sparse matrix of SciPy", kind=TypeError)
    if sparse and A.dtype.kind not in "fiub":
        raise check.error(names[0], f"entries of dtype {A.dtype}", "real numbers", kind=TypeError)
    xp, device, dtype = check.common(**{names[0]: A.data if sparse else A, names[1]: b, names[2]: sample_weight})
    if sparse:
        rows = A.T.tocsr()  # of compressed columns the same arrays
        rows = rows if rows.dtype == dtype else rows.astype(dtype)
        if not rows.has_canonical_format:
            rows = rows.copy()
            rows.sum_duplicates()
    else:
        A = check.array(names[0], A, xp=xp, ndim=2, dtype=dtype, device=device, finite=False)
        rows = xp.matrix_transpose(A)
        rows = np.ascontiguousarray(rows) if isinstance(rows, np.ndarray) else rows
    n = A.shape[0]
    if n == 0:
        raise check.error(names[0], f"shape {tuple(A.shape)}", "at least one sample")
    b = check.array(names[1], b, xp=xp, shape=(n,), dtype=dtype, device=device)
    shares = None
    if sample_weight is not None:
        weights = check.array(names[2], sample_weight, xp=xp, shape=(n,), dtype=dtype, device=device, nonnegative=True)
        total = float(xp.sum(weights))
        if not total > 0.0:
            raise check.error(names[2], "weights of sum 0", "a positive sum")
        shares = weights / total
    return Samples(rows, b, shares, names)
