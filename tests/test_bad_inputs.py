"""Bad input is refused before any work by a named error: which argument, what was got, what is expected."""

import re
from importlib import import_module
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from optlib.backend import array_namespace
from optlib.backend.capabilities import SOLVERS
from tests.cases import collect, import_everything
from tests.conftest import Backend

import_everything()

CASES = [
    pytest.param(call, kind, pattern, id=f"{path.parent.name}-{name}")
    for path in sorted(Path(__file__).parent.glob("*/bad_inputs.py"))
    for name, call, kind, pattern in import_module(f"tests.{path.parent.name}.bad_inputs").CASES
]


@pytest.mark.parametrize(("call", "kind", "pattern"), CASES)
def test_named_error(call, kind, pattern):
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "`" in text and "got" in text and "expected" in text, text
    assert re.search(pattern, text), text


class Nonsense:
    """What no argument takes."""


SOLVER_CASES = collect("contract_cases")
NUMPY = Backend("numpy", array_namespace(), None, np.dtype("float64"))


@pytest.mark.parametrize("name", sorted(SOLVER_CASES))
def test_every_option_of_every_solver(name):
    """Nonsense in the place of each option: an error that names it, before any iteration."""
    args, options = SOLVER_CASES[name](NUMPY)
    solver = SOLVERS[name].solver
    options = {"maxiter": 1, **options} if "maxiter" in signature(solver).parameters else options
    for option in (p.name for p in signature(solver).parameters.values() if p.kind is p.KEYWORD_ONLY):
        for wrong in (Nonsense(), "nonsense"):
            if (option, wrong) != ("checkpoint", "nonsense"):  # a path
                with pytest.raises((TypeError, ValueError), match=f"`[^`]*{option}[^`]*`: got .*expected"):
                    solver(*args, **options | {option: wrong})
