"""General solvers, used as inner solvers of bilevel problems and on their own."""

from optlib.inner.accelerated_gradient import accelerated_gradient
from optlib.inner.block_coordinate_descent import block_coordinate_descent
from optlib.inner.coordinate_descent import coordinate_descent
from optlib.inner.fista import fista
from optlib.inner.gauss_newton import gauss_newton
from optlib.inner.gradient_descent import gradient_descent
from optlib.inner.lbfgs import lbfgs
from optlib.inner.newton import Preconditioner, newton
from optlib.inner.regularized_newton import regularized_newton

__all__ = [
    "Preconditioner",
    "accelerated_gradient",
    "block_coordinate_descent",
    "coordinate_descent",
    "fista",
    "gauss_newton",
    "gradient_descent",
    "lbfgs",
    "newton",
    "regularized_newton",
]
