r"""Mirror Sinkhorn: convex objectives on transport polytopes, one gradient and one scaling an iteration.

An exponentiated gradient step leaves the polytope; scaling the columns to ``b`` (odd iterations) or the rows to ``a``
(even ones) is a Kullback-Leibler projection onto one half of the constraints. With gradients in an interval of length
``B``, a constant step ``eta`` and any plan ``G`` of mass 1 in the polytope, the identity of three points and the
Pythagorean identity of the projections give

    sum_t <grad_t, G_t - G> <= KL(G | a b') / eta + eta B^2 T / 2,

and ``KL(G | a b') <= min(H(a), H(b))``. For a linear objective ``<C, P>`` the iterates are
``a_i b_j exp(u_i + v_j - sigma C_ij)``, with ``sigma`` the sum of the steps: Sinkhorn's algorithm, annealed, one
half-step for every regularisation ``1 / sigma``; nothing of size n x m is stored.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_compat as compat

from optlib._core import Certificate, Step, Steps, prepare_init, prepare_resume, run
from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib.backend import Array, array_namespace, as_floating, device_of, supports, to_numpy
from optlib.backend.random import as_generator
from optlib.backend.special import logsumexp
from optlib.steps import as_schedule
from optlib.transport import passes
from optlib.transport._problem import Problem, prepare
from optlib.transport._support import by_rows
from optlib.transport.certificates import certify
from optlib.transport.cost import Cost
from optlib.transport.emd import emd
from optlib.transport.plan import DensePlan
from optlib.transport.result import TransportResult
from optlib.transport.rounding import round_plan

ORACLES = ("exact", "stochastic", "online")
AVERAGES = ("auto", "last", "uniform", "linear", "suffix")


class LinearState(NamedTuple):
    """State of `mirror_sinkhorn` for a linear objective.

    Attributes
    ----------
    nit : int
        Iterations.
    sigma : float
        Sum of the steps.
    u, v : array, shapes (n,) and (m,)
        Logarithms of the scalings.
    """

    nit: int
    sigma: float
    u: Array
    v: Array


class MirrorState(NamedTuple):
    """State of `mirror_sinkhorn` for any objective.

    Attributes
    ----------
    nit : int
        Iterations.
    seed : int
        Of the generators that the oracle gets: one of its own for every iteration.
    log_plan, average : array, shape (n, m)
        Logarithm of the iterate, and the average of the iterates; mass 1.
    sigma : array, shape ()
        Sum of the steps.
    v : array, shape (m,)
        Sum of the logarithms by which columns were scaled: dual variables of the sum of the steps times gradients.
    widest : array, shape ()
        Largest range of a gradient.
    total : array, shape (n, m)
        Sum of the gradients (of length 0 for an exact oracle).
    earned : array, shape ()
        Sum of the products of gradients and iterates.
    """

    nit: int
    seed: int
    log_plan: Array
    average: Array
    sigma: Array
    v: Array
    widest: Array
    total: Array
    earned: Array


@supports(backends=("numpy", "cupy", "torch", "strict"))
def mirror_sinkhorn(
    objective: Any,
    a: Any = None,
    b: Any = None,
    *,
    oracle: str = "exact",
    average: str = "auto",
    init: Any = None,
    step: Any = None,
    tol: float | None = 1e-2,
    maxiter: int = 10_000,
    check_every: int = 100,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> TransportResult:
    r"""Minimise a convex function of the plan over a transport polytope, from exact, noisy or online gradients.

    Parameters
    ----------
    objective : callable, array, nested sequence or Cost
        ``gradient(plan, t, rng)`` returns the (n, m) gradient at a plan, in iteration ``t = 1, 2, ...``; ``rng`` is a
        NumPy generator for an oracle that draws. A cost (a matrix, or ``PointCloud(x, y)``) stands for the linear
        objective ``<C, P>``.
    a, b : array or sequence, shapes (n,) and (m,)
        Weights >= 0 of the same total mass. None, which means uniform, is allowed with a cost.
    oracle : {"exact", "stochastic", "online"}
        Whether the gradients are those of one function; unbiased estimates of them; or those of another convex function
        in every iteration, in the face of which the average regret is to be small.
    average : {"auto", "last", "uniform", "linear", "suffix"}
        What is returned, before rounding: the last iterate; the mean of all; that with weights proportional to the
        iteration; the mean since the last power of two. ``"auto"`` is ``"last"`` for a cost, which keeps the memory at
        O(n + m), and ``"uniform"`` else.
    init : array (n, m), TransportResult or state, optional
        A plan > 0 to start from, for a function; zero entries stay zero. A result of the same problem to continue.
    step : float or schedule, optional
        Step sizes. By default ``sqrt(delta / t) / B``, with ``B`` the largest range of a gradient so far and ``delta``
        the sum of the largest logarithms of ``1/a`` and ``1/b``.
    tol : float or None
        Stop when what the certificate bounds is at most this, relative to its scale; None runs ``maxiter`` iterations.
    maxiter, check_every : int
        Largest number of iterations, and iterations between two checks; a check with an exact oracle asks for one more
        gradient.
    callback, record, max_time, disp : optional
        See `optlib._core.run`.
    rng : int, Generator or None
        Seed of the generators that the oracle gets.
    checkpoint : path, optional
        See `optlib._core.run`.

    Returns
    -------
    TransportResult
        ``plan`` has the marginals ``a`` and ``b`` (rounded, see `round_plan`); ``x`` are its entries, or the potentials
        of the iterate for a cost. For a cost ``value`` and ``lp_bounds`` are given, for an online oracle ``regret``.
        The certificate is: for a cost, the distance to the linear program's optimum (``lp_gap``); for an exact oracle
        ``<grad, P> - min <grad, Q>`` at the plan, which bounds the distance to the optimum of a convex function
        (``duality_gap``); else the average regret (``regret_bound``): exact for an online oracle, and for a stochastic
        one an estimate of a bound that holds in expectation for ``average="uniform"``.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    See Also
    --------
    optlib.transport.emd : The linear objective, exactly.

    Notes
    -----
    *When not to use it.* To an accuracy of a few digits only: errors fall like ``1 / sqrt(t)``, at best like ``1 / t``.
    For a linear objective `optlib.transport.solve` is better in every respect but simplicity.

    *Stopping.* By ``tol``, see there: the quantity is that of the certificate, bounded by dual variables that come for
    free, so that the certificate holds then.

    *Cost.* An iteration costs a gradient and a pass with an exponential per entry. For a cost a check takes five more
    passes; for a function it takes O(n m), and the certificate solves one linear program by `optlib.transport.emd`.
    Memory: five arrays of n m entries, O(n + m) for a cost.

    *Marginals.* Iterates and averages have one exact marginal at most; an error of O(1 / sqrt(t)) in the other is
    removed by rounding. The regret is that of the iterates.

    References
    ----------
    M. Ballu, Q. Berthet, Mirror Sinkhorn: fast online optimization on transport polytopes, ICML 2023 (Algorithm 1 and
    the step size of Theorem 3.1; averages other than the uniform one are additions).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import mirror_sinkhorn
    >>> x = np.linspace(0, 1, 5)
    >>> wanted = np.outer(x, x)  # the nearest plan to a matrix
    >>> res = mirror_sinkhorn(lambda plan, t, rng: plan - wanted, np.full(5, 0.2), np.full(5, 0.2), tol=1e-2)
    >>> res.success
    True
    >>> np.allclose(res.plan.toarray().sum(0), 0.2)
    True
    """
    check.option("oracle", oracle, ORACLES)
    rng = as_generator(rng)
    check.option("average", average, AVERAGES)
    schedule = None if step is None else as_schedule(step)
    tol = None if tol is None else check.scalar("tol", tol, low=0.0)
    function = callable(objective) and not isinstance(objective, Cost)
    if not function and oracle != "exact":
        raise check.error("oracle", oracle, "'exact' for a cost", "pass a function that returns gradients")
    if function and (a is None or b is None):
        raise check.error("a, b", "None", "weights if the objective is a function", "pass both", TypeError)
    problem = _without_cost(a, b) if function else prepare(objective, a, b)
    common = {
        "xp": problem.xp, "method": "mirror_sinkhorn", "tol": tol, "maxiter": maxiter, "check_every": check_every,
        "callback": callback, "record": record, "max_time": max_time, "disp": disp, "checkpoint": checkpoint,
        "result_class": TransportResult,
    }  # fmt: skip
    if not function and average in ("auto", "last"):
        return _linear(problem, schedule, init, tol, common)
    if not function:
        matrix = problem.cost.toarray()
        objective = lambda plan, t, rng: matrix  # noqa: E731
    method = _Mirror(problem, objective, oracle, "uniform" if average == "auto" else average, schedule)
    start, state = prepare_init(init, MirrorState)
    if state is None:
        state = method.begin(start, int(rng.integers(2**62)))
    return run(
        method.steps,
        state=state,
        like=problem.a,
        finish=lambda step: method.finish(step.state, tol, linear=not function),
        problem=method,
        message=f"{oracle} gradients, {method.average} average",
        **common,
    )


def _without_cost(a: Any, b: Any) -> Problem:
    """The checked weights, with a cost of zeros."""
    xp, device, dtype = check.common(a=a, b=b)
    a, b = (as_floating(w, xp=xp, dtype=dtype, device=device) for w in (a, b))
    if a.ndim != 1 or b.ndim != 1:
        raise check.error("a, b", f"shapes {tuple(a.shape)} and {tuple(b.shape)}", "one weight per source and target")
    return prepare(xp.zeros((a.shape[0], b.shape[0]), dtype=dtype, device=device), a, b)


def _delta(problem: Problem) -> float:
    """Largest logarithms of the inverse weights of mass 1, added."""
    largest = 0.0
    for w, mass in zip((problem.a, problem.b), problem.mass, strict=True):
        log_w = passes.log_weights(w / mass, xp=problem.xp)
        largest += float(problem.xp.max(problem.xp.where(w > 0, -log_w, problem.xp.zeros_like(w))))
    return largest


# -- linear objectives --


def _linear(
    problem: Problem, schedule: Callable[[int], float] | None, init: Any, tol: float | None, common: dict[str, Any]
) -> TransportResult:
    wide, xp = problem.double(), problem.xp
    rate, delta, largest = wide.range, _delta(wide), max(map(abs, wide.cost.bounds()))
    flat = 1e3 * (rate or largest or 1.0)  # regularisation at which the cost does not show
    state = prepare_resume(init, LinearState)
    if state is None:
        state = LinearState(0, 0.0, xp.zeros_like(wide.a), xp.zeros_like(wide.b))

    def size(t: int) -> float:
        if schedule is not None:
            return float(schedule(t - 1))
        return math.sqrt(delta / t) / rate if rate else 0.0

    def answer(state: LinearState) -> dict[str, Any]:
        """The plan whose rows are exact for ``v``, rounded, and bounds of the optimum."""
        reg = 1.0 / state.sigma if state.sigma else flat
        found = certify(problem, reg, state.v * reg, tol=tol)
        low, high = found["lp_bounds"]
        found["plan"] = found["plan"].rounded()
        scale = wide.mass[0] * (rate or largest or 1.0)
        certificate = Certificate("lp_gap", high - low, scale, tol=tol)
        found |= {"fun": high, "value": high, "value_linear": high, "dual_value": low, "gap": high - low}
        return found | {"certificate": certificate, "marginal_error": 0.0}

    def steps(state: LinearState) -> Steps:
        rows, columns = by_rows(wide.cost), by_rows(wide.cost.T)
        while True:
            yield Step(
                x=tuple(xp.astype(w / (state.sigma or 1.0), problem.dtype) for w in (state.u, state.v)),
                nit=state.nit,
                state=state,
                stop=lambda s=state: answer(s)["certificate"].relative,
                counts={"passes": state.nit},
            )
            nit, sigma, u, v = state
            nit, sigma = nit + 1, sigma + size(nit + 1)
            eps = 1.0 / sigma if sigma else flat
            if nit % 2:
                v = passes.sweep(columns, u * eps, wide.b, wide.a, eps, f=v * eps)[0] / eps
            else:
                u = passes.sweep(rows, v * eps, wide.a, wide.b, eps, f=u * eps)[0] / eps
            state = LinearState(nit, sigma, u, v)

    return run(
        steps,
        state=state,
        like=wide.a,
        finish=lambda step: answer(step.state),
        problem=(problem.cost, problem.a, problem.b),
        message="linear objective, last iterate",
        **common,
    )


# -- any objective --


class _Mirror:
    """The method for an oracle of gradients."""

    def __init__(
        self, problem: Problem, gradient: Callable[..., Array], oracle: str, average: str, schedule: Any
    ) -> None:
        self.problem, self.gradient, self.oracle, self.average = problem, gradient, oracle, average
        self.schedule, self.delta, self.mass, self.xp = schedule, _delta(problem), problem.mass[0], problem.xp
        self.log_a, self.log_b = (passes.log_weights(w / self.mass, xp=self.xp) for w in (problem.a, problem.b))

    def begin(self, start: Any, seed: int) -> MirrorState:
        """The product of the weights, or a given plan."""
        xp, a, b = self.xp, self.problem.a, self.problem.b
        zero = xp.zeros((), dtype=a.dtype, device=device_of(a))
        log_plan = self.log_a[:, None] + self.log_b[None, :]
        if start is not None:
            fix = "pass a plan; what is zero stays zero"
            shape = tuple(log_plan.shape)
            plan = check.array(
                "init", start, xp=xp, shape=shape, nonnegative=True, dtype=a.dtype, device=device_of(a), fix=fix
            )
            log_plan = passes.log_weights(plan / xp.sum(plan), xp=xp)
        nothing = log_plan if self.oracle != "exact" else log_plan[:0, :]
        return MirrorState(
            0, seed, log_plan, xp.exp(log_plan), zero, xp.zeros_like(b), zero, xp.zeros_like(nothing), zero
        )

    def identity(self) -> Any:
        """What tells the problem from others: weights, options, and an exact objective's gradient where all begins."""
        a, b = self.problem.a, self.problem.b
        known = [self.ask(a[:, None] * b[None, :], 1, 0)] if self.oracle == "exact" else []
        return a, b, self.oracle, self.average, probe(*known)

    def ask(self, plan: Array, t: int, seed: int) -> Array:
        """The gradient at a plan."""
        grad = self.gradient(plan, t, as_generator([seed, t]))
        like = self.problem.a
        if (
            not compat.is_array_api_obj(grad)
            or array_namespace(grad) is not self.xp
            or device_of(grad) != device_of(like)
        ):
            got, expected = type(grad).__name__, "gradients of the library and device of the weights"
            raise check.error("objective", got, expected, kind=TypeError)
        shape = tuple(plan.shape)
        return check.array("objective", grad, xp=self.xp, shape=shape, finite=False, dtype=like.dtype)

    def steps(self, state: MirrorState) -> Steps:
        """A gradient step on the logarithms, then columns or rows are scaled."""
        xp = self.xp
        while True:
            yield Step(
                x=self.mass * state.average,
                nit=state.nit,
                state=state,
                stop=lambda s=state: self.bound(s)[0],
                counts={"gradients": state.nit},
            )
            t, log_plan, v = state.nit + 1, state.log_plan, state.v
            plan = xp.exp(log_plan)
            grad = self.ask(self.mass * plan, t, state.seed)
            widest = xp.maximum(state.widest, xp.max(grad) - xp.min(grad))
            eta = self.size(t, widest)
            total, earned = state.total, state.earned
            if self.oracle != "exact":
                total, earned = total + grad, earned + self.mass * xp.sum(grad * plan)
            log_plan = log_plan - eta * grad
            if t % 2:
                scaling = self.log_b - logsumexp(log_plan, axis=0, xp=xp)
                log_plan, v = log_plan + scaling[None, :], v + scaling
            else:
                log_plan = log_plan + (self.log_a - logsumexp(log_plan, axis=1, xp=xp))[:, None]
            average = self.averaged(state.average, xp.exp(log_plan), t)
            sigma = state.sigma + eta
            state = MirrorState(t, state.seed, log_plan, average, sigma, v, widest, total, earned)

    def size(self, t: int, widest: Array) -> Any:
        """The step size of iteration t."""
        if self.schedule is not None:
            return self.schedule(t - 1)
        safe = self.xp.where(widest > 0, widest, self.xp.ones_like(widest))
        return self.xp.where(widest > 0, math.sqrt(self.delta / t) / safe, self.xp.zeros_like(widest))

    def averaged(self, average: Array, plan: Array, t: int) -> Array:
        """The average with the iterate after t iterations."""
        since = 1 << (t.bit_length() - 1)  # the last power of two
        weight = {
            "last": 1.0, "uniform": 1.0 / (t + 1), "linear": 2.0 / (t + 2), "suffix": 1.0 / (t - since + 1)
        }[self.average]  # fmt: skip
        return plan if weight == 1.0 else average + weight * (plan - average)

    def rounded(self, state: MirrorState) -> Array:
        """The average, with exact marginals."""
        plan = DensePlan(self.mass * state.average, self.problem.a, self.problem.b)
        return round_plan(plan).toarray()

    def bound(self, state: MirrorState, plan: Array | None = None) -> tuple[float, float, Array]:
        """What the certificate bounds in units of its scale, by the dual variables at hand; scale; gradient."""
        xp, problem = self.xp, self.problem
        if self.oracle != "exact" and state.nit == 0:
            return 1.0, 1.0, state.total  # nothing was asked yet
        if self.oracle == "exact":
            plan = self.rounded(state) if plan is None else plan
            grad = self.ask(plan, state.nit, state.seed)
            value, rounds = xp.sum(grad * plan), 1
        else:
            grad, value, rounds = state.total, state.earned, max(state.nit, 1)
        positive = xp.where(state.sigma > 0, state.sigma, xp.ones_like(state.sigma))
        g = xp.where(problem.b > 0, rounds * state.v / positive, -1e30 * xp.ones_like(problem.b))
        f = xp.min(grad - g[None, :], axis=1)
        masked = xp.where((problem.a > 0)[:, None], grad - f[:, None], xp.max(grad) - xp.min(f))
        best = xp.sum(problem.a * f) + xp.sum(problem.b * xp.min(masked, axis=0))
        spread = xp.maximum(state.widest, xp.max(grad) - xp.min(grad)) if self.oracle == "exact" else state.widest
        gap, spread = to_numpy(xp.stack([(value - best) / rounds, spread])).tolist()
        scale = self.mass * spread or 1.0
        return max(gap, 0.0) / scale, scale, grad

    def finish(self, state: MirrorState, tol: float | None, *, linear: bool) -> dict[str, Any]:
        """The rounded plan, and the bound with the exact solution of the linear program of the gradient."""
        xp, problem = self.xp, self.problem
        array = self.rounded(state)
        plan = DensePlan(array, problem.a, problem.b)
        loose, scale, grad = self.bound(state, array)
        fields: dict[str, Any] = {"x": array, "plan": plan, "marginal_error": 0.0}
        finite = math.isfinite(loose)
        low = emd(grad, problem.a, problem.b).lp_bounds[0] if finite else -math.inf
        rounds = max(state.nit, 1)
        if self.oracle == "exact":
            high = float(xp.sum(grad * array))
            gap = high - low
            kind = "lp_gap" if linear else "duality_gap"
            note = "" if linear else "for a convex objective"
            fields["certificate"] = Certificate(kind, max(gap, 0.0), scale, tol=tol, note=note)
            if linear:
                fields |= {"fun": high, "value": high, "value_linear": high, "gap": gap, "lp_bounds": (low, high)}
            return fields
        regret = float(state.earned) - low
        value, online = regret / rounds if state.nit else scale, self.oracle == "online"
        if not online:  # the returned plan is the rounded one
            moved = float(xp.sum(xp.abs(array - self.mass * state.average)))
            value += 0.5 * scale / self.mass * moved
        note = "average regret against the best plan" if online else "an estimate: the bound holds in expectation"
        fields["certificate"] = Certificate("regret_bound", max(value, 0.0), scale, tol=tol, proof=online, note=note)
        return fields | {"regret": regret}
