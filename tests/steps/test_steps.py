"""Schedules, rules and line searches keep what they promise."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from optlib import steps
from optlib._core.checkpoint import fingerprint
from optlib.backend import to_numpy
from optlib.testing import assert_close

positive = st.floats(1e-3, 1e3)

# ----------------------------------------------------------------------------------------------------- schedules

schedules = st.one_of(
    st.builds(steps.Constant, positive),
    st.builds(steps.PowerDecay, positive, st.floats(0, 3), positive),
    st.builds(steps.LinearDecay, positive, st.integers(2, 50)),
    st.builds(steps.GeometricDecay, positive, st.floats(0.01, 1), st.integers(0, 20)),
    st.sampled_from(["exact", "quadratic", "cubic", "exponential"]).map(steps.tolerance_schedule),
)


@given(schedules)
def test_schedules_are_nonnegative_and_never_rise(schedule):
    values = [schedule(k) for k in range(80)]
    assert all(isinstance(v, float) and v >= 0 for v in values)
    assert all(b <= a for a, b in itertools.pairwise(values))
    assert values[0] > 0


@given(positive, st.integers(0, 1000))
def test_formulas(value, k):
    assert steps.PowerDecay(value)(k) == pytest.approx(value / math.sqrt(k + 1))
    assert steps.PowerDecay(2 / value, power=1)(k) == pytest.approx(2 / (value * (k + 1)))
    assert steps.LinearDecay(value, 500)(k) == pytest.approx(value * max(0, 1 - (k + 1) / 500))
    assert steps.GeometricDecay(value, 0.98, hold=10)(k) == pytest.approx(value * 0.98 ** max(0, k - 10))
    assert steps.tolerance_schedule("cubic", start=value, floor=1e-30)(k) == pytest.approx(value / (k + 1) ** 3)


def test_floor_and_summability():
    for kind in ("quadratic", "cubic", "exponential"):
        tolerance = steps.tolerance_schedule(kind, start=0.1, floor=1e-300)
        assert sum(tolerance(k) for k in range(20_000)) < 1.01
        assert steps.tolerance_schedule(kind)(10**9) == 1e-12
    assert steps.tolerance_schedule("exact", floor=1e-10)(0) == 1e-10
    assert steps.tolerance_schedule(0.5)(7) == 0.5


def test_what_users_pass():
    assert steps.as_schedule(0.25)(9) == 0.25
    own = steps.as_schedule(lambda k: 1.0 + k)
    assert own(2) == 3.0
    rule = steps.AdaGradNorm(1.0)
    assert steps.as_step_rule(rule) is rule
    state = steps.as_step_rule(lambda k: 1.0 / (k + 1)).init(np.zeros(1))
    eta, state = steps.as_step_rule(lambda k: 1.0 / (k + 1)).step(state)
    eta, state = steps.as_step_rule(lambda k: 1.0 / (k + 1)).step(state)
    assert eta == 0.5


def test_a_checkpoint_knows_the_schedule():
    assert fingerprint(steps.Constant(1.0)) == fingerprint(steps.Constant(1.0))
    assert fingerprint(steps.Constant(1.0)) != fingerprint(steps.Constant(2.0))
    assert fingerprint(steps.Polyak(1.0)) != fingerprint(steps.Polyak(2.0))


# --------------------------------------------------------------------------------------------------------- rules


def play(rule, xs, gs, values, backend):
    """Feed a rule with a given run: the steps as host floats, and the last state."""
    xp = backend.xp
    xs, gs = [backend.asarray(x) for x in xs], [backend.asarray(g) for g in gs]
    state, etas = rule.init(xs[0]), []
    for x, g, value in zip(xs, gs, values, strict=True):
        eta, state = rule.step(
            state, x=x, grad=g, square=xp.sum(g * g), value=backend.asarray(np.float64(value)), xp=xp
        )
        assert eta.dtype == backend.dtype
        assert eta.shape == ()
        etas.append(float(eta))
    return np.array(etas), state


def a_run(seed=0, n=12, d=4):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, d)), rng.uniform(1, 2, n)


def test_adagrad_norm(backend):
    xs, gs, values = a_run()
    etas, _ = play(steps.AdaGradNorm(3.0, offset=2.0), xs, gs, values, backend)
    np.testing.assert_allclose(etas, 3.0 / np.sqrt(2.0 + np.cumsum(np.sum(gs**2, 1))), rtol=backend.rtol)
    nothing, _ = play(steps.AdaGradNorm(3.0), xs, 0 * gs, values, backend)
    assert np.all(nothing == 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_distance_over_gradients(backend, weighted):
    xs, gs, values = a_run()
    xs[:2] = xs[0]  # the second point is the first
    etas, _ = play(steps.DistanceOverGradients(weighted=weighted, relative=1e-3), xs, gs, values, backend)
    first = 1e-3 * (1 + np.linalg.norm(xs[0]))
    r = np.maximum.accumulate(np.maximum(first, np.linalg.norm(xs - xs[0], axis=1)))
    squares = np.sum(gs**2, 1)
    want = r**2 / np.sqrt(np.cumsum(r**2 * squares)) if weighted else r / np.sqrt(np.cumsum(squares))
    np.testing.assert_allclose(etas, want, rtol=backend.rtol)
    assert np.all(play(steps.DistanceOverGradients(weighted=weighted), xs, 0 * gs, values, backend)[0] == 0)


def test_distance_over_gradients_of_independent_runs():
    xs, gs, _ = a_run(n=6, d=3)
    rule, xp = steps.DistanceOverGradients(axis=-1), np
    both = np.stack([xs, 2 * xs], axis=1)
    state = rule.init(both[0])
    alone = rule.init(2 * xs[0])
    for x, g in zip(both, gs, strict=True):
        eta, state = rule.step(state, x=x, square=np.full(2, g @ g), xp=xp)
        single, alone = rule.step(alone, x=x[1], square=g @ g, xp=xp)
        assert eta.shape == (2,)
        assert eta[1] == pytest.approx(single)


def test_polyak(backend):
    xs, gs, values = a_run()
    etas, _ = play(steps.Polyak(1.5), xs, gs, values, backend)
    np.testing.assert_allclose(
        etas, np.maximum(values - 1.5, 0) / np.sum(gs**2, 1), rtol=10 * backend.rtol, atol=backend.eps
    )
    assert np.all(play(steps.Polyak(0.0), xs, 0 * gs, values, backend)[0] == 0)


@pytest.mark.parametrize("short", [False, True])
def test_barzilai_borwein(backend, short):
    hessian = np.diag([1.0, 3.0, 10.0, 30.0])
    xs, _, values = a_run()
    etas, _ = play(steps.BarzilaiBorwein(0.7, short=short), xs, xs @ hessian, values, backend)
    assert etas[0] == pytest.approx(0.7)
    assert np.all((etas[1:] >= (1 - 1e-5) / 30) & (etas[1:] <= 1 + 1e-5))  # inverse Rayleigh quotients
    concave, _ = play(steps.BarzilaiBorwein(0.7, short=short), xs, -xs, values, backend)
    np.testing.assert_allclose(concave, 0.7, rtol=backend.rtol)
    still, _ = play(steps.BarzilaiBorwein(0.7, short=short), xs[[0, 0, 0]], xs[[0, 0, 0]], values[:3], backend)
    np.testing.assert_allclose(still, 0.7, rtol=backend.rtol)


def test_barzilai_borwein_is_fast_on_quadratics():
    hessian, x = np.geomspace(1, 1e3, 30), np.ones(30)
    rule = steps.BarzilaiBorwein(1e-3)
    state = rule.init(x)
    for _ in range(250):
        eta, state = rule.step(state, x=x, grad=hessian * x, xp=np)
        x = x - eta * hessian * x
    assert np.linalg.norm(hessian * x) < 1e-2 < 0.5 < (1 - 1e-3) ** 250  # the last is where steps 1 / L are


def test_hold_then_decay(backend):
    falling, flat = np.linspace(2, 1, 30), np.full(30, 1.0)
    values = np.concatenate([falling, flat])
    x = np.zeros((60, 1))
    etas, state = play(steps.HoldThenDecay(0.5, 0.9, patience=20), x, x, values, backend)
    np.testing.assert_allclose(etas[:49], 0.5, rtol=backend.rtol)
    np.testing.assert_allclose(etas[49:], 0.5 * 0.9 ** np.arange(1, 12), rtol=backend.rtol)
    assert float(state.decays) == 11


@given(seed=st.integers(0, 99), c=st.sampled_from([1e-8, 0.1, 7.0, 1e8]))
def test_scale_invariance(seed, c):
    """Gradients c g and values c f give the same displacements."""
    xs, gs, values = a_run(seed)
    backend = NumPy()
    for rule in (steps.AdaGradNorm(2.0), steps.DistanceOverGradients(), steps.DistanceOverGradients(weighted=True)):
        one, other = play(rule, xs, gs, values, backend)[0], play(rule, xs, c * gs, values, backend)[0]
        np.testing.assert_allclose(c * other, one, rtol=1e-9)
    one, other = (
        play(steps.Polyak(0.0), xs, gs, values, backend)[0],
        play(steps.Polyak(0.0), xs, c * gs, c * values, backend)[0],
    )
    np.testing.assert_allclose(c * other, one, rtol=1e-9)
    for short in (False, True):
        rule, scaled = steps.BarzilaiBorwein(1.0, short=short), steps.BarzilaiBorwein(1.0 / c, short=short)
        np.testing.assert_allclose(
            c * play(scaled, xs, c * gs, values, backend)[0], play(rule, xs, gs, values, backend)[0], rtol=1e-9
        )


class NumPy:
    """The smallest backend, for tests under hypothesis."""

    xp, dtype = np, np.dtype("float64")

    @staticmethod
    def asarray(host):
        return np.asarray(host)


@pytest.mark.parametrize("power", [0.5, 1.5])
def test_regret_of_the_self_confident_step(power):
    """Online gradient descent on a ball with AdaGradNorm(D / sqrt 2): regret <= sqrt 2 D sqrt(sum |g|^2)."""
    rng = np.random.default_rng(0)
    gs = rng.standard_normal((400, 3)) * rng.uniform(0.1, 2, (400, 1)) ** (4 * power)
    rule, x, loss = steps.AdaGradNorm(2.0 / math.sqrt(2)), np.zeros(3), 0.0
    state = rule.init(x)
    for g in gs:
        loss += g @ x
        eta, state = rule.step(state, square=g @ g, xp=np)
        x = x - eta * g
        x = x / max(1.0, np.linalg.norm(x))
    best = -np.linalg.norm(gs.sum(0))
    assert loss - best <= math.sqrt(2) * 2 * math.sqrt(np.sum(gs**2))


def test_last_iterate_of_linear_decay():
    """Subgradient descent on |x| with D = 1, G = 1: error of the last iterate at most 1 / sqrt T."""
    for horizon in (10, 100, 1000):
        schedule = steps.LinearDecay(1.0 / math.sqrt(horizon), horizon)
        for start in (1.0, 0.37):
            x = start
            for k in range(horizon):
                x -= schedule(k) * np.sign(x)
            assert abs(x) <= 1.0 / math.sqrt(horizon)


# ------------------------------------------------------------------------------------------------- line searches

coefficients = st.lists(st.floats(-2, 2), min_size=3, max_size=3)


def smooth(a):
    """A function on the half line, bounded below, with many waves, and its derivative."""

    def value(t):
        return 0.05 * t * t + a[0] * np.sin(t) + a[1] * np.cos(2 * t) + a[2] * np.sin(5 * t) / 3

    def derivative(t):
        return 0.1 * t + a[0] * np.cos(t) - 2 * a[1] * np.sin(2 * t) + 5 * a[2] * np.cos(5 * t) / 3

    return value, derivative


@given(coefficients, st.sampled_from([0.5, 0.9, (0.1, 0.5)]), st.floats(1e-2, 1e2))
def test_armijo_holds(a, shrink, step):
    value, derivative = smooth(a)
    assume(derivative(0.0) < -1e-3)
    found = steps.armijo(value, value(0.0), derivative(0.0), step=step, shrink=shrink, maxiter=300)
    assert found.success
    assert 0 < found.step <= step
    assert found.value == value(found.step)
    assert found.value <= value(0.0) + 1e-4 * found.step * derivative(0.0) + 1e-14


@given(coefficients, st.floats(1e-2, 1e2), st.sampled_from([0.1, 0.9]))
def test_wolfe_holds(a, step, c2):
    value, derivative = smooth(a)
    assume(derivative(0.0) < -1e-3)
    found = steps.wolfe(lambda t: (value(t), derivative(t)), value(0.0), derivative(0.0), step=step, c2=c2, maxiter=60)
    assert found.success
    assert found.value == value(found.step)
    assert found.value <= value(0.0) + 1e-4 * found.step * derivative(0.0) + 1e-14
    assert abs(derivative(found.step)) <= c2 * abs(derivative(0.0))


@given(coefficients, st.integers(-30, 30))
def test_line_searches_do_not_see_units(a, exponent):
    value, derivative = smooth(a)
    assume(derivative(0.0) < -1e-3)
    c = 2.0**exponent
    one = steps.armijo(value, value(0.0), derivative(0.0))
    other = steps.armijo(lambda t: c * value(t), c * value(0.0), c * derivative(0.0))
    assert (one.step, one.evaluations) == (other.step, other.evaluations)
    pair = steps.wolfe(lambda t: (value(t), derivative(t)), value(0.0), derivative(0.0))
    twin = steps.wolfe(lambda t: (c * value(t), c * derivative(t)), c * value(0.0), c * derivative(0.0))
    assert (pair.step, pair.evaluations) == (twin.step, twin.evaluations)


def test_nonmonotone_takes_the_full_step():
    value = lambda t: (t - 0.1) ** 2
    assert steps.armijo(value, 0.01, -0.2).step < 1
    assert steps.armijo(value, 0.01, -0.2, reference=5.0).step == 1


def test_walls_and_wrong_directions():
    wall = lambda t: -t if t < 0.2 else (math.inf if t < 0.6 else math.nan)
    for shrink in (0.5, (0.1, 0.5)):
        found = steps.armijo(wall, 0.0, -1.0, shrink=shrink)
        assert found.success
        assert found.step < 0.2
    steep = lambda t: (-t + 4 * t * t, 8 * t - 1) if t < 0.2 else (math.nan, math.nan)
    assert steps.wolfe(steep, 0.0, -1.0, c2=0.1).step == pytest.approx(0.125, rel=0.2)
    for search in (steps.armijo, steps.wolfe):
        assert not search(lambda t: (t, 1.0), 0.0, 1.0).success
        assert not search(lambda t: (t, 1.0), 0.0, math.nan).success
    rising = steps.armijo(lambda t: t, 0.0, -1.0, maxiter=7)  # the slope was wrong
    assert rising == steps.LineSearch(0.0, 0.0, 7, False)
    endless = steps.wolfe(lambda t: (-t, -1.0), 0.0, -1.0, maxiter=5)  # not bounded below
    assert not endless.success
    assert endless.step > 1


def test_rounding_does_not_stop_a_search(backend):
    """At the minimum up to rounding, values differ by noise only: the step is accepted."""
    dtype = np.float64 if backend.is_double else np.float32
    base = backend.asarray(np.float64(1.0))
    noise = backend.asarray(np.float64(np.finfo(dtype).eps))
    found = steps.armijo(lambda t: base + noise, base, backend.asarray(np.float64(-1e-20)))
    assert found.success
    assert found.evaluations == 1
    assert not steps.armijo(lambda t: base + 100 * noise, base, backend.asarray(np.float64(-1e-20)), maxiter=5).success


def test_searches_on_devices(backend):
    target = backend.asarray(np.array([1.0, -2.0, 3.0]))
    xp, x = backend.xp, backend.asarray(np.zeros(3))
    f = lambda v: 2.0 * xp.sum((v - target) ** 2)
    g = 4.0 * (x - target)
    slope = -xp.sum(g * g)
    found = steps.armijo(lambda t: f(x - t * g), f(x), slope)
    assert found.step == 0.25
    assert_close(found.value, backend.asarray(np.float64(0.0)))
    pair = steps.wolfe(lambda t: (f(x - t * g), -xp.sum(g * 4.0 * (x - t * g - target))), f(x), slope, c2=0.1)
    assert pair.success
    searched = steps.lipschitz_search(f, lambda t: x - t * g, x, f(x), g, 1.0)
    assert searched.lipschitz == 4.0
    assert searched.evaluations == 3
    assert_close(searched.x, target, rtol=backend.rtol)


@given(st.integers(0, 99), st.floats(1e-3, 10), st.sampled_from([1.5, 2.0, 4.0]))
def test_lipschitz_search_with_a_prox(seed, first, grow):
    """The upper model holds, the estimate is at most `grow` times the constant, and the composite value falls."""
    rng = np.random.default_rng(seed)
    a, b, x = rng.standard_normal((6, 4)), rng.standard_normal(6), rng.standard_normal(4)
    f, g = lambda v: 0.5 * np.sum((a @ v - b) ** 2), a.T @ (a @ x - b)
    true = np.linalg.norm(a, 2) ** 2
    soft = lambda v, t: np.sign(v) * np.maximum(np.abs(v) - 0.3 * t, 0)
    found = steps.lipschitz_search(f, lambda t: soft(x - t * g, t), x, f(x), g, first, grow=grow)
    assert found.success
    assert found.lipschitz <= max(first, grow * true)
    d = found.x - x
    assert found.value <= f(x) + g @ d + 0.5 * found.lipschitz * d @ d + 1e-12
    composite = lambda v: f(v) + 0.3 * np.abs(v).sum()
    assert composite(found.x) <= composite(x) + 1e-12


def test_lipschitz_search_with_a_bregman_divergence():
    """Relative smoothness: a linear function plus entropy is 1-smooth relative to the entropy."""
    x, cost = np.full(3, 1 / 3), np.array([1.0, 2.0, 5.0])
    f = lambda v: cost @ v + np.sum(v * np.log(v))
    g = cost + np.log(x) + 1

    def mirror(t):
        weights = x * np.exp(-t * g)
        return weights / weights.sum()

    kl = lambda y, z: np.sum(y * np.log(y / z))
    found = steps.lipschitz_search(f, mirror, x, f(x), g, 0.25, divergence=kl)
    assert found.lipschitz == 1.0
    np.testing.assert_allclose(found.x, np.exp(-cost) / np.exp(-cost).sum())


def test_lipschitz_search_gives_up():
    x = np.ones(2)
    found = steps.lipschitz_search(lambda v: np.float64(np.nan), lambda t: x - t, x, 1.0, x, 1.0, maxiter=4)
    assert not found.success
    assert found.x is x
    assert to_numpy(found.evaluations) == 4
