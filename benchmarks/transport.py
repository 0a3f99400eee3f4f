"""Entropic transport beside POT (and OTT, RegOT where they are installed)."""

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from numba import njit

from benchmarks import transport_barycenter, transport_emd, transport_plans
from benchmarks.harness import Contest, Entry, clock, contest, per_unit, timed
from optlib.backend._math_numba import exp_
from optlib.datasets import make_transport
from optlib.transport import PointCloud, sinkhorn, solve

warnings.filterwarnings("ignore")
TOL, LIMIT = 1e-6, 20_000  # l1 error of the marginals, iterations of the peers
PATIENCE = 30.0  # seconds that a peer may take at small regularisation
FORMS = ("scaling", "stabilised", "log")  # of POT: the same iterations, and the latter take thirty times as long


def contests(quick: bool) -> Iterator[Entry]:
    """All contests of the family."""
    for n in (500, 1000) if quick else (500, 1000, 2000, 4000):
        yield iteration(n, "scaling", "float64", target=2.0)
    for n in (500, 1000) if quick else (500, 1000, 2000, 4000):
        yield iteration(n, "scaling", "float32", target=4.0)
    yield iteration(1000, "log", "float64", target=20.0)
    for reg, target in ((1e-1, 3.0), (1e-2, 3.0), (1e-3, 5.0)):
        for kind in ("cloud2d", "uniform") if quick else ("cloud2d", "shifted", "clustered", "uniform", "grid"):
            yield whole(kind, 300 if quick else 1000, reg, target)
    for reg in (1e-3, 1e-4):
        for n in (300,) if quick else (1000, 2000):
            for kind in ("cloud2d", "uniform") if quick else ("cloud2d", "shifted", "clustered", "uniform", "grid"):
                yield small_reg(kind, n, reg)
    for rho in (1e-2, 1.0, 100.0):
        for kind in ("cloud2d", "uniform") if quick else ("cloud2d", "shifted", "clustered", "uniform", "grid"):
            yield unbalanced(kind, 200 if quick else 500, 1e-3, rho)
    yield cloud(4000 if quick else 20_000, 3)
    yield cloud(4000 if quick else 20_000, 2)
    yield start_up()
    yield from transport_emd.contests(quick)
    yield from transport_barycenter.contests(quick)
    yield from transport_plans.contests(quick)


# -- per iteration --


@contest
def iteration(n: int, form: str, dtype: str, target: float) -> Contest:
    """Time of one plain iteration."""
    cost = np.random.default_rng(0).random((n, n))
    weights, reg = np.full(n, 1.0 / n), 0.05
    mine = [u.astype(dtype) for u in (cost, weights)]

    def ours(k: int) -> Any:
        return sinkhorn(
            mine[0], mine[1], mine[1], reg=reg, method=form, acceleration=None, tol=None, maxiter=k, check_every=k
        )

    low, high = (5, 5 + max(40, 100_000_000 // n**2)) if form == "scaling" else (2, 6)
    entrants = {
        "optlib": per_unit(ours, low, high if form == "scaling" else 42),  # six of ours are too short to measure
        "POT": per_unit(_pot(cost, weights, weights, reg, form), low, high),
    }
    if form == "log" and find_spec("ott"):
        entrants["OTT"] = per_unit(_ott(cost, weights, weights, reg), low, high)

    def verify() -> dict[str, float]:  # the same iterate after the same number of iterations
        u, v = ours(10).plan.toarray(), _pot(cost, weights, weights, reg, form)(11)
        difference = float(np.sum(np.abs(u - v)))
        assert difference < (1e-9 if dtype == "float64" else 1e-4), difference
        return {"difference of plans": difference}

    return Contest(f"iteration {form} {dtype} n={n}", entrants, target, verify, unit=1e6, label="us")


def _pot(cost: np.ndarray, a: np.ndarray, b: np.ndarray, reg: float, form: str) -> Callable[..., np.ndarray]:
    import ot

    name = {"scaling": "sinkhorn", "log": "sinkhorn_log", "stabilised": "sinkhorn_stabilized"}[form]

    def run(iterations: int, threshold: float = 0.0) -> np.ndarray:
        return ot.bregman.sinkhorn(a, b, cost, reg, method=name, numItermax=iterations, stopThr=threshold, warn=False)

    return run


def _ott(cost: np.ndarray, a: np.ndarray, b: np.ndarray, reg: float) -> Callable[[int], Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn as ott_sinkhorn

    problem = linear_problem.LinearProblem(geometry.Geometry(cost, epsilon=reg), a, b)

    def run(k: int) -> Any:
        solver = ott_sinkhorn.Sinkhorn(lse_mode=True, threshold=0.0, min_iterations=k, max_iterations=k)
        return solver(problem).f.block_until_ready()

    return run


# -- whole calls --


@contest
def whole(kind: str, n: int, reg: float, target: float) -> Contest:
    """Time to an l1 error of the marginals of 1e-6, with everything that a call returns."""
    problem = make_transport(kind, n, rng=0)
    cost, a, b = problem.cost, problem.a, problem.b

    def ours() -> Any:
        return solve(cost, a, b, reg=reg, tol=TOL)

    entrants, accuracy = {"optlib": timed(ours)}, {"optlib": _l1(ours().plan.toarray(), a, b)}
    for form in ("scaling", "stabilised"):  # the log form iterates like the scaling form, 30 times slower
        run = _pot(cost, a, b, reg, form)
        if (found := _threshold(run, a, b)) is not None:
            threshold, accuracy[f"POT {form}"] = found
            entrants[f"POT {form}"] = timed(lambda run=run, t=threshold: run(LIMIT, t))
            break

    def verify() -> dict[str, float]:
        assert max(accuracy.values()) <= 1.01 * TOL, accuracy
        return accuracy

    return Contest(f"whole {kind} n={n} reg={reg:g}", entrants, target, verify, work={"optlib": ours})


@contest
def small_reg(kind: str, n: int, reg: float) -> Contest:
    """Time to an l1 error of 1e-8 at small regularisation, beside POT and every method of RegOT that gets there."""
    problem = make_transport(kind, n, rng=0)
    cost, a, b = problem.cost, problem.a, problem.b

    def ours() -> Any:
        return solve(cost, a, b, reg=reg, tol=1e-8)

    entrants, accuracy = {"optlib": timed(ours)}, {"optlib": _l1(ours().plan.toarray(), a, b)}

    def enter(name: str, run: Callable[[], np.ndarray]) -> bool:
        start = clock()
        try:
            error = _l1(run(), a, b)
        except RuntimeError:  # RegOT's line search gives up
            return False
        if not (error <= 3e-7 and clock() - start < PATIENCE):  # norms of their own stop the peers: be generous
            return False
        entrants[name], accuracy[name] = timed(run), error
        return True

    for form in FORMS:
        run = _pot(cost, a, b, reg, form)
        limit = min(LIMIT, int(PATIENCE / per_unit(run, 1, 41)()))
        if enter(f"POT {form}", lambda run=run, limit=limit: run(limit, 1e-9)):
            break
    if find_spec("regot"):
        import regot

        for name in ("sinkhorn_bcd", "sinkhorn_lbfgs_dual", "sinkhorn_ssns", "sinkhorn_splr"):
            solver = getattr(regot, name)
            enter(
                f"RegOT {name.removeprefix('sinkhorn_')}",
                lambda solver=solver: solver(cost, a, b, reg, tol=1e-8, max_iter=2000).plan,
            )

    def verify() -> dict[str, float]:
        assert accuracy["optlib"] <= 1.1e-8, accuracy
        return accuracy

    return Contest(f"small reg {kind} n={n} reg={reg:g}", entrants, 10.0, verify)


@contest
def unbalanced(kind: str, n: int, reg: float, rho: float) -> Contest:
    """Time to a fixed-point residual of 1e-10, penalised marginals, beside POT's translation-invariant iterations."""
    problem = make_transport(kind, n, rng=0)
    cost, a, b = problem.cost, problem.a, problem.b

    def ours() -> Any:
        return solve(cost, a, b, reg=reg, unbalanced=rho, tol=1e-10)

    def pot() -> np.ndarray:
        import ot

        name = "sinkhorn_translation_invariant"
        return ot.unbalanced.sinkhorn_unbalanced(
            a, b, cost, reg, rho, method=name, reg_type="kl", numItermax=LIMIT, stopThr=1e-10
        )

    plan = ours().plan.toarray()
    difference = float(np.sum(np.abs(pot() - plan)) / np.sum(plan))
    entrants = {"optlib": timed(ours)}
    if difference < 1e-6:  # else underflow, or too few iterations
        entrants["POT"] = timed(pot)

    def verify() -> dict[str, float]:
        assert ours().success
        return {"difference": difference}

    return Contest(f"unbalanced {kind} n={n} reg={reg:g} rho={rho:g}", entrants, 5.0, verify)


def _threshold(run: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray) -> tuple[float, float] | None:
    """The loosest of POT's thresholds (on the 2-norm, checked every 10 iterations) that gives our l1 error."""
    if not _l1(run(LIMIT, 1e-9), a, b) <= TOL:
        return None
    errors = ((threshold, _l1(run(LIMIT, threshold), a, b)) for threshold in (1e-6, 3e-7, 1e-7, 3e-8, 1e-8, 3e-9, 1e-9))
    return next((threshold, error) for threshold, error in errors if error <= TOL)


def _l1(plan: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sum(np.abs(plan.sum(axis=1) - a)) + np.sum(np.abs(plan.sum(axis=0) - b)))


# -- clouds that are not stored --


@njit(nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _exponentials(x: np.ndarray, out: np.ndarray, rounds: int) -> float:
    total = x.dtype.type(0)
    for _ in range(rounds):
        for j in range(x.size):
            out[j] = exp_(x[j])
            total += out[j]
    return total


@contest
def cloud(n: int, d: int) -> Contest:
    """Time per entry of an iteration beside that of a bare exponential, and memory."""
    rng = np.random.default_rng(0)
    x, y = rng.random((n, d)), rng.random((n, d))
    z, e = -30.0 * rng.random(1024), np.empty(1024)

    def ours(k: int) -> Any:
        return sinkhorn(
            PointCloud(x, y), reg=0.01, method="log", tol=None, maxiter=k, check_every=max(k, 1), record=False
        )

    slope = per_unit(ours, 1, 3)
    entrants = {
        "optlib": lambda: slope() / n**2,
        "bare exp": lambda: timed(lambda: _exponentials(z, e, 20_000))() / (20_000 * 1024),
    }
    return Contest(
        f"cloud {n} x {n}, {d}-D, per entry", entrants, 1 / 1.5, work={"optlib": lambda: ours(3)}, unit=1e9, label="ns"
    )


# -- start-up --


@contest
def start_up() -> Contest:
    """Seconds of the first call in a new process: after installation, and with the cache of compiled code."""
    data = "cost = numpy.random.default_rng(0).random((200, 200))"
    call = "t = time.perf_counter(); transport.solve(cost, reg=0.01); print(time.perf_counter() - t)"
    code = f"import time, numpy\nfrom optlib import transport\n{data}\n{call}"

    def seconds(cache: str) -> float:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout)

    def imported(modules: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {modules}"], check=True)
        return time.perf_counter() - start

    def first() -> float:
        with tempfile.TemporaryDirectory() as cache:
            return seconds(cache)

    kept = tempfile.mkdtemp()
    seconds(kept)
    entrants = {
        "warm cache": lambda: seconds(kept),
        "after installation": first,
        "import optlib beyond numpy": lambda: imported("numpy, optlib") - imported("numpy"),
    }
    return Contest("first transport.solve", entrants, unit=1.0, label="s")
