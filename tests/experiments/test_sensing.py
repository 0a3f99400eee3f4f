import numpy as np
import pytest

from optlib.experiments import _records, overparameterization, recovery


@pytest.fixture(scope="module", params=[overparameterization, recovery], ids=lambda module: module.__name__)
def measured(request, tmp_path_factory):
    module = request.param
    return module, _records.run_experiment(module, tmp_path_factory.mktemp("rows")).rows


def test_no_claim_fails(measured):
    module, rows = measured
    verdicts = module.check(rows)
    assert not [(v.claim.id, v.measured) for v in verdicts if v.status == "fail"]
    assert all(v.status != "not measured" for v in verdicts)


def test_figures(measured):
    module, rows = measured
    assert set(module.plot(rows)) <= {claim.id for claim in module.CLAIMS}
    assert module.plot(rows)


def test_a_wrong_measurement_is_caught(measured):
    module, rows = measured
    changes = {"error": 1e-3, "slope": -2.0, "iterations": 10_000, "steps": 31, "rate": 0.0}
    broken = [row | {k: v for k, v in changes.items() if k in row and not isinstance(row[k], list)} for row in rows]
    broken = [row | ({"rate": row["alpha"]} if row.get("alpha") else {}) for row in broken]
    failed = {v.claim.id for v in module.check(broken) if v.status == "fail"}
    expected = {
        overparameterization: {"exact", "slow", "imbalance", "damped"},
        recovery: {"any_condition", "steps", "close", "outliers", "honest"},
    }[module]
    name = module.__name__.rpartition(".")[2]
    assert {f"{name}.{claim}" for claim in expected} <= failed


def test_spread_needs_all_cases():
    rows = [{"repeat": 0, "iterations": n, "reached": True} for n in (10, 12)]
    assert overparameterization._spread(rows) is None
    rows.append({"repeat": 0, "iterations": 11, "reached": False})
    assert overparameterization._spread(rows) == np.inf
