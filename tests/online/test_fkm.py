"""Descent without gradients."""

import numpy as np
import pytest

from optlib import geometry as geo
from optlib.online import FKM, Feedback, play
from optlib.testing import assert_close


class Distances:
    """The losses |x - c_t| for many learners, and what they are at one fixed point."""

    def __init__(self, rounds, n, like):
        rng = np.random.default_rng(0)
        self.centres = np.array([0.5] + [0.0] * (n - 1)) + 0.2 * rng.standard_normal((rounds, n))
        self.rounds, self.like = rounds, like

    def values(self, t, x):
        return np.linalg.norm(np.asarray(x) - self.centres[t], axis=-1)

    def reveal(self, t, x):
        return Feedback(value=self.values(t, x))

    def best(self, rounds):
        u = np.mean(self.centres, axis=0)
        return u, float(sum(self.values(t, u) for t in range(rounds)))


@pytest.mark.parametrize("domain", [geo.Ball(2), geo.Box(-1.0, [2.0, 1.0]), geo.Ball(3, 0.7, middle=[0.1, 0.0, 0.0])])
def test_bound_in_the_mean(domain):
    rounds, n = 400, domain.shape[0]
    learner = FKM(domain, rounds=rounds, high=6.0, rng=0)
    result = play(learner, Distances(rounds, n, np.empty(0)), learners=50, check_every=rounds)
    assert np.mean(result.regret) <= result.regret_bound[0] < np.inf
    assert not result.certificate.proof
    assert np.all(domain.contains(result.x))


def test_it_learns_and_continues_bitwise():
    whole, first, second = (FKM(geo.Ball(1), rounds=3000, high=2.0, rng=0) for _ in range(3))
    first.start()
    second.start()

    def drive(learner, rounds):
        return [
            learner.update(abs(float(learner.decide()[0]) - 0.5)) or float(learner.decide()[0]) for _ in range(rounds)
        ]

    whole.start()
    expected = drive(whole, 3000)
    drive(first, 1000)
    second.state = first.state
    assert drive(second, 2000) == expected[1000:]
    assert abs(float(whole.state.middle[0, 0]) - 0.5) < 0.25
    assert whole.regret_bound() < np.inf
    whole.update(0.1)
    assert whole.regret_bound() == np.inf


def test_backends(backend):
    learner, expected = (FKM(geo.Ball(2), rounds=20, rng=0) for _ in range(2))
    learner.start(like=backend.asarray(np.zeros(1)))
    for t in range(20):
        learner.update(np.cos(t) if t % 2 else 0.5)
        expected.update(np.cos(t) if t % 2 else 0.5)
    assert_close(learner.decide(), backend.asarray(expected.decide()), rtol=20 * backend.rtol, atol=20 * backend.rtol)


def test_wrong_use_is_named():
    learner = FKM(geo.Ball(2), rounds=9, rng=0)
    for bad in (np.nan, 1.5, np.ones(2), Feedback(gradient=np.ones(2))):
        with pytest.raises((ValueError, TypeError), match=r"round `1`"):
            learner.update(bad)
        assert learner.rounds == 0
    with pytest.raises(TypeError, match=r"`environment`.*value"):
        play(learner, np.ones((5, 2)))
    with pytest.raises(TypeError, match=r"`domain`.*Simplex.*Ball or a Box"):
        FKM(geo.Simplex(2), rounds=9)
    with pytest.raises(ValueError, match=r"`domain`.*interior"):
        FKM(geo.Box(0.0, [1.0, 0.0]), rounds=9)
