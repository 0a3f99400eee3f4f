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


CASES = {
    "sensing.alternating_minimization": incomplete,
    "sensing.biased_factorization": incomplete,
    "sensing.gauss_newton": rectangular,
    "sensing.gradient_descent": random_start,
    "sensing.incremental": rectangular,
    "sensing.levenberg_marquardt": rectangular,
    "sensing.prec_gd": semidefinite,
    "sensing.riemannian": rectangular,
    "sensing.scaled_gd": rectangular,
    "sensing.subgradient": semidefinite,
}
