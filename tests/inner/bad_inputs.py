"""Bad input of the inner solvers: name, call, error, pattern."""

import numpy as np

from optlib.inner import (
    accelerated_gradient,
    fista,
    gauss_newton,
    gradient_descent,
    lbfgs,
    newton,
    regularized_newton,
)  # fmt: skip


def bowl(x):
    return 0.5 * np.sum(x * x), x


ONE = np.ones((1, 2))
CASES = [
    ("metric", lambda: regularized_newton(bowl, np.ones(2), metric=-np.eye(2)), ValueError, "`metric`.*definite"),
    ("metric-shape", lambda: regularized_newton(bowl, np.ones(2), metric=np.eye(3)), ValueError, "`metric`"),
    ("radius", lambda: regularized_newton(bowl, np.ones(2), radius=0.0), ValueError, "`radius`"),
    ("loss", lambda: gauss_newton(lambda x: x, lambda x: ONE, [1.0], ONE[0], loss="hinge"), ValueError, "`loss`"),
    (
        "labels",
        lambda: gauss_newton(lambda x: x[:1], lambda x: ONE, [0.0], ONE[0], loss="logistic"),
        ValueError,
        "`targets`.*-1 and 1",
    ),
    ("no-targets", lambda: gauss_newton(lambda x: x, lambda x: ONE, np.ones(0), ONE[0]), ValueError, "`targets`"),
    ("model-shape", lambda: gauss_newton(lambda x: x, lambda x: ONE, [1.0], ONE[0]), ValueError, "`model`"),
    ("jacobian", lambda: gauss_newton(lambda x: x[:1], lambda x: ONE.T, [1.0], ONE[0]), ValueError, "`jacobian`"),
    (
        "damping",
        lambda: gauss_newton(lambda x: x[:1], lambda x: ONE, [1.0], ONE[0], damping=0.0),
        ValueError,
        "`damping`",
    ),
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
