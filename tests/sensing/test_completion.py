"""Ratings: the solver against ridge regression and its own objective, the estimator against scikit-learn's rules."""

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from optlib import sensing
from optlib.backend import to_numpy
from optlib.sensing import MatrixCompletion


def ratings(seed, n1=30, n2=20, m=300, rank=2, noise=0.1, **given):
    rng = np.random.default_rng(seed)
    A = sensing.random_entries((n1, n2), m, rng=rng, **given)
    M = rng.normal(size=(n1, rank)) @ rng.normal(size=(rank, n2)) + 3.0
    M += rng.normal(size=(n1, 1)) + rng.normal(size=n2)
    return A, M, M[to_numpy(A.rows), to_numpy(A.cols)] + noise * rng.normal(size=m)


def table(seed, **options):
    A, M, y = ratings(seed, **options)
    X = np.full(M.shape, np.nan)
    X[A.rows, A.cols] = y
    return X, M


def objective(A, y, result, ridge, weights):
    (U, V), (b, c) = result.interactions, result.biases
    residual = result.mean + b[A.rows] + c[A.cols] + np.sum(U[A.rows] * V[A.cols], axis=1) - y
    per_row = np.sqrt(np.bincount(A.rows, minlength=b.size))
    per_column = np.sqrt(np.bincount(A.cols, weights[A.rows], c.size))
    penalty = np.sum(weights * (per_row * np.sum(U**2, axis=1) + b**2)) + np.sum(per_column[:, None] * V**2) + c @ c
    return np.sum(weights[A.rows] * residual**2) + ridge * penalty


# -- the solver --


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10.0))
def test_biases_are_a_ridge_regression(seed, ridge):
    A, _M, y = ratings(seed, 8, 6, 25)
    result = sensing.biased_factorization(A, y, rank=0, ridge=ridge, tol=1e-12)
    design = np.zeros((25 + 14, 14))
    design[np.arange(25), A.rows] = design[np.arange(25), 8 + A.cols] = 1.0
    design[25:] = np.sqrt(ridge) * np.eye(14)
    expected = np.linalg.lstsq(design, np.append(y - y.mean(), np.zeros(14)))[0]
    np.testing.assert_allclose(np.concatenate(result.biases), expected, atol=1e-8)
    assert result.mean == pytest.approx(y.mean())


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 5.0), st.integers(1, 4), st.booleans())
def test_minimum_of_its_objective(seed, ridge, rank, weighted):
    A, _M, y = ratings(seed)
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2.0, size=30) if weighted else np.ones(30)
    result = sensing.biased_factorization(A, y, rank=rank, ridge=ridge, weights=weights, maxiter=2000)
    value = objective(A, y, result, ridge, weights)
    assert result.fun == pytest.approx(value)
    assert np.all(np.diff(result.history["fun"]) <= 1e-9 * result.history["fun"][0])
    if result.success:  # nothing close by is lower, up to the square of the tolerance
        for scale in (1e-2, 1e-4):
            moved = {
                "interactions": [F + scale * rng.normal(size=F.shape) for F in result.interactions],
                "biases": [b + scale * rng.normal(size=b.shape) for b in result.biases],
            }
            other = objective(A, y, type(result)({**result, **moved}), ridge, weights)
            assert other > value - 1e-5 * value * scale


def test_most_runs_succeed():
    runs = [sensing.biased_factorization(*(ratings(s)[::2]), rank=3, ridge=r) for s in range(10) for r in (0.1, 1.0)]
    assert sum(run.success for run in runs) >= 19


def test_parts_add_up():
    A, M, y = ratings(0)
    result = sensing.biased_factorization(A, y, rank=2, ridge=0.1)
    (U, V), (b, c) = result.interactions, result.biases
    np.testing.assert_allclose(result.matrix.toarray(), result.mean + b[:, None] + c + U @ V.T, atol=1e-12)
    assert np.sqrt(np.mean((result.matrix.toarray() - M) ** 2)) < 0.25
    assert result.rank == 2


@given(st.integers(0, 2**32 - 1))
def test_a_row_of_weight_two_is_two_rows(seed):
    A, _M, y = ratings(seed, 12, 8, 60)
    double = A.rows == 3
    twice = sensing.EntrySampling(
        np.append(A.rows, np.full(double.sum(), 12)), np.append(A.cols, A.cols[double]), (13, 8)
    )
    weights = np.where(np.arange(12) == 3, 2.0, 1.0)
    weighted = sensing.biased_factorization(A, y, rank=1, ridge=2.0, weights=weights, tol=1e-10)
    repeated = sensing.biased_factorization(twice, np.append(y, y[double]), rank=1, ridge=2.0, tol=1e-10)
    if weighted.success and repeated.success:
        assert weighted.fun == pytest.approx(repeated.fun, rel=1e-3)  # as a rule in the same minimum


def test_empty_rows_and_columns_are_zero_and_noted():
    A = sensing.EntrySampling([0, 0, 2, 2], [0, 1, 0, 3], (4, 5))
    result = sensing.biased_factorization(A, [1.0, 2.0, 3.0, 5.0], rank=2)
    (U, V), (b, c) = result.interactions, result.biases
    for part in (U, b[:, None]):
        assert np.all(part[[1, 3]] == 0.0)
    for part in (V, c[:, None]):
        assert np.all(part[[2, 4]] == 0.0)
    assert "2 rows and 2 columns without entries" in result.certificate.note
    np.testing.assert_allclose(result.matrix.at([1], [2]), 2.75)


@pytest.mark.parametrize("value", [0.0, 4.0])
def test_constant_ratings(value):
    A = sensing.random_entries((9, 7), 40, rng=0)
    result = sensing.biased_factorization(A, np.full(40, value), rank=3)
    assert result.success
    np.testing.assert_allclose(result.matrix.toarray(), value, atol=1e-12)


def test_backends_agree(backend, engine):
    A, _M, y = ratings(1, like=backend.asarray([0.0]))
    options = {"rank": 2, "ridge": 0.5, "tol": None, "maxiter": 20}
    result = sensing.biased_factorization(A, backend.asarray(y), **options)
    expected = sensing.biased_factorization(*ratings(1)[::2], **options)
    np.testing.assert_allclose(
        to_numpy(result.matrix.toarray()), expected.matrix.toarray(), atol=1e-6 if backend.is_double else 2e-3
    )


def test_wrong_ranks_and_weights_are_named():
    A, _, y = ratings(0)
    with pytest.raises(ValueError, match="`rank`"):
        sensing.biased_factorization(A, y, rank=21)
    with pytest.raises(ValueError, match=r"`weights`.*zeros"):
        sensing.biased_factorization(A, y, rank=1, weights=np.zeros(30))


# -- the estimator --


class Imputer(MatrixCompletion):
    """Without `predict`, which takes places here and a table in scikit-learn."""

    @property
    def predict(self):
        raise AttributeError("predict")


CALL_PREDICT_WITH_A_TABLE = dict.fromkeys(
    (
        "check_n_features_in_after_fitting",
        "check_estimators_dtypes",
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
        "check_dtype_object",
        "check_estimator_sparse_array",
        "check_estimator_sparse_matrix",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_dict_unchanged",
        "check_fit_idempotent",
        "check_fit2d_predict1d",
    ),
    "predict takes places here: pairs of row and column",
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "expected"), [(Imputer(), {}), (MatrixCompletion(), CALL_PREDICT_WITH_A_TABLE)], ids=["all", "but"]
)
def test_scikit_learn_checks(estimator, expected):
    found = check_estimator(estimator, expected_failed_checks=expected, on_fail=None, on_skip=None)
    assert not [row["check_name"] for row in found if row["status"] == "failed"]
    assert sum(row["status"] == "passed" for row in found) >= 30


def test_scikit_learn_comes_in_where_it_is_used():
    import subprocess
    import sys

    code = "import sys, optlib.sensing; print('sklearn' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="Completion"):
        sensing.Completion  # noqa: B018


@pytest.mark.parametrize("rank", [0, 2])
def test_fitted_rows_are_folded_in_as_they_were_fitted(rank):
    X, _M = table(0)
    model = MatrixCompletion(rank, ridge=0.3).fit(X)
    filled, hidden = model.transform(X), np.isnan(X)
    np.testing.assert_array_equal(filled[~hidden], X[~hidden])
    np.testing.assert_allclose(filled[hidden], model.predict(np.argwhere(hidden)), rtol=1e-9)
    np.testing.assert_allclose(clone(model).fit_transform(X), filled)
    sparse = sp.coo_array((X[~hidden], np.nonzero(~hidden)), shape=X.shape)
    for form in (sparse, sparse.tocsr(), sparse.tocsc()):
        np.testing.assert_allclose(clone(model).fit(form).transform(form), filled, rtol=1e-9)


def test_new_rows_are_ridge_regressions():
    X, M = table(0, noise=0.0, m=400)
    model = MatrixCompletion(2, ridge=0.3).fit(X)
    new = np.where(np.arange(20) % 2 == 0, M[0] + 0.5, np.nan)
    y = (new[::2] - model.mean_) / model.scale_ - model.column_bias_[::2]
    design = np.hstack([model.components_.T[::2], np.ones((10, 1))])
    penalty = 0.3 * np.diag([np.sqrt(10), np.sqrt(10), 1.0])
    x = np.linalg.solve(design.T @ design + penalty, design.T @ y)
    whole = np.hstack([model.components_.T, np.ones((20, 1))]) @ x + model.column_bias_
    expected = whole * model.scale_ + model.mean_
    np.testing.assert_allclose(model.transform(new[None, :])[0, 1::2], expected[1::2])
    pairs = np.column_stack([np.zeros(20, int), np.arange(20)])
    np.testing.assert_allclose(model.predict(pairs, new[None, :]), expected)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100.0), st.floats(-50.0, 50.0))
def test_units_do_not_matter(seed, scale, shift):
    X, _ = table(seed, n1=12, n2=8, m=60)
    model = MatrixCompletion(2, ridge=1.0, tol=1e-4, max_iter=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = scale * model.fit_transform(X) + shift
        np.testing.assert_allclose(model.fit_transform(scale * X + shift), expected, atol=1e-5 * (scale + abs(shift)))


def test_empty_rows_columns_and_tables():
    X, _ = table(0)
    X[3], X[:, 5] = np.nan, np.nan
    model = MatrixCompletion(2).fit(X)
    assert "1 rows and 1 columns without entries" in model.result_.certificate.note
    filled = model.transform(X)
    assert np.all(np.isfinite(filled))
    np.testing.assert_allclose(filled[3], model.mean_ + model.scale_ * model.column_bias_)
    np.testing.assert_allclose(filled[:, 5], model.mean_ + model.scale_ * model.row_bias_)
    np.testing.assert_allclose(model.transform(np.full((2, 20), np.nan))[1], filled[3])
    with pytest.raises(ValueError, match=r"`X`.*observed"):
        model.fit(np.full((2, 3), np.nan))


def test_constant_table_and_single_entry():
    X = np.array([[4.0, np.nan], [4.0, 4.0]])
    np.testing.assert_allclose(MatrixCompletion().fit_transform(X), 4.0)
    np.testing.assert_allclose(MatrixCompletion().fit_transform([[np.nan, 2.0]]), 2.0)


def test_stored_zeros_count_and_duplicates_are_refused():
    X = sp.coo_array(([0.0, 2.0], ([0, 1], [0, 1])), shape=(2, 2))
    assert MatrixCompletion(0).fit(X).mean_ == 1.0
    twice = sp.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(ValueError, match="twice"):
        MatrixCompletion().fit(twice)


@pytest.mark.parametrize("pairs", [[[0.5, 1.0]], [0, 1], [[30, 0]], [[0, -1]]])
def test_wrong_pairs_are_named(pairs):
    model = MatrixCompletion(1).fit(table(0)[0])
    with pytest.raises(ValueError, match="`pairs`"):
        model.predict(pairs)


def test_as_an_imputer_it_beats_the_mean():
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 12)) + 0.1 * rng.normal(size=(300, 12))
    target = whole @ rng.normal(size=12)
    X = np.where(rng.random(whole.shape) < 0.3, np.nan, whole)
    low_rank = make_pipeline(StandardScaler(), MatrixCompletion(3, ridge=0.1), LinearRegression())
    means = make_pipeline(StandardScaler(), MatrixCompletion(0, ridge=1e6), LinearRegression())
    scores = [model.fit(X[:200], target[:200]).score(X[200:], target[200:]) for model in (low_rank, means)]
    assert 1.0 - scores[0] < 0.5 * (1.0 - scores[1])
    assert low_rank[1].get_feature_names_out().shape == (12,)


def test_too_few_iterations_warn():
    with pytest.warns(ConvergenceWarning, match="maxiter"):
        MatrixCompletion(2, max_iter=1, tol=1e-9).fit(table(0)[0])


def test_single_precision_stays():
    X, _ = table(0)
    model = MatrixCompletion(2, tol=1e-3).fit(X.astype(np.float32))
    assert model.components_.dtype == model.transform(X.astype(np.float32)).dtype == np.float32
