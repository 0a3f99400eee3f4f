"""Sparse Newton on a path: every problem to 1e-10, its sparse systems, and the methods of the literature beside it."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib._core import Status
from optlib.datasets import TRANSPORT_KINDS, make_transport
from optlib.transport import PointCloud, sinkhorn, sinkhorn_newton, solve
from tests.transport.strategies import linear_program, problems, spread
from tests.transport.test_sinkhorn import plan_of, reference

RELATIVE = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]


def l1(plan, a, b):
    return np.abs(plan.sum(axis=1) - a).sum() + np.abs(plan.sum(axis=0) - b).sum()


# -- it solves everything --


@pytest.mark.parametrize("kind", TRANSPORT_KINDS)
def test_every_kind_at_every_regularisation(kind):
    problem = make_transport(kind, 60, rng=0)
    for reg in RELATIVE:
        got = sinkhorn_newton(*problem[:3], reg=reg, tol=1e-10)
        assert got.success, got
        assert got.counts["passes"] <= 150
        assert l1(plan_of(got), problem.a, problem.b) <= 1e-10 + 1e-14 / reg
        assert 0.0 <= got.gap <= 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRANSPORT_KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_kind_at_every_regularisation_larger(kind, seed):
    problem = make_transport(kind, 300, rng=seed)
    for reg in RELATIVE:
        got = sinkhorn_newton(*problem[:3], reg=reg, tol=1e-10)
        assert got.success, got


@pytest.mark.parametrize("reg", [0.1, 0.02, 5e-3])
def test_the_plan_is_that_of_sinkhorn(reg):
    problem = make_transport("cloud2d", 40, 30, rng=1)
    want = reference(problem.cost, problem.a, problem.b, reg)
    for cost, a, b in ((problem.cost, problem.a, problem.b), (problem.cost.T, problem.b, problem.a)):
        got = plan_of(sinkhorn_newton(cost, a, b, reg=reg, tol=1e-12))
        assert np.max(np.abs((got if got.shape == want.shape else got.T) - want)) < 1e-12


@given(problems(), st.sampled_from(RELATIVE))
def test_answers_are_certified(problem, reg):
    cost, a, b = problem
    # potentials are rounded to a unit of the largest cost, which counts over reg
    tol = max(1e-10, 2e-15 * np.abs(cost).max() / (reg * spread(cost)))
    got = sinkhorn_newton(cost, a, b, reg=reg * spread(cost), tol=tol)
    assert got.success, got
    plan, mass = plan_of(got), a.sum()
    assert (plan >= 0.0).all()
    assert not plan[a == 0].any()
    assert not plan[:, b == 0].any()
    assert l1(plan, a, b) <= 3.0 * mass * tol
    low, high = got.lp_bounds
    exact = linear_program(cost, a, b)
    assert low - 1e-7 * mass * spread(cost) <= exact <= high + 1e-7 * mass * spread(cost)


@given(problems(zeros=False), st.sampled_from([1e-2, 1e-4]))
def test_symmetries(problem, reg):
    cost, a, b = problem
    eps, tol = reg * spread(cost), 1e-8 * a.sum()
    plan = plan_of(sinkhorn_newton(cost, a, b, reg=eps, tol=1e-11))
    swapped = plan_of(sinkhorn_newton(np.ascontiguousarray(cost.T), b, a, reg=eps, tol=1e-11))
    assert np.max(np.abs(plan - swapped.T)) <= tol
    order = np.random.default_rng(0).permutation(len(a))
    moved = plan_of(sinkhorn_newton(cost[order], a[order], b, reg=eps, tol=1e-11))
    assert np.max(np.abs(plan[order] - moved)) <= tol
    stretched = plan_of(sinkhorn_newton(7.0 * cost, 3.0 * a, 3.0 * b, reg=7.0 * eps, tol=1e-11))
    # three times the mass is a shift of the regulariser by constants, not another plan
    assert np.max(np.abs(3.0 * plan - stretched)) <= 3.0 * tol


# -- hard input --


@pytest.mark.parametrize("reg", RELATIVE)
def test_tiny_and_heavy_tailed_weights(reg):
    rng = np.random.default_rng(0)
    cost = rng.random((30, 25))
    for a, b in (
        (rng.dirichlet(np.full(30, 0.02)) + 1e-300, rng.dirichlet(np.full(25, 0.02)) + 1e-300),
        (10.0 ** rng.uniform(-14, 0, 30), 10.0 ** rng.uniform(-300, 0, 25)),
    ):
        a, b = a / a.sum(), b / b.sum()
        got = sinkhorn_newton(cost, a, b, reg=reg, tol=1e-10)
        assert got.success, got
        assert np.isfinite(plan_of(got)).all()


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("reg", [1e-1, 1e-3, 1e-6])
def test_costs_of_any_size(scale, reg):
    problem = make_transport("uniform", 30, 20, rng=0)
    want = plan_of(sinkhorn_newton(*problem[:3], reg=reg, tol=1e-10))
    got = sinkhorn_newton(scale * problem.cost, problem.a, problem.b, reg=scale * reg, tol=1e-10)
    assert got.success, got
    assert np.max(np.abs(plan_of(got) - want)) < 1e-8


def test_odd_shapes_and_duplicates():
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (1, 7), (7, 1), (2, 9)):
        cost = rng.random(shape)
        got = sinkhorn_newton(cost, reg=1e-4, tol=1e-10)
        assert got.success
        assert np.allclose(plan_of(got).sum(axis=1), 1.0 / shape[0])
    cost = rng.random((10, 8))
    twice = np.concatenate([cost, cost])
    want, got = (
        plan_of(sinkhorn_newton(cost, reg=1e-3, tol=1e-11)),
        plan_of(sinkhorn_newton(twice, reg=1e-3, tol=1e-11)),
    )
    assert np.max(np.abs(got[:10] + got[10:] - want)) < 1e-9
    constant = sinkhorn_newton(np.full((6, 5), 7.0), reg=1e-3, tol=1e-12)
    assert np.allclose(plan_of(constant), 1 / 30)


def test_weakly_linked_groups():
    """Two groups whose masses differ: all of the difference crosses a gap of a hundred times their size."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.random((20, 2)), rng.random((20, 2)) + 100.0])
    y = np.concatenate([rng.random((25, 2)), rng.random((15, 2)) + 100.0])
    cost = PointCloud(x, y).toarray()
    for reg, tol in ((1e-4, 1e-10), (1e-6, 1e-9)):
        got = sinkhorn_newton(cost, reg=reg * np.ptp(cost), tol=tol)
        assert got.success, got
        assert abs(plan_of(got)[:20, 25:].sum() + plan_of(got)[20:, :25].sum() - 0.125) < 1e-9


# -- penalised marginals --


@pytest.mark.parametrize("rho", [1e-2, 1.0, 100.0, 1e7, (0.5, 2.0), (math.inf, 0.3), (0.3, math.inf)])
@pytest.mark.parametrize("reg", [1e-1, 1e-3, 1e-5])
def test_unbalanced(rho, reg):
    for kind in ("cloud2d", "grid", "rectangular"):
        problem = make_transport(kind, 40, rng=0)
        # masses that differ shift the potentials by about a third of rho, and rounding with it
        more = 1.3 if np.max(rho) <= 2.0 else 1.0
        a, b = more * problem.a, problem.b
        got = sinkhorn_newton(problem.cost, a, b, reg=reg, unbalanced=rho, tol=1e-10)
        assert got.success, got
        assert got.status is Status.CONVERGED
        (f, g), plan, (rho_a, rho_b) = got.potentials, plan_of(got), np.broadcast_to(rho, 2)
        assert np.abs(plan.sum(axis=1) - a * np.exp(-f / rho_a)).sum() < 1e-8
        assert np.abs(plan.sum(axis=0) - b * np.exp(-g / rho_b)).sum() < 1e-8


def test_infinite_penalty_is_the_constraint():
    problem = make_transport("clustered", 30, rng=0)
    hard = plan_of(sinkhorn_newton(*problem[:3], reg=1e-4, tol=1e-11))
    strong = plan_of(sinkhorn_newton(*problem[:3], reg=1e-4, unbalanced=1e9, tol=1e-11))
    assert np.max(np.abs(hard - strong)) < 1e-8


# -- start, resume, forms --


def test_starting_points():
    problem = make_transport("clustered", 60, rng=0)
    first = sinkhorn_newton(*problem[:3], reg=1e-3, tol=1e-8)
    near = sinkhorn_newton(*problem[:3], reg=9e-4, tol=1e-8, init=first)
    assert near.success
    assert near.counts["passes"] < sinkhorn_newton(*problem[:3], reg=9e-4, tol=1e-8).counts["passes"]
    assert sinkhorn_newton(*problem[:3], reg=1e-3, tol=1e-8, init=first.potentials).nit <= 1
    rng = np.random.default_rng(0)
    lost = sinkhorn_newton(*problem[:3], reg=1e-5, tol=1e-8, init=10.0 * rng.standard_normal(60))
    assert lost.success, lost  # walks the path after all


def test_resume_is_bitwise(tmp_path):
    problem = make_transport("grid", 40, rng=0)
    options = {"reg": 1e-4, "tol": None}
    whole = sinkhorn_newton(*problem[:3], **options, maxiter=40)
    parts = sinkhorn_newton(*problem[:3], **options, maxiter=13)
    for n in (1, 20, 6):
        parts = sinkhorn_newton(*problem[:3], **options, maxiter=n, init=parts)
    assert whole.nit == parts.nit == 40
    assert all(np.array_equal(u, v) for u, v in zip(whole.potentials, parts.potentials, strict=True))
    file = tmp_path / "run.npz"
    sinkhorn_newton(*problem[:3], **options, maxiter=15, checkpoint=file)
    saved = sinkhorn_newton(*problem[:3], **options, maxiter=40, checkpoint=file)
    assert all(np.array_equal(u, v) for u, v in zip(whole.potentials, saved.potentials, strict=True))


def test_clouds_and_matrices_agree():
    rng = np.random.default_rng(0)
    for d in (2, 5):
        x, y = rng.random((50, d)), rng.random((40, d))
        for reg in (1e-2, 1e-4):
            from_points = plan_of(sinkhorn_newton(PointCloud(x, y), reg=reg, tol=1e-11))
            stored = plan_of(sinkhorn_newton(PointCloud(x, y).toarray(), reg=reg, tol=1e-11))
            assert np.max(np.abs(from_points - stored)) < 1e-9


def test_the_path_shows_in_the_history():
    problem = make_transport("uniform", 40, rng=0)
    got = sinkhorn_newton(*problem[:3], reg=1e-4)
    regs, errors = got.history["reg"], got.history["error"]
    assert regs[0] == pytest.approx(0.1 * np.ptp(problem.cost))
    assert regs[-1] == 1e-4
    assert errors[-1] == got.history["stop"][-1] <= 1e-6
    assert min(errors) == errors[-1]


def test_the_floor_is_reported():
    problem = make_transport("shifted", 30, rng=0)
    got = sinkhorn_newton(*problem[:3], reg=1e-6, tol=1e-16)
    assert got.status is Status.STALLED
    assert not got.success
    assert got.marginal_error < 1e-8
    assert got.nit < 200


# -- the sparse system --


def test_the_kept_entries_are_those_above_the_threshold():
    from optlib.transport._newton_numba import keeping_sweep

    problem = make_transport("cloud2d", 90, 70, rng=0)
    f, g, eps, threshold = np.zeros(90), np.zeros(70), 0.02, 1e-3
    new, c, r, entries = keeping_sweep(
        problem.cost, None, None, 1.0, f, g, problem.a, problem.b, problem.b, eps, 0.0, np.inf, threshold, 90 * 70 + 16
    )
    plan = problem.a[:, None] * problem.b * np.exp((new[:, None] + g - problem.cost) / eps)
    assert np.allclose(plan.sum(axis=1), r, rtol=1e-12)
    assert np.allclose(plan.sum(axis=0), c, rtol=1e-12)
    dense = np.zeros_like(plan)
    begin, end, index, value = entries
    for i in range(90):
        dense[i, index[begin[i] : end[i]]] = value[begin[i] : end[i]]
    kept = plan > threshold * np.minimum(r[:, None], problem.b)
    assert 0.1 < kept.mean() < 0.9
    assert np.allclose(dense, np.where(kept, plan, 0.0), rtol=1e-12, atol=0.0)
    full = keeping_sweep(
        problem.cost, None, None, 1.0, f, g, problem.a, problem.b, problem.b, eps, 0.0, np.inf, 0.0, 1000
    )
    assert full[3] is None


@pytest.mark.parametrize("weak", [1.0, 1e-4, 1e-8])
def test_the_approximate_factor_solves_nearly_reducible_systems(weak):
    """Two groups linked by small weights; the residual in exact arithmetic."""
    from fractions import Fraction

    from optlib.transport._newton_systems import solve_sparse

    rng = np.random.default_rng(0)
    n = m = 12
    plan = np.where(rng.random((n, m)) < 0.4, rng.random((n, m)), 0.0) + np.eye(n)
    plan[: n // 2, m // 2 :] *= weak
    plan[n // 2 :, : m // 2] *= weak
    rows, columns = plan.sum(axis=1), plan.sum(axis=0)
    rhs = rng.standard_normal(m) * 1e-3
    rhs -= rhs.mean()
    rhs[: m // 2] -= rhs[: m // 2].mean() * (1.0 - weak)  # what must cross is as small as the link
    rhs[m // 2 :] -= rhs[m // 2 :].mean() * (1.0 - weak)
    entries = (
        np.arange(n, dtype=np.int64) * m, (np.arange(n, dtype=np.int64) + 1) * m,
        np.tile(np.arange(m, dtype=np.int32), n), plan.ravel(),
    )  # fmt: skip
    y = solve_sparse(entries, rows, columns, columns, rhs, 1e-9)
    exact = [[Fraction(float(v)) for v in row] for row in plan]
    system = [[-sum(exact[i][j] * exact[i][k] / sum(exact[i]) for i in range(n)) for k in range(m)] for j in range(m)]
    for j in range(m):
        system[j][j] -= sum(system[j])
    residual = [float(sum(system[j][k] * Fraction(float(y[k])) for k in range(m))) - rhs[j] for j in range(m)]
    assert np.abs(residual).max() <= 1e-6 * np.abs(rhs).max()


def test_dense_and_sparse_systems_agree():
    import optlib

    problem = make_transport("clustered", 50, 40, rng=0)
    for reg in (1e-2, 1e-4):
        fast = plan_of(sinkhorn_newton(*problem[:3], reg=reg, tol=1e-11))
        with optlib.config(engine="generic"):
            plain = plan_of(sinkhorn_newton(*problem[:3], reg=reg, tol=1e-11))
        assert np.max(np.abs(fast - plain)) < 1e-10


# -- the methods of the literature --


@pytest.mark.parametrize("method", ["sns", "ssns"])
def test_methods_of_the_literature_find_the_same_plan(method):
    problem = make_transport("uniform", 40, 30, rng=0)
    want = plan_of(sinkhorn(*problem[:3], reg=0.02, tol=1e-11, maxiter=50_000))
    got = sinkhorn_newton(*problem[:3], reg=0.02, tol=1e-11, method=method, density=0.5)
    assert got.success, got
    assert np.max(np.abs(plan_of(got) - want)) < 1e-9
    assert got.nit < 80


def test_what_is_dropped_weighs_little():
    from optlib.transport._sparsified import _by_mass

    rng = np.random.default_rng(0)
    plan = rng.random((30, 20)) ** 8
    kept = _by_mass(plan, 0.05, np)
    dropped = plan - kept
    assert (dropped.sum(axis=0) <= 0.05).all()
    assert (dropped.sum(axis=1) <= 0.05).all()
    assert 0 < (kept > 0).mean() < 0.6
    assert np.isin(kept, np.append(plan.ravel(), 0.0)).all()


def test_without_a_path_weak_links_defeat_newton():
    """Why there is a path: the published method fails where this one takes some tens of passes."""
    problem = make_transport("clustered", 60, rng=0)
    published = sinkhorn_newton(*problem[:3], reg=1e-4, tol=1e-8, method="sns", maxiter=60)
    assert not published.success
    assert np.isfinite(plan_of(published)).all()
    assert solve(*problem[:3], reg=1e-4, tol=1e-8).success


# -- total variation --


@pytest.mark.parametrize("rho", [0.02, 0.2, 2.0, 50.0, (0.1, 0.4), (math.inf, 0.1), (0.1, math.inf)])
@pytest.mark.parametrize("reg", [0.1, 1e-2, 1e-4])
def test_total_variation_is_optimal(rho, reg):
    """Plan, potentials and marginals satisfy the conditions of optimality, which are sufficient."""
    for kind in ("cloud2d", "clustered", "rectangular"):
        problem = make_transport(kind, 40, rng=0)
        more = 1.3 if math.inf not in np.atleast_1d(rho) else 1.0
        a, b, cost = more * problem.a, problem.b, problem.cost
        # potentials of the size of rho are rounded to a unit of it, which counts over reg, and times rho in the gap
        tol = 1e-9 if np.min(rho) < 10.0 else 1e-7
        got = solve(cost, a, b, reg=reg, unbalanced=rho, unbalanced_type="tv", tol=tol)
        assert got.success, got
        (f, g), plan = got.potentials, plan_of(got)
        assert np.allclose(plan, a[:, None] * b * np.exp((f[:, None] + g - cost) / reg), rtol=1e-6, atol=1e-15)
        for u, marginal, weights, bound in zip(
            (f, g), (plan.sum(axis=1), plan.sum(axis=0)), (a, b), np.broadcast_to(rho, 2), strict=True
        ):
            assert (np.abs(u) <= bound).all()
            slack = 10.0 * tol * weights + 1e-12
            assert (np.abs(marginal - weights)[np.abs(u) < bound] <= slack[np.abs(u) < bound]).all()
            assert (marginal - weights <= slack)[u >= bound].all()  # mass is missing only where the price is highest
            assert (weights - marginal <= slack)[u <= -bound].all()


@pytest.mark.peers
@pytest.mark.parametrize("rho", [0.1, 0.5])
def test_total_variation_agrees_with_pot(rho):
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(0)
    cost, a, b, reg = rng.random((12, 10)), 1.5 * rng.dirichlet(np.ones(12)), rng.dirichlet(np.ones(10)), 0.05
    got = solve(cost, a, b, reg=reg, unbalanced=rho, unbalanced_type="tv", tol=1e-10)
    with warnings.catch_warnings(action="ignore"):
        want = ot.unbalanced.lbfgsb_unbalanced(
            a, b, cost, reg, rho, reg_div="kl", regm_div="tv", numItermax=20_000, stopThr=1e-14
        )

    def objective(plan):
        kl = np.sum(plan * np.log(np.maximum(plan, 1e-300) / np.outer(a, b)) - plan + np.outer(a, b))
        tv = np.abs(plan.sum(axis=1) - a).sum() + np.abs(plan.sum(axis=0) - b).sum()
        return np.sum(cost * plan) + reg * kl + rho * tv

    best = objective(plan_of(got))
    assert abs(best - got.value) <= got.gap + 1e-9
    assert best <= objective(want) + 1e-9
    assert objective(want) - best < 0.02  # theirs is a method for smooth functions


def test_weak_penalties_leave_mass_where_it_is():
    """As the penalty vanishes nothing moves; mass further apart than both penalties stays."""
    cost = np.asarray([[0.1, 5.0], [5.0, 0.1]])
    a, b = [1.0, 1.0], [1.0, 1.0]
    got = solve(cost, [1.5, 0.5], b, reg=1e-3, unbalanced=1.0, unbalanced_type="tv", tol=1e-9)
    assert got.success
    assert np.allclose(plan_of(got), [[1.0, 0.0], [0.0, 0.5]], atol=1e-6)
    moved = solve(cost, [1.5, 0.5], b, reg=1e-3, unbalanced=10.0, unbalanced_type="tv", tol=1e-9)
    assert np.allclose(plan_of(moved), [[1.0, 0.5], [0.0, 0.5]], atol=1e-6)
    far = solve([[3.0, 3.0]], [1.5], [0.5, 0.5], reg=1e-4, unbalanced=1.0, unbalanced_type="tv")
    assert far.success
    assert not plan_of(far).any()
    with pytest.raises(ValueError, match="`unbalanced_type`"):
        solve(cost, a, b, reg=0.1, unbalanced=1.0, unbalanced_type="tv", method="sinkhorn")
