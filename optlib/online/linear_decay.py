"""Schedules whose last iterate is good: linear decay, and its refinement from the gradients of an earlier run."""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import median_filter

from optlib._core import validation as check
from optlib.backend import Array, to_numpy
from optlib.geometry import Domain
from optlib.online.domains import require_bounded, vector_domain
from optlib.online.learner import RoundLearner, column


class LinearDecayState(NamedTuple):
    """Points, ``sum w_t^2 |g_t|^2``, ``sum eta_t |g_t|^2 / 2``, ``D sum |g_t|``, the least bound to stop at, rounds."""

    x: Array
    weighted: Array
    spent: Array
    trivial: Array
    least: Array
    rounds: int


class LinearDecay(RoundLearner):
    r"""Projected gradient descent whose steps decay to 0 over a fixed number of rounds: the last decision is good.

    Parameters
    ----------
    domain : Domain
        The bounded set.
    rounds : int, optional
        Number of rounds T; the steps are then :math:`\frac{D}{G \sqrt T} (1 - t / T)`.
    scale : float
        A guess G of the largest norm of a gradient.
    weights : array, shape (rounds,), optional
        In place of the two, for example from `refined_weights`: :math:`\eta_t = w_t \sum_{p > t} w_p / \sum_p w_p`.

    Notes
    -----
    `last_iterate_bound` is for the loss of the last decision, if the losses do not change (or are drawn at random):
    :math:`(|x_1 - u|^2 + \sum_t w_t^2 |g_t|^2) / (2 \sum_t w_t)`, at most :math:`D G / \sqrt T` for the default.

    Regret bound: the least over k of :math:`\frac{D^2}2 (\frac1{\eta_1} + \sum_{t \le k} (\frac1{\eta_t} -
    \frac1{\eta_{t-1}})_+) + \frac12 \sum_{t \le k} \eta_t |g_t|^2 + D \sum_{t > k} |g_t|`: for regret, steps should not
    decay so fast, and `OGD` is better.

    Cost: O(n) and a projection per round. After the last round the decision does not change any more.

    References
    ----------
    .. [1] A. Defazio, A. Cutkosky, H. Mehta, K. Mishchenko, "When, Why and How Much? Adaptive Learning Rate
       Scheduling by Refinement", arXiv:2310.07831, Theorem 1 and Corollary 2.

    Examples
    --------
    >>> from optlib.geometry import Ball
    >>> from optlib.online import LinearDecay
    >>> learner = LinearDecay(Ball(1), rounds=100)
    >>> for _ in range(100):
    ...     learner.update([float(learner.decide()[0] > 0.3) * 2 - 1])
    >>> bool(abs(learner.decide()[0] - 0.3) <= learner.last_iterate_bound([0.3]))
    True
    """

    def __init__(self, domain: Domain, *, rounds: int | None = None, scale: float = 1.0, weights: Any = None) -> None:
        self.domain = vector_domain(domain)
        super().__init__(domain.shape[0])
        self._diameter = domain.diameter or 1.0
        require_bounded(self._diameter, "use DoG, which needs no bound")
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        if (rounds is None) == (weights is None):
            raise check.error("rounds", rounds, "a number if there are no `weights`, and nothing otherwise")
        if weights is None:
            horizon = check.scalar("rounds", rounds, low=1, integer=True)
            weights = np.full(horizon, self._diameter / (self.scale * math.sqrt(horizon)))
        self.weights = _on_host("weights", weights)
        if not np.all(self.weights > 0.0):
            raise check.error("weights", f"an entry {np.min(self.weights):g}", "positive numbers")
        self.horizon = len(self.weights)
        total = np.cumsum(self.weights[::-1])[::-1]
        self._steps = self.weights * np.append(total[1:], 0.0) / total[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1.0 / self._steps
            rises = np.maximum(np.diff(inverse, prepend=0.0), 0.0)
        self._risen = np.cumsum(rises)

    def last_iterate_bound(self, comparator: Any = None) -> Any:
        """Return the bound of ``f(x) - f(u)`` for the last decision x and losses that do not change.

        Parameters
        ----------
        comparator : array, shape (n,), optional
            The point u; by default the bound is for all of the set.

        Returns
        -------
        float, or array of shape (learners,)
            The bound; inf before all rounds are played.
        """
        if self._state is None:
            self.start()
        distance = self._diameter
        if comparator is not None:
            u = np.asarray(to_numpy(comparator), np.float64)
            distance = float(np.linalg.norm(u - to_numpy(self.domain.center())))
        bound = (distance**2 + column(self._state.weighted)) / (2.0 * np.sum(self.weights))
        bound = bound if self.rounds >= self.horizon else np.full_like(bound, np.inf)
        return bound if self._batch else float(bound[0])

    def _initial(self, zeros: Array, xp: Any) -> LinearDecayState:
        zero = zeros[:, 0]
        return LinearDecayState(zeros + self._domain.center(zeros), zero, zero, zero, zero, 0)

    def _round(self, state: LinearDecayState, g: Array, xp: Any) -> LinearDecayState:
        t = state.rounds
        eta, weight, risen = 0.0, 0.0, math.inf
        if t < self.horizon:
            eta, weight, risen = float(self._steps[t]), float(self.weights[t]), float(self._risen[t])
        square = xp.sum(xp.square(g), axis=-1)
        spent = state.spent + 0.5 * eta * square
        trivial = state.trivial + self._diameter * xp.sqrt(square)
        least = state.least
        if math.isfinite(risen):
            least = xp.minimum(least, 0.5 * self._diameter**2 * risen + spent - trivial)
        x = state.x if eta == 0.0 else self._domain.project(state.x - eta * g, xp=xp)
        return LinearDecayState(x, state.weighted + weight**2 * square, spent, trivial, least, t + 1)

    def _bound(self, state: LinearDecayState, comparator: np.ndarray | None) -> Any:
        return column(state.trivial) + column(state.least)


def refined_weights(norms: Any, distance: float, *, smoothing: float = 0.1) -> np.ndarray:
    r"""Return the weights of `LinearDecay` that suit the gradients of an earlier run: schedule refinement.

    Parameters
    ----------
    norms : array, shape (rounds,)
        Norms :math:`G_t` of the gradients of a run with any schedule.
    distance : float
        Distance D of the solution from the start.
    smoothing : float
        Part of the rounds that the median filter covers.

    Returns
    -------
    ndarray, shape (rounds,)
        :math:`w_t = D \, G_t^{-2} / \sqrt{\sum_p G_p^{-2}}`, for which the last iterate has error at most
        :math:`D / \sqrt{\sum_p G_p^{-2}}`.

    Notes
    -----
    Norms that fall at the end give a schedule that rises first: warm-up. Norms of 0 count as 1e-8 of the median.

    Cost: O(rounds) and the median filter.

    References
    ----------
    .. [1] A. Defazio, A. Cutkosky, H. Mehta, K. Mishchenko, "When, Why and How Much? Adaptive Learning Rate
       Scheduling by Refinement", arXiv:2310.07831, Algorithm 1 and Corollary 3.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import refined_weights
    >>> refined_weights(np.full(4, 2.0), 1.0)
    array([0.25, 0.25, 0.25, 0.25])
    """
    values = _on_host("norms", norms)
    distance = check.scalar("distance", distance, low=0.0, low_open=True)
    smoothing = check.scalar("smoothing", smoothing, low=0.0, high=1.0)
    if len(values) < 2 or not np.any(values > 0.0):
        got = f"{len(values)} rounds" if len(values) < 2 else "zeros"
        raise check.error("norms", got, "the norms of the gradients of at least two rounds, not all 0")
    width = 2 * (int(smoothing * len(values)) // 2) + 1
    padded = np.pad(values, (0, min(2 * width, len(values) - 1)), mode="reflect")
    smooth = median_filter(padded, size=width, mode="nearest")[: len(values)]
    smooth = np.maximum(smooth, 1e-8 * np.median(values[values > 0.0]))
    weights = (np.min(smooth) / smooth) ** 2
    return distance * weights / (np.min(smooth) * math.sqrt(float(np.sum(weights))))


def _on_host(name: str, values: Any) -> np.ndarray:
    xp = check.common(**{name: values})[0]
    return np.asarray(to_numpy(check.array(name, values, xp=xp, ndim=1, nonnegative=True)), np.float64)
