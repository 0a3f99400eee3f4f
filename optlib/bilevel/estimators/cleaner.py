"""A classifier for samples with wrong labels, which learns how far to trust each of them."""

from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import expit
from sklearn.utils.validation import validate_data

from optlib._core import validation as check
from optlib.bilevel.estimators._shared import LinearClassifier, encode, splits, tuned
from optlib.bilevel.problems.cleaning import CleaningProblem


class DataCleaner(LinearClassifier):
    """Multinomial logistic regression with a weight in (0, 1) for every sample, tuned on samples with clean labels.

    Parameters
    ----------
    ridge : float
        Penalty > 0 of the squared coefficients, against the mean loss of the samples; also of the constants.
    cv : float, splitter or iterable
        Which samples are taken as clean where none are given: a share of them, or a splitter of one fold.
    tol : float
        Tolerance of `tune`.
    max_iter : int
        Largest number of steps.
    random_state : int, RandomState or None
        Of a share that is drawn.

    Attributes
    ----------
    weights_ : ndarray, shape (n_samples,)
        Weights of the samples of the fit: near 0 for those that do not go with the clean ones. Samples that were taken
        as clean have the weight 1.
    classes_ : ndarray, shape (n_classes,)
        The labels, sorted.
    coef_ : ndarray, shape (1, n_features) or (n_classes, n_features)
        Coefficients of the model of the weighted samples; for two classes the difference of theirs.
    intercept_ : ndarray, shape (1,) or (n_classes,)
        Its constants.
    at_bounds_ : int
        Number of weights at an edge of their box. Unlike with penalties this is no news: 0.0003 leaves a sample out.
    result_ : BilevelResult
        Of the tuning; ``result_.fun`` is the mean log loss of the clean samples.
    n_iter_ : int
        Steps taken.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    CleaningProblem : The problem.

    Notes
    -----
    Features should be of comparable size, as for any penalty. There are as many weights as samples, so that the clean
    loss found is far too good; measure on other samples.

    Where not to use it: without samples whose labels are known to be right. A share of the samples drawn as clean has
    as many wrong labels as the others, and is of use only where those are few.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import DataCleaner
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 3))
    >>> y = X[:, 0] > 0
    >>> wrong = rng.random(100) < 0.3
    >>> clean = rng.normal(size=(40, 3))
    >>> model = DataCleaner(ridge=0.01).fit(X, y ^ wrong, clean, clean[:, 0] > 0)
    >>> bool(model.weights_[wrong].mean() < 0.5 * model.weights_[~wrong].mean())
    True
    """

    def __init__(
        self, *, ridge: float = 1e-3, cv: Any = 0.2, tol: float = 1e-4, max_iter: int = 200,
        random_state: Any = None,
    ) -> None:  # fmt: skip
        self.ridge = ridge
        self.cv = cv
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any, X_clean: Any = None, y_clean: Any = None) -> "DataCleaner":
        """Learn the weights of the samples, and the model.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.
        y : array, shape (n_samples,)
            Labels of any kind, some of them wrong.
        X_clean : array or sparse matrix, shape (n_clean, n_features), optional
            Samples whose labels are right; by default some of `X` are taken for that, see `cv`.
        y_clean : array, shape (n_clean,), optional
            Their labels, of classes that occur in `y`.

        Returns
        -------
        DataCleaner
            The estimator.
        """
        if (X_clean is None) != (y_clean is None):
            raise check.error("X_clean, y_clean", "only one of them", "both or none", kind=TypeError)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        self.classes_, codes = encode(y)
        train = np.arange(X.shape[0])
        if X_clean is None:
            folds = splits(self.cv, X, codes, classifier=True, random_state=self.random_state)
            if len(folds) > 1:
                raise check.error("cv", f"{len(folds)} folds", "one: a share, or a splitter of one fold")
            train, valid = folds[0]
            V, c = X[valid], codes[valid]
        else:
            V, y_clean = validate_data(self, X_clean, y_clean, accept_sparse="csr", dtype=np.float64, reset=False)
            if not np.all(known := np.isin(y_clean, self.classes_)):
                raise check.error("y_clean", f"the class {y_clean[~known].tolist()[0]!r}", "classes that occur in `y`")
            c = np.searchsorted(self.classes_, y_clean)
        if (missing := np.setdiff1d(codes, codes[train])).size:
            raise check.error(
                "y", f"no sample of the class {self.classes_.tolist()[missing[0]]!r} but clean ones", "some of it"
            )
        problem = CleaningProblem(_with_ones(X[train]), codes[train], _with_ones(V), c, ridge=self.ridge)
        self.result_ = tuned(self, problem, unit="", tol=self.tol, maxiter=self.max_iter)
        self.weights_ = np.ones(X.shape[0])
        self.weights_[train] = expit(self.result_.x)
        model = self.result_.y if self.classes_.size > 2 else self.result_.y[:, 1:] - self.result_.y[:, :1]
        self.coef_, self.intercept_ = model[:-1].T, model[-1]
        self.at_bounds_, self.n_iter_ = self.result_.at_bounds, self.result_.nit
        return self


def _with_ones(X: Any) -> Any:
    """The samples with a constant feature."""
    ones = np.ones((X.shape[0], 1))
    return sparse.hstack([X, sparse.csr_array(ones)], format="csr") if sparse.issparse(X) else np.hstack([X, ones])
