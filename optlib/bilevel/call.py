"""One evaluation of a hypergradient: the inner solution, the adjoint system, and what is known of their errors."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optlib._core import Status, settle
from optlib._core import validation as check
from optlib.backend import Array, linalg
from optlib.bilevel.problem import Constants, Point, add_counts, answer, answers, halt, point, require, vdot
from optlib.inner import accelerated_gradient, lbfgs
from optlib.inner.newton import Preconditioner, begin, cholesky, factored, newton_steps
from optlib.inner.newton import solve as solve_newton
from optlib.linop import gmres, minres

MODES = (
    "auto",
    "active_set",
    "cg",
    "minres",
    "gmres",
    "direct",
    "neumann",
    "fixed_point",
    "reverse",
    "forward",
    "penalty",
)
SYMMETRIC = ("cg", "minres", "direct", "penalty")  # modes that need it
INNER = ("auto", "newton", "lbfgs", "accelerated_gradient")
DIRECT = 100  # inner variables up to which each linear system has a factor of its own
FACTOR = 1000  # up to which a factor of an earlier point is the preconditioner
SHIFTED = 1e-4  # relative change of a matrix that shows that its Cholesky factor is one of another matrix
ROUNDING = 100.0  # units of rounding of the largest curvature below which a curvature counts as zero
UNSOLVED = 1e-2  # relative residual of an adjoint system that counts as not solved at all
FAR = 1e100  # entries of y that no minimiser has
NOT_CONVEX = "an inner problem that is not convex"
MANY = (
    "an inner problem with many minimisers: its Hessian is singular, and the outer objective falls along a direction "
    'in which the inner one is flat. The methods "bda" and "bamm", and mode="penalty", choose among them'
)


@dataclass
class HyperResult:
    """What `hypergradient` returns.

    Attributes
    ----------
    value : float
        ``Phi(x)``, corrected to second order in the implicit modes (unless the adjoint system has no solution).
    gradient : array
        ``grad Phi(x)``, of the shape of x.
    y, q : array
        Inner solution and adjoint, to start the next call from (q is None for the modes without).
    error_bound : float or None
        Bound of the norm of the error of ``gradient``, proven; None where the constants are unknown.
    correction : float
        ``|<q, g>|``: about the error of ``F(x, y)``, which ``value`` has removed.
    residual : (float, float)
        Norms of ``grad_y f`` and of ``H q - grad_y F``.
    counts : dict
        Calls of the oracles: "gradients", "products", "outer".
    mode : str
        The mode that ran.
    converged : bool
        Whether the inner and the adjoint system were solved to their tolerances.
    message : str
        Which assumption on the inner problem fails at x, and which methods do without it; empty if none was seen to.
    factor : array or None
        What helps to solve systems with H, made at or near the solution, for the next call: a Cholesky factor, or the
        array of the problem's `preconditioner`.
    """

    value: float
    gradient: Array
    y: Array
    q: Array | None
    error_bound: float | None
    correction: float
    residual: tuple[float, float]
    counts: dict[str, int] = field(default_factory=dict)
    mode: str = ""
    converged: bool = True
    factor: Array | None = None
    message: str = ""


def choose(problem: Any, y: Array) -> str:
    """The mode that "auto" stands for."""
    if not getattr(problem, "symmetric", True):
        return "gmres"
    if blocks := getattr(problem, "blocks", None):
        return choose(blocks[0], y[0, ...])
    if callable(getattr(problem, "solve_adjoint", None)):
        return "active_set"
    products = callable(getattr(problem, "at", None)) or callable(getattr(problem, "hvp", None))
    size = math.prod(y.shape)
    if products and callable(getattr(problem, "hessian", None)) and size <= DIRECT:
        return "direct"
    return "cg" if products else "penalty"


def fitting(problem: Any, mode: str) -> None:
    """Refuse modes that need symmetry for a problem without."""
    if not getattr(problem, "symmetric", True) and mode in SYMMETRIC:
        known = tuple(m for m in MODES if m not in SYMMETRIC)
        raise check.error("mode", mode, f"one of {known}, as H is not symmetric", 'use mode="gmres"')


class Call:
    """One evaluation: the problem at x, tolerances, and the count of the oracles.

    What was computed at the last y is kept, so that value, gradient and products share it.
    """

    def __init__(
        self, problem: Any, x: Array, xp: Any, tol: float, adjoint_tol: float, steps: int = 100, truncate: int = 100,
        step: float | None = None, maxiter: int = 1000, scale: float | None = None,
        factor: Array | None = None, inner: str = "auto", recompute: bool = False,
    ) -> None:  # fmt: skip
        self.problem, self.x, self.xp, self.tol, self.adjoint_tol = problem, x, xp, tol, adjoint_tol
        self.steps, self.truncate, self.maxiter, self.scale = steps, truncate, maxiter, scale
        self.factor, self.solver, self.recompute = factor, inner, recompute
        self.given_step = None if step is None else check.scalar("step", step, low=0.0, low_open=True)
        self.counts = {"gradients": 0, "products": 0, "outer": 0}
        self.blocks = [
            Call(block, x, xp, tol, adjoint_tol, steps, truncate, step, maxiter, inner=inner, recompute=recompute)
            for block in getattr(problem, "blocks", None) or ()
        ]
        self._point: tuple[Array, Point] | None = None
        self._preconditioner: Preconditioner | None = None
        self.whole = False  # whether systems have a factor of the whole matrix
        self._inner: tuple[Array, tuple[Array, Array, Array]] | None = None

    # -- oracles, counted --

    def inner(self, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        if self._inner is None or self._inner[0] is not y:
            self.counts["gradients"] += 1
            shared = self.at(y).inner if hasattr(self.problem, "at") else None
            found = self.problem.inner(self.x, y) if shared is None else shared()
            self._inner = y, answers("inner", found, self.x, y)
        return self._inner[1]

    def outer(self, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        self.counts["outer"] += 1
        return answers("outer", self.problem.outer(self.x, y), self.x, y)

    def at(self, y: Array) -> Point:
        """Products at y, counted."""
        if self._point is None or self._point[0] is not y:
            products = point(self.problem, self.x, y)

            def hvp(v: Array) -> Array:
                self.counts["products"] += 1
                return answer("hvp", products.hvp(v), y)

            def cross_vjp(v: Array) -> Array:
                return answer("cross_vjp", products.cross_vjp(v), self.x)

            self._point = y, products._replace(hvp=hvp, cross_vjp=cross_vjp)
        return self._point[1]

    def dense(self, size: int) -> bool:
        """Whether the Hessian may be formed."""
        return size <= FACTOR and callable(getattr(self.problem, "hessian", None))

    def preconditioner(self, size: int) -> Preconditioner | None:
        """That of the problem, or a Cholesky factor of H where that may be formed."""
        if self._preconditioner is None:
            own = getattr(self.problem, "preconditioner", None)
            found = own(self.x) if callable(own) and not self.whole else None
            if found is None and (self.whole or self.dense(size)):
                found = factored(lambda y: self.problem.hessian(self.x, y), size, xp=self.xp)
            self._preconditioner = found
        return self._preconditioner

    def diagonal(self, y: Array) -> Array | None:
        """Diagonal of H, where it is known."""
        found = self.at(y).diagonal
        return None if found is None else found()

    def transposed(self, y: Array, products: Point) -> Any:
        """Product with the transpose of H, counted: that with H where it is symmetric."""
        if getattr(self.problem, "symmetric", True):
            return products.hvp
        require(self.problem, ("hvp_t",), "an inner problem that is not symmetric")

        def hvp_t(v: Array) -> Array:
            self.counts["products"] += 1
            return self.problem.hvp_t(self.x, y, v)

        return hvp_t

    def norm(self, u: Array) -> float:
        """Euclidean norm on the host."""
        return float(linalg.norm(u, xp=self.xp))

    def length(self) -> float:
        """Step of the iterations."""
        if self.given_step is not None:
            return self.given_step
        require(self.problem, ("lipschitz",), "a mode that iterates, without `step`,")
        return 1.0 / self.problem.lipschitz(self.x)

    def curvature(self) -> dict[str, Any]:
        """Constants of ``f(x, .)`` for the accelerated gradient method, where the problem knows both."""
        known = [getattr(self.problem, name, None) for name in ("lipschitz", "mu")]
        lipschitz, mu = (None if oracle is None else oracle(self.x) for oracle in known)
        return {"lipschitz": lipschitz, "mu": min(mu, lipschitz), "check_every": 1} if lipschitz and mu else {}

    def reference(self) -> float:
        """Size of the gradients of the inner problem: that at the default start."""
        if self.scale is None:
            self.scale = self.norm(self.inner(self.problem.start()[1])[2])
        return self.scale

    # -- inner solution --

    def solve(self, y: Array, extra: float = 0.0) -> tuple[Array, bool]:
        """Minimise ``f(x, .) + extra F(x, .)`` from y; also whether the tolerance was reached."""
        target, symmetric = self.tol * self.reference(), getattr(self.problem, "symmetric", True)
        if not symmetric:
            require(self.problem, ("solve_inner",), "an inner problem that is not symmetric")

        def fun(y: Array) -> tuple[Array, Array]:
            value, _, grad = self.inner(y)
            if extra:
                more, _, more_grad = self.outer(y)
                value, grad = value + extra * more, grad + extra * more_grad
            return value, grad

        if self.blocks and not extra:  # each as accurate as makes the whole
            found = []
            for k, block in enumerate(self.blocks):
                block.scale, block.tol = self.reference() / len(self.blocks) ** 0.5, self.tol
                block.factor = None if self.factor is None else self.factor[k, ...]
                found.append(block.solve(y[k, ...]))
            self.gather()
            return self.xp.stack([u for u, _ in found]), all(done for _, done in found)
        own = getattr(self.problem, "solve_inner", None)
        if own is not None and (self.solver == "auto" or not symmetric) and not extra:
            y, counts = own(self.x, y, target)
            add_counts(self.counts, counts)
            return y, True
        second = callable(getattr(self.problem, "at", None)) or callable(getattr(self.problem, "hvp", None))
        if self.solver == "accelerated_gradient":
            options = {} if extra else self.curvature()
            found = accelerated_gradient(fun, y, tol=target, maxiter=100 * self.maxiter, record=False, **options)
            return found.x, found.success
        if self.solver == "lbfgs" or extra or not second:
            found = lbfgs(fun, y, tol=target, maxiter=10 * self.maxiter, record=False)
            return found.x, found.success
        size = math.prod(y.shape)
        if self.dense(size) and size <= DIRECT:
            steps = newton_steps(begin(y), fun, None, lambda y: self.problem.hessian(self.x, y), xp=self.xp)
        else:
            steps = newton_steps(
                begin(y, self.factor), fun, lambda y: self.at(y).hvp, None, self.diagonal, self.preconditioner(size),
                xp=self.xp,
            )  # fmt: skip
        state = settle(steps, tol=target, maxiter=self.maxiter).state
        self.factor = state.factor
        return state.x, self.norm(state.grad) <= target

    def gather(self) -> None:
        """Take over the counts and the factors of the blocks."""
        for block in self.blocks:
            add_counts(self.counts, block.counts)
            block.counts = dict.fromkeys(block.counts, 0)
        factors = [block.factor for block in self.blocks]
        self.factor = None if any(L is None for L in factors) else self.xp.stack(factors)

    # -- modes --

    def implicit(self, y: Array, q: Array | None, mode: str) -> HyperResult:
        """Modes that solve the adjoint system."""
        oracles = {
            "active_set": ("solve_inner", "solve_adjoint", "cross_vjp"),
            "direct": ("hessian", "cross_vjp"),
            "fixed_point": ("cross_vjp",),
        }.get(mode, ("hvp", "cross_vjp"))
        require(self.blocks[0].problem if self.blocks else self.problem, oracles, f'mode="{mode}"')
        for call in (self, *self.blocks):
            call.whole = mode == "direct"
        y, solved = self.solve(y)
        _, _, g = self.inner(y)
        value, grad_x, grad_y = self.outer(y)
        self.check_finite(y, value, g, grad_y)
        products = self.at(y)
        if products.active is not None:
            grad_y = self.xp.where(products.active, grad_y, self.xp.zeros_like(grad_y))
            q = None if q is None else self.xp.where(products.active, q, self.xp.zeros_like(q))
        product = self.transposed(y, products)
        q, reached, message = self.adjoint(product, grad_y, q, y, mode)
        r, size = self.norm(product(q) - grad_y), self.norm(g)
        gradient = grad_x - products.cross_vjp(q)
        correction = float(vdot(q, g, xp=self.xp))
        return HyperResult(
            value=float(value) - (correction if reached else 0.0), gradient=gradient, y=y, q=q,
            error_bound=self.bound(y, q, size, r), correction=abs(correction), residual=(size, r), counts=self.counts,
            mode=mode, converged=solved and reached, factor=self.factor, message=message,
        )  # fmt: skip

    def adjoint(self, product: Any, rhs: Array, q: Array | None, y: Array, mode: str) -> tuple[Array, bool, str]:
        """Solve ``H' q = grad_y F``; also whether that is solved, and which assumption was seen to fail, in words."""
        if self.blocks:
            parts = []
            for k, block in enumerate(self.blocks):
                block.adjoint_tol = self.adjoint_tol
                at, start = y[k, ...], None if q is None else q[k, ...]
                parts.append(block.adjoint(block.at(at).hvp, rhs[k, ...], start, at, mode))
            self.gather()
            found, reached, messages = zip(*parts, strict=True)
            return self.xp.stack(found), all(reached), next((m for m in messages if m), "")
        with np.errstate(over="ignore", invalid="ignore"):  # without a solution the iterates run off
            found, reached, flat = self._adjoint(product, rhs, q, y, mode)
        if not math.isfinite(self.norm(found)):
            return self.xp.zeros_like(rhs), False, MANY
        unit, size = self.norm(rhs), 0.0 if flat is None else self.norm(flat)
        if flat is None or not unit > 0.0 or not size > 0.0:
            return found, reached, ""
        message = self._diagnose(product, rhs, self.norm(product(found) - rhs) / unit, flat / size, mode)
        if message and q is not None:  # without a solution, each warm start is farther out than the last
            found = self.adjoint(product, rhs, None, y, mode)[0]
        return found, reached and not message, message

    def _diagnose(self, product: Any, rhs: Array, left: float, flat: Array, mode: str) -> str:
        """What a unit vector shows of H, beyond rounding; ``left`` is the relative residual of the adjoint system."""
        image = product(flat)
        top = max(self.norm(product(rhs)) / self.norm(rhs), self.norm(image))
        bend, rounding = float(vdot(flat, image, xp=self.xp)), ROUNDING * float(self.xp.finfo(rhs.dtype).eps)
        if bend < -rounding * top and mode != "minres":
            return (
                f"{NOT_CONVEX}: its Hessian has the curvature {bend:.2g} at the solution found. "
                'mode="reverse" differentiates a number of steps, whatever they end at'
            )
        pull = abs(float(vdot(rhs, flat, xp=self.xp))) / self.norm(rhs)
        if bend <= rounding * top and pull > rounding and left > UNSOLVED:
            return MANY
        return ""

    def _adjoint(
        self, product: Any, rhs: Array, q: Array | None, y: Array, mode: str
    ) -> tuple[Array, bool, Array | None]:
        """The solution, whether it is one, and a direction that may show why not."""
        xp, shape = self.xp, rhs.shape
        if not bool(xp.any(rhs != 0)):  # F does not depend on y
            return rhs, True, None
        if mode == "active_set":
            q = self.problem.solve_adjoint(self.x, y, rhs)
            left = rhs - product(q)
            reached = self.norm(left) <= self.adjoint_tol * self.norm(rhs)
            return q, reached, None if reached else left
        if mode in ("direct", "cg", "minres", "gmres"):
            flat, start = xp.reshape(rhs, (-1,)), None if q is None else xp.reshape(q, (-1,))

            def flattened(v: Array) -> Array:
                return xp.reshape(product(xp.reshape(v, shape)), (-1,))

            if mode in ("minres", "gmres"):
                found = (minres if mode == "minres" else gmres)(
                    flattened, flat, init=start, tol=self.adjoint_tol, maxiter=self.maxiter, record=False
                )
                q = xp.reshape(found.x, shape)
                return q, found.success, rhs - product(q) if mode == "minres" and not found.success else None
            size, shown = math.prod(shape), None
            if mode == "direct" and self.factor is None:
                H = self.problem.hessian(self.x, y)
                self.factor = cholesky(H, xp=xp)
                if not self.norm(self.factor @ self.factor.T - H) <= SHIFTED * self.norm(H):
                    shown = linalg.eigh(H, xp=xp)[1][:, 0]
            preconditioner = self.preconditioner(size) if mode == "direct" or size > DIRECT else None
            if preconditioner is not None and size <= DIRECT:
                preconditioner = preconditioner._replace(patience=self.maxiter)
            solved, factor = solve_newton(
                flattened, flat, start, tol=self.adjoint_tol, maxiter=self.maxiter, at=y, factor=self.factor,
                preconditioner=preconditioner, diagonal=self.diagonal, xp=xp,
            )  # fmt: skip
            self.factor = self.factor if factor is None else factor
            shown = solved.flat if shown is None else shown
            return xp.reshape(solved.x, shape), solved.success, None if shown is None else xp.reshape(shown, shape)
        gamma, target = self.length(), self.adjoint_tol * self.norm(rhs)
        if mode == "neumann":  # gamma sum_k (I - gamma H')^k grad_y F
            term = gamma * rhs
            q = term
            for _ in range(self.steps - 1):
                term = term - gamma * product(term)
                q = q + term
            return q, True, None
        q = xp.zeros_like(rhs) if q is None else q
        for _ in range(100 * self.maxiter):
            r = product(q) - rhs
            if self.norm(r) <= target:
                return q, True, None
            q = q - gamma * r
        return q, False, None

    def penalty(self, y: Array) -> HyperResult:
        """The mode without second-order oracles."""
        y, solved = self.solve(y)
        value, _, grad_y = self.outer(y)
        base = self.inner(y)
        self.check_finite(y, value, base[2], grad_y)
        sigma = self.tol ** (1.0 / 3.0)
        found = [self.penalised(base, y, s) for s in (sigma, 0.5 * sigma)]
        gradient = 2.0 * found[1][1] - found[0][1]  # Richardson: the error is linear in s
        return HyperResult(
            value=float(value), gradient=gradient, y=y, q=None, error_bound=None, correction=0.0,
            residual=(self.norm(base[2]), 0.0), counts=self.counts, mode="penalty",
            converged=solved and max(found[0][3], found[1][3]) <= self.tol * self.reference(),
        )  # fmt: skip

    def penalised(self, base: tuple[Array, Array, Array], y: Array, sigma: float) -> tuple[Array, Array, Array, float]:
        """``psi(x) = (min (f + sigma F) - min f) / sigma``, its gradient, the first minimiser, the gradient left there.

        ``base`` is what ``inner`` returns at the minimiser of f, ``y`` where the search for the other one begins.
        """
        y, _ = self.solve(y, extra=sigma)
        (value, grad_x, grad_y), (outer, outer_x, outer_y) = self.inner(y), self.outer(y)
        left = self.norm(grad_y + sigma * outer_y)
        return outer + (value - base[0]) / sigma, outer_x + (grad_x - base[1]) / sigma, y, left

    # -- what is known of the error --

    def bound(self, y: Array, q: Array, g: float, r: float) -> float | None:
        """Bound of the error of the gradient, from the residuals."""
        if not callable(getattr(self.problem, "constants", None)):
            return None
        mu = self.problem.mu(self.x)
        if not mu:
            return None
        return error_bound(self.problem.constants(self.x, y), mu, self.norm(q), g / mu, r)

    def check_finite(self, y: Array, *arrays: Array) -> None:
        """Refuse an inner problem without a minimiser, and NaN from an oracle, with the point at which it came."""
        xp = self.xp
        top = float(xp.max(xp.abs(y)))
        if math.isnan(top):
            raise halt("NaN from `inner`, on the way to y", "finite numbers", Status.NONFINITE, self.x, y)
        if top > FAR:
            text = "an inner problem whose values fall without end: it is not convex, or has no minimiser"
            raise halt(text, "one minimiser for each x", Status.BREAKDOWN, self.x, y)
        for u, name in zip(arrays, ("outer", "inner", "outer"), strict=False):
            if not bool(xp.all(xp.isfinite(u))):
                raise halt(f"NaN or infinity from `{name}`", "finite numbers", Status.NONFINITE, self.x, y)


def error_bound(c: Constants, mu: float, q: float, d: float, r: float) -> float:
    """Bound of ``|p - grad Phi|`` from ``|q|``, a bound d of ``|y - y*|`` and the residual r of the adjoint system."""
    cross = c.cross + c.cross_change * d  # |C| at y*
    return cross * (r + (c.outer_y + c.hessian * q) * d) / mu + (c.cross_change * q + c.outer_x) * d
