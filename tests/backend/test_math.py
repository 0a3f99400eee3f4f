"""The vector functions of Numba kernels against extended precision, on the whole range and at its edges."""

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numba import njit

from optlib.backend._math_numba import exp2_, exp_, log_, sincospi_

DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
PI = np.longdouble("3.14159265358979323846264338327950288")
SMALLEST_EXPONENT = {np.float64: -708.396, np.float32: -87.336}  # exp of it is a normal number
LARGEST_EXPONENT = {np.float64: 709.782, np.float32: 88.722}


@njit(error_model="numpy")
def exp_loop(x, out):
    for j in range(x.size):
        out[j] = exp_(x[j])


@njit(error_model="numpy")
def exp2_loop(x, out):
    for j in range(x.size):
        out[j] = exp2_(x[j])


@njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def exp_sum(x):
    total = x.dtype.type(0)
    for j in range(x.size):
        total += exp_(x[j])
    return total


@njit(error_model="numpy")
def log_loop(x, out):
    for j in range(x.size):
        out[j] = log_(x[j])


@njit(error_model="numpy")
def sincospi_loop(x, sine, cosine):
    for j in range(x.size):
        sine[j], cosine[j] = sincospi_(x[j])


def apply(loop, x):
    out = np.empty_like(x)
    loop(x, out)
    return out


def ulps(actual, exact):
    """Return the errors in units in the last place of the exact result, an array of longer numbers."""
    if actual.dtype == np.float64 and np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("no extended precision on this platform")
    return np.abs(actual - exact) / np.spacing(np.abs(exact.astype(actual.dtype)))


def longer(x):
    return x.astype(np.longdouble if x.dtype == np.float64 else np.float64)


@DTYPES
def test_exp_is_accurate_on_the_whole_range(dtype):
    low, high = SMALLEST_EXPONENT[dtype], LARGEST_EXPONENT[dtype]
    for x in (np.linspace(low, high, 400_001), np.linspace(-0.5, 0.5, 200_001), np.geomspace(1e-30, 1.0, 10_001)):
        x = x.astype(dtype)
        assert ulps(apply(exp_loop, x), np.exp(longer(x))).max() < 1.2


@DTYPES
@given(data=st.data())
def test_exp_of_anything(dtype, data):
    width = np.dtype(dtype).itemsize * 8
    x = data.draw(hnp.arrays(dtype, st.integers(0, 40), elements=st.floats(width=width)))
    y = apply(exp_loop, x)
    with np.errstate(all="ignore"):
        exact = np.exp(x)
    tiny = np.finfo(dtype).tiny
    normal = (exact >= 2 * tiny) & (exact < np.inf)
    assert np.all(np.abs(y[normal] - exact[normal]) <= 4 * np.spacing(exact[normal]))
    assert np.all(y[exact < tiny] == 0)
    assert np.array_equal(np.isnan(y), np.isnan(x))
    assert np.all(y[exact == np.inf] == np.inf)


@DTYPES
def test_exp_at_the_edges(dtype):
    inf, nan = np.inf, np.nan
    y = apply(exp_loop, np.asarray([0.0, -0.0, inf, -inf, nan, -nan, 1e30, -1e30, 5e-324], dtype=dtype))
    np.testing.assert_array_equal(y, np.asarray([1, 1, inf, 0, nan, nan, inf, 0, 1], dtype=dtype))
    info = np.finfo(dtype)
    # The largest argument with a finite result and the smallest with a normal one, and their neighbours.
    top = np.log(longer(np.asarray(info.max, dtype=dtype))).astype(dtype)
    top = top if longer(top) <= np.log(longer(np.asarray(info.max))) else np.nextafter(top, dtype(0))
    y = apply(exp_loop, np.asarray([top, np.nextafter(top, dtype(inf))]))
    assert np.isfinite(y[0])
    assert y[1] == inf
    bottom = np.log(longer(np.asarray(info.tiny, dtype=dtype))).astype(dtype)
    y = apply(exp_loop, np.asarray([bottom * dtype(1 + 4 * info.eps), bottom * dtype(1 - 4 * info.eps)]))
    assert y[0] == 0
    assert y[1] >= info.tiny


@DTYPES
def test_exp2_is_accurate_on_its_range(dtype):
    low, high = np.finfo(dtype).minexp, np.finfo(dtype).maxexp
    for x in (np.linspace(low, high, 400_001)[:-1], np.linspace(-0.5, 0.5, 200_001), np.geomspace(1e-30, 1.0, 10_001)):
        x = x.astype(dtype)
        x = x[x < high]
        assert ulps(apply(exp2_loop, x), np.exp2(longer(x))).max() < 1.3


@DTYPES
def test_exp2_at_the_edges(dtype):
    info = np.finfo(dtype)
    y = apply(exp2_loop, np.asarray([0, -0.0, info.minexp, info.maxexp - 1, info.maxexp, np.nan, -np.nan], dtype=dtype))
    np.testing.assert_array_equal(
        y, np.asarray([1, 1, info.tiny, 2.0 ** (info.maxexp - 1), np.inf, np.nan, np.nan], dtype=dtype)
    )


@DTYPES
def test_a_nan_with_any_payload_stays_nan(dtype):
    integer = np.int64 if dtype == np.float64 else np.int32
    bits = np.asarray(np.nan, dtype=dtype).view(integer) | np.arange(64, dtype=integer)
    for x in (bits.view(dtype), -bits.view(dtype)):
        assert np.isnan(apply(exp_loop, x)).all()
        assert np.isnan(apply(log_loop, x)).all()


@DTYPES
def test_log_is_accurate_on_the_whole_range(dtype):
    info = np.finfo(dtype)
    exponents = np.random.default_rng(0).uniform(np.log2(info.smallest_subnormal), info.maxexp - 1e-3, 300_000)
    near_one = 1 + np.concatenate([s * np.geomspace(info.eps, 0.5, 50_001) for s in (-1, 1)])
    for x in (np.exp2(exponents), np.linspace(0.4, 2.5, 400_001), near_one):
        x = x.astype(dtype)
        x = x[(x > 0) & (x != 1)]
        assert ulps(apply(log_loop, x), np.log(longer(x))).max() < 0.9


@DTYPES
@given(data=st.data())
def test_log_of_anything(dtype, data):
    width = np.dtype(dtype).itemsize * 8
    x = data.draw(hnp.arrays(dtype, st.integers(0, 40), elements=st.floats(width=width)))
    with np.errstate(all="ignore"):
        exact = np.log(x)
    np.testing.assert_allclose(apply(log_loop, x), exact, rtol=4 * np.finfo(dtype).eps, atol=0)


@DTYPES
def test_log_at_the_edges(dtype):
    inf, nan = np.inf, np.nan
    y = apply(log_loop, np.asarray([1.0, 0.0, -0.0, inf, -inf, -1.0, nan], dtype=dtype))
    np.testing.assert_array_equal(y, np.asarray([0, -inf, -inf, inf, nan, nan, nan], dtype=dtype))


@DTYPES
def test_sincospi_is_accurate(dtype):
    for x in (np.linspace(-0.25, 0.25, 200_001), np.geomspace(1e-30, 0.25, 10_001)):
        x = x.astype(dtype)
        sine, cosine = np.empty_like(x), np.empty_like(x)
        sincospi_loop(x, sine, cosine)
        angle = longer(x) * PI if dtype == np.float64 else longer(x) * np.pi
        some = x != 0
        assert ulps(sine[some], np.sin(angle[some])).max() < 2.2
        assert ulps(cosine, np.cos(angle)).max() < 2.2
        assert np.all(sine[~some] == 0)


@DTYPES
@pytest.mark.parametrize("loop", [exp_loop, exp2_loop, log_loop], ids=["exp", "exp2", "log"])
def test_entries_do_not_depend_on_their_neighbours(dtype, loop):
    x = np.random.default_rng(0).uniform(0.1, 20, 301).astype(dtype)
    whole = apply(loop, x)
    for cut in (1, 7, 64, 100):
        assert np.array_equal(np.concatenate([apply(loop, x[:cut]), apply(loop, x[cut:])]), whole)


@DTYPES
def test_sum_by_a_caller_that_may_reassociate(dtype):
    x = np.random.default_rng(0).uniform(-30, 0, 1000).astype(dtype)
    assert exp_sum(x) == pytest.approx(np.exp(x.astype(np.float64)).sum(), rel=100 * float(np.finfo(dtype).eps))
    assert np.isnan(exp_sum(np.asarray([0, np.nan, 1], dtype=dtype)))
    assert exp_sum(np.asarray([0, 1000, 1], dtype=dtype)) == np.inf


@pytest.mark.parametrize("loop", [exp_loop, exp2_loop, exp_sum, log_loop, sincospi_loop], ids=lambda f: f.__name__)
@DTYPES
def test_loops_are_vector_code(dtype, loop):
    x = np.full(4, 0.1, dtype=dtype)
    arrays = [np.empty_like(x) for _ in range(loop.py_func.__code__.co_argcount - 1)]
    loop(x, *arrays)
    signature = next(s for s in loop.signatures if str(s[0].dtype) == np.dtype(dtype).name)
    code = loop.inspect_llvm(signature)
    number = "double" if dtype == np.float64 else "float"
    assert re.search(rf"fmul (contract |reassoc |nsz )*<\d+ x {number}>", code)
    assert "@exp" not in code
    assert "@log" not in code


def test_callers_are_cached(tmp_path):
    (tmp_path / "caller.py").write_text(
        "import numpy as np\n"
        "from numba import njit\n"
        "from optlib.backend._math_numba import exp_\n"
        "@njit(cache=True)\n"
        "def loop(x, out):\n"
        "    for j in range(x.size):\n"
        "        out[j] = exp_(x[j])\n"
        "loop(np.ones(3), np.ones(3))\n"
        "print(sum(loop.stats.cache_hits.values()))\n"
    )
    hits = [
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import caller"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert [int(h) for h in hits] == [0, 1]
