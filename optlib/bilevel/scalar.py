"""One hyperparameter: a safeguarded search on corrected values and derivatives, each as accurate as needed."""

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.evaluation import Evaluation, Evaluator
from optlib.bilevel.result import BilevelResult

EXPAND = (1.5, 3.0, 4.0)  # steps while there is no bracket; the last is repeated
FLAT = 1e-2  # relative slope over the whole box below which the box is scanned first
WIDE = 1.0  # distance to other points beyond which the curvature is not known
NEAR = 0.1  # of the box: starts so close to its middle are not compared with it
SCAN = (0.5, 0.3, 0.7, 0.1, 0.9)
SHARE = 0.3  # of the tolerance, that a correction may have
ROUGH, FIRST, SURE, EDGE = 0.3, 1e-2, 1e-4, 1e-5  # tolerances: start against middle, first, confirming, edge


class Known(NamedTuple):
    """An evaluated point: where, corrected value, derivative, correction, tolerance, whether it was confirmed."""

    x: float
    value: float
    slope: float
    correction: float
    eta: float
    sure: bool


class ScalarState(NamedTuple):
    """State of `scalar`: best point with inner solution, adjoint and factor; the points and those to come, as JSON.

    JSON keeps numbers exactly whatever the dtype of the arrays.
    """

    x: Array
    y: Array
    q: Array | None
    factor: Array | None
    gradient: Array | None
    points: str
    queue: str
    expansions: int
    nit: int
    evaluations: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def scalar(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    mode: str = "auto",
    start: str = "warm",
    refit: bool = False,
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
    r"""Tune one hyperparameter by a search on values and derivatives of ``Phi``.

    Parameters
    ----------
    problem : object
        With one hyperparameter, and the oracles of an implicit `hypergradient`.
    x0 : array, shape (1,), optional
        Start; by default ``problem.start()``.
    bounds : (float, float), optional
        Box; by default ``problem.bounds()``. Both ends must be finite.
    mode : str
        How the adjoint is solved, see `hypergradient`.
    start : {"warm", "cold"}
        Whether inner and adjoint solves begin from the last ones or from ``problem.start()``. Where the inner solution
        is unique, only the time differs; where it is not, a warm one keeps traces of the path.
    refit : bool
        Solve the inner problem once more, cold, at the x returned: ``refit_fun`` and ``refit_y``.
    init : BilevelResult or ScalarState, optional
        A result to continue.
    tol : float or None
        Relative suboptimality to stop at, estimated from the derivative and the curvature; None runs ``maxiter``
        evaluated points.
    maxiter : int
        Largest number of points. A point may take several evaluations of rising accuracy.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``bracket`` is the interval that holds a local minimum. ``certificate`` of kind ``"stationarity"``: the
        suboptimality ``|Phi'| w`` estimated with the bracket width w, or where other points are near
        ``Phi'^2 / (2 Phi'')`` if that is less (0 at an edge of the box from which Phi falls outwards), or the
        correction of the value if that is larger; a heuristic, because Phi may have other minima. Its residual is that
        of the inner problem: no success where that was not solved.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    Each point starts with the tolerance that the best one needed, at most 1e-2, which falls tenfold until the
    correction of the value is below a tenth of ``|Phi'| |step|`` or of ``tol |Phi|``. The lead is the point with the
    lowest value; on the side to which its slope points, the nearest evaluated point brackets a local minimum whatever
    its own slope. Without one the search expands; with one it takes the minimiser of a cubic or a parabola, kept off
    the ends.

    A start is first compared with the middle of the box, roughly, and the search begins there only if it is clearly
    better: where penalties are far too small, solves are expensive. Where the loss is flat, the search looks at up to
    five points across the box, until it is not.

    Stopping: the estimate at most ``tol |Phi|``, confirmed by an evaluation of the same point a hundred times as
    accurate.

    Cost: an inner and an adjoint solve a point, warm from the nearest solution; 5 to 20 points as a rule.

    Where not to use it: for more than one hyperparameter use `tune`.

    References
    ----------
    The search is this library's own. For the inexact gradients see F. Pedregosa, Hyperparameter optimization with
    approximate gradient, ICML 2016.

    Examples
    --------
    >>> from optlib.bilevel import RidgeProblem, scalar
    >>> res = scalar(RidgeProblem.random(30, 10, rng=1, penalty="scalar"))
    >>> res.success
    True
    """
    rtol = 1e-4 if tol is None else check.scalar("tol", tol, low=0.0)
    evaluator = Evaluator(problem, x0, bounds, mode, start=start, refit=refit)
    xp = evaluator.xp
    if evaluator.start.shape != (1,):
        raise check.error("problem", f"hyperparameters of shape {evaluator.start.shape}", "shape (1,)", "use tune")
    low, high = float(evaluator.low[0]), float(evaluator.high[0])
    if not math.isfinite(high - low):
        raise check.error("bounds", (low, high), "finite bounds", "give both, e.g. (-12, 12)")
    state = prepare_resume(init, ScalarState, "pass a start as `x0`")
    if state is None:
        state = ScalarState(evaluator.start, evaluator.y0, None, None, None, "[]", "[]", 0, 0, 0, 1, 0, 0)

    def measure(
        x: float, step: float, s: ScalarState, eta: float = FIRST, sure: bool = False
    ) -> tuple[Known, Evaluation]:
        """Evaluate with rising accuracy until the value is good enough for the decision."""
        at = xp.asarray([x], dtype=s.x.dtype, device=s.x.device)

        def allowed(found: Evaluation) -> float:
            return max(0.1 * abs(float(found.gradient[0]) * step), SHARE * rtol * abs(found.value))

        found = evaluator.measure(at, eta, allowed, evaluator.floor, s.y, s.q, s.factor)
        return Known(float(at[0]), found.value, float(found.gradient[0]), found.correction, found.eta, sure), found

    def begin(s: ScalarState) -> tuple[float, ScalarState]:
        """The start if it is clearly better than the middle of the box, else that, and what is known there."""
        middle = 0.5 * (low + high)
        if abs(float(s.x[0]) - middle) <= NEAR * (high - low):
            return float(s.x[0]), s
        points = s.x, xp.asarray([middle], dtype=s.x.dtype, device=s.x.device)
        start, other = (evaluator(x, ROUGH, s.y, s.q, s.factor) for x in points)
        better = start if start.value + start.correction < other.value - other.correction else other
        return float(better.x[0]), s._replace(y=better.y, q=better.q, factor=better.factor)

    def steps(s: ScalarState) -> Steps:
        points = [Known(*row) for row in json.loads(s.points)]
        evaluator.restore(s)
        if not points:
            at, warm = begin(s)
            first, found = measure(at, 1.0, warm)
            points.append(first)
            s = taken(s, found, points, 0)
            if flat(first, high - low) or not bool(xp.any(found.y != 0)):
                s = s._replace(queue=json.dumps([x for x in (low + t * (high - low) for t in SCAN) if x != at]))
        while True:
            gap, width, edge = judge(points, low, high)
            lead = min(points, key=lambda p: p.value)
            if not flat(lead, high - low):
                s = s._replace(queue="[]")
            queue = json.loads(s.queue)
            done = gap <= rtol * abs(lead.value) and not queue and lead.x == float(s.x[0])
            stop = gap / abs(lead.value) if lead.value else gap
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=stop: v,
                metrics={"fun": lambda v=lead.value: v}, counts=evaluator.seen(),
                status=Status.CONVERGED if done and lead.sure and tol is not None else None,
            )  # fmt: skip
            eta, confirm, warm = min(max(lead.eta, SURE), FIRST), False, s
            if queue:  # far from what is known
                x, eta, warm = queue.pop(0), FIRST, s._replace(y=evaluator.y0, q=None, factor=None)
                s = s._replace(queue=json.dumps(queue))
            elif (done and not lead.sure) or lead.x != float(s.x[0]):  # the same point, more accurately
                tighter = 0.1 * lead.eta if lead.eta <= SURE else 1e-2 * lead.eta
                x, eta, confirm = lead.x, max(min(tighter, EDGE if edge else SURE), evaluator.floor), True
            else:
                x, expansions = propose(points, low, high, s.expansions)
                s = s._replace(expansions=expansions)
            fresh, found = measure(x, x - lead.x or width, warm, eta, confirm)
            points = [p for p in points if p.x != fresh.x] + [fresh]
            s = taken(s, found, points, s.nit + 1)

    def taken(s: ScalarState, found: Evaluation, points: list[Known], nit: int) -> ScalarState:
        """Keep the solution if it is that of the best point."""
        best = min(points, key=lambda p: p.value)
        if best.x == float(found.x[0]):
            s = s._replace(x=found.x, y=found.y, q=found.q, factor=found.factor, gradient=found.gradient)
        return s._replace(points=json.dumps(points), nit=nit, **evaluator.seen())

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        points = [Known(*row) for row in json.loads(s.points)]
        lead = next(p for p in points if p.x == float(s.x[0]))
        gap, _, edge = judge(points, low, high)
        other = neighbour(points, lead)
        note = "the minimum found is a local one"
        if edge:
            note = "at the edge of the box, from which the loss falls outwards"
        certificate = Certificate(
            "stationarity", max(gap, lead.correction), scale=abs(lead.value) or 1.0,
            tol=rtol if tol is not None else None, residual=evaluator.residual(s.x, s.y), proof=False,
            note=evaluator.noted(note),
        )  # fmt: skip
        ends = sorted((lead.x, other.x)) if other is not None else [low, high]
        known = evaluator.last.error_bound if evaluator.last is not None and lead.x == points[-1].x else None
        return {
            "certificate": certificate, "fun": lead.value, "y": s.y, "hypergradient": s.gradient,
            "error_bound": known, "at_bounds": int(edge), "bracket": tuple(ends),
            **evaluator.ending(s),
        }  # fmt: skip

    return run(
        steps, state=state, like=evaluator.start, xp=xp, method="scalar", finish=finish, tol=None,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint, problem=(evaluator, evaluator.mode, start, rtol),
        result_class=BilevelResult, message=f"search for one hyperparameter, adjoint by {evaluator.mode!r}",
    )  # fmt: skip


# -- decisions, on the host --


def flat(p: Known, width: float) -> bool:
    """Whether the slope at a point is too small to follow."""
    return abs(p.slope) * width < FLAT * abs(p.value)


def neighbour(points: list[Known], lead: Known) -> Known | None:
    """The nearest evaluated point on the side to which Phi falls from the best one: it brackets a minimum."""
    side = [p for p in points if (p.x - lead.x) * -lead.slope > 0.0]
    return min(side, key=lambda p: abs(p.x - lead.x)) if side else None


def near(points: list[Known], lead: Known) -> float:
    """Distance from the best point to the nearest other one."""
    return min((abs(p.x - lead.x) for p in points if p.x != lead.x), default=math.inf)


def curvature(points: list[Known], lead: Known) -> float:
    """Smallest positive secant curvature between the best point and its neighbours; 0 if there is none."""
    found = []
    for side in (-1.0, 1.0):
        others = [p for p in points if (p.x - lead.x) * side > 0.0]
        if others:
            p = min(others, key=lambda p: abs(p.x - lead.x))
            found.append((p.slope - lead.slope) / (p.x - lead.x))
    return min((u for u in found if u > 0.0), default=0.0)


def judge(points: list[Known], low: float, high: float) -> tuple[float, float, bool]:
    """Estimated suboptimality of the best point, width of its bracket, and whether it is an edge of the box."""
    lead = min(points, key=lambda p: p.value)
    if (lead.x <= low and lead.slope >= 0.0) or (lead.x >= high and lead.slope <= 0.0):
        return 0.0, 0.0, True
    other = neighbour(points, lead)
    width = abs(other.x - lead.x) if other is not None else (high - lead.x if lead.slope < 0 else lead.x - low)
    gap, bend = abs(lead.slope) * width, curvature(points, lead)
    local = width < WIDE or near(points, lead) < 0.5 * WIDE  # secants over more than that are not the curvature
    return (min(gap, 0.5 * lead.slope**2 / bend) if local and bend > 0.0 else gap), width, False


def propose(points: list[Known], low: float, high: float, expansions: int) -> tuple[float, int]:
    """The next point: expansion without a bracket, interpolation with one."""
    lead = min(points, key=lambda p: p.value)
    other, sign = neighbour(points, lead), -1.0 if lead.slope > 0.0 else 1.0
    if other is None:
        length, bend = EXPAND[min(expansions, len(EXPAND) - 1)], curvature(points, lead)
        if bend > 0.0:
            length = min(length, 1.3 * abs(lead.slope) / bend)
        return min(max(lead.x + sign * length, low), high), expansions + 1
    w = other.x - lead.x
    least = 0.1 if abs(w) <= 0.1 else 0.02
    t = _minimiser(lead, other) / w
    return lead.x + w * min(max(t, least), 0.5 if abs(w) > 4.0 else 0.9), expansions


def _minimiser(lead: Known, other: Known) -> float:
    """Distance from the best point to the minimiser of a cubic, or of a parabola if the slopes have one sign."""
    w = other.x - lead.x
    if lead.slope * other.slope < 0.0:
        rise = 3.0 * (lead.value - other.value) / w + lead.slope + other.slope
        root = math.copysign(math.sqrt(max(rise * rise - lead.slope * other.slope, 0.0)), w)
        below = other.slope - lead.slope + 2.0 * root
        return w * (1.0 - (other.slope + root - rise) / below) if below else 0.5 * w
    bend = 2.0 * (other.value - lead.value - lead.slope * w) / (w * w)
    return -lead.slope / bend if bend > 0.0 else 0.5 * w
