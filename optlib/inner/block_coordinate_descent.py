r"""Block coordinate descent for the group lasso: working sets by greedy rules, exact block steps, duality gaps."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Result, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, asarray_like, kernel, linalg, scatter, supports, to_numpy
from optlib.inner.coordinate_descent import EXACT, INEXACT, PATIENCE, RIDGE, ROUNDING, multiple
from optlib.inner.design import Design, definite_solve, make_samples, top

RULES = ("gs", "gsl", "gsq")
LEAST = 20  # groups of a working set
SWEEPS, CYCLES = 20, 50
HALVINGS = 5  # of a Newton step
NEWTON = 60  # steps for the norm of a block, far more than it takes


class BlockState(NamedTuple):
    """State of `block_coordinate_descent`: coefficients, residual, ``A' r - l2 y``, gap, and counts."""

    y: Array
    r: Array
    g: Array
    gap: float
    sweeps: int
    passes: int
    nit: int


@kernel(numba="optlib.inner._coordinates_numba:sweep_groups", match="iterate")
def sweep_groups(
    gram: Array, curvature: Array, starts: Array, g: Array, y: Array, l1: Array, count: int, limit: float, *, xp: Any
) -> tuple[Array, Array, int]:
    """Do cyclic sweeps of exact block steps for ``y' H y / 2 - c' y + sum_b l1_b |y_b|`` with diagonal blocks of H.

    Parameters
    ----------
    gram : array, shape (k, k)
        The matrix H.
    curvature : array, shape (k,)
        Its diagonal.
    starts : integer array, shape (b + 1,)
        Where the blocks begin; the last entry is k.
    g : array, shape (k,)
        Negative gradient ``c - H y``.
    y : array, shape (k,)
        Coefficients.
    l1 : array, shape (b,)
        Penalties of the norms of the blocks.
    count : int
        Largest number of sweeps.
    limit : float
        End after a sweep in which no block changed the fit by more than this.
    xp : module
        Namespace.

    Returns
    -------
    g : array, shape (k,)
        Negative gradient.
    y : array, shape (k,)
        Coefficients.
    done : int
        Number of sweeps.
    """
    ends, done = [int(v) for v in to_numpy(starts)], 0
    blocks = [y[a:b] for a, b in pairwise(ends)]
    while done < count:
        done, moved = done + 1, 0.0
        for k, (a, b) in enumerate(pairwise(ends)):
            h = curvature[a:b]
            new = block_minimiser(g[a:b] + h * blocks[k], h, l1[k], xp)
            change = new - blocks[k]
            g, blocks[k] = g - gram[:, a:b] @ change, new
            moved = max(moved, float(xp.sqrt(xp.sum(h * change * change))))
        if moved <= limit:
            break
    return g, xp.concat(blocks) if blocks else y, done


def block_minimiser(c: Array, h: Array, l1: Array, xp: Any) -> Array:
    """Minimiser of ``sum_i h_i v_i^2 / 2 - c_i v_i + l1 |v|``: ``v_i = c_i t / (h_i t + l1)`` with ``t = |v|``.

    The norm t is the root of ``1 / |c / (h t + l1)| - 1``, which is increasing and concave, so that Newton steps from
    0 rise to it.
    """
    size = float(linalg.norm(c, xp=xp))
    least = float(l1)
    if size <= least or not bool(xp.any(h > 0.0)):
        return xp.zeros_like(c)
    t = 0.0
    for _ in range(NEWTON):
        d = h * t + l1
        q = c / d
        square = float(xp.sum(q * q))
        slope = float(xp.sum(q * q * h / d))
        step = square * (square**0.5 - 1.0) / slope
        t += step
        if step <= 4.0 * float(xp.finfo(c.dtype).eps) * t:
            break
    return c * t / (h * t + l1)


def newton_step(gram: Array, blocks: Array, count: int, g: Array, y: Array, l1: Array, xp: Any) -> tuple[Array, Array]:
    """One Newton step on the blocks that are not zero, where the objective is smooth; shortened until it descends.

    With ``u = y_b / |y_b|`` the Hessian of the norm of a block is ``(I - u u') / |y_b|``.

    Parameters
    ----------
    gram : array, shape (k, k)
        The matrix H of `sweep_groups`.
    blocks : integer array, shape (k,)
        The block of each entry.
    count : int
        Number of blocks.
    g, y : array, shape (k,)
        Negative gradient of the quadratic part, coefficients.
    l1 : array, shape (count,)
        Penalties of the norms.
    xp : module
        Namespace.

    Returns
    -------
    g, y : array, shape (k,)
        After the step.
    """

    def norms(v: Array, labels: Array) -> Array:
        return xp.sqrt(scatter.segment_sum(v * v, labels, count, xp=xp))

    support = xp.nonzero(xp.take(norms(y, blocks), blocks) > 0.0)[0]
    if support.shape[0] == 0 or support.shape[0] > EXACT:
        return g, y
    labels, own, pull = (xp.take(v, support) for v in (blocks, y, g))
    G = xp.take(xp.take(gram, support, axis=0), support, axis=1)
    size, weight = xp.take(norms(own, labels), labels), xp.take(l1, labels)
    u, bend = own / size, weight / size
    eye = xp.eye(own.shape[0], dtype=own.dtype, device=own.device)
    same = xp.astype(labels[:, None] == labels[None, :], own.dtype)
    H = G + (bend + RIDGE * xp.mean(xp.linalg.diagonal(G))) * eye - bend[:, None] * u[:, None] * u[None, :] * same
    d = definite_solve(H, pull - weight * u, xp=xp)
    slope, square = float(xp.sum((pull - weight * u) * d)), float(xp.sum(d * (G @ d)))
    linear, before, t = float(xp.sum(pull * d)), norms(own, labels), 1.0
    for _ in range(HALVINGS):
        rise = float(xp.sum(l1 * (norms(own + t * d, labels) - before)))
        if -t * linear + 0.5 * t * t * square + rise <= -1e-4 * t * slope < 0.0:
            change = scatter.add_at(xp.zeros_like(y), support, t * d, xp=xp)
            return g - gram @ change, y + change
        t *= 0.5
    return g, y


@supports(backends=("numpy", "torch", "strict"), sequential=True)
def block_coordinate_descent(
    A: Any,
    b: Any,
    groups: Any,
    l1: Any,
    *,
    l2: float = 0.0,
    rule: str = "gsq",
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
    r"""Fit a group lasso: whole groups of coefficients are zero or not.

    Minimise ``|b - A x|^2 / (2 n) + sum_k l1_k |x_k| + l2 |x|^2 / 2`` with Euclidean norms of the groups ``x_k``.

    Parameters
    ----------
    A : array or SciPy sparse matrix, shape (n, p)
        Samples.
    b : array, shape (n,)
        Targets.
    groups : int or sequence of int, length p
        Size of groups of consecutive features (the last one may be smaller), or the number 0, 1, ... of the group of
        each feature.
    l1 : float or array, shape (number of groups,)
        Penalties > 0 of the norms; for groups of different sizes usually proportional to the roots of these.
    l2 : float
        Penalty >= 0 of the halved square.
    rule : {"gsq", "gsl", "gs"}
        What the score of a group in the choice of the working set is: the decrease of the objective by the best step of
        that group alone, the squared subgradient over the largest curvature of the group, or the squared subgradient.
    intercept : bool
        Whether to add a constant without penalty.
    sample_weight : array, shape (n,), optional
        Weights >= 0 of the squared errors; only their ratios matter.
    init : array, Result or BlockState, optional
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
    The features of each group are rotated to the axes of its Gram matrix, which changes neither norm nor fit: then a
    block step is exact for the price of a scalar equation. A round takes the groups with the highest scores (twice as
    many as there are nonzero ones, at least 20), sweeps over them on their Gram matrix, with a Newton step on the
    nonzero ones after every 20 sweeps, until the gap of the small problem is a third of what is wanted, and looks at
    all groups.

    Stopping: see ``tol``.

    Cost: n p times the size of a group once; a round one product ``A' r``, the Gram matrix of the working set, and
    sweeps of as many operations as it has entries.

    Where not to use it: for groups of one feature, where `coordinate_descent` also has exact steps on the support.

    References
    ----------
    J. Nutini, I. Laradji, M. Schmidt, Let's make block coordinate descent converge faster, JMLR 2022 (greedy rules).
    M. Yuan, Y. Lin, Model selection and estimation in regression with grouped variables, JRSSB 2006. Z. Qin,
    K. Scheinberg, D. Goldfarb, Efficient block-coordinate descent algorithms for the group lasso, 2013 (the scalar
    equation).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.inner import block_coordinate_descent
    >>> res = block_coordinate_descent(np.eye(4), np.array([3.0, 4.0, 0.3, 0.4]), 2, 0.25)
    >>> res.success, res.x.round(6)
    (True, array([2.4, 3.2, 0. , 0. ]))
    """
    check.option("rule", rule, RULES)
    goal = 0.0 if tol is None else check.scalar("tol", tol, low=0.0)
    start, state = prepare_init(init, BlockState)
    design = make_samples(A, b, sample_weight).design(intercept=intercept)
    xp, (n, p) = design.xp, design.shape
    blocks = Blocks(design, groups, n * check.scalar("l2", l2, low=0.0))
    w1 = n * blocks.penalty(l1)
    zero = xp.zeros_like(design.means)
    if start is not None:
        start = check.array("init", start, xp=xp, shape=(p,), dtype=zero.dtype, device=zero.device)
    if state is None:
        y = zero if start is None else start
        r = design.residual(y)
        g = design.columns.correlate(r) - blocks.l2 * y
        state = BlockState(y, r, g, blocks.gap(r, y, g, w1), 0, 1, 0)
    scale = 0.5 * float(xp.sum(design.b * design.b))

    def steps(s: BlockState) -> Steps:
        while True:
            yield Step(
                x=s.y, nit=s.nit, state=s, stop=lambda s=s: s.gap / (scale or 1.0),
                counts={"sweeps": s.sweeps, "products": s.passes},
            )  # fmt: skip
            s = blocks.advance(s, w1, goal * scale, rule)

    def finish(step: Step) -> dict[str, Any]:
        s = step.state
        value = 0.5 * xp.sum(s.r * s.r) + xp.sum(w1 * blocks.norms(s.y)) + 0.5 * blocks.l2 * xp.sum(s.y * s.y)
        certificate = Certificate("duality_gap", s.gap / n, scale=scale / n, tol=tol)
        return {"certificate": certificate, "fun": float(value) / n, "intercept": design.intercept(s.y)}

    return run(
        steps, state=state, like=design.b, xp=xp, method="block_coordinate_descent", finish=finish, tol=tol,
        maxiter=maxiter, check_every=check_every, callback=callback, record=record, max_time=max_time, disp=disp,
        checkpoint=checkpoint, problem=(design.b, design.means, design.columns.squares, w1, blocks.l2, rule),
        patience=None if tol is None else PATIENCE,
    )  # fmt: skip


class Blocks:
    """Groups of features of a design, with the axes of their Gram matrices."""

    def __init__(self, design: Design, groups: Any, l2: float) -> None:
        self.design, self.xp, self.l2 = design, design.xp, l2
        xp, p = self.xp, design.shape[1]
        labels = _labels(groups, p)
        self.count = int(labels.max()) + 1 if p else 0
        device = design.means.device
        self.labels = xp.asarray(labels, device=device)
        self.members = [xp.asarray(np.flatnonzero(labels == k), device=device) for k in range(self.count)]
        self.axes, curvatures = [], xp.zeros_like(design.means)
        for index in self.members:
            values, vectors = linalg.eigh(design.columns.take(index).gram(), xp=xp)
            self.axes.append(vectors)
            curvatures = scatter.add_at(curvatures, index, xp.maximum(values, xp.zeros_like(values)), xp=xp)
        self.curvatures = curvatures  # of the rotated features, where the members are
        self.longest = asarray_like([float(xp.max(xp.take(curvatures, index))) for index in self.members], design.means)

    def penalty(self, l1: Any) -> Array:
        """Check the penalty and spread it over the groups."""
        like = self.design.means
        found = check.array("l1", l1, xp=self.xp, dtype=like.dtype, device=like.device)
        if found.ndim and tuple(found.shape) != (self.count,):
            raise check.error("l1", f"shape {tuple(found.shape)}", f"a number, or shape ({self.count},)")
        found = found + self.xp.zeros((self.count,), dtype=like.dtype, device=like.device)
        if self.count and not float(self.xp.min(found)) > 0.0:
            raise check.error("l1", float(self.xp.min(found)), "numbers > 0")
        return found

    def norms(self, v: Array) -> Array:
        """Norms of the groups of a vector of the features."""
        return self.xp.sqrt(scatter.segment_sum(v * v, self.labels, self.count, xp=self.xp))

    def gap(self, r: Array, y: Array, g: Array, l1: Array) -> float:
        """Duality gap, in the units of ``|b - A y|^2 / 2``: see `coordinate_descent`."""
        xp = self.xp
        ridge = self.l2 * xp.sum(y * y)
        return multiple(self.design.b, r, ridge, self.norms(g), l1, xp.sum(l1 * self.norms(y)), xp)

    def scores(self, s: BlockState, l1: Array, rule: str) -> Array:
        """How much the groups promise; infinite for those that are not zero."""
        xp = self.xp
        violation = xp.maximum(self.norms(s.g) - l1, xp.zeros_like(l1))
        found = violation * violation
        top_curvature = xp.where(self.longest + self.l2 > 0.0, self.longest + self.l2, xp.ones_like(l1))
        if rule != "gs":
            found = found / top_curvature
        if rule == "gsq":
            exact = []
            for k, index in enumerate(self.members):
                c = xp.take(s.g, index) @ self.axes[k]
                h = xp.take(self.curvatures, index) + self.l2
                v = block_minimiser(c, h, l1[k], xp) if float(violation[k]) > 0.0 else xp.zeros_like(c)
                exact.append(xp.sum(c * v - 0.5 * h * v * v) - l1[k] * linalg.norm(v, xp=xp))
            found = xp.stack(exact) if exact else found
        return xp.where(self.norms(s.y) > 0.0, xp.full_like(found, float("inf")), found)

    def advance(self, s: BlockState, l1: Array, target: float, rule: str) -> BlockState:
        """One round: choose groups, sweep over them on their Gram matrix, look at all groups."""
        xp, design = self.xp, self.design
        used = int(xp.sum(xp.astype(self.norms(s.y) > 0.0, xp.int64)))
        chosen = top(self.scores(s, l1, rule), min(self.count, max(LEAST, 2 * used)), xp=xp)
        places = [self.members[int(k)] for k in to_numpy(chosen)]
        axes = [self.axes[int(k)] for k in to_numpy(chosen)]
        starts = np.concatenate([[0], np.cumsum([index.shape[0] for index in places])]).astype(np.int64)
        index = xp.concat(places)
        columns, w1 = design.columns.take(index), xp.take(l1, chosen)
        size = index.shape[0]
        turn = _rotation(axes, starts, size, design.means, xp)
        eye = xp.eye(size, dtype=design.b.dtype, device=design.b.device)
        gram = xp.matrix_transpose(turn) @ columns.gram() @ turn + self.l2 * eye
        y = xp.take(s.y, index) @ turn
        g = xp.take(s.g, index) @ turn
        curvature = xp.linalg.diagonal(gram) + xp.zeros_like(y)
        edges = xp.asarray(starts, device=design.b.device)
        goal, small, sweeps = INEXACT * max(target, 0.1 * s.gap), float("inf"), s.sweeps
        rounding = 10.0 * float(xp.finfo(y.dtype).eps * linalg.norm(design.b, xp=xp))
        unit = ROUNDING * float(xp.sum(design.b * design.b))
        blocks = xp.asarray(np.repeat(np.arange(len(places)), np.diff(starts)), device=design.b.device)
        r = s.r
        for _ in range(CYCLES):
            before_y = y
            g, y, done = sweep_groups(gram, curvature, edges, g, y, w1, SWEEPS, rounding, xp=xp)
            sweeps += done
            g, y = newton_step(gram, blocks, len(places), g, y, w1, xp)
            r = r - columns.combine(turn @ (y - before_y))
            sizes = [xp.sqrt(scatter.segment_sum(v * v, blocks, len(places), xp=xp)) for v in (g, y)]
            before, small = (
                small,
                multiple(design.b, r, self.l2 * xp.sum(y * y), sizes[0], w1, xp.sum(w1 * sizes[1]), xp),
            )
            if done < SWEEPS or small <= goal or (small <= unit and small > 0.5 * before):
                break
        whole = scatter.add_at(xp.zeros_like(s.y), index, turn @ y, xp=xp)
        g = design.columns.correlate(r) - self.l2 * whole
        return BlockState(whole, r, g, self.gap(r, whole, g, l1), sweeps, s.passes + 1, s.nit + 1)


def _labels(groups: Any, p: int) -> np.ndarray:
    """The number of the group of each feature."""
    if isinstance(groups, (int, np.integer)) and not isinstance(groups, bool):
        size = check.scalar("groups", groups, low=1, integer=True)
        return np.arange(p) // size
    labels = np.asarray(to_numpy(groups))
    if labels.dtype.kind not in "iu" or labels.shape != (p,):
        raise check.error("groups", f"{labels.dtype} of shape {labels.shape}", f"a size, or {p} whole numbers")
    if p and not np.array_equal(np.unique(labels), np.arange(labels.max() + 1)):
        raise check.error("groups", f"numbers {np.unique(labels)[:5].tolist()}", "0, 1, ... without gaps")
    return labels.astype(np.int64)


def _rotation(axes: list[Array], starts: np.ndarray, size: int, like: Array, xp: Any) -> Array:
    """Block-diagonal matrix of the axes."""
    rows = []
    for vectors, a, b in zip(axes, starts[:-1], starts[1:], strict=True):
        left = xp.zeros((int(b - a), int(a)), dtype=like.dtype, device=like.device)
        right = xp.zeros((int(b - a), size - int(b)), dtype=like.dtype, device=like.device)
        rows.append(xp.concat([left, vectors, right], axis=1))
    return xp.concat(rows, axis=0)
