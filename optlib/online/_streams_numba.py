"""Rounds of the fast learners in Numba: blocks of rounds, learners side by side, O(n) memory beyond the losses."""

import math

import numpy as np
from numba import njit

from optlib.backend import array_namespace
from optlib.backend._math_numba import _from_bits, _to_bits, exp_
from optlib.backend._philox_numba import philox4x32_, split_key
from optlib.geometry import Ball, Box, Simplex
from optlib.geometry._mirror_numba import softmax_row, tsallis_row
from optlib.geometry._projections_numba import _simplex_row
from optlib.online import ogd

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": False}
_SUMS = {**_OPTIONS, "fastmath": {"reassoc", "contract", "nsz"}}


# --- feedback within bounds ---


def tally(block, low, high):
    """Variant of `optlib.online.learner.tally`."""
    total = np.zeros(block.shape[1:], block.dtype)
    return _tally(np.ascontiguousarray(block).reshape(block.shape[0], -1), low, high, total.reshape(-1)), total


@njit(**_OPTIONS)
def within(row, low, high):
    """Variant of `optlib.online.learner.within`."""
    bad = 0
    for j in range(row.size):
        bad += 0 if row[j] >= low and row[j] <= high else 1
    return bad == 0


@njit(**_OPTIONS)
def _add(row, total):
    for j in range(row.size):
        total[j] += row[j]


@njit(**_OPTIONS)
def _tally(block, low, high, total):
    good = within(block.reshape(-1), low, high)  # at once: rows are short
    for t in range(block.shape[0]):
        if not good and not within(block[t], low, high):
            return t
        _add(block[t], total)
    return block.shape[0]


# --- shared passes over a row ---


@njit(**_SUMS)
def _two_dots(g, x):
    incurred = square = g.dtype.type(0.0)
    for j in range(g.size):
        incurred += x[j] * g[j]
        square += g[j] * g[j]
    return incurred, square


# --- Hedge ---


def hedge_rounds(block, x, losses, spent, rounds, rate, anytime):
    """Variant of `optlib.online.hedge.hedge_rounds`."""
    return _hedge(np.ascontiguousarray(block), x, losses, spent, rounds, rate, anytime)


@njit(**_OPTIONS, forceinline=True)
def _key(value, shift):
    """Integer that orders like the number: minima and maxima of integers vectorise. It is its own inverse on bits."""
    bits = _to_bits(value)
    return bits ^ ((bits >> shift) & ((1 << shift) - 1))


@njit(**_OPTIONS, forceinline=True)
def _value(key, shift, like):
    bits = key ^ ((key >> shift) & ((1 << shift) - 1))
    return _from_bits(np.int32(bits)) if like.itemsize == 4 else _from_bits(bits)


@njit(**_SUMS, forceinline=True)
def _hedge_row(row, x, losses):
    """Add the losses; return the loss incurred, the least total, and the largest minus the smallest loss."""
    shift = 8 * row.itemsize - 1
    incurred = row.dtype.type(0.0)
    high, low = -1 << shift, (1 << shift) - 1
    least = low
    for j in range(row.size):
        incurred += x[j] * row[j]
        total = losses[j] + row[j]
        losses[j] = total
        key = _key(row[j], shift)
        least, low, high = min(least, _key(total, shift)), min(low, key), max(high, key)
    return incurred, _value(least, shift, row), _value(high, shift, row) - _value(low, shift, row)


@njit(**_SUMS, forceinline=True)
def _hedge_weights(losses, least, factor, x):
    """``exp(-factor losses)`` relative to the largest, of sum 1."""
    one = x.dtype.type(1.0)
    total = x.dtype.type(0.0)
    for j in range(x.size):
        e = exp_(factor * (least - losses[j]))
        x[j] = e
        total += e
    scale = one / total
    for j in range(x.size):
        x[j] *= scale


@njit(**_OPTIONS)
def _hedge(block, x, losses, spent, rounds, rate, anytime):
    kind = x.dtype.type
    x, losses, spent = x.copy(), losses.copy(), spent.copy()
    incurred = np.empty(block.shape[:2], block.dtype)
    eta = rate / math.sqrt(rounds + 1) if anytime else rate
    for t in range(block.shape[0]):
        following = rate / math.sqrt(rounds + t + 2) if anytime else rate
        for b in range(block.shape[1]):
            incurred[t, b], least, spread = _hedge_row(block[t, b], x[b], losses[b])
            spent[b] += kind(eta / 8.0) * spread * spread
            _hedge_weights(losses[b], least, kind(following), x[b])
        eta = following
    return x, losses, spent, incurred


# --- online gradient descent ---

_NONE = {kind: np.empty(0, kind) for kind in "df"}
_RULES = {"constant": 0, "adaptive": 1, "harmonic": 2}


def ogd_rounds(block, x, squares, spent, rounds, domain, rate, rule):
    """Variant of `optlib.online.ogd.ogd_rounds` for boxes, simplices and balls around 0."""
    n = x.shape[-1]
    low = high = _NONE[x.dtype.char]
    radius = 0.0
    if type(domain) is Ball and domain.middle is None:
        shape, radius = 0, domain.radius
    elif type(domain) is Simplex:
        shape, radius = 1, domain.mass
    elif type(domain) is Box:
        shape = 2
        low, high = (np.full(n, bound, x.dtype) for bound in (domain.lower, domain.upper))
    else:
        return ogd.ogd_rounds.generic(block, x, squares, spent, rounds, domain, rate, rule, xp=array_namespace(x))
    return _ogd(np.ascontiguousarray(block), x, squares, spent, rounds, shape, radius, low, high, rate, _RULES[rule])


@njit(**_SUMS)
def _descend(x, g, eta):
    for j in range(x.size):
        x[j] -= eta * g[j]


@njit(**_OPTIONS)
def _clip_row(x, low, high):
    for j in range(x.size):
        x[j] = min(max(x[j], low[j]), high[j])


@njit(**_OPTIONS)
def _shorten_row(x, radius):
    size = np.sqrt(_two_dots(x, x)[1])
    if size > radius:
        factor = radius / size
        for j in range(x.size):
            x[j] *= factor


@njit(**_OPTIONS)
def _ogd(block, x, squares, spent, rounds, shape, radius, low, high, rate, rule):
    kind = x.dtype.type
    x, squares, spent = x.copy(), squares.copy(), spent.copy()
    incurred = np.empty(block.shape[:2], block.dtype)
    point = np.empty(x.shape[1], x.dtype)
    for t in range(block.shape[0]):
        for b in range(block.shape[1]):
            g = block[t, b]
            incurred[t, b], square = _two_dots(g, x[b])
            squares[b] += square
            if rule == 1:
                eta = kind(rate / np.sqrt(squares[b])) if squares[b] > 0.0 else kind(0.0)
            else:
                eta = kind(rate / (rounds + t + 1) if rule == 2 else rate)
            spent[b] += kind(0.5) * eta * square
            _descend(x[b], g, eta)
            if shape == 0:
                _shorten_row(x[b], kind(radius))
            elif shape == 1:
                point[:] = x[b]
                _simplex_row(point, radius, x[b])
            else:
                _clip_row(x[b], low, high)
    return x, squares, spent, incurred


# --- AdaGrad ---


def adagrad_rounds(block, x, squares, lower, upper):
    """Variant of `optlib.online.adagrad.adagrad_rounds`."""
    return _adagrad(np.ascontiguousarray(block), x, squares, lower, upper)


@njit(**_SUMS)
def _adagrad_row(g, x, squares, rate, lower, upper):
    zero, one = g.dtype.type(0.0), g.dtype.type(1.0)
    incurred = zero
    for j in range(g.size):
        incurred += x[j] * g[j]
        s = squares[j] + g[j] * g[j]
        squares[j] = s
        z = x[j] - rate[j] * g[j] / np.sqrt(s if s > zero else one)
        z = z if z > lower[j] else lower[j]
        x[j] = z if z < upper[j] else upper[j]
    return incurred


@njit(**_OPTIONS)
def _adagrad(block, x, squares, lower, upper):
    x, squares = x.copy(), squares.copy()
    incurred = np.empty(block.shape[:2], block.dtype)
    rate = (upper - lower) / x.dtype.type(math.sqrt(2.0))
    for t in range(block.shape[0]):
        for b in range(block.shape[1]):
            incurred[t, b] = _adagrad_row(block[t, b], x[b], squares[b], rate, lower, upper)
    return x, squares, incurred


# --- bandits ---

_METHODS = {"exp3": 0, "tsallis": 1, "tsallis-rv": 2}


def draw(x, key, position):
    """Variant of `optlib.online.bandits.draw`."""
    arm = np.empty(x.shape[0], np.int64)
    _draw(np.ascontiguousarray(x), *split_key(key), np.uint64(position), arm)
    return arm


def bandit_rounds(block, x, arm, losses, rounds, key, method):
    """Variant of `optlib.online.bandits.bandit_rounds`."""
    return _bandit(np.ascontiguousarray(block), x, arm, losses, rounds, *split_key(key), _METHODS[method])


@njit(**_OPTIONS)
def _word(k0, k1, position):
    """Word at a position of a stream, as `philox_words`."""
    words = philox4x32_(
        (position >> np.uint64(2)) & np.uint64(0xFFFFFFFF),
        position >> np.uint64(34),
        np.uint64(0),
        np.uint64(0),
        k0,
        k1,
    )
    return words[np.int64(position & np.uint64(3))]


@njit(**_OPTIONS)
def _draw_row(x, word, total):
    """First arm whose cumulative probability is above the uniform number of a word."""
    kind = x.dtype.type
    level = (kind(word) * kind(2.0**-32) if x.itemsize == 8 else kind(word >> np.uint64(8)) * kind(2.0**-24)) * total
    passed = kind(0.0)
    for j in range(x.size - 1):
        passed += x[j]
        if passed > level:
            return j
    return x.size - 1


@njit(**_OPTIONS)
def _draw(x, k0, k1, position, arm):
    for b in range(x.shape[0]):
        arm[b] = _draw_row(x[b], _word(k0, k1, position + np.uint64(b)), np.sum(x[b]))


@njit(**_SUMS)
def _scaled(losses, factor, x):
    for j in range(x.size):
        x[j] = factor * losses[j]


@njit(**_OPTIONS)
def _bandit(block, x, arm, losses, rounds, k0, k1, method):
    kind = x.dtype.type
    x, arm, losses = x.copy(), arm.copy(), losses.copy()
    incurred = np.empty(block.shape[:2], block.dtype)
    learners, n = x.shape
    one, half, zero = kind(1.0), kind(0.5), kind(0.0)
    for t in range(block.shape[0]):
        k = rounds + t + 1
        if method == 0:
            factor = -math.sqrt(math.log(n) / (n * (k + 1)))
        else:
            factor = -(2.0 if method == 2 else 1.0) / math.sqrt(k + 1)
        for b in range(learners):
            i = arm[b]
            value = block[t, b, i if block.shape[2] > 1 else 0]
            incurred[t, b] = value
            if method == 2:
                for j in range(n):
                    losses[b, j] += half if x[b, j] >= kind(16.0 / k) else zero
                value -= half if x[b, i] >= kind(16.0 / k) else zero
            losses[b, i] += value / x[b, i]
            _scaled(losses[b], kind(factor), x[b])
            if method == 0:
                softmax_row(x[b], one)
            else:
                tsallis_row(x[b], one)
            word = _word(k0, k1, np.uint64(k) * np.uint64(learners) + np.uint64(b))
            arm[b] = _draw_row(x[b], word, np.sum(x[b]))
    return x, arm, losses, incurred
