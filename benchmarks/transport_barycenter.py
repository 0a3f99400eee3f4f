"""Sinkhorn divergences and barycenters beside POT."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Contest, Entry, contest, timed
from optlib.transport import PointCloud, barycenter, divergence

warnings.filterwarnings("ignore")
THRESHOLDS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)
LIMIT = 20_000


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of divergences and barycenters."""
    for reg in (1e-1, 1e-2):  # below, POT takes minutes
        yield value_and_gradients(300 if quick else 1000, reg)
    for k in (3, 10):
        yield histograms(200 if quick else 400, k, 1e-3)


@contest
def value_and_gradients(n: int, reg: float) -> Contest:
    """Ours with all gradients, bounds and the certificate; POT's value alone, to the same accuracy of that value."""
    import ot

    rng = np.random.default_rng(0)
    x, y = rng.random((n, 2)), 0.7 * rng.random((n, 2)) + 0.3
    x, y = x / np.sqrt(2.0), y / np.sqrt(2.0)  # costs up to 1
    exact = divergence(PointCloud(x, y), reg=reg, tol=1e-12).value_linear

    def ours() -> Any:
        return divergence(PointCloud(x, y), reg=reg)

    def pot(threshold: float) -> float:
        options = {"numIterMax": LIMIT, "stopThr": threshold, "warn": False}
        return float(ot.bregman.empirical_sinkhorn_divergence(x, y, reg, **options))

    error = abs(ours().value_linear - exact) / exact
    threshold, theirs = _matched(pot, lambda v: abs(v - exact) / exact, max(error, 1e-9))

    def verify() -> dict[str, float]:
        return {"optlib": error, "POT": theirs}

    entrants = {"optlib": timed(ours), "POT value": timed(lambda: pot(threshold))}
    return Contest(f"divergence n={n} reg={reg:g}", entrants, 3.0, verify, work={"optlib": ours})


@contest
def histograms(n: int, k: int, reg: float) -> Contest:
    """Barycenters of two-bump histograms on a line."""
    import ot

    rng, x = np.random.default_rng(0), np.linspace(0.0, 1.0, n)
    centres, widths = rng.uniform(0.2, 0.8, (2, k, 1)), rng.uniform(0.02, 0.1, (k, 1))
    a = np.exp(-((x - centres[0]) ** 2) / (2 * widths**2)) + 0.5 * np.exp(-((x - centres[1]) ** 2) / 2e-3) + 1e-4
    a, cost = a / a.sum(axis=1, keepdims=True), (x[:, None] - x[None, :]) ** 2

    def pot(threshold: float) -> np.ndarray:
        return ot.barycenter(a.T, cost, reg, numItermax=LIMIT, stopThr=threshold, warn=False)

    return _barycenters(f"barycenter n={n} K={k} reg={reg:g}", cost, a, reg, pot)


def _barycenters(name: str, cost: Any, a: np.ndarray, reg: float, pot: Callable[[float], np.ndarray]) -> Contest:
    exact = barycenter(cost, a, reg=reg, tol=1e-11).x

    def distance(b: np.ndarray) -> float:
        return float(np.sum(np.abs(b / np.sum(b) - exact)))

    def ours() -> Any:
        return barycenter(cost, a, reg=reg, tol=1e-7)

    error = distance(ours().x)
    threshold, theirs = _matched(pot, distance, max(error, 1e-8))

    def verify() -> dict[str, float]:
        return {"optlib": error, "POT": theirs}

    return Contest(name, {"optlib": timed(ours), "POT": timed(lambda: pot(threshold))}, 2.0, verify)


def _matched(run: Callable[[float], Any], error: Callable[[Any], float], wanted: float) -> tuple[float, float]:
    """The loosest threshold at which the peer is as accurate, or the tightest if none is."""
    for threshold in THRESHOLDS:
        found = error(run(threshold))
        if found <= wanted or not np.isfinite(found):
            break
    return threshold, found
