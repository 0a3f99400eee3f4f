"""What `sensing.recover` solves, and what the first-order methods solve on the same data."""

from typing import Any

import numpy as np

from optlib import sensing
from optlib.backend import to_device, to_numpy
from optlib.datasets import make_low_rank
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product

TITLE = "Low-rank recovery near the limit"

_PROMISE = "promise of this library, from a prototype"

CLAIMS = (
    Claim(
        "recovery.any_condition",
        "At 1.5 measurements a degree of freedom the default recovers matrices of any condition to 1e-10.",
        _PROMISE,
        "smallest share of seeds, over condition 1, 1e2, 1e4, 1e6",
        Criterion(low=1.0),
    ),
    Claim(
        "recovery.steps",
        "With m >= 10 n r it takes at most 30 steps.",
        _PROMISE,
        "largest number of steps",
        Criterion(high=30),
    ),
    Claim(
        "recovery.close",
        "At 1.15 measurements a degree of freedom it still mostly succeeds.",
        _PROMISE,
        "smallest share of seeds, over condition 1 and 1e4",
        Criterion(low=0.8),
    ),
    Claim(
        "recovery.outliers",
        "At 4 measurements a degree of freedom, 40 % of them grossly wrong, it recovers to 1e-9.",
        _PROMISE,
        "share of seeds",
        Criterion(low=0.9),
    ),
    Claim(
        "recovery.first_order",
        "ScaledGD does not converge at 1.5 measurements a degree of freedom.",
        "observed in a prototype: 0 of 40",
        "largest share of seeds, over condition 1, 1e2, 1e4, 1e6",
        Criterion(high=0.1),
        proven=False,
    ),
    Claim(
        "recovery.honest",
        "The certificate holds exactly where the error is small.",
        _PROMISE,
        "share of all runs of the default",
        Criterion(low=1.0),
    ),
    Claim(
        "recovery.identifiability",
        "The ratio of the restricted singular values at the answer is that of Marchenko and Pastur, (1 - q) / (1 + q), "
        "q = 1 / sqrt(over).",
        "derived here for Gaussian measurements",
        "largest ratio of measured to predicted, or its inverse",
        Criterion(high=1.3),
        proven=False,
    ),
)

CONDITIONS = (1.0, 1e2, 1e4, 1e6)
N1, N2, R = 40, 32, 3
DOF = R * (N1 + N2 - R)


def _cases(scale: str) -> list[Row]:
    repeats = range(2 if scale == "quick" else 10)
    return [
        *product(part=["default", "scaled_gd"], over=[1.5], condition=CONDITIONS, repeat=repeats),
        *product(part=["default"], over=[1.15], condition=[1.0, 1e4], repeat=repeats),
        *product(part=["default"], over=[10 * N1 * R / DOF], condition=CONDITIONS, repeat=repeats),
        *product(part=["outliers"], over=[4.0], condition=[10.0], repeat=repeats),
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    left, right = make_low_rank(N1, N2, np.geomspace(1.0, 1.0 / case["condition"], R), rng=rng)
    m = round(case["over"] * DOF)
    A = sensing.GaussianSensing((N1, N2), m, rng=rng)
    y = A.forward_factored(left, right)
    if case["part"] == "outliers":
        bad = rng.permutation(m)[: round(0.4 * m)]
        y[bad] += 10.0 * np.std(y) * rng.standard_normal(bad.size)
    A, y = to_device((A, y), backend)
    if case["part"] == "scaled_gd":
        result = sensing.scaled_gd(A, y, rank=R, maxiter=3000, check_every=100)
    else:
        result = sensing.recover(A, y, rank=R, loss="l1" if case["part"] == "outliers" else "l2")
    return {
        "error": _error(result, left, right),
        "success": result.success,
        "steps": result.nit,
        "identifiability": result.identifiability,
        "message": result.message,
    }


def _error(result: sensing.SensingResult, left: np.ndarray, right: np.ndarray) -> float:
    """Relative Frobenius error, without cancellation."""
    found = [to_numpy(u) for u in result.factors]
    if not all(np.all(np.isfinite(u)) for u in found):
        return float("inf")
    first = np.linalg.qr(np.hstack([found[0], left]))[1]
    second = np.linalg.qr(np.hstack([found[1], -right]))[1]
    return float(np.linalg.norm(first @ second.T) / np.linalg.norm(left @ right.T))


def _share(rows: list[Row], goal: float, worst: Any = min) -> float | None:
    """Share of the rows with an error below the goal: that of the worst condition."""
    groups: dict[float, list[bool]] = {}
    for row in rows:
        groups.setdefault(row["condition"], []).append(row["error"] < goal)
    return worst((float(np.mean(hits)) for hits in groups.values()), default=None)


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    default = [row for row in rows if row["part"] == "default"]
    ample = [row for row in default if row["over"] > 4.0]
    trusted = [row for row in default if row["success"] and row["identifiability"]]
    ratios = [row["identifiability"] / _predicted(row["over"]) for row in trusted if row["over"] >= 1.5]
    measured = {
        "any_condition": _share([row for row in default if row["over"] == 1.5], 1e-10),
        "steps": max((row["steps"] for row in ample), default=None),
        "close": _share([row for row in default if row["over"] == 1.15], 1e-10),
        "outliers": _share([row for row in rows if row["part"] == "outliers"], 1e-9),
        "first_order": _share([row for row in rows if row["part"] == "scaled_gd"], 1e-10, max),
        "honest": float(np.mean([row["success"] == (row["error"] < 1e-9) for row in default])) if default else None,
        "identifiability": max((max(r, 1.0 / r) for r in ratios), default=None),
    }
    return judge(CLAIMS, {f"recovery.{name}": value for name, value in measured.items()})


def _predicted(over: float) -> float:
    q = over**-0.5
    return (1.0 - q) / (1.0 + q)


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw errors against the condition."""
    from matplotlib.figure import Figure

    chosen = [row for row in rows if row["part"] in ("default", "scaled_gd")]
    if not chosen:
        return {}
    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="condition of the matrix", ylabel="relative error", xscale="log", yscale="log")
    kinds = sorted({(row["part"], row["over"]) for row in chosen})
    for k, (part, over) in enumerate(kinds):
        group = [row for row in chosen if (row["part"], row["over"]) == (part, over)]
        errors = [min(max(row["error"], 1e-16), 10.0) for row in group]
        places = [row["condition"] * 1.25**k for row in group]
        axes.plot(places, errors, "o", markersize=4, alpha=0.7, label=f"{part}, over {over:.3g}")
    axes.legend()
    return {"recovery.any_condition": figure}
