"""The Monge gap: maps between Gaussians from good and bad starts, maps between cell types."""

from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.datasets import load_cells
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product
from optlib.transport import FourierMap, MongeMap, PointCloud, emd, monge_gap

TITLE = "The Monge gap"

_PAPER = "Uscidda and Cuturi 2023 (arXiv 2302.04953)"

CLAIMS = (
    Claim(
        "monge_gap.gaussian",
        "With the gap an affine map fitted to samples of two Gaussians is the optimal one, from the identity and from "
        "a rotation by 90 degrees.",
        _PAPER + "; closed form of Gaussian transport; 300 samples, weight 1",
        "relative error of the matrix to that of the moments of the samples, largest over starts, median over seeds",
        Criterion(high=0.03),
    ),
    Claim(
        "monge_gap.without",
        "Without the gap the descent from the rotation ends at a map that is not optimal.",
        _PAPER + "; weight 0",
        "relative error of the matrix, median over seeds",
        Criterion(low=0.5),
    ),
    Claim(
        "monge_gap.nonnegative",
        "The entropic gap is never negative and that of a rotation is large.",
        _PAPER + ", proposition 1",
        "smallest gap over random maps, in units of the mean cost",
        Criterion(low=-1e-6),
    ),
    Claim(
        "monge_gap.bounds",
        "The proven bounds enclose the gap of the linear program.",
        "weak duality",
        "largest distance of the exact gap from the interval, in units of the mean cost",
        Criterion(high=1e-8),
    ),
    Claim(
        "monge_gap.cells",
        "On monocytes and dendritic cells the gap term makes the map closer to optimal.",
        _PAPER + ", single-cell experiments: direction of the effect",
        "exact gap with weight 1 over that with weight 0, Fourier maps in 5 dimensions, median over seeds",
        Criterion(high=1.0),
        proven=False,
    ),
)

_STARTS = {"identity": None, "rotation": (np.array([[0.0, -1.0], [1.0, 0.0]]), np.zeros(2))}


def _cases(scale: str) -> list[Row]:
    seeds = range(3 if scale == "quick" else 10)
    return [
        *product(part=["gaussian"], n=[300], weight=[0.0, 0.1, 1.0], start=list(_STARTS), repeat=seeds),
        *product(part=["random"], n=[60], reg=[0.01, 0.1, 1.0], repeat=seeds),
        *product(part=["cells"], weight=[0.0, 1.0], repeat=seeds),
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    return {"gaussian": _gaussian, "random": _random, "cells": _cells}[case["part"]](case, backend, rng)


def _gaussian(case: Row, backend: str, rng: np.random.Generator) -> Row:
    n, cov = case["n"], np.array([[2.0, 0.8], [0.8, 0.6]])
    x = rng.normal(size=(n, 2))
    y = rng.normal(size=(n, 2)) @ np.linalg.cholesky(cov).T + np.array([1.0, -1.0])
    start = _STARTS[case["start"]]
    init = None if start is None else to_device(start, backend)
    fitted = MongeMap(weight=case["weight"]).fit(*to_device((x, y), backend), init=init)
    wanted, result = _gaussian_map(np.cov(x.T), np.cov(y.T)), fitted.result_
    error = np.linalg.norm(to_numpy(fitted.coef_) - wanted) / np.linalg.norm(wanted)
    return {"error": float(error), "gap": result.monge_gap, "loss": result.fitting_loss, "iterations": result.nit}


def _gaussian_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    root, inverse = _power(a, 0.5), _power(a, -0.5)
    return inverse @ _power(root @ b @ root, 0.5) @ inverse


def _power(a: np.ndarray, exponent: float) -> np.ndarray:
    w, v = np.linalg.eigh(a)
    return (v * w**exponent) @ v.T


def _random(case: Row, backend: str, rng: np.random.Generator) -> Row:
    x = rng.normal(size=(case["n"], 2))
    images = {
        "linear": x @ rng.normal(size=(2, 2)).T,
        "noise": x + rng.normal(size=x.shape),
        "optimal": x @ np.diag([2.0, 0.5]),
        "same": x,
    }
    gaps, misses = [], []
    for y in images.values():
        size = max(1.0, float(np.mean(np.sum((x - y) ** 2, axis=1))))
        found = monge_gap(*to_device((x, y), backend), reg=case["reg"] * size, tol=1e-8)
        exact = float(np.mean(np.sum((x - y) ** 2, axis=1))) - emd(PointCloud(x, y)).value
        gaps.append(found.value / size)
        misses.append(max(found.bounds[0] - exact, exact - found.bounds[1], 0.0) / size)
    return {"least": min(gaps), "miss": max(misses)}


def _cells(case: Row, backend: str, rng: np.random.Generator) -> Row:
    try:
        cells = load_cells()
    except (ImportError, OSError):
        return {"gap": None}
    kinds = [cells.names.index(name) for name in ("CD14+ Monocyte", "Dendritic")]
    x, y = (cells.pca[cells.cell_type == k, :5] for k in kinds)
    x, y = x[rng.permutation(len(x))[:100]], y[rng.permutation(len(y))[:200]]
    seed = int(rng.integers(2**31))
    fitted = MongeMap(FourierMap(50), weight=case["weight"]).fit(*to_device((x, y), backend), rng=seed, maxiter=100)
    images = to_numpy(fitted.transform(*to_device((x,), backend)))
    gap = float(np.mean(np.sum((x - images) ** 2, axis=1))) - emd(PointCloud(x, images)).value
    return {"gap": gap, "loss": fitted.result_.fitting_loss}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    gaussian, random, cells = ([row for row in rows if row["part"] == part] for part in ("gaussian", "random", "cells"))
    errors = {(row["weight"], row["start"], row["repeat"]): row["error"] for row in gaussian}
    seeds = sorted({row["repeat"] for row in gaussian})
    with_gap = [max(errors.get((1.0, start, seed), np.nan) for start in _STARTS) for seed in seeds]
    without = [errors[0.0, "rotation", seed] for seed in seeds if (0.0, "rotation", seed) in errors]
    gaps = {(row["weight"], row["repeat"]): row["gap"] for row in cells if row["gap"] is not None}
    ratios = [
        gaps[1.0, seed] / gaps[0.0, seed] for weight, seed in gaps if weight == 1.0 and gaps.get((0.0, seed), 0.0) > 0.0
    ]
    measured = {
        "gaussian": _median(with_gap),
        "without": _median(without),
        "nonnegative": min((row["least"] for row in random), default=None),
        "bounds": max((row["miss"] for row in random), default=None),
        "cells": _median(ratios),
    }
    return judge(CLAIMS, {f"monge_gap.{name}": value for name, value in measured.items()})


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw a figure per claim that has one."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["part"] == "gaussian"]
    if not rows:
        return {}
    figure = Figure()
    axes = figure.add_subplot()
    for start in {row["start"]: None for row in rows}:
        points = [(row["weight"], row["error"]) for row in rows if row["start"] == start]
        axes.semilogy(*zip(*points, strict=True), "o", label=f"from the {start}")
    axes.set(xlabel="weight of the gap", ylabel="relative error of the matrix")
    axes.legend()
    return {"monge_gap.gaussian": figure}
