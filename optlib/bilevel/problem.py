"""What a bilevel problem is to the solvers: an object with oracles, and what of them a method needs.

The outer variable ``x`` holds hyperparameters, the inner one ``y`` model parameters; both are arrays of any shape.
With ``y*(x)`` a minimiser of ``f(x, .)`` the problem is to minimise ``Phi(x) = F(x, y*(x))``.

Signs, once and for all: ``H = grad_yy f``; ``C = grad_xy f``, so that ``C v`` has the shape of x (``cross_vjp``) and
``C' u`` that of y (``cross_jvp``); the adjoint ``q`` solves ``H q = grad_y F``; the hypergradient is
``grad Phi = grad_x F - C q``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import array_api_compat as compat
import numpy as np

from optlib._core import HaltError, Status
from optlib._core import validation as check
from optlib.backend import Array, Portable, to_numpy


class Point(NamedTuple):
    """The inner problem at one point ``(x, y)``: products that share what they have in common.

    Attributes
    ----------
    hvp : callable or None
        ``v -> H v``, of the shape of y.
    cross_vjp : callable or None
        ``v -> C v``, of the shape of x.
    cross_jvp : callable or None
        ``u -> C' u``, of the shape of y.
    active : array or None
        Where the solution moves with x, if not everywhere: the coefficients that a penalty with kinks leaves. The
        products are zero elsewhere.
    inner : callable or None
        ``() -> value, grad_x, grad_y`` of f, where it shares work with the products.
    diagonal : callable or None
        ``() -> diagonal of H``, of the shape of y, where it is cheap: a preconditioner.
    """

    hvp: Callable[[Array], Array] | None = None
    cross_vjp: Callable[[Array], Array] | None = None
    cross_jvp: Callable[[Array], Array] | None = None
    active: Array | None = None
    inner: Callable[[], tuple[Array, Array, Array]] | None = None
    diagonal: Callable[[], Array] | None = None


PRODUCTS = ("hvp", "cross_vjp", "cross_jvp")


class Constants(NamedTuple):
    """Constants of a problem at a point, for error bounds: norm of C, and Lipschitz constants in y.

    Attributes
    ----------
    cross : float
        Norm of C.
    hessian, cross_change, outer_y, outer_x : float
        Lipschitz constants of H, C, ``grad_y F`` and ``grad_x F``.
    """

    cross: float
    hessian: float
    cross_change: float
    outer_y: float
    outer_x: float = 0.0


class Constraints(NamedTuple):
    """Constraints of the inner problem at a point ``(x, y)``.

    Attributes
    ----------
    value : array, shape (m,)
        The functions ``g(x, y)``: at most zero, or zero for equalities.
    vjp_x, vjp_y : callable
        ``lam -> grad_x <lam, g>`` and ``lam -> grad_y <lam, g>``, of the shapes of x and y.
    """

    value: Array
    vjp_x: Callable[[Array], Array]
    vjp_y: Callable[[Array], Array]


class Problem(Portable):
    """Base of the bilevel problems, and the list of the oracles that an own problem may have.

    An own problem need not be derived from this class: any object with ``inner``, ``outer`` and a ``start`` will do,
    and with the other oracles where a method asks for them (`require` names what is missing, and the methods that do
    without).

    Attributes
    ----------
    symmetric : bool
        Whether H is symmetric, as it is for a minimiser; False for equilibria, where ``inner`` gives a map that
        vanishes at the answer in the place of ``grad_y f``, H is its derivative, and there is also ``hvp_t``.
    blocks : sequence of objects, optional
        If the inner problem is a sum of independent ones, which share x: those problems; ``y[k]`` belongs to the k-th,
        and they are solved one by one.
    smooth : bool
        Whether Phi is differentiable everywhere; not so where penalties have kinks.
    equality : bool or boolean array, shape (m,)
        Which of the ``constraints`` are equalities.
    n_inner, n_outer : int or None
        Numbers of terms, if f and F are sums over samples. Then ``inner``, ``outer``, ``at`` (or the products) also
        take ``idx``, an array of sample numbers, and estimate the whole sum by these samples.

    Notes
    -----
    Oracles:

    ``inner(x, y) -> value, grad_x, grad_y`` and ``outer(x, y) -> value, grad_x, grad_y``
        First order; the value is a 0-d array.
    ``hvp(x, y, v)``, ``cross_vjp(x, y, v)``, ``cross_jvp(x, y, u)``
        Products of second order. A problem may instead have ``at(x, y) -> Point``, whose products share work, with each
        other and with ``inner``.
    ``hvp_t(x, y, v)``
        Product with the transpose of H, where it is not symmetric.
    ``hvp_outer(x, y, v)``, ``cross_outer(x, y, v)``
        The products of the outer objective, ``grad_yy F v`` and ``grad_xy F v``, for methods that descend on a mixture
        of both objectives.
    ``directions(x, y, q, idx=None) -> grad_y, hq, cq``
        ``grad_y f`` and both products with q in one pass over the samples, for the methods that work on batches.
    ``constraints(x, y) -> Constraints``
        Constraints of the inner problem that depend on x, convex in y; only `lv_hba` heeds them.
    ``project_joint(x, y) -> x, y``, ``project_y(y) -> y``
        The nearest point of all sets: the constraints, that of x and that of y; and that of y alone, if there is one.
        `optlib.geometry.AffineProjection` and `optlib.geometry.project_intersection` help.
    ``start() -> x, y``
        Where to begin.
    ``solve_inner(x, y, tol) -> y, counts``
        Own solver: the norm of ``grad_y f`` at most ``tol``.
    ``solve_adjoint(x, y, rhs) -> q``
        Own solver of ``H q = rhs``: by a factor at hand, or on the active set where f has kinks.
    ``hessian(x, y) -> array (d, d)``
        The matrix H for the flattened y, where that is cheap.
    ``preconditioner(x) -> optlib.inner.Preconditioner or None``
        An approximate inverse of H at x, made from an array that serves at other points, too; for more than 100
        variables. By default a Cholesky factor of ``hessian``, for up to 1000, or the diagonal.
    ``mu(x)``, ``lipschitz(x)``, ``lipschitz_outer(x)`` -> float or None
        Least and largest curvature of ``f(x, .)``; largest curvature of ``F(x, .)``. For an equilibrium,
        ``1 / lipschitz(x)`` is a step with which ``y - step grad_y`` contracts.
    ``constants(x, y) -> Constants``
        What the error bound of a hypergradient needs besides ``mu``.
    ``regression() -> A, t``
        Design and targets of a linear least-squares problem, dense, for methods in closed form.
    ``likelihood(y) -> value, grad, weight``
        Mean negative log likelihood of the ``n_train`` training samples, its gradient, and its weight in f.
    ``bounds() -> low, high``
        Box for x: floats or arrays.
    ``tied() -> problem``, ``untie(x) -> x``
        The same problem with fewer hyperparameters, which `tune` solves first, and the start that its answer is; by
        default an answer of one number is added to all entries of the start.
    """

    symmetric = True
    smooth = True
    equality: Any = False
    n_inner: int | None = None
    n_outer: int | None = None

    def hvp(self, x: Array, y: Array, v: Array) -> Array:
        """Product ``H v``."""
        return self.at(x, y).hvp(v)

    def cross_vjp(self, x: Array, y: Array, v: Array) -> Array:
        """Product ``C v``, of the shape of x."""
        return self.at(x, y).cross_vjp(v)

    def cross_jvp(self, x: Array, y: Array, u: Array) -> Array:
        """Product ``C' u``, of the shape of y."""
        return self.at(x, y).cross_jvp(u)

    def bounds(self) -> tuple[Any, Any]:
        """Box of the hyperparameters; by default all numbers."""
        return -float("inf"), float("inf")


# what does without an oracle, for the message
FIRST_ORDER = (
    '`penalty`, `f2sa`, `self_tuning` or mode="penalty", or `finite_differences(problem)` for products by differences'
)
INSTEAD = {
    "hvp": FIRST_ORDER,
    "cross_vjp": FIRST_ORDER,
    "cross_jvp": 'a mode that needs no forward products: "cg", "reverse"',
    "hvp_t": 'mode="forward", which needs products with H only',
    "piece": 'a method for any loss of one hyperparameter: "scalar"',
    "solve_adjoint": 'mode="cg", which needs products only',
    "hessian": 'mode="cg", which needs products only',
    "constants": 'certified=False, or methods that need none: "hoag"',
    "hvp_outer": "`finite_differences(problem)` for products by differences of gradients",
    "cross_outer": "`finite_differences(problem)` for products by differences of gradients",
    "constraints": "other methods, which are for inner problems without constraints: `tune` chooses",
    "project_joint": "`optlib.geometry.AffineProjection` or `optlib.geometry.project_intersection` to write it",
    "mu": 'methods that need no constants: "hoag"',
}


def point(problem: Any, x: Array, y: Array) -> Point:
    """Products of the inner problem at a point, sharing work where the problem can."""
    if (at := getattr(problem, "at", None)) is not None:
        return at(x, y)
    found = {}
    for name in PRODUCTS:
        if (oracle := getattr(problem, name, None)) is not None:
            found[name] = lambda v, oracle=oracle: oracle(x, y, v)
    return Point(**found)


def directions(problem: Any, x: Array, y: Array, q: Array, idx: Array | None) -> tuple[Array, Array, Array]:
    """``grad_y f``, ``H q`` and ``C q``, on all samples or on some; in one pass where the problem has it."""
    if (own := getattr(problem, "directions", None)) is not None:
        return own(x, y, q, idx)
    more = () if idx is None else (idx,)
    if (at := getattr(problem, "at", None)) is not None:
        products = at(x, y, *more)
        inner = problem.inner(x, y, *more) if products.inner is None else products.inner()
        return inner[2], products.hvp(q), products.cross_vjp(q)
    return problem.inner(x, y, *more)[2], problem.hvp(x, y, q, *more), problem.cross_vjp(x, y, q, *more)


def beginning(problem: Any) -> tuple[Array, Array]:
    """What ``start`` returned, if it is a pair of floating arrays of one library.

    Raises
    ------
    TypeError
        If it is something else.
    """
    found = problem.start()
    if not (isinstance(found, (tuple, list)) and len(found) == 2):
        raise check.error("problem", f"{type(found).__name__} from `start`", "a pair x, y of arrays", kind=TypeError)
    for name, u in zip("xy", found, strict=True):
        if not compat.is_array_api_obj(u):
            got = f"{type(u).__name__} from `start` as {name}"
            raise check.error("problem", got, "an array", "see `check_problem`", TypeError)
        xp = compat.array_namespace(u)
        if not xp.isdtype(u.dtype, "real floating"):
            raise check.error("problem", f"{u.dtype} from `start` as {name}", "floating numbers", kind=TypeError)
    check.common(**{"start: x": found[0], "start: y": found[1]})
    return found[0], found[1]


def require(problem: Any, oracles: Sequence[str], method: str) -> None:
    """Check that a problem has what a method needs.

    Raises
    ------
    TypeError
        Naming the first oracle that is missing, and what does without it.
    """
    for name in oracles:
        if callable(getattr(problem, name, None)) or (name in PRODUCTS and hasattr(problem, "at")):
            continue
        raise check.error(
            "problem",
            f"{type(problem).__name__} without the oracle `{name}`",
            f"an object with `{name}`, which {method} needs",
            f"add it, or use {INSTEAD[name]}" if name in INSTEAD else "add it",
            TypeError,
        )


def unconstrained(problem: Any, method: str) -> None:
    """Check that the inner problem has no constraints.

    Raises
    ------
    TypeError
        If it has: its solution is not where the gradient of f vanishes.
    """
    if callable(getattr(problem, "constraints", None)):
        raise check.error(
            "problem", f"{type(problem).__name__} with inner `constraints`", f"none, for {method}",
            'use method="lv_hba"', TypeError,
        )  # fmt: skip


def answer(name: str, found: Any, like: Array) -> Array:
    """What an oracle returned, if it is an array of the library and shape of its variable.

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    return check.array_from("problem", f"`{name}`", found, like, "see `check_problem`")


def answers(name: str, found: Any, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """What ``inner`` or ``outer`` returned, if it is a value and gradients of the shapes of x and y.

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    if not (isinstance(found, (tuple, list)) and len(found) == 3):
        raise check.error("problem", f"{type(found).__name__} from `{name}`", "value, grad_x, grad_y", kind=TypeError)
    value, grad_x, grad_y = found
    value = check.number_from("problem", f"`{name}`", value)
    return value, answer(f"{name}: grad_x", grad_x, x), answer(f"{name}: grad_y", grad_y, y)


def halt(got: str, expected: str, status: Status, x: Array, y: Array) -> HaltError:
    """The error of a problem at a point, which it keeps."""
    at = np.array2string(to_numpy(x).ravel()[:5], precision=4)
    return HaltError(str(check.error("problem", f"{got}, at x = {at}", expected)), status, x=x, y=y)


def add_counts(total: dict[str, int], more: Mapping[str, int]) -> None:
    """Add the calls of oracles to those counted so far."""
    for name, n in more.items():
        total[name] = total.get(name, 0) + n


def vdot(u: Array, v: Array, *, xp: Any) -> Array:
    """Inner product over all axes."""
    return xp.sum(u * v)
