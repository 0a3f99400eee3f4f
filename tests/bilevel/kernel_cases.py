"""Arguments for the equivalence test of every kernel of `optlib.bilevel`."""

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


def generators():
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


SHAPES = st.tuples(st.integers(1, 3), st.sampled_from([1, 2, 5]), st.sampled_from([1, 2, 9, 40]))
LEVELS = st.sampled_from([1e-3, 0.1, 3.0])


@st.composite
def images(draw, *levels):
    rng = draw(generators())
    return (rng.normal(size=draw(SHAPES)), *(draw(LEVELS) for _ in range(sum(levels))))


@st.composite
def stencils(draw):
    rng, (n, h, w) = draw(generators()), draw(SHAPES)
    v, across, down = rng.normal(size=(n, h, w)), rng.random((n, h, w - 1)), rng.random((n, h - 1, w))
    return v, across, down, draw(st.sampled_from([0.0, 1.0]))


@st.composite
def filtered(draw):
    """Images, filters and responses that fit together."""
    rng, (n, h, w) = draw(generators()), draw(SHAPES)
    count, a, b = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    y = rng.normal(size=(n, h + a - 1, w + b - 1))
    return y, rng.normal(size=(count, a, b)), rng.normal(size=(n, count, h, w))


@st.composite
def experts(draw):
    _, filters, u = draw(filtered())
    rng, count = draw(generators()), filters.shape[0]
    return u, rng.random(count), rng.uniform(0.05, 2.0, count)


CASES = {
    "bilevel.problems.losses.batch_gradient": batch(),
    "bilevel.problems.losses.batch_directions": batch(products=True),
    "bilevel.problems.total_variation.tv_first": images(1),
    "bilevel.problems.total_variation.tv_weights": images(2),
    "bilevel.problems.total_variation.tv_product": stencils(),
    "bilevel.problems.fields_of_experts.correlate": filtered().map(lambda case: case[:2]),
    "bilevel.problems.fields_of_experts.correlate_adjoint": filtered().map(lambda case: (case[2], case[1])),
    "bilevel.problems.fields_of_experts.correlate_taps": filtered().map(lambda case: (case[0], case[2])),
    "bilevel.problems.fields_of_experts.expert_first": experts(),
    "bilevel.problems.fields_of_experts.expert_second": experts(),
}
