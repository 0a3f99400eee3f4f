"""Problems that break an assumption or a promise: said by name, with the point kept, and never a success."""

import copy
import inspect

import numpy as np
import pytest

from optlib import Status
from optlib.bilevel import (
    CounterexampleProblem,
    LassoProblem,
    Point,
    Problem,
    QuadraticProblem,
    RidgeProblem,
    SumConstraintProblem,
    bamm,
    bda,
    hoag,
    hypergradient,
    lv_hba,
    maid,
    quasi_newton,
    scalar,
    truncated,
    tune,
)  # fmt: skip
from optlib.bilevel._front import METHODS

IMPLICIT = (hoag, quasi_newton)


class Wells(Problem):
    """``f = sum (y^2 - 1)^2 / 4 - x y``: two minimisers, and a maximiser between them at which it starts."""

    def start(self):
        return np.zeros(1), np.full(3, 0.0)

    def inner(self, x, y):
        return np.sum((y * y - 1.0) ** 2 / 4.0 - x * y), np.array([-np.sum(y)]), y**3 - y - x

    def outer(self, x, y):
        return 0.5 * np.sum((y - 0.2) ** 2), 0.0 * x, y - 0.2

    def at(self, x, y):
        curvature = 3.0 * y * y - 1.0
        return Point(lambda v: curvature * v, lambda v: np.array([-np.sum(v)]), lambda u: -u * np.ones(3))

    def bounds(self):
        return -1.0, 1.0


class FarWells(Wells):
    """The same from a point in a well."""

    def start(self):
        return np.zeros(1), np.full(3, 0.05)


class DenseWells(Wells):
    def hessian(self, x, y):
        return np.diag(3.0 * y * y - 1.0)


def unbounded():
    """A quadratic with a direction of negative curvature: values fall without end."""
    problem = QuadraticProblem.random(4, 2, rng=0)
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    problem.H = Q * [-1.0, 1.0, 2.0, 3.0] @ Q.T
    return problem


@pytest.mark.parametrize("mode", ["cg", "minres"])
def test_many_minimisers(mode):
    problem = CounterexampleProblem(np.ones(3))
    found = hypergradient(problem, np.full(3, 0.5), mode=mode)
    assert not found.converged
    assert all(word in found.message for word in ("singular", "bda", "bamm", "penalty")), found.message
    flat = problem.solution()  # there, F does not fall along the flat direction either
    start = np.stack([flat, flat])
    assert hypergradient(problem, flat, y=start, mode=mode).message == ""


@pytest.mark.filterwarnings("ignore:the inner problem has a direction")
@pytest.mark.parametrize("start", ["cold", "warm"])
@pytest.mark.parametrize("solver", IMPLICIT)
def test_many_minimisers_are_no_success(solver, start):
    """Cold starts have a use there, so the run goes on; the result says what was seen."""
    found = solver(CounterexampleProblem(np.ones(3)), start=start, maxiter=10)
    assert not found.success
    assert "many minimisers" in str(found) and "bamm" in str(found)


def test_losing_convexity_ends_a_run():
    """The wells merge into one another as x grows: where the curvature is lost, the last good point is kept."""
    found = quasi_newton(FarWells(), maxiter=30)
    assert found.status is Status.BREAKDOWN and not found.success
    assert "not convex" in found.message and set(found.failed_at) == {"x", "y"} and np.isfinite(found.fun)


@pytest.mark.parametrize(("problem", "mode"), [(Wells(), "cg"), (DenseWells(), "direct")])
def test_not_a_minimiser(problem, mode):
    """The start is a maximiser at which the inner gradient vanishes: no step is taken, and the curvature is seen."""
    found = hypergradient(problem, np.zeros(1), mode=mode)
    assert not found.converged and "not convex" in found.message and "reverse" in found.message
    with pytest.raises(ValueError, match=r"`problem`.*not convex.*strongly convex") as caught:
        scalar(problem, mode=mode)
    assert np.array_equal(caught.value.point["x"], [0.0])
    good = hypergradient(problem, np.zeros(1), y=np.ones(3), mode=mode)
    assert good.converged and not good.message


@pytest.mark.parametrize("call", [lambda p: hypergradient(p, np.ones(2)), hoag, quasi_newton])
def test_no_minimiser(call):
    match = r"`problem`.*values fall without end.*expected one minimiser"
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=match) as caught:
        call(unbounded())
    assert set(caught.value.point) == {"x", "y"}


def test_nearly_flat_is_not_flat():
    """Tiny penalties of more features than samples: hard, and yet strongly convex."""
    for mode in ("cg", "direct"):
        found = hypergradient(RidgeProblem.random(6, 12, rng=0), np.full(12, -12.0), mode=mode)
        assert found.message == ""


# -- oracles that do not keep their promise --

SHAPES = {
    "inner: grad_x": {"inner": lambda found, *_: (found[0], found[1][:1], found[2])},
    "inner: grad_y": {"inner": lambda found, *_: (found[0], found[1], found[2][:, None])},
    "outer: grad_x": {"outer": lambda found, *_: (found[0], np.ones(7), found[2])},
    "outer: grad_y": {"outer": lambda found, *_: (found[0], found[1], found[2][:-1])},
    "value of shape": {"outer": lambda found, *_: (found[2], found[1], found[2])},
    "inner`; expected value, grad_x, grad_y": {"inner": lambda found, *_: found[:2]},
    "hvp": {"hvp": lambda found, *_: found[:-1]},
    "cross_vjp": {"cross_vjp": lambda found, *_: found[:1]},
}


def spoilt(changes, problem=None):
    """A problem whose oracles return something else, and that has no shared products."""
    problem = problem or QuadraticProblem.random(4, 2, rng=0)
    bad = copy.copy(problem)
    products = {
        name: lambda x, y, v, name=name: getattr(problem.at(x, y), name)(v)
        for name in ("hvp", "cross_vjp", "cross_jvp")
    }
    for name, right in ({"inner": problem.inner, "outer": problem.outer} | products).items():
        wrong = changes.get(name, lambda found, *_: found)
        setattr(bad, name, lambda *args, right=right, wrong=wrong: wrong(right(*args), *args))
    bad.at = None
    return bad


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    "call", [lambda p: hypergradient(p, np.ones(2), mode="cg"), hoag, quasi_newton, bda, bamm],
    ids=["hypergradient", "hoag", "quasi_newton", "bda", "bamm"],
)  # fmt: skip
def test_shapes_of_answers(name, call):
    with pytest.raises((ValueError, TypeError), match=f"`problem`: got .*{name}"):
        call(spoilt(SHAPES[name]))


def later(nth, oracle):
    """An oracle that returns NaN from its nth call on."""
    calls = [0]

    def change(found, *_):
        calls[0] += 1
        return found if calls[0] < nth else tuple(np.nan * np.asarray(u) for u in found)

    return {oracle: change}


@pytest.mark.parametrize("oracle", ["inner", "outer"])
@pytest.mark.parametrize("solver", [hoag, bda, bamm])
def test_nan_in_the_middle(solver, oracle):
    """The run ends, its last good point is the answer, and the one at which the oracle failed is kept."""
    options = {"check_every": 1} if solver is bamm else {}
    found = solver(spoilt(later(250 if solver is bda else 40, oracle)), tol=None, maxiter=200, **options)
    assert found.status in (Status.NONFINITE, Status.BREAKDOWN, Status.STALLED) and not found.success, found
    assert np.all(np.isfinite(found.x)) and (solver is bamm or np.isfinite(found.fun))
    if found.status is Status.NONFINITE:
        assert np.all(np.isfinite(found.failed_at["x"])) and found.failed_at["x"].shape == (2,)


def test_nan_at_the_start():
    for solver in (hoag, bda, maid, truncated):
        with pytest.raises(ValueError, match=r"`problem`.*NaN") as caught:
            solver(spoilt(later(1, "outer")))
        assert "x" in caught.value.point


def test_nan_with_constraints():
    problem = SumConstraintProblem(np.ones(3))
    outer, calls = problem.outer, []

    def breaking(x, y):
        calls.append(1)
        found = outer(x, y)
        return found if len(calls) < 20 else (np.nan, *found[1:])

    problem.outer = breaking
    found = lv_hba(problem, check_every=1)
    assert found.status is Status.NONFINITE and np.all(np.isfinite(found.x)) and "x" in found.failed_at


# -- bounds --


BOXED = {
    "lv_hba": lambda: SumConstraintProblem(np.ones(3)),
    "piecewise": lambda: LassoProblem.random(20, 5, penalty="scalar"),
    "nonsmooth": lambda: LassoProblem.random(20, 5, penalty="scalar"),
}


@pytest.mark.parametrize("method", [m for m in METHODS if "bounds" in inspect.signature(METHODS[m]).parameters])
def test_crossed_bounds(method):
    problem = BOXED.get(method, lambda: RidgeProblem.random(40, 3, penalty="scalar"))()
    for bounds in ((1.0, -1.0), (np.nan, 1.0), (2.0, 2.0)):
        with pytest.raises((ValueError, TypeError), match=r"`bounds`|`problem`"):  # or a method for other problems
            tune(problem, method=method, bounds=bounds)
