"""What the methods share that move x, y and the adjoint q together, on batches of samples.

Along ``D_y = grad_y f``, ``D_q = H q - grad_y F`` and ``D_x = grad_x F - C q``, each estimated on a batch, the three
variables take a step at once: no inner problem is ever solved.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Step
from optlib._core import validation as check
from optlib.backend import Array, is_numpy, linalg
from optlib.backend.namespace import asarray_on, device_of
from optlib.backend.random import as_generator
from optlib.bilevel.call import Call, HyperResult, choose
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.problem import add_counts, directions, require, vdot
from optlib.steps import PowerDecay, as_schedule

WARM = 0.1  # relative residuals of the inner and the adjoint system at the start
FIRST = 0.1  # largest change of a hyperparameter in the first step
SMALL = 1e-3  # share of the first value below which values are no unit for gradients


class Batches:
    """Batches of ``0 .. n - 1``: a permutation an epoch, addressed by the number of the draw.

    Parameters
    ----------
    n : int or None
        Number of samples; None where the problem is not a sum.
    size : int or None
        Samples of a batch; None for all.
    key, level : int
        What the permutations are drawn from.
    fixed : bool
        Whether the batches are always the same ones, in another order each epoch.
    like : array
        Its library and device are those of the indices.
    xp : module

    Attributes
    ----------
    count : int
        Batches of an epoch. Without `fixed` what does not fill a batch is left out of the epoch.
    """

    def __init__(
        self, n: int | None, size: int | None, key: int, level: int, *, like: Array, xp: Any, fixed: bool = False
    ) -> None:
        self._whole = n is None or size is None or size >= n
        self._n, self._size, self._seed, self._fixed = n or 1, size or 1, (key, level), fixed
        self.count = 1 if self._whole else -(-n // size) if fixed else n // size
        self._put = lambda host: asarray_on(host, xp=xp, dtype=xp.int64, device=device_of(like))
        self._epoch, self._order, self._block = -1, np.zeros(0, np.int64), None
        if fixed and not self._whole:
            parts = np.array_split(np.random.default_rng([*self._seed, 0]).permutation(self._n), self.count)
            self._parts = [self._put(part) for part in parts]
        self.shares = [1.0] if self._whole or not fixed else [part.shape[0] / self._n for part in self._parts]

    def __call__(self, draw: int) -> tuple[int, Array | None]:
        """Number and samples of a batch; None for all samples."""
        if self._whole:
            return 0, None
        epoch, place = divmod(draw, self.count)
        if epoch != self._epoch:  # one block of indices an epoch goes to the device
            rng = np.random.default_rng([*self._seed, 1 + epoch])
            self._epoch = epoch
            if self._fixed:
                self._order = rng.permutation(self.count)
            else:
                self._block = self._put(rng.permutation(self._n))
        if self._fixed:
            number = int(self._order[place])
            return number, self._parts[number]
        return place, self._block[place * self._size : (place + 1) * self._size]

    def part(self, number: int) -> Array | None:
        """Samples of a fixed batch."""
        return None if self._whole else self._parts[number]


class Estimates(NamedTuple):
    """Gradient of f in y, H q, C q, and both gradients of F."""

    inner: Array
    hq: Array
    cq: Array
    outer_x: Array
    outer_y: Array


class SingleLoop(Oracles):
    """A problem with its batches, steps and measurements on all samples."""

    oracles: tuple[str, ...] = ("inner", "outer", "start", "hvp", "cross_vjp")

    def __init__(self, problem: Any, x0: Any, bounds: Any, batch: Any, method: str) -> None:
        super().__init__(problem, x0, bounds, self.oracles, method)
        self.batch = None if batch is None else check.scalar("batch", batch, low=1, integer=True)
        self.scale = self.norm(problem.inner(self.start, self.y0)[2]) or 1.0
        value, _, outer_y = problem.outer(self.start, self.y0)
        self.first, self.pull = abs(float(value)), self.norm(outer_y)
        self.tiny = float(self.xp.finfo(self.start.dtype).smallest_normal)

    @property
    def message(self) -> str:
        """What a step looks at, in words."""
        sums = self.batch is not None and getattr(self.problem, "n_inner", None) is not None
        return f"batches of {self.batch}" if sums else "all samples in each step"

    def warm(self, outer_step: Any, share: float) -> tuple[Array, Array, float, dict[str, int]]:
        """Inner solution and adjoint at the start, to a tenth, the first step of x, and the calls that this took."""
        mode, calls = choose(self.problem, self.y0), {"gradients": 0, "products": 0, "outer": 0}

        def solve(x: Array, y: Array, q: Array | None) -> HyperResult:
            found = Call(self.problem, x, self.xp, WARM, WARM).implicit(y, q, mode)
            add_counts(calls, found.counts)
            return found

        def ahead(x: Array) -> tuple[Array, Array]:
            found = solve(x, here.y, here.q)
            return found.gradient, found.y

        here = solve(self.start, self.y0, None)
        return here.y, here.q, self.first_step(outer_step, share, here.gradient, here.y, ahead), calls

    def first_step(
        self, outer_step: Any, share: float, p: Array, y: Array, ahead: Callable[[Array], tuple[Array, Array]]
    ) -> float:
        """The default of the first outer step, from gradient and inner solution at the start, and those ahead.

        No hyperparameter changes by more than a tenth; nor does the gradient change, relatively, by more than a quarter
        of what the inner steps move y towards its solution.
        """
        largest = float(self.xp.max(self.xp.abs(p)))
        if outer_step is not None or not largest > 0.0:
            return 1.0
        first = FIRST / largest
        q, z = ahead(self.project(self.start - first * p))
        change = self.norm(q - p) / self.norm(p)
        move, xp = z - y, self.xp
        bend = self.problem.inner(self.start, z)[2] - self.problem.inner(self.start, y)[2]
        top = float(xp.sum(move * move / self.inner_step(None, share, 0.0)(0, self.start)))
        pace = abs(float(xp.sum(move * bend))) / top if top > 0.0 else 1.0
        return first / max(1.0, 4.0 * change / min(pace, 1.0)) if pace > 0.0 else first

    def batches(self, key: int, *, fixed: bool = False) -> tuple[Batches, Batches]:
        """Those of the inner and of the outer sum."""
        sizes = (getattr(self.problem, "n_inner", None), getattr(self.problem, "n_outer", None))
        inner, outer = (
            Batches(n, self.batch, key, level, like=self.start, xp=self.xp, fixed=fixed)
            for level, n in enumerate(sizes)
        )
        return inner, outer

    @property
    def epoch(self) -> int:
        """Steps that see all samples of the inner sum once; 1 without batches."""
        return self.batches(0)[0].count

    def inner_step(self, step: Any, share: float, power: float, wait: int = 1) -> Callable[[int, Array], Any]:
        """Steps of y and q: what is given, or a share of the inverse of a majorant of H, an array like y.

        Over ``(1 + k / wait)^power``.
        """
        if step is not None:
            given = as_schedule(step)
            return lambda k, x: given(k)
        decay = waiting(share, power, wait)
        if callable(getattr(self.problem, "majorant", None)):
            return lambda k, x: decay(k) / self.problem.majorant(x, self.batch)
        require(self.problem, ("lipschitz",), "the default of `step`")
        first = self.problem.lipschitz(self.start)
        return lambda k, x: decay(k) / first

    def outer_step(self, step: Any, first: float, power: float, wait: int = 1) -> Callable[[int, Array, Array], Array]:
        """Steps of x along a direction, in the box: of what size is given, or as `first_step` says, decaying alike."""
        if step is not None:
            given = as_schedule(step, "outer_step")
            return lambda k, x, p: self.project(x - given(k) * p)
        decay, xp = waiting(first, power, wait), self.xp

        def move(k: int, x: Array, p: Array) -> Array:
            change = decay(k) * p
            limit = FIRST * xp.ones_like(change)
            return self.project(x - xp.minimum(xp.maximum(change, -limit), limit))

        return move

    def quiet(self) -> Any:
        """Where NaN and infinity travel without warnings, to the next check."""
        return np.errstate(all="ignore") if is_numpy(self.xp) else nullcontext()

    def inner_directions(self, x: Array, y: Array, q: Array, i: Array | None) -> tuple[Array, Array, Array]:
        """Gradient of f in y, H q and C q on a batch."""
        return directions(self.problem, x, y, q, i)

    def outer_gradients(self, x: Array, y: Array, j: Array | None) -> tuple[Array, Array]:
        """Both gradients of F on a batch."""
        return (self.problem.outer(x, y) if j is None else self.problem.outer(x, y, j))[1:]

    def sampled(self, x: Array, y: Array, q: Array, i: Array | None, j: Array | None) -> Estimates:
        """All directions on a batch of each level."""
        return Estimates(*self.inner_directions(x, y, q, i), *self.outer_gradients(x, y, j))

    def measured(self, state: Any) -> Callable[[], dict[str, Any]]:
        """What a check needs, on all samples: evaluated once, and only if asked for."""
        return cache(lambda: self.measure(state))

    def measure(self, state: Any) -> dict[str, Any]:
        """The measurement itself."""
        xp, x, y, q = self.xp, state.x, state.y, state.q
        with self.quiet():
            value, outer_x, outer_y = self.problem.outer(x, y)
            g, hq, cq = directions(self.problem, x, y, q, None)
            size, adjoint, inner = (linalg.norm(u, xp=xp) for u in (outer_y, hq - outer_y, g))
            left = xp.maximum(inner / self.scale, self.ratio(adjoint, self.least(size, self.pull)))
            return self.judged(x, value - vdot(q, g, xp=xp), outer_x - cq, left) | {"norms": (inner, adjoint)}

    def judged(self, x: Array, value: Array, gradient: Array, left: Array) -> dict[str, Any]:
        """Value, gradient, its largest entry and unit, what is left of the inner systems, and the stopping quantity."""
        xp = self.xp
        unit = self.least(xp.abs(value), self.first)
        top = xp.max(xp.abs(self.projected(x, gradient)))
        stop = xp.maximum(self.ratio(top, unit), left)
        return {"fun": value, "gradient": gradient, "top": top, "unit": unit, "left": left, "stop": stop}

    def least(self, a: Array, first: float) -> Array:
        """The unit a, but no less than a thousandth of what it was at first."""
        return self.xp.maximum(a, SMALL * first + self.xp.zeros_like(a))

    def ratio(self, a: Array, b: Array) -> Array:
        """``a / b``, and a where b is 0."""
        return a / self.xp.where(b > self.tiny, b, self.xp.ones_like(b))

    def step(self, state: Any) -> Step:
        """The step that is yielded."""
        values = self.measured(state)
        return Step(
            x=state.x, nit=state.nit, state=state, stop=lambda: values()["stop"],
            metrics={"fun": lambda: values()["fun"]}, counts=self.calls(state),
        )  # fmt: skip

    @staticmethod
    def calls(state: Any) -> dict[str, int]:
        """Calls of the oracles, those of the checks left out."""
        return {name: getattr(state, name) for name in ("gradients", "products", "outer") if hasattr(state, name)}

    def finish(self, state: Any, tol: float | None) -> dict[str, Any]:
        """Fields of the result."""
        values = self.measured(state)()
        certificate = Certificate(
            "stationarity", float(values["top"]), scale=float(values["unit"]) or 1.0, tol=tol, proof=False,
            residual=float(values["left"]), note="on all samples, with the inner variables of the run",
        )  # fmt: skip
        bound = None
        if "norms" in values:
            norms = (float(u) for u in values["norms"])
            bound = Call(self.problem, state.x, self.xp, 1.0, 1.0).bound(state.y, state.q, *norms)
        return {
            "certificate": certificate, "fun": float(values["fun"]), "y": state.y,
            "hypergradient": values["gradient"], "error_bound": bound,
            "at_bounds": self.at_bounds(state.x, values["gradient"]),
        }  # fmt: skip


def waiting(first: float, power: float, wait: int) -> PowerDecay:
    """``first / (1 + k / wait)^power``."""
    return PowerDecay(first * wait**power, power, shift=wait)


def seed(rng: Any) -> int:
    """The number that all batches of a run are drawn from."""
    return int(as_generator(rng).integers(0, 2**63))
