"""Optimal transport: costs, solvers, lazy plans, and proven bounds with every answer."""

from optlib.transport._front import solve
from optlib.transport.cost import Cost, DenseCost, PointCloud
from optlib.transport.emd import emd
from optlib.transport.one_dimensional import wasserstein_1d
from optlib.transport.plan import EntropicPlan, Plan
from optlib.transport.result import TransportResult
from optlib.transport.rounding import RoundedPlan, round_plan
from optlib.transport.sinkhorn import sinkhorn
from optlib.transport.sinkhorn_newton import sinkhorn_newton
from optlib.transport.sparse_plan import SparsePlan

__all__ = [
    "Cost",
    "DenseCost",
    "EntropicPlan",
    "Plan",
    "PointCloud",
    "RoundedPlan",
    "SparsePlan",
    "TransportResult",
    "emd",
    "round_plan",
    "sinkhorn",
    "sinkhorn_newton",
    "solve",
    "wasserstein_1d",
]
