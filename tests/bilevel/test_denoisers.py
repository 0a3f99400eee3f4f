"""Denoisers with scikit-learn's interface: rules that need no table, images of all kinds, searches, pipelines."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

from optlib.bilevel import FieldsOfExpertsProblem, FoEDenoiser, TotalVariationProblem, TVDenoiser, hypergradient
from optlib.testing import assert_close

QUICK = FoEDenoiser(filters=2, learn_filters=False, smoothing=0.02, max_iter=5)
BOTH = [TVDenoiser(smoothing=0.02), QUICK]
WITHOUT_TABLES = [
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_estimator_tags_renamed,
    checks.check_get_params_invariance,
    checks.check_mixin_order,
    checks.check_no_attributes_set_in_init,
    checks.check_parameters_default_constructible,
    checks.check_set_params,
    checks.check_valid_tag_types,
]


def pairs(n=3, colours=None, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    shape = (n, 3, 4) if colours is None else (n, 3, 4, colours)
    clean = rng.random(shape).repeat(4, axis=1).repeat(3, axis=2)
    return clean + noise * rng.normal(size=clean.shape), clean


@pytest.mark.parametrize("estimator", [TVDenoiser(), FoEDenoiser()], ids=str)
def test_scikit_learn_checks(estimator):
    for check in WITHOUT_TABLES:
        check(type(estimator).__name__, clone(estimator))
    with pytest.warns(match="requires input"):  # its checks are for tables; these are not
        check_estimator(estimator)
    tags = get_tags(estimator)
    assert tags.input_tags.three_d_array and not tags.input_tags.two_d_array and tags.target_tags.required


@pytest.mark.parametrize("model", BOTH, ids=str)
@pytest.mark.filterwarnings("ignore:.*maxiter")
def test_rules_on_images(model):
    """What the checks for tables ask, on images: nothing is changed but what ends in _, the same fit gives the same."""
    noisy, clean = pairs()
    kept = noisy.copy(), clean.copy()
    model = clone(model)
    with pytest.raises(NotFittedError):
        model.transform(noisy)
    before = dict(vars(model))
    assert model.fit(noisy, clean) is model
    fitted = dict(vars(model))
    found = model.transform(noisy)
    assert vars(model) == fitted
    assert {name: fitted[name] for name in before} == before
    assert all(name.endswith("_") for name in set(fitted) - set(before))
    assert np.array_equal(kept[0], noisy) and np.array_equal(kept[1], clean)
    again = pickle.loads(pickle.dumps(clone(model).fit(noisy.tolist(), clean.tolist())))
    assert np.array_equal(again.predict(noisy), found)
    assert np.array_equal(clone(model).fit_transform(noisy, clean), found)
    assert_close(model.transform(noisy[::-1])[::-1], found, rtol=1e-3, atol=1e-4)
    assert_close(np.concatenate([model.transform(image[None]) for image in noisy]), found, rtol=1e-3, atol=1e-4)
    small = clone(model).fit(noisy.astype("f4"), clean.astype("f4"))
    assert small.transform(noisy.astype("f4")).dtype == np.float32
    assert_close(small.transform(noisy), found, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("model", BOTH, ids=str)
@pytest.mark.filterwarnings("ignore:.*maxiter")
def test_colours_and_sizes(model):
    """A colour is an image of its own; what was learned holds for images of any size."""
    noisy, clean = pairs(2, colours=3)
    model = clone(model).fit(noisy, clean)
    planes = [np.moveaxis(u, 3, 1).reshape(-1, *u.shape[1:3]) for u in (noisy, clean)]
    grey = clone(model).fit(*planes)
    assert_close(grey.result_.x, model.result_.x, rtol=1e-12)
    found = model.transform(noisy)
    assert found.shape == noisy.shape
    assert_close(grey.transform(noisy[0, :, :, 1][None])[0], found[0, :, :, 1], rtol=1e-3, atol=1e-4)
    assert grey.transform(np.ones((1, 2, 50))).shape == (1, 2, 50)
    errors = np.mean((found - clean) ** 2, axis=(1, 2, 3))
    assert_close(model.score(noisy, clean), np.mean(10.0 * np.log10(1.0 / errors)), rtol=1e-12)
    bright = clone(model).set_params(peak=255.0, smoothing=255.0 * 0.02).fit(255.0 * noisy, 255.0 * clean)
    assert abs(bright.score(255.0 * noisy, 255.0 * clean) - model.score(noisy, clean)) < 0.1
    assert model.score(clean, clean) > model.score(noisy, clean) > 22.0


def test_it_is_the_solution_of_the_problem():
    noisy, clean = pairs()
    variation = TVDenoiser().fit(noisy, clean)
    problem = TotalVariationProblem(noisy, clean, smoothing=variation.smoothing_)
    exact = hypergradient(problem, np.log([variation.weight_]), tol=1e-10).y
    assert np.sqrt(np.mean((variation.transform(noisy) - exact) ** 2)) <= 1e-4 * problem.contrast
    with pytest.warns(UserWarning, match="validation samples|maxiter"):  # few pixels; stopped early
        experts = FoEDenoiser(filters=2, max_iter=8).fit(noisy, clean)
    assert experts.weights_.shape == experts.smoothing_.shape == (3,) and experts.filters_.shape == (3, 2, 2)
    problem = FieldsOfExpertsProblem(noisy, clean, experts.filters_, learn_filters=False)
    x = np.log(np.concatenate([experts.weights_, experts.smoothing_]))
    assert_close(problem.denoise(x)[0], experts.transform(noisy), rtol=1e-3, atol=1e-4)


def test_searches_and_pipelines():
    noisy, clean = pairs(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        search = GridSearchCV(QUICK, {"filters": [2, 3]}, cv=2).fit(noisy, clean)
        assert search.best_score_ > 20.0
    assert np.all(cross_val_score(TVDenoiser(smoothing=0.02), noisy, clean, cv=2) > 20.0)
    pipe = make_pipeline(FunctionTransformer(lambda X: X + 0.0), TVDenoiser(smoothing=0.02)).fit(noisy, clean)
    assert pipe.predict(noisy).shape == noisy.shape and pipe.score(noisy, clean) > 20.0


def test_the_edge_of_the_box_says_so():
    _, clean = pairs()
    with pytest.warns(UserWarning, match="edge of their box"):
        model = TVDenoiser(smoothing=0.05).fit(clean, clean)
    assert model.at_bounds_ == 1
    with pytest.warns(ConvergenceWarning, match="maxiter"):
        TVDenoiser(max_iter=1).fit(*pairs())


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones((4, 4)), np.ones((4, 4)), "`X`.*n_images.*image\\[None\\]"),
        (np.ones((1, 4, 4)), np.ones((1, 4, 5)), "`y`"),
        (np.full((1, 4, 4), np.nan), np.ones((1, 4, 4)), "NaN"),
        (np.ones((1, 4, 0)), np.ones((1, 4, 0)), "`X`"),
        (np.ones((0, 4, 4)), np.ones((0, 4, 4)), "minimum of 1"),
    ],
)
def test_bad_images(X, y, message):
    with pytest.raises(ValueError, match=message):
        TVDenoiser().fit(X, y)


def test_bad_options():
    with pytest.raises(ValueError, match="`peak`"):
        TVDenoiser(peak=0.0).fit(*pairs())
    with pytest.raises(ValueError, match="`y`"):
        TVDenoiser(smoothing=0.1, tol=0.1).fit(*pairs()).score(pairs()[0], pairs(2)[1])


def test_images_of_several_sizes_are_named():
    with pytest.raises(ValueError, match=r"`X`: got images of shapes \(8, 8\), \(8, 9\); expected one shape"):
        TVDenoiser().fit([np.ones((8, 8)), np.ones((8, 9))], [np.ones((8, 8)), np.ones((8, 9))])
