r"""Gradients of ``Phi(x) = F(x, y*(x))``: implicit, by differentiating iterations, and by a penalty.

Implicit modes solve ``H q = grad_y F`` at an approximate inner solution y and return ``p = grad_x F - C q``. With the
residuals ``g = grad_y f(x, y)`` and ``r = H q - grad_y F``:

*Value.* ``v = F(x, y) - <q, g>`` differs from ``Phi(x)`` by terms of second order in ``y - y*``, where ``F(x, y)``
differs by one of first order. ``|<q, g>|`` estimates the error of the latter.

*Error bound.* Let mu be the least curvature of f, ``d = |g| / mu >= |y - y*|``, and let H, C, grad_y F, grad_x F have
the Lipschitz constants M, L_C, L_F, L_X in y. From ``q - q*(x) = H^-1 r + [q at y] - [q at y*]``,

    |p - grad Phi(x)| <= (|C| + L_C d) [|r| + (L_F + M |q|) d] / mu + (L_C |q| + L_X) d.

It is a proof where the problem knows its constants (``problem.constants``), and useless where mu is tiny.
"""

from typing import Any

from optlib._core import validation as check
from optlib.backend import Array
from optlib.bilevel.call import MODES, Call, HyperResult, choose, fitting
from optlib.bilevel.problem import beginning, require, unconstrained
from optlib.bilevel.unrolling import unrolled


def hypergradient(
    problem: Any,
    x: Any,
    *,
    y: Array | None = None,
    q: Array | None = None,
    mode: str = "auto",
    tol: float = 1e-8,
    adjoint_tol: float | None = None,
    steps: int = 100,
    truncate: int | None = None,
    recompute: bool = False,
    step: float | None = None,
    maxiter: int = 1000,
) -> HyperResult:
    r"""Value and gradient of the hyper-objective ``Phi(x) = F(x, y*(x))``.

    Parameters
    ----------
    problem : object
        With the oracles of `Problem` that the mode needs.
    x : array
        Hyperparameters.
    y, q : array, optional
        Warm start of the inner solution and of the adjoint; by default ``problem.start()`` and 0.
    mode : str
        How the inner problem is differentiated:

        - ``"active_set"``: implicit, by the problem's own solver: by a factor at hand, or where penalties have kinks on
          the coefficients that are not zero. Needs ``solve_inner`` and ``solve_adjoint``. The gradient is exact where
          the support does not change; at a kink of Phi it is that of one side.
        - ``"cg"``: implicit, conjugate gradients (H positive definite), preconditioned by the diagonal of H, or by a
          factor of it at an earlier point for up to 1000 inner variables, where the problem can do that.
        - ``"minres"``: implicit, for symmetric H that may be indefinite or singular.
        - ``"gmres"``: implicit, for H that is not symmetric (with ``hvp_t``), by `optlib.linop.gmres`.
        - ``"direct"``: implicit, by a Cholesky factor of H. Needs ``hessian``.
        - ``"neumann"``: implicit, with `steps` terms of the Neumann series.
        - ``"fixed_point"``: implicit, ``q <- q - step (H q - grad_y F)``; also for H that is not symmetric.
        - ``"reverse"``: `steps` gradient steps from `y`, differentiated backwards through the last `truncate` ones.
        - ``"forward"``: the same iteration differentiated forwards: d products a step for each hyperparameter.
        - ``"penalty"``: no second-order oracle: ``(grad_x f(x, y_s) - grad_x f(x, y)) / s + grad_x F``, with the
          minimiser ``y_s`` of ``f + s F``, extrapolated from s and s / 2.
        - ``"auto"``: ``"active_set"`` where there is a ``solve_adjoint``, ``"direct"`` for up to 100 inner variables
          where there is a ``hessian``, ``"cg"`` where there are products, ``"gmres"`` for H that is not
          symmetric, else ``"penalty"``.
    tol : float
        The inner problem is solved to ``|grad_y f(x, y)| <= tol |grad_y f(x, y0)|`` with the ``y0`` of
        ``problem.start()``.
    adjoint_tol : float, optional
        The adjoint to ``|H q - grad_y F| <= adjoint_tol |grad_y F|``; by default `tol`.
    steps : int
        Iterations of the modes that iterate.
    truncate : int, optional
        How many of them are differentiated; by default all.
    recompute : bool
        Whether ``"reverse"`` keeps only every ``sqrt(truncate)``-th iterate and computes those between again.
    step : float, optional
        Their step; by default ``1 / lipschitz(x)``.
    maxiter : int
        Largest number of inner iterations.

    Returns
    -------
    HyperResult
        Value, gradient, and what is known of their errors.

    Raises
    ------
    TypeError
        If the problem lacks an oracle that the mode needs; the message names modes that do without.
    ValueError
        If an argument is invalid, an oracle returns NaN, or the inner problem has no minimiser; the error has the
        ``point``, a dictionary of x and y.

    Notes
    -----
    The implicit modes are for strongly convex inner problems (``"minres"`` also for singular H with ``grad_y F`` in its
    range). Where the adjoint system shows that H is singular or not positive definite, or the inner solution is no
    minimiser, ``message`` says so and ``converged`` is False.

    Cost: an inner solve from `y`; then, with n products with H: ``"cg"`` about the square root of its condition,
    ``"neumann"`` `steps`, ``"reverse"`` `truncate` (and as many copies of y, or with `recompute` twice the root of that
    and `truncate` more gradients), ``"forward"`` `steps` times the number of
    hyperparameters. ``"penalty"`` takes two more inner solves; its error is O(tol / s + s^2).

    ``"reverse"`` and ``"forward"`` differentiate the iteration, not the solution: truncated after K steps the gradient
    has the error ``|C| |grad_y F| (1 - step mu)^K / mu`` at a converged y.

    References
    ----------
    F. Pedregosa, Hyperparameter optimization with approximate gradient, ICML 2016. A. Shaban et al., Truncated
    back-propagation for bilevel optimization, AISTATS 2019. J. Kwon et al., A fully first-order method for stochastic
    bilevel optimization, ICML 2023 (the penalty).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import QuadraticProblem, hypergradient
    >>> problem, x = QuadraticProblem.random(5, 2, rng=0), np.ones(2)
    >>> exact = hypergradient(problem, x)
    >>> exact.mode, bool(np.allclose(exact.gradient, hypergradient(problem, x, mode="cg").gradient))
    ('direct', True)
    """
    require(problem, ("inner", "outer", "start"), "hypergradient")
    unconstrained(problem, "hypergradient")
    check.option("mode", mode, MODES)
    check.option("recompute", recompute, (True, False))
    tol = check.scalar("tol", tol, low=0.0, low_open=True)
    adjoint_tol = tol if adjoint_tol is None else check.scalar("adjoint_tol", adjoint_tol, low=0.0, low_open=True)
    steps = check.scalar("steps", steps, low=1, integer=True)
    truncate = steps if truncate is None else check.scalar("truncate", truncate, low=1, high=steps, integer=True)
    maxiter = check.scalar("maxiter", maxiter, low=1, integer=True)
    x0, y0 = beginning(problem)
    xp, device, dtype = check.common(x=x, start=x0)
    x = check.array("x", x, xp=xp, shape=tuple(x0.shape), dtype=dtype, device=device)
    if y is not None:
        y0 = check.array("y", y, xp=xp, shape=tuple(y0.shape), dtype=y0.dtype, device=device)
    if q is not None:
        q = check.array("q", q, xp=xp, shape=tuple(y0.shape), dtype=y0.dtype, device=device)
    if mode == "auto":
        mode = choose(problem, y0)
    fitting(problem, mode)
    call = Call(problem, x, xp, tol, adjoint_tol, steps, truncate, step, maxiter, recompute=recompute)
    if mode in ("reverse", "forward"):
        return unrolled(call, y0, mode)
    if mode == "penalty":
        return call.penalty(y0)
    return call.implicit(y0, q, mode)
