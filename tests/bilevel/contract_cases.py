"""Calls of the bilevel solvers that take more than a few iterations."""

import numpy as np

from optlib.bilevel import QuadraticProblem
from tests.bilevel.problems import MAKERS, OTHERS


def one(backend):
    return (MAKERS["ridge scalar"](1, backend.asarray([0.0])), backend.asarray([-6.0])), {}


def several(backend):
    return (MAKERS["logistic"](1, backend.asarray([0.0])), backend.asarray(np.full(5, 1.0))), {}


def loosely(backend):
    problem = QuadraticProblem.random(4, 9, condition=5.0, rng=0, like=backend.asarray([0.0]))
    return (problem, backend.asarray(np.full(9, 3.0))), {"sigma": 0.3, "inner_tol": 0.1}


def batches(backend):
    return several(backend)[0], {"batch": 5, "rng": 0}


def merely_convex(backend):
    problem = OTHERS["counterexample"](1, backend.asarray([0.0]))
    return (problem,), {}


def unrolled(backend):
    args, _ = several(backend)
    return args, {"steps": 5}


def proven(backend):
    options = {"eps": 1e-3, "delta": 1e-3, "inner": "newton", "mode": "direct"}
    return (MAKERS["least squares"](1, backend.asarray([0.0])),), options


def constrained(backend):
    return (OTHERS["affine constraint"](1, backend.asarray([0.0])),), {}


CASES = {
    "bilevel.lv_hba": constrained,
    "bilevel.bamm": merely_convex,
    "bilevel.bda": unrolled,
    "bilevel.bo_rep": batches,
    "bilevel.f2sa": batches,
    "bilevel.hoag": several,
    "bilevel.maid": proven,
    "bilevel.penalty": loosely,
    "bilevel.quasi_newton": several,
    "bilevel.saba": batches,
    "bilevel.scalar": one,
    "bilevel.soba": batches,
}
