import pytest

from optlib.experiments import _records, learning_to_relax, saddle_points


@pytest.fixture(scope="module", params=[saddle_points, learning_to_relax], ids=lambda module: module.__name__)
def measured(request, tmp_path_factory):
    module = request.param
    return module, _records.run_experiment(module, tmp_path_factory.mktemp("rows")).rows


def test_claims_hold(measured):
    module, rows = measured
    assert [(v.claim.id, v.measured) for v in module.check(rows) if v.status != "pass"] == []


def test_figures(measured):
    module, rows = measured
    assert module.plot(rows)
    assert set(module.plot(rows)) <= {claim.id for claim in module.CLAIMS}


def test_a_wrong_measurement_is_caught(measured):
    module, rows = measured
    for wrong, expected in ((9.0, "pass"), (1e-3, "tight")):
        changes = {"ratio": wrong, "threshold": wrong, "calls": wrong, "constant": wrong}
        changes |= dict.fromkeys(("bandit", "contextual"), 10000.0 * wrong)
        broken = [row | {k: v for k, v in changes.items() if k in row} for row in rows]
        passed = {v.claim.id for v in module.check(broken) if v.status == "pass"}
        tight = {claim.id for claim in module.CLAIMS if claim.id.endswith("tight")}
        assert passed == tight if expected == "pass" else not passed & tight
