"""A mean, a bias for every row and column, and a low-rank part with ridge penalties: the model for ratings."""

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

from optlib._core import Certificate, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, array_namespace, linalg, scatter, supports, to_numpy
from optlib.sensing._problem import Problem, prepare, starting_point
from optlib.sensing.entries import EntrySampling, Side, sampled_product, weighted_rows
from optlib.sensing.result import LowRankMatrix, SensingResult
from optlib.sensing.spectral import spectral_point

TOL = {64: 1e-6, 32: 1e-4}
FIRST_SWEEPS = 10  # for the biases alone, before the low-rank part starts


class BiasedState(NamedTuple):
    """State of `biased_factorization`.

    Attributes
    ----------
    U, V : array
        Factors of the low-rank part.
    b, c : array
        Biases of the rows and of the columns.
    nit : int
        Iterations.
    """

    U: Array
    V: Array
    b: Array
    c: Array
    nit: int


class Model:
    """The objective and the half-steps that minimise it.

    Parameters
    ----------
    A : EntrySampling
    y : array, shape (m,)
    ridge : float
    weights : array, shape (n1,)
        Of the rows.
    mean : float
        What is subtracted from ``y``; None: the weighted mean.
    """

    def __init__(self, A: EntrySampling, y: Array, ridge: float, weights: Array, mean: Array | None = None) -> None:
        xp = A.xp
        self.A, self.xp, self.ridge = A, xp, ridge
        self.weights, self.roots = weights, xp.sqrt(weights)
        each = xp.take(weights, A.rows, axis=0)
        self.mean = xp.sum(each * y) / xp.sum(each) if mean is None else mean
        self.y = y - self.mean
        self.size = math.sqrt(float(xp.sum(each * self.y * self.y)))
        # the penalty of the factors of a row or column is that of its bias times the root of its number of entries
        ones, (n1, n2) = xp.ones_like(self.y), A.matrix_shape
        self.per_row = xp.sqrt(scatter.segment_sum(ones, A.rows, n1, xp=xp))
        self.per_column = xp.sqrt(scatter.segment_sum(each, A.cols, n2, xp=xp))

    @cached_property
    def by_row(self) -> Side:
        """The entries row after row."""
        return Side(self.A, self.y, 0)

    @cached_property
    def by_column(self) -> Side:
        """The entries column after column."""
        return Side(self.A, self.y, 1)

    def _ridge(self, per: Array, rank: int) -> Array:
        """Penalties of the factors, and of the bias in the last column."""
        ones = self.xp.ones((1, rank), dtype=per.dtype, device=per.device)
        return self.ridge * self.xp.concat([per[:, None] * ones, self.xp.ones_like(per)[:, None]], axis=1)

    def rows(self, V: Array, c: Array) -> tuple[Array, Array]:
        """The best factors and biases of the rows; row weights do not matter."""
        side, ridge = self.by_row, self._ridge(self.per_row, V.shape[1])
        solved = side.solve(self.with_ones(V), ridge, side.y - self.xp.take(c, side.source, axis=0))
        return _parts(solved)

    def columns(self, U: Array, b: Array) -> tuple[Array, Array]:
        """The best factors and biases of the columns."""
        side, ridge = self.by_column, self._ridge(self.per_column, U.shape[1])
        y = self.xp.take(self.roots, side.source, axis=0) * (side.y - self.xp.take(b, side.source, axis=0))
        solved = side.solve(self.roots[:, None] * self.with_ones(U), ridge, y)
        return _parts(solved)

    def balanced(self, state: BiasedState) -> BiasedState:
        """The same predictions at less penalty: constants moved between the parts, then factors of equal size."""
        xp, w, r = self.xp, self.weights, self.per_column
        U, V, b, c, nit = state
        U, b, c = _shifted(U, b, w * self.per_row, w, V, c, xp.ones_like(c), xp)
        V, c, b = _shifted(V, c, r, xp.ones_like(c), U, b, w, xp)
        if U.shape[1]:
            R1 = linalg.qr(xp.sqrt(w * self.per_row)[:, None] * U, xp=xp)[1]
            R2 = linalg.qr(xp.sqrt(r)[:, None] * V, xp=xp)[1]
            u, s, vh = linalg.svd(R1 @ R2.T, xp=xp, check=False)
            large = s > 1e-12 * s[0]
            inverse = xp.where(large, 1.0 / xp.sqrt(xp.where(large, s, xp.ones_like(s))), xp.zeros_like(s))
            # R1 R2' = u s vh: U T and V S, with T = R2' vh' / sqrt(s) and S = R1' u / sqrt(s), have the product U V'
            # and the weighted Gram matrix s
            U, V = U @ ((R2.T @ vh.T) * inverse), V @ ((R1.T @ u) * inverse)
        return BiasedState(U, V, b, c, nit)

    def with_ones(self, F: Array) -> Array:
        """Factors with the column that the biases of the other side go to."""
        ones = self.xp.ones((F.shape[0], 1), dtype=F.dtype, device=F.device)
        return self.xp.concat([F, ones], axis=1)

    def residual(self, state: BiasedState) -> Array:
        """Model minus observations."""
        xp, A = self.xp, self.A
        low_rank = sampled_product(state.U, state.V, A.rows, A.cols, xp=xp)
        return low_rank + xp.take(state.b, A.rows, axis=0) + xp.take(state.c, A.cols, axis=0) - self.y

    def value(self, state: BiasedState) -> Array:
        """The objective."""
        xp, w = self.xp, self.weights
        residual = self.residual(state)
        fit = xp.sum(xp.take(w, self.A.rows, axis=0) * residual * residual)
        of_rows = xp.sum(w * (self.per_row * xp.sum(state.U * state.U, axis=1) + state.b * state.b))
        of_columns = xp.sum(self.per_column * xp.sum(state.V * state.V, axis=1) + state.c * state.c)
        return fit + self.ridge * (of_rows + of_columns)

    def stationarity(self, state: BiasedState) -> Array:
        """Size of the derivative by the columns (that by the rows is zero), over the largest that it could have."""
        xp, A = self.xp, self.A
        left, right = self.with_ones(state.U), xp.concat([state.V, state.c[:, None]], axis=1)
        z = xp.take(self.weights, A.rows, axis=0) * self.residual(state)
        gradient = weighted_rows(z, left, A.cols, A.rows, A.matrix_shape[1], xp=xp)
        gradient = gradient + self._ridge(self.per_column, state.V.shape[1]) * right
        each = xp.take(xp.sum(left * left, axis=1) * self.weights, A.rows, axis=0)
        return linalg.norm(gradient, xp=xp) / ((self.size or 1.0) * xp.sqrt(xp.sum(each)))


@supports(backends=("numpy", "cupy", "torch", "strict"))
def biased_factorization(
    A: EntrySampling,
    y: Any,
    *,
    rank: int,
    ridge: float = 1.0,
    weights: Any = None,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 500,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Complete a matrix of ratings: mean, biases of rows and columns, and a low-rank part.

    Minimises

    .. math:: \sum_i w_i (\sum_{j \in \Omega_i} (\mu + b_i + c_j + u_i^T v_j - y_{ij})^2
              + \rho\, (\sqrt{n_i} |u_i|^2 + b_i^2)) + \rho \sum_j (\sqrt{n_j} |v_j|^2 + c_j^2)

    with the mean :math:`\mu` of the observed entries, and the numbers :math:`n` of entries of the rows and columns:
    with equal penalties, factors of busy rows and columns would fit noise.

    Parameters
    ----------
    A : EntrySampling
        The observed places.
    y : array, shape (m,)
        The observed entries.
    rank : int
        Rank of the low-rank part; 0 fits the biases alone.
    ridge : float
        The penalty :math:`\rho`; choose it on held-out entries.
    weights : array, shape (n1,), optional
        Weights of the rows: a row of weight 2 counts as two equal rows.
    init : (array, array), SensingResult or state, optional
        Factors (n1, rank) and (n2, rank) of the low-rank part to start from, or a result to continue.
    tol : float, "auto" or None
        Stationarity to stop at; ``"auto"`` is 1e-6, and 1e-4 for float32. None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    SensingResult
        ``mean``, ``biases`` (b, c) and ``interactions`` (U, V) are the parts; ``factors`` and ``matrix`` have all of
        them, with two columns more than the rank.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `recover`.

    Notes
    -----
    Stopping: the norm of the derivative, over the largest that it could have for residuals of this size, is at most
    ``tol``.

    Cost of an iteration: O(m k^2 + (n1 + n2) k^3) with k = rank + 1. Rows and columns are solved for in turns, each
    exactly, with the biases as one more factor; in between the factors are balanced, which lowers the penalty at once
    where the turns alone would take many iterations. The start is the spectral one of what the biases leave.

    Rows and columns without entries get zeros: the prediction is what the other side and the mean say. The certificate
    names their number.

    When not to use it: for noiseless recovery (`recover` is exact, this is biased by the penalty), and where entries
    are missing because of their values.

    References
    ----------
    Y. Koren, R. Bell, C. Volinsky, Matrix factorization techniques for recommender systems, IEEE Computer 2009.
    R. Salakhutdinov, N. Srebro, Collaborative filtering in a non-uniform world: learning with the weighted trace norm,
    NeurIPS 2010 (penalties with the root of the number of entries).

    Examples
    --------
    >>> from optlib.sensing import EntrySampling, biased_factorization
    >>> A = EntrySampling([0, 0, 1], [0, 1, 0], (2, 2))
    >>> result = biased_factorization(A, [5.0, 4.0, 3.0], rank=0, ridge=1e-6)
    >>> result.matrix.toarray().round(2)
    array([[5., 4.],
           [3., 2.]])
    """
    if not isinstance(A, EntrySampling):
        raise check.error("A", type(A).__name__, "an EntrySampling: the method is for completion", kind=TypeError)
    problem = prepare(A, y, tol=None)
    rank = check.scalar("rank", rank, low=0, high=min(A.matrix_shape), integer=True)
    ridge = check.scalar("ridge", ridge, low=0.0)
    if isinstance(tol, str):
        check.option("tol", tol, ("auto",))
        tol = TOL[problem.bits]
    model = Model(problem.A, problem.y, ridge, row_weights(problem, weights))
    given, state = prepare_init(init, BiasedState)
    if state is None:
        state = _start(problem, model, rank, given)
    return run(
        partial(_steps, model=model),
        state=state,
        like=problem.y,
        xp=problem.xp,
        method="biased_factorization",
        finish=lambda step: _finish(problem, model, step.state, tol),
        tol=tol,
        problem=(problem.A, problem.y, rank, ridge, model.weights),
        result_class=SensingResult,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


def _parts(solved: Array) -> tuple[Array, Array]:
    """Factors and biases, each in memory of its own: a checkpoint gives them back in the same layout."""
    xp = array_namespace(solved)
    return xp.asarray(solved[:, :-1], copy=True), xp.asarray(solved[:, -1], copy=True)


def _shifted(
    F: Array, b: Array, r: Array, w: Array, G: Array, c: Array, v: Array, xp: Any
) -> tuple[Array, Array, Array]:
    """Constants ``t`` added to the rows of F and ``a`` to b, and taken from c, to the least penalty.

    Minimises ``sum r |f + t|^2 + sum w (b + a)^2 + sum v (c - G t - a)^2``.
    """
    P = xp.concat([G, xp.ones_like(c)[:, None]], axis=1)
    sums = xp.concat([r @ F, xp.reshape(xp.sum(w * b), (1,))])
    own = xp.concat([xp.sum(r) * xp.ones_like(G[0, :]), xp.reshape(xp.sum(w), (1,))])
    system = own * xp.eye(P.shape[1], dtype=F.dtype, device=F.device) + P.T @ (v[:, None] * P)
    z = linalg.solve(system, P.T @ (v * c) - sums, xp=xp, check=False)
    return F + z[:-1], b + z[-1], c - P @ z


def row_weights(problem: Problem, weights: Any) -> Array:
    """Check weights of the rows; ones if there are none."""
    A, n1 = problem.A, problem.A.matrix_shape[0]
    if weights is None:
        return A.xp.ones(n1, dtype=A.dtype, device=A.device)
    w = check.array("weights", weights, xp=A.xp, shape=(n1,), nonnegative=True, dtype=A.dtype, device=A.device)
    if not float(A.xp.sum(A.xp.take(w, A.rows, axis=0))) > 0.0:
        raise check.error("weights", "zeros", "a positive weight of some row that has entries")
    return w


def _start(problem: Problem, model: Model, rank: int, given: Any) -> BiasedState:
    A, xp = model.A, model.xp
    n1, n2 = A.matrix_shape
    none = [xp.zeros((n, 0), dtype=A.dtype, device=A.device) for n in (n1, n2)]
    c = xp.zeros(n2, dtype=A.dtype, device=A.device)
    for _ in range(FIRST_SWEEPS):
        _, b = model.rows(none[1], c)
        _, c = model.columns(none[0], b)
    if given is not None:
        V = starting_point(problem, given, rank)[1]
    elif rank:
        left = -1.0 * model.residual(BiasedState(*none, b, c, 0))
        V = spectral_point(problem, rank, xp.take(model.roots, A.rows, axis=0) * left).factors[1]
    else:
        V = none[1]
    U, b = model.rows(V, c)
    return BiasedState(U, V, b, c, 0)


def _steps(state: BiasedState, *, model: Model) -> Steps:
    while True:
        yield Step(
            assemble(model, state), state.nit, state,
            stop=lambda: model.stationarity(state), metrics={"fun": lambda: model.value(state)},
            counts={"passes": 6 * state.nit},
        )  # fmt: skip
        U, _, b, _, _ = model.balanced(state)
        V, c = model.columns(U, b)
        U, b = model.rows(V, c)
        state = BiasedState(U, V, b, c, state.nit + 1)


def assemble(model: Model, state: BiasedState) -> tuple[Array, Array]:
    """Factors of the whole: those of the low-rank part, and two columns for mean and biases."""
    left = model.with_ones(model.xp.concat([state.U, (state.b + model.mean)[:, None]], axis=1))
    return left, model.xp.concat([model.with_ones(state.V), state.c[:, None]], axis=1)


def _finish(problem: Problem, model: Model, state: BiasedState, tol: float | None) -> dict[str, Any]:
    xp = model.xp
    left, right = assemble(model, state)
    empty = [int(to_numpy(xp.sum(xp.astype(d == 0, xp.int64)))) for d in model.A.degrees()]
    note = f"{empty[0]} rows and {empty[1]} columns without entries have zero factors and biases" if any(empty) else ""
    size = float(linalg.norm(model.residual(state), xp=xp))
    return {
        "certificate": Certificate("stationarity", float(model.stationarity(state)), tol=tol, proof=False, note=note),
        "fun": float(model.value(state)),
        "factors": (left, right),
        "matrix": LowRankMatrix(left, right),
        "rank": state.U.shape[1],
        "relative_residual": size / (problem.size or 1.0),
        "identifiability": None,
        "psd": False,
        "mean": float(model.mean),
        "biases": (state.b, state.c),
        "interactions": (state.U, state.V),
    }
