"""Estimators beside grid searches of scikit-learn on the same folds: a loss no worse, for a fraction of the fits."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale

from optlib.bilevel import KernelRidgeTuned, LogisticRegressionTuned, RidgeTuned

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_cv(weighted):
    X, t = load_diabetes(return_X_y=True)
    w = np.random.default_rng(0).uniform(0.5, 2.0, size=len(t)) if weighted else np.ones(len(t))
    model, peer = RidgeTuned().fit(X, t, w), RidgeCV(alphas=np.logspace(-4, 2, 200)).fit(X, t, w)
    assert model.penalty_ == pytest.approx(peer.alpha_, rel=0.5)  # the error is flat there
    assert 2.0 * model.result_.fun <= -peer.best_score_ * (1 + 1e-4) or weighted  # its score has no weights
    np.testing.assert_allclose(model.predict(X), peer.predict(X), atol=2.0)  # targets of 25 to 346


def test_ridge_on_folds():
    X, t = load_diabetes(return_X_y=True)
    model = RidgeTuned(cv=4).fit(X, t)
    peer = RidgeCV(alphas=np.logspace(-4, 2, 40), cv=4, scoring="neg_mean_squared_error").fit(X, t)
    assert 2.0 * model.result_.fun <= -peer.best_score_ * (1 + 1e-4)


@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_grid_search_of_logistic_regression(load):
    X, t = load(return_X_y=True)
    X = scale(X)
    grid = {"C": np.logspace(-3, 4, 15)}
    peer = GridSearchCV(LogisticRegression(max_iter=1000), grid, cv=3, scoring="neg_log_loss").fit(X, t)
    model = LogisticRegressionTuned(cv=3).fit(X, t)
    assert model.result_.fun <= -peer.best_score_ * (1 + 1e-4)
    assert model.result_.counts["evaluations"] <= 25


def test_grid_search_of_kernel_ridge():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2.0, 2.0, size=(120, 2))
    t = np.sin(5.0 * X[:, 0]) * X[:, 1] + 0.3 * rng.normal(size=120)
    grid = {"alpha": np.logspace(-5, 1, 8), "gamma": np.logspace(-2, 1, 8)}
    peer = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=4, scoring="neg_mean_squared_error").fit(X, t)
    model = KernelRidgeTuned(cv=4).fit(X, t)
    assert 2.0 / 30.0 * model.result_.fun <= -peer.best_score_ * (1 + 1e-4)
    assert model.result_.counts["evaluations"] <= 40
