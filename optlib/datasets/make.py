"""Random problems with a seed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend.random import as_generator


class TransportProblem(NamedTuple):
    """A discrete transport problem whose largest cost is one, so that ``reg`` reads as a fraction of the cost range.

    Attributes
    ----------
    cost : ndarray, shape (n, m)
        Cost of moving a unit of mass.
    a, b : ndarray, shapes (n,) and (m,)
        Weights, nonnegative, each with sum one.
    x, y : ndarray or None, shapes (n, d) and (m, d)
        Points with ``cost[i, j] = |x[i] - y[j]|^2``; None where the cost comes from no points.
    """

    cost: np.ndarray
    a: np.ndarray
    b: np.ndarray
    x: np.ndarray | None = None
    y: np.ndarray | None = None


def make_transport(kind: str = "cloud2d", n: int = 200, m: int | None = None, *, rng: Any = None) -> TransportProblem:
    """Make one problem of the hard set on which the transport solvers are judged.

    Parameters
    ----------
    kind : str
        One of `TRANSPORT_KINDS`:

        - ``"cloud2d"``, ``"cloud50d"``: uniform points in the unit cube, equal weights;
        - ``"shifted"``: two plane clouds that are far apart, so that no point is close to its image;
        - ``"clustered"``: tight groups whose masses differ between the two sides, so that mass must cross wide gaps;
        - ``"uniform"``: independent uniform costs, random weights;
        - ``"ties"``: costs 0, 1/5, ..., 1, many of them equal, random weights;
        - ``"grid"``: a plane grid with Dirichlet(0.1) weights, many of them tiny (down to 1e-20 and below);
        - ``"rectangular"``: a plane cloud with a third as many targets as sources.
    n : int
        Number of sources.
    m : int, optional
        Number of targets; ``n`` by default, ``ceil(n / 3)`` for ``"rectangular"``.
    rng : None, int or numpy.random.Generator
        Seed (SPEC 7).

    Returns
    -------
    TransportProblem
        Cost, weights and points, float64 on the host.

    Raises
    ------
    ValueError
        If the kind is unknown or a size is not a positive integer.

    Examples
    --------
    >>> problem = make_transport("rectangular", 9, rng=0)
    >>> problem.cost.shape, float(problem.cost.max())
    ((9, 3), 1.0)
    """
    check.option("kind", kind, TRANSPORT_KINDS)
    n = check.scalar("n", n, low=1, integer=True)
    if m is None:
        m = -(-n // 3) if kind == "rectangular" else n
    m = check.scalar("m", m, low=1, integer=True)
    return _KINDS[kind](n, m, as_generator(rng))


def _from_points(x: np.ndarray, y: np.ndarray, a: np.ndarray, b: np.ndarray) -> TransportProblem:
    # Differences, not |x|^2 + |y|^2 - 2 x.y: coinciding points keep a cost of exactly zero.
    cost = np.stack([np.sum((y - row) ** 2, axis=1) for row in x])
    top = cost.max()
    if top > 0.0:
        x, y, cost = x / np.sqrt(top), y / np.sqrt(top), cost / top
    return TransportProblem(cost, a, b, x, y)


def _even(n: int) -> np.ndarray:
    return np.full(n, 1.0 / n)


def _random_weights(n: int, rng: np.random.Generator) -> np.ndarray:
    weights = rng.uniform(0.5, 1.5, n)
    return weights / weights.sum()


def _cloud(dim: int, shift: float = 0.0) -> Callable[[int, int, np.random.Generator], TransportProblem]:
    def make(n: int, m: int, rng: np.random.Generator) -> TransportProblem:
        return _from_points(rng.random((n, dim)), rng.random((m, dim)) + shift, _even(n), _even(m))

    return make


def _clustered(n: int, m: int, rng: np.random.Generator) -> TransportProblem:
    centres = rng.random((5, 2))

    def side(size: int) -> np.ndarray:
        group = rng.choice(5, size, p=rng.dirichlet(np.ones(5)))
        return centres[group] + 0.01 * rng.standard_normal((size, 2))

    return _from_points(side(n), side(m), _even(n), _even(m))


def _uniform(n: int, m: int, rng: np.random.Generator) -> TransportProblem:
    cost = rng.random((n, m))
    return TransportProblem(cost / cost.max(), _random_weights(n, rng), _random_weights(m, rng))


def _ties(n: int, m: int, rng: np.random.Generator) -> TransportProblem:
    cost = rng.integers(0, 6, (n, m)) / 5.0
    cost[0, 0] = 1.0
    return TransportProblem(cost, _random_weights(n, rng), _random_weights(m, rng))


def _grid(n: int, m: int, rng: np.random.Generator) -> TransportProblem:
    def side(size: int) -> np.ndarray:
        width = int(np.ceil(np.sqrt(size)))
        return np.stack(np.divmod(np.arange(size), width), axis=1) / width

    return _from_points(side(n), side(m), rng.dirichlet(np.full(n, 0.1)), rng.dirichlet(np.full(m, 0.1)))


def make_low_rank(
    n1: int, n2: int, spectrum: Any, *, psd: bool = False, rng: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Make a matrix of low rank with given singular values and random singular vectors, as two factors.

    Parameters
    ----------
    n1, n2 : int
        Rows and columns.
    spectrum : sequence of float, length r
        Singular values, at most ``min(n1, n2)``.
    psd : bool
        Whether the matrix is symmetric: both sides have the same singular vectors.
    rng : None, int or numpy.random.Generator
        Seed (SPEC 7).

    Returns
    -------
    left, right : ndarray, shapes (n1, r) and (n2, r)
        The matrix is ``left @ right.T``; the columns of ``right`` are orthonormal.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.datasets import make_low_rank
    >>> left, right = make_low_rank(6, 5, [2.0, 1.0], rng=0)
    >>> np.linalg.svd(left @ right.T)[1].round(6)
    array([2., 1., 0., 0., 0.])
    """
    n1, n2 = (check.scalar(name, n, low=1, integer=True) for name, n in (("n1", n1), ("n2", n2)))
    check.option("psd", psd, (True, False))
    rng, values = as_generator(rng), check.array("spectrum", spectrum, xp=np, ndim=1)
    if values.size > min(n1, n2) or (psd and n1 != n2):
        got = f"shape {values.shape} for {n1} x {n2}" + (", psd" if psd else "")
        raise check.error("spectrum", got, "at most min(n1, n2) values, and a square matrix if psd")
    U = np.linalg.qr(rng.standard_normal((n1, values.size)))[0]
    V = U if psd else np.linalg.qr(rng.standard_normal((n2, values.size)))[0]
    return U * values, V


_KINDS: dict[str, Callable[[int, int, np.random.Generator], TransportProblem]] = {
    "cloud2d": _cloud(2),
    "cloud50d": _cloud(50),
    "shifted": _cloud(2, shift=5.0),
    "clustered": _clustered,
    "uniform": _uniform,
    "ties": _ties,
    "grid": _grid,
    "rectangular": _cloud(2),
}

#: Names of the problem kinds of `make_transport`.
TRANSPORT_KINDS = tuple(_KINDS)
