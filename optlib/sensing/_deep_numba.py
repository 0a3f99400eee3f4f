"""Numba variant of gradient steps on linear regression with powers of residuals."""

import numpy as np
from numba import njit

from optlib.backend._rows_numba import JIT, add, dot
from optlib.sensing._dense_numba import read_only


@njit(**JIT)
def _steps(X, y, w, scales, power, depth, eta, count):
    n, d = X.shape
    g, v = np.empty(d, w.dtype), np.empty(d, w.dtype)
    one, zero = w.dtype.type(1), w.dtype.type(0)
    tiny = np.finfo(w.dtype).tiny
    unit = w.dtype.type(1.0 / n)
    others = np.empty_like(scales)
    for _ in range(count):
        product = one
        for j in range(scales.size):
            product *= scales[j]
        for j in range(d):
            v[j] = product * w[j]
            g[j] = zero
        for i in range(n):
            r = dot(X[i], v) - y[i]
            if power == 2.0:
                weight = r
            elif power == 4.0:
                weight = r * r * r
            else:
                weight = w.dtype.type(abs(r) ** (power - 1.0) * np.sign(r))
            add(g, X[i], unit * weight)
        slope = dot(g, w)
        if scales.size:
            for j in range(scales.size):
                others[j] = one
                for l in range(scales.size):
                    if l != j:
                        others[j] *= scales[l]
            add(w, g, -eta * product)
            for j in range(scales.size):
                scales[j] -= eta * slope * others[j]
        else:
            square = dot(w, w)
            preconditioner = w.dtype.type(square ** (1.0 - 1.0 / depth))
            pull = w.dtype.type(depth - 1) * slope / max(square, tiny) if depth > 1 else zero
            for j in range(d):
                w[j] -= eta * preconditioner * (g[j] + pull * w[j])


def regression_steps(X, y, w, scales, power, depth, eta, count):
    """Numba variant of `optlib.sensing.overparameterized_regression.regression_steps`."""
    w, scales = np.array(w), np.array(scales)
    kind = w.dtype.type
    _steps(read_only(X), read_only(y), w, scales, float(power), int(depth), kind(eta), int(count))
    return w, scales
