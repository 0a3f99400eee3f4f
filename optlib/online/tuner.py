"""Choose a parameter of a solver while it solves one problem after the other: ask, solve, tell what it cost."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import array_namespace
from optlib.backend.random import as_generator
from optlib.geometry.mirror.roots import tsallis_simplex
from optlib.online.bandits import draw

RIDGE = 1e-6  # of the regression, relative to the number of features
_NUMPY = array_namespace()


class TunerState(NamedTuple):
    """What a tuner knows: everything that the coming choices depend on.

    Attributes
    ----------
    losses : array, shape (d,)
        Estimated cumulative costs, by importance weights.
    total, squares : float
        Sum of the costs, and of the squared errors of the predictions.
    gram : array, shape (d, m, m)
        Sums of products of the features of the context, for each candidate.
    moments : array, shape (d, m)
        Sums of features times costs.
    rounds, key : int
        Rounds told, and the random stream.
    """

    losses: np.ndarray
    total: float
    squares: float
    gram: np.ndarray
    moments: np.ndarray
    rounds: int
    key: int


class OnlineTuner:
    r"""Learn which of some candidates to use, from the cost of the ones that were used: a bandit for solver parameters.

    Parameters
    ----------
    candidates : sequence
        The values to choose from: numbers, names, functions.
    low : float
        The least cost that is possible (1 for a number of iterations).
    high : float, optional
        The largest one, if it is known: there is a proven bound on the regret then. By default the costs are measured
        in units of their mean.
    context : (float, float), optional
        Range of a number that is known before a problem is solved, and that tells problems apart; it is given to
        `ask`. The best candidate for each context is learned then.
    degree : int
        Degree of the polynomials in the context that model the cost of each candidate.
    rng : int or Generator, optional
        Seed of the choices.

    Notes
    -----
    Without a context the choice is that of Tsallis-INF with importance-weighted costs: optimal for random and for
    adversarial sequences of problems. With ``d`` candidates and a range ``high``, after T rounds the expected cost is
    at most ``(high - low) (4 sqrt(d T) + 1)`` above that of the best candidate.

    With a context the cost of each candidate is fitted by a Chebyshev polynomial (least squares), and a candidate a is
    taken with probability :math:`1 / (d + \gamma_t (\hat c_a - \min \hat c))`, the rest goes to the best one, with
    :math:`\gamma_t = 2 t \sqrt d` over the root mean squared error of the predictions: inverse gap weighting, as in
    SquareCB. It is an estimate without a bound.

    The random numbers are addressed by the round: a tuner whose ``state`` is restored chooses as before. All is on the
    host, as costs are numbers. Cost per round: O(d) and some Newton steps; with a context O(d m^2) for m features.

    When not to use it: to tune once for one problem, where a search (or a bilevel solver) is better.

    References
    ----------
    .. [1] M. Khodak, E. Chow, M.-F. Balcan, A. Talwalkar, "Learning to Relax: Setting Solver Parameters Across a
       Sequence of Linear System Instances", arXiv:2310.02246.
    .. [2] J. Zimmert, Y. Seldin, JMLR 22 (2021). D. Foster, A. Rakhlin, "Beyond UCB: Optimal and Efficient Contextual
       Bandits with Regression Oracles", ICML 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import sor
    >>> from optlib.online import OnlineTuner
    >>> A = 4.0 * np.eye(20) - np.eye(20, k=1) - np.eye(20, k=-1) - np.eye(20, k=4) - np.eye(20, k=-4)
    >>> tuner = OnlineTuner([1.0, 1.2, 1.4, 1.6, 1.8], low=1.0, rng=0)
    >>> for t in range(200):
    ...     omega = tuner.ask()
    ...     res = sor(A, np.random.default_rng(t).standard_normal(20), omega=omega, tol=1e-8)
    ...     tuner.tell(res.nit)
    >>> tuner.best()
    1.4
    """

    def __init__(
        self,
        candidates: Sequence[Any],
        *,
        low: float = 0.0,
        high: float | None = None,
        context: tuple[float, float] | None = None,
        degree: int = 5,
        rng: Any = None,
    ) -> None:
        self.candidates = check.sequence("candidates", candidates, "a list of values")
        d = len(self.candidates)
        if d == 0:
            raise check.error("candidates", "none", "at least one")
        self.low = check.scalar("low", low)
        self.high = None if high is None else check.scalar("high", high, low=self.low, low_open=True)
        self.context = None
        if context is not None:
            if not (isinstance(context, Sequence) and len(context) == 2):
                raise check.error("context", repr(context), "a pair of numbers (least, largest)", kind=TypeError)
            start = check.scalar("context", context[0])
            self.context = (start, check.scalar("context", context[1], low=start, low_open=True))
        m = check.scalar("degree", degree, low=0, integer=True) + 1 if self.context else 0
        key = int(as_generator(rng).integers(0, 2**63))
        self._state = TunerState(np.zeros(d), 0.0, 0.0, np.zeros((d, m, m)), np.zeros((d, m)), 0, key)
        self._fits = np.zeros((d, m))
        self._asked: tuple[int, float, np.ndarray | None, float] | None = None

    @property
    def state(self) -> TunerState:
        """The state before the coming round; assign a saved one to continue from there."""
        return self._state

    @state.setter
    def state(self, state: TunerState) -> None:
        if not isinstance(state, TunerState) or state.moments.shape != self._state.moments.shape:
            raise check.error("state", type(state).__name__, "a state of such a tuner", kind=TypeError)
        self._state, self._asked = state, None
        for arm in range(len(self.candidates)):
            self._fit(arm)

    @property
    def rounds(self) -> int:
        """Number of rounds told."""
        return self._state.rounds

    def probabilities(self, context: float | None = None) -> np.ndarray:
        """Return the probabilities of the candidates in the coming round.

        Parameters
        ----------
        context : float, optional
            The context, if the tuner has one.

        Returns
        -------
        array, shape (d,)
            Probabilities.
        """
        s, d = self._state, len(self.candidates)
        if self.context is None:
            if context is not None:
                raise check.error("context", context, "none, as the tuner was made without")
            rate = 1.0 / (self._unit() * math.sqrt(s.rounds + 1))
            return tsallis_simplex(-rate * s.losses[None, :], 1.0, xp=_NUMPY)[0]
        predicted = self._fits @ self._features(context)
        best = int(np.argmin(predicted))
        error = math.sqrt(s.squares / max(s.rounds, 1)) or 1.0
        gamma = 2.0 * s.rounds * math.sqrt(d) / error
        p = 1.0 / (d + gamma * (predicted - predicted[best]))
        p[best] = 0.0
        p[best] = 1.0 - np.sum(p)
        return p

    def ask(self, context: float | None = None) -> Any:
        """Return the candidate to use now; until its cost is told, asking again returns the same.

        Parameters
        ----------
        context : float, optional
            What is known about the problem, if the tuner has a range of contexts; a number outside of it counts as the
            nearest one.

        Returns
        -------
        object
            One of the candidates.
        """
        if self._asked is None:
            p = self.probabilities(context)
            arm = int(draw(p[None, :], self._state.key, self._state.rounds, xp=_NUMPY)[0])
            features = None if self.context is None else self._features(context)
            predicted = 0.0 if features is None else float(self._fits[arm] @ features)
            self._asked = (arm, float(p[arm]), features, predicted)
        return self.candidates[self._asked[0]]

    def tell(self, cost: float) -> None:
        """Tell the cost of the candidate that was asked for.

        Parameters
        ----------
        cost : float
            Iterations, seconds, whatever adds up; at least ``low``, and at most ``high`` if that was given.
        """
        if self._asked is None:
            raise check.error("cost", cost, "a call of `ask` before it")
        high = math.inf if self.high is None else self.high
        cost = check.scalar("cost", cost, low=self.low, high=high) - self.low
        arm, p, features, predicted = self._asked
        s = self._state
        losses, gram, moments = s.losses.copy(), s.gram, s.moments
        losses[arm] += cost / max(p, 1e-12)
        if features is not None:
            gram, moments = gram.copy(), moments.copy()
            gram[arm] += np.outer(features, features)
            moments[arm] += cost * features
        squares = s.squares + (cost - predicted) ** 2
        self._state = TunerState(losses, s.total + cost, squares, gram, moments, s.rounds + 1, s.key)
        self._asked = None
        self._fit(arm)

    def best(self, context: float | None = None) -> Any:
        """Return the candidate that looks best, without a draw.

        Parameters
        ----------
        context : float, optional
            The context, if the tuner has one.

        Returns
        -------
        object
            One of the candidates.
        """
        return self.candidates[int(np.argmax(self.probabilities(context)))]

    def regret_bound(self) -> float:
        """Return the bound on the expected excess cost so far; inf where there is none."""
        if self.high is None or self.context is not None:
            return math.inf
        return (self.high - self.low) * (4.0 * math.sqrt(len(self.candidates) * self.rounds) + 1.0)

    def _unit(self) -> float:
        """Unit of the costs: the range, or the mean so far."""
        if self.high is not None:
            return self.high - self.low
        return self._state.total / max(self.rounds, 1) or 1.0

    def _features(self, context: Any) -> np.ndarray:
        """Chebyshev polynomials of the context."""
        start, stop = self.context  # type: ignore[misc]
        x = check.scalar("context", context)
        angle = math.acos(min(1.0, max(-1.0, 2.0 * (x - start) / (stop - start) - 1.0)))
        return np.cos(np.arange(self._fits.shape[1]) * angle)

    def _fit(self, arm: int) -> None:
        """Fit the cost of a candidate."""
        m = self._fits.shape[1]
        if m:
            fits = self._fits.copy()
            fits[arm] = np.linalg.solve(self._state.gram[arm] + RIDGE * m * np.eye(m), self._state.moments[arm])
            self._fits = fits
