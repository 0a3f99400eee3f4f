"""The front door: picks the method by the number of hyperparameters, and says which and why."""

import math
import warnings
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import array_namespace
from optlib.bilevel.bamm import bamm
from optlib.bilevel.bda import bda
from optlib.bilevel.bo_rep import bo_rep
from optlib.bilevel.call import choose
from optlib.bilevel.elbo import elbo
from optlib.bilevel.f2sa import f2sa
from optlib.bilevel.hierarchy_free import hierarchy_free
from optlib.bilevel.hoag import hoag
from optlib.bilevel.lv_hba import lv_hba
from optlib.bilevel.maid import maid
from optlib.bilevel.nonsmooth import nonsmooth
from optlib.bilevel.oracles import box
from optlib.bilevel.penalty import penalty
from optlib.bilevel.piecewise import piecewise
from optlib.bilevel.problem import beginning, require
from optlib.bilevel.quasi_newton import quasi_newton
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.saba import saba
from optlib.bilevel.scalar import scalar
from optlib.bilevel.self_tuning import self_tuning
from optlib.bilevel.soba import soba
from optlib.bilevel.truncated import truncated

METHODS = {
    "scalar": scalar,
    "quasi_newton": quasi_newton,
    "piecewise": piecewise,
    "nonsmooth": nonsmooth,
    "hoag": hoag,
    "maid": maid,
    "truncated": truncated,
    "penalty": penalty,
    "saba": saba,
    "soba": soba,
    "f2sa": f2sa,
    "bo_rep": bo_rep,
    "bda": bda,
    "bamm": bamm,
    "lv_hba": lv_hba,
    "elbo": elbo,
    "hierarchy_free": hierarchy_free,
    "self_tuning": self_tuning,
}

UNVALIDATED = ("elbo",)  # methods without validation samples


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
        ``"auto"``: `lv_hba` for inner problems with constraints, `bamm` for those that know their least curvature to
        be 0 and have products of F, `penalty` for problems without products of second order, `piecewise` for one
        penalty with kinks and `nonsmooth` for several, else `scalar` for one hyperparameter and `quasi_newton` for
        several; or a name, or a solver itself.
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
    size = math.prod(beginning(problem)[0].shape)
    samples = getattr(problem, "n_valid", None)
    if samples is not None and method not in UNVALIDATED and size > max(1, samples // 10):
        warnings.warn(
            f"{size} hyperparameters for {samples} validation samples: the loss found will be too good to be true; "
            "measure on samples of their own, or use folds",
            stacklevel=2,
        )
    fresh = x0 is None and options.get("init") is None
    if method != "auto":
        why = "as asked"
    elif callable(getattr(problem, "constraints", None)):
        method, why = "lv_hba", "inner constraints"
    elif _singular(problem):
        method, why = "bamm", "an inner problem that is convex, but not strongly so"
    elif choose(problem, problem.start()[1]) == "penalty":
        method, why = "penalty", "no products of second order"
    elif size == 1 and callable(getattr(problem, "piece", None)):
        method, why = "piecewise", "one penalty with kinks"
    elif not getattr(problem, "smooth", True):
        method, why = "nonsmooth", f"{size} hyperparameters, a loss with kinks"
        if fresh and (tied := _tied(problem, bounds)) is not None:
            x0 = problem.untie(tune(tied, tol=1e-2, record=False).x)
            why += ", from the best common ones"
    else:
        method, why = ("scalar", "one hyperparameter") if size == 1 else ("quasi_newton", f"{size} hyperparameters")
    if method == "quasi_newton" and fresh and hasattr(problem, "tied") and problem.tied().start()[0].shape == (1,):
        untie = getattr(problem, "untie", None)
        low, high = _common(problem, bounds) if untie is None else problem.tied().bounds()
        if low < high:
            common = scalar(
                problem.tied(), bounds=(low, high), tol=1e-3, record=False, start=options.get("start", "warm")
            )
            x0 = problem.start()[0] + common.x[0] if untie is None else untie(common.x)
            why += f", from the common penalty {float(common.x[0]):.3g}"
    check.keywords(METHODS[method], options, "tune")
    result = METHODS[method](problem, x0, bounds=bounds, **options)
    result["message"] = f"{method} ({why}): {result.message}"
    return result


def _singular(problem: Any) -> bool:
    """Whether the inner problem knows that it is not strongly convex, and has what `bamm` needs."""
    mu = getattr(problem, "mu", None)
    products = all(callable(getattr(problem, name, None)) for name in ("hvp_outer", "cross_outer"))
    return products and callable(mu) and mu(problem.start()[0]) == 0.0


def _tied(problem: Any, bounds: Any) -> Any:
    """The problem with common penalties, if there is one with fewer, and no box that may exclude them."""
    if bounds is not None or not callable(getattr(problem, "untie", None)):
        return None
    tied = problem.tied()
    return tied if math.prod(tied.start()[0].shape) < math.prod(problem.start()[0].shape) else None


def _common(problem: Any, bounds: Any) -> tuple[float, float]:
    """The interval of one penalty that is in the box of all of them, and in that of the tied problem."""
    start = problem.start()[0]
    xp = array_namespace(start)
    low, high = box(problem, bounds, start, xp)
    least, most = problem.tied().bounds()
    return max(float(xp.max(low)), least), min(float(xp.min(high)), most)
