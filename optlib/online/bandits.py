"""Adversarial bandits: EXP3 and Tsallis-INF, with arms drawn from addressed random numbers."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, device_of, kernel, to_numpy
from optlib.backend.philox import philox_uniform
from optlib.backend.random import as_generator
from optlib.geometry import Simplex
from optlib.geometry.mirror.entropy import softmax
from optlib.geometry.mirror.roots import tsallis_simplex
from optlib.online.feedback import Feedback
from optlib.online.learner import Learner, tally


class BanditState(NamedTuple):
    """Probabilities of the arms, arms drawn for the coming round, estimated losses, rounds played, random stream."""

    x: Array
    arm: Array
    losses: Array
    rounds: int
    key: int


@kernel(numba="optlib.online._streams_numba:draw", match="exact")
def draw(x: Array, key: int, position: int, *, xp: Any) -> Array:
    """Draw an arm from each row of probabilities.

    Parameters
    ----------
    x : array, shape (learners, n)
        Probabilities.
    key : int
        Random stream.
    position : int
        Row b uses the number at ``position + b`` of the stream.
    xp : module
        Namespace.

    Returns
    -------
    int64 array, shape (learners,)
        The arms.
    """
    uniform = philox_uniform(key, position, x.shape[0], x, xp=xp)[:, None]
    passed = xp.cumulative_sum(x, axis=-1)[:, :-1] <= uniform * xp.sum(x, axis=-1, keepdims=True)
    return xp.sum(xp.astype(passed, xp.int64), axis=-1)


@kernel(numba="optlib.online._streams_numba:bandit_rounds", match="iterate")
def bandit_rounds(
    block: Array, x: Array, arm: Array, losses: Array, rounds: int, key: int, method: str, *, xp: Any
) -> tuple[Array, Array, Array, Array]:
    """Play rounds of a bandit method on losses in [0, 1].

    Parameters
    ----------
    block : array, shape (rounds, learners, n or 1)
        Losses, of which each learner sees that of its arm; with one column, the losses of the arms as they are.
    x : array, shape (learners, n)
        Probabilities before.
    arm : int64 array, shape (learners,)
        Arms of the first of these rounds.
    losses : array, shape (learners, n)
        Estimated cumulative losses before.
    rounds : int
        Rounds played before.
    key : int
        Random stream.
    method : {"exp3", "tsallis", "tsallis-rv"}
        The method.
    xp : module
        Namespace.

    Returns
    -------
    x, arm, losses : array
        After the rounds.
    incurred : array, shape (rounds, learners)
        Losses of the arms.
    """
    learners, n = x.shape
    index = xp.arange(n, dtype=xp.int64, device=device_of(x))
    incurred = []
    for t in range(block.shape[0]):
        k = rounds + t + 1
        chosen = xp.astype(index == arm[:, None], x.dtype)
        value = xp.sum(block[t, ...] * chosen, axis=-1)
        incurred.append(value)
        p = xp.sum(x * chosen, axis=-1)
        if method == "tsallis-rv":
            shift = xp.where(x >= 16.0 / k, xp.full_like(x, 0.5), xp.zeros_like(x))
            own = xp.sum(shift * chosen, axis=-1)
            losses = losses + shift + chosen * ((value - own) / p)[:, None]
        else:
            losses = losses + chosen * (value / p)[:, None]
        if method == "exp3":
            x = softmax(-math.sqrt(math.log(n) / (n * (k + 1))) * losses, 1.0, xp=xp)
        else:
            x = tsallis_simplex(
                -(0.5 * (4.0 if method == "tsallis-rv" else 2.0) / math.sqrt(k + 1)) * losses, 1.0, xp=xp
            )
        arm = draw(x, key, k * learners, xp=xp)
    return x, arm, losses, xp.stack(incurred)


class ValueLearner(Learner):
    """A learner that is told the loss of its decision, in a known range, and nothing else."""

    kind = "value"
    proof = False

    def __init__(self, n: int, *, low: float, high: float, rng: Any) -> None:
        super().__init__(n)
        self.low = check.scalar("low", low)
        self.high = check.scalar("high", high, low=self.low, low_open=True)
        self._rng = as_generator(rng)
        self._cell = np.empty((1, 1, 1))  # feedback of one round, of one learner

    def _range(self) -> tuple[float, float]:
        return self.low, self.high

    def _read(self, feedback: Any) -> Array:
        value = feedback
        if isinstance(feedback, Feedback):
            value = feedback.value
            if feedback.arm is not None:
                arm, drawn = to_numpy(feedback.arm), to_numpy(self.decide())
                if np.shape(arm) != np.shape(drawn) or np.any(arm != drawn):
                    raise self._error(f"the arm {arm}", f"the arm that was decided, {drawn}")
        if not isinstance(value, float) or self._batch:
            if value is None:
                raise self._error("no value", "the loss of the decision", kind=TypeError)
            block = self._convert(value, self._shape[:-1])
            return block[None, :, None] if self._batch else block[None, None, None]
        if self._is_numpy:
            self._cell[0, 0, 0] = value
            return self._cell
        return self._xp.full((1, 1, 1), float(value), dtype=self._wide, device=device_of(self._like))

    def _accepts(self, block: Array) -> bool:
        if self._is_numpy and not self._batch:
            return self.low <= block.item() <= self.high
        return tally(block, self.low, self.high, xp=self._xp)[0] == 1


class _Bandit(ValueLearner):
    """What the bandit learners share: the arm of a round is drawn when the round before it ends."""

    kind = "arm"
    _method = ""

    def __init__(self, n: int, *, low: float = 0.0, high: float = 1.0, rng: Any = None) -> None:
        super().__init__(n, low=low, high=high, rng=rng)
        self.domain = Simplex(self.n)

    def _initial(self, zeros: Array, xp: Any) -> BanditState:
        key = int(self._rng.integers(0, 2**63))
        x = zeros + 1.0 / self.n
        return BanditState(x, draw(x, key, 0, xp=xp), zeros, 0, key)

    def _advance(self, state: BanditState, block: Array, xp: Any) -> tuple[BanditState, Array]:
        unit = self.low == 0.0 and self.high == 1.0
        width = self.high - self.low
        x, arm, losses, incurred = bandit_rounds(
            block if unit else (block - self.low) / width,
            state.x,
            state.arm,
            state.losses,
            state.rounds,
            state.key,
            self._method,
            xp=xp,
        )
        after = BanditState(x, arm, losses, state.rounds + block.shape[0], state.key)
        return after, incurred if unit else self.low + width * incurred

    def _decision(self, state: BanditState) -> Array:
        return state.arm


class EXP3(_Bandit):
    r"""EXP3 for ``n`` arms: exponential weights of importance-weighted losses.

    Parameters
    ----------
    n : int
        Number of arms.
    low, high : float
        Range of the losses; a loss outside of it is refused.
    rng : int or Generator, optional
        Seed of the arms.

    Notes
    -----
    Regret bound, in expectation: ``2 (high - low) sqrt(T n log n)``, with the rate ``sqrt(log(n) / (n t))`` and no
    further exploration.

    Cost: O(n) per round. The random numbers are addressed by the number of the round: a saved learner draws the same
    arms again.

    References
    ----------
    .. [1] P. Auer, N. Cesa-Bianchi, Y. Freund, R. E. Schapire, "The Nonstochastic Multiarmed Bandit Problem",
       SIAM J. Computing 32 (2002).
    .. [2] S. Bubeck, N. Cesa-Bianchi, "Regret Analysis of Stochastic and Nonstochastic Multi-armed Bandit Problems",
       arXiv:1204.5721, Theorem 3.1.

    Examples
    --------
    >>> from optlib.online import EXP3
    >>> learner = EXP3(3, rng=0)
    >>> arm = learner.decide()
    >>> learner.update(0.5)
    >>> learner.rounds
    1
    """

    _method = "exp3"

    def _bound(self, state: BanditState, comparator: np.ndarray | None) -> Any:
        return 2.0 * (self.high - self.low) * math.sqrt(state.rounds * self.n * math.log(self.n))


class TsallisINF(_Bandit):
    r"""Tsallis-INF for ``n`` arms: optimal for adversarial and for stochastic losses at once, with nothing to tune.

    Parameters
    ----------
    n : int
        Number of arms.
    low, high : float
        Range of the losses; a loss outside of it is refused.
    estimator : {"reduced-variance", "importance-weighted"}
        Estimator of the losses.
    rng : int or Generator, optional
        Seed of the arms.

    Notes
    -----
    Regret bound, in expectation and for losses in [0, 1]: ``2 sqrt(n T) + 10 n log(T) + 16`` for the estimator with
    reduced variance, ``4 sqrt(n T) + 1`` for the other. If one arm is better by a margin, the regret is logarithmic.

    Cost: O(n) times about eight Newton steps per round.

    References
    ----------
    .. [1] J. Zimmert, Y. Seldin, "Tsallis-INF: An Optimal Algorithm for Stochastic and Adversarial Bandits",
       JMLR 22 (2021), Theorem 1.

    Examples
    --------
    >>> from optlib.online import TsallisINF
    >>> learner = TsallisINF(3, rng=0)
    >>> for _ in range(100):
    ...     learner.update(float(learner.decide() != 1))
    >>> bool(learner.state.x[0, 1] > 0.5)
    True
    """

    def __init__(
        self, n: int, *, low: float = 0.0, high: float = 1.0, estimator: str = "reduced-variance", rng: Any = None
    ) -> None:
        super().__init__(n, low=low, high=high, rng=rng)
        self.estimator = check.option("estimator", estimator, ("reduced-variance", "importance-weighted"))
        self._method = "tsallis-rv" if estimator == "reduced-variance" else "tsallis"

    def _bound(self, state: BanditState, comparator: np.ndarray | None) -> Any:
        t, n = state.rounds, self.n
        if self._method == "tsallis":
            bound = 4.0 * math.sqrt(n * t) + 1.0
        else:
            bound = 2.0 * math.sqrt(n * t) + 10.0 * n * math.log(max(t, 1)) + 16.0
        return (self.high - self.low) * bound
