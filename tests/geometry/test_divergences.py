"""Bregman divergences: accuracy against 60 digits, edges, backends."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.backend import to_numpy
from optlib.geometry import divergences
from optlib.testing import assert_close

PARAMETERS = {"hypentropy": 0.3, "p_norm": 1.4}
SIGNED = ("hypentropy", "p_norm", "squared_euclidean")
NAMES = ("squared_euclidean", "kl", "bernoulli_kl", "itakura_saito", "tsallis", "hypentropy", "p_norm")


def exact(name, x, y):
    """Value from the definition, in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        return float(EXACT[name]([Decimal(float(v)) for v in x], [Decimal(float(v)) for v in y]))


def bregman(psi, slope):
    return lambda x, y: sum(psi(a) - psi(b) - slope(b) * (a - b) for a, b in zip(x, y, strict=True))


def xlogx(a):
    return a * a.ln() if a else a


def root(a):
    """sqrt(a^2 + beta^2)."""
    return (a * a + Decimal(PARAMETERS["hypentropy"]) ** 2).sqrt()


def asinh(a):
    """asinh(a / beta)."""
    return ((abs(a) + root(a)) / Decimal(PARAMETERS["hypentropy"])).ln().copy_sign(a)


def exact_p_norm(x, y):
    p = Decimal(PARAMETERS["p_norm"])
    powers = lambda z: sum(abs(a) ** p for a in z)
    size = powers(y) ** (2 / p - 1)
    slope = sum((abs(b) ** (p - 1)).copy_sign(b) * size * (a - b) for a, b in zip(x, y, strict=True))
    return powers(x) ** (2 / p) / 2 - powers(y) ** (2 / p) / 2 - slope


EXACT = {
    "squared_euclidean": bregman(lambda a: a * a / 2, lambda b: b),
    "kl": bregman(lambda a: xlogx(a) - a, lambda b: b.ln()),
    "bernoulli_kl": bregman(lambda a: xlogx(a) + xlogx(1 - a), lambda b: b.ln() - (1 - b).ln()),
    "itakura_saito": bregman(lambda a: -a.ln(), lambda b: -1 / b),
    "tsallis": bregman(lambda a: -2 * a.sqrt(), lambda b: -1 / b.sqrt()),
    "hypentropy": bregman(lambda a: a * asinh(a) - root(a), asinh),
    "p_norm": exact_p_norm,
}


@st.composite
def pairs(draw, name):
    """Two positive vectors (signed where that is the domain): far apart, near, or equal in some entries."""
    n = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = rng.uniform(0.01, 0.99, n) if name == "bernoulli_kl" else 10.0 ** rng.uniform(-4, 3, n)
    distance = 10.0 ** draw(st.integers(-9, 0))
    x = y * np.exp(distance * rng.uniform(-1, 1, n)) if draw(st.booleans()) else rng.permutation(y)
    if name == "bernoulli_kl":
        x = np.minimum(x, 0.995)
    if name in SIGNED:
        x, y = x * rng.choice([-1, 1], n), y * rng.choice([-1, 1], n)
        if draw(st.booleans()):
            x = np.abs(x) * np.sign(y)
    if draw(st.booleans()):
        x[0] = y[0]
    return x, y


def call(name, x, y, **more):
    return getattr(divergences, name)(x, y, *([PARAMETERS[name]] if name in PARAMETERS else []), **more)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_relative_accuracy(name, data):
    x, y = data.draw(pairs(name))
    want = exact(name, x, y)
    assert_close(call(name, x, y), want, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_backends(backend, name):
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0.1, 0.9, (2, 3, 4)), rng.uniform(0.1, 0.9, (3, 4))
    got = call(name, backend.asarray(x), backend.asarray(y))
    want = [[exact(name, x[i, j], y[j]) for j in range(3)] for i in range(2)]
    assert_close(got, backend.asarray(np.array(want)), rtol=1e-5 if not backend.is_double else 1e-12)
    again = call(name, backend.asarray(x), backend.asarray(y), xp=backend.xp)
    assert np.array_equal(to_numpy(got), to_numpy(again))


@pytest.mark.parametrize("name", NAMES)
def test_extreme_entries_are_never_nan(name):
    values = [0.0, 5e-324, 1e-300, 1e-150, 1e-16, 0.5, 1.0]
    if name != "bernoulli_kl":
        values += [1e150, 1e300]
    for a in values:
        for b in values:
            with np.errstate(over="ignore", under="ignore"):
                got = float(call(name, [a], [b]))
            assert got >= 0, (a, b)
            infinite_slope = b == 0 or (name == "bernoulli_kl" and b == 1)
            if a == b and not (a == 0 and name == "itakura_saito"):
                assert got == 0, (a, b)
            elif name in ("kl", "tsallis", "itakura_saito", "bernoulli_kl") and infinite_slope:
                assert got == math.inf, (a, b)
            else:
                assert got > 0 or abs(a - b) < 1e-140, (a, b)


@pytest.mark.parametrize("name", ["kl", "tsallis", "itakura_saito", "bernoulli_kl"])
def test_outside_of_the_domain(name):
    assert float(call(name, [-0.5], [0.5])) == math.inf
    assert float(call(name, [0.5], [-0.5])) == math.inf
    assert math.isnan(float(call(name, [math.nan], [0.5])))
    assert math.isnan(float(call(name, [0.5], [math.nan])))


def test_mahalanobis_and_lists():
    a = [[2.0, 1.0], [1.0, 3.0]]
    assert float(divergences.mahalanobis([1, 0], [0, 1], np.array(a))) == 1.5
    assert float(divergences.squared_euclidean([3, 4], [0, 0])) == 12.5
