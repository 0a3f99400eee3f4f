"""Transport problems for property tests, as NumPy arrays."""

import numpy as np
from hypothesis import strategies as st
from scipy.optimize import linprog

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7))
REGS = st.sampled_from([1e-3, 1e-2, 0.1, 1.0, 10.0])  # in units of the cost range


@st.composite
def weights(draw, n, zeros=True):
    """Sum 1; now and then zeros, tiny entries, or all equal."""
    kind = draw(st.sampled_from(["uniform", "random", "tiny"] + ["zeros"] * zeros))
    if kind == "uniform":
        return np.full(n, 1.0 / n)
    w = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).dirichlet(np.ones(n))
    if kind == "tiny":
        w[draw(st.integers(0, n - 1))] *= 1e-12
    if kind == "zeros" and n > 1:
        w[draw(st.integers(0, n - 1))] = 0.0
    return w / w.sum()


@st.composite
def costs(draw, n, m):
    """Uniform, integer with ties, constant, or squared distances of clouds; scaled by powers of ten."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["uniform", "ties", "constant", "cloud", "far"]))
    if kind == "uniform":
        c = rng.random((n, m))
    elif kind == "ties":
        c = rng.integers(0, 3, (n, m)).astype(float)
    elif kind == "constant":
        c = np.full((n, m), 0.7)
    else:
        x, y = rng.standard_normal((n, 2)), rng.standard_normal((m, 2)) + (5.0 if kind == "far" else 0.0)
        c = ((x[:, None] - y[None]) ** 2).sum(-1)
    return c * draw(st.sampled_from([1.0, 1e-4, 1e4]))


@st.composite
def problems(draw, zeros=True):
    """Draw ``(cost, a, b)`` of equal mass."""
    n, m = draw(SHAPES)
    mass = draw(st.sampled_from([1.0, 0.1, 7.0]))
    return draw(costs(n, m)), mass * draw(weights(n, zeros)), mass * draw(weights(m, zeros))


def spread(cost):
    """Range of the cost; its size if it is constant."""
    return float(np.ptp(cost)) or float(np.abs(cost).max()) or 1.0


def linear_program(cost, a, b):
    """Optimal value of unregularised transport."""
    n, m = cost.shape
    rows, cols = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    scale = a.sum() * spread(cost)
    shift = cost.min()
    solved = linprog(
        ((cost - shift) / spread(cost)).ravel(),
        A_eq=np.vstack([rows, cols])[:-1],
        b_eq=np.concatenate([a, b])[:-1] / a.sum(),
        method="highs",
    )
    assert solved.status == 0, solved.message
    return solved.fun * scale + shift * a.sum()
