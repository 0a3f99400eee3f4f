"""Array namespaces, conversion and transfer; options; the kernel decorator; capabilities."""

import gc
import threading

import array_api_strict as strict
import numpy as np
import pytest

import optlib
from optlib import backend as floor
from optlib.backend import capabilities, kernels, namespace


def test_namespace(backend):
    x = backend.asarray([1.0])
    assert floor.array_namespace(None, 1.0, [2.0], x) is backend.xp
    assert floor.is_numpy(floor.array_namespace([1.0], 2))
    assert floor.backend_name(backend.xp) == backend.name.partition("-")[0]
    floor.synchronize(backend.xp)
    with pytest.raises(TypeError, match="got a mix of array_api_strict and numpy arrays"):
        floor.array_namespace(strict.asarray([1.0]), np.ones(1))


def test_as_floating(backend):
    xp = backend.xp
    x = backend.asarray([1.5, 2.5])
    assert floor.as_floating(x, xp=xp) is x
    ints = floor.as_floating(backend.asarray(np.array([1, 2])), xp=xp)
    assert ints.dtype == floor.default_float(xp, floor.device_of(x))
    half = np.ones(2, dtype=np.float16)
    assert floor.as_floating(half, xp=floor.array_namespace(half)).dtype == np.float64
    assert floor.as_floating([1, 2], xp=xp, device=floor.device_of(x)).dtype == ints.dtype
    for bad in (np.array([1j]), np.array(["a"]), np.array([None])):
        with pytest.raises(TypeError, match="expected real numbers"):
            floor.as_floating(bad, xp=floor.array_namespace(bad))


def test_round_trip_to_the_host(backend):
    x = backend.asarray(np.arange(6.0).reshape(2, 3))
    assert np.array_equal(optlib.to_numpy(x), np.arange(6.0).reshape(2, 3))
    y = floor.asarray_like([[1.0, 2.0]], x)
    assert (y.dtype, floor.device_of(y)) == (x.dtype, floor.device_of(x))
    moved = optlib.to_device({"a": [x, 1.0, None], "b": (x,)}, "numpy")
    assert isinstance(moved["a"][0], np.ndarray)
    assert moved["a"][1:] == [1.0, None]


def test_to_device():
    with pytest.raises(ValueError, match="`backend`: got 'tensorflow'"):
        optlib.to_device(np.ones(1), "tensorflow")
    with pytest.raises(TypeError, match="`obj`: got object; expected an array or an optlib object"):
        optlib.to_device(object(), "numpy")


def test_to_torch():
    torch = pytest.importorskip("torch")
    frozen = np.ones(2)
    frozen.flags.writeable = False
    assert isinstance(optlib.to_device(frozen, "torch"), torch.Tensor)
    assert optlib.to_device(np.ones(2), "torch:cpu").device.type == "cpu"
    assert np.array_equal(optlib.to_numpy(torch.ones(2, requires_grad=True)), np.ones(2))


def test_config_restores_and_is_per_thread():
    with optlib.config(engine="generic", threads=1):
        assert (floor.get_engine(), floor.get_threads()) == ("generic", 1)
        with optlib.config(engine="auto"):
            assert (floor.get_engine(), floor.get_threads()) == ("auto", 1)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(floor.get_engine()))
        thread.start()
        thread.join()
        assert seen == ["auto"]
        assert floor.get_engine() == "generic"


@pytest.mark.parametrize("options", [{"engine": "fast"}, {"threads": 0}, {"threads": 1.5}, {"threads": True}])
def test_bad_config(options):
    before = floor.get_engine()
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`: got"):
        optlib.config(**options)
    assert floor.get_engine() == before


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert floor.get_threads() == 3
    monkeypatch.delenv("NUMBA_NUM_THREADS")
    assert floor.get_threads() >= 1


def test_kernel_dispatch(monkeypatch):
    monkeypatch.setattr(kernels, "KERNELS", {})

    @kernels.kernel(numba="tests.backend.test_namespace:twice_fast", match="exact")
    def twice(x, *, xp):
        return x * 2

    assert kernels.KERNELS.keys() == {"tests.backend.test_namespace.test_kernel_dispatch.<locals>.twice"}
    xp = floor.array_namespace()
    assert twice(np.ones(1), xp=xp) == -2
    assert twice.generic(np.ones(1), xp=xp) == 2
    assert float(twice(strict.asarray([1.0]), xp=strict)[0]) == 2
    with optlib.config(engine="generic"):
        assert twice(np.ones(1), xp=xp) == 2
    with pytest.raises(ValueError, match="`match`"):
        kernels.kernel(match="close")


def collects(x):
    if x is None:
        raise RuntimeError
    return gc.isenabled()


def test_the_first_call_of_a_variant_is_not_interrupted_by_the_collector(monkeypatch):
    monkeypatch.setattr(kernels, "KERNELS", {})
    slow = kernels.kernel(numba="tests.backend.test_namespace:collects", match="exact")(lambda x, *, xp: None)
    with pytest.raises(RuntimeError):
        slow(None, xp=np)
    assert gc.isenabled()
    assert slow(1, xp=np)
    fresh = kernels.kernel(numba="tests.backend.test_namespace:collects", match="exact")(lambda x, *, xp: None)
    assert not fresh(1, xp=np)
    assert gc.isenabled()


def twice_fast(x):
    return -2 * x


def test_capabilities(monkeypatch):
    monkeypatch.setattr(capabilities, "SOLVERS", {})

    @capabilities.supports(backends=("numpy",), sequential=True, gradients=("cost",))
    def solver():
        pass

    (entry,) = capabilities.SOLVERS.values()
    assert (entry.solver, entry.backends, entry.sequential, entry.gradients) == (solver, ("numpy",), True, ("cost",))
    with pytest.raises(ValueError, match="`backends`"):
        capabilities.supports(backends=("tf",))


def test_public_names():
    for name in optlib.__all__:
        assert getattr(optlib, name) is not None
    assert set(optlib.__all__) <= set(dir(optlib))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        optlib.nothing  # noqa: B018
    assert namespace.Array is not None
