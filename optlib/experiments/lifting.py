"""Lifting: a spurious minimum of low-rank recovery becomes a saddle of the problem on tensors."""

from typing import Any

import numpy as np

from optlib import sensing
from optlib.backend import to_device, to_numpy
from optlib.experiments._series import bands, choose, largest
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product

TITLE = "Lifting: escape from spurious minima"

_MA = "Ma, Molybog, Lavaei and Sojoudi 2023 (arXiv 2302.07828)"

CLAIMS = (
    Claim(
        "lifting.minimum",
        "The problem on vectors has a spurious strict minimum.",
        _MA,
        "smallest eigenvalue of the second derivative there, over starts (eps = 0.5)",
        Criterion(low=1.0),
    ),
    Claim(
        "lifting.saddle",
        "Its third tensor power is a strict saddle of the lifted problem.",
        _MA,
        "largest of the smallest eigenvalues, over starts (eps = 0.5)",
        Criterion(high=-4.0),
    ),
    Claim(
        "lifting.recovery",
        "Descent from there finds the answer.",
        _MA,
        "largest sine of the angle to it",
        Criterion(high=1.5e-3),
    ),
    Claim(
        "lifting.order",
        "With weaker weights the third power is not enough: the minimum stays one.",
        "observed in a prototype",
        "smallest eigenvalue of the lifted second derivative for eps = 0.3",
        Criterion(low=0.0),
        proven=False,
    ),
)


def _cases(scale: str) -> list[Row]:
    return product(eps=[0.3, 0.5], repeat=range(2 if scale == "quick" else 10))


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case: completion of z z' with some entries known less well, from near its spurious minimum."""
    weight = np.ones((3, 3))
    weight[0, 2] = weight[2, 0] = case["eps"]
    z = np.array([1.0, 0.0, 1.0])
    start = np.array([[1.0], [0.0], [-1.0]]) + 0.1 * rng.standard_normal((3, 1))
    rows, y, start = to_device(
        (weight.ravel()[:, None, None] * np.eye(9).reshape(9, 3, 3), (weight * np.outer(z, z)).ravel(), start), backend
    )
    result = sensing.lifted(sensing.DenseSensing(rows), y, init=start)
    x = to_numpy(result.factors[0])[:, 0]
    cosine = abs(x @ z) / (np.linalg.norm(z) * np.linalg.norm(x))
    flat, lifted = result.curvatures
    return {"flat": flat, "lifted": lifted, "sine": float(np.sqrt(max(0.0, 1.0 - cosine**2)))}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    strong, weak = choose(rows, eps=0.5), choose(rows, eps=0.3)
    measured = {
        "minimum": min((row["flat"] for row in strong), default=None),
        "saddle": largest([row["lifted"] for row in strong]),
        "recovery": largest([row["sine"] for row in strong]),
        "order": min((row["lifted"] for row in weak), default=None),
    }
    return judge(CLAIMS, {f"lifting.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw the smallest eigenvalues at the spurious minimum before and after lifting."""
    points = [
        {"eps": row["eps"], "problem": name, "curvature": row[key]}
        for row in rows
        for name, key in (("vectors", "flat"), ("third power", "lifted"))
    ]
    if not points:
        return {}
    figure = bands(
        points, "eps", "curvature", "problem", xscale="linear", yscale="linear", ylabel="smallest eigenvalue"
    )
    return {"lifting.saddle": figure}
