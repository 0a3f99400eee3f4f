"""MetaGrad: Newton steps of many learning rates, which adapts to curvature without knowing it."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, linalg, to_numpy
from optlib.geometry import Domain
from optlib.geometry.mirror.entropy import softmax
from optlib.online.domains import metric_domain, metric_step
from optlib.online.learner import ScaledLearner, column


class MetaGradState(NamedTuple):
    """Points; of the experts (learners, rates, ...) points, metrics, log-weights, terms of the bound; sums, rounds.

    ``products`` is ``sum g g'``, ``moment`` is ``sum <x, g> g`` and ``squares`` is ``sum <x, g>^2``.
    """

    x: Array
    experts: Array
    metric: Array
    weights: Array
    spent: Array
    products: Array
    moment: Array
    squares: Array
    rounds: int


class MetaGrad(ScaledLearner):
    r"""MetaGrad with full matrices: regret that follows the curvature of the losses, which it need not know.

    Parameters
    ----------
    domain : Ball, Box or Simplex
        The bounded set; a ball has its middle at the origin.
    rounds : int
        Number of rounds T that the grid of rates is made for.
    scale : float
        Bound G on the Euclidean norms of the gradients; a larger one is refused.

    Notes
    -----
    The rates are :math:`\eta_i = 2^{-i} / (5 D G)` for i up to :math:`\lceil \frac12 \log_2 T \rceil`. Each has an
    expert that makes online Newton steps on :math:`-\eta \langle x_t - z, g_t \rangle + \eta^2 \langle x_t - z, g_t
    \rangle^2`, and the decision is their average with weights that are tilted to the large rates.

    Regret bound, for a comparator u: the least over the rates of :math:`\eta_i V(u) + \frac1{\eta_i} (\log
    \frac1{\pi_i} + \frac{|u - x_1|^2}{2 D^2} + \frac12 \sum_t h_{t,i}' A_{t,i}^{-1} h_{t,i})` with :math:`V(u) = \sum_t
    \langle x_t - u, g_t \rangle^2`, the prior weights :math:`\pi_i`, the gradients h and the metrics A of the experts
    as they were: of the order :math:`\sqrt{V(u) n \log T}`, which is logarithmic for exp-concave losses. Without
    ``comparator`` V is bounded by :math:`D^2 \sum_t |g_t|^2`.

    Cost: O(n^3 log T) per round, for exact projections.

    References
    ----------
    .. [1] T. van Erven, W. M. Koolen, "MetaGrad: Multiple Learning Rates in Online Learning", NeurIPS 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.geometry import Ball
    >>> from optlib.online import MetaGrad, QuadraticLosses, play
    >>> losses = QuadraticLosses(np.tile([0.3, 0.4], (300, 1)), Ball(2))
    >>> res = play(MetaGrad(Ball(2), rounds=300, scale=2.0), losses)
    >>> bool(res.regret <= res.regret_bound), bool(res.regret < 5.0)
    (True, True)
    """

    def __init__(self, domain: Domain, *, rounds: int, scale: float) -> None:
        self.domain = metric_domain(domain)
        super().__init__(domain.shape[0])
        self.horizon = check.scalar("rounds", rounds, low=1, integer=True)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        self._diameter = domain.diameter or 1.0
        index = np.arange(math.ceil(0.5 * math.log2(self.horizon)) + 1)
        self._rates = 0.5**index / (5.0 * self._diameter * self.scale)
        prior = 1.0 / ((index + 1.0) * (index + 2.0))
        self._prior = np.log(prior / np.sum(prior))

    def _initial(self, zeros: Array, xp: Any) -> MetaGradState:
        x, zero = zeros + self._domain.center(zeros), zeros[:, 0]
        rates = asarray_like(self._rates, zeros)
        many = zeros[:, :1] + 0.0 * rates
        eye = xp.eye(self.n, dtype=zeros.dtype, device=zeros.device) / self._diameter**2
        experts = x[:, None, :] + many[:, :, None]
        products = zeros[:, :, None] * zeros[:, None, :]
        weights = many + asarray_like(self._prior, zeros)
        return MetaGradState(x, experts, many[:, :, None, None] + eye, weights, many, products, zeros, zero, 0)

    def _round(self, state: MetaGradState, g: Array, xp: Any) -> MetaGradState:
        rates = asarray_like(self._rates, g)
        ahead = xp.sum((state.experts - state.x[:, None, :]) * g[:, None, :], axis=-1)
        weights = state.weights - rates * ahead * (1.0 + rates * ahead)
        slope = (rates * (1.0 + 2.0 * rates * ahead))[:, :, None] * g[:, None, :]
        products = g[:, :, None] * g[:, None, :]
        metric = state.metric + 2.0 * xp.square(rates)[:, None, None] * products[:, None, :, :]
        newton = linalg.solve(metric, slope[..., None], xp=xp, check=False)[..., 0]
        theta = (metric @ state.experts[..., None])[..., 0] - slope
        experts = metric_step(self._domain, metric, theta, xp)
        x = xp.sum(softmax(weights + xp.log(rates), 1.0, xp=xp)[:, :, None] * experts, axis=1)
        own = xp.sum(state.x * g, axis=-1)
        return MetaGradState(
            x,
            experts,
            metric,
            weights,
            state.spent + 0.5 * xp.sum(slope * newton, axis=-1),
            state.products + products,
            state.moment + own[:, None] * g,
            state.squares + xp.square(own),
            state.rounds + 1,
        )

    def _bound(self, state: MetaGradState, comparator: np.ndarray | None) -> Any:
        products = column(state.products)
        if comparator is None:
            far = self._diameter
            variance = far**2 * np.trace(products, axis1=-2, axis2=-1)
        else:
            far = float(np.linalg.norm(comparator - to_numpy(self.domain.center())))
            variance = products @ comparator @ comparator - 2.0 * column(state.moment) @ comparator
            variance = np.maximum(variance + column(state.squares), 0.0)
        price = column(state.spent) - self._prior + 0.5 * (far / self._diameter) ** 2
        bound = np.min(self._rates * variance[:, None] + price / self._rates, axis=-1)
        return bound if state.rounds else 0.0
