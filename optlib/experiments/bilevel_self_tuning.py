"""Self-tuning networks: the learned response against the exact one of ridge regression, and its bias."""

from itertools import pairwise
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.bilevel import RidgeProblem, hypergradient, ridge_best_response, scalar, self_tuning
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge

TITLE = "Self-tuning networks on ridge regression"

_PAPER = "arXiv:1903.03088"
CLAIMS = (
    Claim(
        "bilevel_self_tuning.gates",
        "The best response of ridge regression is a linear network with gated hidden units.",
        f"{_PAPER}, theorem 2",
        "largest relative difference from the solution, over 13 penalties",
        Criterion(high=1e-10),
    ),
    Claim(
        "bilevel_self_tuning.optimum",
        "With perturbations of scale at most 0.1 the log penalty found is within 0.05 of the optimum ...",
        f"{_PAPER}, section 3",
        "largest distance",
        Criterion(high=0.05),
        proven=False,
    ),
    Claim(
        "bilevel_self_tuning.value",
        "... and its validation loss within 0.1 %.",
        f"{_PAPER}, section 3",
        "largest relative excess",
        Criterion(high=1e-3),
        proven=False,
    ),
    Claim(
        "bilevel_self_tuning.slope",
        "The slope learned is the derivative of the solution.",
        f"{_PAPER}, section 3",
        "largest relative difference at scale 0.05",
        Criterion(high=0.1),
        proven=False,
    ),
    Claim(
        "bilevel_self_tuning.bias",
        "The bias grows with the scale.",
        f"{_PAPER}, section 3",
        "least ratio of the excess of scale 0.5 to that of 0.05, and of 1.5 to that of 0.5",
        Criterion(low=1.0),
        proven=False,
    ),
)

_SCALES = (0.05, 0.1, 0.5, 1.5)


def _cases(scale: str) -> list[Row]:
    return [{"repeat": k, "scale": s} for k in range(1 if scale == "quick" else 10) for s in _SCALES]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    n, d = 60, 20
    A, V = rng.normal(size=(2, n, d))
    w = 0.3 * rng.normal(size=d)
    data = A, A @ w + rng.normal(size=n), V, V @ w + rng.normal(size=n)
    problem = RidgeProblem(*(to_device(u, backend) for u in data), penalty="scalar")
    exact = scalar(problem, tol=1e-8)
    found = self_tuning(problem, scale=case["scale"], rng=0, tol=1e-4, maxiter=600)
    response = ridge_best_response(problem)
    slope, learned = to_numpy(response.derivative(found.x)), to_numpy(found.slope)[0] / case["scale"]
    gates = []
    for x in np.linspace(-6.0, 6.0, 13):
        at = to_device(np.array([x]), backend)
        y, want = to_numpy(response(at)), to_numpy(hypergradient(problem, at, tol=1e-13).y)
        gates.append(float(np.linalg.norm(y - want) / np.linalg.norm(want)))
    return {
        "x": float(found.x[0]),
        "best": float(exact.x[0]),
        "error": abs(float(found.x[0]) - float(exact.x[0])),
        "error_value": found.fun / exact.fun - 1.0,
        "error_slope": float(np.linalg.norm(learned - slope) / np.linalg.norm(slope)),
        "error_gates": max(gates),
        "nit": found.nit,
    }


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    small = [row for row in rows if row["scale"] <= 0.1]
    ratios = []
    for repeat in {row["repeat"] for row in rows}:
        at = {row["scale"]: row["error_value"] for row in rows if row["repeat"] == repeat}
        ratios += [at[b] / max(at[a], 1e-12) for a, b in pairwise((0.05, 0.5, 1.5)) if a in at and b in at]
    measured = {
        "gates": max((row["error_gates"] for row in rows), default=None),
        "optimum": max((row["error"] for row in small), default=None),
        "value": max((row["error_value"] for row in small), default=None),
        "slope": max((row["error_slope"] for row in rows if row["scale"] == 0.05), default=None),
        "bias": min(ratios, default=None),
    }
    return judge(CLAIMS, {f"bilevel_self_tuning.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="scale of the perturbations", ylabel="distance from the best log penalty", xscale="log")
    for repeat in sorted({row["repeat"] for row in rows}):
        chosen = [row for row in rows if row["repeat"] == repeat]
        axes.plot([row["scale"] for row in chosen], [row["error"] for row in chosen], "o-")
    return {"bilevel_self_tuning.bias": figure}
