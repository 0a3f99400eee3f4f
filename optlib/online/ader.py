"""Ader: dynamic regret from gradient descents of many step sizes under one meta-learner."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like
from optlib.geometry import Domain
from optlib.geometry.mirror.entropy import softmax
from optlib.online.domains import require_bounded, vector_domain
from optlib.online.learner import ScaledLearner


class AderState(NamedTuple):
    """Points, those of the bases (learners, bases, n), logarithms of their weights, rounds played."""

    x: Array
    bases: Array
    weights: Array
    rounds: int


class Ader(ScaledLearner):
    r"""Ader: gradient descents with a grid of step sizes, mixed by exponential weights.

    It competes with every path of decisions, the better the shorter the path, and needs one gradient per round.

    Parameters
    ----------
    domain : Domain
        The bounded set.
    rounds : int
        Number of rounds T.
    scale : float
        Bound G on the Euclidean norms of the gradients; a larger one is refused.

    Notes
    -----
    There are ``ceil(log2(1 + 4 T / 7) / 2) + 1`` bases.

    Regret bound, for a path u of length P: :math:`\frac{3G}4 \sqrt{2 T (7 D^2 + 4 D P)} + \frac{G D}2 \sqrt{2 T} (1 +
    2 \log(k + 1))` with :math:`k = \lfloor \frac12 \log_2(1 + \frac{4P}{7D}) \rfloor + 1` and the diameter D; pass the
    path, shape (rounds, n), to `regret_bound`. It is infinite after more than T rounds.

    Cost: O(n log T) and as many projections per round as bases.

    References
    ----------
    .. [1] L. Zhang, S. Lu, Z.-H. Zhou, "Adaptive Online Learning in Dynamic Environments", NeurIPS 2018, Theorem 4.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.geometry import Ball
    >>> from optlib.online import Ader, play
    >>> angle = np.linspace(0.0, 3.0, 2000)
    >>> losses = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> res = play(Ader(Ball(2), rounds=2000, scale=1.0), losses, comparator=-losses)
    >>> bool(res.regret <= res.regret_bound)
    True
    """

    def __init__(self, domain: Domain, *, rounds: int, scale: float) -> None:
        self.domain = vector_domain(domain)
        super().__init__(domain.shape[0])
        self.horizon = check.scalar("rounds", rounds, low=1, integer=True)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        self._diameter = domain.diameter or 1.0
        require_bounded(self._diameter, "use CoinBetting, which needs no bound")
        count = math.ceil(0.5 * math.log2(1.0 + 4.0 * self.horizon / 7.0)) + 1
        index = np.arange(1, count + 1)
        unit = self._diameter / self.scale * math.sqrt(7.0 / (2.0 * self.horizon))
        self._rates, self._prior = 2.0 ** (index - 1) * unit, np.log((count + 1) / (count * index * (index + 1.0)))
        self._meta = math.sqrt(8.0 / self.horizon) / (2.0 * self.scale * self._diameter)

    def _initial(self, zeros: Array, xp: Any) -> AderState:
        x = zeros + self._domain.center(zeros)
        weights = zeros[:, :1] + asarray_like(self._prior, zeros)
        return AderState(x, x[:, None, :] + 0.0 * weights[:, :, None], weights, 0)

    def _round(self, state: AderState, g: Array, xp: Any) -> AderState:
        slope = g[:, None, :]
        weights = state.weights - self._meta * xp.sum(slope * (state.bases - state.x[:, None, :]), axis=-1)
        rates = asarray_like(self._rates, g)
        bases = self._domain.project(state.bases - rates[:, None] * slope, xp=xp)
        x = xp.sum(softmax(weights, 1.0, xp=xp)[:, :, None] * bases, axis=1)
        return AderState(x, bases, weights, state.rounds + 1)

    def _bound(self, state: AderState, comparator: np.ndarray | None) -> Any:
        return self._bound_for_length(state, 0.0)

    def _path_bound(self, state: AderState, path: np.ndarray) -> Any:
        return self._bound_for_length(state, float(np.sum(np.linalg.norm(np.diff(path, axis=0), axis=1))))

    def _bound_for_length(self, state: AderState, length: float) -> float:
        t, size, diameter = self.horizon, self.scale, self._diameter
        if state.rounds > t:
            return math.inf
        k = math.floor(0.5 * math.log2(1.0 + 4.0 * length / (7.0 * diameter))) + 1
        first = 0.75 * size * math.sqrt(2.0 * t * (7.0 * diameter**2 + 4.0 * diameter * length))
        return first + 0.5 * size * diameter * math.sqrt(2.0 * t) * (1.0 + 2.0 * math.log(k + 1.0))
