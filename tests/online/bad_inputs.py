"""Refused calls of the online family: name, call, exception, pattern of the message."""

from functools import partial

import numpy as np

from optlib import geometry as geo
from optlib import online
from optlib.online import Feedback, play
from tests.online.saddle_bad_inputs import CASES as SADDLE

L = np.ones((5, 3))


def spoiled(value, t=2):
    out = L.copy()
    out[t, 1] = value
    return out


def told(feedback, learner=online.Hedge, before=2, **options):
    """Tell a learner something wrong after some rounds."""

    def call():
        made = learner(3, **options)
        for _ in range(before):
            made.update(0.5 if made.kind == "arm" else np.ones(3))
        made.update(feedback)

    return call


def learner(cls, *args, **options):
    return partial(cls, *args, **options)


def newton(n):
    return online.ONS(geo.Ball(n), scale=1.8, exp_concavity=0.1)


FREE = geo.Box(-np.inf, np.inf, 3)
CASES = [
    *SADDLE,
    # feedback
    ("nan-feedback", told([1.0, np.nan, 0.0]), ValueError, "round `3`.*nan.*finite"),
    ("inf-feedback", told([1.0, np.inf, 0.0]), ValueError, "round `3`.*inf.*finite"),
    ("huge-feedback", told([1.0, 1e300, 0.0]), ValueError, "round `3`.*1e\\+300.*scale"),
    ("short-feedback", told([1.0, 2.0]), ValueError, "round `3`.*shape \\(2,\\).*shape \\(3,\\)"),
    ("text-feedback", told("good"), TypeError, "round `3`"),
    ("complex-feedback", told(np.ones(3) * 1j), TypeError, "round `3`.*complex"),
    ("empty-feedback", told(Feedback()), TypeError, "round `3`.*no gradient"),
    ("value-for-gradient", told(Feedback(value=1.0)), TypeError, "round `3`.*no gradient"),
    ("gradient-for-value", told(np.ones(3), online.EXP3), ValueError, "round `3`.*shape"),
    ("no-value", told(Feedback(gradient=np.ones(3)), online.EXP3), TypeError, "round `3`.*no value"),
    ("loss-out-of-range", told(1.5, online.EXP3), ValueError, "round `3`.*1.5.*\\[0, 1\\]"),
    ("nan-value", told(np.nan, online.TsallisINF), ValueError, "round `3`.*nan"),
    ("other-arm", told(Feedback(value=0.5, arm=7), online.EXP3), ValueError, "round `3`.*arm 7"),
    ("long-coin", told([2.0, 0.0, 0.0], online.CoinBetting, before=0), ValueError, "round `1`.*norm 2.*scale"),
    ("long-newton", told([2.0, 0.0, 0.0], newton), ValueError, "round `3`.*norm 2.*scale"),
    # play
    (
        "long-in-a-block",
        lambda: play(online.CoinBetting(3), 0.3 * spoiled(9.0), comparator=np.zeros(3)),
        ValueError,
        "round `3`.*norm 2.7.*scale",
    ),
    ("nan-losses", lambda: play(online.Hedge(3), spoiled(np.nan)), ValueError, "round `3`.*nan.*finite"),
    ("huge-losses", lambda: play(online.Hedge(3), spoiled(1e200)), ValueError, "round `3`.*scale"),
    ("wrong-width", lambda: play(online.Hedge(4), L), ValueError, "`environment`.*\\(5, 3\\).*rounds, 4"),
    ("stream-nan", lambda: play(online.Hedge(3), iter(spoiled(np.nan))), ValueError, "round `3`.*nan"),
    ("stream-short", lambda: play(online.Hedge(3), iter([np.ones(3), np.ones(2)])), ValueError, "round `2`.*shape"),
    ("too-many-rounds", lambda: play(online.Hedge(3), L, 9), ValueError, "`rounds`.*9.*at most 5"),
    ("no-rounds", lambda: play(online.Hedge(3), lambda t, x: (0.0, x)), ValueError, "`rounds`.*nothing"),
    ("negative-rounds", lambda: play(online.Hedge(3), L, -1), ValueError, "`rounds`.*-1.*>= 0"),
    ("no-environment", lambda: play(online.Hedge(3), 7), TypeError, "`environment`"),
    ("no-learner", lambda: play(7, L), TypeError, "`learner`"),
    ("unbounded-best", lambda: play(online.CoinBetting(3), L * 0.1), ValueError, "`comparator`.*unbounded"),
    ("short-comparator", lambda: play(online.Hedge(3), L, comparator=[1.0]), ValueError, "`comparator`.*shape"),
    ("foreign-state", lambda: play(online.Hedge(3), L, init=(online.Hedge(3).start().state)), TypeError, "`init`"),
    ("other-learners", lambda: play(online.Hedge(3), L[:, None, :], learners=2), ValueError, "`learners`.*2.*1"),
    ("zero-price", lambda: online.PortfolioLosses(spoiled(0.0)), ValueError, "`relatives`.*0.*positive"),
    ("zero-price-best", lambda: online.best_portfolio(spoiled(-1.0)), ValueError, "`relatives`.*-1.*positive"),
    ("gradient-for-example", told(np.ones(3), online.OnlineRidge, before=0), TypeError, "round `1`.*example"),
    ("examples-from-losses", lambda: play(online.OnlineRidge(3), L), TypeError, "`environment`.*LinearModelLosses"),
    (
        "label",
        told(Feedback(features=np.ones(3), target=0.5), online.GLMFTRL, before=0),
        ValueError,
        "round `1`.*0.5.*-1 or 1",
    ),
    ("labels", lambda: online.LinearModelLosses(L, np.ones(5) * 2, loss="hinge"), ValueError, "`targets`.*-1 or 1"),
    ("short-targets", lambda: online.LinearModelLosses(L, np.ones(4)), ValueError, "`targets`.*shape"),
    ("unknown-loss", lambda: online.LinearModelLosses(L, np.ones(5), loss="l7"), ValueError, "`loss`.*l7"),
    ("tube", lambda: online.LinearModelLosses(L, np.ones(5), tube=0.1), ValueError, "`tube`.*0.1.*absolute"),
    ("ridge-bound", lambda: online.OnlineRidge(3).regret_bound(), ValueError, "`comparator`.*bounded"),
    ("ada-entropy", lambda: online.AdaImplicit(geo.Entropy(), 3), ValueError, "`mirror`.*bounded.*ImplicitFTRL"),
    ("implicit-free", lambda: online.ImplicitFTRL(geo.Euclidean(), 3), ValueError, "`size`.*infinite range"),
    # learners
    ("no-experts", learner(online.Hedge, 0), ValueError, "`n`.*0.*>= 1"),
    ("negative-rate", learner(online.Hedge, 3, rate=-1.0), ValueError, "`rate`.*-1.*> 0"),
    ("omd-changing-entropy", learner(online.OMD, geo.Entropy(), 3), ValueError, "`rate`.*DualStabilizedOMD.*FTRL"),
    ("optimistic-entropy", learner(online.OptimisticOMD, geo.Entropy(), 3), ValueError, "`mirror`.*OptimisticFTRL"),
    ("barrier-size", learner(online.FTRL, geo.LogBarrier(), 3), ValueError, "`size`.*infinite range"),
    ("not-strongly-convex", learner(online.FTRL, geo.Hypentropy(), 3), ValueError, "`mirror`.*strongly convex"),
    ("matrix-map", learner(online.FTRL, geo.VonNeumann(), 3), TypeError, "`mirror`.*vectors"),
    ("no-map", learner(online.FTRL, 7, 3), TypeError, "`mirror`"),
    ("unbounded-ogd", learner(online.OGD, FREE), ValueError, "`domain`.*bounded.*CoinBetting"),
    ("unbounded-adagrad", learner(online.AdaGrad, FREE), ValueError, "`domain`.*bounded.*CoinBetting"),
    ("adagrad-ball", learner(online.AdaGrad, geo.Ball(3)), TypeError, "`domain`.*Box"),
    ("ons-l1", learner(online.ONS, geo.L1Ball(3), scale=1.0, exp_concavity=1.0), TypeError, "`domain`.*L1Ball"),
    ("matrix-domain", learner(online.OGD, geo.Spectrahedron(3)), TypeError, "`domain`.*vectors"),
    ("two-rates", learner(online.OGD, geo.Ball(3), rate=1.0, strong_convexity=1.0), ValueError, "`rate`"),
    ("empty-range", learner(online.EXP3, 3, low=1.0, high=1.0), ValueError, "`high`"),
    ("unknown-estimator", learner(online.TsallisINF, 3, estimator="best"), ValueError, "`estimator`.*best"),
    ("metagrad-l1", learner(online.MetaGrad, geo.L1Ball(3), rounds=9, scale=1.0), TypeError, "`domain`.*L1Ball"),
    (
        "unbounded-sword",
        learner(online.Sword, FREE, rounds=9, scale=1.0, smoothness=1.0),
        ValueError,
        "`domain`.*bounded",
    ),
    ("unbounded-decay", learner(online.LinearDecay, FREE, rounds=9), ValueError, "`domain`.*bounded.*DoG"),
    ("decay-without-rounds", learner(online.LinearDecay, geo.Ball(3)), ValueError, "`rounds`.*weights"),
    (
        "decay-weights",
        learner(online.LinearDecay, geo.Ball(3), weights=[1.0, 0.0]),
        ValueError,
        "`weights`.*0.*positive",
    ),
    ("unbounded-frank-wolfe", learner(online.OnlineFrankWolfe, FREE, rounds=9), ValueError, "`domain`.*bounded"),
    ("unbounded-ftpl", learner(online.FTPL, FREE), ValueError, "`domain`.*bounded"),
    ("unbounded-constrained", learner(online.ConstrainedOGD, FREE, rounds=9), ValueError, "`domain`.*bounded"),
    ("dog-first", learner(online.DoG, FREE, first=0.0), ValueError, "`first`.*0.*> 0"),
    ("dog-bound", lambda: online.DoG(FREE).regret_bound(), ValueError, "`comparator`.*bounded"),
    ("one-norm", lambda: online.refined_weights([1.0], 1.0), ValueError, "`norms`.*1 rounds.*two"),
    ("zero-norms", lambda: online.refined_weights(np.zeros(9), 1.0), ValueError, "`norms`.*zeros"),
    ("negative-norms", lambda: online.refined_weights([-1.0, 1.0], 1.0), ValueError, "`norms`.*-1"),
    (
        "dependent-features",
        learner(online.LogBarrierFTRL, 3, rounds=9, features=np.ones((3, 2))),
        ValueError,
        "`features`.*dependent.*rank 2",
    ),
    (
        "short-features",
        learner(online.LogBarrierFTRL, 3, rounds=9, features=np.ones((4, 2))),
        ValueError,
        "`features`.*shape",
    ),
    ("barrier-loss", told(1.5, online.LogBarrierFTRL, 2, rounds=9), ValueError, "round `3`.*1.5.*\\[0, 1\\]"),
    ("matrix-hedge-rate", learner(online.MatrixHedge, 3, rate=0.0), ValueError, "`rate`.*0.*> 0"),
    ("no-bound", lambda: online.CoinBetting(3).regret_bound(), ValueError, "`comparator`.*bounded"),
    ("negative-switches", learner(online.Switching, -1), ValueError, "`switches`.*-1"),
]

CASES += [
    ("play-tol", lambda: play(online.Hedge(3), L, tol="abc"), TypeError, "`tol`"),
    ("best-domain", lambda: online.best_fixed(L, 3), TypeError, "`domain`.*int.*Simplex"),
    ("tuner-candidates", lambda: online.OnlineTuner(1.0), TypeError, "`candidates`.*list"),
    ("metric-size", lambda: online.MetricOracle(1.5), TypeError, "`n`"),
    ("half-spaces-number", lambda: online.HalfSpaces(3.0, [1.0]), TypeError, "`A`.*matrix"),
    ("half-spaces-text", lambda: online.HalfSpaces("abc", [1.0]), TypeError, "`A`.*matrix"),
]
