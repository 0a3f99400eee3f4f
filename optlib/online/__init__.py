"""Online learning with proven regret: learners, environments, comparators, and the one driver `play`.

A learner decides, is told what its environment reveals, and decides again; `Learner.regret_bound` is the bound of its
theorem for the feedback as it was. `play` runs a learner (or many independent ones at once) on arrays, streams and
environments, and accounts for the regret.
"""

from optlib.online.adagrad import AdaGrad, AdaGradFull
from optlib.online.adahedge import AdaHedge
from optlib.online.ader import Ader
from optlib.online.bandits import EXP3, TsallisINF
from optlib.online.chambolle_pock import chambolle_pock
from optlib.online.coin_betting import CoinBetting
from optlib.online.comparators import Switching, best_fixed, best_switching
from optlib.online.environments import QuadraticLosses
from optlib.online.extragradient import extragradient, mirror_prox
from optlib.online.feedback import Feedback
from optlib.online.fixed_share import FixedShare
from optlib.online.ftrl import FTRL, FTRLProximal
from optlib.online.halpern import halpern, variance_reduced_halpern
from optlib.online.hedge import Hedge
from optlib.online.learner import Learner
from optlib.online.ogd import OGD
from optlib.online.omd import OMD, DualStabilizedOMD
from optlib.online.ons import ONS, OptimisticONS
from optlib.online.optimistic import OptimisticFTRL, OptimisticOMD
from optlib.online.optimistic_gradient import optimistic_gradient
from optlib.online.play import OnlineResult, play
from optlib.online.problems import AffineOperator, BilinearGame, FiniteSum, VariationalInequality
from optlib.online.proximal_point import proximal_point
from optlib.online.self_play import self_play
from optlib.online.terms import CompositeProblem, Indicator, L1Norm, SquaredDistance, Term
from optlib.online.tuner import OnlineTuner

__all__ = [
    "EXP3",
    "FTRL",
    "OGD",
    "OMD",
    "ONS",
    "AdaGrad",
    "AdaGradFull",
    "AdaHedge",
    "Ader",
    "AffineOperator",
    "BilinearGame",
    "CoinBetting",
    "CompositeProblem",
    "DualStabilizedOMD",
    "FTRLProximal",
    "Feedback",
    "FiniteSum",
    "FixedShare",
    "Hedge",
    "Indicator",
    "L1Norm",
    "Learner",
    "OnlineResult",
    "OnlineTuner",
    "OptimisticFTRL",
    "OptimisticOMD",
    "OptimisticONS",
    "QuadraticLosses",
    "SquaredDistance",
    "Switching",
    "Term",
    "TsallisINF",
    "VariationalInequality",
    "best_fixed",
    "best_switching",
    "chambolle_pock",
    "extragradient",
    "halpern",
    "mirror_prox",
    "optimistic_gradient",
    "play",
    "proximal_point",
    "self_play",
    "variance_reduced_halpern",
]
