"""Set-up and certificates shared by the sensing solvers."""

import math
from typing import Any, NamedTuple

from optlib._core import Certificate
from optlib._core import validation as check
from optlib.backend import Array, linalg, to_numpy
from optlib.linop.base import _empty
from optlib.sensing._lowrank import Coordinates, Point, degrees_of_freedom, image, tangent_gradient
from optlib.sensing.entries import EntrySampling
from optlib.sensing.operators import SensingOperator, as_sensing
from optlib.sensing.result import LowRankMatrix

JACOBIAN_BYTES = 2**28  # up to which the Jacobian is formed
TOL = {64: 1e-12, 32: 1e-5}
MARGIN = 1e6  # between the measurements and what has no square in the precision
STATIONARY = {64: 1e-6, 32: 1e-3}
NOT_IDENTIFIABLE, POORLY_IDENTIFIABLE = 1e-6, 0.02


class Problem(NamedTuple):
    """A recovery problem that passed the checks.

    Attributes
    ----------
    A : SensingOperator
    y : array, shape (m,)
    psd : bool
        Whether the matrix is positive semidefinite.
    tol : float or None
        Relative tolerance of the residual.
    noise : float
        Norm of the noise in ``y`` (0: none is known).
    size : float
        Norm of ``y``.
    """

    A: SensingOperator
    y: Array
    psd: bool
    tol: float | None
    noise: float
    size: float

    @property
    def xp(self) -> Any:
        """The array namespace."""
        return self.A.xp

    @property
    def bits(self) -> int:
        """Precision."""
        return int(self.xp.finfo(self.A.dtype).bits)

    @property
    def target(self) -> float | None:
        """Relative residual at which to stop: ``tol``, or the discrepancy if the noise is larger."""
        return None if self.tol is None else max(self.tol, self.noise / self.size if self.size else 0.0)

    def residual(self, left: Array, right: Array) -> Array:
        """``A(left right') - y``."""
        return self.A._forward_factored(left, right) - self.y

    def relative(self, residual: Array) -> Array:
        """Norm of a residual over that of ``y``."""
        return linalg.norm(residual, xp=self.xp) / (self.size or 1.0)


def prepare(A: Any, y: Any, *, psd: bool = False, tol: Any = "auto", noise: float = 0.0) -> Problem:
    """Check and promote the data of a recovery problem."""
    A = as_sensing(A)
    xp, device, dtype = check.common(A=_empty(A), y=y)
    A = A.astype(dtype)
    y = check.array("y", y, xp=xp, shape=(A.shape[0],), dtype=dtype, device=device, fix="drop missing measurements")
    check.option("psd", psd, (True, False))
    if psd and A.matrix_shape[0] != A.matrix_shape[1]:
        raise check.error("psd", f"True for matrices {A.matrix_shape}", "square matrices")
    if isinstance(tol, str):
        check.option("tol", tol, ("auto",))
        tol = TOL[int(xp.finfo(dtype).bits)]
    elif tol is not None:
        tol = check.scalar("tol", tol, low=0.0)
    noise = check.scalar("noise", noise, low=0.0, fix="the norm of the noise, sigma sqrt(m)")
    if not A.isotropy > 0.0:
        raise check.error("A", "an operator that measures zero only", "one that measures something")
    size, info = float(linalg.norm(y, xp=xp)), xp.finfo(dtype)
    low, high = MARGIN * math.sqrt(float(info.smallest_normal)), math.sqrt(float(info.max)) / MARGIN
    if size > high or 0.0 < size < low:
        raise check.error("y", f"a norm of {size:.3g}", f"one between {low:.0e} and {high:.0e}, or 0", "rescale it")
    return Problem(A, y, psd, tol, noise, size)


def check_rank(rank: Any, A: SensingOperator) -> int:
    """Check a rank against the shape of the matrices."""
    limit = min(A.matrix_shape)
    return check.scalar(
        "rank", rank, low=1, high=limit, integer=True, fix=f"matrices {A.matrix_shape} have rank at most {limit}"
    )


def starting_point(problem: Problem, init: Any, rank: int | None) -> tuple[Array, Array]:
    """Check factors given as ``init``."""
    A = problem.A
    if not isinstance(init, (tuple, list)) or len(init) != 2:
        raise check.error("init", type(init).__name__, "a pair of factors (n1, k) and (n2, k)", kind=TypeError)
    given = {"xp": A.xp, "dtype": A.dtype, "device": A.device}
    left = check.array("init", init[0], shape=(A.matrix_shape[0], rank), **given)
    return left, check.array("init", init[1], shape=(A.matrix_shape[1], left.shape[1]), **given)


def singular_values(problem: Problem, point: Point, weights: Array | None = None) -> tuple[float, float] | None:
    """Smallest and largest singular value of the Jacobian at a point; None if it is too large to form."""
    A, xp = problem.A, problem.xp
    dof = degrees_of_freedom(A.matrix_shape, point.rank, problem.psd)
    if dof > A.shape[0]:
        return 0.0, math.sqrt(2.0 * A.isotropy)
    if dof > 1500 or A.shape[0] * dof * problem.bits // 8 > JACOBIAN_BYTES or point.rank == 0:
        return None
    sides = A._sides(point.U, point.V)
    if sides is None:
        return None
    J = Coordinates(point, problem.psd, xp).jacobian(sides)
    if weights is not None:
        J = weights[:, None] * J
    w, _ = linalg.eigh(J.T @ J, xp=xp)
    largest = math.sqrt(max(float(w[-1]), 0.0))
    return math.sqrt(max(float(w[0]), 0.0)), largest


def conclude(
    problem: Problem,
    point: Point,
    *,
    agreed: bool = False,
    weights: Array | None = None,
    residual: Array | None = None,
) -> dict[str, Any]:
    """Certificate and fields of a result at a point.

    The certificate is the residual, if it is small enough. Otherwise it is the stationarity of the squared residual,
    which tells a minimum under noise; ``agreed`` says that several starts led there, else it is not trusted. Where
    ``weights`` are zero, measurements do not count for the identifiability;
    ``residual`` is that of the answer, where the point only stands near it.
    """
    A, xp, psd = problem.A, problem.xp, problem.psd
    residual = image(A, point) - problem.y if residual is None else residual
    size, scale = float(linalg.norm(residual, xp=xp)), problem.size or 1.0
    extremes = singular_values(problem, point, weights)
    ratio = None if extremes is None or extremes[1] == 0.0 else extremes[0] / extremes[1]
    note = ""
    if ratio is not None:
        note = f"restricted singular values {extremes[0]:.2g} to {extremes[1]:.2g}"
        if ratio < POORLY_IDENTIFIABLE:
            note += ": not identifiable" if ratio < NOT_IDENTIFIABLE else ": poorly identifiable"
    if isinstance(A, EntrySampling):
        scarce = [int(to_numpy(xp.sum(xp.astype(d < point.rank, xp.int64)))) for d in A.degrees()]
        if any(scarce):
            words = (
                f"{scarce[0]} rows and {scarce[1]} columns have fewer entries than the rank, and are not identifiable"
            )
            note = f"{note}; {words}" if note else words
    if problem.target is None or size <= problem.target * scale or not agreed:
        allowed = problem.tol or 0.0
        unit = problem.target * scale / allowed if allowed else scale
        words = f"within the noise {problem.noise:.3g}; " if problem.noise and size <= problem.noise else ""
        certificate = Certificate("residual", size, scale=unit, tol=problem.tol, note=(words + note).strip("; "))
    else:
        g = tangent_gradient(A, point, residual, psd)
        value = float(linalg.norm(g[0], xp=xp)) if psd else math.hypot(*(float(linalg.norm(u, xp=xp)) for u in g))
        unit = size * (extremes[1] if extremes else math.sqrt(A.isotropy))
        words = f"relative residual {size / scale:.2e}, where several starts led"
        certificate = Certificate(
            "stationarity", value, scale=unit, tol=STATIONARY[problem.bits], proof=False,
            note=words + (f"; {note}" if note else ""),
        )  # fmt: skip
    left, right = point.factors
    return {
        "certificate": certificate,
        "fun": 0.5 * size * size,
        "factors": (left, right),
        "matrix": LowRankMatrix(left, right),
        "rank": point.rank,
        "relative_residual": size / scale,
        "identifiability": ratio,
        "psd": psd,
    }
