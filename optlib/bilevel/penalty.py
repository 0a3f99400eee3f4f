"""Tuning by gradients alone: the inner problem as a penalty, with two inner minimisers instead of an adjoint system."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.call import Call
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import answers, vdot
from optlib.bilevel.quasi_newton import MEMORY, direction
from optlib.bilevel.result import BilevelResult
from optlib.inner.lbfgs import remember
from optlib.steps import armijo

SIGMA = 1e-3  # weight of F in the inner problem; larger where numbers have fewer digits
LONGEST = 4.0  # largest change of a hyperparameter in one step
LEAST = 1e-4  # of the inner tolerance, in units of that asked for
FLOOR = 1e3  # of the inner tolerance, in units of rounding
SMALL = 1e-3  # share of the first value below which values are no unit for gradients


class PenaltyState(NamedTuple):
    """State of `penalty`: value and gradient at x, the three inner minimisers, what is left of their gradients.

    ``z`` minimises f, ``near`` minimises ``f + sigma F`` and ``half`` the sum with ``sigma / 2``; ``eta`` is the inner
    tolerance.
    """

    x: Array
    value: float
    gradient: Array | None
    bias: float
    z: Array
    near: Array
    half: Array
    residual: float
    pull: float
    eta: float
    unit: float
    steps: Array | None
    changes: Array | None
    nit: int
    evaluations: int
    gradients: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def penalty(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    sigma: float | None = None,
    richardson: bool = True,
    inner_tol: float = 1e-4,
    init: Any = None,
    tol: float | None = 1e-3,
    maxiter: int = 200,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Tune hyperparameters with first-order oracles only.

    The hyper-objective is replaced by ``psi_s(x) = [min_y (f + s F)(x, y) - min_y f(x, y)] / s``, whose gradient needs
    no second derivatives: ``grad_x F(x, y_s) + [grad_x f(x, y_s) - grad_x f(x, z)] / s`` with the two minimisers
    ``y_s`` and ``z``.

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer`` and ``start``.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    sigma : float, optional
        The weight s > 0; by default 1e-3 (2e-2 in float32). Value and gradient differ from those of ``Phi`` by O(s).
    richardson : bool
        Whether ``2 psi_{s/2} - psi_s`` takes the place of ``psi_s``, which differs by O(s^2), for one more minimiser.
    inner_tol : float
        The inner problems are solved to gradients of norm ``inner_tol s |grad_y F|``, and ten times more accurately
        each time that no step along the gradient decreases the value, four times at most.
    init : BilevelResult or PenaltyState, optional
        A result to continue.
    tol : float or None
        Stop when no entry of the projected gradient exceeds ``tol`` times the larger of ``|Phi|`` and a thousandth of
        its first value; None runs ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``fun`` is F at x and its inner solution ``y``: of several, the one next to ``y_s``. ``penalised`` and
        ``hypergradient`` are value and gradient of the extrapolated ``psi``, which the method minimises and records.
        ``certificate`` of kind ``"stationarity"``: the largest entry of the projected gradient; its residual is that of
        the inner problems, in units of ``s |grad_y F|``.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    ``psi_s`` never exceeds ``Phi``, and rises to it as s falls. With the curvature mu of f the errors are ``O(s / mu)``
    of the value and ``O(s / mu^3)`` of the gradient. f may be merely convex: if F picks one of its minimisers,
    so does ``y_s``, where adjoint systems are singular.

    The steps are projected L-BFGS with Armijo backtracking, of at most 4 in each hyperparameter. f is minimised by
    Newton steps where the problem has products, else by L-BFGS as ``f + s F`` is; all from where the last ones ended.

    Stopping: see ``tol``; or when no step decreases the value at the least inner tolerance.

    Cost of a step: three inner solves (two without `richardson`), warm; one more in the end.

    Where not to use it: where there are products, `quasi_newton` needs a third of the calls and has no bias. In float32
    the differences ``f(y_s) - f(z)`` of small s are rounding.

    References
    ----------
    J. Kwon, D. Kwon, S. Wright, R. Nowak, On penalty methods for nonconvex bilevel optimization and first-order
    stochastic approximation, ICLR 2024, arXiv 2309.01753 (the double loop; steps and extrapolation are this library's).

    Examples
    --------
    >>> from optlib.bilevel import CounterexampleProblem, penalty
    >>> res = penalty(CounterexampleProblem([1.0, 1.0]), [0.0, 3.0])
    >>> res.x.round(3)
    array([1., 1.])
    """
    box = Oracles(problem, x0, bounds, ("inner", "outer", "start"), "penalty")
    xp, y0 = box.xp, box.y0
    eps = float(xp.finfo(box.start.dtype).eps)
    sigma = max(SIGMA, eps**0.25) if sigma is None else check.scalar("sigma", sigma, low=0.0, low_open=True)
    inner_tol = check.scalar("inner_tol", inner_tol, low=0.0, low_open=True)
    check.option("richardson", richardson, (True, False))
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    state = prepare_resume(init, PenaltyState, "pass a start as `x0`")

    scale = box.norm(answers("inner", problem.inner(box.start, y0), box.start, y0)[2])
    if state is None:
        pull = box.norm(answers("outer", problem.outer(box.start, y0), box.start, y0)[2])
        state = PenaltyState(box.start, 0.0, None, 0.0, y0, y0, y0, 0.0, pull, inner_tol, 0.0, None, None, 0, 0, 1, 1)

    def inner(s: PenaltyState, x: Array) -> Call:
        """The inner problems at x, to the tolerance of the state."""
        target = max(s.eta * sigma * s.pull, FLOOR * eps * scale)
        return Call(problem, x, xp, target, target, scale=1.0)

    def evaluate(s: PenaltyState, x: Array) -> PenaltyState:
        """The state at another point, from the minimisers at this one."""
        call = inner(s, x)
        z, _ = call.solve(s.z)
        base = call.inner(z)
        call.check_finite(z, base[0], base[2])
        value, gradient, near, left = call.penalised(base, s.near, sigma)
        half, bias, left = near, sigma, max(left, box.norm(base[2]))
        if richardson:
            better, steeper, half, more = call.penalised(base, s.half, 0.5 * sigma)
            bias, left = box.norm(steeper - gradient), max(left, more)
            value, gradient = 2.0 * better - value, 2.0 * steeper - gradient
        pull = box.norm(call.outer(z)[2])
        return s._replace(
            x=x, value=float(value), gradient=gradient, bias=bias, z=z, near=near, half=half, pull=pull,
            residual=left / (sigma * pull) if sigma * pull > FLOOR * eps * scale else 0.0,
            evaluations=s.evaluations + 1, gradients=s.gradients + call.counts["gradients"],
            outer=s.outer + call.counts["outer"],
        )  # fmt: skip

    def unit(s: PenaltyState) -> float:
        return max(abs(s.value), SMALL * s.unit) or 1.0

    def top(s: PenaltyState) -> float:
        return float(xp.max(xp.abs(box.projected(s.x, s.gradient))))

    def steps(s: PenaltyState) -> Steps:
        if s.gradient is None:
            s = evaluate(s, s.x)
            s = s._replace(unit=abs(s.value))
        status = None
        while True:
            size = top(s) / unit(s)
            if tol is not None and size <= goal:
                status = Status.CONVERGED
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=size: v, metrics={"fun": lambda v=s.value: v},
                status=status, counts=counts(s),
            )  # fmt: skip
            accepted, s = advance(s)
            status = None if accepted else Status.STALLED

    def advance(s: PenaltyState) -> tuple[bool, PenaltyState]:
        """One step along a direction that stays in the box."""
        free = ~box.outward(s.x, s.gradient)
        d = direction(s, box.projected(s.x, s.gradient), free, xp)
        longest = float(xp.max(xp.abs(d)))
        fresh = s.steps is None  # without memory, which may be what was in the way
        limit = 1.0 if fresh else LONGEST
        if longest > limit or fresh:
            d = d * (limit / (longest or 1.0))
        d = box.project(s.x + d) - s.x
        slope = float(vdot(s.gradient, d, xp=xp))
        found: dict[float, PenaltyState] = {}

        def along(t: float) -> float:
            found[t] = evaluate(s, s.x + t * d)
            return found[t].value

        line = armijo(along, s.value, slope, shrink=(0.1, 0.5), slack=s.eta**2 * abs(s.value), maxiter=12)
        seen = {name: n + sum(counts(u)[name] - n for u in found.values()) for name, n in counts(s).items()}
        if line.success:
            new = found[line.step]
            kept = remember(s.steps, s.changes, new.x - s.x, new.gradient - s.gradient, MEMORY, xp=xp)
            return True, new._replace(steps=kept[0], changes=kept[1], nit=s.nit + 1, **seen)
        s = s._replace(steps=None, changes=None, nit=s.nit + 1, **seen)
        if fresh and s.eta <= LEAST * inner_tol:
            return False, s
        return True, evaluate(s._replace(eta=0.1 * s.eta), s.x) if fresh else s

    def counts(s: PenaltyState) -> dict[str, int]:
        return {"evaluations": s.evaluations, "gradients": s.gradients, "outer": s.outer}

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        y, _ = inner(s, s.x).solve(s.half)
        what = f"extrapolated from sigma = {sigma:.0e}, which moved it by {s.bias:.0e}" if richardson else (
            f"of the penalty with sigma = {sigma:.0e}"
        )  # fmt: skip
        certificate = Certificate(
            "stationarity", top(s), scale=unit(s), tol=tol, residual=s.residual, proof=False, note=f"gradient {what}"
        )
        return {
            "certificate": certificate, "fun": float(problem.outer(s.x, y)[0]), "penalised": s.value, "y": y,
            "hypergradient": s.gradient, "error_bound": None,
            "at_bounds": box.at_bounds(s.x, s.gradient),
        }  # fmt: skip

    return run(
        steps, state=state, like=box.start, xp=xp, method="penalty", finish=finish, tol=None, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(box, sigma, richardson, inner_tol, tol), result_class=BilevelResult,
        message=f"penalty {sigma:.0e}{', extrapolated' if richardson else ''}",
    )  # fmt: skip
