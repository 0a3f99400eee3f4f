"""F2SA: the penalty with gradients on batches alone, both inner minimisers followed instead of found."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports
from optlib.bilevel.call import Call
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.single_loop import WARM, SingleLoop, seed


class F2saState(NamedTuple):
    """State of `f2sa`: x, the minimisers of ``F + weight f`` and of f, the weight, batches, steps, and counts."""

    x: Array
    y: Array
    z: Array
    weight: float
    key: int
    first: float
    nit: int
    gradients: int
    outer: int


class _Penalised(SingleLoop):
    """Measurements by gradients alone."""

    oracles = ("inner", "outer", "start")

    def measure(self, state: F2saState) -> dict[str, Any]:
        xp, x, weight = self.xp, state.x, state.weight
        with self.quiet():
            outer, outer_x, outer_y = self.problem.outer(x, state.y)
            (value, grad_x, g), (base, base_x, h) = self.problem.inner(x, state.y), self.problem.inner(x, state.z)
            left = xp.maximum(linalg.norm(outer_y + weight * g, xp=xp), weight * linalg.norm(h, xp=xp))
            left = self.ratio(left, linalg.norm(outer_y, xp=xp))
            return self.judged(x, outer + weight * (value - base), outer_x + weight * (grad_x - base_x), left)


@supports(backends=("numpy", "cupy", "torch", "strict"))
def f2sa(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    batch: int | None = 64,
    weight: float = 1.0,
    growth: float = 0.1,
    inner_steps: int = 10,
    step: Any = None,
    outer_step: Any = None,
    init: Any = None,
    tol: float | None = 1e-2,
    maxiter: int = 1000,
    check_every: int = 50,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
    rng: Any = None,
) -> BilevelResult:
    r"""Tune hyperparameters of sums over many samples by gradients alone.

    With the weight ``lambda``, the inverse of the ``sigma`` of `penalty`: `inner_steps` times
    ``z -= rho grad_y f(x, z)`` and ``y -= rho / (1 + lambda) grad_y (F + lambda f)(x, y)``, then
    ``x -= gamma (grad_x F(x, y) + lambda [grad_x f(x, y) - grad_x f(x, z)])`` and ``lambda += growth (k + 1)^(-1/7)``.

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer`` and ``start``; for batches also ``n_inner``, ``n_outer`` and ``idx``, see `Problem`.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    batch : int or None
        Samples of a batch, on both levels; None for all of them.
    weight, growth : float
        First weight > 0 and how it grows, >= 0. The gradient is off by ``O(1 / lambda)``.
    inner_steps : int
        Steps of y and z an iteration.
    step : float or callable, optional
        ``rho``; by default half the inverse of the problem's ``majorant``, see `soba`, over ``(k + 1)^(1/7)``.
    outer_step : float or callable, optional
        ``gamma``; by default as of `soba`.
    init : BilevelResult or F2saState, optional
        A result to continue.
    tol : float or None
        Stop when, on all samples, no entry of the projected gradient exceeds ``tol |Phi|`` (``|Phi|`` at least a
        thousandth of its first value), and what is left of the inner gradients, of ``F + lambda f`` at y and of
        ``lambda f`` at z, is at most ``tol |grad_y F|``. None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`. A check takes one pass over all samples of both levels.
    rng : seed or Generator, optional
        Of the batches.

    Returns
    -------
    BilevelResult
        ``fun`` and ``hypergradient`` are those of the penalised objective. ``certificate`` of kind ``"stationarity"``,
        measured on all samples; its residual is that of the inner gradients.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    Both gradients of f in the step of x come from the same batch, which keeps ``lambda`` from multiplying its variance.
    At the start the two inner problems are solved to a tenth.

    Stopping: see ``tol``.

    Cost of an iteration: ``2 inner_steps + 2`` gradients of f and ``inner_steps + 1`` of F on a batch.

    Where not to use it: with products `soba` and `saba` come several times closer with as many batches; with all
    samples in memory `penalty` is exact up to its bias.

    References
    ----------
    J. Kwon, D. Kwon, S. Wright, R. Nowak, A fully first-order method for stochastic bilevel optimization, ICML 2023,
    algorithm 1.

    Examples
    --------
    >>> from optlib.bilevel import LogisticProblem, f2sa
    >>> problem = LogisticProblem.random(400, 5, rng=1)
    >>> res = f2sa(problem, batch=32, maxiter=200, rng=0)
    >>> bool(res.fun < res.history["fun"][0])
    True
    """
    loop = _Penalised(problem, x0, bounds, batch, "f2sa")
    xp = loop.xp
    weight = check.scalar("weight", weight, low=0.0, low_open=True)
    growth = check.scalar("growth", growth, low=0.0)
    inner_steps = check.scalar("inner_steps", inner_steps, low=1, integer=True)
    if tol is not None:
        check.scalar("tol", tol, low=0.0)
    state = prepare_resume(init, F2saState, "pass a start as `x0`")
    if state is None:
        calls = {"gradients": 0, "outer": 0}

        def solve(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
            call = Call(problem, x, xp, WARM, WARM)
            z, _ = call.solve(z)
            _, p, y, _ = call.penalised(call.inner(z), y, 1.0 / weight)
            for name in calls:
                calls[name] += call.counts[name]
            return p, y, z

        p, y, z = solve(loop.start, loop.y0, loop.y0)
        first = loop.first_step(outer_step, 0.5, p, z, lambda x: solve(x, y, z)[::2])
        state = F2saState(loop.start, y, z, weight, seed(rng), first, 0, *calls.values())
    rho, gamma = loop.inner_step(step, 0.5, 1.0 / 7.0), loop.outer_step(outer_step, state.first, 0.5)

    def steps(s: F2saState) -> Steps:
        inner, outer = loop.batches(s.key)

        def f(x: Array, y: Array, i: Array | None) -> tuple[Array, Array]:
            return (problem.inner(x, y) if i is None else problem.inner(x, y, i))[1:]

        while True:
            budget = yield loop.step(s)
            with loop.quiet():
                for k in range(s.nit, s.nit + budget):
                    x, y, z, length = s.x, s.y, s.z, rho(k, s.x)
                    draw = k * (inner_steps + 1)
                    for n in range(draw, draw + inner_steps):
                        i, j = inner(n)[1], outer(n)[1]
                        z = z - length * f(x, z, i)[1]
                        g = loop.outer_gradients(x, y, j)[1] + s.weight * f(x, y, i)[1]
                        y = y - length / (1.0 + s.weight) * g
                    i, j = inner(draw + inner_steps)[1], outer(draw + inner_steps)[1]
                    p = loop.outer_gradients(x, y, j)[0] + s.weight * (f(x, y, i)[0] - f(x, z, i)[0])
                    s = F2saState(
                        gamma(k, x, p), y, z, s.weight + growth * (k + 1) ** (-1.0 / 7.0), s.key,
                        s.first, k + 1, s.gradients + 2 * inner_steps + 2, s.outer + inner_steps + 1,
                    )  # fmt: skip

    def finish(last: Step) -> dict[str, Any]:
        return loop.finish(last.state, tol)

    return run(
        steps, state=state, like=loop.start, xp=xp, method="f2sa", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(
            loop, loop.batch, weight, growth, inner_steps, step, outer_step
        ),
        result_class=BilevelResult, message=loop.message,
    )  # fmt: skip
