"""An experiment as a reader of the documentation would write it, slow enough to be killed."""

import os
import time

from matplotlib.figure import Figure

from optlib.experiments import Claim, Criterion, grid, judge, product

TITLE = "Halving halves"
CLAIMS = (
    Claim("toy.ratio", "Halving a number <halves> it.", "Euclid", "largest ratio", Criterion(0.5, 0.5)),
    Claim(
        "toy.random",
        "A coin shows heads.",
        "folklore",
        "share of heads",
        Criterion(low=2.0),
        proven=False,
        note="A share is at most 1.",
    ),
    Claim("toy.wrong", "A half is a third.", "nobody", "largest ratio", Criterion(high=0.4)),
)


@grid(lambda scale: product(number=range(1, 9 if scale == "quick" else 50), repeat=[0, 1]))
def run(case, backend, rng):
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    return {"half": case["number"] / 2, "draw": rng.random()}


def check(rows):
    ratio = max((row["half"] / row["number"] for row in rows), default=None)
    return judge(CLAIMS, {"toy.ratio": ratio, "toy.random": 0.5 if rows else None, "toy.wrong": ratio})


def plot(rows):
    figure = Figure()
    figure.add_subplot().plot([row["number"] for row in rows], [row["half"] for row in rows])
    return {"toy.ratio": figure}
