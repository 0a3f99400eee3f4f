"""The Monge gap: how far the displacement of points is from an optimal transport."""

import math
from typing import Any, NamedTuple

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, device_of
from optlib.transport._problem import check_reg
from optlib.transport.cost import PointCloud, as_points, block_rows, pairwise
from optlib.transport.plan import EntropicPlan
from optlib.transport.result import TransportResult
from optlib.transport.sinkhorn import sinkhorn

COSTS = ("sqeuclidean", "euclidean")
CHECK_EVERY = 2  # iterations: from a warm start few are needed


class MongeGap(NamedTuple):
    """What `monge_gap` returns.

    Attributes
    ----------
    value : float
        ``mean c(x_i, y_i) - W_reg(x, y)``, never negative. The entropic gap of an optimal map is not 0 but at most
        ``2 reg log(n)``.
    gradient : array, shape (n, d)
        Derivative of the value in ``y``.
    bounds : (float, float)
        Numbers between which the gap without regularisation lies, proven: 0 if and only if ``x -> y`` is optimal.
    result : TransportResult
        The entropic transport from ``x`` to ``y``.
    """

    value: float
    gradient: Array
    bounds: tuple[float, float]
    result: TransportResult


def monge_gap(
    x: Any, y: Any, *, reg: float, cost: str = "sqeuclidean", init: Any = None, tol: float | str = "auto"
) -> MongeGap:
    r"""Measure how much cheaper the points ``y`` could be reached from ``x`` than by sending ``x_i`` to ``y_i``.

    Parameters
    ----------
    x, y : array, shape (n, d)
        Points and their images, each with weight ``1 / n``.
    reg : float
        Strength > 0 of the entropy, in units of the cost. Large values bias the gap and its minimiser: about 1 % of
        the mean cost is small enough.
    cost : {"sqeuclidean", "euclidean"}
        ``|x - y|^2`` or ``|x - y|``.
    init : array (n,) or TransportResult, optional
        Potentials to start from: those of a similar problem save most of the work.
    tol : float or "auto"
        Tolerance of `sinkhorn`.

    Returns
    -------
    MongeGap
        Value, gradient and proven bounds.

    Raises
    ------
    TypeError, ValueError
        For invalid input.

    Notes
    -----
    ``W_reg(x, y) = min <C, P> - reg H(P)`` with the entropy ``H(P) = -sum P log P``: the identity coupling has a cost
    of at most the mean of ``c(x_i, y_i)``, so that the gap is nonnegative. With ``KL(P | a b')`` in the place of the
    entropy it would not be.

    The gradient holds the plan fixed (Danskin's theorem): for squared distances it is
    ``2 (y_i - x_i) / n - 2 (sum_k P_ki) y_i + 2 (P' x)_i``. To train a network of any library, hand it the gradient as
    the derivative of the value.

    References
    ----------
    T. Uscidda, M. Cuturi, The Monge gap: a regularizer to learn all transport maps, ICML 2023 (arXiv 2302.04953),
    definition 1 and equation 6.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import monge_gap
    >>> x = np.random.default_rng(0).normal(size=(50, 2))
    >>> shifted, turned = monge_gap(x, x + 1.0, reg=0.01), monge_gap(x, -x, reg=0.01)
    >>> shifted.bounds[0] < 1e-6 and turned.bounds[0] > 1.0
    True
    """
    check.option("cost", cost, COSTS)
    reg = check_reg(reg)
    xp, device, dtype = check.common(x=x, y=y)
    x = as_points("x", x, xp, dtype, device)
    y = as_points("y", y, xp, dtype, device, dimension=x.shape[1])
    if x.shape != y.shape:
        raise check.error("y", f"shape {tuple(y.shape)}", f"an image of each point: shape {tuple(x.shape)}")
    result = sinkhorn(PointCloud(x, y, cost), reg=reg, init=init, tol=tol, check_every=CHECK_EVERY, record=False)
    diagonal, slope = displacement(x, y, cost)
    n, mean = x.shape[0], float(xp.mean(diagonal))
    # the plan minimises the entropic objective in either convention; their values differ by reg (H(a) + H(b))
    value = mean - result.dual_value + 2.0 * reg * math.log(n)
    gradient = slope / n - cost_gradient(result.plan, x, y, cost)
    low, high = result.lp_bounds
    return MongeGap(value, gradient, (mean - high, mean - low), result)


def displacement(x: Array, y: Array, cost: str) -> tuple[Array, Array]:
    """Costs ``c(x_i, y_i)``, and their derivatives in ``y_i``."""
    xp, move = array_namespace(x, y), y - x
    square = xp.sum(move * move, axis=1)
    if cost == "sqeuclidean":
        return square, 2.0 * move
    length = xp.sqrt(square)
    return length, move * _inverse(length, xp)[:, None]


def cost_gradient(plan: EntropicPlan, x: Array, y: Array, cost: str) -> Array:
    """Derivative of ``sum_ij P_ij c(x_i, y_j)`` in ``y``, for a fixed plan."""
    xp = array_namespace(x, y)
    ones = xp.ones((x.shape[0], 1), dtype=x.dtype, device=device_of(x))
    if cost == "sqeuclidean":
        centre = xp.mean(x, axis=0)
        both = plan.T @ xp.concat([x - centre, ones], axis=1)
        return 2.0 * (both[:, -1:] * (y - centre) - both[:, :-1])
    total = xp.zeros_like(y)
    step = block_rows(y.shape[0], device_of(x))
    for i0 in range(0, x.shape[0], step):
        i1 = min(i0 + step, x.shape[0])
        weights = plan.rows(i0, i1) * _inverse(pairwise(x[i0:i1, :], y, cost, xp=xp), xp)
        total = total + xp.sum(weights, axis=0)[:, None] * y - weights.T @ x[i0:i1, :]
    return total


def _inverse(distance: Array, xp: Any) -> Array:
    """``1 / distance``, and 0 at 0: the smallest subgradient."""
    some = distance > 0
    return xp.where(some, 1.0 / xp.where(some, distance, xp.ones_like(distance)), xp.zeros_like(distance))
