"""Weighted low-rank approximation: the Fisher-weighted decomposition, and alternating least squares from it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, linalg, supports
from optlib.sensing.result import LowRankMatrix, SensingResult

FLOOR = 1e-12  # weights of rows and columns are at least this part of the largest
TOL = {64: 1e-6, 32: 1e-3}


class WeightedState(NamedTuple):
    """State of `weighted_svd`: the factors and the sweeps so far."""

    F: Array
    G: Array
    nit: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def weighted_svd(
    W: Any,
    weights: Any,
    *,
    rank: int,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 2000,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Approximate a matrix by one of low rank where some entries, rows or columns matter more than others.

    Minimises ``sum_ij I_ij (W - F G')_ij^2``.

    Parameters
    ----------
    W : array, shape (n1, n2)
        The matrix.
    weights : array of shape (n1, n2) or (n1,), or pair of arrays of shapes (n1,) and (n2,)
        Weights >= 0 of the entries, for example the Fisher information of a layer; of the rows; or of rows and columns,
        whose products are the weights of the entries.
    rank : int
        Rank of the approximation.
    init : (array, array), SensingResult or state, optional
        Factors to start from, or a result to continue.
    tol : float, "auto" or None
        Tolerance of the gradient, see the notes; ``"auto"`` is 1e-6, and 1e-3 for float32. None runs ``maxiter``
        sweeps.
    maxiter : int
        Largest number of sweeps; 0 with weights of the entries returns the Fisher-weighted decomposition.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`; the history has ``fun``.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    SensingResult
        ``x`` and ``factors`` are F (n1, rank) and G (n2, rank); ``fun`` is the weighted squared error.

    Raises
    ------
    TypeError, ValueError
        For invalid input, and negative weights.

    Notes
    -----
    For weights of rows and columns, ``D1 W D2`` is decomposed and scaled back: the optimum, and the certificate says by
    how much its error exceeds the sum of the discarded squared singular values, which is the least possible.

    For weights of the entries there is no closed form. The start is the Fisher-weighted decomposition, whose rows weigh
    as much as their entries together; then both factors are solved for in turns, and no sweep raises the error.
    Stopping: the derivatives in the entries of both factors, each in units of its own curvature and norm, are at most
    ``tol`` together: a stationary point, which need not be the global minimum.

    Cost: one decomposition, O(n1 n2 min(n1, n2)); a sweep O(n1 n2 k^2 + (n1 + n2) k^3).

    Rows of weight zero are free; they count with 1e-12 of the largest weight. When not to use it: where the plain
    Frobenius error matters, a truncated decomposition is best, and better than this.

    References
    ----------
    Y.-C. Hsu, T. Hua, S.-E. Chang, Q. Lou, Y. Shen, H. Jin, Language model compression with weighted low-rank
    factorization, ICLR 2022. N. Srebro, T. Jaakkola, Weighted low-rank approximations, ICML 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import weighted_svd
    >>> W = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> weighted_svd(W, np.array([9.0, 1.0]), rank=1).matrix.toarray().round(6) + 0.0
    array([[1., 0.],
           [0., 0.]])
    """
    pair = isinstance(weights, (tuple, list)) and len(weights) == 2 and getattr(weights[0], "ndim", 0) == 1
    sides = weights if pair else (weights, None)
    xp, device, dtype = check.common(W=W, weights=sides[0], columns=sides[1])
    made = {"xp": xp, "dtype": dtype, "device": device}
    W = check.array("W", W, ndim=2, **made)
    n1, n2 = W.shape
    if 0 in W.shape:
        raise check.error("W", f"shape {(n1, n2)}", "at least one row and one column")
    rank = check.scalar("rank", rank, low=1, high=min(n1, n2), integer=True)
    entries = None
    given = check.array("weights", sides[0], nonnegative=True, **made)
    if given.ndim == 2 and not pair:
        entries = check.array("weights", given, shape=(n1, n2), **made)
        rows, columns = xp.sum(entries, axis=1), xp.ones_like(W[0, :])
    else:
        rows = check.array("weights", given, shape=(n1,), fix="one weight a row, or one an entry", **made)
        columns = xp.ones_like(W[0, :])
        if pair:
            columns = check.array("weights", sides[1], shape=(n2,), nonnegative=True, **made)
    if not float(xp.sum(rows)) * float(xp.sum(columns)) > 0.0:
        raise check.error("weights", "zeros only", "a positive weight")
    if isinstance(tol, str):
        check.option("tol", tol, ("auto",))
        tol = TOL[int(xp.finfo(dtype).bits)]
    start, state = prepare_init(init, WeightedState)
    F, G, tail = _decomposed(W, rows, columns, rank, xp)
    if start is not None:
        if not isinstance(start, (tuple, list)) or len(start) != 2:
            raise check.error("init", type(start).__name__, "a pair of factors (n1, k) and (n2, k)", kind=TypeError)
        F = check.array("init", start[0], shape=(n1, rank), **made)
        G = check.array("init", start[1], shape=(n2, rank), **made)
    state = WeightedState(F, G, 0) if state is None else state
    table = rows[:, None] * columns if entries is None else entries
    total = float(xp.sum(table * W * W)) or 1.0

    def fun(F: Array, G: Array) -> Array:
        return xp.sum(table * (W - F @ G.T) ** 2)

    def slope(F: Array, G: Array) -> Array:
        """Norm of the derivatives, each in units in which the square of its size is an error."""
        R = table * (F @ G.T - W)
        parts = []
        for g, curvature in ((R @ G, table @ (G * G)), (R.T @ F, table.T @ (F * F))):
            safe = xp.where(curvature > 0, curvature, xp.ones_like(curvature))
            parts.append(xp.sum(xp.where(curvature > 0, g * g / safe, 0.0 * g)))
        return xp.sqrt((parts[0] + parts[1]) / total)

    def gap(F: Array, G: Array) -> Array:
        return (fun(F, G) - tail) / total

    measure = slope if entries is not None else gap

    def steps(state: WeightedState) -> Steps:
        F, G, nit = state
        while True:
            yield Step(
                (F, G), nit, WeightedState(F, G, nit), counts={"sweeps": nit},
                stop=lambda F=F, G=G: measure(F, G), metrics={"fun": lambda F=F, G=G: fun(F, G)},
            )  # fmt: skip
            F, R = linalg.qr(F, xp=xp)
            G = _solved(F, table.T, W.T, G @ R.T, xp)
            G, R = linalg.qr(G, xp=xp)
            F = _solved(G, table, W, F @ R.T, xp)
            nit += 1

    def finish(last: Step) -> dict[str, Any]:
        F, G = last.x
        value = max(float(measure(F, G)), 0.0)
        if entries is None:
            note = f"least error {tail:.6g} known in closed form"
            certificate = Certificate("duality_gap", value * total, scale=total, tol=tol, note=note)
        else:
            certificate = Certificate("stationarity", value, tol=tol)
        error = float(fun(F, G))
        return {
            "certificate": certificate,
            "fun": error,
            "factors": (F, G),
            "matrix": LowRankMatrix(F, G),
            "rank": rank,
            "relative_residual": (error / total) ** 0.5,
            "identifiability": None,
        }

    return run(
        steps, state=state, like=W, xp=xp, method="weighted_svd", finish=finish, tol=tol, result_class=SensingResult,
        problem=(W, table, rank), maxiter=maxiter, check_every=check_every, callback=callback, record=record,
        max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


def _decomposed(W: Array, rows: Array, columns: Array, rank: int, xp: Any) -> tuple[Array, Array, float]:
    """Balanced factors of the best approximation in the norm ``sum a_i b_j X_ij^2``, and its error."""
    d1, d2 = (xp.sqrt(xp.maximum(u, FLOOR * xp.max(u))) for u in (rows, columns))
    U, s, Vt = linalg.svd(d1[:, None] * W * d2, xp=xp)
    root = s[:rank] ** 0.5
    return U[:, :rank] * root / d1[:, None], Vt[:rank, :].T * root / d2[:, None], float(xp.sum(s[rank:] ** 2))


def _solved(fixed: Array, table: Array, W: Array, old: Array, xp: Any) -> Array:
    """Rows x_i that minimise ``sum_j table_ij (W_ij - x_i' fixed_j)^2``; the old ones where all weights are zero."""
    k = fixed.shape[1]
    squares = xp.reshape(fixed[:, :, None] * fixed[:, None, :], (-1, k * k))
    grams = xp.reshape(table @ squares, (-1, k, k))
    trace = xp.sum(xp.linalg.diagonal(grams), axis=1)
    eye = xp.eye(k, dtype=W.dtype, device=W.device)
    jitter = float(xp.finfo(W.dtype).eps) * xp.where(trace > 0, trace, xp.ones_like(trace))
    rhs = (table * W) @ fixed - (grams @ old[:, :, None])[:, :, 0]  # a correction: rows that are free stay
    change = linalg.solve(grams + jitter[:, None, None] * eye, rhs[:, :, None], xp=xp, check=False)[:, :, 0]
    return old + xp.where(xp.isfinite(change), change, xp.zeros_like(change))
