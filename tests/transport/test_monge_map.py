"""The Monge gap and maps fitted with it, against linear programs, closed forms and finite differences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.backend import to_numpy
from optlib.testing import assert_close, check_gradient
from optlib.transport import FourierMap, JaxMap, MongeMap, PointCloud, emd, monge_gap
from optlib.transport.monge_gap import COSTS
from optlib.transport.monge_map import Potentials, _Objective
from tests.transport.map_cases import clouds


@st.composite
def pairs(draw):
    """Points, images and a regularisation."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    x = rng.normal(size=(n, d))
    images = {"noise": x + rng.normal(size=(n, d)), "same": x, "linear": x @ rng.normal(size=(d, d))}
    return x, images[draw(st.sampled_from(sorted(images)))], draw(st.sampled_from([0.05, 0.5, 5.0]))


@given(pairs(), st.sampled_from(COSTS))
def test_gap_is_nonnegative_and_its_bounds_enclose_that_of_the_linear_program(problem, cost):
    x, y, reg = problem
    found = monge_gap(x, y, reg=reg, cost=cost, tol=1e-8)
    square = np.sum((x - y) ** 2, axis=1)
    exact = np.mean(square if cost == "sqeuclidean" else np.sqrt(square)) - emd(PointCloud(x, y, cost)).value
    assert found.value >= -1e-9
    if found.result.success:
        assert found.bounds[0] - 1e-7 <= exact <= found.bounds[1] + 1e-7
        assert exact <= found.value + 1e-7  # the entropy can only lower the cost of transport


@pytest.mark.parametrize("cost", COSTS)
def test_gradient_of_the_gap(cost):
    x, y = np.random.default_rng(0).normal(size=(2, 15, 2))
    check_gradient(
        lambda v: monge_gap(x, v, reg=0.3, cost=cost, tol=1e-12).value,
        lambda v: monge_gap(x, v, reg=0.3, cost=cost, tol=1e-12).gradient,
        y,
    )


def test_scaling_of_the_gap():
    x, y = np.random.default_rng(0).normal(size=(2, 15, 2))
    plain, scaled = monge_gap(x, y, reg=0.2), monge_gap(3 * x, 3 * y, reg=9 * 0.2)
    assert scaled.value == pytest.approx(9 * plain.value, rel=1e-5)
    assert_close(scaled.gradient, 3 * plain.gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("matrix", [np.diag([2.0, 0.3]), np.array([[2.0, 0.8], [0.8, 0.6]]), np.eye(2)])
def test_gradients_of_convex_functions_have_no_gap(matrix):
    x = np.random.default_rng(1).normal(size=(40, 2))
    found = monge_gap(x, x @ matrix + 2.0, reg=0.003)
    assert found.bounds[0] < 1e-4 and -1e-9 < found.bounds[1] < 0.02


def test_gap_of_a_rotation_is_proven_to_be_large():
    x = np.random.default_rng(1).normal(size=(40, 2))
    assert monge_gap(x, -x, reg=0.01).bounds[0] > 1.0


def test_gap_on_every_backend(backend):
    x, y = np.random.default_rng(0).normal(size=(2, 9, 2))
    for cost in COSTS:
        here = monge_gap(backend.asarray(x), backend.asarray(y), reg=0.5, cost=cost)
        host = monge_gap(x, y, reg=0.5, cost=cost)
        rtol = 1e-4 if backend.is_double else 1e-2
        assert here.value == pytest.approx(host.value, rel=rtol)
        assert_close(here.gradient, backend.asarray(host.gradient), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("features", [0, 4])
def test_gradient_of_the_objective(cost, features):
    """Through the divergence, the gap, the map and the ridge."""
    x, y = clouds(14, 11)
    owner = MongeMap(FourierMap(features, ridge=0.1), weight=0.7, cost=cost)
    owner.reg_, owner.gap_reg_ = 0.5, 0.3
    maps = owner.model.bind(x, 1.0, 0)
    objective = _Objective(owner, maps, x, y, tol=1e-12)
    zeros = Potentials(np.zeros(11), np.zeros(14), np.zeros(14))
    theta = maps.start + 0.3 * np.random.default_rng(0).normal(size=maps.start.shape)
    check_gradient(lambda v: objective(v, zeros)[0], lambda v: objective(v, zeros)[1], theta, rtol=1e-5)


def gaussian_map(a, b):
    w, v = np.linalg.eigh(a)
    root, inverse = (v * np.sqrt(w)) @ v.T, (v / np.sqrt(w)) @ v.T
    w, v = np.linalg.eigh(root @ b @ root)
    return inverse @ ((v * np.sqrt(w)) @ v.T) @ inverse


@pytest.mark.parametrize("start", [None, (np.array([[0.0, -1.0], [1.0, 0.0]]), np.zeros(2))])
def test_affine_map_between_gaussians(start):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 2))
    y = rng.normal(size=(150, 2)) @ np.linalg.cholesky([[2.0, 0.8], [0.8, 0.6]]).T + [1.0, -1.0]
    fitted = MongeMap().fit(x, y, init=start)
    assert fitted.result_.success
    wanted = gaussian_map(np.cov(x.T), np.cov(y.T))
    assert np.linalg.norm(fitted.coef_ - wanted) < 0.05 * np.linalg.norm(wanted)
    np.testing.assert_allclose(fitted.transform(x).mean(axis=0), y.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(fitted.transform(x), x @ fitted.coef_.T + fitted.intercept_, rtol=1e-10)
    assert fitted.result_.monge_gap_bounds[1] < 0.02  # proven: nearly optimal without entropy
    assert fitted.score(x, y) == pytest.approx(-fitted.result_.fitting_loss, abs=1e-4)
    assert fitted.monge_gap(x).value == pytest.approx(fitted.result_.monge_gap, abs=1e-4)


def test_shape_of_the_cloud_does_not_matter():
    """Coordinates are orthonormal on the sources: an affine change of these changes the map and nothing else."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) * 3.0 + 1.0
    plain = MongeMap(weight=0.0, reg=1.0).fit(x, y, init=(np.eye(2), np.zeros(2)), tol=None, maxiter=3)
    stretch = np.diag([100.0, 0.01])
    moved = MongeMap(weight=0.0, reg=1.0, gap_reg=1.0).fit(
        x @ stretch, y, init=(np.linalg.inv(stretch), np.zeros(2)), tol=None, maxiter=3
    )
    assert_close(moved.transform(x @ stretch), plain.transform(x), rtol=1e-3, atol=1e-3)


def test_fourier_features_bend_the_map():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (80, 1))
    y = x**3 + x
    bent, straight = (MongeMap(model, reg=0.02).fit(x, y, rng=0, maxiter=50) for model in (FourierMap(20), "affine"))
    errors = [np.mean((m.transform(x) - y) ** 2) for m in (bent, straight)]  # monotone: the optimal map is x -> y
    assert errors[0] < 0.3 * errors[1]


def test_map_on_every_backend(backend):
    x, y = clouds(12, 10)
    options = {"rng": 0, "maxiter": 3, "tol": None}
    here = MongeMap(FourierMap(2), reg=2.0, gap_reg=2.0).fit(backend.asarray(x), backend.asarray(y), **options)
    host = MongeMap(FourierMap(2), reg=2.0, gap_reg=2.0).fit(x, y, **options)
    rtol = 1e-4 if backend.is_double else 0.1
    found, wanted = here.transform(backend.asarray(x)), host.transform(x)
    assert_close(found, backend.asarray(to_numpy(wanted)), rtol=rtol, atol=rtol)


def test_torch_module_is_trained_like_the_affine_map():
    torch = pytest.importorskip("torch")
    x, y = (torch.as_tensor(u) for u in clouds(20, 20))
    layer = torch.nn.Linear(2, 2, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
        layer.bias.zero_()
    fitted = MongeMap(layer, reg=1.0, gap_reg=0.1).fit(x, y)
    affine = MongeMap(reg=1.0, gap_reg=0.1).fit(x, y)
    assert fitted.result_.fun == pytest.approx(affine.result_.fun, abs=1e-4)
    assert_close(layer(x).detach(), fitted.transform(x), rtol=1e-9)
    assert_close(fitted.transform(x), affine.transform(x), atol=0.03)


def test_torch_module_of_another_kind_is_refused():
    torch = pytest.importorskip("torch")
    x, y = clouds(5, 5)
    with pytest.raises(TypeError, match=r"`x`.*tensors for a PyTorch module"):
        MongeMap(torch.nn.Linear(2, 2)).fit(x, y)
    with pytest.raises(TypeError, match=r"`module`.*float32.*expected parameters torch.float64"):
        MongeMap(torch.nn.Linear(2, 2)).fit(torch.as_tensor(x), torch.as_tensor(y))


def test_jax_function():
    jnp = pytest.importorskip("jax.numpy")
    x, y = clouds(20, 20)  # with 30 the objective has several minima
    model = JaxMap(lambda p, u: u @ p["w"] + p["b"], {"w": jnp.eye(2), "b": jnp.zeros(2)})
    fitted = MongeMap(model, reg=1.0, gap_reg=0.1).fit(x, y)
    affine = MongeMap(reg=1.0, gap_reg=0.1).fit(x, y)
    assert fitted.result_.fun == pytest.approx(affine.result_.fun, abs=1e-3)
    np.testing.assert_allclose(
        x @ np.asarray(model.params["w"]) + np.asarray(model.params["b"]), fitted.transform(x), rtol=1e-4
    )
