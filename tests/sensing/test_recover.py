"""The default: what first-order methods cannot solve, honest certificates, unknown rank, noise, outliers."""

import numpy as np
import pytest

from optlib import sensing
from optlib.backend import to_device
from optlib.testing import assert_close
from tests.sensing.problems import completion, error, gaussian, low_rank, on


@pytest.mark.parametrize("psd", [False, True])
@pytest.mark.parametrize("kappa", [1.0, 1e2, 1e6])
def test_low_oversampling_and_any_condition(kappa, psd):
    for seed in range(2):
        problem = gaussian(seed, over=1.5, kappa=kappa, psd=psd)
        result = sensing.recover(problem.A, problem.y, rank=3, psd=psd)
        assert error(result, problem) < 1e-10
        assert result.success
        assert result.certificate.kind == "residual"


def test_thirty_steps_at_ten_n_r():
    problem = gaussian(0, 30, 30, 3, over=10 * 30 * 3 / (3 * 57), kappa=1e6)
    result = sensing.recover(problem.A, problem.y, rank=3)
    assert error(result, problem) < 1e-10
    assert result.nit <= 30


def test_backends(backend, engine):
    problem = gaussian(0, 10, 8, 2, over=2.5, kappa=10.0)
    result = sensing.recover(*on(backend, problem), rank=2)
    assert result.success, result
    assert error(result, problem) < (1e-10 if backend.is_double else 1e-3)
    assert result.factors[0].dtype == backend.dtype
    assert_close(result.matrix.toarray(), result.factors[0] @ result.factors[1].T, rtol=1e-6)


def test_larger_ranks_are_no_answers():
    """Near the limit a matrix of larger rank may fit exactly: the cycle through larger ranks must not end there."""
    failures = 0
    for seed in range(4):
        problem = gaussian(seed, 30, 24, 3, over=1.02)
        result = sensing.recover(problem.A, problem.y, rank=3)
        assert result.rank <= 3
        assert result.success == (error(result, problem) < 1e-8)
        failures += not result.success
    assert failures < 4


@pytest.mark.parametrize("psd", [False, True])
def test_rank_is_found(psd):
    problem = gaussian(1, 25, 20, 3, over=4.0, kappa=20.0, psd=psd)
    result = sensing.recover(problem.A, problem.y, psd=psd)
    assert (result.rank, result.success) == (3, True)
    assert error(result, problem) < 1e-10


@pytest.mark.parametrize("level", [1e-3, 1e-1])
def test_noise(level):
    """Unknown noise: rank by Akaike's criterion, a stationary point; known noise: the discrepancy ends the run."""
    problem = gaussian(2, 25, 20, 3, over=5.0, kappa=4.0)
    e = np.random.default_rng(0).normal(size=problem.y.size)
    e *= level * np.linalg.norm(problem.y) / np.linalg.norm(e)
    for result in (
        sensing.recover(problem.A, problem.y + e),
        sensing.recover(problem.A, problem.y + e, noise=1.01 * np.linalg.norm(e)),
        sensing.recover(problem.A, problem.y + e, rank=3),
    ):
        assert result.success, result
        assert result.rank == 3
        assert error(result, problem) < 2.0 * level


def test_rank_estimated_too_high():
    problem = gaussian(3, r=2, over=6.0, kappa=10.0)
    result = sensing.recover(problem.A, problem.y, rank=4)
    assert error(result, problem) < 1e-10


def test_underdetermined_is_said():
    problem = gaussian(4, over=0.9)
    result = sensing.recover(problem.A, problem.y, rank=3)
    assert "not identifiable" in str(result.certificate)
    assert result.identifiability < 1e-6


def test_wrong_model_is_no_success():
    """Measurements that no matrix of the rank explains: the residual shows, whatever the verdict."""
    rng = np.random.default_rng(0)
    A = sensing.GaussianSensing((12, 12), 100, rng=0)
    result = sensing.recover(A, rng.normal(size=100), rank=2)
    assert result.certificate.kind == "stationarity" or not result.success
    assert result.relative_residual > 0.1


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_outliers(share):
    problem = gaussian(5, over=4.0, kappa=10.0)
    rng = np.random.default_rng(0)
    bad = rng.permutation(problem.y.size)[: int(share * problem.y.size)]
    y = problem.y.copy()
    y[bad] += 10.0 * np.std(y) * rng.normal(size=bad.size)
    result = sensing.recover(problem.A, y, rank=3, loss="l1")
    assert result.success
    assert error(result, problem) < 1e-9
    assert np.array_equal(np.flatnonzero(result.outliers), np.sort(bad))
    assert error(sensing.recover(problem.A, y, rank=3, max_time=2.0), problem) > 0.1  # squared errors


@pytest.mark.parametrize("kappa", [1.0, 1e2])
def test_completion(kappa):
    problem = completion(0, 100, 2, m=3 * 2 * 198, kappa=kappa)
    result = sensing.recover(problem.A, problem.y, rank=2)
    assert error(result, problem) < 1e-9
    assert result.success
    assert result.identifiability > 1e-6


def test_rows_without_enough_entries():
    """The fit is exact and not unique: an empty row is zero, and the certificate says what is not determined."""
    rng = np.random.default_rng(0)
    left, right = low_rank(rng, 30, 20, 2)
    i, j = np.nonzero(rng.random((30, 20)) < 0.6)
    kept = (i != 4) & ((i != 7) | (j == j[i == 7][0]))
    A = sensing.EntrySampling(i[kept], j[kept], (30, 20))
    result = sensing.recover(A, A.forward(left @ right.T), rank=2)
    assert "2 rows and 0 columns have fewer entries" in str(result.certificate)
    assert result.identifiability < 1e-6
    assert np.allclose(result.matrix.toarray()[4], 0.0)
    rest = [k for k in range(30) if k not in (4, 7)]
    assert np.allclose(result.matrix.toarray()[rest], (left @ right.T)[rest], atol=1e-9)


def test_other_operators():
    rng = np.random.default_rng(0)
    left, right = low_rank(rng, 16, 16, 2, 10.0)
    operators = (
        sensing.RankOneSensing(rng.normal(size=(240, 16)), rng.normal(size=(240, 16))),
        sensing.SubsampledTransform((16, 16), 170, rng=0),
        sensing.RegeneratedSensing((16, 16), 170, "rademacher", rng=0),
        sensing.LinearSensing(rng.normal(size=(170, 256)) / 170**0.5, (16, 16)),
    )
    for A in operators:
        result = sensing.recover(A, A.forward_factored(left, right), rank=2)
        assert result.success, (A, result)
        assert np.allclose(result.matrix.toarray(), left @ right.T, atol=1e-9)


def test_symmetric_rank_one():
    rng = np.random.default_rng(0)
    A = sensing.RankOneSensing(rng.normal(size=(120, 15)))
    X, _ = low_rank(rng, 15, 15, 2, 2.0, psd=True)
    result = sensing.recover(A, A.forward(X @ X.T), rank=2, psd=True)
    assert np.allclose(result.matrix.toarray(), X @ X.T, atol=1e-9)


def test_scale_equivariance():
    problem = gaussian(6)
    one = sensing.recover(problem.A, problem.y, rank=3)
    tiny = sensing.recover(problem.A, 1e-100 * problem.y, rank=3)
    assert tiny.success
    assert np.allclose(tiny.matrix.toarray() * 1e100, one.matrix.toarray(), rtol=1e-8, atol=1e-10)


def test_zero_measurements_give_zero():
    A = sensing.GaussianSensing((5, 4), 40, rng=0)
    result = sensing.recover(A, np.zeros(40), rank=2)
    assert result.success
    assert not np.any(result.matrix.toarray())


def test_result_and_lazy_matrix():
    problem = gaussian(7, 12, 10, 2)
    result = sensing.recover(problem.A, problem.y, rank=2)
    M, dense = result.matrix, result.matrix.toarray()
    assert M.shape == (12, 10)
    assert_close(M @ np.ones(10), dense @ np.ones(10), rtol=1e-10)
    assert_close(M.at([0, 3], [1, 2]), dense[[0, 3], [1, 2]], rtol=1e-10)
    assert_close(M[2:5], dense[2:5], rtol=1e-12)
    assert_close(M.T.toarray(), dense.T, rtol=1e-12)
    assert "rank 2" in repr(result)
    assert "Levenberg-Marquardt" in result.message
    again = sensing.recover(problem.A, problem.y, rank=2, init=result)
    assert again.success
    assert again.nit == result.nit
    warm = sensing.recover(problem.A, problem.y, rank=2, init=result.factors)
    assert warm.success
    assert warm.nit <= 1


def test_by_name():
    problem = gaussian(8, 12, 10, 2, over=3.0)
    for method in ("riemannian", sensing.riemannian):
        result = sensing.recover(problem.A, problem.y, rank=2, method=method)
        assert result.method == "riemannian"
        assert error(result, problem) < 1e-9


def test_stored_on_another_library():
    torch = pytest.importorskip("torch")
    problem = gaussian(9, 12, 10, 2)
    A, y = to_device((problem.A, problem.y), "torch")
    result = sensing.recover(A, y, rank=2)
    assert isinstance(result.factors[0], torch.Tensor)
    assert error(result, problem) < 1e-10


# -- leaving a run and going on --


def _cases_of_all_stages():
    """Problems that need several stages, by name, and options of the call."""
    hard = gaussian(3, 14, 12, 2, over=1.05)
    hard.y[:] += 0.3 * np.std(hard.y) * np.random.default_rng(0).normal(size=hard.y.size)  # no stage reaches the target
    robust = gaussian(1, 14, 12, 2, over=2.2)
    robust.y[::3] += 5.0
    return {
        "stages": (hard, {"rank": 2}),
        "search": (gaussian(2, 14, 12, 2, over=1.5, kappa=50.0), {}),
        "semidefinite": (gaussian(2, 12, r=2, over=1.2, kappa=20.0, psd=True), {"rank": 2, "psd": True}),
        "entries": (completion(0, 20, 2, m=150, kappa=30.0), {"rank": 2}),
        "outliers": (robust, {"rank": 2, "loss": "l1"}),
    }


@pytest.mark.parametrize("name", ["stages", "search", "semidefinite", "entries", "outliers"])
def test_a_run_goes_on_as_if_it_had_not_been_left(name, tmp_path):
    problem, options = _cases_of_all_stages()[name]
    whole = sensing.recover(problem.A, problem.y, **options)
    cuts = sorted({int(n) for n in whole.history["nit"] if n < whole.nit})
    for cut in cuts[:: max(1, len(cuts) // 8)]:
        first = sensing.recover(problem.A, problem.y, maxiter=cut, **options)
        assert first.nit == cut
        rest = sensing.recover(problem.A, problem.y, init=first, **options)
        assert rest.nit == whole.nit
        assert rest.state.stage == whole.state.stage
        for u, v in zip(rest.factors, whole.factors, strict=True):
            np.testing.assert_array_equal(u, v)
    assert rest.success == whole.success

    class Killed(KeyboardInterrupt):
        pass

    def kill(intermediate_result):
        if intermediate_result.nit >= cuts[len(cuts) // 2]:
            raise Killed

    path = tmp_path / "run.npz"
    with pytest.raises(Killed):
        sensing.recover(problem.A, problem.y, checkpoint=path, callback=kill, **options)
    again = sensing.recover(problem.A, problem.y, checkpoint=path, **options)
    assert again.history["nit"] == whole.history["nit"]
    for u, v in zip(again.factors, whole.factors, strict=True):
        np.testing.assert_array_equal(u, v)
    with pytest.raises(ValueError, match="another problem"):
        sensing.recover(problem.A, problem.y + 1.0, checkpoint=path, **options)
