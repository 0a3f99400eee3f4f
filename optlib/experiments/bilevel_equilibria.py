"""Leaders and followers: brackets of the best value by games without hierarchy that look T steps ahead."""

from itertools import pairwise
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.bilevel import EquilibriumProblem, StackelbergProblem, hierarchy_free, hypergradient
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge

TITLE = "Brackets of the value of a leader: T-step Cournot and monopoly"

_PAPER = "arXiv:2302.09734"
CLAIMS = (
    Claim(
        "bilevel_equilibria.bracket",
        "The leader's best profit lies between those of the T-step Cournot game and of the T-step monopoly.",
        f"{_PAPER}, section 3",
        "largest amount by which a bound is on the wrong side",
        Criterion(high=1e-6),
    ),
    Claim(
        "bilevel_equilibria.monotone",
        "Both bounds tighten as T grows ...",
        f"{_PAPER}, section 3",
        "largest amount by which one loosens",
        Criterion(high=1e-6),
        proven=False,
    ),
    Claim(
        "bilevel_equilibria.gap",
        "... to a gap below 0.01 at T = 8 in the duopoly.",
        f"{_PAPER}, section 5",
        "gap",
        Criterion(high=1e-2),
        proven=False,
    ),
    Claim(
        "bilevel_equilibria.closed_form",
        "The solver finds the profits that follow from the first-order conditions by hand.",
        "this library",
        "largest relative difference",
        Criterion(high=1e-7),
    ),
    Claim(
        "bilevel_equilibria.geometric",
        "For affine followers the upper bound closes geometrically, at least as fast as their steps contract.",
        f"{_PAPER}, section 4",
        "largest mean factor of the excess from T = 20 to 40 / norm of the step's derivative",
        Criterion(high=1.0),
        proven=False,
    ),
    Claim(
        "bilevel_equilibria.vacuous",
        "Where the followers are not restricted the lower bound does not close: the monopolist undoes their steps.",
        "this library",
        "smallest part of the gap at T = 0 that is left at T = 5",
        Criterion(low=0.999),
    ),
)

_MARKETS = ((10.0, 1.0, 1.0, 2.0), (12.0, 0.8, 2.0, 1.0))


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    cases: list[Row] = [
        {"study": "duopoly", "market": k, "T": T} for k in range(1 if quick else len(_MARKETS)) for T in (0, 1, 2, 4, 8)
    ]
    looks = (0, 5, 20, 40) if quick else (0, 1, 2, 3, 5, 10, 20, 40)
    return cases + [{"study": "affine", "T": T, "repeat": k} for k in range(1 if quick else 10) for T in looks]


def games(a: float, b: float, c1: float, c2: float, share: float) -> tuple[float, float]:
    """Profits of both games if this part of the follower's reaction, times its slope 1/2, is foreseen."""
    x = (a - 2.0 * c1 + c2) / (2.0 * b * (1.5 - share))
    cournot = x * (a - b * (x + (a - c2 - b * x) / (2.0 * b)) - c1)
    x = (a - c1 - share * (a - c2)) / (2.0 * b * (1.0 - share))
    return cournot, x * (a - c1 - share * (a - c2) - b * x * (1.0 - share))


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    like = to_device(np.zeros(1), backend)
    if case["study"] == "duopoly":
        a, b, c1, c2 = _MARKETS[case["market"]]
        step = 0.3 / b
        problem = StackelbergProblem(a, b, c1, c2, step=step, like=like)
        found = hierarchy_free(problem, steps=case["T"], tol=1e-10)
        wanted = games(a, b, c1, c2, 0.5 * (1.0 - (1.0 - 2.0 * step * b) ** case["T"]))
        pairs = ((-found.upper, wanted[0]), (-found.lower, wanted[1]))
        off = max(abs(got / want - 1.0) for got, want in pairs)
        x = problem.solution()
        best = float(problem.outer(x, problem.response(x))[0])
        return {"upper": found.upper, "lower": found.lower, "best": best, "error": off}
    problem = EquilibriumProblem.random(8, 3, rng=rng, like=like)
    best = hypergradient(problem, problem.solution(), tol=1e-12).value
    found = hierarchy_free(problem, steps=case["T"], tol=1e-7, maxiter=150)
    assert np.all(np.isfinite(to_numpy(found.x)))
    lower = found.lower if found.success else None  # the bound is the minimum, not a value on the way to it
    contraction = float(np.linalg.norm(np.eye(8) - problem.step * to_numpy(problem.Q), 2))
    return {"upper": found.upper, "lower": lower, "best": best, "contraction": contraction}


def _groups(rows: list[Row], study: str) -> list[list[Row]]:
    """Rows of the same problem, by T."""
    chosen = [row for row in rows if row["study"] == study]
    keys = {(row.get("market"), row.get("repeat")) for row in chosen}
    return [
        sorted((row for row in chosen if (row.get("market"), row.get("repeat")) == key), key=lambda row: row["T"])
        for key in sorted(keys, key=str)
    ]


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    duopoly, affine = (_groups(rows, study) for study in ("duopoly", "affine"))
    steps = [pair for group in duopoly for pair in pairwise(group)]

    def left(group: list[Row], start: int, end: int, side: str) -> list[float]:
        """What is left at one T of the distance of a bound from the value at another."""
        at = {row["T"]: abs(row[side] - row["best"]) for row in group if row[side] is not None}
        return [at[end] / at[start]] if start in at and end in at else []

    geometric = [v ** (1 / 20) / g[0]["contraction"] for g in affine for v in left(g, 20, 40, "upper")]
    vacuous = [v for group in affine for v in left(group, 0, 5, "lower")]
    wrong = [row["best"] - row["upper"] for row in rows]
    wrong += [row["lower"] - row["best"] for row in rows if row["lower"] is not None]
    measured = {
        "bracket": max(wrong, default=None),
        "monotone": max((max(b["upper"] - a["upper"], a["lower"] - b["lower"]) for a, b in steps), default=None),
        "gap": max((g[-1]["upper"] - g[-1]["lower"] for g in duopoly[:1] if g[-1]["T"] == 8), default=None),
        "closed_form": max((row["error"] for group in duopoly for row in group), default=None),
        "geometric": max(geometric, default=None),
        "vacuous": min(vacuous, default=None),
    }
    return judge(CLAIMS, {f"bilevel_equilibria.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figures: dict[str, Any] = {}
    for claim, study, title in (("bracket", "duopoly", "a duopoly"), ("geometric", "affine", "affine followers")):
        figures[f"bilevel_equilibria.{claim}"] = figure = Figure()
        axes = figure.add_subplot()
        axes.set(xlabel="steps foreseen", ylabel="value of the leader", title=title)
        for group in _groups(rows, study)[:1]:
            for name, label in (("upper", "Cournot"), ("lower", "monopoly")):
                known = [row for row in group if row[name] is not None]
                axes.plot([row["T"] for row in known], [row[name] for row in known], "o-", label=label)
            axes.axhline(group[0]["best"], color="black", linewidth=0.8, label="best")
            axes.legend()
    return figures
