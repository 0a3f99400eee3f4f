"""Domains: members agree with each other, on every backend."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optlib
from optlib import geometry as geo
from optlib.backend import array_namespace, asarray_like
from optlib.testing import assert_close

XP = array_namespace()
LOWER, UPPER = np.array([-1.0, 0.0, -2.0, 0.5]), np.array([1.0, 3.0, -2.0, 0.75])
MIDDLE = np.array([3.0, -1.0, 0.5, 0.0])

# name -> a domain made with the given conversion of arrays
DOMAINS = {
    "simplex": lambda convert: geo.Simplex(4, 2.5),
    "point": lambda convert: geo.Simplex(1),
    "ball": lambda convert: geo.Ball(4, 1.5),
    "moved ball": lambda convert: geo.Ball(4, 1.5, convert(MIDDLE)),
    "l1 ball": lambda convert: geo.L1Ball(4, 1.5),
    "box": lambda convert: geo.Box(convert(LOWER), convert(UPPER)),
    "cube": lambda convert: geo.Box(-1, 1, n=4),
    "spectrahedron": lambda convert: geo.Spectrahedron(3, 2.0),
    "nuclear ball": lambda convert: geo.NuclearBall(3, 2, 2.0),
}
ATTAINED = set(DOMAINS) - {"point"}
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", DOMAINS)
@given(seed=seeds, scale=st.sampled_from([1e-3, 1.0, 100.0]))
def test_members_agree(name, seed, scale):
    domain, rng = DOMAINS[name](np.asarray), np.random.default_rng(seed)
    axes = tuple(range(-len(domain.shape), 0))
    x = scale * rng.normal(size=(50, *domain.shape))
    if name == "spectrahedron":
        x = (x + np.swapaxes(x, 1, 2)) / 2
    z = domain.project(x)
    assert domain.contains(z).all()
    far = np.sqrt(np.sum((z - x) ** 2, axis=axes)) > 1e-3 * (1 + scale)
    assert not domain.contains(x, 1e-6)[far].any()
    v = domain.linear_minimizer(x)
    assert domain.contains(v).all()
    assert (np.sum(x * v, axis=axes) <= np.min(np.tensordot(x, z, (axes, axes)), axis=1) + 1e-12 * (1 + scale)).all()
    center = domain.center()
    assert domain.contains(center)
    points = np.concatenate([z, v])
    assert np.sqrt(np.sum((points - center) ** 2, axis=axes)).max() <= domain.radius * (1 + 1e-12)
    gaps = np.sqrt(np.sum((points[:, None] - points) ** 2, axis=axes))
    assert gaps.max() <= domain.diameter * (1 + 1e-12)
    assert domain.radius <= domain.diameter <= 2 * domain.radius + 1e-15 or name == "point"


@pytest.mark.parametrize("name", sorted(ATTAINED))
def test_lengths_are_attained(name):
    domain, rng = DOMAINS[name](np.asarray), np.random.default_rng(0)
    g = rng.normal(size=(4000, *domain.shape))
    if name == "spectrahedron":
        g[0], g[1] = np.diag([1.0, 0, 0]), np.diag([0, 1.0, 0])
    v = domain.linear_minimizer(np.concatenate([g, -g])).reshape(8000, -1)
    farthest = np.linalg.norm(v - domain.center().reshape(-1), axis=1)
    np.testing.assert_allclose(farthest.max(), domain.radius, rtol=1e-9)
    gaps = np.concatenate(
        [np.linalg.norm(v[:4000] - v[4000:], axis=1), np.linalg.norm(v[:20, None] - v[:20], axis=2).ravel()]
    )
    np.testing.assert_allclose(gaps.max(), domain.diameter, rtol=1e-2)


@pytest.mark.parametrize("name", DOMAINS)
def test_backends(backend, engine, name):
    domain, host = DOMAINS[name](backend.asarray), DOMAINS[name](np.asarray)
    data = np.random.default_rng(1).normal(size=(2, 3, *domain.shape))
    if name == "spectrahedron":
        data = data + np.swapaxes(data, -1, -2)
    x = backend.asarray(data)
    tol = 1e-10 if backend.is_double else 1e-3
    for method in ("project", "linear_minimizer"):
        expected = backend.asarray(getattr(host, method)(data))
        assert_close(getattr(domain, method)(x), expected, rtol=tol, atol=tol)
        assert_close(getattr(domain, method)(x, xp=backend.xp), expected, rtol=tol, atol=tol)
    inside = domain.contains(domain.project(x))
    assert inside.shape == (2, 3) and bool(backend.xp.all(inside))
    assert_close(domain.center(x), asarray_like(host.center(), x), rtol=1e-6)
    assert domain.diameter == pytest.approx(host.diameter, rel=1e-6)
    bad = np.full(domain.shape, np.nan)
    assert not bool(domain.contains(backend.asarray(bad)))
    assert bool(backend.xp.all(backend.xp.isnan(domain.linear_minimizer(backend.asarray(bad)))))


@pytest.mark.parametrize("name", ["moved ball", "box"])
def test_single_precision_points_keep_their_precision(name):
    domain = DOMAINS[name](np.asarray)
    x = np.ones(4, dtype=np.float32)
    for z in (domain.project(x), domain.project(x, xp=XP), domain.linear_minimizer(x, xp=XP), domain.center(x)):
        assert z.dtype == np.float32


def test_unbounded_boxes():
    box = geo.Box([0.0, -np.inf, -np.inf], [np.inf, 2.0, np.inf])
    assert box.diameter == box.radius == np.inf
    np.testing.assert_array_equal(box.center(), [0, 2, 0])
    np.testing.assert_array_equal(box.project([-1.0, 3.0, 5.0]), [0, 2, 5])
    np.testing.assert_array_equal(box.linear_minimizer([1.0, -1.0, 0.0]), [0, 2, 0])
    np.testing.assert_array_equal(box.linear_minimizer([-1.0, 1.0, 1.0]), [np.inf, -np.inf, -np.inf])


def test_domains_move_between_libraries():
    torch = pytest.importorskip("torch")
    box = optlib.to_device(geo.Box(LOWER, UPPER), "torch")
    assert isinstance(box.lower, torch.Tensor) and isinstance(box.upper, torch.Tensor) and box.n == 4
    assert isinstance(optlib.to_device(geo.Simplex(3), "torch"), geo.Simplex)
    with pytest.raises(TypeError, match="to_device"):
        box.project(np.zeros(4))
    back = optlib.to_device(box, "numpy")
    np.testing.assert_array_equal(back.project(np.zeros(4)), geo.Box(LOWER, UPPER).project(np.zeros(4)))


def test_domains_are_immutable():
    with pytest.raises(AttributeError):
        geo.Simplex(3).mass = 2.0
