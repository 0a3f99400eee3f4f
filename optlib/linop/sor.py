"""Successive over-relaxation, and its symmetric form as a preconditioner."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Status, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, device_of, kernel, linalg, scatter, supports
from optlib.linop.base import LinearOperator, _empty
from optlib.linop.wrap import _Dense, _Sparse, as_linear_operator


class SORState(NamedTuple):
    """Solution in units of the right side, that unit, iterations done."""

    x: Array
    unit: float
    nit: int


class Rows(NamedTuple):
    """A square matrix by rows: entries, their columns (ascending in each row), and where the rows begin."""

    data: Array
    indices: Array
    indptr: Array


def _dense(data: Array, indices: Array, indptr: Array, xp: Any) -> Array:
    """Return the matrix of compressed rows as an array."""
    n = indptr.shape[0] - 1
    if data.shape[0] == n * n:
        return xp.reshape(data, (n, n))
    entries = xp.arange(data.shape[0], dtype=indptr.dtype, device=device_of(data))
    rows = xp.searchsorted(indptr, entries, side="right") - 1
    return xp.reshape(scatter.segment_sum(data, rows * n + indices, n * n, xp=xp), (n, n))


@kernel(numba="optlib.linop._sor_numba:sor_sweeps", match="iterate")
def sor_sweeps(
    data: Array,
    indices: Array,
    indptr: Array,
    b: Array,
    x: Array,
    omega: float,
    count: int,
    limit: float,
    *,
    xp: Any,
) -> tuple[Array, int]:
    """Do sweeps of successive over-relaxation, ``x += (D / omega + L)^{-1} (b - A x)``.

    Parameters
    ----------
    data, indices, indptr : array
        The matrix ``A = L + D + U`` in compressed rows, columns ascending.
    b : array, shape (n,)
        Right side.
    x : array, shape (n,)
        Start.
    omega : float
        Relaxation.
    count : int
        Largest number of sweeps.
    limit : float
        End earlier once ``|b - A x|^2 <= limit``; without a limit (a negative one) nothing is compared.
    xp : module
        Namespace.

    Returns
    -------
    x : array, shape (n,)
        After the sweeps.
    done : int
        Their number.
    """
    a = _dense(data, indices, indptr, xp)
    lower = xp.tril(a) + (1.0 / omega - 1.0) * (a * xp.eye(a.shape[0], dtype=a.dtype, device=device_of(a)))
    for done in range(count):
        x = x + linalg.solve_triangular(lower, b - a @ x, xp=xp)
        if limit >= 0.0:
            r = b - a @ x
            if bool(xp.sum(r * r) <= limit):
                return x, done + 1
    return x, count


@kernel(numba="optlib.linop._sor_numba:ssor_solve", match="iterate")
def ssor_solve(data: Array, indices: Array, indptr: Array, r: Array, omega: float, *, xp: Any) -> Array:
    """Apply the inverse of ``(D + omega L) D^{-1} (D + omega U) / (omega (2 - omega))``.

    Parameters
    ----------
    data, indices, indptr : array
        The matrix ``L + D + U`` in compressed rows, columns ascending.
    r : array, shape (n, k)
        Vectors as columns.
    omega : float
        Relaxation.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (n, k)
        The solutions.
    """
    a = _dense(data, indices, indptr, xp)
    diagonal = a * xp.eye(a.shape[0], dtype=a.dtype, device=device_of(a))
    forward = omega * xp.tril(a) + (1.0 - omega) * diagonal
    backward = omega * xp.triu(a) + (1.0 - omega) * diagonal
    z = diagonal @ linalg.solve_triangular(forward, r, xp=xp)
    return linalg.solve_triangular(backward, (omega * (2.0 - omega)) * z, lower=False, xp=xp)


def compressed_rows(A: Any, b: Any = None) -> tuple[LinearOperator, Rows, Array]:
    """Return a matrix as operator and by rows, and its diagonal, after checks."""
    A = as_linear_operator(A)
    xp, device, dtype = check.common(A=_empty(A), b=b)
    A = A.astype(dtype)
    if not isinstance(A, (_Dense, _Sparse)):
        raise check.error("A", type(A).__name__, "an array or a sparse matrix, whose entries are needed", "use cg")
    n = A.shape[0]
    if A.shape != (n, n):
        raise check.error("A", f"shape {A.shape}", "a square matrix")
    index = xp.arange(n, dtype=xp.int64, device=device)
    if isinstance(A, _Dense):
        a = A._a
        if A.xp is check.common()[0]:  # NumPy: leave out the zeros
            return compressed_rows(as_linear_operator(_compressed(a)))
        rows = Rows(xp.reshape(a, (-1,)), xp.tile(index, (n,)), xp.arange(n + 1, dtype=xp.int64, device=device) * n)
        diagonal = xp.linalg.diagonal(a)
    else:
        csr = A._csr
        rows = Rows(csr.data, xp.astype(csr.indices, xp.int64), xp.astype(csr.indptr, xp.int64))
        diagonal = csr.diagonal()
    if not bool(xp.all(xp.isfinite(rows.data))):
        raise check.error("A", "an entry that is NaN or infinite", "finite numbers")
    if not bool(xp.all(diagonal > 0.0)):
        raise check.error("A", "a diagonal entry that is not positive", "a positive definite matrix", "use minres")
    return A, rows, diagonal


def _compressed(a: Array) -> Any:
    from scipy.sparse import csr_array

    return csr_array(a)


@supports(sequential=True)
def sor(
    A: Any,
    b: Array,
    *,
    omega: float = 1.0,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 10_000,
    check_every: int = 100,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Solve ``A x = b`` for symmetric positive definite ``A`` by successive over-relaxation.

    Parameters
    ----------
    A : array or sparse matrix, shape (n, n)
        With positive diagonal. The method converges for every symmetric positive definite matrix, and for some others.
    b : array, shape (n,)
        Right side.
    omega : float
        Relaxation, between 0 and 2; 1 is the method of Gauss and Seidel.
    init : array, Result or SORState, optional
        Warm start, or a result to continue.
    tol : float or None
        Stop at the first iteration with ``|b - A x| <= tol |b|``; None runs exactly ``maxiter`` iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`). A run ends at the iteration that reaches ``tol``, whatever
        ``check_every`` is.

    Returns
    -------
    Result
        ``x``; certificate of kind ``"residual"``.

    Notes
    -----
    Row by row ``x_i <- x_i + omega (b_i - (A x)_i) / a_ii``, with the new values as soon as they are there. For
    consistently ordered matrices, such as those of finite differences, the best relaxation is
    :math:`1 + (\rho / (1 + \sqrt{1 - \rho^2}))^2` with the spectral radius :math:`\rho` of Jacobi's method.

    Stopping: by the true residual, after every iteration.

    Cost: two passes over the entries per iteration, in Numba for NumPy arrays and SciPy matrices. Elsewhere a
    triangular solve of the dense matrix: use `cg` on a GPU.

    When not to use it: `cg` with `SSOR` as preconditioner needs fewer iterations, nearly whatever the relaxation.

    References
    ----------
    D. M. Young, Iterative methods for solving partial difference equations of elliptic type, 1954. Y. Saad, Iterative
    Methods for Sparse Linear Systems, 2003, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import sor
    >>> res = sor(np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0]), omega=1.1)
    >>> res.success, res.x.round(5)
    (True, array([0.09091, 0.63636]))
    """
    omega = check.scalar("omega", omega, low=0.0, high=2.0, low_open=True, high_open=True)
    A, rows, _ = compressed_rows(A, b)
    xp, n = A.xp, A.shape[0]
    b = check.array("b", b, xp=xp, shape=(n,), dtype=A.dtype, device=A.device)
    size = float(linalg.norm(b, xp=xp)) or 1.0
    rhs = b / size
    start, state = prepare_init(init, SORState)
    if state is None:
        x = xp.zeros_like(b)
        if start is not None:
            x = check.array("init", start, xp=xp, shape=(n,), dtype=A.dtype, device=A.device)
        state = SORState(x / size, size, 0)
    elif state.unit != size:  # of a system with another right side
        state = SORState(state.x * (state.unit / size), size, 0)
    if tol is not None:
        tol = check.scalar("tol", tol, low=0.0)

    def residual(x: Array) -> Array:
        return linalg.norm(rhs - A._matvec(x), xp=xp)

    def steps(state: SORState) -> Steps:
        status = None
        while True:
            x = state.x
            budget = yield Step(size * x, state.nit, state, stop=lambda: residual(x), status=status)
            x, done = sor_sweeps(*rows, rhs, x, omega, budget, -1.0 if tol is None else tol**2, xp=xp)
            state = SORState(x, size, state.nit + done)
            status = Status.CONVERGED if done < budget and bool(residual(x) <= tol) else None

    def finish(step: Step) -> dict[str, Any]:
        return {"certificate": Certificate("residual", float(residual(step.state.x)), tol=tol)}

    return run(
        steps, state=state, like=b, xp=xp, method="sor", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(tuple(rows), b, omega, tol),
    )  # fmt: skip


class SSOR(LinearOperator):
    """The preconditioner of symmetric over-relaxation: an approximate inverse of a symmetric matrix.

    Parameters
    ----------
    A : array or sparse matrix, shape (n, n)
        Symmetric, with positive diagonal; only needs to be definite for the methods that use the preconditioner.
    omega : float
        Relaxation, between 0 and 2.

    Notes
    -----
    The inverse of ``(D + omega L) D^{-1} (D + omega L') / (omega (2 - omega))`` with the strict lower triangle L:
    symmetric and positive definite. Cost: two triangular solves, in Numba for NumPy arrays and SciPy matrices.

    References
    ----------
    Y. Saad, Iterative Methods for Sparse Linear Systems, 2003, section 10.2.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.linop import SSOR, cg
    >>> A = np.array([[4.0, 1.0], [1.0, 3.0]])
    >>> cg(A, np.array([1.0, 2.0]), preconditioner=SSOR(A, 1.2)).x.round(5)
    array([0.09091, 0.63636])
    """

    def __init__(self, A: Any, omega: float = 1.0) -> None:
        self._omega = check.scalar("omega", omega, low=0.0, high=2.0, low_open=True, high_open=True)
        self._A, self._entries, _ = compressed_rows(A)
        super().__init__(self._A.shape, _empty(self._A), positive_semidefinite=True)

    def _matvec(self, x: Array) -> Array:
        if x.ndim == 2:
            return ssor_solve(*self._entries, x, self._omega, xp=self.xp)
        return ssor_solve(*self._entries, x[:, None], self._omega, xp=self.xp)[:, 0]

    def _rmatvec(self, y: Array) -> Array:
        return self._matvec(y)

    def _map_arrays(self, move: Callable[[Array], Array]) -> LinearOperator:
        return SSOR(self._A._map_arrays(move), self._omega)
