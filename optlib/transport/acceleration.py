"""Accelerated Sinkhorn iterations: what happens to the column potentials between two passes over the cost.

A pass at ``g`` gives the row potentials ``f`` that are optimal for it and the column sums ``c`` of their plan, hence
the *residual* ``l = lam log(b / c)``, with ``g + eps l`` the plain Sinkhorn step, and the derivative ``b - c`` of the
semi-dual objective ``J(g) = max_f D(f, g)``, which is concave. Four ways to go on:

- *plain*: ``g += eps l``.
- *overrelaxation* (Thibault et al.; Lehmann et al.): both half-steps go ``omega`` times as far. ``omega`` starts at 1
  and follows ``2 / (1 + sqrt(1 - theta))``; the contraction ``theta`` of the plain sweep is read off the observed ratio
  of errors through the relation of successive over-relaxation, until two estimates agree. If the error grows tenfold,
  ``omega`` returns to 1.
- *anderson* (type II, memory 5): the step whose residual, extrapolated from the last ones, is least.
- *lbfgs*: the quasi-Newton method of limited memory (10), with the residual in the place of the gradient (nonlinear
  preconditioning, De Sterck and Howse) and the inner product weighted by ``b``, in which the plain step is the
  gradient step of a Hessian close to the identity. The logarithm tames columns of tiny weight and far starts.

The last two keep to ``J``: a step that does not increase it enough is cut to a quarter, three times at most; then the
memory is cleared and a plain step follows, which always increases ``J``. Every trial is one pass and one iteration.
If a marginal is penalised, each pass ends with the best translation of the potentials (Sejourne et al.).

References
----------
A. Thibault, L. Chizat, C. Dossal, N. Papadakis, Overrelaxed Sinkhorn-Knopp algorithm for regularized optimal
transport, 2017. T. Lehmann, M.-K. von Renesse, A. Sambale, A. Uschmajew, A note on overrelaxation in the Sinkhorn
algorithm, 2021. H. De Sterck, A. Howse, Nonlinearly preconditioned L-BFGS as an acceleration mechanism for
alternating least squares, 2018. T. Sejourne, F.-X. Vialard, G. Peyre, Faster unbalanced optimal transport:
translation invariant Sinkhorn, 2022.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from optlib.backend import Array, device_of, kernel, linalg
from optlib.transport.passes import _sweep

MEMORY = {"plain": 1, "overrelaxation": 1, "anderson": 5, "lbfgs": 10}
PERIOD = 10  # iterations between two changes of omega
AGREE, GROWTH, SETTLED = 0.1, 10.0, -1e6  # relative to 2 - omega; of errors that is no oscillation; age that never ends
ARMIJO = 1e-4

Evaluate = Callable[[Array, Array, Any], tuple[Array, Array, Array]]


class Point(NamedTuple):
    """Potentials, marginals of their plan, and the memory of the acceleration.

    Attributes
    ----------
    f, r : array, shape (n,)
        Row potentials and row sums.
    g, c : array, shape (m,)
        Column potentials and column sums.
    steps, changes : array, shape (memory, m)
        The last accepted steps of ``g / eps`` and the decreases of the residual that went with them, newest first.
    info : array, shape (7,)
        Error; number of valid pairs; length of the next trial step, failed trials so far; omega, iterations since it
        changed, the error half-way.
    """

    f: Array
    r: Array
    g: Array
    c: Array
    steps: Array
    changes: Array
    info: Array


class Problem(NamedTuple):
    """What the iterations ask of a transport problem; barycenters answer the same questions.

    Attributes
    ----------
    a, b : array
        Positive weights.
    eps : float
        Strength of the regularisation.
    inv_rho : (float, float)
        Inverse strengths of the penalties (0: constraint).
    """

    a: Array
    b: Array
    eps: float
    inv_rho: tuple[float, float]

    def residual(self, g: Array, c: Array, xp: Any) -> Array:
        """``lam log(b exp(-g / rho) / c)``, bounded where the plan has underflowed."""
        tiny = 1e-300 if xp.finfo(c.dtype).bits == 64 else 1e-37
        weight = xp.log(self.b) - self.inv_rho[1] * g
        floor = xp.asarray(tiny, dtype=c.dtype, device=device_of(c))
        return (weight - xp.log(xp.maximum(c, floor))) / (1.0 + self.eps * self.inv_rho[1])

    def target(self, g: Array, c: Array, xp: Any) -> tuple[Array, Array]:
        """The column sums that the potentials ask for, and the weights of the inner product."""
        target = self.b * xp.exp(-self.inv_rho[1] * g) if self.inv_rho[1] else self.b
        return target, (1.0 + self.eps * self.inv_rho[1]) * target

    def translated(self, f: Array, c: Array, r: Array, g: Array, xp: Any) -> tuple[Array, Array, Array, Array]:
        """``f, r, g, c`` after the best translation of the potentials (none if both marginals are constraints)."""
        eps, (p, q) = self.eps, self.inv_rho
        if not (p or q):
            return f, r, g, c
        lam = 1.0 / (1.0 + eps * p)
        mass, target = xp.sum(r), xp.sum(self.target(g, c, xp)[0])
        there = (mass > 0.0) & (target > 0.0)  # else underflow: the iterations bring the potentials back
        h = xp.log(xp.where(there, mass / target, xp.ones_like(mass))) / (q + p * lam)
        factor = xp.exp(-p * lam * h)
        return f + lam * h, factor * r, g - h, factor * c

    def gain(self, f: Array, r: Array, g: Array, c: Array, f1: Array, g1: Array, xp: Any) -> tuple[Array, Array]:
        """Increase of ``J / eps``, as a sum of differences, and its rounding error."""
        _, _, eps, (p, q) = self
        target, _ = self.target(g, c, xp)
        rows = xp.sum(r * (f1 - f)) if not p else -(1.0 / p + eps) * xp.sum(r * xp.expm1(-p * (f1 - f)))
        columns = xp.sum(target * (g1 - g)) if not q else -xp.sum(target * xp.expm1(-q * (g1 - g))) / q
        unit = 4.0 * float(xp.finfo(g.dtype).eps)
        return (rows + columns) / eps, (unit / eps) * (xp.sum(r * xp.abs(f)) + xp.sum(target * xp.abs(g)))

    def error(self, r: Array, g: Array, c: Array, xp: Any) -> Array:
        """Relative l1 error of the marginals; with penalties the largest residual, the distance to the fixed point."""
        a, b, _, (p, q) = self
        if p or q:
            return xp.max(xp.abs(self.residual(g, c, xp)))
        return (xp.sum(xp.abs(c - b)) + xp.sum(xp.abs(r - a))) / xp.sum(b)


@kernel(numba="optlib.transport._sinkhorn_numba:iterate", match="iterate")
def iterate(
    stored: Array | None, alpha: Array, beta: Array, cost: Array | None, x: Array | None, y: Array | None, scale: float,
    a: Array, b: Array, eps: float, inv_rho: tuple[float, float], method: str, todo: int, tol: float,
    f: Array, r: Array, g: Array, c: Array, steps: Array, changes: Array, info: Array, *, xp: Any,
) -> tuple[Array, ...]:  # fmt: skip
    """Run ``todo`` iterations, each one pass over the cost.

    Parameters
    ----------
    stored : array, shape (n, m), or None
        Kernel ``exp((alpha_i + beta_j - C_ij) / eps)``; ``cost``, ``x``, ``y`` are None then.
    alpha, beta : array, shapes (n,) and (m,)
        The potentials in the kernel.
    cost, x, y, scale
        The entries of the cost as in `optlib.transport.passes`.
    a, b, eps, inv_rho
        The fields of `Problem`.
    method : {"plain", "overrelaxation", "lbfgs"}
        The acceleration (Anderson's runs in portable code only).
    todo : int
        Iterations to run.
    tol : float
        The compiled variant stops early: as soon as the error is at most this, or when ``g`` has moved so far from
        ``beta`` that it must be absorbed into the stored kernel.
    f, r, g, c, steps, changes, info
        The fields of the `Point` to start from.

    Returns
    -------
    tuple
        The fields of the new point, and the number of iterations done.
    """
    if stored is not None:
        evaluate = partial(evaluate_stored, stored, alpha, beta, a, b, eps, inv_rho[0], xp=xp)
    else:

        def evaluate(f: Array, g: Array, omega: Any) -> tuple[Array, Array, Array]:
            return _sweep(cost, x, y, scale, f, g, a, b, eps, inv_rho[0], omega, xp=xp)

    point = run(evaluate, Point(f, r, g, c, steps, changes, info), Problem(a, b, eps, inv_rho), method, todo, xp=xp)
    return (*point, todo)


def start(f: Array, c: Array, r: Array, g: Array, problem: Problem, method: str, *, xp: Any) -> Point:
    """The point at ``g``, from what a pass found there."""
    f, r, g, c = problem.translated(f, c, r, g, xp)
    memory = xp.zeros((MEMORY[method], g.shape[0]), dtype=g.dtype, device=device_of(g))
    zero, one = (xp.asarray(v, dtype=g.dtype, device=device_of(g)) for v in (0.0, 1.0))
    error = problem.error(r, g, c, xp)
    return Point(f, r, g, c, memory, memory, xp.stack([error, zero, one, zero, one, zero, error]))


def run(evaluate: Evaluate, point: Point, problem: Problem, method: str, todo: int, *, xp: Any) -> Point:
    """The reference of `iterate` for a plan that is evaluated by any function ``(f, g, omega) -> f, c, r``."""
    for _ in range(todo):
        point = _iteration(evaluate, point, problem, method, xp)
    return point


def _iteration(evaluate: Evaluate, point: Point, problem: Problem, method: str, xp: Any) -> Point:
    f, r, g, c, steps, changes, info = point
    eps = problem.eps
    pairs, step, failures, omega, age, mark = (info[k] for k in range(1, 7))
    zero, one = xp.zeros_like(step), xp.ones_like(step)
    residual = problem.residual(g, c, xp)
    target, metric = problem.target(g, c, xp)

    if method in ("plain", "overrelaxation"):
        relax = 1.0 if method == "plain" else omega
        trial = g + (eps * relax) * residual
        f, r, g, c = problem.translated(*evaluate(f, trial, relax), trial, xp)
        error = problem.error(r, g, c, xp)
        if method == "overrelaxation":
            omega, age, mark = _adapt(omega, age + 1.0, mark, error, xp)
        return Point(f, r, g, c, steps, changes, xp.stack([error, pairs, step, failures, omega, age, mark]))

    direction = _DIRECTIONS[method](residual, steps, changes, pairs, metric, xp)
    slope = xp.sum((target - c) * direction)
    plain = ~(slope > 0) | (pairs == 0)
    direction = xp.where(plain, residual, direction)
    slope = xp.where(plain, xp.sum((target - c) * residual), slope)
    pairs, step = xp.where(plain, zero, pairs), xp.where(plain, one, step)

    trial = g + (eps * step) * direction
    f1, r1, g1, c1 = problem.translated(*evaluate(f, trial, 1.0), trial, xp)
    gain, noise = problem.gain(f, r, g, c, f1, g1, xp)
    accept = plain | (gain >= ARMIJO * step * slope - noise)

    move, change = (g1 - g) / eps, residual - problem.residual(g1, c1, xp)
    inner, sizes = xp.sum(metric * move * change), xp.sum(metric * move * move) * xp.sum(metric * change * change)
    keep = accept & (inner > 1e-10 * xp.sqrt(sizes))
    steps = xp.where(keep, xp.concat([move[None, :], steps[:-1, :]], axis=0), steps)
    changes = xp.where(keep, xp.concat([change[None, :], changes[:-1, :]], axis=0), changes)
    most = one * steps.shape[0]
    pairs = xp.where(keep, xp.minimum(pairs + 1.0, most), xp.where(accept, xp.minimum(pairs, most - 1.0), pairs))

    failures = xp.where(accept, zero, failures + 1.0)
    pairs = xp.where(failures >= 3.0, zero, pairs)
    step = xp.where(accept | (failures >= 3.0), one, 0.25 * step)
    failures = xp.where(failures >= 3.0, zero, failures)
    f, r, g, c = (xp.where(accept, u, v) for u, v in ((f1, f), (r1, r), (g1, g), (c1, c)))
    error = problem.error(r, g, c, xp)
    return Point(f, r, g, c, steps, changes, xp.stack([error, pairs, step, failures, omega, age, mark]))


# -- directions --


def anderson(residual: Array, steps: Array, changes: Array, pairs: Array, metric: Array, xp: Any) -> Array:
    """``residual`` minus the combination of past pairs that makes the extrapolated residual least."""
    valid = _valid(steps, pairs, xp)
    changes = xp.where(valid[:, None], changes, xp.zeros_like(changes))
    gram = (changes * metric[None, :]) @ changes.T
    eye = xp.eye(gram.shape[0], dtype=gram.dtype, device=device_of(gram))
    trace = xp.sum(gram * eye)
    gram = gram + eye * xp.where(valid, 1e-10 * trace, xp.ones_like(trace))[:, None]
    weights = linalg.solve(gram, changes @ (metric * residual), xp=xp, check=False)
    return residual + weights @ (xp.where(valid[:, None], steps, xp.zeros_like(steps)) - changes)


def lbfgs(residual: Array, steps: Array, changes: Array, pairs: Array, metric: Array, xp: Any) -> Array:
    """The inverse Hessian estimate times the residual, in the compact form of Byrd, Nocedal and Schnabel."""
    s, y, weighted = steps, changes, (changes * metric[None, :]).T
    valid = xp.astype(_valid(steps, pairs, xp), s.dtype)  # pairs that are not are left out of the small matrices
    sy, yy = valid[:, None] * (s @ weighted) * valid[None, :], valid[:, None] * (y @ weighted) * valid[None, :]
    eye = xp.eye(sy.shape[0], dtype=sy.dtype, device=device_of(sy))
    diagonal = xp.sum(sy * eye, axis=1) + (1.0 - valid)
    ordered = xp.tril(sy, k=-1) + eye * diagonal[:, None]  # newest first: steps with the changes of later ones
    gamma = sy[0, 0] / xp.where(yy[0, 0] > 0, yy[0, 0], xp.ones_like(yy[0, 0]))
    r = metric * residual
    p = linalg.solve_triangular(ordered, valid * (s @ r), lower=True, xp=xp)
    inner = diagonal * p + gamma * (yy @ p - valid * (y @ r))
    w = linalg.solve_triangular(ordered, inner, lower=True, trans=True, xp=xp)
    return gamma * residual + w @ s - gamma * (p @ y)


_DIRECTIONS = {"anderson": anderson, "lbfgs": lbfgs}


def _valid(steps: Array, pairs: Array, xp: Any) -> Array:
    return xp.arange(steps.shape[0], dtype=steps.dtype, device=device_of(steps)) < pairs


def _adapt(omega: Array, age: Array, mark: Array, error: Array, xp: Any) -> tuple[Array, Array, Array]:
    """Set omega from the ratio of errors over the last half of a period, until two estimates agree.

    From then on errors oscillate about their trend and say nothing more; ``age`` counts from far below 0. Growth over
    half a period is an oscillation too, unless it is large: then omega starts again from 1.
    """
    mark = xp.where(age == PERIOD // 2, error, mark)
    ratio = xp.clip((error / mark) ** (2.0 / PERIOD), 1e-6, 1.0)
    theta = xp.clip((ratio + omega - 1.0) ** 2 / (ratio * omega * omega), 0.0, 0.9999)
    # below omega - 1 the errors only rotate: omega is past its optimum, and the ratio says nothing about theta
    known = ratio > omega - 1.0 + 1e-3
    best = xp.where((ratio < 1.0) & known, 2.0 / (1.0 + xp.sqrt(1.0 - theta)), omega)
    due, grown = age >= PERIOD, error > GROWTH * mark
    settled = due & (omega > 1.0) & (xp.abs(best - omega) <= AGREE * (2.0 - omega))
    age = xp.where(grown, xp.zeros_like(age), xp.where(settled, SETTLED * xp.ones_like(age), age))
    omega = xp.where(grown, xp.ones_like(omega), xp.where(due, best, omega))
    return omega, xp.where(due & ~settled, xp.zeros_like(age), age), mark


@kernel(numba="optlib.transport._sinkhorn_numba:evaluate_stored", match="sum")
def evaluate_stored(
    stored: Array, alpha: Array, beta: Array, a: Array, b: Array, eps: float, inv_rho: float,
    f: Array, g: Array, omega: Any, *, xp: Any,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The scaling form of `relaxed_sweep`: two products with the stored kernel."""
    lam = 1.0 / (1.0 + eps * inv_rho)
    v = b * xp.exp((g - beta) / eps)
    s = stored @ v
    lse = xp.log(s) - alpha / eps
    r = a * xp.exp((1.0 - omega) * (f / eps) + (1.0 - omega * lam) * lse)
    return (1.0 - omega) * f - (omega * lam * eps) * lse, v * ((r / s) @ stored), r
