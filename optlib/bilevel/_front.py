"""The front door: picks the method by the number of hyperparameters, and says which and why."""

import math
import warnings
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import array_namespace
from optlib.bilevel.bamm import bamm
from optlib.bilevel.bda import bda
from optlib.bilevel.hierarchy_free import hierarchy_free
from optlib.bilevel.hoag import hoag
from optlib.bilevel.oracles import box
from optlib.bilevel.problem import require
from optlib.bilevel.quasi_newton import quasi_newton
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.scalar import scalar

METHODS = {
    "scalar": scalar,
    "quasi_newton": quasi_newton,
    "hoag": hoag,
    "bda": bda,
    "bamm": bamm,
    "hierarchy_free": hierarchy_free,
}


def tune(
    problem: Any,
    x0: Any = None,
    *,
    bounds: Any = None,
    method: str | Callable[..., BilevelResult] = "auto",
    **options: Any,
) -> BilevelResult:
    """Minimise the validation loss ``Phi(x) = F(x, y*(x))`` over the hyperparameters.

    Parameters
    ----------
    problem : object
        Such as `RidgeProblem`, or an own one with the oracles of `Problem`.
    x0 : array, optional
        Start; by default ``problem.start()``, and for penalties the best common one.
    bounds : (float or array, float or array), optional
        Box; by default ``problem.bounds()``.
    method : str or callable
        ``"auto"``: `scalar` for one hyperparameter, else `quasi_newton`; or a name, or a solver itself.
    **options : optional
        Of the method: ``tol``, ``maxiter``, ``callback``, ``start`` ("warm" or "cold"), ``refit``, ...

    Returns
    -------
    BilevelResult
        ``message`` says which method ran and why.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument; a missing oracle is named with the methods that do without.

    Warns
    -----
    UserWarning
        If there are more hyperparameters than a tenth of the validation samples: their loss is then fitted too well to
        tell how good the model is.

    Notes
    -----
    Problems with penalties (that have ``tied()``) are first tuned with one common penalty by `scalar`: untied starts
    at the corners of the box end up to ten times higher. What a common one means for hyperparameters that are not all
    penalties says ``untie(x)``. Multi-penalty losses have many local minima, some percent
    apart; the method finds one.

    Examples
    --------
    >>> from optlib.bilevel import RidgeProblem, tune
    >>> res = tune(RidgeProblem.random(60, 5, rng=1, penalty="scalar"))
    >>> res.method, res.success
    ('scalar', True)
    """
    require(problem, ("inner", "outer", "start"), "tune")
    if callable(method):
        return method(problem, x0, bounds=bounds, **options)
    check.option("method", method, ("auto", *METHODS))
    size = math.prod(problem.start()[0].shape)
    samples = getattr(problem, "n_valid", None)
    if samples is not None and size > max(1, samples // 10):
        warnings.warn(
            f"{size} hyperparameters for {samples} validation samples: the loss found will be too good to be true; "
            "measure on samples of their own, or use folds",
            stacklevel=2,
        )
    if method == "auto":
        method, why = ("scalar", "one hyperparameter") if size == 1 else ("quasi_newton", f"{size} hyperparameters")
    else:
        why = "as asked"
    if method == "quasi_newton" and x0 is None and options.get("init") is None and hasattr(problem, "tied"):
        untie = getattr(problem, "untie", None)
        low, high = _common(problem, bounds) if untie is None else problem.tied().bounds()
        if low < high:
            common = scalar(
                problem.tied(), bounds=(low, high), tol=1e-3, record=False, start=options.get("start", "warm")
            )
            x0 = problem.start()[0] + common.x[0] if untie is None else untie(common.x)
            why += f", from the common penalty {float(common.x[0]):.3g}"
    result = METHODS[method](problem, x0, bounds=bounds, **options)
    result["message"] = f"{method} ({why}): {result.message}"
    return result


def _common(problem: Any, bounds: Any) -> tuple[float, float]:
    """The interval of one penalty that is in the box of all of them, and in that of the tied problem."""
    start = problem.start()[0]
    xp = array_namespace(start)
    low, high = box(problem, bounds, start, xp)
    least, most = problem.tied().bounds()
    return max(float(xp.max(low)), least), min(float(xp.min(high)), most)
