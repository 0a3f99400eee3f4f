"""The penalty of bilevel optimization: bias, extrapolation, lower bound, and merely convex inner problems."""

from functools import partial
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.bilevel import CounterexampleProblem, QuadraticProblem, RidgeProblem, hypergradient, penalty
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, log_slope

TITLE = "Bilevel optimization by a penalty and gradients alone"

_SOURCE = "arXiv:2309.01753"
CLAIMS = (
    Claim(
        "bilevel_penalty.gradient",
        "The gradient of the penalty differs from the hypergradient by O(sigma).",
        f"{_SOURCE}, Theorem 3.8",
        "slope of the error over sigma in a log-log plot, farthest from 1",
        Criterion(0.9, 1.1),
    ),
    Claim(
        "bilevel_penalty.value",
        "Its value differs from the hyper-objective by O(sigma) ...",
        f"{_SOURCE}, Theorem 3.8",
        "slope of the error over sigma in a log-log plot, farthest from 1",
        Criterion(0.9, 1.1),
    ),
    Claim(
        "bilevel_penalty.below",
        "... and never exceeds it.",
        f"{_SOURCE}, section 3",
        "largest (penalty - hyper-objective) / |hyper-objective|",
        Criterion(high=1e-9),
    ),
    Claim(
        "bilevel_penalty.richardson",
        "Extrapolated from sigma and sigma / 2 the gradient differs by O(sigma^2).",
        "this library",
        "slope of the error over sigma in a log-log plot, farthest from 2",
        Criterion(1.8, 2.2),
    ),
    Claim(
        "bilevel_penalty.end",
        "Halving sigma halves the hypergradient at the point where the method ends.",
        f"{_SOURCE}, Theorem 4.1",
        "|hypergradient| at sigma / that at sigma / 2, farthest from 2",
        Criterion(1.8, 2.2),
    ),
    Claim(
        "bilevel_penalty.convex",
        "On the counter-example with many inner minimisers the gradient is (x - x*) / (1 + sigma) for every sigma ...",
        "derived here",
        "largest relative error",
        Criterion(high=1e-6),
    ),
    Claim(
        "bilevel_penalty.convex.end",
        "... and the method ends at the solution, where unrolled gradient steps end at half of it.",
        "Liu et al. 2020, section 3; derived here",
        "largest |x - x*|",
        Criterion(high=5e-3),
    ),
)

_SIGMAS = (1e-1, 3e-2, 1e-2, 3e-3)


def _cases(scale: str) -> list[Row]:
    repeats = range(2 if scale == "quick" else 10)
    cases: list[Row] = [{"study": "quadratic", "repeat": k} for k in repeats]
    cases += [{"study": "ridge", "repeat": k} for k in repeats]
    cases += [{"study": "end", "repeat": k} for k in repeats]
    cases += [{"study": "convex", "sigma": sigma} for sigma in (1.0, 0.1, 1e-2, 1e-3)]
    return cases


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    return _STUDIES[case["study"]](case, partial(to_device, backend=backend), rng)


def _errors(make: Any, case: Row, move: Any, rng: np.random.Generator) -> Row:
    problem = move(make(rng))
    x = problem.start()[0] + move(0.5 * rng.standard_normal(problem.start()[0].shape))
    exact = hypergradient(problem, x, tol=1e-12)
    gradients, values, extrapolated = [], [], []
    for sigma in _SIGMAS:
        for richardson in (False, True):
            found = penalty(problem, x, sigma=sigma, richardson=richardson, inner_tol=1e-9, maxiter=0, record=False)
            error = float(np.linalg.norm(to_numpy(found.hypergradient - exact.gradient)))
            (extrapolated if richardson else gradients).append(error)
            if not richardson:
                values.append(exact.value - found.penalised)
    return {
        "gradients": gradients, "values": values, "extrapolated": extrapolated, "size": abs(exact.value),
    }  # fmt: skip


def _end(case: Row, move: Any, rng: np.random.Generator) -> Row:
    problem = move(QuadraticProblem.random(6, 3, rng=rng))
    sizes = []
    for sigma in (1e-2, 5e-3, 2.5e-3):
        found = penalty(problem, sigma=sigma, richardson=False, inner_tol=1e-6, tol=1e-5, record=False)
        sizes.append(float(np.linalg.norm(to_numpy(hypergradient(problem, found.x, tol=1e-12).gradient))))
    return {"sizes": sizes}


def _convex(case: Row, move: Any, rng: np.random.Generator) -> Row:
    target = rng.standard_normal(50)
    problem = move(CounterexampleProblem(target))
    x = move(2.0 + rng.standard_normal(50))
    options = {"sigma": case["sigma"], "richardson": False}
    found = penalty(problem, x, inner_tol=1e-9, maxiter=0, **options)
    want = (to_numpy(x) - target) / (1.0 + case["sigma"])
    end = penalty(problem, x, **options)
    false = hypergradient(problem, 0.5 * problem.target, mode="reverse").gradient
    return {
        "error": float(np.linalg.norm(to_numpy(found.hypergradient) - want) / np.linalg.norm(want)),
        "distance": float(np.max(np.abs(to_numpy(end.x) - target))),
        "elsewhere": float(np.max(np.abs(to_numpy(false)))),
    }


_STUDIES = {
    "quadratic": partial(_errors, lambda rng: QuadraticProblem.random(6, 3, rng=rng)),
    "ridge": partial(_errors, lambda rng: RidgeProblem.random(20, 4, rng=rng)),
    "end": _end,
    "convex": _convex,
}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    errors = [row for row in rows if row["study"] in ("quadratic", "ridge")]

    def slope(name: str, wanted: float) -> float | None:
        # where sigma is small against the least curvature: the last three
        slopes = [log_slope(_SIGMAS[1:], np.maximum(row[name][1:], 1e-300)) for row in errors]
        return max(slopes, key=lambda v: abs(v - wanted), default=None)

    excess = [-v / row["size"] for row in errors for v in row["values"]]
    ratios = [
        a / b for row in rows if row["study"] == "end" for a, b in zip(row["sizes"], row["sizes"][1:], strict=False)
    ]
    convex = [row for row in rows if row["study"] == "convex"]
    measured = {
        "gradient": slope("gradients", 1.0),
        "value": slope("values", 1.0),
        "below": max(excess, default=None),
        "richardson": slope("extrapolated", 2.0),
        "end": max(ratios, key=lambda v: abs(v - 2.0), default=None),
        "convex": max((row["error"] for row in convex), default=None),
        "convex.end": max((row["distance"] for row in convex), default=None),
    }
    return judge(CLAIMS, {f"bilevel_penalty.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="sigma", ylabel="error of the gradient", xscale="log", yscale="log", title="two random quadratics")
    for row in [row for row in rows if row["study"] == "quadratic"][:1]:
        axes.plot(_SIGMAS, row["gradients"], "o-", label="penalty")
        axes.plot(_SIGMAS, row["extrapolated"], "o-", label="extrapolated")
        axes.legend()
    return {"bilevel_penalty.gradient": figure}
