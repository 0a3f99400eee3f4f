"""Contests, each in a new process: entrants take turns, and the medians of the ratios of each round count."""

import gc
import json
import multiprocessing
import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import wraps
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


@dataclass
class Contest:
    """One comparison.

    Attributes
    ----------
    name : str
    entrants : dict of callables
        Each does its work once and returns what it took (seconds, or seconds per unit). The first is ours.
    target : float, optional
        Wanted ratio of the best peer to us.
    verify : callable, optional
        Returns what must be equal before times may be compared (accuracies by entrant); raises if it is not.
    work : dict of callables
        What is run once under the memory tracer, by entrant.
    unit : float
        Factor from what the entrants return to what is printed.
    label : str
        Name of that unit.
    """

    name: str
    entrants: dict[str, Callable[[], float]]
    target: float | None = None
    verify: Callable[[], dict[str, float]] | None = None
    work: dict[str, Callable[[], Any]] = field(default_factory=dict)
    unit: float = 1e3
    label: str = "ms"


@dataclass
class Entry:
    """A contest that is not set up yet: the function that does it, and its arguments."""

    build: Callable[..., Contest]
    args: tuple[Any, ...]
    options: dict[str, Any]

    def __str__(self) -> str:
        module = self.build.__module__.removeprefix("benchmarks.")
        return " ".join(map(str, (module, self.build.__name__, *self.args, *self.options.values())))


def contest(build: Callable[..., Contest]) -> Callable[..., Entry]:
    """Make a call of the decorated function an `Entry`."""

    @wraps(build)
    def entry(*args: Any, **options: Any) -> Entry:
        return Entry(build, args, options)

    return entry


@dataclass
class Row:
    """Result of a contest: times, ratios to us (median, least, largest), accuracies, memory in MB."""

    name: str
    label: str
    times: dict[str, float]
    ratios: dict[str, tuple[float, float, float]]
    target: float | None
    reached: bool | None
    accuracy: dict[str, float]
    memory: dict[str, float]


SHORTEST = 0.02  # seconds: single calls of a millisecond measure the state of the caches


def clock() -> float:
    """Seconds: of the processor when all run on one thread, which other programs disturb less, else of the wall."""
    return time.process_time() if os.environ.get("OMP_NUM_THREADS") == "1" else time.perf_counter()


def timed(function: Callable[[], Any]) -> Callable[[], float]:
    """Make a function return the seconds it takes: the mean of as many calls as last ``SHORTEST``."""

    def run() -> float:
        calls, start = 0, clock()
        while calls == 0 or clock() - start < SHORTEST:
            function()
            calls += 1
        return (clock() - start) / calls

    return run


def per_unit(function: Callable[[int], Any], low: int, high: int) -> Callable[[], float]:
    """Seconds per unit of a function of the number of units: the slope between two numbers."""

    def run() -> float:
        for _ in range(5):
            start = clock()
            function(low)
            middle = clock()
            function(high)
            slope = (clock() - middle - (middle - start)) / (high - low)
            if slope > 0.0:
                return slope
        raise RuntimeError("more work took less time, five times over: the machine is too noisy to measure")

    return run


def alone(family: str, quick: bool, index: int, rounds: int) -> Row:
    """Measure an entry of a family, in a new process.

    What ran before in a process decides whether its large arrays are new memory, which takes a third of the time of
    some whole calls.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(_measured, family, quick, index, rounds).result()


def entries(family: str, quick: bool) -> list[Entry]:
    """All entries of a family."""
    return list(import_module(f"benchmarks.{family}").contests(quick))


def _measured(family: str, quick: bool, index: int, rounds: int) -> Row:
    entry = entries(family, quick)[index]
    return measure(entry.build(*entry.args, **entry.options), rounds)


def measure(contest: Contest, rounds: int) -> Row:
    """Verify, warm up, let the entrants take turns, and trace the memory of one more run."""
    accuracy = contest.verify() if contest.verify else {}
    for entrant in contest.entrants.values():
        entrant()
    times: dict[str, list[float]] = {name: [] for name in contest.entrants}
    for k in range(rounds):
        order = list(contest.entrants.items())
        for name, entrant in order[k % len(order) :] + order[: k % len(order)]:
            gc.collect()
            times[name].append(entrant())
    ours, *peers = contest.entrants
    ratios = {}
    for peer in peers:
        quotients = sorted(p / q for p, q in zip(times[peer], times[ours], strict=True))
        ratios[peer] = (statistics.median(quotients), quotients[0], quotients[-1])
    best = min((r[0] for r in ratios.values()), default=None)
    reached = None if contest.target is None or best is None else best >= contest.target
    return Row(
        name=contest.name,
        label=contest.label,
        times={name: contest.unit * statistics.median(t) for name, t in times.items()},
        ratios=ratios,
        target=contest.target,
        reached=reached,
        accuracy=accuracy,
        memory={name: _peak(run) for name, run in contest.work.items()},
    )


def _peak(run: Callable[[], Any]) -> float:
    """Largest memory in MB that Python and NumPy held more than before."""
    gc.collect()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def print_table(rows: list[Row], header: bool) -> None:
    """Print rows of the ratio table."""
    if header:
        print(
            f"{'contest':44} {'ours':>12} {'peer':>30} {'ratio':>7} {'(min-max)':>15} {'target':>7}  accuracy; memory"
        )
    for row in rows:
        ours = next(iter(row.times))
        notes = ", ".join(f"{name} {value:.1e}" for name, value in row.accuracy.items())
        if row.memory:
            notes += "; " + ", ".join(f"{name} {value:.1f} MB" for name, value in row.memory.items())
        if not row.ratios:
            print(
                f"{row.name:44} {f'{row.times[ours]:.4g} {row.label}':>12} {'':30} {'':24} {'':7} {notes}", flush=True
            )
        for k, (peer, (middle, low, high)) in enumerate(row.ratios.items()):
            name = row.name if k == 0 else ""
            own = f"{row.times[ours]:.4g} {row.label}" if k == 0 else ""
            other = f"{peer} {row.times[peer]:.4g}"
            goal = f"{row.target:g}" if row.target is not None else ""
            mark = {True: "+", False: "MISSED", None: ""}[row.reached]
            print(
                f"{name:44} {own:>12} {other:>30} {middle:6.2f}x ({low:5.2f}-{high:6.2f}) {goal:>7} {mark} "
                + (notes if k == 0 else ""),
                flush=True,
            )


def machine(threads: int) -> dict[str, str]:
    """Where this runs."""
    found = {
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(threads),
        "python": platform.python_version(),
    }
    for package in ("optlib", "numpy", "numba", "scipy", "POT", "ott-jax", "regot", "scikit-learn", "skglm", "optuna"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def write(path: str, about: dict[str, str], rows: list[Row]) -> None:
    """Write all rows as JSON, whole at every moment."""
    temporary = Path(f"{path}.tmp")
    temporary.write_text(json.dumps({"machine": about, "rows": [asdict(row) for row in rows]}, indent=1))
    temporary.replace(path)
