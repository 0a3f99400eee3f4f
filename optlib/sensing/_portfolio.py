"""The default of `recover`: several starts of one method, each tried only if the ones before it failed.

A stage is a generator of states. The first, the spectral start, is best for singular values of about equal size; the
second, growing rank, for singular values of different sizes, and it finds the rank; the third takes the short steps of
Riemannian conjugate gradients; the fourth goes through larger ranks and back.
"""

import math
from collections.abc import Generator, Iterator
from typing import NamedTuple

from optlib._core import Status, Step, Steps
from optlib.backend import Array
from optlib.sensing import riemannian
from optlib.sensing._lowrank import Point, append, degrees_of_freedom, tangent_gradient, top_singular, zero_point
from optlib.sensing._problem import Problem
from optlib.sensing.entries import EntrySampling
from optlib.sensing.levenberg_marquardt import FLAT, LMState, Method
from optlib.sensing.spectral import spectral_point

AGREEMENT = 1e-4  # relative difference of squared residuals by which two stages found the same minimum
Stage = Generator[LMState, None, LMState]


class PortfolioState(NamedTuple):
    """Where the portfolio is: the matrix, its residual, steps and passes so far, the stage."""

    U: Array
    s: Array
    V: Array
    residual: Array
    nit: int
    passes: int
    stage: str

    @property
    def point(self) -> Point:
        """The matrix."""
        return Point(self.U, self.s, self.V)


class Portfolio:
    """The stages, tried one after the other on one problem.

    Parameters
    ----------
    problem : Problem
    rank : int or None
        None: to be found.
    start : Point or None
        Tried before all stages.

    Attributes
    ----------
    agreed : bool
        Whether two stages ended in the same minimum, which is then taken for the global one under noise.
    """

    def __init__(self, problem: Problem, rank: int | None, start: Point | None) -> None:
        self.problem, self.rank, self.first = problem, rank, start
        self.method = Method(problem, cap=60)
        self.completion = isinstance(problem.A, EntrySampling)
        self.agreed = False

    def steps(self, state: PortfolioState) -> Steps:
        """All stages; ends with the best point."""
        best, values, nit, passes = state, [], state.nit, state.passes
        yield self._step(state)
        for name, stage in self._stages():
            before, last = (0, 0), None
            for last in stage:
                now = PortfolioState(*last.point, last.residual, nit + last.nit, passes + last.passes, name)
                larger = self.rank is not None and last.point.rank > self.rank  # on the way, not an answer
                if last.nit != before[0] and not larger:
                    yield self._step(now)
                before = last.nit, last.passes
            if last is None:
                continue
            nit, passes = nit + before[0], passes + before[1]
            value = self.method.value(last.residual)
            if value < self.method.value(best.residual) or best.stage == "start":
                best = PortfolioState(*last.point, last.residual, nit, passes, name)
            if math.sqrt(value) <= self._target:
                break
            self.agreed = any(abs(value - v) <= AGREEMENT * value for v in values) and self._stationary(best)
            values.append(value)
            if self.agreed:
                break
        yield self._step(best._replace(nit=nit, passes=passes), Status.CONVERGED)

    @property
    def _target(self) -> float:
        return (self.problem.target or 0.0) * self.problem.size

    def _step(self, state: PortfolioState, status: Status | None = None) -> Step:
        return Step(
            x=state.point.factors,
            nit=state.nit,
            state=state,
            stop=lambda: self.problem.relative(state.residual),
            status=status,
            counts={"passes": state.passes},
        )

    def _stationary(self, state: PortfolioState) -> bool:
        g = tangent_gradient(self.problem.A, state.point, state.residual, self.problem.psd)
        size = math.sqrt(sum(self.method.value(u) for u in g))
        return size <= 1e-3 * math.sqrt(self.problem.A.isotropy * self.method.value(state.residual))

    def _stages(self) -> Iterator[tuple[str, Stage]]:
        if self.first is not None:
            yield "given start", self._from(self.first)
        if self.rank is None:
            yield "rank search", self._search()
        yield "spectral start", self._from(None)
        yield "rank continuation", self._continuation()
        yield "conjugate gradients", self._gradients()
        yield "rank cycle", self._cycle()

    # -- stages --

    def _improve(self, state: LMState, steps: int, fall: float = 0.0) -> Stage:
        """Levenberg-Marquardt steps until the target, no progress, or a step that lowers less than ``fall``."""
        for _ in range(steps):
            value = self.method.value(state.residual)
            if math.sqrt(value) <= self._target or state.flat >= FLAT:
                break
            state = self.method.step(state)
            yield state
            if self.method.value(state.residual) > (1.0 - fall) * value:
                break
        return state

    def _again(self, point: Point, old: LMState) -> LMState:
        """A state at another point, with the counts so far."""
        return self.method.start(point, old.nit, old.passes)

    def _from(self, point: Point | None) -> Stage:
        state = self.method.start(spectral_point(self.problem, self.rank) if point is None else point)
        yield state
        return (yield from self._improve(state, 25 if self.completion and point is None else 100))

    def _grown(self, state: LMState) -> LMState:
        """The state with the singular pair appended that lowers the residual fastest."""
        A, xp, psd = self.problem.A, self.problem.xp, self.problem.psd
        U, s, V = top_singular(A, -state.residual, 1, psd=psd)
        change = A._forward_factored(U, V)
        square = xp.sum(change * change)
        amount = -xp.sum(change * state.residual) / xp.where(square > 0, square, xp.ones_like(square))
        amount = xp.maximum(amount, 1e-3 * xp.abs(s[0]) / A.isotropy)
        grown = append(state.point, U[:, 0], amount, V[:, 0], psd, xp)
        return self._again(grown, state._replace(passes=state.passes + 4))

    def _continuation(self) -> Stage:
        state = self.method.start(zero_point(self.problem.A))
        steps = 4 if self.completion else 8
        for _ in range(self.rank):
            state = self._grown(state)
            yield state
            state = yield from self._improve(state, steps, fall=0.01)
        return (yield from self._improve(state._replace(flat=0), 100))

    def _gradients(self) -> Stage:
        method = riemannian.Method(self.problem)
        state = method.start(spectral_point(self.problem, self.rank))
        while state.nit < 400 and state.flat < FLAT and math.sqrt(method.value(state.residual)) > self._target:
            state = method.step(state)
            yield LMState(*state.point, state.residual, -1.0, 2.0, math.inf, 0, state.nit, state.passes)
        polish = self.method.start(state.point, state.nit, state.passes)
        yield polish
        return (yield from self._improve(polish, 100))

    def _cycle(self) -> Stage:
        state = self.method.start(spectral_point(self.problem, self.rank))
        room = min(self.problem.A.matrix_shape) - self.rank
        for extra in range(1, min(2, room) + 1):
            for _ in range(extra):
                state = self._grown(state)
                state = yield from self._improve(state, 8)
            for k in range(self.rank + extra - 1, self.rank - 1, -1):
                U, s, V = state.point
                state = self._again(Point(U[:, :k], s[:k], V[:, :k]), state)
                yield state
                state = yield from self._improve(state, 8 if k > self.rank else 100)
        return state

    def _search(self) -> Stage:
        """Grow the rank to the target, or to the least ``m log f + 2 dof m / (m - dof - 1)`` (Akaike, corrected)."""
        A, m = self.problem.A, self.problem.A.shape[0]
        state, best, rises = self.method.start(zero_point(A)), None, 0
        least = math.inf
        for k in range(1, min(A.matrix_shape) + 1):
            dof = degrees_of_freedom(A.matrix_shape, k, self.problem.psd)
            if dof >= 0.9 * m - 1 and k > 1:
                break
            state = self._grown(state)
            yield state
            state = yield from self._improve(state, 30, fall=1e-3)
            value = self.method.value(state.residual)
            if self.problem.target is not None and math.sqrt(value) < 1e-3 * self.problem.size:
                state = yield from self._improve(state, 30)  # the residual may fall to zero
                value = self.method.value(state.residual)
            if math.sqrt(value) <= self._target:
                self.rank = k
                return state
            penalty = 2.0 * dof * m / (m - dof - 1) if m > dof + 1 else math.inf
            criterion = m * math.log(value / m) + penalty
            if criterion < least or best is None:
                least, best, rises = criterion, state, 0
            else:
                rises += 1
            if rises == 2:
                break
        self.rank = best.point.rank
        state = self._again(best.point, state)
        yield state
        return (yield from self._improve(state, 100))
