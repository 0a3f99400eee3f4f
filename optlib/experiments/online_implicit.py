"""Implicit updates do not mind the step size."""

from typing import Any

import numpy as np

from optlib.backend import to_device
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product
from optlib.geometry import Euclidean
from optlib.online import ImplicitFTRL, LinearModelLosses, play

TITLE = "Implicit updates and the step size"

_PAPER = "arXiv:2306.00201"
CLAIMS = (
    Claim(
        "online_implicit.bound",
        "The regret of every form is at most the bound that the learner computes, for every weight of the regulariser.",
        f"{_PAPER}, Theorem 3.1",
        "largest regret / bound",
        Criterion(high=1.0),
    ),
    Claim(
        "online_implicit.never_worse",
        "The proximal form is never worse than the linear one ...",
        f"{_PAPER}, section 6",
        "largest ratio of their losses over all weights",
        Criterion(high=1.01),
        proven=False,
    ),
    Claim(
        "online_implicit.robust",
        "... and a step size that is a thousand times too large costs it nothing.",
        f"{_PAPER}, section 6",
        "largest loss of the proximal form at the weight 0.01",
        Criterion(high=50.0),
        proven=False,
    ),
)

WEIGHTS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
FORMS = ("linear", "truncated", "proximal")
_ROUNDS, _DIMENSION = 1000, 5


def _cases(scale: str) -> list[Row]:
    return product(form=FORMS, weight=WEIGHTS, repeat=range(1 if scale == "quick" else 10))


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    u = rng.standard_normal(_DIMENSION)
    features = rng.standard_normal((_ROUNDS, _DIMENSION))
    features, targets = to_device((features, features @ u), backend)
    learner = ImplicitFTRL(
        Euclidean(), _DIMENSION, loss="absolute", form=case["form"], rate=1.0 / case["weight"]
    )  # fmt: skip
    stream = LinearModelLosses(features, targets, loss="absolute")
    result = play(learner, stream, comparator=u, check_every=_ROUNDS)
    return {"loss": result.cumulative_loss, "ratio": result.regret / result.regret_bound}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    losses = {(row["form"], row["weight"], row["repeat"]): row["loss"] for row in rows}
    ratios = [
        loss / losses["linear", weight, repeat]
        for (form, weight, repeat), loss in losses.items()
        if form == "proximal" and ("linear", weight, repeat) in losses
    ]
    large = [loss for (form, weight, _), loss in losses.items() if form == "proximal" and weight == WEIGHTS[0]]
    measured = {
        "bound": max((row["ratio"] for row in rows), default=None),
        "never_worse": max(ratios, default=None),
        "robust": max(large, default=None),
    }
    return judge(CLAIMS, {f"online_implicit.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="weight of the regulariser", ylabel="loss of 1000 rounds", xscale="log", yscale="log")
    for form in FORMS:
        mine = [[row["loss"] for row in rows if (row["form"], row["weight"]) == (form, w)] for w in WEIGHTS]
        axes.plot(WEIGHTS, [np.mean(values) if values else np.nan for values in mine], marker="o", label=form)
    axes.legend()
    return {"online_implicit.robust": figure}
