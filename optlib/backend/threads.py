"""What the wrappers of Numba kernels share: chunks on a pool of threads, and one type for every input."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from optlib.backend._config import get_threads


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="optlib")


def run_chunks(chunk: Callable[..., Any], count: int, chunks: int, *args: Any) -> None:
    """Call ``chunk(i0, i1, c, *args)`` for consecutive chunks of ``range(count)``, on threads if they may be used.

    Results do not depend on the number of threads if ``chunks`` does not, and every call writes to places of its own.

    Parameters
    ----------
    chunk : callable
        A compiled function that releases the interpreter, or a function that calls one.
    count : int
        Length of the range that is cut.
    chunks : int
        Number of chunks, which differ in length by at most one.
    *args : object
        Passed on.
    """
    if chunks == 1:
        chunk(0, count, 0, *args)
        return
    cuts = [count * c // chunks for c in range(chunks + 1)]
    jobs = [(i0, i1, c) for c, (i0, i1) in enumerate(pairwise(cuts))]
    threads = min(get_threads(), chunks)
    if threads == 1:
        for job in jobs:
            chunk(*job, *args)
        return
    for done in [_pool(threads).submit(chunk, *job, *args) for job in jobs]:
        done.result()


def read_only(x: np.ndarray) -> np.ndarray:
    """Return a contiguous read-only view: one type for the compiler, whatever the user passes.

    Parameters
    ----------
    x : ndarray

    Returns
    -------
    ndarray
        ``x`` itself, a view of it, or one of a copy if ``x`` is not contiguous.
    """
    if x.flags.c_contiguous and not x.flags.writeable:
        return x
    view = np.ascontiguousarray(x).view()
    view.flags.writeable = False
    return view
