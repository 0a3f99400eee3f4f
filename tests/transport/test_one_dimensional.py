"""Transport on the line: against the simplex, closed forms, laws, and leading axes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import testing
from optlib.transport import PointCloud, emd, wasserstein_1d


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 1.5, 2, 3]), st.booleans()
)
def test_it_is_the_exact_optimum(seed, n, m, p, ties):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=n), rng.normal(size=m)
    if ties:
        x, y = np.round(x), np.round(y)
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    a[rng.random(n) < 0.2] = 0.0
    a = a / a.sum() if a.sum() else np.full(n, 1 / n)
    for p_, q in ((a, b), (None, b), (a, None), (None, None), (3 * a, 3 * b)):
        got = float(wasserstein_1d(x, y, p_, q, p=p))
        want = emd(PointCloud(x, y, cost="lp", p=p), p_, q)
        assert math.isclose(got, want.value, rel_tol=1e-12, abs_tol=1e-13 * max(1.0, want.certificate.scale))


def test_closed_forms_and_laws():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=50), rng.normal(size=40)
    a, b = rng.dirichlet(np.ones(50)), rng.dirichlet(np.ones(40))
    for p in (1, 2, 2.5):
        assert math.isclose(wasserstein_1d(x, x + 3.0, a, a, p=p), 3.0**p, rel_tol=1e-12)
        assert math.isclose(wasserstein_1d(x, y, a, b, p=p), wasserstein_1d(y, x, b, a, p=p), rel_tol=1e-12)
        assert math.isclose(wasserstein_1d(2 * x, 2 * y, a, b, p=p), 2**p * wasserstein_1d(x, y, a, b, p=p))
        assert math.isclose(wasserstein_1d([1.0], y, p=p), np.mean(np.abs(y - 1) ** p))
    grid = np.linspace(-10, 10, 200_001)
    gap = np.abs(np.asarray([a @ (x <= t) - b @ (y <= t) for t in grid[::100]])).sum() * 0.01
    assert math.isclose(wasserstein_1d(x, y, a, b), gap, rel_tol=0.05)


def test_leading_axes_and_backends(backend):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, 7)), rng.normal(size=(3, 5))
    a, b = rng.dirichlet(np.ones(7), (2, 1)), rng.dirichlet(np.ones(5))
    for p in (1, 2):
        for weights in ((a, b), (a, None), (None, None)):
            ours = [None if w is None else backend.asarray(w) for w in weights]
            got = wasserstein_1d(backend.asarray(x), backend.asarray(y), *ours, p=p)
            want = [
                [
                    wasserstein_1d(x[i, j], y[j], *(w if w is None else w[i, 0] if w is a else w for w in weights), p=p)
                    for j in range(3)
                ]
                for i in range(2)
            ]
            testing.assert_close(got, backend.asarray(np.asarray(want)), rtol=10 * backend.rtol)
    empty = wasserstein_1d(backend.asarray(np.zeros((0, 4))), backend.asarray(np.zeros((0, 3))))
    assert empty.shape == (0,)


def test_float32_sums_are_as_good_as_float64():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=200_000), rng.normal(size=200_000) + 1
    a = rng.random(200_000)
    single = wasserstein_1d(*(u.astype(np.float32) for u in (x, y, a, a)))
    assert single.dtype == np.float32
    assert math.isclose(single, wasserstein_1d(x, y, a, a), rel_tol=1e-5)


@pytest.mark.peers
def test_scipy_finds_the_same():
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(0)
    x, y, a, b = rng.normal(size=30), rng.normal(size=20), rng.random(30), rng.random(20)
    want = wasserstein_distance(x, y, a, b)
    assert math.isclose(wasserstein_1d(x, y, a / a.sum(), b / b.sum()), want, rel_tol=1e-12)
