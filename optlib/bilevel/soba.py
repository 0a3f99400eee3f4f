"""SOBA: stochastic steps of x, y and the adjoint at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.single_loop import SingleLoop, seed


class SobaState(NamedTuple):
    """State of `soba`: the three variables, what the batches and steps come from, and counts."""

    x: Array
    y: Array
    q: Array
    key: int
    first: float
    nit: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def soba(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    batch: int | None = 64,
    step: Any = None,
    outer_step: Any = None,
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
    r"""Tune hyperparameters of sums over many samples, a batch of them a step.

    ``y -= rho grad_y f_i``, ``q -= rho (H_i q - grad_y F_j)`` and ``x -= gamma (grad_x F_j - C_i q)``, all from the
    old point, with batches i and j of both levels.

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer``, ``start`` and products; for batches also ``n_inner``, ``n_outer`` and ``idx``, see
        `Problem`. Without these all samples are used in each step.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    batch : int or None
        Samples of a batch, on both levels; None for all of them.
    step : float or callable, optional
        ``rho``, a number or a function of the iteration; by default half the inverse of the problem's ``majorant`` for
        batches of this size (an array, at each x; or of its ``lipschitz`` at `x0`), over ``sqrt(1 + e)`` in epoch e.
    outer_step : float or callable, optional
        ``gamma`` alike; by default from two hypergradients at the start, so that y can follow, over ``sqrt(1 + e)``;
        then no step changes a hyperparameter by more than 0.1.
    init : BilevelResult or SobaState, optional
        A result to continue.
    tol : float or None
        Stop when, on all samples, no entry of the projected gradient exceeds ``tol |Phi|`` (``|Phi|`` at least a
        thousandth of its first value), and the residuals of the inner and the adjoint system are at most ``tol``,
        relative to the gradient at the start and to ``grad_y F``. None runs ``maxiter`` steps.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`. A check takes one pass over all samples of both levels.
    rng : seed or Generator, optional
        Of the batches.

    Returns
    -------
    BilevelResult
        ``certificate`` of kind ``"stationarity"``, measured on all samples: the largest entry of the projected gradient
        with the y and q of the run; its residual is the larger one of both systems. ``error_bound`` turns these into a
        bound for the hypergradient where the problem knows its constants.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    An epoch is a permutation of the samples, drawn on the host and moved to the device at once; samples that do not
    fill a batch are left out of it. At the start the inner and the adjoint system are solved to a tenth.

    Stopping: see ``tol``. With steps of the order ``k^-1/2`` the squared gradient falls like ``k^-1/2``; with constant
    ones it stops falling at a level proportional to the variance of the batches, which `saba` does away with.

    Cost of a step: one gradient and two products on a batch of each level, without waiting for the device.

    Where not to use it: while all samples fit a few matrix products, `quasi_newton` reaches in seconds an accuracy that
    this method never sees.

    References
    ----------
    M. Dagreou, P. Ablin, S. Vaiter, T. Moreau, A framework for bilevel optimization that enables stochastic and global
    variance reduction algorithms, NeurIPS 2022, algorithm 1 (with the adjoint of the opposite sign).

    Examples
    --------
    >>> from optlib.bilevel import LogisticProblem, soba
    >>> problem = LogisticProblem.random(400, 5, rng=1)
    >>> res = soba(problem, batch=32, maxiter=2000, rng=0)
    >>> bool(res.fun < 0.95 * res.history["fun"][0])
    True
    """
    loop = SingleLoop(problem, x0, bounds, batch, "soba")
    if tol is not None:
        check.scalar("tol", tol, low=0.0)
    state = prepare_resume(init, SobaState, "pass a start as `x0`")
    if state is None:
        y, q, first, calls = loop.warm(outer_step, 0.5)
        state = SobaState(loop.start, y, q, seed(rng), first, 0, *calls.values())
    wait = loop.epoch
    rho, gamma = loop.inner_step(step, 0.5, 0.5, wait), loop.outer_step(outer_step, state.first, 0.5, wait)

    def steps(s: SobaState) -> Steps:
        inner, outer = loop.batches(s.key)
        while True:
            budget = yield loop.step(s)
            with loop.quiet():
                for k in range(s.nit, s.nit + budget):
                    d = loop.sampled(s.x, s.y, s.q, inner(k)[1], outer(k)[1])
                    length = rho(k, s.x)
                    s = s._replace(
                        x=gamma(k, s.x, d.outer_x - d.cq), y=s.y - length * d.inner,
                        q=s.q - length * (d.hq - d.outer_y), nit=k + 1, gradients=s.gradients + 1,
                        products=s.products + 1, outer=s.outer + 1,
                    )  # fmt: skip

    def finish(last: Step) -> dict[str, Any]:
        return loop.finish(last.state, tol)

    return run(
        steps, state=state, like=loop.start, xp=loop.xp, method="soba", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(loop, loop.batch, step, outer_step), result_class=BilevelResult,
        message=loop.message,
    )  # fmt: skip
