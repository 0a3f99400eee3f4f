"""Gradient descent without a gradient: bandits on convex sets, which see one value a round."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, linalg, to_numpy
from optlib.backend.philox import philox_normal
from optlib.geometry import Ball, Box, Domain
from optlib.online.bandits import ValueLearner
from optlib.online.domains import require_bounded, vector_domain


class FKMState(NamedTuple):
    """Decisions, their middles, directions of the perturbations, rounds played, random stream."""

    x: Array
    middle: Array
    direction: Array
    rounds: int
    key: int


class FKM(ValueLearner):
    r"""The method of Flaxman, Kalai and McMahan: gradient descent on a ball or box that is told nothing but its loss.

    Parameters
    ----------
    domain : Ball or Box
        The bounded set.
    rounds : int
        Number of rounds T.
    scale : float
        Lipschitz constant G of the losses.
    high : float
        Bound C on the moduli of the losses; a larger one is refused.
    rng : int or Generator, optional
        Seed of the perturbations. They are addressed by the round: a saved state continues with the same ones.

    Notes
    -----
    The decision is :math:`y = z + \delta v` with a random direction v, and :math:`\frac n\delta f(y) v` estimates the
    gradient for a projected step of size :math:`\eta = D \delta / (n C \sqrt T)` from z, in the set shrunk around its
    centre so that y stays inside; :math:`\delta^2 = D n C / (G (3 + D / r) \sqrt T)`, at most :math:`r^2`, with the
    inner radius r.

    Regret bound, in expectation and for convex losses: :math:`D n C \sqrt T / \delta + T \delta G (3 + D / r)`, of the
    order :math:`T^{3/4}`. It is infinite after more than T rounds.

    Cost: O(n) and a projection per round. With gradients `OGD` is far better.

    References
    ----------
    .. [1] A. Flaxman, A. Kalai, H. B. McMahan, "Online convex optimization in the bandit setting: gradient descent
       without a gradient", SODA 2005.
    .. [2] E. Hazan, "Introduction to Online Convex Optimization", arXiv:1909.05207, Theorem 6.6 (the constants are
       derived anew).

    Examples
    --------
    >>> from optlib.geometry import Ball
    >>> from optlib.online import FKM
    >>> learner = FKM(Ball(1), rounds=2000, high=2.0, rng=0)
    >>> for _ in range(2000):
    ...     learner.update(abs(learner.decide().item() - 0.5))
    >>> bool(abs(learner.state.middle[0, 0] - 0.5) < 0.3)
    True
    """

    def __init__(self, domain: Domain, *, rounds: int, scale: float = 1.0, high: float = 1.0, rng: Any = None) -> None:
        vector_domain(domain)
        if not isinstance(domain, (Ball, Box)):
            raise check.error("domain", type(domain).__name__, "a Ball or a Box", kind=TypeError)
        require_bounded(domain.diameter, "give a bounded set")
        high = check.scalar("high", high, low=0.0, low_open=True)
        super().__init__(domain.shape[0], low=-high, high=high, rng=rng)
        self.domain = domain
        self.horizon = check.scalar("rounds", rounds, low=1, integer=True)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        inner = _inner_radius(domain)
        if not inner > 0.0:
            raise check.error("domain", repr(domain), "a set with an interior")
        self._diameter = domain.diameter
        self._slack = self.scale * (3.0 + self._diameter / inner)
        self._noise = self._diameter * self.n * self.high
        self._delta = min(inner, math.sqrt(self._noise / self._slack) * self.horizon**-0.25)
        self._shrink = 1.0 - self._delta / inner
        self._rate = self._diameter * self._delta / (self.n * self.high * math.sqrt(self.horizon))

    def _place(self, middle: Array, rounds: int, key: int, xp: Any) -> FKMState:
        count = middle.shape[0] * self.n
        v = xp.reshape(philox_normal(key, rounds * count, count, middle, xp=xp), middle.shape)
        v = v / linalg.norm(v, axis=-1, keepdims=True, xp=xp)
        return FKMState(middle + self._delta * v, middle, v, rounds, key)

    def _initial(self, zeros: Array, xp: Any) -> FKMState:
        return self._place(zeros + self._domain.center(zeros), 0, int(self._rng.integers(0, 2**63)), xp)

    def _advance(self, state: FKMState, block: Array, xp: Any) -> tuple[FKMState, Array]:
        incurred = []
        for t in range(block.shape[0]):
            value = block[t, :, 0]
            incurred.append(value)
            step = (self._rate * self.n / self._delta) * value[:, None] * state.direction
            middle, center = state.middle - step, self._domain.center(step)
            if self._shrink > 0.0:  # projection onto the shrunk set
                middle = center + self._shrink * (
                    self._domain.project(center + (middle - center) / self._shrink, xp=xp) - center
                )
            else:
                middle = xp.zeros_like(middle) + center
            state = self._place(middle, state.rounds + 1, state.key, xp)
        return state, xp.stack(incurred)

    def _bound(self, state: FKMState, comparator: np.ndarray | None) -> float:
        if state.rounds > self.horizon:
            return math.inf
        steps = self._noise * math.sqrt(self.horizon) / self._delta
        return steps + state.rounds * self._delta * self._slack if state.rounds else 0.0


def _inner_radius(domain: Any) -> float:
    """Radius of the largest ball around the centre."""
    if isinstance(domain, Ball):
        return domain.radius
    center = domain.center()
    lower, upper = (np.asarray(to_numpy(bound), np.float64) for bound in (domain.lower, domain.upper))
    return 0.5 * float(np.min(np.broadcast_to(upper - lower, center.shape)))
