"""Numba variant of the accelerated iterations: a block of passes and steps in one call."""

import numpy as np
from numba import njit

from optlib.backend._math_numba import _from_bits, _to_bits, exp_, log_
from optlib.transport._passes_numba import (
    THREADED_SIZE,
    aligned,
    chunks_of,
    log_weights,
    padded_rows,
    run_rows,
    scaled,
    stored_chunks,
    sweep_chunks,
)
from optlib.transport._tiles_numba import INLINE, INNER, JIT
from optlib.transport._truncated_numba import truncated_rows

METHODS = {"plain": 0, "overrelaxation": 1, "lbfgs": 2}
OVERRELAXATION, LBFGS = 1, 2
PERIOD, ARMIJO = 10, 1e-4
AGREE, GROWTH, SETTLED = 0.1, 10.0, -1e6
# Largest |g - beta| / eps before the potentials must be absorbed into the stored kernel (a tenth in float32; less if it
# is truncated, because dropped entries must stay small). No step goes beyond 1.5 times that, so that scalings and row
# sums stay within exp(300).
LIMIT, TRUNCATED_LIMIT = 200.0, 10.0

# Few arguments and few views of rows compile fast: what belongs to columns and what belongs to rows are two tables, and
# functions are told the numbers of their rows. G + now is the point, G + 1 - now the trial, and so on; PAST begins the
# memory. They are NumPy's numbers: every Python number is a type to Numba, and functions are compiled for each.
B, LOG_B, BETA, G, C, RESIDUAL, TARGET, METRIC, DIRECTION, SCRATCH, ZERO, PAST = np.delete(np.arange(15), [4, 6, 8])
A, ALPHA, F, R = np.array([0, 1, 2, 4])
ERROR, PAIRS, STEP, FAILURES, OMEGA, AGE, MARK = range(7)  # the fields of ``Point.info``
HEAD, NOW, WANTED, EPS, P, Q, METHOD, TOL, FAR, TINY, UNIT = range(7, 18)


@njit(**INNER)
def _copy(t, i, k):
    for j in range(t.shape[1]):
        t[i, j] = t[k, j]


@njit(**INNER)
def _add(t, i, k, weight):
    for j in range(t.shape[1]):
        t[i, j] += weight * t[k, j]


@njit(**INNER)
def _dot(t, i, k):
    """The inner product of the metric."""
    s = 0.0
    for j in range(t.shape[1]):
        s += t[METRIC, j] * t[i, j] * t[k, j]
    return s


@njit(**INNER)
def _largest_gap(t, i, k):
    """Largest entry of ``|t_i - t_k|``, over the bits as integers: maxima of floats do not vectorise."""
    top = _to_bits(0.0)
    for j in range(t.shape[1]):
        bits = _to_bits(abs(np.float64(t[i, j]) - np.float64(t[k, j])))
        top = bits if bits > top else top
    return _from_bits(top)


@njit(**INNER)
def _distance(t, i, k):
    """The l1 distance of two rows, and the sum of the second."""
    total = mass = 0.0
    for j in range(t.shape[1]):
        total += abs(t[i, j] - t[k, j])
        mass += t[k, j]
    return total, mass


@njit(**INLINE)
def _lbfgs(v, residual, pairs, head, small):
    """Two-loop recursion; pair k of the memory is at place (head + k) of a ring, the newest at head."""
    memory = (v.shape[0] - PAST) // 2
    _copy(v, DIRECTION, residual)
    for k in range(pairs):
        s = PAST + (head + k) % memory
        small[0, k] = _dot(v, s, s + memory)
        small[1, k] = _dot(v, s, DIRECTION) / small[0, k]
        _add(v, DIRECTION, s + memory, -small[1, k])
    newest = PAST + memory + head
    gamma = small[0, 0] / _dot(v, newest, newest)
    for j in range(v.shape[1]):
        v[DIRECTION, j] *= gamma
    for k in range(pairs - 1, -1, -1):
        s = PAST + (head + k) % memory
        _add(v, DIRECTION, s, small[1, k] - _dot(v, s + memory, DIRECTION) / small[0, k])


@njit(**INNER)
def _gain(general, t, w, i, k, q):
    """Sum of ``w (1 - exp(-q d)) / q`` for ``d = t_i - t_k`` (of ``w d`` if q is 0), and of ``w |t_k|``."""
    gain = noise = 0.0
    for j in range(t.shape[1]):
        d = t[i, j] - t[k, j]
        if general is not None:
            z = q * d
            near = d * (1.0 - z * (0.5 - z * (1.0 / 6.0)))
            far = (1.0 - exp_(-z)) / (q if q > 0.0 else 1.0)
            d = near if abs(z) < 1e-4 else far
        gain += t[w, j] * d
        noise += t[w, j] * abs(t[k, j])
    return gain, noise


@njit(**INNER)
def _translate(u, f, r, v, g, c, p, q, lam):
    """The translation of the potentials that is best for the dual objective, when a marginal is penalised."""
    if p + q == 0.0:
        return
    mass = target = 0.0
    for i in range(u.shape[1]):
        mass += u[r, i]
    for j in range(v.shape[1]):
        target += v[B, j] * exp_(-q * v[g, j])
    if not (mass > 0.0 and target > 0.0):  # underflow: the iterations bring the potentials back
        return
    h = log_(mass / target) / (q + p * lam)
    factor = exp_(-p * lam * h)
    for i in range(u.shape[1]):
        u[f, i] += lam * h
        u[r, i] *= factor
    for j in range(v.shape[1]):
        v[g, j] -= h
        v[c, j] *= factor


@njit(**INNER)
def _move(v, new, old, step, radius):
    """The trial point, within a radius of the potentials in the kernel."""
    for j in range(v.shape[1]):
        t, low, high = v[old, j] + step * v[DIRECTION, j], v[BETA, j] - radius, v[BETA, j] + radius
        t = low if low > t else t
        v[new, j] = high if high < t else t


@njit(**JIT)
def learn(general, v, now, new, step, change, eps, q, tiny):
    """Residual, target and metric of the new point, and the pair that it makes with the old; whether it is sound."""
    inner = size = size1 = 0.0
    inv, lam = 1.0 / eps, 1.0 / (1.0 + eps * q)
    for j in range(v.shape[1]):
        weight, c = v[LOG_B, j] - q * v[G + new, j], v[C + new, j]
        s, before = (v[G + new, j] - v[G + now, j]) * inv, v[RESIDUAL + now, j]
        v[RESIDUAL + new, j] = lam * (weight - log_(tiny if tiny > c else c))
        y = before - v[RESIDUAL + new, j]
        v[step, j], v[change, j] = s, y
        inner += v[METRIC, j] * s * y
        size += v[METRIC, j] * s * s
        size1 += v[METRIC, j] * y * y
    if general is not None:
        for j in range(v.shape[1]):
            v[TARGET, j] = v[B, j] * exp_(-q * v[G + new, j])
            v[METRIC, j] = v[TARGET, j] / lam
    return inner > 1e-10 * np.sqrt(size * size1)


@njit(**INLINE)
def propose(general, stored, v, info, small, gt):
    """The trial point into the other slot of ``g``, and its exponents or scalings into ``gt``."""
    now, pairs, eps, radius = np.int64(info[NOW]), np.int64(info[PAIRS]), info[EPS], 1.5 * info[FAR] * info[EPS]
    old, new, slope = G + now, G + 1 - now, 0.0
    if info[METHOD] == LBFGS and pairs > 0:
        _lbfgs(v, RESIDUAL + now, pairs, np.int64(info[HEAD]), small)
        for j in range(v.shape[1]):
            slope += v[DIRECTION, j] * (v[TARGET, j] - v[C + now, j])
    plain = not slope > 0.0
    if plain:
        info[PAIRS], info[STEP] = 0.0, 1.0
        _copy(v, DIRECTION, RESIDUAL + now)
    step = eps * info[STEP]
    if general is not None:
        step *= info[OMEGA]
    _move(v, new, old, step, np.inf)
    if stored is not None:
        if _largest_gap(v, new, BETA) > radius:
            if not plain:
                info[STEP] *= 0.5 * info[FAR] * eps / _largest_gap(v, new, old)
            _move(v, new, old, eps * info[STEP], radius)
    for j in range(v.shape[1]):
        t = (v[new, j] - v[BETA, j]) / eps + v[LOG_B, j]
        if stored is not None:
            t = exp_(t)
        gt[j] = t
    info[WANTED] = -np.inf if plain else ARMIJO * info[STEP] * slope


@njit(**INLINE)
def accept(general, stored, v, u, info, gt, partial):
    """Take the trial point or not, learn from it, and say whether to stop."""
    now, eps, p, q, memory = np.int64(info[NOW]), info[EPS], info[P], info[Q], (v.shape[0] - PAST) // 2
    new = 1 - now
    for k in range(1, partial.shape[0]):
        _add(partial, A, k, 1.0)
    for j in range(v.shape[1]):
        c = partial[0, j]
        if stored is not None:
            c *= gt[j]
        v[C + new, j] = c
    if general is not None:
        _translate(u, F + new, R + new, v, G + new, C + new, p, q, 1.0 / (1.0 + eps * p))

    wanted = info[WANTED]
    if wanted > -np.inf:  # not a plain step
        rows, noise = _gain(general, u, R + now, F + new, F + now, p)
        columns, noise1 = _gain(general, v, TARGET, G + new, G + now, q)
        gain = (1.0 + eps * p) * rows + columns + info[UNIT] * (noise + noise1)
        if not (eps * wanted <= gain < np.inf):  # too little, or underflow
            info[FAILURES] += 1.0
            info[STEP] *= 0.25
            if info[FAILURES] >= 3.0:
                info[PAIRS], info[STEP], info[FAILURES] = 0.0, 1.0, 0.0
            return False

    info[STEP], info[FAILURES], info[NOW] = 1.0, 0.0, new
    learning, oldest = info[METHOD] == LBFGS, (np.int64(info[HEAD]) + memory - 1) % memory
    step, change = (PAST + oldest, PAST + memory + oldest) if learning else (DIRECTION, SCRATCH)
    sound = learn(general, v, now, new, step, change, eps, q, info[TINY])
    if learning:
        pairs = info[PAIRS]
        if sound:
            info[HEAD] = oldest
            info[PAIRS] = pairs + 1.0 if pairs < memory else memory
        else:  # the oldest pair is spoilt
            info[PAIRS] = pairs if pairs < memory else memory - 1.0
    columns, mass = _distance(v, C + new, B)
    rows, _ = _distance(u, R + new, A)
    info[ERROR] = (rows + columns) / mass
    if general is not None:
        if p + q > 0.0:
            info[ERROR] = _largest_gap(v, RESIDUAL + new, ZERO)
        if info[METHOD] == OVERRELAXATION:
            _adapt(info)
    stop = info[ERROR] <= info[TOL]
    if stored is not None:
        stop |= _largest_gap(v, G + new, BETA) > info[FAR] * eps
    return stop


@njit(**INNER)
def _adapt(info):
    """Set omega from the ratio of errors over the last half of a period, until two estimates agree."""
    info[AGE] += 1.0
    if info[AGE] == PERIOD // 2:
        info[MARK] = info[ERROR]
    if info[ERROR] > GROWTH * info[MARK]:
        info[OMEGA], info[AGE] = 1.0, 0.0
    elif info[AGE] >= PERIOD:
        omega, ratio = info[OMEGA], max(exp_(log_(info[ERROR] / info[MARK]) * 2.0 / PERIOD), 1e-6)
        if ratio < 1.0 and ratio > omega - 1.0 + 1e-3:
            slow = (ratio + omega - 1.0) / omega
            info[OMEGA] = 2.0 / (1.0 + np.sqrt(max(1.0 - slow * slow / ratio, 1e-4)))
        info[AGE] = SETTLED if omega > 1.0 and abs(info[OMEGA] - omega) <= AGREE * (2.0 - omega) else 0.0


@njit(**JIT)
def _iterate(general, stored, log, lam, kernel, truncated, cost, x, y, todo, v, u, info, small, e, gt, partial):
    """A block of iterations without leaving compiled code."""
    chunks, omega = partial.shape[0], 1.0
    for done in range(1, todo + 1):
        propose(general, stored, v, info, small, gt)
        if general is not None:
            omega = info[OMEGA]
        now, eps = np.int64(info[NOW]), info[EPS]
        new, r = u[F + 1 - now], u[R + 1 - now]
        if kernel is not None:
            stored_chunks(
                0, chunks, chunks, small, e, kernel, gt, u[F + now], u[ALPHA], u[A], eps, lam, omega, new, r, partial
            )
        if truncated is not None:
            truncated_rows(truncated, gt, u[F + now], u[ALPHA], u[A], eps, lam, omega, new, r, partial[0])
        if log is not None:
            sweep_chunks(
                0, chunks, chunks, small, e, None, cost, x, y, gt, u[F + now], u[ALPHA], u[A], eps, lam, omega,
                np.inf, new, r, partial,
            )  # fmt: skip
        if accept(general, stored, v, u, info, gt, partial):
            return done
    return todo


def reach(stored, dtype):
    """The limit for a stored kernel, which may be truncated."""
    if isinstance(stored, tuple):
        return TRUNCATED_LIMIT
    return LIMIT if dtype == np.float64 else 0.1 * LIMIT


def iterate(
    stored, alpha, beta, cost, x, y, scale, a, b, eps, inv_rho, method, todo, tol,
    f, r, g, c, steps, changes, info,
):  # fmt: skip
    """`stored` may be a truncated kernel."""
    n, m, dtype, chunks = f.size, g.size, g.dtype, chunks_of(f.size, g.size)
    xs = ys = kernel = truncated = None
    width = m
    if isinstance(stored, tuple):
        truncated, chunks = stored, 1
    elif stored is not None:
        kernel = padded_rows(stored)
        width = kernel.shape[1]
    else:
        _, cost, xs, ys, alpha, beta = next(scaled(cost, x, y, scale, eps, g))
    memory, double, p, q = len(steps), dtype == np.float64, *inv_rho
    v, u = np.zeros((PAST + 2 * memory, m), dtype), np.concatenate((a, alpha, f, f, r, r)).reshape(6, n)
    v[B], v[LOG_B], v[BETA], v[TARGET], v[METRIC] = b, log_weights(b), beta, b, b
    v[G : G + 2], v[C : C + 2], v[PAST : PAST + memory], v[PAST + memory :] = g, c, steps, changes
    small, gt, partial = np.zeros((3, max(memory, 4))), np.zeros(width, dtype), aligned(chunks, width, dtype)
    limit = np.inf if stored is None else reach(stored, dtype)
    tiny, unit = 1e-300 if double else 1e-37, 4.0 * float(np.finfo(dtype).eps)
    info = np.array([*info, 0.0, 0.0, 0.0, eps, p, q, METHODS[method], tol, limit, tiny, unit], np.float64)
    if method != "overrelaxation":
        info[OMEGA] = 1.0
    # what is None is compiled away: penalties and over-relaxation, what belongs to one of the forms
    general = True if p or q or method == "overrelaxation" else None
    fixed, log = (None, True) if stored is None else (True, None)
    lam = 1.0 / (1.0 + eps * p) if log or general else None
    learn(general, v, 0, 0, DIRECTION, SCRATCH, eps, q, tiny)
    if n * m < THREADED_SIZE or truncated is not None:
        e = aligned(4, width if log else 1, dtype)
        done = _iterate(
            general, fixed, log, lam, kernel, truncated, cost, xs, ys, todo, v, u, info, small, e, gt, partial
        )
    else:
        done, stop = 0, False
        while done < todo and not stop:
            propose(general, fixed, v, info, small, gt)
            now, omega = int(info[NOW]), float(info[OMEGA])
            rows, out = (u[F + now], u[ALPHA], u[A], eps, lam, omega), (u[F + 1 - now], u[R + 1 - now], partial)
            if log:
                run_rows(sweep_chunks, n, m, None, cost, xs, ys, gt, *rows, np.inf, *out)
            else:
                run_rows(stored_chunks, n, m, kernel, gt, *rows, *out)
            stop = accept(general, fixed, v, u, info, gt, partial)
            done += 1
    now, order = int(info[NOW]), (np.arange(memory) + int(info[HEAD])) % memory
    steps, changes = v[PAST + order], v[PAST + memory + order]
    f, r, g, c = u[F + now].copy(), u[R + now].copy(), v[G + now].copy(), v[C + now].copy()  # the tables end here
    return f, r, g, c, steps, changes, info[:7].astype(dtype), done


def evaluate_stored(stored, alpha, beta, a, b, eps, inv_rho, f, g, omega):
    """Variant of `optlib.transport.acceleration.evaluate_stored`."""
    kernel, n, m = padded_rows(stored), f.size, g.size
    v = np.zeros(kernel.shape[1], g.dtype)
    v[:m] = b * np.exp((g - beta) / eps)
    new, r = np.empty_like(f), np.empty_like(f)
    partial = np.empty((chunks_of(n, m), kernel.shape[1]), g.dtype)
    f, alpha, a = np.array(f), np.array(alpha), np.array(a)
    lam = 1.0 / (1.0 + eps * inv_rho) if inv_rho or omega != 1.0 else None
    run_rows(stored_chunks, n, m, kernel, v, f, alpha, a, eps, lam, float(omega), new, r, partial)
    return new, v[:m] * np.sum(partial, axis=0)[:m], r
