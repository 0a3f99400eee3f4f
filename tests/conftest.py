"""Fixtures: backends, engines, and the hypothesis profiles."""

# ruff: noqa: E402 - the environment is set before NumPy is imported
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # before NumPy: threads on tiny arrays only cost time
    os.environ.setdefault(_name, "1")

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import array_api_compat
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import optlib
from optlib.backend import array_namespace, is_cupy, is_numpy, kernels
from optlib.backend.namespace import asarray_on
from optlib.datasets import DatasetNotFoundError

# The fixtures that depend on the test (the engine) are the same for all of its examples.
_CALM = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile("dev", max_examples=15, deadline=None, derandomize=True, suppress_health_check=_CALM)
settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True, suppress_health_check=_CALM)
settings.register_profile("nightly", max_examples=1000, deadline=None, suppress_health_check=_CALM)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@dataclass(frozen=True)
class Backend:
    """One array library on one device with one dtype: ``backend.asarray(host)`` puts test data there."""

    name: str
    xp: Any
    device: Any
    dtype: Any
    readonly: bool = False

    def asarray(self, host: Any, dtype: Any = None) -> Any:
        """Floating data in the dtype of the backend; integers and booleans keep theirs."""
        host = np.asarray(host)
        if dtype is None:
            dtype = self.dtype if host.dtype.kind == "f" else getattr(self.xp, host.dtype.name)
        x = asarray_on(host, xp=self.xp, dtype=dtype, device=self.device)
        if self.readonly:
            x = np.array(x)
            x.flags.writeable = False
        return x

    @property
    def eps(self) -> float:
        return float(self.xp.finfo(self.dtype).eps)

    @property
    def rtol(self) -> float:
        """Tolerance for results of a short stable computation."""
        return 1e-9 if self.eps < 1e-10 else 2e-4

    @property
    def is_double(self) -> bool:
        return self.eps < 1e-10


NUMPY = Backend("numpy", array_namespace(), None, np.dtype("float64"))


def _backends() -> dict[str, Any]:
    import array_api_strict as strict

    found = {
        "numpy": NUMPY,
        "numpy-readonly": replace(NUMPY, name="numpy-readonly", readonly=True),
        "strict": Backend("strict", strict, strict.Device("device1"), strict.float64),
        "strict-float32": Backend("strict-float32", strict, strict.Device("no_float64"), strict.float32),
    }
    if find_spec("torch"):
        import torch

        found["torch"] = Backend("torch", array_api_compat.array_namespace(torch.empty(0)), "cpu", torch.float64)
    return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--backend", help="run the tests of backends on this one only: numpy, torch, cupy, jax, ...")


def _selected(config: pytest.Config) -> dict[str, Any]:
    found = _backends()
    name = config.getoption("--backend")
    if name == "cupy":
        import cupy

        return {"cupy": Backend("cupy", array_namespace(cupy.empty(0)), cupy.cuda.Device(), np.dtype("float64"))}
    if name == "jax":  # eager JAX compiles every operation: slow, so on request only
        import jax

        jax.config.update("jax_enable_x64", True)
        zero = jax.numpy.zeros(())
        return {"jax": Backend("jax", array_namespace(zero), zero.device, jax.numpy.dtype("float64"))}
    return {name: found[name]} if name else found


ENGINES = ("auto", "generic")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    found = _selected(metafunc.config) if "backend" in metafunc.fixturenames else {}
    if "engine" not in metafunc.fixturenames:
        if found:
            metafunc.parametrize("backend", list(found.values()), ids=list(found), scope="session")
    elif not found:
        metafunc.parametrize("engine", ENGINES, indirect=True)
    else:  # elsewhere than on NumPy and CuPy there are no kernels: both engines are the same
        pairs = [
            (backend, engine)
            for backend in found.values()
            for engine in ENGINES
            if engine == "auto" or is_numpy(backend.xp) or is_cupy(backend.xp)
        ]
        names = [f"{backend.name}-{engine}" for backend, engine in pairs]
        metafunc.parametrize(("backend", "engine"), pairs, ids=names, indirect=["engine"])


def available(load: Any) -> Any:
    """What a loader finds; the test is skipped without a network, but not where a folder with the data is named."""
    try:
        return load()
    except DatasetNotFoundError as error:
        if "OPTLIB_DATA" in os.environ:
            raise
        pytest.skip(str(error))


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Any:
    """Run a test under both engines."""
    with optlib.config(engine=request.param):
        assert kernels.get_engine() == request.param
        yield request.param
