"""Sweeps of coordinate descent in Numba: dense features and compressed ones."""

# mypy: ignore-errors
# The types here are those of Numba, not of Python.

import numpy as np
from numba import njit
from scipy.linalg import get_lapack_funcs

from optlib.backend._rows_numba import dot

JIT = {"cache": True, "nogil": True, "error_model": "numpy"}
INNER = JIT | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def sweep_dense(rows, squares, r, y, l1, l2, count, limit):
    """Variant of `optlib.inner.design.sweep_dense`."""
    r, y = np.array(r), np.array(y)
    done = _dense(np.ascontiguousarray(rows), squares, r, y, l1, l2, count, r.dtype.type(limit))
    return r, y, done


def sweep_sparse(data, indices, indptr, means, roots, squares, r, y, l1, l2, count, limit):
    """Variant of `optlib.inner.design.sweep_sparse`."""
    r, y = np.array(r), np.array(y)
    limit = r.dtype.type(limit)
    done = _sparse(data, indices, indptr, means, roots, squares, r, y, l1, l2, count, limit)
    return r, y, done


def sparse_correlate(data, indices, indptr, r):
    """Variant of `optlib.inner.design.sparse_correlate`."""
    out = np.zeros(indptr.size - 1, data.dtype)
    _correlate(data, indices, indptr, r, out)
    return out


def sparse_combine(data, indices, indptr, v, n):
    """Variant of `optlib.inner.design.sparse_combine`."""
    out = np.zeros(n, data.dtype)
    _combine(data, indices, indptr, v, out)
    return out


def sparse_gram(data, indices, indptr, n):
    """Variant of `optlib.inner.design.sparse_gram`: each row spread once, met by the rows before it."""
    out = np.zeros((indptr.size - 1, indptr.size - 1), data.dtype)
    _gram(data, indices, indptr, np.zeros(n, data.dtype), out)
    return out


def top(scores, count):
    """Variant of `optlib.inner.design.top`: a partition instead of a sort."""
    rest = scores.size - count
    if count == 0 or rest == 0:
        return np.arange(count)
    return np.sort(np.argpartition(scores, rest)[rest:])


def sweep_groups(gram, curvature, starts, g, y, l1, count, limit):
    """Variant of `optlib.inner.block_coordinate_descent.sweep_groups`."""
    g, y = np.array(g), np.array(y)
    longest = int(np.max(np.diff(starts), initial=0))
    done = _groups(
        np.ascontiguousarray(gram), curvature, starts, g, y, l1, count, y.dtype.type(limit),
        y.dtype.type(4.0 * np.finfo(y.dtype).eps), np.empty(longest, y.dtype),
    )  # fmt: skip
    return g, y, done


def centred(rows, samples, shares, intercept):
    """Variant of `optlib.inner.design.centred`: one pass over the features."""
    p, n = rows.shape[0], samples.size
    taken, means, squares = np.empty((p, n), rows.dtype), np.zeros(p, rows.dtype), np.empty(p, rows.dtype)
    roots = np.sqrt(shares * rows.dtype.type(n))
    _centred(np.ascontiguousarray(rows), samples, shares, roots, intercept, taken, means, squares)
    return taken, means, squares


def definite_solve(matrix, b):
    """Variant of `optlib.inner.design.definite_solve`: LAPACK."""
    if b.size == 0:
        return np.array(b)
    x, failed = get_lapack_funcs(("posv",), (matrix, b))[0](matrix, b, lower=1)[1:]
    return np.full_like(b, np.nan) if failed else x


def signed_minimiser(gram, ridge, rhs, y, drops):
    """Variant of `optlib.inner.coordinate_descent.signed_minimiser`: LAPACK on the entries that are left."""
    y, rhs = np.array(y), np.array(rhs)
    matrix = np.array(gram, order="F")
    matrix.flat[:: y.size + 1] += ridge
    factorise, solve = get_lapack_funcs(("potrf", "potrs"), (matrix,))
    kept = None
    for _ in range(drops):
        factor, failed = factorise(matrix if kept is None else matrix[np.ix_(kept, kept)], lower=1)
        if failed:
            break
        d = solve(factor, rhs if kept is None else rhs[kept], lower=1)[0]
        own = y if kept is None else y[kept]
        turns = d * own < 0.0
        steps = np.where(turns, -own / np.where(turns, d, 1.0), 2.0).astype(y.dtype)
        t = min(steps.min(), y.dtype.type(1.0))
        if not t >= 0.0:
            break
        gone, new = steps <= t, own + t * d
        new[gone] = 0.0
        if kept is None:
            kept = np.arange(y.size)
        y[kept] = new
        if t == 1.0:
            break
        rhs -= t * (matrix[:, kept] @ d)
        kept = kept[~gone]
        if kept.size == 0:
            break
    return y


@njit(**INNER)
def _subtract(r, step, u):
    for i in range(u.size):
        r[i] -= step * u[i]


@njit(**INNER)
def _shrink(z, by):
    if z > by:
        return z - by
    if z < -by:
        return z + by
    return z - z


@njit(**JIT, fastmath={"reassoc", "contract", "nsz"})
def _centred(rows, samples, shares, roots, intercept, taken, means, squares):
    for j in range(rows.shape[0]):
        row, out = rows[j], taken[j]
        for i in range(samples.size):
            out[i] = row[samples[i]]
        mean = dot(out, shares) if intercept else shares.dtype.type(0.0)
        means[j] = mean
        for i in range(samples.size):
            out[i] = (out[i] - mean) * roots[i]
        squares[j] = dot(out, out)


@njit(**JIT)
def _dense(rows, squares, r, y, l1, l2, count, limit):
    for done in range(count):
        moved = r.dtype.type(0.0)
        for k in range(y.size):
            square, old = squares[k], y[k]
            curvature = square + l2[k]
            if curvature > 0.0:
                row = rows[k]
                change = _shrink(square * old + dot(row, r), l1[k]) / curvature - old
                if change != 0.0:
                    _subtract(r, change, row)
                    y[k] = old + change
                    moved = max(moved, abs(change) * np.sqrt(curvature))
        if moved <= limit:
            return done + 1
    return count


@njit(**JIT)
def _sparse(data, indices, indptr, means, roots, squares, r, y, l1, l2, count, limit):
    n, shift = r.dtype.type(r.size), r.dtype.type(0.0)  # the residual is r + shift roots
    done = 0
    while done < count:
        moved, done = r.dtype.type(0.0), done + 1
        for k in range(y.size):
            square, old = squares[k], y[k]
            curvature = square + l2[k]
            if curvature > 0.0:
                lo, hi = indptr[k], indptr[k + 1]
                inner = shift * n * means[k]
                for q in range(lo, hi):
                    inner += data[q] * r[np.uint64(indices[q])]
                change = _shrink(square * old + inner, l1[k]) / curvature - old
                if change != 0.0:
                    for q in range(lo, hi):
                        r[np.uint64(indices[q])] -= change * data[q]
                    shift += change * means[k]
                    y[k] = old + change
                    moved = max(moved, abs(change) * np.sqrt(curvature))
        if moved <= limit:
            break
    if shift != 0.0:
        _subtract(r, -shift, roots)
    return done


@njit(**JIT)
def _correlate(data, indices, indptr, r, out):
    for j in range(out.size):
        total = out[j]
        for q in range(indptr[j], indptr[j + 1]):
            total += data[q] * r[np.uint64(indices[q])]
        out[j] = total


@njit(**JIT)
def _combine(data, indices, indptr, v, out):
    for j in range(v.size):
        for q in range(indptr[j], indptr[j + 1]):
            out[np.uint64(indices[q])] += v[j] * data[q]


@njit(**JIT)
def _gram(data, indices, indptr, spread, out):
    for j in range(out.shape[0]):
        for q in range(indptr[j], indptr[j + 1]):
            spread[np.uint64(indices[q])] += data[q]
        for i in range(j + 1):
            total = out[j, i]
            for q in range(indptr[i], indptr[i + 1]):
                total += data[q] * spread[np.uint64(indices[q])]
            out[j, i] = out[i, j] = total
        for q in range(indptr[j], indptr[j + 1]):
            spread[np.uint64(indices[q])] = 0.0


@njit(**JIT)
def _groups(gram, curvature, starts, g, y, l1, count, limit, rounding, c):
    for done in range(count):
        moved = y.dtype.type(0.0)
        for k in range(starts.size - 1):
            lo, hi = starts[k], starts[k + 1]
            size = c.dtype.type(0.0)
            top = c.dtype.type(0.0)
            for i in range(lo, hi):
                c[i - lo] = g[i] + curvature[i] * y[i]
                size += c[i - lo] * c[i - lo]
                top = max(top, curvature[i])
            norm = c.dtype.type(0.0)
            if np.sqrt(size) > l1[k] and top > 0.0:
                norm = _block_norm(c[: hi - lo], curvature[lo:hi], l1[k], rounding)
            change = c.dtype.type(0.0)
            for i in range(lo, hi):
                new = c[i - lo] * norm / (curvature[i] * norm + l1[k])
                step = new - y[i]
                if step != 0.0:
                    _subtract(g, step, gram[i])
                    change += curvature[i] * step * step
                    y[i] = new
            moved = max(moved, np.sqrt(change))
        if moved <= limit:
            return done + 1
    return count


@njit(**INNER)
def _block_norm(c, h, l1, rounding):
    t = l1 - l1
    for _ in range(60):
        square = slope = l1 - l1
        for i in range(c.size):
            d = h[i] * t + l1
            q = c[i] / d
            square += q * q
            slope += q * q * h[i] / d
        step = square * (np.sqrt(square) - l1 / l1) / slope
        t += step
        if step <= rounding * t:
            break
    return t
