"""Evaluations of the hyper-objective to a tolerance that the method asks for, warm, with the corrected value."""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Status
from optlib._core import validation as check
from optlib.backend import Array, array_namespace
from optlib.bilevel.call import INNER, NOT_CONVEX, Call, HyperResult, choose, fitting
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import add_counts, halt, point, require, vdot
from optlib.inner.newton import factor_solve
from optlib.linop import cg

FLOOR = 1e-12  # of the relative tolerance of evaluations
STARTS = ("warm", "cold")
PROBES = 30  # products that look for a direction without curvature
COUNTS = ("evaluations", "gradients", "products", "outer")


class Evaluation(NamedTuple):
    """What is known at one x: value, gradient, correction of the value, inner solution, adjoint, accuracy.

    ``eta`` is the relative tolerance that was asked for, ``residual`` the relative size of ``grad_y f`` found.
    """

    x: Array
    value: float
    gradient: Array
    correction: float
    y: Array
    q: Array
    eta: float
    factor: Array | None
    residual: float


class Evaluator(Oracles):
    """Calls the implicit hypergradient of a problem, keeps its counts and the scale of its tolerances."""

    def __init__(
        self, problem: Any, x0: Any, bounds: Any, mode: str, inner: str = "auto", start: str = "warm",
        refit: bool = False,
    ) -> None:  # fmt: skip
        needs = ("inner", "outer", "start", "cross_vjp")
        super().__init__(problem, x0, bounds, needs, "tuning by implicit gradients")
        check.option("mode", mode, ("auto", "active_set", "cg", "minres", "gmres", "direct", "neumann", "fixed_point"))
        self.solver = check.option("inner", inner, INNER)
        self.cold = check.option("start", start, STARTS) == "cold"
        self.refit = check.option("refit", refit, (True, False))
        self.mode = choose(problem, self.y0) if mode == "auto" else mode
        if self.mode == "penalty":
            require(problem, ("hvp",), "tuning by implicit gradients")
        fitting(problem, self.mode)
        self.floor = max(FLOOR, 10.0 * float(self.xp.finfo(self.y0.dtype).eps))
        self.scale = self.norm(self.inner(self.start, self.y0)[2])
        self.counts = dict(zip(COUNTS, (0, 1, 0, 0), strict=True))
        self.last: HyperResult | None = None
        self._call: Call | None = None
        self.refused, self.remark = False, ""

    def __call__(
        self, x: Array, eta: float, y: Array | None = None, q: Array | None = None, factor: Array | None = None
    ) -> Evaluation:
        """Inner and adjoint system at x to the relative tolerance ``eta``, from ``y``, ``q`` and an old factor of H.

        A cold evaluator forgets these three.
        """
        if self.cold:
            y = q = factor = None
        call = self._call
        if call is None or call.x is not x:  # else the same point again, more accurately
            call = self._call = Call(self.problem, x, self.xp, eta, eta, scale=self.scale, inner=self.solver)
        call.tol, call.adjoint_tol, call.factor = eta, eta, factor
        call.counts = dict.fromkeys(call.counts, 0)
        found = call.implicit(self.y0 if y is None else y, q, self.mode)
        self.add(found.counts)
        self.last = found
        self.remark = found.message or self.remark
        self.refused = found.message.startswith(NOT_CONVEX)
        refuse(found.message, x, found.y)
        return Evaluation(
            x, found.value, found.gradient, found.correction, found.y, found.q, eta, found.factor,
            found.residual[0] / (self.scale or 1.0),
        )  # fmt: skip

    def measure(
        self, x: Array, eta: float, allowed: Callable[[Evaluation], float], least: float, *warm: Array | None
    ) -> Evaluation:
        """Evaluate with rising accuracy until the correction of the value is at most what is ``allowed``."""
        found = self(x, eta, *warm)
        while found.eta > least and found.correction > (most := max(allowed(found), 0.0)):
            reached = min(found.eta, found.residual) * 0.5 * most / found.correction
            before = found
            found = self(x, min(max(reached, least), 0.1 * found.eta), found.y, found.q, found.factor)
            if found.residual >= before.residual > 0.0 and found.eta < found.residual:
                break  # the inner solver has reached the rounding level
        return found

    def add(self, counts: dict[str, int]) -> None:
        """Count an evaluation and its calls of the oracles."""
        self.counts["evaluations"] += 1
        add_counts(self.counts, counts)

    def seen(self) -> dict[str, int]:
        """The counts, as fields of a state."""
        return {name: self.counts[name] for name in COUNTS}

    def residual(self, x: Array, y: Array) -> float:
        """Size of ``grad_y f`` at an answer, in units of that at the default start: large if the inner solve failed.

        And the relative residual of the last adjoint system, if it has no solution.
        """
        left = self.norm(self.problem.inner(x, y)[2]) / (self.scale or 1.0)
        if self.last is None or not self.last.message:
            return left
        return max(left, self.last.residual[1] / (self.norm(self.problem.outer(x, y)[2]) or 1.0))

    def noted(self, note: str) -> str:
        """A note for the certificate, with what was seen of the inner problem anywhere."""
        return f"{note}; seen {self.remark}" if self.remark else note

    def found(self, state: Any, tol: float | None) -> dict[str, Any]:
        """Fields of the result of a descent, with the certificate of stationarity in the box."""
        xp = self.xp
        value = float(xp.max(xp.abs(self.projected(state.x, state.gradient))))
        certificate = Certificate(
            "stationarity", value, scale=abs(state.value) or 1.0, tol=tol, proof=False,
            residual=self.residual(state.x, state.y),
            note=self.noted(f"evaluations to a relative tolerance of {state.eta:.0e}"),
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": state.value, "y": state.y, "hypergradient": state.gradient,
            "error_bound": None if self.last is None else self.last.error_bound,
            "at_bounds": self.at_bounds(state.x, state.gradient),
            **self.ending(state),
        }  # fmt: skip

    def ending(self, state: Any) -> dict[str, Any]:
        """Fields of the result about its inner solution: that of a cold solve at x, if asked for; a warning."""
        if not self.cold and not self.refused and self.flat(state):
            warnings.warn(
                "the inner problem has a direction without curvature along which the loss changes: its solution is not "
                'unique, and the one found depends on the path; take `start="cold"`, compare with `refit=True`, or add '
                "a penalty",
                stacklevel=2,
            )
        if not self.refit:
            return {"refit_fun": None, "refit_y": None}
        y, _ = Call(self.problem, state.x, self.xp, FLOOR, FLOOR, scale=self.scale).solve(self.y0)
        return {"refit_fun": float(self.problem.outer(state.x, y)[0]), "refit_y": y}

    def flat(self, state: Any) -> bool:
        """Whether H has a direction without curvature along which F changes.

        Seen on an approximate solution of ``H z = probe``: where H is singular, conjugate gradients run off along its
        kernel. Nothing to do where the problem knows a positive lower bound of its curvature.
        """
        mu = getattr(self.problem, "mu", None)
        if self.mode not in ("cg", "direct") or (mu is not None and (mu(state.x) or 0.0) > 0.0):
            return False
        xp, shape, products = self.xp, state.y.shape, point(self.problem, state.x, state.y)
        size, product = math.prod(shape), products.hvp
        probe = xp.cos(xp.arange(size, dtype=state.y.dtype, device=state.y.device))
        slope = xp.reshape(self.problem.outer(state.x, state.y)[2], (-1,))
        if products.active is not None:
            active = xp.reshape(products.active, (-1,))
            probe, slope = (xp.where(active, u, xp.zeros_like(u)) for u in (probe, slope))
        options: dict[str, Any] = {}
        if state.factor is not None and state.factor.ndim == 2:
            options = {"preconditioner": lambda v: factor_solve(state.factor, v, xp=xp)}

        def hvp(v: Array) -> Array:
            return xp.reshape(product(xp.reshape(v, shape)), (-1,))

        with np.errstate(over="ignore", invalid="ignore"):  # along the kernel
            found = cg(hvp, probe, tol=1e-3, maxiter=PROBES, check_every=1, record=False, **options)
        z = found.x / (self.norm(found.x) or 1.0)  # along a kernel it may be huge
        if abs(float(vdot(z, slope, xp=xp))) <= 1e-3 * self.norm(z) * self.norm(slope):
            return False
        along, across = (float(vdot(u, hvp(u), xp=xp)) / float(vdot(u, u, xp=xp)) for u in (z, probe))
        least = 100.0 * float(xp.finfo(z.dtype).eps) * across
        q = xp.reshape(state.q, (-1,))
        if self.norm(hvp(q) - slope) <= 0.1 * self.norm(slope) and least * self.norm(q) <= 0.1 * self.norm(slope):
            return False  # an adjoint of moderate size: the loss does not change along the kernel
        return found.status is Status.BREAKDOWN or along <= least


def inner_solution(problem: Any, x: Array, y: Array | None = None, *, tol: float = 1e-8) -> tuple[Array, bool]:
    """The inner solution at x, from ``y``, to a gradient of ``tol`` times that at the default start.

    Parameters
    ----------
    problem : object
        See `Problem`.
    x : array
        Hyperparameters.
    y : array, optional
        Where to begin; by default ``problem.start()``.
    tol : float
        Relative tolerance.

    Returns
    -------
    y : array
        The solution.
    solved : bool
        Whether the tolerance was reached.
    """
    start = problem.start()[1] if y is None else y
    return Call(problem, x, array_namespace(x, start), tol, tol).solve(start)


def refuse(message: str, x: Array, y: Array) -> None:
    """End the run where the inner problem was seen not to be convex.

    Where it has many minimisers the run goes on: cold starts have a use there, and the result says so.
    """
    if message.startswith(NOT_CONVEX):
        raise halt(message, "one that is strongly convex, for implicit gradients", Status.BREAKDOWN, x, y)
