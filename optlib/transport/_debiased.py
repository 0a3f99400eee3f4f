"""Debiased Sinkhorn barycenters: Bregman projections with the weights that carry the barycenter to itself."""

import math
from typing import Any, NamedTuple

from optlib._core import Certificate, Step
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, device_of, to_numpy
from optlib.transport import passes
from optlib.transport._problem import Problem
from optlib.transport.acceleration import anderson
from optlib.transport.divergence import divergence

MEMORY = 5
LEVEL_ITERATIONS = 10


class DebiasedState(NamedTuple):
    """State of a debiased `barycenter`.

    Attributes
    ----------
    nit, ahead, level_nit : int
        Iterations, levels of the regularisation path behind the present one, iterations in it.
    z : array, shape (K + 1, m)
        Column potentials of the measures in units of the regularisation, and the logarithm of ``d``.
    f : array
        Row potentials of the measures, one behind the other; and those of the barycenter's transport to itself.
    residual : array, shape (K + 1, m)
        The plain step.
    beta : array, shape (m,)
        Logarithm of the barycenter's density.
    steps, changes : array, shape (memory, (K + 1) m)
        The last accepted steps and the decreases of the residual that went with them, newest first.
    pairs : int
        How many of them are valid.
    error : float
        ``sum_k w_k |c_k - b|_1 + |d K d - b|_1``, relative to the mass.
    """

    nit: int
    ahead: int
    level_nit: int
    z: Array
    f: Array
    residual: Array | None
    beta: Array | None
    steps: Array
    changes: Array
    pairs: int
    error: float


class Debiased:
    """The method, as a generator of steps.

    The densities are those with respect to the uniform measure of mass 1 on the targets.
    """

    def __init__(
        self, problems: list[Problem], shares: Array, levels: list[float], tol: float | None, dtype: Any
    ) -> None:
        self.problems, self.shares, self.levels, self.tol, self.dtype = problems, shares, levels, tol, dtype
        self.xp, self.mass = problems[0].xp, problems[0].mass[0]
        self.uniform = problems[0].b / self.mass
        for p in problems:
            xp, (n, m) = self.xp, p.cost.shape
            if n != m:
                raise check.error("cost", f"shape ({n}, {m})", "a symmetric cost for debiased barycenters")
            probe = xp.where(xp.arange(n, device=p.cost.device) % 2 == 0, self.uniform, -0.7 * self.uniform)
            forth, back = passes.cost_apply(p.cost, probe), passes.cost_apply(p.cost.T, probe)
            if float(xp.max(xp.abs(forth - back))) > 1e-6 * max(map(abs, p.cost.bounds())):
                raise check.error("cost", "a matrix that is not symmetric", "a symmetric cost for debiased barycenters")
        self.target = problems[0].cost

    def first(self, start: Array | None) -> DebiasedState:
        """The state to start from."""
        xp, k, m = self.xp, len(self.problems), self.uniform.shape[0]
        zero = xp.zeros((k + 1, m), dtype=self.uniform.dtype, device=device_of(self.uniform))
        ahead = len(self.levels) - 1
        if start is not None:
            ahead, zero = 0, xp.concat([start / self.levels[-1], zero[:1, :]], axis=0)
        memory = xp.zeros((MEMORY, (k + 1) * m), dtype=zero.dtype, device=device_of(zero))
        f = xp.zeros((k + 1, m), dtype=zero.dtype, device=device_of(zero))
        return DebiasedState(0, ahead, 0, zero, f, None, None, memory, memory, 0, 2.0)

    def continues(self, state: DebiasedState) -> bool:
        """Whether a state is one of this problem."""
        return state.z.shape == (len(self.problems) + 1, self.uniform.shape[0]) and state.ahead < len(self.levels)

    def evaluated(self, state: DebiasedState, z: Array) -> DebiasedState:
        """The state at ``z``: a pass over every cost, and one for the transport of the barycenter to itself."""
        xp, eps, u = self.xp, self.levels[-1 - state.ahead], self.uniform
        tiny = 1e-300 if xp.finfo(u.dtype).bits == 64 else 1e-37
        floor = xp.asarray(tiny, dtype=u.dtype, device=device_of(u))
        potentials, columns = [], []
        for k, p in enumerate(self.problems):
            f, c = passes.sweep(p.cost, eps * z[k, :], p.a, u, eps, f=state.f[k, :])
            potentials.append(f)
            columns.append(xp.maximum(c, floor))
        delta = z[-1, :]
        own, _ = passes.sweep(self.target, eps * delta, u, u, eps, f=state.f[-1, :])
        density = xp.log(xp.stack(columns) / u[None, :])
        beta = delta + xp.sum(self.shares[:, None] * (density - z[:-1, :]), axis=0)
        largest = 0.5 * math.log(float(xp.finfo(u.dtype).max))  # of a trial that will be rejected
        b = u * xp.exp(xp.clip(beta, max=largest))
        error = xp.sum(self.shares[:, None] * xp.abs(xp.stack(columns) - b[None, :]))
        error = error + xp.sum(xp.abs(u * xp.exp(xp.clip(delta - own / eps, max=largest)) - b))
        residual = xp.concat([beta[None, :] - density, 0.5 * (beta + own / eps - delta)[None, :]], axis=0)
        return state._replace(
            z=z, f=xp.stack([*potentials, own]), residual=residual, beta=beta, error=float(error) / self.mass
        )

    def iteration(self, state: DebiasedState) -> DebiasedState:
        """A step of Anderson's method; if it fails, the memory is cleared."""
        xp, flat = self.xp, (-1,)
        residual = xp.reshape(state.residual, flat)
        b = self.uniform * xp.exp(state.beta)
        metric = xp.reshape(xp.concat([self.shares[:, None] * b[None, :], b[None, :]], axis=0), flat)
        step = residual
        if state.pairs:
            step = anderson(residual, state.steps, state.changes, state.pairs, metric, xp)
        trial = self.evaluated(state, state.z + xp.reshape(step, state.z.shape))
        done = {"nit": state.nit + 1, "level_nit": state.level_nit + 1}
        if state.pairs and not trial.error <= 2.0 * state.error:
            return state._replace(pairs=0, **done)
        change = residual - xp.reshape(trial.residual, flat)
        return trial._replace(
            steps=xp.concat([step[None, :], state.steps[:-1, :]], axis=0),
            changes=xp.concat([change[None, :], state.changes[:-1, :]], axis=0),
            pairs=min(state.pairs + 1, MEMORY),
            **done,
        )

    def steps(self, state: DebiasedState) -> Steps:
        """Levels of falling regularisation; in each, iterations."""
        if state.residual is None:
            state = self.evaluated(state, state.z)
        while True:
            last = state.ahead == 0
            error = state.error if last else max(2.0, 2.0 * (self.tol or 0.0))
            yield Step(
                x=self.answer(state),
                nit=state.nit,
                state=state,
                stop=lambda error=error: error,
                counts={"passes": state.nit + 1},
            )
            state = self.iteration(state)
            if not last and (state.level_nit == LEVEL_ITERATIONS or state.error <= 1e-2):
                ratio = self.levels[-1 - state.ahead] / self.levels[-state.ahead]
                state = state._replace(ahead=state.ahead - 1, level_nit=0, pairs=0)
                state = self.evaluated(state, ratio * state.z)

    def answer(self, state: DebiasedState) -> Array:
        """The barycenter."""
        b = self.uniform * self.xp.exp(state.beta)
        return self.xp.astype(b * (self.mass / self.xp.sum(b)), self.dtype)

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer and its certificate: divergences to the barycenter, with their derivatives in it."""
        xp, state, reg = self.xp, step.state, self.levels[-1]
        b = self.uniform * xp.exp(state.beta)
        b = b * (self.mass / xp.sum(b))
        safe = xp.maximum(b, xp.asarray(1e-30, dtype=b.dtype, device=device_of(b)) * self.uniform)
        tilt = reg * xp.log(self.uniform / safe)
        found = []
        for k, p in enumerate(self.problems):
            start = (state.f[k, :], reg * state.z[k, :] + tilt, xp.zeros_like(p.a), state.f[-1, :])
            options = {"within": (p.cost, p.cost), "tol": self.tol or "auto", "maxiter": 500, "init": start}
            found.append(divergence(p.cost, p.a, b, reg=reg, **options))
        shares = to_numpy(self.shares).tolist()
        gradient = xp.sum(self.shares[:, None] * xp.stack([u.gradients.b for u in found]), axis=0)
        value = math.fsum(w * u.value for w, u in zip(shares, found, strict=True))
        errors = math.fsum(w * u.certificate.value for w, u in zip(shares, found, strict=True))
        gap = float(xp.sum(gradient * b) - xp.min(gradient) * self.mass) + errors
        return {
            "certificate": Certificate(
                kind="residual",
                value=state.error,
                tol=self.tol,
                proof=False,
                note=f"of the optimality conditions; excess at most {gap:.1e} if the kernel is positive definite",
            ),
            "x": xp.astype(b, self.dtype),
            "fun": value,
            "value": value,
            "gap": gap,
            "value_linear": None,
            "lp_bounds": None,
            "plans": tuple(u.plans[0] for u in found),
            "potentials": tuple(u.potentials[:2] for u in found),
        }
