"""Online ridge regression: the regret of the expected losses is the variance times the dimension times a logarithm."""

import math
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product
from optlib.online import Feedback, OnlineRidge

TITLE = "Online ridge regression under noise"

_PAPER = "arXiv:2202.13603"
CLAIMS = (
    Claim(
        "online_regression.rate",
        "The regret of the expected losses is the variance times d log(T / d), the lower bound.",
        f"{_PAPER}, Theorem 4.1 and its lower bound",
        "mean regret / (variance d log(T / d)), farthest from 1",
        Criterion(0.8, 1.2),
        proven=False,
    ),
    Claim(
        "online_regression.variance",
        "Noise of twice the size costs four times as much.",
        f"{_PAPER}, Theorem 4.1",
        "ratio of the mean regrets",
        Criterion(3.5, 4.5),
        proven=False,
    ),
)
_DIMENSION, _ROUNDS = 10, 20_000


def _cases(scale: str) -> list[Row]:
    return product(noise=(1.0, 2.0), repeat=range(1 if scale == "quick" else 10))


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case: six learners side by side."""
    d, rounds, learners = _DIMENSION, _ROUNDS, 6
    u = rng.standard_normal((learners, d))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    features = rng.standard_normal((rounds, learners, d)) / math.sqrt(d)
    targets = np.sum(features * u, axis=-1) + case["noise"] * rng.standard_normal((rounds, learners))
    features, targets, solution = to_device((features, targets, u), backend)
    learner = OnlineRidge(d, reg=2.0).start(like=features, learners=learners)
    regret = np.zeros(learners)
    for t in range(rounds):
        error = to_numpy(features[t, ...] * (learner.decide() - solution)).sum(axis=-1)
        regret += error**2
        learner.update(Feedback(features=features[t, ...], target=targets[t, ...]))
    return {"regret": float(np.mean(regret)), "spread": float(np.std(regret))}


def _noises(rows: list[Row]) -> list[float]:
    return sorted({row["noise"] for row in rows})


def _theory(noise: float) -> float:
    return noise**2 * _DIMENSION * math.log(_ROUNDS / _DIMENSION)


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    by = {noise: np.mean([row["regret"] for row in rows if row["noise"] == noise]) for noise in _noises(rows)}
    ratios = [by[noise] / _theory(noise) for noise in by]
    measured = {
        "rate": max(ratios, key=lambda ratio: abs(math.log(ratio)), default=None),
        "variance": by[2.0] / by[1.0] if len(by) == 2 else None,
    }
    return judge(CLAIMS, {f"online_regression.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    noise = [row["noise"] for row in rows]
    axes.errorbar(noise, [row["regret"] for row in rows], [row["spread"] for row in rows], fmt="o", label="measured")
    axes.plot(_noises(rows), [_theory(v) for v in _noises(rows)], label="variance times d log(T / d)")
    axes.set(xlabel="size of the noise", ylabel="regret of the expected losses")
    axes.legend()
    return {"online_regression.rate": figure}
