"""Alternating least squares for matrix completion, with a QR factorisation between the half-steps."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from optlib._core import Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, linalg, random, supports
from optlib.backend.namespace import asarray_on
from optlib.sensing._factored import finish_factored, spectral_start
from optlib.sensing._problem import Problem, check_rank, prepare, starting_point
from optlib.sensing.entries import EntrySampling, Side, sampled_product, weighted_rows
from optlib.sensing.result import SensingResult

SPIKE = 2.0  # length of a row of singular vectors, in units of the average, above which it is left out of the start


class ALSState(NamedTuple):
    """State of `alternating_minimization`.

    Attributes
    ----------
    F, G : array
        The factors; the columns of F are orthonormal after the first iteration.
    nit : int
        Iterations.
    key : int
        Of the sketches.
    """

    F: Array
    G: Array
    nit: int
    key: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def alternating_minimization(
    A: EntrySampling,
    y: Any,
    *,
    rank: int,
    ridge: float = 0.0,
    noise: float = 0.0,
    inner: int | None = None,
    sketch: int | None = None,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 500,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Complete a matrix by alternating least squares.

    Minimises ``|A(F G') - y|^2 + ridge (|F|^2 + |G|^2)`` over one factor at a time.

    Parameters
    ----------
    A : EntrySampling
        The observed places.
    y : array, shape (m,)
        The observed entries.
    rank : int
        Number of columns of the factors.
    ridge : float
        Strength of the penalty, which makes rows with few entries well-posed.
    noise : float
        Norm of the noise in ``y``, if known: a residual of that size ends the run.
    inner : int, optional
        Conjugate-gradient iterations from the present factor in the place of exact solves; None solves exactly.
    sketch : int, optional
        Precondition the inner iterations by the factorised sketch of each row's system, a random combination of its
        equations into ``sketch * rank`` ones; 4 is a good value. Needs `inner`.
    init : (array, array), SensingResult or state, optional
        Factors to start from, or a result to continue.
    tol : float, "auto" or None
        Relative residual to stop at; ``"auto"`` is 1e-12, and 1e-5 for float32. None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`.
    rng : seed or Generator, optional
        Of the sketches.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    SensingResult
        ``x`` are the factors as the method left them.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `recover`.

    Notes
    -----
    Stopping: relative residual at most ``tol``. An exact half-step never raises the objective.

    Cost of an iteration: O(m k^2 + (n1 + n2) k^3); with ``inner`` conjugate-gradient iterations O(inner m k), linear in
    the data. Sketches are made in O(m k) and factorised in O((n1 + n2) k^3) times their size: they pay for rows of many
    more than ``sketch * rank`` entries, whose systems are ill-conditioned (coherent factors); then the iterations have
    the rate of the sketch, whatever the condition. Without that, and below a rank of some 100, plain iterations are
    cheaper. This is the solver of the second paper's analysis, with conjugate gradients for its fixed steps, and all
    entries in every half-step where the proof needs fresh ones.

    Between the half-steps the factor is orthonormalised and the triangle passed to the other one: the systems then have
    the condition of the sampling, not of the matrix, and warm starts stay valid. Without it, few inner iterations fail
    on ill-conditioned matrices. The spectral start leaves out rows of singular vectors more than twice as long as on
    average, as in the first paper: singular values that are lost in the noise of the sampling otherwise end in spurious
    components. With a ridge the factors are balanced by the singular value decomposition instead of
    orthonormalised, as the penalty is not invariant.

    Rows without entries are zero. Prefer `recover` at low sampling rates.

    References
    ----------
    P. Jain, P. Netrapalli, S. Sanghavi, Low-rank matrix completion using alternating minimization, STOC 2013. Y. Gu,
    Z. Song, J. Yin, L. Zhang, Low rank matrix completion via robust alternating minimization in nearly linear time,
    ICLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import alternating_minimization, random_entries
    >>> A = random_entries((30, 20), 300, rng=0)
    >>> alternating_minimization(A, A.forward(np.ones((30, 20))), rank=1).success
    True
    """
    if not isinstance(A, EntrySampling):
        raise check.error("A", type(A).__name__, "an EntrySampling: the method is for completion", kind=TypeError)
    problem = prepare(A, y, tol=tol, noise=noise)
    rank = check_rank(rank, problem.A)
    ridge = check.scalar("ridge", ridge, low=0.0)
    if inner is not None:
        inner = check.scalar("inner", inner, low=1, integer=True)
    if sketch is not None:
        sketch = check.scalar("sketch", sketch, low=1, integer=True)
        if inner is None:
            raise check.error("sketch", sketch, "None with exact solves", "inner=10: sketches precondition iterations")
    given, state = prepare_init(init, ALSState)
    rng = random.as_generator(rng)
    if state is None:
        F, G = _clipped_start(problem, rank) if given is None else starting_point(problem, given, rank)
        state = ALSState(F, G, 0, int(rng.integers(2**31)) if sketch else 0)
    return run(
        partial(_steps, problem=problem, ridge=ridge, inner=inner, sketch=sketch),
        state=state,
        like=problem.y,
        xp=problem.xp,
        method="alternating_minimization",
        finish=lambda step: finish_factored(problem, step.state.F, step.state.G),
        tol=problem.target,
        problem=(problem.A, problem.y, rank, ridge, inner, sketch),
        result_class=SensingResult,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


def _steps(state: ALSState, *, problem: Problem, ridge: float, inner: int | None, sketch: int | None) -> Steps:
    xp = problem.xp
    F, G, nit, key = state
    to_rows, to_columns = _sides(problem, ridge, inner, sketch * F.shape[1] if sketch else 0, key)
    while True:
        yield Step(
            (F, G), nit, ALSState(F, G, nit, key),
            stop=lambda: problem.relative(problem.residual(F, G)), counts={"passes": 4 * nit},
        )  # fmt: skip
        F, G = _balanced(F, G, ridge, xp)
        G = to_columns.solve(F, G)
        G, F = _balanced(G, F, ridge, xp)
        F = to_rows.solve(G, F)
        F, G = _balanced(F, G, ridge, xp)
        nit += 1


def _clipped_start(problem: Problem, rank: int) -> tuple[Array, Array]:
    """The spectral start without the rows that are more than `SPIKE` times as long as they are on average.

    Singular vectors that are noise concentrate on the rows with most entries; the least-squares problems would make
    large components of them, on places that are not observed.
    """
    xp, kept = problem.xp, []
    for F in spectral_start(problem, rank):
        rows = linalg.norm(linalg.qr(F, xp=xp)[0], axis=1, keepdims=True, xp=xp)
        kept.append(xp.where(rows <= SPIKE * (rank / F.shape[0]) ** 0.5, F, xp.zeros_like(F)))
    return kept[0], kept[1]


def _balanced(F: Array, G: Array, ridge: float, xp: Any) -> tuple[Array, Array]:
    """Orthonormal F, the triangle in G; or balanced factors, the best split for the penalty."""
    Q, R = linalg.qr(F, xp=xp)
    if not ridge:
        return Q, G @ R.T
    Q2, R2 = linalg.qr(G, xp=xp)
    u, s, vh = linalg.svd(R @ R2.T, xp=xp, check=False)
    return (Q @ u) * s**0.5, (Q2 @ vh.T) * s**0.5


def _sides(problem: Problem, ridge: float, inner: int | None, size: int, key: int) -> list["_Rows"]:
    """Least squares for the rows of both factors."""
    A, rng = problem.A, random.as_generator(key)
    n1, n2 = A.matrix_shape
    places = (A.rows, A.cols, n1), (A.cols, A.rows, n2)
    exact = [Side(A, problem.y, side) if inner is None else None for side in (0, 1)]
    return [_Rows(problem, *place, ridge, inner, size, rng, side) for place, side in zip(places, exact, strict=True)]


class _Rows:
    """Least squares for all rows ``x_i`` of one factor: ``sum_l (x_to[l]' g_source[l] - y_l)^2 + ridge |x|^2``."""

    def __init__(
        self,
        problem: Problem,
        to: Array,
        source: Array,
        n: int,
        ridge: float,
        inner: int | None,
        size: int,
        rng: Any,
        exact: Side | None,
    ) -> None:
        self.xp, self.y, self.to, self.source, self.n = problem.xp, problem.y, to, source, n
        self.ridge, self.inner, self.size, self.exact = ridge, inner, size, exact
        if size:  # each equation goes to one of the row's combinations, with a random sign
            m = self.y.shape[0]
            bucket = asarray_on(rng.integers(size, size=m), xp=self.xp, dtype=self.xp.int64, device=self.y.device)
            self.bucket, self.sign = to * size + bucket, random.rademacher(rng, m, like=self.y)

    def solve(self, fixed: Array, x: Array) -> Array:
        """Exactly, or by iterations from ``x``."""
        if self.exact is None:
            return self._iterated(fixed, x)
        solved = self.exact.solve(fixed, self.ridge)
        return self.xp.where(self.xp.isfinite(solved), solved, x)

    def _shifted(self, grams: Array) -> Array:
        """Gram matrices with the penalty, and so much more that none is singular."""
        xp = self.xp
        trace = xp.sum(xp.linalg.diagonal(grams), axis=1)
        jitter = self.ridge + 1e-14 * xp.where(trace > 0, trace, xp.ones_like(trace))
        return grams + jitter[:, None, None] * xp.eye(grams.shape[1], dtype=grams.dtype, device=grams.device)

    def _normal(self, fixed: Array, p: Array) -> Array:
        values = sampled_product(p, fixed, self.to, self.source, xp=self.xp)
        return weighted_rows(values, fixed, self.to, self.source, self.n, xp=self.xp) + self.ridge * p

    def _preconditioner(self, fixed: Array) -> Callable[[Array], Array]:
        """Inverse Gram matrices of the sketched systems."""
        xp = self.xp
        if not self.size:
            return lambda r: r
        sketched = weighted_rows(self.sign, fixed, self.bucket, self.source, self.n * self.size, xp=xp)
        sketched = xp.reshape(sketched, (self.n, self.size, fixed.shape[1]))
        inverse = linalg.inv(self._shifted(xp.matrix_transpose(sketched) @ sketched), xp=xp, check=False)
        return lambda r: (inverse @ r[:, :, None])[:, :, 0]

    def _iterated(self, fixed: Array, x: Array) -> Array:
        """Conjugate gradients in all rows at once."""
        xp, precondition = self.xp, self._preconditioner(fixed)

        def ratio(a: Array, b: Array) -> Array:
            return xp.where(b > 0, a / xp.where(b > 0, b, xp.ones_like(b)), xp.zeros_like(b))

        rhs = weighted_rows(self.y, fixed, self.to, self.source, self.n, xp=xp)
        r = rhs - self._normal(fixed, x)
        p = z = precondition(r)
        rz = xp.sum(r * z, axis=1, keepdims=True)
        for _ in range(self.inner or 0):
            q = self._normal(fixed, p)
            alpha = ratio(rz, xp.sum(p * q, axis=1, keepdims=True))
            x, r = x + alpha * p, r - alpha * q
            z = precondition(r)
            new = xp.sum(r * z, axis=1, keepdims=True)
            p, rz = z + ratio(new, rz) * p, new
        return x
