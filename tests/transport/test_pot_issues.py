"""What users of POT ran into, as they described it: here an answer with its certificate each time."""

import math

import numpy as np
import pytest

from optlib.transport import PointCloud, sinkhorn, sinkhorn_newton, solve
from tests.transport.test_sinkhorn import plan_of


def check(cost, a, b, reg, tol=1e-8, **options):
    got = solve(cost, a, b, reg=reg, tol=tol, **options)
    assert got.success, got
    plan = plan_of(got)
    assert np.isfinite(plan).all()
    assert abs(plan.sum() - np.sum(a)) <= 1e-7 * np.sum(a)
    assert np.abs(plan.sum(axis=1) - a).sum() + np.abs(plan.sum(axis=0) - b).sum() <= 2 * tol * np.sum(a)
    return got


@pytest.mark.parametrize("reg", [1e-1, 1e-2, 1e-3, 1e-4])
def test_34_histograms_with_zeros(reg):
    """https://github.com/PythonOT/POT/issues/34: "numerical errors at iteration 0" when weights contain zeros."""
    rng = np.random.default_rng(0)
    a, b = rng.random(40), rng.random(30)
    a[rng.permutation(40)[:25]] = 0.0
    b[rng.permutation(30)[:15]] = 0.0
    a, b = a / a.sum(), b / b.sum()
    cost = PointCloud(rng.random((40, 2)), rng.random((30, 2))).toarray()
    got = check(cost, a, b, reg)
    assert not plan_of(got)[a == 0].any()
    assert not plan_of(got)[:, b == 0].any()
    assert all(np.isfinite(u).all() for u in got.potentials)


def test_54_a_small_regularisation_and_one_number():
    """https://github.com/PythonOT/POT/issues/54: a product that overflows, and a distance of zero at reg=1e-3."""
    rng = np.random.default_rng(1)
    cost = PointCloud(rng.random((60, 5)), 3.0 + rng.random((60, 5)), "euclidean").toarray()
    a, b = rng.dirichlet(np.ones(60)), rng.dirichlet(np.ones(60))
    for reg in (1e-2, 1e-3):
        got = check(cost, a, b, reg)
        low, high = got.lp_bounds
        assert cost.min() <= low <= got.value_linear <= high + 1e-9
        assert high - low <= 2.0 * reg * math.log(60)


@pytest.mark.parametrize("form", ["scaling", "log"])
def test_552_zeros_in_the_log_domain(form):
    """https://github.com/PythonOT/POT/issues/552: logarithms of zero weights; both forms and both methods."""
    rng = np.random.default_rng(2)
    cost = rng.random((12, 12))
    a, b = np.zeros(12), np.zeros(12)
    a[[1, 5, 6]], b[[0, 11]] = (0.25, 0.25, 0.5), (0.5, 0.5)
    for reg in (0.5, 0.05):
        one = sinkhorn(cost, a, b, reg=reg, method=form, tol=1e-10)
        other = sinkhorn_newton(cost, a, b, reg=reg, tol=1e-10)
        assert one.success
        assert other.success
        assert np.max(np.abs(plan_of(one) - plan_of(other))) < 1e-9
        assert np.allclose(plan_of(other).sum(axis=1), a, atol=1e-9)


def test_711_stabilised_unbalanced_agrees(monkeypatch):
    """https://github.com/PythonOT/POT/issues/711: the stabilised variant differs once potentials are absorbed."""
    from optlib.transport import _sinkhorn_numba

    a, b, cost, reg, rho = [0.3, 0.7], [0.7, 0.3], [[0.0, 1.0], [1.0, 0.0]], 0.01, 100.0
    found = [plan_of(sinkhorn_newton(cost, a, b, reg=reg, unbalanced=rho, tol=1e-11))]
    for limit in (200.0, 1.0):
        monkeypatch.setattr(_sinkhorn_numba, "LIMIT", limit)
        got = sinkhorn(cost, a, b, reg=reg, unbalanced=rho, method="scaling", tol=1e-11)
        assert got.success
        found.append(plan_of(got))
    assert max(np.max(np.abs(plan - found[0])) for plan in found) < 1e-9
    f, g = solve(cost, a, b, reg=reg, unbalanced=rho, tol=1e-11).potentials
    assert np.allclose(found[0].sum(axis=1), np.asarray(a) * np.exp(-f / rho), atol=1e-9)
    assert np.allclose(found[0].sum(axis=0), np.asarray(b) * np.exp(-g / rho), atol=1e-9)
    assert abs(found[0][1, 0] - 0.4) < 5e-3  # what must move does


def test_no_plan_is_all_zero():
    """POT's sinkhorn_stabilized returns zeros at reg 1e-3 and n = 1000 on shifted clouds."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1000, 2)), rng.standard_normal((1000, 2)) + 10.0
    cost = PointCloud(x, y).toarray()
    cost /= cost.max()
    weights = np.full(1000, 1e-3)
    check(cost, weights, weights, 1e-3, tol=1e-6)


def test_748_iterations_that_stand_still():
    """https://github.com/PythonOT/POT/issues/748: stabilised and scaled iterations stuck at an error of 2e-3."""
    rng = np.random.default_rng(3)
    images = rng.random((2, 40, 784)) ** 8
    cost = PointCloud(images[0], images[1]).toarray()
    weights = np.full(40, 1 / 40)
    for reg in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        check(cost, weights, weights, reg, tol=1e-9)


def test_weights_of_1e_14_do_not_stall():
    """Sinkhorn iterations stand still on these; `solve` hands over and certifies."""
    cost = np.asarray([[0.0, 1.0, 0.3], [1.0, 0.2, 0.0]])
    a = np.asarray([1.0 - 1e-14, 1e-14])
    for light in (1e-14, 1e-10, 1e-300):
        b = np.asarray([light, 0.5, 0.5 - light])
        for reg in (0.1, 0.01, 1e-3, 1e-4):
            check(cost, a, b / b.sum(), reg, tol=1e-10)
