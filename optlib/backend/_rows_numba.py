"""Products and sums of rows for compiled passes: four rows at a time, which read the other vector once."""

from numba import njit

# Options of passes over rows: sums may be reassociated, so that they vectorise. No other compiled code calls them by
# address: they need no wrapper for it.
JIT = {
    "cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"},
    "no_cfunc_wrapper": True,
}  # fmt: skip
INNER = JIT | {"no_cpython_wrapper": True, "forceinline": True}  # inside their loops only
INLINE = JIT | {"inline": "always"}  # into the caller before it is compiled: faster to compile where that is one place


@njit(**INNER)
def dot(a, v):
    """Return the inner product of two vectors."""
    s = v.dtype.type(0)
    for j in range(v.size):
        s += a[j] * v[j]
    return s


@njit(**INLINE)
def dot_rows(a0, a1, a2, a3, v):
    """Return the inner products of four rows with a vector."""
    s0 = s1 = s2 = s3 = v.dtype.type(0)
    for j in range(v.size):
        s0 += a0[j] * v[j]
        s1 += a1[j] * v[j]
        s2 += a2[j] * v[j]
        s3 += a3[j] * v[j]
    return s0, s1, s2, s3


@njit(**INNER)
def add(out, a, w):
    """Add a weighted vector."""
    for j in range(out.size):
        out[j] += w * a[j]


@njit(**INLINE)
def add_rows(out, a0, a1, a2, a3, w0, w1, w2, w3):
    """Add four weighted rows."""
    for j in range(out.size):
        out[j] += (w0 * a0[j] + w1 * a1[j]) + (w2 * a2[j] + w3 * a3[j])
