"""Implicit updates: learners of linear predictions that use the loss itself and not only its slope."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.geometry import Euclidean, MirrorMap
from optlib.online._models import PROXIMAL, ModelLoss, bisect, model_loss
from optlib.online.examples import ExampleLearner
from optlib.online.learner import column
from optlib.online.omd import _MirrorLearner, finite_size


class ImplicitState(NamedTuple):
    """Points, dual points, weights of the regulariser: used last and next; sum of the gaps, rounds played."""

    x: Array
    theta: Array
    used: Array
    weight: Array
    spent: Array
    rounds: int


class _Implicit(ExampleLearner, _MirrorLearner):
    """What the two learners share: the loss of a linear prediction."""

    def __init__(self, mirror: MirrorMap, n: int, loss: str, tube: float) -> None:
        super().__init__(mirror, n)
        self.loss, self.tube = loss, tube
        self._loss: ModelLoss = model_loss(loss, tube, PROXIMAL)


class ImplicitFTRL(_Implicit):
    r"""Generalised implicit follow the regularised leader, for losses :math:`\phi(\langle a, x \rangle)` of examples.

    It hardly minds a bad step size: the proximal form never goes beyond the minimiser of the loss of the round.

    Parameters
    ----------
    mirror : MirrorMap
        The geometry.
    n : int
        Number of features.
    loss : {"squared", "absolute", "hinge", "logistic"}
        The loss: :math:`(p - y)^2 / 2`, :math:`|p - y|`, or for labels -1 and 1 :math:`\max(1 - y p, 0)`,
        :math:`\log(1 + e^{-y p})`.
    form : {"proximal", "truncated", "mirror-prox", "linear"}
        How the dual step z is chosen: exactly, for the linear model of the loss cut off at 0, by a second gradient at
        the point that the first one leads to, or as the gradient.
    tube : float
        Errors of the absolute loss up to this are free (the eps-insensitive loss).
    rate : float, optional
        Constant rate. By default the weight :math:`\lambda_t = 1 / \eta_t` of the regulariser grows by
        :math:`\delta_t / S`, with the bound S on ``psi(u) - min psi`` and :math:`\delta_t` from below.
    size : float, optional
        The number S; by default the range of the map.
    scale : float
        A guess of the largest dual norm of a gradient, for the first weight. The bound holds whatever it is.

    Notes
    -----
    Regret bound: :math:`\lambda_T (\psi(u) - \min \psi) + \sum_t \delta_t` with :math:`\delta_t =
    \lambda_t \psi^*((\theta_t - z_t) / \lambda_t) - \lambda_t \psi^*(\theta_t / \lambda_t) + f_t(x_t) + f_t^*(z_t)`,
    all as it was. The gap :math:`\delta_t` is never larger than that of the gradient, which is at most
    :math:`|g_t|_*^2 / (2 \lambda_t \sigma)`.

    Give it examples, ``Feedback(features=a, target=y)``, as `LinearModelLosses` does.

    Cost: O(n) per round on the whole space; on other sets about ninety times ``grad_conj``, to solve for one number.

    References
    ----------
    .. [1] K. Chen, F. Orabona, "Generalized Implicit Follow-The-Regularized-Leader", ICML 2023, arXiv:2306.00201.
    .. [2] H. Asi, J. Duchi, "Stochastic (approximate) proximal point methods", SIAM J. Optimization 29 (2019).

    Examples
    --------
    >>> from optlib.geometry import Euclidean
    >>> from optlib.online import Feedback, ImplicitFTRL
    >>> learner = ImplicitFTRL(Euclidean(), 2, loss="absolute", rate=100.0)
    >>> learner.update(Feedback(features=[1.0, 0.0], target=0.5))
    >>> learner.decide()
    array([0.5, 0. ])
    """

    def __init__(
        self,
        mirror: MirrorMap,
        n: int,
        *,
        loss: str = "squared",
        form: str = "proximal",
        tube: float = 0.0,
        rate: float | None = None,
        size: float | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__(mirror, n, loss, tube)
        self.form = check.option("form", form, ("proximal", "truncated", "mirror-prox", "linear"))
        self.rate = rate if rate is None else check.scalar("rate", rate, low=0.0, low_open=True)
        self.size = finite_size(mirror, self.n, size) if rate is None or size is not None else mirror.range(self.n)
        self.scale = check.scalar("scale", scale, low=0.0, low_open=True)
        self._begin = self.scale / math.sqrt(self._sigma * self.size) if rate is None else 1.0 / rate

    def _first(self, zeros: Array, theta: Array, xp: Any) -> ImplicitState:
        weight = zeros[:, 0] + self._begin
        return ImplicitState(self._map.grad_conj(zeros, xp=xp), zeros, weight, weight, zeros[:, 0], 0)

    def _example(self, state: ImplicitState, a: Array, y: Array, xp: Any) -> ImplicitState:
        weight, theta, loss = state.weight, state.theta, self._loss
        p = xp.sum(a * state.x, axis=-1)
        value, slope = loss.value(p, y, xp), loss.slope(p, y, xp)

        def dual(s: Array) -> Array:
            return (theta - s[:, None] * a) / weight[:, None]

        def predict(s: Array) -> Array:
            return xp.sum(a * self._map.grad_conj(dual(s), xp=xp), axis=-1)

        def rise(s: Array) -> Array:
            return weight * (self._map.conj(dual(s), xp=xp) - self._map.conj(theta / weight[:, None], xp=xp))

        if self.form == "truncated":  # the conjugate of the cut model along its slope
            s = self._truncated(p, value, slope, a, weight, predict, xp)
            gap = rise(s) + value + s * p - _ratio(s, slope, xp) * value
        else:
            s = slope
            if self.form == "proximal":
                s = self._proximal(p, slope, a, weight, y, predict, xp)
            gap = rise(s) + value + loss.conj(s, y, xp)
            if self.form == "mirror-prox":
                other = loss.slope(predict(slope), y, xp)
                better = rise(other) + value + loss.conj(other, y, xp)
                s, gap = xp.where(better < gap, other, s), xp.minimum(better, gap)
        gap = xp.maximum(gap, xp.zeros_like(gap))
        following = weight if self.rate is not None else weight + gap / self.size
        theta = theta - s[:, None] * a
        x = self._map.grad_conj(theta / following[:, None], xp=xp)
        return ImplicitState(x, theta, weight, following, state.spent + gap, state.rounds + 1)

    def _proximal(self, p: Array, slope: Array, a: Array, weight: Array, y: Array, predict: Any, xp: Any) -> Array:
        """Slope of the loss at the point that it leads to."""
        if type(self._map) is Euclidean:
            return whole_space_slope(self._loss, p, a, weight, y, xp)
        return bisect(lambda s: self._loss.slope(predict(s), y, xp) - s, slope, xp)

    def _truncated(self, p: Array, value: Array, slope: Array, a: Array, weight: Array, predict: Any, xp: Any) -> Array:
        """The part of the slope at which the linear model reaches 0."""
        if type(self._map) is Euclidean:
            reach = slope * xp.sum(xp.square(a), axis=-1) / weight
            part = _ratio(value, slope * reach, xp)
            return slope * xp.minimum(part, xp.ones_like(part))
        return bisect(lambda s: (value + slope * (predict(s) - p)) * slope, slope, xp)

    def _bound(self, state: ImplicitState, comparator: np.ndarray | None) -> Any:
        return self._distance(comparator, self.size) * column(state.used) + column(state.spent)


class AdaImplicit(_Implicit):
    r"""Implicit mirror descent whose rate follows the variation of the losses.

    If all losses are the same, its regret stays bounded.

    Parameters
    ----------
    mirror : MirrorMap
        A map of bounded divergence: Euclidean, quadratic or p-norm on a bounded set.
    n : int
        Number of features.
    loss : {"squared", "absolute", "hinge", "logistic"}
        The loss of a prediction, as for `ImplicitFTRL`.
    tube : float
        Errors of the absolute loss up to this are free.

    Notes
    -----
    :math:`x_{t+1} = \arg\min f_t(x) + \lambda_t B(x; x_t)`, with the weight growing by :math:`\delta_t / B`, where B is
    the largest divergence and :math:`\delta_t = f_t(x_t) - f_t(x_{t+1}) - \lambda_t B(x_{t+1}; x_t)`. The first weight
    is nearly 0, which gives the nearest minimiser.

    Regret bound: :math:`\lambda_T B + \sum_t \delta_t`, which is at most :math:`2 \sum_t \delta_t` and so at most
    :math:`2 (f_1(x_1) - f_T(x_{T+1}) + \sum_t \max_x (f_t(x) - f_{t-1}(x)))`.

    Give it examples, ``Feedback(features=a, target=y)``. Cost: O(n) per round and about ninety mirror steps, to solve
    for one number.

    References
    ----------
    .. [1] N. Campolongo, F. Orabona, "Temporal Variability in Implicit Online Learning", NeurIPS 2020, Algorithm 2.

    Examples
    --------
    >>> from optlib.geometry import EuclideanBall
    >>> from optlib.online import AdaImplicit, Feedback
    >>> learner = AdaImplicit(EuclideanBall(), 2, loss="absolute")
    >>> learner.update(Feedback(features=[1.0, 0.0], target=0.5))
    >>> learner.decide().round(6)
    array([0.5, 0. ])
    """

    def __init__(self, mirror: MirrorMap, n: int, *, loss: str = "squared", tube: float = 0.0) -> None:
        super().__init__(mirror, n, loss, tube)
        self._largest = 0.5 * mirror.diameter(self.n) ** 2
        if math.isinf(self._largest):
            fix = "use ImplicitFTRL, which is safe on all maps"
            raise check.error("mirror", repr(mirror), "a map of bounded divergence, as the rate changes", fix)

    def _first(self, zeros: Array, theta: Array, xp: Any) -> ImplicitState:
        zero = zeros[:, 0]
        return ImplicitState(self._map.grad_conj(theta, xp=xp), theta, zero, zero, zero, 0)

    def _example(self, state: ImplicitState, a: Array, y: Array, xp: Any) -> ImplicitState:
        loss, x = self._loss, state.x
        p = xp.sum(a * x, axis=-1)
        value, slope = loss.value(p, y, xp), loss.slope(p, y, xp)
        least = 1e-9 * self._map.dual_norm(slope[:, None] * a, xp=xp) / math.sqrt(self._largest or 1.0)
        begun = (state.weight > 0.0) | (least > 0.0)
        weight = xp.where(state.weight > 0.0, state.weight, xp.where(begun, least, xp.ones_like(least)))

        def step(s: Array) -> Array:
            return self._map.step_dual(state.theta, a, s / weight, xp=xp)

        def predict(s: Array) -> Array:
            return xp.sum(a * self._map.grad_conj(step(s), xp=xp), axis=-1)

        s = bisect(lambda s: loss.slope(predict(s), y, xp) - s, slope, xp)
        theta = step(s)
        after = self._map.grad_conj(theta, xp=xp)
        moved = weight * self._map.bregman(after, x, xp=xp)
        gap = value + loss.conj(s, y, xp) - s * xp.sum(a * after, axis=-1) - moved
        gap = xp.maximum(gap, xp.zeros_like(gap))
        used = xp.where(begun, weight, xp.zeros_like(weight))
        following = used + gap / (self._largest or 1.0)
        return ImplicitState(after, theta, used, following, state.spent + gap, state.rounds + 1)

    def _bound(self, state: ImplicitState, comparator: np.ndarray | None) -> Any:
        return self._largest * column(state.used) + column(state.spent)


def whole_space_slope(loss: Any, p: Array, a: Array, weight: Array, y: Array, xp: Any) -> Array:
    """Slope at the proximal point on the whole space, where the prediction moves by ``-s |a|^2 / weight``."""
    c = xp.sum(xp.square(a), axis=-1) / weight
    moves = c > 0.0
    return xp.where(moves, loss.prox_slope(p, xp.where(moves, c, xp.ones_like(c)), y, xp), loss.slope(p, y, xp))


def _ratio(a: Array, b: Array, xp: Any) -> Array:
    """``a / b``, and 1 where both vanish or b does."""
    there = b != 0.0
    return xp.where(there, a / xp.where(there, b, xp.ones_like(b)), xp.ones_like(b))
