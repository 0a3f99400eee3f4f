"""The one driver of online learning: learners against arrays, streams and environments, with the regret tracked."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import array_api_compat as compat
import numpy as np

from optlib._core import Certificate, Result, Status, Step, Steps, prepare_resume, run
from optlib._core import validation as check
from optlib.backend import Array, asarray_like, device_of, to_numpy
from optlib.online._accounts import Best, Path, Switches, as_points
from optlib.online.comparators import Switching
from optlib.online.feedback import Feedback
from optlib.online.learner import Learner

BLOCK = 1 << 16  # numbers of feedback that are handled at once: they stay in the cache


class OnlineResult(Result):
    """Result of a game: a `Result` with the regret and its bound.

    Attributes
    ----------
    x : array
        The decision for the next round.
    fun, cumulative_loss : float or array of shape (learners,)
        Sum of the losses (``fun`` is their mean over the learners).
    regret : float or array of shape (learners,)
        Cumulative loss minus that of the comparator. For convex losses of an environment that does not know its best
        decision it is the regret of the linearised losses, which is larger.
    regret_bound : float or array of shape (learners,)
        What the theorem guarantees for the feedback as it was.
    comparator : array or None
        The decision compared with; in hindsight the best one, if none was given.
    """

    def summary(self) -> list[tuple[str, str]]:
        """Rows of the printed form: label and text."""
        rows = super().summary()
        worst = float(np.max(np.asarray(self.regret)))
        bound = float(np.max(np.asarray(self.regret_bound)))
        return [*rows[:2], ("regret", f"{worst:.6g}, at most {bound:.6g} by the theorem"), *rows[2:]]


class Game(NamedTuple):
    """State of a game: that of the learner, losses so far, their linear part, the comparator's account, rounds."""

    learner: Any
    loss: Array
    linear: Array
    reference: Array
    rounds: int


def play(
    learner: Learner,
    environment: Any,
    rounds: int | None = None,
    *,
    comparator: Any = None,
    learners: int | None = None,
    init: Any = None,
    tol: float | None = 0.1,
    check_every: int | None = None,
    callback: Callable[..., Any] | None = None,
    record: Any = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> OnlineResult:
    """Play a learner against an environment and account for its regret.

    Parameters
    ----------
    learner : Learner
        Starts anew; afterwards it is in the state after the last round.
    environment : array, iterable, callable or object
        Linear losses as an array of shape (rounds, n), or (rounds, learners, n) for independent learners; or an
        iterable of rounds, each an array of shape (n,) or (learners, n), or a `Feedback`; or a function
        ``f(t, x) -> (value, gradient)``; or an object with ``block(start, stop)``, which returns linear losses as an
        array, or with ``reveal(t, x)``, which returns a `Feedback`, and perhaps ``best(rounds)``, which returns the
        best fixed decision and its loss.
    rounds : int, optional
        Rounds to play; by default all that an array or iterable has.
    comparator : array or Switching, optional
        What to measure the regret against: a decision, shape (n,), one for each round, shape (rounds, n), or the best
        sequence with some switches. By default the best fixed decision in hindsight, exactly.
    learners : int, optional
        Number of independent learners that all face the same losses (bandits with different arms, for example).
    init : OnlineResult or its state, optional
        Continue that game.
    tol : float or None
        The result counts as a success if the regret per round is proven to be at most this, in units of the losses.
    check_every : int, optional
        Rounds between two entries of the history; by default there are about 50.
    callback : callable, optional
        Called with an intermediate result at every check.
    record : bool or "iterates"
        Whether to keep the history (``stop`` is the largest regret), and the decisions at the checks.
    max_time : float, optional
        Limit in seconds.
    disp : {0, 1, 2}
        Silent, one line, a table.
    checkpoint : path, optional
        File to save the game to, and to continue from.

    Returns
    -------
    OnlineResult
        With the regret, its bound as certificate, and the state to continue from.

    Raises
    ------
    ValueError, TypeError
        For feedback that is not finite or has the wrong size: the message has the number of the round, and the learner
        is as it was before that round.

    Notes
    -----
    Stopping: after the given rounds.

    Cost: that of the learner and O(n) per round. Losses from an array or from ``block`` are handled in blocks by one
    kernel; no more than one block is held in memory.

    References
    ----------
    .. [1] N. Cesa-Bianchi, G. Lugosi, "Prediction, Learning, and Games", 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import Hedge, play
    >>> losses = np.random.default_rng(0).random((1000, 5))
    >>> res = play(Hedge(5), losses)
    >>> res.success, bool(res.regret <= res.regret_bound)
    (True, True)
    """
    if not isinstance(learner, Learner):
        raise check.error("learner", type(learner).__name__, "a learner of optlib.online", kind=TypeError)
    tol = None if tol is None else check.scalar("tol", tol, low=0.0)
    state = prepare_resume(init, Game)
    source = _source(environment, learner, learners)
    limit = source.length if rounds is None else check.scalar("rounds", rounds, low=0, integer=True)
    if limit is None:
        raise check.error("rounds", "nothing", "the number of rounds, as the environment has no end")
    begun = 0 if state is None else state.rounds
    count = limit - begun if rounds is None else limit
    if source.length is not None and begun + count > source.length < math.inf:
        expected = f"at most {source.length - begun}, which the environment has left"
        raise check.error("rounds", count, expected, "leave it out to play them all")
    learner.start(like=source.like, learners=source.learners)
    xp, zeros = learner._xp, learner._xp.zeros_like(learner.state.x)
    if learner.kind in ("example", "value") and isinstance(source, _Linear):
        expected = "examples, for instance LinearModelLosses, or an iterable of Feedback(features=..., target=...)"
        if learner.kind == "value":
            expected = "an object or a function that reveals the value of the decision"
        raise check.error("environment", type(environment).__name__, expected, kind=TypeError)
    account, switches = _account(comparator, learner, source)
    points = None if comparator is None or switches is not None else account.points
    if state is None:
        state = Game(learner.state, zeros[:, 0], zeros[:, 0], account.start(zeros, xp), 0)
    learner.state = state.learner
    endless = count == math.inf
    count = 2**62 if endless else count
    if check_every is None:
        check_every = 1000 if endless else max(1, count // 50)

    def regret(game: Game) -> Array:
        return account.regret(game.loss, game.linear, game.reference, game.rounds, xp)

    def finish(last: Step) -> dict[str, Any]:
        game = last.state
        point = comparator if comparator is not None else account.point(game.reference, game.rounds, xp)
        if comparator is None and len(learner.point) > 1:
            point = xp.reshape(point, (-1, *learner.point))
        bound = learner.regret_bound(None if switches is not None else points, switches=switches)
        note = "" if learner.proof else "in expectation"
        value, scale = float(np.max(bound)), float(max(game.rounds, 1))
        shape = _one if not learner._batch else _many
        return {
            "fun": float(np.mean(_many(game.loss))),
            "cumulative_loss": shape(game.loss),
            "regret": shape(regret(game)) if source.known else np.nan,
            "regret_bound": bound,
            "comparator": point if learner._batch or comparator is not None or point is None else _first(point),
            "certificate": Certificate("regret_bound", value, scale, tol, proof=learner.proof, note=note),
        }

    config = {k: v for k, v in vars(learner).items() if not k.startswith("_")}
    result = run(
        partial(_rounds, learner=learner, source=source, account=account, regret=regret, xp=xp),
        state=state,
        like=learner._like,
        xp=xp,
        method=type(learner).__name__,
        finish=finish,
        tol=None,
        maxiter=count,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(type(learner).__name__, config, getattr(learner, "mirror", ""), source.identity, comparator),
        result_class=OnlineResult,
    )
    if result.status is Status.MAXITER:
        result["message"] = f"all {result.nit} rounds were played"
    return result


def _one(values: Array) -> float:
    return float(to_numpy(values)[0])


def _many(values: Array) -> np.ndarray:
    return np.asarray(to_numpy(values), np.float64)


def _first(point: Array) -> Array:
    return point[0, ...] if getattr(point, "ndim", 0) > 1 else point


def _rounds(game: Game, *, learner: Learner, source: Any, account: Any, regret: Any, xp: Any) -> Steps:
    learner.state = game.learner
    ended = None
    while True:
        stop = partial(regret, game) if source.known else lambda: 0.0
        budget = yield Step(
            learner.decide(), game.rounds, game, status=ended, counts={"rounds": game.rounds},
            stop=lambda stop=stop: _largest(stop(), xp), metrics={"loss": partial(_mean, game.loss, xp)},
        )  # fmt: skip
        try:
            game = source.advance(game, learner, account, budget, xp)
        except StopIteration:
            ended = Status.MAXITER


def _largest(values: Any, xp: Any) -> Any:
    return xp.max(values) if compat.is_array_api_obj(values) else values


def _mean(values: Array, xp: Any) -> Array:
    return xp.mean(values)


# --- where rounds come from ---


class _Linear:
    """Blocks of linear losses."""

    known = True
    best = value = None

    def __init__(self, block: Callable[[int, int], Array], length: Any, like: Array, learners: int | None, mark: Any):
        self.block, self.length, self.like, self.learners, self.identity = block, length, like, learners, mark

    def advance(self, game: Game, learner: Learner, account: Any, budget: int, xp: Any) -> Game:
        stop = game.rounds + budget
        while game.rounds < stop:
            game = self._advance(game, learner, account, stop, xp)
        return game

    def _advance(self, game: Game, learner: Learner, account: Any, stop: int, xp: Any) -> Game:
        size = max(1, BLOCK // max(1, learner._learners * learner.n))
        block = self.block(game.rounds, min(stop, game.rounds + size))
        if block.dtype != learner._wide:
            block = xp.astype(block, learner._wide)
        if block.ndim == 2:
            block = block[:, None, :]
        if block.shape[1] != learner._learners:
            block = xp.broadcast_to(block, (block.shape[0], learner._learners, block.shape[2]))
        good, total = learner._tally(block)
        if good:
            played = block if good == block.shape[0] else block[:good, ...]
            state, incurred = learner._advance(game.learner, played, xp)
            loss = game.loss + xp.sum(incurred, axis=0)
            reference = account.add(game.reference, played, total, game.rounds, xp)
            game = Game(state, loss, loss, reference, game.rounds + good)
            learner.state = state
        if good < block.shape[0]:
            raise learner._refusal(block, good)
        return game


class _Oracle:
    """Rounds revealed one by one: a function of the round and the decision."""

    known = True
    context: Any = None

    def __init__(
        self,
        reveal: Callable[[int, Array], Any],
        like: Array,
        learners: int | None,
        best: Any,
        mark: Any,
        length: Any = None,
    ) -> None:
        self.reveal, self.like, self.learners, self.best = reveal, like, learners, best
        self.identity, self.length = mark, length

    def advance(self, game: Game, learner: Learner, account: Any, budget: int, xp: Any) -> Game:
        for played in range(budget):
            try:
                game = self._advance(game, learner, account, xp)
            except StopIteration:
                if played == 0:
                    raise
                break  # what was played counts; the next call ends the game
        return game

    def value(self, t: int, x: Array) -> Any:
        return self.reveal(t, x).value

    def _advance(self, game: Game, learner: Learner, account: Any, xp: Any) -> Game:
        foreseen = learner.foresees and self.context is not None
        x = learner.decide(self.context(game.rounds)) if foreseen else learner.decide()
        feedback = self.reveal(game.rounds, x)
        learner.update(feedback)
        g = feedback.losses if feedback.gradient is None else feedback.gradient
        value = linear = xp.zeros_like(game.loss)
        reference = game.reference
        if g is not None:
            block = xp.reshape(learner._convert(g, learner._shape), (1, learner._learners, learner.n))
            points = game.learner.x
            if learner.kind == "arm":
                points = _indicator(game.learner.arm, block[0, ...], xp)
            value = linear = xp.sum(block[0, ...] * points, axis=-1)
            reference = account.add(reference, block, block[0, ...], game.rounds, xp, linear=feedback.value is None)
        elif self.best is None:
            self.known = False
        if feedback.value is not None:
            value = value * 0.0 + xp.reshape(asarray_like(to_numpy(feedback.value), game.loss), (-1,))
        return Game(learner.state, game.loss + value, game.linear + linear, reference, game.rounds + 1)


class _Stream(_Oracle):
    """Rounds of an iterable."""

    value = None

    def __init__(self, items: Iterator[Any], like: Array, learners: int | None, mark: Any) -> None:
        super().__init__(self._next, like, learners, None, mark, math.inf)
        self._items = items

    def _next(self, t: int, x: Array) -> Feedback:
        item = next(self._items)
        return item if isinstance(item, Feedback) else Feedback(losses=item)


def _indicator(arm: Array, like: Array, xp: Any) -> Array:
    index = xp.arange(like.shape[-1], dtype=xp.int64, device=device_of(like))
    return xp.astype(index == arm[:, None], like.dtype)


def _source(environment: Any, learner: Learner, learners: int | None) -> Any:
    """Sort out what the user passed as environment."""
    n = learner.n
    if hasattr(environment, "block"):
        first = environment.block(0, 1)
        count = learners or (first.shape[1] if first.ndim == 3 else None)
        return _Linear(environment.block, getattr(environment, "rounds", None), first, count, repr(environment))
    if hasattr(environment, "reveal"):
        like = getattr(environment, "like", np.empty(0))
        best, length = getattr(environment, "best", None), getattr(environment, "rounds", None)
        oracle = _Oracle(environment.reveal, like, learners, best, repr(environment), length)
        oracle.context = getattr(environment, "context", None)
        return oracle
    if isinstance(environment, (list, tuple)) or compat.is_array_api_obj(environment):
        xp = check.common(environment=environment)[0]
        losses = check.array("environment", environment, xp=xp, finite=False)
        point = losses.shape[losses.ndim - len(learner.point) :]
        if losses.ndim - len(point) not in (1, 2) or tuple(point) != learner.point:
            inner = ", ".join(map(str, learner.point))
            expected = f"losses of shape (rounds, {inner}) or (rounds, learners, {inner})"
            raise check.error("environment", f"shape {tuple(losses.shape)}", expected)
        losses = xp.reshape(losses, (*losses.shape[: losses.ndim - len(point)], n)) if len(point) > 1 else losses
        if losses.ndim == 3 and learners not in (None, losses.shape[1]):
            raise check.error("learners", learners, f"{losses.shape[1]}, as the losses have")
        count = losses.shape[1] if losses.ndim == 3 else learners
        return _Linear(lambda start, stop: losses[start:stop, ...], losses.shape[0], losses, count, losses)
    if callable(environment):

        def reveal(t: int, x: Array) -> Feedback:
            value, gradient = environment(t, x)
            return Feedback(gradient=gradient, value=value)

        return _Oracle(reveal, np.empty(0), learners, None, environment)
    if isinstance(environment, Iterable):
        return _Stream(*_peek(iter(environment), learners, len(learner.point)), "stream")
    expected = "an array of losses, an iterable, a function, or an object with `block` or `reveal`"
    raise check.error("environment", type(environment).__name__, expected, kind=TypeError)


def _peek(items: Iterator[Any], learners: int | None, ndim: int) -> tuple[Iterator[Any], Array, int | None]:
    """Look at the first round of a stream for its library and the number of learners."""
    first = next(items, None)
    array = first
    if isinstance(first, Feedback):
        array = next((v for v in (first.gradient, first.losses, first.features) if v is not None), None)
    like = array if compat.is_array_api_obj(array) else np.empty(0)
    if learners is None and like.ndim == ndim + 1:
        learners = like.shape[0]

    def chain() -> Iterator[Any]:
        if first is not None:
            yield first
        yield from items

    return chain(), like, learners


def _account(comparator: Any, learner: Learner, source: Any) -> tuple[Any, int | None]:
    """Return the accumulator of the comparator, and its number of switches if it is one that switches."""
    if isinstance(comparator, Switching):
        return Switches(comparator.switches), comparator.switches
    if comparator is not None:
        return Path(as_points(comparator, learner.state.x, learner.n), source.value), None
    domain = learner._domain
    if source.best is None and (domain is None or math.isinf(domain.diameter)):
        raise check.error("comparator", "nothing", "a decision, as there is no best one on an unbounded set")
    return Best(domain, source.best), None
