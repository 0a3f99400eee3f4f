"""The network simplex: against linear programs, the conditions of optimality, laws, and extreme data."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optlib
from optlib import testing
from optlib._core import Status
from optlib.backend import array_namespace, device_of, to_numpy
from optlib.transport import DenseCost, PointCloud, SparsePlan, _host_cost, _simplex, emd, sinkhorn
from tests.transport.strategies import linear_program, problems


def random_problem(n, m, seed=0, kind="cloud", weights="random"):
    rng = np.random.default_rng(seed)
    if kind == "cloud":
        x, y = rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) + 0.5
        cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    else:
        cost = rng.random((n, m))
    if weights == "uniform":
        return cost, np.full(n, 1 / n), np.full(m, 1 / m)
    return cost, rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


def assert_optimal(result, cost, a, b, rtol=1e-13):
    """Marginals, dual feasibility and complementary slackness of every arc, and a basic plan."""
    p, (f, g) = result.plan.toarray(), result.potentials
    size, mass = np.abs(cost).max(), a.sum()
    assert result.success, result
    assert p.min() >= 0
    assert np.abs(p.sum(1) - a).sum() + np.abs(p.sum(0) - b).sum() <= 1e-13 * mass
    reduced = cost - f[:, None] - g
    assert reduced.min() >= -rtol * size
    assert np.all(reduced[p > 0] <= 10 * rtol * size)
    assert np.count_nonzero(p) <= len(a) + len(b) - 1
    assert abs(f @ a - g @ b) <= 1e-12 * mass * size
    assert math.isclose(result.value, (p * cost).sum(), rel_tol=1e-13, abs_tol=1e-15 * mass * size)
    assert result.lp_bounds[0] <= result.lp_bounds[1]
    assert result.gap == result.certificate.value
    assert abs(result.value - result.dual_value) <= result.gap
    return result


@given(problems())
def test_it_solves_the_linear_program(problem):
    cost, a, b = problem
    got = assert_optimal(emd(cost, a, b), cost, a, b)
    want = linear_program(cost, a, b)
    assert abs(got.value - want) <= 1e-8 * a.sum() * np.abs(cost).max()  # the accuracy of HiGHS
    assert got.lp_bounds[0] <= want + 1e-8 * a.sum() * np.abs(cost).max()


@pytest.mark.parametrize("kind", ["cloud", "uniform"])
@pytest.mark.parametrize("weights", ["uniform", "random"])
@pytest.mark.parametrize("shape", [(200, 200), (160, 300), (7, 400)])
def test_larger_problems_with_a_sample(kind, weights, shape):
    cost, a, b = random_problem(*shape, kind=kind, weights=weights)
    got = assert_optimal(emd(cost, a, b), cost, a, b)
    assert got.counts["pivots"] == got.nit
    assert got.counts["passes"] <= 12
    assert got.history["stop"][-1] <= 1e-12
    if shape[0] == shape[1] and weights == "uniform":
        assert got.plan.entries[0].size == shape[0]  # a permutation


@pytest.mark.peers
@pytest.mark.parametrize("n", [150, 400])
def test_pot_finds_the_same(n):
    ot = pytest.importorskip("ot")
    for kind in ("cloud", "uniform"):
        cost, a, b = random_problem(n, n + 20, seed=n, kind=kind)
        assert math.isclose(emd(cost, a, b).value, ot.emd2(a, b, cost), rel_tol=1e-12)


# -- degenerate, integer, small --


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
def test_integer_weights_give_an_integer_plan(seed, n, m):
    rng = np.random.default_rng(seed)
    cost, a, b = rng.integers(0, 4, (n, m)), rng.integers(0, 4, n), rng.integers(0, 4, m)
    a[0] += max(0, b.sum() - a.sum()) + 1
    b[0] += a.sum() - b.sum()
    got = assert_optimal(emd(cost, a, b), cost, a, b)
    p = got.plan.toarray()
    assert np.array_equal(p, np.round(p))
    assert np.array_equal(p.sum(1), a)
    assert np.array_equal(p.sum(0), b)


@pytest.mark.parametrize("n", [30, 200])
def test_ties_and_duplicates(n):
    rng = np.random.default_rng(n)
    a = np.full(n, 1 / n)
    for cost in (
        np.zeros((n, n)),
        np.full((n, n), -3.0),
        rng.integers(0, 2, (n, n)).astype(float),
        np.repeat(np.repeat(rng.random((n // 10, n // 10)), 10, 0), 10, 1),
        1.0 - np.eye(n),
        np.abs(np.arange(n)[:, None] - np.arange(n)).astype(float),
    ):
        assert_optimal(emd(cost, a, a), cost, a, a)


@pytest.mark.parametrize("n", [40, 300])
def test_machol_wien(n):
    cost = np.outer(np.arange(1.0, n + 1), np.arange(1.0, n + 1))
    for shuffle in (np.arange(n), np.random.default_rng(0).permutation(n)):
        got = assert_optimal(emd(cost[shuffle]), cost[shuffle], np.full(n, 1 / n), np.full(n, 1 / n))
        assert math.isclose(got.value, np.sum(np.arange(1, n + 1) * np.arange(n, 0, -1)) / n, rel_tol=1e-14)
        assert got.nit < 20 * n


def test_one_row_or_column():
    b = np.asarray([0.5, 0.0, 1.5])
    for cost, args in (([[3.0, 1.0, 2.0]], (None, b)), ([[3.0], [1.0], [2.0]], (b, None))):
        got = emd(cost, *args)
        assert got.nit == 0
        assert got.value == 4.5
        assert np.array_equal(got.plan.toarray().ravel(), b)
    assert emd([[7.0]], [3.0], [3.0]).value == 21.0
    assert emd(np.zeros((3, 1))).value == 0.0


# -- laws --


@given(problems(), st.integers(0, 2**32 - 1))
def test_laws(problem, seed):
    cost, a, b = problem
    n, m = cost.shape
    rng, size = np.random.default_rng(seed), a.sum() * np.abs(cost).max()
    want = emd(cost, a, b).value
    close = partial(math.isclose, rel_tol=1e-12, abs_tol=1e-13 * size)
    assert close(emd(cost.T, b, a).value, want)
    i, j = rng.permutation(n), rng.permutation(m)
    assert close(emd(cost[i][:, j], a[i], b[j]).value, want)
    assert close(emd(3.0 * cost, 2.0 * a, 2.0 * b).value, 6.0 * want)
    u, v = rng.random(n) * np.abs(cost).max(), rng.random(m) * np.abs(cost).max()
    assert close(emd(cost + u[:, None] + v, a, b).value, want + u @ a + v @ b)


@pytest.mark.parametrize("power", [-150, -30, -10, 10, 30, 150])
def test_the_scale_of_the_cost_does_not_matter(power):
    cost, a, b = random_problem(60, 50)
    scale = 2.0 ** round(power * math.log2(10))
    want, got = emd(cost, a, b), emd(cost * scale, a, b)
    assert got.value == want.value * scale
    assert got.nit == want.nit
    assert np.array_equal(got.plan.toarray(), want.plan.toarray())
    assert got.success


@pytest.mark.parametrize("power", [-290, -100, 100, 290])
def test_the_scale_of_the_weights_does_not_matter(power):
    cost, a, b = random_problem(30, 20)
    scale = 2.0 ** round(power * math.log2(10))
    want, got = emd(cost, a, b), emd(cost, scale * a, scale * b)
    assert got.value == want.value * scale
    assert got.success


def test_the_ends_of_the_range():
    rng = np.random.default_rng(0)
    cost, a = rng.random((40, 40)), rng.dirichlet(np.ones(40))
    want = emd(cost, a)
    for scale in (9e299, 1e-300):
        got = emd(cost * scale, a)
        assert got.success
        assert np.all(np.isfinite(got.potentials[0]))
        assert np.allclose(got.plan.toarray(), want.plan.toarray(), atol=1e-15)
    x = rng.normal(size=(30, 2))
    assert emd(PointCloud(1e149 * x, 1e149 * x[:20])).success
    assert emd(PointCloud(1e-150 * x, 1e-150 * x[:20]), np.full(30, 1e-310), np.full(20, 1.5e-310)).success
    cost[:, 3] = 1e200  # a column of forbidden pairs, but for its own row
    cost[5, 3] = 0.0
    a[5] = 0.5
    got = emd(cost, a / a.sum())
    assert got.success
    assert got.value < 1.0


def test_tiny_and_heavy_tailed_weights():
    rng = np.random.default_rng(1)
    cost = rng.random((40, 30))
    a, b = rng.dirichlet(np.full(40, 0.05)), rng.dirichlet(np.full(30, 0.05))
    a[:5], b[:5] = 1e-300, [1e-300, 1e-200, 1e-100, 1e-20, 5e-324]
    a, b = a / a.sum(), b / b.sum()
    got = assert_optimal(emd(cost, a, b), cost, a, b)
    mapped = got.plan.barycentric(rng.normal(size=(30, 2)))
    assert np.all(np.isfinite(mapped))


# -- zero weights --


@given(problems(zeros=True), st.booleans())
def test_zero_weights_change_nothing(problem, cloud):
    cost, a, b = problem
    rng = np.random.default_rng(0)
    rows, cols = rng.permutation(len(a) + 2)[: len(a)], rng.permutation(len(b) + 3)[: len(b)]
    wide = rng.random((len(a) + 2, len(b) + 3)) * np.abs(cost).max()
    wide[np.ix_(rows, cols)] = cost
    p, q = np.zeros(len(a) + 2), np.zeros(len(b) + 3)
    p[rows], q[cols] = a, b
    want, got = emd(cost, a, b), emd(wide, p, q)
    assert_optimal(got, wide, p, q)
    assert math.isclose(got.value, want.value, rel_tol=1e-12, abs_tol=1e-13 * a.sum() * np.abs(cost).max())
    empty = np.flatnonzero(p == 0)
    f, g = got.potentials
    positive = np.flatnonzero(q > 0)
    reduced = (wide - f[:, None] - g)[np.ix_(empty, positive)]
    assert np.abs(reduced.min(axis=1)).max() <= 1e-13 * np.abs(wide).max()  # as large as they can be
    y = rng.normal(size=(len(q), 2))
    where = got.plan.barycentric(y)
    assert np.allclose(where[empty], y[positive[reduced.argmin(axis=1)]])
    assert np.all(np.isfinite(got.plan.T.barycentric(rng.normal(size=len(p)))))


# -- costs that are not stored --


@pytest.mark.parametrize(
    ("cost", "p"), [("sqeuclidean", None), ("euclidean", None), ("lp", 1), ("lp", 1.5), ("cosine", None), ("fun", None)]
)
@pytest.mark.parametrize("stored", [True, False])
def test_point_clouds_are_like_their_matrices(cost, p, stored, monkeypatch):
    if not stored:
        monkeypatch.setattr(_host_cost, "STORED_BYTES", 100)
        monkeypatch.setattr(_host_cost, "CLOUD_BLOCK", 4000)
        monkeypatch.setattr("optlib.transport.cost.block_rows", lambda m, device: 30)
    rng = np.random.default_rng(0)
    a, b = rng.dirichlet(np.ones(170)), rng.dirichlet(np.ones(190))
    a[3] = b[5] = 0.0
    a, b = a / a.sum(), b / b.sum()

    def fun(x, y):
        return np.maximum(np.abs(x[:, :1] - y[:, 0]), np.abs(x[:, 1:2] - y[:, 1]))

    for d in (2, 9):
        x, y = rng.normal(size=(170, d)), rng.normal(size=(190, d))
        cloud = PointCloud(x, y, cost=fun if cost == "fun" else cost, p=p)
        matrix = cloud.toarray()
        got = assert_optimal(emd(cloud, a, b), matrix, a, b)
        assert math.isclose(got.value, emd(matrix, a, b).value, rel_tol=1e-13)


def test_rows_of_clouds_are_those_of_the_matrix(monkeypatch):
    monkeypatch.setattr(_host_cost, "STORED_BYTES", 0)
    rng = np.random.default_rng(0)
    for options in ({}, {"cost": "euclidean"}, {"cost": "lp", "p": 3}, {"cost": "cosine"}):
        cloud = PointCloud(rng.normal(size=(50, 3)), rng.normal(size=(60, 3)), **options)
        host = _host_cost.host_cost(cloud)
        rows, cols = rng.permutation(50)[:20], rng.permutation(60)[:30]
        for part, want in (
            (host, cloud.toarray()),
            (host.take(rows, cols), cloud.toarray()[rows][:, cols]),
            (host.take(None, cols), cloud.toarray()[:, cols]),
        ):
            got = np.concatenate([block for _, block in part.blocks()])
            assert np.allclose(got, want, rtol=1e-13, atol=1e-13)
            i, j = np.indices(want.shape).reshape(2, -1)
            assert np.allclose(part.pairs(i, j), want[i, j], rtol=1e-13, atol=1e-13)


def test_layouts_and_dtypes():
    cost, a, b = random_problem(30, 20)
    want = emd(cost, a, b)
    for same in (np.asfortranarray(cost), cost.tolist(), DenseCost(cost), np.repeat(cost, 2, axis=1)[:, ::2]):
        assert emd(same, a, b).value == want.value
    single = emd(cost.astype(np.float32), a.astype(np.float32), b.astype(np.float32))
    assert single.success
    assert single.plan.toarray().dtype == single.potentials[0].dtype == np.float32
    assert math.isclose(single.value, want.value, rel_tol=1e-6)
    assert math.isclose(emd(np.arange(6).reshape(2, 3)).value, 2.5)


@pytest.mark.parametrize(("cost", "p"), [("sqeuclidean", None), ("euclidean", None), ("lp", 1), ("lp", 2.5)])
@pytest.mark.parametrize("shape", [(200, 200), (200, 130), (1, 9)])
@pytest.mark.parametrize("weights", ["uniform", "random"])
def test_the_line_starts_from_the_monotone_coupling(cost, p, shape, weights):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape[0]), rng.normal(size=shape[1]) + 1
    _, a, b = random_problem(*shape, weights=weights)
    cloud = PointCloud(x, y, cost=cost, p=p)
    got = assert_optimal(emd(cloud, a, b), cloud.toarray(), a, b)
    assert "monotone coupling" in got.message
    assert got.nit <= 5
    power = p or {"sqeuclidean": 2, "euclidean": 1}[cost]
    assert math.isclose(got.value, optlib.transport.wasserstein_1d(x, y, a, b, p=power), rel_tol=1e-12)
    concave = emd(PointCloud(x, y, cost="lp", p=0.5), a, b)
    assert concave.success
    assert "monotone" not in concave.message


# -- the run --


def test_interrupted_and_resumed_at_any_pivot():
    cost, a, b = random_problem(170, 160)
    whole = emd(cost, a, b, tol=None)
    assert whole.status is Status.CONVERGED
    for cuts in ((1,), (7, 100), (whole.nit // 2,), (whole.nit,), (whole.nit + 1,)):
        part = None
        for k in cuts:
            part = emd(cost, a, b, tol=None, maxiter=k, init=part)
        part = emd(cost, a, b, tol=None, init=part)
        assert part.nit == whole.nit
        assert np.array_equal(part.state.parent, whole.state.parent)
        assert all(np.array_equal(u, v) for u, v in zip(part.x, whole.x, strict=True))
    by_blocks = emd(cost, a, b, tol=None, check_every=13)
    assert np.array_equal(by_blocks.x[0], whole.x[0])
    assert by_blocks.history["nit"][:3] == [0, 13, 26]


def test_stopped_runs_prove_what_they_have():
    cost, a, b = random_problem(100, 90)
    want = emd(cost, a, b)
    gaps = []
    for k in (0, 10, 100, 300):
        got = emd(cost, a, b, maxiter=k)
        assert not got.success
        assert got.lp_bounds[0] <= want.value <= got.lp_bounds[1]
        assert (cost - got.potentials[0][:, None] - got.potentials[1]).min() >= -1e-13 * cost.max()
        gaps.append(got.gap)
    assert gaps[-1] < gaps[0]
    rough = emd(cost, a, b, tol=1e-3, check_every=20)
    assert rough.success
    assert 0 < rough.nit < want.nit
    assert rough.gap <= 1e-3 * cost.max()


def test_checkpoints(tmp_path):
    cost, a, b = random_problem(60, 50)
    path = tmp_path / "state.npz"
    emd(cost, a, b, maxiter=40, checkpoint=path)
    got = emd(cost, a, b, checkpoint=path)
    assert np.array_equal(got.x[0], emd(cost, a, b).x[0])
    with pytest.raises(ValueError, match="another problem"):
        emd(cost, b=b, checkpoint=path)


def test_warm_start():
    cost, a, b = random_problem(300, 300)
    first = emd(cost, a, b)
    near = cost * (1 + 1e-3 * np.random.default_rng(0).random(cost.shape))
    cold = emd(near, a, b)
    for init in (first, first.potentials, first.potentials[1]):
        warm = emd(near, a, b, init=init)
        assert_optimal(warm, near, a, b)
        assert math.isclose(warm.value, cold.value, rel_tol=1e-12)
        assert warm.nit < 0.7 * cold.nit
        assert "given potentials" in warm.message
    other = emd(cost, b, a, init=first)  # other weights, too
    assert math.isclose(other.value, emd(cost, b, a).value, rel_tol=1e-12)
    assert emd(cost, a, b, init=first).nit == first.nit
    rough = sinkhorn(cost, a, b, reg=0.01 * cost.max())
    assert math.isclose(emd(cost, a, b, init=rough).value, first.value, rel_tol=1e-12)
    cloud = PointCloud(np.random.default_rng(0).normal(size=(200, 2)), np.random.default_rng(1).normal(size=(200, 2)))
    start = emd(cloud)
    assert emd(cloud, init=start.potentials).nit < 0.7 * start.nit


def test_engines_agree():
    cost, a, b = random_problem(25, 20)
    want = emd(cost, a, b)
    with optlib.config(engine="generic"):
        got = emd(cost, a, b)
    assert got.nit == want.nit
    assert np.array_equal(got.state.parent, want.state.parent)
    assert np.allclose(got.plan.toarray(), want.plan.toarray(), atol=1e-16)


@pytest.mark.parametrize("weights", ["uniform", "thirds", "random"])
def test_the_tree_stays_strongly_feasible(weights):
    n = 42
    cost, a, b = random_problem(n, n, kind="uniform", weights="uniform" if weights == "thirds" else weights)
    if weights == "thirds":  # partial sums that differ by rounding errors
        a = np.repeat([1, 2, 4], n // 3) / (7 * n / 3)
    host = _host_cost.host_cost(DenseCost(cost))
    state, optimal = _simplex.start(host, _simplex.new_state(a, b)), False
    root = state.parent.size - 1
    columns = np.arange(n, 2 * n)
    while not optimal:
        state, optimal = _simplex.advance(host, state, 1)
        assert np.all(state.parent[columns] < root)
        assert np.all(state.flow[columns] > 0)
        assert np.all(state.flow >= 0)
        assert np.all(state.flow[:n][state.parent[:n] == root] == 0)


# -- backends and the plan --


def test_every_backend(backend):
    rng = np.random.default_rng(0)
    x, y, a = rng.normal(size=(30, 2)), rng.normal(size=(25, 2)), rng.dirichlet(np.ones(30))
    a[4] = 0.0
    a = a / a.sum()
    want = emd(PointCloud(x, y), a)
    for cost in (
        PointCloud(backend.asarray(x), backend.asarray(y)),
        backend.asarray(PointCloud(x, y).toarray()),
    ):
        got = emd(cost, backend.asarray(a))
        assert got.success, got
        assert ("on the CPU" in got.message) == (not backend.name.startswith("numpy"))
        assert math.isclose(got.value, want.value, rel_tol=backend.rtol)
        assert isinstance(got.value, float)
        plan, like = got.plan, backend.asarray(a)
        v, u = backend.asarray(rng.normal(size=(25, 3))), backend.asarray(rng.normal(size=30))
        dense, host = plan.toarray(), to_numpy(plan.toarray())
        for part in (dense, *got.potentials, plan.entries[2], plan @ v, plan.T @ u, plan.barycentric(v), plan[3:7]):
            assert array_namespace(part) is backend.xp
            assert part.dtype == like.dtype
            assert device_of(part) == device_of(like)
        assert np.allclose(host, want.plan.toarray(), atol=1e-6)
        testing.assert_close(plan @ v, host @ to_numpy(v), rtol=backend.rtol, atol=backend.rtol)
        testing.assert_close(plan.T @ u, host.T @ to_numpy(u), rtol=backend.rtol, atol=backend.rtol)
        testing.assert_close(plan.T.toarray(), host.T)
        testing.assert_close(plan[3:7], host[3:7])
        testing.assert_close(plan[-1], host[-1])
        testing.assert_close(plan[2:4, 5:9], host[2:4, 5:9])
        testing.assert_close(plan.sum(1), host.sum(1), rtol=backend.rtol)
        testing.assert_close(plan.sum(0), host.sum(0), rtol=backend.rtol)
        testing.check_adjoint(plan, like=like)


def test_sparse_plan():
    plan = emd([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0]], [2, 2], [2, 1, 1]).plan
    assert isinstance(plan, SparsePlan)
    assert "3 entries" in repr(plan)
    rows, cols, values = plan.entries
    assert rows.tolist() == [0, 1, 1]
    assert cols.tolist() == [0, 1, 2]
    assert values.tolist() == [2.0, 1.0, 1.0]
    assert plan.sum() == 4.0
    assert np.array_equal(plan.barycentric([1.0, 2.0, 4.0]), [1.0, 3.0])
    assert np.array_equal(plan.T.barycentric([[1.0], [2.0]]), [[1.0], [2.0], [2.0]])
    assert np.array_equal(plan[2:1], np.zeros((0, 3)))
    assert np.allclose(plan.rounded().toarray(), plan.toarray())
    moved = optlib.to_device(plan, "numpy")
    assert np.array_equal(moved.T.T.toarray(), plan.toarray())
