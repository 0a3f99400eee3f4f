"""Calls of the inner solvers that take more than a few iterations."""

import numpy as np


def objective(backend):
    """A convex quartic with a bad quadratic, from a far start."""
    xp, d = backend.xp, backend.asarray(np.geomspace(1.0, 300.0, 5))

    def fun(x):
        return xp.sum(0.25 * x**4 + 0.5 * d * x * x - x), x**3 + d * x - 1.0

    return fun, backend.asarray(np.full(5, 1e4)), d


def accelerated(backend):
    fun, x0, _ = objective(backend)
    return (fun, 1e-3 * x0), {}


def composite(backend):
    (fun, x0), _ = accelerated(backend)
    xp = backend.xp
    return (fun, lambda v, t: xp.sign(v) * xp.maximum(xp.abs(v) - 2.0 * t, xp.zeros_like(v)), x0), {}


def second_order(backend):
    fun, x0, d = objective(backend)
    xp = backend.xp
    eye = backend.asarray(np.eye(5))
    return (fun, x0), {
        "hvp": lambda x: lambda v: (3.0 * x * x + d) * v,
        "hessian": lambda x: xp.expand_dims(3.0 * x * x + d, axis=1) * eye,
    }


def regularized(backend):
    args, options = second_order(backend)
    return args, {"hessian": options["hessian"]}


def separable(backend):
    A, t = backend.asarray(np.random.default_rng(0).normal(size=(4, 9))), backend.asarray([1.0, -1.0, 1.0, 1.0])
    return (lambda x: A @ x, lambda x: A, t, backend.asarray(np.zeros(9))), {"loss": "logistic"}


def coordinates(backend):
    rng = np.random.default_rng(0)
    A = backend.asarray(rng.normal(size=(3, 2)))
    return (A, backend.asarray(rng.normal(size=3)), 0.01), {}


def groups(backend):
    (A, b, _), _ = coordinates(backend)
    return (A, b, 1, 0.01), {}


CASES = {
    "inner.accelerated_gradient": accelerated,
    "inner.block_coordinate_descent": groups,
    "inner.coordinate_descent": coordinates,
    "inner.fista": composite,
    "inner.gauss_newton": separable,
    "inner.gradient_descent": accelerated,
    "inner.lbfgs": accelerated,
    "inner.newton": second_order,
    "inner.regularized_newton": regularized,
}
