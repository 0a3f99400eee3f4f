"""What each solver supports: one table for the docs, the docstrings and the test marks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

BACKENDS = ("numpy", "cupy", "torch", "jax", "strict")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of one solver.

    Attributes
    ----------
    solver : callable
        The function or class.
    backends : tuple of str
        Array libraries that it accepts.
    sequential : bool
        Whether it loops over coordinates or rounds one by one, so that a GPU does not pay.
    gradients : tuple of str
        Inputs for which the result holds the derivative of the optimal value.
    """

    solver: Callable[..., Any]
    backends: tuple[str, ...]
    sequential: bool
    gradients: tuple[str, ...]


SOLVERS: dict[str, Capabilities] = {}


def supports(
    *, backends: tuple[str, ...] = BACKENDS, sequential: bool = False, gradients: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """Register a solver and say what it supports.

    Parameters
    ----------
    backends : tuple of str
        Subset of ``BACKENDS``.
    sequential : bool
        Whether the method is a loop over coordinates or rounds (slow on a GPU).
    gradients : tuple of str
        Inputs for which the result holds the derivative of the optimal value.
    """
    if unknown := set(backends) - set(BACKENDS):
        raise ValueError(f"`backends`: got {sorted(unknown)}; expected a subset of {BACKENDS}.")

    def decorate(solver: F) -> F:
        family = solver.__module__.split(".")[1]
        SOLVERS[f"{family}.{solver.__qualname__}"] = Capabilities(solver, backends, sequential, gradients)
        return solver

    return decorate
