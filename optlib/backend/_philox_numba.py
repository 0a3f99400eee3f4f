"""Philox4x32-10 and its distributions in Numba.

`fill_words` and `fill_normal` are for other kernels too: they write the numbers at the positions start, start + 1, ...
of a stream into a contiguous array. However a stream is cut into calls, every number is bitwise the same.
"""

# mypy: ignore-errors
# The types here are those of Numba, not of Python.

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

from optlib.backend._math_numba import sincospi_, split_exponent_

_JIT = {"cache": True, "nogil": True, "error_model": "numpy"}
_INLINED = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "forceinline": True}
_STRIP = 1024  # words kept in the first-level cache between generation and use

# Everything unsigned: Numba turns a mix of uint64 and int64 into float64, and an unsigned index cannot wrap around.
_ZERO, _TWO, _THREE, _FOUR = np.uint64(0), np.uint64(2), np.uint64(3), np.uint64(4)
_ONE, _32, _MASK = np.uint64(1), np.uint64(32), np.uint64(0xFFFFFFFF)
_FACTOR_0, _FACTOR_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEP_0, _STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)

_SIGNS = np.where(np.arange(256)[:, None] >> np.arange(8) & 1, -1.0, 1.0)  # of the bits of a byte


def split_key(key):
    """Return the two words of a key as the kernels take them."""
    return np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)


@njit(**_JIT, forceinline=True)
def philox4x32_(c0, c1, c2, c3, k0, k1):
    """Encrypt one counter; all words are uint64 numbers below 2^32."""
    for _ in range(10):
        product0 = _FACTOR_0 * c0
        product1 = _FACTOR_1 * c2
        c0, c1 = (product1 >> _32) ^ c1 ^ k0, product1 & _MASK
        c2, c3 = (product0 >> _32) ^ c3 ^ k1, product0 & _MASK
        k0 = (k0 + _STEP_0) & _MASK
        k1 = (k1 + _STEP_1) & _MASK
    return c0, c1, c2, c3


@njit(**_JIT)
def _fill_blocks(k0, k1, first, out):
    """Write the words of the counters first, first + 1, ...; the size of ``out`` is a multiple of 4."""
    for j in range(out.size // 4):
        counter = first + np.uint64(j)
        w0, w1, w2, w3 = philox4x32_(counter & _MASK, counter >> _32, _ZERO, _ZERO, k0, k1)
        i = _FOUR * np.uint64(j)
        out[i] = np.uint32(w0)
        out[i + _ONE] = np.uint32(w1)
        out[i + _TWO] = np.uint32(w2)
        out[i + _THREE] = np.uint32(w3)


@njit(**_JIT)
def fill_words(k0, k1, start, out):
    """Write the words at the positions start, start + 1, ... (uint64) into the uint32 array ``out``."""
    ends = np.empty(4, dtype=np.uint32)
    skip = np.int64(start % _FOUR)
    head = min(out.size, (4 - skip) % 4)
    if head > 0:
        _fill_blocks(k0, k1, start // _FOUR, ends)
        _copy(ends[skip:], out[:head])
    tail = (out.size - head) % 4
    first = (start + _THREE) // _FOUR
    _fill_blocks(k0, k1, first, out[head : out.size - tail])
    if tail > 0:
        _fill_blocks(k0, k1, first + np.uint64((out.size - head) // 4), ends)
        _copy(ends, out[out.size - tail :])


@njit(**_JIT)
def _copy(source, out):
    for j in range(out.size):
        out[j] = source[j]


def box_muller_(a, b, like):
    """Return the two normals that the words a and b (uint32) give, in the dtype of the scalar ``like``.

    The first word is the radius: r^2 = -2 log((a + 1/2) / 2^32). Of the second, the highest bit is the sign of r, the
    next exchanges sine and cosine, and the rest, as a signed number of half a turn, is the angle. The formula is the
    definition; the polynomials that replace it in compiled code are below.
    """
    a, b = int(a), int(b)
    r = math.sqrt(-2.0 * math.log1p((a + 0.5 - 2.0**32) / 2.0**32)) * (-1.0 if b >= 2**31 else 1.0)
    angle = ((b + 2**29) % 2**30 - 2**29) * math.pi / 2.0**31
    first, second = math.sin(angle), math.cos(angle)
    if b & 2**30 == 0:
        first, second = second, first
    return type(like)(r * first), type(like)(r * second)


_LOG_4 = 2.0 * math.log(2.0)
_HALF, _TWO_32, _FOUR_32, _LOG_4_32 = np.float32(0.5), np.float32(2.0), np.float32(4.0), np.float32(_LOG_4)
_WORD_32, _WORDS_32, _ANGLE_32 = np.float32(2.0**-32), np.float32(32.0), np.float32(2.0**-33)
_L1, _L2, _L3 = np.float32(1.33333374), np.float32(0.79977554), np.float32(0.59160108)


@overload(box_muller_, jit_options=_INLINED)
def _box_muller(a, b, like):
    """The radius is a logarithm without its corrections for the last bit: r^2 = 4 atanh(-s) - 2 k ln 2."""
    if like == types.float64:

        def box_muller64(a, b, like):
            f, k = split_exponent_(np.float64(a) + 0.5)
            s = f / (2.0 + f)
            z = s * s
            w = z * z
            p = 0.29233170849777246 * w + (0.30663421236421546 * z + 0.36365778911349894)
            p = p * w + (0.44444422260519756 * z + 0.5714285724520654)
            p = p * w + (0.7999999999979889 * z + 1.333333333333334)
            r = math.sqrt((32.0 - k) * _LOG_4 - s * (p * z + 4.0))
            r = -r if np.int32(b) < 0 else r
            sine, cosine = sincospi_(np.float64(np.int32(b << 2)) * 2.0**-33)
            exchanged = b & 0x40000000 != 0
            return r * (sine if exchanged else cosine), r * (cosine if exchanged else sine)

        return box_muller64
    if like == types.float32:

        def box_muller32(a, b, like):
            f, k = split_exponent_(np.float32(a) + _HALF)
            # Next to u = 1 the distance to 1 must not come from the rounded u.
            f = (np.float32(~a) + _HALF) * -_WORD_32 if k == _WORDS_32 else f
            s = f / (_TWO_32 + f)
            z = s * s
            p = (_L3 * z + _L2) * z + _L1
            r = math.sqrt((_WORDS_32 - k) * _LOG_4_32 - s * (p * z + _FOUR_32))
            r = -r if np.int32(b) < 0 else r
            sine, cosine = sincospi_(np.float32(np.int32(b << 2)) * _ANGLE_32)
            exchanged = b & 0x40000000 != 0
            return r * (sine if exchanged else cosine), r * (cosine if exchanged else sine)

        return box_muller32
    return None


@njit(**_JIT)
def _normal_pairs(words, out):
    for j in range(out.size // 2):
        i = _TWO * np.uint64(j)
        x, y = box_muller_(words[i], words[i + _ONE], out[i])
        out[i] = x
        out[i + _ONE] = y


@njit(**_JIT)
def fill_normal(k0, k1, start, out):
    """Write the normals at the positions start, start + 1, ... (uint64) into the floating array ``out``."""
    words = np.empty(_STRIP, dtype=np.uint32)
    strip = np.empty(_STRIP, dtype=out.dtype)
    skip = np.int64(start % _TWO)  # `done` counts from the last even position
    done = 0
    while done < skip + out.size:
        # Multiples of 128 pass through vector instructions only, whose rounding is the same for every entry.
        size = min(_STRIP, (skip + out.size - done + 127) // 128 * 128)
        fill_words(k0, k1, start - np.uint64(skip) + np.uint64(done), words[:size])
        if done >= skip and done + size <= skip + out.size:
            _normal_pairs(words[:size], out[done - skip : done - skip + size])
        else:
            _normal_pairs(words[:size], strip[:size])
            low, high = max(done, skip), min(done + size, skip + out.size)
            _copy(strip[low - done :], out[low - skip : high - skip])
        done += size


@njit(**_JIT)
def _fill_uniform(k0, k1, start, out, shift, scale):
    words = np.empty(_STRIP, dtype=np.uint32)
    for done in range(0, out.size, _STRIP):
        size = min(_STRIP, out.size - done)
        fill_words(k0, k1, start + np.uint64(done), words[:size])
        _scale(words[:size], out[done : done + size], shift, scale)


@njit(**_JIT)
def _scale(words, out, shift, scale):
    for j in range(out.size):
        out[j] = (words[j] >> shift) * scale


@njit(**_JIT)
def unpack_signs(words, out):
    """Write 32 signs a word: -1 where the bit is set, from the lowest on."""
    bytes_ = words.view(np.uint8)  # little-endian
    for j in range(bytes_.size):
        _copy_row(_SIGNS[bytes_[j]], out[8 * j : 8 * j + 8])


@njit(**_JIT)
def _copy_row(row, out):
    for i in range(8):
        out[i] = row[i]


def philox_words(key, start, count, like):
    """Numba variant of `optlib.backend.philox.philox_words`."""
    out = np.empty(count, dtype=np.uint32)
    fill_words(*split_key(key), np.uint64(start), out)
    return out


def philox_uniform(key, start, count, like):
    """Numba variant of `optlib.backend.philox.philox_uniform`."""
    out = np.empty(count, dtype=like.dtype)
    bits = 24 if out.dtype == np.float32 else 32
    _fill_uniform(*split_key(key), np.uint64(start), out, np.uint32(32 - bits), out.dtype.type(2.0**-bits))
    return out


def philox_normal(key, start, count, like):
    """Numba variant of `optlib.backend.philox.philox_normal`."""
    out = np.empty(count, dtype=like.dtype)
    fill_normal(*split_key(key), np.uint64(start), out)
    return out


def philox_rademacher(key, start, count, like):
    """Numba variant of `optlib.backend.philox.philox_rademacher`."""
    first = start // 32
    words = philox_words(key, first, -(-(start + count) // 32) - first, like)
    out = np.empty(32 * words.size, dtype=like.dtype)
    unpack_signs(words, out)
    return out[start - 32 * first :][:count]
