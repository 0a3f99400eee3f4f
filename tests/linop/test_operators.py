"""Operators agree with the matrices that they stand for."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator as SciPyOperator
from scipy.sparse.linalg import aslinearoperator, cg

from optlib import to_device
from optlib.backend import array_namespace, to_numpy
from optlib.linop import Diagonal, Identity, LinearOperator, VStack, as_linear_operator
from optlib.testing import assert_close, check_adjoint


def host(m, n, seed=0):
    return np.random.default_rng(seed).standard_normal((m, n))


def build(backend):
    """One operator of every kind, with its matrix."""
    a, b, s, d = host(4, 3), host(3, 5, 1), host(4, 4, 2), host(4, 1, 3)[:, 0]
    A, B, S = (as_linear_operator(backend.asarray(x)) for x in (a, b, s))
    xp, x = backend.xp, backend.asarray(a)
    F = as_linear_operator((lambda v: x @ v, lambda v: xp.matrix_transpose(x) @ v), shape=(4, 3), like=x)
    c = backend.asarray(np.float64(-0.7))
    return {
        "dense": (A, a),
        "function": (F, a),
        "identity": (Identity(4, like=x), np.eye(4)),
        "diagonal": (Diagonal(backend.asarray(d)), np.diag(d)),
        "transpose": (A.T, a.T),
        "product": (A @ B, a @ b),
        "sum": (A @ A.T + S, a @ a.T + s),
        "difference": (S - 2 * Identity(4, like=x), s - 2 * np.eye(4)),
        "scaled": (A * c / 2, -0.35 * a),
        "negative": (-B, -b),
        "stack": (VStack(A, 0.5 * Identity(3, like=x), B.T), np.vstack([a, 0.5 * np.eye(3), b.T])),
        "nested": (2 * (VStack(A, F).T @ VStack(A, F) + Identity(3, like=x)).T @ B, 2 * (2 * a.T @ a + np.eye(3)) @ b),
    }


KINDS = ("dense", "function", "identity", "diagonal", "transpose", "product", "sum", "difference", "scaled", "negative",
         "stack", "nested")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_products(backend, kind):
    operator, matrix = build(backend)[kind]
    m, n = operator.shape
    assert (m, n) == matrix.shape
    check_adjoint(operator, like=backend.asarray([0.0]))
    tol = {"rtol": 0, "atol": 100 * backend.eps * np.abs(matrix).sum()}
    assert_close(operator.to_dense(), backend.asarray(matrix), **tol)
    assert_close(operator.T.to_dense(), backend.asarray(matrix.T), **tol)
    for x, y in ((host(n, 1)[:, 0], host(m, 1, 1)[:, 0]), (host(n, 2), host(m, 2, 1)), (host(n, 0), host(m, 0))):
        x_before, y_before = backend.asarray(x), backend.asarray(y)
        assert_close(operator @ x_before, backend.asarray(matrix @ x), **tol)
        assert_close(operator.rmatvec(y_before), backend.asarray(matrix.T @ y), **tol)
        assert_close(x_before, backend.asarray(x))
    assert f"{m}x{n}" in repr(operator)


@pytest.mark.parametrize(
    "make", [sp.csr_array, sp.csc_matrix, sp.coo_array], ids=["csr_array", "csc_matrix", "coo_array"]
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_scipy_sparse(make, dtype):
    dense = sp.random_array((30, 20), density=0.1, rng=0, data_sampler=lambda size: np.arange(1.0, size + 1)).toarray()
    matrix = make(dense.astype(dtype))
    kept = matrix.copy()
    operator = as_linear_operator(matrix)
    assert operator.dtype == (np.float32 if dtype == np.float32 else np.float64)
    assert_close((operator @ np.ones(20)).astype(np.float64), dense.sum(1), rtol=1e-6)
    assert_close(operator.to_dense().astype(np.float64), dense, rtol=1e-6)
    check_adjoint(operator, like=np.zeros(1, operator.dtype))
    assert_close(operator.astype(np.float64).to_dense(), dense, rtol=1e-6)
    assert_close(to_device(operator, "numpy").to_dense(), operator.to_dense())
    assert (matrix != kept).nnz == 0


def test_sparse_is_never_dense():
    n = 200_000
    laplacian = as_linear_operator(sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)), symmetric=True)
    assert laplacian.T is laplacian
    assert float((laplacian @ laplacian - 3 * Identity(n)) @ np.ones(n) @ np.ones(n)) == pytest.approx(2 - 3 * n)


def test_scipy_operators_both_ways():
    a = host(5, 3)
    operator = as_linear_operator(aslinearoperator(a))
    assert operator.T.T is operator
    check_adjoint(operator, like=np.zeros(1))
    assert_close(operator.to_dense(), a)
    back = operator.to_scipy()
    assert isinstance(back, SciPyOperator)
    assert_close(back.matmat(np.eye(3)), a)
    assert_close(back.rmatvec(np.ones(5)), a.sum(0))
    spd = as_linear_operator(a.T @ a)
    assert_close(cg(spd.to_scipy(), np.ones(3), rtol=1e-12)[0], np.linalg.solve(a.T @ a, np.ones(3)))
    narrow = as_linear_operator(aslinearoperator(a.astype(np.float32)))
    assert narrow.dtype == np.float32


def test_promises_follow_the_algebra():
    A, S = as_linear_operator(host(4, 3)), as_linear_operator(np.eye(4), symmetric=True)
    gram = A.T @ A
    assert gram.positive_semidefinite
    assert (A @ A.T).positive_semidefinite
    assert (S @ S).positive_semidefinite
    assert (gram + Identity(3)).positive_semidefinite
    assert (2 * gram).positive_semidefinite
    assert not (-gram).positive_semidefinite
    assert (-gram).symmetric
    assert not (gram - Identity(3)).positive_semidefinite
    assert (S + Identity(4)).symmetric
    assert not (S + Identity(4)).positive_semidefinite
    assert not (S @ Diagonal(np.ones(4))).symmetric
    assert not (A.T @ as_linear_operator(host(4, 3))).symmetric
    assert Diagonal([1.0, 0.0], positive_semidefinite=True).positive_semidefinite
    assert not (np.asarray(2.0) * gram).positive_semidefinite  # the sign of an array is not looked at
    promised = as_linear_operator(as_linear_operator(np.eye(2)), positive_semidefinite=True)
    assert promised.symmetric
    assert promised.T is promised
    assert as_linear_operator(A) is A
    for op in (gram, gram + Identity(3), -gram, promised):
        cast = op.astype(np.float32)
        assert cast.dtype == np.float32
        assert (cast.symmetric, cast.positive_semidefinite) == (op.symmetric, op.positive_semidefinite)


def test_symmetric_function_needs_no_transpose():
    operator = as_linear_operator(lambda v: 2.0 * v, shape=(3, 3), symmetric=True)
    assert_close(operator.rmatvec(np.ones(3)), 2.0 * np.ones(3))
    later = as_linear_operator(as_linear_operator(lambda v: 2.0 * v, shape=(3, 3)), symmetric=True)
    assert_close(later.T.rmatvec(np.ones(3)), 2.0 * np.ones(3))


def test_lists_scalars_and_dtypes():
    A = as_linear_operator([[1, 2], [3, 4]])
    assert A.dtype == np.float64
    assert_close(A @ [1, 1], np.array([3.0, 7.0]))
    for c in (2, 2.0, np.float32(2), np.float64(2), np.int64(2), np.array(2.0)):
        assert_close((c * A).to_dense(), np.array([[2.0, 4.0], [6.0, 8.0]]))
        assert_close((A * c / c).to_dense(), A.to_dense())
    single = as_linear_operator(np.eye(2, dtype=np.float32))
    assert (np.float64(3) * single @ np.ones(2, np.float32)).dtype == np.float32
    assert (single + A).dtype == np.float64
    assert VStack(A, single, single).dtype == np.float64
    lazy = as_linear_operator(lambda v: v.astype(np.float64), shape=(2, 2), dtype=np.float32)
    assert lazy.dtype == np.float32
    assert (lazy @ np.ones(2, np.float32)).dtype == np.float32
    assert lazy.astype(np.float64).dtype == np.float64
    for wrong in (
        lambda: A + 1.0,
        lambda: A - np.eye(2),
        lambda: A * 1j,
        lambda: A * np.eye(2),
        lambda: np.eye(2) + A,
    ):
        with pytest.raises(TypeError):
            wrong()


def test_products_from_the_left_and_entries(backend):
    matrix, u = host(4, 3), host(2, 4)
    A = as_linear_operator(backend.asarray(matrix))
    if not backend.name.startswith("strict"):  # whose arrays refuse what is not an array before it is asked
        assert_close(to_numpy(backend.asarray(u) @ A), u @ matrix, rtol=backend.rtol)
    if backend.name.startswith("numpy"):
        assert_close(np.asarray(A), matrix)
    else:
        with pytest.raises(TypeError, match=r"`self`.*NumPy"):
            np.asarray(A)


def test_empty():
    operator = as_linear_operator(np.empty((0, 3)))
    assert (operator @ np.ones(3)).shape == (0,)
    assert (operator.T @ np.empty(0)).shape == (3,)
    assert Identity(0).to_dense().shape == (0, 0)


def test_moves_between_libraries(backend):
    target = backend.name if backend.name in ("torch", "cupy", "jax") else "numpy"
    operator, matrix = (
        build(backend)["stack"][0].T @ Diagonal(backend.asarray(np.ones(12))),
        build(backend)["stack"][1].T,
    )
    with pytest.raises(TypeError, match="functions"):
        to_device(build(backend)["function"][0], "numpy")
    moved = to_device(operator, target)
    assert moved.xp is array_namespace(to_device(np.ones(1), target))
    assert_close(to_numpy(moved.to_dense()), matrix, rtol=0, atol=backend.rtol)
    home = to_device(operator + 0 * operator, "numpy")
    assert home.xp is array_namespace()
    assert home.dtype == (np.float64 if backend.is_double else np.float32)
    assert_close(home.to_dense(), matrix, rtol=0, atol=backend.rtol)
    gram = to_device(operator.T @ operator, "numpy")
    assert gram.positive_semidefinite


class Shift(LinearOperator):
    """What a user writes: a cyclic shift."""

    def __init__(self, n, like):
        super().__init__((n, n), like)

    def _matvec(self, x):
        return self.xp.roll(x, 1, axis=0)

    def _rmatvec(self, y):
        return self.xp.roll(y, -1, axis=0)


def test_user_operator(backend):
    shift = Shift(4, backend.asarray([0.0]))
    check_adjoint(shift, like=backend.asarray([0.0]))
    circulant = 2 * Identity(4, like=backend.asarray([0.0])) - shift - shift.T
    assert_close(circulant @ backend.asarray(np.ones(4)), backend.asarray(np.zeros(4)))


@given(m=st.integers(1, 5), n=st.integers(1, 5), seed=st.integers(0, 99), c=st.floats(-3, 3))
def test_algebra_laws(m, n, seed, c):
    a, b, d = host(m, n, seed), host(m, n, seed + 1), host(n, m, seed + 2)
    A, B, D = (as_linear_operator(x) for x in (a, b, d))
    size = 1 + np.abs(a).sum() + np.abs(b).sum() + np.abs(d).sum()

    def same(left, right):
        assert_close(left.to_dense(), to_numpy(right.to_dense()), rtol=0, atol=1e-13 * size**2)

    same(A + B, B + A)
    same((A + B) @ D, A @ D + B @ D)
    same((A @ D).T, D.T @ A.T)
    same(c * (A + B), c * A + c * B)
    same(A - B, A + (-B))
    same((A + B).T, A.T + B.T)
    same((A @ D) @ A, A @ (D @ A))
    same(Identity(m) @ A, A)
    same(VStack(A, B).T @ VStack(A, B), A.T @ A + B.T @ B)


def test_rows_and_columns(backend):
    """Some rows or columns of what holds them: dense matrices, transposes, stacks; functions do not."""
    a = host(5, 3)
    A = as_linear_operator(backend.asarray(a))
    index = backend.asarray(np.array([4, 0, 0]))
    assert_close(A.take(index).to_dense(), backend.asarray(a[[4, 0, 0]]))
    assert_close(A.T.take(index, 1).to_dense(), backend.asarray(a[[4, 0, 0]].T))
    assert_close(VStack(A.T, A.T).T.take(index).to_dense(), backend.asarray(np.hstack([a, a])[[4, 0, 0]]))
    for refusing in (VStack(A, A), Identity(5, like=backend.asarray(a))):
        with pytest.raises(TypeError, match=r"`A`.*a matrix"):
            refusing.take(index)
