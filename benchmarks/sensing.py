"""Kernels of sensing beside what NumPy and SciPy do, and the default beside ScaledGD."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.harness import Contest, Entry, contest, per_unit, timed
from optlib import sensing
from optlib.datasets import make_low_rank


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of the family."""
    yield dense(200, (20, 15), 1.0, "in cache", repeat=100, floor=0.9)
    yield dense(1000 if quick else 4000, (100, 100), 1.6, "beyond L3")
    yield dense(500 if quick else 1500, (200, 200), 1.6, "beyond L3")
    yield regenerated("gaussian", 8.0)
    yield regenerated("rademacher", None)
    yield never_stored()
    yield completion(200_000 if quick else 1_000_000, 4.0)
    yield alternation(200_000 if quick else 1_000_000, 1.5)
    yield deep_regression()
    yield calibration()
    yield whole_completion(quick)
    yield whole_recovery()


@contest
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


@contest
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


@contest
def never_stored() -> Contest:
    """A hundredth of the measurements of a problem whose matrices would take 160 GB; seconds for all of them."""
    n, m, r = 1000, 20_000, 5
    rng = np.random.default_rng(0)
    operator = sensing.RegeneratedSensing((n, n), m, rng=0).split(100)[0]
    F, G, y = rng.standard_normal((n, r)), rng.standard_normal((n, r)), rng.standard_normal(m // 100)
    entrants = {"optlib": timed(lambda: operator._gradient(F, G, y))}
    work = {"optlib": lambda: operator._gradient(F, G, y)}
    return Contest(f"regenerated gradient {m} x {n} x {n}", entrants, work=work, unit=100.0, label="s")


@contest
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


@contest
def alternation(m: int, target: float) -> Contest:
    """A sweep of alternating least squares, against cmfrec (if installed) and rows solved in NumPy."""
    n1, n2, r, ridge, sweeps = 6000, 4000, 10, 1.0, 4
    rng = np.random.default_rng(0)
    A = sensing.random_entries((n1, n2), m, rng=rng)
    start, y = (rng.standard_normal((n1, r)), rng.standard_normal((n2, r))), rng.standard_normal(m)
    y += A.forward_factored(*start)
    matrix = sp.csr_array((y, (A.rows, A.cols)), shape=(n1, n2))

    def ours(count: int) -> Any:
        return sensing.alternating_minimization(
            A, y, rank=r, ridge=ridge, init=start, tol=None, maxiter=count, check_every=count or 1, record=False
        )

    def half(rows: sp.csr_array, G: np.ndarray) -> np.ndarray:
        found = np.zeros((rows.shape[0], r))
        for i in range(rows.shape[0]):
            part = slice(rows.indptr[i], rows.indptr[i + 1])
            g = G[rows.indices[part]]
            found[i] = np.linalg.solve(g.T @ g + ridge * np.eye(r), g.T @ rows.data[part])
        return found

    def loops(count: int) -> Any:
        F, G = start
        columns = sp.csr_array(matrix.T)
        for _ in range(count):
            G = half(columns, F)
            F = half(matrix, G)
        return F, G

    entrants = {"optlib": per_unit(ours, 1, 1 + sweeps), "NumPy loop": per_unit(loops, 0, 1)}
    try:
        from cmfrec import CMF
    except ImportError:
        pass
    else:
        coo = matrix.tocoo()

        def cmfrec(count: int) -> Any:
            model = CMF(
                k=r, lambda_=ridge, method="als", use_cg=False, use_float=False, niter=count,
                user_bias=False, item_bias=False, center=False, nthreads=1, verbose=False,
                precompute_for_predictions=False, scale_lam=False,
            )  # fmt: skip
            return model.fit(coo)

        entrants["cmfrec"] = per_unit(cmfrec, 1, 1 + sweeps)

    def rmse(F: np.ndarray, G: np.ndarray) -> float:
        return float(np.sqrt(np.mean((A.forward_factored(F, G) - y) ** 2)))

    def verify() -> dict[str, float]:
        found = {"optlib": rmse(*ours(3).factors), "NumPy loop": rmse(*loops(3))}
        assert found["optlib"] < 1.05 * found["NumPy loop"], found
        return found

    return Contest(f"ALS sweep, {m} entries, r = {r}", entrants, target, verify)


@contest
def deep_regression() -> Contest:
    """10 000 steps of the end-to-end rule on a small regression, against a loop in NumPy."""
    rng = np.random.default_rng(0)
    X, y, w0, eta, count = rng.standard_normal((100, 10)), rng.standard_normal(100), 0.1 * np.ones(10), 1e-3, 10_000
    go = {"depth": 3, "step": eta, "init": w0, "tol": None, "maxiter": count, "check_every": count}

    def ours() -> Any:
        return sensing.overparameterized_regression(X, y, **go).x

    def peer() -> Any:
        w = w0
        for _ in range(count):
            g, square = (X @ w - y) @ X / 100, w @ w
            w = w - eta * square ** (2.0 / 3.0) * (g + 2.0 * (g @ w) / square * w)
        return w

    def verify() -> dict[str, float]:
        gap = float(np.max(np.abs(ours() - peer())))
        assert gap < 1e-10, gap
        return {"difference": gap}

    return Contest(
        "10 000 steps of the end-to-end rule, 100 x 10", {"optlib": timed(ours), "NumPy": timed(peer)}, None, verify
    )


@contest
def calibration() -> Contest:
    """Self-calibration by products, against dense least squares in NumPy."""
    p, m, n = 8, 256, 96
    rng = np.random.default_rng(0)
    A, x, d = rng.standard_normal((p, m, n)), rng.standard_normal(n), rng.uniform(0.7, 1.3, m)
    y = d * (A @ x)
    y += 1e-3 * np.std(y) * rng.standard_normal(y.shape)

    def ours() -> Any:
        return sensing.self_calibration(A, y).gains

    def peer() -> Any:
        H = np.concatenate([np.hstack([np.diag(y[k]), -A[k]]) for k in range(p)] + [np.eye(1, m + n)])
        H[-1, :m] = 1.0
        s = np.linalg.lstsq(H, np.eye(1, p * m + 1, p * m)[0])[0][:m]
        return np.sqrt(np.mean(s * s)) / s

    def verify() -> dict[str, float]:
        gap = float(np.max(np.abs(ours() - peer())))
        assert gap < 1e-8, gap
        return {"difference": gap}

    return Contest(
        f"self-calibration, {p} x {m} readings, {n} unknowns",
        {"optlib": timed(ours), "NumPy dense": timed(peer)},
        None,
        verify,
    )


@contest
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


@contest
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
