"""MAID: proven descent whatever the first accuracy, on least squares and on one penalty per weight of a classifier."""

import itertools
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.bilevel import LeastSquaresProblem, MultinomialProblem, hoag, hypergradient, maid
from optlib.datasets import DatasetNotFoundError, load_digits, load_mnist
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product

TITLE = "Adaptively inexact descent on hyperparameters"

_PAPER = "arXiv:2308.10098"
CLAIMS = (
    Claim(
        "bilevel_maid.descent",
        "Every step lowers the exact hyper-objective, which is never computed.",
        f"{_PAPER}, line search",
        "largest relative change of Phi in a step",
        Criterion(high=0.0),
    ),
    Claim(
        "bilevel_maid.bound",
        "The error of every hypergradient is below the bound that is computed with it.",
        f"{_PAPER}, bound of the inexact hypergradient",
        "largest error / bound",
        Criterion(high=1.0 + 1e-6),
    ),
    Claim(
        "bilevel_maid.work",
        "The work does not depend on the first accuracy, 1e-1, 1e-3 or 1e-5.",
        f"{_PAPER}, quadratic experiment",
        "largest / smallest number of inner iterations",
        Criterion(high=1.1),
        proven=False,
    ),
    Claim(
        "bilevel_maid.classifier",
        "Nor does the loss of a classifier that is reached with a budget of inner iterations ...",
        f"{_PAPER}, multinomial logistic experiment",
        "largest / smallest loss",
        Criterion(high=1.1),
        proven=False,
    ),
    Claim(
        "bilevel_maid.hoag",
        "... which is lower than that of HOAG, with any of its schedules.",
        f"{_PAPER}, multinomial logistic experiment",
        "largest loss of MAID / smallest of HOAG",
        Criterion(high=1.0),
        proven=False,
        note="Not while its errors are bounds: the strong convexity of this problem is the least penalty, which "
        "falls as the others are tuned, and with it the accuracies that a proof asks for. The loss is 2.1 "
        "to 2.6 times HOAG's on digits, 1.5 times on MNIST.",
    ),
    Claim(
        "bilevel_maid.hoag.published",
        "It is with what the authors' program takes for the strong convexity, the largest curvature less 1e-3, with "
        "which the errors are no bounds.",
        f"{_PAPER}, multinomial logistic experiment, and the authors' program",
        "largest loss of MAID / smallest of HOAG",
        Criterion(high=1.0),
        proven=False,
        note="On MNIST, by 40 %, and on two of three samples of digits, by 15 and 32 %; on the third it is 8 % "
        "above the best schedule of HOAG. Then no inner problem is solved to the accuracy that the test of "
        "the descent takes for granted.",
    ),
)

_ACCURACIES = (1e-1, 1e-3, 1e-5)
POINTS = 12  # at which the loss of a classifier is measured


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    squares = {"steps": [150 if quick else 600], "repeat": range(1 if quick else 10)}
    cases = product(study=["least squares"], eps=_ACCURACIES, **squares)
    digits = {
        "data": ["digits"],
        "pool": [2 if quick else 1],
        "samples": [100 if quick else 500],
        "budget": [1000 if quick else 30_000],
        "repeat": range(1 if quick else 3),
    }
    mnist = {"data": ["mnist"], "pool": [2], "samples": [500], "budget": [10_000], "repeat": [0]}
    schedules = ("exponential",) if quick else ("exponential", "quadratic", "cubic")
    for images in (digits,) if quick else (digits, mnist):
        cases += product(study=["classifier"], eps=_ACCURACIES[::2] if quick else _ACCURACIES, **images)
        cases += product(study=["hoag"], schedule=schedules, **images)
        cases += product(study=["published"], eps=_ACCURACIES[:1], **images)
    return cases


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case; data that are not on this machine are left out."""
    if case["study"] == "least squares":
        return _least_squares(case, backend, rng)
    try:
        return _classifier(case, backend, rng)
    except DatasetNotFoundError:
        return {"values": [], "work": [], "loss": None}


def _least_squares(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """The problem of the paper, whose hyper-objective and gradient are known in closed form."""
    host = LeastSquaresProblem.random(rng=rng)
    J = -np.linalg.solve(host.H, host.A.T @ host.B)
    values, ratios = [], []

    def look(intermediate_result: Any) -> None:
        s = intermediate_result.state
        x = to_numpy(s.x)
        value, _, grad = host.outer(x, host.response(x))
        values.append(float(value))
        ratios.append(float(np.linalg.norm(to_numpy(s.gradient) - J.T @ grad)) / s.error)

    found = maid(
        to_device(host, backend), eps=case["eps"], delta=case["eps"], step=0.01, tol=None, maxiter=case["steps"],
        callback=look,
    )  # fmt: skip
    return {
        "work": found.counts["gradients"], "bound": max(ratios), "values": values,
        "rise": max((after - before) / before for before, after in itertools.pairwise(values)),
    }  # fmt: skip


class AsPublished(MultinomialProblem):
    """Multinomial regression with what the authors' program takes for the strong convexity."""

    def mu(self, x: Any) -> float:
        """The largest curvature, less 1e-3."""
        return self.lipschitz(x) - 1e-3


def _classifier(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Multinomial logistic regression on digits with one penalty per weight, stopped by the number of gradients."""
    images, labels = load_mnist() if case["data"] == "mnist" else load_digits()
    index, n, pool = rng.permutation(len(labels)), case["samples"], case["pool"]
    side = images.shape[1] // pool
    images = images.reshape(len(labels), side, pool, side, pool).mean(axis=(2, 4))
    X, t = images.reshape(len(labels), -1)[index], labels[index].astype(float)
    cls = AsPublished if case["study"] == "published" else MultinomialProblem
    host = cls(X[:n], t[:n], X[n : 2 * n], t[n : 2 * n], penalty="entry")
    problem = to_device(host, backend)
    x0 = problem.start()[0] - 3.0
    points, work = [to_numpy(x0)], [0]

    def spent(intermediate_result: Any) -> None:
        count = intermediate_result.counts["gradients"]
        if count > case["budget"]:
            raise StopIteration
        if count - work[-1] < case["budget"] / POINTS and work[-1]:
            points.pop(), work.pop()
        points.append(to_numpy(intermediate_result.x))
        work.append(count)

    options = {"tol": None, "maxiter": 10_000, "callback": spent, "inner": "accelerated_gradient"}
    if case["study"] == "hoag":
        hoag(problem, x0, schedule=case["schedule"], **options)
    else:  # constants, and the first step of the published form, as the authors
        first = to_numpy(hypergradient(problem, x0, tol=1e-3).gradient) if case["study"] == "published" else None
        step = None if first is None else first.size**0.5 / float(np.linalg.norm(first))
        maid(problem, x0, eps=case["eps"], delta=case["eps"], certified=False, step=step, **options)
    values = [hypergradient(host, x, mode="cg", tol=1e-6).value for x in points]
    return {"values": values, "work": work, "loss": values[-1]}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    rows = [row for row in rows if row.get("loss", 0.0) is not None]

    def worst(study: str, name: str) -> float | None:
        """Largest / smallest over the first accuracies, the worst of the random problems."""
        repeats: dict[Any, list[float]] = {}
        for row in rows:
            if row["study"] == study:
                repeats.setdefault((row.get("data"), row["repeat"]), []).append(row[name])
        return max((max(v) / min(v) for v in repeats.values()), default=None)

    squares = [row for row in rows if row["study"] == "least squares"]
    loss: dict[str, dict[Any, list[float]]] = {"classifier": {}, "hoag": {}, "published": {}}
    for row in rows:
        if row["study"] in loss:
            loss[row["study"]].setdefault((row["data"], row["repeat"]), []).append(row["loss"])

    def against(study: str) -> float | None:
        """Largest loss / smallest of HOAG, the worst of the random problems."""
        ratios = [max(found) / min(loss["hoag"][k]) for k, found in loss[study].items() if k in loss["hoag"]]
        return max(ratios, default=None)

    measured = {
        "descent": max((row["rise"] for row in squares), default=None),
        "bound": max((row["bound"] for row in squares), default=None),
        "work": worst("least squares", "work"),
        "classifier": worst("classifier", "loss"),
        "hoag": against("classifier"),
        "hoag.published": against("published"),
    }
    return judge(CLAIMS, {f"bilevel_maid.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    squares, classifier = Figure(), Figure()
    left, right = squares.add_subplot(), classifier.add_subplot()
    left.set(xlabel="outer steps", ylabel="Phi", yscale="log", title="least squares")
    right.set(xlabel="inner gradients", ylabel="validation loss", title="digits, a penalty per weight")
    for row in (row for row in rows if row["repeat"] == 0 and row.get("data") != "mnist"):
        if row["study"] == "least squares":
            left.plot(row["values"], label=f"eps {row['eps']:.0e}")
        else:
            name = f"HOAG, {row['schedule']}" if row["study"] == "hoag" else f"MAID, eps {row['eps']:.0e}"
            name += ", as published" if row["study"] == "published" else ""
            right.plot(row["work"], row["values"], label=name)
    for axes in (left, right):
        if axes.lines:
            axes.legend()
    return {"bilevel_maid.work": squares, "bilevel_maid.classifier": classifier}
