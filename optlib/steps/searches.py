"""Line searches: trial steps compared on the host, one transfer per trial."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, to_numpy


class LineSearch(NamedTuple):
    """Outcome of a line search.

    Attributes
    ----------
    step : float
        The accepted step; 0 if there is none.
    value : float or 0-d array
        The function there, as the user's function returned it.
    evaluations : int
        Calls of the function.
    success : bool
        Whether the conditions hold at ``step``.
    """

    step: float
    value: Any
    evaluations: int
    success: bool


def _slack(value: Any, slack: float | None) -> float:
    """Return ten units of rounding of a value in its own precision, unless the caller knows better."""
    if slack is not None:
        return slack
    host = to_numpy(value)
    return 10.0 * float(np.finfo(host.dtype if host.dtype.kind == "f" else np.float64).eps) * abs(float(host))


def armijo(
    phi: Callable[[float], Any],
    value: Any,
    slope: Any,
    *,
    step: float = 1.0,
    shrink: float | tuple[float, float] = 0.5,
    c: float = 1e-4,
    reference: Any = None,
    slack: float | None = None,
    maxiter: int = 30,
) -> LineSearch:
    """Backtrack until ``phi(t) <= reference + c t slope``.

    Parameters
    ----------
    phi : callable
        ``phi(t)``, the function along the ray; infinite or NaN values reject the step.
    value, slope : float or 0-d array
        ``phi(0)`` and its derivative there, which must be negative.
    step : float
        The first trial.
    shrink : float or pair of float
        Factor of each backtrack, or the interval in which the minimiser of the interpolating parabola is taken, for
        example ``(0.1, 0.5)``.
    c : float
        Share of the linear decrease asked for.
    reference : float or 0-d array, optional
        Replaces ``value`` on the right: the largest of the last values gives the nonmonotone search.
    slack : float, optional
        Rounding allowed for on the right; by default ten units of rounding of ``value`` in its dtype. Without it the
        last steps before convergence fail, because the decrease is below rounding.
    maxiter : int
        Largest number of trials.

    Returns
    -------
    LineSearch
        With ``step`` 0 if no trial was accepted.

    Notes
    -----
    Cost: one call of ``phi`` and one number to the host per trial.

    References
    ----------
    L. Armijo, Minimization of functions having Lipschitz continuous first partial derivatives, 1966. L. Grippo,
    F. Lampariello, S. Lucidi, A nonmonotone line search technique for Newton's method, 1986.

    Examples
    --------
    >>> from optlib.steps import armijo
    >>> armijo(lambda t: (1 - 4 * t) ** 2, 1.0, -8.0)
    LineSearch(step=0.25, value=0.0, evaluations=3, success=True)
    """
    low, high = shrink if isinstance(shrink, tuple) else (shrink, shrink)
    check.scalar("shrink", low, low=0.0, low_open=True, high=1.0, high_open=True)
    check.scalar("shrink", high, low=low, high=1.0, high_open=True)
    start, descent, allowed = float(value), float(slope), _slack(value, slack)
    target = start if reference is None else float(reference)
    t = check.scalar("step", step, low=0.0, low_open=True)
    if not descent < 0:
        return LineSearch(0.0, value, 0, False)
    for trials in range(1, maxiter + 1):
        found = phi(t)
        now = float(found)
        if now <= target + c * t * descent + allowed:
            return LineSearch(t, found, trials, True)
        excess = now - start - t * descent  # positive where the parabola has a minimum
        best = -0.5 * t * t * descent / excess if math.isfinite(excess) and excess > 0 else high * t
        t = min(max(best, low * t), high * t)
    return LineSearch(0.0, value, maxiter, False)


def wolfe(
    phi: Callable[[float], tuple[Any, Any]],
    value: Any,
    slope: Any,
    *,
    step: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    slack: float | None = None,
    maxiter: int = 30,
) -> LineSearch:
    """Find a step with ``phi(t) <= phi(0) + c1 t phi'(0)`` and ``|phi'(t)| <= c2 |phi'(0)|`` (strong Wolfe conditions).

    Parameters
    ----------
    phi : callable
        ``phi(t)`` returns function and derivative along the ray; infinite or NaN values reject the step.
    value, slope : float or 0-d array
        Both at 0; the derivative must be negative.
    step : float
        The first trial.
    c1, c2 : float
        With ``0 < c1 < c2 < 1``.
    slack : float, optional
        Rounding allowed for in the first condition, as in `armijo`.
    maxiter : int
        Largest number of trials.

    Returns
    -------
    LineSearch
        Without success, ``step`` is the best one found that satisfies the first condition.

    Notes
    -----
    Doubling until a bracket is found, then the minimiser of the cubic interpolant kept away from its ends.

    Cost: one call of ``phi`` and two numbers to the host per trial.

    References
    ----------
    J. Nocedal, S. J. Wright, Numerical Optimization, 2nd edition, algorithms 3.5 and 3.6.

    Examples
    --------
    >>> from optlib.steps import wolfe
    >>> wolfe(lambda t: ((t - 3) ** 2, 2 * (t - 3)), 9.0, -6.0, c2=0.1)
    LineSearch(step=3.0, value=0.0, evaluations=4, success=True)
    """
    check.scalar("c1", c1, low=0.0, low_open=True, high=1.0)
    check.scalar("c2", c2, low=c1, low_open=True, high=1.0, high_open=True)
    start, descent, allowed = float(value), float(slope), _slack(value, slack)
    t = check.scalar("step", step, low=0.0, low_open=True)
    best, low, high = value, (0.0, start, descent), None  # a minimiser lies between low and high, low being the better
    if not descent < 0:
        return LineSearch(0.0, value, 0, False)
    for trials in range(1, maxiter + 1):
        found, gradient = phi(t)
        now = (t, float(found), float(gradient))
        if not (now[1] <= start + c1 * t * descent + allowed and now[1] <= low[1] + allowed and math.isfinite(now[2])):
            high = now
        elif abs(now[2]) <= -c2 * descent:
            return LineSearch(t, found, trials, True)
        else:
            if now[2] * ((math.inf if high is None else high[0]) - low[0]) >= 0:
                high = low
            best, low = found, now
        t = 2.0 * t if high is None else _cubic(low, high)
    return LineSearch(low[0], best, maxiter, False)


def _cubic(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """Minimiser of the cubic through two points with slopes, kept in the middle 80 % of the interval."""
    (a, fa, da), (b, fb, db) = low, high
    width = b - a
    share = 0.5
    if math.isfinite(fb) and math.isfinite(db):
        d1 = da + db - 3.0 * (fb - fa) / width
        square = d1 * d1 - da * db
        if square >= 0:
            d2 = math.copysign(math.sqrt(square), width)
            if (bottom := db - da + 2.0 * d2) != 0:
                share = 1.0 - (db + d2 - d1) / bottom
    return a + min(max(share, 0.1), 0.9) * width


class LipschitzSearch(NamedTuple):
    """Outcome of `lipschitz_search`.

    Attributes
    ----------
    x : array
        The accepted point.
    value : float or 0-d array
        The smooth function there.
    lipschitz : float
        The accepted estimate.
    evaluations : int
        Calls of the function.
    success : bool
        Whether the upper model holds.
    """

    x: Array
    value: Any
    lipschitz: float
    evaluations: int
    success: bool


def lipschitz_search(
    f: Callable[[Array], Any],
    trial: Callable[[float], Array],
    x: Array,
    value: Any,
    grad: Array,
    lipschitz: float,
    *,
    grow: float = 2.0,
    divergence: Callable[[Array, Array], Any] | None = None,
    maxiter: int = 60,
) -> LipschitzSearch:
    """Increase ``L`` until the upper model ``f(y) <= f(x) + <g, y - x> + L D(y, x)`` holds at ``y = trial(1 / L)``.

    Parameters
    ----------
    f : callable
        The smooth function.
    trial : callable
        ``trial(t)`` is the point reached with step ``t``, for example ``prox(x - t * g, t)``.
    x : array
        The present point.
    value : float or 0-d array
        ``f(x)``.
    grad : array
        Gradient ``g`` at ``x``.
    lipschitz : float
        The first estimate. To let it fall again, pass a little less than the last accepted one.
    grow : float
        Factor above 1.
    divergence : callable, optional
        ``D(y, x)``; by default ``|y - x|^2 / 2``. With a Bregman divergence, ``trial`` is a mirror step.
    maxiter : int
        Largest number of trials.

    Returns
    -------
    LipschitzSearch
        With the point ``x`` itself if no trial was accepted.

    Notes
    -----
    Ten units of rounding of ``f(x)`` are allowed for. Cost: one ``trial``, one ``f`` and one number to the host per
    trial; in all at most ``log(L / lipschitz) / log(grow) + 1`` trials for an ``L``-smooth function.

    References
    ----------
    A. Beck, M. Teboulle, A fast iterative shrinkage-thresholding algorithm, 2009. H. H. Bauschke, J. Bolte,
    M. Teboulle, A descent lemma beyond Lipschitz gradient continuity, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.steps import lipschitz_search
    >>> x = np.array([1.0, 1.0])
    >>> f, g = lambda v: 3 * np.sum(v**2) / 2, 3 * x
    >>> lipschitz_search(f, lambda t: x - t * g, x, f(x), g, 1.0).lipschitz
    4.0
    """
    check.scalar("grow", grow, low=1.0, low_open=True)
    estimate = check.scalar("lipschitz", lipschitz, low=0.0, low_open=True)
    xp, allowed = array_namespace(x), _slack(value, None)
    for trials in range(1, maxiter + 1):
        y = trial(1.0 / estimate)
        found, d = f(y), y - x
        distance = 0.5 * xp.sum(d * d) if divergence is None else divergence(y, x)
        if float(found - value - xp.sum(grad * d) - estimate * distance) <= allowed:
            return LipschitzSearch(y, found, estimate, trials, True)
        estimate *= grow
    return LipschitzSearch(x, value, estimate, maxiter, False)
