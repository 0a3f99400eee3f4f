"""Bilevel problems from functions of JAX or PyTorch: all oracles by automatic differentiation."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, is_numpy, is_torch
from optlib.bilevel.problem import Point, Problem

Function = Callable[[Any, Any], Any]


class _Differentiated(Problem, ABC):
    """A problem whose oracles come from another library: ``there`` and ``back`` carry arrays over the boundary."""

    def __init__(self, inner: Function, outer: Function, start: Any, bounds: Any) -> None:
        for name, function in (("inner", inner), ("outer", outer)):
            if not callable(function):
                raise check.error(name, type(function).__name__, "a function of x and y", kind=TypeError)
        if not (isinstance(start, (tuple, list)) and len(start) == 2):
            raise check.error("start", type(start).__name__, "a pair of arrays (x, y)", kind=TypeError)
        self.functions, self._bounds = (inner, outer), bounds
        self.xp, device, dtype = check.common(**{"start[0]": start[0], "start[1]": start[1]})
        self._start = tuple(check.array("start", u, xp=self.xp, dtype=dtype, device=device) for u in start)
        for name, function in (("inner", inner), ("outer", outer)):
            value = function(*(self.there(u) for u in self._start))
            if tuple(getattr(value, "shape", ())) != ():
                raise check.error(name, f"a value of shape {tuple(value.shape)}", "a number, of shape ()")

    @abstractmethod
    def there(self, u: Array) -> Any:
        """An array of the solvers, in the other library."""

    def back(self, u: Any) -> Array:
        """An array of the other library, for the solvers."""
        return self.xp.asarray(u) if is_numpy(self.xp) else self.xp.from_dlpack(u)

    def start(self) -> tuple[Array, Array]:
        """The start that was given."""
        return self._start

    def bounds(self) -> tuple[Any, Any]:
        """The box that was given; by default all numbers."""
        return super().bounds() if self._bounds is None else self._bounds

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        return self.at(x, y).inner()

    def __reduce__(self) -> Any:
        return type(self), (*self.functions, self._start, self._bounds)

    def _map_arrays(self, move: Callable[[Array], Array]) -> "_Differentiated":
        return type(self)(*self.functions, tuple(move(u) for u in self._start), self._bounds)


class _JaxProblem(_Differentiated):
    """Oracles compiled once."""

    def __init__(self, inner: Function, outer: Function, start: Any, bounds: Any) -> None:
        import jax

        def products(x: Any, y: Any, v: Any) -> tuple[Any, Any]:
            """``H v`` and ``C v``: the gradients of ``<grad_y f, v>``."""
            return jax.grad(lambda x, y: (jax.grad(inner, 1)(x, y) * v).sum(), (1, 0))(x, y)

        self._jax = jax
        self._first = tuple(jax.jit(jax.value_and_grad(f, (0, 1))) for f in (inner, outer))
        self._hvp = jax.jit(lambda x, y, v: jax.jvp(lambda y: jax.grad(inner, 1)(x, y), (y,), (v,))[1])
        self._cross_vjp = jax.jit(lambda x, y, v: products(x, y, v)[1])
        self._cross_jvp = jax.jit(lambda x, y, u: jax.jvp(lambda x: jax.grad(inner, 1)(x, y), (x,), (u,))[1])
        super().__init__(inner, outer, start, bounds)

    def there(self, u: Array) -> Any:
        """To JAX; its default precision is single."""
        found = self._jax.numpy.asarray(u) if is_numpy(self.xp) else self._jax.numpy.from_dlpack(u)
        if found.dtype.itemsize != u.dtype.itemsize:
            raise check.error(
                "start", "float64, which JAX would round", "float32, or JAX in double precision",
                'jax.config.update("jax_enable_x64", True)',
            )  # fmt: skip
        return found

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point."""
        here = self.there(x), self.there(y)

        def product(oracle: Callable[..., Any]) -> Callable[[Array], Array]:
            return lambda v: self.back(oracle(*here, self.there(v)))

        return Point(
            hvp=product(self._hvp), cross_vjp=product(self._cross_vjp), cross_jvp=product(self._cross_jvp),
            inner=lambda: self._values(self._first[0](*here)),
        )  # fmt: skip

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        return self._values(self._first[1](self.there(x), self.there(y)))

    def _values(self, found: Any) -> tuple[Array, Array, Array]:
        value, gradients = found
        return self.back(value), *(self.back(u) for u in gradients)


class _TorchProblem(_Differentiated):
    """Oracles by `torch.autograd`; nothing that is returned holds a graph."""

    def __init__(self, inner: Function, outer: Function, start: Any, bounds: Any) -> None:
        import torch

        self._torch = torch
        super().__init__(inner, outer, start, bounds)

    def there(self, u: Array) -> Any:
        """To PyTorch: a leaf of its own."""
        if is_torch(self.xp):
            return u.detach()
        return self._torch.tensor(u) if is_numpy(self.xp) else self._torch.from_dlpack(u)

    def back(self, u: Any) -> Array:
        """Without the graph."""
        return u.detach() if is_torch(self.xp) else super().back(u.detach())

    def _gradients(self, function: Function, x: Array, y: Array, graph: bool) -> tuple[Any, ...]:
        """The leaves, the value and its gradients."""
        leaves = [self.there(u).requires_grad_() for u in (x, y)]
        with self._torch.enable_grad():
            value = function(*leaves)
            return leaves, value, self._pull(value, leaves, None, graph)

    def _pull(self, value: Any, leaves: Any, v: Any, graph: bool = False) -> tuple[Any, ...]:
        """Products with the derivatives of a value, zero where it does not depend on a leaf."""
        if not value.requires_grad:
            return tuple(self._torch.zeros_like(u) for u in leaves)
        return self._torch.autograd.grad(
            value, leaves, grad_outputs=v, create_graph=graph, retain_graph=True, allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point, through one graph of the gradients."""
        (here_x, here_y), value, (grad_x, grad_y) = self._gradients(self.functions[0], x, y, graph=True)

        def product(gradient: Any, leaf: Any) -> Callable[[Array], Array]:
            return lambda v: self.back(self._pull(gradient, [leaf], self.there(v))[0])

        return Point(
            hvp=product(grad_y, here_y), cross_vjp=product(grad_y, here_x), cross_jvp=product(grad_x, here_y),
            inner=lambda: (self.back(value), self.back(grad_x), self.back(grad_y)),
        )  # fmt: skip

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        _, value, gradients = self._gradients(self.functions[1], x, y, graph=False)
        return self.back(value), *(self.back(u) for u in gradients)


def from_jax(inner: Function, outer: Function, start: Any, *, bounds: Any = None) -> Problem:
    """Make a bilevel problem of two functions written in JAX.

    Parameters
    ----------
    inner, outer : callable
        ``inner(x, y)`` and ``outer(x, y)`` return the values f and F as 0-d arrays, by pure functions of JAX arrays.
    start : (array, array)
        Hyperparameters and inner variable to start from, of NumPy, CuPy or PyTorch: what the solvers work on.
    bounds : (float or array, float or array), optional
        Box for x.

    Returns
    -------
    Problem
        With gradients and all products; the oracles are compiled once.

    Raises
    ------
    ImportError
        If JAX is not installed (extra ``jax``).
    TypeError, ValueError
        If the functions or the start are of the wrong kind, or JAX would round the start to single precision.

    Notes
    -----
    Arrays cross to JAX and back without copies where both libraries can (DLPack). Cost of a product: about three
    evaluations of f.

    Examples
    --------
    >>> import numpy as np
    >>> import jax.numpy as jnp  # doctest: +SKIP
    >>> from optlib.bilevel import from_jax, tune
    >>> A, V = np.random.default_rng(0).normal(size=(2, 20, 5))
    >>> problem = from_jax(
    ...     lambda x, y: 0.5 * jnp.sum((A @ y - 1.0) ** 2) + 0.5 * jnp.sum(jnp.exp(x) * y**2),
    ...     lambda x, y: 0.5 * jnp.sum((V @ y - 1.0) ** 2),
    ...     (np.zeros(5), np.zeros(5)),
    ...     bounds=(-12.0, 12.0),
    ... )  # doctest: +SKIP
    >>> tune(problem).success  # doctest: +SKIP
    True
    """
    return _JaxProblem(inner, outer, start, bounds)


def from_torch(inner: Function, outer: Function, start: Any, *, bounds: Any = None) -> Problem:
    """Make a bilevel problem of two functions written in PyTorch.

    Parameters
    ----------
    inner, outer : callable
        ``inner(x, y)`` and ``outer(x, y)`` return the values f and F as 0-d tensors that `torch.autograd` can
        differentiate twice.
    start : (array, array)
        Hyperparameters and inner variable to start from: tensors, or arrays of NumPy or CuPy. The solvers work on what
        is given.
    bounds : (float or array, float or array), optional
        Box for x.

    Returns
    -------
    Problem
        With gradients and all products.

    Raises
    ------
    ImportError
        If PyTorch is not installed (extra ``torch``).
    TypeError, ValueError
        If the functions or the start are of the wrong kind.

    Notes
    -----
    The graph of the gradient is made once for each point and serves all products there. What is returned is detached.
    Cost of a product: about three evaluations of f.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> from optlib.bilevel import from_torch, tune
    >>> A, V = torch.randn(2, 20, 5, dtype=torch.float64)  # doctest: +SKIP
    >>> problem = from_torch(
    ...     lambda x, y: 0.5 * torch.sum((A @ y - 1.0) ** 2) + 0.5 * torch.sum(torch.exp(x) * y**2),
    ...     lambda x, y: 0.5 * torch.sum((V @ y - 1.0) ** 2),
    ...     (torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)),
    ...     bounds=(-12.0, 12.0),
    ... )  # doctest: +SKIP
    >>> tune(problem).success  # doctest: +SKIP
    True
    """
    return _TorchProblem(inner, outer, start, bounds)
