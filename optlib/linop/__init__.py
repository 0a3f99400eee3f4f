"""Linear operators, Krylov solvers on any array library, and successive over-relaxation."""

from optlib.linop.base import Diagonal, Identity, LinearOperator, VStack
from optlib.linop.gmres import gmres
from optlib.linop.solve import cg, lsqr, minres
from optlib.linop.sor import SSOR, sor
from optlib.linop.wrap import as_linear_operator

__all__ = [
    "SSOR",
    "Diagonal",
    "Identity",
    "LinearOperator",
    "VStack",
    "as_linear_operator",
    "cg",
    "gmres",
    "lsqr",
    "minres",
    "sor",
]
