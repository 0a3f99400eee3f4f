"""Lasso estimators: scikit-learn's rules and models, weights, sparse samples, a place in a pipeline."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import ElasticNet, Lasso, LassoCV
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from optlib.bilevel import ElasticNetTuned, LassoTuned


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [LassoTuned(), ElasticNetTuned(cv=2, tol=0.05)], ids=str)
def test_scikit_learn_checks(estimator):
    found = check_estimator(estimator, on_fail=None, on_skip=None)
    assert not [(row["check_name"], row["exception"]) for row in found if row["status"] == "failed"]
    assert sum(row["status"] == "passed" for row in found) >= 40


def regression(seed=0, n=60, p=40):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.linspace(0.5, 2.0, p) + 1.0
    return X, X[:, 0] - X[:, 1] + 2.0 * X[:, 2] + 3.0 + rng.normal(size=n)


def test_lasso_against_scikit_learn():
    """The penalty is as good as the best of LassoCV, the model is that of Lasso."""
    X, y = regression()
    model = LassoTuned(cv=KFold(5)).fit(X, y)
    peer = LassoCV(alphas=100, cv=KFold(5)).fit(X, y)
    assert model.result_.success and model.result_.fun <= 1.001 * peer.mse_path_.mean(axis=1).min()
    same = Lasso(alpha=model.alpha_, tol=1e-12, max_iter=100_000).fit(X, y)
    assert np.allclose(model.coef_, same.coef_, atol=1e-5) and abs(model.intercept_ - same.intercept_) < 1e-4
    assert np.allclose(model.predict(X), same.predict(X), atol=1e-4)
    assert model.n_iter_ == model.result_.nit and model.at_bounds_ == 0


def test_elastic_net_against_scikit_learn():
    X, y = regression(1)
    model = ElasticNetTuned(cv=KFold(5)).fit(X, y)
    same = ElasticNet(alpha=model.alpha_, l1_ratio=model.l1_ratio_, tol=1e-12, max_iter=100_000).fit(X, y)
    assert np.allclose(model.coef_, same.coef_, atol=1e-5)
    scores = cross_val_score(same, X, y, cv=KFold(5), scoring="neg_mean_squared_error")
    assert abs(-scores.mean() - model.result_.fun) <= 1e-4 * model.result_.fun
    grid = GridSearchCV(
        ElasticNet(), {"alpha": np.geomspace(0.01, 1.0, 6), "l1_ratio": [0.1, 0.5, 0.9]}, cv=KFold(5),
        scoring="neg_mean_squared_error",
    ).fit(X, y)  # fmt: skip
    assert model.result_.fun <= -grid.best_score_


def test_sparse_samples_and_weights():
    X, y = regression(2)
    X[np.abs(X) < 1.0] = 0.0
    weights = 1.0 + np.arange(60) % 2
    dense = LassoTuned().fit(X, y, weights)
    sparse = LassoTuned().fit(sp.csr_array(X), y, weights)
    assert np.allclose(dense.coef_, sparse.coef_, atol=1e-6) and np.allclose(
        dense.predict(X), sparse.predict(sp.csc_array(X))
    )
    assert not np.allclose(dense.coef_, LassoTuned().fit(X, y).coef_, atol=1e-4)


def test_in_a_pipeline_and_without_intercept():
    X, y = regression(3)
    model = make_pipeline(StandardScaler(), LassoTuned(cv=3)).fit(X, y)
    assert model.score(X, y) > 0.7
    plain = LassoTuned(fit_intercept=False, cv=0.3, random_state=0).fit(X, y)
    assert plain.intercept_ == 0.0 and np.count_nonzero(plain.coef_) > 0


def test_a_penalty_for_every_feature():
    X, y = regression(4, n=100, p=8)
    one = LassoTuned().fit(X, y)
    many = LassoTuned(penalty="feature", tol=1e-2).fit(X, y)
    assert many.alpha_.shape == (8,) and many.result_.fun <= one.result_.fun * (1.0 + 1e-6)


def test_noise_selects_nothing():
    rng = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="1 of 1 penalties at the edge of their box, where no feature is left"):
        model = LassoTuned().fit(rng.normal(size=(40, 30)), rng.normal(size=40))
    assert model.at_bounds_ == 1 and np.count_nonzero(model.coef_) <= 5


def test_bad_input():
    X, y = regression()
    with pytest.raises(ValueError, match="`penalty`"):
        LassoTuned(penalty="entry").fit(X, y)
    with pytest.raises(ValueError, match="`sample_weight`"):
        LassoTuned().fit(X, y, np.zeros(60))
    with pytest.raises(ValueError, match="`cv`"):
        LassoTuned(cv=1.5).fit(X, y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("estimator", [LassoTuned, ElasticNetTuned])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_what_is_constant_selects_nothing(estimator, form):
    """Constant targets and features, up to rounding: zero coefficients, and that is proven."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.normal(size=60)
    constant = np.tile([0.1, 0.3, 1e6], (60, 1))
    for samples, targets in ((X, np.full(60, 0.1)), (constant, y)):
        model = estimator().fit(form(samples), targets)
        assert not model.coef_.any() and model.result_.success, model.result_
        assert np.allclose(model.intercept_, targets.mean(), rtol=1e-12)
