import pytest

from optlib.experiments import _records, learning_to_relax, project_and_forget, saddle_points

MODULES = [saddle_points, learning_to_relax, project_and_forget]


@pytest.fixture(scope="module", params=MODULES, ids=lambda module: module.__name__)
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

    def passed(value):
        broken = [row | {k: value for k, v in row.items() if isinstance(v, float) and k != "rho"} for row in rows]
        return {v.claim.id for v in module.check(broken) if v.status == "pass"}

    tight = {claim.id for claim in module.CLAIMS if claim.id.endswith("tight")}
    assert passed(1e5) == tight
    assert not passed(1e-3) & tight
