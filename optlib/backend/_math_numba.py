"""Elementary functions that vectorise inside Numba loops.

Numba calls libm for ``np.exp`` and its relatives, one entry at a time; the functions here are branch-free polynomials
that LLVM inlines into the caller's loop and turns into vector instructions. They exist for float64 and float32 scalars,
keep the dtype, and are written for use inside ``@njit`` code only:

>>> import numpy as np
>>> from numba import njit
>>> from optlib.backend._math_numba import exp_
>>> @njit(nogil=True, error_model="numpy")
... def exp_rows(x, out):
...     for i in range(x.shape[0]):
...         row, target = x[i], out[i]
...         for j in range(row.size):
...             target[j] = exp_(row[j])
>>> x, out = np.zeros((2, 3)), np.empty((2, 3))
>>> exp_rows(x, out)
>>> out
array([[1., 1., 1.],
       [1., 1., 1.]])

Such a loop vectorises when its arrays are contiguous, its body has no branch but selects (``a if c else b``), and its
index runs from 0: ``for j in range(lo, hi): ... x[j]`` stays scalar because a negative ``j`` would wrap around, so take
the slice ``x[lo:hi]`` first and count from 0. A sum over the entries vectorises only if the *caller* may reassociate,
``fastmath={"reassoc", "contract", "nsz"}``; that set does not reach into the functions here, which depend on the order
of their operations and bring their own set.

Largest error of ``exp_`` in units in the last place (ulp), over the whole range: 1.1, float64 and float32.

Numba's on-disk cache looks at the file of the calling function only: after an edit of this module, delete the cached
kernels (``__pycache__/*.nb[ic]``) of its users.
"""

import math

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

# "contract" allows fused multiply-adds; "reassoc" would fold the rounding trick away, "nnan" and "ninf" the selects.
_INLINED = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "forceinline": True}

_BIT_TYPES = {types.float64: types.int64, types.float32: types.int32}
_FLOAT_TYPES = {integer: real for real, integer in _BIT_TYPES.items()}


def _bit_cast(x, pairs):
    if x not in pairs:
        return None

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return pairs[x](x), codegen


@intrinsic
def _to_bits(typingctx, x):
    return _bit_cast(x, _BIT_TYPES)


@intrinsic
def _from_bits(typingctx, x):
    return _bit_cast(x, _FLOAT_TYPES)


def exp_(x):
    """Exponential of a float64 or float32 scalar, inside Numba code.

    Parameters
    ----------
    x : float64 or float32 scalar
        The exponent.

    Returns
    -------
    scalar of the dtype of `x`
        exp(x): within 1.1 ulp where the result is a normal number, 0 where it would be subnormal or smaller
        (x < -708.396, float32 x < -87.337), inf where it overflows (x > 709.78, float32 x > 88.72), NaN for NaN.

    Notes
    -----
    With n = round(x / ln 2) and r = x - n ln 2 (ln 2 in two parts, so r is exact to the last bit), exp(x) = 2^n exp(r),
    where exp(r), |r| <= ln(2)/2, is a polynomial of degree 11 (float32: 6) and n is added to the exponent field of its
    bits. The rounding is the addition of 1.5 * 2^52, which leaves n in the low bits.
    """
    return math.exp(x)


_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to an integer, kept in the low bits
_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_EXP_MAX, _EXP_MIN = 709.782712893384, -708.3964185322641

_ROUND_32 = np.float32(12582912.0)  # 1.5 * 2^23
_LOG2_E_32 = np.float32(1.4426950408889634)
_LN2_HIGH_32, _LN2_LOW_32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
_EXP_MAX_32, _EXP_MIN_32 = np.float32(88.72283), np.float32(-87.33654)
_ZERO_32, _ONE_32, _INF_32 = np.float32(0.0), np.float32(1.0), np.float32(np.inf)
_E2, _E3, _E4, _E5, _E6 = (np.float32(c) for c in (0.5, 0.16666576, 0.041666556, 0.008363195, 0.0013926204))


@overload(exp_, jit_options=_INLINED)
def _exp(x):
    if x == types.float64:

        def exp64(x):
            shifted = x * _LOG2_E + _ROUND
            n = shifted - _ROUND
            r = (x - n * _LN2_HIGH) - n * _LN2_LOW
            p = 2.509557770167194e-08
            p = p * r + 2.7613836801372293e-07
            p = p * r + 2.7557280025515365e-06
            p = p * r + 2.4801536334724617e-05
            p = p * r + 0.0001984126985435939
            p = p * r + 0.0013888888905908563
            p = p * r + 0.008333333333332154
            p = p * r + 0.04166666666665132
            p = p * r + 0.16666666666666666
            p = p * r + 0.5
            p = p * r + 1.0
            p = p * r + 1.0
            y = _from_bits(_to_bits(p) + (_to_bits(shifted) << 52))
            y = y if x <= _EXP_MAX else x + np.inf  # inf, and NaN for NaN
            return 0.0 if x < _EXP_MIN else y

        return exp64
    if x == types.float32:

        def exp32(x):
            shifted = x * _LOG2_E_32 + _ROUND_32
            n = shifted - _ROUND_32
            r = (x - n * _LN2_HIGH_32) - n * _LN2_LOW_32
            p = _E6
            p = p * r + _E5
            p = p * r + _E4
            p = p * r + _E3
            p = p * r + _E2
            p = p * r + _ONE_32
            p = p * r + _ONE_32
            y = _from_bits(np.int32(_to_bits(p) + (_to_bits(shifted) << 23)))
            y = y if x <= _EXP_MAX_32 else x + _INF_32
            return _ZERO_32 if x < _EXP_MIN_32 else y

        return exp32
    return None
