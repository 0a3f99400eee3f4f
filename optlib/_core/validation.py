"""Checks of input with uniform messages: which argument, what was got, what is expected, the usual fix."""

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import array_api_compat as compat
import numpy as np

from optlib.backend.namespace import (
    HOST_FLOATS,
    Array,
    array_namespace,
    as_floating,
    default_float,
    device_of,
    to_numpy,
)

_NUMPY = array_namespace()


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
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def option(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Check that a value is one of the choices.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not any(value is c or (type(value) is type(c) and value == c) for c in choices):
        raise error(name, _describe(value), "one of " + ", ".join(repr(c) for c in choices))
    return value


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
        if compat.is_array_api_obj(value) and not isinstance(value, np.generic):
            arrays[name] = value
        elif not (value is None or isinstance(value, (list, tuple, numbers.Real))):
            raise error(name, _describe(value), "an array, a list or a number", kind=TypeError)
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
