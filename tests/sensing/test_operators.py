"""Every operator: adjoint, factored forms equal to dense ones, splitting, normalisation, backends and engines."""

import numpy as np
import pytest
from scipy.fft import dct

from optlib import config, sensing
from optlib.backend import to_device, to_numpy
from optlib.testing import assert_close, check_adjoint

N1, N2, M, K = 8, 16, 40, 3


def host_operators():
    rng = np.random.default_rng(0)
    mixed = rng.permutation(N1 * N2)[:M]
    dense = rng.normal(size=(M, N1, N2))
    flat = dense.reshape(M, -1)
    a, b = rng.normal(size=(M, N1)), rng.normal(size=(M, N2))
    return {
        "dense": lambda b: sensing.DenseSensing(b.asarray(dense)),
        "gaussian": lambda b: sensing.GaussianSensing((N1, N2), M, rng=1, like=b.asarray([0.0])),
        "regenerated": lambda b: sensing.RegeneratedSensing((N1, N2), M, rng=1, like=b.asarray([0.0])),
        "rademacher": lambda b: sensing.RegeneratedSensing((7, 9), M, "rademacher", rng=1, like=b.asarray([0.0])),
        "rank-one": lambda to: sensing.RankOneSensing(to.asarray(a), to.asarray(b)),
        "symmetric": lambda to: sensing.RankOneSensing(to.asarray(a)),
        "entries": lambda b: sensing.EntrySampling(mixed // N2, mixed % N2, (N1, N2), like=b.asarray([0.0])),
        "dct": lambda b: sensing.SubsampledTransform((7, 10), M, "dct", rng=1, like=b.asarray([0.0])),
        "hadamard": lambda b: sensing.SubsampledTransform((N1, N2), M, "hadamard", rng=1, like=b.asarray([0.0])),
        "fft": lambda b: sensing.SubsampledTransform((7, 10), M, "fft", rng=1, like=b.asarray([0.0])),
        "linear": lambda b: sensing.LinearSensing(b.asarray(flat), (N1, N2)),
    }


OPERATORS = host_operators()


@pytest.fixture(params=sorted(OPERATORS))
def make(request):
    return OPERATORS[request.param]


def draw(operator, backend, k=K):
    rng = np.random.default_rng(3)
    n1, n2 = operator.matrix_shape
    sizes = ((n1, n2), (n1, k), (n2, k), (operator.shape[0],))
    return tuple(backend.asarray(rng.normal(size=size)) for size in sizes)


def test_adjoint(make, backend, engine):
    check_adjoint(make(backend), like=backend.asarray([0.0]))


def test_factored_forms(make, backend, engine):
    A = make(backend)
    _X, F, G, z = draw(A, backend)
    near = {"rtol": 100 * backend.rtol, "atol": 100 * backend.rtol}
    assert_close(A.forward_factored(F, G), A.forward(F @ G.T), **near)
    Z = A.adjoint(z)
    assert_close(A.adjoint_matmul(z, G), Z @ G, **near)
    assert_close(A.adjoint_rmatmul(z, F), Z.T @ F, **near)
    residual, left, right = A.gradient(F, G, z)
    assert_close(residual, A.forward(F @ G.T) - z, **near)
    Z = A.adjoint(residual)
    assert_close(left, Z @ G, **near)
    assert_close(right, Z.T @ F, **near)
    if (sides := A._sides(F, G)) is not None:
        xp = backend.xp
        ones = xp.sum(xp.sum(sides[0] * F[None, :, :], axis=2), axis=1)
        assert_close(ones, A.forward(F @ G.T), **near)
        ones = xp.sum(xp.sum(sides[1] * G[None, :, :], axis=2), axis=1)
        assert_close(ones, A.forward(F @ G.T), **near)


def test_all_backends_measure_the_same(make, backend):
    from tests.conftest import _backends

    host = make(_backends()["numpy"])
    X, *_ = draw(host, _backends()["numpy"])
    assert_close(to_numpy(make(backend).forward(backend.asarray(X))), host.forward(X), rtol=1e-3, atol=1e-4)


def test_split(make, backend, engine):
    A = make(backend)
    X, _F, G, z = draw(A, backend)
    if isinstance(A, sensing.LinearSensing):
        with pytest.raises(TypeError, match="whole only"):
            A.split(2)
        return
    parts = A.split(3)
    assert sum(part.shape[0] for part in parts) == A.shape[0]
    whole = A.forward(X)
    joined = backend.xp.concat([part.forward(X) for part in parts])
    assert_close(joined, whole, rtol=100 * backend.rtol, atol=100 * backend.rtol)
    sums = sum(part.adjoint_matmul(z[i : i + part.shape[0]], G) for part, i in zip(parts, (0, 13, 26), strict=True))
    assert_close(sums, A.adjoint_matmul(z, G), rtol=1e3 * backend.rtol, atol=1e3 * backend.rtol)


def test_moves_and_casts(make):
    from tests.conftest import _backends

    A = make(_backends()["numpy"])
    X, _F, _G, _z = draw(A, _backends()["numpy"])
    moved = to_device(A, "numpy").astype(np.dtype("float32"))
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved.forward(X.astype("f4")), A.forward(X), rtol=1e-4, atol=1e-4)
    if not isinstance(A, sensing.LinearSensing):
        assert moved.isotropy == pytest.approx(A.isotropy, rel=1e-5)
    assert repr(A).startswith(type(A).__name__)


def test_isotropy_is_the_mean_of_the_spectrum(make):
    from tests.conftest import _backends

    A = make(_backends()["numpy"])
    eye = np.eye(A.shape[1])
    trace = sum(np.sum(A._matvec(row) ** 2) for row in eye)
    exact = not isinstance(A, (sensing.LinearSensing, sensing.RegeneratedSensing))
    assert A.isotropy == pytest.approx(trace / A.shape[1], rel=1e-10 if exact else 0.2)


def test_random_operators_are_near_isotropic():
    for A in (
        sensing.GaussianSensing((20, 20), 1000, rng=0),
        sensing.RegeneratedSensing((20, 20), 1000, rng=0),
        sensing.RegeneratedSensing((20, 20), 1000, "rademacher", rng=0),
        sensing.SubsampledTransform((20, 20), 300, rng=0),
    ):
        assert A.isotropy == pytest.approx(1.0, rel=0.02)
        u, v = np.random.default_rng(0).normal(size=(2, 20, 1)) / 20**0.5
        assert np.sum(A.forward_factored(u, v) ** 2) == pytest.approx(np.sum(u**2) * np.sum(v**2), rel=0.25)


def test_norm_of_gaussian_operators():
    """Largest singular value (1 + sqrt(n1 n2 / m)), Bai and Yin."""
    for m in (600, 2400):
        A = sensing.GaussianSensing((40, 40), m, rng=0)
        assert A.norm(iterations=60) == pytest.approx(1 + (1600 / m) ** 0.5, rel=0.02)


def test_dct_is_the_dct():
    A = sensing.SubsampledTransform((6, 5), 30, "dct", rng=0)
    X = np.random.default_rng(0).normal(size=(6, 5))
    signed = A.signs[0][:, None] * X * A.signs[1]
    expected = dct(dct(signed, norm="ortho", axis=0), norm="ortho", axis=1)
    np.testing.assert_allclose(A.forward(X), expected.ravel(), atol=1e-13)


def test_transforms_of_all_entries_are_isometries():
    for name in ("dct", "fft", "hadamard"):
        A = sensing.SubsampledTransform((4, 8), 32, name, rng=0)
        X = np.random.default_rng(0).normal(size=(4, 8))
        np.testing.assert_allclose(A.adjoint(A.forward(X)), X, atol=1e-13)


def test_regenerated_entries_are_the_stream():
    """Entry (i, j, k) is the number at i n1 n2 + j n2 + k, in every part of every split."""
    from optlib.backend import array_namespace
    from optlib.backend.philox import philox_normal

    A = sensing.RegeneratedSensing((5, 7), 6, rng=0)
    stored = philox_normal(A.key, 0, 210, np.zeros(1), xp=array_namespace()).reshape(6, 5, 7) / 6**0.5
    B = sensing.DenseSensing(stored)
    F, G = np.random.default_rng(0).normal(size=(5, 2)), np.random.default_rng(1).normal(size=(7, 2))
    for engine in ("auto", "generic"):
        with config(engine=engine):
            for part, other in zip(A.split(4), B.split(4), strict=True):
                np.testing.assert_allclose(part.forward_factored(F, G), other.forward_factored(F, G), atol=1e-13)


def test_threads_do_not_change_results():
    A, B = (make((60, 50), 200, rng=0) for make in (sensing.GaussianSensing, sensing.RegeneratedSensing))
    C = sensing.random_entries((400, 300), 60_000, rng=0)
    for op in (A, B, C):
        rng = np.random.default_rng(0)
        F, G, y = (rng.normal(size=s) for s in ((op.matrix_shape[0], 5), (op.matrix_shape[1], 5), op.shape[0]))
        with config(threads=1):
            one = op.gradient(F, G, y)
        with config(threads=2):
            two = op.gradient(F, G, y)
        assert all(np.array_equal(u, v) for u, v in zip(one, two, strict=True))
