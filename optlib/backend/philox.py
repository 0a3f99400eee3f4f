"""Random numbers that are addressed, not drawn: the counter-based generator Philox4x32-10.

A 64-bit key selects a stream, and the number at position ``i`` of a stream is a function of the key and of ``i``
alone. Any part of a stream can be computed again, anywhere and in any order, so that a random matrix need not be stored
and blocks of it can be spread over workers. The words are the same on every backend; normals agree to a few units in
the last place, because the logarithms and sines of the libraries differ.

Functions that draw from the state of a NumPy generator are in `optlib.backend.random`.
"""

from math import pi
from typing import Any

from optlib.backend.kernels import kernel
from optlib.backend.namespace import Array, device_of

__all__ = ["philox4x32", "philox_normal", "philox_rademacher", "philox_uniform", "philox_words"]

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox4x32(counter: tuple[Array, Array, Array, Array], key: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    """Encrypt 128-bit counters: the function Philox4x32-10.

    Parameters
    ----------
    counter : tuple of four int64 arrays
        The words of the counters, each in [0, 2^32), lowest first.
    key : tuple of two ints
        The words of the key, each in [0, 2^32), lowest first.

    Returns
    -------
    tuple of four int64 arrays
        The random words, each in [0, 2^32).

    Notes
    -----
    Ten rounds of two 32 x 32 -> 64 bit products. Unsigned 64-bit integers are missing in some libraries, so a product
    is put together from two of 16 x 32 bits, which fit int64.

    References
    ----------
    Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3, SC 2011, section 4.3.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def _multiply(factor: int, x: Array) -> tuple[Array, Array]:
    """Return the upper and the lower 32 bits of a product of 32-bit numbers."""
    upper, lower = x * (factor >> 16), x * (factor & 0xFFFF)
    return (upper + (lower >> 16)) >> 16, (((upper & 0xFFFF) << 16) + lower) & _MASK


def _blocks(key: int, start: int, count: int, like: Array, xp: Any) -> tuple[Array, int]:
    """Return the words of the counters that cover the positions [start, start + count), (blocks, 4), and the offset."""
    first, stop = start // 4, -(-(start + count) // 4)
    index = xp.arange(first, stop, dtype=xp.int64, device=device_of(like))
    zero = xp.zeros_like(index)
    words = philox4x32((index & _MASK, index >> 32, zero, zero), (key & _MASK, key >> 32))
    return xp.stack(words, axis=-1), start - 4 * first


@kernel(
    numba="optlib.backend._philox_numba:philox_words",
    cuda="optlib.backend._philox_cuda:philox_words",
    match="exact",
)
def philox_words(key: int, start: int, count: int, like: Array, *, xp: Any) -> Array:
    """Random 32-bit words at the positions [start, start + count) of a stream.

    Parameters
    ----------
    key : int
        The stream, in [0, 2^64).
    start, count : int
        The positions, start + count at most 2^63.
    like : array
        Gives the device.
    xp : module
        The namespace.

    Returns
    -------
    array (count,) of uint32
        Position ``i`` holds word ``i % 4`` of Philox4x32-10 at the counter ``i // 4``.
    """
    words, skip = _blocks(key, start, count, like, xp)
    return xp.astype(xp.reshape(words, (-1,))[skip : skip + count], xp.uint32)


@kernel(
    numba="optlib.backend._philox_numba:philox_uniform",
    cuda="optlib.backend._philox_cuda:philox_uniform",
    match="exact",
)
def philox_uniform(key: int, start: int, count: int, like: Array, *, xp: Any) -> Array:
    """Uniform numbers in [0, 1) at the positions [start, start + count) of a stream.

    Parameters
    ----------
    key : int
        The stream, in [0, 2^64).
    start, count : int
        The positions, start + count at most 2^63.
    like : array
        Gives dtype and device.
    xp : module
        The namespace.

    Returns
    -------
    array (count,)
        Word ``i`` divided by 2^32; in float32 its upper 24 bits divided by 2^24, the same number rounded down.
    """
    words, skip = _blocks(key, start, count, like, xp)
    words = xp.reshape(words, (-1,))[skip : skip + count]
    if like.dtype == xp.float32:
        return xp.astype(words >> 8, xp.float32) * 2.0**-24
    return xp.astype(words, like.dtype) * 2.0**-32


@kernel(
    numba="optlib.backend._philox_numba:philox_normal",
    cuda="optlib.backend._philox_cuda:philox_normal",
    match="ulp",
)
def philox_normal(key: int, start: int, count: int, like: Array, *, xp: Any) -> Array:
    """Standard normal numbers at the positions [start, start + count) of a stream.

    Parameters
    ----------
    key : int
        The stream, in [0, 2^64).
    start, count : int
        The positions, start + count at most 2^63.
    like : array
        Gives dtype and device.
    xp : module
        The namespace.

    Returns
    -------
    array (count,)
        At most 6.77 in magnitude. The float32 numbers are the float64 ones to a relative error of 1e-6.

    Notes
    -----
    Box-Muller, one word per number: the words a and b at the positions 2j and 2j + 1 give the numbers there,
    r cos(t) and r sin(t) with r^2 = -2 log((a + 1/2) / 2^32). The lower 30 bits of b, as a signed integer, are the
    angle t in [-pi/4, pi/4) in units of pi / 2^31; bit 30 exchanges the two numbers, bit 31 changes the sign of both.
    """
    words, skip = _blocks(key, start, count, like, xp)
    a, b = words[:, 0::2], words[:, 1::2]
    # The distance of u to 1 is exact in float32 as well, where u itself is rounded.
    u = (xp.astype(a, like.dtype) + 0.5) * 2.0**-32
    rest = (xp.astype(_MASK - a, like.dtype) + 0.5) * 2.0**-32
    r = xp.sqrt(-2.0 * xp.where(u > 0.5, xp.log1p(-rest), xp.log(u)))
    r = xp.where(b >= 2**31, -r, r)
    low = b & (2**30 - 1)
    t = xp.astype(xp.where(low >= 2**29, low - 2**30, low), like.dtype) * (pi * 2.0**-31)
    x, y = r * xp.cos(t), r * xp.sin(t)
    exchanged = (b & 2**30) != 0
    pairs = xp.stack((xp.where(exchanged, y, x), xp.where(exchanged, x, y)), axis=-1)
    return xp.reshape(pairs, (-1,))[skip : skip + count]


@kernel(
    numba="optlib.backend._philox_numba:philox_rademacher",
    cuda="optlib.backend._philox_cuda:philox_rademacher",
    match="exact",
)
def philox_rademacher(key: int, start: int, count: int, like: Array, *, xp: Any) -> Array:
    """Random signs -1 and 1 at the positions [start, start + count) of a stream.

    Parameters
    ----------
    key : int
        The stream, in [0, 2^64).
    start, count : int
        The positions, start + count at most 2^63.
    like : array
        Gives dtype and device.
    xp : module
        The namespace.

    Returns
    -------
    array (count,)
        -1 where bit ``i % 32`` of word ``i // 32`` is set. The words themselves are the packed form of these signs.
    """
    first = start // 32
    words, skip = _blocks(key, first, -(-(start + count) // 32) - first, like, xp)
    bits = (xp.reshape(words, (-1, 1)) >> xp.arange(32, dtype=xp.int64, device=device_of(like))) & 1
    skip = start - 32 * (first - skip)
    return xp.astype(1 - 2 * xp.reshape(bits, (-1,))[skip : skip + count], like.dtype)
