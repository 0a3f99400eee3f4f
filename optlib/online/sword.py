"""Two layers of optimistic learners: dynamic regret that follows the variation of the gradients."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like
from optlib.geometry import Domain
from optlib.geometry.mirror.entropy import softmax
from optlib.online.domains import require_bounded, vector_domain
from optlib.online.learner import RoundLearner, column


class SwordState(NamedTuple):
    """Points; for the bases (learners, bases, ...) points, those before, anchors, sums of losses; terms of the bound.

    ``hint`` is the last gradient and ``variation`` is ``sum |g_t - g_{t-1}|^2``. ``surprise`` and ``meta`` are the sums
    of squares that set the rate of the upper layer, ``rate``, and that it pays; ``saved`` is ``sum |x - anchor|^2`` and
    ``moved`` the sum of the corrections for movement, less those of the mixture.
    """

    x: Array
    bases: Array
    before: Array
    anchors: Array
    losses: Array
    hint: Array
    variation: Array
    surprise: Array
    meta: Array
    rate: Array
    saved: Array
    moved: Array
    rounds: int


class Sword(RoundLearner):
    r"""Optimistic gradient descents with a grid of step sizes under optimistic Hedge, for smooth losses.

    Its regret against a path is small if the path is short and the gradients change slowly; one gradient per round.

    Parameters
    ----------
    domain : Domain
        The bounded set.
    rounds : int
        Number of rounds T that the grid is made for.
    scale : float
        A guess G of the largest norm of a gradient. The bound holds whatever it is.
    smoothness : float
        A guess L of the smoothness of the losses. The bound holds whatever it is.

    Notes
    -----
    The step sizes are :math:`D / (G \sqrt T)` times powers of 2, up to :math:`1 / (8 L)`. The losses of the
    upper layer are :math:`\langle g_t, x_{t,i} \rangle + 2 L |x_{t,i} - x_{t-1,i}|^2`, its hints the same with the last
    gradient, and its rate is :math:`\min(1 / (8 D^2 L), (1 + \sum_s |l_s - m_s|_\infty^2)^{-1/2})`.

    Regret bound, for a path u of length P: with everything as it was, the least over the bases i of :math:`\frac{D^2 +
    2 D P}{2 \eta_i} + \frac{\eta_i}2 \sum_t |g_t - g_{t-1}|^2 - \frac1{2 \eta_i} \sum_t |x_{t,i} - \hat x_{t,i}|^2`,
    plus the regret of the upper layer, :math:`\frac{\log N}{\alpha_T} + \sum_t \frac{\alpha_t}8 r_t^2` with the ranges
    r of :math:`l - m`, and the difference of the corrections. Pass the path, shape (rounds, n), to `regret_bound`.

    Cost: O(n log T) and twice as many projections per round as bases.

    References
    ----------
    .. [1] P. Zhao, Y.-J. Zhang, L. Zhang, Z.-H. Zhou, "Adaptivity and Non-stationarity: Problem-dependent Dynamic
       Regret for Online Convex Optimization", arXiv:2112.14368, Algorithm 2 (the constants of the bound are derived
       anew).
    .. [2] S. Chen, W.-W. Tu, P. Zhao, L. Zhang, "Optimistic Online Mirror Descent for Bridging Stochastic and
       Adversarial Online Convex Optimization", arXiv:2302.04552, section 5.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.geometry import Ball
    >>> from optlib.online import QuadraticLosses, Sword, play
    >>> angle = np.linspace(0.0, 3.0, 1000)
    >>> path = 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> learner = Sword(Ball(2), rounds=1000, scale=1.5, smoothness=1.0)
    >>> res = play(learner, QuadraticLosses(path, Ball(2)), comparator=path)
    >>> bool(res.regret <= res.regret_bound < np.inf)
    True
    """

    def __init__(self, domain: Domain, *, rounds: int, scale: float, smoothness: float) -> None:
        self.domain = vector_domain(domain)
        super().__init__(domain.shape[0])
        self.horizon = check.scalar("rounds", rounds, low=1, integer=True)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        self.smoothness = check.scalar("smoothness", smoothness, low=0.0, low_open=True)
        self._diameter = domain.diameter or 1.0
        require_bounded(self._diameter, "use CoinBetting, which needs no bound")
        least = self._diameter / (self.scale * math.sqrt(self.horizon))
        count = max(1, math.ceil(math.log2(1.0 / (8.0 * self.smoothness * least))) + 1)
        self._rates = least * 2.0 ** np.arange(count)

    def _eta(self, surprise: Array, xp: Any) -> Array:
        most = 1.0 / (8.0 * self._diameter**2 * self.smoothness)
        return xp.minimum(1.0 / xp.sqrt(1.0 + surprise), xp.full_like(surprise, most))

    def _initial(self, zeros: Array, xp: Any) -> SwordState:
        x, zero = zeros + self._domain.center(zeros), zeros[:, 0]
        many = zeros[:, :1] + 0.0 * asarray_like(self._rates, zeros)
        bases = x[:, None, :] + many[:, :, None]
        return SwordState(
            x, bases, bases, bases, many, zeros, zero, zero, zero, self._eta(zero, xp), many, many, 0
        )  # fmt: skip

    def _correction(self, bases: Array, before: Array, xp: Any) -> Array:
        return 2.0 * self.smoothness * xp.sum(xp.square(bases - before), axis=-1)

    def _weights(self, losses: Array, rate: Array, bases: Array, before: Array, hint: Array, xp: Any) -> Array:
        guess = losses + xp.sum(hint[:, None, :] * bases, axis=-1) + self._correction(bases, before, xp)
        return softmax(-rate[:, None] * guess, 1.0, xp=xp)

    def _round(self, state: SwordState, g: Array, xp: Any) -> SwordState:
        bases, eta = state.bases, state.rate
        weights = self._weights(state.losses, eta, bases, state.before, state.hint, xp)
        correction = self._correction(bases, state.before, xp)
        news = xp.sum((g - state.hint)[:, None, :] * bases, axis=-1)
        spread = xp.max(news, axis=-1) - xp.min(news, axis=-1)
        mixed = xp.sum(weights * correction, axis=-1, keepdims=True)
        losses = state.losses + xp.sum(g[:, None, :] * bases, axis=-1) + correction
        surprise = state.surprise + xp.square(xp.max(xp.abs(news), axis=-1))
        rates = asarray_like(self._rates, g)[:, None]
        anchors = self._domain.project(state.anchors - rates * g[:, None, :], xp=xp)
        following = self._domain.project(anchors - rates * g[:, None, :], xp=xp)
        rate = self._eta(surprise, xp)
        x = xp.sum(self._weights(losses, rate, following, bases, g, xp)[:, :, None] * following, axis=1)
        return SwordState(
            x,
            following,
            bases,
            anchors,
            losses,
            g,
            state.variation + xp.sum(xp.square(g - state.hint), axis=-1),
            surprise,
            state.meta + eta * xp.square(spread) / 8.0,
            rate,
            state.saved + xp.sum(xp.square(bases - state.anchors), axis=-1),
            state.moved + correction - mixed,
            state.rounds + 1,
        )

    def _bound(self, state: SwordState, comparator: np.ndarray | None) -> Any:
        return self._bound_for_length(state, 0.0)

    def _path_bound(self, state: SwordState, path: np.ndarray) -> Any:
        return self._bound_for_length(state, float(np.sum(np.linalg.norm(np.diff(path, axis=0), axis=1))))

    def _bound_for_length(self, state: SwordState, length: float) -> Any:
        if state.rounds == 0:
            return 0.0
        rates, diameter = self._rates, self._diameter
        base = (diameter**2 + 2.0 * diameter * length - column(state.saved)) / (2.0 * rates)
        base = base + 0.5 * rates * column(state.variation)[:, None] + column(state.moved)
        upper = math.log(len(rates)) / column(state.rate) + column(state.meta)
        return np.min(base, axis=-1) + upper
