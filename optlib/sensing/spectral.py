"""The spectral start: leading singular vectors of ``A*(y)``."""

from typing import Any

from optlib.backend import Array, linalg
from optlib.sensing._lowrank import Point, top_singular, truncate
from optlib.sensing._problem import Problem, check_rank, prepare, starting_point
from optlib.sensing.entries import EntrySampling
from optlib.sensing.rank_one import RankOneSensing


def spectral_init(A: Any, y: Any, *, rank: int, psd: bool = False) -> tuple[Array, Array]:
    """Return the balanced factors of the best approximation of rank ``rank`` to ``A*(y)``.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    y : array, shape (m,)
        The measurements.
    rank : int
        Number of columns.
    psd : bool
        Whether the matrix is positive semidefinite: the largest eigenvalues, cut at 0.

    Returns
    -------
    left, right : array, shapes (n1, rank) and (n2, rank)
        Their product has the size that fits ``y`` best.

    Notes
    -----
    Cost: a dense decomposition up to 250 000 entries, else six block power iterations in factored form. For symmetric
    rank-one measurements the mean of ``y`` is removed first, as ``E[A*A(X)] = 2 X + tr(X) I``. For completion, rows and
    columns with more than twice the mean number of entries are left out.

    References
    ----------
    R. H. Keshavan, A. Montanari, S. Oh, Matrix completion from a few entries, IEEE Trans. Inf. Theory 2010 (trimming).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, spectral_init
    >>> A = GaussianSensing((10, 8), 400, rng=0)
    >>> left, right = spectral_init(A, A.forward(np.ones((10, 8))), rank=1)
    >>> bool(np.linalg.norm(left @ right.T - 1) < 0.5 * np.sqrt(80))
    True
    """
    problem = prepare(A, y, psd=psd)
    return spectral_point(problem, check_rank(rank, problem.A)).factors


def spectral_point(problem: Problem, rank: int, y: Array | None = None) -> Point:
    """The spectral start as a point, from other measurements if given."""
    A, xp = problem.A, problem.xp
    y = problem.y if y is None else y
    z = y
    if isinstance(A, RankOneSensing) and A.symmetric_pairs:
        z = y - xp.mean(y)
    elif isinstance(A, EntrySampling):
        z = _trimmed(A, y)
    U, s, V = top_singular(A, z, rank, psd=problem.psd)
    s = xp.where(s > 0, s, xp.zeros_like(s))
    # The size that fits the measurements best.
    measured = A._forward_factored(U * s, V)
    square = xp.sum(measured * measured)
    amount = xp.sum(measured * y) / xp.where(square > 0, square, xp.ones_like(square))
    fallback = xp.full_like(amount, 1.0 / A.isotropy)
    return Point(U, s * xp.where(amount > 0, amount, fallback), V)


def truncated_point(problem: Problem, rank: int) -> Point:
    """The spectral start from the half of the measurements that are smallest: gross errors are mostly large."""
    xp, y = problem.xp, problem.y
    size = xp.abs(y)
    kept = size <= xp.sort(size)[(y.shape[0] - 1) // 2]
    share = float(xp.mean(xp.astype(kept, y.dtype)))
    return spectral_point(problem, rank, xp.where(kept, y, xp.zeros_like(y)) / share)


def _trimmed(A: EntrySampling, y: Array) -> Array:
    """Entries of crowded rows and columns set to zero."""
    xp, z = A.xp, y
    for counts, index in zip(A.degrees(), (A.rows, A.cols), strict=True):
        limit = 2.0 * A.shape[0] / counts.shape[0]
        z = xp.where(xp.take(counts, index, axis=0) > limit, xp.zeros_like(z), z)
    return z


def as_point(problem: Problem, init: Any, rank: int | None) -> Point:
    """Factors given by the user as a point."""
    left, right = starting_point(problem, init, rank)
    xp = problem.xp
    Q1, R1 = linalg.qr(left, xp=xp)
    Q2, R2 = (Q1, R1) if problem.psd else linalg.qr(right, xp=xp)
    return truncate(Q1, R1 @ R2.T, Q2, left.shape[1], problem.psd, xp)
