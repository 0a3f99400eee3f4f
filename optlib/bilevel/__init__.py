"""Bilevel optimization: hyperparameters tuned by gradients of the validation loss."""

from optlib.bilevel.checks import check_problem, finite_differences
from optlib.bilevel.hypergradient import HyperResult, hypergradient
from optlib.bilevel.problem import Constants, Point, Problem
from optlib.bilevel.problems.cleaning import CleaningProblem
from optlib.bilevel.problems.linear_models import LogisticProblem, MultinomialProblem, RidgeProblem
from optlib.bilevel.problems.quadratics import QuadraticProblem

__all__ = [
    "CleaningProblem",
    "Constants",
    "HyperResult",
    "LogisticProblem",
    "MultinomialProblem",
    "Point",
    "Problem",
    "QuadraticProblem",
    "RidgeProblem",
    "check_problem",
    "finite_differences",
    "hypergradient",
]
