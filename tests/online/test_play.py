"""The driver: environments, comparators, contract, resuming, wrong feedback."""

import copy
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

import optlib
from optlib import geometry as geo
from optlib import online
from optlib.online import Feedback, Switching, best_fixed, best_switching, play
from optlib.testing import assert_close, check_solver_contract

LOSSES = np.random.default_rng(0).random((40, 5))


CONTRACT = {
    "hedge": online.Hedge(5),
    "ogd": online.OGD(geo.Ball(5)),
    "ftrl": online.FTRL(geo.EuclideanSimplex(), 5),
}


@pytest.mark.parametrize("learner", CONTRACT.values(), ids=CONTRACT)
def test_contract(learner, backend, engine):

    def solver(losses, *, maxiter, **options):
        return play(copy.deepcopy(learner), losses, maxiter, **options)

    losses = backend.asarray(LOSSES)
    check_solver_contract(solver, losses, like=losses)


def test_all_forms_of_an_environment_agree():
    class Blocks:
        rounds = 40

        def block(self, start, stop):
            return LOSSES[start:stop]

    forms = [
        LOSSES,
        LOSSES.tolist(),
        iter(LOSSES),
        (row for row in LOSSES),
        (Feedback(losses=row) for row in LOSSES),
        Blocks(),
        lambda t, x: (float(LOSSES[t] @ x), LOSSES[t]),
    ]
    results = [play(online.Hedge(5), form, None if k < 6 else 40) for k, form in enumerate(forms)]
    for result in results:
        assert result.nit == 40 and result.success == result.certificate.holds
        assert_close(result.x, results[0].x, rtol=0)
        assert_close(result.regret, results[0].regret, rtol=1e-12)
        assert "40 rounds" in result.message and "regret" in repr(result)


def test_a_bandit_learns_from_its_arm_only():
    seen = []

    class Slots:
        def reveal(self, t, arm):
            seen.append(int(arm))
            return Feedback(value=float(arm != 2), arm=arm)

        def best(self, rounds):
            return 2, 0.0

    result = play(online.TsallisINF(5, rng=0), Slots(), 300)
    assert result.regret == result.cumulative_loss == sum(arm != 2 for arm in seen)
    assert seen[-20:].count(2) >= 15


@given(seed=st.integers(0, 2**32))
def test_best_fixed_by_linear_programming(seed):
    losses = np.random.default_rng(seed).standard_normal((7, 4))
    total = losses.sum(axis=0)
    simplex = linprog(total, A_eq=np.ones((1, 4)), b_eq=[2.0]).fun
    box = linprog(total, bounds=[(-1, 3)] * 4).fun
    split = linprog(np.concatenate([total, -total]), A_ub=np.ones((1, 8)), b_ub=[1.5]).fun
    domains = {geo.Simplex(4, 2.0): simplex, geo.Box(-1.0, 3.0, 4): box, geo.L1Ball(4, 1.5): split}
    domains[geo.Ball(4, 2.0)] = -2.0 * np.linalg.norm(total)
    for domain, value in domains.items():
        x, found = best_fixed(losses, domain)
        assert_close(found, value, rtol=1e-9)
        assert domain.contains(x)
        result = play(online.OGD(domain), losses)
        assert_close(result.cumulative_loss - result.regret, value, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 2**32), switches=st.integers(0, 3))
def test_best_switching_by_enumeration(seed, switches):
    losses = np.random.default_rng(seed).standard_normal((5, 3))
    brute = min(
        sum(losses[t, k] for t, k in enumerate(path))
        for path in itertools.product(range(3), repeat=5)
        if sum(a != b for a, b in itertools.pairwise(path)) <= switches
    )
    assert_close(best_switching(losses, switches), brute, rtol=1e-12)
    result = play(online.Hedge(3), losses, comparator=Switching(switches))
    assert_close(result.cumulative_loss - result.regret, brute, rtol=1e-9, atol=1e-12)


def test_fixed_and_dynamic_comparators():
    u, path = np.full(5, 0.2), np.eye(5)[np.arange(40) % 5]
    fixed = play(online.Hedge(5), LOSSES, comparator=u)
    moving = play(online.Hedge(5), LOSSES, comparator=path)
    loss = fixed.cumulative_loss
    assert_close(fixed.regret, loss - np.sum(LOSSES @ u), rtol=1e-9)
    assert_close(moving.regret, loss - np.sum(LOSSES * path), rtol=1e-9)

    def squares(t, x):
        return float(np.sum((x - LOSSES[t]) ** 2)), 2.0 * (x - LOSSES[t])

    nonlinear = play(online.OGD(geo.Ball(5)), squares, 40, comparator=u)
    assert_close(nonlinear.cumulative_loss - nonlinear.regret, np.sum((u - LOSSES) ** 2), rtol=1e-9)


def test_checkpoint(tmp_path):
    path = tmp_path / "game.npz"
    whole = play(online.EXP3(5, rng=0), LOSSES)
    first = play(online.EXP3(5, rng=0), LOSSES, 17, checkpoint=path)
    assert first.nit == 17
    learner = online.EXP3(5, rng=0)
    with pytest.raises(optlib._core.CheckpointError, match="another problem"):
        play(learner, LOSSES + 0.0, 40, checkpoint=tmp_path / "game.npz", comparator=Switching(2))
    second = play(learner, LOSSES, 40, checkpoint=path)
    assert second.nit == 40
    assert second.x == whole.x
    assert second.regret == whole.regret


@pytest.mark.parametrize("block", [True, False])
def test_bad_feedback_mid_stream(block):
    losses = LOSSES.copy()
    losses[20, 3] = np.nan
    learner = online.Hedge(5)
    with pytest.raises(ValueError, match=r"round `21`.*nan.*finite"):
        play(learner, losses if block else iter(losses))
    assert learner.rounds == 20
    assert_close(learner.decide(), play(online.Hedge(5), losses[:20]).x, rtol=0)


def test_zero_rounds():
    result = play(online.Hedge(5), LOSSES[:0])
    assert result.nit == 0 and result.regret == result.cumulative_loss == result.regret_bound == 0.0
    assert play(online.Hedge(5), iter([])).nit == 0


def test_ten_thousand_learners(backend):
    losses = backend.asarray(np.random.default_rng(0).random((3, 10_000, 4)))
    for learner in (
        online.Hedge(4),
        online.OGD(geo.Ball(4)),
        online.AdaGrad(geo.Box(0.0, 1.0, 4)),
        online.EXP3(4, rng=0),
    ):
        result = play(learner, losses)
        assert result.x.shape[0] == 10_000 and result.regret.shape == (10_000,)
        assert learner.proof is False or np.all(result.regret <= result.regret_bound)


def test_long_streams_need_no_memory():
    class Endless:
        largest = 0

        def block(self, start, stop):
            self.largest = max(self.largest, stop - start)
            return np.where((np.arange(start, stop)[:, None] + np.arange(3)) % 3 == 0, 1.0, 0.0)

    source = Endless()
    result = play(online.Hedge(3), source, 1_000_000)
    assert source.largest <= online.play.__globals__["BLOCK"]
    assert_close(result.cumulative_loss, 1e6 / 3, rtol=1e-2)
    assert abs(result.regret) <= result.regret_bound


def test_history_and_callback():
    seen = []
    result = play(online.Hedge(5), LOSSES, check_every=10, callback=lambda intermediate_result: seen.append(1))
    assert result.history["nit"] == [0, 10, 20, 30, 40]
    assert result.history["stop"][-1] == pytest.approx(result.regret)
    assert len(seen) == 5
