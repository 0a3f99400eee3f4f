"""Every kernel variant agrees with its reference as its match class says, in float64 and float32."""

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optlib.backend import array_namespace
from optlib.backend.kernels import KERNELS
from tests.cases import collect, import_everything

import_everything()
CASES = collect("kernel_cases")
XP = array_namespace()
# match class -> (units in the last place per entry, relative tolerance to the largest entry) by dtype
ULPS = {"exact": 0, "ulp": 16}
RTOL = {"sum": {np.dtype("f8"): 1e-11, np.dtype("f4"): 2e-4}, "iterate": {np.dtype("f8"): 1e-9, np.dtype("f4"): 1e-3}}


def test_every_kernel_has_a_case():
    declared = {name for name, kernel in KERNELS.items() if kernel.numba is not None or kernel.cuda is not None}
    assert declared == set(CASES)


def test_variants_take_the_arguments_of_the_reference():
    for name, kernel in KERNELS.items():
        if kernel.numba is None:
            continue
        reference = [p for p in inspect.signature(kernel.generic).parameters if p != "xp"]
        assert list(inspect.signature(kernel.numba).parameters) == reference, name


def leaves(value):
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, tuple) else [value]


def cast(args, dtype):
    return tuple(
        a.astype(dtype)
        if isinstance(a, np.ndarray) and a.dtype.kind == "f"
        else cast(a, dtype)
        if isinstance(a, tuple)
        else a
        for a in args
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", sorted(CASES))
@given(data=st.data())
def test_numba_equals_reference(name, dtype, data):
    kernel = KERNELS[name]
    args = cast(data.draw(CASES[name]), dtype)
    before = [a.copy() for a in args if isinstance(a, np.ndarray)]
    with np.errstate(all="ignore"):
        fast, slow = kernel.numba(*args), kernel.generic(*args, xp=XP)
    assert all(
        np.array_equal(b, a, equal_nan=True)
        for b, a in zip(before, [a for a in args if isinstance(a, np.ndarray)], strict=True)
    )
    for u, v in zip(leaves(fast), leaves(slow), strict=True):
        u, v = np.asarray(u), np.asarray(v)
        assert u.shape == v.shape
        assert u.dtype == v.dtype
        if kernel.match in ULPS or v.dtype.kind != "f":
            same = (u == v) | (np.isnan(u) & np.isnan(v)) if v.dtype.kind == "f" else u == v
            if kernel.match == "ulp" and v.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    tiny = np.finfo(v.dtype).tiny
                    same |= np.abs(u - v) <= ULPS["ulp"] * np.maximum(np.spacing(np.abs(v)), tiny)
            assert np.all(same)
        else:
            finite = np.abs(v[np.isfinite(v)])
            scale = float(finite.max()) if finite.size else 0.0
            np.testing.assert_allclose(u, v, rtol=RTOL[kernel.match][v.dtype], atol=RTOL[kernel.match][v.dtype] * scale)
