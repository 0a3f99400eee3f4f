"""Calls of the bilevel solvers that take more than a few iterations."""

import numpy as np

from optlib.bilevel import ElasticNetProblem, LassoProblem, QuadraticProblem
from tests.bilevel.problems import MAKERS, OTHERS


def one(backend):
    return (MAKERS["ridge scalar"](1, backend.asarray([0.0])), backend.asarray([-6.0])), {}


def several(backend):
    return (MAKERS["logistic"](1, backend.asarray([0.0])), backend.asarray(np.full(5, 1.0))), {}


def loosely(backend):
    problem = QuadraticProblem.random(4, 9, condition=5.0, rng=0, like=backend.asarray([0.0]))
    return (problem, backend.asarray(np.full(9, 3.0))), {"sigma": 0.3, "inner_tol": 0.3, "richardson": False}


def first_order(backend):
    args, options = batches(backend)
    return args, {**options, "inner_steps": 2}


def batches(backend):
    return several(backend)[0], {"batch": 5, "rng": 0}


def merely_convex(backend):
    problem = OTHERS["counterexample"](1, backend.asarray([0.0]))
    return (problem,), {}


def unrolled(backend):
    args, _ = several(backend)
    return args, {"steps": 5}


def kinks(backend):
    return (LassoProblem.random(6, 3, rng=1, like=backend.asarray([0.0])),), {}


def several_kinks(backend):
    return (ElasticNetProblem.random(5, 2, rng=1, like=backend.asarray([0.0])),), {}


def leader(backend):
    return (OTHERS["equilibrium box"](1, backend.asarray([0.0])),), {"steps": 2}


def proven(backend):
    options = {"eps": 1e-3, "delta": 1e-3, "inner": "newton", "mode": "direct"}
    return (MAKERS["least squares"](1, backend.asarray([0.0])),), options


def constrained(backend):
    return (OTHERS["affine constraint"](1, backend.asarray([0.0])),), {}


def whole(backend):
    return (MAKERS["ridge"](1, backend.asarray([0.0])),), {"emphasis": 1.0, "blocks": [0, 0, 1, 1, 1], "check_every": 1}


def learned(backend):
    args, _ = one(backend)
    return args, {"rng": 0, "warmup": 1, "samples": 4, "entropy": 1e-3, "check_every": 1}


CASES = {
    "bilevel.lv_hba": constrained,
    "bilevel.bamm": merely_convex,
    "bilevel.bda": unrolled,
    "bilevel.elbo": whole,
    "bilevel.hierarchy_free": leader,
    "bilevel.bo_rep": batches,
    "bilevel.f2sa": first_order,
    "bilevel.hoag": several,
    "bilevel.nonsmooth": several_kinks,
    "bilevel.piecewise": kinks,
    "bilevel.maid": proven,
    "bilevel.penalty": loosely,
    "bilevel.quasi_newton": several,
    "bilevel.saba": batches,
    "bilevel.scalar": one,
    "bilevel.self_tuning": learned,
    "bilevel.soba": batches,
    "bilevel.truncated": unrolled,
}
