"""The regret of every learner is at most the bound that it states, on random and on adversarial sequences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import geometry as geo
from optlib import online
from optlib.online import Switching, play
from tests.online.learners import BANDITS, EXAMPLES, LINEAR, PERTURBED, PORTFOLIOS, UNBOUNDED, N

KINDS = ("uniform", "normal", "heavy", "alternating", "constant", "zero", "sparse", "drift", "adversarial")


@st.composite
def sequences(draw):
    """A kind of losses, a seed and a number of rounds."""
    return draw(st.sampled_from(KINDS)), draw(st.integers(0, 2**32)), draw(st.sampled_from([1, 2, 7, 60]))


def losses_of(kind, rng, rounds):
    t = np.arange(rounds)[:, None]
    normal = rng.standard_normal((rounds, N))
    return {
        "uniform": rng.random((rounds, N)),
        "normal": 10.0 * normal,
        "heavy": normal * np.exp(3.0 * rng.standard_normal((rounds, 1))),
        "alternating": np.where((t + np.arange(N)) % 2 == 0, 1.0, -1.0),
        "constant": np.tile(1e-3 * normal[:1], (rounds, 1)),
        "zero": np.zeros((rounds, N)),
        "sparse": normal * (rng.random((rounds, N)) < 0.1),
        "drift": np.sin(0.1 * t + np.arange(N)),
    }[kind]


def environment(kind, rng, rounds):
    """An array of losses, or an adversary that looks at the decision."""
    if kind != "adversarial":
        return losses_of(kind, rng, rounds)

    return Adversary(lambda x: np.sign(x - np.mean(x)) + 0.1 * rng.standard_normal(N))


class Adversary:
    """Linear losses that depend on the decision."""

    def __init__(self, attack):
        self.attack = attack

    def reveal(self, t, x):
        return online.Feedback(gradient=self.attack(x))


@pytest.mark.parametrize("name", LINEAR)
@given(case=sequences())
def test_bounded_sets(name, case):
    kind, seed, rounds = case
    learner = LINEAR[name]()
    options = {}
    if name.endswith("log-barrier"):  # its range is infinite on the boundary
        options["comparator"] = np.asarray([0.97, 0.01, 0.01, 0.01])
    result = play(learner, environment(kind, np.random.default_rng(seed), rounds), rounds, **options)
    size = 1.0 + abs(result.cumulative_loss)
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-12 * size
    assert np.all(np.isfinite(result.x))


@pytest.mark.parametrize("name", UNBOUNDED)
@given(case=sequences(), scale=st.sampled_from([0.0, 0.1, 1.0, 30.0]))
def test_whole_space(name, case, scale):
    kind, seed, rounds = case
    rng = np.random.default_rng(seed)
    u = scale * rng.standard_normal(N)

    def attack(x):
        g = np.sign(x - u) + 1e-3
        return g / np.linalg.norm(g)

    losses = Adversary(attack)
    if kind != "adversarial":
        losses = losses_of(kind, rng, rounds)
        losses = losses / max(1.0, np.linalg.norm(losses, axis=1).max())
    result = play(UNBOUNDED[name](), losses, rounds, comparator=u)
    size = 1.0 + abs(result.cumulative_loss) + rounds * np.linalg.norm(u)
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-12 * size


@given(case=sequences(), switches=st.integers(0, 5))
def test_fixed_share_tracks(case, switches):
    kind, seed, rounds = case
    losses = environment(kind, np.random.default_rng(seed), rounds)
    learner = online.FixedShare(N, rounds=60, switches=3)
    result = play(learner, losses, rounds, comparator=Switching(switches))
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-12 * (1 + abs(result.cumulative_loss))


DYNAMIC = {
    "Ader": lambda domain, rounds: online.Ader(domain, rounds=rounds, scale=1.0),
    "Sword": lambda domain, rounds: online.Sword(domain, rounds=rounds, scale=1.0, smoothness=0.5),
}


@pytest.mark.parametrize("name", DYNAMIC)
@given(case=sequences(), speed=st.sampled_from([0.0, 0.01, 0.3]))
def test_two_layers_follow_paths(name, case, speed):
    kind, seed, rounds = case
    rng = np.random.default_rng(seed)
    losses = losses_of("drift" if kind == "adversarial" else kind, rng, rounds)
    losses = losses / max(1.0, np.linalg.norm(losses, axis=1).max())
    domain = geo.Ball(N)
    greedy = domain.linear_minimizer(losses)
    path = domain.project(np.cumsum(speed * rng.standard_normal((rounds, N)), axis=0))
    for u in (greedy, path):
        result = play(DYNAMIC[name](domain, rounds), losses, comparator=u)
        assert result.regret <= result.regret_bound < np.inf
    assert play(online.Hedge(N), losses, comparator=path).regret_bound == np.inf


# --- curved losses ---


def quadratics(rng, rounds, adversarial):
    """Targets in the unit ball of f_t(x) = |x - c_t|^2 / 2, and the best point for them."""
    targets = rng.standard_normal((rounds, N))
    targets /= np.maximum(1.0, np.linalg.norm(targets, axis=1, keepdims=True))

    class Squares:
        def __init__(self):
            self.seen = []

        def reveal(self, t, x):
            c = targets[t]
            if adversarial:
                c = -np.sign(x + 1e-9) / np.sqrt(N)
            if t == len(self.seen):
                self.seen.append(c)
            c = self.seen[t]
            return online.Feedback(gradient=x - c, value=0.5 * float(np.sum((x - c) ** 2)))

        def best(self, rounds):
            u = np.mean(self.seen[:rounds], axis=0) if rounds else np.zeros(N)
            return u, sum(0.5 * float(np.sum((u - c) ** 2)) for c in self.seen[:rounds])

    return Squares()


CURVED = {
    "OGD": lambda: online.OGD(geo.Ball(N), strong_convexity=1.0),
    "OptimisticOMD": lambda: online.OptimisticOMD(geo.EuclideanBall(), N, scale=2.0, strong_convexity=1.0),
    "OptimisticOMD-convex": lambda: online.OptimisticOMD(geo.EuclideanBall(), N, scale=2.0),
    # |x - c|^2 / 2 is exp-concave with 1 / G^2
    "ONS": lambda: online.ONS(geo.Ball(N), scale=2.0, exp_concavity=0.25),
    "MetaGrad": lambda: online.MetaGrad(geo.Ball(N), rounds=60, scale=2.0),
    "OptimisticONS": lambda: online.OptimisticONS(geo.Ball(N), scale=2.0, exp_concavity=0.25),
}


@pytest.mark.parametrize("name", CURVED)
@given(seed=st.integers(0, 2**32), rounds=st.sampled_from([1, 5, 60]), adversarial=st.booleans())
def test_curved_losses(name, seed, rounds, adversarial):
    result = play(CURVED[name](), quadratics(np.random.default_rng(seed), rounds, adversarial), rounds)
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-12


# --- examples ---


@pytest.mark.parametrize("name", EXAMPLES)
@given(case=sequences(), scale=st.sampled_from([0.0, 0.1, 1.0, 30.0]))
def test_examples(name, case, scale):
    kind, seed, rounds = case
    rng = np.random.default_rng(seed)
    learner = EXAMPLES[name]()
    features = losses_of("normal" if kind == "adversarial" else kind, rng, rounds)
    u = scale * rng.standard_normal(N)
    if learner.domain is not None:
        u = learner.domain.project(u)
    labels = learner._loss.targets == "-1 or 1"
    targets = features @ u + rng.standard_normal(rounds)
    if labels:
        targets = np.where(targets > 0.0, 1.0, -1.0)
    elif learner._loss.targets == ">= 0":
        features /= max(1.0, np.abs(features).max())
        targets = rng.poisson(np.exp(np.clip(features @ u, -3.0, 3.0))).astype(float)
    if kind == "adversarial":
        targets = np.where(rng.random(rounds) < 0.5, 1.0, 0.0 if not labels else -1.0)
    stream = online.LinearModelLosses(
        features, targets, loss=getattr(learner, "loss", "squared"), tube=getattr(learner, "tube", 0.0)
    )
    result = play(learner, stream, comparator=u)
    size = 1.0 + abs(result.cumulative_loss) + abs(result.cumulative_loss - result.regret)
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-9 * size
    assert np.all(np.isfinite(result.x))


# --- portfolios ---


@pytest.mark.parametrize("name", PORTFOLIOS)
@given(seed=st.integers(0, 2**32), rounds=st.sampled_from([1, 7, 60]), spread=st.sampled_from([0.0, 0.01, 1.0]))
def test_portfolios(name, seed, rounds, spread):
    rng = np.random.default_rng(seed)
    relatives = np.exp(spread * (rng.standard_normal((rounds, N)) + rng.standard_normal(N)))
    result = play(PORTFOLIOS[name](), online.PortfolioLosses(relatives))
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-9 * rounds
    u = rng.dirichlet(np.ones(N))
    fixed = play(PORTFOLIOS[name](), online.PortfolioLosses(relatives), comparator=u)
    assert fixed.regret <= fixed.regret_bound * (1 + 1e-9) + 1e-9 * rounds


@given(seed=st.integers(0, 2**32), rounds=st.sampled_from([5, 60]), adversarial=st.booleans())
def test_metagrad_for_a_comparator(seed, rounds, adversarial):
    rng = np.random.default_rng(seed)
    losses = quadratics(rng, rounds, adversarial)
    u = geo.Ball(N).project(rng.standard_normal(N))
    learner = online.MetaGrad(geo.Ball(N), rounds=60, scale=2.0)
    regret = 0.0  # of the linearised losses
    for t in range(rounds):
        x = learner.decide()
        g = losses.reveal(t, x).gradient
        regret += float(g @ (x - u))
        learner.update(g)
    assert regret <= learner.regret_bound(u) <= learner.regret_bound() * (1 + 1e-9)


@given(seed=st.integers(0, 2**32))
def test_ons_on_portfolios(seed):
    rng = np.random.default_rng(seed)
    returns = np.exp(0.3 * rng.standard_normal((60, N)))
    # scaling a day changes the losses by a constant; with r_max = 1 gradients are at most |r| / min r
    returns /= returns.max(axis=1, keepdims=True)
    scale = np.max(np.linalg.norm(returns, axis=1) / returns.min(axis=1))
    learner = online.ONS(geo.Simplex(N), scale=scale, exp_concavity=1.0)

    result = play(learner, online.PortfolioLosses(returns), check_every=60)
    assert result.regret <= result.regret_bound


# --- bandits: in the mean over many learners ---


@pytest.mark.parametrize("name", PERTURBED)
def test_perturbed_leaders_in_the_mean(name):
    rng = np.random.default_rng(4)
    t = np.arange(300)[:, None]
    for losses in (rng.standard_normal((300, N)), ((t // 30 + np.arange(N)) % 2).astype(float), np.zeros((300, N))):
        result = play(PERTURBED[name](), losses, learners=200)
        assert np.mean(result.regret) <= result.regret_bound[0] + 1e-9
        assert not result.certificate.proof


@pytest.mark.parametrize("name", BANDITS)
def test_bandits_in_the_mean(name):
    rng = np.random.default_rng(3)
    rounds, learners = 500, 200
    t = np.arange(rounds)[:, None]
    for losses in (
        rng.random((rounds, N)) < [0.5, 0.5, 0.4, 0.5],
        ((t // 50 + np.arange(N)) % 2),
        rng.random((rounds, N)),
    ):
        result = play(BANDITS[name](), np.asarray(losses, float), learners=learners)
        assert np.mean(result.regret) <= np.mean(result.regret_bound)
        assert not result.certificate.proof
