import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

import optlib
from optlib.backend import to_numpy
from optlib.testing import assert_close, check_adjoint
from optlib.transport import DenseCost, DensePlan, EntropicPlan, PointCloud, round_plan
from tests.transport.strategies import REGS, problems, spread


def soft(cost, g, b, eps):
    with np.errstate(divide="ignore"):
        return -eps * logsumexp((g - cost) / eps + np.log(b), axis=1)


def potentials(cost, a, b, eps, sweeps=3):
    g = np.zeros(cost.shape[1])
    for _ in range(sweeps):
        f = soft(cost, g, b, eps)
        g = soft(cost.T, f, a, eps)
    return soft(cost, g, b, eps), g


def dense(cost, a, b, f, g, eps):
    return a[:, None] * b * np.exp((f[:, None] + g - cost) / eps)


def example(backend, n=5, m=4, eps=0.5, zero=False):
    """A plan on a backend, and the same as a NumPy array."""
    rng = np.random.default_rng(n)
    x, y = rng.standard_normal((n, 2)), rng.standard_normal((m, 2))
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))
    if zero:
        a[1] = b[2] = 0.0
        a, b = a / a.sum(), b / b.sum()
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    f, g = potentials(cost, a, b, eps)
    cloud = PointCloud(backend.asarray(x), backend.asarray(y))
    plan = EntropicPlan(cloud, *(backend.asarray(v) for v in (a, b, f, g)), eps)
    return plan, dense(cost, a, b, f, g, eps), (x, y)


@pytest.mark.parametrize("zero", [False, True])
def test_operations_equal_those_of_the_array(backend, engine, zero):
    plan, p, _ = example(backend, zero=zero)
    rng = np.random.default_rng(0)
    tol = {"rtol": 1e-10 if backend.is_double else 1e-4, "atol": 1e-13 if backend.is_double else 1e-6}
    v, u, w = rng.standard_normal(4), rng.standard_normal(5), rng.standard_normal((4, 3))
    assert_close(plan.toarray(), backend.asarray(p), **tol)
    assert_close(plan.to_dense(), backend.asarray(p), **tol)
    assert_close(plan @ backend.asarray(v), backend.asarray(p @ v), **tol)
    assert_close(plan @ backend.asarray(w), backend.asarray(p @ w), **tol)
    assert_close(plan.T @ backend.asarray(u), backend.asarray(p.T @ u), **tol)
    assert_close(plan.T.toarray(), backend.asarray(p.T), **tol)
    assert_close(plan.sum(), backend.asarray(p.sum()), **tol)
    assert_close(plan.sum(0), backend.asarray(p.sum(0)), **tol)
    assert_close(plan.sum(axis=1), backend.asarray(p.sum(1)), **tol)
    assert_close(plan[2], backend.asarray(p[2]), **tol)
    assert_close(plan[-1], backend.asarray(p[-1]), **tol)
    assert_close(plan[1:3], backend.asarray(p[1:3]), **tol)
    assert_close(plan[3:, 1:2], backend.asarray(p[3:, 1:2]), **tol)
    assert_close(plan[4, 3], backend.asarray(p[4, 3]), **tol)
    assert_close((plan.T @ plan) @ backend.asarray(v), backend.asarray(p.T @ p @ v), **tol)
    check_adjoint(plan, like=backend.asarray([0.0]))


def test_barycentric_map(backend):
    plan, p, (x, y) = example(backend)
    rtol = 1e-9 if backend.is_double else 1e-3
    want = (p @ y) / p.sum(1, keepdims=True)
    assert_close(plan.barycentric(backend.asarray(y)), backend.asarray(want), rtol=rtol)
    assert_close(plan.barycentric(backend.asarray(y[:, 0])), backend.asarray(want[:, 0]), rtol=rtol)
    back = (p.T @ x) / p.sum(0)[:, None]
    assert_close(plan.T.barycentric(backend.asarray(x)), backend.asarray(back), rtol=rtol)


def test_sources_without_mass_are_mapped_too(backend):
    plan, p, (_, y) = example(backend, zero=True)
    got = to_numpy(plan.barycentric(backend.asarray(y)))
    assert np.isfinite(got).all()
    positive = p.sum(1) > 0
    want = (p @ y)[positive] / p.sum(1)[positive][:, None]
    assert np.allclose(got[positive], want, rtol=1e-3 if not backend.is_double else 1e-9)
    # the law of a source depends on its place, not on its weight
    kept = np.flatnonzero(~positive)[0]
    assert_close(
        got[[kept]],
        to_numpy(plan.at(backend.asarray(example(backend, zero=True)[2][0][[kept]])).barycentric(backend.asarray(y))),
        rtol=1e-3 if not backend.is_double else 1e-9,
    )


def test_stored_entries(backend):
    rng = np.random.default_rng(0)
    p = rng.random((5, 4))
    p[2] = 0.0
    a, b = p.sum(1) * 0.9, rng.dirichlet(np.ones(4)) * 0.9 * p.sum()
    plan = DensePlan(*(backend.asarray(u) for u in (p, a, b)))
    check_adjoint(plan, like=plan.array)
    tol = {"rtol": backend.rtol, "atol": backend.rtol}
    assert_close(plan.T[1:3], backend.asarray(p.T[1:3]), **tol)
    assert_close(plan.sum(1), backend.asarray(p.sum(1)), **tol)
    y = rng.random((4, 2))
    means = np.where((p.sum(1) > 0)[:, None], p @ y / np.maximum(p.sum(1), 1e-30)[:, None], b @ y / b.sum())
    assert_close(plan.barycentric(backend.asarray(y)), backend.asarray(means), **tol)
    assert_close(round_plan(plan).sum(0), backend.asarray(b), **tol)
    assert_close(optlib.to_device(plan, "numpy").toarray(), p, **tol)


def test_plan_at_other_sources(backend):
    plan, p, (x, y) = example(backend)
    rtol = 1e-9 if backend.is_double else 1e-3
    same = plan.at(backend.asarray(x))
    assert_close(same.toarray(), backend.asarray(p / p.sum(1, keepdims=True) / 5), rtol=rtol, atol=1e-7 * backend.rtol)
    assert_close(same.barycentric(backend.asarray(y)), plan.barycentric(backend.asarray(y)), rtol=rtol)
    assert plan.at([[0.0, 0.0]]).shape == (1, 4)
    back = plan.T.at(backend.asarray(y)).toarray()
    law = p.T / p.sum(0)[:, None] / 4
    assert np.allclose(to_numpy(back).sum(1), 0.25)
    assert to_numpy(back).shape == law.shape


@given(problems(), REGS)
def test_lazy_and_dense_costs_agree_with_the_formula(problem, reg):
    cost, a, b = problem
    eps = reg * spread(cost)
    f, g = potentials(cost, a, b, eps)
    plan = EntropicPlan(DenseCost(cost), a, b, f, g, eps)
    p = dense(cost, a, b, f, g, eps)
    assert_close(plan.toarray(), p, rtol=1e-9, atol=1e-300)
    assert_close(plan.sum(1), a, rtol=1e-9)
    assert (plan.toarray() >= 0).all()


@given(problems(), REGS, st.integers(0, 2**32 - 1))
def test_transposition_and_permutation(problem, reg, seed):
    cost, a, b = problem
    eps = reg * spread(cost)
    f, g = potentials(cost, a, b, eps)
    plan = EntropicPlan(DenseCost(cost), a, b, f, g, eps)
    assert_close(EntropicPlan(DenseCost(cost.T), b, a, g, f, eps).toarray(), plan.T.toarray(), rtol=1e-12, atol=0)
    rows = np.random.default_rng(seed).permutation(len(a))
    moved = EntropicPlan(DenseCost(cost).take(rows, None), a[rows], b, f[rows], g, eps)
    assert_close(moved.toarray(), plan.toarray()[rows], rtol=1e-12, atol=0)


def test_numpy_leaves_products_to_the_plan():
    plan = example_numpy()
    matrix = plan.toarray()
    assert_close(np.arange(5.0) @ plan, np.arange(5.0) @ matrix, rtol=1e-12)
    assert_close(np.arange(10.0).reshape(2, 5) @ plan, np.arange(10.0).reshape(2, 5) @ matrix, rtol=1e-12)
    with pytest.raises(TypeError, match=r"`c`: got an array of shape \(5, 4\).*to_dense"):
        plan * matrix
    with pytest.raises(TypeError, match=r"`c`: got an array of shape \(5, 4\).*to_dense"):
        matrix * plan


def test_what_users_of_matrices_do():
    plan = example_numpy()
    assert_close(np.asarray(plan), plan.toarray())
    assert np.asarray(plan, dtype=np.float32).dtype == np.float32
    assert_close(plan.sum(-1), plan.sum(1))
    assert_close(plan.sum(-2), plan.sum(0))
    with pytest.raises(ValueError, match="`axis`"):
        plan.sum(2)
    with pytest.raises(TypeError, match=r"`plan`: got ndarray; expected a transport plan.*result.plan"):
        round_plan(plan.toarray())


def example_numpy():
    cost = np.arange(20.0).reshape(5, 4) % 3
    a, b = np.full(5, 0.2), np.full(4, 0.25)
    return EntropicPlan(DenseCost(cost), a, b, *potentials(cost, a, b, 1.0), 1.0)


def test_to_device():
    pytest.importorskip("torch")
    plan = example_numpy()
    moved = optlib.to_device(plan, "torch")
    assert_close(to_numpy(moved.toarray()), plan.toarray(), rtol=1e-12)


def test_repr():
    assert repr(example_numpy()) == "EntropicPlan(5 x 4, float64)"
