"""Greedy low-rank learning: stages are the best fits, the rank is found."""

import numpy as np
import pytest

from optlib import sensing
from tests.sensing.problems import Recovery, error, low_rank


def test_stages_of_all_entries_are_truncations():
    """Li, Luo, Lyu: with everything observed, the stage of rank s is the truncated eigendecomposition."""
    rng = np.random.default_rng(0)
    X, _ = low_rank(rng, 10, 10, 10, psd=True)
    values = np.array([1.0, 0.7, 0.4, 0.2, *6 * [0.05]])
    M = (X * values) @ X.T
    i, j = np.divmod(np.arange(100), 10)
    A = sensing.EntrySampling(i, j, (10, 10))
    for rank in (1, 2, 3):
        result = sensing.incremental(A, M.ravel(), rank=rank, psd=True)
        best = (X[:, :rank] * values[:rank]) @ X[:, :rank].T
        np.testing.assert_allclose(result.matrix.toarray(), best, atol=1e-6)
        assert [k for k, *_ in result.path] == list(range(1, rank + 1))
        np.testing.assert_allclose([top for _, top, _ in result.path], values[:rank], rtol=1e-6)
        np.testing.assert_allclose(result.path[-1][2], np.sum(values[rank:] ** 2), rtol=1e-8)


@pytest.mark.parametrize("psd", [True, False])
def test_rank_is_found(psd):
    rng = np.random.default_rng(1)
    left, right = low_rank(rng, 20, 20, 3, 4.0, psd)
    A = sensing.GaussianSensing((20, 20), 350, rng=rng)
    problem = Recovery(A, A.forward_factored(left, right), left, right)
    result = sensing.incremental(A, problem.y, psd=psd)
    assert result.rank == 3
    assert result.success
    assert error(result, problem) < 1e-10
    losses = [loss for *_, loss in result.path]
    assert np.all(np.diff(losses) < 0)
