"""What every learner is: decide, be told, decide again; a state that can be saved, a bound that can be checked."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import (
    Array,
    Portable,
    array_namespace,
    asarray_like,
    default_float,
    device_of,
    get_engine,
    is_numpy,
    kernel,
    linalg,
    to_numpy,
)
from optlib.online.feedback import Feedback


@kernel(numba="optlib.online._streams_numba:tally", match="sum")
def tally(block: Array, low: float, high: float, *, xp: Any) -> tuple[int, Array]:
    """Count the rounds before the first one with an entry outside ``[low, high]``, or NaN, and sum them up.

    Parameters
    ----------
    block : array, shape (rounds, learners, n)
        Feedback.
    low, high : float
        Bounds.
    xp : module
        Namespace.

    Returns
    -------
    good : int
        The number of good rounds.
    total : array, shape (learners, n)
        Their sum.
    """
    good = xp.all((block >= low) & (block <= high), axis=(1, 2))
    count = block.shape[0] if bool(xp.all(good)) else int(np.argmin(to_numpy(good)))
    return count, xp.sum(block[:count, ...], axis=0)


@kernel(numba="optlib.online._streams_numba:within", match="exact")
def within(row: Array, low: float, high: float, *, xp: Any) -> bool:
    """Tell whether all entries are in ``[low, high]``; False for NaN.

    Parameters
    ----------
    row : array, shape (n,)
        Numbers.
    low, high : float
        Bounds.
    xp : module
        Namespace.

    Returns
    -------
    bool
        Whether they are.
    """
    return bool(xp.all((row >= low) & (row <= high)))


class Learner(Portable, ABC):
    """Base class of the learners, or of many independent learners that run as one.

    ``decide()`` returns the decision of the coming round, as often as it is called; ``update(feedback)`` ends the
    round. The state is a NamedTuple that is replaced, never changed: keep ``state``, assign it later, and the learner
    goes on from there, bit for bit. It is kept in the widest floating dtype of the device, whatever the dtype of the
    feedback, so that sums over millions of rounds stay exact enough; decisions have the dtype of the feedback.

    Parameters
    ----------
    n : int
        Number of coordinates of a decision, of experts or of arms.

    Notes
    -----
    A learner defines ``_initial(zeros, xp)``, the state before the first round; ``_round(state, g, xp)``, the state
    after a round (or ``_advance``, the same for a block of rounds); and ``_bound``. A state has at least the fields
    ``x``, the decisions, and ``rounds``.
    """

    kind = "gradient"  # what it must be told: "gradient", "value" (at the decision), "arm" (the same) or "example"
    foresees = False  # whether `decide` wants to see the features of the coming example
    proof = True  # whether the bound holds for every sequence, or in expectation only
    domain: Any = None  # a geometry.Domain if the best fixed decision in hindsight is a point of it

    def __init__(self, n: int) -> None:
        self.n = check.scalar("n", n, low=1, integer=True)
        self.point: tuple[int, ...] = (self.n,)  # shape of a decision; inside they are vectors
        self._state: Any = None

    # --- protocol ---

    def start(self, *, like: Any = None, learners: int | None = None) -> "Learner":
        """Forget everything and prepare for the first round.

        Parameters
        ----------
        like : array, optional
            Gives array library, device and dtype of the decisions; by default NumPy float64.
        learners : int, optional
            Number of independent learners; their decisions and feedback have this as first axis.

        Returns
        -------
        Learner
            The learner itself.
        """
        if learners is not None:
            learners = check.scalar("learners", learners, low=1, integer=True)
        like = np.empty(0) if like is None else like
        self._bind(like, learners)
        zeros = self._xp.zeros((learners or 1, self.n), dtype=self._wide, device=device_of(like))
        self._domain = moved(self.domain, zeros)
        self._state = self._initial(zeros, self._xp)
        return self

    @property
    def state(self) -> Any:
        """The state before the coming round; assign a saved one to continue from there."""
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        fields = tuple(getattr(state, "_fields", ()))
        if "x" not in fields or "rounds" not in fields or (self._state and fields != self._state._fields):
            raise check.error("state", type(state).__name__, "a state of the same learner", kind=TypeError)
        if self._state is None:
            learners = int(state.x.shape[0])
            self.start(like=state.x, learners=None if learners == 1 else learners)
        self._state = state

    @property
    def rounds(self) -> int:
        """Number of rounds played."""
        return 0 if self._state is None else self._state.rounds

    def decide(self) -> Array:
        """Return the decision of the coming round: a point, an arm, or an array of them for many learners.

        Returns
        -------
        array, shape (n,) or (learners, n); for bandits (learners,) or a number
            The decision; calling again returns the same.
        """
        if self._state is None:
            self.start()
        x = self._decision(self._state)
        if not self._batch:
            x = x[0] if self._is_numpy else x[0, ...]
        return self._xp.astype(x, self._dtype) if self._cast else x.copy() if self._is_numpy else x

    def update(self, feedback: Any) -> None:
        """Tell what the environment revealed about the round.

        Parameters
        ----------
        feedback : array, number or Feedback
            An array is a gradient (the losses of all experts), a number the loss of the arm.

        Raises
        ------
        ValueError, TypeError
            If it is not what this learner needs, or not finite; the message has the number of the round, and the
            learner is as it was before.
        """
        if self._state is None:
            self.start()
        block = self._read(feedback)
        if not self._accepts(block):
            raise self._refusal(block, 0)
        self._state = self._advance(self._state, block, self._xp)[0]

    def regret_bound(self, comparator: Any = None, *, switches: int | None = None) -> Any:
        """Return the proven bound on the regret so far, from the feedback as it was.

        Parameters
        ----------
        comparator : array, shape (n,) or (rounds, n), optional
            The decision to compare with, or one for each round; by default the bound holds for all fixed decisions.
            It is inf for a path where the learner proves nothing.
        switches : int, optional
            Compare with sequences of decisions with so many switches; inf where the learner proves nothing.

        Returns
        -------
        float, or array of shape (learners,)
            The bound on the host.

        Raises
        ------
        ValueError
            If there is no bound for all comparators at once, because the domain is not bounded.
        """
        if self._state is None:
            self.start()
        if comparator is not None:
            comparator = np.asarray(to_numpy(comparator), np.float64)
        if switches:
            value = self._switching_bound(self._state, switches)
        elif comparator is not None and comparator.ndim == 2:
            value = self._path_bound(self._state, comparator[: self.rounds])
        else:
            value = self._bound(self._state, comparator)
        bound = np.broadcast_to(np.asarray(value, np.float64), (self._learners,))
        return np.array(bound) if self._batch else float(bound[0])

    # --- what a learner defines ---

    @abstractmethod
    def _initial(self, zeros: Array, xp: Any) -> Any: ...

    @abstractmethod
    def _advance(self, state: Any, block: Array, xp: Any) -> tuple[Any, Array]:
        """Play a block of rounds with known linear losses; also return the losses incurred, (rounds, learners)."""

    @abstractmethod
    def _bound(self, state: Any, comparator: np.ndarray | None) -> Any: ...

    def _path_bound(self, state: Any, path: np.ndarray) -> Any:
        return np.inf

    def _switching_bound(self, state: Any, switches: int) -> Any:
        return np.inf

    # --- what follows ---

    def _decision(self, state: Any) -> Array:
        return state.x

    def _accepts(self, block: Array) -> bool:
        """Whether the entries of a block of one round are in range."""
        if self._within is not None:  # without the cost of choosing a variant
            return self._within(block.ravel(), *self._bounds)
        return self._tally(block)[0] == 1

    def _tally(self, block: Array) -> tuple[int, Array]:
        """Count the rounds before the first one that must be refused, and sum them up."""
        low, high = self._range()
        return tally(block, low, high, xp=self._xp)

    def _range(self) -> tuple[float, float]:
        """Entries that are accepted: their squares can be summed for ever."""
        return -self._limit, self._limit

    def _bind(self, like: Array, learners: int | None) -> None:
        xp = self._xp = array_namespace(like)
        self._batch, self._learners = learners is not None, learners or 1
        self._wide = default_float(xp, device_of(like))
        self._dtype = like.dtype if like.dtype in (xp.float32, xp.float64) else self._wide
        self._like = xp.empty(0, dtype=self._dtype, device=device_of(like))
        self._cast = self.kind != "arm" and self._dtype != self._wide
        self._limit = float(xp.finfo(self._wide).max) ** 0.4
        self._shape = (learners, *self.point) if self._batch else self.point
        self._is_numpy = is_numpy(xp)
        self._bounds = self._range()
        self._within = within.numba if self._is_numpy and get_engine() == "auto" else None

    def _read(self, feedback: Any) -> Array:
        """Return feedback as a block of one round, (1, learners, n)."""
        g = feedback
        if isinstance(g, Feedback):
            g = g.losses if g.gradient is None else g.gradient
            if g is None:
                raise self._error("no gradient", "a gradient or the losses of all coordinates", kind=TypeError)
        if not (self._is_numpy and type(g) is np.ndarray and g.dtype == self._wide and g.shape == self._shape):
            g = self._convert(g, self._shape)
        if len(self.point) > 1:
            return self._xp.reshape(g, (1, self._learners, self.n))
        return g[None, :, :] if self._batch else g[None, None, :]

    def _convert(self, value: Any, shape: tuple[int, ...]) -> Array:
        return check.array(
            f"feedback` of round `{self.rounds + 1}", value, xp=self._xp, shape=shape, finite=False, dtype=self._wide,
            device=device_of(self._like),
        )  # fmt: skip

    def _refusal(self, block: Array, index: int) -> Exception:
        """Return the error to raise for a row of a block with an entry out of range."""
        low, high = self._range()
        row = to_numpy(block[index, ...])
        worst = row[~((row >= low) & (row <= high))][0]
        expected = "finite numbers" if not np.isfinite(worst) else f"numbers in [{low:g}, {high:g}]"
        return self._error(f"an entry {worst:g}", expected, "scale the losses" if np.isfinite(worst) else "")

    def _error(self, got: str, expected: str, fix: str = "", kind: type[Exception] = ValueError) -> Exception:
        return check.error(f"feedback` of round `{self.rounds + 1}", got, expected, fix, kind)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n={self.n}) after {self.rounds} rounds"


class RoundLearner(Learner):
    """A learner that is defined by what it does in one round."""

    @abstractmethod
    def _round(self, state: Any, g: Array, xp: Any) -> Any: ...

    def _advance(self, state: Any, block: Array, xp: Any) -> tuple[Any, Array]:
        incurred = []
        for t in range(block.shape[0]):
            incurred.append(xp.sum(state.x * block[t, ...], axis=-1))
            state = self._round(state, block[t, ...], xp)
        return state, xp.stack(incurred)


class ScaledLearner(RoundLearner):
    """A learner whose bound needs gradients of Euclidean norms up to ``scale``: longer ones are refused."""

    scale: float

    def _lengths(self, block: Array) -> np.ndarray:
        """Return the longest gradient of each round, on the host, in units of the scale."""
        size = linalg.norm(block, axis=-1, xp=self._xp)
        return to_numpy(self._xp.max(size, axis=-1)) / self.scale

    def _tally(self, block: Array) -> tuple[int, Array]:
        count, total = super()._tally(block)
        long = self._lengths(block[:count, ...]) > 1.0 + 1e-6
        if not np.any(long):
            return count, total
        count = int(np.argmax(long))
        return count, self._xp.sum(block[:count, ...], axis=0)

    def _accepts(self, block: Array) -> bool:
        return self._tally(block)[0] == 1

    def _refusal(self, block: Array, index: int) -> Exception:
        low, high = self._range()
        if tally(block[index : index + 1, ...], low, high, xp=self._xp)[0] == 0:
            return super()._refusal(block, index)
        size = float(self._lengths(block[index : index + 1, ...])[0]) * self.scale
        return self._error(
            f"a gradient of norm {size:g}", f"norms up to scale = {self.scale:g}", "give a larger `scale`"
        )


def moved(geometry: Any, like: Array) -> Any:
    """Return a domain or a mirror map with its arrays in the library, device and dtype of ``like``."""
    if geometry is None:
        return None
    return geometry._map_arrays(lambda v: asarray_like(to_numpy(v), like) if hasattr(v, "shape") else v)


def column(values: Any) -> np.ndarray:
    """Bring one number per learner to the host."""
    return np.asarray(to_numpy(values), np.float64)
