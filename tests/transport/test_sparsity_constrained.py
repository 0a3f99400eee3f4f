"""Transport with at most k entries a column: projections, weak duality, brute force, limits, recovery, hard data."""

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from optlib.backend import array_namespace
from optlib.datasets import make_transport
from optlib.testing import assert_close
from optlib.transport import PointCloud, emd, quadratic, sparsity_constrained
from optlib.transport.cost import DenseCost
from optlib.transport.sparsity_constrained import top_sweep
from tests.transport.strategies import problems, spread


def cloud(n=60, m=40, seed=0):
    rng = np.random.default_rng(seed)
    return PointCloud(rng.random((n, 2)), rng.random((m, 2))).toarray()


def objective(p, cost, reg):
    return (p * cost).sum() + 0.5 * reg * (p**2).sum()


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.sampled_from([0.1, 1.0, 10.0]))
def test_the_pass_solves_every_row(seed, m, wanted):
    """``max <s, t> - |t|^2 / 2`` over ``t >= 0`` of the given sum with at most k entries, by all supports."""
    rng = np.random.default_rng(seed)
    s, k = rng.normal(size=(1, m)), int(rng.integers(1, m + 1))
    zero = np.zeros(1)
    _, c, squares, masses, places = top_sweep(DenseCost(-s), zero, np.zeros(m), zero + wanted, k, True)
    assert masses.shape == places.shape == (1, k)
    assert c.sum() == pytest.approx(wanted)
    assert squares[0] == pytest.approx((c**2).sum())
    best = -np.inf
    for support in combinations(range(m), k):
        u = s[0, list(support)]
        levels = np.sort(u)[::-1]
        theta = max((levels[: r + 1].sum() - wanted) / (r + 1) for r in range(k))
        t = np.maximum(u - theta, 0)
        best = max(best, u @ t - 0.5 * t @ t)
    assert s[0] @ c - 0.5 * c @ c == pytest.approx(best)


@given(
    problems(),
    st.sampled_from([1, 2, 3, 7]),
    st.sampled_from(["semi-dual", "dual"]),
    st.sampled_from(["row", "column"]),
)
def test_answers_satisfy_what_they_claim(problem, k, formulation, per):
    cost, a, b = problem
    sparse, other = (b, a) if per == "column" else (a, b)
    if k * np.count_nonzero(sparse) < np.count_nonzero(other):
        with pytest.raises(ValueError, match="`k`"):
            sparsity_constrained(cost, a, b, k=k, reg=1.0, per=per)
        return
    reg = 0.1 * spread(cost) * max(cost.shape) / a.sum()
    got = sparsity_constrained(cost, a, b, k=k, reg=reg, formulation=formulation, per=per, maxiter=60)
    p, mass = got.plan.toarray(), a.sum()
    assert p.min() >= 0
    columns = p if per == "column" else p.T
    assert np.array_equal(np.count_nonzero(columns, axis=0)[sparse > 0], got.nnz)
    excess = np.sort(columns, axis=0)[: max(len(columns) - k, 0)].sum()
    error = np.abs(p.sum(1) - a).sum() + np.abs(p.sum(0) - b).sum()
    assert got.excess == pytest.approx(excess, abs=1e-13 * mass)
    assert got.certificate.residual == pytest.approx((excess + error) / mass, abs=1e-12)
    assert got.certificate.value >= abs(objective(p, cost, reg) - got.dual_value) - 1e-12 * got.certificate.scale
    free = quadratic(cost, a, b, reg=reg)
    slack = 1e-9 * got.certificate.scale
    if got.certificate.residual <= 1e-10:  # a feasible plan
        assert objective(p, cost, reg) >= got.dual_value - slack
    assert got.dual_value >= free.dual_value - slack  # the constraint costs something


def test_brute_force():
    """The best plan over all supports lies between the dual value and the plan that is found."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(5):
        cost, a, b, reg = rng.random((4, 3)), rng.dirichlet(np.full(4, 5.0)), rng.dirichlet(np.full(3, 5.0)), 0.5
        best = np.inf
        for supports in product(combinations(range(4), 2), repeat=3):
            mask = np.zeros((4, 3), bool)
            for j, support in enumerate(supports):
                mask[list(support), j] = True
            if not mask.any(1).all():
                continue
            value, error = quadratic_program(cost, a, b, reg, mask)
            if error < 1e-6:
                best = min(best, value)
        got = sparsity_constrained(cost, a, b, k=2, reg=reg)
        assert got.dual_value <= best + 1e-6
        if got.certificate.residual < 1e-9:
            found += 1
            assert best - 1e-6 <= got.value <= best + got.gap + 1e-6
    assert found >= 1


def quadratic_program(cost, a, b, reg, mask):
    """Value of the best plan on a support, and the error of its marginals, by nonnegative least squares."""
    i, j = np.nonzero(mask)
    constraints = np.vstack([np.arange(len(a))[:, None] == i, np.arange(len(b))[:, None] == j]) * 1e4
    system = np.vstack([np.sqrt(reg) * np.eye(i.size), constraints])
    v, _ = nnls(system, np.concatenate([-cost[mask] / np.sqrt(reg), 1e4 * a, 1e4 * b]))
    return cost[mask] @ v + 0.5 * reg * v @ v, np.abs(constraints @ v / 1e4 - np.concatenate([a, b])).max()


@pytest.mark.parametrize("formulation", ["semi-dual", "dual"])
def test_values_fall_with_k(formulation):
    cost = cloud()
    results = [sparsity_constrained(cost, k=k, reg=1.0, formulation=formulation) for k in (2, 3, 5, 10, 40)]
    duals = [got.dual_value for got in results]
    assert all(u >= v - 1e-9 for u, v in pairwise(duals))
    free = quadratic(cost, reg=1.0).check()
    for got in results[-2:]:
        got.check()
        assert_close(got.plan.toarray(), free.plan.toarray(), rtol=0, atol=1e-6)
    five = results[2]
    assert five.nnz.max() <= 5
    assert five.certificate.residual < 1e-9
    assert abs(five.value - five.dual_value) < 1e-4 * five.value


def test_recovery_modes():
    cost = cloud()
    results = {
        mode: sparsity_constrained(cost, k=3, reg=1.0, recover=mode) for mode in ("subgradient", "polish", "round")
    }
    assert len({got.dual_value for got in results.values()}) == 1
    assert results["subgradient"].nnz.max() <= 3
    assert results["subgradient"].marginal_error > 1e-3
    for mode in ("polish", "round"):
        assert results[mode].marginal_error < 1e-9
    assert results["round"].excess > results["polish"].excess
    p = results["round"].plan.toarray()
    assert p.sum(1) == pytest.approx(np.full(60, 1 / 60))
    assert not any(got.success for mode, got in results.items() if mode != "polish")


def test_one_entry_is_the_linear_program():
    rng = np.random.default_rng(0)
    cost, b = rng.random((6, 9)), rng.dirichlet(np.ones(9))
    got = sparsity_constrained(cost, b=b, k=1, reg=0.5)
    assert "exact solver" in got.message
    assert got.dual_value == pytest.approx(emd(cost, b=b).value + 0.25 * (b**2).sum())
    even = sparsity_constrained(cost[:, :6], k=1, reg=0.5).check()  # an assignment: one entry a column is enough
    assert_close(even.plan.toarray(), emd(cost[:, :6]).plan.toarray(), rtol=0, atol=1e-9)
    assert np.array_equal(even.nnz, np.ones(6))


def test_rows_are_the_transposed_problem():
    cost = cloud(12, 12)
    one, other = (sparsity_constrained(c, k=3, reg=0.5, per=per) for c, per in ((cost, "column"), (cost.T, "row")))
    assert_close(other.plan.toarray().T, one.plan.toarray(), rtol=0, atol=1e-12)
    assert_close(other.potentials[0], one.potentials[1], rtol=0, atol=1e-12)


def test_hard_data():
    ties = sparsity_constrained(np.zeros((4, 4)), k=1, reg=1.0)
    assert ties.success or ties.certificate.residual > 0
    assert np.isfinite(ties.plan.toarray()).all()
    assert sparsity_constrained(np.ones((1, 5)), k=1, reg=1.0).check().plan.toarray() == pytest.approx(
        np.full((1, 5), 0.2)
    )
    assert sparsity_constrained(np.ones((5, 1)), k=5, reg=1.0).check().nnz.tolist() == [5]
    with pytest.raises(ValueError, match=r"`k`: got 4; expected at least 5"):
        sparsity_constrained(np.ones((5, 1)), k=4, reg=1.0)
    cost, a, b = make_transport("cloud2d", 12, 10, rng=0)[:3]
    a, b = a.copy(), b.copy()
    a[0], a[1], b[0] = 0.0, 1e-300, 0.0
    got = sparsity_constrained(cost, a / a.sum(), b / b.sum(), k=4, reg=0.5)
    assert np.isfinite(got.plan.toarray()).all()
    assert got.nnz.shape == (9,)
    assert got.plan.toarray()[:, 0].sum() == 0.0
    base = sparsity_constrained(cost, k=4, reg=0.5)
    for factor in (1e-150, 1e150):
        scaled = sparsity_constrained(factor * cost, k=4, reg=factor * 0.5)
        assert_close(scaled.plan.toarray(), base.plan.toarray(), rtol=0, atol=1e-5)
    doubled = sparsity_constrained(np.repeat(cost, 2, axis=0), k=4, reg=0.5)  # duplicated sources
    assert np.isfinite(doubled.plan.toarray()).all()
    assert doubled.marginal_error < 1e-8


def test_every_backend_gives_the_same(backend, engine):
    cost = cloud(14, 10)
    for formulation in ("semi-dual", "dual"):
        want = sparsity_constrained(cost, k=4, reg=0.5, formulation=formulation, maxiter=100)
        got = sparsity_constrained(backend.asarray(cost), k=4, reg=0.5, formulation=formulation, maxiter=100)
        plan = got.plan.toarray()
        assert array_namespace(plan) is backend.xp
        assert plan.dtype == backend.dtype
        assert got.dual_value == pytest.approx(want.dual_value, rel=1e-6 if backend.is_double else 1e-3)
        assert got.value == pytest.approx(want.value, rel=1e-3)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")
@pytest.mark.parametrize("k", [3, 10])
def test_pot_agrees(k):
    ot = pytest.importorskip("ot")
    cost, a, b = cloud(), np.full(60, 1 / 60), np.full(40, 1 / 40)
    _, log = ot.smooth.smooth_ot_semi_dual(
        a, b, cost, 1.0, reg_type="sparsity_constrained", max_nz=k, numItermax=2000, stopThr=1e-12, log=True
    )
    alpha = log["alpha"]
    peer = alpha @ a - sum(_conjugate(alpha - cost[:, j], 1 / 40, 1.0, k) for j in range(40))
    got = sparsity_constrained(cost, k=k, reg=1.0)
    assert peer - 1e-7 <= got.dual_value <= peer + 1e-4


def _conjugate(s, mass, reg, k):
    u = np.sort(s)[::-1][:k]
    theta = max((u[: r + 1].sum() - reg * mass) / (r + 1) for r in range(k))
    t = np.maximum(u - theta, 0) / reg
    return u @ t - 0.5 * reg * t @ t
