r"""Gradients of ``Phi(x) = F(x, y*(x))``: implicit, by differentiating iterations, and by a penalty.

Implicit modes solve ``H q = grad_y F`` at an approximate inner solution y and return ``p = grad_x F - C q``. With the
residuals ``g = grad_y f(x, y)`` and ``r = H q - grad_y F``:

*Value.* ``v = F(x, y) - <q, g>`` differs from ``Phi(x)`` by terms of second order in ``y - y*``, where ``F(x, y)``
differs by one of first order. ``|<q, g>|`` estimates the error of the latter.

*Error bound.* Let mu be the least curvature of f, ``d = |g| / mu >= |y - y*|``, and let H, C, grad_y F, grad_x F have
the Lipschitz constants M, L_C, L_F, L_X in y. From ``q - q*(x) = H^-1 r + [q at y] - [q at y*]``,

    |p - grad Phi(x)| <= (|C| + L_C d) [|r| + (L_F + M |q|) d] / mu + (L_C |q| + L_X) d.

It is a proof where the problem knows its constants (``problem.constants``), and useless where mu is tiny.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from optlib._core import settle
from optlib._core import validation as check
from optlib.backend import Array, linalg, to_numpy
from optlib.bilevel.problem import Constants, Point, answer, answers, point, require, unconstrained, vdot
from optlib.inner import accelerated_gradient, lbfgs
from optlib.inner.newton import begin, cholesky, newton_steps
from optlib.inner.newton import solve as solve_newton
from optlib.linop import minres

MODES = ("auto", "own", "cg", "minres", "direct", "neumann", "fixed_point", "reverse", "forward", "penalty")
INNER = ("auto", "newton", "lbfgs", "accelerated_gradient")
DIRECT = 100  # inner variables up to which each linear system has a factor of its own
FACTOR = 1000  # up to which a factor of an earlier point is the preconditioner
GROWTH = 1e6  # of the adjoint of an iteration, beyond which its step is too long


@dataclass
class HyperResult:
    """What `hypergradient` returns.

    Attributes
    ----------
    value : float
        ``Phi(x)``, corrected to second order in the implicit modes.
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
    factor : array or None
        Cholesky factor of H at or near the solution, with ``"direct"``: a preconditioner for the next call.
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


def hypergradient(
    problem: Any,
    x: Any,
    *,
    y: Array | None = None,
    q: Array | None = None,
    mode: str = "auto",
    tol: float = 1e-8,
    adjoint_tol: float | None = None,
    steps: int = 100,
    truncate: int | None = None,
    recompute: bool = False,
    step: float | None = None,
    maxiter: int = 1000,
) -> HyperResult:
    r"""Value and gradient of the hyper-objective ``Phi(x) = F(x, y*(x))``.

    Parameters
    ----------
    problem : object
        With the oracles of `Problem` that the mode needs.
    x : array
        Hyperparameters.
    y, q : array, optional
        Warm start of the inner solution and of the adjoint; by default ``problem.start()`` and 0.
    mode : str
        How the inner problem is differentiated:

        - ``"cg"``: implicit, conjugate gradients (H positive definite), preconditioned by the diagonal of H, or by a
          factor of it at an earlier point for up to 1000 inner variables, where the problem can do that.
        - ``"minres"``: implicit, for symmetric H that may be indefinite or singular.
        - ``"direct"``: implicit, by a Cholesky factor of H. Needs ``hessian``.
        - ``"own"``: implicit, by the problem's own ``solve_adjoint``.
        - ``"neumann"``: implicit, with `steps` terms of the Neumann series.
        - ``"fixed_point"``: implicit, ``q <- q - step (H q - grad_y F)``; also for H that is not symmetric.
        - ``"reverse"``: `steps` gradient steps from `y`, differentiated backwards through the last `truncate` ones.
        - ``"forward"``: the same iteration differentiated forwards: d products a step for each hyperparameter.
        - ``"penalty"``: no second-order oracle: ``(grad_x f(x, y_s) - grad_x f(x, y)) / s + grad_x F``, with the
          minimiser ``y_s`` of ``f + s F``, extrapolated from s and s / 2.
        - ``"auto"``: ``"own"`` where there is one, ``"direct"`` for up to 100 inner variables with a ``hessian``,
          ``"cg"`` where there are products, ``"fixed_point"`` for H that is not symmetric, else ``"penalty"``.
    tol : float
        The inner problem is solved to ``|grad_y f(x, y)| <= tol |grad_y f(x, y0)|`` with the ``y0`` of
        ``problem.start()``.
    adjoint_tol : float, optional
        The adjoint to ``|H q - grad_y F| <= adjoint_tol |grad_y F|``; by default `tol`.
    steps : int
        Iterations of the modes that iterate.
    truncate : int, optional
        How many of them are differentiated; by default all.
    recompute : bool
        Whether ``"reverse"`` keeps only every ``sqrt(truncate)``-th iterate and computes those between again.
    step : float, optional
        Their step; by default ``1 / lipschitz(x)``.
    maxiter : int
        Largest number of inner iterations.

    Returns
    -------
    HyperResult
        Value, gradient, and what is known of their errors.

    Raises
    ------
    TypeError
        If the problem lacks an oracle that the mode needs; the message names modes that do without.
    ValueError
        If an argument is invalid, or an oracle returns NaN.

    Notes
    -----
    Cost: an inner solve from `y`; then, with n products with H: ``"cg"`` about the square root of its condition,
    ``"neumann"`` `steps`, ``"reverse"`` `truncate` (and as many copies of y, or with `recompute` twice the root of that
    and `truncate` more gradients), ``"forward"`` `steps` times the number of
    hyperparameters. ``"penalty"`` takes two more inner solves; its error is O(tol / s + s^2).

    ``"reverse"`` and ``"forward"`` differentiate the iteration, not the solution: truncated after K steps the gradient
    has the error ``|C| |grad_y F| (1 - step mu)^K / mu`` at a converged y.

    References
    ----------
    F. Pedregosa, Hyperparameter optimization with approximate gradient, ICML 2016. A. Shaban et al., Truncated
    back-propagation for bilevel optimization, AISTATS 2019. J. Kwon et al., A fully first-order method for stochastic
    bilevel optimization, ICML 2023 (the penalty).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import QuadraticProblem, hypergradient
    >>> problem, x = QuadraticProblem.random(5, 2, rng=0), np.ones(2)
    >>> exact = hypergradient(problem, x)
    >>> exact.mode, bool(np.allclose(exact.gradient, hypergradient(problem, x, mode="cg").gradient))
    ('direct', True)
    """
    require(problem, ("inner", "outer", "start"), "hypergradient")
    unconstrained(problem, "hypergradient")
    check.option("mode", mode, MODES)
    tol = check.scalar("tol", tol, low=0.0, low_open=True)
    adjoint_tol = tol if adjoint_tol is None else check.scalar("adjoint_tol", adjoint_tol, low=0.0, low_open=True)
    steps = check.scalar("steps", steps, low=1, integer=True)
    truncate = steps if truncate is None else check.scalar("truncate", truncate, low=1, high=steps, integer=True)
    maxiter = check.scalar("maxiter", maxiter, low=1, integer=True)
    x0, y0 = problem.start()
    xp, device, dtype = check.common(x=x, start=x0)
    x = check.array("x", x, xp=xp, shape=tuple(x0.shape), dtype=dtype, device=device)
    if y is not None:
        y0 = check.array("y", y, xp=xp, shape=tuple(y0.shape), dtype=y0.dtype, device=device)
    if q is not None:
        q = check.array("q", q, xp=xp, shape=tuple(y0.shape), dtype=y0.dtype, device=device)
    if mode == "auto":
        mode = choose(problem, y0)
    call = Call(problem, x, xp, tol, adjoint_tol, steps, truncate, step, maxiter, recompute=recompute)
    if mode in ("reverse", "forward"):
        return call.unrolled(y0, mode)
    if mode == "penalty":
        return call.penalty(y0)
    return call.implicit(y0, q, mode)


def choose(problem: Any, y: Array) -> str:
    """The mode that "auto" stands for."""
    if not getattr(problem, "symmetric", True):
        return "fixed_point"
    if blocks := getattr(problem, "blocks", None):
        return choose(blocks[0], y[0, ...])
    if callable(getattr(problem, "solve_adjoint", None)):
        return "own"
    products = callable(getattr(problem, "at", None)) or callable(getattr(problem, "hvp", None))
    size = math.prod(y.shape)
    if products and callable(getattr(problem, "hessian", None)) and size <= DIRECT:
        return "direct"
    return "cg" if products else "penalty"


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

    def diagonal(self, y: Array) -> Array | None:
        """Diagonal of H, where it is known."""
        found = self.at(y).diagonal
        return None if found is None else found()

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
        target = self.tol * self.reference()

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
        if own is not None and self.solver == "auto" and not extra:
            y, counts = own(self.x, y, target)
            for name, n in counts.items():
                self.counts[name] = self.counts.get(name, 0) + n
            return y, True
        second = callable(getattr(self.problem, "at", None)) or callable(getattr(self.problem, "hvp", None))
        if not second or extra or self.solver == "accelerated_gradient":
            options = {} if extra or self.solver != "accelerated_gradient" else self.curvature()
            found = accelerated_gradient(fun, y, tol=target, maxiter=100 * self.maxiter, record=False, **options)
            return found.x, found.success
        if self.solver == "lbfgs":
            found = lbfgs(fun, y, tol=target, maxiter=10 * self.maxiter, record=False)
            return found.x, found.success
        size = math.prod(y.shape)
        hessian = (lambda y: self.problem.hessian(self.x, y)) if self.dense(size) else None
        direct = hessian is not None and size <= DIRECT
        hvp = None if direct else lambda y: self.at(y).hvp
        start = begin(y, None if direct else self.factor)
        steps = newton_steps(start, fun, hvp, hessian, self.diagonal, xp=self.xp)
        state = settle(steps, tol=target, maxiter=self.maxiter).state
        self.factor = state.factor
        return state.x, self.norm(state.grad) <= target

    def gather(self) -> None:
        """Take over the counts and the factors of the blocks."""
        for block in self.blocks:
            for name, n in block.counts.items():
                self.counts[name] = self.counts.get(name, 0) + n
                block.counts[name] = 0
        factors = [block.factor for block in self.blocks]
        self.factor = None if any(L is None for L in factors) else self.xp.stack(factors)

    # -- modes --

    def implicit(self, y: Array, q: Array | None, mode: str) -> HyperResult:
        """Modes that solve the adjoint system."""
        oracles = {
            "direct": ("hessian", "cross_vjp"),
            "own": ("solve_adjoint", "cross_vjp"),
            "fixed_point": ("cross_vjp",),
        }.get(mode, ("hvp", "cross_vjp"))
        require(self.blocks[0].problem if self.blocks else self.problem, oracles, f'mode="{mode}"')
        if getattr(self.problem, "symmetric", True):
            y, solved = self.solve(y)
        else:
            require(self.problem, ("solve_inner", "hvp_t"), "an inner problem that is not symmetric")
            y, _ = self.problem.solve_inner(self.x, y, self.tol * self.reference())
            solved = True
        _, _, g = self.inner(y)
        value, grad_x, grad_y = self.outer(y)
        self.check_finite(value, g, grad_y)
        products = self.at(y)
        q, reached = self.adjoint(products, grad_y, q, y, mode)
        hq = products.hvp(q) if getattr(self.problem, "symmetric", True) else self.problem.hvp_t(self.x, y, q)
        r, size = self.norm(hq - grad_y), self.norm(g)
        gradient = grad_x - products.cross_vjp(q)
        correction = float(vdot(q, g, xp=self.xp))
        return HyperResult(
            value=float(value) - correction, gradient=gradient, y=y, q=q, error_bound=self.bound(y, q, size, r),
            correction=abs(correction), residual=(size, r), counts=self.counts, mode=mode, converged=solved and reached,
            factor=self.factor,
        )  # fmt: skip

    def adjoint(self, products: Point, rhs: Array, q: Array | None, y: Array, mode: str) -> tuple[Array, bool]:
        """Solve ``H q = grad_y F``."""
        xp, shape = self.xp, rhs.shape
        if self.blocks:
            parts = []
            for k, block in enumerate(self.blocks):
                block.adjoint_tol = self.adjoint_tol
                at, start = y[k, ...], None if q is None else q[k, ...]
                parts.append(block.adjoint(block.at(at), rhs[k, ...], start, at, mode))
            self.gather()
            return xp.stack([u for u, _ in parts]), all(done for _, done in parts)
        if not bool(xp.any(rhs != 0)):  # F does not depend on y
            return rhs, True
        if mode == "own":
            return self.problem.solve_adjoint(self.x, y, rhs, q, self.adjoint_tol * self.norm(rhs)), True
        if mode in ("direct", "cg", "minres"):
            flat, start = xp.reshape(rhs, (-1,)), None if q is None else xp.reshape(q, (-1,))
            product = lambda v: xp.reshape(products.hvp(xp.reshape(v, shape)), (-1,))  # noqa: E731
            if mode == "minres":
                found = minres(product, flat, init=start, tol=self.adjoint_tol, maxiter=self.maxiter, record=False)
                return xp.reshape(found.x, shape), found.success
            size = math.prod(shape)
            if mode == "direct" and self.factor is None:
                self.factor = cholesky(self.problem.hessian(self.x, y), xp=xp)
            solved, factor = solve_newton(
                product, flat, start, tol=self.adjoint_tol, maxiter=self.maxiter,
                factor=self.factor if mode == "direct" or size > DIRECT else None,
                hessian=(lambda: self.problem.hessian(self.x, y)) if self.dense(size) and size > DIRECT else None,
                diagonal=lambda: self.diagonal(y), xp=xp,
            )  # fmt: skip
            self.factor = self.factor if factor is None else factor
            return xp.reshape(solved.x, shape), solved.success
        gamma, target = self.length(), self.adjoint_tol * self.norm(rhs)
        product = products.hvp
        if not getattr(self.problem, "symmetric", True):
            product = lambda v: self.problem.hvp_t(self.x, y, v)  # noqa: E731
        if mode == "neumann":  # gamma sum_k (I - gamma H)^k grad_y F
            term = gamma * rhs
            q = term
            for _ in range(self.steps - 1):
                term = term - gamma * product(term)
                q = q + term
            return q, True
        q = xp.zeros_like(rhs) if q is None else q
        for _ in range(100 * self.maxiter):
            r = product(q) - rhs
            if self.norm(r) <= target:
                return q, True
            q = q - gamma * r
        return q, False

    def unrolled(self, y: Array, mode: str) -> HyperResult:
        """Modes that differentiate gradient steps."""
        require(self.problem, ("hvp", "cross_jvp" if mode == "forward" else "cross_vjp"), f'mode="{mode}"')
        xp, gamma, x = self.xp, self.length(), self.x
        if mode == "forward":  # Z <- (I - gamma H) Z - gamma C', one column a hyperparameter
            flat = xp.reshape(x, (-1,))
            basis = [
                xp.reshape(e, x.shape)
                for e in (xp.eye(flat.shape[0], dtype=x.dtype, device=x.device)[k, :] for k in range(flat.shape[0]))
            ]
            columns = [xp.zeros_like(y) for _ in basis]
            for _ in range(self.steps):
                products = self.at(y)
                columns = [
                    z - gamma * (products.hvp(z) + products.cross_jvp(e)) for z, e in zip(columns, basis, strict=True)
                ]
                y = y - gamma * self.inner(y)[2]
            value, grad_x, grad_y = self.outer(y)
            gradient = grad_x + xp.reshape(xp.stack([vdot(z, grad_y, xp=xp) for z in columns]), x.shape)
        else:
            every = math.isqrt(self.truncate) if self.recompute else 1
            for _ in range(self.steps - self.truncate):
                y = y - gamma * self.inner(y)[2]
            kept: list[Array] = []
            for t in range(self.truncate):
                if t % every == 0:
                    kept.append(y)
                y = y - gamma * self.inner(y)[2]
            value, gradient, grad_y = self.outer(y)
            alpha = grad_y
            limit = GROWTH * max(self.norm(grad_y), 1e-300)
            for t, before in enumerate(self.backwards(kept, every, gamma)):
                products = self.at(before)
                gradient = gradient - gamma * products.cross_vjp(alpha)
                alpha = alpha - gamma * products.hvp(alpha)
                if t % 10 == 9 and not self.norm(alpha) <= limit:
                    got = f"{gamma:.3g}, with which the adjoint grows"
                    raise check.error("step", got, "a step below 2 / lipschitz(x)", "leave it to the default")
        _, _, g = self.inner(y)
        self.check_finite(value, g, gradient)
        return HyperResult(
            value=float(value), gradient=gradient, y=y, q=None, error_bound=None, correction=0.0,
            residual=(self.norm(g), 0.0), counts=self.counts, mode=mode,
        )  # fmt: skip

    def backwards(self, kept: list[Array], every: int, gamma: float) -> Iterator[Array]:
        """The last iterates, last first, from every so many of them."""
        left = self.truncate
        while kept:
            between = [kept.pop()]
            while (len(kept) * every) + len(between) < left:
                between.append(between[-1] - gamma * self.inner(between[-1])[2])
            left -= len(between)
            while between:
                yield between.pop()

    def penalty(self, y: Array) -> HyperResult:
        """The mode without second-order oracles."""
        y, solved = self.solve(y)
        value, _, grad_y = self.outer(y)
        base = self.inner(y)
        self.check_finite(value, base[2], grad_y)
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

    def check_finite(self, *arrays: Array) -> None:
        """Refuse NaN from an oracle, with the point at which it came."""
        for u, name in zip(arrays, ("outer", "inner", "outer"), strict=False):
            if not bool(self.xp.all(self.xp.isfinite(u))):
                at = to_numpy(self.x).ravel()[:5]
                raise check.error("problem", f"NaN or infinity from `{name}` at x = {at}", "finite numbers")


def error_bound(c: Constants, mu: float, q: float, d: float, r: float) -> float:
    """Bound of ``|p - grad Phi|`` from ``|q|``, a bound d of ``|y - y*|`` and the residual r of the adjoint system."""
    cross = c.cross + c.cross_change * d  # |C| at y*
    return cross * (r + (c.outer_y + c.hessian * q) * d) / mu + (c.cross_change * q + c.outer_x) * d
