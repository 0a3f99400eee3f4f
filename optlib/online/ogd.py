"""Online gradient descent: projected gradient steps whose size follows the gradients seen."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, kernel, to_numpy
from optlib.geometry import Domain
from optlib.online.domains import require_bounded, vector_domain
from optlib.online.learner import Learner, column


class OGDState(NamedTuple):
    """Points, ``sum |g_t|^2``, ``sum eta_t |g_t|^2 / 2``, rounds played."""

    x: Array
    squares: Array
    spent: Array
    rounds: int


@kernel(numba="optlib.online._streams_numba:ogd_rounds", match="sum")
def ogd_rounds(
    block: Array,
    x: Array,
    squares: Array,
    spent: Array,
    rounds: int,
    domain: Domain,
    rate: float,
    rule: str,
    *,
    xp: Any,
) -> tuple[Array, Array, Array, Array]:
    """Play rounds of online gradient descent.

    Parameters
    ----------
    block : array, shape (rounds, learners, n)
        Gradients.
    x : array, shape (learners, n)
        Points before.
    squares, spent : array, shape (learners,)
        ``sum |g_t|^2`` and ``sum eta_t |g_t|^2 / 2`` before.
    rounds : int
        Rounds played before.
    domain : Domain
        The set.
    rate : float
        The size of the steps is ``rate``, ``rate / sqrt(squares)`` or ``rate / t``.
    rule : {"constant", "adaptive", "harmonic"}
        Which of the three.
    xp : module
        Namespace.

    Returns
    -------
    x, squares, spent : array
        After the rounds.
    incurred : array, shape (rounds, learners)
        Losses ``<g_t, x_t>``.
    """
    incurred = []
    for t in range(block.shape[0]):
        g = block[t, ...]
        incurred.append(xp.sum(x * g, axis=-1))
        square = xp.sum(xp.square(g), axis=-1)
        squares = squares + square
        if rule == "adaptive":
            eta = rate / xp.sqrt(xp.where(squares > 0.0, squares, xp.ones_like(squares)))
        else:
            eta = xp.full_like(square, rate / (rounds + t + 1) if rule == "harmonic" else rate)
        spent = spent + 0.5 * eta * square
        x = domain.project(x - eta[:, None] * g, xp=xp)
    return x, squares, spent, xp.stack(incurred)


class OGD(Learner):
    r"""Online gradient descent on a convex set: ``x <- project(x - eta_t g)``.

    Parameters
    ----------
    domain : Domain
        The set, for example ``optlib.geometry.Ball(10)``.
    rate : float, optional
        Constant size of the steps. By default it is :math:`D / \sqrt{2 \sum_{s \le t} |g_s|^2}` with the diameter D.
    strong_convexity : float, optional
        Modulus ``lam`` of the losses: the size is then ``1 / (lam t)``.

    Notes
    -----
    Regret bound: :math:`D^2 / (2 \eta_T) + \sum_t \eta_t |g_t|^2 / 2` with the gradients as they were, which is at most
    :math:`\sqrt 2 D \sqrt{\sum |g_t|^2}` for the default; with ``strong_convexity`` the second term alone, at most
    :math:`G^2 (1 + \log T) / (2 \lambda)`. On an unbounded set a constant rate has a bound for each comparator.

    Cost: O(n) and a projection per round.

    References
    ----------
    .. [1] M. Zinkevich, "Online convex programming and generalized infinitesimal gradient ascent", ICML 2003.
    .. [2] M. Streeter, H. B. McMahan, "Less Regret via Online Conditioning", arXiv:1002.4862.
    .. [3] E. Hazan, "Introduction to Online Convex Optimization", arXiv:1909.05207, Theorem 3.3.

    Examples
    --------
    >>> from optlib.geometry import Ball
    >>> from optlib.online import OGD
    >>> learner = OGD(Ball(2))
    >>> learner.update([3.0, 4.0])
    >>> learner.decide().round(2), round(learner.regret_bound(), 2)
    (array([-0.6, -0.8]), 10.61)
    """

    def __init__(self, domain: Domain, *, rate: float | None = None, strong_convexity: float | None = None) -> None:
        super().__init__(vector_domain(domain).shape[0])
        self.domain = domain
        self.rate, self.strong_convexity = rate, strong_convexity
        self._diameter = domain.diameter
        if rate is not None and strong_convexity is not None:
            raise check.error("rate", rate, "nothing when `strong_convexity` is given", "leave one of them out")
        if strong_convexity is not None:
            modulus = check.scalar("strong_convexity", strong_convexity, low=0.0, low_open=True)
            self._rule, self._size = "harmonic", 1.0 / modulus
        elif rate is not None:
            self._rule, self._size = "constant", check.scalar("rate", rate, low=0.0, low_open=True)
        else:
            require_bounded(self._diameter, "give a constant `rate`, or use CoinBetting, which needs neither")
            self._rule, self._size = "adaptive", self._diameter / math.sqrt(2.0)

    def _initial(self, zeros: Array, xp: Any) -> OGDState:
        return OGDState(zeros + self._domain.center(zeros), zeros[:, 0], zeros[:, 0], 0)

    def _advance(self, state: OGDState, block: Array, xp: Any) -> tuple[OGDState, Array]:
        x, squares, spent, incurred = ogd_rounds(
            block, state.x, state.squares, state.spent, state.rounds, self._domain, self._size, self._rule, xp=xp
        )
        return OGDState(x, squares, spent, state.rounds + block.shape[0]), incurred

    def _bound(self, state: OGDState, comparator: np.ndarray | None) -> Any:
        spent, squares = column(state.spent), column(state.squares)
        if self._rule == "harmonic":
            return spent
        square = self._diameter**2
        if comparator is not None:
            distance = float(np.sum((comparator - to_numpy(self.domain.center())) ** 2))
            square = min(square, distance) if self._rule == "constant" else square
        require_bounded(square, "pass `comparator`")
        eta = self._size if self._rule == "constant" else self._size / np.sqrt(np.where(squares > 0.0, squares, 1.0))
        return np.where(squares > 0.0, 0.5 * square / eta + spent, 0.0)
