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
    "Ader": lambda: online.Ader(geo.Ball(N), rounds=60, scale=1e6),
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
BOUNDED = ("ball", "box", "simplex", "l1", "metric-ball")  # of bounded divergence
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
    "CoinBetting": partial(online.CoinBetting, N),
    "FTRLProximal": partial(online.FTRLProximal, N),
    "FTRLProximal-sparse": partial(online.FTRLProximal, N, l1=0.3, l2=0.1),
    "FTRL-free": lambda: online.FTRL(geo.Euclidean(), N, size=1.0),
    "OMD-free": lambda: online.OMD(geo.Euclidean(), N, rate=0.2),
    "PNorm-free": lambda: online.DualStabilizedOMD(geo.PNorm(1.5), N, size=1.0),
}

BANDITS = {
    "EXP3": partial(online.EXP3, N, rng=0),
    "TsallisINF": partial(online.TsallisINF, N, rng=0),
    "TsallisINF-iw": partial(online.TsallisINF, N, estimator="importance-weighted", rng=0),
}
