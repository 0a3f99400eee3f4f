"""Saddle-point methods against linear programs, closed forms and the bounds of their theorems."""

import itertools

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from optlib import Status, geometry, to_device
from optlib.backend import array_namespace, to_numpy
from optlib.online import (
    FTRL,
    OGD,
    AdaHedge,
    AffineOperator,
    BilinearGame,
    CompositeProblem,
    FiniteSum,
    Hedge,
    Indicator,
    L1Norm,
    SquaredDistance,
    VariationalInequality,
    alpd,
    chambolle_pock,
    extragradient,
    halpern,
    mirror_prox,
    optimistic_gradient,
    proximal_point,
    self_play,
    variance_reduced_halpern,
)
from optlib.testing import assert_close
from tests.conftest import Backend
from tests.online.saddle_problems import finite_sum, game, game_value, least_squares, nonlinear, rotation, smooth

NUMPY = Backend("numpy", array_namespace(), None, np.dtype("float64"))


@st.composite
def matrices(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    kind = draw(st.sampled_from(["normal", "integers", "skew", "constant", "large"]))
    if kind == "skew":
        A = rng.standard_normal((n, n))
        return A - A.T
    A = {"integers": rng.integers(-2, 3, (n, m)) + 0.0, "constant": np.full((n, m), 2.0)}.get(kind)
    return rng.standard_normal((n, m)) * (1e8 if kind == "large" else 1.0) if A is None else A


# --- matrix games ---


@pytest.mark.parametrize(("solver", "unit"), [(mirror_prox, 1.0), (optimistic_gradient, 2.0)])
@given(A=matrices(), k=st.sampled_from([1, 10, 100]))
def test_gap_is_true_and_within_the_bound(solver, unit, A, k):
    n, m = A.shape
    res = solver(BilinearGame(A), tol=None, maxiter=k)
    x, y = res.x
    value, size = game_value(A), np.abs(A).max()
    assert_close(np.array([x.sum(), y.sum()]), np.ones(2), rtol=1e-12)
    gap = (A.T @ x).max() - (A @ y).min()
    assert res.certificate.value == pytest.approx(gap, rel=1e-9, abs=1e-13 * size)
    assert (A @ y).min() - 1e-7 * size <= value <= (A.T @ x).max() + 1e-7 * size
    assert gap <= unit * size * (np.log(n) + np.log(m)) / k + 1e-12 * size


@pytest.mark.parametrize("solver", [mirror_prox, optimistic_gradient])
def test_game_on_all_backends(backend, engine, solver):
    tol = 3e-3
    res = solver(game(backend, 6, 5, seed=1), tol=tol).check()
    A = np.random.default_rng(1).standard_normal((6, 5))
    assert abs(res.fun - game_value(A)) <= tol * np.abs(A).max()
    assert res.certificate.kind == "duality_gap"


def test_scale_of_the_payoff_does_not_matter():
    A = np.random.default_rng(0).standard_normal((4, 6))
    for factor in (1e-150, 1e150):
        assert_close(mirror_prox(BilinearGame(factor * A)).x[0], mirror_prox(BilinearGame(A)).x[0], rtol=1e-9)


def test_linear_terms_and_other_sets():
    rng = np.random.default_rng(0)
    A, b, c = rng.standard_normal((3, 4)), rng.standard_normal(3), rng.standard_normal(4)
    res = mirror_prox(
        BilinearGame(A, b=b, c=c, rows=geometry.Ball(3), columns=geometry.EuclideanBox(-1.0, 1.0)), tol=1e-3
    )
    best = scipy.optimize.minimize(
        lambda x: b @ x + np.abs(A.T @ x - c).sum(), np.zeros(3),
        constraints={"type": "ineq", "fun": lambda x: 1 - x @ x}, method="COBYLA", tol=1e-9, options={"maxiter": 10**5},
    )  # fmt: skip
    assert res.success
    assert abs(res.fun - best.fun) <= 2 * res.certificate.value + 1e-6


@given(seed=st.integers(0, 1000), pair=st.sampled_from(["entropy-ball", "ball-entropy", "ball-box", "tsallis-simplex"]))
def test_other_geometries_keep_the_bound(seed, pair):
    n, m = 4, 3
    A = np.random.default_rng(seed).standard_normal((n, m))
    rows, columns = {
        "entropy-ball": (geometry.Entropy(2.0), geometry.EuclideanBall(0.5)),
        "ball-entropy": (geometry.EuclideanBall(), geometry.Entropy()),
        "ball-box": (geometry.Ball(n), geometry.EuclideanBox(-1.0, 1.0)),
        "tsallis-simplex": (geometry.Tsallis(), geometry.EuclideanSimplex()),
    }[pair]
    problem = BilinearGame(A, rows=rows, columns=columns)
    spread = sum(mirror.range(k) for mirror, k in zip(problem._maps, (n, m), strict=True))
    for k in (5, 50):
        res = mirror_prox(problem, tol=None, maxiter=k)
        assert res.certificate.value <= problem.lipschitz * spread / k * (1 + 1e-9)


def test_sparse_payoffs_and_moves():
    import scipy.sparse as sp

    A = sp.random_array((8, 9), density=0.4, rng=np.random.default_rng(0), format="csr")
    dense = mirror_prox(BilinearGame(A.toarray()), tol=None, maxiter=20)
    assert_close(mirror_prox(BilinearGame(A), tol=None, maxiter=20).x[0], dense.x[0], rtol=1e-9)
    moved = to_device(BilinearGame(A.toarray(), b=np.ones(8), rows=geometry.Ball(8)), "numpy")
    assert moved.payoff(np.ones(8), np.zeros(9)) == 8.0


# --- the primal-dual method ---


@given(A=matrices(), k=st.sampled_from([1, 7, 60]))
def test_chambolle_pock_bound(A, k):
    n, m = A.shape
    res = chambolle_pock(
        BilinearGame(A, rows=geometry.Simplex(n), columns=geometry.Simplex(m)), restart=False, tol=None, maxiter=k
    )
    size = np.linalg.norm(A, 2) or 1.0
    widths = [0.5 * (1 - 1 / i) for i in (n, m)]  # half the squared distance of a vertex from the centre
    assert res.certificate.value <= size * sum(widths) / k * (1 + 1e-9) + 1e-12 * size


@given(A=matrices())
def test_chambolle_pock_solves_games(A):
    n, m = A.shape
    problem = BilinearGame(A, rows=geometry.Simplex(n), columns=geometry.Simplex(m))
    res = chambolle_pock(problem, tol=1e-7, maxiter=50_000).check()
    assert abs(res.fun - game_value(A)) <= 2e-7 * max(1.0, np.abs(A).max())


@given(seed=st.integers(0, 1000), reg=st.sampled_from([0.01, 0.3, 100.0]))
def test_lasso_by_its_optimality_conditions(seed, reg):
    a, b, _, _ = least_squares(8, 5, seed, condition=3.0)
    problem = CompositeProblem(a, f=L1Norm(reg), h=SquaredDistance(b))
    res = chambolle_pock(problem, tol=1e-10, maxiter=20_000).check()
    x, slope = res.x[0], a.T @ (b - a @ res.x[0])
    assert np.all(np.abs(slope) <= reg + 1e-3)
    assert np.all(np.abs(slope - reg * np.sign(x))[np.abs(x) > 1e-3] <= 1e-3)
    assert res.fun == pytest.approx(reg * np.abs(x).sum() + 0.5 * np.sum((a @ x - b) ** 2))


def test_equations_as_a_constraint(backend, engine):
    rng = np.random.default_rng(0)
    K, target, right = rng.standard_normal((2, 4)), rng.standard_normal(4), rng.standard_normal(2)
    right = backend.asarray(right)
    problem = CompositeProblem(
        backend.asarray(K), f=SquaredDistance(backend.asarray(target)), h=Indicator(geometry.Box(right, right))
    )
    tol = 1e-7 if backend.is_double else 1e-4
    res = chambolle_pock(problem, tol=tol).check()
    best = target - np.linalg.pinv(K) @ (K @ target - to_numpy(right))
    assert_close(to_numpy(res.x[0]), best, rtol=0, atol=30 * np.sqrt(tol))


def test_sums_of_absolute_values():
    rng = np.random.default_rng(0)
    K, target = rng.standard_normal((6, 3)), rng.standard_normal(3)
    problem = CompositeProblem(K, f=SquaredDistance(target), h=L1Norm(0.2))
    res = chambolle_pock(problem, tol=1e-9).check()
    best = scipy.optimize.minimize(
        lambda y: 0.5 * y @ K @ K.T @ y - y @ K @ target, np.zeros(6), jac=lambda y: K @ K.T @ y - K @ target,
        bounds=[(-0.2, 0.2)] * 6, method="L-BFGS-B", options={"ftol": 1e-15},
    )  # fmt: skip
    assert res.fun == pytest.approx(-best.fun, rel=1e-7)
    assert_close(to_numpy(to_device(problem, "numpy").forward(target)), K @ target, rtol=1e-12)


# --- the accelerated primal-dual method ---


@given(seed=st.integers(0, 1000), weight=st.sampled_from([0.05, 0.5, 10.0]))
def test_alpd_bound(seed, weight):
    """The gap of the mean against the saddle point, which is known by a solver of the primal problem."""
    problem = smooth(NUMPY, seed, weight=weight)
    K, c = problem.K.to_dense(), problem.g.target
    hessian = np.stack([problem.f(e)[1] for e in np.eye(4)]) + K.T @ K / weight
    best = geometry.project_l2_ball(-np.linalg.solve(hessian, K.T @ c), 1.0, metric=hessian)
    other = np.linalg.norm(best - problem.start(None)[:4])
    for k in (1, 5, 40):
        x, y = alpd(problem, tol=None, maxiter=k).x
        top = c + K @ best / weight
        gap = (
            problem.f(x)[0]
            + top @ K @ x
            - problem.g.value(top, np)
            - (problem.f(best)[0] + y @ K @ best - problem.g.value(y, np))
        )
        assert -1e-9 <= gap <= 2 * (2.0 + problem.norm**2 / weight) * other**2 / (k * (k + 1)) + 1e-9


def test_alpd_on_all_backends(backend, engine):
    tol = 1e-3
    res = alpd(smooth(backend), tol=tol).check()
    reference = alpd(smooth(NUMPY), tol=1e-6).check()
    assert abs(res.fun - reference.fun) <= res.certificate.value + reference.certificate.value + 1e-4
    assert res.fun >= reference.fun - reference.certificate.value - 1e-4


# --- self-play ---


@pytest.mark.parametrize("learner", [AdaHedge, Hedge, lambda n: FTRL(geometry.Entropy(), n)])
@given(A=matrices(), k=st.sampled_from([1, 20, 200]))
def test_self_play_within_the_bounds_of_its_learners(learner, A, k):
    n, m = A.shape
    A = A / np.abs(A).max() if A.any() else A
    res = self_play(BilinearGame(A), learner(n), learner(m), tol=None, maxiter=k)
    assert res.certificate.value <= res.regret_bound + 1e-12
    value = game_value(A)
    x, y = res.x
    assert (A @ y).min() - 1e-9 <= value <= (A.T @ x).max() + 1e-9


def test_self_play_on_balls():
    A = np.random.default_rng(0).standard_normal((3, 2))
    problem = BilinearGame(A, rows=geometry.Ball(3), columns=geometry.Ball(2))
    res = self_play(problem, OGD(geometry.Ball(3)), OGD(geometry.Ball(2)), tol=0.05).check()
    assert abs(res.fun) <= res.certificate.value


# --- operators ---


def residuals(res):
    return res.history.array("stop") * res.state.scale


@given(
    rho=st.floats(-0.49, 0.9), n=st.sampled_from([2, 6]), seed=st.integers(0, 100), L=st.sampled_from([0.01, 1.0, 30.0])
)
def test_halpern_rate(rho, n, seed, L):
    z0 = np.random.default_rng(seed).standard_normal(n)
    problem = AffineOperator(rotation(rho / L, L, n, seed))
    assert problem.comonotonicity == pytest.approx(rho / L, abs=1e-9 / L)
    res = halpern(problem, init=z0, tol=None, maxiter=60, check_every=1)
    k = np.arange(1, 61)
    bound = 2 * np.linalg.norm(z0) / ((1 / L + 2 * rho / L) * k)
    assert np.all(residuals(res)[1:] <= bound * (1 + 1e-7) + 1e-12 * L)
    assert not -0.4 < rho < 0 or np.max(residuals(res)[1:] / bound) > 0.99  # attained on rotations


def test_halpern_cocoercive_rate_is_attained():
    worst = 0.0
    for angle in np.linspace(0.0, 1.5, 16):  # F = (I - T) / 2 with a rotation T: cocoercive with L = 1
        T = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        half = 0.5 * (np.eye(2) - T)
        problem = VariationalInequality(lambda z, M=half: M @ z, 2, lipschitz=1.0, comonotonicity=1.0)
        res = halpern(problem, init=[1.0, 0.0], tol=None, maxiter=30, check_every=1)
        ratio = residuals(res) * np.arange(1, 32)
        assert np.all(ratio <= 1 + 1e-12)
        worst = max(worst, ratio[1:].max())
    assert worst > 0.999


def test_halpern_on_a_set():
    a, b, _, _ = least_squares(40, 5, seed=3)
    M, q = a.T @ a, -a.T @ b
    L = np.linalg.norm(M, 2)
    problem = VariationalInequality(
        lambda z: M @ z + q, 5, domain=geometry.Box(0.0, np.inf, 5), lipschitz=L, comonotonicity=1 / L
    )
    res = halpern(problem, tol=1e-4, maxiter=20_000).check()
    assert_close(res.x, scipy.optimize.nnls(a, b)[0], rtol=0, atol=1e-2)


@given(rho=st.floats(-0.49, 0.0), seed=st.integers(0, 100), factor=st.floats(1.05, 20.0))
def test_proximal_point_rate_is_tight(rho, seed, factor):
    problem = AffineOperator(rotation(rho, 1.0, 2))
    z0 = np.random.default_rng(seed).standard_normal(2)
    gamma = factor * max(-2 * rho, 0.1)
    res = proximal_point(problem, init=z0, step=gamma, tol=None, maxiter=40, check_every=1)
    bound = (z0 @ z0) / (gamma * (gamma + 2 * rho) * np.arange(1, 41))
    assert np.all(residuals(res)[1:] ** 2 <= bound * (1 + 1e-9))


def test_proximal_point_diverges_at_its_threshold():
    M = rotation(-0.3, 1.0, 2)
    for gamma, grows in ((0.59, True), (0.61, False)):
        factor = np.linalg.norm(np.linalg.inv(np.eye(2) + gamma * M), 2)
        assert (factor > 1) == grows
    problem = AffineOperator(M)
    with pytest.raises(ValueError, match="-2 rho"):
        proximal_point(problem, step=0.59)
    assert proximal_point(problem, init=[1.0, 0.0], step=0.7, tol=1e-3).success


@given(rho=st.floats(-0.49, 0.0), seed=st.integers(0, 100), n=st.sampled_from([2, 6]))
def test_extragradient_bound_on_the_best_iterate(rho, seed, n):
    problem = AffineOperator(rotation(rho, 1.0, n, seed))
    z0 = np.random.default_rng(seed).standard_normal(n)
    low = max(-2 * rho, 0.05)
    step = 0.5 * (low + 1.0)
    update = step + 2 * rho
    res = extragradient(problem, init=z0, step=step, update=update, tol=None, maxiter=50, check_every=1)
    best = np.minimum.accumulate(residuals(res)[:-1] ** 2)
    assert np.all(best * np.arange(1, 51) * step * update * (1 - step**2) <= (z0 @ z0) * (1 + 1e-9))


@pytest.mark.parametrize("rho", [0.0, -0.1, -0.124, -0.3, -0.45])
def test_extragradient_defaults_converge(rho):
    res = extragradient(AffineOperator(rotation(rho, 1.0, 2)), init=[1.0, 2.0], tol=1e-3, maxiter=50_000)
    assert res.success


@pytest.mark.parametrize("rho", [0.0, -0.05, -5 / 62])
def test_optimistic_gradient_defaults_converge(rho):
    res = optimistic_gradient(AffineOperator(rotation(rho, 1.0, 2)), init=[1.0, 2.0], tol=1e-6, maxiter=20_000)
    assert res.success


@pytest.mark.parametrize("solver", [extragradient, optimistic_gradient, halpern, mirror_prox])
def test_zero_of_an_operator(backend, engine, solver):
    problem = nonlinear(backend)
    tol = 1e-2 if solver is halpern else 1e-4
    res = solver(problem, init=backend.asarray(np.array([1.0, -2.0, 3.0])), tol=tol).check()
    assert res.certificate.kind == "residual"
    assert np.max(np.abs(to_numpy(res.x))) < 30 * tol


@given(seed=st.integers(0, 1000), sign=st.sampled_from([0.0, 1.0]))
def test_box_constrained_affine_problem_by_enumeration(seed, sign):
    rng = np.random.default_rng(seed)
    K, q = rng.standard_normal((3, 3)), rng.standard_normal(3)
    M = 0.3 * np.eye(3) + sign * (K - K.T)
    problem = AffineOperator(M, q, domain=geometry.Box(0.0, 1.0, 3))
    found = []
    for side in itertools.product((0, 1, None), repeat=3):
        free = np.array([s is None for s in side])
        z = np.array([0.0 if s is None else float(s) for s in side])
        if free.any():
            z[free] = np.linalg.solve(M[np.ix_(free, free)], -(q + M @ z)[free])
        g = M @ z + q
        good = [(abs(g[i]) < 1e-9 and -1e-9 <= z[i] <= 1 + 1e-9) if s is None else (g[i] >= 0 if s == 0 else g[i] <= 0)
                for i, s in enumerate(side)]  # fmt: skip
        if all(good):
            found.append(z)
    res = extragradient(problem, tol=1e-9, maxiter=10_000).check()
    assert_close(res.x, found[0], rtol=0, atol=1e-4)


def test_simplex_constrained_operator_with_entropy(backend):
    """A symmetric game as a variational inequality: the equilibrium of a congestion game equalises the costs."""
    slope = backend.asarray(np.array([1.0, 2.0, 4.0]))
    problem = VariationalInequality(lambda z: slope * z, 3, domain=geometry.Entropy(), lipschitz=4.0, like=slope)
    res = mirror_prox(problem, tol=1e-4).check()
    assert_close(to_numpy(res.x), np.array([4.0, 2.0, 1.0]) / 7.0, rtol=0, atol=1e-2)


def test_variance_reduction_saves_components():
    rows, n = 400, 5
    a, b, L, best = least_squares(rows, n, seed=2)
    problem = FiniteSum(lambda z, i: (a[i] @ z - b[i])[:, None] * a[i], rows, n, lipschitz=L)
    res = variance_reduced_halpern(problem, tol=3e-2, rng=0, check_every=50).check()
    assert res.counts["components"] < 0.35 * rows * res.nit
    distance = np.linalg.norm(best)
    assert res.certificate.value <= 12 * L * distance / (res.nit + 4)
    again = variance_reduced_halpern(problem, tol=3e-2, rng=0, check_every=50)
    assert_close(again.x, res.x, rtol=0)


def test_samples_are_those_of_every_backend(backend):
    res = variance_reduced_halpern(finite_sum(backend), tol=None, maxiter=40, rng=3)
    reference = variance_reduced_halpern(finite_sum_on_numpy(), tol=None, maxiter=40, rng=3)
    assert res.counts == reference.counts
    assert_close(to_numpy(res.x), reference.x, rtol=0, atol=1e-9 if backend.is_double else 1e-4)


def finite_sum_on_numpy():
    a, b, L, _ = least_squares(30, 4, 0)
    return FiniteSum(lambda z, i: (a[i] @ z - b[i])[:, None] * a[i], 30, 4, lipschitz=L)


def test_checkpoint(tmp_path):
    problem = affine_on_numpy()
    path = tmp_path / "run.npz"
    halpern(problem, tol=None, maxiter=5, checkpoint=path)
    res = halpern(problem, tol=None, maxiter=9, checkpoint=path)
    assert_close(res.x, halpern(problem, tol=None, maxiter=9).x, rtol=0)
    with pytest.raises(ValueError, match="another problem"):
        halpern(AffineOperator(2.0 * problem.M, problem.q), tol=None, maxiter=9, checkpoint=path)


def affine_on_numpy():
    return AffineOperator(rotation(-0.05, n=4, seed=0), np.arange(4.0))


def test_divergence_is_not_success():
    res = extragradient(AffineOperator(rotation(0.0, 1.0, 2)), init=[1.0, 0.0], step=3.0, maxiter=5000)
    assert not res.success
    assert res.status in (Status.NONFINITE, Status.MAXITER)
