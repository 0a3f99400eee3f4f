"""Disturbance-action control, with and without constraints, and constrained online learning."""

from typing import Any

import numpy as np
from scipy.linalg import solve_discrete_are

from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge
from optlib.geometry import Ball
from optlib.online import ConstrainedOGD, DisturbanceActionController, Feedback, play

TITLE = "Control and constraints by online learning"

_PAPER = "arXiv:2302.02426"
CLAIMS = (
    Claim(
        "online_control.cost",
        "A policy that learns from the disturbances costs much less than the linear regulator.",
        "arXiv:1902.08721",
        "mean cost over the last half / that of the regulator",
        Criterion(high=0.6),
        proven=False,
    ),
    Claim(
        "online_control.violation",
        "With constraints on the state, the hard violation per round falls from the first half to the second.",
        _PAPER,
        "violation in the second half / in the first",
        Criterion(high=1.0),
        proven=False,
    ),
    Claim(
        "online_control.together",
        "Regret and squared violation are bounded together, whatever the losses and constraints are.",
        "A. Sinha, R. Vaze, NeurIPS 2024",
        "largest (regret + penalty) / bound",
        Criterion(high=1.0),
    ),
    Claim(
        "online_control.growth",
        "The hard violation grows at most like the 3/4-th power of the rounds.",
        "A. Sinha, R. Vaze, NeurIPS 2024; AAAI 2026 form with memory",
        "largest log-log slope of the violation",
        Criterion(high=0.75),
    ),
)
_A, _B = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.0], [0.1]])
_Q, _R = np.eye(2), np.eye(1)
_MEMORY, _RADIUS, _LIMIT = 8, 20.0, 0.3
_STEPS = (500, 2000, 8000)


def _cases(scale: str) -> list[Row]:
    rounds, repeats = (1000, 1) if scale == "quick" else (4000, 3)
    control = [{"part": "control", "limits": limits, "rounds": rounds} for limits in (False, True)]
    steps = _STEPS[:2] if scale == "quick" else _STEPS
    return control + [{"part": "learning", "rounds": t, "repeat": k} for k in range(repeats) for t in steps]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    if case["part"] == "learning":
        return _learn(case["rounds"], rng)
    cost = solve_discrete_are(_A, _B, _Q, _R)
    gain = np.linalg.solve(_R + _B.T @ cost @ _B, _B.T @ cost @ _A)
    limits = (np.array([[1.0, 0.0], [-1.0, 0.0]]), np.full(2, _LIMIT)) if case["limits"] else None
    control = DisturbanceActionController(
        _A, _B, gain, _Q, _R, rounds=case["rounds"], memory=_MEMORY, radius=_RADIUS, limits=limits
    )
    learned = _drive(control.decide, control.update, case["rounds"])
    regulator = _Regulator(gain)
    return {"learned": learned, "fixed": _drive(regulator.decide, regulator.update, case["rounds"])}


class _Regulator:
    def __init__(self, gain: np.ndarray) -> None:
        self.gain, self.x = gain, np.zeros(2)

    def decide(self) -> np.ndarray:
        return -self.gain @ self.x

    def update(self, x: np.ndarray) -> None:
        self.x = x


def _drive(decide: Any, update: Any, rounds: int) -> dict[str, list[float]]:
    """Run the system; return cost and hard violation in each of the two halves."""
    x, costs, excess = np.zeros(2), np.zeros(rounds), np.zeros(rounds)
    for t in range(rounds):
        u = decide()
        costs[t] = x @ _Q @ x + u @ _R @ u
        excess[t] = max(abs(x[0]) - _LIMIT, 0.0)
        x = _A @ x + _B @ u + 0.1 * np.array([np.sin(0.3 * t), np.cos(0.3 * t)])
        update(x)
    half = rounds // 2
    return {
        "cost": [float(np.mean(costs[:half])), float(np.mean(costs[half:]))],
        "violation": [float(np.sum(excess[:half])), float(np.sum(excess[half:]))],
    }


def _learn(rounds: int, rng: np.random.Generator) -> Row:
    """Random linear losses under random half-spaces that contain 0."""
    losses, rows = rng.standard_normal((2, rounds, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sides = rng.uniform(0.0, 0.5, rounds)

    class World:
        def reveal(self, t: int, x: np.ndarray) -> Feedback:
            g, a = losses[t], rows[t]
            return Feedback(gradient=g, value=g @ x, constraint=a @ x - sides[t], constraint_gradient=a)

    learner = ConstrainedOGD(Ball(3), rounds=rounds)
    result = play(learner, World(), rounds, comparator=np.zeros(3), check_every=rounds)
    penalty = learner.violation() ** 2 / np.sqrt(rounds)
    return {
        "ratio": (result.regret + penalty) / (result.regret_bound + penalty),
        "violation": learner.violation(),
        "regret": result.regret,
    }


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    control = {row["limits"]: row for row in rows if row["part"] == "control"}
    learning = [row for row in rows if row["part"] == "learning"]
    measured: dict[str, float | None] = dict.fromkeys(("cost", "violation", "growth"))
    if False in control:
        measured["cost"] = control[False]["learned"]["cost"][1] / control[False]["fixed"]["cost"][1]
    if True in control:
        first, second = control[True]["learned"]["violation"]
        measured["violation"] = second / max(first, 1e-12)
    measured["together"] = max((row["ratio"] for row in learning), default=None)
    slopes = []
    for repeat in {row["repeat"] for row in learning}:
        mine = sorted((row["rounds"], row["violation"]) for row in learning if row["repeat"] == repeat)
        if len(mine) > 1:
            slopes.append(float(np.polyfit(*np.log(np.maximum(np.transpose(mine), 1e-12)), 1)[0]))
    measured["growth"] = max(slopes, default=None)
    return judge(CLAIMS, {f"online_control.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="rounds", ylabel="sum of the violations", xscale="log", yscale="log")
    learning = [row for row in rows if row["part"] == "learning"]
    for repeat in sorted({row["repeat"] for row in learning}):
        mine = sorted((row["rounds"], row["violation"]) for row in learning if row["repeat"] == repeat)
        axes.plot(*np.transpose(mine), marker="o", label=f"problem {repeat + 1}")
    if learning:
        axes.legend()
    return {"online_control.growth": figure}
