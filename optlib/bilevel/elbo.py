"""The data-emphasized evidence lower bound: penalties learned on all samples, without validation."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Step, prepare_resume, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, asarray_like, linalg, random, supports, to_numpy
from optlib.backend.scatter import segment_sum
from optlib.bilevel.oracles import Oracles
from optlib.bilevel.result import BilevelResult
from optlib.inner import lbfgs


class ElboState(NamedTuple):
    """State of `elbo`: mean and variances of the posterior, the best for those of the prior and of the noise; value."""

    x: Array
    mean: Array
    variance: Array
    prior: Array
    noise: Array
    loss: Array
    value: Array
    nit: int


@supports(backends=("numpy", "cupy", "torch", "strict"))
def elbo(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    emphasis: float | None = None,
    blocks: Any = None,
    samples: int = 8,
    rng: Any = 0,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> BilevelResult:
    r"""Learn penalties on all samples, by a variational bound that weighs the data up.

    With a likelihood ``p(t | y)``, prior ``y_b ~ N(0, tau_b I)`` for each block b of weights and posterior
    ``y_b ~ N(m_b, sigma_b^2 I)``, it minimises ``J = E[-log p(t | y)] / N + KL(posterior, prior) / (kappa N)``
    over m, sigma and tau; for least squares, ``t ~ N(A y, s^2)``, also over the noise s. ``kappa = 1`` is the evidence
    lower bound, which shrinks models with many more weights D than samples N too much; ``kappa = D / N`` does not.

    Parameters
    ----------
    problem : object
        Without intercept (centre the columns instead), and with one of two oracles: ``regression`` for least squares,
        where all is in closed form (`RidgeProblem`), or ``likelihood`` (`LogisticProblem`, `MultinomialProblem`, own
        ones). Validation samples are not used: pass all samples as training samples.
    x0 : array, optional
        Start of the log penalties; by default ``problem.start()``.
    bounds : (float or array, float or array), optional
        Box of the log penalties; by default ``problem.bounds()``. In closed form only.
    emphasis : float, optional
        The weight kappa > 0 of the data; by default D / N, but at least 1.
    blocks : array of int, shape of x, optional
        Hyperparameters with the same number share a prior. By default each has its own.
    samples : int
        Draws of the posterior for ``likelihood``, even: they come in pairs of opposite signs, and stay the same.
    rng : seed or Generator
        Of the draws.
    init : BilevelResult or ElboState, optional
        A result to continue.
    tol : float or None
        Stop when the derivatives of the least J in ``log tau`` and ``log s^2`` are at most this: a change of a penalty
        by a factor of e then changes it by about that. None runs ``maxiter`` cycles.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    BilevelResult
        ``x`` are the log penalties: ``exp(x) = s^2 / (kappa tau)`` for least squares, and ``w / (kappa N tau)`` where
        the mean of the likelihood has the weight w in f. ``y = m``, for least squares the ridge solution at x;
        ``fun = J``; ``variance, prior, noise`` are ``sigma^2``, ``tau`` (by block) and ``s^2``. ``certificate`` of kind
        ``"stationarity"``: the derivatives of J; a heuristic, because J has other stationary points.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    A cycle minimises J in one variable after the other, with ``F_b = |A_b|_F^2`` and ``R_b`` weights in block b::

        tau_b = (|m_b|^2 + R_b sigma_b^2) / R_b
        s^2 = (|t - A m|^2 + sum_b sigma_b^2 F_b) / N
        m = argmin |A m - t|^2 + sum_b lambda_b |m_b|^2,  lambda_b = s^2 / (kappa tau_b)
        sigma_b^2 = R_b / (kappa F_b / s^2 + R_b / tau_b)

    so that J never rises (while no penalty is at the edge of the box). s^2 is kept above the rounding of the targets.

    With ``likelihood`` the expectation is a mean over the draws, tau is eliminated (``KL = sum_b R_b log(tau_b /
    sigma_b^2) / 2`` at its best), and L-BFGS minimises over m and ``log sigma``.

    Stopping: see ``tol``; with ``likelihood`` the norm of the gradient of J.

    Cost: the singular values of A once, then O(N D) a cycle, for one block; for several a Cholesky factor of the order
    ``min(N, D)`` a cycle. Cycles converge linearly. With ``likelihood``, `samples` gradients of it an iteration.

    Where not to use it: where there are enough samples for validation, `tune` minimises what is wanted.

    References
    ----------
    E. Harvey, M. Petrov, M. C. Hughes, Learning hyperparameters via a data-emphasized variational objective,
    arXiv:2502.01861. The cycle in closed form is this library's own.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import RidgeProblem, elbo
    >>> problem = RidgeProblem.random(20, 5, rng=0, penalty="scalar")
    >>> res = elbo(problem)
    >>> res.success
    True
    """
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    if emphasis is not None:
        emphasis = check.scalar("emphasis", emphasis, low=0.0, low_open=True)
    sampled = not callable(getattr(problem, "regression", None))
    samples, rng = check.scalar("samples", samples, low=2, integer=True), random.as_generator(rng)
    oracles = Oracles(problem, x0, bounds, ("start", "likelihood" if sampled else "regression"), "elbo")
    if sampled:
        half = samples // 2
        z = rng.normal(size=(half, *oracles.y0.shape))
        return _sampled(
            oracles, emphasis, blocks, np.concatenate([z, -z]), init=init, tol=tol, maxiter=maxiter,
            check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
            checkpoint=checkpoint,
        )  # fmt: skip
    xp = oracles.xp
    A, t = problem.regression()
    n, d = A.shape
    like = {"dtype": A.dtype, "device": oracles.start.device}
    group = _groups(blocks, oracles.start, (d,))
    count = int(group.max()) + 1
    index = xp.asarray(group, device=like["device"])
    sizes = xp.asarray(np.bincount(group).astype(float), **like)
    kappa = max(1.0, d / n) if emphasis is None else emphasis
    first = oracles.start
    state = prepare_resume(init, ElboState, "pass a start as `x0`")

    def by_block(u: Array) -> Array:
        return segment_sum(u, index, count, xp=xp)

    def spread(u: Array) -> Array:
        """From blocks to weights."""
        return xp.take(u, index)

    of_x = index if first.shape == (d,) else xp.zeros((1,), dtype=index.dtype, device=like["device"])
    low, high = (by_first(side, of_x, count, xp) for side in (oracles.low, oracles.high))
    lengths = by_block(xp.sum(A * A, axis=0))  # F_b
    floor = 10.0 * float(xp.finfo(A.dtype).eps) * xp.sum(t * t) / n + float(xp.finfo(A.dtype).smallest_normal)
    ridge = _spectral(A, t, xp) if count == 1 else _factored(A, t, spread, xp)

    def best(prior: Array, noise: Array, nit: int) -> ElboState:
        """The state with the minimisers m and sigma of J."""
        mean = ridge(noise / (kappa * prior))
        variance = sizes / (kappa * lengths / noise + sizes / prior)
        r = t - A @ mean
        loss = r @ r + xp.sum(variance * lengths)
        fit = 0.5 * xp.log(2.0 * math.pi * noise) + 0.5 * loss / (noise * n)
        ratio = (by_block(mean * mean) / sizes + variance) / prior
        divergence = 0.5 * xp.sum(sizes * (ratio - 1.0 + xp.log(prior / variance)))
        x = xp.take(xp.log(noise / (kappa * prior)), of_x)
        return ElboState(x, mean, variance, prior, noise, loss, fit + divergence / (kappa * n), nit)

    def wanted(s: ElboState) -> tuple[Array, Array]:
        """The minimisers tau and s^2 of J; penalties stay in their box."""
        noise = xp.maximum(s.loss / n, floor)
        prior = by_block(s.mean * s.mean) / sizes + s.variance
        inverse = noise / kappa
        return xp.minimum(xp.maximum(prior, inverse * xp.exp(-high)), inverse * xp.exp(-low)), noise

    def slope(s: ElboState) -> Array:
        """Largest derivative of the least J in the logarithms of tau and s^2."""
        prior, noise = wanted(s)
        bend = xp.abs(prior / s.prior - 1.0) * sizes / (kappa * n)
        return 0.5 * xp.maximum(xp.max(bend), xp.abs(noise / s.noise - 1.0))

    if state is None:
        noise = xp.maximum(xp.sum(t * t) / n, floor)
        state = best(noise / kappa * xp.exp(-by_first(first, of_x, count, xp)), noise, 0)

    def steps(s: ElboState) -> Steps:
        while True:
            yield Step(
                x=s.x, nit=s.nit, state=s, stop=lambda s=s: slope(s), metrics={"fun": lambda s=s: s.value},
                counts={"cycles": s.nit},
            )  # fmt: skip
            s = best(*wanted(s), s.nit + 1)

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        edge = (s.x <= oracles.low) | (s.x >= oracles.high)
        certificate = Certificate(
            "stationarity", float(slope(s)), tol=None if tol is None else goal, proof=False,
            note="of the data-emphasized bound, not of a validation loss",
        )  # fmt: skip
        return {
            "certificate": certificate, "fun": float(s.value), "y": s.mean, "hypergradient": None,
            "error_bound": None, "at_bounds": int(xp.sum(xp.astype(edge, xp.int32))), "variance": s.variance,
            "prior": s.prior, "noise": float(s.noise),
        }  # fmt: skip

    return run(
        steps, state=state, like=first, xp=xp, method="elbo", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(oracles, first, kappa, group, A, t), result_class=BilevelResult,
        message=f"{count} block{'s' * (count > 1)}, data weighed {kappa:.3g} times",
    )  # fmt: skip


def by_first(u: Array, of_x: Array, count: int, xp: Any) -> Array:
    """From hyperparameters to blocks: the mean over those of a block."""
    total = segment_sum(u, of_x, count, xp=xp)
    return total / segment_sum(xp.ones_like(u), of_x, count, xp=xp)


def _groups(blocks: Any, x: Array, shape: tuple[int, ...]) -> np.ndarray:
    """The block of each weight (flat), numbered from 0: that of its entry, its row, or the only hyperparameter."""
    of_x = tuple(x.shape)
    if blocks is None:
        given = np.arange(math.prod(of_x)).reshape(of_x)
    else:
        given = np.asarray(to_numpy(blocks))
        if given.shape != of_x or given.dtype.kind not in "iu":
            got = f"shape {given.shape} of {given.dtype}"
            raise check.error("blocks", got, f"an integer for each hyperparameter, shape {of_x}")
        given = np.unique(given, return_inverse=True)[1].reshape(of_x)
    rows = given.reshape(*of_x, *(1,) * (len(shape) - len(of_x)))
    return np.broadcast_to(rows, shape).ravel().astype(np.int64)


def _sampled(oracles: Oracles, emphasis: float | None, blocks: Any, z: np.ndarray, **options: Any) -> BilevelResult:
    """The form for any likelihood: L-BFGS on the mean over fixed draws, in m and ``log sigma``."""
    problem, xp, first, shape = oracles.problem, oracles.xp, oracles.start, oracles.y0.shape
    n, d = problem.n_train, math.prod(shape)
    kappa = max(1.0, d / n) if emphasis is None else emphasis
    group = _groups(blocks, first, shape)
    count = int(group.max()) + 1
    index = xp.asarray(group, device=first.device)
    draws = [xp.reshape(asarray_like(one, first), (-1,)) for one in z]
    sizes = asarray_like(np.bincount(group).astype(float), first)
    _, _, weight = problem.likelihood(oracles.y0)
    corner = np.unique(group, return_index=True)[1]  # a weight of each block

    def parts(u: Array) -> tuple[Array, Array, Array]:
        """Mean, standard deviations by block, and the best variances of the prior."""
        mean, sigma = u[:d], xp.exp(u[d:])
        return mean, sigma, segment_sum(mean * mean, index, count, xp=xp) / sizes + sigma * sigma

    def fun(u: Array) -> tuple[Array, Array]:
        """J and its gradient."""
        mean, sigma, prior = parts(u)
        wide = xp.take(sigma, index)
        value = 0.5 * xp.sum(sizes * (xp.log(prior) - 2.0 * xp.log(sigma))) / (kappa * n)
        grad_mean = mean / xp.take(prior, index) / (kappa * n)
        grad_log = sizes * (sigma * sigma / prior - 1.0) / (kappa * n)
        for one in draws:
            loss, grad, _ = problem.likelihood(xp.reshape(mean + wide * one, shape))
            grad = xp.reshape(grad, (-1,)) / len(draws)
            value, grad_mean = value + loss / len(draws), grad_mean + grad
            grad_log = grad_log + segment_sum(grad * wide * one, index, count, xp=xp)
        return value, xp.concat([grad_mean, grad_log])

    spread = xp.reshape(xp.broadcast_to(_rows(first, shape, xp), shape), (-1,))  # x of each weight
    start = xp.take(spread, xp.asarray(corner, device=first.device))
    sigma = 0.5 * (math.log(weight / (kappa * n)) - start)
    found = lbfgs(fun, xp.concat([xp.reshape(oracles.y0, (-1,)), sigma]), **options)
    mean, sigma, prior = parts(found.x)
    penalties = xp.log(weight / (kappa * n * prior))
    of_x = _groups(None, first, shape)
    where = np.unique(of_x, return_index=True)[1]  # a weight of each hyperparameter
    x = xp.reshape(xp.take(penalties, xp.asarray(group[where], device=first.device)), first.shape)
    certificate = replace(found.certificate, proof=False, note=f"of the mean over {len(draws)} draws")
    fields = dict(found) | {
        "x": x, "y": xp.reshape(mean, shape), "method": "elbo", "certificate": certificate, "hypergradient": None,
        "error_bound": None, "at_bounds": int(xp.sum(xp.astype((x <= oracles.low) | (x >= oracles.high), xp.int32))),
        "variance": sigma * sigma, "prior": prior, "noise": None,
        "message": f"{count} block{'s' * (count > 1)}, data weighed {kappa:.3g} times, by L-BFGS; {found.message}",
    }  # fmt: skip
    return BilevelResult(fields)


def _rows(x: Array, shape: tuple[int, ...], xp: Any) -> Array:
    """The hyperparameters with axes of length 1 after their own, up to those of the weights."""
    return xp.reshape(x, (*x.shape, *(1,) * (len(shape) - x.ndim)))


def _spectral(A: Array, t: Array, xp: Any) -> Callable[[Array], Array]:
    """Ridge solutions with one penalty, from the singular value decomposition."""
    U, sizes, V = linalg.svd(A, xp=xp)
    projected = sizes * (U.T @ t)
    return lambda penalty: V.T @ (projected / (sizes * sizes + penalty[0]))


def _factored(A: Array, t: Array, spread: Callable[[Array], Array], xp: Any) -> Callable[[Array], Array]:
    """Ridge solutions with a penalty a block, from a factor of the smaller of both Gram matrices."""
    n, d = A.shape
    eye = xp.eye(min(n, d), dtype=A.dtype, device=t.device)

    def ridge(penalty: Array) -> Array:
        penalty = spread(penalty)
        if d <= n:
            L = linalg.cholesky(A.T @ A + penalty[:, None] * eye, xp=xp, check=False)
            return linalg.cho_solve(L, A.T @ t, xp=xp)
        scaled = A / penalty
        L = linalg.cholesky(scaled @ A.T + eye, xp=xp, check=False)
        return scaled.T @ linalg.cho_solve(L, t, xp=xp)

    return ridge
