"""What a solver returns: result, certificate, history, status."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult


class Status(IntEnum):
    """Why a run ended."""

    CONVERGED = 0
    MAXITER = 1
    MAX_TIME = 2
    NONFINITE = 3
    CALLBACK = 4
    STALLED = 5
    BREAKDOWN = 6


MESSAGES = {
    Status.CONVERGED: "converged",
    Status.MAXITER: "stopped at maxiter before the tolerance was reached",
    Status.MAX_TIME: "stopped at max_time before the tolerance was reached",
    Status.NONFINITE: "stopped because a value is not finite",
    Status.CALLBACK: "stopped by the callback",
    Status.STALLED: "stalled: no further progress (the precision floor, or a tolerance out of reach)",
    Status.BREAKDOWN: "breakdown of the method",
}

KINDS = ("duality_gap", "lp_gap", "stationarity", "hypergradient_error", "regret_bound", "residual")


class ConvergenceError(RuntimeError):
    """Raised by `Result.check` when a run was not successful."""


class HaltError(ValueError):
    """Raised by a method that cannot go on: the run ends at its last point; before the first one, it is an error.

    Attributes
    ----------
    status : Status
        `Status.BREAKDOWN` or `Status.NONFINITE`.
    point : dict
        Arrays to look at, by name: where it happened.
    """

    def __init__(self, text: str, status: Status, **point: Any) -> None:
        super().__init__(text)
        self.status, self.point = status, point


@dataclass(frozen=True)
class Certificate:
    """A computable number that says how good an answer is.

    Attributes
    ----------
    kind : str
        ``"duality_gap"``, ``"lp_gap"``, ``"stationarity"``, ``"hypergradient_error"``, ``"regret_bound"`` or
        ``"residual"``.
    value : float
        The number, in units of the problem: for a gap, the answer is within ``value`` of the optimum.
    scale : float
        The natural unit of ``value``; ``value / scale`` is dimensionless.
    tol : float or None
        The tolerance asked for (None: none was).
    residual : float
        Dimensionless violation of the constraints by the returned point (0 if it is feasible).
    proof : bool
        Whether ``value`` is proven (up to rounding) or a heuristic estimate.
    note : str
        One sentence for the reader.
    """

    kind: str
    value: float
    scale: float = 1.0
    tol: float | None = None
    residual: float = 0.0
    proof: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"`kind`: got {self.kind!r}; expected one of {KINDS}.")

    @property
    def relative(self) -> float:
        """``value / scale``."""
        return self.value / self.scale if self.scale else float(np.sign(self.value)) * np.inf if self.value else 0.0

    @property
    def holds(self) -> bool:
        """Whether value and residual are within the tolerance."""
        return self.tol is not None and self.residual <= self.tol and self.value <= self.tol * self.scale

    def __str__(self) -> str:
        text = f"{self.kind.replace('_', ' ')} {'<=' if self.proof else '~'} {self.value:.3g}"
        text += f" (relative {self.relative:.1e}" + (f", tol {self.tol:.0e})" if self.tol is not None else ")")
        if self.residual:
            text += f", constraint residual {self.residual:.1e}"
        return text + ("" if self.proof else ", heuristic") + (f"; {self.note}" if self.note else "")


class History(Mapping[str, list[float]]):
    """Numbers recorded at the checks of a run: a mapping from names to lists of host floats.

    ``nit`` (iterations done), ``time`` (seconds, without the cost of metrics and callbacks) and ``stop`` (the quantity
    of the stopping rule) are always there; solvers add their own.
    """

    def __init__(self, columns: Mapping[str, list[float]] | None = None) -> None:
        self._columns: dict[str, list[float]] = {k: list(v) for k, v in (columns or {}).items()}

    def append(self, **values: float) -> None:
        """Add one row."""
        for name, value in values.items():
            self._columns.setdefault(name, []).append(float(value))

    def array(self, name: str) -> np.ndarray:
        """Return a column as a float64 NumPy array."""
        return np.asarray(self._columns[name], dtype=np.float64)

    def __getitem__(self, name: str) -> list[float]:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        rows = len(next(iter(self._columns.values()), []))
        return f"History({rows} checks of {', '.join(self._columns)})"


def _complete(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of dictionaries, for results whose fields may still have to be computed."""

    def call(self: "Result", *args: Any) -> Any:
        self.complete()
        return method(self, *args)

    call.__doc__ = f"The method ``{method.__name__}`` of dictionaries, on all fields."
    return call


class Result(OptimizeResult):
    """Result of a solver: a `scipy.optimize.OptimizeResult` with a certificate.

    Attributes
    ----------
    x : array
        The answer, on the backend, device and dtype of the input.
    fun : float
        Objective value at ``x``.
    success : bool
        Whether the certificate holds; derived from nothing else.
    status : Status
        Why the run ended.
    message : str
        The status in words, and which method ran and why.
    method : str
        Name of the method.
    nit : int
        Iterations done, those before a resume included.
    counts : dict
        Calls of each oracle.
    certificate : Certificate
    history : History
    time : float
        Seconds in the solver, without metrics and callbacks.
    state : NamedTuple
        What the method needs to go on; pass the result as ``init`` to continue.
    failed_at : dict
        Only there if a value was not finite or the method broke down: the arrays at which it happened, by name.
    """

    def defer(self, later: Callable[[], dict[str, Any]]) -> None:
        """Set the function that computes the fields that are not there yet; it runs when one of them is asked for."""
        object.__setattr__(self, "_later", later)  # not a field

    @property
    def deferred(self) -> bool:
        """Whether some fields, the certificate among them, are not there yet: it is proven that it holds."""
        return "_later" in self.__dict__

    def complete(self) -> None:
        """Compute the fields that are not there yet."""
        if (later := self.__dict__.pop("_later", None)) is not None:
            for name, value in later().items():
                self.setdefault(name, value)

    def __missing__(self, name: str) -> Any:
        if not self.deferred:
            raise KeyError(name)
        self.complete()
        return self[name]

    keys, values, items, get = _complete(dict.keys), _complete(dict.values), _complete(dict.items), _complete(dict.get)
    __iter__, __len__, __contains__ = _complete(dict.__iter__), _complete(dict.__len__), _complete(dict.__contains__)
    __eq__, __reduce_ex__ = _complete(dict.__eq__), _complete(dict.__reduce_ex__)

    def check(self) -> "Result":
        """Return the result itself, or raise if the run was not successful.

        Raises
        ------
        ConvergenceError
            With the message and the certificate.
        """
        if not self.success:
            raise ConvergenceError(f"{self.method}: {self.message}; certificate: {self.certificate}")
        return self

    def summary(self) -> list[tuple[str, str]]:
        """Rows of the printed form: label and text."""
        fun = self.get("fun")
        rows = [
            ("status", f"{'success' if self.success else 'NO SUCCESS'}: {self.message}"),
            ("certificate", str(self.certificate)),
            ("effort", f"{self.nit} iterations, {self.time:.3g} s" + _counts(self.counts)),
        ]
        return rows if fun is None else [rows[0], ("fun", f"{fun:.10g}"), *rows[1:]]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise AttributeError(
                f"a {type(self).__name__} of {dict.get(self, 'method')} has no field {name!r}"
            ) from None

    def __repr__(self) -> str:
        running = dict.get(self, "status", Status.CONVERGED) is None  # what a callback gets
        effort = f"{self.nit} iterations" + _counts(self.counts)
        rows = [("status", self.message), ("effort", effort)] if running else self.summary()
        width = max(len(label) for label, _ in rows)
        return "\n".join([f"{type(self).__name__} of {self.method}", *(f"  {k.rjust(width)}: {v}" for k, v in rows)])

    __str__ = __repr__


def _counts(counts: Mapping[str, int]) -> str:
    return "".join(f", {n} {name}" for name, n in counts.items())
