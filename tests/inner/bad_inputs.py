"""Bad input of the inner solvers: name, call, error, pattern."""

import numpy as np

from optlib.inner import accelerated_gradient, fista, gradient_descent, lbfgs, newton


def bowl(x):
    return 0.5 * np.sum(x * x), x


CASES = [
    ("no-second-order", lambda: newton(bowl, np.ones(2)), TypeError, "`hvp, hessian`.*neither"),
    ("nan-start", lambda: newton(bowl, [np.nan], hessian=lambda x: np.eye(1)), ValueError, "`x0`"),
    ("object-start", lambda: accelerated_gradient(bowl, np.array(["a"])), TypeError, "`x0`"),
    ("step", lambda: accelerated_gradient(bowl, np.ones(2), step=0.0), ValueError, "`step`"),
    ("one-constant", lambda: accelerated_gradient(bowl, np.ones(2), mu=1.0), TypeError, "`lipschitz, mu`"),
    (
        "crossed-constants",
        lambda: accelerated_gradient(bowl, np.ones(2), lipschitz=1.0, mu=2.0),
        ValueError,
        "`mu`",
    ),
    ("memory", lambda: lbfgs(bowl, np.ones(2), memory=0), ValueError, "`memory`"),
    ("lbfgs-start", lambda: lbfgs(bowl, [np.inf]), ValueError, "`x0`"),
    ("descent-step", lambda: gradient_descent(bowl, np.ones(2), step=-1.0), ValueError, "`step`"),
    ("fista-step", lambda: fista(bowl, lambda v, t: v, np.ones(2), step=np.nan), ValueError, "`step`"),
    (
        "foreign-state",
        lambda: accelerated_gradient(
            bowl, np.ones(2), init=newton(bowl, np.ones(2), hessian=lambda x: np.eye(2), maxiter=1)
        ),
        TypeError,
        "`init`",
    ),
]
