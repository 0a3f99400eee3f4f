import gc
import math
import tracemalloc
from copy import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import kl_div

from optlib.backend import to_numpy
from optlib.transport import PointCloud, passes, sinkhorn
from optlib.transport._problem import prepare
from optlib.transport.certificates import certify
from tests.transport.strategies import REGS, linear_program, problems, spread
from tests.transport.test_plan import dense, potentials, soft

SWEEPS = st.sampled_from([0, 1, 3, 30, 100])


def objective(cost, a, b, eps, p, rho=(math.inf, math.inf)):
    value = (cost * p).sum() + eps * kl_div(p, np.outer(a, b)).sum()
    for strength, marginal, wanted in zip(rho, (p.sum(1), p.sum(0)), (a, b), strict=True):
        if not math.isinf(strength):
            value += strength * kl_div(marginal, wanted).sum()
    return value


@given(problems(zeros=False), REGS, SWEEPS, st.sampled_from([1.0, 1e-2, 1e-6, 1e-9, 1e-13]))
def test_what_is_proven_holds(problem, reg, sweeps, tol):
    """An answer that puts its certificate off has one that holds, and the same plan."""
    cost, a, b = problem
    eps, checked = reg * spread(cost), prepare(cost, a, b)
    _, g = potentials(cost, a, b, eps, sweeps)
    got = certify(checked, eps, g, tol=tol, swept=passes.sweep(checked.cost, g, checked.a, checked.b, eps))
    want = certify(checked, eps, g, tol=tol)
    assert all(np.array_equal(u, v) for u, v in zip(got["potentials"], want["potentials"], strict=True))
    if "later" in got:
        assert got["later"]()["certificate"] == want["certificate"]
        assert want["certificate"].holds
    else:
        assert got["certificate"] == want["certificate"]


def test_fields_computed_later():
    """A result whose bounds are computed when they are asked for is otherwise like any other."""
    rng = np.random.default_rng(0)
    cost = rng.random((20, 30))

    def solved():
        return sinkhorn(cost, reg=0.1)

    assert "_later" in vars(solved())  # the case that the rest is about
    want = solved().gap
    assert 0 <= want <= 1e-6
    assert solved()["gap"] == solved().get("gap") == dict(solved())["gap"] == copy(solved()).gap == want
    assert "gap" in solved()
    assert "gap" in solved().keys()  # noqa: SIM118 - the method is what is tested
    assert len(solved()) == len(list(solved())) == len(solved().items())
    assert "duality gap" in str(solved())
    assert solved().get("nothing") is None
    with pytest.raises(AttributeError):
        _ = solved().nothing


def test_a_result_keeps_no_kernel():
    """What is computed later needs vectors and the cost, which is the user's."""
    cost = np.random.default_rng(0).random((300, 300))
    sinkhorn(cost, reg=0.1)  # imports and compiled code
    tracemalloc.start()
    result = sinkhorn(cost, reg=0.1)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert result.deferred
    assert kept < 0.5 * cost.nbytes


@given(problems(), REGS, SWEEPS)
def test_balanced_bounds(problem, reg, sweeps):
    """dual <= optimum <= objective of the rounded plan <= value, and the linear program within its bounds."""
    cost, a, b = problem
    eps = reg * spread(cost)
    _, g = potentials(cost, a, b, eps, sweeps)
    got = certify(prepare(cost, a, b), eps, g, tol=1e-6)
    f, g = got["potentials"]
    mass, size = a.sum(), np.abs(cost).max() + np.abs(f[a > 0]).max() + np.abs(g[b > 0]).max() + eps
    noise = 1e-14 * mass * size * (1 + np.abs(cost).max() / eps)

    assert got["gap"] >= 0
    assert got["value"] == got["fun"] == got["dual_value"] + got["gap"]
    rounded = got["plan"].rounded().toarray()
    assert objective(cost, a, b, eps, rounded) <= got["value"] + noise
    p = dense(cost, a, b, f, g, eps)
    assert abs((f * a).sum() - (g * b).sum()) <= 1e-12 * mass * size
    dual = (f * a).sum() + (g * b).sum() - eps * (p.sum() - mass**2)
    assert abs(dual - got["dual_value"]) <= noise
    assert abs((cost * p).sum() - got["value_linear"]) <= noise
    error = np.abs(p.sum(1) - a).sum() + np.abs(p.sum(0) - b).sum()
    assert abs(error - got["marginal_error"]) <= noise / size

    low, high = got["lp_bounds"]
    exact = linear_program(cost, a, b)
    solver = 1e-9 * mass * spread(cost)  # feasibility tolerance of HiGHS
    assert low <= exact + solver
    assert exact <= high + solver
    assert abs((cost * rounded).sum() - high) <= noise + 2 * got["marginal_error"] * 1e-9 * size
    # the scale: gap <= (residual / 2) (2 range + eps (1 + 2 log(2 / residual)))
    r = got["certificate"].residual
    if sweeps > 0 and 0 < r <= 1:
        bound = r * mass * (np.ptp(cost) + eps * (0.5 + math.log(2 / r)))
        assert got["gap"] <= bound + noise


@given(problems(zeros=False), st.sampled_from([0.1, 1.0, 10.0]))
def test_gap_encloses_the_optimum(problem, reg):
    cost, a, b = problem
    eps = reg * spread(cost)
    _, g = potentials(cost, a, b, eps, 2)
    rough = certify(prepare(cost, a, b), eps, g, tol=None)
    _, g = potentials(cost, a, b, eps, 500)
    best = certify(prepare(cost, a, b), eps, g, tol=1e-9)
    assert best["certificate"].holds
    assert rough["dual_value"] <= best["value"]
    assert best["dual_value"] <= rough["value"]


@pytest.mark.parametrize("rho", [(1.0, 1.0), (0.1, 5.0), (math.inf, 0.5), (0.5, math.inf)])
@given(problem=problems(), reg=st.sampled_from([0.01, 0.1, 1.0]), sweeps=SWEEPS)
def test_penalised_bounds(rho, problem, reg, sweeps):
    cost, a, b = problem
    b = 1.3 * b
    eps = reg * spread(cost)
    rho = tuple(r * spread(cost) for r in rho)
    lam = [1.0 if math.isinf(r) else r / (r + eps) for r in rho]

    def relax(g, times):
        for _ in range(times):
            f = lam[0] * soft(cost, g, b, eps)
            g = lam[1] * soft(cost.T, f, a, eps)
        return g

    start = np.zeros(len(b))
    got = certify(prepare(cost, a, b, unbalanced=rho), eps, relax(start, sweeps), tol=1e-6)
    best = certify(prepare(cost, a, b, unbalanced=rho), eps, relax(start, 300), tol=1e-6)
    p, (f, g) = got["plan"].toarray(), got["potentials"]
    size = abs(got["value"]) + np.abs(cost).max()
    noise = 1e-14 * size * (1e3 + np.abs(cost).max() / eps)
    assert got["lp_bounds"] is None
    assert abs(objective(cost, a, b, eps, p, rho) - got["value"]) <= noise * (1 + got["gap"])
    assert got["gap"] >= 0
    assert got["dual_value"] <= best["value"] + noise
    assert best["dual_value"] <= got["value"] + noise
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()
    wanted = [w if math.isinf(r) else w * np.exp(-u / r) for w, u, r in zip((a, b), (f, g), rho, strict=True)]
    error = np.abs(p.sum(1) - wanted[0]).sum() + np.abs(p.sum(0) - wanted[1]).sum()
    assert abs(error - got["marginal_error"]) <= noise / size * p.sum()


def test_a_converged_certificate_holds(backend, engine):
    rng = np.random.default_rng(3)
    x, y = rng.random((9, 2)), rng.random((7, 2))
    a, b = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(7))
    a[2] = b[3] = 0.0
    a, b = a / a.sum(), b / b.sum()
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    _, g = potentials(cost, a, b, 0.1, 200)
    cloud = PointCloud(backend.asarray(x), backend.asarray(y))
    tol = 1e-8 if backend.is_double else 1e-4
    got = certify(prepare(cloud, backend.asarray(a), backend.asarray(b)), 0.1, backend.asarray(g), tol=tol)
    assert got["certificate"].holds
    assert got["gap"] <= 1e-13 if backend.is_double else 1e-4
    for value in (*got["potentials"], got["plan"] @ backend.asarray(b)):
        assert value.dtype == backend.dtype
        assert np.isfinite(to_numpy(value)).all()
    exact = linear_program(cost, a, b)
    low, high = got["lp_bounds"]
    assert low - 1e-6 <= exact <= high + 1e-6


def test_any_potential_gives_true_bounds():
    rng = np.random.default_rng(0)
    cost, a, b = rng.random((6, 5)), rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5))
    exact = linear_program(cost, a, b)
    for size in (0.1, 10.0, 1000.0):
        got = certify(prepare(cost, a, b), 0.01, size * rng.standard_normal(5), tol=1e-6)
        assert got["lp_bounds"][0] <= exact <= got["lp_bounds"][1]
        assert got["dual_value"] <= got["value"]
        assert not got["certificate"].holds


def test_float32_is_certified_in_float64():
    rng = np.random.default_rng(0)
    cost = rng.random((40, 30)).astype(np.float32)
    a, b = (np.full(n, 1 / n, dtype=np.float32) for n in cost.shape)
    _, g = potentials(cost.astype(float), a.astype(float), b.astype(float), 0.1, 300)
    got = certify(prepare(cost, a, b), 0.1, g.astype(np.float32), tol=1e-4)
    exact = linear_program(cost.astype(float), np.full(40, 1 / 40), np.full(30, 1 / 30))
    assert got["lp_bounds"][0] <= exact <= got["lp_bounds"][1]
    assert 0 <= got["gap"] <= 1e-5
    assert got["potentials"][0].dtype == np.float32
    # the float32 potentials cannot do better than this
    assert 1e-8 < got["certificate"].residual < 1e-4


def test_masses_scale_through():
    rng = np.random.default_rng(1)
    cost, a, b = rng.random((5, 4)), rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(4))
    _, g = potentials(cost, a, b, 0.1, 5)
    for mass in (1e-150, 1e150):
        got = certify(prepare(cost, mass * a, mass * b), 0.1, g, tol=1e-6)
        assert all(np.isfinite(v) for v in (got["gap"], got["value"], *got["lp_bounds"]))
        exact = linear_program(cost, a, b) * mass
        assert got["lp_bounds"][0] <= exact * (1 + 1e-9)
        assert exact <= got["lp_bounds"][1] * (1 + 1e-9)
