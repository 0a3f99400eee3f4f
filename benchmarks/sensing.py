"""Kernels of sensing beside what NumPy and SciPy do, and the default beside ScaledGD."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.harness import Contest, timed
from optlib import sensing
from optlib.datasets import make_low_rank


def contests(quick: bool) -> Iterator[Contest]:
    """All contests of the family."""
    yield dense(200, (20, 15), 1.0, "in cache", repeat=100, floor=0.9)
    yield dense(1000 if quick else 4000, (100, 100), 1.6, "beyond L3")
    yield dense(500 if quick else 1500, (200, 200), 1.6, "beyond L3")
    yield regenerated("gaussian", 8.0)
    yield regenerated("rademacher", None)
    yield never_stored()
    yield completion(200_000 if quick else 1_000_000, 4.0)
    yield whole_completion(quick)
    yield whole_recovery()


def dense(
    m: int, shape: tuple[int, int], target: float, where: str, *, repeat: int = 1, floor: float | None = None
) -> Contest:
    """Gradient with stored matrices, against two matrix-vector products."""
    rng = np.random.default_rng(0)
    A, y, (n1, n2) = rng.standard_normal((m, math.prod(shape))), rng.standard_normal(m), shape
    F, G = rng.standard_normal((n1, 3)), rng.standard_normal((n2, 3))
    operator = sensing.DenseSensing(A.reshape(m, n1, n2))

    def ours() -> Any:
        for _ in range(repeat):
            found = operator._gradient(F, G, y)
        return found

    def peer() -> Any:
        for _ in range(repeat):
            residual = A @ (F @ G.T).ravel() - y
            Z = (residual @ A).reshape(n1, n2)
            found = residual, Z @ G, Z.T @ F
        return found

    def verify() -> dict[str, float]:
        gap = max(float(np.max(np.abs(u - v)) / np.max(np.abs(v))) for u, v in zip(ours(), peer(), strict=True))
        assert gap < 1e-10, gap
        return {"difference": gap}

    name = f"sensing gradient {m} x {n1} x {n2}, {where}"
    return Contest(name, {"optlib": timed(ours), "NumPy": timed(peer)}, floor or target, verify)


def regenerated(distribution: str, target: float | None) -> Contest:
    """Gradient of regenerated measurements, against NumPy's generator block by block."""
    m, n, r = 300, 200, 5
    rng = np.random.default_rng(0)
    operator = sensing.RegeneratedSensing((n, n), m, distribution, rng=0)
    F, G, y = rng.standard_normal((n, r)), rng.standard_normal((n, r)), rng.standard_normal(m)

    def peer() -> None:
        X = (F @ G.T).ravel()
        for i in range(0, m, 50):
            if distribution == "gaussian":
                block = rng.standard_normal((50, n * n))
            else:
                block = 2.0 * rng.integers(0, 2, (50, n * n), dtype=np.int8) - 1.0
            Z = ((block @ X - y[i : i + 50]) @ block).reshape(n, n)
            Z @ G, Z.T @ F

    entrants = {"optlib": timed(lambda: operator._gradient(F, G, y)), "NumPy generator": timed(peer)}
    return Contest(f"regenerated {distribution} {m} x {n} x {n}", entrants, target)


def never_stored() -> Contest:
    """A hundredth of the measurements of a problem whose matrices would take 160 GB; seconds for all of them."""
    n, m, r = 1000, 20_000, 5
    rng = np.random.default_rng(0)
    operator = sensing.RegeneratedSensing((n, n), m, rng=0).split(100)[0]
    F, G, y = rng.standard_normal((n, r)), rng.standard_normal((n, r)), rng.standard_normal(m // 100)
    entrants = {"optlib": timed(lambda: operator._gradient(F, G, y))}
    work = {"optlib": lambda: operator._gradient(F, G, y)}
    return Contest(f"regenerated gradient {m} x {n} x {n}", entrants, work=work, unit=100.0, label="s")


def completion(m: int, target: float) -> Contest:
    """Gradient of completion, against NumPy and SciPy's sparse products."""
    n1, n2, r = 6000, 4000, 10
    rng = np.random.default_rng(0)
    A = sensing.random_entries((n1, n2), m, rng=rng)
    F, G, y = rng.standard_normal((n1, r)), rng.standard_normal((n2, r)), rng.standard_normal(m)
    matrix = sp.csr_array((y, (A.rows, A.cols)), shape=(n1, n2))

    def peer() -> Any:
        residual = np.einsum("ij,ij->i", F[A.rows], G[A.cols]) - y
        matrix.data = residual
        return residual, matrix @ G, matrix.T @ F

    def verify() -> dict[str, float]:
        gap = max(float(np.max(np.abs(u - v))) for u, v in zip(A._gradient(F, G, y), peer(), strict=True))
        assert gap < 1e-9, gap
        return {"difference": gap}

    entrants = {"optlib": timed(lambda: A._gradient(F, G, y)), "SciPy sparse": timed(peer)}
    return Contest(f"completion gradient {m} entries, r = {r}", entrants, target, verify)


def whole_completion(quick: bool) -> Contest:
    """Completion of 6000 x 4000 to the noise; seconds, no peer in this environment."""
    n1, n2, m = (1500, 1000, 200_000) if quick else (6000, 4000, 1_000_000)
    rng = np.random.default_rng(0)
    F, G = rng.standard_normal((n1, 10)), rng.standard_normal((n2, 10))
    A = sensing.random_entries((n1, n2), m, rng=rng)
    e = 1e-2 * rng.standard_normal(m)
    y, noise = A.forward_factored(F, G) + e, float(np.linalg.norm(e))
    entrants = {"optlib": timed(lambda: sensing.recover(A, y, rank=10, noise=noise).check())}
    return Contest(f"recover {n1} x {n2}, {m} entries, r = 10, to the noise", entrants, unit=1.0, label="s")


def whole_recovery() -> Contest:
    """Ample measurements, where ScaledGD converges too."""
    left, right = make_low_rank(60, 60, np.geomspace(1.0, 0.1, 5), rng=0)
    A = sensing.GaussianSensing((60, 60), 3000, rng=0)
    y = A.forward_factored(left, right)
    entrants = {
        "optlib": timed(lambda: sensing.recover(A, y, rank=5, record=False).check()),
        "ScaledGD": timed(lambda: sensing.scaled_gd(A, y, rank=5, tol=1e-10, record=False).check()),
    }
    return Contest("recover 60 x 60, r = 5, m = 3000", entrants)
