"""Refused calls of the saddle-point methods."""

import array_api_strict as strict
import numpy as np

from optlib import geometry as geo
from optlib import online
from optlib.online import (
    AffineOperator,
    BilinearGame,
    CompositeProblem,
    FiniteSum,
    HalfSpaces,
    Indicator,
    L1Norm,
    OnlineTuner,
    SmoothSaddle,
    SquaredDistance,
    VariationalInequality,
)

A = np.ones((3, 2))
GAME, FREE, L1, LEARNER = BilinearGame(A), BilinearGame(A, rows=geo.Euclidean()), L1Norm(), online.Hedge(2)
SQUARE, LINEAR = SquaredDistance(np.zeros(3)), lambda x: (0.0, x)
HALF = HalfSpaces([[1.0]], [0.0])
TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])
FAR = np.array([[-0.9, 0.4], [-0.4, -0.9]])  # comonotone with -0.93


def vi(**options):
    return VariationalInequality(lambda z: z, 2, **options)


CASES = [
    ("game-none", lambda: BilinearGame(None), TypeError, "`A`"),
    ("game-empty", lambda: BilinearGame(np.ones((0, 2))), ValueError, "`A`.*row"),
    ("game-nan", lambda: BilinearGame([[1.0, np.nan]]), ValueError, "`A`.*NaN"),
    ("game-b", lambda: BilinearGame(A, b=np.ones(2)), ValueError, "`b`.*shape"),
    ("game-map", lambda: BilinearGame(A, rows=7), TypeError, "`mirror`"),
    ("game-domain", lambda: BilinearGame(A, rows=geo.Ball(2)), ValueError, r"`rows`.*\(2,\).*\(3,\)"),
    ("game-init", lambda: online.mirror_prox(BilinearGame(A), init=np.ones(3)), ValueError, "`init`.*tuple of 2"),
    ("game-outside", lambda: online.mirror_prox(BilinearGame(A), init=(np.ones(3), np.ones(2) / 2)), ValueError,
     "`init`.*outside"),
    ("game-mixed", lambda: online.mirror_prox(BilinearGame(A), init=(strict.ones(3), strict.ones(2))), TypeError,
     "one library"),
    ("game-step", lambda: online.mirror_prox(BilinearGame(A), step=0.0), ValueError, "`step`.*> 0"),
    ("prox-no-problem", lambda: online.mirror_prox(A), TypeError, "`problem`.*ndarray"),
    ("vi-operator", lambda: VariationalInequality(A, 2), TypeError, "`operator`.*function"),
    ("vi-shape", lambda: VariationalInequality(lambda z: z[:1], 2), ValueError, r"`operator`.*\(1,\).*\(2,\)"),
    ("vi-lipschitz", lambda: online.extragradient(vi()), ValueError, "`lipschitz`.*nothing"),
    ("vi-n", lambda: VariationalInequality(lambda z: z, 0), ValueError, "`n`"),
    ("vi-resolvent", lambda: online.proximal_point(vi(lipschitz=1.0)), ValueError, "`problem`.*resolvent"),
    ("vi-rho", lambda: vi(comonotonicity=np.nan), ValueError, "`comonotonicity`"),
    ("affine-rectangular", lambda: AffineOperator(A), ValueError, "`M`.*square"),
    ("affine-singular", lambda: AffineOperator([[-1.0, 0.0], [0.0, 0.0]]), ValueError, "`M`.*monotone"),
    ("affine-entropy", lambda: AffineOperator(TURN, domain=geo.Entropy()), ValueError, "`problem`.*Euclidean"),
    ("resolvent-step", lambda: online.proximal_point(AffineOperator(FAR), step=1.8), ValueError, "`step`.*1.8.*> 1.8"),
    ("extragradient-entropy", lambda: online.extragradient(BilinearGame(A)), ValueError, "mirror_prox"),
    ("extragradient-far", lambda: online.extragradient(AffineOperator(FAR)), ValueError, "comonotonicity.*proximal"),
    ("extragradient-set", lambda: online.extragradient(AffineOperator(FAR, domain=geo.Ball(2))), ValueError,
     "comonotonicity.*monotone"),
    ("halpern-far", lambda: online.halpern(AffineOperator(FAR)), ValueError, "comonotonicity.*proximal"),
    ("halpern-set", lambda: online.halpern(AffineOperator(TURN, domain=geo.Ball(2))), ValueError, "extragradient"),
    ("halpern-state", lambda: online.halpern(AffineOperator(TURN), init=online.extragradient(AffineOperator(TURN))),
     TypeError, "`init`.*ExtragradientState"),
    ("sum-components", lambda: FiniteSum(A, 3, 2, lipschitz=1.0), TypeError, "`components`"),
    ("sum-count", lambda: FiniteSum(lambda z, i: z, 0, 2, lipschitz=1.0), ValueError, "`count`"),
    ("sum-other", lambda: online.variance_reduced_halpern(vi(lipschitz=1.0)), TypeError, "`problem`.*FiniteSum"),
    # self-play
    ("play-learner", lambda: online.self_play(GAME, 7, online.Hedge(2)), TypeError, "`rows`.*int"),
    ("play-bandit", lambda: online.self_play(GAME, online.EXP3(3), online.Hedge(2)), TypeError, "`rows`.*EXP3"),
    ("play-size", lambda: online.self_play(GAME, online.Hedge(2), online.Hedge(2)), ValueError, "`rows`.*2.*3"),
    ("play-same", lambda: online.self_play(BilinearGame(TURN), LEARNER, LEARNER), ValueError, "`columns`.*own"),
    ("play-unbounded", lambda: online.self_play(FREE, online.Hedge(3), online.Hedge(2)),
     ValueError, "`problem`.*bounded"),
    ("play-init", lambda: online.self_play(GAME, online.Hedge(3), LEARNER, init=np.ones(3)), TypeError, "`init`"),
    # composite problems
    ("term-none", lambda: CompositeProblem(A, 7, L1), TypeError, "`f`.*Term"),
    ("term-size", lambda: CompositeProblem(A, L1, SquaredDistance(np.ones(2))), ValueError, "`h`.*2.*3"),
    ("term-domain", lambda: CompositeProblem(A, Indicator(geo.Ball(3)), L1), ValueError, "`f`.*3.*2"),
    ("term-nan", lambda: CompositeProblem(A * np.nan, L1, L1), ValueError, "`K`.*NaN"),
    ("term-empty", lambda: CompositeProblem(np.ones((0, 2)), L1, L1), ValueError, "`K`.*row"),
    ("term-norm", lambda: CompositeProblem(A, L1, L1, norm=-1.0), ValueError, "`norm`"),
    ("term-reg", lambda: L1Norm(0.0), ValueError, "`reg`"),
    ("term-weight", lambda: SquaredDistance([1.0], 0.0), ValueError, "`weight`"),
    ("term-target", lambda: SquaredDistance([np.inf]), ValueError, "`target`"),
    ("term-unbounded", lambda: Indicator(geo.Box(0.0, np.inf, 2)), TypeError, "`domain`.*bounded"),
    ("pock-entropy", lambda: online.chambolle_pock(GAME), ValueError, "Euclidean.*mirror_prox"),
    ("pock-vi", lambda: online.chambolle_pock(vi(lipschitz=1.0)), TypeError, "`problem`"),
    ("pock-step", lambda: online.chambolle_pock(CompositeProblem(A, L1, L1), step=-1.0), ValueError, "`step`"),
    ("pock-restart", lambda: online.chambolle_pock(CompositeProblem(A, L1, L1), restart=2), ValueError, "`restart`"),
    # alpd
    ("alpd-f", lambda: SmoothSaddle(A, 7, lipschitz=1.0, g=SQUARE, domain=geo.Ball(2)), TypeError, "`f`"),
    ("alpd-g", lambda: SmoothSaddle(A, LINEAR, lipschitz=1.0, g=L1, domain=geo.Ball(2)), TypeError, "`g`.*strongly"),
    ("alpd-domain", lambda: SmoothSaddle(A, LINEAR, lipschitz=1.0, g=SQUARE, domain=geo.Ball(3)), TypeError,
     "`domain`"),
    ("alpd-unbounded", lambda: SmoothSaddle(A, LINEAR, lipschitz=1.0, g=SQUARE, domain=geo.Box(0.0, np.inf, 2)),
     ValueError, "`domain`.*bounded"),
    ("alpd-lipschitz", lambda: SmoothSaddle(A, LINEAR, lipschitz=-1.0, g=SQUARE, domain=geo.Ball(2)), ValueError,
     "`lipschitz`"),
    ("alpd-gradient", lambda: online.alpd(SmoothSaddle(A, lambda x: (0.0, x[:1]), lipschitz=1.0, g=SQUARE,
     domain=geo.Ball(2))), ValueError, "`f`.*shape"),
    ("alpd-other", lambda: online.alpd(GAME), TypeError, "`problem`.*SmoothSaddle"),
    # projections
    ("forget-nan", lambda: online.project_and_forget([np.nan], HALF), ValueError, "`x0`.*NaN"),
    ("forget-oracle", lambda: online.project_and_forget([1.0], 7), TypeError, "`oracle`.*function"),
    ("forget-answer", lambda: online.project_and_forget([1.0], lambda x: x), TypeError, "`oracle`.*Constraints"),
    ("forget-weights", lambda: online.project_and_forget([1.0], HALF, weights=[0.0]), ValueError, "`weights`.*> 0"),
    ("forget-sweeps", lambda: online.project_and_forget([1.0], HALF, sweeps=0), ValueError, "`sweeps`"),
    ("forget-init", lambda: online.project_and_forget([1.0], HALF, init=np.ones(1)), TypeError, "`init`"),
    ("forget-library", lambda: online.project_and_forget(strict.ones(1), HALF), TypeError, "`x0`.*NumPy"),
    ("half-zero", lambda: HalfSpaces([[0.0]], [1.0]), ValueError, "`A`.*zeros"),
    ("half-nan", lambda: HalfSpaces([[np.nan]], [1.0]), ValueError, "`A`.*NaN"),
    ("half-b", lambda: HalfSpaces([[1.0]], [1.0, 2.0]), ValueError, "`b`.*shape"),
    ("metric-shape", lambda: online.metric_nearness(A), ValueError, "`distances`.*square"),
    ("metric-skew", lambda: online.metric_nearness(TURN), ValueError, "`distances`.*symmetric"),
    ("metric-nan", lambda: online.metric_nearness([[0.0, np.nan], [np.nan, 0.0]]), ValueError, "`distances`.*NaN"),
    ("metric-weights", lambda: online.metric_nearness(np.ones((2, 2)), weights=np.zeros((2, 2))), ValueError,
     "`weights`.*> 0"),
    ("metric-library", lambda: online.metric_nearness(strict.ones((2, 2))), TypeError, "`distances`.*NumPy"),
    ("cluster-skew", lambda: online.correlation_clustering(TURN), ValueError, "`weights`.*symmetric"),
    ("cluster-reg", lambda: online.correlation_clustering(np.ones((2, 2)), reg=0.0), ValueError, "`reg`"),
    ("dykstra-none", lambda: online.dykstra([1.0], []), TypeError, "`domains`"),
    ("dykstra-domain", lambda: online.dykstra([1.0], [7]), TypeError, "`domains`"),
    ("dykstra-shape", lambda: online.dykstra([1.0], [geo.Ball(2)]), ValueError, "`domains`.*shape"),
    ("dykstra-nan", lambda: online.dykstra([np.inf], [geo.Ball(1)]), ValueError, "`x0`"),
    ("dykstra-init", lambda: online.dykstra([1.0], [geo.Ball(1)], init=np.ones(1)), TypeError, "`init`"),
    # the tuner
    ("tuner-none", lambda: OnlineTuner([]), ValueError, "`candidates`"),
    ("tuner-range", lambda: OnlineTuner([1], low=2.0, high=1.0), ValueError, "`high`.*1.*> 2"),
    ("tuner-contexts", lambda: OnlineTuner([1], context=3.0), TypeError, "`context`.*pair"),
    ("tuner-context-range", lambda: OnlineTuner([1], context=(1.0, 1.0)), ValueError, "`context`"),
    ("tuner-degree", lambda: OnlineTuner([1], context=(0.0, 1.0), degree=-1), ValueError, "`degree`"),
    ("tuner-context", lambda: OnlineTuner([1], context=(0.0, 1.0)).ask(), TypeError, "`context`.*None"),
    ("tuner-context-nan", lambda: OnlineTuner([1], context=(0.0, 1.0)).ask(np.nan), ValueError, "`context`"),
    ("tuner-no-context", lambda: OnlineTuner([1]).ask(0.5), ValueError, "`context`.*without"),
    ("tuner-tell", lambda: OnlineTuner([1]).tell(1.0), ValueError, "`cost`.*ask"),
    ("tuner-state", lambda: setattr(OnlineTuner([1, 2]), "state", OnlineTuner([1]).state), TypeError, "`state`"),
]  # fmt: skip
