"""Forbidden pairs: infinite entries of a cost matrix, priced so high that no plan worth having uses them."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array
from optlib.transport.cost import Cost, DenseCost
from optlib.transport.emd import emd
from optlib.transport.result import TransportResult

NEGLIGIBLE = 1e-9  # share of the mass that may lack a way, for rounding
DEPTH = 50.0  # forbidden pairs of an entropic plan carry less than exp(-50) of what allowed ones could


def forbidden_pairs(cost: Any, a: Any, b: Any) -> tuple[Any, Array | None]:
    """The cost, and a mask of its infinite entries if it is a matrix that has some."""
    if isinstance(cost, Cost):
        return cost, None
    xp, device, dtype = check.common(cost=cost, a=a, b=b)
    cost = check.array("cost", cost, xp=xp, finite=False, dtype=dtype, device=device)
    try:
        return DenseCost(cost), None
    except ValueError:
        if cost.ndim != 2 or 0 in cost.shape or not bool(xp.max(cost) == math.inf):
            raise
    return cost, cost == math.inf


def solve_allowed(
    method: Callable[..., TransportResult],
    cost: Array,
    mask: Array,
    a: Any,
    b: Any,
    options: dict[str, Any],
    *,
    xp: Any,
) -> TransportResult:
    """Solve with a finite price on forbidden pairs, and certify that the plan uses none.

    An optimal plan at a price of more than ``min(n, m)`` cost ranges above the largest cost uses forbidden pairs only
    if all plans do: taking them out of a plan changes it along cycles of at most that many pairs. So the bounds of the
    unregularised problem hold. Whether a plan without them exists is decided by the linear program that counts them.
    """
    if bool(xp.all(mask)):
        raise check.error("cost", "infinite entries only", "some pairs that are allowed")
    low = float(xp.min(xp.where(mask, xp.max(xp.where(mask, -math.inf, cost)), cost)))
    high = float(xp.max(xp.where(mask, low, cost)))
    spread = (high - low) or max(abs(high), 1.0)
    unbalanced = options.get("unbalanced")
    if unbalanced is None:
        counted = emd(xp.astype(mask, cost.dtype), a, b)
        if counted.value > NEGLIGIBLE * float(xp.sum(counted.plan.a)):
            got = f"infinite entries that leave a mass of {counted.value:.3g} without a way"
            raise check.error("cost", got, "a plan on the finite entries", "allow more pairs, or pass unbalanced=...")
    price = high + (min(cost.shape) + 1) * spread + DEPTH * options.get("reg", 0.0)
    shrink = spread / (price - low)
    tol = options.get("tol", "auto")
    tol = (1e-6 if xp.finfo(cost.dtype).bits == 64 else 1e-4) if tol == "auto" else tol
    if method is not emd and tol is not None:
        options = options | {"tol": shrink * tol}
    result = method(xp.where(mask, price, cost), a, b, **options)
    used = float(xp.sum(xp.where(mask, result.plan.toarray(), 0.0)) / xp.sum(result.plan.a))
    found = result.certificate
    result.certificate = replace(
        found, scale=shrink * found.scale if method is not emd else found.scale,
        tol=tol if method is not emd else found.tol, residual=found.residual + used,
    )  # fmt: skip
    result.success = result.certificate.holds
    return result
