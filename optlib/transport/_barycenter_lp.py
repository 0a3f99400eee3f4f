"""Exact barycenters of small problems, by linear programming (HiGHS) and the network simplex."""

import math
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Status, Step
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, to_numpy
from optlib.backend.namespace import asarray_on
from optlib.transport import passes
from optlib.transport._problem import Problem
from optlib.transport.emd import emd

LARGEST = 200_000  # variables


class ExactState(NamedTuple):
    """State of an exact `barycenter`: whether the program was solved, its barycenter (m,) and potentials (K, m)."""

    nit: int
    b: Array
    g: Array


class ExactBarycenter:
    """The method, as a generator of steps: one."""

    def __init__(self, problems: list[Problem], shares: Array, tol: float | None, dtype: Any) -> None:
        self.problems, self.tol, self.dtype, self.xp = problems, tol, dtype, problems[0].xp
        self.shares, self.mass = np.asarray(to_numpy(shares), dtype=np.float64), problems[0].mass[0]
        variables = sum(math.prod(p.cost.shape) for p in problems)
        if variables > LARGEST:
            expected = f"a number > 0 beyond {LARGEST} variables"
            raise check.error("reg", f"0 with {variables} variables", expected, "pass a small reg")

    def first(self, start: Array | None) -> ExactState:
        """The state to start from: nothing is gained from potentials."""
        b = self.problems[0].b
        return ExactState(0, b, self.xp.zeros_like(b[None, :] * self.xp.ones_like(b[: len(self.problems), None])))

    def continues(self, state: ExactState) -> bool:
        """Whether a state is one of this problem."""
        return state.g.shape == (len(self.problems), self.problems[0].cost.shape[1])

    def steps(self, state: ExactState) -> Steps:
        """The program."""
        while True:
            done = state.nit > 0
            yield Step(
                x=self.xp.astype(state.b, self.dtype),
                nit=state.nit,
                state=state,
                stop=lambda done=done: 0.0 if done else 2.0,
                status=Status.CONVERGED if done else None,
                counts={"programs": state.nit},
            )
            state = self.solved()

    def solved(self) -> ExactState:
        """Solve the program, in units of the mass and the largest cost."""
        from scipy.optimize import linprog
        from scipy.sparse import block_array, block_diag, csr_array, eye_array, kron

        costs = [np.asarray(to_numpy(p.cost.toarray()), dtype=np.float64) for p in self.problems]
        size = max(float(np.max(np.abs(c))) for c in costs) or 1.0
        m = costs[0].shape[1]
        rows = block_diag([kron(eye_array(c.shape[0]), np.ones((1, m))) for c in costs])
        cols = block_diag([kron(np.ones((1, c.shape[0])), eye_array(m)) for c in costs])
        centre = -kron(np.ones((len(costs), 1)), eye_array(m))
        matrix = block_array([[rows, csr_array((rows.shape[0], m))], [cols, centre]], format="csr")
        supply = [np.asarray(to_numpy(p.a), dtype=np.float64) for p in self.problems]
        supply = np.concatenate([a / a.sum() for a in supply])
        program = linprog(
            np.concatenate([*(w * c.ravel() / size for w, c in zip(self.shares, costs, strict=True)), np.zeros(m)]),
            A_eq=matrix,
            b_eq=np.concatenate([supply, np.zeros(len(costs) * m)]),
            method="highs",
        )
        if program.x is None:
            raise RuntimeError(f"the linear program was not solved: {program.message}")
        b = np.maximum(program.x[-m:], 0.0)
        g = size * program.eqlin.marginals[-len(costs) * m :].reshape(-1, m) / self.shares[:, None]
        like = self.problems[0].b
        b, g = (asarray_on(u, xp=self.xp, dtype=like.dtype, device=like.device) for u in (b * (self.mass / b.sum()), g))
        return ExactState(1, b, g)

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer and its certificate: exact plans to the barycenter, and feasible potentials."""
        xp, state = self.xp, step.state
        shares = asarray_on(self.shares, xp=xp, dtype=state.g.dtype, device=state.g.device)
        g = state.g - xp.sum(shares[:, None] * state.g, axis=0)[None, :]
        f = [passes.c_transform(p.cost, g[k, :]) for k, p in enumerate(self.problems)]
        found = [emd(p.cost, p.a, state.b) for p in self.problems]
        lower = math.fsum(w * float(xp.sum(p.a * u)) for w, p, u in zip(self.shares, self.problems, f, strict=True))
        value = math.fsum(w * u.value for w, u in zip(self.shares, found, strict=True))
        sizes = [float(xp.max(xp.abs(u))) for u in (g, *f)] + [abs(v) for p in self.problems for v in p.cost.bounds()]
        size = max(sizes)
        rounding = 8.0 * float(xp.finfo(g.dtype).eps) * self.mass * size
        rounding += math.fsum(w * u.certificate.value for w, u in zip(self.shares, found, strict=True))
        gap = max(value - lower, 0.0) + rounding
        return {
            "certificate": Certificate(
                "lp_gap", gap, self.mass * size, tol=self.tol, residual=max(u.certificate.residual for u in found)
            ),
            "x": xp.astype(state.b, self.dtype),
            "fun": value,
            "value": value,
            "gap": gap,
            "value_linear": value,
            "lp_bounds": (lower - rounding, value + rounding),
            "plans": tuple(u.plan for u in found),
            "potentials": tuple((u, g[k, :]) for k, u in enumerate(f)),
        }
