"""Blood cells: transport between cell types in the space of gene expression, exact beside regularised."""

from typing import Any, NamedTuple

import numpy as np

from optlib import transport
from optlib.backend import to_device, to_numpy
from optlib.datasets import load_cells
from optlib.datasets.load import Cells
from optlib.experiments import _page as page
from optlib.experiments.tour._run import Context

TITLE = "How far one kind of blood cell is from another"

SOURCE, TARGET = "CD14+ Monocyte", "Dendritic"
REG = 0.02  # in units of the mean cost
REGS = tuple(float(r) for r in np.geomspace(0.5, 0.004, 12))

SNIPPET = """
from optlib import transport

# monocytes (n, 50) and dendritic cells (m, 50): principal components of 765 genes
cost = transport.PointCloud(monocytes, dendritic)
exact = transport.emd(cost)                  # a vertex, with a proof of optimality over every pair
smooth = transport.solve(cost, reg=reg)      # entropic, with a duality gap
print(exact.value, smooth.value_linear, smooth.lp_bounds)
"""

_CREDIT = (
    "Cells: 10x Genomics, “Fresh 68k PBMCs (Donor A)”, "
    '<a href="https://creativecommons.org/licenses/by/4.0/">CC BY 4.0</a>; reduced to 700 cells and mapped to the '
    "plane by scanpy."
)


_COLOURS = ("blue", "cyan", "brown", "pink", "olive", "orange", "red", "gray", "green", "purple")


class _Pair(NamedTuple):
    """Answers for one pair of types."""

    exact: Any
    smooth: Any

    @property
    def distance(self) -> float:
        return float(np.sqrt(max(0.0, self.exact.value)))


def run(context: Context) -> list[str]:
    """Solve all pairs of types, exactly and regularised, and describe the answers.

    Parameters
    ----------
    context : Context
        Backend and folder.

    Returns
    -------
    list of str
        The pieces of the section.
    """
    cells = load_cells()
    types = {name: np.flatnonzero(cells.cell_type == k) for k, name in enumerate(cells.names)}
    clouds = dict(
        zip(types, to_device(tuple(cells.pca[index] for index in types.values()), context.backend), strict=True)
    )
    work = [(s, t) for k, s in enumerate(types) for t in list(types)[:k]]
    pairs = {(s, t): _solve(clouds[s], clouds[t], REG) for s, t in context.track(work, "Pairs of cell types")}
    shown = _solve(clouds[SOURCE], clouds[TARGET], REG)
    path = [_solve_smooth(clouds[SOURCE], clouds[TARGET], reg) for reg in REGS]
    plots = page.render(
        lambda: {
            "map": _plot_map(cells, types, shown.exact.plan),
            "bounds": _plot_bounds(shown.exact, path),
            "distances": _plot_distances(cells.names, pairs),
        }
    )
    return [
        page.paragraph(
            f"{len(cells.pca)} cells of human blood, each a point of 50 dimensions (principal components of its gene "
            f"expression), belong to {len(types)} types. Optimal transport between two types says which cell of one "
            "corresponds to which of the other, and how far the types are apart. With this few cells the exact answer "
            "takes only a moment: here it stands beside a regularised one."
        ),
        page.plot(
            plots["map"],
            f"The exact plan from {SOURCE} cells to {TARGET} cells, computed in 50 dimensions and drawn on the map of "
            "the plane; wider lines carry more mass.",
        ),
        page.heading("Exact beside regularised"),
        page.facts(_facts(shown, pairs)),
        page.plot(
            plots["bounds"],
            "The cost of the regularised plan, and the band that it proves the exact cost to lie in, against the "
            "strength of the regularisation.",
        ),
        page.heading("All pairs of types"),
        page.plot(plots["distances"], "Exact Wasserstein distances; types in the order of a hierarchical clustering."),
        page.table(_rows(pairs), ("closest pairs", "", "exact distance", "regularised", "proven interval")),
        page.heading("What to type"),
        page.code(SNIPPET),
        page.paragraph(f"<small>{_CREDIT}</small>"),
    ]


def _solve(x: Any, y: Any, share: float) -> _Pair:
    cost = transport.PointCloud(x, y)
    return _Pair(transport.emd(cost), _solve_smooth(x, y, share))


def _solve_smooth(x: Any, y: Any, share: float) -> Any:
    """The regularised answer, ``reg`` in units of the mean cost."""
    cost = transport.PointCloud(x, y)
    return transport.solve(cost, reg=share * float(cost.xp.mean(cost.toarray())))


def _facts(shown: _Pair, pairs: dict[tuple[str, str], _Pair]) -> list[tuple[str, str, str]]:
    exact, smooth = shown
    answers = [answer for pair in (*pairs.values(), shown) for answer in pair]
    good = sum(answer.success for answer in answers)
    low, high = smooth.lp_bounds
    seconds = [sum(getattr(pair, name).time for pair in pairs.values()) for name in _Pair._fields]
    inside = all(p.smooth.lp_bounds[0] <= p.exact.value <= p.smooth.lp_bounds[1] for p in pairs.values())
    n, m = exact.plan.shape
    return [
        ("exact cost", f"{exact.value:.4f}", str(exact.certificate)),
        ("cost of the regularised plan", f"{smooth.value_linear:.4f}", f"reg is {REG:g} of the mean cost"),
        ("what it proves", f"{low:.4f} to {high:.4f}", "the exact cost lies in between, from the regularised answer"),
        ("pairs that move", f"{len(to_numpy(exact.plan.entries[2]))}", f"of {n} x {m}; the regularised plan moves all"),
        ("answers certified", f"{good} of {len(answers)}", "exact and regularised, for every pair of types"),
        ("exact cost in the proven interval", "always" if inside else "NOT ALWAYS", f"for {len(pairs)} pairs of types"),
        ("time", f"{seconds[0]:.2f} s and {seconds[1]:.2f} s", f"exact and regularised, {len(pairs)} pairs"),
    ]


def _rows(pairs: dict[tuple[str, str], _Pair], count: int = 6) -> list[tuple[str, ...]]:
    closest = sorted(pairs.items(), key=lambda item: item[1].exact.value)[:count]
    return [
        (
            s,
            t,
            f"{pair.distance:.3f}",
            f"{np.sqrt(pair.smooth.value_linear):.3f}",
            "{:.3f} to {:.3f}".format(*(np.sqrt(max(0.0, bound)) for bound in pair.smooth.lp_bounds)),
        )
        for (s, t), pair in closest
    ]


def _plot_map(cells: Cells, types: dict[str, np.ndarray], plan: Any) -> Any:
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6))
    axes = figure.add_subplot()
    for k, (name, index) in enumerate(types.items()):
        size, alpha = (14, 0.9) if name in {SOURCE, TARGET} else (7, 0.4)
        axes.scatter(
            *cells.umap[index].T, s=size, alpha=alpha, color=f"tab:{_COLOURS[k % 10]}", linewidths=0, label=name
        )
    rows, cols, values = (to_numpy(u) for u in plan.entries)
    ends = np.stack([cells.umap[types[SOURCE]][rows], cells.umap[types[TARGET]][cols]], axis=1)
    axes.add_collection(LineCollection(ends, linewidths=values / values.max(), colors="0.5", alpha=0.25, zorder=0))
    axes.set(xlabel="UMAP 1", ylabel="UMAP 2")
    axes.grid(visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def _plot_bounds(exact: Any, path: list[Any]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.9))
    axes = figure.add_subplot()
    low, high = np.array([answer.lp_bounds for answer in path]).T
    axes.fill_between(REGS, low, high, alpha=0.25, linewidth=0, label="proven interval of the exact cost")
    axes.semilogx(REGS, [answer.value_linear for answer in path], marker=".", label="cost of the regularised plan")
    axes.axhline(exact.value, color="C1", linestyle="--", label="exact cost")
    axes.set(xlabel="reg, in units of the mean cost", ylabel="squared distance")
    axes.legend()
    return figure


def _plot_distances(names: list[str], pairs: dict[tuple[str, str], _Pair]) -> Any:
    from matplotlib.figure import Figure
    from scipy.cluster.hierarchy import average, leaves_list
    from scipy.spatial.distance import squareform

    matrix = np.zeros((len(names), len(names)))
    for (s, t), pair in pairs.items():
        matrix[names.index(s), names.index(t)] = matrix[names.index(t), names.index(s)] = pair.distance
    order = leaves_list(average(squareform(matrix)))
    figure = Figure(figsize=(7.2, 4.8))
    axes = figure.add_subplot()
    image = axes.imshow(matrix[np.ix_(order, order)], cmap="viridis")
    ticks = range(len(names))
    axes.set_xticks(ticks, [names[k] for k in order], rotation=45, ha="right", fontsize=8)
    axes.set_yticks(ticks, [names[k] for k in order], fontsize=8)
    axes.grid(visible=False)
    figure.colorbar(image, label="Wasserstein distance")
    return figure
