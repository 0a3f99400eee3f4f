"""The front door of transport: one call that picks the method."""

from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import array_namespace
from optlib.transport._automatic import automatic
from optlib.transport._forbidden import forbidden_pairs, solve_allowed
from optlib.transport._problem import check_reg
from optlib.transport.emd import emd
from optlib.transport.emd_entropic import emd_entropic
from optlib.transport.quadratic import quadratic
from optlib.transport.result import TransportResult
from optlib.transport.sinkhorn import sinkhorn
from optlib.transport.sinkhorn_newton import sinkhorn_newton

METHODS: dict[str, Callable[..., TransportResult]] = {
    "emd": emd,
    "emd_entropic": emd_entropic,
    "quadratic": quadratic,
    "sinkhorn": sinkhorn,
    "sinkhorn_newton": sinkhorn_newton,
}


def solve(
    cost: Any,
    a: Any = None,
    b: Any = None,
    *,
    reg: float = 0.0,
    reg_type: str = "entropy",
    unbalanced: Any = None,
    unbalanced_type: str = "kl",
    method: str | Callable[..., TransportResult] = "auto",
    **options: Any,
) -> TransportResult:
    r"""Solve a transport problem by the method that fits it.

    Find the plan ``P >= 0`` that minimises ``<C, P> + reg KL(P | a b')`` among those with row sums ``a`` and column
    sums ``b``, with ``KL(p | q) = sum p log(p / q) - p + q``; or ``<C, P> + reg / 2 sum P^2``, whose plans are sparse.

    Parameters
    ----------
    cost : array, nested sequence or Cost, shape (n, m)
        A cost matrix, or for instance ``PointCloud(x, y)``, which never stores the n x m entries. Infinite entries of a
        matrix are pairs that must not be used.
    a, b : array or sequence, shapes (n,) and (m,), optional
        Weights >= 0 of the sources and targets, of the same total mass; None means uniform. Zeros are legal.
    reg : float
        Strength of the regularisation, in the units of the cost: 0.01 times the largest cost blurs visibly, 0.001
        little. The bounds ``lp_bounds`` tell how far the unregularised optimum can be. 0 asks for that optimum. For the
        unit of a quadratic regulariser see `optlib.transport.quadratic`.
    reg_type : {"entropy", "quadratic"}
        The regulariser: the relative entropy, or half the sum of squares.
    unbalanced : float or (float, float), optional
        Replaces the constraints on the marginals by penalties ``rho KL(P 1 | a)`` and ``rho KL(P' 1 | b)`` of this
        strength (one for both sides, or a pair; infinity keeps a constraint).
    unbalanced_type : {"kl", "tv"}
        Penalise by the relative entropy, or by the total variation, ``rho |P 1 - a|_1``.
    method : {"auto", "emd", "emd_entropic", "quadratic", "sinkhorn", "sinkhorn_newton"} or solver function
        ``"auto"`` takes the first rule that applies; see the Notes. The message of the result says which and why.
    **options : object
        Passed on to the method, among them everything that all solvers take: ``init``, ``tol``, ``maxiter``,
        ``check_every``, ``callback``, ``record``, ``max_time``, ``disp``, ``checkpoint``.

    Returns
    -------
    TransportResult
        With the lazy ``plan``, ``potentials``, ``value``, ``value_linear``, ``lp_bounds`` and the ``certificate``.
        Arrays are of the library, dtype and device of the input (lists mean NumPy).

    Raises
    ------
    TypeError
        For mixed libraries or devices, and entries that are not real numbers.
    ValueError
        For wrong shapes, costs that are not finite, negative or all-zero weights, masses that differ, ``reg < 0``,
        ``reg = 0`` or a quadratic regulariser with penalties, and methods that do not fit the regulariser.

    See Also
    --------
    optlib.transport.emd : The method for ``reg=0``.
    optlib.transport.emd_entropic : The same to high accuracy, on the device of the arrays.
    optlib.transport.quadratic : The method for the quadratic regulariser.
    optlib.transport.sinkhorn : Fast at large ``reg``, with options of its own, and for clouds of any size.
    optlib.transport.sinkhorn_newton : Fast at small ``reg``, and where Sinkhorn iterations stall.

    Notes
    -----
    ``method="auto"``: with ``reg=0``, ``"emd"``; for the quadratic regulariser, ``"quadratic"``. For the entropy
    Sinkhorn iterations are done first (at small ``reg`` on a path), and every 20 of them at the last level their
    rate is read off the errors; where it predicts more than 100 more (25 in the log form, 300 if few entries of the
    kernel count), ``"sinkhorn_newton"`` takes over, from the potentials found so far. (Measured at n = 300 and 1000,
    ``reg`` from 1e-2 to 1e-5: within a factor of two of the faster method everywhere, and faster than both on clouds.)
    Total variation goes to ``"sinkhorn_newton"`` at once; problems of more than 2^27 entries, whose plans are not
    stored, and options that only ``"sinkhorn"`` has (``acceleration``) stay with that.

    Examples
    --------
    >>> import optlib
    >>> res = optlib.transport.solve([[0, 1, 4], [1, 0, 1]], [0.5, 0.5], [0.5, 0.25, 0.25], reg=0.05)
    >>> res.success
    True
    >>> res.plan.toarray().round(3)
    array([[0.5 , 0.  , 0.  ],
           [0.  , 0.25, 0.25]])
    >>> low, high = res.lp_bounds
    >>> low <= 0.25 <= high
    True
    """
    check.option("reg_type", reg_type, ("entropy", "quadratic"))
    if not callable(method):
        check.option("method", method, ("auto", *METHODS))
    exact = not isinstance(reg, (bool, str)) and getattr(reg, "shape", ()) == () and reg == 0
    if exact and unbalanced is not None:
        raise check.error("reg", reg, "a finite number > 0 if marginals are penalised", "pass a small reg")
    if reg_type == "quadratic" and unbalanced is not None:
        raise check.error("unbalanced", unbalanced, "None for the quadratic regulariser", 'use reg_type="entropy"')
    if method == "auto":
        if exact:
            method, why = "emd", "for reg=0"
        elif reg_type == "quadratic":
            method, why = "quadratic", "for the quadratic regulariser"
        else:
            method = sinkhorn if "acceleration" in options else automatic
            why = f"for the entropy with reg={check_reg(reg):g}"
    else:
        why = "as asked"
        if not exact and (method in ("quadratic", quadratic)) != (reg_type == "quadratic"):
            raise check.error("method", method, f"a method for reg_type={reg_type!r}", 'pass method="auto"')
    if not callable(method):
        method = METHODS[method]
    if method not in (emd, emd_entropic):
        options["reg"] = check_reg(reg)
    elif not exact:
        raise check.error("reg", reg, f'0 for method="{method.__name__}"', 'pass method="auto", or no reg')
    if unbalanced is not None:
        options["unbalanced"] = unbalanced
    if unbalanced_type != "kl":
        options["unbalanced_type"] = check.option("unbalanced_type", unbalanced_type, ("kl", "tv"))
        if method not in (automatic, sinkhorn_newton):
            raise check.error("unbalanced_type", unbalanced_type, "'kl' for this method", 'pass method="auto"')
    check.keywords(method, options, "solve")
    cost, forbidden = forbidden_pairs(cost, a, b)
    if forbidden is None:
        result = method(cost, a, b, **options)
    else:
        result = solve_allowed(method, cost, forbidden, a, b, options, xp=array_namespace(cost))
    result.message = f"{result.method} {why}: {result.message}"
    return result
