"""Set-up shared by the transport solvers: cost and weights are checked, promoted and made to fit each other."""

import math
from typing import Any, NamedTuple

from optlib._core import validation as check
from optlib.backend import Array, default_float
from optlib.transport.cost import Cost, DenseCost

MASS_RTOL = {"float64": 1e-8, "float32": 1e-4}  # a sum of 1e6 float32 weights errs by about 1e-4


class Problem(NamedTuple):
    """A transport problem that passed the checks.

    Attributes
    ----------
    cost : Cost
    a, b : array, shapes (n,) and (m,)
        Weights >= 0; those of a balanced problem have the same sum.
    rho : (float, float)
        Strength of the penalty on the row and column marginals; infinite where the marginal is a constraint.
    mass : (float, float)
        Sums of the weights.
    has_zeros : (bool, bool)
        Whether some weights of ``a``, of ``b``, are zero.
    penalty : {"kl", "tv"}
        Relative entropy or total variation.
    """

    cost: Cost
    a: Array
    b: Array
    rho: tuple[float, float]
    mass: tuple[float, float]
    has_zeros: tuple[bool, bool]
    penalty: str = "kl"

    @property
    def xp(self) -> Any:
        """The array namespace."""
        return self.cost.xp

    @property
    def dtype(self) -> Any:
        """The dtype of cost and weights."""
        return self.cost.dtype

    @property
    def balanced(self) -> bool:
        """Whether both marginals are constraints."""
        return self.rho == (math.inf, math.inf)

    @property
    def range(self) -> float:
        """Upper bound on the difference between two costs."""
        low, high = self.cost.bounds()
        return high - low

    @property
    def T(self) -> "Problem":
        """The same problem with sources and targets swapped."""
        return Problem(self.cost.T, self.b, self.a, self.rho[::-1], self.mass[::-1], self.has_zeros[::-1], self.penalty)

    def double(self) -> "Problem":
        """The same problem in the widest precision of the device; balanced weights are made to agree in it."""
        xp, wide = self.xp, default_float(self.xp, self.cost.device)
        if self.dtype == wide:
            return self
        a, b = xp.astype(self.a, wide), xp.astype(self.b, wide)
        mass = float(xp.sum(a)), float(xp.sum(b))
        if self.balanced:
            b, mass = b * (mass[0] / mass[1]), (mass[0], mass[0])
        return self._replace(cost=self.cost.astype(wide), a=a, b=b, mass=mass)


def prepare(cost: Any, a: Any = None, b: Any = None, *, unbalanced: Any = None, unbalanced_type: str = "kl") -> Problem:
    """Check and promote the data of a transport problem.

    Parameters
    ----------
    cost : Cost, array or nested sequence, shape (n, m)
    a, b : array or sequence, optional
        Weights of the sources and targets; None means uniform, with the total mass of the other (1 if both are None).
    unbalanced : None, float or (float, float)
        Penalty on the marginals (see `Problem.rho`); None and infinity mean constraints.
    unbalanced_type : {"kl", "tv"}
        See `Problem.penalty`.

    Raises
    ------
    TypeError
        If arrays of several libraries or devices are mixed, or entries are not real numbers.
    ValueError
        For wrong shapes, entries that are not finite, negative or all-zero weights, and masses that differ.
    """
    given = isinstance(cost, Cost)
    if given:
        cost.bounds()  # refuses entries that are not finite
    xp, device, dtype = check.common(cost=cost.rows(0, 1) if given else cost, a=a, b=b)
    if not given:
        cost = DenseCost(check.array("cost", cost, xp=xp, finite=False, dtype=dtype, device=device))
    elif dtype != cost.dtype:
        cost = cost.astype(dtype)
    n, m = cost.shape
    low, high = cost.bounds()
    if math.isinf(high - low):
        raise check.error("cost", f"entries from {low:g} to {high:g}", "a range that does not overflow", "rescale it")
    a, mass_a, zeros_a = _weights("a", a, n, xp, dtype, device)
    b, mass_b, zeros_b = _weights("b", b, m, xp, dtype, device)
    rho, penalty = _penalties(unbalanced), check.option("unbalanced_type", unbalanced_type, ("kl", "tv"))
    if a is None:
        mass_a = 1.0 if b is None else mass_b
        a = xp.full(n, mass_a / n, dtype=dtype, device=device)
    if b is None:
        mass_b = mass_a
        b = xp.full(m, mass_b / m, dtype=dtype, device=device)
    if rho == (math.inf, math.inf) and mass_a != mass_b:
        tolerance = MASS_RTOL[str(dtype).rpartition(".")[2]]
        if abs(mass_a - mass_b) > tolerance * max(mass_a, mass_b):
            fix = "normalise them (a / a.sum(), b / b.sum()), or penalise the difference with unbalanced=..."
            raise check.error("a, b", f"masses {mass_a:.10g} and {mass_b:.10g}", "equal masses", fix)
        b, mass_b = b * (mass_a / mass_b), mass_a
    return Problem(cost, a, b, rho, (mass_a, mass_b), (zeros_a, zeros_b), penalty)


def proportions(weights: Any, k: int, xp: Any, dtype: Any, device: Any) -> Array:
    """Check the weights of k measures or matrices in a barycenter and scale them to sum 1; None means equal ones."""
    if weights is None:
        return xp.full(k, 1.0 / k, dtype=dtype, device=device)
    fix = "give one weight >= 0 per measure"
    w = check.array("weights", weights, xp=xp, shape=(k,), nonnegative=True, dtype=dtype, device=device, fix=fix)
    total = float(xp.sum(w))
    if not 0.0 < total < math.inf:
        raise check.error("weights", f"total {total:g}", "a positive finite sum", fix)
    return w / total


def check_reg(reg: Any, *problems: Problem, entropy: bool = True) -> float:
    """Check the strength of a regularisation: above the rounding of the costs, if problems are given.

    Entries of a plan are exponentials of ``cost / reg`` with the entropy, else of the size of ``cost / reg``.
    """
    fix = "pass e.g. reg=0.01 times the largest cost; smaller is closer to the unregularised plan, and slower"
    reg = check.scalar("reg", reg, low=0.0, low_open=True, fix=fix)
    for problem in problems:
        eps = float(problem.xp.finfo(default_float(problem.xp, problem.cost.device)).eps)
        least = 0.5 * eps * max(map(abs, problem.cost.bounds())) / (1.0 if entropy else problem.mass[0])
        if reg < least:
            expected = f"at least {least:.1e}, to which costs of this size are rounded"
            raise check.error("reg", reg, expected, "pass more, or 0 for the unregularised plan; or shift the costs")
    return reg


def _weights(name: str, w: Any, n: int, xp: Any, dtype: Any, device: Any) -> tuple[Array | None, float, bool]:
    """Return checked weights, their sum (accumulated in the widest precision) and whether some are zero."""
    if w is None:
        return None, math.nan, False
    fix = f"give one weight >= 0 per {'source' if name == 'a' else 'target'}"
    w = check.array(name, w, xp=xp, shape=(n,), nonnegative=True, dtype=dtype, device=device, fix=fix)
    mass = float(xp.sum(w, dtype=default_float(xp, device)))
    if not 0.0 < mass < math.inf:
        raise check.error(name, f"total mass {mass:g}", "a positive finite sum", "give at least one positive weight")
    return w, mass, bool(xp.any(w == 0))


def _penalties(unbalanced: Any) -> tuple[float, float]:
    if unbalanced is None:
        return math.inf, math.inf
    pair = unbalanced if isinstance(unbalanced, (tuple, list)) else (unbalanced, unbalanced)
    if len(pair) != 2:
        raise check.error("unbalanced", unbalanced, "a number or a pair of numbers")
    fix = "pass one strength or a pair (sources, targets); infinity keeps a marginal as a constraint"
    rho_a, rho_b = (check.scalar("unbalanced", r, low=0.0, low_open=True, finite=False, fix=fix) for r in pair)
    return rho_a, rho_b
