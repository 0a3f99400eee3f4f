"""A call of every solver of `optlib.sensing` that takes more than a few iterations."""

import numpy as np

from optlib import sensing
from tests.sensing.problems import gaussian, on


def rectangular(backend):
    return on(backend, gaussian(0, 9, 7, 2, over=2.0, kappa=50.0)), {"rank": 2}


def semidefinite(backend):
    return on(backend, gaussian(0, 8, 8, 2, over=3.0, kappa=5.0, psd=True)), {"rank": 3, "psd": True}


def random_start(backend):
    args, options = rectangular(backend)
    return args, {**options, "rng": 0}


def incomplete(backend):
    rng = np.random.default_rng(0)
    A = sensing.random_entries((12, 10), 80, rng=rng, like=backend.asarray([0.0]))
    F, G = (backend.asarray(rng.normal(size=(n, 2))) for n in (12, 10))
    return (A, A.forward_factored(F, G)), {"rank": 2}


def layers(backend):
    args, options = random_start(backend)
    return args, {**options, "depth": 3}


def regression(backend):
    rng = np.random.default_rng(0)
    return (backend.asarray(rng.normal(size=(9, 3))), backend.asarray(rng.normal(size=9))), {"depth": 3, "rng": 0}


def calibration(backend):
    rng = np.random.default_rng(0)
    args = backend.asarray(rng.normal(size=(3, 8, 4))), backend.asarray(rng.normal(size=(3, 8)))
    return args, {"method": "spectral"}


def weights(backend):
    rng = np.random.default_rng(0)
    return (backend.asarray(rng.normal(size=(7, 6))), backend.asarray(rng.random((7, 6)))), {"rank": 2}


def small(backend):
    return on(backend, gaussian(0, 3, 3, 1, over=2.0, psd=True)), {"rng": 0}


def penalised(backend):
    args, _ = rectangular(backend)
    return args, {"reg": 0.01}


def imputed(backend):
    args, _ = incomplete(backend)
    return args, {"reg": 0.01, "path": 2}


def thresholded(backend):
    return incomplete(backend)[0], {}


CASES = {
    "sensing.alternating_minimization": incomplete,
    "sensing.biased_factorization": incomplete,
    "sensing.deep_factorization": layers,
    "sensing.fista": penalised,
    "sensing.gauss_newton": rectangular,
    "sensing.gradient_descent": random_start,
    "sensing.incremental": rectangular,
    "sensing.levenberg_marquardt": rectangular,
    "sensing.lifted": small,
    "sensing.overparameterized_regression": regression,
    "sensing.prec_gd": semidefinite,
    "sensing.riemannian": rectangular,
    "sensing.scaled_gd": rectangular,
    "sensing.self_calibration": calibration,
    "sensing.soft_impute": imputed,
    "sensing.subgradient": semidefinite,
    "sensing.svt": thresholded,
    "sensing.weighted_svd": weights,
}
