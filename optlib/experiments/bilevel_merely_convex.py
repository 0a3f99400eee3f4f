"""Inner problems with many minimisers: what unrolling finds, and what descent aggregation and averaging find."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.bilevel import CounterexampleProblem, bamm, bda
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge

TITLE = "Bilevel problems whose inner minimisers are many"

_BDA, _BAMM = "arXiv:2006.04045, section 3", "arXiv:2302.03407, section 4"
CLAIMS = (
    Claim(
        "bilevel_merely_convex.unrolled",
        "Differentiated gradient descent keeps the start of the inner variable and ends at x = 1/2 ...",
        _BDA,
        "largest |x - 1/2|",
        Criterion(high=1e-3),
    ),
    Claim(
        "bilevel_merely_convex.aggregation",
        "... where descent aggregation with outer weights 0.9 / k and 400 iterations ends near the solution 1 ...",
        _BDA,
        "largest |x - 1|",
        Criterion(high=5e-3),
        proven=False,
    ),
    Claim(
        "bilevel_merely_convex.aggregation.limit",
        "... and the nearer, the more iterations.",
        _BDA,
        "largest ratio of the errors of 100 and 16, or of 400 and 100 iterations",
        Criterion(high=1.0),
    ),
    Claim(
        "bilevel_merely_convex.averaging.early",
        "The single-loop averaged method has an error of at most 0.02 after 2000 iterations ...",
        _BAMM,
        "largest |x - 1|",
        Criterion(high=0.02),
        proven=False,
    ),
    Claim(
        "bilevel_merely_convex.averaging",
        "... and of 1e-6 after 10 000.",
        _BAMM,
        "largest |x - 1|",
        Criterion(high=1e-6),
        proven=False,
    ),
)

_STEPS = (16, 100, 400)


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    n = 10 if quick else 50
    cases: list[Row] = [{"study": "unrolled", "n": n, "steps": k} for k in (_STEPS[:2] if quick else _STEPS)]
    alphas = (0.9,) if quick else (0.5, 0.9)
    cases += [{"study": "aggregation", "n": n, "steps": k, "alpha": a} for a in alphas for k in _STEPS]
    cases += [
        {"study": "averaging", "n": 10 if quick else 100, "adjoint": a}
        for a in (("schedule",) if quick else ("schedule", "exact"))
    ]
    return cases


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    move = partial(to_device, backend=backend)
    problem = CounterexampleProblem(move(np.ones(case["n"])))
    if case["study"] == "averaging":
        found = bamm(
            problem, move(np.full(case["n"], 0.01)), adjoint=case["adjoint"], step=0.1, tol=None, check_every=500,
            record="iterates",
        )  # fmt: skip
        errors = [float(np.max(np.abs(to_numpy(x) - 1.0))) for x in found.iterates]
        return {"nit": found.history["nit"], "errors": errors}
    options: dict[str, Any] = {"step": 0.5, "outer_step": 0.5, "tol": 1e-6, "maxiter": 200}
    found = bda(problem, alpha=case.get("alpha", 0.0), steps=case["steps"], **options)
    x = to_numpy(found.x)
    far = float(np.max(np.abs(x - 1.0)))
    return {"error": far, "half": float(np.max(np.abs(x - 0.5))), "inner": found.inner_norm}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    unrolled = [row["half"] for row in rows if row["study"] == "unrolled"]
    ratios, longest = [], []
    for alpha in (0.5, 0.9):
        found = sorted((r["steps"], r["error"]) for r in rows if r["study"] == "aggregation" and r["alpha"] == alpha)
        ratios += [after / before for (_, before), (_, after) in pairwise(found)]
        longest += [error for steps, error in found if alpha == 0.9 and steps == _STEPS[-1]]

    def after(nit: int) -> float | None:
        found = [row["errors"][row["nit"].index(nit)] for row in rows if row["study"] == "averaging"]
        return max(found, default=None)

    measured = {
        "unrolled": max(unrolled, default=None),
        "aggregation": max(longest, default=None),
        "aggregation.limit": max(ratios, default=None),
        "averaging.early": after(2000),
        "averaging": after(10_000),
    }
    return judge(CLAIMS, {f"bilevel_merely_convex.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="iterations", ylabel="|x - 1|", xscale="log", yscale="log", title="the counter-example")
    for row in (row for row in rows if row["study"] == "averaging"):
        axes.plot(row["nit"][1:], row["errors"][1:], label=f"averaged, steps of the adjoint: {row['adjoint']}")
    for alpha in (0.5, 0.9):
        found = sorted((r["steps"], r["error"]) for r in rows if r["study"] == "aggregation" and r["alpha"] == alpha)
        if found:
            axes.plot(*zip(*found, strict=True), "o-", label=f"aggregation, weights {alpha} / k (inner iterations)")
    axes.axhline(0.5, color="grey", linestyle=":", label="unrolled")
    axes.legend()
    return {"bilevel_merely_convex.aggregation": figure}
