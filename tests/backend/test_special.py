"""Special functions, scatter-add and random numbers agree with SciPy and NumPy."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optlib.backend import random, scatter, special, to_numpy
from optlib.testing import assert_close

VALUES = st.floats(-50, 50)
WEIGHTS = st.one_of(st.just(0.0), st.floats(1e-20, 1e20))


@given(x=arrays(np.float64, (3, 4), elements=VALUES), shift=st.sampled_from([0.0, 1e4, -1e4]))
def test_logsumexp_softmax(backend, x, shift):
    xp, y = backend.xp, backend.asarray(x + shift)
    host = to_numpy(y).astype(float)
    atol = 20 * backend.eps * (60 + abs(shift))
    assert_close(to_numpy(special.logsumexp(y, xp=xp)), scipy.special.logsumexp(host, axis=-1), atol=atol)
    weights = np.array([1.0, 0.0, 2.0, 0.5])
    expected = scipy.special.logsumexp(host, axis=-1, b=weights, keepdims=True)
    assert_close(to_numpy(special.logsumexp(y, b=backend.asarray(weights), keepdims=True, xp=xp)), expected, atol=atol)
    assert_close(
        to_numpy(special.softmax(y, xp=xp)), scipy.special.softmax(host, axis=-1), rtol=1e3 * backend.eps, atol=1e-30
    )


def test_logsumexp_of_minus_infinity(backend):
    y = backend.asarray(np.array([[-np.inf, -np.inf], [-np.inf, 0.0]]))
    assert np.array_equal(to_numpy(special.logsumexp(y, xp=backend.xp)), [-np.inf, 0.0])


@given(x=arrays(np.float64, 6, elements=WEIGHTS), y=arrays(np.float64, 6, elements=WEIGHTS))
def test_kl_div_and_xlogy(backend, x, y):
    xp, u, v = backend.xp, backend.asarray(x), backend.asarray(y)
    with np.errstate(all="ignore"):
        hx, hy = to_numpy(u).astype(float), to_numpy(v).astype(float)
        kl = to_numpy(special.kl_div(u, v, xp=xp)).astype(float)
        expected = scipy.special.kl_div(hx, hy)
        product = to_numpy(special.xlogy(u, v, xp=xp)).astype(float)
    assert np.all(kl >= 0)
    assert_close(
        kl,
        expected,
        rtol=1e3 * backend.eps,
        atol=50 * backend.eps * np.max(np.where(np.isfinite(expected), expected, 0)),
    )
    assert_close(product, scipy.special.xlogy(hx, hy), rtol=1e3 * backend.eps, atol=1e3 * backend.eps)


def test_kl_div_does_not_cancel(backend):
    d = 1e3 * backend.eps
    value = float(special.kl_div(backend.asarray([1.0 + d]), backend.asarray([1.0]), xp=backend.xp)[0])
    rounded = float(backend.asarray([1.0 + d])[0]) - 1.0
    assert value == pytest.approx(rounded**2 / 2, rel=1e-2)


@given(x=arrays(np.float64, 5, elements=st.floats(-700, 700)))
def test_expit_logit(backend, x):
    xp, y = backend.xp, backend.asarray(x)
    host = to_numpy(y).astype(float)
    with np.errstate(all="ignore"):
        p = special.expit(y, xp=xp)
        assert_close(to_numpy(p), scipy.special.expit(host), rtol=1e3 * backend.eps, atol=1e-37)
        inner = np.abs(host) < 5
        assert_close(
            to_numpy(special.logit(p, xp=xp))[inner], host[inner], rtol=1e4 * backend.eps, atol=1e4 * backend.eps
        )


@given(
    index=arrays(np.int64, 20, elements=st.integers(0, 6)), seed=st.integers(0, 9), columns=st.sampled_from([None, 2])
)
def test_scatter_add(backend, index, seed, columns):
    values = np.random.default_rng(seed).standard_normal(20 if columns is None else (20, columns))
    expected = np.zeros((7,) if columns is None else (7, columns))
    np.add.at(expected, index, values)
    x = scatter.segment_sum(backend.asarray(values), backend.asarray(index), 7, xp=backend.xp)
    assert_close(to_numpy(x), expected, atol=100 * backend.eps)
    again = scatter.add_at(x, backend.asarray(index), backend.asarray(values), xp=backend.xp)
    assert_close(to_numpy(again), 2 * expected, atol=200 * backend.eps)


def test_random_numbers_are_those_of_the_host(backend):
    like = backend.asarray([0.0])
    draws = {
        "normal": (random.normal, np.random.default_rng(3).standard_normal((2, 3))),
        "uniform": (random.uniform, np.random.default_rng(3).uniform(0, 1, (2, 3))),
        "rademacher": (random.rademacher, 2.0 * np.random.default_rng(3).integers(0, 2, (2, 3)) - 1),
    }
    for draw, expected in draws.values():
        x = draw(random.as_generator(3), (2, 3), like=like)
        assert x.dtype == like.dtype
        assert_close(to_numpy(x), expected.astype(to_numpy(x).dtype), rtol=backend.eps)
    order = random.permutation(random.as_generator(0), 5, like=like, xp=backend.xp)
    assert np.array_equal(to_numpy(order), np.random.default_rng(0).permutation(5))


def test_bad_seed():
    with pytest.raises(TypeError, match=r"`rng`: got .*expected"):
        random.as_generator("seed")
