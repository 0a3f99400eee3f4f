"""Best of both worlds: Tsallis-INF on random and on adversarial losses."""

from typing import Any

import numpy as np

from optlib.backend import to_device
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product
from optlib.online import EXP3, LogBarrierFTRL, TsallisINF, play

TITLE = "Bandits: the best of both worlds"

_PAPER = "J. Zimmert, Y. Seldin, JMLR 22 (2021)"
CLAIMS = (
    Claim(
        "online_bandits.bound",
        "The mean regret is at most the bound, whether the losses are random or adversarial.",
        f"{_PAPER}, Theorem 1; EXP3: arXiv:1204.5721; log-barrier: arXiv:2301.12942",
        "largest mean regret / bound",
        Criterion(high=1.0),
    ),
    Claim(
        "online_bandits.tsallis",
        "If one arm is better, Tsallis-INF has less regret than EXP3 ...",
        f"{_PAPER}, section 5",
        "mean regret over that of EXP3",
        Criterion(high=1.0),
        proven=False,
    ),
    Claim(
        "online_bandits.variance",
        "... and the estimator with reduced variance less than the importance-weighted one.",
        f"{_PAPER}, section 5",
        "mean regret over that with importance weights",
        Criterion(high=1.0),
        proven=False,
    ),
)
_ARMS, _GAP = 8, 1.0 / 8.0
LEARNERS = {
    "EXP3": lambda rounds, seed: EXP3(_ARMS, rng=seed),
    "Tsallis-INF, importance-weighted": lambda rounds, seed: TsallisINF(
        _ARMS, estimator="importance-weighted", rng=seed
    ),
    "Tsallis-INF, reduced variance": lambda rounds, seed: TsallisINF(_ARMS, rng=seed),
    "log-barrier": lambda rounds, seed: LogBarrierFTRL(_ARMS, rounds=rounds, rng=seed),
}


def _cases(scale: str) -> list[Row]:
    learners = [name for name in LEARNERS if scale == "paper" or name != "log-barrier"]
    rounds = 30_000 if scale == "quick" else 100_000
    return product(learner=learners, world=("random", "adversarial"), rounds=(rounds,), repeat=(0,))


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case: twenty runs on the same losses."""
    rounds = case["rounds"]
    t = np.arange(rounds)[:, None]
    means = np.full((rounds, _ARMS), 0.5)
    means[:, 0] -= _GAP
    if case["world"] == "adversarial":  # phases of growing length, in which the good arms are others
        phase = np.floor(np.log(t + 1.0) / np.log(1.6)).astype(int)
        means = np.where(np.arange(_ARMS) == 0, 0.5 - _GAP, np.where(phase % 2 == 0, 0.0, 1.0 - 1e-3))
    losses = to_device((rng.random((rounds, _ARMS)) < means).astype(float), backend)
    learner = LEARNERS[case["learner"]](rounds, int(rng.integers(2**31)))
    result = play(learner, losses, learners=20)
    return {
        "regret": float(np.mean(result.regret)),
        "spread": float(np.std(result.regret)),
        "bound": float(np.mean(result.regret_bound)),
    }


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    regret = {row["learner"]: row["regret"] for row in rows if row["world"] == "random"}
    exp3, weighted, reduced = (regret.get(name) for name in list(LEARNERS)[:3])
    measured = {
        "bound": max((row["regret"] / row["bound"] for row in rows), default=None),
        "tsallis": weighted / exp3 if weighted is not None and exp3 is not None else None,
        "variance": reduced / weighted if reduced is not None and weighted is not None else None,
    }
    return judge(CLAIMS, {f"online_bandits.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    panels = figure.subplots(1, 2, sharey=True)
    for axes, world in zip(panels, ("random", "adversarial"), strict=True):
        mine = [row for row in rows if row["world"] == world]
        names = [row["learner"] for row in mine]
        axes.barh(names, [row["regret"] for row in mine], xerr=[row["spread"] for row in mine])
        axes.plot([row["bound"] for row in mine], names, "|", markersize=20, label="bound")
        axes.set(title=f"{world} losses", xlabel="regret")
        axes.legend()
    return {"online_bandits.bound": figure}
