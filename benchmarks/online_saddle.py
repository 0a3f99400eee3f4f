"""Saddle points, relaxation and projections beside linear programs, SciPy and NumPy loops."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog
from scipy.sparse.linalg import spsolve_triangular

from benchmarks.harness import Contest, Entry, contest, per_unit, timed
from optlib.experiments.project_and_forget import all_triangles
from optlib.geometry import Simplex
from optlib.linop import SSOR, cg, sor
from optlib.online import BilinearGame, chambolle_pock, metric_nearness, mirror_prox


def contests(quick: bool) -> Iterator[Entry]:
    """All contests about saddle points, relaxation and projections."""
    for n in (10, 100) if quick else (10, 100, 1000):
        yield iterations(n)
    for n in (50, 200) if quick else (50, 200, 800):
        yield game(n)
    yield relaxation(30 if quick else 60)
    yield preconditioning(60 if quick else 200)
    yield nearness(20 if quick else 40)


@contest
def iterations(n: int) -> Contest:
    """Time of an iteration of mirror prox on an n x n matrix game, beside the loop in NumPy."""
    A = np.random.default_rng(0).standard_normal((n, n))
    eta = 1.0 / np.abs(A).max()

    def softmax(theta: np.ndarray) -> np.ndarray:
        weights = np.exp(theta - theta.max())
        return weights / weights.sum()

    def loop(count: int) -> tuple[np.ndarray, np.ndarray]:
        p, q = np.zeros(n), np.zeros(n)
        x = y = np.full(n, 1.0 / n)
        mean_x, mean_y = np.zeros(n), np.zeros(n)
        for k in range(count):
            u, v = softmax(p - eta * (A @ y)), softmax(q + eta * (A.T @ x))
            p, q = p - eta * (A @ v), q + eta * (A.T @ u)
            x, y = softmax(p), softmax(q)
            mean_x, mean_y = mean_x + (u - mean_x) / (k + 1), mean_y + (v - mean_y) / (k + 1)
        return mean_x, mean_y

    def ours(count: int) -> Any:
        return mirror_prox(BilinearGame(A), tol=None, maxiter=count, check_every=max(count, 1), record=False)

    def verify() -> dict[str, float]:
        res = ours(50)
        difference = float(np.max(np.abs(res.state.average - np.concatenate(loop(50)))))
        assert difference < 1e-9, difference
        return {"difference": difference}

    high = max(50, 2_000_000 // n**2) if n > 30 else 20_000
    return Contest(
        f"mirror prox n={n}", {"optlib": per_unit(ours, 1, high), "NumPy loop": per_unit(loop, 1, min(high, 2000))},
        None, verify, unit=1e6, label="us",
    )  # fmt: skip


@contest
def game(n: int) -> Contest:
    """Time to solve an n x n matrix game to a relative gap of 1e-6, beside the linear program."""
    A = np.random.default_rng(0).standard_normal((n, n))

    def ours() -> Any:
        return chambolle_pock(BilinearGame(A, rows=Simplex(n), columns=Simplex(n)), tol=1e-6, maxiter=100_000).check()

    def program() -> Any:
        return linprog(
            np.r_[np.zeros(n), 1.0], A_ub=np.c_[A.T, -np.ones(n)], b_ub=np.zeros(n),
            A_eq=np.r_[np.ones(n), 0.0][None, :], b_eq=[1.0], bounds=[(0, None)] * n + [(None, None)], method="highs",
        )  # fmt: skip

    def verify() -> dict[str, float]:
        difference = abs(ours().fun - program().fun) / np.abs(A).max()
        assert difference < 2e-5, difference
        return {"difference of the values": float(difference)}

    return Contest(f"matrix game n={n}", {"optlib": timed(ours), "HiGHS": timed(program)}, None, verify)


def laplacian(m: int) -> sp.csr_array:
    """Five-point differences on an m x m grid."""
    line = sp.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    return (sp.kron(line, sp.eye_array(m)) + sp.kron(sp.eye_array(m), line)).tocsr()


@contest
def relaxation(m: int) -> Contest:
    """Time of a sweep of over-relaxation, with its residual, beside triangular solves of SciPy."""
    A, b, omega = laplacian(m), np.random.default_rng(0).standard_normal(m * m), 1.8
    lower = (sp.tril(A, -1) + sp.diags_array(A.diagonal() / omega)).tocsr()

    def ours(count: int) -> np.ndarray:
        return sor(A, b, omega=omega, tol=1e-300, maxiter=count, check_every=max(count, 1), record=False).x

    def loop(count: int) -> np.ndarray:
        x, r = np.zeros_like(b), b
        for _ in range(count):
            x = x + spsolve_triangular(lower, r)
            r = b - A @ x
            if np.linalg.norm(r) <= 1e-300:
                break
        return x

    def verify() -> dict[str, float]:
        difference = float(np.max(np.abs(ours(20) - loop(20))))
        assert difference < 1e-9, difference
        return {"difference": difference}

    entrants = {"optlib": per_unit(ours, 1, 300), "SciPy spsolve_triangular": per_unit(loop, 1, 20)}
    return Contest(f"SOR sweep, grid {m} x {m}", entrants, None, verify, unit=1e6, label="us")


@contest
def preconditioning(m: int) -> Contest:
    """Time to solve the grid to 1e-8 by conjugate gradients, with and without symmetric over-relaxation."""
    A, b = laplacian(m), np.random.default_rng(0).standard_normal(m * m)

    def ours() -> Any:
        return cg(A, b, preconditioner=SSOR(A, 1.9), tol=1e-8, maxiter=10_000).check()

    def plain() -> Any:
        return cg(A, b, tol=1e-8, maxiter=10_000).check()

    def scipy() -> Any:
        return sp.linalg.cg(A, b, rtol=1e-8)[0]

    entrants = {"cg with SSOR": timed(ours), "cg": timed(plain), "SciPy cg": timed(scipy)}
    return Contest(f"conjugate gradients, grid {m} x {m}", entrants)


@contest
def nearness(n: int) -> Contest:
    """Time to find the nearest metric to 1e-6, beside projections onto all triangle inequalities (compiled too)."""
    upper = np.triu(np.abs(np.random.default_rng(0).standard_normal((n, n))), 1)
    target = upper + upper.T
    sweeps = 300

    def ours() -> Any:
        return metric_nearness(target, tol=1e-6, maxiter=10_000).check()

    def everything() -> np.ndarray:
        return all_triangles(target, sweeps)

    def verify() -> dict[str, float]:
        difference = float(np.max(np.abs(ours().x[np.triu_indices(n, 1)] - everything())))
        return {"difference": difference}

    return Contest(
        f"metric nearness n={n}", {"optlib": timed(ours), f"all triangles, {sweeps} sweeps": timed(everything)}, None,
        verify,
    )  # fmt: skip
