"""Checks for solvers, operators and oracles: used by the test-suite, offered to users who add their own."""

import inspect
import math
import pickle
from collections.abc import Callable
from typing import Any

import array_api_compat as compat
import numpy as np

from optlib._core import Result, Status
from optlib._core import validation as check
from optlib.backend import array_namespace, asarray_like, device_of, to_numpy
from optlib.backend.random import as_generator

__all__ = ["assert_close", "check_adjoint", "check_gradient", "check_solver_contract"]


def assert_close(actual: Any, desired: Any, *, rtol: float = 1e-7, atol: float = 0.0, message: str = "") -> None:
    """Assert that two arrays agree in library, dtype, shape and, within the tolerances, in value.

    Parameters
    ----------
    actual, desired : array or float
        If ``desired`` is a host array or number only the shapes and values are compared.
    rtol, atol : float
    message : str

    Raises
    ------
    AssertionError
        If they differ.
    """
    if compat.is_array_api_obj(desired) and not compat.is_numpy_array(desired):
        assert array_namespace(actual) is array_namespace(desired), f"{type(actual)} against {type(desired)} {message}"
        assert actual.dtype == desired.dtype, f"dtype {actual.dtype} against {desired.dtype} {message}"
    np.testing.assert_allclose(to_numpy(actual), to_numpy(desired), rtol=rtol, atol=atol, err_msg=message, strict=False)
    assert np.shape(to_numpy(actual)) == np.shape(to_numpy(desired)), message


def check_adjoint(operator: Any, *, like: Any, rtol: float | None = None, rng: Any = 0, trials: int = 3) -> None:
    """Assert ``<A x, y> = <x, A' y>`` for random vectors.

    Parameters
    ----------
    operator : object
        With ``shape``, ``matvec`` and ``rmatvec``.
    like : array
        Its library, device and dtype are used for the vectors.
    rtol : float, optional
        Relative to ``|A x| |y| + |x| |A' y|``; by default ``100 eps`` times the square root of the larger dimension.
    rng : seed or Generator
    trials : int
    """
    like = check.template("like", like)
    xp, rng = array_namespace(like), as_generator(rng)
    trials = check.scalar("trials", trials, low=1, integer=True)
    m, n = operator.shape
    if rtol is None:
        rtol = 100 * float(xp.finfo(like.dtype).eps) * math.sqrt(max(m, n, 1))
    rtol = check.scalar("rtol", rtol, low=0.0)
    for _ in range(trials):
        x, y = asarray_like(rng.standard_normal(n), like), asarray_like(rng.standard_normal(m), like)
        forward, backward = operator.matvec(x), operator.rmatvec(y)
        left, right = float(xp.sum(forward * y)), float(xp.sum(x * backward))
        size = float(xp.sqrt(xp.sum(forward**2) * xp.sum(y**2)) + xp.sqrt(xp.sum(x**2) * xp.sum(backward**2)))
        assert abs(left - right) <= rtol * max(size, 1e-300), f"adjoint test: {left} against {right}"


def check_gradient(
    fun: Callable[[Any], Any], grad: Callable[[Any], Any], x: Any, *, rtol: float = 1e-6, rng: Any = 0, trials: int = 3
) -> None:
    """Assert that ``grad`` is the derivative of ``fun`` at ``x`` by central differences along random directions.

    Parameters
    ----------
    fun : callable
        Returns a number.
    grad : callable
        Returns an array like ``x``.
    x : array
        float64.
    rtol : float
    rng : seed or Generator
    trials : int
    """
    xp, device, dtype = check.common(x=x)
    x = check.array("x", x, xp=xp, dtype=dtype, device=device)
    rng, rtol = as_generator(rng), check.scalar("rtol", rtol, low=0.0)
    trials = check.scalar("trials", trials, low=1, integer=True)
    g = grad(x)
    assert g.shape == x.shape, f"gradient of shape {g.shape} for x of shape {x.shape}"
    step = 1e-5 * max(1.0, float(xp.max(xp.abs(x)))) if 0 not in x.shape else 1.0
    for _ in range(trials):
        d = asarray_like(rng.standard_normal(x.shape), x)
        slope = (float(fun(x + step * d)) - float(fun(x - step * d))) / (2 * step)
        exact = float(xp.sum(g * d))
        size = float(xp.sqrt(xp.sum(g**2) * xp.sum(d**2))) + abs(float(fun(x))) * 1e-10 / step
        assert abs(slope - exact) <= rtol * max(size, 1e-12), f"directional derivative {exact}, by differences {slope}"


def check_solver_contract(
    solver: Callable[..., Result], *args: Any, like: Any, iterations: int = 6, **options: Any
) -> None:
    """Assert that a solver keeps the contract: fields, history, resume law, callbacks, limits, inputs, dtype, device.

    On NumPy also that the result can be pickled.

    Parameters
    ----------
    solver : callable
        The solver; called as ``solver(*args, **options, tol=..., maxiter=..., ...)``. For an estimator it is the
        function ``fit`` of its class, and the first argument is the estimator; its ``result_`` is looked at.
    *args : object
        The problem: must need more than ``iterations`` iterations for the tolerance 0.
    like : array
        Library, device and dtype that the answer must have.
    iterations : int
        Length of the test runs.
    **options : object
        Other keywords of the solver.

    Raises
    ------
    AssertionError
        If a part of the contract is broken.
    """
    before = _snapshot(args)
    names = inspect.signature(solver).parameters
    half = iterations // 2

    def go(n: int, **more: Any) -> Result:
        answer = solver(*args, **{"tol": None, "maxiter": n, "check_every": 1, **options, **more})
        return answer if isinstance(answer, Result) else answer.result_

    whole = go(iterations)
    for name in ("x", "fun", "success", "status", "message", "method", "nit", "counts", "certificate", "history",
                 "time", "state"):  # fmt: skip
        assert name in whole, f"the result lacks `{name}`"
    assert whole.nit == iterations, f"maxiter={iterations} ran {whole.nit} iterations"
    assert whole.status is Status.MAXITER and isinstance(whole.message, str) and repr(whole)
    assert whole.success == whole.certificate.holds
    assert whole.history["nit"] == list(range(iterations + 1)), whole.history["nit"]
    assert all(isinstance(v, float) for column in whole.history.values() for v in column)
    for part in whole.x if isinstance(whole.x, tuple) else (whole.x,):
        assert array_namespace(part) is array_namespace(like)
        assert part.dtype == like.dtype, f"dtype {like.dtype} in, {part.dtype} out"
        assert device_of(part) == device_of(like)
    _assert_same(before, _snapshot(args), "an input was modified")

    if compat.is_numpy_array(like):
        stored = pickle.loads(pickle.dumps(whole))
        assert type(stored) is type(whole) and repr(stored) == repr(whole), "a pickled result is another one"
        for name in whole:
            _assert_same(_snapshot(whole[name]), _snapshot(stored[name]), f"`{name}` of a pickled result")

    # resume law, bitwise, wherever the cut is and however often is checked
    resumed = go(iterations - half, init=go(half))
    assert resumed.nit == iterations
    _assert_same(_snapshot(whole.x), _snapshot(resumed.x), "n steps, then m from the result, differ from n+m steps")
    sparse = go(iterations, check_every=iterations)
    _assert_same(_snapshot(whole.x), _snapshot(sparse.x), "the run depends on check_every")
    _assert_same(_snapshot(whole.x), _snapshot(go(iterations, record=False).x), "the run depends on record")

    # callback: a copy, and StopIteration
    seen: list[Any] = []

    def spoil(intermediate_result: Result) -> None:
        seen.append(intermediate_result.nit)
        for part in intermediate_result.x if isinstance(intermediate_result.x, tuple) else (intermediate_result.x,):
            if compat.is_numpy_array(part):
                part[...] = np.nan

    _assert_same(_snapshot(whole.x), _snapshot(go(iterations, callback=spoil).x), "a callback changed the run")
    assert seen == list(range(iterations + 1)), seen

    def halt(intermediate_result: Result) -> None:
        if intermediate_result.nit >= half:
            raise StopIteration

    halted = go(iterations, callback=halt)
    assert halted.status is Status.CALLBACK and halted.nit == half

    zero = go(0)
    assert zero.nit == 0 and zero.status is Status.MAXITER
    if "max_time" in names:
        assert go(iterations, max_time=0.0).status is Status.MAX_TIME


def _snapshot(item: Any) -> list[np.ndarray]:
    if compat.is_array_api_obj(item):
        return [np.array(to_numpy(item))]
    if isinstance(item, (tuple, list)):
        return [leaf for part in item for leaf in _snapshot(part)]
    if hasattr(item, "_map_arrays"):
        leaves: list[np.ndarray] = []

        def visit(x: Any) -> Any:
            leaves.extend(_snapshot(x))
            return x

        item._map_arrays(visit)
        return leaves
    return []


def _assert_same(first: list[np.ndarray], second: list[np.ndarray], message: str) -> None:
    assert len(first) == len(second), message
    for u, v in zip(first, second, strict=True):
        assert np.array_equal(u, v, equal_nan=True), message
