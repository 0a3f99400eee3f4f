"""Matrix Hedge against Hedge, SciPy's exponential, and its bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from optlib import geometry as geo
from optlib import online
from optlib.online import play
from optlib.testing import assert_close


def symmetric(rng, rounds, n):
    a = rng.standard_normal((rounds, n, n))
    return a + np.swapaxes(a, 1, 2)


def test_diagonal_losses_give_hedge():
    rows = np.random.default_rng(0).random((30, 4))
    matrices = rows[:, :, None] * np.eye(4)
    result, expected = play(online.MatrixHedge(4), matrices), play(online.Hedge(4), rows)
    assert_close(result.x, np.diag(expected.x), rtol=1e-10, atol=1e-12)
    assert_close(result.regret, expected.regret, rtol=1e-10)
    assert_close(result.regret_bound, expected.regret_bound, rtol=1e-10)
    assert result.comparator.shape == (4, 4)


def test_decisions_are_matrix_exponentials():
    losses = symmetric(np.random.default_rng(1), 10, 3)
    result = play(online.MatrixHedge(3, rate=0.3), losses)
    expected = expm(-0.3 * losses.sum(axis=0))
    assert_close(result.x, expected / np.trace(expected), rtol=1e-9, atol=1e-12)
    values = np.linalg.eigvalsh(losses.sum(axis=0))
    assert_close(result.cumulative_loss - result.regret, values[0], rtol=1e-9)


@given(seed=st.integers(0, 2**32), rounds=st.sampled_from([1, 5, 60]), adversarial=st.booleans())
def test_bound(seed, rounds, adversarial):
    rng = np.random.default_rng(seed)

    class Adversary:
        def reveal(self, t, x):
            values, vectors = np.linalg.eigh(x)
            return online.Feedback(gradient=(vectors * np.sign(values - 0.3)) @ vectors.T)

    environment = Adversary() if adversarial else symmetric(rng, rounds, 3) * np.exp(rng.standard_normal())
    result = play(online.MatrixHedge(3), environment, rounds)
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-9
    assert geo.Spectrahedron(3).contains(result.x)


def test_backends(backend):
    losses = symmetric(np.random.default_rng(2), 8, 3)
    result = play(online.MatrixHedge(3), backend.asarray(losses))
    assert_close(result.x, backend.asarray(play(online.MatrixHedge(3), losses).x), rtol=0, atol=20 * backend.rtol)


def test_forms_agree_and_states_continue():
    losses = symmetric(np.random.default_rng(3), 12, 3)
    whole = play(online.MatrixHedge(3), losses)
    one, other = online.MatrixHedge(3), online.MatrixHedge(3)
    for row in losses[:5]:
        one.update(row)
    other.start()
    other.state = one.state
    for row in losses[5:]:
        other.update(row)
    assert np.array_equal(other.decide(), whole.x)
    assert np.array_equal(play(online.MatrixHedge(3), iter(losses)).x, whole.x)
    both = play(online.MatrixHedge(3), np.stack([losses[::-1], losses], axis=1))
    assert both.x.shape == both.comparator.shape == (2, 3, 3)
    assert_close(both.x[1], whole.x, rtol=1e-12, atol=1e-14)
    assert_close(both.regret[1], whole.regret, rtol=1e-9)


def test_wrong_feedback_is_named():
    learner = online.MatrixHedge(3)
    learner.update(np.eye(3))
    before = learner.state
    for bad in (np.ones(9), np.full((3, 3), np.nan), np.ones((2, 3, 3))):
        with pytest.raises(ValueError, match="round `2`"):
            learner.update(bad)
        assert learner.state is before
    with pytest.raises(ValueError, match=r"`environment`.*rounds, 3, 3"):
        play(learner, np.ones((5, 9)))
    assert play(online.MatrixHedge(1), np.ones((4, 1, 1))).regret == 0.0
