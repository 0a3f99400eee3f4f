import numpy as np
import pytest

from optlib.datasets import TRANSPORT_KINDS, make_transport


@pytest.mark.parametrize("kind", TRANSPORT_KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 4), (40, 40)])
def test_problem_is_balanced_finite_and_scaled(kind, shape):
    cost, a, b, x, y = make_transport(kind, *shape, rng=0)
    assert cost.shape == shape
    assert a.shape == shape[:1]
    assert b.shape == shape[1:]
    assert np.all(np.isfinite(cost))
    assert cost.min() >= 0.0
    assert cost.max() == pytest.approx(1.0) or np.all(cost == 0.0)
    for weights in (a, b):
        assert weights.min() >= 0.0
        assert weights.sum() == pytest.approx(1.0)
    if x is not None:
        distances = np.sum((x[:, None] - y[None]) ** 2, axis=2)
        np.testing.assert_allclose(distances, cost, atol=1e-14)


@pytest.mark.parametrize("kind", TRANSPORT_KINDS)
def test_seed_decides(kind):
    one, two, other = (make_transport(kind, 12, rng=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.cost, two.cost)
    np.testing.assert_array_equal(one.a, two.a)
    assert not (np.array_equal(one.cost, other.cost) and np.array_equal(one.a, other.a))


def test_kinds_have_the_property_that_they_are_named_after():
    assert make_transport("rectangular", 30, rng=0).cost.shape == (30, 10)
    assert make_transport("cloud50d", 5, rng=0).x.shape == (5, 50)
    assert len(np.unique(make_transport("ties", 30, rng=0).cost)) == 6
    assert make_transport("shifted", 30, rng=0).cost.min() > 0.3
    assert make_transport("grid", 200, rng=0).a.min() < 1e-10


@pytest.mark.parametrize(
    ("arguments", "name"), [(("sphere",), "kind"), (("ties", 0), "n"), (("ties", 2.5), "n"), (("ties", 3, -1), "m")]
)
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises((ValueError, TypeError), match=f"`{name}`: got"):
        make_transport(*arguments)


def test_bad_rng():
    with pytest.raises(TypeError, match="`rng`"):
        make_transport(rng="seed")
