"""The answer of `quadratic`: the sparse plan of its potentials, and how good it is.

The dual objective of any potentials, ``<f, a> + <g, b> - sum (f + g - C)_+^2 / (2 reg)``, is a lower bound; that of the
plan rounded to exact marginals, which keeps the form of a sparse plan plus a matrix of rank one, is an upper bound.
"""

from typing import Any

import numpy as np

from optlib._core import Certificate
from optlib.backend import Array
from optlib.transport import passes
from optlib.transport._problem import Problem
from optlib.transport.certificates import host_numbers, largest_size, only_with_mass
from optlib.transport.rounding import round_plan
from optlib.transport.sparse_plan import SparsePlan, closest_pairs


def answer(
    problem: Problem, f: Array, g: Array, i: np.ndarray, j: np.ndarray, slack: np.ndarray, reg: float, tol: float | None
) -> dict[str, Any]:
    """Fields of the result.

    Parameters
    ----------
    problem : Problem
    f, g : array, shapes (n,) and (m,)
        Potentials in the widest precision of the device.
    i, j : numpy array of integers, shape (k,)
        Where ``f_i + g_j > C_ij`` and the weights are positive, sorted by rows.
    slack : array, shape (k,)
        ``f_i + g_j - C_ij`` there.
    reg : float
    tol : float or None
    """
    xp, wide = problem.xp, problem.double()
    a, b, mass = wide.a, wide.b, wide.mass[0]
    exact = SparsePlan(i, j, slack / reg, a, b)
    rows, cols, masses = exact.entries
    costs = xp.take(f, rows, axis=0) + xp.take(g, cols, axis=0) - slack
    rounded = round_plan(exact)
    x, y, p, q = rounded.x, rounded.y, rounded.p, rounded.q
    scaled = xp.take(x, rows, axis=0) * masses * xp.take(y, cols, axis=0)
    product = xp.sum(xp.take(p, rows, axis=0) * scaled * xp.take(q, cols, axis=0))
    reach = (only_with_mass(u, w, wide.range, xp) for u, w in ((f, a), (g, b)))
    closest = closest_pairs(wide.cost, *reach, i, j)
    plan = SparsePlan(i, j, xp.astype(masses, problem.dtype), problem.a, problem.b, closest=closest)
    kept = SparsePlan(i, j, xp.astype(plan.entries[2], wide.dtype), a, b)
    lower_f = passes.c_transform(wide.cost, only_with_mass(g, b, wide.range, xp))
    lower_g = passes.c_transform(wide.cost.T, only_with_mass(lower_f, a, wide.range, xp))
    numbers = [
        xp.sum(a * f) + xp.sum(b * g),
        xp.sum(a * f) - xp.sum(b * g),
        xp.sum(masses * masses),
        xp.sum(costs * masses),
        xp.sum(costs * scaled) + xp.sum(p * passes.cost_apply(wide.cost, q)),
        xp.sum(scaled * scaled) + 2.0 * product + xp.sum(p * p) * xp.sum(q * q),
        xp.sum(xp.abs(kept.sum(1) - a)) + xp.sum(xp.abs(kept.sum(0) - b)),
        xp.sum(a * lower_f) + xp.sum(b * lower_g),
        largest_size(f, a, xp) + largest_size(g, b, xp),
        xp.max(a),
        xp.max(b),
    ]
    linear, shift, squares, cost, upper, rounded_squares, error, lower, size, *largest = host_numbers(numbers, xp)
    dual, value = linear - 0.5 * reg * squares, upper + 0.5 * reg * rounded_squares
    rounding = 8.0 * float(xp.finfo(wide.dtype).eps) * (mass * size + reg * squares)
    gap = max(value - dual, 0.0) + rounding
    scale = mass * (wide.range + reg * min(largest)) or mass * size
    potentials = tuple(xp.astype(u, problem.dtype) for u in (f - 0.5 * shift / mass, g + 0.5 * shift / mass))
    return {
        "certificate": Certificate("duality_gap", gap, scale, tol=tol, residual=error / mass),
        "x": potentials, "potentials": potentials, "plan": plan, "fun": dual + gap, "value": dual + gap,
        "value_linear": cost, "dual_value": dual, "gap": gap,
        "lp_bounds": (max(lower, mass * wide.cost.bounds()[0]) - rounding, upper + rounding), "marginal_error": error,
    }  # fmt: skip
