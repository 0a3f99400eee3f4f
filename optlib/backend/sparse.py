"""Sparse matrices of SciPy and CuPy: recognised here, used only behind `optlib.linop.LinearOperator`."""

from importlib import import_module
from typing import Any

import array_api_compat.numpy as numpy_namespace

from optlib.backend.namespace import array_namespace, backend_name, is_cupy, is_numpy


def is_sparse(a: Any) -> bool:
    """Tell whether ``a`` is a sparse matrix or array of SciPy or CuPy, without importing either."""
    return type(a).__module__.startswith(("scipy.sparse", "cupyx.scipy.sparse")) and hasattr(a, "tocsr")


def sparse_namespace(a: Any) -> Any:
    """Return the namespace of the dense arrays that a sparse matrix multiplies."""
    return array_namespace(a.tocsr().data) if type(a).__module__.startswith("cupyx") else numpy_namespace


def as_csr(a: Any, *, dtype: Any) -> Any:
    """Return the matrix in compressed row form with real floating entries and no duplicates.

    Raises
    ------
    TypeError
        If the entries are complex or objects.
    """
    if a.dtype.kind not in "fiub":
        raise TypeError(f"got a sparse matrix of dtype {a.dtype}; expected real numbers.")
    csr = a.tocsr().astype(dtype)
    csr.sum_duplicates()
    return csr


def csr_from_parts(data: Any, indices: Any, indptr: Any, *, shape: tuple[int, int]) -> Any:
    """Build a compressed-row matrix of SciPy or CuPy from its arrays.

    Raises
    ------
    TypeError
        If the arrays belong to another library.
    """
    xp = array_namespace(data, indices, indptr)
    if not (is_numpy(xp) or is_cupy(xp)):
        raise TypeError(f"`obj`: got a sparse matrix to move to {backend_name(xp)}; expected 'numpy' or 'cupy'.")
    sparse = import_module("scipy.sparse" if is_numpy(xp) else "cupyx.scipy.sparse")
    return sparse.csr_matrix((data, indices, indptr), shape=shape)
