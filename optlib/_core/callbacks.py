"""Ready-made callbacks."""

import math
from typing import Any

from optlib._core.result import Result


class progress:  # noqa: N801 - used like a function
    """Progress bar of a run, drawn by rich: pass it as ``callback=optlib.progress()``.

    The bar shows how far the stopping quantity has come down towards the tolerance on a logarithmic scale, or the
    share of ``maxiter`` if that is further.

    Parameters
    ----------
    label : str
        Text before the bar.

    Raises
    ------
    ImportError
        If rich is not installed (it is part of the extra ``experiments``).
    """

    def __init__(self, label: str = "") -> None:
        try:
            from rich import progress as bars
        except ImportError as failure:
            raise ImportError("optlib.progress needs rich. Fix: pip install 'optlib[experiments]'.") from failure
        self._label = label
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.TextColumn("{task.fields[info]}"),
            bars.TimeElapsedColumn(),
        )
        self._task: Any = None
        self._first = math.nan

    def __call__(self, intermediate_result: Result) -> None:
        now = intermediate_result
        stop, tol = now.history["stop"][-1], now.tol
        if self._task is None:
            self._task = self._bar.add_task(self._label or now.method, total=1.0, info="")
            self._bar.start()
        if math.isnan(self._first) and stop > 0:
            self._first = stop
        share = now.nit / now.maxiter if now.maxiter else 1.0
        if tol and 0 < stop < self._first:
            share = max(share, math.log(self._first / stop) / math.log(self._first / tol) if self._first > tol else 1.0)
        self._bar.update(self._task, completed=min(1.0, share), info=f"iteration {now.nit}, {stop:.2e}")

    def close(self) -> None:
        """Finish the bar; the driver calls it at the end of the run."""
        if self._task is not None:
            self._bar.stop()
            self._task = None
