"""Matrix Hedge: density matrices instead of weights."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, linalg
from optlib.geometry import Spectrahedron, VonNeumann
from optlib.online.domains import FlatDomain
from optlib.online.learner import RoundLearner, column


class MatrixHedgeState(NamedTuple):
    """Matrices, row by row; cumulative losses, ``sum eta_t range_t^2 / 8``, rounds played."""

    x: Array
    losses: Array
    spent: Array
    rounds: int


class MatrixHedge(RoundLearner):
    r"""Matrix Hedge: density matrices proportional to the exponential of minus the cumulative loss matrices.

    The loss of a round is :math:`\langle L_t, X_t \rangle`; the best fixed decision is a projection onto an
    eigenvector.

    Parameters
    ----------
    n : int
        Number of rows.
    rate : float, optional
        Constant rate. By default the rate of round t is ``2 sqrt(log(n) / t) / spread``.
    spread : float
        Usual range of the eigenvalues of a loss matrix. It only tunes the rate: the bound holds for all losses.

    Notes
    -----
    Regret bound: :math:`\log(n) / \eta_T + \sum_t \eta_t r_t^2 / 8` with the ranges :math:`r_t` of the
    eigenvalues of the loss matrices as they were. For diagonal matrices it is `Hedge`.

    Decisions and feedback have the shape (n, n); of a matrix that is not symmetric the symmetric part counts.

    Cost: O(n^3) per round, for two eigendecompositions.

    References
    ----------
    .. [1] K. Tsuda, G. Rätsch, M. K. Warmuth, "Matrix Exponentiated Gradient Updates for On-line Learning and Bregman
       Projection", JMLR 6 (2005).
    .. [2] S. Arora, S. Kale, "A Combinatorial, Primal-Dual Approach to Semidefinite Programs", JACM 63 (2016).

    Examples
    --------
    >>> from optlib.online import MatrixHedge
    >>> learner = MatrixHedge(2)
    >>> learner.update([[0.0, 1.0], [1.0, 0.0]])
    >>> learner.decide().round(3)
    array([[ 0.5  , -0.413],
           [-0.413,  0.5  ]])
    """

    def __init__(self, n: int, *, rate: float | None = None, spread: float = 1.0) -> None:
        self.rows = check.scalar("n", n, low=1, integer=True)
        super().__init__(self.rows**2)
        self.point = (self.rows, self.rows)
        self.spread = check.scalar("spread", spread, low=0.0, low_open=True)
        self.rate = rate if rate is None else check.scalar("rate", rate, low=0.0, low_open=True)
        self.domain = FlatDomain(Spectrahedron(self.rows))
        self._first = 2.0 * math.sqrt(math.log(self.rows)) / self.spread if rate is None else self.rate
        self._map = VonNeumann()

    def _eta(self, t: int) -> float:
        return self._first / math.sqrt(t) if self.rate is None else self._first

    def _initial(self, zeros: Array, xp: Any) -> MatrixHedgeState:
        return MatrixHedgeState(zeros + self._domain.center(zeros), zeros, zeros[:, 0], 0)

    def _decision(self, state: MatrixHedgeState) -> Array:
        return self._xp.reshape(state.x, (-1, *self.point))

    def _round(self, state: MatrixHedgeState, g: Array, xp: Any) -> MatrixHedgeState:
        loss = xp.reshape(g, (-1, *self.point))
        loss = 0.5 * (loss + xp.matrix_transpose(loss))
        values, _ = linalg.eigh(loss, xp=xp, check=False)
        eta, following = self._eta(state.rounds + 1), self._eta(state.rounds + 2)
        spent = state.spent + eta / 8.0 * xp.square(values[:, -1] - values[:, 0])
        losses = state.losses + xp.reshape(loss, state.losses.shape)
        x = self._map.grad_conj(-following * xp.reshape(losses, (-1, *self.point)), xp=xp)
        return MatrixHedgeState(xp.reshape(x, losses.shape), losses, spent, state.rounds + 1)

    def _bound(self, state: MatrixHedgeState, comparator: np.ndarray | None) -> Any:
        if self.rows == 1 or state.rounds == 0:
            return 0.0
        return math.log(self.rows) / self._eta(state.rounds) + column(state.spent)
