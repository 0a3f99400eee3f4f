"""Extragradient steps: mirror prox with averaging, and the Euclidean method with two step sizes."""

from typing import Any, NamedTuple

from optlib._core import Result, prepare_init
from optlib._core import validation as check
from optlib.backend import Array, kernel, supports
from optlib.geometry import Entropy
from optlib.online._problem import Problem, euclidean, require
from optlib.online._saddle import mean, repeated, run_saddle
from optlib.online.problems import BilinearGame, entropic_game


class MirrorProxState(NamedTuple):
    """Dual point, its point, mean of the midpoints, unit of the certificate, iterations done."""

    theta: Array
    z: Array
    average: Array
    scale: float
    nit: int


def _rounds(
    problem: Problem, theta: Array, z: Array, average: Array, nit: int, eta: float, count: int
) -> tuple[Array, ...]:
    """Do iterations on any problem."""
    for k in range(nit, nit + count):
        w = problem.grad_conj(theta - eta * problem.operator(z))
        theta = problem.restore(theta - eta * problem.operator(w))
        z = problem.grad_conj(theta)
        average = mean(average, w, k + 1)
    return theta, z, average


@kernel(numba="optlib.online._games_numba:mirror_prox_rounds", match="iterate")
def mirror_prox_rounds(
    A: Array,
    b: Array,
    c: Array,
    mass_x: float,
    mass_y: float,
    theta: Array,
    z: Array,
    average: Array,
    nit: int,
    eta: float,
    count: int,
    *,
    xp: Any,
) -> tuple[Array, ...]:
    """Do iterations of mirror prox on a matrix game with entropy on both sides.

    Parameters
    ----------
    A : array, shape (n, m)
        Payoffs.
    b, c : array, shapes (n,) and (m,)
        Linear costs.
    mass_x, mass_y : float
        Sums of the strategies.
    theta, z, average : array, shape (n + m,)
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
    theta, z, average : array, shape (n + m,)
        After the iterations.
    """
    problem = BilinearGame(A, b=b, c=c, rows=Entropy(mass_x), columns=Entropy(mass_y))
    return _rounds(problem, theta, z, average, nit, eta, count)


@supports()
def mirror_prox(
    problem: Problem,
    *,
    init: Any = None,
    step: float | None = None,
    tol: float | None = 1e-3,
    maxiter: int = 10_000,
    check_every: int = 25,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Solve a monotone saddle-point problem by mirror prox: two mirror steps an iteration, and an average.

    Parameters
    ----------
    problem : BilinearGame or VariationalInequality
        The problem, with the geometry of its sets.
    init : array or pair of arrays, Result or state, optional
        Starting point, by default the centre of the sets; or a result to continue.
    step : float, optional
        Size of the steps; by default ``1 / L``.
    tol : float or None
        Tolerance of the duality gap relative to the largest payoff (of the residual relative to that of the start,
        where the sets are not bounded); None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` is the point, for games the pair of strategies, and ``fun`` the payoff; the certificate is the duality
        gap at ``x``.

    Notes
    -----
    With the dual point :math:`\theta`: :math:`w = P(\theta - \eta F(z))`, :math:`\theta \leftarrow \theta - \eta F(w)`,
    :math:`z = P(\theta)`. The mean of the ``w`` has a gap of at most ``range / (step k)``, with the range of the
    mirror maps (from the centre): ``max |A_ij| (log n + log m) / k`` for matrix games. The answer is that mean or the
    last ``z``, whichever has the smaller gap.

    Stopping: the gap of the answer, relative to its scale, is at most ``tol``.

    Cost: two evaluations of ``F`` (four products with the matrix of a game) and three mirror maps per iteration.

    When not to use it: small matrix games are solved exactly by a linear program.

    References
    ----------
    .. [1] A. Nemirovski, "Prox-Method with Rate of Convergence O(1/t) for Variational Inequalities with Lipschitz
       Continuous Monotone Operators and Smooth Convex-Concave Saddle Point Problems", SIAM J. Optim. 15 (2004),
       Theorem 3.2.

    Examples
    --------
    >>> from optlib.online import BilinearGame, mirror_prox
    >>> res = mirror_prox(BilinearGame([[3.0, 0.0], [1.0, 2.0]]))
    >>> res.success, round(res.fun, 3)
    (True, 1.5)
    """
    require(problem)
    eta = 1.0 / problem.lipschitz if step is None else check.scalar("step", step, low=0.0, low_open=True)
    start, state = prepare_init(init, MirrorProxState)
    if state is None:
        z = problem.start(start)
        state = MirrorProxState(problem.grad(z), z, z, problem._start_scale(z), 0)

    parts = entropic_game(problem)

    def advance(s: MirrorProxState, count: int) -> MirrorProxState:
        if parts is None:
            rounds = _rounds(problem, s.theta, s.z, s.average, s.nit, eta, count)
        else:
            rounds = mirror_prox_rounds(*parts, s.theta, s.z, s.average, s.nit, eta, count, xp=problem._xp)
        return MirrorProxState(*rounds, s.scale, s.nit + count)

    return run_saddle(
        "mirror_prox", problem, state, advance, lambda s: (s.average, s.z), calls=lambda s: {"operator": 2 * s.nit},
        options=eta, tol=tol, maxiter=maxiter, check_every=check_every, callback=callback, record=record,
        max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


class ExtragradientState(NamedTuple):
    """Point, unit of the certificate, iterations done."""

    z: Array
    scale: float
    nit: int


@supports()
def extragradient(
    problem: Problem,
    *,
    init: Any = None,
    step: float | None = None,
    update: float | None = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 25,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Solve a variational inequality by the extragradient method; the last iterate is the answer.

    Parameters
    ----------
    problem : VariationalInequality or BilinearGame
        A problem with Euclidean sets; without sets the operator need not be monotone.
    init : array or pair of arrays, Result or state, optional
        Starting point, by default the centre of the sets (0 without sets); or a result to continue.
    step : float, optional
        Size of the step to the midpoint.
    update : float, optional
        Size of the step with the operator at the midpoint; by default ``step``, smaller if the operator is far from
        monotone.
    tol : float or None
        Tolerance of the residual relative to that of the start, or of the duality gap relative to its scale on bounded
        sets; None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` is the point (for games a pair), with its residual or gap as certificate.

    Notes
    -----
    ``w = P(z - step F(z))``, ``z <- P(z - update F(w))``. The default is ``step = update = 1 / (2 L)`` if the
    comonotonicity ``rho`` is at least ``-1 / (8 L)``. Below, down to ``-1 / (2 L)``, it is the middle of the interval
    of steps that converge, ``-2 rho < step < 1 / L``, and ``update = (step + 2 rho) / 2``. For every
    ``update <= step + 2 rho`` without sets

    .. math:: \min_{j \le k} |F(z_j)|^2 \le \frac{|z_0 - z_*|^2}{(k + 1) \, step \cdot update \, (1 - L^2 step^2)}.

    Stopping: the residual of the last iterate, relative to that of the start, is at most ``tol``.

    Cost: two evaluations of ``F`` and two projections per iteration.

    When not to use it: `halpern` has the better rate for the residual, ``1 / k`` where this one has ``1 / sqrt(k)``;
    `mirror_prox` is for simplices.

    References
    ----------
    .. [1] G. M. Korpelevich, "The extragradient method for finding saddle points and other problems", 1976.
    .. [2] E. Gorbunov, A. Taylor, S. Horvath, G. Gidel, "Convergence of Proximal Point and Extragradient-Based Methods
       Beyond Monotonicity: the Case of Negative Comonotonicity", arXiv:2210.13831, Theorems 3.1 and 3.4.

    Examples
    --------
    >>> from optlib.online import AffineOperator, extragradient
    >>> spiral = AffineOperator([[-0.1, 1.0], [-1.0, -0.1]], [1.0, 1.0])  # not monotone
    >>> res = extragradient(spiral)
    >>> res.success, res.x.round(4)
    (True, array([ 1.0891, -0.8911]))
    """
    require(problem)
    euclidean(problem, "extragradient")
    rho = problem.comonotonicity
    if rho < 0.0 and not problem._free:
        raise check.error("problem", f"comonotonicity {rho:g} on a set", "a monotone operator on a set")
    if step is None:
        limit = 1.0 / problem.lipschitz
        if rho >= -limit / 8.0:
            step = limit / 2.0
        elif rho > -limit / 2.0:
            step = limit / 2.0 - rho
            update = 0.5 * step + rho if update is None else update
        else:
            fix = "use proximal_point with a resolvent"
            raise check.error("problem", f"comonotonicity {rho:g}", f"more than -1 / (2 L) = {-limit / 2.0:g}", fix)
    step = check.scalar("step", step, low=0.0, low_open=True)
    update = step if update is None else check.scalar("update", update, low=0.0, low_open=True)
    start, state = prepare_init(init, ExtragradientState)
    if state is None:
        z = problem.start(start)
        state = ExtragradientState(z, problem._start_scale(z), 0)

    def advance(s: ExtragradientState) -> ExtragradientState:
        theta = problem.grad(s.z)
        w = problem.grad_conj(theta - step * problem.operator(s.z))
        return ExtragradientState(problem.grad_conj(theta - update * problem.operator(w)), s.scale, s.nit + 1)

    return run_saddle(
        "extragradient", problem, state, repeated(advance), lambda s: (s.z,), calls=lambda s: {"operator": 2 * s.nit},
        options=(step, update), tol=tol, maxiter=maxiter, check_every=check_every, callback=callback, record=record,
        max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
