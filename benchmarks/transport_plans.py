"""Quadratically regularised and partial transport beside RegOT and POT."""

import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.harness import Contest, Entry, contest, timed
from optlib.datasets import make_transport
from optlib.transport import partial, quadratic

ACCURACY = 1e-8  # l1 error of the plans
PIVOTS = 10**9


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of these plans."""
    for n in (300,) if quick else (300, 1000):
        for kind in ("cloud2d", "uniform") if quick else ("cloud2d", "cloud50d", "shifted", "uniform", "rectangular"):
            for reg in (1e-1, 1e-2, 1e-3):
                yield regularised(kind, n, reg)
    for n in (300,) if quick else (500, 1000):
        for share in (0.3, 0.8):
            yield exact(n, share)
    yield entropic(300)


@contest
def regularised(kind: str, n: int, rel: float) -> Contest:
    """Time of a whole call to a plan error of 1e-8, against a plan of ten times higher accuracy at least."""
    cost, a, b = make_transport(kind, n, rng=0)[:3]
    reg = rel * n
    best = quadratic(cost, a, b, reg=reg, tol=1e-12).check().plan.toarray()

    def error(plan: np.ndarray) -> float:
        return float(np.abs(plan - best).sum())

    entrants, accuracy = {}, {}
    for name, solve, tolerances in (("optlib", _ours, (1e-8, 1e-9, 1e-10)), *_peers()):
        for tol in tolerances:
            found = _attempt(solve, cost, a, b, reg, tol)
            if found is not None and error(found) <= ACCURACY:
                entrants[name] = timed(lambda solve=solve, tol=tol: solve(cost, a, b, reg, tol))
                accuracy[name] = error(found)
                break
    return Contest(f"quadratic {kind} n={n} reg={rel:g}", entrants, 2.0, lambda: accuracy)


def _ours(cost: np.ndarray, a: np.ndarray, b: np.ndarray, reg: float, tol: float) -> np.ndarray:
    return quadratic(cost, a, b, reg=reg, tol=tol).plan.toarray()


def _attempt(solve: Callable[..., np.ndarray], *args: Any) -> np.ndarray | None:
    try:
        return solve(*args)
    except RuntimeError:  # RegOT's line searches may fail
        return None


def _peers() -> Iterator[tuple[str, Callable[..., np.ndarray], tuple[float, ...]]]:
    """Those that can reach such an accuracy: two of RegOT's solvers, POT's semi-dual."""
    if find_spec("regot"):
        import regot

        for name in ("grssn", "assn"):
            solver = getattr(regot, f"qrot_{name}")

            def newton(cost: Any, a: Any, b: Any, reg: float, tol: float, solver: Any = solver) -> np.ndarray:
                return solver(np.asfortranarray(cost), a, b, reg, tol=tol, max_iter=3000).plan

            yield f"RegOT {name}", newton, (1e-8, 1e-9, 1e-10, 1e-11, 1e-12)
    import ot

    def semi_dual(cost: Any, a: Any, b: Any, reg: float, tol: float) -> np.ndarray:
        return ot.smooth.smooth_ot_semi_dual(a, b, cost, reg, reg_type="l2", stopThr=tol, numItermax=2000)

    yield "POT semi-dual", semi_dual, (1e-15,)


@contest
def exact(n: int, share: float) -> Contest:
    """Time of exact partial transport."""
    import ot

    cost, a, b = make_transport("cloud2d", n, rng=0)[:3]

    def verify() -> dict[str, float]:
        ours = partial(cost, a, b, mass=share).check()
        peer = ot.partial.partial_wasserstein2(a, b, cost, m=share, numItermax=PIVOTS)
        assert math.isclose(ours.value, peer, rel_tol=1e-9), (ours.value, peer)
        return {"relative difference of values": abs(ours.value - peer) / abs(peer)}

    entrants = {
        "optlib": timed(lambda: partial(cost, a, b, mass=share)),
        "POT": timed(lambda: ot.partial.partial_wasserstein(a, b, cost, m=share, numItermax=PIVOTS)),
    }
    return Contest(f"partial n={n} mass={share:g}", entrants, 1.0, verify)


@contest
def entropic(n: int) -> Contest:
    """Time of entropic partial transport to the same plan."""
    import ot

    cost, a, b = make_transport("cloud2d", n, rng=0)[:3]  # equal weights: POT's entropy is not relative to them

    def ours() -> Any:
        return partial(cost, a, b, mass=0.5, reg=0.05, tol=1e-6)

    def peer() -> np.ndarray:
        return ot.partial.entropic_partial_wasserstein(a, b, cost, 0.05, m=0.5, numItermax=2000, stopThr=1e-9)

    def verify() -> dict[str, float]:
        difference = float(np.abs(ours().check().plan.toarray() - peer()).sum())
        assert difference < 1e-4, difference
        return {"l1 difference of plans": difference}

    return Contest(f"partial n={n} mass=0.5 reg=0.05", {"optlib": timed(ours), "POT": timed(peer)}, 1.0, verify)
