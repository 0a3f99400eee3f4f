"""Every learner, with what its bound needs: for the property test, the backends and the bad inputs."""

from functools import partial

import numpy as np

from optlib import geometry as geo
from optlib import online

N = 4
# Learners of linear losses on bounded sets: the bound holds for the best fixed decision.
LINEAR = {
    "Hedge": partial(online.Hedge, N),
    "Hedge-rate": partial(online.Hedge, N, rate=0.3),
    "AdaHedge": partial(online.AdaHedge, N),
    "FixedShare": partial(online.FixedShare, N, rounds=60, switches=3),
    "OGD-ball": lambda: online.OGD(geo.Ball(N, 2.0)),
    "OGD-middle": lambda: online.OGD(geo.Ball(N, 2.0, middle=np.arange(4.0))),
    "OGD-box": lambda: online.OGD(geo.Box(-1.0, [1.0, 2.0, 3.0, 0.0])),
    "OGD-simplex": lambda: online.OGD(geo.Simplex(N)),
    "OGD-l1": lambda: online.OGD(geo.L1Ball(N)),
    "OGD-rate": lambda: online.OGD(geo.Ball(N), rate=0.2),
    "MetaGrad": lambda: online.MetaGrad(geo.Ball(N), rounds=60, scale=1e6),
    "MetaGrad-simplex": lambda: online.MetaGrad(geo.Simplex(N), rounds=5, scale=1e6),
    "Ader": lambda: online.Ader(geo.Ball(N), rounds=60, scale=1e6),
    "Sword": lambda: online.Sword(geo.Ball(N), rounds=60, scale=1.0, smoothness=1.0),
    "Sword-box": lambda: online.Sword(geo.Box(-1.0, [1.0, 2.0, 3.0, 0.0]), rounds=1000, scale=3.0, smoothness=1e-3),
    "DoG-ball": lambda: online.DoG(geo.Ball(N, 2.0, middle=np.arange(4.0)), first=0.01),
    "LinearDecay": lambda: online.LinearDecay(geo.Ball(N), rounds=60),
    "LinearDecay-weights": lambda: online.LinearDecay(geo.Simplex(N), weights=[1.0, 2.0, 0.5, 3.0, 1.0, 0.1]),
    "OnlineFrankWolfe-ball": lambda: online.OnlineFrankWolfe(geo.Ball(N, 2.0, middle=np.arange(4.0)), rounds=60),
    "OnlineFrankWolfe-l1": lambda: online.OnlineFrankWolfe(geo.L1Ball(N), rounds=10, scale=0.1),
    "OnlineFrankWolfe-simplex": lambda: online.OnlineFrankWolfe(geo.Simplex(N), rounds=60),
    "ConstrainedOGD": lambda: online.ConstrainedOGD(geo.Ball(N), rounds=60),
    "AdaGrad": lambda: online.AdaGrad(geo.Box(-1.0, [1.0, 2.0, 3.0, 0.0])),
    "AdaGradFull-ball": lambda: online.AdaGradFull(geo.Ball(N)),
    "AdaGradFull-box": lambda: online.AdaGradFull(geo.Box(-1.0, 1.0, N)),
    "AdaGradFull-simplex": lambda: online.AdaGradFull(geo.Simplex(N)),
}
MIRRORS = {
    "ball": lambda: geo.EuclideanBall(1.5),
    "box": lambda: geo.EuclideanBox(-1.0, 2.0),
    "simplex": lambda: geo.EuclideanSimplex(),
    "l1": lambda: geo.EuclideanL1Ball(),
    "metric-ball": lambda: geo.QuadraticBall(np.diag([1.0, 2.0, 3.0, 4.0])),
    "entropy": lambda: geo.Entropy(2.0),
    "tsallis": lambda: geo.Tsallis(),
    "bits": lambda: geo.BitEntropy(),
    "hypentropy": lambda: geo.Hypentropy(0.1, radius=2.0),
    "log-barrier": lambda: geo.LogBarrier(),
}
BOUNDED = ("ball", "box", "simplex", "l1", "metric-ball", "hypentropy")  # of bounded divergence
for name, mirror in MIRRORS.items():
    size = 40.0 if name == "log-barrier" else None
    if name in BOUNDED:
        LINEAR[f"OMD-{name}"] = lambda m=mirror: online.OMD(m(), N)
        LINEAR[f"OptimisticOMD-{name}"] = lambda m=mirror: online.OptimisticOMD(m(), N)
    if name != "log-barrier":
        LINEAR[f"OMD-rate-{name}"] = lambda m=mirror: online.OMD(m(), N, rate=0.2)
    LINEAR[f"DualStabilizedOMD-{name}"] = lambda m=mirror, s=size: online.DualStabilizedOMD(m(), N, size=s)
    LINEAR[f"FTRL-{name}"] = lambda m=mirror, s=size: online.FTRL(m(), N, size=s)
    LINEAR[f"OptimisticFTRL-{name}"] = lambda m=mirror, s=size: online.OptimisticFTRL(m(), N, size=s)

# Learners on the whole space: the bound is for each comparator. Gradients of norm at most 1.
UNBOUNDED = {
    "DoG": lambda: online.DoG(geo.Box(-np.inf, np.inf, N)),
    "CoinBetting": partial(online.CoinBetting, N),
    "CoinBetting-wealth": partial(online.CoinBetting, N, wealth=0.1),
    "FTRLProximal": partial(online.FTRLProximal, N),
    "FTRLProximal-sparse": partial(online.FTRLProximal, N, l1=0.3, l2=0.1),
    "FTRL-free": lambda: online.FTRL(geo.Euclidean(), N, size=1.0),
    "OMD-free": lambda: online.OMD(geo.Euclidean(), N, rate=0.2),
    "PNorm-free": lambda: online.DualStabilizedOMD(geo.PNorm(1.5), N, size=1.0),
}

# Portfolios: the losses are -log <r, x>.
PORTFOLIOS = {
    "ExponentiatedGradient": partial(online.ExponentiatedGradient, N),
    "UniformPortfolio": partial(online.UniformPortfolio, N),
    "PortfolioONS": partial(online.PortfolioONS, N),
    "PortfolioONS-paper": partial(online.PortfolioONS, N, delta=0.125, beta=1.0, mix=0.1),
}

# Learners of examples, features and a target: the bound is for each comparator.
EXAMPLES = {
    "OnlineRidge": partial(online.OnlineRidge, N),
    "VovkAzouryWarmuth": partial(online.VovkAzouryWarmuth, N, reg=0.5),
    "GLMFTRL-logistic": partial(online.GLMFTRL, N),
    "GLMFTRL-poisson": partial(online.GLMFTRL, N, loss="poisson", reg=0.3),
}
for loss in ("squared", "absolute", "hinge", "logistic"):
    for form in ("proximal", "truncated", "mirror-prox", "linear"):
        EXAMPLES[f"ImplicitFTRL-{loss}-{form}"] = lambda loss=loss, form=form: online.ImplicitFTRL(
            geo.Euclidean(), N, loss=loss, form=form, rate=0.3
        )
    EXAMPLES[f"ImplicitFTRL-{loss}-ball"] = lambda loss=loss: online.ImplicitFTRL(geo.EuclideanBall(2.0), N, loss=loss)
    EXAMPLES[f"AdaImplicit-{loss}"] = lambda loss=loss: online.AdaImplicit(geo.EuclideanBall(2.0), N, loss=loss)
EXAMPLES |= {
    "ImplicitFTRL-entropy": lambda: online.ImplicitFTRL(geo.Entropy(), N, loss="absolute"),
    "ImplicitFTRL-truncated-box": lambda: online.ImplicitFTRL(geo.EuclideanBox(-1.0, 1.0), N, form="truncated"),
    "ImplicitFTRL-tube": lambda: online.ImplicitFTRL(geo.Euclidean(), N, loss="absolute", tube=0.1, rate=3.0),
    "AdaImplicit-simplex": lambda: online.AdaImplicit(geo.EuclideanSimplex(), N, loss="absolute", tube=0.1),
}


def target_of(learner, row):
    """A target that fits the loss of a learner of examples."""
    return 1.0 if row[0] > np.mean(row) or learner._loss.targets == ">= 0" else -1.0


def told(learner, row):
    """Feedback for any learner from a row of numbers in [0, 1]."""
    if learner.kind == "arm":
        return float(row[learner.decide()])
    if learner.kind == "example":
        return online.Feedback(features=row, target=target_of(learner, row))
    if not isinstance(learner, online.UniformPortfolio):
        return row
    row = 0.5 + row
    return -row / np.sum(row * learner.decide())


def world(learner, losses):
    """Environment for any learner from rows of numbers in [0, 1]."""
    if learner.kind == "example":
        loss = getattr(learner, "loss", "squared")
        targets = np.asarray([target_of(learner, row) for row in losses])
        return online.LinearModelLosses(losses, targets, loss=loss, tube=getattr(learner, "tube", 0.0))
    return online.PortfolioLosses(0.5 + losses) if isinstance(learner, online.UniformPortfolio) else losses


BANDITS = {
    "EXP3": partial(online.EXP3, N, rng=0),
    "LogBarrierFTRL": partial(online.LogBarrierFTRL, N, rounds=500, rng=0),
    "LogBarrierFTRL-features": partial(online.LogBarrierFTRL, N, rounds=500, features=np.eye(N) + 0.1, rng=0),
    "TsallisINF": partial(online.TsallisINF, N, rng=0),
    "TsallisINF-iw": partial(online.TsallisINF, N, estimator="importance-weighted", rng=0),
}

# Learners whose decisions are random: the bound is in expectation.
PERTURBED = {
    "FTPL-simplex": lambda: online.FTPL(geo.Simplex(N, 2.0), rng=0),
    "FTPL-ball": lambda: online.FTPL(geo.Ball(N), rng=0),
    "FTPL-box": lambda: online.FTPL(geo.Box(-1.0, [1.0, 2.0, 3.0, 0.0]), scale=0.3, rng=0),
}
