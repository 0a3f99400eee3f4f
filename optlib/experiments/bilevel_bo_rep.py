"""BO-REP where curvature grows with the gradient: steps of fixed length against steps proportional to it."""

import math
from functools import partial
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.bilevel import CoshProblem, bo_rep, soba
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge

TITLE = "Bilevel optimization under unbounded smoothness"

_SOURCE = "arXiv:2401.09587"
CLAIMS = (
    Claim(
        "bilevel_bo_rep.reaches",
        "From a point where the hyper-objective is 2e6, normalised momentum reaches the solution up to its step ...",
        f"{_SOURCE}, Theorem 4.1 (on a problem of this library)",
        "largest hyper-objective after 4000 steps of length 0.02",
        Criterion(high=0.05),
    ),
    Claim(
        "bilevel_bo_rep.plain",
        "... where steps proportional to the gradient diverge or are still far away.",
        f"{_SOURCE}, section 1 (on a problem of this library)",
        "least hyper-objective after 4000 such steps, of 0.1 to 1e-5 times the gradient",
        Criterion(low=100.0),
    ),
    Claim(
        "bilevel_bo_rep.floor",
        "A constant length ends at an error that falls with it.",
        f"{_SOURCE}, Theorem 4.1",
        "largest hyper-objective at length 0.02 / that at 0.1",
        Criterion(high=0.5),
    ),
    Claim(
        "bilevel_bo_rep.decay",
        "Lengths that decay remove it.",
        "derived here",
        "largest hyper-objective with lengths 0.1 / (1 + k / 100) / that with the constant 0.02",
        Criterion(high=0.1),
    ),
)


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    repeats = range(1 if quick else 10)
    lengths = (0.1, 0.02) if quick else (0.1, 0.05, 0.02, 0.01)
    cases: list[Row] = [{"method": "bo_rep", "step": eta, "repeat": k} for eta in lengths for k in repeats]
    cases += [{"method": "decay", "step": 0.1, "repeat": k} for k in repeats]
    cases += [{"method": "plain", "step": 10.0**-e, "repeat": k} for e in range(1, 6) for k in repeats]
    return cases


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    move = partial(to_device, backend=backend)
    problem = move(CoshProblem.random(10, n=1000, noise=0.1, rng=rng))
    x = move(np.full(10, 8.0))
    options = {"batch": 1, "tol": None, "maxiter": 4000, "check_every": 100, "rng": 0}
    values: list[float] = []

    def note(intermediate_result: Any) -> None:
        values.append(float(problem.value(intermediate_result.x)))

    step = case["step"]
    if case["method"] == "plain":
        found = soba(problem, x, step=0.1, outer_step=step, callback=note, **options)
    else:
        length = step if case["method"] == "bo_rep" else lambda k: step / (1.0 + k / 100.0)
        found = bo_rep(problem, x, outer_step=length, callback=note, **options)
    last = float(problem.value(found.x)) if found.nit == 4000 else math.inf
    assert np.all(np.isfinite(to_numpy(found.x)))
    return {"error": last if math.isfinite(last) else 1e300, "first": float(problem.value(x)), "curve": values}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""

    def values(method: str, step: float | None = None) -> list[float]:
        return [row["error"] for row in rows if row["method"] == method and step in (None, row["step"])]

    short, long, decay = values("bo_rep", 0.02), values("bo_rep", 0.1), values("decay")
    measured = {
        "reaches": max(short, default=None),
        "plain": min(values("plain"), default=None),
        "floor": max(short) / max(long) if short and long else None,
        "decay": max(decay) / max(short) if short and decay else None,
    }
    return judge(CLAIMS, {f"bilevel_bo_rep.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="iterations", ylabel="hyper-objective", yscale="log", title="from 8 in each of ten dimensions")
    for row in [row for row in rows if row["method"] != "plain" and row["repeat"] == 0]:
        label = f"length {row['step']}" + (", decaying" if row["method"] == "decay" else "")
        axes.plot(100 * np.arange(len(row["curve"])), np.maximum(row["curve"], 1e-12), label=label)
        axes.legend()
    return {"bilevel_bo_rep.reaches": figure}
