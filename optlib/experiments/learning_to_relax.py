"""Learning to relax: the relaxation of SOR, chosen by a bandit while it solves one system after the other."""

from typing import Any

import numpy as np

from optlib.backend import array_namespace
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge
from optlib.linop import as_linear_operator
from optlib.linop.sor import compressed_rows, sor_sweeps
from optlib.online import OnlineTuner

TITLE = "Learning to relax"

_PAPER = "arXiv:2310.02246"
CLAIMS = (
    Claim(
        "learning_to_relax.fixed",
        "Without knowing the systems, the bandit is nearly as good as the best relaxation fixed in hindsight.",
        f"{_PAPER}, figure 2",
        "largest ratio of its mean iterations to those of the best fixed relaxation",
        Criterion(high=1.4),
    ),
    Claim(
        "learning_to_relax.uniform",
        "It is much better than relaxations drawn at random.",
        f"{_PAPER}, figure 2",
        "largest ratio of its mean iterations to the mean over the grid",
        Criterion(high=0.6),
    ),
    Claim(
        "learning_to_relax.context",
        "Told the diagonal shift of each system, the contextual bandit beats every fixed relaxation.",
        f"{_PAPER}, figure 3",
        "largest ratio of its mean iterations to those of the best fixed relaxation",
        Criterion(high=1.0),
        proven=False,
    ),
)

_SIDE, _GRID, _TOL = 10, np.linspace(1.0, 1.95, 20), 1e-8
_SHIFTS = {"high": (0.5, 1.5), "low": (2.0, 6.0)}
_NUMPY = array_namespace()


def _cases(scale: str) -> list[Row]:
    rounds, judged, repeats = (2000, 150, 1) if scale == "quick" else (5000, 5000, 4)
    return [
        {"variance": variance, "rounds": rounds, "judged": judged, "repeat": repeat}
        for variance in _SHIFTS
        for repeat in range(repeats)
    ]


class _Systems:
    """The systems: five-point differences plus a random multiple of the identity, random right sides."""

    def __init__(self, count: int, variance: str, rng: np.random.Generator) -> None:
        n = _SIDE**2
        line = 2.0 * np.eye(_SIDE) - np.eye(_SIDE, k=1) - np.eye(_SIDE, k=-1)
        laplacian = np.kron(line, np.eye(_SIDE)) + np.kron(np.eye(_SIDE), line)
        _, self.rows, _ = compressed_rows(as_linear_operator(laplacian))
        self.diagonal = np.repeat(np.arange(n), np.diff(self.rows.indptr)) == self.rows.indices
        self.shifts = -0.15 + 0.6 * rng.beta(*_SHIFTS[variance], count)
        right = rng.standard_normal((count, n))
        while (long := np.sum(right**2, axis=1) > n).any():  # a Gaussian, truncated to a ball
            right[long] = rng.standard_normal((int(long.sum()), n))
        self.right = right / np.linalg.norm(right, axis=1, keepdims=True)

    def cost(self, t: int, omega: float) -> int:
        """Return the iterations that a system takes."""
        data = self.rows.data + self.shifts[t] * self.diagonal
        start = np.zeros(self.right.shape[1])
        return sor_sweeps(
            data, *self.rows[1:], self.right[t], start, float(omega), 10_000, _TOL**2, xp=_NUMPY
        )[1]  # fmt: skip


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    rounds = case["rounds"]
    systems = _Systems(rounds, case["variance"], rng)
    seed = int(rng.integers(2**32))
    curves = {}
    for name, context in (("bandit", None), ("contextual", (-0.15, 0.45))):
        tuner = OnlineTuner(_GRID, low=1.0, context=context, rng=seed)
        costs = []
        for t in range(rounds):
            costs.append(systems.cost(t, tuner.ask(None if context is None else float(systems.shifts[t]))))
            tuner.tell(costs[-1])
        curves[name] = np.cumsum(costs) / np.arange(1, rounds + 1)
    table = np.array([[systems.cost(t, omega) for omega in _GRID] for t in range(case["judged"])])
    fixed = table.mean(axis=0)
    return {
        "bandit": float(curves["bandit"][-1]),
        "contextual": float(curves["contextual"][-1]),
        "fixed": fixed.tolist(),
        "each": float(table.min(axis=1).mean()),
        "curves": {name: curve[:: rounds // 50].tolist() for name, curve in curves.items()},
    }


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""

    def worst(name: str, reference: Any) -> float | None:
        return max((row[name] / reference(row["fixed"]) for row in rows), default=None)

    measured = {
        "fixed": worst("bandit", min),
        "uniform": worst("bandit", np.mean),
        "context": worst("contextual", min),
    }
    return judge(CLAIMS, {f"learning_to_relax.{name}": value for name, value in measured.items()})


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw what the claims are about."""
    from matplotlib.figure import Figure

    figures = {}
    for variance, claim in (("high", "learning_to_relax.fixed"), ("low", "learning_to_relax.context")):
        figure = Figure()
        axes = figure.add_subplot()
        axes.set(xlabel="systems", ylabel="mean iterations", yscale="log", title=f"shifts of {variance} variance")
        for row in (row for row in rows if row["variance"] == variance and row["repeat"] == 0):
            t = 1 + np.arange(len(row["curves"]["bandit"])) * (row["rounds"] // 50)
            for name, curve in row["curves"].items():
                axes.plot(t, curve, label=name)
            for label, value in (("best fixed", min(row["fixed"])), ("random", np.mean(row["fixed"])),
                                 ("best for each", row["each"])):  # fmt: skip
                axes.axhline(value, linestyle=":", label=label)
            axes.legend()
        figures[claim] = figure
    return figures
