"""Kernels: a portable reference that is the definition, and faster variants beside it."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from importlib import import_module
from typing import Any

import numpy as np

from optlib.backend._config import get_engine
from optlib.backend.namespace import is_cupy, is_numpy

MATCHES = ("exact", "ulp", "sum", "iterate")
KERNELS: dict[str, "Kernel"] = {}


@contextmanager
def collection_paused() -> Iterator[None]:
    """Look for cyclic garbage later: a compiler makes so many objects that looking for it takes a tenth of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


class Compiled:
    """A function of NumPy arrays that exists in Numba only: imported, and compiled, when it is first called.

    Parameters
    ----------
    path : str
        Where it lives, ``"package.module:function"``.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._function: Callable[..., Any] | None = None

    def __call__(self, *args: Any) -> Any:
        """Call it with its arguments by position."""
        if self._function is None:
            with collection_paused():
                self._function = _load(self._path)
                return self._function(*args)
        return self._function(*args)


class Kernel:
    """A function of arrays with a reference and optional Numba and CUDA variants.

    Call it with the arguments of the reference, by position, and ``xp=``. The variant is chosen by the namespace and by
    `optlib.config`; ``generic`` (the reference), ``numba`` and ``cuda`` are callable one by one.
    """

    def __init__(self, reference: Callable[..., Any], numba: str | None, cuda: str | None, match: str) -> None:
        update_wrapper(self, reference)
        self.generic = reference
        self.match = match
        self._paths = {"numba": numba, "cuda": cuda}
        self._loaded: dict[str, Callable[..., Any] | None] = {}
        self._chosen: dict[tuple[str, Any], Callable[..., Any] | None] = {}  # by engine and namespace

    def _variant(self, kind: str) -> Callable[..., Any] | None:
        if kind not in self._loaded:
            path = self._paths[kind]
            self._loaded[kind] = None if path is None else _load(path)
        return self._loaded[kind]

    @property
    def numba(self) -> Callable[..., Any] | None:
        """The Numba variant, a function of NumPy arrays without ``xp``, or None."""
        return self._variant("numba")

    @property
    def cuda(self) -> Callable[..., Any] | None:
        """The CUDA variant, a function of CuPy arrays without ``xp``, or None."""
        return self._variant("cuda")

    def __call__(self, *args: Any, xp: Any) -> Any:
        """Run the variant that fits the namespace and the engine."""
        choice = get_engine(), xp
        try:
            variant = self._chosen[choice]
        except KeyError:
            kind = "numba" if is_numpy(xp) else "cuda" if is_cupy(xp) else None
            with collection_paused():  # the first call imports and compiles
                variant = self._chosen[choice] = self._variant(kind) if kind and choice[0] == "auto" else None
                if variant is not None:
                    return variant(*args)
        if variant is not None:
            return variant(*args)
        if is_numpy(xp):
            with np.errstate(all="ignore"):  # as in the compiled variants: NaN and inf travel without warnings
                return self.generic(*args, xp=xp)
        return self.generic(*args, xp=xp)


def kernel(*, numba: str | None = None, cuda: str | None = None, match: str) -> Callable[[Callable[..., Any]], Kernel]:
    """Declare the decorated array-API function the reference of a kernel with faster variants.

    Parameters
    ----------
    numba, cuda : str, optional
        Where the variants live, ``"package.module:function"``; imported at their first use. They take the
        arguments of the reference, by position, without ``xp``.
    match : {"exact", "ulp", "sum", "iterate"}
        How closely the variants agree with the reference: bitwise; to a few units in the last place (exp, log); up to
        reordered sums, rtol about n eps; after k fixed steps, rtol 1e-9 in float64 and 1e-4 in float32.
    """
    if match not in MATCHES:
        raise ValueError(f"`match`: got {match!r}; expected one of {MATCHES}.")

    def decorate(reference: Callable[..., Any]) -> Kernel:
        made = Kernel(reference, numba, cuda, match)
        name = f"{reference.__module__}.{reference.__qualname__}".removeprefix("optlib.")
        KERNELS[name] = made
        return made

    return decorate
