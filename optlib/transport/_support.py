"""What the entropic solvers share: the problem on the points that have mass, and the rules for tolerances."""

from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, default_float, device_of, get_engine, is_numpy, to_numpy
from optlib.transport._problem import Problem
from optlib.transport.cost import Cost, DenseCost


def has_kernels(xp: Any) -> bool:
    """Whether the Numba kernels serve this library."""
    return is_numpy(xp) and get_engine() == "auto"


def tolerance(tol: float | str | None, problem: Problem) -> tuple[float | None, float | None]:
    """The tolerance asked for, and the tighter one at which the iterations stop."""
    if tol == "auto":
        tol = 1e-6 if problem.xp.finfo(problem.dtype).bits == 64 else 1e-4
    tight = None if tol is None else check.scalar("tol", tol, low=0.0)
    if tight and problem.dtype != default_float(problem.xp, problem.cost.device):
        tight *= 0.5  # the rest is for the rounding of the potentials to float32
    return tol, tight


class Support:
    """The problem without sources and targets that have no mass, in double precision unless float32 will do."""

    def __init__(self, problem: Problem, single: bool) -> None:
        wide = problem if single else problem.double()
        self.xp, self.index = problem.xp, [None, None]
        weights = [wide.a, wide.b]
        for side in (0, 1):
            if problem.has_zeros[side]:
                self.index[side] = np.flatnonzero(to_numpy(weights[side]) > 0)
                weights[side] = self.xp.take(weights[side], self._device_index(side, weights[side]), axis=0)
        cost = by_rows(wide.cost.take(*self.index) if any(problem.has_zeros) else wide.cost)
        cost._bounds = wide.cost.bounds()
        self.sizes = problem.cost.shape
        self.problem = wide._replace(cost=cost, a=weights[0], b=weights[1], has_zeros=(False, False))

    def _device_index(self, side: int, like: Array) -> Array:
        return self.xp.asarray(self.index[side], dtype=self.xp.int64, device=device_of(like))

    def restrict(self, start: Any) -> tuple[Array, Array]:
        """Potentials to start from: zeros, ``g``, or ``(f, g)``."""
        xp, a, b = self.xp, self.problem.a, self.problem.b
        if start is None:
            return xp.zeros_like(a), xp.zeros_like(b)
        given = start if isinstance(start, (tuple, list)) and len(start) == 2 else (None, start)
        found = []
        for side, (u, like) in enumerate(zip(given, (a, b), strict=True)):
            if u is None:
                found.append(xp.zeros_like(like))
                continue
            fix = "pass the column potentials g, or the pair of `potentials` of a result"
            u = check.array(
                "init", u, xp=xp, shape=(self.sizes[side],), dtype=like.dtype, device=device_of(like), fix=fix
            )
            found.append(u if self.index[side] is None else xp.take(u, self._device_index(side, like), axis=0))
        return found[0], found[1]

    def extend(self, f: Array, g: Array) -> tuple[Array, Array]:
        """Potentials of all sources and targets; 0 for those without mass."""
        return self._extend(f, 0), self._extend(g, 1)

    def _extend(self, u: Array, side: int) -> Array:
        if self.index[side] is None:
            return u
        xp = self.xp
        place = np.full(self.sizes[side], u.shape[0])
        place[self.index[side]] = np.arange(u.shape[0])
        padded = xp.concat([u, xp.zeros((1,), dtype=u.dtype, device=device_of(u))])
        return xp.take(padded, xp.asarray(place, dtype=xp.int64, device=device_of(u)), axis=0)


def by_rows(cost: Cost) -> Cost:
    """The cost with contiguous rows, a copy if a NumPy matrix has others."""
    if isinstance(cost, DenseCost) and has_kernels(cost.xp) and not cost._array.flags.c_contiguous:
        return cost._derive(np.ascontiguousarray(cost._array), cost.dtype)
    return cost
