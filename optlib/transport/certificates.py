r"""Certificates of entropic transport: bounds on the optimum, computed from a potential and the data alone.

Notation: ``a`` and ``b`` have sums ``M_a`` and ``M_b`` (both ``M`` in balanced problems), the regulariser is
``eps KL(P | a b')`` with ``KL(p | q) = sum p log(p / q) - p + q``, and potentials ``f, g`` define the plan
``P_ij = a_i b_j exp((f_i + g_j - C_ij) / eps)``.

**Balanced problems.** ``f`` is recomputed from ``g`` as the soft C-transform, so that ``P 1 = a`` and the dual
objective is ``D = <f, a> + <g, b> - eps (M - M^2)``. Let ``c = P' 1``, ``delta = sum |c - b|``, ``y = min(1, b / c)``,
``Q = P diag(y)``, ``k = Q' 1 = min(b, c)``, ``p = a - Q 1 = P (1 - y)``, ``q = b - k``; the masses are ``sum Q = s``
and ``sum p = sum q = h = M - s = delta / 2``. Altschuler's rounding ``R = Q + E``, ``E = p q' / h``, has the marginals
``a`` and ``b``, and its primal objective minus ``D`` is exactly ``eps KL(R | P)``. That would take a logarithm per
entry; but ``R`` is the mean of ``(M / s) Q`` and ``(M / h) E`` with weights ``s / M`` and ``h / M``, and the relative
entropy is convex:

    KL(R | P) <= sum Q log(Q / P) + s log(M / s) + sum E log(E / P) + h log(M / h).

As ``Q / P = y`` and ``E / (a b')`` is a product, everything but ``<C, E>`` is a sum over one index:

    gap <= eps [<k, log y> + s log(M / s)]
           + <C, E> - <f, p> - <g, q> + eps [<p, log(p / a)> + <q, log(q / b)> + h log(M / h^2)].

Every term has the size of ``h``: no large numbers cancel, and a gap of 1e-15 is as accurate as one of 1. The first
line is of second order in ``h``, the second is ``eps h KL(E / h | P / M)``.

*Scale.* If ``g`` is a soft C-transform too, ``C - f - g <= 2 range(C) + eps log M``; moreover ``<k, log y>``,
``<p, log(p / a)>`` and ``<q, log(q / b)>`` are at most 0, and ``s log(M / s) <= h``. Hence, with the relative residual
``r = delta / M``, ``gap <= (r / 2) M [2 range(C) + eps (1 + 2 log(2 / r))]``. This increases in ``r``, so

    r <= tol   implies   gap <= tol * scale,   scale = M [range(C) + eps (1 / 2 + log(2 / tol))].

*Linear program.* ``<C, R>`` is an upper bound of ``min <C, P>``. For any ``g``, the hard C-transforms
``f^c_i = min_j (C_ij - g_j)`` and ``g^c_j = min_i (C_ij - f^c_i)`` satisfy ``f^c_i + g^c_j <= C_ij``, so
``<f^c, a> + <g^c, b>`` is a lower bound.

**Penalised marginals.** With ``rho_1 KL(P 1 | a)`` in the objective (``rho_2`` likewise) every plan is feasible on that
side, and primal minus dual is, exactly,

    gap = rho_1 KL(P 1 | a exp(-f / rho_1)) + rho_2 KL(P' 1 | b exp(-g / rho_2)).

The potentials ``f + t, g - t`` give the same plan for every ``t``; with the best ``t`` both sides ask for the same
mass. With ``rho_1 |P 1 - a|_1`` instead the potentials keep to ``|f| <= rho_1``, the dual objective has ``<f, a>``, and
the gap of that side is ``sum rho_1 |P 1 - a| + f (P 1 - a)``. The scale is the objective of the empty plan or
``sqrt(M_a M_b) (max |C| + eps)``, whichever is less.

**Rounding errors.** All is computed in the widest precision of the device. What is left is added to the gap and taken
off the lower bounds: ``8 u`` times the size of the terms, with ``u`` the spacing of numbers at 1, and the cost
``scale / M`` per unit of the mass by which the rows of the plan as computed miss ``a``. A float32 problem gets its
potentials in float32; what this last rounding does to the marginals counts in the residual.
"""

import math
from functools import partial
from typing import Any

from optlib._core import Certificate
from optlib.backend import Array, to_numpy
from optlib.backend.special import kl_div, logsumexp, xlogy
from optlib.transport import passes
from optlib.transport._problem import Problem
from optlib.transport.plan import EntropicPlan


def certify(
    problem: Problem,
    reg: float,
    g: Array,
    *,
    tol: float | None,
    swept: tuple[Array, Array] | None = None,
    stored: tuple[Array, Array, Array] | None = None,
    missing: float = 0.0,
) -> dict[str, Any]:
    """Turn a column potential into an answer with its certificate.

    Parameters
    ----------
    problem : Problem
    reg : float
    g : array, shape (m,)
        Any finite numbers are legal; good ones give a small gap. Entries of targets without mass are ignored.
    tol : float or None
        Tolerance of the run, for the certificate.
    swept : (array, array), optional
        What `passes.sweep` returns at ``g``, in the widest precision of the device, if the solver has it.
    stored : (array, array, array), optional
        A stored kernel of the same precision (see `passes.survey`). Both are used for balanced problems in which all
        weights are positive.
    missing : float
        Mass of the plan that the marginals in ``swept`` do not count. If it is positive they serve the proof only.

    Returns
    -------
    dict
        The fields of `TransportResult` that this determines: ``certificate``, ``x``, ``potentials``, ``plan``,
        ``fun``, ``value``, ``value_linear``, ``dual_value``, ``gap``, ``lp_bounds``, ``marginal_error``. If what is
        ``swept`` proves already that the certificate holds, ``x``, ``potentials``, ``plan``, ``dual_value``, and as
        ``later`` the function that computes all of them.

    Notes
    -----
    Balanced: two passes over the cost with an exponential per entry (one less each if ``swept`` and if ``stored``) and
    one without; all of them later, if it holds. Penalised: two with one.
    """
    xp, wide = problem.xp, problem.double()
    g = xp.astype(g, wide.dtype)
    if not problem.balanced or any(problem.has_zeros):
        swept = stored = None
    proven = swept is not None and problem.dtype == wide.dtype and _proven(wide, reg, g, tol, *swept, missing)
    f = swept[0] if proven else None
    swept = None if missing else swept
    if proven:
        f_mass, g_mass = host_numbers([xp.sum(f * wide.a), xp.sum(g * wide.b)], xp)
        shift = _shift(wide, f_mass, g_mass)
        return {
            **_answer(problem, reg, f - shift, g + shift),
            "dual_value": _dual_value(wide, reg, f_mass, g_mass),
            "later": partial(_certified, problem, reg, g, tol, swept),  # no stored kernel: a result is small
        }
    return _certified(problem, reg, g, tol, swept, stored)


def scale(problem: Problem, eps: float, tol: float | None) -> float:
    """The natural unit of the gap of a balanced problem."""
    return problem.mass[0] * _unit(problem, eps, tol)


def _answer(problem: Problem, reg: float, u: Array, v: Array) -> dict[str, Any]:
    """Potentials and plan as fields of the result."""
    return {"x": (u, v), "potentials": (u, v), "plan": EntropicPlan(problem.cost, problem.a, problem.b, u, v, reg)}


def _shift(problem: Problem, f_mass: Any, g_mass: Any) -> Any:
    """What the row potential has too much of, for both to be of the same mean."""
    return 0.5 * (f_mass - g_mass) / problem.mass[0]


def _dual_value(problem: Problem, eps: float, f_mass: float, g_mass: float) -> float:
    """Dual objective of a balanced problem with exact rows."""
    return f_mass + g_mass - eps * (problem.mass[0] - problem.mass[0] * problem.mass[0])


def _proven(problem: Problem, eps: float, g: Array, tol: float | None, f: Array, c: Array, missing: float) -> bool:
    """Whether numbers of O(n + m) prove that the certificate of a balanced problem will hold.

    As ``y <= 1``, ``p <= a`` and ``q <= b``, the gap is at most
    ``h [max C - min f - min g + eps (1 + log(M / h^2))]``; rounding moves the rows of the plan by the spacing of
    numbers of the size of the exponents, and what is ``missing`` comes on top of the marginals.
    """
    if tol is None:
        return False
    xp, mass = problem.xp, problem.mass[0]
    error, least, largest = host_numbers(
        [xp.sum(xp.abs(c - problem.b)), xp.min(f) + xp.min(g), xp.max(xp.abs(f)) + xp.max(xp.abs(g))], xp
    )
    low, high = problem.cost.bounds()
    size = largest + max(abs(low), abs(high)) + eps * max(1.0, mass)
    row_error = 8.0 * _spacing(problem) * mass * size / eps + missing
    h, unit = 0.5 * (error + missing + row_error), _unit(problem, eps, tol)
    if not 0.0 < h < math.inf:  # masses of 1e+-300
        return False
    gap = h * (high - least + eps * (1.0 + math.log(mass) - 2.0 * math.log(h)))
    slack = 8.0 * _spacing(problem) * mass * size + unit * row_error
    return 2.0 * h <= tol * mass and gap + slack <= tol * mass * unit


def _unit(problem: Problem, eps: float, tol: float | None) -> float:
    """The scale of the gap of a balanced problem, per unit of mass."""
    return problem.range + eps * (0.5 + math.log(2.0 / min(tol or 1e-6, 1.0)))


def _certified(
    problem: Problem,
    reg: float,
    g: Array,
    tol: float | None,
    swept: tuple[Array, Array] | None,
    stored: tuple[Array, Array, Array] | None = None,
) -> dict[str, Any]:
    """All fields of the answer."""
    xp, wide = problem.xp, problem.double()
    if problem.balanced:
        f, g, found = _balanced(wide, reg, g, tol, swept, stored)
    elif math.isinf(problem.rho[1]):  # the marginal that is a constraint must be that of the rows
        f, _ = passes.sweep(wide.cost, g, wide.a, wide.b, reg, **_row_penalty(wide))
        g, f, found = _penalised(wide.T, reg, f)
    else:
        f, g, found = _penalised(wide, reg, g)

    u, v = xp.astype(f, problem.dtype), xp.astype(g, problem.dtype)
    moved = 0.0
    if problem.dtype != wide.dtype:
        change = xp.sum(wide.a * xp.abs(xp.expm1((xp.astype(u, wide.dtype) - f) / reg)))
        moved = 2.0 * float(change + xp.sum(wide.b * xp.abs(xp.expm1((xp.astype(v, wide.dtype) - g) / reg))))
    mass = min(problem.mass)
    gap, residual = found["gap"], found.pop("residual") + moved / mass
    narrow = moved / mass > 0.5 * residual
    certificate = Certificate(
        kind="duality_gap",
        value=gap,
        scale=found.pop("scale"),
        tol=tol,
        residual=residual if math.inf in problem.rho else 0.0,
        note=f"the potentials are rounded to {str(problem.dtype).rpartition('.')[2]}" if narrow else "",
    )
    found["marginal_error"] += moved
    value = found["dual_value"] + gap
    return {"certificate": certificate, "fun": value, "value": value, **found, **_answer(problem, reg, u, v)}


def _balanced(
    problem: Problem,
    eps: float,
    g: Array,
    tol: float | None,
    swept: tuple[Array, Array] | None,
    stored: tuple[Array, Array, Array] | None,
) -> tuple[Array, Array, dict[str, Any]]:
    cost, a, b, xp, mass = problem.cost, problem.a, problem.b, problem.xp, problem.mass[0]
    f, c = swept or passes.sweep(cost, g, a, b, eps)
    if problem.has_zeros[1]:
        g = xp.where(b > 0, g, passes.soft_transform(cost.T, f, a, eps))
    heavy = c > b
    k = xp.where(heavy, b, c)
    removed = _divide(c - k, c, xp)  # 1 - y
    q = b - k
    reached = only_with_mass(g, b, problem.range, xp)
    sums = passes.survey(cost, f, g, a, b, eps, removed, q, reached, stored=stored)
    rows = sums.mass
    p = positive_part(sums.removed + (a - rows), xp)
    h_p, h_q = xp.sum(p), xp.sum(q)
    h = xp.maximum(h_p, h_q)
    s = positive_part(mass - h, xp)
    corner = _divide(xp.sum(p * sums.product), h, xp)  # <C, E>
    stretch = corner - _divide(xp.sum(p * f) * h_q + xp.sum(q * g) * h_p, h, xp)
    bracket = (
        xp.sum(k * _log_rest(removed, _divide(b, c, xp), xp))
        - s * _log_rest(h / mass, s / mass, xp)
        + xp.sum(xlogy(p, _divide(p, a, xp), xp=xp))
        + xp.sum(xlogy(q, _divide(q, b, xp), xp=xp))
        + math.log(mass) * h
        - 2.0 * xlogy(h, h, xp=xp)
    )
    f_mass, g_mass = xp.sum(f * a), xp.sum(g * b)
    missing = mass - (xp.sum(rows - sums.removed) + _divide(h_p * h_q, h, xp))  # mass that R lacks, by rounding
    gap, f_mass, g_mass, lower, linear, upper, row_error, column_error, size = host_numbers(
        [
            stretch + eps * bracket,
            f_mass,
            g_mass,
            _lp_dual(problem, sums.lowest),
            xp.sum(sums.cost),
            xp.sum(sums.cost - sums.removed_cost) + corner + cost.bounds()[0] * missing,
            xp.sum(xp.abs(rows - a)),
            xp.sum(xp.abs(c - b)),
            largest_size(f, a, xp) + largest_size(g, b, xp),
        ],
        xp,
    )
    unit = _unit(problem, eps, tol)
    size = mass * (size + max(map(abs, cost.bounds())) + eps * max(1.0, mass))
    rounding = 8.0 * _spacing(problem) * size
    slack = rounding + unit * row_error
    least = mass * cost.bounds()[0]  # the bound by the smallest cost, better at large eps
    shift = _shift(problem, f_mass, g_mass)
    found = {
        "value_linear": linear,
        "dual_value": _dual_value(problem, eps, f_mass, g_mass),
        "gap": max(gap, 0.0) + slack,
        "lp_bounds": (max(lower, least) - rounding, upper + slack),
        "marginal_error": row_error + column_error,
        "residual": (row_error + column_error) / mass,
        "scale": mass * unit,
    }
    return f - shift, g + shift, found


def _penalised(problem: Problem, eps: float, g: Array) -> tuple[Array, Array, dict[str, Any]]:
    """Columns penalised, rows penalised or constrained."""
    cost, a, b, xp = problem.cost, problem.a, problem.b, problem.xp
    (rho_1, rho_2), (mass_a, mass_b) = problem.rho, problem.mass
    total_variation = problem.penalty == "tv"
    if total_variation:
        g = xp.clip(g, -rho_2, rho_2)
    f, c = passes.sweep(cost, g, a, b, eps, **_row_penalty(problem))
    if problem.has_zeros[1]:
        soft = passes.soft_transform(cost.T, f, a, eps)
        g = xp.where(b > 0, g, xp.clip(soft, -rho_2, rho_2) if total_variation else rho_2 / (rho_2 + eps) * soft)
    products, costs = passes.moments(cost, f, g, a, b, eps, xp.ones_like(b)[:, None])
    if not total_variation:
        shift = (_log_mass(a, f, rho_1, xp) - _log_mass(b, g, rho_2, xp)) / (1.0 / rho_1 + 1.0 / rho_2)
        f, g = f + shift, g - shift
    r, side = products[:, 0], _variation if total_variation else _penalty
    row_gap, row_dual, row_error = side(r, a, f, rho_1, xp)
    column_gap, column_dual, column_error = side(c, b, g, rho_2, xp)
    gap, row_dual, column_dual, row_error, column_error, total, linear = host_numbers(
        [row_gap + column_gap, row_dual, column_dual, row_error, column_error, xp.sum(r), xp.sum(costs)], xp
    )
    dual = row_dual + column_dual - eps * (total - mass_a * mass_b)
    largest = max(map(abs, cost.bounds()))
    size = abs(row_dual) + abs(column_dual) + eps * (total + mass_a * mass_b) + total * largest
    unit = largest + eps
    found = {
        "value_linear": linear,
        "dual_value": dual,
        "gap": gap + 8.0 * _spacing(problem) * size + (unit * row_error if math.isinf(rho_1) else 0.0),
        "lp_bounds": None,
        "marginal_error": row_error + column_error,
        "residual": row_error / mass_a,
        "scale": penalised_scale(problem, eps),
    }
    return f, g, found


def penalised_scale(problem: Problem, eps: float) -> float:
    """The objective of the empty plan or ``sqrt(M_a M_b) (max |C| + eps)``, whichever is less."""
    (rho_1, rho_2), (mass_a, mass_b) = problem.rho, problem.mass
    empty = eps * mass_a * mass_b + rho_1 * mass_a + rho_2 * mass_b
    return min(empty, math.sqrt(mass_a * mass_b) * (max(map(abs, problem.cost.bounds())) + eps))


def gap_curvature(problem: Problem, eps: float) -> float:
    """A number k: with exact rows and residuals of at most r <= 0.1, the relative gap per unit mass is at most k r^2.

    The gap is ``rho KL(P' 1 | b exp(-g / rho))``, and ``KL(p | q) <= exp(x) x^2 / 2 sum q`` if ``|log(p / q)| <= x``,
    here ``(1 + eps / rho) r``. 0 if both marginals are constraints, and for the total variation.
    """
    if problem.balanced or problem.penalty == "tv":
        return 0.0
    rho = sum(r for r in problem.rho if r < math.inf)
    steep = 1.0 + eps / problem.rho[1]
    return 0.56 * rho * steep * steep / penalised_scale(problem, eps)


def _penalty(marginal: Array, weights: Array, potential: Array, rho: float, xp: Any) -> tuple[Array, Array, Array]:
    """One side of a penalised problem: its share of the gap, of the dual objective, and the marginal error."""
    if math.isinf(rho):
        error = xp.sum(xp.abs(marginal - weights))
        return xp.zeros_like(error), xp.sum(potential * weights), error
    limit = 0.9 * math.log(float(xp.finfo(weights.dtype).max))
    exponent = xp.clip(-potential / rho, -limit, limit)
    wanted = weights * xp.exp(exponent)
    gap = rho * xp.sum(kl_div(marginal, wanted, xp=xp))
    return gap, -rho * xp.sum(weights * xp.expm1(exponent)), xp.sum(xp.abs(marginal - wanted))


def _variation(marginal: Array, weights: Array, potential: Array, rho: float, xp: Any) -> tuple[Array, Array, Array]:
    """`_penalty` for the total variation; potentials keep to ``rho``, and ask for nothing where they are that large."""
    excess = marginal - weights
    error = xp.abs(excess)
    dual = xp.sum(potential * weights)
    if math.isinf(rho):
        return xp.sum(xp.zeros_like(error)), dual, xp.sum(error)
    inside = xp.where(xp.abs(potential) < rho, error, xp.zeros_like(error))
    return xp.sum(rho * error + potential * excess), dual, xp.sum(inside)


def _row_penalty(problem: Problem) -> dict[str, float]:
    """The penalty on the rows as `passes.sweep` takes it."""
    return {"bound" if problem.penalty == "tv" else "rho": problem.rho[0]}


def _log_mass(weights: Array, potential: Array, rho: float, xp: Any) -> Array:
    """Logarithm of the mass that the potential asks for."""
    return logsumexp(-potential / rho, b=weights, xp=xp)


def _lp_dual(problem: Problem, f: Array) -> Array:
    """Dual value of the linear program at a C-transform and its C-transform, taken over the points with mass."""
    cost, a, b, xp = problem.cost, problem.a, problem.b, problem.xp
    g = passes.c_transform(cost.T, only_with_mass(f, a, problem.range, xp))
    return xp.sum(f * a) + xp.sum(g * b)


def only_with_mass(potential: Array, weights: Array, spread: float, xp: Any) -> Array:
    """Put points without mass so low that no minimum is attained there."""
    least = xp.min(xp.where(weights > 0, potential, xp.max(potential)))
    return xp.where(weights > 0, potential, least - spread)


def positive_part(x: Array, xp: Any) -> Array:
    """``max(x, 0)``, and 0 for NaN."""
    return xp.where(x > 0, x, xp.zeros_like(x))


def _divide(x: Any, y: Array, xp: Any) -> Array:
    """``x / y``, and ``x`` where ``y`` is zero."""
    return x / xp.where(y > 0, y, xp.ones_like(y))


def _log_rest(x: Array, rest: Array, xp: Any) -> Array:
    """``log(1 - x)`` for ``x`` in [0, 1], given ``rest = 1 - x`` as well; 0 where there is no rest."""
    near = x < 0.5
    some = xp.where(near | (rest <= 0), xp.ones_like(rest), rest)
    return xp.where(near, xp.log1p(-xp.where(near, x, xp.zeros_like(x))), xp.log(some))


def largest_size(potential: Array, weights: Array, xp: Any) -> Array:
    """Largest absolute value of a potential where there is mass."""
    return xp.max(xp.where(weights > 0, xp.abs(potential), xp.zeros_like(potential)))


def _spacing(problem: Problem) -> float:
    return float(problem.xp.finfo(problem.dtype).eps)


def host_numbers(numbers: list[Array], xp: Any) -> list[float]:
    """Move 0-d arrays to the host in one transfer."""
    return to_numpy(xp.stack(numbers)).tolist()
