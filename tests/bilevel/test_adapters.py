"""Problems from PyTorch and JAX functions against the same problems with oracles by hand."""

import numpy as np
import pytest

from optlib.bilevel import LogisticProblem, check_problem, from_jax, from_torch, hypergradient, quasi_newton, tune

PENALTIES = ("feature", "scalar")


def given(penalty):
    problem = LogisticProblem.random(40, 5, rng=2, penalty=penalty)
    return problem, [problem.train.A.to_dense(), problem.train.t, problem.valid.A.to_dense(), problem.valid.t]


def functions(lib, A, t, V, c):
    def loss(M, labels, y):
        return lib.sum(lib.logaddexp(0.0 * labels, -labels * (M @ y)))

    return (
        lambda x, y: loss(A, t, y) + 0.5 * lib.sum(lib.exp(x) * y**2),
        lambda x, y: loss(V, c, y),
    )


def compare(problem, wanted, asarray):
    x, y = asarray(0.3 + 0.0 * wanted.start()[0]), asarray(np.linspace(-1.0, 1.0, 5))
    assert max(check_problem(problem, x, y).values()) < 1e-5
    found = hypergradient(problem, x, tol=1e-10)
    want = hypergradient(wanted, np.asarray(x), tol=1e-10)
    assert type(found.gradient) is type(x)
    assert np.allclose(np.asarray(found.gradient), want.gradient, rtol=1e-6, atol=1e-9)
    best, known = tune(problem), tune(wanted)
    assert best.success and best.fun <= known.fun * (1.0 + 2e-3)


@pytest.mark.filterwarnings("ignore:.*validation samples")
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("numpy", [False, True])
def test_torch(penalty, numpy):
    torch = pytest.importorskip("torch")
    wanted, data = given(penalty)
    asarray = (lambda u: np.array(u)) if numpy else (lambda u: torch.tensor(np.asarray(u)))
    start = tuple(asarray(u) for u in wanted.start())
    inner, outer = functions(torch, *(torch.tensor(u) for u in data))
    problem = from_torch(inner, outer, start, bounds=(-12.0, 12.0))
    compare(problem, wanted, asarray)
    if not numpy:
        value, grad_x, grad_y = problem.inner(*start)
        product = problem.hvp(*start, start[1] + 1.0)
        assert not any(u.requires_grad for u in (value, grad_x, grad_y, product, *start))


def test_torch_without_dependence():
    """A linear inner function has no curvature; one that ignores x has no cross derivative."""
    torch = pytest.importorskip("torch")
    start = torch.ones(2), torch.ones(3)
    problem = from_torch(lambda x, y: torch.sum(y), lambda x, y: torch.sum(y * y), start)
    assert not problem.hvp(*start, start[1]).any() and not problem.cross_vjp(*start, start[1]).any()
    assert problem.outer(*start)[1].shape == (2,)


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.filterwarnings("ignore:.*validation samples")
def test_jax(penalty, numpy):
    jax = pytest.importorskip("jax")
    asarray = np.array if numpy else pytest.importorskip("torch").asarray
    wanted, data = given(penalty)
    inner, outer = functions(jax.numpy, *data)
    start = tuple(asarray(u) for u in wanted.start())
    with jax.enable_x64(True):
        compare(from_jax(inner, outer, start, bounds=(-12.0, 12.0)), wanted, asarray)


def test_jax_rounds():
    jax = pytest.importorskip("jax")
    inner, outer = functions(jax.numpy, *given("scalar")[1])
    with jax.enable_x64(False), pytest.raises(ValueError, match=r"`start`.*float64.*jax_enable_x64"):
        from_jax(inner, outer, (np.zeros(1), np.zeros(5)))


def test_bad_functions():
    pytest.importorskip("torch")
    start = np.zeros(1), np.zeros(2)
    with pytest.raises(TypeError, match="`inner`"):
        from_torch(1.0, lambda x, y: y.sum(), start)
    with pytest.raises(ValueError, match=r"`outer`.*shape"):
        from_torch(lambda x, y: y.sum(), lambda x, y: y, start)
    with pytest.raises(TypeError, match=r"`start`"):
        from_torch(lambda x, y: y.sum(), lambda x, y: y.sum(), np.zeros(2))
    problem = from_torch(lambda x, y: (y * y).sum() + (x * y).sum(), lambda x, y: y.sum() ** 2, start)
    assert quasi_newton(problem, maxiter=2).nit <= 2
