"""Halpern's iteration: anchored steps, with the best possible rate for the residual; and its stochastic form."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Result, prepare_init
from optlib._core import validation as check
from optlib.backend import Array, array_namespace, device_of, supports
from optlib.backend.philox import philox_uniform
from optlib.backend.random import as_generator
from optlib.online._problem import Problem, euclidean, require
from optlib.online._saddle import repeated, run_saddle
from optlib.online.problems import FiniteSum

_HOST, _NUMPY = np.empty(0), array_namespace()  # samples are drawn on the host


class HalpernState(NamedTuple):
    """Point, anchor, unit of the certificate, iterations done."""

    z: Array
    anchor: Array
    scale: float
    nit: int


@supports()
def halpern(
    problem: Problem,
    *,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 25,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Find a zero of an operator by Halpern's iteration or its extragradient form: the residual falls like ``1 / k``.

    Parameters
    ----------
    problem : VariationalInequality or BilinearGame
        A problem with its Lipschitz constant ``L`` and comonotonicity ``rho``. If ``rho >= 1 / L`` (gradients of convex
        functions) there may be a Euclidean set; if not, ``rho > -1 / (2 L)`` and there must be none.
    init : array, Result or state, optional
        Starting point, which is the anchor; or a result to continue.
    tol : float or None
        Tolerance of the residual relative to that of the start (of the gap, on bounded sets); None runs exactly
        ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` is the last iterate; the certificate is its residual, or gap.

    Notes
    -----
    Cocoercive operators: :math:`z_{k+1} = b z_0 + (1 - b) P(z_k - \frac2L F(z_k))` with :math:`b = 1 / (k + 2)`, and
    :math:`|F(z_k)| \le L |z_0 - z_*| / (k + 1)` (with a set, the residual for steps of length 2 / L).

    Others, with :math:`b = 1 / (k + 1)`: :math:`w = z_k + b (z_0 - z_k) - (1 - b) (\frac1L + 2 \rho) F(z_k)`,
    :math:`z_{k+1} = z_k + b (z_0 - z_k) - \frac1L F(w) - (1 - b) 2 \rho F(z_k)`, and
    :math:`|F(z_k)| \le 2 |z_0 - z_*| / ((\frac1L + 2 \rho) k)`. Both bounds are attained.

    Stopping: the residual of the last iterate, relative to that of the start, is at most ``tol``.

    Cost: one evaluation of ``F`` and a projection per iteration, or two evaluations.

    When not to use it: on strongly monotone problems `extragradient` and `optimistic_gradient` converge linearly, and
    this does not.

    References
    ----------
    .. [1] B. Halpern, "Fixed points of nonexpanding maps", 1967; F. Lieder, "On the convergence rate of the
       Halpern-iteration", 2021, Theorem 2.1; J. Diakonikolas, COLT 2020.
    .. [2] S. Lee, D. Kim, "Fast Extra Gradient Methods for Smooth Structured Nonconvex-Nonconcave Minimax Problems",
       NeurIPS 2021, Theorem 4.1.

    Examples
    --------
    >>> from optlib.online import AffineOperator, halpern
    >>> rotation = AffineOperator([[0.0, 1.0], [-1.0, 0.0]], [1.0, -1.0])
    >>> halpern(rotation, tol=1e-3).x.round(2)
    array([-1., -1.])
    """
    require(problem)
    euclidean(problem, "halpern")
    unit, rho = 1.0 / problem.lipschitz, problem.comonotonicity
    cocoercive = rho >= unit * (1.0 - 1e-9)
    if not cocoercive and not problem._free:
        fix = "use extragradient or mirror_prox, or say `comonotonicity`"
        raise check.error("problem", f"comonotonicity {rho:g} on a set", f"1 / L = {unit:g} on a set", fix)
    if rho <= -0.5 * unit:
        fix = "use proximal_point with a resolvent"
        raise check.error("problem", f"comonotonicity {rho:g}", f"more than -1 / (2 L) = {-0.5 * unit:g}", fix)
    start, state = prepare_init(init, HalpernState)
    if state is None:
        z = problem.start(start)
        state = HalpernState(z, z, problem._start_scale(z), 0)

    def advance(s: HalpernState) -> HalpernState:
        z, nit, g = s.z, s.nit + 1, problem.operator(s.z)
        if cocoercive:
            b = 1.0 / (nit + 1)
            z = b * s.anchor + (1.0 - b) * problem.grad_conj(problem.grad(z) - (2.0 * unit) * g)
        else:
            b = 1.0 / nit
            pulled = z + b * (s.anchor - z)
            w = pulled - ((1.0 - b) * (unit + 2.0 * rho)) * g
            z = pulled - unit * problem.operator(w) - ((1.0 - b) * 2.0 * rho) * g
        return HalpernState(z, s.anchor, s.scale, nit)

    return run_saddle(
        "halpern", problem, state, repeated(advance), lambda s: (s.z,),
        calls=lambda s: {"operator": s.nit if cocoercive else 2 * s.nit}, options=(unit, rho), tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


class VarianceReducedState(NamedTuple):
    """Point, anchor, estimate of the operator there, random stream, components evaluated, unit, iterations done."""

    z: Array
    anchor: Array
    estimate: Array
    key: int
    calls: int
    scale: float
    nit: int


@supports()
def variance_reduced_halpern(
    problem: FiniteSum,
    *,
    init: Any = None,
    tol: float | None = 1e-3,
    maxiter: int = 10_000,
    check_every: int = 100,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> Result:
    r"""Find a zero of a mean of ``n`` cocoercive operators, with about ``sqrt(n)`` of them per iteration.

    Parameters
    ----------
    problem : FiniteSum
        The operators and their average cocoercivity.
    init : array, Result or state, optional
        Starting point, which is the anchor; or a result to continue.
    tol : float or None
        Tolerance of ``|F|`` relative to that of the start; None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp : optional
        See the solver contract (`optlib._core.run`).
    rng : int or Generator, optional
        Seed of the samples, which are addressed by the number of the iteration.
    checkpoint : path, optional
        See the solver contract.

    Returns
    -------
    Result
        ``x`` is the last iterate; the certificate is ``|F(x)|``, exactly. ``counts`` has the evaluated components,
        those of the checks left out.

    Notes
    -----
    :math:`z_{k+1} = \lambda_k z_0 + (1 - \lambda_k) z_k - \frac1{4 L} \tilde F_k`, :math:`\lambda_k = 2 / (k + 4)`. The
    estimate is the full mean with probability :math:`p_k = \max(4 / (k + 5), 4 / (\sqrt n + 5))`, else the last one
    plus the mean change of :math:`\lceil \sqrt n \rceil` random operators. Then :math:`|F(z_k)|` behaves like
    :math:`8 L |z_0 - z_*| / (k + 4)`, in expectation and up to a constant.

    Stopping: ``|F|`` at the last iterate, relative to that of the start, is at most ``tol``; each check evaluates all
    components.

    Cost: about ``6 sqrt(n)`` components per iteration, late in a run.

    When not to use it: for small ``n``, or when all components together cost little more than a few (a matrix
    product): `halpern` needs eight times fewer iterations.

    References
    ----------
    .. [1] X. Cai, A. Alacaoglu, J. Diakonikolas, "Variance Reduced Halpern Iteration for Finite-Sum Monotone
       Inclusions", arXiv:2310.02987, Algorithm 1. The probabilities are derived anew.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import FiniteSum, variance_reduced_halpern
    >>> a = np.random.default_rng(0).standard_normal((100, 2))
    >>> squares = FiniteSum(lambda z, i: (a[i] @ (z - 1.0))[:, None] * a[i], 100, 2, lipschitz=15.0)
    >>> variance_reduced_halpern(squares, rng=0).x.round(1)
    array([1., 1.])
    """
    require(problem, FiniteSum)
    xp, n, eta = problem._xp, problem.count, 0.25 / problem.lipschitz
    size = math.isqrt(n - 1) + 1
    floor = 4.0 / (math.sqrt(n) + 5.0)
    start, state = prepare_init(init, VarianceReducedState)
    if state is None:
        z = problem.start(start)
        key = int(as_generator(rng).integers(0, 2**63))
        state = VarianceReducedState(z, z, problem.operator(z), key, n, problem._start_scale(z), 0)

    def advance(s: VarianceReducedState) -> VarianceReducedState:
        k, nit = s.nit, s.nit + 1
        anchor = 2.0 / (k + 4.0)
        z = anchor * s.anchor + (1.0 - anchor) * s.z - eta * s.estimate
        draws = philox_uniform(s.key, k * (size + 1), size + 1, _HOST, xp=_NUMPY)
        if draws[0] < max(4.0 / (nit + 5.0), floor):
            return VarianceReducedState(z, s.anchor, problem.operator(z), s.key, s.calls + n, s.scale, nit)
        index = xp.asarray((draws[1:] * n).astype("int64"), device=device_of(z))
        change = problem.components(z, index) - problem.components(s.z, index)
        estimate = s.estimate + xp.mean(change, axis=0)
        return VarianceReducedState(z, s.anchor, estimate, s.key, s.calls + 2 * size, s.scale, nit)

    return run_saddle(
        "variance_reduced_halpern", problem, state, repeated(advance), lambda s: (s.z,),
        calls=lambda s: {"components": s.calls}, options=(eta, n), tol=tol, maxiter=maxiter, check_every=check_every,
        callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
