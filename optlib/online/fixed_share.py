"""Fixed share: Hedge that follows the best expert when it changes."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.geometry import Simplex
from optlib.geometry.mirror.entropy import entropy_step
from optlib.online.learner import RoundLearner, column


class FixedShareState(NamedTuple):
    """Weights, ``eta sum range_t^2 / 8``, rounds played."""

    x: Array
    spent: Array
    rounds: int


class FixedShare(RoundLearner):
    r"""Fixed share for ``n`` experts: after every step a part ``share`` of the weight is spread over all of them.

    Parameters
    ----------
    n : int
        Number of experts.
    rounds : int
        Number of rounds that the rates are tuned for.
    switches : int
        Number of switches of the comparator that the rates are tuned for.
    spread : float
        Usual range of the losses of a round. It only tunes the rate: the bound holds for all losses.

    Notes
    -----
    Regret bound, against any sequence of experts with m switches: :math:`\frac1\eta (\log n + m \log\frac n\alpha +
    (T - 1 - m) \log\frac1{1 - \alpha}) + \frac\eta8 \sum_t r_t^2` with the ranges :math:`r_t` as they were. Call
    ``regret_bound(switches=m)``.

    Cost: O(n) per round.

    References
    ----------
    .. [1] M. Herbster, M. Warmuth, "Tracking the Best Expert", Machine Learning 32 (1998).
    .. [2] N. Cesa-Bianchi, G. Lugosi, "Prediction, Learning, and Games", 2006, Theorem 5.1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import FixedShare, Switching, play
    >>> losses = np.repeat([[0.0, 1.0], [1.0, 0.0]], 100, axis=0)
    >>> res = play(FixedShare(2, rounds=200, switches=1), losses, comparator=Switching(1))
    >>> bool(res.regret <= res.regret_bound < 100)
    True
    """

    def __init__(self, n: int, *, rounds: int, switches: int, spread: float = 1.0) -> None:
        super().__init__(n)
        horizon = check.scalar("rounds", rounds, low=1, integer=True)
        self.switches = check.scalar("switches", switches, low=0, high=horizon, integer=True)
        self.spread = check.scalar("spread", spread, low=0.0, low_open=True)
        self.share = min(max(self.switches, 0.5) / max(horizon - 1, 1), 0.5)
        size = self._size(horizon, self.switches)
        self.rate = math.sqrt(8.0 * max(size, 1e-12) / horizon) / self.spread
        self.domain = Simplex(self.n)

    def _size(self, rounds: int, switches: int) -> float:
        stays = max(rounds - 1 - switches, 0)
        share = self.share
        return math.log(self.n) + switches * math.log(self.n / share) - stays * math.log1p(-share)

    def _initial(self, zeros: Array, xp: Any) -> FixedShareState:
        return FixedShareState(zeros + 1.0 / self.n, zeros[:, 0], 0)

    def _round(self, state: FixedShareState, g: Array, xp: Any) -> FixedShareState:
        low = xp.min(g, axis=-1, keepdims=True)
        x = entropy_step(state.x, g - low, self.rate, 1.0, xp=xp)
        x = (1.0 - self.share) * x + self.share / self.n
        spent = state.spent + (self.rate / 8.0) * xp.square(xp.max(g - low, axis=-1))
        return FixedShareState(x, spent, state.rounds + 1)

    def _bound(self, state: FixedShareState, comparator: np.ndarray | None) -> Any:
        return self._switching_bound(state, 0)

    def _switching_bound(self, state: FixedShareState, switches: int) -> Any:
        return self._size(state.rounds, switches) / self.rate + column(state.spent) if state.rounds else 0.0
