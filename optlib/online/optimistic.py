"""Optimistic mirror descent and optimistic FTRL: steps with a guess of the next gradient."""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.geometry import Euclidean, MirrorMap
from optlib.online.learner import RoundLearner, column
from optlib.online.omd import _MirrorLearner, finite_size


class OptimisticState(NamedTuple):
    """Points, dual points of the anchors (or sums of gradients), hints, variation, terms of the bound, rounds.

    ``variation`` is ``sum |g_t - m_t|^2``, ``spent`` is ``sum eta_t |g_t - m_t|^2 / (2 sigma)``, ``saved`` is
    ``sum B(x_t; anchor_t) / eta_t``.
    """

    x: Array
    theta: Array
    hint: Array
    variation: Array
    spent: Array
    saved: Array
    rate: Array
    rounds: int


class _Optimistic(_MirrorLearner, RoundLearner, ABC):
    def decide(self, hint: Any = None) -> Array:
        """Return the decision of the coming round.

        Parameters
        ----------
        hint : array, shape (n,) or (learners, n), optional
            A guess of the coming gradient; by default the last one.

        Returns
        -------
        array, shape (n,) or (learners, n)
            The decision.
        """
        if self._state is None:
            self.start()
        if hint is not None:
            m = self._convert(hint, self._shape)
            m = m if self._batch else m[None, :]
            self._state = self._place(self._state._replace(hint=m), self._xp)
        return super().decide()

    @abstractmethod
    def _place(self, state: OptimisticState, xp: Any) -> OptimisticState:
        """Return the state with the point that its anchor, hint and rate give."""


class OptimisticOMD(_Optimistic):
    r"""Optimistic mirror descent, for losses between stochastic and adversarial (the SEA model).

    From an anchor, one step with the hint gives the decision and one with the gradient gives the next anchor.

    Parameters
    ----------
    mirror : MirrorMap
        A map of bounded divergence: Euclidean, quadratic or p-norm on a bounded set.
    n : int
        Dimension.
    scale : float
        A guess G of the largest dual norm of a gradient, noise included. The bound holds whatever it is.
    strong_convexity : float, optional
        Modulus ``lam`` of the losses (Euclidean maps); the rate is then ``2 / (lam t)``.

    Notes
    -----
    The rate is :math:`\eta_t = D / \sqrt{(4 + 10^{-9}) G^2 + \sum_{s<t} |g_s - m_s|_*^2}` with the hints m, and with
    :math:`D^2 / 2` the largest divergence times sigma.

    Regret bound: :math:`B / \eta_T + \sum_t \eta_t |g_t - m_t|_*^2 / (2 \sigma) - \sum_t B(x_t; \hat x_t) / \eta_t`
    with everything as it was, which is at most :math:`\frac32 D \sqrt{(4 + 10^{-9}) G^2 + \sum |g_t - m_t|^2}` if no
    gradient exceeds G. For strongly convex losses :math:`\sum_t |g_t - m_t|^2 / (\lambda t) + \lambda D^2 / 2`.

    Cost: two mirror steps per round.

    References
    ----------
    .. [1] A. Rakhlin, K. Sridharan, "Online Learning with Predictable Sequences", COLT 2013.
    .. [2] S. Chen, W.-W. Tu, P. Zhao, L. Zhang, "Optimistic Online Mirror Descent for Bridging Stochastic and
       Adversarial Online Convex Optimization", arXiv:2302.04552.

    Examples
    --------
    >>> from optlib.geometry import EuclideanBall
    >>> from optlib.online import OptimisticOMD
    >>> learner = OptimisticOMD(EuclideanBall(), 2)
    >>> learner.update([0.5, 0.0])
    >>> learner.decide().round(3), learner.decide(hint=[0.0, 0.0]).round(3)
    (array([-0.985,  0.   ]), array([-0.5,  0. ]))
    """

    def __init__(self, mirror: MirrorMap, n: int, *, scale: float = 1.0, strong_convexity: float | None = None) -> None:
        super().__init__(mirror, n)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        self._largest = 0.5 * mirror.diameter(self.n) ** 2
        if math.isinf(self._largest):
            raise check.error(
                "mirror", repr(mirror), "a map of bounded divergence, as the rate changes", "use OptimisticFTRL"
            )
        self.strong_convexity = strong_convexity
        if strong_convexity is not None:
            check.scalar("strong_convexity", strong_convexity, low=0.0, low_open=True)
            if not isinstance(mirror, Euclidean):
                raise check.error("strong_convexity", strong_convexity, "a Euclidean map with it", "leave it out")

    def _eta(self, variation: Array, t: int, xp: Any) -> Array:
        if self.strong_convexity is not None:
            return xp.full_like(variation, 2.0 / (self.strong_convexity * t))
        return math.sqrt(2.0 * self._largest * self._sigma) / xp.sqrt(variation + (4.0 + 1e-9) * self.scale**2)

    def _first(self, zeros: Array, theta: Array, xp: Any) -> OptimisticState:
        zero = zeros[:, 0]
        x = self._map.grad_conj(theta, xp=xp)
        return OptimisticState(x, theta, zeros, zero, zero, zero, self._eta(zero, 1, xp), 0)

    def _place(self, state: OptimisticState, xp: Any) -> OptimisticState:
        return state._replace(x=self._map.grad_conj(state.theta - state.rate[:, None] * state.hint, xp=xp))

    def _round(self, state: OptimisticState, g: Array, xp: Any) -> OptimisticState:
        eta = state.rate
        square = xp.square(self._map.dual_norm(g - state.hint, xp=xp))
        anchor = self._map.grad_conj(state.theta, xp=xp)
        after = OptimisticState(
            state.x,
            self._map.step_dual(state.theta, g, eta, xp=xp),
            g,
            state.variation + square,
            state.spent + eta * square / (2.0 * self._sigma),
            state.saved + self._map.bregman(state.x, anchor, xp=xp) / eta,
            self._eta(state.variation + square, state.rounds + 2, xp),
            state.rounds + 1,
        )
        return self._place(after, xp)

    def _bound(self, state: OptimisticState, comparator: np.ndarray | None) -> Any:
        spent = column(state.spent)
        if state.rounds == 0:
            return 0.0
        if self.strong_convexity is not None:
            return spent + self.strong_convexity * self._largest
        return self._largest / column(state.rate) + spent - column(state.saved)


class OptimisticFTRL(_Optimistic):
    r"""Optimistic follow the regularised leader: ``x = argmin <sum g + m, z> + psi(z) / eta_t`` with a hint m.

    Safe on every mirror map.

    Parameters
    ----------
    mirror : MirrorMap
        The geometry.
    n : int
        Dimension.
    size : float, optional
        Bound on ``psi(u) - min psi`` for the comparators of interest; by default the range of the map.
    scale : float
        A guess G of the largest dual norm of a gradient, noise included. The bound holds whatever it is.

    Notes
    -----
    The rate is :math:`\eta_t = \sqrt{\sigma S / (4 G^2 + \sum_{s<t} |g_s - m_s|_*^2)}` with the size S.

    Regret bound: :math:`S / \eta_T + \sum_t \eta_t |g_t - m_t|_*^2 / (2 \sigma)`; on a ball of radius R at most
    :math:`\sqrt 2 R \sqrt{4 G^2 + \sum |g_t - m_t|^2}` if no gradient exceeds G.

    Cost: one ``grad_conj`` per round.

    References
    ----------
    .. [1] A. Rakhlin, K. Sridharan, "Online Learning with Predictable Sequences", COLT 2013.
    .. [2] S. Sachs, H. Hadiji, T. van Erven, C. Guzman, "Between Stochastic and Adversarial Online Convex Optimization:
       Improved Regret Bounds via Smoothness", NeurIPS 2022.

    Examples
    --------
    >>> from optlib.geometry import Entropy
    >>> from optlib.online import OptimisticFTRL
    >>> learner = OptimisticFTRL(Entropy(), 2)
    >>> learner.decide(hint=[0.0, 1.0]).round(3)
    array([0.603, 0.397])
    """

    def __init__(self, mirror: MirrorMap, n: int, *, size: float | None = None, scale: float = 1.0) -> None:
        super().__init__(mirror, n)
        self.size = finite_size(mirror, self.n, size)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)

    def _eta(self, variation: Array, xp: Any) -> Array:
        return math.sqrt(self._sigma * self.size) / xp.sqrt(variation + 4.0 * self.scale**2)

    def _first(self, zeros: Array, theta: Array, xp: Any) -> OptimisticState:
        zero = zeros[:, 0]
        x = self._map.grad_conj(zeros, xp=xp)
        return OptimisticState(x, zeros, zeros, zero, zero, zero, self._eta(zero, xp), 0)

    def _place(self, state: OptimisticState, xp: Any) -> OptimisticState:
        eta = self._eta(state.variation, xp)[:, None]
        return state._replace(x=self._map.grad_conj(-eta * (state.theta + state.hint), xp=xp))

    def _round(self, state: OptimisticState, g: Array, xp: Any) -> OptimisticState:
        eta = self._eta(state.variation, xp)
        square = xp.square(self._map.dual_norm(g - state.hint, xp=xp))
        spent = state.spent + eta * square / (2.0 * self._sigma)
        variation = state.variation + square
        after = OptimisticState(state.x, state.theta + g, g, variation, spent, state.saved, eta, state.rounds + 1)
        return self._place(after, xp)

    def _bound(self, state: OptimisticState, comparator: np.ndarray | None) -> Any:
        return self._distance(comparator, self.size) / column(state.rate) + column(state.spent)
