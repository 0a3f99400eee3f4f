"""Learned variational denoisers: smoothed total variation and fields of experts, tuned on pairs of images.

Both minimise ``1/2 |y - z|^2`` plus a sum of ``sqrt(u^2 + nu^2)`` over filter responses u of y. The inner function is
the sum over the images: H is the identity plus a positive semidefinite matrix, with a block for each image, and its
least curvature is 1. The outer function is the mean over the images of half the squared distance to the clean one.
Weights and smoothing are logarithms, in levels of the images: images that are c times as bright have weights and
smoothing c times as large.
"""

import math
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, linalg, random
from optlib.bilevel.call import Call
from optlib.bilevel.problem import Problem, vdot

WEIGHTS, SMOOTHING = (-8.0, 4.0), (-6.0, 2.0)  # boxes of logarithms, from that of the noise
FINE = -3.0  # logarithm of the smoothing to start with, from that of the noise
THIRD = 48.0 / 25.0 / math.sqrt(5.0)  # largest third derivative of sqrt(u^2 + 1), at u = 1/2


class DenoisingProblem(Problem):
    """Pairs of images, and what the denoisers share. Use `TotalVariationProblem` or `FieldsOfExpertsProblem`."""

    def __init__(self, noisy: Any, clean: Any, ndims: tuple[int, ...]) -> None:
        self.xp, device, dtype = check.common(noisy=noisy, clean=clean)
        self.noisy = check.array("noisy", noisy, xp=self.xp, dtype=dtype, device=device)
        if self.noisy.ndim not in ndims or 0 in self.noisy.shape:
            axes = " or ".join("(images, length)" if n == 2 else "(images, height, width)" for n in ndims)
            raise check.error("noisy", f"shape {tuple(self.noisy.shape)}", axes, "a single image is `image[None, ...]`")
        self.clean = check.array("clean", clean, xp=self.xp, shape=self.noisy.shape, dtype=dtype, device=device)
        change, count = self.noisy - self.clean, math.prod(self.noisy.shape)
        axes = tuple(range(1, self.noisy.ndim))
        self.middle = self.xp.mean(self.noisy, axis=axes, keepdims=True) + self.xp.zeros_like(self.noisy)
        noise = float(linalg.norm(change, xp=self.xp)) / count**0.5
        self.contrast = float(linalg.norm(self.noisy - self.middle, xp=self.xp)) / count**0.5
        self.noise = noise or self.contrast or 1.0  # the unit of levels
        self.images = self.noisy.shape[0]

    def _data(self, y: Array) -> tuple[Array, Array]:
        """The data term and its gradient."""
        change = y - self.noisy
        return 0.5 * vdot(change, change, xp=self.xp), change

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F, which does not depend on x."""
        change = y - self.clean
        value = 0.5 * vdot(change, change, xp=self.xp) / self.images
        return value, self.xp.zeros_like(x), change / self.images

    @property
    def n_valid(self) -> int:
        """Number of pixels."""
        return math.prod(self.clean.shape)

    def mu(self, x: Array) -> float:
        """Curvature of the data term: the least one, where constant images have no filter response."""
        return 1.0

    def denoise(self, x: Array, *, tol: float = 1e-4) -> tuple[Array, float]:
        """Denoised images, and how far they are at most from the exact solution.

        Parameters
        ----------
        x : array
            Hyperparameters.
        tol : float
            Distance to reach, relative to that of the noisy images from constant ones.

        Returns
        -------
        y : array
            The images.
        distance : float
            Proven bound of the root mean square distance to the exact solution: the norm of the gradient of f, because
            the curvature is at least 1.
        """
        y, _ = Call(self, x, self.xp, tol, tol).solve(self.middle)
        return y, float(linalg.norm(self.inner(x, y)[2], xp=self.xp)) / self.n_valid**0.5

    def psnr(self, y: Array, *, peak: float = 1.0) -> float:
        """Peak signal to noise ratio of images ``y``, in decibel, from the mean squared error over all of them."""
        error = float(linalg.norm(y - self.clean, xp=self.xp)) ** 2 / self.n_valid
        return 10.0 * math.log10(peak**2 / error) if error > 0.0 else math.inf


def blocks(images: int, shape: tuple[int, ...], noise: float, rng: Any) -> tuple[np.ndarray, np.ndarray]:
    """Piecewise constant signals or images, without and with noise."""
    rng = random.as_generator(rng)
    clean = np.empty((images, *shape))
    for image in clean:
        pieces = [np.sort(rng.integers(0, n, 3)) for n in shape]
        places = [np.searchsorted(cuts, np.arange(n), side="right") for cuts, n in zip(pieces, shape, strict=True)]
        image[...] = rng.random((4,) * len(shape))[np.ix_(*places)]
    return clean, clean + noise * rng.normal(size=clean.shape)
