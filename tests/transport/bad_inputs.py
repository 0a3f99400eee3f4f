"""Refused calls of the transport family: name, call, exception, pattern of the message."""

from functools import partial

import array_api_strict as strict
import numpy as np
import scipy.sparse as sp

from optlib.transport import DenseCost, DensePlan, PointCloud, sinkhorn_newton, solve
from tests.transport import divergence_cases, emd_cases, map_cases, plans_cases

C = np.asarray([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0]])
A, B = np.asarray([0.5, 0.5]), np.asarray([0.25, 0.25, 0.5])


def spoiled(value, array=C):
    out = np.array(array)
    out[(1,) * out.ndim] = value
    return out


def call(cost=C, a=A, b=B, **options):
    return partial(solve, cost, a, b, **{"reg": 0.1, **options})


def foreign(x, device="CPU_DEVICE"):
    return strict.asarray(x, device=strict.Device(device))


CASES = [
    # cost
    ("nan-cost", call(spoiled(np.nan)), ValueError, "`cost`.*NaN.*finite"),
    ("inf-cost", call(np.where([1, 1, 0], C, np.inf)), ValueError, "`cost`.*mass of 0.5 without a way"),
    ("inf-dense-cost", partial(DenseCost, spoiled(np.inf)), ValueError, "`cost`.*inf.*large finite cost"),
    ("minus-inf-cost", call(spoiled(-np.inf)), ValueError, "`cost`.*-inf.*finite"),
    ("overflowing-range", call(spoiled(1.7e308) - spoiled(0.0, 0 * C + 1e308)), ValueError, "`cost`.*overflow"),
    ("flat-cost", call(C[0]), ValueError, "`cost`.*shape \\(3,\\).*2 dimensions.*PointCloud"),
    ("deep-cost", call(C[None]), ValueError, "`cost`.*2 dimensions"),
    ("empty-cost", call(C[:0]), ValueError, "`cost`.*shape \\(0, 3\\).*at least one"),
    ("complex-cost", call(C + 0j), TypeError, "`cost`.*complex128.*real"),
    ("object-cost", call(C.astype(object)), TypeError, "`cost`.*object.*real"),
    ("text-cost", call("euclidean"), TypeError, "`cost`"),
    ("none-cost", call(None), TypeError, "`cost`"),
    ("ragged-cost", call([[0.0, 1.0], [1.0]]), ValueError, "`cost`.*ragged"),
    # weights
    ("unequal-masses", call(b=2 * B), ValueError, "`a, b`.*masses 1 and 2.*normalise.*unbalanced"),
    ("slightly-unequal-masses", call(b=B * (1 + 1e-3)), ValueError, "`a, b`.*masses 1 and 1.001"),
    ("negative-weight", call(a=[1.5, -0.5]), ValueError, "`a`.*-0.5.*>= 0"),
    ("nan-weight", call(b=[0.5, np.nan, 0.5]), ValueError, "`b`.*NaN"),
    ("inf-weight", call(b=[0.5, np.inf, 0.5]), ValueError, "`b`.*infinite"),
    ("zero-weights", call(a=[0.0, 0.0]), ValueError, "`a`.*total mass 0.*positive"),
    ("wrong-length", call(a=B), ValueError, "`a`.*shape \\(3,\\).*shape \\(2,\\).*source"),
    ("swapped-weights", call(a=B, b=A), ValueError, "`a`.*shape \\(3,\\)"),
    ("matrix-weights", call(b=B[:, None]), ValueError, "`b`.*shape \\(3, 1\\).*target"),
    ("complex-weights", call(a=A + 0j), TypeError, "`a`.*complex"),
    ("object-weights", call(a=A.astype(object)), TypeError, "`a`.*object"),
    ("text-weights", call(a=["half", "half"]), TypeError, "`a`.*real numbers"),
    # reg and options
    ("no-reg-with-penalties", call(reg=0.0, unbalanced=1.0), ValueError, "`reg`.*got 0.*> 0.*penalised"),
    ("no-reg-for-sinkhorn", call(reg=0.0, method="sinkhorn"), ValueError, "`reg`.*got 0.*> 0"),
    ("reg-for-emd", call(method="emd"), ValueError, "`reg`.*got 0.1.*0 for method"),
    ("negative-reg", call(reg=-1.0), ValueError, "`reg`.*-1.*> 0"),
    ("nan-reg", call(reg=np.nan), ValueError, "`reg`.*nan"),
    ("inf-reg", call(reg=np.inf), ValueError, "`reg`.*inf"),
    ("text-reg", call(reg="0.1"), TypeError, "`reg`.*0.1.*str"),
    ("bool-reg", call(reg=True), TypeError, "`reg`.*bool"),
    ("array-reg", call(reg=A), TypeError, "`reg`.*array"),
    ("none-reg", call(reg=None), TypeError, "`reg`"),
    ("complex-reg", call(reg=1j), TypeError, "`reg`"),
    ("reg-type", call(reg_type="l1"), ValueError, "`reg_type`.*'l1'.*'entropy'"),
    ("method", call(method="simplex"), ValueError, "`method`.*'simplex'.*'sinkhorn'"),
    ("method-number", call(method=3), ValueError, "`method`.*3"),
    ("negative-rho", call(unbalanced=-1.0), ValueError, "`unbalanced`.*-1"),
    ("nan-rho", call(unbalanced=(1.0, np.nan)), ValueError, "`unbalanced`.*nan"),
    ("three-rhos", call(unbalanced=(1.0, 1.0, 1.0)), ValueError, "`unbalanced`.*pair"),
    ("text-rho", call(unbalanced="KL"), TypeError, "`unbalanced`.*KL"),
    ("tol", call(tol=-1.0), ValueError, "`tol`"),
    ("maxiter", call(maxiter=1.5), TypeError, "`maxiter`"),
    ("unknown-option", call(numItermax=10), TypeError, "`numItermax`.*solve.*maxiter"),
    ("unknown-option-emd", call(reg=0.0, stopThr=1.0), TypeError, "`stopThr`.*solve .here emd"),
    ("array-method", call(method=A), ValueError, "`method`.*shape"),
    ("table-cost", call(sp.csr_array(C)), TypeError, "`cost`.*x.toarray"),
    ("reg-below-rounding", call(reg=1e-20), ValueError, "`reg`.*1e-20.*at least 2.2e-16.*shift"),
    ("reg-below-large-costs", call(C * 1e150), ValueError, "`reg`.*0.1.*at least"),
    ("quadratic-reg-below-rounding", call(reg=1e-20, reg_type="quadratic"), ValueError, "`reg`.*at least"),
    ("check-every", call(check_every=0), ValueError, "`check_every`"),
    ("check-every-text", call(check_every="abc", method="sinkhorn"), TypeError, "`check_every`"),
    # the Newton methods
    ("newton-method", partial(sinkhorn_newton, C, reg=0.1, method="lm"), ValueError, "`method`.*'lm'.*'ssns'"),
    ("density", partial(sinkhorn_newton, C, reg=0.1, method="sns", density=2.0), ValueError, "`density`.*2"),
    ("sweeps", partial(sinkhorn_newton, C, reg=0.1, method="sns", sweeps=-1), ValueError, "`sweeps`.*-1"),
    (
        "unbalanced-ssns",
        partial(sinkhorn_newton, C, reg=0.1, method="ssns", unbalanced=1.0),
        ValueError,
        "`unbalanced`.*None.*path",
    ),
    (
        "too-large-for-newton",
        partial(sinkhorn_newton, PointCloud(np.zeros((20_000, 1)), np.ones((20_000, 1))), reg=0.1),
        ValueError,
        "`cost`.*20000.*at most",
    ),
    # libraries and devices
    ("mixed-libraries", call(foreign(C)), TypeError, "`cost` from array_api_strict, `a` from numpy.*one library"),
    (
        "mixed-devices",
        call(foreign(C), foreign(A, "device1"), foreign(B)),
        TypeError,
        "`cost` on .*CPU_DEVICE.*`a` on .*device1.*one device",
    ),
    ("mixed-cloud", partial(PointCloud, foreign(C), C), TypeError, "`x` from array_api_strict, `y` from numpy"),
    # point clouds
    ("dimensions", partial(PointCloud, C, C.T), ValueError, "`y`.*dimension 2.*dimension 3"),
    ("deep-points", partial(PointCloud, C[None], C), ValueError, "`x`.*shape \\(1, 2, 3\\).*rows"),
    ("empty-points", partial(PointCloud, C[:0], C), ValueError, "`x`.*shape \\(0, 3\\)"),
    ("points-without-axes", partial(PointCloud, C[:, :0], C[:, :0]), ValueError, "`x`.*shape \\(2, 0\\)"),
    ("nan-points", partial(PointCloud, spoiled(np.nan), C), ValueError, "`x`.*NaN"),
    ("inf-points", partial(PointCloud, C, spoiled(np.inf)), ValueError, "`y`.*infinite"),
    ("complex-points", partial(PointCloud, C + 0j, C), TypeError, "`x`.*complex"),
    ("unknown-cost", partial(PointCloud, C, C, "manhattan"), ValueError, "`cost`.*'manhattan'.*'sqeuclidean'"),
    ("number-as-cost", partial(PointCloud, C, C, 2), ValueError, "`cost`.*2"),
    ("lp-without-p", partial(PointCloud, C, C, "lp"), ValueError, "`p`.*None.*exponent"),
    ("p-without-lp", partial(PointCloud, C, C, p=3), ValueError, "`p`.*3.*lp"),
    ("negative-p", partial(PointCloud, C, C, "lp", p=-1), ValueError, "`p`.*-1"),
    ("text-p", partial(PointCloud, C, C, "lp", p="1"), TypeError, "`p`"),
    ("zero-vector", partial(PointCloud, 0 * C, C, "cosine"), ValueError, "`x`.*zero vector"),
    ("overflowing-points", call(PointCloud(1e200 * C, C), None, None), ValueError, "`cost`.*e\\+200.*range"),
    ("cost-function-shape", call(PointCloud(C, C, lambda x, y: x), None, None), ValueError, "`cost`.*shape \\(2, 2\\)"),
    (
        "cost-function-value",
        call(PointCloud(C, C, lambda x, y: 1.0), None, None),
        ValueError,
        "`cost`.*float.*function",
    ),
    (
        "cost-function-nan",
        call(PointCloud(C, C, lambda x, y: np.full((len(x), len(y)), np.nan)), None, None),
        ValueError,
        "`cost`.*NaN",
    ),
    (
        "cost-function-library",
        call(PointCloud(C, C, lambda x, y: foreign(np.ones((len(x), len(y))))), None, None),
        TypeError,
        "`cost`.*library",
    ),
    ("plan-weights", partial(DensePlan, C, None, B), TypeError, "`a`"),
    ("plan-lengths", partial(DensePlan, C, B, B), ValueError, "`a`.*shape \\(3,\\).*shape \\(2,\\)"),
    ("dense-cost", partial(DenseCost, spoiled(np.nan)), ValueError, "`cost`.*NaN"),
    *emd_cases.BAD_INPUTS,
    *map_cases.BAD_INPUTS,
    *plans_cases.BAD_INPUTS,
    *divergence_cases.BAD_INPUTS,
]
