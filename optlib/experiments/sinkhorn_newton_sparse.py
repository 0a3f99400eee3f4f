"""Sparse Newton methods for entropic transport: the published ones, and the one on a path, on the same problems."""

import math
from typing import Any

import numpy as np

from optlib import transport
from optlib.backend import to_device
from optlib.datasets import TRANSPORT_KINDS, make_transport
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product

TITLE = "Sparse Newton methods: few steps at small regularisation"

REG = 1.0 / 1200.0  # eta = 1200, of a cost between 0 and 1
SWEEPS = 20  # before the first Newton step, as published

CLAIMS = (
    Claim(
        "sinkhorn_newton_sparse.steps",
        "On a random cost at eta = 1200, Sinkhorn-Newton-Sparse with density 2/n takes about 10 Newton steps after 20 "
        "sweeps (9 in the paper).",
        "Tang et al., ICLR 2024 (arXiv 2401.12253); density read as the share of the Hessian: 4 n entries of the plan",
        "largest number of Newton steps to 1e-12",
        Criterion(high=15),
        proven=False,
    ),
    Claim(
        "sinkhorn_newton_sparse.density",
        "With half as many entries it takes several times as many steps: the density must be read as above.",
        "own comparison of the readings",
        "smallest number of Newton steps to 1e-12 with 2 n entries of the plan",
        Criterion(low=40),
        proven=False,
    ),
    Claim(
        "sinkhorn_newton_sparse.sinkhorn",
        "Plain Sinkhorn needs tens of thousands of sweeps there (56 199 in the paper).",
        "Tang et al., ICLR 2024",
        "smallest error after 5000 sweeps",
        Criterion(low=1e-7),
        proven=False,
    ),
    Claim(
        "sinkhorn_newton_sparse.safe.steps",
        "SSNS converges globally: from a cold start some 15 iterations on the same problem.",
        "Tang and Qiu, NeurIPS 2024",
        "largest number of iterations to 1e-12",
        Criterion(high=25),
        proven=False,
    ),
    Claim(
        "sinkhorn_newton_sparse.safe.superlinear",
        "Its convergence is superlinear at the end.",
        "Tang and Qiu, NeurIPS 2024, quadratic rate",
        "largest e3 e1 / e2^2 of the last three errors",
        Criterion(high=1.0),
    ),
    Claim(
        "sinkhorn_newton_sparse.path",
        "Newton steps on a path solve every problem of the hard set to 1e-10, for reg from 1e-2 to 1e-6.",
        "promise of this library, from a prototype",
        "unsolved problems",
        Criterion(high=0),
    ),
    Claim(
        "sinkhorn_newton_sparse.fails",
        "Without the path Sinkhorn-Newton-Sparse leaves at least a fifth of them unsolved.",
        "prototype: 22 of 75",
        "share of unsolved problems",
        Criterion(low=0.2),
        proven=False,
    ),
)


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    seeds = range(1 if quick else 3)
    return [
        *product(part=["random"], method=["sns", "sns-half", "sinkhorn", "ssns"], n=[500], repeat=seeds),
        *product(
            part=["hard"], method=["path", "sns"], kind=list(TRANSPORT_KINDS), n=[40 if quick else 200],
            reg=[1e-4] if quick else [1e-2, 1e-3, 1e-4, 1e-5, 1e-6], repeat=seeds,
        ),
    ]  # fmt: skip


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    n, method = case["n"], case["method"]
    if case["part"] == "hard":
        arrays = to_device(make_transport(case["kind"], n, rng=rng)[:3], backend)
        options: dict[str, Any] = {} if method == "path" else {"method": "sns", "maxiter": SWEEPS + 60}
        result = transport.sinkhorn_newton(*arrays, reg=case["reg"], tol=1e-10, **options)
        return {"solved": result.success, "iterations": result.nit, "passes": result.counts["passes"]}
    cost = to_device(rng.random((n, n)), backend)
    if method == "sinkhorn":
        result = transport.sinkhorn(cost, reg=REG, acceleration=None, tol=1e-9, maxiter=5000, check_every=50)
    elif method == "ssns":
        result = transport.sinkhorn_newton(cost, reg=REG, tol=1e-12, method="ssns", maxiter=200)
    else:
        density = (4.0 if method == "sns" else 2.0) / n
        result = transport.sinkhorn_newton(
            cost, reg=REG, tol=1e-12, method="sns", density=density, sweeps=SWEEPS, maxiter=SWEEPS + 60
        )
    return {"iterations": result.nit, "errors": result.history["stop"], "error": result.history["stop"][-1]}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""

    def some(part: str, method: str) -> list[Row]:
        return [row for row in rows if row["part"] == part and row["method"] == method]

    def steps(row: Row) -> float:
        return row["iterations"] - SWEEPS if row["error"] <= 1e-12 else math.inf

    full, half, plain, safe = (some("random", name) for name in ("sns", "sns-half", "sinkhorn", "ssns"))
    path, fails = (some("hard", name) for name in ("path", "sns"))
    measured = {
        "sinkhorn_newton_sparse.steps": max(map(steps, full), default=None),
        "sinkhorn_newton_sparse.density": min(map(steps, half), default=None),
        "sinkhorn_newton_sparse.sinkhorn": min((row["error"] for row in plain), default=None),
        "sinkhorn_newton_sparse.safe.steps": max(
            (row["iterations"] if row["error"] <= 1e-12 else math.inf for row in safe), default=None
        ),
        "sinkhorn_newton_sparse.safe.superlinear": max((_bend(row["errors"]) for row in safe), default=None),
        "sinkhorn_newton_sparse.path": sum(not row["solved"] for row in path) if path else None,
        "sinkhorn_newton_sparse.fails": sum(not row["solved"] for row in fails) / len(fails) if fails else None,
    }
    return judge(CLAIMS, measured)


def _bend(errors: list[float]) -> float:
    """``e3 e1 / e2^2`` of the last three errors: below 1 where each step gains more than the one before."""
    e1, e2, e3 = errors[-3:]
    return e3 * e1 / e2**2


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw the errors by iteration, and the passes of the method on a path."""
    from matplotlib.figure import Figure

    figures = {}
    curves = [row for row in rows if row["part"] == "random" and row["repeat"] == 0]
    if curves:
        figure = Figure()
        axes = figure.add_subplot()
        axes.set(xlabel="iterations", ylabel="l1 error of the marginals", yscale="log")
        for row in curves:
            errors = row["errors"]
            axes.plot(np.linspace(0, min(row["iterations"], 120), len(errors)), np.maximum(errors, 1e-16),
                      label=row["method"])  # fmt: skip
        axes.legend()
        figures["sinkhorn_newton_sparse.steps"] = figure
    path = [row for row in rows if row["part"] == "hard" and row["method"] == "path"]
    if path:
        figure = Figure()
        axes = figure.add_subplot()
        axes.set(xlabel="reg (of the cost range)", ylabel="passes over the cost to 1e-10", xscale="log")
        for kind in TRANSPORT_KINDS:
            some = [row for row in path if row["kind"] == kind]
            axes.plot([row["reg"] for row in some], [row["passes"] for row in some], "o", label=kind)
        axes.legend()
        figures["sinkhorn_newton_sparse.path"] = figure
    return figures
