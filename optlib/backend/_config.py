"""Options of a run: which engine executes the kernels, on how many threads."""

import os
from contextvars import ContextVar
from typing import Any, NamedTuple


class _Options(NamedTuple):
    engine: str = "auto"
    threads: int | None = None


_OPTIONS: ContextVar[_Options] = ContextVar("optlib_options", default=_Options())  # noqa: B039 - immutable


class config:  # noqa: N801 - used like a function
    """Set options, for the rest of the program or for a ``with`` block.

    A call takes effect at once; used as a context manager it restores the previous options at the end of the block.
    The options belong to the current thread (or async task): a new thread starts from the defaults.

    Parameters
    ----------
    engine : {"auto", "generic"}, optional
        ``"auto"`` runs the Numba kernels on NumPy arrays and the CUDA kernels on CuPy arrays; ``"generic"`` forces the
        portable array-API reference of every kernel, to debug or to compare.
    threads : int, optional
        Upper bound on the number of CPU threads of the Numba kernels. Results do not depend on it. Without this option
        the bound is the environment variable ``NUMBA_NUM_THREADS`` or the number of usable cores.

    Raises
    ------
    ValueError
        If an option has no such value.

    Examples
    --------
    >>> import optlib
    >>> with optlib.config(engine="generic", threads=1):
    ...     optlib.backend.get_engine()
    'generic'
    """

    def __init__(self, *, engine: str | None = None, threads: int | None = None) -> None:
        if engine not in (None, "auto", "generic"):
            raise ValueError(f"`engine`: got {engine!r}; expected 'auto' or 'generic'.")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ValueError(f"`threads`: got {threads!r}; expected an integer >= 1.")
        self._previous = _OPTIONS.get()
        _OPTIONS.set(_Options(engine or self._previous.engine, threads or self._previous.threads))

    def __enter__(self) -> "config":
        return self

    def __exit__(self, *exc: Any) -> None:
        _OPTIONS.set(self._previous)


def get_engine() -> str:
    """Return the engine in force, ``"auto"`` or ``"generic"``."""
    return _OPTIONS.get().engine


def get_threads() -> int:
    """Return the largest number of CPU threads that a kernel may use now."""
    limit = int(os.environ.get("NUMBA_NUM_THREADS", "0")) or _usable_cores()
    asked = _OPTIONS.get().threads
    return limit if asked is None else min(asked, limit)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: respects taskset and containers
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
