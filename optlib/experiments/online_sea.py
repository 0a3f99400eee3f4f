"""Optimistic mirror descent on losses between stochastic and adversarial (the SEA model)."""

import math
from typing import Any

import numpy as np

from optlib.backend import to_device
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, log_slope
from optlib.geometry import Ball, EuclideanBall
from optlib.online import OptimisticOMD, OptimisticONS, QuadraticLosses, play

TITLE = "Optimism between stochastic and adversarial losses"

_PAPER = "arXiv:2302.04552"
CLAIMS = (
    Claim(
        "online_sea.bound",
        "The regret is at most the bound that the learner computes from its feedback, for convex, strongly convex and "
        "exp-concave losses.",
        f"{_PAPER}, Theorems 1, 3 and 5; constants derived anew",
        "largest regret / bound",
        Criterion(high=1.0),
    ),
    Claim(
        "online_sea.flat",
        "Without noise and without variation the regret does not grow.",
        f"{_PAPER}, Theorem 1",
        "log-log slope of the regret between 3000 and 10 000 rounds",
        Criterion(high=0.05),
    ),
    Claim(
        "online_sea.slope.low",
        "With noise or variation the regret grows like the square root of the rounds, not slower ...",
        f"{_PAPER}, Theorem 1",
        "smallest log-log slope between 3000 and 10 000 rounds",
        Criterion(low=0.4),
        proven=False,
    ),
    Claim(
        "online_sea.slope.high",
        "... and not faster.",
        f"{_PAPER}, Theorem 1",
        "largest log-log slope between 3000 and 10 000 rounds",
        Criterion(high=0.6),
    ),
    Claim(
        "online_sea.variation",
        "The regret is proportional to the variation of the mean losses.",
        f"{_PAPER}, Theorem 1",
        "regret at variation 1 over that at variation 0.1",
        Criterion(5.0, 20.0),
        proven=False,
    ),
    Claim(
        "online_sea.strong",
        "For strongly convex losses the regret grows like the logarithm of the rounds.",
        f"{_PAPER}, Theorem 3",
        "largest log-log slope between 3000 and 10 000 rounds",
        Criterion(high=0.3),
    ),
)

_ROUNDS = (300, 3000, 10_000)
_SETTINGS = ((0.0, 0.0), (0.0, 0.1), (0.0, 1.0), (0.1, 0.0), (1.0, 0.0), (1.0, 1.0))
_DIMENSION = 5


def _cases(scale: str) -> list[Row]:
    repeats = 1 if scale == "quick" else 5
    return [
        {"learner": learner, "noise": noise, "variation": variation, "repeat": repeat}
        for learner in ("convex", "strong", "exp-concave")
        for noise, variation in _SETTINGS
        for repeat in range(repeats)
        if learner != "exp-concave" or (noise, variation) == (1.0, 1.0)
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    noise, variation, n = case["noise"], case["variation"], _DIMENSION
    rounds = 1000 if case["learner"] == "exp-concave" else _ROUNDS[-1]
    mean = rng.standard_normal(n)
    targets = np.tile(0.5 * mean / np.linalg.norm(mean), (rounds, 1))
    targets[:, 0] += 0.5 * variation * (1 - 2 * (np.arange(rounds) % 2))
    slopes = noise * rng.standard_normal((rounds, n)) / math.sqrt(n)
    slopes *= np.minimum(1.0, 3.0 * noise / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-300))
    targets, slopes = to_device((targets, slopes), backend)
    scale = 2.0 + 3.0 * noise + variation
    learner: Any = OptimisticOMD(
        EuclideanBall(), n, scale=scale, strong_convexity=1.0 if case["learner"] == "strong" else None
    )
    if case["learner"] == "exp-concave":
        learner = OptimisticONS(Ball(n), scale=scale, exp_concavity=scale**-2)
    environment = QuadraticLosses(targets, Ball(n), noise=slopes)
    result = play(learner, environment, check_every=100)
    regret = dict(zip(result.history["nit"], result.history["stop"], strict=True))
    return {
        "regret": [regret[t] for t in _ROUNDS if t <= rounds],
        "ratio": result.regret / result.regret_bound,
        "curve": [regret[t] for t in range(100, rounds + 1, 100)],
    }


def _select(rows: list[Row], learner: str) -> list[Row]:
    return [row for row in rows if row["learner"] == learner]


def _slope(row: Row) -> float:
    return log_slope(list(_ROUNDS[1:]), [max(value, 1e-12) for value in row["regret"][1:]])


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    convex, strong = _select(rows, "convex"), _select(rows, "strong")
    quiet = [row for row in convex if row["noise"] == row["variation"] == 0.0]
    moving = [row for row in convex if row["noise"] or row["variation"]]
    last = {(row["noise"], row["variation"], row["repeat"]): row["regret"][-1] for row in convex}
    growth = [
        last[0.0, 1.0, k] / last[0.0, 0.1, k] for s, v, k in last if (s, v) == (0.0, 1.0) and (0.0, 0.1, k) in last
    ]
    measured = {
        "bound": max((row["ratio"] for row in rows), default=None),
        "flat": max(map(_slope, quiet), default=None),
        "slope.low": min(map(_slope, moving), default=None),
        "slope.high": max(map(_slope, moving), default=None),
        "variation": float(np.median(growth)) if growth else None,
        "strong": max((_slope(row) for row in strong if row["noise"] or row["variation"]), default=None),
    }
    return judge(CLAIMS, {f"online_sea.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    return {
        "online_sea.bound": _plot(_select(rows, "convex"), "convex losses"),
        "online_sea.strong": _plot(_select(rows, "strong"), "strongly convex losses"),
    }


def _plot(rows: list[Row], title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="rounds", ylabel="regret", xscale="log", yscale="log", title=title)
    for row in (row for row in rows if row["repeat"] == 0):
        t = 100 * np.arange(1, len(row["curve"]) + 1)
        label = f"noise {row['noise']:g}, variation {row['variation']:g}"
        axes.plot(t, np.maximum(row["curve"], 1e-3), label=label)
    if rows:
        axes.legend()
    return figure
