"""Arguments of the kernels of `optlib.online`, for the general equivalence test."""

import numpy as np
from hypothesis import strategies as st

from optlib.backend import array_namespace
from optlib.geometry import Ball, Box, L1Ball, Simplex
from optlib.online.metric_nearness import shortest_paths


@st.composite
def shapes(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng, draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 5, 33]))


def simplex(rng, learners, n):
    return rng.dirichlet(np.ones(n), learners)


@st.composite
def tallied(draw):
    rng, rounds, learners, n = draw(shapes())
    block = rng.standard_normal((rounds, learners, n))
    spoil = draw(st.sampled_from([None, np.nan, np.inf, 9.0]))
    if spoil is not None:
        block[draw(st.integers(0, rounds - 1)), -1, draw(st.integers(0, n - 1))] = spoil
    return block, -7.0, 7.0


@st.composite
def hedge(draw):
    rng, rounds, learners, n = draw(shapes())
    return (
        rng.random((rounds, learners, n)), simplex(rng, learners, n), rng.random((learners, n)), rng.random(learners),
        draw(st.integers(0, 100)), 0.7, draw(st.booleans()),
    )  # fmt: skip


@st.composite
def ogd(draw):
    rng, rounds, learners, n = draw(shapes())
    domain = draw(
        st.sampled_from([Ball(n, 2.0), Simplex(n), Box(-1.0, rng.random(n)), L1Ball(n), Ball(n, 1.0, np.full(n, 0.5))])
    )
    x = domain.project(rng.standard_normal((learners, n)))
    squares = np.zeros(learners) if draw(st.booleans()) else rng.random(learners)
    block = rng.standard_normal((rounds, learners, n)) * draw(st.sampled_from([0.0, 1.0]))
    rule = draw(st.sampled_from(["constant", "adaptive", "harmonic"]))
    return block, x, squares, rng.random(learners), draw(st.integers(0, 100)), domain, 0.8, rule


@st.composite
def adagrad(draw):
    rng, rounds, learners, n = draw(shapes())
    block = rng.standard_normal((rounds, learners, n))
    block[:, :, 0] = 0.0
    squares = rng.random((learners, n)) * draw(st.sampled_from([0.0, 1.0]))
    return block, rng.random((learners, n)), squares, -np.ones(n), 1.0 + rng.random(n)


@st.composite
def drawn(draw):
    rng, _, learners, n = draw(shapes())
    x = simplex(rng, learners, n)
    x[:, n // 2] *= draw(st.sampled_from([0.0, 1.0])) if n > 1 else 1.0
    return x, draw(st.integers(0, 2**63 - 1)), draw(st.integers(0, 2**40))


@st.composite
def bandit(draw):
    rng, rounds, learners, n = draw(shapes())
    losses = rng.random((learners, n))
    block = rng.random((1, learners, 1)) if draw(st.booleans()) else rng.random((rounds, learners, n))
    arm = rng.integers(0, n, learners)
    method = draw(st.sampled_from(["exp3", "tsallis", "tsallis-rv"]))
    return block, simplex(rng, learners, n), arm, losses, draw(st.integers(0, 1000)), 12345, method


@st.composite
def switching(draw):
    rng, rounds, learners, n = draw(shapes())
    return rng.standard_normal((rounds, learners, n)), rng.random((learners, draw(st.integers(1, 4)), n))


@st.composite
def row_within(draw):
    rng, _, _, n = draw(shapes())
    row = rng.standard_normal(n)
    row[n // 2] = draw(st.sampled_from([0.0, 3.0, -3.0, np.nan, np.inf]))
    return row, -2.5, 2.5


CASES = {
    "online.learner.tally": tallied(),
    "online.learner.within": row_within(),
    "online.hedge.hedge_rounds": hedge(),
    "online.ogd.ogd_rounds": ogd(),
    "online.adagrad.adagrad_rounds": adagrad(),
    "online.bandits.draw": drawn(),
    "online.bandits.bandit_rounds": bandit(),
    "online.comparators.switching_rounds": switching(),
}


@st.composite
def half_spaces(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, k = draw(st.integers(1, 6)), draw(st.integers(0, 5))
    lengths = rng.integers(1, n + 1, k)
    indices = np.concatenate([np.empty(0, np.int64), *(rng.choice(n, size, replace=False) for size in lengths)])
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    data, z = rng.standard_normal(indices.size), rng.random(k) * rng.integers(0, 2, k)
    indices, scale = indices.astype(np.int64), 0.5 + rng.random(n)
    return rng.standard_normal(n), z, data, indices, indptr, rng.standard_normal(k), scale, draw(st.integers(0, 3))


@st.composite
def lengths(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 8))
    x = np.triu(rng.random((n, n)) ** 3 * rng.integers(0, 3, (n, n)), 1)
    return (x + x.T,)


@st.composite
def paths(draw):
    (x,) = draw(lengths())
    _, following = shortest_paths.generic(x, xp=array_namespace())
    edges = np.argwhere(np.triu(np.ones(x.shape, bool), 1))
    return edges[draw(st.integers(0, 3)) :], following


CASES |= {
    "online.project_and_forget.cyclic_projections": half_spaces(),
    "online.metric_nearness.shortest_paths": lengths(),
    "online.metric_nearness.cycles": paths(),
}


@st.composite
def games(draw, points):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    mass = draw(st.sampled_from([1.0, 2.5]))
    z = np.concatenate([np.full(n, mass / n), np.full(m, 1.0 / m)])
    rest = (z, rng.random(n + m))[:points]
    parts = rng.standard_normal((n, m)), rng.random(n), rng.random(m), mass, 1.0
    return *parts, rng.random(n + m), *rest, z + 0.0, draw(st.integers(0, 9)), 0.3, draw(st.integers(0, 6))


CASES |= {
    "online.extragradient.mirror_prox_rounds": games(1),
    "online.optimistic_gradient.optimistic_rounds": games(2),
}
