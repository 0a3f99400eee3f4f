"""Gradient descent from a small start learns one singular value after the other; greedy learning does so on purpose."""

from typing import Any

import numpy as np

from optlib import sensing
from optlib.backend import to_device, to_numpy
from optlib.datasets import make_low_rank
from optlib.experiments._series import bands, by_seed, choose, largest, share
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, log_slope, product

TITLE = "Incremental learning: rank after rank"

_JIN = "Jin, Li, Lyu, Du and Lee 2023 (arXiv 2301.11500)"

CLAIMS = (
    Claim(
        "incremental.monotone",
        "The smaller the start, the closer gradient descent passes by the best fits of rank 1 and 2.",
        _JIN,
        "share of seeds and ranks whose distances all fall with the start",
        Criterion(low=1.0),
    ),
    Claim(
        "incremental.rate",
        "The distance is a power of the size of the start.",
        f"{_JIN}; the range of exponents is that of a prototype",
        "share of seeds and ranks with an exponent from 0.15 to 0.6",
        Criterion(low=1.0),
        proven=False,
    ),
    Claim(
        "incremental.greedy_rank",
        "Greedy low-rank learning stops at the rank of the matrix.",
        "Li, Luo and Lyu 2021",
        "share of seeds",
        Criterion(low=1.0),
    ),
    Claim(
        "incremental.greedy_exact",
        "It recovers the matrix.",
        "Li, Luo and Lyu 2021",
        "largest relative error",
        Criterion(high=1e-10),
    ),
    Claim(
        "incremental.greedy_stages",
        "Each of its stages ends at the best fit of its rank.",
        "Li, Luo and Lyu 2021",
        "largest relative difference of a stage's squared residual to that of the best fit found from the truth",
        Criterion(high=1e-6),
    ),
)

SIGMA = (1.0, 0.5, 0.25)
ALPHAS = (1e-1, 1e-2, 1e-4, 1e-6)
ETA = 0.2


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    repeats = range(2 if quick else 10)
    n = [16 if quick else 30]
    return [
        *product(part=["descent"], n=n, alpha=ALPHAS, repeat=repeats),
        *product(part=["greedy"], n=n, repeat=repeats),
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    n = case["n"]
    left, right = make_low_rank(n, n, SIGMA, psd=True, rng=rng)
    M = left @ right.T
    A = sensing.GaussianSensing((n, n), round(1.1 * n * n), rng=rng)
    A, y = to_device((A, A.forward_factored(left, right)), backend)
    root = to_device(left / np.sqrt(SIGMA), backend)
    best = [sensing.levenberg_marquardt(A, y, rank=s, psd=True, init=(root[:, :s], root[:, :s])) for s in (1, 2)]
    if case["part"] == "greedy":
        result = sensing.incremental(A, y, psd=True)
        losses = [loss for _, _, loss in result.path[:2]]
        gaps = [abs(loss - 2.0 * fit.fun) / (2.0 * fit.fun) for loss, fit in zip(losses, best, strict=True)]
        found = to_numpy(result.matrix.toarray())
        return {
            "rank": result.rank,
            "error": float(np.linalg.norm(found - M) / np.linalg.norm(M)),
            "gap": max(gaps),
        }
    result = sensing.gradient_descent(
        A, y, rank=n, psd=True, alpha=case["alpha"], step=ETA, rng=int(rng.integers(2**32)), tol=None, maxiter=300,
        check_every=1, record="iterates",
    )  # fmt: skip
    goals = [to_numpy(fit.matrix.toarray()) for fit in best]
    path = [to_numpy(F) for F, _ in result.iterates]
    distances = [[float(np.linalg.norm(F @ F.T - goal)) for F in path] for goal in goals]
    return {"distances": [min(d) for d in distances], "times": [int(np.argmin(d)) for d in distances]}


def _sequences(rows: list[Row]) -> list[list[float]]:
    """Distances by falling size of the start, for each seed and rank."""
    seeds = by_seed(choose(rows, part="descent"), len(ALPHAS))
    ordered = [sorted(found, key=lambda row: -row["alpha"]) for found in seeds]
    return [[row["distances"][s] for row in found] for found in ordered for s in (0, 1)]


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    sequences, greedy = _sequences(rows), choose(rows, part="greedy")
    slopes = [log_slope(ALPHAS, distances) for distances in sequences]
    measured = {
        "monotone": share([bool(np.all(np.diff(distances) < 0.0)) for distances in sequences]),
        "rate": share([0.15 <= slope <= 0.6 for slope in slopes]),
        "greedy_rank": share([row["rank"] == len(SIGMA) for row in greedy]),
        "greedy_exact": largest([row["error"] for row in greedy]),
        "greedy_stages": largest([row["gap"] for row in greedy]),
    }
    return judge(CLAIMS, {f"incremental.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw the distance of the path to the best fits against the size of the start."""
    points = [
        {"alpha": row["alpha"], "rank": s + 1, "distance": row["distances"][s]}
        for row in choose(rows, part="descent")
        for s in (0, 1)
    ]
    if not points:
        return {}
    figure = bands(points, "alpha", "distance", "rank", xlabel="size of the start", ylabel="distance to the best fit")
    return {"incremental.monotone": figure}
