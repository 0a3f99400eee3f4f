"""Families of maps for `MongeMap`: linear in their parameters, or modules of a library that differentiates."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, asarray_like, device_of, is_numpy, is_torch, linalg, to_numpy
from optlib.backend.random import as_generator

Pullback = Callable[[Array], Array]


class FourierMap:
    r"""Affine maps plus random Fourier features: ``T(x) = A x + b + W phi(x)``.

    ``phi_k(x) = sqrt(2 / K) cos(<w_k, x> + s_k)`` with ``w_k`` normal, scaled by ``1 / bandwidth``, and ``s_k``
    uniform: sums of K features approximate smooth displacements.

    Parameters
    ----------
    features : int
        Number K of features; 0 gives the affine maps.
    bandwidth : float, optional
        Distance over which displacements vary; by default the root mean square distance of the points from their mean.
    ridge : float
        Weight >= 0 of the squared entries of ``W`` in the objective, in units that make 1 large.

    References
    ----------
    A. Rahimi, B. Recht, Random features for large-scale kernel machines, NIPS 2007.
    """

    def __init__(self, features: int = 100, *, bandwidth: float | None = None, ridge: float = 1e-3) -> None:
        self.features = check.scalar("features", features, low=0, integer=True)
        self.bandwidth = None if bandwidth is None else check.scalar("bandwidth", bandwidth, low=0.0, low_open=True)
        self.ridge = check.scalar("ridge", ridge, low=0.0)

    def bind(self, x: Array, unit: float, rng: Any = None) -> "LinearMaps":
        """Choose features and coordinates for given points.

        Parameters
        ----------
        x : array, shape (n, d)
            The sources.
        unit : float
            Size of the objective.
        rng : seed or Generator, optional
            Of the features.

        Returns
        -------
        LinearMaps
            With ``start``, ``vjp`` and ``penalty``.
        """
        xp, rng, d = array_namespace(x), as_generator(rng), x.shape[1]
        centre = xp.mean(x, axis=0)
        spread = xp.sqrt(xp.mean((x - centre) ** 2, axis=0))
        size = float(xp.sqrt(xp.sum(spread * spread))) or 1.0
        spread = xp.where(spread > 0, spread, xp.full_like(spread, size))
        frequencies = asarray_like(rng.standard_normal((d, self.features)) / (self.bandwidth or size), x)
        phases = asarray_like(rng.uniform(0.0, 2.0 * np.pi, self.features), x)
        return LinearMaps(x, centre, spread, frequencies, phases, self.ridge * unit / size**2)

    def __repr__(self) -> str:
        return f"FourierMap({self.features})"


class LinearMaps:
    """Maps ``T(x) = B(x) theta`` with features ``B`` that are orthonormal on the points of the fit.

    The features are 1, the coordinates and the Fourier features, multiplied by the inverse of the triangular factor of
    their Gram matrix: with such coordinates the shape of the cloud does not matter to the descent.

    Parameters
    ----------
    x : array, shape (n, d)
        Points of the fit.
    centre, spread : array, shape (d,)
        Shift and scale of the coordinates.
    frequencies, phases : array, shapes (d, K) and (K,)
        Of the Fourier features.
    ridge : float
        Weight of the squared coefficients of the Fourier features.
    """

    def __init__(self, x: Array, centre: Array, spread: Array, frequencies: Array, phases: Array, ridge: float) -> None:
        self.centre, self.spread, self.frequencies, self.phases, self.ridge = centre, spread, frequencies, phases, ridge
        xp = array_namespace(x)
        raw = self._raw(x)
        gram = raw.T @ raw / x.shape[0]
        size, small = raw.shape[1], 1e-6 if xp.finfo(x.dtype).bits == 64 else 1e-4
        gram = gram + small * xp.eye(size, dtype=x.dtype, device=device_of(x))
        self.factor = linalg.cholesky(gram, xp=xp)
        d = x.shape[1]
        self.start = self.parameters(xp.eye(d, dtype=x.dtype, device=device_of(x)), xp.zeros_like(centre))

    def _raw(self, x: Array) -> Array:
        xp = array_namespace(x)
        ones = xp.ones((x.shape[0], 1), dtype=x.dtype, device=device_of(x))
        waves = xp.cos(x @ self.frequencies + self.phases) * (2.0 / max(self.phases.shape[0], 1)) ** 0.5
        return xp.concat([ones, (x - self.centre) / self.spread, waves], axis=1)

    def vjp(self, theta: Array, x: Array) -> tuple[Array, Pullback]:
        """The images, and the function that turns derivatives in them into derivatives in the parameters.

        Parameters
        ----------
        theta : array, shape (p,)
            Parameters.
        x : array, shape (n, d)
            Points.

        Returns
        -------
        y : array, shape (n, d)
            ``T(x)``.
        pull : callable
            From (n, d) to (p,).
        """
        xp = array_namespace(theta)
        basis = linalg.solve_triangular(self.factor, self._raw(x).T, lower=True, xp=xp).T
        images = basis @ xp.reshape(theta, (basis.shape[1], x.shape[1]))
        return images, lambda dy: xp.reshape(basis.T @ dy, (-1,))

    def penalty(self, theta: Array) -> tuple[Any, Any]:
        """Value and gradient of the ridge penalty.

        Parameters
        ----------
        theta : array, shape (p,)
            Parameters.

        Returns
        -------
        value, gradient : array
            Zeros without Fourier features.
        """
        waves = self.phases.shape[0]
        if not waves or not self.ridge:
            return 0.0, 0.0
        xp = array_namespace(theta)
        coefficients = self.coefficients(theta)
        kept = xp.concat([xp.zeros_like(coefficients[:-waves, :]), coefficients[-waves:, :]])
        back = linalg.solve_triangular(self.factor, kept, lower=True, xp=xp)
        return self.ridge * xp.sum(kept * kept), (2.0 * self.ridge) * xp.reshape(back, (-1,))

    def parameters(self, matrix: Array, vector: Array) -> Array:
        """Parameters of an affine map."""
        xp = array_namespace(matrix)
        d, size = matrix.shape[0], self.factor.shape[0]
        rest = xp.zeros((size - 1 - d, d), dtype=matrix.dtype, device=device_of(matrix))
        rows = [(vector + matrix @ self.centre)[None, :], self.spread[:, None] * matrix.T, rest]
        return xp.reshape(self.factor.T @ xp.concat(rows), (-1,))

    def coefficients(self, theta: Array) -> Array:
        """Coefficients of 1, the scaled coordinates and the Fourier features, shape (1 + d + K, d)."""
        xp = array_namespace(theta)
        size = self.factor.shape[0]
        return linalg.solve_triangular(self.factor, xp.reshape(theta, (size, -1)), lower=True, trans=True, xp=xp)

    def affine(self, theta: Array) -> tuple[Array, Array]:
        """The matrix ``A`` and the vector ``b`` of the affine part."""
        d = self.centre.shape[0]
        coefficients = self.coefficients(theta)
        matrix = coefficients[1 : d + 1, :].T / self.spread
        return matrix, coefficients[0, :] - matrix @ self.centre


class TorchMap:
    """A PyTorch module from (n, d) to (n, d): its own derivatives are used, its parameters are set by the fit.

    Parameters
    ----------
    module : torch.nn.Module
        On the device and of the dtype of the points.
    """

    def __init__(self, module: Any) -> None:
        if not callable(getattr(module, "named_parameters", None)):
            raise check.error("module", type(module).__name__, "a torch.nn.Module", kind=TypeError)
        self.module = module

    def bind(self, x: Array, unit: float, rng: Any = None) -> "TorchMap":
        """Check the points and take the parameters of the module as the start; see `FourierMap.bind`."""
        if not is_torch(array_namespace(x)):
            raise check.error("x", type(x).__name__, "tensors for a PyTorch module", "torch.as_tensor(x)", TypeError)
        import torch

        self.shapes = {name: tuple(p.shape) for name, p in self.module.named_parameters() if p.requires_grad}
        trained = [p for p in self.module.parameters() if p.requires_grad]
        if not trained or any(p.dtype != x.dtype or p.device != x.device for p in trained):
            got = ", ".join(sorted({f"{p.dtype} on {p.device}" for p in trained})) or "no parameters"
            raise check.error("module", got, f"parameters {x.dtype} on {x.device}", "module.to(x)", TypeError)
        self.start = torch.nn.utils.parameters_to_vector(trained).detach().clone()
        return self

    def vjp(self, theta: Array, x: Array) -> tuple[Array, Pullback]:
        """See `LinearMaps.vjp`."""
        import torch

        with torch.enable_grad():
            leaf = theta.detach().requires_grad_(True)
            sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
            parts = zip(self.shapes, torch.split(leaf, sizes), strict=True)
            y = torch.func.functional_call(self.module, {k: v.reshape(self.shapes[k]) for k, v in parts}, (x,))
        return y.detach(), lambda dy: torch.autograd.grad(y, leaf, dy)[0]

    def penalty(self, theta: Array) -> tuple[Any, Any]:
        """None: what a module should be punished for is its owner's business."""
        del theta
        return 0.0, 0.0

    def keep(self, theta: Array) -> None:
        """Write the parameters into the module."""
        import torch

        trained = [p for p in self.module.parameters() if p.requires_grad]
        torch.nn.utils.vector_to_parameters(theta, trained)

    def __repr__(self) -> str:
        return f"TorchMap({type(self.module).__name__})"


class JaxMap:
    """A JAX function ``apply(params, x)`` from (n, d) to (n, d), for points that are NumPy arrays.

    Parameters
    ----------
    apply : callable
        For instance ``model.apply`` of Flax.
    params : pytree
        Parameters to start from; those of the fit are in ``params`` afterwards.
    """

    def __init__(self, apply: Callable[[Any, Any], Any], params: Any) -> None:
        if not callable(apply):
            raise check.error("apply", type(apply).__name__, "a function of parameters and points", kind=TypeError)
        self.apply, self.params = apply, params

    def bind(self, x: Array, unit: float, rng: Any = None) -> "JaxMap":
        """Check the points and take the parameters as the start; see `FourierMap.bind`."""
        if not is_numpy(array_namespace(x)):
            raise check.error("x", type(x).__name__, "NumPy arrays for a JAX function", "numpy.asarray(x)", TypeError)
        from jax.flatten_util import ravel_pytree

        flat, self.unravel = ravel_pytree(self.params)
        self.inner = flat.dtype
        self.start = np.array(flat, dtype=x.dtype)
        return self

    def vjp(self, theta: Array, x: Array) -> tuple[Array, Pullback]:
        """See `LinearMaps.vjp`."""
        import jax

        points = jax.numpy.asarray(x, dtype=self.inner)
        y, pull = jax.vjp(lambda v: self.apply(self.unravel(v), points), jax.numpy.asarray(theta, dtype=self.inner))
        return np.array(y, dtype=x.dtype), lambda dy: np.array(
            pull(jax.numpy.asarray(dy, dtype=y.dtype))[0], dtype=x.dtype
        )

    def penalty(self, theta: Array) -> tuple[Any, Any]:
        """None: what a network should be punished for is its owner's business."""
        del theta
        return 0.0, 0.0

    def keep(self, theta: Array) -> None:
        """Put the parameters into ``params``."""
        import jax

        self.params = self.unravel(jax.numpy.asarray(to_numpy(theta), dtype=self.inner))

    def __repr__(self) -> str:
        return f"JaxMap({getattr(self.apply, '__name__', type(self.apply).__name__)})"


def as_map(model: Any) -> Any:
    """Turn the argument ``model`` of `MongeMap` into a family of maps."""
    if isinstance(model, str):
        check.option("model", model, ("affine", "fourier"))
        return FourierMap(0 if model == "affine" else 100)
    if isinstance(model, (FourierMap, TorchMap, JaxMap)):
        return model
    if callable(getattr(model, "named_parameters", None)):
        return TorchMap(model)
    expected = "'affine', 'fourier', a FourierMap, a torch module or a JaxMap"
    raise check.error("model", type(model).__name__, expected, kind=TypeError)
