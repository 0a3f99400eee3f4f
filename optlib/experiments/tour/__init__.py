"""The tour: what the library does, on real data, as one page.

A stage is one module of this package with ``TITLE`` and ``run(context) -> list of HTML pieces`` (see
`optlib.experiments.tour.colours`), and its name in `STAGES`.
"""

from optlib.experiments.tour._run import STAGES, Context, take_tour

__all__ = ["STAGES", "Context", "take_tour"]
