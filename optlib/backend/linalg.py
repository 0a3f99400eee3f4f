"""Dense linear algebra with one failure behaviour on every backend.

With ``check=True`` (set-up) a singular matrix or a failed factorisation raises `LinAlgError`; with ``check=False``
(inside loops) it fills the affected result with NaN and never waits for the device. Empty and zero matrices are legal.
All functions work on stacks of matrices in the last two axes.
"""

from functools import cache
from importlib import import_module
from typing import Any

import array_api_extra as xpx
import numpy as np

from optlib.backend.namespace import Array, is_cupy, is_numpy, is_torch

LinAlgError = np.linalg.LinAlgError
NOT_DEFINITE = "cholesky: the matrix is not positive definite. Fix: add a multiple of the identity."


def _nan_like(x: Array, bad: Array, xp: Any) -> Array:
    """Return ``x`` with every matrix of the stack for which ``bad`` holds filled with NaN."""
    return xp.where(bad[..., None, None], xp.asarray(xp.nan, dtype=x.dtype, device=x.device), x)


def _finite(x: Array, xp: Any) -> Array:
    return xp.all(xp.isfinite(x), axis=(-2, -1))


def _guarded(function: Any, a: Array, *, xp: Any) -> Array:
    """Apply a factorisation that raises on some backends: failed matrices come back as NaN, the others intact."""
    try:
        return function(a)
    except Exception as error:  # torch has its own error type, the standard names none
        if "inalg" not in type(error).__name__.lower() and "linalg" not in str(error).lower():
            raise
    if a.ndim == 2:
        return xp.full_like(a, xp.nan)
    return xp.stack([_guarded(function, a[i, ...], xp=xp) for i in range(a.shape[0])])


def _raise_if(bad: Array, what: str, xp: Any) -> None:
    if bool(xp.any(bad)):
        raise LinAlgError(what)


def cholesky(a: Array, *, xp: Any, check: bool = True) -> Array:
    """Lower Cholesky factor of symmetric positive definite matrices.

    Parameters
    ----------
    a : array, shape (..., n, n)
    xp : module
    check : bool
        Whether to raise on failure; otherwise the factor is NaN.

    Returns
    -------
    array, shape (..., n, n)

    Raises
    ------
    LinAlgError
        If ``check`` and a matrix is not positive definite.
    """
    n = a.shape[-1]
    if n == 0:
        return a
    one = is_numpy(xp) and a.ndim == 2
    factor = _potrf(a) if one else _guarded(xp.linalg.cholesky, a, xp=xp)
    if is_numpy(xp):  # LAPACK reports failure
        bad = ~_finite(factor, xp)
        if not bad.any():
            return factor
        if check:
            raise LinAlgError(NOT_DEFINITE)
        return _nan_like(factor, bad, xp)
    factor = xp.tril(factor)
    # A library that reports failure nowhere leaves a wrong factor behind: test it against the matrix on one vector.
    probe = xp.where(xp.arange(n, device=a.device) % 2 == 0, xp.ones(n, dtype=a.dtype, device=a.device), -0.75)
    image = factor @ (xp.matrix_transpose(factor) @ probe[:, None])
    scale = xp.max(xp.abs(a), axis=(-2, -1)) * float(n) * 2.0
    # Lower triangle only, as the factorisation reads it.
    lower = xp.tril(a)
    symmetric = lower + xp.matrix_transpose(lower) - xpx.create_diagonal(xp.linalg.diagonal(a), xp=xp)
    wrong = xp.max(xp.abs(image - symmetric @ probe[:, None]), axis=(-2, -1)) > 1e-3 * scale
    bad = ~_finite(factor, xp) | wrong | xp.any(xp.linalg.diagonal(factor) <= 0, axis=-1)
    if check:
        _raise_if(bad, NOT_DEFINITE, xp)
        return factor
    return _nan_like(factor, bad, xp)


def _potrf(a: np.ndarray) -> np.ndarray:
    """The factor of one matrix by SciPy's LAPACK, in single precision several times as fast as NumPy's."""
    factor, info = _lapack("potrf", a.dtype.char)(a.T, lower=0)
    return factor.T if info == 0 else np.full_like(a, np.nan)


def solve_triangular(a: Array, b: Array, *, lower: bool = True, trans: bool = False, xp: Any) -> Array:
    """Solve ``a x = b`` (or ``a' x = b`` with ``trans``) for triangular ``a``; a zero pivot gives inf or NaN.

    Parameters
    ----------
    a : array, shape (..., n, n)
        Only the named triangle is read.
    b : array, shape (n,) or (..., n, k)
    lower, trans : bool
    xp : module
    """
    if b.ndim == 1:
        return solve_triangular(a, b[:, None], lower=lower, trans=trans, xp=xp)[:, 0]
    if is_torch(xp):
        torch = import_module("torch")
        if trans:
            return torch.linalg.solve_triangular(a.mT, b, upper=lower)
        return torch.linalg.solve_triangular(a, b, upper=not lower)
    if (is_numpy(xp) or is_cupy(xp)) and a.ndim == 2 and b.ndim == 2 and a.shape[-1]:
        if is_numpy(xp):
            trtrs = _lapack("trtrs", np.result_type(a, b).char)
            if a.flags.c_contiguous:  # the transpose is in LAPACK's order and needs no copy
                a, lower, trans = a.T, not lower, not trans
            x, info = trtrs(a, b, lower=lower, trans=int(trans))
            return x if info == 0 else np.full_like(x, np.nan)
        return import_module("cupyx.scipy.linalg").solve_triangular(a, b, lower=lower, trans=int(trans))
    triangle = xp.tril(a) if lower else xp.triu(a)
    return solve(xp.matrix_transpose(triangle) if trans else triangle, b, xp=xp, check=False)


@cache
def _lapack(name: str, dtype: str) -> Any:
    """LAPACK's routine, which says what failed where SciPy's functions raise."""
    from scipy.linalg.lapack import get_lapack_funcs

    return get_lapack_funcs(name, dtype=dtype)


def cho_solve(factor: Array, b: Array, *, xp: Any) -> Array:
    """Solve ``L L' x = b`` given the lower Cholesky factor ``L``."""
    return solve_triangular(factor, solve_triangular(factor, b, xp=xp), trans=True, xp=xp)


def solve(a: Array, b: Array, *, xp: Any, check: bool = True) -> Array:
    """Solve square linear systems.

    Parameters
    ----------
    a : array, shape (..., n, n)
    b : array, shape (n,) or (..., n, k)
    xp : module
    check : bool
        Whether to raise when a matrix is exactly singular or the solution is not finite; otherwise it is NaN.

    Raises
    ------
    LinAlgError
        If ``check`` and a matrix is singular.
    """
    if b.ndim == 1:
        return solve(a, b[:, None], xp=xp, check=check)[..., 0]
    if a.shape[-1] == 0:
        return b
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])
    b = xp.broadcast_to(b, shape)
    joined = xp.concat([xp.broadcast_to(a, (*shape[:-2], *a.shape[-2:])), b], axis=-1)
    n = a.shape[-1]
    x = _guarded_solve(joined, n, xp)
    bad = ~_finite(x, xp)
    if check:
        _raise_if(bad, "solve: the matrix is singular.", xp)
        return x
    return _nan_like(x, bad, xp)


def _guarded_solve(joined: Array, n: int, xp: Any) -> Array:
    try:
        return xp.linalg.solve(joined[..., :n], joined[..., n:])
    except Exception as error:
        if "inalg" not in type(error).__name__.lower() and "linalg" not in str(error).lower():
            raise
    if joined.ndim == 2:
        return xp.full_like(joined[:, n:], xp.nan)
    return xp.stack([_guarded_solve(joined[i, ...], n, xp) for i in range(joined.shape[0])])


def inv(a: Array, *, xp: Any, check: bool = True) -> Array:
    """Inverse of square matrices; fails as `solve` does."""
    return solve(a, xp.eye(a.shape[-1], dtype=a.dtype, device=a.device), xp=xp, check=check)


def _unit(a: Array, xp: Any) -> tuple[Array, Array]:
    """Scale matrices to maximum modulus 1 (a zero matrix stays): returns the scaled stack and the scales."""
    scale = xp.max(xp.abs(a), axis=(-2, -1), keepdims=True)
    return a / xp.where(scale > 0, scale, xp.ones_like(scale)), scale[..., 0]


def eigh(a: Array, *, xp: Any, check: bool = True) -> tuple[Array, Array]:
    """Eigenvalues (ascending) and eigenvectors of symmetric matrices, safe for zero, tiny and huge entries.

    Parameters
    ----------
    a : array, shape (..., n, n)
    xp : module
    check : bool
        Whether to raise on non-finite input or no convergence; otherwise the result is NaN.

    Returns
    -------
    w : array, shape (..., n)
    v : array, shape (..., n, n)
        Columns are eigenvectors; their signs differ between backends.
    """
    n = a.shape[-1]
    if n == 0:
        return xp.sum(a, axis=-1), a
    unit, scale = _unit(a, xp)
    bad = ~_finite(unit, xp)
    eye = xp.eye(n, dtype=a.dtype, device=a.device)
    safe = xp.where(bad[..., None, None], eye, unit)
    w, v = xp.linalg.eigh(safe)
    zero = (scale == 0)[..., None]
    w = xp.where(zero[..., 0], xp.zeros_like(w), w * scale)
    v = xp.where(zero, eye, v)
    if check:
        _raise_if(bad | ~_finite(v, xp), "eigh: the matrix has entries that are not finite.", xp)
        return w, v
    return _nan_like(w[..., None], bad, xp)[..., 0], _nan_like(v, bad, xp)


def svd(a: Array, *, xp: Any, check: bool = True) -> tuple[Array, Array, Array]:
    """Thin singular value decomposition ``a = u diag(s) vh``, safe for zero, tiny and huge entries.

    Returns
    -------
    u : array, shape (..., m, k)
    s : array, shape (..., k)
        Descending.
    vh : array, shape (..., k, n)
    """
    m, n = a.shape[-2:]
    k = min(m, n)
    if k == 0:
        empty = xp.zeros((*a.shape[:-2], 0), dtype=a.dtype, device=a.device)
        return (
            empty[..., None, :] * xp.ones((m, 1), dtype=a.dtype, device=a.device),
            empty,
            empty[..., None] * xp.ones((1, n), dtype=a.dtype, device=a.device),
        )
    unit, scale = _unit(a, xp)
    bad = ~_finite(unit, xp)
    u_eye = xp.eye(m, k, dtype=a.dtype, device=a.device)
    v_eye = xp.eye(k, n, dtype=a.dtype, device=a.device)
    safe = xp.where(bad[..., None, None], xp.eye(m, n, dtype=a.dtype, device=a.device), unit)
    u, s, vh = xp.linalg.svd(safe, full_matrices=False)
    zero = (scale == 0)[..., None]
    u, vh = xp.where(zero, u_eye, u), xp.where(zero, v_eye, vh)
    s = xp.where(zero[..., 0], xp.zeros_like(s), s * scale)
    if check:
        _raise_if(bad | ~_finite(u, xp) | ~_finite(vh, xp), "svd: the matrix has entries that are not finite.", xp)
        return u, s, vh
    return _nan_like(u, bad, xp), _nan_like(s[..., None], bad, xp)[..., 0], _nan_like(vh, bad, xp)


def qr(a: Array, *, xp: Any) -> tuple[Array, Array]:
    """Thin QR factorisation with a nonnegative diagonal of ``R`` (unique for full rank)."""
    q, r = xp.linalg.qr(a, mode="reduced")
    sign = xp.where(xp.linalg.diagonal(r) < 0, -xp.ones_like(xp.linalg.diagonal(r)), 1.0)
    return q * sign[..., None, :], sign[..., :, None] * r


def lstsq(a: Array, b: Array, *, rcond: float | None = None, xp: Any, check: bool = True) -> Array:
    """Least-squares solution of minimum norm, by the singular value decomposition.

    Parameters
    ----------
    a : array, shape (..., m, n)
    b : array, shape (m,) or (..., m, k)
    rcond : float, optional
        Singular values below ``rcond`` times the largest count as zero; by default ``max(m, n) * eps``.
    """
    if b.ndim == 1:
        return lstsq(a, b[:, None], rcond=rcond, xp=xp, check=check)[..., 0]
    u, s, vh = svd(a, xp=xp, check=check)
    if rcond is None:
        rcond = max(a.shape[-2:]) * float(xp.finfo(a.dtype).eps)
    keep = s > rcond * xp.max(s, axis=-1, keepdims=True) if s.shape[-1] else s > 0
    inverse = xp.where(keep, 1.0 / xp.where(keep, s, xp.ones_like(s)), xp.zeros_like(s))
    return xp.matrix_transpose(vh) @ (inverse[..., :, None] * (xp.matrix_transpose(u) @ b))


def norm(x: Array, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, xp: Any) -> Array:
    """Euclidean norm without overflow or underflow of the squares."""
    if 0 in x.shape:
        return xp.sum(x, axis=axis, keepdims=keepdims)
    if axis is None and not keepdims and is_numpy(xp):
        square, limits = np.vdot(x, x), np.finfo(x.dtype)
        if limits.tiny / limits.eps < square < limits.max:
            return np.sqrt(square)
    scale = xp.max(xp.abs(x), axis=axis, keepdims=True)
    safe = xp.where((scale > 0) & xp.isfinite(scale), scale, xp.ones_like(scale))
    scaled = xp.where(xp.isfinite(scale) | ~xp.isfinite(x), x / safe, xp.zeros_like(x))  # beside inf nothing counts
    out = xp.sqrt(xp.sum(xp.square(scaled), axis=axis, keepdims=True)) * safe
    return out if keepdims else xp.sum(out, axis=axis)
