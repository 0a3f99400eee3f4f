"""Calls of the bilevel solvers that take more than a few iterations."""

import numpy as np

from tests.bilevel.problems import MAKERS


def one(backend):
    return (MAKERS["ridge scalar"](1, backend.asarray([0.0])), backend.asarray([-6.0])), {}


def several(backend):
    return (MAKERS["logistic"](1, backend.asarray([0.0])), backend.asarray(np.full(5, 1.0))), {}


CASES = {"bilevel.hoag": several, "bilevel.maid": several, "bilevel.quasi_newton": several, "bilevel.scalar": one}
