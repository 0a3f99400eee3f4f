"""Maps of matrices: a map of vectors applied to eigenvalues or singular values."""

from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, linalg
from optlib.geometry.domains import Domain, Spectrahedron
from optlib.geometry.mirror.base import MirrorMap
from optlib.geometry.mirror.entropy import Entropy
from optlib.geometry.mirror.euclidean import Euclidean
from optlib.geometry.mirror.roots import LogBarrier


class Spectral(MirrorMap):
    """A map of vectors applied to the spectrum of matrices.

    Parameters
    ----------
    map : MirrorMap
        Invariant under permutations of the entries; for singular values also under changes of sign.
    symmetric : bool
        Whether points are symmetric matrices (eigenvalues) or any matrices, also rectangular ones (singular values).

    Notes
    -----
    For such functions the gradient, the conjugate and the projections act on the spectrum and keep the eigenvectors
    (Lewis), and the modulus of strong convexity carries over to the Schatten norms. Dual points are symmetrised first.

    Entries of a matrix are rounded relative to the largest one, so eigenvalues below ``n eps`` times the largest
    modulus are unknown: `value` and `bregman` count them as 0, and `grad` as that number. Keep dual points with
    `step_dual` where smaller eigenvalues matter. Divergences are sums over pairs of eigenvalues, weighted by the
    squared products of the eigenvectors: no term is negative. Cost: one or two decompositions, O(n^3).

    References
    ----------
    A. S. Lewis, "The Convex Analysis of Unitarily Invariant Matrix Functions", J. Convex Analysis 2 (1995).

    Examples
    --------
    >>> from optlib.geometry import PNorm, Spectral
    >>> schatten = Spectral(PNorm(1.5), symmetric=False)
    >>> schatten.norm([[3.0, 0.0, 0.0], [0.0, -4.0, 0.0]]).round(3)
    np.float64(5.584)
    """

    point_ndim = 2

    def __init__(self, map: Any, *, symmetric: bool = True) -> None:
        self.map, self.symmetric = map, check.option("symmetric", symmetric, (True, False))
        needed = ("permutations", "signs") if symmetric else ("signs",)
        if not isinstance(map, MirrorMap) or map.point_ndim != 1 or map._symmetry not in needed:
            what = "permutations of the entries" if symmetric else "permutations and changes of sign of the entries"
            raise check.error("map", map, f"a map of vectors that is invariant under {what}")
        self.order = map.order

    def _point_shape(self, point: tuple[int, ...]) -> tuple[int, ...]:
        return (point[0], point[0]) if self.symmetric else point

    def _spectrum(self, x: Array, xp: Any) -> tuple[Array, Array, Array]:
        """Return ``u, w, vt`` with ``x = u diag(w) vt``."""
        if not self.symmetric:
            return linalg.svd(x, xp=xp, check=False)
        w, v = linalg.eigh(0.5 * (x + xp.matrix_transpose(x)), xp=xp, check=False)
        return v, w, xp.matrix_transpose(v)

    def _apply(self, function: Callable[[Array], Array], x: Array, xp: Any) -> Array:
        u, w, vt = self._spectrum(x, xp)
        y = (u * function(w)[..., None, :]) @ vt
        return 0.5 * (y + xp.matrix_transpose(y)) if self.symmetric else y

    def _known(self, w: Array, xp: Any) -> tuple[Array, Array]:
        """Eigenvalues with those that may be an end of the interval moved there, and what separates them from it."""
        tol = w.shape[-1] * float(xp.finfo(w.dtype).eps) * xp.max(xp.abs(w), axis=-1, keepdims=True)
        for end in self.map._interval:
            w = xp.where(xp.abs(w - end) <= tol, end, w)
        return w, tol

    def _value(self, x: Array, xp: Any) -> Array:
        return self.map._value(self._known(self._spectrum(x, xp)[1], xp)[0], xp)

    def _grad(self, x: Array, xp: Any) -> Array:
        low, high = self.map._interval

        def slope(w: Array) -> Array:
            w, tol = self._known(w, xp)
            return self.map._grad(xp.minimum(xp.maximum(w, low + tol), high - tol), xp)

        return x if isinstance(self.map, Euclidean) else self._apply(slope, x, xp)

    def _grad_conj(self, theta: Array, xp: Any) -> Array:
        return self._apply(lambda w: self.map._grad_conj(w, xp), theta, xp)

    def _dual(self, theta: Array, xp: Any) -> Array:
        return self._apply(lambda w: self.map._dual(w, xp), theta, xp)

    def _conj(self, theta: Array, xp: Any) -> Array:
        return self.map._conj(self._spectrum(theta, xp)[1], xp)

    def _project(self, y: Array, xp: Any) -> Array:
        return self._apply(lambda w: self.map._project(self._known(w, xp)[0], xp), y, xp)

    def _bregman(self, x: Array, y: Array, xp: Any) -> Array:
        if isinstance(self.map, Euclidean):
            return 0.5 * xp.sum(xp.square(x - y), axis=(-2, -1))
        if not hasattr(self.map, "_pairs"):
            return super()._bregman(x, y, xp)
        if not self.symmetric:  # [0 x; x' 0] has the eigenvalues +-w of x, and zeros
            return 0.5 * Spectral(self.map)._bregman(_dilation(x, xp), _dilation(y, xp), xp)
        u, a, _ = self._spectrum(x, xp)
        v, b, _ = self._spectrum(y, xp)
        a, b = self._known(a, xp)[0], self._known(b, xp)[0]
        weight = xp.square(xp.matrix_transpose(u) @ v)
        negligible = weight <= (a.shape[-1] * float(xp.finfo(a.dtype).eps)) ** 2
        terms = self.map._pairs(a[..., :, None], b[..., None, :], xp)
        return xp.sum(xp.where(negligible, xp.zeros_like(weight), weight * terms), axis=(-2, -1))

    def _violation(self, x: Array, xp: Any) -> Array:
        worst = self.map._violation(self._spectrum(x, xp)[1], xp)
        if not self.symmetric:
            return worst
        size = xp.max(xp.abs(x), axis=(-2, -1))
        skew = xp.max(xp.abs(x - xp.matrix_transpose(x)), axis=(-2, -1))
        return xp.maximum(worst, skew / xp.where(size > 0, size, xp.ones_like(size)))

    def _sigma(self, n: int) -> float:
        return self.map._sigma(n)

    def _range(self, n: int) -> float:
        return self.map._range(n)

    def _diameter(self, n: int) -> float:
        return self.map._diameter(n)

    def _norm(self, x: Array, xp: Any) -> Array:
        return self.map._norm(self._spectrum(x, xp)[1], xp)

    def _dual_norm(self, g: Array, xp: Any) -> Array:
        return self.map._dual_norm(self._spectrum(g, xp)[1], xp)


def _dilation(x: Array, xp: Any) -> Array:
    m, n = x.shape[-2:]
    corner = xp.zeros((*x.shape[:-2], m, m), dtype=x.dtype, device=x.device)
    other = xp.zeros((*x.shape[:-2], n, n), dtype=x.dtype, device=x.device)
    upper = xp.concat([corner, x], axis=-1)
    return xp.concat([upper, xp.concat([xp.matrix_transpose(x), other], axis=-1)], axis=-2)


class VonNeumann(Spectral):
    """Negative von Neumann entropy ``psi = tr X log X`` on ``{X >= 0, tr X = trace}``: matrix Hedge.

    Parameters
    ----------
    trace : float
        Trace.

    Notes
    -----
    `Spectral` of `Entropy`: ``grad_conj`` is ``trace * exp(theta) / tr exp(theta)``, and the divergence is the quantum
    relative entropy.

    References
    ----------
    K. Tsuda, G. Rätsch, M. K. Warmuth, "Matrix Exponentiated Gradient Updates for On-line Learning and Bregman
    Projection", JMLR 6 (2005).

    Examples
    --------
    >>> from optlib.geometry import VonNeumann
    >>> VonNeumann().grad_conj([[0.0, 1.0], [1.0, 0.0]]).round(3)
    array([[0.5  , 0.381],
           [0.381, 0.5  ]])
    """

    def __init__(self, trace: float = 1.0) -> None:
        self.trace = check.scalar("trace", trace, low=0.0, low_open=True)
        super().__init__(Entropy(self.trace))

    def _domain(self, n: int) -> Domain | None:
        return Spectrahedron(n, self.trace)


class LogDet(Spectral):
    """Log-determinant barrier ``psi = -log det X`` on ``{X > 0, tr X = trace}``.

    Parameters
    ----------
    trace : float
        Trace.

    Notes
    -----
    `Spectral` of `LogBarrier`; the divergence is Stein's loss ``tr X Y^-1 - log det X Y^-1 - n``.

    Examples
    --------
    >>> from optlib.geometry import LogDet
    >>> LogDet().grad_conj([[0.0, 1.0], [1.0, 0.0]]).round(3)
    array([[0.5  , 0.207],
           [0.207, 0.5  ]])
    """

    def __init__(self, trace: float = 1.0) -> None:
        self.trace = check.scalar("trace", trace, low=0.0, low_open=True)
        super().__init__(LogBarrier(self.trace))

    def _domain(self, n: int) -> Domain | None:
        return Spectrahedron(n, self.trace)
