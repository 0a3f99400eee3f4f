"""Gradient descent on factors: what spare columns cost, and the two cures."""

from typing import Any

import numpy as np

from optlib import sensing
from optlib.backend import to_device
from optlib.datasets import make_low_rank
from optlib.experiments._series import choose, count, curves, spread, thin
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, log_slope, product

TITLE = "Over-parameterized matrix sensing: slow-down and cures"

_XIONG = "Xiong, Ding and Du 2024 (arXiv 2310.01769)"

CLAIMS = (
    Claim(
        "overparameterization.exact",
        "With as many columns as the rank, symmetric gradient descent converges linearly.",
        _XIONG,
        "largest number of iterations to a relative residual of 1e-12",
        Criterion(high=600),
    ),
    Claim(
        "overparameterization.slow",
        "With spare columns the error of symmetric gradient descent falls no faster than 1/t.",
        f"{_XIONG}: lower bound 1/T^2 for the squared error",
        "slope of log error against log t, worst seed",
        Criterion(-1.1, -0.85),
    ),
    Claim(
        "overparameterization.constant",
        "The error of s spare columns is sqrt(s) / (2 eta t): they follow u' = -u^3.",
        "derived here",
        "eta t |X X' - M| for two spare columns, mean over seeds (sqrt(2) / 2 in theory)",
        Criterion(0.6, 0.8),
        proven=False,
    ),
    Claim(
        "overparameterization.imbalance",
        "With two factors of different size the convergence is linear, at a rate proportional to alpha^2.",
        f"{_XIONG}: exp(-Omega(alpha^2 T))",
        "largest over smallest rate / alpha^2 for alpha = 0.1, 0.2, 0.4 (means over seeds)",
        Criterion(high=1.15),
    ),
    Claim(
        "overparameterization.modified",
        "The modified step makes the rate independent of the start.",
        f"{_XIONG}: equation 5.1, here with a trigger that sees the residual only",
        "largest over smallest number of iterations over alpha, worst seed",
        Criterion(high=1.10),
    ),
    Claim(
        "overparameterization.damped",
        "ScaledGD(lambda) from a tiny start reaches 1e-10 in few iterations, for any condition, with spare columns.",
        "Xu, Shen, Chi and Ma 2023 (arXiv 2302.01186); all entries observed",
        "largest number of iterations for condition 1, 10 and 100",
        Criterion(high=60),
    ),
    Claim(
        "overparameterization.prec",
        "PrecGD with spare columns does not slow down with the condition.",
        "Zhang, Fattahi and Zhang 2021",
        "largest over smallest number of iterations for condition 1, 10 and 100, worst seed",
        Criterion(high=1.1),
    ),
)

ETA, SIGMA = 0.2, (1.0, 0.8, 0.6)


def _cases(scale: str) -> list[Row]:
    repeats = range(3 if scale == "quick" else 10)
    return [
        *product(part=["symmetric"], rank=[3, 5], repeat=repeats),
        *product(part=["asymmetric"], alpha=[0.1, 0.2, 0.4], modified=[False, True], repeat=repeats),
        *product(part=["damped"], condition=[1.0, 10.0, 100.0], repeat=repeats),
        *product(part=["prec"], condition=[1.0, 10.0, 100.0], repeat=repeats),
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    part = case["part"]
    n, psd = (60 if part == "damped" else 30), part != "asymmetric"
    spectrum = np.geomspace(1.0, 1.0 / case["condition"], 3) if "condition" in case else SIGMA
    left, right = make_low_rank(n, n, spectrum, psd=psd, rng=rng)
    if part == "prec":
        A = sensing.GaussianSensing((n, n), 10 * n * 3, rng=rng)
    else:
        i, j = np.divmod(np.arange(n * n), n)
        A = sensing.EntrySampling(i, j, (n, n))
    A, y = to_device((A, A.forward_factored(left, right)), backend)
    seed = int(rng.integers(2**32))
    if part == "symmetric":
        slow = case["rank"] > len(SIGMA)
        result = sensing.gradient_descent(
            A, y, rank=case["rank"], psd=True, step=ETA, rng=seed, tol=None if slow else 1e-12, maxiter=6000
        )
    elif part == "asymmetric":
        options = {"tol": 1e-12, "modified": True} if case["modified"] else {"tol": 1e-11}
        result = sensing.gradient_descent(
            A, y, rank=5, alpha=case["alpha"], step=ETA, rng=seed, maxiter=8000, check_every=1, **options
        )
    elif part == "damped":
        result = sensing.scaled_gd(
            A, y, rank=10, psd=True, damping=0.05 / case["condition"], alpha=1e-8, step=0.5, rng=seed, tol=1e-10,
            check_every=1,
        )  # fmt: skip
    else:
        result = sensing.prec_gd(A, y, rank=8, psd=True, tol=1e-8, check_every=1)
    t, error = result.history["nit"], result.history["stop"]
    size = float(np.linalg.norm(spectrum))
    return {
        "iterations": result.nit,
        "reached": result.success,
        "rate": _rate(t, error),
        "slope": log_slope(t[len(t) // 2 :], error[len(t) // 2 :]),
        "constant": ETA * t[-1] * error[-1] * size,
        "t": thin(t),
        "error": thin(error),
    }


def _rate(t: list[int], error: list[float]) -> float:
    """Decay of the log error per iteration, over the second half of the run."""
    half = slice(len(t) // 2, None)
    return -float(np.polyfit(t[half], np.log(np.maximum(error[half], 1e-300)), 1)[0])


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    exact, slow = choose(rows, part="symmetric", rank=3), choose(rows, part="symmetric", rank=5)
    plain = choose(rows, part="asymmetric", modified=False)
    alphas = sorted({row["alpha"] for row in plain})
    rates = [np.mean([r["rate"] for r in plain if r["alpha"] == a]) / a**2 for a in alphas]
    slopes = [row["slope"] for row in slow]
    measured = {
        "exact": max((count(row) for row in exact), default=None),
        "slow": max(slopes, key=lambda s: abs(s + 1.0), default=None),
        "constant": float(np.mean([row["constant"] for row in slow])) if slow else None,
        "imbalance": max(rates) / min(rates) if len(rates) == 3 else None,
        "modified": spread(choose(rows, part="asymmetric", modified=True)),
        "damped": max((count(row) for row in choose(rows, part="damped")), default=None),
        "prec": spread(choose(rows, part="prec")),
    }
    return judge(CLAIMS, {f"overparameterization.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw error against iterations, a line per seed."""
    drawings = {
        "slow": (choose(rows, part="symmetric"), "rank", "log"),
        "imbalance": (choose(rows, part="asymmetric", modified=False), "alpha", "linear"),
        "modified": (choose(rows, part="asymmetric", modified=True), "alpha", "linear"),
        "damped": (choose(rows, part="damped"), "condition", "linear"),
        "prec": (choose(rows, part="prec"), "condition", "linear"),
    }
    return {f"overparameterization.{name}": curves(*drawing) for name, drawing in drawings.items() if drawing[0]}
