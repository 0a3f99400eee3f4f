"""Exact transport by falling regularisation: against the network simplex, and what it proves."""

import numpy as np
import pytest
from hypothesis import given

from optlib.backend import array_namespace, device_of
from optlib.datasets import make_transport
from optlib.testing import assert_close
from optlib.transport import PointCloud, emd, emd_entropic, solve
from tests.transport.strategies import problems


@given(problems())
def test_it_solves_the_linear_program(problem):
    cost, a, b = problem
    got, want = emd_entropic(cost, a, b), emd(cost, a, b)
    mass, size = a.sum(), np.abs(cost).max()
    assert got.success, got
    noise = 1e-13 * mass * size
    assert got.lp_bounds[0] - noise <= want.value <= got.lp_bounds[1] + noise
    assert got.lp_bounds[1] - got.lp_bounds[0] <= 1e-8 * mass * size
    p, (f, g) = got.plan.toarray(), got.potentials
    assert p.min() >= 0
    assert np.abs(p.sum(1) - a).sum() + np.abs(p.sum(0) - b).sum() <= 1e-12 * mass
    assert (cost * p).sum() <= got.value + noise
    assert (cost - f[:, None] - g)[np.ix_(a > 0, b > 0)].min() >= -1e-12 * size
    assert abs((f * a).sum() + (g * b).sum() - got.dual_value) <= 1e-11 * mass * size


@pytest.mark.parametrize("kind", ["cloud2d", "uniform", "clustered", "shifted"])
def test_larger_problems(kind):
    problem = make_transport(kind, 120, 100, rng=1)
    got, want = emd_entropic(problem.cost, problem.a, problem.b), emd(problem.cost, problem.a, problem.b)
    assert got.success
    assert abs(got.value - want.value) <= got.gap


def test_a_tighter_tolerance_takes_more_regularisations():
    problem = make_transport("cloud2d", 40, rng=0)
    loose, tight = (emd_entropic(problem.cost, problem.a, problem.b, tol=tol) for tol in (1e-3, 1e-9))
    assert loose.success
    assert tight.success
    assert loose.nit < tight.nit
    unreachable = emd_entropic(problem.cost, problem.a, problem.b, tol=1e-16)
    assert not unreachable.success
    assert unreachable.status.name == "STALLED"


def test_the_front_door_and_clouds():
    rng = np.random.default_rng(0)
    cloud = PointCloud(rng.random((20, 2)), rng.random((15, 2)))
    got = solve(cloud, method="emd_entropic")
    assert got.method == "emd_entropic"
    assert abs(got.value - emd(cloud).value) <= got.gap
    again = emd_entropic(cloud, init=got.potentials)
    assert again.success


def test_every_backend(backend):
    problem = make_transport("cloud2d", 8, 7, rng=0)
    data = tuple(backend.asarray(np.asarray(u)) for u in (problem.cost, problem.a, problem.b))
    got, want = emd_entropic(*data), emd(problem.cost, problem.a, problem.b)
    assert got.success, got
    plan = got.plan.toarray()
    assert array_namespace(plan) is backend.xp
    assert device_of(plan) == device_of(data[0])
    assert abs(got.value - want.value) <= got.gap + 10 * backend.eps
    assert_close(got.plan.sum(1), data[1], rtol=0, atol=100 * backend.eps)
