"""Arguments for the kernels of the ground floor."""

import numpy as np
from hypothesis import strategies as st

KEYS = st.integers(0, 2**64 - 1)
# Near 2^34 the counter of the block passes 2^32.
STARTS = st.one_of(st.integers(0, 300), st.integers(2**34 - 300, 2**34), st.integers(0, 2**62))
STRETCHES = st.tuples(KEYS, STARTS, st.integers(0, 2500), st.just(np.empty(0)))

CASES = {
    "backend.philox.philox_words": STRETCHES,
    "backend.philox.philox_uniform": STRETCHES,
    "backend.philox.philox_normal": STRETCHES,
    "backend.philox.philox_rademacher": STRETCHES,
}
