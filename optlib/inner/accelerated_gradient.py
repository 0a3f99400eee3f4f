"""Accelerated gradient: with the constants of the function, or with an adaptive step and restarts."""

from collections.abc import Callable
from typing import Any

from optlib._core import Result
from optlib._core import validation as check
from optlib.backend import Array, supports
from optlib.inner._first_order import run_gradient


@supports(backends=("numpy", "cupy", "torch", "strict"))
def accelerated_gradient(
    fun: Callable[[Array], tuple[Array, Array]],
    x0: Any,
    *,
    lipschitz: float | None = None,
    mu: float | None = None,
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
    """Minimise a smooth convex function by Nesterov's method.

    Parameters
    ----------
    fun : callable
        ``fun(x) -> value, grad``: a 0-d array and an array of the shape of x.
    x0 : array
        Starting point, of any shape.
    lipschitz, mu : float, optional
        Lipschitz constant L of the gradient, and strong convexity, both or none: the step is then ``1 / L`` and the
        momentum ``beta = (1 - sqrt(mu / L)) / (1 + sqrt(mu / L))`` throughout.
    init : Result or FirstOrderState, optional
        A result to continue.
    step : float, optional
        First trial of the step ``1 / L``; by default from the change of the gradient over a short step.
    tol : float or None
        Stop when the norm of the gradient at the extrapolated point is at most this; None runs ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``x`` is the point at which the gradient was measured; ``grad`` its gradient. ``certificate`` of kind
        ``"stationarity"``: the norm of the gradient.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    ``x+ = z - grad(z) / L``, ``z+ = x+ + beta (x+ - x)``. Without constants the momentum starts afresh where
    ``<grad(z), x+ - x> > 0``, which makes the method linear on strongly convex functions without knowing how strongly;
    L falls by a tenth after each step and doubles until ``f(x+) <= f(z) - |grad(z)|^2 / 2L``, or, where this is below
    rounding, until ``<grad(x+) - grad(z), x+ - z> <= L |x+ - z|^2``.

    Stopping: ``|grad| <= tol``, at the extrapolated point. With constants the run counts as stalled when
    ``4 sqrt(L / mu)`` iterations brought nothing: they are wrong, or ``tol`` is below the rounding level.

    Cost of an iteration: about two function values with gradients, and one number to the host a trial; with
    constants one, and none.

    References
    ----------
    Y. Nesterov, A method of solving a convex programming problem with convergence rate O(1/k^2), 1983.
    B. O'Donoghue, E. Candes, Adaptive restart for accelerated gradient schemes, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import accelerated_gradient
    >>> d = np.array([1.0, 10.0, 100.0])
    >>> res = accelerated_gradient(lambda x: (0.5 * np.sum(d * x * x), d * x), np.ones(3))
    >>> res.success
    True
    """
    if step is not None:
        step = check.scalar("step", step, low=0.0, low_open=True)
    if (lipschitz is None) != (mu is None):
        raise check.error("lipschitz, mu", (lipschitz, mu), "both constants, or none", kind=TypeError)
    if lipschitz is not None:
        lipschitz = check.scalar("lipschitz", lipschitz, low=0.0, low_open=True)
        mu = check.scalar("mu", mu, low=0.0, low_open=True, high=lipschitz)
    return run_gradient(
        "accelerated_gradient", fun, x0, accelerated=True, lipschitz=lipschitz, mu=mu, step=step, init=init, tol=tol,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint,
    )  # fmt: skip
