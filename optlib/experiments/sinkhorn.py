"""Sinkhorn's algorithm: linear rate against ``reg``, entropic bias, acceleration."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import eye_array, kron, vstack

from optlib import transport
from optlib.backend import to_device, to_numpy
from optlib.datasets import make_transport
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, log_slope, product

TITLE = "Sinkhorn's algorithm: rate, bias, acceleration"

CLAIMS = (
    Claim(
        "sinkhorn.rate.birkhoff",
        "A sweep contracts the error at least by the square of Birkhoff's coefficient tanh(D / (4 reg)), where D is "
        "the Hilbert diameter of the cost.",
        "Franklin and Lorenz 1989; Peyré and Cuturi 2019, section 4.2",
        "largest observed contraction over the bound",
        Criterion(high=1.0 + 1e-6),
    ),
    Claim(
        "sinkhorn.rate.local",
        "Close to the solution a sweep contracts the error by the squared second singular value of the plan, scaled by "
        "its marginals.",
        "Knight 2008; Peyré and Cuturi 2019, section 4.2",
        "largest relative difference of the logarithms of the two rates",
        Criterion(high=0.05),
    ),
    Claim(
        "sinkhorn.rate.reg",
        "For squared distances between spread-out points the rate is 1 - Θ(reg), not exponentially close to 1: the "
        "number of sweeps grows like 1/reg.",
        "Chizat, Delalande and Vaškevičius 2025 (arXiv 2407.01202), continuous case",
        "slope of log(-log rate) against log(reg), reg <= 0.1",
        Criterion(0.8, 1.2),
        proven=False,
    ),
    Claim(
        "sinkhorn.bias.bound",
        "The cost of the entropic plan exceeds the optimal cost by at most reg min(H(a), H(b)).",
        "derived from I(P) <= min(H(a), H(b)); compare Altschuler, Weed and Rigollet 2017",
        "largest excess over its bound",
        Criterion(high=1.0),
    ),
    Claim(
        "sinkhorn.bias.sign",
        "The cost of the entropic plan is not below the optimal cost.",
        "definition of the optimum; the linear program is solved by HiGHS to 1e-7",
        "smallest excess",
        Criterion(low=-1e-7),
    ),
    Claim(
        "sinkhorn.bias.order",
        "The excess falls at least in proportion to reg as reg goes to 0.",
        "Cominetti and San Martín 1994; Weed 2018",
        "slope of log(excess) against log(reg), reg <= 0.01",
        Criterion(low=0.9),
        proven=False,
    ),
    Claim(
        "sinkhorn.bounds",
        "The certified bounds of every answer enclose the optimal cost of the linear program.",
        "weak duality: c-transforms below, rounding above",
        "largest distance of the optimal cost from the interval",
        Criterion(high=1e-8),
    ),
    Claim(
        "sinkhorn.anderson",
        "Anderson acceleration needs at most a quarter of the passes over the cost at reg = 0.002 of the cost range.",
        "promise of this library, from a prototype",
        "largest ratio of passes, accelerated over plain, to an l1 error of 1e-8",
        Criterion(high=0.25),
    ),
    Claim(
        "sinkhorn.overrelaxation",
        "Adaptive over-relaxation reaches the rate of the best factor, w - 1 with w = 2 / (1 + sqrt(1 - rate)).",
        "Thibault et al. 2017 (arXiv 1711.01851); Lehmann et al. 2021 (arXiv 2012.12562)",
        "smallest ratio of the logarithms, observed rate over best rate",
        Criterion(low=0.7),
        proven=False,
    ),
)

_LABELS = {"none": "plain", "overrelaxation": "over-relaxation", "anderson": "Anderson"}


def _cases(scale: str) -> list[Row]:
    regs = [1.0, 0.3, 0.1, 0.03, 0.01]
    n_rate, n_bias, repeats = (150, 50, 1) if scale == "quick" else (400, 200, 3)
    plain, every = {"method": ["none"], "tol": [1e-12]}, {"method": list(_LABELS), "tol": [1e-8]}
    return [
        *product(part=["rate"], n=[n_rate], reg=regs, repeat=range(repeats), **plain),
        *product(part=["bias"], n=[n_bias], reg=[*regs[2:], 0.003, 0.001], repeat=range(repeats)),
        *product(part=["acceleration"], n=[600], reg=[0.002], repeat=range(3), **every),
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    cost, a, b = make_transport("cloud2d", case["n"], rng=rng)[:3]
    arrays, reg = to_device((cost, a, b), backend), case["reg"]
    if case["part"] == "bias":
        return _excess(transport.solve(*arrays, reg=reg, tol=1e-9, maxiter=100_000), cost, a, b, reg)
    method = None if case["method"] == "none" else case["method"]
    result = transport.sinkhorn(*arrays, reg=reg, acceleration=method, tol=case["tol"], maxiter=20_000, check_every=1)
    errors = result.history["stop"]
    return {
        "rate": _observed_rate(errors),
        "local_rate": _local_rate(to_numpy(result.plan.toarray()), a, b),
        "birkhoff": math.tanh(_hilbert_diameter(cost) / (4.0 * reg)) ** 2,
        "sweeps": result.nit,
        "passes": result.counts["passes"],
        "errors": errors[:: len(errors) // 200 + 1],
    }


def _excess(result: transport.TransportResult, cost: np.ndarray, a: np.ndarray, b: np.ndarray, reg: float) -> Row:
    lower, upper = (float(bound) for bound in result.lp_bounds)
    optimum = _linear_program(cost, a, b)
    return {
        "excess": float(result.value_linear) - optimum,
        "bound": reg * min(_entropy(a), _entropy(b)),
        "optimum": optimum,
        "lower": lower,
        "upper": upper,
        "success": result.success,
    }


def _observed_rate(errors: list[float]) -> float:
    """Contraction per sweep: slope of the second half of the log errors, those above the rounding level."""
    logs = np.log([error for error in errors if error > 1e-11])
    tail = logs[len(logs) // 2 :] if len(logs) >= 6 else logs[-3:]
    return float(np.exp(np.polyfit(np.arange(len(tail)), tail, 1)[0]))


def _local_rate(plan: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    scaled = plan / np.sqrt(a)[:, None] / np.sqrt(b)
    return float(np.linalg.svd(scaled, compute_uv=False)[1] ** 2)


def _hilbert_diameter(cost: np.ndarray) -> float:
    return max(float(np.max(np.ptp(cost - row, axis=1))) for row in cost)


def _entropy(weights: np.ndarray) -> float:
    positive = weights[weights > 0.0]
    return float(-np.sum(positive * np.log(positive)))


def _linear_program(cost: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    n, m = cost.shape
    rows, columns = kron(eye_array(n), np.ones((1, m))), kron(np.ones((1, n)), eye_array(m))
    return linprog(cost.ravel(), A_eq=vstack([rows, columns]).tocsr(), b_eq=np.concatenate([a, b]), method="highs").fun


def _best_rate(rate: float) -> float:
    """Rate of the best over-relaxation, from the rate of plain sweeps."""
    return 2.0 / (1.0 + math.sqrt(1.0 - rate)) - 1.0


def _part(rows: list[Row], part: str) -> list[Row]:
    return [row for row in rows if row["part"] == part]


def _slope(rows: list[Row], value: Callable[[Row], float]) -> float | None:
    regs = [row["reg"] for row in rows]
    return log_slope(regs, [value(row) for row in rows]) if len(set(regs)) > 1 else None


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    rate, bias, accelerated = (_part(rows, part) for part in ("rate", "bias", "acceleration"))
    settled = [row for row in rate if row["sweeps"] >= 10]
    passes = {(row["method"], row["repeat"]): row["passes"] for row in accelerated}
    anderson = [passes[key] / passes["none", key[1]] for key in passes if key[0] == "anderson"]
    relaxed = [row for row in accelerated if row["method"] == "overrelaxation"]
    measured = {
        "rate.birkhoff": max((row["rate"] / row["birkhoff"] for row in rate), default=None),
        "rate.local": max((abs(_ratio(row["rate"], row["local_rate"]) - 1.0) for row in settled), default=None),
        "rate.reg": _slope([row for row in rate if row["reg"] <= 0.1], lambda row: -math.log(row["rate"])),
        "bias.bound": max((row["excess"] / row["bound"] for row in bias), default=None),
        "bias.sign": min((row["excess"] for row in bias), default=None),
        "bias.order": _slope([row for row in bias if row["reg"] <= 0.01], lambda row: max(row["excess"], 1e-12)),
        "bounds": max(
            (max(row["lower"] - row["optimum"], row["optimum"] - row["upper"]) for row in bias), default=None
        ),
        "anderson": max(anderson, default=None),
        "overrelaxation": min((_ratio(row["rate"], _best_rate(row["local_rate"])) for row in relaxed), default=None),
    }
    return judge(CLAIMS, {f"sinkhorn.{name}": value for name, value in measured.items()})


def _ratio(rate: float, other: float) -> float:
    return math.log(rate) / math.log(other)


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about, as far as there are rows."""
    drawings = {
        "sinkhorn.rate.birkhoff": ("rate", _plot_rate),
        "sinkhorn.bias.bound": ("bias", _plot_bias),
        "sinkhorn.bounds": ("bias", _plot_bounds),
        "sinkhorn.anderson": ("acceleration", _plot_acceleration),
    }
    parts = {claim: sorted(_part(rows, part), key=lambda row: row["reg"]) for claim, (part, _) in drawings.items()}
    return {claim: drawings[claim][1](part) for claim, part in parts.items() if part}


def _axes(**labels: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(**labels)
    return figure, axes


def _plot_rate(rows: list[Row]) -> Any:
    figure, axes = _axes(
        xlabel="reg (of the cost range)", ylabel="- log of the contraction per sweep", xscale="log", yscale="log"
    )
    regs = [row["reg"] for row in rows]
    for key, style, label in (
        ("rate", "o", "observed"),
        ("local_rate", "-", "local theory"),
        ("birkhoff", "--", "Birkhoff's bound"),
    ):
        axes.plot(regs, [-math.log(min(row[key], 1.0 - 1e-16)) for row in rows], style, label=label)
    axes.set_ylim(bottom=1e-5)
    axes.legend()
    return figure


def _plot_bias(rows: list[Row]) -> Any:
    figure, axes = _axes(
        xlabel="reg (of the cost range)", ylabel="cost of the plan above the optimum", xscale="log", yscale="log"
    )
    regs = [row["reg"] for row in rows]
    axes.plot(regs, [max(row["excess"], 1e-12) for row in rows], "o", label="observed")
    axes.plot(regs, [row["bound"] for row in rows], "--", label="reg min(H(a), H(b))")
    axes.legend()
    return figure


def _plot_bounds(rows: list[Row]) -> Any:
    figure, axes = _axes(xlabel="reg (of the cost range)", ylabel="bound minus optimal cost", xscale="log")
    regs = [row["reg"] for row in rows]
    for key, style in (("upper", "v"), ("lower", "^")):
        axes.plot(regs, [row[key] - row["optimum"] for row in rows], style, label=f"{key} bound")
    axes.axhline(0.0, linewidth=1.0, color="gray")
    axes.set_yscale("symlog", linthresh=1e-4)
    axes.legend()
    return figure


def _plot_acceleration(rows: list[Row]) -> Any:
    figure, axes = _axes(xlabel="passes over the cost", ylabel="l1 error of the marginals", xscale="log", yscale="log")
    for method, label in _LABELS.items():
        for row in (row for row in rows if row["method"] == method and row["repeat"] == 0):
            axes.plot(np.linspace(1, row["passes"], len(row["errors"])), row["errors"], label=label)
    axes.legend()
    return figure
