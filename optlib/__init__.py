"""Numerical optimization with a proof of quality, on any array library.

Families of solvers (transport, sensing, online and bilevel) are written once against the Python
array API standard: pass NumPy arrays and the loops run in Numba, pass CuPy arrays and they run on the GPU.
Every answer is an `optlib.Result` that carries a certificate.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_SUBPACKAGES = (
    "bilevel",
    "datasets",
    "experiments",
    "geometry",
    "inner",
    "linop",
    "online",
    "sensing",
    "steps",
    "testing",
    "transport",
)
_NAMES = {
    "Certificate": "optlib._core",
    "History": "optlib._core",
    "Result": "optlib._core",
    "Status": "optlib._core",
    "progress": "optlib._core",
    "config": "optlib.backend",
    "to_device": "optlib.backend",
    "to_numpy": "optlib.backend",
}

__all__ = ["__version__", *_SUBPACKAGES, *_NAMES]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"optlib.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'optlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
