"""Deep matrix factorisation: gradient descent on a product of several factors, for two losses."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Status, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, linalg, random, supports
from optlib.sensing._end_to_end import (
    balanced_curvature,
    layer_gradients,
    multiplied,
    product_direction,
    split_evenly,
)
from optlib.sensing._factored import DIVERGED, finish_factored, largest_singular
from optlib.sensing._problem import Problem, check_rank, prepare
from optlib.sensing.result import LowRankMatrix, SensingResult

GAP = {64: 1e-10, 32: 1e-5}  # tolerance of the gap to the known minimum


class LayersState(NamedTuple):
    """State of `deep_factorization`.

    Attributes
    ----------
    first, last : array
        Outer factors; ``last`` is None if there is one factor, or the product itself is followed.
    inner : array or None
        The factors between, stacked.
    nit : int
        Iterations.
    """

    first: Array
    inner: Array | None
    last: Array | None
    nit: int

    def layers(self) -> tuple[Array, ...]:
        """All factors."""
        if self.last is None:
            return (self.first,)
        inner = () if self.inner is None else tuple(self.inner[j, :, :] for j in range(self.inner.shape[0]))
        return (self.first, *inner, self.last)


def _packed(layers: tuple[Array, ...], nit: int, xp: Any) -> LayersState:
    inner = xp.stack(layers[1:-1]) if len(layers) > 2 else None
    return LayersState(layers[0], inner, layers[-1] if len(layers) > 1 else None, nit)


class Measured:
    """``|A(W) - y|^2 / 2`` per unit of isotropy."""

    def __init__(self, problem: Problem, rank: int) -> None:
        self.problem, self.size = problem, largest_singular(problem)
        self.tol, self.like = problem.target, problem.y
        A = problem.A  # on matrices of rank k, random measurements are an isometry up to this factor
        self.curvature = (1.0 + math.sqrt(rank * sum(A.matrix_shape) / A.shape[0])) ** 2
        if rank == min(A.matrix_shape):
            self.curvature = min(self.curvature, A.norm() ** 2 / A.isotropy)

    def gradients(self, layers: tuple[Array, ...]) -> tuple[Array, ...]:
        """Derivatives in the factors; the matrix is formed for a single factor only."""
        A, y, c = self.problem.A, self.problem.y, 1.0 / self.problem.A.isotropy
        if len(layers) == 1:
            return (c * A._adjoint(A._forward(layers[0]) - y),)
        _, left, right = A._gradient(layers[0], multiplied(layers[1:]).T, y)
        return (c * left, *layer_gradients(layers[1:], c * right.T))

    def _residual(self, layers: tuple[Array, ...]) -> Array:
        if len(layers) == 1:
            return self.problem.A._forward(layers[0]) - self.problem.y
        return self.problem.residual(layers[0], multiplied(layers[1:]).T)

    def stop(self, layers: tuple[Array, ...]) -> Array:
        """Relative residual."""
        return self.problem.relative(self._residual(layers))

    def finish(self, layers: tuple[Array, ...]) -> dict[str, Any]:
        """Certificate of the residual."""
        xp = self.problem.xp
        if len(layers) == 1:
            layers = (layers[0], xp.eye(layers[0].shape[1], dtype=layers[0].dtype, device=layers[0].device))
        return finish_factored(self.problem, layers[0], multiplied(layers[1:]).T)


class _Known(ABC):
    """A loss of the product whose least value is known: the gap to it is the certificate."""

    def __init__(self, like: Array, scale: float, least: float, tol: Any, xp: Any) -> None:
        bits = int(xp.finfo(like.dtype).bits)
        if isinstance(tol, str):
            check.option("tol", tol, ("auto",))
            tol = GAP[bits]
        self.xp, self.like, self.scale, self.least = xp, like, scale or 1.0, least
        self.tol = None if tol is None else check.scalar("tol", tol, low=0.0)

    @abstractmethod
    def value(self, W: Array) -> Array: ...

    @abstractmethod
    def gradient(self, W: Array) -> Array: ...

    @abstractmethod
    def factors(self, layers: tuple[Array, ...]) -> tuple[Array, Array]: ...

    def gradients(self, layers: tuple[Array, ...]) -> tuple[Array, ...]:
        """Derivatives in the factors."""
        return layer_gradients(layers, self.gradient(multiplied(layers)))

    def stop(self, layers: tuple[Array, ...]) -> Array:
        """Gap to the least value, relative."""
        return (self.value(multiplied(layers)) - self.least) / self.scale

    def finish(self, layers: tuple[Array, ...]) -> dict[str, Any]:
        """Certificate: the gap to the least value."""
        fun = float(self.value(multiplied(layers)))
        left, right = self.factors(layers)
        error = linalg.norm(left @ right.T - self.like, xp=self.xp) / linalg.norm(self.like, xp=self.xp)
        note = f"least value {self.least:.6g} known in closed form"
        return {
            "certificate": Certificate(
                "duality_gap", max(fun - self.least, 0.0), scale=self.scale, tol=self.tol, note=note
            ),
            "fun": fun,
            "factors": (left, right),
            "matrix": LowRankMatrix(left, right),
            "rank": left.shape[1],
            "relative_residual": float(error),
            "identifiability": None,
        }


class Square(_Known):
    """``|W - M|^2 / 2`` with the matrix given in full; the least value is that of the truncated decomposition."""

    curvature = 1.0

    def __init__(self, M: Array, rank: int, tol: Any, xp: Any) -> None:
        s = linalg.svd(M, xp=xp)[1]
        self.size = float(s[0]) or 1.0
        super().__init__(M, 0.5 * float(xp.sum(s * s)), 0.5 * float(xp.sum(s[rank:] ** 2)), tol, xp)

    def value(self, W: Array) -> Array:
        """Loss."""
        return 0.5 * self.xp.sum((W - self.like) ** 2)

    def gradient(self, W: Array) -> Array:
        """Derivative in the product."""
        return W - self.like

    def factors(self, layers: tuple[Array, ...]) -> tuple[Array, Array]:
        """Two factors of the answer."""
        if len(layers) > 1:
            return layers[0], multiplied(layers[1:]).T
        return layers[0], self.xp.eye(layers[0].shape[1], dtype=self.like.dtype, device=self.like.device)


class BuresWasserstein(_Known):
    """Squared Bures-Wasserstein distance of ``W W'`` and a covariance; the least value is the sum of its tail."""

    curvature = 2.0

    def __init__(self, covariance: Array, rank: int, smoothing: float, tol: Any, xp: Any) -> None:
        w, V = linalg.eigh(0.5 * (covariance + covariance.T), xp=xp)
        top = float(w[-1])
        slack = 1e3 * float(xp.finfo(w.dtype).eps)
        if float(w[0]) < -slack * abs(top):
            raise check.error("y", f"an eigenvalue {float(w[0]):.3g}", "a positive semidefinite covariance")
        w = xp.where(w > 0, w, xp.zeros_like(w))
        self.root, self.smoothing, self.size = (V * w**0.5) @ V.T, smoothing, math.sqrt(top) if top > 0 else 1.0
        self.trace = float(xp.sum(w))
        super().__init__(covariance, self.trace, float(xp.sum(w[: w.shape[0] - rank])), tol, xp)

    def value(self, W: Array) -> Array:
        """Squared distance, without smoothing."""
        return (
            self.trace + self.xp.sum(W * W) - 2.0 * self.xp.sum(linalg.svd(self.root @ W, xp=self.xp, check=False)[1])
        )

    def gradient(self, W: Array) -> Array:
        """Derivative in the product; a subgradient where ``root W`` loses rank, unless smoothed."""
        U, s, Vt = linalg.svd(self.root @ W, xp=self.xp, check=False)
        if self.smoothing:
            U = U * (s / self.xp.sqrt(s * s + self.smoothing * self.scale))
        return 2.0 * (W - self.root @ (U @ Vt))

    def factors(self, layers: tuple[Array, ...]) -> tuple[Array, Array]:
        """The product, twice."""
        W = multiplied(layers)
        return W, W


@supports(backends=("numpy", "cupy", "torch", "strict"))
def deep_factorization(
    A: Any,
    y: Any,
    *,
    rank: int | None = None,
    depth: int = 2,
    loss: str = "square",
    smoothing: float = 0.0,
    dynamics: str = "layers",
    alpha: float = 0.1,
    noise: float = 0.0,
    init: Any = None,
    step: float = 0.5,
    tol: float | str | None = "auto",
    maxiter: int = 20_000,
    check_every: int = 20,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Fit a product of several matrices by gradient descent on the factors.

    With ``W = W_1 W_2 ... W_N``, minimises ``|A(W) - y|^2 / 2``, or the Bures-Wasserstein distance between ``W W'`` and
    a covariance
    :math:`\Sigma`: :math:`\mathrm{tr}\,\Sigma + \|W\|_F^2 - 2 \|\Sigma^{1/2} W\|_*`, the optimal-transport distance of
    two centred Gaussians, squared.

    Parameters
    ----------
    A : SensingOperator, array of shape (m, n1, n2), or None
        What measures; None: ``y`` is the matrix itself. Must be None for the Bures-Wasserstein loss.
    y : array, shape (m,), (n1, n2) or (n, n)
        Measurements, matrix, or covariance.
    rank : int, optional
        Width k of the factors; by default as large as the matrix.
    depth : int
        Number N of factors. A single one has no inner width: with the square loss it is the matrix itself.
    loss : {"square", "bures_wasserstein"}
        With the second, W is n x k: the model generates ``W z`` from standard normal ``z``.
    smoothing : float
        Replaces singular values s of ``Sigma^{1/2} W`` by ``sqrt(s^2 + smoothing tr Sigma)`` in the gradient, so that
        it exists where they vanish.
    dynamics : {"layers", "product"}
        Gradient descent on the factors, or on W by the rule that their product follows in the limit of small steps from
        a balanced start; see `end_to_end`.
    alpha : float
        Singular values of the balanced random start, in units of the size of the answer.
    noise : float
        Norm of the noise in measurements ``y``, if known: a residual of that size ends the run.
    init : tuple of N arrays, array, SensingResult or state, optional
        Factors to start from; a product, which is split evenly; or a result to continue.
    step : float
        Step size, in units of one over the curvature at balanced factors of the size of the answer.
    tol : float, "auto" or None
        With ``A``, the relative residual to stop at (``"auto"``: 1e-12, and 1e-5 for float32). Without, the gap to the
        least value in units of the loss at zero (``"auto"``: 1e-10 and 1e-5). None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`.
    rng : seed or Generator, optional
        Of the random start.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    SensingResult
        ``x`` are the factors. ``matrix`` is W, or the covariance ``W W'`` of the Bures-Wasserstein loss.

    Raises
    ------
    TypeError, ValueError
        For invalid input; see `recover`.

    Notes
    -----
    Stopping: relative residual at most ``tol``; one above 1000 counts as breakdown. Where all is known, the least value
    over matrices of rank k is too: the sum of the discarded eigenvalues of the covariance, or half that of the squared
    singular values; the certificate is the gap to it, which shows where a run ended in a saddle.

    Cost: one forward and one adjoint pass an iteration in factored form, and O(N n k^2); with ``dynamics="product"`` or
    one factor the dense matrix and, for the former, its singular value decomposition. The Bures-Wasserstein loss needs
    the root of the covariance once and a thin decomposition of n x k an iteration.

    Depth keeps small singular values small for longer: with few measurements and a small start, a full-width deep
    product finds matrices of low rank. It is slow: for answers use `recover`.

    References
    ----------
    S. Arora, N. Cohen, W. Hu, Y. Luo, Implicit regularization in deep matrix factorization, NeurIPS 2019. P. Brechet,
    K. Papagiannouli, J. An, G. Montufar, Critical points and convergence analysis of generative deep linear networks
    trained with Bures-Wasserstein loss, ICML 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import deep_factorization
    >>> res = deep_factorization(None, np.diag([3.0, 2.0, 1.0]), rank=2, loss="bures_wasserstein", rng=0)
    >>> res.success, round(res.fun, 6)
    (True, 1.0)
    """
    check.option("loss", loss, ("square", "bures_wasserstein"))
    check.option("dynamics", dynamics, ("layers", "product"))
    depth = check.scalar("depth", depth, low=1, integer=True)
    smoothing = check.scalar("smoothing", smoothing, low=0.0)
    alpha = check.scalar("alpha", alpha, low=0.0, low_open=True, fix="the factors 0 are a stationary point")
    length = check.scalar("step", step, low=0.0, low_open=True)
    if loss != "square" and A is not None:
        raise check.error("A", type(A).__name__, f'None with loss="{loss}": y is the covariance', kind=TypeError)
    if smoothing and loss == "square":
        raise check.error("smoothing", smoothing, 'zero with loss="square"')
    problem: Any
    if A is not None:
        prepared = prepare(A, y, tol=tol, noise=noise)
        problem, xp, shape = (prepared.A, prepared.y), prepared.xp, prepared.A.matrix_shape
        width = min(shape) if rank is None else check_rank(rank, prepared.A)
        model: Any = Measured(prepared, min(shape) if depth == 1 else width)
    else:
        if noise:
            raise check.error("noise", noise, "zero if y is the matrix itself")
        xp, device, dtype = check.common(y=y)
        y = check.array("y", y, xp=xp, ndim=2, dtype=dtype, device=device)
        if 0 in y.shape or (loss != "square" and y.shape[0] != y.shape[1]):
            raise check.error("y", f"shape {tuple(y.shape)}", "a matrix" if loss == "square" else "a square matrix")
        shape, problem = tuple(y.shape), (y,)
        limit = min(shape)
        width = limit if rank is None else check.scalar("rank", rank, low=1, high=limit, integer=True)
        if loss == "square":
            model = Square(y, limit if depth == 1 else width, tol, xp)
        else:
            model, shape = BuresWasserstein(y, width, smoothing, tol, xp), (shape[0], width)
    eta = length / (model.curvature * balanced_curvature(model.size, depth))
    width = min(width, *shape)
    start, state = prepare_init(init, LayersState)
    if state is None:
        if start is None:
            W = _random_start(shape, width, alpha * model.size, rng, model.like, xp)
        layers = _given(start, shape, width, depth, model.like, xp) if start is not None else None
        if layers is None:
            layers = (W,) if dynamics == "product" else split_evenly(W, width, depth, xp)
        elif dynamics == "product":
            layers = (multiplied(layers),)
        state = _packed(layers, 0, xp)

    def steps(state: LayersState) -> Steps:
        nit = state.nit
        while True:
            layers = state.layers()

            def distance(layers: tuple[Array, ...] = layers) -> float:
                value = float(model.stop(layers))
                if value > DIVERGED:
                    step.status = Status.BREAKDOWN
                return value

            step = Step(layers, nit, state, stop=distance, counts={"passes": 2 * nit})
            yield step
            slopes = model.gradients(layers)
            if dynamics == "product":
                slopes = (product_direction(layers[0], slopes[0], depth, xp),)
            nit += 1
            state = _packed(tuple(w - eta * g for w, g in zip(layers, slopes, strict=True)), nit, xp)

    return run(
        steps, state=state, like=model.like, xp=xp, method="deep_factorization",
        finish=lambda last: model.finish(last.state.layers()), tol=model.tol, result_class=SensingResult,
        problem=(*problem, width, depth, loss, smoothing, dynamics, length), maxiter=maxiter, check_every=check_every,
        callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip


def _random_start(shape: tuple[int, int], width: int, size: float, rng: Any, like: Array, xp: Any) -> Array:
    """A random matrix with ``width`` singular values ``size``."""
    rng = random.as_generator(rng)
    U, V = (linalg.qr(random.normal(rng, (n, width), like=like), xp=xp)[0] for n in shape)
    return size * (U @ V.T)


def _given(start: Any, shape: tuple[int, int], width: int, depth: int, like: Array, xp: Any) -> tuple[Array, ...]:
    """Factors given by the user, or a product to be split."""
    made = {"xp": xp, "dtype": like.dtype, "device": like.device}
    if isinstance(start, (tuple, list)) and len(start) == depth and getattr(start[0], "ndim", 0) == 2:
        sizes = (shape[0], *(width for _ in range(depth - 1)), shape[1])
        return tuple(check.array("init", w, shape=sizes[j : j + 2], **made) for j, w in enumerate(start))
    return split_evenly(check.array("init", start, shape=shape, **made), width, depth, xp)
