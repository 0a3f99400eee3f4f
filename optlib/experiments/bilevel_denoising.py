"""Learned denoisers: total variation against grids, from any start, in time; MAID's first accuracy; learned filters."""

import math
import time
from functools import partial
from typing import Any

import numpy as np

from optlib.backend import to_device, to_numpy
from optlib.bilevel import (
    FieldsOfExpertsProblem,
    TotalVariationProblem,
    hoag,
    hypergradient,
    maid,
    quasi_newton,
    scalar,
    tune,
)  # fmt: skip
from optlib.datasets import load_photographs
from optlib.experiments._series import largest
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product
from optlib.experiments.tour.camera import grey_square

TITLE = "Denoisers learned from pairs of images"

_MAID = "arXiv:2308.10098"
CLAIMS = (
    Claim(
        "bilevel_denoising.weight",
        "The tuned weight of the total variation of signals is as good as the best of a grid ...",
        f"{_MAID}, numerical experiments",
        "largest loss / least of 17 weights",
        Criterion(high=1.02),
    ),
    Claim(
        "bilevel_denoising.smoothing",
        "... and so are weight and smoothing tuned together.",
        f"{_MAID}, numerical experiments",
        "largest loss / least of 17 x 9 weights and smoothings",
        Criterion(high=1.02),
    ),
    Claim(
        "bilevel_denoising.psnr",
        "Tuned by the loss, signals are as clean as with the best of the grid.",
        f"{_MAID}, numerical experiments",
        "least difference of the peak signal to noise ratios, in decibel",
        Criterion(low=-0.5),
    ),
    Claim(
        "bilevel_denoising.maid",
        "MAID, whose descent is proven, gets there from any first accuracy, 1e-1, 1e-3 or 1e-5 ...",
        f"{_MAID}, numerical experiments",
        "largest loss / least of 17 x 9 weights and smoothings",
        Criterion(high=1.02),
    ),
    Claim(
        "bilevel_denoising.maid.psnr",
        "... also in the quality of the signals.",
        f"{_MAID}, numerical experiments",
        "least difference of the peak signal to noise ratios, in decibel",
        Criterion(low=-0.5),
    ),
    Claim(
        "bilevel_denoising.maid.photograph",
        "On photographs too MAID ends at the same loss whatever the first accuracy, with total variation ...",
        f"{_MAID}, total variation experiment",
        "largest / smallest loss",
        Criterion(high=1.1),
        proven=False,
    ),
    Claim(
        "bilevel_denoising.maid.experts",
        "... and with a field of experts after a budget of inner iterations, ...",
        f"{_MAID}, field of experts experiment",
        "largest / smallest loss",
        Criterion(high=1.1),
        proven=False,
    ),
    Claim(
        "bilevel_denoising.maid.hoag",
        "... where it is ahead of HOAG, with any of its schedules.",
        f"{_MAID}, field of experts experiment",
        "largest loss of MAID / smallest of HOAG",
        Criterion(high=1.0),
        proven=False,
    ),
    Claim(
        "bilevel_denoising.seconds",
        "On a photograph of 256 x 256 pixels the weight is tuned in less than 10 seconds from anywhere in its box.",
        "this library",
        "longest time in seconds",
        Criterion(high=10.0),
    ),
    Claim(
        "bilevel_denoising.starts",
        "All starts end at the same loss.",
        "this library",
        "largest / least loss",
        Criterion(high=1.001),
    ),
    Claim(
        "bilevel_denoising.experts",
        "Filters learned on one photograph are better than total variation on the other.",
        "Chen, Ranftl, Pock 2014",
        "least gain in decibel",
        Criterion(low=0.0),
        proven=False,
        note="Filters fit the photograph that they are learned on better than total variation, by 0.1 to 0.5 "
        "dB, and the other one worse, by 0.2 to 0.7 dB at 64 x 64, after 20 or 200 steps, and also when "
        "six more photographs are there to learn from: eight convex filters of 3 x 3 hold less than the "
        "source's 48 of 7 x 7 with a penalty that is not convex.",
    ),
)

NOISE = 0.1
ACCURACIES = (1e-1, 1e-3, 1e-5)
WEIGHTS, SMOOTHINGS = np.linspace(-3.0, 1.0, 17), np.linspace(-5.0, -1.0, 9)  # logarithms


def _cases(scale: str) -> list[Row]:
    quick = scale == "quick"
    side = 64 if quick else 256
    every = 3 if quick else 1
    cases: list[Row] = [{"study": "signals", "every": every, "repeat": k} for k in range(1 if quick else 10)]
    starts = (-8.0, 4.0) if quick else (-8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0)
    cases += [{"study": "photograph", "side": side, "start": start} for start in starts]
    repeats = range(1 if quick else 3)
    first = ACCURACIES[::2] if quick else ACCURACIES
    variation = {"side": [12 if quick else 128], "tol": [1e-2 if quick else 1e-3], "repeat": repeats}
    cases += product(study=["variation"], eps=first, **variation)
    experts = {"side": [12 if quick else 64], "budget": [1500 if quick else 30_000], "repeat": repeats}
    cases += product(study=["experts"], eps=ACCURACIES, **experts)
    cases += product(study=["hoag"], schedule=("exponential", "quadratic", "cubic"), **experts)
    cases += [
        {"study": "unseen", "learned": learned, "side": 32 if quick else 128, "steps": 5 if quick else 60, "repeat": k}
        for learned in ("china", "flower")
        for k in repeats
    ]
    return cases


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    return _STUDIES[case["study"]](case, partial(to_device, backend=backend), rng)


def signals(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Five signals of 256 values on 8 levels, with noise and without."""
    clean = np.repeat(rng.random((5, 8)), 32, axis=1)
    return clean + NOISE * rng.standard_normal(clean.shape), clean


def _signals(case: Row, move: Any, rng: np.random.Generator) -> Row:
    pair = [move(u) for u in signals(rng)]
    one, both = TotalVariationProblem(*pair, smoothing=math.exp(SMOOTHINGS[0])), TotalVariationProblem(*pair)
    weights, smoothings = WEIGHTS[:: case["every"]], SMOOTHINGS[:: case["every"]]
    values = np.empty((weights.size, smoothings.size))
    y, best = None, None
    for k, smoothing in enumerate(smoothings):
        for j, weight in enumerate(weights):
            found = hypergradient(both, move(np.array([weight, smoothing])), y=y, tol=1e-6)
            values[j, k], y = found.value, found.y
            best = found if best is None or found.value < best.value else best
    box = [move(np.array([side[0], side[1]])) for side in zip(WEIGHTS[[0, -1]], SMOOTHINGS[[0, -1]], strict=True)]
    weight = scalar(one, bounds=(WEIGHTS[0], WEIGHTS[-1]))
    pairs = quasi_newton(both, bounds=box)
    descents = [maid(both, bounds=box, eps=eps, delta=eps) for eps in ACCURACIES]
    return {
        "maid": float(max(found.fun for found in descents) / values.min()),
        "maid_psnr": min(both.psnr(found.y) for found in descents),
        "proven": all(found.success and found.certificate.proof for found in descents),
        "values": values.tolist(), "noisy": both.psnr(both.noisy), "best": both.psnr(best.y),
        "psnr": min(both.psnr(weight.y), both.psnr(pairs.y)), "weight": float(weight.fun / values[:, 0].min()),
        "smoothing": float(pairs.fun / values.min()), "x": to_numpy(pairs.x).tolist(),
        "signal": to_numpy(pairs.y)[0].tolist(),
    }  # fmt: skip


def _pair(name: str, side: int, move: Any, rng: np.random.Generator) -> list[Any]:
    """The middle of a photograph in grey, with noise and without."""
    clean = grey_square(load_photographs()[name], side)[None]
    return [move(u) for u in (clean + NOISE * rng.standard_normal(clean.shape), clean)]


def _photograph(case: Row, move: Any, rng: np.random.Generator) -> Row:
    problem = TotalVariationProblem(*_pair("china", case["side"], move, rng), smoothing=0.01)
    x = move(np.array([math.log(problem.noise) + case["start"]]))
    problem.at(*problem.start()).hvp(problem.inner(*problem.start())[2])  # compiled before the clock runs
    clock = time.perf_counter()
    found = tune(problem, x, method="scalar")
    return {
        "time": time.perf_counter() - clock, "loss": found.fun, "certified": bool(found.success),
        "psnr": problem.psnr(found.y), "noisy": problem.psnr(problem.noisy), "x": float(found.x[0]),
    }  # fmt: skip


def _variation(case: Row, move: Any, rng: np.random.Generator) -> Row:
    problem = TotalVariationProblem(*_pair("china", case["side"], move, rng))
    found = maid(problem, eps=case["eps"], delta=case["eps"], tol=case["tol"])
    return {
        "loss": found.fun, "gradients": found.counts["gradients"], "proven": bool(found.success),
        "psnr": problem.psnr(found.y),
    }  # fmt: skip


def _experts(case: Row, move: Any, rng: np.random.Generator) -> Row:
    """MAID or HOAG on a field of experts, stopped by the number of inner iterations; constants as the authors do."""
    problem = FieldsOfExpertsProblem(*_pair("china", case["side"], move, rng))
    points, work = [problem.start()[0]], [0]

    def spent(intermediate_result: Any) -> None:
        if intermediate_result.counts["gradients"] > case["budget"]:
            raise StopIteration
        points.append(intermediate_result.x)
        work.append(intermediate_result.counts["gradients"])

    options = {"tol": None, "maxiter": 10_000, "callback": spent, "inner": "accelerated_gradient"}
    if case["study"] == "hoag":
        hoag(problem, schedule=case["schedule"], **options)
    else:
        maid(problem, eps=case["eps"], delta=case["eps"], certified=False, **options)
    kept = range(0, len(points), len(points) // 8 + 1)
    found = [hypergradient(problem, points[k], tol=1e-6) for k in (*kept, -1)]
    return {
        "loss": found[-1].value, "losses": [u.value for u in found], "work": [work[k] for k in (*kept, -1)],
        "psnr": problem.psnr(found[-1].y),
    }  # fmt: skip


def _unseen(case: Row, move: Any, rng: np.random.Generator) -> Row:
    other = "flower" if case["learned"] == "china" else "china"
    pairs = [_pair(name, case["side"], move, rng) for name in (case["learned"], other)]
    psnr = {}
    for name, cls, limits in (
        ("variation", TotalVariationProblem, {}),
        ("experts", FieldsOfExpertsProblem, {"maxiter": case["steps"]}),
    ):
        found = tune(cls(*pairs[0]), **limits)
        test = cls(*pairs[1])
        psnr[name] = test.psnr(test.denoise(found.x)[0])
    return psnr | {"noisy": test.psnr(test.noisy)}


_STUDIES = {
    "signals": _signals, "photograph": _photograph, "variation": _variation, "experts": _experts, "hoag": _experts,
    "unseen": _unseen,
}  # fmt: skip


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""
    found = {name: [row for row in rows if row["study"] == name] for name in _STUDIES}
    losses = [row["loss"] for row in found["photograph"]]

    def by_repeat(study: str) -> dict[int, list[float]]:
        """Losses of each random problem."""
        repeats: dict[int, list[float]] = {}
        for row in found[study]:
            repeats.setdefault(row["repeat"], []).append(row["loss"])
        return repeats

    def spread(study: str) -> float | None:
        return max((max(v) / min(v) for v in by_repeat(study).values()), default=None)

    experts, peers = by_repeat("experts"), by_repeat("hoag")
    measured = {
        "weight": largest([row["weight"] for row in found["signals"]]),
        "smoothing": largest([row["smoothing"] for row in found["signals"]]),
        "psnr": min((row["psnr"] - row["best"] for row in found["signals"]), default=None),
        "maid": largest([row["maid"] for row in found["signals"]]),
        "maid.psnr": min((row["maid_psnr"] - row["best"] for row in found["signals"]), default=None),
        "maid.photograph": spread("variation"),
        "maid.experts": spread("experts"),
        "maid.hoag": max((max(experts[k]) / min(peers[k]) for k in peers if k in experts), default=None),
        "seconds": largest([row["time"] for row in found["photograph"]]),
        "starts": max(losses) / min(losses) if losses else None,
        "experts": min((row["experts"] - row["variation"] for row in found["unseen"]), default=None),
    }
    return judge(CLAIMS, {f"bilevel_denoising.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw the loss over the grid with what was tuned, and the descents on a field of experts."""
    from matplotlib.figure import Figure

    figures = {}
    for row in [row for row in rows if row["study"] == "signals"][:1]:
        figure = Figure()
        axes = figure.add_subplot()
        sides = (side[:: row["every"]] for side in (SMOOTHINGS, WEIGHTS))
        shown = axes.contourf(*sides, np.log10(row["values"]), 20)
        figure.colorbar(shown, label="loss, decimal logarithm")
        axes.plot(row["x"][1], row["x"][0], "r*", markersize=12)
        axes.set(xlabel="log smoothing", ylabel="log weight", title="the tuned pair (star) on the grid")
        figures["bilevel_denoising.smoothing"] = figure
    descents = [row for row in rows if row["study"] in ("experts", "hoag") and row["repeat"] == 0]
    if descents:
        figure = Figure()
        axes = figure.add_subplot()
        axes.set(xlabel="inner iterations", ylabel="loss", yscale="log", title="field of experts, 88 hyperparameters")
        for row in descents:
            name = f"HOAG, {row['schedule']}" if row["study"] == "hoag" else f"MAID, eps {row['eps']:.0e}"
            axes.plot(row["work"], row["losses"], label=name)
        axes.legend()
        figures["bilevel_denoising.maid.hoag"] = figure
    return figures
