"""Gradient descent with a fixed or an adaptive step."""

from collections.abc import Callable
from typing import Any

from optlib._core import Result
from optlib._core import validation as check
from optlib.backend import Array, supports
from optlib.inner._first_order import run_gradient


@supports(backends=("numpy", "cupy", "torch", "strict"))
def gradient_descent(
    fun: Callable[[Array], tuple[Array, Array]],
    x0: Any,
    *,
    init: Any = None,
    step: float | None = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    """Minimise a smooth function by gradient steps.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> value, grad``: a 0-d array and an array of the shape of x.
    x0 : array
        Starting point, of any shape.
    init : Result or FirstOrderState, optional
        A result to continue.
    step : float, optional
        The step of all iterations, for example ``1 / L`` with the Lipschitz constant L of the gradient, or
        ``2 / (L + mu)`` with the strong convexity mu. By default each is found.
    tol : float or None
        Stop when the norm of the gradient is at most this; None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``grad`` is the gradient at ``x``. ``certificate`` of kind ``"stationarity"``: the norm of the gradient.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    With ``step = 1 / L`` and f convex, ``f(x_k) - f* <= L |x_0 - x*|^2 / 2k``; with ``2 / (L + mu)``,
    ``|x_k - x*| <= ((L - mu) / (L + mu))^k |x_0 - x*|``. A step that is found is ``1 / L`` with an estimate of L for
    which the upper model holds; it grows by a ninth after each iteration.

    Stopping: ``|grad| <= tol``.

    Cost of an iteration: one function value with gradient; where the step is found one a trial, and a number to the
    host.

    Where not to use it: `accelerated_gradient` takes the square root of its iterations.

    References
    ----------
    S. Bubeck, Convex optimization: algorithms and complexity, 2015, theorems 3.3 and 3.12.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import gradient_descent
    >>> d = np.array([1.0, 10.0])
    >>> gradient_descent(lambda x: (0.5 * np.sum(d * x * x), d * x), np.ones(2)).success
    True
    """
    if step is not None:
        step = check.scalar("step", step, low=0.0, low_open=True)
    return run_gradient(
        "gradient_descent", fun, x0, accelerated=False, lipschitz=None if step is None else 1.0 / step, init=init,
        tol=tol, maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time,
        disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
