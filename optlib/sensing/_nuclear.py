"""What the nuclear-norm methods share: shrinking of low-rank plus measured matrices, and the gap to the dual."""

import math
from typing import Any, NamedTuple

from optlib._core import Certificate, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, linalg, random
from optlib.linop.base import _empty
from optlib.sensing._lowrank import Point, image, is_small, top_singular, zero_point
from optlib.sensing._problem import Problem
from optlib.sensing.operators import SensingOperator
from optlib.sensing.result import LowRankMatrix, SensingResult
from optlib.sensing.spectral import as_point

GAP = {64: 1e-6, 32: 1e-4}
EXTRA = 10  # columns of a block besides the rank expected
SWEEPS = 3  # block power iterations from the last singular vectors
PATH_ITERATIONS = 3


class NuclearState(NamedTuple):
    """State of `fista` and `soft_impute`.

    Attributes
    ----------
    point, old : Point
        The matrix and the one before.
    guess : array, shape (n2, columns)
        Right singular vectors for the next block power iterations; none for small matrices.
    momentum : float
        Nesterov's number, 1 at the start.
    nit : int
        Iterations.
    """

    point: Point
    old: Point
    guess: Array
    momentum: float
    nit: int


def shrink(A: SensingOperator, point: Point, z: Array, level: float, psd: bool, guess: Array) -> tuple[Point, Array]:
    """``S(X + A*(z))``, where S lowers all singular values (psd: eigenvalues) by ``level`` and cuts them at zero.

    ``X`` may have weights of any sign. ``guess`` are approximate right singular vectors, for large matrices; better
    ones are returned, with some below the level, which the next call may need.
    """
    xp = A.xp
    if is_small(A):
        Z = (point.U * point.s) @ point.V.T + A._adjoint(z)
        return _cut(*_decomposed(Z, psd, xp), level, xp), guess
    columns = min(max(guess.shape[1], EXTRA), *A.matrix_shape)
    while True:
        U, s, V = _block(A, point, z, psd, columns, guess)
        if columns == min(A.matrix_shape) or float(s[-1]) <= level:
            shrunk = _cut(U, s, V, level, xp)
            return shrunk, V[:, : shrunk.rank + EXTRA]
        columns = min(2 * columns, *A.matrix_shape)


def _decomposed(Z: Array, psd: bool, xp: Any) -> tuple[Array, Array, Array]:
    if psd:
        w, v = linalg.eigh(0.5 * (Z + Z.T), xp=xp, check=False)
        v = xp.flip(v, axis=1)
        return v, xp.flip(w), v
    u, s, vh = linalg.svd(Z, xp=xp, check=False)
    return u, s, vh.T


def _cut(U: Array, s: Array, V: Array, level: float, xp: Any) -> Point:
    kept = int(xp.sum(xp.astype(s > level, xp.int64)))
    return Point(U[:, :kept], s[:kept] - level, V[:, :kept])


def _block(
    A: SensingOperator, point: Point, z: Array, psd: bool, columns: int, guess: Array
) -> tuple[Array, Array, Array]:
    """Leading singular triples by block power iterations, from a guess and fixed random vectors."""
    xp = A.xp

    def times(Q: Array) -> Array:
        return point.U @ (point.s[:, None] * (point.V.T @ Q)) + A._adjoint_matmul(z, Q)

    def transposed(Q: Array) -> Array:
        return point.V @ (point.s[:, None] * (point.U.T @ Q)) + A._adjoint_rmatmul(z, Q)

    rng = random.as_generator(0)
    fresh = random.normal(rng, (A.matrix_shape[1], columns - guess.shape[1]), like=_empty(A))
    Q, _ = linalg.qr(xp.concat([guess, fresh], axis=1), xp=xp)
    for _ in range(SWEEPS):
        if psd:
            Q, _ = linalg.qr(0.5 * (times(Q) + transposed(Q)), xp=xp)
        else:
            Q, _ = linalg.qr(transposed(linalg.qr(times(Q), xp=xp)[0]), xp=xp)
    if psd:
        U, s, V = _decomposed(Q.T @ times(Q), True, xp)
        return Q @ U, s, Q @ V
    P, R = linalg.qr(times(Q), xp=xp)
    U, s, V = _decomposed(R, False, xp)
    return P @ U, s, Q @ V


def largest_value(A: SensingOperator, z: Array, psd: bool) -> float:
    """Largest singular value (psd: eigenvalue) of ``A*(z)``, a lower bound for large matrices."""
    if is_small(A):
        return float(_decomposed(A._adjoint(z), psd, A.xp)[1][0])
    return float(top_singular(A, z, 1, psd=psd, iterations=12)[1][0])


def norm_bound(A: SensingOperator) -> float:
    """A number that the largest singular value of A hardly exceeds."""
    return 1.05 * A.norm()


def gap(problem: Problem, residual: Array, nuclear: float, reg: float) -> tuple[float, float, float]:
    """Objective, gap to the dual, and the scale of both, for ``|A(X) - y|^2 / 2 + reg |X|_*``.

    The dual is ``max -|z|^2 / 2 - <z, y>`` over ``|A*(z)| <= reg``; its point is the best multiple of the residual.
    """
    xp, psd = problem.xp, problem.psd
    square, cross = float(xp.sum(residual * residual)), float(xp.sum(residual * problem.y))
    size = largest_value(problem.A, -1.0 * residual, psd)
    longest = reg / size if size > 0.0 else math.inf
    t = min(max(-cross / square, 0.0), longest) if square > 0.0 else 0.0
    primal, dual = 0.5 * square + reg * nuclear, -0.5 * t * t * square - t * cross
    return primal, max(primal - dual, 0.0), 0.5 * problem.size**2 or 1.0


def run_proximal(
    name: str,
    problem: Problem,
    reg: float,
    *,
    accelerated: bool,
    path: int,
    init: Any,
    tol: Any,
    **options: Any,
) -> SensingResult:
    """Run proximal gradient steps on ``|A(X) - y|^2 / 2 + reg top |X|_*``, with top the norm of ``A*(y)``."""
    A, xp, psd, y = problem.A, problem.xp, problem.psd, problem.y
    reg = check.scalar("reg", reg, low=0.0, low_open=True, fix="for an exact fit take recover")
    path = check.scalar("path", path, low=1, integer=True)
    if isinstance(tol, str):
        check.option("tol", tol, ("auto",))
        tol = GAP[problem.bits]
    elif tol is not None:
        tol = check.scalar("tol", tol, low=0.0)
    start, state = prepare_init(init, NuclearState)
    if state is None:
        point = zero_point(A) if start is None else as_point(problem, start, None)
        state = NuclearState(point, point, point.V, 1.0, 0)
    top = max(largest_value(A, y, psd), 0.0)
    least = reg * top
    curvature = norm_bound(A) ** 2 if accelerated else 1.0

    def penalty(nit: int) -> float:
        share = max(0.0, 1.0 - (nit // PATH_ITERATIONS) / (path - 1)) if path > 1 else 0.0
        return least * max(0.5 / reg, 1.0) ** share

    def steps(state: NuclearState) -> Steps:
        point, old, guess, momentum, nit = state
        measured, measured_old = image(A, point), image(A, old)
        while True:
            yield Step(
                point.factors, nit, NuclearState(point, old, guess, momentum, nit), counts={"passes": 2 * nit},
                stop=lambda: _relative(problem, measured - y, point, least),
                metrics={"rank": lambda rank=point.rank: float(rank)},
            )  # fmt: skip
            following = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum**2))
            theta = (momentum - 1.0) / following if accelerated else 0.0
            ahead, seen = _extrapolated(point, old, theta, xp), measured + theta * (measured - measured_old)
            new, guess = shrink(A, ahead, (y - seen) / curvature, penalty(nit) / curvature, psd, guess)
            old, measured_old = point, measured
            point, measured, nit = new, image(A, new), nit + 1
            # Momentum that points uphill is dropped.
            turned = accelerated and _inner(ahead, point, old, xp) > 0.0
            momentum = 1.0 if turned else following

    def finish(last: Step) -> dict[str, Any]:
        point = last.state.point
        residual = image(A, point) - y
        primal, distance, scale = gap(problem, residual, float(xp.sum(point.s)), least)
        size = float(linalg.norm(residual, xp=xp)) / (problem.size or 1.0)
        words = f"penalty {least:.3g}, rank {point.rank}, relative residual {size:.2e}"
        left, right = point.factors
        return {
            "certificate": Certificate("duality_gap", distance, scale=scale, tol=tol, proof=is_small(A), note=words),
            "fun": primal,
            "factors": (left, right),
            "matrix": LowRankMatrix(left, right),
            "rank": point.rank,
            "relative_residual": size,
            "identifiability": None,
            "psd": psd,
        }

    return run(
        steps, state=state, like=y, xp=xp, method=name, finish=finish, tol=tol, problem=(A, y, psd, reg, path),
        result_class=SensingResult, **options,
    )  # fmt: skip


def _relative(problem: Problem, residual: Array, point: Point, reg: float) -> float:
    _, distance, scale = gap(problem, residual, float(problem.xp.sum(point.s)), reg)
    return distance / scale


def _extrapolated(point: Point, old: Point, theta: float, xp: Any) -> Point:
    """``X + theta (X - X_old)``, with weights of both signs."""
    if theta == 0.0:
        return point
    weights = xp.concat([(1.0 + theta) * point.s, -theta * old.s])
    return Point(xp.concat([point.U, old.U], axis=1), weights, xp.concat([point.V, old.V], axis=1))


def _inner(ahead: Point, new: Point, old: Point, xp: Any) -> float:
    """``<ahead - new, new - old>``."""

    def dot(a: Point, b: Point) -> float:
        return float(xp.sum((a.U.T @ b.U) * (a.V.T @ b.V) * a.s[:, None] * b.s))

    return dot(ahead, new) - dot(ahead, old) - dot(new, new) + dot(new, old)
