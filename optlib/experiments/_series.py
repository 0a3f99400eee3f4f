"""What experiments on iterations share: choosing rows, counting, bands and curves."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from optlib.experiments.claims import Row


def choose(rows: list[Row], **values: Any) -> list[Row]:
    """Rows with these values."""
    return [row for row in rows if all(row.get(key) == value for key, value in values.items())]


def count(row: Row) -> float:
    """Iterations to the tolerance; infinite if it was not reached."""
    return row["iterations"] if row["reached"] else float("inf")


def by_seed(rows: list[Row], length: int) -> list[list[Row]]:
    """Rows of each seed that has all of its cases."""
    seeds: dict[int, list[Row]] = {}
    for row in rows:
        seeds.setdefault(row["repeat"], []).append(row)
    return [found for found in seeds.values() if len(found) == length]


def spread(rows: list[Row], length: int = 3) -> float | None:
    """Largest over smallest count of a seed, the worst seed."""
    counts = [[count(row) for row in found] for found in by_seed(rows, length)]
    return max((max(found) / min(found) for found in counts), default=None)


def largest(values: Sequence[float]) -> float | None:
    """Maximum; None if there is nothing yet."""
    return max(values, default=None)


def share(hits: Sequence[bool]) -> float | None:
    """Share of true values; None if there is nothing yet."""
    return float(np.mean(hits)) if hits else None


def thin(values: Sequence[float], length: int = 200) -> list[float]:
    """At most about ``length`` of the values, evenly spaced."""
    return list(values[:: len(values) // length + 1])


def curves(rows: list[Row], key: str, xscale: str = "linear", ylabel: str = "relative residual") -> Any:
    """Draw ``error`` against ``t``, a line per seed and a colour per value of ``key``."""
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel="iterations", ylabel=ylabel, xscale=xscale, yscale="log")
    for k, value in enumerate(sorted({row[key] for row in rows})):
        for row in choose(rows, **{key: value}):
            name = value if isinstance(value, str) else f"{key} {value:g}"
            axes.plot(
                row["t"], row["error"], color=f"C{k}", linewidth=1.0, alpha=0.7,
                label=name if row["repeat"] == 0 else None,
            )  # fmt: skip
    axes.legend()
    return figure


def bands(
    rows: list[Row], x: str, y: str | Callable[[Row], float], key: str, *, xscale: str = "log", yscale: str = "log",
    xlabel: str = "", ylabel: str = "",
) -> Any:  # fmt: skip
    """Draw the median over seeds of y against x and the band from the least to the largest, a line per ``key``."""
    from matplotlib.figure import Figure

    value = (lambda row: row[y]) if isinstance(y, str) else y
    figure = Figure()
    axes = figure.add_subplot()
    axes.set(xlabel=xlabel or x, ylabel=ylabel, xscale=xscale, yscale=yscale)
    for k, name in enumerate(sorted({row[key] for row in rows})):
        places = sorted({row[x] for row in rows if row[key] == name})
        groups = [[value(row) for row in choose(rows, **{key: name, x: place})] for place in places]
        finite = [(p, [v for v in g if np.isfinite(v)]) for p, g in zip(places, groups, strict=True)]
        finite = [(p, g) for p, g in finite if g]
        if finite:
            places, groups = zip(*finite, strict=True)
            label = name if isinstance(name, str) else f"{key} {name:g}"
            axes.plot(places, [np.median(g) for g in groups], "o-", color=f"C{k}", label=label)
            axes.fill_between(places, [min(g) for g in groups], [max(g) for g in groups], color=f"C{k}", alpha=0.2)
    axes.legend()
    return figure
