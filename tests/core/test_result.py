"""Certificates and results."""

import pickle

import numpy as np
import pytest
from scipy.optimize import OptimizeResult

from optlib import Certificate, Result
from optlib.transport import solve
from tests.core.toy import approach


def test_certificate():
    gap = Certificate("duality_gap", 2e-7, scale=2.0, tol=1e-6, residual=5e-7)
    assert gap.holds
    assert gap.relative == 1e-7
    assert str(gap) == "duality gap <= 2e-07 (relative 1.0e-07, tol 1e-06), constraint residual 5.0e-07"
    assert not Certificate("duality_gap", 2e-7, tol=1e-6, residual=1e-5).holds
    assert not Certificate("duality_gap", 2e-5, tol=1e-6).holds
    assert not Certificate("residual", float("nan"), tol=1.0).holds
    assert not Certificate("residual", 0.0).holds, "without a tolerance nothing is claimed"
    assert (
        str(Certificate("stationarity", 1.0, proof=False, note="local"))
        == "stationarity ~ 1 (relative 1.0e+00), heuristic; local"
    )
    assert Certificate("residual", 0.0, scale=0.0).relative == 0.0
    with pytest.raises(ValueError, match="`kind`"):
        Certificate("gap", 0.0)


def test_result_is_what_scipy_returns():
    result = Result(x=1.0, success=True, message="ok", method="m", nit=3, time=0.1, counts={"passes": 2},
                    certificate=Certificate("residual", 0.0, tol=1.0), fun=2.5)  # fmt: skip
    assert isinstance(result, OptimizeResult)
    assert result["x"] == result.x == 1.0
    assert "fun: 2.5" in str(result)
    assert "3 iterations, 0.1 s, 2 passes" in str(result)
    assert pickle.loads(pickle.dumps(result)).certificate == result.certificate


def test_unknown_fields_and_running_results_are_said_by_name():
    result = Result(method="m", x=1.0)
    with pytest.raises(AttributeError, match=r"a Result of m has no field 'plan'"):
        result.plan  # noqa: B018
    printed = []

    def note(intermediate_result):
        printed.append(str(intermediate_result))

    approach(np.arange(3.0), maxiter=2, callback=note)
    assert len(printed) == 3 and "running" in printed[0] and "0 steps" in printed[0]
    printed.clear()
    solve([[0.0, 1.0], [1.0, 0.0]], reg=0.1, callback=note)
    assert printed and all("running" in text for text in printed)
