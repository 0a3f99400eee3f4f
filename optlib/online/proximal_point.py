"""The proximal point method, for monotone and negatively comonotone operators."""

from typing import Any, NamedTuple

from optlib._core import Result, prepare_init
from optlib._core import validation as check
from optlib.backend import Array, supports
from optlib.online._problem import require
from optlib.online._saddle import repeated, run_saddle
from optlib.online.problems import VariationalInequality


class ProximalPointState(NamedTuple):
    """Point, unit of the certificate, iterations done."""

    z: Array
    scale: float
    nit: int


@supports()
def proximal_point(
    problem: VariationalInequality,
    *,
    init: Any = None,
    step: float | None = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 10,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Find a zero of an operator by the proximal point method, ``z <- (I + step F)^{-1} z``.

    Parameters
    ----------
    problem : VariationalInequality
        With a ``resolvent``; an `AffineOperator` has one.
    init : array, Result or state, optional
        Starting point, by default 0; or a result to continue.
    step : float, optional
        Size of the steps; by default ``1 / L``, and at least ``-4 rho``. It must exceed ``-2 rho``, with the
        comonotonicity ``rho`` of the problem: below, the method can diverge.
    tol : float or None
        Tolerance of the residual relative to that of the start; None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` is the point; the certificate is its residual.

    Notes
    -----
    For :math:`\gamma > -2 \rho` (tight), with :math:`\rho \le 0`:
    :math:`|F(z_k)|^2 \le |z_0 - z_*|^2 / (\gamma (\gamma + 2 \rho) k)`.

    Stopping: the residual, relative to that of the start, is at most ``tol``.

    Cost: one resolvent per iteration; for an `AffineOperator` a matrix-vector product, after one inversion.

    When not to use it: without a cheap resolvent; `halpern` covers the same operators down to ``rho > -1 / (2 L)``
    with two evaluations of ``F``.

    References
    ----------
    .. [1] B. Martinet, 1970, and R. T. Rockafellar, "Monotone operators and the proximal point algorithm", 1976.
    .. [2] E. Gorbunov, A. Taylor, S. Horvath, G. Gidel, arXiv:2210.13831, Theorems 2.1 and 2.3.

    Examples
    --------
    >>> from optlib.online import AffineOperator, proximal_point
    >>> spiral = AffineOperator([[-0.4, 1.0], [-1.0, -0.4]])
    >>> res = proximal_point(spiral, init=[1.0, 0.0])
    >>> res.success
    True
    """
    require(problem, VariationalInequality)
    if problem.resolvent is None:
        raise check.error("problem", "no resolvent", "one with a resolvent", "give `resolvent`, or use halpern")
    rho = problem.comonotonicity
    if step is None:
        step = max(1.0 / problem.lipschitz, -4.0 * rho)
    fix = "" if rho >= 0.0 else "a step above -2 rho, of which this is the limit"
    gamma = check.scalar("step", step, low=max(0.0, -2.0 * rho), low_open=True, fix=fix)
    start, state = prepare_init(init, ProximalPointState)
    if state is None:
        z = problem.start(start)
        state = ProximalPointState(z, problem._start_scale(z), 0)

    def advance(s: ProximalPointState) -> ProximalPointState:
        return ProximalPointState(problem.resolvent(s.z, gamma), s.scale, s.nit + 1)

    return run_saddle(
        "proximal_point", problem, state, repeated(advance), lambda s: (s.z,), calls=lambda s: {"resolvent": s.nit},
        options=gamma, tol=tol, maxiter=maxiter, check_every=check_every, callback=callback, record=record,
        max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
