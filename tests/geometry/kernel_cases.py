"""Arguments for the equivalence test of every kernel of `optlib.geometry`."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.geometry.kernel_cases_mirror import CASES as MIRROR_CASES


def rows(size=100.0, batch=((), (1,), (3,), (2, 2), (0,))):
    """Arrays with short rows, with ties among the entries, and a longer one now and then."""
    lengths = st.one_of(st.integers(1, 9), st.integers(1, 9), st.just(2100))
    return st.tuples(st.sampled_from(batch), lengths).flatmap(lambda t: _filled((*t[0], t[1]), size))


@st.composite
def _filled(draw, shape, size):
    if shape[-1] > 100:
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        return rng.normal(size=shape) * draw(st.sampled_from([1e-3, 1.0, size]))
    elements = st.one_of(st.integers(-4, 4).map(float), st.floats(-size, size, allow_subnormal=False))
    return draw(arrays(np.float64, shape, elements=elements))


@st.composite
def amounts(draw, y):
    """A number, or one per row."""
    number = draw(st.sampled_from([0.0, 1e-3, 1.0, 7.5, 1e4]))
    if y.ndim > 1 and draw(st.booleans()):
        return number * np.random.default_rng(draw(st.integers(0, 99))).uniform(0.5, 2.0, y.shape[:-1])
    return number


with_amount = rows().flatmap(lambda y: st.tuples(st.just(y), amounts(y)))


@st.composite
def clipped_sums(draw):
    p = draw(rows())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q = rng.integers(0, 3, p.shape) * rng.choice([1.0, rng.uniform()], p.shape)
    low = rng.integers(-2, 3, p.shape).astype(float)
    high = low + rng.choice([0.5, 2.0, np.inf] if draw(st.booleans()) else [0.5, 2.0], p.shape)
    q[..., 0] = 1.0
    at = [np.sum(np.clip(p + q * t, low, high), axis=-1) for t in (-1e4, 1e4)]
    share = draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    total = at[0] + share * (at[1] - at[0])
    return p, q, low, high, float(total) if p.ndim == 1 else total


CASES = {
    "geometry._thresholds.simplex": with_amount,
    "geometry._thresholds.l1_ball": with_amount,
    "geometry._thresholds.clipped_sum": clipped_sums(),
    "geometry.prox.tv1d": with_amount,
    **MIRROR_CASES,
}
