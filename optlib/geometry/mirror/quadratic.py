"""Half the squared norm of a matrix: Newton-like steps, projected in that metric onto balls, boxes and simplices."""

import math
from typing import Any

import array_api_extra as xpx
import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, kernel, linalg, to_numpy
from optlib.geometry import _thresholds, divergences
from optlib.geometry.domains import Ball, Domain, Simplex
from optlib.geometry.mirror.base import MirrorMap
from optlib.geometry.mirror.entropy import simplex_violation
from optlib.geometry.mirror.euclidean import box_bounds, box_domain, box_shape, box_violation, host_bounds

# Interior-point steps of the references; 22 were the most that random problems needed.
ITERATIONS = 25


@kernel(numba="optlib.geometry._quadratic_numba:quadratic_on_simplex", match="iterate")
def quadratic_on_simplex(b: Array, a: Array, mass: float, *, xp: Any) -> Array:
    """Minimise ``x' a x / 2 - b' x`` over the simplex ``{x >= 0, sum x = mass}``.

    The projection of ``y`` in the metric of ``a`` is the case ``b = a y``.

    Parameters
    ----------
    b : array, shape (..., n)
        Linear term.
    a : array, shape (..., n, n)
        Symmetric positive definite matrix.
    mass : float
        Sum of the entries.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        The minimiser, to rounding.

    Notes
    -----
    The reference takes 25 primal-dual interior-point steps (Mehrotra) with no host transfer. The Numba variant is an
    active-set method that ends after finitely many steps (as that of Lawson and Hanson).

    References
    ----------
    S. Mehrotra, "On the Implementation of a Primal-Dual Interior Point Method", SIAM J. Optim. 2 (1992).
    C. L. Lawson, R. J. Hanson, "Solving Least Squares Problems", 1974, chapter 23.
    """
    # An entry with b this far below the largest is 0, since (a x)_i <= mass * max |a|; a constant in b does nothing.
    reach = 4.0 * mass * xp.max(xp.abs(a), axis=(-2, -1))[..., None]
    top = xp.max(b, axis=-1, keepdims=True)
    b = xp.maximum(b, top - reach) - xp.where(xp.abs(top) > 1e8 * reach, top, 0.0)
    start = xp.full_like(b, mass / b.shape[-1])
    x = _interior_point(b, a, start, xp.zeros_like(b), xp.full_like(b, xp.inf), mass, xp)
    x = xp.maximum(x, xp.zeros_like(x))
    return x * (mass / xp.sum(x, axis=-1, keepdims=True))


@kernel(numba="optlib.geometry._quadratic_numba:quadratic_on_box", match="iterate")
def quadratic_on_box(b: Array, a: Array, lower: Array, upper: Array, *, xp: Any) -> Array:
    """Minimise ``x' a x / 2 - b' x`` over the box ``lower <= x <= upper``.

    Parameters
    ----------
    b : array, shape (..., n)
        Linear term.
    a : array, shape (..., n, n)
        Symmetric positive definite matrix.
    lower, upper : array, shape (..., n)
        Bounds, of the shape of ``b``; infinite ones are allowed.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        The minimiser, to rounding.

    Notes
    -----
    As `quadratic_on_simplex`.
    """
    # No feasible x makes (a x)_i larger than this: where b_i is, the entry is at its bound.
    size = xp.maximum(xp.abs(lower), xp.abs(upper))[..., None, :]
    reach = 2.0 * xp.sum(xp.where(a == 0.0, 0.0, xp.abs(a)) * xp.where(a == 0.0, 0.0, size), axis=-1)
    b = xp.minimum(xp.maximum(b, -reach), reach)
    below, above = xp.isfinite(lower), xp.isfinite(upper)
    low, high = xp.where(below, lower, xp.zeros_like(b)), xp.where(above, upper, xp.zeros_like(b))
    start = xp.where(
        below & above, 0.5 * low + 0.5 * high, xp.where(below, low + 1.0, xp.where(above, high - 1.0, low))
    )
    x = _interior_point(b, a, start, lower, upper, None, xp)
    return xp.minimum(xp.maximum(x, lower), upper)


def _hold(b: Array, a: Array, held: Array, values: Array, xp: Any) -> tuple[Array, Array]:
    """Return the linear term and the matrix of the same problem with some entries held at given values."""
    values = xp.where(held, values, 0.0)
    one = xp.where(held, xp.ones_like(values), 0.0)
    free = ~held[..., :, None] & ~held[..., None, :]
    return xp.where(held, values, b - _matvec(a, values)), xp.where(free, a, xpx.create_diagonal(one, xp=xp))


def _interior_point(b: Array, a: Array, x: Array, lower: Array, upper: Array, total: float | None, xp: Any) -> Array:
    """Mehrotra's predictor-corrector method from a feasible ``x`` between the bounds; a solved problem stays still.

    ``s`` are the distances from the lower, then from the upper bounds, ``w`` their multipliers, ``level`` that of the
    sum; an infinite bound has ``s = 1``, ``w = 0``.
    """
    n = b.shape[-1]
    size = xp.max(xp.abs(a), axis=(-2, -1))[..., None]
    a, b = a / size[..., None], b / size
    pinned = lower == upper
    b, a = _hold(b, a, pinned, lower, xp)
    lower, upper = xp.where(pinned, -xp.inf, lower), xp.where(pinned, xp.inf, upper)
    bounded = xp.isfinite(xp.concat([lower, upper], axis=-1))
    one, zero = xp.ones_like(x[..., :1]), xp.zeros_like(x[..., :1])
    count = xp.maximum(xp.sum(xp.astype(bounded, b.dtype), axis=-1, keepdims=True), one)

    def mean(products: Array) -> Array:
        return xp.sum(xp.where(bounded, products, 0.0), axis=-1, keepdims=True) / count

    def longest(value: Array, change: Array) -> Array:
        """Largest multiple of the change, at most 2, that keeps the value nonnegative."""
        crosses = value < -2.0 * change
        return xp.min(xp.where(crosses, value / xp.where(crosses, -change, 1.0), 2.0), axis=-1, keepdims=True)

    s = xp.where(bounded, xp.concat([x - lower, upper - x], axis=-1), 1.0)
    w = xp.where(bounded, xp.max(xp.abs(_matvec(a, x) - b), axis=-1, keepdims=True), 0.0)
    level, mu = zero, mean(s * w)
    enough = xp.where(xp.any(bounded, axis=-1, keepdims=True), float(xp.finfo(b.dtype).eps) ** 2 * mu, -1.0)
    for _ in range(ITERATIONS):
        matrix = a + xpx.create_diagonal(w[..., :n] / s[..., :n] + w[..., n:] / s[..., n:], xp=xp)
        inverse = linalg.inv(matrix, xp=xp, check=False)
        slope = b - _matvec(a, x) + level
        gap = 0.0 if total is None else total - xp.sum(x, axis=-1, keepdims=True)

        def direction(products: Array) -> tuple[Array, Array, Array, Array]:
            """Newton step towards the products ``s w``."""
            pull = products / s
            dx = _matvec(inverse, slope + pull[..., :n] - pull[..., n:])
            dlevel = zero
            if total is not None:
                response = xp.sum(inverse, axis=-1)
                dlevel = (gap - xp.sum(dx, axis=-1, keepdims=True)) / xp.sum(response, axis=-1, keepdims=True)
                dx = dx + dlevel * response
            ds = xp.where(bounded, xp.concat([dx, -dx], axis=-1), 0.0)
            return dx, ds, (products - w * (s + ds)) / s, dlevel

        _, ds, dw, _ = direction(xp.zeros_like(s))
        length = xp.minimum(xp.minimum(longest(s, ds), longest(w, dw)), one)
        predicted = mean((s + length * ds) * (w + length * dw))
        target = predicted * (predicted / xp.where(mu > 0.0, mu, one)) ** 2
        dx, ds, dw, dlevel = direction(xp.where(bounded, target - ds * dw, 0.0))
        length = xp.minimum(0.995 * xp.minimum(longest(s, ds), longest(w, dw)), one)
        length = xp.where(mu > enough, length, zero)
        x, s, w, level = x + length * dx, s + length * ds, w + length * dw, level + length * dlevel
        mu = mean(s * w)

    # Entries whose multiplier exceeds their distance are at the bound; the others solve a linear system.
    low, high = w[..., :n] > s[..., :n], w[..., n:] > s[..., n:]
    held_b, held_a = _hold(b, a, low | high, xp.where(low, lower, upper), xp)
    free = xp.where(low | high, 0.0, xp.ones_like(b))
    both = linalg.solve(held_a, xp.stack([held_b, free], axis=-1), xp=xp, check=False)
    polished, response, polished_level = both[..., 0], both[..., 1], zero
    if total is not None:
        gap = total - xp.sum(polished, axis=-1, keepdims=True)
        polished_level = gap / xp.sum(response, axis=-1, keepdims=True)
        polished = polished + polished_level * response

    def residual(x: Array, level: Array) -> Array:
        """Distance from a projected gradient step."""
        moved = x - _matvec(a, x) + b + level
        return xp.max(xp.abs(x - xp.minimum(xp.maximum(moved, lower), upper)), axis=-1, keepdims=True)

    rounding = 8.0 * n * float(xp.finfo(b.dtype).eps) * xp.max(xp.abs(b) + xp.abs(x), axis=-1, keepdims=True)
    better = residual(polished, polished_level) <= residual(x, level) + rounding
    return xp.where(better, polished, x)


def _matvec(a: Array, x: Array) -> Array:
    return (a @ x[..., None])[..., 0]


def quadratic_on_ball(b: Array, a: Array, radius: float, *, xp: Any) -> Array:
    """Minimise ``x' a x / 2 - b' x`` over the ball ``|x| <= radius``.

    Parameters
    ----------
    b : array, shape (..., n)
        Linear term.
    a : array, shape (..., n, n)
        Symmetric positive definite matrix.
    radius : float
        Radius.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        The minimiser, to rounding.

    Notes
    -----
    In eigenvectors of ``a`` it is ``b_i / (lambda_i + mu)``, where ``mu >= 0`` solves the secular equation. Cost
    O(n^3), or O(n^2) with the eigenvalues and eigenvectors known, as in `QuadraticBall`.
    """
    w, v = linalg.eigh(a, xp=xp, check=False)
    return _on_ball(b, w, v, radius, xp)


def _on_ball(b: Array, w: Array, v: Array, radius: float, xp: Any) -> Array:
    return _matvec(v, diagonal_on_ball(_matvec(xp.matrix_transpose(v), b), w, radius, xp=xp))


@kernel(numba="optlib.geometry._quadratic_numba:diagonal_on_ball", match="iterate")
def diagonal_on_ball(b: Array, w: Array, radius: float, *, xp: Any) -> Array:
    """Minimise ``sum w x^2 / 2 - b x`` over the ball ``|x| <= radius``.

    Parameters
    ----------
    b : array, shape (..., n)
        Linear term.
    w : array, shape (..., n)
        Positive, ascending.
    radius : float
        Radius.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (..., n)
        ``b / (w + mu)``, where ``mu`` is 0 or gives the norm ``radius``.
    """
    c = b / w
    bend = xp.broadcast_to(w[..., :1] / w, c.shape)
    return c * _thresholds.secular(c / radius, bend, xp=xp)


class Quadratic(MirrorMap):
    """Half the squared norm ``psi = x' a x / 2`` on the whole space: preconditioned gradient steps.

    `QuadraticBall`, `QuadraticBox` and `QuadraticSimplex` project them in the metric of ``a``, as online Newton steps
    and adaptive gradients with a full matrix need it.

    Parameters
    ----------
    a : array, shape (..., n, n)
        Symmetric positive definite matrix; axes before the last two are one matrix per point.

    Notes
    -----
    The eigenvalues and eigenvectors are computed once, O(n^3); a step costs O(n^2). Where the matrix changes from step
    to step, use `quadratic_on_ball`, `quadratic_on_box` and `quadratic_on_simplex`.

    Examples
    --------
    >>> from optlib.geometry import Quadratic
    >>> Quadratic([[2.0, 0.0], [0.0, 1.0]]).step([1.0, 1.0], [1.0, 1.0], 1.0)
    array([0.5, 0. ])
    """

    _symmetry = None

    def __init__(self, a: Any) -> None:
        xp, device, dtype = check.common(a=a)
        self.a = check.array("a", a, xp=xp, dtype=dtype, device=device)
        if self.a.ndim < 2 or self.a.shape[-1] != self.a.shape[-2] or 0 in self.a.shape:
            raise check.error("a", f"shape {tuple(self.a.shape)}", "square matrices in the last two axes")
        skew = xp.max(xp.abs(self.a - xp.matrix_transpose(self.a)))
        if float(skew) > 1e3 * float(xp.finfo(self.a.dtype).eps) * float(xp.max(xp.abs(self.a))):
            raise check.error("a", "a matrix that is not symmetric", "a symmetric matrix", "(a + a.T) / 2")
        self._w, self._v = linalg.eigh(self.a, xp=xp)
        n = self.a.shape[-1]
        if not bool(xp.all(self._w[..., 0] > n * float(xp.finfo(self.a.dtype).eps) * self._w[..., -1])):
            least = float(xp.min(self._w))
            raise check.error(
                "a", f"an eigenvalue {least:g}", "a positive definite matrix", "add a multiple of the identity"
            )

    def _point_shape(self, point: tuple[int, ...]) -> tuple[int, ...]:
        return (self.a.shape[-1],)

    def _sigma(self, n: int) -> float:
        return 1.0

    def _range(self, n: int) -> float:
        return math.inf

    def _value(self, x: Array, xp: Any) -> Array:
        return 0.5 * xp.sum(x * _matvec(self.a, x), axis=-1)

    def _grad(self, x: Array, xp: Any) -> Array:
        return _matvec(self.a, x)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return _matvec(self._v, _matvec(xp.matrix_transpose(self._v), theta) / self._w)

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        return divergences.mahalanobis(x, y, self.a, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return xp.sum(x - x, axis=-1)  # NaN unless all entries are finite

    def _norm(self, x: Array, xp: Any) -> Array:
        return linalg.norm(_matvec(xp.matrix_transpose(self._v), x) * xp.sqrt(self._w), axis=-1, xp=xp)

    def _dual_norm(self, g: Array, xp: Any) -> Array:
        return linalg.norm(_matvec(xp.matrix_transpose(self._v), g) / xp.sqrt(self._w), axis=-1, xp=xp)


class QuadraticBall(Quadratic):
    """`Quadratic` on the ball ``|x| <= radius``.

    Parameters
    ----------
    a : array, shape (..., n, n)
        Symmetric positive definite matrix.
    radius : float
        Radius.

    Examples
    --------
    >>> from optlib.geometry import QuadraticBall
    >>> QuadraticBall([[4.0, 0.0], [0.0, 1.0]], 1.0).project([1.0, 1.0]).round(3)
    array([0.832, 0.554])
    """

    def __init__(self, a: Any, radius: float = 1.0) -> None:
        super().__init__(a)
        self.radius = check.scalar("radius", radius, low=0.0, low_open=True)

    def _domain(self, n: int) -> Domain | None:
        return Ball(n, self.radius)

    def _range(self, n: int) -> float:
        return 0.5 * self.radius**2 * float(np.max(to_numpy(self._w)))

    def _diameter(self, n: int) -> float:
        return 2.0 * math.sqrt(2.0 * self._range(n))

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return _on_ball(theta, self._w, self._v, self.radius, xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return linalg.norm(x, axis=-1, xp=xp) / self.radius - 1.0


class QuadraticBox(Quadratic):
    """`Quadratic` on the box ``lower <= x <= upper``.

    Parameters
    ----------
    a : array, shape (..., n, n)
        Symmetric positive definite matrix.
    lower, upper : float or array, shape (..., n)
        Bounds; infinite ones are allowed.

    Notes
    -----
    `range` and `diameter` are upper bounds: the exact ones are hard combinatorial problems.

    Examples
    --------
    >>> from optlib.geometry import QuadraticBox
    >>> QuadraticBox([[2.0, 1.0], [1.0, 2.0]], 0.0, 1.0).project([2.0, 0.5]).round(3)
    array([1., 1.])
    """

    def __init__(self, a: Any, lower: Any, upper: Any) -> None:
        super().__init__(a)
        self.lower, self.upper = box_bounds(lower, upper)
        if box_shape(self.lower, self.upper, own := self._point_shape(())) != own:
            raise check.error("lower, upper", "other lengths", f"{own[0]} entries, as `a` has rows")

    def _domain(self, n: int) -> Domain | None:
        return box_domain(self.lower, self.upper, n)

    def _range(self, n: int) -> float:
        lower, upper = host_bounds(self.lower, self.upper, n)
        return self._largest(np.maximum(np.abs(lower), np.abs(upper)))

    def _diameter(self, n: int) -> float:
        lower, upper = host_bounds(self.lower, self.upper, n)
        return math.sqrt(2.0 * self._largest(upper - lower))

    def _largest(self, moduli: np.ndarray) -> float:
        """Bound of the value over vectors with these moduli."""
        if not np.all(np.isfinite(moduli)):
            return math.inf
        a = np.abs(to_numpy(self.a).astype(np.float64))
        return float(np.max(0.5 * np.sum(moduli * (a @ moduli[..., None])[..., 0], axis=-1)))

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        zero = xp.zeros_like(theta)
        return quadratic_on_box(theta, self.a, zero + self.lower, zero + self.upper, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return box_violation(x, self.lower, self.upper, xp)


class QuadraticSimplex(Quadratic):
    """`Quadratic` on the simplex ``{x >= 0, sum x = mass}``: portfolios of the online Newton step.

    Parameters
    ----------
    a : array, shape (..., n, n)
        Symmetric positive definite matrix.
    mass : float
        Sum of the entries.

    References
    ----------
    A. Agarwal, E. Hazan, S. Kale, R. E. Schapire, "Algorithms for Portfolio Management Based on the Newton
    Method", ICML 2006.

    Examples
    --------
    >>> from optlib.geometry import QuadraticSimplex
    >>> QuadraticSimplex([[2.0, 1.0], [1.0, 2.0]]).project([1.0, 0.5]).round(3)
    array([0.75, 0.25])
    """

    def __init__(self, a: Any, mass: float = 1.0) -> None:
        super().__init__(a)
        self.mass = check.scalar("mass", mass, low=0.0, low_open=True)

    def _domain(self, n: int) -> Domain | None:
        return Simplex(n, self.mass)

    def _range(self, n: int) -> float:
        a = to_numpy(self.a).astype(np.float64)
        most = 0.5 * self.mass**2 * np.max(np.diagonal(a, axis1=-2, axis2=-1), axis=-1)
        least = to_numpy(self.value(self.center(self.a[..., 0])))
        return float(np.max(most - least))

    def _diameter(self, n: int) -> float:
        a = to_numpy(self.a).astype(np.float64)
        d = np.diagonal(a, axis1=-2, axis2=-1)
        return self.mass * math.sqrt(float(np.max(d[..., :, None] + d[..., None, :] - 2.0 * a)))

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return quadratic_on_simplex(theta, self.a, self.mass, xp=xp)

    def _violation(self, x: Array, xp: Any) -> Array:
        return simplex_violation(x, self.mass, xp)
