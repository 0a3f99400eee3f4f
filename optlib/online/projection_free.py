"""Learners that ask their set for its linear minimiser only: online Frank-Wolfe, follow the perturbed leader."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.backend.philox import philox_normal, philox_uniform
from optlib.backend.random import as_generator
from optlib.geometry import Domain, Simplex
from optlib.online.domains import require_bounded, vector_domain
from optlib.online.learner import RoundLearner, column


class FrankWolfeState(NamedTuple):
    """Points, sums of the gradients, bounds of the lag behind the leader, terms of the bound, rounds played."""

    x: Array
    losses: Array
    lag: Array
    squares: Array
    spent: Array
    rounds: int


class OnlineFrankWolfe(RoundLearner):
    r"""Online Frank-Wolfe: one linear minimisation per round instead of a projection.

    It follows :math:`F_t(x) = \eta \sum_{s < t} \langle g_s, x \rangle + |x - x_1|^2` by one Frank-Wolfe step per
    round, with the best step length.

    Parameters
    ----------
    domain : Domain
        The bounded set.
    rounds : int
        Number of rounds T.
    scale : float
        A guess G of the largest norm of a gradient. The rate is :math:`\eta = D / (2 G T^{3/4})`, and the bound holds
        whatever T and G are.

    Notes
    -----
    Regret bound: :math:`R^2 / \eta + \frac\eta4 \sum_t |g_t|^2 + \sum_t |g_t| \sqrt{h_t}` with the radius R around the
    start and the duality gap :math:`h_t \ge F_t(x_t) - \min F_t` of the step that led to the decision; at most
    :math:`8 D G T^{3/4}`. Where projections are cheap, `OGD` has the better rate.

    Cost: O(n) and a linear minimisation per round.

    References
    ----------
    .. [1] E. Hazan, S. Kale, "Projection-free Online Learning", ICML 2012.
    .. [2] E. Hazan, "Introduction to Online Convex Optimization", arXiv:1909.05207, Theorem 7.3.

    Examples
    --------
    >>> from optlib.geometry import L1Ball
    >>> from optlib.online import OnlineFrankWolfe
    >>> learner = OnlineFrankWolfe(L1Ball(2), rounds=16)
    >>> for _ in range(16):
    ...     learner.update([1.0, 0.1])
    >>> learner.decide().round(3)
    array([-0.984, -0.003])
    """

    def __init__(self, domain: Domain, *, rounds: int, scale: float = 1.0) -> None:
        self.domain = vector_domain(domain)
        super().__init__(domain.shape[0])
        self.horizon = check.scalar("rounds", rounds, low=1, integer=True)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        require_bounded(domain.diameter, "use CoinBetting, which needs no bound")
        self._rate = (domain.diameter or 1.0) / (2.0 * self.scale * self.horizon**0.75)

    def _initial(self, zeros: Array, xp: Any) -> FrankWolfeState:
        zero = zeros[:, 0]
        return FrankWolfeState(zeros + self._domain.center(zeros), zeros, zero, zero, zero, 0)

    def _round(self, state: FrankWolfeState, g: Array, xp: Any) -> FrankWolfeState:
        square = xp.sum(xp.square(g), axis=-1)
        losses, x = state.losses + g, state.x
        slope = self._rate * losses + 2.0 * (x - self._domain.center(g))
        way = self._domain.linear_minimizer(slope, xp=xp) - x
        gap = xp.maximum(-xp.sum(slope * way, axis=-1), xp.zeros_like(square))
        length = xp.sum(xp.square(way), axis=-1)
        step = xp.where(length > 0.0, gap / (2.0 * xp.where(length > 0.0, length, 1.0)), xp.zeros_like(gap))
        step = xp.minimum(step, xp.ones_like(step))
        lag = gap - step * gap + xp.square(step) * length
        return FrankWolfeState(
            x + step[:, None] * way,
            losses,
            lag,
            state.squares + square,
            state.spent + xp.sqrt(square * state.lag),
            state.rounds + 1,
        )

    def _bound(self, state: FrankWolfeState, comparator: np.ndarray | None) -> Any:
        if state.rounds == 0:
            return 0.0
        leader = self.domain.radius**2 / self._rate + 0.25 * self._rate * column(state.squares)
        return leader + column(state.spent)


class FTPLState(NamedTuple):
    """Decisions, sums of the gradients, ``sum |g|^2`` or squared ranges, term of the bound, rounds, random stream."""

    x: Array
    losses: Array
    squares: Array
    spent: Array
    rounds: int
    key: int


class FTPL(RoundLearner):
    r"""Follow the perturbed leader: the best decision for the losses so far and fresh random ones.

    Parameters
    ----------
    domain : Domain
        The bounded set; its linear minimiser is all that is needed, and decisions are extreme points.
    scale : float
        A guess G of the largest norm of a gradient (of the largest range of the losses, on a simplex). The bound holds
        whatever it is.
    rng : int or Generator, optional
        Seed of the noise. It is addressed by the round: a saved state continues with the same noise.

    Notes
    -----
    On a simplex the noise is Gumbel's of size :math:`s_t = G \sqrt t / (2 \sqrt{\log n})`, and the decisions have the
    expectation of `Hedge` with the rate :math:`1 / s_t`. Elsewhere it is normal, of size :math:`s_t = \sqrt{c (G^2 +
    \sum_{r<t} |g_r|^2) / (R \sqrt n)}` with :math:`c = R / \sqrt{2 \pi}` and the radius R.

    Regret bound, in expectation: :math:`s_T \log n + \sum_t r_t^2 / (8 s_t)` with the ranges :math:`r_t`, times the
    mass of the simplex; elsewhere :math:`s_T R \sqrt n + \sum_t c |g_t|^2 / s_t`.

    Cost: O(n) and a linear minimisation per round.

    References
    ----------
    .. [1] A. Kalai, S. Vempala, "Efficient algorithms for online decision problems", JCSS 71 (2005).
    .. [2] J. Abernethy, C. Lee, A. Tewari, "Perturbation Techniques in Online Learning and Optimization", 2016.

    Examples
    --------
    >>> from optlib.geometry import Simplex
    >>> from optlib.online import FTPL
    >>> learner = FTPL(Simplex(3), rng=0)
    >>> for _ in range(100):
    ...     learner.update([1.0, 0.0, 1.0])
    >>> learner.decide()
    array([0., 1., 0.])
    """

    proof = False

    def __init__(self, domain: Domain, *, scale: float = 1.0, rng: Any = None) -> None:
        self.domain = vector_domain(domain)
        super().__init__(domain.shape[0])
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        require_bounded(domain.diameter, "use CoinBetting, which needs no bound")
        self._rng = as_generator(rng)
        self._mass = domain.mass if isinstance(domain, Simplex) else None
        self._radius = domain.radius or 1.0

    def _size(self, t: int, squares: Array, xp: Any) -> Array:
        """Size of the noise of round t, counted from 1."""
        if self._mass is not None:
            size = self.scale * math.sqrt(t) / (2.0 * math.sqrt(math.log(self.n))) if self.n > 1 else 1.0
            return xp.full_like(squares, size)
        return xp.sqrt((self.scale**2 + squares) / math.sqrt(2.0 * math.pi * self.n))

    def _initial(self, zeros: Array, xp: Any) -> FTPLState:
        key = int(self._rng.integers(0, 2**63))
        zero = zeros[:, 0]
        return FTPLState(self._draw(zeros, zero, 0, key, xp), zeros, zero, zero, 0, key)

    def _draw(self, losses: Array, squares: Array, rounds: int, key: int, xp: Any) -> Array:
        count = losses.shape[0] * self.n
        if self._mass is not None:
            least = float(xp.finfo(losses.dtype).smallest_normal)
            uniform = xp.clip(philox_uniform(key, rounds * count, count, losses, xp=xp), least, 1.0)
            noise = xp.log(xp.maximum(-xp.log(uniform), xp.full_like(uniform, least)))  # minus Gumbel's
        else:
            noise = philox_normal(key, rounds * count, count, losses, xp=xp)
        size = self._size(rounds + 1, squares, xp)
        perturbed = losses + size[:, None] * xp.reshape(noise, losses.shape)
        return self._domain.linear_minimizer(perturbed, xp=xp)

    def _round(self, state: FTPLState, g: Array, xp: Any) -> FTPLState:
        size = self._size(state.rounds + 1, state.squares, xp)
        if self._mass is not None:
            square = xp.square(xp.max(g, axis=-1) - xp.min(g, axis=-1))
            spent = state.spent + square / (8.0 * size)
        else:
            square = xp.sum(xp.square(g), axis=-1)
            spent = state.spent + self._radius / math.sqrt(2.0 * math.pi) * square / size
        losses, squares, t = state.losses + g, state.squares + square, state.rounds + 1
        return FTPLState(self._draw(losses, squares, t, state.key, xp), losses, squares, spent, t, state.key)

    def _bound(self, state: FTPLState, comparator: np.ndarray | None) -> Any:
        t = state.rounds
        if t == 0 or self.n == 1:
            return 0.0
        size = column(self._size(t, state.squares, self._xp))  # at least that of the last round
        if self._mass is not None:
            return self._mass * (size * math.log(self.n) + column(state.spent))
        return size * self._radius * math.sqrt(self.n) + column(state.spent)
