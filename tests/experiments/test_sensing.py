import numpy as np
import pytest

from optlib.experiments import (
    _records,
    _series,
    alternating,
    calibration,
    conditioning,
    depth,
    incremental,
    lifting,
    outliers,
    overparameterization,
    recovery,
)

# What a wrong measurement looks like, and the claims that it must break.
BROKEN = {
    overparameterization: (
        {"slope": -2.0, "iterations": 10_000, "rate": 0.0},
        {"exact", "slow", "imbalance", "damped"},
    ),
    recovery: ({"error": 1e-3, "steps": 31}, {"any_condition", "steps", "close", "outliers", "honest"}),
    conditioning: ({"iterations": 10_000}, {"plain", "damped"}),
    incremental: ({"error": 1e-3, "rank": 1, "gap": 1.0}, {"greedy_rank", "greedy_exact", "greedy_stages"}),
    outliers: ({"error": 1e-3}, {"exact", "floor", "squares"}),
    calibration: ({"error": 1e-3}, {"exact", "linear", "gain"}),
    depth: ({"gap": 1.0}, {"bures_wasserstein"}),
    lifting: ({"flat": 0.0, "lifted": 0.0, "sine": 1.0}, {"minimum", "saddle", "recovery"}),
    alternating: ({"reached": False}, set()),
}


@pytest.fixture(scope="module", params=BROKEN, ids=lambda module: module.__name__)
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
    changes, expected = BROKEN[module]
    broken = [row | {k: v for k, v in changes.items() if k in row} for row in rows]
    broken = [row | ({"rate": row["alpha"]} if row.get("alpha") else {}) for row in broken]
    failed = {v.claim.id for v in module.check(broken) if v.status == "fail"}
    name = module.__name__.rpartition(".")[2]
    assert {f"{name}.{claim}" for claim in expected} <= failed


def test_spread_needs_all_cases():
    rows = [{"repeat": 0, "iterations": n, "reached": True} for n in (10, 12)]
    assert _series.spread(rows) is None
    rows.append({"repeat": 0, "iterations": 11, "reached": False})
    assert _series.spread(rows) == np.inf
