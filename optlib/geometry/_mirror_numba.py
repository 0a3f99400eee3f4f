"""Numba variants of the kernels of the mirror maps.

The functions named ``*_row`` work in place on one contiguous vector and leave the primal point there; other kernels,
such as rounds of online learning, call them from their own compiled loops.
"""

import numpy as np
from numba import njit

from optlib.backend._math_numba import exp_, log_
from optlib.geometry._projections_numba import _largest
from optlib.geometry.mirror.roots import ITERATIONS

# Without a word on fastmath a function inherits that of the caller that compiles it first.
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}
_SUMS = {**_OPTIONS, "fastmath": {"reassoc", "contract", "nsz"}}


# --- entropy ---


@njit(**_SUMS)
def _exponentials(z, top):
    total = z.dtype.type(0.0)
    for j in range(z.size):
        e = exp_(z[j] - top)
        z[j] = e
        total += e
    return total


@njit(**_SUMS)
def _sum_of_exponentials(z, top):
    total = z.dtype.type(0.0)
    for j in range(z.size):
        total += exp_(z[j] - top)
    return total


@njit(**_OPTIONS)
def softmax_row(z, mass):
    """``mass * exp(z) / sum(exp(z))``."""
    total = _exponentials(z, z.dtype.type(_largest(z)))
    factor = mass / total
    for j in range(z.size):
        z[j] *= factor


@njit(**_OPTIONS)
def log_softmax_row(z):
    """``z - log(sum(exp(z)))``."""
    top = z.dtype.type(_largest(z))
    shift = log_(_sum_of_exponentials(z, top))
    for j in range(z.size):
        z[j] = (z[j] - top) - shift


@njit(**_OPTIONS)
def entropy_step_row(x, g, eta, mass):
    """Proportional to ``x * exp(-eta g)``, of sum ``mass``."""
    for j in range(x.size):
        x[j] = log_(x[j]) - eta * g[j]
    softmax_row(x, mass)


# --- Tsallis entropy ---


@njit(**_SUMS)
def _tsallis_sums(l, y):
    one = l.dtype.type(1.0)
    total = cubes = l.dtype.type(0.0)
    for j in range(l.size):
        r = one / (l[j] + y)
        total += r * r
        cubes += r * r * r
    return total, cubes


@njit(**_OPTIONS)
def tsallis_root(l, mass, y):
    """Root of ``sum (l + y)^-2 = mass`` from a start ``y`` to its left; ``l >= 0`` with minimum 0."""
    one = l.dtype.type(1.0)
    tol = l.dtype.type(4.0 * np.finfo(l.dtype).eps)
    for _ in range(ITERATIONS):
        total, cubes = _tsallis_sums(l, y)
        step = total * (np.sqrt(total / mass) - one) / cubes
        y += step
        if step <= tol * y:
            break
    return y


@njit(**_OPTIONS)
def tsallis_row(z, mass):
    """Maximiser of ``<z, w> + 2 sum sqrt(w)`` over the simplex."""
    one = z.dtype.type(1.0)
    top = z.dtype.type(_largest(z))
    for j in range(z.size):
        z[j] = top - z[j]
    y = tsallis_root(z, mass, one / np.sqrt(mass))
    factor = mass / _tsallis_sums(z, y)[0]
    for j in range(z.size):
        r = one / (z[j] + y)
        z[j] = factor * (r * r)


@njit(**_OPTIONS)
def tsallis_step_row(x, g, eta, mass):
    """Mirror step of the Tsallis entropy."""
    one = x.dtype.type(1.0)
    for j in range(x.size):
        x[j] = -one / np.sqrt(x[j]) - eta * g[j]
    tsallis_row(x, mass)


# --- log-barrier ---


@njit(**_SUMS)
def _log_barrier_sums(l, y):
    one = l.dtype.type(1.0)
    total = squares = l.dtype.type(0.0)
    for j in range(l.size):
        w = one / (l[j] + y)
        total += w
        squares += w * w
    return total, squares


@njit(**_OPTIONS)
def log_barrier_root(l, mass, y):
    """Root of ``sum 1 / (l + y) = mass`` from a start ``y`` to its left; ``l >= 0`` with minimum 0."""
    one = l.dtype.type(1.0)
    tol = l.dtype.type(4.0 * np.finfo(l.dtype).eps)
    for _ in range(ITERATIONS):
        total, squares = _log_barrier_sums(l, y)
        step = total * (total / mass - one) / squares
        y += step
        if step <= tol * y:
            break
    return y


@njit(**_OPTIONS)
def log_barrier_row(z, mass):
    """Maximiser of ``<z, w> + sum log(w)`` over the simplex."""
    one = z.dtype.type(1.0)
    top = z.dtype.type(_largest(z))
    for j in range(z.size):
        z[j] = top - z[j]
    y = log_barrier_root(z, mass, one / mass)
    factor = mass / _log_barrier_sums(z, y)[0]
    for j in range(z.size):
        z[j] = factor / (z[j] + y)


@njit(**_OPTIONS)
def log_barrier_step_row(x, g, eta, mass):
    """Mirror step of the log-barrier."""
    one = x.dtype.type(1.0)
    for j in range(x.size):
        x[j] = -one / x[j] - eta * g[j]
    log_barrier_row(x, mass)


# --- Euclidean ball ---


@njit(**_SUMS)
def _squares(x, unit):
    total = x.dtype.type(0.0)
    for j in range(x.size):
        z = x[j] / unit
        total += z * z
    return total


@njit(**_OPTIONS)
def shorten_row(x, radius):
    """``x * min(1, radius / |x|)``."""
    size = np.sqrt(_squares(x, x.dtype.type(1.0)))
    if not 1e-15 < size < 1e15:  # squares that may leave the range of float32: relative to the largest entry
        top = x.dtype.type(0.0)
        for j in range(x.size):
            top = max(top, abs(x[j]))
        if 0.0 < top < np.inf:
            size = top * np.sqrt(_squares(x, top))
    if not size <= radius:
        for j in range(x.size):
            x[j] = radius * (x[j] / size)


# --- all rows of a matrix ---


@njit(**_OPTIONS)
def _softmax_rows(z, mass):
    for i in range(z.shape[0]):
        softmax_row(z[i], mass)


@njit(**_OPTIONS)
def _log_softmax_rows(z):
    for i in range(z.shape[0]):
        log_softmax_row(z[i])


@njit(**_OPTIONS)
def _tsallis_rows(z, mass):
    for i in range(z.shape[0]):
        tsallis_row(z[i], mass)


@njit(**_OPTIONS)
def _log_barrier_rows(z, mass):
    for i in range(z.shape[0]):
        log_barrier_row(z[i], mass)


@njit(**_OPTIONS)
def _shorten_rows(x, radius):
    for i in range(x.shape[0]):
        shorten_row(x[i], radius)


@njit(**_OPTIONS)
def _entropy_step_rows(x, g, eta, mass):
    for i in range(x.shape[0]):
        entropy_step_row(x[i], g[i], eta, mass)


@njit(**_OPTIONS)
def _tsallis_step_rows(x, g, eta, mass):
    for i in range(x.shape[0]):
        tsallis_step_row(x[i], g[i], eta, mass)


@njit(**_OPTIONS)
def _log_barrier_step_rows(x, g, eta, mass):
    for i in range(x.shape[0]):
        log_barrier_step_row(x[i], g[i], eta, mass)


# --- what `@kernel` calls: NumPy arrays of any shape and Python floats in, a new array out ---


def _apply(row, rows, z, *scalars):
    out = np.array(z, order="C")
    if out.itemsize == 4:
        scalars = tuple(np.float32(s) for s in scalars)
    if z.ndim == 1:
        row(out, *scalars)
    else:
        rows(out.reshape(-1, z.shape[-1]), *scalars)
    return out


def softmax(theta, mass):
    """Variant of `optlib.geometry.mirror.entropy.softmax`."""
    return _apply(softmax_row, _softmax_rows, theta, mass)


def log_softmax(theta):
    """Variant of `optlib.geometry.mirror.entropy.log_softmax`."""
    return _apply(log_softmax_row, _log_softmax_rows, theta)


def tsallis_simplex(theta, mass):
    """Variant of `optlib.geometry.mirror.roots.tsallis_simplex`."""
    return _apply(tsallis_row, _tsallis_rows, theta, mass)


def log_barrier_simplex(theta, mass):
    """Variant of `optlib.geometry.mirror.roots.log_barrier_simplex`."""
    return _apply(log_barrier_row, _log_barrier_rows, theta, mass)


def shorten(x, radius):
    """Variant of `optlib.geometry.mirror.euclidean.shorten`."""
    return _apply(shorten_row, _shorten_rows, x, radius)


def _apply_step(row, rows, x, g, eta, mass):
    if not isinstance(eta, float):
        g, eta = eta * g, 1.0
    if x.shape != g.shape or x.dtype != g.dtype:
        dtype, shape = np.result_type(x, g), np.broadcast_shapes(x.shape, g.shape)
        x, g = (np.broadcast_to(v.astype(dtype, copy=False), shape) for v in (x, g))
    out = np.array(x, order="C")
    g = g if g.flags.carray else np.array(g, order="C")
    if out.itemsize == 4:
        eta, mass = np.float32(eta), np.float32(mass)
    if x.ndim == 1:
        row(out, g, eta, mass)
    else:
        rows(out.reshape(-1, x.shape[-1]), g.reshape(-1, x.shape[-1]), eta, mass)
    return out


def entropy_step(x, g, eta, mass):
    """Variant of `optlib.geometry.mirror.entropy.entropy_step`."""
    return _apply_step(entropy_step_row, _entropy_step_rows, x, g, eta, mass)


def tsallis_step(x, g, eta, mass):
    """Variant of `optlib.geometry.mirror.roots.tsallis_step`."""
    return _apply_step(tsallis_step_row, _tsallis_step_rows, x, g, eta, mass)


def log_barrier_step(x, g, eta, mass):
    """Variant of `optlib.geometry.mirror.roots.log_barrier_step`."""
    return _apply_step(log_barrier_step_row, _log_barrier_step_rows, x, g, eta, mass)
