"""Lasso and elastic net whose penalties are tuned by cross-validation."""

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from optlib._core import validation as check
from optlib.bilevel.estimators._shared import LinearRegressor, sample_weights, splits, tuned
from optlib.bilevel.problems.lasso import ElasticNetProblem, LassoProblem, SparseModelProblem
from optlib.inner import coordinate_descent

FOLDS = 5
EDGE = "where no feature is left, or the penalty is as good as none"
REFIT = 1e-10  # relative duality gap of the last fit


class SparseRegressor(LinearRegressor):
    """What `LassoTuned` and `ElasticNetTuned` share: folds and the last fit."""

    _problem: type[SparseModelProblem]

    def _tune(self, X: Any, y: Any, sample_weight: Any, penalty: str) -> np.ndarray:
        """Tune, fit to all samples, and return the penalties."""
        check.option("fit_intercept", self.fit_intercept, (True, False))
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        y = np.asarray(y, dtype=np.float64)
        weights = sample_weights(sample_weight, X)
        folds = splits(FOLDS if self.cv is None else self.cv, X, y, random_state=self.random_state)
        problem = self._problem.cross(
            X, y, folds=folds, penalty=penalty, intercept=self.fit_intercept,
            sample_weight=None if sample_weight is None else weights,
        )  # fmt: skip
        self.result_ = tuned(
            self, problem, unit="" if penalty == "feature" else "penalties", beyond=EDGE, tol=self.tol,
            maxiter=self.max_iter,
        )  # fmt: skip
        l1, l2 = problem.penalties(self.result_.x)
        model = coordinate_descent(
            X, y, l1, l2=l2, intercept=self.fit_intercept, sample_weight=weights, tol=REFIT, record=False
        )
        self.coef_, self.intercept_ = model.x, model.intercept
        self.at_bounds_, self.n_iter_ = self.result_.at_bounds, self.result_.nit
        return np.exp(self.result_.x)


class LassoTuned(SparseRegressor):
    """Lasso ``sum_i (a_i'y - t_i)^2 / 2n + sum_j alpha_j |y_j|`` with one tuned penalty, or one for every feature.

    Parameters
    ----------
    penalty : {"scalar", "feature"}
        One penalty, or one for every feature.
    cv : float, int, splitter or iterable, optional
        A number of folds (5 by default), a share of the samples to hold out, or any splitter of scikit-learn.
    fit_intercept : bool
        Whether there is a constant, without penalty.
    tol : float
        Tolerance of `piecewise` or `nonsmooth`.
    max_iter : int
        Largest number of steps.
    random_state : int, RandomState or None
        Of a share that is held out.

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
        Coefficients of the model of all samples.
    intercept_ : float
        Its constant.
    alpha_ : float or ndarray, shape (n_features,)
        The penalties, in units of ``alpha`` of scikit-learn's ``Lasso``.
    at_bounds_ : int
        Number of penalties at an edge of the box. At the upper one no feature helps to predict what is left out. One
        penalty there comes with a warning; of one for every feature, many are.
    result_ : BilevelResult
        Of the tuning; ``result_.fun`` is the mean squared error on what was left out.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    LassoProblem : The problem that is tuned.
    ElasticNetTuned : With a second penalty.

    Notes
    -----
    Cost: ten to twenty values of alpha instead of a grid of a hundred, warm. The features are not scaled: put a scaler
    before it in a pipeline where their units differ.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import LassoTuned
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 100))
    >>> y = X[:, 0] - X[:, 1] + 0.5 * rng.normal(size=60)
    >>> model = LassoTuned().fit(X, y)
    >>> bool(0.01 < model.alpha_ < 0.3), bool(np.all(model.coef_[:2] != 0.0))
    (True, True)
    """

    _problem = LassoProblem

    def __init__(
        self, *, penalty: str = "scalar", cv: Any = None, fit_intercept: bool = True, tol: float = 1e-4,
        max_iter: int = 200, random_state: Any = None,
    ) -> None:  # fmt: skip
        self.penalty = penalty
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LassoTuned":
        """Tune the penalties, and fit the model to all samples.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.
        y : array, shape (n_samples,)
            Targets.
        sample_weight : array, shape (n_samples,), optional
            Weights >= 0, in the fits and in the error.

        Returns
        -------
        LassoTuned
            The estimator.
        """
        check.option("penalty", self.penalty, ("scalar", "feature"))
        alpha = self._tune(X, y, sample_weight, self.penalty)
        self.alpha_ = alpha if self.penalty == "feature" else float(alpha[0])
        return self


class ElasticNetTuned(SparseRegressor):
    """Elastic net ``sum_i (a_i'y - t_i)^2 / 2n + l1 |y|_1 + l2 |y|^2 / 2`` with both penalties tuned.

    Parameters
    ----------
    cv : float, int, splitter or iterable, optional
        A number of folds (5 by default), a share of the samples to hold out, or any splitter of scikit-learn.
    fit_intercept : bool
        Whether there is a constant, without penalty.
    tol : float
        Tolerance of `nonsmooth`.
    max_iter : int
        Largest number of steps.
    random_state : int, RandomState or None
        Of a share that is held out.

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
        Coefficients of the model of all samples.
    intercept_ : float
        Its constant.
    alpha_, l1_ratio_ : float
        The penalties as scikit-learn's ``ElasticNet`` has them: ``l1 = alpha l1_ratio``, ``l2 = alpha (1 - l1_ratio)``.
    at_bounds_ : int
        Number of penalties at an edge of the box: often the lower one for the second penalty, which is a lasso. There
        is a warning.
    result_ : BilevelResult
        Of the tuning; ``result_.fun`` is the mean squared error on what was left out.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    ElasticNetProblem : The problem that is tuned.
    LassoTuned : With one penalty, or one for every feature.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import ElasticNetTuned
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 20))
    >>> y = X[:, 0] - X[:, 1] + 0.5 * rng.normal(size=60)
    >>> model = ElasticNetTuned().fit(X, y)
    >>> bool(0.0 < model.l1_ratio_ <= 1.0), bool(model.score(X, y) > 0.8)
    (True, True)
    """

    _problem = ElasticNetProblem

    def __init__(
        self, *, cv: Any = None, fit_intercept: bool = True, tol: float = 3e-3, max_iter: int = 200,
        random_state: Any = None,
    ) -> None:  # fmt: skip
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "ElasticNetTuned":
        """Tune the penalties, and fit the model to all samples.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.
        y : array, shape (n_samples,)
            Targets.
        sample_weight : array, shape (n_samples,), optional
            Weights >= 0, in the fits and in the error.

        Returns
        -------
        ElasticNetTuned
            The estimator.
        """
        l1, l2 = (float(v) for v in self._tune(X, y, sample_weight, "scalar"))
        self.alpha_, self.l1_ratio_ = l1 + l2, l1 / (l1 + l2)
        return self
