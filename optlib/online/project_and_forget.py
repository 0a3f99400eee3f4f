"""Project and forget: Bregman projections onto half-spaces that an oracle finds, of which only the active are kept."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Result, Step, Steps, prepare_resume, run
from optlib._core import validation as check
from optlib.backend import Array, kernel, scatter, supports


class Constraints(NamedTuple):
    """Half-spaces ``<a_i, x> <= bounds_i``, the ``a_i`` in compressed rows.

    Attributes
    ----------
    data, indices, indptr : array
        Entries of the ``a_i``, their coordinates (int64), and where the rows begin.
    bounds : array, shape (k,)
        Right sides.
    """

    data: Array
    indices: Array
    indptr: Array
    bounds: Array

    def violations(self, x: np.ndarray) -> np.ndarray:
        """Return ``<a_i, x> - bounds_i``.

        Parameters
        ----------
        x : array, shape (n,)
            The point.

        Returns
        -------
        array, shape (k,)
            Positive where a constraint does not hold.
        """
        sums = np.concatenate([[0.0], np.cumsum(self.data * x[self.indices])])
        return sums[self.indptr[1:]] - sums[self.indptr[:-1]] - self.bounds

    def take(self, keep: np.ndarray) -> "Constraints":
        """Return some of the constraints.

        Parameters
        ----------
        keep : array of bool, shape (k,)
            Which.

        Returns
        -------
        Constraints
            Those.
        """
        lengths = np.diff(self.indptr)
        entries = np.repeat(keep, lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths[keep])])
        return Constraints(self.data[entries], self.indices[entries], indptr, self.bounds[keep])

    def joined(self, other: "Constraints") -> "Constraints":
        """Return these constraints and others after them.

        Parameters
        ----------
        other : Constraints
            More constraints.

        Returns
        -------
        Constraints
            All.
        """
        indptr = np.concatenate([self.indptr, self.indptr[-1] + other.indptr[1:]])
        first, second = (self.data, self.indices, self.bounds), (other.data, other.indices, other.bounds)
        data, indices, bounds = (np.concatenate(pair) for pair in zip(first, second, strict=True))
        return Constraints(data, indices, indptr, bounds)

    def keys(self, n: int) -> np.ndarray:
        """Return a number for each constraint that tells it from the others."""
        words = np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64)
        entries = np.cumsum(words[self.indices] * _mixed(self.data), dtype=np.uint64)
        entries = np.concatenate([np.zeros(1, np.uint64), entries])
        return entries[self.indptr[1:]] - entries[self.indptr[:-1]] + _mixed(self.bounds)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Bits of floats, spread over all 64 (those of 1 and -1 differ in one)."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)
    bits = (bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (bits ^ (bits >> np.uint64(32))) | np.uint64(1)


def no_constraints() -> Constraints:
    """Return an empty list of constraints."""
    none = np.empty(0, np.int64)
    return Constraints(np.empty(0), none, np.zeros(1, np.int64), np.empty(0))


class ProjectState(NamedTuple):
    """Point, multipliers of the remembered constraints, and these; iterations done."""

    x: Array
    z: Array
    data: Array
    indices: Array
    indptr: Array
    bounds: Array
    nit: int


@kernel(numba="optlib.online._projections_numba:cyclic_projections", match="iterate")
def cyclic_projections(
    x: Array, z: Array, data: Array, indices: Array, indptr: Array, bounds: Array, scale: Array, sweeps: int, *, xp: Any
) -> tuple[Array, Array]:
    """Project onto one half-space after the other, and correct by its multiplier (Hildreth, Dykstra).

    Parameters
    ----------
    x : array, shape (n,)
        Point.
    z : array, shape (k,)
        Multipliers, >= 0.
    data, indices, indptr, bounds : array
        The half-spaces, see `Constraints`.
    scale : array, shape (n,)
        Inverse weights of the coordinates.
    sweeps : int
        How often to pass over all.
    xp : module
        Namespace.

    Returns
    -------
    x : array, shape (n,)
        ``x`` plus ``scale`` times the sum of the ``a_i`` times the decrease of ``z_i``.
    z : array, shape (k,)
        The new multipliers; exactly 0 where a constraint does not matter.
    """
    starts = [int(i) for i in indptr]
    parts = [slice(i, j) for i, j in itertools.pairwise(starts)]
    rows = [(data[p], indices[p]) for p in parts]
    sizes = [xp.sum(a * a * xp.take(scale, index)) for a, index in rows]
    values = [z[i] for i in range(len(rows))]
    for _ in range(sweeps):
        for i, (a, index) in enumerate(rows):
            theta = (bounds[i] - xp.sum(a * xp.take(x, index))) / sizes[i]
            c = xp.where(theta < values[i], theta, values[i])
            x = scatter.add_at(x, index, c * a * xp.take(scale, index), xp=xp)
            values[i] = values[i] - c
    return x, xp.stack(values) if values else z


@supports(backends=("numpy",), sequential=True)
def project_and_forget(
    x0: Array,
    oracle: Callable[[np.ndarray], Constraints],
    *,
    weights: Any = None,
    sweeps: int = 20,
    init: Any = None,
    tol: float | None = 1e-8,
    maxiter: int = 1000,
    check_every: int = 1,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Find the nearest point that satisfies a huge family of linear inequalities, given by an oracle.

    Minimises :math:`\frac12 \sum_j w_j (x_j - x_{0 j})^2` subject to :math:`\langle a_i, x \rangle \le b_i` for all i.

    Parameters
    ----------
    x0 : array, shape (n,)
        The point to project.
    oracle : callable
        ``oracle(x)`` returns `Constraints` that ``x`` violates: none if it violates none, else at least one that is
        violated by a fixed part of the largest violation. `HalfSpaces` is one for an explicit list.
    weights : array, shape (n,), optional
        Weights > 0; by default 1.
    sweeps : int
        Passes over the remembered constraints per iteration.
    init : Result or ProjectState, optional
        A result to continue.
    tol : float or None
        Tolerance of the largest violation that the oracle finds, relative to the largest entry of ``x0``, and of the
        duality gap, relative to ``sum w x0^2 / 2``; None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x``, ``fun``, ``multipliers`` and ``constraints``, those that are active; the certificate is the duality gap,
        and the largest violation its residual.

    Notes
    -----
    An iteration asks the oracle, projects on the new and the remembered half-spaces, each corrected by its multiplier,
    and forgets those whose multiplier is 0. Always ``w (x - x0) = - sum z_i a_i``, so the multipliers bound the optimum
    from below: ``fun - sum z_i (b_i - <a_i, x>) <= optimum``.

    Stopping: the larger of violation and gap, relative to their units, is at most ``tol``.

    Cost: one call of the oracle, and ``sweeps`` passes over the entries of the remembered constraints.

    When not to use it: for a few thousand constraints that are known, a quadratic programming code is faster.

    References
    ----------
    .. [1] R. Sonthalia, A. C. Gilbert, "Project and Forget: Solving Large-Scale Metric Constrained Problems",
       JMLR 23 (2022), Algorithms 1 and 3.
    .. [2] L. M. Bregman, 1967; C. Hildreth, "A quadratic programming procedure", 1957.

    Examples
    --------
    >>> from optlib.online import HalfSpaces, project_and_forget
    >>> res = project_and_forget([2.0, 1.0], HalfSpaces([[1.0, 1.0]], [1.0]))
    >>> res.x, res.multipliers
    (array([1., 0.]), array([1.]))
    """
    xp, _, dtype = check.common(x0=x0, weights=weights)
    if xp is not check.common()[0]:
        raise check.error("x0", f"an array of {xp.__name__}", "a NumPy array", "use optlib.to_device", TypeError)
    target = check.array("x0", x0, xp=xp, ndim=1, dtype=xp.float64)
    n = target.shape[0]
    w = xp.ones(n) if weights is None else check.array("weights", weights, xp=xp, shape=(n,), dtype=xp.float64)
    if not bool(xp.all(w > 0.0)):
        raise check.error("weights", "an entry that is not positive", "numbers > 0")
    if not callable(oracle):
        raise check.error("oracle", type(oracle).__name__, "a function of a point", kind=TypeError)
    return project_onto(
        target, w, oracle, "project_and_forget", lambda x: x.astype(dtype), sweeps=sweeps, init=init, tol=tol,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip


def projection_quality(target: np.ndarray, w: np.ndarray) -> Callable[[ProjectState, Constraints], tuple[float, ...]]:
    """Return the function that measures a state: duality gap, its unit, relative violation."""
    width = float(np.max(np.abs(target), initial=0.0)) or 1.0
    unit = 0.5 * float(np.sum(w * target**2)) or 1.0

    def quality(state: ProjectState, found: Constraints) -> tuple[float, ...]:
        gap = -float(np.sum(state.z * Constraints(*state[2:6]).violations(state.x)))
        return abs(gap), unit, float(np.max(found.violations(state.x), initial=0.0)) / width

    return quality


def project_onto(
    target: np.ndarray,
    w: np.ndarray,
    oracle: Callable[[np.ndarray], Constraints],
    method: str,
    view: Callable[[np.ndarray], Array],
    *,
    sweeps: int,
    init: Any,
    tol: float | None,
    checkpoint: Any,
    quality: Callable[[ProjectState, Constraints], tuple[float, ...]] | None = None,
    kind: str = "duality_gap",
    extras: Callable[[ProjectState], dict[str, Any]] = lambda state: {},
    **keywords: Any,
) -> Result:
    """Run the method on checked arguments.

    ``view(x)`` is the point as the user sees it, ``quality`` measures a state as `projection_quality` does.
    """
    xp, n = check.common()[0], target.shape[0]
    sweeps = check.scalar("sweeps", sweeps, low=1, integer=True)
    state = prepare_resume(init, ProjectState)
    if state is None:
        state = ProjectState(target, np.empty(0), *no_constraints(), 0)
    quality = quality or projection_quality(target, w)

    def ask(x: np.ndarray) -> Constraints:
        found = oracle(x)
        if not isinstance(found, Constraints):
            raise check.error("oracle", f"a function returning {type(found).__name__}", "Constraints", kind=TypeError)
        return found

    def steps(state: ProjectState) -> Steps:
        while True:
            found = ask(state.x)
            gap, unit, violation = quality(state, found)
            yield Step(
                view(state.x), state.nit, state, stop=lambda: max(gap / unit, violation),
                metrics={"constraints": lambda: float(state.z.size)}, counts={"oracle": state.nit + 1},
            )  # fmt: skip
            known = Constraints(*state[2:6])
            new = found.take(~np.isin(found.keys(n), known.keys(n)))
            rows, z = known.joined(new), np.concatenate([state.z, np.zeros(new.bounds.size)])
            x, z = cyclic_projections(state.x, z, *rows, 1.0 / w, sweeps, xp=xp)
            rows = rows.take(z != 0.0)
            state = ProjectState(x, z[z != 0.0], *rows, state.nit + 1)

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        gap, unit, violation = quality(s, ask(s.x))
        return {
            "fun": 0.5 * float(np.sum(w * (s.x - target) ** 2)),
            "certificate": Certificate(kind, gap, scale=unit, tol=tol, residual=violation),
            "multipliers": s.z,
            "constraints": Constraints(*s[2:6]),
            **extras(s),
        }

    return run(
        steps, state=state, like=target, xp=xp, method=method, finish=finish, tol=tol, checkpoint=checkpoint,
        problem=(target, w, sweeps, type(oracle).__name__, getattr(oracle, "identity", None)), **keywords,
    )  # fmt: skip


class HalfSpaces:
    """The oracle of an explicit list ``A x <= b``: it returns all rows that a point violates.

    Parameters
    ----------
    A : array or sparse matrix, shape (k, n)
        Normals.
    b : array, shape (k,)
        Bounds.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.online import HalfSpaces
    >>> HalfSpaces([[1.0, 0.0], [0.0, 1.0]], [1.0, 1.0])(np.array([2.0, 0.0])).indices
    array([0])
    """

    def __init__(self, A: Any, b: Any) -> None:
        from scipy.sparse import csr_array, issparse

        try:
            rows = csr_array(A if issparse(A) else np.asarray(A), dtype=np.float64)
            right = rows.ndim == 2
        except (TypeError, ValueError):
            right = False
        if not right:
            raise check.error("A", type(A).__name__, "a matrix of numbers, dense or sparse", kind=TypeError)
        rows.eliminate_zeros()
        bounds = check.array("b", b, xp=check.common()[0], shape=(rows.shape[0],), dtype=np.float64)
        if not np.all(np.isfinite(rows.data)):
            raise check.error("A", "an entry that is NaN or infinite", "finite numbers")
        if np.any(np.diff(rows.indptr) == 0):
            raise check.error("A", "a row of zeros", "normals that are not 0", "leave the row out")
        self.identity = self._all = Constraints(
            rows.data, rows.indices.astype(np.int64), rows.indptr.astype(np.int64), bounds
        )

    def __call__(self, x: np.ndarray) -> Constraints:
        """Return the constraints that ``x`` violates.

        Parameters
        ----------
        x : array, shape (n,)
            The point.

        Returns
        -------
        Constraints
            Some of the list.
        """
        return self._all.take(self._all.violations(x) > 0.0)
