import pytest

from optlib.experiments import (
    _records,
    bilevel_bo_rep,
    bilevel_cleaning,
    bilevel_denoising,
    bilevel_hoag,
    bilevel_lasso,
    bilevel_maid,
    bilevel_penalty,
    bilevel_stochastic,
    bilevel_truncated,
    inner_second_order,
)

MODULES = [
    bilevel_bo_rep,
    bilevel_cleaning,
    bilevel_denoising,
    bilevel_hoag,
    bilevel_lasso,
    bilevel_maid,
    bilevel_penalty,
    bilevel_stochastic,
    bilevel_truncated,
    inner_second_order,
]


@pytest.fixture(scope="module", params=MODULES, ids=lambda module: module.__name__)
def measured(request, tmp_path_factory):
    module = request.param
    return module, _records.run_experiment(module, tmp_path_factory.mktemp("rows")).rows


def test_theorems_hold(measured):
    module, rows = measured
    verdicts = module.check(rows)
    assert [(v.claim.id, v.measured) for v in verdicts if v.status == "fail"] == []
    assert all(v.measured is not None for v in verdicts)
    assert {v.status for v in module.check([])} == {"not measured"}


def test_figures(measured):
    module, rows = measured
    assert module.plot(rows)
    assert set(module.plot(rows)) <= {claim.id for claim in module.CLAIMS}
