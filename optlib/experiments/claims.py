"""What an experiment module is made of: claims, a grid of cases, verdicts."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from optlib.backend.random import as_generator

Row = dict[str, Any]


@dataclass(frozen=True)
class Criterion:
    """The measured number must lie in [low, high]. Fixed before the first run and never tuned afterwards."""

    low: float = -inf
    high: float = inf

    def holds(self, value: float) -> bool:
        """Whether the criterion holds; False for NaN."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if self.low == -inf:
            return f"≤ {self.high:g}"
        if self.high == inf:
            return f"≥ {self.low:g}"
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Claim:
    """One statement that can be checked by measuring.

    Attributes
    ----------
    id : str
        ``"<module>.<name>"``.
    statement : str
        What is claimed, in words.
    source : str
        Paper and theorem, equation or table.
    quantity : str
        What is measured: one number.
    criterion : Criterion
        When the claim holds.
    proven : bool
        True for a theorem or a promise of this library: missing it is a failure. False for an observation that
        somebody published: missing it is reported as "not reproduced".
    note : str
        What is known beyond the number: why the claim is missed where it is, or what its protocol left open.
    """

    id: str
    statement: str
    source: str
    quantity: str
    criterion: Criterion
    proven: bool = True
    note: str = ""

    def judge(self, measured: float | None) -> "Verdict":
        """Compare a measured number with the criterion; None stands for rows that do not exist yet."""
        if measured is None:
            return Verdict(self, None, "not measured")
        measured = float(measured)
        if self.criterion.holds(measured):
            return Verdict(self, measured, "pass")
        return Verdict(self, measured, "fail" if self.proven else "not reproduced")


@dataclass(frozen=True)
class Verdict:
    """A claim, what was measured, and ``"pass"``, ``"fail"``, ``"not reproduced"`` or ``"not measured"``."""

    claim: Claim
    measured: float | None
    status: str


def judge(claims: Iterable[Claim], measured: Mapping[str, float | None]) -> list[Verdict]:
    """Verdicts of all claims from a dictionary of claim id to measured number."""
    return [claim.judge(measured[claim.id]) for claim in claims]


def grid(cases: Callable[[str], Sequence[Row]]) -> Callable[[Callable[..., Row]], "Grid"]:
    """Turn a function that measures one case into the ``run`` of an experiment module.

    Parameters
    ----------
    cases : callable
        ``cases(scale)`` lists the cases, dictionaries of JSON values. An entry ``repeat`` numbers the random problem:
        cases with the same ``repeat`` get the same random numbers.

    Returns
    -------
    callable
        Decorator for ``measure(case, backend, rng) -> dict``, which gives a `Grid`.

    Examples
    --------
    >>> @grid(lambda scale: [{"n": n} for n in (1, 2)])
    ... def run(case, backend, rng):
    ...     return {"square": case["n"] ** 2}
    >>> list(run("quick", "numpy", rng=0))
    [{'n': 1, 'square': 1}, {'n': 2, 'square': 4}]
    >>> list(run("quick", "numpy", rng=0, done=[{"n": 1, "square": 1}]))
    [{'n': 2, 'square': 4}]
    """

    def decorate(measure: Callable[..., Row]) -> Grid:
        return Grid(cases, measure)

    return decorate


class Grid:
    """The ``run`` of an experiment module: one row per case, each case independent of the others.

    Calling it with ``(scale, backend, rng, done=())`` iterates over rows; the cases found in ``done``, rows of an
    interrupted run, are left out, and the others come out as they would have.
    """

    def __init__(self, cases: Callable[[str], Sequence[Row]], measure: Callable[..., Row]) -> None:
        self.cases = cases
        self.measure = measure
        functools.update_wrapper(self, measure)

    def __call__(
        self, scale: str = "quick", backend: str = "numpy", rng: Any = None, *, done: Iterable[Row] = ()
    ) -> Iterator[Row]:
        """Iterate over the rows that are not done yet."""
        root = int(as_generator(rng).integers(2**63))
        done = list(done)
        for case in self.cases(scale):
            if not any(all(row.get(key) == value for key, value in case.items()) for row in done):
                stream = np.random.default_rng([root, case.get("repeat", 0)])
                yield {**case, **self.measure(case, backend, stream)}


def product(**values: Iterable[Any]) -> list[Row]:
    """All combinations of the values, as cases: ``product(reg=(1, 2), repeat=(0,))``."""
    return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Slope of the least-squares line through ``(log x, log y)``."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
