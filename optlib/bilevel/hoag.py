"""HOAG: gradient steps on the hyperparameters, with hypergradients of rising accuracy."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.evaluation import Evaluation, Evaluator
from optlib.bilevel.problem import vdot
from optlib.bilevel.result import BilevelResult
from optlib.steps import tolerance_schedule

GROW, SHRINK, SLACK, WORSE = 0.95, 2.0, 0.25, 1.2  # of the constant L, the test, and the rejection
TURN = 0.5  # part of the first slope, backwards at the end of a step, with which L is too small
LEAST = 1e-12  # tolerance of evaluations


class HoagState(NamedTuple):
    """State of `hoag`: the evaluation at x, the constant L, its tolerance, the factor of the schedule, and counts."""

    x: Array
    value: float
    gradient: Array | None
    y: Array
    q: Array | None
    factor: Array | None
    lipschitz: float
    eta: float
    cut: float
    nit: int
    evaluations: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def hoag(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    schedule: Any = "exponential",
    inner: str = "auto",
    mode: str = "cg",
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
    r"""Tune hyperparameters by projected gradient steps with approximate hypergradients.

    ``x_{k+1} = Proj(x_k - p_k / L_k)`` with ``|p_k - grad Phi(x_k)| = O(eps_k)``.

    Parameters
    ----------
    problem : object
        With the oracles of an implicit `hypergradient`.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    schedule : str or callable
        Tolerances ``eps_k`` of the inner and the adjoint system, from 1e-3: ``"exponential"`` (0.9^k),
        ``"quadratic"``, ``"cubic"``, ``"exact"`` (1e-12), or a function of k; see `optlib.steps.tolerance_schedule`.
    inner : {"auto", "newton", "lbfgs", "accelerated_gradient"}
        The inner solver; the authors' program takes L-BFGS. "auto" is what `hypergradient` takes.
    mode : str
        How the adjoint is solved, see `hypergradient`.
    start : {"warm", "cold"}
        Whether inner and adjoint solves begin from the last ones or from ``problem.start()``. Where the inner solution
        is unique, only the time differs; where it is not, a warm one keeps traces of the path.
    refit : bool
        Solve the inner problem once more, cold, at the x returned: ``refit_fun`` and ``refit_y``.
    init : BilevelResult or HoagState, optional
        A result to continue.
    tol : float or None
        Stop when no entry of the projected gradient exceeds ``tol |Phi|`` and the tolerance is at most `tol`; None runs
        ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``certificate`` of kind ``"stationarity"``: the largest entry of the projected gradient, relative to ``|Phi|``.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    The constant: ``L_0 = |p_0| / sqrt(dim x)``. With the length ``D = |p_{k+1}| / L_k`` of the next step, a step that
    reaches ``Phi(x_{k+1}) <= Phi(x_k) + eps_{k+1} / 4 + 5/4 eps_k D - L_k D^2`` makes L 5 % smaller; one after which
    the value is 1.2 times as large is taken back (point, inner solution and adjoint), L doubled and the tolerance
    halved. A step that is kept, but at whose end the gradient points back with more than half its first size, doubles
    L too: the authors' program leaves L there, and can go back and forth between two points for ever. It also steps
    twice where it accepts, and keeps the value of rejected points; here a step is one step.

    Stopping: see ``tol``. Convergence to a stationary point needs summable tolerances and steps below the inverse of
    the Lipschitz constant of ``grad Phi``.

    Cost of a step: an inner and an adjoint solve, warm.

    Where not to use it: `tune` takes a third of its time with one hyperparameter, and ends lower with many; this is the
    method of the paper.

    References
    ----------
    F. Pedregosa, Hyperparameter optimization with approximate gradient, ICML 2016, algorithm 1 and section 3.

    Examples
    --------
    >>> from optlib.bilevel import LogisticProblem, hoag
    >>> hoag(LogisticProblem.random(60, 8, rng=1, penalty="scalar")).success
    True
    """
    evaluator = Evaluator(problem, x0, bounds, mode, inner, start, refit)
    xp = evaluator.xp
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    eps = tolerance_schedule(schedule, name="schedule")
    state = prepare_resume(init, HoagState, "pass a start as `x0`")
    if state is None:
        state = HoagState(evaluator.start, 0.0, None, evaluator.y0, None, None, 0.0, eps(0), 1.0, 0, 0, 1, 0, 0)

    def loaded(s: HoagState, found: Evaluation, **more: Any) -> HoagState:
        return s._replace(
            x=found.x, value=found.value, gradient=found.gradient, y=found.y, q=found.q, factor=found.factor,
            eta=found.eta, **evaluator.seen(), **more,
        )  # fmt: skip

    def steps(s: HoagState) -> Steps:
        evaluator.restore(s)
        if s.gradient is None:
            s = loaded(s, evaluator(s.x, s.eta, s.y))
            size = evaluator.norm(s.gradient)
            s = s._replace(lipschitz=size / evaluator.size**0.5 if size > 1e-3 else 1.0)
        while True:
            top, unit = float(xp.max(xp.abs(evaluator.projected(s.x, s.gradient)))), abs(s.value) or 1.0
            done = tol is not None and top <= goal * unit and s.eta <= goal
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=top / unit: v, metrics={"fun": lambda v=s.value: v},
                status=Status.CONVERGED if done else None, counts=evaluator.seen(),
            )  # fmt: skip
            eta = max(s.cut * eps(s.nit + 1), LEAST)
            found = evaluator(evaluator.project(s.x - s.gradient / s.lipschitz), eta, s.y, s.q, s.factor)
            length = evaluator.norm(evaluator.projected(found.x, found.gradient)) / s.lipschitz  # of the next step
            wanted = s.value + SLACK * eta + (1.0 + SLACK) * s.eta * length - s.lipschitz * length**2
            down, back = (float(vdot(p, found.x - s.x, xp=xp)) for p in (s.gradient, found.gradient))
            if found.value > s.value + (WORSE - 1.0) * abs(s.value):
                s = s._replace(lipschitz=SHRINK * s.lipschitz, cut=0.5 * s.cut, nit=s.nit + 1, **evaluator.seen())
            else:
                factor = SHRINK if back > -TURN * down else GROW if found.value <= wanted else 1.0
                s = loaded(s, found, lipschitz=factor * s.lipschitz, nit=s.nit + 1)

    def finish(step: Step) -> dict[str, Any]:
        return evaluator.found(step.state, tol)

    return run(
        steps, state=state, like=evaluator.start, xp=xp, method="hoag", finish=finish, tol=None, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(evaluator, evaluator.mode, inner, start, schedule, tol),
        result_class=BilevelResult, message=f"{schedule} tolerances, adjoint by {evaluator.mode!r}",
    )  # fmt: skip
