"""Costs on grids: every pass and every solver against the same problem as a dense matrix."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import testing
from optlib.transport import DenseCost, GridCost, divergence, emd, passes, sinkhorn

GRIDS = st.sampled_from([(1,), (6,), (3, 4), (1, 5), (2, 3, 4)])


def grids(seed, grid, p=2.0):
    rng = np.random.default_rng(seed)
    return GridCost([np.sort(rng.random(n)) for n in grid], p), rng


@given(st.integers(0, 2**32 - 1), GRIDS, st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([1e-3, 0.1, 10.0]))
def test_passes_are_those_of_the_matrix(seed, grid, p, eps):
    cost, rng = grids(seed, grid, p)
    n = cost.shape[0]
    dense = DenseCost(cost.toarray())
    assert math.isclose(cost.bounds()[1], dense.bounds()[1], abs_tol=1e-15)
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))
    a[0] = b[-1] = 0.0 if n > 1 else 1.0
    g, v = 0.3 * rng.normal(size=n), rng.normal(size=(n, 2))
    f, _ = passes.sweep(dense, g, a, b, eps)
    for inv_rho, omega in ((0.0, 1.0), (0.5, 1.5)):
        ours, theirs = (passes.relaxed_sweep(c, f + 0.1, g, a, b, eps, inv_rho, omega) for c in (cost, dense))
        for u, w in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(u, w, rtol=1e-9, atol=1e-12)
    for function in (
        lambda c: passes.soft_transform(c, g, b, eps),
        lambda c: passes.c_transform(c, g),
        lambda c: passes.cost_apply(c, v),
        lambda c: passes.cost_apply(c, v[:, 0]),
        lambda c: passes.apply(c, f, g, a, b, eps, v),
        lambda c: np.stack(passes.moments(c, f, g, a, b, eps, v)),
        lambda c: passes.plan_rows(c, f, g, a, b, eps, 0, n),
        lambda c: np.stack(passes.survey(c, f, g, a, b, eps, rng.random(n) * 0 + 0.3, b, g)),
    ):
        np.testing.assert_allclose(function(cost), function(dense), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("reg", [1e-1, 1e-3])
def test_solvers_agree_with_the_matrix(reg):
    cost, rng = grids(0, (5, 7))
    n = cost.shape[0]
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))
    a[3] = 0.0
    a = a / a.sum()
    for c in (cost, cost.astype(np.float64)):
        got, want = (sinkhorn(u, a, b, reg=reg, tol=1e-9) for u in (c, c.toarray()))
        assert got.success
        assert want.success
        assert math.isclose(got.value, want.value, rel_tol=1e-8)
        np.testing.assert_allclose(got.plan.toarray(), want.plan.toarray(), atol=1e-8)
    assert math.isclose(emd(cost, a, b).value, emd(cost.toarray(), a, b).value, rel_tol=1e-12)
    debiased = divergence(cost, b, np.flip(b), reg=reg)
    assert debiased.success
    dense = divergence(cost.toarray(), b, np.flip(b), reg=reg, within=(cost.toarray(), cost.toarray()))
    assert math.isclose(debiased.value, dense.value, rel_tol=1e-5)


def test_same_on_every_backend(backend):
    axes, rng = [np.linspace(0, 1, 4), np.linspace(0, 2, 5)], np.random.default_rng(0)
    cost = GridCost([backend.asarray(x) for x in axes])
    testing.assert_close(cost.toarray(), backend.asarray(GridCost(axes).toarray()), rtol=backend.rtol)
    a, b = rng.dirichlet(np.ones(20)), rng.dirichlet(np.ones(20))
    got = sinkhorn(cost, backend.asarray(a), backend.asarray(b), reg=0.05)
    assert got.success
    assert math.isclose(got.value, sinkhorn(GridCost(axes), a, b, reg=0.05).value, rel_tol=1e-4)
    testing.assert_close(cost.points, backend.asarray(GridCost(axes).points))
    assert "4 x 5" in repr(cost)
