"""Soft-Impute: completion with a nuclear-norm penalty."""

from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import supports
from optlib.sensing._nuclear import run_proximal
from optlib.sensing._problem import prepare
from optlib.sensing.entries import EntrySampling
from optlib.sensing.result import SensingResult


@supports(backends=("numpy", "cupy", "torch", "strict"))
def soft_impute(
    A: EntrySampling,
    y: Any,
    *,
    reg: float,
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
    r"""Complete a matrix by filling the gaps with the present fit and shrinking its singular values, again and again.

    Minimises ``|A(X) - y|^2 / 2 + reg |A*(y)| |X|_*``.

    Parameters
    ----------
    A : EntrySampling
        The observed places.
    y : array, shape (m,)
        The observed entries.
    reg : float
        Penalty in units of the largest singular value of the matrix with zeros in the gaps, from which on the answer is
        zero.
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
    ``X <- S(P(M) + P_perp(X))``: proximal gradient steps of size 1, as the sampling has norm 1. Stopping: duality gap
    at most ``tol``, as in `fista`; the gap never counts the bias of the penalty.

    Cost of an iteration: as for `fista`; the filled matrix is sparse plus low-rank and is not formed if it is large.

    Rows and columns without entries are zero. When not to use it: `fista` takes fewer iterations to the same minimum,
    and `recover` or `alternating_minimization` complete without the bias.

    References
    ----------
    R. Mazumder, T. Hastie, R. Tibshirani, Spectral regularization algorithms for learning large incomplete matrices,
    JMLR 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import random_entries, soft_impute
    >>> A = random_entries((20, 15), 200, rng=0)
    >>> res = soft_impute(A, A.forward(np.ones((20, 15))), reg=0.1)
    >>> res.success, res.rank
    (True, 1)
    """
    if not isinstance(A, EntrySampling):
        raise check.error("A", type(A).__name__, "an EntrySampling: the method is for completion", kind=TypeError)
    return run_proximal(
        "soft_impute", prepare(A, y), reg, accelerated=False, path=path, init=init, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
