"""Denoisers with scikit-learn's interface, learned from pairs of noisy and clean images."""

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted

from optlib._core import validation as check
from optlib.bilevel.estimators._shared import tuned
from optlib.bilevel.problems.denoising import FINE, DenoisingProblem
from optlib.bilevel.problems.fields_of_experts import FieldsOfExpertsProblem
from optlib.bilevel.problems.total_variation import TotalVariationProblem

TOL = 1e-4  # of a denoised image: distance from the exact solution, relative to that of the noisy one from a constant
BATCH = 1 << 16  # pixels that are denoised together


class _Denoiser(TransformerMixin, BaseEstimator, ABC):
    """What the denoisers share."""

    @abstractmethod
    def _problem(self, noisy: np.ndarray, clean: np.ndarray) -> DenoisingProblem:
        """The bilevel problem of the pairs, images (n, height, width)."""

    def _fitted(self, images: np.ndarray) -> DenoisingProblem:
        """The same for images to be denoised."""
        return self._problem(images, images)

    def fit(self, X: Any, y: Any) -> "_Denoiser":
        """Learn the denoiser.

        Parameters
        ----------
        X : array, shape (n_images, height, width) or (n_images, height, width, colours)
            Noisy images. Photographs of different sizes: cut patches of one size from them.
        y : array, of the same shape
            Clean ones.

        Returns
        -------
        object
            The estimator.
        """
        noisy, clean = _images(self, "X", X), _images(self, "y", y)
        if noisy.shape != clean.shape:
            raise check.error("y", f"shape {clean.shape}", f"{noisy.shape}, that of `X`")
        check.scalar("peak", self.peak, low=0.0, low_open=True)
        problem = self._problem(_planes(noisy), _planes(clean.astype(noisy.dtype, copy=False)))
        self.result_ = tuned(self, problem, unit="hyperparameters", tol=self.tol, maxiter=self.max_iter)
        self.n_iter_, self.at_bounds_ = self.result_.nit, self.result_.at_bounds
        self._read(problem, self.result_.x)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Denoise images, of any size and number of colours.

        Parameters
        ----------
        X : array, shape (n_images, height, width) or (n_images, height, width, colours)
            Noisy images.

        Returns
        -------
        ndarray, of the same shape
            The images without the noise.
        """
        check_is_fitted(self)
        X = _images(self, "X", X)
        planes = _planes(X)
        size = max(1, BATCH // math.prod(planes.shape[1:]))
        solved, done = True, []
        for first in range(0, planes.shape[0], size):
            some = planes[first : first + size]
            problem = self._fitted(some)
            x = self.result_.x.astype(some.dtype, copy=False)
            found, distance = problem.denoise(x, tol=TOL)
            done.append(found)
            rounding = 100.0 * float(np.finfo(some.dtype).eps * np.max(np.abs(some)))
            solved = solved and distance <= TOL * problem.contrast + rounding
        if not solved:
            warnings.warn(f"{type(self).__name__}: images are not denoised to the tolerance", ConvergenceWarning, 2)
        out = np.concatenate(done)
        return out if X.ndim == 3 else np.moveaxis(out.reshape(X.shape[0], X.shape[3], *X.shape[1:3]), 1, 3)

    def predict(self, X: Any) -> np.ndarray:
        """Denoise images: another name of `transform`.

        Parameters
        ----------
        X : array, shape (n_images, height, width) or (n_images, height, width, colours)
            Noisy images.

        Returns
        -------
        ndarray, of the same shape
            The images without the noise.
        """
        return self.transform(X)

    def score(self, X: Any, y: Any) -> float:
        """Mean over the images of the peak signal to noise ratio after denoising, in decibel.

        Parameters
        ----------
        X : array, shape (n_images, height, width) or (n_images, height, width, colours)
            Noisy images.
        y : array, of the same shape
            Clean ones.

        Returns
        -------
        float
            The higher the better.
        """
        clean = _images(self, "y", y)
        found = self.transform(X)
        if found.shape != clean.shape:
            raise check.error("y", f"shape {clean.shape}", f"{found.shape}, that of `X`")
        errors = np.mean((found - clean) ** 2, axis=tuple(range(1, clean.ndim)), dtype=np.float64)
        with np.errstate(divide="ignore"):
            return float(np.mean(10.0 * np.log10(self.peak**2 / errors)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _images(estimator: Any, name: str, X: Any) -> np.ndarray:
    """Checked images (n, height, width) or (n, height, width, colours)."""
    if isinstance(X, (list, tuple)) and len(shapes := {np.shape(image) for image in X}) > 1:
        got = f"images of shapes {', '.join(map(str, sorted(shapes)))}"
        raise check.error(name, got, "one shape", "crop them, or denoise them one by one")
    X = check_array(
        X, dtype=[np.float64, np.float32], ensure_2d=False, allow_nd=True, estimator=estimator, input_name=name
    )
    if X.ndim not in (3, 4) or 0 in X.shape:
        expected = "(n_images, height, width) or (n_images, height, width, colours)"
        raise check.error(name, f"shape {X.shape}", expected, "a single image is `image[None]`")
    return X


def _planes(X: np.ndarray) -> np.ndarray:
    """Every colour as an image of its own."""
    return np.ascontiguousarray(X if X.ndim == 3 else np.moveaxis(X, 3, 1).reshape(-1, *X.shape[1:3]))


class TVDenoiser(_Denoiser):
    """Remove noise by total variation, with the weight learned from pairs of images.

    Parameters
    ----------
    smoothing : float, optional
        Differences of neighbours below this level count quadratically. None: a twentieth of the noise, the root mean
        square of ``X - y``.
    peak : float
        Level of white, for `score`.
    tol : float
        Tolerance of `optlib.bilevel.tune`.
    max_iter : int
        Largest number of its iterations.

    Attributes
    ----------
    weight_ : float
        Weight of the total variation, in levels of the images.
    smoothing_ : float
        Given, or taken from the noise.
    at_bounds_ : int
        Hyperparameters at the edge of their box, of which there is a warning.
    result_ : BilevelResult
        Result of the tuning, with its certificate.
    n_iter_ : int

    See Also
    --------
    FoEDenoiser : Learned filters: about as close on photographs, without flat patches; closer on known textures.
    TotalVariationProblem : The same for arrays of any library, for signals, and with the smoothing learned.

    Notes
    -----
    Images are arrays (n_images, height, width), or with a last axis for colours, each of which is denoised with the
    same weight. They are not flattened into rows of features: what is learned holds for images of any size, so that
    there is no ``n_features_in_``. scikit-learn's ``check_estimator`` leaves estimators of images out; those of its
    checks that need no table pass. Pipelines, `clone` and searches over the images work.

    References
    ----------
    L. Rudin, S. Osher, E. Fatemi, Nonlinear total variation based noise removal algorithms, Physica D 1992. J. C. De
    los Reyes, C.-B. Schoenlieb, Image denoising: learning the noise model via nonsmooth PDE-constrained optimization,
    Inverse Probl. Imaging 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import TVDenoiser
    >>> clean = np.kron(np.random.default_rng(0).random((2, 4, 4)), np.ones((8, 8)))
    >>> noisy = clean + 0.1 * np.random.default_rng(1).normal(size=clean.shape)
    >>> model = TVDenoiser().fit(noisy, clean)
    >>> model.score(noisy, clean) > 28.0
    True
    """

    def __init__(
        self, *, smoothing: float | None = None, peak: float = 1.0, tol: float = 1e-4, max_iter: int = 100
    ) -> None:
        self.smoothing = smoothing
        self.peak = peak
        self.tol = tol
        self.max_iter = max_iter

    def _problem(self, noisy: np.ndarray, clean: np.ndarray) -> TotalVariationProblem:
        smoothing = self.smoothing
        if smoothing is None:
            smoothing = TotalVariationProblem(noisy, clean).noise * math.exp(FINE)
        return TotalVariationProblem(noisy, clean, smoothing=smoothing)

    def _fitted(self, images: np.ndarray) -> TotalVariationProblem:
        return TotalVariationProblem(images, images, smoothing=self.smoothing_)

    def _read(self, problem: TotalVariationProblem, x: np.ndarray) -> None:
        self.weight_, self.smoothing_ = problem.levels(x)


class FoEDenoiser(_Denoiser):
    """Remove noise by a field of experts: filters, their weights and smoothing learned from pairs of images.

    Parameters
    ----------
    filters : int or array, shape (k, a, b)
        First filters; an integer s stands for the ``s^2 - 1`` cosines of s x s pixels that have mean 0.
    smoothing : float, optional
        Responses below this level count quadratically. None: learned, one for each filter.
    learn_filters : bool
        Whether the filters are learned too, or their weights alone.
    peak : float
        Level of white, for `score`.
    tol : float
        Tolerance of `optlib.bilevel.tune`.
    max_iter : int
        Largest number of its iterations; the loss keeps falling a little for hundreds.

    Attributes
    ----------
    weights_, smoothing_ : ndarray, shape (k,)
        Of the filters, in levels of the images.
    filters_ : ndarray, shape (k, a, b)
    at_bounds_ : int
        Hyperparameters at the edge of their box, of which there is a warning.
    result_ : BilevelResult
        Result of the tuning, with its certificate.
    n_iter_ : int

    See Also
    --------
    TVDenoiser : One hyperparameter, learned in a second.
    FieldsOfExpertsProblem : The same for arrays of any library.

    Notes
    -----
    What is said of images, colours and scikit-learn in `TVDenoiser` holds here too. With fewer pixels than ten times
    the number of hyperparameters, and when the learning ends at ``max_iter``, there is a warning.

    References
    ----------
    Y. Chen, R. Ranftl, T. Pock, Insights into analysis operator learning, IEEE Trans. Image Process. 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import FoEDenoiser
    >>> clean = np.kron(np.random.default_rng(0).random((2, 4, 4)), np.ones((8, 8)))
    >>> noisy = clean + 0.1 * np.random.default_rng(1).normal(size=clean.shape)
    >>> model = FoEDenoiser(learn_filters=False, smoothing=0.01).fit(noisy, clean)
    >>> model.weights_.shape, model.score(noisy, clean) > 28.0
    ((8,), True)
    """

    def __init__(
        self, filters: Any = 3, *, smoothing: float | None = None, learn_filters: bool = True, peak: float = 1.0,
        tol: float = 1e-3, max_iter: int = 100,
    ) -> None:  # fmt: skip
        self.filters = filters
        self.smoothing = smoothing
        self.learn_filters = learn_filters
        self.peak = peak
        self.tol = tol
        self.max_iter = max_iter

    def _problem(self, noisy: np.ndarray, clean: np.ndarray) -> FieldsOfExpertsProblem:
        return FieldsOfExpertsProblem(
            noisy, clean, self.filters, smoothing=self.smoothing, learn_filters=self.learn_filters
        )

    def _read(self, problem: FieldsOfExpertsProblem, x: np.ndarray) -> None:
        self.weights_, self.smoothing_, self.filters_ = problem.experts(x)
