"""Checkpoints: atomic, resumable after a kill, refused when corrupt or foreign."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from optlib._core import CheckpointError, checkpoint, driver
from tests.core.toy import ToyState, approach

TARGET = np.arange(1.0, 5.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


def test_continues_where_it_stopped(path, backend):
    target = backend.asarray(TARGET)
    whole = approach(target, maxiter=20, tol=None)
    first = approach(target, maxiter=7, tol=None, checkpoint=path)
    second = approach(target, maxiter=20, tol=None, checkpoint=path)
    assert (first.nit, second.nit) == (7, 20)
    assert bool(backend.xp.all(whole.x == second.x))
    assert second.history["nit"] == whole.history["nit"]
    assert second.history["stop"] == whole.history["stop"]
    assert sorted(second.history["time"]) == second.history["time"], "the clock goes on"
    again = approach(target, maxiter=20, tol=None, checkpoint=path)
    assert again.nit == 20
    assert again.history["nit"] == whole.history["nit"]


def test_saves_now_and_then_and_on_interrupt(path, monkeypatch):
    monkeypatch.setattr(driver, "SAVE_EVERY", 0.0)
    saved = []
    monkeypatch.setattr(driver.checkpoints, "save", lambda *a: saved.append(a[1].nit))

    def interrupt(intermediate_result):
        if intermediate_result.nit == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        approach(TARGET, checkpoint=path, callback=interrupt)
    assert saved == [0, 1, 2, 3]


def test_killed_process_resumes(path):
    code = f"""
import time
from optlib._core import driver
from tests.core.toy import approach
import numpy as np
driver.SAVE_EVERY = 0.0
print("started", flush=True)
approach(np.arange(1.0, 5.0), tol=None, maxiter=100000, checkpoint={str(path)!r}, callback=lambda r: time.sleep(1e-3))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = int(np.load(path)["array_x"].shape[0]) and checkpoint.load(
        path, checkpoint.fingerprint(("toy", (TARGET, 0.5)))
    )
    nit = done.fields["nit"]
    assert nit > 0
    result = approach(TARGET, tol=None, maxiter=nit + 10, checkpoint=path)
    assert result.nit == nit + 10
    assert np.array_equal(result.x, approach(TARGET, tol=None, maxiter=nit + 10).x)
    assert result.history["nit"] == list(range(nit + 11))


def test_foreign_and_corrupt_files_are_refused(path):
    approach(TARGET, maxiter=3, checkpoint=path)
    with pytest.raises(CheckpointError, match="another problem or other options"):
        approach(TARGET + 1, maxiter=3, checkpoint=path)
    with pytest.raises(CheckpointError, match="another problem or other options"):
        approach(TARGET, maxiter=3, factor=0.25, checkpoint=path)
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"not a zip file", content[:-40] + bytes(40)):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"`checkpoint`: got run.npz.*delete it"):
            approach(TARGET, maxiter=3, checkpoint=path)
    np.savez(path, x=TARGET)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        approach(TARGET, maxiter=3, checkpoint=path)


def test_paths_are_checked_before_any_work(tmp_path):
    for bad, kind in ((tmp_path / "missing" / "run.npz", ValueError), (tmp_path, ValueError), (3, TypeError)):
        with pytest.raises(kind, match=r"`checkpoint`: got .*expected"):
            approach(TARGET, checkpoint=bad, callback=lambda intermediate_result: pytest.fail("it ran"))


def test_other_versions_are_refused(path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 99)
    approach(TARGET, maxiter=3, checkpoint=path)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format version 99"):
        approach(TARGET, maxiter=3, checkpoint=path)


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    checkpoint.write_atomic(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_fingerprint_sees_everything():
    base = (TARGET, {"reg": 0.1, "kind": "a"}, [1, None], np.sum)
    marks = {
        checkpoint.fingerprint(problem)
        for problem in (
            base,
            (TARGET + 1, *base[1:]),
            (TARGET.astype("f4"), *base[1:]),
            (TARGET[:, None], *base[1:]),
            (TARGET, {"reg": 0.2, "kind": "a"}, *base[2:]),
            (*base[:2], [1, 0], np.sum),
            (*base[:3], np.prod),
        )
    }
    assert len(marks) == 7
    assert checkpoint.fingerprint(base) == checkpoint.fingerprint((TARGET.copy(), *base[1:]))


def test_all_kinds_of_state_come_back(path):
    from typing import Any, NamedTuple

    class State(NamedTuple):
        array: Any
        index: Any
        flag: bool
        count: int
        rate: float
        name: str
        nothing: None
        rule: Any

    state = State(TARGET, np.arange(3), True, 3, 1 / 3, "anderson", None, ToyState(TARGET + 1, 7))
    checkpoint.save(path, state, {"time": 0.5}, "mark")
    saved = checkpoint.load(path, "mark")
    back = driver.resume_state(saved, state, TARGET)
    assert saved.record == {"time": 0.5}
    assert np.array_equal(back.array, TARGET)
    assert back.index.dtype == np.int64
    assert back[2:7] == state[2:7]
    assert isinstance(back.rule, ToyState)
    assert np.array_equal(back.rule.x, TARGET + 1)
    assert back.rule.nit == 7
