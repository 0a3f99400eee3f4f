"""Recovery with gross errors in some measurements: trimmed Levenberg-Marquardt, and reweighting where that fails."""

import math
from typing import Any, NamedTuple

from optlib._core import Certificate, Step
from optlib.backend import Array, linalg, to_numpy
from optlib.sensing._lowrank import Point, append, degrees_of_freedom, image, top_singular, zero_point
from optlib.sensing._problem import Problem, conclude
from optlib.sensing._stages import ENDED, Found, Stages, done, flat, found
from optlib.sensing.levenberg_marquardt import LMState, Method
from optlib.sensing.spectral import truncated_point

ROUNDS = {"trimming": 40, "reweighting": 60}
STAGES = ("trimming", "growing rank and trimming", "reweighting and trimming")


class RobustState(NamedTuple):
    """Where the robust fit is.

    Attributes
    ----------
    now : LMState
        The present matrix, iterations and passes so far.
    best : Found
        The end of a stage with the least median residual.
    least : float
        Least median residual of the present trimming.
    round : int
        When that was.
    stage, best_stage : str
        Names of the present stage, and of that of the best.
    at, used : int
        Instruction of the stage, and rounds that it has had.
    """

    now: LMState
    best: Found
    least: float
    round: int
    stage: str
    best_stage: str
    at: int
    used: int


class Robust(Stages):
    """The stages of ``loss="l1"`` on one problem.

    Parameters
    ----------
    problem : Problem
    rank : int
    """

    def __init__(self, problem: Problem, rank: int) -> None:
        self.problem, self.rank, self.xp = problem, rank, problem.xp
        self.unit = problem.size / math.sqrt(problem.y.shape[0])
        self.target = least_scale(problem)

    def start(self) -> RobustState:
        """The state before the first iteration."""
        zero = zero_point(self.problem.A)
        nothing = Found(*zero, -1.0 * self.problem.y)
        return RobustState(Method(self.problem).start(zero), nothing, math.inf, 0, STAGES[0], "start", 0, 0)

    def median(self, residual: Array) -> float:
        """Median of the absolute residuals."""
        return float(median(residual, xp=self.xp))

    def measure(self, state: RobustState) -> float:
        """Median of the absolute residuals over the root mean square of the measurements."""
        return self.median(state.now.residual) / (self.unit or 1.0)

    def program(self, state: RobustState) -> list[tuple[Any, ...]]:
        """Instructions of the state's stage."""
        if state.stage == STAGES[0]:
            return [("spectral",), ("trim",)]
        if state.stage == STAGES[1]:
            rounds = [5] * (self.rank - 1) + [ROUNDS["reweighting"]]
            return [("zero",), *flat([("grow",), ("reweight", n)] for n in rounds), ("trim",)]
        return [("spectral",), ("reweight", 10), ("trim",)]

    def ended(self, state: RobustState) -> RobustState:
        """Keep the better end; go on to the next stage unless the median is at the rounding level."""
        if state.best_stage == "start" or self.median(state.now.residual) < self.median(state.best.residual):
            state = state._replace(best=found(state.now), best_stage=state.stage)
        later = STAGES[STAGES.index(state.stage) + 1 :]
        if self.median(state.best.residual) <= 10.0 * self.target or not later:
            now = LMState(*state.best, -1.0, 2.0, math.inf, 0, state.now.nit, state.now.passes)
            return state._replace(now=now, stage=state.best_stage, at=ENDED)
        return state._replace(stage=later[0], at=0, used=0)

    # -- instructions --

    def zero(self, state: RobustState) -> RobustState:
        """Start from the matrix 0."""
        now = Method(self.problem).start(zero_point(self.problem.A), state.now.nit, state.now.passes)
        return done(state, now=now)

    def spectral(self, state: RobustState) -> RobustState:
        """Start from the spectral point of the half of the measurements that are smallest."""
        point = truncated_point(self.problem, self.rank)
        return done(state, now=Method(self.problem).start(point, state.now.nit, state.now.passes))

    def trim(self, state: RobustState) -> RobustState:
        """Two steps on the measurements whose residual is at most twice (later three times) the median, in turns."""
        k, median = state.used, self.median(state.now.residual)
        least, when = (state.least, state.round) if k else (math.inf, 0)
        if k == ROUNDS["trimming"] or median <= self.target:
            return done(state)
        if median < 0.99 * least:
            least, when = median, k
        elif k - when >= 8:
            return done(state)
        kept = self.xp.abs(state.now.residual) <= (2.0 if k < 4 else 3.0) * median
        now = self._two_steps(state.now, self.xp.astype(kept, self.problem.y.dtype))
        return state._replace(now=now, least=least, round=when, used=k + 1)

    def reweight(self, state: RobustState, rounds: int) -> RobustState:
        """Two steps of least squares with weights ``1 / max(|r|, delta)``, in turns."""
        k, median = state.used, self.median(state.now.residual)
        if k == rounds or median <= self.target:
            return done(state)
        delta = median if k < 5 else 0.1 * median
        weights = delta / self.xp.clip(self.xp.abs(state.now.residual), delta, None)
        return state._replace(now=self._two_steps(state.now, weights), used=k + 1)

    def _two_steps(self, now: LMState, weights: Array) -> LMState:
        method = Method(self.problem, weights)
        return method.step(method.step(now._replace(mu=-1.0, before=math.inf, flat=0)))

    def grow(self, state: RobustState) -> RobustState:
        """Append the singular pair of the clipped residual."""
        xp, A, psd, now = self.xp, self.problem.A, self.problem.psd, state.now
        median = self.median(now.residual)
        if median <= self.target:
            return state._replace(at=len(self.program(state)), used=0)
        clipped = xp.clip(now.residual, -2.0 * median, 2.0 * median)
        U, s, V = top_singular(A, -clipped, 1, psd=psd)
        change = A._forward_factored(U, V)
        weights = 1.0 / xp.clip(xp.abs(now.residual), median, None)
        amount = -xp.sum(weights * change * now.residual) / xp.sum(weights * change * change)
        amount = xp.maximum(amount, 1e-3 * xp.abs(s[0]) / A.isotropy)
        point = append(now.point, U[:, 0], amount, V[:, 0], psd, xp)
        return done(state, now=Method(self.problem).start(point, now.nit, now.passes + 4))

    def finish(self, step: Step) -> dict[str, Any]:
        """Certificate and fields of the answer."""
        return conclude_robust(self.problem, step.state.now.point)


def least_scale(problem: Problem) -> float:
    """Residual that counts as zero: a multiple of rounding, in units of the measurements."""
    return max(problem.tol or 0.0, 1e-12 if problem.bits == 64 else 1e-6) * problem.size / math.sqrt(problem.y.shape[0])


def conclude_robust(problem: Problem, point: Point, residual: Array | None = None) -> dict[str, Any]:
    """Certificate: the residual of the measurements that were kept, and how well they determine the matrix."""
    xp = problem.xp
    residual = image(problem.A, point) - problem.y if residual is None else residual
    limit = max(3.0 * float(median(residual, xp=xp)), 100.0 * least_scale(problem))
    kept = xp.abs(residual) <= limit
    weights = xp.astype(kept, residual.dtype)
    m, count = residual.shape[0], int(to_numpy(xp.sum(weights)))
    fields = conclude(problem, point, weights=weights, residual=residual)
    size = float(linalg.norm(residual * weights, xp=xp))
    dof = degrees_of_freedom(problem.A.matrix_shape, point.rank, problem.psd)
    note = f"{m - count} of {m} measurements taken for outliers; {fields['certificate'].note}"
    if count < 1.3 * dof:
        note += f"; only {count / dof:.2f} kept measurements a degree of freedom"
    fields["certificate"] = Certificate(
        "residual", size, scale=float(linalg.norm(problem.y * weights, xp=xp)) or 1.0,
        tol=None if problem.tol is None else 100.0 * problem.tol, proof=count >= 1.3 * dof, note=note,
    )  # fmt: skip
    fields["fun"] = float(xp.sum(xp.abs(residual)))
    fields["outliers"] = ~kept
    return fields


def median(values: Array, *, xp: Any) -> Array:
    """Median of the absolute values."""
    return xp.sort(xp.abs(values))[(values.shape[0] - 1) // 2]
