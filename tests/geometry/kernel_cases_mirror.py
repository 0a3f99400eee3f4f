"""Arguments for the equivalence test of the kernels of the mirror maps."""

import numpy as np
from hypothesis import strategies as st

SCALES = st.sampled_from([1.0, 2.5, 1e-3, 1e4])


@st.composite
def duals(draw):
    """Dual points: rows with ties, spreads up to 1e4, one or many entries, also no rows."""
    batch = draw(st.sampled_from([(), (1,), (3,), (2, 2), (0,)]))
    n = draw(st.sampled_from([1, 2, 3, 5, 8, 17, 300]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    theta = draw(st.sampled_from([0.0, 0.1, 1.0, 30.0, 1e4])) * rng.normal(size=(*batch, n))
    return np.round(theta, 1) if draw(st.booleans()) else theta


@st.composite
def steps(draw):
    g = draw(duals())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(SCALES)
    x = rng.exponential(size=g.shape) * rng.choice([1.0, 1e-3, 0.0], g.shape, p=[0.7, 0.2, 0.1])
    x[..., 0] = 1.0
    x *= scale / x.sum(axis=-1, keepdims=True)
    rates = draw(st.sampled_from([0.0, 0.01, 1.0]))
    eta = rates if draw(st.booleans()) else rates * rng.uniform(0.5, 1.0, (*g.shape[:-1], 1))
    if g.ndim == 2 and len(g) and draw(st.booleans()):
        g = g[0]  # one gradient for all rows
    return x, g, eta, scale


@st.composite
def quadratics(draw):
    """Linear terms and well conditioned matrices, one for all rows or one per row."""
    rows, n = draw(st.sampled_from([(), (3,), (0,)])), draw(st.sampled_from([1, 2, 5, 12]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    own = rows if draw(st.booleans()) else ()
    root = rng.normal(size=(*own, n, n))
    size = draw(st.sampled_from([1.0, 1e-4, 1e5]))
    a = size * (root @ np.swapaxes(root, -1, -2) / n + 0.5 * np.eye(n))
    b = size * draw(st.sampled_from([0.0, 0.3, 10.0])) * rng.normal(size=(*rows, n))
    return b, a


@st.composite
def boxes(draw):
    b, a = draw(quadratics())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lower = rng.choice([-np.inf, -1.0, -0.2, 0.0], b.shape)
    upper = np.where(np.isfinite(lower), lower, 0.0) + rng.choice([np.inf, 0.5, 0.0], b.shape)
    return b, a, lower, upper


@st.composite
def balls(draw):
    b, a = draw(quadratics())
    w = np.linalg.eigvalsh(a)
    return b, w, draw(st.sampled_from([1.0, 0.01, 30.0]))


CASES = {
    "geometry.mirror.quadratic.diagonal_on_ball": balls(),
    "geometry.mirror.entropy.softmax": st.tuples(duals(), SCALES),
    "geometry.mirror.entropy.log_softmax": st.tuples(duals()),
    "geometry.mirror.entropy.entropy_step": steps(),
    "geometry.mirror.roots.tsallis_simplex": st.tuples(duals(), SCALES),
    "geometry.mirror.roots.tsallis_step": steps(),
    "geometry.mirror.roots.log_barrier_simplex": st.tuples(duals(), SCALES),
    "geometry.mirror.roots.log_barrier_step": steps(),
    "geometry.mirror.euclidean.shorten": st.tuples(duals(), SCALES),
    "geometry.mirror.quadratic.quadratic_on_simplex": quadratics().flatmap(
        lambda q: st.tuples(st.just(q[0]), st.just(q[1]), st.sampled_from([1.0, 2.5]))
    ),
    "geometry.mirror.quadratic.quadratic_on_box": boxes(),
}
