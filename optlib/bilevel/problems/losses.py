"""Losses of linear models by sample, and one pass over a batch of samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib.backend import Array, kernel
from optlib.backend.special import expit, logsumexp, softmax


class Loss(NamedTuple):
    """A loss of predictions ``z`` (n,) or (n, C) and targets ``t``, by sample; ``second(z, t, u)`` is its Hessian."""

    value: Callable[[Array, Array, Any], Array]
    first: Callable[[Array, Array, Any], Array]
    second: Callable[[Array, Array, Any], Callable[[Array], Array]]


def _softplus(z: Array, xp: Any) -> Array:
    return xp.where(z > 0, z, xp.zeros_like(z)) + xp.log1p(xp.exp(-xp.abs(z)))


def _logistic_second(z: Array, t: Array, xp: Any) -> Callable[[Array], Array]:
    s = expit(z, xp=xp)
    weights = s * (1.0 - s)
    return lambda u: weights * u


def _softmax_second(z: Array, t: Array, xp: Any) -> Callable[[Array], Array]:
    p = softmax(z, xp=xp)

    def product(u: Array) -> Array:
        pu = p * u
        return pu - p * xp.sum(pu, axis=-1, keepdims=True)

    return product


SQUARED = Loss(
    lambda z, t, xp: 0.5 * (z - t) ** 2,
    lambda z, t, xp: z - t,
    lambda z, t, xp: lambda u: u,
)
LOGISTIC = Loss(
    lambda z, t, xp: _softplus(-t * z, xp),
    lambda z, t, xp: -t * expit(-t * z, xp=xp),
    _logistic_second,
)
SOFTMAX = Loss(
    lambda z, t, xp: logsumexp(z, xp=xp) - xp.sum(z * t, axis=-1),
    lambda z, t, xp: softmax(z, xp=xp) - t,
    _softmax_second,
)
LOSSES = (SQUARED, LOGISTIC, SOFTMAX)  # by the number that the kernels take


def _predictions(rows: Array, y: Array) -> Array:
    d = rows.shape[1]
    return rows @ y if y.shape[0] == d else rows @ y[:d, ...] + y[d, ...]


def _combination(rows: Array, u: Array, y: Array, xp: Any) -> Array:
    found = rows.T @ u
    return found if y.shape[0] == rows.shape[1] else xp.concat([found, xp.sum(u, axis=0)[None, ...]], axis=0)


def _by_sample(weights: Array, u: Array) -> Array:
    return weights * u if u.ndim == 1 else weights[:, None] * u


@kernel(numba="optlib.bilevel.problems._losses_numba:batch_gradient", match="sum")
def batch_gradient(A: Array, t: Array, weights: Array, index: Array, y: Array, loss: int, *, xp: Any) -> Any:
    """Losses of the samples ``index``, and the gradient of their weighted sum.

    Parameters
    ----------
    A : array, shape (n, d)
        Samples; y may have one entry more than d, a constant.
    t : array, shape (n,) or (n, C)
        Targets.
    weights : array, shape (n,)
        Weights of the samples.
    index : array of int, shape (b,)
        The batch.
    y : array, shape (d,) or (d, C), or one row more
        The model.
    loss : int
        Number in `LOSSES`.
    xp : module

    Returns
    -------
    losses, gradient : arrays, shapes (b,) and that of y
    """
    rows, t = xp.take(A, index, axis=0), xp.take(t, index, axis=0)
    z, found = _predictions(rows, y), LOSSES[loss]
    first = _by_sample(xp.take(weights, index), found.first(z, t, xp))
    return found.value(z, t, xp), _combination(rows, first, y, xp)


@kernel(numba="optlib.bilevel.problems._losses_numba:batch_directions", match="sum")
def batch_directions(
    A: Array, t: Array, weights: Array, index: Array, y: Array, q: Array, loss: int, *, xp: Any
) -> Any:
    """Gradient and Hessian product of a batch, and the derivatives of the losses along q.

    Parameters
    ----------
    A, t, weights, index, y, loss : object
        As of `batch_gradient`.
    q : array, of the shape of y
        The adjoint.
    xp : module

    Returns
    -------
    gradient, product, slopes : arrays, shapes of y, of y and (b,)
        ``slopes`` are the derivatives of the single losses along q, without the weights.
    """
    rows, t = xp.take(A, index, axis=0), xp.take(t, index, axis=0)
    z, u, found = _predictions(rows, y), _predictions(rows, q), LOSSES[loss]
    w, first = xp.take(weights, index), found.first(z, t, xp)
    slopes = first * u if u.ndim == 1 else xp.sum(first * u, axis=1)
    second = found.second(z, t, xp)(u)
    gradient = _combination(rows, _by_sample(w, first), y, xp)
    return gradient, _combination(rows, _by_sample(w, second), y, xp), slopes
