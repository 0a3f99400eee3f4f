"""Bandits with the log-barrier: estimates of the losses may be very negative, and arms may have features."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, device_of, linalg, to_numpy
from optlib.geometry.mirror.roots import log_barrier_simplex
from optlib.online.bandits import _Bandit, draw
from optlib.online.learner import column


class LogBarrierState(NamedTuple):
    """Probabilities, arms drawn for the coming round, estimated losses, term of the bound, rounds, random stream."""

    x: Array
    arm: Array
    losses: Array
    spent: Array
    rounds: int
    key: int


class LogBarrierFTRL(_Bandit):
    r"""Follow the regularised leader with the log-barrier for ``n`` arms, which may share features.

    With features the loss of arm a is :math:`\langle \phi_a, \theta_t \rangle`, and the regret depends on their
    dimension.

    Parameters
    ----------
    n : int
        Number of arms.
    rounds : int
        Number of rounds T that the rate is made for.
    features : array, shape (n, d), optional
        Features of the arms, of rank d. By default the arms have nothing in common.
    low, high : float
        Range of the losses; a loss outside of it is refused.
    rng : int or Generator, optional
        Seed of the arms.

    Notes
    -----
    Without features the estimates are importance-weighted. With features they are magnitude-reduced: with
    the coefficients :math:`c_a = \phi_a' \Sigma^{-1} \phi_J` for the arm J that was drawn, :math:`\Sigma = \sum_a x_a
    \phi_a \phi_a'` and the loss l in [0, 1], the estimate is :math:`c_a l - \min(c_a, 0) + \mathrm{E} \min(c_a, 0)`:
    without bias, and at least :math:`-\sqrt{\phi_a' \Sigma^{-1} \phi_a}`, however small the probabilities are.

    Regret bound, in expectation and for losses in [0, 1]: :math:`n \log(T) / \eta + 1` plus :math:`\eta \sum_t l_t^2`
    without and :math:`\frac\eta2 \sum_t \sum_a x_{t,a} \hat l_{t,a}^2` with features, with the estimates :math:`\hat l`
    as they were; the rate is :math:`\sqrt{n \log(T) / T}`, with features :math:`\sqrt{n \log(T) / (d T)}`. It is
    infinite after more than T rounds.

    Cost: O(n) times about nine Newton steps per round; with features O(n^2 d).

    References
    ----------
    .. [1] Y. Dai, H. Luo, C.-Y. Wei, J. Zimmert, "Refined Regret for Adversarial MDPs with Linear Function
       Approximation", ICML 2023, arXiv:2301.12942, sections 3 and 4 (the constants are derived anew).
    .. [2] D. Foster, Z. Li, T. Lykouris, K. Sridharan, E. Tardos, "Learning in Games: Robustness of Fast Convergence",
       NeurIPS 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import LogBarrierFTRL, play
    >>> losses = np.random.default_rng(0).random((2000, 3)) < [0.5, 0.2, 0.8]
    >>> res = play(LogBarrierFTRL(3, rounds=2000, rng=0), losses.astype(float))
    >>> bool(res.regret <= res.regret_bound)
    True
    """

    def __init__(
        self,
        n: int,
        *,
        rounds: int,
        features: Any = None,
        low: float = 0.0,
        high: float = 1.0,
        rng: Any = None,
    ) -> None:
        super().__init__(n, low=low, high=high, rng=rng)
        self.horizon = check.scalar("rounds", rounds, low=1, integer=True)
        self.features = features
        dimension = 1
        if features is not None:
            xp = check.common(features=features)[0]
            self.features = np.asarray(
                to_numpy(check.array("features", features, xp=xp, shape=(self.n, None))), np.float64
            )
            dimension = self.features.shape[1]
            if np.linalg.matrix_rank(self.features) < dimension:
                fix = "leave out columns, or rotate them to fewer"
                raise check.error("features", "columns that are linearly dependent", f"rank {dimension}", fix)
        self._size = self.n * max(math.log(self.horizon), 1.0)
        self.rate = math.sqrt(self._size / (dimension * self.horizon))

    def _initial(self, zeros: Array, xp: Any) -> LogBarrierState:
        key = int(self._rng.integers(0, 2**63))
        x = zeros + 1.0 / self.n
        self._phi = None if self.features is None else asarray_like(self.features, zeros)
        return LogBarrierState(x, draw(x, key, 0, xp=xp), zeros, zeros[:, 0], 0, key)

    def _advance(self, state: LogBarrierState, block: Array, xp: Any) -> tuple[LogBarrierState, Array]:
        incurred = []
        index = xp.arange(self.n, dtype=xp.int64, device=device_of(state.x))
        for t in range(block.shape[0]):
            chosen = xp.astype(index == state.arm[:, None], state.x.dtype)
            value = xp.sum(block[t, ...] * chosen, axis=-1)
            incurred.append(value)
            unit = (value - self.low) / (self.high - self.low)
            if self._phi is None:
                estimate = chosen * (unit / xp.sum(state.x * chosen, axis=-1))[:, None]
                spent = self.rate * xp.square(unit)
            else:
                estimate = magnitude_reduced(self._phi, state.x, chosen, unit, xp)
                spent = 0.5 * self.rate * xp.sum(state.x * xp.square(estimate), axis=-1)
            losses = state.losses + estimate
            x = log_barrier_simplex(-self.rate * losses, 1.0, xp=xp)
            k = state.rounds + 1
            arm = draw(x, state.key, k * self._learners, xp=xp)
            state = LogBarrierState(x, arm, losses, state.spent + spent, k, state.key)
        return state, xp.stack(incurred)

    def _bound(self, state: LogBarrierState, comparator: np.ndarray | None) -> Any:
        if state.rounds > self.horizon:
            return math.inf
        if state.rounds == 0 or self.n == 1:
            return 0.0
        return (self.high - self.low) * (self._size / self.rate + 1.0 + column(state.spent))


def magnitude_reduced(phi: Array, x: Array, chosen: Array, value: Array, xp: Any) -> Array:
    """Estimate the losses of all arms from that of one, without bias and never very negative.

    Parameters
    ----------
    phi : array, shape (n, d)
        Features.
    x : array, shape (learners, n)
        Probabilities of the arms.
    chosen : array, shape (learners, n)
        Indicator of the arm that was drawn.
    value : array, shape (learners,)
        Its loss, in [0, 1].
    xp : module
        Namespace.

    Returns
    -------
    array, shape (learners, n)
        The estimates.
    """
    moments = xp.matrix_transpose(phi) @ (x[:, :, None] * phi)
    across = phi @ linalg.solve(moments, xp.broadcast_to(xp.matrix_transpose(phi), (x.shape[0], *phi.shape[::-1])),
                                xp=xp, check=False)  # fmt: skip
    own = (across @ chosen[:, :, None])[..., 0]
    negative = xp.minimum(across, xp.zeros_like(across))
    mean = (negative @ x[:, :, None])[..., 0]
    return own * value[:, None] - xp.minimum(own, xp.zeros_like(own)) + mean
