"""Messages name the argument, what was got, what is expected, and the fix."""

import array_api_strict as strict
import numpy as np
import pytest
import scipy.sparse as sp

from optlib._core import validation as check


@pytest.mark.parametrize(
    ("value", "options", "kind", "message"),
    [
        (-1.0, {"low": 0, "low_open": True}, ValueError, "`reg`: got -1.0; expected a finite number > 0."),
        (np.nan, {}, ValueError, "`reg`: got nan; expected a finite number."),
        (np.inf, {}, ValueError, "`reg`: got inf; expected a finite number."),
        ("x", {}, TypeError, "`reg`: got 'x' (str); expected a finite number."),
        (True, {}, TypeError, "`reg`: got True (bool); expected a finite number."),
        (1.0, {"integer": True}, TypeError, "`reg`: got 1.0 (float); expected an integer."),
        (np.ones(3), {}, TypeError, "`reg`: got an array of shape (3,); expected a finite number."),
        (5, {"low": 0, "high": 4, "integer": True, "fix": "take 4"}, ValueError,
         "`reg`: got 5; expected an integer >= 0 and <= 4. Fix: take 4"),
        (1j, {}, TypeError, "`reg`: got 1j (complex); expected a finite number."),
        (None, {}, TypeError, "`reg`: got None (NoneType); expected a finite number."),
    ],
)  # fmt: skip
def test_scalar(value, options, kind, message):
    with pytest.raises(kind) as caught:
        check.scalar("reg", value, **options)
    assert str(caught.value) == message


def test_scalar_accepts_numbers_of_all_libraries(backend):
    assert check.scalar("reg", backend.asarray(np.asarray(0.5))) == 0.5
    assert type(check.scalar("reg", np.float32(0.5))) is float
    assert type(check.scalar("k", np.int64(3), integer=True)) is int
    assert check.scalar("rho", np.inf, finite=False) == np.inf


def test_option():
    assert check.option("method", "log", ("auto", "log")) == "log"
    with pytest.raises(ValueError, match=r"`method`: got 'lgo' .str.; expected one of 'auto', 'log'"):
        check.option("method", "lgo", ("auto", "log"))
    assert check.option("record", np.True_, (True, False)) is True
    for wrong in (1, "yes", None, np.array([True])):
        with pytest.raises(ValueError, match="`record`"):
            check.option("record", wrong, (True, False))


@pytest.mark.parametrize(
    ("value", "options", "kind", "message"),
    [
        ([[1, 2], [3]], {}, ValueError, "`a`: got a ragged sequence"),
        (["x"], {}, TypeError, "`a`: got entries of dtype <U1; expected real numbers"),
        (np.array([None]), {}, TypeError, "`a`: got entries of dtype object; expected real numbers"),
        (np.ones(2, dtype=complex), {}, TypeError, "`a`: got .*complex128"),
        ([1.0, np.nan], {}, ValueError, "`a`: got an entry that is NaN or infinite"),
        ([1.0, -2.0], {"nonnegative": True}, ValueError, "`a`: got an entry -2; expected numbers >= 0"),
        ([[1.0]], {"ndim": 1}, ValueError, r"`a`: got shape \(1, 1\); expected 1 dimension"),
        ([1.0], {"shape": (2,)}, ValueError, r"`a`: got shape \(1,\); expected shape \(2,\)"),
        ([1.0], {"shape": (None, 2)}, ValueError, r"expected shape \(any, 2\)"),
    ],
)
def test_array(value, options, kind, message):
    with pytest.raises(kind, match=message):
        check.array("a", value, xp=check.array_namespace(), **options)


def test_array_keeps_what_is_right(backend):
    x = backend.asarray([0.0, 1.0])
    assert check.array("a", x, xp=backend.xp, nonnegative=True, shape=(None,)) is x
    ints = check.array("a", backend.asarray(np.arange(3)), xp=backend.xp)
    assert backend.xp.isdtype(ints.dtype, "real floating")
    assert check.array("a", [1, 2], xp=backend.xp, dtype=backend.dtype, device=backend.device).dtype == backend.dtype
    assert check.array("a", np.zeros((0, 2)), xp=check.array_namespace(), nonnegative=True).shape == (0, 2)


def test_common(backend):
    x = backend.asarray([1.0])
    xp, _, dtype = check.common(a=None, b=[1.0], c=x, d=2)
    assert (xp, dtype) == (backend.xp, x.dtype)
    assert check.common(a=[1, 2])[2] == np.float64
    assert check.common(a=np.ones(2, "f4"), b=np.arange(2))[2] == np.float64


def test_common_refuses_mixtures():
    here, there = strict.asarray([1.0]), strict.asarray([1.0], device=strict.Device("device1"))
    with pytest.raises(TypeError, match="`a` from array_api_strict, `b` from numpy; expected arrays of one library"):
        check.common(a=here, b=np.ones(1))
    with pytest.raises(TypeError, match="expected arrays on one device"):
        check.common(a=here, b=there)
    with pytest.raises(TypeError, match=r"`a`: got 'x' .str.; expected an array"):
        check.common(a="x")
    with pytest.raises(TypeError, match="`b`: got entries of dtype complex128"):
        check.common(a=np.ones(1), b=np.ones(1, dtype=complex))
    with pytest.raises(TypeError, match=r"`b`: got entries of dtype .*complex128"):
        check.common(a=here, b=strict.asarray([1j]))


class Frame:
    """A table of another library."""

    def __array__(self, dtype=None, copy=None):
        return np.ones(2)

    def __repr__(self):
        return "Frame"


def test_nearly_arrays_are_refused_with_the_way_out():
    with pytest.raises(TypeError, match=r"`a`: got a masked array; .*filled"):
        check.common(a=np.ma.masked_array([1.0, 2.0], mask=[True, False]))
    with pytest.raises(TypeError, match=r"`a`: got Frame.*Fix: pass np.asarray\(x\)"):
        check.common(a=Frame())
    with pytest.raises(TypeError, match=r"`a`: got .*Fix: pass x.toarray\(\)"):
        check.common(a=sp.csr_array(np.eye(2)))


def test_graphs_are_left_behind():
    torch = pytest.importorskip("torch")
    x = torch.ones(2, requires_grad=True)
    assert not check.array("a", x, xp=check.array_namespace(x)).requires_grad
    assert check.array("a", x, xp=check.array_namespace(x), graph=True).requires_grad


def test_keywords():
    def method(x, *, tol=1.0, maxiter=3): ...

    check.keywords(method, ["tol"], "solve")
    check.keywords(lambda **options: options, ["anything"], "solve")
    match = r"`max_iter`: got an option that solve .here method. does not have; expected one of maxiter, tol.*`maxiter`"
    with pytest.raises(TypeError, match=match):
        check.keywords(method, ["tol", "max_iter"], "solve")


def test_functions():
    assert check.function("fun", len) is len and check.function("fun", None, optional=True) is None
    for wrong in (None, 3, "abc"):
        with pytest.raises(TypeError, match=r"`fun`: got .*expected a function"):
            check.function("fun", wrong)


@pytest.mark.parametrize(
    ("found", "kind", "match"),
    [
        (None, TypeError, "`fun`: got NoneType from it"),
        ([1.0, 2.0], TypeError, "`fun`: got list from it"),
        (np.ones(3), ValueError, r"`fun`: got an array of shape \(3,\) from it; expected shape \(2,\)"),
        (np.ones((2, 1)), ValueError, r"`fun`: got an array of shape \(2, 1\)"),
        (1j * np.ones(2), TypeError, "`fun`: got entries of dtype complex128"),
        (np.array([True, False]), TypeError, "`fun`: got entries of dtype bool"),
        (strict.ones(2), TypeError, "`fun`: got an array of strict from it"),
    ],
)
def test_answers_of_functions(found, kind, match):
    with pytest.raises(kind, match=match):
        check.array_from("fun", "it", found, np.ones(2))


def test_answers_are_cast():
    like = np.ones(2)
    assert check.array_from("fun", "it", like, like) is like
    assert check.array_from("fun", "it", np.ones(2, "f4"), like).dtype == np.float64
    assert check.array_from("fun", "it", np.arange(2), like).dtype == np.float64
    assert check.array_from("fun", "it", np.float64(2.0), np.array(1.0)) == 2.0
    assert check.number_from("fun", "it", np.float32(2.0)) == check.number_from("fun", "it", np.array(2.0)) == 2.0
    for wrong in (None, "1", 1j, np.array(1j), like):
        with pytest.raises((TypeError, ValueError), match=r"`fun`: got .* from it"):
            check.number_from("fun", "it", wrong)


def test_template(backend):
    like = backend.asarray([1.0])
    assert check.template("like", like).dtype == like.dtype
    assert check.template("like", None).dtype == np.float64
    for wrong in ("abc", {}, object(), 1j, ["a"]):
        with pytest.raises(TypeError, match="`like`: got"):
            check.template("like", wrong)
