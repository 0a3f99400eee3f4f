"""Numba variant of the accelerated iterations: a block of passes and steps in one call."""

import numpy as np
from numba import njit

from optlib.backend._math_numba import exp_, log_
from optlib.transport._passes_numba import (
    INNER,
    JIT,
    chunks_of,
    log_weights,
    scaled,
    sweep_parallel,
    sweep_serial,
    threads_for,
    trusted_sums,
)

METHODS = {"plain": 0, "overrelaxation": 1, "anderson": 2, "lbfgs": 3}
PLAIN, OVERRELAXATION, ANDERSON, LBFGS = range(4)
ERROR, PAIRS, STEP, FAILURES, OMEGA, AGE, MARK = range(7)
PERIOD, ARMIJO = 10, 1e-4
# Largest |g - beta| / eps before the potentials must be absorbed into the stored kernel (a tenth in float32). No step
# goes beyond 1.5 times that, so that scalings and row sums stay within exp(300).
LIMIT = 200.0


# -- vectors --


@njit(**INNER)
def _dot(u, v):
    s = 0.0
    for j in range(u.size):
        s += u[j] * v[j]
    return s


@njit(**INNER)
def _dot3(u, v, w):
    s = 0.0
    for j in range(u.size):
        s += u[j] * v[j] * w[j]
    return s


@njit(**INNER)
def _add(u, factor, v):
    for j in range(u.size):
        u[j] += factor * v[j]


@njit(**INNER)
def _copy(u, v):
    for j in range(u.size):
        u[j] = v[j]


@njit(**INNER)
def _clip(u, centre, radius):
    for j in range(u.size):
        u[j] = min(max(u[j], centre[j] - radius), centre[j] + radius)


@njit(**INNER)
def _total(u):
    s = 0.0
    for j in range(u.size):
        s += u[j]
    return s


@njit(**INNER)
def _distance(u, v):
    s = 0.0
    for j in range(u.size):
        s += abs(u[j] - v[j])
    return s


@njit(**INNER)
def _largest_gap(u, v):
    s = 0.0
    for j in range(u.size):
        s = max(s, abs(u[j] - v[j]))
    return s


@njit(**INNER)
def _difference_dot(w, u, v):
    s = 0.0
    for j in range(u.size):
        s += w[j] * (u[j] - v[j])
    return s


@njit(**INNER)
def _absolute_dot(u, v):
    s = 0.0
    for j in range(u.size):
        s += u[j] * abs(v[j])
    return s


@njit(**INNER)
def _expm1_dot(w, u, v, q):
    """Sum of ``w expm1(-q (u - v))``."""
    s = 0.0
    for j in range(u.size):
        s += w[j] * np.expm1(-q * (u[j] - v[j]))
    return s


@njit(**INNER)
def _residual(g, c, log_b, q, lam, tiny, out):
    for j in range(g.size):
        out[j] = lam * ((log_b[j] - q * g[j]) - log_(max(c[j], tiny)))


@njit(**INNER)
def _target(g, log_b, q, out):
    for j in range(g.size):
        out[j] = exp_(log_b[j] - q * g[j])


@njit(**INNER)
def _largest(u):
    s = 0.0
    for j in range(u.size):
        s = max(s, abs(u[j]))
    return s


# -- directions: pair k of the memory is at row (head + k) of a ring, the newest at head --


@njit(**INNER)
def _lbfgs(residual, steps, changes, pairs, head, metric, out, alpha):
    """Two-loop recursion."""
    memory = steps.shape[0]
    _copy(out, residual)
    for k in range(pairs):
        s, y = steps[(head + k) % memory], changes[(head + k) % memory]
        alpha[k] = _dot3(metric, s, out) / _dot3(metric, s, y)
        _add(out, -alpha[k], y)
    s, y = steps[head], changes[head]
    gamma = _dot3(metric, s, y) / _dot3(metric, y, y)
    for j in range(out.size):
        out[j] *= gamma
    for k in range(pairs - 1, -1, -1):
        s, y = steps[(head + k) % memory], changes[(head + k) % memory]
        _add(out, alpha[k] - _dot3(metric, y, out) / _dot3(metric, s, y), s)


@njit(**INNER)
def _anderson(residual, steps, changes, pairs, head, metric, out, gram):
    """Least squares by normal equations with a ridge; column ``pairs`` of ``gram`` is the right side."""
    memory = steps.shape[0]
    trace = 0.0
    for k in range(pairs):
        y = changes[(head + k) % memory]
        for i in range(k + 1):
            gram[k, i] = _dot3(metric, y, changes[(head + i) % memory])
            gram[i, k] = gram[k, i]
        gram[k, pairs] = _dot3(metric, y, residual)
        trace += gram[k, k]
    for k in range(pairs):
        gram[k, k] += 1e-10 * trace
    for k in range(pairs):  # elimination of a positive definite matrix: no pivots
        for i in range(k + 1, pairs):
            factor = gram[i, k] / gram[k, k]
            for j in range(k + 1, pairs + 1):
                gram[i, j] -= factor * gram[k, j]
    _copy(out, residual)
    for k in range(pairs - 1, -1, -1):
        for j in range(k + 1, pairs):
            gram[k, pairs] -= gram[k, j] * gram[j, pairs]
        gram[k, pairs] /= gram[k, k]
        _add(out, gram[k, pairs], steps[(head + k) % memory])
        _add(out, -gram[k, pairs], changes[(head + k) % memory])


@njit(**INNER)
def _adapt(info, error):
    """Set omega from the ratio of errors over the last half of a period."""
    info[AGE] += 1.0
    if info[AGE] == PERIOD // 2:
        info[MARK] = error
    if info[AGE] >= PERIOD:
        info[AGE] = 0.0
        omega, ratio = info[OMEGA], min(max((error / info[MARK]) ** (2.0 / PERIOD), 1e-6), 1.0)
        if not ratio < 1.0:
            info[OMEGA] = 1.0
        elif ratio > omega - 1.0 + 1e-3:
            theta = min(max((ratio + omega - 1.0) ** 2 / (ratio * omega * omega), 0.0), 0.9999)
            info[OMEGA] = 2.0 / (1.0 + np.sqrt(1.0 - theta))


# -- one pass --


@njit(**INNER)
def _exponents(g, beta, log_b, inv, out):
    for j in range(g.size):
        out[j] = (g[j] - beta[j]) * inv + log_b[j]


@njit(**INNER)
def _exponentiate(u):
    for j in range(u.size):
        u[j] = exp_(u[j])


@njit(**INNER)
def _translate(f, r, g, c, target, eps, p, q, lam):
    """The translation of the potentials that is best for the dual objective, when a marginal is penalised."""
    h = np.log(_total(r) / _total(target)) / (q + p * lam)
    factor = np.exp(-p * lam * h)
    for i in range(f.size):
        f[i] += lam * h
        r[i] *= factor
    for j in range(g.size):
        g[j] -= h
        c[j] *= factor


@njit(**INNER)
def _remember(steps, changes, head, g1, g, inv, residual, residual1, metric):
    """Overwrite the oldest pair; whether the new one is a sound secant pair."""
    s, y = steps[head], changes[head]
    for j in range(g.size):
        s[j] = (g1[j] - g[j]) * inv
        y[j] = residual[j] - residual1[j]
    return _dot3(metric, s, y) > 1e-10 * np.sqrt(_dot3(metric, s, s) * _dot3(metric, y, y))


@njit(**JIT)
def _iterate(
    serial, parallel, stored, cost, x, y, chunks, alpha, beta, a, b, log_b, eps, p, q, method, todo, tol, low, high,
    limit, tiny, unit, e, partial, f, r, g, c, steps, changes, info, f1, r1, g1, c1, work, small,
):  # fmt: skip
    """Work on the fields of the point in place; ``p`` and ``q`` are the inverse strengths of the penalties."""
    m, inv, lam_rows, lam = g.size, 1.0 / eps, 1.0 / (1.0 + eps * p), 1.0 / (1.0 + eps * q)
    free, memory, mass = p == 0.0 and q == 0.0, steps.shape[0], _total(b)
    residual, residual1, direction, gt = work[0, :m], work[1, :m], work[2, :m], work[3]
    target, metric = (b, b) if free else (work[4, :m], work[5, :m])
    target1 = b if free else work[6, :m]
    pairs, head, done = int(info[PAIRS]), 0, 0
    if not free:
        _exponents(g, g, log_b, 0.0, target)
        _add(target, -q, g)
        _exponentiate(target)
    _residual(g, c, log_b, q, lam, tiny, residual)
    while done < todo:
        done += 1
        # 1. the trial point
        plain, slope = True, 0.0
        if not free:
            for j in range(m):
                metric[j] = target[j] / lam
        if method >= ANDERSON and pairs > 0:
            if method == ANDERSON:
                _anderson(residual, steps, changes, pairs, head, metric, direction, small)
            else:
                _lbfgs(residual, steps, changes, pairs, head, metric, direction, small[0])
            slope = _difference_dot(direction, target, c)
            plain = not slope > 0.0
        if plain:
            pairs, info[STEP] = 0, 1.0
            _copy(direction, residual)
        omega = info[OMEGA] if method == OVERRELAXATION else 1.0
        _copy(g1, g)
        _add(g1, eps * omega * info[STEP], direction)
        if stored is not None and _largest_gap(g1, beta) * inv > 1.5 * limit:
            if plain:
                _clip(g1, beta, 1.5 * limit * eps)
            else:
                info[STEP] *= 0.5 * limit / (_largest_gap(g1, g) * inv)
                _copy(g1, g)
                _add(g1, eps * info[STEP], direction)

        # 2. the pass, and the best translation
        _exponents(g1, beta, log_b, inv, gt[:m])
        if stored is not None:
            _exponentiate(gt[:m])
        if serial is not None:
            sweep_serial(
                stored, cost, x, y, chunks, gt, f, alpha, a, eps, lam_rows, omega, low, high, e, f1, r1, partial
            )
        if parallel is not None:
            sweep_parallel(
                stored, cost, x, y, chunks, gt, f, alpha, a, eps, lam_rows, omega, low, high, e, f1, r1, partial
            )
        _copy(c1, partial[0, :m])
        for k in range(1, chunks):
            _add(c1, 1.0, partial[k, :m])
        if stored is not None:
            for j in range(m):
                c1[j] *= gt[j]
        if not free:
            _exponents(g1, g1, log_b, 0.0, target1)
            _add(target1, -q, g1)
            _exponentiate(target1)
            _translate(f1, r1, g1, c1, target1, eps, p, q, lam_rows)
            _exponents(g1, g1, log_b, 0.0, target1)
            _add(target1, -q, g1)
            _exponentiate(target1)

        # 3. accept it or not
        accept = True
        if not plain:
            rows = _difference_dot(r, f1, f) if p == 0.0 else -(1.0 / p + eps) * _expm1_dot(r, f1, f, p)
            columns = _difference_dot(target, g1, g) if q == 0.0 else -_expm1_dot(target, g1, g, q) / q
            noise = unit * (_absolute_dot(r, f) + _absolute_dot(target, g))
            accept = (rows + columns + noise) * inv >= ARMIJO * info[STEP] * slope
        if not accept:
            info[FAILURES] += 1.0
            info[STEP] *= 0.25
            if info[FAILURES] >= 3.0:
                pairs, info[STEP], info[FAILURES] = 0, 1.0, 0.0
            continue
        info[STEP], info[FAILURES] = 1.0, 0.0
        _residual(g1, c1, log_b, q, lam, tiny, residual1)
        if method >= ANDERSON:
            oldest = (head - 1) % memory
            if _remember(steps, changes, oldest, g1, g, inv, residual, residual1, metric):
                head, pairs = oldest, min(pairs + 1, memory)
            else:
                pairs = min(pairs, memory - 1)
        f, f1, r, r1, g, g1, c, c1 = f1, f, r1, r, g1, g, c1, c
        residual, residual1, target, target1 = residual1, residual, target1, target
        error = (_distance(c, b) + _distance(r, a)) / mass if free else _largest(residual)
        info[ERROR] = error
        if method == OVERRELAXATION:
            _adapt(info, error)
        if error <= tol or (stored is not None and _largest_gap(g, beta) * inv > limit):
            break
    info[PAIRS] = pairs
    return f, r, g, c, head, done


def iterate(
    stored, alpha, beta, cost, x, y, scale, a, b, eps, inv_rho, method, todo, tol,
    f, r, g, c, steps, changes, info,
):  # fmt: skip
    n, m, dtype = f.size, g.size, g.dtype
    chunks = chunks_of(n, m)
    threads = threads_for(chunks)
    xs = ys = None
    if stored is not None:
        width = stored.strides[0] // stored.itemsize
        stored = np.lib.stride_tricks.as_strided(stored, (n, width))  # the padded rows
    else:
        width = m
        _, cost, xs, ys, alpha, beta = next(scaled(cost, x, y, scale, eps, g))
    double = dtype == np.float64
    low, high = trusted_sums(dtype)
    e, partial = np.empty((threads, 4, width if stored is None else 0), dtype), np.empty((chunks, width), dtype)
    f, r, g, c, steps, changes, info = (np.array(u) for u in (f, r, g, c, steps, changes, info))
    work, small = np.zeros((7, width), dtype), np.zeros((steps.shape[0] + 1, steps.shape[0] + 1), dtype)
    f, r, g, c, head, done = _iterate(
        None if threads > 1 else True, True if threads > 1 else None, stored, cost, xs, ys, chunks,
        np.array(alpha), np.array(beta), np.array(a), np.array(b),
        log_weights(b), eps, *inv_rho, METHODS[method], todo, tol, low, high, LIMIT if double else 0.1 * LIMIT,
        1e-300 if double else 1e-37, 4.0 * np.finfo(dtype).eps, e, partial, f, r, g, c, steps, changes, info,
        np.empty_like(f), np.empty_like(r), np.empty_like(g), np.empty_like(c), work, small,
    )  # fmt: skip
    return f, r, g, c, np.roll(steps, -head, axis=0), np.roll(changes, -head, axis=0), info, done
