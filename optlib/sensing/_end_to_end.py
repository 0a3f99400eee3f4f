"""What training the factors of a product does to the product: the end-to-end rule of balanced deep linear maps."""

import math
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, linalg


def end_to_end(W: Any, grad: Any, depth: int) -> Array:
    r"""Direction in which gradient descent on the ``depth`` factors of a matrix moves their product.

    Parameters
    ----------
    W : array, shape (a, b)
        The product.
    grad : array, shape (a, b)
        Derivative of the loss in the product.
    depth : int
        Number N of factors; 1 returns ``grad``.

    Returns
    -------
    array, shape (a, b)
        :math:`\sum_{j=1}^N (W W^T)^{(N-j)/N} \, \mathrm{grad} \, (W^T W)^{(j-1)/N}`.

    Notes
    -----
    For factors that are balanced, ``W_{j+1}' W_{j+1} = W_j W_j'``, and infinitely small steps. The rule is a
    preconditioner: large singular directions of W are learned faster, and never in a direction that raises the loss. At
    ``W = 0`` it is zero.

    Cost: one thin singular value decomposition and N pairs of products.

    References
    ----------
    S. Arora, N. Cohen, E. Hazan, On the optimization of deep networks: implicit acceleration by overparameterization,
    ICML 2018, theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import end_to_end
    >>> end_to_end(np.diag([2.0, 0.5]), np.ones((2, 2)), 2)
    array([[4. , 2.5],
           [2.5, 1. ]])
    """
    xp, device, dtype = check.common(W=W, grad=grad)
    W = check.array("W", W, xp=xp, ndim=2, dtype=dtype, device=device)
    grad = check.array("grad", grad, xp=xp, shape=tuple(W.shape), dtype=dtype, device=device)
    return product_direction(W, grad, check.scalar("depth", depth, low=1, integer=True), xp)


def product_direction(W: Array, grad: Array, depth: int, xp: Any) -> Array:
    """`end_to_end` without checks."""
    if depth == 1:
        return grad
    U, s, Vt = linalg.svd(W, xp=xp, check=False)
    total = xp.zeros_like(grad)
    for j in range(1, depth + 1):
        term = grad
        if j < depth:
            term = U @ ((s ** (2.0 * (depth - j) / depth))[:, None] * (U.T @ term))
        if j > 1:
            term = ((term @ Vt.T) * s ** (2.0 * (j - 1) / depth)) @ Vt
        total = total + term
    return total


def split_evenly(W: Array, width: int, depth: int, xp: Any) -> tuple[Array, ...]:
    """Balanced factors of the best approximation of rank ``width``, which has singular values ``s^(1/depth)`` in each.

    Returns
    -------
    tuple of array
        Shapes (a, width), (width, width), ..., (width, b); W itself for depth 1.
    """
    if depth == 1:
        return (W,)
    U, s, Vt = linalg.svd(W, xp=xp)
    missing = width - s.shape[0]
    if missing > 0:  # a width above the dimensions: zero columns
        made = {"dtype": W.dtype, "device": W.device}
        U = xp.concat([U, xp.zeros((U.shape[0], missing), **made)], axis=1)
        s = xp.concat([s, xp.zeros((missing,), **made)])
        Vt = xp.concat([Vt, xp.zeros((missing, Vt.shape[1]), **made)], axis=0)
    root = s[:width] ** (1.0 / depth)
    eye = xp.eye(width, dtype=W.dtype, device=W.device)
    inner = tuple(eye * root for _ in range(depth - 2))
    return (U[:, :width] * root, *inner, root[:, None] * Vt[:width, :])


def multiplied(layers: tuple[Array, ...]) -> Array:
    """The product of the factors."""
    product = layers[0]
    for layer in layers[1:]:
        product = product @ layer
    return product


def layer_gradients(layers: tuple[Array, ...], grad: Array) -> tuple[Array, ...]:
    """Derivatives in the factors from that in the product, by the chain rule: two sweeps of products."""
    count = len(layers)
    above: list[Array] = [grad]  # derivative with the factors on the left taken in
    for layer in layers[:-1]:
        above.append(layer.T @ above[-1])
    found: list[Array] = [above[-1]] * count
    right = None
    for j in range(count - 1, -1, -1):
        found[j] = above[j] if right is None else above[j] @ right.T
        right = layers[j] if right is None else layers[j] @ right
    return tuple(found)


def balanced_curvature(size: float, depth: int) -> float:
    """Largest curvature of ``|W_1 ... W_N - M|^2 / 2`` at balanced factors of M, whose norm is ``size``."""
    return depth * math.pow(size, 2.0 - 2.0 / depth)
