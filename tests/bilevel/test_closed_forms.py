"""Cross-validation in closed form, against models fitted one by one and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge, RidgeCV

import optlib
from optlib.bilevel import (
    FoldsProblem,
    KernelRidgeFoldsProblem,
    KernelRidgeProblem,
    LeaveOneOutRidgeProblem,
    RidgeProblem,
    hypergradient,
    tune,
)  # fmt: skip
from optlib.testing import assert_close

# -- ridge regression, leaving one sample out --


def data(seed, n, d):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, d)) + 3.0 * rng.normal(size=d)
    return A, A @ rng.normal(size=d) + rng.normal(size=n) + 5.0, rng.integers(0, 4, n).astype(float)


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([(12, 4), (8, 8), (6, 20)]), st.booleans(), st.booleans(),
    st.floats(-10.0, 8.0),
)  # fmt: skip
def test_press_is_the_error_of_models_fitted_without(seed, shape, intercept, weighted, x):
    A, t, w = data(seed, *shape)
    w[:2] = 1.0
    w = w if weighted else np.ones(shape[0])
    total = 0.0
    for i in range(shape[0]):
        kept = np.arange(shape[0]) != i
        model = Ridge(alpha=np.exp(x), fit_intercept=intercept, solver="svd").fit(A[kept], t[kept], w[kept])
        total += w[i] * (t[i] - model.predict(A[i : i + 1])[0]) ** 2
    problem = LeaveOneOutRidgeProblem(A, t, intercept=intercept, weights=w)
    found = hypergradient(problem, np.array([x]))
    assert found.converged
    assert found.value == pytest.approx(0.5 * total / w.sum(), rel=1e-6)
    model = Ridge(alpha=np.exp(x), fit_intercept=intercept, solver="svd").fit(A, t, w)
    assert_close(found.y, np.append(model.coef_, model.intercept_)[: found.y.size], rtol=1e-6, atol=1e-8)
    h = 1e-4
    ahead, behind = (hypergradient(problem, np.array([x + s])).value for s in (h, -h))
    assert (ahead - behind) / (2 * h) == pytest.approx(found.gradient[0], rel=1e-5, abs=1e-6 * found.value)


def test_press_of_small_penalties():
    """Interpolating models: nothing cancels, the limit of no penalty is reached."""
    A, t, _ = data(0, 10, 30)
    problem = LeaveOneOutRidgeProblem(A, t, intercept=True)
    low, _ = problem.bounds()
    values = [hypergradient(problem, np.array([low + s])).value for s in (0.0, 2.0)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    limit = 0.0
    for i in range(10):
        B, b = np.delete(A, i, axis=0), np.delete(t, i)
        y = np.linalg.pinv(B - B.mean(axis=0)) @ (b - b.mean())
        limit += 0.05 * (t[i] - b.mean() - (A[i] - B.mean(axis=0)) @ y) ** 2
    assert values[0] == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_press_against_a_fine_grid(seed):
    A, t, _ = data(seed, 40, 15)
    found = tune(LeaveOneOutRidgeProblem(A, t, intercept=True))
    grid = RidgeCV(alphas=np.logspace(-5, 5, 400)).fit(A, t)
    assert found.success and 2.0 * found.fun <= -grid.best_score_ * (1 + 1e-4)


def test_of_samples_that_say_nothing():
    """No features, constant features, a single sample of positive weight."""
    t = np.array([1.0, 2.0, 4.0])
    assert tune(LeaveOneOutRidgeProblem(np.ones((3, 2)), t, intercept=True)).y[-1] == pytest.approx(t.mean())
    found = hypergradient(LeaveOneOutRidgeProblem(np.eye(3), t, intercept=True, weights=[0.0, 1.0, 0.0]), np.zeros(1))
    assert found.value == 0.0 and found.y[-1] == pytest.approx(2.0)


# -- kernel ridge regression --


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_kernel_ridge_is_that_of_scikit_learn(seed, weighted):
    rng = np.random.default_rng(seed)
    A, V, t, c = rng.normal(size=(9, 3)), rng.normal(size=(7, 3)), rng.normal(size=9), rng.normal(size=7)
    w = rng.integers(0, 3, 9).astype(float) if weighted else np.ones(9)
    w[0] = 1.0
    x = rng.normal(size=2)
    used = w > 0  # scikit-learn refuses to leave samples of weight 0 out
    model = KernelRidge(alpha=np.exp(x[0]), kernel="rbf", gamma=np.exp(x[1])).fit(A[used], t[used], w[used])
    found = hypergradient(KernelRidgeProblem(A, t, V, c, train_weights=w), x)
    assert found.mode == "active_set" and found.converged
    assert found.value == pytest.approx(0.5 * np.sum((model.predict(V) - c) ** 2), rel=1e-9)
    assert_close((np.sqrt(w) * found.y)[used], model.dual_coef_, rtol=1e-8, atol=1e-10)
    other = hypergradient(KernelRidgeProblem(A, t, V, c, train_weights=w), x, mode="cg", tol=1e-12)
    assert_close(found.gradient, other.gradient, rtol=1e-6, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3, 10]), st.booleans())
def test_folds_of_kernel_ridge_in_closed_form(seed, K, weighted):
    """Values and gradients are those of the folds fitted one by one: weights of zero leave samples out."""
    rng = np.random.default_rng(seed)
    n = 10
    A, t = rng.normal(size=(n, 2)), rng.normal(size=n)
    w = rng.integers(0, 3, n).astype(float) if weighted else np.ones(n)
    w[:4] = 1.0
    x, folds = rng.normal(size=2), [np.arange(k, n, K) for k in range(K)]
    places = [np.isin(np.arange(n), fold) for fold in folds]
    alone = FoldsProblem(
        [KernelRidgeProblem(A, t, A, t, train_weights=w * ~held, valid_weights=w * held) for held in places]
    )
    want, found = hypergradient(alone, x), hypergradient(KernelRidgeFoldsProblem(A, t, folds, weights=w), x)
    assert found.value == pytest.approx(want.value, rel=1e-8)
    assert_close(found.gradient, want.gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("folds", [False, True])
def test_kernel_ridge_against_a_grid(folds):
    """Tuned from its start: no worse than 13 x 13 values of the box."""
    rng = np.random.default_rng(1)
    A = rng.uniform(-3.0, 3.0, size=(60, 1))
    t = np.sin(2.0 * A[:, 0]) + 0.1 * rng.normal(size=60)
    if folds:
        problem = KernelRidgeFoldsProblem(A, t, [np.arange(k, 60, 5) for k in range(5)])
    else:
        problem = KernelRidgeProblem(A[:40], t[:40], A[40:], t[40:])
    found = tune(problem)
    low, high = problem.bounds()
    grid = [
        hypergradient(problem, np.array([a, b])).value
        for a in np.linspace(low[0], high[0], 13)
        for b in np.linspace(low[1], high[1], 13)
    ]
    assert found.fun <= min(grid) * (1 + 1e-3)
    assert found.at_bounds == 0


def test_blocks_of_distances(monkeypatch):
    from optlib.bilevel.problems import kernel_ridge

    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(11, 3)) + 1e3, rng.normal(size=(5, 3)) + 1e3
    want = np.sum((A[:, None, :] - B) ** 2, axis=2)
    for block in (7, 10**6):
        monkeypatch.setattr(kernel_ridge, "BLOCK", block)
        assert_close(kernel_ridge.squared_distances(A, B, xp=np), want, rtol=1e-9, atol=1e-9)


def test_tuning_on_backends(backend):
    for cls in (LeaveOneOutRidgeProblem, KernelRidgeProblem, KernelRidgeFoldsProblem):
        problem = cls.random(40, 2, rng=3, like=backend.asarray([0.0]))
        host, here = tune(cls.random(40, 2, rng=3)), tune(problem)
        assert optlib.backend.array_namespace(here.x) is backend.xp
        if backend.is_double or cls is LeaveOneOutRidgeProblem:  # the box of kernels depends on the precision
            assert here.fun == pytest.approx(host.fun, rel=1e-6 if backend.is_double else 1e-3)
        assert here.fun <= float(problem.outer(here.x, here.y)[0]) * 1.001


def test_ridge_with_folds_and_leave_one_out_agree():
    """Folds of one sample each are leave-one-out."""
    A, t, _ = data(0, 12, 3)
    folds = [
        RidgeProblem(np.delete(A, i, 0), np.delete(t, i), A[i : i + 1], t[i : i + 1], penalty="scalar", intercept=True)
        for i in range(12)
    ]
    x = np.array([0.3])
    one, other = hypergradient(FoldsProblem(folds), x), hypergradient(LeaveOneOutRidgeProblem(A, t, intercept=True), x)
    assert one.value == pytest.approx(other.value, rel=1e-8)
    assert_close(one.gradient, other.gradient, rtol=1e-6)
