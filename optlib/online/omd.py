"""Online mirror descent, plain and dual-stabilised."""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like
from optlib.geometry import MirrorMap
from optlib.online.domains import vector_mirror
from optlib.online.learner import Learner, RoundLearner, column, moved


class OMDState(NamedTuple):
    """Points, their dual points, ``sum |g_t|^2``, ``sum eta_t |g_t|^2 / (2 sigma)``, the last rate, rounds played."""

    x: Array
    theta: Array
    squares: Array
    spent: Array
    rate: Array
    rounds: int


class _MirrorLearner(Learner, ABC):
    """What the learners with a mirror map share."""

    def __init__(self, mirror: MirrorMap, n: int) -> None:
        super().__init__(n)
        self.mirror = vector_mirror(mirror, self.n)
        self.domain = mirror.domain(self.n)
        self._sigma = mirror.sigma(self.n)

    def _initial(self, zeros: Array, xp: Any) -> Any:
        self._map = moved(self.mirror, zeros)
        return self._first(zeros, self._map.step_dual(zeros, zeros, 1.0, xp=xp), xp)

    @abstractmethod
    def _first(self, zeros: Array, theta: Array, xp: Any) -> Any: ...

    def _distance(self, comparator: np.ndarray | None, size: float) -> float:
        """``psi(u) - min psi`` of the comparator, or the bound for all of them."""
        if comparator is None:
            if math.isinf(size):
                got = "nothing"
                raise check.error("comparator", got, f"a decision, as {self.mirror!r} has infinite range", "pass one")
            return size
        u = asarray_like(comparator, self._state.x)
        center = self._map.center(u, xp=self._xp)
        gap = self._map.value(u, xp=self._xp) - self._map.value(center, xp=self._xp)
        return max(float(gap), float(self._map.bregman(u, center, xp=self._xp)), 0.0)


class OMD(_MirrorLearner, RoundLearner):
    r"""Online mirror descent: ``x <- argmin eta_t <g, z> + B(z; x)`` over the set of the mirror map.

    Parameters
    ----------
    mirror : MirrorMap
        The geometry, for example ``optlib.geometry.EuclideanBall()``.
    n : int
        Dimension.
    rate : float, optional
        Constant rate. By default the rate follows the gradients,
        :math:`\sqrt{\sigma B / \sum_{s \le t} |g_s|_*^2}` with the largest divergence B, which must be finite.

    Raises
    ------
    ValueError
        For a rate that changes together with a map whose divergence is not bounded (entropies, barriers): this
        combination can have linear regret. `DualStabilizedOMD` and `FTRL` are safe for all maps.

    Notes
    -----
    Regret bound: :math:`B / \eta_T + \sum_t \eta_t |g_t|_*^2 / (2 \sigma)` with the gradients as they were; for a
    constant rate ``B(u; x_1)`` takes the place of B.

    Cost: a mirror step per round.

    References
    ----------
    .. [1] A. Beck, M. Teboulle, "Mirror descent and nonlinear projected subgradient methods for convex optimization",
       Operations Research Letters 31 (2003).
    .. [2] F. Orabona, "A Modern Introduction to Online Learning", arXiv:1912.13213, Theorem 6.10.
    .. [3] F. Orabona, D. Pal, "Scale-free online learning", Theoretical Computer Science 716 (2018), on linear regret.

    Examples
    --------
    >>> from optlib.geometry import Entropy
    >>> from optlib.online import OMD
    >>> learner = OMD(Entropy(), 2, rate=0.7)
    >>> learner.update([0.0, 1.0])
    >>> learner.decide().round(3)
    array([0.668, 0.332])
    """

    def __init__(self, mirror: MirrorMap, n: int, *, rate: float | None = None) -> None:
        super().__init__(mirror, n)
        self.rate = rate if rate is None else check.scalar("rate", rate, low=0.0, low_open=True)
        self._largest = 0.5 * mirror.diameter(self.n) ** 2
        if rate is None and math.isinf(self._largest):
            raise check.error(
                "rate", f"a rate that changes, with {mirror!r}", "a constant rate, as the divergence is not bounded",
                "use DualStabilizedOMD or FTRL, which are safe with changing rates",
            )  # fmt: skip

    def _first(self, zeros: Array, theta: Array, xp: Any) -> OMDState:
        zero = zeros[:, 0]
        return OMDState(self._map.grad_conj(theta, xp=xp), theta, zero, zero, zero, 0)

    def _round(self, state: OMDState, g: Array, xp: Any) -> OMDState:
        square = xp.square(self._map.dual_norm(g, xp=xp))
        squares = state.squares + square
        if self.rate is None:
            eta = math.sqrt(self._sigma * self._largest) / xp.sqrt(xp.where(squares > 0.0, squares, 1.0))
        else:
            eta = xp.full_like(squares, self.rate)
        theta = self._map.step_dual(state.theta, g, eta, xp=xp)
        spent = state.spent + eta * square / (2.0 * self._sigma)
        return OMDState(self._map.grad_conj(theta, xp=xp), theta, squares, spent, eta, state.rounds + 1)

    def _bound(self, state: OMDState, comparator: np.ndarray | None) -> Any:
        size = self._largest if self.rate is None else self._distance(comparator, self.mirror.range(self.n))
        begun = column(state.squares) > 0.0
        return np.where(begun, size / np.where(begun, column(state.rate), 1.0) + column(state.spent), 0.0)


class DualStabilizedOMD(_MirrorLearner, RoundLearner):
    r"""Mirror descent with a decreasing rate that is safe on every map: each dual step is mixed with the start.

    Parameters
    ----------
    mirror : MirrorMap
        The geometry.
    n : int
        Dimension.
    size : float, optional
        Bound on ``psi(u) - min psi`` for the comparators of interest; by default the range of the map.
    scale : float
        A guess of the largest dual norm of a gradient. The bound holds whatever it is.

    Notes
    -----
    The rate is :math:`\eta_t = \sqrt{\sigma S / (G^2 + \sum_{s<t} |g_s|_*^2)}` with the size S and the scale G, and
    :math:`\nabla\psi(x_{t+1}) = (\eta_{t+1}/\eta_t) (\nabla\psi(x_t) - \eta_t g_t) + (1 - \eta_{t+1}/\eta_t)
    \nabla\psi(x_1)`.

    Regret bound: :math:`S / \eta_{T+1} + \sum_t \eta_t |g_t|_*^2 / (2 \sigma)`.

    Cost: a mirror step per round.

    References
    ----------
    .. [1] H. Fang, N. Harvey, V. Portella, M. Friedlander, "Online mirror descent and dual averaging: keeping pace in
       the dynamic case", JMLR 23 (2022), Theorem 3.

    Examples
    --------
    >>> from optlib.geometry import Entropy
    >>> from optlib.online import DualStabilizedOMD
    >>> learner = DualStabilizedOMD(Entropy(), 2)
    >>> learner.update([0.0, 1.0])
    >>> learner.decide().round(3)
    array([0.643, 0.357])
    """

    def __init__(self, mirror: MirrorMap, n: int, *, size: float | None = None, scale: float = 1.0) -> None:
        super().__init__(mirror, n)
        self.size = finite_size(mirror, self.n, size)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)

    def _eta(self, squares: Array, xp: Any) -> Array:
        return math.sqrt(self._sigma * self.size) / xp.sqrt(squares + self.scale**2)

    def _first(self, zeros: Array, theta: Array, xp: Any) -> OMDState:
        zero = zeros[:, 0]
        self._start = theta
        return OMDState(self._map.grad_conj(theta, xp=xp), theta, zero, zero, self._eta(zero, xp), 0)

    def _round(self, state: OMDState, g: Array, xp: Any) -> OMDState:
        square = xp.square(self._map.dual_norm(g, xp=xp))
        squares = state.squares + square
        eta, following = state.rate, self._eta(squares, xp)
        keep = (following / eta)[:, None]
        theta = keep * (state.theta - eta[:, None] * g) + (1.0 - keep) * self._start
        theta = self._map.step_dual(theta, xp.zeros_like(g), 1.0, xp=xp)
        spent = state.spent + eta * square / (2.0 * self._sigma)
        return OMDState(self._map.grad_conj(theta, xp=xp), theta, squares, spent, following, state.rounds + 1)

    def _bound(self, state: OMDState, comparator: np.ndarray | None) -> Any:
        size = self.size if comparator is None else self._distance(comparator, self.size)
        return size / column(state.rate) + column(state.spent)


def finite_size(mirror: MirrorMap, n: int, size: float | None) -> float:
    """Return the size of the comparators that a rate is tuned for, by default the range of the map."""
    if size is not None:
        return check.scalar("size", size, low=0.0, low_open=True)
    found = mirror.range(n)
    if math.isinf(found):
        raise check.error(
            "size", f"nothing, and {mirror!r} has infinite range", "a bound on psi(u) - min psi",
            "for example n log(T) for LogBarrier",
        )  # fmt: skip
    return found or 1.0
