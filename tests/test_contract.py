"""Every registered solver keeps the solver contract on every backend that it supports, and refuses the others."""

import pytest

from optlib.backend import backend_name
from optlib.backend.capabilities import SOLVERS
from optlib.testing import check_solver_contract
from tests.cases import collect, import_everything
from tests.conftest import NUMPY

import_everything()
CASES = collect("contract_cases")


def test_every_solver_has_a_case():
    assert set(CASES) == set(SOLVERS)


@pytest.mark.parametrize("name", sorted(CASES))
def test_contract(name, backend, engine):
    entry = SOLVERS[name]
    args, options = CASES[name](backend)
    if backend_name(backend.xp) not in entry.backends:
        with pytest.raises(TypeError, match=r"`\w+`: got an array of .*; expected .* Fix: use optlib\.to_device"):
            entry.solver(*args, **options)
        return
    check_solver_contract(entry.solver, *args, like=backend.asarray([0.0]), **options)


@pytest.mark.parametrize("name", sorted(CASES))
def test_init_of_another_kind_is_refused(name):
    args, options = CASES[name](NUMPY)
    with pytest.raises((TypeError, ValueError), match="`init`"):
        SOLVERS[name].solver(*args, **{**options, "init": object(), "maxiter": 0})
