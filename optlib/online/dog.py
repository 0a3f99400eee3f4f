"""Distance over gradients: steps without a learning rate, and without a bound on the set."""

from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, linalg, to_numpy
from optlib.geometry import Domain
from optlib.online.domains import vector_domain
from optlib.online.learner import RoundLearner, column


class DoGState(NamedTuple):
    """Points, largest distance from the start, ``sum |g|^2``, terms of the bounds, the average, rounds played.

    ``inverse`` is ``1 / eta`` of the last step; ``risen`` the sum of its increases w, ``risen1`` and ``risen2`` those
    of ``w r`` and ``w r^2`` with the distances r from the start; ``spent`` is ``sum eta |g|^2 / 2`` and ``weighted``
    the same with the weights of the average. ``total`` is the weighted sum of the points and ``weight`` that of the
    weights.
    """

    x: Array
    distance: Array
    squares: Array
    inverse: Array
    risen: Array
    risen1: Array
    risen2: Array
    spent: Array
    weighted: Array
    total: Array
    weight: Array
    rounds: int


class DoG(RoundLearner):
    r"""Distance over gradients (DoG): steps of size :math:`\bar r_t / \sqrt{\sum_{s \le t} |g_s|^2}`.

    The distance :math:`\bar r_t` is the largest one from the start so far: no rate and no bound on the set are needed.
    Use its `average`, which is what the theory is about.

    Parameters
    ----------
    domain : Domain
        The set; for the whole space ``Box(-inf, inf, n)``.
    first : float
        The first distance, small beside that of the solution.

    Notes
    -----
    Regret bound, for a comparator u: :math:`\frac12 \sum_t (\frac1{\eta_t} - \frac1{\eta_{t-1}})_+ (|u - x_1| + |x_t -
    x_1|)^2 + \frac12 \sum_t \eta_t |g_t|^2` with everything as it was. The first steps make it large: for the regret
    itself `CoinBetting` is better. For convex losses that do not change (or are drawn at random) `average_bound` holds
    for the loss of the average, and needs no more than the distance of u.

    Cost: O(n) and a projection per round.

    References
    ----------
    .. [1] M. Ivgi, O. Hinder, Y. Carmon, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule",
       ICML 2023, arXiv:2302.12022, Lemmas 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.geometry import Box
    >>> from optlib.online import DoG
    >>> learner = DoG(Box(-np.inf, np.inf, 1))
    >>> for _ in range(400):
    ...     learner.update(np.sign(learner.decide() - 3.0))
    >>> bool(abs(learner.average() - 3.0) <= learner.average_bound([3.0]))
    True
    """

    def __init__(self, domain: Domain, *, first: float = 1e-6) -> None:
        self.domain = vector_domain(domain)
        super().__init__(domain.shape[0])
        self.first = check.scalar("first", first, low=0.0, low_open=True)

    def average(self) -> Array:
        """Return the average of the decisions so far, weighted by the distances.

        Returns
        -------
        array, shape (n,) or (learners, n)
            The average; before the first round the start.
        """
        if self._state is None:
            self.start()
        state, xp = self._state, self._xp
        begun = (state.weight > 0.0)[:, None]
        x = xp.where(begun, state.total / xp.where(begun, state.weight[:, None], 1.0), state.x)
        return xp.astype(x if self._batch else x[0, ...], self._dtype)

    def average_bound(self, comparator: Any) -> Any:
        r"""Return the bound of :math:`f(\bar x) - f(u)` for the average and losses that do not change.

        Parameters
        ----------
        comparator : array, shape (n,)
            The point u.

        Returns
        -------
        float, or array of shape (learners,)
            :math:`\frac{(|u - x_1| + \bar r)^2 \sqrt{\sum |g|^2} + \sum \bar r_t^2 |g_t|^2 / \sqrt{\sum_{s \le t}
            |g_s|^2}} {2 \sum \bar r_t}`; inf before the first round.
        """
        if self._state is None:
            self.start()
        state = self._state
        far = self._far(np.asarray(to_numpy(comparator), np.float64)) + column(state.distance)
        weight = column(state.weight)
        value = 0.5 * far**2 * np.sqrt(column(state.squares)) + column(state.weighted)
        bound = np.where(weight > 0.0, value / np.where(weight > 0.0, weight, 1.0), np.inf)
        return bound if self._batch else float(bound[0])

    def _far(self, comparator: np.ndarray | None) -> float:
        """Distance of the comparator from the start."""
        if comparator is not None:
            return float(np.linalg.norm(comparator - to_numpy(self.domain.center())))
        if np.isinf(self.domain.radius):
            raise check.error("comparator", "nothing", "a decision, as the set is not bounded", "pass one")
        return self.domain.radius

    def _initial(self, zeros: Array, xp: Any) -> DoGState:
        x, zero = zeros + self._domain.center(zeros), zeros[:, 0]
        return DoGState(x, zero + self.first, zero, zero, zero, zero, zero, zero, zero, zeros, zero, 0)

    def _round(self, state: DoGState, g: Array, xp: Any) -> DoGState:
        start = self._domain.center(g)
        away = linalg.norm(state.x - start, axis=-1, xp=xp)
        distance = xp.maximum(state.distance, away)
        square = xp.sum(xp.square(g), axis=-1)
        squares = state.squares + square
        begun = squares > 0.0
        root = xp.sqrt(xp.where(begun, squares, xp.ones_like(squares)))
        eta = xp.where(begun, distance / root, xp.zeros_like(root))
        inverse = xp.where(begun, root / distance, xp.zeros_like(root))
        rise = xp.maximum(inverse - state.inverse, xp.zeros_like(inverse))
        return DoGState(
            self._domain.project(state.x - eta[:, None] * g, xp=xp),
            distance,
            squares,
            inverse,
            state.risen + rise,
            state.risen1 + rise * away,
            state.risen2 + rise * xp.square(away),
            state.spent + 0.5 * eta * square,
            state.weighted + 0.5 * distance * eta * square,
            state.total + distance[:, None] * state.x,
            state.weight + distance,
            state.rounds + 1,
        )

    def _bound(self, state: DoGState, comparator: np.ndarray | None) -> Any:
        far = self._far(comparator)
        rises = far**2 * column(state.risen) + 2.0 * far * column(state.risen1) + column(state.risen2)
        return 0.5 * rises + column(state.spent)
