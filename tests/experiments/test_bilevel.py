"""Claims about bilevel optimization, at the quick scale."""

import pytest

from optlib.experiments import (
    _records,
    bilevel_constrained,
    bilevel_elbo,
    bilevel_equilibria,
    bilevel_merely_convex,
    bilevel_self_tuning,
    bilevel_start_bias,
    bilevel_tune,
)

MODULES = [
    bilevel_constrained,
    bilevel_elbo,
    bilevel_equilibria,
    bilevel_merely_convex,
    bilevel_self_tuning,
    bilevel_start_bias,
    bilevel_tune,
]
# what was published, and does not hold, see the notes of the claims: the program of LV-HBA diverges on its first
# example; one of five data sets gives 2.99 for 3; warm starts with random steps mostly get stuck
NOT_REPRODUCED = {"bilevel_constrained.published", "bilevel_elbo.underfits", "bilevel_start_bias.warm"}


@pytest.fixture(scope="module", params=MODULES, ids=lambda module: module.__name__)
def measured(request, tmp_path_factory):
    module = request.param
    return module, _records.run_experiment(module, tmp_path_factory.mktemp("rows")).rows


def test_claims_hold(measured):
    module, rows = measured
    missed = [(v.claim.id, v.measured) for v in module.check(rows) if v.status != "pass"]
    assert [v for v in missed if v[0] not in NOT_REPRODUCED] == []


def test_figures(measured):
    module, rows = measured
    assert module.plot(rows)
    assert set(module.plot(rows)) <= {claim.id for claim in module.CLAIMS}


def test_a_wrong_measurement_is_caught(measured):
    module, rows = measured
    broken = [
        row
        | {
            k: [1e5] * len(v) if isinstance(v, list) else 1e5
            for k, v in row.items()
            if k.startswith(("error", "ratio"))
        }
        for row in rows
    ]
    assert any(v.status != "pass" for v in module.check(broken))
