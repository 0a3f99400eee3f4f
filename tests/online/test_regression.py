"""Learners of examples against closed forms and general solvers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from optlib import geometry as geo
from optlib import online
from optlib.online import GLMFTRL, AdaImplicit, Feedback, ImplicitFTRL, LinearModelLosses, OnlineRidge, play
from optlib.testing import assert_close

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((30, 3))
TARGETS = FEATURES @ [1.0, -1.0, 0.5] + 0.3 * RNG.standard_normal(30)
LABELS = np.where(TARGETS > 0.0, 1.0, -1.0)
PHI = {
    "squared": lambda p, y: 0.5 * (p - y) ** 2,
    "absolute": lambda p, y: np.abs(p - y),
    "hinge": lambda p, y: np.maximum(1.0 - y * p, 0.0),
    "logistic": lambda p, y: np.logaddexp(0.0, -y * p),
}


def feed(learner, features, targets):
    for a, y in zip(features, targets, strict=True):
        learner.update(Feedback(features=a, target=y))
    return learner.decide()


def test_ridge_is_ridge():
    learner = OnlineRidge(3, reg=0.7)
    x = feed(learner, FEATURES, TARGETS)
    expected = np.linalg.solve(0.7 * np.eye(3) + FEATURES.T @ FEATURES, FEATURES.T @ TARGETS)
    assert_close(x, expected, rtol=1e-10)
    # the bound is an identity for the best regularised comparator
    result = play(OnlineRidge(3, reg=0.7), LinearModelLosses(FEATURES, TARGETS), comparator=expected)
    assert_close(result.regret, result.regret_bound, rtol=1e-9)


def test_vovk_azoury_warmuth_by_its_formula():
    learner = online.VovkAzouryWarmuth(3, reg=0.7)
    for t in range(30):
        seen = FEATURES[: t + 1]
        metric = 0.7 * np.eye(3) + seen.T @ seen
        expected = np.linalg.solve(metric, FEATURES[:t].T @ TARGETS[:t])
        assert_close(learner.decide(FEATURES[t]), expected, rtol=1e-9, atol=1e-12)
        learner.update(Feedback(features=FEATURES[t], target=TARGETS[t]))
    bound = 0.5 * np.max(np.abs(TARGETS)) ** 2 * np.linalg.slogdet(metric / 0.7)[1]
    assert learner.regret_bound(np.zeros(3)) <= bound


def test_refreshed_inverse(monkeypatch):
    monkeypatch.setattr("optlib.online.regression.REFRESH", 7)
    x = feed(OnlineRidge(3), FEATURES, TARGETS)
    assert_close(x, np.linalg.solve(np.eye(3) + FEATURES.T @ FEATURES, FEATURES.T @ TARGETS), rtol=1e-10)


@pytest.mark.parametrize("loss", ["logistic", "poisson"])
def test_glm_is_the_penalised_fit(loss):
    y = (
        LABELS
        if loss == "logistic"
        else np.random.default_rng(1).poisson(np.exp(np.clip(TARGETS, -3, 2))).astype(float)
    )
    learner = GLMFTRL(3, loss=loss, reg=0.5)
    x = feed(learner, FEATURES, y)

    def objective(u):
        p = FEATURES @ u
        return 0.25 * u @ u + np.sum(PHI["logistic"](p, y) if loss == "logistic" else np.exp(p) - y * p)

    found = minimize(objective, np.zeros(3), method="BFGS", options={"gtol": 1e-9})
    assert_close(x, found.x, rtol=1e-5, atol=1e-6)
    assert_close(learner.state.least[0], found.fun, rtol=1e-9)
    result = play(GLMFTRL(3, loss=loss, reg=0.5), LinearModelLosses(FEATURES, y, loss=loss), comparator=x)
    assert_close(result.regret, result.regret_bound, rtol=1e-6, atol=1e-9)


def test_glm_on_separable_and_extreme_data():
    a = np.array([1e3, 1.0])
    learner = GLMFTRL(2, reg=1e-3)
    for _ in range(5):
        learner.update(Feedback(features=a, target=1.0))
        assert np.all(np.isfinite(learner.decide()))
    counts = GLMFTRL(1, loss="poisson", reg=1e-3)
    for y in (0.0, 1e6, 0.0):
        counts.update(Feedback(features=[1.0], target=y))
    assert_close(counts.decide(), [np.log(1e6 / 3)], rtol=1e-3)


# --- implicit updates ---


@pytest.mark.parametrize("loss", PHI)
@pytest.mark.parametrize(
    "mirror", [geo.Euclidean(), geo.EuclideanBall(0.8), geo.EuclideanBox(-0.5, 0.5), geo.Entropy()]
)
def test_proximal_updates_minimise(loss, mirror):
    """The new point is the minimiser of regulariser and loss, by SciPy in the dual: one number."""
    learner = ImplicitFTRL(mirror, 3, loss=loss, rate=0.7, size=1.0)
    targets = LABELS if loss in ("hinge", "logistic") else TARGETS
    for a, y in zip(FEATURES[:6], targets, strict=False):
        theta = learner.start().state.theta if learner._state is None else learner.state.theta
        learner.update(Feedback(features=a, target=y))
        x = learner.decide()

        def objective(u, theta=theta, a=a, y=y):
            return float(mirror.value(u)) / 0.7 - float(theta[0] @ u) + PHI[loss](a @ u, y)

        value = objective(x)
        for other in mirror.grad_conj(np.log(3.0) + RNG.standard_normal((50, 3))):
            near = x + 1e-3 * (other - x)  # convex: nothing near is better
            assert value <= objective(near) + 1e-9
            assert value <= objective(other) + 1e-9


def test_squared_loss_in_closed_form():
    learner = ImplicitFTRL(geo.Euclidean(), 3, rate=2.0)
    x = np.zeros(3)
    for a, y in zip(FEATURES, TARGETS, strict=True):
        x = x - 2.0 * (a @ x - y) / (1.0 + 2.0 * a @ a) * a
        learner.update(Feedback(features=a, target=y))
        assert_close(learner.decide(), x, rtol=1e-10, atol=1e-12)


@given(seed=st.integers(0, 2**32), rate=st.sampled_from([1e-3, 1.0, 1e3]), loss=st.sampled_from(sorted(PHI)))
def test_no_form_has_a_larger_bound_than_the_linear_one(seed, rate, loss):
    rng = np.random.default_rng(seed)
    a, y = rng.standard_normal(3), float(rng.choice([-1.0, 1.0]))
    bounds = {}
    for form in ("linear", "proximal", "truncated", "mirror-prox"):
        learner = ImplicitFTRL(geo.Euclidean(), 3, loss=loss, form=form, rate=rate)
        learner.update(Feedback(features=a, target=y))
        bounds[form] = learner.regret_bound(np.zeros(3))
    assert bounds["proximal"] <= min(bounds.values()) * (1 + 1e-9) + 1e-12
    assert max(bounds.values()) <= bounds["linear"] * (1 + 1e-9) + 1e-12


def test_truncated_steps_end_where_the_model_is_zero():
    learner = ImplicitFTRL(geo.Euclidean(), 2, loss="absolute", form="truncated", rate=100.0)
    learner.update(Feedback(features=[1.0, 1.0], target=3.0))
    assert_close(learner.decide(), [1.5, 1.5], rtol=1e-12)


@pytest.mark.parametrize("loss", PHI)
def test_ada_implicit_minimises(loss):
    learner = AdaImplicit(geo.EuclideanBall(0.8), 3, loss=loss)
    targets = LABELS if loss in ("hinge", "logistic") else TARGETS
    for a, y in zip(FEATURES[:6], targets, strict=False):
        before = learner.decide()
        learner.update(Feedback(features=a, target=y))
        x, weight = learner.decide(), float(learner.state.used[0])

        def point(s, before=before, a=a, weight=weight):
            return geo.Ball(3, 0.8).project(before - s * a / weight)

        def objective(s, before=before, a=a, y=y, weight=weight):
            u = point(s)
            return PHI[loss](a @ u, y) + 0.5 * weight * np.sum((u - before) ** 2)

        most = 1.0 + np.max(np.abs(targets))
        best = minimize_scalar(objective, bounds=(-most, most), method="bounded", options={"xatol": 1e-12}).fun
        value = PHI[loss](a @ x, y) + 0.5 * weight * np.sum((x - before) ** 2)
        assert value <= best + 1e-6


def test_ada_implicit_has_bounded_regret_on_one_loss():
    a = np.tile([[0.6, 0.8]], (400, 1))
    result = play(
        AdaImplicit(geo.EuclideanBall(), 2, loss="absolute"),
        LinearModelLosses(a, np.full(400, 0.5), loss="absolute"),
        comparator=np.array([0.3, 0.4]),
    )
    assert result.regret <= result.regret_bound <= 2.0 * 0.5 * (1 + 1e-6)


def test_examples_as_a_stream():
    stream = [Feedback(features=a, target=y) for a, y in zip(FEATURES, TARGETS, strict=True)]
    result = play(OnlineRidge(3), iter(stream), comparator=np.zeros(3))
    assert_close(result.x, play(OnlineRidge(3), LinearModelLosses(FEATURES, TARGETS), comparator=np.zeros(3)).x, rtol=0)
