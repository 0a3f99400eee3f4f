"""Steps without tuning, steps for the last iterate, and refinement."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import geometry as geo
from optlib import online
from optlib.online import DoG, LinearDecay, play, refined_weights
from optlib.testing import assert_close

FREE = geo.Box(-np.inf, np.inf, 3)


class Fixed:
    """One convex piecewise linear function, round after round: max_i <a_i, x> + b_i."""

    def __init__(self, seed, n=3):
        rng = np.random.default_rng(seed)
        self.a, self.b = rng.standard_normal((6, n)), rng.standard_normal(6)
        self.a /= np.linalg.norm(self.a, axis=1, keepdims=True)

    def __call__(self, t, x):
        values = self.a @ x + self.b
        return float(np.max(values)), self.a[np.argmax(values)]

    def value(self, x):
        return float(np.max(self.a @ x + self.b))


@given(seed=st.integers(0, 2**32), rounds=st.sampled_from([2, 9, 200]), first=st.sampled_from([1e-6, 1e-2]))
def test_the_average_of_dog(seed, rounds, first):
    f, u = Fixed(seed), np.random.default_rng(seed).standard_normal(3)
    learner = DoG(FREE, first=first)
    play(learner, f, rounds, comparator=u)
    assert f.value(learner.average()) - f.value(u) <= learner.average_bound(u) * (1 + 1e-9) + 1e-12


def test_dog_by_its_formula():
    rng = np.random.default_rng(0)
    learner, x, points, squares, far = DoG(FREE, first=0.1), np.zeros(3), [], 0.0, 0.1
    weights = []
    for _ in range(20):
        g = rng.standard_normal(3)
        far, squares = max(far, np.linalg.norm(x)), squares + g @ g
        points.append(x)
        weights.append(far)
        x = x - far / np.sqrt(squares) * g
        learner.update(g)
    assert_close(learner.decide(), x, rtol=1e-12)
    assert_close(learner.average(), np.average(points, axis=0, weights=weights), rtol=1e-12)


def test_dog_before_anything_happened():
    learner = DoG(FREE)
    assert_close(learner.average(), np.zeros(3), rtol=0)
    assert learner.average_bound(np.ones(3)) == np.inf
    learner.update(np.zeros(3))
    assert_close(learner.decide(), np.zeros(3), rtol=0)
    assert learner.regret_bound(np.ones(3)) == 0.0


@given(seed=st.integers(0, 2**32), rounds=st.sampled_from([1, 2, 9, 200]), uneven=st.booleans())
def test_the_last_iterate(seed, rounds, uneven):
    f, rng = Fixed(seed), np.random.default_rng(seed)
    u = geo.Ball(3).project(rng.standard_normal(3))
    weights = rng.random(rounds) + 0.01 if uneven else None
    learner = LinearDecay(geo.Ball(3), rounds=None if uneven else rounds, weights=weights)
    play(learner, f, rounds, comparator=u)
    assert f.value(learner.decide()) - f.value(u) <= learner.last_iterate_bound(u) * (1 + 1e-9) + 1e-12
    if not uneven:
        assert learner.last_iterate_bound() <= 2.0 / np.sqrt(rounds) * (1 + 1e-9)


def test_linear_decay_ends():
    learner = LinearDecay(geo.Ball(2), rounds=4, scale=2.0)
    steps = []
    for _ in range(6):
        before = learner.decide()
        learner.update([-0.01, 0.0])
        steps.append(float(learner.decide()[0] - before[0]) / 0.01)
    assert_close(np.asarray(steps), [0.375, 0.25, 0.125, 0.0, 0.0, 0.0], rtol=1e-9, atol=1e-12)
    assert learner.last_iterate_bound() < 2.0
    assert LinearDecay(geo.Ball(2), rounds=4).last_iterate_bound() == np.inf


def test_refined_weights():
    assert_close(refined_weights(np.full(50, 3.0), 2.0), np.full(50, 2.0 / 3.0 / np.sqrt(50)), rtol=1e-12)
    rng = np.random.default_rng(0)
    norms = np.exp(rng.standard_normal(101))
    assert_close(refined_weights(7.0 * norms, 2.0), refined_weights(norms, 2.0) / 7.0, rtol=1e-12)
    raw = refined_weights(norms, 2.0, smoothing=0.0)
    assert_close(raw, 2.0 * norms**-2.0 / np.sqrt(np.sum(norms**-2.0)), rtol=1e-12)
    falling = refined_weights(np.linspace(10.0, 1.0, 100), 1.0)
    learner = LinearDecay(geo.Ball(1), weights=falling)
    assert np.argmax(learner._steps) > 20  # warm-up
    assert np.all(np.isfinite(refined_weights(np.maximum(norms - 1.0, 0.0), 1.0)))


@given(seed=st.integers(0, 2**32))
def test_refined_weights_have_the_better_bound(seed):
    norms = np.exp(np.random.default_rng(seed).standard_normal(60))
    even, refined = np.full(60, 1.0 / np.sqrt(np.sum(norms**2))), refined_weights(norms, 1.0, smoothing=0.0)
    bounds = [(1.0 + np.sum((w * norms) ** 2)) / (2.0 * np.sum(w)) for w in (even, refined)]
    assert bounds[1] <= bounds[0] * (1 + 1e-12)
    assert_close(bounds[1], 1.0 / np.sqrt(np.sum(norms**-2.0)), rtol=1e-12)


@pytest.mark.parametrize("rounds", [16, 400])
def test_frank_wolfe_keeps_the_rate_of_its_theorem(rounds):
    rng = np.random.default_rng(0)
    losses = rng.standard_normal((rounds, 3))
    losses /= np.linalg.norm(losses, axis=1, keepdims=True)
    for domain in (geo.Ball(3), geo.L1Ball(3), geo.Simplex(3)):
        result = play(online.OnlineFrankWolfe(domain, rounds=rounds), losses)
        assert result.regret <= result.regret_bound <= 8.0 * domain.diameter * rounds**0.75


def test_perturbed_leaders_have_the_mean_of_hedge():
    losses = np.random.default_rng(0).random((6, 4))
    leaders = play(online.FTPL(geo.Simplex(4), rng=0), losses, learners=40_000)
    assert_close(np.mean(leaders.x, axis=0), play(online.Hedge(4), losses).x, rtol=0, atol=0.01)
