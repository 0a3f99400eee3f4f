"""The default of `recover`: several starts of one method, each tried only if the ones before it failed.

The first stage, the spectral start, is best for singular values of about equal size; the second, growing rank, for
singular values of different sizes, and it finds the rank; the third takes the short steps of Riemannian conjugate
gradients; the fourth goes through larger ranks and back.
"""

import math
from typing import Any, NamedTuple

from optlib.backend import Array, asarray_like, to_numpy
from optlib.sensing import riemannian
from optlib.sensing._fixed_rank import FLAT
from optlib.sensing._lowrank import Point, append, degrees_of_freedom, tangent_gradient, top_singular, zero_point
from optlib.sensing._problem import Problem
from optlib.sensing._stages import ENDED, Found, Stages, done, flat, found
from optlib.sensing.entries import EntrySampling
from optlib.sensing.levenberg_marquardt import LMState, Method
from optlib.sensing.spectral import spectral_point

AGREEMENT = 1e-4  # relative difference of squared residuals by which two stages found the same minimum
GRADIENTS = 400  # conjugate-gradient iterations
STAGES = ("given start", "rank search", "spectral start", "rank continuation", "conjugate gradients", "rank cycle")


class PortfolioState(NamedTuple):
    """Where the portfolio is.

    Attributes
    ----------
    now : LMState
        The present matrix, iterations and passes so far.
    best : Found
        The best end of a stage.
    candidate : Found
        The best of the rank search.
    gradients : RiemannianState
        Of the stage of conjugate gradients.
    ends : array
        Squared residuals at which stages ended.
    least : float
        Criterion of the candidate.
    rises : int
        Ranks in succession that did not lower it.
    rank : int
        Rank of the answer; 0: not known yet.
    agreed : bool
        Whether two stages ended in the same minimum, which is then taken for the global one under noise.
    stage, best_stage : str
        Names of the present stage, and of that of the best.
    at, used : int
        Instruction of the stage, and iterations that it has had.
    """

    now: LMState
    best: Found
    candidate: Found
    gradients: riemannian.RiemannianState
    ends: Array
    least: float
    rises: int
    rank: int
    agreed: bool
    stage: str
    best_stage: str
    at: int
    used: int


class Portfolio(Stages):
    """The stages on one problem.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.method, self.cg = Method(problem, cap=60), riemannian.Method(problem)
        self.completion = isinstance(problem.A, EntrySampling)
        self.target = (problem.target or 0.0) * problem.size

    def start(self, rank: int | None, point: Point | None) -> PortfolioState:
        """The state before the first iteration, at a given point or at zero."""
        stage = STAGES[0] if point is not None else STAGES[1] if rank is None else STAGES[2]
        zero = zero_point(self.problem.A)
        now = self.method.start(zero if point is None else point)
        nothing = Found(*zero, -1.0 * self.problem.y)
        return PortfolioState(
            now, nothing, nothing, self.cg.start(zero), asarray_like([], self.problem.y), math.inf, 0,
            (point.rank if point is not None else 0) if rank is None else rank, False, stage, "start", 0, 0,
        )  # fmt: skip

    def measure(self, state: PortfolioState) -> Array:
        """Relative residual."""
        return self.problem.relative(state.now.residual)

    def is_answer(self, state: PortfolioState) -> bool:
        """Whether the rank is not larger than that of the answer."""
        return state.rank == 0 or state.now.point.rank <= state.rank

    def program(self, state: PortfolioState) -> list[tuple[Any, ...]]:
        """Instructions of the state's stage."""
        if state.stage == "given start":
            return [("improve", 100)]
        if state.stage == "rank search":
            ranks = [
                [("grow",), ("improve", 30, 1e-3), ("improve_small", 30), ("judge",)] for _ in range(self._limit())
            ]
            return [("zero",), *flat(ranks), ("take_candidate",), ("improve", 100)]
        if state.stage == "spectral start":
            return [("spectral",), ("improve", 25 if self.completion else 100)]
        if state.stage == "rank continuation":
            pair = [("grow",), ("improve", 4 if self.completion else 8, 0.01)]
            return [("zero",), *flat([pair] * state.rank), ("go_on",), ("improve", 100)]
        if state.stage == "conjugate gradients":
            return [("spectral",), ("descend",), ("polish",), ("improve", 100)]
        room = min(self.problem.A.matrix_shape) - state.rank
        up_and_down = [
            [("grow",), ("improve", 8)] * extra
            + flat(
                [("cut", k), ("improve", 8 if k > state.rank else 100)]
                for k in range(state.rank + extra - 1, state.rank - 1, -1)
            )
            for extra in range(1, min(2, room) + 1)
        ]
        return [("spectral",), *flat(up_and_down)]

    def _limit(self) -> int:
        """Largest rank of the search: its degrees of freedom are below 0.9 m."""
        A, k = self.problem.A, 1
        while k < min(A.matrix_shape) and (
            degrees_of_freedom(A.matrix_shape, k + 1, self.problem.psd) < 0.9 * A.shape[0] - 1
        ):
            k += 1
        return k

    def ended(self, state: PortfolioState) -> PortfolioState:
        """Keep the better end; go on to the next stage unless this one reached the target or agrees with another."""
        value = self.method.value(state.now.residual)
        ends = to_numpy(state.ends).tolist()
        if not ends or value < self.method.value(state.best.residual):
            state = state._replace(best=found(state.now), best_stage=state.stage)
        state = state._replace(ends=asarray_like([*ends, value], state.ends))
        reached = math.sqrt(value) <= self.target
        if not reached and any(abs(value - v) <= AGREEMENT * value for v in ends):
            state = state._replace(agreed=self._stationary(state.best))
        later = [name for name in STAGES[STAGES.index(state.stage) + 1 :] if name != "rank search" or state.rank == 0]
        if reached or state.agreed or not later:
            now = LMState(*state.best, -1.0, 2.0, math.inf, 0, state.now.nit, state.now.passes)
            return state._replace(now=now, stage=state.best_stage, at=ENDED)
        return state._replace(stage=later[0], at=0, used=0)

    def _stationary(self, best: Found) -> bool:
        g = tangent_gradient(self.problem.A, best.point, best.residual, self.problem.psd)
        size = math.sqrt(sum(self.method.value(u) for u in g))
        return size <= 1e-3 * math.sqrt(self.problem.A.isotropy * self.method.value(best.residual))

    # -- instructions --

    def _again(self, point: Point, state: PortfolioState) -> LMState:
        """A state of the method at another point, with the counts so far."""
        return self.method.start(point, state.now.nit, state.now.passes)

    def zero(self, state: PortfolioState) -> PortfolioState:
        """Start from the matrix 0."""
        return done(state, now=self._again(zero_point(self.problem.A), state))

    def spectral(self, state: PortfolioState) -> PortfolioState:
        """Start from the spectral point."""
        return done(state, now=self._again(spectral_point(self.problem, state.rank), state))

    def cut(self, state: PortfolioState, rank: int) -> PortfolioState:
        """Leave the leading singular pairs only."""
        U, s, V = state.now.point
        return done(state, now=self._again(Point(U[:, :rank], s[:rank], V[:, :rank]), state))

    def take_candidate(self, state: PortfolioState) -> PortfolioState:
        """Go back to the best rank of the search."""
        return done(state, now=self._again(state.candidate.point, state), rank=state.candidate.point.rank)

    def go_on(self, state: PortfolioState) -> PortfolioState:
        """Forget that steps had become small."""
        return done(state, now=state.now._replace(flat=0))

    def improve(self, state: PortfolioState, steps: int, fall: float = 0.0) -> PortfolioState:
        """Levenberg-Marquardt steps until the target, no progress, or a step that lowers less than ``fall``."""
        value = self.method.value(state.now.residual)
        if state.used == steps or math.sqrt(value) <= self.target or state.now.flat >= FLAT:
            return done(state)
        now = self.method.step(state.now)
        if self.method.value(now.residual) > (1.0 - fall) * value:
            return done(state, now=now)
        return state._replace(now=now, used=state.used + 1)

    def improve_small(self, state: PortfolioState, steps: int) -> PortfolioState:
        """Improve only if the residual is so small that it may fall to zero."""
        size = math.sqrt(self.method.value(state.now.residual))
        if self.problem.target is None or size >= 1e-3 * self.problem.size:
            return done(state)
        return self.improve(state, steps)

    def grow(self, state: PortfolioState) -> PortfolioState:
        """Append the singular pair that lowers the residual fastest."""
        A, xp, psd, now = self.problem.A, self.problem.xp, self.problem.psd, state.now
        U, s, V = top_singular(A, -now.residual, 1, psd=psd)
        change = A._forward_factored(U, V)
        square = xp.sum(change * change)
        amount = -xp.sum(change * now.residual) / xp.where(square > 0, square, xp.ones_like(square))
        amount = xp.maximum(amount, 1e-3 * xp.abs(s[0]) / A.isotropy)
        grown = append(now.point, U[:, 0], amount, V[:, 0], psd, xp)
        return done(state, now=self.method.start(grown, now.nit, now.passes + 4))

    def descend(self, state: PortfolioState) -> PortfolioState:
        """Conjugate-gradient iterations."""
        now = state.now
        cg = state.gradients if state.used else self.cg.start(now.point)._replace(nit=now.nit, passes=now.passes)
        if state.used == GRADIENTS or cg.flat >= FLAT or math.sqrt(self.cg.value(cg.residual)) <= self.target:
            return done(state)
        cg = self.cg.step(cg)
        now = LMState(*cg.point, cg.residual, -1.0, 2.0, math.inf, 0, cg.nit, cg.passes)
        return state._replace(now=now, gradients=cg, used=state.used + 1)

    def polish(self, state: PortfolioState) -> PortfolioState:
        """Forget the damping."""
        return done(state, now=self._again(state.now.point, state))

    def judge(self, state: PortfolioState) -> PortfolioState:
        """Stop the search at the target, or after two rises of ``m log f + 2 dof m / (m - dof - 1)`` (Akaike)."""
        A, rank = self.problem.A, state.now.point.rank
        value, m = self.method.value(state.now.residual), A.shape[0]
        end = len(self.program(state))
        if math.sqrt(value) <= self.target:
            return state._replace(rank=rank, at=end, used=0)
        dof = degrees_of_freedom(A.matrix_shape, rank, self.problem.psd)
        penalty = 2.0 * dof * m / (m - dof - 1) if m > dof + 1 else math.inf
        criterion = m * math.log(value / m) + penalty
        if criterion < state.least or state.candidate.point.rank == 0:
            return done(state, candidate=found(state.now), least=criterion, rises=0)
        if state.rises == 1:
            return state._replace(at=end - 2, used=0)
        return done(state, rises=state.rises + 1)
