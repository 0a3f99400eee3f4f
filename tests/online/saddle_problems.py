"""Saddle-point problems with known answers."""

from functools import partial

import numpy as np
from scipy.optimize import linprog

from optlib.backend import array_namespace
from optlib.geometry import Ball, Simplex
from optlib.online import AffineOperator, BilinearGame, FiniteSum, SmoothSaddle, SquaredDistance, VariationalInequality


def game_value(A):
    """Value of a matrix game by linear programming."""
    n, m = A.shape
    result = linprog(
        np.r_[np.zeros(n), 1.0], A_ub=np.c_[A.T, -np.ones(m)], b_ub=np.zeros(m), A_eq=np.r_[np.ones(n), 0.0][None, :],
        b_eq=[1.0], bounds=[(0, None)] * n + [(None, None)], method="highs",
    )  # fmt: skip
    return result.fun


def rotation(rho, L=1.0, n=2, seed=None):
    """A linear operator with |F z| = L |z| that is rho-comonotone, exactly; zero at 0."""
    cos = rho * L
    block = L * np.array([[cos, np.sqrt(1 - cos**2)], [-np.sqrt(1 - cos**2), cos]])
    M = np.kron(np.eye(n // 2), block)
    if seed is not None:
        q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
        M = q.T @ M @ q
    return M


def least_squares(rows, n, seed=0, condition=1.0):
    """A finite sum of gradients of squares with its solution."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, n)) * np.geomspace(1.0, condition, n)
    b = rng.standard_normal(rows)
    L = float(np.max(np.sum(a**2, axis=1)))
    return a, b, L, np.linalg.lstsq(a, b, rcond=None)[0]


def finite_sum(backend, rows=30, n=4, seed=0):
    a, b, L, _ = least_squares(rows, n, seed)
    a, b = backend.asarray(a), backend.asarray(b)
    return FiniteSum(partial(_squares, a, b), a.shape[0], n, lipschitz=L, like=a)


def _squares(a, b, z, index):
    """Gradients of ``(a_i'z - b_i)^2 / 2``."""
    xp = array_namespace(a)
    rows = xp.take(a, index, axis=0)
    return (rows @ z - xp.take(b, index))[:, None] * rows


def game(backend, n=5, m=4, seed=0, **options):
    return BilinearGame(backend.asarray(np.random.default_rng(seed).standard_normal((n, m))), **options)


def euclidean_game(backend, n=5, m=4, seed=0):
    return game(backend, n, m, seed, rows=Simplex(n), columns=Simplex(m))


def smooth(backend, seed=0, n=4, m=3, weight=0.5):
    """min over the unit ball of 1/2 x'Hx + max_y <Kx, y> - weight/2 |y - c|^2; H has norm 2."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    H, K = backend.asarray((q * np.linspace(0.0, 2.0, n)) @ q.T), backend.asarray(rng.standard_normal((m, n)))
    c = backend.asarray(rng.standard_normal(m))
    return SmoothSaddle(K, partial(_quadratic, H), lipschitz=2.0, g=SquaredDistance(c, weight), domain=Ball(n))


def _quadratic(H, x):
    return 0.5 * (x @ (H @ x)), H @ x


def affine(backend, rho=-0.05, n=4, seed=0, **options):
    q = np.random.default_rng(seed).standard_normal(n)
    return AffineOperator(backend.asarray(rotation(rho, n=n, seed=seed)), backend.asarray(q), **options)


def nonlinear(backend, n=3, **options):
    """A monotone operator, the gradient of sum log cosh plus a rotation; zero at 0."""
    xp = backend.xp
    turn = backend.asarray(np.triu(np.ones((n, n)), 1) - np.tril(np.ones((n, n)), -1))
    return VariationalInequality(lambda z: xp.tanh(z) + turn @ z, n, lipschitz=n + 1.0, like=turn, **options)
