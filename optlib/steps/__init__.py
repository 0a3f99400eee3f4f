"""Step sizes for all families: schedules, adaptive rules and line searches.

A *schedule* is a function of the iteration ``k = 0, 1, ...`` only. A *rule* also looks at the run: ``init(x0)`` gives
its state (a flat NamedTuple, part of the state of the solver), and ::

    eta, state = rule.step(state, x=x, grad=g, square=norm_g**2, value=f, xp=xp)

returns the step to take from ``x``. Every rule uses what it needs of the four (``square`` is the squared dual norm of
the gradient in the geometry of the solver), and everything stays on the device. A *line search* tries steps and
compares values on the host.
"""

from optlib.steps.rules import (
    AdaGradNorm,
    BarzilaiBorwein,
    DistanceOverGradients,
    HoldThenDecay,
    Polyak,
    Scheduled,
    as_step_rule,
)
from optlib.steps.schedules import Constant, GeometricDecay, LinearDecay, PowerDecay, as_schedule, tolerance_schedule
from optlib.steps.searches import LineSearch, LipschitzSearch, armijo, lipschitz_search, wolfe

__all__ = [
    "AdaGradNorm",
    "BarzilaiBorwein",
    "Constant",
    "DistanceOverGradients",
    "GeometricDecay",
    "HoldThenDecay",
    "LineSearch",
    "LinearDecay",
    "LipschitzSearch",
    "Polyak",
    "PowerDecay",
    "Scheduled",
    "armijo",
    "as_schedule",
    "as_step_rule",
    "lipschitz_search",
    "tolerance_schedule",
    "wolfe",
]
