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

Largest errors in units in the last place (ulp), float64 and float32, over the whole range: ``exp_`` 1.2, ``exp2_`` 1.3,
``log_`` 0.9, ``sincospi_`` 2.2.

Numba's on-disk cache looks at the file of the calling function only: after an edit of this module, delete the cached
kernels (``__pycache__/*.nb[ic]``) of its users.
"""

# mypy: ignore-errors
# The types here are those of Numba, not of Python.
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
        exp(x): within 1.2 ulp where the result is a normal number, 0 where it would be subnormal or smaller
        (x < -708.396, float32 x < -87.337), inf where it overflows (x > 709.78, float32 x > 88.72), NaN for NaN.

    Notes
    -----
    With n = round(x / ln 2) and r = x - n ln 2 (ln 2 in two parts, so r is exact to the last bit), exp(x) = 2^n exp(r),
    where exp(r), |r| <= ln(2)/2, is a polynomial of degree 11 (float32: 6) and n is added to the exponent field of its
    bits. The rounding is the addition of 1.5 * 2^52, which leaves n in the low bits. All polynomials here are summed in
    pairs of terms: a few independent operations more, but half the length of the chain of dependent ones.
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
            z = r * r
            p = 2.509557770167194e-08 * r + 2.7613836801372293e-07
            p = p * z + (2.7557280025515365e-06 * r + 2.4801536334724617e-05)
            p = p * z + (0.0001984126985435939 * r + 0.0013888888905908563)
            p = p * z + (0.008333333333332154 * r + 0.04166666666665132)
            p = p * z + (0.16666666666666666 * r + 0.5)
            p = (p * z + r) + 1.0
            y = _from_bits(_to_bits(p) + (_to_bits(shifted) << 52))
            y = y if x <= _EXP_MAX else x + np.inf  # inf, and NaN for NaN
            return 0.0 if x < _EXP_MIN else y

        return exp64
    if x == types.float32:

        def exp32(x):
            shifted = x * _LOG2_E_32 + _ROUND_32
            n = shifted - _ROUND_32
            r = (x - n * _LN2_HIGH_32) - n * _LN2_LOW_32
            z = r * r
            p = _E6 * z + (_E5 * r + _E4)
            p = p * z + (_E3 * r + _E2)
            p = (p * z + r) + _ONE_32
            y = _from_bits(np.int32(_to_bits(p) + (_to_bits(shifted) << 23)))
            y = y if x <= _EXP_MAX_32 else x + _INF_32
            return _ZERO_32 if x < _EXP_MIN_32 else y

        return exp32
    return None


def exp2_(x):
    """Power of two of a float64 or float32 scalar of moderate size, inside Numba code: a quarter cheaper than ``exp_``.

    Parameters
    ----------
    x : float64 or float32 scalar
        The exponent, from -1022 to 1024 (float32: from -126 to 128): this is not checked.

    Returns
    -------
    scalar of the dtype of `x`
        2^x within 1.3 ulp, inf for the largest `x`, and NaN for the NaN of an operation.

    Notes
    -----
    As ``exp_`` with n = round(x): the remainder r = x - n is exact, and 2^r is the best polynomial of the same degree.
    """
    return math.exp2(x)


_B1, _B2, _B3, _B4, _B5, _B6 = (
    np.float32(c)
    for c in (0.6931472067028326, 0.24022650922288757, 0.05550327226670302, 0.009618056678524637, 0.0013400428177615838,
              0.0001546144469856913)
)  # fmt: skip


@overload(exp2_, jit_options=_INLINED)
def _exp2(x):
    if x == types.float64:

        def exp64(x):
            shifted = x + _ROUND
            r = x - (shifted - _ROUND)
            z = r * r
            p = 4.4558179083360645e-10 * r + 7.074194297288521e-09
            p = p * z + (1.0178057087733941e-07 * r + 1.3215432535912375e-06)
            p = p * z + (1.5252733841556773e-05 * r + 0.00015403530463724353)
            p = p * z + (0.001333355814640647 * r + 0.009618129107587256)
            p = p * z + (0.055504108664821625 * r + 0.24022650695910158)
            p = p * z + (0.6931471805599453 * r + 1.0)
            return _from_bits(_to_bits(p) + (_to_bits(shifted) << 52))

        return exp64
    if x == types.float32:

        def exp32(x):
            shifted = x + _ROUND_32
            r = x - (shifted - _ROUND_32)
            z = r * r
            p = _B6 * z + (_B5 * r + _B4)
            p = p * z + (_B3 * r + _B2)
            p = p * z + (_B1 * r + _ONE_32)
            return _from_bits(np.int32(_to_bits(p) + (_to_bits(shifted) << 23)))

        return exp32
    return None


def log_(x):
    """Natural logarithm of a float64 or float32 scalar, inside Numba code.

    Parameters
    ----------
    x : float64 or float32 scalar
        Any number, subnormal ones included.

    Returns
    -------
    scalar of the dtype of `x`
        log(x) within 0.9 ulp, -inf at 0, NaN for x < 0 and for NaN.

    Notes
    -----
    x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), read off the bits; log(1 + f) is a series in s = f / (2 + f),
    |s| < 0.172, of which f - f^2/2 is added last.
    """
    return math.log(x)


_SQRT_HALF_BITS, _ONE_BITS = 0x3FE6A09E667F3BCD, 0x3FF0000000000000
_SQRT_HALF_BITS_32, _ONE_BITS_32 = 0x3F3504F3, 0x3F800000
_SMALLEST, _SMALLEST_32 = 2.2250738585072014e-308, np.float32(1.17549435e-38)  # normal numbers
_RAISE_32, _RAISED_32 = np.float32(2.0**25), np.float32(25.0)
_EXPONENT_ZERO_32 = np.float32(2.0**23 + 127)
_HALF_32, _TWO_32, _NAN_32 = np.float32(0.5), np.float32(2.0), np.float32(np.nan)
_L1, _L2, _L3 = np.float32(0.66666687), np.float32(0.39988777), np.float32(0.29580054)


@overload(log_, jit_options=_INLINED)
def _log(x):
    if x == types.float64:

        def log64(x):
            subnormal = x < _SMALLEST
            f, k = split_exponent_(x * 18014398509481984.0 if subnormal else x)
            k = k - 54.0 if subnormal else k
            s = f / (2.0 + f)
            z = s * s
            w = z * z
            p = 0.14616585424888623 * w + (0.15331710618210773 * z + 0.18182889455674947)
            p = p * w + (0.22222211130259878 * z + 0.2857142862600327)
            p = p * w + (0.39999999999899444 * z + 0.666666666666667)
            square = 0.5 * f * f
            y = k * _LN2_HIGH - ((square - (s * (square + p * z) + k * _LN2_LOW)) - f)
            y = y if x < np.inf else x
            return y if x > 0.0 else (-np.inf if x == 0.0 else np.nan)

        return log64
    if x == types.float32:

        def log32(x):
            subnormal = x < _SMALLEST_32
            f, k = split_exponent_(x * _RAISE_32 if subnormal else x)
            k = k - _RAISED_32 if subnormal else k
            s = f / (_TWO_32 + f)
            z = s * s
            p = (_L3 * z + _L2) * z + _L1
            square = _HALF_32 * f * f
            y = k * _LN2_HIGH_32 - ((square - (s * (square + p * z) + k * _LN2_LOW_32)) - f)
            y = y if x < _INF_32 else x
            return y if x > _ZERO_32 else (-_INF_32 if x == _ZERO_32 else _NAN_32)

        return log32
    return None


def split_exponent_(x):
    """Return (f, k), floats with x = 2^k (1 + f) and 1 + f in [sqrt(1/2), sqrt(2)), for a positive normal x."""
    mantissa, k = math.frexp(x)
    return (mantissa - 1.0, k) if mantissa >= math.sqrt(0.5) else (2.0 * mantissa - 1.0, k - 1)


@overload(split_exponent_, jit_options=_INLINED)
def _split_exponent(x):
    if x == types.float64:

        def split64(x):
            shifted = _to_bits(x) + (_ONE_BITS - _SQRT_HALF_BITS)
            k = _from_bits((shifted >> 52) | 0x4330000000000000) - 4503599627371519.0  # 2^52 + 1023
            return _from_bits((shifted & 0xFFFFFFFFFFFFF) + _SQRT_HALF_BITS) - 1.0, k

        return split64
    if x == types.float32:

        def split32(x):
            shifted = np.int32(_to_bits(x) + (_ONE_BITS_32 - _SQRT_HALF_BITS_32))
            k = _from_bits(np.int32(((shifted >> 23) & 0xFF) | 0x4B000000)) - _EXPONENT_ZERO_32
            return _from_bits(np.int32((shifted & 0x7FFFFF) + _SQRT_HALF_BITS_32)) - _ONE_32, k

        return split32
    return None


def sincospi_(r):
    """Sine and cosine of pi r for |r| <= 1/4, inside Numba code.

    Parameters
    ----------
    r : float64 or float32 scalar
        The angle in half turns. Whoever starts from a random integer reaches the other angles by signs and a swap.

    Returns
    -------
    sin, cos : scalars of the dtype of `r`
        Both within 2.2 ulp.
    """
    return math.sin(math.pi * r), math.cos(math.pi * r)


_S1, _S3, _S5, _S7 = (
    np.float32(c) for c in (3.141592741012573, -5.167707920074463, 2.549766778945923, -0.589074075222)
)
_C2, _C4, _C6, _C8 = (
    np.float32(c) for c in (-4.934802055358887, 4.05871057510376, -1.3351378440857, 0.232125088572502)
)


@overload(sincospi_, jit_options=_INLINED)
def _sincospi(r):
    if r == types.float64:

        def sincospi64(r):
            z = r * r
            w = z * z
            p = 0.0004615313805851339 * w + (-0.0073700215052934955 * z + 0.08214586917478434)
            p = p * w + (-0.5992645289394928 * z + 2.550164039873374)
            p = p * w + (-5.167712780049954 * z + 3.141592653589793)
            q = -0.00010370073638949864 * z + 0.0019294938588529202
            q = q * w + (-0.025806887963676355 * z + 0.2353306302839623)
            q = q * w + (-1.335262768853809 * z + 4.058712126416765)
            q = q * w + (-4.934802200544679 * z + 1.0)
            return p * r, q

        return sincospi64
    if r == types.float32:

        def sincospi32(r):
            z = r * r
            w = z * z
            p = (_S7 * z + _S5) * w + (_S3 * z + _S1)
            q = (_C8 * w + (_C6 * z + _C4)) * w + (_C2 * z + _ONE_32)
            return p * r, q

        return sincospi32
    return None
