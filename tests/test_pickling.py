"""What users hold can be stored, sent to other processes and copied; of results `tests/test_contract.py` tells."""

import copy
import pickle
from types import FunctionType

import numpy as np
import pytest

from optlib.testing import assert_close
from tests.bilevel.problems import MAKERS, OTHERS
from tests.cases import collect, import_everything
from tests.conftest import NUMPY
from tests.geometry import mirror_maps
from tests.online.learners import LINEAR, UNBOUNDED

import_everything()
CASES = collect("contract_cases")
PROBLEMS = MAKERS | OTHERS
LEARNERS = LINEAR | UNBOUNDED


@pytest.mark.parametrize("name", sorted(CASES))
def test_arguments(name):
    """Problems, operators, costs, estimators."""
    args, options = CASES[name](NUMPY)
    for value in (*args, *options.values()):
        if not isinstance(value, FunctionType):
            for other in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
                assert type(other) is type(value)


@pytest.mark.parametrize("name", PROBLEMS)
def test_bilevel_problems(name):
    """What oracles keep does not stand in the way."""
    problem = PROBLEMS[name]()
    x, y = problem.start()
    value = problem.inner(x, y)[0]
    if problem.hvp is not None:
        problem.hvp(x, y, y)
    for other in (pickle.loads(pickle.dumps(problem)), copy.deepcopy(problem)):
        assert other.inner(x, y)[0] == value


@pytest.mark.parametrize("name", LEARNERS)
def test_learners(name):
    """A learner that was stored goes on as if it had not been."""
    learner = LEARNERS[name]()
    losses = np.random.default_rng(0).uniform(-0.4, 0.4, (4, learner.n))
    for g in losses[:2]:
        learner.update(g)
    other = pickle.loads(pickle.dumps(learner))
    for g in losses[2:]:
        learner.update(g)
        other.update(g)
    assert_close(other.decide(), learner.decide(), rtol=0.0)


@pytest.mark.parametrize("name", mirror_maps.CASES)
def test_mirror_maps(name):
    mirror = mirror_maps.CASES[name].make(np.asarray, 4)
    assert repr(copy.deepcopy(mirror)) == repr(pickle.loads(pickle.dumps(mirror))) == repr(mirror)
