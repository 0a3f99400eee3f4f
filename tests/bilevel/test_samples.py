"""Oracles on batches of samples: unbiased, the same on every backend, and in one pass."""

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from optlib.backend import array_namespace
from optlib.bilevel import CleaningProblem, CoshProblem, LogisticProblem, MultinomialProblem, Problem, RidgeProblem
from optlib.bilevel.problem import directions
from optlib.bilevel.single_loop import Batches
from optlib.linop import as_linear_operator
from optlib.testing import assert_close

MAKERS = {
    "ridge": lambda rng=0, like=None: RidgeProblem.random(rng=rng, like=like, intercept=True),
    "logistic": lambda rng=0, like=None: LogisticProblem.random(rng=rng, like=like),
    "multinomial": lambda rng=0, like=None: MultinomialProblem.random(12, rng=rng, like=like, intercept=True),
    "cleaning": lambda rng=0, like=None: CleaningProblem.random(12, rng=rng, like=like),
    "cosh": lambda rng=0, like=None: CoshProblem.random(4, n=12, rng=rng, like=like),
}


def point(problem, rng):
    return tuple(rng.normal(size=u.shape) for u in (*problem.start(), problem.start()[1]))


def everything(problem, x, y, q, idx=None):
    """All that a batch gives: values and gradients of both levels, directions."""
    more = () if idx is None else (idx,)
    return (*problem.inner(x, y, *more), *problem.outer(x, y, *more), *directions(problem, x, y, q, idx))


@pytest.mark.parametrize("name", MAKERS)
@given(seed=st.integers(0, 2**32 - 1))
def test_unbiased(name, seed, engine):
    """The mean over batches of equal size that cover all samples is what all samples give."""
    rng = np.random.default_rng(seed)
    problem = MAKERS[name](seed)
    x, y, q = point(problem, rng)
    parts = np.split(rng.permutation(12), 4)
    means = [np.mean(u, axis=0) for u in zip(*(everything(problem, x, y, q, part) for part in parts), strict=True)]
    for found, want in zip(means, everything(problem, x, y, q), strict=True):
        assert np.allclose(found, want, rtol=1e-9, atol=1e-9 * (1.0 + np.max(np.abs(want))))
    g, hq, cq = directions(problem, x, y, q, parts[0])
    local = problem.at(x, y, parts[0])
    for found, want in ((g, problem.inner(x, y, parts[0])[2]), (hq, local.hvp(q)), (cq, local.cross_vjp(q))):
        assert np.allclose(found, want, rtol=1e-9, atol=1e-9 * (1.0 + np.max(np.abs(want))))
    u = rng.normal(size=x.shape)
    assert np.isclose(np.sum(local.cross_jvp(u) * q), np.sum(cq * u), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MAKERS)
def test_backends(name, backend, engine):
    host, here = MAKERS[name](), MAKERS[name](like=backend.asarray([0.0]))
    x, y, q = point(host, np.random.default_rng(0))
    idx = np.array([3, 7, 1])
    rtol = 1e-11 if backend.is_double else 1e-4
    found = everything(here, *(backend.asarray(u) for u in (x, y, q)), backend.asarray(idx))
    for u, want in zip(found, everything(host, x, y, q, idx), strict=True):
        assert_close(u, backend.asarray(np.asarray(want)), rtol=rtol, atol=rtol * (1.0 + np.max(np.abs(want))))


@pytest.mark.parametrize("cls", [RidgeProblem, MultinomialProblem])
def test_sparse_designs(cls):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(12, 4)) * (rng.random((12, 4)) < 0.5)
    dense, sparse = (
        cls(M, np.arange(12.0) % 3, M, np.arange(12.0) % 3, intercept=True) for M in (A, scipy.sparse.csr_array(A))
    )
    x, y, q = point(dense, rng)
    idx = np.array([0, 5, 5, 2])
    for found, want in zip(everything(sparse, x, y, q, idx), everything(dense, x, y, q, idx), strict=True):
        assert np.allclose(found, want, rtol=1e-12)


def test_a_design_without_rows_is_refused():
    A = np.eye(3)
    design = as_linear_operator((lambda v: A @ v, lambda v: A.T @ v), shape=(3, 3))
    with pytest.raises(TypeError, match=r"`A`.*Function"):
        RidgeProblem(design, np.ones(3), A, np.ones(3)).inner(np.zeros(3), np.zeros(3), np.array([0]))


class Own(Problem):
    """A user's problem with products instead of a point."""

    n_inner = n_outer = 12

    def __init__(self, given):
        self.start, self.inner, self.outer = given.start, given.inner, given.outer
        self.hvp = lambda x, y, v, idx=None: given.at(x, y, idx).hvp(v)
        self.cross_vjp = lambda x, y, v, idx=None: given.at(x, y, idx).cross_vjp(v)

    at = None


def test_directions_of_own_problems():
    given_ = MAKERS["logistic"]()
    x, y, q = point(given_, np.random.default_rng(1))
    for idx in (None, np.array([2, 3])):
        for found, want in zip(directions(Own(given_), x, y, q, idx), directions(given_, x, y, q, idx), strict=True):
            assert np.allclose(found, want, rtol=1e-12)


@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_batches(n, size, fixed, key):
    """An epoch sees every sample once (up to an incomplete batch); draws are addressed, not counted."""
    like, xp = np.zeros(1), array_namespace()
    batches = Batches(n, size, key, 0, like=like, xp=xp, fixed=fixed)
    again = Batches(n, size, key, 0, like=like, xp=xp, fixed=fixed)
    if size >= n:
        assert batches(5) == (0, None) and batches.count == 1
        return
    for epoch in range(2):
        draws = [batches(k) for k in range(epoch * batches.count, (epoch + 1) * batches.count)]
        seen = np.concatenate([index for _, index in draws])
        assert np.unique(seen).size == seen.size and (seen.size == n if fixed else seen.size > n - size)
        if fixed:
            assert sorted(number for number, _ in draws) == list(range(batches.count))
            assert np.isclose(sum(batches.shares), 1.0)
            assert all(np.array_equal(batches.part(number), index) for number, index in draws)
    late = 3 * batches.count - 1
    assert np.array_equal(again(late)[1], batches(late)[1])
