"""Estimators: scikit-learn's rules, scikit-learn's own models at what was found, labels, weights, sparse data."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from optlib import bilevel
from optlib.bilevel import DataCleaner, KernelRidgeTuned, LogisticRegressionTuned, RidgeTuned


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator",
    [
        RidgeTuned(),
        LogisticRegressionTuned(cv=2, tol=0.05),
        KernelRidgeTuned(),
        DataCleaner(ridge=0.1, max_iter=10),
        pytest.param(LogisticRegressionTuned(), marks=pytest.mark.slow),
        pytest.param(DataCleaner(ridge=0.01), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_scikit_learn_checks(estimator):
    found = check_estimator(estimator, on_fail=None, on_skip=None)
    assert not [(row["check_name"], row["exception"]) for row in found if row["status"] == "failed"]
    assert sum(row["status"] == "passed" for row in found) >= 40


def test_scikit_learn_comes_in_where_it_is_used():
    code = "import sys, optlib.bilevel; print('sklearn' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="LassoTuner"):
        bilevel.LassoTuner  # noqa: B018


def regression(seed=0, n=60, d=8):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) + 1.0
    return X, X @ (rng.normal(size=d) * (np.arange(d) < 4)) + 3.0 + rng.normal(size=n)


# -- ridge regression --


@pytest.mark.parametrize("cv", [None, 4, 0.3, GroupKFold(3)])
@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_is_that_of_scikit_learn(cv, intercept):
    X, t = regression()
    if isinstance(cv, GroupKFold):
        cv = list(cv.split(X, t, np.arange(60) // 7))
    w = np.random.default_rng(1).uniform(0.5, 2.0, size=60)
    model = RidgeTuned(cv=cv, fit_intercept=intercept, random_state=0).fit(X, t, w)
    peer = Ridge(alpha=model.penalty_, fit_intercept=intercept).fit(X, t, w)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.predict(X), peer.predict(X), rtol=1e-6)
    assert model.result_.success and model.at_bounds_ == 0


def test_ridge_with_a_penalty_a_feature():
    X, t = regression(n=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # at the box: the features that say nothing
        model = RidgeTuned(penalty="feature").fit(X, t)
    root = np.sqrt(model.penalty_)
    peer = Ridge(alpha=1.0).fit(X / root, t)
    np.testing.assert_allclose(model.coef_, peer.coef_ / root, rtol=1e-4, atol=1e-5)
    assert np.median(model.penalty_[4:]) > 10.0 * np.median(model.penalty_[:4])
    assert model.result_.fun <= RidgeTuned(cv=5).fit(X, t).result_.fun * (1 + 1e-6)


def test_ridge_of_sparse_samples():
    X, t = regression()
    X = X * (X > 0.8)
    for cv in (None, 3):
        dense, sparse = RidgeTuned(cv=cv).fit(X, t), RidgeTuned(cv=cv).fit(sp.csr_array(X), t)
        np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-6)
        np.testing.assert_allclose(sparse.predict(sp.csr_matrix(X)), dense.predict(X), rtol=1e-6)


def test_units_do_not_matter():
    X, t = regression()
    one, other = RidgeTuned().fit(X, t), RidgeTuned().fit(1e4 * X, 1e-3 * t)
    np.testing.assert_allclose(other.predict(1e4 * X), 1e-3 * one.predict(X), rtol=1e-6)


def test_the_edge_of_the_box_is_told():
    X, t = regression()
    best = RidgeTuned().fit(X, t).penalty_
    for make in (lambda box: RidgeTuned(bounds=box), lambda box: RidgeTuned(bounds=box, cv=5)):
        with pytest.warns(UserWarning, match="1 of 1 penalties at the edge"):
            model = make((best * 30.0, best * 100.0)).fit(X, t)
        assert model.at_bounds_ == 1 and model.penalty_ == pytest.approx(best * 30.0)


def test_many_hyperparameters_are_told():
    X, t = regression(n=40)
    with warnings.catch_warnings(action="always", record=True) as seen:
        RidgeTuned(penalty="feature").fit(X, t)
    assert any("8 hyperparameters for 40 validation samples" in str(w.message) for w in seen)


def test_unfinished_runs_are_told():
    X, t = regression()
    with pytest.warns(ConvergenceWarning, match="RidgeTuned"):
        RidgeTuned(max_iter=1).fit(X, t)


# -- logistic regression --


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("labels", ["numbers", "strings", "objects"])
def test_logistic_is_that_of_scikit_learn(classes, intercept, labels):
    X, t = load_iris(return_X_y=True)
    X, t = X[50:] if classes == 2 else X, t[50:] if classes == 2 else t
    if labels != "numbers":
        t = np.array(["setosa", "versicolor", "virginica"], dtype=object if labels == "objects" else None)[t]
    w = np.random.default_rng(1).uniform(0.5, 2.0, size=len(t))
    model = LogisticRegressionTuned(cv=3, fit_intercept=intercept).fit(X, t, w)
    peer = LogisticRegression(C=1.0 / model.penalty_, fit_intercept=intercept, tol=1e-10, max_iter=10**4).fit(X, t, w)
    np.testing.assert_array_equal(model.classes_, peer.classes_)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), atol=1e-4)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)).sum(axis=1), 1.0)
    assert np.mean(model.predict(X) == peer.predict(X)) > 0.99


@pytest.mark.parametrize(("penalty", "shape"), [("feature", (4,)), ("entry", (3, 4))])
def test_many_penalties_of_logistic_regression(penalty, shape):
    """The loss falls below that of the common penalty; the model is stationary with the penalties that it names."""
    X, t = load_iris(return_X_y=True)
    one = LogisticRegressionTuned(cv=3).fit(X, t)
    model = LogisticRegressionTuned(cv=3, penalty=penalty, bounds=(1e-3, 1e3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.fit(X, t)
    assert model.penalty_.shape == shape and model.result_.fun < one.result_.fun
    hot = (t[:, None] == np.arange(3)).astype(float)
    gradient = (model.predict_proba(X) - hot).T @ X + model.penalty_ * model.coef_
    assert abs(gradient).max() < 1e-4
    assert abs((model.predict_proba(X) - hot).sum(axis=0)).max() < 1e-4  # the constants have no penalty


def test_sparse_and_held_out_samples():
    X, t = load_breast_cancer(return_X_y=True)
    X = np.where(abs(Z := StandardScaler().fit_transform(X)) > 0.7, Z, 0.0)
    models = [
        LogisticRegressionTuned(cv=0.25, random_state=3).fit(form, t) for form in (X, sp.csr_array(X), sp.csc_matrix(X))
    ]
    for other in models[1:]:
        np.testing.assert_allclose(other.coef_, models[0].coef_, rtol=1e-4, atol=1e-6)
    assert models[0].result_.y.shape == (1, 31)
    assert models[0].score(X, t) > 0.95


@pytest.mark.parametrize(
    ("y", "options", "match"),
    [
        (["a"] * 20, {}, "one class"),
        (["a"] * 19 + ["b"], {"cv": 0.5}, "class"),
        (["a"] * 10 + ["b"] * 10, {"cv": 0.0}, "`cv`"),
        (["a"] * 10 + ["b"] * 10, {"cv": []}, "No|cv|no folds"),
        (["a"] * 10 + ["b"] * 10, {"cv": [(np.arange(10), np.arange(10, 20))]}, "class 'b'.*fold 0"),
        (["a"] * 10 + ["b"] * 10, {"cv": [(np.arange(20), [])]}, "`cv`.*fold 0"),
        (["a"] * 10 + ["b"] * 10, {"penalty": "l2"}, "`penalty`"),
        (["a"] * 10 + ["b"] * 10, {"bounds": (1.0, 0.1)}, "`bounds`"),
        (["a"] * 10 + ["b"] * 10, {"bounds": (0.0, 0.1)}, "`bounds`"),
    ],
)
def test_bad_input_is_named(y, options, match):
    X = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match=match):
        LogisticRegressionTuned(**options).fit(X, np.array(y))


# -- kernel ridge regression --


def test_kernel_ridge_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2.0, 2.0, size=(80, 2))
    t = np.sin(3.0 * X[:, 0]) * X[:, 1] + 0.1 * rng.normal(size=80)
    for cv in (5, 0.3):
        model = KernelRidgeTuned(cv=cv, random_state=0).fit(X, t)
        peer = KernelRidge(alpha=model.penalty_, kernel="rbf", gamma=model.gamma_).fit(X, t)
        np.testing.assert_allclose(model.predict(X[:9] + 0.1), peer.predict(X[:9] + 0.1), rtol=1e-6)
        assert model.result_.success and model.score(X, t) > 0.95
    with pytest.raises(ValueError, match=r"`cv`.*fold 0"):
        KernelRidgeTuned(cv=[(np.arange(10), np.arange(10, 20))]).fit(X, t)
    with pytest.warns(UserWarning, match="1 of 2 hyperparameters at the edge"):
        KernelRidgeTuned(penalty_bounds=(10.0, 100.0)).fit(X, t)
    with pytest.warns(UserWarning, match="1 of 2 hyperparameters at the edge"):
        assert 0.99e-3 <= KernelRidgeTuned(gamma_bounds=(1e-3, 1e-2)).fit(X, t).gamma_ <= 1.01e-2


# -- cleaning --


def noisy(seed=0, n=200, share=0.4):
    rng = np.random.default_rng(seed)
    means = 2.0 * rng.normal(size=(3, 5))
    right = np.arange(n + 60) % 3
    X = means[right] + rng.normal(size=(n + 60, 5))
    labels = np.array(["a", "b", "c"])[right]
    wrong = rng.random(n) < share
    y = labels[:n].copy()
    y[wrong] = np.array(["a", "b", "c"])[(right[:n][wrong] + rng.integers(1, 3, wrong.sum())) % 3]
    return X[:n], y, X[n:], labels[n:], wrong


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_cleaner_finds_the_wrong_labels(form):
    X, y, V, c, wrong = noisy()
    model = DataCleaner(ridge=0.01).fit(form(X), y, form(V[:30]), c[:30])
    assert np.mean((model.weights_ < 0.5) == wrong) > 0.85
    plain = DataCleaner(ridge=0.01, max_iter=1, tol=1e9).fit(X, y, V[:30], c[:30])
    assert model.score(form(V[30:]), c[30:]) >= plain.score(V[30:], c[30:])
    assert model.coef_.shape == (3, 5) and model.predict_proba(V).shape == (60, 3)


def test_cleaner_with_a_share_of_its_samples():
    X, y, V, c, _ = noisy(share=0.1)
    model = DataCleaner(ridge=0.01, random_state=0).fit(X, y)
    assert np.sum(model.weights_ == 1.0) == 40
    assert model.score(V, c) > 0.8


def test_bad_input_of_the_cleaner():
    X, y, V, c, _ = noisy(n=30)
    with pytest.raises(TypeError, match=r"`X_clean, y_clean`"):
        DataCleaner().fit(X, y, V)
    with pytest.raises(ValueError, match=r"`y_clean`.*'z'"):
        DataCleaner().fit(X, y, V, np.where(c == "a", "z", c))
    with pytest.raises(ValueError, match=r"`cv`.*5 folds"):
        DataCleaner(cv=5).fit(X, y)
    with pytest.raises(ValueError, match=r"`ridge`"):
        DataCleaner(ridge=0.0).fit(X, y)


# -- among scikit-learn's tools --


def test_in_pipelines():
    X, t = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegressionTuned(cv=0.3, random_state=0))
    assert cross_val_score(model, X, t, cv=3).mean() > 0.95
    assert clone(model).fit(X, t)[-1].classes_.tolist() == [0, 1]
    X, t = regression()
    t = np.sin(2.0 * X[:, 0]) + 0.1 * t
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), KernelRidgeTuned()), transformer=StandardScaler()
    )
    assert model.fit(X, t).score(X, t) > 0.8


def test_boxes_are_named_and_may_be_arrays():
    X, t = regression()
    with pytest.raises(ValueError, match="`penalty_bounds`: got"):
        KernelRidgeTuned(penalty_bounds=(2.0, 1.0)).fit(X, t)
    with pytest.raises(TypeError, match="`gamma_bounds`: got"):
        KernelRidgeTuned(gamma_bounds="wide").fit(X, t)
    with pytest.warns(UserWarning, match="widen `gamma_bounds` or `penalty_bounds`"):
        KernelRidgeTuned(penalty_bounds=np.array([1e3, 1e4])).fit(X[:40], t[:40])
