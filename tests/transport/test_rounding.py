import numpy as np
import pytest
from hypothesis import given

from optlib.backend import to_numpy
from optlib.testing import assert_close, check_adjoint
from optlib.transport import DenseCost, EntropicPlan, round_plan
from tests.transport.strategies import REGS, problems, spread
from tests.transport.test_plan import dense, example, potentials


def altschuler(p, a, b):
    """Algorithm 2 of Altschuler, Weed and Rigollet on an array."""
    r = p.sum(1)
    x = np.minimum(1.0, np.divide(a, r, out=np.ones_like(a), where=r > 0))
    c = (x[:, None] * p).sum(0)
    y = np.minimum(1.0, np.divide(b, c, out=np.ones_like(b), where=c > 0))
    q = x[:, None] * p * y
    ea, eb = a - q.sum(1), b - q.sum(0)
    return q + (np.outer(ea, eb) / np.abs(ea).sum() if np.abs(ea).sum() > 0 else 0.0)


@given(problems(), REGS)
def test_rounded_plans_have_the_marginals(problem, reg):
    cost, a, b = problem
    eps = reg * spread(cost)
    f, g = potentials(cost, a, b, eps, sweeps=1)
    f = f + 0.3 * eps * np.cos(np.arange(len(a)))  # neither rows nor columns are right
    p = dense(cost, a, b, f, g, eps)
    rounded = EntropicPlan(DenseCost(cost), a, b, f, g, eps).rounded()
    r = rounded.toarray()
    error = 1e-15 * a.sum() * (10 + np.abs(cost).max() / eps)  # entries carry the error of their exponents
    assert (r >= 0).all()
    assert np.abs(r.sum(1) - a).max() <= error
    assert np.abs(r.sum(0) - b).max() <= error
    moved = np.abs(p.sum(1) - a).sum() + np.abs(p.sum(0) - b).sum()
    assert np.abs(r - p).sum() <= 2 * moved + error
    assert np.abs(r - altschuler(p, a, b)).max() <= 10 * error


@pytest.mark.parametrize("zero", [False, True])
def test_rounded_plans_are_plans(backend, zero):
    plan, _, (_, y) = example(backend, zero=zero)
    plan = EntropicPlan(plan.cost, plan.a, plan.b, plan.f + 0.3, plan.g, plan.reg)
    rounded = round_plan(plan)
    array = to_numpy(rounded.toarray())
    tol = {"rtol": 1e-10 if backend.is_double else 1e-4, "atol": 1e-14 if backend.is_double else 1e-7}
    v, u = np.linspace(-1, 1, 4), np.linspace(1, 2, 5)
    assert_close(rounded @ backend.asarray(v), backend.asarray(array @ v), **tol)
    assert_close(rounded.T @ backend.asarray(u), backend.asarray(array.T @ u), **tol)
    assert_close(rounded.T.toarray(), backend.asarray(array.T), **tol)
    assert_close(rounded[1:3], backend.asarray(array[1:3]), **tol)
    assert_close(rounded.sum(0), plan.b, **tol)
    assert_close(rounded.sum(1), plan.a, **tol)
    check_adjoint(rounded, like=backend.asarray([0.0]))
    mapped = to_numpy(rounded.barycentric(backend.asarray(y)))
    full = array.sum(1) > 0
    assert np.isfinite(mapped).all()
    assert np.allclose(mapped[full], (array @ y)[full] / array.sum(1)[full, None], rtol=1e-3)
    again = round_plan(rounded)
    assert_close(again.toarray(), rounded.toarray(), rtol=1e-4, atol=1e-7)


def test_unequal_masses_are_refused():
    cost, a, b = np.ones((2, 2)), np.ones(2), 2 * np.ones(2)
    with pytest.raises(ValueError, match="`plan`: got marginals of mass 2 and 4"):
        EntropicPlan(DenseCost(cost), a, b, a, b, 1.0).rounded()
