"""Chunks on threads: each once, in parts that cover the range, with the same answer for any number of threads."""

import threading

import numpy as np
import pytest

import optlib
from optlib.backend.threads import read_only, run_chunks


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("count", "chunks"), [(10, 1), (10, 3), (7, 7), (3, 5), (0, 2)])
def test_chunks_cover_the_range_once(count, chunks, threads, monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "5")
    seen, lock = [], threading.Lock()

    def chunk(i0, i1, c, tag):
        with lock:
            seen.append((c, i0, i1, tag))

    with optlib.config(threads=threads):
        run_chunks(chunk, count, chunks, "tag")
    seen.sort()
    assert [c for c, *_ in seen] == list(range(chunks))
    assert [i for _, i0, i1, _ in seen for i in range(i0, i1)] == list(range(count))
    lengths = [i1 - i0 for _, i0, i1, _ in seen]
    assert max(lengths) - min(lengths) <= 1
    assert {tag for *_, tag in seen} == {"tag"}


def test_errors_in_threads_reach_the_caller(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")

    def chunk(i0, i1, c):
        raise ArithmeticError("broken chunk")

    with pytest.raises(ArithmeticError, match="broken chunk"):
        run_chunks(chunk, 4, 2)


def test_read_only_views_are_of_one_type():
    x = np.arange(6.0).reshape(2, 3)
    for given in (x, x.T, x[:, ::2], read_only(x)):
        view = read_only(given)
        assert view.flags.c_contiguous
        assert not view.flags.writeable
        np.testing.assert_array_equal(view, given)
    assert np.shares_memory(read_only(x), x)
    assert x.flags.writeable
