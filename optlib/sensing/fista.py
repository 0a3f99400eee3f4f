"""Nuclear-norm penalised recovery by accelerated proximal gradients."""

from collections.abc import Callable
from typing import Any

from optlib.backend import supports
from optlib.sensing._nuclear import run_proximal
from optlib.sensing._problem import prepare
from optlib.sensing.result import SensingResult


@supports(backends=("numpy", "cupy", "torch", "strict"))
def fista(
    A: Any,
    y: Any,
    *,
    reg: float,
    psd: bool = False,
    path: int = 10,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 2000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Recover a matrix by convex optimisation: least squares with a nuclear-norm penalty.

    Minimises ``|A(X) - y|^2 / 2 + reg |A*(y)| |X|_*`` over all matrices; the penalty makes the rank low.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    y : array, shape (m,)
        The measurements.
    reg : float
        Penalty in units of the largest singular value of ``A*(y)``, from which on the answer is zero.
    psd : bool
        Whether the matrix is positive semidefinite.
    path : int
        Number of penalties, from half of that value down to ``reg``, three iterations for each but the last: the ranks
        on the way stay low.
    init : (array, array), SensingResult or state, optional
        Factors to start from, or a result to continue.
    tol : float, "auto" or None
        Tolerance of the duality gap in units of ``|y|^2 / 2``; ``"auto"`` is 1e-6, and 1e-4 for float32. None runs
        ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`; the history has ``rank``.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    SensingResult
        ``x`` and ``factors`` are balanced; ``fun`` is the objective.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `recover`.

    Notes
    -----
    Stopping: duality gap at most ``tol``. The dual point is the best feasible multiple of the residual, so that the
    objective is within the gap of the minimum; for more than 250 000 entries the norm that makes it feasible is an
    estimate, and the certificate is marked as a heuristic.

    Cost of an iteration: one forward and one adjoint pass, and a singular value decomposition: dense up to 250 000
    entries, else three block power iterations in factored form from the last singular vectors.

    The answer is biased: its singular values are lowered by the penalty. To remove the bias, take it as the start of a
    fit of its rank, ``levenberg_marquardt(A, y, rank=res.rank, init=res.factors)``.

    When not to use it: for exact recovery; `recover` needs fewer measurements and is faster. `nuclear_certificate`
    tells afterwards whether the answer of any method is the one of least nuclear norm.

    References
    ----------
    A. Beck, M. Teboulle, A fast iterative shrinkage-thresholding algorithm for linear inverse problems, SIAM J. Imaging
    Sci. 2009. K.-C. Toh, S. Yun, An accelerated proximal gradient algorithm for nuclear norm regularized linear least
    squares problems, Pac. J. Optim. 2010. B. O'Donoghue, E. Candes, Adaptive restart for accelerated gradient schemes,
    2015.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, fista
    >>> A = GaussianSensing((12, 10), 100, rng=0)
    >>> res = fista(A, A.forward(np.ones((12, 10))), reg=1e-2)
    >>> res.success, res.rank
    (True, 1)
    """
    return run_proximal(
        "fista", prepare(A, y, psd=psd), reg, accelerated=True, path=path, init=init, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
