"""Contract cases, refused calls and kernel arguments of the estimators: bridge, map and dictionary."""

from functools import partial

import array_api_strict as strict
import numpy as np

from optlib.transport import FourierMap, JaxMap, LightBridge, MongeMap, TorchMap, WassersteinCPDictionary, monge_gap


def clouds(n=30, m=24, d=2, seed=0):
    """Two clouds; the second has two humps."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 0.5 * rng.normal(size=(m, d)) + rng.choice([-1.5, 1.5], (m, 1))


def mixtures(n=8, shape=(5, 6), seed=0):
    """Mixtures of two product distributions with a little noise."""
    rng = np.random.default_rng(seed)
    atoms = [np.einsum("i,j->ij", *(rng.dirichlet(np.ones(k)) for k in shape)) for _ in range(2)]
    codes = rng.dirichlet([1.0, 1.0], n)
    return np.tensordot(codes, atoms, 1) + 0.01 * rng.random((n, *shape)) / np.prod(shape)


def bridge(backend):
    x, y = (backend.asarray(u) for u in clouds())
    return (LightBridge(3, reg=0.5), x, y), {"rng": 0}


def monge_map(backend):
    x, y = (backend.asarray(u) for u in clouds())
    return (MongeMap(FourierMap(3), reg=30.0, gap_reg=30.0), x, y), {"rng": 0}


def dictionary(backend):
    rows = mixtures().reshape(8, -1)[:, :9]  # one axis: the fewest operations
    return (WassersteinCPDictionary(2, reg=2.0, prox=1.0), backend.asarray(rows)), {"rng": 0}


CONTRACT = {
    "transport.LightBridge.fit": bridge,
    "transport.MongeMap.fit": monge_map,
    "transport.WassersteinCPDictionary.fit": dictionary,
}

X, Y = clouds(6, 5)
Q = mixtures(3, (2, 3))
NAN = np.where(X[0] == X, np.nan, X)


def fitted(call):
    """Call a method of an estimator that is fitted first."""
    return lambda: call(LightBridge(2, reg=0.5).fit(X, Y, rng=0, maxiter=1))


def learned(call):
    return lambda: call(WassersteinCPDictionary(2, reg=0.5).fit(Q, rng=0, maxiter=1))


def estimator_inputs(name, make):
    """Wrong clouds, the same for both estimators of clouds."""
    fit = make().fit
    return [
        (f"{name}-nan", partial(fit, NAN, Y), ValueError, "`x`.*NaN.*expected"),
        (f"{name}-inf", partial(fit, X, np.full_like(Y, np.inf)), ValueError, "`y`.*infinite"),
        (f"{name}-dimensions", partial(fit, X, Y[:, :1]), ValueError, "`y`.*dimension 1.*dimension 2"),
        (f"{name}-empty", partial(fit, X[:0], Y), ValueError, "`x`.*shape \\(0, 2\\)"),
        (f"{name}-complex", partial(fit, X + 0j, Y), TypeError, "`x`.*complex"),
        (f"{name}-text", partial(fit, "x", Y), TypeError, "`x`.*got.*expected"),
        (f"{name}-mixed", partial(fit, strict.asarray(X), Y), TypeError, "`x` from array_api_strict.*one library"),
        (f"{name}-tol", partial(fit, X, Y, tol=-1.0), ValueError, "`tol`.*-1"),
        (f"{name}-rng", partial(fit, X, Y, rng="seed"), TypeError, "`rng`.*got.*expected"),
        (f"{name}-unfitted", lambda: make().transform(X), ValueError, "got an estimator that was not fitted.*fit"),
    ]


BAD_INPUTS = [
    *estimator_inputs("bridge", lambda: LightBridge(2, reg=0.5)),
    ("bridge-reg", partial(LightBridge, 2, reg=0.0), ValueError, "`reg`.*got 0.*> 0"),
    ("bridge-components", partial(LightBridge, 0, reg=1.0), ValueError, "`components`.*got 0.*>= 1"),
    ("bridge-floor", partial(LightBridge, 2, reg=1.0, floor=0.0), ValueError, "`floor`.*got 0.*> 0"),
    ("bridge-init", partial(LightBridge(2, reg=1.0).fit, X, Y, init=X), TypeError, "`init`.*expected a bridge"),
    ("bridge-time", fitted(lambda b: b.drift(X, 1.0)), ValueError, "`t`.*got 1.*< 1"),
    ("bridge-times", fitted(lambda b: b.sample_path(X, [0.0, 0.7, 0.5, 1.0])), ValueError, "`times`.*increasing"),
    ("bridge-no-steps", fitted(lambda b: b.sample_path(X, 0)), ValueError, "`times`.*got 0.*>= 1"),
    ("bridge-method", fitted(lambda b: b.sample_path(X, method="ode")), ValueError, "`method`.*'ode'.*'exact'"),
    ("bridge-transform", fitted(lambda b: b.transform(X[:, :1])), ValueError, "`x`.*dimension 1.*dimension 2"),
    (
        "bridge-other-state",
        fitted(lambda b: LightBridge(3, reg=0.5).fit(X, Y, init=b)),
        ValueError,
        "`init`.*got 10 numbers.*3 components.*15 numbers",
    ),
    *estimator_inputs("map", MongeMap),
    ("map-model", partial(MongeMap, "linear"), ValueError, "`model`.*'linear'.*'affine'"),
    ("map-model-type", partial(MongeMap, 3), TypeError, "`model`.*got int.*FourierMap"),
    ("map-weight", partial(MongeMap, weight=-1.0), ValueError, "`weight`.*-1"),
    ("map-reg", partial(MongeMap, reg=0.0), ValueError, "`reg`.*got 0"),
    ("map-gap-reg", partial(MongeMap, gap_reg=np.nan), ValueError, "`gap_reg`.*nan"),
    ("map-cost", partial(MongeMap, cost="cosine"), ValueError, "`cost`.*'cosine'.*'sqeuclidean'"),
    ("map-init", partial(MongeMap().fit, X, Y, init=np.zeros(3)), ValueError, "`init`.*shape \\(3,\\).*shape \\(6,\\)"),
    ("map-start", partial(MongeMap().fit, X, Y, init=(np.eye(3), np.zeros(2))), ValueError, "`init`.*shape \\(3, 3\\)"),
    ("map-one-point", partial(MongeMap().fit, 0 * X, 0 * Y), ValueError, "`x, y`.*expected something to move"),
    ("map-features", partial(FourierMap, -1), ValueError, "`features`.*-1"),
    ("map-bandwidth", partial(FourierMap, 2, bandwidth=0.0), ValueError, "`bandwidth`.*got 0"),
    ("map-module", partial(TorchMap, 3), TypeError, "`module`.*got int"),
    ("map-function", partial(JaxMap, 3, ()), TypeError, "`apply`.*got int"),
    ("gap-shapes", partial(monge_gap, X, Y, reg=0.1), ValueError, "`y`.*shape \\(5, 2\\).*image of each point"),
    ("gap-reg", partial(monge_gap, X, X, reg=0.0), ValueError, "`reg`.*got 0"),
    ("gap-cost", partial(monge_gap, X, X, reg=0.1, cost="lp"), ValueError, "`cost`.*'lp'"),
    ("dictionary-components", partial(WassersteinCPDictionary, 0, reg=1.0), ValueError, "`n_components`.*got 0"),
    ("dictionary-reg", partial(WassersteinCPDictionary, 2, reg=-1.0), ValueError, "`reg`.*-1"),
    ("dictionary-prox", partial(WassersteinCPDictionary, 2, reg=1.0, prox=0.0), ValueError, "`prox`.*got 0"),
    ("dictionary-negative", partial(WassersteinCPDictionary(2, reg=1.0).fit, -Q), ValueError, "`X`.*>= 0"),
    ("dictionary-nan", partial(WassersteinCPDictionary(2, reg=1.0).fit, Q * np.nan), ValueError, "`X`.*NaN"),
    ("dictionary-zero", partial(WassersteinCPDictionary(2, reg=1.0).fit, 0 * Q), ValueError, "`X`.*without mass"),
    ("dictionary-flat", partial(WassersteinCPDictionary(2, reg=1.0).fit, Q[0, 0]), ValueError, "`X`.*shape \\(3,\\)"),
    ("dictionary-complex", partial(WassersteinCPDictionary(2, reg=1.0).fit, Q + 0j), TypeError, "`X`.*complex"),
    (
        "dictionary-costs",
        partial(WassersteinCPDictionary(2, reg=1.0, costs=[np.eye(2)]).fit, Q),
        ValueError,
        "`costs`.*1 matrices.*2 axes",
    ),
    (
        "dictionary-cost-shape",
        partial(WassersteinCPDictionary(2, reg=1.0, costs=[np.eye(2), np.eye(2)]).fit, Q),
        ValueError,
        "`costs\\[1\\]`.*shape \\(2, 2\\).*shape \\(3, 3\\)",
    ),
    ("dictionary-init", partial(WassersteinCPDictionary(2, reg=1.0).fit, Q, init=Q), TypeError, "`init`.*expected"),
    ("dictionary-grid", learned(lambda d: d.transform(Q[:, :, :2])), ValueError, "`X`.*\\(2, 2\\).*\\(2, 3\\)"),
    ("dictionary-codes", learned(lambda d: d.inverse_transform(Q[0])), ValueError, "`codes`.*shape"),
    (
        "dictionary-unfitted",
        lambda: WassersteinCPDictionary(2, reg=1.0).transform(Q),
        ValueError,
        "`WassersteinCPDictionary`.*got an estimator that was not fitted.*expected a fitted",
    ),
]
