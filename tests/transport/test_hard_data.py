"""Every method on every kind of hard data: an answer that is finite and honest, or an error that names the argument."""

import numpy as np
import pytest

from optlib.transport import (
    PointCloud,
    divergence,
    emd,
    emd_entropic,
    mirror_sinkhorn,
    partial,
    quadratic,
    sinkhorn,
    sinkhorn_newton,
    solve,
    sparsity_constrained,
)  # fmt: skip

RNG = np.random.default_rng(0)
C, A, B = RNG.random((6, 5)), RNG.dirichlet(np.ones(6)), RNG.dirichlet(np.ones(5))
TINY = np.array([1e-300, 1e-200, 1e-100, 1e-20, 0.5, 0.5])
BLOCKS = np.where(np.arange(6)[:, None] // 3 == np.arange(5) // 3, C, np.inf)
EVEN = np.full(6, 1 / 6), np.array([0.2, 0.2, 0.1, 0.25, 0.25])
SIXTH, FIFTH = np.full(6, 1 / 6), np.full(5, 1 / 5)

DATA = {
    "weights of 1e-300": (C, TINY, B),
    "weights of 1e-300 on both sides": (C, TINY, TINY[:5] * 2),
    "costs of 1e150": (1e150 * C, A, B),
    "costs of 1e-150": (1e-150 * C, A, B),
    "costs over 150 decades": (np.where(RNG.random((6, 5)) < 0.5, 1e150 * C, C), A, B),
    "negative costs": (-C, A, B),
    "ties": (np.round(2.0 * C), SIXTH, FIFTH),
    "constant costs": (np.ones((6, 5)), A, B),
    "no costs": (np.zeros((6, 5)), A, B),
    "one source": (C[:1], [1.0], B),
    "one target": (C[:, :1], A, [1.0]),
    "one pair": (np.full((1, 1), 2.0), [1.0], [1.0]),
    "duplicates": (C[[0, 0, 0, 1, 1, 2]][:, [0, 0, 1, 1, 2]], SIXTH, FIFTH),
    "zero weights": (C, np.r_[0.0, 0.0, A[2:]] / A[2:].sum(), np.r_[B[:3], 0.0, 0.0] / B[:3].sum()),
    "masses of 1e-100": (C, 1e-100 * A, 1e-100 * B),
    "disconnected supports": (BLOCKS, *EVEN),
    "supports without a plan": (BLOCKS, A, B),
    "one forbidden pair": (np.where(C.max() == C, np.inf, C), A, B),
}
METHODS = {
    "solve, large reg": lambda c, a, b, s: solve(c, a, b, reg=0.1 * s),
    "solve, small reg": lambda c, a, b, s: solve(c, a, b, reg=1e-4 * s),
    "solve, exact": lambda c, a, b, s: solve(c, a, b),
    "solve, penalties": lambda c, a, b, s: solve(c, a, b, reg=0.1 * s, unbalanced=s),
    "solve, total variation": lambda c, a, b, s: solve(c, a, b, reg=0.1 * s, unbalanced=s, unbalanced_type="tv"),
    "sinkhorn": lambda c, a, b, s: sinkhorn(c, a, b, reg=0.05 * s),
    "sinkhorn_newton": lambda c, a, b, s: sinkhorn_newton(c, a, b, reg=1e-3 * s),
    "emd": lambda c, a, b, s: emd(c, a, b),
    "emd_entropic": lambda c, a, b, s: emd_entropic(c, a, b),
    "quadratic": lambda c, a, b, s: quadratic(c, a, b, reg=0.1 * s / np.sum(a)),
    "sparsity_constrained": lambda c, a, b, s: sparsity_constrained(c, a, b, k=4, reg=0.1 * s / np.sum(a)),
    "partial": lambda c, a, b, s: partial(c, a, b, mass=0.5 * np.sum(a)),
    "partial, entropy": lambda c, a, b, s: partial(c, a, b, mass=0.5 * np.sum(a), reg=0.1 * s),
    "mirror_sinkhorn": lambda c, a, b, s: mirror_sinkhorn(c, a, b, tol=0.1, maxiter=300),
}
HONEST = ("sparsity_constrained",)  # not convex: no success is no failure
RELAXED = ("solve, penalties", "solve, total variation", "partial", "partial, entropy")


def refused(kind, method):
    """Whether there is no answer: no plan, or a method that does not know forbidden pairs."""
    if kind == "one target":
        return method == "sparsity_constrained"
    if method.startswith("solve"):
        return kind == "supports without a plan" and method not in RELAXED
    return bool(np.isinf(DATA[kind][0]).any())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", DATA)
def test_an_answer_or_a_named_error(kind, method):
    cost, a, b = (np.asarray(u, dtype=float) for u in DATA[kind])
    finite = cost[np.isfinite(cost)]
    size = float(np.ptp(finite)) or float(np.max(np.abs(finite))) or 1.0
    if refused(kind, method):
        with pytest.raises(ValueError, match=r"`(cost|k)`: got .* expected .* Fix: "):
            METHODS[method](cost, a, b, size)
        return
    found = METHODS[method](cost, a, b, size)
    plan = found.plan.toarray()
    assert np.isfinite(plan).all() and plan.sum() > 0.0 and np.isfinite(found.value) and repr(found)
    assert found.success == found.certificate.holds
    assert found.success or method in HONEST, found
    if found.success and method not in RELAXED:
        error = np.abs(plan.sum(axis=1) - a).sum() + np.abs(plan.sum(axis=0) - b).sum()
        assert error <= 2e-6 * a.sum()


@pytest.mark.parametrize("method", ["solve, large reg", "solve, small reg", "solve, exact"])
def test_solve_finds_the_way_through_allowed_pairs(method):
    for kind in ("disconnected supports", "one forbidden pair"):
        cost, a, b = DATA[kind]
        found = METHODS[method](cost, a, b, 1.0).check()
        assert found.plan.toarray()[np.isinf(cost)].sum() < 1e-30
    with pytest.raises(ValueError, match=r"`cost`.*without a way.*allow more pairs"):
        METHODS[method](*DATA["supports without a plan"], 1.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", [solve, sinkhorn, sinkhorn_newton])
def test_weak_penalties_beside_large_costs(method, dtype):
    """Nothing is worth its way: a plan of the mass exp(-cost / 2 rho), mostly zero in floating point, and proven."""
    for offset in (10.0, 100.0, 1e3, 1e5):
        cost, a, b = ((u + shift).astype(dtype) for u, shift in ((C, offset), (A, 0.0), (B, 0.0)))
        found = method(cost, a, b, reg=0.1, unbalanced=1.0)
        plan = found.plan.toarray()
        assert found.success and np.isfinite(plan).all() and all(np.isfinite(u).all() for u in found.potentials)
        assert plan.sum() <= np.exp(-0.45 * offset) and 0.0 <= found.value <= 2.1 + 1e-5


@pytest.mark.parametrize("unbalanced", [None, 1.0])
@pytest.mark.parametrize("method", [solve, sinkhorn, sinkhorn_newton, divergence])
def test_points_without_weight_in_clouds(method, unbalanced):
    """A column without weight has no mass at all: its divergence from what is wanted would be infinite."""
    x, y = np.array([[0.0, 0.3], [1.0, 0.8]]), np.array([[0.2, 0.9], [0.7, 0.1], [0.5, 0.5]])
    for a, b in (([1.0, 0.0], [0.5, 0.0, 0.5]), ([0.5, 0.5], [0.0, 0.0, 1.0]), ([0.0, 1.0], [1.0, 0.0, 0.0])):
        found = method(PointCloud(x, y), a, b, reg=0.05, unbalanced=unbalanced)
        assert found.success and np.isfinite(found.certificate.value), found
