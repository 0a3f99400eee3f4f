"""Arguments of the kernels of `optlib.bilevel`, for the general equivalence test."""

import numpy as np
from hypothesis import strategies as st


@st.composite
def batch(draw, products=False):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, d, loss = draw(st.integers(1, 9)), draw(st.sampled_from([1, 5, 33])), draw(st.sampled_from([0, 1, 2]))
    index = rng.permutation(n)[: draw(st.integers(0, n))]
    rows = d + draw(st.integers(0, 1))  # with a constant
    scale = draw(st.sampled_from([0.1, 1.0, 300.0]))
    A, weights = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7), rng.random(n)
    shape = (rows, 3) if loss == 2 else (rows,)
    y, q = scale * rng.normal(size=shape), rng.normal(size=shape)
    t = np.sign(rng.normal(size=n)) if loss < 2 else np.eye(3)[rng.integers(0, 3, n)]
    return (A, t, weights, index, y, q, loss) if products else (A, t, weights, index, y, loss)


CASES = {
    "bilevel.problems.losses.batch_gradient": batch(),
    "bilevel.problems.losses.batch_directions": batch(products=True),
}
