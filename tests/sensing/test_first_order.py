"""The papers' claims about the methods on factors, at small sizes, and their invariances."""

import numpy as np
import pytest

from optlib import Status, sensing
from optlib.sensing._problem import prepare
from optlib.sensing.gradient_descent import rescaled
from optlib.testing import check_gradient
from tests.sensing.problems import Recovery, completion, error, gaussian, low_rank


def full(left, right):
    """All entries observed."""
    n1, n2 = left.shape[0], right.shape[0]
    i, j = np.divmod(np.arange(n1 * n2), n2)
    A = sensing.EntrySampling(i, j, (n1, n2))
    return Recovery(A, (left @ right.T).ravel(), left, right)


def spiked(n, values, psd=True, seed=0):
    rng = np.random.default_rng(seed)
    U, _ = low_rank(rng, n, n, len(values))
    V = U if psd else low_rank(rng, n, n, len(values))[1]
    return full(U * np.array(values), V)


def iterations(result, goal=1e-10):
    return next(n for n, v in zip(result.history["nit"], result.history["stop"], strict=True) if v <= goal)


# -- gradient descent --


def test_gradient_is_the_derivative():
    problem = gaussian(0, 6, 5, 2)
    G = np.random.default_rng(1).normal(size=(5, 2))
    check_gradient(
        lambda F: 0.5 * np.sum((problem.A.forward_factored(F, G) - problem.y) ** 2),
        lambda F: problem.A.gradient(F, G, problem.y)[1],
        np.random.default_rng(0).normal(size=(6, 2)),
    )


def test_exact_rank_is_linear_and_spare_columns_are_slow():
    """Xiong, Ding, Du: with k > r the symmetric error falls as 1/t, the rate sqrt(k - r) / (2 eta)."""
    problem = spiked(30, [1.0, 0.8, 0.6])
    go = {"psd": True, "step": 0.2, "rng": 0, "check_every": 1}
    assert sensing.gradient_descent(*problem[:2], rank=3, tol=1e-12, **go).nit < 400
    slow = sensing.gradient_descent(*problem[:2], rank=5, tol=None, maxiter=6000, **go)
    t, e = slow.history.array("nit")[2000:], slow.history.array("stop")[2000:] * np.linalg.norm(problem.y)
    assert -1.1 < np.polyfit(np.log(t), np.log(e), 1)[0] < -0.85
    assert 0.6 < 0.2 * t[-1] * e[-1] < 0.8


def test_imbalance_gives_the_rate_and_the_modified_step_forgets_it():
    problem = spiked(20, [1.0, 0.8, 0.6], psd=False)
    rates, counts = [], []
    for alpha in (0.1, 0.2, 0.4):
        run = sensing.gradient_descent(
            *problem[:2], rank=5, step=0.2, alpha=alpha, rng=0, tol=None, maxiter=1500, check_every=1
        )
        stop = np.log(run.history.array("stop"))
        rates.append(
            (stop[700] - stop[1200 if alpha < 0.4 else 1000]) / (500 if alpha < 0.4 else 300) / (0.2 * alpha**2)
        )
        quick = sensing.gradient_descent(
            *problem[:2], rank=5, step=0.2, alpha=alpha, rng=0, tol=1e-12, modified=True, check_every=1
        )
        counts.append(quick.nit)
    assert max(rates) / min(rates) < 1.3
    assert max(counts) / min(counts) < 1.1
    assert max(counts) < 400


def test_modified_step_keeps_the_product():
    rng = np.random.default_rng(0)
    F, G = rng.normal(size=(9, 4)), rng.normal(size=(7, 4))
    problem = prepare(sensing.GaussianSensing((9, 7), 5, rng=0), np.zeros(5))
    F2, G2 = rescaled(problem, F, G)
    np.testing.assert_allclose(F2 @ G2.T, F @ G.T, atol=1e-12)
    assert np.ptp(np.linalg.svd(F2)[1]) < 1e-12


def test_divergence_is_a_breakdown():
    problem = gaussian(0, 10, 10, 2, over=3.0)
    result = sensing.gradient_descent(*problem[:2], rank=2, step=4.0, rng=0, check_every=1)
    assert result.status in (Status.BREAKDOWN, Status.NONFINITE)
    assert not result.success


# -- preconditioned methods --


def test_scaled_gd_does_not_depend_on_the_condition():
    """Tong, Ma, Chi: iterations of ScaledGD are constant in kappa, those of gradient descent grow with it."""
    scaled, plain = [], []
    for kappa in (1.0, 5.0, 20.0, 80.0):
        problem = gaussian(0, 24, 24, 2, over=6 * 24 / 46, kappa=kappa)
        result = sensing.scaled_gd(*problem[:2], rank=2, tol=1e-10, check_every=1)
        assert error(result, problem) < 1e-8
        scaled.append(result.nit)
        if kappa in (1.0, 20.0):
            init = sensing.spectral_init(*problem[:2], rank=2)
            plain.append(sensing.gradient_descent(*problem[:2], rank=2, init=init, tol=1e-8, maxiter=9000).nit)
    assert max(scaled) / min(scaled) < 1.25
    assert plain[1] > 8 * plain[0]


def test_scaled_gd_is_invariant_to_the_split_into_factors():
    problem = gaussian(1, 12, 10, 2, over=4.0)
    left, right = sensing.spectral_init(*problem[:2], rank=2)
    Q = np.random.default_rng(0).normal(size=(2, 2))
    one = sensing.scaled_gd(*problem[:2], rank=2, init=(left, right), tol=None, maxiter=20)
    two = sensing.scaled_gd(*problem[:2], rank=2, init=(left @ Q, right @ np.linalg.inv(Q).T), tol=None, maxiter=20)
    np.testing.assert_allclose(one.matrix.toarray(), two.matrix.toarray(), atol=1e-11)


@pytest.mark.parametrize("kappa", [1.0, 10.0, 100.0])
def test_damped_scaled_gd_of_all_entries(kappa):
    """Xu, Shen, Chi, Ma: a tiny start and spare columns, log(kappa) iterations."""
    problem = spiked(60, np.geomspace(1.0, 1.0 / kappa, 3))
    result = sensing.scaled_gd(
        *problem[:2], rank=10, psd=True, damping=1 / kappa / 20, alpha=1e-8, step=0.5, tol=1e-10, rng=0, check_every=1
    )
    assert result.nit < 60


def test_alternating_form_with_spare_columns():
    """Jia, Feng, Meng, Sun: Q-linear from a random start for any number of columns."""
    for kappa in (1.0, 100.0):
        problem = gaussian(2, 24, 24, 2, over=2400 / 1600 * 10 * 24 * 3 / (2 * 46), kappa=kappa)
        result = sensing.scaled_gd(
            *problem[:2], rank=6, alternating=True, alpha=1e-2, step=0.5, tol=1e-9, rng=0, maxiter=400
        )
        assert result.success
        assert error(result, problem) < 1e-7


def test_prec_gd_spare_columns_and_condition():
    """Zhang, Fattahi, Zhang: spare columns and the condition do not slow it down."""
    counts = []
    for kappa in (1.0, 10.0, 100.0):
        problem = gaussian(0, 30, 30, 3, over=900 / 87, kappa=kappa, psd=True)
        result = sensing.prec_gd(*problem[:2], rank=8, psd=True, tol=1e-8, check_every=1, maxiter=1500)
        assert result.success
        counts.append(result.nit)
    assert max(counts) / min(counts) < 1.25


def test_certificate_is_about_the_factors_that_are_returned():
    """Spare columns far below the others count for the residual although not for the rank."""
    problem = gaussian(4, 10, 10, 2, over=5.0, psd=True)
    spare = 2e-4 * np.random.default_rng(0).normal(size=(10, 1))
    X = np.hstack([problem.left, spare])
    result = sensing.prec_gd(*problem[:2], rank=3, psd=True, init=(X, X), tol=1e-12, maxiter=0)
    residual = problem.A.forward_factored(X, X) - problem.y
    assert result.certificate.value == pytest.approx(np.linalg.norm(residual))
    assert result.rank == 2


# -- absolute errors --


def test_subgradient_under_outliers():
    """Ma, Fattahi: spare columns and a third of gross errors; squared errors fail on the same data."""
    rng = np.random.default_rng(0)
    X, _ = low_rank(rng, 25, 25, 2, psd=True)
    A = sensing.GaussianSensing((25, 25), 600, rng=rng)
    y = A.forward_factored(X, X)
    bad = rng.random(600) < 0.3
    y[bad] += 10.0 * rng.normal(size=bad.sum()) / 600**0.5
    problem = Recovery(A, y, X, X)
    result = sensing.subgradient(A, y, rank=8, psd=True, alpha=1e-10, tol=None, maxiter=500)
    assert error(result, problem) < 1e-6
    exact = sensing.subgradient(A, y, rank=2, psd=True)
    assert exact.success
    assert np.array_equal(exact.outliers, bad)
    floor = sensing.subgradient(A, y, rank=8, psd=True, alpha=1e-4, tol=None, maxiter=500)
    assert 1e-6 < error(floor, problem) < 1e-2
    squares = sensing.gradient_descent(A, y, rank=8, psd=True, rng=0, tol=None, maxiter=500)
    assert error(squares, problem) > 0.5


def test_subgradient_does_not_see_the_size_of_outliers():
    problem = gaussian(3, 12, 12, 1, over=20.0, psd=True)
    runs = []
    for size in (10.0, 1e6):
        y = problem.y.copy()
        y[::7] = size
        runs.append(sensing.subgradient(problem.A, y, rank=1, psd=True, tol=None, maxiter=50).factors[0])
    np.testing.assert_allclose(*runs, rtol=1e-9)


def corrupted(seed, n=20, r=2, share=0.3, **options):
    """Gross errors in some measurements; returns the sum of their sizes too."""
    problem, rng = gaussian(seed, n, n, r, **options), np.random.default_rng(seed)
    e = np.zeros_like(problem.y)
    bad = rng.permutation(e.size)[: int(share * e.size)]
    e[bad] = 10.0 * np.std(problem.y) * rng.normal(size=bad.size)
    return problem._replace(y=problem.y + e), np.sum(np.abs(e))


@pytest.mark.parametrize("psd", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("rule", ["median", "geometric", "polyak"])
def test_subgradient_rules(rule, scaled, psd):
    problem, total = corrupted(1, over=12.0, kappa=2.0, psd=psd)
    options = {"minimum": total, "step": 1.0} if rule == "polyak" else {}
    result = sensing.subgradient(
        *problem[:2], rank=2, psd=psd, rule=rule, scaled=scaled, decay=0.95, tol=1e-9, maxiter=1500, **options
    )
    assert result.success
    assert error(result, problem) < 1e-7


def test_hold_makes_geometric_steps_forget_the_start():
    """With decay from the start, a small start never grows: the sum of the steps is spent before."""
    problem, _ = corrupted(2, over=12.0, psd=True)
    go = {"rank": 2, "psd": True, "rule": "geometric", "decay": 0.95, "tol": 1e-9, "maxiter": 800}
    for alpha in (1e-3, 1e-6, 1e-10):
        assert error(sensing.subgradient(*problem[:2], alpha=alpha, **go), problem) < 1e-7
    assert error(sensing.subgradient(*problem[:2], alpha=1e-10, hold=0, **go), problem) > 0.5


def test_scaled_subgradient_does_not_depend_on_the_condition():
    """Tong, Ma, Chi: with Polyak's step and the truncated start."""
    counts = []
    for kappa in (1.0, 20.0):
        problem, total = corrupted(3, over=12.0, share=0.2, kappa=kappa)
        go = {"rank": 2, "rule": "polyak", "minimum": total, "step": 1.0, "tol": 1e-9, "check_every": 1}
        result = sensing.subgradient(*problem[:2], scaled=True, **go)
        assert error(result, problem) < 1e-6
        counts.append(result.nit)
    assert max(counts) < 1.3 * min(counts)


def test_scaled_subgradient_is_invariant_to_the_split_into_factors():
    problem, _ = corrupted(4, 10, over=12.0)
    left, right = sensing.spectral_init(*problem[:2], rank=2)
    Q = np.array([[2.0, 1.0], [0.5, -3.0]])
    go = {"rank": 2, "scaled": True, "tol": None, "maxiter": 20}
    one = sensing.subgradient(*problem[:2], init=(left, right), **go)
    two = sensing.subgradient(*problem[:2], init=(left @ Q, right @ np.linalg.inv(Q).T), **go)
    np.testing.assert_allclose(one.matrix.toarray(), two.matrix.toarray(), atol=1e-9)


def test_signs_of_measurements_do_not_matter():
    problem, _ = corrupted(5, 10, over=12.0, psd=True)
    flip = np.random.default_rng(0).choice([-1.0, 1.0], problem.y.size)
    B = sensing.DenseSensing(flip[:, None, None] * problem.A.matrices)
    go = {"rank": 3, "psd": True, "tol": None, "maxiter": 30}
    one, two = sensing.subgradient(*problem[:2], **go), sensing.subgradient(B, flip * problem.y, **go)
    np.testing.assert_allclose(one.factors[0], two.factors[0], rtol=1e-9, atol=1e-12)


def test_known_noise_ends_every_method():
    problem = gaussian(6, 12, 10, 2, over=5.0)
    e = np.random.default_rng(0).normal(size=problem.y.size)
    e *= 1e-2 * np.linalg.norm(problem.y) / np.linalg.norm(e)
    for method in ("gradient_descent", "scaled_gd", "prec_gd", "gauss_newton", "incremental", "riemannian"):
        result = sensing.recover(problem.A, problem.y + e, rank=2, method=method, noise=1.01 * np.linalg.norm(e))
        assert result.success, method
        assert "within the noise" in str(result.certificate)
        assert error(result, problem) < 3e-2


def test_scaled_gd_completes():
    problem = completion(0, 120, 3, m=6000, kappa=10.0)
    result = sensing.scaled_gd(*problem[:2], rank=3, tol=1e-9, maxiter=3000)
    assert result.success
    assert error(result, problem) < 1e-7
