"""Dykstra's algorithm: the projection onto the intersection of convex sets, from their projections."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Step, Steps, prepare_resume, run
from optlib._core import validation as check
from optlib.backend import Array, asarray_like, linalg, supports, to_numpy
from optlib.geometry import Domain
from optlib.geometry.intersections import dykstra_cycle


class DykstraState(NamedTuple):
    """Point, corrections of the sets (m, n), iterations done."""

    x: Array
    corrections: Array
    nit: int


@supports()
def dykstra(
    x0: Array,
    domains: Sequence[Domain],
    *,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 10,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Project a point onto the intersection of convex sets.

    Parameters
    ----------
    x0 : array, shape (n,)
        The point.
    domains : sequence of Domain
        Sets of vectors, each with a projection; they must have a common point.
    init : Result or DykstraState, optional
        A result to continue.
    tol : float or None
        Tolerance of the largest relative violation of a set, and of the duality gap relative to its unit; None runs
        exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x``, and ``fun``, half the squared distance from ``x0``; the certificate is the duality gap, and the violation
        of the sets its residual.

    Notes
    -----
    For each set in turn ``y = P(x + p_i)``, ``p_i <- x + p_i - y``, ``x <- y``. Always ``x = x0 - sum p_i``, and
    ``p_i`` is normal to the set i at its last projection: the duality gap is the sum of ``max_u <p_i, u - x>`` over the
    sets. Its unit is half the squared distance from ``x0`` to the first set, plus that of the corrections.

    Stopping: the larger of gap and violation, relative to their units, is at most ``tol``.

    Cost: one projection onto each set per iteration, and memory for as many vectors.

    When not to use it: for some point in the intersection, not the nearest one, alternating projections are enough; for
    many half-spaces `project_and_forget`.

    References
    ----------
    .. [1] R. L. Dykstra, "An algorithm for restricted least squares regression", JASA 78 (1983). J. P. Boyle,
       R. L. Dykstra, 1986.

    Examples
    --------
    >>> from optlib.geometry import Ball, Simplex
    >>> from optlib.online import dykstra
    >>> dykstra([1.0, 0.2, 0.0], [Simplex(3), Ball(3, 0.6)]).x.round(4)
    array([0.4643, 0.2897, 0.246 ])
    """
    xp, device, dtype = check.common(x0=x0)
    x0 = check.array("x0", x0, xp=xp, ndim=1, dtype=dtype, device=device)
    if not isinstance(domains, Sequence) or not domains or not all(isinstance(d, Domain) for d in domains):
        raise check.error("domains", type(domains).__name__, "a list of domains", "[Simplex(3), Ball(3)]", TypeError)
    for domain in domains:
        if domain.shape != tuple(x0.shape):
            raise check.error("domains", f"a set of points of shape {domain.shape}", f"shape {tuple(x0.shape)}")
    sets = [d._map_arrays(lambda v: asarray_like(to_numpy(v), x0)) for d in domains]
    state = prepare_resume(init, DykstraState)
    if state is None:
        zeros = xp.zeros((len(sets), x0.shape[0]), dtype=dtype, device=device)
        state = DykstraState(x0, zeros, 0)
    projections = [partial(d.project, xp=xp) for d in sets]
    first = x0 - sets[0].project(x0, xp=xp)

    def violation(x: Array) -> Array:
        return xp.max(xp.stack([xp.maximum(d._violation(x, xp), xp.zeros_like(x[0])) for d in sets]))

    def gap(s: DykstraState) -> Array:
        total = xp.zeros_like(s.x[0])
        for i, domain in enumerate(sets):
            p = s.corrections[i, :]
            total = total + xp.sum(p * (domain.linear_minimizer(-p, xp=xp) - s.x))
        return xp.abs(total)

    def unit(s: DykstraState) -> Array:
        size = 0.5 * (linalg.norm(first, xp=xp) ** 2 + xp.sum(xp.square(s.corrections)))
        return xp.where(size > 0.0, size, xp.ones_like(size))

    def steps(state: DykstraState) -> Steps:
        while True:
            s = state
            budget = yield Step(
                s.x, s.nit, s, stop=lambda s=s: xp.maximum(gap(s) / unit(s), violation(s.x)),
                counts={"projections": len(sets) * s.nit},
            )  # fmt: skip
            for _ in range(budget):
                old = [state.corrections[i, :] for i in range(len(sets))]
                x, corrections = dykstra_cycle(state.x, old, projections)
                state = DykstraState(x, xp.stack(corrections), state.nit + 1)

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        residual = float(violation(s.x))
        certificate = Certificate("duality_gap", float(gap(s)), scale=float(unit(s)), tol=tol, residual=residual)
        return {"fun": 0.5 * float(xp.sum(xp.square(s.x - x0))), "certificate": certificate}

    return run(
        steps, state=state, like=x0, xp=xp, method="dykstra", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(x0, domains),
    )  # fmt: skip
