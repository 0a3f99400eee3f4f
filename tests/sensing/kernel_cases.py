"""Arguments for the equivalence test of every kernel of `optlib.sensing`."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def dense(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    m, n = draw(st.sampled_from([1, 3, 4, 9, 300])), draw(st.sampled_from([1, 7, 900]))
    return rng.normal(size=(m, n)), rng.normal(size=n), rng.normal(size=m)


@st.composite
def places(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n1, n2, k = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.sampled_from([1, 3, 8]))
    m = draw(st.integers(1, n1 * n2))
    flat = rng.permutation(n1 * n2)[:m]
    return rng, flat // n2, flat % n2, rng.normal(size=(n1, k)), rng.normal(size=(n2, k))


@st.composite
def products(draw):
    _, rows, cols, F, G = draw(places())
    return F, G, rows, cols


@st.composite
def weighted(draw):
    rng, rows, cols, F, G = draw(places())
    return rng.normal(size=rows.size), G, rows, cols, F.shape[0]


@st.composite
def gradients(draw):
    rng, rows, cols, F, G = draw(places())
    return F, G, rows, cols, rng.normal(size=rows.size)


@st.composite
def grams(draw):
    _, rows, cols, F, G = draw(places())
    return G, rows, cols, F.shape[0]


@st.composite
def regressions(draw):
    rng, rows, _, _, G = draw(places())
    n = int(rows.max()) + draw(st.integers(1, 5))
    starts = np.searchsorted(np.sort(rows), np.arange(n + 1))
    source = rng.integers(0, G.shape[0], rows.size)
    return G, starts, source, rng.normal(size=rows.size), rng.uniform(0.5, 20.0, size=(n, G.shape[1]))


@st.composite
def passes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n1, n2, m, k = (draw(st.integers(1, high)) for high in (9, 40, 12, 3))
    task, none = draw(st.integers(0, 2)), draw(st.sampled_from([None, 0, 1]))
    F, G = rng.normal(size=(n1, k)), rng.normal(size=(n2, k))
    if task == 1 and none is not None:
        F, G = (F[:, :0], G) if none == 0 else (F, G[:, :0])
    first, name = draw(st.integers(0, 5)), draw(st.sampled_from(["gaussian", "rademacher"]))
    return int(rng.integers(2**63)), first, name, 0.5, F, G, rng.normal(size=m), task


@st.composite
def regression(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d, depth = draw(st.integers(1, 9)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    scales = np.ones(depth - 1 if draw(st.booleans()) else 0)
    power, count = draw(st.sampled_from([2.0, 3.0, 4.0])), draw(st.integers(0, 4))
    return rng.normal(size=(n, d)), rng.normal(size=n), rng.normal(size=d), scales, power, depth, 0.01, count


CASES = {
    "sensing.operators.residual_and_image": dense(),
    "sensing.entries.sampled_product": products(),
    "sensing.entries.weighted_rows": weighted(),
    "sensing.entries.completion_gradient": gradients(),
    "sensing.entries.row_grams": grams(),
    "sensing.entries.solve_rows": regressions(),
    "sensing.overparameterized_regression.regression_steps": regression(),
    "sensing.regenerated.regenerated_pass": passes(),
}
