"""Programs of steps that can be left after any of them and entered again."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

from optlib._core import Status, Step, Steps
from optlib.backend import Array
from optlib.sensing._lowrank import Point
from optlib.sensing._problem import Problem
from optlib.sensing.levenberg_marquardt import LMState

ENDED = -1


class Found(NamedTuple):
    """A matrix and its residual."""

    U: Array
    s: Array
    V: Array
    residual: Array

    @property
    def point(self) -> Point:
        """The matrix."""
        return Point(self.U, self.s, self.V)


def found(state: LMState) -> Found:
    """The matrix of a state."""
    return Found(*state.point, state.residual)


class Stages(ABC):
    """Stages, tried one after the other; each is a program of instructions.

    An instruction is the name of a method and its arguments. The method gets the state and returns the next: after one
    iteration, or `done`, or with another place in the program. All that the run knows is in the state, a NamedTuple
    with at least the fields ``now`` (an `LMState`), ``stage`` (its name), ``at`` (the instruction) and ``used``
    (iterations of this instruction): a run goes on from it as if it had not been left.
    """

    problem: Problem

    @abstractmethod
    def program(self, state: Any) -> list[tuple[Any, ...]]:
        """Instructions of the state's stage."""

    @abstractmethod
    def ended(self, state: Any) -> Any:
        """The state after the last instruction of a stage: the next stage, or the answer with ``at = ENDED``."""

    @abstractmethod
    def measure(self, state: Any) -> Any:
        """The quantity of the stopping rule."""

    def is_answer(self, state: Any) -> bool:
        """Whether the state may be shown: its rank is not larger than the one asked for."""
        return True

    def steps(self, state: Any) -> Steps:
        """All stages; ends with the answer."""
        while True:
            if state.at == ENDED or state.now.nit == 0 or self.is_answer(state):
                yield Step(
                    x=state.now.point.factors,
                    nit=state.now.nit,
                    state=state,
                    stop=lambda: self.measure(state),
                    status=Status.CONVERGED if state.at == ENDED else None,
                    counts={"passes": state.now.passes},
                )
            state = self._next(state)

    def _next(self, state: Any) -> Any:
        """The state after one iteration more, or at the end."""
        nit = state.now.nit
        while state.at != ENDED and state.now.nit == nit:
            program = self.program(state)
            if state.at == len(program):
                state = self.ended(state)
            else:
                name, *args = program[state.at]
                state = getattr(self, name)(state, *args)
        return state


def done(state: Any, **changes: Any) -> Any:
    """The state at the next instruction."""
    return state._replace(at=state.at + 1, used=0, **changes)


def flat(parts: Iterable[Iterable[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Join lists of instructions."""
    return [instruction for part in parts for instruction in part]
