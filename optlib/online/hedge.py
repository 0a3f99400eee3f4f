"""Hedge: exponential weights of the cumulative losses."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, kernel
from optlib.geometry import Simplex
from optlib.geometry.mirror.entropy import softmax
from optlib.online.learner import Learner, column


class HedgeState(NamedTuple):
    """Weights, cumulative losses, ``sum eta_t range_t^2 / 8``, rounds played."""

    x: Array
    losses: Array
    spent: Array
    rounds: int


@kernel(numba="optlib.online._streams_numba:hedge_rounds", match="sum")
def hedge_rounds(
    block: Array, x: Array, losses: Array, spent: Array, rounds: int, rate: float, anytime: bool, *, xp: Any
) -> tuple[Array, Array, Array, Array]:
    """Play rounds of Hedge.

    Parameters
    ----------
    block : array, shape (rounds, learners, n)
        Losses.
    x, losses : array, shape (learners, n)
        Weights and cumulative losses before.
    spent : array, shape (learners,)
        ``sum eta_t range_t^2 / 8`` before.
    rounds : int
        Rounds played before.
    rate : float
        The rate; with ``anytime`` that of the first round, which decreases as ``1 / sqrt(t)``.
    anytime : bool
        Whether the rate decreases.
    xp : module
        Namespace.

    Returns
    -------
    x, losses, spent : array
        After the rounds.
    incurred : array, shape (rounds, learners)
        Losses of the learners.
    """
    incurred = []
    for t in range(block.shape[0]):
        row = block[t, ...]
        incurred.append(xp.sum(x * row, axis=-1))
        eta, following = (rate / math.sqrt(rounds + t + k) if anytime else rate for k in (1, 2))
        spent = spent + (eta / 8.0) * xp.square(xp.max(row, axis=-1) - xp.min(row, axis=-1))
        losses = losses + row
        x = softmax(-following * losses, 1.0, xp=xp)
    return x, losses, spent, xp.stack(incurred)


class Hedge(Learner):
    r"""Hedge, or exponential weights, for the advice of ``n`` experts: weights proportional to ``exp(-eta_t L_i)``.

    Parameters
    ----------
    n : int
        Number of experts.
    rate : float, optional
        Constant rate ``eta``, for example ``sqrt(8 log(n) / rounds) / spread`` for a known horizon. By default the rate
        of round t is ``2 sqrt(log(n) / t) / spread``.
    spread : float
        Usual range of the losses of a round, ``max - min``. It only tunes the rate: the bound holds for all losses.

    Notes
    -----
    Regret bound: :math:`\log(n) / \eta_T + \sum_t \eta_t r_t^2 / 8` with the ranges :math:`r_t` as they were; at most
    ``spread sqrt(T log n)`` for ranges up to ``spread``.

    Cost: O(n) per round; the state is the cumulative losses, so no weight underflows for good.

    References
    ----------
    .. [1] Y. Freund, R. E. Schapire, "A Decision-Theoretic Generalization of On-Line Learning", JCSS 55 (1997).
    .. [2] N. Cesa-Bianchi, G. Lugosi, "Prediction, Learning, and Games", 2006, Theorems 2.2 and 2.3.

    Examples
    --------
    >>> from optlib.online import Hedge
    >>> learner = Hedge(2)
    >>> learner.decide()
    array([0.5, 0.5])
    >>> learner.update([0.0, 1.0])
    >>> learner.decide().round(3)
    array([0.764, 0.236])
    """

    def __init__(self, n: int, *, rate: float | None = None, spread: float = 1.0) -> None:
        super().__init__(n)
        self.spread = check.scalar("spread", spread, low=0.0, low_open=True)
        self.rate = rate if rate is None else check.scalar("rate", rate, low=0.0, low_open=True)
        self.domain = Simplex(self.n)
        self._first = 2.0 * math.sqrt(math.log(self.n)) / self.spread if rate is None else self.rate

    def _initial(self, zeros: Array, xp: Any) -> HedgeState:
        return HedgeState(zeros + 1.0 / self.n, zeros, zeros[:, 0], 0)

    def _advance(self, state: HedgeState, block: Array, xp: Any) -> tuple[HedgeState, Array]:
        x, losses, spent, incurred = hedge_rounds(
            block, state.x, state.losses, state.spent, state.rounds, self._first, self.rate is None, xp=xp
        )
        return HedgeState(x, losses, spent, state.rounds + block.shape[0]), incurred

    def _bound(self, state: HedgeState, comparator: np.ndarray | None) -> Any:
        if self.n == 1 or state.rounds == 0:
            return 0.0
        eta = self._first / math.sqrt(state.rounds) if self.rate is None else self.rate
        return math.log(self.n) / eta + column(state.spent)
