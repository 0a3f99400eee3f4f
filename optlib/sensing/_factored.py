"""What the methods on factors ``X = F G'`` share: start, loop, divergence, certificate."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Status, Step, Steps, prepare_init, run
from optlib.backend import Array, linalg, random
from optlib.linop.base import _empty
from optlib.sensing._lowrank import Point, top_singular, truncate
from optlib.sensing._problem import Problem, conclude, starting_point
from optlib.sensing.result import LowRankMatrix, SensingResult
from optlib.sensing.spectral import spectral_point

DIVERGED = 1e3  # relative residual
NEGLIGIBLE = {64: 1e-6, 32: 1e-3}  # singular values below this part of the largest do not count for the rank


class FactorState(NamedTuple):
    """State of the methods on factors.

    Attributes
    ----------
    F, G : array
        The factors; the same in the semidefinite case.
    phase : int
        Where the method is, if it has phases.
    nit : int
        Iterations.
    memory : array or None
        Numbers that a step rule remembers.
    """

    F: Array
    G: Array
    phase: int
    nit: int
    memory: Array | None = None


Update = Callable[[FactorState, Array, Array, Array], FactorState]


def largest_singular(problem: Problem) -> float:
    """Estimate of the largest singular value of the answer: that of ``A*(y)``."""
    _, s, _ = top_singular(problem.A, problem.y, 1, psd=problem.psd)
    return abs(float(s[0])) / problem.A.isotropy or 1.0


def random_start(problem: Problem, rank: int, alpha: float, ratio: float, rng: Any) -> tuple[Array, Array]:
    """Gaussian factors of size ``alpha`` and ``alpha ratio`` (the same one in the semidefinite case)."""
    rng, (n1, n2) = random.as_generator(rng), problem.A.matrix_shape
    F = alpha * n1**-0.5 * random.normal(rng, (n1, rank), like=_empty(problem.A))
    return F, F if problem.psd else alpha * ratio * n2**-0.5 * random.normal(rng, (n2, rank), like=F)


def spectral_start(problem: Problem, rank: int) -> tuple[Array, Array]:
    """Balanced factors of the spectral start."""
    return spectral_point(problem, rank).factors


def symmetric(problem: Problem, grad_F: Array, grad_G: Array) -> tuple[Array, Array]:
    """Gradients per unit of isotropy; in the semidefinite case that of ``|A(XX') - y|^2 / 4``, twice."""
    c = 1.0 / problem.A.isotropy
    if problem.psd:
        half = (0.5 * c) * (grad_F + grad_G)
        return half, half
    return c * grad_F, c * grad_G


def to_point(problem: Problem, F: Array, G: Array) -> Point:
    """The product of the factors, without negligible singular values."""
    xp = problem.xp
    Q1, R1 = linalg.qr(F, xp=xp)
    Q2, R2 = (Q1, R1) if problem.psd else linalg.qr(G, xp=xp)
    core = R1 @ R2.T
    point = truncate(Q1, core, Q2, core.shape[0], problem.psd, xp)
    kept = int(xp.sum(xp.astype(point.s > NEGLIGIBLE[problem.bits] * point.s[0], xp.int64)))
    return Point(point.U[:, : max(kept, 1)], point.s[: max(kept, 1)], point.V[:, : max(kept, 1)])


def finish_factored(problem: Problem, F: Array, G: Array) -> dict[str, Any]:
    """Certificate and fields at factors, which are kept as they are."""
    fields = conclude(problem, to_point(problem, F, G), residual=problem.residual(F, G))
    return {**fields, "factors": (F, G), "matrix": LowRankMatrix(F, G)}


def run_factored(
    name: str,
    problem: Problem,
    rank: int,
    init: Any,
    start: Callable[[], tuple[Array, Array]],
    update: Update,
    *,
    passes: int = 2,
    identity: Any = None,
    stop: Callable[[Array], Array] | None = None,
    finish: Callable[[Problem, Array, Array], dict[str, Any]] = finish_factored,
    **options: Any,
) -> SensingResult:
    """Run a method that updates factors from the residual and both derivatives."""
    xp, measure = problem.xp, problem.relative if stop is None else stop
    given, state = prepare_init(init, FactorState)
    if state is None:
        F, G = start() if given is None else starting_point(problem, given, rank)
        state = FactorState(F, F if problem.psd else G, 0, 0)

    def steps(state: FactorState) -> Steps:
        while True:
            F, G = state.F, state.G
            residual, grad_F, grad_G = problem.A._gradient(F, G, problem.y)

            def distance() -> float:
                value = float(measure(residual))
                if value > DIVERGED and problem.tol is not None:
                    step.status = Status.BREAKDOWN
                return value

            step = Step((F, G), state.nit, state, stop=distance, counts={"passes": passes * state.nit + 2})
            yield step
            state = update(state, residual, *symmetric(problem, grad_F, grad_G))._replace(nit=state.nit + 1)

    return run(
        steps,
        state=state,
        like=problem.y,
        xp=xp,
        method=name,
        finish=lambda step: finish(problem, step.state.F, step.state.G),
        tol=problem.target,
        problem=(problem.A, problem.y, problem.psd, rank, identity),
        result_class=SensingResult,
        **options,
    )
