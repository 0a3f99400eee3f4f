"""Learners against closed forms, invariances and the backends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import optlib
from optlib import geometry as geo
from optlib import online
from optlib.online import Feedback, play
from optlib.testing import assert_close
from tests.online.learners import BANDITS, EXAMPLES, LINEAR, PERTURBED, PORTFOLIOS, UNBOUNDED, N, told, world

ALL = {**LINEAR, **UNBOUNDED, **BANDITS, **PERTURBED, **PORTFOLIOS, **EXAMPLES}
FREE = {**UNBOUNDED, **EXAMPLES}  # bounds are for a comparator
LOSSES = np.random.default_rng(0).random((12, N)) / N


def run(learner, losses):
    points = [np.asarray(learner.decide())]
    for row in losses:
        learner.update(told(learner, row))
        points.append(np.asarray(learner.decide()))
    return np.stack(points)


def on(backend, environment):
    """The same environment on a backend."""
    if isinstance(environment, np.ndarray):
        return backend.asarray(environment)
    if isinstance(environment, online.PortfolioLosses):
        return online.PortfolioLosses(backend.asarray(environment._relatives))
    features, targets = (backend.asarray(values) for values in (environment._features, environment._targets))
    return online.LinearModelLosses(features, targets, loss=environment.loss, tube=environment.tube)


# the others do the same with another number: one bisection costs ninety projections
REPRESENTATIVE = ("squared-proximal", "absolute-ball", "logistic-mirror-prox", "hinge-truncated", "AdaImplicit-simplex")


@pytest.mark.parametrize("name", [name for name in ALL if "mplicit" not in name or name.endswith(REPRESENTATIVE)])
def test_backends(name, backend, engine):
    learner = ALL[name]()
    losses = LOSSES[:3] if name in {**PORTFOLIOS, **EXAMPLES} else LOSSES
    comparator = backend.asarray(np.full(N, 0.1)) if name in FREE else None
    result = play(learner, on(backend, world(learner, losses)), comparator=comparator)
    with optlib.config(engine="generic"):
        expected = play(ALL[name](), world(learner, losses), comparator=None if comparator is None else np.full(N, 0.1))
    if name in PERTURBED:
        assert result.x.dtype == backend.dtype
        if backend.is_double:
            assert_close(result.x, backend.asarray(expected.x), rtol=1e-9, atol=1e-9)
    elif name in BANDITS:
        assert result.x.dtype == backend.xp.int64
        if backend.is_double:
            assert_close(result.x, expected.x)
    else:
        assert result.x.dtype == backend.dtype
        assert_close(result.x, backend.asarray(expected.x), rtol=10 * backend.rtol, atol=10 * backend.rtol)
        assert_close(result.regret_bound, expected.regret_bound, rtol=100 * backend.rtol)
    assert_close(
        result.regret, expected.regret, rtol=1.0, atol=1.0 if name in {**BANDITS, **PERTURBED} else 20 * backend.rtol
    )


@pytest.mark.parametrize("name", ALL)
def test_update_is_play_is_batch(name):
    """One by one, in one block, and side by side with another learner: the same decisions."""
    one, block = ALL[name](), ALL[name]()
    points = run(one, LOSSES)
    comparator = np.zeros(N) if name in FREE else None
    result = play(block, world(block, LOSSES), comparator=comparator)
    assert np.array_equal(points[-1], result.x)
    assert one.rounds == block.rounds == result.nit == len(LOSSES)
    if name in EXAMPLES:
        both = ALL[name]().start(learners=2)
        for row, other in zip(LOSSES, LOSSES[::-1], strict=True):
            if both.foresees:
                both.decide(np.stack([other, row]))
            first, second = told(both, other), told(both, row)
            pair = zip((first.features, first.target), (second.features, second.target), strict=True)
            both.update(Feedback(**dict(zip(("features", "target"), map(np.stack, pair), strict=True))))
        assert_close(both.decide()[1], points[-1], rtol=1e-9, atol=1e-11)
        assert_close(both.regret_bound(comparator)[1], result.regret_bound, rtol=1e-7)
    elif name not in {**BANDITS, **PERTURBED, **PORTFOLIOS}:
        both = play(ALL[name](), np.stack([LOSSES[::-1], LOSSES], axis=1), comparator=comparator)
        assert_close(both.x[1], points[-1], rtol=1e-12, atol=1e-14)
        assert_close(both.regret[1], result.regret, rtol=1e-9, atol=1e-12)
        assert_close(both.regret_bound[1], result.regret_bound, rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_saved_mid_stream_continues_bitwise(name):
    whole, first, second = ALL[name](), ALL[name](), ALL[name]()
    points = run(whole, LOSSES)
    run(first, LOSSES[:5])
    second.start()
    second.state = first.state
    assert np.array_equal(run(second, LOSSES[5:]), points[5:])


@pytest.mark.parametrize("name", ALL)
def test_bad_feedback_leaves_the_learner_as_it_was(name):
    learner = ALL[name]()
    run(learner, LOSSES[:3])
    before = learner.state
    values = np.nan, 1e300
    wrong = values if learner.kind == "arm" else [np.full(N, value) for value in values]
    if learner.kind == "example":
        wrong = [Feedback(features=value, target=1.0) for value in wrong]
        wrong += [Feedback(features=np.ones(N), target=np.nan), Feedback(gradient=np.ones(N))]
    for bad in (*wrong, np.ones(N + 1), Feedback()):
        with pytest.raises((ValueError, TypeError), match="round `4`"):
            learner.update(bad)
        assert learner.state is before


@pytest.mark.parametrize("name", ALL)
def test_decisions_are_stable_and_feasible(name):
    learner = ALL[name]()
    x = learner.decide()
    if name not in BANDITS:
        x[...] = 7.0  # the caller's own copy
        run(learner, LOSSES)
        if learner.domain is not None:
            assert learner.domain.contains(learner.decide(), 1e-9)
    assert np.array_equal(learner.decide(), learner.decide())


ANY_SIZE = [name for name in LINEAR if "rate" not in name and not name.startswith(("Ader", "MetaGrad"))]


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("size", [0.0, 1e-150, 1e100])
def test_extreme_sizes(name, size):
    result = play(LINEAR[name](), size * LOSSES)
    assert np.all(np.isfinite(result.x))
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-12 * size


def test_hedge_is_exponential_weights():
    learner = online.Hedge(N, rate=0.7)
    weights = np.exp(-0.7 * np.cumsum(LOSSES, axis=0))
    weights /= weights.sum(axis=1, keepdims=True)
    assert_close(run(learner, LOSSES)[1:], weights, rtol=1e-12)


def test_one_expert():
    for learner in (online.Hedge(1), online.AdaHedge(1), online.FixedShare(1, rounds=9, switches=0)):
        result = play(learner, np.random.default_rng(0).random((9, 1)))
        assert result.x == 1.0
        assert abs(result.regret) < 1e-12
    result = play(online.TsallisINF(1, rng=0), np.random.default_rng(0).random((9, 1)))
    assert result.x == 0


@pytest.mark.parametrize("name", ALL)
def test_zero_rounds(name):
    learner = ALL[name]()
    result = play(learner, world(learner, LOSSES[:0]), comparator=np.full(N, 0.1) if name in FREE else None)
    assert result.nit == result.regret == result.cumulative_loss == 0.0
    assert result.regret_bound >= 0.0


ONE = {
    "LogBarrierFTRL": lambda: online.LogBarrierFTRL(1, rounds=9, rng=0),
    "LogBarrierFTRL-features": lambda: online.LogBarrierFTRL(1, rounds=9, features=[[2.0]], rng=0),
    "EXP3": lambda: online.EXP3(1, rng=0),
    "FTPL": lambda: online.FTPL(geo.Simplex(1), rng=0),
    "Sword": lambda: online.Sword(geo.Simplex(1), rounds=9, scale=1.0, smoothness=1.0),
    "MetaGrad": lambda: online.MetaGrad(geo.Simplex(1), rounds=9, scale=1.0),
    "OnlineFrankWolfe": lambda: online.OnlineFrankWolfe(geo.Simplex(1), rounds=9),
    "LinearDecay": lambda: online.LinearDecay(geo.Simplex(1), rounds=9),
    "DoG": lambda: online.DoG(geo.Simplex(1)),
    "ConstrainedOGD": lambda: online.ConstrainedOGD(geo.Simplex(1), rounds=9),
    "PortfolioONS": lambda: online.PortfolioONS(1),
    "ExponentiatedGradient": lambda: online.ExponentiatedGradient(1),
}


@pytest.mark.parametrize("name", ONE)
def test_one_coordinate(name):
    learner = ONE[name]()
    losses = np.random.default_rng(0).random((9, 1))
    result = play(learner, world(learner, losses))
    assert abs(result.regret) < 1e-12 <= result.regret_bound + 1e-9
    assert_close(result.x, np.asarray(0 if learner.kind == "arm" else [1.0]), rtol=1e-9)


def test_mirror_descent_on_a_ball_is_gradient_descent():
    first = run(online.OGD(geo.Ball(N)), LOSSES)
    second = run(online.OMD(geo.EuclideanBall(), N), LOSSES)
    assert_close(first, second, rtol=1e-12)


def test_ftrl_with_entropy_is_hedge():
    first = run(online.Hedge(N, rate=0.3), LOSSES)
    assert_close(first, run(online.FTRL(geo.Entropy(), N, rate=0.3), LOSSES), rtol=1e-12)
    assert_close(first, run(online.OMD(geo.Entropy(), N, rate=0.3), LOSSES), rtol=1e-12)


@given(seed=st.integers(0, 2**32), factor=st.sampled_from([1e-6, 3.0, 1e8]), shift=st.sampled_from([0.0, 1.0]))
def test_adahedge_is_scale_and_translation_free(seed, factor, shift):
    losses = np.random.default_rng(seed).integers(0, 4, (20, N)).astype(float)
    first = run(online.AdaHedge(N), losses)
    assert_close(run(online.AdaHedge(N), factor * (losses + shift)), first, rtol=1e-6, atol=1e-9)


def test_adagrad_ignores_the_scale_of_a_coordinate():
    box, scales = geo.Box(-1.0, 1.0, N), np.asarray([1.0, 1e-8, 1e8, 3.0])
    assert_close(run(online.AdaGrad(box), LOSSES * scales), run(online.AdaGrad(box), LOSSES), rtol=1e-9, atol=1e-12)


def test_a_perfect_hint_costs_nothing():
    learner = online.OptimisticOMD(geo.EuclideanBall(), N)
    total = 0.0
    for row in LOSSES:
        total += learner.decide(hint=row) @ row
        learner.update(row)
    regret = total + np.linalg.norm(LOSSES.sum(axis=0))
    assert regret <= learner.regret_bound() <= 2.0 * np.sqrt(4.0 + 1e-8) + 1e-9


def test_optimism_beats_its_worst_case_bound():
    """The bound as realised is below that of the paper, 3/2 D sqrt((4 + delta) G^2 + V)."""
    learner = online.OptimisticOMD(geo.EuclideanBall(), N, scale=np.max(np.linalg.norm(LOSSES, axis=1)))
    result = play(learner, LOSSES)
    variation = np.sum(np.diff(LOSSES, axis=0, prepend=0.0) ** 2)
    assert result.regret_bound <= 1.5 * 2.0 * np.sqrt((4 + 1e-9) * learner.scale**2 + variation)


def test_ftrl_proximal_gives_zeros():
    rng = np.random.default_rng(0)
    learner = online.FTRLProximal(20, l1=5.0)
    for _ in range(200):
        noise = 0.1 * rng.standard_normal(20)
        noise[:2] += 0.5
        learner.update(noise)
    x = learner.decide()
    assert np.all(x[:2] < 0) and np.sum(x == 0.0) >= 15


def test_coin_betting_goes_far_and_comes_back():
    learner = online.CoinBetting(1)
    for _ in range(60):
        learner.update([-1.0])
    assert learner.decide()[0] > 1e6
    for _ in range(2000):
        learner.update([-1.0])
    assert np.isfinite(learner.decide()[0]) and np.isfinite(learner.state.log_wealth[0])


def test_tsallis_beats_exp3_when_an_arm_is_better():
    rng = np.random.default_rng(1)
    losses = (rng.random((3000, 8)) < [0.375, *[0.5] * 7]).astype(float)
    mean = {
        name: np.mean(play(make(8, rng=0), losses, learners=40).regret)
        for name, make in {"exp3": online.EXP3, "tsallis": online.TsallisINF}.items()
    }
    assert mean["tsallis"] < mean["exp3"]


def test_arms_follow_the_probabilities():
    learner = online.EXP3(N, rng=0).start(learners=20_000)
    learner.update(np.where(learner.decide() == 1, 0.0, 1.0))
    expected = learner.state.x.mean(axis=0)
    assert_close(np.bincount(learner.decide(), minlength=N) / 20_000, expected, atol=0.015, rtol=0)
