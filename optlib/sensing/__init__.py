"""Low-rank recovery: sensing operators, solvers from papers, and a default that solves what they cannot."""

from optlib.sensing.entries import EntrySampling, random_entries
from optlib.sensing.operators import DenseSensing, GaussianSensing, LinearSensing, SensingOperator
from optlib.sensing.rank_one import RankOneSensing
from optlib.sensing.regenerated import RegeneratedSensing
from optlib.sensing.transform import SubsampledTransform

__all__ = [
    "DenseSensing",
    "EntrySampling",
    "GaussianSensing",
    "LinearSensing",
    "RankOneSensing",
    "RegeneratedSensing",
    "SensingOperator",
    "SubsampledTransform",
    "random_entries",
]
