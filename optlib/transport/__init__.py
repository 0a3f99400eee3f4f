"""Optimal transport: costs, solvers, lazy plans, and proven bounds with every answer."""

from optlib.transport.cost import Cost, DenseCost, PointCloud
from optlib.transport.result import TransportResult

__all__ = ["Cost", "DenseCost", "PointCloud", "TransportResult"]
