"""Bounds of the best value between two games without hierarchy, each of which looks T steps ahead."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.call import Call
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import require
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.unrolling import reverse

GROW, TRIALS = 2.0, 60  # of the steps, after each iteration; halvings of them
MEMORY = 10  # values of the monopolist, the largest of which a step must improve on
SLOPE = 0.25  # of ``|change|^2 / step``, by which a step must decrease the value


class HierarchyFreeState(NamedTuple):
    """State of `hierarchy_free`: the Cournot point, the monopoly point with gradients, steps, values and counts.

    ``values`` are the last ones of the monopolist, as JSON: exact in any dtype.
    """

    x: Array
    y: Array
    u: Array
    v: Array
    grad_u: Array | None
    grad_v: Array | None
    length_x: float
    length_u: float
    upper: float
    lower: float
    values: str
    cournot: float
    monopoly: float
    nit: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def hierarchy_free(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    steps: int = 5,
    step: float | None = None,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Bracket the leader's best value: a feasible point, and a bound by what a monopolist would reach.

    With ``h(x, y) = y - step grad_y f(x, y)``, one step of the followers, and ``h^T`` its T-fold composition:

    - *Cournot* (upper): ``x`` minimises ``F(x, h^T(x, y))`` for fixed y, while ``y = h(x, y)``. Then y is the answer to
      x, so that ``F(x, y) >= min Phi``.
    - *Monopoly* (lower): both x and y minimise ``F(x, h^T(x, y))``. As ``y = y*(x)`` is allowed, the minimum is at most
      ``min Phi``.

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer``, ``cross_vjp``, and ``hvp`` or (without symmetry) ``hvp_t``; ``project_y(y)`` where
        the followers are restricted, as in `EquilibriumProblem`.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box of x; by default ``problem.bounds()``.
    steps : int
        The number T of steps that are foreseen. 0 gives the games of Cournot and of the monopolist; for large T both
        tend to the best value.
    step : float, optional
        Step of the followers; by default ``1 / lipschitz(x0)``. At most that where ``grad_y f`` is a natural residual.
    init : BilevelResult or HierarchyFreeState, optional
        A result to continue.
    tol : float or None
        Stop when no entry of the projected gradients of both games and of the followers' step exceeds
        ``tol (1 + |F|)``; None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``x, y`` is the Cournot point, ``fun = upper`` its value, ``lower`` that of the monopolist, ``gap`` their
        difference. ``certificate`` of kind ``"stationarity"``: a heuristic, because ``lower`` is a bound only if the
        monopolist's minimum is the global one, as it is for convex ``F(x, h^T(x, y))``.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    Both games go forward together: a projected gradient step in x and one followers' step; a projected gradient step in
    (x, y). Steps are halved until the value falls by ``|change|^2 / (4 step)``; the next ones are twice as long in the
    first game, whose function changes with y, and of spectral length in the second (there the largest of the last ten
    values must be improved on).

    The upper bound tightens like the contraction of ``h^T``. The lower one does only where the followers are restricted
    to a bounded set: otherwise the monopolist may undo any contraction by a far y.

    Stopping: see ``tol``; stalled where no step helps the monopolist any more, as may happen at a kink of ``h^T``.

    Cost of an iteration: about 4 T gradients and 2 T products; ``2 T`` copies of y.

    Where not to use it: for the best value itself, which `tune` finds with exact derivatives; here it is bracketed
    without a solution of the inner problem.

    References
    ----------
    J. Li, J. Yu, B. Liu, Z. Wang, Y. M. Nie, Achieving hierarchy-free approximation for bilevel programs with
    equilibrium constraints, ICML 2023, definitions 3.1 and 3.2.

    Examples
    --------
    >>> from optlib.bilevel import StackelbergProblem, hierarchy_free
    >>> for T in (0, 2, 8):
    ...     res = hierarchy_free(StackelbergProblem(step=0.3), steps=T)
    ...     print(round(res.lower, 3), round(res.upper, 3))
    -20.25 -11.111
    -13.711 -12.431
    -12.505 -12.5
    """
    foreseen = check.scalar("steps", steps, low=0, integer=True)
    if step is not None:
        step = check.scalar("step", step, low=0.0, low_open=True)
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    second = "hvp" if getattr(problem, "symmetric", True) else "hvp_t"
    oracles = Oracles(problem, x0, bounds, ("inner", "outer", "start", "cross_vjp", second), "hierarchy_free")
    xp, origin = oracles.xp, oracles.start
    if step is None:
        require(problem, ("lipschitz",), "hierarchy_free without `step`")
        step = 1.0 / problem.lipschitz(origin)
    state = prepare_resume(init, HierarchyFreeState, "pass a start as `x0`")
    if state is None:
        y = oracles.y0
        state = HierarchyFreeState(origin, y, origin, y, None, None, 1.0, 1.0, 0.0, 0.0, "[]", 1.0, 1.0, 0, 0, 0, 0)
    rounding = 10.0 * float(xp.finfo(origin.dtype).eps)
    feasible = getattr(problem, "project_y", lambda y: y)

    def ahead(x: Array, y: Array) -> tuple[float, Array, Array]:
        """The value ``F(x, h^T(x, y))`` with its gradients in x and in y."""
        call = Call(problem, x, xp, 1.0, 1.0, steps=foreseen, truncate=foreseen, step=step)
        value, grad_x, grad_y, _ = reverse(call, y)
        for name, n in call.counts.items():
            oracles.counts[name] += n
        return float(value), grad_x, grad_y

    def value(x: Array, y: Array) -> float:
        """The value alone."""
        for _ in range(foreseen):
            y = y - step * oracles.inner(x, y)[2]
        return float(oracles.outer(x, y)[0])

    def descend(
        point: tuple[Array, ...], gradient: tuple[Array, ...], project: Any, along: Any, now: float, length: float
    ) -> tuple[tuple[Array, ...], float]:
        """A projected gradient step with backtracking, and the next length; 0 where no step decreases the value."""
        for _ in range(TRIALS):
            trial = project(*(z - length * g for z, g in zip(point, gradient, strict=True)))
            square = product(trial, point, trial, point)
            hidden = square / length < 10.0 * rounding * abs(now)  # what rounding hides does not make steps longer
            if along(*trial) <= now - SLOPE * square / length + rounding * abs(now):
                return trial, length if hidden else GROW * length
            length *= 0.5
        return point, 0.0

    def product(a: Any, b: Any, c: Any, d: Any) -> float:
        """``<a - b, c - d>`` over all parts."""
        return sum(float(xp.sum((p - q) * (r - t))) for p, q, r, t in zip(a, b, c, d, strict=True))

    def largest(*entries: Array) -> float:
        return max(float(xp.max(xp.abs(e))) for e in entries)

    def iterations(s: HierarchyFreeState) -> Steps:
        oracles.restore(s)
        if s.grad_u is None:
            lower, grad_u, grad_v = ahead(s.u, s.v)
            s = s._replace(lower=lower, grad_u=grad_u, grad_v=grad_v, values=json.dumps([lower]))
        while True:
            cournot, slope, _ = ahead(s.x, s.y)
            follow = oracles.inner(s.x, s.y)[2]
            upper = float(oracles.outer(s.x, s.y)[0])
            moves = (
                s.x - oracles.project(s.x - slope), step * follow, s.u - oracles.project(s.u - s.grad_u),
                s.v - feasible(s.v - s.grad_v),
            )  # fmt: skip
            unit = 1.0 + abs(upper)
            s = s._replace(upper=upper, cournot=largest(*moves[:2]) / unit, monopoly=largest(*moves[2:]) / unit)
            stop = max(s.cournot, s.monopoly)
            stuck = s.length_u == 0.0 and (s.length_x == 0.0 or s.cournot <= goal)
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=stop: v,
                metrics={"upper": lambda v=upper: v, "lower": lambda v=s.lower: v}, counts=oracles.seen(),
                status=(Status.CONVERGED if stop <= goal else Status.STALLED) if stuck else None,
            )  # fmt: skip
            (x,), length_x = descend(
                (s.x,), (slope,), lambda x: (oracles.project(x),), lambda x, y=s.y: value(x, y), cournot,
                s.length_x or 1.0,
            )  # fmt: skip
            y = feasible(s.y - step * oracles.inner(x, s.y)[2])
            s = monopolist(s) if s.length_u else s
            s = s._replace(x=x, y=y, length_x=length_x, nit=s.nit + 1, **oracles.seen())

    def monopolist(s: HierarchyFreeState) -> HierarchyFreeState:
        """A step of the second game."""
        old, slopes = (s.u, s.v), (s.grad_u, s.grad_v)
        reference = max(json.loads(s.values))
        new, length = descend(old, slopes, lambda x, y: (oracles.project(x), feasible(y)), value, reference, s.length_u)
        lower, *fresh = ahead(*new)
        bend = product(new, old, fresh, slopes)
        if length and bend > 0.0:
            length = product(new, old, new, old) / bend
        return s._replace(
            u=new[0], v=new[1], grad_u=fresh[0], grad_v=fresh[1], lower=lower, length_u=length,
            values=json.dumps([*json.loads(s.values), lower][-MEMORY:]),
        )  # fmt: skip

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        note = f"the value is between {s.lower:.6g} (if the monopolist's minimum is global) and {s.upper:.6g}"
        certificate = Certificate("stationarity", max(s.cournot, s.monopoly), tol=tol, proof=False, note=note)
        _, gradient, _ = ahead(s.x, s.y)
        return {
            "certificate": certificate, "fun": s.upper, "y": s.y, "hypergradient": gradient, "error_bound": None,
            "at_bounds": oracles.at_bounds(s.x, gradient), "upper": s.upper, "lower": s.lower,
            "gap": s.upper - s.lower,
        }  # fmt: skip

    return run(
        iterations, state=state, like=origin, xp=xp, method="hierarchy_free", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(oracles, origin, foreseen, step), result_class=BilevelResult,
        message=f"{foreseen} steps of the followers foreseen",
    )  # fmt: skip
