"""Portfolios: their losses, the best one in hindsight, and learners for them."""

from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.geometry import Simplex
from optlib.geometry.mirror.quadratic import quadratic_on_simplex
from optlib.online.feedback import Feedback
from optlib.online.hedge import Hedge
from optlib.online.learner import RoundLearner, column


def best_portfolio(relatives: Any, *, tol: float = 1e-10) -> tuple[Array, float]:
    """Return the best constantly rebalanced portfolio in hindsight (BCRP), and minus its logarithmic wealth.

    Parameters
    ----------
    relatives : array, shape (rounds, n)
        Price relatives: what one unit of wealth in each asset becomes in a round.
    tol : float
        The wealth is within the factor ``1 + tol`` per round of the largest possible.

    Returns
    -------
    x : array, shape (n,)
        The weights.
    value : float
        ``-sum log <relatives, x>``.

    Notes
    -----
    Newton's method on the simplex with exact projections in the metric of the Hessian. Stopping: ``max_i mean(r_i /
    <r, x>) <= 1 + tol``, which proves the factor, or no progress at the precision floor.

    Cost: O(rounds n^2 + n^3) for each of about ten iterations.

    Examples
    --------
    >>> from optlib.online import best_portfolio
    >>> x, value = best_portfolio([[2.0, 1.0], [0.5, 1.0]] * 5)
    >>> x.round(6), round(value, 4)
    (array([0.5, 0.5]), -0.5889)
    """
    xp, market = _market(relatives)
    tol = check.scalar("tol", tol, low=0.0)
    rounds, n = market.shape
    if 0 in (rounds, n):
        raise check.error("relatives", f"shape {(rounds, n)}", "at least one round and one asset")
    eps = float(xp.finfo(market.dtype).eps)
    eye = xp.eye(n, dtype=market.dtype, device=market.device)
    x = xp.full_like(market[0, ...], 1.0 / n)
    for _ in range(100):
        ratio = market / (market @ x)[:, None]
        slope = xp.mean(ratio, axis=0)
        if float(xp.max(slope)) <= 1.0 + max(tol, 8.0 * eps):
            break
        hessian = xp.matrix_transpose(ratio) @ ratio / rounds + (n * eps) * eye
        newton = quadratic_on_simplex(hessian @ x + slope, hessian, 1.0, xp=xp) - x
        growth, rise = ratio @ newton, float(xp.sum(slope * newton))
        size = 1.0 / max(1.0, -1.01 * float(xp.min(growth)))
        if float(xp.max(xp.abs(growth))) > 0.1:  # shorter steps gain at least 0.4 rise, but rounding may hide it
            while size > eps and float(xp.mean(xp.log1p(size * growth))) < 0.25 * size * rise:
                size *= 0.5
        if size <= eps:
            break
        x = xp.maximum(x + size * newton, xp.zeros_like(x))
        x = x / xp.sum(x)
    return x, -float(xp.sum(xp.log(market @ x)))


def _market(relatives: Any) -> tuple[Any, Array]:
    """Check price relatives."""
    xp = check.common(relatives=relatives)[0]
    relatives = check.array("relatives", relatives, xp=xp, ndim=2)
    if not bool(xp.all(relatives > 0.0)):
        got, fix = f"an entry {float(xp.min(relatives)):g}", "leave out assets from the round of their end on"
        raise check.error("relatives", got, "positive numbers", fix)
    return xp, relatives


class PortfolioLosses:
    """The losses ``-log <r_t, x>`` of portfolios x: the sum is minus the logarithm of the final wealth.

    Parameters
    ----------
    relatives : array, shape (rounds, n)
        Price relatives: what one unit of wealth in each asset becomes in a round; positive. Costs of trading are not
        modelled.

    Examples
    --------
    >>> from optlib.online import ExponentiatedGradient, PortfolioLosses, play
    >>> market = PortfolioLosses([[2.0, 1.0], [0.5, 1.0]] * 500)
    >>> res = play(ExponentiatedGradient(2), market)
    >>> bool(res.regret <= res.regret_bound), res.comparator.round(6)
    (True, array([0.5, 0.5]))
    """

    def __init__(self, relatives: Any) -> None:
        self._xp, self._relatives = _market(relatives)
        self.like = self._relatives
        self.rounds = int(self._relatives.shape[0])

    def reveal(self, t: int, x: Array) -> Feedback:
        """Return the value and the gradient of the loss of round t (counted from 0).

        Parameters
        ----------
        t : int
            Round.
        x : array, shape (n,) or (learners, n)
            Portfolio.

        Returns
        -------
        Feedback
            With ``value`` and ``gradient``.
        """
        row = self._relatives[t, ...]
        wealth = self._xp.sum(x * row, axis=-1)
        return Feedback(gradient=-row / wealth[..., None], value=-self._xp.log(wealth))

    def best(self, rounds: int) -> tuple[Array, float]:
        """Return the best constantly rebalanced portfolio for the first rounds, and its cumulative loss.

        Parameters
        ----------
        rounds : int
            Number of rounds.

        Returns
        -------
        x : array, shape (n,)
            The weights.
        value : float
            The loss.
        """
        if rounds == 0:
            return Simplex(self._relatives.shape[1]).center(self._relatives), 0.0
        return best_portfolio(self._relatives[:rounds, ...])


class ExponentiatedGradient(Hedge):
    r"""Exponentiated gradient (EG) for portfolios: `Hedge` on the gradients :math:`-r / \langle r, x \rangle`.

    Parameters
    ----------
    n : int
        Number of assets.
    rate : float
        Rate; the small one of the literature by default. For T rounds whose price relatives, scaled to the largest one,
        are at least c, ``c sqrt(8 log(n) / T)`` gives a regret of at most ``sqrt(T log(n) / 2) / c``.

    Notes
    -----
    Regret bound: :math:`\log(n) / \eta + \frac\eta8 \sum_t s_t^2` with the ranges :math:`s_t` of the gradients as they
    were.

    Cost: O(n) per round.

    References
    ----------
    .. [1] D. P. Helmbold, R. E. Schapire, Y. Singer, M. K. Warmuth, "On-Line Portfolio Selection Using Multiplicative
       Updates", Mathematical Finance 8 (1998).

    Examples
    --------
    >>> from optlib.online import ExponentiatedGradient
    >>> learner = ExponentiatedGradient(2)
    >>> learner.update([-1.2, -0.8])
    >>> learner.decide().round(4)
    array([0.505, 0.495])
    """

    def __init__(self, n: int, *, rate: float = 0.05) -> None:
        super().__init__(n, rate=check.scalar("rate", rate, low=0.0, low_open=True))


class PortfolioState(NamedTuple):
    """Weights, ``sum g g'`` and ``sum g`` of ``g = r / <r, x>``, the largest entry of a g, rounds played."""

    x: Array
    products: Array
    moment: Array
    largest: Array
    rounds: int


class UniformPortfolio(RoundLearner):
    r"""The uniform constantly rebalanced portfolio (UCRP), which learns nothing: the baseline.

    Parameters
    ----------
    n : int
        Number of assets.

    Notes
    -----
    Regret bound, for the losses ``-log <r, x>``, any portfolio u and :math:`z_t = \langle r_t, u \rangle / \langle r_t,
    x_t \rangle`: :math:`\sum_t (z_t - 1) - \frac\beta2 (z_t - 1)^2`, with the largest :math:`\beta` for which
    :math:`\log z \le z - 1 - \frac\beta2 (z - 1)^2` as far as some :math:`z_t` can reach. Without ``comparator`` it is
    the maximum over the simplex, a concave quadratic program.

    Cost: O(n^2) per round, for the bound.

    Examples
    --------
    >>> from optlib.online import UniformPortfolio
    >>> learner = UniformPortfolio(2)
    >>> learner.update([-1.2, -0.8])
    >>> learner.decide(), round(learner.regret_bound(), 4), round(learner.regret_bound([0.5, 0.5]), 4)
    (array([0.5, 0.5]), 0.1823, 0.0)
    """

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.domain = Simplex(self.n)

    def _range(self) -> tuple[float, float]:
        """Gradients are negative: no price falls to 0."""
        return -self._limit, -1.0 / self._limit

    def _initial(self, zeros: Array, xp: Any) -> PortfolioState:
        products = zeros[:, :, None] * zeros[:, None, :]
        return PortfolioState(zeros + 1.0 / self.n, products, zeros, zeros[:, 0] + 1.0, 0)

    def _round(self, state: PortfolioState, g: Array, xp: Any) -> PortfolioState:
        ratio = g / xp.sum(state.x * g, axis=-1, keepdims=True)
        products = state.products + ratio[:, :, None] * ratio[:, None, :]
        moment = state.moment + ratio
        largest = xp.maximum(state.largest, xp.max(ratio, axis=-1))
        x = self._weights(products, moment, largest, xp)
        return PortfolioState(x, products, moment, largest, state.rounds + 1)

    def _weights(self, products: Array, moment: Array, largest: Array, xp: Any) -> Array:
        return xp.full_like(moment, 1.0 / self.n)

    def _bound(self, state: PortfolioState, comparator: np.ndarray | None) -> Any:
        products, moment, t = column(state.products), column(state.moment), state.rounds
        beta = _curvature(column(state.largest), np)[:, None]
        linear, metric = (1.0 + beta) * moment, beta[:, :, None] * products
        u = comparator
        if u is None:
            smallest = 1e-14 * max(1.0, float(np.max(metric)))
            u = quadratic_on_simplex(linear, metric + smallest * np.eye(self.n), 1.0, xp=np)
        pull = (metric @ np.broadcast_to(u, moment.shape)[:, :, None])[:, :, 0]
        value = np.sum(linear * u - 0.5 * u * pull, axis=-1) - (1.0 + 0.5 * beta[:, 0]) * t
        if comparator is None:  # what is left to the maximum, by concavity
            slope = linear - pull
            value = value + np.max(slope, axis=-1) - np.sum(slope * u, axis=-1)
        return value


class PortfolioONS(UniformPortfolio):
    r"""Newton's method for portfolios: a quadratic model of the wealth so far, minimised exactly on the simplex.

    Parameters
    ----------
    n : int
        Number of assets.
    delta : float
        The portfolio minimises :math:`\frac12 x'(I + \sum g g') x - \delta (1 + 1/\beta) \sum \langle g, x \rangle`
        with :math:`g = r / \langle r, x_t \rangle`. With 1 this is a sum of models that touch the losses from below.
    beta : float, optional
        Curvature of the models; by default the largest one that the rounds so far allow.
    mix : float
        Weight of the uniform portfolio that is mixed in.

    Notes
    -----
    Regret bound: as that of `UniformPortfolio`, with the portfolios as they were; for ``delta=1`` logarithmic in the
    number of rounds. The experiments in the literature (a wealth of 109.19 on NYSE(O)) have ``delta=0.125, beta=1``:
    this bets on the assets that have lost, has no such bound, and is far behind in a market with a trend.

    Cost: O(n^3) per round, for the exact projection; inexact ones lose wealth.

    References
    ----------
    .. [1] A. Agarwal, E. Hazan, S. Kale, R. E. Schapire, "Algorithms for Portfolio Management based on the Newton
       Method", ICML 2006.

    Examples
    --------
    >>> from optlib.online import PortfolioONS
    >>> learner = PortfolioONS(2)
    >>> learner.update([-1.02, -0.98])
    >>> learner.decide().round(3)
    array([0.52, 0.48])
    """

    def __init__(self, n: int, *, delta: float = 1.0, beta: float | None = None, mix: float = 0.0) -> None:
        super().__init__(n)
        self.delta = check.scalar("delta", delta, low=0.0, low_open=True)
        self.beta = beta if beta is None else check.scalar("beta", beta, low=0.0, low_open=True)
        self.mix = check.scalar("mix", mix, low=0.0, high=1.0)

    def _weights(self, products: Array, moment: Array, largest: Array, xp: Any) -> Array:
        metric = products + xp.eye(self.n, dtype=moment.dtype, device=moment.device)
        beta = _curvature(largest, xp)[:, None] if self.beta is None else self.beta
        x = quadratic_on_simplex(self.delta * (1.0 + 1.0 / beta) * moment, metric, 1.0, xp=xp)
        return (1.0 - self.mix) * x + self.mix / self.n


def _curvature(z: Array, xp: Any) -> Array:
    """Largest beta with ``log w <= w - 1 - beta (w - 1)^2 / 2`` for all w up to z."""
    d = xp.maximum(z - 1.0, xp.full_like(z, 1e-4))  # 1 - 2 d / 3 + ..., decreasing
    return 2.0 * (d - xp.log1p(d)) / xp.square(d)
