"""Follow the regularised leader (dual averaging), and its proximal form with sparse solutions."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.geometry import MirrorMap
from optlib.online.learner import RoundLearner, column
from optlib.online.omd import _MirrorLearner, finite_size


class FTRLState(NamedTuple):
    """Points, sums of the gradients, ``sum |g_t|^2``, ``sum eta_t |g_t|^2 / (2 sigma)``, the last rate, rounds."""

    x: Array
    losses: Array
    squares: Array
    spent: Array
    rate: Array
    rounds: int


class FTRL(_MirrorLearner, RoundLearner):
    r"""Follow the regularised leader, or dual averaging: ``x = argmin <sum g, z> + psi(z) / eta_t``.

    Safe with changing rates on every mirror map.

    Parameters
    ----------
    mirror : MirrorMap
        The geometry.
    n : int
        Dimension.
    rate : float, optional
        Constant rate. By default it is :math:`\eta_t = \sqrt{\sigma S / (G^2 + \sum_{s<t} |g_s|_*^2)}`.
    size : float, optional
        The number S, a bound on ``psi(u) - min psi`` for the comparators of interest; by default the range of the map.
    scale : float
        The number G, a guess of the largest dual norm of a gradient. The bound holds whatever it is.

    Notes
    -----
    Regret bound: :math:`(\psi(u) - \min \psi) / \eta_T + \sum_t \eta_t |g_t|_*^2 / (2 \sigma)` with the gradients as
    they were; on a ball of radius R at most :math:`\sqrt 2 R \sqrt{G^2 + \sum |g_t|^2}` if no gradient exceeds G.

    Cost: one ``grad_conj`` per round.

    References
    ----------
    .. [1] Y. Nesterov, "Primal-dual subgradient methods for convex problems", Math. Programming 120 (2009).
    .. [2] F. Orabona, "A Modern Introduction to Online Learning", arXiv:1912.13213, Corollary 7.7.

    Examples
    --------
    >>> from optlib.geometry import EuclideanBall
    >>> from optlib.online import FTRL
    >>> learner = FTRL(EuclideanBall(), 2)
    >>> learner.update([0.6, 0.8])
    >>> learner.decide().round(3)
    array([-0.3, -0.4])
    """

    def __init__(
        self,
        mirror: MirrorMap,
        n: int,
        *,
        rate: float | None = None,
        size: float | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(mirror, n)
        self.rate = rate if rate is None else check.scalar("rate", rate, low=0.0, low_open=True)
        self.size = finite_size(mirror, self.n, size) if rate is None or size is not None else mirror.range(self.n)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)

    def _eta(self, squares: Array, xp: Any) -> Array:
        if self.rate is not None:
            return xp.full_like(squares, self.rate)
        return math.sqrt(self._sigma * self.size) / xp.sqrt(squares + self.scale**2)

    def _first(self, zeros: Array, theta: Array, xp: Any) -> FTRLState:
        zero = zeros[:, 0]
        return FTRLState(self._map.grad_conj(zeros, xp=xp), zeros, zero, zero, self._eta(zero, xp), 0)

    def _round(self, state: FTRLState, g: Array, xp: Any) -> FTRLState:
        square = xp.square(self._map.dual_norm(g, xp=xp))
        eta = self._eta(state.squares, xp)
        squares, losses = state.squares + square, state.losses + g
        x = self._map.grad_conj(-self._eta(squares, xp)[:, None] * losses, xp=xp)
        spent = state.spent + eta * square / (2.0 * self._sigma)
        return FTRLState(x, losses, squares, spent, eta, state.rounds + 1)

    def _bound(self, state: FTRLState, comparator: np.ndarray | None) -> Any:
        return self._distance(comparator, self.size) / column(state.rate) + column(state.spent)


class FTRLProximalState(NamedTuple):
    """Points, the vector z, sums of gradients, of their squares, of weighted squared points, ``spent``, rounds."""

    x: Array
    z: Array
    losses: Array
    squares: Array
    anchors: Array
    spent: Array
    rounds: int


class FTRLProximal(RoundLearner):
    r"""FTRL-Proximal of McMahan et al.: a rate for every coordinate, and zeros from an l1 penalty.

    Parameters
    ----------
    n : int
        Dimension.
    alpha, beta : float
        The rate of coordinate i is ``alpha / (beta + sqrt(sum g_i^2))``.
    l1, l2 : float
        The regulariser ``l1 |x|_1 + l2 |x|^2 / 2``.

    Notes
    -----
    With ``z`` the sum of ``g - sigma x``: ``x_i = 0`` if ``|z_i| <= l1``, else
    ``-(z_i - sign(z_i) l1) / ((beta + sqrt(sum g_i^2)) / alpha + l2)``.

    Regret bound, for a comparator u, with the points and gradients as they were: :math:`\frac12 \sum_t |u - x_t|^2_
    {\sigma_t} + \frac12 (\beta/\alpha + \lambda_2) |u|^2 + \lambda_1 |u|_1 + \frac12 \sum_{t,i} \eta_{t,i} g_{t,i}^2`.

    Cost: O(n) per round.

    References
    ----------
    .. [1] H. B. McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, Algorithm 1.
    .. [2] H. B. McMahan, "A survey of algorithms and analysis for adaptive online learning", JMLR 18 (2017), Theorem 2.

    Examples
    --------
    >>> from optlib.online import FTRLProximal
    >>> learner = FTRLProximal(2, l1=0.5)
    >>> learner.update([1.0, -0.4])
    >>> learner.decide()
    array([-0.25,  0.  ])
    """

    def __init__(self, n: int, *, alpha: float = 1.0, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0) -> None:
        super().__init__(n)
        self.alpha = check.scalar("alpha", alpha, low=0.0, low_open=True)
        self.beta = check.scalar("beta", beta, low=0.0, low_open=True)
        self.l1 = check.scalar("l1", l1, low=0.0)
        self.l2 = check.scalar("l2", l2, low=0.0)

    def _initial(self, zeros: Array, xp: Any) -> FTRLProximalState:
        return FTRLProximalState(zeros, zeros, zeros, zeros, zeros, zeros[:, 0], 0)

    def _round(self, state: FTRLProximalState, g: Array, xp: Any) -> FTRLProximalState:
        squares = state.squares + xp.square(g)
        sigma = (xp.sqrt(squares) - xp.sqrt(state.squares)) / self.alpha
        curvature = (self.beta + xp.sqrt(squares)) / self.alpha + self.l2
        z = state.z + g - sigma * state.x
        x = -xp.sign(z) * xp.maximum(xp.abs(z) - self.l1, xp.zeros_like(z)) / curvature
        anchors = state.anchors + sigma * xp.square(state.x)
        spent = state.spent + 0.5 * xp.sum(xp.square(g) / curvature, axis=-1)
        return FTRLProximalState(x, z, state.losses + g, squares, anchors, spent, state.rounds + 1)

    def _bound(self, state: FTRLProximalState, comparator: np.ndarray | None) -> Any:
        if comparator is None:
            raise check.error("comparator", "nothing", "a decision, as the set is not bounded", "pass one")
        u, total, centre = comparator, column(state.squares), column(state.losses) - column(state.z)
        distance = np.sum(np.sqrt(total) / self.alpha * u**2 - 2.0 * u * centre + column(state.anchors), axis=-1)
        fixed = 0.5 * (self.beta / self.alpha + self.l2) * np.sum(u**2) + self.l1 * np.sum(np.abs(u))
        return 0.5 * np.maximum(distance, 0.0) + fixed + column(state.spent)
