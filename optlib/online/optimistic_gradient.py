"""The optimistic gradient method (Popov's): one evaluation of the operator per iteration."""

from typing import Any, NamedTuple

from optlib._core import Result, prepare_init
from optlib._core import validation as check
from optlib.backend import Array, supports
from optlib.online._saddle import mean, run_saddle
from optlib.online.problems import Problem, require


class OptimisticGradientState(NamedTuple):
    """Dual point, last midpoint and the operator there, mean of the midpoints, unit, iterations done."""

    theta: Array
    w: Array
    g: Array
    average: Array
    scale: float
    nit: int


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

    def advance(s: OptimisticGradientState) -> OptimisticGradientState:
        w = problem.grad_conj(s.theta - eta * s.g)
        g = problem.operator(w)
        nit = s.nit + 1
        return OptimisticGradientState(problem.restore(s.theta - eta * g), w, g, mean(s.average, w, nit), s.scale, nit)

    return run_saddle(
        "optimistic_gradient", problem, state, advance, lambda s: (s.average, s.w),
        calls=lambda s: {"operator": s.nit + 1}, options=eta, tol=tol, maxiter=maxiter, check_every=check_every,
        callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
