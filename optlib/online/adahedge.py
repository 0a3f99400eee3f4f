"""AdaHedge: exponential weights whose rate follows the mixability gap, with nothing to tune."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib.backend import Array
from optlib.geometry import Simplex
from optlib.geometry.mirror.entropy import softmax
from optlib.online.learner import RoundLearner, column


class AdaHedgeState(NamedTuple):
    """Weights, cumulative losses, mixability gap, sum of the variances, largest range, rounds played."""

    x: Array
    losses: Array
    gap: Array
    variance: Array
    spread: Array
    rounds: int


class AdaHedge(RoundLearner):
    r"""AdaHedge for the advice of ``n`` experts: exponential weights with the rate ``log(n) / gap``.

    Nothing to tune: multiplying all losses by a number, or adding one, changes no decision.

    Parameters
    ----------
    n : int
        Number of experts.

    Notes
    -----
    The gap is the sum over the rounds of the loss incurred minus the mix loss
    :math:`-\log \langle x, e^{-\eta l} \rangle / \eta`.

    Regret bound: the smaller of twice the gap and :math:`2 \sqrt{V \log n} + S (\frac43 \log n + 2)`, with the sum V of
    the variances of the losses under the weights and the largest range S.

    Cost: O(n) per round.

    References
    ----------
    .. [1] S. de Rooij, T. van Erven, P. Grunwald, W. Koolen, "Follow the Leader If You Can, Hedge If You Must",
       JMLR 15 (2014), Theorems 6 and 8.

    Examples
    --------
    >>> from optlib.online import AdaHedge
    >>> learner = AdaHedge(2)
    >>> learner.update([0.0, 1000.0])
    >>> learner.decide().round(3), learner.regret_bound()
    (array([0.8, 0.2]), 1000.0)
    """

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.domain = Simplex(self.n)

    def _initial(self, zeros: Array, xp: Any) -> AdaHedgeState:
        zero = zeros[:, 0]
        return AdaHedgeState(zeros + 1.0 / self.n, zeros, zero, zero, zero, 0)

    def _weights(self, losses: Array, gap: Array, xp: Any) -> Array:
        """Exponential weights; as long as the gap is 0, equal weights of the leaders."""
        leads = xp.astype(losses == xp.min(losses, axis=-1, keepdims=True), losses.dtype)
        leads = leads / xp.sum(leads, axis=-1, keepdims=True)
        started = gap > 0.0
        eta = math.log(self.n) / xp.where(started, gap, xp.ones_like(gap))
        behind = losses - xp.min(losses, axis=-1, keepdims=True)
        return xp.where(started[:, None], softmax(-eta[:, None] * behind, 1.0, xp=xp), leads)

    def _round(self, state: AdaHedgeState, g: Array, xp: Any) -> AdaHedgeState:
        x, gap = state.x, state.gap
        low = xp.min(g, axis=-1)
        above = g - low[:, None]
        mean = xp.sum(x * above, axis=-1)
        started = gap > 0.0
        eta = math.log(self.n) / xp.where(started, gap, xp.ones_like(gap))
        mix = -xp.log1p(xp.sum(x * xp.expm1(-eta[:, None] * above), axis=-1)) / (eta if self.n > 1 else 1.0)
        losses = state.losses + g
        first = xp.min(losses, axis=-1) - xp.min(state.losses, axis=-1) - low
        more = xp.maximum(mean - xp.where(started, mix, first), xp.zeros_like(gap))
        return AdaHedgeState(
            self._weights(losses, gap + more, xp),
            losses,
            gap + more,
            state.variance + xp.sum(x * xp.square(above - mean[:, None]), axis=-1),
            xp.maximum(state.spread, xp.max(above, axis=-1)),
            state.rounds + 1,
        )

    def _bound(self, state: AdaHedgeState, comparator: np.ndarray | None) -> Any:
        log_n = math.log(self.n)
        second = 2.0 * np.sqrt(column(state.variance) * log_n) + column(state.spread) * (4.0 / 3.0 * log_n + 2.0)
        return np.minimum(2.0 * column(state.gap), second)
