import pytest

from optlib.experiments import _records
from optlib.experiments import sinkhorn_newton_sparse as module


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return _records.run_experiment(module, tmp_path_factory.mktemp("rows")).rows


def test_no_claim_fails(rows):
    verdicts = module.check(rows)
    assert not [(v.claim.id, v.measured) for v in verdicts if v.status == "fail"]
    assert all(v.status != "not measured" for v in verdicts)


def test_figures(rows):
    assert set(module.plot(rows)) == {"sinkhorn_newton_sparse.steps", "sinkhorn_newton_sparse.path"}


def test_a_wrong_measurement_is_caught(rows):
    def status(claim, change):
        broken = [row | change for row in rows]
        return {v.claim.id: v.status for v in module.check(broken)}[claim]

    assert status("sinkhorn_newton_sparse.safe.superlinear", {"errors": [1.0, 0.1, 0.09]}) == "fail"
    assert status("sinkhorn_newton_sparse.path", {"solved": False}) == "fail"
    assert status("sinkhorn_newton_sparse.fails", {"solved": True}) == "not reproduced"
    assert status("sinkhorn_newton_sparse.steps", {"iterations": 50, "error": 0.0}) == "not reproduced"
    assert status("sinkhorn_newton_sparse.density", {"iterations": 50, "error": 0.0}) == "not reproduced"
    assert status("sinkhorn_newton_sparse.sinkhorn", {"error": 1e-9}) == "not reproduced"
    assert status("sinkhorn_newton_sparse.safe.steps", {"error": 1e-3}) == "not reproduced"
