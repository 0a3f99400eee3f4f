"""One penalty from any start: what `optlib.bilevel.tune` reaches, and at what cost beside a grid."""

from functools import cache
from typing import Any

import numpy as np
import scipy.sparse

from optlib.backend import to_device, to_numpy
from optlib.bilevel import LogisticProblem, MultinomialProblem, TotalVariationProblem, hypergradient, tune
from optlib.datasets import load_digits
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge

TITLE = "One hyperparameter tuned from any start"

_SEARCH = "this library; inexact gradients: arXiv:1602.02355"
CLAIMS = (
    Claim(
        "bilevel_tune.anywhere",
        "From any of five starts, in boxes as usual, far wider, or without the best value, the search ends "
        "within 1e-4 of a fine grid, or at the edge of the box where the grid ends too.",
        _SEARCH,
        "share of the runs",
        Criterion(low=1.0),
    ),
    Claim(
        "bilevel_tune.honest",
        "What it calls a success is one, and at the edge it says so.",
        _SEARCH,
        "runs that claim what is not so",
        Criterion(high=0.0),
    ),
    Claim(
        "bilevel_tune.cheap",
        "It takes less work than 40 values on a grid, each solved from the last to 1e-5.",
        _SEARCH,
        "products and gradients of the grid / of the search from the usual start, least over the problems",
        Criterion(low=2.0),
        proven=False,
    ),
    Claim(
        "bilevel_tune.corrected",
        "The value corrected by the adjoint has an error of second order.",
        _SEARCH,
        "error of the corrected / of the plain value at a tolerance of 1e-4, largest over the problems",
        Criterion(high=0.1),
        proven=False,
    ),
)

_PROBLEMS = ("breast cancer", "digits", "sparse", "total variation")
_BOXES = ("usual", "wide", "without the best")
_STARTS = 5


def _problem(name: str, quick: bool) -> Any:
    if name == "total variation":
        size = 24 if quick else 96
        clean = np.kron(np.random.default_rng(0).random((6, 6)), np.ones((size // 6, size // 6)))[None]
        noisy = clean + 0.1 * np.random.default_rng(1).normal(size=clean.shape)
        return TotalVariationProblem(noisy, clean, smoothing=0.01)
    made = MultinomialProblem if name == "digits" else LogisticProblem
    return made(*_samples(name, quick), penalty="scalar")


@cache
def _samples(name: str, quick: bool) -> tuple[Any, ...]:
    """Training and validation samples, half each."""
    rng = np.random.default_rng(0)
    if name == "breast cancer":
        from sklearn.datasets import load_breast_cancer

        X, t = load_breast_cancer(return_X_y=True)
        X, t = (X - X.mean(axis=0)) / X.std(axis=0), 2.0 * t - 1.0
    elif name == "digits":
        X, t = load_digits()
        X, t = np.column_stack([X.reshape(len(X), -1), np.ones(len(X))]), t.astype(float)
    else:
        n, d = (400, 150) if quick else (10_000, 2000)
        X = scipy.sparse.random_array((n, d), density=0.01, rng=rng, format="csr", data_sampler=rng.standard_normal)
        w = 2.0 * rng.standard_normal(d) * (rng.random(d) < 0.1)
        t = np.where(X @ w + 0.5 * rng.logistic(size=n) > 0.0, 1.0, -1.0)
    order = rng.permutation(len(t))[: 600 if quick else None]
    half = len(order) // 2
    return X[order[:half]], t[order[:half]], X[order[half:]], t[order[half:]]


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    names = ("breast cancer", "total variation") if quick else _PROBLEMS
    cases: list[Row] = [{"study": "starts", "problem": n, "box": b, "quick": quick} for n in names for b in _BOXES]
    return cases + [{"study": study, "problem": n, "quick": quick} for study in ("cost", "value") for n in names]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    problem = to_device(_problem(case["problem"], case["quick"]), backend)
    return _STUDIES[case["study"]](case, problem)


def _ends(problem: Any) -> tuple[float, float]:
    low, high = (np.min(to_numpy(end)) for end in problem.bounds())
    return float(low), float(high)


def _sweep(problem: Any, values: np.ndarray, tol: float) -> tuple[list[float], int]:
    """Validation losses along a grid, each from the last solution, and the products and gradients they take."""
    x, y, q, found, work = problem.start()[0], None, None, [], 0
    for value in values:
        h = hypergradient(problem, 0.0 * x + float(value), y=y, q=q, tol=tol)
        y, q = h.y, h.q
        found.append(h.value)
        work += h.counts["products"] + h.counts["gradients"]
    return found, work


def _starts(case: Row, problem: Any) -> Row:
    low, high = _ends(problem)
    if case["box"] == "wide":
        low, high = low - 8.0, high + 8.0
    elif case["box"] == "without the best":
        low = float(tune(problem).x[0]) + 2.0
    values = np.linspace(high, low, 41 if case["quick"] else 161)
    best = min(_sweep(problem, values, 1e-6)[0])
    row: Row = {"errors": [], "success": [], "evaluations": [], "work": [], "outside": case["box"] == _BOXES[2]}
    row |= {"edges": [], "found": []}
    for start in np.linspace(low, high, _STARTS):
        res = tune(problem, 0.0 * problem.start()[0] + float(start), bounds=(low, high))
        value = hypergradient(problem, res.x, y=res.y, tol=1e-8).value
        row["errors"].append(max(value / best - 1.0, 0.0))
        row["success"].append(bool(res.success))
        row["edges"].append(int(res.at_bounds))
        row["found"].append(float(res.x[0]))
        row["evaluations"].append(res.counts["evaluations"])
        row["work"].append(res.counts["products"] + res.counts["gradients"])
    return row


def _cost(case: Row, problem: Any) -> Row:
    low, high = _ends(problem)
    counts = tune(problem).counts
    ours = counts["products"] + counts["gradients"]
    return {"ours": ours, "grid": _sweep(problem, np.linspace(high, low, 40), 1e-5)[1]}


def _value(case: Row, problem: Any) -> Row:
    x = tune(problem).x + 1.0  # near the best, but not there: its slope would hide errors of first order
    exact = hypergradient(problem, x, tol=1e-10).value
    row: Row = {"tol": [1e-1, 1e-2, 1e-3, 1e-4], "errors": [], "plain": []}
    for tol in row["tol"]:
        found = hypergradient(problem, x, tol=tol, mode="cg")
        row["errors"].append(abs(found.value - exact))
        row["plain"].append(abs(float(problem.outer(x, found.y)[0]) - exact))
    return row


_STUDIES = {"starts": _starts, "cost": _cost, "value": _value}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    starts = [row for row in rows if row["study"] == "starts"]
    right = [
        error <= 1e-4 and bool(edge) == row["outside"]
        for row in starts
        for error, edge in zip(row["errors"], row["edges"], strict=True)
    ]
    claims = [success for row in starts for success in row["success"]]
    ratios = [row["grid"] / row["ours"] for row in rows if row["study"] == "cost"]
    second = [row["errors"][-1] / row["plain"][-1] for row in rows if row["study"] == "value"]
    measured = {
        "anywhere": sum(right) / len(right) if right else None,
        "honest": sum(c and not r for c, r in zip(claims, right, strict=True)) if right else None,
        "cheap": min(ratios, default=None),
        "corrected": max(second, default=None),
    }
    return judge(CLAIMS, {f"bilevel_tune.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figures = {name: Figure() for name in ("anywhere", "corrected")}
    axes = figures["anywhere"].add_subplot()
    starts = [row for row in rows if row["study"] == "starts"]
    for k, row in enumerate(starts):
        axes.scatter([k] * len(row["evaluations"]), row["evaluations"], s=12, color=f"C{_BOXES.index(row['box'])}")
    axes.set_xticks(range(len(starts)), [f"{row['problem']}\n{row['box']}" for row in starts], rotation=60, ha="right")
    axes.set(ylabel="evaluations, a point for each start", title="from any start")
    axes = figures["corrected"].add_subplot()
    for k, row in enumerate(row for row in rows if row["study"] == "value"):
        axes.plot(row["tol"], row["plain"], ":", color=f"C{k}")
        axes.plot(row["tol"], row["errors"], "o-", color=f"C{k}", label=row["problem"])
    axes.set(xlabel="tolerance", ylabel="error (dotted: before the correction)", xscale="log", yscale="log")
    if axes.lines:
        axes.legend()
    return {f"bilevel_tune.{name}": figure for name, figure in figures.items()}
