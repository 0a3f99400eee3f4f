"""The accelerated linearized primal-dual method, for a smooth function coupled with a strongly concave one."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

from optlib._core import Result, prepare_init
from optlib._core import validation as check
from optlib._core.checkpoint import probe
from optlib.backend import Array, supports
from optlib.geometry import Domain, Euclidean
from optlib.linop import as_linear_operator
from optlib.online._problem import Problem, Projected, require
from optlib.online._saddle import repeated, run_saddle
from optlib.online.terms import Term, check_lengths, operator_norm


class SmoothSaddle(Problem):
    r"""``min_x max_y f(x) + <K x, y> - g(y)`` with smooth convex ``f`` on a bounded set and strongly convex ``g``.

    Parameters
    ----------
    K : array, sparse matrix or operator, shape (m, n)
        The coupling.
    f : callable
        ``f(x)`` returns the value and the gradient, a 0-d array and an array of shape (n,).
    lipschitz : float
        Lipschitz constant of the gradient.
    g : Term
        Strongly convex: `SquaredDistance`, or your own with ``convexity > 0``.
    domain : Domain
        Bounded set of x.
    norm : float, optional
        Bound on the spectral norm of ``K``; by default it is computed, from the dense matrix.

    Notes
    -----
    The certificate is the gap ``g*(K x) + g(y) - <K x, y>`` of y plus the Frank-Wolfe gap of x, ``max_u
    <grad f(x) + K'y, x - u>``: together an upper bound of the duality gap. It is relative to its value at the start.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.geometry import Ball
    >>> from optlib.online import SmoothSaddle, SquaredDistance, alpd
    >>> problem = SmoothSaddle(
    ...     np.eye(2), lambda x: (0.5 * np.sum(x**2), x), lipschitz=1.0, g=SquaredDistance([2.0, 0.0]), domain=Ball(2)
    ... )
    >>> alpd(problem).x[0].round(2)  # min |x|^2 / 2 + |x|^2 / 2 + 2 x_1
    array([-1.,  0.])
    """

    kind = "duality_gap"

    def __init__(
        self, K: Any, f: Callable[[Array], tuple[Array, Array]], *, lipschitz: float, g: Term, domain: Domain,
        norm: float | None = None,
    ) -> None:  # fmt: skip
        K = as_linear_operator(K)
        self.norm = operator_norm(K, norm)
        m, n = K.shape
        if not callable(f):
            raise check.error("f", type(f).__name__, "a function that returns value and gradient", kind=TypeError)
        if not isinstance(g, Term) or not g.convexity > 0.0:
            raise check.error("g", type(g).__name__, "a strongly convex Term", "for example SquaredDistance", TypeError)
        if not isinstance(domain, Domain) or domain.shape != (n,):
            raise check.error("domain", repr(domain), f"a set of points of shape {(n,)}", kind=TypeError)
        super().__init__([Projected(domain), Euclidean()], [n, m], K.xp.empty(0, dtype=K.dtype, device=K.device))
        if self._domains[0] is None or self._domains[0].diameter == float("inf"):
            raise check.error("domain", repr(domain), "a bounded set")
        self.K, self.f, self.g = K, f, g._like(self._like)
        check_lengths(g=(self.g, m))
        self._gradient_lipschitz = check.scalar("lipschitz", lipschitz, low=0.0)

    def parts(self, x: Array) -> tuple[Array, Array]:
        """Return value and gradient of ``f``, after a check of their shapes."""
        value, slope = self.f(x)
        if tuple(getattr(slope, "shape", ())) != tuple(x.shape):
            got = f"a gradient of shape {tuple(getattr(slope, 'shape', ()))}"
            raise check.error("f", got, f"shape {tuple(x.shape)}")
        return value, slope

    def measure(self, z: Array) -> Array:
        """Return the bound on the duality gap."""
        xp = self._xp
        x, y = self.split(z)
        image = self.K._matvec(x)
        slope = self.parts(x)[1] + self.K._rmatvec(y)
        away = xp.sum(slope * (x - self._domains[0].linear_minimizer(slope, xp=xp)))
        return away + self.g.conj(image, xp) + self.g.value(y, xp) - xp.sum(image * y)

    def fun(self, z: Array) -> float:
        """Return the primal value ``f(x) + g*(K x)``."""
        x, _ = self.split(z)
        return float(self.parts(x)[0]) + float(self.g.conj(self.K._matvec(x), self._xp))

    def _start_scale(self, z: Array) -> float:
        return self._unit

    @cached_property
    def _unit(self) -> float:
        return float(self.measure(self.start(None))) or 1.0

    def identity(self) -> Any:
        """Return what tells this problem from others."""
        z = self.start(None)
        x, y = self.split(z)
        return (
            "SmoothSaddle",
            probe(self.K._matvec(x + 1.0), self.parts(x)[1], self.g.prox(y, 0.5, self._xp)),
            self._maps,
        )


class ALPDState(NamedTuple):
    """Points, the primal point before, means of both, unit of the certificate, iterations done."""

    x: Array
    y: Array
    old: Array
    mean_x: Array
    mean_y: Array
    scale: float
    nit: int


@supports()
def alpd(
    problem: SmoothSaddle,
    *,
    init: Any = None,
    tol: float | None = 1e-4,
    maxiter: int = 10_000,
    check_every: int = 25,
    callback: Any = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Solve a convex-strongly concave saddle-point problem by accelerated linearized primal-dual steps.

    Parameters
    ----------
    problem : SmoothSaddle
        The problem.
    init : pair of arrays, Result or state, optional
        Starting point, by default the centre of the set and 0; or a result to continue.
    tol : float or None
        Tolerance of the bound on the duality gap, relative to its value at the start; None runs exactly ``maxiter``
        iterations.
    maxiter, check_every, callback, record, max_time, disp, checkpoint : optional
        See the solver contract (`optlib._core.run`).

    Returns
    -------
    Result
        ``x`` is the pair of mean points, ``fun`` the primal value; the certificate bounds the duality gap.

    Notes
    -----
    In iteration k = 1, 2, ... with the modulus :math:`\mu` of ``g`` and :math:`\beta = 2 / (k + 1)`:

    .. math:: y \leftarrow \mathrm{prox}_{\sigma g}(y + \sigma K (x + \tfrac{k-1}{k} (x - x_{old}))), \quad
       x \leftarrow P(x - \tau (\nabla f((1 - \beta) \bar x + \beta x) + K^T y)), \quad
       \bar z \leftarrow (1 - \beta) \bar z + \beta z

    with :math:`1 / \sigma = \mu (k - 1) / 2` (at first ``y`` is the maximiser) and
    :math:`1 / \tau = 2 (L + |K|^2 / \mu) / k`. Then for all :math:`(x, y)` the gap of the mean is at most

    .. math:: 2 (L + |K|^2 / \mu) \, |x - x_0|^2 / (k (k + 1)),

    the best possible dependence on both constants. The steps are derived anew: with weights k all terms telescope.

    Stopping: the bound on the gap of the mean, relative to that of the start, is at most ``tol``.

    Cost: one gradient of ``f``, two products with ``K`` (its transpose), a projection and a proximal operator.

    When not to use it: when ``f`` has a proximal operator and ``L`` is large, use `chambolle_pock`.

    References
    ----------
    .. [1] M. Khalafi, D. Boob, "Accelerated Primal-Dual Methods for Convex-Strongly-Concave Saddle Point Problems",
       ICML 2023, arXiv:2209.04604.
    .. [2] Y. Chen, G. Lan, Y. Ouyang, "Optimal primal-dual methods for a class of saddle point problems", SIAM J.
       Optim. 24 (2014).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.geometry import Simplex
    >>> from optlib.online import SmoothSaddle, SquaredDistance, alpd
    >>> K, slope = np.array([[1.0, -1.0], [0.0, 2.0]]), np.array([0.1, 0.0])
    >>> res = alpd(
    ...     SmoothSaddle(
    ...         K, lambda x: (x @ slope, slope), lipschitz=0.0, g=SquaredDistance(np.zeros(2)), domain=Simplex(2)
    ...     )
    ... )
    >>> res.success, res.x[0].round(2)
    (True, array([0.74, 0.26]))
    """
    require(problem, SmoothSaddle)
    xp, mu = problem._xp, problem.g.convexity
    size = 2.0 * (problem._gradient_lipschitz + problem.norm**2 / mu)
    project = problem._domains[0].project
    start, state = prepare_init(init, ALPDState)
    if state is None:
        z = problem.start(start)
        x, y = problem.split(z)
        state = ALPDState(x, y, x, x, y, problem._start_scale(z), 0)

    def advance(s: ALPDState) -> ALPDState:
        k = s.nit + 1
        image = problem.K._matvec(s.x + ((k - 1.0) / k) * (s.x - s.old))
        sigma = 2.0 / (mu * (k - 1.0)) if k > 1 else 1e8 / mu
        y = problem.g.prox(s.y + sigma * image if k > 1 else sigma * image, sigma, xp)
        beta = 2.0 / (k + 1.0)
        slope = problem.parts((1.0 - beta) * s.mean_x + beta * s.x)[1]
        x = project(s.x - (k / size) * (slope + problem.K._rmatvec(y)), xp=xp)
        mean_x, mean_y = s.mean_x + beta * (x - s.mean_x), s.mean_y + beta * (y - s.mean_y)
        return ALPDState(x, y, s.x, mean_x, mean_y, s.scale, k)

    return run_saddle(
        "alpd", problem, state, repeated(advance), lambda s: (xp.concat([s.mean_x, s.mean_y]),),
        calls=lambda s: {"gradient": s.nit, "products": 2 * s.nit}, options=size, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
