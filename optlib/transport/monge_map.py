"""Transport maps fitted to two samples with the Monge gap."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, array_namespace, supports
from optlib.transport import _descent as descent
from optlib.transport.cost import PointCloud, as_points
from optlib.transport.maps import LinearMaps, as_map
from optlib.transport.monge_gap import CHECK_EVERY, COSTS, MongeGap, cost_gradient, monge_gap
from optlib.transport.sinkhorn import sinkhorn

FITTING, GAP = 0.1, 0.01  # default regularisations in units of the mean cost


class Potentials(NamedTuple):
    """Column potentials of the three entropic problems, from which they are solved again at nearby maps.

    Attributes
    ----------
    fit : array, shape (m,)
        From the images to the targets.
    self : array, shape (n,)
        From the images to the images.
    gap : array, shape (n,)
        From the sources to the images.
    """

    fit: Array
    self: Array
    gap: Array


class MongeMap:
    r"""A map from one cloud of points to another one that moves mass at the least cost.

    Minimises ``S(T(x), y) + weight M(x, T(x))`` over the parameters of ``T``: the Sinkhorn divergence ``S`` says how
    far the images are from the targets, and the Monge gap ``M`` (see `monge_gap`) how far the map is from an optimal
    one between the sources and their images.

    Parameters
    ----------
    model : {"affine", "fourier"}, FourierMap, torch.nn.Module or JaxMap
        The family of maps: affine; with random features, see `FourierMap`; or a network. Networks are fitted by the
        same full-batch descent, with the derivatives of their own library.
    weight : float
        Weight >= 0 of the gap.
    reg, gap_reg : float, optional
        Strength of the entropy in ``S`` and in ``M``, in units of the cost; by default 10 % and 1 % of the mean cost
        between sources and targets.
    cost : {"sqeuclidean", "euclidean"}
        The cost of moving mass.

    Attributes
    ----------
    coef_, intercept_ : array, shapes (d, d) and (d,)
        Of affine maps: ``T(x) = coef_ @ x + intercept_`` (with Fourier features: the affine part).
    reg_, gap_reg_ : float
        The strengths in use.
    result_ : Result
        What `fit` has to report. Beside ``fun``, ``certificate`` and ``history`` it has ``fitting_loss``, the
        divergence; ``monge_gap``, the entropic gap; and ``monge_gap_bounds``, between which the gap without entropy
        lies, proven.

    See Also
    --------
    optlib.transport.LightBridge : A random motion in the place of a map.
    optlib.transport.EntropicPlan.at : The entropic map of a plan that was solved for, without a fit.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import MongeMap
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> fitted = MongeMap().fit(x, x @ np.diag([2.0, 0.5]) + 1.0)
    >>> fitted.result_.success
    True
    >>> bool(np.max(np.abs(fitted.coef_ - np.diag([2.0, 0.5]))) < 0.05)
    True
    """

    def __init__(
        self,
        model: Any = "affine",
        *,
        weight: float = 1.0,
        reg: float | None = None,
        gap_reg: float | None = None,
        cost: str = "sqeuclidean",
    ) -> None:
        self.model = as_map(model)
        self.weight = check.scalar("weight", weight, low=0.0)
        self.reg = None if reg is None else check.scalar("reg", reg, low=0.0, low_open=True)
        self.gap_reg = None if gap_reg is None else check.scalar("gap_reg", gap_reg, low=0.0, low_open=True)
        self.cost = check.option("cost", cost, COSTS)

    @supports(backends=("numpy", "cupy", "torch", "strict"))
    def fit(
        self,
        x: Any,
        y: Any,
        *,
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
    ) -> "MongeMap":
        r"""Fit the map to samples of both sides.

        Parameters
        ----------
        x, y : array, shapes (n, d) and (m, d)
            Sources and targets; the numbers of points may differ.
        init : (array, array), array (p,), Result or state, optional
            Matrix (d, d) and vector (d,) of the affine map to start from, or the parameters of a network; or a result
            of the same problem to continue. By default the identity, or the parameters that the network has.
        tol : float, "auto" or None
            Stop when the norm of the gradient, in units of the mean cost over the spread of the targets, is at most
            this. ``"auto"`` is 1e-4, and 1e-2 for float32; None runs ``maxiter`` iterations.
        maxiter : int
            Largest number of iterations.
        check_every, callback, record, max_time, disp : optional
            See `optlib._core.run`.
        rng : seed or Generator, optional
            Of the Fourier features: give the same one to continue.
        checkpoint : path, optional
            File to save the state to, and to continue from.

        Returns
        -------
        MongeMap
            The estimator itself; ``result_`` has the report.

        Raises
        ------
        TypeError, ValueError
            For invalid input.

        Notes
        -----
        *Method.* L-BFGS on all points at once. The plans of the three entropic problems are held fixed in the gradient
        (Danskin), which is then pulled back through the map; each problem starts from its potentials at the last map.
        Affine and Fourier maps have orthonormal coordinates on the sources, so that the shape of the cloud does not
        slow the descent.

        *Stopping.* The norm of the gradient in these coordinates, relative to the mean cost divided by the root mean
        square distance of the targets from their mean. A small one proves a stationary point; the objective is not
        convex. How good the map is, ``fitting_loss`` and ``monge_gap_bounds`` say.

        *Cost.* Three entropic problems of n x m, n x n and n x n per evaluation, each some tens of passes from a warm
        start; an iteration takes one or two evaluations.

        *Where not to use it.* With squared distances and Gaussian-like clouds the closed form of Gaussian transport is
        as good as an affine fit. Without a need for a formula between the points, ``solve(...).plan.at(x)`` is a map,
        too. A large ``gap_reg`` biases the map.

        References
        ----------
        T. Uscidda, M. Cuturi, The Monge gap: a regularizer to learn all transport maps, ICML 2023 (arXiv 2302.04953).
        """
        xp, device, dtype = check.common(x=x, y=y)
        x = as_points("x", x, xp, dtype, device)
        y = as_points("y", y, xp, dtype, device, dimension=x.shape[1])
        double = xp.finfo(dtype).bits == 64
        if tol == "auto":
            tol = 1e-4 if double else 1e-2
        mean = _mean_cost(x, y, self.cost)
        if not mean > 0.0:
            raise check.error("x, y", "clouds of one and the same point", "something to move")
        centre = xp.mean(y, axis=0)
        spread = float(xp.sqrt(xp.mean(xp.sum((y - centre) ** 2, axis=1)))) or mean
        self.reg_ = FITTING * mean if self.reg is None else self.reg
        self.gap_reg_ = GAP * mean if self.gap_reg is None else self.gap_reg
        maps = self.model.bind(x, mean, rng)
        start, state = prepare_init(init, descent.Point)
        if state is None:
            theta = maps.start
            if isinstance(maps, LinearMaps) and isinstance(start, (tuple, list)) and len(start) == 2:
                shapes = (x.shape[1], x.shape[1]), (x.shape[1],)
                parts = (
                    check.array("init", u, xp=xp, shape=s, dtype=dtype, device=device)
                    for u, s in zip(start, shapes, strict=True)
                )
                theta = maps.parameters(*parts)
            elif start is not None:
                theta = check.array("init", start, xp=xp, shape=tuple(theta.shape), dtype=dtype, device=device)
            zeros = xp.zeros(x.shape[0], dtype=dtype, device=device)
            state = descent.at(theta, Potentials(xp.zeros(y.shape[0], dtype=dtype, device=device), zeros, zeros))
        elif state.x.shape != maps.start.shape:
            raise check.error("init", f"{state.x.shape[0]} parameters", f"{maps.start.shape[0]} parameters")
        objective = _Objective(self, maps, x, y, tol=1e-7 if double else 1e-4)
        scale = mean / spread

        def finish(step: Step) -> dict[str, Any]:
            terms = objective.terms(step.state.x, step.state.extra)
            return {
                "fun": step.state.value,
                "fitting_loss": terms.loss,
                "monge_gap": terms.gap.value,
                "monge_gap_bounds": terms.gap.bounds,
                "certificate": Certificate("stationarity", float(_norm(step.state.grad)), scale=scale, tol=tol),
            }

        self.result_ = run(
            lambda state: _steps(state, objective, scale),
            state=state,
            like=x,
            xp=xp,
            method="monge_map",
            finish=finish,
            tol=tol,
            maxiter=maxiter,
            check_every=check_every,
            callback=callback,
            record=record,
            max_time=max_time,
            disp=disp,
            checkpoint=checkpoint,
            problem=(x, y, repr(self.model), maps.start, self.weight, self.reg_, self.gap_reg_, self.cost),
            result_class=Result,
            message=f"{self.model}, reg {self.reg_:.3g}, gap_reg {self.gap_reg_:.3g}",
        )
        self._maps = maps
        if isinstance(maps, LinearMaps):
            self.coef_, self.intercept_ = maps.affine(self.result_.x)
        else:
            maps.keep(self.result_.x)
        return self

    def transform(self, x: Any) -> Array:
        """Images of points.

        Parameters
        ----------
        x : array, shape (n, d)
            Points.

        Returns
        -------
        array, shape (n, d)
            ``T(x)``.
        """
        x = self._points("x", x)
        return self._maps.vjp(self.result_.x, x)[0]

    def monge_gap(self, x: Any) -> MongeGap:
        """Monge gap of the map on other points.

        Parameters
        ----------
        x : array, shape (n, d)
            Points.

        Returns
        -------
        MongeGap
            With ``bounds`` between which the gap without entropy lies, proven.
        """
        return monge_gap(x, self.transform(x), reg=self.gap_reg_, cost=self.cost)

    def score(self, x: Any, y: Any) -> float:
        """How close the images of other points are to other targets.

        Parameters
        ----------
        x, y : array, shapes (n, d) and (m, d)
            Points and targets, best those held out.

        Returns
        -------
        float
            Minus the Sinkhorn divergence.
        """
        images, y = self.transform(x), self._points("y", y)

        def half(u: Array, v: Array) -> float:
            return sinkhorn(PointCloud(u, v, self.cost), reg=self.reg_, record=False).dual_value

        return 0.5 * (half(images, images) + half(y, y)) - half(images, y)

    def _points(self, name: str, x: Any) -> Array:
        if not hasattr(self, "result_"):
            raise check.error("MongeMap", "an estimator that was not fitted", "a fitted one", "call fit(x, y)")
        xp, device, _ = check.common(result=self.result_.x, **{name: x})
        return as_points(name, x, xp, self.result_.x.dtype, device)

    def __repr__(self) -> str:
        return f"MongeMap({self.model}, weight={self.weight:g}, cost={self.cost!r})"


class _Terms(NamedTuple):
    """Divergence and gap at a map, the derivative of their sum in the images, the potentials, the pullback."""

    loss: float
    gap: MongeGap
    slope: Array
    potentials: Potentials
    pull: Any


class _Objective:
    """The objective as a function of the parameters."""

    def __init__(self, owner: MongeMap, maps: Any, x: Array, y: Array, tol: float) -> None:
        self.owner, self.maps, self.x, self.y, self.tol = owner, maps, x, y, tol
        self.targets = self.entropic(y, y, None).dual_value

    def entropic(self, u: Array, v: Array, init: Array | None) -> Any:
        cost = PointCloud(u, v, self.owner.cost)
        return sinkhorn(cost, reg=self.owner.reg_, init=init, tol=self.tol, check_every=CHECK_EVERY, record=False)

    def terms(self, theta: Array, potentials: Potentials) -> _Terms:
        """Everything at one map."""
        owner, x, y = self.owner, self.x, self.y
        images, pull = self.maps.vjp(theta, x)
        fit = self.entropic(images, y, potentials.fit)
        own = self.entropic(images, images, potentials.self)
        gap = monge_gap(x, images, reg=owner.gap_reg_, cost=owner.cost, init=potentials.gap, tol=self.tol)
        # the plan of the images with themselves is symmetric: half the derivative is that in one argument
        slope = cost_gradient(fit.plan.T, y, images, owner.cost) - cost_gradient(own.plan, images, images, owner.cost)
        found = Potentials(fit.potentials[1], own.potentials[1], gap.result.potentials[1])
        loss = fit.dual_value - 0.5 * (own.dual_value + self.targets)
        return _Terms(loss, gap, slope + owner.weight * gap.gradient, found, pull)

    def __call__(self, theta: Array, potentials: Potentials) -> tuple[float, Array, Potentials]:
        if not bool(array_namespace(theta).all(array_namespace(theta).isfinite(theta))):
            return math.inf, theta, potentials  # a trial of the line search that went too far
        terms, (penalty, d_penalty) = self.terms(theta, potentials), self.maps.penalty(theta)
        value = terms.loss + self.owner.weight * terms.gap.value + float(penalty)
        return value, terms.pull(terms.slope) + d_penalty, terms.potentials


def _steps(state: descent.Point, objective: _Objective, scale: float) -> Steps:
    point, status = descent.evaluated(objective, state), None
    while True:
        yield Step(
            x=point.x,
            nit=point.nit,
            state=point,
            stop=lambda grad=point.grad: _norm(grad) / scale,
            metrics={"fun": lambda value=point.value: value},
            status=status,
            counts={"evaluations": point.evaluations},
        )
        point, moved = descent.advance(objective, point)
        status = None if moved else Status.STALLED


def _mean_cost(x: Array, y: Array, cost: str) -> float:
    cloud = PointCloud(x, y, cost)
    cloud.bounds()  # refuses an overflow
    xp = cloud.xp
    if cost == "sqeuclidean":
        u, v = cloud.x, cloud.y
        near = xp.mean(xp.sum(u * u, axis=1)) + xp.mean(xp.sum(v * v, axis=1))
        return float(near - 2.0 * xp.sum(xp.mean(u, axis=0) * xp.mean(v, axis=0)))
    return float(xp.mean(cloud.take(range(min(1000, x.shape[0]))).toarray()))


def _norm(grad: Array) -> Array:
    xp = array_namespace(grad)
    return xp.sqrt(xp.sum(grad * grad))
