"""Recovery with gross errors in some measurements: trimmed Levenberg-Marquardt, and reweighting where that fails."""

import math
from collections.abc import Iterator
from typing import Any

from optlib._core import Certificate, Status, Step, Steps
from optlib.backend import Array, linalg, to_numpy
from optlib.sensing._lowrank import Point, append, degrees_of_freedom, image, top_singular, zero_point
from optlib.sensing._portfolio import PortfolioState
from optlib.sensing._problem import Problem, conclude
from optlib.sensing.levenberg_marquardt import LMState, Method
from optlib.sensing.spectral import truncated_point

ROUNDS = {"trimming": 40, "reweighting": 60}


class Robust:
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

    def steps(self, state: PortfolioState) -> Steps:
        """Trimming; growing rank with reweighting, then trimming; reweighting, then trimming."""
        best, nit, passes = None, 0, 0
        yield self._step(state)
        for name, stage in self._stages():
            last = None
            for last in stage:
                now = PortfolioState(*last.point, last.residual, nit + last.nit, passes + last.passes, name)
                yield self._step(now)
            nit, passes = nit + last.nit, passes + last.passes
            if best is None or self.median(now.residual) < self.median(best.residual):
                best = now
            if self.median(best.residual) <= 10.0 * self.target:
                break
        yield self._step(best._replace(nit=nit, passes=passes), Status.CONVERGED)

    def median(self, residual: Array) -> float:
        """Median of the absolute residuals."""
        return float(median(residual, xp=self.xp))

    def _step(self, state: PortfolioState, status: Status | None = None) -> Step:
        return Step(
            x=state.point.factors,
            nit=state.nit,
            state=state,
            stop=lambda: self.median(state.residual) / (self.unit or 1.0),
            status=status,
            counts={"passes": state.passes},
        )

    def _stages(self) -> Iterator[tuple[str, Iterator[LMState]]]:
        yield "trimming", self._trimming(self._start())
        yield "growing rank and trimming", self._growing()
        yield "reweighting and trimming", self._reweighted_start()

    def _start(self) -> LMState:
        return Method(self.problem).start(truncated_point(self.problem, self.rank))

    def _trimming(self, state: LMState) -> Iterator[LMState]:
        """Two steps on the measurements whose residual is at most twice (later three times) the median, in turns."""
        xp, best, best_round = self.xp, math.inf, 0
        for k in range(ROUNDS["trimming"]):
            median = self.median(state.residual)
            if median <= self.target:
                return
            if median < 0.99 * best:
                best, best_round = median, k
            elif k - best_round >= 8:
                return
            kept = xp.abs(state.residual) <= (2.0 if k < 4 else 3.0) * median
            state = self._two_steps(state, xp.astype(kept, state.residual.dtype))
            yield state

    def _reweighting(self, state: LMState, rounds: int) -> Iterator[LMState]:
        """Two steps of least squares with weights ``1 / max(|r|, delta)``, in turns."""
        xp = self.xp
        for k in range(rounds):
            median = self.median(state.residual)
            if median <= self.target:
                return
            delta = median if k < 5 else 0.1 * median
            state = self._two_steps(state, delta / xp.clip(xp.abs(state.residual), delta, None))
            yield state

    def _two_steps(self, state: LMState, weights: Array) -> LMState:
        method = Method(self.problem, weights)
        state = state._replace(mu=-1.0, before=math.inf, flat=0)
        return method.step(method.step(state))

    def _growing(self) -> Iterator[LMState]:
        xp, A, psd = self.xp, self.problem.A, self.problem.psd
        state = Method(self.problem).start(zero_point(A))
        for k in range(self.rank):
            median = self.median(state.residual)
            if median <= self.target:
                return
            clipped = xp.clip(state.residual, -2.0 * median, 2.0 * median)
            U, s, V = top_singular(A, -clipped, 1, psd=psd)
            change = A._forward_factored(U, V)
            weights = 1.0 / xp.clip(xp.abs(state.residual), median, None)
            amount = -xp.sum(weights * change * state.residual) / xp.sum(weights * change * change)
            amount = xp.maximum(amount, 1e-3 * xp.abs(s[0]) / A.isotropy)
            point = append(state.point, U[:, 0], amount, V[:, 0], psd, xp)
            state = Method(self.problem).start(point, state.nit, state.passes + 4)
            for state in self._reweighting(state, 5 if k < self.rank - 1 else ROUNDS["reweighting"]):  # noqa: B020
                yield state
        yield from self._trimming(state)

    def _reweighted_start(self) -> Iterator[LMState]:
        state = self._start()
        for state in self._reweighting(state, 10):  # noqa: B020
            yield state
        yield from self._trimming(state)

    def finish(self, step: Step) -> dict[str, Any]:
        """Certificate and fields of the answer."""
        return conclude_robust(self.problem, step.state.point)


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
