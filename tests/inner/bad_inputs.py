"""Bad input of the inner solvers: name, call, error, pattern."""

import numpy as np
import scipy.sparse as sp

from optlib.inner import (
    accelerated_gradient,
    block_coordinate_descent,
    coordinate_descent,
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
    (
        "preconditioner",
        lambda: newton(bowl, np.ones(2), hvp=lambda x: lambda v: v, preconditioner=np.eye(2)),
        TypeError,
        "`preconditioner`: got ndarray; expected a `Preconditioner`",
    ),
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

A, b = np.eye(3), np.ones(3)
CASES += [
    ("samples", lambda: coordinate_descent(np.ones((0, 3)), [], 1.0), ValueError, "`A`.*one sample"),
    ("design-nan", lambda: coordinate_descent([[np.nan]], [1.0], 1.0), ValueError, "`A`"),
    ("sparse-nan", lambda: coordinate_descent(sp.csc_array([[np.nan]]), [1.0], 1.0), ValueError, "`A`"),
    ("sparse-complex", lambda: coordinate_descent(sp.csc_array([[1j]]), [1.0], 1.0), TypeError, "`A`.*real"),
    ("design-shape", lambda: coordinate_descent(b, b, 1.0), ValueError, "`A`"),
    ("target-shape", lambda: coordinate_descent(A, np.ones(2), 1.0), ValueError, "`b`"),
    ("l1", lambda: coordinate_descent(A, b, 0.0), ValueError, "`l1`.*> 0"),
    ("l1-shape", lambda: coordinate_descent(A, b, np.ones(2)), ValueError, "`l1`"),
    ("l2", lambda: coordinate_descent(A, b, 1.0, l2=[0.0, -1.0, 0.0]), ValueError, "`l2`.*>= 0"),
    ("weights", lambda: coordinate_descent(A, b, 1.0, sample_weight=[-1, 1, 1]), ValueError, "`sample_weight`"),
    ("no-weights", lambda: coordinate_descent(A, b, 1.0, sample_weight=np.zeros(3)), ValueError, "`sample_weight`"),
    ("start-shape", lambda: coordinate_descent(A, b, 1.0, init=np.ones(2)), ValueError, "`init`"),
    ("groups", lambda: block_coordinate_descent(A, b, 0, 1.0), ValueError, "`groups`"),
    ("groups-shape", lambda: block_coordinate_descent(A, b, [0, 1], 1.0), ValueError, "`groups`"),
    ("groups-gap", lambda: block_coordinate_descent(A, b, [0, 2, 2], 1.0), ValueError, "`groups`.*gaps"),
    ("groups-l1", lambda: block_coordinate_descent(A, b, 2, [1.0, 0.0]), ValueError, "`l1`.*> 0"),
    ("groups-l1-shape", lambda: block_coordinate_descent(A, b, 2, np.ones(3)), ValueError, "`l1`"),
    ("groups-rule", lambda: block_coordinate_descent(A, b, 2, 1.0, rule="random"), ValueError, "`rule`"),
]

X2 = np.ones(2)
SMOOTH = {"lbfgs": lbfgs, "gradient": gradient_descent, "accelerated": accelerated_gradient}
CASES += [
    (f"{name}-{kind}", lambda solver=solver, fun=fun: solver(fun, X2), error, pattern)
    for name, solver in SMOOTH.items()
    for kind, fun, error, pattern in [
        ("no-function", X2, TypeError, "`fun`.*function of x"),
        ("value-only", lambda x: x @ x, TypeError, "`fun`.*float64.*value and gradient"),
        ("nothing", lambda x: None, TypeError, "`fun`.*NoneType"),
        ("list-gradient", lambda x: (x @ x, x.tolist()), TypeError, "`fun`.*list.*gradient"),
        ("short-gradient", lambda x: (x @ x, x[:1]), ValueError, r"`fun`.*\(1,\).*\(2,\)"),
        ("column-gradient", lambda x: (x @ x, x[:, None]), ValueError, r"`fun`.*\(2, 1\)"),
        ("complex-gradient", lambda x: (x @ x, 1j * x), TypeError, "`fun`.*complex128"),
        ("value-array", lambda x: (x, x), ValueError, r"`fun`.*value of shape \(2,\)"),
        ("value-text", lambda x: ("1", x), TypeError, "`fun`.*real number"),
    ]
]
CASES += [
    ("hvp", lambda: newton(bowl, X2, hvp="abc"), TypeError, "`hvp`.*function"),
    ("hvp-nothing", lambda: newton(bowl, X2, hvp=lambda x: None), TypeError, "`hvp`.*function of v"),
    ("hvp-shape", lambda: newton(bowl, X2, hvp=lambda x: lambda v: v[:1]), ValueError, r"`hvp`.*\(1,\)"),
    ("hessian", lambda: newton(bowl, X2, hessian=np.eye(2)), TypeError, "`hessian`.*function"),
    ("hessian-shape", lambda: newton(bowl, X2, hessian=lambda x: np.eye(3)), ValueError, r"`hessian`.*\(3, 3\)"),
    ("hessian-list", lambda: newton(bowl, X2, hessian=lambda x: [[1.0]]), ValueError, "`hessian`.*list"),
    ("scaled-hessian", lambda: regularized_newton(bowl, X2, hessian=lambda x: x), ValueError, r"`hessian`.*\(2,\)"),
    ("diagonal", lambda: newton(bowl, X2, hvp=lambda x: lambda v: v, diagonal=3.0), TypeError, "`diagonal`"),
    ("prox", lambda: fista(bowl, None, X2), TypeError, "`prox`.*function"),
    ("prox-shape", lambda: fista(bowl, lambda v, t: v[:1], X2), ValueError, r"`prox`.*\(1,\)"),
    ("penalty", lambda: fista(bowl, lambda v, t: v, X2, penalty=1.0), TypeError, "`penalty`.*None"),
    ("no-model", lambda: gauss_newton(None, lambda x: ONE, [1.0], ONE[0]), TypeError, "`model`.*function"),
    ("no-jacobian", lambda: gauss_newton(lambda x: x, ONE, [1.0], ONE[0]), TypeError, "`jacobian`.*function"),
]
