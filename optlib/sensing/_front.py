"""The front door of sensing: one call that recovers the matrix."""

import inspect
from collections.abc import Callable
from typing import Any

from optlib._core import Step, prepare_init, prepare_resume, run
from optlib._core import validation as check
from optlib.sensing._portfolio import Portfolio, PortfolioState
from optlib.sensing._problem import Problem, check_rank, conclude, prepare
from optlib.sensing._robust import Robust, RobustState
from optlib.sensing.alternating_minimization import alternating_minimization
from optlib.sensing.deep_factorization import deep_factorization
from optlib.sensing.fista import fista
from optlib.sensing.gauss_newton import gauss_newton
from optlib.sensing.gradient_descent import gradient_descent
from optlib.sensing.incremental import incremental
from optlib.sensing.levenberg_marquardt import levenberg_marquardt
from optlib.sensing.prec_gd import prec_gd
from optlib.sensing.result import SensingResult
from optlib.sensing.riemannian import riemannian
from optlib.sensing.scaled_gd import scaled_gd
from optlib.sensing.soft_impute import soft_impute
from optlib.sensing.spectral import as_point
from optlib.sensing.subgradient import subgradient
from optlib.sensing.svt import svt

METHODS: dict[str, Callable[..., SensingResult]] = {
    "alternating_minimization": alternating_minimization,
    "deep_factorization": deep_factorization,
    "fista": fista,
    "gauss_newton": gauss_newton,
    "gradient_descent": gradient_descent,
    "incremental": incremental,
    "levenberg_marquardt": levenberg_marquardt,
    "prec_gd": prec_gd,
    "riemannian": riemannian,
    "scaled_gd": scaled_gd,
    "soft_impute": soft_impute,
    "subgradient": subgradient,
    "svt": svt,
}


def recover(
    A: Any,
    y: Any,
    *,
    rank: int | None = None,
    psd: bool = False,
    loss: str = "l2",
    noise: float = 0.0,
    method: str | Callable[..., SensingResult] = "auto",
    **options: Any,
) -> SensingResult:
    r"""Recover a low-rank matrix from linear measurements ``y = A(X)``.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures: `GaussianSensing`, `RegeneratedSensing`, `RankOneSensing`, `EntrySampling` (completion),
        `SubsampledTransform`, `LinearSensing`, or the stacked measuring matrices.
    y : array, shape (m,)
        The measurements.
    rank : int, optional
        Rank of the matrix; None: it is found.
    psd : bool
        Whether the matrix is positive semidefinite.
    loss : {"l2", "l1"}
        Squared errors; or absolute errors, for measurements some of which (up to 40 % at four measurements a degree of
        freedom) are grossly wrong. The latter needs the rank.
    noise : float
        Norm of the noise in ``y``, if known: a residual of that size ends the run.
    method : str or solver function
        ``"auto"`` is the portfolio described in the notes; else the name of a solver of `optlib.sensing`, or the
        function. The message of the result says what was done.
    **options : object
        Passed on to the method; ``"auto"`` takes ``init`` (factors, or a result to continue), ``tol``, ``maxiter``,
        ``callback``, ``record``, ``max_time``, ``disp`` and ``checkpoint`` (a file: the same call continues a run that
        was killed).

    Returns
    -------
    SensingResult
        With ``factors``, the lazy ``matrix``, ``rank`` and the ``certificate``. Arrays are of the library, dtype and
        device of the input.

    Raises
    ------
    TypeError
        For mixed libraries or devices, and entries that are not real numbers.
    ValueError
        For wrong shapes, measurements that are not finite, and ranks above the dimensions.

    Notes
    -----
    The portfolio runs `levenberg_marquardt` from the spectral start; if that does not reach the tolerance, by growing
    the rank one singular pair at a time; then `riemannian` from the spectral start with a final polish; then through
    larger ranks and back. It ends with the first stage that reaches the tolerance, or when two stages ended in the same
    minimum: the measurements are then noisy, and the certificate is that of a stationary point.

    Without a rank, the second stage comes first and adds pairs until the residual is at the tolerance or the noise, or
    else to the least corrected Akaike criterion.

    With ``loss="l1"``, steps on the measurements whose residual is at most a few medians, chosen anew every two steps,
    from the spectral start of the smaller half of the measurements; if that fails, growing rank and reweighted least
    squares first. The field ``outliers`` of the result tells which measurements were left out, and the certificate is
    about the others.

    References
    ----------
    C. M. Hurvich, C.-L. Tsai, Regression and time series model selection in small samples, Biometrika 1989.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, recover
    >>> rng = np.random.default_rng(0)
    >>> M = rng.normal(size=(30, 2)) @ rng.normal(size=(2, 20))
    >>> A = GaussianSensing((30, 20), 200, rng=rng)
    >>> res = recover(A, A.forward(M))
    >>> res.success, res.rank
    (True, 2)
    >>> bool(np.allclose(res.matrix.toarray(), M))
    True
    """
    check.option("loss", loss, ("l2", "l1"))
    if not callable(method):
        check.option("method", method, ("auto", *METHODS))
    if loss == "l1" and (rank is None or method != "auto"):
        raise check.error("loss", loss, 'an integer `rank` and method="auto" with "l1"')
    if method == "auto":
        check.keywords(_auto, options.keys() - {"tol"}, "recover")
        return _auto(prepare(A, y, psd=psd, noise=noise, tol=options.pop("tol", "auto")), rank, loss, **options)
    if not callable(method):
        method = METHODS[method]
    wanted = inspect.signature(method).parameters.get("rank")
    if rank is None and wanted is not None and wanted.default is wanted.empty:
        raise check.error("rank", None, "an integer for this method", 'method="auto" finds the rank')
    given = {"psd": psd, "noise": noise, "rank": rank}
    options |= {name: value for name, value in given.items() if value}  # not every method takes them
    check.keywords(method, options, "recover")
    result = method(A, y, **options)
    result.message = f"{result.method} as asked: {result.message}"
    return result


def _auto(
    problem: Problem,
    rank: int | None,
    loss: str,
    *,
    init: Any = None,
    maxiter: int = 2000,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> SensingResult:
    if rank is not None:
        rank = check_rank(rank, problem.A)
    if loss == "l1":
        robust = Robust(problem, rank)
        state = prepare_resume(init, RobustState)
        stages, state, words, target = robust, state or robust.start(), "robust fit", None

        def finish(step: Step) -> dict[str, Any]:
            return robust.finish(step)
    else:
        portfolio = Portfolio(problem)
        start, state = prepare_init(init, PortfolioState)
        if state is None:
            state = portfolio.start(rank, None if start is None else as_point(problem, start, rank))
        stages, words, target = portfolio, "Levenberg-Marquardt", problem.target

        def finish(step: Step) -> dict[str, Any]:
            return conclude(problem, step.state.now.point, agreed=step.state.agreed)

    result = run(
        stages.steps,
        state=state,
        like=problem.y,
        xp=problem.xp,
        method="recover",
        finish=finish,
        tol=target,
        maxiter=maxiter,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(problem.A, problem.y, problem.psd, problem.noise, rank, loss),
        result_class=SensingResult,
    )
    result.message = f"{words}, {result.state.stage}: {result.message}"
    return result
