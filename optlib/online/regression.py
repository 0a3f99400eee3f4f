"""Online regression: ridge, Vovk-Azoury-Warmuth, and follow the regularised leader for generalised linear models."""

from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, linalg
from optlib.online._models import SMOOTH, Squared, model_loss
from optlib.online.examples import ExampleLearner
from optlib.online.learner import column

REFRESH = 10_000  # rounds between two inversions from scratch


class RidgeState(NamedTuple):
    """Coefficients, ``A = reg I + sum a a'``, its inverse, ``sum y a``, a term of the bound, rounds played."""

    x: Array
    metric: Array
    inverse: Array
    moment: Array
    spent: Array
    rounds: int


class OnlineRidge(ExampleLearner):
    r"""Online ridge regression: the least squares coefficients of the examples so far.

    Parameters
    ----------
    n : int
        Number of features.
    reg : float
        Weight of ``|x|^2 / 2`` in the sum of the losses.

    Notes
    -----
    Regret bound, for the losses :math:`(\langle a, x \rangle - y)^2 / 2`: :math:`\frac{\lambda}2 |u|^2 + \frac12 \sum_t
    e_t^2 \frac{h_t}{1 + h_t}` with the errors :math:`e_t` as they were and :math:`h_t = a_t' A_{t-1}^{-1} a_t`, an
    identity for the best u of the sum of losses and penalty. For errors that behave like noise of variance
    :math:`\sigma^2` the second term is about :math:`\frac12 \sigma^2 n \log T`; targets that are far from linear can
    make it large, and `VovkAzouryWarmuth` is then the safe choice.

    Give it examples, ``Feedback(features=a, target=y)``. Cost: O(n^2) per round.

    References
    ----------
    .. [1] H. Zhao, D. Zhou, J. He, Q. Gu, "Bandit Learning with General Function Classes: Heteroscedastic Noise and
       Variance-dependent Regret Bounds", arXiv:2202.13603 (follow the regularised leader for linear models).
    .. [2] N. Cesa-Bianchi, G. Lugosi, "Prediction, Learning, and Games", 2006, section 11.7.

    Examples
    --------
    >>> from optlib.online import Feedback, OnlineRidge
    >>> learner = OnlineRidge(2)
    >>> learner.update(Feedback(features=[1.0, 0.0], target=2.0))
    >>> learner.decide()
    array([1., 0.])
    """

    _loss = Squared()

    def __init__(self, n: int, *, reg: float = 1.0) -> None:
        super().__init__(n)
        self.reg = check.scalar("reg", reg, low=0.0, low_open=True)

    def _initial(self, zeros: Array, xp: Any) -> RidgeState:
        eye = zeros[:, :, None] + xp.eye(self.n, dtype=zeros.dtype, device=zeros.device)
        return RidgeState(zeros, self.reg * eye, eye / self.reg, zeros, zeros[:, 0], 0)

    def _add(self, inverse: Array, a: Array, xp: Any) -> tuple[Array, Array]:
        """Inverse after ``a a'`` was added to the matrix, and ``a' inverse a`` before."""
        turned = (inverse @ a[:, :, None])[..., 0]
        lever = xp.sum(a * turned, axis=-1)
        return inverse - turned[:, :, None] * (turned / (1.0 + lever)[:, None])[:, None, :], lever

    def _example(self, state: RidgeState, a: Array, y: Array, xp: Any) -> RidgeState:
        inverse, lever = self._add(state.inverse, a, xp)
        metric, moment = state.metric + a[:, :, None] * a[:, None, :], state.moment + y[:, None] * a
        if (state.rounds + 1) % REFRESH == 0:
            inverse = linalg.inv(metric, xp=xp, check=False)
        spent = state.spent + self._price(state, a, y, lever, xp)
        x = (inverse @ moment[:, :, None])[..., 0]
        return RidgeState(x, metric, inverse, moment, spent, state.rounds + 1)

    def _price(self, state: RidgeState, a: Array, y: Array, lever: Array, xp: Any) -> Array:
        """Term of the bound."""
        return 0.5 * xp.square(xp.sum(a * state.x, axis=-1) - y) * lever / (1.0 + lever)

    def _bound(self, state: RidgeState, comparator: np.ndarray | None) -> Any:
        return penalty(self.reg, comparator) + column(state.spent)


class VovkAzouryWarmuth(OnlineRidge):
    r"""The forecaster of Vovk, Azoury and Warmuth: ridge regression that counts the coming features as seen.

    Its regret is logarithmic for all bounded targets, with no bound on the coefficients.

    Parameters
    ----------
    n : int
        Number of features.
    reg : float
        Weight of ``|x|^2 / 2`` in the sum of the losses.

    Notes
    -----
    It must see the features before it decides: ``decide(features)`` (`play` does so, with `LinearModelLosses`). The
    prediction is :math:`\langle a_t, A_t^{-1} \sum_{s<t} y_s a_s \rangle` with :math:`A_t = \lambda I + \sum_{s \le t}
    a_s a_s'`.

    Regret bound, for the losses :math:`(\langle a, x \rangle - y)^2 / 2`: :math:`\frac\lambda2 |u|^2 + \frac12 \sum_t
    y_t^2 a_t' A_t^{-1} a_t`, at most :math:`\frac\lambda2 |u|^2 + \frac12 Y^2 \log\det(A_T / \lambda)` for targets up
    to Y.

    Cost: O(n^2) per round.

    References
    ----------
    .. [1] V. Vovk, "Competitive On-line Statistics", International Statistical Review 69 (2001).
    .. [2] K. S. Azoury, M. K. Warmuth, "Relative Loss Bounds for On-Line Density Estimation with the Exponential Family
       of Distributions", Machine Learning 43 (2001).

    Examples
    --------
    >>> from optlib.online import Feedback, VovkAzouryWarmuth
    >>> learner = VovkAzouryWarmuth(1)
    >>> learner.update(Feedback(features=[1.0], target=3.0))
    >>> learner.decide([1.0])
    array([1.])
    """

    foresees = True

    def decide(self, features: Any = None) -> Array:
        """Return the coefficients for the coming round.

        Parameters
        ----------
        features : array, shape (n,) or (learners, n), optional
            The features of the coming example; without them the coefficients of ridge regression.

        Returns
        -------
        array, shape (n,) or (learners, n)
            The coefficients.
        """
        if self._state is None:
            self.start()
        if features is not None:
            xp, state = self._xp, self._state
            a = self._convert(features, self._shape)
            inverse = self._add(state.inverse, a if self._batch else a[None, :], xp)[0]
            self._state = state._replace(x=(inverse @ state.moment[:, :, None])[..., 0])
        return super().decide()

    def _price(self, state: RidgeState, a: Array, y: Array, lever: Array, xp: Any) -> Array:
        return 0.5 * xp.square(y) * lever / (1.0 + lever)


class GLMState(NamedTuple):
    """Coefficients, the examples so far, sum of the losses, lower bound of the regularised sum, rounds played."""

    x: Array
    features: Array
    targets: Array
    loss: Array
    least: Array
    rounds: int


class GLMFTRL(ExampleLearner):
    r"""Follow the regularised leader for generalised linear models: the maximum likelihood fit so far, with a penalty.

    Parameters
    ----------
    n : int
        Number of features.
    loss : {"logistic", "poisson"}
        The loss of the predictor :math:`p = \langle a, x \rangle`: :math:`\log(1 + e^{-y p})` for labels -1 and 1,
        :math:`e^p - y p` for counts. For the linear model it is `OnlineRidge`.
    reg : float
        Weight of ``|x|^2 / 2`` in the sum of the losses.

    Notes
    -----
    The fit is by Newton's method from the last one, to the precision of the arithmetic.

    Regret bound: :math:`\frac\lambda2 |u|^2 + \sum_t f_t(x_t) - \min_x (\frac\lambda2 |x|^2 + \sum_t f_t(x))`, an
    identity for the best u; the minimum is bounded from below by strong convexity.

    Give it examples, ``Feedback(features=a, target=y)``. Cost: O(t n^2) for each of about two Newton steps in round t,
    and the examples are kept: for long streams use `ONS`.

    References
    ----------
    .. [1] H. Zhao, D. Zhou, J. He, Q. Gu, "Bandit Learning with General Function Classes: Heteroscedastic Noise and
       Variance-dependent Regret Bounds", arXiv:2202.13603.

    Examples
    --------
    >>> from optlib.online import Feedback, GLMFTRL
    >>> learner = GLMFTRL(1)
    >>> for _ in range(30):
    ...     learner.update(Feedback(features=[1.0], target=1.0))
    >>> learner.decide().round(3)
    array([2.429])
    """

    def __init__(self, n: int, *, loss: str = "logistic", reg: float = 1.0) -> None:
        super().__init__(n)
        self.loss = loss
        self._loss: Any = model_loss(loss, 0.0, SMOOTH)
        self.reg = check.scalar("reg", reg, low=0.0, low_open=True)

    def _initial(self, zeros: Array, xp: Any) -> GLMState:
        none = zeros[:, None, :][:, :0, :]
        return GLMState(zeros, none, none[:, :, 0], zeros[:, 0], zeros[:, 0], 0)

    def _example(self, state: GLMState, a: Array, y: Array, xp: Any) -> GLMState:
        loss = state.loss + self._loss.value(xp.sum(a * state.x, axis=-1), y, xp)
        features = xp.concat([state.features, a[:, None, :]], axis=1)
        targets = xp.concat([state.targets, y[:, None]], axis=1)
        x, least = self._fit(state.x, features, targets, xp)
        return GLMState(x, features, targets, loss, least, state.rounds + 1)

    def _objective(self, x: Array, features: Array, targets: Array, xp: Any) -> Array:
        p = (features @ x[:, :, None])[..., 0]
        return 0.5 * self.reg * xp.sum(xp.square(x), axis=-1) + xp.sum(self._loss.value(p, targets, xp), axis=-1)

    def _fit(self, x: Array, features: Array, targets: Array, xp: Any) -> tuple[Array, Array]:
        """Minimise the regularised sum; return the point and a proven lower bound of the minimum."""
        eps = float(xp.finfo(x.dtype).eps)
        eye = xp.eye(self.n, dtype=x.dtype, device=x.device)
        across = xp.matrix_transpose(features)
        for _ in range(50):
            value = self._objective(x, features, targets, xp)
            p = (features @ x[:, :, None])[..., 0]
            slope = self.reg * x + (across @ self._loss.slope(p, targets, xp)[:, :, None])[..., 0]
            least = value - xp.sum(xp.square(slope), axis=-1) / (2.0 * self.reg)
            if bool(xp.all(value - least <= 100.0 * eps * (1.0 + xp.abs(value)))):
                break
            metric = self.reg * eye + across @ (self._loss.curvature(p, xp)[:, :, None] * features)
            newton = linalg.solve(metric, slope[:, :, None], xp=xp, check=False)[..., 0]
            fall = xp.sum(slope * newton, axis=-1)
            size = xp.ones_like(fall)
            for _ in range(40):
                trial = x - size[:, None] * newton
                enough = value - self._objective(trial, features, targets, xp) >= 0.25 * size * fall
                enough = enough | (fall <= 4.0 * eps * (1.0 + xp.abs(value)))
                if bool(xp.all(enough)):
                    break
                size = xp.where(enough, size, 0.5 * size)
            x = x - size[:, None] * newton
        return x, least

    def _bound(self, state: GLMState, comparator: np.ndarray | None) -> Any:
        return penalty(self.reg, comparator) + column(state.loss) - column(state.least)


def penalty(reg: float, comparator: np.ndarray | None) -> float:
    """``reg |u|^2 / 2`` of a comparator, which must be given."""
    if comparator is None:
        raise check.error("comparator", "nothing", "a decision, as the set is not bounded", "pass one")
    return 0.5 * reg * float(np.sum(np.square(comparator)))
