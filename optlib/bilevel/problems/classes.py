r"""A preconditioner for several classes: the Hessian without what couples them, and exact where that matters most.

The Hessian of a multinomial problem is ``H = sum_i w_i (diag(p_i) - p_i p_i') (x) a_i a_i' + L`` with a diagonal L of
penalties. Its diagonal blocks ``B_c = sum_i w_i p_ic (1 - p_ic) a_i a_i' + L_c`` leave out the coupling, which cancels
everything but L along ``Z = { u (x) 1 }``, the shifts that are equal for all classes. There H is known:
``H Z u = L Z u``, and ``E = Z' H Z = sum_c L_c`` is diagonal. With ``Q = I - H Z E^-1 Z'`` the balanced preconditioner
is ``Q' B^-1 Q + Z E^-1 Z'`` (J. Mandel, Balancing domain decomposition, Comm. Numer. Methods Engrg. 1993).
"""

from collections.abc import Callable
from typing import Any

from optlib.backend import Array, device_of, linalg
from optlib.inner.newton import cholesky


def class_factors(A: Array, weights: Array, penalty: Array, *, xp: Any) -> Array:
    """The inverse Cholesky factors ``R_c`` of the blocks: ``R_c' R_c = (A' diag(weights_c) A + diag(penalty_c))^-1``.

    Parameters
    ----------
    A : array, shape (n, d)
        Samples.
    weights : array, shape (n, C)
        Weights >= 0 of the samples, for each class.
    penalty : array, shape (d, C)
        Diagonals to be added.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (C, d, d)
    """
    roots, found = xp.sqrt(weights), []
    eye = xp.eye(A.shape[1], dtype=A.dtype, device=device_of(A))
    for c in range(weights.shape[1]):
        scaled = roots[:, c][:, None] * A
        L = cholesky(xp.matrix_transpose(scaled) @ scaled + penalty[:, c] * eye, xp=xp)
        found.append(linalg.solve_triangular(L, eye, xp=xp))
    return xp.stack(found)


def balanced(factors: Array, total: Array, *, xp: Any) -> Callable[[Array], Array]:
    """The product with the preconditioner.

    Parameters
    ----------
    factors : array, shape (C, d, d)
        What `class_factors` returns, at some point.
    total : array, shape (d, C)
        ``H Z 1``: what H does to shifts that are equal for all classes.
    xp : module
        Namespace.

    Returns
    -------
    callable
        ``v -> about H^-1 v``, of flat vectors (d C,).
    """
    transposed, coarse = xp.matrix_transpose(factors), xp.sum(total, axis=1, keepdims=True)
    share = total / coarse

    def product(v: Array) -> Array:
        r = xp.reshape(v, total.shape)
        common = xp.sum(r, axis=1, keepdims=True)
        z = xp.matrix_transpose(r - share * common)[:, :, None]
        z = xp.matrix_transpose((transposed @ (factors @ z))[:, :, 0])
        return xp.reshape(z + (common / coarse - xp.sum(share * z, axis=1, keepdims=True)), (-1,))

    return product
