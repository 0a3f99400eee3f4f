r"""Sparse Newton on the semi-dual along a path of regularisations.

With ``f(g)`` the row potentials that make the rows of ``P`` exact, the semi-dual ``J(g) = max_f D(f, g)`` has the
gradient ``b~ - c`` and, up to the factor ``-1 / eps``, the Hessian

    S = diag(c + (eps / rho_2) b~) - P' diag(R)^-1 P,    R = r (1 + eps / rho_1),

with ``r, c`` the marginals of ``P`` and ``b~ = b exp(-g / rho_2)`` the column sums asked for (``b`` itself for a
constraint): the Laplacian of a weighted graph on the columns, plus a nonnegative diagonal. Far from the solution and at
small ``eps`` the weights between weakly linked groups are astronomically wrong and Newton steps useless; along the path
``eps_k = q eps_{k-1}`` they are right up to a bounded factor, and the last two solutions predict the next, because
potentials are affine in ``eps`` up to exponentially small terms (Cominetti and San Martin 1994).
"""

import math
from functools import partial
from typing import Any, NamedTuple

from optlib._core import Status, Step, prepare_init
from optlib._core.driver import Steps
from optlib.backend import Array, Compiled, to_numpy
from optlib.transport import _newton_systems as systems
from optlib.transport import passes
from optlib.transport._problem import Problem
from optlib.transport._support import Support, by_rows, has_kernels, tolerance
from optlib.transport.certificates import certify, gap_curvature, penalised_scale
from optlib.transport.cost import DenseCost

START = 0.1  # first regularisation of the path, relative to the range of the cost
RATIO = 0.35  # of neighbouring regularisations
LEVEL_TOL, SETTLED = 1e-2, 2.0  # error, and largest Newton step in units of eps, of a level that counts as solved
SWEEPS = 2  # Sinkhorn sweeps at the beginning of a level
PATIENCE = 15  # Newton steps in which the error must fall to a tenth
LEVELS = 60  # levels, rejected ones included
ARMIJO = 1e-4
TIED = 1e30  # factor on the diagonal of what must not move
CLIP = 20.0  # largest change of a potential in one step, in units of eps
DENSITY = 0.12  # largest share of entries of the plan that the sparse system holds


keeping_sweep = Compiled("optlib.transport._newton_numba:keeping_sweep")


class NewtonState(NamedTuple):
    """State of `sinkhorn_newton`, on the sources and targets that have mass, those on the longer side first.

    Attributes
    ----------
    reg : float
        The regularisation of the problem.
    nit, passes : int
        Iterations, and passes over the cost.
    eps, ratio : float
        Regularisation of the level, and its ratio to the one before.
    hint, g, threshold : array, array, float
        Arguments of the last evaluation: a guess of the row potentials, the column potentials, and the share of a row
        or column sum above which entries of the plan are kept.
    sweeps, newtons, failures : int
        Sinkhorn sweeps and Newton steps in this level, and Newton steps without ascent.
    entry : float
        The error when the Newton steps began to be counted.
    levels, accepted : int
        Levels begun and levels solved.
    eps_0, f_0, g_0, eps_1, f_1, g_1
        The last two solved levels and their potentials.
    """

    reg: float
    nit: int
    passes: int
    eps: float
    ratio: float
    hint: Array
    g: Array
    threshold: float
    sweeps: int
    newtons: int
    failures: int
    entry: float
    levels: int
    accepted: int
    eps_0: float
    f_0: Array
    g_0: Array
    eps_1: float
    f_1: Array
    g_1: Array


class Plan(NamedTuple):
    """An evaluated column potential.

    Attributes
    ----------
    f, g : array, shapes (n,) and (m,)
        Potentials, the rows exact for the columns.
    r, c : array, shapes (n,) and (m,)
        Marginals.
    wanted : array, shape (m,)
        Column sums that the potentials ask for.
    residual : array, shape (m,)
        Change of ``g / eps`` in a Sinkhorn sweep.
    error, largest : float
        Relative l1 error of the columns, and the largest residual.
    entries : tuple of array, or None
        Large entries of the plan as rows of (begin, end, index, value).
    """

    f: Array
    g: Array
    r: Array
    c: Array
    wanted: Array
    residual: Array
    error: float
    largest: float
    entries: Any


class NewtonMethod:
    """The method: where it begins, its steps, and what it makes of the last one.

    Parameters
    ----------
    problem : Problem
    reg : float
    tol : float, "auto" or None
        See `sinkhorn_newton`.
    support : Support, optional
        That of the problem, in double precision.
    """

    def __init__(self, problem: Problem, reg: float, tol: Any, support: Support | None = None) -> None:
        self.problem, self.reg, self.xp = problem, reg, problem.xp
        self.asked, self.tight = tolerance(tol, problem)
        if self.tight is not None and problem.balanced:
            self.tight *= 0.5  # the rest is for the rows, which are exact to rounding only
        self.support = support or Support(problem, single=False)
        inner = self.support.problem
        self.swapped = inner.a.shape[0] < inner.b.shape[0]
        if self.swapped:
            inner = inner.T
        n, m = inner.cost.shape
        self.sparse = has_kernels(self.xp)
        self.cost, self.a, self.b = inner.cost, inner.a, inner.b
        self.variation, free = inner.penalty == "tv", (math.inf, math.inf)
        self.bound = inner.rho if self.variation else free  # on the size of the potentials
        self.inv_rho = (0.0, 0.0) if self.variation else (1.0 / inner.rho[0], 1.0 / inner.rho[1])
        self.penalised, self.balance = not inner.balanced, inner.mass[0] - inner.mass[1]
        self.scale = penalised_scale(inner, reg)
        self.curvature = gap_curvature(inner, reg)
        self.log_b, self.mass = self.xp.log(self.b), self.xp.sum(self.b)
        # the columns whose residuals count: with penalties all, else those heavy enough to matter for the error
        light = 0.1 * (self.tight or 1e-12) / m * self.mass
        self.counts = self.xp.astype(self.b >= (0.0 if self.penalised else light), self.b.dtype)
        self.unit = float(self.xp.finfo(self.b.dtype).eps)
        self.first = max(reg, START * inner.range)
        levels = math.ceil(math.log(self.first / reg) / -math.log(RATIO))
        self.ratio = (reg / self.first) ** (1.0 / levels) if levels else RATIO
        self.plan: Plan | None = None  # the last one that was yielded
        self.room = min(int(DENSITY * n * m), 2**26) + 16

    def begin(self, init: Any = None) -> NewtonState:
        """The state to start from: of an earlier run, at given potentials, or at the head of the path."""
        start, state = prepare_init(init, NewtonState)
        if state is not None:
            if state.reg == self.reg and state.g.shape == self.b.shape and state.hint.shape == self.a.shape:
                return state
            start = self.support.extend(*((state.g, state.hint) if self.swapped else (state.hint, state.g)))
        f, g = self.support.restrict(start)
        if self.swapped:
            f, g = g, f
        eps = self.first if start is None else self.reg
        return NewtonState(
            self.reg, 0, 0, eps, self.ratio, f, g, 0.5 / f.shape[0], 0, 0, 0, math.inf, 1, 0, 0.0, f, g, 0.0, f, g
        )  # fmt: skip

    @property
    def message(self) -> str:
        """What was chosen, and why."""
        form = "sparse plans, else dense ones" if self.sparse else "dense plans"
        return f"Newton steps ({form}) on a path from reg={self.first:.3g}"

    @property
    def identity(self) -> tuple[Any, ...]:
        """What a checkpoint belongs to."""
        return tuple(self.problem), self.reg, self.asked

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer with its certificate."""
        plan, swept = self.plan, None
        if not self.swapped and plan.g is step.state.g and self.problem.dtype == plan.g.dtype:
            swept = (plan.f, plan.c) if step.state.eps == self.reg else None
        return certify(self.problem, self.reg, step.x[1], tol=self.asked, swept=swept)

    # -- the path --

    def steps(self, state: NewtonState) -> Steps:
        """One iteration is a Sinkhorn sweep, a Newton step with its line search, or the step to another level."""
        if self.sparse:
            self.cost = by_rows(self.cost if passes.one_piece(self.cost) else DenseCost(self.cost.toarray()))
        s, plan = self.evaluated(state)
        status = None
        while True:
            self.plan = plan
            yield self.step(s, plan, status)
            s = s._replace(nit=s.nit + 1)
            measure = self.stop(plan) if s.eps == self.reg else plan.error
            if measure <= 0.1 * s.entry:  # good progress: Newton steps are counted afresh
                s = s._replace(entry=measure, newtons=0)
            if s.sweeps < SWEEPS:
                s, plan = self.sweep(s._replace(sweeps=s.sweeps + 1), plan)
            elif s.eps > self.reg and plan.error <= LEVEL_TOL:
                y = self.direction(plan, s.eps)
                if s.newtons >= PATIENCE or float(self.xp.max(self.xp.abs(y) * self.counts)) <= SETTLED:
                    s, plan = self.accept(s, plan, y)
                else:
                    s, plan = self.newton(s._replace(newtons=s.newtons + 1), plan, y)
            elif s.failures < 4 and s.newtons < PATIENCE:
                s, plan = self.newton(s._replace(newtons=s.newtons + 1), plan)
            else:  # the floor, or a level that came too early
                floor = 1e-6 if s.accepted else self.floor(s.eps)
                retreat = None if plan.error < floor and s.eps == self.reg else self.retreat(s)
                if retreat is not None:
                    s, plan = self.evaluated(retreat)
                elif self.tight is None:
                    s, plan = self.newton(s, plan)
                else:
                    status = Status.STALLED

    def step(self, s: NewtonState, plan: Plan, status: Status | None) -> Step:
        """What the driver gets to see: off the last level only the trivial bound is known of the error at the end."""
        stop = self.stop(plan) if s.eps == self.reg else max(2.0, 2.0 * (self.tight or 0.0))
        if self.tight is not None and stop <= self.tight:
            status = Status.CONVERGED
        return Step(
            x=self.support.extend(*((plan.g, plan.f) if self.swapped else (plan.f, plan.g))),
            nit=s.nit,
            state=s,
            stop=partial(float, stop),
            metrics={"reg": partial(float, s.eps), "error": partial(float, plan.error)},
            status=status,
            counts={"passes": s.passes},
        )

    def stop(self, plan: Plan) -> float:
        """Relative l1 error of the marginals; with penalties the largest residual, or the gap it leaves if larger."""
        if not self.penalised:
            return plan.error
        if not self.variation:
            return max(plan.largest, self.curvature * float(self.xp.sum(plan.c)) * plan.largest**2)
        excess, (_, rho) = plan.c - self.b, self.bound
        gap = self.xp.sum(plan.g * excess + (rho * self.xp.abs(excess) if rho < math.inf else 0.0))
        return max(plan.largest, abs(float(gap)) / self.scale)

    def floor(self, eps: float) -> float:
        """Error to which the rounding of potentials may lead."""
        return 10.0 * self.unit * max(map(abs, self.cost.bounds())) / eps

    def accept(self, s: NewtonState, plan: Plan, y: Array) -> tuple[NewtonState, Plan]:
        """Store a solved level, a Newton step further, and go to the next."""
        g = self.bounded(plan.g + s.eps * y)
        s = s._replace(accepted=s.accepted + 1, eps_0=s.eps_1, f_0=s.f_1, g_0=s.g_1, eps_1=s.eps, f_1=plan.f, g_1=g)
        ratio = max(s.ratio * s.ratio, self.ratio)  # smaller steps after a rejection, for a while
        eps = s.eps * ratio
        return self.evaluated(self.enter(s, eps if eps > 1.2 * self.reg else self.reg, ratio))

    def retreat(self, s: NewtonState) -> NewtonState | None:
        """The state at a larger regularisation; None if all were tried."""
        if s.levels >= LEVELS:
            return None
        if s.accepted:
            eps = math.sqrt(s.eps * s.eps_1)
            return self.enter(s, eps, eps / s.eps_1) if eps < 0.99 * s.eps_1 else None
        if s.eps < self.first:  # potentials to start from that lead nowhere
            return self.begin()._replace(nit=s.nit, passes=s.passes)
        return self.enter(s, s.eps / RATIO**2, RATIO)

    def enter(self, s: NewtonState, eps: float, ratio: float) -> NewtonState:
        """Begin a level at the potentials that the last two solved ones predict."""
        t = (eps - s.eps_1) / (s.eps_1 - s.eps_0) if s.accepted > 1 else 0.0
        f, g = s.f_1 + t * (s.f_1 - s.f_0), self.bounded(s.g_1 + t * (s.g_1 - s.g_0))
        return s._replace(
            eps=eps, ratio=ratio, hint=f, g=g, threshold=0.5 / f.shape[0], sweeps=0, newtons=0, failures=0,
            entry=math.inf, levels=s.levels + 1,
        )  # fmt: skip

    # -- one evaluation --

    def evaluated(self, s: NewtonState) -> tuple[NewtonState, Plan]:
        """One pass: exact rows for ``g``, then the best translation (free where a marginal is penalised)."""
        xp, eps, g, (p, q) = self.xp, s.eps, s.g, self.inv_rho
        log_wanted = self.log_b - q * g if q else self.log_b
        wanted = xp.exp(log_wanted) if q else self.b
        entries = None
        if self.sparse and s.sweeps == SWEEPS:  # a Newton step may follow
            f, c, r, entries = self._keeping_sweep(s, wanted)
        else:
            f, c, r = passes.relaxed_sweep(self.cost, s.hint, g, self.a, self.b, eps, p, 1.0, self.bound[0])
        if self.variation:
            t = self.translation(f, g)
            f, g = f + t, g - t
        if p or q:
            decay = p / (1.0 + eps * p)
            there, asked = to_numpy(xp.stack([xp.sum(r), xp.sum(wanted)])).tolist()
            h = math.log(there / asked) / (q + decay) if there > 0.0 and asked > 0.0 else 0.0  # else underflow
            factor = math.exp(-decay * h)
            f, g, r, c = f + h / (1.0 + eps * p), g - h, factor * r, factor * c
            log_wanted, wanted = log_wanted + q * h, wanted * math.exp(q * h)
            if entries is not None:
                entries = (*entries[:3], factor * entries[3])
        tiny = 1e-300 if self.unit < 1e-10 else 1e-37
        residual = (log_wanted - xp.log(xp.where(c > tiny, c, tiny))) / (1.0 + eps * q)
        if self.variation:
            residual = (self.bounded(g + eps * residual) - g) / eps
            wanted = xp.where(residual == 0.0, c, wanted)  # nothing more to gain at a bound
        mass = self.mass if not q else xp.maximum(xp.sum(wanted), tiny * xp.ones_like(self.mass))
        numbers = xp.stack([xp.sum(xp.abs(c - wanted)) / mass, xp.max(xp.abs(residual) * self.counts)])
        error, largest = to_numpy(numbers).tolist()
        plan = Plan(f, g, r, c, wanted, residual, error, largest, entries)
        return s._replace(passes=s.passes + 1), plan

    def _keeping_sweep(self, s: NewtonState, wanted: Array) -> Any:
        entries, (p, _) = next(passes.entries(self.cost))[2], self.inv_rho
        return keeping_sweep(
            *entries, s.hint, s.g, self.a, self.b, wanted, s.eps, p, self.bound[0], s.threshold, self.room
        )

    def bounded(self, g: Array) -> Array:
        """Column potentials within their bound."""
        return self.xp.clip(g, -self.bound[1], self.bound[1]) if self.bound[1] < math.inf else g

    def translation(self, f: Array, g: Array) -> float:
        """How far ``f`` can go up and ``g`` down, with the plan as it is, for the side of more mass to gain."""
        xp, (rho_1, rho_2) = self.xp, self.bound
        ends = xp.stack([rho_1 - xp.max(f), rho_2 + xp.min(g), rho_1 + xp.min(f), rho_2 - xp.max(g)])
        up, up_g, down, down_g = to_numpy(ends).tolist()
        if self.balance == 0.0 or min(up, down) <= 0.0:  # rows at their bound are exact there only
            return 0.0
        t = min(up, up_g) if self.balance > 0.0 else -min(down, down_g)
        return t if math.isfinite(t) else 0.0

    def moved(self, s: NewtonState, plan: Plan, g: Array) -> tuple[NewtonState, Plan]:
        """Evaluate other column potentials at the same level."""
        threshold = max(0.5 * min(1.0, plan.error) / plan.f.shape[0], 1e-14)
        return self.evaluated(s._replace(hint=plan.f, g=g, threshold=threshold))

    def sweep(self, s: NewtonState, plan: Plan) -> tuple[NewtonState, Plan]:
        """A Sinkhorn sweep."""
        return self.moved(s, plan, plan.g + s.eps * plan.residual)

    # -- the Newton step --

    def newton(self, s: NewtonState, plan: Plan, y: Array | None = None) -> tuple[NewtonState, Plan]:
        """A Newton step with a line search on the semi-dual; a Sinkhorn sweep if there is no ascent."""
        t, old, trials = 1.0, plan, 0
        y = self.direction(plan, s.eps) if y is None else y
        while t > (1e-9 if old.error > 1e-5 else 1e-2):
            g = self.bounded(old.g + (t * s.eps) * y)
            slope = float(self.xp.sum((g - old.g) * (old.wanted - old.c)))
            if not slope > 0.0:
                break
            new, plan = self.moved(s, old, g)
            trials, t = trials + 1, 0.5 * t
            gain, noise = self.gain(old, plan, s.eps)
            if gain >= ARMIJO * slope - noise:
                s = new._replace(passes=s.passes + trials)
                behind = plan.largest > 0.5 and plan.error > LEVEL_TOL
                tail = self.penalised and plan.error < 1e-9  # columns of tiny weight
                return self.sweep(s, plan) if behind or tail else (s, plan)
        return self.sweep(s._replace(passes=s.passes + trials, failures=s.failures + 1), old)

    def direction(self, plan: Plan, eps: float) -> Array:
        """Solution ``y`` of ``S y = b~ - c``: the change of ``g / eps``."""
        xp, (p, q) = self.xp, self.inv_rho
        rows, columns = plan.r * (1.0 + eps * p), plan.c + (eps * q) * plan.wanted
        if self.variation:  # potentials at their bounds stay there: tied to the ground
            rows = xp.where(xp.abs(plan.f) < self.bound[0], rows, TIED * rows)
            tied = (plan.residual == 0.0) & (xp.abs(plan.g) >= self.bound[1])
            columns = xp.where(tied, TIED * columns, columns)
        rhs, accuracy = plan.wanted - plan.c, min(0.1, max(plan.error, 1e-7))
        if plan.entries is not None:
            y = systems.solve_sparse(plan.entries, rows, columns, plan.c, rhs, accuracy)
        else:
            entries = passes.plan_rows(self.cost, plan.f, plan.g, self.a, self.b, eps, 0, self.cost.shape[0])
            y = systems.solve_dense(entries, rows, columns, plan.c, plan.r, rhs, accuracy, xp=xp)
        y = xp.where(xp.isfinite(y), y, xp.zeros_like(y))
        if not self.penalised:  # constants are the null space
            y = y - xp.sum(self.b * y) / self.mass
        return xp.clip(y, -CLIP, CLIP)

    def gain(self, old: Plan, new: Plan, eps: float) -> tuple[float, float]:
        """Increase of the semi-dual, from differences (no large numbers cancel), and its rounding error."""
        xp, (p, q) = self.xp, self.inv_rho
        df, dg = new.f - old.f, new.g - old.g
        if self.variation:
            rows = xp.sum(self.a * df) - eps * (xp.sum(new.r) - xp.sum(old.r))
        else:
            rows = xp.sum(old.r * df) if not p else -(1.0 / p + eps) * xp.sum(old.r * xp.expm1(-p * df))
        target = self.b if self.variation else old.wanted
        columns = xp.sum(target * dg) if not q else -xp.sum(old.wanted * xp.expm1(-q * dg)) / q
        noise = 4.0 * self.unit * (xp.sum(old.r * xp.abs(old.f)) + xp.sum(old.wanted * xp.abs(old.g)))
        gain, noise = to_numpy(xp.stack([rows + columns, noise])).tolist()
        return gain, noise
