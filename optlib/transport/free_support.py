"""Wasserstein barycenters whose points move."""

import math
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, array_namespace, random, supports
from optlib.transport._front import solve
from optlib.transport._problem import prepare, proportions
from optlib.transport.cost import PointCloud, as_points
from optlib.transport.result import TransportResult


class FreeSupportState(NamedTuple):
    """State of `free_support_barycenter`: iterations, points (m, d), and the measures' potentials, joined."""

    nit: int
    x: Array
    g: Array | None


@supports(backends=("numpy", "cupy", "torch", "strict"))
def free_support_barycenter(
    points: Any,
    a: Any = None,
    weights: Any = None,
    *,
    size: int | None = None,
    b: Any = None,
    reg: float = 0.0,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 200,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> Result:
    r"""Compute a Wasserstein barycenter of point clouds by moving its points.

    Find positions ``x`` of points with given weights ``b`` for which ``sum_k w_k OT(b, a_k)`` under squared distances
    is least.

    Parameters
    ----------
    points : sequence of K arrays, shapes (n_k, d)
        The clouds.
    a : sequence of K arrays (n_k,), optional
        Weights >= 0 of their points, each of the same mass; None, also for a single one, means uniform.
    weights : array or sequence, shape (K,), optional
        Weights ``w_k`` >= 0 of the clouds, scaled to sum 1; None means equal ones.
    size : int, optional
        Number of points of the barycenter; by default that of the largest cloud.
    b : array (m,), optional
        Weights of its points; None means uniform.
    reg : float
        Strength of the regularisation of the transports; 0 for exact ones.
    init : array (m, d), Result or state, optional
        Positions to start from; by default points drawn from the clouds. Or a result of the same problem to continue.
    tol : float, "auto" or None
        Stop when the points move by at most this, in the mean square and relative to the spread of the clouds.
        ``"auto"`` is 1e-6, and 1e-4 for float32; None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`.
    rng : seed or Generator, optional
        Of the points to start from.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    Result
        ``x`` are the positions (m, d), ``fun`` the objective, ``plans`` those from the barycenter to the clouds.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `optlib.transport.solve`.

    See Also
    --------
    optlib.transport.barycenter : Weights on fixed points, a convex problem.

    Notes
    -----
    *Method.* Every point moves to the weighted mean of the points that it is sent to, ``x_j <- sum_k w_k sum_i P^k_ji
    y^k_i / b_j``: the best positions for given plans. With exact transports the objective never increases; potentials
    are handed on.

    *Stopping*: by ``tol``. The problem is not convex: the certificate is one of stationarity, the distance from ``x``
    to its update, which is half the gradient. Exact plans are piecewise constant, so that the iteration usually ends at
    a point that does not move at all.

    *Cost*: K transports an iteration.

    *When not to use it*: for histograms and images, and whenever a global optimum is needed, take `barycenter`.

    References
    ----------
    M. Cuturi, A. Doucet, Fast computation of Wasserstein barycenters, ICML 2014. P. C. Álvarez-Esteban, E. del Barrio,
    J. A. Cuesta-Albertos, C. Matrán, A fixed-point approach to barycenters in Wasserstein space, J. Math. Anal. Appl.
    2016.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import free_support_barycenter
    >>> x = np.random.default_rng(0).normal(size=(30, 2))
    >>> res = free_support_barycenter([x, x + [4.0, 0.0]], init=x)
    >>> res.success, float(np.max(np.abs(res.x - (x + [2.0, 0.0])))) < 1e-9
    (True, True)
    """
    if not isinstance(points, (list, tuple)) or not points:
        got = "no cloud" if isinstance(points, (list, tuple)) else type(points).__name__
        raise check.error("points", got, "a list of clouds (n_k, d)", kind=TypeError)
    masses = [None] * len(points) if a is None else a
    if not isinstance(masses, (list, tuple)) or len(masses) != len(points):
        got = f"{len(masses)} weights" if isinstance(masses, (list, tuple)) else type(a).__name__
        raise check.error("a", got, f"a list of {len(points)} weights", "pass None for uniform ones")
    xp, device, dtype = check.common(**{f"points[{k}]": y for k, y in enumerate(points)}, b=b, weights=weights)
    clouds: list[Array] = []
    for k, y in enumerate(points):
        d = clouds[0].shape[1] if clouds else None
        clouds.append(as_points(f"points[{k}]", y, xp, dtype, device, dimension=d))
    shares = proportions(weights, len(clouds), xp, dtype, device)
    reg = check.scalar("reg", reg, low=0.0)
    if tol == "auto":
        tol = 1e-6 if xp.finfo(dtype).bits == 64 else 1e-4
    elif tol is not None:
        tol = check.scalar("tol", tol, low=0.0)
    start, state = prepare_init(init, FreeSupportState)
    if state is None:
        if start is None:
            m = max(y.shape[0] for y in clouds)
            m = m if size is None else check.scalar("size", size, low=1, integer=True)
            pool = xp.concat(clouds, axis=0)
            drawn = random.as_generator(rng).choice(pool.shape[0], m, replace=m > pool.shape[0])
            start = xp.take(pool, xp.asarray(drawn, dtype=xp.int64, device=pool.device), axis=0)
        else:
            start = as_points("init", start, xp, dtype, device, dimension=clouds[0].shape[1])
        state = FreeSupportState(0, start, None)
    problems = [prepare(PointCloud(state.x, y), b, w) for y, w in zip(clouds, masses, strict=True)]
    method = _FreeSupport(clouds, [p.b for p in problems], problems[0].a, shares, reg, tol)
    return run(
        method.steps,
        state=state,
        like=state.x,
        xp=xp,
        method="free_support_barycenter",
        finish=method.finish,
        tol=tol,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(clouds, [p.b for p in problems], problems[0].a, shares, reg, tol),
        message="exact transports" if reg == 0 else f"transports with reg={reg:g}",
    )


class _FreeSupport:
    """The method, as a generator of steps."""

    def __init__(
        self, clouds: list[Array], masses: list[Array], b: Array, shares: Array, reg: float, tol: float | None
    ) -> None:
        self.clouds, self.masses, self.b, self.shares, self.reg, self.tol = clouds, masses, b, shares, reg, tol
        self.xp = xp = array_namespace(b)
        self.parts = [float(shares[k]) for k in range(len(clouds))]
        spread = [
            xp.sum(w * xp.sum((y - xp.mean(y, axis=0)) ** 2, axis=1)) for y, w in zip(clouds, masses, strict=True)
        ]
        self.mass = float(xp.sum(b))
        self.size = math.sqrt(max(float(s) for s in spread) / self.mass) or 1.0

    def transports(self, state: FreeSupportState) -> list[TransportResult]:
        """From the points to every cloud."""
        found, ends = [], list(accumulate((y.shape[0] for y in self.clouds), initial=0))
        for (i, j), y, w in zip(pairwise(ends), self.clouds, self.masses, strict=True):
            init = None if state.g is None else state.g[i:j]
            found.append(solve(PointCloud(state.x, y), self.b, w, reg=self.reg, init=init))
        return found

    def moved(self, found: list[TransportResult]) -> Array:
        """The best positions for given plans."""
        total = 0.0
        for share, y, transport in zip(self.parts, self.clouds, found, strict=True):
            total = total + share * transport.plan.barycentric(y)
        return total

    def distance(self, x: Array, to: Array) -> Array:
        """Root of the mean square of what the points move, relative to the spread of the clouds."""
        xp = self.xp
        return xp.sqrt(xp.sum(self.b * xp.sum((x - to) ** 2, axis=1)) / self.mass) / self.size

    def steps(self, state: FreeSupportState) -> Steps:
        """Transports, and positions."""
        while True:
            found = self.transports(state)
            to = self.moved(found)
            yield Step(
                x=state.x,
                nit=state.nit,
                state=state,
                stop=lambda x=state.x, to=to: self.distance(x, to),
                metrics={"objective": lambda found=found: self.objective(found)},
                counts={"transports": (state.nit + 1) * len(self.clouds)},
            )
            state = FreeSupportState(state.nit + 1, to, self.xp.concat([u.potentials[1] for u in found]))

    def objective(self, found: list[TransportResult]) -> float:
        """The weighted sum of the transport costs."""
        return math.fsum(share * u.value for share, u in zip(self.parts, found, strict=True))

    def finish(self, step: Step) -> dict[str, Any]:
        """The answer and its certificate."""
        found = self.transports(step.state)
        error = float(self.distance(step.state.x, self.moved(found)))
        sound = all(u.success for u in found)
        return {
            "certificate": Certificate(
                "stationarity",
                error,
                tol=self.tol,
                residual=0.0 if sound else math.inf,
                note="" if sound else "a transport was not solved",
            ),
            "x": step.state.x,
            "fun": self.objective(found),
            "plans": tuple(u.plan for u in found),
        }
