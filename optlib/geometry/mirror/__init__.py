"""Mirror maps: convex functions on convex sets, with the steps, projections and divergences that they induce.

| function psi | whole space | ball | box | simplex |
|---|---|---|---|---|
| half the squared norm | `Euclidean` | `EuclideanBall`, `EuclideanL1Ball` | `EuclideanBox` | `EuclideanSimplex` |
| half the square in the metric of a matrix | `Quadratic` | `QuadraticBall` | `QuadraticBox` | `QuadraticSimplex` |
| half the squared p-norm | `PNorm` | `PNorm` | | |
| entropy | | | `UnnormalizedEntropy`, `BitEntropy` | `Entropy`, `CappedEntropy` |
| hyperbolic entropy | `Hypentropy` | `Hypentropy` | | |
| Tsallis-1/2 entropy | | | | `Tsallis` |
| log-barrier | | | | `LogBarrier` |
| the same of the eigenvalues or singular values | `Spectral` | `Spectral` | | `VonNeumann`, `LogDet` |
"""

from optlib.geometry.mirror.base import MirrorMap
from optlib.geometry.mirror.entropy import BitEntropy, CappedEntropy, Entropy, Hypentropy, UnnormalizedEntropy
from optlib.geometry.mirror.euclidean import (
    Euclidean,
    EuclideanBall,
    EuclideanBox,
    EuclideanL1Ball,
    EuclideanSimplex,
)
from optlib.geometry.mirror.pnorm import PNorm
from optlib.geometry.mirror.quadratic import Quadratic, QuadraticBall, QuadraticBox, QuadraticSimplex
from optlib.geometry.mirror.roots import LogBarrier, Tsallis
from optlib.geometry.mirror.spectral import LogDet, Spectral, VonNeumann

__all__ = [
    "BitEntropy",
    "CappedEntropy",
    "Entropy",
    "Euclidean",
    "EuclideanBall",
    "EuclideanBox",
    "EuclideanL1Ball",
    "EuclideanSimplex",
    "Hypentropy",
    "LogBarrier",
    "LogDet",
    "MirrorMap",
    "PNorm",
    "Quadratic",
    "QuadraticBall",
    "QuadraticBox",
    "QuadraticSimplex",
    "Spectral",
    "Tsallis",
    "UnnormalizedEntropy",
    "VonNeumann",
]
