"""Arguments of the kernels of `optlib.linop`, for the general equivalence test."""

import numpy as np
import scipy.sparse as sp
from hypothesis import strategies as st


@st.composite
def rows(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 8))
    a = rng.standard_normal((n, n)) * (rng.random((n, n)) < draw(st.sampled_from([0.3, 1.0])))
    csr = sp.csr_array(0.5 * (a + a.T) + 3.0 * n * np.eye(n))
    parts = csr.data, csr.indices.astype(np.int64), csr.indptr.astype(np.int64)
    return rng, n, parts, draw(st.sampled_from([0.5, 1.0, 1.7]))


@st.composite
def sweeps(draw):
    rng, n, parts, omega = draw(rows())
    limit = draw(st.sampled_from([-1.0, 0.0, 1e-3]))
    return *parts, rng.standard_normal(n), rng.standard_normal(n), omega, draw(st.integers(0, 5)), limit


@st.composite
def solves(draw):
    rng, n, parts, omega = draw(rows())
    return *parts, rng.standard_normal((n, draw(st.integers(1, 3)))), omega


@st.composite
def products(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    csr = sp.csr_array(rng.standard_normal((m, n)) * (rng.random((m, n)) < draw(st.sampled_from([0.0, 0.3, 1.0]))))
    return csr.data, csr.indices.astype(np.int64), csr.indptr.astype(np.int64), rng.random(m), rng.standard_normal(n)


CASES = {
    "linop.compressed.normal_product": products(),
    "linop.sor.sor_sweeps": sweeps(),
    "linop.sor.ssor_solve": solves(),
}
