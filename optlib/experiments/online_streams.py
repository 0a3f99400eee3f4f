"""Learners on real streams: exchange rates, pollsters as experts, bike rentals."""

from typing import Any

import numpy as np

from optlib import online
from optlib.datasets import DatasetNotFoundError, load_approval_experts, load_bike_sharing_hour, load_fx_ecb
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge
from optlib.geometry import Euclidean

TITLE = "Learners on real streams"

CLAIMS = tuple(
    Claim(
        f"online_streams.{name}",
        f"On {stream} the regret of every learner is at most the bound that it computes.",
        "the theorems of the learners",
        "largest regret / bound",
        Criterion(high=1.0),
    )
    for name, stream in (
        ("fx_ecb", "26 years of exchange rates"),
        ("approval_experts", "1001 days of polls"),
        ("bike_sharing_hour", "two years of hourly bike rentals"),
    )
)

PORTFOLIOS = {
    "PortfolioONS": online.PortfolioONS,
    "ExponentiatedGradient": online.ExponentiatedGradient,
    "AdaHedge": online.AdaHedge,
    "UniformPortfolio": online.UniformPortfolio,
}
EXPERTS = {
    "Hedge": lambda n, rounds: online.Hedge(n),
    "AdaHedge": lambda n, rounds: online.AdaHedge(n),
    "FixedShare": lambda n, rounds: online.FixedShare(n, rounds=rounds, switches=10),
}
REGRESSIONS = {
    "OnlineRidge": online.OnlineRidge,
    "VovkAzouryWarmuth": online.VovkAzouryWarmuth,
    "ImplicitFTRL": lambda n: online.ImplicitFTRL(Euclidean(), n, rate=1.0),
    "ImplicitFTRL, linear": lambda n: online.ImplicitFTRL(Euclidean(), n, rate=0.1, form="linear"),
}


def _cases(scale: str) -> list[Row]:
    rounds = 1000 if scale == "quick" else 20_000
    groups = {"fx_ecb": PORTFOLIOS, "approval_experts": EXPERTS, "bike_sharing_hour": REGRESSIONS}
    return [{"stream": s, "learner": name, "rounds": rounds} for s, learners in groups.items() for name in learners]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case; a stream whose data are not on this machine is left out."""
    try:
        return {"fx_ecb": _portfolio, "approval_experts": _experts, "bike_sharing_hour": _regression}[case["stream"]](
            case["learner"], case["rounds"]
        )
    except DatasetNotFoundError:
        return {"ratio": None}


def _row(result: online.OnlineResult) -> Row:
    return {
        "ratio": result.regret / result.regret_bound,
        "regret": result.regret,
        "bound": result.regret_bound,
        "loss": result.cumulative_loss,
        "curve": result.history["stop"],
        "rounds_played": result.nit,
    }


def _portfolio(name: str, rounds: int) -> Row:
    relatives = load_fx_ecb().relatives[:rounds]
    learner = PORTFOLIOS[name](relatives.shape[1])
    return _row(online.play(learner, online.PortfolioLosses(relatives), check_every=max(1, len(relatives) // 20)))


def _experts(name: str, rounds: int) -> Row:
    data = load_approval_experts()
    losses = np.abs(data.predictions - data.target[:, None])[:rounds]
    return _row(online.play(EXPERTS[name](losses.shape[1], len(losses)), losses))


def _regression(name: str, rounds: int) -> Row:
    data = load_bike_sharing_hour()
    features = data.features / np.max(np.abs(data.features), axis=0)
    features = np.concatenate([features, np.ones((len(features), 1))], axis=1)[:rounds]
    targets = np.log1p(data.rentals)[:rounds]
    best = np.linalg.lstsq(features, targets)[0]
    stream = online.LinearModelLosses(features, targets)
    return _row(online.play(REGRESSIONS[name](features.shape[1]), stream, comparator=best))


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    measured: dict[str, float | None] = {}
    for claim in CLAIMS:
        stream = claim.id.partition(".")[2]
        ratios = [row["ratio"] for row in rows if row["stream"] == stream and row["ratio"] is not None]
        measured[claim.id] = max(ratios, default=None)
    return judge(CLAIMS, measured)


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figures = {}
    for claim in CLAIMS:
        figure = Figure()
        axes = figure.add_subplot()
        axes.set(xlabel="rounds", ylabel="regret")
        mine = [r for r in rows if r["stream"] == claim.id.partition(".")[2] and r["ratio"] is not None]
        for row in mine:
            axes.plot(np.linspace(0, row["rounds_played"], len(row["curve"])), row["curve"], label=row["learner"])
        if mine:
            axes.legend()
        figures[claim.id] = figure
    return figures
