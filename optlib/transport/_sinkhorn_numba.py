"""Numba variant of the accelerated iterations: a block of passes and steps in one call."""

import numpy as np
from numba import njit

from optlib.backend._math_numba import _from_bits, _to_bits, exp_, log_
from optlib.backend._rows_numba import add
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

# Few arguments compile fast: all columns, rows and numbers come as three arrays. G + now is the point, G + 1 - now the
# trial, and so on.
B, LOG_B, BETA, G, C, RESIDUAL, TARGET, METRIC, DIRECTION, SCRATCH, ZERO = 0, 1, 2, 3, 5, 7, 9, 10, 11, 12, 13
A, ALPHA, F, R = 0, 1, 2, 4
ERROR, PAIRS, STEP, FAILURES, OMEGA, AGE, MARK = range(7)  # the fields of ``Point.info``
HEAD, NOW, WANTED, EPS, P, Q, METHOD, STORED, TOL, FAR, TINY, UNIT = range(7, 19)


@njit(**INNER)
def _copy(u, v):
    for j in range(u.size):
        u[j] = v[j]


@njit(**INNER)
def _dot(u, v, w):
    s = 0.0
    for j in range(u.size):
        s += u[j] * v[j] * w[j]
    return s


@njit(**INLINE)
def _lbfgs(residual, steps, changes, pairs, head, metric, out, alpha, rho):
    """Two-loop recursion; pair k of the memory is at row (head + k) of a ring, the newest at head."""
    memory = steps.shape[0]
    _copy(out, residual)
    for k in range(pairs):
        s, y = steps[(head + k) % memory], changes[(head + k) % memory]
        rho[k] = _dot(metric, s, y)
        alpha[k] = _dot(metric, s, out) / rho[k]
        add(out, y, -alpha[k])
    gamma = rho[0] / _dot(metric, changes[head], changes[head])
    for j in range(out.size):
        out[j] *= gamma
    for k in range(pairs - 1, -1, -1):
        s, y = steps[(head + k) % memory], changes[(head + k) % memory]
        add(out, s, alpha[k] - _dot(metric, y, out) / rho[k])


@njit(**INNER)
def _gain(w, u, v, q):
    """Sum of ``w (1 - exp(-q d)) / q`` for ``d = u - v`` (of ``w d`` if q is 0), and of ``w |v|``."""
    gain = noise = 0.0
    for j in range(u.size):
        d = u[j] - v[j]
        z = q * d
        near = d * (1.0 - z * (0.5 - z * (1.0 / 6.0)))
        far = (1.0 - exp_(-z)) / (q if q > 0.0 else 1.0)
        gain += w[j] * (near if abs(z) < 1e-4 else far)
        noise += w[j] * abs(v[j])
    return gain, noise


@njit(**INNER)
def _translate(f, r, g, c, b, p, q, lam):
    """The translation of the potentials that is best for the dual objective, when a marginal is penalised."""
    mass = target = 0.0
    for i in range(f.size):
        mass += r[i]
    for j in range(g.size):
        target += b[j] * exp_(-q * g[j])
    if not (mass > 0.0 and target > 0.0):  # underflow: the iterations bring the potentials back
        return
    h = log_(mass / target) / (q + p * lam)
    factor = exp_(-p * lam * h)
    for i in range(f.size):
        f[i] += lam * h
        r[i] *= factor
    for j in range(g.size):
        g[j] -= h
        c[j] *= factor


@njit(**INNER)
def _largest_gap(u, v):
    """Largest entry of ``|u - v|``, over the bits as integers: maxima of floats do not vectorise."""
    top = _to_bits(0.0)
    for j in range(u.size):
        top = max(top, _to_bits(abs(np.float64(u[j]) - np.float64(v[j]))))
    return _from_bits(top)


@njit(**INNER)
def _distance(u, v):
    """The l1 distance of two vectors, and the sum of the second."""
    total = mass = 0.0
    for j in range(v.size):
        total += abs(u[j] - v[j])
        mass += v[j]
    return total, mass


@njit(**INNER)
def _move(new, old, step, direction, centre, radius):
    """The trial point, within a radius of ``centre``."""
    for j in range(new.size):
        new[j] = min(max(old[j] + step * direction[j], centre[j] - radius), centre[j] + radius)


@njit(**JIT)
def learn(g1, g0, c1, b, log_b, inv, q, lam, tiny, old, new, target, metric, step, change):
    """Residual, target and metric of the new point, and the pair that it makes with the old; whether it is sound."""
    inner = size = size1 = 0.0
    for j in range(b.size):
        new[j] = lam * ((log_b[j] - q * g1[j]) - log_(max(c1[j], tiny)))
        s, y = (g1[j] - g0[j]) * inv, old[j] - new[j]
        step[j], change[j] = s, y
        inner += metric[j] * s * y
        size += metric[j] * s * s
        size1 += metric[j] * y * y
    for j in range(b.size):
        target[j] = b[j] * exp_(-q * g1[j])
        metric[j] = target[j] / lam
    return inner > 1e-10 * np.sqrt(size * size1)


@njit(**INLINE)
def propose(v, memory, info, small, gt):
    """The trial point into the other slot of ``g``, and its exponents or scalings into ``gt``."""
    now, pairs, eps = int(info[NOW]), int(info[PAIRS]), info[EPS]
    direction, beta, log_b, old, new = v[DIRECTION], v[BETA], v[LOG_B], v[G + now], v[G + 1 - now]
    slope = 0.0
    if info[METHOD] == LBFGS and pairs > 0:
        _lbfgs(
            v[RESIDUAL + now], memory[0], memory[1], pairs, int(info[HEAD]), v[METRIC], direction, small[0], small[1]
        )
        for j in range(old.size):
            slope += direction[j] * (v[TARGET, j] - v[C + now, j])
    plain = not slope > 0.0
    if plain:
        info[PAIRS], info[STEP] = 0.0, 1.0
        _copy(direction, v[RESIDUAL + now])
    step, radius = eps * info[STEP] * (info[OMEGA] if info[METHOD] == OVERRELAXATION else 1.0), 1.5 * info[FAR] * eps
    _move(new, old, step, direction, beta, np.inf)
    if info[STORED] > 0.0 and _largest_gap(new, beta) > radius:
        if not plain:
            info[STEP] *= 0.5 * info[FAR] * eps / _largest_gap(new, old)
        _move(new, old, eps * info[STEP], direction, beta, radius)
    for j in range(new.size):
        gt[j] = (new[j] - beta[j]) / eps + log_b[j]
    if info[STORED] > 0.0:
        for j in range(new.size):
            gt[j] = exp_(gt[j])
    info[WANTED] = -np.inf if plain else ARMIJO * info[STEP] * slope


@njit(**INLINE)
def accept(penalised, relaxed, v, u, memory, info, gt, partial):
    """Take the trial point or not, learn from it, and say whether to stop."""
    now, eps, p, q, m = int(info[NOW]), info[EPS], info[P], info[Q], v.shape[1]
    new = 1 - now
    g1, c1, f1, r1 = v[G + new], v[C + new], u[F + new], u[R + new]
    _copy(c1, partial[0, :m])
    for k in range(1, partial.shape[0]):
        add(c1, partial[k, :m], 1.0)
    if info[STORED] > 0.0:
        for j in range(m):
            c1[j] *= gt[j]
    if penalised is not None:
        _translate(f1, r1, g1, c1, v[B], p, q, 1.0 / (1.0 + eps * p))

    if info[WANTED] > -np.inf:  # not a plain step
        rows, noise = _gain(u[R + now], f1, u[F + now], p)
        columns, noise1 = _gain(v[TARGET], g1, v[G + now], q)
        if not (1.0 + eps * p) * rows + columns + info[UNIT] * (noise + noise1) >= eps * info[WANTED]:
            info[FAILURES] += 1.0
            info[STEP] *= 0.25
            if info[FAILURES] >= 3.0:
                info[PAIRS], info[STEP], info[FAILURES] = 0.0, 1.0, 0.0
            return False

    info[STEP], info[FAILURES], info[NOW] = 1.0, 0.0, new
    learning, oldest = info[METHOD] == LBFGS, (int(info[HEAD]) - 1) % memory.shape[1]
    step, change = (memory[0, oldest], memory[1, oldest]) if learning else (v[DIRECTION], v[SCRATCH])
    sound = learn(
        g1, v[G + now], c1, v[B], v[LOG_B], 1.0 / eps, q, 1.0 / (1.0 + eps * q), info[TINY], v[RESIDUAL + now],
        v[RESIDUAL + new], v[TARGET], v[METRIC], step, change,
    )  # fmt: skip
    if learning and sound:
        info[HEAD], info[PAIRS] = oldest, min(info[PAIRS] + 1.0, memory.shape[1])
    elif learning:  # the oldest pair is spoilt
        info[PAIRS] = min(info[PAIRS], memory.shape[1] - 1.0)
    if p + q > 0.0:
        info[ERROR] = _largest_gap(v[RESIDUAL + new], v[ZERO])
    else:
        columns, mass = _distance(c1, v[B])
        rows, _ = _distance(r1, u[A])
        info[ERROR] = (rows + columns) / mass
    if relaxed is not None:
        _adapt(info)
    return info[ERROR] <= info[TOL] or (info[STORED] > 0.0 and _largest_gap(g1, v[BETA]) > info[FAR] * eps)


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
def _iterate(
    penalised, relaxed, kernel, truncated, cost, x, y, todo, v, u, memory, info, small, numbers, e, gt, partial
):
    """A block of iterations without leaving compiled code."""
    lam, chunks = 1.0 / (1.0 + info[EPS] * info[P]), partial.shape[0]
    for done in range(1, todo + 1):
        propose(v, memory, info, small, gt)
        omega = info[OMEGA] if info[METHOD] == OVERRELAXATION else 1.0
        now = int(info[NOW])
        f, r, new = u[F + now], u[R + 1 - now], u[F + 1 - now]
        if kernel is not None:
            stored_chunks(
                0, chunks, chunks, numbers, e, kernel, gt, f, u[ALPHA], u[A], info[EPS], lam, omega, new, r, partial
            )
        if truncated is not None:
            truncated_rows(truncated, gt, f, u[ALPHA], u[A], info[EPS], lam, omega, new, r, partial[0])
        if cost is not None:
            sweep_chunks(
                0, chunks, chunks, numbers, e, None, cost, x, y, gt, f, u[ALPHA], u[A], info[EPS], lam, omega, np.inf,
                new, r, partial,
            )  # fmt: skip
        if x is not None:
            sweep_chunks(
                0, chunks, chunks, numbers, e, None, cost, x, y, gt, f, u[ALPHA], u[A], info[EPS], lam, omega, np.inf,
                new, r, partial,
            )  # fmt: skip
        if accept(penalised, relaxed, v, u, memory, info, gt, partial):
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
    double = dtype == np.float64
    limit = np.inf if stored is None else reach(stored, dtype)
    none = np.zeros(m, dtype)
    v = np.concatenate((b, log_weights(b), beta, g, g, c, c, *7 * (none,))).reshape(14, m)
    u = np.concatenate((a, alpha, f, f, r, r)).reshape(6, n)
    memory, small = np.stack([steps, changes]), np.zeros((2, len(steps)))
    gt, partial = np.zeros(width, dtype), aligned(chunks, width, dtype)
    more = [0.0, 0.0, 0.0, eps, *inv_rho, METHODS[method], stored is not None, tol, limit]
    more += [1e-300 if double else 1e-37, 4.0 * float(np.finfo(dtype).eps)]
    info = np.concatenate([info.astype(np.float64), more])
    lam = 1.0 / (1.0 + eps * inv_rho[1])
    learn(
        v[G], v[G], v[C], v[B], v[LOG_B], 1.0, inv_rho[1], lam, info[TINY], v[ZERO], v[RESIDUAL], v[TARGET], v[METRIC],
        v[DIRECTION], v[SCRATCH],
    )  # fmt: skip
    present = (True if any(inv_rho) else None, True if method == "overrelaxation" else None)  # None is compiled away
    if n * m < THREADED_SIZE or truncated is not None:
        e = aligned(4, width if kernel is None and truncated is None else 0, dtype)
        numbers = np.empty((3, 4))
        done = _iterate(
            *present, kernel, truncated, cost, xs, ys, todo, v, u, memory, info, small, numbers, e, gt, partial
        )
    else:
        done, stop, lam = 0, False, 1.0 / (1.0 + eps * inv_rho[0])
        while done < todo and not stop:
            propose(v, memory, info, small, gt)
            now, omega = int(info[NOW]), float(info[OMEGA]) if method == "overrelaxation" else 1.0
            rows, out = (u[F + now], u[ALPHA], u[A], eps, lam, omega), (u[F + 1 - now], u[R + 1 - now], partial)
            if kernel is None:
                run_rows(sweep_chunks, n, m, None, cost, xs, ys, gt, *rows, np.inf, *out)
            else:
                run_rows(stored_chunks, n, m, kernel, gt, *rows, *out)
            stop = accept(*present, v, u, memory, info, gt, partial)
            done += 1
    now, order = int(info[NOW]), (np.arange(len(steps)) + int(info[HEAD])) % len(steps)
    steps, changes = memory[:, order]
    return u[F + now], u[R + now], v[G + now], v[C + now], steps, changes, info[:7].astype(dtype), done


def evaluate_stored(stored, alpha, beta, a, b, eps, inv_rho, f, g, omega):
    """Variant of `optlib.transport.acceleration.evaluate_stored`."""
    kernel, n, m = padded_rows(stored), f.size, g.size
    v = np.zeros(kernel.shape[1], g.dtype)
    v[:m] = b * np.exp((g - beta) / eps)
    new, r = np.empty_like(f), np.empty_like(f)
    partial = np.empty((chunks_of(n, m), kernel.shape[1]), g.dtype)
    f, alpha, a, lam = np.array(f), np.array(alpha), np.array(a), 1.0 / (1.0 + eps * inv_rho)
    run_rows(stored_chunks, n, m, kernel, v, f, alpha, a, eps, lam, float(omega), new, r, partial)
    return new, v[:m] * np.sum(partial, axis=0)[:m], r
