"""The primal-dual method of Chambolle and Pock, with restarts."""

from typing import Any, NamedTuple

from optlib._core import Result, prepare_init
from optlib._core import validation as check
from optlib.backend import Array, supports
from optlib.online._problem import euclidean, require
from optlib.online._saddle import repeated, run_saddle
from optlib.online.problems import BilinearGame
from optlib.online.terms import CompositeProblem

PERIOD = 64  # iterations between two decisions about a restart
DECAY, LONGEST = 0.3, 0.4  # restart when the gap fell to this part, or after this part of all iterations


class ChambollePockState(NamedTuple):
    """Primal and dual point, extrapolated primal point, means since the restart and their number, gap there.

    ``scale`` is the unit of the certificate and ``nit`` the number of iterations done.
    """

    x: Array
    y: Array
    bar: Array
    mean_x: Array
    mean_y: Array
    count: Array
    gap: Array
    scale: float
    nit: int


@supports()
def chambolle_pock(
    problem: BilinearGame | CompositeProblem,
    *,
    init: Any = None,
    step: float | None = None,
    restart: bool = True,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 50,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Solve ``min_x max_y f(x) + <K x, y> - h*(y)`` by alternating proximal steps with extrapolation.

    Parameters
    ----------
    problem : BilinearGame or CompositeProblem
        A game on bounded Euclidean sets, or a sum of two functions that have proximal operators.
    init : pair of arrays, Result or state, optional
        Starting point; or a result to continue.
    step : float, optional
        Primal step ``t``; the dual step is ``1 / (t |K|^2)``. By default ``1 / |K|``.
    restart : bool
        Whether to start anew from the mean when the gap has fallen enough: linear convergence on linear programs and
        many others. Without it the means are those of the theorem.
    tol : float or None
        Tolerance of the duality gap relative to its scale (the largest payoff, the value at the start), and of the
        violation of constraints; None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` is the pair of points, ``fun`` the payoff or the value ``f(x) + h(K x)``; the certificate is the duality
        gap.

    Notes
    -----
    ``y <- prox(y + s K xbar)``, ``x <- prox(x - t K'y)``, ``xbar = 2 x - old x``. After k iterations without restart
    the mean has a gap of at most ``(|x - x_0|^2 / (2 t) + |y - y_0|^2 / (2 s)) / k`` against every ``(x, y)``. The
    answer is the mean or the last point, whichever has the smaller gap.

    A restart is decided every 64 iterations: when the gap of the better of both fell to 0.3 of that at the last
    restart, or when 0.4 of all iterations were done since.

    Stopping: the gap of the answer, relative to its scale, is at most ``tol``.

    Cost: one product with ``K``, one with its transpose, and two proximal operators per iteration; 5 % more for
    restarts.

    When not to use it: with steps of very different scale in x and y tune ``step``; a linear program in general form
    is for a simplex or interior point code.

    References
    ----------
    .. [1] A. Chambolle, T. Pock, "A First-Order Primal-Dual Algorithm for Convex Problems with Applications to
       Imaging", J. Math. Imaging Vis. 40 (2011); "On the ergodic convergence rates of a first-order primal-dual
       algorithm", Math. Program. 159 (2016), Theorem 1.
    .. [2] D. Applegate, O. Hinder, H. Lu, M. Lubin, "Faster first-order primal-dual methods for linear programming
       using restarts and sharpness", Math. Program. 201 (2023).

    Examples
    --------
    >>> from optlib.geometry import Simplex
    >>> from optlib.online import BilinearGame, chambolle_pock
    >>> game = BilinearGame([[3.0, 0.0], [1.0, 2.0]], rows=Simplex(2), columns=Simplex(2))
    >>> res = chambolle_pock(game)
    >>> res.success, round(res.fun, 5), res.x[0].round(5)
    (True, 1.5, array([0.25, 0.75]))
    """
    require(problem, BilinearGame, CompositeProblem)
    euclidean(problem, "chambolle_pock", "give Euclidean sets, or use mirror_prox")
    check.option("restart", restart, (True, False))
    xp, norm = problem._xp, problem.norm or 1.0
    t = 1.0 / norm if step is None else check.scalar("step", step, low=0.0, low_open=True)
    s = 1.0 / (t * norm**2)
    start, state = prepare_init(init, ChambollePockState)
    if state is None:
        z = problem.start(start)
        x, y = problem.split(z)
        gap = problem.measure(z)
        state = ChambollePockState(x, y, x, x, y, xp.zeros_like(gap), gap, problem._start_scale(z), 0)

    def advance(p: ChambollePockState) -> ChambollePockState:
        y = problem.prox_y(p.y + s * problem.forward(p.bar), s)
        x = problem.prox_x(p.x - t * problem.backward(y), t)
        count = p.count + 1.0
        part = 1.0 / count
        mean_x, mean_y = p.mean_x + part * (x - p.mean_x), p.mean_y + part * (y - p.mean_y)
        new = ChambollePockState(x, y, 2.0 * x - p.x, mean_x, mean_y, count, p.gap, p.scale, p.nit + 1)
        return restarted(new) if restart and new.nit % PERIOD == 0 else new

    def restarted(p: ChambollePockState) -> ChambollePockState:
        last, mean = (problem.measure(xp.concat(z)) for z in ((p.x, p.y), (p.mean_x, p.mean_y)))
        better = mean < last
        gap = xp.where(better, mean, last)
        now = (gap <= DECAY * p.gap) | (p.count >= LONGEST * p.nit)
        x, y = xp.where(better, p.mean_x, p.x), xp.where(better, p.mean_y, p.y)
        fresh = ChambollePockState(x, y, x, x, y, xp.zeros_like(gap), gap, p.scale, p.nit)
        pairs = zip(fresh[:7], p[:7], strict=True)
        return ChambollePockState(*(xp.where(now, a, b) for a, b in pairs), p.scale, p.nit)

    def answers(p: ChambollePockState) -> tuple[Array, Array]:
        return xp.concat([p.mean_x, p.mean_y]), xp.concat([p.x, p.y])

    return run_saddle(
        "chambolle_pock", problem, state, repeated(advance), answers,
        calls=lambda p: {"products": 2 * p.nit}, options=(t, restart), tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
