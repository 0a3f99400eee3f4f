"""Environments that reveal a value and a gradient, and know their best decision in hindsight."""

from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, Portable
from optlib.geometry import Domain
from optlib.online.domains import vector_domain
from optlib.online.feedback import Feedback


class QuadraticLosses(Portable):
    """The losses ``|x - c_t|^2 / 2 + <z_t, x>``: targets that move, and noise.

    Parameters
    ----------
    targets : array, shape (rounds, n)
        The targets ``c_t``.
    domain : Domain
        The set of the decisions.
    noise : array, shape (rounds, n), optional
        The slopes ``z_t``, by default 0.

    Notes
    -----
    The best decision in hindsight after T rounds is the projection of the mean of ``c_t - z_t``.

    Examples
    --------
    >>> from optlib.geometry import Ball, EuclideanBall
    >>> from optlib.online import OptimisticOMD, QuadraticLosses, play
    >>> environment = QuadraticLosses([[0.5, 0.0]] * 100, Ball(2))
    >>> res = play(OptimisticOMD(EuclideanBall(), 2, scale=2.0), environment)
    >>> bool(res.regret <= res.regret_bound), res.x.round(2)
    (True, array([0.5, 0. ]))
    """

    def __init__(self, targets: Any, domain: Domain, *, noise: Any = None) -> None:
        xp, device, dtype = check.common(targets=targets, noise=noise)
        shape = (None, vector_domain(domain).shape[0])
        self.like = self._targets = check.array("targets", targets, xp=xp, shape=shape, dtype=dtype, device=device)
        self.rounds = int(self._targets.shape[0])
        self.domain = domain
        slopes = xp.zeros_like(self._targets)
        if noise is not None:
            slopes = check.array("noise", noise, xp=xp, shape=tuple(self._targets.shape), dtype=dtype, device=device)
        self._slopes = slopes
        self._constants = xp.cumulative_sum(0.5 * xp.sum(xp.square(self._targets), axis=-1), axis=0)
        self._sums = xp.cumulative_sum(self._targets - slopes, axis=0)
        self._xp = xp

    def reveal(self, t: int, x: Array) -> Feedback:
        """Return the value and the gradient of the loss of round t (counted from 0).

        Parameters
        ----------
        t : int
            Round.
        x : array, shape (n,) or (learners, n)
            Decision.

        Returns
        -------
        Feedback
            With ``value`` and ``gradient``.
        """
        xp, z = self._xp, self._slopes[t, ...]
        away = x - self._targets[t, ...]
        value = 0.5 * xp.sum(xp.square(away), axis=-1) + xp.sum(x * z, axis=-1)
        return Feedback(gradient=away + z, value=value)

    def best(self, rounds: int) -> tuple[Array, float]:
        """Return the best fixed decision for the first rounds, and its cumulative loss.

        Parameters
        ----------
        rounds : int
            Number of rounds.

        Returns
        -------
        x : array, shape (n,)
            The decision.
        value : float
            Its loss.
        """
        if rounds == 0:
            return self.domain.center(self.like), 0.0
        total = self._sums[rounds - 1, ...]
        x = self.domain.project(total / rounds)
        value = 0.5 * rounds * float(self._xp.sum(x * x)) - float(self._xp.sum(total * x))
        return x, value + float(self._constants[rounds - 1, ...])
