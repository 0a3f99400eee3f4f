"""The one driver: statuses, history, transfers, limits, callbacks, printing."""

import array_api_strict as strict
import numpy as np
import pytest

import optlib
from optlib import Status
from optlib._core import ConvergenceError, HaltError, driver
from optlib._core.result import MESSAGES
from optlib.testing import check_solver_contract
from tests.core.toy import ToyState, approach

TARGET = np.arange(1.0, 5.0)


def test_contract(backend):
    target = backend.asarray(TARGET)
    check_solver_contract(approach, target, like=target)


def test_converges_and_prints(capsys):
    result = approach(TARGET, disp=2)
    assert result.success
    assert result.status is Status.CONVERGED
    assert result.check() is result
    assert result.nit == 22
    assert result.counts == {"steps": 22}
    table, last = capsys.readouterr().out.splitlines()[:-1], repr(result)
    assert len(table) == 2 + 23
    assert "success: converged" in last
    assert "residual <=" in last


def test_statuses():
    assert approach(TARGET, maxiter=3).status is Status.MAXITER
    assert approach(TARGET, max_time=0.0).status is Status.MAX_TIME
    assert approach(TARGET, factor=0.0, patience=5).status is Status.STALLED
    assert approach(TARGET, factor=0.0, patience=5).nit == 5
    with np.errstate(all="ignore"):
        diverged = approach(TARGET, factor=1e200, tol=None)
    assert diverged.status is Status.NONFINITE
    assert np.all(np.isfinite(diverged.x)), "the last finite point is returned"
    assert not np.all(np.isfinite(diverged.failed_at["x"])) and "failed_at" not in approach(TARGET)
    with pytest.raises(ConvergenceError, match="not finite"):
        diverged.check()
    assert set(MESSAGES) == set(Status)


def test_success_comes_from_the_certificate_alone():
    """A stopping rule that is met does not make a success when the certificate fails."""

    def steps(state):
        yield driver.Step(TARGET, 0, state, stop=lambda: 0.0)

    result = driver.run(
        steps, state=ToyState(TARGET, 0), like=TARGET, xp=np, method="liar", tol=1e-6, maxiter=5,
        finish=lambda step: {"certificate": optlib.Certificate("residual", 1.0, tol=1e-6)},
    )  # fmt: skip
    assert not result.success
    assert result.status is Status.STALLED


@pytest.mark.parametrize("status", [Status.BREAKDOWN, Status.NONFINITE])
def test_a_halt_keeps_the_last_point_and_that_of_the_failure(status):
    """Before the first point it is an error; later the run ends where it was."""

    def steps(state, good=2):
        for k in range(good):
            yield driver.Step(k * TARGET, k, state, stop=lambda: 1.0)
        raise HaltError("`problem`: it broke", status, y=7.0 * TARGET)

    options = {
        "state": ToyState(TARGET, 0), "like": TARGET, "xp": np, "method": "fragile", "tol": 1e-6, "maxiter": 5,
        "finish": lambda step: {"certificate": optlib.Certificate("residual", 1.0, tol=1e-6)},
    }  # fmt: skip
    result = driver.run(steps, **options)
    assert result.status is status and not result.success and result.nit == 1
    assert np.array_equal(result.x, TARGET) and np.array_equal(result.failed_at["y"], 7.0 * TARGET)
    assert result.message == f"{MESSAGES[status]}: `problem`: it broke"
    with pytest.raises(ValueError, match="it broke") as caught:
        driver.run(lambda state: steps(state, good=0), **options)
    assert set(caught.value.point) == {"y"}


def test_no_tolerance_means_exactly_maxiter():
    result = approach(TARGET, tol=None, maxiter=200)
    assert result.nit == 200
    assert not result.success


@pytest.mark.parametrize(("check_every", "checks"), [(1, 23), (7, 5), (1000, 2)])
def test_checks_and_transfers(check_every, checks, monkeypatch):
    """One stacked transfer per check, none in between."""
    transfers = []
    monkeypatch.setattr(driver, "to_numpy", lambda x: transfers.append(1) or optlib.to_numpy(x))
    target = strict.asarray(TARGET, device=strict.Device("device1"))
    result = approach(target, check_every=check_every)
    assert len(result.history["stop"]) == len(transfers) == checks
    assert result.history["k"] == result.history["nit"]


def test_block_methods_are_told_how_far_to_go():
    budgets = []

    def steps(state):
        k = state.nit
        while True:
            budget = yield driver.Step(TARGET, k, ToyState(TARGET, k), stop=lambda: 1.0)
            budgets.append(budget)
            k += min(budget, 4)

    driver.run(
        steps, state=ToyState(TARGET, 0), like=TARGET, xp=np, method="blocks", tol=1e-6, maxiter=25, check_every=10,
        finish=lambda step: {"certificate": optlib.Certificate("residual", 1.0, tol=1e-6)},
    )  # fmt: skip
    assert budgets == [10, 6, 2, 10, 6, 2, 5, 1]


def test_history_and_record():
    result = approach(TARGET, maxiter=5, record="iterates")
    assert len(result.iterates) == 6
    assert result.history.array("first")[1] == 0.5
    assert set(result.history) == {"nit", "time", "stop", "first", "k"}
    assert "6 checks" in repr(result.history)
    assert len(approach(TARGET, maxiter=5, record=False).history) == 0


def test_clock_leaves_out_callbacks():
    from time import sleep

    result = approach(TARGET, maxiter=5, callback=lambda intermediate_result: sleep(0.02))
    assert result.time < 0.05


def test_errors_leave_the_callback_closed():
    class Bar:
        closed = False

        def __call__(self, intermediate_result):
            raise RuntimeError("stop")

        def close(self):
            self.closed = True

    bar = Bar()
    with pytest.raises(RuntimeError):
        approach(TARGET, callback=bar)
    assert bar.closed


def test_progress_bar(capsys):
    pytest.importorskip("rich")
    result = approach(TARGET, callback=optlib.progress("halving"))
    assert result.success
    assert "halving" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"maxiter": -1}, "`maxiter`: got -1; expected an integer >= 0"),
        ({"maxiter": 1.5}, "`maxiter`: got 1.5 .float.; expected an integer"),
        ({"check_every": 0}, "`check_every`"),
        ({"tol": -1.0}, "`tol`"),
        ({"tol": float("nan")}, "`tol`"),
        ({"max_time": "1"}, "`max_time`"),
        ({"record": "all"}, "`record`"),
        ({"disp": 3}, "`disp`"),
        ({"callback": 3}, "`callback`"),
    ],
)
def test_bad_options(options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        approach(TARGET, **options)


def test_state_of_another_method_is_refused():
    from typing import NamedTuple

    class Other(NamedTuple):
        nit: int

    with pytest.raises(TypeError, match="`init`: got the state Other of another method"):
        approach(TARGET, init=Other(3))
