"""Dictionaries of product distributions learned with the Wasserstein loss: nonnegative CP factorisation."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from optlib._core import Certificate, Result, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, array_namespace, asarray_like, device_of, random, supports, to_numpy
from optlib.geometry import project_simplex
from optlib.transport import _descent as descent
from optlib.transport._grid import Histograms, conjugate, gap, soft_max
from optlib.transport._problem import check_reg
from optlib.transport._seeding import distant
from optlib.transport.passes import log_weights

INNER_GAP = 1e-2  # of the first sweep, in units of the range of the cost; it falls like the inverse square of the sweep
INNER_LIMIT, INNER_CHECK = 300, 5  # iterations of a subproblem, and how many pass between two looks at its gap
INNER_PATIENCE = 20  # looks without a smaller gap after which rounding is to blame


class DictionaryState(NamedTuple):
    """State of `WassersteinCPDictionary.fit`.

    Attributes
    ----------
    codes : array, shape (n, R)
        Mixture weights.
    factors : array, shape (R, I_1 + ... + I_d)
        The factors, side by side.
    potentials : array, shape (n, pixels)
        Dual variables of the mixtures.
    value, gaps : array, 0-d
        Upper bound of the sum of the losses, and what it is at most above it.
    nit, evaluations : int
        Sweeps; evaluations of a dual objective.
    """

    codes: Array
    factors: Array
    potentials: Array
    value: Array | None
    gaps: Array | None
    nit: int
    evaluations: int


class WassersteinCPDictionary:
    r"""Approximate distributions on a grid by mixtures of a few product distributions.

    Minimises ``mean_n W_reg(sum_r codes_nr u_r^1 x ... x u_r^d, X_n)`` over codes and factors with nonnegative entries
    that sum to one. The Wasserstein loss compares where the mass is, so that atoms may move to the mean place of
    features that lie in slightly different places in each sample, where entrywise losses blur.

    Parameters
    ----------
    n_components : int
        Number R of atoms.
    reg : float
        Strength > 0 of the entropy in the loss, in units of the cost.
    costs : sequence of arrays, shapes (I_k, I_k), optional
        Costs of the axes; the cost of the grid is their sum. By default squared distances on a grid whose longest side
        has length 1.
    prox : float
        Weight > 0 of the proximal term that ties each block to its last value, in units of the cost.

    Attributes
    ----------
    codes_ : array, shape (n, R)
        Mixture weights of the samples.
    factors_ : tuple of arrays, shapes (R, I_k)
        Marginals of the atoms along each axis.
    components_ : array, shape (R, I_1, ..., I_d)
        The atoms: products of their marginals.
    result_ : Result
        What `fit` has to report.

    Notes
    -----
    With one axis it is Wasserstein dictionary learning, as of Rolet, Cuturi and Peyre (2016).

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import WassersteinCPDictionary
    >>> t = np.arange(16)
    >>> bumps = np.exp(-0.5 * (t - np.array([[3.0], [12.0]])) ** 2)
    >>> X = np.random.default_rng(0).dirichlet([1.0, 1.0], 10) @ bumps
    >>> dictionary = WassersteinCPDictionary(2, reg=0.01).fit(X, rng=0)
    >>> dictionary.result_.success
    True
    >>> np.sort(np.argmax(dictionary.components_, axis=1))
    array([ 3, 12])
    """

    def __init__(self, n_components: int, *, reg: float, costs: Sequence[Any] | None = None, prox: float = 0.1) -> None:
        self.n_components = check.scalar("n_components", n_components, low=1, integer=True)
        self.reg = check_reg(reg)
        self.costs = costs
        self.prox = check.scalar("prox", prox, low=0.0, low_open=True)

    @supports(backends=("numpy", "cupy", "torch", "strict"))
    def fit(
        self,
        X: Any,
        *,
        init: Any = None,
        tol: float | str | None = "auto",
        maxiter: int = 200,
        check_every: int = 1,
        callback: Callable[..., Any] | None = None,
        record: bool | str = True,
        max_time: float | None = None,
        disp: int = 0,
        rng: Any = None,
        checkpoint: Any = None,
    ) -> "WassersteinCPDictionary":
        r"""Learn the dictionary of samples.

        Parameters
        ----------
        X : array, shape (n, I_1, ..., I_d)
            Samples, with nonnegative entries; each is divided by its sum.
        init : WassersteinCPDictionary, Result or state, optional
            A dictionary of other samples, whose factors to start from; or a result of the same problem to continue.
        tol : float, "auto" or None
            Stop when no change of a single block (the codes, or the factors of one axis) can lower the mean loss by
            more than this, in units of the range of the cost. ``"auto"`` is 5e-3; None runs ``maxiter`` sweeps.
        maxiter : int
            Largest number of sweeps over the blocks.
        check_every, callback, record, max_time, disp : optional
            See `optlib._core.run`.
        rng : seed or Generator, optional
            Chooses the samples at whose marginals the factors begin.
        checkpoint : path, optional
            File to save the state to, and to continue from.

        Returns
        -------
        WassersteinCPDictionary
            The estimator itself; ``result_`` has the report. Its ``fun`` is an upper bound of the mean loss, its
            ``dual_value`` a lower bound of the loss of the same dictionary; the history has ``fun`` and its ``gap``.

        Raises
        ------
        TypeError, ValueError
            For invalid input.

        Notes
        -----
        *Method.* Block coordinate descent with proximal regularisation: codes and factors in turn minimise the loss
        plus ``prox / 2`` times the squared distance from their last value. In each block the mixtures are linear, and
        the dual of the block problem is smooth and without constraints: one potential per sample, by L-BFGS, from the
        potentials of the block before. A subproblem ends when its duality gap is below ``1e-2 / k^2`` in sweep k (a
        summable sequence, in units of the range of the cost), or below a tenth of ``tol``. The objective falls from
        sweep to sweep, but for these gaps.

        *Stopping.* The Frank-Wolfe gap of each block at the final dictionary, plus the duality gap of the losses there:
        since the loss is convex in each block, this proves that no block can be improved by more. The whole problem is
        not convex: other starts give other dictionaries.

        *Cost.* An evaluation of a dual objective takes two soft maxima along each axis:
        ``2 n pixels (I_1 + ... + I_d)`` exponentials. The pixels x pixels cost is never formed. Memory for 20 arrays
        of the size of the samples.

        *Where not to use it.* Without noise in the places of the features the ordinary nonnegative factorisation finds
        the same atoms much faster. Many small sharp features need a ``reg`` so small that the subproblems become slow.

        References
        ----------
        D. Kwon, H. Lyu, Complexity of block coordinate descent with proximal regularization and applications to
        Wasserstein CP-dictionary learning, ICML 2023 (arXiv 2306.02420), algorithms 1 and 2. A. Rolet, M. Cuturi,
        G. Peyre, Fast dictionary learning with a smoothed Wasserstein loss, AISTATS 2016.
        """
        data, xp = self._histograms(X)
        if isinstance(tol, str) and tol == "auto":
            tol = 5e-3
        tol = None if tol is None else check.scalar("tol", tol, low=0.0)
        problem = _Blocks(data, self.n_components, self.prox, tol, xp)
        start, state = prepare_init(init, DictionaryState)
        if not (start is None or isinstance(start, WassersteinCPDictionary)):
            expected = "a dictionary, or a result of the same problem"
            raise check.error("init", type(init).__name__, expected, kind=TypeError)
        if state is None:
            factors = None if start is None else start._side_by_side(xp)
            state = _start(data, self.n_components, random.as_generator(rng), factors)
        shapes = (data.q.shape[0], self.n_components), (self.n_components, sum(data.shape))
        if (tuple(state.codes.shape), tuple(state.factors.shape)) != shapes:
            got = f"codes {tuple(state.codes.shape)}, factors {tuple(state.factors.shape)}"
            raise check.error("init", got, f"codes {shapes[0]}, factors {shapes[1]}")

        def finish(step: Step) -> dict[str, Any]:
            state, n = step.state, data.q.shape[0]
            value = float(problem.stationarity(state))
            return {
                "fun": float(state.value) / n,
                "dual_value": float(state.value - state.gaps) / n,
                "certificate": Certificate("stationarity", value, scale=problem.span, tol=tol),
            }

        self.result_ = run(
            problem.steps,
            state=state,
            like=data.q,
            xp=xp,
            method="wasserstein_cp_dictionary",
            finish=finish,
            tol=tol,
            maxiter=maxiter,
            check_every=check_every,
            callback=callback,
            record=record,
            max_time=max_time,
            disp=disp,
            checkpoint=checkpoint,
            problem=(data.q, data.shape, data.costs, self.n_components, self.reg, self.prox, tol),
            result_class=Result,
            patience=20,
        )
        self._shape = data.shape
        self.codes_, self.factors_ = self.result_.x[0], self.result_.x[1:]
        self.components_ = xp.reshape(_atoms(self.factors_, xp), (self.n_components, *data.shape))
        return self

    def transform(self, X: Any, *, tol: float = 5e-3, maxiter: int = 200) -> Array:
        """Mixture weights of other samples, for the learned atoms.

        Parameters
        ----------
        X : array, shape (n, I_1, ..., I_d)
            Samples.
        tol : float
            Wanted accuracy of the mean loss, in units of the range of the cost.
        maxiter : int
            Largest number of proximal steps.

        Returns
        -------
        array, shape (n, R)
            Codes, whose loss is proven to be within ``tol`` of the least one.

        Raises
        ------
        RuntimeError
            If the accuracy was not reached.
        """
        self._fitted()
        data, xp = self._histograms(X, self.codes_)
        if data.shape != self._shape:
            raise check.error("X", f"samples of shape {data.shape}", f"samples of shape {self._shape}")
        problem = _Blocks(data, self.n_components, self.prox, tol, xp)
        state = _start(data, self.n_components, None, self._side_by_side(xp))
        for nit in range(maxiter):
            state = problem.update(state, -1, nit + 1)
            if float(problem.improvement(state, (-1,))) <= tol * problem.span:
                return state.codes
        raise RuntimeError(f"transform: the codes are not within {tol:g} after {maxiter} steps; raise maxiter or reg.")

    def inverse_transform(self, codes: Any) -> Array:
        """Mixtures of the learned atoms.

        Parameters
        ----------
        codes : array, shape (n, R)
            Mixture weights.

        Returns
        -------
        array, shape (n, I_1, ..., I_d)
            Distributions.
        """
        self._fitted()
        xp, device, _ = check.common(codes_=self.codes_, codes=codes)
        codes = check.array(
            "codes", codes, xp=xp, shape=(None, self.n_components), dtype=self.codes_.dtype, device=device
        )
        return xp.reshape(codes @ _atoms(self.factors_, xp), (codes.shape[0], *self._shape))

    def _fitted(self) -> None:
        if not hasattr(self, "factors_"):
            got = "an estimator that was not fitted"
            raise check.error("WassersteinCPDictionary", got, "a fitted one", "call fit(X)")

    def _side_by_side(self, xp: Any) -> Array:
        self._fitted()
        return xp.concat(self.factors_, axis=1)

    def _histograms(self, X: Any, like: Any = None) -> tuple[Histograms, Any]:
        """Check samples and costs; divide each sample by its sum."""
        costs = () if self.costs is None else tuple(self.costs)
        named = {f"costs[{k}]": cost for k, cost in enumerate(costs)}
        xp, device, dtype = check.common(X=X, like=like, **named)
        dtype = dtype if like is None else like.dtype
        fix = "one nonnegative array per sample, along the first axis"
        X = check.array("X", X, xp=xp, nonnegative=True, dtype=dtype, device=device, fix=fix)
        if X.ndim < 2 or 0 in X.shape:
            raise check.error("X", f"shape {tuple(X.shape)}", "shape (n, I_1, ..., I_d) with d >= 1, not empty", fix)
        shape = tuple(X.shape[1:])
        flat = xp.reshape(X, (X.shape[0], -1))
        top = xp.max(flat, axis=1, keepdims=True)
        if not bool(xp.all(top > 0)):
            raise check.error("X", "a sample without mass", "a positive entry in each sample", "leave it out")
        flat = flat / top
        q = flat / xp.sum(flat, axis=1, keepdims=True)
        if self.costs is None:
            costs = tuple(_squares(size, max(shape), q) for size in shape)
        elif len(costs) != len(shape):
            raise check.error("costs", f"{len(costs)} matrices", f"one for each of the {len(shape)} axes")
        else:
            pairs = zip(named.items(), shape, strict=True)
            costs = tuple(
                check.array(name, cost, xp=xp, shape=(k, k), dtype=dtype, device=device) for (name, cost), k in pairs
            )
        scaled = tuple(cost / self.reg for cost in costs)
        return Histograms(q, log_weights(q, xp=xp), shape, scaled, self.reg), xp

    def __repr__(self) -> str:
        return f"WassersteinCPDictionary({self.n_components}, reg={self.reg:g}, prox={self.prox:g})"


class _Blocks:
    """The problem, block by block: block -1 holds the codes, block k >= 0 the factors of axis k."""

    def __init__(self, data: Histograms, components: int, prox: float, tol: float | None, xp: Any) -> None:
        self.data, self.components, self.xp = data, components, xp
        self.span = data.eps * sum(float(xp.max(cost) - xp.min(cost)) for cost in data.costs) or 1.0
        self.prox, self.floor = prox * self.span, 0.1 * (tol or 0.0)
        self.ends = np.cumsum([0, *data.shape]).tolist()

    def steps(self, state: DictionaryState) -> Steps:
        """Sweeps over the blocks."""
        if state.value is None:
            state = self.measured(state)
        while True:
            yield Step(
                x=(state.codes, *self.split(state.factors)),
                nit=state.nit,
                state=state,
                stop=lambda state=state: self.stationarity(state) / self.span,
                metrics={
                    "fun": lambda state=state: state.value / self.data.q.shape[0],
                    "gap": lambda state=state: state.gaps / self.data.q.shape[0],
                },
                counts={"evaluations": state.evaluations},
            )
            for block in range(-1, len(self.data.shape)):
                state = self.update(state, block, state.nit + 1)
            state = state._replace(nit=state.nit + 1)

    def split(self, factors: Array) -> tuple[Array, ...]:
        return tuple(factors[:, i:j] for i, j in zip(self.ends[:-1], self.ends[1:], strict=True))

    # -- one block --

    def update(self, state: DictionaryState, block: int, sweep: int) -> DictionaryState:
        """Minimise over one block; it stays as it is if its subproblem cannot be solved to the wanted gap."""
        xp, data = self.xp, self.data
        factors = self.split(state.factors)
        old = state.codes if block < 0 else factors[block]
        forward, adjoint = self.linear(state.codes, factors, block)
        # the loss is a sum over the samples, and so is what the factors see
        tau = self.prox * (1.0 if block < 0 else data.q.shape[0])
        wanted = max(INNER_GAP / sweep**2, self.floor) * self.span * data.q.shape[0]
        shape = tuple(data.q.shape)

        def primal(g: Array) -> Array:
            return project_simplex(old - adjoint(g) / tau, xp=xp)

        # variables in which the Hessian of the conjugate, about diag(p) / eps, is close to the identity
        unit = xp.sqrt(data.eps / (forward(old) + 1.0 / shape[1]))

        def potentials(flat: Array) -> Array:
            return state.potentials + unit * xp.reshape(flat, shape)

        def evaluate(flat: Array, _: Any) -> tuple[Array, Array, None]:
            g = potentials(flat)
            found, w = conjugate(g, data, xp), primal(g)
            move = w - old
            mixture = forward(w)
            value = xp.sum(found.value) - xp.sum(g * mixture) - 0.5 * tau * xp.sum(move * move)
            return value, xp.reshape(unit * (found.p - mixture), (-1,)), None

        point = descent.evaluated(evaluate, descent.at(xp.reshape(xp.zeros_like(data.q), (-1,))))
        made, best, idle = None, math.inf, 0
        while point.nit < INNER_LIMIT and made is None and idle < INNER_PATIENCE:
            for _ in range(INNER_CHECK):
                point, moved = descent.advance(evaluate, point)
                if not moved:
                    break
            g = potentials(point.x)
            w = primal(g)
            value, gaps = self.bounds(g, forward(w))
            if float(gaps) <= wanted:
                made = w, g, value, gaps
            elif not moved:
                break
            idle = 0 if float(gaps) < 0.9 * best else idle + 1
            best = min(best, float(gaps))
        state = state._replace(evaluations=state.evaluations + point.evaluations)
        if made is None:
            return state
        w, g, value, gaps = made
        state = state._replace(potentials=g, value=value, gaps=gaps)
        if block < 0:
            return state._replace(codes=w)
        return state._replace(factors=xp.concat([*factors[:block], w, *factors[block + 1 :]], axis=1))

    def linear(self, codes: Array, factors: tuple[Array, ...], block: int) -> tuple[Any, Any]:
        """The mixtures as a linear function of one block, and its adjoint."""
        xp, shape = self.xp, self.data.shape
        if block < 0:
            atoms = _atoms(factors, xp)
            return lambda h: h @ atoms, lambda g: g @ atoms.T

        def forward(w: Array) -> Array:
            return codes @ _atoms((*factors[:block], w, *factors[block + 1 :]), xp)

        def adjoint(g: Array) -> Array:
            return _contract(xp.reshape(codes.T @ g, (self.components, *shape)), factors, block, xp)

        return forward, adjoint

    def bounds(self, g: Array, mixture: Array) -> tuple[Array, Array]:
        """Upper bound of the sum of the losses of given mixtures, and its distance from the lower bound."""
        xp, found = self.xp, conjugate(g, self.data, self.xp)
        gaps = xp.sum(gap(g, mixture, found, self.data, xp))
        return xp.sum(g * mixture) - xp.sum(found.value) + gaps, gaps

    # -- the whole --

    def measured(self, state: DictionaryState) -> DictionaryState:
        """The state with bounds of its value, from some rounds of Sinkhorn's algorithm."""
        xp, data, g = self.xp, self.data, state.potentials
        mixture = state.codes @ _atoms(self.split(state.factors), xp)
        log_p = xp.log(xp.maximum(mixture, xp.full_like(mixture, 1e-6 / mixture.shape[1])))
        for _ in range(20):
            g = data.eps * (log_p - soft_max(conjugate(g, data, xp).columns, data, xp, back=True))
        value, gaps = self.bounds(g, mixture)
        return state._replace(potentials=g, value=value, gaps=gaps)

    def stationarity(self, state: DictionaryState) -> Array:
        """How much the mean loss can fall by a change of any one block, at most."""
        return self.improvement(state, range(-1, len(self.data.shape)))

    def improvement(self, state: DictionaryState, blocks: Any) -> Array:
        xp, factors = self.xp, self.split(state.factors)
        gains = []
        for block in blocks:
            w = state.codes if block < 0 else factors[block]
            slope = self.linear(state.codes, factors, block)[1](state.potentials)
            gains.append(xp.sum(w * (slope - xp.min(slope, axis=1, keepdims=True))))
        return (xp.max(xp.stack(gains)) + state.gaps) / self.data.q.shape[0]


def _atoms(factors: Sequence[Array], xp: Any) -> Array:
    """Products of the marginals, shape (R, pixels)."""
    atoms = factors[0]
    for factor in factors[1:]:
        atoms = xp.reshape(atoms[:, :, None] * factor[:, None, :], (atoms.shape[0], -1))
    return atoms


def _contract(grids: Array, factors: Sequence[Array], block: int, xp: Any) -> Array:
    """Sums over all axes but one of (R, I_1, ..., I_d) arrays times the factors of these axes, shape (R, I_block)."""
    for axis in reversed(range(len(factors))):
        if axis != block:
            shape = [1] * grids.ndim
            shape[0], shape[axis + 1] = factors[axis].shape
            grids = xp.sum(grids * xp.reshape(factors[axis], tuple(shape)), axis=axis + 1, keepdims=True)
    return xp.reshape(grids, (grids.shape[0], -1))


def _squares(size: int, longest: int, like: Array) -> Array:
    points = np.arange(size) / max(longest - 1, 1)
    return asarray_like((points[:, None] - points) ** 2, like)


def _start(data: Histograms, components: int, rng: Any, factors: Array | None = None) -> DictionaryState:
    """Equal codes; factors between the marginals of distant samples and the uniform distribution."""
    q = data.q
    xp = array_namespace(q)
    if factors is None:
        host = np.asarray(to_numpy(q), dtype=np.float64)
        chosen = distant(host, components, rng) * (1.0 + 0.1 * rng.random((components, host.shape[1])))  # no two alike
        grids = chosen.reshape(components, *data.shape)
        axes = range(1, grids.ndim)
        marginals = [np.sum(grids, axis=tuple(j for j in axes if j != k)) for k in axes]
        mixed = [0.9 * u / u.sum(axis=1, keepdims=True) + 0.1 / u.shape[1] for u in marginals]
        factors = asarray_like(np.concatenate(mixed, axis=1), q)
    codes = xp.full((q.shape[0], components), 1.0 / components, dtype=q.dtype, device=device_of(q))
    return DictionaryState(codes, factors, xp.zeros_like(q), None, None, 0, 0)
