"""Online learning with proven regret: learners, environments, comparators, and the one driver `play`.

A learner decides, is told what its environment reveals, and decides again; `Learner.regret_bound` is the bound of its
theorem for the feedback as it was. `play` runs a learner (or many independent ones at once) on arrays, streams and
environments, and accounts for the regret.

Saddle points and variational inequalities: problems (`BilinearGame`, `VariationalInequality`, `CompositeProblem`, ...)
and solvers (`mirror_prox`, `chambolle_pock`, `halpern`, ...) whose certificate is a duality gap or a residual.
Projections onto intersections: `dykstra`, `project_and_forget`, `metric_nearness`. `OnlineTuner` learns a parameter of
any solver from one problem to the next.
"""

from optlib.online.adagrad import AdaGrad, AdaGradFull
from optlib.online.adahedge import AdaHedge
from optlib.online.ader import Ader
from optlib.online.alpd import SmoothSaddle, alpd
from optlib.online.bandits import EXP3, TsallisINF
from optlib.online.chambolle_pock import chambolle_pock
from optlib.online.coin_betting import CoinBetting
from optlib.online.comparators import Switching, best_fixed, best_switching
from optlib.online.constrained import ConstrainedOGD
from optlib.online.control import DisturbanceActionController
from optlib.online.dog import DoG
from optlib.online.dykstra import dykstra
from optlib.online.environments import QuadraticLosses
from optlib.online.examples import LinearModelLosses
from optlib.online.extragradient import extragradient, mirror_prox
from optlib.online.feedback import Feedback
from optlib.online.fixed_share import FixedShare
from optlib.online.fkm import FKM
from optlib.online.ftrl import FTRL, FTRLProximal
from optlib.online.halpern import halpern, variance_reduced_halpern
from optlib.online.hedge import Hedge
from optlib.online.implicit import AdaImplicit, ImplicitFTRL
from optlib.online.learner import Learner
from optlib.online.linear_decay import LinearDecay, refined_weights
from optlib.online.log_barrier import LogBarrierFTRL
from optlib.online.matrix_hedge import MatrixHedge
from optlib.online.metagrad import MetaGrad
from optlib.online.metric_nearness import MetricOracle, correlation_clustering, metric_nearness
from optlib.online.ogd import OGD
from optlib.online.omd import OMD, DualStabilizedOMD
from optlib.online.ons import ONS, OptimisticONS
from optlib.online.optimistic import OptimisticFTRL, OptimisticOMD
from optlib.online.optimistic_gradient import optimistic_gradient
from optlib.online.play import OnlineResult, play
from optlib.online.portfolio import (
    ExponentiatedGradient,
    PortfolioLosses,
    PortfolioONS,
    UniformPortfolio,
    best_portfolio,
)
from optlib.online.problems import AffineOperator, BilinearGame, FiniteSum, VariationalInequality
from optlib.online.project_and_forget import Constraints, HalfSpaces, project_and_forget
from optlib.online.projection_free import FTPL, OnlineFrankWolfe
from optlib.online.proximal_point import proximal_point
from optlib.online.regression import GLMFTRL, OnlineRidge, VovkAzouryWarmuth
from optlib.online.self_play import self_play
from optlib.online.sword import Sword
from optlib.online.terms import CompositeProblem, Indicator, L1Norm, SquaredDistance, Term
from optlib.online.tuner import OnlineTuner

__all__ = [
    "EXP3",
    "FKM",
    "FTPL",
    "FTRL",
    "GLMFTRL",
    "OGD",
    "OMD",
    "ONS",
    "AdaGrad",
    "AdaGradFull",
    "AdaHedge",
    "AdaImplicit",
    "Ader",
    "AffineOperator",
    "BilinearGame",
    "CoinBetting",
    "CompositeProblem",
    "ConstrainedOGD",
    "Constraints",
    "DisturbanceActionController",
    "DoG",
    "DualStabilizedOMD",
    "ExponentiatedGradient",
    "FTRLProximal",
    "Feedback",
    "FiniteSum",
    "FixedShare",
    "HalfSpaces",
    "Hedge",
    "ImplicitFTRL",
    "Indicator",
    "L1Norm",
    "Learner",
    "LinearDecay",
    "LinearModelLosses",
    "LogBarrierFTRL",
    "MatrixHedge",
    "MetaGrad",
    "MetricOracle",
    "OnlineFrankWolfe",
    "OnlineResult",
    "OnlineRidge",
    "OnlineTuner",
    "OptimisticFTRL",
    "OptimisticOMD",
    "OptimisticONS",
    "PortfolioLosses",
    "PortfolioONS",
    "QuadraticLosses",
    "SmoothSaddle",
    "SquaredDistance",
    "Switching",
    "Sword",
    "Term",
    "TsallisINF",
    "UniformPortfolio",
    "VariationalInequality",
    "VovkAzouryWarmuth",
    "alpd",
    "best_fixed",
    "best_portfolio",
    "best_switching",
    "chambolle_pock",
    "correlation_clustering",
    "dykstra",
    "extragradient",
    "halpern",
    "metric_nearness",
    "mirror_prox",
    "optimistic_gradient",
    "play",
    "project_and_forget",
    "proximal_point",
    "refined_weights",
    "self_play",
    "variance_reduced_halpern",
]
