"""Bilevel descent aggregation: inner problems with many minimisers, of which the outer problem takes the best."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import halt, require, vdot
from optlib.bilevel.result import BilevelResult
from optlib.steps import armijo

FIRST = 0.1  # sup-norm of the first step
SOLVED = 0.1  # part of the first inner gradient that may be left in a success


class BdaState(NamedTuple):
    """State of `bda`: the point, value and gradient of Phi_K there, y_K, the next step, first slope, and counts."""

    x: Array
    value: float
    gradient: Array | None
    y: Array
    length: float
    unit: float
    nit: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def bda(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    alpha: float = 0.9,
    steps: int = 100,
    step: float | None = None,
    outer_step: float | None = None,
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
    r"""Minimise ``F(x, y)`` over x and over the minimisers y of a convex ``f(x, .)``, by differentiated iterations.

    ``y_k = y_{k-1} - alpha_k s_F grad_y F(x, y_{k-1}) - (1 - alpha_k) s_f grad_y f(x, y_{k-1})`` with
    ``alpha_k = alpha / k``: the outer descent fades out, slowly enough to choose among the inner minimisers.

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer`` and products of both: ``hvp``, ``cross_vjp``, ``hvp_outer``, ``cross_outer``.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    alpha : float
        Weight of the outer descent, in [0, 1). 0 is gradient descent on f, differentiated.
    steps : int
        The number K of inner iterations, each time from the y of ``problem.start()``.
    step, outer_step : float, optional
        The steps ``s_f`` and ``s_F``; by default ``1 / lipschitz(x)`` and ``1 / lipschitz_outer(x)``.
    init : BilevelResult or BdaState, optional
        A result to continue.
    tol : float or None
        Stop when the largest entry of the projected gradient is this small in units of that at the start; None runs
        ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``fun`` is ``Phi_K(x) = F(x, y_K(x))`` and ``hypergradient`` its gradient, exact for given steps. ``inner_norm``
        is the norm of ``grad_y f(x, y_K)``, in units of that at the start. ``certificate`` of kind ``"stationarity"``
        for Phi_K; no success while more than a tenth of the inner gradient is left.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    The gradient goes backwards through the recursion: with ``A_k = I - alpha_k s_F grad_yy F - (1 - alpha_k) s_f H`` at
    ``y_{k-1}`` the adjoint is ``A_k' ... A_K' grad_y F``. The hyperparameters follow projected gradient steps of
    Barzilai and Borwein's lengths, at most ten times the last, with Armijo backtracking.

    Stopping: see ``tol``; or stalled, when no step decreases the value.

    Cost of a step: K gradients of f and F for each trial, then 2 K products and as many cross products; memory for K
    copies of y.

    The result depends on K and on the first y: where f is strongly convex it tends to that of implicit methods like
    1 / K, otherwise to the optimistic solution like ``K^-alpha`` at best.

    Where not to use it: where f is strongly convex `tune` is faster and more accurate; `bamm` needs no inner loop.

    References
    ----------
    R. Liu, P. Mu, X. Yuan, S. Zeng, J. Zhang, A generic first-order algorithmic framework for bi-level programming
    beyond lower-level singleton, ICML 2020, equations (8) and (9). The released programs take weights whose sum is
    finite, for which its theorem does not hold.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import CounterexampleProblem, bda
    >>> problem = CounterexampleProblem(np.ones(2))  # solved by x = 1
    >>> bda(problem).x.round(2), bda(problem, alpha=0.0).x.round(2)
    (array([1., 1.]), array([0.5, 0.5]))
    """
    alpha = check.scalar("alpha", alpha, low=0.0, high=1.0, high_open=True)
    count = check.scalar("steps", steps, low=1, integer=True)
    given = [None if s is None else check.scalar(n, s, low=0.0, low_open=True)
             for n, s in (("step", step), ("outer_step", outer_step))]  # fmt: skip
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    needs = ("inner", "outer", "start", "hvp", "cross_vjp")
    oracles = Oracles(problem, x0, bounds, needs + (("hvp_outer", "cross_outer") if alpha else ()), "bda")
    for name, oracle, s in zip(("step", "outer_step"), ("lipschitz", "lipschitz_outer"), given, strict=True):
        if s is None and (alpha or name == "step"):
            require(problem, (oracle,), f"bda without `{name}`")
    xp, y0 = oracles.xp, oracles.y0
    state = prepare_resume(init, BdaState, "pass a start as `x0`")
    if state is None:
        state = BdaState(oracles.start, 0.0, None, y0, 0.0, 0.0, 0, 0, 0, 0)

    def lengths(x: Array) -> tuple[float, float]:
        """The steps ``s_f`` and ``s_F`` at x; constants in the derivatives."""
        s_f = given[0] or 1.0 / problem.lipschitz(x)
        return s_f, (given[1] or 1.0 / problem.lipschitz_outer(x)) if alpha else 0.0

    def forward(x: Array, s: tuple[float, float]) -> list[Array]:
        """The iterates ``y_0 .. y_K``."""
        ys = [y0]
        for k in range(1, count + 1):
            y, a = ys[-1], alpha / k
            move = (1.0 - a) * s[0] * oracles.inner(x, y)[2]
            ys.append(y - (move + a * s[1] * oracles.outer(x, y)[2] if a else move))
        return ys

    def backward(x: Array, ys: list[Array], s: tuple[float, float]) -> tuple[float, Array]:
        """``Phi_K`` and its gradient."""
        value, gradient, adjoint = oracles.outer(x, ys[-1])
        for k in range(count, 0, -1):
            y, a = ys[k - 1], alpha / k
            inner = oracles.at(x, y)
            gradient = gradient - (1.0 - a) * s[0] * inner.cross_vjp(adjoint)
            change = (1.0 - a) * s[0] * inner.hvp(adjoint)
            if a:
                outer = oracles.outer_at(x, y)
                gradient = gradient - a * s[1] * outer.cross_vjp(adjoint)
                change = change + a * s[1] * outer.hvp(adjoint)
            adjoint = adjoint - change
        return float(value), gradient

    def loaded(s: BdaState, x: Array, ys: list[Array], lengths: tuple[float, float], **more: Any) -> BdaState:
        value, gradient = backward(x, ys, lengths)
        if not math.isfinite(value + float(xp.sum(gradient))):
            raise halt("NaN or infinity from an oracle", "finite numbers", Status.NONFINITE, x, ys[-1])
        return s._replace(x=x, value=value, gradient=gradient, y=ys[-1], **more)

    def advance(s: BdaState, steps: tuple[float, float]) -> BdaState:
        """One projected gradient step, or a length of 0 if none decreases the value."""
        seen: dict[float, tuple[Array, list[Array]]] = {}

        def along(t: float) -> float:
            x = oracles.project(s.x - t * s.gradient)
            seen[t] = x, forward(x, steps)
            return float(oracles.outer(x, seen[t][1][-1])[0])

        downhill = oracles.project(s.x - s.length * s.gradient) - s.x
        slope = float(vdot(s.gradient, downhill, xp=xp)) / s.length
        found = armijo(along, s.value, slope, step=s.length)
        if not found.success:
            return s._replace(length=0.0)
        x, ys = seen[found.step]
        fresh = lengths(x)
        ys = ys if fresh == steps else forward(x, fresh)
        new = loaded(s, x, ys, fresh)
        step, change = x - s.x, new.gradient - s.gradient
        square, bend = (float(vdot(step, u, xp=xp)) for u in (step, change))
        longest = 10.0 * found.step
        return new._replace(length=min(square / bend, longest) if bend > 0.0 else longest)

    def iterations(s: BdaState) -> Steps:
        oracles.restore(s)
        if s.gradient is None:
            steps = lengths(s.x)
            s = loaded(s, s.x, forward(s.x, steps), steps)
            unit = float(xp.max(xp.abs(oracles.projected(s.x, s.gradient)))) or 1.0
            s = s._replace(unit=unit, length=FIRST / unit, **oracles.seen())
        while True:
            stop = float(xp.max(xp.abs(oracles.projected(s.x, s.gradient)))) / s.unit
            status = None
            if s.length == 0.0 or stop == 0.0:
                status = Status.CONVERGED if stop <= goal else Status.STALLED
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=stop: v, metrics={"fun": lambda v=s.value: v},
                status=status, counts=oracles.seen(),
            )  # fmt: skip
            s = advance(s, lengths(s.x))._replace(nit=s.nit + 1)
            s = s._replace(**oracles.seen())

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        top = float(xp.max(xp.abs(oracles.projected(s.x, s.gradient))))
        left, first = (oracles.norm(problem.inner(x, y)[2]) for x, y in ((s.x, s.y), (oracles.start, y0)))
        left = left / first if first else left
        certificate = Certificate(
            "stationarity", top, scale=s.unit, tol=tol, proof=False, residual=left if left > SOLVED else 0.0,
            note=f"of F after {count} inner iterations, which left {left:.1e} of the inner gradient",
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": s.value, "y": s.y, "hypergradient": s.gradient, "error_bound": None,
            "at_bounds": oracles.at_bounds(s.x, s.gradient), "inner_norm": left,
        }  # fmt: skip

    return run(
        iterations, state=state, like=oracles.start, xp=xp, method="bda", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(oracles, alpha, count, step, outer_step),
        result_class=BilevelResult, message=f"{count} inner iterations, outer weights {alpha:g} / k",
    )  # fmt: skip
