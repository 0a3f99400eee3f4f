"""Projections of matrices onto convex sets of their eigenvalues or singular values.

Conventions as in `optlib.geometry.projections`; matrices lie in the last two axes.
"""

from typing import Any

from optlib.backend import Array, linalg
from optlib.geometry import _input, _thresholds

__all__ = ["project_nuclear_ball", "project_psd", "project_spectrahedron"]


def project_psd(x: Any, *, xp: Any = None) -> Array:
    """Project the symmetric part of matrices onto the positive semidefinite cone, in the Frobenius norm.

    Parameters
    ----------
    x : array, shape (..., n, n)
        Square matrices.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n, n)
        Symmetric, the negative eigenvalues replaced by 0.

    Notes
    -----
    Cost: an eigendecomposition.

    Examples
    --------
    >>> from optlib.geometry import project_psd
    >>> project_psd([[1.0, 0.0], [0.0, -2.0]])
    array([[1., 0.],
           [0., 0.]])
    """
    if xp is None:
        xp, x = _input.points(x, 2)
        _input.square(x)
    values, vectors = _eigh(x, xp)
    return _from_spectrum(xp.maximum(values, 0.0), vectors, xp)


def project_spectrahedron(x: Any, trace: Any = 1.0, *, xp: Any = None) -> Array:
    """Project the symmetric part of matrices onto ``{Z positive semidefinite, tr Z = trace}``, in the Frobenius norm.

    Parameters
    ----------
    x : array, shape (..., n, n)
        Square matrices.
    trace : float or array, shape (...)
        Nonnegative.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., n, n)
        Symmetric; its eigenvalues are those of ``x`` projected onto the simplex.

    Notes
    -----
    Cost: an eigendecomposition.

    Examples
    --------
    >>> from optlib.geometry import project_spectrahedron
    >>> project_spectrahedron([[2.0, 0.0], [0.0, 1.5]])
    array([[0.75, 0.  ],
           [0.  , 0.25]])
    """
    if xp is None:
        xp, x = _input.points(x, 2, trace=trace)
        _input.square(x)
        trace = _input.amount("trace", trace, x, 2, xp=xp)
    values, vectors = _eigh(x, xp)
    return _from_spectrum(_thresholds.simplex(values, trace, xp=xp), vectors, xp)


def _eigh(x: Array, xp: Any) -> tuple[Array, Array]:
    return linalg.eigh(0.5 * x + 0.5 * xp.matrix_transpose(x), xp=xp, check=False)


def _from_spectrum(values: Array, vectors: Array, xp: Any) -> Array:
    z = (vectors * values[..., None, :]) @ xp.matrix_transpose(vectors)
    return 0.5 * (z + xp.matrix_transpose(z))


def project_nuclear_ball(x: Any, radius: Any = 1.0, *, xp: Any = None) -> Array:
    """Project matrices onto the nuclear-norm ball ``{sum of singular values <= radius}``, in the Frobenius norm.

    Parameters
    ----------
    x : array, shape (..., m, n)
        Matrices.
    radius : float or array, shape (...)
        Nonnegative.
    xp : module, optional
        Namespace of ``x``: the call then trusts its arguments.

    Returns
    -------
    array, shape (..., m, n)
        ``x`` inside the ball, otherwise its singular values are projected onto the simplex.

    Notes
    -----
    Cost: a thin singular value decomposition.

    Examples
    --------
    >>> from optlib.geometry import project_nuclear_ball
    >>> project_nuclear_ball([[2.0, 0.0], [0.0, 1.5]]).round(12)
    array([[0.75, 0.  ],
           [0.  , 0.25]])
    """
    if xp is None:
        xp, x = _input.points(x, 2, radius=radius)
        radius = _input.amount("radius", radius, x, 2, xp=xp)
    u, values, vh = linalg.svd(x, xp=xp, check=False)
    inside = xp.sum(values, axis=-1) <= radius
    z = (u * _thresholds.simplex(values, radius, xp=xp)[..., None, :]) @ vh
    return xp.where(inside[..., None, None], x, z)
