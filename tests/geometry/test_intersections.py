"""Projections onto affine sets and intersections: against least squares, closed forms and optimality."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optlib
from optlib.geometry import AffineProjection, project_intersection, project_simplex
from optlib.testing import assert_close


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 6), repeated=st.booleans())
def test_affine(seed, m, repeated):
    """On the set, the difference in the span of the rows; rows that depend on each other are no matter."""
    rng = np.random.default_rng(seed)
    G, w = rng.normal(size=(m, 6)), rng.normal(size=6)
    if repeated:
        G = np.vstack([G, G[0] - 2.0 * G[-1]])
    h = G @ rng.normal(size=6)
    project = AffineProjection(G, h)
    found = project(w)
    assert np.allclose(G @ found, h, atol=1e-9)
    assert np.allclose(found, w - np.linalg.pinv(G) @ (G @ w - h), atol=1e-7)
    assert np.allclose(project(found), found, atol=1e-10)


def test_affine_backends(backend):
    rng = np.random.default_rng(0)
    G, h, w = rng.normal(size=(2, 4)), rng.normal(size=2), rng.normal(size=4)
    here = AffineProjection(backend.asarray(G), backend.asarray(h))
    want = AffineProjection(G, h)(w)
    assert_close(here(backend.asarray(w)), backend.asarray(want), rtol=50 * backend.rtol, atol=50 * backend.rtol)
    if backend.name == "numpy":
        assert np.array_equal(optlib.to_device(here, "numpy")(w), want)


@given(st.integers(0, 2**32 - 1))
def test_intersection_is_the_simplex(seed):
    w = np.random.default_rng(seed).normal(size=3)
    plane = AffineProjection(np.ones((1, 3)), [1.0])
    found = project_intersection(w, [plane, lambda v: np.maximum(v, 0.0)], maxiter=5000)
    assert np.allclose(found, project_simplex(w), atol=1e-7)


def test_one_set():
    assert np.array_equal(project_intersection(np.array([2.0]), [lambda v: np.minimum(v, 1.0)]), [1.0])
    with pytest.raises(TypeError, match="`projections`"):
        project_intersection(np.ones(2), [])
