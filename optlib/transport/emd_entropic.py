"""Exact transport to high accuracy on any device: Newton's method at regularisations that go to zero."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from optlib._core import Certificate, Status, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports
from optlib.transport import passes
from optlib.transport._problem import Problem, prepare
from optlib.transport.certificates import certify, only_with_mass
from optlib.transport.result import TransportResult
from optlib.transport.sinkhorn_newton import sinkhorn_newton

START, RATIO = 1e-2, 0.1  # first regularisation in units of the cost range, and ratio of neighbouring ones
LEVELS = 14  # the last regularisation is at the rounding level
MARGINALS = {64: 1e-10, 32: 1e-5}  # tolerance for the marginals of the levels


class EntropicState(NamedTuple):
    """State of `emd_entropic`.

    Attributes
    ----------
    nit : int
        Regularisations done.
    f, g : array, shapes (n,) and (m,)
        Potentials of the last one.
    low, high : float
        Best bounds of the optimum so far.
    best_f, best_g, best : array, array, float
        Potentials and regularisation of the plan whose rounding has the cost ``high``.
    dual : array, shape (m,)
        Column potential with the dual value ``low``.
    steps, passes : int
        Newton steps and sweeps, and passes over the cost.
    """

    nit: int
    f: Array
    g: Array
    low: float
    high: float
    best_f: Array
    best_g: Array
    best: float
    dual: Array
    steps: int
    passes: int


@supports(backends=("numpy", "cupy", "torch", "strict"), gradients=("cost", "a", "b"))
def emd_entropic(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = LEVELS,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> TransportResult:
    r"""Solve a transport problem to high accuracy by entropic problems whose regularisation goes to zero.

    Minimise ``<C, P>`` among the plans ``P >= 0`` with row sums ``a`` and column sums ``b``, as `emd` does, but with
    operations on whole arrays only: on a GPU everything stays there.

    Parameters
    ----------
    cost : array, nested sequence or Cost, shape (n, m)
        Cost matrix, or a cost such as ``PointCloud(x, y)``.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the same total mass; None means uniform.
    init : (array, array), TransportResult or state, optional
        ``potentials`` of a similar problem to start from; or a result of the same problem to continue.
    tol : float, "auto" or None
        Stop when the gap between the cost of the plan and of the dual solution, relative to the mass times the largest
        cost, is at most this. ``"auto"`` is 1e-8, and 1e-4 for float32.
    maxiter : int
        Largest number of regularisations, each a tenth of the one before.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    TransportResult
        ``plan`` is the entropic plan rounded to one with the marginals ``a`` and ``b``: feasible, but not a vertex;
        ``potentials`` satisfy ``f_i + g_j <= C_ij``; ``value`` is the cost of the plan, and ``lp_bounds`` encloses the
        optimum.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    See Also
    --------
    optlib.transport.emd : The vertex itself, in exact arithmetic up to rounding, on the CPU.

    Notes
    -----
    *Method.* `sinkhorn_newton` at ``reg`` = 1e-2, 1e-3, ... times the range of the cost, each from the potentials of
    the one before. The plan rounded to the polytope costs at least the optimum, the C-transform of the potential is
    worth at most the optimum; both are kept where they are best. Their distance falls with ``reg``: where the optimal
    plan is unique, the upper bound faster than any power of it.

    *Stopping*: by ``tol``. Marginals are asked for with 1e-10 (float32: 1e-5), so that a gap of about 1e-9 times the
    range of the cost is what can be had.

    *Cost.* Some ten to a hundred Newton steps for each digit, each a sparse factorisation on the CPU and a dense one of
    min(n, m)^3 / 3 operations elsewhere. Memory: a plan, n m numbers.

    *When not to use it*: on the CPU `emd` is faster, and gives a vertex.

    References
    ----------
    R. Cominetti, J. San Martin, Asymptotic analysis of the exponential penalty trajectory in linear programming, Math.
    Program. 67, 1994. B. Schmitzer, Stabilized sparse scaling algorithms for entropy regularized transport problems,
    SIAM J. Sci. Comput. 2019.

    Examples
    --------
    >>> from optlib.transport import emd_entropic
    >>> res = emd_entropic([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0]], [2.0, 2.0], [2.0, 1.0, 1.0])
    >>> round(res.value, 6), res.certificate.kind, res.success
    (1.0, 'lp_gap', True)
    """
    problem = prepare(cost, a, b)
    if tol == "auto":
        tol = 1e-8 if problem.xp.finfo(problem.dtype).bits == 64 else 1e-4
    elif tol is not None:
        tol = check.scalar("tol", tol, low=0.0)
    solver = _Path(problem, tol)
    return run(
        solver.steps,
        state=solver.begin(init),
        like=problem.a,
        xp=problem.xp,
        method="emd_entropic",
        finish=solver.finish,
        tol=tol,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(problem.cost, problem.a, problem.b),
        result_class=TransportResult,
        message="Newton steps at falling regularisation",
    )


class _Path:
    """The method, as a generator of steps."""

    def __init__(self, problem: Problem, tol: float | None) -> None:
        self.problem, self.tol = problem, tol
        self.unit = problem.mass[0] * max(map(abs, problem.cost.bounds()))
        self.marginals = MARGINALS[problem.xp.finfo(problem.dtype).bits]

    def begin(self, init: Any) -> EntropicState:
        """The state to start from."""
        problem, xp = self.problem, self.problem.xp
        if isinstance(init, TransportResult) and not isinstance(init.state, EntropicState):
            init = init.potentials
        start, state = prepare_init(init, EntropicState)
        if state is not None and (state.f.shape, state.g.shape) == (problem.a.shape, problem.b.shape):
            return state
        if state is not None:
            raise check.error("init", "a result of another problem", "one of this problem", "pass its `potentials`")
        f, g = xp.zeros_like(problem.a), xp.zeros_like(problem.b)
        if start is not None:
            if not (isinstance(start, (tuple, list)) and len(start) == 2):
                raise check.error("init", type(start).__name__, "a pair of potentials (f, g)", kind=TypeError)
            f, g = (
                check.array("init", u, xp=xp, shape=tuple(w.shape), dtype=problem.dtype, device=problem.cost.device)
                for u, w in zip(start, (problem.a, problem.b), strict=True)
            )
        low, high = (problem.mass[0] * c for c in problem.cost.bounds())
        return EntropicState(0, f, g, low, high, f, g, math.inf, g, 0, 0)

    def steps(self, state: EntropicState) -> Steps:
        """One regularisation after the other."""
        status = None
        while True:
            gap = self.gap(state)
            yield Step(
                x=(state.f, state.g), nit=state.nit, state=state, stop=lambda gap=gap: gap,
                metrics={"low": partial(float, state.low), "high": partial(float, state.high)},
                status=status, counts={"steps": state.steps, "passes": state.passes},
            )  # fmt: skip
            state = self.advance(state)
            if state.nit >= LEVELS and self.tol is not None:
                status = Status.CONVERGED if self.gap(state) <= self.tol else Status.STALLED

    def gap(self, state: EntropicState) -> float:
        """The relative gap."""
        return (state.high - state.low) / self.unit if self.unit else 0.0

    def advance(self, state: EntropicState) -> EntropicState:
        """Solve at the next regularisation."""
        problem = self.problem
        reg = (problem.range or 1.0) * START * RATIO ** min(state.nit, LEVELS - 1)
        found = sinkhorn_newton(
            problem.cost, problem.a, problem.b, reg=reg, init=(state.f, state.g), tol=self.marginals, record=False
        )
        (f, g), (low, high) = found.potentials, found.lp_bounds
        state = state._replace(
            nit=state.nit + 1, f=f, g=g, steps=state.steps + found.nit, passes=state.passes + found.counts["passes"]
        )
        if low > state.low or state.nit == 1:
            state = state._replace(low=low, dual=g)
        if high < state.high or state.nit == 1:
            state = state._replace(high=high, best_f=f, best_g=g, best=reg)
        return state

    def finish(self, step: Step) -> dict[str, Any]:
        """The rounded plan, potentials that are feasible, and the gap between their values."""
        problem, state, xp = self.problem, step.state, self.problem.xp
        wide = problem.double()
        reg = state.best if state.nit else problem.range or 1.0
        found = certify(problem, reg, state.best_g, tol=None)
        plan = found["plan"].rounded()
        f = passes.c_transform(wide.cost, only_with_mass(xp.astype(state.dual, wide.dtype), wide.b, wide.range, xp))
        g = passes.c_transform(wide.cost.T, only_with_mass(f, wide.a, wide.range, xp))
        least = problem.cost.bounds()[0]
        if float(xp.sum(f * wide.a) + xp.sum(g * wide.b)) < least * problem.mass[0]:  # no cost is below the least one
            f, g = xp.full_like(f, least), xp.zeros_like(g)
        shift = 0.5 * (xp.sum(f * wide.a) - xp.sum(g * wide.b)) / problem.mass[0]
        potentials = xp.astype(f - shift, problem.dtype), xp.astype(g + shift, problem.dtype)
        low, high = max(state.low, found["lp_bounds"][0]), min(state.high, found["lp_bounds"][1])
        error = float(xp.sum(xp.abs(plan.sum(1) - problem.a)) + xp.sum(xp.abs(plan.sum(0) - problem.b)))
        gap = max(high - low, 0.0)
        residual = error / problem.mass[0]
        floor = 100.0 * float(xp.finfo(problem.dtype).eps)  # of sums in the precision of the plan
        certificate = Certificate(
            "lp_gap", gap, self.unit, tol=self.tol, residual=0.0 if residual <= floor else residual
        )
        return {
            "certificate": certificate, "x": potentials, "potentials": potentials, "plan": plan, "fun": high,
            "value": high, "value_linear": high, "dual_value": low, "gap": gap, "lp_bounds": (low, high),
            "marginal_error": error,
        }  # fmt: skip
