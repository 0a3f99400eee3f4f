"""Array namespaces: found once at the public boundary, never changed on the way."""

from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import array_api_compat as compat
import numpy as np

Array = Any  # an array of any supported library (the standard has no common type yet)

HOST_FLOATS = (np.dtype(np.float64), np.dtype(np.float32))  # of NumPy arrays that need no conversion

_HOST_SCALARS = (int, float, bool, np.number, np.bool_, str)


def array_namespace(*arrays: Any) -> Any:
    """Return the array-API namespace common to all arrays among the arguments.

    Parameters
    ----------
    *arrays : array, number, sequence or None
        Numbers, ``None``, lists and tuples are skipped; if no array is left the namespace is NumPy's.

    Returns
    -------
    module
        The ``array_api_compat`` namespace.

    Raises
    ------
    TypeError
        If arrays of different libraries are mixed.
    """
    found = [x for x in arrays if not (x is None or isinstance(x, (list, tuple, *_HOST_SCALARS)))]
    if not found:
        return compat.array_namespace(np.empty(0))
    names = dict.fromkeys(type(x).__module__.partition(".")[0] for x in found)
    if len(names) > 1:
        raise TypeError(
            f"arrays: got a mix of {' and '.join(names)} arrays; expected arrays of one library. "
            "Fix: move them with optlib.to_device(x, ...) or the library's own asarray."
        )
    return compat.array_namespace(*found)


class _Named(NamedTuple):
    """What stands for a module in a pickle."""

    name: str


class Portable:
    """Base of objects that hold an array namespace: their pickles and copies hold its name instead."""

    def __getstate__(self) -> dict[str, Any]:
        return {k: _Named(v.__name__) if isinstance(v, ModuleType) else v for k, v in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({k: import_module(v.name) if isinstance(v, _Named) else v for k, v in state.items()})


def is_numpy(xp: Any) -> bool:
    """Tell whether the namespace is NumPy's."""
    return compat.is_numpy_namespace(xp)


def is_cupy(xp: Any) -> bool:
    """Tell whether the namespace is CuPy's."""
    return compat.is_cupy_namespace(xp)


def is_torch(xp: Any) -> bool:
    """Tell whether the namespace is PyTorch's."""
    return compat.is_torch_namespace(xp)


def backend_name(xp: Any) -> str:
    """Return the short name of a namespace: ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"`` or ``"strict"``."""
    name = xp.__name__.replace("array_api_compat.", "").partition(".")[0]
    return "strict" if name == "array_api_strict" else name


def device_of(x: Array) -> Any:
    """Return the device of an array."""
    return compat.device(x)


def default_float(xp: Any, device: Any = None) -> Any:
    """Return the widest real dtype of a device: float64, or float32 where float64 does not exist."""
    try:
        return xp.empty(0, dtype=xp.float64, device=device).dtype
    except (ValueError, TypeError, RuntimeError):
        return xp.float32


def as_floating(x: Any, *, xp: Any, dtype: Any = None, device: Any = None) -> Array:
    """Convert to a real floating array without changing library or device.

    Parameters
    ----------
    x : array, number or nested sequence
        Integers and booleans become `default_float`; floating arrays keep their dtype; lists become float64 NumPy
        arrays if ``xp`` is NumPy's.
    xp : module
        The namespace.
    dtype, device : optional
        Wanted dtype and device (by default those of ``x``).

    Returns
    -------
    array
        ``x`` itself when nothing has to be done.

    Raises
    ------
    TypeError
        For complex, object and text entries.
    ValueError
        For ragged sequences.
    """
    if type(x) is np.ndarray and x.dtype in HOST_FLOATS and is_numpy(xp) and (dtype is None or x.dtype == dtype):
        return x
    if not compat.is_array_api_obj(x) or (is_numpy(xp) and isinstance(x, np.generic)):
        x = _host_floating(np.asarray(x))
        if dtype is None:
            dtype = default_float(xp, device)
        return asarray_on(x, xp=xp, dtype=dtype, device=device)
    if is_numpy(xp) and x.dtype.kind not in "fiub":
        _host_floating(x)
    if xp.isdtype(x.dtype, "complex floating"):
        raise TypeError(f"got an array of dtype {x.dtype}; expected real numbers (complex problems are not supported).")
    if dtype is None:
        real = xp.isdtype(x.dtype, "real floating") and x.dtype in (xp.float32, xp.float64)
        dtype = x.dtype if real else default_float(xp, device_of(x))
    if x.dtype != dtype:
        x = xp.astype(x, dtype)
    if device is not None and device_of(x) != device:
        x = compat.to_device(x, device)
    return x


def _host_floating(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind not in "fiub":
        raise TypeError(f"got entries of dtype {x.dtype}; expected real numbers.")
    return x


def asarray_on(host: np.ndarray, *, xp: Any, dtype: Any, device: Any) -> Array:
    """Put a host array on a device with a given dtype (cast on the host: a float32-only device accepts it)."""
    try:
        host = np.asarray(host, dtype=dtype)
    except TypeError:  # a dtype object of torch or array-api-strict: "torch.float64"
        host = np.asarray(host, dtype=str(dtype).rpartition(".")[2])
    if is_torch(xp) and not host.flags.writeable:
        host = host.copy()  # torch warns about sharing read-only memory
    return xp.asarray(host, dtype=dtype, device=device)


def asarray_like(values: Any, like: Array) -> Array:
    """Put host numbers on the namespace, device and dtype of ``like``."""
    xp = compat.array_namespace(like)
    return asarray_on(np.asarray(values), xp=xp, dtype=like.dtype, device=device_of(like))


def to_numpy(x: Any) -> np.ndarray:
    """Copy an array of any library to the host (a view where it already is there).

    Parameters
    ----------
    x : array, number or sequence

    Returns
    -------
    numpy.ndarray
    """
    if compat.is_cupy_array(x):
        return x.get()
    if compat.is_torch_array(x):
        return x.detach().cpu().numpy()
    if compat.is_array_api_obj(x) and compat.is_array_api_strict_namespace(compat.array_namespace(x)):
        xp = compat.array_namespace(x)
        x = x.to_device(xp.Device("CPU_DEVICE"))
    return np.asarray(x)


def to_device(obj: Any, backend: str) -> Any:
    """Move an array, or an object that holds arrays, to another array library.

    Parameters
    ----------
    obj : array, list, tuple, dict or object
        Costs, operators, domains, mirror maps and problems of this library are rebuilt with their arrays moved.
    backend : {"numpy", "cupy", "torch", "jax"}
        Target. A device may follow a colon, for example ``"torch:cuda"``.

    Returns
    -------
    object
        The same kind of object on the target; numbers, strings and ``None`` come back as they are.

    Raises
    ------
    ValueError
        If the backend is unknown.
    TypeError
        If the object does not say how to move its arrays.

    Examples
    --------
    >>> import optlib
    >>> optlib.to_device([1.0, 2.0], "numpy")
    [1.0, 2.0]
    """
    name, _, device = backend.partition(":")
    if name not in ("numpy", "cupy", "torch", "jax"):
        raise ValueError(f"`backend`: got {backend!r}; expected 'numpy', 'cupy', 'torch' or 'jax'.")
    if name == "numpy":
        return _map(obj, to_numpy)
    xp = import_module("jax.numpy" if name == "jax" else name)

    def move(x: Array) -> Array:
        host = to_numpy(x)
        return (
            xp.asarray(host if host.flags.writeable else host.copy(), device=device)
            if device
            else xp.asarray(host if host.flags.writeable else host.copy())
        )

    return _map(obj, move)


def _map(obj: Any, move: Any) -> Any:
    if obj is None or isinstance(obj, (*_HOST_SCALARS, np.generic)):
        return obj
    if compat.is_array_api_obj(obj):
        return move(obj)
    if isinstance(obj, dict):
        return type(obj)({k: _map(v, move) for k, v in obj.items()})
    if isinstance(obj, tuple) and hasattr(obj, "_fields"):
        return type(obj)(*(_map(v, move) for v in obj))
    if isinstance(obj, (list, tuple)):
        return type(obj)(_map(v, move) for v in obj)
    if hasattr(obj, "_map_arrays"):
        return obj._map_arrays(lambda x: _map(x, move))
    raise TypeError(f"`obj`: got {type(obj).__name__}; expected an array or an optlib object that holds arrays.")


def device_name(x: Array) -> str:
    """Return the name of the device that holds an array, for reports: ``"cpu"`` or the name of the GPU."""
    xp = array_namespace(x)
    if is_cupy(xp):
        return xp.cuda.runtime.getDeviceProperties(x.device.id)["name"].decode()
    if is_torch(xp) and x.is_cuda:
        return import_module("torch").cuda.get_device_name(x.device)
    return "cpu"


def synchronize(xp: Any) -> None:
    """Wait until the device has finished its work (needed before a clock is read)."""
    if is_cupy(xp):
        xp.cuda.get_current_stream().synchronize()
    elif is_torch(xp):
        torch = import_module("torch")
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
