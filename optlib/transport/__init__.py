"""Optimal transport: costs, solvers, lazy plans, and proven bounds with every answer."""

from optlib.transport._front import solve
from optlib.transport.cost import Cost, DenseCost, PointCloud
from optlib.transport.cp_dictionary import WassersteinCPDictionary
from optlib.transport.emd import emd
from optlib.transport.light_bridge import LightBridge
from optlib.transport.maps import FourierMap, JaxMap, TorchMap
from optlib.transport.monge_gap import MongeGap, monge_gap
from optlib.transport.monge_map import MongeMap
from optlib.transport.one_dimensional import wasserstein_1d
from optlib.transport.plan import EntropicPlan, Plan
from optlib.transport.result import TransportResult
from optlib.transport.rounding import RoundedPlan, round_plan
from optlib.transport.sinkhorn import sinkhorn
from optlib.transport.sparse_plan import SparsePlan

__all__ = [
    "Cost",
    "DenseCost",
    "EntropicPlan",
    "FourierMap",
    "JaxMap",
    "LightBridge",
    "MongeGap",
    "MongeMap",
    "Plan",
    "PointCloud",
    "RoundedPlan",
    "SparsePlan",
    "TorchMap",
    "TransportResult",
    "WassersteinCPDictionary",
    "emd",
    "monge_gap",
    "round_plan",
    "sinkhorn",
    "solve",
    "wasserstein_1d",
]
