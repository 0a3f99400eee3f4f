"""A call of every solver of `optlib.transport` that takes more than a few iterations."""

import numpy as np

from optlib.datasets import make_transport
from tests.transport import divergence_cases, emd_cases, map_cases, plans_cases


def sinkhorn(backend):
    problem = make_transport("cloud2d", 12, 9, rng=0)
    a = problem.a.copy()
    a[0], a[1] = 0.0, a[0] + a[1]
    cost, a, b = (backend.asarray(np.asarray(u)) for u in (problem.cost, a, problem.b))
    return (cost, a, b), {"reg": 0.01}


CASES = {
    "transport.sinkhorn": sinkhorn,
    "transport.sinkhorn_newton": sinkhorn,
    "transport.emd": emd_cases.emd,
    "transport.emd_entropic": emd_cases.emd_entropic,
    **divergence_cases.CONTRACT,
    **plans_cases.CONTRACTS,
    **map_cases.CONTRACT,
}
