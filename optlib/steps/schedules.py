"""Schedules: functions of the iteration ``k = 0, 1, ...`` only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from optlib._core import validation as check

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same value always.

    Parameters
    ----------
    value : float
        Positive.
    """

    value: float

    def __post_init__(self) -> None:
        check.scalar("value", self.value, low=0.0, low_open=True)

    def __call__(self, k: int) -> float:
        """Return the value at iteration ``k``."""
        return self.value


@dataclass(frozen=True)
class PowerDecay:
    """``max(value / (k + shift)^power, floor)``.

    With the default power 1/2 and ``value = D / G``, the step of online gradient descent; with power 1 and
    ``value = 1 / lam`` or ``2 / lam``, those of strongly convex problems.

    Parameters
    ----------
    value : float
        Positive.
    power : float
        Not negative.
    shift : float
        Positive; with 1 the first value is ``value``.
    floor : float
        Lower bound.

    References
    ----------
    M. Zinkevich, Online convex programming and generalized infinitesimal gradient ascent, 2003. E. Hazan, Introduction
    to Online Convex Optimization, arXiv 1909.05207, chapter 3.

    Examples
    --------
    >>> from optlib.steps import PowerDecay
    >>> [PowerDecay(1.0)(k) for k in (0, 3, 8)]
    [1.0, 0.5, 0.3333333333333333]
    """

    value: float
    power: float = 0.5
    shift: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        check.scalar("value", self.value, low=0.0, low_open=True)
        check.scalar("power", self.power, low=0.0)
        check.scalar("shift", self.shift, low=0.0, low_open=True)
        check.scalar("floor", self.floor, low=0.0)

    def __call__(self, k: int) -> float:
        """Return the value at iteration ``k``."""
        return max(self.value / (k + self.shift) ** self.power, self.floor)


@dataclass(frozen=True)
class LinearDecay:
    """``value (1 - (k + 1) / horizon)``, and 0 from the last iteration on.

    With ``value = D / (G sqrt(horizon))`` the last iterate of the subgradient method has error at most
    ``D G / sqrt(horizon)``: no averaging is needed.

    Parameters
    ----------
    value : float
        Positive.
    horizon : int
        Number of iterations, at least 2.

    References
    ----------
    A. Defazio, A. Cutkosky, H. Mehta, K. Mishchenko, When, why and how much? Adaptive learning rate scheduling by
    refinement, arXiv 2310.07831, corollary 2.

    Examples
    --------
    >>> from optlib.steps import LinearDecay
    >>> [LinearDecay(1.0, 4)(k) for k in range(5)]
    [0.75, 0.5, 0.25, 0.0, 0.0]
    """

    value: float
    horizon: int

    def __post_init__(self) -> None:
        check.scalar("value", self.value, low=0.0, low_open=True)
        check.scalar("horizon", self.horizon, low=2, integer=True)

    def __call__(self, k: int) -> float:
        """Return the value at iteration ``k``."""
        return self.value * max(0.0, 1.0 - (k + 1) / self.horizon)


@dataclass(frozen=True)
class GeometricDecay:
    """``max(value ratio^max(k - hold, 0), floor)``.

    Parameters
    ----------
    value : float
        Positive.
    ratio : float
        In (0, 1].
    hold : int
        Iterations before the decay begins.
    floor : float
        Lower bound.

    References
    ----------
    D. Davis, D. Drusvyatskiy, K. J. MacPhee, C. Paquette, Subgradient methods for sharp weakly convex functions, 2018.

    Examples
    --------
    >>> from optlib.steps import GeometricDecay
    >>> [GeometricDecay(8.0, 0.5, hold=1)(k) for k in range(4)]
    [8.0, 8.0, 4.0, 2.0]
    """

    value: float
    ratio: float
    hold: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        check.scalar("value", self.value, low=0.0, low_open=True)
        check.scalar("ratio", self.ratio, low=0.0, low_open=True, high=1.0)
        check.scalar("hold", self.hold, low=0, integer=True)
        check.scalar("floor", self.floor, low=0.0)

    def __call__(self, k: int) -> float:
        """Return the value at iteration ``k``."""
        return max(self.value * self.ratio ** max(k - self.hold, 0), self.floor)


def as_schedule(step: Any, name: str = "step") -> Schedule:
    """Return a schedule for what users pass as a step size.

    Parameters
    ----------
    step : float or callable
        A positive number, or a function of the iteration.
    name : str
        The argument, for the message.

    Returns
    -------
    callable
        ``schedule(k)``, a float.

    Raises
    ------
    TypeError, ValueError
        If it is neither.

    Examples
    --------
    >>> from optlib.steps import as_schedule
    >>> as_schedule(0.1)(1000), as_schedule(lambda k: 1 / (k + 1))(3)
    (0.1, 0.25)
    """
    if not callable(step):
        return Constant(check.scalar(name, step, low=0.0, low_open=True))
    check.number_from(name, "the schedule", step(0))
    return step


def tolerance_schedule(
    kind: Any = "exponential", *, start: float = 1e-3, floor: float = 1e-12, name: str = "kind"
) -> Schedule:
    """Return a schedule of tolerances for inexact inner solves.

    Parameters
    ----------
    kind : {"exact", "quadratic", "cubic", "exponential"}, float or callable
        ``floor`` always; ``start / (k+1)^2``; ``start / (k+1)^3``; ``start 0.9^k``; a fixed number; your own schedule.
    start, floor : float
        First value and lower bound of the named ones.
    name : str
        The argument, for the message.

    Returns
    -------
    callable
        ``tolerance(k)``, a float. The sum of the last three without the floor is finite, as the theory asks.

    References
    ----------
    F. Pedregosa, Hyperparameter optimization with approximate gradient, arXiv 1602.02355, section 3.

    Examples
    --------
    >>> from optlib.steps import tolerance_schedule
    >>> [tolerance_schedule("quadratic")(k) for k in (0, 1, 10**6)]
    [0.001, 0.00025, 1e-12]
    """
    if not isinstance(kind, str):
        return as_schedule(kind, name)
    check.option(name, kind, ("exact", "quadratic", "cubic", "exponential"))
    if kind == "exact":
        return Constant(floor)
    if kind == "exponential":
        return GeometricDecay(start, 0.9, floor=floor)
    return PowerDecay(start, power=2.0 if kind == "quadratic" else 3.0, floor=floor)
