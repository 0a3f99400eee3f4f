"""Hypergradients by back-propagation through the last inner gradient steps, or by forward differentiation of all."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.call import Call
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import require
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.unrolling import unrolled
from optlib.steps import as_schedule

FIRST, SECOND, TINY = 0.9, 0.999, 1e-8  # of Adam: decay of both moments, and what keeps the denominator from 0
SOLVED = 0.1  # part of the first inner gradient that may be left in a success


class TruncatedState(NamedTuple):
    """State of `truncated`: point, value and gradient there, last inner iterate, both moments of Adam, and counts."""

    x: Array
    value: float
    gradient: Array | None
    y: Array
    first: Array
    second: Array
    nit: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def truncated(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    steps: int = 100,
    truncate: int = 10,
    direction: str = "reverse",
    recompute: bool = False,
    start: str = "cold",
    optimizer: str = "adam",
    inner_step: float | None = None,
    init: Any = None,
    step: Any = 0.1,
    tol: float | None = 1e-4,
    maxiter: int = 100,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Tune hyperparameters by derivatives of a number of inner gradient steps, of which the last few count.

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer``, ``hvp`` and ``cross_vjp`` (``cross_jvp`` for ``direction="forward"``).
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    steps : int
        The number T of inner gradient steps.
    truncate : int
        The number K of them that are differentiated, the last ones; all if there are fewer.
    direction : {"reverse", "forward"}
        Backwards, at a cost that does not depend on the number of hyperparameters; or forwards, through all steps, in
        memory that does not depend on their number.
    recompute : bool
        Whether ``"reverse"`` keeps only every ``sqrt(K)``-th iterate, and computes those between again.
    start : {"cold", "warm"}
        Whether the inner steps begin at the y of ``problem.start()``, or at the last one of the step before.
    optimizer : {"adam", "gradient"}
        What makes outer steps of the gradients.
    inner_step : float, optional
        The inner step; by default ``1 / lipschitz(x)``.
    init : BilevelResult or TruncatedState, optional
        A result to continue.
    step : float or callable
        Length of the outer steps, or a function of their number. Adam moves no hyperparameter by much more.
    tol : float or None
        Stop when no entry of the projected gradient exceeds ``tol |Phi|``; None runs ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``fun`` is ``F(x, y_T(x))``. ``certificate`` of kind ``"stationarity"``: the largest entry of the projected
        gradient, relative to ``|fun|``; no success while more than a tenth of the inner gradient is left.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument; also if the inner step is so long that the adjoint grows.

    Notes
    -----
    ``y_t = y_{t-1} - c grad_y f(x, y_{t-1})``. Backwards from ``a = grad_y F(x, y_T)``, ``h = grad_x F``, K times
    ``h <- h - c C a``, ``a <- a - c H a``. At a converged y the error of h is at most
    ``|C| |grad_y F| (1 - c mu)^K / mu``: few steps do, where the inner problem is well conditioned. The step c changes
    with x, but counts as a constant in the derivative.

    Stopping: see ``tol``.

    Cost of a step: T gradients and K products with H and C; memory for K copies of y, with `recompute` for 2 sqrt(K) at
    K more gradients. Forwards: T products for each hyperparameter, and as many copies of y.

    Where not to use it: where implicit gradients can be had (a strongly convex inner problem), `tune` is faster and
    without bias.

    References
    ----------
    A. Shaban, C.-A. Cheng, N. Hatch, B. Boots, Truncated back-propagation for bilevel optimization, AISTATS 2019.
    L. Franceschi et al., Forward and reverse gradient-based hyperparameter optimization, ICML 2017. D. P. Kingma,
    J. Ba, Adam: a method for stochastic optimization, ICLR 2015.

    Examples
    --------
    >>> from optlib.bilevel import CleaningProblem, truncated
    >>> problem = CleaningProblem.random(60, 5, rng=1)
    >>> few = truncated(problem, maxiter=30)
    >>> bool(few.fun < few.history["fun"][0])
    True
    """
    steps = check.scalar("steps", steps, low=1, integer=True)
    kept = min(steps, check.scalar("truncate", truncate, low=1, integer=True))
    check.option("direction", direction, ("reverse", "forward"))
    check.option("recompute", recompute, (False, True))
    check.option("start", start, ("cold", "warm"))
    check.option("optimizer", optimizer, ("adam", "gradient"))
    if inner_step is not None:
        inner_step = check.scalar("inner_step", inner_step, low=0.0, low_open=True)
    length = as_schedule(step)
    needs = ("inner", "outer", "start", "hvp", "cross_jvp" if direction == "forward" else "cross_vjp")
    oracles = Oracles(problem, x0, bounds, needs, "truncated")
    if inner_step is None:
        require(problem, ("lipschitz",), "truncated without `inner_step`")
    xp = oracles.xp
    state = prepare_resume(init, TruncatedState, "pass a start as `x0`")
    if state is None:
        zero = xp.zeros_like(oracles.start)
        state = TruncatedState(oracles.start, 0.0, None, oracles.y0, zero, zero, 0, 0, 0, 0)

    def measured(s: TruncatedState) -> TruncatedState:
        """Value and gradient at x."""
        call = Call(problem, s.x, xp, 1.0, 1.0, steps, kept, inner_step, recompute=recompute)
        found = unrolled(call, s.y if start == "warm" else oracles.y0, direction)
        counts = {name: getattr(s, name) + call.counts[name] for name in ("gradients", "products", "outer")}
        return s._replace(value=found.value, gradient=found.gradient, y=found.y, **counts)

    def moved(s: TruncatedState) -> TruncatedState:
        """The outer step."""
        t, g = length(s.nit), oracles.projected(s.x, s.gradient)
        if optimizer == "gradient":
            return s._replace(x=oracles.project(s.x - t * g), nit=s.nit + 1)
        first, second = FIRST * s.first + (1.0 - FIRST) * g, SECOND * s.second + (1.0 - SECOND) * g * g
        k = s.nit + 1
        mean, square = first / (1.0 - FIRST**k), second / (1.0 - SECOND**k)
        x = oracles.project(s.x - t * mean / (xp.sqrt(square) + TINY))
        return s._replace(x=x, first=first, second=second, nit=k)

    def iterations(s: TruncatedState) -> Steps:
        if s.gradient is None:
            s = measured(s)
        while True:
            top = float(xp.max(xp.abs(oracles.projected(s.x, s.gradient)))) / (abs(s.value) or 1.0)
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=top: v, metrics={"fun": lambda v=s.value: v},
                counts={"gradients": s.gradients, "products": s.products, "outer": s.outer},
            )  # fmt: skip
            s = measured(moved(s))

    def finish(last: Step) -> dict[str, Any]:
        s = last.state
        top = float(xp.max(xp.abs(oracles.projected(s.x, s.gradient))))
        left, unit = (oracles.norm(problem.inner(x, y)[2]) for x, y in ((s.x, s.y), (oracles.start, oracles.y0)))
        left = left / unit if unit else left
        words = f"of F after {steps} inner steps, {kept} of them differentiated; {left:.1e} of the inner gradient left"
        certificate = Certificate(
            "stationarity", top, scale=abs(s.value) or 1.0, tol=tol, proof=False,
            residual=left if left > SOLVED else 0.0, note=words,
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": s.value, "y": s.y, "hypergradient": s.gradient, "error_bound": None,
            "at_bounds": oracles.at_bounds(s.x, s.gradient),
        }  # fmt: skip

    return run(
        iterations, state=state, like=oracles.start, xp=xp, method="truncated", finish=finish, tol=tol,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
        problem=(
            oracles, steps, kept, direction, start, optimizer, inner_step, step
        ),
        result_class=BilevelResult, message=f"{direction} through {kept} of {steps} inner steps, {optimizer}",
    )  # fmt: skip
