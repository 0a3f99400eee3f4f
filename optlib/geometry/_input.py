"""Arguments of the public functions of this package: checked and converted once, at the boundary."""

from numbers import Real
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, device_of, linalg


def points(x: Any, axes: int = 1, **others: Any) -> tuple[Any, Array]:
    """Return the namespace that ``x`` shares with the other arrays, and ``x`` as a floating array.

    The last ``axes`` dimensions must exist and not be empty. Entries are not looked at: NaN in, NaN out.
    """
    xp, device, _ = check.common(x=x, **others)
    x = check.array("x", x, xp=xp, device=device, finite=False, graph=True)
    if x.ndim < axes or 0 in x.shape[-axes:]:
        what = "a last axis" if axes == 1 else "two last axes"
        raise check.error("x", f"shape {tuple(x.shape)}", f"at least {axes}-dimensional data with {what} of length > 0")
    return xp, x


def amount(name: str, value: Any, x: Array, axes: int = 1, *, positive: bool = False, xp: Any) -> Any:
    """Return a nonnegative number as ``float``, or one per row of ``x`` as an array of its leading shape."""
    if isinstance(value, Real) or getattr(value, "shape", None) == ():
        high = float(xp.finfo(x.dtype).max) / (4.0 * x.shape[-1])  # sums over a row do not overflow
        return check.scalar(name, value, low=0.0, high=high, low_open=positive)
    return broadcast(name, value, x, tuple(x.shape[:-axes]), positive=positive, nonnegative=True, xp=xp)


def broadcast(
    name: str,
    value: Any,
    x: Array,
    shape: tuple[int, ...],
    *,
    positive: bool = False,
    nonnegative: bool = False,
    finite: bool = True,
    xp: Any,
) -> Array:
    """Return an array or number as an array of the given shape on the device and in the dtype of ``x``."""
    value = check.array(
        name, value, xp=xp, dtype=x.dtype, device=device_of(x), nonnegative=nonnegative, finite=finite, graph=True
    )
    if positive and not bool(xp.all(value > 0.0)):
        raise check.error(name, "an entry that is not positive", "numbers > 0")
    lead = (1,) * (len(shape) - value.ndim)
    if value.ndim > len(shape) or any(v not in (1, s) for v, s in zip((*lead, *value.shape), shape, strict=True)):
        raise check.error(name, f"shape {tuple(value.shape)}", f"a number or an array that broadcasts to shape {shape}")
    return xp.broadcast_to(value, shape)


def square(x: Array, name: str = "x") -> None:
    """Refuse matrices that are not square."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise check.error(name, f"shape {tuple(x.shape)}", "square matrices in the last two axes")


def slack(x: Array, xp: Any) -> float:
    """Relative rounding that a sum over a row of ``x`` may have."""
    return 4.0 * x.shape[-1] * float(xp.finfo(x.dtype).eps)


def spectrum(name: str, a: Any, x: Array, xp: Any, *, definite: bool) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors of a matrix, checked to be symmetric and positive (semi)definite, or such a pair."""
    n = x.shape[-1]
    if isinstance(a, tuple) and len(a) == 2:
        values, vectors = a
    else:
        a = check.array(name, a, xp=xp, dtype=x.dtype, device=device_of(x), graph=True)
        if a.ndim < 2 or tuple(a.shape[-2:]) != (n, n):
            raise check.error(name, f"shape {tuple(a.shape)}", f"shape (..., {n}, {n})")
        if not bool(xp.all(xp.abs(a - xp.matrix_transpose(a)) <= slack(x, xp) * xp.max(xp.abs(a)))):
            raise check.error(name, "a matrix that is not symmetric", "a symmetric matrix", "use (a + a.T) / 2")
        values, vectors = linalg.eigh(a, xp=xp)
    least, bound = xp.min(values, axis=-1), slack(x, xp) * xp.max(values, axis=-1)
    if not bool(xp.all(least > 0.0 if definite else least >= -bound)):
        kind = "a positive definite" if definite else "a positive semidefinite"
        raise check.error(name, f"an eigenvalue {float(xp.min(least)):.3g}", f"{kind} matrix")
    return values, vectors
