"""Rules: step sizes that adapt to what the run has seen, without leaving the device."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, linalg
from optlib.steps.schedules import Schedule, as_schedule


def _ratio(a: Array, b: Array, xp: Any) -> Array:
    """``a / b``, and 0 where ``b`` is not positive."""
    return xp.where(b > 0, a / xp.where(b > 0, b, xp.ones_like(b)), xp.zeros_like(b))


class ScheduledState(NamedTuple):
    """Iterations done."""

    k: int


@dataclass(frozen=True)
class Scheduled:
    """A schedule as a rule.

    Parameters
    ----------
    schedule : callable
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        check.function("schedule", self.schedule, "a function of the iteration")

    def init(self, x0: Array) -> ScheduledState:
        """Return the state at the start."""
        return ScheduledState(0)

    def step(self, state: ScheduledState, **seen: Any) -> tuple[float, ScheduledState]:
        """Return step size and new state."""
        return self.schedule(state.k), ScheduledState(state.k + 1)


class AdaGradNormState(NamedTuple):
    """Sum of the squared gradient norms."""

    total: Any


@dataclass(frozen=True)
class AdaGradNorm:
    """``scale / sqrt(offset + sum_s |g_s|^2)``, the current gradient included (0 while the sum is 0).

    The self-confident step: with ``scale = D / sqrt(2)`` online gradient descent on a domain of diameter ``D`` has
    regret at most ``sqrt(2) D sqrt(sum_s |g_s|^2)``, without knowing the gradients or the horizon. The step scales
    inversely with the gradients, so rescaled losses give the same iterates (for ``offset = 0``).

    Parameters
    ----------
    scale : float
        Positive.
    offset : float
        Not negative.

    References
    ----------
    M. Streeter, H. B. McMahan, Less regret via online conditioning, arXiv 1002.4862. P. Auer, N. Cesa-Bianchi,
    C. Gentile, Adaptive and self-confident on-line learning algorithms, 2002.
    """

    scale: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        check.scalar("scale", self.scale, low=0.0, low_open=True)
        check.scalar("offset", self.offset, low=0.0)

    def init(self, x0: Array) -> AdaGradNormState:
        """Return the state at the start."""
        return AdaGradNormState(0.0)

    def step(self, state: AdaGradNormState, *, square: Array, xp: Any, **seen: Any) -> tuple[Array, AdaGradNormState]:
        """Return step size and new state."""
        total = state.total + square
        return _ratio(self.scale, xp.sqrt(total + self.offset), xp), AdaGradNormState(total)


class DistanceOverGradientsState(NamedTuple):
    """The starting point, the largest distance from it, and the (weighted) sum of the squared gradient norms."""

    x0: Array
    distance: Array
    total: Any


@dataclass(frozen=True)
class DistanceOverGradients:
    """DoG: ``r_t / sqrt(sum_s |g_s|^2)`` with ``r_t = max(r_eps, max_s |x_s - x_0|)``; no parameter to tune.

    The guarantee holds for the average of the iterates weighted by ``r_t``, not for the last one.

    Parameters
    ----------
    weighted : bool
        DoWG instead: ``r_t^2 / sqrt(sum_s r_s^2 |g_s|^2)``.
    relative : float
        ``r_eps = relative (1 + |x_0|)``, the first guess of the distance.
    axis : int, optional
        Axis of the norm of ``x``; None takes all. With -1, leading axes are independent runs with own steps.

    References
    ----------
    M. Ivgi, O. Hinder, Y. Carmon, DoG is SGD's best friend, arXiv 2302.12022. A. Khaled, K. Mishchenko, C. Jin, DoWG
    unleashed, arXiv 2305.16284.
    """

    weighted: bool = False
    relative: float = 1e-6
    axis: int | None = None

    def __post_init__(self) -> None:
        check.option("weighted", self.weighted, (True, False))
        check.scalar("relative", self.relative, low=0.0, low_open=True)
        if self.axis is not None:
            check.scalar("axis", self.axis, integer=True)

    def init(self, x0: Array) -> DistanceOverGradientsState:
        """Return the state at the start."""
        size = linalg.norm(x0, axis=self.axis, xp=array_namespace(x0))
        return DistanceOverGradientsState(x0, self.relative * (1.0 + size), 0.0)

    def step(
        self, state: DistanceOverGradientsState, *, x: Array, square: Array, xp: Any, **seen: Any
    ) -> tuple[Array, DistanceOverGradientsState]:
        """Return step size and new state."""
        distance = xp.maximum(state.distance, linalg.norm(x - state.x0, axis=self.axis, xp=xp))
        weight = distance**2 if self.weighted else 1.0
        total = state.total + weight * square
        top = weight if self.weighted else distance
        return _ratio(top, xp.sqrt(total), xp), DistanceOverGradientsState(state.x0, distance, total)


class PolyakState(NamedTuple):
    """Nothing to remember."""


@dataclass(frozen=True)
class Polyak:
    """``(f(x) - target) / |g|^2``, never negative, 0 at a stationary point.

    Parameters
    ----------
    target : float
        The optimal value, or a lower bound.

    References
    ----------
    B. T. Polyak, Minimization of unsmooth functionals, 1969.
    """

    target: float

    def __post_init__(self) -> None:
        check.scalar("target", self.target)

    def init(self, x0: Array) -> PolyakState:
        """Return the state at the start."""
        return PolyakState()

    def step(
        self, state: PolyakState, *, square: Array, value: Array, xp: Any, **seen: Any
    ) -> tuple[Array, PolyakState]:
        """Return step size and new state."""
        gap = value - self.target
        return _ratio(xp.where(gap > 0, gap, xp.zeros_like(gap)), square, xp), state


class BarzilaiBorweinState(NamedTuple):
    """Last point, gradient and step."""

    x: Array
    grad: Array
    eta: Any


@dataclass(frozen=True)
class BarzilaiBorwein:
    """``|dx|^2 / <dx, dg>`` (long) or ``<dx, dg> / |dg|^2`` (short), from the last two points and gradients.

    Where the curvature ``<dx, dg>`` is not positive the last step is kept. Not monotone: safeguard it with `armijo`
    and the largest of the last ten values as ``reference``.

    Parameters
    ----------
    first : float
        The first step.
    short : bool
        Which of the two.

    References
    ----------
    J. Barzilai, J. M. Borwein, Two-point step size gradient methods, 1988. M. Raydan, The Barzilai and Borwein gradient
    method for the large scale unconstrained minimization problem, 1997.
    """

    first: float
    short: bool = False

    def __post_init__(self) -> None:
        check.scalar("first", self.first, low=0.0, low_open=True)
        check.option("short", self.short, (True, False))

    def init(self, x0: Array) -> BarzilaiBorweinState:
        """Return the state at the start."""
        xp = array_namespace(x0)
        return BarzilaiBorweinState(x0, xp.zeros_like(x0), self.first)

    def step(
        self, state: BarzilaiBorweinState, *, x: Array, grad: Array, xp: Any, **seen: Any
    ) -> tuple[Array, BarzilaiBorweinState]:
        """Return step size and new state."""
        dx, dg = x - state.x, grad - state.grad
        curvature = xp.sum(dx * dg)
        top, bottom = (curvature, xp.sum(dg * dg)) if self.short else (xp.sum(dx * dx), curvature)
        eta = xp.where(curvature > 0, _ratio(top, bottom, xp), state.eta)
        return eta, BarzilaiBorweinState(x, grad, eta)


class HoldThenDecayState(NamedTuple):
    """Best value, steps since, and steps since the decay began."""

    best: Any
    stale: Any
    decays: Any


@dataclass(frozen=True)
class HoldThenDecay:
    """A constant step until ``value`` has not fallen for ``patience`` steps, from then on a geometric decay.

    For sharp problems from small starting points, where a fixed decay would end before the signal has grown.

    Parameters
    ----------
    first : float
        The constant step.
    ratio : float
        Of the decay, in (0, 1).
    patience : int
        Steps without a new lowest value.
    """

    first: float
    ratio: float
    patience: int = 20

    def __post_init__(self) -> None:
        check.scalar("first", self.first, low=0.0, low_open=True)
        check.scalar("ratio", self.ratio, low=0.0, low_open=True, high=1.0, high_open=True)
        check.scalar("patience", self.patience, low=1, integer=True)

    def init(self, x0: Array) -> HoldThenDecayState:
        """Return the state at the start."""
        return HoldThenDecayState(math.inf, 0.0, 0.0)

    def step(
        self, state: HoldThenDecayState, *, value: Array, xp: Any, **seen: Any
    ) -> tuple[Array, HoldThenDecayState]:
        """Return step size and new state."""
        one = xp.ones_like(value)
        stale = xp.where(value < state.best, 0.0 * one, state.stale + one)
        decays = state.decays + xp.where((stale >= self.patience) | (state.decays * one > 0), one, 0.0 * one)
        best = xp.where(value < state.best, value, state.best * one)
        return self.first * self.ratio**decays, HoldThenDecayState(best, stale, decays)


def as_step_rule(step: Any) -> Any:
    """Return a rule for what users pass as a step size.

    Parameters
    ----------
    step : float, callable or rule
        A positive number, a schedule, or an object with ``init`` and ``step``.

    Returns
    -------
    object
        With ``init(x0)`` and ``step(state, *, x, grad, square, value, xp)``.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.

    Examples
    --------
    >>> from optlib.steps import as_step_rule
    >>> rule = as_step_rule(0.5)
    >>> rule.step(rule.init([0.0]))
    (0.5, ScheduledState(k=1))
    """
    return step if hasattr(step, "init") and hasattr(step, "step") else Scheduled(as_schedule(step))
