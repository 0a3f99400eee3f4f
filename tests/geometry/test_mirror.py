"""What every mirror map satisfies, on every backend: conjugacy, steps, identities of the divergence, convexity."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import optlib
from optlib import geometry as geo
from optlib.backend import array_namespace, device_of, to_numpy
from tests.conftest import Backend
from tests.geometry.mirror_maps import CASES, NAMES, outside


@st.composite
def vectors(draw, count):
    """``count`` arrays of shape (3, n) with ties and zeros, of one size."""
    n = draw(st.integers(1, 5))
    scale = draw(st.sampled_from([0.05, 1.0, 4.0]))
    entries = st.one_of(st.sampled_from([0.0, 0.5, -1.0]), st.floats(-1, 1, width=32))
    return [scale * draw(arrays(np.float64, (3, n), elements=entries)) for _ in range(count)]


def fixed_vectors(count):
    """As `vectors`, one draw for the slow backends."""
    rng = np.random.default_rng(7)
    scale = np.array([[0.1], [1.0], [4.0]])
    return [scale * rng.choice([-1.0, 0.0, 0.5, rng.uniform(-1, 1), rng.normal()], (3, 4)) for _ in range(count)]


NUMPY = Backend("numpy", array_namespace(), None, np.dtype("float64"))


def dot(xp, a, b):
    return xp.sum(a * b, axis=-1)


def small(backend, error, *sizes, factor=300.0):
    """The error is within rounding of the sizes that it came from."""
    size = 1.0 + sum(np.abs(to_numpy(s)) for s in sizes)
    assert np.all(np.abs(to_numpy(error)) <= factor * backend.eps * size), (error, sizes)


@pytest.mark.parametrize("name", NAMES)
def test_identities_on_backends(backend, name):
    check_identities(backend, name, fixed_vectors(3))


@pytest.mark.parametrize("name", NAMES)
@given(drawn=vectors(3))
def test_identities(engine, name, drawn):
    check_identities(NUMPY, name, drawn)


def check_identities(backend, name, drawn):
    xp, n = backend.xp, drawn[0].shape[-1]
    m = CASES[name].make(backend.asarray, n)
    theta, g, other = (backend.asarray(v) for v in drawn)
    x, u = m.grad_conj(theta), m.grad_conj(other)
    assert x.shape == theta.shape
    assert x.dtype == backend.dtype
    assert device_of(x) == device_of(theta)
    assert bool(xp.all(m.in_domain(x, 30 * n * backend.eps)))

    # x maximises <theta, .> - psi: equality in Fenchel-Young there, inequality at u, and the first-order condition
    gain = lambda z: dot(xp, theta, z) - m.value(z)
    small(backend, m.conj(theta) - gain(x), dot(xp, xp.abs(theta), xp.abs(x)), m.value(x))
    slack = to_numpy(m.conj(theta) - gain(u))
    assert np.all(slack >= -300 * backend.eps * (1 + np.abs(to_numpy(gain(u)))))
    slope = m.grad(x)
    first_order = dot(xp, slope - theta, u - x)
    sizes = dot(xp, xp.abs(slope) + xp.abs(theta), xp.abs(u) + xp.abs(x))
    assert np.all(to_numpy(first_order) >= -300 * backend.eps * (1 + to_numpy(sizes)))

    # the step from x, in primal and in dual form
    z = m.step(x, g, 0.7)
    direct = m.grad_conj(slope - 0.7 * g)
    size = xp.max(xp.abs(direct), axis=-1)
    small(backend, xp.max(xp.abs(z - direct), axis=-1), size)
    dual = m.step_dual(slope, g, 0.7)
    small(backend, xp.max(xp.abs(m.grad_conj(dual) - z), axis=-1), size)
    rates = backend.asarray(np.array([0.7, 0.0, 2.0]))
    small(backend, xp.max(xp.abs(m.step(x, g, rates)[0, :] - z[0, :])), size[0])
    small(backend, xp.max(xp.abs(m.step(x, g, rates)[1, :] - x[1, :])), size[1])

    # three points, on X
    values = [m.bregman(u, x), m.bregman(u, z), m.bregman(z, x)]
    assert all(np.all(to_numpy(v) >= 0) for v in values)
    gap = dot(xp, m.grad(z) - slope, u - z)
    sizes = dot(xp, xp.abs(m.grad(z)) + xp.abs(slope), xp.abs(u) + xp.abs(z))
    small(backend, values[0] - values[1] - values[2] - gap, *values, sizes)

    # strong convexity, range, centre
    convex = to_numpy(values[0] - 0.5 * m.sigma(n) * xp.square(m.norm(u - x)))
    assert np.all(convex >= -300 * backend.eps * (1 + to_numpy(values[0]))), convex
    center = m.center(theta)
    lowest = to_numpy(m.value(center))
    assert np.all(lowest <= to_numpy(m.value(u)) + 300 * backend.eps * (1 + np.abs(lowest)))
    assert np.all(to_numpy(m.bregman(u, center)) <= m.range(n) * (1 + 1e-5) + 300 * backend.eps)
    assert np.all(to_numpy(values[0]) <= 0.5 * m.diameter(n) ** 2 * (1 + 1e-5) + 300 * backend.eps)
    # dual norms: Hoelder
    assert np.all(
        np.abs(to_numpy(dot(xp, x, theta)))
        <= to_numpy(m.norm(x) * m.dual_norm(theta)) * (1 + 100 * backend.eps) + 100 * backend.eps
    )


@pytest.mark.parametrize("name", NAMES)
def test_projection_on_backends(backend, name):
    check_projection(backend, name, fixed_vectors(2))


@pytest.mark.parametrize("name", NAMES)
@given(drawn=vectors(2))
def test_projection(engine, name, drawn):
    check_projection(NUMPY, name, drawn)


def check_projection(backend, name, drawn):
    xp, n = backend.xp, drawn[0].shape[-1]
    m = CASES[name].make(backend.asarray, n)
    y, u = backend.asarray(outside(name, drawn[0])), m.grad_conj(backend.asarray(drawn[1]))
    p = m.project(y)
    assert bool(xp.all(m.in_domain(p, 30 * n * backend.eps)))
    size = xp.max(xp.abs(p), axis=-1) + xp.max(xp.abs(y), axis=-1)
    small(backend, xp.max(xp.abs(m.project(p) - p), axis=-1), size)
    whole, parts = m.bregman(u, y), m.bregman(u, p) + m.bregman(p, y)
    assert np.all(to_numpy(whole - parts) >= -1000 * backend.eps * (1 + to_numpy(whole + parts)))  # Pythagoras


@pytest.mark.parametrize("name", NAMES)
@given(drawn=vectors(2))
def test_rows_are_independent(engine, name, drawn):
    """Batched is looped, and ``xp=`` only saves the look-up."""
    xp = array_namespace()
    theta, g = drawn
    m = CASES[name].make(np.asarray, theta.shape[-1])
    x = m.grad_conj(theta)
    rates = np.array([0.3, 1.0, 0.0])
    calls = {
        "value": (x,), "grad": (x,), "grad_conj": (theta,), "conj": (theta,), "bregman": (x, x[::-1]), "norm": (g,),
        "dual_norm": (g,), "step": (x, g, rates), "step_dual": (theta, g, rates), "in_domain": (theta,),
        "center": (g,),
    }  # fmt: skip
    for method, args in calls.items():
        whole = getattr(m, method)(*args)
        for i in range(3):
            row = getattr(m, method)(*(float(a[i]) if a.ndim == 1 else a[i] for a in args), xp=xp)
            np.testing.assert_allclose(whole[i], row, rtol=1e-12, atol=1e-13, err_msg=method)
    deep = m.step(x[None, :, None, :], g[None, :, None, :], rates[None, :, None])
    np.testing.assert_allclose(deep[0, :, 0, :], m.step(x, g, rates), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_gradients_on_backends(backend, name):
    check_extreme_gradients(backend, name, 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 2])
def test_extreme_gradients(engine, name, n):
    check_extreme_gradients(NUMPY, name, n)


def check_extreme_gradients(backend, name, n):
    """Gradients of size 1e+-150 (float32: 1e+-30), zeros and ties: a point of X, no warning."""
    big = 1e150 if backend.is_double else 1e30
    m = CASES[name].make(backend.asarray, n)
    bounded = m.range(n) < math.inf or name == "LogBarrier"
    rows = [[big, -big, 0.0], [-big] * 3, [1 / big, -1 / big, 0.0], [0.0] * 3, [big, big, 1.0], [1.0, 1 / big, -big]]
    host = np.array(rows)[:, :n]
    g = backend.asarray(host)
    start = m.center(g)
    z = m.step(start, g, 1.0)
    assert not np.any(np.isnan(to_numpy(z))), z
    np.testing.assert_allclose(to_numpy(z)[3], to_numpy(start)[3], rtol=1e-5, atol=1e-6)
    if bounded:
        assert np.all(to_numpy(m.in_domain(z, 1e-12 if backend.is_double else 1e-5))), z
        assert np.all(np.isfinite(to_numpy(m.conj(-g))))
        best = to_numpy(m.grad_conj(-g)).astype(float)
        with np.errstate(under="ignore"):
            gain = np.sum(host / big * (best - to_numpy(start)), axis=-1)
        assert np.all(gain <= 1e-6), gain


@pytest.mark.parametrize("name", NAMES)
def test_lists_and_moving(name):
    n = 3
    m = CASES[name].make(np.asarray, n)
    x = m.center([0, 0, 0]).tolist()
    z = m.step(x, [1, 2, 3], 1)
    assert isinstance(z, np.ndarray)
    assert z.dtype == np.float64
    moved = optlib.to_device(m, "numpy")
    assert moved is not m
    np.testing.assert_array_equal(moved.step(x, [1, 2, 3], 1), z)
    assert repr(m).startswith(type(m).__name__ + "(")


def test_parameters_and_points_of_two_libraries():
    torch = pytest.importorskip("torch")
    m = geo.QuadraticBox(np.eye(2), np.zeros(2), 1.0)
    with pytest.raises(TypeError, match=r"optlib\.to_device"):
        m.project(torch.ones(2))
    moved = optlib.to_device(m, "torch")
    assert moved.project([2.0, -1.0]).tolist() == [1.0, 0.0]
    assert moved.project(torch.ones(2, dtype=torch.float64)).tolist() == [1.0, 1.0]


def test_readable():
    assert repr(geo.CappedEntropy(floor=0.1)) == "CappedEntropy(mass=1.0, floor=0.1, cap=inf)"
    assert repr(geo.Spectral(geo.PNorm(1.5), symmetric=False)) == (
        "Spectral(map=PNorm(p=1.5, radius=inf), symmetric=False)"
    )


@pytest.mark.parametrize(
    ("expression", "argument"),
    [
        ("Entropy(0.0)", "mass"),
        ("Entropy(math.nan)", "mass"),
        ('Entropy("1")', "mass"),
        ("Tsallis(-1.0)", "mass"),
        ("LogBarrier(math.inf)", "mass"),
        ("EuclideanSimplex(0)", "mass"),
        ("VonNeumann(0.0)", "trace"),
        ("LogDet(-2.0)", "trace"),
        ("EuclideanBall(0.0)", "radius"),
        ("EuclideanBall(1.0, [math.nan])", "middle"),
        ("EuclideanL1Ball(-1.0)", "radius"),
        ("EuclideanBox(1.0, 0.0)", "lower"),
        ("EuclideanBox([0.0, 2.0], [1.0, 1.0])", "lower"),
        ("EuclideanBox(math.nan, 1.0)", "lower"),
        ("EuclideanBox(math.inf, math.inf)", "lower"),
        ("CappedEntropy(floor=2.0)", "floor"),
        ("CappedEntropy(floor=0.5, cap=0.5)", "cap"),
        ("CappedEntropy(floor=0.5).grad_conj([0.0, 0.0, 0.0])", "mass"),
        ("CappedEntropy(cap=0.2).grad_conj([0.0, 0.0, 0.0])", "mass"),
        ("UnnormalizedEntropy(mass=1.0, upper=1.0)", "upper"),
        ("UnnormalizedEntropy(mass=0.0)", "mass"),
        ("Hypentropy(0.0)", "beta"),
        ("Hypentropy(1.0, radius=0.0)", "radius"),
        ("PNorm(1.0)", "p"),
        ("PNorm(2.5)", "p"),
        ("PNorm(1.5, radius=-1.0)", "radius"),
        ("Quadratic([[1.0, 2.0], [2.0, 1.0]])", "a"),
        ("Quadratic([[1.0, 0.5], [0.0, 1.0]])", "a"),
        ("Quadratic([[1.0, 0.0]])", "a"),
        ("Quadratic([[0.0]])", "a"),
        ("QuadraticBall([[1.0]], 0.0)", "radius"),
        ("QuadraticSimplex([[1.0]], -1.0)", "mass"),
        ("QuadraticBox([[1.0]], 1.0, 0.0)", "lower"),
        ("Spectral(Quadratic([[1.0]]))", "map"),
        ("Spectral(Entropy(), symmetric=False)", "map"),
        ("Spectral(VonNeumann())", "map"),
        ('Spectral("entropy")', "map"),
        ("Entropy().step([0.5, 0.5], [1j, 0.0], 0.1)", "g"),
        ("Entropy().value([])", "x"),
        ("VonNeumann().value([1.0])", "x"),
        ("Entropy().range(0)", "n"),
        ("Entropy().step([0.5, 0.5], [1.0, 2.0, 3.0], 0.1)", "g"),
        ("Entropy().step([0.5, 0.5], [1.0, 2.0], None)", "eta"),
        ("Entropy().step([0.5, 0.5], [1.0, 2.0], ['a'])", "eta"),
        ("Quadratic([[1.0]]).value([1.0, 2.0])", "x"),
        ("EuclideanBall(1.0, [0.0, 0.0]).value([1.0, 2.0, 3.0])", "x"),
        ("VonNeumann().value([[1.0, 2.0]])", "x"),
        ("Spectral(PNorm(1.5), symmetric=False).bregman([[1.0, 2.0]], [[1.0], [2.0]])", "y"),
    ],
)
def test_bad_arguments_are_named(expression, argument):
    with pytest.raises((ValueError, TypeError), match=f"`{argument}`: got"):
        eval(expression, {**vars(geo), "math": math})
