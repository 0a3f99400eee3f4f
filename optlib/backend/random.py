"""Random numbers drawn on the host in float64, then cast and moved: the same run on every backend and dtype."""

from typing import Any

import numpy as np

from optlib.backend.namespace import Array, asarray_like, asarray_on, device_of


def as_generator(rng: Any = None) -> np.random.Generator:
    """Return ``numpy.random.default_rng(rng)`` (SPEC 7): a seed, a generator or None.

    Raises
    ------
    TypeError
        For anything that cannot seed a generator, the legacy ``RandomState`` among it.
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`rng`: got {rng!r}; expected None, a nonnegative integer, or a numpy.random.Generator."
        ) from error


def normal(rng: np.random.Generator, shape: int | tuple[int, ...], *, like: Array) -> Array:
    """Standard normal numbers with dtype and device of ``like``."""
    return asarray_like(rng.standard_normal(shape), like)


def uniform(
    rng: np.random.Generator, shape: int | tuple[int, ...], low: float = 0.0, high: float = 1.0, *, like: Array
) -> Array:
    """Uniform numbers in [low, high) with dtype and device of ``like``."""
    return asarray_like(rng.uniform(low, high, shape), like)


def rademacher(rng: np.random.Generator, shape: int | tuple[int, ...], *, like: Array) -> Array:
    """Random signs -1 and 1 with dtype and device of ``like``."""
    return asarray_like(2.0 * rng.integers(0, 2, shape) - 1.0, like)


def permutation(rng: np.random.Generator, n: int, *, like: Array, xp: Any) -> Array:
    """Random permutation of ``0..n-1`` as an int64 array on the device of ``like``."""
    return asarray_on(rng.permutation(n), xp=xp, dtype=xp.int64, device=device_of(like))
