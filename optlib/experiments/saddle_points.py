"""Saddle points: the bounds of the theorems, how tight they are, and how far from monotone an operator may be."""

import math
from functools import partial
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge
from optlib.geometry import Simplex
from optlib.online import (
    AffineOperator,
    BilinearGame,
    FiniteSum,
    VariationalInequality,
    chambolle_pock,
    extragradient,
    halpern,
    mirror_prox,
    optimistic_gradient,
    proximal_point,
    variance_reduced_halpern,
)

TITLE = "Saddle points and operators that are not monotone"

_COMONOTONE = "arXiv:2210.13831"
CLAIMS = (
    Claim(
        "saddle_points.games",
        "On matrix games the duality gap is at most the bound: mirror prox, optimistic Hedge, Chambolle-Pock.",
        "Nemirovski 2004; Rakhlin and Sridharan 2013; Chambolle and Pock 2016",
        "largest gap / bound",
        Criterion(high=1.0 + 1e-9),
    ),
    Claim(
        "saddle_points.proximal",
        "The proximal point method keeps its bound on every negatively comonotone operator ...",
        f"{_COMONOTONE}, Theorem 2.1",
        "largest squared residual / bound",
        Criterion(high=1.0 + 1e-9),
    ),
    Claim(
        "saddle_points.proximal.tight",
        "... which is attained in the first iteration ...",
        f"{_COMONOTONE}, Theorem 2.1",
        "smallest over the moduli of the largest squared residual / bound",
        Criterion(low=0.99),
    ),
    Claim(
        "saddle_points.proximal.threshold",
        "... and converges for steps above twice the modulus, exactly.",
        f"{_COMONOTONE}, Theorem 2.3",
        "smallest step that converges / twice the modulus, farthest from 1",
        Criterion(0.98, 1.02),
    ),
    Claim(
        "saddle_points.extragradient",
        "With equal steps between 4 rho and 1 / (2 L) the last iterate of the extragradient method converges.",
        f"{_COMONOTONE}, Theorem 3.4",
        "largest residual at the end / at the start",
        Criterion(high=0.5),
    ),
    Claim(
        "saddle_points.extragradient.far",
        "With two different steps it converges up to a modulus of 0.45 / L, near the limit of 1 / (2 L).",
        f"{_COMONOTONE}, Theorem 3.1",
        "largest residual at the end / at the start",
        Criterion(high=0.5),
    ),
    Claim(
        "saddle_points.optimistic",
        "With steps between 4 rho and 10 / (31 L) the last iterate of the optimistic gradient method converges.",
        f"{_COMONOTONE}, Theorem 4.2",
        "largest residual at the end / at the start",
        Criterion(high=0.5),
    ),
    Claim(
        "saddle_points.halpern",
        "The anchored methods keep their bounds on the residual of the last iterate, monotone, cocoercive or not ...",
        "Lieder 2021, Theorem 2.1; Lee and Kim 2021, Theorem 4.1",
        "largest residual / bound",
        Criterion(high=1.0 + 1e-9),
    ),
    Claim(
        "saddle_points.halpern.tight",
        "... which are attained.",
        "Lieder 2021, Theorem 2.1; Lee and Kim 2021, Theorem 4.1",
        "smallest over the moduli of the largest residual / bound",
        Criterion(low=0.99),
    ),
    Claim(
        "saddle_points.variance",
        "Variance reduction evaluates of the order of sqrt(n) of n components in an iteration.",
        "arXiv:2310.02987, Theorem 2.1",
        "largest number of components per iteration / sqrt(n)",
        Criterion(high=6.0),
        proven=False,
    ),
    Claim(
        "saddle_points.variance.rate",
        "Its residual falls like 1 / k.",
        "arXiv:2310.02987, Theorem 2.1",
        "largest residual (k + 4) / (L distance)",
        Criterion(high=8.5),
        proven=False,
    ),
)

_MODULI = (0.0, 0.1, 0.3, 0.45, 0.49)


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    cases: list[Row] = [{"study": "games", "repeat": k} for k in range(3 if quick else 10)]
    cases += [{"study": study, "rho": rho} for study in ("proximal", "halpern") for rho in _MODULI]
    cases += [{"study": "halpern", "rho": -1.0}]
    cases += [{"study": "extragradient", "rho": rho} for rho in (0.0, 0.05, 0.1, 0.125)]
    cases += [{"study": "far", "rho": rho} for rho in (0.2, 0.3, 0.45)]
    cases += [{"study": "optimistic", "rho": rho} for rho in (0.0, 0.05, 5.0 / 62.0)]
    cases += [
        {"study": "variance", "count": n, "steps": 2000 if quick else 10_000, "repeat": k}
        for n in (100, 400)
        for k in range(1 if quick else 10)
    ]
    return cases


def turn(rho: float, size: float = 1.0) -> np.ndarray:
    """Matrix of a plane rotation times ``size`` with ``<F(z), z> = -rho |F(z)|^2``."""
    cos = -rho * size
    sin = math.sqrt(1.0 - cos * cos)
    return size * np.array([[cos, sin], [-sin, cos]])


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    return _STUDIES[case["study"]](case, partial(to_device, backend=backend), rng)


def _games(case: Row, move: Any, rng: np.random.Generator) -> Row:
    ratio, curve = 0.0, {}
    for n, m in ((2, 3), (10, 10), (30, 60)):
        A = rng.standard_normal((n, m))
        spread = math.log(n) + math.log(m)
        entropic, flat = BilinearGame(move(A)), BilinearGame(move(A), rows=Simplex(n), columns=Simplex(m))
        for name, solver, problem, bound in (
            ("mirror prox", mirror_prox, entropic, np.abs(A).max() * spread),
            ("optimistic", optimistic_gradient, entropic, 2.0 * np.abs(A).max() * spread),
            ("Chambolle-Pock", partial(chambolle_pock, restart=False), flat,
             0.5 * np.linalg.norm(A, 2) * (2.0 - 1.0 / n - 1.0 / m)),
        ):  # fmt: skip
            res = solver(problem, tol=None, maxiter=1000, check_every=50)
            k = res.history.array("nit")[1:]
            gaps = res.history.array("stop")[1:] * res.state.scale
            ratio = max(ratio, float(np.max(gaps * k / bound)))
            curve[name] = gaps.tolist()
    return {"ratio": ratio, "curve": curve}


def _residuals(solver: Any, problem: Any, steps: int, start: Any, every: int = 1, **options: Any) -> np.ndarray:
    res = solver(problem, init=start, tol=None, maxiter=steps, check_every=every, **options)
    return res.history.array("stop") * res.state.scale


def _proximal(case: Row, move: Any, rng: np.random.Generator) -> Row:
    rho, start = case["rho"], move(np.array([1.0, 0.0]))
    k = np.arange(1, 101)
    worst = threshold = 0.0
    for size in (0.1, 0.3, 0.6, 1.0):  # long and short rotations: one of them is the worst for each step
        for gamma in (2.0 * rho + 0.1, 2.0 * rho + 1.0, 2.0 * rho + 20.0):
            problem = AffineOperator(move(turn(rho, size)))
            values = _residuals(proximal_point, problem, 100, start, step=gamma)[1:] ** 2
            worst = max(worst, float(np.max(values * gamma * (gamma - 2.0 * rho) * k)))
    if rho:
        factors = np.linspace(0.9, 1.1, 41)
        M = turn(rho)
        for factor in factors:
            gamma = 2.0 * rho * factor
            inverse = move(np.linalg.inv(np.eye(2) + gamma * M))
            matrix = move(M)
            problem = VariationalInequality(
                lambda z, M=matrix: M @ z, 2, lipschitz=1.0, like=matrix, resolvent=lambda z, s, R=inverse: R @ z
            )
            values = _residuals(proximal_point, problem, 50, start, 50, step=gamma)
            if values[-1] < values[0]:
                threshold = float(factor)
                break
    return {"ratio": worst, "threshold": threshold or None}


def _halpern(case: Row, move: Any, rng: np.random.Generator) -> Row:
    start, k, worst = move(np.array([1.0, 0.0])), np.arange(1, 101), 0.0
    if case["rho"] >= 0.0:
        problem = AffineOperator(move(turn(case["rho"])))
        values = _residuals(halpern, problem, 100, start)[1:]
        return {"ratio": float(np.max(values * (1.0 - 2.0 * case["rho"]) * k / 2.0))}
    for angle in np.linspace(0.02, 3.0, 60):  # F = (I - T) / 2 with rotations T: cocoercive with modulus 1 / L = 1
        T = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        half = move(0.5 * (np.eye(2) - T))
        problem = VariationalInequality(lambda z, M=half: M @ z, 2, lipschitz=1.0, comonotonicity=1.0, like=half)
        values = _residuals(halpern, problem, 100, start)[1:]
        worst = max(worst, float(np.max(values * (k + 1))))
    return {"ratio": worst}


def _window(solver: Any, high: float, steps: int, case: Row, move: Any, rng: np.random.Generator) -> Row:
    worst = 0.0
    for gamma in np.linspace(max(4.0 * case["rho"], 0.1 * high), high, 9):
        problem = AffineOperator(move(turn(case["rho"])))
        values = _residuals(solver, problem, steps, move(np.array([1.0, 0.0])), steps, step=float(gamma))
        worst = max(worst, float(values[-1] / values[0]))
    return {"ratio": worst}


def _far(case: Row, move: Any, rng: np.random.Generator) -> Row:
    values = _residuals(extragradient, AffineOperator(move(turn(case["rho"]))), 2000, move(np.array([1.0, 0.0])), 2000)
    return {"ratio": float(values[-1] / values[0])}


def _variance(case: Row, move: Any, rng: np.random.Generator) -> Row:
    count, n = case["count"], 10
    a, b = rng.standard_normal((count, n)), rng.standard_normal(count)
    best = np.linalg.lstsq(a, b, rcond=None)[0]
    L = float(np.max(np.sum(a**2, axis=1)))
    a_, b_ = move(a), move(b)

    def components(z: Any, index: Any) -> Any:
        rows = a_[index]
        return (rows @ z - b_[index])[:, None] * rows

    problem = FiniteSum(components, count, n, lipschitz=L, like=a_)
    res = variance_reduced_halpern(problem, tol=None, maxiter=case["steps"], check_every=case["steps"] // 50, rng=rng)
    constants = res.history.array("stop")[1:] * res.state.scale * (res.history.array("nit")[1:] + 4.0)
    assert np.all(np.isfinite(to_numpy(res.x)))
    return {
        "calls": res.counts["components"] / (math.sqrt(count) * case["steps"]),
        "constant": float(np.max(constants)) / (L * float(np.linalg.norm(best))),
    }


_STUDIES = {
    "games": _games,
    "proximal": _proximal,
    "halpern": _halpern,
    "extragradient": partial(_window, extragradient, 0.5, 2000),
    "optimistic": partial(_window, optimistic_gradient, 10.0 / 31.0, 4000),
    "far": _far,
    "variance": _variance,
}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""

    def values(study: str, name: str = "ratio") -> list[float]:
        return [row[name] for row in rows if row["study"] == study and row[name] is not None]

    proximal, halpern_ = values("proximal"), values("halpern")
    measured = {
        "games": max(values("games"), default=None),
        "proximal": max(proximal, default=None),
        "proximal.tight": min(proximal, default=None),
        "proximal.threshold": max(values("proximal", "threshold"), key=lambda v: abs(v - 1.0), default=None),
        "extragradient": max(values("extragradient"), default=None),
        "extragradient.far": max(values("far"), default=None),
        "optimistic": max(values("optimistic"), default=None),
        "halpern": max(halpern_, default=None),
        "halpern.tight": min(halpern_, default=None),
        "variance": max(values("variance", "calls"), default=None),
        "variance.rate": max(values("variance", "constant"), default=None),
    }
    return judge(CLAIMS, {f"saddle_points.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="iterations", ylabel="duality gap", xscale="log", yscale="log", title="a 30 x 60 matrix game")
    for row in [row for row in rows if row["study"] == "games"][:1]:
        for name, gaps in row["curve"].items():
            axes.plot(50 * np.arange(1, len(gaps) + 1), np.maximum(gaps, 1e-16), label=name)
        axes.legend()
    return {"saddle_points.games": figure}
