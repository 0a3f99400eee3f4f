"""Linear operators and Krylov solvers on any array library."""

from optlib.linop.base import Diagonal, Identity, LinearOperator, VStack
from optlib.linop.solve import cg, lsqr, minres
from optlib.linop.wrap import as_linear_operator

__all__ = ["Diagonal", "Identity", "LinearOperator", "VStack", "as_linear_operator", "cg", "lsqr", "minres"]
