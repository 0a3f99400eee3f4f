"""Projections: feasible, optimal (variational inequality), idempotent, nonexpansive, the same on every backend."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import optlib
from optlib import geometry as geo
from optlib.backend import array_namespace
from optlib.testing import assert_close
from tests.geometry.kernel_cases import rows

XP = array_namespace()
N = 6
WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0, 0.25, 1.0])
CAP = np.array([0.4, 1.0, 0.1, 0.7, 0.0, 0.6])
FLOOR = np.array([0.1, 0.0, 0.3, 0.05, 0.0, 0.2])
FACTOR = np.random.default_rng(0).normal(size=(N, N))
METRIC = FACTOR @ FACTOR.T + 0.1 * np.eye(N)
FLAT = FACTOR[:, :4] @ FACTOR[:, :4].T  # two free directions
LOWER = np.array([-1.0, -np.inf, 0.0, -2.0, 0.5, -np.inf])
UPPER = np.array([1.0, 0.0, np.inf, -1.0, 0.5, np.inf])


def below(*gaps):
    return max(float(np.max(gap, initial=0.0)) for gap in gaps)


def dirichlet(rng, mass=1.0):
    return mass * rng.dirichlet(np.full(N, 0.3))


def direction(rng):
    v = rng.normal(size=N)
    return v / np.linalg.norm(v) * rng.uniform()


def boxed(rng):
    low = np.where(np.isinf(LOWER), np.minimum(UPPER, 3.0) - 5.0, LOWER)
    high = np.where(np.isinf(UPPER), np.maximum(LOWER, -3.0) + 5.0, UPPER)
    return low + rng.uniform(size=N) * (high - low)


def psd(rng, rank=None):
    f = rng.normal(size=(N, rank or rng.integers(1, N + 1)))
    return f @ f.T


def capped(rng, low, cap, mass):
    """A random point with the bounds and the mass: a mixture of greedy fillings."""
    mix = rng.dirichlet(np.full(4, 0.5))
    total = np.zeros(N)
    for share in mix:
        z, room = low.copy(), mass - low.sum()
        for i in rng.permutation(N):
            step = min(room, cap[i] - z[i])
            z[i], room = z[i] + step, room - step
        total += share * z
    return total


@dataclass(frozen=True)
class Set:
    project: Callable[..., Any]  # of x, the parameters on the backend of x, and xp=
    parameters: tuple[Any, ...]
    sample: Callable[[np.random.Generator], np.ndarray]
    violation: Callable[[np.ndarray], float]
    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda x, z: z - x  # of the distance at z
    matrix: bool = False
    positive: bool = False
    euclidean: bool = True


def kl_gradient(x, z):
    return np.log(np.maximum(z, 1e-300) / x)


def nuclear(z):
    return np.linalg.svd(z, compute_uv=False).sum()


SETS = {
    "simplex": Set(geo.project_simplex, (2.0,), lambda r: dirichlet(r, 2.0), lambda z: below(-z, abs(z.sum() - 2))),
    "capped": Set(
        geo.project_capped_simplex,
        (1.5, CAP),
        lambda r: capped(r, np.zeros(N), CAP, 1.5),
        lambda z: below(-z, z - CAP, abs(z.sum() - 1.5)),
    ),
    "weighted": Set(
        geo.project_weighted_simplex,
        (WEIGHTS, 2.0),
        lambda r: dirichlet(r, 2.0) / WEIGHTS,
        lambda z: below(-z, abs(WEIGHTS @ z - 2)),
    ),
    "l1": Set(
        geo.project_l1_ball,
        (2.0,),
        lambda r: r.choice([-1, 1], N) * dirichlet(r, 2 * r.uniform()),
        lambda z: below(np.abs(z).sum() - 2),
    ),
    "weighted l1": Set(
        geo.project_weighted_l1_ball,
        (WEIGHTS, 2.0),
        lambda r: r.choice([-1, 1], N) * dirichlet(r, 2 * r.uniform()) / WEIGHTS,
        lambda z: below(WEIGHTS @ np.abs(z) - 2),
    ),
    "l2": Set(geo.project_l2_ball, (2.0,), lambda r: 2 * direction(r), lambda z: below(np.linalg.norm(z) - 2)),
    "metric": Set(
        lambda x, radius, a, xp=None: geo.project_l2_ball(
            x, radius, metric=a if xp is None else tuple(xp.linalg.eigh(a)), xp=xp
        ),
        (2.0, METRIC),
        lambda r: 2 * direction(r),
        lambda z: below(np.linalg.norm(z) - 2),
        lambda x, z: METRIC @ (z - x),
        euclidean=False,
    ),
    "ellipsoid": Set(
        lambda x, a, radius, xp=None: geo.project_ellipsoid(
            x, a if xp is None else tuple(xp.linalg.eigh(a)), radius, xp=xp
        ),
        (FLAT, 2.0),
        lambda r: (lambda v: v * 2 * r.uniform() / max(np.sqrt(v @ FLAT @ v), 1e-9))(r.normal(size=N)),
        lambda z: below(np.sqrt(max(z @ FLAT @ z, 0)) - 2),
    ),
    "box": Set(geo.project_box, (LOWER, UPPER), boxed, lambda z: below(LOWER - z, z - UPPER)),
    "psd": Set(
        geo.project_psd, (), psd, lambda z: below(-np.linalg.eigvalsh(z), np.abs(z - z.T)), matrix=True,
        gradient=lambda x, z: z - (x + x.T) / 2,
    ),
    "spectrahedron": Set(
        geo.project_spectrahedron,
        (2.0,),
        lambda r: (lambda a: 2 * a / np.trace(a))(psd(r)),
        lambda z: below(-np.linalg.eigvalsh(z), abs(np.trace(z) - 2), np.abs(z - z.T)),
        matrix=True,
        gradient=lambda x, z: z - (x + x.T) / 2,
    ),
    "nuclear": Set(
        geo.project_nuclear_ball,
        (2.0,),
        lambda r: (lambda a: 2 * r.uniform() * a / nuclear(a))(r.normal(size=(N, 2)) @ r.normal(size=(2, N))),
        lambda z: below(nuclear(z) - 2),
        matrix=True,
    ),
    "kl floor": Set(
        geo.project_kl_floor,
        (FLOOR, 1.0),
        lambda r: FLOOR + dirichlet(r, 1 - FLOOR.sum()),
        lambda z: below(FLOOR - z, abs(z.sum() - 1)),
        kl_gradient,
        positive=True,
        euclidean=False,
    ),
    "kl cap": Set(
        geo.project_kl_cap,
        (CAP, 1.5),
        lambda r: capped(r, np.zeros(N), CAP, 1.5),
        lambda z: below(-z, z - CAP, abs(z.sum() - 1.5)),
        kl_gradient,
        positive=True,
        euclidean=False,
    ),
}  # fmt: skip


def point(case, rng, scale, ties):
    x = scale * rng.normal(size=(N, N) if case.matrix else N)
    if ties:
        x = np.round(2 * x) / 2
    return np.exp(np.clip(x, -40, 40)) if case.positive else x


points = {
    "seed": st.integers(0, 2**32 - 1),
    "scale": st.sampled_from([1e-3, 0.3, 1.0, 10.0, 1e4]),
    "ties": st.booleans(),
}


@pytest.mark.parametrize("name", SETS)
@given(**points)
def test_feasible_and_optimal(engine, name, seed, scale, ties):
    case, rng = SETS[name], np.random.default_rng(seed)
    x = point(case, rng, scale, ties)
    z = case.project(x, *case.parameters)
    tol = 1e-12 * (1 + np.abs(x).max()) if case.euclidean else 1e-11
    assert case.violation(z) <= tol
    gradient = case.gradient(x, z)
    for _ in range(10):
        w = case.sample(rng)
        assert case.violation(w) <= 1e-12
        slope = np.where(w == z, 0.0, gradient * (w - z))
        assert slope.sum() >= -1e-11 * (1 + np.abs(slope).sum()) * (1 + scale)


@pytest.mark.parametrize("name", SETS)
@given(**points)
def test_idempotent_and_nonexpansive(engine, name, seed, scale, ties):
    case, rng = SETS[name], np.random.default_rng(seed)
    x, y = point(case, rng, scale, ties), point(case, rng, scale, ties)
    z, w = case.project(x, *case.parameters), case.project(y, *case.parameters)
    size = 1 + np.abs(z).max()
    np.testing.assert_allclose(case.project(z, *case.parameters), z, rtol=0, atol=1e-11 * size)
    if case.euclidean:
        assert np.linalg.norm(z - w) <= np.linalg.norm(x - y) * (1 + 1e-10) + 1e-12
    if name == "metric":
        d, e = z - w, x - y
        assert d @ METRIC @ d <= (e @ METRIC @ e) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("name", SETS)
def test_backends_batches_and_trusted_form(backend, engine, name):
    case, rng = SETS[name], np.random.default_rng(1)
    stack = np.stack([[point(case, rng, s, False) for s in (0.1, 1.0, 20.0)] for _ in range(2)])
    one_by_one = np.array([[case.project(x, *case.parameters) for x in row] for row in stack])
    x = backend.asarray(stack)
    parameters = tuple(backend.asarray(p) if isinstance(p, np.ndarray) else p for p in case.parameters)
    z = case.project(x, *parameters)
    tol = 1e-10 if backend.is_double else 2e-3
    assert_close(z, backend.asarray(one_by_one), rtol=tol, atol=tol)
    assert z.device == x.device
    assert_close(case.project(x, *parameters, xp=backend.xp), z, rtol=0, atol=tol * 1e-2)
    assert_close(case.project(x[0, 1, ...], *parameters), z[0, 1, ...], rtol=tol, atol=tol)
    empty = case.project(x[:0, ...], *parameters)
    assert empty.shape == (0, *stack.shape[1:])


@pytest.mark.parametrize("name", SETS)
def test_nan_gives_nan_in_its_row_only(engine, name):
    case, rng = SETS[name], np.random.default_rng(2)
    x = np.stack([point(case, rng, 1.0, False) for _ in range(3)])
    expected = case.project(x, *case.parameters)
    x[(1,) + (0,) * (x.ndim - 1)] = np.nan
    if name.startswith("kl"):
        with np.errstate(invalid="ignore"):
            z = case.project(x, *case.parameters)
    else:
        z = case.project(x, *case.parameters)
    np.testing.assert_array_equal(z[[0, 2]], expected[[0, 2]])
    if name == "box":
        assert np.isnan(z[1, 0])
        np.testing.assert_array_equal(z[1, 1:], expected[1, 1:])
    else:
        assert np.isnan(z[1]).all()


# --- the amounts ---


@given(y=rows(size=1e3, batch=[(3,)]), seed=st.integers(0, 99))
def test_simplices_of_different_mass(engine, y, seed):
    mass = np.random.default_rng(seed).choice([0.0, 1e-3, 1.0, 50.0], 3)
    z = geo.project_simplex(y, mass)
    np.testing.assert_allclose(z, [by_sorting(v, m) for v, m in zip(y, mass, strict=True)], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(z.sum(axis=-1), mass, rtol=1e-12)
    ball = geo.project_l1_ball(y, mass)
    inside = np.abs(y).sum(axis=-1) <= mass
    np.testing.assert_allclose(np.abs(ball).sum(axis=-1)[~inside], mass[~inside], rtol=1e-12)
    np.testing.assert_array_equal(ball[inside], y[inside])


def by_sorting(y, mass):
    if mass == 0:
        return np.zeros_like(y)
    u = np.sort(y)[::-1]
    sums = np.cumsum(u) - mass
    k = np.count_nonzero(u * np.arange(1, y.size + 1) > sums)
    return np.maximum(y - sums[k - 1] / k, 0)


@pytest.mark.parametrize("n", [1000, 5000])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["wide", "near", "cluster", "ladder", "ties"])
def test_long_rows(engine, n, dtype, kind):
    rng = np.random.default_rng(0)
    y = {
        "wide": rng.normal(size=n),
        "near": 1 / n + 1e-3 / n * rng.normal(size=n),
        "cluster": np.append(0.0, -1 + 1e-3 * rng.uniform(size=n - 1)),
        "ladder": -(1.01 ** np.arange(n)),
        "ties": np.round(rng.normal(size=n)),
    }[kind].astype(dtype)
    z = geo.project_simplex(y)
    assert z.dtype == y.dtype
    eps = np.finfo(dtype).eps
    assert abs(z.sum(dtype=float) - 1) <= 20 * eps
    expected = by_sorting(y.astype(float), 1.0)
    np.testing.assert_allclose(z, expected, rtol=20 * eps, atol=20 * eps * expected.max() + 1e-13)


def test_extreme_entries(engine):
    with np.errstate(over="ignore", invalid="ignore"):
        for y, mass, expected in [
            ([1e300, 1.0], 1.0, [1, 0]),
            ([1e308, -1e308, 1e308], 1.0, [0.5, 0, 0.5]),
            ([-np.inf, 1.0, 2.0], 1.0, [0, 0, 1]),
            ([1.0, 2.0, 2.5], 1e-300, [0, 0, 1e-300]),
            ([1.0, 2.0, 3.0], 3e300, [1e300, 1e300, 1e300]),
            ([-0.0, 0.0], 1.0, [0.5, 0.5]),
            ([7.0], 0.25, [0.25]),
            ([3.0, 1.0], 0.0, [0, 0]),
        ]:
            np.testing.assert_allclose(geo.project_simplex(y, mass), expected, rtol=1e-15)
            ones = np.ones(len(y))
            np.testing.assert_allclose(geo.project_weighted_simplex(y, ones, mass), expected, rtol=1e-15)
            if mass <= 1 and max(y) < 1e308:
                np.testing.assert_allclose(geo.project_capped_simplex(y, mass), expected, rtol=1e-15)
        for y in ([np.inf, 1.0], [-np.inf, -np.inf]):
            assert np.isnan(geo.project_simplex(y)).all()
        clusters = [1e300] * 2 + [7e299] * 10
        np.testing.assert_allclose(geo.project_capped_simplex(clusters, 3.0), [1] * 2 + [0.1] * 10, rtol=1e-12)
        np.testing.assert_allclose(geo.project_weighted_simplex([1e300, 1e300], [1.0, 2.0]), [1, 0], rtol=1e-12)
        np.testing.assert_allclose(geo.project_l2_ball([1e300, 1e300], 2.0), np.sqrt([2, 2]), rtol=1e-15)
        np.testing.assert_allclose(geo.project_l2_ball([3e-320, 4e-320], 0.0), [0, 0])
        np.testing.assert_allclose(geo.project_kl_floor([1e-300, 1.0, 0.0], 0.1), [0.1, 0.8, 0.1], rtol=1e-14)
        np.testing.assert_allclose(geo.project_kl_cap([1e-300, 1.0, 0.0], 0.7), [0.3, 0.7, 0.0], rtol=1e-14)
        np.testing.assert_allclose(geo.project_ellipsoid([1e200, 0.0], np.diag([1e-8, 1e8])), [1e4, 0.0], rtol=1e-12)


def test_layouts_and_dtypes():
    y = np.random.default_rng(0).normal(size=(8, 6))
    expected = geo.project_simplex(y)
    np.testing.assert_array_equal(geo.project_simplex(np.asfortranarray(y)), expected)
    np.testing.assert_array_equal(geo.project_simplex(y[::2]), expected[::2])
    np.testing.assert_array_equal(geo.project_simplex(y.tolist()), expected)
    np.testing.assert_array_equal(geo.project_simplex(np.array([3, 1])), [1.0, 0.0])
    assert geo.project_simplex(y.astype("float32"), np.ones(8)).dtype == np.float32
    assert geo.project_capped_simplex(y.astype("float32"), 1.0, np.ones(6)).dtype == np.float32
    assert not np.shares_memory(geo.project_l2_ball(y, 100.0), y)


# --- independent oracles ---


def slsqp(x, objective, gradient, constraints, bounds, start):
    options = {"maxiter": 500, "ftol": 1e-15}  # stops for lack of precision, now and then without `success`
    return minimize(
        objective, start, jac=gradient, bounds=bounds, constraints=constraints, method="SLSQP", options=options
    ).x


@pytest.mark.parametrize("seed", range(5))
def test_against_slsqp(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=N)
    distance, slope = lambda z: 0.5 * np.sum((z - x) ** 2), lambda z: z - x

    def total(weights, mass):
        return {"type": "eq", "fun": lambda z: weights @ z - mass, "jac": lambda z: weights}

    ones, free = np.ones(N), [(0, None)] * N
    pairs = [
        (geo.project_simplex(x, 2.0), slsqp(x, distance, slope, total(ones, 2.0), free, ones / 3)),
        (
            geo.project_capped_simplex(x, 1.5, CAP),
            slsqp(x, distance, slope, total(ones, 1.5), list(zip(0 * CAP, CAP, strict=True)), CAP / 2),
        ),
        (geo.project_weighted_simplex(x, WEIGHTS), slsqp(x, distance, slope, total(WEIGHTS, 1.0), free, ones / 8)),
        (
            geo.project_ellipsoid(3 * x, METRIC),
            slsqp(
                x,
                lambda z: distance(z - 2 * x),
                lambda z: z - 3 * x,
                {"type": "ineq", "fun": lambda z: 1 - z @ METRIC @ z, "jac": lambda z: -2 * METRIC @ z},
                None,
                0 * x,
            ),
        ),
    ]
    p = np.exp(2 * x)
    p /= p.sum()
    kl = lambda z: float(np.sum(z * np.log(np.maximum(z, 1e-300) / p)))
    kl_slope = lambda z: np.log(np.maximum(z, 1e-300) / p) + 1
    pairs.append((
        geo.project_kl_floor(p, FLOOR),
        slsqp(p, kl, kl_slope, total(ones, 1.0), [(max(f, 1e-12), 1) for f in FLOOR], FLOOR + (1 - FLOOR.sum()) / N),
    ))  # fmt: skip
    for ours, oracle in pairs:
        np.testing.assert_allclose(ours, oracle, atol=2e-6)


@given(
    seed=st.integers(0, 2**32 - 1), span=st.sampled_from([1.0, 1e3, 1e8, 1e14]), size=st.sampled_from([0.5, 10.0, 1e9])
)
def test_secular_equation_over_all_conditions(engine, seed, span, size):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    values = np.exp(rng.uniform(-0.5, 0.5, n) * np.log(span))
    vectors = np.linalg.qr(rng.normal(size=(n, n)))[0]
    x = size * rng.normal(size=n)
    z = geo.project_ellipsoid(x, (values, vectors))
    level = np.sqrt(np.sum(values * (vectors.T @ z) ** 2))
    assert level <= 1 + 1e-6  # vectors are orthogonal to rounding only, values span up to 1e14
    w = geo.project_l2_ball(x, metric=(values, vectors))
    assert np.linalg.norm(w) <= 1 + 1e-13
    if np.linalg.norm(x) > 1:
        assert np.linalg.norm(w) >= 1 - 1e-13
        pull = (vectors.T @ (x - w)) * values  # parallel to w, pointing outwards
        rounding = 1e-14 * values.max() * np.linalg.norm(x)
        assert pull @ (vectors.T @ w) >= (1 - 1e-8) * np.linalg.norm(pull) - rounding


def test_trusted_form_does_not_look_up_the_namespace(monkeypatch):
    x = np.ones((2, N))
    monkeypatch.setattr(optlib.geometry._input.check, "common", None)
    assert geo.project_simplex(x, 1.0, xp=XP).shape == x.shape
