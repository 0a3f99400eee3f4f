"""Sinkhorn: forms, accelerations and regularisation paths agree, and never fail for numerical reasons."""

import math
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import optlib
from optlib._core import Status
from optlib.datasets import TRANSPORT_KINDS, make_transport
from optlib.transport import DenseCost, PointCloud, sinkhorn
from optlib.transport.sinkhorn import SinkhornMethod
from tests.transport.strategies import linear_program, problems, spread

ACCELERATIONS = ("lbfgs", "anderson", "overrelaxation", None)
HARD = ("cloud2d", "cloud50d", "shifted", "clustered", "uniform", "ties", "grid", "rectangular")


def plan_of(result):
    return np.asarray(result.plan.toarray())


def reference(cost, a, b, eps, sweeps=20_000):
    """Plain log-domain Sinkhorn in NumPy."""
    log_a, log_b = np.log(a), np.log(b)
    f, g = np.zeros(len(a)), np.zeros(len(b))

    def lse(z, axis):
        top = z.max(axis=axis, keepdims=True)
        return np.squeeze(top, axis) + np.log(np.exp(z - top).sum(axis=axis))

    for _ in range(sweeps):
        f = -eps * lse((g[None] - cost) / eps + log_b[None], 1)
        g, old = -eps * lse((f[:, None] - cost) / eps + log_a[:, None], 0), g
        if np.max(np.abs(g - old)) < 1e-15 * eps:
            break
    return a[:, None] * b * np.exp((f[:, None] + g - cost) / eps)


def test_hard_kinds_are_all_covered():
    assert set(HARD) == set(TRANSPORT_KINDS)


@pytest.mark.parametrize("method", ["scaling", "log"])
@pytest.mark.parametrize("acceleration", ACCELERATIONS)
def test_forms_and_accelerations_agree(method, acceleration):
    problem = make_transport("cloud2d", 40, 30, rng=1)
    want = reference(problem.cost, problem.a, problem.b, 0.02)
    got = sinkhorn(*problem[:3], reg=0.02, method=method, acceleration=acceleration, tol=1e-12)
    assert got.success, got
    assert np.max(np.abs(plan_of(got) - want)) < 1e-12


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("reg", [1e3, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_never_fails_for_numerical_reasons(kind, reg):
    problem = make_transport(kind, 40, rng=0)
    got = sinkhorn(*problem[:3], reg=reg, maxiter=1000)
    assert got.status in (Status.CONVERGED, Status.MAXITER, Status.STALLED)
    assert got.success == (got.status is Status.CONVERGED)
    assert got.success or reg < 5e-3, got  # slower than sublinear only far below the cost range
    plan = plan_of(got)
    assert np.isfinite(plan).all()
    assert np.allclose(plan.sum(axis=1), problem.a, atol=1e-9)
    optimum = linear_program(*problem[:3])
    low, high = got.lp_bounds
    assert low <= optimum + 1e-9
    assert high >= optimum - 1e-9


@pytest.mark.parametrize("method", ["scaling", "log"])
@pytest.mark.parametrize("reg", [1e-1, 1e-3, 1e-6])
def test_extreme_and_disjoint_clouds(method, reg):
    rng = np.random.default_rng(0)
    x, y = rng.random((30, 2)), rng.random((20, 2)) + 1e4
    y[:5] -= 2e4  # two far groups on the two sides
    cost = PointCloud(x, y).toarray()
    got = sinkhorn(cost, reg=reg * np.ptp(cost), method=method, maxiter=2000)
    assert got.status in (Status.CONVERGED, Status.STALLED, Status.MAXITER)
    assert np.isfinite(plan_of(got)).all()
    assert reg < 1e-2 or got.success


def test_huge_costs_and_offsets():
    problem = make_transport("uniform", 30, rng=0)
    cost, a, b = problem[:3]
    want = plan_of(sinkhorn(cost, a, b, reg=0.01, tol=1e-10))
    u, v = np.linspace(0, 50, 30), np.linspace(-20, 90, 30)
    moved = sinkhorn(cost + u[:, None] + v, a, b, reg=0.01, tol=1e-10)
    assert np.max(np.abs(plan_of(moved) - want)) < 1e-10
    scaled = sinkhorn(1e32 * cost, a, b, reg=1e30, tol=1e-10)
    assert np.max(np.abs(plan_of(scaled) - want)) < 1e-10


def test_absorption_changes_nothing(monkeypatch):
    """The stored kernel rebuilt at every turn (POT issue 711), also with penalised marginals."""
    from optlib.transport import _sinkhorn_numba

    problem = make_transport("clustered", 60, rng=1)
    want = {}
    for limit in (200.0, 1.0):
        monkeypatch.setattr(_sinkhorn_numba, "LIMIT", limit)
        for unbalanced in (None, 0.5, (math.inf, 0.1)):
            got = sinkhorn(*problem[:3], reg=0.01, unbalanced=unbalanced, method="scaling", tol=1e-10, maxiter=20_000)
            assert got.success
            if limit == 200.0:
                want[unbalanced] = plan_of(got), got.counts["passes"]
            else:
                assert got.counts["passes"] > want[unbalanced][1]
                assert np.max(np.abs(plan_of(got) - want[unbalanced][0])) < 1e-10


@pytest.mark.parametrize("kept", [1e-8, 1e-3])  # the latter drops what counts far from the solution
@pytest.mark.parametrize("acceleration", ["lbfgs", "overrelaxation"])
@pytest.mark.parametrize("rho", [None, (0.5, 2.0)])
def test_truncation_changes_nothing(rho, acceleration, kept, monkeypatch):
    module = sys.modules[SinkhornMethod.__module__]
    problem, found, used = make_transport("uniform", 60, 50, rng=0), [], []
    truncate = SinkhornMethod.truncate

    def spy(self, *args):
        used.append(truncate(self, *args))
        return used[-1]

    monkeypatch.setattr(SinkhornMethod, "truncate", spy)
    for room in (0.0, module.ROOM):
        monkeypatch.setattr(module, "ROOM", room)
        monkeypatch.setattr(module, "KEPT", kept)
        used.clear()
        options = {"unbalanced": rho, "acceleration": acceleration, "tol": 1e-9}
        found.append(sinkhorn(*problem[:3], reg=2e-4, **options))
        assert found[-1].success, found[-1]
        assert found[-1].certificate.holds
        assert found[-1].gap >= 0.0
        assert any(kernel is not None for kernel in used) == (room > 0.0)
    assert np.max(np.abs(plan_of(found[0]) - plan_of(found[1]))) < 1e-8
    if rho is None:
        assert np.abs(plan_of(found[1]).sum(axis=0) - problem.b).sum() < 1.1e-9


@pytest.mark.parametrize("method", ["scaling", "log"])
def test_a_result_holds_no_tables(method):
    problem = make_transport("cloud2d", 60, rng=0)
    state = sinkhorn(*problem[:3], reg=0.05, method=method).state
    for name in ("f", "r", "g", "c", "steps", "changes"):  # views would keep some thirty rows alive
        assert getattr(state, name).base is None, name


def test_costs_without_geometry_take_no_path():
    problem = make_transport("uniform", 800, rng=0)
    got = sinkhorn(*problem[:3], reg=1.5e-3)
    assert got.success
    assert got.state.levels == 1
    assert "levels" not in got.message
    at_zero = sinkhorn(*problem[:3], reg=1.5e-3, init=(np.zeros(800), np.zeros(800)))
    assert np.max(np.abs(plan_of(got) - plan_of(at_zero))) < 1e-7
    cloud = sinkhorn(*make_transport("clustered", 400, rng=0)[:3], reg=1e-3, maxiter=30, tol=None)
    assert cloud.state.levels > 1
    assert cloud.state.level == cloud.state.levels - 1


@pytest.mark.parametrize(("kind", "reg", "path"), [("uniform", 1.5e-3, False), ("cloud2d", 2e-4, True)])
def test_a_trial_can_be_interrupted(kind, reg, path):
    problem = make_transport(kind, 800, rng=0)
    whole = sinkhorn(*problem[:3], reg=reg, maxiter=40, tol=None)
    assert (whole.state.levels > 1) == path
    for first in (1, 2, 3, 4):
        part = sinkhorn(*problem[:3], reg=reg, maxiter=first, tol=None)
        assert not part.success
        assert (part.state.level == 0 and part.state.levels > 1) or first > 1
        rest = sinkhorn(*problem[:3], reg=reg, maxiter=40 - first, tol=None, init=part)
        assert np.array_equal(rest.potentials[1], whole.potentials[1])
        assert rest.state.levels == whole.state.levels


@pytest.mark.parametrize("kind", ["uniform", "cloud2d"])
@pytest.mark.parametrize("first", [True, False])
def test_a_state_goes_on_at_another_tolerance(kind, first, monkeypatch):
    """What the first run tried is read off its state: another tolerance may make another choice."""
    problem, reg = make_transport(kind, 400, rng=0), 2e-4
    want = sinkhorn(*problem[:3], reg=reg, tol=1e-8, maxiter=5000)
    for maxiter in (1, 2, 5, 30, 60):
        monkeypatch.setattr(SinkhornMethod, "promising", lambda self: first)
        part = sinkhorn(*problem[:3], reg=reg, tol=None, maxiter=maxiter)
        monkeypatch.setattr(SinkhornMethod, "promising", lambda self: not first)
        monkeypatch.setattr(sys.modules[SinkhornMethod.__module__], "NEAR", 8.0 if maxiter > 1 else 0.0)
        rest = sinkhorn(*problem[:3], reg=reg, tol=1e-8, maxiter=5000, init=part)
        monkeypatch.undo()
        assert rest.success, (maxiter, rest)
        assert np.max(np.abs(plan_of(rest) - plan_of(want))) < 1e-7


@pytest.mark.parametrize("rho", [(0.01, 1.0), (0.012, math.inf)])
def test_rows_that_underflow_are_not_truncated(rho):
    cost = np.random.default_rng(0).random((60, 50))
    cost[3] += 10.0  # a thousand times the penalty: this source sends nothing
    got = sinkhorn(cost, reg=1e-3, unbalanced=rho, tol=1e-9)
    assert got.success, got
    plan = plan_of(got)
    assert np.isfinite(plan).all()
    assert plan[3].sum() < 1e-290


@pytest.mark.parametrize("reg", [1e-1, 1e-2, 1e-3])
def test_acceleration_pays(reg):
    problem = make_transport("cloud2d", 150, rng=0)
    passes = {
        name: sinkhorn(*problem[:3], reg=reg, acceleration=name, tol=1e-6).counts["passes"] for name in ACCELERATIONS
    }
    assert passes["lbfgs"] <= min(passes.values()) + 2
    assert reg > 5e-3 or max(passes["lbfgs"], passes["anderson"], passes["overrelaxation"]) < 0.4 * passes[None]


def test_plain_iterations_ascend():
    problem = make_transport("clustered", 50, rng=0)
    values, state = [], None
    for _ in range(12):
        state = sinkhorn(*problem[:3], reg=0.02, acceleration=None, tol=None, maxiter=1, init=state)
        values.append(state.dual_value)
    assert np.all(np.diff(values) >= -1e-14)


@given(problems(), st.sampled_from([1e-2, 0.1, 1.0]), st.sampled_from(["scaling", "log"]))
def test_symmetries(problem, reg, method):
    """Of the solutions found: a problem that all but falls apart (weights of 1e-14) stalls, and must say so."""
    cost, a, b = problem
    eps = reg * spread(cost)
    rows = np.random.default_rng(0).permutation(len(a))

    def solution(cost, a, b, reg=eps):
        got = sinkhorn(cost, a, b, reg=reg, method=method, tol=1e-10, maxiter=50_000)
        plan = plan_of(got)
        off = max(np.max(np.abs(plan.sum(1) - a)), np.max(np.abs(plan.sum(0) - b)))
        assert got.success == (off <= 2e-10 * a.sum())
        assume(got.success)
        return plan

    plan = solution(cost, a, b)
    others = [
        solution(np.ascontiguousarray(cost.T), b, a).T,
        solution(DenseCost(np.asfortranarray(cost)), a, b),
        solution(cost[rows], a[rows], b)[np.argsort(rows)],
        solution(7.0 * cost, a, b, 7.0 * eps),
    ]
    for other in others:
        assert np.max(np.abs(plan - other)) <= 1e-8 * a.sum()


def test_zero_weights_are_left_out():
    problem = make_transport("uniform", 20, rng=0)
    cost, a, b = problem.cost, problem.a.copy(), problem.b.copy()
    a[3], b[[0, 7]] = 0.0, 0.0
    a, b = a / a.sum(), b / b.sum()
    got = sinkhorn(cost, a, b, reg=0.02, tol=1e-10)
    kept = np.ix_(a > 0, b > 0)
    want = plan_of(sinkhorn(cost[kept], a[a > 0], b[b > 0], reg=0.02, tol=1e-10))
    plan = plan_of(got)
    assert np.array_equal(plan[kept], want) or np.max(np.abs(plan[kept] - want)) < 1e-12
    assert not plan[3].any()
    assert not plan[:, [0, 7]].any()
    f, g = got.potentials
    soft = -0.02 * np.log(np.sum(b * np.exp((g - cost[3]) / 0.02)))
    assert abs(f[3] - soft) < 1e-10
    # a point that is split in two takes the same mass
    split = np.concatenate([cost, cost[5:6]])
    halves = np.append(a, a[5] / 2)
    halves[5] /= 2
    merged = plan_of(sinkhorn(split, halves, b, reg=0.02, tol=1e-10))
    assert np.max(np.abs(merged[5] + merged[-1] - plan[5])) < 1e-11


@pytest.mark.parametrize("rho", [1e-2, 1.0, 100.0, (0.5, 2.0), (math.inf, 0.3), (0.3, math.inf)])
@pytest.mark.parametrize("method", ["scaling", "log"])
@pytest.mark.parametrize("reg", [0.1, 1e-2, 1e-3])
def test_unbalanced_optimality(rho, method, reg):
    problem = make_transport("cloud2d", 40, 30, rng=0)
    cost, a, b = problem.cost, 1.3 * problem.a, problem.b if math.inf not in np.atleast_1d(rho) else 1.3 * problem.b
    got = sinkhorn(cost, a, b, reg=reg, unbalanced=rho, method=method, tol=1e-10)
    assert got.success, got
    f, g = got.potentials
    p = plan_of(got)
    rho_a, rho_b = np.broadcast_to(rho, 2)
    assert np.allclose(p.sum(axis=1), a * np.exp(-f / rho_a), rtol=1e-8, atol=1e-12)
    assert np.allclose(p.sum(axis=0), b * np.exp(-g / rho_b), rtol=1e-8, atol=1e-12)
    assert 0.0 <= got.gap <= 1e-9


def test_infinite_penalty_is_the_constraint():
    problem = make_transport("cloud2d", 30, rng=0)
    hard = sinkhorn(*problem[:3], reg=0.01, tol=1e-10)
    soft = sinkhorn(*problem[:3], reg=0.01, unbalanced=math.inf, tol=1e-10)
    assert np.array_equal(plan_of(hard), plan_of(soft))
    strong = sinkhorn(*problem[:3], reg=0.01, unbalanced=1e9, tol=1e-10)
    assert np.max(np.abs(plan_of(hard) - plan_of(strong))) < 1e-8
    weak = sinkhorn(*problem[:3], reg=0.01, unbalanced=1e-9, tol=1e-8)
    assert np.max(np.abs(plan_of(weak) - problem.a[:, None] * problem.b * np.exp(-problem.cost / 0.01))) < 1e-8


def test_starting_points():
    problem = make_transport("cloud2d", 60, rng=0)
    first = sinkhorn(*problem[:3], reg=0.02)
    near = sinkhorn(*problem[:3], reg=0.019, init=first.potentials)
    assert near.nit < sinkhorn(*problem[:3], reg=0.019).nit
    assert sinkhorn(*problem[:3], reg=0.019, init=first).nit == near.nit  # a result of another problem: its potentials
    assert sinkhorn(*problem[:3], reg=0.02, init=first.potentials[1]).nit <= 1
    more = sinkhorn(*problem[:3], reg=0.02, init=first, tol=1e-9)
    assert more.nit > first.nit
    assert more.counts["passes"] < 2 * first.counts["passes"] + 20
    with pytest.raises(ValueError, match="`init`"):
        sinkhorn(*problem[:3], reg=0.02, init=np.zeros(3))


@pytest.mark.parametrize("method", ["scaling", "log"])
def test_resume_through_the_path_is_bitwise(method, tmp_path):
    problem = make_transport("grid", 40, rng=0)
    options = {"reg": 1e-4, "method": method, "tol": None}
    whole = sinkhorn(*problem[:3], **options, maxiter=90)
    parts = sinkhorn(*problem[:3], **options, maxiter=23)
    for n in (1, 30, 36):
        parts = sinkhorn(*problem[:3], **options, maxiter=n, init=parts)
    assert whole.nit == parts.nit == 90
    assert all(np.array_equal(u, v) for u, v in zip(whole.potentials, parts.potentials, strict=True))
    file = tmp_path / "run.npz"
    sinkhorn(*problem[:3], **options, maxiter=50, checkpoint=file)
    saved = sinkhorn(*problem[:3], **options, maxiter=90, checkpoint=file)
    assert all(np.array_equal(u, v) for u, v in zip(whole.potentials, saved.potentials, strict=True))


@pytest.mark.parametrize("method", ["scaling", "log"])
def test_threads_do_not_change_a_bit(method):
    problem = make_transport("cloud2d", 600, rng=0)
    found = []
    for threads in (1, 2):
        with optlib.config(threads=threads):
            found.append(sinkhorn(*problem[:3], reg=0.05, method=method, tol=None, maxiter=12))
    assert all(np.array_equal(u, v) for u, v in zip(found[0].potentials, found[1].potentials, strict=True))


def test_clouds_take_little_memory():
    import tracemalloc

    rng = np.random.default_rng(0)
    cloud = PointCloud(rng.random((4000, 2)), rng.random((4000, 2)))
    sinkhorn(cloud, reg=0.1, tol=None, maxiter=2)
    tracemalloc.start()
    got = sinkhorn(cloud, reg=0.1, tol=None, maxiter=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "log form" in got.message
    assert peak < 0.1 * 8 * 4000**2


def test_float32_uses_double_potentials_where_it_must():
    problem = make_transport("cloud2d", 60, rng=0)
    cost, a, b = (u.astype(np.float32) for u in problem[:3])
    for reg, dtype in ((0.1, np.float32), (1e-3, np.float64)):
        got = sinkhorn(cost, a, b, reg=reg)
        assert got.success, got
        assert got.state.g.dtype == dtype
        assert got.potentials[1].dtype == np.float32
    assert sinkhorn(cost, a, b, reg=0.1, tol=1e-6).state.g.dtype == np.float64
