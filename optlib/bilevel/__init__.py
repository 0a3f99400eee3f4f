"""Bilevel optimization: hyperparameters tuned by gradients of the validation loss."""

from optlib.bilevel._front import tune
from optlib.bilevel.bamm import bamm
from optlib.bilevel.bda import bda
from optlib.bilevel.checks import check_problem, finite_differences
from optlib.bilevel.hierarchy_free import hierarchy_free
from optlib.bilevel.hoag import hoag
from optlib.bilevel.hypergradient import HyperResult, hypergradient
from optlib.bilevel.problem import Constants, Point, Problem
from optlib.bilevel.problems.cleaning import CleaningProblem
from optlib.bilevel.problems.equilibria import EquilibriumProblem, StackelbergProblem
from optlib.bilevel.problems.fields_of_experts import FieldsOfExpertsProblem
from optlib.bilevel.problems.linear_models import LogisticProblem, MultinomialProblem, RidgeProblem
from optlib.bilevel.problems.merely_convex import CounterexampleProblem
from optlib.bilevel.problems.quadratics import QuadraticProblem
from optlib.bilevel.problems.total_variation import TotalVariationProblem
from optlib.bilevel.quasi_newton import quasi_newton
from optlib.bilevel.result import BilevelResult
from optlib.bilevel.scalar import scalar

__all__ = [
    "BilevelResult",
    "CleaningProblem",
    "Constants",
    "CounterexampleProblem",
    "EquilibriumProblem",
    "FieldsOfExpertsProblem",
    "HyperResult",
    "LogisticProblem",
    "MultinomialProblem",
    "Point",
    "Problem",
    "QuadraticProblem",
    "RidgeProblem",
    "StackelbergProblem",
    "TotalVariationProblem",
    "bamm",
    "bda",
    "check_problem",
    "finite_differences",
    "hierarchy_free",
    "hoag",
    "hypergradient",
    "quasi_newton",
    "scalar",
    "tune",
]
