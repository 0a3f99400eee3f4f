"""Problems whose inner constraints depend on the hyperparameters."""

from collections.abc import Callable
from typing import Any

import numpy as np

from optlib._core import validation as check
from optlib.backend import Array, asarray_like, linalg, random, to_numpy
from optlib.bilevel.problem import Constraints, Problem
from optlib.bilevel.problems.linear_models import LOGISTIC
from optlib.geometry import AffineProjection

NEWTON = 50  # steps for a plane with slacks


class Constrained(Problem):
    """First-order oracles and constraints: no products of second order."""

    hvp = cross_vjp = cross_jvp = None  # type: ignore[assignment]


class SumConstraintProblem(Constrained):
    r"""``f = 1/2 |u|^2 - <x, u> + sum v`` with ``sum (x + u + v) = 0``, and ``F = 1/2 |x - v|^2 + 1/2 |u - target|^2``.

    The inner variable is ``y = (u, v)`` of shape (2, n). Its minimisers are ``u = x + 1`` with every v of the right
    sum; the multiplier is -1.

    Parameters
    ----------
    target : array, shape (n,)
        1 in the paper, where the solution is ``x = -0.3``, ``u = 0.7``, ``v = -0.4``.

    References
    ----------
    W. Yao, C. Yu, S. Zeng, J. Zhang, Constrained bi-level optimization: proximal Lagrangian value function approach and
    Hessian-free algorithm, ICLR 2024, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.bilevel import SumConstraintProblem
    >>> x, y = SumConstraintProblem(np.ones(2)).solution()
    >>> x.round(9), y.round(9).tolist()
    (array([-0.3, -0.3]), [[0.7, 0.7], [-0.4, -0.4]])
    """

    equality = True

    def __init__(self, target: Any) -> None:
        self.xp, device, dtype = check.common(target=target)
        self.target = check.array("target", target, xp=self.xp, ndim=1, dtype=dtype, device=device)
        if self.target.shape[0] == 0:
            raise check.error("target", "no entries", "at least one")

    @classmethod
    def random(cls, n: int = 4, *, rng: Any = 0, like: Array | None = None) -> "SumConstraintProblem":
        """Normal targets."""
        host = random.as_generator(rng).normal(size=n)
        return cls(host if like is None else asarray_like(host, like))

    def start(self) -> tuple[Array, Array]:
        """Tens, projected onto the constraint: the start of the paper."""
        tens = 10.0 * self.xp.ones_like(self.target)
        return self.project_joint(tens, self.xp.stack([tens, tens]))

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        u, v = y[0, :], y[1, :]
        value = self.xp.sum(0.5 * u * u - x * u + v)
        return value, -u, self.xp.stack([u - x, self.xp.ones_like(v)])

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        far, off = x - y[1, :], y[0, :] - self.target
        return 0.5 * self.xp.sum(far * far + off * off), far, self.xp.stack([off, -far])

    def constraints(self, x: Array, y: Array) -> Constraints:
        """The sum of all entries."""
        xp = self.xp
        total = xp.reshape(xp.sum(x) + xp.sum(y), (1,))
        return Constraints(total, lambda lam: lam * xp.ones_like(x), lambda lam: lam * xp.ones_like(y))

    def project_joint(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Take the mean of all 3 n entries away."""
        mean = (self.xp.sum(x) + self.xp.sum(y)) / (3 * x.shape[0])
        return x - mean, y - mean

    def lipschitz(self, x: Array) -> float:
        """Curvature along u."""
        return 1.0

    def solution(self) -> tuple[Array, Array]:
        """The optimistic solution x and y."""
        nu = (3.0 * self.xp.mean(self.target) - 2.0) / 10.0
        x = self.target - 1.0 - 3.0 * nu
        return x, self.xp.stack([x + 1.0, x - nu])

    def _map_arrays(self, move: Callable[[Array], Array]) -> "SumConstraintProblem":
        return SumConstraintProblem(move(self.target))


class AffineConstraintProblem(Constrained):
    r"""``f = 1/2 |x - y|^2``, ``A y + H x = 0``, ``B x = 0`` and ``F = sin(<c, x> + <d, y>) + log(1 + |x + y|^2)``.

    Parameters
    ----------
    A, H : arrays, shapes (m, d) and (m, d)
        The inner constraint.
    B : array, shape (k, d)
        The outer one.
    c, d : arrays, shape (d,)
        Directions of the sine.

    Notes
    -----
    The inner solution is the projection of x onto ``{y : A y = -H x}``: linear in x, so that the bilevel problem is one
    of F on a subspace, see ``reduced``. F is not convex.

    References
    ----------
    W. Yao, C. Yu, S. Zeng, J. Zhang, Constrained bi-level optimization: proximal Lagrangian value function approach and
    Hessian-free algorithm, ICLR 2024, section 4.1.
    """

    equality = True

    def __init__(self, A: Any, H: Any, B: Any, c: Any, d: Any) -> None:
        self.xp, device, dtype = check.common(A=A, H=H, B=B, c=c, d=d)
        self.A = check.array("A", A, xp=self.xp, ndim=2, dtype=dtype, device=device)
        m, n = self.A.shape
        shapes = {"H": (m, n), "c": (n,), "d": (n,)}
        self.H, self.c, self.d = (
            check.array(name, u, xp=self.xp, shape=shapes[name], dtype=dtype, device=device)
            for name, u in (("H", H), ("c", c), ("d", d))
        )
        self.B = check.array("B", B, xp=self.xp, ndim=2, dtype=dtype, device=device)
        if self.B.shape[1] != n:
            raise check.error("B", f"{self.B.shape[1]} columns", f"{n}, as A has")
        upper = self.xp.concat([self.H, self.A], axis=1)
        lower = self.xp.concat([self.B, self.xp.zeros_like(self.B)], axis=1)
        self._project = AffineProjection(self.xp.concat([upper, lower], axis=0))

    @classmethod
    def random(
        cls, n: int = 6, m: int = 4, k: int = 2, *, rng: Any = 0, like: Array | None = None
    ) -> "AffineConstraintProblem":
        """Uniform matrices; 100, 90 and 45 in the paper."""
        rng = random.as_generator(rng)
        parts = [rng.random(size) for size in ((m, n), (m, n), (k, n), n, n)]
        return cls(*(u if like is None else asarray_like(u, like) for u in parts))

    def start(self) -> tuple[Array, Array]:
        """Tens, projected onto the constraints."""
        tens = 10.0 * self.xp.ones_like(self.c)
        return self.project_joint(tens, tens)

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        far = x - y
        return 0.5 * self.xp.sum(far * far), far, -far

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F."""
        xp = self.xp
        phase, total = xp.sum(self.c * x) + xp.sum(self.d * y), x + y
        square = 1.0 + xp.sum(total * total)
        pull = 2.0 * total / square
        return xp.sin(phase) + xp.log(square), xp.cos(phase) * self.c + pull, xp.cos(phase) * self.d + pull

    def constraints(self, x: Array, y: Array) -> Constraints:
        """The equations of the inner problem."""
        return Constraints(self.A @ y + self.H @ x, lambda lam: self.H.T @ lam, lambda lam: self.A.T @ lam)

    def project_joint(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Projection onto all equations, prepared once."""
        n = x.shape[0]
        w = self._project(self.xp.concat([x, y]))
        return w[:n], w[n:]

    def lipschitz(self, x: Array) -> float:
        """Curvature of f."""
        return 1.0

    def response(self, x: Array) -> Array:
        """The inner solution: the projection of x."""
        return AffineProjection(self.A, -(self.H @ x))(x)

    def reduced(self, x: Array) -> tuple[Array, Array]:
        """Value and projected gradient, on ``B x = 0``, of the hyper-objective in closed form."""
        xp, zero = self.xp, self.xp.zeros_like(self.c)
        y = self.response(x)
        value, grad_x, grad_y = self.outer(x, y)
        onto = AffineProjection(self.A)
        q = onto(grad_y)  # of x -> the projection of x, and of the shift of the set by -H x
        shift = linalg.lstsq(self.A.T, (grad_y - q)[:, None], xp=xp)[:, 0]
        gradient = grad_x + q - self.H.T @ shift
        return value, AffineProjection(self.B)(gradient) + zero

    def _map_arrays(self, move: Callable[[Array], Array]) -> "AffineConstraintProblem":
        return AffineConstraintProblem(*(move(u) for u in (self.A, self.H, self.B, self.c, self.d)))


class SVMProblem(Constrained):
    r"""A linear support vector machine with a cost for every sample, tuned on the logistic loss of validation samples.

    ``f = 1/2 |w|^2 + 1/2 sum_i exp(x_i) s_i^2`` with ``1 - s_i - t_i (a_i'w + b) <= 0``; the inner variable is
    ``y = (w, b, s)``. ``F = sum_j log(1 + exp(-c_j (v_j'w + b)))``, smooth where the paper's is not.

    Parameters
    ----------
    A : array, shape (n, d)
        Training samples.
    t : array, shape (n,)
        Labels -1 and 1; both must occur.
    V : array, shape (m, d)
        Validation samples.
    c : array, shape (m,)
        Their labels.

    References
    ----------
    W. Yao, C. Yu, S. Zeng, J. Zhang, Constrained bi-level optimization: proximal Lagrangian value function approach and
    Hessian-free algorithm, ICLR 2024, section 4.2.
    """

    equality = False

    def __init__(self, A: Any, t: Any, V: Any, c: Any) -> None:
        self.xp, device, dtype = check.common(A=A, t=t, V=V, c=c)
        self.A, self.V = (
            check.array(name, u, xp=self.xp, ndim=2, dtype=dtype, device=device) for name, u in (("A", A), ("V", V))
        )
        for name, u in (("A", self.A), ("V", self.V)):
            if u.shape[0] == 0:
                raise check.error(name, f"shape {tuple(u.shape)}", "at least one sample")
        if self.V.shape[1] != self.A.shape[1]:
            raise check.error("V", f"{self.V.shape[1]} features", f"{self.A.shape[1]}, as A has")
        self.t, self.c = (
            check.array(name, u, xp=self.xp, shape=(rows.shape[0],), dtype=dtype, device=device)
            for name, u, rows in (("t", t, self.A), ("c", c, self.V))
        )
        for name, u in (("t", self.t), ("c", self.c)):
            seen = set(np.unique(to_numpy(u)).tolist())
            if not seen <= {-1.0, 1.0}:
                fix = "map them, e.g. 2 * t - 1 for 0 and 1"
                raise check.error(name, f"labels {sorted(seen)[:5]}", "-1 and 1", fix)
            if name == "t" and len(seen) < 2:
                raise check.error(name, f"labels {sorted(seen)} only", "samples of both classes")
        ones = self.xp.ones((self.A.shape[0], 1), dtype=dtype, device=device)
        self._signed = self.t[:, None] * self.xp.concat([self.A, ones], axis=1)

    @classmethod
    def random(cls, n: int = 12, d: int = 3, *, rng: Any = 0, like: Array | None = None) -> "SVMProblem":
        """Two normal classes."""
        rng = random.as_generator(rng)
        t = np.where(np.arange(n) % 2, 1.0, -1.0)
        A, V = (t[:, None] + rng.normal(size=(n, d)) for _ in range(2))
        return cls(*(u if like is None else asarray_like(u, like) for u in (A, t, V, t)))

    @property
    def n_valid(self) -> int:
        """Number of validation samples."""
        return self.V.shape[0]

    def start(self) -> tuple[Array, Array]:
        """Costs 1, and the machine with these."""
        x = self.xp.zeros_like(self.t)
        return x, self.response(x)

    def bounds(self) -> tuple[float, float]:
        """Box of the logarithms of the costs."""
        return -6.0, 2.0

    def _split(self, y: Array) -> tuple[Array, Array]:
        """The plane ``(w, b)`` and the slacks."""
        k = self.A.shape[1] + 1
        return y[:k], y[k:]

    def inner(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of f."""
        xp = self.xp
        plane, s = self._split(y)
        w = xp.concat([plane[:-1], xp.zeros_like(plane[:1])])  # the constant has no penalty
        cost = 0.5 * xp.exp(x) * s * s
        return 0.5 * xp.sum(w * w) + xp.sum(cost), cost, xp.concat([w, xp.exp(x) * s])

    def outer(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Value and gradients of F, which does not depend on x."""
        xp = self.xp
        plane, s = self._split(y)
        loss = LOGISTIC.at(self.V @ plane[:-1] + plane[-1], self.c, xp)
        grad = xp.concat([self.V.T @ loss.first, xp.reshape(xp.sum(loss.first), (1,)), xp.zeros_like(s)])
        return xp.sum(loss.value()), xp.zeros_like(x), grad

    def constraints(self, x: Array, y: Array) -> Constraints:
        """The margins."""
        plane, s = self._split(y)
        return Constraints(
            1.0 - s - self._signed @ plane,
            lambda lam: self.xp.zeros_like(x),
            lambda lam: -self.xp.concat([self._signed.T @ lam, lam]),
        )

    def project_joint(self, x: Array, y: Array) -> tuple[Array, Array]:
        """The box for x; for y a plane by Newton's method, with the slacks ``max(s, 1 - margin)`` eliminated."""
        first, s = self._split(y)
        plane = self._plane(self.xp.ones_like(first), first, 1.0 - s, self.xp.ones_like(s))
        low, high = self.bounds()
        return self.xp.clip(x, low, high), self._with_slacks(plane, s)

    def response(self, x: Array) -> Array:
        """The inner solution."""
        zero = self.xp.zeros_like(x)
        plane = self.xp.concat([self.xp.ones_like(self.A[0, :]), 1e-10 * self.xp.ones_like(x[:1])])  # weights
        return self._with_slacks(self._plane(plane, 0.0 * plane, zero + 1.0, self.xp.exp(x)), zero)

    def _with_slacks(self, plane: Array, s: Array) -> Array:
        """The plane and the least slacks that are at least s and keep the margins."""
        return self.xp.concat([plane, s + self.xp.clip(1.0 - s - self._signed @ plane, 0.0, None)])

    def _plane(self, weights: Array, first: Array, reach: Array, costs: Array) -> Array:
        """Minimise ``1/2 |u - first|^2 + 1/2 |max(reach - margins(u), 0)|^2`` in weighted norms by Newton's method."""
        xp, eye = self.xp, self.xp.eye(first.shape[0], dtype=first.dtype, device=self.A.device)
        limit = 10.0 * float(xp.finfo(first.dtype).eps)

        def value(u: Array) -> tuple[float, Array]:
            short = xp.clip(reach - self._signed @ u, 0.0, None)
            return 0.5 * float(xp.sum(weights * (u - first) ** 2) + xp.sum(costs * short * short)), short

        u, (now, short) = first, value(first)
        for _ in range(NEWTON):
            gradient = weights * (u - first) - self._signed.T @ (costs * short)
            active = xp.where(short > 0.0, xp.sqrt(costs), xp.zeros_like(costs))[:, None] * self._signed
            step = linalg.solve(weights[:, None] * eye + active.T @ active, -gradient, xp=xp)
            slope, t = float(xp.sum(gradient * step)), 1.0
            while (found := value(u + t * step))[0] > now + 1e-4 * t * slope + limit * now and t > 1e-6:
                t *= 0.5
            u, (now, short) = u + t * step, found
            if -slope <= limit * now or float(xp.max(xp.abs(step))) <= limit:
                break
        return u

    def lipschitz(self, x: Array) -> float:
        """The largest cost, or 1."""
        return max(1.0, float(self.xp.exp(self.xp.max(x))))

    def _map_arrays(self, move: Callable[[Array], Array]) -> "SVMProblem":
        return SVMProblem(*(move(u) for u in (self.A, self.t, self.V, self.c)))
