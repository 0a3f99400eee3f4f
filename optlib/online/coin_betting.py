"""Coin betting: no learning rate, no bound on the set."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.online.learner import ScaledLearner


class CoinBettingState(NamedTuple):
    """Points, sums of the negative gradients in units of the scale, logarithms of the wealth, rounds played."""

    x: Array
    theta: Array
    log_wealth: Array
    rounds: int


class CoinBetting(ScaledLearner):
    r"""Krichevsky-Trofimov betting on the gradients: as good as the best constant step size, on the whole space.

    Parameters
    ----------
    n : int
        Dimension.
    scale : float
        Bound on the Euclidean norms of the gradients; a larger one is refused.
    wealth : float
        Initial wealth ``eps``, in units of the distance of the comparator.

    Notes
    -----
    With the coins ``c = -g / scale``: the decision is ``W_{t-1} sum c / t``, the wealth grows by ``<c, x>``. Its
    logarithm is kept, so it may grow exponentially for ever.

    Regret bound, for a comparator u: ``scale (|u| sqrt(T log(1 + 24 T^2 |u|^2 / eps^2)) + eps)``.

    Cost: O(n) per round.

    References
    ----------
    .. [1] F. Orabona, D. Pal, "Coin Betting and Parameter-Free Online Learning", NeurIPS 2016, Corollary 5.

    Examples
    --------
    >>> from optlib.online import CoinBetting
    >>> learner = CoinBetting(1)
    >>> for _ in range(20):
    ...     learner.update([float(learner.decide()[0] > 3.0) * 2 - 1])
    >>> round(learner.regret_bound([3.0]), 1)
    46.2
    """

    def __init__(self, n: int, *, scale: float = 1.0, wealth: float = 1.0) -> None:
        super().__init__(n)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        self.wealth = check.scalar("wealth", wealth, low=0.0, low_open=True)

    def _initial(self, zeros: Array, xp: Any) -> CoinBettingState:
        return CoinBettingState(zeros, zeros, zeros[:, 0] + math.log(self.wealth), 0)

    def _round(self, state: CoinBettingState, g: Array, xp: Any) -> CoinBettingState:
        t = state.rounds + 1
        coin = g / -self.scale
        bet = state.theta / t
        log_wealth = state.log_wealth + xp.log1p(xp.sum(coin * bet, axis=-1))
        theta = state.theta + coin
        top = 0.4 * math.log(float(xp.finfo(theta.dtype).max))
        x = theta / (t + 1) * xp.exp(xp.minimum(log_wealth, xp.full_like(log_wealth, top)))[:, None]
        return CoinBettingState(x, theta, log_wealth, t)

    def _bound(self, state: CoinBettingState, comparator: np.ndarray | None) -> Any:
        if comparator is None:
            raise check.error("comparator", "nothing", "a decision, as the set is not bounded", "pass one")
        t, size = state.rounds, float(np.linalg.norm(comparator))
        log = math.log1p(24.0 * (t * size / self.wealth) ** 2)
        return self.scale * (size * math.sqrt(t * log) + self.wealth)
