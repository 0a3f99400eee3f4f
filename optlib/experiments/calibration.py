"""Self-calibration by one linear problem: how many equations it takes, and what noise does."""

from typing import Any

import numpy as np

from optlib import sensing
from optlib.backend import to_device, to_numpy
from optlib.experiments._series import bands, by_seed, choose, largest
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, log_slope, product

TITLE = "Self-calibration through linear least squares"

_LING = "Ling and Strohmer 2018 (arXiv 1611.04196)"

CLAIMS = (
    Claim(
        "calibration.exact",
        "Without noise, gains and signal are exact as soon as there are as many equations as unknowns.",
        f"{_LING}; p m = m + n or more",
        "largest relative error",
        Criterion(high=1e-12),
    ),
    Claim(
        "calibration.threshold",
        "With fewer equations than unknowns they are not.",
        "counting",
        "smallest relative error for p m < m + n - 1",
        Criterion(low=1e-3),
    ),
    Claim(
        "calibration.linear",
        "The error is proportional to the noise.",
        _LING,
        "slope of log error against log noise for eight readings, the seed farthest from 1",
        Criterion(0.9, 1.1),
    ),
    Claim(
        "calibration.gain",
        "With eight readings the error is below the noise.",
        f"{_LING}; the number of readings is that of a prototype",
        "largest ratio of median error to noise",
        Criterion(high=1.0),
    ),
)

NOISE = (1e-4, 1e-3, 1e-2)
M = 64


def _cases(scale: str) -> list[Row]:
    repeats = range(2 if scale == "quick" else 10)
    methods = ["least_squares", "spectral"]
    return [
        *product(method=methods, n=[32], p=[2, 4, 8], noise=[0.0], repeat=repeats),
        *product(method=methods, n=[62, 66], p=[2], noise=[0.0], repeat=repeats),
        *product(method=methods, n=[32], p=[2, 4, 8], noise=NOISE, repeat=repeats),
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    gains, A = rng.uniform(0.7, 1.3, M), rng.standard_normal((case["p"], M, case["n"]))
    x = rng.standard_normal(case["n"])
    y, e = gains * (A @ x), rng.standard_normal((case["p"], M))
    y = y + case["noise"] * np.linalg.norm(y) / np.linalg.norm(e) * e
    result = sensing.self_calibration(*to_device((A, y), backend), method=case["method"])
    return {"error": max(_off(to_numpy(result.gains), gains), _off(to_numpy(result.signals), x))}


def _off(found: np.ndarray, truth: np.ndarray) -> float:
    """Relative error up to one number."""
    c = np.sum(found * truth) / np.sum(found * found)
    return float(np.linalg.norm(c * found - truth) / np.linalg.norm(truth))


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    exact = [row for row in choose(rows, noise=0.0) if row["n"] <= 62]
    noisy = [row for row in choose(rows, p=8) if row["noise"]]
    slopes = [
        log_slope([row["noise"] for row in found], [row["error"] for row in found])
        for method in ("least_squares", "spectral")
        for found in by_seed(choose(noisy, method=method), len(NOISE))
    ]
    medians = [
        float(np.median([row["error"] for row in found])) / noise
        for noise in NOISE
        if (found := choose(noisy, noise=noise))
    ]
    measured = {
        "exact": largest([row["error"] for row in exact]),
        "threshold": min((row["error"] for row in choose(rows, n=66)), default=None),
        "linear": max(slopes, key=lambda slope: abs(slope - 1.0), default=None),
        "gain": largest(medians),
    }
    return judge(CLAIMS, {f"calibration.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw the error against the noise."""
    shown = [row | {"readings": row["p"]} for row in choose(rows, method="least_squares") if row["noise"]]
    if not shown:
        return {}
    return {"calibration.linear": bands(shown, "noise", "error", "readings", ylabel="relative error")}
