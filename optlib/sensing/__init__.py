"""Low-rank recovery: sensing operators, solvers from papers, and a default that solves what they cannot."""

from typing import TYPE_CHECKING, Any

from optlib.sensing._end_to_end import end_to_end
from optlib.sensing._front import recover
from optlib.sensing.alternating_minimization import alternating_minimization
from optlib.sensing.biased import biased_factorization
from optlib.sensing.certificates import identifiability, l1_certificate, nuclear_certificate
from optlib.sensing.deep_factorization import deep_factorization
from optlib.sensing.entries import EntrySampling, random_entries
from optlib.sensing.fista import fista
from optlib.sensing.gauss_newton import gauss_newton
from optlib.sensing.gradient_descent import gradient_descent
from optlib.sensing.incremental import incremental
from optlib.sensing.levenberg_marquardt import levenberg_marquardt
from optlib.sensing.lifted import lifted
from optlib.sensing.operators import DenseSensing, GaussianSensing, LinearSensing, SensingOperator
from optlib.sensing.overparameterized_regression import overparameterized_regression
from optlib.sensing.prec_gd import prec_gd
from optlib.sensing.rank_one import RankOneSensing
from optlib.sensing.regenerated import RegeneratedSensing
from optlib.sensing.result import LowRankMatrix, SensingResult
from optlib.sensing.riemannian import riemannian
from optlib.sensing.scaled_gd import scaled_gd
from optlib.sensing.self_calibration import self_calibration
from optlib.sensing.soft_impute import soft_impute
from optlib.sensing.spectral import spectral_init
from optlib.sensing.subgradient import subgradient
from optlib.sensing.svt import svt
from optlib.sensing.transform import SubsampledTransform
from optlib.sensing.weighted_svd import weighted_svd

if TYPE_CHECKING:
    from optlib.sensing.completion import MatrixCompletion

__all__ = [
    "DenseSensing",
    "EntrySampling",
    "GaussianSensing",
    "LinearSensing",
    "LowRankMatrix",
    "MatrixCompletion",
    "RankOneSensing",
    "RegeneratedSensing",
    "SensingOperator",
    "SensingResult",
    "SubsampledTransform",
    "alternating_minimization",
    "biased_factorization",
    "deep_factorization",
    "end_to_end",
    "fista",
    "gauss_newton",
    "gradient_descent",
    "identifiability",
    "incremental",
    "l1_certificate",
    "levenberg_marquardt",
    "lifted",
    "nuclear_certificate",
    "overparameterized_regression",
    "prec_gd",
    "random_entries",
    "recover",
    "riemannian",
    "scaled_gd",
    "self_calibration",
    "soft_impute",
    "spectral_init",
    "subgradient",
    "svt",
    "weighted_svd",
]


def __getattr__(name: str) -> Any:
    if name == "MatrixCompletion":  # brings scikit-learn
        from optlib.sensing.completion import MatrixCompletion

        return MatrixCompletion
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
