"""Two sparse Newton methods of the literature on the dual in both potentials, for comparison with the one on a path.

With ``P = P(f, g)``, the dual objective is ``D = <a, f> + <b, g> - eps sum P``, its gradient ``(a - P 1, b - P' 1)``,
its Hessian ``-M / eps``, ``M = [[diag(P 1), P], [P', diag(P' 1)]]``. Both methods drop small entries of ``P`` off the
diagonal of ``M``. Everything is dense here and written for any array library: what counts is the number of iterations.

- *Sinkhorn-Newton-Sparse*: some Sinkhorn sweeps, then Newton steps with the ``density`` largest entries, conjugate
  gradients and an Armijo line search.
- *SSNS*: the entries dropped from a row or column weigh at most 0.01 times the norm of the gradient; a multiple of that
  norm is added to the diagonal, by the rules of a trust region; the potential of the last target is fixed.

References
----------
X. Tang, M. Shavlovsky, H. Rahmanian, E. Tardini, K. K. Thekumparampil, T. Xiao, L. Ying, Accelerating Sinkhorn
algorithm with sparse Newton iterations, ICLR 2024 (arXiv 2401.12253). Z. Tang, Y. Qiu, Safe and sparse Newton method
for entropic-regularized optimal transport, NeurIPS 2024.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Status, Step, prepare_init
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, to_numpy
from optlib.linop import cg
from optlib.transport import passes
from optlib.transport._problem import Problem
from optlib.transport._support import Support, tolerance
from optlib.transport.certificates import certify

HALVINGS, ARMIJO = 40, 1e-4  # of the line search of Sinkhorn-Newton-Sparse
DROPPED, SHIFT = 0.01, 1e-3  # SSNS: what is dropped over the gradient norm, least shift over the same
FINE = 1e-12  # relative decrease of the objective below which the gradient judges a step


class SparsifiedState(NamedTuple):
    """State of ``method="sns"`` and ``"ssns"``, on the sources and targets that have mass.

    Attributes
    ----------
    reg : float
        The regularisation.
    nit, passes : int
        Iterations, sweeps included, and evaluations of all exponentials.
    f, g : array
        Potentials.
    shift : float
        SSNS: the shift of the diagonal over the norm of the gradient.
    """

    reg: float
    nit: int
    passes: int
    f: Array
    g: Array
    shift: float


class _Point(NamedTuple):
    """The plan, the marginals less what they should be, and minus the dual objective."""

    plan: Array
    rows: Array
    columns: Array
    objective: float
    error: float
    norm: float


class SparsifiedMethod:
    """The methods: where they begin, their steps, and what they make of the last one.

    Parameters
    ----------
    problem : Problem
    reg : float
    tol : float, "auto" or None
    method : {"sns", "ssns"}
    density : float, optional
        Kept entries of the plan over n m; see `sinkhorn_newton`.
    sweeps : int
        Sinkhorn sweeps at the beginning of ``"sns"``.
    """

    def __init__(self, problem: Problem, reg: float, tol: Any, method: str, density: float | None, sweeps: int) -> None:
        if not problem.balanced:
            raise check.error("unbalanced", problem.rho, f"None for method={method!r}", 'use method="path"')
        self.problem, self.reg, self.xp, self.method = problem, reg, problem.xp, method
        self.asked, self.tight = tolerance(tol, problem)
        self.support = Support(problem, single=False)
        inner = self.support.problem
        self.cost, self.a, self.b = inner.cost, inner.a, inner.b
        n, m = inner.cost.shape
        if density is None:
            density = min(1.0, 4.0 / max(n, m))
        density = check.scalar("density", density, low=0.0, high=1.0)
        self.kept = min(n * m, math.ceil(density * n * m))
        self.sweeps = check.scalar("sweeps", sweeps, low=0, integer=True)
        self.mass = self.xp.sum(self.b)

    def begin(self, init: Any = None) -> SparsifiedState:
        """The state to start from: of an earlier run, or at given potentials, or at zero."""
        start, state = prepare_init(init, SparsifiedState)
        if state is not None:
            if state.reg == self.reg and state.f.shape == self.a.shape and state.g.shape == self.b.shape:
                return state
            start = self.support.extend(state.f, state.g)
        f, g = self.support.restrict(start)
        passes_done = 0
        if self.method == "ssns":  # one exact update of the columns
            g = passes.soft_transform(self.cost.T, f, self.a, self.reg)
            passes_done = 1
        return SparsifiedState(self.reg, 0, passes_done, f, g, 1.0)

    @property
    def message(self) -> str:
        """What was chosen."""
        if self.method == "ssns":
            return "SSNS: both potentials, entries dropped by mass, shifted diagonal"
        return f"Sinkhorn-Newton-Sparse: {self.sweeps} sweeps, then Newton steps with {self.kept} entries of the plan"

    @property
    def identity(self) -> tuple[Any, ...]:
        """What a checkpoint belongs to."""
        return (
            self.problem.cost, self.problem.a, self.problem.b, self.reg, self.asked, self.method, self.kept, self.sweeps
        )  # fmt: skip

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer with its certificate."""
        return certify(self.problem, self.reg, step.x[1], tol=self.asked)

    def steps(self, s: SparsifiedState) -> Steps:
        """One iteration is a Sinkhorn sweep or a Newton step."""
        point, status = self.evaluate(s.f, s.g), None
        while True:
            yield Step(
                x=self.support.extend(s.f, s.g),
                nit=s.nit,
                state=s,
                stop=partial(float, point.error),
                status=status,
                counts={"passes": s.passes},
            )
            s = s._replace(nit=s.nit + 1)
            if self.method == "ssns":
                s, point, moved = self.safe(s, point)
            elif s.nit <= self.sweeps:
                f = passes.soft_transform(self.cost, s.g, self.b, self.reg)
                g = passes.soft_transform(self.cost.T, f, self.a, self.reg)
                s, moved = s._replace(f=f, g=g, passes=s.passes + 2), True
                point = self.evaluate(f, g)
            else:
                s, point, moved = self.newton(s, point)
            if not moved and self.tight is not None:
                status = Status.STALLED

    def evaluate(self, f: Array, g: Array) -> _Point:
        """Everything at a pair of potentials."""
        xp = self.xp
        with np.errstate(over="ignore", invalid="ignore"):  # of a trial step that is too long
            plan = passes.plan_rows(self.cost, f, g, self.a, self.b, self.reg, 0, self.a.shape[0])
            rows, columns = xp.sum(plan, axis=1) - self.a, xp.sum(plan, axis=0) - self.b
            objective = self.reg * (xp.sum(rows) + self.mass) - xp.sum(self.a * f) - xp.sum(self.b * g)
            error = (xp.sum(xp.abs(rows)) + xp.sum(xp.abs(columns))) / self.mass
            norm = xp.sqrt(xp.sum(rows * rows) + xp.sum(columns * columns))
        return _Point(plan, rows, columns, *to_numpy(xp.stack([objective, error, norm])).tolist())

    def newton(self, s: SparsifiedState, point: _Point) -> tuple[SparsifiedState, _Point, bool]:
        """A step of Sinkhorn-Newton-Sparse; also whether the line search found ascent."""
        xp, n = self.xp, self.a.shape[0]
        limit = xp.sort(xp.reshape(point.plan, (-1,)))[-self.kept] if self.kept else math.inf
        sparse = xp.where(point.plan >= limit, point.plan, xp.zeros_like(point.plan))
        diagonal = xp.concat([point.rows + self.a, point.columns + self.b])
        gradient = xp.concat([point.rows, point.columns])

        def apply(v: Array) -> Array:
            return diagonal * v + xp.concat([sparse @ v[n:], v[:n] @ sparse])

        size = 2 * diagonal.shape[0]
        with np.errstate(all="ignore"):  # a plan that has underflowed ends in the line search
            y = -cg(apply, gradient, preconditioner=lambda r: r / diagonal, tol=1e-10, maxiter=size, check_every=50).x
        slope = float(xp.sum(gradient * y))
        for k in range(HALVINGS):
            f, g = s.f + (0.5**k * self.reg) * y[:n], s.g + (0.5**k * self.reg) * y[n:]
            new = self.evaluate(f, g)
            if new.objective <= point.objective + ARMIJO * 0.5**k * self.reg * slope:
                return s._replace(f=f, g=g, passes=s.passes + k + 1), new, True
        return s._replace(passes=s.passes + HALVINGS), point, False

    def safe(self, s: SparsifiedState, point: _Point) -> tuple[SparsifiedState, _Point, bool]:
        """A step of SSNS, which may be rejected; also whether steps are still possible."""
        xp, n = self.xp, self.a.shape[0]
        sparse = _by_mass(point.plan, DROPPED * point.norm, xp)
        diagonal = xp.concat([point.rows + self.a, (point.columns + self.b)[:-1]])
        gradient = xp.concat([point.rows, point.columns[:-1]])
        eye = xp.eye(diagonal.shape[0], dtype=diagonal.dtype, device=diagonal.device)
        upper = xp.concat([xp.zeros_like(eye[:, :n]), xp.concat([sparse[:, :-1], xp.zeros_like(eye[n:, n:])])], axis=1)
        hessian = (upper + upper.T + eye * diagonal) / self.reg
        factor = linalg.cholesky(hessian + (s.shift * point.norm) * eye, xp=xp, check=False)
        y = -linalg.cho_solve(factor, gradient[:, None], xp=xp)[:, 0]
        slope, curvature = float(xp.sum(gradient * y)), float(y @ (hessian @ y))
        fine = -slope <= FINE * abs(point.objective)  # differences of the objective are below its rounding
        best, last = None, xp.zeros((1,), dtype=y.dtype, device=y.device)
        trials = 0
        for t in (1.0, 0.5, 0.25, 0.1):
            trials += 1
            f, g = s.f + t * y[:n], s.g + t * xp.concat([y[n:], last])
            new = self.evaluate(f, g)
            if best is None or new.objective < best[0].objective:
                best = new, f, g, t
            if new.objective < point.objective or fine:
                break
        new, f, g, t = best
        predicted = -t * slope - 0.5 * t * t * curvature
        ratio = (point.objective - new.objective) / predicted if predicted > 0.0 else -1.0
        if fine:
            ratio = 1.0 if new.norm < point.norm else -1.0
        shift = 4.0 * s.shift if not ratio >= 0.25 else max(0.5 * s.shift, SHIFT) if ratio > 0.75 else s.shift
        s = s._replace(passes=s.passes + trials, shift=shift)
        if ratio > 0.0:
            return s._replace(f=f, g=g), new, True
        return s, point, shift < 1e12


def _by_mass(plan: Array, most: float, xp: Any) -> Array:
    """Drop small entries, of at most a given mass from every row and column."""
    dropped = _light(plan, most, 0, xp)
    return plan - _light(dropped, most, 1, xp)


def _light(x: Array, most: float, axis: int, xp: Any) -> Array:
    """The smallest entries along an axis while their sum is at most ``most``; zero for the others."""
    ordered = xp.sort(x, axis=axis)
    heavy = xp.cumulative_sum(ordered, axis=axis) > most
    least = xp.min(xp.where(heavy, ordered, xp.full_like(ordered, math.inf)), axis=axis, keepdims=True)
    return xp.where(x < least, x, xp.zeros_like(x))
