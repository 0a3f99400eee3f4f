"""Barycenters of covariance matrices in the Bures-Wasserstein geometry."""

from collections.abc import Callable
from typing import Any, NamedTuple

from optlib._core import Certificate, Result, Step, prepare_init, run
from optlib._core import validation as check
from optlib._core.driver import Steps
from optlib.backend import Array, default_float, linalg, supports
from optlib.transport._problem import proportions
from optlib.transport.gaussian import bures_wasserstein, square_root


class BuresState(NamedTuple):
    """State of `bures_wasserstein_barycenter`: iterations, and the matrix (d, d)."""

    nit: int
    S: Array


@supports(backends=("numpy", "cupy", "torch", "strict"))
def bures_wasserstein_barycenter(
    covs: Any,
    weights: Any = None,
    *,
    init: Any = None,
    tol: float | str | None = "auto",
    maxiter: int = 100,
    check_every: int = 1,
    callback: Callable[..., Any] | None = None,
    record: bool | str = True,
    max_time: float | None = None,
    disp: int = 0,
    checkpoint: Any = None,
) -> Result:
    r"""Compute the barycenter of covariance matrices: the least weighted sum of squared Bures-Wasserstein distances.

    It is the covariance of the Wasserstein barycenter of Gaussian measures, whose mean is the mean of their means.

    Parameters
    ----------
    covs : array or nested sequence, shape (K, d, d)
        Symmetric matrices without negative eigenvalues, whose mean is positive definite.
    weights : array or sequence, shape (K,), optional
        Weights >= 0 of the matrices, scaled to sum 1; None means equal ones.
    init : array (d, d), Result or state, optional
        Positive definite matrix to start from, or a result to continue.
    tol : float, "auto" or None
        Stop when ``|sum_k w_k T_k - I|_F``, with the transport maps ``T_k`` to the matrices, is at most this.
        ``"auto"`` is 1e-8, and 1e-4 for float32; None runs ``maxiter`` iterations.
    maxiter : int
        Largest number of iterations.
    check_every, callback, record, max_time, disp, checkpoint : optional
        See `optlib._core.run`.

    Returns
    -------
    Result
        ``x`` is the matrix, ``fun`` the weighted sum of squared distances. The certificate bounds its excess over the
        optimum.

    Raises
    ------
    TypeError, ValueError
        For wrong shapes, matrices that are not symmetric or have negative eigenvalues, and a singular mean.

    Notes
    -----
    *Method.* The fixed point ``S <- T S T`` with ``T = sum_k w_k T_k``, that is gradient descent with step 1 in the
    geometry of the distance, from ``(sum_k w_k S_k^{1/2})^2``, which is exact for matrices that commute.

    *Stopping*: by ``tol``. The objective is convex in ``S`` with the derivative ``G = I - T``, and the trace of the
    barycenter is at most ``tau = (sum_k w_k tr(S_k)^{1/2})^2``; hence the certificate ``<G, S> - min(0, l) tau``, with
    the least eigenvalue ``l`` of ``G``, bounds the excess of the objective. Its scale is ``2 tau``.

    *Cost*: K eigenvalue decompositions of size d, O(K d^3), an iteration, in the widest precision of the device. Twenty
    iterations are typical.

    *When not to use it*: for matrices close to singular (condition above 1e12) the factors lose their digits; add a
    multiple of the identity to all.

    References
    ----------
    P. C. Álvarez-Esteban, E. del Barrio, J. A. Cuesta-Albertos, C. Matrán, A fixed-point approach to barycenters in
    Wasserstein space, J. Math. Anal. Appl. 2016. S. Chewi, T. Maunu, P. Rigollet, A. J. Stromme, Gradient descent
    algorithms for Bures-Wasserstein barycenters, COLT 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from optlib.transport import bures_wasserstein_barycenter
    >>> res = bures_wasserstein_barycenter([np.diag([1.0, 16.0]), np.diag([9.0, 4.0])])
    >>> res.x.round(9)
    array([[4., 0.],
           [0., 9.]])
    >>> res.success
    True
    """
    xp, device, dtype = check.common(covs=covs, weights=weights)
    wide = default_float(xp, device)
    covs = check.array("covs", covs, xp=xp, ndim=3, dtype=dtype, device=device)
    if covs.shape[0] == 0:
        raise check.error("covs", f"shape {tuple(covs.shape)}", "at least one matrix")
    roots = square_root("covs", covs, xp, wide, device)
    shares = proportions(weights, covs.shape[0], xp, wide, device)
    covs = roots @ xp.matrix_transpose(roots)
    mean = xp.sum(shares[:, None, None] * covs, axis=0)
    spectrum, _ = linalg.eigh(mean, xp=xp)
    if not float(spectrum[0]) > 4 * mean.shape[0] * float(xp.finfo(dtype).eps) * float(spectrum[-1]):
        raise check.error("covs", "a singular mean", "a positive definite mean", "add a multiple of the identity")
    if tol == "auto":
        tol = 1e-8 if xp.finfo(dtype).bits == 64 else 1e-4
    method = _FixedPoint(roots, shares, xp)
    start, state = prepare_init(init, BuresState)
    if state is None:
        state = BuresState(0, method.first() if start is None else method.checked(start))

    def finish(step: Step) -> dict[str, Any]:
        S = step.state.S
        gradient = method.eye - method.maps(S)[0]
        least, _ = linalg.eigh(0.5 * (gradient + xp.matrix_transpose(gradient)), xp=xp, check=False)
        trace = float(xp.sum(shares * xp.sqrt(xp.sum(roots**2, axis=(-2, -1))))) ** 2
        excess = float(xp.sum(gradient * S)) - min(0.0, float(least[0])) * trace
        noise = 8 * S.shape[0] * float(xp.finfo(dtype).eps) * trace
        return {
            "certificate": Certificate("duality_gap", max(excess, 0.0) + noise, 2.0 * trace, tol=tol),
            "x": xp.astype(S, dtype),
            "fun": float(xp.sum(shares * bures_wasserstein(S, covs))),
        }

    return run(
        method.steps,
        state=state,
        like=covs,
        xp=xp,
        method="bures_wasserstein_barycenter",
        finish=finish,
        tol=tol,
        maxiter=maxiter,
        check_every=check_every,
        callback=callback,
        record=record,
        max_time=max_time,
        disp=disp,
        checkpoint=checkpoint,
        problem=(covs, shares, str(dtype)),
        patience=10,
        message="fixed point",
    )


class _FixedPoint:
    """The method, as a generator of steps."""

    def __init__(self, roots: Array, shares: Array, xp: Any) -> None:
        self.roots, self.shares, self.xp = roots, shares[:, None, None], xp
        self.eye = xp.eye(roots.shape[-1], dtype=roots.dtype, device=roots.device)

    def first(self) -> Array:
        """The barycenter of matrices that commute."""
        # the factors U of S = U U' are eigenvectors times roots of eigenvalues: S^{1/2} = U diag(1 / |U|) U'
        length = self.xp.sqrt(self.xp.sum(self.roots**2, axis=-2, keepdims=True))
        scaled = self.roots / self.xp.where(length > 0, length, self.xp.ones_like(length))
        root = self.xp.sum(self.shares * (scaled @ self.xp.matrix_transpose(self.roots)), axis=0)
        return root @ root.T

    def checked(self, start: Any) -> Array:
        """A matrix to start from."""
        d, xp, like = self.eye.shape[0], self.xp, self.eye
        S = check.array("init", start, xp=xp, shape=(d, d), dtype=like.dtype, device=like.device)
        root = square_root("init", S, xp, like.dtype, like.device)
        if not bool(xp.all(xp.isfinite(linalg.cholesky(root @ root.T, xp=xp, check=False)))):
            raise check.error("init", "a singular matrix", "a positive definite one")
        return S

    def maps(self, S: Array) -> tuple[Array, Array]:
        """The mean ``T`` of the transport maps from S to the matrices, and a factor of ``T S T``."""
        xp = self.xp
        lower = linalg.cholesky(S, xp=xp, check=False)
        w, s, _ = linalg.svd(lower.T @ self.roots, xp=xp, check=False)
        root = xp.sum(self.shares * ((w * s[..., None, :]) @ xp.matrix_transpose(w)), axis=0)
        factor = linalg.solve_triangular(lower, root, trans=True, xp=xp)
        return linalg.solve_triangular(lower, factor.T, trans=True, xp=xp), factor

    def steps(self, state: BuresState) -> Steps:
        """``S <- T S T``."""
        while True:
            mean, factor = self.maps(state.S)
            yield Step(
                x=state.S,
                nit=state.nit,
                state=state,
                stop=lambda mean=mean: linalg.norm(mean - self.eye, xp=self.xp),
                counts={"maps": (state.nit + 1) * self.roots.shape[0]},
            )
            state = BuresState(state.nit + 1, factor @ factor.T)
