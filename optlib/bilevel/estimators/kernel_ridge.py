"""Kernel ridge regression whose penalty and kernel width are tuned by cross-validation."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from optlib._core import validation as check
from optlib.bilevel.estimators._shared import log_box, sample_weights, splits, tuned
from optlib.bilevel.hypergradient import hypergradient
from optlib.bilevel.problems.kernel_ridge import KernelRidgeFoldsProblem, squared_distances

ROUND = (0.5, 1.0)  # the coarse search: fractions of the way from the start to the edges of the box


class KernelRidgeTuned(RegressorMixin, BaseEstimator):
    """Kernel ridge regression with the kernel ``exp(-gamma |a - b|^2)``, penalty and gamma tuned by cross-validation.

    Parameters
    ----------
    cv : int, float, splitter or iterable
        What they are tuned on: a number of folds, a share of the samples to hold out, or any splitter of scikit-learn
        whose models are fitted to all samples but those held out.
    penalty_bounds, gamma_bounds : (float, float), optional
        Least and largest values; by default from 1.5e-8 times the number of samples to 1000, and from 1/400 to 400
        times 2 over the mean squared distance of the samples.
    tol : float
        Tolerance of `tune`.
    max_iter : int
        Largest number of steps.
    random_state : int, RandomState or None
        Of a share that is held out.

    Attributes
    ----------
    penalty_, gamma_ : float
        What was found: ``alpha`` and ``gamma`` of scikit-learn's ``KernelRidge(kernel="rbf")``.
    dual_coef_ : ndarray, shape (n_samples,)
        Coefficients of the kernels at the samples of the fit.
    X_fit_ : ndarray, shape (n_samples, n_features)
        Those samples.
    at_bounds_ : int
        How many of the two are at an edge of the box, from which the error still falls outwards. There is a warning.
    result_ : BilevelResult
        Of the tuning; ``result_.fun`` is half the squared error of a fold, in the mean over the folds.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    KernelRidgeFoldsProblem : The problem.

    Notes
    -----
    The error has several minima: eight points about the middle of the box are evaluated first, and the search begins
    at the best one.

    Cost: each of the 20 to 50 evaluations inverts one matrix (n, n), whatever the number of folds. Memory: five such.

    There is no constant: centre the targets, for example by scikit-learn's ``TransformedTargetRegressor``.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import KernelRidgeTuned
    >>> X = np.linspace(0.0, 6.0, 80)[:, None]
    >>> y = np.sin(X[:, 0]) + 0.1 * np.random.default_rng(0).normal(size=80)
    >>> model = KernelRidgeTuned(cv=0.3, random_state=0).fit(X, y)
    >>> bool(abs(model.predict([[3.0]])[0] - np.sin(3.0)) < 0.1)
    True
    """

    def __init__(
        self, *, cv: Any = 5, penalty_bounds: Any = None, gamma_bounds: Any = None, tol: float = 1e-3,
        max_iter: int = 200, random_state: Any = None,
    ) -> None:  # fmt: skip
        self.cv = cv
        self.penalty_bounds = penalty_bounds
        self.gamma_bounds = gamma_bounds
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "KernelRidgeTuned":
        """Tune penalty and width, and fit the model to all samples.

        Parameters
        ----------
        X : array, shape (n_samples, n_features)
            Samples.
        y : array, shape (n_samples,)
            Targets.
        sample_weight : array, shape (n_samples,), optional
            Weights >= 0, in the fits and in the error.

        Returns
        -------
        KernelRidgeTuned
            The estimator.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        y, w = np.asarray(y, dtype=np.float64), sample_weights(sample_weight, X)
        folds, n = splits(self.cv, X, y, random_state=self.random_state), X.shape[0]
        for k, (train, valid) in enumerate(folds):
            if train.size + valid.size != n or np.union1d(train, valid).size != n:
                raise check.error("cv", f"fold {k} that leaves samples out of both parts", "all samples in one of them")
        problem = KernelRidgeFoldsProblem(X, y, [valid for _, valid in folds], weights=w)
        low, high = problem.bounds()
        for i, name in enumerate(("penalty_bounds", "gamma_bounds")):
            if (given := getattr(self, name)) is not None:
                low[i], high[i] = log_box(given, 1.0, name)
        start = np.clip(problem.start()[0], low, high)
        about = [start] + [
            np.array([a, start[1] + t * (edge - start[1])])
            for a in (low[0] + 0.6 * (high[0] - low[0]), low[0] + 0.25 * (high[0] - low[0]))
            for edge in (low[1], high[1])
            for t in ROUND
        ]
        values = [hypergradient(problem, x).value for x in about]
        self.result_ = tuned(
            self, problem, x0=about[int(np.argmin(values))], bounds=(low, high), unit="hyperparameters", tol=self.tol,
            maxiter=self.max_iter,
        )  # fmt: skip
        self.penalty_, self.gamma_ = (float(u) for u in np.exp(self.result_.x))
        self.dual_coef_, self.X_fit_ = np.sqrt(w) * self.result_.y, X
        self.at_bounds_, self.n_iter_ = self.result_.at_bounds, self.result_.nit
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the targets of samples.

        Parameters
        ----------
        X : array, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples,)
            The predictions.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.exp(-self.gamma_ * squared_distances(X, self.X_fit_, xp=np)) @ self.dual_coef_
