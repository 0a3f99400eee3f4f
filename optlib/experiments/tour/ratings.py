"""Film ratings completed: biases alone against biases and a low-rank part, on ratings that were held out."""

from typing import Any

import numpy as np

from optlib import sensing
from optlib.backend import to_device, to_numpy
from optlib.datasets import Ratings, load_ratings
from optlib.experiments import _page as page
from optlib.experiments.tour._run import Context

TITLE = "What they would say about films that they have not rated"

LEAST = 20  # ratings of everybody and of every film
RANKS = (0, 1, 2, 5, 10)
RIDGE = 1.2
SPLITS, HELD_OUT = 10, 0.1

SNIPPET = """
from scipy.sparse import coo_array
from optlib.sensing import MatrixCompletion

# people, films, stars: three arrays, one entry a rating; what is not stored is missing
table = coo_array((stars, (people, films)))
model = MatrixCompletion(rank=5, ridge=1.2).fit(table)

said = model.predict([[0, 7], [0, 12]])  # person 0 about the films 7 and 12
filled = model.transform(table)  # all that is missing; new rows are folded in
"""

_CREDIT = (
    'Ratings: <a href="https://github.com/sidooms/MovieTweetings">MovieTweetings</a> by Simon Dooms, snapshot 100K, '
    "MIT licence: stars that people tweeted."
)


def run(context: Context) -> list[str]:
    """Fit with growing rank, compare on held-out ratings and describe the answer.

    Parameters
    ----------
    context : Context
        Backend and folder.

    Returns
    -------
    list of str
        The pieces of the section.
    """
    people, films, stars = dense_part(load_ratings(), LEAST)
    shape = (int(people.max()) + 1, int(films.max()) + 1)
    errors: dict[Any, list[float]] = {rank: [] for rank in (*RANKS, "mean")}
    results: list[Any] = []
    for seed in context.track(range(SPLITS), "Completing the table of ratings"):
        order = np.random.default_rng(seed).permutation(stars.size)
        test, train = np.split(order, [round(HELD_OUT * stars.size)])
        unit = float(np.std(stars[train]))
        A = sensing.EntrySampling(people[train], films[train], shape)
        A, y = to_device((A, stars[train] / unit), context.backend)
        for rank in RANKS:
            result = sensing.biased_factorization(A, y, rank=rank, ridge=RIDGE, tol=1e-4)
            said = unit * to_numpy(result.matrix.at(people[test], films[test]))
            errors[rank].append(_rmse(np.clip(said, 0.0, 10.0), stars[test]))
            results.append(result)
        errors["mean"].append(_rmse(np.mean(stars[train]), stars[test]))
    plots = page.render(lambda: {"errors": _plot(errors)})
    return [
        page.paragraph(
            f"{shape[0]} people rated {shape[1]} films, at least {LEAST} each: {stars.size:,} ratings, "
            f"{100.0 * stars.size / (shape[0] * shape[1]):.0f} % of the table. Completion finds how generous each "
            "person is, how good each film is, and a few factors of taste. Every tenth rating was held out to see how "
            f"well that works, {SPLITS} times anew."
        ),
        page.facts(_facts(errors, results)),
        page.plot(
            plots["errors"],
            "Error on held-out ratings less that of biases alone, against the number of factors of taste: the mean and "
            "each of the splits.",
        ),
        page.heading("What to type"),
        page.code(SNIPPET),
        page.paragraph(f"<small>{_CREDIT}</small>"),
    ]


def dense_part(data: Ratings, least: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratings by people and of films with at least ``least`` of them each, numbered anew."""
    kept = np.ones(data.user.size, dtype=bool)
    size = -1
    while size != kept.sum():
        size = kept.sum()
        for index in (data.user, data.item):
            kept &= np.bincount(index[kept], minlength=index.max() + 1)[index] >= least
    people, films = (np.unique(index[kept], return_inverse=True)[1] for index in (data.user, data.item))
    return people, films, data.rating[kept].astype(np.float64)


def _rmse(said: Any, stars: np.ndarray) -> float:
    return float(np.sqrt(np.mean((said - stars) ** 2)))


def _facts(errors: dict[Any, list[float]], results: list[Any]) -> list[tuple[str, str, str]]:
    mean = {name: float(np.mean(found)) for name, found in errors.items()}
    best = min(RANKS, key=mean.__getitem__)
    wins = sum(a < b for a, b in zip(errors[best], errors[0], strict=True))
    good = sum(result.success for result in results)
    return [
        ("answers", f"{good} of {len(results)} certified", str(results[-1].certificate)),
        (
            "error with taste", f"{mean[best]:.3f} stars",
            f"root mean square on held-out ratings, {best} factors; better than without in {wins} of {SPLITS} splits",
        ),
        ("error of biases alone", f"{mean[0]:.3f} stars", "how generous the person, how good the film"),
        ("error of the mean", f"{mean['mean']:.3f} stars", "the same answer for all"),
        ("time", f"{sum(result.time for result in results):.2f} s", f"for all {len(results)} fits"),
    ]  # fmt: skip


def _plot(errors: dict[Any, list[float]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.8))
    axes = figure.add_subplot()
    gains = np.array([errors[rank] for rank in RANKS]) - errors[0]
    axes.plot(range(len(RANKS)), gains, ".", color="C0", alpha=0.5)
    axes.plot(range(len(RANKS)), gains.mean(axis=1), "o-", color="C0")
    axes.set_xticks(range(len(RANKS)), [str(rank) for rank in RANKS])
    axes.set(xlabel="factors of taste", ylabel="difference in stars")
    return figure
