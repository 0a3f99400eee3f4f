"""Calls of the bilevel solvers that take more than a few iterations."""

import numpy as np

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


def leader(backend):
    return (OTHERS["equilibrium box"](1, backend.asarray([0.0])),), {"steps": 2}


CASES = {
    "bilevel.bamm": merely_convex,
    "bilevel.bda": unrolled,
    "bilevel.hierarchy_free": leader,
    "bilevel.hoag": several,
    "bilevel.quasi_newton": several,
    "bilevel.scalar": one,
}
