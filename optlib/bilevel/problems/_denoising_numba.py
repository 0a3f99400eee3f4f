"""Numba kernels of the denoisers: each a pass over the rows of the images."""

import numpy as np
from numba import njit

_OPTIONS = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
}


def tv_first(y, nu):
    """Variant of `optlib.bilevel.problems.total_variation.tv_first`."""
    y = np.ascontiguousarray(y)
    slope = np.empty_like(y)
    total, bend = _tv_first(y, y.dtype.type(nu), slope)
    return y.dtype.type(total), y.dtype.type(bend), slope


@njit(**_OPTIONS)
def _tv_first(y, nu, slope):
    images, h, w = y.shape
    square = nu * nu
    flux = np.zeros(w + 1, y.dtype)  # u / psi of the differences along a row, none at its ends
    total, bend = 0.0, 0.0
    for i in range(images):
        slope[i, 0] = 0
        for r in range(h):
            row, out = y[i, r], slope[i, r]
            psi_sum, bend_sum = y.dtype.type(0), y.dtype.type(0)
            for c in range(w - 1):
                u = row[c + 1] - row[c]
                psi = np.sqrt(u * u + square)
                inverse = y.dtype.type(1) / psi
                psi_sum += psi
                bend_sum += inverse
                flux[c + 1] = u * inverse
            for c in range(w):
                out[c] += flux[c] - flux[c + 1]
            if r + 1 < h:
                below, out_below = y[i, r + 1], slope[i, r + 1]
                for c in range(w):
                    u = below[c] - row[c]
                    psi = np.sqrt(u * u + square)
                    inverse = y.dtype.type(1) / psi
                    psi_sum += psi
                    bend_sum += inverse
                    out[c] -= u * inverse
                    out_below[c] = u * inverse
            total += psi_sum
            bend += bend_sum * square
    return total, bend


def tv_weights(y, nu, alpha):
    """Variant of `optlib.bilevel.problems.total_variation.tv_weights`."""
    y = np.ascontiguousarray(y)
    images, h, w = y.shape
    across, down = np.empty((images, h, w - 1), y.dtype), np.empty((images, h - 1, w), y.dtype)
    _tv_weights(y, y.dtype.type(nu), y.dtype.type(alpha), across, down)
    return across, down


@njit(**_OPTIONS)
def _tv_weights(y, nu, alpha, across, down):
    images, h, w = y.shape
    square = nu * nu
    for i in range(images):
        for r in range(h):
            row = y[i, r]
            for c in range(w - 1):
                u = row[c + 1] - row[c]
                s = u * u + square
                across[i, r, c] = alpha * square / (s * np.sqrt(s))
            if r + 1 < h:
                below = y[i, r + 1]
                for c in range(w):
                    u = below[c] - row[c]
                    s = u * u + square
                    down[i, r, c] = alpha * square / (s * np.sqrt(s))


def tv_product(v, across, down, shift):
    """Variant of `optlib.bilevel.problems.total_variation.tv_product`."""
    v = np.ascontiguousarray(v)
    out = np.empty_like(v)
    _tv_product(v, np.ascontiguousarray(across), np.ascontiguousarray(down), v.dtype.type(shift), out)
    return out


@njit(**_OPTIONS)
def _tv_product(v, across, down, shift, out):
    images, h, w = v.shape
    flux = np.zeros(w + 1, v.dtype)
    for i in range(images):
        out[i, 0] = 0
        for r in range(h):
            row, here = v[i, r], out[i, r]
            for c in range(w - 1):
                flux[c + 1] = across[i, r, c] * (row[c + 1] - row[c])
            for c in range(w):
                here[c] += shift * row[c] + (flux[c] - flux[c + 1])
            if r + 1 < h:
                below, there = v[i, r + 1], out[i, r + 1]
                for c in range(w):
                    u = down[i, r, c] * (below[c] - row[c])
                    here[c] -= u
                    there[c] = u


def correlate(y, filters):
    """Variant of `optlib.bilevel.problems.fields_of_experts.correlate`."""
    images, h, w = y.shape
    count, a, b = filters.shape
    out = np.empty((images, count, h - a + 1, w - b + 1), y.dtype)
    _correlate(np.ascontiguousarray(y), np.ascontiguousarray(filters), out)
    return out


@njit(**_OPTIONS)
def _correlate(y, filters, out):
    count, a, b = filters.shape
    for i in range(out.shape[0]):
        for k in range(count):
            for r in range(out.shape[2]):
                here = out[i, k, r]
                here[:] = 0
                for s in range(a):
                    row = y[i, r + s]
                    for t in range(b):
                        factor = filters[k, s, t]
                        for c in range(here.size):
                            here[c] += factor * row[c + t]


def correlate_adjoint(u, filters):
    """Variant of `optlib.bilevel.problems.fields_of_experts.correlate_adjoint`."""
    images, _, h, w = u.shape
    out = np.zeros((images, h + filters.shape[1] - 1, w + filters.shape[2] - 1), u.dtype)
    _correlate_adjoint(np.ascontiguousarray(u), np.ascontiguousarray(filters), out)
    return out


@njit(**_OPTIONS)
def _correlate_adjoint(u, filters, out):
    count, a, b = filters.shape
    for i in range(u.shape[0]):
        for k in range(count):
            for r in range(u.shape[2]):
                here = u[i, k, r]
                for s in range(a):
                    row = out[i, r + s]
                    for t in range(b):
                        factor = filters[k, s, t]
                        for c in range(here.size):
                            row[c + t] += factor * here[c]


def correlate_taps(y, u):
    """Variant of `optlib.bilevel.problems.fields_of_experts.correlate_taps`."""
    _, count, h, w = u.shape
    out = np.zeros((count, y.shape[1] - h + 1, y.shape[2] - w + 1), u.dtype)
    _correlate_taps(np.ascontiguousarray(y), np.ascontiguousarray(u), out)
    return out


@njit(**_OPTIONS)
def _correlate_taps(y, u, out):
    count, a, b = out.shape
    for i in range(u.shape[0]):
        for k in range(count):
            for r in range(u.shape[2]):
                here = u[i, k, r]
                for s in range(a):
                    row = y[i, r + s]
                    for t in range(b):
                        total = out.dtype.type(0)
                        for c in range(here.size):
                            total += row[c + t] * here[c]
                        out[k, s, t] += total


def expert_first(u, weights, nu):
    """Variant of `optlib.bilevel.problems.fields_of_experts.expert_first`."""
    total, bend = np.zeros((2, u.shape[1]), u.dtype)
    out = np.empty(u.shape, u.dtype)
    _expert_first(_rows(u), weights.astype(u.dtype), nu.astype(u.dtype), total, bend, _rows(out))
    return total, bend, out


def _rows(u):
    return np.ascontiguousarray(u).reshape(*u.shape[:2], -1)


@njit(**_OPTIONS)
def _expert_first(u, weights, nu, total, bend, out):
    one = u.dtype.type(1)
    for i in range(u.shape[0]):
        for k in range(u.shape[1]):
            square, weight = nu[k] * nu[k], weights[k]
            here, there = u[i, k], out[i, k]
            psi_sum, bend_sum = u.dtype.type(0), u.dtype.type(0)
            for c in range(here.size):
                psi = np.sqrt(here[c] * here[c] + square)
                inverse = one / psi
                psi_sum += psi
                bend_sum += inverse
                there[c] = weight * here[c] * inverse
            total[k] += psi_sum
            bend[k] += square * bend_sum


def expert_second(u, weights, nu):
    """Variant of `optlib.bilevel.problems.fields_of_experts.expert_second`."""
    out = np.empty(u.shape, u.dtype)
    _expert_second(_rows(u), weights.astype(u.dtype), nu.astype(u.dtype), _rows(out))
    return out


@njit(**_OPTIONS)
def _expert_second(u, weights, nu, out):
    for i in range(u.shape[0]):
        for k in range(u.shape[1]):
            square, weight = nu[k] * nu[k], weights[k]
            here, there = u[i, k], out[i, k]
            for c in range(here.size):
                s = here[c] * here[c] + square
                there[c] = weight * square / (s * np.sqrt(s))
