"""Contract cases and refused calls of divergences, barycenters, sliced distances and Gaussian measures."""

from functools import partial

import numpy as np

from optlib.datasets import make_transport
from optlib.transport import (
    PointCloud,
    bures_wasserstein,
    bures_wasserstein_barycenter,
    divergence,
    gaussian_transport,
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


CONTRACT = {
    "transport.divergence": divergence_case,
    "transport.bures_wasserstein_barycenter": bures_case,
}

C, S = np.asarray([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0]]), np.asarray([[0.0, 1.0], [1.0, 0.0]])
S3 = np.asarray([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]])


def spread(cost=C, a=None, b=None, **options):
    return partial(divergence, cost, a, b, **{"reg": 0.1, "within": (S, S3), **options})


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
