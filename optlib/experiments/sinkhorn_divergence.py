"""Sinkhorn divergences and barycenters: positivity, bias and its removal, few passes, closed forms."""

from typing import Any

import numpy as np

from optlib import transport
from optlib.backend import to_device, to_numpy
from optlib.experiments.claims import Claim, Criterion, Row, Verdict, grid, judge, product

TITLE = "Sinkhorn divergences and barycenters"

CLAIMS = (
    Claim(
        "sinkhorn_divergence.positive",
        "The divergence is not negative.",
        "Feydy et al. 2019, theorem 1",
        "smallest upper bound of the divergence",
        Criterion(low=0.0),
    ),
    Claim(
        "sinkhorn_divergence.zero",
        "It vanishes between equal measures.",
        "Feydy et al. 2019, theorem 1",
        "largest size, relative to the cost range",
        Criterion(high=1e-6),
    ),
    Claim(
        "sinkhorn_divergence.passes",
        "The fixed point with momentum solves the transport of a measure to itself in at most 30 passes, whatever reg.",
        "promise of this library, from a prototype (21 to 23 passes)",
        "largest number of passes to an l1 error of 1e-8",
        Criterion(high=30),
    ),
    Claim(
        "sinkhorn_divergence.energy",
        "For large reg it tends to half the energy distance of the cost.",
        "Ramdas, Garcia and Cuturi 2017; Feydy et al. 2019",
        "largest relative difference at reg = 1000 times the cost range",
        Criterion(high=0.01),
    ),
    Claim(
        "sinkhorn_divergence.gaussian",
        "Between Gaussian measures it has the closed form of Janati et al.",
        "Janati, Muzellec, Peyré and Cuturi 2020, theorem 1",
        "largest relative difference, measures on 500 points of a line",
        Criterion(high=1e-4),
    ),
    Claim(
        "sinkhorn_divergence.barycenter_blur",
        "The entropic barycenter of shifted Gaussian measures has the variance of these plus reg / 2.",
        "Janati, Cuturi and Gramfort 2020, section 3 (cost |x - y|^2, uniform reference)",
        "largest relative difference of the variance",
        Criterion(high=0.02),
    ),
    Claim(
        "sinkhorn_divergence.barycenter_debiased",
        "The debiased one has the variance of the measures.",
        "Janati, Cuturi and Gramfort 2020, theorem 3",
        "largest relative difference of the variance",
        Criterion(high=0.02),
    ),
    Claim(
        "sinkhorn_divergence.bures",
        "The fixed point of the Bures-Wasserstein barycenter of six matrices of size 5 is reached in 40 iterations.",
        "specification of this library, from a prototype; Álvarez-Esteban et al. 2016",
        "largest number of iterations to a residual of 1e-10",
        Criterion(high=40),
        proven=False,
    ),
)


def _cases(scale: str) -> list[Row]:
    n, repeats = (100, 2) if scale == "quick" else (500, 10)
    regs = (1e-1, 1e-2, 1e-3, 1e-4)
    return [
        *product(part=["clouds"], reg=regs, n=[n], repeat=range(repeats)),
        *product(part=["line"], reg=(0.05, 0.2), n=[500], repeat=range(repeats)),
        *product(part=["bures"], n=[5], repeat=range(repeats)),
    ]


@grid(_cases)
def run(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Measure one case."""
    return {"clouds": _clouds, "line": _line, "bures": _bures}[case["part"]](case, backend, rng)


def _clouds(case: Row, backend: str, rng: np.random.Generator) -> Row:
    n, unit = case["n"], 1.0 / np.sqrt(2.0)  # costs up to 1
    x, y = to_device((unit * rng.random((n, 2)), unit * rng.random((n, 2)) ** 2), backend)
    cloud = transport.PointCloud(x, y)
    apart = transport.divergence(cloud, reg=case["reg"], tol=1e-8)
    equal = transport.divergence(transport.PointCloud(x, x), reg=case["reg"], tol=1e-8)
    far = transport.divergence(cloud, reg=1e3)
    costs = [float(np.mean(to_numpy(c.toarray()))) for c in (cloud, *cloud.within())]
    energy = costs[0] - 0.5 * (costs[1] + costs[2])
    return {
        "bound": apart.bounds[1],
        "equal": abs(equal.value),
        "passes": max(apart.state.sources.nit, apart.state.targets.nit),
        "energy": abs(far.value - energy) / energy,
    }


def _line(case: Row, backend: str, rng: np.random.Generator) -> Row:
    """Gaussian measures on a line: their divergence, and barycenters of shifted copies."""
    x, reg = np.linspace(-6.0, 6.0, case["n"]), case["reg"]
    (m, t), (v, w) = rng.uniform(-1.0, 1.0, 2), rng.uniform(0.2, 0.8, 2)
    a, b, c = (_gaussian(x, *pair) for pair in ((m, v), (t, w), (t, v)))
    cost = transport.GridCost(to_device((x,), backend))

    def exact(*pairs: tuple[float, float]) -> float:
        parts = [part for mean, variance in pairs for part in ([mean], [[variance]])]
        return float(transport.gaussian_transport(*parts, reg=reg).value)

    want = exact((m, v), (t, w)) - 0.5 * (exact((m, v), (m, v)) + exact((t, w), (t, w)))
    found = transport.divergence(cost, *to_device((a, b), backend), reg=reg, tol=1e-8).value
    copies = to_device(np.stack([a, c]), backend)
    variances = []
    for debiased in (False, True):
        mean = to_numpy(transport.barycenter(cost, copies, reg=reg, debiased=debiased).x)
        variances.append(float(mean @ (x - mean @ x) ** 2))
    return {
        "gaussian": abs(found - want) / want,
        "blur": abs(variances[0] - (v + 0.5 * reg)) / v,
        "debiased": abs(variances[1] - v) / v,
    }


def _gaussian(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    w = np.exp(-((x - mean) ** 2) / (2.0 * variance))
    return w / w.sum()


def _bures(case: Row, backend: str, rng: np.random.Generator) -> Row:
    factors = rng.normal(size=(6, case["n"], case["n"]))
    covs = to_device(factors @ np.swapaxes(factors, 1, 2), backend)
    result = transport.bures_wasserstein_barycenter(covs, tol=1e-10, maxiter=200)
    return {"iterations": result.nit if result.success else 201, "residuals": result.history["stop"]}


def check(rows: list[Row]) -> list[Verdict]:
    """Judge the claims."""

    def values(key: str) -> list[float]:
        return [row[key] for row in rows if key in row]

    measured = {
        "sinkhorn_divergence.positive": min(values("bound"), default=None),
        "sinkhorn_divergence.zero": max(values("equal"), default=None),
        "sinkhorn_divergence.passes": max(values("passes"), default=None),
        "sinkhorn_divergence.energy": max(values("energy"), default=None),
        "sinkhorn_divergence.gaussian": max(values("gaussian"), default=None),
        "sinkhorn_divergence.barycenter_blur": max(values("blur"), default=None),
        "sinkhorn_divergence.barycenter_debiased": max(values("debiased"), default=None),
        "sinkhorn_divergence.bures": max(values("iterations"), default=None),
    }
    return judge(CLAIMS, measured)


def plot(rows: list[Row]) -> dict[str, Any]:
    """Draw the passes of the transports of measures to themselves, and the residuals of the fixed point."""
    from matplotlib.figure import Figure

    figures = {}
    if clouds := [row for row in rows if row["part"] == "clouds"]:
        figures["sinkhorn_divergence.passes"] = figure = Figure()
        axes = figure.add_subplot()
        axes.set(xlabel="reg, in units of the cost range", ylabel="passes to 1e-8", xscale="log", ylim=(0, 40))
        axes.plot([row["reg"] for row in clouds], [row["passes"] for row in clouds], "o")
    if bures := [row for row in rows if row["part"] == "bures"]:
        figures["sinkhorn_divergence.bures"] = figure = Figure()
        axes = figure.add_subplot()
        axes.set(xlabel="iterations", ylabel="residual", yscale="log")
        for row in bures:
            axes.plot(row["residuals"])
    return figures
