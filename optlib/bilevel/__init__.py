"""Bilevel optimization: hyperparameters tuned by gradients of the validation loss."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from optlib.bilevel._front import tune
from optlib.bilevel.bamm import bamm
from optlib.bilevel.bda import bda
from optlib.bilevel.bo_rep import bo_rep
from optlib.bilevel.checks import check_problem, finite_differences
from optlib.bilevel.f2sa import f2sa
from optlib.bilevel.hoag import hoag
from optlib.bilevel.hypergradient import HyperResult, hypergradient
from optlib.bilevel.lv_hba import lv_hba
from optlib.bilevel.maid import maid
from optlib.bilevel.penalty import penalty
from optlib.bilevel.problem import Constants, Constraints, Point, Problem
from optlib.bilevel.problems.cleaning import CleaningProblem
from optlib.bilevel.problems.constrained import AffineConstraintProblem, SumConstraintProblem, SVMProblem
from optlib.bilevel.problems.fields_of_experts import FieldsOfExpertsProblem
from optlib.bilevel.problems.folds import FoldsProblem
from optlib.bilevel.problems.kernel_ridge import KernelRidgeFoldsProblem, KernelRidgeProblem
from optlib.bilevel.problems.leave_one_out import LeaveOneOutRidgeProblem
from optlib.bilevel.problems.linear_models import LogisticProblem, MultinomialProblem, RidgeProblem
from optlib.bilevel.problems.merely_convex import CounterexampleProblem
from optlib.bilevel.problems.quadratics import LeastSquaresProblem, QuadraticProblem
from optlib.bilevel.problems.total_variation import TotalVariationProblem
from optlib.bilevel.problems.unbounded_smoothness import CoshProblem
from optlib.bilevel.quasi_newton import quasi_newton
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.saba import saba
from optlib.bilevel.scalar import scalar
from optlib.bilevel.soba import soba

if TYPE_CHECKING:
    from optlib.bilevel.estimators.cleaner import DataCleaner
    from optlib.bilevel.estimators.denoisers import FoEDenoiser, TVDenoiser
    from optlib.bilevel.estimators.kernel_ridge import KernelRidgeTuned
    from optlib.bilevel.estimators.logistic import LogisticRegressionTuned
    from optlib.bilevel.estimators.ridge import RidgeTuned

# Estimators and their modules: these bring scikit-learn, and come in where they are used.
ESTIMATORS = {
    "DataCleaner": "cleaner",
    "FoEDenoiser": "denoisers",
    "KernelRidgeTuned": "kernel_ridge",
    "LogisticRegressionTuned": "logistic",
    "RidgeTuned": "ridge",
    "TVDenoiser": "denoisers",
}

__all__ = [
    "AffineConstraintProblem",
    "BilevelResult",
    "CleaningProblem",
    "Constants",
    "Constraints",
    "CoshProblem",
    "CounterexampleProblem",
    "DataCleaner",
    "FieldsOfExpertsProblem",
    "FoEDenoiser",
    "FoldsProblem",
    "HyperResult",
    "KernelRidgeFoldsProblem",
    "KernelRidgeProblem",
    "KernelRidgeTuned",
    "LeastSquaresProblem",
    "LeaveOneOutRidgeProblem",
    "LogisticProblem",
    "LogisticRegressionTuned",
    "MultinomialProblem",
    "Point",
    "Problem",
    "QuadraticProblem",
    "RidgeProblem",
    "RidgeTuned",
    "SVMProblem",
    "SumConstraintProblem",
    "TVDenoiser",
    "TotalVariationProblem",
    "bamm",
    "bda",
    "bo_rep",
    "check_problem",
    "f2sa",
    "finite_differences",
    "hoag",
    "hypergradient",
    "lv_hba",
    "maid",
    "penalty",
    "quasi_newton",
    "saba",
    "scalar",
    "soba",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in ESTIMATORS:
        return getattr(import_module(f"optlib.bilevel.estimators.{ESTIMATORS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
