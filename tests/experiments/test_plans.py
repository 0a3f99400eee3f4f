import pytest

from optlib.experiments import _records, mirror_sinkhorn, sparsity_constrained


@pytest.fixture(scope="module", params=[mirror_sinkhorn, sparsity_constrained])
def experiment(request, tmp_path_factory):
    return request.param, _records.run_experiment(request.param, tmp_path_factory.mktemp("rows")).rows


def test_no_claim_fails(experiment):
    module, rows = experiment
    verdicts = module.check(rows)
    assert [(v.claim.id, v.measured) for v in verdicts if v.status in ("fail", "not measured")] == []


BROKEN = {
    "mirror_sinkhorn.rate": {"gaps": [1.0, 0.9, 0.8]},
    "mirror_sinkhorn.last": {"gaps": [1.0, 1.0, 1.0]},
    "mirror_sinkhorn.regret": {"ratios": [0.1, 1.1]},
    "mirror_sinkhorn.marginals": {"errors": [1.0, 1.0, 1.0]},
    "mirror_sinkhorn.digits": {"gaps": [1.0, 1.0, 1.0]},
    "sparsity_constrained.monotone": {},
    "sparsity_constrained.linear": {"linear": 1.0},
    "sparsity_constrained.quadratic": {"distance": 1e-3},
    "sparsity_constrained.polish": {"polished_error": 1e-3},
    "sparsity_constrained.gap": {"excess": 0.1},
}


def test_wrong_measurements_are_caught(experiment):
    module, rows = experiment
    name = module.__name__.rpartition(".")[2]
    for claim, change in BROKEN.items():
        if claim.startswith(name + "."):
            broken = [{**row, **{key: value for key, value in change.items() if key in row}} for row in rows]
            if claim == "sparsity_constrained.monotone":
                broken = [*rows, *({**row, "k": 4, "value": 1.0} for row in rows if row["part"] == "cloud")]
            found = {v.claim.id: v.status for v in module.check(broken)}
            assert found[claim] in ("fail", "not reproduced"), claim


def test_figures(experiment):
    module, rows = experiment
    figures = module.plot(rows)
    assert figures
    assert all(figure.axes[0].lines for figure in figures.values())


def test_nothing_measured(experiment):
    module, _ = experiment
    assert {v.status for v in module.check([])} == {"not measured"}
    assert module.plot([]) == {}
