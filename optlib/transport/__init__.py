"""Optimal transport: costs, solvers, lazy plans, and proven bounds with every answer."""

from optlib.transport._front import solve
from optlib.transport.barycenter import BarycenterResult, barycenter
from optlib.transport.bures_wasserstein import bures_wasserstein_barycenter
from optlib.transport.cost import Cost, DenseCost, PointCloud
from optlib.transport.cp_dictionary import WassersteinCPDictionary
from optlib.transport.divergence import DivergenceResult, Gradients, divergence
from optlib.transport.emd import emd
from optlib.transport.emd_entropic import emd_entropic
from optlib.transport.free_support import free_support_barycenter
from optlib.transport.gaussian import GaussianTransport, bures_wasserstein, gaussian_transport
from optlib.transport.grid import GridCost
from optlib.transport.light_bridge import LightBridge
from optlib.transport.maps import FourierMap, JaxMap, TorchMap
from optlib.transport.mirror_sinkhorn import mirror_sinkhorn
from optlib.transport.monge_gap import MongeGap, monge_gap
from optlib.transport.monge_map import MongeMap
from optlib.transport.one_dimensional import wasserstein_1d
from optlib.transport.partial import partial
from optlib.transport.plan import DensePlan, EntropicPlan, Plan
from optlib.transport.quadratic import quadratic
from optlib.transport.result import TransportResult
from optlib.transport.rounding import RoundedPlan, round_plan
from optlib.transport.sinkhorn import sinkhorn
from optlib.transport.sinkhorn_newton import sinkhorn_newton
from optlib.transport.sliced import SlicedEstimate, sliced
from optlib.transport.sparse_plan import SparsePlan
from optlib.transport.sparsity_constrained import sparsity_constrained

__all__ = [
    "BarycenterResult",
    "Cost",
    "DenseCost",
    "DensePlan",
    "DivergenceResult",
    "EntropicPlan",
    "FourierMap",
    "GaussianTransport",
    "Gradients",
    "GridCost",
    "JaxMap",
    "LightBridge",
    "MongeGap",
    "MongeMap",
    "Plan",
    "PointCloud",
    "RoundedPlan",
    "SlicedEstimate",
    "SparsePlan",
    "TorchMap",
    "TransportResult",
    "WassersteinCPDictionary",
    "barycenter",
    "bures_wasserstein",
    "bures_wasserstein_barycenter",
    "divergence",
    "emd",
    "emd_entropic",
    "free_support_barycenter",
    "gaussian_transport",
    "mirror_sinkhorn",
    "monge_gap",
    "partial",
    "quadratic",
    "round_plan",
    "sinkhorn",
    "sinkhorn_newton",
    "sliced",
    "solve",
    "sparsity_constrained",
    "wasserstein_1d",
]
