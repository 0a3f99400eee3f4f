import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import optlib
from optlib.backend import array_namespace, to_numpy
from optlib.testing import assert_close
from optlib.transport import DenseCost, PointCloud
from optlib.transport.cost import row_blocks


def product(x, y):
    """A user's cost: vectorised over blocks, on any backend."""
    xp = array_namespace(x, y)
    return xp.abs(x @ y.T) + 1.0


NAMED = {
    "sqeuclidean": ({}, "sqeuclidean"),
    "euclidean": ({}, "euclidean"),
    "cosine": ({}, "cosine"),
    "l1": ({"cost": "lp", "p": 1}, "cityblock"),
    "l2": ({"cost": "lp", "p": 2}, "sqeuclidean"),
    "l1.5": ({"cost": "lp", "p": 1.5}, lambda u, v: np.sum(np.abs(u - v) ** 1.5)),
    "l0.5": ({"cost": "lp", "p": 0.5}, lambda u, v: np.sum(np.abs(u - v) ** 0.5)),
    "function": ({"cost": product}, lambda u, v: abs(u @ v) + 1.0),
}


def clouds(seed=0, n=6, m=5, d=3, shift=2.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + shift


def cloud(backend, name, x, y):
    options = NAMED[name][0] or {"cost": name}
    return PointCloud(backend.asarray(x), backend.asarray(y), **options)


@pytest.mark.parametrize("name", NAMED)
def test_entries(backend, name):
    x, y = clouds()
    cost = cloud(backend, name, x, y)
    want = backend.asarray(cdist(x, y, NAMED[name][1]))
    rtol = 1e-12 if backend.is_double else 2e-5
    atol = 100 * backend.eps * float(backend.xp.max(want))
    assert cost.shape == (6, 5)
    assert cost.dtype == backend.dtype
    assert_close(cost.toarray(), want, rtol=rtol, atol=atol)
    assert_close(cost.rows(2, 4), want[2:4, :], rtol=rtol, atol=atol)
    assert_close(cost.T.rows(1, 5), want.T[1:5, :], rtol=rtol, atol=atol)
    assert_close(cost.T.T.toarray(), want, rtol=rtol, atol=atol)
    part = cost.take(np.asarray([4, 0]), [1, 3])
    assert_close(part.toarray(), backend.asarray(cdist(x[[4, 0]], y[[1, 3]], NAMED[name][1])), rtol=rtol, atol=atol)
    z = clouds(1)[0]
    assert_close(
        cost.at(backend.asarray(z)).toarray(), backend.asarray(cdist(z, y, NAMED[name][1])), rtol=rtol, atol=atol
    )


@given(st.integers(0, 1000), st.sampled_from(list(NAMED)), st.integers(1, 4), st.sampled_from([0.0, 3.0, 100.0]))
def test_bounds_enclose_the_entries(seed, name, d, shift):
    x, y = clouds(seed, d=d, shift=shift)
    cost = PointCloud(x, y, **(NAMED[name][0] or {"cost": name}))
    entries = cost.toarray()
    low, high = cost.bounds()
    slack = 1e-12 * max(1.0, high)
    assert low <= entries.min() + slack
    assert entries.max() <= high + slack
    assert cost.T.bounds() == (low, high)


def test_upper_bound_is_not_far_off():
    for d in (1, 2, 50):
        x, y = clouds(d, n=200, m=300, d=d, shift=0.0)
        cost = PointCloud(x, y)
        assert cost.bounds()[1] <= 2.0 * cost.toarray().max()


def test_dense(backend):
    c = np.random.default_rng(0).standard_normal((4, 3))
    cost = DenseCost(backend.asarray(c))
    want = backend.asarray(c)
    assert_close(cost.toarray(), want)
    assert_close(cost.T.toarray(), want.T)
    assert_close(cost.rows(1, 3), want[1:3, :])
    assert_close(cost.take([3, 1], None).toarray(), backend.asarray(c[[3, 1]]))
    assert_close(cost.take(None, [2]).T.toarray(), backend.asarray(c[:, [2]].T))
    assert cost.bounds() == (float(backend.xp.min(want)), float(backend.xp.max(want)))


def test_astype_is_lazy_for_dense_costs():
    c = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    wide = DenseCost(c).astype(np.dtype("float64"))
    assert wide.rows(0, 2).dtype == np.float64
    assert wide.T.toarray().dtype == np.float64
    assert wide.bounds() == (float(c.min()), float(c.max()))


def test_lists_and_integers_are_promoted():
    assert DenseCost([[0, 1], [1, 0]]).dtype == np.float64
    assert DenseCost(np.eye(2, dtype=np.int32)).dtype == np.float64
    assert DenseCost(np.eye(2, dtype=np.float32)).dtype == np.float32
    assert PointCloud([0, 1], [1, 2, 3]).toarray().tolist() == [[1.0, 4.0, 9.0], [0.0, 1.0, 4.0]]


def test_centring_saves_float32():
    x, y = clouds(shift=0.0)
    far = np.float32(1e3)
    got = PointCloud(x.astype(np.float32) + far, y.astype(np.float32) + far).toarray()
    want = cdist((x.astype(np.float32) + far).astype(float), (y.astype(np.float32) + far).astype(float), "sqeuclidean")
    assert np.abs(got - want).max() < 1e-4


def test_nothing_of_size_n_m_is_stored():
    n = 10**6
    points = np.linspace(0.0, 1.0, n)
    cost = PointCloud(points, points)
    assert cost.shape == (n, n)
    assert cost.bounds() == (0.0, 1.0)
    assert cost.rows(0, 1).shape == (1, n)
    assert max(i1 - i0 for i0, i1 in row_blocks(cost)) * n * 8 <= 2**25
    assert sum(i1 - i0 for i0, i1 in row_blocks(cost)) == n


def test_user_function_is_called_in_blocks():
    calls = []

    def fn(x, y):
        calls.append((x.shape[0], y.shape[0]))
        return (x[:, None, :] - y[None, :, :]).sum(-1) ** 2

    n = 5000
    cost = PointCloud(np.linspace(0, 1, n), np.linspace(0, 2, n), fn)
    low, high = cost.bounds()
    assert (low, high) == (0.0, 4.0)
    assert len(calls) > 1
    assert max(k * m for k, m in calls) * 8 <= 2**25


def test_to_device_rebuilds_costs():
    x, y = clouds()
    for cost in (PointCloud(x, y), DenseCost(x)):
        moved = optlib.to_device(cost, "numpy")
        assert type(moved) is type(cost)
        assert np.array_equal(to_numpy(moved.toarray()), cost.toarray())
    pytest.importorskip("torch")
    moved = optlib.to_device(PointCloud(x, y, "cosine"), "torch")
    assert_close(to_numpy(moved.toarray()), cdist(x, y, "cosine"), atol=1e-12)


def test_repr():
    x, y = clouds()
    assert repr(PointCloud(x, y, "lp", p=1.5)) == "PointCloud(6 x 5, 3-D, lp with p=1.5, float64)"
    assert repr(PointCloud(x, y, product)) == "PointCloud(6 x 5, 3-D, product, float64)"
    assert repr(DenseCost(x)) == "DenseCost(6 x 3, float64)"
