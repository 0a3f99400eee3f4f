"""Optimal transport: costs, solvers, lazy plans, and proven bounds with every answer."""

from optlib.transport._front import solve
from optlib.transport.barycenter import BarycenterResult, barycenter
from optlib.transport.bures_wasserstein import bures_wasserstein_barycenter
from optlib.transport.cost import Cost, DenseCost, PointCloud
from optlib.transport.divergence import DivergenceResult, Gradients, divergence
from optlib.transport.emd import emd
from optlib.transport.free_support import free_support_barycenter
from optlib.transport.gaussian import GaussianTransport, bures_wasserstein, gaussian_transport
from optlib.transport.grid import GridCost
from optlib.transport.one_dimensional import wasserstein_1d
from optlib.transport.plan import EntropicPlan, Plan
from optlib.transport.result import TransportResult
from optlib.transport.rounding import RoundedPlan, round_plan
from optlib.transport.sinkhorn import sinkhorn
from optlib.transport.sliced import SlicedEstimate, sliced
from optlib.transport.sparse_plan import SparsePlan

__all__ = [
    "BarycenterResult",
    "Cost",
    "DenseCost",
    "DivergenceResult",
    "EntropicPlan",
    "GaussianTransport",
    "Gradients",
    "GridCost",
    "Plan",
    "PointCloud",
    "RoundedPlan",
    "SlicedEstimate",
    "SparsePlan",
    "TransportResult",
    "barycenter",
    "bures_wasserstein",
    "bures_wasserstein_barycenter",
    "divergence",
    "emd",
    "free_support_barycenter",
    "gaussian_transport",
    "round_plan",
    "sinkhorn",
    "sliced",
    "solve",
    "wasserstein_1d",
]
