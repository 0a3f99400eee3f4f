"""Alternating least squares, Gauss-Newton, Levenberg-Marquardt and Riemannian conjugate gradients."""

import itertools

import numpy as np
import pytest

from optlib import sensing
from optlib.datasets import make_low_rank
from optlib.sensing._factored import spectral_start
from optlib.sensing._lowrank import Coordinates, Point, project, retract, tangent_image
from optlib.sensing._problem import prepare
from optlib.sensing.alternating_minimization import _sides
from tests.sensing.problems import completion, error, gaussian, low_rank


@pytest.mark.parametrize("kappa", [1.0, 10.0, 100.0])
def test_exact_sweeps_do_not_depend_on_the_condition(kappa):
    problem = completion(0, kappa=kappa)
    result = sensing.alternating_minimization(*problem[:2], rank=5, tol=1e-10)
    assert error(result, problem) < 1e-8
    assert result.nit <= 60


def test_start_leaves_out_rows_on_which_noise_concentrates():
    """From the plain spectral start the sweeps make a large component of them, on places that are not observed."""
    rng = np.random.default_rng([int(np.random.default_rng(0).integers(2**63)), 1])
    left, right = make_low_rank(300, 300, np.geomspace(1.0, 0.01, 5), rng=rng)
    A = sensing.random_entries((300, 300), 13_500, rng=rng)
    y = A.forward_factored(left, right)
    assert sensing.alternating_minimization(A, y, rank=5, tol=1e-8, maxiter=60).success
    plain = spectral_start(prepare(A, y), 5)
    found = sensing.alternating_minimization(A, y, rank=5, init=plain, tol=1e-8, maxiter=60)
    assert not found.success
    assert np.linalg.norm(found.matrix.toarray()) > 1.5 * np.linalg.norm(left @ right.T)


@pytest.mark.parametrize("kappa", [1.0, 10.0])
def test_few_inner_iterations_are_enough(kappa):
    """The nearly linear form: three conjugate-gradient iterations a half-step."""
    problem = completion(0, kappa=kappa)
    result = sensing.alternating_minimization(*problem[:2], rank=5, inner=3, tol=1e-10)
    assert error(result, problem) < 1e-8
    assert result.nit <= 80


@pytest.mark.parametrize("sketch", [None, 4])
def test_sketches_make_the_rate_independent_of_the_condition(sketch):
    """Gu, Song, Yin, Zhang: least squares for the rows of one factor, ill-conditioned; exact solutions by NumPy."""
    rng = np.random.default_rng(0)
    A, k = sensing.random_entries((20, 400), 6000, rng=rng), 20
    G = rng.normal(size=(400, k)) * np.geomspace(1.0, 1e-4, k) @ rng.normal(size=(k, k))
    y = rng.normal(size=6000)
    rows, _ = _sides(prepare(A, y), 0.0, 15, k * sketch if sketch else 0, 0)
    solved = rows.solve(G, np.zeros((20, k)))
    gaps = []
    for i in range(20):
        mine = A.rows == i
        exact = np.linalg.lstsq(G[A.cols[mine]], y[mine])[0]
        fit = G[A.cols[mine]] @ (solved[i] - exact)
        gaps.append(np.linalg.norm(fit) / np.linalg.norm(G[A.cols[mine]] @ exact))
    assert max(gaps) < 1e-3 if sketch else max(gaps) > 0.1


def test_sketched_sweeps_complete(engine):
    problem = completion(1, 120, 3, m=7000, kappa=10.0)
    go = {"rank": 3, "inner": 4, "sketch": 4, "rng": 0, "tol": 1e-9}
    result = sensing.alternating_minimization(*problem[:2], **go)
    assert result.success
    assert error(result, problem) < 1e-7
    part = sensing.alternating_minimization(*problem[:2], **(go | {"tol": None, "maxiter": 3}))
    rest = sensing.alternating_minimization(*problem[:2], **(go | {"rng": 5, "init": part}))
    assert np.array_equal(rest.x[0], result.x[0])  # a resumed run keeps its sketches


def test_half_steps_never_raise_the_objective():
    rng = np.random.default_rng(0)
    A = sensing.random_entries((20, 15), 150, rng=rng)
    y = rng.normal(size=150)
    run = sensing.alternating_minimization(A, y, rank=3, tol=None, maxiter=30)
    assert np.all(np.diff(run.history.array("stop")) <= 1e-12)
    ridge, values = 0.3, []

    def value(result):
        F, G = result.x
        values.append(np.sum((A.forward_factored(F, G) - y) ** 2) + ridge * (np.sum(F**2) + np.sum(G**2)))

    sensing.alternating_minimization(A, y, rank=3, ridge=ridge, tol=None, maxiter=30, callback=value)
    assert np.all(np.diff(values[1:]) <= 1e-10)


def test_sweeps_are_equivariant_and_leave_empty_rows_zero():
    rng = np.random.default_rng(0)
    left, right = low_rank(rng, 15, 12, 2)
    i, j = np.nonzero(rng.random((15, 12)) < 0.6)
    i, j = i[i != 3], j[i != 3]
    y, order = (left @ right.T)[i, j], rng.permutation(15)
    one = sensing.alternating_minimization(sensing.EntrySampling(i, j, (15, 12)), y, rank=2, maxiter=20)
    place = np.argsort(order)
    two = sensing.alternating_minimization(sensing.EntrySampling(place[i], j, (15, 12)), y, rank=2, maxiter=20)
    np.testing.assert_allclose(one.matrix.toarray()[order], two.matrix.toarray(), atol=1e-8)
    assert not np.any(one.matrix.toarray()[3])
    assert "1 rows and 0 columns" in str(one.certificate)


def test_gauss_newton_is_quadratic():
    """Zilber, Nadler: about a dozen outer iterations at low oversampling, quadratic at the end."""
    problem = gaussian(1, 20, 24, 2, over=1.7, kappa=5.0)
    result = sensing.gauss_newton(*problem[:2], rank=2)
    assert error(result, problem) < 1e-11
    assert result.nit <= 20
    tail = [v for v in result.history["stop"] if 1e-12 < v < 1e-2]
    assert all(later < 1e3 * sooner**1.6 for sooner, later in itertools.pairwise(tail))


def test_riemannian_solves_what_gradient_descent_does_not():
    problem = gaussian(0, 30, 30, 2, over=2.0, kappa=100.0)
    result = sensing.riemannian(*problem[:2], rank=2, tol=1e-10)
    assert result.success
    assert error(result, problem) < 1e-8
    plain = sensing.gradient_descent(*problem[:2], rank=2, rng=0, maxiter=500)
    assert not plain.success


def test_levenberg_marquardt_is_quadratic_for_any_condition():
    for kappa in (1.0, 1e4):
        problem = gaussian(0, 20, 20, 2, over=4.0, kappa=kappa)
        result = sensing.levenberg_marquardt(*problem[:2], rank=2)
        assert result.success
        assert result.nit <= 20


@pytest.mark.parametrize("psd", [False, True])
def test_tangent_coordinates_are_an_isometry(psd):
    rng = np.random.default_rng(0)
    from optlib.backend import array_namespace

    xp = array_namespace()
    n1, n2, r = (8, 8, 3) if psd else (8, 6, 3)
    U = np.linalg.qr(rng.normal(size=(n1, r)))[0]
    V = U if psd else np.linalg.qr(rng.normal(size=(n2, r)))[0]
    point = Point(U, np.array([3.0, 2.0, 1.0]), V)
    coordinates = Coordinates(point, psd, xp)
    d = rng.normal(size=coordinates.dof)
    pair = coordinates.expand(d)
    D = pair[0] @ V.T + U @ pair[1].T
    assert np.sum(D**2) == pytest.approx(np.sum(d**2))
    A = sensing.GaussianSensing((n1, n2), 50, rng=0)
    np.testing.assert_allclose(coordinates.jacobian(A._sides(U, V)) @ d, A.forward(D), atol=1e-12)
    np.testing.assert_allclose(tangent_image(A, point, pair), A.forward(D), atol=1e-12)
    # The retraction agrees with X + D to second order, and is the best approximation of the rank.
    t = 1e-5
    new = retract(point, (t * pair[0], t * pair[1]), r, psd, xp)
    X = U * point.s @ V.T + t * D
    assert np.linalg.norm((new.U * new.s) @ new.V.T - X) < 1e-8
    # The projection is the adjoint of the coordinates.
    Z = rng.normal(size=(n1, n2))
    g = project(point, Z @ V, Z.T @ U, psd)
    inner = np.sum(g[0] * pair[0]) + (0.0 if psd else np.sum(g[1] * pair[1]))
    assert inner == pytest.approx(np.sum(Z * D))


def test_jacobian_does_not_contain_the_condition():
    """Restricted singular values at the truth are the same for any singular values of the matrix."""
    values = []
    for kappa in (1.0, 1e4):
        problem = gaussian(3, 20, 20, 2, over=2.0, kappa=kappa)
        values.append(sensing.levenberg_marquardt(*problem[:2], rank=2).identifiability)
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    root = 2.0**-0.5
    assert values[0] == pytest.approx((1 - root) / (1 + root), rel=0.35)  # Marchenko-Pastur
