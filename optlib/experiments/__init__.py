"""Claims of papers, checked by running them, and the tour of what the library does.

An experiment is one module of this package that defines ``TITLE``, ``CLAIMS``, ``run``, ``check`` and ``plot``; being
there is all that it takes to appear in ``optlib list``, ``optlib run`` and ``optlib report``::

    TITLE = "Halving halves"
    CLAIMS = (Claim("halving.ratio", "Halving a number halves it.", "Euclid", "largest ratio", Criterion(0.5, 0.5)),)


    @grid(lambda scale: product(number=range(1, 5 if scale == "quick" else 50)))
    def run(case, backend, rng):  # one row of JSON values
        return {"half": case["number"] / 2}


    def check(rows):  # a Verdict per claim, from whatever rows there are
        return judge(CLAIMS, {"halving.ratio": max((row["half"] / row["number"] for row in rows), default=None)})


    def plot(rows):  # a matplotlib Figure per claim id
        ...

Every claim's criterion is fixed before it is run and is never tuned afterwards.
"""

import pkgutil
from importlib import import_module
from types import ModuleType

from optlib.experiments.claims import Claim, Criterion, Grid, Verdict, grid, judge, log_slope, product

__all__ = ["Claim", "Criterion", "Grid", "Verdict", "experiments", "grid", "judge", "log_slope", "product"]


def experiments() -> dict[str, ModuleType]:
    """All experiment modules by name: those modules of this package that define ``CLAIMS``."""
    modules = (import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__) if not info.ispkg)
    return {module.__name__.rpartition(".")[2]: module for module in modules if hasattr(module, "CLAIMS")}
