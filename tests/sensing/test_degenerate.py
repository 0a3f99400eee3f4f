"""Zero, constant, inexplicable and far too few measurements: every answer is finite, and claims only what holds."""

import numpy as np
import pytest

from optlib import sensing
from optlib.sensing._front import METHODS

G = sensing.GaussianSensing((6, 6), 30, rng=0)
E = sensing.random_entries((6, 6), 22, rng=0)
ONES = np.ones((6, 6))

PROBLEMS = {
    "zero": (G, np.zeros(30)),
    "zero-entries": (E, np.zeros(22)),
    "constant-entries": (E, np.full(22, 3.0)),
    "inexplicable": (G, np.random.default_rng(0).normal(size=30)),
    "empty-rows-and-columns": (sensing.EntrySampling([0, 1, 1, 3], [0, 0, 2, 4], (6, 6)), np.arange(1.0, 5.0)),
    "one-measurement": (sensing.GaussianSensing((6, 6), 1, rng=0), np.ones(1)),
    "one-entry": (sensing.EntrySampling([0], [0], (1, 1)), np.array([2.0])),
    "huge": (G, 1e140 * G.forward(ONES)),
    "tiny": (G, 1e-140 * G.forward(ONES)),
}

METHODS_BY_NAME = {
    **METHODS,
    "recover": sensing.recover,
    "lifted": sensing.lifted,
    "l1": lambda A, y, **go: sensing.recover(A, y, loss="l1", **go),
    "scaled-subgradient": lambda A, y, **go: sensing.subgradient(A, y, scaled=True, **go),
    "geometric-subgradient": lambda A, y, **go: sensing.subgradient(A, y, rule="geometric", **go),
    "sketched": lambda A, y, **go: sensing.alternating_minimization(A, y, inner=3, sketch=2, rng=0, **go),
}
CONVEX, NO_RANK = ("fista", "soft_impute"), ("fista", "soft_impute", "svt", "lifted")
COMPLETION = ("alternating_minimization", "sketched", "soft_impute", "svt")


ENTRIES = [problem for problem, (A, _) in PROBLEMS.items() if isinstance(A, sensing.EntrySampling)]


@pytest.mark.parametrize(
    ("name", "problem"), [(m, p) for m in METHODS_BY_NAME for p in (ENTRIES if m in COMPLETION else PROBLEMS)]
)
def test_finite_and_honest(name, problem):
    A, y = PROBLEMS[problem]
    for rank in (1,) if name in NO_RANK else sorted({1, A.matrix_shape[0]}):
        options = {} if name in NO_RANK else {"rank": rank}
        options |= {"reg": 0.1} if name in CONVEX else {}
        result = METHODS_BY_NAME[name](A, y, maxiter=30, **options)
        X = result.matrix.toarray()
        assert np.all(np.isfinite(X))
        assert np.isfinite(result.certificate.value)
        assert str(result)
        left_out = getattr(result, "outliers", np.zeros(y.size, dtype=bool))
        residual = np.linalg.norm((A.forward(X) - y)[~left_out])
        if result.success and result.certificate.kind == "residual":
            assert residual <= 1e-9 * (np.linalg.norm(y) or 1.0)
        if problem == "empty-rows-and-columns" and name not in NO_RANK:
            assert "not identifiable" in str(result.certificate)


@pytest.mark.parametrize("name", ["recover", "gradient_descent", "alternating_minimization", "soft_impute", "svt"])
def test_a_named_error_instead_of_overflow(name):
    A = sensing.random_entries((4, 3), 9, rng=0)
    options = {"rank": 1} if name not in NO_RANK else {"reg": 0.1} if name in CONVEX else {}
    for size in (1e200, 1e-200):
        with pytest.raises(ValueError, match=r"`y`.*rescale"):
            METHODS_BY_NAME[name](A, np.full(9, size), **options)
    zero = sensing.DenseSensing(np.zeros((3, 4, 4)))
    if name not in COMPLETION:
        with pytest.raises(ValueError, match=r"`A`.*zero"):
            METHODS_BY_NAME[name](zero, np.ones(3), **options)


def test_constant_ratings_and_empty_rows():
    """A constant matrix of rank one is completed where there are entries; rows without any are zero."""
    rng = np.random.default_rng(0)
    i, j = np.nonzero(rng.random((20, 15)) < 0.6)
    i, j = i[i != 7], j[i != 7]
    A = sensing.EntrySampling(i, j, (20, 15))
    for result in (
        sensing.recover(A, np.full(i.size, 4.0)),
        sensing.alternating_minimization(A, np.full(i.size, 4.0), rank=1),
    ):
        assert result.success
        assert result.rank == 1
        X = result.matrix.toarray()
        np.testing.assert_allclose(X[[k for k in range(20) if k != 7]], 4.0, rtol=1e-9)
        np.testing.assert_allclose(X[7], 0.0, atol=1e-12)
        assert "1 rows and 0 columns" in str(result.certificate)
