"""Self-tuning networks: the inner solution is learned as a function of the hyperparameters, along with these."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Status, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, array_namespace, asarray_like, linalg, supports, to_numpy
from optlib.backend.special import expit
from optlib.bilevel.call import Call
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import require
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.single_loop import seed

MOMENTUM = 0.9  # of the training steps
ADAM = (0.9, 0.99, 1e-8)  # of the validation steps
SCALES = (1e-3, 3.0)  # smallest and largest scale of the perturbations
SOLVED, PATIENCE = 1e-6, 50  # relative tolerance of the inner problem at the end; hundreds of its iterations


class SelfTuningState(NamedTuple):
    """State of `self_tuning`: x, scales, response with velocity, moments of both steps, estimates, and counts."""

    x: Array
    scale: Array
    y: Array
    slope: Array
    velocity_y: Array
    velocity_slope: Array
    mean: Array
    square: Array
    gradient: Array
    trained: float
    value: float
    seed: int
    nit: int
    gradients: int
    products: int
    outer: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def self_tuning(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    scale: float = 0.1,
    entropy: float | None = None,
    samples: int = 8,
    train_steps: int = 2,
    valid_steps: int = 1,
    warmup: int = 100,
    step: float = 0.03,
    train_step: float | None = None,
    rng: Any = None,
    init: Any = None,
    tol: float | None = 1e-3,
    maxiter: int = 2000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Tune hyperparameters by a response ``y(x + e) = y + sum_j slope_j e_j / scale_j`` that is trained beside them.

    Training steps make the response right on average near x: they minimise ``E f(x + e, y(x + e))`` over y and the
    slopes, with normal perturbations e. Validation steps minimise ``F(x, y(x))``: the slope gives the derivative.

    Parameters
    ----------
    problem : object
        With gradients only: ``inner``, ``outer``, ``start``, and ``lipschitz`` (or `train_step`). The inner problem
        need not be convex, see `ShallowNetProblem`.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``. Perturbed hyperparameters stay in it.
    scale : float
        Standard deviation of the perturbations, between 1e-3 and 3. Large ones make a straight response wrong: the
        bias of x is of the order of its square.
    entropy : float, optional
        With a weight, the scales are tuned too: validation steps minimise ``E F(x + e, y(x + e))`` minus this weight
        times the entropy ``sum_j log scale_j``.
    samples : int
        Perturbations of a step, even: they come in pairs of opposite signs.
    train_steps, valid_steps : int
        Steps of each kind in an iteration.
    warmup : int
        First iterations, of training steps only.
    step : float
        Step of the validation steps (Adam), about the largest change of a hyperparameter.
    train_step : float, optional
        Step of the training steps; by default from ``lipschitz``.
    rng : seed or Generator, optional
        Of the perturbations.
    init : BilevelResult or SelfTuningState, optional
        A result to continue.
    tol : float or None
        Stop when no entry of the projected estimate of the gradient exceeds ``tol |F|``, and the last training step had
        a gradient of at most ``tol`` in units of that at the start; None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``y`` and ``fun`` are those of an inner solve at x, begun from the response; ``hypergradient`` is the estimate
        by the response, ``slope`` (p, and the shape of y) its derivative times ``scale``.
        ``certificate`` of kind ``"stationarity"``: the largest entry of the projected estimate, a heuristic.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    Training steps are gradient steps with momentum 0.9. Their length is one over the largest ``lipschitz`` at the
    perturbed points, times the largest eigenvalue of the second moments of ``(1, e / scale)``. When x moves the
    response stays the same function: y moves along the slopes. No derivative of f in x is used, nor any of second
    order.

    Stopping: see ``tol``. With scales of 0.3 and more the noise of the training steps rarely lets it happen.

    Cost of an iteration: ``train_steps samples`` gradients of f and ``valid_steps`` of F (times ``samples`` with
    tuned scales). Memory: p + 1 times that of y, twice.

    Where not to use it: with second-order products, where `tune` takes a hundredth of the time.

    References
    ----------
    M. MacKay, P. Vicol, J. Lorraine, D. Duvenaud, R. Grosse, Self-tuning networks: bilevel optimization of
    hyperparameters using structured best-response functions, ICLR 2019, algorithm 1. Its networks are linear in the
    perturbations layer by layer; here all of y is, with slopes of its own.

    Examples
    --------
    >>> from optlib.bilevel import RidgeProblem, scalar, self_tuning
    >>> problem = RidgeProblem.random(60, 8, rng=1, penalty="scalar")
    >>> found, exact = self_tuning(problem, rng=0), scalar(problem)
    >>> bool(found.fun <= 1.001 * exact.fun)
    True
    """
    scale = check.scalar("scale", scale, low=SCALES[0], high=SCALES[1])
    weight = None if entropy is None else check.scalar("entropy", entropy, low=0.0)
    half = check.scalar("samples", samples, low=2, integer=True) // 2
    counts = [
        check.scalar(n, v, low=low, integer=True)
        for n, v, low in (("train_steps", train_steps, 1), ("valid_steps", valid_steps, 1), ("warmup", warmup, 0))
    ]
    step = check.scalar("step", step, low=0.0, low_open=True)
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    if train_step is not None:
        train_step = check.scalar("train_step", train_step, low=0.0, low_open=True)
    needs = ("inner", "outer", "start", *(() if train_step else ("lipschitz",)))
    oracles = Oracles(problem, x0, bounds, needs, "self_tuning")
    if not getattr(problem, "symmetric", True):
        raise check.error("problem", "an inner problem without an objective", "a minimisation", 'use mode="gmres"')
    xp, p = oracles.xp, oracles.size
    x, y = oracles.start, oracles.y0
    state = prepare_resume(init, SelfTuningState, "pass a start as `x0`")
    if state is None:
        slope = xp.zeros((p, *y.shape), dtype=y.dtype, device=x.device)
        zero = xp.zeros_like(x)
        state = SelfTuningState(
            x, zero + scale, y, slope, xp.zeros_like(y), slope, zero, zero, zero, 1.0,
            float(problem.outer(x, y)[0]), seed(rng), 0, 0, 0, 0,
        )  # fmt: skip
    first = oracles.norm(problem.inner(x, y)[2]) or 1.0

    def along(units: Array, slope: Array) -> Array:
        """``sum_j units_j slope_j``."""
        flat = xp.reshape(units, (-1,)) @ xp.reshape(slope, (p, -1))
        return xp.reshape(flat, y.shape)

    def against(slope: Array, g: Array) -> Array:
        """``<slope_j, g>``, of the shape of x."""
        return xp.reshape(xp.reshape(slope, (p, -1)) @ xp.reshape(g, (-1,)), x.shape)

    def perturbed(s: SelfTuningState, z: np.ndarray) -> tuple[Array, Array, Array]:
        """Perturbed hyperparameters, their perturbation in units of the scales, and the response there."""
        at = oracles.project(s.x + s.scale * asarray_like(z, x))
        units = (at - s.x) / s.scale
        return at, units, s.y + along(units, s.slope)

    def draws(s: SelfTuningState, number: int) -> np.ndarray:
        """Normal numbers, in pairs of opposite signs."""
        z = np.random.default_rng([s.seed, s.nit, number]).normal(size=(half, *x.shape))
        return np.concatenate([z, -z])

    def train(s: SelfTuningState, number: int) -> SelfTuningState:
        """A gradient step on y and the slopes."""
        z = draws(s, number)
        mean, slope, most = xp.zeros_like(s.y), xp.zeros_like(s.slope), 0.0
        for one in z:
            at, units, response = perturbed(s, one)
            g = oracles.inner(at, response)[2] / len(z)
            mean, slope = mean + g, slope + _outer(xp.reshape(units, (-1,)), g, xp)
            most = max(most, 1.0 / train_step if train_step else problem.lipschitz(at))
        flat = z.reshape(len(z), -1)
        spread = max(1.0, float(np.linalg.norm(flat, 2)) ** 2 / len(z))
        length = 1.0 / (most * spread)
        velocity = MOMENTUM * s.velocity_y - length * mean, MOMENTUM * s.velocity_slope - length * slope
        trained = max(oracles.norm(mean), oracles.norm(slope)) / first
        return s._replace(
            y=s.y + velocity[0], slope=s.slope + velocity[1], velocity_y=velocity[0], velocity_slope=velocity[1],
            trained=trained,
        )  # fmt: skip

    def validate(s: SelfTuningState, number: int, steps: int) -> SelfTuningState:
        """A step of Adam on x; with tuned scales, one of gradient descent on their logarithms."""
        s = estimate(s)
        gradient = oracles.projected(s.x, s.gradient)
        b1, b2, eps = ADAM
        mean, square = b1 * s.mean + (1.0 - b1) * gradient, b2 * s.square + (1.0 - b2) * gradient * gradient
        ahead = mean / (1.0 - b1**steps), xp.sqrt(square / (1.0 - b2**steps))
        moved = oracles.project(s.x - step * ahead[0] / (ahead[1] + eps * (1.0 + abs(s.value))))
        if weight is not None:
            s = widen(s, number)
        change = moved - s.x
        return s._replace(x=moved, y=s.y + along(change / s.scale, s.slope), mean=mean, square=square)

    def estimate(s: SelfTuningState) -> SelfTuningState:
        """Value and gradient of ``F(x, y(x))`` by the response."""
        value, grad_x, grad_y = oracles.outer(s.x, s.y)
        return s._replace(value=float(value), gradient=grad_x + against(s.slope, grad_y) / s.scale)

    def widen(s: SelfTuningState, number: int) -> SelfTuningState:
        """A step on the scales: the derivative of ``E F`` minus the entropy in their logarithms."""
        z, slope = draws(s, number), xp.zeros_like(s.x)
        for one in z:
            at, units, response = perturbed(s, one)
            _, grad_x, grad_y = oracles.outer(at, response)
            slope = slope + units * (s.scale * grad_x + against(s.slope, grad_y)) / len(z)
        slope = slope - weight
        factor = xp.exp(-step * slope / (xp.abs(slope) + weight + eps_of(s)))
        low, high = (xp.full_like(s.scale, v) for v in SCALES)
        wide = xp.minimum(xp.maximum(s.scale * factor, low), high)
        ratio = xp.reshape(wide / s.scale, (p, *(1,) * y.ndim))
        return s._replace(scale=wide, slope=ratio * s.slope, velocity_slope=ratio * s.velocity_slope)

    def eps_of(s: SelfTuningState) -> float:
        return float(xp.finfo(x.dtype).eps) * (1.0 + abs(s.value))

    def iterations(s: SelfTuningState) -> Steps:
        oracles.restore(s)
        trains, valids, warm = counts
        while True:
            top = float(xp.max(xp.abs(oracles.projected(s.x, s.gradient)))) / (abs(s.value) or 1.0)
            stop = max(top, s.trained) if s.nit > warm else 1.0
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda v=stop: v, metrics={"fun": lambda v=s.value: v},
                counts=oracles.seen(),
                status=Status.CONVERGED if stop <= goal and tol is not None else None,
            )  # fmt: skip
            for k in range(trains):
                s = train(s, k)
            if s.nit >= warm:
                for k in range(valids):
                    s = validate(s, trains + k, (s.nit - warm) * valids + k + 1)
            else:
                s = estimate(s)
            s = s._replace(nit=s.nit + 1, **oracles.seen())

    def finish(step: Step) -> dict[str, Any]:
        s = estimate(step.state)
        solved, _ = Call(problem, s.x, xp, SOLVED, SOLVED, scale=first, maxiter=PATIENCE).solve(s.y)
        fun = float(problem.outer(s.x, solved)[0])
        top = float(xp.max(xp.abs(oracles.projected(s.x, s.gradient))))
        certificate = Certificate(
            "stationarity", top, scale=abs(fun) or 1.0, tol=tol, proof=False,
            residual=oracles.norm(problem.inner(s.x, solved)[2]) / first, note="by a learned response",
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": fun, "y": solved, "hypergradient": s.gradient, "error_bound": None,
            "at_bounds": oracles.at_bounds(s.x, s.gradient), "slope": s.slope, "scale": s.scale,
        }  # fmt: skip

    return run(
        iterations, state=state, like=x, xp=xp, method="self_tuning", finish=finish, tol=None, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(oracles, x, scale, weight, half, counts, step, train_step, tol),
        result_class=BilevelResult, message=f"response trained on {2 * half} perturbations a step",
    )  # fmt: skip


def _outer(units: Array, g: Array, xp: Any) -> Array:
    """Outer product (p, and the shape of g)."""
    return xp.reshape(units, (-1, *(1,) * g.ndim)) * g[None, ...]


class BestResponse(NamedTuple):
    """The exact answer of ridge regression to a log penalty x: gates ``s(c - x)`` on singular directions.

    Attributes
    ----------
    V : array, shape (d, k)
        Right singular vectors.
    weights : array, shape (k,)
        Solution without penalty, in their coordinates.
    centres : array, shape (k,)
        Logarithms c of the squared singular values.
    """

    V: Array
    weights: Array
    centres: Array

    def __call__(self, x: Array) -> Array:
        """The ridge solution at x, shape (1,)."""
        return self.V @ (self._gates(x) * self.weights)

    def derivative(self, x: Array) -> Array:
        """Its derivative in x."""
        gates = self._gates(x)
        return -(self.V @ (gates * (1.0 - gates) * self.weights))

    def _gates(self, x: Array) -> Array:
        return expit(self.centres - x, xp=array_namespace(x))


def ridge_best_response(problem: Any) -> BestResponse:
    r"""Return the exact best response of ridge regression with one penalty: a linear network whose units are gated.

    With the singular values d of the design ``U d V'``, ``y(x) = V (s(log d^2 - x) * (U't / d))``, s the sigmoid.

    Parameters
    ----------
    problem : object
        With ``regression() -> A, t``, such as `RidgeProblem` with ``penalty="scalar"``.

    Returns
    -------
    BestResponse
        A function of x, with its ``derivative``.

    Raises
    ------
    TypeError
        If the problem has no ``regression``.

    Notes
    -----
    Directions with singular values below the rounding of the largest are left out. Cost: a singular value
    decomposition; then a product with V each.

    References
    ----------
    M. MacKay et al., Self-tuning networks, ICLR 2019, theorem 2.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import RidgeProblem, hypergradient, ridge_best_response
    >>> problem, x = RidgeProblem.random(10, 3, rng=0, penalty="scalar"), np.zeros(1)
    >>> bool(np.allclose(ridge_best_response(problem)(x), hypergradient(problem, x).y))
    True
    """
    require(problem, ("regression",), "ridge_best_response")
    A, t = problem.regression()
    xp = problem.xp
    U, sizes, V = linalg.svd(A, xp=xp)
    host = to_numpy(sizes)
    k = int(np.sum(host > host[0] * max(A.shape) * float(xp.finfo(A.dtype).eps))) if host.size else 0
    sizes = sizes[:k]
    return BestResponse(V[:k, :].T, (U[:, :k].T @ t) / sizes, 2.0 * xp.log(sizes))
