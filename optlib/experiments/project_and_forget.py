"""Project and forget on metric nearness, beside Dykstra's method on all triangle inequalities."""

import itertools
from typing import Any

import numpy as np

from optlib.backend import array_namespace
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge
from optlib.online import metric_nearness
from optlib.online.project_and_forget import cyclic_projections

TITLE = "Project and forget"

_PAPER = "Sonthalia and Gilbert, JMLR 23 (2022)"
CLAIMS = (
    Claim(
        "project_and_forget.feasible",
        "The answer satisfies all triangle inequalities.",
        f"{_PAPER}, Theorem 1",
        "largest violation",
        Criterion(high=1e-8),
    ),
    Claim(
        "project_and_forget.kkt",
        "It is optimal: the gradient is the combination of active constraints, and their slack is zero.",
        f"{_PAPER}, Theorem 1",
        "largest entry of the optimality conditions",
        Criterion(high=1e-6),
    ),
    Claim(
        "project_and_forget.same",
        "It is the point that projections on all inequalities lead to.",
        f"{_PAPER}, Theorem 1",
        "largest relative difference of the objectives",
        Criterion(high=1e-8),
    ),
    Claim(
        "project_and_forget.few",
        "Only a small part of the inequalities is ever needed at the end.",
        f"{_PAPER}, section 5",
        "largest part of the inequalities that are remembered",
        Criterion(high=0.05),
        proven=False,
    ),
)


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    return [{"n": n, "repeat": k} for n in ((20,) if quick else (20, 40)) for k in range(2 if quick else 10)]


def all_triangles(target: np.ndarray, sweeps: int) -> np.ndarray:
    """Project onto all triangle inequalities, again and again; returns the entries above the diagonal."""
    n = target.shape[0]
    number = {pair: k for k, pair in enumerate(itertools.combinations(range(n), 2))}
    rows = [
        (k, number[min(u, w), max(u, w)], number[min(v, w), max(v, w)])
        for (u, v), k in number.items()
        for w in range(n)
        if w not in (u, v)
    ]
    count = len(rows)
    x, _z = cyclic_projections(
        target[np.triu_indices(n, 1)], np.zeros(count), np.tile([1.0, -1.0, -1.0], count), np.array(rows).reshape(-1),
        3 * np.arange(count + 1), np.zeros(count), np.ones(len(number)), sweeps, xp=array_namespace(),
    )  # fmt: skip
    return x


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case: dissimilarities ``|N(0, 1)|``."""
    n = case["n"]
    upper = np.triu(np.abs(rng.standard_normal((n, n))), 1)
    target = upper + upper.T
    res = metric_nearness(target, tol=1e-10, maxiter=20_000)
    x = res.x
    violation = max(float(np.max(x - x[:, k][:, None] - x[k, :][None, :])) for k in range(n))
    combination = np.zeros(n * n)
    data, indices, indptr, _ = res.constraints
    np.add.at(combination, indices, np.repeat(res.multipliers, np.diff(indptr)) * data)
    stationarity = np.abs(np.triu(x - target, 1) + combination.reshape(n, n)).max()
    slack = np.abs(res.constraints.violations(np.triu(x, 1).reshape(-1))).max()
    everything = all_triangles(target, 3000 if n == 20 else 30_000)
    value = 0.5 * float(np.sum((everything - target[np.triu_indices(n, 1)]) ** 2))
    return {
        "violation": violation,
        "kkt": float(max(stationarity, slack)),
        "difference": abs(res.fun - value) / value,
        "part": len(res.multipliers) / (0.5 * n * (n - 1) * (n - 2)),
        "rounds": res.nit,
        "curve": res.history["stop"],
    }


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    names = {"feasible": "violation", "kkt": "kkt", "same": "difference", "few": "part"}
    measured = {claim: max((row[name] for row in rows), default=None) for claim, name in names.items()}
    return judge(CLAIMS, {f"project_and_forget.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="calls of the oracle", ylabel="violation or gap", yscale="log", title="metric nearness")
    for row in rows:
        axes.plot(np.maximum(row["curve"], 1e-17), label=f"n = {row['n']}" if row["repeat"] == 0 else None)
    if rows:
        axes.legend()
    return {"project_and_forget.feasible": figure}
