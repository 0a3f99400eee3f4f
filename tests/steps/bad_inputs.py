"""Bad options of schedules, rules and line searches: name, call, error, pattern."""

import math

import numpy as np

from optlib import steps

ONE = np.ones(1)

CASES = [
    ("zero", lambda: steps.as_schedule(0.0), ValueError, "`step`"),
    ("text", lambda: steps.as_schedule("fast"), TypeError, "`step`"),
    ("none", lambda: steps.as_step_rule(None), TypeError, "`step`"),
    ("nan", lambda: steps.Constant(math.nan), ValueError, "`value`"),
    ("power", lambda: steps.PowerDecay(1.0, -1.0), ValueError, "`power`"),
    ("shift", lambda: steps.PowerDecay(1.0, shift=0.0), ValueError, "`shift`"),
    ("horizon", lambda: steps.LinearDecay(1.0, 1), ValueError, "`horizon`"),
    ("ratio", lambda: steps.GeometricDecay(1.0, 1.1), ValueError, "`ratio`"),
    ("hold", lambda: steps.GeometricDecay(1.0, 0.5, hold=2.5), TypeError, "`hold`"),
    ("tolerance", lambda: steps.tolerance_schedule("linear"), ValueError, "`kind`.*cubic"),
    ("adagrad", lambda: steps.AdaGradNorm(-1.0), ValueError, "`scale`"),
    ("dog", lambda: steps.DistanceOverGradients(relative=0.0), ValueError, "`relative`"),
    ("bb", lambda: steps.BarzilaiBorwein(0.0), ValueError, "`first`"),
    ("decay", lambda: steps.HoldThenDecay(1.0, 1.0), ValueError, "`ratio`"),
    ("polyak", lambda: steps.Polyak(math.inf), ValueError, "`target`"),
    ("shrink", lambda: steps.armijo(abs, 1.0, -1.0, shrink=1.0), ValueError, "`shrink`"),
    ("shrink-order", lambda: steps.armijo(abs, 1.0, -1.0, shrink=(0.5, 0.1)), ValueError, "`shrink`"),
    ("first-trial", lambda: steps.armijo(abs, 1.0, -1.0, step=0.0), ValueError, "`step`"),
    ("wolfe-order", lambda: steps.wolfe(abs, 1.0, -1.0, c1=0.5, c2=0.4), ValueError, "`c2`"),
    ("lipschitz", lambda: steps.lipschitz_search(abs, abs, ONE, 1.0, ONE, 0.0), ValueError, "`lipschitz`"),
    ("grow", lambda: steps.lipschitz_search(abs, abs, ONE, 1.0, ONE, 1.0, grow=1.0), ValueError, "`grow`"),
]
