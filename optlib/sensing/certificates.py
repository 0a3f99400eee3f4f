"""Certificates of a recovered matrix, whatever found it: the only one, of least nuclear norm, of least errors."""

import math
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from optlib._core import Certificate, Result
from optlib._core import validation as check
from optlib.backend import Array, linalg, random, to_numpy
from optlib.sensing._inner import ConjugateGradients
from optlib.sensing._lowrank import Coordinates, Point, image, is_small, norm, project, tangent_image, top_singular
from optlib.sensing._problem import Problem, prepare, singular_values
from optlib.sensing.operators import as_sensing
from optlib.sensing.spectral import as_point

TOL = {64: 1e-6, 32: 1e-3}
ITERATIONS = 2000  # of conjugate gradients for a system in the tangent space
POWER_STEPS, INVERSE_STEPS = 40, 8
Pair = tuple[Array, Array]
LARGEST = 10_000_000  # entries of a derivative for linear programming


def _prepared(A: Any, X: Any, psd: bool, y: Any = None) -> tuple[Problem, Point]:
    """Problem and point of a result or a pair of factors."""
    A = as_sensing(A)
    if isinstance(X, Result):
        psd, X = psd or bool(X.get("psd")), X.factors
    if not isinstance(X, (tuple, list)) or len(X) != 2:
        raise check.error("X", type(X).__name__, "a result, or a pair of factors (n1, k) and (n2, k)", kind=TypeError)
    problem = prepare(A, A._forward_factored(*A._factors(*X)) if y is None else y, psd=psd)
    point = as_point(problem, tuple(X), None)
    xp = problem.xp
    kept = point.s > 1e-6 * xp.max(point.s)
    r = int(xp.sum(xp.astype(kept, xp.int64)))
    if r == 0:
        raise check.error("X", "the matrix 0", "a matrix of rank at least one")
    return problem, Point(point.U[:, :r], point.s[:r], point.V[:, :r])


def identifiability(A: Any, X: Any, *, psd: bool = False) -> tuple[float, float]:
    """Smallest and largest restricted singular value: how well the measurements determine a low-rank matrix close by.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    X : SensingResult or (array, array)
        The matrix, as a result or as factors.
    psd : bool
        Whether to move among positive semidefinite matrices only; as in the result, if one is given.

    Returns
    -------
    smallest, largest : float
        Extreme singular values of the derivative of ``A`` on the matrices of this rank at X. Smallest over largest
        below 1e-6 means not identifiable; noise e in the measurements changes X by at most about ``|e| / smallest``.

    Raises
    ------
    TypeError, ValueError
        For invalid input, and the matrix 0.

    Notes
    -----
    Up to 1500 degrees of freedom the derivative is formed, and this is what results hold as ``identifiability``.
    Beyond, products only: power iterations for the largest value, inverse iterations by conjugate gradients for the
    smallest, which is then bounded from above. Cost: about ten over the ratio passes for each of eight inverse
    iterations.

    Local: it tells nothing about other matrices further away that measure the same.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, identifiability
    >>> A = GaussianSensing((10, 8), 400, rng=0)
    >>> smallest, largest = identifiability(A, (np.ones((10, 1)), np.ones((8, 1))))
    >>> 0.5 < smallest < largest < 1.5
    True
    """
    problem, point = _prepared(A, X, psd)
    found = singular_values(problem, point)
    if found is not None:
        return found
    xp, psd = problem.xp, problem.psd
    model = ConjugateGradients(problem.A, point, xp.zeros_like(problem.y), None, psd, ITERATIONS)

    def metric(d: Pair, power: float) -> Pair:
        """A power of the metric of the coordinates: ``|E U' + U E'|^2`` is 4 |E|^2 within the range of U, else 2."""
        if not psd:
            return d
        E = 2.0**power * d[0] + (4.0**power - 2.0**power) * (point.U @ (point.U.T @ d[0]))
        return E, E

    def unit(d: Pair) -> Pair:
        size = math.sqrt(model._dot(d, metric(d, 1.0)))
        return d[0] / size, d[1] / size

    def value(d: Pair) -> float:
        return max(model._dot(d, model._normal(d)), 0.0)

    rng = random.as_generator(0)
    start = v = unit(project(point, *(random.normal(rng, u.shape, like=u) for u in (point.U, point.V)), psd))
    for _ in range(POWER_STEPS):
        v = unit(metric(model._normal(v), -1.0))
    largest = math.sqrt(value(v))
    v, least = start, math.inf
    for _ in range(INVERSE_STEPS):
        weighted = metric(v, 1.0)
        model.g = (-1.0 * weighted[0], -1.0 * weighted[1])
        v = unit(model.solve(0.0, 1e-3)[0])
        done = value(v) > 0.99 * least
        least = min(value(v), least)
        if done:
            break
    return math.sqrt(least), largest


def nuclear_certificate(A: Any, X: Any, *, psd: bool = False) -> Certificate:
    r"""Prove that no matrix with the same measurements has a smaller nuclear norm.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    X : SensingResult or (array, array)
        The matrix, as a result or as factors.
    psd : bool
        Whether to compare with positive semidefinite matrices only, by the trace.

    Returns
    -------
    Certificate
        A duality gap: the nuclear norm of X is within ``value`` of the least. Its note tells the norm of the dual
        matrix outside the tangent space: below 1, and with measurements that determine X locally, X is the only
        minimiser.

    Raises
    ------
    TypeError, ValueError
        For invalid input, and the matrix 0.

    Notes
    -----
    For ``X = U S V'`` the dual point is the shortest z with :math:`P_T A^*(z) = U V^T` on the tangent space T. If the
    norm of :math:`A^*(z)` exceeds 1 there may be none with that property, and z is scaled back, which leaves a gap:
    matrices may be recovered (by `recover`) although they are not of least nuclear norm.

    Cost: conjugate gradients in the tangent space and one singular value decomposition; for more than 250 000 entries
    the latter is approximate, and the certificate is marked as a heuristic.

    References
    ----------
    E. Candes, B. Recht, Exact matrix completion via convex optimization, Found. Comput. Math. 2009, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, nuclear_certificate
    >>> A = GaussianSensing((10, 8), 60, rng=0)
    >>> nuclear_certificate(A, (np.ones((10, 1)), np.ones((8, 1)))).holds
    True
    """
    problem, point = _prepared(A, X, psd)
    A, xp, psd = problem.A, problem.xp, problem.psd
    y = image(A, point)
    model = ConjugateGradients(A, point, xp.zeros_like(y), None, psd, ITERATIONS)
    goal = project(point, point.U, point.V, psd)  # U V' in the coordinates
    model.g = (-1.0 * goal[0], -1.0 * goal[1])
    d, _ = model.solve(0.0, 10.0 * float(xp.finfo(A.dtype).eps))
    z = tangent_image(A, point, d)
    r = point.rank
    if is_small(A):
        Z = A._adjoint(z)
        s = xp.flip(linalg.eigh(0.5 * (Z + Z.T), xp=xp)[0]) if psd else linalg.svd(Z, xp=xp)[1]
    else:
        s = top_singular(A, z, min(r + 1, *A.matrix_shape), psd=psd, iterations=20)[1]
    largest, outside = float(s[0]), float(s[r]) if s.shape[0] > r else 0.0
    nuclear = float(xp.sum(point.s))
    lower = float(xp.sum(z * y)) / max(largest, 1.0)
    return Certificate(
        "duality_gap", max(nuclear - lower, 0.0), scale=nuclear, tol=TOL[problem.bits], proof=is_small(A),
        note=f"dual matrix of norm {largest:.4g}, {outside:.4g} outside the tangent space",
    )  # fmt: skip


def l1_certificate(A: Any, y: Any, X: Any, *, psd: bool = False) -> Certificate:
    r"""Prove by a linear programme that a matrix is a sharp minimum of the absolute errors among matrices of its rank.

    Parameters
    ----------
    A : SensingOperator or array, shape (m, n1, n2)
        What measures.
    y : array, shape (m,)
        The measurements, some of which may be grossly wrong.
    X : SensingResult or (array, array)
        The matrix, as a result or as factors.
    psd : bool
        Whether to move among positive semidefinite matrices only; as in the result, if one is given.

    Returns
    -------
    Certificate
        A gap of linear programming: no tangent step D makes ``|A(X + D) - y|_1`` smaller by more than ``value``. Its
        note tells the largest multiplier t of a measurement that X fits: t < 1, and measurements that determine X
        locally, prove that every small change of X raises the errors in proportion.

    Raises
    ------
    TypeError, ValueError
        For invalid input, the matrix 0, and problems too large for a dense derivative.

    Notes
    -----
    With the derivative J in the tangent space and the signs of the residuals of those measurements that X does not fit,
    minimises t over multipliers z with ``J'z = 0``, ``z_i = sign(r_i)`` there, and ``|z_i| <= t`` elsewhere. Solved on
    the host by HiGHS; for small problems (m times the degrees of freedom up to a few hundred thousand). A residual
    counts as zero below 1e-6 of the root mean square of the measurements.

    References
    ----------
    J.-J. Fuchs, On sparse representations in arbitrary redundant bases, IEEE Trans. Inf. Theory 2004, for the dual
    condition of linear l1 problems, here in the tangent space.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.sensing import GaussianSensing, l1_certificate
    >>> A, ones = GaussianSensing((6, 5), 80, rng=0), (np.ones((6, 1)), np.ones((5, 1)))
    >>> y = A.forward(np.ones((6, 5)))
    >>> y[::5] += 3.0
    >>> l1_certificate(A, y, ones).holds
    True
    """
    problem, point = _prepared(A, X, psd, y)
    A, xp = problem.A, problem.xp
    sides = A._sides(point.U, point.V)
    coordinates = Coordinates(point, problem.psd, xp)
    if sides is None or A.shape[0] * coordinates.dof > LARGEST:
        got = f"{A.shape[0]} measurements and {coordinates.dof} degrees of freedom of {type(A).__name__}"
        raise check.error("A", got, "a small problem with stored measurements", "certify a subsample of the rows")
    J = to_numpy(coordinates.jacobian(sides)).astype(np.float64)
    residual = to_numpy(image(A, point) - problem.y).astype(np.float64)
    wrong = np.abs(residual) > TOL[problem.bits] * problem.size / math.sqrt(residual.size)
    total = float(np.sum(np.abs(residual)))
    fitted = int(np.sum(~wrong))
    # Unknowns (z, t): J' z = -J' sign, -t <= z <= t.
    cost = np.concatenate([np.zeros(fitted), [1.0]])
    equal = np.hstack([J[~wrong].T, np.zeros((J.shape[1], 1))])
    eye, ones = sparse.eye_array(fitted), np.ones((fitted, 1))
    bounds = sparse.vstack([sparse.hstack([eye, -ones]), sparse.hstack([-eye, -ones])])
    solved = linprog(
        cost, A_ub=bounds, b_ub=np.zeros(2 * fitted), A_eq=equal, b_eq=-J[wrong].T @ np.sign(residual[wrong]),
        bounds=(None, None),
    )  # fmt: skip
    t = float(solved.fun) if solved.status == 0 else math.inf
    value = total * (1.0 - 1.0 / t) if t > 1.0 else 0.0
    scale = total or norm(point, xp)
    return Certificate(
        "lp_gap", value, scale=scale, tol=TOL[problem.bits],
        note=f"largest multiplier {t:.4g}, {int(np.sum(wrong))} of {residual.size} measurements not fitted",
    )  # fmt: skip
