"""Checkpoints: atomic, resumable after a kill, refused when corrupt or foreign."""

import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest

from optlib._core import CheckpointError, checkpoint, driver
from optlib.geometry import Ball
from optlib.sensing import EntrySampling, LinearSensing, RegeneratedSensing, SubsampledTransform
from optlib.transport import GridCost, PointCloud
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


class Numbers(NamedTuple):
    single: np.float32
    double: np.float64
    plain: float
    array: np.ndarray
    flag: bool
    word: str
    nothing: None


def test_numbers_of_numpy_come_back_as_they_were(path):
    """A NumPy scalar is not a Python number: ``~`` of its comparisons differs."""
    state = Numbers(np.float32(0.1), np.float64(0.2), 0.3, np.arange(2.0), True, "auto", None)
    checkpoint.save(path, state, {}, "mark")
    back = driver.resume_state(checkpoint.load(path, "mark"), state, np.empty(0))
    assert [type(value) for value in back] == [type(value) for value in state]
    assert back[:3] == state[:3] and np.array_equal(back[3], state[3])


def test_identities():
    """What differs in anything that matters has another mark, and what differs in rounding has not."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(3, 2))
    ones = lambda p, q: np.ones((len(p), len(q)))
    twos = lambda p, q: 2.0 * ones(p, q)
    kinds = [
        [PointCloud(x, y), PointCloud(x, y, "euclidean"), PointCloud(x, 2.0 * y), PointCloud(x, y, "cosine")],
        [PointCloud(x, y, "lp", p=p) for p in (1.5, 2.5)],
        [PointCloud(x, y, ones), PointCloud(x, y, twos)],
        [GridCost([np.arange(3.0)], p=p) for p in (1.0, 2.0)],
        [RegeneratedSensing((5, 4), 6, rng=seed) for seed in (0, 1)],
        [RegeneratedSensing((5, 4), 6, "rademacher", rng=0), SubsampledTransform((4, 4), 6, "dct", rng=0)],
        [SubsampledTransform((4, 4), 6, "hadamard", rng=0), EntrySampling([0, 1], [0, 1], (4, 4))],
        [EntrySampling([0, 1], [0, 2], (4, 4)), EntrySampling([0, 1], [0, 1], (4, 5))],
        [LinearSensing((lambda v, c=c: c * v[:3], lambda z: np.r_[z, z]), (2, 3), 3) for c in (1.0, 2.0)],
        [Ball(3), Ball(3, 2.0), Ball(3, 1.0, [0.0, 0.0, 1.0])],
    ]
    marks = [checkpoint.fingerprint(item) for items in kinds for item in items]
    assert len(set(marks)) == len(marks)
    assert marks == [checkpoint.fingerprint(item) for items in kinds for item in items]
    answer = rng.normal(size=50)
    known = checkpoint.fingerprint(checkpoint.probe(answer, 3.0))
    assert known == checkpoint.fingerprint(checkpoint.probe(answer * (1.0 + 1e-15), 3.0))
    assert known != checkpoint.fingerprint(checkpoint.probe(answer * (1.0 + 1e-4), 3.0))
    assert checkpoint.probe(np.nan, np.empty(0)) and checkpoint.probe() == []
