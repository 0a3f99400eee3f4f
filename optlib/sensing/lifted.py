"""Lifting: spurious minima of rank-one recovery become saddles in a tensor space of higher order. Experimental."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Status, Step, Steps, prepare_init, run
from optlib._core import validation as check
from optlib.backend import Array, linalg, random, supports
from optlib.backend.random import asarray_like
from optlib.sensing._factored import finish_factored, largest_singular
from optlib.sensing._problem import prepare
from optlib.sensing.result import SensingResult

LARGEST = 2**24  # entries of the lifted matrix, and lifted measurements
FLAT = {64: 1e-7, 32: 1e-3}  # relative gradient at which a descent ends
LANCZOS = 200
ESCAPE = 1e-2  # relative size of the first step out of the lifted saddle


class LiftedState(NamedTuple):
    """State of `lifted`.

    Attributes
    ----------
    x : array, shape (n,)
        The vector, in units of the size of the answer.
    w : array
        What descends: the vector, or the lifted one.
    step : float
        Last step size.
    phase : int
        0: descent; 1: lifted descent; 2: descent from where that ended; 3: ended.
    flat, lifted : float or None
        Smallest curvature where the first descent ended, and of the lifted function there.
    nit : int
        Iterations.
    """

    x: Array
    w: Array
    step: float
    phase: int
    flat: float | None
    lifted: float | None
    nit: int


class Lift:
    """``h(w) = |A^(l) (w w') - y^(l)|^2``, where ``A^(l)`` measures each of the l pairs of indices of ``w w'`` by A.

    Parameters
    ----------
    rows : array, shape (m, n n)
        The measuring matrices as rows.
    y : array, shape (m,)
    level : int
    """

    def __init__(self, rows: Array, y: Array, level: int, xp: Any) -> None:
        self.rows, self.level, self.xp = rows, level, xp
        self.n = math.isqrt(rows.shape[1])
        self.y = y
        for _ in range(level - 1):
            self.y = xp.reshape(self.y[:, None] * y, (-1,))

    def lift(self, x: Array) -> Array:
        """The tensor power of a vector."""
        w = x
        for _ in range(self.level - 1):
            w = self.xp.reshape(w[:, None] * x, (-1,))
        return w

    def _measure(self, u: Array, v: Array) -> Array:
        xp, l, n = self.xp, self.level, self.n
        T = xp.reshape(u[:, None] * v, (n,) * (2 * l))
        T = xp.permute_dims(T, tuple(k + l * side for k in range(l) for side in (0, 1)))
        for _ in range(l):  # each product takes the first pair of indices away and puts a measurement at the end
            T = (self.rows @ xp.reshape(T, (n * n, -1))).T
        return xp.reshape(T, (-1,))

    def _adjoint(self, z: Array) -> Array:
        """The symmetric matrix that combines the lifted measuring matrices."""
        xp, l, n = self.xp, self.level, self.n
        T = z
        for _ in range(l):
            T = (self.rows.T @ xp.reshape(T, (self.rows.shape[0], -1))).T
        T = xp.permute_dims(xp.reshape(T, (n,) * (2 * l)), tuple(2 * k + side for side in (0, 1) for k in range(l)))
        Z = xp.reshape(T, (n**l, n**l))
        return 0.5 * (Z + Z.T)

    def value(self, w: Array) -> float:
        """The function h."""
        return float(self.xp.sum((self._measure(w, w) - self.y) ** 2))

    def gradient(self, w: Array) -> Array:
        """Derivative of h."""
        return 4.0 * (self._adjoint(self._measure(w, w) - self.y) @ w)

    def hessian(self, w: Array) -> Callable[[Array], Array]:
        """Product with the second derivative of h."""
        Z = self._adjoint(self._measure(w, w) - self.y)

        def product(v: Array) -> Array:
            change = self._measure(w, v) + self._measure(v, w)
            return 4.0 * (Z @ v + self._adjoint(change) @ w)

        return product

    def lowest(self, w: Array) -> tuple[float, Array]:
        """Smallest eigenvalue of the second derivative and its vector, by Lanczos iterations in full memory."""
        xp, product = self.xp, self.hessian(w)
        q = random.normal(random.as_generator(0), (w.shape[0],), like=w)
        basis = [q / linalg.norm(q, xp=xp)]
        diagonal: list[float] = []
        beside: list[float] = []
        while True:
            q = product(basis[-1])
            Q = xp.stack(basis, axis=1)
            diagonal.append(float(xp.sum(q * basis[-1])))
            for _ in range(2):
                q = q - Q @ (Q.T @ q)
            size = float(linalg.norm(q, xp=xp))
            full = len(basis) == min(w.shape[0], LANCZOS)
            if full or size <= 1e3 * float(xp.finfo(w.dtype).eps) * max(map(abs, diagonal)):
                break
            beside.append(size)
            basis.append(q / size)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        return float(values[0]), Q @ asarray_like(vectors[:, 0], w)


@supports(backends=("numpy", "cupy", "torch", "strict"))
def lifted(
    A: Any,
    y: Any,
    *,
    level: int = 3,
    alpha: float = 0.1,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 20_000,
    check_every: int = 10,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    rng: Any = None,
    checkpoint: Any = None,
) -> SensingResult:
    r"""Recover ``x x'`` where gradient descent ends in a spurious minimum, by descent in a tensor space.

    Experimental, for small sizes: the tensor has ``n^level`` entries, and its outer product is formed.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n, n)
        What measures.
    y : array, shape (m,)
        The measurements.
    level : int
        Order of the tensors, odd: even ones add spurious solutions.
    alpha : float
        Size of the random start, relative to the answer.
    init : (array, array), SensingResult or state, optional
        Vector to start from, twice as (n, 1), or a result to continue.
    tol : float, "auto" or None
        Relative residual to stop at; ``"auto"`` is 1e-12, and 1e-5 for float32. None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations, all descents together.
    check_every, callback, record, max_time, disp : optional
        See `optlib._core.run`.
    rng : seed or Generator, optional
        Of the random start.
    checkpoint : path, optional
        File to save the state to, and to continue from.

    Returns
    -------
    SensingResult
        Of rank one. ``curvatures`` are the smallest eigenvalues of the second derivatives of
        ``|A(x x') - y|^2`` and of the lifted function, where the first descent ended; None where that was the answer.

    Raises
    ------
    TypeError, ValueError
        For invalid input, and sizes that do not fit.

    Notes
    -----
    Stopping: relative residual at most ``tol``, or no way on from where it stands.

    Gradient descent with halved steps; where it ends with a residual, the point is lifted to its tensor power w, a
    stationary point of ``|A^(l)(w w') - y^(l)|^2``. If the second derivative has a negative eigenvalue there, descent
    goes on in the tensor space from a step along the eigenvector; the leading singular vector of the unfolded tensor is
    the start of a last descent. If it has none, the run ends as it is: a larger level may help.

    Cost of an iteration: O(n^{2 l}) memory and O(l m n^{2 l}) work.

    When not to use it: whenever something else works; try `recover` first, which has other ways out of such minima.

    References
    ----------
    Z. Ma, I. Molybog, J. Lavaei, S. Sojoudi, Over-parametrization via lifting for low-rank matrix sensing:
    conversion of spurious solutions to strict saddle points, ICML 2023. The reading back by an unfolding is this
    library's.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import DenseSensing, lifted
    >>> weight = np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 1.0], [0.5, 1.0, 1.0]])
    >>> A = DenseSensing(weight.ravel()[:, None, None] * np.eye(9).reshape(9, 3, 3))
    >>> z, start = np.array([1.0, 0.0, 1.0]), np.array([[1.0], [0.0], [-1.0]])
    >>> res = lifted(A, A.forward(np.outer(z, z)), init=(start, start))
    >>> res.success, tuple(round(c, 1) for c in res.curvatures)
    (True, (1.6, -5.4))
    """
    problem = prepare(A, y, psd=True, tol=tol)
    xp, n, m = problem.xp, problem.A.matrix_shape[0], problem.A.shape[0]
    level = check.scalar("level", level, low=1, integer=True)
    if level % 2 == 0:
        raise check.error("level", level, "an odd number", "even orders add spurious solutions")
    if max(n ** (2 * level), m**level) > LARGEST:
        got = f"{level} for matrices {n} x {n} and {m} measurements"
        raise check.error("level", got, f"n^(2 level) and m^level up to {LARGEST}", "a lower level")
    alpha = check.scalar("alpha", alpha, low=0.0, low_open=True, fix="zero is a stationary point")
    unit = largest_singular(problem)
    rows = problem.A._matvec(xp.eye(n * n, dtype=problem.A.dtype, device=problem.A.device))
    norm = float(linalg.norm(rows, xp=xp)) / n or 1.0  # measurements per unit: steps of order one
    scaled = problem.y * (1.0 / (unit * norm))
    plain, high = Lift(rows / norm, scaled, 1, xp), Lift(rows / norm, scaled, level, xp)

    start, state = prepare_init(init, LiftedState)
    if state is None:
        if start is None:
            x = random.normal(random.as_generator(rng), (n,), like=problem.y) * (alpha / math.sqrt(n))
        else:
            left = start[0] if isinstance(start, (tuple, list)) and len(start) == 2 else start
            given = {"xp": xp, "dtype": problem.A.dtype, "device": problem.A.device}
            x = check.array("init", left, shape=(n, 1), **given)[:, 0] * unit**-0.5
        state = LiftedState(x, x, 0.1, 0, None, None, 0)

    def read_back(w: Array) -> Array:
        """The vector whose tensor power is closest, in the size that fits best."""
        u = linalg.svd(xp.reshape(w, (n, -1)), xp=xp, check=False)[0][:, 0]
        image = plain._measure(u, u)
        square = xp.sum(image * image)
        amount = xp.sum(image * scaled) / xp.where(square > 0, square, xp.ones_like(square))
        return u * xp.sqrt(xp.where(amount > 0, amount, xp.zeros_like(amount)))

    def descend(lift: Lift, state: LiftedState) -> LiftedState:
        """A gradient step, halved until it lowers enough; the next phase where the gradient is small."""
        w, f, g = state.w, lift.value(state.w), lift.gradient(state.w)
        square = float(xp.sum(g * g))
        reference = float(xp.sum(lift.y**2)) or 1.0
        step = 2.0 * state.step
        while square > (FLAT[problem.bits] ** 2) * reference * max(f, float(xp.finfo(w.dtype).eps) ** 2 * reference):
            new = w - step * g
            if lift.value(new) <= f - 0.3 * step * square:
                x = new if lift.level == 1 else read_back(new)
                return state._replace(x=x, w=new, step=step, nit=state.nit + 1)
            step *= 0.5
            if step * math.sqrt(square) <= 1e-18 * float(linalg.norm(w, xp=xp)):
                break
        return moved(state)

    def moved(state: LiftedState) -> LiftedState:
        """Where one descent ended and the next begins."""
        state = state._replace(nit=state.nit + 1)
        if state.phase == 0 and level > 1:
            flat, _ = plain.lowest(state.w)
            w = high.lift(state.w)
            value, v = high.lowest(w)
            curvature = norm**2 * unit * flat, norm ** (2 * level) * unit**level * value
            phase = 1 if value < -1e-8 * abs(flat) else 3
            w = w + (ESCAPE * linalg.norm(w, xp=xp)) * v
            return state._replace(phase=phase, w=w, step=0.1, flat=curvature[0], lifted=curvature[1])
        if state.phase == 1:
            return state._replace(phase=2, w=state.x, step=0.1)
        return state._replace(phase=3)

    def steps(state: LiftedState) -> Steps:
        while True:
            factor = (state.x * unit**0.5)[:, None]
            yield Step(
                (factor, factor), state.nit, state, counts={"passes": 2 * state.nit},
                stop=lambda F=factor: problem.relative(problem.residual(F, F)),
                status=Status.STALLED if state.phase == 3 and problem.tol is not None else None,
            )  # fmt: skip
            if state.phase == 3:
                state = state._replace(nit=state.nit + 1)
            else:
                state = descend(high if state.phase == 1 else plain, state)

    def finish(last: Step) -> dict[str, Any]:
        state, (F, _) = last.state, last.x
        fields = finish_factored(problem, F, F)
        return {**fields, "curvatures": None if state.flat is None else (state.flat, state.lifted)}

    return run(
        steps, state=state, like=problem.y, xp=xp, method="lifted", finish=finish, tol=problem.target,
        result_class=SensingResult, problem=(problem.A, problem.y, level), maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
    )  # fmt: skip
