"""One penalty with kinks: a coarse path, then Newton steps on the pieces of the loss."""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.result import BilevelResult

FACTOR = 0.6  # between penalties of the path
FLOOR = 1e-3  # smallest penalty of the path, in units of the largest
WORSE, RISES = 1.001, 2  # values so much above the best end the path after so many
NEAREST, FARTHEST = 0.02, 0.9  # Newton steps in units of the bracket
NARROW = 0.1  # logarithm of the width of a bracket in which the curvature of a piece is trusted
COARSE, FINE = 1e-3, 1e-7  # relative duality gaps of fits on the path and after it


class Known(NamedTuple):
    """An evaluated penalty: loss, derivatives, relative duality gap of the fits, whether they are accurate."""

    alpha: float
    value: float
    slope: float
    curvature: float
    gap: float
    sure: bool


class PiecewiseState(NamedTuple):
    """State of `piecewise`: the best point with its solution, the last solution of the path, points as JSON.

    JSON keeps numbers exactly whatever the dtype of the arrays. ``rises`` counts the last values of the path that were
    worse than the best; the path has ended when it is 2.
    """

    x: Array
    alpha: float
    y: Array
    g: Array
    last_y: Array
    last_g: Array
    points: str
    rises: int
    nit: int
    products: int


@supports(backends=("numpy", "torch", "strict"), sequential=True)
def piecewise(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    init: Any = None,
    tol: float | None = 1e-4,
    maxiter: int = 100,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Tune the penalty of a lasso by derivatives that are exact on the pieces of the loss.

    Parameters
    ----------
    problem : object
        With one hyperparameter, the logarithm of a penalty alpha, and the oracle ``piece``, such as `LassoProblem`.
    x0 : array, shape (1,), optional
        One more point to look at after the path.
    bounds : (float, float), optional
        Box; by default ``problem.bounds()``.
    init : BilevelResult or PiecewiseState, optional
        A result to continue.
    tol : float or None
        Relative suboptimality to stop at, estimated from derivatives and bracket; None evaluates ``maxiter`` points.
    maxiter : int
        Largest number of points.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``bracket`` is the interval of x that holds a local minimum. ``certificate`` of kind ``"stationarity"``: the
        suboptimality ``|Phi'| w``, or ``Phi'^2 / (2 Phi'')`` in a bracket narrower than a tenth of alpha if that is
        less, with derivatives in alpha and the width w of the bracket; a heuristic, because Phi may have other minima.
        Its residual is the largest relative duality gap of the fits.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    The path ``alpha = 0.6^k alpha_max`` is followed with loose fits, each warm from the one before, until two values in
    a row are above the best by a thousandth, or down to ``alpha_max / 1000``. Around the best point its neighbours are
    the bracket. Then the fits are accurate: between two changes of the support, the solution is linear in alpha and the
    loss quadratic, so that a Newton step in alpha is exact; it is taken if it stays off the ends of the bracket and
    promises more than the tolerance; if it promises less, a point nearby is to confirm that; otherwise the bracket is
    halved in the logarithm. The sign of the derivative moves the ends, which is all that is needed at the kinks.

    Stopping: the estimate at most ``tol Phi``.

    Cost: a fit of every fold a point, warm; 10 to 20 points as a rule.

    Where not to use it: for smooth problems, where `scalar` evaluates no more accurately than it needs; and for several
    penalties. Narrow minima between two points of the path are not found.

    References
    ----------
    B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least angle regression, Ann. Statist. 2004 (linear pieces).
    Q. Bertrand et al., Implicit differentiation of Lasso-type models for hyperparameter optimization, ICML 2020.
    The search is this library's own.

    Examples
    --------
    >>> from optlib.bilevel import LassoProblem, piecewise
    >>> res = piecewise(LassoProblem.random(40, 60, folds=5, rng=1))
    >>> res.success
    True
    """
    rtol = 1e-4 if tol is None else check.scalar("tol", tol, low=0.0)
    oracles = Oracles(problem, x0, bounds, ("piece", "start"), "piecewise")
    xp, start, y0 = oracles.xp, oracles.start, oracles.y0
    if tuple(start.shape) != (1,):
        raise check.error("problem", f"hyperparameters of shape {tuple(start.shape)}", "shape (1,)", "use tune")
    low, high = math.exp(float(oracles.low[0])), math.exp(float(oracles.high[0]))
    if not (low > 0.0 and math.isfinite(high)):
        raise check.error("bounds", (low, high), "finite bounds of the logarithm", "leave them to the default")
    state = prepare_resume(init, PiecewiseState, "pass a start as `x0`")
    if state is None:
        zero = xp.zeros_like(y0)
        state = PiecewiseState(start, 0.0, y0, zero, y0, zero, "[]", 0, 0, 0)
    least = max(low, min(FLOOR * problem.largest, high))
    extra = [] if x0 is None else [math.exp(float(start[0]))]

    def evaluate(alpha: float, s: PiecewiseState, points: list[Known], sure: bool) -> PiecewiseState:
        """Evaluate a point, accurately or on the path, and keep its solution if it is the best."""
        y, g = (s.y, s.g) if sure else (s.last_y, s.last_g)
        piece = problem.piece(alpha, y, g, FINE if sure else COARSE, sure)
        before = min(points, key=lambda p: p.value, default=None)
        fresh = Known(alpha, piece.value, piece.slope, piece.curvature, piece.gap, sure)
        points[:] = [p for p in points if p.alpha != alpha] + [fresh]
        if before is None or before.alpha == alpha or fresh.value < before.value:
            x = xp.asarray([math.log(alpha)], dtype=start.dtype, device=start.device)
            s = s._replace(x=x, alpha=alpha, y=piece.y, g=piece.g)
        if not sure:
            worse = before is not None and fresh.value > WORSE * before.value
            ended = alpha <= least or (worse and s.rises + 1 == RISES)
            rises = RISES if ended else s.rises + 1 if worse else 0
            s = s._replace(last_y=piece.y, last_g=piece.g, rises=rises)
        return s._replace(points=json.dumps(points), products=s.products + piece.products)

    def steps(s: PiecewiseState) -> Steps:
        points = [Known(*row) for row in json.loads(s.points)]
        if not points:
            s = evaluate(max(min(FACTOR * problem.largest, high), least), s, points, False)
        while True:
            lead = min(points, key=lambda p: p.value)
            left = [alpha for alpha in extra if all(p.alpha != alpha for p in points)]
            gap, edge, other = judge(points, lead, low, high)
            stop = gap / lead.value if lead.value else gap
            done = s.rises == RISES and not left and lead.sure and s.alpha == lead.alpha and stop <= rtol
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=stop: v, metrics={"fun": lambda v=lead.value: v},
                status=Status.CONVERGED if done and tol is not None else None,
                counts={"evaluations": s.nit + 1, "products": s.products},
            )  # fmt: skip
            if s.rises < RISES:
                s = evaluate(max(FACTOR * min(p.alpha for p in points), least), s, points, False)
            elif left:
                s = evaluate(left[0], s, points, True)
            elif not lead.sure or edge or s.alpha != lead.alpha:
                s = evaluate(lead.alpha, s, points, True)
            else:
                s = evaluate(propose(points, lead, other, rtol * lead.value), s, points, True)
            s = s._replace(nit=s.nit + 1)

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        points = [Known(*row) for row in json.loads(s.points)]
        lead = next(p for p in points if p.alpha == s.alpha)
        gap, edge, other = judge(points, lead, low, high)
        note = "at the edge of the box, from which the loss falls outwards" if edge else "the minimum is a local one"
        certificate = Certificate(
            "stationarity", gap, scale=lead.value or 1.0, tol=None if tol is None else rtol, residual=lead.gap,
            proof=False, note=note,
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": lead.value, "y": s.y, "at_bounds": int(edge), "error_bound": None,
            "hypergradient": xp.asarray([lead.slope * lead.alpha], dtype=start.dtype, device=start.device)
            if lead.sure else None,
            "bracket": tuple(math.log(v) for v in sorted((lead.alpha, other))),
        }  # fmt: skip

    return run(
        steps, state=state, like=start, xp=xp, method="piecewise", finish=finish, tol=None, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint, problem=(oracles, y0, str(extra), rtol), result_class=BilevelResult,
        message="coarse path, then Newton steps on the pieces of the loss",
    )  # fmt: skip


# -- decisions, on the host --


def judge(points: list[Known], lead: Known, low: float, high: float) -> tuple[float, bool, float]:
    """Estimated suboptimality of the best point, whether it is an edge of the box, and the other end of its bracket.

    That is the nearest evaluated point on the side to which the loss falls, where it is no lower, or the edge there.
    Without accurate derivatives nothing is known: the estimate is the value itself.
    """
    if not lead.sure:
        return lead.value, False, lead.alpha
    if (lead.alpha <= low and lead.slope >= 0.0) or (lead.alpha >= high and lead.slope <= 0.0):
        return 0.0, True, lead.alpha
    if lead.slope > 0.0:
        other = max((p.alpha for p in points if p.alpha < lead.alpha), default=low)
    else:
        other = min((p.alpha for p in points if p.alpha > lead.alpha), default=high)
    gap = abs(lead.slope * (other - lead.alpha))
    if lead.curvature > 0.0 and abs(math.log(other / lead.alpha)) <= NARROW:
        gap = min(gap, 0.5 * lead.slope**2 / lead.curvature)
    return gap, False, other


def propose(points: list[Known], lead: Known, other: float, goal: float) -> float:
    """The next penalty: a Newton step where it ends inside the bracket and gains more than ``goal``, else the middle.

    Where it would gain less, the next point is just so near that the curvature will be trusted. An edge of the box that
    was not yet seen comes before the middle.
    """
    width = other - lead.alpha
    if lead.curvature > 0.0 and width:
        if 0.5 * lead.slope**2 / lead.curvature > goal:
            part = -lead.slope / (lead.curvature * width)
            if part < FARTHEST:
                return lead.alpha + max(part, NEAREST) * width
        elif abs(math.log(other / lead.alpha)) > NARROW:
            return lead.alpha * math.exp(math.copysign(FARTHEST * NARROW, width))
    return math.sqrt(lead.alpha * other) if any(p.alpha == other for p in points) else other
