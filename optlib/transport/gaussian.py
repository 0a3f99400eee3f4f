"""Transport between Gaussian measures in closed form, entropic or not: the Bures-Wasserstein geometry."""

from functools import cached_property
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, default_float, linalg

FIX = "pass symmetric matrices without negative eigenvalues, e.g. (A + A.T) / 2"


class GaussianTransport:
    """Optimal transport between Gaussian measures: what `gaussian_transport` returns.

    Parameters
    ----------
    means : (array, array), shapes (..., d)
    factors : (array, array), shapes (..., d, d)
        Factors ``U`` and ``V`` of the covariances ``U U'`` and ``V V'``, in the widest precision.
    reg : float
    dtype : dtype
        Of the answers.
    xp : module

    Attributes
    ----------
    value : array, shape (...)
        Optimal value of ``E |x - y|^2 + reg KL``.
    value_linear : array, shape (...)
        ``E |x - y|^2`` alone: without ``reg`` the squared Wasserstein distance.
    cross : array, shape (..., d, d)
        Covariance of ``x`` and ``y`` under the optimal plan.
    """

    def __init__(self, means: tuple[Array, Array], factors: tuple[Array, Array], reg: float, dtype: Any, xp: Any):
        self._xp, self._dtype, self._means, self._factors, self._e = xp, dtype, means, factors, 0.5 * reg
        left, right = factors
        w, s, zt = linalg.svd(xp.matrix_transpose(left) @ right, xp=xp)
        z = xp.matrix_transpose(zt)
        self._w, self._z, self._s = w, z, s
        # psi(s) = 1 / (e/2 + sqrt(e^2/4 + s^2)), and the canonical correlations s psi(s)
        half = xp.full_like(s, 0.5 * self._e)
        self._inverse = half + _hypotenuse(half, s, xp)
        filled = xp.where(self._inverse > 0, self._inverse, xp.ones_like(s))
        r = s / filled if self._e else xp.ones_like(s)
        rest = self._e / filled if self._e else xp.zeros_like(s)  # 1 - r^2
        u, v = left @ w, right @ z
        gap = means[0] - means[1]
        linear = xp.sum(gap * gap, axis=-1) + xp.sum((u - v * r[..., None, :]) ** 2, axis=(-2, -1))
        linear = linear + xp.sum(rest * xp.sum(v * v, axis=-2), axis=-1)
        information = -0.5 * xp.sum(xp.log(rest), axis=-1) if self._e else xp.zeros_like(linear)
        self.value_linear = xp.astype(linear, dtype)
        self.value = xp.astype(linear + 2.0 * self._e * information, dtype)
        self.cross = xp.astype((u * r[..., None, :]) @ xp.matrix_transpose(v), dtype)

    @cached_property
    def _slopes(self) -> tuple[Array, Array]:
        xp, s = self._xp, self._s
        unit = 4 * s.shape[-1] * float(xp.finfo(s.dtype).eps)
        if not self._e and 0 not in s.shape and bool(xp.any(s[..., -1] <= unit * s[..., 0])):
            fix = "add a multiple of the identity to both, or pass reg > 0"
            raise check.error("cov_a, cov_b", "singular matrices", "positive definite ones for maps and gradients", fix)
        u, v = self._factors[0] @ self._w, self._factors[1] @ self._z
        psi = (1.0 / self._inverse)[..., None, :]
        return (v * psi) @ xp.matrix_transpose(v), (u * psi) @ xp.matrix_transpose(u)

    @property
    def slope(self) -> Array:
        """Symmetric matrix ``N`` (..., d, d) of the map: ``E[y | x] = mean_b + N (x - mean_a)``."""
        return self._xp.astype(self._slopes[0], self._dtype)

    @property
    def conditional(self) -> Array:
        """Covariance (..., d, d) of ``y`` given ``x``: zero without ``reg``."""
        return self._xp.astype(self._e * self._slopes[0], self._dtype)

    @property
    def gradients(self) -> tuple[Array, Array, Array, Array]:
        """Derivatives of ``value`` in ``mean_a``, ``cov_a``, ``mean_b`` and ``cov_b``.

        Those in the covariances are symmetric matrices ``G`` with ``d value = tr(G dA)``; in a factor of ``A = W W'``
        the derivative is ``2 G W``.
        """
        xp, (forth, back), gap = self._xp, self._slopes, 2.0 * (self._means[0] - self._means[1])
        eye = xp.eye(forth.shape[-1], dtype=forth.dtype, device=forth.device)
        return tuple(xp.astype(u, self._dtype) for u in (gap, eye - forth, -gap, eye - back))

    def map(self, x: Any) -> Array:
        """Map points (..., k, d) to the mean of where they are sent."""
        xp = self._xp
        x = check.array("x", x, xp=xp, dtype=self._dtype, device=self._s.device, graph=True)
        if x.ndim < 2 or x.shape[-1] != self._s.shape[-1]:
            raise check.error("x", f"shape {tuple(x.shape)}", f"points as rows, shape (..., k, {self._s.shape[-1]})")
        m, t = (xp.astype(u[..., None, :], self._dtype) for u in self._means)
        return t + (x - m) @ self.slope

    def __repr__(self) -> str:
        shape = tuple(self.value.shape)
        return f"GaussianTransport({self._s.shape[-1]}-D, reg={2.0 * self._e:g}" + (f", {shape})" if shape else ")")


def gaussian_transport(mean_a: Any, cov_a: Any, mean_b: Any, cov_b: Any, *, reg: float = 0.0) -> GaussianTransport:
    r"""Solve transport between Gaussian measures under the squared distance, in closed form.

    The plan minimises ``E |x - y|^2 + reg KL(P | N(mean_a, cov_a) x N(mean_b, cov_b))``.

    Parameters
    ----------
    mean_a, cov_a : array or nested sequence, shapes (..., d) and (..., d, d)
        Mean and covariance of the sources. Covariances are symmetric, without negative eigenvalues; singular ones are
        legal. The leading axes of all four arguments are broadcast.
    mean_b, cov_b : array or nested sequence, shapes (..., d) and (..., d, d)
        Mean and covariance of the targets.
    reg : float
        Strength >= 0 of the regularisation, as in `sinkhorn`.

    Returns
    -------
    GaussianTransport
        With ``value``, ``value_linear``, ``cross``; ``slope``, ``conditional``, ``gradients`` and ``map``, which
        without ``reg`` need positive definite covariances. Of the library, dtype and device of the input.

    Raises
    ------
    TypeError, ValueError
        For wrong shapes, matrices that are not symmetric or have negative eigenvalues, and ``reg < 0``.

    See Also
    --------
    optlib.transport.bures_wasserstein : The squared distance of covariances alone.

    Notes
    -----
    With factors ``A = U U'``, ``B = V V'``, the singular values ``s`` of ``U' V = W diag(s) Z'``, ``e = reg / 2`` and
    ``psi(s) = 1 / (e/2 + sqrt(e^2/4 + s^2))``, the slope is ``V Z diag(psi) Z' V'``, the solution of ``N A N + e N =
    B``. The correlations are ``r = s psi(s)``, and the linear part of the value is written as a sum of squares,
    ``|U W - V Z diag(r)|^2 + sum (1 - r^2) |V Z|^2``: nothing cancels, and equal measures have the distance 1e-16, not
    1e-8. One singular value and two eigenvalue decompositions, O(d^3), in the widest precision of the device.

    References
    ----------
    H. Janati, B. Muzellec, G. Peyré, M. Cuturi, Entropic optimal transport between unbalanced Gaussian measures has a
    closed form, NeurIPS 2020. R. Bhatia, T. Jain, Y. Lim, On the Bures-Wasserstein distance between positive definite
    matrices, Expo. Math. 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import gaussian_transport
    >>> exact = gaussian_transport([0.0, 0.0], np.diag([1.0, 4.0]), [3.0, 0.0], np.eye(2))
    >>> round(float(exact.value), 12)
    10.0
    >>> exact.map([[1.0, 2.0]]).round(12)
    array([[4., 1.]])
    """
    given = {"mean_a": mean_a, "cov_a": cov_a, "mean_b": mean_b, "cov_b": cov_b}
    xp, device, dtype = check.common(**given)
    reg = check.scalar("reg", reg, low=0.0)
    wide = default_float(xp, device)
    factors, means = [], []
    for name in ("a", "b"):
        mean = check.array(f"mean_{name}", given[f"mean_{name}"], xp=xp, dtype=wide, device=device, graph=True)
        if mean.ndim == 0 or mean.shape[-1] == 0:
            raise check.error(f"mean_{name}", f"shape {tuple(mean.shape)}", "shape (..., d) with d >= 1")
        means.append(mean)
        factors.append(square_root(f"cov_{name}", given[f"cov_{name}"], xp, wide, device))
    d = {u.shape[-1] for u in (*means, *factors)}
    try:
        if len(d) > 1:
            raise ValueError
        np.broadcast_shapes(*(u.shape[:-1] for u in means), *(u.shape[:-2] for u in factors))
    except ValueError:
        got = ", ".join(str(tuple(u.shape)) for u in (means[0], factors[0], means[1], factors[1]))
        names, expected = "mean_a, cov_a, mean_b, cov_b", "one dimension d, and leading axes that can be broadcast"
        raise check.error(names, f"shapes {got}", expected) from None
    return GaussianTransport(tuple(means), tuple(factors), reg, dtype, xp)


def bures_wasserstein(A: Any, B: Any) -> Array:
    r"""Squared Bures-Wasserstein distance ``tr A + tr B - 2 tr (A^{1/2} B A^{1/2})^{1/2}``.

    It is the squared Wasserstein distance of Gaussian measures with a common mean.

    Parameters
    ----------
    A, B : array or nested sequence, shape (..., d, d)
        Symmetric matrices without negative eigenvalues; leading axes are broadcast.

    Returns
    -------
    array, shape (...)
        Of the library, dtype and device of the input.

    Raises
    ------
    TypeError, ValueError
        For wrong shapes, and for matrices that are not symmetric or have negative eigenvalues.

    See Also
    --------
    optlib.transport.gaussian_transport : With means, an entropy, the map and the gradients.
    optlib.transport.bures_wasserstein_barycenter : The mean in this distance.

    Notes
    -----
    Computed as ``min |U - V Q|^2`` over the rotations Q of a factor: nothing cancels, and singular matrices are as good
    as others. Cost O(d^3).

    References
    ----------
    R. Bhatia, T. Jain, Y. Lim, On the Bures-Wasserstein distance between positive definite matrices, Expo. Math. 2019.

    Examples
    --------
    >>> from optlib.transport import bures_wasserstein
    >>> round(float(bures_wasserstein([[4.0, 0.0], [0.0, 9.0]], [[1.0, 0.0], [0.0, 1.0]])), 12)
    5.0
    """
    xp, device, dtype = check.common(A=A, B=B)
    wide = default_float(xp, device)
    factors = tuple(square_root(name, u, xp, wide, device) for name, u in (("A", A), ("B", B)))
    shapes = [tuple(u.shape) for u in factors]
    try:
        np.broadcast_shapes(*(s[:-2] for s in shapes))
    except ValueError:
        raise check.error("A, B", f"shapes {shapes[0]} and {shapes[1]}", "leading axes that can be broadcast") from None
    if shapes[0][-1] != shapes[1][-1]:
        raise check.error("A, B", f"shapes {shapes[0]} and {shapes[1]}", "matrices of one size")
    zero = xp.zeros(shapes[0][-1], dtype=wide, device=device)
    return GaussianTransport((zero, zero), factors, 0.0, dtype, xp).value


def square_root(name: str, A: Any, xp: Any, dtype: Any, device: Any) -> Array:
    """A factor ``U`` of checked matrices ``A = U U'``, shape (..., d, d)."""
    given = check.array(name, A, xp=xp, device=device, graph=True)
    if given.ndim < 2 or given.shape[-1] != given.shape[-2] or given.shape[-1] == 0:
        raise check.error(name, f"shape {tuple(given.shape)}", "square matrices, shape (..., d, d)")
    slack = 100 * given.shape[-1] * float(xp.finfo(given.dtype).eps)
    A = xp.astype(given, dtype)
    mirrored = xp.matrix_transpose(A)
    w, v = linalg.eigh(0.5 * (A + mirrored), xp=xp)
    if 0 not in A.shape:
        size = xp.max(xp.abs(A), axis=(-2, -1))
        if bool(xp.any(xp.max(xp.abs(A - mirrored), axis=(-2, -1)) > slack * size)):
            raise check.error(name, "a matrix that is not symmetric", "symmetric matrices", FIX)
        if bool(xp.any(w[..., 0] < -slack * size)):
            raise check.error(name, f"an eigenvalue {float(xp.min(w)):.3g}", "no negative eigenvalues", FIX)
    return v * xp.sqrt(xp.where(w > 0, w, xp.zeros_like(w)))[..., None, :]


def _hypotenuse(x: Array, y: Array, xp: Any) -> Array:
    """``sqrt(x^2 + y^2)`` without overflow, for nonnegative numbers."""
    most, least = xp.maximum(x, y), xp.minimum(x, y)
    return most * xp.sqrt(1.0 + (least / xp.where(most > 0, most, xp.ones_like(most))) ** 2)
