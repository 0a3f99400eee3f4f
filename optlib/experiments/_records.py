"""Rows of a run on disk: JSON lines, appended as they come, so that a killed run loses nothing."""

import json
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import optlib
from optlib.backend import device_name, get_threads, to_device
from optlib.experiments.claims import Row

_IDENTITY = ("experiment", "scale", "backend", "seed", "optlib")


class UsageError(ValueError):
    """Raised for a wrong wish of the user, as opposed to a failure of what is run."""


class Record(NamedTuple):
    """What a file of rows holds.

    Attributes
    ----------
    header : dict
        Experiment, scale, backend, seed, library version, environment, time of the start.
    rows : list of dict
        The measured rows; each has ``seconds``, its wall time.
    finished : bool
        Whether the run reached its end.
    """

    header: Row
    rows: list[Row]
    finished: bool


def environment(backend: str) -> dict[str, str]:
    """Names and versions of what a measurement depends on.

    Raises
    ------
    UsageError
        If the backend cannot be used on this machine.
    """
    try:
        probe = to_device(np.ones(1), backend)
    except Exception as error:  # CuPy has errors of its own
        raise UsageError(f"`backend`: {backend} cannot be used here ({error}).") from error
    packages = ("numpy", "scipy", "numba", *((backend,) if backend != "numpy" else ()))
    device = device_name(probe)
    return {
        "optlib": optlib.__version__,
        "python": platform.python_version(),
        **{package: import_module(package).__version__ for package in packages},
        "device": _cpu_name() if device == "cpu" else device,
        "threads": str(get_threads()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read(path: Path) -> Record:
    """Read a file of rows; a half-written last line, left by a kill, is passed over.

    Raises
    ------
    UsageError
        If the file is not one that `append` and `start` wrote.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    try:
        header, *rows = (json.loads(line) for line in lines)
        header["experiment"], header["environment"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a file of rows written by `optlib run`. Fix: move it away.") from error
    finished = bool(rows) and "finished" in rows[-1]
    return Record(header, rows[:-1] if finished else rows, finished)


def start(path: Path, header: Row, *, resume: bool) -> Record:
    """Open a file of rows for a run: a new one, or the interrupted one to go on with.

    Raises
    ------
    UsageError
        If there is a file and ``resume`` is False, or if the file to resume belongs to another run.
    """
    if not path.exists() or not path.read_bytes().count(b"\n"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        append(path, header)
        return Record(header, [], finished=False)
    if not resume:
        raise UsageError(f"{path} exists. Fix: go on with --resume, or choose another folder with --out.")
    record = read(path)
    for key in _IDENTITY:
        if record.header.get(key) != header[key]:
            raise UsageError(
                f"{path} has {key} {record.header.get(key)!r}; this run has {header[key]!r}. "
                "Fix: resume with the same options, or choose another folder with --out."
            )
    with path.open("r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
    return record


def append(path: Path, row: Row) -> None:
    """Append one row and see it onto the disk."""
    with path.open("ab") as file:
        file.write(json.dumps(row, default=lambda value: value.tolist()).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def run_experiment(
    module: Any,
    out: Path,
    *,
    scale: str = "quick",
    backend: str = "numpy",
    seed: int = 0,
    resume: bool = False,
    on_row: Callable[[int, int], None] | None = None,
) -> Record:
    """Run an experiment into ``out/<name>.jsonl``.

    Parameters
    ----------
    module : module
        An experiment module.
    out : pathlib.Path
        Folder of the results.
    scale : {"quick", "paper"}
        Size of the cases.
    backend : {"numpy", "cupy", "torch"}
        Array library that the solvers run on.
    seed : int
        Seed of the random problems.
    resume : bool
        Go on with an interrupted run; a finished one comes back as it is.
    on_row : callable, optional
        Called with the number of rows there are and their final number.

    Returns
    -------
    Record
        Header and all rows.
    """
    name = module.__name__.rpartition(".")[2]
    header = {
        "experiment": name,
        "scale": scale,
        "backend": backend,
        "seed": seed,
        "optlib": optlib.__version__,
        "environment": environment(backend),
        "started": _now(),
    }
    path = out / f"{name}.jsonl"
    record = start(path, header, resume=resume)
    if record.finished:
        return record
    total = len(module.run.cases(scale))
    done = len(record.rows)
    clock = time.perf_counter()
    for row in module.run(scale, backend, seed, done=record.rows):
        append(path, row | {"seconds": time.perf_counter() - clock})
        done += 1
        if on_row is not None:
            on_row(done, total)
        clock = time.perf_counter()
    append(path, {"finished": _now()})
    return read(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
