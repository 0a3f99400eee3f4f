"""BO-REP: steps of fixed length on x by normalised momentum, and inner steps now and then."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports
from optlib.bilevel.problem import directions
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.single_loop import SingleLoop, seed
from optlib.steps import as_schedule


class BoRepState(NamedTuple):
    """State of `bo_rep`: the three variables, the momentum, what the batches come from, and counts."""

    x: Array
    y: Array
    q: Array
    momentum: Array
    key: int
    nit: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def bo_rep(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    batch: int | None = 64,
    period: int = 2,
    inner_steps: int = 10,
    radius: float | None = None,
    beta: float = 0.9,
    step: Any = None,
    outer_step: Any = 0.02,
    init: Any = None,
    tol: float | None = 1e-2,
    maxiter: int = 10_000,
    check_every: int = 200,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
    rng: Any = None,
) -> BilevelResult:
    r"""Tune by steps of a given length, for hyper-objectives whose curvature grows with their gradient.

    Every `period` iterations `inner_steps` stochastic gradient steps on y; in all of them
    ``q -= rho (H q - grad_y F)``, ``m = beta m + (1 - beta) (grad_x F - C q)`` and ``x -= eta m / |m|``.

    Parameters
    ----------
    problem : object
        As of `soba`.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    batch : int or None
        Samples of a batch, on both levels; None for all of them.
    period : int
        Iterations between two updates of y.
    inner_steps : int
        Steps of an update.
    radius : float, optional
        Largest distance to which an update may move y, as the theory asks; the authors' program has none.
    beta : float
        Share of the old momentum, in [0, 1).
    step : float or callable, optional
        ``rho``, step of y and q; by default half the inverse of the problem's ``majorant``, see `soba`.
    outer_step : float or callable
        ``eta``, the length of a step of x, or a function of the iteration. A constant one ends at an error of its size.
    init : BilevelResult or BoRepState, optional
        A result to continue.
    tol : float or None
        As of `soba`.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`. A check takes one pass over all samples of both levels.
    rng : seed or Generator, optional
        Of the batches.

    Returns
    -------
    BilevelResult
        As of `soba`; ``x`` is the last one.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    The step does not depend on the size of the gradient, and multiplying F by a constant changes nothing. The
    *initialisation refinement* of the theory is a solution of the inner and the adjoint system to a tenth at the start.

    Stopping: as `soba`.

    Cost of an iteration: two products and a gradient of F on a batch, and ``inner_steps / period`` gradients of f.

    Where not to use it: where the gradient of ``Phi`` is Lipschitz continuous and its constant known, as for penalties
    in a box, steps that shrink with the gradient come closer to the solution.

    References
    ----------
    J. Hao, X. Gong, M. Liu, Bilevel optimization under unbounded smoothness: a new algorithm and convergence analysis,
    ICLR 2024, arXiv 2401.09587, algorithm 1, and the authors' program for the defaults.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import CoshProblem, bo_rep
    >>> problem = CoshProblem.random(3, rng=0)
    >>> res = bo_rep(problem, np.full(3, 5.0), outer_step=0.05, maxiter=400, rng=0)
    >>> float(problem.value(np.full(3, 5.0))) > 100.0, float(problem.value(res.x)) < 0.1
    (True, True)
    """
    loop = SingleLoop(problem, x0, bounds, batch, "bo_rep")
    xp = loop.xp
    period = check.scalar("period", period, low=1, integer=True)
    inner_steps = check.scalar("inner_steps", inner_steps, low=1, integer=True)
    radius = None if radius is None else check.scalar("radius", radius, low=0.0, low_open=True)
    beta = check.scalar("beta", beta, low=0.0, high=1.0, high_open=True)
    eta = as_schedule(outer_step, "outer_step")
    if tol is not None:
        check.scalar("tol", tol, low=0.0)
    state = prepare_resume(init, BoRepState, "pass a start as `x0`")
    if state is None:
        y, q, _, calls = loop.warm(outer_step, 0.5)
        state = BoRepState(loop.start, y, q, xp.zeros_like(loop.start), seed(rng), 0, *calls.values())
    rho = loop.inner_step(step, 0.5, 0.0)

    def update(x: Array, y: Array, draws: range, batches: Any, length: Any) -> Array:
        """Stochastic gradient steps on y, in the ball around where they begin."""
        middle = y
        for draw in draws:
            i = batches(draw)[1]
            y = y - length * (problem.inner(x, y) if i is None else problem.inner(x, y, i))[2]
            if radius is not None:
                far = y - middle
                y = middle + far * xp.minimum(xp.ones_like(far), radius / (linalg.norm(far, xp=xp) + loop.tiny))
        return y

    def steps(s: BoRepState) -> Steps:
        inner, outer = loop.batches(s.key)
        fresh, _ = loop.batches(s.key + 1)  # for the products, independent of the batches of y
        while True:
            budget = yield loop.step(s)
            with loop.quiet():
                for k in range(s.nit, s.nit + budget):
                    y, gradients, length = s.y, s.gradients, rho(k, s.x)
                    if k % period == 0:
                        first = k // period * inner_steps
                        y = update(s.x, y, range(first, first + inner_steps), inner, length)
                        gradients += inner_steps
                    _, hq, cq = directions(problem, s.x, y, s.q, fresh(k)[1])
                    outer_x, outer_y = loop.outer_gradients(s.x, y, outer(k)[1])
                    momentum = beta * s.momentum + (1.0 - beta) * (outer_x - cq)
                    x = s.x - eta(k) / (linalg.norm(momentum, xp=xp) + loop.tiny) * momentum
                    s = BoRepState(
                        loop.project(x), y, s.q - length * (hq - outer_y), momentum, s.key, k + 1, gradients,
                        s.products + 1, s.outer + 1,
                    )  # fmt: skip

    def finish(last: Step) -> dict[str, Any]:
        return loop.finish(last.state, tol)

    return run(
        steps, state=state, like=loop.start, xp=xp, method="bo_rep", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(
            loop, loop.batch, period, inner_steps, radius, beta, step, outer_step
        ),
        result_class=BilevelResult, message=loop.message,
    )  # fmt: skip
