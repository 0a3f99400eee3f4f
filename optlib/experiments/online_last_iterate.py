"""Linear decay of the steps makes the last iterate as good as the average."""

import math
from typing import Any

import numpy as np

from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product
from optlib.geometry import Ball
from optlib.online import OGD, LinearDecay, refined_weights

TITLE = "Schedules for the last iterate"

_PAPER = "arXiv:2310.07831"
CLAIMS = (
    Claim(
        "online_last_iterate.linear",
        "With linear decay the error of the last iterate is at most D G / sqrt(T).",
        f"{_PAPER}, Corollary 2",
        "largest error / (D G / sqrt(T))",
        Criterion(high=1.0),
    ),
    Claim(
        "online_last_iterate.weights",
        "With any weights the error is at most that of the theorem, for the gradients as they were.",
        f"{_PAPER}, Theorem 1",
        "largest error / bound, with random and with refined weights",
        Criterion(high=1.0),
    ),
    Claim(
        "online_last_iterate.constant",
        "Constant steps violate the bound of linear decay.",
        f"{_PAPER}, section 1",
        "largest error / (D G / sqrt(T))",
        Criterion(low=1.0),
        proven=False,
    ),
)
SCHEDULES = ("linear", "random", "refined", "constant")


def _cases(scale: str) -> list[Row]:
    repeats, horizons = (10, (100,)) if scale == "quick" else (100, (30, 100, 1000))
    return product(schedule=SCHEDULES, rounds=horizons, dimension=(1, 2, 10), repeat=range(repeats))


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case: a maximum of affine functions with slopes of norm at most 1 and a known minimiser."""
    n, rounds = case["dimension"], case["rounds"]
    slopes = rng.standard_normal((n + 2, n)) * np.exp(rng.standard_normal((n + 2, 1)))
    slopes[-1] = -np.sum(slopes[:-1], axis=0)  # 0 is in their convex hull: the minimum is at the solution
    slopes /= np.max(np.linalg.norm(slopes, axis=1))
    solution = rng.standard_normal(n)
    distance = float(np.linalg.norm(solution))
    size = distance / math.sqrt(rounds)

    def descend(learner: Any) -> tuple[float, list[float]]:
        norms = []
        for _ in range(rounds):
            g = slopes[np.argmax(slopes @ (learner.decide() - solution))]
            norms.append(float(np.linalg.norm(g)))
            last = learner.decide()
            learner.update(g)
        last = last if case["schedule"] == "constant" else learner.decide()
        return float(np.max(slopes @ (last - solution))), norms

    domain = Ball(n, 10.0 * distance + 10.0)
    if case["schedule"] == "constant":
        return {"ratio": descend(OGD(domain, rate=size))[0] / size}
    weights = np.full(rounds, size)
    if case["schedule"] == "random":
        weights = size * np.exp(rng.standard_normal(rounds))
    if case["schedule"] == "refined":
        norms = descend(LinearDecay(domain, weights=weights))[1]
        weights = refined_weights(norms, distance)
    learner = LinearDecay(domain, weights=weights)
    error = descend(learner)[0]
    return {"ratio": error / size, "proven": error / learner.last_iterate_bound(solution)}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    by = {name: [row for row in rows if row["schedule"] == name] for name in SCHEDULES}
    measured = {
        "linear": max((row["ratio"] for row in by["linear"]), default=None),
        "weights": max((row["proven"] for row in by["random"] + by["refined"]), default=None),
        "constant": max((row["ratio"] for row in by["constant"]), default=None),
    }
    return judge(CLAIMS, {f"online_last_iterate.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="error of the last iterate / (D G / sqrt(T))", ylabel="part of the problems", xscale="log")
    for name in SCHEDULES:
        values = np.sort([row["ratio"] for row in rows if row["schedule"] == name])
        axes.plot(np.maximum(values, 1e-4), np.arange(1, len(values) + 1) / max(len(values), 1), label=name)
    axes.axvline(1.0, linestyle=":", color="grey")
    axes.legend()
    return {"online_last_iterate.linear": figure}
