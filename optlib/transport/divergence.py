r"""Sinkhorn divergences: entropic transport freed of its bias, with gradients in the positions and in the weights."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.transport import passes
from optlib.transport._front import solve
from optlib.transport._position_gradients import cost_gradient, is_differentiable
from optlib.transport._problem import Problem, check_reg, prepare
from optlib.transport.certificates import certify, scale
from optlib.transport.cost import STORED_BYTES, Cost, DenseCost, PointCloud
from optlib.transport.grid import GridCost
from optlib.transport.plan import EntropicPlan
from optlib.transport.result import TransportResult

Potentials = tuple[Array, Array, Array, Array]

# Near the fixed point of T the derivative of f - T f has eigenvalues in [1, 2] if the kernel is positive definite: the
# step and the momentum that are best for these.
STEP, MOMENTUM = 4.0 / (math.sqrt(2.0) + 1.0) ** 2, ((math.sqrt(2.0) - 1.0) / (math.sqrt(2.0) + 1.0)) ** 2
FAR = {64: 100.0, 32: 10.0}  # change of potentials, in units of reg, after which a stored kernel is built anew


class SelfState(NamedTuple):
    """State of the transport of a measure to itself.

    Attributes
    ----------
    f, before : array
        The potential, the same on both sides, and that of the iteration before.
    hint : array or None
        The potential from which the stored kernel was built.
    nit : int
        Passes.
    error : float
        Error of the last pass (2 before the first).
    """

    f: Array
    before: Array
    hint: Array | None
    nit: int
    error: float


class DivergenceState(NamedTuple):
    """State of `divergence`.

    Attributes
    ----------
    nit : int
    sources, targets : SelfState
        Transport of either measure to itself.
    cross : NamedTuple or None
        State of the solver for the transport between the two; None before its first iteration.
    """

    nit: int
    sources: SelfState
    targets: SelfState
    cross: Any


class Gradients(NamedTuple):
    """Derivatives of a divergence.

    Attributes
    ----------
    a, b : array, shapes (n,) and (m,)
        In the weights. If both marginals are constraints, along directions that keep the masses equal: they are
        determined up to a constant.
    x, y : array, shapes (n, d) and (m, d), or None
        In the positions of the points; None for costs that are not squared, Euclidean or l_p distances of points.
    """

    a: Array
    b: Array
    x: Array | None
    y: Array | None


class DivergenceResult(Result):
    """Result of `divergence`.

    All fields of `optlib.Result`, and those below.

    Attributes
    ----------
    value : float
        The divergence (also ``fun``), from dual objectives: its error is of second order in the marginal errors.
    bounds : (float, float)
        Numbers between which the divergence lies, proven.
    value_linear : float
        The same combination of the costs ``<C, P>`` of the three plans, without the regularisation.
    gradients : Gradients
        Derivatives of the value in ``a``, ``b``, ``x`` and ``y``.
    potentials : (array, array, array, array)
        Also ``x``: ``f`` (n,) and ``g`` (m,) of the transport between the measures, and the potentials (n,) and (m,) of
        the transport of either to itself.
    plans : (EntropicPlan, EntropicPlan, EntropicPlan)
        From sources to targets, among the sources, among the targets.
    """

    def summary(self) -> list[tuple[str, str]]:
        """Rows of the printed form: label and text."""
        rows = dict(super().summary())
        rows["fun"] = f"{self.value:.8g} in [{self.bounds[0]:.8g}, {self.bounds[1]:.8g}]"
        return [("value" if label == "fun" else label, text) for label, text in rows.items()]


@supports(backends=("numpy", "cupy", "torch", "strict"), gradients=("x", "y", "a", "b"))
def divergence(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float,
    within: tuple[Any, Any] | None = None,
    unbalanced: float | None = None,
    method: str | Callable[..., TransportResult] = "auto",
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 10_000,
    check_every: int = 100,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> DivergenceResult:
    r"""Compute the Sinkhorn divergence of two measures, with its gradients.

    It is ``OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + (reg / 2) (sum a - sum b)^2``, where ``OT`` is the optimal value of
    `sinkhorn`: a smooth distance that, unlike ``OT``, is least where the measures are equal, and 0 there.

    Parameters
    ----------
    cost : Cost, array or nested sequence, shape (n, m)
        ``PointCloud(x, y)``, or a matrix of the costs between sources and targets.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the same total mass; None means uniform.
    reg : float
        Strength > 0 of the regularisation, in units of the cost.
    within : (Cost or array, Cost or array), shapes (n, n) and (m, m), optional
        Symmetric costs among the sources and among the targets; needed for matrices, while clouds and grids know them.
        Histograms on common bins have ``within=(cost, cost)``.
    unbalanced : float, optional
        Strength of penalties in the place of the constraints on the marginals, as in `sinkhorn`.
    method : {"auto", ...} or solver function
        The method of `solve` for the transport between the measures.
    init : (array, array, array, array), DivergenceResult or state, optional
        ``potentials`` of a similar problem to start from, which makes the steps of a gradient flow cheap; or a result
        of the same problem to continue.
    tol : float, "auto" or None
        As in `sinkhorn`, for each of the three transports.
    maxiter : int
        Largest number of iterations: each is a pass over every cost whose transport is not solved yet.
    check_every : int
        Iterations between two checks. A check takes five passes.
    callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    DivergenceResult
        With ``value``, ``bounds``, ``gradients``, ``potentials`` and ``plans``.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    Notes
    -----
    *Method.* The potential of a measure's transport to itself is the same on both sides, the fixed point of the soft
    transform ``T``. Steps of about two thirds of the way to ``T f``, with a little momentum, converge to it by a factor
    of about five an iteration if the kernel ``exp(-C / reg)`` is positive definite, as it is for distances to a power
    of at most 2: about ten passes whatever ``reg``. For other costs they converge too, but can be slow. The transport
    between the measures is left to ``method``.

    *Gradients* are those of the objective with potentials or plans frozen (envelope theorem): in the weights ``f_ab -
    f_aa``, in the positions ``sum_j P_ij d c(x_i, y_j) - sum_k Q_ik d c(x_i, x_k)`` with the plan ``Q`` among the
    sources, whose two arguments both move. One product with each plan; nothing is differentiated through.

    *Stopping*: by ``tol``. ``success`` asks for more: that the interval ``bounds``, which the three duality gaps prove,
    is narrow enough.

    *Cost*: an exponential per entry of a cost and pass; memory O(n + m) beside the costs.

    *When not to use it*: for the unregularised distance take `emd`; between distributions on the line
    `wasserstein_1d`; in high dimension, where only a trend is asked for, `sliced` is cheaper.

    References
    ----------
    A. Genevay, G. Peyré, M. Cuturi, Learning generative models with Sinkhorn divergences, AISTATS 2018. J. Feydy,
    T. Séjourné, F.-X. Vialard, S. Amari, A. Trouvé, G. Peyré, Interpolating between optimal transport and MMD using
    Sinkhorn divergences, AISTATS 2019. T. Séjourné, J. Feydy, F.-X. Vialard, A. Trouvé, G. Peyré, Sinkhorn divergences
    for unbalanced optimal transport, 2019 (arXiv 1910.12958).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import PointCloud, divergence
    >>> x = np.linspace(0, 1, 40)
    >>> res = divergence(PointCloud(x, x + 0.5), reg=0.1)
    >>> round(res.value, 6), res.success
    (0.25, True)
    >>> np.round(len(x) * res.gradients.x[:2, 0], 4)  # every point should move by half of this
    array([-1., -1.])
    """
    penalty = unbalanced
    if unbalanced is not None:
        fix = "pass one strength for both sides: the divergence is symmetric"
        penalty = check.scalar("unbalanced", unbalanced, low=0.0, low_open=True, finite=False, fix=fix)
    problem = prepare(cost, a, b, unbalanced=penalty)
    reg = check_reg(reg, problem)
    sides = _sides(problem, within)
    if tol == "auto":
        tol = 1e-6 if problem.xp.finfo(problem.dtype).bits == 64 else 1e-4
    elif tol is not None:
        tol = check.scalar("tol", tol, low=0.0)
    start, state = prepare_init(init, DivergenceState)
    solver = _Divergence(problem, sides, reg, tol, method, start)
    if state is None:
        state = solver.first(prepared=checkpoint is not None)
    elif tuple(side.f.shape for side in state[1:3]) != tuple((k,) for k in problem.cost.shape):
        raise check.error("init", "a result of another problem", "one of this problem", "pass its `potentials`")
    return run(
        solver.steps,
        state=state,
        like=problem.a,
        xp=problem.xp,
        method="divergence",
        finish=solver.finish,
        tol=tol,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(problem.cost, *(side.cost for side in sides), problem.a, problem.b, problem.rho, reg, method, tol),
        patience=max(5, math.ceil(1000 / check_every)) if isinstance(check_every, int) and check_every > 0 else None,
        result_class=DivergenceResult,
        message="fixed points with momentum within the measures",
    )


def _sides(problem: Problem, within: Any) -> tuple[Problem, Problem]:
    """The transport of either measure to itself, in the widest precision of the device."""
    xp, cost = problem.xp, problem.cost
    if within is None and isinstance(cost, (PointCloud, GridCost)):
        within = cost.within()
    elif not (isinstance(within, (tuple, list)) and len(within) == 2):
        fix = "pass the costs among the sources and among the targets, or a PointCloud or GridCost"
        raise check.error("within", type(within).__name__, "a pair of costs with a cost matrix", fix, TypeError)
    found = []
    for own, weights in zip(within, (problem.a, problem.b), strict=True):
        k = weights.shape[0]
        if isinstance(own, Cost):
            check.common(cost=cost.rows(0, 1), within=own.rows(0, 1))
        else:
            check.common(cost=cost.rows(0, 1), within=own)
            own = DenseCost(check.array("within", own, xp=xp, dtype=problem.dtype, device=cost.device, ndim=2))
        if own.shape != (k, k):
            raise check.error("within", f"shape {own.shape}", f"shape ({k}, {k})")
        if isinstance(own, DenseCost):
            difference = float(xp.max(xp.abs(own.array - own.T.array)))
            if difference > 1e-6 * max(map(abs, own.bounds())):
                raise check.error("within", f"entries that differ by {difference:.3g}", "a symmetric cost")
        found.append(prepare(own, weights, weights, unbalanced=problem.rho[0]).double())
    return found[0], found[1]


class _Divergence:
    """The method, as a generator of steps."""

    def __init__(
        self,
        problem: Problem,
        sides: tuple[Problem, Problem],
        reg: float,
        tol: float | None,
        method: Any,
        start: Any,
    ) -> None:
        self.problem, self.sides, self.reg, self.tol = problem, sides, reg, tol
        self.rho = problem.rho[0]
        self.within = [_Within(side, reg) for side in sides]
        self.solve = partial(
            solve,
            problem.cost,
            problem.a,
            problem.b,
            reg=reg,
            unbalanced=None if problem.balanced else self.rho,
            method=method,
            tol=tol,
        )
        self.start = self.checked(start)
        self.found: TransportResult | None = None  # the last result between the measures

    def checked(self, start: Any) -> Potentials | None:
        """Potentials to start from."""
        if start is None:
            return None
        xp, device = self.problem.xp, self.problem.cost.device
        if not (isinstance(start, (tuple, list)) and len(start) == 4):
            expected = "four potentials: f (n,), g (m,), and those of either measure's transport to itself"
            raise check.error("init", type(start).__name__, expected, "pass `potentials` of a result", TypeError)
        shapes = self.problem.cost.shape * 2
        wide = self.sides[0].dtype
        dtypes = (self.problem.dtype, self.problem.dtype, wide, wide)
        return tuple(
            check.array("init", u, xp=xp, shape=(k,), dtype=dtype, device=device)
            for u, k, dtype in zip(start, shapes, dtypes, strict=True)
        )

    def first(self, prepared: bool) -> DivergenceState:
        """The state to start from; ``prepared`` if it must have all its parts, as a checkpoint asks."""
        within = self.start[2:] if self.start else [self.problem.xp.zeros_like(side.a) for side in self.sides]
        sides = [SelfState(f, f, None, 0, 2.0) for f in within]
        return DivergenceState(0, *sides, self.between(None, 0).state if prepared else None)

    def between(self, state: Any, todo: int) -> TransportResult:
        """Iterations of the transport between the measures."""
        self.found = self.solve(init=state if state is not None else self.start and self.start[:2], maxiter=todo)
        return self.found

    def result(self, state: DivergenceState) -> TransportResult:
        """The transport between the measures at a state."""
        if self.found is None or self.found.state is not state.cross:
            return self.between(state.cross, 0)
        return self.found

    def potentials(self, state: DivergenceState) -> Potentials:
        """The iterate, as the user sees it."""
        xp, problem = self.problem.xp, self.problem
        if state.cross is not None:
            f, g = self.result(state).potentials
        else:
            f, g = self.start[:2] if self.start else (xp.zeros_like(problem.a), xp.zeros_like(problem.b))
        return f, g, *(xp.astype(side.f, problem.dtype) for side in (state.sources, state.targets))

    def steps(self, state: DivergenceState) -> Steps:
        """Blocks of iterations of all three transports, each until it is solved."""
        status, error = None, max(2.0, 2.0 * (self.tol or 0.0))  # before the first pass only the trivial bound is known
        while True:
            counts = {"passes": state.sources.nit + state.targets.nit}
            if state.cross is not None:
                counts["passes"] += self.result(state).counts["passes"]
            budget = yield Step(
                x=self.potentials(state),
                nit=state.nit,
                state=state,
                stop=lambda error=error: error,
                status=status,
                counts=counts,
            )
            before = [part.nit if part is not None else 0 for part in state[1:]]
            sides = [self.iterate(own, part, budget) for own, part in zip(self.within, state[1:3], strict=True)]
            cross = self.between(state.cross, budget)
            ended = cross.status in (Status.CONVERGED, Status.STALLED) and all(self.solved(part) for part in sides)
            status = cross.status if ended else None
            most = max(now - then for now, then in zip((*(p.nit for p in sides), cross.nit), before, strict=True))
            state = DivergenceState(state.nit + (most if ended else budget), *sides, cross.state)
            error = max(cross.history["stop"][-1], *(part.error for part in sides))

    def iterate(self, own: "_Within", state: SelfState, todo: int) -> SelfState:
        """Passes of the fixed-point iteration with momentum, until it is reached."""
        xp, a = own.problem.xp, own.problem.a
        for _ in range(todo):
            if self.solved(state):
                break
            f, (moved, hint) = state.f, own.transform(state.f, state.hint)
            change = (moved - f) / self.reg
            if own.problem.balanced:  # twice the marginal error of the plan of (f, f): that of (T f, f) is no larger
                error = 2.0 * float(xp.sum(a * xp.abs(xp.expm1(xp.clip(-change, -50.0, 50.0))))) / own.problem.mass[0]
            else:
                error = float(xp.max(xp.abs(change)))
            ahead = f + STEP * (moved - f) + MOMENTUM * (f - state.before)
            state = SelfState(ahead, f, hint, state.nit + 1, error)
        return state

    def solved(self, state: SelfState) -> bool:
        """Whether the transport of a measure to itself is within the tolerance."""
        return self.tol is not None and state.error <= self.tol

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer from the potentials and the data alone; its bounds later, if they are proven to be narrow."""
        problem, reg, rho, cross = self.problem, self.reg, self.rho, self.result(step.state)
        within = [own.certified(part, self.tol) for own, part in zip(self.within, step.state[1:3], strict=True)]
        offset = 0.5 * reg * (problem.mass[0] - problem.mass[1]) ** 2
        value = cross.dual_value - 0.5 * sum(own["dual_value"] for own in within) + offset
        xp, f, g = problem.xp, *cross.potentials
        plans = [cross.plan]
        for side, own in zip(self.sides, within, strict=True):
            h = 0.5 * (own["potentials"][0] + own["potentials"][1])  # symmetric, as is the plan
            h, a = xp.astype(h, problem.dtype), xp.astype(side.a, problem.dtype)
            plans.append(EntropicPlan(side.cost.astype(problem.dtype), a, a, h, h, reg))
        f_own, g_own = (plan.f for plan in plans[1:])
        if problem.balanced:
            weights = f - f_own, g - g_own
        else:
            weights = ((rho + reg) * (xp.expm1(-own / rho) - xp.expm1(-u / rho)) for u, own in ((f, f_own), (g, g_own)))
        positions = (None, None)
        if is_differentiable(problem.cost):
            between, *own = plans
            moves = (cost_gradient(between, problem.cost), cost_gradient(between.T, problem.cost.T))
            positions = tuple(u - cost_gradient(plan, plan.cost) for u, plan in zip(moves, own, strict=True))
        found = {
            "x": (f, g, f_own, g_own), "potentials": (f, g, f_own, g_own), "plans": tuple(plans), "fun": value,
            "value": value, "gradients": Gradients(*weights, *positions),
        }  # fmt: skip
        bounds = partial(_bounded, value, cross, within, self.tol)
        proven = cross.deferred and all("later" in own for own in within)
        if proven and sum(scale(side, reg, self.tol) for side in self.sides) <= 2.0 * scale(problem, reg, self.tol):
            return {**found, "later": bounds}
        return {**found, **bounds()}


def _bounded(value: float, cross: TransportResult, within: list[dict[str, Any]], tol: float | None) -> dict[str, Any]:
    """What the gaps of the three transports prove."""
    within = [own["later"]() if "later" in own else own for own in within]
    low = value - 0.5 * sum(own["gap"] for own in within)
    high = value + cross.gap
    certificates = [cross.certificate, *(own["certificate"] for own in within)]
    return {
        "certificate": Certificate(
            kind="duality_gap",
            value=max(value - low, high - value),
            scale=cross.certificate.scale,
            tol=tol,
            residual=max(c.residual for c in certificates),
            note=cross.certificate.note,
        ),
        "bounds": (low, high),
        "value_linear": cross.value_linear - 0.5 * sum(own["value_linear"] for own in within),
    }


class _Within:
    """The soft transform ``T`` of a measure's transport to itself, by a stored kernel where that is small."""

    def __init__(self, problem: Problem, reg: float) -> None:
        self.problem, self.reg = problem, reg
        self.inv_rho = 1.0 / problem.rho[0]
        self.far = FAR[problem.xp.finfo(problem.dtype).bits] * reg
        cost = problem.cost
        small = problem.xp.finfo(problem.dtype).bits // 8 * cost.shape[0] ** 2 <= STORED_BYTES
        self.stored = cost.kind == "dense" or (cost.kind != "grid" and small)
        self.kernel: tuple[Array, Array, Array] | None = None  # kernel, row potentials and potentials in it

    def transform(self, f: Array, hint: Array | None) -> tuple[Array, Array | None]:
        """``T f`` with its penalty, and the potential in the kernel that was used."""
        problem, xp, eps, a = self.problem, self.problem.xp, self.reg, self.problem.a
        if not self.stored:
            return passes.relaxed_sweep(problem.cost, f, f, a, a, eps, self.inv_rho, 1.0)[0], None
        lam = 1.0 / (1.0 + eps * self.inv_rho)
        if hint is None or float(xp.max(xp.abs(f - hint))) > self.far:
            return lam * self.store(f), f
        if self.kernel is None or self.kernel[2] is not hint:
            self.store(hint)
        kernel, alpha, beta = self.kernel
        return lam * (alpha - eps * xp.log(kernel @ (a * xp.exp((f - beta) / eps)))), hint

    def store(self, f: Array) -> Array:
        """Build the kernel of a potential, and return its soft transform."""
        problem = self.problem
        kernel, alpha, _, _ = passes.absorb(problem.cost, f, f, problem.a, problem.a, self.reg, self.inv_rho)
        self.kernel = (kernel, alpha, f)
        return alpha

    def certified(self, state: SelfState, tol: float | None) -> dict[str, Any]:
        """The answer of `certify`."""
        problem, xp, g = self.problem, self.problem.xp, state.f
        if not (self.stored and problem.balanced and state.hint is not None):
            return certify(problem, self.reg, g, tol=tol)
        f, _ = self.transform(g, state.hint)
        again, _ = self.transform(f, state.hint)
        return certify(problem, self.reg, g, tol=tol, swept=(f, problem.a * xp.exp((g - again) / self.reg)))
