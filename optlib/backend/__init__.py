"""The ground floor: array namespaces, and what the array API standard lacks.

Everything that differs between NumPy, CuPy, PyTorch and JAX is handled here and nowhere else: linear algebra with
defined failure behaviour (`linalg`), special functions (`special`), scatter-add (`scatter`), host random numbers
(`random`), sparse matrices (`sparse`), hand-written kernels beside a portable reference (`kernel`) and the table of
what each solver supports (`supports`).
"""

from optlib.backend import linalg, random, scatter, sparse, special
from optlib.backend._config import config, get_engine, get_threads
from optlib.backend.capabilities import supports
from optlib.backend.kernels import Compiled, kernel
from optlib.backend.namespace import (
    Array,
    Portable,
    array_namespace,
    as_floating,
    asarray_like,
    backend_name,
    default_float,
    device_name,
    device_of,
    is_cupy,
    is_numpy,
    is_torch,
    synchronize,
    to_device,
    to_numpy,
)

__all__ = [
    "Array",
    "Compiled",
    "Portable",
    "array_namespace",
    "as_floating",
    "asarray_like",
    "backend_name",
    "config",
    "default_float",
    "device_name",
    "device_of",
    "get_engine",
    "get_threads",
    "is_cupy",
    "is_numpy",
    "is_torch",
    "kernel",
    "linalg",
    "random",
    "scatter",
    "sparse",
    "special",
    "supports",
    "synchronize",
    "to_device",
    "to_numpy",
]
