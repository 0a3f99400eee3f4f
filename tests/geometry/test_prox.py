"""Proximal operators: minimal by the subgradient inequality, nonexpansive, equal to oracles, on every backend."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

import optlib
from optlib import geometry as geo
from optlib.testing import assert_close
from tests.geometry.kernel_cases import rows

N = 6
WEIGHTS = np.array([0.5, 0.0, 1.0, 3.0, 0.25, 1.0])
GROUPS = np.array([2, 0, 0, 2, 1, 0])
PER_GROUP = np.array([0.5, 1.0, 0.0])


@dataclass(frozen=True)
class Prox:
    prox: Callable[..., Any]  # of x, the parameters on the backend of x, and xp=
    parameters: tuple[Any, ...]
    value: Callable[[np.ndarray], float]
    matrix: bool = False


def pair(groups, xp, x):
    return groups if xp is None or isinstance(groups, int) else (xp.asarray(groups, device=x.device), 3)


def group_prox(x, reg, groups, xp=None):
    return geo.prox_group_l2(x, reg, pair(groups, xp, x), xp=xp)


def lengths(z, groups):
    return np.array([np.linalg.norm(z[groups == g]) for g in range(3)])


PROX = {
    "l1": Prox(geo.prox_l1, (0.7,), lambda z: 0.7 * np.abs(z).sum()),
    "weighted l1": Prox(geo.prox_l1, (WEIGHTS,), lambda z: WEIGHTS @ np.abs(z)),
    "elastic net": Prox(
        geo.prox_elastic_net, (WEIGHTS, 0.5), lambda z: WEIGHTS @ np.abs(z) + 0.25 * np.sum(z**2)
    ),
    "blocks": Prox(
        lambda x, reg, xp=None: group_prox(x, reg, 2, xp),
        (0.7,),
        lambda z: 0.7 * lengths(z, np.array([0, 0, 1, 1, 2, 2])).sum(),
    ),
    "groups": Prox(
        lambda x, reg, xp=None: group_prox(x, reg, GROUPS, xp), (PER_GROUP,), lambda z: PER_GROUP @ lengths(z, GROUPS)
    ),
    "nuclear": Prox(
        geo.prox_nuclear, (0.7,), lambda z: 0.7 * np.linalg.svd(z, compute_uv=False).sum(), matrix=True
    ),
    "tv": Prox(geo.prox_tv1d, (0.7,), lambda z: 0.7 * np.abs(np.diff(z)).sum()),
}  # fmt: skip


def point(case, rng, scale, ties=False):
    x = scale * rng.normal(size=(N, 4) if case.matrix else N)
    return np.round(2 * x) / 2 if ties else x


points = {
    "seed": st.integers(0, 2**32 - 1),
    "scale": st.sampled_from([1e-3, 1.0, 10.0, 1e4]),
    "ties": st.booleans(),
}


@pytest.mark.parametrize("name", PROX)
@given(**points)
def test_minimal_and_nonexpansive(engine, name, seed, scale, ties):
    case, rng = PROX[name], np.random.default_rng(seed)
    x, y = point(case, rng, scale, ties), point(case, rng, scale, ties)
    z, w = case.prox(x, *case.parameters), case.prox(y, *case.parameters)
    tol = 1e-12 * (1 + scale) ** 2
    assert np.linalg.norm(z - w) <= np.linalg.norm(x - y) * (1 + 1e-12) + 1e-14 * scale
    for step in (1e-3, 1.0, 10.0):
        v = z + step * scale * rng.normal(size=z.shape) * rng.integers(0, 2, z.shape)
        assert case.value(v) >= case.value(z) + np.sum((x - z) * (v - z)) - tol
    v = np.zeros_like(z)
    assert case.value(v) >= case.value(z) + np.sum((x - z) * (v - z)) - tol


@pytest.mark.parametrize("name", PROX)
def test_backends_batches_and_trusted_form(backend, engine, name):
    case, rng = PROX[name], np.random.default_rng(1)
    stack = np.stack([[point(case, rng, s) for s in (0.1, 1.0, 20.0)] for _ in range(2)])
    one_by_one = np.array([[case.prox(x, *case.parameters) for x in row] for row in stack])
    x = backend.asarray(stack)
    parameters = tuple(backend.asarray(p) if isinstance(p, np.ndarray) else p for p in case.parameters)
    z = case.prox(x, *parameters)
    tol = 1e-12 if backend.is_double else 2e-5
    assert_close(z, backend.asarray(one_by_one), rtol=tol, atol=tol)
    assert z.device == x.device
    assert_close(case.prox(x, *parameters, xp=backend.xp), z, rtol=tol, atol=tol)
    assert_close(case.prox(x[0, 1, ...], *parameters), z[0, 1, ...], rtol=tol, atol=tol)
    assert case.prox(x[:0, ...], *parameters).shape == (0, *stack.shape[1:])


@pytest.mark.parametrize("name", PROX)
def test_nan_gives_nan(engine, name):
    case, rng = PROX[name], np.random.default_rng(2)
    x = np.stack([point(case, rng, 1.0) for _ in range(3)])
    expected = case.prox(x, *case.parameters)
    x[(1,) + (0,) * (x.ndim - 1)] = np.nan
    z = case.prox(x, *case.parameters)
    np.testing.assert_array_equal(z[[0, 2]], expected[[0, 2]])
    touched = {"nuclear": np.s_[:], "tv": np.s_[:], "blocks": np.s_[:2], "groups": np.s_[:]}.get(name, np.s_[:1])
    assert np.isnan(z[1][touched]).all()
    if name not in ("nuclear", "tv", "groups"):
        rest = slice(touched.stop, None)
        np.testing.assert_array_equal(z[1][rest], expected[1][rest])


# --- total variation ---


def tv_violation(y, z, reg):
    """Violation of the optimality conditions, by the dual ``u_k = sum_{i <= k} y_i - z_i``."""
    u, jump = np.cumsum(y - z), -np.diff(z)
    off = np.abs(u[:-1] - reg * np.sign(jump))[np.abs(jump) > 1e-9 * (1 + np.abs(y).max())]
    return max(abs(u[-1]), np.max(np.abs(u[:-1]) - reg, initial=0.0), np.max(off, initial=0.0))


@given(y=rows(size=1e3, batch=[()]), walk=st.booleans(), reg=st.sampled_from([0.0, 1e-3, 0.5, 1.0, 2.5, 300.0, 1e7]))
def test_tv_optimality_conditions(engine, y, walk, reg):
    y = np.cumsum(y) if walk else y
    z = geo.prox_tv1d(y, reg)
    assert tv_violation(y, z, reg) <= 1e-12 * y.size * (1 + np.abs(y).max())
    if np.abs(np.cumsum(y - y.mean())).max() < reg:
        assert np.ptp(z) <= 1e-12 * reg


@pytest.mark.parametrize("n", [1, 2, 3, 17, 200])
@pytest.mark.parametrize("reg", [0.0, 0.3, 5.0, 1e300])
def test_tv_against_bounded_least_squares(engine, n, reg):
    y = np.random.default_rng(n).normal(size=n)
    z = geo.prox_tv1d(y, reg)
    if n == 1 or reg in (0.0, 1e300):
        np.testing.assert_allclose(z, y if reg == 0.0 or n == 1 else np.full(n, y.mean()), rtol=1e-13, atol=1e-14)
        return
    d = np.diff(np.eye(n), axis=0)
    u = lsq_linear(d.T, y, bounds=(-reg, reg), method="bvls", tol=1e-14).x
    np.testing.assert_allclose(z, y - d.T @ u, atol=1e-7)


def test_tv_of_several_weights_and_long_signals(engine):
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=(3, 3000)), axis=1)
    y[1] = np.repeat(rng.normal(size=30), 100)
    reg = np.array([0.0, 3.0, 40.0])
    z = geo.prox_tv1d(y, reg)
    for v, w, r in zip(y, z, reg, strict=True):
        np.testing.assert_allclose(w, geo.prox_tv1d(v, r), rtol=0, atol=1e-12)
        assert tv_violation(v, w, r) <= 1e-9
    single = geo.prox_tv1d(y.astype("float32"), reg)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, z, atol=2e-4)


# --- identities ---


@given(**points)
def test_moreau_with_the_projection_onto_the_dual_ball(engine, seed, scale, ties):
    rng = np.random.default_rng(seed)
    x = point(PROX["l1"], rng, scale, ties)
    tol = 1e-13 * scale
    np.testing.assert_allclose(geo.prox_l1(x, 0.7), x - geo.project_box(x, -0.7, 0.7), atol=tol)
    np.testing.assert_allclose(geo.prox_group_l2(x, 0.7, N), x - geo.project_l2_ball(x, 0.7), atol=tol)
    largest = x - geo.project_l1_ball(x, 0.7)  # the proximal operator of the largest modulus
    np.testing.assert_allclose(np.abs(largest).max(), max(np.abs(x).max() - tau(np.abs(x), 0.7), 0.0), atol=10 * tol)


def tau(sizes, mass):
    """How far the largest entry falls when a mass is taken from the top."""
    return sizes.max() - max(np.max([(np.sort(sizes)[-k:].sum() - mass) / k for k in range(1, N + 1)]), 0.0)


def test_special_values():
    np.testing.assert_array_equal(geo.prox_l1([0.0, -0.0, 1.0, -1.0, np.inf], 1.0), [0, 0, 0, 0, np.inf])
    np.testing.assert_array_equal(geo.prox_group_l2([0.0, 0.0, 3e200, 4e200], 0.0, 2), [0, 0, 3e200, 4e200])
    np.testing.assert_allclose(geo.prox_group_l2([6e200, 8e200], 5e200, [0, 0]), [3e200, 4e200])
    np.testing.assert_array_equal(geo.prox_nuclear(np.zeros((2, 3)), 1.0), np.zeros((2, 3)))
    np.testing.assert_array_equal(geo.prox_l1([3, -1]), [2.0, 0.0])
    for engine in ("auto", "generic"):
        with optlib.config(engine=engine):
            np.testing.assert_array_equal(geo.prox_tv1d([[1.0, 3.0], [0.0, 0.0]], 0.5), [[1.5, 2.5], [0, 0]])
            assert np.isnan(geo.prox_tv1d([np.inf, 1.0, 2.0])).all()
