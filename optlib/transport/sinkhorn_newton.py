"""Entropic transport by sparse Newton steps along a path of regularisations; the method itself is in `_newton`."""

from collections.abc import Callable
from typing import Any

from optlib._core import run
from optlib._core import validation as check
from optlib.backend import supports
from optlib.transport._newton import NewtonMethod
from optlib.transport._problem import check_reg, prepare
from optlib.transport._sparsified import SparsifiedMethod
from optlib.transport.result import TransportResult

STORED = 2**27  # entries of a plan that may be stored


@supports(backends=("numpy", "cupy", "torch", "strict"), gradients=("cost", "a", "b"))
def sinkhorn_newton(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    unbalanced: Any = None,
    unbalanced_type: str = "kl",
    method: str = "path",
    density: float | None = None,
    sweeps: int = 20,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 1000,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> TransportResult:
    r"""Solve an entropic transport problem by sparse Newton steps along a path of regularisations.

    Find the plan ``P >= 0`` that minimises ``<C, P> + reg KL(P | a b')`` among those with row sums ``a`` and column
    sums ``b``: to any accuracy, at any ``reg``, in some tens of passes over the cost.

    Parameters
    ----------
    cost : array, nested sequence or Cost, shape (n, m)
        Cost matrix, or a cost such as ``PointCloud(x, y)``; at most 2^27 entries.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the same total mass; None means uniform.
    reg : float
        Strength > 0 of the regularisation, in units of the cost.
    unbalanced : float or (float, float), optional
        Strength of penalties ``rho KL(P 1 | a)`` and ``rho KL(P' 1 | b)`` in the place of the constraints; infinity
        keeps a constraint.
    unbalanced_type : {"kl", "tv"}
        ``"tv"`` takes the total variation, ``rho |P 1 - a|_1``, in the place of the relative entropy: mass whose
        transport would cost more than the two penalties stays where it is.
    method : {"path", "sns", "ssns"}
        ``"path"`` is the method described here. ``"sns"`` (Sinkhorn-Newton-Sparse) and ``"ssns"`` (safe and sparse
        Newton) are methods of the literature, dense and for balanced problems only, to compare numbers of iterations.
    density : float, optional
        ``"sns"``: share of the entries of the plan that its Newton systems keep; 4 / max(n, m) by default.
    sweeps : int
        ``"sns"``: Sinkhorn sweeps before the first Newton step.
    init : array (m,), (array, array), TransportResult or state, optional
        Column potentials ``g``, or the ``potentials`` of another problem, to start from; or a result of the same
        problem to continue. The path is walked only if Newton steps from given potentials fail.
    tol : float, "auto" or None
        Stop when the l1 error of the marginals, relative to the mass, is at most this; with penalties, when the
        largest change of a potential in a plain iteration is at most ``tol * reg`` and the relative gap at most
        ``tol``. ``"auto"`` is 1e-6, and 1e-4 for float32; None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations: Sinkhorn sweeps, Newton steps, changes of the level.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    TransportResult
        With the lazy ``plan``, the ``potentials``, the ``value`` and its ``gap``, and ``lp_bounds``. ``counts`` has the
        passes over the cost; the history has the ``reg`` of the level and its ``error``.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    Notes
    -----
    The rows are always exact: with ``f(g)`` in the place of ``f`` the dual objective is a concave function of the
    column potentials, whose Hessian is the Laplacian of a weighted graph on the columns (plus a positive diagonal where
    a marginal is penalised). Columns are the shorter side. The regularisation falls from 0.1 times the cost range by
    0.35 a level; a level starts from the linear extrapolation of the last two, makes two Sinkhorn sweeps, then Newton
    steps with a line search until the error is 1e-2 and the next step would change no potential by more than twice the
    regularisation, so that every link between groups, however weak, carries about the right mass (``tol`` at the last
    level). A level that makes no progress is given up for one half-way. The line search compares differences of the
    objective, so nothing is lost to cancellation.

    On NumPy, a pass keeps the entries of the plan above ``error / n`` times their row or column sum, and the Newton
    system is solved by conjugate gradients, after 100 iterations preconditioned by an approximate Cholesky factor of
    the graph, in which no subtraction occurs: couplings of 1e-30 keep their accuracy. Denser plans (12 % and more,
    which are well conditioned) and other libraries store the plan and use a dense factor.

    Cost: one pass, n m exponentials, for a sweep or a Newton step of full length; 10 to 80 passes in all. Memory: one
    matrix for the cost, unless it is a cloud in at most three dimensions, and up to one for the plan on NumPy, three
    elsewhere.

    Stopping: by ``tol``, see there; status 5 at the precision floor, at which the error is about the rounding unit
    times the largest cost over ``reg``.

    When not to use it: at ``reg`` above about 0.01 times the cost range `sinkhorn` takes fewer and cheaper passes; for
    very large clouds it alone fits in memory. `optlib.transport.solve` chooses.

    References
    ----------
    The path, the elimination of the rows and the preconditioner are put together here; parts: C. Brauer, C. Clason,
    D. Lorenz, B. Wirth, A Sinkhorn-Newton method for entropic optimal transport, 2017 (arXiv 1710.06635). R. Cominetti,
    J. San Martin, Asymptotic analysis of the exponential penalty trajectory in linear programming, Math. Programming
    1994. R. Kyng, S. Sachdeva, Approximate Gaussian elimination for Laplacians, FOCS 2016. X. Tang et al., ICLR 2024
    (``"sns"``, arXiv 2401.12253). Z. Tang, Y. Qiu, NeurIPS 2024 (``"ssns"``).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import sinkhorn_newton
    >>> cost = np.random.default_rng(0).random((40, 30))
    >>> res = sinkhorn_newton(cost, reg=1e-4, tol=1e-10)
    >>> res.success, res.counts["passes"] < 80
    (True, True)
    """
    problem = prepare(cost, a, b, unbalanced=unbalanced, unbalanced_type=unbalanced_type)
    reg = check_reg(reg, problem)
    if density is not None:
        check.scalar("density", density, low=0.0, high=1.0)
    check.scalar("sweeps", sweeps, low=0, integer=True)
    check.option("method", method, ("path", "sns", "ssns"))
    n, m = problem.cost.shape
    if n * m > STORED:
        raise check.error("cost", f"{n} x {m} entries", f"at most {STORED:,}", "use sinkhorn, which stores no plan")
    if method == "path":
        solver: NewtonMethod | SparsifiedMethod = NewtonMethod(problem, reg, tol)
    else:
        solver = SparsifiedMethod(problem, reg, tol, method, density, sweeps)
    return run(
        solver.steps,
        state=solver.begin(init),
        like=solver.a,
        xp=problem.xp,
        method="sinkhorn_newton",
        finish=solver.finish,
        tol=solver.tight,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=solver.identity,
        result_class=TransportResult,
        message=solver.message,
    )
