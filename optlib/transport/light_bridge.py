"""The light Schroedinger bridge: dynamic entropic transport in closed form, by a mixture of Gaussians."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Result, Status, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, array_namespace, asarray_like, random, special, supports, to_numpy
from optlib.transport import _descent as descent
from optlib.transport._seeding import distant
from optlib.transport.cost import as_points


class LightBridge:
    r"""Schroedinger bridge between two clouds of points whose potential is a mixture of Gaussians.

    The bridge is the random motion ``X_t``, ``0 <= t <= 1``, from the law of ``x`` to the law of ``y`` that is closest
    to Brownian motion of variance ``reg t``. Its end points are coupled by the entropic plan for the cost
    ``|x - y|^2 / 2``. With the potential ``v(y) = sum_k alpha_k N(y; r_k, reg S_k)`` everything has a closed form:

    ``pi(y | x) = sum_k w_k(x) N(y; r_k + S_k x, reg S_k)``, ``w_k(x) ~ alpha_k exp((x' S_k x + 2 r_k' x) / (2 reg))``.

    Parameters
    ----------
    components : int
        Number K of Gaussians; the ``S_k`` are diagonal.
    reg : float
        Variance > 0 of the Brownian motion at time 1, in units of the squared distance. It is twice as large as the
        ``reg`` that gives the same plan for ``PointCloud(x, y)``, whose cost is not halved.
    floor : float
        Least variance of a component, in units of the variance of the targets in the same coordinate. Without it the
        likelihood of a sample has no maximum: a component may shrink onto a point.

    Attributes
    ----------
    log_alpha_ : array, shape (K,)
        Logarithms of the weights, those of a sum of one.
    r_, S_ : array, shape (K, d)
        Centres and diagonals, of the problem in which both clouds have mean zero.
    source_mean_, target_mean_ : array, shape (d,)
        The means.
    result_ : Result
        What `fit` has to report: ``fun``, ``certificate``, ``history``, ``state``.

    See Also
    --------
    optlib.transport.sinkhorn : The same plan on the points of the samples only, without a choice of components.
    optlib.transport.MongeMap : A map in the place of a random motion.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import LightBridge
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(500, 2)), 3.0 + rng.normal(size=(500, 2))
    >>> bridge = LightBridge(1, reg=0.1).fit(x, y, rng=0)
    >>> bridge.result_.success
    True
    >>> bool(np.allclose(np.mean(bridge.transform(x), axis=0), np.mean(y, axis=0)))
    True
    """

    def __init__(self, components: int = 10, *, reg: float, floor: float = 1e-3) -> None:
        self.components = check.scalar("components", components, low=1, integer=True)
        self.reg = check.scalar("reg", reg, low=0.0, low_open=True, fix="pass e.g. 0.1 times the squared distance")
        self.floor = check.scalar("floor", floor, low=0.0, high=1.0, low_open=True, high_open=True)

    @supports(backends=("numpy", "cupy", "torch", "strict"))
    def fit(
        self,
        x: Any,
        y: Any,
        *,
        init: Any = None,
        tol: float | str | None = "auto",
        maxiter: int = 2000,
        check_every: int = 10,
        callback: Callable[..., Any] | None = None,
        record: bool | str = True,
        max_time: float | None = None,
        disp: int = 0,
        rng: Any = None,
        checkpoint: Any = None,
    ) -> "LightBridge":
        r"""Fit the mixture to samples of both ends.

        Minimises ``L = mean_x log c(x) - mean_y log v(y)`` with ``c(x) = sum_k alpha_k exp((x' S_k x + 2 r_k' x) /
        (2 reg))``: for large samples the relative entropy of the bridge to the true one, up to a constant.

        Parameters
        ----------
        x, y : array, shapes (n, d) and (m, d)
            Samples of the two ends; the numbers of points may differ.
        init : LightBridge, Result or state, optional
            A bridge of as many components, fitted to other samples or with another ``reg``, to start from; or a result
            of the same problem to continue.
        tol : float, "auto" or None
            Stop when the norm of the gradient is at most this. ``"auto"`` is 1e-3, and 1e-2 for float32; None runs
            ``maxiter`` iterations.
        maxiter : int
            Largest number of iterations.
        check_every, callback, record, max_time, disp : optional
            See `optlib._core.run`.
        rng : seed or Generator, optional
            Chooses the first centres among the targets.
        checkpoint : path, optional
            File to save the state to, and to continue from.

        Returns
        -------
        LightBridge
            The estimator itself; ``result_`` has the report. Its ``fun`` is L, in nats per sample.

        Raises
        ------
        TypeError, ValueError
            For invalid input.

        Notes
        -----
        *Method.* A shift of either cloud and a scaling of a coordinate change the problem only by a change of
        variables. It is solved in those in which both means are zero, the targets have variance one in each coordinate
        and ``reg`` is one, by L-BFGS with exact gradients over ``log alpha``, ``r`` and ``log(S - floor)``. The first
        centres are targets that are far from each other (k-means++); weights and variances begin at those of the bridge
        between two Gaussians.

        *Stopping.* The Euclidean norm of the gradient in these variables, in nats. A small one proves a stationary
        point; L is not convex. Held-out samples tell whether K is too large: compare `score`.

        *Cost.* An evaluation of L with its gradient is eight products of n x d, m x d and d x K matrices and (n + m) K
        exponentials; an iteration takes one or two. Memory O((n + m) (d + K)).

        *Where not to use it.* For the plan between two given samples `sinkhorn` is exact and has no components to
        choose. For ``reg`` far below the squared distance of neighbouring points the motion is a map that a mixture
        approximates by pieces: `MongeMap`.

        References
        ----------
        A. Korotin, N. Gushchin, E. Burnaev, Light Schroedinger bridge, ICLR 2024 (arXiv 2310.01174).
        """
        xp, device, dtype = check.common(x=x, y=y)
        x = as_points("x", x, xp, dtype, device)
        y = as_points("y", y, xp, dtype, device, dimension=x.shape[1])
        if tol == "auto":
            tol = 1e-3 if xp.finfo(dtype).bits == 64 else 1e-2
        problem = _standardised(x, y, self.reg, self.floor)
        start, state = prepare_init(init, descent.Point)
        if not (start is None or isinstance(start, LightBridge)):
            raise check.error("init", type(init).__name__, "a bridge, or a result of the same problem", kind=TypeError)
        if state is None:
            theta = (
                _start(problem, self.components, random.as_generator(rng)) if start is None else start._theta(problem)
            )
            state = descent.at(theta)
        count = self.components * (2 * x.shape[1] + 1)
        if tuple(state.x.shape) != (count,):
            expected = f"{self.components} components in dimension {x.shape[1]}: {count} numbers"
            raise check.error("init", f"{state.x.shape[0]} numbers", expected)

        def finish(step: Step) -> dict[str, Any]:
            value = float(_norm(step.state.grad))
            fun = step.state.value + float(xp.sum(xp.log(problem.unit)))
            return {"fun": fun, "certificate": Certificate("stationarity", value, tol=tol)}

        self.result_ = run(
            lambda state: _steps(state, problem, self.components),
            state=state,
            like=x,
            xp=xp,
            method="light_bridge",
            finish=finish,
            tol=tol,
            maxiter=maxiter,
            check_every=check_every,
            callback=callback,
            record=record,
            max_time=max_time,
            disp=disp,
            checkpoint=checkpoint,
            problem=(x, y, self.components, self.reg, self.floor),
            result_class=Result,
        )
        self.log_alpha_, self.r_, self.S_ = self.result_.x
        self.source_mean_, self.target_mean_ = problem.source_mean, problem.target_mean
        return self

    # -- the plan --

    def transform(self, x: Any) -> Array:
        """Conditional mean of the end point: the entropic map.

        Parameters
        ----------
        x : array, shape (n, d)
            Where the motion begins.

        Returns
        -------
        array, shape (n, d)
            ``E[y | x]``.
        """
        u = self._points(x) - self.source_mean_
        w = self._weights(u)
        return self.target_mean_ + w @ self.r_ + u * (w @ self.S_)

    def sample(self, x: Any, *, rng: Any = None) -> Array:
        """Draw an end point for each starting point.

        Parameters
        ----------
        x : array, shape (n, d)
            Where the motion begins.
        rng : seed or Generator, optional
            Of the draws.

        Returns
        -------
        array, shape (n, d)
            Independent draws of ``pi(y | x)``.
        """
        rng, u = random.as_generator(rng), self._points(x) - self.source_mean_
        xp = array_namespace(u)
        levels = xp.cumulative_sum(self._weights(u), axis=1)
        draws = random.uniform(rng, (u.shape[0], 1), like=u) * levels[:, -1:]
        index = xp.sum(xp.astype(draws >= levels, xp.int64), axis=1)
        r, S = xp.take(self.r_, index, axis=0), xp.take(self.S_, index, axis=0)
        return self.target_mean_ + r + S * u + xp.sqrt(self.reg * S) * random.normal(rng, tuple(u.shape), like=u)

    def log_potential(self, y: Any) -> Array:
        """Logarithm of the adjusted potential ``v``, normalised to a mixture of the centred problem.

        Parameters
        ----------
        y : array, shape (m, d)
            Points of the space of the targets.

        Returns
        -------
        array, shape (m,)
            ``log v(y)``, so that ``pi(y | x) = exp(<x, y> / reg) v(y) / c(x)``.
        """
        y = self._points(y, "y")
        xp = array_namespace(y)
        logits = _gaussian(y - self.target_mean_, self.log_alpha_, self.r_, self.reg * self.S_, xp)
        return special.logsumexp(logits, axis=1, xp=xp) - (y @ self.source_mean_) / self.reg

    def score(self, x: Any, y: Any) -> float:
        """How well the bridge fits other samples: minus the objective, in nats per sample.

        Parameters
        ----------
        x, y : array, shapes (n, d) and (m, d)
            Samples of both ends, best those held out.

        Returns
        -------
        float
            Larger is better; comparable between bridges of the same ``reg`` on the same samples.
        """
        u, w = self._points(x) - self.source_mean_, self._points(y, "y") - self.target_mean_
        xp = array_namespace(u, w)
        log_c = special.logsumexp(self._logits(u), axis=1, xp=xp)
        log_v = special.logsumexp(_gaussian(w, self.log_alpha_, self.r_, self.reg * self.S_, xp), axis=1, xp=xp)
        # the objective of the problem in which these samples, not those of the fit, have means zero
        shift = xp.sum(xp.mean(u, axis=0) * xp.mean(w, axis=0)) / self.reg
        return float(xp.mean(log_v) - xp.mean(log_c) + shift)

    # -- the motion --

    def drift(self, x: Any, t: float) -> Array:
        """Drift ``g`` of the motion ``dX = g(X, t) dt + sqrt(reg) dW``.

        Parameters
        ----------
        x : array, shape (n, d)
            Positions at time ``t``.
        t : float
            Time, ``0 <= t < 1``.

        Returns
        -------
        array, shape (n, d)
            ``reg`` times the gradient of the logarithm of the potential at time ``t``.
        """
        t = check.scalar("t", t, low=0.0, high=1.0, high_open=True, fix="the motion has arrived at time 1")
        z = self._points(x) - (1.0 - t) * self.source_mean_ - t * self.target_mean_
        return self.target_mean_ - self.source_mean_ + self._centred_drift(z, t)

    def sample_path(self, x: Any, times: Any = 50, *, method: str = "exact", rng: Any = None) -> Array:
        """Draw the motion from each starting point.

        Parameters
        ----------
        x : array, shape (n, d)
            Where the motion begins.
        times : int or sequence of float
            Number of equal time steps, or increasing times from 0 to 1.
        method : {"exact", "euler"}
            End points drawn first and Brownian bridges to them, exact at the given times; or the Euler-Maruyama
            discretisation of the stochastic differential equation.
        rng : seed or Generator, optional
            Of the draws.

        Returns
        -------
        array, shape (times, n, d)
            Positions at all times; the first is ``x``.
        """
        check.option("method", method, ("exact", "euler"))
        times, rng, x = _times(times), random.as_generator(rng), self._points(x)
        xp = array_namespace(x)
        end = self.sample(x, rng=rng) if method == "exact" else None
        path = [x]
        for now, then in pairwise(times):
            step, noise = then - now, random.normal(rng, tuple(x.shape), like=x)
            if end is None:
                x = x + step * self.drift(x, now) + math.sqrt(self.reg * step) * noise
            else:
                share = step / (1.0 - now)
                x = x + share * (end - x) + math.sqrt(self.reg * share * (1.0 - then)) * noise
            path.append(x)
        return xp.stack(path)

    # -- formulas of the centred problem --

    def _logits(self, u: Array) -> Array:
        r, S = self.r_, self.S_
        return self.log_alpha_ + ((0.5 * u * u) @ S.T + u @ r.T) / self.reg

    def _weights(self, u: Array) -> Array:
        return special.softmax(self._logits(u), axis=1, xp=array_namespace(u))

    def _centred_drift(self, z: Array, t: float) -> Array:
        """``(E[y | X_t = z] - z) / (1 - t)``: component k is Gaussian with variance ``reg t v_k``, v = 1 - t + t S_k.

        Of ``z`` given k at time t the density is ``N(z; t r_k, reg t v_k)`` by Bayes' formula up to a factor without k.
        Near ``t = 0`` this factor is taken out, since all densities become the same.
        """
        xp, rest = array_namespace(z), 1.0 - t
        r, S = self.r_, self.S_
        v = rest + t * S
        log_v = 0.5 * xp.sum(xp.log(v), axis=1)
        if t < 0.5:
            exponent = (0.5 / rest) * ((z * z) @ (S / v).T) + z @ (r / v).T - 0.5 * t * xp.sum(r * r / v, axis=1)
        else:
            exponent = -(0.5 / t) * ((z * z) @ (1.0 / v).T - (2.0 * t) * (z @ (r / v).T))
            exponent = exponent - 0.5 * t * xp.sum(r * r / v, axis=1)
        w = special.softmax(self.log_alpha_ - log_v + exponent / self.reg, axis=1, xp=xp)
        # E[y | z, k] - z = (r_k + (S_k - 1) z) (1 - t) / v_k
        return w @ (r / v) + z * (w @ ((S - 1.0) / v))

    def _theta(self, problem: "_Problem") -> Array:
        """The variables of the mixture in the coordinates of another problem."""
        self._points(problem.x)
        xp, unit = array_namespace(problem.x), problem.unit
        least = 1e-3 * problem.floor
        free = xp.maximum(self.S_ * (problem.reg / unit**2) - problem.floor, xp.full_like(self.S_, least))
        return xp.concat([self.log_alpha_, xp.reshape(self.r_ / unit, (-1,)), xp.reshape(xp.log(free), (-1,))])

    def _points(self, x: Any, name: str = "x") -> Array:
        if not hasattr(self, "r_"):
            raise check.error("LightBridge", "an estimator that was not fitted", "a fitted one", "call fit(x, y)")
        xp, device, _ = check.common(r_=self.r_, **{name: x})
        return as_points(name, x, xp, self.r_.dtype, device, dimension=self.r_.shape[1])

    def __repr__(self) -> str:
        return f"LightBridge({self.components}, reg={self.reg:g}, floor={self.floor:g})"


# -- fitting, in standardised variables --


class _Problem(NamedTuple):
    """Samples with means zero, scaled so that targets have variance one and ``reg`` is one; squares; what was done."""

    x: Array
    x2: Array
    y: Array
    y2: Array
    floor: float
    unit: Array  # of the targets in each coordinate
    reg: float
    source_mean: Array
    target_mean: Array


def _standardised(x: Array, y: Array, reg: float, floor: float) -> _Problem:
    xp = array_namespace(x, y)
    source_mean, target_mean = xp.mean(x, axis=0), xp.mean(y, axis=0)
    x, y = x - source_mean, y - target_mean
    unit = xp.max(xp.abs(y), axis=0)  # first, so that squares do not overflow
    unit = xp.where(unit > 0, unit, xp.ones_like(unit))
    unit = unit * xp.sqrt(xp.mean((y / unit) ** 2, axis=0))
    unit = xp.where(unit > 0, unit, xp.full_like(unit, math.sqrt(reg)))  # a coordinate in which nothing varies
    x, y = x * (unit / reg), y / unit
    return _Problem(x, x * x, y, y * y, floor, unit, reg, source_mean, target_mean)


def _split(theta: Array, components: int, d: int, xp: Any) -> tuple[Array, Array, Array]:
    k = components
    return theta[:k], xp.reshape(theta[k : k + k * d], (k, d)), xp.reshape(theta[k + k * d :], (k, d))


def _gaussian(y: Array, log_alpha: Array, r: Array, variance: Array, xp: Any) -> Array:
    """``log(alpha_k N(y; r_k, variance_k))``, shape (m, K)."""
    inverse = 1.0 / variance
    square = (y * y) @ inverse.T - 2.0 * (y @ (r * inverse).T) + xp.sum(r * r * inverse, axis=1)
    size = xp.sum(xp.log((2.0 * math.pi) * variance), axis=1)
    return log_alpha - 0.5 * (square + size)


def _loss(theta: Array, problem: _Problem, components: int) -> tuple[Array, Array]:
    """``mean log c(x) - mean log v(y)`` and its gradient in ``log alpha``, ``r`` and ``log(S - floor)``."""
    x, x2, y, y2, floor = problem[:5]
    xp = array_namespace(theta)
    log_alpha, r, logs = _split(theta, components, x.shape[1], xp)
    free = xp.exp(logs)
    S = floor + free
    inverse = 1.0 / S
    top = log_alpha + 0.5 * (x2 @ S.T) + x @ r.T
    log_c = special.logsumexp(top, axis=1, xp=xp)
    bottom = _gaussian(y, log_alpha, r, S, xp)
    log_v = special.logsumexp(bottom, axis=1, xp=xp)
    q = xp.exp(top - log_c[:, None]) / x.shape[0]
    p = xp.exp(bottom - log_v[:, None]) / y.shape[0]
    mass = xp.sum(p, axis=0)
    first, second = p.T @ y, p.T @ y2
    shift = first - mass[:, None] * r  # sums of p (y - r), and of p (y - r)^2
    spread = second - 2.0 * r * first + mass[:, None] * r * r
    d_alpha = xp.sum(q, axis=0) - mass
    d_r = q.T @ x - shift * inverse
    d_S = 0.5 * (q.T @ x2) + 0.5 * inverse * (mass[:, None] - spread * inverse)
    grad = xp.concat([d_alpha, xp.reshape(d_r, (-1,)), xp.reshape(d_S * free, (-1,))])
    return xp.mean(log_c) - xp.mean(log_v), grad


def _start(problem: _Problem, components: int, rng: np.random.Generator) -> Array:
    """Distant targets as centres; weights and variances as for two Gaussians."""
    x, y = (np.asarray(to_numpy(u), dtype=np.float64) for u in (problem.x, problem.y))
    centres = np.zeros((1, y.shape[1]))
    if components > 1:  # no two alike
        centres = distant(y, components, rng) + 1e-3 * rng.standard_normal((components, y.shape[1]))
    size = np.sqrt(np.mean(x * x, axis=0)) + 1e-12  # of the sources, when that of the targets is one
    S = 2.0 / (1.0 + np.sqrt(1.0 + 4.0 * size**2))  # solves S + size^2 S^2 = 1
    nearest = np.min(np.sum(y * y, axis=1)[:, None] - 2.0 * y @ centres.T + np.sum(centres**2, axis=1), axis=1)
    S = np.clip(np.minimum(S, np.mean(nearest) / y.shape[1] if components > 1 else S), 2.0 * problem.floor, None)
    log_alpha = -0.5 * (centres**2) @ size
    logs = np.log(np.tile(S - problem.floor, (components, 1)))
    return asarray_like(np.concatenate([log_alpha, centres.ravel(), logs.ravel()]), problem.x)


def _steps(state: descent.Point, problem: _Problem, components: int) -> Steps:
    def evaluate(theta: Array, _: Any) -> tuple[Array, Array, None]:
        return *_loss(theta, problem, components), None

    point, status = descent.evaluated(evaluate, state), None
    while True:
        yield Step(
            x=_mixture(point.x, problem, components),
            nit=point.nit,
            state=point,
            stop=lambda grad=point.grad: _norm(grad),
            status=status,
            counts={"evaluations": point.evaluations},
        )
        point, moved = descent.advance(evaluate, point)
        status = None if moved else Status.STALLED


def _mixture(theta: Array, problem: _Problem, components: int) -> tuple[Array, Array, Array]:
    """Weights, centres and diagonals in the units of the data."""
    xp, unit = array_namespace(theta), problem.unit
    log_alpha, r, logs = _split(theta, components, unit.shape[0], xp)
    log_alpha = log_alpha - special.logsumexp(log_alpha, axis=0, xp=xp)
    return log_alpha, unit * r, (unit * unit / problem.reg) * (problem.floor + xp.exp(logs))


def _norm(grad: Array) -> Array:
    xp = array_namespace(grad)
    return xp.sqrt(xp.sum(grad * grad))


def _times(times: Any) -> list[float]:
    if isinstance(times, (int, np.integer)) and not isinstance(times, bool):
        count = check.scalar("times", times, low=1, integer=True)
        return [k / count for k in range(count + 1)]
    grid = [float(t) for t in np.asarray(to_numpy(times), dtype=np.float64).ravel()]
    if len(grid) < 2 or grid[0] != 0.0 or grid[-1] != 1.0 or not all(s < t for s, t in pairwise(grid)):
        raise check.error("times", f"{len(grid)} times", "a number of steps, or increasing times from 0 to 1")
    return grid
