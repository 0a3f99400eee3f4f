"""Bilevel optimization: hyperparameters tuned by gradients of the validation loss."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from optlib.bilevel._front import tune
from optlib.bilevel.adapters import from_jax, from_torch
from optlib.bilevel.bamm import bamm
from optlib.bilevel.bda import bda
from optlib.bilevel.bo_rep import bo_rep
from optlib.bilevel.call import HyperResult
from optlib.bilevel.checks import check_problem, finite_differences
from optlib.bilevel.elbo import elbo
from optlib.bilevel.f2sa import f2sa
from optlib.bilevel.hierarchy_free import hierarchy_free
from optlib.bilevel.hoag import hoag
from optlib.bilevel.hypergradient import hypergradient
from optlib.bilevel.lv_hba import lv_hba
from optlib.bilevel.maid import maid
from optlib.bilevel.nonsmooth import nonsmooth
from optlib.bilevel.penalty import penalty
from optlib.bilevel.piecewise import piecewise
from optlib.bilevel.problem import Constants, Constraints, Point, Problem
from optlib.bilevel.problems.cleaning import CleaningProblem
from optlib.bilevel.problems.constrained import AffineConstraintProblem, SumConstraintProblem, SVMProblem
from optlib.bilevel.problems.equilibria import EquilibriumProblem, StackelbergProblem
from optlib.bilevel.problems.fields_of_experts import FieldsOfExpertsProblem
from optlib.bilevel.problems.folds import FoldsProblem
from optlib.bilevel.problems.kernel_ridge import KernelRidgeFoldsProblem, KernelRidgeProblem
from optlib.bilevel.problems.lasso import ElasticNetProblem, LassoProblem
from optlib.bilevel.problems.leave_one_out import LeaveOneOutRidgeProblem
from optlib.bilevel.problems.linear_models import LogisticProblem, MultinomialProblem, RidgeProblem
from optlib.bilevel.problems.merely_convex import CounterexampleProblem
from optlib.bilevel.problems.networks import ShallowNetProblem
from optlib.bilevel.problems.quadratics import LeastSquaresProblem, QuadraticProblem
from optlib.bilevel.problems.total_variation import TotalVariationProblem
from optlib.bilevel.problems.unbounded_smoothness import CoshProblem
from optlib.bilevel.quasi_newton import quasi_newton
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.saba import saba
from optlib.bilevel.scalar import scalar
from optlib.bilevel.self_tuning import ridge_best_response, self_tuning
from optlib.bilevel.soba import soba
from optlib.bilevel.truncated import truncated

if TYPE_CHECKING:
    from optlib.bilevel.estimators.cleaner import DataCleaner
    from optlib.bilevel.estimators.denoisers import FoEDenoiser, TVDenoiser
    from optlib.bilevel.estimators.kernel_ridge import KernelRidgeTuned
    from optlib.bilevel.estimators.lasso import ElasticNetTuned, LassoTuned
    from optlib.bilevel.estimators.logistic import LogisticRegressionTuned
    from optlib.bilevel.estimators.ridge import RidgeTuned

# Estimators and their modules: these bring scikit-learn, and come in where they are used.
ESTIMATORS = {
    "DataCleaner": "cleaner",
    "ElasticNetTuned": "lasso",
    "FoEDenoiser": "denoisers",
    "KernelRidgeTuned": "kernel_ridge",
    "LassoTuned": "lasso",
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
    "ElasticNetProblem",
    "ElasticNetTuned",
    "EquilibriumProblem",
    "FieldsOfExpertsProblem",
    "FoEDenoiser",
    "FoldsProblem",
    "HyperResult",
    "KernelRidgeFoldsProblem",
    "KernelRidgeProblem",
    "KernelRidgeTuned",
    "LassoProblem",
    "LassoTuned",
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
    "ShallowNetProblem",
    "StackelbergProblem",
    "SumConstraintProblem",
    "TVDenoiser",
    "TotalVariationProblem",
    "bamm",
    "bda",
    "bo_rep",
    "check_problem",
    "elbo",
    "f2sa",
    "finite_differences",
    "from_jax",
    "from_torch",
    "hierarchy_free",
    "hoag",
    "hypergradient",
    "lv_hba",
    "maid",
    "nonsmooth",
    "penalty",
    "piecewise",
    "quasi_newton",
    "ridge_best_response",
    "saba",
    "scalar",
    "self_tuning",
    "soba",
    "truncated",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in ESTIMATORS:
        return getattr(import_module(f"optlib.bilevel.estimators.{ESTIMATORS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
