"""MAID: descent on hyperparameters that is proven from inexact values, and finds the accuracy that this needs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports
from optlib.bilevel.call import Call, error_bound
from optlib.bilevel.evaluation import Evaluator, refuse
from optlib.bilevel.problem import INSTEAD, Constants, require, vdot
from optlib.bilevel.result import BilevelResult

DECREASE = 1e-4  # lambda: share of the linear decrease asked for
SHRINK, GROW = 0.5, 10.0 / 9.0  # rho and its inverse rho-bar: of the step, per trial and per success
TIGHTEN, RELAX = 0.5, 1.25  # nu and nu-bar: of the accuracies, on failure and on success
TRIALS = 10  # of the line search; one more after each failure of it
POWERS = 5  # iterations for the norm of C


class MaidState(NamedTuple):
    """State of `maid`: the point, its inexact solution and gradient with their errors, accuracies, step, and counts.

    ``distance`` bounds ``|y - y*(x)|``, ``error`` the error of the gradient; ``slope`` is ``|grad_y F(x, y)|``;
    ``known`` the estimated constants.
    """

    x: Array
    y: Array
    q: Array | None
    gradient: Array | None
    value: float
    slope: float
    distance: float
    error: float
    eps: float
    delta: float
    step: float
    known: Constants
    floor: bool
    nit: int
    evaluations: int
    gradients: int
    products: int
    outer: int


class _Solved(NamedTuple):
    """An inexact inner solution at x: value and slope of F there, and a bound of its distance to the exact one."""

    call: Call
    y: Array
    value: float
    grad_x: Array
    grad_y: Array
    slope: float
    distance: float
    reached: bool


@supports(backends=("numpy", "cupy", "torch", "strict"))
def maid(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    certified: bool = True,
    eps: float = 0.1,
    delta: float = 0.1,
    eta: float = 0.5,
    inner: str = "accelerated_gradient",
    mode: str = "cg",
    init: Any = None,
    step: float | None = None,
    tol: float | None = 1e-3,
    maxiter: int = 500,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Tune hyperparameters by descent steps whose decrease is proven, at an accuracy that adapts.

    Parameters
    ----------
    problem : object
        With the oracles of an implicit `hypergradient`, a known strong convexity ``mu`` of the inner problem, and
        ``constants`` (or, with ``certified=False``, ``cross_jvp``).
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    certified : bool
        Whether the constants are those of the problem, and every bound is a proof. Otherwise they are estimated: the
        norm of C by power iterations, the Lipschitz constants by the largest quotients of differences between the
        first and the last inner iterate of the solves so far.
    eps, delta : float
        First accuracy of the inner solution, ``|y - y*| <= eps``, and of the adjoint, ``|H q - grad_y F| <= delta``.
    eta : float
        In (0, 1): a hypergradient is accurate enough when its error is at most ``1 - eta`` times its norm.
    inner : {"accelerated_gradient", "newton", "lbfgs", "auto"}
        The inner solver: Nesterov's method with the constants of the problem is the paper's; "auto" is what
        `hypergradient` takes.
    mode : str
        How the adjoint is solved, see `hypergradient`.
    init : BilevelResult or MaidState, optional
        A result to continue.
    step : float, optional
        First step; by default such that no hyperparameter moves by more than 1.
    tol : float or None
        Stop when the gradient is proven to be at most ``tol |Phi|``; None runs ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`; the history has ``fun``, ``eps``, ``error`` and ``step``.

    Returns
    -------
    BilevelResult
        ``interval`` holds the exact ``Phi(x)``; ``error_bound`` is that of ``hypergradient``. ``certificate`` of kind
        ``"stationarity"``: norm of the projected gradient plus its error, a proof if `certified`.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument; if ``mu`` is unknown.

    Notes
    -----
    With d a bound of ``|y - y*|``, Phi is between ``F(x, y) -+ (|grad_y F| d + L_F d^2 / 2)``. A step
    ``x+ = Proj(x - a z)`` is accepted if the upper bound at x+ is below the lower one at x by
    ``1e-4 |x+ - x|^2 / a``: then the exact Phi falls by as much. It is tried with up to ``10 + j`` halvings; the j-th
    failure halves the accuracies, as does a hypergradient with too large an error. After a success the step grows by a
    ninth and the accuracies by a quarter. The distance d is taken from the gradient that was reached,
    ``|grad_y f| / mu``, and the lower bound at x is taken anew where the accuracy has changed, which the authors'
    program does not do.

    Stopping: see ``tol``; or as stalled when the accuracy that is needed cannot be reached in the precision of the
    numbers, or the inner solver does not get there ("accuracy floor").

    Cost of a step: an inner solve a trial, warm, and one adjoint solve.

    Where not to use it: for log penalties far down, where mu is tiny and the bounds are useless; there, and wherever no
    proof is asked for, `tune` is faster.

    References
    ----------
    M. S. Salehi, S. Mukherjee, L. Roberts, M. J. Ehrhardt, An adaptively inexact first-order method for bilevel
    optimization with application to hyperparameter learning, SIAM J. Math. Data Sci. 2025.

    Examples
    --------
    >>> from optlib.bilevel import LeastSquaresProblem, maid
    >>> res = maid(LeastSquaresProblem.random(50, 3, 1, rng=1))
    >>> res.success, res.interval[0] <= res.fun <= res.interval[1]
    (True, True)
    """
    evaluator = Evaluator(problem, x0, bounds, mode, inner)
    xp = evaluator.xp
    check.option("certified", certified, (True, False))
    require(problem, ("mu", "constants" if certified else "cross_jvp"), "maid" if certified else "certified=False")
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    eta = check.scalar("eta", eta, low=0.0, low_open=True, high=1.0, high_open=True)
    rounding = 10.0 * float(xp.finfo(evaluator.start.dtype).eps)
    fix = "the rest is rounding in this precision"
    eps = check.scalar("eps", eps, low=rounding, fix=fix)
    delta = check.scalar("delta", delta, low=rounding, fix=fix)
    if step is not None:
        step = check.scalar("step", step, low=0.0, low_open=True)
    curvature(problem, evaluator.start)
    state = prepare_resume(init, MaidState, "pass a start as `x0`")
    if state is None:
        state = MaidState(
            evaluator.start, evaluator.y0, None, None, 0.0, 0.0, 0.0, 0.0, eps, delta, step or 0.0,
            Constants(0.0, 0.0, 0.0, 0.0), False, 0, 0, 1, 0, 0,
        )  # fmt: skip

    def solve(x: Array, y: Array, accuracy: float) -> _Solved:
        """Inner solution at x to within ``accuracy``, from y."""
        mu = curvature(problem, x)
        call = Call(problem, x, xp, mu * accuracy, 1.0, scale=1.0, inner=inner)
        y, reached = call.solve(y)
        value, grad_x, grad_y = call.outer(y)
        g = call.inner(y)[2]
        call.check_finite(y, value, g, grad_y)
        return _Solved(call, y, float(value), grad_x, grad_y, call.norm(grad_y), call.norm(g) / mu, reached)

    def spread(value: _Solved | MaidState, constant: float) -> float:
        """Bound of ``|F(x, y) - Phi(x)|``."""
        return (value.slope + 0.5 * constant * value.distance) * value.distance

    def outer_constant(x: Array, y: Array, known: Constants) -> float:
        return problem.constants(x, y).outer_y if certified else known.outer_y

    def measured(s: MaidState) -> MaidState:
        """A hypergradient at x with an error below ``1 - eta`` of its norm."""
        s = s._replace(floor=False)
        while True:
            found = solve(s.x, s.y, s.eps)
            call, y = found.call, found.y
            products = call.at(y)
            q, solved = s.q, True
            if q is None or found.slope <= s.delta:
                q = xp.zeros_like(y)
            if found.slope > s.delta:
                call.adjoint_tol = s.delta / found.slope
                product = call.transposed(y, products)
                q, solved, failed = call.adjoint(product, found.grad_y, q, y, evaluator.mode)
                refuse(failed, s.x, y)
            r, size = call.norm(products.hvp(q) - found.grad_y), call.norm(q)
            z = found.grad_x - products.cross_vjp(q)
            known = s.known if certified else estimate(s.known, found, s.y, q, products)
            c = problem.constants(s.x, y) if certified else known
            error = error_bound(c, curvature(problem, s.x), size, found.distance, r)
            evaluator.add(call.counts)
            norm = evaluator.norm(evaluator.projected(s.x, z))
            s = s._replace(
                y=y, q=q, gradient=z, value=found.value, slope=found.slope, distance=found.distance, error=error,
                known=known, **evaluator.seen(),
            )  # fmt: skip
            if error <= (1.0 - eta) * norm or norm + error <= goal * abs(s.value):
                return s
            s, stuck = tightened(s, found.reached and solved)
            if stuck:
                return s._replace(floor=True)

    def tightened(s: MaidState, reached: bool) -> tuple[MaidState, bool]:
        """Higher accuracies, and whether there are none."""
        least = rounding * (1.0 + evaluator.norm(s.y))
        if not reached or TIGHTEN * min(s.eps, s.delta) < least:
            return s, True
        return s._replace(eps=TIGHTEN * s.eps, delta=TIGHTEN * s.delta), False

    def estimate(known: Constants, found: _Solved, y0: Array, q: Array, products: Any) -> Constants:
        """Constants from the differences between the warm start and the solution, and the norm of C."""
        call, norm, gap, size = found.call, found.call.norm, found.call.norm(found.y - y0), found.call.norm(q)
        z = products.cross_vjp(q)
        top = norm(z) / size if size > 0.0 else 0.0
        u = z
        for _ in range(POWERS):
            if not (length := norm(u)) > 0.0:
                break
            v = products.cross_jvp(u / length)
            u, top = products.cross_vjp(v), max(top, norm(v))
        known = known._replace(cross=top)
        if not (gap > rounding * (1.0 + norm(found.y)) and size > 0.0):
            return known
        before, (_, grad_x, grad_y) = call.at(y0), call.outer(y0)
        return Constants(
            top,
            max(known.hessian, norm(products.hvp(q) - before.hvp(q)) / (gap * size)),
            max(known.cross_change, norm(z - before.cross_vjp(q)) / (gap * size)),
            max(known.outer_y, norm(found.grad_y - grad_y) / gap),
            max(known.outer_x, norm(found.grad_x - grad_x) / gap),
        )

    def advance(s: MaidState) -> MaidState:
        """One accepted step, or the accuracy floor."""
        failures = 0
        while not s.floor:
            low = s.value - spread(s, outer_constant(s.x, s.y, s.known))
            a, reached = s.step, True
            for _ in range(TRIALS + failures):
                x = evaluator.project(s.x - a * s.gradient)
                found = solve(x, s.y, s.eps)
                evaluator.add(found.call.counts)
                square = float(vdot(x - s.x, x - s.x, xp=xp))
                high = found.value + spread(found, outer_constant(x, found.y, s.known))
                if high <= low - DECREASE * square / a and square > 0.0:
                    s = s._replace(x=x, y=found.y, eps=RELAX * s.eps, delta=RELAX * s.delta, step=GROW * a)
                    return measured(s)
                a, reached = SHRINK * a, reached and found.reached
            failures += 1
            s, stuck = tightened(s, reached)
            s = s._replace(floor=True) if stuck else measured(s)
        return s._replace(**evaluator.seen())

    def steps(s: MaidState) -> Steps:
        evaluator.restore(s)
        if s.gradient is None:
            s = measured(s)
            longest = float(xp.max(xp.abs(s.gradient)))
            s = s._replace(step=step or (1.0 / longest if longest > 0.0 else 1.0))
        while True:
            bound = evaluator.norm(evaluator.projected(s.x, s.gradient)) + s.error
            top = bound / (abs(s.value) or 1.0)
            ended = Status.STALLED if s.floor and not (tol is not None and top <= goal) else None
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=top: v, status=ended, counts=evaluator.seen(),
                metrics={
                    name: lambda v=value: v
                    for name, value in (("fun", s.value), ("eps", s.eps), ("error", s.error), ("step", s.step))
                },
            )  # fmt: skip
            s = advance(s)._replace(nit=s.nit + 1)

    def finish(last: Step) -> dict[str, Any]:
        s = last.state
        z = evaluator.projected(s.x, s.gradient)
        width = spread(s, outer_constant(s.x, s.y, s.known))
        words = f"inner solution within {s.distance:.1e}" + (", accuracy floor reached" if s.floor else "")
        certificate = Certificate(
            "stationarity", float(linalg.norm(z, xp=xp)) + s.error, scale=abs(s.value) or 1.0, tol=tol,
            proof=certified, note=words,
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": s.value, "y": s.y, "hypergradient": s.gradient, "error_bound": s.error,
            "interval": (s.value - width, s.value + width), "at_bounds": evaluator.at_bounds(s.x, s.gradient),
        }  # fmt: skip

    return run(
        steps, state=state, like=evaluator.start, xp=xp, method="maid", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(
            evaluator, evaluator.mode, certified, eps, delta, eta, inner, step, tol
        ),
        result_class=BilevelResult,
        message=f"{'proven' if certified else 'estimated'} bounds, inner problem by {inner!r}",
    )  # fmt: skip


def curvature(problem: Any, x: Array) -> float:
    """Strong convexity of the inner problem at x, which must be known.

    Raises
    ------
    ValueError
        If it is not.
    """
    mu = problem.mu(x)
    if not (mu and mu > 0.0):
        raise check.error(
            "problem", f"mu(x) = {mu}", "a known strong convexity of the inner problem", f"use {INSTEAD['mu']}"
        )
    return mu
