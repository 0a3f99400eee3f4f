"""Losses of linear models by sample, and one pass over a batch of samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib.backend import Array, kernel


class Local(NamedTuple):
    """A loss at predictions z: by sample, what its parts share was computed once.

    Attributes
    ----------
    value : callable
        ``() -> values``, of shape (n,).
    first : array
        Derivatives, of the shape of z.
    scale : array
        The Hessian of a sample is ``diag(s)``, or ``diag(s) - s s'`` if `coupled`; of the shape of z.
    coupled : bool
    """

    value: Callable[[], Array]
    first: Array
    scale: Array
    coupled: bool = False


class Loss:
    """A loss of predictions ``z`` (n,) or (n, C) and targets ``t``, by sample; ``second(z, t)`` is its Hessian."""

    def __init__(self, at: Callable[[Array, Array, Any], Local]) -> None:
        self.at = at

    def value(self, z: Array, t: Array, xp: Any) -> Array:
        """Values."""
        return self.at(z, t, xp).value()

    def first(self, z: Array, t: Array, xp: Any) -> Array:
        """Derivatives."""
        return self.at(z, t, xp).first

    def second(self, z: Array, t: Array, xp: Any) -> Callable[[Array], Array]:
        """Product with the Hessian of each sample."""
        local = self.at(z, t, xp)
        return lambda u: bend(local, local.scale, u, xp)


def bend(local: Local, weighted: Array, u: Array, xp: Any) -> Array:
    """Product of u with the Hessian of each sample, ``weighted`` being ``local.scale`` times the weights of samples."""
    if not local.coupled:
        return weighted * u
    return weighted * u - local.scale * xp.vecdot(weighted, u, axis=-1)[..., None]


def _squared(z: Array, t: Array, xp: Any) -> Local:
    r = z - t
    return Local(lambda: 0.5 * r * r, r, xp.ones_like(r))


def _logistic(z: Array, t: Array, xp: Any) -> Local:
    margin = t * z
    e = xp.exp(-xp.abs(margin))
    s = xp.where(margin > 0, e, xp.ones_like(e)) / (1.0 + e)  # probability of the other label
    return Local(lambda: xp.where(margin < 0, -margin, xp.zeros_like(e)) + xp.log1p(e), -t * s, s * (1.0 - s))


def _softmax(z: Array, t: Array, xp: Any) -> Local:
    top = xp.max(z, axis=-1, keepdims=True)
    e = xp.exp(z - top)
    total = xp.sum(e, axis=-1, keepdims=True)
    p = e / total
    return Local(lambda: xp.squeeze(xp.log(total) + top, axis=-1) - xp.sum(z * t, axis=-1), p - t, p, coupled=True)


SQUARED, LOGISTIC, SOFTMAX = Loss(_squared), Loss(_logistic), Loss(_softmax)
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
    rows = xp.take(A, index, axis=0)
    local = LOSSES[loss].at(_predictions(rows, y), xp.take(t, index, axis=0), xp)
    return local.value(), _combination(rows, _by_sample(xp.take(weights, index), local.first), y, xp)


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
    rows = xp.take(A, index, axis=0)
    local = LOSSES[loss].at(_predictions(rows, y), xp.take(t, index, axis=0), xp)
    u, w = _predictions(rows, q), xp.take(weights, index)
    slopes = local.first * u if u.ndim == 1 else xp.sum(local.first * u, axis=1)
    gradient = _combination(rows, _by_sample(w, local.first), y, xp)
    return gradient, _combination(rows, bend(local, _by_sample(w, local.scale), u, xp), y, xp), slopes
