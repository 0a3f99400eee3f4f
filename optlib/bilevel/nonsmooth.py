"""Several penalties with kinks: gradient steps with backtracking, and hulls of gradients where a kink stops them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls

from optlib._core import Certificate, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, supports, to_numpy
from optlib.bilevel.evaluation import Evaluation, Evaluator
from optlib.bilevel.problem import vdot
from optlib.bilevel.quasi_newton import direction
from optlib.bilevel.result import BilevelResult
from optlib.inner.lbfgs import remember

ACCURATE = 1e-6  # relative tolerance of evaluations: supports must be right
MEMORY = 12  # gradients kept
FIRST, LONGEST = 0.5, 2.0  # steps, in the largest norm
ARMIJO = 1e-2
TRIALS = 4  # halvings of a step before it counts as stopped by a kink
RADIUS, CLOSEST = 0.3, 1e-3  # within which gradients count as those of one point: first, and last
CLOSER = 0.1
SKEW = 1e-3  # smallest cosine of the angle between a quasi-Newton direction and the steepest one


class NonsmoothState(NamedTuple):
    """State of `nonsmooth`: the evaluation, points with their gradients (newest first), pairs of steps, lengths."""

    x: Array
    value: float
    gradient: Array | None
    y: Array
    q: Array | None
    points: Array | None
    gradients: Array | None
    steps: Array | None
    changes: Array | None
    radius: float
    length: float
    size: float
    nit: int
    evaluations: int
    inner: int
    products: int
    outer: int


@supports(backends=("numpy", "torch", "strict"))
def nonsmooth(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    mode: str = "auto",
    init: Any = None,
    tol: float | None = 3e-3,
    maxiter: int = 200,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Tune several hyperparameters whose loss has kinks, such as the penalties of an elastic net or weighted lasso.

    Parameters
    ----------
    problem : object
        With the oracles of an implicit `hypergradient`.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    mode : str
        How the adjoint is solved, see `hypergradient`.
    init : BilevelResult or NonsmoothState, optional
        A result to continue.
    tol : float or None
        Stop when some convex combination of gradients at points within 0.001 has no entry above ``tol |Phi|``; None
        runs ``maxiter`` steps.
    maxiter : int
        Largest number of steps.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``certificate`` of kind ``"stationarity"``: the largest entry of that combination, relative to ``|Phi|``; at a
        kink the gradient itself need not be small. ``radius`` is the distance within which gradients were combined.
        Its residual is that of the inner problem.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    The direction is that of L-BFGS for the shortest vector in the convex hull of the known gradients at points within a
    radius: the gradient itself where there is no other. A step is halved until the loss falls by a hundredth of what
    the direction predicts. Where some halvings do not do, there is a kink in between: the gradient beyond it joins the
    hull, whose shortest vector leads along the kink, and the pairs of L-BFGS are forgotten. When that vector is short,
    the radius falls tenfold.

    Stopping: see ``tol``.

    Cost: an inner and an adjoint solve a trial, accurate to 1e-6, warm. Memory: 64 arrays of the size of x.

    Where not to use it: for smooth problems, where `quasi_newton` needs fewer and cheaper evaluations; for one penalty,
    where `piecewise` is exact.

    References
    ----------
    J. V. Burke, F. E. Curtis, A. S. Lewis, M. L. Overton, L. E. A. Simoes, Gradient sampling methods for nonsmooth
    optimization, 2020 (the hull; here of gradients that steps came by, none sampled). P. Wolfe, A method of conjugate
    subgradients for minimizing nondifferentiable functions, 1975. Q. Bertrand et al., Implicit differentiation for fast
    hyperparameter selection in non-smooth convex learning, JMLR 2022.

    Examples
    --------
    >>> from optlib.bilevel import ElasticNetProblem, nonsmooth
    >>> problem = ElasticNetProblem.random(40, 20, rng=1)
    >>> res = nonsmooth(problem)
    >>> res.success
    True
    """
    evaluator = Evaluator(problem, x0, bounds, mode)
    xp = evaluator.xp
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    state = prepare_resume(init, NonsmoothState, "pass a start as `x0`")
    if state is None:
        state = NonsmoothState(
            evaluator.start, 0.0, None, evaluator.y0, None, None, None, None, None, RADIUS, FIRST, 0.0, 0, 0, 1, 0, 0
        )

    def seen() -> dict[str, int]:
        counts = evaluator.seen()
        return {"inner": counts.pop("gradients"), **counts}

    def loaded(s: NonsmoothState, found: Evaluation, **more: Any) -> NonsmoothState:
        return s._replace(x=found.x, value=found.value, gradient=found.gradient, y=found.y, q=found.q, **more)

    def kept(s: NonsmoothState, x: Array, gradient: Array) -> NonsmoothState:
        """Remember a gradient, and forget the oldest."""
        if s.points is None:
            return s._replace(points=x[None, ...], gradients=gradient[None, ...])
        count = min(s.points.shape[0], MEMORY - 1)
        return s._replace(
            points=xp.concat([x[None, ...], s.points[:count, ...]], axis=0),
            gradients=xp.concat([gradient[None, ...], s.gradients[:count, ...]], axis=0),
        )

    def shortest(s: NonsmoothState, radius: float) -> Array:
        """The shortest vector in the hull of the gradients near x, without the parts held at edges of the box."""
        near = [
            k for k in range(s.points.shape[0])
            if float(xp.max(xp.abs(s.points[k, ...] - s.x))) <= radius
        ]  # fmt: skip
        rows = [evaluator.projected(s.x, s.gradient)]
        rows += [evaluator.projected(s.x, s.gradients[k, ...]) for k in near]
        stack = xp.reshape(xp.stack(rows), (len(rows), -1))
        weights = hull(to_numpy(stack @ xp.matrix_transpose(stack)).astype(np.float64))
        return evaluator.projected(s.x, sum(float(w) * u for w, u in zip(weights, rows, strict=True)))

    def steps(s: NonsmoothState) -> Steps:
        evaluator.counts |= {"gradients": s.inner, **{k: getattr(s, k) for k in ("evaluations", "products", "outer")}}
        if s.gradient is None:
            s = loaded(s, evaluator(s.x, ACCURATE, s.y))
            s = kept(s, s.x, s.gradient)
            s = s._replace(size=float(xp.max(xp.abs(evaluator.projected(s.x, s.gradient)))))
        while True:
            unit = abs(s.value) or 1.0
            done = s.size <= goal * unit and s.radius <= CLOSEST
            s = s._replace(**seen())
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=s.size / unit: v, metrics={"fun": lambda v=s.value: v},
                status=Status.CONVERGED if done and tol is not None else None, counts=evaluator.seen(),
            )  # fmt: skip
            s = advance(s)._replace(nit=s.nit + 1)

    def advance(s: NonsmoothState) -> NonsmoothState:
        """A step along the shortest vector, a gradient more, or a smaller radius."""
        g = shortest(s, s.radius)
        top = float(xp.max(xp.abs(g)))
        if top <= goal * abs(s.value) or top == 0.0:
            return s._replace(radius=max(CLOSER * s.radius, CLOSEST), size=top if s.radius <= CLOSEST else s.size)
        d = direction(s, g, ~evaluator.outward(s.x, s.gradient), xp)
        slope, longest = float(vdot(d, g, xp=xp)), float(xp.max(xp.abs(d)))
        if s.steps is None or not slope < -SKEW * evaluator.norm(d) * evaluator.norm(g):
            d, longest = -g / top, 1.0
            slope = float(vdot(d, g, xp=xp))
            t = s.length
        else:
            t = min(1.0, LONGEST / longest)
        for _ in range(TRIALS):
            x = evaluator.project(s.x + t * d)
            found = evaluator(x, ACCURATE, s.y, s.q)
            if found.value <= s.value + ARMIJO * t * slope:
                steps, changes = remember(s.steps, s.changes, x - s.x, found.gradient - s.gradient, MEMORY, xp=xp)
                length = min(2.0 * t * longest, LONGEST)
                s = kept(loaded(s, found, length=length, steps=steps, changes=changes), x, found.gradient)
                return s._replace(size=float(xp.max(xp.abs(evaluator.projected(s.x, s.gradient)))))
            s = kept(s, x, found.gradient)
            if t * longest <= CLOSER * CLOSEST:
                break
            t *= 0.5
        return s._replace(size=top, length=max(t * longest, CLOSER * CLOSEST), steps=None, changes=None)

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        certificate = Certificate(
            "stationarity", s.size, scale=abs(s.value) or 1.0, tol=tol, proof=False,
            residual=evaluator.residual(s.x, s.y), note=f"gradients within {s.radius:.0e} combined",
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": s.value, "y": s.y, "hypergradient": s.gradient, "error_bound": None,
            "at_bounds": evaluator.at_bounds(s.x, s.gradient), "radius": s.radius,
        }  # fmt: skip

    return run(
        steps, state=state, like=evaluator.start, xp=xp, method="nonsmooth", finish=finish, tol=None, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(evaluator, evaluator.mode, tol), result_class=BilevelResult,
        message=f"gradient steps and hulls of gradients, adjoint by {evaluator.mode!r}",
    )  # fmt: skip


def hull(gram: np.ndarray) -> np.ndarray:
    """Weights >= 0 of sum 1 of the shortest convex combination of vectors, from their inner products."""
    scale = float(np.max(np.diag(gram)))
    if scale == 0.0:
        return np.eye(gram.shape[0])[0]
    values, vectors = np.linalg.eigh(gram / scale)
    rows = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    weight = 1e3
    found = nnls(np.vstack([rows, np.full((1, gram.shape[0]), weight)]), np.append(np.zeros(gram.shape[0]), weight))[0]
    return found / np.sum(found)
