"""What the estimators share: labels, folds, weights of samples, and the warnings that come with a tuned model."""

import math
import warnings
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit, check_cv
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from optlib._core import validation as check
from optlib.bilevel._front import tune
from optlib.bilevel.result import BilevelResult

LEAST, START, MOST = 1e-6, 1e-2, 1e3  # box and start of the penalties, in units of the curvature of the loss
REFIT = 1e-11  # relative tolerance of the last fit
OUTWARDS = "from which the validation loss still falls outwards"
Folds = list[tuple[np.ndarray, np.ndarray]]


def encode(y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sorted classes of labels of any kind, and the place of each label among them.

    Parameters
    ----------
    y : array, shape (n,)
        Labels: numbers, strings, booleans.

    Returns
    -------
    classes : ndarray, shape (C,)
    codes : ndarray of int, shape (n,)

    Raises
    ------
    ValueError
        If they are no classes, or only one.
    """
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if classes.size < 2:
        raise check.error("y", f"one class, {classes.tolist()}", "at least two classes")
    return classes, codes


def sample_weights(sample_weight: Any, X: Any) -> np.ndarray:
    """Weights of the samples as an array; ones by default.

    Parameters
    ----------
    sample_weight : array, shape (n,), or number, optional
        Weights >= 0, not all zero.
    X : array or sparse matrix, shape (n, d)
        The samples.

    Returns
    -------
    ndarray, shape (n,)
    """
    n, weights = X.shape[0], np.asarray(1.0 if sample_weight is None else sample_weight)
    if weights.ndim == 0:
        weights = np.full(n, weights)
    weights = check.array("sample_weight", weights, xp=np, shape=(n,), nonnegative=True, dtype=np.float64)
    if not weights.sum() > 0.0:
        raise check.error("sample_weight", "zeros", "a positive weight of some sample")
    return weights


def share(weights: np.ndarray, fold: int) -> np.ndarray:
    """Weights of the validation samples of a fold, of sum one.

    Parameters
    ----------
    weights : ndarray
        Their weights.
    fold : int
        For the message.

    Returns
    -------
    ndarray
    """
    total = weights.sum()
    if not total > 0.0:
        raise check.error("sample_weight", f"zeros for all validation samples of fold {fold}", "a positive weight")
    return weights / total


def splits(cv: Any, X: Any, y: Any, *, classifier: bool = False, random_state: Any = None) -> Folds:
    """Places of training and validation samples, fold by fold.

    Parameters
    ----------
    cv : float, int, splitter or iterable
        A share of the samples to hold out once, drawn at random; a number of folds; or what scikit-learn takes.
    X, y : arrays
        Samples and targets.
    classifier : bool
        Whether folds and held-out samples have the classes in equal shares.
    random_state : optional
        Of the samples held out.

    Returns
    -------
    list of (ndarray of int, ndarray of int)

    Raises
    ------
    ValueError
        If a fold has no training or no validation samples.
    """
    if isinstance(cv, float):
        share = check.scalar("cv", cv, low=0.0, high=1.0, low_open=True, high_open=True)
        splitter = (StratifiedShuffleSplit if classifier else ShuffleSplit)(
            1, test_size=share, random_state=random_state
        )
    else:
        splitter = check_cv(cv, y, classifier=classifier)
    found = [(np.asarray(train), np.asarray(valid)) for train, valid in splitter.split(X, y)]
    for k, fold in enumerate(found):
        if min(part.size for part in fold) == 0:
            raise check.error("cv", f"fold {k} with {[part.size for part in fold]} samples", "no empty part")
    if not found:
        raise check.error("cv", "no folds", "at least one")
    return found


def tuned(
    estimator: Any, problem: Any, *, unit: str = "penalties", beyond: str = OUTWARDS, **options: Any
) -> BilevelResult:
    """Tune a problem for an estimator, and warn of what its user must know.

    Parameters
    ----------
    estimator : object
        For its name.
    problem : object
        See `tune`.
    unit : str
        What the hyperparameters are called; empty where the edge of the box is no news.
    beyond : str
        What the edge of the box means.
    **options : optional
        Of `tune`.

    Returns
    -------
    BilevelResult
    """
    result = tune(problem, record=False, **options)
    name, size = type(estimator).__name__, math.prod(result.x.shape)
    if not result.success:
        warnings.warn(f"{name}: {result.message}", ConvergenceWarning, stacklevel=3)
    if result.at_bounds and unit:
        boxes = " or ".join(f"`{name}`" for name in estimator.get_params(deep=False) if name.endswith("bounds"))
        fix = f"; widen {boxes}, or mean it" if boxes else ""
        warnings.warn(
            f"{name}: {result.at_bounds} of {size} {unit} at the edge of their box, {beyond}{fix}",
            stacklevel=3,
        )
    return result


def spread(X: Any, weights: np.ndarray, *, centred: bool) -> float:
    """Mean square of the features, about their means if `centred`: the unit of penalties.

    Parameters
    ----------
    X : array or sparse matrix, shape (n, d)
        Samples.
    weights : ndarray, shape (n,)
        Their weights.
    centred : bool
        Whether there is an intercept.

    Returns
    -------
    float
        1 if all features are constant.
    """
    share = weights / weights.sum()
    squares = share @ (X.multiply(X) if sparse.issparse(X) else X * X)
    means = share @ X if centred else np.zeros(X.shape[1])
    size = float(np.mean(squares - means**2))
    return size if size > 0.0 else 1.0


def log_box(bounds: Any, unit: float, name: str = "bounds") -> tuple[float, float]:
    """Box of logarithms: that of the user, or a wide one about `unit`.

    Parameters
    ----------
    bounds : (float, float), optional
        Least and largest penalty.
    unit : float
        Penalty of the size of the curvature of the loss.
    name : str
        The argument, for the message.

    Returns
    -------
    (float, float)
    """
    if bounds is None:
        return math.log(unit) + math.log(LEAST), math.log(unit) + math.log(MOST)
    if not (isinstance(bounds, (tuple, list, np.ndarray)) and len(bounds) == 2):
        raise check.error(name, bounds, "a pair (low, high) of positive numbers", kind=TypeError)
    low, high = (check.scalar(name, side, low=0.0, low_open=True) for side in bounds)
    if not low < high:
        raise check.error(name, bounds, "low < high")
    return math.log(low), math.log(high)


def middle(box: tuple[float, float]) -> np.ndarray:
    """Start in a box of log penalties: a hundredth of the curvature in the default one.

    Parameters
    ----------
    box : (float, float)
        Logarithms of its ends.

    Returns
    -------
    ndarray, shape (1,)
    """
    share = math.log(START / LEAST) / math.log(MOST / LEAST)
    return np.array([box[0] + share * (box[1] - box[0])])


class _Linear(BaseEstimator):
    """Models of dense or sparse samples that are linear: ``coef_`` and ``intercept_``."""

    def _values(self, X: Any) -> np.ndarray:
        """Values of the model at samples."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return np.asarray(X @ self.coef_.T) + self.intercept_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class LinearRegressor(RegressorMixin, _Linear):
    """Predictions from ``coef_`` of shape (d,) and ``intercept_``."""

    def predict(self, X: Any) -> np.ndarray:
        """Predict the targets of samples.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples,)
            The predictions.
        """
        return self._values(X)


class LinearClassifier(ClassifierMixin, _Linear):
    """Predictions from ``classes_``, ``coef_`` of shape (1 or C, d) and ``intercept_`` of shape (1 or C,)."""

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of the classes, or of the second of two.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_classes)
            The larger the likelier.
        """
        scores = self._values(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        scores = self.decision_function(X)
        return log_softmax(np.stack([np.zeros_like(scores), scores], 1) if scores.ndim == 1 else scores, axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest classes of samples.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples,)
            Labels.
        """
        scores = self.decision_function(X)
        return self.classes_[np.argmax(scores, axis=1) if scores.ndim > 1 else (scores > 0).astype(int)]
