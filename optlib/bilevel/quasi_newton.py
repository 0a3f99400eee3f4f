"""Several hyperparameters: projected L-BFGS on corrected values, each evaluation as accurate as its decision needs."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.evaluation import Evaluation, Evaluator
from optlib.bilevel.problem import vdot
from optlib.bilevel.result import BilevelResult
from optlib.inner.lbfgs import remember, two_loop

MEMORY = 20  # pairs
START, SURE, LEAST = 1e-3, 1e-6, 1e-8  # relative tolerances of evaluations: first, for the stop, smallest
LONGEST = 4.0  # largest change of a hyperparameter in one step
ARMIJO = 1e-4
SHARE = 0.1  # of the expected decrease, that a correction may have
SLOW, WINDOW = 0.1, 15  # decrease in units of the tolerance, over so many accepted steps, below which the run ends
FLAT = 1e-3  # projected gradient in units of the tolerance, below which it ends at once


class QuasiNewtonState(NamedTuple):
    """State of `quasi_newton`: the evaluation, pairs of steps and gradient changes (oldest first), and controls.

    ``values`` are the last ones, as JSON: exact in any dtype.
    """

    x: Array
    value: float
    gradient: Array | None
    correction: float
    y: Array
    q: Array | None
    factor: Array | None
    eta: float
    values: str
    steps: Array | None
    changes: Array | None
    radius: float
    nit: int
    evaluations: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def quasi_newton(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    mode: str = "auto",
    start: str = "warm",
    refit: bool = False,
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
    r"""Tune hyperparameters in a box by projected L-BFGS with adaptively inexact hypergradients.

    Parameters
    ----------
    problem : object
        With the oracles of an implicit `hypergradient`.
    x0 : array, optional
        Start, of the shape of the hyperparameters; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    mode : str
        How the adjoint is solved, see `hypergradient`.
    start : {"warm", "cold"}
        Whether inner and adjoint solves begin from the last ones or from ``problem.start()``. Where the inner solution
        is unique, only the time differs; where it is not, a warm one keeps traces of the path.
    refit : bool
        Solve the inner problem once more, cold, at the x returned: ``refit_fun`` and ``refit_y``.
    init : BilevelResult or QuasiNewtonState, optional
        A result to continue.
    tol : float or None
        What the certificate asks: no entry of the projected gradient above ``tol |Phi|``, so that a change of one of
        the hyperparameters by 1 would change the loss by a part of ``tol``. The run goes on beyond that, see the Notes.
        None runs ``maxiter`` steps.
    maxiter : int
        Largest number of steps.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``certificate`` of kind ``"stationarity"``: the largest entry of the projected gradient, relative to ``|Phi|``;
        its residual is that of the inner problem.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    The direction is that of L-BFGS on the hyperparameters that are free (not held at an edge of the box by their
    gradient), cut to a trust length that starts at 1 and doubles up to 4. A step is accepted when the corrected value
    falls by 1e-4 of the predicted decrease, up to a tenth of the corrections. The relative tolerance of evaluations
    starts at 1e-3, falls while the corrections exceed a tenth of the predicted decrease, and rises again.

    Stopping: when 15 steps brought less than ``tol / 10`` of the value and the certificate holds, when no step
    decreases the value at the smallest tolerance of evaluations, or when the projected gradient is below
    ``tol |Phi| / 1000``.

    Cost: about one inner and adjoint solve a step, warm. Memory: 40 arrays of the size of x.

    Where not to use it: for one hyperparameter, where `scalar` is faster and safe from plateaus.

    References
    ----------
    D. P. Bertsekas, Projected Newton methods for optimization problems with simple constraints, SIAM J. Control Optim.
    1982. F. Pedregosa, Hyperparameter optimization with approximate gradient, ICML 2016. The control of the accuracy
    is this library's own.

    Examples
    --------
    >>> from optlib.bilevel import RidgeProblem, quasi_newton
    >>> problem = RidgeProblem.random(30, 5, rng=1)
    >>> res = quasi_newton(problem)
    >>> bool(res.fun < float(problem.outer(*problem.start())[0]))
    True
    """
    evaluator = Evaluator(problem, x0, bounds, mode, start=start, refit=refit)
    xp = evaluator.xp
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    state = prepare_resume(init, QuasiNewtonState, "pass a start as `x0`")
    if state is None:
        state = QuasiNewtonState(
            evaluator.start, 0.0, None, 0.0, evaluator.y0, None, None, START, "[]", None, None, 1.0, 0, 0, 1, 0, 0
        )

    rounding = 10.0 * float(xp.finfo(evaluator.start.dtype).eps)

    def loaded(s: QuasiNewtonState, found: Evaluation, **more: Any) -> QuasiNewtonState:
        return s._replace(
            x=found.x, value=found.value, gradient=found.gradient, correction=found.correction, y=found.y, q=found.q,
            factor=found.factor,
            **evaluator.seen(), **more,
        )  # fmt: skip

    def steps(s: QuasiNewtonState) -> Steps:
        evaluator.restore(s)
        if s.gradient is None:
            s = loaded(s, evaluator(s.x, s.eta, s.y, s.q, s.factor))
            s = s._replace(values=json.dumps([s.value]))
        ended = False
        while True:
            top = float(xp.max(xp.abs(evaluator.projected(s.x, s.gradient))))
            unit = abs(s.value) or 1.0
            if top <= FLAT * goal * unit and s.eta <= SURE and tol is not None:
                ended = True
            status = None
            if ended:
                status = Status.CONVERGED if top <= goal * unit else Status.STALLED
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=top / unit: v, metrics={"fun": lambda v=s.value: v},
                status=status,
                counts=evaluator.seen(),
            )  # fmt: skip
            s = s._replace(nit=s.nit + 1)
            if top <= 0.1 * goal * unit and s.eta > SURE:
                s = loaded(s, evaluator(s.x, SURE, s.y, s.q, s.factor), eta=SURE)  # close to the stop: be sure
                continue
            accepted, s = advance(s)
            values = [*json.loads(s.values), s.value][-WINDOW - 1 :]
            s = s._replace(values=json.dumps(values))
            slow = len(values) > WINDOW and values[0] - s.value <= SLOW * goal * abs(s.value)
            if accepted and not (slow and tol is not None):
                continue
            size = float(xp.max(xp.abs(evaluator.projected(s.x, s.gradient))))
            if s.eta <= LEAST or (accepted and size <= goal * abs(s.value) and s.eta <= goal):
                ended = True
                continue
            eta = max(1e-2 * s.eta, LEAST)  # inexact curvature may be what is in the way
            s = loaded(s, evaluator(s.x, eta, s.y, s.q, s.factor), eta=eta, steps=None, changes=None)
            s = s._replace(values=json.dumps([s.value]))

    def advance(s: QuasiNewtonState) -> tuple[bool, QuasiNewtonState]:
        """One step: direction, trial points, pair."""
        free = ~evaluator.outward(s.x, s.gradient)
        gradient = evaluator.projected(s.x, s.gradient)
        d = direction(s, gradient, free, xp)
        if not float(vdot(d, gradient, xp=xp)) < 0.0:
            d = -gradient
        longest = float(xp.max(xp.abs(d)))
        if longest == 0.0:
            return False, s
        if s.steps is None:
            d, longest = d / longest, 1.0
        cut = longest > s.radius
        t = s.radius / longest if cut else 1.0
        for trial in range(12):
            x = evaluator.project(s.x + t * d)
            predicted = -float(vdot(s.gradient, x - s.x, xp=xp))
            if s.correction > SHARE * predicted and s.eta > LEAST:  # what it is compared with must be as accurate
                again = measure(s.x, 0.1 * s.eta, predicted, s)
                s = loaded(s, again, eta=again.eta)
                predicted = -float(vdot(s.gradient, x - s.x, xp=xp))
            found = measure(x, s.eta, predicted, s)
            slack = 0.1 * (s.correction + found.correction) + rounding * abs(s.value)
            if found.value <= s.value - ARMIJO * predicted + slack and found.value == found.value:
                radius = min(2.0 * s.radius, LONGEST) if cut and trial == 0 else s.radius
                eta = found.eta if found.correction > 0.01 * SHARE * predicted else min(3.0 * found.eta, START)
                kept = remember(s.steps, s.changes, x - s.x, found.gradient - s.gradient, MEMORY, xp=xp)
                return True, loaded(s, found, radius=radius, eta=eta, steps=kept[0], changes=kept[1])
            excess = found.value - s.value + predicted
            best = 0.5 * predicted / excess if excess > 0.0 and excess < float("inf") else 0.5
            t *= min(max(best, 0.1), 0.5)
            s = s._replace(radius=max(0.5 * s.radius, 1e-6), factor=found.factor)
            if 0.0 <= predicted <= FLAT * goal * abs(s.value):
                break  # no step this short brings anything
        return False, s._replace(**evaluator.seen())

    def measure(x: Array, eta: float, predicted: float, s: QuasiNewtonState) -> Evaluation:
        """Evaluate until the correction is small beside the decrease that is expected."""
        return evaluator.measure(x, eta, lambda found: SHARE * predicted, LEAST, s.y, s.q, s.factor)

    def finish(step: Step) -> dict[str, Any]:
        return evaluator.found(step.state, tol)

    return run(
        steps, state=state, like=evaluator.start, xp=xp, method="quasi_newton", finish=finish, tol=None,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint, problem=(evaluator, evaluator.mode, start, tol),
        result_class=BilevelResult, message=f"projected L-BFGS, adjoint by {evaluator.mode!r}",
    )  # fmt: skip


def direction(s: QuasiNewtonState, gradient: Array, free: Array, xp: Any) -> Array:
    """L-BFGS direction on the free hyperparameters."""
    d = -gradient
    if s.steps is None:
        return d
    zero = xp.zeros_like(gradient)
    pairs = []
    for k in range(s.steps.shape[0]):
        u, v = xp.where(free, s.steps[k, ...], zero), xp.where(free, s.changes[k, ...], zero)
        product = float(vdot(u, v, xp=xp))
        sizes = float(vdot(u, u, xp=xp)) * float(vdot(v, v, xp=xp))
        if product > 1e-10 * sizes**0.5:
            pairs.append((xp.reshape(u, (-1,)), xp.reshape(v, (-1,)), product))
    if not pairs:
        return d
    return xp.reshape(two_loop(xp.reshape(d, (-1,)), pairs), d.shape)
