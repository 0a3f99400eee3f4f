"""Singular value thresholding for completion."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Step, Steps, prepare_resume, run
from optlib._core import validation as check
from optlib.backend import Array, supports
from optlib.sensing._lowrank import Point, image, zero_point
from optlib.sensing._nuclear import largest_value, shrink
from optlib.sensing._problem import prepare
from optlib.sensing.entries import EntrySampling
from optlib.sensing.result import LowRankMatrix, SensingResult

TOL = {64: 1e-6, 32: 1e-4}


class SVTState(NamedTuple):
    """State of `svt`: matrix, multipliers of the entries, singular vectors for the next iteration, iterations."""

    point: Point
    z: Array
    guess: Array
    nit: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def svt(
    A: EntrySampling,
    y: Any,
    *,
    threshold: float = 5.0,
    step: float = 1.2,
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
    r"""Complete a matrix by thresholding the singular values of a growing multiple of its residuals.

    Minimises ``tau |X|_* + |X|_F^2 / 2`` over the matrices with the observed entries, by gradient steps on the dual.

    Parameters
    ----------
    A : EntrySampling
        The observed places.
    y : array, shape (m,)
        The observed entries.
    threshold : float
        ``tau`` in units of ``sqrt(n1 n2)`` times the root mean square of the entries. The larger, the closer to the
        matrix of least nuclear norm, and the slower.
    step : float
        Step size, in units of one over the observed fraction.
    init : SensingResult or state, optional
        A result to continue.
    tol : float, "auto" or None
        Tolerance of the relative residual and of the relative duality gap; ``"auto"`` is 1e-6, and 1e-4 for float32.
        None runs ``maxiter`` iterations.
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
    Stopping: relative residual at most ``tol``. With ``X = S(A*(z))`` the duality gap is ``<z, A(X) - y>``; the
    certificate holds if both are small.

    Cost of an iteration: one forward and one adjoint pass and a singular value decomposition, as for `fista`.

    When not to use it: it is here for reference; it is slow, and steps above 2 times the observed fraction have no
    proof and diverge on ill-conditioned matrices. Use `recover`.

    References
    ----------
    J.-F. Cai, E. Candes, Z. Shen, A singular value thresholding algorithm for matrix completion, SIAM J. Optim. 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import random_entries, svt
    >>> A = random_entries((30, 30), 500, rng=0)
    >>> res = svt(A, A.forward(np.ones((30, 30))))
    >>> res.success, res.rank
    (True, 1)
    """
    if not isinstance(A, EntrySampling):
        raise check.error("A", type(A).__name__, "an EntrySampling: the method is for completion", kind=TypeError)
    problem = prepare(A, y, tol=tol)
    if tol == "auto":
        problem = problem._replace(tol=TOL[problem.bits])
    A, xp, y = problem.A, problem.xp, problem.y
    threshold = check.scalar("threshold", threshold, low=0.0, low_open=True)
    delta = check.scalar("step", step, low=0.0, low_open=True) / A.isotropy
    tau = threshold * math.sqrt(A.shape[1]) * (problem.size / math.sqrt(A.shape[0]) or 1.0)
    state = prepare_resume(init, SVTState)
    if state is None:
        top = largest_value(A, y, False)
        skipped = math.floor(tau / (delta * top)) if top > 0.0 else 0  # steps in which nothing passes the threshold
        state = SVTState(zero_point(A), (skipped * delta) * y, zero_point(A).V, 0)

    def steps(state: SVTState) -> Steps:
        point, z, guess, nit = state
        while True:
            residual = image(A, point) - y
            yield Step(
                point.factors, nit, SVTState(point, z, guess, nit), counts={"passes": 2 * nit},
                stop=lambda residual=residual: problem.relative(residual),
                metrics={"rank": lambda rank=point.rank: float(rank)},
            )  # fmt: skip
            z = z - delta * residual
            point, guess = shrink(A, zero_point(A), z, tau, False, guess)
            nit += 1

    def finish(last: Step) -> dict[str, Any]:
        point, z = last.state.point, last.state.z
        residual = image(A, point) - y
        size = float(problem.relative(residual))
        fun = tau * float(xp.sum(point.s)) + 0.5 * float(xp.sum(point.s * point.s))
        gap = abs(float(xp.sum(z * residual)))
        left, right = point.factors
        return {
            "certificate": Certificate(
                "duality_gap", gap, scale=fun or 1.0, tol=problem.tol, residual=size, note=f"rank {point.rank}"
            ),
            "fun": fun,
            "factors": (left, right),
            "matrix": LowRankMatrix(left, right),
            "rank": point.rank,
            "relative_residual": size,
            "identifiability": None,
        }

    return run(
        steps, state=state, like=y, xp=xp, method="svt", finish=finish, tol=problem.target, result_class=SensingResult,
        problem=(A, y, threshold, step), maxiter=maxiter, check_every=check_every, callback=callback, record=record,
        max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
