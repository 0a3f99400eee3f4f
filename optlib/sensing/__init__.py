"""Low-rank recovery: sensing operators, solvers from papers, and a default that solves what they cannot."""

from optlib.sensing._front import recover
from optlib.sensing.entries import EntrySampling, random_entries
from optlib.sensing.levenberg_marquardt import levenberg_marquardt
from optlib.sensing.operators import DenseSensing, GaussianSensing, LinearSensing, SensingOperator
from optlib.sensing.rank_one import RankOneSensing
from optlib.sensing.regenerated import RegeneratedSensing
from optlib.sensing.result import LowRankMatrix, SensingResult
from optlib.sensing.riemannian import riemannian
from optlib.sensing.spectral import spectral_init
from optlib.sensing.transform import SubsampledTransform

__all__ = [
    "DenseSensing",
    "EntrySampling",
    "GaussianSensing",
    "LinearSensing",
    "LowRankMatrix",
    "RankOneSensing",
    "RegeneratedSensing",
    "SensingOperator",
    "SensingResult",
    "SubsampledTransform",
    "levenberg_marquardt",
    "random_entries",
    "recover",
    "riemannian",
    "spectral_init",
]
