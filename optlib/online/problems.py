"""Problems of the saddle-point methods: bilinear games, variational inequalities, affine operators, finite sums."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, device_of, is_numpy, linalg, to_numpy
from optlib.geometry import Domain, Entropy, MirrorMap, Simplex
from optlib.linop import as_linear_operator
from optlib.linop.wrap import _Dense
from optlib.online._problem import Problem, Projected, as_map, euclidean


class BilinearGame(Problem):
    r"""The game ``min_x max_y x'Ay + b'x - c'y``: a matrix game, if the sets are simplices, which is the default.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (n, m)
        Payoffs from x to y.
    b : array, shape (n,), optional
        Linear cost of x.
    c : array, shape (m,), optional
        Linear cost of y.
    rows, columns : MirrorMap or Domain, optional
        Sets of x and of y with their geometry; by default ``Entropy()``, the simplex. A domain is taken with the
        Euclidean geometry; ``Euclidean()`` is the whole space.
    lipschitz : float, optional
        Bound on the norm of ``A`` that goes with the maps: the largest entry for two simplices with entropy, the
        spectral norm for Euclidean sets. By default it is computed, from the dense matrix.

    Notes
    -----
    The certificate is the duality gap ``max_v phi(x, v) - min_u phi(u, y)``, exactly, when both sets are bounded. It
    is relative to the largest payoff that the norms allow.

    Examples
    --------
    >>> from optlib.online import BilinearGame, mirror_prox
    >>> game = BilinearGame([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])  # rock, paper, scissors
    >>> x, y = mirror_prox(game).x
    >>> x.round(3)
    array([0.333, 0.333, 0.333])
    """

    def __init__(
        self, A: Any, *, b: Any = None, c: Any = None, rows: Any = None, columns: Any = None,
        lipschitz: float | None = None,
    ) -> None:  # fmt: skip
        A = as_linear_operator(A)
        if 0 in A.shape:
            raise check.error("A", f"shape {A.shape}", "at least one row and one column")
        xp, like = A.xp, A.xp.empty(0, dtype=A.dtype, device=A.device)
        self.A = A
        maps = []
        for name, geometry, n in (("rows", rows, A.shape[0]), ("columns", columns, A.shape[1])):
            maps.append(as_map(name, Entropy() if geometry is None else geometry, n))
        super().__init__(maps, list(A.shape), like)
        self.b, self.c = (
            v if v is None else check.array(k, v, xp=xp, shape=(n,), dtype=A.dtype, device=A.device)
            for k, v, n in (("b", b, A.shape[0]), ("c", c, A.shape[1]))
        )
        if not bool(xp.all(xp.isfinite(self._products(xp.ones(self.n, dtype=A.dtype, device=A.device))))):
            raise check.error("A", "an entry that is NaN or infinite", "finite numbers")
        self._given = None if lipschitz is None else check.scalar("lipschitz", lipschitz, low=0.0)

    def _products(self, z: Array) -> Array:
        x, y = self.split(z)
        return self._xp.concat([self.A._matvec(y), -self.A._rmatvec(x)])

    def operator(self, z: Array) -> Array:
        """Return ``F(z) = (Ay + b, c - A'x)``."""
        x, y = self.split(z)
        gx, gy = self.A._matvec(y), self.A._rmatvec(x)
        gx = gx if self.b is None else gx + self.b
        return self._xp.concat([gx, -gy if self.c is None else self.c - gy])

    def payoff(self, x: Array, y: Array) -> float:
        """Return the payoff ``x'Ay + b'x - c'y``."""
        xp = self._xp
        value = xp.sum(x * self.A._matvec(y))
        value = value if self.b is None else value + xp.sum(self.b * x)
        return float(value if self.c is None else value - xp.sum(self.c * y))

    def fun(self, z: Array) -> float:
        """Return the payoff."""
        return self.payoff(*self.split(z))

    def forward(self, x: Array) -> Array:
        """Return ``A'x``."""
        return self.A._rmatvec(x)

    def backward(self, y: Array) -> Array:
        """Return ``A y``."""
        return self.A._matvec(y)

    def prox_x(self, x: Array, t: float) -> Array:
        """Return the projection of ``x - t b``."""
        return self._maps[0].project(x if self.b is None else x - t * self.b, xp=self._xp)

    def prox_y(self, y: Array, s: float) -> Array:
        """Return the projection of ``y - s c``."""
        return self._maps[1].project(y if self.c is None else y - s * self.c, xp=self._xp)

    @cached_property
    def norm(self) -> float:
        """Norm of ``A`` that goes with the norms of the maps."""
        if self._given is not None:
            return self._given
        xp, dense = self._xp, self.A.to_dense()
        ones = [m.order == 1.0 for m in self._maps]
        if all(ones):
            return float(xp.max(xp.abs(dense)))
        if any(ones):  # the norm of order 1 picks the longest row or column
            return float(xp.max(linalg.norm(dense, axis=1 if ones[0] else 0, xp=xp)))
        return float(xp.max(linalg.svd(dense, xp=xp)[1]))  # norms of orders up to 2 are at least the Euclidean ones

    @property
    def lipschitz(self) -> float:
        """Lipschitz constant of ``F`` in units of the strong convexity of the maps."""
        sigma = [m.sigma(n) for m, n in zip(self._maps, self.A.shape, strict=True)]
        return self.norm / math.sqrt(sigma[0] * sigma[1]) or 1.0

    def _start_scale(self, z: Array) -> float:
        if not self._bounded:
            return super()._start_scale(z)
        sizes = [_size(d) for d in self._domains]
        scale = self.norm * sizes[0] * sizes[1]
        for vector, size in ((self.b, sizes[0]), (self.c, sizes[1])):
            scale += 0.0 if vector is None else size * float(linalg.norm(vector, xp=self._xp))
        return scale or 1.0

    def _map_arrays(self, move: Callable[[Array], Array]) -> "BilinearGame":
        options = {k: None if v is None else move(v) for k, v in (("b", self.b), ("c", self.c))}
        maps = {name: _moved(m, move) for name, m in zip(("rows", "columns"), self._maps, strict=True)}
        return BilinearGame(self.A._map_arrays(move), **options, **maps, lipschitz=self._given)


def _moved(mirror: MirrorMap, move: Callable[[Array], Array]) -> MirrorMap | Domain:
    """The geometry that was given, with its arrays moved and its numbers left."""
    if isinstance(mirror, Projected):
        return mirror.onto._map_arrays(move)
    return mirror._map_arrays(lambda v: move(v) if hasattr(v, "shape") else v)


def _size(domain: Any) -> float:
    """Largest norm of a point."""
    if isinstance(domain, Simplex):
        return domain.mass
    return float(np.linalg.norm(to_numpy(domain.center()))) + domain.radius


def entropic_game(problem: Problem) -> tuple[Any, ...] | None:
    """Return matrix, linear costs and masses of a dense NumPy game with entropy on both sides, None for others."""
    maps = problem._maps
    if not (isinstance(problem, BilinearGame) and isinstance(problem.A, _Dense) and is_numpy(problem._xp)):
        return None
    if not all(type(m) is Entropy for m in maps):
        return None
    A = problem.A._a
    b, c = (np.zeros(n, A.dtype) if v is None else v for v, n in zip((problem.b, problem.c), A.shape, strict=True))
    return A, b, c, *(m.mass for m in maps)


class VariationalInequality(Problem):
    r"""Find ``z`` in a set with ``<F(z), u - z> >= 0`` for all its points ``u``: without a set, a zero of ``F``.

    Parameters
    ----------
    operator : callable
        ``F(z)``, an array of the shape of ``z``, (n,).
    n : int
        Dimension.
    domain : Domain or MirrorMap, optional
        The set with its geometry: a domain is taken with the Euclidean one. By default the whole space.
    lipschitz : float, optional
        Lipschitz constant of ``F``; solvers need it unless they are given a step.
    comonotonicity : float
        ``rho`` with ``<F(u) - F(v), u - v> >= rho |F(u) - F(v)|^2``: 0 for monotone operators, positive for cocoercive
        ones (``1 / lipschitz`` for gradients of convex functions), negative for those that are not monotone.
    resolvent : callable, optional
        ``resolvent(z, step)``, the ``w`` with ``w + step F(w) = z``, for `proximal_point`.
    like : array, optional
        Gives library, device and dtype; by default NumPy float64.

    Notes
    -----
    The certificate on a bounded set is ``max_u <F(z), z - u>``, which for monotone ``F`` bounds
    ``max_u <F(u), z - u>``; elsewhere it is the norm of ``z - P(z - F(z) / L) `` times ``L``, which is ``|F(z)|``
    without a set.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import VariationalInequality, extragradient
    >>> problem = VariationalInequality(lambda z: np.array([z[1] - 1.0, 2.0 - z[0]]), 2, lipschitz=1.0)
    >>> extragradient(problem, tol=1e-9).x.round(6)
    array([2., 1.])
    """

    def __init__(
        self, operator: Callable[[Array], Array], n: int, *, domain: Any = None, lipschitz: float | None = None,
        comonotonicity: float = 0.0, resolvent: Callable[[Array, float], Array] | None = None, like: Any = None,
    ) -> None:  # fmt: skip
        if not callable(operator):
            raise check.error("operator", type(operator).__name__, "a function of a point", kind=TypeError)
        if resolvent is not None and not callable(resolvent):
            raise check.error("resolvent", type(resolvent).__name__, "a function of a point and a step", kind=TypeError)
        n = check.scalar("n", n, low=1, integer=True)
        like = check.template("like", like)
        super().__init__([as_map("domain", domain, n)], [n], like)
        self._function, self.resolvent = operator, resolvent
        self._lipschitz = None if lipschitz is None else check.scalar("lipschitz", lipschitz, low=0.0, low_open=True)
        self.comonotonicity = check.scalar("comonotonicity", comonotonicity)
        value = operator(self.start(None))
        if tuple(getattr(value, "shape", ())) != (n,):
            got = f"a function returning {type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
            raise check.error("operator", got, f"an array of shape ({n},)")

    def operator(self, z: Array) -> Array:
        """Return ``F(z)``."""
        return self._function(z)

    @property
    def lipschitz(self) -> float:
        """Lipschitz constant of ``F`` in units of the strong convexity of the map."""
        if self._lipschitz is None:
            raise check.error("lipschitz", "nothing", "the Lipschitz constant of the operator", "give it, or a `step`")
        return self._lipschitz / self._maps[0].sigma(self.n)


class AffineOperator(VariationalInequality):
    """The operator ``F(z) = M z + q`` on the whole space, or on a set.

    Parameters
    ----------
    M : array, shape (n, n)
        The matrix.
    q : array, shape (n,), optional
        The constant, by default 0.
    domain : Domain or Euclidean mirror map, optional
        By default the whole space.

    Notes
    -----
    The Lipschitz constant is the spectral norm of ``M``. The comonotonicity is the least eigenvalue of the symmetric
    part of the inverse of ``M``; for a singular matrix it is 0 if the symmetric part of ``M`` is positive semidefinite.

    Examples
    --------
    >>> from optlib.online import AffineOperator
    >>> problem = AffineOperator([[-0.1, 1.0], [-1.0, -0.1]])
    >>> round(problem.comonotonicity, 6)
    -0.09901
    """

    def __init__(self, M: Any, q: Any = None, *, domain: Any = None) -> None:
        xp, device, dtype = check.common(M=M, q=q)
        M = check.array("M", M, xp=xp, ndim=2, dtype=dtype, device=device)
        n = M.shape[0]
        if M.shape != (n, n) or n == 0:
            raise check.error("M", f"shape {tuple(M.shape)}", "a square matrix")
        self.M = M
        self.q = (
            xp.zeros(n, dtype=dtype, device=device)
            if q is None
            else check.array("q", q, xp=xp, shape=(n,), dtype=dtype, device=device)
        )
        values = to_numpy(linalg.svd(M, xp=xp)[1])
        rho = _comonotonicity(M, float(values[-1]) > 1e-10 * float(values[0]), xp)
        super().__init__(
            self._affine, n, domain=domain, lipschitz=float(values[0]) or 1.0, comonotonicity=rho, like=M,
            resolvent=None if domain is not None else self._resolvent,
        )  # fmt: skip
        euclidean(self, "affine operators", "use BilinearGame or VariationalInequality")
        self._inverse: tuple[float, Array] | None = None

    def _affine(self, z: Array) -> Array:
        return self.M @ z + self.q

    def _resolvent(self, z: Array, step: float) -> Array:
        if self._inverse is None or self._inverse[0] != step:
            xp = self._xp
            eye = xp.eye(self.n, dtype=z.dtype, device=device_of(z))
            self._inverse = (step, linalg.inv(eye + step * self.M, xp=xp))
        return self._inverse[1] @ (z - step * self.q)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "AffineOperator":
        (m,) = self._maps
        return AffineOperator(move(self.M), move(self.q), domain=None if self._free else _moved(m, move))


def _comonotonicity(M: Array, regular: bool, xp: Any) -> float:
    if regular:
        inverse = linalg.inv(M, xp=xp)
        return float(xp.min(linalg.eigh(0.5 * (inverse + inverse.T), xp=xp)[0]))
    values = to_numpy(linalg.eigh(0.5 * (M + M.T), xp=xp)[0])
    if values[0] < -1e-10 * max(1.0, float(np.abs(values).max())):
        raise check.error("M", "a singular matrix that is not monotone", "a monotone or a regular matrix")
    return 0.0


class FiniteSum(VariationalInequality):
    """The mean of many operators, ``F = mean(F_i)``, on the whole space, for `variance_reduced_halpern`.

    Parameters
    ----------
    components : callable
        ``components(z, index)``, an array of shape (k, n) with the values of the operators with the k numbers in the
        int64 array ``index``.
    count : int
        Number of operators.
    n : int
        Dimension.
    lipschitz : float
        ``L`` with ``mean |F_i(u) - F_i(v)|^2 <= L <F(u) - F(v), u - v>``: at most the largest Lipschitz constant, for
        gradients of convex functions.
    like : array, optional
        Gives library, device and dtype; by default NumPy float64.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import FiniteSum
    >>> a = np.array([[1.0, 0.0], [0.0, 2.0]])
    >>> squares = FiniteSum(lambda z, i: (a[i] @ z)[:, None] * a[i], 2, 2, lipschitz=4.0)
    >>> squares.operator(np.array([2.0, 3.0]))
    array([1., 6.])
    """

    def __init__(
        self, components: Callable[[Array, Array], Array], count: int, n: int, *, lipschitz: float, like: Any = None
    ) -> None:
        if not callable(components):
            raise check.error(
                "components", type(components).__name__, "a function of a point and numbers", kind=TypeError
            )
        self.count = check.scalar("count", count, low=1, integer=True)
        self.components = components
        like = check.template("like", like)
        xp = array_namespace(like)
        self._all = xp.arange(self.count, dtype=xp.int64, device=device_of(like))
        least = 1.0 / check.scalar("lipschitz", lipschitz, low=0.0, low_open=True)
        super().__init__(self._mean, n, lipschitz=lipschitz, comonotonicity=least, like=like)

    def _mean(self, z: Array) -> Array:
        return self._xp.mean(self.components(z, self._all), axis=0)
