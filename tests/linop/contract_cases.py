"""Problems for the contract test: they need more iterations than the test runs."""

import numpy as np


def _matrix(m, n, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((m, m)))
    r, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return (q[:, : min(m, n)] * np.geomspace(1, 100, min(m, n))) @ r[:, : min(m, n)].T


def _definite(backend):
    a = _matrix(20, 20)
    return (backend.asarray(a.T @ a), backend.asarray(np.sin(np.arange(20.0)))), {}


def _indefinite(backend):
    a = _matrix(20, 20)
    return (backend.asarray(a + a.T), backend.asarray(np.sin(np.arange(60.0)).reshape(20, 3))), {}


def _turning(backend):
    a = _matrix(20, 20)
    return (backend.asarray(a + 10.0 * np.eye(20)), backend.asarray(np.sin(np.arange(60.0)).reshape(20, 3))), {}


def _rectangular(backend):
    return (backend.asarray(_matrix(24, 16)), backend.asarray(np.sin(np.arange(24.0)))), {"damp": 0.1}


CASES = {
    "linop.cg": _definite,
    "linop.gmres": _turning,
    "linop.lsqr": _rectangular,
    "linop.minres": _indefinite,
    "linop.sor": _definite,
}
