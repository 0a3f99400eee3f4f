import pytest

from optlib.experiments import _records
from optlib.experiments import sinkhorn_divergence as module


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return _records.run_experiment(module, tmp_path_factory.mktemp("rows")).rows


def test_all_claims_hold(rows):
    verdicts = module.check(rows)
    assert not [(v.claim.id, v.measured) for v in verdicts if v.status != "pass"]


def test_figures(rows):
    assert set(module.plot(rows)) == {"sinkhorn_divergence.passes", "sinkhorn_divergence.bures"}
    assert module.plot([]) == {}


def test_a_wrong_measurement_is_caught(rows):
    def status(claim, change):
        broken = [row | change for row in rows]
        return {v.claim.id: v.status for v in module.check(broken)}[claim]

    assert status("sinkhorn_divergence.positive", {"bound": -1e-9}) == "fail"
    assert status("sinkhorn_divergence.zero", {"equal": 1e-3}) == "fail"
    assert status("sinkhorn_divergence.passes", {"passes": 60}) == "fail"
    assert status("sinkhorn_divergence.energy", {"energy": 0.1}) == "fail"
    assert status("sinkhorn_divergence.gaussian", {"gaussian": 0.1}) == "fail"
    assert status("sinkhorn_divergence.barycenter_blur", {"blur": 0.1}) == "fail"
    assert status("sinkhorn_divergence.barycenter_debiased", {"debiased": 0.1}) == "fail"
    assert status("sinkhorn_divergence.bures", {"iterations": 50}) == "not reproduced"
