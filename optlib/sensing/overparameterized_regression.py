"""Linear regression by a deep linear map: more factors than needed can make gradient descent faster."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, kernel, linalg, random, supports
from optlib.sensing._end_to_end import balanced_curvature


class RegressionState(NamedTuple):
    """State of `overparameterized_regression`.

    Attributes
    ----------
    w : array, shape (d,)
        The first factor; the whole vector if the end-to-end rule is followed.
    scales : array
        The other factors, numbers; empty if the end-to-end rule is followed.
    nit : int
        Iterations.
    """

    w: Array
    scales: Array
    nit: int


@kernel(numba="optlib.sensing._deep_numba:regression_steps", match="iterate")
def regression_steps(
    X: Array, y: Array, w: Array, scales: Array, power: float, depth: int, eta: float, count: int, *, xp: Any
) -> tuple[Array, Array]:
    """Gradient steps on ``mean |X w - y|^power / power``: on all factors of w, or on w by the end-to-end rule.

    Parameters
    ----------
    X : array, shape (n, d)
    y : array, shape (n,)
    w : array, shape (d,)
    scales : array, shape (depth - 1,) or (0,)
        The other factors; empty for the end-to-end rule.
    power : float
    depth : int
    eta : float
    count : int
        Number of steps.
    xp : module

    Returns
    -------
    w, scales : array
    """
    for _ in range(count):
        product = xp.prod(scales)
        g = lp_gradient(X, y, product * w, power, xp=xp)
        slope = xp.sum(g * w)
        if scales.shape[0]:
            others = [xp.prod(scales[:j]) * xp.prod(scales[j + 1 :]) for j in range(scales.shape[0])]
            w, scales = w - eta * product * g, scales - eta * slope * xp.stack(others)
        elif depth == 1:
            w = w - eta * g
        else:
            square = xp.sum(w * w)
            pull = (depth - 1) * slope / xp.where(square > 0, square, xp.ones_like(square))
            w = w - eta * square ** (1.0 - 1.0 / depth) * (g + pull * w)
    return w, scales


def lp_gradient(X: Array, y: Array, w: Array, power: float, *, xp: Any) -> Array:
    """Derivative of ``mean |X w - y|^power / power``."""
    r = X @ w - y
    weight = r if power == 2.0 else xp.abs(r) ** (power - 1.0) * xp.sign(r)
    return (weight @ X) / X.shape[0]


def lp_loss(X: Array, y: Array, w: Array, power: float, *, xp: Any) -> Array:
    """``mean |X w - y|^power / power``."""
    return xp.mean(xp.abs(X @ w - y) ** power) / power


@supports(backends=("numpy", "cupy", "torch", "strict"))
def overparameterized_regression(
    X: Any,
    y: Any,
    *,
    depth: int = 2,
    power: float = 2.0,
    dynamics: str = "product",
    alpha: float = 1e-2,
    step: float | None = None,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 100,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> Result:
    r"""Fit a linear regression whose coefficients are a vector times several numbers, by gradient descent.

    Minimises ``mean |X w - y|^p / p`` over ``w = w_1 a_2 ... a_N``. The extra factors add
    nothing that could be fitted; they change the path.

    Parameters
    ----------
    X : array, shape (n, d)
        Data, a row each.
    y : array, shape (n,)
        Responses.
    depth : int
        Number N of factors; 1 is gradient descent.
    power : float
        The power p > 1 of the loss.
    dynamics : {"product", "layers"}
        The end-to-end rule on w, or gradient descent on the factors themselves. They agree for small steps.
    alpha : float
        Norm of the random start.
    step : float, optional
        Step size. By default one over an estimate of the largest curvature on the way, which is safe and slow.
    init : array of shape (d,), Result or state, optional
        Where to start, or a result to continue. Zero is a stationary point if ``depth > 1``.
    tol : float or None
        Tolerance of the gradient in w relative to that at zero. None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`; the history has ``fun``.
    rng : seed or Generator, optional
        Of the random start.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    Result
        ``x`` is w, ``layers`` the pair of the first factor and the others (none of them for ``"product"``).

    Raises
    ------
    TypeError, ValueError
        For invalid input.

    Notes
    -----
    Stopping: norm of the gradient in w at most ``tol`` times its norm at ``w = 0``. The problem is convex in w, so that
    this certifies the fit, however it was found.

    Cost: one pass over X an iteration.

    With ``u = w / |w|`` the rule is ``w <- w - step |w|^{2 - 2/N} (g + (N - 1) (u'g) u)``: a step size that grows with
    the size of w, and momentum along w. For p = 4 and responses of different size, two factors took 2.5 to 5 times and
    three 3 to 6 times fewer iterations than one, each with its best step of a grid; for p = 2 they take more. The gain
    rests on a step at the edge of stability and a small start, which have to be searched for: to fit a regression, use
    a second-order method.

    References
    ----------
    S. Arora, N. Cohen, E. Hazan, On the optimization of deep networks: implicit acceleration by overparameterization,
    ICML 2018, theorem 1 and claim 2.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import overparameterized_regression
    >>> X = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> overparameterized_regression(X, [1.0, 2.0, 4.0], rng=0).x.round(3)
    array([0.833, 1.5  ])
    """
    xp, device, dtype = check.common(X=X, y=y)
    X = check.array("X", X, xp=xp, ndim=2, dtype=dtype, device=device)
    n, d = X.shape
    if n == 0 or d == 0:
        raise check.error("X", f"shape {(n, d)}", "at least one row and one column")
    y = check.array("y", y, xp=xp, shape=(n,), dtype=dtype, device=device)
    depth = check.scalar("depth", depth, low=1, integer=True)
    power = check.scalar("power", power, low=1.0, low_open=True)
    check.option("dynamics", dynamics, ("product", "layers"))
    alpha = check.scalar("alpha", alpha, low=0.0, low_open=True, fix="zero is a stationary point")
    step = _safe_step(X, y, depth, power, xp) if step is None else check.scalar("step", step, low=0.0, low_open=True)
    start, state = prepare_init(init, RegressionState)
    if state is None:
        if start is None:
            w = random.normal(random.as_generator(rng), (d,), like=X)
            w = w * (alpha / linalg.norm(w, xp=xp))
        else:
            w = check.array("init", start, xp=xp, shape=(d,), dtype=dtype, device=device)
        extra = depth - 1 if dynamics == "layers" else 0
        size = linalg.norm(w, xp=xp) ** (1.0 / depth)
        scales = xp.ones((extra,), dtype=dtype, device=device) * size
        if extra:
            w = w / xp.where(size > 0, size, xp.ones_like(size)) ** extra
        state = RegressionState(w, scales, 0)
    scale = float(linalg.norm(lp_gradient(X, y, xp.zeros_like(X[0, :]), power, xp=xp), xp=xp)) or 1.0

    def gradient_norm(w: Array) -> Array:
        return linalg.norm(lp_gradient(X, y, w, power, xp=xp), xp=xp)

    def steps(state: RegressionState) -> Steps:
        w, scales, nit = state
        while True:
            v = xp.prod(scales) * w
            budget = yield Step(
                v, nit, RegressionState(w, scales, nit),
                stop=lambda v=v: gradient_norm(v) / scale,
                metrics={"fun": lambda v=v: lp_loss(X, y, v, power, xp=xp)},
                counts={"passes": nit},
            )  # fmt: skip
            w, scales = regression_steps(X, y, w, scales, power, depth, step, budget, xp=xp)
            nit += budget

    def finish(last: Step) -> dict[str, Any]:
        certificate = Certificate("stationarity", float(gradient_norm(last.x)), scale=scale, tol=tol)
        fun = float(lp_loss(X, y, last.x, power, xp=xp))
        return {"certificate": certificate, "fun": fun, "layers": (last.state.w, last.state.scales)}

    return run(
        steps, state=state, like=X, xp=xp, method="overparameterized_regression", finish=finish, tol=tol,
        problem=(X, y, depth, power, dynamics, step), maxiter=maxiter, check_every=check_every, callback=callback,
        record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


def _safe_step(X: Array, y: Array, depth: int, power: float, xp: Any) -> float:
    """One over the curvature of a balanced product of the size of the least-squares fit, at residuals as large as y."""
    fit = float(linalg.norm(linalg.lstsq(X, y, xp=xp), xp=xp))
    top = float(linalg.svd(X, xp=xp)[1][0]) ** 2 / X.shape[0]
    largest = float(xp.max(xp.abs(y)))
    curvature = top * max(power - 1.0, 1.0) * (largest ** (power - 2.0) if largest > 0 else 1.0)
    return 1.0 / (curvature * (balanced_curvature(fit, depth) or 1.0) or 1.0)
