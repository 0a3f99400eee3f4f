"""The experiments on online learners: no claim fails, and broken rows are caught."""

import pytest

from optlib.datasets import DatasetNotFoundError, load_fx_ecb
from optlib.experiments import (
    _records,
    online_bandits,
    online_control,
    online_implicit,
    online_last_iterate,
    online_regression,
    online_streams,
)
from tests.conftest import available

MODULES = (online_bandits, online_control, online_implicit, online_last_iterate, online_regression, online_streams)


@pytest.fixture(scope="module", params=MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def case(request, tmp_path_factory):
    module = request.param
    if module is online_streams:
        available(load_fx_ecb)
    return module, _records.run_experiment(module, tmp_path_factory.mktemp("rows")).rows


def test_no_claim_fails(case):
    module, rows = case
    verdicts = module.check(rows)
    assert not [(v.claim.id, v.measured) for v in verdicts if v.status in ("fail", "not measured")]
    assert {v.status for v in module.check([])} == {"not measured"}
    assert all(figure.axes for figure in module.plot(rows).values())


def test_broken_rows_are_caught(case):
    module, rows = case
    broken = [
        row | {key: 1e9 for key in ("ratio", "loss", "regret", "proven") if isinstance(row.get(key), float)}
        for row in rows
    ]
    assert any(v.status in ("fail", "not reproduced") for v in module.check(broken))


def test_streams_that_are_not_here_are_not_measured(monkeypatch):
    monkeypatch.delenv("OPTLIB_DATA", raising=False)
    monkeypatch.setattr(online_streams, "load_fx_ecb", missing)
    rows = [row for row in online_streams.run.cases("quick") if row["stream"] == "fx_ecb"][:1]
    measured = [row | online_streams.run.measure(row, "numpy", None) for row in rows]
    assert online_streams.check(measured)[0].status == "not measured"


def missing():
    raise DatasetNotFoundError("not here")
