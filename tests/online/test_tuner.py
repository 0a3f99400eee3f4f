"""The tuner against its bound, and on costs whose best candidate is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.online import OnlineTuner
from optlib.testing import assert_close


def play(tuner, costs, contexts=None):
    """Total cost of a tuner on a table of costs, one row a round."""
    total = 0.0
    for t, row in enumerate(costs):
        arm = tuner.ask() if contexts is None else tuner.ask(contexts[t])
        total += row[arm]
        tuner.tell(row[arm])
    return total


@pytest.mark.parametrize("kind", ["random", "alternating", "late"])
def test_mean_regret_within_the_bound(kind):
    rng = np.random.default_rng(0)
    costs = rng.random((600, 4))
    if kind == "alternating":
        costs = np.tile(np.eye(4), (150, 1))
    if kind == "late":
        costs[:200, 0], costs[200:, 0] = 1.0, 0.0
    regrets = []
    for seed in range(20):
        tuner = OnlineTuner(range(4), high=1.0, rng=seed)
        regrets.append(play(tuner, costs) - costs.sum(axis=0).min())
    assert np.mean(regrets) <= tuner.regret_bound() == 4 * math.sqrt(4 * 600) + 1


@given(seed=st.integers(0, 100), unit=st.sampled_from([1e-6, 1.0, 1e9]), d=st.integers(1, 6))
def test_units_do_not_matter(seed, unit, d):
    costs = np.random.default_rng(seed).random((60, d)) + 1.0
    arms = []
    for scale in (1.0, unit):
        tuner, chosen = OnlineTuner(range(d), rng=seed), []
        for row in costs:
            chosen.append(tuner.ask())
            tuner.tell(scale * row[chosen[-1]])
        arms.append(chosen)
    assert arms[0] == arms[1]


def test_finds_the_best_candidate():
    rng = np.random.default_rng(1)
    costs = 10.0 + rng.random((1500, 5)) + np.array([3.0, 2.0, 0.0, 2.0, 5.0])
    tuner = OnlineTuner(list("abcde"), low=10.0, rng=0)
    play_letters = [tuner.candidates.index(tuner.ask()) for _ in range(2)]
    assert play_letters[0] == play_letters[1]  # asking again changes nothing
    for row in costs:
        tuner.tell(row["abcde".index(tuner.ask())])
    assert tuner.best() == "c"
    assert tuner.probabilities()[2] > 0.8
    assert math.isinf(tuner.regret_bound())


def test_context_beats_every_fixed_candidate():
    rng = np.random.default_rng(2)
    contexts = rng.uniform(-1.0, 1.0, 2000)
    centres = np.linspace(-1.0, 1.0, 7)
    costs = 1.0 + 5.0 * (contexts[:, None] - centres) ** 2 + 0.1 * rng.random((2000, 7))
    tuner = OnlineTuner(range(7), low=1.0, context=(-1.0, 1.0), rng=0)
    mean = play(tuner, costs, contexts) / 2000
    assert mean < 0.6 * costs.mean(axis=0).min()
    assert mean < 1.15 * costs.min(axis=1).mean()
    assert tuner.best(0.66) == 5
    assert tuner.best(99.0) == 6  # outside of the range: the nearest
    assert tuner.probabilities(0.0).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("context", [None, (0.0, 1.0)])
def test_saved_tuner_continues_bitwise(context):
    rng = np.random.default_rng(3)
    costs, contexts = rng.random((80, 3)), rng.random(80) if context else None
    first, second = (OnlineTuner(range(3), context=context, rng=5) for _ in range(2))
    play(first, costs[:40], contexts)
    second.state = first.state
    rest = None if contexts is None else contexts[40:]
    assert play(first, costs[40:], rest) == play(second, costs[40:], rest)
    assert_close(first.state.losses, second.state.losses, rtol=0)
    assert first.rounds == 80


def test_failed_round_changes_nothing():
    tuner = OnlineTuner([1.0, 2.0], low=1.0, high=9.0, rng=0)
    arm = tuner.ask()
    for wrong in (math.nan, 0.5, 9.5):
        with pytest.raises(ValueError, match="cost"):
            tuner.tell(wrong)
    assert tuner.rounds == 0
    assert tuner.ask() == arm
    tuner.tell(9.0)
    assert tuner.rounds == 1


def test_zero_costs():
    tuner = OnlineTuner([1, 2], rng=0)
    for _ in range(5):
        tuner.ask()
        tuner.tell(0.0)
    assert_close(tuner.probabilities(), np.full(2, 0.5))
