"""Arguments of the kernels of `optlib.inner`, for the general equivalence test."""

from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st


@st.composite
def dense(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, k = draw(st.integers(1, 9)), draw(st.integers(0, 6))
    rows = rng.standard_normal((k, n)) * (rng.random((k, 1)) < 0.8)
    y, l1 = rng.standard_normal(k) * (rng.random(k) < 0.5), draw(st.sampled_from([0.1, 1.0])) * np.ones(k)
    l2 = draw(st.sampled_from([0.0, 0.3])) * rng.random(k)
    return rows, np.sum(rows**2, axis=1), rng.standard_normal(n), y, l1, l2, draw(st.integers(0, 4)), -1.0


@st.composite
def sparse(draw):
    rows, _, r, y, l1, l2, count, limit = draw(dense())
    csr = sp.csr_array(rows * (np.abs(rows) > 0.5))
    roots = np.ones(r.size)
    means = draw(st.sampled_from([0.0, 1.0])) * np.asarray(csr.mean(axis=1)).ravel()
    squares = np.sum((csr.toarray() - means[:, None]) ** 2, axis=1)
    parts = csr.data, csr.indices, csr.indptr
    return *parts, means, roots, squares, r - means.any() * r.mean(), y, l1, l2, count, limit


def compressed(*more):
    """Compressed rows, and what ``more`` makes of them."""

    @st.composite
    def made(draw):
        parts = draw(sparse())
        rng, (k, n) = np.random.default_rng(1), (parts[2].size - 1, parts[6].size)
        given = {"r": rng.standard_normal(n), "v": rng.standard_normal(k), "n": n}
        return *parts[:3], *(given[name] for name in more)

    return made()


@st.composite
def signed(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    s = draw(st.integers(1, 6))
    half = rng.standard_normal((s, s + 2))
    y = (0.1 + rng.random(s)) * rng.choice([-1.0, 1.0], s)
    return half @ half.T, 0.1 + rng.random(s), rng.standard_normal(s), y, draw(st.integers(0, 4))


@st.composite
def scores(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    p = draw(st.integers(0, 9))
    return rng.permutation(p).astype(float), draw(st.integers(0, p))


@st.composite
def samples(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    p, m = draw(st.integers(0, 4)), draw(st.integers(1, 7))
    taken = np.flatnonzero(rng.random(m) < 0.7)
    taken = taken if taken.size else np.arange(m)
    shares = rng.random(taken.size)
    return rng.standard_normal((p, m)), taken, shares / shares.sum(), draw(st.booleans())


@st.composite
def groups(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    k = starts[-1]
    half = rng.standard_normal((k, k + 2))
    gram = half @ half.T
    for a, b in pairwise(starts):
        gram[a:b, a:b] = np.diag(np.diag(gram)[a:b])
    gram += k * np.eye(k)
    l1 = draw(st.sampled_from([0.1, 1.0, 5.0])) * np.ones(len(sizes))
    g, y = 3.0 * rng.standard_normal(k), np.zeros(k)
    return gram, np.diag(gram).copy(), starts, g, y, l1, draw(st.integers(0, 4)), -1.0


@st.composite
def systems(draw):
    gram, ridge, rhs, _, _ = draw(signed())
    return gram + np.diag(ridge), rhs


CASES = {
    "inner.block_coordinate_descent.sweep_groups": groups(),
    "inner.design.centred": samples(),
    "inner.design.definite_solve": systems(),
    "inner.design.sparse_correlate": compressed("r"),
    "inner.design.sparse_combine": compressed("v", "n"),
    "inner.design.sparse_gram": compressed("n"),
    "inner.design.sweep_dense": dense(),
    "inner.design.sweep_sparse": sparse(),
    "inner.design.top": scores(),
    "inner.coordinate_descent.signed_minimiser": signed(),
}
