"""Limited-memory quasi-Newton descent, as used by the estimators: one accepted line search per iteration."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib.backend import Array, array_namespace, device_of
from optlib.steps import wolfe
from optlib.transport.acceleration import lbfgs

MEMORY = 10

Evaluate = Callable[[Array, Any], tuple[Any, Array, Any]]


class Point(NamedTuple):
    """A point of the descent and its memory.

    Attributes
    ----------
    x : array, shape (p,)
        The variables.
    value : float or None
        The function there; None before it was evaluated.
    grad : array, shape (p,)
        Its gradient.
    extra : NamedTuple or None
        What the function wants to be given when it is evaluated nearby (warm starts).
    steps, changes : array, shape (memory, p)
        The last steps and the changes of the gradient that went with them, newest first.
    pairs : int
        Number of valid ones.
    nit, evaluations : int
        Iterations, and evaluations of the function.
    """

    x: Array
    value: float | None
    grad: Array | None
    extra: Any
    steps: Array | None
    changes: Array | None
    pairs: int
    nit: int
    evaluations: int


def at(x: Array, extra: Any = None) -> Point:
    """Return a point to start from; nothing is evaluated yet."""
    return Point(x, None, None, extra, None, None, 0, 0, 0)


def evaluated(evaluate: Evaluate, point: Point) -> Point:
    """Return the point with value, gradient and an empty memory, unless it has them."""
    if point.value is not None:
        return point
    xp, x = array_namespace(point.x), point.x
    value, grad, extra = evaluate(x, point.extra)
    empty = xp.zeros((MEMORY, x.shape[0]), dtype=x.dtype, device=device_of(x))
    return point._replace(
        value=float(value), grad=grad, extra=extra, steps=empty, changes=empty, evaluations=point.evaluations + 1
    )


def advance(evaluate: Evaluate, point: Point) -> tuple[Point, bool]:
    """One iteration: a step along the quasi-Newton direction that satisfies the strong Wolfe conditions.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(x, extra) -> value, gradient, extra``. Every trial of a line search gets the ``extra`` of the point
        that it starts from, so that a run depends on nothing but its state.
    point : Point
        Where to start, evaluated.

    Returns
    -------
    point : Point
        The new point.
    moved : bool
        False if no step decreases the function: it is at its rounding level.
    """
    xp = array_namespace(point.x)
    calls = 0
    for pairs in (point.pairs, 0) if point.pairs else (0,):
        direction = _direction(point, pairs, xp)
        trials: dict[float, tuple[float, Array, Any]] = {}

        def phi(t: float, direction: Array = direction, trials: dict[float, Any] = trials) -> tuple[float, float]:
            value, grad, extra = evaluate(point.x + t * direction, point.extra)
            trials[t] = (float(value), grad, extra)
            return trials[t][0], float(xp.sum(grad * direction))

        slope = float(xp.sum(point.grad * direction))
        # without a memory the direction has no scale: a step of unit length at most
        first = 1.0 if pairs else 1.0 / max(1.0, float(xp.sqrt(xp.sum(direction * direction))))
        found = wolfe(phi, point.value, slope, step=first)
        calls += found.evaluations
        if found.step > 0.0 and (found.success or trials[found.step][0] < point.value):
            value, grad, extra = trials[found.step]
            move, change = found.step * direction, grad - point.grad
            inner = float(xp.sum(move * change))
            steps, changes = point.steps, point.changes
            if inner > 1e-10 * float(xp.sqrt(xp.sum(move * move) * xp.sum(change * change))):
                steps = xp.concat([move[None, :], steps[:-1, :]], axis=0)
                changes = xp.concat([change[None, :], changes[:-1, :]], axis=0)
                pairs = min(pairs + 1, MEMORY)
            x = point.x + move
            return Point(x, value, grad, extra, steps, changes, pairs, point.nit + 1, point.evaluations + calls), True
    return point._replace(evaluations=point.evaluations + calls), False


def _direction(point: Point, pairs: int, xp: Any) -> Array:
    if not pairs:
        return -point.grad
    count = xp.asarray(pairs, dtype=point.x.dtype, device=device_of(point.x))
    return lbfgs(-point.grad, point.steps, point.changes, count, xp.ones_like(point.x), xp)
