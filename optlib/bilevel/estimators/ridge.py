"""Ridge regression whose penalty, or a penalty for every feature, is tuned by cross-validation."""

from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from optlib._core import validation as check
from optlib.bilevel._front import tune
from optlib.bilevel.estimators._shared import (
    REFIT,
    LinearRegressor,
    log_box,
    middle,
    sample_weights,
    share,
    splits,
    spread,
    tuned,
)
from optlib.bilevel.evaluation import inner_solution
from optlib.bilevel.problems.folds import FoldsProblem
from optlib.bilevel.problems.leave_one_out import LeaveOneOutRidgeProblem
from optlib.bilevel.problems.linear_models import RidgeProblem


class RidgeTuned(LinearRegressor):
    """Ridge regression ``sum_i w_i (a_i'y - t_i)^2 + sum_j penalty_j y_j^2`` with tuned penalties.

    Parameters
    ----------
    penalty : {"scalar", "feature"}
        One penalty, or one for every feature.
    cv : float, int, splitter or iterable, optional
        What they are tuned on: a number of folds, a share of the samples to hold out, or any splitter of scikit-learn.
        None: for one penalty each sample is left out, exactly and at the cost of one fit; for many, 5 folds.
    fit_intercept : bool
        Whether there is a constant, without penalty.
    bounds : (float, float), optional
        Least and largest penalty; by default 1e-12 (with folds 1e-6) to 1e3 times the curvature of the squared error.
    tol : float
        Tolerance of `tune`.
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
    penalty_ : float or ndarray, shape (n_features,)
        The penalties, in units of ``alpha`` of scikit-learn's ``Ridge``.
    at_bounds_ : int
        Number of penalties at an edge of the box, from which the loss still falls outwards. There is a warning.
    result_ : BilevelResult
        Of the tuning; ``result_.fun`` is half the mean squared error on what was left out.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    LeaveOneOutRidgeProblem : The leave-one-out error.
    tune : The tuning of any problem.

    Notes
    -----
    Cost: one penalty by leave-one-out takes a singular value decomposition; folds take some fits each, whatever the
    number of penalties.

    Many penalties fit what is left out, too: there is a warning where they are more than a tenth of the samples.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import RidgeTuned
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 20))
    >>> y = X[:, 0] + X[:, 1] + rng.normal(size=50)
    >>> model = RidgeTuned().fit(X, y)
    >>> bool(1.0 < model.penalty_ < 100.0), model.at_bounds_
    (True, 0)
    """

    def __init__(
        self, *, penalty: str = "scalar", cv: Any = None, fit_intercept: bool = True, bounds: Any = None,
        tol: float = 1e-4, max_iter: int = 200, random_state: Any = None,
    ) -> None:  # fmt: skip
        self.penalty = penalty
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.bounds = bounds
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "RidgeTuned":
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
        RidgeTuned
            The estimator.
        """
        check.option("fit_intercept", self.fit_intercept, (True, False))
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        y = np.asarray(y, dtype=np.float64)
        check.option("penalty", self.penalty, ("scalar", "feature"))
        w = sample_weights(sample_weight, X)
        options = {"tol": self.tol, "maxiter": self.max_iter}
        if self.cv is None and self.penalty == "scalar":
            problem = LeaveOneOutRidgeProblem(X, y, intercept=self.fit_intercept, weights=w)
            box = None if self.bounds is None else log_box(self.bounds, 1.0)
            self.result_ = tuned(self, problem, bounds=box, **options)
            model = self.result_.y
        else:
            form = {"penalty": self.penalty, "intercept": self.fit_intercept}
            folds = [
                RidgeProblem(
                    X[train], y[train], X[valid], y[valid], train_weights=w[train],
                    valid_weights=share(w[valid], k), **form,
                )
                for k, (train, valid) in enumerate(
                    splits(5 if self.cv is None else self.cv, X, y, random_state=self.random_state)
                )
            ]  # fmt: skip
            box = log_box(self.bounds, w.sum() * spread(X, w, centred=self.fit_intercept))
            problem = FoldsProblem(folds)
            start = middle(box)
            if self.penalty == "feature":  # from far below the curvature, where nothing depends on x, no descent starts
                best = tune(problem.tied(), start, bounds=box, tol=1e-3, record=False).x
                start = np.zeros(X.shape[1]) + np.maximum(best, start)
            self.result_ = tuned(self, problem, x0=start, bounds=box, **options)
            whole = RidgeProblem(X, y, X, y, train_weights=w, **form)
            model, _ = inner_solution(whole, self.result_.x, np.mean(self.result_.y, axis=0), tol=REFIT)
        self.coef_, self.intercept_ = (model[:-1], float(model[-1])) if self.fit_intercept else (model, 0.0)
        self.penalty_ = np.exp(self.result_.x) if self.penalty == "feature" else float(np.exp(self.result_.x[0]))
        self.at_bounds_, self.n_iter_ = self.result_.at_bounds, self.result_.nit
        return self
