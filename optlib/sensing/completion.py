"""Matrix completion with scikit-learn's interface."""

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from optlib._core import validation as check
from optlib.sensing.biased import Model, biased_factorization
from optlib.sensing.entries import EntrySampling

DEFAULT_RANK = 10


class MatrixCompletion(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Complete a table with missing entries: mean, biases of rows and columns, and a low-rank part.

    An imputer for pipelines, and a recommender: rows are samples (or users), columns features (or items). The model is
    that of `biased_factorization`, on entries that were centred and scaled to variance one.

    Parameters
    ----------
    rank : int, optional
        Rank of the low-rank part; 0: biases alone. None: 10, or the smaller side of the table if that is less.
    ridge : float
        Penalty of factors and biases; choose it on held-out entries.
    tol : float
        Stationarity to stop at.
    max_iter : int
        Largest number of iterations.

    Attributes
    ----------
    mean_, scale_ : float
        Mean and standard deviation of the observed entries.
    row_bias_ : ndarray, shape (n_samples,)
        Biases of the rows, in units of ``scale_``, as all that follows.
    column_bias_ : ndarray, shape (n_features,)
    row_factors_ : ndarray, shape (n_samples, rank)
    components_ : ndarray, shape (rank, n_features)
    result_ : SensingResult
        Result of the solver, with certificate and history. Its note tells of rows and columns without entries.
    n_iter_ : int
    n_features_in_ : int

    See Also
    --------
    biased_factorization : The solver, for arrays of any library.
    recover : Exact recovery of low-rank matrices.

    Notes
    -----
    Missing are NaN in dense tables, and in sparse ones whatever is not stored (and stored NaN): a stored zero is an
    observed zero. Sparse tables stay sparse in `fit` and `predict`; `transform` fills in, and gives a dense array.

    A row without entries is predicted by mean and column biases, a column without entries by mean and row bias.

    A new row is folded in: its bias and factors are the best for its own entries, with the columns as fitted. For
    the rows of the fit this gives what the fit found, so that ``fit_transform`` is ``fit`` and then ``transform``.

    scikit-learn's ``check_estimator`` passes but for the checks that call ``predict`` with a table: here it takes
    places.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import MatrixCompletion
    >>> X = np.add.outer([0.0, 1.0, 2.0, 3.0], [0.0, 10.0, 20.0])
    >>> X[1, 2] = X[3, 0] = np.nan
    >>> model = MatrixCompletion(rank=0, ridge=1e-8).fit(X)
    >>> model.predict([[1, 2], [3, 0]]).round(3)
    array([21.,  3.])
    >>> model.transform([[np.nan, 15.0, np.nan]]).round(3)
    array([[ 5., 15., 25.]])
    """

    def __init__(self, rank: int | None = None, *, ridge: float = 1.0, tol: float = 1e-5, max_iter: int = 500) -> None:
        self.rank = rank
        self.ridge = ridge
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MatrixCompletion":
        """Fit the model.

        Parameters
        ----------
        X : array or sparse array, shape (n_samples, n_features)
            The table.
        y : None
            Ignored.
        sample_weight : array, shape (n_samples,), optional
            Weights of the rows: a row of weight 2 counts as two equal rows.

        Returns
        -------
        MatrixCompletion
            The estimator.
        """
        X = self._validated(X, reset=True)
        A, values = _observed(X)
        rank = min(DEFAULT_RANK, *X.shape) if self.rank is None else self.rank
        weights = np.ones(X.shape[0], values.dtype)
        if sample_weight is not None:
            weights = check.array(
                "sample_weight", sample_weight, xp=np, shape=(X.shape[0],), nonnegative=True, dtype=values.dtype
            )
        each = weights[A.rows]
        if not each.sum() > 0.0:
            raise check.error("sample_weight", "zeros", "a positive weight of some row that has entries")
        self.mean_ = float(np.average(values, weights=each))
        self.scale_ = float(np.sqrt(np.average((values - self.mean_) ** 2, weights=each))) or 1.0
        self.result_ = biased_factorization(
            A, (values - self.mean_) / self.scale_, rank=rank, ridge=self.ridge, weights=weights, tol=self.tol,
            maxiter=self.max_iter, record=False,
        )  # fmt: skip
        if not self.result_.success:
            warnings.warn(f"MatrixCompletion: {self.result_.message}", ConvergenceWarning, stacklevel=2)
        self.row_bias_, self.column_bias_ = self.result_.biases
        self.row_factors_, columns = self.result_.interactions
        self.components_ = columns.T
        self.n_iter_ = self.result_.nit
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Fill in the missing entries; those that are observed stay as they are.

        Parameters
        ----------
        X : array or sparse array, shape (n_samples, n_features)
            A table of the same columns; its rows are folded in.

        Returns
        -------
        ndarray, shape (n_samples, n_features)
            The table without missing entries.
        """
        X, A, values, b, U = self._folded(X)
        filled = (b[:, None] + self.column_bias_ + U @ self.components_) * self.scale_ + self.mean_
        filled = filled.astype(values.dtype, copy=False)
        if A is not None:
            filled[A.rows, A.cols] = values
        return filled

    def predict(self, pairs: Any, X: Any = None) -> np.ndarray:
        """Predict entries at given places, without filling a table.

        Parameters
        ----------
        pairs : array of int, shape (k, 2)
            Row and column of each entry.
        X : array or sparse array, shape (n_samples, n_features), optional
            Table that the rows belong to; by default that of the fit.

        Returns
        -------
        ndarray, shape (k,)
            The predictions, also for places that were observed.
        """
        check_is_fitted(self)
        b, U = (self.row_bias_, self.row_factors_) if X is None else self._folded(X)[3:]
        pairs = np.asarray(pairs)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
            raise check.error("pairs", f"{pairs.dtype} of shape {pairs.shape}", "integers of shape (k, 2)")
        rows, cols = pairs.T
        for name, index, n in (("rows", rows, b.size), ("columns", cols, self.n_features_in_)):
            if index.size and not (index.min() >= 0 and index.max() < n):
                raise check.error("pairs", f"{name} from {index.min()} to {index.max()}", f"{name} from 0 to {n - 1}")
        low_rank = np.sum(U[rows] * self.components_.T[cols], axis=1)
        return (b[rows] + self.column_bias_[cols] + low_rank) * self.scale_ + self.mean_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _validated(self, X: Any, *, reset: bool) -> Any:
        return validate_data(
            self, X, reset=reset, accept_sparse=("csr", "csc", "coo"), dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )  # fmt: skip

    def _folded(self, X: Any) -> tuple[Any, EntrySampling | None, np.ndarray, np.ndarray, np.ndarray]:
        """The table, its entries, and biases and factors of its rows."""
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        c, V = self.column_bias_, np.ascontiguousarray(self.components_.T)
        try:
            A, values = _observed(X)
        except NothingObservedError:
            return X, None, np.empty(0, X.dtype), np.zeros(X.shape[0], c.dtype), np.zeros((X.shape[0], V.shape[1]))
        y = ((values - self.mean_) / self.scale_).astype(c.dtype, copy=False)
        A = A.astype(c.dtype)
        model = Model(A, y, self.ridge, np.ones(X.shape[0], c.dtype), self.result_.mean)
        U, b = model.rows(V, c)
        return X, A, values, b, U


class NothingObservedError(ValueError):
    """Raised for tables all of whose entries are missing."""


def _observed(X: Any) -> tuple[EntrySampling, np.ndarray]:
    """Places and values of the entries that are not missing."""
    if sp.issparse(X):
        X = X.tocoo()
        kept = ~np.isnan(X.data)
        rows, cols, values = X.row[kept], X.col[kept], X.data[kept]
    else:
        rows, cols = np.nonzero(~np.isnan(X))
        values = X[rows, cols]
    if values.size == 0:
        raise NothingObservedError(
            str(check.error("X", "a table without any observed entry", "at least one entry that is not missing"))
        )
    return EntrySampling(rows, cols, X.shape, like=values), values
