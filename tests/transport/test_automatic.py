"""`solve` begins with Sinkhorn iterations and hands over to Newton steps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib._core import Status
from optlib.datasets import make_transport
from optlib.transport import PointCloud, solve
from optlib.transport._automatic import PROBE
from tests.transport.strategies import problems, spread
from tests.transport.test_sinkhorn import plan_of


def test_easy_problems_stay_with_sinkhorn():
    got = solve(*make_transport("cloud2d", 60, rng=0)[:3], reg=0.05)
    assert got.method == "sinkhorn"
    assert got.success


def test_slow_problems_are_handed_over():
    problem = make_transport("cloud2d", 100, rng=0)
    got = solve(*problem[:3], reg=1e-5, tol=1e-9)
    assert got.success, got
    assert got.method == "sinkhorn_newton"
    assert "Sinkhorn iterations, Newton steps" in got.message
    assert got.history["nit"][-1] == got.nit
    assert got.nit < 400
    assert got.counts["passes"] > got.state.sinkhorn.passes


@pytest.mark.parametrize("reg", [1e-2, 1e-4])
@pytest.mark.parametrize("unbalanced", [None, 0.5, (math.inf, 0.1)])
def test_resume_is_bitwise_across_the_hand_over(reg, unbalanced, tmp_path):
    problem = make_transport("grid", 50, rng=0)
    options = {"reg": reg, "unbalanced": unbalanced, "tol": 0.0}  # never reached: handed over at the first look
    whole = solve(*problem[:3], **options, maxiter=150)
    assert whole.method == "sinkhorn_newton"
    first = whole.state.sinkhorn.nit
    assert first % PROBE == 0 or whole.state.sinkhorn.levels > 1
    parts = solve(*problem[:3], **options, maxiter=first - 3)
    for n in (2, 1, 1, 5, 10):
        parts = solve(*problem[:3], **options, maxiter=n, init=parts)
    rest = solve(*problem[:3], **options, maxiter=first + 16)
    assert parts.nit == rest.nit == first + 16
    assert all(np.array_equal(u, v) for u, v in zip(parts.potentials, rest.potentials, strict=True))
    file = tmp_path / "run.npz"
    for n in (first - 1, first + 4, first + 16):
        saved = solve(*problem[:3], **options, maxiter=n, checkpoint=file)
    assert all(np.array_equal(u, v) for u, v in zip(saved.potentials, rest.potentials, strict=True))


def test_a_result_starts_another_problem():
    problem = make_transport("clustered", 60, rng=0)
    for reg in (0.05, 1e-5):
        first = solve(*problem[:3], reg=reg)
        near = solve(*problem[:3], reg=0.9 * reg, init=first)
        assert near.success
        assert near.nit <= solve(*problem[:3], reg=0.9 * reg).nit
        assert solve(*problem[:3], reg=reg, init=first).nit == first.nit
    halted = solve(*problem[:3], reg=1e-5, maxiter=7)
    assert halted.status is Status.MAXITER
    assert solve(*problem[:3], reg=1e-5, init=halted).success


def test_clouds_are_handed_over_without_a_matrix():
    rng = np.random.default_rng(0)
    x, y = rng.random((120, 2)), rng.random((100, 2))
    got = solve(PointCloud(x, y), reg=1e-5, tol=1e-9)
    assert got.method == "sinkhorn_newton"
    assert got.success
    want = solve(PointCloud(x, y).toarray(), reg=1e-5, tol=1e-9)
    assert np.max(np.abs(plan_of(got) - plan_of(want))) < 1e-9


@given(
    problems(),
    st.sampled_from([1e-1, 1e-3, 1e-5]),
    st.sampled_from([1e-2, 1.0, 100.0, (math.inf, 0.3), (0.3, math.inf)]),
)
def test_penalised_answers_are_certified(problem, reg, rho):
    cost, a, b = problem
    unit = spread(cost)
    rho = tuple(r * unit for r in rho) if isinstance(rho, tuple) else rho * unit
    tol = max(1e-10, 4e-15 * np.abs(cost).max() / (reg * unit))
    got = solve(cost, a, b, reg=reg * unit, unbalanced=rho, tol=tol)
    assert got.success, got
    plan = plan_of(got)
    assert np.isfinite(plan).all()
    assert plan.sum() > 0.0
