"""Contract cases and refused calls of divergences, barycenters, sliced distances and Gaussian measures."""

from functools import partial

import numpy as np

from optlib.datasets import make_transport
from optlib.transport import (
    GridCost,
    PointCloud,
    barycenter,
    bures_wasserstein,
    bures_wasserstein_barycenter,
    divergence,
    free_support_barycenter,
    gaussian_transport,
    sliced,
)


def divergence_case(backend):
    problem = make_transport("cloud2d", 12, 9, rng=0)
    rng = np.random.default_rng(0)
    x, y, a, b = (backend.asarray(u) for u in (rng.random((12, 2)), rng.random((9, 2)), problem.a, problem.b))
    return (PointCloud(x, y), a, b), {"reg": 0.01}


def bures_case(backend):
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(4, 5, 5))
    return (backend.asarray(factors @ np.swapaxes(factors, 1, 2)),), {}


def barycenter_case(backend):
    x, rng = np.linspace(0.0, 1.0, 12), np.random.default_rng(0)
    x, a = backend.asarray(x), backend.asarray(rng.dirichlet(np.ones(12), 3))
    return (PointCloud(x, x), a, backend.asarray(np.asarray([0.5, 0.3, 0.2]))), {"reg": 0.01}


def free_support_case(backend):
    rng = np.random.default_rng(0)
    clouds = [backend.asarray(rng.normal(size=(k, 2))) for k in (30, 25)]
    return (clouds,), {"size": 10, "rng": 0}


CONTRACT = {
    "transport.free_support_barycenter": free_support_case,
    "transport.barycenter": barycenter_case,
    "transport.divergence": divergence_case,
    "transport.bures_wasserstein_barycenter": bures_case,
}

C, S = np.asarray([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0]]), np.asarray([[0.0, 1.0], [1.0, 0.0]])
S3 = np.asarray([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]])


def spread(cost=C, a=None, b=None, **options):
    return partial(divergence, cost, a, b, **{"reg": 0.1, "within": (S, S3), **options})


def centre(cost=S3, a=((0.5, 0.5, 0.0), (0.0, 0.2, 0.8)), weights=None, **options):
    return partial(barycenter, cost, a if a is None or np.ndim(a) == 0 else [*a], weights, **{"reg": 0.1, **options})


def gauss(m=(0.0, 0.0), A=((2.0, 1.0), (1.0, 2.0)), **options):
    return partial(gaussian_transport, m, A, [1.0, 2.0], np.eye(2), **options)


ODD = np.asarray([[1.0, 0.5], [0.0, 1.0]])
NEGATIVE = np.diag([1.0, -0.5])

BAD_INPUTS = [
    ("divergence-without-within", spread(within=None), TypeError, "`within`.*pair.*PointCloud"),
    ("divergence-one-within", spread(within=(S,)), TypeError, "`within`.*pair"),
    ("divergence-within-shape", spread(within=(S3, S)), ValueError, "`within`.*\\(3, 3\\).*\\(2, 2\\)"),
    ("divergence-within-odd", spread(within=(ODD, S3)), ValueError, "`within`.*symmetric"),
    ("divergence-within-nan", spread(within=(S * np.nan, S3)), ValueError, "`within`.*NaN"),
    ("divergence-reg", spread(reg=0.0), ValueError, "`reg`.*> 0"),
    ("divergence-emd", spread(method="emd"), ValueError, "`reg`.*0 for method"),
    ("divergence-two-penalties", spread(unbalanced=(1.0, 2.0)), TypeError, "`unbalanced`.*both sides"),
    ("divergence-masses", spread(a=[1.0, 1.0], b=[1.0, 1.0, 1.0]), ValueError, "`a, b`.*masses"),
    ("divergence-init", spread(init=(1.0, 2.0)), TypeError, "`init`.*four potentials"),
    ("divergence-tol", spread(tol=-1.0), ValueError, "`tol`"),
    ("divergence-check-every", spread(check_every=0), ValueError, "`check_every`"),
    ("barycenter-no-measure", centre(a=[]), ValueError, "`a`.*no measure"),
    ("barycenter-number", centre(a=1.0), TypeError, "`a`.*sequence"),
    ("barycenter-masses", centre(a=[[0.5, 0.5, 0.0], [1.0, 0.5, 0.0]]), ValueError, "`a`.*masses 1 and 1.5.*equal"),
    ("barycenter-length", centre(a=[[0.5, 0.5]]), ValueError, "`a`.*shape \\(3,\\)"),
    ("barycenter-negative", centre(a=[[1.5, -0.5, 0.0]]), ValueError, "`a`.*-0.5"),
    ("barycenter-weights", centre(weights=[1.0]), ValueError, "`weights`.*shape \\(2,\\)"),
    ("barycenter-costs", centre(cost=[S3]), ValueError, "`cost`.*1 costs for 2 measures"),
    ("barycenter-targets", centre(cost=[S3, S3[:, :2]]), ValueError, "`cost`.*same targets"),
    ("barycenter-reg", centre(reg=-1.0), ValueError, "`reg`.*> 0"),
    ("barycenter-init", centre(init=np.ones(3)), ValueError, "`init`.*shape"),
    ("barycenter-debiased-exact", centre(reg=0.0, debiased=True), ValueError, "`reg`.*debiased"),
    ("barycenter-debiased-odd", centre(cost=np.triu(S3), debiased=True), ValueError, "`cost`.*symmetric"),
    ("barycenter-debiased-flat", centre(cost=S3[:, :2], debiased=True), ValueError, "`cost`.*symmetric"),
    ("barycenter-large", centre(cost=np.ones((3, 40_000)), reg=0), ValueError, "`reg`.*variables.*small reg"),
    ("grid-axes", partial(GridCost, np.ones(3)), TypeError, "`axes`.*list"),
    ("grid-empty", partial(GridCost, [[]]), ValueError, "`axes\\[0\\]`.*at least one"),
    ("grid-flat", partial(GridCost, [np.ones((2, 2))]), ValueError, "`axes\\[0\\]`.*1 dimension"),
    ("grid-nan", partial(GridCost, [[0.0, np.nan]]), ValueError, "`axes\\[0\\]`.*NaN"),
    ("grid-p", partial(GridCost, [[0.0, 1.0]], p=0), ValueError, "`p`"),
    ("sliced-dimensions", partial(sliced, C, S), ValueError, "`y`.*dimension 2.*dimension 3"),
    ("sliced-one-direction", partial(sliced, C, C, directions=1), ValueError, "`directions`.*>= 2"),
    ("sliced-p", partial(sliced, C, C, p=0.5), ValueError, "`p`.*>= 1"),
    ("sliced-masses", partial(sliced, C, C, [1.0, 1.0], [1.0, 2.0]), ValueError, "`a, b`.*masses"),
    ("sliced-weights", partial(sliced, C, C, [1.0]), ValueError, "`a`.*shape"),
    ("sliced-rng", partial(sliced, C, C, rng="seed"), TypeError, "`rng`"),
    ("sliced-nan", partial(sliced, C * np.nan, C), ValueError, "`x`.*NaN"),
    ("free-support-array", partial(free_support_barycenter, C), TypeError, "`points`.*list of clouds"),
    ("free-support-none", partial(free_support_barycenter, []), TypeError, "`points`.*no cloud"),
    ("free-support-dimensions", partial(free_support_barycenter, [C, S]), ValueError, "`points\\[1\\]`.*dimension"),
    ("free-support-weights", partial(free_support_barycenter, [C, C], [[1.0, 1.0]]), ValueError, "`a`.*list of 2"),
    ("free-support-size", partial(free_support_barycenter, [C], size=0), ValueError, "`size`"),
    ("free-support-init", partial(free_support_barycenter, [C], init=S), ValueError, "`init`.*dimension"),
    ("free-support-masses", partial(free_support_barycenter, [C], [[1.0, 1.0]], b=[1.0, 2.0]), ValueError, "masses"),
    ("gaussian-odd", gauss(A=ODD), ValueError, "`cov_a`.*not symmetric"),
    ("gaussian-negative", gauss(A=NEGATIVE), ValueError, "`cov_a`.*eigenvalue -0.5"),
    ("gaussian-nan", gauss(A=np.eye(2) * np.nan), ValueError, "`cov_a`.*NaN"),
    ("gaussian-flat", gauss(A=np.ones(2)), ValueError, "`cov_a`.*square"),
    ("gaussian-size", gauss(A=np.eye(3)), ValueError, "one dimension d"),
    ("gaussian-mean", gauss(m=0.0), ValueError, "`mean_a`.*shape \\(\\)"),
    ("gaussian-reg", gauss(reg=-1.0), ValueError, "`reg`"),
    ("gaussian-singular-map", lambda: gauss(A=np.ones((2, 2)))().slope, ValueError, "singular.*identity"),
    ("gaussian-map-points", lambda: gauss()().map([1.0, 2.0, 3.0]), ValueError, "`x`.*rows"),
    ("bures-sizes", partial(bures_wasserstein, np.eye(2), np.eye(3)), ValueError, "`A, B`.*one size"),
    ("bures-leading", partial(bures_wasserstein, np.ones((2, 1, 1)), np.ones((3, 1, 1))), ValueError, "`A, B`.*axes"),
    ("bures-complex", partial(bures_wasserstein, np.eye(2) + 0j, np.eye(2)), TypeError, "`A`.*complex"),
    ("bures-barycenter-flat", partial(bures_wasserstein_barycenter, np.eye(2)), ValueError, "`covs`.*3 dimensions"),
    ("bures-barycenter-none", partial(bures_wasserstein_barycenter, np.ones((0, 2, 2))), ValueError, "`covs`"),
    ("bures-barycenter-odd", partial(bures_wasserstein_barycenter, [ODD]), ValueError, "`covs`.*symmetric"),
    ("bures-barycenter-zero", partial(bures_wasserstein_barycenter, [0 * S]), ValueError, "`covs`.*singular mean"),
    ("bures-weights", partial(bures_wasserstein_barycenter, [np.eye(2)], [1.0, 2.0]), ValueError, "`weights`.*shape"),
    ("bures-no-weights", partial(bures_wasserstein_barycenter, [np.eye(2)], [0.0]), ValueError, "`weights`.*total 0"),
    (
        "bures-init",
        partial(bures_wasserstein_barycenter, [np.eye(2)], init=np.ones((2, 2))),
        ValueError,
        "`init`.*singular",
    ),
]
