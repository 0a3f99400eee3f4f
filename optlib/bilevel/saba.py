"""SABA: the steps of SOBA with the variance of the batches removed, as in SAGA."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.single_loop import Batches, Estimates, SingleLoop, seed

SAFE = 1.0 / 3.0  # of the inverse smoothness: the constant of SAGA


class SabaState(NamedTuple):
    """State of `saba`: the three variables, tables of the directions by batch and their means, and counts.

    The tables have one more axis than the directions, the number of the batch.
    """

    x: Array
    y: Array
    q: Array
    inner: Array
    hq: Array
    cq: Array
    outer_x: Array
    outer_y: Array
    mean_inner: Array
    mean_hq: Array
    mean_cq: Array
    mean_outer_x: Array
    mean_outer_y: Array
    key: int
    first: float
    nit: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def saba(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    batch: int | None = 64,
    step: Any = None,
    outer_step: Any = None,
    init: Any = None,
    tol: float | None = 1e-3,
    maxiter: int = 10_000,
    check_every: int = 200,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
    rng: Any = None,
) -> BilevelResult:
    r"""Tune hyperparameters of sums over many samples by batches, to any accuracy.

    The steps of `soba`, with each direction estimated by ``(new_b - old_b) + mean(old)``: what batch b gives now, what
    it gave the last time, and the mean over all batches of what they gave the last time.

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
        Step of y and q; by default a third of the inverse of the problem's ``majorant``, see `soba`.
    outer_step : float or callable, optional
        Step of x; by default from two hypergradients at the start, so that y can follow; then no step changes
        a hyperparameter by more than 0.1.
    init : BilevelResult or SabaState, optional
        A result to continue.
    tol : float or None
        As of `soba`.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`. A check takes one pass over all samples of both levels, and copies the tables.
    rng : seed or Generator, optional
        Of the batches: how the samples are dealt out, once, and the order in which an epoch takes the batches.

    Returns
    -------
    BilevelResult
        As of `soba`.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    Batches of unequal size are weighted so that the estimates have the right mean. The tables start full.

    Stopping: as `soba`. With constant steps the gradient tends to zero; linearly where ``Phi`` is strongly convex, or
    satisfies the inequality of Polyak and Lojasiewicz.

    Cost of a step: as of `soba`. Memory: two arrays of the size of y and one of the size of x for each inner batch, one
    of each for each outer one.

    Where not to use it: where the tables do not fit, or one or two passes over the samples are all that there is time
    for, take `soba`.

    References
    ----------
    M. Dagreou, P. Ablin, S. Vaiter, T. Moreau, A framework for bilevel optimization that enables stochastic and global
    variance reduction algorithms, NeurIPS 2022, section 3.3. A. Defazio, F. Bach, S. Lacoste-Julien, SAGA, NIPS 2014.

    Examples
    --------
    >>> from optlib.bilevel import LogisticProblem, saba
    >>> problem = LogisticProblem.random(400, 5, rng=1)
    >>> saba(problem, batch=32, tol=1e-2, rng=0).success
    True
    """
    loop = SingleLoop(problem, x0, bounds, batch, "saba")
    xp = loop.xp
    if tol is not None:
        check.scalar("tol", tol, low=0.0)
    state = prepare_resume(init, SabaState, "pass a start as `x0`")
    if state is None:
        y, q, first, calls = loop.warm(outer_step, SAFE)
        key = seed(rng)
        tables, means, passes = full(loop, y, q, *loop.batches(key, fixed=True))
        counts = [n + passes[k == 2] for k, n in enumerate(calls.values())]
        state = SabaState(loop.start, y, q, *tables, *means, key, first, 0, *counts)
    rho = loop.inner_step(step, SAFE, 0.0)
    gamma = loop.outer_step(outer_step, state.first, 0.0)

    def steps(s: SabaState) -> Steps:
        inner, outer = loop.batches(s.key, fixed=True)
        while True:
            budget = yield loop.step(s)
            tables = Estimates(*(xp.asarray(u, copy=True) for u in s[3:8]))  # the old ones belong to the last step
            means = Estimates(*s[8:13])
            x, y, q, nit = s.x, s.y, s.q, s.nit
            with loop.quiet():
                for k in range(nit, nit + budget):
                    (a, i), (b, j) = inner(k), outer(k)
                    new, length = loop.sampled(x, y, q, i, j), rho(k, x)
                    d, means = reduced(tables, means, new, (a, a, a, b, b), inner, outer)
                    x = gamma(k, x, d.outer_x - d.cq)
                    y, q = y - length * d.inner, q - length * (d.hq - d.outer_y)
            s = SabaState(
                x, y, q, *tables, *means, s.key, s.first, nit + budget, s.gradients + budget, s.products + budget,
                s.outer + budget,
            )  # fmt: skip

    def finish(last: Step) -> dict[str, Any]:
        return loop.finish(last.state, tol)

    return run(
        steps, state=state, like=loop.start, xp=xp, method="saba", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(loop, loop.batch, step, outer_step), result_class=BilevelResult,
        message=loop.message,
    )  # fmt: skip


def full(
    loop: SingleLoop, y: Array, q: Array, inner: Batches, outer: Batches
) -> tuple[Estimates, Estimates, tuple[int, int]]:
    """Tables and means at the start, and how many calls each level took."""
    xp, x = loop.xp, loop.start
    rows: list[Any] = [loop.inner_directions(x, y, q, inner.part(a)) for a in range(inner.count)]
    more: list[Any] = [loop.outer_gradients(x, y, outer.part(b)) for b in range(outer.count)]
    tables = Estimates(*(xp.stack(u) for u in (*zip(*rows, strict=True), *zip(*more, strict=True))))
    means = []
    for table, level in zip(tables, (inner, inner, inner, outer, outer), strict=True):
        means.append(sum((share * table[a, ...] for a, share in enumerate(level.shares)), 0.0 * table[0, ...]))
    return tables, Estimates(*means), (inner.count, outer.count)


def reduced(
    tables: Estimates, means: Estimates, new: Estimates, numbers: tuple[int, ...], inner: Batches, outer: Batches
) -> tuple[Estimates, Estimates]:
    """Estimates without the variance of the batches, and the new means; the tables are changed in place."""
    found, kept = [], []
    for table, mean, now, a, level in zip(
        tables, means, new, numbers, (inner, inner, inner, outer, outer), strict=True
    ):
        change = now - table[a, ...]
        table[a, ...] = now
        found.append(level.count * level.shares[a] * change + mean)
        kept.append(mean + level.shares[a] * change)
    return Estimates(*found), Estimates(*kept)
