"""First-order methods on factors, against the condition of the matrix."""

from typing import Any

import numpy as np

from optlib import sensing
from optlib.backend import to_device
from optlib.datasets import make_low_rank
from optlib.experiments._series import bands, by_seed, choose, count, largest, spread
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product

TITLE = "Low-rank recovery against the condition: ScaledGD and its relatives"

_TONG = "Tong, Ma and Chi 2021 (arXiv 2005.08898)"
_XU = "Xu, Shen, Chi and Ma 2023 (arXiv 2302.01186)"

CLAIMS = (
    Claim(
        "conditioning.scaled",
        "The number of iterations of ScaledGD does not depend on the condition.",
        _TONG,
        "largest over smallest number of iterations for condition 1, 5, 20 and 80, worst seed",
        Criterion(high=1.25),
    ),
    Claim(
        "conditioning.plain",
        "That of gradient descent grows in proportion to it.",
        _TONG,
        "iterations for condition 20 over those for condition 1, smallest of the seeds",
        Criterion(low=8.0),
    ),
    Claim(
        "conditioning.damped",
        "ScaledGD(lambda) with spare columns and a tiny start does not depend on it either, from enough measurements.",
        f"{_XU}; m = 6.7 n^2",
        "largest number of iterations to 1e-10 for condition 1, 3 and 10",
        Criterion(high=200.0),
    ),
    Claim(
        "conditioning.damped_few",
        "From 10 n r measurements, ScaledGD(lambda) with lambda a twentieth of the smallest singular value stalls: "
        "spare columns grow faster than they are damped.",
        "observed in a prototype",
        "smallest relative residual at condition 100 after 1000 iterations",
        Criterion(low=1e-6),
        proven=False,
    ),
    Claim(
        "conditioning.gauss_newton",
        "Alternating steps with the pseudo-inverse of the Gram matrix converge from a random start with spare columns, "
        "at a rate that does not depend on the condition.",
        "Jia, Feng, Meng and Sun 2024",
        "largest over smallest number of iterations for condition 1, 10 and 100, worst seed",
        Criterion(high=1.25),
    ),
)

CONDITIONS = {
    "gradient descent": (1.0, 5.0, 20.0),
    "ScaledGD": (1.0, 5.0, 20.0, 80.0),
    "alternating": (1.0, 5.0, 20.0, 80.0),
    "ScaledGD(lambda)": (1.0, 3.0, 10.0),
    "ScaledGD(lambda), few": (100.0,),
    "pseudo-inverse": (1.0, 10.0, 100.0),
}


def _cases(scale: str) -> list[Row]:
    repeats = range(2 if scale == "quick" else 10)
    return [
        case
        for method, conditions in CONDITIONS.items()
        for case in product(method=[method], condition=conditions, quick=[scale == "quick"], repeat=repeats)
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    method, condition = case["method"], case["condition"]
    r, psd = 3, method.startswith("ScaledGD(lambda)")
    n = 20 if case["quick"] else 30 if method == "ScaledGD(lambda)" else 40
    per_nr = {"ScaledGD(lambda)": 20.0 * n / 9.0, "ScaledGD(lambda), few": 10.0, "pseudo-inverse": 20.0}.get(
        method, 6.0
    )
    left, right = make_low_rank(n, n, np.linspace(1.0, 1.0 / condition, r), psd=psd, rng=rng)
    A = sensing.GaussianSensing((n, n), round(per_nr * n * r), rng=rng)
    A, y = to_device((A, A.forward_factored(left, right)), backend)
    options: dict[str, Any] = {"tol": 1e-10, "check_every": 1, "maxiter": 1000}
    if method == "gradient descent":
        result = sensing.gradient_descent(
            A, y, rank=r, init=sensing.spectral_init(A, y, rank=r), step=0.5, **options | {"maxiter": 5000}
        )
    elif method in ("ScaledGD", "alternating"):
        result = sensing.scaled_gd(A, y, rank=r, step=0.5, alternating=method == "alternating", **options)
    elif method == "pseudo-inverse":
        result = sensing.scaled_gd(
            A, y, rank=10, alternating=True, alpha=1e-2, step=0.5, rng=int(rng.integers(2**32)), **options
        )
    else:
        part = 0.05 if method.endswith("few") else 1.0 / 3.0
        result = sensing.scaled_gd(
            A, y, rank=10, psd=True, damping=part / condition, alpha=1e-14, step=0.3, rng=int(rng.integers(2**32)),
            **options,
        )  # fmt: skip
    return {
        "iterations": result.nit,
        "reached": result.success,
        "residual": min(*result.history["stop"], 1e300),
    }


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    plain = [
        {row["condition"]: count(row) for row in found} for found in by_seed(choose(rows, method="gradient descent"), 3)
    ]
    few = [row["residual"] for row in choose(rows, method="ScaledGD(lambda), few")]
    measured = {
        "scaled": spread(choose(rows, method="ScaledGD"), 4),
        "plain": min((counts[20.0] / counts[1.0] for counts in plain), default=None),
        "damped": largest([count(row) for row in choose(rows, method="ScaledGD(lambda)")]),
        "damped_few": min(few, default=None),
        "gauss_newton": spread(choose(rows, method="pseudo-inverse"), 3),
    }
    return judge(CLAIMS, {f"conditioning.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw iterations against the condition, and the band of the seeds."""
    if not rows:
        return {}
    shown = [row for row in rows if row["method"] != "ScaledGD(lambda), few"]
    figure = bands(shown, "condition", count, "method", ylabel="iterations to a relative residual of 1e-10")
    return {"conditioning.scaled": figure}
