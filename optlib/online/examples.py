"""Learners of examples: features and a target, of which they predict the target by a linear function."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, to_numpy
from optlib.online._models import PROXIMAL, SMOOTH, ModelLoss, model_loss
from optlib.online.feedback import Feedback
from optlib.online.learner import Learner


class ExampleLearner(Learner, ABC):
    """A learner that is told ``Feedback(features=a, target=y)``; its decision are the coefficients of a prediction.

    It defines ``_example(state, a, y, xp)``, the state after a round.
    """

    kind = "example"
    _loss: ModelLoss

    def _read(self, feedback: Any) -> Array:
        """Return the example as a block of one round, (1, learners, n + 1), with the target in the last column."""
        if not isinstance(feedback, Feedback) or feedback.features is None or feedback.target is None:
            raise self._error("no example", "Feedback(features=..., target=...)", kind=TypeError)
        a, y = feedback.features, feedback.target
        if isinstance(y, float) and self._is_numpy and type(a) is np.ndarray and a.shape == self._shape == (self.n,):
            block = np.empty((1, 1, self.n + 1))
            block[0, 0, :-1], block[0, 0, -1] = a, y
            if a.dtype == self._wide and self._loss.fits(block[0, 0, -1], np):
                return block
        a = self._convert(feedback.features, self._shape)
        y = self._convert(feedback.target, self._shape[:-1])
        if not bool(self._xp.all(self._loss.fits(y, self._xp))):
            raise self._error(f"a target {to_numpy(y).reshape(-1)}", self._loss.targets)
        row = self._xp.concat([a, y[..., None]], axis=-1)
        return row[None, :, :] if self._batch else row[None, None, :]

    def _advance(self, state: Any, block: Array, xp: Any) -> tuple[Any, None]:
        for t in range(block.shape[0]):
            state = self._example(state, block[t, :, :-1], block[t, :, -1], xp)
        return state, None

    @abstractmethod
    def _example(self, state: Any, a: Array, y: Array, xp: Any) -> Any: ...


class LinearModelLosses:
    """The losses ``phi(<a_t, x>, y_t)`` of linear predictions of targets from features.

    Parameters
    ----------
    features : array, shape (rounds, n)
        Features ``a_t``.
    targets : array, shape (rounds,)
        Targets ``y_t``; labels -1 and 1 for the losses of classification.
    loss : {"squared", "absolute", "hinge", "logistic", "poisson"}
        The loss: half the square of the error, its modulus, ``max(1 - y p, 0)``, ``log(1 + exp(-y p))``,
        ``exp(p) - y p``.
    tube : float
        Errors of the absolute loss up to this are free.

    Notes
    -----
    It reveals the value, the gradient and the example itself, so it serves learners of gradients as well as those of
    examples. `play` needs a ``comparator`` on unbounded sets.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import LinearModelLosses, OnlineRidge, play
    >>> a = np.random.default_rng(0).standard_normal((500, 3))
    >>> stream = LinearModelLosses(a, a @ [1.0, -2.0, 0.5])
    >>> res = play(OnlineRidge(3), stream, comparator=[1.0, -2.0, 0.5])
    >>> bool(res.regret <= res.regret_bound), res.x.round(2)
    (True, array([ 1. , -2. ,  0.5]))
    """

    def __init__(self, features: Any, targets: Any, *, loss: str = "squared", tube: float = 0.0) -> None:
        self._xp, device, dtype = check.common(features=features, targets=targets)
        xp = self._xp
        self._features = check.array("features", features, xp=xp, ndim=2, dtype=dtype, device=device)
        self.rounds = int(self._features.shape[0])
        self._targets = check.array("targets", targets, xp=xp, shape=(self.rounds,), dtype=dtype, device=device)
        self.like = self._features
        self.loss, self.tube = loss, tube
        self._loss = model_loss(loss, tube, {**PROXIMAL, **SMOOTH})
        if not bool(xp.all(self._loss.fits(self._targets, xp))):
            raise check.error("targets", "others", f"{self._loss.targets}, as the loss is '{loss}'")

    def context(self, t: int) -> Array:
        """Return the features of round t, which a learner may see before it decides.

        Parameters
        ----------
        t : int
            Round, counted from 0.

        Returns
        -------
        array, shape (n,)
            The features.
        """
        return self._features[t, ...]

    def reveal(self, t: int, x: Array) -> Feedback:
        """Return the loss of round t, its gradient and the example.

        Parameters
        ----------
        t : int
            Round, counted from 0.
        x : array, shape (n,) or (learners, n)
            Coefficients.

        Returns
        -------
        Feedback
            With ``value``, ``gradient``, ``features`` and ``target``.
        """
        xp, a, y = self._xp, self._features[t, ...], self._targets[t, ...]
        p = xp.sum(a * x, axis=-1)
        zero = xp.zeros_like(x)
        slope = self._loss.slope(p, y + 0.0 * p, xp)
        return Feedback(
            gradient=slope[..., None] * a,
            value=self._loss.value(p, y, xp),
            features=zero + a,
            target=y + 0.0 * p,
        )
