"""Optimal transport: costs, solvers, lazy plans, and proven bounds with every answer."""

from optlib.transport.cost import Cost, DenseCost, PointCloud
from optlib.transport.plan import EntropicPlan, Plan
from optlib.transport.result import TransportResult
from optlib.transport.rounding import RoundedPlan, round_plan

__all__ = [
    "Cost",
    "DenseCost",
    "EntropicPlan",
    "Plan",
    "PointCloud",
    "RoundedPlan",
    "TransportResult",
    "round_plan",
]
