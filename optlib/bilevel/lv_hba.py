"""LV-HBA: inner problems with constraints that depend on the hyperparameters, by first-order oracles alone."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, linalg, supports
from optlib.bilevel.bamm import relative
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import Constraints
from optlib.bilevel.result import BilevelResult
from optlib.geometry import project_intersection

RANK = 1e3  # units of rounding of the largest singular value below which a constraint depends on others
NEAR = 1e-8  # relative distance from the edge of the box that counts as none
LIMIT = 1e3  # box of the multipliers' proximal centres, for constraints of unit norm


class LvHbaState(NamedTuple):
    """State of `lv_hba`: the pair (x, y), the saddle point (theta, lam), its centre z, largest residuals, and counts.

    The multipliers are those of the normalised constraints.
    """

    x: Array
    y: Array
    z: Array
    theta: Array
    lam: Array
    top_step: Array
    top_gap: Array
    nit: int
    gradients: int
    products: int
    outer: int


class Move(NamedTuple):
    """What an iteration computes: the new saddle point and pair, the size of the step, the gap ``f - v``, F."""

    theta: Array
    lam: Array
    x: Array
    y: Array
    size: Array
    gap: Array
    value: Array


class Normalised:
    """The constraints with gradients of unit norm at the start, or below, and the projection onto all sets.

    Equalities are also made orthogonal: with the rows G of their gradients they are multiplied by ``(G G')^-1/2``. If
    the matrix of all gradients has a norm above 1, it is divided by that.
    """

    def __init__(self, oracles: Oracles, bounds: Any) -> None:
        self.problem, self.xp, self._box = oracles.problem, oracles.xp, None if bounds is None else oracles.project
        xp, problem = self.xp, self.problem
        self.x, self.y = self.project(oracles.start, oracles.y0)
        here = problem.constraints(self.x, self.y)
        m = here.value.shape[0]
        eye = xp.eye(m, dtype=self.y.dtype, device=self.y.device)
        of_y = xp.stack([xp.reshape(here.vjp_y(eye[i, :]), (-1,)) for i in range(m)])
        of_x = xp.stack([xp.reshape(here.vjp_x(eye[i, :]), (-1,)) for i in range(m)])
        rows = xp.concat([of_x, of_y], axis=1)
        sizes = linalg.norm(rows, axis=1, xp=xp)
        if not bool(xp.all(sizes > 0.0)):
            raise check.error("problem", "a constraint with the gradient 0 at the start", "gradients that are not 0")
        self.equal = xp.asarray(getattr(problem, "equality", False), device=self.y.device) & (sizes > 0.0)
        self.low = xp.where(self.equal, -LIMIT * xp.ones_like(sizes), xp.zeros_like(sizes))
        self._scale, self._turn = 1.0 / sizes, None
        if bool(xp.any(self.equal)):
            u, values, _ = linalg.svd(xp.where(self.equal[:, None], rows, xp.zeros_like(rows)), xp=xp)
            keep = values > RANK * float(xp.finfo(rows.dtype).eps) * xp.max(values)
            inverse = xp.where(keep, 1.0 / xp.where(keep, values, xp.ones_like(values)), xp.zeros_like(values))
            self._turn = (u * inverse) @ u.T
            self._scale = xp.where(self.equal, xp.zeros_like(sizes), self._scale)
        norm = self._norm(self._turned(rows))
        if norm > 1.0:
            self._scale = self._scale / norm
            self._turn = None if self._turn is None else self._turn / norm
        of_y = self._turned(of_y)
        self.norm = self._norm(of_y)
        gradient = xp.reshape(problem.inner(self.x, self.y)[2], (-1, 1))
        lam = -linalg.lstsq(of_y.T, gradient, xp=xp)[:, 0]  # nearest to a stationary point of the Lagrangian
        self.lam = xp.where(self.equal, lam, xp.clip(lam, 0.0, None))

    def _turned(self, rows: Array) -> Array:
        """The gradients after normalisation."""
        return self._scale[:, None] * rows + (0.0 if self._turn is None else self._turn @ rows)

    def _norm(self, rows: Array) -> float:
        return float(linalg.svd(rows, xp=self.xp)[1][0])

    def turn(self, u: Array) -> Array:
        """From constraints to normalised ones; also from their multipliers to those of the constraints."""
        return self._scale * u if self._turn is None else self._scale * u + self._turn @ u

    def at(self, x: Array, y: Array) -> Constraints:
        """Value and products."""
        here = self.problem.constraints(x, y)
        return Constraints(
            self.turn(here.value), lambda lam: here.vjp_x(self.turn(lam)), lambda lam: here.vjp_y(self.turn(lam))
        )

    def violation(self, x: Array, y: Array) -> float:
        """Largest violation, in units of the size of the pair."""
        xp, g = self.xp, self.at(x, y).value
        g = xp.where(self.equal, xp.abs(g), xp.clip(g, 0.0, None))
        return float(xp.max(g)) / (1.0 + float(xp.sqrt(xp.sum(x * x) + xp.sum(y * y))))

    def project(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The nearest point of all sets, those of the problem and the box given by the user."""
        if self._box is None:
            return self.problem.project_joint(x, y)
        xp, n = self.xp, math.prod(x.shape)

        def split(w: Array) -> tuple[Array, Array]:
            return xp.reshape(w[:n], x.shape), xp.reshape(w[n:], y.shape)

        def join(x: Array, y: Array) -> Array:
            return xp.concat([xp.reshape(x, (-1,)), xp.reshape(y, (-1,))])

        def box(w: Array) -> Array:
            x, y = split(w)
            return join(self._box(x), y)

        return split(project_intersection(join(x, y), [box, lambda w: join(*self.problem.project_joint(*split(w)))]))


@supports(backends=("numpy", "cupy", "torch", "strict"))
def lv_hba(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    alpha: float | None = None,
    beta: float = 0.5,
    eta: float | None = None,
    gamma: float = 1.0,
    penalty: float = 1.0,
    power: float = 0.49,
    init: Any = None,
    tol: float | None = 1e-3,
    maxiter: int = 10_000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Solve ``min F(x, y)`` subject to ``y in argmin {f(x, .) : g(x, .) <= 0}`` in one loop, with gradients only.

    The proximal Lagrangian value function ::

        v(x, y, z) = min_theta max_lam f(x, theta) + <lam, g(x, theta)> + (|theta - y|^2 - |lam - z|^2) / 2 gamma

    (``lam >= 0`` for inequalities) turns the inner problem into ``f(x, y) - v(x, y, z) <= 0`` on
    ``C = {(x, y) : g <= 0}``; this is penalised by ``c_k = penalty (k + 1)^power``. An iteration is a step of gradient
    descent and ascent towards the saddle point, and a projected step on ``F / c_k + f - v``.

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer``, ``constraints``, ``project_joint`` and ``lipschitz``; ``project_y`` if y has a set
        of its own.
    x0 : array, optional
        Start; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box besides the sets of ``project_joint``; the two are intersected by Dykstra's algorithm.
    alpha : float, optional
        Step of the pair (x, y), at most `eta`; by default the smaller one of 0.1 and `eta`.
    beta : float
        Step of the centre z of the multipliers.
    eta : float, optional
        Step of the saddle point; by default the smaller one of 0.3 and half its bound.
    gamma : float
        The proximal parameter.
    penalty, power : float
        Of ``c_k``; the power in (0, 1/2).
    init : BilevelResult or LvHbaState, optional
        A result to continue.
    tol : float or None
        Stop when ``c_k |w - w+| / alpha``, with ``w = (x, y)``, and ``|f - v|`` are this small, each in units of its
        largest value so far; None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``x`` and ``y``, ``fun`` the value of F there, ``multipliers`` those of the inner constraints, ``gap`` the value
        of ``f - v``, and ``violation``, the largest one of a normalised constraint in units of ``1 + |(x, y)|``.
        ``certificate`` of kind ``"stationarity"``: the stopping quantity, with the violation as its residual; a
        heuristic. There is no ``hypergradient``.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument; for an `eta` or `alpha` above its bound.

    Notes
    -----
    Inequalities are divided by the norms of their gradients at the start, and all of them by that of their matrix;
    equalities are multiplied by ``(G G')^-1/2`` with the rows G of their gradients: the steps are for constraints of
    unit norm. The first multipliers are the nearest to a stationary point of the Lagrangian at the first y.

    The steps of the saddle point converge for ``eta < 2 r / (r^2 + s^2)`` with s the norm of ``grad_y g`` and r both
    the smallest, ``1 / gamma``, and the largest, ``L_f + 1 / gamma``, curvature. And ``alpha <= eta``: where f is flat,
    y is pushed away from theta by ``alpha / gamma`` times their distance, and theta follows at ``eta / gamma``. Both
    are enforced. The authors' program breaks the first on one of their examples, with constraints that are not
    normalised, and diverges there.

    Stopping: see ``tol``. The penalty has an error like ``1 / c_k``, so that accurate answers take many iterations.

    Cost of an iteration: three gradients of f, one of F, two evaluations of the constraints, one projection. At first
    one product for each constraint, and singular values of the matrix of their gradients.

    Where not to use it: without constraints, where `tune` is faster and more accurate.

    References
    ----------
    W. Yao, C. Yu, S. Zeng, J. Zhang, Constrained bi-level optimization: proximal Lagrangian value function approach and
    Hessian-free algorithm, ICLR 2024, algorithm 1. The bound on ``eta`` is this library's own.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import SumConstraintProblem, lv_hba
    >>> res = lv_hba(SumConstraintProblem(np.ones(2)), tol=None, maxiter=2000)  # solved by x = -0.3
    >>> res.x.round(1), res.multipliers.round(1)
    (array([-0.3, -0.3]), array([-1.]))
    """
    beta, gamma, penalty = (
        check.scalar(name, value, low=0.0, low_open=True)
        for name, value in (("beta", beta), ("gamma", gamma), ("penalty", penalty))
    )
    power = check.scalar("power", power, low=0.0, low_open=True, high=0.5, high_open=True)
    needs = ("inner", "outer", "start", "constraints", "project_joint", "lipschitz")
    oracles = Oracles(problem, x0, bounds, needs, "lv_hba")
    xp, sets = oracles.xp, Normalised(oracles, bounds)
    onto_y = getattr(problem, "project_y", lambda y: y)

    for name, value in (("eta", eta), ("alpha", alpha)):
        if value is not None:
            check.scalar(name, value, low=0.0, low_open=True)

    def longest(x: Array) -> float:
        """Bound of the step of the saddle point at x."""
        least, s = 1.0 / gamma, sets.norm
        most = least + problem.lipschitz(x)
        return min(2.0 * r / (r * r + s * s) for r in (least, most))

    def paces(x: Array) -> tuple[float, float]:
        """The steps of the pair and of the saddle point at x."""
        most = longest(x)
        pace = min(0.3, 0.5 * most) if eta is None else min(eta, most)
        return min(0.1 if alpha is None else alpha, pace), pace

    for name, value, most in (("eta", eta, longest(sets.x)), ("alpha", alpha, paces(sets.x)[1])):
        if value is not None and value > most:
            raise check.error(name, value, f"at most {most:.3g}, beyond which its steps diverge", "leave it out")
    state = prepare_resume(init, LvHbaState, "pass a start as `x0`")
    if state is None:
        zero = xp.zeros_like(sets.low[0])
        state = LvHbaState(sets.x, sets.y, sets.lam, sets.y, sets.lam, zero, zero, 0, 0, 0, 0)

    def move(s: LvHbaState) -> Move:
        """The steps of an iteration from a state."""
        c = penalty * (s.nit + 1) ** power
        step, pace = paces(s.x)
        g = sets.at(s.x, s.theta)
        towards = oracles.inner(s.x, s.theta)[2] + g.vjp_y(s.lam) + (s.theta - s.y) / gamma
        theta = onto_y(s.theta - pace * towards)
        lam = s.lam + pace * (g.value - (s.lam - s.z) / gamma)
        lam = xp.where(sets.equal, lam, xp.clip(lam, 0.0, None))
        inner, inner_x, inner_y = oracles.inner(s.x, s.y)
        saddle, saddle_x, _ = oracles.inner(s.x, theta)
        value, outer_x, outer_y = oracles.outer(s.x, s.y)
        g = sets.at(s.x, theta)
        along_x = outer_x / c + inner_x - saddle_x - g.vjp_x(lam)
        along_y = outer_y / c + inner_y - (s.y - theta) / gamma
        x, y = sets.project(s.x - step * along_x, s.y - step * along_y)
        size = c / step * xp.sqrt(xp.sum((x - s.x) ** 2) + xp.sum((y - s.y) ** 2))
        near = xp.sum((theta - s.y) ** 2) - xp.sum((lam - s.z) ** 2)
        gap = xp.abs(inner - saddle - xp.sum(lam * g.value) - near / (2.0 * gamma))
        return Move(theta, lam, x, y, size, gap, value)

    def tops(s: LvHbaState, m: Move) -> list[Array]:
        return [xp.maximum(s.top_step, m.size), xp.maximum(s.top_gap, m.gap)]

    def iterations(s: LvHbaState) -> Steps:
        oracles.restore(s)
        while True:
            m = move(s)
            most = tops(s, m)
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda m=m, most=most: relative([m.size, m.gap], most, xp),
                metrics={"fun": lambda m=m: m.value}, counts=oracles.seen(),
            )  # fmt: skip
            z = xp.minimum(xp.maximum(s.z + beta / gamma * (m.lam - s.z), sets.low), LIMIT * xp.ones_like(sets.low))
            s = LvHbaState(m.x, m.y, z, m.theta, m.lam, *most, s.nit + 1, **oracles.seen())

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        m = move(s)
        violation = sets.violation(s.x, s.y)
        near = NEAR * (1.0 + xp.abs(s.x))
        edge = (xp.abs(s.x - oracles.low) <= near) | (xp.abs(s.x - oracles.high) <= near)
        certificate = Certificate(
            "stationarity", float(relative([m.size, m.gap], tops(s, m), xp)), tol=tol, residual=violation, proof=False,
            note=f"of F / c + f - v with c = {penalty * (s.nit + 1) ** power:.3g}",
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": float(m.value), "y": s.y, "hypergradient": None, "error_bound": None,
            "at_bounds": int(xp.sum(xp.astype(edge, xp.int32))),
            "multipliers": sets.turn(m.lam), "gap": float(m.gap), "violation": violation,
        }  # fmt: skip

    return run(
        iterations, state=state, like=sets.y, xp=xp, method="lv_hba", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(oracles, sets.x, sets.y, alpha, beta, eta, gamma, penalty, power),
        result_class=BilevelResult, message=f"penalty {penalty:g} k^{power:g}, constraints of unit norm",
    )  # fmt: skip
