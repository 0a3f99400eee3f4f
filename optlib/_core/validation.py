"""Checks of input with uniform messages: which argument, what was got, what is expected, the usual fix."""

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

import array_api_compat as compat
import numpy as np

from optlib.backend.namespace import (
    HOST_FLOATS,
    Array,
    array_namespace,
    as_floating,
    asarray_like,
    backend_name,
    default_float,
    device_of,
    to_numpy,
)

_NUMPY = array_namespace()
_CONVERSIONS = {"toarray": "x.toarray()", "__array__": "np.asarray(x)"}  # what is nearly an array: how to make it one


def error(name: str, got: Any, expected: str, fix: str = "", kind: type[Exception] = ValueError) -> Exception:
    """Return the exception to raise for an argument."""
    text = f"`{name}`: got {got if isinstance(got, str) else repr(got)}; expected {expected}."
    return kind(text + (f" Fix: {fix}" if fix else ""))


def scalar(
    name: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
    integer: bool = False,
    finite: bool = True,
    fix: str = "",
) -> Any:
    """Check a number and return it as ``int`` or ``float``.

    Parameters
    ----------
    name : str
        The argument, for the message.
    value : number
        Also a 0-d array of any backend.
    low, high : float
        Bounds; excluded if ``low_open`` / ``high_open``.
    integer : bool
    finite : bool
        Whether infinity is refused (NaN always is).
    fix : str

    Raises
    ------
    TypeError
        If it is not a real number (booleans, text and arrays with axes are not).
    ValueError
        If it is out of range.
    """
    if type(value) is float and low < value < high and not integer:
        return value
    what = _range_text(low, high, low_open, high_open, integer, finite)
    if compat.is_array_api_obj(value) and value.shape == () and not isinstance(value, np.generic):
        value = to_numpy(value).item()
    kind = numbers.Integral if integer else numbers.Real
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, kind):
        raise error(name, _describe(value), what, fix, TypeError)
    number: float = int(value) if isinstance(value, numbers.Integral) and integer else float(value)
    below = number < low or (low_open and number == low)
    above = number > high or (high_open and number == high)
    if math.isnan(number) or (finite and math.isinf(number)) or below or above:
        raise error(name, number, what, fix)
    return number


def _range_text(low: float, high: float, low_open: bool, high_open: bool, integer: bool, finite: bool) -> str:
    text = "an integer" if integer else "a finite number" if finite else "a number"
    bounds = []
    if low > -math.inf:
        bounds.append(f"{'>' if low_open else '>='} {low:g}")
    if high < math.inf:
        bounds.append(f"{'<' if high_open else '<='} {high:g}")
    return f"{text} {' and '.join(bounds)}".strip()


def _describe(value: Any) -> str:
    if compat.is_array_api_obj(value) and not isinstance(value, np.generic):
        return f"an array of shape {tuple(value.shape)}"
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def keywords(function: Callable[..., Any], given: Iterable[str], caller: str) -> None:
    """Check the names of options that a front door passes on.

    Parameters
    ----------
    function : callable
        What they are passed to.
    given : iterable of str
    caller : str
        The front door.

    Raises
    ------
    TypeError
        Naming the first option that the function does not have.
    """
    if (known := _keywords(function)) is not None and (unknown := [name for name in given if name not in known]):
        close = get_close_matches(unknown[0], known, 1)
        method = getattr(function, "__name__", "the method").lstrip("_")
        raise error(
            unknown[0], f"an option that {caller} (here {method}) does not have", f"one of {', '.join(sorted(known))}",
            f"did you mean `{close[0]}`?" if close else "", TypeError,
        )  # fmt: skip


@cache
def _keywords(function: Callable[..., Any]) -> frozenset[str] | None:
    """Names of the keyword-only parameters; None if it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


def sequence(name: str, value: Any, what: str) -> list[Any]:
    """Check that something can be gone through, and return what it holds.

    Raises
    ------
    TypeError
        If it cannot, or is text or a dictionary.
    """
    if isinstance(value, (str, dict)) or not isinstance(value, Iterable) or getattr(value, "shape", None) == ():
        raise error(name, _describe(value), what, kind=TypeError)
    return list(value)


def option(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Check that a value is one of the choices.

    Raises
    ------
    ValueError
        If it is not.
    """
    if isinstance(value, np.bool_):
        value = bool(value)
    if not any(value is c or (type(value) is type(c) and value == c) for c in choices):
        raise error(name, _describe(value), "one of " + ", ".join(repr(c) for c in choices))
    return value


def function(name: str, value: Any, what: str = "a function", *, optional: bool = False) -> Any:
    """Check that an argument can be called, or is None where that is allowed.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not (callable(value) or (optional and value is None)):
        raise error(name, _describe(value), what + (" or None" if optional else ""), kind=TypeError)
    return value


def number_from(name: str, source: str, found: Any) -> Any:
    """What a user's function returned, if it is a real number or a 0-d array.

    Parameters
    ----------
    name : str
        The argument that the function is, or belongs to.
    source : str
        The function, and which part of its answer.
    found : object

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    if isinstance(found, (int, float, np.integer, np.floating)) and type(found) is not bool:
        return found
    if not compat.is_array_api_obj(found) or getattr(found.dtype, "kind", "f") not in "fiu":
        raise error(name, f"{_describe(found)} from {source}", "a real number", kind=TypeError)
    if found.shape != ():
        raise error(name, f"a value of shape {tuple(found.shape)} from {source}", "a number")
    return found.detach() if getattr(found, "requires_grad", False) else found


def array_from(name: str, source: str, found: Any, like: Array, fix: str = "") -> Array:
    """What a user's function returned, if it is an array of the library and shape of ``like``, in its dtype.

    Parameters
    ----------
    name, source, found : see `number_from`
    like : array
    fix : str

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    detached = not getattr(found, "requires_grad", False)
    if type(found) is type(like) and found.shape == like.shape and found.dtype == like.dtype and detached:
        return found
    shape = tuple(like.shape)
    if shape == () and isinstance(found, numbers.Real):
        return asarray_like(found, like)
    if not compat.is_array_api_obj(found):
        raise error(name, f"{type(found).__name__} from {source}", f"an array of shape {shape}", fix, TypeError)
    if tuple(found.shape) != shape:
        raise error(name, f"an array of shape {tuple(found.shape)} from {source}", f"shape {shape}", fix)
    xp, own = array_namespace(like), array_namespace(found)
    if own is not xp:
        got = f"an array of {backend_name(own)} from {source}"
        raise error(name, got, f"one of {backend_name(xp)}", fix, TypeError)
    if not xp.isdtype(found.dtype, ("real floating", "integral")):
        raise error(name, f"entries of dtype {found.dtype} from {source}", "real numbers", fix, TypeError)
    return xp.astype(found if detached else found.detach(), like.dtype, copy=False)


def common(**named: Any) -> tuple[Any, Any, Any]:
    """Find the namespace, device and dtype that all the named arrays share.

    Parameters
    ----------
    **named : array, list, number or None
        Lists and numbers follow the arrays; without any array they mean NumPy float64.

    Returns
    -------
    xp : module
    device : object
    dtype : dtype
        The promotion of the floating dtypes (integers count as the default float).

    Raises
    ------
    TypeError
        If arrays of several libraries or devices are mixed, or entries are not real numbers.
    """
    if (dtype := _numpy_floats(named.values())) is not None:
        return _NUMPY, "cpu", dtype
    arrays = {}
    for name, value in named.items():
        if isinstance(value, np.ndarray) and value.dtype.kind not in "fiub":
            raise error(name, f"entries of dtype {value.dtype}", "real numbers", kind=TypeError)
        if isinstance(value, np.ma.MaskedArray):
            raise error(name, "a masked array", "numbers without gaps", "fill them: x.filled(...)", TypeError)
        if compat.is_array_api_obj(value) and not isinstance(value, np.generic):
            arrays[name] = value
        elif not (value is None or isinstance(value, (list, tuple, numbers.Real))):
            fix = next((f"pass {how}" for has, how in _CONVERSIONS.items() if hasattr(value, has)), "")
            raise error(name, _describe(value), "an array, a list or a number", fix, TypeError)
    if not arrays:
        xp = array_namespace()
        return xp, None, xp.float64
    libraries = {name: type(x).__module__.partition(".")[0] for name, x in arrays.items()}
    if len(set(libraries.values())) > 1:
        got = ", ".join(f"`{name}` from {library}" for name, library in libraries.items())
        raise error(", ".join(arrays), got, "arrays of one library", "move them with optlib.to_device", TypeError)
    xp = array_namespace(*arrays.values())
    devices = {name: device_of(x) for name, x in arrays.items()}
    first = next(iter(devices.values()))
    if any(d != first for d in devices.values()):
        got = ", ".join(f"`{name}` on {d}" for name, d in devices.items())
        raise error(", ".join(arrays), got, "arrays on one device", "move them with the library's own tools", TypeError)
    dtype = None
    for name, x in arrays.items():
        if xp.isdtype(x.dtype, "complex floating"):
            raise error(name, f"entries of dtype {x.dtype}", "real numbers", kind=TypeError)
        real = x.dtype in (xp.float32, xp.float64)
        own = x.dtype if real else default_float(xp, first)
        dtype = own if dtype is None else xp.result_type(dtype, own)
    return xp, first, dtype


def template(name: str, like: Any, dtype: Any = None) -> Array:
    """Check an array whose library, device and dtype others shall have; NumPy float64 by default.

    Raises
    ------
    TypeError
        If it is no array.
    """
    xp, device, own = common(**{name: like})
    return array(name, [] if like is None else like, xp=xp, finite=False, dtype=dtype or own, device=device)


def _numpy_floats(values: Iterable[Any]) -> Any:
    """The common dtype of floating NumPy arrays among plain numbers; None if there is anything else."""
    found = None
    for value in values:
        if type(value) is np.ndarray and value.dtype in HOST_FLOATS:
            found = value.dtype if found is None or found.itemsize == 4 else found
        elif not (value is None or type(value) in (float, int)):
            return None
    return found


def array(
    name: str,
    value: Any,
    *,
    xp: Any,
    ndim: int | None = None,
    shape: tuple[int | None, ...] | None = None,
    finite: bool = True,
    nonnegative: bool = False,
    dtype: Any = None,
    device: Any = None,
    fix: str = "",
    graph: bool = False,
) -> Array:
    """Check an array and return it as a floating array of the namespace.

    Parameters
    ----------
    name : str
    value : array or nested sequence
    xp : module
    ndim : int, optional
    shape : tuple, optional
        Wanted shape; None stands for any length.
    finite : bool
        Whether to refuse NaN and infinity (one reduction, one host transfer).
    nonnegative : bool
        Whether to refuse negative entries.
    dtype, device : optional
    fix : str
    graph : bool
        Whether a PyTorch tensor keeps its graph: what a function in closed form does can be differentiated. Of what an
        iteration does a graph would be huge, and its derivative wrong.

    Raises
    ------
    TypeError
        If the entries are not real numbers.
    ValueError
        If shape or values are wrong.
    """
    try:
        x = as_floating(value, xp=xp, dtype=dtype, device=device)
    except TypeError as failure:
        text = str(failure).removeprefix("got ")
        got, _, rest = text.partition("; expected ")
        raise error(name, got, rest.rstrip(".") or "real numbers", fix, TypeError) from failure
    except ValueError as failure:
        raise error(name, "a ragged sequence", "a rectangular array of numbers", fix) from failure
    if not graph and getattr(x, "requires_grad", False):
        x = x.detach()
    if ndim is not None and x.ndim != ndim:
        raise error(name, f"shape {tuple(x.shape)}", f"{ndim} dimension{'s' if ndim != 1 else ''}", fix)
    if shape is not None and (
        x.ndim != len(shape) or any(w is not None and w != g for w, g in zip(shape, x.shape, strict=True))
    ):
        want = "(" + ", ".join("any" if w is None else str(w) for w in shape) + ("," if len(shape) == 1 else "") + ")"
        raise error(name, f"shape {tuple(x.shape)}", f"shape {want}", fix)
    if (finite or nonnegative) and 0 not in x.shape:
        if finite and not bool(xp.all(xp.isfinite(x))):
            raise error(name, "an entry that is NaN or infinite", "finite numbers", fix)
        least = float(xp.min(x)) if nonnegative else 0.0
        if least < 0 or math.isnan(least):
            raise error(name, f"an entry {least:g}", "numbers >= 0", fix)
    return x
