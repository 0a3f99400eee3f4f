"""Calls of the bilevel solvers that take more than a few iterations."""

import numpy as np

from optlib.bilevel import ElasticNetProblem, LassoProblem
from tests.bilevel.problems import MAKERS, OTHERS


def one(backend):
    return (MAKERS["ridge scalar"](1, backend.asarray([0.0])), backend.asarray([-6.0])), {}


def several(backend):
    return (MAKERS["logistic"](1, backend.asarray([0.0])), backend.asarray(np.full(5, 1.0))), {}


def merely_convex(backend):
    problem = OTHERS["counterexample"](1, backend.asarray([0.0]))
    return (problem,), {}


def unrolled(backend):
    args, _ = several(backend)
    return args, {"steps": 5}


def kinks(backend):
    return (LassoProblem.random(6, 3, rng=1, like=backend.asarray([0.0])),), {}


def several_kinks(backend):
    return (ElasticNetProblem.random(6, 3, rng=1, like=backend.asarray([0.0])),), {}


CASES = {
    "bilevel.bamm": merely_convex,
    "bilevel.bda": unrolled,
    "bilevel.hoag": several,
    "bilevel.nonsmooth": several_kinks,
    "bilevel.piecewise": kinks,
    "bilevel.quasi_newton": several,
    "bilevel.scalar": one,
}
