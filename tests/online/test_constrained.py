"""Constraints, memory, and control."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib import geometry as geo
from optlib import online
from optlib.online import ConstrainedOGD, DisturbanceActionController, Feedback, play
from optlib.testing import assert_close


class HalfSpaces:
    """Random linear losses, and constraints <a_t, x> <= b_t that 0 satisfies."""

    def __init__(self, seed, rounds, n=3):
        rng = np.random.default_rng(seed)
        self.losses, self.rows = rng.standard_normal((2, rounds, n))
        self.rows /= np.linalg.norm(self.rows, axis=1, keepdims=True)
        self.sides = rng.uniform(0.0, 0.5, rounds)
        self.rounds, self.seen = rounds, []

    def reveal(self, t, x):
        excess = float(self.rows[t] @ x) - self.sides[t]
        if t == len(self.seen):
            self.seen.append(excess)
        value = float(self.losses[t] @ x)
        return Feedback(gradient=self.losses[t], value=value, constraint=excess, constraint_gradient=self.rows[t])


@given(seed=st.integers(0, 2**32), rounds=st.sampled_from([1, 5, 100]))
def test_regret_and_violation_are_bounded_together(seed, rounds):
    world = HalfSpaces(seed, rounds)
    learner = ConstrainedOGD(geo.Ball(3), rounds=rounds)
    result = play(learner, world, comparator=np.zeros(3), check_every=rounds)
    assert result.regret <= result.regret_bound * (1 + 1e-9) + 1e-9
    assert_close(learner.violation(), np.sum(np.maximum(world.seen, 0.0)), rtol=1e-9, atol=1e-12)
    assert_close(learner.violation_signed(), np.sum(world.seen), rtol=1e-9, atol=1e-9)


def test_without_constraints_it_is_gradient_descent():
    losses = np.random.default_rng(0).standard_normal((30, 3))
    first, second = ConstrainedOGD(geo.Ball(3), rounds=30), online.OGD(geo.Ball(3))
    assert_close(play(first, losses).x, play(second, losses).x, rtol=1e-12)


@given(seed=st.integers(0, 2**32), memory=st.integers(0, 3))
def test_losses_with_memory(seed, memory):
    rng = np.random.default_rng(seed)
    centres = 0.5 * rng.standard_normal((40, 2))
    learner = ConstrainedOGD(geo.Ball(2), rounds=40, memory=memory, lipschitz=1.0)
    points, loss = [np.zeros(2)] * memory, 0.0
    for c in centres:  # the distance of the mean of the last decisions: Lipschitz 1 / (memory + 1) in each
        points.append(learner.decide())
        away = np.mean(points[-memory - 1 :], axis=0) - c
        loss += np.linalg.norm(away)
        at = points[-1] - c
        learner.update(at / np.linalg.norm(at))
    u = geo.Ball(2).project(np.mean(centres, axis=0))
    assert loss - np.sum(np.linalg.norm(u - centres, axis=1)) <= learner.regret_bound()


def test_constraints_need_their_gradient():
    learner = ConstrainedOGD(geo.Ball(2), rounds=9)
    with pytest.raises(TypeError, match=r"round `1`.*constraint_gradient"):
        learner.update(Feedback(gradient=[0.0, 1.0], constraint=0.5))
    with pytest.raises(ValueError, match=r"round `1`.*nan"):
        learner.update(Feedback(gradient=[0.0, 1.0], constraint=np.nan, constraint_gradient=[1.0, 0.0]))
    assert learner.rounds == 0


def test_many_learners(backend):
    learner = ConstrainedOGD(geo.Ball(2), rounds=9).start(like=backend.asarray(np.zeros(1)), learners=3)
    one = ConstrainedOGD(geo.Ball(2), rounds=9)
    for t in range(9):
        g, c, a = np.array([np.cos(t), 1.0]), 0.1 * t - 0.3, np.array([0.6, 0.8])
        one.update(Feedback(gradient=g, constraint=c, constraint_gradient=a))
        told = [np.tile(g, (3, 1)), np.full(3, c), np.tile(a, (3, 1))]
        fields = ("gradient", "constraint", "constraint_gradient")
        learner.update(Feedback(**dict(zip(fields, map(backend.asarray, told), strict=True))))
    assert_close(learner.decide()[1, ...], backend.asarray(one.decide()), rtol=20 * backend.rtol)
    assert_close(learner.violation(), np.full(3, one.violation()), rtol=20 * backend.rtol)


# --- control ---

A, B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.0], [0.1]])
GAIN = np.array([[0.9, 1.6]])


def controller(rounds=50, asarray=np.asarray, **options):
    matrices = [asarray(m) for m in (A, B, GAIN, np.eye(2), np.eye(1))]
    return DisturbanceActionController(*matrices, rounds=rounds, memory=3, **options)


def surrogate(matrices, noise, memory=3):
    """Cost of the policy after `memory` rounds from 0, written out; noise[j] is j rounds old."""
    y = np.zeros(2)
    for age in range(memory, 0, -1):
        v = sum(matrices[i - 1] @ noise[age + i - 1] for i in range(1, memory + 1))
        y = A @ y + B @ (v - GAIN @ y) + noise[age - 1]
    v = sum(matrices[i - 1] @ noise[i - 1] for i in range(1, memory + 1)) - GAIN @ y
    return y @ y + v @ v, np.max(np.array([[1.0, 0.0], [0.0, -1.0]]) @ y - 0.05)


def test_gradients_of_the_surrogate_by_differences():
    rng = np.random.default_rng(0)
    control = controller(limits=(np.array([[1.0, 0.0], [0.0, -1.0]]), np.full(2, 0.05)))
    noise, m = rng.standard_normal((6, 2)), 0.1 * rng.standard_normal(6)
    learner = control.learner
    learner.state = learner.state._replace(x=m[None, :])
    control.state = control.state._replace(noise=noise, learner=learner.state)
    told = control._feedback()
    for entry in range(6):
        e = np.zeros(6)
        e[entry] = 1e-6
        up, down = (surrogate((m + sign * e).reshape(3, 1, 2), noise) for sign in (1, -1))
        assert_close(told.gradient[entry], (up[0] - down[0]) / 2e-6, rtol=1e-5, atol=1e-6)
        assert_close(told.constraint_gradient[entry], (up[1] - down[1]) / 2e-6, rtol=1e-5, atol=1e-6)
    assert_close(told.constraint, surrogate(m.reshape(3, 1, 2), noise)[1], rtol=1e-9)


def drive(control, rounds, start=0):
    x, controls = control.state.x, []
    for t in range(start, start + rounds):
        u = control.decide()
        controls.append(np.asarray(u))
        w = 0.1 * np.array([np.sin(0.3 * t), np.cos(0.3 * t)])
        x = np.asarray(A @ np.asarray(x) + B @ np.asarray(u) + w)
        control.update(control._xp.asarray(x, dtype=control._dtype, device=control._device))
    return controls


def test_control_learns_and_continues_bitwise():
    whole, first, second = controller(400), controller(400), controller(400)
    expected = drive(whole, 400)
    drive(first, 100)
    second.state = first.state
    assert np.array_equal(drive(second, 300, 100), expected[100:])
    assert whole.cost == second.cost
    fixed = 0.0  # the gain alone
    x = np.zeros(2)
    for t in range(400):
        u = -GAIN @ x
        fixed += x @ x + u @ u
        x = A @ x + B @ u + 0.1 * np.array([np.sin(0.3 * t), np.cos(0.3 * t)])
    assert whole.cost < 0.9 * fixed
    assert np.isfinite(whole.regret_bound())


def test_control_on_backends(backend):
    if backend.name != "torch":
        return  # the matrices of the system are small: one other library will do
    expected = drive(controller(30), 30)
    assert_close(np.stack(drive(controller(30, backend.asarray), 30)), np.stack(expected), rtol=1e-6, atol=1e-8)


def test_wrong_control_is_named():
    with pytest.raises(ValueError, match=r"`gain`.*spectral radius.*below 1"):
        DisturbanceActionController(A, B, 0.0 * GAIN, np.eye(2), np.eye(1), rounds=9)
    with pytest.raises(ValueError, match=r"`b`.*shape"):
        DisturbanceActionController(A, B.T, GAIN, np.eye(2), np.eye(1), rounds=9)
    control = controller()
    drive(control, 2)
    before = control.state
    for bad in ([np.nan, 0.0], [1.0]):
        with pytest.raises(ValueError, match=r"round `3`"):
            control.update(bad)
        assert control.state is before
