"""Logistic regression of two or more classes whose penalties, one or hundreds, are tuned on held-out samples."""

import math
from typing import Any

import numpy as np
from sklearn.utils.validation import validate_data

from optlib._core import validation as check
from optlib.bilevel.estimators._shared import (
    REFIT,
    LinearClassifier,
    encode,
    log_box,
    middle,
    sample_weights,
    share,
    splits,
    spread,
    tuned,
)  # fmt: skip
from optlib.bilevel.evaluation import inner_solution
from optlib.bilevel.problems.folds import FoldsProblem
from optlib.bilevel.problems.linear_models import PENALTIES, LogisticProblem, MultinomialProblem


class LogisticRegressionTuned(LinearClassifier):
    """Logistic regression with the penalty ``1/2 sum penalty * coef**2``, tuned on the loss of held-out samples.

    Parameters
    ----------
    penalty : {"scalar", "feature", "entry"}
        One penalty, one for every feature, or one for every class and feature (for two classes: every feature).
    cv : int, float, splitter or iterable
        What they are tuned on: a number of folds, a share of the samples to hold out, or any splitter of scikit-learn.
        Numbers and shares are stratified.
    fit_intercept : bool
        Whether there is a constant a class, without penalty.
    bounds : (float, float), optional
        Least and largest penalty; by default 1e-6 to 1e3 times the curvature of the loss.
    tol : float
        Tolerance of `tune`.
    max_iter : int
        Largest number of steps.
    random_state : int, RandomState or None
        Of a share that is held out.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels, sorted.
    coef_ : ndarray, shape (1, n_features) or (n_classes, n_features)
        Coefficients of the model of all samples; one row for two classes.
    intercept_ : ndarray, shape (1,) or (n_classes,)
        Its constants.
    penalty_ : float or ndarray, shape (n_features,) or (n_classes, n_features)
        The penalties, in units of ``1 / C`` of scikit-learn's ``LogisticRegression``.
    at_bounds_ : int
        Number of penalties at an edge of the box, from which the loss still falls outwards. There is a warning.
    result_ : BilevelResult
        Of the tuning; ``result_.fun`` is the mean log loss of what was held out.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    LogisticProblem, MultinomialProblem : The problems.
    tune : The tuning of any problem.

    Notes
    -----
    Cost: some fits a fold, whatever the number of penalties, each from the last.

    Many penalties fit what is held out, too: there is a warning where they are more than a tenth of the samples.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import LogisticRegressionTuned
    >>> X = np.random.default_rng(0).normal(size=(60, 5))
    >>> y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    >>> model = LogisticRegressionTuned(bounds=(1e-3, 1e3)).fit(X + 0.1, y)
    >>> model.classes_.tolist(), model.coef_.shape, model.score(X + 0.1, y) > 0.9
    (['no', 'yes'], (1, 5), True)
    """

    def __init__(
        self, *, penalty: str = "scalar", cv: Any = 5, fit_intercept: bool = True, bounds: Any = None,
        tol: float = 1e-4, max_iter: int = 200, random_state: Any = None,
    ) -> None:  # fmt: skip
        self.penalty = penalty
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.bounds = bounds
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LogisticRegressionTuned":
        """Tune the penalties, and fit the model to all samples.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.
        y : array, shape (n_samples,)
            Labels of any kind.
        sample_weight : array, shape (n_samples,), optional
            Weights >= 0, in the fits and in the loss.

        Returns
        -------
        LogisticRegressionTuned
            The estimator.
        """
        check.option("fit_intercept", self.fit_intercept, (True, False))
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        check.option("penalty", self.penalty, PENALTIES)
        self.classes_, codes = encode(y)
        w = sample_weights(sample_weight, X)
        folds = splits(self.cv, X, codes, classifier=True, random_state=self.random_state)
        every = np.arange(X.shape[0])
        for k, (train, _) in enumerate([*folds, (every, every)]):
            missing = np.flatnonzero(np.bincount(codes[train], w[train], self.classes_.size) == 0.0)
            if missing.size:
                label = self.classes_.tolist()[missing[0]]
                if k == len(folds):
                    raise check.error("sample_weight", f"zeros for the class {label!r}", "weights of every class")
                raise check.error(
                    "y", f"no weight of the class {label!r} among the training samples of fold {k}",
                    "samples of every class", "take fewer folds, or drop the class",
                )  # fmt: skip
        binary = self.classes_.size == 2

        def problem(train: np.ndarray, valid: np.ndarray, fold: int) -> LogisticProblem | MultinomialProblem:
            t = 2.0 * codes - 1.0 if binary else codes
            return (LogisticProblem if binary else MultinomialProblem)(
                X[train], t[train], X[valid], t[valid], intercept=self.fit_intercept, train_weights=w[train],
                valid_weights=share(w[valid], fold),
                penalty="feature" if binary and self.penalty == "entry" else self.penalty,
            )  # fmt: skip

        # a multinomial problem is a mean over samples: its penalties are those of the sum over their number
        size = 1.0 if binary else float(np.mean([w[train].sum() for train, _ in folds]))
        last = 1.0 if binary else float(w.sum())
        unit = LogisticProblem.curvature if binary else MultinomialProblem.curvature
        box = log_box(self.bounds, unit * w.sum() * spread(X, w, centred=self.fit_intercept))
        box = box[0] - math.log(size), box[1] - math.log(size)
        composite = FoldsProblem([problem(*fold, k) for k, fold in enumerate(folds)])
        start = middle(box) if self.penalty == "scalar" else None
        self.result_ = tuned(self, composite, x0=start, bounds=box, tol=self.tol, maxiter=self.max_iter)
        x = self.result_.x + np.log(size / last)
        model, _ = inner_solution(problem(every, every, 0), x, np.mean(self.result_.y, axis=0), tol=REFIT)
        model = np.atleast_2d(model.T)
        self.coef_ = model[:, :-1] if self.fit_intercept else model
        self.intercept_ = model[:, -1] if self.fit_intercept else np.zeros(model.shape[0])
        penalty = size * np.exp(self.result_.x.T)
        self.penalty_ = float(penalty[0]) if self.penalty == "scalar" else penalty
        self.at_bounds_, self.n_iter_ = self.result_.at_bounds, self.result_.nit
        return self
