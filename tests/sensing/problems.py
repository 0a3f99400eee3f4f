"""Random low-rank recovery problems with a known answer."""

from typing import NamedTuple

import numpy as np

from optlib import sensing
from optlib.backend import to_numpy


class Recovery(NamedTuple):
    A: sensing.SensingOperator
    y: np.ndarray
    left: np.ndarray
    right: np.ndarray


def low_rank(rng, n1, n2, r, kappa=1.0, psd=False):
    """Factors of a matrix with singular values from 1 to 1 / kappa in geometric progression."""
    U = np.linalg.qr(rng.normal(size=(n1, r)))[0]
    V = U if psd else np.linalg.qr(rng.normal(size=(n2, r)))[0]
    return U * np.geomspace(1.0, 1.0 / kappa, r), V


def gaussian(seed, n1=32, n2=30, r=3, *, over=2.0, kappa=1.0, psd=False):
    """Gaussian measurements, ``over`` times the degrees of freedom."""
    rng = np.random.default_rng(seed)
    n2 = n1 if psd else n2
    left, right = low_rank(rng, n1, n2, r, kappa, psd)
    dof = n1 * r - r * (r - 1) // 2 if psd else r * (n1 + n2 - r)
    A = sensing.GaussianSensing((n1, n2), int(over * dof), rng=rng)
    return Recovery(A, A.forward_factored(left, right), left, right)


def completion(seed, n=300, r=5, *, m=13_500, kappa=1.0):
    rng = np.random.default_rng(seed)
    left, right = low_rank(rng, n, n, r, kappa)
    A = sensing.random_entries((n, n), m, rng=rng)
    return Recovery(A, A.forward_factored(left, right), left, right)


def error(result, problem):
    """Relative Frobenius error, without cancellation."""
    left, right = (to_numpy(u).astype("f8") for u in result.factors)
    first = np.linalg.qr(np.hstack([left, problem.left]))[1]
    second = np.linalg.qr(np.hstack([right, -problem.right]))[1]
    size = np.linalg.qr(problem.left)[1] @ np.linalg.qr(problem.right)[1].T
    return np.linalg.norm(first @ second.T) / np.linalg.norm(size)


def on(backend, problem):
    """The same problem on a backend."""
    A = problem.A
    assert isinstance(A, sensing.DenseSensing)
    return sensing.DenseSensing(backend.asarray(A.matrices)), backend.asarray(problem.y)
