"""Online Newton step, and its optimistic form, for exp-concave losses."""

from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, linalg
from optlib.geometry import Domain
from optlib.online.domains import metric_domain, metric_step
from optlib.online.learner import ScaledLearner, column


class ONSState(NamedTuple):
    """Points, metrics, ``sum g' A_t^{-1} g / (2 gamma)``, rounds played."""

    x: Array
    metric: Array
    spent: Array
    rounds: int


class _Newton(ScaledLearner):
    def __init__(self, domain: Domain, *, scale: float, exp_concavity: float) -> None:
        self.domain = metric_domain(domain)
        super().__init__(domain.shape[0])
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        self.exp_concavity = check.scalar("exp_concavity", exp_concavity, low=0.0, low_open=True)
        self._diameter = domain.diameter or 1.0
        self._gamma = 0.5 * min(1.0 / (4.0 * self.scale * self._diameter), self.exp_concavity)

    def _centers(self, zeros: Array) -> Array:
        return zeros + self._domain.center(zeros)

    def _identities(self, zeros: Array, factor: float, xp: Any) -> Array:
        eye = xp.eye(self.n, dtype=zeros.dtype, device=zeros.device)
        return zeros[:, :, None] + factor * eye


class ONS(_Newton):
    r"""Online Newton step on a ball, box or simplex, for exp-concave losses: logarithmic regret.

    Parameters
    ----------
    domain : Ball, Box or Simplex
        The bounded set; a ball has its middle at the origin.
    scale : float
        Bound G on the Euclidean norms of the gradients; a larger one is refused.
    exp_concavity : float
        The number alpha for which ``exp(-alpha f)`` is concave; 1 for ``-log <p, x>``.

    Notes
    -----
    With :math:`\gamma = \frac12 \min(1 / (4 G D), \alpha)` and :math:`A_t = I / (\gamma D)^2 + \sum g g'`, the step is
    :math:`x - A_t^{-1} g / \gamma`, projected exactly in the metric of :math:`A_t`.

    Regret bound, for exp-concave losses: :math:`\frac1{2\gamma} (1 + \sum_t g_t' A_t^{-1} g_t)`, at most
    :math:`\frac{n}{2\gamma} \log(1 + T G^2 \gamma^2 D^2 / n) + \frac1{2\gamma}`.

    Cost: O(n^3) per round, for the exact projection.

    References
    ----------
    .. [1] E. Hazan, A. Agarwal, S. Kale, "Logarithmic regret algorithms for online convex optimization", Machine
       Learning 69 (2007).
    .. [2] E. Hazan, "Introduction to Online Convex Optimization", arXiv:1909.05207, Theorem 4.5.

    Examples
    --------
    >>> from optlib.geometry import Simplex
    >>> from optlib.online import ONS
    >>> learner = ONS(Simplex(2), scale=3.0, exp_concavity=1.0)
    >>> learner.update([-2.0, -1.0])
    >>> learner.decide().round(3)
    array([0.529, 0.471])
    """

    def __init__(self, domain: Domain, *, scale: float, exp_concavity: float) -> None:
        super().__init__(domain, scale=scale, exp_concavity=exp_concavity)

    def _initial(self, zeros: Array, xp: Any) -> ONSState:
        metric = self._identities(zeros, 1.0 / (self._gamma * self._diameter) ** 2, xp)
        return ONSState(self._centers(zeros), metric, zeros[:, 0], 0)

    def _round(self, state: ONSState, g: Array, xp: Any) -> ONSState:
        metric = state.metric + g[:, :, None] * g[:, None, :]
        theta = (metric @ state.x[:, :, None])[..., 0] - g / self._gamma
        newton = linalg.solve(metric, g[:, :, None], xp=xp, check=False)[..., 0]
        spent = state.spent + xp.sum(g * newton, axis=-1) / (2.0 * self._gamma)
        return ONSState(metric_step(self._domain, metric, theta, xp), metric, spent, state.rounds + 1)

    def _bound(self, state: ONSState, comparator: np.ndarray | None) -> Any:
        return 0.5 / self._gamma + column(state.spent)


class OptimisticONSState(NamedTuple):
    """Points, anchors, hints, metrics, ``sum |g_t - m_t|^2``, rounds played."""

    x: Array
    anchor: Array
    hint: Array
    metric: Array
    variation: Array
    rounds: int


class OptimisticONS(_Newton):
    r"""Optimistic online Newton step for exp-concave losses between stochastic and adversarial (the SEA model).

    The hint is the last gradient.

    Parameters
    ----------
    domain : Ball, Box or Simplex
        The bounded set; a ball has its middle at the origin.
    scale : float
        Bound G on the Euclidean norms of the gradients, noise included; a larger one is refused.
    exp_concavity : float
        The number alpha for which ``exp(-alpha f)`` is concave.

    Notes
    -----
    Optimistic mirror descent in the metric :math:`H_t = (1 + \beta G^2/2) I + \frac\beta2 \sum_{s<t} g_s g_s'` with
    :math:`\beta = \frac12 \min(1 / (4 G D), \alpha)`.

    Regret bound, for exp-concave losses:
    :math:`\frac{16 n}\beta \log(1 + \frac{\beta V}{8 n}) + (1 + \frac{\beta G^2}2) \frac{D^2}2` with
    :math:`V = \sum |g_t - m_t|^2`.

    Cost: O(n^3) per round, for two exact projections.

    References
    ----------
    .. [1] S. Chen, W.-W. Tu, P. Zhao, L. Zhang, "Optimistic Online Mirror Descent for Bridging Stochastic and
       Adversarial Online Convex Optimization", arXiv:2302.04552, section 4 (the constants are derived anew).

    Examples
    --------
    >>> from optlib.geometry import Ball
    >>> from optlib.online import OptimisticONS
    >>> learner = OptimisticONS(Ball(2), scale=2.0, exp_concavity=0.1)
    >>> learner.update([1.0, 0.0])
    >>> learner.decide().round(3)
    array([-1.,  0.])
    """

    def __init__(self, domain: Domain, *, scale: float, exp_concavity: float) -> None:
        super().__init__(domain, scale=scale, exp_concavity=exp_concavity)

    def _initial(self, zeros: Array, xp: Any) -> OptimisticONSState:
        metric = self._identities(zeros, 1.0 + 0.5 * self._gamma * self.scale**2, xp)
        x = self._centers(zeros)
        return OptimisticONSState(x, x, zeros, metric, zeros[:, 0], 0)

    def _round(self, state: OptimisticONSState, g: Array, xp: Any) -> OptimisticONSState:
        def step(metric: Array, slope: Array, x: Array) -> Array:
            return metric_step(self._domain, metric, (metric @ x[:, :, None])[..., 0] - slope, xp)

        anchor = step(state.metric, g, state.anchor)
        metric = state.metric + (0.5 * self._gamma) * g[:, :, None] * g[:, None, :]
        variation = state.variation + xp.sum(xp.square(g - state.hint), axis=-1)
        return OptimisticONSState(step(metric, g, anchor), anchor, g, metric, variation, state.rounds + 1)

    def _bound(self, state: OptimisticONSState, comparator: np.ndarray | None) -> Any:
        beta, n = self._gamma, self.n
        first = 16.0 * n / beta * np.log1p(beta * column(state.variation) / (8.0 * n))
        return first + (1.0 + 0.5 * beta * self.scale**2) * 0.5 * self._diameter**2
