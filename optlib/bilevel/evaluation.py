"""Evaluations of the hyper-objective to a tolerance that the method asks for, warm, with the corrected value."""

from typing import Any, NamedTuple

from optlib._core import Certificate
from optlib._core import validation as check
from optlib.backend import Array, array_namespace
from optlib.bilevel.hypergradient import INNER, Call, HyperResult, choose
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import require

FLOOR = 1e-8  # of the relative tolerance of evaluations
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

    def __init__(self, problem: Any, x0: Any, bounds: Any, mode: str, inner: str = "auto") -> None:
        needs = ("inner", "outer", "start", "cross_vjp")
        super().__init__(problem, x0, bounds, needs, "tuning by implicit gradients")
        check.option("mode", mode, ("auto", "own", "cg", "minres", "direct", "neumann", "fixed_point"))
        self.solver = check.option("inner", inner, INNER)
        self.mode = choose(problem, self.y0) if mode == "auto" else mode
        if self.mode == "penalty":
            require(problem, ("hvp",), "tuning by implicit gradients")
        self.scale = self.norm(self.inner(self.start, self.y0)[2])
        self.counts = dict(zip(COUNTS, (0, 1, 0, 0), strict=True))
        self.last: HyperResult | None = None
        self._call: Call | None = None

    def __call__(
        self, x: Array, eta: float, y: Array | None = None, q: Array | None = None, factor: Array | None = None
    ) -> Evaluation:
        """Inner and adjoint system at x to the relative tolerance ``eta``, from ``y``, ``q`` and an old factor of H."""
        call = self._call
        if call is None or call.x is not x:  # else the same point again, more accurately
            call = self._call = Call(self.problem, x, self.xp, eta, eta, scale=self.scale, inner=self.solver)
        call.tol, call.adjoint_tol, call.factor = eta, eta, factor
        call.counts = dict.fromkeys(call.counts, 0)
        found = call.implicit(self.y0 if y is None else y, q, self.mode)
        self.add(found.counts)
        self.last = found
        return Evaluation(
            x, found.value, found.gradient, found.correction, found.y, found.q, eta, found.factor,
            found.residual[0] / (self.scale or 1.0),
        )  # fmt: skip

    def add(self, counts: dict[str, int]) -> None:
        """Count an evaluation and its calls of the oracles."""
        self.counts["evaluations"] += 1
        for name, n in counts.items():
            self.counts[name] = self.counts.get(name, 0) + n

    def seen(self) -> dict[str, int]:
        """The counts, as fields of a state."""
        return {name: self.counts[name] for name in COUNTS}

    def residual(self, x: Array, y: Array) -> float:
        """Size of ``grad_y f`` at an answer, in units of that at the default start: large if the inner solve failed."""
        return self.norm(self.problem.inner(x, y)[2]) / (self.scale or 1.0)

    def found(self, state: Any, tol: float | None) -> dict[str, Any]:
        """Fields of the result of a descent, with the certificate of stationarity in the box."""
        xp = self.xp
        value = float(xp.max(xp.abs(self.projected(state.x, state.gradient))))
        certificate = Certificate(
            "stationarity", value, scale=abs(state.value) or 1.0, tol=tol, proof=False,
            residual=self.residual(state.x, state.y), note=f"evaluations to a relative tolerance of {state.eta:.0e}",
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": state.value, "y": state.y, "hypergradient": state.gradient,
            "error_bound": None if self.last is None else self.last.error_bound,
            "at_bounds": self.at_bounds(state.x, state.gradient),
        }  # fmt: skip


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
