"""Exact transport beside POT."""

import math
import warnings
from collections.abc import Iterator

import numpy as np

from benchmarks.harness import Contest, Entry, contest, timed
from optlib.transport import PointCloud, emd, wasserstein_1d

warnings.filterwarnings("ignore")
TARGETS = {500: 0.6, 1000: 0.45, 2000: 0.4, 4000: 0.35}  # of POT's time
PIVOTS = 10**9


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of exact transport."""
    for n in (500, 1000) if quick else TARGETS:
        for kind in ("uniform", "cloud2d", "cloud10d"):
            for weights in ("equal", "random"):
                yield dense(kind, n, n, weights, 1 / TARGETS[n])
    for n in (500,) if quick else (500, 2000):
        yield dense("machol-wien", n, n, "equal", 1.0)
        yield dense("uniform", 10, 10 * n, "random", 1.0)
    yield warm(500 if quick else 1000)
    yield cloud(2000 if quick else 20_000)
    yield line(100_000)


def problem(kind: str, n: int, m: int, weights: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A cost matrix and weights."""
    rng = np.random.default_rng(n)
    if kind == "machol-wien":
        cost = np.outer(np.arange(1.0, n + 1), np.arange(1.0, m + 1))
    elif kind == "uniform":
        cost = rng.random((n, m))
    else:
        d = int(kind[5:-1])
        cost = PointCloud(rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 1).toarray()
    if weights == "equal":
        return cost, np.full(n, 1 / n), np.full(m, 1 / m)
    return cost, rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(m))


@contest
def dense(kind: str, n: int, m: int, weights: str, target: float) -> Contest:
    """Time of a whole call, ours with the certificate."""
    import ot

    cost, a, b = problem(kind, n, m, weights)

    def verify() -> dict[str, float]:  # the same optimum
        ours, peer = emd(cost, a, b).check(), ot.emd2(a, b, cost, numItermax=PIVOTS)
        assert math.isclose(ours.value, peer, rel_tol=1e-11), (ours.value, peer)
        return {"relative difference of values": abs(ours.value - peer) / abs(peer)}

    entrants = {
        "optlib": timed(lambda: emd(cost, a, b)),
        "POT": timed(lambda: ot.emd(a, b, cost, numItermax=PIVOTS)),
    }
    return Contest(f"emd {kind} {f'n={n}' if n == m else f'{n} x {m}'} {weights}", entrants, target, verify)


@contest
def warm(n: int) -> Contest:
    """Time from the potentials of a problem whose costs differ by up to 0.1 %."""
    import ot

    cost, a, b = problem("cloud2d", n, n, "random")
    near = cost * (1 + 1e-3 * np.random.default_rng(0).random(cost.shape))
    mine, theirs = emd(cost, a, b).potentials, ot.emd(a, b, cost, numItermax=PIVOTS, log=True)[1]
    theirs = theirs["u"], theirs["v"]
    entrants = {
        "optlib": timed(lambda: emd(near, a, b, init=mine)),
        "optlib cold": timed(lambda: emd(near, a, b)),
        "POT": timed(lambda: ot.emd(a, b, near, numItermax=PIVOTS, potentials_init=theirs)),
    }
    return Contest(f"emd warm start n={n}", entrants, 1.0)


@contest
def cloud(n: int) -> Contest:
    """Time and memory without a stored cost."""
    import ot

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(n, 2)) + 1
    a, b = rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))

    def ours() -> None:
        emd(PointCloud(x, y), a, b).check()

    entrants = {"optlib": timed(ours), "optlib equal weights": timed(lambda: emd(PointCloud(x, y)).check())}
    if n <= 5000:
        entrants["POT lazy"] = timed(lambda: ot.emd2_lazy(x, y, a, b, metric="sqeuclidean", numItermax=PIVOTS))
    return Contest(f"emd cloud {n} x {n}, 2-D", entrants, work={"optlib": ours}, unit=1.0, label="s")


@contest
def line(n: int) -> Contest:
    """The value on the line."""
    import ot

    rng = np.random.default_rng(0)
    x, y, a, b = rng.normal(size=n), rng.normal(size=n), rng.dirichlet(np.ones(n)), rng.dirichlet(np.ones(n))

    def verify() -> dict[str, float]:
        ours, peer = float(wasserstein_1d(x, y, a, b, p=2)), float(ot.wasserstein_1d(x, y, a, b, p=2))
        assert math.isclose(ours, peer, rel_tol=1e-9), (ours, peer)
        return {"relative difference of values": abs(ours - peer) / peer}

    entrants = {
        "optlib": timed(lambda: wasserstein_1d(x, y, a, b, p=2)),
        "POT": timed(lambda: ot.wasserstein_1d(x, y, a, b, p=2)),
    }
    return Contest(f"wasserstein_1d n={n}", entrants, 1.0, verify)
