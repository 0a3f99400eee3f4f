r"""Wasserstein barycenters on a fixed support: entropic, debiased, or exact."""

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import array_api_compat as compat

from optlib._core import Certificate, Result, Step, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, default_float, device_of, supports, to_numpy
from optlib.transport import passes
from optlib.transport._barycenter_lp import ExactBarycenter, ExactState
from optlib.transport._debiased import Debiased, DebiasedState
from optlib.transport._problem import MASS_RTOL, Problem, check_reg, prepare, proportions
from optlib.transport._support import has_kernels
from optlib.transport.acceleration import evaluate_stored
from optlib.transport.certificates import certify
from optlib.transport.cost import STORED_BYTES, Cost, DenseCost
from optlib.transport.sinkhorn import SinkhornMethod, SinkhornState, levels_to

PATH = (0.1, 0.2)  # first regularisation of the path in units of the cost range, and least ratios
LEVEL_ITERATIONS = 5  # short levels, as an iteration costs K passes
FAR = 200.0  # change of potentials, in units of reg, up to which a stored kernel has all entries that count


class BarycenterResult(Result):
    """Result of `barycenter`.

    All fields of `optlib.Result`, and those below.

    Attributes
    ----------
    x : array, shape (m,)
        The barycenter: weights of the targets, of the mass of the measures.
    value : float
        Objective (also ``fun``): what the barycenter as returned achieves.
    gap : float
        Bound on ``value`` minus the optimum.
    value_linear : float
        ``sum_k w_k <C_k, P_k>``: the cost without the regularisation (not for debiased ones).
    lp_bounds : (float, float) or None
        Numbers between which the objective of the unregularised barycenter lies, proven (not for debiased ones).
    plans : tuple of Plan
        From each measure to the barycenter; those of weight 0 are left out.
    potentials : tuple of (array, array)
        Their potentials ``f_k`` (n_k,) and ``g_k`` (m,).
    """


class BarycenterState(SinkhornState):
    """State of `barycenter`: as `SinkhornState`, with the potentials of all measures one behind the other."""


class Mixture:
    """What the iterations ask of a barycenter problem: the questions of `optlib.transport.acceleration.Problem`.

    The unknowns are the column potentials of all measures, one behind the other, with ``sum_k w_k g_k = 0``; ``c`` are
    the column sums of the plans times the weights ``w_k``. The objective is ``J = sum_k w_k <a_k, f_k(g_k)>``, and its
    projected gradient ``w_k (b - c_k)`` for any ``b``: that of the iterations is the geometric mean of the ``c_k``.

    Attributes
    ----------
    shares : array, shape (K,)
        The weights of the measures.
    eps, mass : float
        Strength of the regularisation; mass of the measures.
    """

    def __init__(self, shares: Array, eps: float, mass: float) -> None:
        self.shares, self.eps, self.mass = shares, eps, mass
        self._last: Array | None = None  # the column sums of the last question, and the answer
        self._columns: tuple[Array, Array]

    def columns(self, c: Array, xp: Any) -> tuple[Array, Array]:
        """Logarithms of the column sums (K, m), and their geometric mean (m,)."""
        if self._last is not c:
            shares = self.shares[:, None]
            tiny = 1e-300 if xp.finfo(c.dtype).bits == 64 else 1e-37
            floor = xp.asarray(tiny, dtype=c.dtype, device=device_of(c))
            logs = xp.log(xp.maximum(xp.reshape(c, (self.shares.shape[0], -1)) / shares, floor))
            self._last, self._columns = c, (logs, xp.sum(shares * logs, axis=0))
        return self._columns

    def residual(self, g: Array, c: Array, xp: Any) -> Array:
        """``log(b / c_k)``: the iterative Bregman projection."""
        logs, mean = self.columns(c, xp)
        return xp.reshape(mean[None, :] - logs, (-1,))

    def target(self, g: Array, c: Array, xp: Any) -> tuple[Array, Array]:
        """``w_k b``, also as weights of the inner product."""
        target = xp.reshape(self.shares[:, None] * xp.exp(self.columns(c, xp)[1])[None, :], (-1,))
        return target, target

    def translated(self, f: Array, c: Array, r: Array, g: Array, xp: Any) -> tuple[Array, Array, Array, Array]:
        """The marginals of the measures are constraints: nothing."""
        return f, r, g, c

    def gain(self, f: Array, r: Array, g: Array, c: Array, f1: Array, g1: Array, xp: Any) -> tuple[Array, Array]:
        """Increase of ``J / eps``, and its rounding error."""
        unit = 4.0 * float(xp.finfo(f.dtype).eps)
        return xp.sum(r * (f1 - f)) / self.eps, (unit / self.eps) * xp.sum(r * xp.abs(f))

    def answer(self, c: Array, xp: Any) -> Array:
        """The barycenter (m,)."""
        b = xp.exp(self.columns(c, xp)[1])
        return b * (self.mass / xp.sum(b))

    def error(self, r: Array, g: Array, c: Array, xp: Any) -> Array:
        """``sum_k w_k |c_k - b|_1``, relative to the mass."""
        b, shares = self.answer(c, xp), self.shares[:, None]
        return xp.sum(xp.abs(xp.reshape(c, (self.shares.shape[0], -1)) - shares * b[None, :])) / self.mass


@supports(backends=("numpy", "cupy", "torch", "strict"))
def barycenter(
    cost: Any,
    a: Any,
    weights: Any = None,
    *,
    reg: float,
    debiased: bool = False,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 10_000,
    check_every: int = 5,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BarycenterResult:
    r"""Compute the Wasserstein barycenter of measures on a fixed support.

    Find weights ``b`` of the targets that minimise ``sum_k w_k OT(a_k, b)``, where ``OT(a_k, b)`` is the least
    ``<C_k, P> + reg KL(P | a_k u')`` over plans ``P`` with row sums ``a_k`` and column sums ``b``, and ``u`` uniform.

    Parameters
    ----------
    cost : Cost or array, shape (n, m), or sequence of them
        Cost between the points of the measures and the targets: one for all, or one for each. `GridCost` for images.
    a : array (K, n), or sequence of K arrays (n_k,)
        Weights >= 0 of the measures, all of the same mass.
    weights : array or sequence, shape (K,), optional
        Weights ``w_k`` >= 0 of the measures, scaled to sum 1; None means equal ones.
    reg : float
        Strength of the regularisation, in units of the cost. 0 asks for an exact solution by linear programming, for
        small problems.
    debiased : bool
        Whether to minimise ``sum_k w_k S(a_k, b)`` with the Sinkhorn divergence ``S`` instead: no blur by ``reg``, and
        the barycenter of equal measures is that measure. The cost must be symmetric, between the same points.
    init : array (K, m), BarycenterResult or state, optional
        Column potentials to start from, or a result of the same problem to continue.
    tol : float, "auto" or None
        Stop when ``sum_k w_k |c_k - b|_1``, relative to the mass, is at most this, with the column sums ``c_k`` of the
        plans. ``"auto"`` is 1e-6, and 1e-4 for float32; None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BarycenterResult
        ``x`` is the barycenter. The certificate bounds the excess of its objective over the optimum. ``counts`` has the
        passes over the cost of each measure.

    Raises
    ------
    TypeError, ValueError
        For invalid input, see `optlib.transport.solve`; for measures of different mass; and for ``reg=0`` beyond
        200 000 variables.

    See Also
    --------
    optlib.transport.free_support_barycenter : Points that move, instead of weights.
    optlib.transport.bures_wasserstein_barycenter : For Gaussian measures.

    Notes
    -----
    *Method.* The dual maximises ``sum_k w_k <a_k, f_k(g_k)>`` over column potentials with ``sum_k w_k g_k = 0``, where
    ``f_k`` are the row potentials that are optimal for ``g_k``. The iterative Bregman projection is the step
    ``g_k += reg log(b / c_k)`` with the geometric mean ``b`` of the column sums; here it is the preconditioned gradient
    of the quasi-Newton method of `sinkhorn`. All is in the logarithmic domain, so nothing underflows. Below ``reg`` =
    0.002 times the cost range the regularisation is lowered over levels of five iterations.

    The debiased form adds the weights ``d`` with which ``b`` is carried to itself, by ``log d += log(b / K d) / 2``,
    and uses Anderson acceleration, as there is no objective to ascend.

    *Stopping*: by ``tol``. ``success`` asks for more: the duality gap within the tolerance. The gap is that of ``b``
    with the plans rounded to its weights. The certificate of debiased ones is the error of the optimality conditions;
    ``gap`` is the Frank-Wolfe gap ``<G, b> - min G sum b`` of the derivative ``G`` in ``b``, a bound on the excess
    where the kernel is positive definite.

    *Cost*: K passes over a cost an iteration, n m exponentials each; on a grid N (n_1 + n_2 + ...).

    *When not to use it*: with few measures on many scattered points the optimal support is sparse, and
    `free_support_barycenter` finds it; without debiasing the result is blurred by about ``sqrt(reg)``.

    References
    ----------
    J.-D. Benamou, G. Carlier, M. Cuturi, L. Nenna, G. Peyré, Iterative Bregman projections for regularized
    transportation problems, SIAM J. Sci. Comput. 2015. M. Cuturi, G. Peyré, A smoothed dual approach for variational
    Wasserstein problems, SIAM J. Imaging Sci. 2016. H. Janati, M. Cuturi, A. Gramfort, Debiased Sinkhorn barycenters,
    ICML 2020. J. Solomon et al., Convolutional Wasserstein distances, ACM Trans. Graph. 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import GridCost, barycenter
    >>> x = np.linspace(0, 1, 101)
    >>> bumps = np.exp(-((x - np.array([[0.2], [0.6]])) ** 2) / 0.005)
    >>> res = barycenter(GridCost([x]), bumps / bumps.sum(axis=1, keepdims=True), reg=1e-3)
    >>> res.success, round(float(res.x @ x), 4)
    (True, 0.4)
    """
    problems, weights, dtype = _measures(cost, a, weights)
    xp, like = problems[0].xp, problems[0].a
    check.option("debiased", debiased, (True, False))
    if tol == "auto":
        tol = 1e-6 if xp.finfo(dtype).bits == 64 else 1e-4
    elif tol is not None:
        tol = check.scalar("tol", tol, low=0.0)
    exact = isinstance(reg, (int, float)) and not isinstance(reg, bool) and reg == 0
    if exact and debiased:
        raise check.error("reg", reg, "a finite number > 0 for debiased barycenters", "pass debiased=False")
    if exact:
        method, state_class, message = ExactBarycenter(problems, weights, tol, dtype), ExactState, "linear program"
    elif debiased:
        reg = check_reg(reg, *problems)
        levels = levels_to(reg, _spread(problems), *PATH)
        method, state_class = Debiased(problems, weights, levels, tol, dtype), DebiasedState
        message = "debiased Bregman projections, Anderson acceleration"
    else:
        reg = check_reg(reg, *problems)
        levels = levels_to(reg, _spread(problems), *PATH)
        method, state_class = _Barycenter(problems, weights, levels, tol, dtype), BarycenterState
        message = "quasi-Newton iterations on the dual"
    if not exact and len(levels) > 1:
        message += f", reg lowered in {len(levels)} levels"
    start, state = prepare_init(init, state_class)
    if state is None:
        if start is not None:
            fix = "pass the column potentials, one row per measure"
            shape = (len(problems), problems[0].cost.shape[1])
            start = check.array("init", start, xp=xp, shape=shape, dtype=like.dtype, device=device_of(like), fix=fix)
        state = method.first(start)
    elif not method.continues(state):
        raise check.error("init", "a result of another problem", "one of this problem", "pass potentials, or nothing")

    def finish(step: Step) -> dict[str, Any]:
        fields = method.finish(step)

        def narrow(u: Array) -> Array:
            return xp.astype(u, dtype, copy=False)

        return fields | {
            "plans": tuple(plan if plan.dtype == dtype else plan._map_arrays(narrow) for plan in fields["plans"]),
            "potentials": tuple((narrow(f), narrow(g)) for f, g in fields["potentials"]),
        }

    return run(
        method.steps,
        state=state,
        like=like,
        xp=xp,
        method="barycenter",
        finish=finish,
        tol=tol,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=([p.cost for p in problems], [p.a for p in problems], weights, reg, debiased, tol, str(dtype)),
        patience=200,
        result_class=BarycenterResult,
        message=message,
    )


def _measures(cost: Any, a: Any, weights: Any) -> tuple[list[Problem], Array, Any]:
    """Transport problems to uniform targets, in the widest precision of the device, of the measures that count."""
    if not (compat.is_array_api_obj(a) or isinstance(a, (list, tuple))):
        raise check.error("a", type(a).__name__, "an array (K, n) or a sequence of K arrays", kind=TypeError)
    if getattr(a, "shape", None) == ():
        raise check.error("a", "a number", "an array (K, n) or a sequence of K arrays")
    measures = [a[k, ...] for k in range(a.shape[0])] if compat.is_array_api_obj(a) else list(a)
    if not measures:
        raise check.error("a", "no measure", "at least one")
    several = isinstance(cost, (list, tuple)) and any(isinstance(c, Cost) or compat.is_array_api_obj(c) for c in cost)
    costs = list(cost) if several else [DenseCost(cost) if compat.is_array_api_obj(cost) else cost] * len(measures)
    if len(costs) != len(measures):
        raise check.error("cost", f"{len(costs)} costs for {len(measures)} measures", "one for all, or one for each")
    problems = [prepare(c, w) for c, w in zip(costs, measures, strict=True)]
    xp, device, dtype = check.common(**{f"a[{k}]": p.a for k, p in enumerate(problems)}, weights=weights)
    wide = default_float(xp, device)
    if len({p.cost.shape[1] for p in problems}) > 1:
        raise check.error("cost", f"{[p.cost.shape for p in problems]}", "costs to the same targets")
    shares = proportions(weights, len(problems), xp, wide, device)
    mass, tolerance = problems[0].mass[0], MASS_RTOL[str(dtype).rpartition(".")[2]]
    for k, p in enumerate(problems):
        if abs(p.mass[0] - mass) > tolerance * mass:
            raise check.error(
                "a", f"masses {mass:.10g} and {p.mass[0]:.10g} (measure {k})", "equal masses", "scale them"
            )
    same = [p.double() for p in problems]
    scaled = [mass / float(xp.sum(p.a)) for p in same]
    same = [
        p._replace(a=p.a * s, b=p.b * (mass / p.mass[1]), mass=(mass, mass)) for p, s in zip(same, scaled, strict=True)
    ]
    counted = [k for k in range(len(same)) if float(shares[k]) > 0]
    if len(counted) < len(same):
        shares = xp.stack([shares[k] for k in counted])
    return [same[k] for k in counted], shares, dtype


def _spread(problems: list[Problem]) -> float:
    return max(p.range for p in problems)


class _Barycenter(SinkhornMethod):
    """The iterations of `sinkhorn` on the potentials of all measures."""

    level_iterations = LEVEL_ITERATIONS

    def __init__(
        self, problems: list[Problem], shares: Array, levels: list[float], tol: float | None, dtype: Any
    ) -> None:
        self.problems, self.shares, self.levels, self.dtype = problems, shares, levels, dtype
        self.xp, self.compiled, self.curvature, self.inv_rho = problems[0].xp, False, 0.0, (0.0, 0.0)
        size = 8 * sum(p.cost.shape[0] * p.cost.shape[1] for p in problems)
        self.small = has_kernels(self.xp) and size <= STORED_BYTES and all(p.cost.kind != "grid" for p in problems)
        self.stored = self.small  # at the last level; the others are too short
        self.kernel: Any = None  # of the measures; and the potentials in them
        self.method, self.tol, self.asked = "lbfgs", -1.0 if tol is None else tol, tol
        self.mass = problems[0].mass[0]
        self.uniform = problems[0].b / self.mass
        self.rows = self.xp.concat([shares[k] * p.a for k, p in enumerate(problems)])

    def first(self, start: Array | None) -> BarycenterState:
        """The state to start from."""
        g = self.xp.zeros_like(self.uniform[None, :] * self.shares[:, None]) if start is None else start
        if start is not None:
            self.levels = self.levels[-1:]
            g = g - self.xp.sum(self.shares[:, None] * g, axis=0)[None, :]
        empty = 4 * [None]
        f, g = self.xp.zeros_like(self.rows), self.xp.reshape(g, (-1,))
        return BarycenterState(self.levels[-1], 0, 0, len(self.levels), 0, 0, *empty, f, None, g, *empty)

    def continues(self, state: BarycenterState) -> bool:
        """Whether a state is one of this problem."""
        if state.levels == 1:
            self.levels = self.levels[-1:]
        return state.g.shape == (self.shares.shape[0] * self.uniform.shape[0],) and state.reg == self.levels[-1]

    def answer(self, state: SinkhornState) -> Array:
        """The barycenter."""
        return self.xp.astype(self.given(self.levels[state.level]).answer(state.c, self.xp), self.dtype)

    def given(self, eps: float) -> Mixture:
        """The problem at one level."""
        return Mixture(self.shares, eps, self.mass)

    def enter(self, state: BarycenterState, f: Array, g: Array) -> BarycenterState:
        """Start a level from given potentials."""
        self.stored, self.kernel = self.small and state.level == len(self.levels) - 1, None
        return super().enter(state, f, g)

    def absorb(self, state: BarycenterState, f: Array, g: Array) -> tuple[BarycenterState, Array, Array]:
        """Store the kernels of the given potentials; also the marginals of their plans."""
        eps, kernels, alphas, sums = self.levels[state.level], [], [], []
        for k, (p, hint, own) in enumerate(zip(self.problems, self.by_measure(f), self.columns(g), strict=True)):
            kernel, alpha, c, _ = passes.absorb(p.cost, hint, own, p.a, self.uniform, eps, 0.0)
            kernels.append(kernel)
            alphas.append(alpha)
            sums.append(self.shares[k] * c)
        self.kernel = (kernels, self.xp.concat(alphas), g)
        return state._replace(hint=f, beta=g, passes=state.passes + 1), self.xp.concat(sums), self.rows

    def evaluate(self, eps: float) -> Callable[..., tuple[Array, Array, Array]]:
        """The pass over all costs: ``(f, g, omega) -> f, c, r``."""

        def passed(f: Array, g: Array, omega: Any) -> tuple[Array, Array, Array]:
            potentials, columns = [], []
            near = self.kernel is not None and float(self.xp.max(self.xp.abs(g - self.kernel[2]))) <= FAR * eps
            if near:
                kernels, alphas, betas = self.kernel[0], self.by_measure(self.kernel[1]), self.columns(self.kernel[2])
            for k, (p, hint, own) in enumerate(zip(self.problems, self.by_measure(f), self.columns(g), strict=True)):
                if near:
                    potential, c, _ = evaluate_stored(
                        kernels[k], alphas[k], betas[k], p.a, self.uniform, eps, 0.0, hint, own, 1.0, xp=self.xp
                    )
                else:
                    potential, c = passes.sweep(p.cost, own, p.a, self.uniform, eps, f=hint)
                potentials.append(potential)
                columns.append(self.shares[k] * c)
            return self.xp.concat(potentials), self.xp.concat(columns), self.rows

        return passed

    def by_measure(self, f: Array) -> list[Array]:
        """Rows of the measures."""
        ends = accumulate((p.a.shape[0] for p in self.problems), initial=0)
        return [f[i:j] for i, j in pairwise(ends)]

    def columns(self, g: Array) -> list[Array]:
        """Columns of the measures."""
        m = self.uniform.shape[0]
        return [g[k * m : (k + 1) * m] for k in range(len(self.problems))]

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer and its certificate, from the potentials and the data alone."""
        xp, reg, state, shares = self.xp, self.levels[-1], step.state, self.shares
        b = self.given(reg).answer(state.c, xp)
        g = xp.reshape(state.g, (shares.shape[0], -1))
        g = g - xp.sum(shares[:, None] * g, axis=0)[None, :]
        positive = b > 0
        tilt = xp.where(positive, reg * xp.log(self.uniform / xp.where(positive, b, self.uniform)), xp.zeros_like(b))
        found, parts, lower = [], to_numpy(shares).tolist(), 0.0
        for k, p in enumerate(self.problems):
            against = p._replace(
                b=b, mass=(self.mass, self.mass), has_zeros=(p.has_zeros[0], not bool(xp.all(positive)))
            )
            found.append(certify(against, reg, g[k, :] + tilt, tol=self.asked))
            lower += parts[k] * float(xp.sum(p.a * passes.c_transform(p.cost, g[k, :])))

        def mean(values: list[float]) -> float:
            return math.fsum(w * v for w, v in zip(parts, values, strict=True))

        f = [passes.sweep(p.cost, g[k, :], p.a, self.uniform, reg)[0] for k, p in enumerate(self.problems)]
        dual, gap = (
            mean([float(xp.sum(p.a * u)) for p, u in zip(self.problems, f, strict=True)]),
            mean([u["gap"] for u in found]),
        )
        bounds = [u["lp_bounds"] for u in found]
        rounding = 8.0 * float(xp.finfo(b.dtype).eps) * self.mass * max(float(xp.max(xp.abs(u))) for u in (g, *f))
        return {
            "certificate": Certificate(
                kind="duality_gap",
                value=gap + rounding,
                scale=mean([u["certificate"].scale for u in found]),
                tol=self.asked,
                residual=mean([u["certificate"].residual for u in found]),
            ),
            "x": xp.astype(b, self.dtype),
            "fun": dual + gap,
            "value": dual + gap,
            "gap": gap + rounding,
            "value_linear": mean([u["value_linear"] for u in found]),
            "lp_bounds": (lower - rounding, mean([high for _, high in bounds])),
            "plans": tuple(u["plan"] for u in found),
            "potentials": tuple((u, g[k, :]) for k, u in enumerate(f)),
        }
