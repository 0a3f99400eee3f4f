"""The optimistic gradient method (Popov's): one evaluation of the operator per iteration."""

from typing import Any, NamedTuple

from optlib._core import Result, prepare_init
from optlib._core import validation as check
from optlib.backend import Array, kernel, supports
from optlib.geometry import Entropy
from optlib.online._problem import Problem, require
from optlib.online._saddle import mean, run_saddle
from optlib.online.problems import BilinearGame, entropic_game


class OptimisticGradientState(NamedTuple):
    """Dual point, last midpoint and the operator there, mean of the midpoints, unit, iterations done."""

    theta: Array
    w: Array
    g: Array
    average: Array
    scale: float
    nit: int


def _rounds(
    problem: Problem, theta: Array, w: Array, g: Array, average: Array, nit: int, eta: float, count: int
) -> tuple[Array, ...]:
    """Do iterations on any problem."""
    for k in range(nit, nit + count):
        w = problem.grad_conj(theta - eta * g)
        g = problem.operator(w)
        theta = problem.restore(theta - eta * g)
        average = mean(average, w, k + 1)
    return theta, w, g, average


@kernel(numba="optlib.online._games_numba:optimistic_rounds", match="iterate")
def optimistic_rounds(
    A: Array,
    b: Array,
    c: Array,
    mass_x: float,
    mass_y: float,
    theta: Array,
    w: Array,
    g: Array,
    average: Array,
    nit: int,
    eta: float,
    count: int,
    *,
    xp: Any,
) -> tuple[Array, ...]:
    """Do iterations of the optimistic method on a matrix game with entropy on both sides.

    Parameters
    ----------
    A : array, shape (n, m)
        Payoffs.
    b, c : array, shapes (n,) and (m,)
        Linear costs.
    mass_x, mass_y : float
        Sums of the strategies.
    theta, w, g, average : array, shape (n + m,)
        What the state of the method has, before.
    nit : int
        Iterations before.
    eta : float
        Size of the steps.
    count : int
        Iterations to do.
    xp : module
        Namespace.

    Returns
    -------
    theta, w, g, average : array, shape (n + m,)
        After the iterations.
    """
    problem = BilinearGame(A, b=b, c=c, rows=Entropy(mass_x), columns=Entropy(mass_y))
    return _rounds(problem, theta, w, g, average, nit, eta, count)


@supports()
def optimistic_gradient(
    problem: Problem,
    *,
    init: Any = None,
    step: float | None = None,
    tol: float | None = 1e-3,
    maxiter: int = 10_000,
    check_every: int = 50,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Solve a saddle-point problem by optimistic mirror steps: mirror prox that reuses the last gradient.

    Parameters
    ----------
    problem : BilinearGame or VariationalInequality
        The problem, with the geometry of its sets. Without sets the operator may be slightly non-monotone.
    init : array or pair of arrays, Result or state, optional
        Starting point, by default the centre of the sets; or a result to continue.
    step : float, optional
        Size of the steps; by default ``1 / (2 L)``, for an operator that is not monotone ``10 / (31 L)``.
    tol : float or None
        Tolerance of the duality gap relative to the largest payoff (of the residual relative to that of the start,
        where the sets are not bounded); None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` is the point, for games the pair of strategies, and ``fun`` the payoff; the certificate is the duality
        gap at ``x``, or the residual.

    Notes
    -----
    ``w_k = P(theta_k - step F(w_{k-1}))``, ``theta_{k+1} = theta_k - step F(w_k)``; on matrix games this is optimistic
    Hedge against itself, on the whole space ``w <- w - 2 step F(w) + step F(previous w)``. The mean of the ``w`` has a
    gap of at most ``range / (step k)``. The answer is that mean or the last ``w``, whichever is better.

    Without sets the method converges for a comonotonicity down to ``-5 / (62 L)``.

    Stopping: the gap or residual of the answer, relative to its scale, is at most ``tol``.

    Cost: one evaluation of ``F`` and two to three mirror maps per iteration.

    When not to use it: on operators that are far from monotone, where `halpern` and `extragradient` still converge.

    References
    ----------
    .. [1] L. D. Popov, "A modification of the Arrow-Hurwicz method for search of saddle points", 1980.
    .. [2] A. Rakhlin, K. Sridharan, "Optimization, Learning, and Games with Predictable Sequences", NeurIPS 2013.
    .. [3] E. Gorbunov, A. Taylor, S. Horvath, G. Gidel, arXiv:2210.13831, Theorem 4.2.

    Examples
    --------
    >>> from optlib.online import BilinearGame, optimistic_gradient
    >>> res = optimistic_gradient(BilinearGame([[3.0, 0.0], [1.0, 2.0]]))
    >>> res.success, round(res.fun, 3)
    (True, 1.5)
    """
    require(problem)
    if step is None:
        step = (0.5 if problem.comonotonicity >= 0.0 else 10.0 / 31.0) / problem.lipschitz
    eta = check.scalar("step", step, low=0.0, low_open=True)
    start, state = prepare_init(init, OptimisticGradientState)
    if state is None:
        z = problem.start(start)
        state = OptimisticGradientState(problem.grad(z), z, problem.operator(z), z, problem._start_scale(z), 0)

    parts = entropic_game(problem)

    def advance(s: OptimisticGradientState, count: int) -> OptimisticGradientState:
        if parts is None:
            rounds = _rounds(problem, s.theta, s.w, s.g, s.average, s.nit, eta, count)
        else:
            rounds = optimistic_rounds(*parts, s.theta, s.w, s.g, s.average, s.nit, eta, count, xp=problem._xp)
        return OptimisticGradientState(*rounds, s.scale, s.nit + count)

    return run_saddle(
        "optimistic_gradient", problem, state, advance, lambda s: (s.average, s.w),
        calls=lambda s: {"operator": s.nit + 1}, options=eta, tol=tol, maxiter=maxiter, check_every=check_every,
        callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
