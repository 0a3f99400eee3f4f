"""Every solver: an interrupt loses nothing, the same call goes on from its checkpoint, another problem refuses it."""

import numpy as np
import pytest

from optlib._core import CheckpointError, Result
from optlib.backend import array_namespace
from optlib.backend.capabilities import SOLVERS
from optlib.online import FiniteSum, SmoothSaddle
from tests.cases import collect, import_everything
from tests.conftest import Backend
from tests.online import saddle_problems as saddle

import_everything()
CASES = collect("contract_cases")
NUMPY = Backend("numpy", array_namespace(), None, np.dtype("float64"))
N = 6


def call(name, change=lambda item: item, **more):
    """Run a contract case, made anew as after a restart."""
    args, options = CASES[name](NUMPY)
    fixed = {"tol": None, "maxiter": N, "check_every": 1}
    answer = SOLVERS[name].solver(*map(change, args), **fixed | options | more)
    return answer if isinstance(answer, Result) else answer.result_


def other(item):
    """The same kind of problem with other numbers."""
    if isinstance(item, list):
        return [other(part) for part in item]
    if isinstance(item, np.ndarray):
        return np.flip(item)
    if isinstance(item, (SmoothSaddle, FiniteSum)):
        return {SmoothSaddle: saddle.smooth, FiniteSum: saddle.finite_sum}[type(item)](NUMPY, seed=1)
    if hasattr(item, "_map_arrays"):
        return item._map_arrays(lambda u: 1.5 * u if u.dtype.kind == "f" else u)
    if callable(item):
        return lambda *args: tuple(1.5 * u for u in found) if isinstance(found := item(*args), tuple) else 1.5 * found
    return item


def leaves(item):
    """All arrays of an answer."""
    return [leaf for part in item for leaf in leaves(part)] if isinstance(item, tuple) else [np.asarray(item)]


@pytest.mark.parametrize("name", sorted(CASES))
def test_interrupt_and_resume(name, tmp_path):
    path = tmp_path / "run.npz"

    def interrupt(intermediate_result):
        if intermediate_result.nit >= N // 2:
            raise KeyboardInterrupt

    whole = call(name)
    with pytest.raises(KeyboardInterrupt):
        call(name, checkpoint=path, callback=interrupt)
    kept = path.read_bytes()
    with pytest.raises(CheckpointError, match="another problem or other options"):
        call(name, other, checkpoint=path)
    assert path.read_bytes() == kept
    resumed = call(name, checkpoint=path)
    assert resumed.nit == whole.nit and resumed.history["nit"] == whole.history["nit"]
    for one, two in zip(leaves(whole.x), leaves(resumed.x), strict=True):
        assert np.array_equal(one, two)
