"""Philox: the published words, one stream however it is cut, the right distributions, the same on every backend."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from scipy import stats

from optlib.backend import array_namespace, device_of, philox, to_numpy
from optlib.backend._philox_numba import box_muller_, philox4x32_
from tests.backend.kernel_cases import KEYS, STARTS

XP = array_namespace()
FLOAT64, FLOAT32 = np.empty(0), np.empty(0, dtype=np.float32)
KERNELS = [philox.philox_words, philox.philox_uniform, philox.philox_normal, philox.philox_rademacher]
EVERY_KERNEL = pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.__name__)
DTYPES = pytest.mark.parametrize("like", [FLOAT64, FLOAT32], ids=["float64", "float32"])

# Counter, key and words: the lines "philox4x32 10" of tests/kat_vectors in Random123.
KNOWN_ANSWERS = [
    (
        (0x00000000, 0x00000000, 0x00000000, 0x00000000),
        (0x00000000, 0x00000000),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@njit
def encrypt(c0, c1, c2, c3, k0, k1):
    return philox4x32_(c0, c1, c2, c3, k0, k1)


@njit(error_model="numpy")
def box_muller_loop(a, b, x, y):
    for j in range(a.size):
        x[j], y[j] = box_muller_(a[j], b[j], x[j])


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers(backend, counter, key, words):
    found = philox.philox4x32(tuple(backend.asarray(np.asarray([c], dtype=np.int64)) for c in counter), key)
    assert tuple(int(w[0]) for w in found) == words


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_known_answers_in_numba(counter, key, words):
    assert tuple(int(w) for w in encrypt(*map(np.uint64, counter + key))) == words


def test_the_stream_begins_with_the_known_answer():
    assert tuple(philox.philox_words(0, 0, 4, FLOAT64, xp=XP)) == KNOWN_ANSWERS[0][2]


@EVERY_KERNEL
@DTYPES
@given(key=KEYS, start=STARTS, count=st.integers(0, 2500), cut=st.floats(0, 1))
def test_a_stream_is_the_same_however_it_is_cut(engine, kernel, like, key, start, count, cut):
    first = int(cut * count)
    whole = kernel(key, start, count, like, xp=XP)
    parts = kernel(key, start, first, like, xp=XP), kernel(key, start + first, count - first, like, xp=XP)
    assert whole.shape == (count,)
    assert np.array_equal(np.concatenate(parts), whole)


@EVERY_KERNEL
def test_backends_have_one_stream(backend, engine, kernel):
    like = backend.asarray(np.empty(0))
    for start, count in ((5, 1000), (2**34 - 3, 7), (0, 0)):
        found = kernel(2**63 + 12345, start, count, like, xp=backend.xp)
        expected = kernel.generic(2**63 + 12345, start, count, FLOAT64, xp=XP)
        assert array_namespace(found) is array_namespace(like)
        assert device_of(found) == device_of(like)
        assert found.shape == (count,)
        assert found.dtype == (backend.xp.uint32 if kernel is philox.philox_words else like.dtype)
        tolerance = 16 * backend.eps if kernel is philox.philox_normal else backend.eps * (not backend.is_double)
        if backend.name == "jax":  # the logarithm of XLA errs by some tens of ulp near 1
            tolerance *= 8
        np.testing.assert_allclose(to_numpy(found).astype(float), expected, rtol=tolerance, atol=tolerance)


def test_streams_differ():
    first = philox.philox_words(1, 0, 1000, FLOAT64, xp=XP)
    assert np.mean(first == philox.philox_words(2, 0, 1000, FLOAT64, xp=XP)) < 0.01
    assert np.mean(first == philox.philox_words(1 + 2**32, 0, 1000, FLOAT64, xp=XP)) < 0.01
    assert np.mean(first == philox.philox_words(1, 2**34, 1000, FLOAT64, xp=XP)) < 0.01


@DTYPES
def test_normals_are_normal(like):
    x = philox.philox_normal(7, 0, 1 << 18, like, xp=XP).astype(float)
    assert stats.kstest(x, "norm").pvalue > 1e-3
    for half in (x[0::2], x[1::2]):
        assert stats.kstest(half, "norm").pvalue > 1e-3
    error = x.size**-0.5
    assert abs(np.mean(x)) < 4 * error
    assert abs(np.mean(x**2) - 1) < 4 * 2**0.5 * error
    assert abs(np.mean(x**3)) < 4 * 15**0.5 * error
    assert abs(np.mean(x**4) - 3) < 4 * 96**0.5 * error
    for lag in (1, 2, 3, 4):
        assert abs(np.mean(x[lag:] * x[:-lag])) < 4 * error
        assert abs(np.mean((x[lag:] ** 2 - 1) * (x[:-lag] ** 2 - 1))) < 4 * 2 * error
    # The direction of a pair is uniform on the circle and independent of its length.
    angle, length = np.arctan2(x[1::2], x[0::2]), x[0::2] ** 2 + x[1::2] ** 2
    assert stats.kstest(angle, "uniform", args=(-np.pi, 2 * np.pi)).pvalue > 1e-3
    assert stats.kstest(length, "expon", args=(0, 2)).pvalue > 1e-3
    assert abs(np.corrcoef(np.abs(angle), length)[0, 1]) < 4 * 2**0.5 * error


@DTYPES
def test_extreme_words_give_accurate_normals(like):
    edge = np.asarray([0, 1, 2, 2**22, 2**24 + 1, 2**29, 2**30, 2**31, 2**32 - 2**7 - 1, 2**32 - 2, 2**32 - 1])
    edge = np.unique(np.concatenate([edge, np.maximum(edge - 1, 0), np.asarray([3037000499, 3037000500])]))
    a, b = (grid.ravel().astype(np.uint32) for grid in np.meshgrid(edge, edge))
    x, y = np.empty(a.size, dtype=like.dtype), np.empty(a.size, dtype=like.dtype)
    box_muller_loop(a, b, x, y)
    a, b = a.astype(np.int64), b.astype(np.int64)
    r = np.sqrt(-2 * np.log1p(-(2**32 - a - 0.5) / 2**32)) * np.where(b >= 2**31, -1, 1)
    low = (b + 2**29) % 2**30 - 2**29
    cosine, sine = np.cos(low * np.pi / 2**31), np.sin(low * np.pi / 2**31)
    exchanged = b // 2**30 % 2 == 1
    rtol = 16 * np.finfo(like.dtype).eps
    np.testing.assert_allclose(x, r * np.where(exchanged, sine, cosine), rtol=rtol)
    np.testing.assert_allclose(y, r * np.where(exchanged, cosine, sine), rtol=rtol)
    assert np.abs(x).max() < 6.77
    defined = [box_muller_(*words, like.dtype.type(0)) for words in zip(a, b, strict=True)]
    np.testing.assert_allclose(np.stack([x, y], axis=1), np.asarray(defined), rtol=rtol)


def test_float32_normals_are_the_float64_ones(engine):
    double, single = (philox.philox_normal(3, 0, 100_000, like, xp=XP) for like in (FLOAT64, FLOAT32))
    np.testing.assert_allclose(single, double, rtol=1e-6)


@DTYPES
def test_uniforms(engine, like):
    u = philox.philox_uniform(11, 0, 100_000, like, xp=XP)
    assert u.dtype == like.dtype
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert np.all(np.abs(u - philox.philox_words(11, 0, 100_000, like, xp=XP) / 2**32) < 2**-24)


@DTYPES
def test_words_are_packed_signs(engine, like):
    signs = philox.philox_rademacher(5, 0, 32_000, like, xp=XP)
    words = philox.philox_words(5, 0, 1000, like, xp=XP)
    bits = np.unpackbits(words.astype("<u4").view(np.uint8), bitorder="little")
    assert np.array_equal(signs, 1 - 2 * bits.astype(like.dtype))
    assert abs(signs.mean()) < 4 * signs.size**-0.5
