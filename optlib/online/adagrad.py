"""AdaGrad: a step size for every coordinate, or a metric, from the gradients seen."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, kernel, linalg
from optlib.geometry import Box, Domain
from optlib.online.domains import metric_domain, metric_step, require_bounded
from optlib.online.learner import Learner, RoundLearner, column


class AdaGradState(NamedTuple):
    """Points, sums of the squared gradients per coordinate, rounds played."""

    x: Array
    squares: Array
    rounds: int


@kernel(numba="optlib.online._streams_numba:adagrad_rounds", match="sum")
def adagrad_rounds(
    block: Array, x: Array, squares: Array, lower: Array, upper: Array, *, xp: Any
) -> tuple[Array, Array, Array]:
    """Play rounds of diagonal AdaGrad on a box.

    Parameters
    ----------
    block : array, shape (rounds, learners, n)
        Gradients.
    x, squares : array, shape (learners, n)
        Points and sums of squared gradients before.
    lower, upper : array, shape (n,)
        The box.
    xp : module
        Namespace.

    Returns
    -------
    x, squares : array
        After the rounds.
    incurred : array, shape (rounds, learners)
        Losses ``<g_t, x_t>``.
    """
    rate = (upper - lower) / math.sqrt(2.0)
    incurred = []
    for t in range(block.shape[0]):
        g = block[t, ...]
        incurred.append(xp.sum(x * g, axis=-1))
        squares = squares + xp.square(g)
        step = rate * g / xp.sqrt(xp.where(squares > 0.0, squares, xp.ones_like(squares)))
        x = xp.minimum(xp.maximum(x - step, lower), upper)
    return x, squares, xp.stack(incurred)


class AdaGrad(Learner):
    r"""Diagonal AdaGrad on a box: ``x_i <- clip(x_i - D_i g_i / sqrt(2 sum g_i^2))`` with the widths ``D_i``.

    Parameters
    ----------
    domain : Box
        The bounded box.

    Notes
    -----
    Regret bound: :math:`\sqrt 2 \sum_i D_i \sqrt{\sum_t g_{t,i}^2}`. Coordinates that were never touched stay where
    they are: nothing like an epsilon is needed. The method is invariant under a scaling of each coordinate.

    Cost: O(n) per round.

    References
    ----------
    .. [1] J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods", JMLR 12 (2011), Theorem 5.
    .. [2] H. B. McMahan, M. Streeter, "Adaptive Bound Optimization for Online Convex Optimization", COLT 2010.

    Examples
    --------
    >>> from optlib.geometry import Box
    >>> from optlib.online import AdaGrad
    >>> learner = AdaGrad(Box(-1.0, 1.0, 3))
    >>> learner.update([5.0, -0.001, 0.0])
    >>> learner.decide()
    array([-1.,  1.,  0.])
    """

    def __init__(self, domain: Box) -> None:
        if not isinstance(domain, Box):
            raise check.error(
                "domain", type(domain).__name__, "a Box", "AdaGradFull takes balls and simplices", TypeError
            )
        super().__init__(domain.n)
        require_bounded(domain.diameter, "use CoinBetting, which needs no bound")
        self.domain = domain

    def _initial(self, zeros: Array, xp: Any) -> AdaGradState:
        self._lower, self._upper = self._domain._bounds(zeros, xp)
        return AdaGradState(zeros + self._domain.center(zeros), zeros, 0)

    def _advance(self, state: AdaGradState, block: Array, xp: Any) -> tuple[AdaGradState, Array]:
        x, squares, incurred = adagrad_rounds(block, state.x, state.squares, self._lower, self._upper, xp=xp)
        return AdaGradState(x, squares, state.rounds + block.shape[0]), incurred

    def _bound(self, state: AdaGradState, comparator: np.ndarray | None) -> Any:
        widths = column(self._upper) - column(self._lower)
        return math.sqrt(2.0) * np.sum(widths * np.sqrt(column(state.squares)), axis=-1)


class AdaGradFullState(NamedTuple):
    """Points, sums of the outer products of the gradients, rounds played."""

    x: Array
    products: Array
    rounds: int


class AdaGradFull(RoundLearner):
    r"""AdaGrad with a full matrix on a ball, box or simplex.

    The steps have the size ``D / sqrt(2)`` in the metric :math:`H_t = (\epsilon I + \sum g g')^{1/2}`.

    Parameters
    ----------
    domain : Ball, Box or Simplex
        The bounded set; a ball has its middle at the origin.
    eps : float
        Added to the diagonal, so that the metric is one from the first round on.

    Notes
    -----
    Regret bound: :math:`\sqrt 2 D \,\mathrm{tr} H_T` with the Euclidean diameter D. The projections are exact in the
    metric.

    Cost: O(n^3) per round (an eigendecomposition and a projection).

    References
    ----------
    .. [1] J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods", JMLR 12 (2011), Theorem 7.

    Examples
    --------
    >>> from optlib.geometry import Ball
    >>> from optlib.online import AdaGradFull
    >>> learner = AdaGradFull(Ball(2))
    >>> learner.update([1.0, 1.0])
    >>> learner.decide().round(3)
    array([-0.707, -0.707])
    """

    def __init__(self, domain: Domain, *, eps: float = 1e-8) -> None:
        self.domain = metric_domain(domain)
        super().__init__(domain.shape[0])
        self.eps = check.scalar("eps", eps, low=0.0, low_open=True)
        self._diameter = domain.diameter

    def _initial(self, zeros: Array, xp: Any) -> AdaGradFullState:
        products = zeros[:, :, None] * zeros[:, None, :]
        return AdaGradFullState(zeros + self._domain.center(zeros), products, 0)

    def _root(self, products: Array, xp: Any) -> tuple[Array, Array]:
        eye = xp.eye(self.n, dtype=products.dtype, device=products.device)
        values, vectors = linalg.eigh(products + self.eps * eye, xp=xp, check=False)
        return xp.sqrt(xp.maximum(values, xp.full_like(values, self.eps))), vectors

    def _round(self, state: AdaGradFullState, g: Array, xp: Any) -> AdaGradFullState:
        products = state.products + g[:, :, None] * g[:, None, :]
        roots, vectors = self._root(products, xp)
        metric = (vectors * roots[:, None, :]) @ xp.matrix_transpose(vectors)
        theta = (metric @ state.x[:, :, None])[..., 0] - (self._diameter / math.sqrt(2.0)) * g
        return AdaGradFullState(metric_step(self._domain, metric, theta, xp), products, state.rounds + 1)

    def _bound(self, state: AdaGradFullState, comparator: np.ndarray | None) -> Any:
        roots = np.sum(column(self._root(state.products, self._xp)[0]), axis=-1)
        return math.sqrt(2.0) * self._diameter * roots if state.rounds else 0.0
