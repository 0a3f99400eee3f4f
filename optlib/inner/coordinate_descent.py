r"""Coordinate descent for the lasso and the elastic net: working sets, exact steps in an orthant, duality gaps."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, kernel, linalg, scatter, supports
from optlib.inner.design import Design, make_samples, top

LEAST = 200  # features of a working set
SWEEPS = 20  # between two exact steps
FASTER = 32.0  # operations of an exact step in the time of one of a sweep, which does four an entry
CYCLES = 20  # of sweeps and exact steps on one working set
EXACT = 2000  # largest support on which a step is exact
DROPS = 3  # parts of an exact step, each of which brings a coefficient to zero
INEXACT = 0.3  # part of the gap to which a working set is solved
PATIENCE = 20  # rounds without progress
ROUNDING = 1e-12  # relative gap below which progress is not waited for
RIDGE = 1e-12  # of the mean diagonal, added to the matrix of an exact step


class Fit(NamedTuple):
    """Where the method is, in the units of ``|b - A y|^2 / 2``.

    Attributes
    ----------
    y, r, g : array
        Coefficients (p,), residual (n,), and ``A' r - l2 y`` (p,).
    gap : float
        Duality gap.
    sweeps, passes : int
        Sweeps over working sets, products with all of A.
    """

    y: Array
    r: Array
    g: Array
    gap: float
    sweeps: int
    passes: int


class CoordinateState(NamedTuple):
    """State of `coordinate_descent`."""

    fit: Fit
    nit: int


@supports(backends=("numpy", "torch", "strict"), sequential=True)
def coordinate_descent(
    A: Any,
    b: Any,
    l1: Any,
    *,
    l2: Any = 0.0,
    intercept: bool = False,
    sample_weight: Any = None,
    init: Any = None,
    tol: float | None = 1e-6,
    maxiter: int = 1000,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Fit a lasso, an elastic net, or either with a penalty for every feature.

    Minimise ``|b - A x|^2 / (2 n) + sum_j (l1_j |x_j| + l2_j x_j^2 / 2)``.

    Parameters
    ----------
    A : array or SciPy sparse matrix, shape (n, p)
        Samples. Dense NumPy arrays are fastest in Fortran order; sparse ones are never made dense.
    b : array, shape (n,)
        Targets.
    l1 : float or array, shape (p,)
        Penalties > 0 of absolute values.
    l2 : float or array, shape (p,)
        Penalties >= 0 of halved squares.
    intercept : bool
        Whether to add a constant without penalty.
    sample_weight : array, shape (n,), optional
        Weights >= 0 of the squared errors; only their ratios matter.
    init : array, Result or CoordinateState, optional
        Coefficients to start from, or a result to continue.
    tol : float or None
        Stop when the duality gap is at most ``tol`` times the objective at 0; None runs ``maxiter`` rounds.
    maxiter : int
        Largest number of rounds.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``x`` are the coefficients and ``intercept`` the constant. ``certificate`` of kind ``"duality_gap"``: the
        objective is at most that far from its minimum; its scale is the objective at 0.

    Raises
    ------
    TypeError, ValueError
        For invalid input, naming the argument.

    Notes
    -----
    A round takes the features whose correlation with the residual exceeds its penalty most (twice as many as there are
    coefficients, at least 200), in units of their norms, and solves the problem in these alone, until the gap of the
    small problem is a third of what is wanted: by cyclic sweeps, 20 and 20 more as long as they promise to get there
    sooner than an exact step, then by the exact minimiser with the signs at hand, up to where a coefficient becomes
    zero, and so on. Then it looks at all features.

    Stopping: see ``tol``.

    Cost of a round: one product ``A' r``, sweeps of 2 n operations a feature of the working set, and factors of the
    size of the support.

    Where not to use it: on a GPU, where coordinates one by one are slow; and where the support is larger than some
    thousands, where exact steps no longer pay and are left out.

    References
    ----------
    J. Friedman, T. Hastie, R. Tibshirani, Regularization paths for generalized linear models via coordinate descent,
    J. Stat. Softw. 2010. M. Massias, A. Gramfort, J. Salmon, Celer: a fast solver for the lasso with dual
    extrapolation, ICML 2018. J. Nutini, I. Laradji, M. Schmidt, Let's make block coordinate descent converge faster,
    JMLR 2022 (greedy rules, active sets).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import coordinate_descent
    >>> res = coordinate_descent(np.eye(3), np.array([3.0, -2.0, 0.5]), 1.0 / 3.0)
    >>> res.success, res.x.round(6)
    (True, array([ 2., -1.,  0.]))
    """
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    start, state = prepare_init(init, CoordinateState)
    design = make_samples(A, b, sample_weight).design(intercept=intercept)
    xp, (n, p) = design.xp, design.shape
    w1 = n * penalty("l1", l1, design, low_open=True)
    w2 = n * penalty("l2", l2, design)
    zero = xp.zeros_like(design.means)
    if start is not None:
        start = check.array("init", start, xp=xp, shape=(p,), dtype=zero.dtype, device=zero.device)
    if state is None:
        state = CoordinateState(begin(design, zero if start is None else start, w1, w2), 0)
    scale = 0.5 * float(xp.sum(design.b * design.b))

    def steps(s: CoordinateState) -> Steps:
        while True:
            yield Step(
                x=s.fit.y, nit=s.nit, state=s, stop=lambda s=s: s.fit.gap / (scale or 1.0),
                counts={"sweeps": s.fit.sweeps, "products": s.fit.passes},
            )  # fmt: skip
            s = CoordinateState(advance(design, s.fit, w1, w2, goal * scale), s.nit + 1)

    def finish(step: Step) -> dict[str, Any]:
        fit = step.state.fit
        value = 0.5 * xp.sum(fit.r * fit.r) + xp.sum(w1 * xp.abs(fit.y)) + 0.5 * xp.sum(w2 * fit.y * fit.y)
        certificate = Certificate("duality_gap", fit.gap / n, scale=scale / n, tol=tol)
        return {"certificate": certificate, "fun": float(value) / n, "intercept": design.intercept(fit.y)}

    return run(
        steps, state=state, like=design.b, xp=xp, method="coordinate_descent", finish=finish, tol=tol, maxiter=maxiter,
        check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp, checkpoint=checkpoint,
        problem=(design.b, design.means, design.columns.squares, w1, w2), patience=None if tol is None else PATIENCE,
    )  # fmt: skip


def penalty(name: str, value: Any, design: Design, *, low_open: bool = False) -> Array:
    """Check a penalty and spread it over the features."""
    xp, like = design.xp, design.means
    found = check.array(name, value, xp=xp, dtype=like.dtype, device=like.device)
    if found.ndim and tuple(found.shape) != tuple(like.shape):
        raise check.error(name, f"shape {tuple(found.shape)}", f"a number, or shape {tuple(like.shape)}")
    least = float(xp.min(found)) if found.ndim == 0 or like.shape[0] else 1.0
    if least < 0.0 or (low_open and least == 0.0):
        fix = "without the penalty of absolute values use `newton`" if low_open else ""
        raise check.error(name, least, f"numbers {'>' if low_open else '>='} 0", fix)
    return found + xp.zeros_like(like)


def begin(design: Design, y: Array, l1: Array, l2: Array) -> Fit:
    """Start from coefficients y: one product with A."""
    r = design.residual(y)
    g = design.columns.correlate(r) - l2 * y
    return Fit(y, r, g, duality_gap(design.b, r, y, g, l1, l2, design.xp), 0, 1)


def duality_gap(b: Array, r: Array, y: Array, g: Array, l1: Array, l2: Array, xp: Any) -> float:
    r"""Gap between ``P(y) = |r|^2 / 2 + sum_j (l1_j |y_j| + l2_j y_j^2 / 2)`` and the dual at a multiple of r.

    The elastic net is the lasso with the rows ``sqrt(l2) e_j`` added to A, whose residual is ``(r, -sqrt(l2) y)``; its
    dual is ``max <b, t> - |t|^2 / 2`` over ``|A_j' t| <= l1_j``, and t is the best feasible multiple of that residual
    up to the residual itself.
    """
    return multiple(b, r, xp.sum(l2 * y * y), xp.abs(g), l1, xp.sum(l1 * xp.abs(y)), xp)


def multiple(b: Array, r: Array, ridge: Array, sizes: Array, l1: Array, penalty: Array, xp: Any) -> float:
    """The gap for given sizes of ``A' r - l2 y``, by features or by groups, with penalties and their value at y."""
    square, along = xp.sum(r * r) + ridge, xp.sum(b * r)
    tiny = xp.asarray(xp.finfo(r.dtype).smallest_normal, dtype=r.dtype, device=r.device)
    most = xp.min(l1 / xp.maximum(sizes, l1)) if sizes.shape[0] else 1.0 + 0.0 * along
    scale = xp.maximum(xp.minimum(most, along / xp.maximum(square, tiny)), 0.0 * along)
    dual = scale * along - 0.5 * scale * scale * square
    return max(float(0.5 * square + penalty - dual), 0.0)


def advance(design: Design, fit: Fit, l1: Array, l2: Array, target: float) -> Fit:
    """One round: choose a working set, solve it to a part of the gap, look at all features.

    Parameters
    ----------
    design : Design
        The samples.
    fit : Fit
        Where to go on from.
    l1, l2 : array, shape (p,)
        Penalties in the units of ``|b - A y|^2 / 2``.
    target : float
        Gap wanted in the end: working sets are not solved more accurately than this asks.

    Returns
    -------
    Fit
    """
    xp, p = design.xp, design.shape[1]
    used = fit.y != 0.0
    infinite, lengths = xp.full_like(fit.g, float("inf")), xp.sqrt(design.columns.squares)
    scores = (xp.abs(fit.g) - l1) / xp.where(lengths > 0.0, lengths, xp.ones_like(lengths))  # distance to the face
    scores = xp.where(used, infinite, xp.where(lengths > 0.0, scores, -infinite))
    index = top(scores, min(p, max(LEAST, 2 * int(xp.sum(xp.astype(used, xp.int64))))), xp=xp)
    columns = design.columns.take(index)
    y, w1, w2 = (xp.take(u, index) for u in (fit.y, l1, l2))
    r, sweeps, goal = fit.r, fit.sweeps, INEXACT * max(target, 0.1 * fit.gap)
    rounding = 10.0 * float(xp.finfo(r.dtype).eps * linalg.norm(design.b, xp=xp))
    small, unit = float("inf"), ROUNDING * float(xp.sum(design.b * design.b))
    for _ in range(CYCLES):
        left, last = affordable(columns, y, xp), float("inf")
        while True:
            r, y, done = columns.sweep(r, y, w1, w2, SWEEPS, rounding)
            g, sweeps, left = columns.correlate(r) - w2 * y, sweeps + done, left - 1.0
            gap = duality_gap(design.b, r, y, g, w1, w2, xp)
            if done < SWEEPS or gap <= goal or left <= 0.0 or gap * (gap / last) ** left > goal:
                break
            last = gap
        if done < SWEEPS or gap <= goal:
            break
        r, y = orthant(columns, r, y, w1, w2, xp)
        g = columns.correlate(r) - w2 * y
        before, small = small, duality_gap(design.b, r, y, g, w1, w2, xp)
        if small <= goal or (small <= unit and small > 0.5 * before):
            break
    whole = scatter.add_at(xp.zeros_like(fit.y), index, y, xp=xp)
    g = design.columns.correlate(r) - l2 * whole
    return Fit(whole, r, g, duality_gap(design.b, r, whole, g, l1, l2, xp), sweeps, fit.passes + 1)


def affordable(columns: Any, y: Array, xp: Any) -> float:
    """How many times `SWEEPS` sweeps cost as much as an exact step."""
    support = float(xp.sum(xp.astype(y != 0.0, y.dtype)))
    length = columns.entries / y.shape[0]
    return support * support * (length + support) / (FASTER * SWEEPS * columns.entries)


def orthant(columns: Any, r: Array, y: Array, l1: Array, l2: Array, xp: Any) -> tuple[Array, Array]:
    """Minimise over the coefficients that are not zero, as far as their signs stay.

    The objective is quadratic there: see `signed_minimiser`. The objective never rises.
    """
    support = xp.nonzero(y)[0]
    if not 0 < support.shape[0] <= EXACT:
        return r, y
    drops = DROPS + max(0, support.shape[0] - r.shape[0])  # more coefficients than samples: most of the way is dropping
    part, w1, w2, old = columns.take(support), xp.take(l1, support), xp.take(l2, support), xp.take(y, support)
    rhs = part.correlate(r) - w2 * old - w1 * xp.sign(old)
    new = signed_minimiser(part.gram(), w2 + RIDGE * xp.mean(part.squares), rhs, old, drops, xp=xp)
    return r - part.combine(new - old), scatter.add_at(xp.zeros_like(y), support, new, xp=xp)


@kernel(numba="optlib.inner._coordinates_numba:signed_minimiser", match="iterate")
def signed_minimiser(gram: Array, ridge: Array, rhs: Array, y: Array, drops: int, *, xp: Any) -> Array:
    """Minimise ``d' (G + diag(ridge)) d / 2 - rhs' d`` over d as far as no entry of ``y + d`` changes its sign.

    The step goes up to where the first entry is zero, fixes it there, and begins again.

    Parameters
    ----------
    gram : array, shape (s, s)
        The matrix G.
    ridge : array, shape (s,)
        Added to its diagonal.
    rhs : array, shape (s,)
        Negative gradient at y.
    y : array, shape (s,)
        Coefficients, none of them zero.
    drops : int
        Largest number of steps.
    xp : module
        Namespace.

    Returns
    -------
    array, shape (s,)
        ``y + d``.
    """
    signs, kept, zero = xp.sign(y), xp.ones_like(y), xp.zeros_like(y)
    eye = xp.eye(y.shape[0], dtype=y.dtype, device=y.device)
    matrix = gram + ridge * eye
    for _ in range(drops):
        factor = linalg.cholesky(kept[:, None] * matrix * kept + (1.0 - kept) * eye, xp=xp, check=False)
        d = linalg.cho_solve(factor, kept * rhs, xp=xp)
        turns = d * signs < 0.0
        steps = xp.where(turns, -y / xp.where(turns, d, signs), 2.0 + zero)
        t = min(float(xp.min(steps)), 1.0)
        if not t >= 0.0:  # no factor
            break
        gone = steps <= t
        y, rhs = xp.where(gone, zero, y + t * d), rhs - t * (matrix @ d)
        if t == 1.0:
            break
        kept = xp.where(gone, zero, kept)
    return y
