"""Mirror maps for the tests: how to make each, its function written naively, its domain for a general solver."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from optlib import geometry as geo


def host(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 1.0, n)


def spd(n: int) -> np.ndarray:
    b = np.random.default_rng(n).normal(size=(n, n))
    return b @ b.T / n + 0.3 * np.eye(n)


def total(s):
    return [{"type": "eq", "fun": lambda x: np.sum(x) - s}]


def at_most(size, r):
    return [{"type": "ineq", "fun": lambda x: r - size(x)}]


def entropy(x):
    return np.sum(x * np.log(x))


def hypentropy(beta):
    return lambda x: np.sum(x * np.arcsinh(x / beta) - np.sqrt(x * x + beta * beta) + beta)


def half_square(x):
    return 0.5 * x @ x


def p_norm(p):
    return lambda x: 0.5 * np.sum(np.abs(x) ** p) ** (2 / p)


@dataclass(frozen=True)
class Case:
    """One map: ``make(asarray, n)``, psi by its definition, bounds and constraints of X for SciPy."""

    make: Any
    psi: Any  # psi(n) -> function
    bounds: tuple = (None, None)
    constraints: Any = lambda n: []
    positive: bool = False  # psi needs positive entries
    unit: bool = False  # psi needs entries in (0, 1)


POSITIVE = (1e-13, None)
CASES = {
    "Euclidean": Case(lambda a, n: geo.Euclidean(), lambda n: half_square),
    "EuclideanBall": Case(
        lambda a, n: geo.EuclideanBall(1.3), lambda n: half_square, constraints=lambda n: at_most(np.linalg.norm, 1.3)
    ),
    "EuclideanBall(middle)": Case(
        lambda a, n: geo.EuclideanBall(0.7, a(host(n, 1))),
        lambda n: lambda x: half_square(x - host(n, 1)),
        constraints=lambda n: at_most(lambda x: np.linalg.norm(x - host(n, 1)), 0.7),
    ),
    "EuclideanBox": Case(
        lambda a, n: geo.EuclideanBox(a(-host(n, 2)), 0.75), lambda n: half_square, bounds=(lambda n: -host(n, 2), 0.75)
    ),
    "EuclideanSimplex": Case(
        lambda a, n: geo.EuclideanSimplex(2.0), lambda n: half_square, (0, None), lambda n: total(2.0)
    ),
    "EuclideanL1Ball": Case(
        lambda a, n: geo.EuclideanL1Ball(0.7),
        lambda n: half_square,
        constraints=lambda n: at_most(lambda x: np.sum(np.abs(x)), 0.7),
    ),
    "Entropy": Case(lambda a, n: geo.Entropy(2.0), lambda n: entropy, POSITIVE, lambda n: total(2.0), positive=True),
    "CappedEntropy": Case(
        lambda a, n: geo.CappedEntropy(1.0, floor=0.25 / n, cap=1.5 / n),
        lambda n: entropy,
        (lambda n: 0.25 / n, lambda n: 1.5 / n),
        lambda n: total(1.0),
        positive=True,
    ),
    "UnnormalizedEntropy": Case(
        lambda a, n: geo.UnnormalizedEntropy(), lambda n: lambda x: entropy(x) - np.sum(x), POSITIVE, positive=True
    ),
    "UnnormalizedEntropy(mass)": Case(
        lambda a, n: geo.UnnormalizedEntropy(mass=1.5),
        lambda n: lambda x: entropy(x) - np.sum(x),
        POSITIVE,
        lambda n: at_most(np.sum, 1.5),
        positive=True,
    ),
    "UnnormalizedEntropy(upper)": Case(
        lambda a, n: geo.UnnormalizedEntropy(upper=0.7),
        lambda n: lambda x: entropy(x) - np.sum(x),
        (1e-13, 0.7),
        positive=True,
    ),
    "BitEntropy": Case(
        lambda a, n: geo.BitEntropy(),
        lambda n: lambda x: entropy(x) + entropy(1 - x),
        (1e-13, 1 - 1e-13),
        positive=True,
        unit=True,
    ),
    "Hypentropy": Case(lambda a, n: geo.Hypentropy(0.3), lambda n: hypentropy(0.3)),
    "Hypentropy(radius)": Case(
        lambda a, n: geo.Hypentropy(0.3, radius=0.8),
        lambda n: hypentropy(0.3),
        constraints=lambda n: at_most(lambda x: np.sum(np.abs(x)), 0.8),
    ),
    "Tsallis": Case(
        lambda a, n: geo.Tsallis(2.0),
        lambda n: lambda x: -2 * np.sum(np.sqrt(x)),
        POSITIVE,
        lambda n: total(2.0),
        positive=True,
    ),
    "LogBarrier": Case(
        lambda a, n: geo.LogBarrier(2.0),
        lambda n: lambda x: -np.sum(np.log(x)),
        POSITIVE,
        lambda n: total(2.0),
        positive=True,
    ),
    "PNorm": Case(lambda a, n: geo.PNorm(1.4), lambda n: p_norm(1.4)),
    "PNorm(radius)": Case(
        lambda a, n: geo.PNorm(1.4, radius=0.9),
        lambda n: p_norm(1.4),
        constraints=lambda n: at_most(lambda x: np.sum(np.abs(x) ** 1.4) ** (1 / 1.4), 0.9),
    ),
    "Quadratic": Case(lambda a, n: geo.Quadratic(a(spd(n))), lambda n: lambda x: 0.5 * x @ spd(n) @ x),
    "QuadraticBall": Case(
        lambda a, n: geo.QuadraticBall(a(spd(n)), 0.8),
        lambda n: lambda x: 0.5 * x @ spd(n) @ x,
        constraints=lambda n: at_most(np.linalg.norm, 0.8),
    ),
    "QuadraticBox": Case(
        lambda a, n: geo.QuadraticBox(a(spd(n)), -0.5, a(host(n, 3))),
        lambda n: lambda x: 0.5 * x @ spd(n) @ x,
        (-0.5, lambda n: host(n, 3)),
    ),
    "QuadraticSimplex": Case(
        lambda a, n: geo.QuadraticSimplex(a(spd(n)), 2.0),
        lambda n: lambda x: 0.5 * x @ spd(n) @ x,
        (0, None),
        lambda n: total(2.0),
    ),
}
NAMES = tuple(CASES)


def outside(name: str, points: np.ndarray) -> np.ndarray:
    """Points where psi is differentiable, from any vectors: not in X as a rule."""
    if CASES[name].unit:
        return 1 / (1 + np.exp(-points))
    return np.abs(points) + 0.05 if CASES[name].positive else points


def scipy_bounds(name: str, n: int) -> list:
    low, high = (np.broadcast_to(b(n), n) if callable(b) else [b] * n for b in CASES[name].bounds)
    return list(zip(low, high, strict=True))


def is_bounded(m: Any, n: int) -> bool:
    return m.range(n) < math.inf
