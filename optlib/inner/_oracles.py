"""The user's functions as the solvers call them: answers of the right shape, or an error that names the function."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array
from optlib.backend.threads import read_only

Smooth = Callable[[Array], tuple[Array, Array]]


def smooth(fun: Any) -> Smooth:
    """``fun(x) -> value, grad``, checked at every call.

    NumPy's x is handed out read-only, and the gradient is copied: it may be a buffer that the next call fills again.

    Raises
    ------
    TypeError
        If it is no function.
    """
    check.function("fun", fun, "a function of x that returns value and gradient")

    def checked(x: Array) -> tuple[Array, Array]:
        host = isinstance(x, np.ndarray)
        found = fun(read_only(x) if host else x)
        if not (isinstance(found, (tuple, list)) and len(found) == 2):
            raise check.error("fun", f"{type(found).__name__} from the function", "value and gradient", kind=TypeError)
        value = check.number_from("fun", "the function", found[0])
        grad = check.array_from("fun", "it as the gradient", found[1], x)
        return value, np.array(grad) if host else grad

    return checked


def mapping(name: str, function: Any, *, optional: bool = False) -> Any:
    """A function from points to points, such as a proximal map, checked at every call."""
    if check.function(name, function, optional=optional) is None:
        return None
    return lambda x, *more: check.array_from(name, "the function", function(x, *more), x)


def products(name: str, function: Any) -> Any:
    """``function(x)(v) -> array``, checked at every call; None stays None."""
    if check.function(name, function, "a function of x that returns a function of v", optional=True) is None:
        return None

    def at(x: Array) -> Callable[[Array], Array]:
        product = check.function(name, function(x), "a function of x that returns a function of v")
        return lambda v: check.array_from(name, "the product", product(v), v)

    return at


def matrix(name: str, function: Any, size: int) -> Any:
    """``function(x) -> array, shape (size, size)``, checked at every call; None stays None."""
    if check.function(name, function, "a function of x that returns a matrix", optional=True) is None:
        return None

    def at(x: Array) -> Array:
        found = function(x)
        if tuple(getattr(found, "shape", ())) != (size, size):
            got = f"shape {tuple(found.shape)}" if hasattr(found, "shape") else type(found).__name__
            raise check.error(name, f"{got} from the function", f"an array of shape ({size}, {size})")
        return found

    return at
