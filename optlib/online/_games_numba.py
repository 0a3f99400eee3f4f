"""Iterations on dense matrix games with entropy on both sides, fused in Numba."""

import math

import numpy as np
from numba import njit

from optlib.geometry._mirror_numba import log_softmax_row, softmax_row

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


def mirror_prox_rounds(A, b, c, mass_x, mass_y, theta, z, average, nit, eta, count):
    """Variant of `optlib.online.extragradient.mirror_prox_rounds`."""
    kind = theta.dtype.type
    theta, z, average = np.array(theta), np.array(z), np.array(average)
    A = np.ascontiguousarray(A)
    _mirror_prox(A, b, c, kind(mass_x), kind(mass_y), theta, z, average, nit, kind(eta), count)
    return theta, z, average


def optimistic_rounds(A, b, c, mass_x, mass_y, theta, w, g, average, nit, eta, count):
    """Variant of `optlib.online.optimistic_gradient.optimistic_rounds`."""
    kind = theta.dtype.type
    theta, w, g, average = np.array(theta), np.array(w), np.array(g), np.array(average)
    A = np.ascontiguousarray(A)
    _optimistic(A, b, c, kind(mass_x), kind(mass_y), theta, w, g, average, nit, kind(eta), count)
    return theta, w, g, average


@njit(**_OPTIONS)
def _operator(A, b, c, z, g):
    n = A.shape[0]
    gx, gy = g[:n], g[n:]
    np.dot(A, z[n:], gx)
    np.dot(A.T, z[:n], gy)
    for i in range(gx.size):
        gx[i] += b[i]
    for j in range(gy.size):
        gy[j] = c[j] - gy[j]


@njit(**_OPTIONS)
def _point(theta, g, eta, n, mass_x, mass_y, out):
    for i in range(theta.size):
        out[i] = theta[i] - eta * g[i]
    softmax_row(out[:n], mass_x)
    softmax_row(out[n:], mass_y)


@njit(**_OPTIONS)
def _move(theta, g, eta, n, mass_x, mass_y):
    for i in range(theta.size):
        theta[i] -= eta * g[i]
    log_softmax_row(theta[:n])
    log_softmax_row(theta[n:])
    kind = theta.dtype.type
    up, down = kind(1.0 + math.log(mass_x)), kind(1.0 + math.log(mass_y))
    for i in range(theta.size):
        theta[i] += up if i < n else down


@njit(**_OPTIONS)
def _mean(average, w, count):
    for i in range(w.size):
        average[i] += (w[i] - average[i]) / count


@njit(**_OPTIONS)
def _mirror_prox(A, b, c, mass_x, mass_y, theta, z, average, nit, eta, count):
    n = A.shape[0]
    w, g = np.empty_like(z), np.empty_like(z)
    for k in range(count):
        _operator(A, b, c, z, g)
        _point(theta, g, eta, n, mass_x, mass_y, w)
        _operator(A, b, c, w, g)
        _move(theta, g, eta, n, mass_x, mass_y)
        _point(theta, g, theta.dtype.type(0.0), n, mass_x, mass_y, z)
        _mean(average, w, theta.dtype.type(nit + k + 1))


@njit(**_OPTIONS)
def _optimistic(A, b, c, mass_x, mass_y, theta, w, g, average, nit, eta, count):
    n = A.shape[0]
    for k in range(count):
        _point(theta, g, eta, n, mass_x, mass_y, w)
        _operator(A, b, c, w, g)
        _move(theta, g, eta, n, mass_x, mass_y)
        _mean(average, w, theta.dtype.type(nit + k + 1))
