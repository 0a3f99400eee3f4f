"""Arguments of the kernels, contract cases and refused calls of the quadratic, k-sparse, partial and mirror methods."""

from functools import partial

import numpy as np
from hypothesis import strategies as st

from optlib.datasets import make_transport
from optlib.transport import PointCloud, mirror_sinkhorn, quadratic, solve, sparsity_constrained
from optlib.transport import partial as partial_transport


@st.composite
def sweeps(draw, sparse=False):
    """The entries of a cost, potentials and wanted sums; entries are distinct, so that the k largest are unique."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 7, 8, 9, 300]))
    if draw(st.booleans()):
        entries = (None, rng.normal(size=(n, draw(st.integers(1, 3)))), None, draw(st.sampled_from([1.0, 0.5])))
        entries = (*entries[:2], rng.normal(size=(m, entries[1].shape[1])), entries[3])
    else:
        cost = rng.random((m, n)).T if draw(st.booleans()) else rng.random((n, m))
        entries = (cost, None, None, 1.0)
    wanted = rng.dirichlet(np.ones(n)) * draw(st.sampled_from([1e-2, 1.0, 100.0]))
    args = (*entries, rng.normal(size=n), 0.3 * rng.normal(size=m), wanted)
    return (*args, draw(st.integers(1, m)), draw(st.booleans())) if sparse else args


KERNELS = {
    "transport.quadratic._sweep": sweeps(),
    "transport.sparsity_constrained._top": sweeps(sparse=True),
}


def _problem(backend, n=14, m=11):
    """A cloud, with a source that has no mass."""
    problem = make_transport("cloud2d", n, m, rng=0)
    a = problem.a.copy()
    a[0], a[1] = 0.0, a[0] + a[1]
    return tuple(backend.asarray(np.asarray(u)) for u in (problem.cost, a, problem.b))


CONTRACTS = {
    "transport.quadratic": lambda backend: (_problem(backend), {"reg": 0.02}),
    "transport.sparsity_constrained": lambda backend: (
        _problem(backend),
        {"reg": 0.1, "k": 2, "recover": "subgradient"},
    ),
    "transport.partial": lambda backend: (_problem(backend), {"reg": 0.05, "mass": 0.6}),
    "transport.mirror_sinkhorn": lambda backend: (
        (lambda plan, t, rng: _problem(backend)[0] + plan, *_problem(backend)[1:]),
        {"rng": 0},
    ),
}

C, A, B = np.asarray([[0.0, 1.0, 2.0], [1.0, 0.0, 1.0]]), np.asarray([0.5, 0.5]), np.asarray([0.25, 0.25, 0.5])
moved, sparse = partial(partial_transport, C, A, B), partial(sparsity_constrained, C, A, B)
mirror = partial(mirror_sinkhorn, lambda plan, t, rng: C)
BAD_INPUTS = [
    ("quadratic-reg", partial(quadratic, C, reg=0.0), ValueError, "`reg`.*got 0.*> 0"),
    ("quadratic-masses", partial(quadratic, C, A, 2 * B, reg=1.0), ValueError, "`a, b`.*masses 1 and 2"),
    ("quadratic-nan", partial(quadratic, C * np.nan, reg=1.0), ValueError, "`cost`.*NaN"),
    ("quadratic-tol", partial(quadratic, C, reg=1.0, tol=-1.0), ValueError, "`tol`.*-1"),
    ("quadratic-init", partial(quadratic, C, reg=1.0, init=A), ValueError, "`init`.*shape \\(2,\\).*shape \\(3,\\)"),
    (
        "quadratic-unbalanced",
        partial(solve, C, reg=1.0, reg_type="quadratic", unbalanced=1.0),
        ValueError,
        "`unbalanced`.*1.0.*None",
    ),
    (
        "quadratic-method",
        partial(solve, C, reg=1.0, reg_type="quadratic", method="sinkhorn"),
        ValueError,
        "`method`.*sinkhorn.*quadratic",
    ),
    (
        "entropy-quadratic",
        partial(solve, C, reg=1.0, method="quadratic"),
        ValueError,
        "`method`.*quadratic.*entropy",
    ),
    ("k-zero", partial(sparse, k=0, reg=1.0), ValueError, "`k`.*got 0.*>= 1"),
    ("k-fraction", partial(sparse, k=1.5, reg=1.0), TypeError, "`k`.*1.5.*integer"),
    ("k-infeasible", partial(sparse, k=1, reg=1.0, per="row"), ValueError, "`k`.*got 1.*at least 2.*quadratic"),
    ("k-infeasible-column", partial(sparsity_constrained, C.T, k=1, reg=1.0), ValueError, "`k`.*got 1.*at least 2"),
    ("k-reg", partial(sparse, k=2, reg=-1.0), ValueError, "`reg`.*-1"),
    ("k-per", partial(sparse, k=2, reg=1.0, per="token"), ValueError, "`per`.*'token'.*'column'"),
    ("k-recover", partial(sparse, k=2, reg=1.0, recover="greedy"), ValueError, "`recover`.*'greedy'.*'polish'"),
    ("k-formulation", partial(sparse, k=2, reg=1.0, formulation="primal"), ValueError, "`formulation`.*'primal'"),
    ("mass-beyond", partial(moved, mass=1.1), ValueError, "`mass`.*got 1.1.*at most the smaller mass.*1"),
    ("mass-zero", partial(moved, mass=0.0), ValueError, "`mass`.*got 0.*> 0"),
    ("mass-negative", partial(moved, mass=-1.0), ValueError, "`mass`.*-1.*> 0"),
    ("mass-nan", partial(moved, mass=np.nan), ValueError, "`mass`.*nan"),
    ("mass-text", partial(moved, mass="all"), TypeError, "`mass`.*'all'"),
    ("mass-reg", partial(moved, mass=0.5, reg=-1.0), ValueError, "`reg`.*-1.*>= 0"),
    ("mass-reg-inf", partial(moved, mass=0.5, reg=np.inf), ValueError, "`reg`.*inf"),
    ("mass-cloud", partial(partial_transport, PointCloud(C, C), mass=3.0), ValueError, "`mass`.*got 3.*at most"),
    ("mass-init", partial(moved, mass=0.5, reg=1.0, init=A), TypeError, "`init`.*result of the same method"),
    ("mirror-weights", partial(mirror_sinkhorn, lambda *_: C), TypeError, "`a, b`.*None.*pass both"),
    ("mirror-masses", partial(mirror, A, 2 * B), ValueError, "`a, b`.*masses 1 and 2"),
    ("mirror-matrix", partial(mirror, C, B), ValueError, "`a, b`.*shapes"),
    ("mirror-shape", partial(mirror, A, A), ValueError, "`objective`.*shape \\(2, 3\\).*shape \\(2, 2\\)"),
    (
        "mirror-number",
        partial(mirror_sinkhorn, lambda *_: 1.0, A, B),
        TypeError,
        "`objective`.*float.*gradients",
    ),
    ("mirror-oracle", partial(mirror, A, B, oracle="noisy"), ValueError, "`oracle`.*'noisy'.*'online'"),
    ("mirror-cost-oracle", partial(mirror_sinkhorn, C, oracle="online"), ValueError, "`oracle`.*got online.*cost"),
    ("mirror-average", partial(mirror, A, B, average="best"), ValueError, "`average`.*'best'.*'uniform'"),
    ("mirror-init", partial(mirror, A, B, init=-C), ValueError, "`init`.*-2.*>= 0"),
    ("mirror-init-cost", partial(mirror_sinkhorn, C, init=C), TypeError, "`init`.*array.*result"),
]
