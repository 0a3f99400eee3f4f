"""sl-BAMM: one loop on the optimality conditions of an averaged inner problem, which need not be strongly convex."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports
from optlib.bilevel.bda import SOLVED
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import require, vdot
from optlib.bilevel.result import BilevelResult

POWERS = {"s1": (2, 7), "s2": (1, 5), "s3": (0, 3)}  # of mu_k in the steps of the adjoint and of the hyperparameters
SHORT = 0.1  # default step, in units of the inverse of the largest curvature


class BammState(NamedTuple):
    """State of `bamm`: hyperparameters, inner solution, adjoint, the largest residuals so far, and counts."""

    x: Array
    y: Array
    v: Array
    top_y: Array
    top_v: Array
    top_x: Array
    nit: int
    gradients: int
    products: int
    outer: int


class Residuals(NamedTuple):
    """The three parts of the optimality conditions at a point, the product with H, and the value of F."""

    y: Array
    v: Array
    x: Array
    hvp: Callable[[Array], Array]
    value: Array


@supports(backends=("numpy", "cupy", "torch", "strict"))
def bamm(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    average: float = 0.9,
    power: float = 10.0,
    schedule: str = "s3",
    adjoint: str = "schedule",
    step: float | None = None,
    outer_step: float | None = None,
    decay: float = 0.025,
    init: Any = None,
    tol: float | None = 1e-5,
    maxiter: int = 10_000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Solve ``min F`` subject to ``grad_y phi = 0`` in one loop, with the average ``phi = mu_k F + (1 - mu_k) f``.

    With f merely convex and F strongly convex in y, phi is strongly convex. Inner variable, adjoint and hyperparameters
    move together, each from the old point::

        y+ = y - beta grad_y phi,    v+ = v - eta_k (grad_yy phi v - grad_y F),
        x+ = Proj(x - alpha_k (grad_x F - grad_xy phi v))

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer`` and products of both: ``hvp``, ``cross_vjp``, ``hvp_outer``, ``cross_outer``.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    average, power : float
        ``mu_k = average (k + 1)^(-1 / power)``, with ``average`` in [0, 1). With ``average`` 0 only products of f are
        needed, and f must be strongly convex.
    schedule : {"s1", "s2", "s3"}
        Powers of ``mu_k`` in the steps: ``eta_k = step mu_k^a (k + 1)^(-decay / 2)`` and
        ``alpha_k = outer_step mu_k^b (k + 1)^(-3 decay / 2)`` with ``(a, b)`` = (2, 7), (1, 5) or (0, 3). Without
        averaging ``eta_k = step / 2 (k + 1)^(-decay / 2)`` and ``alpha_k = outer_step (k + 1)^-decay``.
    adjoint : {"schedule", "exact"}
        Steps of the adjoint: the schedule, or the exact minimiser along the residual, for two products more.
    step, outer_step : float, optional
        ``beta``, and the unit of the steps of x; by default a tenth of the inverse of the larger one of ``lipschitz``
        and ``lipschitz_outer`` at the start, and `step`.
    decay : float
        See `schedule`.
    init : BilevelResult or BammState, optional
        A result to continue.
    tol : float or None
        Stop when the norms of the three residuals are this small, each in units of its largest value so far; None
        runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``mu`` is the last ``mu_k``: the answer is that of the problem averaged with it. ``residuals`` holds the norms
        of ``grad_y phi``, ``grad_yy phi v - grad_y F`` and the projected gradient; ``inner_norm`` that of ``grad_y f``
        in units of that at the start. ``certificate`` of kind ``"stationarity"``: the largest relative residual; no
        success while more than a tenth of the inner gradient is left.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    ``mu_k`` decays very slowly: 0.36 after 10 000 iterations. Where the two objectives pull y apart, the answer is
    still that of a mixture then, and is reported as no success.

    Stopping: see ``tol``.

    Cost of an iteration: one gradient of f and of F, and one product and cross product of each. Nothing is transferred
    to the host between checks.

    Where not to use it: for strongly convex f, where `tune` takes a hundredth of the iterations; where the scales of x
    and y differ much and `outer_step` is not known.

    References
    ----------
    R. Liu, Y. Liu, W. Yao, S. Zeng, J. Zhang, Averaged method of multipliers for bi-level optimization without
    lower-level strong convexity, ICML 2023, algorithm 1. The names of the schedules are those of the authors' library.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import CounterexampleProblem, bamm
    >>> res = bamm(CounterexampleProblem(np.ones(3)))
    >>> res.success, res.x.round(3)
    (True, array([1., 1., 1.]))
    """
    average = check.scalar("average", average, low=0.0, high=1.0, high_open=True)
    power = check.scalar("power", power, low=0.0, low_open=True)
    decay = check.scalar("decay", decay, low=0.0)
    powers = POWERS[check.option("schedule", schedule, tuple(POWERS))]
    check.option("adjoint", adjoint, ("schedule", "exact"))
    needs = ("inner", "outer", "start", "hvp", "cross_vjp", *(("hvp_outer", "cross_outer") if average else ()))
    oracles = Oracles(problem, x0, bounds, needs, "bamm")
    xp = oracles.xp
    if step is None:
        curvatures = ("lipschitz", "lipschitz_outer") if average else ("lipschitz",)
        require(problem, curvatures, "bamm without `step`")
        step = SHORT / max(getattr(problem, name)(oracles.start) for name in curvatures)
    beta = check.scalar("step", step, low=0.0, low_open=True)
    pace = beta if outer_step is None else check.scalar("outer_step", outer_step, low=0.0, low_open=True)
    state = prepare_resume(init, BammState, "pass a start as `x0`")
    if state is None:
        zero = xp.zeros_like(oracles.y0)
        state = BammState(oracles.start, oracles.y0, zero, *3 * (xp.sum(zero),), 0, 0, 0, 0)

    def weight(k: int) -> float:
        """The weight ``mu_k`` of F."""
        return average * (k + 1) ** (-1.0 / power)

    def residuals(s: BammState) -> Residuals:
        """The optimality conditions of the averaged problem."""
        mu = weight(s.nit)
        _, _, inner_y = oracles.inner(s.x, s.y)
        value, outer_x, outer_y = oracles.outer(s.x, s.y)
        inner = oracles.at(s.x, s.y)
        if not mu:
            return Residuals(inner_y, inner.hvp(s.v) - outer_y, outer_x - inner.cross_vjp(s.v), inner.hvp, value)
        outer = oracles.outer_at(s.x, s.y)

        def hvp(u: Array) -> Array:
            return mu * outer.hvp(u) + (1.0 - mu) * inner.hvp(u)

        cross = mu * outer.cross_vjp(s.v) + (1.0 - mu) * inner.cross_vjp(s.v)
        return Residuals(mu * outer_y + (1.0 - mu) * inner_y, hvp(s.v) - outer_y, outer_x - cross, hvp, value)

    def paces(k: int) -> tuple[float, float]:
        """The steps ``eta_k`` and ``alpha_k``."""
        mu, t = weight(k), (k + 1) ** -decay
        if not mu:
            return 0.5 * beta * t**0.5, pace * t
        return beta * mu ** powers[0] * t**0.5, pace * mu ** powers[1] * t**1.5

    def norms(s: BammState, r: Residuals) -> list[Array]:
        """Norms of the residuals; for x that of the projected gradient."""
        return [linalg.norm(u, xp=xp) for u in (r.y, r.v, oracles.projected(s.x, r.x))]

    def iterations(s: BammState) -> Steps:
        oracles.restore(s)
        while True:
            r = residuals(s)
            sizes = norms(s, r)
            tops = [xp.maximum(n, top) for n, top in zip(sizes, (s.top_y, s.top_v, s.top_x), strict=True)]
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda sizes=sizes, tops=tops: relative(sizes, tops, xp),
                metrics={"fun": lambda r=r: r.value}, counts=oracles.seen(),
            )  # fmt: skip
            eta, alpha = paces(s.nit)
            if adjoint == "exact":
                square, bend = vdot(r.v, r.v, xp=xp), vdot(r.v, r.hvp(r.v), xp=xp)
                eta = xp.where(bend > 1e-12 * square, square / xp.where(bend > 0.0, bend, xp.ones_like(bend)), eta)
            s = BammState(
                oracles.project(s.x - alpha * r.x), s.y - beta * r.y, s.v - eta * r.v, *tops, s.nit + 1,
                **oracles.seen(),
            )  # fmt: skip

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        r = residuals(s)
        sizes = norms(s, r)
        tops = [xp.maximum(n, top) for n, top in zip(sizes, (s.top_y, s.top_v, s.top_x), strict=True)]
        left, first = (oracles.norm(problem.inner(x, y)[2]) for x, y in ((s.x, s.y), (oracles.start, oracles.y0)))
        left = left / first if first else left
        mu = weight(s.nit)
        certificate = Certificate(
            "stationarity", float(relative(sizes, tops, xp)), tol=tol, proof=False,
            residual=left if left > SOLVED else 0.0,
            note=f"of the problem averaged with mu = {mu:.2g}; {left:.1e} of the inner gradient is left",
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": float(r.value), "y": s.y, "hypergradient": r.x, "error_bound": None,
            "at_bounds": oracles.at_bounds(s.x, r.x), "mu": mu, "residuals": tuple(float(n) for n in sizes),
            "inner_norm": left,
        }  # fmt: skip

    return run(
        iterations, state=state, like=oracles.start, xp=xp, method="bamm", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(oracles, average, power, schedule, adjoint, beta, pace, decay),
        result_class=BilevelResult, message=f"weights {average:g} k^-1/{power:g}, steps {schedule!r}",
    )  # fmt: skip


def relative(sizes: list[Array], tops: list[Array], xp: Any) -> Array:
    """The largest residual, each in units of its largest value so far."""
    return xp.max(
        xp.stack([n / xp.where(top > 0.0, top, xp.ones_like(top)) for n, top in zip(sizes, tops, strict=True)])
    )
