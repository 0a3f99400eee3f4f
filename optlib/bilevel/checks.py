"""Checks of a user's problem, and the adapter that makes second-order products from gradients."""

from collections.abc import Callable
from typing import Any

from optlib._core import validation as check
from optlib.backend import Array, array_namespace, linalg, random
from optlib.bilevel.problem import Point, beginning, point, require, vdot


def check_problem(
    problem: Any, x: Array | None = None, y: Array | None = None, *, rtol: float = 1e-5, rng: Any = 0
) -> dict[str, float]:
    """Compare the oracles of a problem with finite differences and with each other.

    Parameters
    ----------
    problem : object
        With the oracles listed in `Problem`; those that it lacks are not checked.
    x, y : array, optional
        Where to check; by default at a random point near ``problem.start()``.
    rtol : float
        Largest relative error that passes. Central differences in float64 are good to about 1e-8.
    rng : seed or Generator
        Of the directions.

    Returns
    -------
    dict
        Relative error of each check, by name.

    Raises
    ------
    AssertionError
        Naming the first oracle whose error is above ``rtol``.

    Examples
    --------
    >>> from optlib.bilevel import QuadraticProblem, check_problem
    >>> errors = check_problem(QuadraticProblem.random(5, 3, rng=0))
    >>> max(errors.values()) < 1e-6
    True
    """
    require(problem, ("inner", "outer", "start"), "check_problem")
    rtol, rng = check.scalar("rtol", rtol, low=0.0), random.as_generator(rng)
    origin = beginning(problem)
    xp, device, _ = check.common(x=x, y=y, start=origin[0])
    x, y = (
        u + 0.1 * random.normal(rng, u.shape, like=u)
        if given is None
        else check.array(name, given, xp=xp, shape=tuple(u.shape), dtype=u.dtype, device=device)
        for name, given, u in (("x", x, origin[0]), ("y", y, origin[1]))
    )
    u, v, w = (random.normal(rng, s.shape, like=s) for s in (x, y, y))
    h = float(xp.finfo(y.dtype).eps) ** (1 / 3)
    hx, hy = (h * max(1.0, float(linalg.norm(s, xp=xp))) / float(linalg.norm(t, xp=xp)) for s, t in ((x, u), (y, v)))
    errors: dict[str, float] = {}

    def compare(name: str, found: Array, wanted: Array) -> None:
        scale = float(linalg.norm(wanted, xp=xp)) + float(linalg.norm(found, xp=xp))
        errors[name] = 2.0 * float(linalg.norm(found - wanted, xp=xp)) / scale if scale > 0 else 0.0
        assert errors[name] <= rtol, f"{name}: relative error {errors[name]:.1e} against finite differences"

    symmetric = getattr(problem, "symmetric", True)
    for name in ("inner", "outer") if symmetric else ("outer",):  # an equilibrium has no objective
        oracle = getattr(problem, name)
        _, grad_x, grad_y = oracle(x, y)
        compare(
            f"{name}: grad_x", vdot(grad_x, u, xp=xp), (oracle(x + hx * u, y)[0] - oracle(x - hx * u, y)[0]) / (2 * hx)
        )
        compare(
            f"{name}: grad_y", vdot(grad_y, v, xp=xp), (oracle(x, y + hy * v)[0] - oracle(x, y - hy * v)[0]) / (2 * hy)
        )
    products = point(problem, x, y)
    differences = _Differences(problem)
    if products.hvp is not None:
        compare("hvp", products.hvp(v), differences.hvp(x, y, v))
        if symmetric:
            compare("hvp: symmetry", vdot(w, products.hvp(v), xp=xp), vdot(v, products.hvp(w), xp=xp))
        else:
            compare("hvp_t", vdot(w, products.hvp(v), xp=xp), vdot(v, problem.hvp_t(x, y, w), xp=xp))
    if products.cross_vjp is not None and symmetric:
        compare("cross_vjp", products.cross_vjp(v), differences.cross_vjp(x, y, v))
    if products.cross_jvp is not None:
        compare("cross_jvp", products.cross_jvp(u), differences.cross_jvp(x, y, u))
        if products.cross_vjp is not None:
            compare("cross_jvp: adjoint", vdot(products.cross_jvp(u), v, xp=xp), vdot(products.cross_vjp(v), u, xp=xp))
    if callable(getattr(problem, "constraints", None)):
        here = problem.constraints(x, y)
        lam = random.normal(rng, here.value.shape, like=here.value)
        for name, move, h in (("vjp_x", (hx * u, 0.0 * y), hx), ("vjp_y", (0.0 * x, hy * v), hy)):
            sides = [problem.constraints(x + s * move[0], y + s * move[1]).value for s in (1.0, -1.0)]
            found = vdot(getattr(here, name)(lam), u if name == "vjp_x" else v, xp=xp)
            compare(f"constraints: {name}", found, vdot(lam, sides[0] - sides[1], xp=xp) / (2.0 * h))
    for name in ("hvp_outer", "cross_outer"):
        if callable(getattr(problem, name, None)):
            compare(name, getattr(problem, name)(x, y, v), getattr(differences, name)(x, y, v))
    if products.inner is not None:
        for name, mine, plain in zip(("value", "grad_x", "grad_y"), products.inner(), problem.inner(x, y), strict=True):
            compare(f"inner at a point: {name}", mine, plain)
    if products.diagonal is not None and (diagonal := products.diagonal()) is not None:
        flat = xp.reshape(xp.zeros_like(v), (-1,))
        flat = xp.where(
            xp.arange(flat.shape[0], device=flat.device) == int(rng.integers(flat.shape[0])), 1.0 + flat, flat
        )
        unit = xp.reshape(flat, v.shape)
        compare("diagonal", vdot(unit, diagonal, xp=xp), vdot(unit, products.hvp(unit), xp=xp))
    if callable(getattr(problem, "hessian", None)):
        compare("hessian", xp.reshape(problem.hessian(x, y) @ xp.reshape(v, (-1,)), v.shape), products.hvp(v))
    return errors


def finite_differences(problem: Any) -> Any:
    """Give a problem second-order products: central differences of its gradients.

    Asked for by the user, never used silently: a product has a relative error of about 1e-6 in float64, which limits
    the accuracy of hypergradients accordingly.

    Parameters
    ----------
    problem : object
        With ``inner``, ``outer`` and ``start``; everything else that it has stays in force.

    Returns
    -------
    object
        The problem with ``hvp``, ``cross_vjp``, ``cross_jvp``, ``hvp_outer`` and ``cross_outer``, and without
        ``hessian``.

    Raises
    ------
    TypeError
        If the problem has no ``inner`` or ``outer``.
    ValueError
        If its H is not symmetric: the gradients then do not tell the transposed products.

    Notes
    -----
    ``H v ~ (grad_y f(x, y + h v) - grad_y f(x, y - h v)) / 2h`` with ``h = u^(1/3) max(1, |y|) / |v|`` and ``u`` the
    spacing of numbers at 1; the other products alike. Cost: two calls of ``inner`` each.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import QuadraticProblem, finite_differences
    >>> problem = QuadraticProblem.random(5, 3, rng=0)
    >>> x, y = problem.start()
    >>> v = np.ones(5)
    >>> bool(np.allclose(finite_differences(problem).hvp(x, y, v), problem.hvp(x, y, v), rtol=1e-7))
    True
    """
    require(problem, ("inner", "outer"), "finite_differences")
    if not getattr(problem, "symmetric", True):
        raise check.error("problem", "H without symmetry", "an inner problem that is a minimisation", "add the oracles")
    return _Differences(problem)


class _Differences:
    """A problem and differences of its gradients."""

    def __init__(self, problem: Any) -> None:
        self._problem = problem

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "hessian":
            raise AttributeError(name)
        return getattr(self._problem, name)

    def at(self, x: Array, y: Array) -> Point:
        """Products at a point."""
        return Point(
            hvp=lambda v: _difference(y, v, lambda s: self._problem.inner(x, s)[2]),
            cross_vjp=lambda v: _difference(y, v, lambda s: self._problem.inner(x, s)[1]),
            cross_jvp=lambda u: _difference(x, u, lambda s: self._problem.inner(s, y)[2]),
        )

    def hvp(self, x: Array, y: Array, v: Array) -> Array:
        """Product with the inner Hessian."""
        return self.at(x, y).hvp(v)

    def cross_vjp(self, x: Array, y: Array, v: Array) -> Array:
        """Product with the cross derivative."""
        return self.at(x, y).cross_vjp(v)

    def cross_jvp(self, x: Array, y: Array, u: Array) -> Array:
        """Product with the transposed cross derivative."""
        return self.at(x, y).cross_jvp(u)

    def hvp_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with the outer Hessian."""
        return _difference(y, v, lambda s: self._problem.outer(x, s)[2])

    def cross_outer(self, x: Array, y: Array, v: Array) -> Array:
        """Product with the outer cross derivative."""
        return _difference(y, v, lambda s: self._problem.outer(x, s)[1])


def _difference(base: Array, v: Array, gradient: Callable[[Array], Array]) -> Array:
    """Derivative of a gradient along v."""
    xp = array_namespace(base)
    size = float(linalg.norm(v, xp=xp))
    if size == 0.0:
        return 0.0 * gradient(base)
    h = float(xp.finfo(base.dtype).eps) ** (1 / 3) * max(1.0, float(linalg.norm(base, xp=xp))) / size
    return (gradient(base + h * v) - gradient(base - h * v)) / (2.0 * h)
